#!/usr/bin/env bash
# The whole measurement on a machine with a GPU and Python with PyTorch, without Rust and without a network: first whether
# everything is right, then how fast, in ten minutes at most.
#
#   bash benches/gpu.sh RESULTS [MINUTES]        in the folder that benches/build-cuda.sh packed
#
# RESULTS/report.md has it all: the machine, the laws, and one table of times beside PyTorch (channels-last, autocast to
# bfloat16, eager and compiled); RESULTS/all.tar.gz what every part said. Both are brought up to date after each part.
# Each part has a limit of its own; what does not end in time says so and the next begins. The most important comes first:
# ours alone, then beside eager PyTorch, and what takes minutes to compile last.
# Wheels in ./wheels, if there are any, are made known to Python (diffusers and what it wants).
set -uo pipefail
cd "$(dirname "$0")/.."
results=$(realpath -m "${1:?the folder for the results}")
deadline=$((SECONDS + 60 * ${2:-10} - 15))
mkdir -p "$results"
work=$(mktemp -d)
said=$work/said
kept=$work/kept
mkdir -p "$said" "$kept"
trap 'rm -rf "$work"' EXIT
report=$results/report.md
python=${PYTHON:-python3}

# The libraries that PyTorch brings serve ours as well; what the driver compiles is kept for the next process.
packages=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
for folder in "$packages"/nvidia/*/lib; do
    [ -d "$folder" ] && LD_LIBRARY_PATH=$folder:${LD_LIBRARY_PATH:-}
done
export LD_LIBRARY_PATH CUDA_CACHE_PATH=$work/compiled CUDA_CACHE_MAXSIZE=2147483648
export TORCHINDUCTOR_CACHE_DIR=$work/inductor
if [ -d wheels ]; then
    "$python" -m pip install -q --no-index --no-deps --no-compile --target "$work/site" wheels/*.whl
    export PYTHONPATH=$work/site:${PYTHONPATH:-}
fi

say() { printf '%s\n' "$*" >> "$report"; }

# part NAME LIMIT COMMAND...: runs it for LIMIT seconds at most, and never beyond the deadline.
part() {
    local name=$1 limit=$2 left=$((deadline - SECONDS)) start=$SECONDS status
    shift 2
    [ "$limit" -gt "$left" ] && limit=$left
    if [ "$limit" -lt 5 ]; then
        say "- $name: no time left"
        return 1
    fi
    timeout --kill-after=5 "$limit" "$@" > "$said/$name.txt" 2> "$said/$name.err"
    status=$?
    case $status in
        0) say "- $name: ok, $((SECONDS - start)) s" ;;
        124 | 137) say "- $name: not done within $limit s" ;;
        *) say "- $name: FAILED ($status): $(tail -n 1 "$said/$name.err" | cut -c 1-200)" ;;
    esac
    tar -C "$work" -czf "$results/all.tar.gz" said
    return $status
}

printf '# On a GPU\n\n' > "$report"
say "$(date -u +%Y-%m-%dT%H:%MZ), $(nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader 2>&1)"
say ""
say "## Right"
say ""
# Every kernel against the reference; then training and energies on both devices.
part kernels 100 ./kernels device::tests flash::tests rows::tests devices_ --test-threads 1 --nocapture
part laws 60 ./laws cuda:: --test-threads 1 --nocapture
grep -hE '^test |^no CUDA|^skipped|panicked' "$said/kernels.txt" "$said/laws.txt" | grep -vE ' ok$' >> "$report"
part peers 40 "$python" -c 'import diffusers, peft, torch; print(torch.__version__, diffusers.__version__, peft.__version__)'
peers=$?
say ""
say "PyTorch, diffusers and peft $(cat "$said/peers.txt")"
say ""
say "## Fast"
say ""

# pace NAME CASE LIMIT ROUNDS WAYS: ours where it has not run yet, then the peer's ways.
pace() {
    local name=$1 case=$2 limit=$3 rounds=$4 ways=$5
    local peer=(--peer "$python" --ways "$ways")
    [ "$ways" = alone ] && peer=()
    [ "$ways" != alone ] && [ "$peers" != 0 ] && return
    LETHE_CUDNN=1 part "$name" "$limit" ./pace --device cuda --filter "$case" --rounds "$rounds" --scripts benches \
        --keep "$kept" "${peer[@]}"
}

pace ours-train train-cifar-b128 40 7 alone
pace ours-sample sample-cifar-b256 40 2 alone
pace ours-energy energy-d 40 3 alone
pace ours-sd sd-full-512-b4 60 4 alone
pace eager-train train-cifar-b128 30 7 eager
pace eager-energy energy-d 40 3 rows
pace eager-sample sample-cifar-b256 50 2 eager
pace eager-sd sd-full-512-b4 60 4 eager
pace compiled-train train-cifar-b128 100 7 compile
pace recomputed sd-recomputed-512-b4 90 4 eager
pace compiled-sample sample-cifar-b256 100 2 compile
pace true-32 train-cifar-f32-b128 60 5 eager
pace compiled-sd sd-full-512-b4 240 4 compile

say ""
header=
for file in "$said"/eager-*.txt "$said"/compiled-*.txt "$said"/recomputed.txt "$said"/true-32.txt "$said"/ours-*.txt; do
    [ -s "$file" ] || continue
    # The heading once, then every row.
    [ -z "$header" ] && grep -m 1 -A 1 '^| case' "$file" >> "$report" && header=there
    grep '^| [a-z]' "$file" | grep -v '^| case' >> "$report"
done
say ""
say "What cuDNN chose for the first convolutions:"
say ""
grep -hm 6 '^cuDNN' "$said/ours-train.err" | sed 's/^/- /' >> "$report"
tar -C "$work" -czf "$results/all.tar.gz" said
cat "$report"

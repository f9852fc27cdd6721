#!/usr/bin/env bash
# The whole measurement on a machine with a GPU and Python with PyTorch, without Rust and without a network: first whether
# everything is right, then how fast, in ten minutes at most.
#
#   bash benches/gpu.sh RESULTS [MINUTES]        in the folder that benches/build-cuda.sh packed
#
# RESULTS/report.md has it all: the machine, the laws, and one table of times beside PyTorch (channels-last, autocast to
# bfloat16, eager and compiled). Each part has a limit of its own; what does not end in time says so and the next begins.
# The most important comes first. Wheels in ./wheels, if there are any, are made known to Python (diffusers, peft).
set -uo pipefail
cd "$(dirname "$0")/.."
results=${1:?the folder for the results}
deadline=$((SECONDS + 60 * ${2:-10} - 15))
mkdir -p "$results"
report=$results/report.md
python=${PYTHON:-python3}

# The libraries that PyTorch brings serve ours as well.
packages=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
for folder in "$packages"/nvidia/*/lib; do
    [ -d "$folder" ] && LD_LIBRARY_PATH=$folder:${LD_LIBRARY_PATH:-}
done
export LD_LIBRARY_PATH
if [ -d wheels ]; then
    site=$(mktemp -d)
    "$python" -m pip install -q --no-index --no-deps --no-compile --target "$site" wheels/*.whl
    export PYTHONPATH=$site:${PYTHONPATH:-}
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
    timeout --kill-after=5 "$limit" "$@" > "$results/$name.txt" 2> "$results/$name.err"
    status=$?
    case $status in
        0) say "- $name: ok, $((SECONDS - start)) s" ;;
        124 | 137) say "- $name: not done within $limit s" ;;
        *) say "- $name: FAILED ($status), see $name.txt and $name.err" ;;
    esac
    return $status
}

printf '# On a GPU\n\n' > "$report"
say "$(date -u +%Y-%m-%dT%H:%MZ), $(nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader 2>&1)"
say ""
say "PyTorch $("$python" -c 'import torch; print(torch.__version__)' 2>&1 | tail -n 1), diffusers $("$python" -c 'import diffusers; print(diffusers.__version__)' 2>&1 | tail -n 1)"
say ""
say "## Right"
say ""
# Every kernel against the reference; then training and energies on both devices.
part kernels 120 ./kernels --test-threads 1 --nocapture
part laws 60 ./laws cuda:: --test-threads 1 --nocapture
grep -hE '^test |^no CUDA|^skipped|panicked' "$results/kernels.txt" "$results/laws.txt" | grep -vE ' ok$' >> "$report"
if command -v compute-sanitizer > /dev/null; then
    # Out-of-bounds accesses in what is quick: all kernels but the many sizes of convolution and attention.
    part memcheck 60 compute-sanitizer --tool memcheck --error-exitcode 1 ./kernels device::tests --test-threads 1 \
        --skip attention --skip conv2d --skip hopfield
fi
say ""
say "## Fast"
say ""

pace() {
    local case=$1 limit=$2 rounds=$3
    part "$case" "$limit" ./pace --device cuda --filter "$case" --rounds "$rounds" --scripts benches --peer "$python"
}

pace train-cifar-b128 120 7
pace energy-d 60 3
pace sample-cifar-b256 100 2
pace sd-full-512-b4 150 4
pace sd-recomputed-512-b4 90 4
pace train-cifar-f32-b128 60 5

say ""
header=
for case in train-cifar-b128 train-cifar-f32-b128 sample-cifar-b256 energy-d sd-full-512-b4 sd-recomputed-512-b4; do
    file=$results/$case.txt
    [ -s "$file" ] || continue
    # The heading once, then every row.
    [ -z "$header" ] && grep -m 1 -A 1 '^| case' "$file" >> "$report" && header=there
    grep '^| [a-z]' "$file" | grep -v '^| case' >> "$report"
done
say ""
say "Each side as it ended, those of cases that were cut off as well:"
say ""
grep -hE ' MiB$' "$results"/*.err | sed 's/^/- /' >> "$report"
say ""
say "With something on standard error: $(find "$results" -name '*.err' -size +0 -printf '%f ' 2>/dev/null)"
cat "$report"

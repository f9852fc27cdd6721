#!/usr/bin/env bash
# Builds what benches/gpu.sh runs, and packs it with its scripts into one archive that can be carried to another machine.
#
#   CUDA_COMPUTE_CAP=90 benches/build-cuda.sh target/gpu            # with cuDNN: target/gpu.tar.xz
#   FEATURES=cuda benches/build-cuda.sh target/gpu                  # without
#   WHEELS="diffusers==0.42.1" benches/build-cuda.sh target/gpu     # with Python packages that the other machine lacks
#
# Wants the CUDA toolkit (nvcc on the path or CUDA_HOME) and, for cuDNN, its headers and library; no device.
# Without a driver on the machine the linker wants the toolkit's own stub of libcuda.so in lib64/stubs.
# The driver of the other machine must be as new as the toolkit: what is packed is compiled there at its first use.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:?the folder to pack into}
features=${FEATURES:-cuda,cudnn}
kernel_features=${features#cuda,}
# Without a capability of 80 or more there would be no attention on tensor cores.
export CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-90}
mkdir -p "$out/benches"

# Where Cargo has put the newest executable of one target.
executable() {
    cargo "$@" --message-format=json | python3 -c '
import json, sys
lines = (json.loads(line) for line in sys.stdin if line.startswith("{"))
print([line["executable"] for line in lines if line.get("executable")][-1])'
}

# Release for times, the test profile of the same for laws: its checks of overflow stay.
cp "$(executable bench --no-run --no-default-features --features "$features" --bench pace)" "$out/pace"
cp "$(executable test --release --no-run -p lethe-kernels --lib --features "$kernel_features")" "$out/kernels"
cp "$(executable test --release --no-run --no-default-features --features "$features" --test laws)" "$out/laws"
cp benches/gpu.sh benches/peer.py benches/peer_latent.py "$out/benches/"
strip "$out/pace" "$out/kernels" "$out/laws" || true
if [ -n "${WHEELS:-}" ]; then
    # shellcheck disable=SC2086
    python3 -m pip download -q --no-deps --dest "$out/wheels" $WHEELS
fi
# The three programs hold the same kernels of candle's: a dictionary that spans them all finds them once.
tar -C "$out" -cf - . | xz -T1 --lzma2=preset=9e,dict=512MiB > "$out.tar.xz"
ls -l "$out" "$out.tar.xz"
echo "On the other machine: python3 -m tarfile -e $(basename "$out").tar.xz gpu && bash gpu/benches/gpu.sh RESULTS"

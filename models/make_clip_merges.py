"""The merges of CLIP's tokenizer, as every Stable Diffusion 1 uses them: models/clip/merges.txt.gz.

Run as `python models/make_clip_merges.py WHEEL` from the project root, WHEEL being open_clip_torch's (`pip download --no-deps
open_clip_torch`), which holds OpenAI's bpe_simple_vocab_16e6.txt.gz. CLIP takes its first 48,894 merges; with 256 bytes,
the same at a word's end, and start and end of a text they make 49,408 tokens. The result is the text of `merges.txt` in a
tokenizer's folder, header and all.
"""

import gzip
import sys
import zipfile
from pathlib import Path

FILE = Path(__file__).resolve().parent / "clip" / "merges.txt.gz"
N_TOKENS, N_BYTES, N_SPECIAL = 49_408, 256, 2
N_MERGES = N_TOKENS - 2 * N_BYTES - N_SPECIAL
HEADER = "#version: 0.2"


def main():
    """Writes the file; the same wheel always gives the same bytes."""
    with zipfile.ZipFile(sys.argv[1]) as wheel:
        text = gzip.decompress(wheel.read("open_clip/bpe_simple_vocab_16e6.txt.gz")).decode()
    header, *merges = text.split("\n")
    assert header.endswith(HEADER), header
    merges = merges[:N_MERGES]
    assert len(set(merges)) == N_MERGES and all(len(merge.split(" ")) == 2 for merge in merges)
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_bytes(gzip.compress("\n".join([HEADER, *merges, ""]).encode(), 9, mtime=0))
    print(f"{len(merges)} merges, the last `{merges[-1]}`; wrote {FILE.stat().st_size} bytes")


if __name__ == "__main__":
    main()

"""Makes the embedded subset: the first 600 images of each class of Fashion-MNIST's training files.

Usage: python make.py FOLDER
FOLDER holds train-images-idx3-ubyte.gz and train-labels-idx1-ubyte.gz as Zalando publishes them.
Writes images.idx3.gz and labels.idx1.gz beside this script; needs the standard library only.
"""

import gzip
import hashlib
import struct
import sys
from pathlib import Path

PER_CLASS = 600
CLASSES = 10
ORIGIN = {
    "train-images-idx3-ubyte.gz": "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
    "train-labels-idx1-ubyte.gz": "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
}


def load(folder, name):
    packed = (folder / name).read_bytes()
    found = hashlib.sha256(packed).hexdigest()
    if found != ORIGIN[name]:
        sys.exit(f"{name}: expected sha256 {ORIGIN[name]}, found {found}")
    return gzip.decompress(packed)


def select(labels):
    """Indices of the first PER_CLASS examples of each class, in the order of the training file."""
    seen = [0] * CLASSES
    chosen = []
    for index, label in enumerate(labels):
        if seen[label] < PER_CLASS:
            seen[label] += 1
            chosen.append(index)
    return chosen


def write(name, header, body):
    # A zero time stamp, so that the same input gives the same bytes.
    packed = gzip.compress(header + body, compresslevel=9, mtime=0)
    (Path(__file__).parent / name).write_bytes(packed)
    for what, data in (("packed", packed), ("unpacked", header + body)):
        print(f"{name} {what}: {len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}")


def main():
    folder = Path(sys.argv[1])
    images = load(folder, "train-images-idx3-ubyte.gz")
    labels = load(folder, "train-labels-idx1-ubyte.gz")
    magic, n, height, width = struct.unpack(">4I", images[:16])
    assert (magic, n, height, width) == (0x803, 60000, 28, 28)
    assert struct.unpack(">2I", labels[:8]) == (0x801, n)
    size = height * width
    chosen = select(labels[8:])
    assert len(chosen) == PER_CLASS * CLASSES
    pixels = b"".join(images[16 + i * size : 16 + (i + 1) * size] for i in chosen)
    write("images.idx3.gz", struct.pack(">4I", magic, len(chosen), height, width), pixels)
    write("labels.idx1.gz", struct.pack(">2I", 0x801, len(chosen)), bytes(labels[8 + i] for i in chosen))


if __name__ == "__main__":
    main()

"""Copies the 20 originals out of foolbox's wheel and packs them as a Parquet file in the hub's schema.

Usage: python make.py foolbox-3.3.4-py3-none-any.whl
Needs pyarrow (made with 26.0.1).
"""

import hashlib
import json
import re
import sys
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

HERE = Path(__file__).parent
NAMES = "airplane automobile bird cat deer dog frog horse ship truck".split()
MEMBER = re.compile(r"foolbox/data/(cifar10_(\d\d)_(\d)\.png)")


def main():
    images, labels = [], []
    with zipfile.ZipFile(sys.argv[1]) as wheel:
        for member in sorted(wheel.namelist()):
            if match := MEMBER.fullmatch(member):
                png = wheel.read(member)
                (HERE / match[1]).write_bytes(png)
                images.append({"bytes": png, "path": match[1]})
                labels.append(int(match[3]))
    assert len(images) == 20
    features = {"img": {"_type": "Image"}, "label": {"names": NAMES, "_type": "ClassLabel"}}
    schema = pa.schema(
        [("img", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), ("label", pa.int64())],
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    table = pa.table({"img": images, "label": labels}, schema=schema)
    # Two row groups and snappy, as the hub's own files have several groups and that codec.
    pq.write_table(table, HERE / "hub.parquet", compression="snappy", row_group_size=12)
    print(hashlib.sha256((HERE / "hub.parquet").read_bytes()).hexdigest())


main()

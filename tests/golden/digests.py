"""Compares every golden file with its sha256 in README.md; with --write puts the present digests there instead.

Run as `python tests/golden/digests.py [--write]` from the project root.
"""

import hashlib
import re
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
ROW = re.compile(r"^(\| `([^`]+)` \|.*\| `)([0-9a-f]*)(` \|)$", re.MULTILINE)
# The rooms that own these describe them in their own words.
ELSEWHERE = {"cifar10", "images", "statistics.json"}


def digest(name):
    """sha256 of a file of this folder, in hexadecimal."""
    return hashlib.sha256((FOLDER / name).read_bytes()).hexdigest()


def data_files():
    """What the scripts of this table have made, as paths relative to the folder."""
    found = {p.relative_to(FOLDER).as_posix() for p in FOLDER.rglob("*") if p.suffix in (".json", ".safetensors", ".txt")}
    return {name for name in found if name.split("/")[0] not in ELSEWHERE}


def main():
    """Exits with 1 and one line for each file that is missing, changed or not listed."""
    readme = FOLDER / "README.md"
    text = readme.read_text()
    listed = {match[2]: match[3] for match in ROW.finditer(text)}
    present = data_files()
    faults = [f"{name}: listed, but missing; run its script" for name in sorted(listed.keys() - present)]
    faults += [f"{name}: not listed in README.md; give it a row" for name in sorted(present - listed.keys())]
    if "--write" in sys.argv[1:] and not faults:
        readme.write_text(ROW.sub(lambda match: match[1] + digest(match[2]) + match[4], text))
    else:
        changed = [name for name in sorted(listed.keys() & present) if digest(name) != listed[name]]
        faults += [f"{name}: differs from README.md; see there what may differ, then --write" for name in changed]
    print("\n".join(faults) or f"{len(present)} files as listed, {sum((FOLDER / n).stat().st_size for n in present)} bytes")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()

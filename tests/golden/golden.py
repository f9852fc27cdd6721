"""What the golden scripts share: seeded numbers, a deterministic writer, and the measure of distance."""

import json
import platform
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

FOLDER = Path(__file__).resolve().parent

# One thread and the deterministic kernels: the order of a float32 sum must not depend on the machine's load.
torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)


def versions(*packages):
    """Prints and returns the versions that decide the values: python's and those of the named packages."""
    found = {"python": platform.python_version()} | {name: version(name) for name in packages}
    print(" ".join(f"{name} {number}" for name, number in found.items()))
    return found


def normal(seed, *shape):
    """Standard normal numbers that float32 holds exactly, as float64: a float32 port then starts from the same input."""
    drawn = np.random.default_rng(seed).standard_normal(shape)
    return torch.from_numpy(drawn).float().double()


def distance(found, expected):
    """max|a - b| / max|b|, the relative error of one tensor as a whole; NaN stays NaN."""
    found, expected = torch.as_tensor(found).double(), torch.as_tensor(expected).double()
    return float((found - expected).abs().max() / expected.abs().max())


def brief(number):
    """Two digits are enough to state a distance."""
    return float(f"{number:.1e}")


def write_tensors(path, tensors, about):
    """Writes a safetensors file; `about` becomes JSON under the metadata key `golden`.

    One metadata key only: the library writes several in an order that changes from run to run.
    """
    tensors = {name: tensor.detach().contiguous() for name, tensor in sorted(tensors.items())}
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ValueError(f"{path}: {name} is not finite")
    save_file(tensors, path, metadata={"golden": json.dumps(about, sort_keys=True)})
    report(path)


def write_json(path, content):
    """Writes JSON with every float in its shortest exact form, numeric lists on one line."""
    path.write_text(folded(content) + "\n")
    report(path)


def folded(content, indent=""):
    """JSON text in which a list of plain numbers takes one line."""
    inner = indent + "  "
    if isinstance(content, dict):
        lines = [f"{inner}{json.dumps(key)}: {folded(value, inner)}" for key, value in content.items()]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    if isinstance(content, list) and any(isinstance(item, (dict, list)) for item in content):
        return "[\n" + ",\n".join(inner + folded(item, inner) for item in content) + f"\n{indent}]"
    return json.dumps(content, allow_nan=False)


def report(path):
    """Says what was written, and lets everybody read it: the library's files are their owner's alone."""
    path.chmod(0o644)
    print(f"wrote {path.relative_to(FOLDER.parents[1])}, {path.stat().st_size} bytes")

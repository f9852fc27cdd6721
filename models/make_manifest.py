"""The manifest of google/ddpm-cifar10-32: published configuration, key names of the published file, shapes.

No weights are read: the library instantiates the configuration without memory, and the keys are put back under the
names that the published file still carries (query, key, value, proj_attn; today's library writes to_q and so on).
Run as `python models/make_manifest.py` from the project root.
"""

import json
from importlib.metadata import version
from math import prod
from pathlib import Path

import torch
from diffusers import UNet2DModel

ID = "google/ddpm-cifar10-32"
CONFIG = {
    "_class_name": "UNet2DModel",
    "_diffusers_version": "0.0.4",
    "act_fn": "silu",
    "attention_head_dim": None,
    "block_out_channels": [128, 256, 256, 256],
    "center_input_sample": False,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"],
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "in_channels": 3,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-06,
    "norm_num_groups": 32,
    "out_channels": 3,
    "sample_size": 32,
    "time_embedding_type": "positional",
    "up_block_types": ["UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
}
PUBLISHED_NAMES = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
N_TENSORS, N_PARAMETERS = 328, 35_746_307


def published_name(name):
    """The name in the published file; only the four projections of an attention block differ."""
    for today, published in PUBLISHED_NAMES.items():
        name = name.replace(f".{today}.", f".{published}.")
    return name


def main():
    """Writes models/google-ddpm-cifar10-32.json."""
    with torch.device("meta"):
        model = UNet2DModel.from_config(CONFIG)
    shapes = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    published = {published_name(name): shape for name, shape in shapes.items()}
    renamed = {published_name(name): name for name in shapes if published_name(name) != name}
    assert len(published) == N_TENSORS and sum(map(prod, shapes.values())) == N_PARAMETERS
    # The library must find every key again when it reads the published names.
    restored = model._fix_state_dict_keys_on_load(dict.fromkeys(published))
    assert (restored or {}).keys() == shapes.keys() and len(renamed) == 8 * 6

    sections = {"id": ID, "revision": None, "config": CONFIG, "tensors": dict(sorted(published.items())), "renamed": dict(sorted(renamed.items()))}
    path = Path(__file__).with_name("google-ddpm-cifar10-32.json")
    path.write_text(folded(sections) + "\n")
    print(f"{ID}: {len(published)} tensors, {N_PARAMETERS} parameters; torch {version('torch')}, diffusers {version('diffusers')}")


def folded(content, indent=""):
    """JSON text with one line a tensor."""
    if isinstance(content, dict):
        inner = indent + "  "
        return "{\n" + ",\n".join(f"{inner}{json.dumps(k)}: {folded(v, inner)}" for k, v in content.items()) + f"\n{indent}}}"
    return json.dumps(content)


if __name__ == "__main__":
    main()

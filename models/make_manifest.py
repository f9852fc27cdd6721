"""The manifests of google/ddpm-cifar10-32 and of the three networks of stable-diffusion-v1-5/stable-diffusion-v1-5.

Each is made from the published configuration: no weights are read, the libraries instantiate it without memory, and the
keys are put back under the names that the published file still carries (query, key, value, proj_attn where today's
library writes to_q and so on; `text_model.` before every key of the text encoder, which today's library has dropped).
Run as `python models/make_manifest.py` from the project root.
"""

import json
from importlib.metadata import version
from math import prod
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel, UNet2DModel
from transformers import CLIPTextConfig, CLIPTextModel

DDPM = {
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
UNET = {
    "_class_name": "UNet2DConditionModel",
    "_diffusers_version": "0.6.0",
    "act_fn": "silu",
    "attention_head_dim": 8,
    "block_out_channels": [320, 640, 1280, 1280],
    "center_input_sample": False,
    "cross_attention_dim": 768,
    "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
    "downsample_padding": 1,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "in_channels": 4,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-05,
    "norm_num_groups": 32,
    "out_channels": 4,
    "sample_size": 64,
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
}
VAE = {
    "_class_name": "AutoencoderKL",
    "_diffusers_version": "0.6.0",
    "act_fn": "silu",
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "in_channels": 3,
    "latent_channels": 4,
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "out_channels": 3,
    "sample_size": 512,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
}
TEXT_ENCODER = {
    "_name_or_path": "openai/clip-vit-large-patch14",
    "architectures": ["CLIPTextModel"],
    "attention_dropout": 0.0,
    "bos_token_id": 0,
    "dropout": 0.0,
    "eos_token_id": 2,
    "hidden_act": "quick_gelu",
    "hidden_size": 768,
    "initializer_factor": 1.0,
    "initializer_range": 0.02,
    "intermediate_size": 3072,
    "layer_norm_eps": 1e-05,
    "max_position_embeddings": 77,
    "model_type": "clip_text_model",
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "pad_token_id": 1,
    "projection_dim": 768,
    "torch_dtype": "float32",
    "transformers_version": "4.22.0.dev0",
    "vocab_size": 49408,
}
STABLE_DIFFUSION = "stable-diffusion-v1-5/stable-diffusion-v1-5"
OLD_ATTENTION_NAMES = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
# The published text encoder holds the numbers 0 to 76 as well: a buffer, no parameter.
POSITIONS = {"text_model.embeddings.position_ids": [1, 77]}


def shapes(kind, config):
    """Shape of every parameter of a network that takes no memory, by today's names."""
    with torch.device("meta"):
        model = kind.from_config(config)
    return {name: list(tensor.shape) for name, tensor in model.state_dict().items()}


def with_old_attention(name):
    """The name before the library renamed the four projections of an attention block."""
    for today, published in OLD_ATTENTION_NAMES.items():
        name = name.replace(f".{today}.", f".{published}.")
    return name


def finds_again(kind, config, published, today):
    """Whether the library finds every key when it reads the published names."""
    with torch.device("meta"):
        model = kind.from_config(config)
    return (model._fix_state_dict_keys_on_load(dict.fromkeys(published)) or {}).keys() == today.keys()


def with_old_names(kind, config):
    """Tensors and renamings of a network whose published file is older than the library's names."""
    today = shapes(kind, config)
    published = {with_old_attention(name): shape for name, shape in today.items()}
    assert finds_again(kind, config, published, today)
    return published, {with_old_attention(name): name for name in today if with_old_attention(name) != name}


def text_encoder():
    """Tensors of the published text encoder; its names are those of transformers before 5.6."""
    config = CLIPTextConfig(**{key: value for key, value in TEXT_ENCODER.items() if key not in ("model_type", "torch_dtype")})
    with torch.device("meta"):
        model = CLIPTextModel(config)
    found = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    return {"text_model." + name.removeprefix("text_model."): shape for name, shape in found.items()}


def manifests():
    """(file, sections, number of tensors, number of parameters, number of renamed tensors) of every network."""
    tensors, renamed = with_old_names(UNet2DModel, DDPM)
    yield "google-ddpm-cifar10-32", sections("google/ddpm-cifar10-32", DDPM, tensors, renamed), (328, 35_746_307, 8 * 6)
    tensors = shapes(UNet2DConditionModel, UNET)
    yield "stable-diffusion-v1-5-unet", sections(f"{STABLE_DIFFUSION}/unet", UNET, tensors, {}), (686, 859_520_964, 0)
    tensors, renamed = with_old_names(AutoencoderKL, VAE)
    yield "stable-diffusion-v1-5-vae", sections(f"{STABLE_DIFFUSION}/vae", VAE, tensors, renamed), (248, 83_653_863, 8 * 2)
    tensors = text_encoder() | POSITIONS
    counts = (196 + 1, 123_060_480 + 77, 0)
    yield "stable-diffusion-v1-5-text-encoder", sections(f"{STABLE_DIFFUSION}/text_encoder", TEXT_ENCODER, tensors, {}), counts


def sections(name, config, tensors, renamed):
    """A manifest as models/lib.rs reads it."""
    return {
        "id": name, "revision": None, "config": config,
        "tensors": dict(sorted(tensors.items())), "renamed": dict(sorted(renamed.items())),
    }


def main():
    """Writes one JSON file beside this script for every network."""
    for file, content, counts in manifests():
        found = (len(content["tensors"]), sum(map(prod, content["tensors"].values())), len(content["renamed"]))
        assert found == counts, f"{file}: {found}, published {counts}"
        Path(__file__).with_name(f"{file}.json").write_text(folded(content) + "\n")
        print(f"{content['id']}: {found[0]} tensors, {found[1]} elements, {found[2]} renamed")
    print(" ".join(f"{package} {version(package)}" for package in ("torch", "diffusers", "transformers")))


def folded(content, indent=""):
    """JSON text with one line a tensor."""
    if isinstance(content, dict) and content:
        inner = indent + "  "
        return "{\n" + ",\n".join(f"{inner}{json.dumps(k)}: {folded(v, inner)}" for k, v in content.items()) + f"\n{indent}}}"
    return json.dumps(content)


if __name__ == "__main__":
    main()

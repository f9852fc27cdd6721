"""Where the single file of Stable Diffusion v1.5 keeps what the folder of three networks holds.

Writes tests/golden/latent/single_file_names.json: for every tensor of the original file its part, its name there today
and its shape in the original. The names are spelled out here and then proved by the library's own conversion from the
original, on tensors that each hold one number of their own and take no memory.
Run as `python models/make_single_file.py` from the project root.
"""

import json
import re
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_ldm_clip_checkpoint, convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint

from make_manifest import POSITIONS, UNET, VAE, shapes, text_encoder

FILE = Path(__file__).resolve().parents[1] / "tests" / "golden" / "latent" / "single_file_names.json"
PREFIXES = {"unet": "model.diffusion_model.", "vae": "first_stage_model.", "text_encoder": "cond_stage_model.transformer."}

UNET_ENDS = {
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2", "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0", "conv_out": "out.2",
}
UNET_RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
    "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}
VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
LEVELS = 4


def unet_name(name):
    """Blocks are counted through: three to a level, the first of the input side being the first convolution."""
    layer, _, kind = name.rpartition(".")
    if layer in UNET_ENDS:
        return f"{UNET_ENDS[layer]}.{kind}"
    side, level, what, index, rest = re.fullmatch(r"(down|mid|up)_block(?:s\.(\d))?\.(resnets|attentions|downsamplers|upsamplers)\.(\d)\.(.*)", name).groups()
    level, index = int(level or 0), int(index)
    if what == "resnets":
        layer, _, kind = rest.rpartition(".")
        rest = f"{UNET_RESNET[layer]}.{kind}"
    if what == "downsamplers":
        return f"input_blocks.{3 * level + 3}.0.{rest.replace('conv', 'op')}"
    if what == "upsamplers":  # The deepest level has no attention to count.
        return f"output_blocks.{3 * level + 2}.{1 if level == 0 else 2}.{rest}"
    if side == "mid":
        return f"middle_block.{2 * index if what == 'resnets' else 1}.{rest}"
    block = f"input_blocks.{3 * level + 1 + index}" if side == "down" else f"output_blocks.{3 * level + index}"
    return f"{block}.{0 if what == 'resnets' else 1}.{rest}"


def vae_name(name):
    """The original counts the decoder's levels from the image, the library from the latents."""
    name = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    name = re.sub(r"down_blocks\.(\d)\.resnets\.", r"down.\1.block.", name)
    name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0\.", r"down.\1.downsample.", name)
    name = re.sub(r"up_blocks\.(\d)\.resnets\.", lambda m: f"up.{LEVELS - 1 - int(m[1])}.block.", name)
    name = re.sub(r"up_blocks\.(\d)\.upsamplers\.0\.", lambda m: f"up.{LEVELS - 1 - int(m[1])}.upsample.", name)
    name = re.sub(r"mid_block\.resnets\.(\d)\.", lambda m: f"mid.block_{int(m[1]) + 1}.", name)
    start, middle, end = name.partition("mid_block.attentions.0.")
    if not middle:
        return name
    layer, _, kind = end.rpartition(".")
    return f"{start}mid.attn_1.{VAE_ATTENTION[layer]}.{kind}"


def original_shape(part, name, shape):
    """The original projects the VAE's attention by convolutions of one pixel."""
    is_projection = part == "vae" and ".attentions." in name and len(shape) == 2
    return [*shape, 1, 1] if is_projection else shape


def parts():
    """Today's names and shapes of the three networks, and how the original calls them."""
    yield "unet", shapes(UNet2DConditionModel, UNET), unet_name
    yield "vae", shapes(AutoencoderKL, VAE), vae_name
    yield "text_encoder", text_encoder() | POSITIONS, str


def convert(part, checkpoint):
    """The library's conversion of one part from the original names."""
    if part == "unet":
        return convert_ldm_unet_checkpoint(checkpoint, UNET)
    return convert_ldm_vae_checkpoint(checkpoint, VAE) if part == "vae" else convert_ldm_clip_checkpoint(checkpoint)


def prove(part, originals, today):
    """The library's conversion must give today's names and shapes, and under each the very tensor that we say."""
    numbered = {
        original: torch.tensor(float(index)).expand(shape) for index, (original, (_, _, shape)) in enumerate(originals.items())
    }
    found = convert(part, {original: tensor for original, tensor in numbered.items() if original.startswith(PREFIXES[part])})
    assert {name: list(tensor.shape) for name, tensor in found.items()} == today, part
    for original, (owner, name, _) in originals.items():
        if owner == part:
            assert found[name].flatten()[0] == numbered[original].flatten()[0], (original, name)


def main():
    """Writes the table, one line a tensor, sorted by the original name."""
    known, originals = list(parts()), {}
    for part, today, rename in known:
        originals |= {PREFIXES[part] + rename(name): (part, name, original_shape(part, name, shape)) for name, shape in today.items()}
    assert len(originals) == sum(len(today) for _, today, _ in known) == 686 + 248 + 197
    for part, today, _ in known:
        prove(part, originals, today)
    FILE.parent.mkdir(exist_ok=True)
    lines = [f"{json.dumps(original)}: {json.dumps(entry)}" for original, entry in sorted(originals.items())]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(f"{len(originals)} tensors, the library agrees; wrote {FILE.stat().st_size} bytes")


if __name__ == "__main__":
    main()

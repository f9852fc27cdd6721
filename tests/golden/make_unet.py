"""Small random UNet2DModel folders with the output and the gradient of every parameter, by diffusers in float64.

Run as `python tests/golden/make_unet.py` from the project root. It empties each model's folder first, since nothing made
from an earlier model may stay: make_training.py and make_samplers.py come after it.
"""

import sys

sys.path.append(sys.path.pop(0))  # No neighbour of this script may stand in for a standard module.

import json
import math
import shutil

import torch
from diffusers import UNet2DModel
from safetensors.torch import load_file, save_file

from golden import FOLDER, brief, distance, normal, report, versions, write_tensors

DOWN, ATTENTION_DOWN, UP, ATTENTION_UP = "DownBlock2D", "AttnDownBlock2D", "UpBlock2D", "AttnUpBlock2D"
GREY = dict(sample_size=8, in_channels=1, out_channels=1, layers_per_block=1)
TWO_LEVELS = GREY | dict(
    block_out_channels=(4, 8), norm_num_groups=2, attention_head_dim=4,
    down_block_types=(DOWN, ATTENTION_DOWN), up_block_types=(ATTENTION_UP, UP),
)

# google/ddpm-cifar10-32 as it is published, but for the widths, the groups and the image size.
CIFAR10_LIKE = dict(
    sample_size=16, in_channels=3, out_channels=3, center_input_sample=False, time_embedding_type="positional",
    freq_shift=1, flip_sin_to_cos=False, down_block_types=(DOWN, ATTENTION_DOWN, DOWN, DOWN),
    up_block_types=(UP, UP, ATTENTION_UP, UP), block_out_channels=(4, 8, 8, 8), layers_per_block=2,
    mid_block_scale_factor=1, downsample_padding=0, act_fn="silu", attention_head_dim=None, norm_num_groups=2,
    norm_eps=1e-6,
)

CONFIGS = {
    "ddpm-cifar10-like": CIFAR10_LIKE,
    # The library's defaults; eight channels a head make two heads in the deepest level and the middle block.
    "defaults-like": GREY | dict(
        sample_size=16, block_out_channels=(4, 4, 16), norm_num_groups=2,
        down_block_types=(DOWN, DOWN, ATTENTION_DOWN), up_block_types=(ATTENTION_UP, UP, UP),
    ),
    # Without groups of its own the attention of the middle block has no norm here.
    "scale-shift": TWO_LEVELS | dict(resnet_time_scale_shift="scale_shift"),
    # Dropout belongs to training: an evaluated model must ignore it.
    "class-conditional": TWO_LEVELS | dict(num_class_embeds=10, dropout=0.1),
    "no-attention": TWO_LEVELS | dict(down_block_types=(DOWN, DOWN), up_block_types=(UP, UP), add_attention=False),
    # One level alone: nothing is resampled either.
    "no-mid-block": TWO_LEVELS | dict(
        mid_block_type=None, block_out_channels=(4,), attention_head_dim=2,
        down_block_types=(ATTENTION_DOWN,), up_block_types=(ATTENTION_UP,),
    ),
    # Only the attention blocks heed the two options; the middle level keeps its convolutions.
    "resnet-sampling": TWO_LEVELS | dict(
        block_out_channels=(4, 4, 8), downsample_type="resnet", upsample_type="resnet",
        down_block_types=(ATTENTION_DOWN, DOWN, ATTENTION_DOWN), up_block_types=(ATTENTION_UP, UP, ATTENTION_UP),
    ),
    "rare-options": TWO_LEVELS | dict(
        in_channels=2, out_channels=3, center_input_sample=True, time_embedding_dim=20, mid_block_scale_factor=1.5,
        act_fn="gelu", attn_norm_num_groups=4, resnet_time_scale_shift="scale_shift", downsample_padding=0,
        down_block_types=(ATTENTION_DOWN, DOWN), up_block_types=(UP, ATTENTION_UP),
    ),
}

# Options that a port may misread without changing a shape; each must show in the output of some model.
MISTAKES = {
    "norm_eps": lambda c: {"norm_eps": 1e-6 if c["norm_eps"] > 5e-6 else 1e-5},
    "flip_sin_to_cos": lambda c: {"flip_sin_to_cos": not c["flip_sin_to_cos"]},
    "freq_shift": lambda c: {"freq_shift": 1 - c["freq_shift"]},
    "downsample_padding": lambda c: {"downsample_padding": 1 - c["downsample_padding"]},
    "attention_head_dim": lambda c: {"attention_head_dim": 2 if c["attention_head_dim"] is None else None},
    "act_fn": lambda c: {"act_fn": "gelu" if c["act_fn"] == "silu" else "silu"},
    "mid_block_scale_factor": lambda c: {"mid_block_scale_factor": 1 if c["mid_block_scale_factor"] != 1 else 2},
    "center_input_sample": lambda c: {"center_input_sample": not c["center_input_sample"]},
}

OLD_ATTENTION_NAMES = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


def randomize(model, seed):
    """Every parameter non-trivial: norms away from (1, 0), no zero biases, output and gradients of order one."""
    for index, (name, parameter) in enumerate(model.named_parameters()):
        drawn = normal((seed, index), *parameter.shape)
        if "norm" in name and name.endswith("weight"):
            parameter.data.copy_(1 + 0.3 * drawn)
        elif name.startswith("class_embedding"):
            parameter.data.copy_(drawn)
        elif name.endswith("bias"):
            parameter.data.copy_(0.2 * gain(name, model.config) * drawn)
        else:
            parameter.data.copy_(gain(name, model.config) * drawn / math.sqrt(math.prod(parameter.shape[1:])))


def gain(name, config):
    """Small where a layer writes what a norm reads: at a variance near 0.01 a misread norm_eps cannot hide."""
    writers = {"conv_in", "conv1", "conv2", "conv", "conv_shortcut", "0"}
    if config.resnet_time_scale_shift == "default":
        writers.add("time_emb_proj")
    layer, kind = name.split(".")[-2:]
    passes_on = kind == "weight" and layer in ("conv", "conv_shortcut")
    return 0.1 if layer in writers and not passes_on else 1.3


def batch(config, seed):
    """Input, timesteps (first, last, two between; different per row), target and, where the model asks, classes."""
    size, t = config["sample_size"], torch.tensor([0, 999, 421])
    inputs = {
        "unet.x": normal((seed, 1), len(t), config["in_channels"], size, size),
        "unet.t": t,
        "unet.noise": normal((seed, 2), len(t), config["out_channels"], size, size),
    }
    if config.get("num_class_embeds"):
        inputs["unet.class_labels"] = torch.tensor([3, 0, 9])
    return inputs


def evaluate(model, inputs):
    """Output, loss and gradients in the model's own precision."""
    model.zero_grad()
    out = model(inputs["unet.x"].to(model.dtype), inputs["unet.t"], class_labels=inputs.get("unet.class_labels")).sample
    loss = (out - inputs["unet.noise"].to(model.dtype)).square().mean()
    loss.backward()
    gradients = {f"unet.grad.{name}": p.grad.detach().clone() for name, p in model.named_parameters()}
    return {"unet.out": out.detach()} | gradients, loss.item()


def with_exact_sinusoids(model, inputs):
    """The output with the time embedding's sinusoids in float64; the library computes them in float32 always."""
    config, channels = model.config, model.config.block_out_channels[0]
    half = channels // 2
    frequencies = torch.exp(-math.log(10000) * torch.arange(half).double() / (half - config.freq_shift))
    angles = inputs["unet.t"].double()[:, None] * frequencies
    order = (torch.cos, torch.sin) if config.flip_sin_to_cos else (torch.sin, torch.cos)
    exact = torch.cat([wave(angles) for wave in order], dim=-1)
    hook = model.time_proj.register_forward_hook(lambda *_: exact)
    found, _ = evaluate(model, inputs)
    hook.remove()
    return found


def is_vanishing(name):
    """A bias on the keys adds one constant to all logits of a query: softmax ignores it, its gradient is zero."""
    return name.endswith("to_k.bias")


def float32_distances(single, double):
    """Per tensor max|a - b| / max|b|; a vanishing gradient is measured against that of its layer's weight."""
    found = {}
    for name, expected in double.items():
        if is_vanishing(name):
            scale = double[name.replace("to_k.bias", "to_k.weight")].abs().max()
            assert expected.abs().max() < 1e-12 * scale, name
            found[name] = brief(single[name].abs().max().double() / scale)
        else:
            found[name] = brief(distance(single[name], expected))
    return found


def mistaken(folder, inputs, expected):
    """How far each misread option moves the output; options that do not apply to this model move nothing."""
    found, weights = {}, load_file(folder / "diffusion_pytorch_model.safetensors")
    for name, change in MISTAKES.items():
        config = UNet2DModel.load_config(folder)
        model = UNet2DModel.from_config(config | change(config)).eval()
        model.load_state_dict(weights)
        found[name] = brief(distance(evaluate(model.double(), inputs)[0]["unet.out"], expected["unet.out"]))
    return found


def stated(distances):
    """The output's distance by name, the gradients' as one list in the order of their sorted names."""
    gradients = [distances[name] for name in sorted(distances) if name.startswith("unet.grad.")]
    return {"unet.out": distances["unet.out"], "unet.grad (sorted by name)": gradients}


def summary(distances):
    """The figures that the README quotes: output, worst and median gradient."""
    gradients = {n: d for n, d in distances.items() if n.startswith("unet.grad.") and not is_vanishing(n)}
    worst = max(gradients, key=gradients.get)
    middle = sorted(gradients.values())[len(gradients) // 2]
    return f"out {distances['unet.out']:.1e}, gradient worst {gradients[worst]:.1e} ({worst}), median {middle:.1e}"


def make(name, config, seed, found_versions):
    """Writes one folder: config.json, weights, reference.safetensors."""
    folder = FOLDER / "unet" / name
    shutil.rmtree(folder, ignore_errors=True)
    model = UNet2DModel(**config)
    randomize(model, seed)
    model.save_pretrained(folder)
    report(folder / "diffusion_pytorch_model.safetensors")

    single, double = UNet2DModel.from_pretrained(folder), UNet2DModel.from_pretrained(folder).double()
    inputs = batch(config, seed)
    expected, loss = evaluate(double, inputs)
    found, _ = evaluate(single, inputs)
    distances = float32_distances(found, expected)
    exact = float32_distances(with_exact_sinusoids(double, inputs), expected)
    print(f"{name}: {model.num_parameters()} parameters, |out| {expected['unet.out'].std():.2f}, loss {loss:.4f}")
    print(f"  torch float32: {summary(distances)}\n  exact sinusoids: {summary(exact)}")
    smallest = min((g.abs().max().item(), n) for n, g in expected.items() if not is_vanishing(n))
    print(f"  smallest gradient {smallest}")
    shown = mistaken(folder, inputs, expected)
    print(f"  mistakes: {shown}")
    assert all(moved == 0 or moved > 100 * distances["unet.out"] for moved in shown.values()), "a mistake could hide"
    about = {
        "versions": found_versions, "seed": seed, "loss": loss, "parameters": model.num_parameters(),
        "distance": "max|a - b| / max|b| from float64; for to_k.bias (gradient zero) over max|gradient of to_k.weight|",
        "float32": stated(distances), "exact_sinusoids": {"unet.out": exact["unet.out"]},
    }
    tensors = {n: v.float() if v.is_floating_point() else v for n, v in (inputs | expected).items()}
    write_tensors(folder / "reference.safetensors", tensors, about)


def make_old_names():
    """The first model under the key names, and with the short configuration, of the hub's google/ddpm-cifar10-32."""
    source, folder = FOLDER / "unet" / "ddpm-cifar10-like", FOLDER / "unet" / "old-names"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    config = {"_class_name": "UNet2DModel", "_diffusers_version": "0.0.4"} | CIFAR10_LIKE
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    weights = {old_name(name): tensor for name, tensor in load_file(source / "diffusion_pytorch_model.safetensors").items()}
    save_file(weights, folder / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})
    report(folder / "diffusion_pytorch_model.safetensors")

    inputs = batch(CIFAR10_LIKE, 0)
    new, old = (evaluate(UNet2DModel.from_pretrained(f), inputs)[0]["unet.out"] for f in (source, folder))
    assert torch.equal(new, old), "the library reads the two generations of names differently"
    print("old-names: the library's output is the same to the bit")


def old_name(name):
    """`mid_block.attentions.0.to_out.0.bias` → `mid_block.attentions.0.proj_attn.bias`; group_norm keeps its name."""
    for new, old in OLD_ATTENTION_NAMES.items():
        name = name.replace(f".{new}.", f".{old}.")
    return name


if __name__ == "__main__":
    found_versions = versions("torch", "diffusers", "safetensors", "numpy")
    for seed, (name, config) in enumerate(CONFIGS.items()):
        make(name, config, seed, found_versions)
    make_old_names()

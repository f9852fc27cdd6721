"""Stable Diffusion v1.5 in small: a text-conditioned U-Net, guided DDIM and three training steps, by diffusers in float64.

Every hyper-parameter of the published U-Net but the widths, the groups and the text's channels; beside it the variations
of Stable Diffusion 2. It empties the two U-Net folders first, and leaves everything else in `latent/` alone.
Run as `python tests/golden/make_latent.py` from the project root.
"""

import sys

sys.path.append(sys.path.pop(0))  # No neighbour of this script may stand in for a standard module.

import math
import shutil
from unittest import mock

import torch
from diffusers import DDIMScheduler, PNDMScheduler, UNet2DConditionModel
from safetensors.torch import load_file
from torch.nn import functional

from golden import FOLDER, brief, distance, normal, report, versions, write_json, write_tensors
from make_optimizer import constant_decay
from make_schedules import with_exact_table
from make_training import N_STEPS, SETTINGS, spread
from make_unet import float32_distances, stated, summary

LATENT = FOLDER / "latent"
# At these timesteps the library's float32 sinusoids are nearly exact: a port with better ones must not look worse.
SIZE, N_TOKENS, TIMESTEPS = 16, 77, (741, 37)
N_STAGES, GUIDANCE = 20, 7.5
SD15 = dict(
    sample_size=8, in_channels=4, out_channels=4, center_input_sample=False, flip_sin_to_cos=True, freq_shift=0,
    down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    block_out_channels=(8, 8, 16, 16), layers_per_block=2, downsample_padding=1, mid_block_scale_factor=1, act_fn="silu",
    norm_num_groups=4, norm_eps=1e-5, cross_attention_dim=32, attention_head_dim=8, use_linear_projection=False,
)
CONFIGS = {
    "unet": SD15,
    # As Stable Diffusion 2 has it: projections by linear layers, another number of heads in each level.
    "unet-linear": SD15 | dict(
        block_out_channels=(8, 8, 8, 8), layers_per_block=1, use_linear_projection=True, attention_head_dim=[2, 4, 4, 4],
        transformer_layers_per_block=1, upcast_attention=False,
    ),
}
SCHEDULER = {
    "_class_name": "PNDMScheduler", "_diffusers_version": "0.6.0", "beta_end": 0.012, "beta_schedule": "scaled_linear",
    "beta_start": 0.00085, "clip_sample": False, "num_train_timesteps": 1000, "set_alpha_to_one": False,
    "skip_prk_steps": True, "steps_offset": 1, "trained_betas": None,
}
MODEL_INDEX = {
    "_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.6.0", "feature_extractor": [None, None],
    "requires_safety_checker": False, "safety_checker": [None, None], "scheduler": ["diffusers", "PNDMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"],
}
# One parameter of every kind, over all parts of the network.
FOLLOWED = (
    "conv_in.weight", "time_embedding.linear_1.bias", "down_blocks.0.resnets.1.time_emb_proj.weight",
    "down_blocks.1.attentions.0.norm.weight", "down_blocks.2.attentions.1.proj_in.weight",
    "down_blocks.2.attentions.0.transformer_blocks.0.attn1.to_q.weight",
    "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight",
    "up_blocks.1.attentions.2.transformer_blocks.0.attn2.to_out.0.bias",
    "up_blocks.3.attentions.0.transformer_blocks.0.ff.net.0.proj.weight", "up_blocks.2.resnets.0.conv_shortcut.weight",
)


def randomize(model, seed):
    """Every parameter non-trivial: norms away from (1, 0), no zero biases, output and gradients of order one."""
    for index, (name, parameter) in enumerate(model.named_parameters()):
        drawn, is_weight = normal((seed, index), *parameter.shape), name.endswith("weight")
        if "norm" in name and is_weight:
            parameter.data.copy_(1 + 0.3 * drawn)
        else:
            scale = 1 / math.sqrt(math.prod(parameter.shape[1:])) if is_weight else 0.2
            parameter.data.copy_(gain(name) * scale * drawn)


def gain(name):
    """Small where a layer writes what a norm reads: at a variance near 0.01 a misread epsilon cannot hide."""
    writers = ("conv_in", "conv1", "conv2", "conv", "conv_shortcut", "time_emb_proj", "proj_in", "proj_out", "to_out.0")
    layer, _, kind = name.rpartition(".")
    passes_on = kind == "weight" and layer.endswith(("conv", "conv_shortcut"))
    if layer.endswith("net.2"):  # What a feed-forward layer adds shall show, but not drown the rest.
        return 0.4
    return 0.1 if layer.endswith(writers) and not passes_on else 1.3


def batch(seed):
    """Latents, a timestep and a text for each of them, and the noise to be predicted."""
    n, channels = len(TIMESTEPS), SD15["in_channels"]
    return {
        "unet.x": normal((seed, 1), n, channels, SIZE, SIZE), "unet.t": torch.tensor(TIMESTEPS),
        "unet.context": normal((seed, 2), n, N_TOKENS, SD15["cross_attention_dim"]),
        "unet.noise": normal((seed, 3), n, channels, SIZE, SIZE),
    }


def predict(model, inputs):
    """The network's output for a batch, in the network's precision, and the mean squared error."""
    x, context, noise = (inputs[f"unet.{name}"].to(model.dtype) for name in ("x", "context", "noise"))
    out = model(x, inputs["unet.t"], encoder_hidden_states=context).sample
    return out, (out - noise).square().mean()


def evaluate(model, inputs):
    """Output, gradients and loss."""
    model.zero_grad()
    out, loss = predict(model, inputs)
    loss.backward()
    gradients = {f"unet.grad.{name}": p.grad.detach().clone() for name, p in model.named_parameters()}
    return {"unet.out": out.detach()} | gradients, loss.item()


def with_exact_sinusoids(model, inputs):
    """Output and gradients with the time embedding's sinusoids in float64; the library computes them in float32 always."""
    half = model.config.block_out_channels[0] // 2
    angles = inputs["unet.t"].double()[:, None] * torch.exp(-math.log(10000) * torch.arange(half).double() / half)
    exact = torch.cat([torch.cos(angles), torch.sin(angles)], dim=-1)
    hook = model.time_proj.register_forward_hook(lambda *_: exact)
    found, _ = evaluate(model, inputs)
    hook.remove()
    return found


def misread_epsilons(kind, eps):
    """A change that gives every norm of a kind within the transformers another epsilon."""
    def change(model):
        for name, module in model.named_modules():
            if "attentions" in name and isinstance(module, kind):
                module.eps = eps
    return change


def swap_gate(model):
    """The gate of the feed-forward layers in front of what it gates."""
    for name, parameter in model.named_parameters():
        if ".ff.net.0.proj." in name:
            parameter.data.copy_(parameter.data.roll(len(parameter) // 2, 0))


def mistakes(config):
    """Options and constants that a port may misread without changing a shape: changed options, or a change of the model."""
    widths, heads = config["block_out_channels"], config["attention_head_dim"]
    per_level = heads if isinstance(heads, list) else [heads] * len(widths)
    return {
        "norm_eps": {"norm_eps": 1e-6}, "flip_sin_to_cos": {"flip_sin_to_cos": False}, "freq_shift": {"freq_shift": 1},
        "downsample_padding": {"downsample_padding": 0}, "mid_block_scale_factor": {"mid_block_scale_factor": 2},
        "center_input_sample": {"center_input_sample": True}, "act_fn": {"act_fn": "gelu"},
        "one head": {"attention_head_dim": 1},
        "heads taken for their size": {"attention_head_dim": [max(w // h, 1) for w, h in zip(widths, per_level, strict=True)]},
        "group norm's epsilon 1e-5 before attention": misread_epsilons(torch.nn.GroupNorm, 1e-5),
        "layer norm's epsilon 1e-6": misread_epsilons(torch.nn.LayerNorm, 1e-6),
        "gate in front": swap_gate,
    }


def mistaken(folder, config, inputs, expected):
    """How far each mistake moves the output."""
    found, weights = {}, load_file(folder / "diffusion_pytorch_model.safetensors")

    def moved(change):
        options = change if isinstance(change, dict) else {}
        model = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(folder) | options).eval()
        model.load_state_dict(weights)
        if not isinstance(change, dict):
            change(model)
        with torch.no_grad():
            return brief(distance(predict(model.double(), inputs)[0], expected["unet.out"]))

    found = {name: moved(change) for name, change in mistakes(config).items()}
    exact = functional.gelu
    with mock.patch("torch.nn.functional.gelu", lambda x, **_: exact(x, approximate="tanh")):
        return found | {"gelu by tanh": moved({})}


def make_unet(name, seed, found_versions):
    """Writes one folder with config.json and weights, and `<name>.safetensors` beside it; gradients for `unet` alone."""
    folder, inputs = LATENT / name, batch(seed)
    shutil.rmtree(folder, ignore_errors=True)
    model = UNet2DConditionModel(**CONFIGS[name])
    randomize(model, seed)
    model.save_pretrained(folder)
    report(folder / "diffusion_pytorch_model.safetensors")

    single, double = (UNet2DConditionModel.from_pretrained(folder, torch_dtype=dtype) for dtype in (torch.float32, torch.float64))
    expected, loss = evaluate(double, inputs)
    distances = float32_distances(evaluate(single, inputs)[0], expected)
    exact = float32_distances(with_exact_sinusoids(double, inputs), expected)
    print(f"{name}: {len(model.state_dict())} tensors, {model.num_parameters()} parameters, |out| {expected['unet.out'].std():.2f}, loss {loss:.4f}")
    print(f"  torch float32: {summary(distances)}\n  exact sinusoids: {summary(exact)}")
    print(f"  smallest gradient {min((g.abs().max().item(), n) for n, g in expected.items())}")
    shown = mistaken(folder, CONFIGS[name], inputs, expected)
    print(f"  mistakes: {shown}")
    assert all(moved > 100 * distances["unet.out"] for moved in shown.values()), "a mistake could hide"

    kept = expected if name == "unet" else {"unet.out": expected["unet.out"]}
    about = {
        "versions": found_versions, "seed": seed, "loss": loss, "parameters": model.num_parameters(),
        "distance": "max|a - b| / max|b| from float64", "float32": stated({n: d for n, d in distances.items() if n in kept}),
        "exact_sinusoids": {"unet.out": exact["unet.out"]}, "mistakes": {"unet.out": shown},
    }
    write_tensors(LATENT / f"{name}.safetensors", as_floats(inputs | kept), about)


def as_floats(tensors):
    """float64 → float32; integers stay."""
    return {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}


def walk(dtype, exact, inputs):
    """The last stages of DDIM without and with guidance, eta 0, from a middle timestep down to 1."""
    model = UNet2DConditionModel.from_pretrained(LATENT / "unet", torch_dtype=dtype)
    scheduler = DDIMScheduler.from_config(PNDMScheduler.load_config(LATENT / "scheduler"))
    scheduler.set_timesteps(N_STAGES)
    scheduler = with_exact_table(scheduler, "scaled_linear") if exact else scheduler
    timesteps = scheduler.timesteps.tolist()[-N_STAGES // 2:]
    start, context, uncond = (inputs[name].to(dtype) for name in ("ddim.x", "unet.context", "unet.uncond"))
    plain, guided = start, start
    with torch.no_grad():
        for t in timesteps:
            plain = scheduler.step(model(plain, t, context).sample, t, plain, eta=0.0).prev_sample
            without, towards = model(guided, t, uncond).sample, model(guided, t, context).sample
            guided = scheduler.step(without + GUIDANCE * (towards - without), t, guided, eta=0.0).prev_sample
    return {"ddim.timesteps": torch.tensor(timesteps), "ddim.out": plain, "ddim.guided": guided}


def make_walk(seed, found_versions):
    """walk.safetensors: the distances say how far torch's float32, and the library's float32 table, stay from it."""
    channels, words = SD15["in_channels"], SD15["cross_attention_dim"]
    inputs = {
        "ddim.x": normal((seed, 1), 2, channels, SIZE, SIZE), "unet.context": normal((seed, 2), 2, N_TOKENS, words),
        # One text for all, as an empty prompt is.
        "unet.uncond": normal((seed, 3), 1, N_TOKENS, words).repeat(2, 1, 1),
    }
    expected, distances = walk(torch.float64, True, inputs), {}
    for case, (dtype, exact) in {
        "float32, exact table": (torch.float32, True), "float32, library's table": (torch.float32, False),
        "float64, library's table": (torch.float64, False),
    }.items():
        found = walk(dtype, exact, inputs)
        distances[case] = {name: brief(distance(found[name], expected[name])) for name in ("ddim.out", "ddim.guided")}
    apart = distance(expected["ddim.guided"], expected["ddim.out"])
    spreads = {name: brief(expected[name].std().item()) for name in ("ddim.out", "ddim.guided")}
    print(f"walk {expected['ddim.timesteps'].tolist()} {distances}, spread {spreads}, guidance moves {apart:.2f}")
    about = {"versions": found_versions, "schedule": SCHEDULER, "stages": N_STAGES, "guidance": GUIDANCE, "eta": 0.0, "distances": distances}
    write_tensors(LATENT / "walk.safetensors", as_floats(inputs | expected), about)


def train(dtype, inputs):
    """Losses and gradient norms before each step's clipping, then the followed parameters and their average."""
    model = UNet2DConditionModel.from_pretrained(LATENT / "unet", torch_dtype=dtype)
    parameters = dict(model.named_parameters())
    optimizer = torch.optim.AdamW(
        parameters.values(), SETTINGS["adamw.learning_rate"], SETTINGS["adamw.betas"], SETTINGS["adamw.eps"],
        SETTINGS["adamw.weight_decay"], foreach=False,
    )
    average, losses, norms = constant_decay(parameters.values(), SETTINGS["ema.decay"]), [], []
    for _ in range(N_STEPS):
        optimizer.zero_grad()
        _, loss = predict(model, inputs)
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(parameters.values(), SETTINGS["adamw.clip"], foreach=False))
        losses.append(loss.detach())
        optimizer.step()
        average.step(parameters.values())
    shadows = dict(zip(parameters, average.shadow_params, strict=True))
    found = {"unet.losses": torch.stack(losses), "unet.gradient_norms": torch.stack(norms)}
    found |= {f"unet.after3.{name}": parameters[name].detach() for name in FOLLOWED}
    return found | {f"unet.ema3.{name}": shadows[name] for name in FOLLOWED}


def make_training(seed, found_versions):
    """training.safetensors: three steps of `unet` on the batch of `unet.safetensors`, which it holds again."""
    inputs = batch(seed)
    double, single = train(torch.float64, inputs), train(torch.float32, inputs)
    distances = {name: brief(distance(single[name], double[name])) for name in double}
    measured = {prefix: spread(distances, prefix) for prefix in ("unet.losses", "unet.gradient_norms", "unet.after3.", "unet.ema3.")}
    print("losses", double["unet.losses"].tolist(), "gradient norms", double["unet.gradient_norms"].tolist())
    for prefix, figures in measured.items():
        print(f"torch float32, {prefix}: {figures}")
    about = {"versions": found_versions, "distance": "max|a - b| / max|b| from float64, over the tensors", "float32": measured}
    values = {n: v.float() if n.startswith(("unet.after3.", "unet.ema3.")) else v for n, v in double.items()}
    settings = {n: torch.tensor(v, dtype=torch.float64) for n, v in SETTINGS.items()}
    write_tensors(LATENT / "training.safetensors", as_floats(inputs) | settings | values, about)


def main():
    """The descriptions first: the walk reads the scheduler's."""
    found_versions = versions("torch", "diffusers", "safetensors", "numpy")
    (LATENT / "scheduler").mkdir(parents=True, exist_ok=True)
    write_json(LATENT / "scheduler" / "scheduler_config.json", SCHEDULER)
    write_json(LATENT / "model_index.json", MODEL_INDEX)
    make_unet("unet", 60, found_versions)
    make_unet("unet-linear", 61, found_versions)
    make_walk(62, found_versions)
    make_training(60, found_versions)


if __name__ == "__main__":
    main()

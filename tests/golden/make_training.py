"""Three AdamW steps of the `defaults-like` network on one fixed batch, by torch in float64.

Run as `python tests/golden/make_training.py` from the project root, after make_unet.py.
"""

import sys

sys.path.append(sys.path.pop(0))  # No neighbour of this script may stand in for a standard module.

import torch
from diffusers import UNet2DModel
from safetensors.torch import load_file

from golden import FOLDER, brief, distance, versions, write_tensors
from make_optimizer import constant_decay
from make_unet import is_vanishing

MODEL = FOLDER / "unet" / "defaults-like"
N_STEPS = 3
SETTINGS = {
    "adamw.learning_rate": 1e-3, "adamw.betas": (0.9, 0.999), "adamw.eps": 1e-8, "adamw.weight_decay": 0.01,
    "adamw.clip": 1.0, "ema.decay": 0.9,
}


def train(dtype, batch):
    """Losses and gradient norms before each step's clipping, then parameters and average after the last step."""
    model = UNet2DModel.from_pretrained(MODEL).to(dtype)
    names, parameters = zip(*model.named_parameters())
    optimizer = torch.optim.AdamW(
        parameters, SETTINGS["adamw.learning_rate"], SETTINGS["adamw.betas"], SETTINGS["adamw.eps"],
        SETTINGS["adamw.weight_decay"], foreach=False,
    )
    average, losses, norms = constant_decay(parameters, SETTINGS["ema.decay"]), [], []
    for _ in range(N_STEPS):
        optimizer.zero_grad()
        out = model(batch["unet.x"].to(dtype), batch["unet.t"]).sample
        loss = (out - batch["unet.noise"].to(dtype)).square().mean()
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(parameters, SETTINGS["adamw.clip"], foreach=False))
        losses.append(loss.detach())
        optimizer.step()
        average.step(parameters)
    found = {"unet.losses": torch.stack(losses), "unet.gradient_norms": torch.stack(norms)}
    found |= {f"unet.after3.{n}": p.detach() for n, p in zip(names, parameters, strict=True)}
    return found | {f"unet.ema3.{n}": s for n, s in zip(names, average.shadow_params, strict=True)}


def spread(distances, prefix):
    """Worst and median distance over the tensors under a prefix, key biases aside."""
    found = sorted(d for n, d in distances.items() if n.startswith(prefix) and not is_vanishing(n))
    return {"worst": found[-1], "median": found[len(found) // 2]}


def main():
    """Writes training.safetensors beside the model, batch and settings included."""
    found_versions = versions("torch", "diffusers", "safetensors", "numpy")
    batch = {n: v for n, v in load_file(MODEL / "reference.safetensors").items() if n in ("unet.x", "unet.t", "unet.noise")}
    double, single = train(torch.float64, batch), train(torch.float32, batch)
    distances = {name: brief(distance(single[name], double[name])) for name in double}
    initial = load_file(MODEL / "diffusion_pytorch_model.safetensors")
    moved = {n: distance(initial[n.split(".", 2)[2]], double[n]) for n in double if n.startswith("unet.after3.")}
    print("losses", double["unet.losses"].tolist(), "gradient norms", double["unet.gradient_norms"].tolist())
    print("moved by the three steps, least:", min((d, n) for n, d in moved.items() if not is_vanishing(n)))
    measured = {prefix: spread(distances, prefix) for prefix in ("unet.losses", "unet.gradient_norms", "unet.after3.", "unet.ema3.")}
    measured["key biases"] = {"worst": max(d for n, d in distances.items() if is_vanishing(n))}
    for prefix, figures in measured.items():
        print(f"torch float32, {prefix}: {figures}")
    about = {"versions": found_versions, "distance": "max|a - b| / max|b| from float64, over the tensors", "float32": measured}
    values = {n: v.float() if n.startswith(("unet.after3.", "unet.ema3.")) else v for n, v in double.items()}
    settings = {n: torch.tensor(v, dtype=torch.float64) for n, v in SETTINGS.items()}
    write_tensors(MODEL / "training.safetensors", batch | settings | values, about)


if __name__ == "__main__":
    main()

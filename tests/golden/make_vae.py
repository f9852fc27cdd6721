"""A small random AutoencoderKL with every hyper-parameter of Stable Diffusion v1.5 but the widths, by diffusers in float64.

Moments, a decoded latent, and the gradient of mean |x - decode(z)| + weight * mean KL in every parameter.
Run as `python tests/golden/make_vae.py` from the project root.
"""

import sys

sys.path.append(sys.path.pop(0))  # No neighbour of this script may stand in for a standard module.

import json
import shutil

import torch
from diffusers import AutoencoderKL
from safetensors.torch import save_file

from golden import FOLDER, brief, distance, normal, report, versions, write_tensors

CONFIG = dict(
    act_fn="silu", block_out_channels=(4, 8, 8, 8), down_block_types=("DownEncoderBlock2D",) * 4, in_channels=3,
    latent_channels=4, layers_per_block=2, norm_num_groups=2, out_channels=3, sample_size=32,
    up_block_types=("UpDecoderBlock2D",) * 4,
)
KL_WEIGHT = 0.03


def randomise(model):
    """Numbers that float32 holds: norms about 1, biases that are not 0."""
    for i, (name, parameter) in enumerate(sorted(model.named_parameters())):
        drawn = normal(1_000 + i, *parameter.shape)
        if parameter.dim() > 1:
            fan_in = parameter[0].numel()
            drawn = drawn / fan_in**0.5
        elif "norm" in name and name.endswith("weight"):
            drawn = 1 + 0.1 * drawn
        else:
            drawn = 0.1 * drawn
        parameter.data.copy_(drawn.float())


def objective(model, image, noise):
    """(mean, logvar, loss) of one batch."""
    posterior = model.encode(image).latent_dist
    mean, logvar = posterior.mean, posterior.logvar
    decoded = model.decode(mean + (0.5 * logvar).exp() * noise).sample
    divergence = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).mean()
    return mean, logvar, (decoded - image).abs().mean() + KL_WEIGHT * divergence


def values(model, dtype):
    """Everything that the reference holds, computed in `dtype`."""
    model = model.to(dtype)
    model.zero_grad()
    image, latent, noise = (normal(seed, *shape).to(dtype) for seed, shape in
                            [(1, (2, 3, 32, 32)), (2, (2, 4, 4, 4)), (3, (2, 4, 4, 4))])
    image = image.clamp(-1, 1)
    mean, logvar, loss = objective(model, image, noise)
    loss.backward()
    found = {"vae.image": image, "vae.mean": mean, "vae.logvar": logvar, "vae.noise": noise, "vae.loss": loss.reshape(1),
             "vae.decode_in": latent, "vae.decode_out": model.decode(latent).sample,
             "vae.kl_weight": torch.tensor([KL_WEIGHT], dtype=dtype)}
    return found | {f"vae.grad.{name}": p.grad.clone() for name, p in model.named_parameters()}


def main():
    """Writes tests/golden/latent/vae and tests/golden/latent/vae.safetensors."""
    about = versions("torch", "diffusers", "safetensors", "numpy")
    model = AutoencoderKL(**CONFIG)
    randomise(model)
    folder = FOLDER / "latent" / "vae"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    config = json.loads(model.to_json_string())
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    report(folder / "config.json")
    weights = {name: tensor.detach().float().contiguous() for name, tensor in sorted(model.state_dict().items())}
    save_file(weights, folder / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})
    report(folder / "diffusion_pytorch_model.safetensors")
    single = {name: tensor.detach().double() for name, tensor in values(model, torch.float32).items()}
    double = values(model, torch.float64)
    # The bias of the keys moves every logit of a query alike: its gradient is nothing but rounding.
    off = {name: brief(distance(single[name], double[name])) for name in double if not name.endswith("to_k.bias")}
    gradients = sorted(v for name, v in off.items() if name.startswith("vae.grad."))
    print("float32 against float64:", {name: off[name] for name in ("vae.mean", "vae.logvar", "vae.decode_out")},
          "gradients: median", gradients[len(gradients) // 2], "largest", gradients[-1])
    write_tensors(FOLDER / "latent" / "vae.safetensors", {name: t.float() for name, t in double.items()}, about)


if __name__ == "__main__":
    main()

"""AdamW with clipping, warm-up and a constant-decay average on small tensors with given gradients, by torch in float64.

Run as `python tests/golden/make_optimizer.py` from the project root.
"""

import sys

sys.path.append(sys.path.pop(0))  # No neighbour of this script may stand in for a standard module.

import torch
from diffusers.training_utils import EMAModel

from golden import FOLDER, brief, distance, normal, versions, write_tensors

N_STEPS, WARM_UP_STEPS = 5, 3
LEARNING_RATE, BETAS, EPS, CLIP = 1e-2, (0.9, 0.999), 1e-8, 1.0
BATCH_IMAGES, HALF_LIFE_IMAGES = 16, 100
SHAPES = {"matrix": (3, 4), "vector": (5,), "single": (1,)}
# Total norms on both sides of the clip, one of them far below Adam's eps.
GRADIENT_SCALES = (1.0, 0.05, 3.0, 1e-9, 0.3)


def constant_decay(parameters, decay):
    """EMAModel with its warm-up switched off: shadow = decay * shadow + (1 - decay) * parameter from the first step."""
    return EMAModel(parameters, decay=decay, min_decay=decay, update_after_step=-1)


def gradients():
    """[N_STEPS, ...] per tensor; one entry is zero throughout, one only at first."""
    found = {}
    for index, (name, shape) in enumerate(SHAPES.items()):
        found[name] = torch.stack([scale * normal((10, index, k), *shape) for k, scale in enumerate(GRADIENT_SCALES)])
    found["matrix"][:, 1, 2] = 0
    found["vector"][:2, 3] = 0
    return found


def learning_rates():
    """Linear warm-up: step k (from 1) runs at LEARNING_RATE * min(1, k / WARM_UP_STEPS)."""
    return [LEARNING_RATE * min(1, k / WARM_UP_STEPS) for k in range(1, N_STEPS + 1)]


def run(weight_decay, dtype):
    """All that changes, after each step, as [N_STEPS, ...]."""
    parameters = {n: torch.nn.Parameter(normal((11, i), *s).to(dtype)) for i, (n, s) in enumerate(SHAPES.items())}
    optimizer = torch.optim.AdamW(parameters.values(), LEARNING_RATE, BETAS, EPS, weight_decay, foreach=False)
    decay = 0.5 ** (BATCH_IMAGES / HALF_LIFE_IMAGES)
    average = constant_decay(parameters.values(), decay)
    given, states, norms = gradients(), [], []
    for k, rate in enumerate(learning_rates()):
        optimizer.param_groups[0]["lr"] = rate
        for name, parameter in parameters.items():
            parameter.grad = given[name][k].to(dtype)
        norms.append(torch.nn.utils.clip_grad_norm_(parameters.values(), CLIP, foreach=False))
        optimizer.step()
        average.step(parameters.values())
        assert average.cur_decay_value == decay
        states.append(snapshot(parameters, optimizer, average))
    stacked = {name: torch.stack([state[name] for state in states]) for name in states[0]}
    return stacked | {"gradient_norms": torch.stack(norms)}


def snapshot(parameters, optimizer, average):
    """Copies of parameters, both moments and the average."""
    state = {}
    for (name, parameter), shadow in zip(parameters.items(), average.shadow_params, strict=True):
        moments = optimizer.state[parameter]
        state[f"parameter.{name}"] = parameter.detach().clone()
        state[f"first_moment.{name}"] = moments["exp_avg"].clone()
        state[f"second_moment.{name}"] = moments["exp_avg_sq"].clone()
        state[f"ema.{name}"] = shadow.clone()
    return state


def by_hand(weight_decay):
    """The parameters after each step from the published recursion, to check how the library was called."""
    parameters = {n: normal((11, i), *s) for i, (n, s) in enumerate(SHAPES.items())}
    first = {n: torch.zeros_like(p) for n, p in parameters.items()}
    second, averages = {n: m.clone() for n, m in first.items()}, {n: p.clone() for n, p in parameters.items()}
    decay, found = 0.5 ** (BATCH_IMAGES / HALF_LIFE_IMAGES), {n: [] for n in SHAPES} | {f"ema.{n}": [] for n in SHAPES}
    for k, rate in enumerate(learning_rates(), start=1):
        step = {n: g[k - 1] for n, g in gradients().items()}
        total = sum(g.square().sum() for g in step.values()).sqrt()
        for name, p in parameters.items():
            g = step[name] * min(1.0, CLIP / (total + 1e-6))
            first[name] = BETAS[0] * first[name] + (1 - BETAS[0]) * g
            second[name] = BETAS[1] * second[name] + (1 - BETAS[1]) * g**2
            root = (second[name] / (1 - BETAS[1] ** k)).sqrt() + EPS
            parameters[name] = p * (1 - rate * weight_decay) - rate * first[name] / (1 - BETAS[0] ** k) / root
            averages[name] = decay * averages[name] + (1 - decay) * parameters[name]
            found[name].append(parameters[name])
            found[f"ema.{name}"].append(averages[name])
    return {name: torch.stack(steps) for name, steps in found.items()}


def main():
    """Writes optimizer.safetensors: the common inputs, then `wd0.01.` and `wd0.` with the states of each run."""
    about = {"versions": versions("torch", "diffusers", "safetensors", "numpy"), "float32": {}}
    tensors = {
        "learning_rates": torch.tensor(learning_rates(), dtype=torch.float64),
        "betas": torch.tensor(BETAS, dtype=torch.float64),
        "eps": torch.tensor(EPS, dtype=torch.float64),
        "clip": torch.tensor(CLIP, dtype=torch.float64),
        "ema.batch_images": torch.tensor(BATCH_IMAGES, dtype=torch.float64),
        "ema.half_life_images": torch.tensor(HALF_LIFE_IMAGES, dtype=torch.float64),
        "ema.decay": torch.tensor(0.5 ** (BATCH_IMAGES / HALF_LIFE_IMAGES), dtype=torch.float64),
    }
    tensors |= {f"initial.{n}": normal((11, i), *s) for i, (n, s) in enumerate(SHAPES.items())}
    tensors |= {f"gradient.{n}": g for n, g in gradients().items()}
    for weight_decay in (0.01, 0.0):
        prefix = f"wd{weight_decay:g}"
        double, single = run(weight_decay, torch.float64), run(weight_decay, torch.float32)
        for name, expected in by_hand(weight_decay).items():
            found = double[name if name.startswith("ema.") else f"parameter.{name}"]
            assert distance(found, expected) <= 1e-14, name
        about["float32"] |= {f"{prefix}.{n}": brief(distance(single[n], double[n])) for n in double}
        tensors |= {f"{prefix}.{name}": value for name, value in double.items()}
        tensors[f"{prefix}.weight_decay"] = torch.tensor(weight_decay, dtype=torch.float64)
        print(prefix, "gradient norms", [f"{n:.3g}" for n in double["gradient_norms"].tolist()])
    print("torch float32, worst:", max(about["float32"].items(), key=lambda item: item[1]))
    write_tensors(FOLDER / "optimizer.safetensors", tensors, about)


if __name__ == "__main__":
    main()

"""DDIM and ancestral DDPM steps on given network outputs and noise, and on a real small network, by diffusers in float64.

The library's arithmetic runs on the exact float64 schedule; its own float32 table is only measured against it.
Run as `python tests/golden/make_samplers.py` from the project root, after make_unet.py.
"""

import sys

sys.path.append(sys.path.pop(0))  # No neighbour of this script may stand in for a standard module.

from itertools import product
from unittest import mock

import torch
from diffusers import DDIMScheduler, DDPMScheduler, UNet2DModel

from golden import FOLDER, brief, distance, normal, versions, write_tensors
from make_schedules import library, with_exact_table

N_STAGES, SHAPE = 5, (2, 1, 3, 3)
PREDICTIONS = ("epsilon", "v_prediction", "sample")
MODEL = FOLDER / "unet" / "ddpm-cifar10-like"


def ddim_cases():
    """Every option that changes a DDIM step; both usual pairs of offset and last alpha, and the two odd ones once."""
    pairs = [(True, 0), (False, 1)]
    found = list(product(PREDICTIONS, (0.0, 0.5), (True, False), pairs))
    found += [("epsilon", 0.0, False, pair) for pair in [(True, 1), (False, 0)]]
    for prediction, eta, clip, (to_one, offset) in found:
        name = f"ddim.{prediction}.eta{eta:g}.{'clip' if clip else 'free'}.{'one' if to_one else 'first'}.offset{offset}"
        yield name, {"eta": eta}, {
            "prediction_type": prediction, "clip_sample": clip, "set_alpha_to_one": to_one, "steps_offset": offset,
        }


def ddpm_cases():
    """Every option that changes an ancestral step, on spaced timesteps."""
    for prediction, variance, clip in product(PREDICTIONS, ("fixed_small", "fixed_large"), (True, False)):
        name = f"ddpm.{prediction}.{variance}.{'clip' if clip else 'free'}"
        yield name, {}, {"prediction_type": prediction, "variance_type": variance, "clip_sample": clip}


def step(scheduler, output, t, x, noise, **options):
    """One library step with the noise as an argument; the two samplers take it by different doors."""
    if isinstance(scheduler, DDIMScheduler):
        return scheduler.step(output, t, x, variance_noise=noise if options["eta"] > 0 else None, **options)
    with mock.patch("diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *_, **__: noise):
        return scheduler.step(output, t, x)


def walk(scheduler, timesteps, x, network, noise, **options):
    """All stages: the sample after each step, and the clean prediction (clipped where asked) within it."""
    samples, clean = [], []
    for k, t in enumerate(timesteps):
        found = step(scheduler, network(k, t, x), t, x, noise[k], **options)
        x = found.prev_sample
        samples.append(x)
        clean.append(found.pred_original_sample)
    return {"samples": torch.stack(samples), "clean": torch.stack(clean)}


def given_outputs(found_versions):
    """samplers.safetensors: a fixed list of tensors stands for the network."""
    inputs = {"x": normal(30, *SHAPE), "model_output": normal(31, N_STAGES, *SHAPE), "noise": normal(32, N_STAGES, *SHAPE)}
    tensors, cases, singles, tables = dict(inputs), [], {}, {}
    kinds = [(DDIMScheduler, case) for case in ddim_cases()] + [(DDPMScheduler, case) for case in ddpm_cases()]
    # The last four timesteps of the whole chain: consecutive, down to 0.
    kinds += [(DDPMScheduler, (name + ".consecutive", *rest)) for name, *rest in ddpm_cases() if "epsilon" in name]
    for kind, (name, call, options) in kinds:
        whole = name.endswith("consecutive")

        def run(dtype, exact):
            scheduler = library("linear", kind, **options)
            scheduler.set_timesteps(1000 if whole else N_STAGES)
            scheduler = with_exact_table(scheduler, "linear") if exact else scheduler
            given = {key: value.to(dtype) for key, value in inputs.items()}
            timesteps = scheduler.timesteps.tolist()[-4:] if whole else scheduler.timesteps.tolist()
            return timesteps, walk(scheduler, timesteps, given["x"], lambda k, *_: given["model_output"][k], given["noise"], **call)

        timesteps, expected = run(torch.float64, exact=True)
        singles[name] = distance(run(torch.float32, exact=True)[1]["samples"], expected["samples"])
        tables[name] = distance(run(torch.float32, exact=False)[1]["samples"], expected["samples"])
        tensors |= {f"{name}.{key}": value for key, value in expected.items()}
        cases.append({"name": name, "timesteps": timesteps, **call, **options})
    worst = {"exact table": brief(max(singles.values())), "library's table": brief(max(tables.values()))}
    print(f"{len(cases)} cases, float32 tensors, worst: {worst}")
    write_tensors(FOLDER / "samplers.safetensors", tensors, {
        "versions": found_versions, "schedule": "linear, 1e-4 to 0.02, T = 1000", "cases": cases, "float32": worst,
    })


def real_network(found_versions):
    """sampling.safetensors beside the model: the last 10 of 20 stages, from the middle timestep 450 down to 0.

    A walk from pure noise under random weights is chaotic, and would say nothing about a port.
    """
    shape = (1, 3, 16, 16)
    inputs = {"ddim.x": normal(40, *shape), "ddpm.x": normal(41, *shape), "ddpm.noise": normal(42, 10, *shape)}
    tensors, distances = dict(inputs), {}
    for name, kind, call in [("ddim", DDIMScheduler, {"eta": 0.0}), ("ddpm", DDPMScheduler, {})]:

        def run(dtype, exact):
            model = UNet2DModel.from_pretrained(MODEL, torch_dtype=dtype)
            scheduler = library("linear", kind)
            scheduler.set_timesteps(20)
            scheduler = with_exact_table(scheduler, "linear") if exact else scheduler
            timesteps = scheduler.timesteps.tolist()[-10:]
            noise = inputs["ddpm.noise"].to(dtype)
            with torch.no_grad():
                return timesteps, walk(scheduler, timesteps, inputs[f"{name}.x"].to(dtype), lambda _, t, x: model(x, t).sample, noise, **call)

        timesteps, expected = run(torch.float64, exact=True)
        tensors[f"{name}.timesteps"] = torch.tensor(timesteps)
        tensors[f"{name}.out"] = expected["samples"][-1]
        last = {
            "float32, exact table": run(torch.float32, exact=True), "float32, library's table": run(torch.float32, exact=False),
            "float64, library's table": run(torch.float64, exact=False),
        }
        distances[name] = {key: brief(distance(found["samples"][-1], tensors[f"{name}.out"])) for key, (_, found) in last.items()}
        clipped = (expected["clean"].abs() == 1).double().mean(dim=(1, 2, 3, 4))
        print(name, timesteps, distances[name], "clipped", [f"{c:.2f}" for c in clipped.tolist()])
    tensors = {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}
    about = {
        "versions": found_versions, "schedule": "linear, 1e-4 to 0.02, T = 1000", "clip_sample": True, "eta": 0.0,
        "set_alpha_to_one": True, "variance_type": "fixed_small", "prediction_type": "epsilon", "distances": distances,
    }
    write_tensors(MODEL / "sampling.safetensors", tensors, about)


if __name__ == "__main__":
    found_versions = versions("torch", "diffusers", "safetensors", "numpy")
    given_outputs(found_versions)
    real_network(found_versions)

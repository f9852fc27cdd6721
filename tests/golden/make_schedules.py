"""Noise schedules, timestep lists, weights and conversions: float64 tables beside the library's float32.

Run as `python tests/golden/make_schedules.py` from the project root.
"""

import sys

sys.path.append(sys.path.pop(0))  # No neighbour of this script may stand in for a standard module.

import math

import mpmath
import numpy as np
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from diffusers.training_utils import compute_snr

from golden import FOLDER, brief, normal, versions, write_json

T = 1000
KEPT = sorted({*range(0, T, 50), *range(5), *range(T - 5, T)})
SCHEDULES = {
    "linear": {"beta_start": 1e-4, "beta_end": 0.02},
    "scaled_linear": {"beta_start": 0.00085, "beta_end": 0.012},
    "squaredcos_cap_v2": {"max_beta": 0.999},
}
GAMMA = 5.0


def betas(name):
    """beta_t in float64, as the library defines it but for its float32."""
    constants = SCHEDULES[name]
    if name == "linear":
        return np.linspace(constants["beta_start"], constants["beta_end"], T)
    if name == "scaled_linear":
        return np.linspace(math.sqrt(constants["beta_start"]), math.sqrt(constants["beta_end"]), T) ** 2
    level = [math.cos((t / T + 0.008) / 1.008 * math.pi / 2) ** 2 for t in range(T + 1)]
    return np.array([min(1 - level[t + 1] / level[t], constants["max_beta"]) for t in range(T)])


def alphas_cumprod(name):
    """alpha_bar_t for t = 0..T-1, float64."""
    return np.cumprod(1 - betas(name))


def alphas_cumprod_to_50_digits(name):
    """The same tables without float64's rounding; the constants are the decimal numbers as written."""
    with mpmath.workdps(50):
        written = [mpmath.mpf(repr(value)) for value in SCHEDULES[name].values()]
        if name == "squaredcos_cap_v2":
            level = [mpmath.cos((mpmath.mpf(t) / T + mpmath.mpf("0.008")) / mpmath.mpf("1.008") * mpmath.pi / 2) ** 2 for t in range(T + 1)]
            table = [min(1 - level[t + 1] / level[t], written[0]) for t in range(T)]
        else:
            power = 2 if name == "scaled_linear" else 1
            start, end = (mpmath.root(value, power) for value in written)
            table = [(start + (end - start) * t / (T - 1)) ** power for t in range(T)]
        product, found = mpmath.mpf(1), []
        for beta in table:
            product *= 1 - beta
            found.append(product)
        return found


def library(name, kind=DDPMScheduler, **options):
    """The library's scheduler for one of the schedules."""
    limits = {key: value for key, value in SCHEDULES[name].items() if key != "max_beta"}
    return kind(num_train_timesteps=T, beta_schedule=name, **limits, **options)


def with_exact_table(scheduler, name):
    """The library's arithmetic on the float64 table in place of its own float32 one."""
    scheduler.alphas_cumprod = torch.from_numpy(alphas_cumprod(name))
    scheduler.one = torch.tensor(1.0, dtype=torch.float64)
    if hasattr(scheduler, "final_alpha_cumprod"):
        to_one = scheduler.config.set_alpha_to_one
        scheduler.final_alpha_cumprod = scheduler.one if to_one else scheduler.alphas_cumprod[0]
    return scheduler


def schedule(name):
    """One table at the kept timesteps, with how far numpy and the library are from 50 digits."""
    table, single = alphas_cumprod(name), library(name).alphas_cumprod.double().numpy()
    exact = alphas_cumprod_to_50_digits(name)

    def furthest(found):
        signal = max(abs(a / b - 1) for a, b in zip(map(mpmath.mpf, found), exact))
        noise = max(abs((1 - a) / (1 - b) - 1) for a, b in zip(map(mpmath.mpf, found), exact))
        return {"alphas_cumprod": brief(float(signal)), "one_minus_alphas_cumprod": brief(float(noise))}

    distances = {"float64": furthest(table.tolist()), "library_float32": furthest(single.tolist())}
    print(name, distances)
    # The cosine's first betas are differences of nearly equal numbers.
    assert distances["float64"]["alphas_cumprod"] <= 1e-12 and distances["float64"]["one_minus_alphas_cumprod"] <= 1e-11
    return SCHEDULES[name] | {
        "t": KEPT, "alphas_cumprod": table[KEPT].tolist(), "library_float32": single[KEPT].tolist(),
        "relative_distance_from_50_digits": distances,
    }


def timesteps():
    """Every list of the two samplers; the offset acts in the leading spacing alone."""
    found = []
    for spacing in ("leading", "linspace", "trailing"):
        for offset in (0, 1):
            for n in (10, 20, 50):
                lists = []
                for kind in (DDPMScheduler, DDIMScheduler):
                    scheduler = library("linear", kind, timestep_spacing=spacing, steps_offset=offset)
                    scheduler.set_timesteps(n)
                    lists.append(scheduler.timesteps.tolist())
                assert lists[0] == lists[1], "the two samplers differ"
                found.append({"spacing": spacing, "steps_offset": offset, "n": n, "timesteps": lists[0]})
    return found


def min_snr():
    """w = min(SNR, gamma) for the sample, divided by SNR for epsilon and by SNR + 1 for v, on the linear schedule."""
    t = [0, 1, 50, 100, 200, 258, 400, 600, 999]
    signal = alphas_cumprod("linear")[t]
    snr = signal / (1 - signal)
    clipped = np.minimum(snr, GAMMA)
    single = compute_snr(library("linear"), torch.tensor(t)).double().numpy()
    print("SNR, library's float32:", f"{np.abs(single / snr - 1).max():.1e}")
    return {
        "schedule": "linear", "gamma": GAMMA, "t": t, "snr": snr.tolist(), "library_float32_snr": single.tolist(),
        "epsilon": (clipped / snr).tolist(), "v_prediction": (clipped / (snr + 1)).tolist(), "sample": clipped.tolist(),
    }


def conversions():
    """x_t and v by the library on the exact table, and each of epsilon, v and x_0 from x_t and another."""
    t = torch.tensor([0, 10, 250, 500, 999])
    scheduler = with_exact_table(library("linear"), "linear")
    x0, noise = normal(20, len(t), 4).clamp(-1, 1), normal(21, len(t), 4)
    xt, v = scheduler.add_noise(x0, noise, t), scheduler.get_velocity(x0, noise, t)
    alpha_bar = scheduler.alphas_cumprod[t][:, None]
    a, s = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    found = {
        "epsilon": {"x0": (xt - s * noise) / a, "v": (noise - s * xt) / a},
        "v_prediction": {"x0": a * xt - s * v, "epsilon": a * v + s * xt},
        "sample": {"epsilon": (xt - a * x0) / s, "v": (a * xt - x0) / s},
    }
    given = {"x0": x0, "epsilon": noise, "v": v}
    for source, targets in found.items():
        for target, value in targets.items():
            # The divisions magnify rounding: by 1/s at t = 0 and by 1/a at t = 999.
            assert (value - given[target]).abs().max() <= 1e-11, (source, target)
    single = library("linear").add_noise(x0.float(), noise.float(), t)
    print("add_noise, library's float32:", f"{(single.double() - xt).abs().max():.1e}")
    lists = {f"from_{s}": {k: v.tolist() for k, v in targets.items()} for s, targets in found.items()}
    return {"schedule": "linear", "t": t.tolist(), **{k: v.tolist() for k, v in (given | {"xt": xt}).items()}, **lists}


def main():
    """Writes schedules.json."""
    found_versions = versions("numpy", "torch", "diffusers", "mpmath")
    write_json(FOLDER / "schedules.json", {
        "versions": found_versions, "num_train_timesteps": T,
        "schedules": {name: schedule(name) for name in SCHEDULES},
        "timesteps": timesteps(), "min_snr": min_snr(), "conversions": conversions(),
    })


if __name__ == "__main__":
    main()

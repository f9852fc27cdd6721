"""Per-example terms of the variational bound under the exact denoiser of a Gaussian mixture in four dimensions.

    prior        KL( N(a_T x, s_T^2) || N(0, 1) ), at the last timestep
    L_t          1/2 (SNR(t-1) - SNR(t)) |x - x_hat|^2  =  1/2 (SNR(t-1)/SNR(t) - 1) |eps - eps_hat|^2,   t = 1..T-1
    bound        prior + sum_t L_t, in nats; timestep 0, the reconstruction term, is left out

Timesteps count from 0; one noise vector per timestep is shared by all examples, and its negative is the second draw.
Run as `python tests/golden/make_vlb.py` from the project root.
"""

import sys

sys.path.append(sys.path.pop(0))  # No neighbour of this script may stand in for a standard module.

import numpy as np
import torch
from diffusers import DDPMScheduler
from scipy.special import logsumexp

from golden import FOLDER, brief, normal, versions, write_json

T, D, N_EXAMPLES = 50, 4, 4
# 1000 / T times the usual constants, so that fifty steps reach the same noise.
BETA_START, BETA_END = 0.002, 0.4
WEIGHTS = np.array([0.5, 0.3, 0.2])
MEANS = np.array([[1.0, 0.5, -0.5, 0.0], [-1.0, 0.25, 0.75, -0.5], [0.0, -1.0, 0.0, 1.5]])
DEVIATIONS = np.array([0.25, 0.5, 0.125])

ALPHA_BAR = np.cumprod(1 - np.linspace(BETA_START, BETA_END, T))
A, S, SNR = np.sqrt(ALPHA_BAR), np.sqrt(1 - ALPHA_BAR), ALPHA_BAR / (1 - ALPHA_BAR)


def log_components(x, t):
    """log of weight times density of each component at x_t: [..., K]; component k is N(a m_k, a^2 d_k^2 + s^2)."""
    variance = (A[t] * DEVIATIONS) ** 2 + S[t] ** 2
    squared = np.square(x[..., None, :] - A[t] * MEANS).sum(-1)
    return np.log(WEIGHTS) - D / 2 * np.log(2 * np.pi * variance) - squared / (2 * variance)


def epsilon(x, t):
    """The exact E[eps | x_t]: minus s_t times the score."""
    logs = log_components(x, t)
    responsibility = np.exp(logs - logsumexp(logs, axis=-1, keepdims=True))
    variance = (A[t] * DEVIATIONS) ** 2 + S[t] ** 2
    score = (responsibility[..., None] * (A[t] * MEANS - x[..., None, :]) / variance[:, None]).sum(-2)
    return -S[t] * score


def terms(x, noise, t):
    """L_t of each example, [examples], by the epsilon form, by the x0 form, and as the KL of the two reverse Gaussians."""
    x_t = A[t] * x + S[t] * noise
    predicted = epsilon(x_t, t)
    clean = (x_t - S[t] * predicted) / A[t]
    by_epsilon = 0.5 * (SNR[t - 1] / SNR[t] - 1) * np.square(noise - predicted).sum(-1)
    by_clean = 0.5 * (SNR[t - 1] - SNR[t]) * np.square(x - clean).sum(-1)
    return predicted, by_epsilon, by_clean, reverse_divergence(x, x_t, predicted, t)


def reverse_divergence(x, x_t, predicted, t):
    """KL(q(x_{t-1} | x_t, x) || p(x_{t-1} | x_t)) with the posterior variance on both sides, means by the library."""
    scheduler = DDPMScheduler(T, trained_betas=np.linspace(BETA_START, BETA_END, T), clip_sample=False)
    scheduler.alphas_cumprod, scheduler.one = torch.from_numpy(ALPHA_BAR), torch.tensor(1.0, dtype=torch.float64)

    def mean(noise):
        found = scheduler.step(torch.from_numpy(noise), t, torch.from_numpy(x_t), generator=torch.Generator().manual_seed(0))
        return found.prev_sample.numpy()

    # Both steps draw the same noise; the difference of the samples is that of the means.
    variance = float(scheduler._get_variance(t))
    return np.square(mean((x_t - A[t] * x) / S[t]) - mean(predicted)).sum(-1) / (2 * variance)


def prior(x):
    """KL of the last marginal from the standard normal, [examples]."""
    return 0.5 * (ALPHA_BAR[-1] * np.square(x).sum(-1) + D * (S[-1] ** 2 - 1 - 2 * np.log(S[-1])))


def check_score():
    """The exact score against central differences of the log density."""
    x, step = normal(60, D).numpy(), 1e-5
    for t in (0, 10, T - 1):
        ends = [[logsumexp(log_components(x + sign * step * row, t)) for sign in (1, -1)] for row in np.eye(D)]
        slope = np.array([(up - down) / (2 * step) for up, down in ends])
        assert np.abs(-S[t] * slope - epsilon(x, t)).max() <= 1e-7, t


def check_bound():
    """Over many examples the bound with a Gaussian decoder lies above -log p(x).

    The gap is that of fifty coarse steps, some 6 nats; half of every L_t would make it negative.
    """
    rng, n = np.random.default_rng(61), 20000
    k = rng.choice(len(WEIGHTS), n, p=WEIGHTS)
    x = MEANS[k] + DEVIATIONS[k, None] * rng.standard_normal((n, D))
    total = prior(x)
    for t in range(1, T):
        noise = rng.standard_normal((n, D))
        difference = noise - epsilon(A[t] * x + S[t] * noise, t)
        total += 0.5 * (SNR[t - 1] / SNR[t] - 1) * np.square(difference).sum(-1)
    x_0 = A[0] * x + S[0] * rng.standard_normal((n, D))
    clean, variance = (x_0 - S[0] * epsilon(x_0, 0)) / A[0], S[0] ** 2 / ALPHA_BAR[0]
    total += D / 2 * np.log(2 * np.pi * variance) + np.square(x - clean).sum(-1) / (2 * variance)
    squared = np.square(x[:, None] - MEANS).sum(-1)
    surprise = -logsumexp(np.log(WEIGHTS) - D * np.log(DEVIATIONS * np.sqrt(2 * np.pi)) - squared / (2 * DEVIATIONS**2), axis=-1)
    gap = total - surprise
    error = gap.std() / np.sqrt(n)
    print(f"bound minus -log p(x), mean over {n} examples: {gap.mean():.4f} nats (standard error {error:.4f})")
    assert gap.mean() - 5 * error >= 0


def main():
    """Writes vlb.json."""
    found_versions = versions("numpy", "scipy", "torch", "diffusers")
    check_score()
    check_bound()
    x = np.concatenate([MEANS[:2] + 0.25, [[0.0, -1.0, 0.25, 1.5], [3.0, -2.0, 0.0, 1.0]]])
    noise = normal(62, T, D).numpy()
    draws, worst = [], 0.0
    for sign in (1.0, -1.0):
        columns = [terms(x, sign * noise[t], t) for t in range(1, T)]
        predicted, by_epsilon, by_clean, divergence = (np.stack(column, axis=1) for column in zip(*columns))
        worst = max(worst, *(np.abs(form / by_epsilon - 1).max() for form in (by_clean, divergence)))
        draws.append({
            "noise_sign": sign, "predicted_epsilon": predicted.tolist(), "epsilon_form": by_epsilon.tolist(),
            "clean_form": by_clean.tolist(), "bound": (prior(x) + by_epsilon.sum(1)).tolist(),
        })
    print(f"the three forms agree to {worst:.1e}")
    assert worst <= 1e-9
    write_json(FOLDER / "vlb.json", {
        "versions": found_versions,
        "schedule": {"kind": "linear", "num_train_timesteps": T, "beta_start": BETA_START, "beta_end": BETA_END},
        "mixture": {"weights": WEIGHTS.tolist(), "means": MEANS.tolist(), "standard_deviations": DEVIATIONS.tolist()},
        "axes": "noise [T, D]; predicted_epsilon [example, t - 1, D]; the two forms [example, t - 1]; t = 1..T-1",
        "forms_agree_to": brief(worst), "examples": x.tolist(), "noise": noise.tolist(), "prior": prior(x).tolist(),
        "draws": draws,
    })


if __name__ == "__main__":
    main()

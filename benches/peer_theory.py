"""Forgetting and replay in the closed form, by numpy and scipy: 12 clustered patterns and an outlier, rotated tasks.

Per rotation V = exp(epsilon Omega), at both epsilons: energy rises of the 13 old fixed points, the 13 x 13 replay gains
(raw, net of the gain without rotation, to first order); then means and standard errors over the rotations.

    expm     as the formulas say: the exponential of every matrix, then the energies of V^T x
    action   no exponential: the moments X Omega^j X^T serve both epsilons, as x = P X at a fixed point

Both draw the same matrices and spread chunks of rotations over OMP_NUM_THREADS threads; BLAS itself gets one, as its
threads cost more than they bring on matrices of side 50. Prints one line of JSON per variant, `seconds` the median of
--rounds, and fails when the means stray from the published ones or from each other.
"""
import argparse
import json
import os
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
import numpy as np
import scipy.linalg

CLUSTER, OVERLAP, DIMENSION, BETA, EPSILONS = 12, 0.35, 50, 8.0, (0.02, 0.05)
CHUNK = 50  # Rotations whose matrices (1 MB) stay in the cache of a core.
MOMENTS = 14  # |epsilon Omega| < 0.6, and 0.6^15 / 15! is 4e-16.

# Means over 2,000 rotations of another program and other draws.
PUBLISHED = {
    0.02: {
        "dE_out": 0.00485328, "dE_clu": 0.00425533, "net_out_self": 0.00244607, "net_clu_self": 0.00204117,
        "net_within": 3.6628e-5, "net_clu_from_out": 2.1597e-6, "net_out_from_clu": 1.7339e-6,
    },
    0.05: {
        "dE_out": 0.0300512, "dE_clu": 0.0262273, "net_out_self": 0.01593178, "net_clu_self": 0.01317955,
        "net_within": 2.4770e-4, "net_clu_from_out": 1.4618e-5, "net_out_from_clu": 1.1959e-5,
    },
}


def geometry():
    """Patterns [13, 50]: the cluster, then the outlier."""
    patterns = np.zeros((CLUSTER + 1, DIMENSION))
    patterns[:CLUSTER, 0] = np.sqrt(OVERLAP)
    patterns[np.arange(CLUSTER), np.arange(1, CLUSTER + 1)] = np.sqrt(1 - OVERLAP)
    patterns[CLUSTER, CLUSTER + 1] = 1
    return patterns


def softmax(logits):
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def log_sum_exp(logits):
    top = logits.max(-1, keepdims=True)
    return np.log(np.exp(logits - top).sum(-1)) + top[..., 0]


def energy(x, patterns):
    return np.einsum("...i,...i", x, x) / 2 - log_sum_exp(BETA * (x @ patterns.T)) / BETA


def fixed_points(patterns):
    """Fixed points [13, 50] and their softmax [13, 13]."""
    x = patterns
    for _ in range(1000):
        p = softmax(BETA * (x @ patterns.T))
        after = p @ patterns
        if np.abs(after - x).max() < 1e-14:
            return after, p
        x = after
    sys.exit("peer: retrieval has not settled")


def rotations(seed, chunk, count):
    """Generators Omega [count, 50, 50]: the same for every variant and number of threads."""
    w = np.random.default_rng([seed, chunk]).standard_normal((count, DIMENSION, DIMENSION))
    return (w - w.swapaxes(1, 2)) / 2


def rises_by_expm(omega, points, p, patterns):
    """Energy rises [epsilon, rotation, 13]."""
    before = energy(points, patterns)
    return np.stack([energy(points @ scipy.linalg.expm(epsilon * omega), patterns) - before for epsilon in EPSILONS])


def rises_by_action(omega, points, p, patterns):
    """Energy rises [epsilon, rotation, 13]; a rotation keeps |x|, so the log-sums alone decide."""
    overlaps = np.broadcast_to(patterns @ patterns.T, (len(EPSILONS), len(omega), *p.shape)).copy()
    row, sign, factorial = patterns, 1, 1.0
    scales = np.array(EPSILONS)[:, None, None, None]
    for j in range(1, MOMENTS, 2):
        # X Omega^(a + b) X^T = (-1)^b (X Omega^a) (X Omega^b)^T, as Omega is skew.
        after = row @ omega
        factorial *= j
        overlaps += scales**j / factorial * (sign * (after @ row.swapaxes(-1, -2)))
        sign, factorial = -sign, factorial * (j + 1)
        overlaps += scales ** (j + 1) / factorial * (sign * (after @ after.swapaxes(-1, -2)))
        row = after
    before = log_sum_exp(BETA * (points @ patterns.T))
    return (before - log_sum_exp(BETA * (p @ overlaps))) / BETA


def gains(rises, p):
    """Raw, net and first-order net gains, each [epsilon, rotation, target, source]."""
    raw = np.log1p(p * np.exp(BETA * rises)[..., None]) / BETA
    return raw, raw - np.log1p(p) / BETA, p / (1 + p) * rises[..., None]


def families(prefix, table):
    """Means of a [..., target, source] table over the five kinds of pairs."""
    clustered, others = table[..., :CLUSTER, :CLUSTER], 1 - np.eye(CLUSTER)
    return {
        f"{prefix}_out_self": table[..., CLUSTER, CLUSTER],
        f"{prefix}_clu_self": np.einsum("...ii->...", clustered) / CLUSTER,
        f"{prefix}_within": np.einsum("...ij,ij->...", clustered, others) / others.sum(),
        f"{prefix}_clu_from_out": table[..., :CLUSTER, CLUSTER].mean(-1),
        f"{prefix}_out_from_clu": table[..., CLUSTER, :CLUSTER].mean(-1),
    }


def mean_and_error(values, axis):
    """Mean and standard error over the rotations."""
    return values.mean(axis), values.std(axis, ddof=1) / np.sqrt(values.shape[axis])


def work(variant, pool, seed, count):
    """The whole experiment; per epsilon a summary by name, and 13 x 13 maps of means and errors."""
    patterns = geometry()
    points, p = fixed_points(patterns)

    def of_chunk(chunk):
        omega = rotations(seed, chunk, min(CHUNK, count - chunk * CHUNK))
        rises = variant(omega, points, p, patterns)
        return rises, *gains(rises, p)

    parts = pool.map(of_chunk, range(-(-count // CHUNK)))
    rises, raw, net, linear = (np.concatenate(part, axis=1) for part in zip(*parts))
    outlier, cluster = rises[..., CLUSTER], rises[..., :CLUSTER].mean(-1)
    named = {"dE_out": outlier, "dE_clu": cluster, "dE_difference": outlier - cluster}
    for prefix, table in (("raw", raw), ("net", net), ("linear", linear)):
        named |= families(prefix, table)
    maps = {name: mean_and_error(table, 1) for name, table in (("raw", raw), ("net", net), ("linear", linear))}
    found = {name: mean_and_error(values, 1) for name, values in named.items()}
    summary = {e: {name: (float(m[k]), float(s[k])) for name, (m, s) in found.items()} for k, e in enumerate(EPSILONS)}
    return summary, maps


def compare(variant, summary):
    """Both programs have errors: three standard errors of the difference. Returns the largest in those units."""
    strays = {}
    for epsilon, published in PUBLISHED.items():
        for name, value in published.items():
            mean, error = summary[epsilon][name]
            strays[name, epsilon] = abs(mean - value) / (np.sqrt(2) * error)
    for (name, epsilon), stray in strays.items():
        if not stray <= 3:
            sys.exit(f"peer: {variant}: {name} at {epsilon} is {stray:.1f} standard errors from the published mean")
    return max(strays.values())


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--variant", choices=["expm", "action", "both"], default="both")
    arguments.add_argument("--rotations", type=int, default=2000)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--seed", type=int, default=20268001)
    a = arguments.parse_args()
    threads = int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count())
    variants = {"expm": rises_by_expm, "action": rises_by_action}
    chosen = variants if a.variant == "both" else {a.variant: variants[a.variant]}
    all_maps = []
    with ThreadPoolExecutor(threads) as pool:
        for name, variant in chosen.items():
            work(variant, pool, a.seed, 2 * CHUNK)
            seconds = []
            for _ in range(a.rounds):
                start = time.perf_counter()
                summary, maps = work(variant, pool, a.seed, a.rotations)
                seconds.append(time.perf_counter() - start)
            stray = compare(name, summary)
            all_maps.append(maps)
            said = {"variant": name, "seconds": statistics.median(seconds), "range": [min(seconds), max(seconds)]}
            said |= {"threads": threads, "rotations": a.rotations, "largest_stray": round(float(stray), 2)}
            print(json.dumps(said | {str(epsilon): values for epsilon, values in summary.items()}), flush=True)
    for name in all_maps[0]:
        apart = np.abs(all_maps[-1][name][0] - all_maps[0][name][0]).max()
        if not apart <= 1e-14:
            sys.exit(f"peer: the variants' {name} gains differ by {apart:.1e}")


main()

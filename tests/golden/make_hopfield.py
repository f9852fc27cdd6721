"""Modern Hopfield energies, softmax, retrieval and gradients in 50 digits, rounded to float64 at the end.

    dot       E = |x|^2 / 2 - (1/b) log sum_m a_m exp(b x.p_m)
    distance  E = -(1/b) log( sum_m a_m exp(-b |x - p_m|^2 / 2) / sum_m a_m )
    unit      the dot form of y = (x - c) / |x - c| and q_m = (p_m - c) / |p_m - c|, c the mean of all patterns

The masses a_m are 1 unless said. Leave-one-out: query i is pattern i, m runs over the others, in both sums.
Run as `python tests/golden/make_hopfield.py` from the project root.
"""

import sys

sys.path.append(sys.path.pop(0))  # No neighbour of this script may stand in for a standard module.

import mpmath
import numpy as np
import torch
from scipy.optimize import bisect
from scipy.special import logsumexp

from golden import FOLDER, brief, normal, versions, write_tensors

N, M, D = 17, 33, 12
INVERSE_TEMPERATURES = (1e-4, 0.1, 1.0, 8.0, 100.0)
WITH_SOFTMAX, WITH_MASSES = (1.0, 8.0), (0.1, 8.0)
TWIN, OUTLIER, PERPLEXITY = (5, 11), 7, 10.0
mpmath.mp.dps = 50


def stored_patterns():
    """[M, D]: two are the same, one lies eight times as far out as the others."""
    patterns = normal(50, M, D).numpy()
    patterns[TWIN[1]] = patterns[TWIN[0]]
    patterns[OUTLIER] *= 8
    return patterns


def generic_queries(patterns):
    """[N, D]: the origin, three stored patterns, one far from everything, one near the outlier, and patterns disturbed."""
    queries = patterns[:N] + 0.25 * np.round(4 * normal(51, N, D).numpy())
    queries[0] = 0
    queries[1], queries[2], queries[3] = patterns[TWIN[0]], patterns[OUTLIER], patterns[20]
    queries[4] = -16 * patterns[9]
    queries[5] = patterns[OUTLIER] + 0.5
    return queries.astype(np.float32).astype(np.float64)


def to_unit(vectors, patterns):
    """Centred on the mean of the patterns and normalised, in full precision."""
    exact = [[mpmath.mpf(float(v)) for v in row] for row in patterns]
    centre = [mpmath.fsum(column) / len(exact) for column in zip(*exact)]
    found = []
    for row in vectors:
        moved = [mpmath.mpf(float(v)) - c for v, c in zip(row, centre)]
        norm = mpmath.sqrt(mpmath.fsum(v * v for v in moved))
        found.append([v / norm for v in moved])
    return found


def exactly(rows):
    """The floats as 50-digit numbers."""
    return [[mpmath.mpf(float(v)) for v in row] for row in rows]


def dot(x, y):
    """Inner product in full precision."""
    return mpmath.fsum(a * b for a, b in zip(x, y))


def half_squared_distance(x, y):
    """|x - y|^2 / 2 in full precision."""
    return mpmath.fsum((a - b) ** 2 for a, b in zip(x, y)) / 2


def evaluate(form, x, patterns, beta, masses, left_out=None):
    """Energy, softmax (0 where left out), retrieved pattern and gradient of one query."""
    kept = [m for m in range(len(patterns)) if m != left_out]
    similarity = (lambda p: dot(x, p)) if form == "dot" else (lambda p: -half_squared_distance(x, p))
    weights = {m: masses[m] * mpmath.exp(beta * similarity(patterns[m])) for m in kept}
    total = mpmath.fsum(weights.values())
    softmax = [weights[m] / total if m in weights else mpmath.mpf(0) for m in range(len(patterns))]
    retrieved = [dot(softmax, column) for column in zip(*patterns)]
    if form == "dot":
        energy = dot(x, x) / 2 - mpmath.log(total) / beta
    else:
        energy = -mpmath.log(total / mpmath.fsum(masses[m] for m in kept)) / beta
    # Both forms: grad E = x - sum_m softmax_m p_m.
    return {"energy": energy, "softmax": softmax, "retrieved": retrieved, "gradient": [a - b for a, b in zip(x, retrieved)]}


def table(form, queries, patterns, beta, masses, leave_one_out):
    """All queries at once, as float64 arrays."""
    rows = [
        evaluate(form, x, patterns, mpmath.mpf(beta), masses, i if leave_one_out else None) for i, x in enumerate(queries)
    ]
    return {key: np.array([row[key] for row in rows], dtype=np.float64) for key in rows[0]}


def in_floats(form, queries, patterns, beta, masses, leave_one_out, kind=np.float64):
    """The same energies by numpy and scipy, one log-mean-exp for the distance form; checks the definition above."""
    queries, patterns = np.array(queries, dtype=kind), np.array(patterns, dtype=kind)
    masses = np.array(masses, dtype=kind) * np.ones((len(queries), 1), dtype=kind)
    if leave_one_out:
        masses[np.arange(len(queries)), np.arange(len(queries))] = 0
    if form == "dot":
        logits = kind(beta) * (queries @ patterns.T)
        return 0.5 * np.square(queries).sum(1) - logsumexp(logits, axis=1, b=masses) / kind(beta)
    logits = -kind(beta) / 2 * np.square(queries[:, None] - patterns).sum(2)
    return -logsumexp(logits, axis=1, b=masses / masses.sum(1, keepdims=True)) / kind(beta)


def check_gradient(form, x, patterns, masses):
    """The stated gradient against central differences in 50 digits."""
    beta, step = mpmath.mpf(1), mpmath.mpf(10) ** -16
    stated = evaluate(form, x, patterns, beta, masses)["gradient"]
    for k in range(D):
        ends = [evaluate(form, x[:k] + [x[k] + s * step] + x[k + 1:], patterns, beta, masses)["energy"] for s in (1, -1)]
        assert abs((ends[0] - ends[1]) / (2 * step) - stated[k]) <= 1e-24, (form, k)


def energies(inputs, about):
    """Every form, temperature and variant."""
    generic, patterns = exactly(inputs["queries"]), exactly(inputs["patterns"])
    spaces = {"dot": (generic, patterns), "distance": (generic, patterns)}
    spaces["unit"] = to_unit(inputs["queries"], inputs["patterns"]), to_unit(inputs["patterns"], inputs["patterns"])
    ones, masses, found = [mpmath.mpf(1)] * M, [mpmath.mpf(float(a)) for a in inputs["masses"]], {}
    for form in ("dot", "distance"):
        check_gradient(form, generic[6], patterns, masses)
    for form, (queries, stored) in spaces.items():
        law = "dot" if form == "unit" else form
        for beta in INVERSE_TEMPERATURES:
            for massive in (False, True) if form != "unit" and beta in WITH_MASSES else (False,):
                for left_out in (False, True):
                    name = f"{form}.beta{beta:g}" + ".masses" * massive + ".leave_one_out" * left_out
                    arguments = law, stored[:N] if left_out else queries, stored, beta, masses if massive else ones, left_out
                    values = table(*arguments)
                    kept = ["energy", "retrieved"] + ["gradient"] * (form != "unit" and not massive)
                    kept += ["softmax"] * (beta in WITH_SOFTMAX and form != "unit" and not massive)
                    found |= {f"{name}.{key}": values[key] for key in kept}
                    about["float64"][name] = relative(in_floats(*arguments), values["energy"])
                    about["float32"][name] = relative(in_floats(*arguments, kind=np.float32), values["energy"])
    return found


def relative(found, expected):
    """max over the queries of |a - b| / (1 + |b|): the far query must not hide the others. Two digits."""
    return brief((np.abs(found - expected) / (1 + np.abs(expected))).max())


def leave_one_out_logits(points):
    """-|x_i - p_m|^2 / 2 with -inf on the diagonal, float64."""
    logits = -0.5 * np.square(points[:, None] - points).sum(2)
    np.fill_diagonal(logits, -np.inf)
    return logits


def perplexities(logits, beta):
    """exp of the softmax's entropy per query."""
    log_p = beta * logits - logsumexp(beta * logits, axis=1, keepdims=True)
    return np.exp(-np.where(np.isneginf(log_p), 0, np.exp(log_p) * np.where(np.isneginf(log_p), 0, log_p)).sum(1))


def temperatures(inputs):
    """Leave-one-out perplexities of all patterns, and the inverse temperature at which their median is ten.

    On the unit sphere the distance form and the dot form have the same softmax, hence the same perplexity.
    """
    found = {}
    spaces = {"distance": inputs["patterns"], "unit": np.array(to_unit(inputs["patterns"], inputs["patterns"]), dtype=np.float64)}
    for form, points in spaces.items():
        logits = leave_one_out_logits(points)
        found[f"perplexity.{form}"] = np.stack([perplexities(logits, beta) for beta in INVERSE_TEMPERATURES])

        def excess(log_beta):
            return np.median(perplexities(logits, np.exp(log_beta))) - PERPLEXITY

        beta = np.exp(bisect(excess, np.log(1e-6), np.log(1e6), xtol=1e-15, rtol=1e-15, maxiter=200))
        found[f"perplexity10.{form}.beta"] = np.array(beta)
        found[f"perplexity10.{form}"] = perplexities(logits, beta)
        print(f"{form}: median perplexity {np.median(found[f'perplexity10.{form}']):.12f} at beta {beta:.15g}")
    return found


def limits(inputs, energies_found):
    """What the leave-one-out distance energy tends to: half the squared nearest distance, and the mean half squared distance."""
    half = -leave_one_out_logits(inputs["patterns"])[:N]
    finite = np.where(np.isinf(half), 0, half)
    nearest, mean = half.min(1), finite.sum(1) / (M - 1)
    for beta in INVERSE_TEMPERATURES:
        # The nearest pattern alone makes at least 1 / (M - 1) of the mean; Jensen's inequality is the other side.
        energy = energies_found[f"distance.beta{beta:g}.leave_one_out.energy"]
        assert (energy - nearest >= -1e-12 * mean).all() and (energy - nearest <= np.log(M - 1) / beta + 1e-12 * mean).all()
        assert (energy <= mean + 1e-12 * mean).all()
    return {"limit.large_beta.leave_one_out": nearest, "limit.small_beta.leave_one_out": mean}


def main():
    """Writes hopfield.safetensors, everything in float64."""
    about = {"versions": versions("mpmath", "numpy", "scipy", "torch", "safetensors"), "float64": {}, "float32": {}}
    patterns = stored_patterns()
    masses = np.array([1, 2, 3, 0.5, 1e-3, 1e3])[np.arange(M) % 6]
    inputs = {"queries": generic_queries(patterns), "patterns": patterns, "masses": masses}
    found = energies(inputs, about)
    found |= temperatures(inputs) | limits(inputs, found)
    for kind in ("float64", "float32"):
        print(f"numpy {kind}, worst energy:", max((d, n) for n, d in about[kind].items()))
    about |= {"inverse_temperatures": INVERSE_TEMPERATURES, "twins": TWIN, "outlier": OUTLIER}
    tensors = {name: torch.tensor(value, dtype=torch.float64) for name, value in (inputs | found).items()}
    tensors["inverse_temperatures"] = torch.tensor(INVERSE_TEMPERATURES, dtype=torch.float64)
    write_tensors(FOLDER / "hopfield.safetensors", tensors, about)


if __name__ == "__main__":
    main()

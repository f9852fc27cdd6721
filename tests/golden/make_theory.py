"""The theory of forgetting in modern Hopfield networks in 50 digits, rounded to float64 at the end.

Networks (energies, curvature, fixed points), a rotated task with its energy rises and replay gains, the expected rise
over random rotations, a Boltzmann machine with that energy, and stored patterns that fill a circle.
The forms of the energy are those of make_hopfield.py. Every input is the float64 number that is stored, taken exactly;
unit norms are therefore unit to 1e-16.
Run as `python tests/golden/make_theory.py` from the project root.
"""

import sys

sys.path.append(sys.path.pop(0))  # No neighbour of this script may stand in for a standard module.

import mpmath
import numpy as np
import torch
from mpmath import mpf

import theory_in_floats
from golden import FOLDER, brief, distance, normal, versions, write_tensors
from make_hopfield import dot, evaluate, exactly, relative

mpmath.mp.dps = 50
CLOSE = mpf(10) ** -36
UPDATES = 20


# Networks.


def directions(seed, count, dimension):
    """[count, dimension]: random vectors of unit norm, rounded once."""
    rows = exactly(normal(seed, count, dimension).numpy())
    return np.array([[v / mpmath.sqrt(dot(row, row)) for v in row] for row in rows], dtype=np.float64)


def equiangular(n, c, d):
    """[n + 1, d]: sqrt(c) e_0 + sqrt(1 - c) e_i for i = 1..n, and the outlier e_{n+1}."""
    patterns = np.zeros((n + 1, d))
    patterns[:n, 0] = np.sqrt(c)
    patterns[np.arange(n), np.arange(1, n + 1)] = np.sqrt(1 - c)
    patterns[n, n + 1] = 1
    return patterns


def networks():
    """The cases: patterns [M, d], queries [n, d], inverse temperature, masses [M] (one where not given)."""
    few, cluster, far = directions(70, 4, 5), equiangular(12, 0.35, 50), directions(72, 6, 3)
    far *= np.array([[1e-3], [0.05], [0.4], [1.5], [7], [30]])
    steep, distinct = 3 * directions(74, 5, 4), directions(76, 3, 3)
    between = np.array([cluster[0] + cluster[1], cluster[3] + cluster[12], 0 * cluster[0], 2 * cluster[5]]) / 2
    # No query lies between two patterns to the last digit: rounding would decide its path.
    # The steep network's nearest pair: logits near 8,000 that differ by about one.
    tie = (steep[2:3] + steep[3:4]) / 2 + np.array([[1e-4], [-2e-4]]) * (steep[2:3] - steep[3:4])
    cases = {
        "small": (few, np.vstack([(few[:1] + few[1:2]) / 2, 0.7 * few[2:3], normal(71, 2, 5).numpy()]) + 0.125, 8),
        "geometry": (cluster, between + 0.05 * normal(69, 4, 50).numpy(), 8),
        "heavy": (far, np.vstack([0.3 * normal(73, 3, 3).numpy(), 0.5 * far[4:], np.zeros((1, 3))]), 2),
        "steep": (steep, np.vstack([tie, steep[4:], normal(75, 1, 4).numpy()]), 1e3),
        "doubled": (distinct[[0, 1, 0, 2, 1, 0]], normal(77, 4, 3).numpy(), 8),
        "merged": (distinct, normal(77, 4, 3).numpy(), 8),
        "line": (np.array([[1.0], [-1.0]]), np.array([[1e-3], [0], [1], [-0.5], [2.5], [300]]), 3),
    }
    masses = {"heavy": [1e6, 1e3, 1, 1e-3, 0.25, 1e-6], "merged": [3, 2, 1]}
    one = {case: [1] * len(patterns) for case, (patterns, _, _) in cases.items()}
    return {case: (*given, np.array((one | masses)[case], dtype=np.float64)) for case, given in cases.items()}


def entropy(probabilities):
    """-sum p log p in nats."""
    return -mpmath.fsum(p * mpmath.log(p) for p in probabilities)


def hessian(found, patterns, beta):
    """I - beta (sum_m p_m x_m x_m^T - r r^T) where p is the softmax and r the retrieved pattern of `found`; both forms."""
    p, r, d = found["softmax"], found["retrieved"], len(patterns[0])
    columns = list(zip(*patterns))
    weighted = [[a * b for a, b in zip(p, column)] for column in columns]
    cell = lambda i, j: (i == j) - beta * (dot(weighted[i], columns[j]) - r[i] * r[j])
    return mpmath.matrix([[cell(i, j) for j in range(d)] for i in range(d)])


def eigenvalues(symmetric):
    """In ascending order."""
    return sorted(mpmath.eigsy(symmetric, eigvals_only=True))


def quadratic(x, matrix, y):
    """x^T matrix y."""
    return mpmath.fdot(x, matrix * mpmath.matrix(y))


def settle(x, patterns, beta, masses):
    """The fixed point of retrieval that is reached from x, to 1e-40."""
    for _ in range(10_000):
        after = evaluate("dot", x, patterns, beta, masses)["retrieved"]
        moved = max(abs(a - b) for a, b in zip(after, x))
        x = after
        if moved <= mpf(10) ** -42:
            return x
    raise ValueError("retrieval has not settled in 10,000 updates")


def rise(found, x, curvature):
    """Coefficient of epsilon^2 in the mean of E(x | V X) - E(x | X) over V = exp(epsilon Omega) at a fixed point x."""
    trace = mpmath.fsum(curvature[i, i] for i in range(len(x)))
    return (dot(x, x) * trace - quadratic(x, curvature, x)) / 4


def at_queries(queries, patterns, beta, masses):
    """Both forms at every query; curvature of the dot form."""
    found = {}
    for form, prefix in (("dot", ""), ("distance", "distance_")):
        rows = [evaluate(form, x, patterns, beta, masses) for x in queries]
        for row in rows:
            row["entropy"] = entropy(row["softmax"])
        found |= {prefix + key: [row[key] for row in rows] for key in rows[0]}
        if form == "dot":
            curvatures = [hessian(row, patterns, beta) for row in rows]
            found["hessian"] = [h.tolist() for h in curvatures]
            found["eigenvalues"] = [eigenvalues(h) for h in curvatures]
    return found


def along_path(x, patterns, beta, masses):
    """The query and its first updates, with energies that never rise."""
    path = [x]
    for _ in range(UPDATES):
        path.append(evaluate("dot", path[-1], patterns, beta, masses)["retrieved"])
    energies = [evaluate("dot", x, patterns, beta, masses)["energy"] for x in path]
    assert all(after <= before + CLOSE for before, after in zip(energies, energies[1:]))
    return {"path": path, "path_energy": energies}


def at_fixed_points(patterns, beta, masses):
    """Where retrieval ends from each stored pattern, and what the theory says there."""
    points = [settle(x, patterns, beta, masses) for x in patterns]
    rows = [evaluate("dot", x, patterns, beta, masses) for x in points]
    curvatures = [hessian(row, patterns, beta) for row in rows]
    found = {key: [row[key] for row in rows] for key in ("energy", "softmax")}
    found["entropy"] = [entropy(row["softmax"]) for row in rows]
    found["eigenvalues"] = [eigenvalues(h) for h in curvatures]
    for x, row in zip(points, rows):
        # log Z = beta |x|^2 + H + sum p log a at a fixed point, whatever the norms.
        logs = mpmath.fsum(p * mpmath.log(a) for p, a in zip(row["softmax"], masses))
        identity = -dot(x, x) / 2 - (entropy(row["softmax"]) + logs) / beta
        assert abs(identity - row["energy"]) <= CLOSE
    return {"fixed_points": points} | {f"fixed_point_{key}": value for key, value in found.items()} | {
        "m2": [dot(x, x) for x in points],
        "expected_rise": [rise(row, x, h) for row, x, h in zip(rows, points, curvatures)],
    }


def network(patterns, queries, beta, masses):
    """All tensors of one case."""
    inputs = {"patterns": patterns, "queries": queries, "inverse_temperature": [beta], "masses": masses}
    stored, asked, beta, masses = exactly(patterns), exactly(queries), mpf(beta), [mpf(float(a)) for a in masses]
    found = at_queries(asked, stored, beta, masses) | along_path(asked[0], stored, beta, masses)
    return inputs | found | at_fixed_points(stored, beta, masses)


def check_curvature(patterns, queries, beta, masses):
    """The stated Hessian against central differences of the gradient."""
    stored, x, beta, masses = exactly(patterns), exactly(queries)[0], mpf(beta), [mpf(float(a)) for a in masses]
    stated, step = hessian(evaluate("dot", x, stored, beta, masses), stored, beta), mpf(10) ** -16
    for k in range(len(x)):
        moved = [x[:k] + [x[k] + s * step] + x[k + 1:] for s in (1, -1)]
        ends = [evaluate("dot", y, stored, beta, masses)["gradient"] for y in moved]
        worst = max(abs((a - b) / (2 * step) - stated[j, k]) for j, (a, b) in enumerate(zip(*ends)))
        assert worst <= 1e-20, (k, worst)


# A rotated task.


def rotated(patterns, rotation):
    """V x of every pattern."""
    return [list(rotation * mpmath.matrix(x)) for x in patterns]


def energy(x, patterns, beta, masses=None):
    """The dot form."""
    return evaluate("dot", x, patterns, beta, masses or [mpf(1)] * len(patterns))["energy"]


def replayed(points, stored, patterns, beta):
    """[target, source]: by how much the energy at a target falls when the old pattern is really added to the new ones."""
    before = [energy(x, patterns, beta) for x in points]
    return [[e - energy(x, patterns + [added], beta) for added in stored] for x, e in zip(points, before)]


def check_gains(raw, rises, p, beta):
    """Adding the pattern equals the closed form log(1 + p exp(beta dE)) / beta."""
    for row, de, softmax_row in zip(raw, rises, p):
        for gain, share in zip(row, softmax_row):
            assert abs(gain - mpmath.log(1 + share * mpmath.exp(beta * de)) / beta) <= CLOSE


def one_rotation(epsilon, omega, stored, points, p, beta, masses):
    """Everything that one angle decides."""
    mpmath.mp.dps = 90  # The exponential of a matrix of norm 80 in 50 digits.
    turn = mpmath.expm(mpf(epsilon) * omega)
    mpmath.mp.dps = 50
    assert mpmath.mnorm(turn.T * turn - mpmath.eye(turn.rows)) <= CLOSE
    patterns = rotated(stored, turn)
    rises = [energy(x, patterns, beta) - energy(x, stored, beta) for x in points]
    for x, de in zip(points, rises):
        back = list(turn.T * mpmath.matrix(x))
        assert abs(energy(back, stored, beta) - energy(x, stored, beta) - de) <= CLOSE
    raw, untouched = replayed(points, stored, patterns, beta), replayed(points, stored, stored, beta)
    check_gains(raw, rises, p, beta)
    ones, both = [mpf(1)] * len(stored), patterns + stored
    joint = [energy(x, patterns, beta) - energy(x, both, beta, ones + masses) for x in points]
    return {
        "exponential": turn.tolist(),
        "energy_rises": rises,
        "gains": raw,
        "net_gains": [[a - b for a, b in zip(*rows)] for rows in zip(raw, untouched)],
        "joint_gains": joint,
    }


def rotation():
    """Four cluster patterns and an outlier in eight dimensions, turned by exp(epsilon Omega)."""
    epsilons, beta, masses = [0.02, 0.05, 1.5, 20.0], mpf(8), [0.5, 1.0, 2.0, 0.25, 3.0]
    patterns, w = equiangular(4, 0.35, 8), normal(78, 8, 8).numpy()
    omega = (w - w.T) / 2
    stored, turner = exactly(patterns), mpmath.matrix(exactly(omega))
    points = [settle(x, stored, beta, [mpf(1)] * 5) for x in stored]
    rows = [evaluate("dot", x, stored, beta, [mpf(1)] * 5) for x in points]
    p = [row["softmax"] for row in rows]
    turned = [one_rotation(e, turner, stored, points, p, beta, [mpf(a) for a in masses]) for e in epsilons]
    curvatures = [hessian(row, stored, beta) for row in rows]
    moved = [list(turner * mpmath.matrix(x)) for x in points]
    second = [quadratic(v, h, v) / 2 for v, h in zip(moved, curvatures)]
    for epsilon, found in zip(epsilons[:2], turned):
        assert all(abs(de / (b * epsilon**2) - 1) <= 5 * epsilon for de, b in zip(found["energy_rises"], second))
    return {
        "patterns": patterns, "inverse_temperature": [beta], "omega": omega, "epsilons": epsilons,
        "replay_masses": masses, "fixed_points": points, "softmax": p, "second_order": second,
        "susceptibility": [[a / (1 + a) for a in row] for row in p],
    } | {key: [found[key] for found in turned] for key in turned[0]}


# The expected rise over random rotations.


GRID = [
    (12, 0.35, 50, 8), (12, 0.35, 16, 8), (12, 0.35, 200, 8), (12, 0.05, 50, 8), (12, 0.2, 50, 8), (12, 0.5, 50, 8),
    (2, 0.35, 50, 8), (6, 0.35, 50, 8), (24, 0.35, 50, 8), (12, 0.35, 50, 4), (12, 0.65, 50, 16), (12, 0.35, 50, 32),
]


def symmetric_point(start, n, c, beta):
    """Softmax (self, other cluster, outlier) and overlaps with those at the fixed point reached from one pattern.

    From a cluster pattern the other n - 1 share one overlap for ever; from the outlier all n do, and `self` is one of them.
    """
    counts = (1, n - 1, 1)
    overlaps = (1, c, 0) if start == "cluster" else (0, 0, 1)
    for _ in range(100_000):
        weights = [mpmath.exp(beta * s) for s in overlaps]
        own, other, out = (w / mpmath.fsum(k * v for k, v in zip(counts, weights)) for w in weights)
        after = (own + (n - 1) * other * c, own * c + other * (1 + (n - 2) * c), out)
        moved = max(abs(a - b) for a, b in zip(after, overlaps))
        overlaps = after
        if moved <= mpf(10) ** -42:
            return counts, (own, other, out), overlaps
    raise ValueError(f"no fixed point in 100,000 updates: n {n}, c {c}, beta {beta}")


def expected(start, n, c, d, beta):
    """Coefficient of epsilon^2 in the mean rise, |x|^2, and the softmax: own pattern, other family, other cluster pattern."""
    counts, p, overlaps = symmetric_point(start, n, mpf(c), mpf(beta))
    mean = lambda values: mpmath.fsum(k * a * v for k, a, v in zip(counts, p, values))
    m2 = mean(overlaps)
    variance = mean([(s - m2) ** 2 for s in overlaps])
    coefficient = ((d - 1) * m2 - beta * m2 * (1 - m2) + beta * variance) / 4
    own, other, out = p
    self_and_cross = (own, out) if start == "cluster" else (out, own)
    return {"rise": coefficient, "m2": m2} | dict(zip(("p_self", "p_cross"), self_and_cross)) | {"p_within": other}


def expected_rises():
    """[case, (cluster, outlier)] over the grid, for unit norms and overlaps that are exact."""
    found = {name: [row[k] for row in GRID] for k, name in enumerate(("n", "overlap", "dimension", "inverse_temperature"))}
    pairs = [[expected(start, *row) for start in ("cluster", "outlier")] for row in GRID]
    for key in ("rise", "m2", "p_self", "p_cross"):
        found[key] = [[one[key] for one in pair] for pair in pairs]
    found["p_within"] = [pair[0]["p_within"] for pair in pairs]
    return found


def check_expected(found, geometry):
    """The symmetric reduction against all thirteen patterns in fifty dimensions, and against digits known before."""
    for column, pattern in ((0, 0), (1, 12)):
        assert abs(found["rise"][0][column] - geometry["expected_rise"][pattern]) <= 1e-14
        assert abs(found["p_self"][0][column] - geometry["fixed_point_softmax"][pattern][pattern]) <= 1e-14
    for epsilon, known in ((0.02, (0.0042693, 0.0048556)), (0.05, (0.02668, 0.03035))):
        assert all(abs(epsilon**2 * a / b - 1) <= 2e-4 for a, b in zip(found["rise"][0], known))


# The Boltzmann machine.


def log_sum(terms):
    """log sum exp."""
    return mpmath.log(mpmath.fsum(mpmath.exp(t) for t in terms))


def machine(weights, biases, beta):
    """log Z = (d / 2) log(2 pi / beta) + log sum_m exp(beta |w_m|^2 / 2 + c_m), and the mixture's shares."""
    exponents = [beta * dot(w, w) / 2 + c for w, c in zip(weights, biases)]
    total = log_sum(exponents)
    log_z = mpf(len(weights[0])) / 2 * mpmath.log(2 * mpmath.pi / beta) + total
    return log_z, [mpmath.exp(e - total) for e in exponents]


def likelihood(points, weights, biases, beta):
    """Negative log-likelihoods in nats, and the gradients of their mean."""
    masses = [mpmath.exp(c) for c in biases]
    rows = [evaluate("dot", x, weights, beta, masses) for x in points]
    log_z, shares = machine(weights, biases, beta)
    nll = [beta * row["energy"] + log_z for row in rows]
    held = list(zip(*(row["softmax"] for row in rows)))
    by_weight = [
        [beta * (share * a - dot(r, column) / len(points)) for a, column in zip(w, zip(*points))]
        for w, r, share in zip(weights, held, shares)
    ]
    by_bias = [share - mpmath.fsum(r) / len(points) for r, share in zip(held, shares)]
    return {
        "energy": [row["energy"] for row in rows], "responsibilities": [row["softmax"] for row in rows],
        "log_partition": [log_z], "shares": shares, "nll": nll, "mean_nll": [mpmath.fsum(nll) / len(nll)],
        "weights_gradient": by_weight, "biases_gradient": by_bias,
    }


def check_partition(weights, biases, beta, log_z):
    """The integral of exp(-beta E) over the plane; the trapezoidal rule converges geometrically for Gaussians."""
    masses, step, reach = [mpmath.exp(c) for c in biases], mpf(1) / 3, 15
    axis = [k * step for k in range(-3 * reach, 3 * reach + 1)]
    total = step**2 * mpmath.fsum(mpmath.exp(-beta * energy([x, y], weights, beta, masses)) for x in axis for y in axis)
    assert abs(mpmath.log(total) - log_z) <= CLOSE, mpmath.nstr(mpmath.log(total) - log_z)


def check_gradients(points, weights, biases, beta, found):
    """The stated gradients against central differences in 50 digits."""
    step = mpf(10) ** -16
    mean = lambda w, c: likelihood(points, w, c, beta)["mean_nll"][0]
    moved = lambda values, k, s: values[:k] + [values[k] + s * step] + values[k + 1:]
    for m, w in enumerate(weights):
        for k in range(len(w)):
            ends = [mean(weights[:m] + [moved(w, k, s)] + weights[m + 1:], biases) for s in (1, -1)]
            assert abs((ends[0] - ends[1]) / (2 * step) - found["weights_gradient"][m][k]) <= 1e-24
        ends = [mean(weights, moved(biases, m, s)) for s in (1, -1)]
        assert abs((ends[0] - ends[1]) / (2 * step) - found["biases_gradient"][m]) <= 1e-24


def boltzmann():
    """Three hidden units, two visible ones, with and without biases."""
    shapes, beta = {"weights": (3, 2), "biases": (3,), "points": (5, 2)}, mpf(1.7)
    given = {name: normal(79 + k, *shape).numpy() for k, (name, shape) in enumerate(shapes.items())}
    weights, points, found = exactly(given["weights"]), exactly(given["points"]), {}
    for name, biases in (("plain", [mpf(0)] * 3), ("biased", [mpf(float(c)) for c in given["biases"]])):
        values = likelihood(points, weights, biases, beta)
        check_partition(weights, biases, beta, values["log_partition"][0])
        check_gradients(points, weights, biases, beta, values)
        found |= {f"{name}.{key}": value for key, value in values.items()}
    return given | {"inverse_temperature": [beta]} | found


# Patterns that fill a circle.


def check_circle(radius, point, beta, stated):
    """The distance form over enough patterns on the circle; the rule on a period converges geometrically."""
    count = 4096 if beta > 300 else 512
    angles = [2 * mpmath.pi * k / count for k in range(count)]
    squares = [(point[0] - radius * mpmath.cos(a)) ** 2 + (point[1] - radius * mpmath.sin(a)) ** 2 for a in angles]
    mean = mpmath.fsum(mpmath.exp(-beta * s / 2) for s in squares) / count
    assert abs(-mpmath.log(mean) / beta - stated) <= 1e-30


def circle():
    """E(y) = (|y|^2 + R^2) / 2 - log I0(beta R |y|) / beta and its slope |y| - R I1 / I0, R = 1."""
    points = np.array([[0, 0], [1e-3, 0], [0.1, 0], [0.3, 0.4], [0.6, 0.8], [0, -1.1], [-1.5, 2], [7, 24]])
    betas, radius, found = [1.0, 8.0, 300.0, 1e4], mpf(1), {"energy": [], "slope": [], "log_scaled_bessel": []}
    for beta in map(mpf, betas):
        rows = []
        for point in exactly(points):
            r = mpmath.sqrt(dot(point, point))
            z = beta * radius * r
            bessel = mpmath.besseli(0, z)
            value = (r * r + radius**2) / 2 - mpmath.log(bessel) / beta
            check_circle(radius, point, beta, value) if r <= 1.2 else None
            rows.append((value, r - radius * mpmath.besseli(1, z) / bessel, mpmath.log(bessel) - z))
        for key, column in zip(found, zip(*rows)):
            found[key].append(column)
    return {"points": points, "inverse_temperatures": betas, "radius": [radius]} | found


def compared(part, floats, values):
    """Distance of float64 programs from the stored values, by name; one far query must not hide the others' energies."""
    measure = lambda key: relative if key.endswith(("energy", "entropy")) else distance
    return {f"{part}.{key}": brief(measure(key)(found, values[key])) for key, found in floats.items()}


def in_doubles(tensors):
    """Every nested list of 50-digit numbers as a float64 array."""
    return {name: np.array(value, dtype=np.float64) for name, value in tensors.items()}


def main():
    """Writes theory.safetensors, everything in float64."""
    about, everything = {"versions": versions("mpmath", "numpy", "scipy", "torch", "safetensors"), "float64": {}}, {}

    def add(part, values, floats):
        everything.update({f"{part}.{key}": value for key, value in values.items()})
        about["float64"] |= compared(part, floats, values)

    for case, given in networks().items():
        values = in_doubles(network(*given))
        add(case, values, theory_in_floats.network(*given))
        if case in ("small", "heavy"):
            check_curvature(*given)
    merged = ("energy", "retrieved", "gradient", "hessian", "distance_energy", "distance_retrieved", "path")
    assert all(distance(everything[f"doubled.{key}"], everything[f"merged.{key}"]) <= 1e-15 for key in merged)
    rises = in_doubles(expected_rises())
    check_expected(rises, {key: everything[f"geometry.{key}"] for key in ("expected_rise", "fixed_point_softmax")})
    add("expected", rises, {})
    for make in (rotation, boltzmann, circle):
        values = in_doubles(make())
        add(make.__name__, values, getattr(theory_in_floats, make.__name__)(values))
    for name, error in about["float64"].items():
        print(f"numpy float64 {name}: {error:.1e}")
        assert error <= 1e-11, name
    write_tensors(FOLDER / "theory.safetensors", {k: torch.from_numpy(v) for k, v in everything.items()}, about)


if __name__ == "__main__":
    main()

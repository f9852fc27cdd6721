"""What make_theory.py computes in 50 digits, by numpy and scipy in float64: how near a port in float64 can come."""

import numpy as np
import scipy.linalg
from scipy.special import ive, logsumexp, softmax

from make_hopfield import in_floats


def network(patterns, queries, beta, masses):
    """Energies, softmax, curvature, path and fixed points of one network."""
    found = {}
    for form, prefix in (("dot", ""), ("distance", "distance_")):
        logits = beta * (queries @ patterns.T) + np.log(masses)
        if form == "distance":
            logits = -beta / 2 * np.square(queries[:, None] - patterns).sum(2) + np.log(masses)
        p = softmax(logits, axis=1)
        found[prefix + "energy"] = in_floats(form, queries, patterns, beta, masses, False)
        found[prefix + "softmax"], found[prefix + "retrieved"] = p, p @ patterns
        found[prefix + "entropy"] = logsumexp(logits, axis=1) - (p * logits).sum(1)
    p, r = found["softmax"], found["retrieved"]
    covariance = np.einsum("qm,mi,mj->qij", p, patterns, patterns) - r[:, :, None] * r[:, None]
    found["hessian"] = np.eye(patterns.shape[1]) - beta * covariance
    found["eigenvalues"] = np.linalg.eigvalsh(found["hessian"])
    update = lambda x: softmax(beta * x @ patterns.T + np.log(masses), axis=-1) @ patterns
    path = [queries[0]]
    for _ in range(20):
        path.append(update(path[-1]))
    found["path"], x = np.array(path), patterns
    for _ in range(2000):
        x = update(x)
    found["fixed_points"] = x
    found["fixed_point_energy"] = in_floats("dot", x, patterns, beta, masses, False)
    return found


def rotation(given):
    """The matrix exponential, the rotation identity and the closed form of the gains."""
    x, patterns, beta, p = given["fixed_points"], given["patterns"], float(given["inverse_temperature"][0]), given["softmax"]
    turns = scipy.linalg.expm(given["epsilons"][:, None, None] * given["omega"])
    energies = lambda y: np.square(y).sum(-1) / 2 - logsumexp(beta * y @ patterns.T, axis=-1) / beta
    rises = energies(x @ turns) - energies(x)
    gains = np.log1p(p * np.exp(beta * rises)[..., None]) / beta
    joint = np.log1p(np.exp(beta * rises) * (p @ given["replay_masses"])) / beta
    net = gains - np.log1p(p) / beta
    return {"exponential": turns, "energy_rises": rises, "gains": gains, "net_gains": net, "joint_gains": joint}


def boltzmann(given):
    """Likelihoods and their gradients."""
    w, x, beta, found = given["weights"], given["points"], float(given["inverse_temperature"][0]), {}
    for name, c in (("plain", np.zeros(3)), ("biased", given["biases"])):
        logits, exponents = beta * x @ w.T + c, beta * np.square(w).sum(1) / 2 + c
        log_z = np.log(2 * np.pi / beta) + logsumexp(exponents)
        r, shares = softmax(logits, axis=1), softmax(exponents)
        nll = beta * np.square(x).sum(1) / 2 - logsumexp(logits, axis=1) + log_z
        values = {"log_partition": [log_z], "nll": nll, "weights_gradient": beta * (shares[:, None] * w - r.T @ x / len(x))}
        values["biases_gradient"] = shares - r.mean(0)
        found |= {f"{name}.{key}": value for key, value in values.items()}
    return found


def circle(given):
    """By scaled Bessel functions."""
    r, beta = np.hypot(*given["points"].T), given["inverse_temperatures"][:, None]
    scaled = ive(0, beta * r)
    energies = np.square(r - 1) / 2 - np.log(scaled) / beta
    return {"energy": energies, "slope": r - ive(1, beta * r) / scaled, "log_scaled_bessel": np.log(scaled)}

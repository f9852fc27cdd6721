"""Golden values of crates/ledger/src/statistics, from scipy and numpy.

Run: python tests/golden/make_statistics.py > tests/golden/statistics.json
"""

import json

import numpy as np
import scipy
import scipy.stats as stats

generator = np.random.default_rng(20260527)


def partial_spearman(x, y, controls):
    """By its definition: ranks, least squares with intercept, correlation of the residuals."""
    ranked = [stats.rankdata(column) for column in (x, y, *controls)]
    design = np.column_stack([np.ones(len(x)), *ranked[2:]])
    residual = [r - design @ np.linalg.lstsq(design, r, rcond=None)[0] for r in ranked[:2]]
    return float(np.corrcoef(*residual)[0, 1])


def case(n, is_tied, collinear):
    z = generator.normal(size=(3, n))
    x = 0.6 * z[0] + generator.normal(size=n)
    y = 0.5 * x + 0.7 * z[0] - 0.4 * z[1] + generator.normal(size=n)
    columns = [x, y, *z]
    if is_tied:
        columns = [np.round(column * 2) / 2 for column in columns]
    x, y, *controls = columns
    if collinear:
        controls = [*controls, controls[0] * 3 - 1, -controls[1], np.full(n, 2.5)]
    # The resample is written out as item numbers; counts of them go to the fast code.
    items = generator.integers(0, n, size=n)
    groups = np.array_split(np.arange(n), 5)
    labels = np.concatenate([np.full(len(group), index) for index, group in enumerate(groups)])
    kendall = stats.kendalltau(labels, y, method="asymptotic", alternative="greater")
    return {
        "x": x.tolist(),
        "y": y.tolist(),
        "controls": [control.tolist() for control in controls],
        "ranks_of_y": stats.rankdata(y).tolist(),
        "pearson": float(stats.pearsonr(x, y)[0]),
        "spearman": float(stats.spearmanr(x, y)[0]),
        "partial_spearman": partial_spearman(x, y, controls),
        "items": items.tolist(),
        "resampled_spearman": float(stats.spearmanr(x[items], y[items])[0]),
        "resampled_partial_spearman": partial_spearman(
            x[items], y[items], [control[items] for control in controls]
        ),
        # Five consecutive groups of y, sizes as numpy.array_split gives them.
        "group_sizes": [len(group) for group in groups],
        "trend_p": float(kendall.pvalue),
    }


cases = [case(12, False, False), case(60, False, True), case(60, True, False), case(47, True, True)]
print(json.dumps({"scipy": scipy.__version__, "numpy": np.__version__, "cases": cases}, indent=1))

"""SALib's Sobol indices, with its resamples a few at a time.

``SALib.analyze.sobol.analyze`` gathers all resamples of each parameter into arrays that are larger
than a core's cache, several times over. Here its estimators are given as many resamples as fit
there: the same numbers in less time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from SALib.analyze import sobol
from SALib.util import extract_group_names
from scipy import stats

__all__ = ["analyse_sobol"]

#: Numbers of an array that is in the cache, and the fewest resamples that are worth an array of two
#: dimensions; otherwise they come one by one.
_CACHED, _FEWEST = 2**15, 8


def analyse_sobol(
    problem: dict[str, Any],
    y: NDArray[np.float64],
    second_order: bool,
    resamples: int,
    level: float,
    seed: int,
) -> Mapping[str, Any]:
    """Return what ``SALib.analyze.sobol.analyze`` returns.

    Parameters
    ----------
    problem : dict
        SALib's description of the inputs.
    y : numpy.ndarray, shape (run,)
        One output over a Saltelli design.
    second_order : bool
        Whether the design has runs for the second order.
    resamples : int
        Resamples of the intervals.
    level : float
        Level of the intervals.
    seed : int
        Seed of the resamples, above zero.
    """
    result = dict(sobol.analyze(problem, y, second_order, 2, level, seed=seed))
    size = len(extract_group_names(problem)[0])
    n = y.size // ((2 if second_order else 1) * size + 2)
    y = (y - y.mean()) / y.std()
    A, B, AB, BA = sobol.separate_output_values(y, size, n, second_order)
    A, B, AB = np.ascontiguousarray(A), np.ascontiguousarray(B), np.ascontiguousarray(AB.T)
    BA = None if BA is None else np.ascontiguousarray(BA.T)
    rows = np.random.default_rng(seed).integers(n, size=(n, resamples))
    first, total = np.empty((resamples, size)), np.empty((resamples, size))
    second = np.full((resamples, size, size), np.nan)
    some = _CACHED // n
    some = some if some >= _FEWEST else 1
    for start in range(0, resamples, some):
        k = slice(start, start + some)
        row = rows[:, k] if some > 1 else rows[:, start]
        a, b = A[row], B[row]
        for j in range(size):
            ab = AB[j][row]
            first[k, j] = sobol.first_order(a, ab, b)
            total[k, j] = sobol.total_order(a, ab, b)
            if BA is not None:
                ba = BA[j][row]
                for i in range(j + 1, size):
                    second[k, j, i] = sobol.second_order(a, ab, AB[i][row], ba, b)
    width = stats.norm.ppf(0.5 + level / 2)
    result["S1_conf"] = width * first.std(axis=0, ddof=1)
    result["ST_conf"] = width * total.std(axis=0, ddof=1)
    if BA is not None:
        result["S2_conf"] = width * second.std(axis=0, ddof=1)
    return result

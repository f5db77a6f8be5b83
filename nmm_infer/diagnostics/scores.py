"""How good are the estimates of each parameter? Scores with intervals, and fair comparisons."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import stats

from nmm_infer import _random
from nmm_infer.diagnostics.calibration import check_view
from nmm_infer.errors import InputError
from nmm_infer.inference.base import check_fitted
from nmm_infer.observation import View
from nmm_infer.parameters import Prior

__all__ = [
    "MIN_SPREAD",
    "SHRUNK",
    "crps",
    "holm",
    "paired_comparison",
    "score",
    "score_estimator",
    "score_table",
]

#: A predictor is collapsed if its spread over runs is less than this share of the prior's, ...
MIN_SPREAD = 0.05
#: ... or less than this share of what a correlation above .5 warrants (of a posterior mean, the
#: spread over the prior's equals the correlation).
SHRUNK = 0.25
LEVELS = (0.5, 0.9)
_BLOCK = 500
_Z = float(stats.norm.ppf(0.975))

Array = NDArray[np.float64]
Statistic = Callable[[dict[str, Array]], Array]


def crps(draws: Array, truth: Array) -> Array:
    """Return the continuous ranked probability score of draws, without bias for few of them.

    Parameters
    ----------
    draws : numpy.ndarray, shape (n, draw, ...)
        At least two draws of each predictive distribution.
    truth : numpy.ndarray, shape (n, ...)
        What came true.

    Returns
    -------
    numpy.ndarray, shape (n, ...)
        E|X - y| - E|X - X'| / 2, the second expectation over pairs of different draws (the fair
        score of Ferro 2014).

    References
    ----------
    Gneiting T, Raftery AE (2007), Journal of the American Statistical Association 102:359-378.
    Ferro CAT (2014), Quarterly Journal of the Royal Meteorological Society 140:1917-1923.
    """
    m = draws.shape[1]
    if m < 2:
        raise InputError("CRPS: give at least two draws")
    distance = np.abs(draws - truth[:, None]).mean(axis=1)
    # The sum over pairs |x_i - x_j|, i < j, is that of (2 i - m - 1) times the i-th smallest.
    weight = (2 * np.arange(1, m + 1) - m - 1) / (m * (m - 1))
    return np.asarray(distance - np.einsum("ij...,j->i...", np.sort(draws, axis=1), weight))


def score(
    draws: xr.DataArray | NDArray[Any],
    theta: xr.DataArray,
    prior: Prior,
    *,
    accepted: xr.DataArray | None = None,
) -> xr.Dataset:
    """Score the draws, or the point estimates, of known parameters.

    Everything is computed in probit space, where the prior is N(0, I). The point estimate is the
    mean of the draws there; what it owes to the number of draws is taken out of R², normalised
    error and spread. Intervals are normal with the standard error of the jackknife over runs.

    Parameters
    ----------
    draws : xarray.DataArray or numpy.ndarray
        Posterior draws (simulation, draw, parameter), or point estimates (simulation, parameter):
        labelled ones in the parameters' units, an array in probit space.
    theta : xarray.DataArray, dims (simulation, parameter)
        True parameters of the same runs, in their units. More parameters than the prior has do no
        harm.
    prior : Prior
        The parameters that are scored.
    accepted : xarray.DataArray, dims (simulation, parameter), optional
        Draws of the prior where only a part of it is asked about (a stratum): they tell mean, width
        and CRPS of what is believed before. N(0, I) without.

    Returns
    -------
    xarray.Dataset
        By parameter: ``r2``; ``nrmse``, root mean square error over the prior's standard deviation;
        ``slope`` of the estimate on the truth; ``r`` (Pearson), which is never to be read alone;
        ``coverage`` (level, parameter) of central intervals, from ranks, which are exact for any
        number of draws; ``crps`` (of a point estimate the absolute error), and ``crps_skill``, 1 -
        CRPS / that of the prior; ``contraction``, 1 - posterior variance / prior variance;
        ``spread``, standard deviation of the estimate over that of the truth; ``gain``, squared
        error of predicting the prior's mean less that of the estimate. Each has an interval of 95 %
        under its name and ``_interval`` (..., bound). ``beats_mean``: the interval of ``gain`` is
        above zero. ``collapsed``: the estimate hardly moves, see :data:`MIN_SPREAD` and
        :data:`SHRUNK`; its correlation says nothing. By run: ``squared_error`` and ``crps_of_run``
        (simulation, parameter), for :func:`paired_comparison`. Coverage and contraction of point
        estimates are NaN, and so is ``r`` where an estimate is constant.

    Raises
    ------
    InputError
        If shapes do not fit, draws or parameters are not finite, or there are fewer than three
        runs.
    """
    z = prior.to_unconstrained(theta, strict=True)
    drawn = _probit(draws, prior)
    if drawn.shape[0] != len(z) or drawn.shape[-1] != len(prior) or drawn.ndim not in (2, 3):
        raise InputError(
            f"scores: draws have shape {drawn.shape}; {len(z)} runs of {len(prior)} parameters "
            "need (simulation, draw, parameter) or (simulation, parameter)"
        )
    if len(z) < 3:
        raise InputError(f"scores: {len(z)} runs are too few, give at least three")
    if not np.isfinite(drawn).all():
        raise InputError("scores: some draws are not finite: leave their runs out")
    points = drawn.ndim == 2
    mean = drawn if points else drawn.mean(axis=1)
    variance = np.zeros_like(z) if points else drawn.var(axis=1, ddof=1)
    excess = variance / (1 if points else drawn.shape[1])  # of a mean of few draws
    own = np.abs(mean - z) if points else crps(drawn, z)
    location, scale, expected = _believed(z, prior, accepted)
    error = (mean - z) ** 2 - excess
    # Moments do not depend on the origin; about the middle they are not lost to rounding.
    t, p = z - z.mean(axis=0), mean - mean.mean(axis=0)
    columns = {
        "z": t, "zz": t**2, "m": p, "mm": p**2, "mz": p * t, "error": error,
        "variance": variance, "excess": excess, "crps": own, "expected": expected,
        "gain": (z - location) ** 2 - error,
    }  # fmt: skip
    statistics: dict[str, Statistic] = {
        "r2": lambda s: 1 - s["error"] / _cov(s, "z"),
        "nrmse": lambda s: np.sqrt(np.maximum(s["error"], 0.0)) / scale,
        "slope": lambda s: (s["mz"] - s["m"] * s["z"]) / _cov(s, "z"),
        "r": lambda s: _ratio(
            s["mz"] - s["m"] * s["z"],
            np.sqrt(np.maximum(_cov(s, "m"), 0.0) * _cov(s, "z")),
        ),
        "crps": lambda s: s["crps"],
        "crps_skill": lambda s: 1 - s["crps"] / s["expected"],
        "contraction": lambda s: np.nan * s["z"] if points else 1 - s["variance"] / scale**2,
        "spread": lambda s: np.sqrt(np.maximum(_cov(s, "m") - s["excess"], 0.0) / _cov(s, "z")),
        "gain": lambda s: s["gain"],
    }
    inside = np.full((len(LEVELS), *z.shape), np.nan) if points else _inside(drawn, z)
    found: dict[str, Any] = {}
    for name, statistic in statistics.items():
        value, interval = _jackknife(columns, statistic)
        found[name] = ("parameter", value)
        found[f"{name}_interval"] = (("parameter", "bound"), interval)
    covered = [_jackknife({"in": part}, lambda s: s["in"]) for part in inside]
    found["coverage"] = (("level", "parameter"), np.array([c[0] for c in covered]))
    found["coverage_interval"] = (
        ("level", "parameter", "bound"),
        np.array([c[1] for c in covered]),
    )
    found["beats_mean"] = ("parameter", found["gain_interval"][1][:, 0] > 0)
    found["collapsed"] = ("parameter", _collapsed(found["spread"][1], found["r"][1]))
    found["squared_error"] = (("simulation", "parameter"), error)
    found["crps_of_run"] = (("simulation", "parameter"), own)
    return xr.Dataset(
        found,
        coords={
            **prior.coords(),
            "level": list(LEVELS),
            "bound": ["low", "high"],
            "simulation": theta.coords["simulation"].values
            if "simulation" in theta.coords
            else np.arange(len(z)),
        },
        attrs={
            "runs": len(z),
            "draws": 1 if points else drawn.shape[1],
            "space": "probit",
            "interval": "95 %, normal, standard error of the jackknife over runs",
            "min_spread": MIN_SPREAD,
            "shrunk": SHRUNK,
        },
    )


def score_estimator(
    estimator: Any,
    view: View,
    *,
    n_draws: int = 256,
    seed: int = 0,
    accepted: xr.DataArray | None = None,
) -> xr.Dataset:
    """Score a fitted estimator on fresh runs.

    Parameters
    ----------
    estimator : PosteriorMixin or Regressor
        Anything with ``prior_``, ``flat(sequences)`` and ``_sample(flat, n_draws, seed)`` in probit
        space, or else with ``predict(view)``.
    view : View
        Fresh runs.
    n_draws : int
        Posterior draws for each run.
    seed : int
        Seed of the draws.
    accepted : xarray.DataArray, optional
        See :func:`score`.

    Returns
    -------
    xarray.Dataset
        See :func:`score`.
    """
    check_fitted(estimator)
    check_view(view)
    prior: Prior = estimator.prior_
    if not hasattr(estimator, "_sample"):
        return score(estimator.predict(view), view.theta, prior, accepted=accepted)
    x = estimator.flat(view.sequences())
    parts = [
        estimator._sample(x[start : start + _BLOCK], n_draws, seed + i)
        for i, start in enumerate(range(0, len(x), _BLOCK))
    ]
    return score(np.concatenate(parts), view.theta, prior, accepted=accepted)


def paired_comparison(errors_a: xr.DataArray, errors_b: xr.DataArray) -> xr.Dataset:
    """Compare two estimators by their errors on the same runs, cell by cell.

    Parameters
    ----------
    errors_a, errors_b : xarray.DataArray, dims (simulation, ...)
        Errors of each run, the smaller the better: ``squared_error`` or ``crps_of_run`` of
        :func:`score`. All other dimensions (parameter, level, ...) are the cells.

    Returns
    -------
    xarray.Dataset, dims (...)
        ``difference``, mean error of b less that of a (positive: a is better), its
        ``difference_interval`` (..., bound), ``p_value`` of the paired t-test, ``p_holm`` (see
        :func:`holm`, over all cells), and ``verdict``: 1 where a is better, -1 where b is, at a
        corrected level of 5 %, else 0.

    Raises
    ------
    InputError
        If the two do not have the same runs and cells.
    """
    try:
        a, b = xr.align(errors_a, errors_b, join="exact")
    except ValueError as unequal:
        raise InputError("comparison: give errors of the same runs and cells") from unequal
    if "simulation" not in a.dims or set(a.dims) != set(b.dims) or a.sizes["simulation"] < 3:
        raise InputError("comparison: give errors with the same dimensions, three runs at least")
    gap = (b - a).transpose("simulation", ...)
    n = gap.sizes["simulation"]
    values = gap.values
    centre, error = values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(n)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = centre / error
    # Two estimators that err alike in every run do not differ.
    p = np.where(error > 0, 2 * stats.t.sf(np.abs(t), n - 1), np.where(centre == 0, 1.0, 0.0))
    corrected = holm(p.ravel()).reshape(p.shape)
    half = stats.t.ppf(0.975, n - 1) * error
    cells = [str(d) for d in gap.dims[1:]]
    return xr.Dataset(
        {
            "difference": (cells, centre),
            "difference_interval": (
                [*cells, "bound"],
                np.stack([centre - half, centre + half], -1),
            ),
            "p_value": (cells, p),
            "p_holm": (cells, corrected),
            "verdict": (cells, np.where(corrected < 0.05, np.sign(centre), 0).astype(int)),
        },
        coords={
            **{k: c for k, c in gap.coords.items() if "simulation" not in c.dims},
            "bound": ["low", "high"],
        },
        attrs={"runs": n, "interval": "95 %, paired t, not corrected"},
    )


def holm(p_values: NDArray[Any]) -> Array:
    """Correct p-values for their number, so that any false finding has the level's probability.

    Parameters
    ----------
    p_values : array_like, shape (m,)
        P-values, of any dependence.

    Returns
    -------
    numpy.ndarray, shape (m,)
        Corrected ones, in the same order.

    References
    ----------
    Holm S (1979), Scandinavian Journal of Statistics 6:65-70.
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p)
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(stepped, 1.0)
    return corrected


def score_table(scores: Mapping[str, xr.Dataset]) -> str:
    """Return scores of some estimators as a Markdown table; a correlation is never alone in it.

    Parameters
    ----------
    scores : dict of str to xarray.Dataset
        Results of :func:`score`, by the name of the estimator.

    Returns
    -------
    str
        One row for each estimator and parameter, and one for predicting the prior's mean.
        Intervals of 95 % in brackets; collapsed estimates are marked.
    """
    heads = ["estimator", "parameter", "R²", "nRMSE", "slope", "r", "50 %", "90 %"]
    heads += ["CRPS skill", "contraction", "beats the mean"]
    rows = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for label, found in scores.items():
        for name in found.coords["parameter"].values.tolist():
            one = found.sel(parameter=name)
            cells = [_cell(one, key) for key in ("r2", "nrmse", "slope", "r")]
            cells += [_cell(one.sel(level=level), "coverage") for level in LEVELS]
            cells += [_cell(one, key) for key in ("crps_skill", "contraction")]
            verdict = "yes" if bool(one["beats_mean"]) else "no"
            cells.append(verdict + (", collapsed" if bool(one["collapsed"]) else ""))
            rows.append(f"| {label} | {name} | " + " | ".join(cells) + " |")
    rows.append("| predict the mean | all | 0 | 1 | 0 | - | - | - | - | 0 | - |")
    return "\n".join(rows)


def _cell(found: xr.Dataset, key: str) -> str:
    value = float(found[key])
    if not np.isfinite(value):
        return "-"
    low, high = found[f"{key}_interval"].values
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"


def _probit(draws: xr.DataArray | NDArray[Any], prior: Prior) -> Array:
    if not isinstance(draws, xr.DataArray):
        return np.asarray(draws, dtype=float)
    order = [d for d in ("simulation", "draw", "parameter") if d in draws.dims]
    return prior.to_unconstrained(draws.transpose(*order))


def _believed(z: Array, prior: Prior, accepted: xr.DataArray | None) -> tuple[Array, Array, Array]:
    """Mean and standard deviation of the prior, and its CRPS at each truth."""
    if accepted is None:
        # The closed form of a standard normal (Gneiting and Raftery 2007, equation 21).
        normal = z * (2 * stats.norm.cdf(z) - 1) + 2 * stats.norm.pdf(z) - 1 / np.sqrt(np.pi)
        return np.zeros(z.shape[1]), np.ones(z.shape[1]), normal
    drawn = prior.to_unconstrained(accepted)
    some = drawn[_random.generator(0, "scores").permutation(len(drawn))[:1000]]
    middle = np.median(some, axis=0)
    # Half the mean distance of two draws is what the score lacks of the distance to the truth.
    spread = np.abs(some - middle).mean(axis=0) - crps(some[None], middle[None])[0]
    distance = np.stack([np.abs(some - row).mean(axis=0) for row in z])
    return drawn.mean(axis=0), drawn.std(axis=0), distance - spread


def _cov(s: dict[str, Array], name: str) -> Array:
    """Variance, from the means of a column and of its square."""
    return s[2 * name] - s[name] ** 2


def _ratio(numerator: Array, denominator: Array) -> Array:
    return np.where(denominator > 1e-9, numerator / np.maximum(denominator, 1e-300), np.nan)


def _jackknife(columns: dict[str, Array], statistic: Statistic) -> tuple[Array, Array]:
    """Value and 95 % interval of a function of column means; columns have shape (n, parameter)."""
    n = len(next(iter(columns.values())))
    value = statistic({k: c.mean(axis=0) for k, c in columns.items()})
    left_out = statistic({k: (c.sum(axis=0) - c) / (n - 1) for k, c in columns.items()})
    variance = (n - 1) / n * ((left_out - left_out.mean(axis=0)) ** 2).sum(axis=0)
    half = _Z * np.sqrt(variance)
    return value, np.stack([value - half, value + half], axis=-1)


def _inside(draws: Array, z: Array) -> Array:
    """Probability that each truth lies in the central interval, by level, run and parameter.

    With exchangeable draws the truth's rank R among m of them is uniform on 0..m, and (R + U) /
    (m + 1) with a uniform U is uniform on (0, 1). The probability over U is exact.
    """
    m = draws.shape[1]
    rank = (draws < z[:, None]).sum(axis=1)
    low, high = rank / (m + 1), (rank + 1) / (m + 1)
    return np.stack(
        [
            (np.minimum(high, 0.5 + c / 2) - np.maximum(low, 0.5 - c / 2)).clip(0) * (m + 1)
            for c in LEVELS
        ]
    )


def _collapsed(spread: Array, r: Array) -> NDArray[np.bool_]:
    strong = np.nan_to_num(np.abs(r)) > 0.5
    return np.asarray((spread < MIN_SPREAD) | (strong & (spread < SHRUNK * np.abs(r))))

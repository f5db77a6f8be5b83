"""Local identifiability: how much any estimator could learn, and what none can tell apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nmm_infer import _random
from nmm_infer.errors import InputError
from nmm_infer.inference._differences import STEP, in_batches, jacobians
from nmm_infer.inference._likelihood import Likelihood
from nmm_infer.parameters import Prior

__all__ = ["IDENTIFIABLE", "compare_with_posterior", "identifiability"]

#: What contracts by less is not identifiable.
IDENTIFIABLE = 0.1
#: Loadings below this share of a direction's largest are not named; loadings as near as this are
#: taken for equal.
_SMALL, _EQUAL = 0.2, 0.1
_PROBE = 1e-4

Array = NDArray[np.float64]
Function = Callable[[Mapping[str, Array]], Array]


def identifiability(
    likelihood: Likelihood,
    *,
    n_draws: int = 500,
    seed: int = 0,
    step: float = STEP,
    level: float = IDENTIFIABLE,
    functions: Mapping[str, Function] | None = None,
) -> xr.Dataset:
    r"""Tell what observations can teach on average over the prior, whatever the estimator.

    At draws of the prior the Fisher information :math:`F(z) = J^T J` comes from the derivatives
    :math:`J` of the whitened mean. In probit space the prior is N(0, I), with the information I.
    Two answers stand side by side:

    - *bound*: no estimator has a smaller mean square error on average over the prior than
      :math:`(E F(z) + I)^{-1}` (van Trees), so no posterior contracts more on average.
    - *local*: :math:`E (F(z) + I)^{-1}`, the mean variance of the Gaussians that the posterior would
      be if the model were linear around each truth (Laplace). It is never below the bound.

    Directions are found with logarithms of the parameters, where a product is a straight line:
    generalised eigenvectors of the local posterior covariance against that of the prior.

    Parameters
    ----------
    likelihood : Likelihood
        The likelihood.
    n_draws : int
        Draws of the prior that the model admits.
    seed : int
        Seed of the draws.
    step : float
        Step of the central differences in probit space.
    level : float
        A direction whose local contraction is below this is not identifiable.
    functions : mapping of str to callable, optional
        Functions of the parameters, e.g. ``{"C_1": lambda p: p["alpha_1"] * p["C"]}``. Each takes a
        mapping of names to values (n,) in the parameters' units and returns values (n,).

    Returns
    -------
    xarray.Dataset
        By ``parameter``, in probit space: ``prior_variance`` (1, unless the model admits only a part
        of the prior), ``bound``, ``local_variance``, and 1 less their ratios to the prior variance,
        ``contraction_bound`` and ``contraction_local``; ``information`` (parameter, other), the mean
        of F. By ``direction``, the least identifiable first: ``loading`` (direction, parameter), the
        change of each coordinate along one prior standard deviation, ``direction_contraction``,
        ``direction_bound`` (the largest possible contraction) and ``direction_name``. The coordinate
        is log abs(parameter), or, for a parameter whose sign changes continuously, parameter over
        prior standard deviation: ``coordinate`` (parameter) says "log" or "linear". By
        ``function``: ``function_prior_variance``, ``function_bound``, ``function_local_variance``
        in the function's units, and ``function_contraction_bound``, ``function_contraction_local``
        (delta method). Attributes: ``unidentifiable`` (number of directions below ``level``),
        ``admitted`` (share of the prior), ``draws``, ``step``, ``level``.

    Raises
    ------
    InputError
        If the model holds for hardly any draw, or a function does not return one value a draw.

    Notes
    -----
    The bound asks for a prior density that vanishes at its edges. Where the model admits only a part
    of the prior (``admitted`` below 1) the density ends at a wall, and the bound is approximate.
    Contractions are relative to the variance of the draws that are admitted.

    References
    ----------
    Van Trees HL (1968), Detection, Estimation, and Modulation Theory, part I, section 2.4. Gill RD,
    Levit BY (1995), Applications of the van Trees inequality, Bernoulli 1:59-79.
    """
    if n_draws < 2 or not step > 0:
        raise InputError(f"identifiability: give 2 draws and a step above 0, not {n_draws}, {step}")
    prior = likelihood.prior
    k = len(prior)
    z, slopes, admitted = _at_prior(likelihood, n_draws, seed, step)
    fisher = np.einsum("nmi,nmj->nij", slopes, slopes)
    information = fisher.mean(axis=0)
    bound = np.linalg.inv(information + np.eye(k))
    local = np.linalg.inv(fisher + np.eye(k))
    variance = np.ones(k) if admitted == 1.0 else z.var(axis=0, ddof=1)
    names = prior.names
    found: dict[str, object] = {
        "prior_variance": ("parameter", variance),
        "bound": ("parameter", np.diag(bound)),
        "local_variance": ("parameter", np.diagonal(local, axis1=1, axis2=2).mean(axis=0)),
        "information": (("parameter", "other"), information),
    }
    found["contraction_bound"] = ("parameter", 1 - np.diag(bound) / variance)
    found["contraction_local"] = (
        "parameter", 1 - np.diagonal(local, axis1=1, axis2=2).mean(axis=0) / variance
    )  # fmt: skip
    found |= _directions(prior, z, fisher, information, level)
    found |= _functions(prior, z, local, bound, functions or {})
    below = np.asarray(found["direction_contraction"][1]) < level  # type: ignore[index]
    coords = prior.coords() | {"other": names, "direction": np.arange(k)}
    if functions:
        coords["function"] = list(functions)
    return xr.Dataset(
        found,
        coords=coords,
        attrs={
            "unidentifiable": int(below.sum()),
            "admitted": admitted,
            "draws": n_draws,
            "step": step,
            "level": level,
        },
    )


def compare_with_posterior(identified: xr.Dataset, calibration: xr.Dataset) -> xr.Dataset:
    """Set what the model can tell against what an estimator gets out of it.

    Parameters
    ----------
    identified : xarray.Dataset
        From :func:`identifiability`.
    calibration : xarray.Dataset
        From :func:`nmm_infer.diagnostics.calibrate`, of runs of the same prior: it has
        ``contraction`` (parameter), 1 less the mean posterior variance in probit space.

    Returns
    -------
    xarray.Dataset
        By ``parameter``: ``largest_possible`` and ``local`` contraction, that of the ``estimator``,
        all relative to the variance of the prior that the model admits; ``share``, what the
        estimator has of the local contraction (NaN where that is below the level); and
        ``identifiable``, whether the local contraction reaches the level. ``to_dataframe()`` makes a
        table of it.

    Raises
    ------
    InputError
        If the two are of different parameters.
    """
    names = identified["parameter"].values.tolist()
    given = calibration["parameter"].values.tolist()
    if sorted(names) != sorted(given):
        raise InputError(
            f"identifiability of {', '.join(names)} cannot be compared with a posterior of "
            f"{', '.join(given)}: estimate the same parameters"
        )
    variance = identified["prior_variance"].values
    contraction = calibration["contraction"].sel(parameter=names).values
    estimator = 1 - (1 - contraction) / variance
    local = identified["contraction_local"].values
    identifiable = local >= identified.attrs["level"]
    share = np.where(identifiable, estimator / np.where(identifiable, local, 1.0), np.nan)
    columns = {
        "largest_possible": identified["contraction_bound"].values,
        "local": local,
        "estimator": estimator,
        "share": share,
        "identifiable": identifiable,
    }
    return xr.Dataset(
        {name: ("parameter", values) for name, values in columns.items()},
        coords={"parameter": names},
    )


def _at_prior(
    likelihood: Likelihood, n_draws: int, seed: int, step: float
) -> tuple[Array, Array, float]:
    """Return draws that the model admits, derivatives there, and the share that it admits."""
    k = len(likelihood.prior)
    rng = _random.generator(seed, "identifiability")
    points: list[Array] = []
    slopes: list[Array] = []
    tried = kept = 0
    while kept < n_draws:
        if tried > 200 * n_draws:
            raise InputError(
                f"identifiability: the model holds for {kept} of {tried:,} draws from the prior: "
                "check prior and stratum"
            )
        z = rng.standard_normal((n_draws, k))
        for rows in in_batches(n_draws, 200 * (2 * k + 1)):
            _, slope, valid = jacobians(likelihood, z[rows], step)
            points.append(z[rows][valid])
            slopes.append(slope[valid])
            tried, kept = tried + len(valid), kept + int(valid.sum())
            if kept >= n_draws:
                break
    return (
        np.concatenate(points)[:n_draws], np.concatenate(slopes)[:n_draws], kept / tried
    )  # fmt: skip


def _coordinates(prior: Prior, z: Array) -> tuple[Array, list[str], Array]:
    """Return coordinates, whether each is a logarithm, and their derivatives in probit space."""
    theta = prior.from_unconstrained(z)
    kinds = []
    for parameter, column in zip(prior.parameters, theta.T, strict=True):
        one_sign = (column > 0).all() or (column < 0).all()
        kinds.append("log" if one_sign or parameter.distribution == "signed_lognormal" else "linear")
    logarithmic = np.array([kind == "log" for kind in kinds])
    scale = np.where(logarithmic, 1.0, theta.std(axis=0))

    def coordinate(points: Array) -> Array:
        values = prior.from_unconstrained(points)
        with np.errstate(divide="ignore"):
            return np.where(logarithmic, np.log(np.abs(values)), values / scale)

    slope = (coordinate(z + _PROBE) - coordinate(z - _PROBE)) / (2 * _PROBE)
    return coordinate(z), kinds, slope


def _directions(
    prior: Prior, z: Array, fisher: Array, information: Array, level: float
) -> dict[str, object]:
    """Return directions in log-parameters, the least identifiable first."""
    points, kinds, slope = _coordinates(prior, z)
    spread = points.std(axis=0, ddof=1)
    # In units of the prior standard deviation of each coordinate, whose prior information is I.
    change = spread / np.where(np.abs(slope) > 1e-12, slope, np.inf)
    scaled = fisher * change[:, :, None] * change[:, None, :]
    posterior = np.linalg.inv(scaled + np.eye(len(prior))).mean(axis=0)
    values, vectors = np.linalg.eigh(posterior)
    order = np.argsort(-values)
    vectors = vectors[:, order].T
    vectors *= np.sign(vectors[np.arange(len(vectors)), np.abs(vectors).argmax(axis=1)])[:, None]
    mean = scaled.mean(axis=0)
    best = 1 - 1 / (1 + np.einsum("di,ij,dj->d", vectors, mean, vectors))
    loading = vectors * spread
    contraction = 1 - values[order]
    names = [_describe(prior.names, row, kinds) for row in loading]
    return {
        "coordinate": ("parameter", kinds),
        "loading": (("direction", "parameter"), loading),
        "direction_contraction": ("direction", contraction),
        "direction_bound": ("direction", best),
        "direction_name": ("direction", names),
    }


def _describe(names: list[str], loading: Array, kinds: list[str]) -> str:
    """Say which parameters change along a direction, and which product stays as it is."""
    size = np.abs(loading)
    named = np.flatnonzero(size >= _SMALL * size.max())
    named = named[np.argsort(-size[named], kind="stable")]
    moves = {sign: [names[i] for i in named if np.sign(loading[i]) == sign] for sign in (1.0, -1.0)}
    words = [
        f"{', '.join(those)} {'up' if sign > 0 else 'down'}" for sign, those in moves.items() if those
    ]
    text = ", ".join(words)
    equal = size[named].min() >= (1 - _EQUAL) * size[named].max()
    if not (equal and len(named) > 1 and all(kinds[i] == "log" for i in named)):
        return text
    ups, downs = moves[1.0], moves[-1.0]
    if ups and downs and min(len(ups), len(downs)) == 1:
        one, many = (ups, downs) if len(ups) == 1 else (downs, ups)
        return f"{text}: {', '.join(f'{name} {one[0]}' for name in many)} unchanged"
    if not downs or not ups:
        return f"{text}: their ratios unchanged"
    return text


def _functions(
    prior: Prior, z: Array, local: Array, bound: Array, functions: Mapping[str, Function]
) -> dict[str, object]:
    """Return variances of functions of the parameters by the delta method."""
    if not functions:
        return {}
    n, k = z.shape

    def values(points: Array, name: str) -> Array:
        theta = prior.from_unconstrained(points)
        mapping = {p: theta[:, i] for i, p in enumerate(prior.names)}
        result = np.asarray(functions[name](mapping), dtype=float)
        if result.shape != (len(points),) or not np.isfinite(result).all():
            raise InputError(
                f"function {name!r}: it must return one finite number for each of "
                f"{len(points)} parameter sets, got an array {result.shape}"
            )
        return result

    rows = []
    for name in functions:
        slope = np.empty((n, k))
        for i in range(k):
            shift = _PROBE * np.eye(k)[i]
            slope[:, i] = (values(z + shift, name) - values(z - shift, name)) / (2 * _PROBE)
        variance = values(z, name).var(ddof=1)
        posterior = np.einsum("ni,nij,nj->n", slope, local, slope).mean()
        least = slope.mean(axis=0) @ bound @ slope.mean(axis=0)
        rows.append((variance, least, posterior, 1 - least / variance, 1 - posterior / variance))
    keys = ("prior_variance", "bound", "local_variance", "contraction_bound", "contraction_local")
    return {
        f"function_{key}": ("function", np.array(column))
        for key, column in zip(keys, zip(*rows, strict=True), strict=True)
    }

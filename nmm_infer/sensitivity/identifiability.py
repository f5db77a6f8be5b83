"""Local identifiability: how much any estimator could learn, and what none can tell apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import combinations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nmm_infer import _random
from nmm_infer._checks import check_whole
from nmm_infer.errors import InputError
from nmm_infer.inference._differences import STEP, in_batches, jacobians
from nmm_infer.inference._likelihood import Likelihood
from nmm_infer.parameters import Prior

__all__ = ["IDENTIFIABLE", "compare_with_posterior", "identifiability"]

#: What contracts by less is not identifiable.
IDENTIFIABLE = 0.1
#: Loadings below this share of a direction's largest are not named.
_SMALL = 0.2
#: Combinations of parameters that contract by less than this share of the level form a ridge (what
#: is left comes from rounding), and each is new if so much of it lies outside of those before.
_RIDGE, _NEW = 0.3, 0.3
#: With more parameters, combinations of more than four of them are not looked at.
_MANY = 12
_PROBE = 1e-4
_PRECISE_STEP = 1e-5
#: A model that admits more than this share of the prior is taken to admit all of it: the variance
#: of a few draws is less certain than that.
_WHOLE = 0.95

Array = NDArray[np.float64]
Function = Callable[[Mapping[str, Array]], Array]


def identifiability(
    likelihood: Likelihood,
    *,
    n_draws: int = 1000,
    seed: int = 0,
    step: float | None = None,
    level: float = IDENTIFIABLE,
    functions: Mapping[str, Function] | None = None,
) -> xr.Dataset:
    r"""Tell what observations can teach on average over the prior, whatever the estimator.

    At draws of the prior the Fisher information :math:`F(z) = J^T J` comes from the derivatives
    :math:`J` of the whitened mean. In probit space the prior is N(0, I), with the information I.
    Two answers stand side by side:

    - *bound*: no estimator has a smaller mean square error on average over the prior than
      :math:`(E F(z) + I)^{-1}` (van Trees), so no posterior contracts more on average.
    - *local*: :math:`E (F(z) + I)^{-1}`, the mean variance of the Gaussians that the posteriors
      would be if the model were linear around each truth (Laplace). It is never below the bound.

    A few parameter sets with a very large information, such as columns that nearly oscillate, make
    the bound loose; the local answer is what a typical observation teaches.

    Directions are found with logarithms of the parameters, where a product is a straight line:
    generalised eigenvectors of the local posterior covariance against that of the prior.

    Parameters
    ----------
    likelihood : Likelihood
        The likelihood; its attribute ``precise``, the same in float64, is used where there is one.
    n_draws : int
        Draws of the prior that the model admits.
    seed : int
        Seed of the draws.
    step : float, optional
        Step of the central differences in probit space; without, 1e-5 in float64 and 3e-3 in
        float32, where rounding and curvature err least.
    level : float
        A direction whose local contraction is below this is not identifiable.
    functions : mapping of str to callable, optional
        Functions of the parameters, e.g. ``{"C_1": lambda p: p["alpha_1"] * p["C"]}``. Each takes a
        mapping of names to values (n,) in the parameters' units and returns values (n,).

    Returns
    -------
    xarray.Dataset
        By ``parameter``, in probit space: ``prior_variance`` (1, unless the model admits less
        than 95 % of the prior), ``bound``, ``local_variance``, and 1 less their ratios to the prior
        variance, ``contraction_bound`` and ``contraction_local``; ``information`` (parameter,
        other), the mean of F.

        By ``direction``, the least identifiable first: ``loading`` (direction, parameter), the
        change of each coordinate along one prior standard deviation, ``direction_contraction``,
        ``direction_bound`` (the largest possible contraction) and ``direction_name``. The
        coordinate is log abs(parameter), or, for a parameter whose sign changes continuously,
        parameter over prior standard deviation: ``coordinate`` (parameter) says "log" or "linear".

        By ``ridge``: ``ridge_name`` and ``ridge_contraction`` of the simplest combinations along
        which nothing that is observed changes: one parameter down and others up by the same factor
        (their products are what enters) or all up (their ratios).

        By ``function``: ``function_prior_variance``, ``function_bound``,
        ``function_local_variance`` in the function's units squared, and
        ``function_contraction_bound``, ``function_contraction_local`` (delta method).

        Attributes: ``unidentifiable`` (number of directions below ``level``), ``admitted`` (share
        of the prior), ``draws``, ``step``, ``level``.

    Raises
    ------
    InputError
        If the model holds for hardly any draw, or a function does not return one value a draw.

    Notes
    -----
    The bound asks for a prior density that vanishes at its edges. Where the model admits only a
    part of the prior (``admitted`` below 1) the density ends at a wall, and the bound is
    approximate.
    Contractions are relative to the variance of the draws that are admitted.

    References
    ----------
    Van Trees HL (1968), Detection, Estimation, and Modulation Theory, part I, section 2.4. Gill RD,
    Levit BY (1995), Applications of the van Trees inequality, Bernoulli 1:59-79.
    """
    check_whole("identifiability: n_draws", n_draws, 2)
    if step is not None and not step > 0:
        raise InputError(f"identifiability: give a step above 0, not {step}")
    if not callable(getattr(likelihood, "mean", None)):
        raise InputError(f"identifiability: give a likelihood, not a {type(likelihood).__name__}")
    if step is None:
        step = _PRECISE_STEP if hasattr(likelihood, "precise") else STEP
    likelihood = getattr(likelihood, "precise", likelihood)
    prior = likelihood.prior
    k = len(prior)
    z, slopes, admitted = _at_prior(likelihood, n_draws, seed, step)
    fisher = np.einsum("nmi,nmj->nij", slopes, slopes)
    information = fisher.mean(axis=0)
    bound = np.linalg.inv(information + np.eye(k))
    local = np.linalg.inv(fisher + np.eye(k))
    variance = np.ones(k) if admitted > _WHOLE else z.var(axis=0, ddof=1)
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
    ridges = len(np.asarray(found["ridge_name"][1]))  # type: ignore[index]
    coords = prior.coords() | {
        "other": names, "direction": np.arange(k), "ridge": np.arange(ridges)
    }  # fmt: skip
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
        ``contraction`` (parameter), 1 less the mean posterior variance in probit space over
        ``prior_variance`` (parameter).

    Returns
    -------
    xarray.Dataset
        By ``parameter``: ``largest_possible`` and ``local`` contraction, that of the ``estimator``,
        all relative to the variance of the prior that the model admits; ``share``, what the
        estimator has of the local contraction (NaN where that is below the level); and
        ``identifiable``, whether the local contraction reaches the level. ``to_dataframe()`` makes
        a table of it.

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
    before = calibration["prior_variance"].sel(parameter=names).values
    estimator = 1 - (1 - contraction) * before / variance
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
        kinds.append(
            "log" if one_sign or parameter.distribution == "signed_lognormal" else "linear"
        )
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
    names = [_describe(prior.names, row) for row in loading]
    return {
        "coordinate": ("parameter", kinds),
        "loading": (("direction", "parameter"), loading),
        "direction_contraction": ("direction", contraction),
        "direction_bound": ("direction", best),
        "direction_name": ("direction", names),
        **_ridges(prior.names, kinds, spread, posterior, level),
    }


def _describe(names: list[str], loading: Array) -> str:
    """Say which parameters change along a direction, the ones that change most first."""
    size = np.abs(loading)
    order = [i for i in np.argsort(-size, kind="stable") if size[i] >= _SMALL * size.max()]
    words = [
        f"{', '.join(names[i] for i in order if loading[i] * sign > 0)} {word}"
        for sign, word in ((1, "up"), (-1, "down"))
        if any(loading[i] * sign > 0 for i in order)
    ]
    return ", ".join(words)


def _ridges(
    names: list[str], kinds: list[str], spread: Array, posterior: Array, level: float
) -> dict[str, object]:
    """Find the simplest combinations of log-parameters along which hardly anything contracts."""
    logs = [i for i, kind in enumerate(kinds) if kind == "log"]
    sizes = range(1, len(logs) if len(logs) <= _MANY else 4)
    candidates = [
        (one, others, sign)
        for size in sizes
        for one in logs
        for others in combinations([i for i in logs if i != one], size)
        for sign in (-1.0, 1.0)
        if size > 1 or one < others[0]
    ]
    vectors = np.zeros((len(candidates), len(names)))
    for row, (one, others, sign) in zip(vectors, candidates, strict=True):
        row[one], row[list(others)] = 1.0, sign
    vectors /= spread
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    contraction = 1 - np.einsum("ci,ij,cj->c", vectors, posterior, vectors)
    own = np.sort(1 - np.linalg.eigvalsh(posterior))
    flat = own[own < _RIDGE * level]
    limit = 1.2 * flat.max(initial=0.0) + 1e-9  # what lies among the flat directions is as flat
    chosen: list[int] = []
    basis = np.zeros((0, len(names)))
    # The fewest parameters first; of as many, the least identifiable.
    parts = np.array([len(others) for _, others, _ in candidates])
    for c in np.lexsort((contraction, parts)):
        rest = vectors[c] - (vectors[c] @ basis.T) @ basis
        if len(chosen) == len(flat):
            break
        if contraction[c] < limit and np.linalg.norm(rest) > _NEW:
            chosen.append(int(c))
            basis = np.concatenate([basis, rest[None] / np.linalg.norm(rest)])
    texts = []
    for one, others, sign in (candidates[c] for c in chosen):
        many = ", ".join(names[i] for i in others)
        if sign > 0:
            kept = ", ".join(f"{names[one]}/{names[i]}" for i in others)
            texts.append(f"{names[one]}, {many} up: {kept} unchanged")
        else:
            kept = ", ".join(f"{names[i]}*{names[one]}" for i in others)
            texts.append(f"{many} up, {names[one]} down: {kept} unchanged")
    return {
        "ridge_name": ("ridge", np.array(texts, dtype=str)),
        "ridge_contraction": ("ridge", contraction[chosen]),
    }


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

"""Nonlinear least squares from known parameters: an oracle, which no recording comes with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy import optimize

from nmm_infer.errors import InputError
from nmm_infer.inference._differences import STEP, jacobians
from nmm_infer.inference._likelihood import Likelihood, check_data
from nmm_infer.inference._together import together

__all__ = ["least_squares_from_truth", "nonlinear_least_squares"]

#: Probit space ends here: beyond lie 2e-9 of a prior's probability.
_EDGE = 6.0
#: Iterations stop where a step changes cost or parameters by less than this share, which is as far
#: as simulations in float32 carry.
_TOLERANCE = 1e-6
#: First width of the trust region in each coordinate, in prior standard deviations.
_FIRST = 0.5

Array = NDArray[np.float64]


def nonlinear_least_squares(
    likelihood: Likelihood,
    y: ArrayLike,
    start: xr.DataArray,
    *,
    prior: bool = False,
    step: float = STEP,
    max_steps: int = 50,
) -> xr.Dataset:
    """Fit the parameters of each observation by least squares, from given starts.

    SciPy's trust-region method runs in probit space; the derivatives of an iteration are central
    differences, evaluated with the point itself. Up to a hundred observations are fitted at a time,
    and what their iterations ask of the likelihood is evaluated as one batch.

    Parameters
    ----------
    likelihood : Likelihood
        The likelihood.
    y : array_like, shape (n, m) or (m,)
        Observations, in whitened units.
    start : xarray.DataArray, dims (simulation, parameter) or (parameter,)
        Where each fit begins, in the parameters' units. A start that is not the truth may end in
        another minimum.
    prior : bool
        Whether the prior counts: its N(0, I) enters as further residuals, and the estimate is the
        maximum of the posterior in probit space.
    step : float
        Step of the differences in probit space.
    max_steps : int
        Most steps of a fit.

    Returns
    -------
    xarray.Dataset
        ``estimate`` (simulation, parameter) in the parameters' units; ``z``, the same in probit
        space; ``covariance`` (simulation, parameter, other), the inverse of J'J (with the prior,
        J'J + I) in probit space (Laplace), infinite where J'J is singular; ``cost`` (simulation),
        half the sum of squares; ``evaluations`` and ``converged`` (simulation). Fits that start
        outside of the model's domain are NaN and not converged.

    Raises
    ------
    InputError
        If shapes do not fit, or numbers are not finite.

    See Also
    --------
    least_squares_from_truth : The oracle of benchmarks.

    References
    ----------
    Branch MA, Coleman TF, Li Y (1999), SIAM Journal on Scientific Computing 21:1-23, as implemented
    in SciPy (``least_squares``, method ``trf``). Tierney L, Kadane JB (1986), Journal of the
    American Statistical Association 81:82-86 (Laplace).
    """
    data = check_data(np.atleast_2d(np.asarray(y, dtype=float)), dims=2)
    if "parameter" not in start.dims:
        raise InputError(f"start: give dims (simulation, parameter), not {start.dims}")
    first = np.atleast_2d(likelihood.prior.to_unconstrained(start))
    if len(first) != len(data):
        raise InputError(f"start: {len(first)} starts for {len(data)} observations: give one each")
    if not np.isfinite(first).all():
        raise InputError("start: some parameters are not finite")
    first = np.clip(first, -_EDGE + 1e-3, _EDGE - 1e-3)

    centres = np.zeros_like(first) if prior else None
    z, covariance, cost, evaluations, converged = fit_many(
        likelihood, data, first, centres, step=step, max_steps=max_steps
    )
    coords = likelihood.prior.coords()
    return xr.Dataset(
        {
            "estimate": (("simulation", "parameter"), likelihood.prior.from_unconstrained(z)),
            "z": (("simulation", "parameter"), z),
            "covariance": (("simulation", "parameter", "other"), covariance),
            "cost": ("simulation", cost),
            "evaluations": ("simulation", evaluations),
            "converged": ("simulation", converged),
        },
        coords=coords | {"other": likelihood.prior.names},
        attrs={"prior": int(prior), "step": step},
    )


def least_squares_from_truth(
    likelihood: Likelihood, y: ArrayLike, truth: xr.DataArray, *, prior: bool = False
) -> xr.Dataset:
    """Fit each observation from its true parameters: an oracle, not a method.

    What it reaches bounds what a fit with a perfect start could reach; no recording comes with the
    truth. See :func:`nonlinear_least_squares`.

    Parameters
    ----------
    likelihood, y, prior
        See :func:`nonlinear_least_squares`.
    truth : xarray.DataArray, dims (simulation, parameter)
        True parameters.

    Returns
    -------
    xarray.Dataset
        As from :func:`nonlinear_least_squares`, with the attribute ``oracle``.
    """
    found = nonlinear_least_squares(likelihood, y, truth, prior=prior)
    return found.assign_attrs(oracle="starts at the true parameters")


def fit_many(
    likelihood: Likelihood,
    data: Array,
    starts: Array,
    centres: Array | None,
    *,
    step: float = STEP,
    max_steps: int = 50,
) -> tuple[Array, Array, Array, NDArray[np.int64], NDArray[np.bool_]]:
    """Fit observations (n, m) from starts (n, k) in probit space.

    ``centres`` (n, k) are those of a prior with unit covariance; without, there is none. Returns
    estimates, covariances, costs, evaluations, and whether each fit converged.
    """

    def fit(shared: Likelihood, i: int) -> tuple[Array, Array, float, int, bool]:
        centre = None if centres is None else centres[i]
        return _fit(shared, data[i], starts[i], centre, step, max_steps)

    fits = together(fit, likelihood, len(data))
    z, covariance, cost, evaluations, converged = (
        np.stack([np.asarray(f[k]) for f in fits]) for k in range(5)
    )
    return z, covariance, cost, evaluations, converged


def _fit(
    likelihood: Likelihood,
    y: Array,
    start: Array,
    centre: Array | None,
    step: float,
    max_steps: int,
) -> tuple[Array, Array, float, int, bool]:
    """Return estimate, covariance, cost, evaluations, and whether it converged."""
    n = len(start)
    residual, derivative, counter = _problem(likelihood, y, centre, step)
    if not np.isfinite(residual(start)).all():
        nothing = np.full(n, np.nan)
        return nothing, np.full((n, n), np.nan), np.nan, counter[0], False
    # SciPy's first trust region is as wide as the start is far from 0, which here is a prior median
    # like any other point: coordinates are shifted so that each fit begins at _FIRST.
    shift = start - _FIRST
    found = optimize.least_squares(
        lambda u: residual(u + shift), np.full(n, _FIRST), lambda u: derivative(u + shift),
        bounds=(-_EDGE - shift, _EDGE - shift), method="trf",
        ftol=_TOLERANCE, xtol=_TOLERANCE, gtol=_TOLERANCE, max_nfev=max_steps,
    )  # fmt: skip
    square = found.jac.T @ found.jac
    values, vectors = np.linalg.eigh(square)
    if values[0] > 1e-10 * max(values[-1], 1.0):
        covariance = (vectors / values) @ vectors.T
    else:
        covariance = np.full((n, n), np.inf)
    return found.x + shift, covariance, float(found.cost), counter[0], bool(found.status > 0)


def _problem(
    likelihood: Likelihood, y: Array, centre: Array | None, step: float
) -> tuple[Callable[[Array], Array], Callable[[Array], Array], list[int]]:
    """Return residuals and derivatives, which share each evaluation, and its count."""
    memory: dict[bytes, tuple[Array, Array]] = {}
    counter = [0]

    def evaluate(z: Array) -> tuple[Array, Array]:
        key = z.tobytes()
        if key not in memory:
            mean, slope, valid = jacobians(likelihood, z[None], step)
            counter[0] += 2 * len(z) + 1
            error = mean[0] - y if valid[0] else np.full(len(y), np.inf)  # SciPy steps back
            matrix = slope[0]
            if centre is not None:
                error = np.concatenate([error, z - centre])
                matrix = np.concatenate([matrix, np.eye(len(z))])
            memory.clear()
            memory[key] = error, matrix
        return memory[key]

    return lambda z: evaluate(z)[0], lambda z: evaluate(z)[1], counter

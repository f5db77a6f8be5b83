"""Refinement: from a network's posterior to the exact one, by its likelihood."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

import emcee
import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from nmm_infer import _random
from nmm_infer.errors import InputError
from nmm_infer.inference._likelihood import Counted, Likelihood, check_data
from nmm_infer.inference._moves import move, resample
from nmm_infer.inference._proposal import (
    MixtureProposal,
    effective_sample_size,
    smoothed_weights,
)
from nmm_infer.inference.base import PosteriorMixin, check_fitted
from nmm_infer.inference.least_squares import fit_many
from nmm_infer.observation import Sequences
from nmm_infer.parameters import Prior

__all__ = ["MAX_PARETO_K", "MIN_ESS", "Refined", "RefinedPosterior", "refine"]

#: Weights with a heavier tail are not to be relied on (Vehtari et al. 2024).
MAX_PARETO_K = 0.7
#: Fewer effective draws of 10,000 are too few.
MIN_ESS = 100
#: Means of walkers and of importance sampling that lie further apart, in posterior standard
#: deviations and beyond four standard errors, contradict each other.
_MAX_SHIFT = 0.15
#: Walkers are many and move little: likelihoods of thousands of columns at a time cost less each.
_WALKERS = 2500
#: Moves of a walker in each round of moves, fit of the proposal and weighting; rounds at most, and
#: the share of effective draws that ends them.
_STEPS, _ROUNDS, _GOOD = 8, 3, 0.1
#: Fits to randomised data, where the estimator's draws have no weight, and their steps.
_FITS, _FIT_STEPS = 60, 20
#: Fits whose log density is further below the best one ended in a worse minimum.
_MAX_DROP = 30.0
#: Moves from one snapshot of the walkers to the next; half of them are independent proposals.
_APART = 3

Array = NDArray[np.float64]


@dataclass(frozen=True)
class RefinedPosterior:
    """Draws from the posterior of one observation after refinement, and how it went.

    Parameters
    ----------
    draws : xarray.DataArray, dims (draw, parameter)
        In the parameters' units.
    prior : Prior
        The parameters.
    ess_estimator, pareto_k_estimator : float
        Effective sample size and tail of the weights of the estimator's own draws; NaN without
        their densities.
    ess, pareto_k : float
        The same of as many draws from the refined proposal.
    shift : float
        Largest distance between the means of moved walkers and of importance sampling, in
        posterior standard deviations.
    acceptance : float
        Share of moves that were accepted.
    log_evidence : float
        Log of the density of the observation under the model.
    evaluations : int
        Evaluations of the likelihood.
    seconds : float
        Time, without that of the estimator.
    reason : str
        Why the draws are not reliable; empty if they are.
    """

    draws: xr.DataArray
    prior: Prior
    ess_estimator: float
    pareto_k_estimator: float
    ess: float
    pareto_k: float
    shift: float
    acceptance: float
    log_evidence: float
    evaluations: int
    seconds: float
    reason: str = ""

    @property
    def reliable(self) -> bool:
        """Whether nothing speaks against the draws."""
        return not self.reason

    @property
    def z(self) -> Array:
        """Draws in probit space, shape (draw, parameter)."""
        return self.prior.to_unconstrained(self.draws)

    @property
    def summary(self) -> str:
        """One line: reliable, or not and why."""
        state = "reliable" if self.reliable else f"not reliable: {self.reason}"
        return (
            f"{state}; effective sample size {self.ess:.0f} of {len(self.draws):,} "
            f"(the estimator alone: {self.ess_estimator:.0f}), Pareto k {self.pareto_k:.2f}, "
            f"{self.evaluations:,} evaluations, {self.seconds:.1f} s"
        )


def refine(
    z: ArrayLike,
    likelihood: Likelihood,
    y: ArrayLike,
    *,
    log_q: ArrayLike | None = None,
    n_draws: int = 10_000,
    seed: int = 0,
) -> RefinedPosterior:
    """Carry draws that are nearly right to the exact posterior.

    The draws are weighted with likelihood times prior over ``log_q``. Where hardly any of them has
    weight, sixty fits to randomised data take their place. Walkers drawn from the weights move
    by differential evolution, a heavy-tailed Gaussian mixture is fitted to where they went, and
    ``n_draws`` draws from it are weighted in their turn. This is repeated, at most three times,
    until a tenth of the draws are effective; effective sample size, tail of the weights and the
    distance between weighted draws and walkers are the final diagnosis. Walkers drawn from the last
    weights move again, half of the time by independent proposals from the mixture, since weighted
    draws contain copies; snapshots of them are the result.

    Parameters
    ----------
    z : array_like, shape (n, parameter)
        Draws of an estimator in probit space.
    likelihood : Likelihood
        The likelihood.
    y : array_like, shape (m,)
        The observation, in whitened units.
    log_q : array_like, shape (n,), optional
        Log density of the estimator at its draws. Without, a mixture fitted to the draws takes the
        place of the estimator.
    n_draws : int
        Draws in the result, and of importance sampling.
    seed : int
        Seed of everything.

    Returns
    -------
    RefinedPosterior
        Draws and diagnosis.

    Raises
    ------
    InputError
        If shapes do not fit or numbers are not finite.

    Notes
    -----
    Most evaluations come in batches of some thousands. A mode of which neither the estimator nor
    the prior share of the proposal (3 %) has a draw stays unknown.

    References
    ----------
    Vehtari A et al. (2024), Pareto smoothed importance sampling, Journal of Machine Learning
    Research 25(72):1-58. ter Braak CJF (2006), Statistics and Computing 16:239-249. Dax M et al.
    (2023), Neural importance sampling, Physical Review Letters 130:171403. Bardsley JM et al.
    (2014), Randomize-then-optimize, SIAM Journal on Scientific Computing 36:A1895-A1910.
    """
    begin = perf_counter()
    data, points = check_data(y), np.asarray(z, dtype=float)
    n = len(likelihood.prior)
    if points.ndim != 2 or points.shape[1] != n or len(points) < 100:
        raise InputError(
            f"refine: give at least 100 draws of {n} parameters, not an array {points.shape}"
        )
    if not np.isfinite(points).all():
        raise InputError("refine: some draws are not finite: leave them out")
    if n_draws < 400:
        raise InputError(f"refine: {n_draws} draws are too few for a diagnosis: give 400 or more")
    rng = _random.generator(seed, "refine")
    density = Counted(likelihood, data)

    if log_q is None:
        fitted = MixtureProposal(points[:4000], rng)
        points = fitted.sample(len(points), rng)
        given = fitted.log_prob(points)
    else:
        given = np.asarray(log_q, dtype=float)
        if given.shape != (len(points),) or np.isnan(given).any():
            raise InputError(
                f"refine: log_q must have one number for each of {len(points)} draws, got an array "
                f"{given.shape}{' with NaN' if np.isnan(given).any() else ''}"
            )
    log_weights = density(points) - given
    weights, k_first, _ = smoothed_weights(log_weights)
    ess_first = effective_sample_size(weights) if np.isfinite(k_first) else 0.0
    walkers = max(min(_WALKERS, n_draws), 4 * n)
    power, weights = _tempered(log_weights, walkers / 4)
    proposal: MixtureProposal | None = None
    if power < 1.0:  # the estimator is far off
        starts = points[resample(weights, _FITS, rng)]
        proposal = _randomised_fits(likelihood, data, starts, density, rng)
    if proposal is not None:
        points = proposal.sample(n_draws, rng)
        log_weights = density(points) - proposal.log_prob(points)
        power, weights = _tempered(log_weights, walkers / 4)
    for _ in range(_ROUNDS):
        target = density if proposal is None else partial(_between, density, proposal, power)
        ensemble = points[resample(weights, walkers, rng)]
        ensemble = move(target, ensemble, _STEPS, rng).kept[-1]
        proposal = fitted = MixtureProposal(ensemble, rng)
        points = proposal.sample(n_draws, rng)
        log_weights = density(points) - proposal.log_prob(points)
        smoothed, k, log_evidence = smoothed_weights(log_weights)
        ess = effective_sample_size(smoothed) if np.isfinite(k) else 0.0
        shift, allowed = _shift(ensemble, points, smoothed)
        if ess >= _GOOD * n_draws and k <= MAX_PARETO_K and shift <= allowed:
            break
        power, weights = _tempered(log_weights, walkers / 4)

    _, weights = _tempered(log_weights, walkers / 4)
    start = points[resample(weights, walkers, rng)]
    snapshots = -(-n_draws // walkers)
    final = move(
        density, start, _APART * snapshots, rng, every=_APART,
        moves=[(emcee.moves.MHMove(fitted.propose), 1.0)],
    )  # fmt: skip
    drawn = rng.permutation(final.kept.reshape(-1, n))[:n_draws]

    fewest = MIN_ESS * n_draws / 10_000
    reasons = {
        f"effective sample size {ess:.0f} of {n_draws:,}, at least {fewest:.0f}": ess < fewest,
        f"Pareto k {k:.2f}, at most {MAX_PARETO_K}": k > MAX_PARETO_K,
        f"walkers and weights disagree by {shift:.2f} posterior standard deviations": (
            shift > allowed
        ),
    }
    return RefinedPosterior(
        draws=xr.DataArray(
            likelihood.prior.from_unconstrained(drawn),
            dims=("draw", "parameter"),
            coords=likelihood.prior.coords(),
            name="draws",
        ),
        prior=likelihood.prior,
        ess_estimator=ess_first if log_q is not None else np.nan,
        pareto_k_estimator=k_first if log_q is not None else np.nan,
        ess=ess,
        pareto_k=k,
        shift=shift,
        acceptance=final.acceptance,
        log_evidence=log_evidence,
        evaluations=density.evaluations,
        seconds=perf_counter() - begin,
        reason="; ".join(text for text, holds in reasons.items() if holds),
    )


class Refined(PosteriorMixin):
    """A posterior estimator whose answers are refined with an exact likelihood.

    It has the contract of the estimator: :meth:`posterior`, ``predict``, ``interval`` and
    ``log_prob``, and :meth:`refine`, which tells how it went.

    Parameters
    ----------
    estimator : PosteriorMixin
        A fitted posterior.
    likelihood : Likelihood, or callable
        The likelihood, with ``whiten(values)``. Where the noise differs between observations, a
        function that takes the context of one, shape (k,), and returns its likelihood.
    n_draws : int
        Draws of the estimator for each observation.

    Raises
    ------
    InputError
        If estimator and likelihood do not have the same parameters. Their order may differ: it
        is the names that count.
    """

    def __init__(
        self,
        estimator: PosteriorMixin,
        likelihood: Likelihood | Callable[[NDArray[np.float32]], Likelihood],
        *,
        n_draws: int = 10_000,
    ) -> None:
        check_fitted(estimator)
        self.estimator, self.n_draws = estimator, n_draws
        self._likelihood = likelihood
        self.prior_ = estimator.prior_
        if not callable(likelihood):
            self._order(likelihood)

    def sequences(self, x: Any, **kwargs: Any) -> Sequences:
        """See :meth:`Estimator.sequences`."""
        return self.estimator.sequences(x, **kwargs)

    def flat(self, sequences: Sequences) -> NDArray[np.float32]:
        """See :meth:`Estimator.flat`."""
        return self.estimator.flat(sequences)

    def refine(self, x: Any, *, n_draws: int = 10_000, seed: int = 0) -> list[RefinedPosterior]:
        """Refine the posterior of each observation.

        Parameters
        ----------
        x : View, Sequences, Observation or MNE object
            What was observed.
        n_draws : int
            Draws for each observation.
        seed : int
            Seed of the estimator's draws and of the refinement.

        Returns
        -------
        list of RefinedPosterior
            One for each observation.
        """
        return self._refine(self.flat(self.sequences(x)), n_draws, seed)

    def _order(self, likelihood: Likelihood) -> list[int]:
        """Return where the likelihood's parameters stand among the estimator's."""
        own = {p.name: p for p in self.prior_.parameters}
        theirs = {p.name: p for p in likelihood.prior.parameters}
        if own != theirs:
            differing = sorted(
                name for name in {*own, *theirs} if own.get(name) != theirs.get(name)
            )
            raise InputError(
                f"refinement: estimator and likelihood do not have the same prior of "
                f"{', '.join(differing)}; build both from one study"
            )
        return [self.prior_.names.index(name) for name in likelihood.prior.names]

    def _refine(self, x: NDArray[np.float32], n_draws: int, seed: int) -> list[RefinedPosterior]:
        found = []
        for i, row in enumerate(x):
            z, log_q = self.estimator._sample_and_log_prob(row[None], self.n_draws, seed + i)
            likelihood, values = self._of(row)
            order = self._order(likelihood)
            y = likelihood.whiten(values)  # type: ignore[attr-defined]
            found.append(
                refine(z[:, order], likelihood, y, log_q=log_q, n_draws=n_draws, seed=seed + i)
            )
        return found

    def _of(self, row: NDArray[np.float32]) -> tuple[Likelihood, NDArray[np.float32]]:
        """Return the likelihood of one observation, and its values without context."""
        context = int(getattr(self.estimator, "n_context", 0))
        values = row[: len(row) - context]
        if callable(self._likelihood):
            return self._likelihood(row[len(row) - context :]), values
        return self._likelihood, values

    def _sample(self, x: NDArray[np.float32], n_draws: int, seed: int) -> NDArray[np.float32]:
        draws = [r.draws.sel(parameter=self.prior_.names) for r in
                 self._refine(x, max(n_draws, 2000), seed)]  # fmt: skip
        z = [self.prior_.to_unconstrained(d.values[:n_draws]) for d in draws]
        return np.stack(z).astype(np.float32)

    def _log_prob(self, z: NDArray[np.float32], x: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return likelihood times prior over evidence, the last from importance sampling.

        Every different observation costs a refinement, some seconds.
        """
        points, result = np.asarray(z, dtype=float), np.empty(len(z))
        rows, place = np.unique(x, axis=0, return_inverse=True)
        for i, row in enumerate(rows):  # each is refined once, however many points it has
            own = np.flatnonzero(place.reshape(-1) == i)
            likelihood, values = self._of(row)
            order = self._order(likelihood)
            density = Counted(likelihood, likelihood.whiten(values))  # type: ignore[attr-defined]
            evidence = self._refine(row[None], 2000, i)[0].log_evidence
            result[own] = density(points[own][:, order]) - evidence
        return result


def _tempered(log_weights: Array, wanted: float) -> tuple[float, Array]:
    """Return the largest power up to 1 that leaves an effective size, and weights to it."""
    finite = np.isfinite(log_weights)
    if not finite.any():
        return 0.0, np.full(len(log_weights), 1 / len(log_weights))
    logs = np.where(finite, log_weights - log_weights[finite].max(), -np.inf)

    def powered(power: float) -> Array:
        weights = np.exp(power * logs)
        return np.asarray(weights / weights.sum())

    if finite.sum() < wanted or effective_sample_size(powered(1.0)) >= wanted:
        return 1.0, powered(1.0)
    low, high = 1e-8, 1.0
    for _ in range(40):
        middle = float(np.sqrt(low * high))
        if effective_sample_size(powered(middle)) >= wanted:
            low = middle
        else:
            high = middle
    return low, powered(low)


def _between(density: Counted, proposal: MixtureProposal, power: float, z: Array) -> Array:
    """Return the log of posterior to a power times proposal to what is left of 1."""
    value = density(z)
    if power == 1.0:
        return value
    mixed = power * np.maximum(value, -1e300) + (1.0 - power) * proposal.log_prob(z)
    return np.where(np.isneginf(value), -np.inf, mixed)


def _randomised_fits(
    likelihood: Likelihood, y: Array, starts: Array, density: Counted, rng: np.random.Generator
) -> MixtureProposal | None:
    """Return a mixture around fits to data and prior means with noise of their own.

    For a linear model such fits are draws from the posterior; otherwise they lie along it (Oliver
    et al. 1996; Bardsley et al. 2014). Nothing comes back if all of them fail.
    """
    data = y + rng.standard_normal((len(starts), len(y)))
    centres = rng.standard_normal(starts.shape)
    z, covariance, _, evaluations, _ = fit_many(
        likelihood, data, np.clip(starts, -5.9, 5.9), centres, max_steps=_FIT_STEPS
    )
    density.evaluations += int(evaluations.sum())
    ended = np.isfinite(z).all(axis=1) & np.isfinite(covariance).all(axis=(1, 2))
    if not ended.any():
        return None
    z, covariance = z[ended], covariance[ended]
    height = density(z)
    good = height >= height.max() - _MAX_DROP
    if not np.isfinite(height.max()):
        return None
    return MixtureProposal.around(z[good], covariance[good])


def _shift(walkers: Array, points: Array, weights: Array) -> tuple[float, float]:
    """Return the largest distance of means, and what is allowed, in standard deviations."""
    mean = weights @ points
    sd = np.maximum(np.sqrt(weights @ np.square(points - mean)), 1e-12)
    # Walkers come from few weighted draws and have moved a little: a tenth counts.
    error = np.sqrt(1 / effective_sample_size(weights) + 10 / len(walkers))
    shift = float(np.max(np.abs(walkers.mean(axis=0) - mean) / sd))
    return shift, max(_MAX_SHIFT, 4 * float(error))

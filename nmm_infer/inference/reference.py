"""Reference posteriors: the exact posterior of one observation, by sampling its likelihood."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import emcee
import numpy as np
import pocomc
import torch
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from sbi.diagnostics.sbc import check_uniformity_frequentist
from scipy import stats

from nmm_infer import _random
from nmm_infer.errors import InputError
from nmm_infer.inference._c2st import c2st
from nmm_infer.inference._likelihood import Counted, Likelihood, check_data
from nmm_infer.inference._moves import move, resample
from nmm_infer.inference._proposal import MixtureProposal
from nmm_infer.parameters import Prior

__all__ = ["MAX_C2ST", "ReferencePosterior", "certify", "ranks_uniform", "reference_posterior"]

#: Two runs that a classifier tells apart with a larger accuracy do not agree.
MAX_C2ST = 0.52
#: Draws of each run that the classifier sees: under equality its accuracy has a standard
#: deviation of .5 / sqrt(10,000) = .005, so that .52 is four of them from chance.
_TESTED = 5000
#: Fewest and most particles of the tempered start.
_ACTIVE = (250, 1000)
#: Snapshots of each ensemble of walkers that are kept.
_SNAPSHOTS = 10

_GLOBAL = threading.Lock()

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ReferencePosterior:
    """Draws from the exact posterior of one observation, and whether they may be relied on.

    Parameters
    ----------
    draws : xarray.DataArray, dims (draw, parameter)
        Draws of both runs in random order, in the parameters' units.
    prior : Prior
        The parameters.
    c2st : float
        Accuracy with which a classifier tells the two runs apart; .5 is chance.
    tested : int
        Draws of each run that the classifier saw.
    evaluations : int
        Evaluations of the likelihood, of both runs.
    seconds : float
        Time.
    acceptance : float
        Share of accepted moves, the lower of the two runs.
    reason : str
        Why the reference is not certified; empty if it is.
    """

    draws: xr.DataArray
    prior: Prior
    c2st: float
    tested: int
    evaluations: int
    seconds: float
    acceptance: float
    reason: str = ""

    @property
    def certified(self) -> bool:
        """Whether the two runs agree, and nothing else speaks against the reference."""
        return not self.reason

    @property
    def z(self) -> Array:
        """Draws in probit space, shape (draw, parameter)."""
        return self.prior.to_unconstrained(self.draws)

    @property
    def summary(self) -> str:
        """One line: certified, or not certifiable and why."""
        cost = f"{self.evaluations:,} evaluations, {self.seconds:.0f} s"
        if self.certified:
            return f"certified: two runs agree (C2ST {self.c2st:.3f}); {cost}"
        return f"not certifiable: {self.reason}; {cost}"

    def to_dataset(self) -> xr.Dataset:
        """Return draws and findings, as a data set that netCDF holds."""
        attrs = {
            "c2st": self.c2st,
            "tested": self.tested,
            "evaluations": self.evaluations,
            "seconds": self.seconds,
            "acceptance": self.acceptance,
            "certified": int(self.certified),
            "summary": self.summary,
        }
        return xr.Dataset({"draws": self.draws}, attrs=attrs)


def reference_posterior(
    likelihood: Likelihood,
    y: ArrayLike,
    *,
    n_draws: int = 10_000,
    seed: int = 0,
    steps: int = 200,
    max_rounds: int = 12,
) -> ReferencePosterior:
    """Sample the exact posterior of one observation twice, and compare the two.

    Each run starts from the prior and goes to the posterior through tempered ones (pocoMC's
    sequential Monte Carlo, without its flow). Some of the particles then become an ensemble of
    walkers that emcee moves with differential evolution, stretches, and independent proposals from
    a heavy-tailed Gaussian mixture that was fitted to the run's own draws before: the tempered
    start alone misses thin tails of curved posteriors. The two runs have seeds of their own and
    share nothing. If a classifier tells their draws apart, both are moved on, each with a new
    mixture, up to ``max_rounds`` times; if it still does, the reference is *not certifiable*, and
    says so. No network has a part in this.

    Parameters
    ----------
    likelihood : Likelihood
        The likelihood; without state noise and with Gaussian sensor noise it is exact.
    y : array_like, shape (m,)
        The observation, in whitened units.
    n_draws : int
        Draws in the result, half from each run. The classifier sees at most 5,000 of each.
    seed : int
        Seed of the two runs.
    steps : int
        Moves of each walker in a round, of which ten snapshots at equal distances are kept.
    max_rounds : int
        Rounds before the runs are given up.

    Returns
    -------
    ReferencePosterior
        Draws with their certificate.

    Raises
    ------
    InputError
        If the observation is not finite, or the prior never meets the model's domain.

    Notes
    -----
    Two runs that agree may both miss the same mode; :func:`ranks_uniform` over many observations
    looks for that. Since runs are compared again after each round, a pair passes a little more
    often than by a single test.

    References
    ----------
    Karamanis M et al. (2022), Accelerating astronomical and cosmological inference with
    preconditioned Monte Carlo, MNRAS 516:1644-1653. ter Braak CJF (2006), Statistics and Computing
    16:239-249. Goodman J, Weare J (2010), Communications in Applied Mathematics and Computational
    Science 5:65-80. Foreman-Mackey D et al. (2013), emcee, PASP 125:306-312. Lopez-Paz D, Oquab M
    (2017), arXiv:1610.06545. Owen A, Zhou Y (2000), Journal of the American Statistical Association
    95:135-143.
    """
    data = check_data(y)
    if n_draws < 400 or steps < _SNAPSHOTS or max_rounds < 1:
        raise InputError(
            f"reference posterior: give at least 400 draws, {_SNAPSHOTS} steps and 1 round, not "
            f"{n_draws}, {steps} and {max_rounds}"
        )
    begin = perf_counter()
    density = Counted(likelihood, data)
    rngs = [_random.generator(seed, "reference", run) for run in range(2)]
    n = len(likelihood.prior)
    walkers = max(-(-n_draws // (2 * _SNAPSHOTS)), 4 * n)
    draws = [_tempered(density, n, _SNAPSHOTS * walkers, rng) for rng in rngs]
    ensembles = [start[:walkers] for start in draws]
    tested, accuracy = min(_TESTED, _SNAPSHOTS * walkers), 1.0
    every = steps // _SNAPSHOTS
    acceptance = 0.0
    for attempt in range(max_rounds):
        moved = [
            move(
                density, ensemble, _SNAPSHOTS * every, rng, every=every,
                moves=[(emcee.moves.MHMove(MixtureProposal(known, rng).propose), 1.0)],
            )
            for ensemble, known, rng in zip(ensembles, draws, rngs, strict=True)
        ]  # fmt: skip
        ensembles = [m.kept[-1] for m in moved]
        draws = [m.kept.reshape(-1, n) for m in moved]
        acceptance = min(m.acceptance for m in moved)
        accuracy = c2st(draws[0], draws[1], seed=seed + attempt, max_samples=tested)
        if accuracy <= MAX_C2ST:
            break
    both = np.concatenate(draws)[
        _random.generator(seed, "reference/order").permutation(2 * _SNAPSHOTS * walkers)
    ]
    reason = "" if accuracy <= MAX_C2ST else (
        f"two runs disagree (C2ST {accuracy:.3f} on {tested:,} draws each, at most {MAX_C2ST})"
    )  # fmt: skip
    return ReferencePosterior(
        draws=_label(likelihood.prior, both[:n_draws]),
        prior=likelihood.prior,
        c2st=accuracy,
        tested=tested,
        evaluations=density.evaluations,
        seconds=perf_counter() - begin,
        acceptance=acceptance,
        reason=reason,
    )


def ranks_uniform(
    references: Sequence[ReferencePosterior], theta: xr.DataArray, *, level: float = 0.01
) -> xr.Dataset:
    """Test whether true parameters fall anywhere among their reference draws, equally often.

    For exact posteriors of observations whose parameters come from the prior the ranks are uniform.
    Not those of certified references alone: to leave out the hard ones would bend the ranks.

    Parameters
    ----------
    references : sequence of ReferencePosterior
        One for each observation, of the same parameters.
    theta : xarray.DataArray, dims (simulation, parameter)
        True parameters, draws from the prior (of the stratum).
    level : float
        Probability with which uniform ranks fail, all parameters together (Bonferroni).

    Returns
    -------
    xarray.Dataset
        ``rank`` (simulation, parameter) from 0 to 1, ``p_value`` (parameter) of the
        Kolmogorov-Smirnov test. Attributes: ``uniform``, ``level``, ``observations``, and
        ``certified``, the number of references whose own two runs agree.

    Raises
    ------
    InputError
        If there are not as many references as parameter sets, or fewer than 10.

    References
    ----------
    Talts S et al. (2018), arXiv:1804.06788; the test as implemented in sbi.
    """
    if len(references) != len(theta) or len(references) < 10:
        raise InputError(
            f"ranks: {len(references)} references and {len(theta)} parameter sets; give one for "
            "each, 10 or more"
        )
    prior = references[0].prior
    truth = prior.values(theta)
    ranks = np.stack(
        [(r.draws.values < t).mean(axis=0) for r, t in zip(references, truth, strict=True)]
    )
    p_value = check_uniformity_frequentist(torch.as_tensor(ranks), 1).numpy().astype(float)
    return xr.Dataset(
        {"rank": (("simulation", "parameter"), ranks), "p_value": ("parameter", p_value)},
        coords=prior.coords(),
        attrs={
            "uniform": int(bool((p_value >= level / len(prior)).all())),
            "level": level,
            "observations": len(references),
            "certified": sum(r.certified for r in references),
        },
    )


def certify(
    references: Sequence[ReferencePosterior], theta: xr.DataArray, *, level: float = 0.01
) -> tuple[list[ReferencePosterior], xr.Dataset]:
    """Hold references to both conditions: two runs agree, and ranks over all are uniform.

    Parameters
    ----------
    references, theta, level
        See :func:`ranks_uniform`.

    Returns
    -------
    references : list of ReferencePosterior
        The same, none of them certified if the ranks are not uniform.
    ranks : xarray.Dataset
        See :func:`ranks_uniform`.
    """
    ranks = ranks_uniform(references, theta, level=level)
    if ranks.attrs["uniform"]:
        return list(references), ranks
    worst = ranks["p_value"].idxmin("parameter").item()
    reason = (
        f"ranks of {worst} over {len(references)} observations are not uniform "
        f"(p = {float(ranks['p_value'].min()):.1e})"
    )
    return [
        replace(r, reason="; ".join(part for part in (r.reason, reason) if part))
        for r in references
    ], ranks


def _label(prior: Prior, z: Array) -> xr.DataArray:
    """Return draws of probit space in the parameters' units."""
    return xr.DataArray(
        prior.from_unconstrained(z), dims=("draw", "parameter"), coords=prior.coords(), name="draws"
    )


def _tempered(density: Counted, n: int, n_draws: int, rng: np.random.Generator) -> Array:
    """Return draws (draw, parameter) near the posterior, by tempering from the prior."""
    prior: Any = pocomc.Prior([stats.norm(0.0, 1.0)] * n)
    active = int(np.clip(n_draws // 5, *_ACTIVE))
    with _global_state():
        sampler = pocomc.Sampler(
            prior, density.log_likelihood, n_dim=n, vectorize=True, precondition=False,
            n_effective=2 * active, n_active=active, pytorch_threads=None,
            random_state=int(rng.integers(2**32)),
        )  # fmt: skip
        probe = density.log_likelihood(prior.rvs(active))
        if not np.isfinite(probe).any():
            raise InputError(
                f"none of {active} draws from the prior lies where the model holds: check prior "
                "and stratum"
            )
        sampler.run(n_total=2 * active, n_evidence=0, progress=False)
        points, weights, _, _ = sampler.posterior()
    return np.asarray(points, dtype=float)[resample(np.asarray(weights), n_draws, rng)]


@contextmanager
def _global_state() -> Iterator[None]:
    """Let pocoMC have the global generators, one run at a time, and put them back."""
    with _GLOBAL, torch.random.fork_rng(devices=[]):
        state = np.random.get_state()  # noqa: NPY002 - pocoMC draws from it
        try:
            yield
        finally:
            np.random.set_state(state)  # noqa: NPY002

"""Is the posterior right on average? Ranks, coverage and information on fresh simulations."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from sbi.diagnostics import check_tarp, run_sbc, run_tarp
from scipy import stats
from torch import Tensor

from nmm_infer import _random
from nmm_infer._progress import stage
from nmm_infer.errors import InputError
from nmm_infer.inference import PosteriorMixin
from nmm_infer.inference.base import check_fitted
from nmm_infer.observation import View

__all__ = ["MAX_GAP", "calibrate", "rank_band"]

#: A larger distance between the rank distribution and uniformity counts as a failure.
MAX_GAP = 0.03
LEVELS = (0.5, 0.9)
FEWEST_RUNS = 20
_BLOCK = 500


class _Drawn:
    """Posterior draws that are there already, for the diagnostics of sbi."""

    def __init__(self, draws: Tensor) -> None:
        self.draws = draws  # (draw, n, parameter)

    def sample_batched(self, *_: Any, **__: Any) -> Tensor:
        return self.draws


def check_view(view: Any) -> None:
    """Raise an InputError unless these are runs as an observer sees them."""
    if not callable(getattr(view, "sequences", None)):
        raise InputError(
            f"give runs as an observer sees them, observer.view(campaign), not a "
            f"{type(view).__name__}"
        )


def rank_band(n: int, n_parameters: int, level: float = 0.95) -> float:
    """Return the half-width of the simultaneous band around a uniform rank distribution.

    The largest distance of the empirical distribution of ``n`` uniform ranks from the diagonal
    stays below it with probability ``level``, for all parameters together (the exact
    Kolmogorov-Smirnov distribution; Bonferroni over parameters).
    """
    return float(stats.kstwo.ppf(1 - (1 - level) / n_parameters, n))


def calibrate(
    estimator: PosteriorMixin, view: View, *, n_draws: int = 64, seed: int = 0
) -> xr.Dataset:
    """Test a posterior on fresh simulations.

    Parameters
    ----------
    estimator : PosteriorEstimator or RidgeGaussian
        A fitted posterior.
    view : View
        Fresh runs, drawn from the prior.
    n_draws : int
        Posterior draws for each run.
    seed : int
        Seed of the draws.

    Returns
    -------
    xarray.Dataset
        By parameter: ``rank`` (simulation, parameter) in (0, 1), made continuous at random;
        ``gap``, the largest distance of their distribution from uniformity; ``coverage``
        (level, parameter) of central intervals; ``contraction``, 1 - posterior variance / prior
        variance, ``r2``, ``nrmse`` (root mean square error over the prior's standard deviation)
        and ``slope`` of the posterior mean, all in probit space, where the prior is N(0, 1), or
        what is left of it where parameter sets were rejected: its density is then divided by the
        share accepted (n runs, of which a share s was accepted, leave an error of sqrt((1 - s) / n)
        nats in every gain), and its variance, ``prior_variance``, is that of the fresh runs.
        ``tarp_coverage`` (credibility) is the expected coverage of TARP. ``log_density_gain``
        (simulation) is log q(theta*|x) - log prior(theta*). Attributes: ``band`` (see
        :func:`rank_band`), ``passed``, ``tarp_p_value``.

    Raises
    ------
    InputError
        If runs are not finite or are not what the estimator reads, if true parameters are not
        finite or lie outside of the prior, or if there are fewer than two draws of each or fewer
        than 20 runs.

    References
    ----------
    Talts S et al. (2018), arXiv:1804.06788 (simulation-based calibration). Lemos P et al. (2023),
    ICML (TARP). Both as implemented in sbi.
    """
    if n_draws < 2:
        raise InputError(f"calibrate: give at least two draws, not {n_draws}")
    check_fitted(estimator)
    check_view(view)
    if len(view) < FEWEST_RUNS:
        raise InputError(f"calibrate: {len(view)} runs say nothing: give at least {FEWEST_RUNS}")
    prior = estimator.prior_
    z = prior.to_unconstrained(view.theta, strict=True).astype(np.float32)
    sequences = view.sequences()
    x = estimator.flat(sequences)
    n = len(z)
    draws = np.empty((n, n_draws, len(prior)), np.float32)
    gain = np.empty(n)
    log_prior = stats.norm.logpdf(z).sum(-1) - np.log(view.accepted)
    with stage("Checking calibration", n) as advance:
        for i, start in enumerate(range(0, n, _BLOCK)):
            rows = slice(start, min(start + _BLOCK, n))
            draws[rows] = estimator._sample(x[rows], n_draws, seed + i)
            gain[rows] = estimator._log_prob(z[rows], x[rows]) - log_prior[rows]
            advance(rows.stop - rows.start)

    ranks, ecp, alpha, tarp_p = _sbi(z, x, draws, seed)
    jitter = _random.generator(seed, "ranks").random(ranks.shape)
    uniform = (ranks + jitter) / (n_draws + 1)
    gap = np.array([stats.kstest(column, "uniform").statistic for column in uniform.T])
    band = rank_band(n, len(prior))

    mean, variance = draws.mean(axis=1), draws.var(axis=1, ddof=1)
    centred = z - z.mean(axis=0)
    slope = (centred * mean).mean(axis=0) / (centred**2).mean(axis=0)
    error = ((mean - z) ** 2).mean(axis=0)
    before = (centred**2).mean(axis=0) if view.accepted < 1 else np.ones(len(prior))
    coverage = []
    for level in LEVELS:
        # From the ranks: quantiles of a few draws would be too narrow.
        coverage.append((np.abs(uniform - 0.5) <= level / 2).mean(axis=0))
    return xr.Dataset(
        {
            "rank": (("simulation", "parameter"), uniform),
            "gap": ("parameter", gap),
            "coverage": (("level", "parameter"), np.array(coverage)),
            "contraction": ("parameter", 1 - variance.mean(axis=0) / before),
            "prior_variance": ("parameter", before),
            "r2": ("parameter", 1 - error / (centred**2).mean(axis=0)),
            "nrmse": ("parameter", np.sqrt(error / before)),
            "slope": ("parameter", slope),
            "tarp_coverage": ("credibility", ecp),
            "log_density_gain": ("simulation", gain),
        },
        coords={
            "simulation": sequences.numbers,
            "parameter": prior.names,
            "level": list(LEVELS),
            "credibility": alpha,
        },
        attrs={
            "runs": n,
            "draws": n_draws,
            "band": band,
            "max_gap": MAX_GAP,
            "passed": int(bool((gap <= max(band, MAX_GAP)).all())),
            "tarp_p_value": tarp_p,
        },
    )


def _sbi(
    z: NDArray[np.float32], x: NDArray[np.float32], draws: NDArray[np.float32], seed: int
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64], float]:
    """Run sbi's SBC and TARP on draws that are there already."""
    thetas, xs = torch.as_tensor(z), torch.as_tensor(x)
    posterior: Any = _Drawn(torch.as_tensor(draws).transpose(0, 1))
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        ranks, _ = run_sbc(
            thetas, xs, posterior, num_posterior_samples=draws.shape[1], show_progress_bar=False
        )
        ecp, alpha = run_tarp(
            thetas, xs, posterior, num_posterior_samples=draws.shape[1], show_progress_bar=False,
            num_bins=50,
        )  # fmt: skip
        _, tarp_p = check_tarp(ecp, alpha)
    return ranks.numpy().astype(np.int64), ecp.numpy(), alpha.numpy(), float(tarp_p)

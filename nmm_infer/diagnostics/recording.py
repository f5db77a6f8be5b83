"""Can this recording have come from the model? Predictive and misspecification checks."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from sbi.diagnostics.misspecification import calc_misspecification_mmd

from nmm_infer.inference import PosteriorEstimator
from nmm_infer.inference.base import check_finite
from nmm_infer.observation import Sequences

__all__ = ["discrepancy", "misspecification", "predictive_check"]


def predictive_check(
    observed: NDArray[np.float32], predicted: NDArray[np.float32]
) -> dict[str, float]:
    """Compare the observed sequence with posterior-predictive ones.

    Parameters
    ----------
    observed : numpy.ndarray, shape (step,)
        The recording's sequence.
    predicted : numpy.ndarray, shape (draw, step)
        Sequences simulated from posterior draws, sensor noise included.

    Returns
    -------
    dict of str to float
        ``inside_90``: share of steps at which the observation lies within the central 90 % of
        the predictions. ``p_size``: posterior-predictive p-value (two-sided) of the root mean
        square. ``p_distance``: share of predictions at least as far from the predictive mean, in
        units of the predictive standard deviation, as the observation is.
    """
    low, high = np.quantile(predicted, [0.05, 0.95], axis=0)
    size = np.sqrt((observed**2).mean())
    sizes = np.sqrt((predicted**2).mean(axis=1))
    below = (sizes <= size).mean()
    mean, spread = predicted.mean(axis=0), predicted.std(axis=0) + 1e-12
    distance = (((observed - mean) / spread) ** 2).mean()
    distances = (((predicted - mean) / spread) ** 2).mean(axis=1)
    return {
        "inside_90": float(((observed >= low) & (observed <= high)).mean()),
        "p_size": float(2 * min(below, 1 - below)),
        "p_distance": float((distances >= distance).mean()),
    }


def misspecification(
    estimator: PosteriorEstimator,
    observed: Sequences,
    training: Sequences,
    *,
    seed: int = 0,
) -> dict[str, float]:
    """Ask whether the recording looks like the training simulations to the encoder.

    Parameters
    ----------
    estimator : PosteriorEstimator
        A fitted estimator.
    observed : Sequences
        The recording, one sequence.
    training : Sequences
        Simulations from the prior.
    seed : int
        Seed of the permutations.

    Returns
    -------
    dict of str to float
        ``p_value`` of sbi's test of the maximum mean discrepancy between the recording's and the
        simulations' summaries (Schmitt M et al. 2023, arXiv:2112.08866), and the discrepancy
        ``mmd``.
    """
    encoder = estimator.regressor_.net_.encoder
    own, others = (estimator._inputs(part.flat) for part in (observed, training))
    return discrepancy(encoder, own, others, seed=seed)


def discrepancy(
    encoder: Callable[[torch.Tensor], torch.Tensor],
    observed: NDArray[np.float32],
    training: NDArray[np.float32],
    *,
    seed: int = 0,
) -> dict[str, float]:
    """Test whether observations look like simulations to an encoder.

    Parameters
    ----------
    encoder : callable
        Maps (n, flat) to summaries (n, width).
    observed, training : numpy.ndarray, shape (n, flat)
        Observations, and simulations.
    seed : int
        Seed of the permutations.

    Returns
    -------
    dict of str to float
        See :func:`misspecification`.

    Raises
    ------
    InputError
        If observations or simulations are not finite.
    """
    check_finite(observed)
    check_finite(training)
    with torch.no_grad(), torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        summaries = encoder(torch.as_tensor(training[:2000]))
        own = encoder(torch.as_tensor(observed))
        location, scale = summaries.mean(0), summaries.std(0)
        p_value, (_, mmd) = calc_misspecification_mmd(
            x_obs=(own - location) / scale,
            x=(summaries - location) / scale,
            mode="x_space",
            n_shuffle=200,
            max_samples=500,
        )
    return {"p_value": float(p_value), "mmd": float(mmd)}

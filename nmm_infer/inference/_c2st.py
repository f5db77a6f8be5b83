"""Classifier two-sample test: how well a network can tell two sets of draws apart."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from numpy.typing import ArrayLike
from sbi.utils.metrics import c2st as sbi_c2st
from threadpoolctl import threadpool_limits

from nmm_infer import _random
from nmm_infer.errors import InputError

__all__ = ["c2st"]


def c2st(
    one: ArrayLike, other: ArrayLike, *, seed: int = 0, folds: int = 5, max_samples: int = 2000
) -> float:
    """Return the accuracy with which a classifier tells two sets of draws apart.

    .5 if the two come from one distribution, 1 if they do not overlap. The classifier is sbi's: a
    perceptron with two hidden layers of ten units a parameter, cross-validated, on draws divided
    by the standard deviation of the first set.

    Parameters
    ----------
    one, other : array_like, shape (n, parameter)
        Draws. Of each set as many are used as the smaller one has, at most ``max_samples``,
        picked at random, so that chance is .5.
    seed : int
        Seed of the picks, the folds and the classifier.
    folds : int
        Parts of the cross-validation.
    max_samples : int
        Largest number of draws of each set. Under equality the accuracy has a standard deviation
        of about .5 / sqrt(2 max_samples), .008 at 2,000.

    Returns
    -------
    float
        Mean accuracy over folds.

    Raises
    ------
    InputError
        If the draws differ in their parameters, are not finite, or are too few.

    References
    ----------
    Lopez-Paz D, Oquab M (2017), arXiv:1610.06545. As implemented in sbi (``sbi.utils.metrics``).
    """
    sets = [np.asarray(draws, dtype=float) for draws in (one, other)]
    if any(draws.ndim != 2 for draws in sets) or sets[0].shape[1] != sets[1].shape[1]:
        shapes = " and ".join(str(draws.shape) for draws in sets)
        raise InputError(
            f"C2ST: give two arrays (draw, parameter) of the same parameters: {shapes}"
        )
    if not all(np.isfinite(draws).all() for draws in sets):
        raise InputError("C2ST: some draws are not finite: leave them out")
    n = min(len(sets[0]), len(sets[1]), max_samples)
    if n < 10 * folds:
        raise InputError(f"C2ST: {n} draws are too few for {folds} folds: give {10 * folds}")
    rng = _random.generator(seed, "c2st")
    picked = [torch.as_tensor(draws[rng.permutation(len(draws))[:n]]) for draws in sets]
    # Threads for matrices as small as these cost more than they save.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a perceptron that has not converged is a weak one
        accuracy = sbi_c2st(*picked, seed=seed, n_folds=folds, classifier="mlp")
    return float(accuracy)

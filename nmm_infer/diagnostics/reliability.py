"""Are probabilities of models right? Reliability on fresh simulations, and resemblance."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from nmm_infer import _random
from nmm_infer.diagnostics.calibration import MAX_GAP
from nmm_infer.diagnostics.recording import discrepancy
from nmm_infer.errors import InputError
from nmm_infer.inference import JoinedView, ModelComparison
from nmm_infer.observation import Sequences

__all__ = ["logistic_baseline", "reliability", "resemblance"]

Array = NDArray[np.float64]


def reliability(
    probabilities: xr.DataArray,
    truth: ArrayLike,
    *,
    prior: Mapping[str, float] | None = None,
    baseline: xr.DataArray | None = None,
    bins: int = 10,
    resamples: int = 500,
    seed: int = 0,
) -> xr.Dataset:
    """Test probabilities of models on fresh simulations.

    Parameters
    ----------
    probabilities : xarray.DataArray, dims (simulation, model)
        Posterior probabilities, e.g. of :meth:`ModelComparison.probabilities`.
    truth : array_like of str, shape (n,)
        The model that made each simulation. Models must occur as often as the prior says.
    prior : mapping of str to float, optional
        Prior probability of each model; equal ones without.
    baseline : xarray.DataArray, dims (simulation, model), optional
        Probabilities of something simpler for the same runs, e.g. of :func:`logistic_baseline`.
    bins : int
        Bins of equal width between 0 and 1.
    resamples : int
        Resamples for intervals and for the band.
    seed : int
        Seed of these.

    Returns
    -------
    xarray.Dataset
        Curve (model, bin): mean ``predicted`` probability, ``observed`` frequency with its
        ``observed_interval`` (Wilson), and ``count``. By model: ``ece``, expected calibration
        error, the mean over runs of the distance between the two, with ``ece_interval`` (bootstrap
        over runs; the error of a finite sample is above zero even where nothing is wrong).
        ``log_score`` (simulation): log probability of the true model; ``log_score_mean``;
        ``gain_over_prior`` and, with a baseline, ``gain_over_baseline``, in nats, each with an
        ``_interval`` (normal, paired). ``accuracy``. ``confusion`` (true, assigned), shares of each
        true model that are given to the most probable one. Attributes: ``largest_ece``; ``band``,
        what it stays below in 95 % of data sets whose probabilities are right (consistency
        resampling); ``p_value``; ``passed``: it is inside the band, or at most .03.

    Raises
    ------
    InputError
        If names or numbers of runs do not fit, or rows do not sum to one.

    References
    ----------
    Bröcker J, Smith LA (2007), Increasing the reliability of reliability diagrams, Weather and
    Forecasting 22:651-661.
    """
    probabilities = probabilities.transpose("simulation", "model")
    models = [str(name) for name in probabilities.coords["model"].values]
    p = np.asarray(probabilities.values, dtype=float)
    labels = _labels(truth, models, len(p))
    if bins < 1:
        raise InputError(f"reliability: give at least one bin, not {bins}")
    if prior is not None and set(prior) != set(models):
        raise InputError(
            f"reliability: give one prior probability for each of {', '.join(models)}, not for "
            f"{', '.join(prior)}"
        )
    if not np.allclose(p.sum(axis=1), 1.0, atol=1e-4) or (p < 0).any():
        raise InputError("reliability: the probabilities of a run must sum to one")
    rng = _random.generator(seed, "reliability")
    n, k = p.shape
    place = np.minimum((p * bins).astype(int), bins - 1)
    own = np.arange(k) == labels[:, None]
    count, predicted, observed = _curve(place, p, own, bins)
    ece = _ece(place, p, own, bins)
    chosen = rng.integers(n, size=(resamples, n))
    spread = np.array([_ece(place[rows], p[rows], own[rows], bins) for rows in chosen])
    # If all is right, a label is drawn from its own probabilities.
    edges = np.cumsum(p, axis=1)
    edges[:, -1] = 1.0
    largest = np.array(
        [
            _ece(place, p, np.arange(k) == (u[:, None] > edges).sum(axis=1)[:, None], bins).max()
            for u in rng.random((resamples, n))
        ]
    )
    with np.errstate(divide="ignore"):
        log_score = np.log(p[np.arange(n), labels])
    given = np.array([1.0 / k if prior is None else prior[name] for name in models])
    gain = log_score - np.log(given / given.sum())[labels]
    found: dict[str, Any] = {
        "count": (("model", "bin"), count),
        "predicted": (("model", "bin"), predicted),
        "observed": (("model", "bin"), observed),
        "observed_interval": (("model", "bin", "bound"), _wilson(observed, count)),
        "ece": ("model", ece),
        "ece_interval": (("model", "bound"), np.quantile(spread, [0.025, 0.975], axis=0).T),
        "log_score": ("simulation", log_score),
        "accuracy": float((p.argmax(axis=1) == labels).mean()),
        "confusion": (
            ("true", "assigned"),
            confusion_matrix(labels, p.argmax(axis=1), labels=np.arange(k), normalize="true"),
        ),
    }
    scores = {"log_score_mean": log_score, "gain_over_prior": gain}
    if baseline is not None:
        other = baseline.transpose("simulation", "model").sel(model=models).values
        if other.shape != p.shape:
            raise InputError("reliability: the baseline needs the same runs and models")
        with np.errstate(divide="ignore"):
            scores["gain_over_baseline"] = log_score - np.log(other[np.arange(n), labels])
    for name, values in scores.items():
        half = 1.96 * values.std(ddof=1) / np.sqrt(n)
        found[name] = float(values.mean())
        found[f"{name}_interval"] = ("bound", [values.mean() - half, values.mean() + half])
    band = float(np.quantile(largest, 0.95))
    return xr.Dataset(
        found,
        coords={
            "model": models,
            "true": models,
            "assigned": models,
            "bin": (np.arange(bins) + 0.5) / bins,
            "bound": ["low", "high"],
        },
        attrs={
            "runs": n,
            "largest_ece": float(ece.max()),
            "band": band,
            "max_gap": MAX_GAP,
            "p_value": float((1 + (largest >= ece.max()).sum()) / (1 + resamples)),
            "passed": int(ece.max() <= max(band, MAX_GAP)),
        },
    )


def logistic_baseline(training: JoinedView, view: JoinedView, *, logarithmic: bool) -> xr.DataArray:
    """Return probabilities of a logistic regression on standardised sequences.

    The simplest thing that a comparison has to beat. Models count alike.

    Parameters
    ----------
    training, view : JoinedView
        Runs to learn from, and runs that are asked about.
    logarithmic : bool
        Whether the values are powers.

    Returns
    -------
    xarray.DataArray, dims (simulation, model)
        Probabilities.
    """

    def features(seen: Sequences) -> Array:
        values = seen.values.reshape(len(seen), -1).astype(float)
        size = np.log((values**2).mean(axis=1, keepdims=True) + 1e-300)
        values = np.log(np.maximum(values, 1e-12)) if logarithmic else values
        extra = [] if seen.context is None else [seen.context]
        return np.concatenate([values, size, *extra], axis=1)

    classifier = make_pipeline(
        StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=2000)
    ).fit(features(training.sequences(epoch=0)), training.labels)
    return xr.DataArray(
        classifier.predict_proba(features(view.sequences())),
        dims=("simulation", "model"),
        coords={"model": list(training.models)},
        name="probability",
    )


def resemblance(
    comparison: ModelComparison, observed: Sequences, *, level: float = 0.05, seed: int = 0
) -> xr.Dataset:
    """Ask whether a recording looks like the simulations of any of the models.

    Probabilities of models say which is the best of a list, not whether it is any good.

    Parameters
    ----------
    comparison : ModelComparison
        A fitted comparison.
    observed : Sequences
        The recording, one sequence.
    level : float
        Recordings of a model on the list are flagged with this probability at most.
    seed : int
        Seed of the permutations.

    Returns
    -------
    xarray.Dataset
        ``p_value`` (space, model) of the test of :func:`~nmm_infer.diagnostics.misspecification`
        against the training simulations of each model: on what the encoder makes of the recording
        (``summary``), which knows what tells the models apart, and on the recording itself,
        standardised (``observation``), which that may leave out. ``none``: in one of the two every
        p-value is below ``level / 2``, so the recording looks like none of the models.

    Notes
    -----
    One recording is little to test with: what differs in a direction in which simulations vary
    much, as by noise, is not found. A recording that is not flagged need not be one of a model.
    """
    flat, labels = comparison.seen_.flat, comparison.seen_labels_
    encoder = comparison.encoder_
    spaces: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "summary": encoder,
        "observation": lambda x: encoder.standardise(x).flat,
    }
    p_values = [
        [
            discrepancy(space, observed.flat, flat[labels == k], seed=seed)["p_value"]
            for k in range(len(comparison.models_))
        ]
        for space in spaces.values()
    ]
    return xr.Dataset(
        {
            "p_value": (("space", "model"), p_values),
            "none": bool((np.max(p_values, axis=1) < level / 2).any()),
        },
        coords={"space": list(spaces), "model": list(comparison.models_)},
        attrs={"level": level},
    )


def _labels(truth: ArrayLike, models: list[str], n: int) -> NDArray[np.int64]:
    names = np.asarray(truth).astype(str)
    unknown = sorted(set(names.tolist()) - set(models))
    if unknown or len(names) != n:
        raise InputError(
            f"reliability: {len(names)} true models for {n} runs"
            + (f", among them {unknown[0]!r}, which is not compared" if unknown else "")
        )
    return np.array([models.index(name) for name in names.tolist()])


def _sums(place: NDArray[Any], weights: NDArray[Any], bins: int) -> Array:
    """Sum of weights by model and bin; place and weights have shape (n, model)."""
    k = place.shape[1]
    flat = (place + bins * np.arange(k)).ravel()
    summed = np.bincount(flat, weights.ravel().astype(float), bins * k)
    return np.asarray(summed, dtype=float).reshape(k, bins)


def _curve(
    place: NDArray[Any], p: Array, own: NDArray[np.bool_], bins: int
) -> tuple[NDArray[np.int64], Array, Array]:
    count: Array = _sums(place, np.ones_like(p), bins)
    with np.errstate(invalid="ignore"):
        predicted, observed = (_sums(place, w, bins) / count for w in (p, own))
    return count.astype(np.int64), predicted, observed


def _ece(place: NDArray[Any], p: Array, own: NDArray[np.bool_], bins: int) -> Array:
    """Return the expected calibration error of each model."""
    return np.asarray(np.abs(_sums(place, own - p, bins)).sum(axis=1) / len(p))


def _wilson(share: Array, n: NDArray[np.int64]) -> Array:
    """95 % interval of a share (Wilson 1927), shape (..., 2); NaN where nothing was counted."""
    bounds = np.full((*share.shape, 2), np.nan)
    for place in zip(*np.nonzero(n), strict=True):
        found = stats.binomtest(round(share[place] * n[place]), int(n[place]))
        bounds[place] = found.proportion_ci(method="wilson")
    return bounds

"""Any features of time series, by name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from nmm_infer.errors import InputError
from nmm_infer.features.connectivity import coherence, correlation
from nmm_infer.features.evoked import EVOKED, evoked_features
from nmm_infer.features.registry import find
from nmm_infer.features.spectrum import BANDS, SPECTRUM, power_spectrum, spectrum_features

__all__ = ["describe"]


def describe(
    values: ArrayLike,
    times: ArrayLike | None = None,
    names: Iterable[str] = tuple(EVOKED),
    *,
    sfreq: float | None = None,
    focus: ArrayLike | None = None,
    channels: Sequence[str] | None = None,
    unit: str = "mV",
) -> xr.DataArray:
    """Return named features of time series.

    Parameters
    ----------
    values : array_like, shape (n, time) or (n, channel, time)
        Time series.
    times : array_like, shape (time,), optional
        Equidistant times in s, the event at zero; without, ``sfreq`` is needed and the series
        begins at the event.
    names : iterable of str
        Names of :data:`~nmm_infer.features.FEATURES`. Connectivity is the mean over all pairs of
        channels, in magnitude, or that of one pair, as ``"correlation:V1-lh:V1-rh"``.
    sfreq : float, optional
        Rate in Hz; that of the times without.
    focus : array_like of int, shape (n,), optional
        Channel that features of one series describe; the first without.
    channels : sequence of str, optional
        Names of the channels.
    unit : str
        Unit of the values.

    Returns
    -------
    xarray.DataArray, dims (simulation, feature)
        The features, with their ``unit``.

    Raises
    ------
    InputError
        If a name is unknown, or if shapes do not fit.
    """
    x = np.asarray(values)
    if x.ndim not in (2, 3):
        raise InputError(f"expected values (n, time) or (n, channel, time), got shape {x.shape}")
    if times is None:
        if sfreq is None:
            raise InputError("describe needs times or sfreq")
        times = np.arange(1, x.shape[-1] + 1) / sfreq
    times = np.asarray(times, dtype=np.float64)
    sfreq = sfreq or 1.0 / float(np.diff(times).mean())
    chosen = list(names)
    if not chosen:
        raise InputError("name at least one feature")
    features = {name: find(name) for name in chosen}
    single = x
    if x.ndim == 3:
        rows = np.arange(len(x))
        single = x[rows, 0 if focus is None else np.asarray(focus, dtype=np.int64)]
    parts: dict[str, NDArray[np.float64]] = {}
    wanted = [name for name in features if name in EVOKED]
    if wanted:
        parts |= _columns(evoked_features(single, times, wanted))
    wanted = [name for name in features if name in SPECTRUM]
    if wanted:
        parts |= _columns(spectrum_features(*power_spectrum(single, sfreq), wanted))
    for name in features:
        if name not in parts:
            parts[name] = _pair(name, x, sfreq, channels)
    units = [feature.unit.format(unit=unit) for feature in features.values()]
    return xr.DataArray(
        np.stack([parts[name] for name in features], axis=-1),
        dims=("simulation", "feature"),
        coords={"feature": list(features), "unit": ("feature", units)},
        name="features",
    )


def _columns(features: xr.DataArray) -> dict[str, NDArray[np.float64]]:
    names = features.coords["feature"].values.tolist()
    return dict(zip(names, features.values.T, strict=True))


def _pair(
    name: str, x: NDArray, sfreq: float, channels: Sequence[str] | None
) -> NDArray[np.float64]:
    """Return the connectivity of one pair, or the mean magnitude over all."""
    kind, *pair = name.split(":")
    labels = [str(c) for c in (range(x.shape[1]) if channels is None else channels)]
    for end in pair:
        if end not in labels:
            raise InputError(f"{name}: no region {end!r}; there are {', '.join(labels[:4])}, ...")
    if pair:
        x = x[:, [labels.index(end) for end in pair]]
    if kind == "correlation":
        matrix = correlation(x).values
    else:
        kind, _, band = kind.rpartition("_")
        matrix = coherence(x, sfreq, BANDS[band], imaginary=kind.startswith("imaginary")).values
    if pair:
        return np.asarray(matrix[:, 0, 1])
    upper = np.triu_indices(x.shape[1], 1)
    return np.asarray(np.abs(matrix[:, upper[0], upper[1]]).mean(axis=1))

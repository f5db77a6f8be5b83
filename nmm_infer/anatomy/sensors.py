"""Linear maps of the sensors, applied to lead field and data alike."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import mne
import numpy as np
import xarray as xr
from mne.io.constants import FIFF
from numpy.typing import NDArray

from nmm_infer.anatomy._checks import checked_covariance
from nmm_infer.errors import InputError

__all__ = [
    "SensorOperator",
    "bipolar_channels",
    "identity",
    "interpolation",
    "interpolation_options",
    "principal_subspace",
    "projection",
    "reference",
    "whitening",
]


_FIELD = FIFF.FIFFV_PROJ_ITEM_FIELD
_RANK = 1e-6  # of the largest singular value; files keep projectors in single precision


@dataclass(frozen=True, eq=False)
class SensorOperator:
    """A matrix from channels to channels.

    One object references, interpolates or whitens lead fields and data, so that nothing is done to
    one of them alone: ``operator(head.gain)``, ``operator(head.leadfield)``, ``operator(signals)``.
    ``second @ first`` does both.

    Parameters
    ----------
    matrix : array, shape (channel out, channel in)
        The map.
    outputs, inputs : tuple of str
        Channel names of its rows and columns.
    units : str, optional
        Unit of what comes out, where it differs from what goes in: "1" after whitening.
    notes : tuple of str
        What was done, in sentences.
    """

    matrix: NDArray[np.float64]
    outputs: tuple[str, ...]
    inputs: tuple[str, ...]
    units: str | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.matrix.shape != (len(self.outputs), len(self.inputs)):
            raise InputError(
                f"matrix: shape {self.matrix.shape} does not fit {len(self.outputs)} and "
                f"{len(self.inputs)} channels."
            )

    def __call__(self, signals: xr.DataArray) -> xr.DataArray:
        """Apply the map along the dimension "channel".

        Parameters
        ----------
        signals : xarray.DataArray, dims (..., channel, ...)
            Data, gains or a lead field; channels are found by name, others are left behind.
            float32 stays float32.

        Returns
        -------
        xarray.DataArray
            Same dimensions.

        Raises
        ------
        InputError
            If a channel that the map needs is missing.
        """
        names = [str(name) for name in signals.coords["channel"].values]
        missing = [name for name in self.inputs if name not in names]
        if missing:
            raise InputError(
                f"The data lack channel(s) {', '.join(missing[:5])}, which the sensor operator "
                "needs: leave them out of it, or give them."
            )
        axis = signals.get_axis_num("channel")
        values = signals.sel(channel=list(self.inputs)).values
        moved = np.moveaxis(values, axis, -2) if values.ndim > 1 else values[:, np.newaxis]
        result = self.matrix.astype(np.result_type(values.dtype, np.float32)) @ moved
        result = np.moveaxis(result, -2, axis) if values.ndim > 1 else result[:, 0]
        coords = {k: v for k, v in signals.coords.items() if "channel" not in v.dims}
        attrs = dict(signals.attrs)
        if self.units is not None:
            attrs["units"] = self.units
        if self.notes and "reference" in attrs:
            attrs["reference"] = " ".join(self.notes)
        return xr.DataArray(
            result,
            dims=signals.dims,
            coords={**coords, "channel": list(self.outputs)},
            name=signals.name,
            attrs=attrs,
        )

    def __matmul__(self, first: SensorOperator) -> SensorOperator:
        missing = [name for name in self.inputs if name not in first.outputs]
        if missing:
            raise InputError(f"The first operator gives no channel {missing[0]!r}.")
        rows = [first.outputs.index(name) for name in self.inputs]
        return SensorOperator(
            self.matrix @ first.matrix[rows],
            self.outputs,
            first.inputs,
            self.units if self.units is not None else first.units,
            (*first.notes, *self.notes),
        )

    @property
    def rank(self) -> int:
        """Number of independent signals among the outputs."""
        # Units may differ: rows and columns are weighed by their size.
        size = np.linalg.norm(self.matrix, axis=1)
        scaled = self.matrix / np.where(size > 0, size, 1.0)[:, np.newaxis]
        return int(
            np.linalg.matrix_rank(scaled, tol=_RANK * max(1.0, float(np.linalg.norm(scaled, 2))))
        )

    def covariance(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """Carry a covariance of the inputs, shape (channel, channel), to the outputs."""
        return np.asarray(self.matrix @ matrix @ self.matrix.T)


def identity(channels: Sequence[str]) -> SensorOperator:
    """Change nothing, but choose and order channels."""
    names = tuple(channels)
    return SensorOperator(np.eye(len(names)), names, names)


def reference(info: mne.Info, to: str | Sequence[str] = "average") -> SensorOperator:
    """Make the map that references the EEG channels; others stay as they are.

    Bipolar channels are differences, which have no reference: they stay as they are, too.

    Parameters
    ----------
    info : mne.Info
        Channels; all its EEG channels count but the bipolar ones.
    to : "average", "none", or sequence of str
        The mean of all EEG channels, nothing (as recorded), or the mean of some channels, which
        stay among the outputs.

    Returns
    -------
    SensorOperator

    Raises
    ------
    InputError
        If a named channel is not among the EEG channels, or named twice.
    """
    names = tuple(info["ch_names"])
    bipolar = bipolar_channels(info)
    eeg = [names[k] for k in mne.pick_types(info, meg=False, eeg=True, exclude=[])]
    eeg = [name for name in eeg if name not in bipolar]
    matrix = np.eye(len(names))
    if isinstance(to, str) and to not in ("average", "none"):
        to = [to]
    if bipolar and not isinstance(to, str):
        raise InputError(
            f"{bipolar[0]} is a bipolar channel, which has no reference to change: leave "
            f"reference = {list(to)} out, or pick the referential channels."
        )
    if bipolar and not eeg:
        note = "Bipolar channels are differences of electrodes: no average reference was taken."
        return SensorOperator(matrix, names, names, notes=(note,))
    if to == "none" or not eeg:
        return SensorOperator(matrix, names, names)
    chosen = eeg if to == "average" else list(to)
    unknown = [name for name in chosen if name not in eeg]
    if unknown or not chosen:
        raise InputError(
            f"No EEG channel {unknown[:1]} to reference to; there are {', '.join(eeg[:4])}, ..."
        )
    if len(set(chosen)) != len(chosen):
        raise InputError(f"Name each channel to reference to only once: {', '.join(chosen)}.")
    rows = [names.index(name) for name in eeg]
    columns = [names.index(name) for name in chosen]
    matrix[np.ix_(rows, columns)] -= 1.0 / len(columns)
    said = "the average of all EEG channels" if to == "average" else ", ".join(chosen)
    return SensorOperator(matrix, names, names, notes=(f"Referenced to {said}.",))


def bipolar_channels(info: mne.Info) -> list[str]:
    """List the EEG channels that MNE types as bipolar."""
    picks = mne.pick_types(info, meg=False, eeg=True, exclude=[])
    coil = FIFF.FIFFV_COIL_EEG_BIPOLAR
    return [info["ch_names"][k] for k in picks if info["chs"][k]["coil_type"] == coil]


def projection(info: mne.Info, *, average: bool = False) -> SensorOperator:
    """Make the map of the projectors that an info carries, whether they were applied or not.

    A projector that was applied to data of more channels than are left is the projector made of
    what is left of its vectors, applied after it: both give the same signals. So one map serves
    data as recorded, data after the projectors, and lead fields.

    Parameters
    ----------
    info : mne.Info
        Channels, of which none is bad, and projectors (signal-space projection: Uusitalo and
        Ilmoniemi 1997, Med. Biol. Eng. Comput. 35:135-140). MNE makes the matrix.
    average : bool
        Whether the average of the EEG channels is projected out too, jointly with the others.

    Returns
    -------
    SensorOperator
        An orthogonal projection, and the identity where no projector meets these channels.
    """
    names = list(info["ch_names"])
    bare = _without_projections(info)
    kept = [deepcopy(projector) for projector in info["projs"]]
    referential = set(mne.pick_types(info, meg=False, eeg=True, exclude=[]))
    referential -= {names.index(name) for name in bipolar_channels(info)}
    if average and referential:
        vector = np.zeros((1, len(names)))
        vector[0, sorted(referential)] = len(referential) ** -0.5
        data = {"col_names": names, "row_names": None, "data": vector, "nrow": 1}
        data["ncol"] = len(names)
        kept.append(mne.Projection(active=False, data=data, desc="average", kind=_FIELD))
    for projector in kept:
        projector["active"] = False
    if not kept:
        return identity(names)
    with bare._unlock():
        bare["projs"] = kept
    # The map is linear: what it makes of unit signals is its matrix.
    unit = mne.EvokedArray(np.eye(len(names)), bare, verbose="error")
    with warnings.catch_warnings():
        # MNE warns of vectors that lost channels, which is what this map is for.
        warnings.simplefilter("ignore", RuntimeWarning)
        matrix = np.asarray(unit.apply_proj(verbose="error").data)
    said = [str(p["desc"]) for p in info["projs"] if set(p["data"]["col_names"]) & set(names)]
    notes = (f"Projected out: {'; '.join(said)}.",) if said else ()
    return SensorOperator(matrix, tuple(names), tuple(names), notes=notes)


def principal_subspace(
    info: mne.Info, data: NDArray[np.floating], rank: int, what: str
) -> SensorOperator:
    """Make the projection onto the subspace that data of known rank fill.

    For data that went through a linear filter in space (Maxwell filtering, ICA) of which only the
    rank is known: lead field and noise are confined to the same subspace.

    Parameters
    ----------
    info : mne.Info
        Channels of the data.
    data : array, shape (channel, time)
        More samples than `rank`.
    rank : int
        Number of independent signals.
    what : str
        What the data went through, for the note.

    Returns
    -------
    SensorOperator
        It leaves the data as they are, up to rounding. Orthogonal where channel types are weighed
        by their mean power.
    """
    names, kinds = tuple(info["ch_names"]), np.array(info.get_channel_types())
    level = np.ones(len(names))
    for kind in set(kinds.tolist()):
        level[kinds == kind] = np.sqrt(np.mean(np.square(data[kinds == kind], dtype=float))) or 1.0
    scaled = data / level[:, np.newaxis]
    vectors = np.linalg.eigh(scaled @ scaled.T)[1][:, -rank:]
    matrix = level[:, np.newaxis] * (vectors @ vectors.T) / level
    note = f"{what}: {rank} of {len(names)} signals are independent."
    return SensorOperator(matrix, names, names, notes=(note,))


def interpolation(info: mne.Info, bads: Sequence[str]) -> SensorOperator:
    """Put bad channels together from the good ones, as `mne.io.Raw.interpolate_bads` does.

    Spherical splines for EEG (Perrin et al. 1989, Electroencephalogr. Clin. Neurophysiol.
    72:184-187), a minimum-norm field map for MEG. The map does not read the bad channels.

    Parameters
    ----------
    info : mne.Info
        Channels with positions.
    bads : sequence of str
        The channels to put together.

    Returns
    -------
    SensorOperator
        All channels from the good ones.

    Raises
    ------
    InputError
        If a bad channel is unknown, or fewer than 4 channels are good.
    """
    names = list(info["ch_names"])
    unknown = [name for name in bads if name not in names]
    if unknown:
        raise InputError(f"No channel {unknown[0]!r} to interpolate.")
    good = [name for name in names if name not in bads]
    if not bads:
        return identity(names)
    if len(good) < 4:
        raise InputError(
            f"Only {len(good)} of {len(names)} channels are good: nothing can be interpolated from "
            "them."
        )
    marked = _without_projections(info)
    marked["bads"] = list(bads)
    # The map is linear: what it makes of unit signals is its matrix.
    unit = mne.EvokedArray(np.eye(len(names)), marked, verbose="error")
    try:
        unit.interpolate_bads(reset_bads=False, **interpolation_options(info), verbose="error")
    except (ValueError, RuntimeError) as error:
        raise InputError(f"Channels cannot be interpolated: {error}. Set a montage.") from error
    columns = [names.index(name) for name in good]
    matrix = np.asarray(unit.data[:, columns])
    note = f"Interpolated from the other channels: {', '.join(bads)}."
    return SensorOperator(matrix, tuple(names), tuple(good), notes=(note,))


def interpolation_options(info: mne.Info) -> dict[str, Any]:
    """Arguments of `mne.io.Raw.interpolate_bads`, so that data are interpolated as lead fields are.

    Without digitised points no sphere can be fitted to the head: then MNE's default origin for
    such cases is taken, 40 mm above that of the head coordinates.
    """
    return {"method": {"eeg": "spline"}, "origin": "auto" if info.get("dig") else (0.0, 0.0, 0.04)}


def whitening(
    info: mne.Info, noise_cov: mne.Covariance, rank: int | dict[str, int] | None = None
) -> SensorOperator:
    """Whiten: noise of this covariance becomes independent, of variance 1, by `mne.cov`.

    Parameters
    ----------
    info : mne.Info
        Channels.
    noise_cov : mne.Covariance
        Of the same channels after the same reference; it may lack rank. Covariances of EEG, mag
        and grad together are scaled by MNE, so that their ranks are found.
    rank : int or dict of str to int, optional
        Number of independent signals (a type's, in a dict); from the covariance without.

    Returns
    -------
    SensorOperator
        Its rows are not sensors any more; what comes out has no unit.

    Raises
    ------
    InputError
        If the covariance lacks a channel, is not finite, not symmetric, has a negative eigenvalue
        or rank 0, or `rank` does not fit.
    """
    names = list(info["ch_names"])
    picked = checked_covariance(noise_cov, info)
    kinds = info.get_channel_types(unique=True)
    if rank is not None and not isinstance(rank, dict):
        if len(kinds) > 1:
            raise InputError(f"rank: give one for each of {', '.join(kinds)}, in a dict.")
        rank = {kinds[0]: rank}
    if rank is not None:
        if any(not isinstance(n, Integral) or n < 1 for n in rank.values()) or not rank:
            raise InputError(f"rank must be positive, a whole number, not {rank}.")
        other = sorted(set(rank) - {*kinds, *(["meg"] if {"mag", "grad"} & set(kinds) else [])})
        if other:
            raise InputError(
                f"rank: there is no channel of type {other[0]!r}, but {', '.join(kinds)}."
            )
    bare = _without_projections(info)
    try:
        matrix, _ = mne.cov.compute_whitener(picked, bare, rank=rank, pca=False, verbose="error")
    except (ValueError, RuntimeError, FloatingPointError) as error:
        raise InputError(f"The noise covariance cannot whiten: {error}") from error
    if not np.isfinite(matrix).all() or not np.any(matrix):
        raise InputError("The noise covariance has rank 0: it cannot whiten.")
    return SensorOperator(np.asarray(matrix), tuple(names), tuple(names), "1", ("Whitened.",))


def _without_projections(info: mne.Info) -> mne.Info:
    """Copy the channels, none of them bad."""
    bare = mne.pick_info(info, range(len(info["ch_names"])), copy=True, verbose="error")
    with bare._unlock():
        bare["projs"] = []
        bare["bads"] = []
    return bare

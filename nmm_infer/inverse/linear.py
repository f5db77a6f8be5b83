"""Linear inverses of MNE-Python, as labelled operators."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import mne
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nmm_infer.anatomy import Head, SensorOperator
from nmm_infer.anatomy._checks import checked_covariance, is_number
from nmm_infer.anatomy.sensors import bipolar_channels, projection
from nmm_infer.errors import InputError

__all__ = [
    "MOMENTS",
    "Method",
    "RegionOperators",
    "choose_lambda2",
    "estimate_sources",
    "inverse_operator",
    "lcmv_kernel",
    "region_operators",
    "source_estimate",
    "source_kernel",
]

Method = Literal["MNE", "dSPM", "sLORETA", "eLORETA"]
#: Methods whose estimates are moments; the others give scores without unit.
MOMENTS = ("MNE", "eLORETA")
_UNITS = {"eeg": "V", "mag": "T", "grad": "(T/m)"}


def inverse_operator(
    head: Head, info: mne.Info, noise_cov: mne.Covariance, *, depth: float | None = None
) -> mne.minimum_norm.InverseOperator:
    """Return MNE's inverse operator, in the orientation of the head's sources.

    Parameters
    ----------
    head : Head
        Forward model of the channels of `info`; its sources are all fixed or all free.
    info : mne.Info
        Channels of the data.
    noise_cov : mne.Covariance
        Noise of the data.
    depth : float, optional
        Exponent of the depth weighting. eLORETA, sLORETA and dSPM normalise depth themselves, so
        none is the default. MNE weights by the free-orientation gain: a fixed head needs one of
        which that is known, not a bare matrix of fixed orientation.

    Raises
    ------
    InputError
        If some sources are fixed and others free, head or covariance lack a channel, the
        covariance is none, or the depth weighting is not possible.
    """
    _check_head(head, info)
    noise_cov = checked_covariance(noise_cov, info)
    if depth is not None and not (is_number(depth) and depth >= 0):
        raise InputError(f"depth is an exponent of at least 0, not {depth!r}.")
    free = bool(head.sources.free.all())
    if not free and head.sources.free.any():
        raise InputError(
            "MNE has no inverse for sources of which some are fixed and others free: use "
            "source_kernel."
        )
    forward = head.forward
    if depth is not None and not free:
        if forward["_orig_source_ori"] == mne.io.constants.FIFF.FIFFV_MNE_FIXED_ORI:
            raise InputError(
                "MNE's depth weighting needs the gain of free orientation, and this head's forward "
                "model has the fixed one only: leave depth out."
            )
        forward = mne.convert_forward_solution(forward, surf_ori=True, verbose="error")
    return mne.minimum_norm.make_inverse_operator(
        info, forward, noise_cov, fixed=not free, loose=1.0 if free else "auto", depth=depth,
        verbose="error",
    )  # fmt: skip


def source_estimate(
    evoked: mne.Evoked,
    inverse: mne.minimum_norm.InverseOperator,
    method: Method = "eLORETA",
    snr: float = 3.0,
) -> mne.SourceEstimate:
    """Estimate source activity at every source.

    Parameters
    ----------
    evoked : mne.Evoked
        Sensor data in V (with an average-reference projector) or T.
    inverse : mne.minimum_norm.InverseOperator
        From :func:`inverse_operator`.
    method : {"MNE", "dSPM", "sLORETA", "eLORETA"}
        Hämäläinen and Ilmoniemi (1994, Med Biol Eng Comput 32:35-42); Dale et al. (2000, Neuron
        26:55-67); Pascual-Marqui (2002, Methods Find Exp Clin Pharmacol 24D:5-12) and (2007,
        arXiv:0710.3341).
    snr : float
        Assumed amplitude signal-to-noise ratio; lambda^2 = 1 / snr^2.

    Returns
    -------
    mne.SourceEstimate
        Moments in Am (MNE, eLORETA) or dimensionless scores: signed along the outward normals
        where sources are fixed, vectors where they are free. Volume heads give MNE's volume
        estimates.

    Raises
    ------
    InputError
        If the method is unknown, the SNR is not positive, a channel is missing or EEG has no
        average-reference projector.
    """
    _check_method(method)
    _check_positive("snr", snr)
    free = not mne.forward.is_fixed_orient(inverse, orig=False)
    try:
        return mne.minimum_norm.apply_inverse(
            evoked, inverse, lambda2=1.0 / snr**2, method=method,
            pick_ori="vector" if free else None, verbose="error",
        )  # fmt: skip
    except ValueError as error:
        raise InputError(f"MNE cannot apply the inverse: {error}") from error


def estimate_sources(
    head: Head,
    evoked: mne.Evoked,
    noise_cov: mne.Covariance,
    method: Method = "eLORETA",
    snr: float = 3.0,
) -> mne.SourceEstimate:
    """Estimate source activity at every source, of referential and of bipolar channels.

    Parameters
    ----------
    head : Head
        Forward model of the channels.
    evoked : mne.Evoked
        Sensor data; its projectors are applied.
    noise_cov : mne.Covariance
        Noise of the data.
    method, snr
        See :func:`source_estimate`, whose result this is where MNE has an inverse.

    Returns
    -------
    mne.SourceEstimate

    Raises
    ------
    InputError
        As :func:`source_kernel`, and for bipolar channels if sources are not fixed on surfaces.
    """
    info = evoked.info
    if not bipolar_channels(info):
        inverse = inverse_operator(head, info, noise_cov)
        return source_estimate(evoked, inverse, method, snr)
    if head.sources.free.any():
        raise InputError(
            "Sources of bipolar channels go into an mne.SourceEstimate where they are fixed on the "
            "cortex only: take source_kernel, whose labels name them."
        )
    kernel = source_kernel(head, info, noise_cov, method, 1.0 / snr**2)
    subject = head.forward["src"][0].get("subject_his_id")
    return mne.SourceEstimate(
        kernel.values @ evoked.data, head.vertices, evoked.times[0], 1.0 / info["sfreq"], subject
    )


def source_kernel(
    head: Head,
    info: mne.Info,
    noise_cov: mne.Covariance,
    method: Method = "eLORETA",
    lambda2: float = 1.0 / 9.0,
    *,
    depth: float | None = None,
) -> xr.DataArray:
    """Return the linear map from sensors to sources.

    MNE-Python's own where the head's sources are all fixed or all free and EEG has a reference; for
    heads with both, and for bipolar channels, the same equations in tensor form
    (:mod:`nmm_infer.inverse.tensor`).

    Parameters
    ----------
    head : Head
        Forward model of exactly the channels of `info`.
    info : mne.Info
        Channels; EEG is referenced to its average, but for bipolar channels, and projectors in it
        are applied.
    noise_cov : mne.Covariance
        Noise of the data.
    method : {"MNE", "dSPM", "sLORETA", "eLORETA"}
        See :func:`source_estimate`.
    lambda2 : float
        Regularisation, 1 / SNR^2 of the amplitude.
    depth : float, optional
        Exponent of the depth weighting, see :func:`inverse_operator`.

    Returns
    -------
    xarray.DataArray, dims (component, channel)
        Components as of ``head.gain``. Am per V (T, T/m) for MNE and eLORETA, 1 per V (T, T/m)
        else; ``attrs["units"]`` says it.

    Raises
    ------
    InputError
        If the method is unknown, lambda2 is not positive, head or covariance lack a channel, the
        covariance is none, or the depth weighting is not possible.
    """
    _check_method(method)
    _check_positive("lambda2", lambda2)
    mixed = head.sources.free.any() and not head.sources.free.all()
    # MNE has no inverse for either.
    find = _tensor_kernel if mixed or bipolar_channels(info) else _mne_kernel
    return _labelled(head, info, find(head, info, noise_cov, method, lambda2, depth), method)


def choose_lambda2(
    head: Head, info: mne.Info, noise_cov: mne.Covariance, data: xr.DataArray
) -> float:
    """Choose the regularisation from data, by generalised cross-validation.

    Parameters
    ----------
    head, info, noise_cov
        See :func:`source_kernel`; channels of one type.
    data : xarray.DataArray, dims (channel, time)
        The data to be imaged.

    Returns
    -------
    float
        lambda2 for :func:`source_kernel`.

    References
    ----------
    Golub, Heath and Wahba (1979), Technometrics 21:215-223.
    """
    import torch

    from nmm_infer.inverse.tensor import lambda2_by_gcv

    if set(data.dims) != {"channel", "time"}:
        raise InputError(f"data: dimensions channel and time are needed, not {data.dims}.")
    seen = _seen(head, info, noise_cov)
    values = seen.operator(data.transpose("channel", "time")).values.astype(float)
    chosen = lambda2_by_gcv(seen.gain, seen.noise, torch.from_numpy(values), n_orient=seen.n_orient)
    return float(chosen)


def lcmv_kernel(
    head: Head,
    info: mne.Info,
    data_cov: mne.Covariance,
    noise_cov: mne.Covariance,
    regularisation: float = 0.05,
    *,
    weight_norm: Literal["unit-noise-gain", "nai"] | None = None,
) -> xr.DataArray:
    """Return a linearly constrained minimum-variance beamformer by MNE-Python.

    Parameters
    ----------
    head, info, noise_cov
        See :func:`source_kernel`.
    data_cov : mne.Covariance
        Covariance of the data to be imaged.
    regularisation : float
        Diagonal loading, as a share of the mean eigenvalue.
    weight_norm : {"unit-noise-gain", "nai"}, optional
        Normalisation; a unit gain at each source without.

    Returns
    -------
    xarray.DataArray, dims (component, channel)
        As of :func:`source_kernel`.

    References
    ----------
    Van Veen et al. (1997), IEEE Trans. Biomed. Eng. 44:867-880.
    """
    if weight_norm not in (None, "unit-noise-gain", "nai"):
        raise InputError(f"weight_norm is 'unit-noise-gain', 'nai' or None, not {weight_norm!r}.")
    if not (is_number(regularisation) and regularisation >= 0):
        raise InputError(f"regularisation must be 0 or more, not {regularisation!r}.")
    _check_head(head, info)
    if bipolar_channels(info):
        raise InputError("MNE's beamformer needs EEG with a reference, and these are bipolar.")
    data_cov = checked_covariance(data_cov, info, "data covariance")
    noise_cov = checked_covariance(noise_cov, info)
    free = bool(head.sources.free.all())
    if head.sources.free.any() and not free:
        raise InputError("The beamformer needs sources that are all fixed or all free.")
    unit = _unit_signals(info)
    filters = mne.beamformer.make_lcmv(
        unit.info, head.forward, data_cov, reg=regularisation, noise_cov=noise_cov,
        pick_ori="vector" if free else None, weight_norm=weight_norm, verbose="error",
    )  # fmt: skip
    estimate = mne.beamformer.apply_lcmv(unit, filters, verbose="error")
    method = "LCMV" if weight_norm is None else f"LCMV, {weight_norm}"
    return _labelled(head, info, estimate.data.reshape(-1, len(info["ch_names"])), method)


def _check_method(method: str) -> None:
    if method not in get_args(Method):
        raise InputError(f"No method {method!r}: choose one of {', '.join(get_args(Method))}.")


def _check_positive(name: str, value: float) -> None:
    if not (is_number(value) and value > 0):
        raise InputError(f"{name} must be positive and finite, not {value!r}.")


def _check_head(head: Head, info: mne.Info) -> None:
    missing = [name for name in info["ch_names"] if name not in head.channels]
    if missing:
        raise InputError(
            f"The head lacks channel(s) {', '.join(missing[:5])}: make it for the channels of info."
        )


def _unit_signals(info: mne.Info) -> mne.EvokedArray:
    """One unit pattern a channel: what a linear method makes of them is its matrix."""
    unit = mne.EvokedArray(np.eye(len(info.ch_names)), info, tmin=0.0, nave=1, verbose="error")
    if "eeg" in unit and not bipolar_channels(info):
        unit.set_eeg_reference("average", projection=True, verbose="error")
    return unit


def _mne_kernel(
    head: Head,
    info: mne.Info,
    noise_cov: mne.Covariance,
    method: Method,
    lambda2: float,
    depth: float | None,
) -> NDArray[np.float64]:
    unit = _unit_signals(info)
    inverse = inverse_operator(head, unit.info, noise_cov, depth=depth)
    estimate = source_estimate(unit, inverse, method, 1.0 / np.sqrt(lambda2))
    return np.asarray(estimate.data).reshape(-1, len(info.ch_names))


def _tensor_kernel(
    head: Head,
    info: mne.Info,
    noise_cov: mne.Covariance,
    method: Method,
    lambda2: float,
    depth: float | None,
) -> NDArray[np.float64]:
    """Use the tensor form, which knows sources of which only the normal can be seen."""
    from nmm_infer.inverse.tensor import minimum_norm

    sources, seen = head.sources, _seen(head, info, noise_cov)
    kernel = minimum_norm(seen.gain, seen.noise, lambda2, method, seen.n_orient, depth=depth)
    data = kernel.numpy() @ seen.operator.matrix
    if seen.n_orient == 1:
        return np.asarray(data)
    data = data.reshape(len(sources), 3, -1)
    parts = [
        data[k] if free else sources.normals[k : k + 1] @ data[k]
        for k, free in enumerate(sources.free)
    ]
    return np.concatenate(parts)


@dataclass(frozen=True, eq=False)
class _Seen:
    """Gain per Am and noise after average reference and projectors, as tensors."""

    gain: Any
    noise: Any
    n_orient: int
    operator: SensorOperator


def _seen(head: Head, info: mne.Info, noise_cov: mne.Covariance) -> _Seen:
    """Prepare the tensor form; where some sources are free, all have three components."""
    import torch

    _check_head(head, info)
    sources, operator = head.sources, projection(info, average=True)
    gain = operator(head.gain).values * 1e9
    if sources.free.any():
        vectors = np.zeros((len(gain), len(sources), 3))
        component = head.gain.coords["source"].values
        fixed = ~sources.free
        vectors[:, fixed] = gain[:, fixed[component]][:, :, np.newaxis] * sources.normals[fixed]
        vectors[:, sources.free] = gain[:, sources.free[component]].reshape(len(gain), -1, 3)
        gain = vectors.reshape(len(gain), -1)
    picked = checked_covariance(noise_cov, info)
    noise = np.diag(picked.data) if picked.data.ndim == 1 else picked.data
    return _Seen(
        torch.from_numpy(np.ascontiguousarray(gain)),
        torch.from_numpy(operator.covariance(noise)),
        3 if sources.free.any() else 1,
        operator,
    )


def _labelled(head: Head, info: mne.Info, data: NDArray[np.float64], method: str) -> xr.DataArray:
    unit = "A*m" if method in (*MOMENTS, "LCMV") else "1"
    kinds = sorted(info.get_channel_types(unique=True))
    units = ", ".join(f"{unit}/{_UNITS.get(kind, kind)}" for kind in kinds)
    return xr.DataArray(
        data,
        dims=("component", "channel"),
        coords={**head.sources.components.coords, "channel": list(info.ch_names)},
        name="kernel",
        attrs={
            "units": units,
            "method": method,
        },
    )


@dataclass(frozen=True)
class RegionOperators:
    """Linear and quadratic read-outs of all regions from average-referenced sensors.

    Parameters
    ----------
    course : xarray.DataArray, dims (region, channel)
        Region time courses per V (T for MEG): in Am per V for eLORETA, 1 per V for sLORETA.
    power : xarray.DataArray, dims (region, channel, other_channel)
        Mean source power over the vertices of a region: ``trace(power[r] @ covariance)`` with
        the covariance of the sensors in V^2 (T^2).
    """

    course: xr.DataArray
    power: xr.DataArray


def region_operators(
    head: Head,
    info: mne.Info,
    noise_cov: mne.Covariance,
    method: Method = "eLORETA",
    snr: float = 3.0,
) -> RegionOperators:
    """Return the maps from average-referenced sensors to regions.

    For time courses, the sources of a region are averaged along their normals with sign flips (as
    ``mode="mean_flip"`` of :func:`mne.extract_label_time_course` does), so that opposite walls of
    a sulcus do not cancel; in a volume they are averaged along the region's direction
    (``head.directions``). For power, the squares of all components are averaged over sources.

    Parameters
    ----------
    head : Head
        Forward model of exactly the channels of ``info``.
    info : mne.Info
        Channels of the data.
    noise_cov : mne.Covariance
        Noise covariance of the data that the operators will meet, in V^2.
    method, snr
        See :func:`source_estimate`.

    Returns
    -------
    RegionOperators
        Both maps, with names.
    """
    _check_positive("snr", snr)
    kernel = source_kernel(head, info, noise_cov, method, 1.0 / snr**2)
    values, component = kernel.values, kernel.coords["source"].values
    first = np.searchsorted(component, np.arange(len(head.sources)))
    courses, power = [], []
    for name, rows in head.members.items():
        free = head.sources.free[rows[0]]
        inside = values[(first[rows][:, np.newaxis] + np.arange(3 if free else 1)).ravel()]
        power.append(inside.T @ inside / len(rows))
        along = inside.reshape(len(rows), -1, values.shape[1])
        if name in head.free_regions:
            courses.append(head.directions.sel(region=name).values @ along.mean(axis=0))
        else:
            if free:
                along = np.einsum("sk,skc->sc", head.sources.normals[rows], along)
            flips = _flips(head, name)
            courses.append(flips @ along.reshape(len(rows), -1) / len(rows))
    unit = kernel.attrs["units"]
    coords = {"region": head.regions, "channel": list(info.ch_names)}
    return RegionOperators(
        xr.DataArray(
            np.stack(courses),
            dims=("region", "channel"),
            coords=coords,
            attrs={"units": unit, "method": method},
        ),
        xr.DataArray(
            np.stack(power),
            dims=("region", "channel", "other_channel"),
            coords=coords,
            attrs={"units": f"({unit})**2", "method": method},
        ),
    )


def _flips(head: Head, region: str) -> NDArray[np.float64]:
    """Signs of the normals along their main direction, that of the largest being positive."""
    for label in head.labels:
        if label.name == region:
            return np.asarray(mne.label_sign_flip(label, head.forward["src"][:2]))
    normals = head.sources.normals[head.members[region]]
    along = normals @ np.linalg.svd(normals, full_matrices=False)[2][0]
    return np.sign(along * np.sign(along[np.abs(along).argmax()]))

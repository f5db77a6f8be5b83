"""Linear inverses of MNE-Python, as labelled operators."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import mne
import numpy as np
import xarray as xr

from nmm_infer.anatomy import Head

__all__ = ["Method", "RegionOperators", "inverse_operator", "region_operators", "source_estimate"]

Method = Literal["eLORETA", "sLORETA"]


def inverse_operator(
    head: Head, info: mne.Info, noise_cov: mne.Covariance
) -> mne.minimum_norm.InverseOperator:
    """Return MNE's inverse operator: fixed orientation, no depth weighting.

    Both eLORETA and sLORETA normalise depth themselves, so none is added.
    """
    return mne.minimum_norm.make_inverse_operator(
        info, head.forward, noise_cov, fixed=True, depth=None, verbose="error"
    )


def source_estimate(
    evoked: mne.Evoked,
    inverse: mne.minimum_norm.InverseOperator,
    method: Method = "eLORETA",
    snr: float = 3.0,
) -> mne.SourceEstimate:
    """Estimate source activity at every vertex.

    Parameters
    ----------
    evoked : mne.Evoked
        Sensor data in V, with an average-reference projector.
    inverse : mne.minimum_norm.InverseOperator
        From :func:`inverse_operator`.
    method : {"eLORETA", "sLORETA"}
        Pascual-Marqui (2007, arXiv:0710.3341) and (2002, Methods Find Exp Clin Pharmacol
        24D:5-12).
    snr : float
        Assumed amplitude signal-to-noise ratio; lambda^2 = 1 / snr^2.

    Returns
    -------
    mne.SourceEstimate
        Moments in Am (eLORETA) or dimensionless scores (sLORETA), signed along the outward
        normals.
    """
    return mne.minimum_norm.apply_inverse(
        evoked, inverse, lambda2=1.0 / snr**2, method=method, verbose="error"
    )


@dataclass(frozen=True)
class RegionOperators:
    """Linear and quadratic read-outs of all regions from average-referenced sensors.

    Parameters
    ----------
    course : xarray.DataArray, dims (region, channel)
        Region time courses per V: in Am per V for eLORETA, 1 per V for sLORETA.
    power : xarray.DataArray, dims (region, channel, other_channel)
        Mean source power over the vertices of a region: ``trace(power[r] @ covariance)`` with
        the covariance of the sensors in V^2.
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

    The inverse is applied to one unit pattern a channel. For time courses, the vertices of a
    region are averaged with sign flips (``mode="mean_flip"`` of
    :func:`mne.extract_label_time_course`), so that opposite walls of a sulcus do not cancel; for
    power, their squares are averaged.

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
    inverse = inverse_operator(head, info, noise_cov)
    unit = mne.EvokedArray(np.eye(len(info.ch_names)), info, tmin=0.0, nave=1, verbose="error")
    unit.set_eeg_reference("average", projection=True, verbose="error")
    estimate = source_estimate(unit, inverse, method, snr)
    courses = mne.extract_label_time_course(
        estimate, list(head.labels), inverse["src"], mode="mean_flip", verbose="error"
    )
    power = [
        kernel.T @ kernel / len(kernel)
        for kernel in (estimate.in_label(label).data for label in head.labels)
    ]
    unit_of_source = "A*m" if method == "eLORETA" else "1"
    channels = list(info.ch_names)
    return RegionOperators(
        xr.DataArray(
            courses,
            dims=("region", "channel"),
            coords={"region": head.regions, "channel": channels},
            attrs={"units": f"{unit_of_source}/V", "method": method},
        ),
        xr.DataArray(
            np.stack(power),
            dims=("region", "channel", "other_channel"),
            coords={"region": head.regions, "channel": channels},
            attrs={"units": f"({unit_of_source}/V)**2", "method": method},
        ),
    )

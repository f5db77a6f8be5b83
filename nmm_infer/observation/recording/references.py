"""Which channel without any signal is the one that all others are referenced to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import mne
import numpy as np
from numpy.typing import NDArray
from scipy import stats

from nmm_infer.anatomy.derivations import named_references, place_of

__all__ = ["find_reference"]

_COMMON = 0.3  # mean correlation of channels in which one signal is
_SUMMED = 2.0  # times the middle channel: a sum of channels that do not cancel each other
_USUAL = ("Cz", "FCz", "CPz", "Fz", "AFz", "Pz", "TP9", "TP10")
_UNEVEN = 1.5  # ratio of large to small channels: those of a head, seen from somewhere
_FARTHER = 0.2  # rank correlation of size with distance from a reference on the head


def find_reference(
    info: mne.Info, values: Mapping[str, NDArray[np.float64]], zero: Sequence[str]
) -> dict[str, bool]:
    """Find the reference among channels that are zero throughout.

    It is known if MNE has set the reference, if the channels name it ("Fp1-Cz"), or if they hold
    its place. Otherwise one single channel can be it. Where channels differ in size, they have to
    share a signal and be the larger the farther they are from it: a dead channel of a cap with an
    outer reference is not one. Where they do not differ, they have to share a signal, or it has to
    be a place that amplifiers use as reference.

    Parameters
    ----------
    info : mne.Info
        Channels of the recording.
    values : dict of str to numpy.ndarray
        Signals of the channels that may be used.
    zero : sequence of str
        Those without any signal.

    Returns
    -------
    dict of str to bool
        The reference, and whether that is known; empty where there is none.
    """
    eeg = [info["ch_names"][k] for k in mne.pick_types(info, meg=False, eeg=True, exclude=[])]
    found = [name for name in zero if name in eeg]
    if not found or len(found) == len(values):
        return {}
    named = named_references(eeg)
    if named is not None:
        fitting = [name for name in found if place_of(name) in named]
        return {fitting[0]: True} if len(fitting) == 1 else {}
    located = [name for name in found if _is_reference_place(info, name)]
    if len(located) == 1:
        return {located[0]: True}
    if len(found) > 1:
        return {}
    others = {name: signal.ravel() for name, signal in values.items() if name != found[0]}
    if _cancel(others):
        return {}
    if info["custom_ref_applied"]:
        return {found[0]: True}
    return {found[0]: False} if _shared(info, found[0], others) else {}


def _is_reference_place(info: mne.Info, name: str) -> bool:
    """Tell whether the channels were recorded against the place of this one."""
    channels = {channel["ch_name"]: np.asarray(channel["loc"]) for channel in info["chs"]}
    own = channels[name][:3]
    if not np.isfinite(own).all() or not own.any():
        return False
    apart = [np.linalg.norm(loc[3:6] - own) for key, loc in channels.items() if key != name]
    return bool(np.mean([distance < 1e-3 for distance in apart]) > 0.5)


def _cancel(others: Mapping[str, NDArray[np.float64]]) -> bool:
    """Tell whether channels are referenced to their average: they sum to nearly nothing."""
    signals = np.array(list(others.values()))
    size = float(np.median(signals.std(axis=1)))
    return float(signals.sum(axis=0).std()) < _SUMMED * size


def _shared(info: mne.Info, zero: str, others: Mapping[str, NDArray[np.float64]]) -> bool:
    """Tell whether the signal of one place is in all the others."""
    signals = np.array(list(others.values()))
    sizes = signals.std(axis=1)
    if len(signals) < 2 or not (sizes > 0).all():
        return False
    correlation = np.corrcoef(signals)[np.triu_indices(len(signals), 1)]
    common = bool(correlation.mean() > _COMMON)
    if np.quantile(sizes, 0.9) < _UNEVEN * np.quantile(sizes, 0.1):
        return common or place_of(zero) in _USUAL
    if not common:
        return False
    where = {channel["ch_name"]: np.asarray(channel["loc"][:3]) for channel in info["chs"]}
    places = np.array([where[name] for name in others])
    if not (np.isfinite(places).all() and np.isfinite(where[zero]).all() and places.any()):
        return True
    distance = np.linalg.norm(places - where[zero], axis=1)
    return bool(stats.spearmanr(distance, sizes).statistic > _FARTHER)

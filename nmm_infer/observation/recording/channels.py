"""Which channels of a recording are used, why the others are not, and what becomes of these."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Literal

import mne
import numpy as np

from nmm_infer.anatomy import SensorOperator, place_electrodes
from nmm_infer.anatomy.derivations import (
    differences,
    mark_bipolar,
    named_references,
    read_derivations,
)
from nmm_infer.anatomy.electrodes import forget_references
from nmm_infer.anatomy.sensors import (
    identity,
    interpolation,
    principal_subspace,
    projection,
    reference,
)
from nmm_infer.errors import InputError
from nmm_infer.observation.recording.kinds import Recording, places
from nmm_infer.observation.recording.montages import suggest_montage
from nmm_infer.observation.recording.references import find_reference

__all__ = ["MIN_CHANNELS", "Candidates", "Chosen", "choose_channels", "find_candidates"]

logger = logging.getLogger(__name__)

MIN_CHANNELS = 8
_NOT_EEG = re.compile(
    r"(EOG|ECG|EKG|EMG|GSR|RESP|PULSE|TRIG|STATUS|STI\b|PHOTO|TEMP\b|\bLOC\b|\bROC\b)",
    re.IGNORECASE,
)
#: Peak-to-peak values below which a channel is flat: V, T, T/m.
_FLAT = {"eeg": 1e-10, "mag": 1e-17, "grad": 1e-16}
_INCONSISTENT = 0.1  # of the amplitude of bipolar channels whose loops do not close
_SAMPLES = 2  # times the rank: samples that show a subspace


@dataclass(frozen=True, eq=False)
class Candidates:
    """Channels that may be used, before their signals are looked at.

    Parameters
    ----------
    names : tuple of str
        EEG (or MEG) channels, of one kind of derivation.
    kinds : tuple of str
        Their types.
    bipolar : bool
        Whether they are differences of two electrodes.
    notes : tuple of str
        Why others were left out.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    bipolar: bool
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Chosen:
    """The channels of a recording that are used.

    Parameters
    ----------
    recording : mne.io.Raw, mne.Epochs or mne.Evoked
        A loaded copy with these channels only, after the operator; electrodes are at their places
        on the template head.
    placed : mne.Info
        The same channels before interpolation and reference, with the reference sensors of CTF:
        what a forward model is made for.
    projs : list of mne.Projection
        What MNE's inverses have to project out, the average reference aside.
    operator : SensorOperator
        Projectors, interpolation and reference, which the data went through, for lead fields.
    electrodes : SensorOperator, optional
        Of bipolar channels: the map from electrodes to them.
    notes : tuple of str
        One sentence for each thing that was left out, interpolated or assumed.
    warnings : tuple of str
        What was assumed that may well be wrong.
    """

    recording: Recording
    placed: mne.Info
    projs: list[mne.Projection]
    operator: SensorOperator
    electrodes: SensorOperator | None
    notes: tuple[str, ...] = field(default=())
    warnings: tuple[str, ...] = field(default=())


def find_candidates(recording: Recording, kinds: tuple[str, ...]) -> Candidates:
    """Find the channels of some types that can be EEG or MEG at all.

    Parameters
    ----------
    recording : mne.io.Raw, mne.Epochs or mne.Evoked
        The recording.
    kinds : tuple of str
        Types that are used.

    Returns
    -------
    Candidates
        Of bipolar and referential channels in one recording, those of which there are more; where
        there are as many, the referential ones.
    """
    types = dict(zip(recording.ch_names, recording.get_channel_types(), strict=True))
    notes = _Notes()
    left = [name for name, kind in types.items() if kind in kinds]
    named = [name for name in left if types[name] == "eeg" and _NOT_EEG.search(name)]
    why = "the name says it is not EEG, though the file types it as EEG"
    notes.say(named, "Left out", why, logging.INFO)
    left = [name for name in left if name not in named]
    if kinds != ("eeg",):
        return Candidates(tuple(left), kinds, False, notes.said)
    coils = {channel["ch_name"]: channel["coil_type"] for channel in recording.info["chs"]}
    found = read_derivations(left, [coils[name] for name in left])
    why = "it is bipolar, and its two electrodes cannot be read from its name (as from Fp1-F7)"
    notes.say(list(found.unknown), "Left out", why)
    repeated: list[str] = []
    pairs: dict[tuple[str, str], str] = {}
    for name, pair in found.bipolar.items():
        if pairs.setdefault(pair, name) != name:
            repeated.append(name)
    notes.say(repeated, "Left out", "another channel is the same difference of electrodes")
    bipolar = [name for name in found.bipolar if name not in repeated]
    if len(bipolar) > len(found.referential):
        why = "it is referential, and most channels of the recording are bipolar"
        notes.say(list(found.referential), "Left out", why)
        examples = "; ".join(f"{n} is {a} less {b}" for n, (a, b) in [*found.bipolar.items()][:2])
        notes.add(f"Bipolar channels: differences of two electrodes ({examples}).")
        return Candidates(tuple(bipolar), kinds, True, notes.said)
    why = "it is bipolar, and most channels of the recording are not"
    notes.say(bipolar, "Left out", why)
    shared = named_references(found.referential)
    if shared is not None:
        names = ", ".join(sorted(shared)) or "one that is not an electrode"
        notes.add(f"The names of the channels give a common reference: {names}.")
    return Candidates(found.referential, kinds, False, notes.said)


def choose_channels(
    recording: Recording,
    candidates: Candidates,
    *,
    recorded: mne.Info,
    bads: Literal["drop", "interpolate"] = "drop",
    to: Literal["average", "none"] | tuple[str, ...] = "average",
    unfit: Mapping[str, Sequence[str]] | None = None,
    by_name: bool = True,
) -> Chosen:
    """Keep the channels that can be used, and project, interpolate and reference them.

    Parameters
    ----------
    recording : mne.io.Raw, mne.Epochs or mne.Evoked
        Loaded, finite wherever `unfit` does not say otherwise; it is not changed.
    candidates : Candidates
        The channels that may be used.
    recorded : mne.Info
        Of the whole recording, with the reference sensors of MEG.
    bads : {"drop", "interpolate"}
        What becomes of channels that are marked bad, flat or `unfit`.
    to : "average", "none" or tuple of str
        Reference of EEG, see :func:`nmm_infer.anatomy.sensors.reference`.
    unfit : dict of str to sequence of str, optional
        Further channels not to use, by the reason.
    by_name : bool
        See :func:`nmm_infer.anatomy.place_electrodes`.

    Returns
    -------
    Chosen

    Raises
    ------
    InputError
        If fewer than :data:`MIN_CHANNELS` good channels remain.
    """
    notes, warned = _Notes(candidates.notes), list[str]()
    left = list(candidates.names)
    mending = bads == "interpolate" and not candidates.bipolar
    done = "Interpolated" if mending else "Left out"
    reasons, references = _bad_channels(recording, left, unfit or {})
    for reason, names in reasons.items():
        level = logging.INFO if "marked" in reason else logging.WARNING
        notes.say(names, done, reason, level)
    for name, known in references.items():
        notes.add(f"{name} is zero throughout: it is taken for the reference of the recording.")
        if not known:
            warned.append(
                f"{name} is zero throughout and is taken for the reference of the recording, which "
                "nothing in the file confirms: if it is a dead channel, mark it bad."
            )
    bad = [name for names in reasons.values() for name in names]
    good = [name for name in left if name not in bad]
    montage = None
    wanted = left if mending else good
    if candidates.kinds == ("eeg",) and wanted and not candidates.bipolar:
        kept = mne.pick_info(recording.info, places(recording, wanted), copy=True, verbose="error")
        montage, unplaced, said, _ = place_electrodes(kept, by_name=by_name)
        notes.add(*said)
        notes.say(unplaced, "Left out", "no position in the file, and no name of the 10-05 system")
        left, good, bad = ([n for n in some if n not in unplaced] for some in (left, good, bad))
        if len(good) < MIN_CHANNELS and unplaced:
            notes.add(_how_to_place(unplaced))
    if len(good) < MIN_CHANNELS:
        kind = "EEG" if candidates.kinds == ("eeg",) else "MEG"
        raise InputError(
            f"only {len(good)} usable {kind} channel(s) remain, at least {MIN_CHANNELS} are "
            "needed. " + " ".join(notes.said)
        )
    result = recording.copy().pick(places(recording, left if mending else good))
    kept_projs = _own(result.info["projs"], result.ch_names)
    _strip(result, bad if mending else [])
    electrodes = None
    if candidates.bipolar:
        mark_bipolar(result.info, result.ch_names)
        electrodes = differences(result.ch_names)
        _place_between(result.info, electrodes)
    elif montage is not None:
        forget_references(result.info)
        result.set_montage(montage, verbose="error")
    placed = _with_references(recorded, result.info)
    operator, projs = _operator(result, kept_projs, bad if mending else [], to, electrodes)
    notes.add(*operator.notes)
    rank, n = operator.rank, len(operator.outputs)
    if rank < n - (candidates.kinds == ("eeg",) and to != "none" and not candidates.bipolar):
        notes.add(f"The data of {n} channels have rank {rank}.")
    if electrodes is not None and (left_over := _residue(result, operator)) > _INCONSISTENT:
        warned.append(
            f"Bipolar channels contradict each other: {left_over:.0%} of their amplitude cannot "
            "come from the electrodes that their names say. Check the names."
        )
    _apply(result, operator)
    return Chosen(result, placed, projs, operator, electrodes, notes.said, tuple(warned))


class _Notes:
    """Sentences that are kept and logged."""

    def __init__(self, begun: Sequence[str] = ()) -> None:
        self._said = list(begun)

    @property
    def said(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self._said))

    def add(self, *sentences: str) -> None:
        self._said += sentences

    def say(self, names: list[str], done: str, why: str, level: int = logging.WARNING) -> None:
        if names:
            listed = ", ".join(names[:12])
            listed += f" and {len(names) - 12} more" if len(names) > 12 else ""
            self._said.append(f"{done} {listed}: {why}.")
            logger.log(level, self._said[-1])


def _how_to_place(unplaced: list[str]) -> str:
    montage = suggest_montage(unplaced)
    example = montage or "biosemi128"
    seems = f" (these look like those of {montage})" if montage else ""
    return (
        f"Channels without a place need a montage{seems}: --montage {example} "
        f"(montage={example!r} in Python)."
    )


def _bad_channels(
    data: Recording, names: list[str], unfit: Mapping[str, Sequence[str]]
) -> tuple[dict[str, list[str]], dict[str, bool]]:
    """Channels not to use, by reason; and the reference, if there, and whether it is known."""
    marked = [name for name in names if name in data.info["bads"]]
    reasons = {"marked bad in the recording": marked}
    gone = set(marked)
    for reason, some in unfit.items():
        reasons[reason] = [name for name in names if name in some and name not in gone]
        gone |= set(reasons[reason])
    left = [name for name in names if name not in gone]
    if not left:
        return reasons, {}
    types = dict(zip(data.ch_names, data.get_channel_types(), strict=True))
    values = dict(
        zip(left, np.moveaxis(data.get_data(picks=places(data, left)), -2, 0), strict=True)
    )
    zero = [name for name in left if not values[name].any()]
    references = find_reference(data.info, values, zero)
    reasons["it is flat"] = [
        name
        for name in left
        if np.ptp(values[name]) < _FLAT[types[name]] and name not in references
    ]
    return reasons, references


def _own(projs: Sequence[mne.Projection], names: list[str]) -> list[mne.Projection]:
    """Copy the projectors that meet some of the channels, taken as not applied."""
    own = [deepcopy(p) for p in projs if set(p["data"]["col_names"]) & set(names)]
    for projector in own:
        projector["active"] = False
    return own


def _strip(recording: Recording, bad: list[str]) -> None:
    """Forget projectors and marks of bad channels, in place; silence what is to be mended."""
    with recording.info._unlock():
        recording.info["projs"] = []
        recording.info["bads"] = []
        recording.info["custom_ref_applied"] = 0
    for name in bad:  # NaN times 0 is NaN
        row = recording.ch_names.index(name)
        if isinstance(recording, mne.Evoked):
            recording.data[row] = 0.0
        else:
            recording._data[..., row, :] = 0.0


def _residue(recording: Recording, operator: SensorOperator) -> float:
    """Share of the amplitude that an operator takes away."""
    data = np.asarray(recording.get_data(picks=places(recording, operator.inputs)))
    data = np.moveaxis(data, -2, 0).reshape(len(operator.inputs), -1)
    size = float(np.linalg.norm(data))
    return float(np.linalg.norm(data - operator.matrix @ data)) / size if size else 0.0


def _place_between(info: mne.Info, electrodes: SensorOperator) -> None:
    """Put bipolar channels half way between their electrodes: where drawings show them."""
    apart = mne.create_info(list(electrodes.inputs), 100.0, "eeg", verbose="error")
    where = place_electrodes(apart).montage.get_positions()["ch_pos"]
    weights = np.abs(electrodes.matrix) / 2
    middle = weights @ np.array([where[name] for name in electrodes.inputs])
    montage = mne.channels.make_dig_montage(
        dict(zip(electrodes.outputs, middle, strict=True)), coord_frame="head"
    )
    info.set_montage(montage, verbose="error")
    mark_bipolar(info, electrodes.outputs)  # MNE takes what has a place for an electrode


def _operator(
    recording: Recording,
    projs: list[mne.Projection],
    bad: list[str],
    to: Literal["average", "none"] | tuple[str, ...],
    electrodes: SensorOperator | None,
) -> tuple[SensorOperator, list[mne.Projection]]:
    """Make the one map that data and lead fields go through, and MNE's projectors for it."""
    info = recording.info
    if electrodes is not None:
        if to not in ("average", "none"):
            reference(info, list(to))  # raises
        # What no potentials of electrodes can give, bipolar channels do not hold either.
        u, s, _ = np.linalg.svd(electrodes.matrix, full_matrices=False)
        u = u[:, s > 1e-9 * s[0]]
        names = electrodes.outputs
        return SensorOperator(u @ u.T, names, names, notes=reference(info).notes), []
    good = [name for name in info["ch_names"] if name not in bad]
    kept = mne.pick_info(info, [info["ch_names"].index(n) for n in good], verbose="error")
    first = _filtered_subspace(recording, kept)
    own = [p for p in projs if p["kind"] != mne.io.constants.FIFF.FIFFV_PROJ_ITEM_EEG_AVREF]
    with kept._unlock():
        kept["projs"] = projs if to == "none" else own
    if own or (to == "none" and projs):
        first = projection(kept, average=to != "none") @ first
    mended = interpolation(info, bad)
    operator = reference(info, to if isinstance(to, str) else list(to)) @ mended @ first
    return operator, [] if bad else own


def _filtered_subspace(recording: Recording, kept: mne.Info) -> SensorOperator:
    """Confine Maxwell-filtered data to the signals that the filter has left, where it was used."""
    names = list(kept["ch_names"])
    if not any(record.get("max_info", {}).get("sss_info") for record in kept["proc_history"] or ()):
        return identity(names)
    meg = mne.pick_types(kept, meg=True, exclude=[])
    assumed = mne.make_ad_hoc_cov(kept, verbose="error")
    ranks = mne.compute_rank(assumed, rank="info", info=kept, verbose="error")
    rank = int(ranks.get("meg", len(meg)))
    data = np.asarray(recording.get_data(picks=places(recording, names)))
    data = np.moveaxis(data, -2, 0).reshape(len(names), -1)
    if rank >= len(meg) or data.shape[1] < _SAMPLES * rank or len(meg) < len(names):
        return identity(names)
    return principal_subspace(kept, data, rank, "Maxwell-filtered")


def _with_references(recorded: mne.Info, used: mne.Info) -> mne.Info:
    """Add the reference sensors of the MEG device to the channels in use."""
    others = [recorded["ch_names"][k] for k in mne.pick_types(recorded, meg=False, ref_meg=True)]
    if not others or not len(mne.pick_types(used, meg=True)):
        return used.copy()
    names = [*used["ch_names"], *others]
    picks = [k for k, name in enumerate(recorded["ch_names"]) if name in names]
    return mne.pick_info(recorded, picks, copy=True, verbose="error")


def _apply(recording: Recording, operator: SensorOperator) -> None:
    """Put the signals of all channels through the operator, in place."""
    names = recording.ch_names
    columns = [names.index(name) for name in operator.inputs]
    assert list(operator.outputs) == names
    if isinstance(recording, mne.Evoked):
        recording.data = operator.matrix @ recording.data[columns]
    else:
        recording._data = operator.matrix @ recording._data[..., columns, :]

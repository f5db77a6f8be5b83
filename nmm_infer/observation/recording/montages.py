"""Where channels sit whose names do not tell: montages by name."""

from __future__ import annotations

import difflib
import warnings
from pathlib import Path
from typing import TypeVar

import mne

from nmm_infer.errors import InputError
from nmm_infer.observation.recording.kinds import Recording

__all__ = ["set_montage", "suggest_montage"]

_R = TypeVar("_R", bound=Recording)
_SHARE = 0.5  # of the channels must be in a montage for it to be named


def set_montage(recording: _R, montage: str | mne.channels.DigMontage) -> _R:
    """Return a copy of a recording whose EEG channels sit where a montage has them.

    Parameters
    ----------
    recording : mne.io.Raw, mne.Epochs or mne.Evoked
        It is not changed. Case does not count, nor what stands around a name ("EEG A1-REF").
    montage : str or mne.channels.DigMontage
        A montage of MNE by its name (``mne.channels.get_builtin_montages()``), a file of positions
        that `mne.channels.read_custom_montage` reads, or a montage.

    Returns
    -------
    mne.io.Raw, mne.Epochs or mne.Evoked
        Channels that the montage lacks have no position any more.

    Raises
    ------
    InputError
        If there is no such montage, or none of its positions is a channel's.
    """
    known = _montage(montage)
    places = {name.lower(): name for name in known.ch_names}
    result = recording.copy()
    picks = mne.pick_types(result.info, meg=False, eeg=True, exclude=[])
    names = [result.ch_names[k] for k in picks]
    found = {name: places[key] for name in names if (key := _key(name, places)) is not None}
    if not found:
        label = montage if isinstance(montage, str) else "given"
        other = suggest_montage(names)
        hint = f"; they look like those of {other!r}" if other else ""
        raise InputError(
            f"the montage {label} has none of the channels ({', '.join(names[:4])}, ...): it has "
            f"{', '.join(known.ch_names[:4])}, ...{hint}"
        )
    given = known.get_positions()
    own = mne.channels.make_dig_montage(
        {name: given["ch_pos"][place] for name, place in found.items()},
        nasion=given["nasion"], lpa=given["lpa"], rpa=given["rpa"],
        coord_frame=given["coord_frame"],
    )  # fmt: skip
    for k in picks:
        result.info["chs"][k]["loc"][:6] = float("nan")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result.set_montage(own, on_missing="ignore", verbose="error")
    return result


def _montage(montage: str | mne.channels.DigMontage) -> mne.channels.DigMontage:
    if isinstance(montage, mne.channels.DigMontage):
        return montage
    builtin = mne.channels.get_builtin_montages()
    lower = {name.lower(): name for name in builtin}
    if str(montage).lower() in lower:
        return mne.channels.make_standard_montage(lower[str(montage).lower()])
    try:  # MNE knows more than it lists: older names
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return mne.channels.make_standard_montage(str(montage))
    except ValueError:
        pass
    if Path(montage).is_file():
        try:
            return mne.channels.read_custom_montage(montage)
        except Exception as error:
            reason = (str(error).strip().splitlines() or ["no reason given"])[0]
            raise InputError(f"{montage}: not a file of positions ({reason})") from error
    near = difflib.get_close_matches(str(montage).lower(), lower, n=1, cutoff=0.3)
    hint = f"; did you mean {lower[near[0]]!r}?" if near else ""
    raise InputError(
        f"no montage {montage!r}, and no such file; there are {', '.join(builtin)}{hint}"
    )


def _key(name: str, places: dict[str, str]) -> str | None:
    """Find a channel in a montage: as it is, or without prefix and reference."""
    plain = name.strip().lower()
    bare = plain.removeprefix("eeg").strip(" -_:.")
    for key in (plain, bare, bare.split("-")[0].strip(), bare.replace(" ", "")):
        if key in places:
            return key
    return None


def suggest_montage(names: list[str]) -> str | None:
    """Name the montage of MNE that has most of some channels, if one has at least half."""
    fitting = []
    for montage in mne.channels.get_builtin_montages():
        places = {n.lower(): n for n in mne.channels.make_standard_montage(montage).ch_names}
        inside = sum(_key(name, places) is not None for name in names)
        if names and inside >= _SHARE * len(names):
            fitting.append((-inside, len(places), montage))
    # Of montages that have as many, the smallest is the likeliest cap.
    return min(fitting)[2] if fitting else None

"""What the name of an EEG channel says: an electrode, and what it is referenced to."""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["COMMON", "electrode_pair", "second_name", "standard_name"]

#: What :func:`second_name` gives for a reference that is not one electrode.
COMMON = "common"

_PREFIX = re.compile(r"^(?:EEG|POL)[\s_:\-]*", re.IGNORECASE)
_REPEATED = re.compile(r"-\d+$")  # MNE numbers channels that have one name
_PARTS = re.compile(r"\s*(?:--?|–|—|/|:|>|_)\s*|\s+")  # noqa: RUF001 - some systems write dashes
_LINKED = re.compile(r"^(.+?)[\s_:/\-]+\(?[AM]1\s*[+]\s*[AM]2\)?(?:/2)?$", re.IGNORECASE)
# What clinical systems call a common reference that is not one electrode.
_COMMON = re.compile(
    r"^(?:REF\d*|AR|AVG|AVE|AV|CAR|LER|A1A2|M1M2|\(?[AM]1\+[AM]2\)?(?:/2)?)$", re.IGNORECASE
)
# Electrodes on the ears and mastoids, which stand beside TP9 and TP10. LE and RE are the ears of
# clinical systems, or both ears, linked, where a recording names only one of them.
_EARS = {"a1": "tp9", "m1": "tp9", "le": "tp9", "a2": "tp10", "m2": "tp10", "re": "tp10"}
# Older or other names of 10-05 places: Acharya et al. (2016), J. Clin. Neurophysiol. 33:308-311
# (T3 -> T7 and so on); the mastoids stand beside TP9 and TP10.
_ALIASES = {
    "t3": "t7",
    "t4": "t8",
    "t5": "p7",
    "t6": "p8",
    "t1": "ft9",
    "t2": "ft10",
    "m1": "tp9",
    "m2": "tp10",
    "cb1": "poo7",
    "cb2": "poo8",
}


def standard_name(channel: str, lookup: Mapping[str, str]) -> str | None:
    """Recognise a channel as a place of the 10-05 system.

    Case, a leading "EEG", trailing dots and a second name (a reference, "-REF", "-LE", "-Cz")
    do not count; T3, T4, T5, T6, M1, M2 and the like stand for their 10-05 names. Whether a second
    name is the reference that all channels share, or the other electrode of a bipolar channel,
    one name cannot tell: see :func:`nmm_infer.anatomy.derivations.read_derivations`.

    Parameters
    ----------
    channel : str
        Name in the recording, e.g. "EEG Fp1-REF" or "Fc5.".
    lookup : dict
        Lower-case place name to its name in the template.

    Returns
    -------
    str or None
        The template's name of the place.
    """
    parts = _split(channel)
    whole = _place(parts[0], lookup)
    if len(parts) == 2 and _meaning(parts[1], lookup) is None:
        return None
    return whole


def second_name(channel: str, lookup: Mapping[str, str]) -> str | None:
    """Return what a channel with the name of an electrode is referenced to, as its name has it.

    Parameters
    ----------
    channel : str
        Name in the recording.
    lookup : dict
        See :func:`standard_name`.

    Returns
    -------
    str or None
        :data:`COMMON` for a reference that is not one electrode, else the electrode as it is
        written, in lower case; None where there is no second name.
    """
    parts = _split(channel)
    if len(parts) != 2 or _electrode(parts[0], lookup) is None:
        return None
    return _meaning(parts[1], lookup)


def electrode_pair(channel: str, lookup: Mapping[str, str]) -> tuple[str, str] | None:
    """Read two electrodes from the name of a channel.

    Parameters
    ----------
    channel : str
        Such as "Fp1-F7", "EEG T3-T5", "C3/A2".
    lookup : dict
        See :func:`standard_name`.

    Returns
    -------
    tuple of str or None
        The template's names of their places, first and second; None where the name does not hold
        two. An ear or mastoid (A1, A2, M1, M2, LE, RE) is taken for TP9 or TP10, which stand
        beside them.
    """
    parts = _split(channel)
    if len(parts) != 2 or _COMMON.match(parts[1]):
        return None
    first, second = (_electrode(part, lookup) for part in parts)
    return None if first is None or second is None or first == second else (first, second)


def _split(channel: str) -> list[str]:
    """Take a name apart into one electrode, or two."""
    plain = _PREFIX.sub("", channel.strip())
    linked = _LINKED.match(plain)
    if linked:
        return [linked[1], "A1A2"]
    for name in (plain, _REPEATED.sub("", plain)):
        parts = [part for part in _PARTS.split(name) if part]
        if len(parts) == 2:
            return parts
    return [plain]


def _meaning(second: str, lookup: Mapping[str, str]) -> str | None:
    if _COMMON.match(second.strip(" .")):
        return COMMON
    return second.strip(" .").lower() if _electrode(second, lookup) else None


def _place(name: str, lookup: Mapping[str, str]) -> str | None:
    plain = name.strip(" .").lower()
    return lookup.get(_ALIASES.get(plain, plain))


def _electrode(name: str, lookup: Mapping[str, str]) -> str | None:
    """Find the place of a name, an ear's included."""
    ear = _EARS.get(name.strip(" .").lower())
    return _place(name, lookup) if ear is None else lookup.get(ear)

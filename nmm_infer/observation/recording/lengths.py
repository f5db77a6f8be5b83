"""Files that are shorter than they say, or point nowhere: MNE reads some of them, or for ever."""

from __future__ import annotations

import gzip
import re
import struct
from pathlib import Path

from nmm_infer.errors import InputError

__all__ = ["check_length", "check_tags"]

_TAG = struct.Struct(">iIii")  # kind, type, bytes of data, place of the next tag
_LAST = -1


def check_length(path: Path) -> None:
    """Refuse an EDF, BDF or BrainVision recording that is shorter than it says."""
    name = path.name.lower()
    if name.endswith((".edf", ".bdf")):
        _check_edf_length(path)
    if name.endswith(".vhdr"):
        _check_brainvision_length(path)


def _check_edf_length(path: Path) -> None:
    """Refuse an EDF or BDF file that is shorter than its header says.

    The header fields are those of the EDF specification (Kemp et al. 1992).
    """
    with path.open("rb") as file:
        head = file.read(256)
        size = 3 if path.suffix.lower() == ".bdf" else 2
        header, records, signals = int(head[184:192]), int(head[236:244]), int(head[252:256])
        file.seek(256 + signals * 216)
        samples = sum(int(file.read(8)) for _ in range(signals))
    expected = header + records * samples * size
    if records > 0 and path.stat().st_size < expected:
        raise InputError(
            f"{path}: cut off, {path.stat().st_size} of the {expected} bytes that its header "
            "announces; copy the file again"
        )


def _check_brainvision_length(path: Path) -> None:
    """Refuse a BrainVision recording that ends inside a sample or before its last marker."""
    header = dict(re.findall(r"^(\w+)=(.*)$", path.read_text(errors="replace"), re.MULTILINE))
    data = path.with_name(header["DataFile"].strip().replace("$b", path.stem))
    markers = path.with_name(header.get("MarkerFile", "").strip().replace("$b", path.stem))
    width = 4 if header.get("BinaryFormat", "").strip() == "IEEE_FLOAT_32" else 2
    frame = int(header["NumberOfChannels"]) * width
    samples, rest = divmod(data.stat().st_size, frame)
    expected = int(header.get("DataPoints", 0))
    if markers.is_file():
        text = markers.read_text(errors="replace")
        positions = re.findall(r"^Mk\d+=[^,]*,[^,]*,(\d+)", text, re.MULTILINE)
        expected = max([expected, *map(int, positions)])
    if header.get("DataFormat", "BINARY").strip() == "BINARY" and (rest or samples < expected):
        raise InputError(
            f"{path}: cut off, {data.name} has {samples} samples where header and markers announce "
            f"at least {max(expected, samples + 1)}; copy the files again"
        )


def check_tags(path: Path) -> None:
    """Refuse a .fif file whose chain of tags does not lead to its end.

    A file is a chain of tags, each of which says how long it is, or where the next one begins
    (Hamalainen, the FIFF specification of MNE). In a damaged one the chain may turn back on itself,
    and a reader follows it for ever.

    Parameters
    ----------
    path : Path
        The file, compressed or not.

    Raises
    ------
    InputError
        If a tag has no size, points back, or beyond the end.
    """
    opened = gzip.open if path.name.lower().endswith(".gz") else open
    size = None if opened is gzip.open else path.stat().st_size
    with opened(path, "rb") as file:
        place = 0
        while True:
            file.seek(place)
            header = file.read(_TAG.size)
            if not header:
                return
            if len(header) < _TAG.size:
                raise _damaged(path, place, "is cut off")
            _, _, length, following = _TAG.unpack(header)
            if following == _LAST:
                return
            end = place + _TAG.size + length if following == 0 else following
            if length < 0 or end <= place:
                raise _damaged(path, place, "points back")
            if size is not None and end > size:
                raise _damaged(path, place, "points beyond the end")
            place = end


def _damaged(path: Path, place: int, why: str) -> InputError:
    return InputError(
        f"{path}: cannot be read, it is cut off or damaged (the tag at byte {place} {why}); copy "
        "the file again"
    )

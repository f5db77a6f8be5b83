"""Files that are shorter than they say: MNE reads some of them without a word."""

from __future__ import annotations

import re
from pathlib import Path

from nmm_infer.errors import InputError

__all__ = ["check_length"]


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

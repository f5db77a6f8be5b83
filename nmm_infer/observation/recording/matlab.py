"""Files of MATLAB 5 whose parts do not fit each other: SciPy's reader crashes on some of them."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

from nmm_infer.errors import InputError

__all__ = ["check_matlab"]

# Types of elements and bytes a number ("MAT-File Format", The MathWorks, tables 1-1 and 1-3).
_NUMBERS = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8, 16: 1, 17: 2, 18: 4}
_MATRIX, _COMPRESSED = 14, 15
_CELL, _STRUCT, _OBJECT, _CHAR, _SPARSE = 1, 2, 3, 4, 5
_ARRAYS = range(6, 16)
_HEADER = 128
_DEEPEST = 60
_LARGEST = 2**32  # bytes that one compressed variable may become


class _DamagedError(Exception):
    """Parts that do not fit."""


def check_matlab(path: Path) -> None:
    """Refuse a file of MATLAB 5 whose elements are not whole.

    Files of MATLAB 7.3 (HDF5), which check themselves, and other files pass.

    Parameters
    ----------
    path : Path
        A ``.set`` or ``.mat`` file.

    Raises
    ------
    InputError
        If an element is longer than what holds it, has an unknown type, or has another number of
        values than its dimensions say.
    """
    content = memoryview(path.read_bytes())
    if len(content) < _HEADER or bytes(content[:10]) != b"MATLAB 5.0":
        return
    order = {b"IM": "<", b"MI": ">"}.get(bytes(content[126:128]), "")
    try:
        if not order:
            raise _DamagedError("no byte order")
        place = _HEADER
        while place < len(content):
            kind, data, place = _element(content, place, order)
            if kind == _COMPRESSED:
                inner = memoryview(_decompressed(data))
                kind, data, _ = _element(inner, 0, order)
            if kind == _MATRIX:
                _check_array(data, order, 0)
    except (_DamagedError, struct.error) as error:
        raise InputError(
            f"{path}: cannot be read, it may be cut off or damaged ({error}); copy the file again"
        ) from error


def _element(content: memoryview, place: int, order: str) -> tuple[int, memoryview, int]:
    """Return type and data of an element, and where the next one begins."""
    kind, size = struct.unpack_from(f"{order}II", content, place)
    if kind >> 16:  # a small one: both in the first four bytes, the data in the second
        size, kind, first = kind >> 16, kind & 0xFFFF, place + 4
        if size > 4:
            raise _DamagedError(f"the element at byte {place} has {size} bytes where 4 fit")
        following = place + 8
    else:
        first = place + 8
        following = first + size
        if kind != _COMPRESSED:
            following += -size % 8
    if first + size > len(content):
        raise _DamagedError(f"the element at byte {place} ends beyond what holds it")
    if kind not in _NUMBERS and kind not in (_MATRIX, _COMPRESSED):
        raise _DamagedError(f"the element at byte {place} is of the unknown type {kind}")
    return kind, content[first : first + size], following


def _decompressed(data: memoryview) -> bytes:
    reader = zlib.decompressobj()
    try:
        content = reader.decompress(data, _LARGEST)
    except zlib.error as error:
        raise _DamagedError(str(error)) from error
    if not reader.eof:
        raise _DamagedError("a compressed variable is cut off, or larger than 4 GiB")
    return content


def _numbers(content: memoryview, place: int, order: str) -> tuple[int, memoryview, int]:
    """Return an element that holds numbers."""
    kind, data, following = _element(content, place, order)
    if kind not in _NUMBERS or len(data) % _NUMBERS[kind]:
        raise _DamagedError(f"{len(data)} bytes of type {kind} are not numbers")
    return kind, data, following


def _check_array(content: memoryview, order: str, depth: int) -> None:
    """Check one array and all arrays in it."""
    if not len(content):  # an empty array may be left out
        return
    if depth > _DEEPEST:
        raise _DamagedError("arrays in arrays without end")
    kind, flags, place = _numbers(content, 0, order)
    if kind != 6 or len(flags) != 8:
        raise _DamagedError("an array has no flags")
    word = struct.unpack(f"{order}II", flags)[0]
    form, complex_ = word & 0xFF, bool(word & 0x0800)
    kind, sizes, place = _numbers(content, place, order)
    if kind != 5 or len(sizes) < 8:
        raise _DamagedError("an array has no dimensions")
    dimensions = struct.unpack(f"{order}{len(sizes) // 4}i", sizes)
    count = 1
    for size in dimensions:
        if size < 0:
            raise _DamagedError("an array has a negative dimension")
        count *= size
    kind, _, place = _numbers(content, place, order)
    if kind not in (1, 2, 16):
        raise _DamagedError("an array has no name")
    if form in (_CELL, _STRUCT, _OBJECT):
        _check_parts(content, place, order, depth, form, count)
    elif form in _ARRAYS or form == _CHAR:
        for _ in range(1 + complex_):
            kind, data, place = _numbers(content, place, order)
            held = len(data) // _NUMBERS[kind]
            if held != count and not (form == _CHAR and kind == 16 and held >= count):
                raise _DamagedError(f"{held} numbers where dimensions say {count}")
    elif form != _SPARSE:
        raise _DamagedError(f"an array is of the unknown class {form}")


def _check_parts(
    content: memoryview, place: int, order: str, depth: int, form: int, count: int
) -> None:
    """Check the arrays in a cell array or a structure."""
    if form != _CELL:
        if form == _OBJECT:
            _, _, place = _numbers(content, place, order)
        kind, length, place = _numbers(content, place, order)
        width = struct.unpack(f"{order}i", length)[0] if len(length) == 4 and kind == 5 else 0
        _, names, place = _numbers(content, place, order)
        if width <= 0 or len(names) % width:
            if len(names):
                raise _DamagedError("names of fields have no length")
            width = 1
        fields = [bytes(names[k : k + width]) for k in range(0, len(names), width)]
        if any(b"\0" not in name for name in fields):
            raise _DamagedError("the name of a field has no end")
        count *= len(fields)
    if 8 * count > len(content) - place + 8:
        raise _DamagedError(f"{count} parts where {len(content) - place} bytes are left")
    for _ in range(count):
        kind, data, place = _element(content, place, order)
        if kind != _MATRIX:
            raise _DamagedError(f"a part is of type {kind}, not an array")
        _check_array(data, order, depth + 1)

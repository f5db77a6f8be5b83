"""A per-user cache of what takes long to compute: written aside, checked on the way back in."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import platformdirs
from numpy.typing import NDArray

__all__ = ["cache_folder", "cached", "cached_array", "fingerprint"]

_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")
_S = TypeVar("_S", bound=np.generic)


def cache_folder(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Choose the cache: the argument, else ``NMM_INFER_CACHE``, else the user's cache folder.

    Parameters
    ----------
    cache_dir : path-like, optional
        Where to keep it.

    Returns
    -------
    Path
        The anatomy's folder in it; not yet created.
    """
    root = (
        cache_dir or os.environ.get("NMM_INFER_CACHE") or platformdirs.user_cache_dir("nmm_infer")
    )
    return Path(root).expanduser() / "anatomy"


def fingerprint(*parts: bytes | str | Path) -> str:
    """Hash texts, bytes and the contents of files into 20 hexadecimal digits."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            part = part.read_bytes()
        elif isinstance(part, str):
            part = part.encode()
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()[:20]


def cached(
    path: Path,
    build: Callable[[], _T],
    write: Callable[[Path, _T], None],
    read: Callable[[Path], _T],
) -> _T:
    """Return what a cache file holds, building the file first where it is missing or damaged.

    The file is written beside its place and then renamed, and its SHA-256 stands in a second file,
    so that a killed process or a damaged disk costs a rebuild and never a wrong number. What comes
    back was read from the file in either case. Where the folder cannot be written to, the result
    is returned all the same and a warning logged.

    Parameters
    ----------
    path : Path
        The file; its name ends as `write` wants it to.
    build : callable
        Makes the object.
    write, read : callable
        Put the object into a file, and get it out again.

    Returns
    -------
    object
        What `read` returned.
    """
    found = _read_checked(path, read)
    if found is not None:
        return found
    made = build()
    try:
        _write_aside(path, made, write)
    except OSError as error:
        _LOG.warning("The cache %s cannot be written (%s): computed anew each time.", path, error)
        return made
    found = _read_checked(path, read)
    return made if found is None else found


def cached_array(path: Path, build: Callable[[], NDArray[_S]]) -> NDArray[_S]:
    """Return the array that a cache file holds, see `cached`; `path` ends in ``.npy``."""
    return cached(
        path,
        build,
        write=lambda place, made: np.save(place, made, allow_pickle=False),
        read=lambda place: np.load(place, allow_pickle=False),
    )


def _checksum_file(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _read_checked(path: Path, read: Callable[[Path], _T]) -> _T | None:
    try:
        if _checksum_file(path).read_text().strip() == _sha256(path):
            return read(path)
        _LOG.warning("The cache file %s is damaged and will be rebuilt.", path)
    except FileNotFoundError:
        pass
    except (OSError, ValueError, RuntimeError, LookupError, TypeError) as error:
        _LOG.warning("The cache file %s cannot be read (%s) and will be rebuilt.", path, error)
    return None


def _write_aside(path: Path, made: _T, write: Callable[[Path, _T], None]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".aside-") as aside:
        fresh = Path(aside) / path.name
        write(fresh, made)
        checksum = _checksum_file(fresh)
        checksum.write_text(_sha256(fresh) + "\n")
        os.replace(fresh, path)
        os.replace(checksum, _checksum_file(path))

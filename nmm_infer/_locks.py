"""Advisory locks of folders, which keep two processes from doing the same work."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nmm_infer.errors import InputError

try:
    import fcntl
except ImportError:  # Windows: nothing tells two writers from one
    fcntl = None  # type: ignore[assignment]

__all__ = ["locked"]

#: A process that finds itself too late holds a lock for a moment only: so often, and after so many
#: seconds, others ask again before they give up.
_TRIES, _PAUSE = 5, 0.05


@contextmanager
def locked(folder: Path, path: Path, *, make: bool = False) -> Iterator[None]:
    """Hold the advisory lock of a folder, where there are such locks; a killed holder loses it.

    The lock belongs to the folder, not to its name: it stays with a folder that is renamed. Who
    waited for one that was renamed or removed meanwhile asks again for what has its name now.

    Parameters
    ----------
    folder : Path
        What is locked.
    path : Path
        What is written to, as the message has it.
    make : bool
        Whether the folder is made where it does not exist.

    Raises
    ------
    InputError
        If another process holds the lock.
    """
    descriptor = None
    try:
        while descriptor is None:
            if make:
                folder.mkdir(parents=True, exist_ok=True)
            if fcntl is None:
                break
            try:
                descriptor = os.open(folder, os.O_RDONLY)
            except FileNotFoundError:
                if make:
                    continue
                raise
            _lock(descriptor, path)
            if not _is(folder, descriptor):
                os.close(descriptor)
                descriptor = None
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _lock(descriptor: int, path: Path) -> None:
    for tries in range(1, _TRIES + 1):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if tries == _TRIES:
                raise InputError(
                    f"another process is writing to {path}: wait for it, or choose another path"
                ) from error
            time.sleep(_PAUSE)
        except OSError:  # this file system has no locks
            return


def _is(folder: Path, descriptor: int) -> bool:
    """Tell whether a name still belongs to the folder that was opened."""
    try:
        return os.path.samestat(os.stat(folder), os.fstat(descriptor))
    except FileNotFoundError:
        return False

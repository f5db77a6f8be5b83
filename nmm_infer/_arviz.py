"""ArviZ, imported so that two processes may do it at once.

The first import of a day writes a note into ArviZ's cache folder, by way of a temporary file that
all processes share: of two that do so at once, one finds the file renamed by the other and fails.
There is no setting that leaves the note out, so the import is tried again; the note is there then.
"""

from __future__ import annotations

import importlib
import time
import warnings

from nmm_infer.errors import InputError

__all__ = ["arviz"]

_TRIES = 20
_PAUSE = 0.05  # s


def _import() -> None:
    for last in (*[False] * (_TRIES - 1), True):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # of ArviZ's next version
                importlib.import_module("arviz")
                return
        except FileNotFoundError:
            if last:
                raise
            time.sleep(_PAUSE)
        except OSError as error:
            raise InputError(
                f"ArviZ cannot write to its cache folder ({error}): name one that can be written "
                "to in the environment variable XDG_CACHE_HOME"
            ) from error


_import()

import arviz  # noqa: E402

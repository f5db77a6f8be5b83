"""How many threads a computation may use: one answer for kernels and campaigns."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from nmm_infer.errors import InputError

__all__ = ["n_threads", "using"]

_GIVEN: ContextVar[int | None] = ContextVar("nmm_infer_threads", default=None)


def n_threads() -> int:
    """Return the number of threads that a computation may use here and now.

    It is the number that :func:`using` gave to this context; without one, the environment
    variable ``NMM_INFER_THREADS``; without one, the number of cores that this process may use.
    """
    given = _GIVEN.get()
    if given is not None:
        return given
    wish = os.environ.get("NMM_INFER_THREADS", "").strip()
    if wish:
        if not wish.isdecimal() or int(wish) < 1:
            raise InputError(f"NMM_INFER_THREADS must be a positive whole number, got {wish!r}")
        return int(wish)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def using(n: int) -> Iterator[None]:
    """Let everything that runs inside this context use ``n`` threads."""
    token = _GIVEN.set(n)
    try:
        yield
    finally:
        _GIVEN.reset(token)

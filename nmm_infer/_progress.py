"""One progress bar a stage, shown only where somebody asked for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

__all__ = ["show_progress", "stage"]

_SHOWN: ContextVar[bool] = ContextVar("nmm_infer_progress", default=False)


@contextmanager
def show_progress(shown: bool = True) -> Iterator[None]:
    """Show (or hide) the progress bars of everything that runs inside this context."""
    token = _SHOWN.set(shown)
    try:
        yield
    finally:
        _SHOWN.reset(token)


@contextmanager
def stage(description: str, total: int) -> Iterator[Callable[[int], None]]:
    """Open one stage of a long job.

    Parameters
    ----------
    description : str
        What is being done, as the bar shows it.
    total : int
        Number of units of work.

    Yields
    ------
    callable
        ``advance(n)`` moves the bar by ``n`` units.
    """
    if not _SHOWN.get():
        yield lambda n: None
        return
    columns = (
        TextColumn("{task.description:<44}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(description, total=total)
        try:
            yield lambda n: bar.advance(task, n)
        except BaseException:
            bar.live.transient = True  # the message that follows says it all
            raise
        bar.update(task, completed=total)

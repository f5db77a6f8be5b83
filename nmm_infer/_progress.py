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
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

__all__ = ["show_progress", "stage"]

_SHOWN: ContextVar[bool] = ContextVar("nmm_infer_progress", default=False)
#: Rate and time left are those of the last minutes, in seconds.
_MEMORY = 300.0


class _Rate(ProgressColumn):
    """Units of work a second, where the units have a name."""

    def render(self, task: Task) -> Text:
        speed, unit = task.finished_speed or task.speed, task.fields["unit"]
        if not speed or not unit:
            return Text("")
        number = f"{speed:,.0f}" if speed >= 10 else f"{speed:.2g}"
        return Text(f"{number} {unit}/s", style="progress.data.speed", no_wrap=True)


@contextmanager
def show_progress(shown: bool = True) -> Iterator[None]:
    """Show (or hide) the progress bars of everything that runs inside this context."""
    token = _SHOWN.set(shown)
    try:
        yield
    finally:
        _SHOWN.reset(token)


@contextmanager
def stage(
    description: str, total: int, *, done: int = 0, unit: str = ""
) -> Iterator[Callable[[int], None]]:
    """Open one stage of a long job.

    Parameters
    ----------
    description : str
        What is being done, as the bar shows it.
    total : int
        Number of units of work.
    done : int
        Units that an earlier, interrupted job has done; they do not count for the rate.
    unit : str
        Plural name of a unit, e.g. ``"runs"``; with one, the bar shows the rate.

    Yields
    ------
    callable
        ``advance(n)`` moves the bar by ``n`` units.
    """
    if not _SHOWN.get():
        yield lambda n: None
        return
    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(bar_width=10),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, speed_estimate_period=_MEMORY) as bar:
        task = bar.add_task(description, total=total, completed=done, unit=unit)
        try:
            yield lambda n: bar.advance(task, n)
        except BaseException:
            bar.live.transient = True  # the message that follows says it all
            raise
        bar.update(task, completed=total)

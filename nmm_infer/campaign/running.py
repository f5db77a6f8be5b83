"""Run a task over a design."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import xarray as xr

from nmm_infer import _threads
from nmm_infer._progress import stage
from nmm_infer.campaign.chunk import Done, Work
from nmm_infer.campaign.design import ArrayDesign, Design
from nmm_infer.campaign.layout import Layout
from nmm_infer.campaign.result import Campaign
from nmm_infer.campaign.runners import over_dask, over_threads
from nmm_infer.campaign.store import Store
from nmm_infer.campaign.task import Task
from nmm_infer.errors import InputError

__all__ = ["run"]

logger = logging.getLogger(__name__)

#: Ways in which a disk refuses to be written to.
_REFUSALS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "a file reached the size limit",
    errno.EROFS: "the disk is read-only",
    errno.EACCES: "there is no permission to write",
}


def run(
    task: Task,
    design: Design | xr.DataArray,
    store: str | Path | None = None,
    *,
    chunk: int | None = None,
    threads: int | None = None,
    scheduler: str | None = None,
    description: str = "Simulating",
) -> Campaign:
    """Run every parameter set of a design.

    Chunks are simulated, compressed and written one by one, so memory does not grow with the
    number of runs. Results, and the bytes of a store, depend on task and design only (and on the
    processor type): not on threads, workers or interruptions.

    Parameters
    ----------
    task : Task
        What to run.
    design : Design or xarray.DataArray, dims (simulation, parameter)
        Parameter sets with names; the ``simulation`` coordinate holds absolute numbers. A
        :class:`PriorDesign` draws them when they are needed.
    store : path, optional
        A Zarr store. If it exists and was begun by the same task and design, the run resumes:
        chunks that are whole are kept, others are run again with the same result. Without a
        store the campaign lives in memory.
    chunk : int, optional
        Runs that are handed to the task at a time, and the unit of resumption. Without, about
        16 MB of results, and less for small campaigns. A store keeps the chunk it began with.
    threads : int, optional
        Threads, each with a chunk of its own; all cores without, or ``NMM_INFER_THREADS``. With
        ``scheduler="local"``, the number of worker processes.
    scheduler : str, optional
        Address of a Dask scheduler (``"tcp://10.0.0.1:8786"``) whose workers do the work, or
        ``"local"`` for worker processes on this machine (a script then needs the guard
        ``if __name__ == "__main__"``). They must reach ``store`` under the same path. A worker
        that dies costs the chunks it was at.
    description : str
        Text of the progress bar.

    Returns
    -------
    Campaign
        All runs. Those that failed are kept, with the reason as their status.

    Raises
    ------
    InputError
        If ``store`` exists but holds something else, if another process is writing to it, if the
        disk is full, or if there are no Dask workers to be found.
    """
    if isinstance(design, xr.DataArray):
        design = ArrayDesign(design)
    if not hasattr(design, "rows"):
        raise InputError(
            f"the design is a {type(design).__name__}: give parameter sets with names, as "
            "prior.label(array), or a PriorDesign"
        )
    for name, value in (("chunk", chunk), ("threads", threads)):
        if value is not None and value < 1:
            raise InputError(f"{name} must be at least 1, got {value}")
    n, layout = len(design), Layout.of(task, design)
    threads = threads or _threads.n_threads()
    chunk = chunk or layout.chunk

    def count(starts: Sequence[int], chunk: int) -> int:
        return sum(min(chunk, n - start) for start in starts)

    def run_chunks(
        place: Store | None, starts: Sequence[int], chunk: int, keep: Callable[[Done], None]
    ) -> None:
        """Run the chunks that begin at ``starts``."""
        work = Work(task, layout, place)
        jobs = ((start, design.rows(start, min(start + chunk, n))) for start in starts)
        if scheduler is None or not starts:
            stream = over_threads(work, jobs, threads, len(starts))
        else:
            stream = over_dask(work, jobs, scheduler, threads)
        warned = False
        with (
            stage(description, n, done=n - count(starts, chunk), unit="runs") as advance,
            closing(stream),
        ):
            for done in stream:
                if done.error and not warned:
                    logger.warning("%s; more in Campaign.failures()", done.error)
                    warned = True
                keep(done)
                advance(done.runs)

    if store is None:
        arrays = layout.arrays(n)

        def fill(done: Done) -> None:
            for name, array in arrays.items():
                array[done.start : done.start + done.runs] = done.block[name]

        run_chunks(None, range(0, n, chunk), chunk, fill)
        return Campaign(layout.dataset(arrays))

    path = Path(store).absolute()
    place = None
    try:
        place = Store.at(path, layout, chunk)
        with place.writing() as pending:
            run_chunks(place, pending, place.chunk, lambda done: None)
            if scheduler is not None and place.pending():
                raise InputError(
                    f"the Dask workers wrote to another {path} than this one: give a path on a "
                    "disk that they share with this machine"
                )
    except OSError as error:
        if place is None and error.errno not in _REFUSALS:
            raise InputError(f"{path}: cannot be made here ({error.strerror})") from error
        if error.errno not in _REFUSALS:
            raise
        whole = 0 if place is None else n - count(place.pending(), place.chunk)
        raise InputError(
            f"{_REFUSALS[error.errno]} ({path}): {whole:,} of {n:,} runs are whole and "
            "kept; mend that, and the same command goes on from there"
        ) from error
    return Campaign.open(path)

"""Who does the work: threads of this process, or Dask workers on any number of machines."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable
from concurrent import futures
from contextlib import ExitStack, contextmanager
from contextvars import copy_context
from typing import Any, TypeVar

import xarray as xr

from nmm_infer import _threads
from nmm_infer.errors import InputError

__all__ = ["Job", "over_dask", "over_threads"]

#: First run of a chunk, and its parameter sets, dims (simulation, parameter).
Job = tuple[int, xr.DataArray]
T = TypeVar("T")

#: Time that a scheduler has to answer and to find a first worker, in seconds.
_PATIENCE = 5.0


def over_threads(
    work: Callable[[int, xr.DataArray], T], jobs: Iterable[Job], threads: int, n_jobs: int
) -> Generator[T, None, None]:
    """Yield the result of every job as it comes, from threads of this process.

    Parameters
    ----------
    work : callable
        ``work(start, theta)``.
    jobs : iterable of Job
        Taken one by one, so that few are in memory.
    threads : int
        Threads. If there are fewer jobs, each may use more than one inside.
    n_jobs : int
        Number of jobs.
    """
    workers = max(1, min(threads, n_jobs))

    def one(start: int, theta: xr.DataArray) -> T:
        with _threads.using(max(1, threads // workers)):
            return work(start, theta)

    if workers == 1:
        for job in jobs:
            yield one(*job)
        return
    with futures.ThreadPoolExecutor(workers, thread_name_prefix="campaign") as pool:
        yield from _stream(
            lambda job: pool.submit(lambda context: context.run(one, *job), copy_context()),
            futures.wait,
            jobs,
            2 * workers,
        )


def over_dask(
    work: Callable[[int, xr.DataArray], T], jobs: Iterable[Job], scheduler: str, threads: int
) -> Generator[T, None, None]:
    """Yield the result of every job as it comes, from Dask workers.

    Parameters
    ----------
    work : callable
        ``work(start, theta)``; it is pickled, and sent to each worker once.
    jobs : iterable of Job
        Taken one by one, so that few are in memory.
    scheduler : str
        Address of a Dask scheduler, or ``"local"``.
    threads : int
        Worker processes of a ``"local"`` cluster.
    """
    try:
        import distributed
        from distributed.comm.core import CommClosedError
    except ImportError as error:
        raise InputError(
            "a scheduler needs Dask, which is not installed: pip install 'nmm-infer[dask]'"
        ) from error
    with _client(distributed, scheduler, threads) as client:
        # The scheduler remembers this as a job, so a worker that comes later gets it too.
        sent = client.submit(_same, work, pure=False)
        slots = max(1, sum(client.nthreads().values()))

        def wait(some: set[Any], return_when: str) -> Any:
            with client.as_current():
                return distributed.wait(some, return_when=return_when)

        try:
            yield from _stream(
                lambda job: client.submit(_call, sent, *job, pure=False),
                wait,
                jobs,
                2 * slots,
            )
        except distributed.KilledWorker as error:
            raise InputError(
                f"Dask gave a chunk up after it lost {error.allowed_failures + 1} worker(s) on it: "
                "most often they lack memory. Start them with more, or give a smaller chunk to a "
                "new store"
            ) from error
        except (futures.CancelledError, CommClosedError) as error:
            raise InputError(
                f"the Dask scheduler {scheduler} was lost: what is written is kept, and the same "
                "command goes on"
            ) from error


def _same(work: T) -> T:
    return work


def _call(work: Callable[[int, xr.DataArray], T], start: int, theta: xr.DataArray) -> T:
    with _threads.using(1):  # a Dask worker has threads of its own
        return work(start, theta)


def _stream(
    submit: Callable[[Job], Any],
    wait: Callable[..., tuple[set[Any], set[Any]]],
    jobs: Iterable[Job],
    limit: int,
) -> Generator[Any, None, None]:
    """Keep ``limit`` jobs in flight and yield results as they come."""
    flying: set[Any] = set()
    try:
        for job in jobs:
            flying.add(submit(job))
            if len(flying) == limit:
                done, flying = wait(flying, return_when="FIRST_COMPLETED")
                while done:
                    yield done.pop().result()
        while flying:
            done, flying = wait(flying, return_when="FIRST_COMPLETED")
            while done:
                yield done.pop().result()
    finally:
        for future in flying:
            future.cancel()


@contextmanager
def _client(distributed: Any, scheduler: str, threads: int) -> Generator[Any, None, None]:
    with ExitStack() as stack:
        try:
            if scheduler == "local":
                address: Any = stack.enter_context(
                    distributed.LocalCluster(
                        n_workers=threads,
                        threads_per_worker=1,
                        dashboard_address="127.0.0.1:0",
                        silence_logs=logging.CRITICAL,
                    )
                )
            else:
                address = scheduler
                # A client that fails at this leaves a half of itself behind, which may hang later.
                if not scheduler.startswith("inproc://"):
                    distributed.comm.get_address_host_port(scheduler)
            client = stack.enter_context(
                distributed.Client(address, timeout=_PATIENCE, set_as_default=False)
            )
        except (OSError, ValueError) as error:
            raise InputError(
                f"no Dask scheduler answers at {scheduler!r}: start one with `dask scheduler` and "
                'give its address, e.g. "tcp://10.0.0.1:8786"'
            ) from error
        try:
            client.wait_for_workers(1, timeout=_PATIENCE)
        except TimeoutError as error:
            raise InputError(
                f"the Dask scheduler {scheduler} has no workers: start some with "
                f"`dask worker {scheduler}`"
            ) from error
        yield client

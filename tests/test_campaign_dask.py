"""Campaigns on Dask workers: the same bits, whoever dies."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from test_campaign import PRIOR, Toy, contents, draw, same

from nmm_infer.campaign import Campaign, PriorDesign, run
from nmm_infer.campaign.chunk import Work
from nmm_infer.campaign.layout import Layout
from nmm_infer.errors import InputError

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """A scheduler with two workers, as threads of this process: quick to begin."""
    with distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=2,
        processes=False,
        dashboard_address="127.0.0.1:0",
        silence_logs=logging.CRITICAL,
    ) as cluster:
        yield cluster.scheduler_address


@pytest.fixture(scope="module")
def processes() -> Iterator[Any]:
    """Two worker processes."""
    import dask

    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client


def test_workers_write_the_same_bytes(tmp_path: Path, scheduler: str) -> None:
    one, other = tmp_path / "one.zarr", tmp_path / "other.zarr"
    design = PriorDesign(PRIOR, 50, seed=2)
    a = run(Toy(diverges_at=(7,)), design, one, chunk=4, scheduler=scheduler)
    b = run(Toy(diverges_at=(7,)), design, other, chunk=4, threads=3)
    assert contents(one) == contents(other)
    same(a, b)
    assert a.failures()["simulation"].values.tolist() == [7]


def test_results_come_back_without_a_store(scheduler: str) -> None:
    same(run(Toy(), draw(), chunk=4, scheduler=scheduler), run(Toy(), draw()))


def test_a_store_goes_from_threads_to_workers_and_back(tmp_path: Path, scheduler: str) -> None:
    store, other = tmp_path / "one.zarr", tmp_path / "other.zarr"
    run(Toy(), draw(), other, chunk=4)
    with pytest.raises(KeyboardInterrupt):
        run(Toy(raises_at={10: KeyboardInterrupt()}), draw(), store, chunk=4, threads=2)
    with pytest.raises(OSError, match="gone"):
        run(Toy(raises_at={30: OSError("gone")}), draw(), store, scheduler=scheduler)
    run(Toy(), draw(), store)
    assert contents(store) == contents(other)


def test_failures_come_with_one_warning(scheduler: str, caplog: pytest.LogCaptureFixture) -> None:
    guilty: dict[int, BaseException] = {3: ValueError("no root"), 30: ValueError("no root")}
    with caplog.at_level(logging.WARNING, "nmm_infer"):
        campaign = run(Toy(raises_at=guilty), draw(), chunk=8, scheduler=scheduler)
    assert campaign.failures()["simulation"].values.tolist() == [3, 30]
    assert [r.message.split(" failed: ")[1] for r in caplog.records] == [
        "ValueError: no root; more in Campaign.failures()"
    ]


def test_a_full_disk_of_a_worker_is_told(tmp_path: Path, scheduler: str) -> None:
    full = Toy(raises_at={30: OSError(28, "No space left on device")})
    with pytest.raises(InputError, match="the disk is full"):
        run(full, draw(), tmp_path / "toy.zarr", chunk=4, scheduler=scheduler)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nonsense", "tcp://"])
def test_a_scheduler_that_does_not_answer_is_told(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nmm_infer.campaign.runners._PATIENCE", 0.2)
    with pytest.raises(InputError, match="no Dask scheduler answers at"):
        run(Toy(), draw(), scheduler=address)


def test_a_scheduler_without_workers_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nmm_infer.campaign.runners._PATIENCE", 0.5)
    with (
        distributed.LocalCluster(
            n_workers=0,
            processes=False,
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        ) as cluster,
        pytest.raises(InputError, match="has no workers"),
    ):
        run(Toy(), draw(), scheduler=cluster.scheduler_address)


@pytest.mark.parametrize("lost", [CancelledError(), distributed.comm.core.CommClosedError("gone")])
def test_a_scheduler_that_is_lost_is_told(
    scheduler: str, monkeypatch: pytest.MonkeyPatch, lost: Exception
) -> None:
    def stream(*args: Any) -> Iterator[None]:
        yield from ()
        raise lost

    monkeypatch.setattr("nmm_infer.campaign.runners._stream", stream)
    with pytest.raises(InputError, match="was lost: what is written is kept"):
        run(Toy(), draw(), scheduler=scheduler)


def test_dask_that_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError, match=r"pip install 'nmm-infer\[dask\]'"):
        run(Toy(), draw(), scheduler="local")


def test_another_version_on_a_worker_is_told() -> None:
    layout = Layout.of(Toy(), PriorDesign(PRIOR, 5, seed=2))
    work = Work(Toy(), layout, None, version="0.0.1")
    with pytest.raises(InputError, match="install the same version everywhere"):
        work(0, draw(5))


def test_workers_that_write_elsewhere_are_told(
    tmp_path: Path, scheduler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nmm_infer.campaign.store.Store.write", lambda *args: None)
    with pytest.raises(InputError, match=r"wrote to another .*toy\.zarr than this one"):
        run(Toy(), draw(), tmp_path / "toy.zarr", scheduler=scheduler)


class Slow(Toy):
    """Long enough to be killed."""

    def simulate(self, theta: xr.DataArray, index: np.ndarray) -> dict[str, np.ndarray]:
        time.sleep(0.05)
        return super().simulate(theta, index)


class Deadly(Toy):
    """Takes its worker with it."""

    def simulate(self, theta: xr.DataArray, index: np.ndarray) -> dict[str, np.ndarray]:
        if index[0] == 20:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().simulate(theta, index)


@pytest.mark.slow
def test_a_killed_worker_costs_nothing_but_its_chunk(tmp_path: Path, processes: Any) -> None:
    store, other = tmp_path / "one.zarr", tmp_path / "other.zarr"
    killed = []

    def kill() -> None:
        status = store / "status" / "c"
        while not status.exists() or len(list(status.iterdir())) < 20:
            time.sleep(0.005)
        killed.append(next(iter(processes.run(os.getpid).values())))
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    address = processes.scheduler.address
    campaign = run(Slow(), draw(400), store, chunk=4, scheduler=address)
    killer.join()
    assert killed[0] not in processes.run(os.getpid).values()
    run(Toy(), draw(400), other, chunk=4)
    assert contents(store) == contents(other)
    assert len(campaign.valid) == 400


@pytest.mark.slow
def test_a_chunk_that_kills_its_workers_is_given_up(tmp_path: Path, processes: Any) -> None:
    store = tmp_path / "toy.zarr"
    with pytest.raises(InputError, match=r"gave a chunk up after it lost 2 worker\(s\)"):
        run(Deadly(), draw(), store, chunk=4, scheduler=processes.scheduler.address)
    assert not set(range(20, 24)) & set(Campaign.open(store).valid.tolist())
    same(run(Toy(), draw(), store), run(Toy(), draw()))


@pytest.mark.slow
def test_a_local_cluster_is_made_on_demand(tmp_path: Path) -> None:
    one, other = tmp_path / "one.zarr", tmp_path / "other.zarr"
    run(Toy(), draw(), one, chunk=4, threads=2, scheduler="local")
    run(Toy(), draw(), other, chunk=4)
    assert contents(one) == contents(other)

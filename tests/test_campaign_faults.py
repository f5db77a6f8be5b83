"""Campaigns that are killed, torn, locked out or out of disk, and their memory."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from test_campaign import PRIOR, Toy, contents, draw, same

from nmm_infer import _random
from nmm_infer.campaign import Campaign, PriorDesign, Variable, run
from nmm_infer.campaign.layout import Block, Layout
from nmm_infer.campaign.store import Store
from nmm_infer.errors import InputError

# Processes that begin within milliseconds, since they are forked from one that has the imports.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["nmm_infer.campaign", "pytest", "zarr.codecs"])


class Slow(Toy):
    """Long enough in simulating and in writing to be killed in both."""

    n = 256
    chunk = 8

    @property
    def coords(self) -> dict[str, Any]:
        return {"time": np.arange(20_000)}

    @property
    def variables(self) -> Mapping[str, Variable]:
        return {"height": Variable(("time",)), "count": Variable((), "int16")}

    def simulate(self, theta: xr.DataArray, index: np.ndarray) -> dict[str, np.ndarray]:
        time.sleep(0.01)
        rng = _random.generator(3, "slow", int(index[0] // self.chunk))
        height = theta.values[:, :1] * rng.standard_normal(20_000)
        return {"height": height.astype(np.float32), "count": np.zeros(len(index), np.int16)}


def run_slow(store: Path, threads: int) -> None:
    run(Slow(), PriorDesign(PRIOR, Slow.n, seed=1), store, chunk=Slow.chunk, threads=threads)


def whole(store: Path) -> int:
    return len(list((store / "status" / "c").glob("[0-9]*")))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes | None]:
    store = tmp_path_factory.mktemp("slow") / "slow.zarr"
    run_slow(store, 1)
    return contents(store)


@pytest.mark.parametrize("times", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_random_moments_then_finished_equals_uninterrupted(
    tmp_path: Path, uninterrupted: dict[str, bytes | None], times: int
) -> None:
    rng = np.random.default_rng(times)
    killed = 0
    for moment in range(times):
        store = tmp_path / str(moment) / "slow.zarr"
        # Some are killed twice, some while the store is laid out (no chunk is awaited).
        for _ in range(1 + moment % 2):
            chunks = 0 if moment % 5 == 4 else int(rng.integers(1, 16))
            process = FORKS.Process(target=run_slow, args=(store, int(rng.choice([1, 4]))))
            process.start()
            while chunks and whole(store) < chunks and process.is_alive():
                time.sleep(0.001)
            time.sleep(rng.uniform(0, 0.02))
            process.kill()
            process.join()
            assert process.exitcode in (0, -signal.SIGKILL)
            killed += process.exitcode != 0 and 0 < whole(store) < Slow.n // Slow.chunk
        run_slow(store, threads=(1, 2, 4)[moment % 3])
        assert contents(store) == uninterrupted
        assert [path.name for path in store.parent.iterdir()] == ["slow.zarr"]
        shutil.rmtree(store)
    assert killed >= times // 2  # or nothing has been shown


@pytest.mark.parametrize("threads", [1, 2, 4, 9])
def test_any_number_of_threads_writes_the_same_bytes(
    tmp_path: Path, uninterrupted: dict[str, bytes | None], threads: int
) -> None:
    run_slow(tmp_path / "slow.zarr", threads)
    assert contents(tmp_path / "slow.zarr") == uninterrupted


def test_interrupted_then_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    store, other = tmp_path / "toy.zarr", tmp_path / "other.zarr"
    run(Toy(), draw(), other, chunk=8)
    with pytest.raises(KeyboardInterrupt):
        run(Toy(raises_at={33: KeyboardInterrupt()}), draw(), store, chunk=8, threads=1)
    again = Toy()
    run(again, draw(), store, chunk=8, threads=1)
    assert again.seen == list(range(32, 50))  # whole chunks are not run again
    assert contents(store) == contents(other)
    nothing = Toy()
    run(nothing, draw(), store)
    assert nothing.seen == []


def test_an_interruption_stops_all_threads(tmp_path: Path) -> None:
    task = Toy(raises_at={100: KeyboardInterrupt()})
    with pytest.raises(KeyboardInterrupt):
        run(task, draw(4000), tmp_path / "toy.zarr", chunk=10, threads=3)
    assert len(task.seen) < 2000
    assert Campaign.open(tmp_path / "toy.zarr").valid.tolist() == sorted(task.seen)


def test_resumption_keeps_the_chunk_of_the_store(tmp_path: Path) -> None:
    store = tmp_path / "toy.zarr"
    with pytest.raises(KeyboardInterrupt):
        run(Toy(raises_at={33: KeyboardInterrupt()}), draw(), store, chunk=8)
    run(Toy(), draw(), store, chunk=5)
    run(Toy(), draw(), tmp_path / "other.zarr", chunk=8)
    assert contents(store) == contents(tmp_path / "other.zarr")


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def _spoil(path: Path) -> None:
    path.write_bytes(bytes(255 - byte for byte in path.read_bytes()))


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("status/c/2", Path.unlink),
        ("status/c/2", _cut),
        ("status/c/2", _spoil),
        ("status/c/2", lambda path: path.write_bytes(b"")),
        ("height/c/2/0/0", Path.unlink),
        ("height/c/2/0/0", lambda path: path.write_bytes(b"")),
        ("theta/c/2/0", Path.unlink),
        ("count/c/2", Path.unlink),  # a chunk of zeros has a file too
    ],
)
def test_a_torn_chunk_is_run_again(
    tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    store = tmp_path / "toy.zarr"
    run(Toy(), draw(), store, chunk=8)
    before = contents(store)
    damage(store / name)
    again = Toy()
    run(again, draw(), store)
    assert again.seen == list(range(16, 24))
    assert contents(store) == before


def test_a_torn_chunk_at_the_end_is_run_again(tmp_path: Path) -> None:
    store = tmp_path / "toy.zarr"  # the last chunk is shorter than the others
    run(Toy(), draw(), store, chunk=8)
    before = contents(store)
    (store / "status/c/6").unlink()
    _cut(store / "height/c/6/0/0")
    run(Toy(), draw(), store)
    assert contents(store) == before


def test_what_a_killed_writer_leaves_is_removed(tmp_path: Path) -> None:
    store, aside = tmp_path / "toy.zarr", tmp_path / ".toy.zarr.tmp"
    (aside / "theta").mkdir(parents=True)
    (aside / "zarr.json").write_text('{"zarr_format": 3, "node_')
    run(Toy(), draw(), store, chunk=8)
    before = contents(store)
    for left in ("height/c/2/0/0.5f6a.partial", "status/c/5f6a.partial", "theta/c/tmp5f6a"):
        (store / left).write_text("half")
    run(Toy(), draw(), store)
    assert contents(store) == before
    assert not aside.exists()


def test_a_store_that_cannot_be_laid_out_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(InputError, match="0 of 50 runs are whole"):
        run(Toy(), draw(), tmp_path / "toy.zarr")
    assert list(tmp_path.iterdir()) == []


def test_a_second_writer_is_kept_out(tmp_path: Path) -> None:
    store = tmp_path / "toy.zarr"
    with pytest.raises(KeyboardInterrupt):
        run(Toy(raises_at={33: KeyboardInterrupt()}), draw(), store, chunk=8)
    before = contents(store)
    descriptor = os.open(store, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(InputError, match=r"another process is writing to .*toy\.zarr"):
            run(Toy(), draw(), store)
    finally:
        os.close(descriptor)
    assert contents(store) == before
    same(run(Toy(), draw(), store), run(Toy(), draw()))


def run_or_refuse(store: Path, pipe: Connection) -> None:
    try:
        run_slow(store, 1)
        pipe.send("done")
    except InputError as error:
        pipe.send(str(error))


def test_of_many_writers_that_begin_at_once_one_writes(
    tmp_path: Path, uninterrupted: dict[str, bytes | None]
) -> None:
    for number in range(3):
        store = tmp_path / f"{number}.zarr"
        pipes = [FORKS.Pipe() for _ in range(4)]
        processes = [FORKS.Process(target=run_or_refuse, args=(store, p)) for _, p in pipes]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        said = [ours.recv() for ours, _ in pipes]
        assert "done" in said
        assert {text.split(f" {store}")[0] for text in said} <= {
            "done", "another process is writing to"
        }  # fmt: skip
        assert contents(store) == uninterrupted
    assert {p.name for p in tmp_path.iterdir()} == {f"{number}.zarr" for number in range(3)}


def test_a_store_that_another_process_made_meanwhile_is_not_touched(tmp_path: Path) -> None:
    store = tmp_path / "toy.zarr"
    run(Toy(), draw(), store, chunk=8)
    before = contents(store)
    Store._create(store, Layout.of(Toy(), PriorDesign(PRIOR, 7, seed=9)), 2)
    assert contents(store) == before
    assert [p.name for p in tmp_path.iterdir()] == ["toy.zarr"]


def test_a_store_is_sent_without_its_open_arrays() -> None:
    layout = Layout.of(Toy(), PriorDesign(PRIOR, 5, seed=0))
    store = Store(Path("/nowhere/toy.zarr"), layout.fingerprint, tuple(layout.fields))
    copy = pickle.loads(pickle.dumps(store))
    assert copy == store
    with pytest.raises(InputError, match=r"toy\.zarr cannot be seen from"):
        _ = copy.arrays


# Disks


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(
    ("number", "says"),
    [(errno.ENOSPC, "the disk is full"), (errno.EDQUOT, "the disk quota is used up")],
)
def test_a_full_disk_is_told_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, says: str, threads: int
) -> None:
    store = tmp_path / "toy.zarr"
    write = Store.write

    def filling(self: Store, start: int, block: Block) -> None:
        if start >= 24:
            raise OSError(number, os.strerror(number))
        write(self, start, block)

    monkeypatch.setattr(Store, "write", filling)
    with pytest.raises(InputError) as caught:
        run(Toy(), draw(), store, chunk=8, threads=threads)
    monkeypatch.setattr(Store, "write", write)
    assert says in str(caught.value)
    assert "24 of 50 runs are whole and kept" in str(caught.value)
    assert "the same command goes on" in str(caught.value)
    again = Toy()
    run(again, draw(), store, threads=1)
    assert again.seen == list(range(24, 50))
    run(Toy(), draw(), tmp_path / "other.zarr", chunk=8)
    assert contents(store) == contents(tmp_path / "other.zarr")


def run_limited(store: Path, pipe: Connection) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # a chunk has 640,000
    try:
        run_slow(store, 2)
    except InputError as error:
        pipe.send(str(error))


def test_a_refused_write_is_told(tmp_path: Path, uninterrupted: dict[str, bytes | None]) -> None:
    store = tmp_path / "slow.zarr"
    ours, theirs = FORKS.Pipe()
    process = FORKS.Process(target=run_limited, args=(store, theirs))
    process.start()
    process.join()
    assert ours.poll()
    assert "a file reached the size limit" in (said := ours.recv())
    assert "0 of 256 runs are whole" in said
    run_slow(store, 2)
    assert contents(store) == uninterrupted


FULL = """
import subprocess, sys
from pathlib import Path

sys.path.insert(0, {tests!r})
from test_campaign_faults import contents, run_slow, whole
from nmm_infer.errors import InputError

disk = Path({disk!r})
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "none", str(disk)], check=True)
try:
    run_slow(disk / "slow.zarr", 2)
except InputError as error:
    assert "the disk is full" in str(error), error
    assert f"{{8 * whole(disk / 'slow.zarr')}} of 256 runs are whole" in str(error), error
else:
    raise AssertionError("it went well")
assert whole(disk / "slow.zarr") > 0
subprocess.run(["mount", "-o", "remount,size=64m", "none", str(disk)], check=True)
run_slow(disk / "slow.zarr", 2)
run_slow(Path({other!r}), 2)
assert contents(disk / "slow.zarr") == contents(Path({other!r}))
"""


@pytest.mark.slow
def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    alone = ["unshare", "--user", "--map-root-user", "--mount"]
    mount = [*alone, "mount", "-t", "tmpfs", "none", str(tmp_path)]
    if not shutil.which("unshare") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no permission to mount a small disk")
    (tmp_path / "disk").mkdir()
    code = textwrap.dedent(
        FULL.format(
            tests=str(Path(__file__).parent),
            disk=str(tmp_path / "disk"),
            other=str(tmp_path / "slow.zarr"),
        )
    )
    done = subprocess.run([*alone, sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# Memory


class Tiny(Toy):
    """Cheap runs of 200 bytes."""

    @property
    def coords(self) -> dict[str, Any]:
        return {"time": np.arange(50)}

    @property
    def variables(self) -> Mapping[str, Variable]:
        return {"height": Variable(("time",))}

    def simulate(self, theta: xr.DataArray, index: np.ndarray) -> dict[str, np.ndarray]:
        return {"height": np.repeat(theta.values[:, :1].astype(np.float32), 50, axis=1)}


def peak(store: Path, n: int, pipe: Connection) -> None:
    campaign = run(Tiny(), PriorDesign(PRIOR, n, seed=1), store, threads=2)
    assert len(campaign) == n
    pipe.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_runs(tmp_path: Path) -> None:
    peaks = []
    for n in (1_000, 1_000_000):  # 0.2 and 225 MB
        ours, theirs = FORKS.Pipe()
        process = FORKS.Process(target=peak, args=(tmp_path / f"{n}.zarr", n, theirs))
        process.start()
        process.join()
        peaks.append(ours.recv())
    assert peaks[1] - peaks[0] < 60, peaks  # MB; 8 of them are the numbers of the runs


@pytest.mark.slow
def test_dask_is_not_imported_before_it_is_asked_for() -> None:
    code = "import sys, nmm_infer.campaign; print({'dask', 'distributed'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"

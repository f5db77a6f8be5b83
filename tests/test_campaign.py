"""Campaigns: values, designs, identity, failures, threads, and ignorance of models."""

from __future__ import annotations

import itertools
import json
import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rich.progress
import xarray as xr
import zarr

from nmm_infer import _progress, _random, _threads
from nmm_infer.campaign import (
    DIVERGED,
    FAILED,
    OK,
    REJECTED,
    ArrayDesign,
    Campaign,
    Design,
    PriorDesign,
    Variable,
    run,
)
from nmm_infer.errors import InputError
from nmm_infer.parameters import Parameter, Prior
from nmm_infer.runs import simulate_study
from nmm_infer.study import Study

PRIOR = Prior(
    [
        Parameter("rate", "1/s", "uniform", 1.0, 9.0),
        Parameter("width", "m", "loguniform", 0.1, 10.0),
    ]
)


@dataclass
class Toy:
    """A task that has nothing to do with the brain: a noisy decay."""

    label: str = "toy"
    diverges_at: tuple[int, ...] = ()
    raises_at: Mapping[int, BaseException] = field(default_factory=dict)
    seen: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)

    @property
    def fingerprint(self) -> dict[str, Any]:
        return {"task": self.label}

    @property
    def coords(self) -> dict[str, Any]:
        return {"place": ["x", "y"], "time": ("time", np.arange(7) / 10, {"units": "s"})}

    @property
    def variables(self) -> Mapping[str, Variable]:
        return {
            "height": Variable(("place", "time"), "float32", {"units": "m"}),
            "count": Variable((), "int16", {"units": "1"}),
        }

    def simulate(self, theta: xr.DataArray, index: np.ndarray) -> dict[str, np.ndarray]:
        for number in index:
            if int(number) in self.raises_at:
                raise self.raises_at[int(number)]
        self.threads.append(_threads.n_threads())
        self.seen.extend(index.tolist())
        height = np.empty((len(index), 2, 7), np.float32)
        for row, number in enumerate(index):
            rate, width = PRIOR.values(theta)[row]
            noise = _random.generator(5, "toy", int(number)).standard_normal((2, 7))
            height[row] = width * np.exp(-rate * np.arange(7) / 10) + 0.1 * noise
            if number in self.diverges_at:
                height[row, 1, 3] = np.nan
        return {"height": height, "count": (index % 5).astype(np.int16)}


def draw(n: int = 50) -> xr.DataArray:
    return PRIOR.sample(n, seed=2)


def same(one: Campaign, other: Campaign) -> None:
    a, b = one.dataset.load(), other.dataset.load()
    assert set(a.variables) == set(b.variables)
    for name in a.variables:
        np.testing.assert_array_equal(a[name].values, b[name].values, err_msg=str(name))
        assert a[name].dims == b[name].dims
        assert a[name].dtype == b[name].dtype
        assert a[name].attrs == b[name].attrs
    assert a.attrs == b.attrs
    assert one.fingerprint == other.fingerprint


def contents(store: Path) -> dict[str, bytes | None]:
    """Every byte of a store, and its empty folders."""
    return {
        str(path.relative_to(store)): path.read_bytes() if path.is_file() else None
        for path in store.rglob("*")
    }


def test_values_are_those_of_the_task() -> None:
    design = draw()
    campaign = run(Toy(), design, chunk=7)
    rate, width = (design.sel(parameter=name).values[:, None] for name in ("rate", "width"))
    noise = np.stack([_random.generator(5, "toy", k).standard_normal((2, 7)) for k in range(50)])
    expected = (width * np.exp(-rate * np.arange(7) / 10))[:, None] + 0.1 * noise
    np.testing.assert_allclose(campaign.dataset["height"], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(campaign.theta, design)
    assert campaign.dataset["height"].attrs["units"] == "m"
    assert campaign.theta.coords["unit"].values.tolist() == ["1/s", "m"]
    assert campaign.dataset["simulation"].values.tolist() == list(range(50))
    assert len(campaign) == 50


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("chunk", [1, 7, 50, 512])
def test_memory_and_store_agree_for_every_chunk(tmp_path: Path, chunk: int, threads: int) -> None:
    reference = run(Toy(), draw())
    same(run(Toy(), draw(), chunk=chunk, threads=threads), reference)
    same(run(Toy(), draw(), tmp_path / "toy.zarr", chunk=chunk, threads=threads), reference)


def test_an_empty_design_is_an_empty_campaign(tmp_path: Path) -> None:
    for store in (None, tmp_path / "toy.zarr"):
        campaign = run(Toy(), draw(0), store)
        assert len(campaign) == 0
        assert campaign.dataset["height"].shape == (0, 2, 7)


# Designs


def test_lazy_draws_are_those_of_the_prior() -> None:
    n = 10_000  # more than two blocks
    whole = PRIOR.sample(n, seed=4, stream="prior/training")
    design: Design = PriorDesign(PRIOR, n, seed=4, stream="prior/training")
    assert len(design) == n
    edges = [0, 1, 63, 64, 4095, 4096, 4097, 8192, 9_999, n]
    for start, stop in [*itertools.pairwise(edges), (0, n), (17, 8_500), (5, 5)]:
        rows = design.rows(start, stop)
        xr.testing.assert_identical(rows, whole[start:stop])


def test_lazy_and_ready_designs_give_the_same_runs(tmp_path: Path) -> None:
    lazy = PriorDesign(PRIOR, 50, seed=2)
    one, other = run(Toy(), lazy, tmp_path / "lazy.zarr", chunk=8), run(Toy(), draw())
    for name in one.dataset.variables:
        np.testing.assert_array_equal(one.dataset[name], other.dataset[name])
    same(run(Toy(), lazy), one)
    assert one.prior == PRIOR
    with pytest.raises(InputError, match="names no prior"):
        _ = other.prior


def test_a_design_is_told_by_names_units_values_and_numbers() -> None:
    theta = draw()
    prints = [
        ArrayDesign(theta).fingerprint,
        ArrayDesign(theta + 1e-12).fingerprint,
        ArrayDesign(theta[:49]).fingerprint,
        ArrayDesign(theta.assign_coords(parameter=["width", "rate"])).fingerprint,
        ArrayDesign(theta.assign_coords(unit=("parameter", ["1/ms", "m"]))).fingerprint,
        ArrayDesign(theta.assign_coords(simulation=np.arange(1, 51))).fingerprint,
        PriorDesign(PRIOR, 50, seed=2).fingerprint,
        PriorDesign(PRIOR, 51, seed=2).fingerprint,
        PriorDesign(PRIOR, 50, seed=3).fingerprint,
        PriorDesign(PRIOR, 50, seed=2, stream="prior/test").fingerprint,
        PriorDesign(PRIOR.select(["width", "rate"]), 50, seed=2).fingerprint,
    ]
    texts = [json.dumps(p, sort_keys=True) for p in prints]
    assert len(set(texts)) == len(texts)
    again = theta.transpose("parameter", "simulation").drop_vars("simulation")
    assert ArrayDesign(again).fingerprint == prints[0]


def test_an_array_that_is_no_design_is_refused() -> None:
    for wrong in (
        draw().rename(simulation="draw"),
        draw().drop_vars(["parameter", "unit"]),
        draw().isel(simulation=0),
    ):
        with pytest.raises(InputError, match="a design has dimensions simulation and parameter"):
            run(Toy(), wrong)
    with pytest.raises(InputError, match="whole numbers"):
        run(Toy(), draw().assign_coords(simulation=np.arange(50) / 2))


def test_runs_depend_on_their_absolute_number(tmp_path: Path) -> None:
    whole = run(Toy(), draw())
    tail = run(Toy(), draw().isel(simulation=slice(20, None)), tmp_path / "tail.zarr")
    np.testing.assert_array_equal(whole.dataset["height"][20:], tail.dataset["height"])
    assert tail.dataset["simulation"].values.tolist() == list(range(20, 50))
    assert tail.fingerprint != whole.fingerprint


# Chunks and threads


class Wide(Toy):
    """Runs of a given size."""

    def __init__(self, bytes_per_run: int) -> None:
        super().__init__()
        self.size = bytes_per_run // 4

    @property
    def coords(self) -> dict[str, Any]:
        return {"time": np.arange(self.size)}

    @property
    def variables(self) -> Mapping[str, Variable]:
        return {"height": Variable(("time",))}

    def simulate(self, theta: xr.DataArray, index: np.ndarray) -> dict[str, np.ndarray]:
        self.seen.append(len(index))
        return {"height": np.zeros((len(index), self.size), np.float32)}


@pytest.mark.parametrize(
    ("n", "bytes_per_run", "largest"),
    [(40, 1000, 40), (1000, 1000, 64), (10_000, 1000, 512), (200_000, 4, 8192), (70, 2**20, 8)],
)
def test_chunks_suit_the_size_of_runs_and_campaign(
    n: int, bytes_per_run: int, largest: int
) -> None:
    task = Wide(bytes_per_run)
    design = PriorDesign(PRIOR, n, seed=0)
    few = run(task, design, threads=1) if n * bytes_per_run < 10**8 else None
    assert sum(task.seen) == n
    assert max(task.seen) == largest
    del few


def test_a_chunk_has_at_least_one_run_and_too_large_a_chunk_is_refused(tmp_path: Path) -> None:
    task = Wide(2**25)
    run(task, draw(2), threads=1)
    assert task.seen == [1, 1]
    with pytest.raises(InputError, match=r"100 runs of 'height' are too large .* at most 63"):
        run(task, draw(100), tmp_path / "wide.zarr", chunk=100)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [{"chunk": 0}, {"threads": 0}])
def test_numbers_below_one_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(InputError, match="must be at least 1, got 0"):
        run(Toy(), draw(), **wrong)


def test_threads_are_shared_between_chunks() -> None:
    def inside(**options: int) -> set[int]:
        task = Toy()
        run(task, draw(), **options)
        return set(task.threads)

    assert inside(chunk=50, threads=4) == {4}  # one chunk has them all
    assert inside(chunk=25, threads=4) == {2}
    assert inside(chunk=5, threads=4) == {1}
    assert inside(chunk=5, threads=1) == {1}
    with _threads.using(3):
        assert inside(chunk=50) == {3}


def test_chunks_run_at_the_same_time() -> None:
    barrier = threading.Barrier(3, timeout=60)

    class Meeting(Toy):
        def simulate(self, theta: xr.DataArray, index: np.ndarray) -> dict[str, np.ndarray]:
            if index[0] < 15:  # passes only if three chunks are here together
                barrier.wait()
            return super().simulate(theta, index)

    same(run(Meeting(), draw(), chunk=5, threads=3), run(Toy(), draw()))


def test_few_chunks_are_in_flight() -> None:
    lock, flying, most = threading.Lock(), [0], [0]

    class Counted(PriorDesign):
        def rows(self, start: int, stop: int) -> xr.DataArray:
            with lock:
                flying[0] += 1
                most[0] = max(most[0], flying[0])
            return super().rows(start, stop)

    class Counting(Toy):
        def simulate(self, theta: xr.DataArray, index: np.ndarray) -> dict[str, np.ndarray]:
            with lock:
                flying[0] -= 1
            return super().simulate(theta, index)

    run(Counting(), Counted(PRIOR, 200, seed=2), chunk=2, threads=2)
    assert most[0] <= 5


def test_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NMM_INFER_THREADS", raising=False)
    cores = _threads.n_threads()
    assert cores >= 1
    monkeypatch.setenv("NMM_INFER_THREADS", "7")
    assert _threads.n_threads() == 7
    with _threads.using(2):
        assert _threads.n_threads() == 2
        with _threads.using(1):
            assert _threads.n_threads() == 1
        assert _threads.n_threads() == 2
    assert _threads.n_threads() == 7
    for wrong in ("0", "-1", "many", "1.5"):
        monkeypatch.setenv("NMM_INFER_THREADS", wrong)
        with pytest.raises(InputError, match="NMM_INFER_THREADS must be a positive whole number"):
            _threads.n_threads()


# Failures


@pytest.mark.parametrize("stored", [False, True])
def test_diverged_runs_are_kept_and_left_out_of_the_valid(tmp_path: Path, stored: bool) -> None:
    store = tmp_path / "toy.zarr" if stored else None
    campaign = run(Toy(diverges_at=(3, 20, 49)), draw(), store, chunk=8)
    status = campaign.dataset["status"].values
    assert np.flatnonzero(status == DIVERGED).tolist() == [3, 20, 49]
    assert (np.delete(status, [3, 20, 49]) == OK).all()
    assert len(campaign) == 50
    assert campaign.valid.tolist() == [k for k in range(50) if k not in (3, 20, 49)]
    assert np.isnan(campaign.dataset["height"].values[20, 1, 3])
    assert repr(campaign) == "Campaign(50 runs, 3 failed)"
    # A failed run is finished: resuming does not run it again.
    again = Toy(diverges_at=(3, 20, 49))
    if stored:
        run(again, draw(), store, chunk=8)
        assert again.seen == []


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("chunk", [1, 8, 50])
def test_runs_that_raise_are_found_and_kept(
    tmp_path: Path, stored: bool, chunk: int, caplog: pytest.LogCaptureFixture
) -> None:
    guilty = {3: ValueError("no root"), 20: FloatingPointError("overflow"), 21: KeyError("x")}
    task = Toy(raises_at=guilty, diverges_at=(30,))
    with caplog.at_level(logging.WARNING, "nmm_infer"):
        campaign = run(task, draw(), tmp_path / "s" if stored else None, chunk=chunk, threads=1)
    assert len(caplog.records) == 1
    assert "simulation 3 failed: ValueError: no root" in caplog.records[0].message
    rest = [k for k in range(50) if k not in (3, 20, 21, 30)]
    assert campaign.valid.tolist() == rest
    np.testing.assert_array_equal(
        campaign.dataset["height"][rest], run(Toy(), draw()).dataset["height"][rest]
    )
    assert (campaign.dataset["height"][list(guilty)] == 0).all()
    np.testing.assert_array_equal(campaign.theta, draw())
    failures = campaign.failures()
    assert failures["simulation"].values.tolist() == [3, 20, 21, 30]
    assert failures["status"].values.tolist() == [FAILED, FAILED, FAILED, DIVERGED]
    assert failures["reason"].values.tolist() == [
        *["the task raised an error"] * 3,
        "the state left the finite range",
    ]
    assert run(Toy(), draw()).failures().sizes == {"simulation": 0}


def test_failures_are_known_by_their_absolute_numbers() -> None:
    campaign = run(Toy(diverges_at=(41,)), draw().isel(simulation=slice(40, 50)))
    assert campaign.failures()["simulation"].values.tolist() == [41]
    assert campaign.select(slice(1, None)).failures()["simulation"].values.tolist() == [41]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(
    "error", [InputError("bad clock"), FileNotFoundError("weights"), MemoryError(), OSError(5, "x")]
)
def test_errors_that_are_not_of_a_run_end_the_campaign(
    tmp_path: Path, error: Exception, threads: int
) -> None:
    store = tmp_path / "toy.zarr"
    with pytest.raises(type(error)):
        run(Toy(raises_at={20: error}), draw(), store, chunk=4, threads=threads)
    status = Campaign.open(store).dataset["status"].values
    assert (status[20:24] == -1).all()
    assert (status != FAILED).all()
    same(run(Toy(), draw(), store), run(Toy(), draw()))


def test_a_task_may_tell_the_status_itself(tmp_path: Path) -> None:
    class Telling(Toy):
        code = DIVERGED

        def simulate(self, theta: xr.DataArray, index: np.ndarray) -> dict[str, np.ndarray]:
            result = super().simulate(theta, index)
            return result | {"status": np.where(index % 10 == 0, self.code, OK)}

    campaign = run(Telling(diverges_at=(3,)), draw(), tmp_path / "toy.zarr", chunk=8)
    assert campaign.failures()["simulation"].values.tolist() == [0, 10, 20, 30, 40]
    assert campaign.dataset["status"].dtype == np.int8
    wrong = Telling()
    wrong.code = -1
    with pytest.raises(InputError, match="a status other than 0"):
        run(wrong, draw())


def test_values_beyond_the_stored_type_are_divergence() -> None:
    class Large(Toy):
        def simulate(self, theta: xr.DataArray, index: np.ndarray) -> dict[str, np.ndarray]:
            result = super().simulate(theta, index)
            height = result["height"].astype(float)
            height[index == 7] = 1e200  # finite, but not in float32
            return result | {"height": height}

    campaign = run(Large(), draw())
    assert campaign.failures()["simulation"].values.tolist() == [7]
    assert campaign.dataset["height"].dtype == np.float32


def test_a_task_that_breaks_its_word_is_told() -> None:
    class Broken(Toy):
        result: Any = None

        def simulate(self, theta: xr.DataArray, index: np.ndarray) -> dict[str, np.ndarray]:
            return self.result(super().simulate(theta, index))

    task = Broken()
    task.result = lambda result: {"height": result["height"]}
    with pytest.raises(InputError, match="the task returned no 'count'"):
        run(task, draw())
    task.result = lambda result: result | {"height": result["height"][:, :1]}
    with pytest.raises(InputError, match=r"'height' of shape \(50, 1, 7\), not \(50, 2, 7\)"):
        run(task, draw())


def test_variables_need_coordinates_and_names_of_their_own() -> None:
    class Strange(Toy):
        extra: Any = None

        @property
        def variables(self) -> Mapping[str, Variable]:
            return dict(self.extra)

    task = Strange()
    prints = set()
    for dtype, dims in (("float32", ("time",)), ("float64", ("time",)), ("float32", ("place",))):
        task.extra = {"height": Variable(dims, dtype)}
        prints.add(run(task, draw(0)).fingerprint)
    assert len(prints) == 3  # what is stored is part of what a store is
    task.extra = {"height": Variable(("depth",))}
    with pytest.raises(InputError, match="'height' of the task: 'depth' has no coordinate"):
        run(task, draw())
    for taken in ("theta", "status", "time", "parameter"):
        task.extra = {taken: Variable(("time",))}
        with pytest.raises(InputError, match=f"variable '{taken}' of the task: the name is taken"):
            run(task, draw())


# Identity and provenance


def test_store_of_another_task_or_design_is_refused(tmp_path: Path) -> None:
    store = tmp_path / "toy.zarr"
    run(Toy(), draw(), store)
    before = contents(store)
    with pytest.raises(InputError, match=r"toy\.zarr was written by another study"):
        run(Toy(label="another"), draw(), store)
    with pytest.raises(InputError, match="another study"):
        run(Toy(), draw(49), store)
    with pytest.raises(InputError, match="another study"):
        run(Toy(), PRIOR.sample(50, seed=3), store)
    with pytest.raises(InputError, match="another study"):
        run(Toy(), PriorDesign(PRIOR, 50, seed=3), store)
    renamed = draw().assign_coords(parameter=["width", "rate"])
    with pytest.raises(InputError, match="another study"):
        run(Toy(), renamed, store)
    assert contents(store) == before


@pytest.mark.parametrize("what", ["file", "folder", "empty folder", "other store"])
def test_a_path_that_is_something_else_is_refused(tmp_path: Path, what: str) -> None:
    path = tmp_path / "thing"
    if what == "file":
        path.write_text("my thesis")
    elif what == "other store":
        zarr.open_group(path, mode="w").create_array("x", shape=(3,), dtype="f4")
    else:
        path.mkdir()
        if what == "folder":
            (path / "thesis.txt").write_text("my thesis")
            (path / "thesis.partial").write_text("my thesis")
            (path / "status" / "c").mkdir(parents=True)
            (path / "status" / "c" / "notes").write_text("my notes")
    before = contents(path)
    with pytest.raises(InputError, match="thing exists but is not a campaign store"):
        run(Toy(), draw(), path)
    with pytest.raises(InputError, match="thing is not a campaign store"):
        Campaign.open(path)
    assert contents(path) == before
    if what == "file":
        assert path.read_text() == "my thesis"


def test_a_fingerprint_must_tell_everything() -> None:
    class Vague(Toy):
        weights: Any = None

        @property
        def fingerprint(self) -> dict[str, Any]:
            return {"task": "vague", "weights": self.weights}

    task = Vague()
    task.weights = object()  # its text would tell its address
    with pytest.raises(TypeError, match="JSON-ready"):
        run(task, draw())
    task.weights = np.zeros(5000)  # its text would leave the middle out
    first = run(task, draw(2)).fingerprint
    task.weights = np.zeros(5000)
    task.weights[2500] = 1.0
    assert run(task, draw(2)).fingerprint != first


def test_a_store_tells_where_it_comes_from(tmp_path: Path) -> None:
    class Seeded(Toy):
        seed = 11

    store = tmp_path / "toy.zarr"
    run(Seeded(), draw(), store)
    campaign = Campaign.open(store)
    attrs = campaign.dataset.attrs
    assert attrs["seed"] == 11
    assert json.loads(attrs["task"]) == {"task": "toy"}
    assert json.loads(attrs["design"])["runs"] == 50
    assert json.loads(attrs["versions"])["nmm-infer"] == version("nmm-infer")
    status = campaign.dataset["status"].attrs
    named = dict(zip(status["flag_values"], status["flag_meanings"].split(), strict=True))
    assert named == {
        -1: "pending",
        OK: "ok",
        DIVERGED: "diverged",
        FAILED: "failed",
        REJECTED: "rejected",
    }
    told = dict(zip(status["flag_values"], status["status_reason"], strict=True))
    assert told[DIVERGED] == "the state left the finite range"
    same(campaign, run(Seeded(), draw()))


def test_an_unfinished_store_can_be_looked_at(tmp_path: Path) -> None:
    store = tmp_path / "toy.zarr"
    with pytest.raises(KeyboardInterrupt):
        run(
            Toy(raises_at={33: KeyboardInterrupt()}, diverges_at=(2,)),
            draw(),
            store,
            chunk=8,
            threads=1,
        )
    campaign = Campaign.open(store)
    assert repr(campaign) == "Campaign(50 runs, 1 failed, 18 pending)"
    assert campaign.valid.tolist() == [0, 1, *range(3, 32)]
    assert campaign.failures()["simulation"].values.tolist() == [2]
    assert np.isnan(campaign.theta[32:]).all()
    with pytest.raises(InputError, match="does not exist"):
        Campaign.open(tmp_path / "nothing.zarr")


def test_selection_keeps_runs_together(tmp_path: Path) -> None:
    design = draw()
    campaign = run(Toy(diverges_at=(4,)), design, tmp_path / "toy.zarr", chunk=8)
    part = campaign.select(np.array([30, 4, 9]))
    assert part.dataset.coords["simulation"].values.tolist() == [30, 4, 9]
    np.testing.assert_array_equal(part.theta, design.values[[30, 4, 9]])
    np.testing.assert_array_equal(part.dataset["count"], [0, 4, 4])
    assert part.valid.tolist() == [0, 2]
    assert part.fingerprint == campaign.fingerprint


def test_stores_open_without_warnings(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    run(Toy(), draw(), tmp_path / "toy.zarr")
    Campaign.open(tmp_path / "toy.zarr").dataset.load()
    assert [str(w.message) for w in recwarn if "dask" not in str(w.filename)] == []


# Progress


@pytest.mark.parametrize(
    ("unit", "speed", "text"),
    [
        ("runs", 2500.0, "2,500 runs/s"),
        ("runs", 0.25, "0.25 runs/s"),
        ("runs", None, ""),
        ("", 5.0, ""),
    ],
)
def test_the_bar_shows_a_rate_where_units_have_a_name(
    unit: str, speed: float | None, text: str
) -> None:
    task = rich.progress.Task(
        rich.progress.TaskID(0),
        "",
        total=100,
        completed=0,
        fields={"unit": unit},
        finished_speed=speed,
        _get_time=float,
        _lock=threading.RLock(),
    )
    assert _progress._Rate().render(task).plain == text


def test_the_bar_begins_where_an_earlier_job_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "toy.zarr"
    with pytest.raises(OSError, match="gone"):
        run(Toy(raises_at={30: OSError("gone")}), draw(), store, chunk=10, threads=1)
    assert capsys.readouterr().err == ""  # nobody asked for a bar
    with _progress.show_progress():
        run(Toy(), draw(), store, description="Playing")
    shown = capsys.readouterr().err
    assert "Playing" in shown
    assert "50/50" in shown
    assert "runs/s" in shown


def test_a_place_where_nothing_can_be_made() -> None:
    study = Study.preset("column5_narrow")
    with pytest.raises(InputError, match=r"/proc/x\.zarr: cannot be made here"):
        simulate_study(study, 3, "/proc/x.zarr")


def test_a_design_has_names() -> None:
    with pytest.raises(InputError, match="the design is a ndarray: give parameter sets with names"):
        run(Toy(), np.ones((3, 2)))  # type: ignore[arg-type]

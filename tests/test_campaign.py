"""Campaigns: resumption, identity, failures, and ignorance of models."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr

from nmm_infer import _random
from nmm_infer.campaign import DIVERGED, OK, PENDING, Campaign, Variable, run
from nmm_infer.errors import InputError
from nmm_infer.parameters import Parameter, Prior

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
    dies_at: int | None = None
    seen: list[int] = field(default_factory=list)

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
        height = np.empty((len(index), 2, 7), np.float32)
        for row, number in enumerate(index):
            if number == self.dies_at:
                raise KeyboardInterrupt
            self.seen.append(int(number))
            rate, width = PRIOR.values(theta)[row]
            noise = _random.generator(5, "toy", int(number)).standard_normal((2, 7))
            height[row] = width * np.exp(-rate * np.arange(7) / 10) + 0.1 * noise
            if number in self.diverges_at:
                height[row, 1, 3] = np.nan
        return {"height": height, "count": (index % 5).astype(np.int16)}


def _design(n: int = 50) -> xr.DataArray:
    return PRIOR.sample(n, seed=2)


def _same(one: Campaign, other: Campaign) -> None:
    a, b = one.dataset.load(), other.dataset.load()
    assert set(a.variables) == set(b.variables)
    for name in a.variables:
        np.testing.assert_array_equal(a[name].values, b[name].values, err_msg=str(name))
        assert a[name].dims == b[name].dims
        assert a[name].dtype == b[name].dtype
    assert one.fingerprint == other.fingerprint


def test_values_are_those_of_the_task() -> None:
    design = _design()
    campaign = run(Toy(), design, chunk=7)
    rate, width = (design.sel(parameter=name).values[:, None] for name in ("rate", "width"))
    noise = np.stack([_random.generator(5, "toy", k).standard_normal((2, 7)) for k in range(50)])
    expected = (width * np.exp(-rate * np.arange(7) / 10))[:, None] + 0.1 * noise
    np.testing.assert_allclose(campaign.dataset["height"], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(campaign.theta, design)
    assert campaign.dataset["height"].attrs["units"] == "m"
    assert campaign.theta.coords["unit"].values.tolist() == ["1/s", "m"]
    assert len(campaign) == 50


@pytest.mark.parametrize("chunk", [1, 7, 50, 512])
def test_memory_and_store_agree_for_every_chunk(tmp_path: Path, chunk: int) -> None:
    reference = run(Toy(), _design())
    _same(run(Toy(), _design(), chunk=chunk), reference)
    _same(run(Toy(), _design(), tmp_path / "toy.zarr", chunk=chunk), reference)


def test_interrupted_then_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    store = tmp_path / "toy.zarr"
    with pytest.raises(KeyboardInterrupt):
        run(Toy(dies_at=33), _design(), store, chunk=8)
    status = np.asarray(zarr.open_group(store, mode="r")["status"][:])
    np.testing.assert_array_equal(status[:32], OK)
    np.testing.assert_array_equal(status[32:], PENDING)
    again = Toy()
    resumed = run(again, _design(), store, chunk=8)
    assert again.seen == list(range(32, 50))  # whole chunks are not run again
    _same(resumed, run(Toy(), _design()))
    nothing = Toy()
    _same(run(nothing, _design(), store, chunk=8), resumed)
    assert nothing.seen == []


def test_resumption_keeps_the_chunk_of_the_store(tmp_path: Path) -> None:
    store = tmp_path / "toy.zarr"
    with pytest.raises(KeyboardInterrupt):
        run(Toy(dies_at=33), _design(), store, chunk=8)
    _same(run(Toy(), _design(), store, chunk=5), run(Toy(), _design()))


def test_a_chunk_that_was_half_written_is_run_again(tmp_path: Path) -> None:
    store = tmp_path / "toy.zarr"
    reference = run(Toy(), _design(), store, chunk=8)
    reference.dataset.load()
    group = zarr.open_group(store, mode="r+")
    group["height"][16:24] = -1.0
    group["status"][16:24] = PENDING
    again = Toy()
    resumed = run(again, _design(), store, chunk=8)
    assert again.seen == list(range(16, 24))
    _same(resumed, run(Toy(), _design()))


KILLED = """
import sys, time
sys.path.insert(0, {tests!r})
from test_campaign import Toy, _design, run

class Slow(Toy):
    def simulate(self, theta, index):
        time.sleep(0.02)
        return super().simulate(theta, index)

print("ready", flush=True)
run(Slow(), _design(), {store!r}, chunk=1)
print("done", flush=True)
"""


@pytest.mark.parametrize("delay", [0.0, 0.05, 0.4, 0.9])
def test_killed_process_then_resumed_equals_uninterrupted(tmp_path: Path, delay: float) -> None:
    store = tmp_path / "toy.zarr"
    code = textwrap.dedent(KILLED.format(tests=str(Path(__file__).parent), store=str(store)))
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "ready"
    time.sleep(delay)
    process.kill()
    rest = process.stdout.read()
    process.wait()
    process.stdout.close()
    assert "done" not in rest  # it was killed before its end, or this test shows nothing
    again = Toy()
    _same(run(again, _design(), store, chunk=1), run(Toy(), _design()))
    assert again.seen == sorted(again.seen)
    if delay >= 0.4:
        assert 0 < len(again.seen) < 50
    left = [path.name for path in tmp_path.iterdir() if path.name != "toy.zarr"]
    assert all(name.startswith(".toy.zarr.") for name in left)


def test_store_of_another_task_or_design_is_refused(tmp_path: Path) -> None:
    store = tmp_path / "toy.zarr"
    first = run(Toy(), _design(), store)
    before = first.dataset["height"].values.copy()
    with pytest.raises(InputError, match=r"toy\.zarr was written by another study"):
        run(Toy(label="another"), _design(), store)
    with pytest.raises(InputError, match="another study"):
        run(Toy(), _design(49), store)
    with pytest.raises(InputError, match="another study"):
        run(Toy(), PRIOR.sample(50, seed=3), store)
    renamed = _design().assign_coords(parameter=["width", "rate"])
    with pytest.raises(InputError, match="another study"):
        run(Toy(), renamed, store)
    np.testing.assert_array_equal(run(Toy(), _design(), store).dataset["height"], before)


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
    with pytest.raises(InputError, match="thing exists but is not a campaign store"):
        run(Toy(), _design(), path)
    if what == "file":
        assert path.read_text() == "my thesis"
    if what == "folder":
        assert [p.name for p in path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("stored", [False, True])
def test_diverged_runs_are_kept_and_left_out_of_the_valid(tmp_path: Path, stored: bool) -> None:
    store = tmp_path / "toy.zarr" if stored else None
    campaign = run(Toy(diverges_at=(3, 20, 49)), _design(), store, chunk=8)
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
        run(again, _design(), store, chunk=8)
        assert again.seen == []


def test_selection_keeps_runs_together(tmp_path: Path) -> None:
    design = _design()
    campaign = run(Toy(diverges_at=(4,)), design, tmp_path / "toy.zarr", chunk=8)
    part = campaign.select(np.array([30, 4, 9]))
    assert part.dataset.coords["simulation"].values.tolist() == [30, 4, 9]
    np.testing.assert_array_equal(part.theta, design.values[[30, 4, 9]])
    np.testing.assert_array_equal(part.dataset["count"], [0, 4, 4])
    assert part.valid.tolist() == [0, 2]
    assert part.fingerprint == campaign.fingerprint


def test_runs_depend_on_their_absolute_number() -> None:
    whole = run(Toy(), _design())
    tail = run(Toy(), _design().isel(simulation=slice(20, None)))
    np.testing.assert_array_equal(whole.dataset["height"][20:], tail.dataset["height"])
    assert tail.fingerprint != whole.fingerprint

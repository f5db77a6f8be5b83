"""What others do at the same time, and what others hand on: nothing breaks, and nothing is run."""

from __future__ import annotations

import bz2
import fcntl
import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
import zarr
from conftest import TOY_PRIOR, ToyObserver, toy_campaign
from test_campaign import Toy, contents, draw

from nmm_infer import _locks
from nmm_infer._locks import locked
from nmm_infer.anatomy import read_connectome
from nmm_infer.anatomy._cache import cached_array
from nmm_infer.campaign import Campaign, run
from nmm_infer.campaign.task import OK
from nmm_infer.errors import InputError
from nmm_infer.inference import ModelComparison, RidgeGaussian, load_estimator
from nmm_infer.inference.regressor import Regressor
from nmm_infer.runs import build_task
from nmm_infer.settings import EncoderSettings, TrainingSettings
from nmm_infer.study import Study

# ArviZ in two processes at once

ANOTHER_WAS_FASTER = """
from pathlib import Path

replace, left = Path.replace, [{times}]


def late(self, target):
    if self.name == "daily_warning.tmp" and left[0]:
        left[0] -= 1
        self.unlink()
    return replace(self, target)


Path.replace = late
from nmm_infer._arviz import arviz

assert left == [0] and callable(arviz.psislw)
"""


def _python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize("times", [1, 3])
def test_arviz_is_imported_while_another_process_does(tmp_path: Path, times: int) -> None:
    done = _python(ANOTHER_WAS_FASTER.format(times=times), XDG_CACHE_HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # nor is its warning shown
    assert (tmp_path / "arviz" / "daily_warning").exists()


def test_a_cache_of_arviz_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    code = "import nmm_infer.workflow"
    done = _python(code, XDG_CACHE_HOME=str(tmp_path / "cache"))
    last = done.stderr.strip().splitlines()[-1]
    assert "InputError: ArviZ cannot write to its cache folder" in last
    assert "XDG_CACHE_HOME" in last


def test_arviz_is_imported_in_one_place() -> None:
    root = Path(__file__).parents[1]
    folders = ("nmm_infer", "tests", "experiments", "benchmarks", "docs")
    found = {
        path.relative_to(root).as_posix()
        for folder in folders
        for path in (root / folder).rglob("*.py")
        for line in path.read_text().splitlines()
        if line.split()[:2] in (["import", "arviz"], ["from", "arviz"])
    }
    assert found == {"nmm_infer/_arviz.py"}


# Locks


def test_a_lock_is_held_and_given_back(tmp_path: Path) -> None:
    folder = tmp_path / "aside"
    with locked(folder, tmp_path / "out", make=True):
        with (
            pytest.raises(InputError, match=r"another process is writing to .*out: wait for it"),
            locked(folder, tmp_path / "out"),
        ):
            raise AssertionError("not reached")
        assert folder.is_dir()
    with locked(folder, tmp_path / "out"):
        pass


def test_a_lock_held_for_a_moment_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    monkeypatch.setattr(_locks.time, "sleep", lambda _: os.close(descriptor))
    with locked(tmp_path, tmp_path):
        pass


def test_a_lock_stays_with_a_folder_that_is_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    aside, place = tmp_path / "aside", tmp_path / "place"
    lock = _locks._lock
    late = [True]

    def slow(descriptor: int, path: Path) -> None:
        if late.pop() if late else False:  # the folder is put in place between opening and locking
            aside.rename(place)
        lock(descriptor, path)

    monkeypatch.setattr(_locks, "_lock", slow)
    with locked(aside, place, make=True):
        assert aside.is_dir()
        with locked(place, place):  # of which no lock is left
            pass


# Pickles


class Trap:
    """Whoever unpickles this makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return open, (str(self.mark), "w")


@pytest.fixture
def trap(tmp_path: Path) -> Iterator[Trap]:
    """A pickle that shows whether it was run, and refuses to have been."""
    trap = Trap(tmp_path / "ran")
    pickle.loads(pickle.dumps(trap)).close()
    assert trap.mark.exists()  # it works
    trap.mark.unlink()
    yield trap
    assert not trap.mark.exists()


def _refused(job: Callable[[], object]) -> None:
    with pytest.raises(InputError) as caught:
        job()
    assert "\n" not in str(caught.value)


def _old_array(folder: Path, trap: Trap, n: int) -> None:
    """An array of Zarr's format 2 whose elements are pickles."""
    folder.mkdir(parents=True, exist_ok=True)
    told = {
        "zarr_format": 2, "shape": [n], "chunks": [n], "dtype": "|O", "compressor": None,
        "order": "C", "fill_value": None, "filters": [{"id": "pickle", "protocol": 5}],
    }  # fmt: skip
    (folder / ".zarray").write_text(json.dumps(told))
    (folder / ".zattrs").write_text(json.dumps({"_ARRAY_DIMENSIONS": ["simulation"]}))
    (folder / "0").write_bytes(pickle.dumps(trap))


def _plant_old_store(store: Path, trap: Trap) -> None:
    told = dict(zarr.open_group(store, mode="r").attrs)
    names = [path.parent.name for path in store.glob("*/zarr.json")]
    shutil.rmtree(store)
    group = zarr.open_group(store, mode="w", zarr_format=2)
    group.attrs.update(told)
    for name in names:
        _old_array(store / name, trap, 50)


def _plant_old_array(store: Path, trap: Trap) -> None:
    shutil.rmtree(store / "status")
    _old_array(store / "status", trap, 50)


def _plant_codec(store: Path, trap: Trap) -> None:
    for name in ("status", "parameter"):
        path = store / name / "zarr.json"
        told = json.loads(path.read_text())
        told["codecs"] = [{"name": "numcodecs.pickle", "configuration": {"protocol": 5}}]
        path.write_text(json.dumps(told))
        for chunk in (store / name / "c").glob("*"):
            chunk.write_bytes(pickle.dumps(trap))


def _plant_header(store: Path, trap: Trap) -> None:
    (store / "zarr.json").write_bytes(pickle.dumps(trap))


@pytest.mark.parametrize("plant", [_plant_old_store, _plant_old_array, _plant_codec, _plant_header])
def test_a_campaign_store_runs_no_pickle(
    tmp_path: Path, trap: Trap, plant: Callable[[Path, Trap], None]
) -> None:
    store = tmp_path / "toy.zarr"
    run(Toy(), draw(), store, chunk=8)
    plant(store, trap)
    before = contents(store)
    _refused(lambda: Campaign.open(store))
    _refused(lambda: run(Toy(), draw(), store))
    assert contents(store) == before


def test_chunks_that_are_pickles_are_run_again(tmp_path: Path, trap: Trap) -> None:
    store = tmp_path / "toy.zarr"
    run(Toy(), draw(), store, chunk=8)
    before = contents(store)
    (store / "status" / "c" / "2").write_bytes(pickle.dumps(trap))
    run(Toy(), draw(), store)
    assert contents(store) == before
    for chunk in (store / "parameter" / "c").glob("*"):
        chunk.write_bytes(pickle.dumps(trap))
    _refused(lambda: Campaign.open(store))


@pytest.mark.parametrize("file", ["estimator.json", "weights.safetensors"])
def test_a_saved_estimator_runs_no_pickle(
    tmp_path: Path, trap: Trap, toy: ToyObserver, file: str
) -> None:
    folder = RidgeGaussian().fit(toy_campaign(50), toy, TOY_PRIOR).save(tmp_path / "e")  # type: ignore[arg-type]
    (folder / file).write_bytes(pickle.dumps(trap))
    _refused(lambda: load_estimator(folder))
    torch.save({"density.x": trap}, folder / file)
    _refused(lambda: load_estimator(folder))


def test_a_saved_comparison_runs_no_pickle(tmp_path: Path, trap: Trap) -> None:
    (tmp_path / "comparison.json").write_bytes(pickle.dumps(trap))
    _refused(lambda: ModelComparison.load(tmp_path))
    (tmp_path / "comparison.json").write_text("{}")
    torch.save({"net.x": trap}, tmp_path / "weights.safetensors")
    _refused(lambda: ModelComparison.load(tmp_path))


@pytest.mark.parametrize("file", ["best.ckpt", "last.ckpt", "fit.json"])
@pytest.mark.parametrize("way", ["pickle", "torch", "zip"])
def test_a_checkpoint_runs_no_pickle(
    tmp_path: Path, trap: Trap, toy: ToyObserver, file: str, way: str
) -> None:
    def fit() -> Regressor:
        schedule = TrainingSettings(epochs=1, batch_size=64)
        regressor = Regressor(EncoderSettings(backbone="mlp", width=8), schedule)
        return regressor.fit(toy_campaign(100), toy, TOY_PRIOR, checkpoints=tmp_path / "c")  # type: ignore[arg-type]

    fit()
    (folder,) = {path.parent for path in (tmp_path / "c").rglob("*.ckpt")}
    if file == "last.ckpt":  # read where the fit has not ended
        told = json.loads((folder / "fit.json").read_text())
        (folder / "fit.json").write_text(json.dumps({"identity": told["identity"]}))
    if way == "pickle":
        (folder / file).write_bytes(pickle.dumps(trap))
    else:
        held = {"state_dict": {"x": trap}}
        torch.save(held, folder / file, _use_new_zipfile_serialization=way == "zip")
    if file == "fit.json":
        fit()  # the note is made anew
        return
    with pytest.raises(InputError, match="is not read: delete") as caught:
        fit()
    assert str(folder / file) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["network.nc", "network.zip", "network.npy"])
def test_a_connectome_runs_no_pickle(tmp_path: Path, trap: Trap, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(pickle.dumps(trap))
    _refused(lambda: read_connectome(path))
    np.save(tmp_path / "x.npy", np.array([trap]), allow_pickle=True)
    path.write_bytes((tmp_path / "x.npy").read_bytes())
    _refused(lambda: read_connectome(path))


def test_an_archive_runs_no_pickle(tmp_path: Path, trap: Trap) -> None:
    with zipfile.ZipFile(tmp_path / "network.zip", "w") as archive:
        archive.writestr("centres.txt", "a 0 0 0\n")
        archive.writestr("weights.txt.bz2", bz2.compress(pickle.dumps(trap)))
        archive.writestr("tract_lengths.txt", pickle.dumps(trap))
    _refused(lambda: read_connectome(tmp_path / "network.zip"))


def test_a_study_file_runs_no_pickle(tmp_path: Path, trap: Trap) -> None:
    (tmp_path / "study.toml").write_bytes(pickle.dumps(trap))
    _refused(lambda: Study.read(tmp_path / "study.toml"))


def test_the_cache_of_heads_runs_no_pickle(tmp_path: Path, trap: Trap) -> None:
    """What is in the cache with a checksum that fits is not trusted to be unpickled either."""
    path = tmp_path / "lead.npy"
    np.save(path, np.array([trap]), allow_pickle=True)
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_name("lead.npy.sha256").write_text(checksum)
    np.testing.assert_array_equal(cached_array(path, lambda: np.ones(3)), np.ones(3))


def test_model_files_are_run_in_three_places_only() -> None:
    """A study's model, of which `Study.read` asks first, and the tasks made of a study."""
    package = Path(__file__).parents[1] / "nmm_infer"
    found = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if " load_models(" in path.read_text()
    }
    assert found == {
        "models/base.py", "study/study.py", "scenarios/network.py", "scenarios/column.py"
    }  # fmt: skip


# A network without connections


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("speed", ["fixed", "uniform"])
def test_a_network_without_any_connection_is_one_that_is_not_coupled(
    tmp_path: Path, normalise: bool, speed: str
) -> None:
    regions = ["a", "b", "c"]
    dims = ("target", "source")
    tasks = []
    for name, weight in (("none", 0.0), ("some", 1.0)):
        weights = weight * (1 - np.eye(3))
        lengths = 40.0 * (1 - np.eye(3))
        xr.Dataset(
            {"weights": (dims, weights), "tract_lengths": (dims, lengths)},
            coords=dict.fromkeys(dims, regions),
        ).to_netcdf(tmp_path / f"{name}.nc", engine="h5netcdf")
        study = Study(
            connectome={"source": str(tmp_path / f"{name}.nc"), "normalise": normalise},
            prior={"conduction_speed": {"distribution": speed, "low": 4.0, "high": 8.0}},
        )
        tasks.append(build_task(study, regions, stream="training"))
    theta = tasks[0].prior.sample(5, seed=0)
    without = tasks[0].simulate(theta, np.arange(5))
    assert (without["status"] == OK).all()
    theta.loc[{"parameter": "coupling"}] = 0.0
    uncoupled = tasks[1].simulate(theta, np.arange(5))
    np.testing.assert_array_equal(without["potential"], uncoupled["potential"])
    np.testing.assert_array_equal(without["focus"], uncoupled["focus"])


# Bad input is refused before anything heavy is imported

CHEAP = """
import sys
from pathlib import Path

from nmm_infer import cli

bad = [
    ("infer", "none.fif", "--output", "out"),
    ("infer", "recording.xyz", "--output", "out"),
    ("infer", "recording.xyz", "--output", "there"),
    ("infer", "recording.xyz", "--study", "key.toml", "--output", "out"),
    ("infer", "recording.xyz", "--study", "broken.toml", "--output", "out"),
    ("infer", "recording.xyz", "--region", "V1", "--output", "out"),
    ("infer", "recording.xyz", "--study", "region.toml", "--output", "out"),
    ("demo", "--study", "key.toml", "--output", "out"),
    ("simulate", "key.toml", "--simulations", "9", "--output", "out"),
    ("sensitivity", "key.toml", "--output", "out"),
]
for arguments in bad:
    sys.argv = ["nmm-infer", *arguments]
    try:
        cli.main()
    except SystemExit as end:
        assert end.code == 2, arguments
heavy = {"torch", "sbi", "lightning", "SALib", "arviz", "nilearn", "sklearn"} & set(sys.modules)
assert not heavy, heavy
"""


def test_bad_input_is_told_before_anything_heavy_is_imported(tmp_path: Path) -> None:
    (tmp_path / "recording.xyz").write_text("x")
    (tmp_path / "there").mkdir()
    (tmp_path / "key.toml").write_text("sede = 1")
    (tmp_path / "broken.toml").write_text("seed = = 1")
    (tmp_path / "region.toml").write_text('[protocol]\nregion = "V1"')
    done = subprocess.run(
        [sys.executable, "-c", CHEAP], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    told = done.stderr.splitlines()
    assert len(told) == 10 and all(line.startswith("nmm-infer: ") for line in told), told
    assert sum("no region 'V1'; there are" in line for line in told) == 2

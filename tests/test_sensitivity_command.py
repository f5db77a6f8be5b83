"""The command `nmm-infer sensitivity`: files, table, and one line for bad input."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from nmm_infer import cli
from nmm_infer.errors import InputError
from nmm_infer.runs import build_task
from nmm_infer.sensitivity import survey
from nmm_infer.sensitivity.reporting import Request
from nmm_infer.study import Study

STUDY = """
seed = 3
[connectome]
source = "column"
[prior.noise]
distribution = "fixed"
low = 0.0
"""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "study.toml"
    path.write_text(STUDY)
    return path


def command(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["nmm-infer", "sensitivity", *words])
    try:
        with warnings.catch_warnings():
            cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_files_and_table(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "out"
    words = [str(study), "--output", str(out), "--outputs", "peak,peak_latency", "--n", "32"]
    more = ["--second-order", "--convergence", "--parameters", "A,B,a", "--resamples", "5"]
    assert command(monkeypatch, *words, *more) == 0
    assert {p.name for p in out.iterdir()} == {
        "sensitivity.nc",
        "convergence.nc",
        "indices.svg",
        "interactions.svg",
        "convergence.svg",
    }
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "study.toml"]
    shown = capsys.readouterr().out
    assert "peak_latency" in shown and "sobol: ST, 256 runs" in shown
    found = xr.open_dataset(out / "sensitivity.nc", engine="h5netcdf").load()
    # The same numbers as in Python.
    plan = Study.read(study)
    task = build_task(plan, ["column"], stream="sensitivity")
    prior = task.prior.select(["A", "B", "a"])
    same = survey(task, prior, n=32, outputs=["peak", "peak_latency"], second_order=True,
                  resamples=5, seed=3)  # fmt: skip
    np.testing.assert_array_equal(found["ST"], same["ST"])
    assert found["parameter"].values.tolist() == ["A", "B", "a"]
    # A second time only with --overwrite, which replaces it in one step.
    assert command(monkeypatch, *words) == 2
    assert "add --overwrite" in capsys.readouterr().err
    assert command(monkeypatch, *words, "--overwrite", "--method", "morris", "--keep-campaign",
                   "--groups", "gains=A,B") == 0  # fmt: skip
    assert {p.name for p in out.iterdir()} == {"sensitivity.nc", "indices.svg", "runs.zarr"}
    assert "gains" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--method", "sobl"], "no method 'sobl'"),
        (["--n", "100"], "power of two"),
        (["--outputs", "pek"], "no feature 'pek'"),
        (["--groups", "A,B"], "gains=A,B"),
        (["--parameters", "zz"], "no parameter 'zz'"),
        (["--at", "soon"], "in seconds"),
        (["--method", "efast", "--groups", "g=A,B"], "cannot ask about groups"),
    ],
)
def test_bad_input_is_one_line(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture,
    words: list[str], message: str,
) -> None:  # fmt: skip
    assert command(monkeypatch, str(study), "--output", str(tmp_path / "out"), *words) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["study.toml"]


def test_words_become_a_request() -> None:
    asked = Request.read("sobol", "a, b", 8, "A,B", "g=A,B;h=C", ".1,0.2", evoked=True)
    assert asked.outputs == ["a", "b"] and asked.parameters == ["A", "B"]
    assert asked.groups == {"g": ["A", "B"], "h": ["C"]} and asked.at == [0.1, 0.2]
    assert Request.read("sobol", None, None, None, None, None, evoked=True).outputs == "samples"
    ongoing = Request.read("sobol", None, None, None, None, None, evoked=False).outputs
    assert "alpha_peak_frequency" in ongoing
    with pytest.raises(InputError, match="commas"):
        Request.read("sobol", ",", None, None, None, None, evoked=True)

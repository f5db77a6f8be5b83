"""The experiments on columns at smoke scale: every part runs, and a second run computes nothing."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

from experiments.scales import Cells, plain


@pytest.mark.slow
@pytest.mark.parametrize("name", ["learning_curves", "noise_robustness", "units", "exactness"])
def test_smoke_scale_runs_and_resumes(name: str, tmp_path: Path) -> None:
    experiment = importlib.import_module(f"experiments.{name}")
    scale = experiment.SCALES["smoke"]
    record = plain(experiment.measure(scale, 0, Cells(tmp_path)))
    assert json.loads(json.dumps(record)) == record
    text = experiment.table(record)
    assert "|---|" in text and "None" not in text
    experiment.draw(record, tmp_path / "figure.png")
    before = {p: p.stat().st_mtime_ns for p in tmp_path.glob("*.json")}
    assert before
    again = experiment.measure(scale, 0, Cells(tmp_path, minutes=0))
    assert {p: p.stat().st_mtime_ns for p in tmp_path.glob("*.json")} == before
    assert experiment.table(plain(again)) == text


def test_a_cell_is_kept_and_late_ones_are_named(tmp_path: Path) -> None:
    calls = []

    def compute() -> dict:
        calls.append(1)
        return {"x": 1.23456789, "nothing": float("nan")}

    cells = Cells(tmp_path)
    assert cells.get("a", compute) == {"x": 1.2346, "nothing": None}
    assert cells.get("a", compute) == cells.find("a", compute) and len(calls) == 1
    late = Cells(tmp_path, minutes=0)
    assert late.find("a", compute) is not None
    assert late.find("b", compute) is None and late.missing == ["b"] and len(calls) == 1


def test_processes_share_cells(tmp_path: Path) -> None:
    """What another process computes now is named as missing; once done, it is read."""
    here = Cells(tmp_path)

    def meanwhile() -> dict:
        there = Cells(tmp_path)
        assert there.find("a", dict) is None and there.missing == ["a"]
        assert there.find("b", lambda: {"x": 2}) == {"x": 2}
        return {"x": 1}

    assert here.find("a", meanwhile) == {"x": 1} and here.missing == []
    assert here.find("b", dict) == {"x": 2}

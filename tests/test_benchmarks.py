"""The benchmarks run, and say what they mean; no test looks at a time."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks import accuracy, forward, operations, roofline, simulators
from benchmarks.peers import Case
from benchmarks.worker import MissingToolError, Tool
from nmm_infer.models import get_model
from nmm_infer.simulation import _math


@pytest.fixture(scope="module")
def record() -> dict:
    return simulators.measure(quick=True, repeats=2, tools=())


@pytest.mark.slow
def test_comparison_with_our_own_tool(record: dict) -> None:
    assert json.loads(json.dumps(record)) == record
    first, *others = record["rows"]
    assert first["tool"] == "nmm_infer" and first["speedup"] is None
    assert {row["what"] for row in others} >= {"one simulation", "float64"}
    for row in record["rows"]:
        assert row["node_steps_per_second"] == np.median(row["rates"]) > 0
        assert {"case", "version", "precision", "threads", "simulations_at_a_time"} <= set(row)
    assert set(record["versions"]) >= {"python", "numpy", "numba"}
    assert record["machine"]["processor"] and record["machine"]["cores"] >= 1


@pytest.mark.slow
def test_speedups_are_ratios_of_rates(record: dict) -> None:
    for row in record["rows"][1:]:
        ratios = np.array(row["own_rates"]) / np.array(row["rates"])
        assert row["speedup"] == pytest.approx(np.median(ratios))
        assert row["speedup_range"] == pytest.approx([ratios.min(), ratios.max()])


@pytest.mark.slow
def test_campaigns_are_timed(record: dict) -> None:
    memory, store = record["campaigns"]
    for row in (memory, store):
        assert row["runs"] == 2_000 and row["target"] is None
        assert row["node_steps_per_second"] == pytest.approx(2_000_000 / row["seconds"])
    text = simulators.table(record)
    assert "2,000 evoked responses" in text and "float64" in text


def test_a_tool_that_is_not_installed_has_no_speedup(monkeypatch: pytest.MonkeyPatch) -> None:
    class Absent(Tool):
        def __init__(self, name: str, *arguments: object, **more: object) -> None:
            if name != "own":
                raise MissingToolError("no module")
            self.case, self.version, self.precision = Case([[0.0]], None, {}, []), "1", "float32"
            self.simulations, self.seconds = 1, 1.0

        def __exit__(self, *_: object) -> None:
            pass

        def rate(self) -> float:
            return 2.0

    monkeypatch.setattr(simulators, "Tool", Absent)
    comparison = next(simulators.comparisons(quick=True))
    alone = [rival for rival in comparison.rivals if rival.tool == "tvb"]
    comparison = simulators.Comparison("case", comparison.case, comparison.ours, tuple(alone))
    first, row = simulators.compare(comparison, 2, ("tvb",), "python")
    assert first["node_steps_per_second"] == 2.0
    assert row["note"] == "not installed"
    assert row["speedup"] is None and row["node_steps_per_second"] is None
    assert "not installed" in simulators._rate(row) and simulators._speedup(row) == ""


def test_noise_in_milliseconds_is_the_same_noise() -> None:
    case = Case([[0.0]], None, {"A": 3.0, "a": 100.0, "b": 50.0, "e0": 2.5}, [0.0] * 6, sigma=2.0)
    # y4 gains A a sigma sqrt(dt): 3 x 100 x 2 x sqrt(.001) mV/s in 1 ms, a thousandth in mV/ms.
    assert case.milliseconds()["noise"] * 1.0 == pytest.approx(600 * np.sqrt(1e-3) / 1e3)


def test_operations_are_counted() -> None:
    model = get_model("jansen_rit")

    def function(x, y):
        return np.exp(x * y) + 1 / (x - y)

    assert operations.source_operations(_math.exp) == 19
    assert operations.operations(function) == 19 + 4
    assert operations.operations(model.get_output("potential").function) == 1
    # Three sigmoids of 24 operations each, and 29 others.
    assert operations.operations(model.derivative) == 101


def test_work_grows_with_edges() -> None:
    model = get_model("jansen_rit")
    none, few, many = (operations.work(model, edges=e, slots=10) for e in (0, 10, 20))
    assert many.operations - few.operations == 20
    assert many.values - few.values == 40
    assert none.values == none.lists == 0


def test_noise_is_counted_once_a_step() -> None:
    model = get_model("jansen_rit")
    quiet, noisy = (operations.work(model, noisy=n).operations for n in (False, True))
    # The deviate, its amplitude, and adding it at both stages.
    assert noisy - quiet == operations._NORMAL + 1 + 2


@pytest.mark.slow
def test_roofline(tmp_path) -> None:
    record = roofline.measure(quick=True, repeats=1)
    assert json.loads(json.dumps(record)) == record
    for point in record["points"]:
        reached = point["node_steps_per_second"] * point["operations_per_node_step"]
        assert point["operations_per_second"] == pytest.approx(reached)
        assert point["fraction_of_peak"] == pytest.approx(reached / record["limits"]["operations"])
        assert point["fraction_of_roof"] >= point["fraction_of_peak"] * 0.999
    roofline.draw(record, tmp_path / "roofline.svg")
    assert len(roofline.table(record).splitlines()) == len(record["points"]) + 4


@pytest.mark.slow
def test_accuracy(tmp_path) -> None:
    record = accuracy.measure(quick=True, repeats=1)
    assert json.loads(json.dumps(record)) == record
    error = {
        (r["scheme"], r["precision"], round(r["step"] * 1e3, 3)): r["error"] for r in record["rows"]
    }
    # Orders 1, 2 and 4.
    for scheme, order in (("euler", 1), ("heun", 2), ("rk4", 4)):
        ratio = error[scheme, "float64", 1.0] / error[scheme, "float64", 0.5]
        assert np.log2(ratio) == pytest.approx(order, abs=0.5)
    accuracy.draw(record, tmp_path / "accuracy.svg")
    assert "heun" in accuracy.table(record)


@pytest.mark.slow
def test_forward(tmp_path) -> None:
    record = forward.measure(quick=True, repeats=1)
    (name,) = record["heads"]
    assert set(record["heads"][name]) == {"nothing", "cache"}
    assert len(record["steps"]) == 7
    assert all(label in forward.table(record) for label in (name, *record["steps"]))
    forward.draw(record, tmp_path / "forward.svg")
    assert (tmp_path / "forward.svg").stat().st_size > 1000

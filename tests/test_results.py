"""Tables in the documents come from results files, and these meet their targets."""

from __future__ import annotations

import json
from pathlib import Path

from experiments import readme

ROOT = Path(__file__).parents[1]


def test_readme_tables_are_those_of_the_results_files() -> None:
    text = (ROOT / "README.md").read_text()
    assert readme.render(text) == text


def test_main_job_meets_its_targets() -> None:
    record = json.loads((ROOT / "experiments/results/main_job.json").read_text())
    assert record["study"]["budget"]["calibration"] == 10_000
    for part in (record["all"], record["synaptic"]):
        assert part["gain_over_prior_nats"]["low"] > 0
        assert part["gain_over_ridge_nats"]["low"] > 0
        assert part["largest_gap"] <= max(part["band"], 0.03)

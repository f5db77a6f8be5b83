"""Time a million evoked responses of one column: features in memory, time series in a store."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from nmm_infer import _threads
from nmm_infer.campaign import PriorDesign, run
from nmm_infer.runs import build_task
from nmm_infer.scenarios import FeatureTask, NetworkTask
from nmm_infer.simulation import Clock
from nmm_infer.study import ConnectomeSettings, PriorRange, Study

__all__ = ["ONSET", "PRIOR", "measure", "table"]

CLOCK = Clock(-0.1, 0.896, step=1e-3, every=4, settle=0.0)  # 250 samples, one second
STUDY = Study(
    connectome=ConnectomeSettings(source="column"),
    prior={"noise": PriorRange(distribution="fixed", low=0.0)},
)
#: Parameters of the columns, from the default study.
PRIOR = STUDY.build_prior().select(["A", "B", "a", "b", "C", "drive"])
ONSET = 0.05
TARGETS = {"features in memory": 10.0, "time series at 250 Hz in a Zarr store": 20.0}


def _task() -> NetworkTask:
    return replace(build_task(STUDY, ["column"], stream="benchmark"), clock=CLOCK)


def _in_memory(n: int) -> None:
    task = _task()
    result = run(FeatureTask(task), PriorDesign(task.prior, n, seed=0))
    assert len(result.valid) == n


def _in_store(n: int) -> None:
    task = _task()
    with tempfile.TemporaryDirectory() as folder:
        result = run(task, PriorDesign(task.prior, n, seed=0), Path(folder) / "runs.zarr")
        assert len(result.valid) == n


def _raw_write(n: int) -> float:
    """Return how long it takes to write as many raw bytes as the store has, in s."""
    block = np.random.default_rng(0).bytes(2**24)
    with tempfile.TemporaryFile() as file:
        begin = time.perf_counter()
        for _ in range(-(-n * CLOCK.n_samples * 4 // len(block))):
            file.write(block)
        file.flush()
        return time.perf_counter() - begin


def measure(n: int = 1_000_000, repeats: int = 5) -> list[dict[str, Any]]:
    """Time both campaigns of ``n`` runs."""
    jobs: list[Callable[[int], None]] = [_in_memory, _in_store]
    rows = []
    for (what, target), job in zip(TARGETS.items(), jobs, strict=True):
        job(100)  # compiles
        seconds = []
        for _ in range(repeats):
            begin = time.perf_counter()
            job(n)
            seconds.append(time.perf_counter() - begin)
        rows.append(
            {
                "case": f"{n:,} evoked responses of one column, 1 s, 1 ms, Heun: {what}",
                "runs": n,
                "threads": _threads.n_threads(),
                "seconds": float(np.median(seconds)),
                "range": [min(seconds), max(seconds)],
                "target": target if n == 1_000_000 else None,
                "repeats": repeats,
                "node_steps_per_second": n * 1000 / float(np.median(seconds)),
            }
        )
    rows[-1]["raw_write_seconds"] = _raw_write(n)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Return the campaigns as Markdown."""
    lines = ["| campaign | threads | s (range) | million node-steps/s |", "|---|---:|---:|---:|"]
    for row in rows:
        low, high = row["range"]
        lines.append(
            f"| {row['case']} | {row['threads']} | {row['seconds']:.3g} ({low:.3g} to {high:.3g}) "
            f"| {row['node_steps_per_second'] / 1e6:.3g} |"
        )
    return "\n".join(lines)

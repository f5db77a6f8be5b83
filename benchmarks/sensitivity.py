"""Time Sobol indices of an evoked response: nine parameters, 300 samples, simulation included.

A Jansen-Rit column with the priors of the preset ``tilwani2025_consistent_narrow`` (all nine
parameters) rests at a drive of 15 /s until a pulse arrives. SALib draws the Saltelli design and
analyses every sample by itself. The figure shows what the design and the resamples cost.
"""

from __future__ import annotations

import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks import command, machine
from nmm_infer import _threads
from nmm_infer.campaign import run
from nmm_infer.scenarios import ColumnTask
from nmm_infer.sensitivity import SensitivityDesign, survey
from nmm_infer.sensitivity.outputs import choose_outputs
from nmm_infer.sensitivity.tasks import OutputTask
from nmm_infer.simulation import Clock
from nmm_infer.study import Study

__all__ = ["build_task", "draw", "measure", "table"]

SAMPLES, SIZE, RESAMPLES = 300, 2**14, 20
TARGET = 90.0


def build_task(samples: int = SAMPLES) -> ColumnTask:
    """Return the column and its times: samples at 500 Hz from -.1 s on."""
    preset = Study.preset("tilwani2025_consistent_narrow")
    fixed = {"distribution": "fixed", "low": 15.0}
    study = preset.replace(prior={**preset.model_dump()["prior"], "drive": fixed})
    return ColumnTask(
        model="jansen_rit",
        prior=study.build_prior(),
        clock=Clock(-0.1, -0.1 + 2e-3 * (samples - 1), 1e-3, every=2, settle=0.0),
        region="column",
        stratum="all",
    )


def measure(quick: bool, repeats: int) -> dict[str, Any]:
    """Time the whole survey, and the simulations alone."""
    samples, size = (60, 64) if quick else (SAMPLES, SIZE)
    task = build_task(samples)
    survey(build_task(), n=32, resamples=2, at=[0.1])  # compiles
    rows = []
    for n in sorted({max(size // 16, 32), max(size // 4, 32), size}):
        whole, simulation = [], []
        for _ in range(repeats if n == size else 1):
            begin = time.perf_counter()
            design = SensitivityDesign(task.prior.select(_names(task)), "sobol", n, held=task.prior)
            run(OutputTask(task, choose_outputs("samples", task), "samples"), design)
            simulation.append(time.perf_counter() - begin)
            begin = time.perf_counter()
            found = survey(task, n=n, resamples=RESAMPLES)
            whole.append(time.perf_counter() - begin)
        assert found["ST"].shape == (samples, 9)
        rows.append(
            {
                "parameters": 9,
                "samples": samples,
                "n": n,
                "resamples": RESAMPLES,
                "runs": len(design),
                "seconds": float(np.median(whole)),
                "range": [min(whole), max(whole)],
                "simulation_seconds": float(np.median(simulation)),
                "largest_half_width": float(found["ST_conf"].max()),
                "target": TARGET if n == SIZE and samples == SAMPLES else None,
                "repeats": len(whole),
            }
        )
    return {
        "command": "python -m benchmarks.sensitivity",
        "seed": 0,
        "threads": _threads.n_threads(),
        "machine": machine.describe(),
        "versions": {k: version(k) for k in ("nmm-infer", "SALib", "numpy", "numba")},
        "rows": rows,
    }


def _names(task: ColumnTask) -> list[str]:
    return [
        p.name
        for p in task.prior.parameters
        if p.distribution != "fixed" and p.name in task.declaration.defaults
    ]


def draw(record: dict[str, Any], path: Path) -> None:
    """Draw time against the size of the design."""
    rows = record["rows"]
    n = [row["n"] for row in rows]
    figure = Figure(figsize=(6.0, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.plot(n, [row["seconds"] for row in rows], "o-", color="#1f6feb", label="whole survey")
    axes.plot(
        n, [row["simulation_seconds"] for row in rows], "o-", color="#e8a33d",
        label="design and simulation",
    )  # fmt: skip
    if any(row["target"] for row in rows):
        axes.axhline(TARGET, color="#d9480f", lw=1, ls=":")
        axes.text(n[0], TARGET * 1.08, "target", color="#d9480f", fontsize=9)
    axes.set(
        xscale="log", yscale="log", xlabel="base points $N$ (each $p + 2$ runs)", ylabel="time [s]",
        title=f"{rows[0]['samples']} samples, {rows[0]['parameters']} parameters, "
        f"{rows[0]['resamples']} resamples",
    )  # fmt: skip
    axes.set_xticks(n, [f"{value:,}" for value in n], minor=False)
    axes.minorticks_off()
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path)


def table(record: dict[str, Any]) -> str:
    """Return the timings as Markdown."""
    lines = [
        "| parameters | samples | N | runs | resamples | s (range) | of it simulation, s | largest "
        "half width of ST |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in record["rows"]:
        low, high = row["range"]
        lines.append(
            f"| {row['parameters']} | {row['samples']} | {row['n']:,} | {row['runs']:,} "
            f"| {row['resamples']} | {row['seconds']:.3g} ({low:.3g} to {high:.3g}) "
            f"| {row['simulation_seconds']:.2g} | {row['largest_half_width']:.2g} |"
        )
    lines += ["", f"{record['machine']['processor']}, {record['threads']} threads."]
    return "\n".join(lines)


if __name__ == "__main__":
    command.main(__doc__, measure, draw, table)

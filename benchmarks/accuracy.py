"""Measure what accuracy costs: schemes and steps against a fine reference.

python -m benchmarks.accuracy --output benchmarks/results/accuracy.json --figure accuracy.svg
python -m benchmarks.accuracy --table benchmarks/results/accuracy.json

Evoked responses of single columns with random parameters, without noise. The error of a
column is the root mean square of the difference from the reference over time, relative to the same
of the reference's deviation from rest; told are its median and 90 % quantile over columns. The
reference is Runge-Kutta's scheme in float64 at 1/64 ms.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.campaigns import ONSET, PRIOR
from benchmarks.command import main
from benchmarks.machine import describe
from nmm_infer import _threads
from nmm_infer.inference import versions
from nmm_infer.models import get_model
from nmm_infer.simulation import Clock, Volley, integrate

__all__ = ["draw", "measure", "table"]

SCHEMES = ("euler", "heun", "rk4")
PRECISIONS = ("float32", "float64")
SAMPLE = 4e-3  # s
PARTS = (2, 4, 8, 16, 32)  # steps to a sample: 2 ms to 1/8 ms
REFERENCE = 256


def _run(every: int, scheme: Any, dtype: Any, theta: NDArray[np.float64]) -> NDArray[Any]:
    clock = Clock(0.0, 0.6, step=SAMPLE / every, every=every, settle=0.0, antialias=False)
    values = dict(zip(PRIOR.names, theta.T[:, :, None], strict=True))
    drive = values.pop("drive")
    result = integrate(
        get_model("jansen_rit"), clock, constants=values, drive=drive, scheme=scheme, dtype=dtype,
        stimuli=[Volley(onset=ONSET, amplitude=150.0)], batch=len(theta),
    )  # fmt: skip
    return result.outputs["potential"][:, 0]


def measure(quick: bool = False, repeats: int = 3) -> dict[str, Any]:
    """Measure all schemes, steps and precisions on one thread.

    Parameters
    ----------
    quick : bool
        Whether to measure next to nothing, to see that everything works.
    repeats : int
        Runs of each, after one that compiles.

    Returns
    -------
    dict
        ``rows``, and what they were measured on.
    """
    columns = 16 if quick else 1024
    theta = PRIOR.sample(columns, seed=0).values
    with _threads.using(1):
        reference = _run(64 if quick else REFERENCE, "rk4", "float64", theta)
        size = np.sqrt(((reference - reference[:, :1]) ** 2).mean(axis=1))
        rows = []
        for scheme in SCHEMES:
            for every in PARTS[1:3] if quick else PARTS:
                for dtype in PRECISIONS:
                    result = _run(every, scheme, dtype, theta)
                    seconds = []
                    for _ in range(repeats):
                        begin = time.process_time()
                        _run(every, scheme, dtype, theta)
                        seconds.append(time.process_time() - begin)
                    error = np.sqrt(((result - reference) ** 2).mean(axis=1)) / size
                    rows.append(
                        {
                            "scheme": scheme, "precision": dtype, "step": SAMPLE / every,
                            "error": float(np.median(error)),
                            "error_90": float(np.quantile(error, 0.9)),
                            "seconds_per_column": float(np.median(seconds)) / columns,
                        }
                    )  # fmt: skip
    return {
        "command": "python -m benchmarks.accuracy",
        "units": {"step": "s", "seconds_per_column": "s of CPU time for .6 s of one column"},
        "machine": describe(),
        "versions": versions(),
        "columns": columns,
        "threads": 1,
        "quick": quick,
        "rows": rows,
    }


def table(record: dict[str, Any]) -> str:
    """Return the float32 rows as Markdown."""
    lines = [
        "| scheme | step, ms | relative error | 90 % of columns below | µs per column |",
        "|---|---:|---:|---:|---:|",
    ]
    for row in record["rows"]:
        if row["precision"] == "float32":
            lines.append(
                f"| {row['scheme']} | {row['step'] * 1e3:g} | {row['error']:.1e} "
                f"| {row['error_90']:.1e} "
                f"| {row['seconds_per_column'] * 1e6:.3g} |"
            )
    return "\n".join(lines)


_COLOURS = dict(zip(SCHEMES, ("#cc6677", "#4477aa", "#228833"), strict=True))
_NAMES = {"euler": "Euler", "heun": "Heun", "rk4": "Runge-Kutta 4"}


def draw(record: dict[str, Any], path: Path) -> None:
    """Draw error against cost, and against the step."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.6), layout="constrained")
    by_cost, by_step = figure.subplots(1, 2, sharey=True)
    for scheme in SCHEMES:
        for dtype in PRECISIONS:
            rows = [r for r in record["rows"] if (r["scheme"], r["precision"]) == (scheme, dtype)]
            style = {
                "color": _COLOURS[scheme], "ls": "-" if dtype == "float32" else ":", "ms": 4,
                "marker": "o" if dtype == "float32" else "x", "label": f"{_NAMES[scheme]}, {dtype}",
            }  # fmt: skip
            error = [r["error"] for r in rows]
            by_cost.plot([r["seconds_per_column"] * 1e6 for r in rows], error, **style)
            by_step.plot([r["step"] * 1e3 for r in rows], error, **style)
    by_cost.set(
        xscale="log", yscale="log", xlabel="CPU time per column, µs", ylabel="relative error"
    )
    by_step.set(xscale="log", xlabel="step, ms")
    steps = sorted({r["step"] * 1e3 for r in record["rows"]})
    by_step.set_xticks(steps, [f"{s:g}" for s in steps])
    by_step.minorticks_off()
    by_step.legend(fontsize=7, frameon=False)
    for axes in (by_cost, by_step):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3, lw=0.5)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main(__doc__, measure, draw, table)

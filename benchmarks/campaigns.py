"""Time a million evoked responses of one column: features in memory, time series in a store."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nmm_infer import _threads
from nmm_infer.campaign import PriorDesign, Variable, run
from nmm_infer.models import get_model
from nmm_infer.parameters import Parameter, Prior
from nmm_infer.simulation import Clock, Volley, integrate

__all__ = ["Evoked", "measure", "table"]

CLOCK = Clock(0.0, 1.0, step=1e-3, every=4, settle=0.1)
ONSET = 0.1
FEATURES = ("peak", "trough", "latency", "area")
PRIOR = Prior(
    [
        Parameter("A", "mV", "uniform", 2.6, 4.5),
        Parameter("B", "mV", "uniform", 17.6, 30.0),
        Parameter("a", "1/s", "uniform", 80.0, 120.0),
        Parameter("b", "1/s", "uniform", 40.0, 60.0),
        Parameter("C", "1", "uniform", 100.0, 160.0),
        Parameter("drive", "1/s", "uniform", 0.0, 80.0),
    ]
)
TARGETS = {"features in memory": 10.0, "time series at 250 Hz in a Zarr store": 20.0}


@dataclass(frozen=True)
class Evoked:
    """Evoked responses of one column; a task of :mod:`nmm_infer.campaign`.

    Parameters
    ----------
    series : bool
        Whether to keep the time series rather than features of them.
    """

    series: bool

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What the results depend on."""
        return {"task": "evoked response of one column", "series": self.series}

    @property
    def coords(self) -> dict[str, Any]:
        """Times or names of features."""
        if self.series:
            return {"time": ("time", CLOCK.sample_times, {"units": "s"})}
        return {"feature": ("feature", list(FEATURES))}

    @property
    def variables(self) -> Mapping[str, Variable]:
        """The potential or its features."""
        return {"x": Variable(("time" if self.series else "feature",))}

    def simulate(self, theta: xr.DataArray, index: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """Run some parameter sets."""
        names = theta.coords["parameter"].values.tolist()
        values = dict(zip(names, theta.values.T[:, :, None], strict=True))
        drive = values.pop("drive")
        result = integrate(
            get_model("jansen_rit"), CLOCK, constants=values, drive=drive, index=index,
            stimuli=[Volley(onset=ONSET, amplitude=150.0)], record=("potential",),
        )  # fmt: skip
        potential = result.outputs["potential"][:, 0]
        return {"x": potential if self.series else features(potential)}


def features(potential: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return peak and trough [mV], latency of the peak [s] and area [mV s] against the baseline."""
    first = round(ONSET * CLOCK.sfreq)
    after = potential[:, first:] - potential[:, :first].mean(axis=1, keepdims=True)
    latest = after.argmax(axis=1)
    parts = after.max(axis=1), after.min(axis=1), latest / CLOCK.sfreq, after.sum(1) / CLOCK.sfreq
    return np.stack(parts, axis=1).astype(np.float32)


def _in_memory(n: int) -> None:
    result = run(Evoked(series=False), PriorDesign(PRIOR, n, seed=0))
    assert len(result.valid) == n


def _in_store(n: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        result = run(Evoked(series=True), PriorDesign(PRIOR, n, seed=0), Path(folder) / "runs.zarr")
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

"""Time and memory from a montage to sensors and back: heads, projection, windows, inverses.

    python -m benchmarks.forward --output benchmarks/results/forward.json
    python -m benchmarks.forward --table benchmarks/results/forward.json

Every step runs in a process of its own, on all cores; the time of its imports is not counted. Heads
are made from an empty cache, and again in a new process from what is then in it. Memory is the
largest resident size of the process, imports and all.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import mne
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from benchmarks.command import main
from benchmarks.machine import describe
from nmm_infer.anatomy import template_head
from nmm_infer.anatomy.sensors import reference
from nmm_infer.demonstration import CHANNELS

HEADS: dict[str, dict[str, Any]] = {
    "cortex, 68 regions": {"sources": "cortex"},
    "cortex, 999 parcels": {"sources": "parcels"},
    "cortex and structures below it": {"sources": "cortex+subcortex"},
    "volume, 12 mm": {"sources": "volume", "spacing": 12.0},
    "volume, 10 mm": {"sources": "volume", "spacing": 10.0},
    "volume, 7 mm": {"sources": "volume", "spacing": 7.0},
}
MEG = {"cortex, Neuromag 306": "neuromag", "cortex, CTF 275": "ctf275"}
SFREQ = 500.0


def eeg() -> mne.Info:
    info = mne.create_info(list(CHANNELS), SFREQ, "eeg", verbose="error")
    return info.set_montage("fsaverage_1005", verbose="error")


def head(name: str, cache: str) -> float:
    """Seconds to make one head and its lead field."""
    info = mne.channels.read_meg_canonical_info(MEG[name]) if name in MEG else eeg()
    options = HEADS.get(name, {"sources": "cortex"})
    begin = time.perf_counter()
    _ = template_head(info, cache_dir=cache, **options).leadfield
    return time.perf_counter() - begin


def project(windows: int, cache: str) -> float:
    """Seconds to carry windows of 68 regions and 500 samples to 64 channels."""
    made = template_head(eeg(), cache_dir=cache)
    rng = np.random.default_rng(0)
    values = rng.standard_normal((windows, 68, 500), dtype=np.float32)
    moments = xr.DataArray(
        values, dims=("window", "region", "time"), coords={"region": made.regions}
    )
    made.project(moments[:10])
    begin = time.perf_counter()
    result = made.project(moments)
    seconds = time.perf_counter() - begin
    assert result.shape == (windows, 64, 500) and result.dtype == np.float32
    return seconds


def stream(windows: int, cache: str) -> float:
    """Seconds to make windows of patches with noise, 64 channels and 500 samples, in batches."""
    from nmm_infer.campaign import run
    from nmm_infer.observation.noise import power_law_noise
    from nmm_infer.scenarios import Bank, Patches, WaveformTask, Windows

    task = WaveformTask("spike", seed=0, stream="training", sfreq=SFREQ)
    bank = Bank(run(task, task.design(2000)))
    info = eeg()
    noise = power_law_noise(info, 1e-6, 500, SFREQ, (0.5, 100.0))
    made = Windows(
        template_head(info, cache_dir=cache), Patches(), bank, noise, (0.0, 20.0), reference(info),
        n_times=500,
    )  # fmt: skip
    for _ in made.batches(128, stop=256):
        pass
    begin = time.perf_counter()
    for _ in made.batches(128, stop=windows):
        pass
    return time.perf_counter() - begin


def kernel(method: str, cache: str) -> float:
    """Seconds to find the kernel of 64 channels and 4,611 vertices in tensor form."""
    import torch

    from nmm_infer.inverse.tensor import lcmv, minimum_norm

    made, operator = template_head(eeg(), cache_dir=cache), reference(eeg())
    gain = torch.from_numpy(operator(made.gain).values * 1e9)
    noise = torch.from_numpy(operator.covariance(np.eye(64)))
    if method == "LCMV, 100 covariances":
        regions = torch.from_numpy(operator(made.leadfield).values * 1e9)
        data = torch.randn(100, 64, 200, dtype=torch.float64)
        data = (data - data.mean(1, keepdim=True)) @ data.mT

        def once() -> Any:
            return lcmv(regions, noise + noise @ data @ noise / 200, noise)
    else:

        def once() -> Any:
            return minimum_norm(gain, noise, 1 / 9, method)

    once()
    begin = time.perf_counter()
    once()
    return time.perf_counter() - begin


STEPS: dict[str, Callable[..., float]] = {
    "head": head,
    "project": project,
    "stream": stream,
    "kernel": kernel,
}


def apart(step: str, argument: Any, cache: str) -> dict[str, float]:
    """Run one step in a new process; seconds and megabytes."""
    code = "from benchmarks.forward import report; report()"
    result = subprocess.run(
        [sys.executable, "-c", code, step, json.dumps(argument), cache],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if result.returncode:
        raise RuntimeError(f"{step} {argument}: {result.stderr.strip().splitlines()[-1:]}")
    return json.loads(result.stdout.splitlines()[-1])


def report() -> None:
    """Do what the command line names, and print what it took."""
    step, argument, cache = sys.argv[1:]
    seconds = STEPS[step](json.loads(argument), cache)
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "megabytes": megabytes}))


def spread(runs: list[dict[str, float]]) -> dict[str, Any]:
    seconds = sorted(run["seconds"] for run in runs)
    return {
        "seconds": float(np.median(seconds)),
        "range": [seconds[0], seconds[-1]],
        "megabytes": max(run["megabytes"] for run in runs),
    }


def measure(quick: bool, repeats: int) -> dict[str, Any]:
    from nmm_infer.inference import versions

    repeats = 1 if quick else repeats
    names = [*HEADS, *MEG][: 1 if quick else None]
    record: dict[str, Any] = {
        "command": "python -m benchmarks.forward",
        "machine": describe(),
        "versions": versions(),
        "repeats": repeats,
        "heads": {},
        "steps": {},
    }
    with tempfile.TemporaryDirectory() as shared:
        for name in names:
            fresh, again = [], []
            for _ in range(repeats):
                with tempfile.TemporaryDirectory() as cache:
                    fresh.append(apart("head", name, cache))
                    again.append(apart("head", name, cache))
            record["heads"][name] = {"nothing": spread(fresh), "cache": spread(again)}
        apart("head", names[0], shared)
        windows, count = (100, 300) if quick else (10_000, 100_000)
        steps: dict[str, tuple[str, Any]] = {
            f"{windows:,} windows of 68 regions to 64 channels": ("project", windows),
            f"{count:,} windows of patches, waveforms and noise": ("stream", count),
        }
        for method in ("MNE", "dSPM", "sLORETA", "eLORETA"):
            steps[f"{method} kernel, 64 channels, 4,611 vertices"] = ("kernel", method)
        steps["LCMV kernels, 100 covariances, 68 regions"] = ("kernel", "LCMV, 100 covariances")
        for label, (step, argument) in steps.items():
            runs = [
                apart(step, argument, shared) for _ in range(1 if step == "stream" else repeats)
            ]
            record["steps"][label] = spread(runs)
    return record


def table(record: dict[str, Any]) -> str:
    """Return the record as Markdown."""
    rows = ["| head (64 electrodes where not said) | from nothing, s | from the cache, s | MB |"]
    rows.append("|---|---|---|---|")
    for name, entry in record["heads"].items():
        rows.append(
            f"| {name} | {_seconds(entry['nothing'])} | {_seconds(entry['cache'])} "
            f"| {entry['nothing']['megabytes']:.0f} |"
        )
    rows += ["", "| step | s | MB |", "|---|---|---|"]
    for name, entry in record["steps"].items():
        rows.append(f"| {name} | {_seconds(entry)} | {entry['megabytes']:.0f} |")
    return "\n".join(rows)


def _seconds(entry: dict[str, Any]) -> str:
    low, high = (f"{value:.3g}" for value in entry["range"])
    spread = "once" if entry["range"][0] == entry["range"][1] else f"{low} to {high}"
    return f"{entry['seconds']:.3g} ({spread})"


def draw(record: dict[str, Any], path: Path) -> None:
    """Draw the time of every head, from nothing and from the cache."""
    with mpl.rc_context({"font.size": 10, "svg.hashsalt": "nmm_infer"}):
        figure = Figure(figsize=(8, 3.2), layout="constrained")
        axes = figure.subplots()
        rows = np.arange(len(record["heads"]))
        for shift, key, colour in ((-0.2, "nothing", "#d9480f"), (0.2, "cache", "#1f6feb")):
            values = [entry[key]["seconds"] for entry in record["heads"].values()]
            axes.barh(rows + shift, values, 0.38, color=colour, label=f"from {key}")
        axes.set_yticks(rows, list(record["heads"]))
        axes.invert_yaxis()
        axes.set(xscale="log", xlabel="time [s]")
        axes.legend(frameon=False)
        figure.savefig(path)


if __name__ == "__main__":
    main(__doc__, measure, draw, table)

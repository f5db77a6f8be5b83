"""Measure the cost of a simulation against its size, and how near it comes to the machine's limits.

python -m benchmarks.roofline --output benchmarks/results/roofline.json --figure roofline.svg
python -m benchmarks.roofline --table benchmarks/results/roofline.json

One thread; CPU time of whole calls of :func:`nmm_infer.simulation.integrate`. How operations and
bytes are counted stands in :mod:`benchmarks.operations`, how the limits are measured in
:mod:`benchmarks.roof`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import roof
from benchmarks.command import main
from benchmarks.machine import cache_bytes, describe
from benchmarks.operations import work
from nmm_infer import _threads
from nmm_infer.inference import versions
from nmm_infer.models import get_model
from nmm_infer.simulation import Clock, Connection, Network, integrate
from nmm_infer.simulation._lanes import LANES

__all__ = ["draw", "measure", "table"]

KINDS = ("no delays", "delays", "delays of each simulation's own")
SPEED = 5.0  # m/s
LONGEST = 150.0  # mm
RATE = 250.0  # samples per second


@dataclass(frozen=True)
class Point:
    """One size of a simulation: columns, edges that arrive at each, batch, step in s."""

    series: str
    kind: str
    nodes: int = 100
    edges: int = 20
    batch: int = 0
    step: float = 5e-4


def points(quick: bool) -> Iterator[Point]:
    """Return what is measured."""
    if quick:
        yield Point("nodes", "delays", nodes=4, edges=2, batch=16)
        yield Point("edges", "no delays", nodes=4, edges=0, batch=16)
        return
    for kind in KINDS:
        for nodes in (1, 10, 30, 100, 300, 1000):
            yield Point("nodes", kind, nodes=nodes, edges=min(20, nodes - 1))
        for edges in (0, 3, 10, 30, 99):
            yield Point("edges", kind, edges=edges)
    for batch in (1, 4, 16, 64, 256):
        yield Point("batch", "delays", batch=batch)
    for step in (1e-4, 2.5e-4, 5e-4, 1e-3):
        yield Point("step", "delays", step=step)


def _network(point: Point, rng: np.random.Generator) -> Network:
    """Return random connections, the same number for every column."""
    weights, lengths = np.zeros((2, point.nodes, point.nodes))
    for i in range(point.nodes):
        others = np.delete(np.arange(point.nodes), i)
        chosen = rng.choice(others, point.edges, replace=False)
        weights[i, chosen] = 1.0 / max(point.edges, 1)
        lengths[i, chosen] = rng.uniform(10.0, LONGEST, point.edges)
    if not point.edges:
        return Network(nodes=point.nodes)
    return Network([Connection(weights, None if point.kind == KINDS[0] else lengths)])


def _seconds(call: Any, repeats: int) -> list[float]:
    call()
    found = []
    for _ in range(repeats):
        begin = time.process_time()
        call()
        found.append(time.process_time() - begin)
    return sorted(found)


def _measure(point: Point, repeats: int, limits: dict[str, float], quick: bool) -> dict[str, Any]:
    steps = 100 if quick else 1000
    batch = point.batch or int(np.clip(3e6 / (point.nodes * steps), 2 * LANES, 2048))
    every = max(round(1 / RATE / point.step), 1)
    clock = Clock(0.0, steps * point.step, step=point.step, every=every, settle=0.0)
    network = _network(point, np.random.default_rng(1))
    speed = np.linspace(2.0, 8.0, batch) if point.kind == KINDS[2] else SPEED
    model = get_model("jansen_rit")

    def call() -> None:
        integrate(
            model, clock, network=network, drive=120.0, noise=2.0, strength=10.0, speed=speed,
            batch=batch,
        )  # fmt: skip

    seconds = _seconds(call, repeats)
    # What the filter needs before and after is work too.
    node_steps = batch * point.nodes * clock.n_steps
    slowest = 2.0 if np.ndim(speed) else SPEED
    slots = round(LONGEST * 1e-3 / slowest / point.step) + 1 if network.delayed else 0
    load = work(
        model, edges=point.edges, slots=slots, noisy=True, shared_delays=np.ndim(speed) == 0,
        taps=clock.taps.shape[0], every=every,
    )  # fmt: skip
    near, far = (_level(LANES * point.nodes * held) for held in load.held)
    wait = (load.columns + load.lists) / limits[near] + load.values / limits[far]
    rate = node_steps / float(np.median(seconds))
    return {
        **asdict(point), "batch": batch, "steps": clock.n_steps, "seconds": seconds,
        "node_steps_per_second": rate, "operations_per_node_step": load.operations,
        "bytes_per_node_step": load.bytes, "operations_per_second": rate * load.operations,
        "columns_in": near, "values_in": far if point.edges else None,
        "fraction_of_peak": rate * load.operations / limits["operations"],
        "fraction_of_roof": rate * max(load.operations / limits["operations"], wait),
    }  # fmt: skip


def _level(size: float) -> str:
    """Return the smallest cache that holds so many bytes."""
    return next((name for name, whole in sorted(cache_bytes().items()) if size <= whole), "memory")


def measure(quick: bool = False, repeats: int = 3) -> dict[str, Any]:
    """Measure the limits and all points.

    Parameters
    ----------
    quick : bool
        Whether to measure next to nothing, to see that everything works.
    repeats : int
        Runs of each point, after one that compiles.

    Returns
    -------
    dict
        ``limits`` of one core, ``points``, and what they were measured on.
    """
    with _threads.using(1):
        limits = {"operations": roof.peak_operations(quick), **roof.read_rates(quick)}
        rows = [_measure(point, repeats, limits, quick) for point in points(quick)]
    return {
        "command": "python -m benchmarks.roofline",
        "units": {
            "limits": "floating-point operations or bytes per second, one core",
            "seconds": "s of CPU time",
            "step": "s",
        },
        "machine": describe(),
        "versions": versions(),
        "threads": 1,
        "precision": "float32",
        "quick": quick,
        "limits": limits,
        "points": rows,
    }


def table(record: dict[str, Any]) -> str:
    """Return the points as Markdown."""
    lines = [
        "| columns | edges | delays | batch | step, ms | million node-steps/s | operations | bytes "
        "| columns in | values in | of peak | of roof |",
        "|---:|---:|---|---:|---:|---:|---:|---:|---|---|---:|---:|",
    ]
    for p in record["points"]:
        lines.append(
            f"| {p['nodes']} | {p['edges']} | {p['kind']} | {p['batch']} | {p['step'] * 1e3:g} "
            f"| {p['node_steps_per_second'] / 1e6:.3g} | {p['operations_per_node_step']:.0f} "
            f"| {p['bytes_per_node_step']:.0f} | {p['columns_in']} | {p['values_in'] or ''} "
            f"| {p['fraction_of_peak']:.0%} "
            f"| {p['fraction_of_roof']:.0%} |"
        )
    limits = record["limits"]
    reads = ", ".join(f"{n} {limits[n] / 1e9:.0f}" for n in ("L1", "L2", "L3", "memory"))
    machine = record["machine"]
    return "\n".join(
        [
            *lines,
            "",
            f"{machine['processor']}, one core: {limits['operations'] / 1e9:.0f} billion "
            f"floating-point operations per second in multiply-adds; GB/s read: {reads}.",
        ]
    )


_COLOURS = dict(zip(KINDS, ("#4477aa", "#228833", "#cc6677"), strict=True))
_MARKERS = {"nodes": "o", "edges": "s", "batch": "^", "step": "D"}
_AXES = {
    "nodes": ("columns, 20 edges each", "nodes"),
    "edges": ("edges to a column, 100 columns", "edges"),
    "batch": ("simulations at a time", "batch"),
    "step": ("step, ms", "step"),
}


def draw(record: dict[str, Any], path: Path) -> None:
    """Draw the points under the roofs, and the rates against each size."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1.15, 1))
    _draw_roof(left.subplots(), record)
    for axes, series in zip(right.subplots(2, 2).flat, _AXES, strict=True):
        _draw_series(axes, record, series)
    machine = record["machine"]
    figure.suptitle(f"{machine['processor']}, one core, float32", fontsize=9)
    figure.savefig(path, dpi=150)


def _draw_roof(axes: Any, record: dict[str, Any]) -> None:
    limits = record["limits"]
    peak = limits["operations"] / 1e9
    x = np.geomspace(0.1, 10, 200)
    for name in ("L1", "L2", "L3", "memory"):
        slope = limits[name] / 1e9
        axes.plot(x, np.minimum(slope * x, peak), color="0.6", lw=1, zorder=1)
        axes.text(
            0.115, slope * 0.13, f"{name} {slope:.0f} GB/s", fontsize=7, color="0.4",
            rotation=np.degrees(np.arctan(slope)), rotation_mode="anchor",
            transform_rotates_text=True,
        )  # fmt: skip
    axes.text(
        9.5, peak * 1.05, f"{peak:.0f} billion operations/s", ha="right", fontsize=7, color="0.4"
    )
    for kind, colour in _COLOURS.items():
        for series in ("nodes", "edges"):
            rows = [p for p in record["points"] if (p["series"], p["kind"]) == (series, kind)]
            if rows:
                axes.plot(
                    [p["operations_per_node_step"] / p["bytes_per_node_step"] for p in rows],
                    [p["operations_per_second"] / 1e9 for p in rows],
                    _MARKERS[series], color=colour, ms=5, mec="white", mew=0.5,
                    label=f"{kind}, {'columns' if series == 'nodes' else 'edges'} vary",
                )  # fmt: skip
    axes.set(
        xscale="log", yscale="log", xlabel="operations per byte",
        ylabel="billion floating-point operations per second", xlim=(0.1, 10), ylim=(1, peak * 1.6),
    )  # fmt: skip
    axes.legend(fontsize=7, loc="lower right", frameon=False)
    _tidy(axes)


def _draw_series(axes: Any, record: dict[str, Any], series: str) -> None:
    label, name = _AXES[series]
    scale = 1e3 if name == "step" else 1.0
    for kind, colour in _COLOURS.items():
        rows = [p for p in record["points"] if (p["series"], p["kind"]) == (series, kind)]
        if rows:
            axes.plot(
                [p[name] * scale for p in rows], [p["node_steps_per_second"] / 1e6 for p in rows],
                marker=_MARKERS[series], color=colour, ms=4, lw=1,
            )  # fmt: skip
    rates = [p["node_steps_per_second"] for p in record["points"] if p["series"] == series]
    axes.set(xlabel=label, ylim=(0, 1.08e-6 * max(rates, default=1e6)))
    if name == "edges":
        axes.set_xscale("symlog", linthresh=1)
        axes.set_xlim(-0.2, None)
    else:
        axes.set_xscale("log")
    ticks = sorted({p[name] * scale for p in record["points"] if p["series"] == series})
    axes.set_xticks(ticks, [f"{t:g}" for t in ticks], fontsize=7)
    axes.minorticks_off()
    axes.set_ylabel("million node-steps/s", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.xaxis.label.set_size(8)
    _tidy(axes)


def _tidy(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    main(__doc__, measure, draw, table)

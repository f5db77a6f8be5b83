"""Compare the simulator with other tools, and time a million evoked responses.

python -m benchmarks.simulators --output benchmarks/results/simulators.json
python -m benchmarks.simulators --table benchmarks/results/simulators.json

The other tools are in the extra ``peers``; ``--python`` names an interpreter that has them where
this one has not. Every tool runs in a process of its own. Rates are node-steps per second: columns
times integration steps, divided by the time of a call that has been compiled before. Ours and
theirs take turns, and a speedup is the median of the ratios of neighbouring runs.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import campaigns
from benchmarks.machine import cores, describe
from benchmarks.peers import PEERS, Case
from benchmarks.worker import MissingToolError, Tool
from nmm_infer.anatomy import read_connectome, row_normalised
from nmm_infer.inference import versions
from nmm_infer.models import get_model

__all__ = ["measure", "table"]

OWN = "nmm_infer"


@dataclass(frozen=True)
class Size:
    """How much one run simulates."""

    simulations: int
    seconds: float


@dataclass(frozen=True)
class Rival:
    """What ours is compared with: another tool, or our own under other conditions."""

    tool: str
    size: Size
    what: str = ""
    change: dict[str, Any] = field(default_factory=dict)
    target: float | None = None


@dataclass(frozen=True)
class Comparison:
    """One case: ours, and everything that is compared with it."""

    name: str
    case: Case
    ours: Size
    rivals: tuple[Rival, ...]


def network(delays: bool, threads: int) -> Case:
    """Return the case of tvb-data's 76 regions, with weights that sum to 1 for each target.

    The self-connections of the file are kept; their length is zero.
    """
    connectome = read_connectome(files("tvb_data") / "connectivity" / "connectivity_76.zip")
    model = get_model("jansen_rit")
    parameters = {c.name: float(c.default) for c in model.constants}
    drive = Case.drive
    rest = model.equilibrium(
        {"pyramidal": np.array([drive]), "interneurons": np.zeros(1)},
        {name: np.array([value]) for name, value in parameters.items()},
    )
    return Case(
        weights=row_normalised(connectome["weights"].values).tolist(),
        lengths=connectome["tract_lengths"].values.tolist() if delays else None,
        parameters=parameters,
        initial=rest[:, 0].tolist(),
        drive=drive,
        threads=threads,
    )


def comparisons(quick: bool) -> Iterator[Comparison]:
    """Return the cases; the quick ones are too short to say anything."""
    many, length = (16, 0.02) if quick else (256, 1.0)
    ours, alone = Size(many, length), Size(1, length)
    theirs = Size(1, 0.02 if quick else 0.5)
    common = "76 columns, noise, Heun, 0.5 ms"
    yield Comparison(
        f"{common}, delays, one core",
        network(delays=True, threads=1),
        ours,
        (
            Rival("tvb", theirs, target=200.0),
            Rival(OWN, alone, "one simulation"),
            Rival(OWN, ours, "float64", {"options": {"dtype": "float64"}}),
            Rival(
                OWN, ours, "a conduction speed for every simulation",
                {"options": {"speeds": [2.0, 8.0]}},
            ),
        ),
    )  # fmt: skip
    yield Comparison(
        f"{common}, no delays, one core",
        network(delays=False, threads=1),
        ours,
        (Rival("vbi", theirs, target=20.0),),
    )
    yield Comparison(
        f"{common}, no delays, {cores()} cores",
        network(delays=False, threads=cores()),
        ours,
        (Rival("vbjax", Size(16, theirs.seconds), target=8.0),),
    )


def compare(
    comparison: Comparison, repeats: int, tools: tuple[str, ...], python: str
) -> list[dict]:
    """Measure one case; our own row comes first."""
    case = comparison.case
    with ExitStack() as stack:
        own = stack.enter_context(_tool(Rival(OWN, comparison.ours), case, python))
        rows = []
        for rival in comparison.rivals:
            if rival.tool not in (OWN, *tools):
                continue
            row = {"case": comparison.name, "tool": rival.tool, "what": rival.what}
            if rival.target is not None:
                row["target"] = rival.target
            try:
                with _tool(rival, case, python) as other:
                    row |= _about(other) | _duel(own, other, repeats)
                    if rival.tool != OWN and repeats > 1:
                        row["agreement"] = _agreement(own, other)
            except MissingToolError:
                row |= {"note": "not installed", "node_steps_per_second": None, "speedup": None}
            rows.append(row)
        rates = [rate for row in rows for rate in row.get("own_rates", [])]
        rates = rates or [own.rate() for _ in range(repeats)]
        first = {
            "case": comparison.name, "tool": OWN, "what": "", **_about(own), "rates": rates,
            "node_steps_per_second": float(np.median(rates)), "speedup": None,
        }  # fmt: skip
    return [first, *rows]


def _tool(rival: Rival, case: Case, python: str) -> Tool:
    case = replace(case, **rival.change)
    size = rival.size
    if rival.tool == OWN:
        return Tool("own", "nmm-infer", case, size.simulations, size.seconds)
    return Tool(rival.tool, PEERS[rival.tool], case, size.simulations, size.seconds, python=python)


def _about(tool: Tool) -> dict[str, Any]:
    return {
        "version": tool.version,
        "precision": tool.precision,
        "threads": tool.case.threads,
        "simulations_at_a_time": tool.simulations,
        "simulated_seconds": tool.seconds,
    }


def _duel(own: Tool, other: Tool, repeats: int) -> dict[str, Any]:
    """Let two tools take turns."""
    pairs = [(own.rate(), other.rate()) for _ in range(repeats)]
    ratios = sorted(a / b for a, b in pairs)
    return {
        "node_steps_per_second": float(np.median([b for _, b in pairs])),
        "speedup": float(np.median(ratios)),
        "speedup_range": [ratios[0], ratios[-1]],
        "rates": [b for _, b in pairs],
        "own_rates": [a for a, _ in pairs],
    }


def _agreement(own: Tool, other: Tool) -> dict[str, Any]:
    """Tell how far two tools simulate the same."""
    ours, theirs = own.check(), other.check()
    gap = theirs["quiet"] - ours["quiet"]
    return {
        "relative_difference_without_noise": float(np.sqrt((gap**2).mean()) / ours["quiet"].std()),
        "mean_mV": [ours["mean"], theirs["mean"]],
        "standard_deviation_mV": [ours["sd"], theirs["sd"]],
    }


def measure(
    quick: bool = False,
    repeats: int = 5,
    tools: tuple[str, ...] = tuple(PEERS),
    python: str = sys.executable,
    runs: int = 1_000_000,
) -> dict[str, Any]:
    """Measure everything.

    Parameters
    ----------
    quick : bool
        Whether to simulate next to nothing, to see that everything works.
    repeats : int
        Pairs of runs.
    tools : tuple of str
        Other tools.
    python : str
        Interpreter that has them.
    runs : int
        Evoked responses of a campaign.

    Returns
    -------
    dict
        ``rows`` of the comparisons, ``campaigns``, and what they ran on.
    """
    rows = []
    for comparison in comparisons(quick):
        if any(rival.tool in (OWN, *tools) for rival in comparison.rivals):
            rows += compare(comparison, repeats, tools, python)
    return {
        "command": "python -m benchmarks.simulators",
        "units": {
            "node_steps_per_second": "columns x integration steps / s",
            "speedup": "rate of nmm_infer divided by the rate of the tool, both in this case",
            "seconds": "s",
        },
        "machine": describe(),
        "versions": versions(),
        "repeats": repeats,
        "quick": quick,
        "rows": rows,
        "campaigns": campaigns.measure(2_000 if quick else runs, repeats),
    }


def table(record: dict[str, Any]) -> str:
    """Return the comparisons as Markdown."""
    machine = record["machine"]
    lines = [
        "| case | tool | numbers | runs at a time | million node-steps/s "
        "| nmm_infer is faster by (range) |",
        "|---|---|---|---:|---:|---:|",
    ]
    previous = None
    for row in record["rows"]:
        case = "" if row["case"] == previous else row["case"]
        previous = row["case"]
        how = f"{row.get('precision', '')} | {row.get('simulations_at_a_time', '')}"
        lines.append(f"| {case} | {_label(row)} | {how} | {_rate(row)} | {_speedup(row)} |")
    lines += ["", campaigns.table(record["campaigns"])]
    lines += ["", f"{machine['processor']}, {machine['cores']} cores."]
    return "\n".join(lines)


def _label(row: dict[str, Any]) -> str:
    name = f"{row['tool']} {row['version']}" if "version" in row else row["tool"]
    return f"{name}, {row['what']}" if row["what"] else name


def _rate(row: dict[str, Any]) -> str:
    rate = row["node_steps_per_second"]
    return row["note"] if rate is None else f"{rate / 1e6:.3g}"


def _speedup(row: dict[str, Any]) -> str:
    if row["speedup"] is None:
        return ""
    low, high = row["speedup_range"]
    return f"{row['speedup']:.3g} ({low:.3g} to {high:.3g})"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, help="results file to write")
    parser.add_argument("--table", type=Path, help="results file to print")
    parser.add_argument("--quick", action="store_true", help="simulate next to nothing")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--tools", nargs="*", default=list(PEERS), choices=list(PEERS))
    parser.add_argument("--python", default=sys.executable, help="interpreter with the other tools")
    parser.add_argument("--runs", type=int, default=1_000_000, help="runs of a campaign")
    arguments = parser.parse_args()
    if arguments.table:
        print(table(json.loads(arguments.table.read_text())))
        return
    record = measure(
        arguments.quick, arguments.repeats, tuple(arguments.tools), arguments.python,
        arguments.runs,
    )  # fmt: skip
    if arguments.output:
        arguments.output.write_text(json.dumps(record, indent=1) + "\n")
    print(table(record))


if __name__ == "__main__":
    main()

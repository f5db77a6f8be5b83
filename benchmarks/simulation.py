"""Measure the speed of the simulation kernel.

python -m benchmarks.simulation --output benchmarks/results/simulation.json
python -m benchmarks.simulation --table benchmarks/results/simulation.json
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import numba
import numpy as np

from nmm_infer.anatomy import desikan_killiany_connectome, row_normalised
from nmm_infer.inference import versions
from nmm_infer.models import get_model
from nmm_infer.simulation import Clock, integrate, volley

CLOCK = Clock(0.0, 1.0, step=1e-3, every=4, settle=0.0)


def column(n: int, noise: float) -> None:
    """Integrate evoked responses of one column each."""
    gains = np.random.default_rng(0).uniform(2.6, 4.5, (n, 1))
    stimulus = volley(CLOCK.step_times, np.full(n, 0.05), np.full(n, 150.0))
    integrate(
        get_model("jansen_rit"), {"A": gains}, CLOCK, drive=15.0, noise=noise, stimulus=stimulus
    )


def network(n: int, noise: float) -> None:
    """Integrate coupled networks of 68 columns."""
    weights = row_normalised(desikan_killiany_connectome()["weights"]).values
    integrate(
        get_model("jansen_rit"), {}, CLOCK, drive=15.0, noise=noise, weights=weights, strength=10.0,
        batch=n,
    )  # fmt: skip


CASES = {
    "10,000 evoked responses of 1 s, one column": (lambda: column(10_000, 0.0), 10_000),
    "the same with noise": (lambda: column(10_000, 1.0), 10_000),
    "512 networks of 68 coupled columns with noise, 1 s": (lambda: network(512, 1.0), 512 * 68),
}


def measure(repeats: int) -> dict:
    """Time every case, after one run that compiles."""
    rows = []
    for name, (run, columns) in CASES.items():
        run()
        seconds = []
        for _ in range(repeats):
            begin = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - begin)
        rows.append(
            {
                "case": name,
                "seconds": sorted(seconds),
                "node_steps_per_second": columns * 1000 / float(np.median(seconds)),
            }
        )
    return {
        "command": "python -m benchmarks.simulation",
        "versions": versions(),
        "threads": numba.get_num_threads(),
        "cores": os.cpu_count(),
        "repeats": repeats,
        "rows": rows,
    }


def table(record: dict) -> str:
    """Return the record as Markdown."""
    rows = ["| case | median, s | range, s | column steps per second |", "|---|---|---|---|"]
    for row in record["rows"]:
        low, middle, high = row["seconds"][0], np.median(row["seconds"]), row["seconds"][-1]
        rows.append(
            f"| {row['case']} | {middle:.2f} | {low:.2f} to {high:.2f} "
            f"| {row['node_steps_per_second'] / 1e6:.0f} million |"
        )
    return "\n".join(rows)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path)
    parser.add_argument("--table", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    if arguments.table:
        print(table(json.loads(arguments.table.read_text())))
        return
    record = measure(arguments.repeats)
    if arguments.output:
        arguments.output.write_text(json.dumps(record, indent=1) + "\n")
    print(table(record))


if __name__ == "__main__":
    main()

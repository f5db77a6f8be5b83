"""How large an experiment is, and how it goes on after an interruption."""

from __future__ import annotations

import argparse
import json
import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from benchmarks.machine import describe
from nmm_infer._progress import show_progress
from nmm_infer.inference import versions

__all__ = ["Cells", "interval", "main", "plain", "provenance", "written"]


def plain(value: Any) -> Any:
    """Return numbers and arrays as JSON has them, rounded to five digits."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(f"{value:.5g}") if np.isfinite(value) else None
    return value


def written(record: dict[str, Any]) -> str:
    """Return a record as JSON, every list of numbers on one line."""
    text = json.dumps(record, indent=1)
    return re.sub(r"\[([^\[\]{}]*)\]", lambda m: f"[{' '.join(m[1].split())}]", text) + "\n"


def interval(values: Any) -> dict[str, float]:
    """Return the mean of independent values and its 95 % interval by Student's t."""
    from scipy import stats

    values = np.asarray(values, dtype=float)
    half = 0.0
    if len(values) > 1:
        half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return {"mean": values.mean(), "low": values.mean() - half, "high": values.mean() + half}


def provenance(name: str, scale: str, seed: int) -> dict[str, Any]:
    """Return what a results file says of its making."""
    return {
        "command": f"python -m experiments.{name} --scale {scale} --seed {seed}",
        "scale": scale,
        "seed": seed,
        "versions": versions(),
        "machine": describe(),
    }


class Cells:
    """Parts of an experiment that are kept as soon as they are done.

    Several processes may share a folder: each cell is computed by one of them.

    Parameters
    ----------
    folder : path
        Where; a cell that is there is not computed again.
    minutes : float, optional
        Time after which no cell is begun.
    """

    def __init__(self, folder: Path, minutes: float | None = None) -> None:
        self.folder = folder
        self.deadline = None if minutes is None else time.monotonic() + 60 * minutes
        self.missing: list[str] = []
        folder.mkdir(parents=True, exist_ok=True)

    def get(self, name: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return a cell, computed now or earlier, here or by another process."""
        return self._get(name, compute, wait=True)

    def _get(self, name: str, compute: Callable[[], dict[str, Any]], wait: bool) -> dict[str, Any]:
        path = self.folder / f"{name}.json"
        if not path.exists():
            with FileLock(path.with_suffix(".lock"), blocking=wait):
                if not path.exists():
                    aside = path.with_suffix(".tmp")
                    aside.write_text(json.dumps(plain(compute())))
                    os.replace(aside, path)
        return json.loads(path.read_text())

    @property
    def late(self) -> bool:
        """Whether there is no time left to begin anything."""
        return self.deadline is not None and time.monotonic() > self.deadline

    def find(self, name: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
        """Return a cell as :meth:`get` does.

        None where there is no time left to begin it, or where another process is at it.
        """
        if not self.late or (self.folder / f"{name}.json").exists():
            with suppress(Timeout):
                return self._get(name, compute, wait=False)
        self.missing.append(name)
        return None


def main(
    description: str,
    name: str,
    scales: dict[str, dict[str, Any]],
    measure: Callable[[dict[str, Any], int, Cells], dict[str, Any]],
    table: Callable[[dict[str, Any]], str],
    draw: Callable[[dict[str, Any], Path], None] | None = None,
) -> None:
    """Run the command line of an experiment."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scale", choices=list(scales), default="smoke")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="results file to write")
    parser.add_argument("--figure", type=Path, help="figure to draw")
    parser.add_argument("--table", type=Path, help="results file to print (and draw)")
    parser.add_argument(
        "--cells", type=Path, help="folder of finished parts, to go on from (out/NAME-SCALE-SEED)"
    )
    parser.add_argument(
        "--minutes", type=float, help="begin no further part after so long; the file names those"
    )
    arguments = parser.parse_args()
    for path in (arguments.output, arguments.figure):
        if path is not None and not path.absolute().parent.is_dir():
            parser.error(f"{path}: no such folder")
    if arguments.table and not arguments.table.is_file():
        parser.error(f"{arguments.table}: no such file")
    if arguments.table:
        try:
            record = json.loads(arguments.table.read_text())
            ours = f"experiments.{name} " in record["command"]
        except (ValueError, LookupError, TypeError):
            ours = False
        if not ours:
            parser.error(f"{arguments.table}: not a results file of experiments.{name}")
    else:
        folder = arguments.cells or Path("out") / f"{name}-{arguments.scale}-{arguments.seed}"
        with show_progress():
            cells = Cells(folder, arguments.minutes)
            record = measure(scales[arguments.scale], arguments.seed, cells)
        if cells.missing and not any(cells.folder.glob("*.json")):
            parser.exit(1, "no part is done yet\n")
        record = plain({**provenance(name, arguments.scale, arguments.seed), **record})
        record["missing"] = cells.missing
    if arguments.output:
        arguments.output.write_text(written(record))
    if arguments.figure and draw is not None:
        draw(record, arguments.figure)
    print(table(record))

"""The command line of a benchmark that has a results file, a figure and a table."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["main"]


def main(
    description: str | None,
    measure: Callable[[bool, int], dict[str, Any]],
    draw: Callable[[dict[str, Any], Path], None],
    table: Callable[[dict[str, Any]], str],
) -> None:
    """Measure or read a record, then write, draw and print it."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, help="results file to write")
    parser.add_argument("--figure", type=Path, help="figure to draw")
    parser.add_argument("--table", type=Path, help="results file to print (and draw)")
    parser.add_argument("--quick", action="store_true", help="measure next to nothing")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.table:
        record = json.loads(arguments.table.read_text())
    else:
        record = measure(arguments.quick, arguments.repeats)
    if arguments.output:
        arguments.output.write_text(json.dumps(record, indent=1) + "\n")
    if arguments.figure:
        draw(record, arguments.figure)
    print(table(record))

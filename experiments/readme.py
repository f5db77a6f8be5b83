"""Write the tables of README.md from the results files.

python -m experiments.readme          # rewrite
python -m experiments.readme --check  # exit with 1 if the README is out of date
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from benchmarks import simulators
from experiments import main_job, units

ROOT = Path(__file__).parents[1]
TABLES = {
    "column": (units.headline, ROOT / "experiments/results/units.json"),
    "main_job": (main_job.table, ROOT / "experiments/results/main_job.json"),
    "simulators": (simulators.table, ROOT / "benchmarks/results/simulators.json"),
}


def render(text: str) -> str:
    """Return the README with fresh tables."""
    for name, (table, path) in TABLES.items():
        content = table(json.loads(path.read_text()))
        pattern = rf"(<!-- results: {name} -->\n).*?(<!-- end -->)"
        text, count = re.subn(
            pattern, lambda m, c=content: f"{m[1]}{c}\n{m[2]}", text, flags=re.DOTALL
        )
        assert count == 1, name
    return text


def main() -> None:
    """Run the command line."""
    path = ROOT / "README.md"
    text = path.read_text()
    fresh = render(text)
    if "--check" in sys.argv:
        sys.exit(int(fresh != text))
    path.write_text(fresh)


if __name__ == "__main__":
    main()

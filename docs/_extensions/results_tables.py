"""The directive ``results-table``: tables of a results file, as its own command prints them."""

import importlib
import json
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList

ROOT = Path(__file__).parents[2]


def _lines(markdown):
    """Turn Markdown tables into list tables; other lines stay."""
    lines, inside = [], False
    for line in markdown.splitlines():
        if line.startswith("|---"):
            continue
        if not line.startswith("|"):
            inside = False
            lines.append(line)
            continue
        if not inside:
            lines += ["", ".. list-table::", "   :header-rows: 1", ""]
            inside = True
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        lines += [f"   {'*' if i == 0 else ' '} - {c}".rstrip() for i, c in enumerate(cells)]
    return lines


class ResultsTable(Directive):
    """``.. results-table:: benchmarks.forward benchmarks/results/forward.json``."""

    required_arguments = 2

    def run(self):
        module, path = self.arguments
        file = ROOT / path
        self.state.document.settings.env.note_dependency(str(file))
        record = json.loads(file.read_text())
        text = _lines(importlib.import_module(module).table(record))
        text += ["", f"Written by ``{record['command']}`` into ``{path}``."]
        node = nodes.Element()
        self.state.nested_parse(StringList(text, source=path), self.content_offset, node)
        return node.children


def setup(app):
    app.add_directive("results-table", ResultsTable)
    return {"parallel_read_safe": True}

"""How our figures look."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.mathtext import MathTextParser

from nmm_infer._text import plain, printable

__all__ = ["INK", "formula", "style"]

INK = "#374151"


@contextmanager
def style() -> Iterator[None]:
    """Draw in the style of the reports, without touching the user's settings."""
    settings: Any = {
        "font.size": 10,
        "font.family": "DejaVu Sans",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titleweight": "bold",
        "axes.titlesize": 10.5,
        "axes.titlelocation": "left",
        "axes.edgecolor": "#6b7280",
        "axes.labelcolor": INK,
        "xtick.color": "#6b7280",
        "ytick.color": "#6b7280",
        "legend.frameon": False,
        "svg.fonttype": "path",
        "svg.hashsalt": "nmm_infer",
    }
    with mpl.rc_context(settings):
        yield


def formula(text: object) -> str:
    """Return text with formulas as matplotlib draws it; as it stands where it is no formula."""
    shown = printable(text)
    try:
        MathTextParser("path").parse(shown)
    except ValueError:
        return plain(shown)
    return shown

"""The same simulation by several tools, each in a file and a process of its own.

Every file has one function, ``prepare(case, simulations, seconds) -> Prepared``. Files of other
tools import NumPy and their tool only, so that they run in an environment of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["PEERS", "Case", "Prepared"]

#: Distribution by the name of the file here.
PEERS = {"tvb": "tvb-library", "vbi": "vbi", "vbjax": "vbjax"}


@dataclass(frozen=True)
class Case:
    """A network of Jansen-Rit columns, all the same, in s, mV, mm, m/s and 1/s.

    Parameters
    ----------
    weights : nested list, shape (node, node)
        Row: target, column: source.
    lengths : nested list, shape (node, node), or None
        Tract lengths in mm; None for no delays.
    parameters : dict of str to float
        Constants of the column, by the names of Jansen and Rit 1995.
    initial : list of float
        y0 to y5 of every column, held before the beginning.
    drive, sigma : float
        Mean of p in 1/s and intensity of white noise on it in 1/sqrt(s).
    strength : float
        Factor of the coupling.
    speed : float
        Conduction speed in m/s.
    step : float
        Integration step in s.
    every : int
        Steps between two samples that are kept.
    threads : int
        Threads that the tool may use.
    options : dict
        What concerns one tool only.
    """

    weights: list[list[float]]
    lengths: list[list[float]] | None
    parameters: dict[str, float]
    initial: list[float]
    drive: float = 220.0
    sigma: float = 2.0
    strength: float = 10.0
    speed: float = 4.0
    step: float = 5e-4
    every: int = 8
    threads: int = 1
    options: dict[str, Any] | None = None

    @property
    def nodes(self) -> int:
        """Number of columns."""
        return len(self.weights)

    def steps(self, seconds: float) -> int:
        """Number of integration steps in a time."""
        return round(seconds / self.step)

    def milliseconds(self) -> dict[str, float]:
        """Return the constants in mV and ms, with the drive and the noise on y4 (mV / ms^1.5)."""
        p = self.parameters
        a, b, e0 = p["a"] / 1e3, p["b"] / 1e3, p["e0"] / 1e3
        noise = p["A"] * a * self.sigma / np.sqrt(1e3)
        return {**p, "a": a, "b": b, "e0": e0, "drive": self.drive / 1e3, "noise": noise}

    def initial_ms(self) -> NDArray[np.float64]:
        """Return the initial states in mV and mV/ms."""
        return np.array(self.initial) / np.array([1, 1, 1, 1e3, 1e3, 1e3])


@dataclass(frozen=True)
class Prepared:
    """A simulation that is ready to run.

    Parameters
    ----------
    run : callable
        Simulates and returns the potential y1 - y2 in mV, shape (simulation, node, sample), every
        ``case.every`` steps, the first one ``case.every`` steps after the beginning.
    precision : str
        Type of the states.
    """

    run: Callable[[], NDArray[Any]]
    precision: str

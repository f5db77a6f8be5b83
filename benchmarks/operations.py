"""Count the floating-point operations and the bytes of one step of one column.

Operations are those of the equations as they are written, whatever the compiler makes of them: an
addition, multiplication, division, square root, minimum or maximum is one, a fused
multiply-add two. The model's functions are called with numbers that count. Exponential, logarithm
and normal deviate count as many operations as their source has on floating-point numbers, both
branches included; integer operations, conversions and comparisons are not counted.

Bytes are those that a step loads and stores if nothing stays in registers from one loop to the
next. They are told in three parts, because they come from different places: what belongs to the
columns and the lists of edges passes by once a step; the values that arrive along edges lie
scattered over the past of all columns. A block of simulations shares weights and, where delays are
the same for all, places.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from nmm_infer.models import Model
from nmm_infer.simulation import _lanes, _math, noise

__all__ = ["Work", "operations", "source_operations", "work"]

_COUNTED = (ast.Add, ast.Sub, ast.Mult, ast.Div)
_ONE = {"sqrt", "max", "min"}
_INTEGERS = {"int32", "uint32", "int64", "uint64"}


def source_operations(function: Callable[..., Any]) -> int:
    """Count the floating-point operations in the source of a straight-line Numba function."""
    python = getattr(function, "py_func", function)
    tree = ast.parse(textwrap.dedent(inspect.getsource(python)))
    return _count(tree.body[0], python)


def _count(node: ast.AST, function: Callable[..., Any]) -> int:
    total = 0
    if isinstance(node, ast.Call):
        name = getattr(node.func, "attr", None) or getattr(node.func, "id", "")
        if name in _INTEGERS:
            return 0
        if name in _ONE:
            total += 1
        elif name in ("log", "exp"):
            total += source_operations(function.__globals__[name])
    if isinstance(node, ast.BinOp):
        if all(isinstance(side, ast.Constant) for side in (node.left, node.right)):
            return 0
        total += isinstance(node.op, _COUNTED)
    return total + sum(_count(child, function) for child in ast.iter_child_nodes(node))


class _Counting(np.lib.mixins.NDArrayOperatorsMixin):
    """A number that counts what is done with it."""

    __array_priority__ = 1000

    def __init__(self, counter: list[int]) -> None:
        self.counter = counter

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **_: Any) -> _Counting:
        costs = {np.exp: _EXP, np.log: _LOG, np.negative: 0, np.tanh: _EXP + 4}
        cost = costs.get(ufunc, 1)
        if ufunc is np.power:
            cost = int(inputs[1]) - 1
        self.counter[0] += cost
        return _Counting(self.counter)


_EXP = source_operations(_math.exp)
_LOG = source_operations(_math.log)
_NORMAL = source_operations(noise.standard_normal)


def operations(function: Callable[..., Any]) -> int:
    """Count the floating-point operations of a function of a model."""
    counter = [0]
    function(*(_Counting(counter) for _ in inspect.signature(function).parameters))
    return counter[0]


@dataclass(frozen=True)
class Work:
    """Operations and bytes of one column in one step of one simulation.

    ``held`` are the bytes that ``columns`` and ``lists``, and ``values``, pass over.
    """

    operations: float
    columns: float
    lists: float
    values: float
    held: tuple[float, float]

    @property
    def bytes(self) -> float:
        """All bytes."""
        return self.columns + self.lists + self.values

    @property
    def intensity(self) -> float:
        """Operations for each byte."""
        return self.operations / self.bytes


def work(
    model: Model,
    *,
    edges: float = 0.0,
    slots: int = 0,
    noisy: bool = False,
    shared_delays: bool = True,
    taps: int = 0,
    every: int = 1,
    number: int = 4,
) -> Work:
    """Return the work of one step of Heun's scheme.

    Parameters
    ----------
    model : Model
        The model.
    edges : float
        Edges that arrive at a column.
    slots : int
        Steps of the past that delays reach back; 0 for none: coupling is then summed twice a step.
    noisy : bool
        Whether there is noise on the drive.
    shared_delays : bool
        Whether all simulations have the same delays.
    taps, every : int
        Samples that the filter of one sample overlaps; steps from sample to sample.
    number : int
        Bytes of a number.
    """
    states, constants = len(model.states), len(model.constants)
    sums = 0 if not edges else 1 if slots else 2
    rate = operations(model.sent.function)
    inputs = 1 + noisy + 2 * bool(edges)  # drive, noise, strength times what arrives
    counted = 2 * (operations(model.derivative) + inputs)
    counted += 5 * states  # predictor: 2; corrector: 3
    counted += (_NORMAL + 1) * noisy
    counted += sums * (rate + 2 * edges)
    counted += operations(model.output.function) + 2 * taps

    # States in and out, constants, drive, noise and its amplitude (written and read).
    numbers = 2.0 * states + constants + 1 + 3 * noisy
    if sums == 2:
        # Two loops: slopes and predicted states are written and read between them.
        numbers += states + constants + 1 + noisy + 4 * states
    # What is sent is written (and copied into the past); sums are written and read.
    numbers += sums * (5 if slots else 3)
    numbers += 2 + 2 * taps / every
    # A place is read; with delays it also moves on by one step: read and written again.
    place = 8 * (3 if slots else 1) / (_lanes.LANES if shared_delays else 1)
    lists = sums * edges * (place + number / _lanes.LANES)
    rows = states + constants + 1 + 2 * noisy + 2 * sums + (2 * states) * (sums == 2) + taps + every
    held = number * rows + edges * (8 / (_lanes.LANES if shared_delays else 1) + number)
    return Work(
        operations=float(counted),
        columns=number * numbers,
        lists=lists,
        values=sums * edges * number,
        held=(held, float(number * max(slots, 1)) if edges else 0.0),
    )

"""What a neural mass model declares, and the registry that finds it by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nmm_infer.errors import InputError

__all__ = ["Constant", "Model", "get_model", "register_model"]


@dataclass(frozen=True)
class Constant:
    """A model parameter with its published value.

    Parameters
    ----------
    name, unit : str
        Name in the equations and unit.
    default : float
        Published value.
    source : str
        Citation of the default.
    """

    name: str
    unit: str
    default: float
    source: str


@dataclass(frozen=True)
class Model:
    """A neural mass model: a declaration that the engine compiles.

    Parameters
    ----------
    name : str
        Name in studies.
    states : tuple of str
        State variables, in order.
    constants : tuple of Constant
        Parameters, in order; each may vary by simulation and by node.
    rate : callable
        ``rate(*states, *constants)``: the firing rate [1/s] that a column sends to others.
    derivative : callable
        ``derivative(*states, rate, drive, *constants)``: time derivatives of the states, a tuple.
        ``drive`` [1/s] is everything that reaches the target population from outside:
        background, stimulus, noise, and the rates of other columns.
    output : callable
        ``output(*states)``: the signal that sources the EEG.
    output_unit : str
        Unit of the output.
    target : str
        The population that ``drive`` enters.
    equilibrium : callable
        ``equilibrium(drive, *constants)``: the states at rest, shape (states, n), float64.

    Notes
    -----
    ``rate``, ``derivative`` and ``output`` are scalar Numba functions and must be written without
    branches on their arguments, so that the engine can vectorise them over simulations.
    """

    name: str
    states: tuple[str, ...]
    constants: tuple[Constant, ...]
    rate: Callable[..., float]
    derivative: Callable[..., tuple[float, ...]]
    output: Callable[..., float]
    output_unit: str
    target: str
    equilibrium: Callable[..., NDArray[np.float64]]

    @property
    def defaults(self) -> dict[str, float]:
        """Published values by name."""
        return {c.name: c.default for c in self.constants}


_REGISTRY: dict[str, Model] = {}


def register_model(model: Model) -> Model:
    """Make a model available to :func:`get_model` and to scenarios under its name."""
    if model.name in _REGISTRY and _REGISTRY[model.name] is not model:
        raise InputError(f"a model named {model.name!r} is registered already")
    _REGISTRY[model.name] = model
    return model


def get_model(name: str) -> Model:
    """Return a registered model."""
    if name not in _REGISTRY:
        raise InputError(f"no model {name!r}; there are {', '.join(sorted(_REGISTRY))}")
    return _REGISTRY[name]

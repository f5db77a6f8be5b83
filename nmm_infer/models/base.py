"""What a neural mass model declares, and the registry that finds it by name."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmm_infer.errors import InputError

__all__ = [
    "Constant",
    "Model",
    "Output",
    "State",
    "get_model",
    "load_models",
    "model_names",
    "register_model",
]


@dataclass(frozen=True)
class State:
    """A state variable.

    Parameters
    ----------
    name, unit : str
        Name in the equations and unit.
    meaning : str
        What it stands for.
    """

    name: str
    unit: str
    meaning: str = ""


@dataclass(frozen=True)
class Constant:
    """A parameter of a model with its published value.

    Parameters
    ----------
    name, unit : str
        Name in the equations and unit.
    default : float
        Published value.
    low, high : float
        Bounds of what is meaningful; values outside are refused.
    source : str
        Citation of the default.
    """

    name: str
    unit: str
    default: float
    low: float
    high: float
    source: str

    def __post_init__(self) -> None:
        if not self.low <= self.default <= self.high:
            raise InputError(f"{self.name}: the default {self.default} is outside its bounds")


@dataclass(frozen=True)
class Output:
    """A signal of a column: what is recorded, and what other columns receive.

    Parameters
    ----------
    name, unit : str
        Name and unit; what other columns receive as a firing rate has the unit 1/s.
    function : callable
        A plain function of some of the states and constants, found by the names of its arguments.
    """

    name: str
    unit: str
    function: Callable[..., Any]


@dataclass(frozen=True)
class Model:
    """A neural mass model: a declaration that the engine compiles.

    Parameters
    ----------
    name : str
        Name in studies.
    states : tuple of State
        State variables, in order.
    constants : tuple of Constant
        Parameters, in order; each may vary by simulation and by node.
    targets : tuple of str
        Populations that firing rates [1/s] enter from outside: background, stimuli, noise, and
        what other columns send. The first is the one meant where none is named.
    derivative : callable
        Time derivatives of all states, a tuple in their order. A plain function whose arguments
        are names of states, targets and constants.
    outputs : tuple of Output
        Signals. The first one sources the EEG; the first one in 1/s is what a column sends where
        no output is named.
    rates : tuple of str
        Constants that are inverse time constants [1/s]; the fastest limits the step.
    equilibrium : callable, optional
        ``equilibrium(inputs, constants)``: the states at rest, shape (states, n), float64, from
        mappings of names to arrays of shape (n,). Without it a column starts at zero.
    reference : str
        The publication of the equations.

    Notes
    -----
    The functions are written for numbers as plain Python, with ``np.exp`` and its like, in the
    units of the publication; they may call other functions of their module. The engine writes them
    anew in the precision asked for and compiles them together with the network, so a model needs
    to know nothing of batches. The same functions work on NumPy arrays in float64, which is how
    equilibria and Jacobians are found. ``if`` statements keep a kernel from being vectorised: use
    conditional expressions. ``for`` is not compiled.

    Examples
    --------
    A low-pass filter with rate a that follows its input:

    >>> def derivative(y, drive, a):
    ...     return (a * (drive - y),)
    >>> def value(y):
    ...     return y
    >>> Model(
    ...     name="low_pass",
    ...     states=(State("y", "1/s"),),
    ...     constants=(Constant("a", "1/s", 50.0, 1.0, 500.0, "example"),),
    ...     targets=("drive",),
    ...     derivative=derivative,
    ...     outputs=(Output("value", "1/s", value),),
    ...     rates=("a",),
    ... ).output.name
    'value'
    """

    name: str
    states: tuple[State, ...]
    constants: tuple[Constant, ...]
    targets: tuple[str, ...]
    derivative: Callable[..., tuple[Any, ...]]
    outputs: tuple[Output, ...]
    rates: tuple[str, ...]
    equilibrium: Callable[..., NDArray[np.float64]] | None = field(default=None, compare=False)
    reference: str = ""

    def __post_init__(self) -> None:
        if not (self.states and self.targets and self.outputs and self.rates):
            raise InputError(f"{self.name}: a model needs states, targets, outputs and rates")
        everything = [*self.state_names, *self.targets, *self.defaults]
        twice = sorted({name for name in everything if everything.count(name) > 1})
        if twice:
            raise InputError(f"{self.name}: {twice[0]!r} is declared twice")
        self._check("derivative", self.derivative, everything)
        for output in self.outputs:
            self._check(output.name, output.function, [*self.state_names, *self.defaults])
        unknown = sorted(set(self.rates) - set(self.defaults))
        if unknown:
            raise InputError(f"{self.name}: rates names {unknown[0]!r}, which is no constant")
        slopes = self._try("derivative", self.derivative)
        found = len(slopes) if isinstance(slopes, tuple) else 1
        if slopes is not None and (not isinstance(slopes, tuple) or found != len(self.states)):
            raise InputError(
                f"{self.name}: derivative must return a tuple of {len(self.states)} slopes "
                f"({', '.join(self.state_names)}), not {found} value(s)"
            )
        for output in self.outputs:
            if np.ndim(self._try(output.name, output.function)) > 0:
                raise InputError(f"{self.name}: {output.name} must return one number")

    def _try(self, what: str, function: Callable[..., Any]) -> Any:
        """Return what a function returns at the default constants, all else being zero.

        None if a name is unknown in it: the engine says so where it compiles it.
        """
        values = dict.fromkeys((*self.state_names, *self.targets), 0.0) | self.defaults
        arguments = {n: np.float64(values[n]) for n in inspect.signature(function).parameters}
        try:
            with np.errstate(all="ignore"):
                result = function(**arguments)
        except (NameError, AttributeError):
            return None
        except Exception as error:
            raise InputError(
                f"{self.name}: {what} fails at the default constants: "
                f"{type(error).__name__}: {error}"
            ) from error
        if result is None:
            raise InputError(f"{self.name}: {what} returns nothing")
        return result

    def _check(self, what: str, function: Callable[..., Any], known: list[str]) -> None:
        for name in inspect.signature(function).parameters:
            if name not in known:
                raise InputError(
                    f"{self.name}: {what} takes {name!r}, which is not declared; "
                    f"there are {', '.join(known)}"
                )

    @property
    def state_names(self) -> tuple[str, ...]:
        """Names of the states, in order."""
        return tuple(state.name for state in self.states)

    @property
    def defaults(self) -> dict[str, float]:
        """Published values by name."""
        return {c.name: c.default for c in self.constants}

    @property
    def output(self) -> Output:
        """The signal that sources the EEG."""
        return self.outputs[0]

    @property
    def sent(self) -> Output:
        """The firing rate that a column sends to others where no output is named."""
        for output in self.outputs:
            if output.unit == "1/s":
                return output
        raise InputError(f"{self.name} has no output in 1/s: name the one that columns send")

    def get_output(self, name: str) -> Output:
        """Return an output by name."""
        for output in self.outputs:
            if output.name == name:
                return output
        names = ", ".join(output.name for output in self.outputs)
        raise InputError(f"{self.name} has no output {name!r}; there are {names}")

    def get_target(self, name: str | None) -> str:
        """Return a target population by name, or the first one."""
        if name is None:
            return self.targets[0]
        if name not in self.targets:
            raise InputError(
                f"{self.name} has no target {name!r}; there are {', '.join(self.targets)}"
            )
        return name


_REGISTRY: dict[str, Model] = {}


def register_model(model: Model) -> Model:
    """Make a model available under its name to :func:`get_model`, studies and the engine."""
    if model.name in _REGISTRY and _REGISTRY[model.name] != model:
        raise InputError(f"a model named {model.name!r} is registered already")
    _REGISTRY[model.name] = model
    return model


def model_names() -> list[str]:
    """Return the names of all registered models."""
    return sorted(_REGISTRY)


def get_model(model: str | Model) -> Model:
    """Return a registered model (or, if given a model, that model)."""
    if isinstance(model, Model):
        return model
    if model not in _REGISTRY:
        raise InputError(f"no model {model!r}; there are {', '.join(model_names())}")
    return _REGISTRY[model]


_FILES: dict[Path, list[str]] = {}


def load_models(path: str | Path) -> list[str]:
    """Run a Python file that registers models.

    Parameters
    ----------
    path : path
        A user's file; it calls :func:`register_model`. A file is run once.

    Returns
    -------
    list of str
        Names of the models that the file registered.
    """
    path = Path(path).resolve()
    if path in _FILES:
        return _FILES[path]
    if not path.is_file():
        raise InputError(f"{path}: no such model file")
    before = dict(_REGISTRY)
    name = f"nmm_infer_user_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
        found = sorted(set(_REGISTRY) - set(before))
        if not found:
            raise InputError("the file registers no model (register_model)")
    except Exception as error:  # whatever a user's file does wrong
        _REGISTRY.clear()
        _REGISTRY.update(before)
        what = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
        raise InputError(f"{path}: {what}{error}") from error
    _FILES[path] = found
    return found

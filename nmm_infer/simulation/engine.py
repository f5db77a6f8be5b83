"""Integrate many networks at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nmm_infer import _random
from nmm_infer.errors import InputError
from nmm_infer.models import Model
from nmm_infer.simulation.kernel import LANES, compile_kernel

__all__ = ["Clock", "integrate"]


@dataclass(frozen=True)
class Clock:
    """Times of a simulation.

    Parameters
    ----------
    start, stop : float
        First and last sample that is kept, in s.
    step : float
        Integration step, in s.
    every : int
        Steps from one kept sample to the next.
    settle : float
        Time integrated before ``start`` and thrown away, in s.
    """

    start: float
    stop: float
    step: float = 1e-3
    every: int = 4
    settle: float = 0.3

    def __post_init__(self) -> None:
        if not self.stop > self.start or self.step <= 0 or self.settle < 0 or self.every < 1:
            raise InputError(f"these simulation times make no sense: {self}")

    @property
    def settle_steps(self) -> int:
        """Steps before the first sample."""
        return round(self.settle / self.step)

    @property
    def n_samples(self) -> int:
        """Samples kept."""
        return round((self.stop - self.start) / (self.step * self.every)) + 1

    @property
    def sample_times(self) -> NDArray[np.float64]:
        """Times of the kept samples, in s."""
        return np.asarray(self.start + np.arange(self.n_samples) * (self.step * self.every))

    @property
    def step_times(self) -> NDArray[np.float64]:
        """Times of all steps, both ends included, in s."""
        steps = self.settle_steps + (self.n_samples - 1) * self.every
        return np.asarray(self.start + (np.arange(steps + 1) - self.settle_steps) * self.step)


def integrate(
    model: Model,
    constants: Mapping[str, ArrayLike],
    clock: Clock,
    *,
    drive: ArrayLike = 0.0,
    noise: ArrayLike = 0.0,
    weights: NDArray[np.float64] | None = None,
    strength: ArrayLike = 0.0,
    stimulus: NDArray[np.float32] | None = None,
    focus: ArrayLike = 0,
    seed: int = 0,
    stream: str = "noise",
    index: NDArray[np.int64] | None = None,
    batch: int = 1,
) -> NDArray[np.float32]:
    """Integrate a batch of networks with the stochastic Heun scheme, in float32.

    Every column starts at its own lowest equilibrium. Columns are coupled, without delay, by the
    weighted sum of their firing rates, ``strength * sum_j weights[i, j] * rate_j``, which enters
    the model's target population.

    Parameters
    ----------
    model : Model
        The neural mass model.
    constants : mapping of str to array_like, shape broadcastable to (batch, node)
        Parameters that differ from the published values.
    clock : Clock
        Times.
    drive : array_like, shape broadcastable to (batch, node)
        Constant background drive in 1/s.
    noise : array_like, shape broadcastable to (batch, node)
        Intensity of the white noise on the drive, in 1/sqrt(s).
    weights : numpy.ndarray, shape (node, node), optional
        Row: target, column: source. One node without.
    strength : array_like, shape broadcastable to (batch,)
        Global coupling strength.
    stimulus : numpy.ndarray of float32, shape (batch, steps + 1), optional
        Rate in 1/s at ``clock.step_times`` that enters the node ``focus``.
    focus : array_like of int, shape broadcastable to (batch,)
        The node that the stimulus enters.
    seed, stream : int, str
        Seed and name of the noise stream.
    index : numpy.ndarray of int, shape (batch,), optional
        Absolute numbers of the simulations, which select their noise.
    batch : int
        Size of the batch where nothing else tells it.

    Returns
    -------
    numpy.ndarray of float32, shape (batch, node, sample)
        The model's output (for Jansen-Rit the net postsynaptic potential, in mV).

    Raises
    ------
    InputError
        For an unknown parameter, an array of the wrong shape, or a value that is not finite.
    """
    nodes = 1 if weights is None else len(weights)
    weights = np.zeros((nodes, nodes)) if weights is None else np.asarray(weights, dtype=float)
    if weights.shape != (nodes, nodes) or not np.isfinite(weights).all():
        raise InputError(f"weights must be square and finite, got shape {weights.shape}")
    unknown = sorted(set(constants) - set(model.defaults))
    if unknown:
        raise InputError(
            f"{model.name} has no parameter {unknown[0]!r}; it has {', '.join(model.defaults)}"
        )
    if index is not None:
        batch = len(index)
    elif stimulus is not None:
        batch = len(stimulus)
    index = np.arange(batch) if index is None else index

    def full(name: str, values: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.float64]:
        array = np.asarray(values, dtype=float)
        try:
            array = np.broadcast_to(array, shape)
        except ValueError:
            raise InputError(
                f"{name}: shape {array.shape} does not fit (batch, node) = {(batch, nodes)}"
            ) from None
        if not np.isfinite(array).all():
            raise InputError(f"{name}: values must be finite")
        return array

    per_node = (batch, nodes)
    columns = {
        c.name: full(c.name, constants.get(c.name, c.default), per_node) for c in model.constants
    }
    drive, noise = full("drive", drive, per_node), full("noise", noise, per_node)
    strength = full("strength", strength, (batch,))
    focus = full("focus", focus, (batch,)).astype(np.int64)
    if focus.min() < 0 or focus.max() >= nodes:
        raise InputError(f"focus: there are {nodes} nodes, numbered from 0")
    steps = len(clock.step_times)
    if stimulus is None:
        stimulus = np.zeros((batch, steps), np.float32)
    if stimulus.shape != (batch, steps):
        raise InputError(f"the stimulus must have shape {(batch, steps)}, got {stimulus.shape}")
    rest = model.equilibrium(
        drive.ravel(), **{name: values.ravel() for name, values in columns.items()}
    ).reshape(len(model.states), batch, nodes)

    padding = -batch % LANES

    def pad(values: ArrayLike, axis: int = 0, dtype: type = np.float32) -> NDArray:
        """Repeat the last simulation until the blocks are full."""
        values = np.asarray(values, dtype=dtype)
        width = [(0, 0)] * values.ndim
        width[axis] = (0, padding)
        return np.ascontiguousarray(np.pad(values, width, mode="edge"))

    rows, sources = np.nonzero(weights)
    output = np.empty((batch + padding, nodes, clock.n_samples), np.float32)
    compile_kernel(model)(
        pad(np.swapaxes(rest, 1, 2), 2),
        pad(np.stack([columns[c.name].T for c in model.constants]), 2),
        pad(drive.T, 1),
        pad(noise.T, 1),
        pad(strength),
        pad(focus, dtype=np.int64),
        pad(stimulus),
        pad(_random.keys(seed, stream, index), 1, np.uint32),
        np.searchsorted(rows, np.arange(nodes + 1)),
        np.ascontiguousarray(sources),
        weights[rows, sources].astype(np.float32),
        np.float32(clock.step),
        clock.settle_steps,
        clock.n_samples,
        clock.every,
        output,
    )
    return output[:batch]

"""Integrate many networks at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numba.core.errors import NumbaError
from numpy.typing import ArrayLike, NDArray

from nmm_infer import _random
from nmm_infer._threads import n_threads
from nmm_infer.errors import InputError
from nmm_infer.models import Model
from nmm_infer.simulation._lanes import LANES, UNROLL
from nmm_infer.simulation.clock import Clock
from nmm_infer.simulation.kernel import Plan, Scheme, compile_kernel
from nmm_infer.simulation.network import Network, per_connection, resolve
from nmm_infer.simulation.stimulus import Stimulus

__all__ = ["Trajectories", "integrate"]

#: The largest product of step and fastest inverse time constant: half of what Heun's scheme
#: and a third of what Runge-Kutta's stand before the fastest synapse becomes unstable.
_LARGEST_STEP = 1.0


@dataclass(frozen=True, eq=False)
class Trajectories:
    """What :func:`integrate` returns.

    Attributes
    ----------
    outputs : dict of str to numpy.ndarray, shape (batch, node, sample)
        Recorded outputs by name.
    diverged : numpy.ndarray of bool, shape (batch,)
        Runs whose state left the finite range.
    diverged_at : numpy.ndarray of float, shape (batch,)
        Time in s of the first sample that is not finite; NaN for the others.
    """

    outputs: dict[str, NDArray[Any]]
    diverged: NDArray[np.bool_]
    diverged_at: NDArray[np.float64]


def integrate(
    model: Model,
    clock: Clock,
    *,
    network: Network | None = None,
    constants: Mapping[str, ArrayLike] | None = None,
    drive: ArrayLike | Mapping[str, ArrayLike] = 0.0,
    noise: ArrayLike | Mapping[str, ArrayLike] = 0.0,
    stimuli: Sequence[Stimulus] = (),
    strength: ArrayLike | Mapping[str, ArrayLike] = 1.0,
    speed: ArrayLike = 5.0,
    initial: ArrayLike | None = None,
    record: Sequence[str] | None = None,
    scheme: Scheme = "heun",
    dtype: Literal["float32", "float64"] = "float32",
    coupling_update: Literal["stage", "step"] = "stage",
    seed: int = 0,
    stream: str = "noise",
    index: ArrayLike | None = None,
    trial: ArrayLike = 0,
    batch: int = 1,
) -> Trajectories:
    r"""Integrate a batch of networks.

    A run has the same bits in any batch and on any number of threads: its noise depends on
    ``seed``, ``stream``, its ``index`` and ``trial``, the step, the node and the target.

    Parameters
    ----------
    model : Model
        The neural mass model of all nodes.
    clock : Clock
        Times.
    network : Network, optional
        Nodes and connections; a single column without.
    constants : mapping of str to array_like, shape broadcastable to (batch, node)
        Parameters that differ from the published values.
    drive : array_like or mapping by target, shape broadcastable to (batch, node)
        Constant background drive in 1/s; of the model's first target if none is named.
    noise : array_like or mapping by target, shape broadcastable to (batch, node)
        Intensity :math:`\sigma` of white noise on the drive, in 1/sqrt(s): the drive of a step is
        :math:`\sigma\,\xi/\sqrt{\Delta t}` with :math:`\xi \sim N(0, 1)`, so its spectral density
        does not depend on the step. An array is noise even where it is zero; the number 0 is none.
    stimuli : sequence of Stimulus
        Time courses that enter nodes.
    strength : array_like or mapping by connection, shape broadcastable to (batch,)
        Global strength G of the connections.
    speed : array_like, shape () or (batch,)
        Conduction speed in m/s. A number shares delays between all runs, which is faster.
    initial : array_like, shape broadcastable to (state, batch, node), optional
        Initial states, held before the beginning. Without, the lowest equilibrium of each column
        by itself at its constant drive, or zero for a model that declares none.
    record : sequence of str, optional
        Outputs to keep; the model's first one without.
    scheme : {"heun", "euler", "rk4"}
        Stochastic Heun; Euler-Maruyama; Runge-Kutta of order 4 (without noise and delays).
    dtype : {"float32", "float64"}
        Precision of states and arithmetic.
    coupling_update : {"stage", "step"}
        ``"stage"`` evaluates coupling at both ends of a step, so that Heun's scheme keeps its
        order; ``"step"`` freezes it within a step, as The Virtual Brain does.
    seed, stream : int, str
        Seed and name of the noise stream.
    index : array_like of int, shape (batch,), optional
        Absolute numbers of the simulations; 0, 1, ... without.
    trial : array_like of int, shape broadcastable to (batch,)
        Numbers of repetitions of one simulation, with noise of their own.
    batch : int
        Size of the batch where no ``index`` tells it.

    Returns
    -------
    Trajectories
        Recorded outputs and which runs diverged.

    Raises
    ------
    InputError
        For an unknown name, a shape that does not fit, a value that is not finite or outside its
        bounds, or a step that is too large for the fastest time constant.
    """
    network = Network.column() if network is None else network
    nodes = network.n_nodes
    if dtype not in ("float32", "float64"):
        raise InputError(f"dtype: float32 or float64, not {dtype!r}")
    if seed < 0:
        raise InputError(f"seed: it must not be negative, got {seed}")
    if index is None and batch < 1:
        raise InputError(f"batch: there must be a simulation, got {batch}")
    index = _whole("index", np.arange(batch) if index is None else index)
    if index.ndim != 1 or not index.size:
        raise InputError(f"index: one number for each simulation is needed, got {index.shape}")
    batch = len(index)
    trial = _whole("trial", trial)
    if trial.shape not in ((), (1,), (batch,)):
        raise InputError(f"trial: shape {trial.shape} does not fit {batch} simulations")
    number = np.dtype(dtype).type
    per_node = (batch, nodes)

    columns = _constants(model, constants or {}, per_node)
    fastest = max(float(columns[name].max()) for name in model.rates)
    if clock.step * fastest > _LARGEST_STEP:
        raise InputError(
            f"a step of {clock.step * 1e3:g} ms is too large for the fastest inverse time "
            f"constant, {fastest:g} /s: take at most {_LARGEST_STEP / fastest * 1e3:.3g} ms"
        )
    drives = _by_target(model, "drive", drive, per_node)
    noises = _by_target(model, "noise", noise, per_node)
    if any(values.min() < 0 for values in noises.values()):
        raise InputError("noise: its intensity must not be negative")
    terms = resolve(network, model)
    strengths = [
        _fit(f"strength of {c.name}", g, (batch,), "(batch,)")
        for c, g in zip(
            network.connections, per_connection(network, "strength", strength), strict=True
        )
    ]
    velocity: Any = _fit("speed", speed, (batch,), "(batch,)")
    if np.ndim(speed) == 0:
        velocity = velocity.item()
    if not np.all(np.isfinite(velocity)) or not np.all(velocity > 0):
        raise InputError("speed: the conduction speed must be positive")
    delayed = network.delayed
    if scheme == "rk4" and (delayed or noises):
        what = "delays" if delayed else "noise"
        raise InputError(f"the scheme 'rk4' is for runs without noise and delays; this has {what}")
    if scheme not in ("euler", "heun", "rk4") or coupling_update not in ("stage", "step"):
        raise InputError(
            f"no scheme {scheme!r} with coupling_update {coupling_update!r}; there are euler, "
            "heun, rk4 and stage, step"
        )
    frozen = scheme == "euler" or coupling_update == "step"
    delays = network.steps(velocity, clock.step, 0 if frozen else 1)
    wiring = _Wiring.of(network, delays, terms, frozen)

    courses, first, where, into, targets = _stimuli(
        model, network, clock, stimuli, scheme, batch, number
    )
    record = (model.output.name,) if record is None else tuple(record)
    if not record:
        raise InputError(
            f"record: no output is named; {model.name} has at least {model.output.name}"
        )
    for name in record:
        model.get_output(name)
    plan = Plan(
        model=model,
        scheme=scheme,
        dtype=dtype,
        recorded=record,
        drives=tuple(drives),
        noises=tuple(noises),
        stimuli=targets,
        terms=tuple(terms),
        own=tuple(bool(row.any()) for row in wiring.own),
        instant=wiring.now.source.size > 0,
        delayed=wiring.late.source.size > 0,
        frozen=frozen,
        own_delays=wiring.late.delay.shape[1] > 1,
        filtered=clock.filtered,
    )
    if clock.n_steps * nodes * len(model.targets) >= 2**32 and noises:
        raise InputError("the noise of one run would repeat: simulate fewer steps at a time")
    states = _initial(model, initial, drives, columns, batch, nodes)

    padding = -batch % LANES

    def pad(values: ArrayLike, axis: int, kind: Any = number) -> NDArray[Any]:
        """Repeat the last simulation until the blocks are full."""
        values = np.asarray(values)
        if values.shape[axis] == 1 and batch > 1:
            values = np.broadcast_to(
                values, (*values.shape[:axis], batch, *values.shape[axis + 1 :])
            )
        width = [(0, 0)] * values.ndim
        width[axis] = (0, padding)
        return np.ascontiguousarray(np.pad(values, width, mode="edge"), dtype=kind)

    def stacked(parts: list[NDArray[Any]], kind: Any = number) -> NDArray[Any]:
        """Stack arrays of shape (batch or 1, node or 1) into (part, node or 1, batch)."""
        if not parts:
            return np.zeros((1, 1, batch + padding), kind)
        whole = np.empty((len(parts), max(p.shape[1] for p in parts), batch + padding), kind)
        for row, part in zip(whole, parts, strict=True):
            row[:, :batch] = part.T
        whole[..., batch:] = whole[..., batch - 1 : batch]
        return whole

    slots = int(wiring.late.delay.max(initial=0)) + 1
    if 2 * slots * max(len(plan.sent), 1) * nodes * LANES >= 2**31:
        raise InputError(
            f"delays of up to {slots - 1} steps for {nodes} nodes do not fit: take a larger step "
            "or a higher conduction speed"
        )
    arguments = (
        pad(states, 2),
        stacked([columns[c.name] for c in model.constants]),
        stacked(list(drives.values())),
        stacked(list(noises.values())),
        stacked([s[:, None] for s in strengths])[:, 0],
        pad(_random.keys(seed, stream, index, trial), 1, np.uint32),
        courses if not padding else pad(courses, 1),
        first,
        where if not padding else pad(where, 1, np.int64),
        into,
        wiring.own.astype(number),
        wiring.now.start,
        (wiring.now.source * LANES).astype(np.int32),
        wiring.now.weight.astype(number),
        wiring.late.start,
        wiring.late.source,
        wiring.late.weight.astype(number),
        pad(wiring.late.delay, 1, np.int32) if plan.own_delays else wiring.late.delay,
        slots,
        np.ascontiguousarray(_padded(clock.taps)[::-1], dtype=number),
        number(clock.step),
        clock.lead,
        clock.settle_steps,
        clock.every,
        clock.n_steps,
    )
    output = np.empty((len(record), batch + padding, nodes, clock.n_samples), number)
    last = np.empty((len(model.states), nodes, batch + padding), number)
    try:
        _launch(compile_kernel(plan), (batch + padding) // LANES, arguments, output, last)
    except NumbaError as error:
        why = next((x for x in str(error).splitlines() if x and "nopython" not in x), "")
        raise InputError(f"model {model.name}: it cannot be compiled: {why}") from error
    outputs = {name: output[r, :batch] for r, name in enumerate(record)}
    diverged = np.asarray(~np.isfinite(last[..., :batch]).all(axis=(0, 1)))
    at = np.full(batch, np.nan)
    for i in np.flatnonzero(diverged):
        bad = ~np.isfinite(output[:, i]).all(axis=(0, 1))
        at[i] = clock.sample_times[np.argmax(bad)] if bad.any() else clock.stop
    return Trajectories(outputs, diverged, at)


def _launch(kernel: Any, blocks: int, arguments: tuple[Any, ...], output: Any, last: Any) -> None:
    """Share the blocks between threads."""
    threads = min(n_threads(), blocks)
    if threads == 1:
        kernel(LANES, 0, blocks, *arguments, output, last)
        return
    bounds = np.linspace(0, blocks, min(blocks, 4 * threads) + 1).astype(int).tolist()
    with ThreadPoolExecutor(threads) as pool:
        jobs = [
            pool.submit(kernel, LANES, a, b, *arguments, output, last)  # type: ignore[call-arg]
            for a, b in pairwise(bounds)
        ]
        for job in jobs:
            job.result()


def _padded(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fill rows up to the length that the kernel unrolls."""
    return np.pad(rows, ((0, 0), (0, -rows.shape[1] % UNROLL)))


@dataclass(frozen=True)
class _Edges:
    """Edges of all connections in compressed rows, each filled up with edges of no weight."""

    start: NDArray[np.int64]  # (connection, node + 1)
    source: NDArray[np.int64]  # place among the outputs that are sent, node by node
    weight: NDArray[np.float64]
    delay: NDArray[np.int32]  # (edge, 1) or (edge, batch)

    @classmethod
    def of(cls, parts: list[tuple[NDArray[Any], ...]], nodes: int) -> _Edges:
        """Compress (row, source, weight, delay) of each connection; rows are sorted."""
        starts, sources, weights, delays = [], [], [], []
        offset = 0
        for row, source, weight, delay in parts:
            count = np.bincount(row, minlength=nodes)
            first = np.concatenate([[0], np.cumsum(count)])
            start = np.concatenate([[0], np.cumsum(-(-count // UNROLL) * UNROLL)])
            place = start[row] + np.arange(len(row)) - first[row]
            filled = np.zeros(start[-1], np.int64), np.zeros(start[-1])
            late = np.ones((start[-1], delay.shape[1]), np.int32)
            filled[0][place], filled[1][place], late[place] = source, weight, delay
            starts.append(start + offset)
            offset += start[-1]
            sources.append(filled[0])
            weights.append(filled[1])
            delays.append(late)
        if not parts:
            nothing = np.zeros(0, np.int64)
            empty = np.zeros((0, 1), np.int32)
            return cls(np.zeros((1, nodes + 1), np.int64), nothing, np.zeros(0), empty)
        return cls(
            np.stack(starts), np.concatenate(sources), np.concatenate(weights),
            np.concatenate(delays),
        )  # fmt: skip


@dataclass(frozen=True)
class _Wiring:
    """Edges by what a kernel does with them.

    ``own`` (connection, node) is what a node receives of itself without delay: no edge is needed
    for it. ``now`` are the other edges without delay, ``late`` those with one.
    """

    own: NDArray[np.float64]
    now: _Edges
    late: _Edges

    @classmethod
    def of(
        cls,
        network: Network,
        delays: list[NDArray[np.int32]],
        terms: Sequence[tuple[str, str, str]],
        frozen: bool,
    ) -> _Wiring:
        nodes = network.n_nodes
        sent = sorted({source for source, _, _ in terms})
        own = np.zeros((max(len(terms), 1), nodes))
        now: list[tuple[NDArray[Any], ...]] = []
        late: list[tuple[NDArray[Any], ...]] = []
        for k, (edges, delay, (source, _, form)) in enumerate(
            zip(network.edges, delays, terms, strict=True)
        ):
            row = np.repeat(np.arange(nodes), np.diff(edges.start))
            # One delay for all runs or one for each; -1 means nothing where there is no edge.
            delay = delay.reshape(len(row), delay.shape[1] if delay.ndim > 1 else 1)
            if form == "diffusive":
                own[k] -= np.bincount(row, edges.weight, nodes)
            delayed = np.full(len(row), frozen) | (delay > 0).any(axis=1)
            self = ~delayed & (row == edges.source)
            own[k] += np.bincount(row[self], edges.weight[self], nodes)
            place = sent.index(source) * nodes + edges.source
            for part, chosen in ((now, ~delayed & ~self), (late, delayed)):
                part.append((row[chosen], place[chosen], edges.weight[chosen], delay[chosen]))
        return cls(own, _Edges.of(now, nodes), _Edges.of(late, nodes))


def _whole(name: str, values: ArrayLike) -> NDArray[np.int64]:
    """Return whole numbers that are not negative."""
    array = np.asarray(values)
    if not np.issubdtype(array.dtype, np.integer) or (array.size and array.min() < 0):
        raise InputError(f"{name}: whole numbers from 0 on are needed")
    return array.astype(np.int64)


def _fit(name: str, values: ArrayLike, shape: tuple[int, ...], words: str) -> NDArray[np.float64]:
    try:
        array = np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        raise InputError(f"{name}: numbers are needed") from None
    try:
        np.broadcast_to(array, shape)
    except ValueError:
        raise InputError(f"{name}: shape {array.shape} does not fit {words} = {shape}") from None
    if not np.isfinite(array).all():
        raise InputError(f"{name}: values must be finite")
    # What does not vary keeps an axis of length one.
    return array.reshape((1,) * (len(shape) - array.ndim) + array.shape)


def _constants(
    model: Model, given: Mapping[str, ArrayLike], shape: tuple[int, int]
) -> dict[str, NDArray[np.float64]]:
    unknown = sorted(set(given) - set(model.defaults))
    if unknown:
        raise InputError(
            f"{model.name} has no parameter {unknown[0]!r}; it has {', '.join(model.defaults)}"
        )
    columns = {}
    for c in model.constants:
        values = _fit(c.name, given.get(c.name, c.default), shape, "(batch, node)")
        if values.min() < c.low or values.max() > c.high:
            worst = values.min() if values.min() < c.low else values.max()
            raise InputError(
                f"{c.name}: {worst:g} {c.unit} is outside the bounds of {model.name}, "
                f"{c.low:g} to {c.high:g}"
            )
        columns[c.name] = values
    return columns


def _by_target(
    model: Model, what: str, given: ArrayLike | Mapping[str, ArrayLike], shape: tuple[int, int]
) -> dict[str, NDArray[np.float64]]:
    mapping = given if isinstance(given, Mapping) else {model.targets[0]: given}
    result = {}
    for target in model.targets:
        if target in mapping and not (np.ndim(mapping[target]) == 0 and mapping[target] == 0):
            result[target] = _fit(what, mapping[target], shape, "(batch, node)")
    for name in mapping:
        model.get_target(name)
    return result


def _initial(
    model: Model,
    initial: ArrayLike | None,
    drives: dict[str, NDArray[np.float64]],
    columns: dict[str, NDArray[np.float64]],
    batch: int,
    nodes: int,
) -> NDArray[np.float64]:
    """Return initial states, shape (state, node, batch)."""
    shape = (len(model.states), batch, nodes)
    if initial is not None:
        try:
            states = np.broadcast_to(np.asarray(initial, dtype=float), shape)
        except ValueError:
            raise InputError(
                f"initial: shape {np.shape(initial)} does not fit (state, batch, node) = {shape}"
            ) from None
        if not np.isfinite(states).all():
            raise InputError("initial: values must be finite")
    elif model.equilibrium is None:
        states = np.zeros(shape)
    else:
        inputs = {t: drives.get(t, np.zeros((1, 1))) for t in model.targets}
        rows = max(v.shape[0] for v in (*inputs.values(), *columns.values()))
        wide = max(v.shape[1] for v in (*inputs.values(), *columns.values()))

        def flat(values: NDArray[np.float64]) -> NDArray[np.float64]:
            return values[0] if values.size == 1 else np.broadcast_to(values, (rows, wide)).ravel()

        with np.errstate(over="ignore"):  # of a sigmoid far below its middle
            rest = model.equilibrium(
                {name: flat(v) for name, v in inputs.items()},
                {name: flat(v) for name, v in columns.items()},
            )
        states = np.broadcast_to(rest.reshape(len(model.states), rows, wide), shape)
    return np.swapaxes(states, 1, 2)


def _stimuli(
    model: Model,
    network: Network,
    clock: Clock,
    stimuli: Sequence[Stimulus],
    scheme: str,
    batch: int,
    number: Any,
) -> tuple[NDArray[Any], int, NDArray[np.int64], NDArray[np.int64], tuple[str, ...]]:
    """Return time courses (stimulus, batch, time) from a first moment on, where they enter."""
    if not stimuli:
        nothing = np.zeros((0, batch, 1), number), 0, np.zeros((0, batch), np.int64)
        return *nothing, np.zeros(0, np.int64), ()
    times = clock.step_times
    if scheme == "rk4":
        times = np.linspace(times[0], times[-1], 2 * len(times) - 1)
    stimuli = [stimulus.on(clock.step_times) for stimulus in stimuli]
    windows = [stimulus.window(times) for stimulus in stimuli]
    window = min(first for first, _ in windows), max(last for _, last in windows)
    courses, where, into = [], [], []
    targets = tuple(dict.fromkeys(model.get_target(s.target) for s in stimuli))
    for stimulus in stimuli:
        courses.append(stimulus.courses(times, batch, number, window))
        where.append(stimulus.places(network.nodes, batch))
        into.append(targets.index(model.get_target(stimulus.target)))
    return (
        np.stack(courses) if len(courses) > 1 else courses[0][None],
        window[0],
        np.ascontiguousarray(np.stack(where)),
        np.asarray(into),
        targets,
    )

"""Networks of Jansen-Rit columns in plain Python numbers, and what they are compared with.

The oracle takes the arguments of :func:`nmm_infer.simulation.integrate` and one position of the
batch. It shares no code with the package but the normal numbers of the noise, which have tests of
their own (``test_noise.py``), and the classes that hold arguments.
"""

from __future__ import annotations

import math
from functools import cache
from itertools import pairwise

import numba
import numpy as np
from scipy.integrate import solve_ivp

from nmm_infer._random import keys
from nmm_infer.simulation import Connection, Course, Network, Pulse, Volley
from nmm_infer.simulation.noise import standard_normal

NODES = ("V1", "V2", "MT", "FEF")
TARGETS = ("pyramidal", "interneurons")
PUBLISHED = {
    "A": 3.25,
    "B": 22.0,
    "a": 100.0,
    "b": 50.0,
    "C": 135.0,
    "alpha_1": 1.0,
    "alpha_2": 0.8,
    "alpha_3": 0.25,
    "alpha_4": 0.25,
    "v0": 6.0,
    "e0": 2.5,
    "r": 0.56,
}


# --- The column: Jansen and Rit (1995), equation 6.


def sigmoid(v, c):
    return 2 * c["e0"] / (1 + math.exp(c["r"] * (c["v0"] - v)))


def column(y, p, u, c):
    y0, y1, y2, y3, y4, y5 = y
    A, B, a, b, C = (c[name] for name in "ABabC")
    excite = c["alpha_2"] * C * sigmoid(c["alpha_1"] * C * y0, c)
    inhibit = c["alpha_4"] * C * sigmoid(c["alpha_3"] * C * y0, c)
    return [
        y3,
        y4,
        y5,
        A * a * (sigmoid(y1 - y2, c) + u) - 2 * a * y3 - a**2 * y0,
        A * a * (p + excite) - 2 * a * y4 - a**2 * y1,
        B * b * inhibit - 2 * b * y5 - b**2 * y2,
    ]


def drive_at(v, c):
    """The drive p at which v = y1 - y2 is an equilibrium (Grimbert and Faugeras 2006)."""
    y0 = c["A"] / c["a"] * sigmoid(v, c)
    inhibit = c["alpha_4"] * c["C"] * sigmoid(c["alpha_3"] * c["C"] * y0, c)
    excite = c["alpha_2"] * c["C"] * sigmoid(c["alpha_1"] * c["C"] * y0, c)
    return (v + c["B"] / c["b"] * inhibit) * c["a"] / c["A"] - excite


def sent(name, y, c):
    v = y[1] - y[2]
    return v if name == "potential" else sigmoid(v, c)


# --- Arguments of the engine, made plain for one simulation.


def pick(values, i, batch, nodes):
    return [float(v) for v in np.broadcast_to(np.asarray(values, float), (batch, nodes))[i]]


class Problem:
    """What one simulation of a batch consists of."""

    def __init__(self, clock, position, *, network, initial, index, step=None, **given):
        batch, n = len(index), network.n_nodes
        self.clock, self.n = clock, n
        constants = {**PUBLISHED, **given.get("constants", {})}
        picked = {name: pick(v, position, batch, n) for name, v in constants.items()}
        self.c = [{name: v[k] for name, v in picked.items()} for k in range(n)]
        self.drive = {t: [0.0] * n for t in TARGETS}
        self.sigma = {}
        for t, v in given.get("drive", {}).items():
            self.drive[t] = pick(v, position, batch, n)
        for t, v in given.get("noise", {}).items():
            self.sigma[t] = pick(v, position, batch, n)
        y = np.broadcast_to(np.asarray(initial, float), (6, batch, n))[:, position]
        self.initial = [[float(v) for v in y[:, k]] for k in range(n)]
        speed = float(np.broadcast_to(given.get("speed", 5.0), (batch,))[position])
        strength = given.get("strength", 1.0)
        self.links = []
        for link in network.connections:
            g = strength[link.name] if isinstance(strength, dict) else strength
            g = float(np.broadcast_to(g, (batch,))[position])
            lengths = np.zeros((n, n)) if link.lengths is None else np.asarray(link.lengths)
            edges = [
                (i, j, float(w), float(lengths[i, j]) * 1e-3 / speed)
                for (i, j), w in np.ndenumerate(np.asarray(link.weights))
                if w != 0
            ]
            source = link.source or "rate"
            self.links.append((g, edges, source, link.target or "pyramidal", link.form))
        self.stimuli = [
            (
                s,
                NODES.index(s.node)
                if isinstance(s.node, str)
                else int(np.broadcast_to(s.node, (batch,))[position]),
                s.target or "pyramidal",
            )
            for s in given.get("stimuli", ())
        ]
        self.position = position
        self.key = keys(
            given.get("seed", 0),
            given.get("stream", "noise"),
            np.asarray(index)[[position]],
            np.broadcast_to(given.get("trial", 0), (batch,))[[position]],
        )

    def outside(self, t):
        """Rates that reach each target and node at a time, but for noise."""
        inputs = {target: list(values) for target, values in self.drive.items()}
        for stimulus, node, target in self.stimuli:
            inputs[target][node] += stimulus_at(stimulus, t, self.position, self.clock)
        return inputs

    def noise(self, step, dt):
        """Rates of white noise during a step."""
        rates = {t: [0.0] * self.n for t in TARGETS}
        for target, sigma in self.sigma.items():
            for k in range(self.n):
                counter = (step * self.n + k) * len(TARGETS) + TARGETS.index(target)
                z = draws(self.key, np.array([counter], np.uint32))[0]
                rates[target][k] = sigma[k] * float(z) / math.sqrt(dt)
        return rates

    def slopes(self, y, *inputs):
        """Derivatives of all nodes for the sum of some inputs."""
        return [
            column(
                y[k],
                sum(part["pyramidal"][k] for part in inputs),
                sum(part["interneurons"][k] for part in inputs),
                self.c[k],
            )
            for k in range(self.n)
        ]

    def coupled(self, y, arriving):
        """Coupling to the states y; ``arriving(source, j, delay)`` tells what j has sent."""
        result = {t: [0.0] * self.n for t in TARGETS}
        for g, edges, source, target, form in self.links:
            for i, j, w, delay in edges:
                x = arriving(source, j, delay)
                if form == "diffusive":
                    x = x - sent(source, y[i], self.c[i])
                result[target][i] += g * w * x
        return result


def stimulus_at(stimulus, t, position, clock):
    """The rate of a stimulus at one time, from its definition."""
    if isinstance(stimulus, Course):
        rates = np.atleast_2d(stimulus.rates)
        rates = rates[position % len(rates)]
        times = clock.step_times if stimulus.times is None else np.asarray(stimulus.times)
        return float(np.interp(t, times, rates, left=0.0, right=0.0))
    shape = np.broadcast_shapes(np.shape(stimulus.onset), np.shape(stimulus.amplitude))
    onsets, peaks = (np.broadcast_to(v, shape) for v in (stimulus.onset, stimulus.amplitude))
    if shape:
        onsets, peaks = onsets[position % shape[0]], peaks[position % shape[0]]
    total = 0.0
    for onset, peak in zip(np.ravel(onsets), np.ravel(peaks), strict=True):
        since = t - float(onset)
        if isinstance(stimulus, Pulse):
            half = 0.5 * clock.step
            total += float(peak) if -half <= since < stimulus.duration - half else 0.0
        elif isinstance(stimulus, Volley) and since > 0:
            n, w = stimulus.order, stimulus.width
            total += float(peak) * (since / (n * w)) ** n * math.exp(n - since / w)
    return total


# Compiled as the kernels are, so that the numbers have the same bits there and here.
@numba.njit(fastmath={"contract", "nsz", "arcp"}, error_model="numpy")
def _draws(first, second, counter):
    out = np.empty(counter.size, np.float32)
    for i in range(counter.size):
        out[i] = standard_normal(first[i], second[i], counter[i])
    return out


def draws(key, counter):
    """Normal numbers of the package; key and counter are broadcast against each other."""
    first, second, counter = np.broadcast_arrays(key[0], key[1], counter)
    flat = first.ravel(), second.ravel(), counter.ravel().astype(np.uint32)
    return _draws(*(v.copy() for v in flat)).reshape(counter.shape)


# --- The schemes.


def add(y, *terms):
    """y plus multiples of slopes, node by node."""
    result = [list(states) for states in y]
    for factor, slopes in terms:
        for states, slope in zip(result, slopes, strict=True):
            for s in range(6):
                states[s] += factor * slope[s]
    return result


def solve(clock, position, *, scheme="heun", coupling_update="stage", **given):
    """Integrate one simulation of a batch; return potential and rate (node, step)."""
    problem = Problem(clock, position, **given)
    dt, links = clock.step, problem.links
    frozen = scheme == "euler" or coupling_update == "step"
    least = 0 if frozen else 1

    def late(delay):
        return 0 if delay == 0 else max(round(delay / dt), least)

    y = problem.initial
    past = []  # states of all steps

    def coupling(moment, here):
        """Coupling at a moment counted in steps, to states that are found there."""

        def arriving(source, j, delay):
            when = moment - late(delay)
            at = here if when == moment else past[max(when, 0)]
            return sent(source, at[j], problem.c[j])

        return problem.coupled(here, arriving) if links else {t: [0.0] * problem.n for t in TARGETS}

    times = clock.step_times
    for step in range(clock.n_steps):
        past.append(y)
        noise = problem.noise(step, dt)
        start, end = problem.outside(times[step]), problem.outside(times[step + 1])
        begun = coupling(step, y)
        first = problem.slopes(y, start, noise, begun)
        if scheme == "euler":
            y = add(y, (dt, first))
        elif scheme == "heun":
            z = add(y, (dt, first))
            there = begun if frozen else coupling(step + 1, z)
            second = problem.slopes(z, end, noise, there)
            y = add(y, (dt / 2, first), (dt / 2, second))
        else:
            middle = problem.outside((times[step] + times[step + 1]) / 2)
            total = [(dt / 6, first)]
            slope = first
            for length, weight, outside in [(0.5, 2, middle), (0.5, 2, middle), (1, 1, end)]:
                z = add(y, (length * dt, slope))
                now = begun if frozen else coupling(step, z)
                slope = problem.slopes(z, outside, noise, now)
                total.append((weight * dt / 6, slope))
            y = add(y, *total)
    past.append(y)
    return signals(problem, past)


def signals(problem, states):
    v = np.array([[node[1] - node[2] for node in y] for y in states]).T
    rates = [[sigmoid(x, c) for x in row] for row, c in zip(v, problem.c, strict=True)]
    return {"potential": v, "rate": np.array(rates)}


def solve_accurately(clock, position, **given):
    """Integrate one simulation without noise by DOP853, interval by interval of the least delay."""
    problem = Problem(clock, position, **given)
    n = problem.n
    assert not any(any(sigma) for sigma in problem.sigma.values())
    delays = [delay for _, edges, _, _, _ in problem.links for *_, delay in edges if delay > 0]
    times = clock.step_times
    begin, end = times[0], times[-1]
    bounds = np.append(np.arange(begin, end - 1e-9, min(delays, default=end - begin)), end)
    pieces = []

    def past(t):
        if t <= begin or not pieces:
            return problem.initial
        piece = min(int(np.searchsorted(bounds, t)) - 1, len(pieces) - 1)
        return pieces[piece](t).reshape(n, 6)

    def field(t, flat):
        y = flat.reshape(n, 6)
        states = {delay: past(t - delay) for delay in set(delays)}

        def arriving(source, j, delay):
            at = y if delay == 0 else states[delay]
            return sent(source, at[j], problem.c[j])

        slopes = problem.slopes(y, problem.outside(t), problem.coupled(y, arriving))
        return np.ravel(slopes)

    y = np.ravel(problem.initial)
    for first, last in pairwise(bounds):
        solution = solve_ivp(
            field,
            (first, last),
            y,
            method="DOP853",
            dense_output=True,
            rtol=1e-10,
            atol=1e-11,
            max_step=0.005,
        )
        pieces.append(solution.sol)
        y = solution.y[:, -1]
    return signals(
        problem, [past(t).reshape(n, 6) if t > begin else problem.initial for t in times]
    )


# --- One network that has everything, for many tests: few kernels have to be compiled.

POPULATION = 50  # simulations, of which a test takes those that it likes


@cache
def _population():
    rng = np.random.default_rng(20)
    size = POPULATION
    return {
        "A": rng.uniform(2.6, 4.5, (size, 4)),
        "B": rng.uniform(17.6, 28.0, (size, 4)),
        "a": rng.uniform(80, 120, (size, 4)),
        "b": rng.uniform(40, 60, (size, 4)),
        "C": rng.uniform(100, 150, (size, 4)),
        "alpha_2": rng.uniform(0.7, 0.9, (size, 1)),
        "alpha_3": rng.uniform(0.2, 0.3, (size, 1)),
        "v0": rng.uniform(5.5, 6.5, (1, 4)) + np.zeros((size, 1)),
        "e0": rng.uniform(2.0, 3.0, (size, 4)),
        "r": rng.uniform(0.5, 0.6, (size, 1)),
        "pyramidal": rng.uniform(30, 150, (size, 4)),
        "interneurons": rng.uniform(0.0, 0.5, (size, 1)),
        "sigma": rng.uniform(0.5, 2.0, (size, 4)),
        "small": rng.uniform(0.01, 0.03, (size, 1)),
        "forward": rng.uniform(2, 10, size),
        "relay": rng.uniform(0.01, 0.03, size),
        "gap": rng.uniform(0.5, 2.0, size),
        "speed": rng.uniform(2.0, 12.0, size),
        "peak": rng.uniform(50, 200, size),
        "onset": rng.uniform(0.0, 0.03, (size, 2)),
        "node": rng.integers(0, 4, size),
        "course": rng.uniform(0, 1, (size, 40)),
        "initial": rng.normal(size=(6, size, 4))
        * np.array([0.05, 5, 5, 5, 500, 500])[:, None, None],
    }


CONSTANTS = ("A", "B", "a", "b", "C", "alpha_2", "alpha_3", "v0", "e0", "r")

FORWARD = np.array([[0.6, 1.0, 0.0, 0.3], [0.2, 0.4, 0.5, 0.0], [0.7, 0.0, 0.0, 0.9], [0, 0, 0, 0]])
RELAY = np.array([[0.0, 0.7, 0.0, 0.4], [1.0, 0.0, -0.5, 0.0], [0.0, 0.3, -0.8, 0.1], [0, 0, 0, 0]])
GAP = np.array([[0.2, 0.6, 0.5, 0.0], [0.9, 0.3, 0.0, 0.4], [0.0, 0.8, 0.0, 0.2], [0, 0, 0, 0]])
# Zero lengths in the first matrix make edges without delay, with one of a column to itself.
FORWARD_MM = np.array([[0.0, 30, 17, 0], [44, 12, 0, 8], [25, 9, 0, 61], [10, 20, 30, 0]], float)
# The first length is less than a step; less than half of one for the faster speeds.
GAP_MM = np.array([[1.9, 22, 35, 8], [3, 14, 51, 19], [4, 28, 0.2, 40], [5, 6, 7, 8]], float)


def example_network(delays=True, unit=None):
    """Three kinds of connections. The last node receives nothing.

    ``unit`` rounds lengths up to multiples of it [mm].
    """
    first, third = (FORWARD_MM, GAP_MM) if delays else (None, None)
    if unit is not None:
        first, third = np.ceil(FORWARD_MM / 20) * unit, np.ceil(GAP_MM / 20) * unit
    return Network(
        [
            Connection(FORWARD, first, name="forward"),
            Connection(
                RELAY, source="potential", target="interneurons", form="linear", name="relay"
            ),
            Connection(GAP, third, source="potential", form="diffusive", name="gap"),
        ],
        nodes=NODES,
    )


def example(
    simulations, clock, *, network=None, own_speeds=False, noisy=True, smooth=False, **changes
):
    """Arguments of ``integrate`` for some simulations of the population.

    ``smooth`` leaves out stimuli with jumps; every example has the same kinds of arguments.
    """
    index = np.asarray(simulations)
    of = {name: v[:, index] if name == "initial" else v[index] for name, v in _population().items()}
    scale = 1.0 if noisy else 0.0
    stimuli = [Volley("V2", None, of["onset"], of["peak"][:, None] * [1.0, 0.5])]
    if smooth:
        stimuli.append(Volley(0, "interneurons", of["onset"][:, 0], 2.0, width=0.008))
    else:
        late = clock.step_times[0] + clock.step * np.arange(5.3, 45.3)
        stimuli += [
            Course(of["node"], "interneurons", of["course"], late),
            Pulse(of["node"], "pyramidal", of["onset"][:, 1], of["peak"], 0.01),
        ]
    arguments = {
        "network": example_network() if network is None else network,
        "constants": {name: of[name] for name in CONSTANTS},
        "drive": {"pyramidal": of["pyramidal"], "interneurons": of["interneurons"]},
        "noise": {"pyramidal": scale * of["sigma"], "interneurons": scale * of["small"]},
        "stimuli": stimuli,
        "strength": {name: of[name] for name in ("forward", "relay", "gap")},
        "speed": of["speed"] if own_speeds else 3.7,
        "initial": of["initial"],
        "record": ("potential", "rate"),
        "index": index + 1000,
        "seed": 3,
        "stream": "noise/training",
        "trial": index % 3,
    }
    return arguments | changes

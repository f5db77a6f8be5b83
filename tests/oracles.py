"""Independent models: scalar float64 equations in plain Python, and Heun's scheme with delays.

They share no code with the package. Each is written from the equations of its publication, as
second-order synapses: a state of one is a pair of a potential and its derivative.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import exp
from typing import Any

Values = Mapping[str, float]


@dataclass(frozen=True)
class Oracle:
    """One model.

    ``pairs`` are the names of the potentials and of their derivatives; ``synapses`` gives, for each
    potential, the gain [mV], the inverse time constant [1/s] and the rate that it receives [1/s].
    ``balance`` is the signal at which a column holds itself if its firing is that at signal v.
    """

    pairs: Mapping[str, str]
    synapses: Callable[[Values, Values, Values], Mapping[str, tuple[float, float, float]]]
    outputs: Mapping[str, Callable[[Values, Values], float]]
    balance: Callable[[float, Values, Values], float]

    def field(self, y: Values, u: Values, c: Values) -> dict[str, float]:
        """Return h'' = gain k rate - 2 k h' - k^2 h as a first-order system."""
        slopes = {}
        for name, (gain, k, received) in self.synapses(y, u, c).items():
            speed = self.pairs[name]
            slopes[name] = y[speed]
            slopes[speed] = gain * k * received - 2 * k * y[speed] - k * k * y[name]
        return slopes


def firing(v: float, c: Values) -> float:
    """Return the sigmoid of Jansen and Rit."""
    return 2 * c["e0"] / (1 + exp(c["r"] * (c["v0"] - v)))


def synapses_of(c: Values, *numbers: int) -> list[float]:
    return [c[f"alpha_{k}"] * c["C"] for k in numbers]


# --- Jansen and Rit 1995, equation 6


def _jansen_rit(y, u, c):
    c1, c2, c3, c4 = synapses_of(c, 1, 2, 3, 4)
    return {
        "y0": (c["A"], c["a"], firing(y["y1"] - y["y2"], c) + u["interneurons"]),
        "y1": (c["A"], c["a"], u["pyramidal"] + c2 * firing(c1 * y["y0"], c)),
        "y2": (c["B"], c["b"], c4 * firing(c3 * y["y0"], c)),
    }


def _jansen_rit_balance(v, u, c):
    c1, c2, c3, c4 = synapses_of(c, 1, 2, 3, 4)
    y0 = c["A"] / c["a"] * (firing(v, c) + u["interneurons"])
    y1 = c["A"] / c["a"] * (u["pyramidal"] + c2 * firing(c1 * y0, c))
    return y1 - c["B"] / c["b"] * c4 * firing(c3 * y0, c)


JANSEN_RIT = Oracle(
    pairs={"y0": "y3", "y1": "y4", "y2": "y5"},
    synapses=_jansen_rit,
    outputs={
        "potential": lambda y, c: y["y1"] - y["y2"],
        "rate": lambda y, c: firing(y["y1"] - y["y2"], c),
    },
    balance=_jansen_rit_balance,
)


# --- David and Friston 2003: two subpopulations, common rates


def _weighted(c):
    return ((1, c["w"]), (2, 1 - c["w"]))


def _david_friston_signal(y, c):
    return sum(w * (y[f"y1_{n}"] - y[f"y2_{n}"]) for n, w in _weighted(c))


def _david_friston(y, u, c):
    c1, c2, c3, c4 = synapses_of(c, 1, 2, 3, 4)
    y0 = sum(w * y[f"y0_{n}"] for n, w in _weighted(c))
    v = _david_friston_signal(y, c)
    result = {}
    for n, _ in _weighted(c):
        e, i = (c[f"A_{n}"], c[f"a_{n}"]), (c[f"B_{n}"], c[f"b_{n}"])
        result[f"y0_{n}"] = (*e, firing(v, c) + u["interneurons"])
        result[f"y1_{n}"] = (*e, u["pyramidal"] + c2 * firing(c1 * y0, c))
        result[f"y2_{n}"] = (*i, c4 * firing(c3 * y0, c))
    return result


def _david_friston_balance(v, u, c):
    c1, c2, c3, c4 = synapses_of(c, 1, 2, 3, 4)
    e = sum(w * c[f"A_{n}"] / c[f"a_{n}"] for n, w in _weighted(c))
    i = sum(w * c[f"B_{n}"] / c[f"b_{n}"] for n, w in _weighted(c))
    y0 = e * (firing(v, c) + u["interneurons"])
    return e * (u["pyramidal"] + c2 * firing(c1 * y0, c)) - i * c4 * firing(c3 * y0, c)


DAVID_FRISTON = Oracle(
    pairs={f"y{k}_{n}": f"y{k + 3}_{n}" for n in (1, 2) for k in range(3)},
    synapses=_david_friston,
    outputs={
        "potential": _david_friston_signal,
        "rate": lambda y, c: firing(_david_friston_signal(y, c), c),
    },
    balance=_david_friston_balance,
)


# --- Wendling et al. 2002


def _wendling_signal(y, c):
    return y["y1"] - y["y2"] - y["y3"]


def _wendling(y, u, c):
    c1, c2, c3, c4, c5, c6, c7 = synapses_of(c, 1, 2, 3, 4, 5, 6, 7)
    slow = firing(c3 * y["y0"], c)
    return {
        "y0": (c["A"], c["a"], firing(_wendling_signal(y, c), c) + u["interneurons"]),
        "y1": (c["A"], c["a"], u["pyramidal"] + c2 * firing(c1 * y["y0"], c)),
        "y2": (c["B"], c["b"], c4 * slow),
        "y3": (c["G"], c["g"], c7 * firing(c5 * y["y0"] - c6 * y["y4"], c)),
        "y4": (c["B"], c["b"], slow),
    }


def _wendling_balance(v, u, c):
    c1, c2, c3, c4, c5, c6, c7 = synapses_of(c, 1, 2, 3, 4, 5, 6, 7)
    y0 = c["A"] / c["a"] * (firing(v, c) + u["interneurons"])
    y1 = c["A"] / c["a"] * (u["pyramidal"] + c2 * firing(c1 * y0, c))
    y4 = c["B"] / c["b"] * firing(c3 * y0, c)
    return y1 - c4 * y4 - c["G"] / c["g"] * c7 * firing(c5 * y0 - c6 * y4, c)


WENDLING = Oracle(
    pairs={f"y{k}": f"y{k + 5}" for k in range(5)},
    synapses=_wendling,
    outputs={
        "potential": _wendling_signal,
        "rate": lambda y, c: firing(_wendling_signal(y, c), c),
    },
    balance=_wendling_balance,
)


# --- Jansen and Rit 1995 with the thalamus of Sen Bhattacharya et al. 2011


def _cortex(y, c):
    return y["y1"] - y["y2"] + c["relay_to_pyramidal"] * y["x0"]


def _relay(y, c):
    return (
        c["afferent_to_relay"] * y["x2"]
        + c["pyramidal_to_relay"] * y["y0"]
        - c["reticular_to_relay"] * y["x1"]
    )


def _reticular(y, c):
    return (
        c["relay_to_reticular"] * y["x0"]
        + c["pyramidal_to_reticular"] * y["y0"]
        - c["reticular_to_reticular"] * y["x1"]
    )


def _thalamocortical(y, u, c):
    c1, c2, c3, c4 = synapses_of(c, 1, 2, 3, 4)
    return {
        "y0": (c["A"], c["a"], firing(_cortex(y, c), c)),
        "y1": (c["A"], c["a"], u["pyramidal"] + c2 * firing(c1 * y["y0"], c)),
        "y2": (c["B"], c["b"], c4 * firing(c3 * y["y0"], c)),
        "x0": (c["A_t"], c["a_t"], firing(_relay(y, c), c)),
        "x1": (c["B_t"], c["b_t"], firing(_reticular(y, c), c)),
        "x2": (c["A_t"], c["a_t"], u["relay"]),
    }


def _thalamocortical_balance(v, u, c):
    c1, c2, c3, c4 = synapses_of(c, 1, 2, 3, 4)
    y = {
        "y0": c["A"] / c["a"] * firing(v, c),
        "x2": c["A_t"] / c["a_t"] * u["relay"],
    }
    # The reticular rate inhibits itself on every path: bisection finds the only one at rest.
    low, high = 0.0, 2 * c["e0"]
    for _ in range(50):
        middle = (low + high) / 2
        y["x1"] = c["B_t"] / c["b_t"] * middle
        y["x0"] = c["A_t"] / c["a_t"] * firing(_relay(y, c), c)
        if firing(_reticular(y, c), c) > middle:
            low = middle
        else:
            high = middle
    y["y1"] = c["A"] / c["a"] * (u["pyramidal"] + c2 * firing(c1 * y["y0"], c))
    y["y2"] = c["B"] / c["b"] * c4 * firing(c3 * y["y0"], c)
    return _cortex(y, c)


THALAMOCORTICAL = Oracle(
    pairs={f"{h}{k}": f"{h}{k + 3}" for h in "yx" for k in range(3)},
    synapses=_thalamocortical,
    outputs={
        "potential": _cortex,
        "rate": lambda y, c: firing(_cortex(y, c), c),
        "relay_rate": lambda y, c: firing(_relay(y, c), c),
        "relay_potential": _relay,
        "reticular_rate": lambda y, c: firing(_reticular(y, c), c),
    },
    balance=_thalamocortical_balance,
)


# --- David et al. 2006


def odd(v: float, c: Values) -> float:
    return 2 * c["e0"] / (1 + exp(-c["r"] * v)) - c["e0"]


def _david_2006(y, u, c):
    sent = odd(y["x2"] - y["x3"], c)
    return {
        "x1": (c["A"], c["a"], u["stellate"] + c["gamma_1"] * sent),
        "x2": (c["A"], c["a"], u["pyramidal"] + c["gamma_2"] * odd(y["x1"], c)),
        "x3": (c["B"], c["b"], c["gamma_4"] * odd(y["x7"], c)),
        "x7": (c["A"], c["a"], u["inhibitory"] + c["gamma_3"] * sent),
    }


def _david_2006_balance(v, u, c):
    e, i = c["A"] / c["a"], c["B"] / c["b"]
    x1 = e * (u["stellate"] + c["gamma_1"] * odd(v, c))
    x7 = e * (u["inhibitory"] + c["gamma_3"] * odd(v, c))
    return e * (u["pyramidal"] + c["gamma_2"] * odd(x1, c)) - i * c["gamma_4"] * odd(x7, c)


DAVID_2006 = Oracle(
    pairs={"x1": "x4", "x2": "x5", "x3": "x6", "x7": "x8"},
    synapses=_david_2006,
    outputs={
        "potential": lambda y, c: y["x2"] - y["x3"],
        "rate": lambda y, c: odd(y["x2"] - y["x3"], c),
        "stellate_rate": lambda y, c: odd(y["x1"], c),
    },
    balance=_david_2006_balance,
)

# --- Tilwani and O'Reilly, released code: the stimulus enters all three synapses


def _tilwani_2025(y, u, c):
    c1, c2, c3, c4 = synapses_of(c, 1, 2, 3, 4)
    return {
        "y0": (c["A"], c["a"], firing(y["y1"] - y["y2"], c) + u["interneurons"]),
        "y1": (c["A"], c["a"], u["pyramidal"] + c2 * firing(c1 * y["y0"], c)),
        "y2": (c["B"], c["b"], u["inhibition"] + c4 * firing(c3 * y["y0"], c)),
    }


def _tilwani_2025_balance(v, u, c):
    c1, c2, c3, c4 = synapses_of(c, 1, 2, 3, 4)
    e, i = c["A"] / c["a"], c["B"] / c["b"]
    y0 = e * (firing(v, c) + u["interneurons"])
    inhibited = i * (u["inhibition"] + c4 * firing(c3 * y0, c))
    return e * (u["pyramidal"] + c2 * firing(c1 * y0, c)) - inhibited


TILWANI_2025 = Oracle(
    pairs={"y0": "y3", "y1": "y4", "y2": "y5"},
    synapses=_tilwani_2025,
    outputs=JANSEN_RIT.outputs,
    balance=_tilwani_2025_balance,
)

ORACLES = {
    "david_2006": DAVID_2006,
    "david_friston": DAVID_FRISTON,
    "jansen_rit": JANSEN_RIT,
    "thalamocortical": THALAMOCORTICAL,
    "tilwani_2025": TILWANI_2025,
    "wendling": WENDLING,
}


@dataclass(frozen=True)
class Link:
    """Node ``to`` receives ``weight`` times what node ``sender`` sent ``delay`` steps ago."""

    to: int
    sender: int
    weight: float
    delay: int


def heun(
    oracle: Oracle,
    constants: Sequence[Values],
    rates: Callable[[int, int], Values],
    initial: Sequence[Values],
    step: float,
    n_steps: int,
    links: Sequence[Link] = (),
    source: str = "rate",
    target: str = "pyramidal",
) -> dict[str, list[list[float]]]:
    """Integrate a network; ``rates(step, node)`` enter by target. Return outputs[node][step].

    Before the beginning all nodes send what they send at it.
    """
    nodes = range(len(constants))
    send = oracle.outputs[source]

    def slopes(states: list[Any], k: int, sent: list[list[float]]) -> list[dict[str, float]]:
        """Return derivatives at step k; ``sent`` reaches from the beginning to step k."""
        result = []
        for n in nodes:
            u = dict(rates(k, n))
            for link in links:
                if link.to == n:
                    u[target] += link.weight * sent[max(k - link.delay, 0)][link.sender]
            result.append(oracle.field(states[n], u, constants[n]))
        return result

    now: list[Any] = [dict(y) for y in initial]
    sent: list[list[float]] = []
    outputs: dict[str, list[list[float]]] = {o: [[] for _ in nodes] for o in oracle.outputs}
    for k in range(n_steps + 1):
        sent.append([send(now[n], constants[n]) for n in nodes])
        for name, function in oracle.outputs.items():
            for n in nodes:
                outputs[name][n].append(function(now[n], constants[n]))
        first = slopes(now, k, sent)
        guess = [{s: now[n][s] + step * first[n][s] for s in now[n]} for n in nodes]
        if k == n_steps:
            break
        expected = [*sent, [send(guess[n], constants[n]) for n in nodes]]
        second = slopes(guess, k + 1, expected)
        now = [
            {s: now[n][s] + step / 2 * (first[n][s] + second[n][s]) for s in now[n]} for n in nodes
        ]
    return outputs

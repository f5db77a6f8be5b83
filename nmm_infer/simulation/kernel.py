"""From a model declaration to a batched, coupled kernel.

The batch is the innermost axis, in blocks of :data:`LANES` simulations that one core integrates
from beginning to end in its cache. A block is always full (the last one is padded), so a run has
the same bits in any batch and on any number of threads.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numba
from platformdirs import user_cache_dir

from nmm_infer.models import Model
from nmm_infer.simulation import _lanes, _math, noise
from nmm_infer.simulation._lanes import LANES
from nmm_infer.simulation.precision import translate

__all__ = ["Plan", "Scheme", "compile_kernel"]

Scheme = Literal["euler", "heun", "rk4"]

_FAST: dict[str, Any] = {
    "fastmath": {"contract", "nsz", "arcp"},
    "error_model": "numpy",
    "nogil": True,
}


@dataclass(frozen=True)
class Plan:
    """What a kernel is compiled for.

    Parameters
    ----------
    model : Model
        The declaration.
    scheme : {"euler", "heun", "rk4"}
        Euler-Maruyama, stochastic Heun, or the classical Runge-Kutta scheme of order 4.
    dtype : {"float32", "float64"}
        Precision.
    recorded : tuple of str
        Outputs that are kept.
    drives, noises, stimuli : tuple of str
        Targets that have a constant drive, noise, and stimuli.
    terms : tuple of (source, target, form)
        Connections.
    own : tuple of bool
        For each connection, whether a column receives something of itself without delay.
    instant, delayed : bool
        Whether there are connections without and with delay between columns.
    frozen : bool
        Whether coupling stays within a step what it is at its beginning; all connections count as
        delayed then.
    own_delays : bool
        Whether every simulation has delays of its own.
    filtered : bool
        Whether samples pass the anti-alias filter.
    """

    model: Model
    scheme: Scheme
    dtype: Literal["float32", "float64"]
    recorded: tuple[str, ...]
    drives: tuple[str, ...]
    noises: tuple[str, ...]
    stimuli: tuple[str, ...]
    terms: tuple[tuple[str, str, str], ...]
    own: tuple[bool, ...]
    instant: bool
    delayed: bool
    frozen: bool
    own_delays: bool
    filtered: bool

    @property
    def sent(self) -> tuple[str, ...]:
        """Outputs that columns send, in the order of the ring."""
        return tuple(sorted({source for source, _, _ in self.terms}))


def _indent(lines: Iterable[str], by: int) -> str:
    return "\n".join("    " * by + line for line in lines)


class _Writer:
    """Writes the kernel of a plan.

    All that a block needs stands in one workspace ``w`` (node, row, lane): rows at constant
    distances are what lets LLVM see that they do not overlap, and so vectorise over the lanes.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan, self.model = plan, plan.model
        self.states = range(len(self.model.states))
        self.rows = 0
        s = len(self.model.states)
        self.y = self._take(s)
        # Stages that depend on other nodes' stages are finished for all nodes one by one.
        self.split = plan.instant and plan.scheme != "euler"
        self.z = self._take(s) if self.split else 0
        self.d = self._take(s) if self.split and plan.scheme == "rk4" else 0
        self.drive = {t: self._take() for t in plan.drives}
        self.noise = {t: (self._take(), self._take()) for t in plan.noises}
        # Values of the stimuli at the stages of a step: beginning, (middle,) end.
        self.moments = {"euler": 1, "heun": 2, "rk4": 3}[plan.scheme]
        self.external = [self._take(len(plan.stimuli)) for _ in range(self.moments)]
        self.late = [(self._take(), self._take()) for _ in plan.terms] if plan.delayed else []
        self.now = [self._take() for _ in plan.terms] if plan.instant else []

    def _take(self, n: int = 1) -> int:
        self.rows += n
        return self.rows - n

    def row(self, row: int) -> str:
        return f"w[n, {row}, l]"

    def values(self, first: int) -> dict[str, str]:
        """Return expressions of the states that begin at a row, and of the constants."""
        names = {s.name: self.row(first + i) for i, s in enumerate(self.model.states)}
        constants = {c.name: f"c[m, {i}, l]" for i, c in enumerate(self.model.constants)}
        return {**names, **constants}

    def call(self, name: str, function: Callable[..., Any], values: dict[str, str]) -> str:
        code = function.__code__
        arguments = code.co_varnames[: code.co_argcount]
        return f"{name}({', '.join(values[a] for a in arguments)})"

    def output(self, name: str, values: dict[str, str]) -> str:
        return self.call(f"output_{name}", self.model.get_output(name).function, values)

    def inputs(self, values: dict[str, str], moment: int, arrived: int) -> dict[str, str]:
        """Return expressions of what enters each target at one moment of a step.

        ``arrived`` is 0 for delayed coupling at the beginning of the step, 1 for its end;
        ``values`` are those of the stage, from which a column's own part of coupling is found.
        """
        plan, result = self.plan, {}
        for target in self.model.targets:
            parts = []
            if target in self.drive:
                parts.append(self.row(self.drive[target]))
            if target in plan.stimuli:
                parts.append(self.row(self.external[moment] + plan.stimuli.index(target)))
            if target in self.noise:
                parts.append(self.row(self.noise[target][1]))
            for k, (source, aim, _) in enumerate(plan.terms):
                if aim != target:
                    continue
                amounts = [self.row(self.late[k][arrived])] if self.late else []
                amounts += [self.row(self.now[k])] if self.now else []
                if plan.own[k]:
                    amounts.append(f"own[{k}, n] * {self.output(source, values)}")
                if amounts:
                    parts.append(f"g[{k}, l] * ({' + '.join(amounts)})")
            result[target] = " + ".join(parts) or "F(0.0)"
        return result

    def slope(self, names: str, values: dict[str, str], moment: int, inputs: dict[str, str]) -> str:
        """Write one evaluation of the right-hand side."""
        slopes = ", ".join(f"{names}{i}" for i in self.states)
        comma = "," if len(self.states) == 1 else ""
        call = self.call("derivative", self.model.derivative, {**values, **inputs})
        return f"{slopes}{comma} = {call}"

    def lanes(self, body: list[str]) -> list[str]:
        """Write a loop over nodes and lanes.

        ``lanes`` is an argument of the kernel, always :data:`LANES`: a number that LLVM knew would
        make it unroll the loop before it vectorises.
        """
        return [
            "for n in range(nodes):",
            "    m = n * many",
            "    for l in range(lanes):",
            *(f"        {line}" for line in body),
        ]

    # The parts of a step.

    def send(self, first: int) -> list[str]:
        """Write the outputs that others receive, at the states from a row on."""
        if not (self.plan.delayed or self.plan.instant):
            return []
        values = self.values(first)
        return self.lanes(
            [
                f"sent[{o}, n, l] = {self.output(name, values)}"
                for o, name in enumerate(self.plan.sent)
            ]
        )

    def gather(self, rows: list[int], total: str, source: str, shift: str, edges: str) -> list[str]:
        """Write the weighted sum over the edges of each connection, into one row for each."""
        lines = []
        for k, row in enumerate(rows):
            lines += [
                "for n in range(nodes):",
                f"    {total}(w_flat, {source}_flat, {edges}_place, {edges}_weight,",
                f"        (n * {self.rows} + {row}) * {LANES}, {shift},",
                f"        {edges}_start[{k}, n], {edges}_start[{k}, n + 1])",
            ]
        return lines

    def gather_now(self) -> list[str]:
        """Sum what arrives without delay, from ``sent``."""
        return self.gather(self.now, "weighted_sum", "sent", "0, 0", "now")

    def gather_late(self, arrived: int) -> list[str]:
        """Sum what arrives from the ring."""
        rows = [row[arrived] for row in self.late]
        if not self.plan.own_delays:
            return self.gather(rows, "weighted_sum", "ring", "head * sent.size, ring.size", "late")
        # Where every lane has its own delays, a ring that is there twice costs less than wrapping.
        return self.gather(rows, "weighted_gather", "ring", "(head + slots) * sent.size, 0", "late")

    def stimulate(self) -> list[str]:
        """Write what the stimuli bring at the moments of a step.

        Where all lanes have their stimulus at one node, a row is overwritten by the first stimulus
        that reaches it.
        """
        if not self.plan.stimuli:
            return []
        stride = 2 if self.plan.scheme == "rk4" else 1
        lines = []
        for moment, first in enumerate(self.external):
            lines += [
                f"at = {stride} * step + {moment} - window",
                "if at < 0 or at > silent:",
                "    at = silent",
                "if alike:",
                "    for q in range(into.size):",
                f"        n = where[q, start] * {self.rows} + {first} + into[q]",
                f"        copy_lanes(w_flat, n * {LANES}, course_flat,",
                f"                   (q * course.shape[1] + at) * {LANES}, not fresh_row[q])",
                "else:",
                "    for q in range(into.size):",
                f"        for l in range({LANES}):",
                f"            w[where[q, start + l], {first} + into[q], l] = F(0.0)",
                "    for q in range(into.size):",
                f"        for l in range({LANES}):",
                f"            w[where[q, start + l], {first} + into[q], l] += course[q, at, l]",
            ]
        return lines

    def disturb(self) -> list[str]:
        lines = []
        for target, (amplitude, row) in self.noise.items():
            component = self.model.targets.index(target)
            lines += [
                "for n in range(nodes):",
                f"    counter = np.uint32((step * nodes + n) * {len(self.model.targets)} "
                f"+ {component})",
                "    for l in range(lanes):",
                f"        w[n, {row}, l] = w[n, {amplitude}, l] * F(standard_normal("
                "key[0, l], key[1, l], counter))",
            ]
        return lines

    def couple(self) -> list[str]:
        """Find what arrives at the beginning of a step, and what is known of its end."""
        lines = self.send(self.y)
        if self.plan.delayed:
            lines.append("ring[head] = sent")
            lines += ["ring[head + slots] = sent"] if self.plan.own_delays else []
        lines += self.gather_now()
        lines += self.gather_late(0 if self.plan.frozen else 1)
        if self.plan.delayed:
            lines.append("head = head + 1 if head + 1 < slots else 0")
        return lines

    def advance(self) -> list[str]:
        scheme, y = self.plan.scheme, self.y
        here = self.values(y)
        first = self.inputs(here, 0, 0)
        if scheme == "euler":
            body = [self.slope("d", here, 0, first)]
            body += [f"{self.row(y + i)} += dt * d{i}" for i in self.states]
            return self.lanes(self.keep() + body)
        if scheme == "rk4":
            return self._runge_kutta()
        late = 0 if self.plan.frozen else 1
        carry = [f"{self.row(a)} = {self.row(b)}" for a, b in self.late] if late else []
        if not self.split:
            body = [self.slope("d", here, 0, first)]
            body += [f"z{i} = {self.row(y + i)} + dt * d{i}" for i in self.states]
            there = {**here, **{s.name: f"z{i}" for i, s in enumerate(self.model.states)}}
            second = self.inputs(here if self.plan.frozen else there, 1, late)
            body += [self.slope("e", there, 1, second)]
            body += [f"{self.row(y + i)} += half * (d{i} + e{i})" for i in self.states]
            return self.lanes(self.keep() + body + carry)
        # The slope at the beginning need not be kept: it is (z - y) / dt.
        predict = [self.slope("d", here, 0, first)]
        predict += [f"{self.row(self.z + i)} = {self.row(y + i)} + dt * d{i}" for i in self.states]
        there = self.values(self.z)
        correct = [self.slope("e", there, 1, self.inputs(there, 1, late))]
        correct += [
            f"{self.row(y + i)} = half * e{i} + F(0.5) * "
            f"({self.row(y + i)} + {self.row(self.z + i)})"
            for i in self.states
        ]
        return [
            *self.lanes(self.keep() + predict),
            *self.send(self.z),
            *self.gather_now(),
            *self.lanes(correct + carry),
        ]

    def _runge_kutta(self) -> list[str]:
        y = self.y
        here = self.values(y)
        if not self.split:
            body = [self.slope("d", here, 0, self.inputs(here, 0, 0))]
            body += [f"s{i} = d{i}" for i in self.states]
            there = {**here, **{s.name: f"z{i}" for i, s in enumerate(self.model.states)}}
            arrived = here if self.plan.frozen else there
            for stage, (moment, length) in enumerate([(1, "half"), (1, "half"), (2, "dt")]):
                body += [f"z{i} = {self.row(y + i)} + {length} * d{i}" for i in self.states]
                body += [self.slope("d", there, moment, self.inputs(arrived, moment, 0))]
                weight = "" if stage == 2 else "F(2.0) * "
                body += [f"s{i} += {weight}d{i}" for i in self.states]
            body += [f"{self.row(y + i)} += sixth * s{i}" for i in self.states]
            return self.lanes(self.keep() + body)
        lines: list[str] = []
        stages = [(y, 0, "half"), (self.z, 1, "half"), (self.z, 1, "dt"), (self.z, 2, "")]
        for stage, (at, moment, length) in enumerate(stages):
            if stage:
                lines += [*self.send(self.z), *self.gather_now()]
            there = self.values(at)
            body = [self.slope("d", there, moment, self.inputs(there, moment, 0))]
            for i in self.states:
                total = self.row(self.d + i)
                if stage == 0:
                    body.append(f"{total} = d{i}")
                elif stage < 3:
                    body.append(f"{total} += F(2.0) * d{i}")
                if stage < 3:
                    body.append(f"{self.row(self.z + i)} = {self.row(y + i)} + {length} * d{i}")
                else:
                    body.append(f"{self.row(y + i)} += sixth * ({total} + d{i})")
            lines += self.lanes(body if stage else self.keep() + body)
        return lines

    def keep(self) -> list[str]:
        """Write what is recorded of one node, for the filter; part of a loop over lanes."""
        if not self.plan.filtered:
            return []
        values = self.values(self.y)
        outputs = enumerate(self.plan.recorded)
        return [f"fresh[{r}, n, phase, l] = {self.output(name, values)}" for r, name in outputs]

    def sample(self) -> list[str]:
        """Write a sample without a filter."""
        if self.plan.filtered:
            return []
        values = self.values(self.y)
        body = [
            f"output[{r}, start + l, n, (step - settle) // every] = {self.output(name, values)}"
            for r, name in enumerate(self.plan.recorded)
        ]
        return [
            "if step >= settle and (step - settle) % every == 0:",
            *(f"    {line}" for line in self.lanes(body)),
        ]

    def finish(self) -> list[str]:
        """Count what was kept; each full block of values goes into the filter."""
        if not self.plan.filtered:
            return []
        return [
            "phase += 1",
            "if phase == every:",
            "    phase = 0",
            "    for r in range(partial.shape[0]):",
            "        for n in range(nodes):",
            "            at = r * nodes + n",
            f"            smooth(partial_flat, at * partial.shape[2] * {LANES}, fresh_flat,",
            f"                   at * taps.shape[1] * {LANES}, taps_flat, taps.shape[0],",
            "                   taps.shape[1])",
            "            if number >= taps.shape[0] - 1:",
            f"                for l in range({LANES}):",
            "                    output[r, start + l, n, number - taps.shape[0] + 1] = "
            "partial[r, n, 0, l]",
            "    number += 1",
        ]

    def source(self) -> str:
        plan = self.plan
        functions = {"derivative": self.model.derivative}
        for name in dict.fromkeys([*plan.recorded, *plan.sent]):
            functions[f"output_{name}"] = self.model.get_output(name).function
        initial = [
            *(f"w[n, {self.y + i}, l] = initial[{i}, n, start + l]" for i in self.states),
            *(
                f"w[n, {row}, l] = drive[{i}, n * many_drives, start + l]"
                for i, row in enumerate(self.drive.values())
            ),
            *(
                f"w[n, {row}, l] = amplitude[{i}, n * many_noises, start + l] * per_root_dt"
                for i, (row, _) in enumerate(self.noise.values())
            ),
        ]
        before: list[str] = []
        width, lane = (LANES, "start + l") if plan.own_delays else (1, "0")
        if plan.delayed:
            # Before the beginning the past is constant.
            before += [
                *self.send(self.y),
                "for h in range(ring.shape[0]):",
                "    ring[h] = sent",
                "for e in range(late_source.size):",
                f"    for l in range({width}):",
                f"        late = ({0 if plan.frozen else 1} - late_delay[e, {lane}]) * sent.size",
                f"        late_place[e * {width} + l] = late + late_source[e] * {LANES}"
                + (" + l" if plan.own_delays else ""),
            ]
            if not plan.frozen:
                before += self.gather_late(0)
        step = [*self.stimulate(), *self.disturb(), *self.couple(), *self.advance()]
        alone = [*self.lanes(self.keep()), *self.finish()] if plan.filtered else []
        if plan.filtered:
            before += ["for h in range(lead, 0):", *(f"    {line}" for line in alone)]
            step += ["if step >= lead:", *(f"    {line}" for line in self.finish())]
        return _TEMPLATE.format(
            F=plan.dtype,
            LANES=LANES,
            ROWS=self.rows,
            SENT=max(len(plan.sent), 1),
            K=len(self.model.constants),
            WIDTH=width,
            TWICE=2 if plan.own_delays else 1,
            functions=translate(functions),
            initial=_indent(self.lanes(initial), 2),
            before=_indent(before, 2),
            sample=_indent(self.sample(), 3),
            alone=_indent([*alone, "break"], 4),
            step=_indent(step, 3),
            S=len(self.model.states),
        )


_TEMPLATE = """
import numpy as np
from numpy import sqrt, tanh

F = np.{F}


{functions}


@compiled
def kernel(lanes, begin, end, initial, constants, drive, amplitude, strength, keys, stimulus,
           window, where, into, own, now_start, now_place, now_weight, late_start, late_source,
           late_weight, late_delay, slots, taps, dt, lead, settle, every, total, output, last):
    wide_vectors()
    nodes = initial.shape[1]
    many = 1 if constants.shape[1] > 1 else 0
    many_drives = 1 if drive.shape[1] > 1 else 0
    many_noises = 1 if amplitude.shape[1] > 1 else 0
    half = F(0.5) * dt
    sixth = dt / F(6.0)
    per_root_dt = F(1.0) / F(np.sqrt(dt))
    w = on_lines((nodes, {ROWS}, {LANES}), F)
    c = on_lines((constants.shape[1], {K}, {LANES}), F)
    g = on_lines((strength.shape[0], {LANES}), F)
    sent = on_lines(({SENT}, nodes, {LANES}), F)
    ring = on_lines((slots * {TWICE}, {SENT}, nodes, {LANES}), F)
    late_place = np.empty(late_source.size * {WIDTH}, np.int32)
    fresh = on_lines((output.shape[0], nodes, taps.shape[1], {LANES}), F)
    partial = on_lines((output.shape[0], nodes, taps.shape[0] + 1, {LANES}), F)
    taps_flat = taps.reshape(-1)
    key = np.empty((2, {LANES}), np.uint32)
    silent = stimulus.shape[2]
    course = on_lines((stimulus.shape[0], silent + 1, {LANES}), F)
    course_flat = course.reshape(-1)
    fresh_row = np.empty(stimulus.shape[0], np.bool_)
    w_flat, sent_flat, ring_flat = w.reshape(-1), sent.reshape(-1), ring.reshape(-1)
    fresh_flat, partial_flat = fresh.reshape(-1), partial.reshape(-1)
    for block in range(begin, end):
        start = block * {LANES}
        w[:] = F(0.0)
        fresh[:] = F(0.0)
        partial[:] = F(0.0)
        course[:, silent] = F(0.0)
        for l in range({LANES}):
            key[0, l] = keys[0, start + l]
            key[1, l] = keys[1, start + l]
            for k in range(g.shape[0]):
                g[k, l] = strength[k, start + l]
        for n in range(c.shape[0]):
            for k in range({K}):
                for l in range({LANES}):
                    c[n, k, l] = constants[k, n, start + l]
{initial}
        alike = True
        for q in range(stimulus.shape[0]):
            fresh_row[q] = True
            for before in range(q):
                if into[before] == into[q] and where[before, start] == where[q, start]:
                    fresh_row[q] = False
            for l in range({LANES}):
                if where[q, start + l] != where[q, start]:
                    alike = False
            for l in range({LANES}):
                for at in range(silent):
                    course[q, at, l] = stimulus[q, start + l, at]
        phase = number = head = 0
{before}
        for step in range(total + 1):
{sample}
            if step == total:
{alone}
{step}
        for n in range(nodes):
            for l in range({LANES}):
                for i in range({S}):
                    last[i, n, start + l] = w[n, i, l]
"""


_LOCK = threading.Lock()
_KERNELS: dict[Plan, Callable[..., None]] = {}


def compile_kernel(plan: Plan) -> Callable[..., None]:
    """Compile one kernel.

    In the stochastic Heun scheme predictor and corrector share the noise increment, and coupling
    is evaluated at both ends of the step, so the scheme keeps order 2 without noise and strong
    order 1 with additive noise (Kloeden and Platen 1992, Numerical Solution of Stochastic
    Differential Equations). With delays of at least a step, what arrives at the end of a step is
    known at its beginning and arrives at the beginning of the next: it is summed once a step.

    Parameters
    ----------
    plan : Plan
        What to compile for.

    Returns
    -------
    callable
        ``kernel(begin, end, ...)`` integrates the blocks from ``begin`` to ``end`` without holding
        the interpreter; :func:`nmm_infer.simulation.engine.integrate` prepares its arguments.
    """
    with _LOCK:  # threads of a campaign ask for the same kernel at the same time
        if plan not in _KERNELS:
            _KERNELS[plan] = _load(plan.model.name, _Writer(plan).source())
        return _KERNELS[plan]


def _load(name: str, source: str) -> Callable[..., None]:
    """Import the generated source from the user's cache, so that Numba keeps its machine code.

    The file's name is a hash of the source and of the functions that it calls, so a change to any
    of them is another file.
    """
    parts = [source, numba.__version__]
    parts += [Path(str(m.__file__)).read_text() for m in (_lanes, _math, noise)]
    digest = hashlib.sha256("".join(parts).encode()).hexdigest()
    name = f"{name}_{digest[:16]}"
    folder = Path(os.environ.get("NMM_INFER_CACHE", user_cache_dir("nmm_infer"))) / "kernels"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.py"
    if not file.exists():
        aside = file.with_suffix(f".{os.getpid()}.tmp")
        aside.write_text(source)
        os.replace(aside, file)
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # Numba looks the module up when it restores machine code.
    single = "F = np.float32" in source
    module.njit = numba.njit(forceinline=True, **_FAST)
    module.compiled = numba.njit(cache=True, **_FAST)
    module.standard_normal = noise.standard_normal
    module.wide_vectors = _lanes.wide_vectors
    module.on_lines = _lanes.on_lines
    module.copy_lanes = _lanes.copy_lanes
    module.weighted_sum = _lanes.weighted_sum
    module.smooth = _lanes.smooth
    module.weighted_gather = _lanes.weighted_gather
    module.exp, module.log = (_math.exp, _math.log) if single else (_math.exp_64, _math.log_64)
    module.power_2, module.power_3, module.power_4 = _math.power_2, _math.power_3, _math.power_4
    spec.loader.exec_module(module)
    return module.kernel

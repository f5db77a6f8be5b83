"""From a model declaration to a batched, coupled kernel.

The batch is the innermost axis, in blocks of :data:`LANES` simulations that one core integrates
from beginning to end in its cache. A block is always full (the last one is padded), so a run has
the same bits in any batch and on any number of threads.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
from platformdirs import user_cache_dir

from nmm_infer.models import Model, _math
from nmm_infer.simulation import noise

__all__ = ["LANES", "compile_kernel"]

LANES = 16

_TEMPLATE = """
import numba
import numpy as np

LANES = {LANES}


def kernel(initial, constants, drive, noise, strength, focus, stimulus, keys,
           edge_start, edge_source, edge_weight, dt, settle, samples, every, output):
    nodes = initial.shape[1]
    blocks = initial.shape[2] // LANES
    coupled = edge_source.size > 0
    half = np.float32(0.5) * dt
    per_root_dt = np.float32(1.0) / np.float32(np.sqrt(dt))
    for block in numba.prange(blocks):
        start = block * LANES
        w = np.zeros((nodes, {ROWS}, LANES), np.float32)
        rate = np.empty((nodes, LANES), np.float32)
        key = np.empty((2, LANES), np.uint32)
        noisy = False
        for l in range(LANES):
            key[0, l] = keys[0, start + l]
            key[1, l] = keys[1, start + l]
        for n in range(nodes):
            for l in range(LANES):
                for s in range({S}):
                    w[n, s, l] = initial[s, n, start + l]
                for k in range({K}):
                    w[n, {CONSTANT} + k, l] = constants[k, n, start + l]
                w[n, {DRIVE}, l] = drive[n, start + l]
                w[n, {NOISE}, l] = noise[n, start + l] * per_root_dt
                w[n, {STRENGTH}, l] = strength[start + l]
                if noise[n, start + l] != 0:
                    noisy = True
        total = settle + (samples - 1) * every
        for step in range(total + 1):
            if step >= settle and (step - settle) % every == 0:
                i = (step - settle) // every
                for n in range(nodes):
                    for l in range(LANES):
                        output[start + l, n, i] = out({y_list})
            if step == total:
                break
            for l in range(LANES):
                w[focus[start + l], {EXTERNAL}, l] = stimulus[start + l, step]
            for n in range(nodes):
                for l in range(LANES):
                    rate[n, l] = send({y_list}, {c_list})
            if noisy:
                for n in range(nodes):
                    place = np.uint32(step * nodes + n)
                    for l in range(LANES):
                        w[n, {XI}, l] = w[n, {NOISE}, l] * standard_normal(
                            key[0, l], key[1, l], place)
            if coupled:
                gather(w, rate, edge_start, edge_source, edge_weight)
            for n in range(nodes):
                for l in range(LANES):
                    u = w[n, {DRIVE}, l] + w[n, {EXTERNAL}, l] + w[n, {XI}, l] + w[n, {SENT}, l]
                    {d_list} = rhs({y_list}, rate[n, l], u, {c_list})
                    {predict}
            for l in range(LANES):
                w[focus[start + l], {EXTERNAL}, l] = stimulus[start + l, step + 1]
            for n in range(nodes):
                for l in range(LANES):
                    rate[n, l] = send({z_list}, {c_list})
            if coupled:
                gather(w, rate, edge_start, edge_source, edge_weight)
            for n in range(nodes):
                for l in range(LANES):
                    u = w[n, {DRIVE}, l] + w[n, {EXTERNAL}, l] + w[n, {XI}, l] + w[n, {SENT}, l]
                    {d_list} = rhs({z_list}, rate[n, l], u, {c_list})
                    {correct}


def gather(w, rate, edge_start, edge_source, edge_weight):
    for n in range(w.shape[0]):
        {zero}
        for e in range(edge_start[n], edge_start[n + 1]):
            j = edge_source[e]
            weight = edge_weight[e]
            {add}
        {store}
"""


@cache
def compile_kernel(model: Model) -> Callable[..., None]:
    """Compile the stochastic Heun scheme of one model.

    The predictor and the corrector share the noise increment, and coupling is evaluated at both
    ends of the step, so the scheme keeps order 2 without noise and strong order 1 with additive
    noise (Kloeden and Platen 1992, Numerical Solution of Stochastic Differential Equations).

    Parameters
    ----------
    model : Model
        The declaration.

    Returns
    -------
    callable
        ``kernel(initial, constants, drive, noise, strength, focus, stimulus, keys, edge_start,
        edge_source, edge_weight, dt, settle, samples, every, output)`` with ``initial`` (state,
        node, batch), ``constants`` (constant, node, batch), ``drive`` [1/s] and ``noise``
        [1/sqrt(s)] (node, batch), ``strength`` (batch,), ``focus`` (batch,), ``stimulus`` [1/s]
        (batch, steps + 1), ``keys`` (2, batch), the edges in compressed rows, ``dt`` [s], and
        ``output`` (batch, node, samples), which it fills. The batch is a multiple of
        :data:`LANES`.
    """
    s, k = len(model.states), len(model.constants)
    # One workspace, (node, row, lane): rows at constant distances are what lets LLVM see that
    # they do not overlap, and so vectorise over the lanes.
    rows = ["DRIVE", "NOISE", "STRENGTH", "EXTERNAL", "XI", "SENT"]
    place = {name: 3 * s + k + i for i, name in enumerate(rows)}
    source = _TEMPLATE.format(
        LANES=LANES,
        S=s,
        K=k,
        ROWS=3 * s + k + len(rows),
        CONSTANT=3 * s,
        **place,
        y_list=", ".join(f"w[n, {i}, l]" for i in range(s)),
        z_list=", ".join(f"w[n, {s + i}, l]" for i in range(s)),
        c_list=", ".join(f"w[n, {3 * s + i}, l]" for i in range(k)),
        d_list=", ".join(f"d{i}" for i in range(s)),
        predict="; ".join(
            f"w[n, {2 * s + i}, l] = d{i}; w[n, {s + i}, l] = w[n, {i}, l] + dt * d{i}"
            for i in range(s)
        ),
        zero="; ".join(f"t{i} = np.float32(0.0)" for i in range(LANES)),
        add="; ".join(f"t{i} += weight * rate[j, {i}]" for i in range(LANES)),
        store="; ".join(
            f"w[n, {place['SENT']}, {i}] = w[n, {place['STRENGTH']}, {i}] * t{i}"
            for i in range(LANES)
        ),
        correct="; ".join(
            f"w[n, {i}, l] += half * (w[n, {2 * s + i}, l] + d{i})" for i in range(s)
        ),
    )
    return _load(model, source)


def _load(model: Model, source: str) -> Callable[..., None]:
    """Import the generated source from the user's cache, so that Numba keeps its machine code.

    The file's name is a hash of the source, of the model's own file and of this room, so a change
    to any of them is another file.
    """
    path = Path(inspect.getfile(inspect.unwrap(model.rate)))
    parts = [path.read_text(), Path(_math.__file__).read_text(), Path(noise.__file__).read_text()]
    digest = hashlib.sha256("".join([source, numba.__version__, *parts]).encode()).hexdigest()
    name = f"{model.name}_{digest[:16]}"
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
    module.standard_normal = noise.standard_normal
    module.send, module.rhs, module.out = model.rate, model.derivative, model.output
    spec.loader.exec_module(module)
    fast: dict[str, Any] = {
        "fastmath": {"contract", "nsz", "arcp"},
        "error_model": "numpy",
        "cache": True,
    }
    module.gather = numba.njit(**fast)(module.gather)
    return numba.njit(parallel=True, **fast)(module.kernel)

"""What one core can do at most: multiply-adds and reads per second, measured.

Both kernels are written as vector instructions, so that nothing depends on what a compiler makes of
a loop. Vector width and number of independent chains are tried out; the best one counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from benchmarks.machine import cache_bytes

__all__ = ["best_rate", "peak_operations", "read_rates"]

_WIDTHS = (4, 8, 16)
_CHAINS = (8, 10, 12, 16)


def _body(builder: Any, width: int, chains: int) -> tuple[Any, list[Any]]:
    """Return a vector type and the accumulators, each a different number."""
    set.add(builder.function.attributes, '"prefer-vector-width"="512"')
    vector = ir.VectorType(ir.FloatType(), width)
    starts = [ir.Constant(vector, [0.5 + k / 64] * width) for k in range(chains)]
    return vector, [cgutils.alloca_once_value(builder, start) for start in starts]


def _total(builder: Any, width: int, places: list[Any]) -> Any:
    """Return the sum of everything, so that nothing is superfluous."""
    values = [builder.load(place) for place in places]
    total = values[0]
    for value in values[1:]:
        total = builder.fadd(total, value)
    lanes = [builder.extract_element(total, ir.Constant(ir.IntType(32), k)) for k in range(width)]
    result = lanes[0]
    for lane in lanes[1:]:
        result = builder.fadd(result, lane)
    return result


@cache
def _multiply_add(width: int, chains: int) -> Callable[[int], float]:
    """Return a function that does ``n`` multiply-adds in each lane of each chain."""

    @intrinsic
    def loop(context: Any, n: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            vector, places = _body(builder, width, chains)
            factor, term = (ir.Constant(vector, [v] * width) for v in (0.999, 0.001))
            with cgutils.for_range(builder, arguments[0]):
                for place in places:
                    product = builder.fmul(builder.load(place), factor, flags=["contract"])
                    builder.store(builder.fadd(product, term, flags=["contract"]), place)
            return _total(builder, width, places)

        return types.float32(types.int64), generate

    @numba.njit
    def run(n):  # type: ignore[no-untyped-def]
        return loop(n)

    return run


@cache
def _reads(width: int, chains: int) -> Callable[[Any, int], float]:
    """Return a function that sums an array so many times."""

    @intrinsic
    def loop(context: Any, data: Any, passes: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            vector, places = _body(builder, width, chains)
            array = context.make_array(signature.args[0])(context, builder, arguments[0])
            size = builder.extract_value(array.shape, 0)
            step = ir.Constant(size.type, width * chains)
            zero = ir.Constant(size.type, 0)
            with (
                cgutils.for_range(builder, arguments[1]),
                cgutils.for_range_slice(builder, zero, size, step, size.type) as (first, _),
            ):
                for k, place in enumerate(places):
                    at = builder.gep(
                        array.data, [builder.add(first, ir.Constant(size.type, k * width))]
                    )
                    value = builder.load(builder.bitcast(at, vector.as_pointer()), align=16)
                    builder.store(builder.fadd(builder.load(place), value), place)
            return _total(builder, width, places)

        return types.float32(data, types.int64), generate

    @numba.njit
    def run(data, passes):  # type: ignore[no-untyped-def]
        return loop(data, passes)

    return run


def best_rate(function: Callable[..., Any], amount: float, *arguments: Any, repeats: int) -> float:
    """Return the highest ``amount`` per second of some calls, in CPU time."""
    function(*arguments)
    seconds = []
    for _ in range(repeats):
        begin = time.process_time()
        function(*arguments)
        seconds.append(time.process_time() - begin)
    return amount / max(min(seconds), 1e-9)


def peak_operations(quick: bool = False) -> float:
    """Return the floating-point operations per second of one core; a multiply-add is two."""
    n = 10_000 if quick else 10_000_000
    return max(
        best_rate(_multiply_add(width, chains), 2.0 * n * width * chains, n, repeats=3)
        for width in (_WIDTHS[-1:] if quick else _WIDTHS)
        for chains in (_CHAINS[:1] if quick else _CHAINS)
    )  # fmt: skip


def read_rates(quick: bool = False) -> dict[str, float]:
    """Return bytes that one core reads per second from each cache and from memory."""
    caches = cache_bytes()
    sizes = {
        "L1": caches["L1"] // 2,
        "L2": caches["L2"] // 2,
        # Others use this cache too.
        "L3": max(2 * caches["L2"], caches["L3"] // 4),
        "memory": 6 * caches["L3"],
    }
    if quick:
        sizes["memory"] = 2**22
    total = 2**22 if quick else 2**31
    rates = {}
    for name, size in sizes.items():
        rows = []
        for width in _WIDTHS[-1:] if quick else _WIDTHS:
            for chains in (8,) if quick else (8, 16):
                count = size // 4 // (width * chains) * width * chains
                data = np.ones(count, np.float32)
                passes = max(total // (4 * count), 1)
                rows.append(
                    best_rate(_reads(width, chains), 4.0 * count * passes, data, passes, repeats=3)
                )
        rates[name] = max(rows)
    return rates

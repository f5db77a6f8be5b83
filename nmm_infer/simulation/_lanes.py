"""Vector operations over the lanes of a block, which plain loops do not give reliably.

LLVM vectorises long loops over lanes, but not a short one inside a loop over edges: these few
operations are written with vectors of :data:`LANES` numbers from the start. On processors with
shorter vectors LLVM splits them.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["LANES", "UNROLL", "weighted_gather", "weighted_sum", "wide_vectors"]

#: Simulations in a block.
LANES = 16
#: Terms of a weighted sum come in multiples of this; each has an accumulator of its own.
UNROLL = 4


@intrinsic
def wide_vectors(typing_context: Any) -> Any:
    """Let LLVM use the widest vectors for the calling function; by default it stays at 256 bits."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.void(), generate


def _pointers(context: Any, builder: Any, signature: Any, arguments: Any, count: int) -> list[Any]:
    """Return the data pointers of the first arguments, which are contiguous arrays."""
    return [
        context.make_array(kind)(context, builder, value).data
        for kind, value in zip(signature.args[:count], arguments[:count], strict=True)
    ]


def _accumulate(context: Any, builder: Any, signature: Any, arguments: Any, load: Any) -> Any:
    """Write the loop that both sums share; ``load(e)`` returns the values of one term."""
    out, _, _, weights = _pointers(context, builder, signature, arguments, 4)
    at, first, last, add = arguments[4:]
    number = context.get_data_type(signature.args[0].dtype)
    vector = ir.VectorType(number, LANES)
    zero = ir.Constant(vector, [ir.Constant(number, 0.0)] * LANES)
    totals = [cgutils.alloca_once_value(builder, zero) for _ in range(UNROLL)]
    place = builder.bitcast(builder.gep(out, [at]), vector.as_pointer())
    with builder.if_then(add):
        builder.store(builder.load(place, align=number_size(number)), totals[0])
    step = ir.Constant(first.type, UNROLL)
    with cgutils.for_range_slice(builder, first, last, step, first.type) as (e, _):
        for i, total in enumerate(totals):
            term = builder.add(e, ir.Constant(e.type, i))
            weight = builder.load(builder.gep(weights, [term]))
            single = builder.insert_element(
                ir.Constant(vector, ir.Undefined), weight, ir.Constant(ir.IntType(32), 0)
            )
            spread = builder.shuffle_vector(
                single,
                ir.Constant(vector, ir.Undefined),
                ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES),
            )
            product = builder.fmul(spread, load(term), flags=["contract", "nsz"])
            builder.store(
                builder.fadd(builder.load(total), product, flags=["contract", "nsz"]), total
            )
    values = [builder.load(total) for total in totals]
    while len(values) > 1:
        pairs = zip(values[::2], values[1::2], strict=True)
        values = [builder.fadd(a, b) for a, b in pairs]
    builder.store(values[0], place, align=number_size(number))
    return context.get_dummy_value()


def number_size(number: Any) -> int:
    """Return the bytes of a floating-point type."""
    return 4 if isinstance(number, ir.FloatType) else 8


@intrinsic
def weighted_sum(
    typing_context: Any, out: Any, values: Any, places: Any, weights: Any, at: Any, first: Any,
    last: Any, add: Any,
) -> Any:  # fmt: skip
    """Write the sum over e of ``weights[e] * values[places[e] + lane]`` to ``out[at + lane]``.

    All arrays are flat, ``places`` are int64; e runs from ``first`` to ``last``, whose difference
    is a multiple of :data:`UNROLL`. If ``add``, the sum is added to what is there.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _, base, offsets, _ = _pointers(context, builder, signature, arguments, 4)
        number = context.get_data_type(signature.args[1].dtype)
        vector = ir.VectorType(number, LANES)

        def load(term: Any) -> Any:
            start = builder.gep(base, [builder.load(builder.gep(offsets, [term]))])
            return builder.load(
                builder.bitcast(start, vector.as_pointer()), align=number_size(number)
            )

        return _accumulate(context, builder, signature, arguments, load)

    return types.void(out, values, places, weights, at, first, last, add), generate


@intrinsic
def weighted_gather(
    typing_context: Any, out: Any, values: Any, places: Any, weights: Any, at: Any, first: Any,
    last: Any, add: Any,
) -> Any:  # fmt: skip
    """Write the sum over e of ``weights[e] * values[places[e * LANES + lane]]``.

    Like :func:`weighted_sum`, but every lane has its own place.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _, base, offsets, _ = _pointers(context, builder, signature, arguments, 4)
        number = context.get_data_type(signature.args[1].dtype)
        vector = ir.VectorType(number, LANES)

        def load(term: Any) -> Any:
            # One by one: gather instructions are slow on many processors.
            row = builder.mul(term, ir.Constant(term.type, LANES))
            values = ir.Constant(vector, ir.Undefined)
            for lane in range(LANES):
                place = builder.gep(offsets, [builder.add(row, ir.Constant(row.type, lane))])
                value = builder.load(builder.gep(base, [builder.load(place)]))
                values = builder.insert_element(values, value, ir.Constant(ir.IntType(32), lane))
            return values

        return _accumulate(context, builder, signature, arguments, load)

    return types.void(out, values, places, weights, at, first, last, add), generate

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
from numba.np.arrayobj import populate_array

__all__ = [
    "LANES",
    "UNROLL",
    "copy_lanes",
    "on_lines",
    "smooth",
    "weighted_gather",
    "weighted_sum",
    "wide_vectors",
]

#: Simulations in a block.
LANES = 32
#: Terms of a weighted sum come in multiples of this; each has an accumulator of its own.
UNROLL = 4
_LINE = 64  # bytes of a cache line


@intrinsic
def wide_vectors(typing_context: Any) -> Any:
    """Let LLVM use the widest vectors for the calling function; by default it stays at 256 bits."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def on_lines(typing_context: Any, shape: Any, number: Any) -> Any:
    """Return an array that is not filled and begins with a cache line.

    A vector that lies across two lines takes two loads, and Numba's own arrays may begin in the
    middle of a line.
    """
    kind = types.Array(number.dtype, len(shape), "C")

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        sizes = [
            context.cast(builder, size, given, types.intp)
            for size, given in zip(cgutils.unpack_tuple(builder, arguments[0]), shape, strict=True)
        ]
        whole = context.get_value_type(types.intp)
        data = context.get_data_type(number.dtype)
        item = ir.Constant(whole, context.get_abi_sizeof(data))
        strides = [item]
        for size in reversed(sizes):
            strides.insert(0, builder.mul(strides[0], size))
        memory = context.nrt.meminfo_alloc_aligned(builder, strides[0], _LINE)
        array = context.make_array(kind)(context, builder)
        populate_array(
            array,
            data=builder.bitcast(context.nrt.meminfo_data(builder, memory), data.as_pointer()),
            shape=cgutils.pack_array(builder, sizes, ty=whole),
            strides=cgutils.pack_array(builder, strides[1:], ty=whole),
            itemsize=item,
            meminfo=memory,
        )
        return array._getvalue()

    return kind(shape, number), generate


def _pointers(context: Any, builder: Any, signature: Any, arguments: Any, count: int) -> list[Any]:
    """Return the data pointers of the first arguments, which are contiguous arrays."""
    return [
        context.make_array(kind)(context, builder, value).data
        for kind, value in zip(signature.args[:count], arguments[:count], strict=True)
    ]


@intrinsic
def copy_lanes(typing_context: Any, out: Any, at: Any, values: Any, place: Any, add: Any) -> Any:
    """Copy ``values[place + lane]`` to ``out[at + lane]``; if ``add``, add it to what is there."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number = context.get_data_type(signature.args[0].dtype)
        vector, size = ir.VectorType(number, LANES), _number_size(number)
        target, source = (
            builder.bitcast(
                builder.gep(
                    context.make_array(signature.args[i])(context, builder, arguments[i]).data,
                    [arguments[i + 1]],
                ),
                vector.as_pointer(),
            )
            for i in (0, 2)
        )
        total = cgutils.alloca_once_value(builder, builder.load(source, align=size))
        with builder.if_then(arguments[4]):
            there = builder.load(target, align=size)
            builder.store(builder.fadd(there, builder.load(total)), total)
        builder.store(builder.load(total), target, align=size)
        return context.get_dummy_value()

    return types.void(out, at, values, place, add), generate


def _accumulate(context: Any, builder: Any, signature: Any, arguments: Any, load: Any) -> Any:
    """Write the loop that both sums share; ``load(e)`` returns the values of one term."""
    out, _, _, weights = _pointers(context, builder, signature, arguments, 4)
    at, _, _, first, last = arguments[4:]
    number = context.get_data_type(signature.args[0].dtype)
    vector = ir.VectorType(number, LANES)
    zero = ir.Constant(vector, [ir.Constant(number, 0.0)] * LANES)
    totals = [cgutils.alloca_once_value(builder, zero) for _ in range(UNROLL)]
    place = builder.bitcast(builder.gep(out, [at]), vector.as_pointer())
    step = ir.Constant(first.type, UNROLL)
    with cgutils.for_range_slice(builder, first, last, step, first.type) as (e, _):
        for i, total in enumerate(totals):
            term = builder.add(e, ir.Constant(e.type, i))
            weight = builder.load(builder.gep(weights, [term]))
            product = builder.fmul(
                _spread(builder, weight, vector), load(term), flags=["contract", "nsz"]
            )
            builder.store(
                builder.fadd(builder.load(total), product, flags=["contract", "nsz"]), total
            )
    values = [builder.load(total) for total in totals]
    while len(values) > 1:
        pairs = zip(values[::2], values[1::2], strict=True)
        values = [builder.fadd(a, b) for a, b in pairs]
    builder.store(values[0], place, align=_number_size(number))
    return context.get_dummy_value()


def _wrapped(builder: Any, place: Any, shift: Any, wrap: Any) -> Any:
    """Return place + shift, and ``wrap`` more if that is below zero."""
    moved = builder.add(builder.sext(place, shift.type), shift)
    below = builder.ashr(moved, ir.Constant(shift.type, 63))
    return builder.add(moved, builder.and_(below, wrap))


def _spread(builder: Any, value: Any, vector: Any) -> Any:
    """Return a vector with the same number in all lanes."""
    nothing, place = ir.Constant(vector, ir.Undefined), ir.IntType(32)
    first = builder.insert_element(nothing, value, ir.Constant(place, 0))
    return builder.shuffle_vector(
        first, nothing, ir.Constant(ir.VectorType(place, LANES), [0] * LANES)
    )


def _number_size(number: Any) -> int:
    """Return the bytes of a floating-point type."""
    return 4 if isinstance(number, ir.FloatType) else 8


@intrinsic
def weighted_sum(
    typing_context: Any, out: Any, values: Any, places: Any, weights: Any, at: Any, shift: Any,
    wrap: Any, first: Any, last: Any,
) -> Any:  # fmt: skip
    """Sum ``weights[e] * values[shift + places[e] + lane]`` over e into ``out[at + lane]``.

    All arrays are flat, ``places`` are int32; e runs from ``first`` to ``last``, whose difference
    is a multiple of :data:`UNROLL`. A sum of place and shift below zero counts from ``wrap`` down.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _, base, offsets, _ = _pointers(context, builder, signature, arguments, 4)
        shift, wrap = arguments[5:7]
        number = context.get_data_type(signature.args[1].dtype)
        vector = ir.VectorType(number, LANES)

        def load(term: Any) -> Any:
            place = _wrapped(builder, builder.load(builder.gep(offsets, [term])), shift, wrap)
            start = builder.gep(base, [place])
            return builder.load(
                builder.bitcast(start, vector.as_pointer()), align=_number_size(number)
            )

        return _accumulate(context, builder, signature, arguments, load)

    return types.void(out, values, places, weights, at, shift, wrap, first, last), generate


@intrinsic
def weighted_gather(
    typing_context: Any, out: Any, values: Any, places: Any, weights: Any, at: Any, shift: Any,
    wrap: Any, first: Any, last: Any,
) -> Any:  # fmt: skip
    """Sum ``weights[e] * values[shift + places[e * LANES + lane]]`` over e.

    Like :func:`weighted_sum`, but every lane has its own place.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _, base, offsets, _ = _pointers(context, builder, signature, arguments, 4)
        shift, wrap = arguments[5:7]
        number = context.get_data_type(signature.args[1].dtype)
        vector = ir.VectorType(number, LANES)

        def load(term: Any) -> Any:
            # One by one: gather instructions are slow on many processors.
            row = builder.mul(term, ir.Constant(term.type, LANES))
            values = ir.Constant(vector, ir.Undefined)
            for lane in range(LANES):
                place = builder.gep(offsets, [builder.add(row, ir.Constant(row.type, lane))])
                index = _wrapped(builder, builder.load(place), shift, wrap)
                value = builder.load(builder.gep(base, [index]))
                values = builder.insert_element(values, value, ir.Constant(ir.IntType(32), lane))
            return values

        return _accumulate(context, builder, signature, arguments, load)

    return types.void(out, values, places, weights, at, shift, wrap, first, last), generate


@intrinsic
def smooth(
    typing_context: Any, partial: Any, at: Any, fresh: Any, begin: Any, taps: Any, rows: Any,
    width: Any,
) -> Any:  # fmt: skip
    """Weigh a block of values into running sums, and move these on by one.

    For i from 0 to ``rows`` - 1, row i of ``partial`` becomes row i + 1 plus the sum over k of
    ``taps[i * width + k]`` times the k-th value of ``fresh``; row ``rows`` stays what it is. Rows
    and values are vectors, the first ones at the places ``at`` and ``begin``; ``width`` is a
    multiple of :data:`UNROLL`.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        out, values, weights = (
            context.make_array(signature.args[i])(context, builder, arguments[i]).data
            for i in (0, 2, 4)
        )
        number = context.get_data_type(signature.args[0].dtype)
        vector = ir.VectorType(number, LANES)
        size = _number_size(number)
        at, begin, rows, width = (arguments[i] for i in (1, 3, 5, 6))
        whole = at.type

        def place(base: Any, first: Any, row: Any) -> Any:
            offset = builder.add(first, builder.mul(row, ir.Constant(whole, LANES)))
            return builder.bitcast(builder.gep(base, [offset]), vector.as_pointer())

        flags = ["contract", "nsz"]
        zero, one = ir.Constant(whole, 0), ir.Constant(whole, 1)
        step = ir.Constant(whole, UNROLL)
        with cgutils.for_range_slice(builder, zero, width, step, whole) as (k, _):
            terms = [builder.add(k, ir.Constant(whole, i)) for i in range(UNROLL)]
            group = [builder.load(place(values, begin, term), align=size) for term in terms]
            # Only the first group of values moves the sums on.
            ahead = builder.select(builder.icmp_signed("==", k, zero), one, zero)
            with cgutils.for_range_slice(builder, zero, rows, one, whole) as (row, _):
                total = builder.load(place(out, at, builder.add(row, ahead)), align=size)
                first = builder.mul(row, width)
                for term, value in zip(terms, group, strict=True):
                    weight = builder.load(builder.gep(weights, [builder.add(first, term)]))
                    part = builder.fmul(_spread(builder, weight, vector), value, flags=flags)
                    total = builder.fadd(total, part, flags=flags)
                builder.store(total, place(out, at, row), align=size)
        return context.get_dummy_value()

    return types.void(partial, at, fresh, begin, taps, rows, width), generate

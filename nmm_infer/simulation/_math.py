"""Elementary functions that LLVM can vectorise without a vector maths library."""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.polynomial import Chebyshev, Polynomial

__all__ = ["compiled", "exp", "exp_64", "log", "log_64", "power_2", "power_3", "power_4"]

_LOG2E = np.float32(1.4426950408889634)
_LN2 = np.float32(0.6931471805599453)
_HALF = np.log(2.0) / 2
_C1, _C2, _C3, _C4, _C5, _C6 = (  # (e**x - 1) / x, interpolated at Chebyshev points
    Chebyshev.interpolate(lambda x: np.expm1(x) / x, 5, domain=[-_HALF, _HALF])
    .convert(kind=Polynomial, domain=[-1, 1], window=[-1, 1])
    .coef.astype(np.float32)
)
#: Fixed here: without flags of their own, functions would take those of whoever calls them first.
compiled = numba.njit(
    forceinline=True, fastmath={"contract", "nsz", "arcp"}, error_model="numpy", nogil=True
)

_MAGIC_64 = 6755399441055744.0  # 1.5 * 2**52
_LN2_HIGH_64 = 6.93147180369123816490e-01  # the leading bits of ln(2): products with n are exact
_LN2_LOW_64 = 1.90821492927058770002e-10
_MAGIC = np.float32(12582912.0)  # 1.5 * 2**23: adding it rounds a float32 to an integer


@compiled
def exp(x):
    """Return e**x in float32; the argument is clipped to +-87.

    The relative error is below 3.1e-7, and below 1.3e-7 up to |x| = 20.

    Range reduction to +-ln(2)/2 and a polynomial of degree 6. Added to 1.5 * 2**23, a number is
    rounded to an integer that stands in the lowest bits: moved up, they are the exponent.
    """
    x = min(max(np.float32(x), np.float32(-87.0)), np.float32(87.0))
    shifted = np.float32(x * _LOG2E + _MAGIC)
    f = x - (shifted - _MAGIC) * _LN2
    p = _C6 * f + _C5
    p = p * f + _C4
    p = p * f + _C3
    p = p * f + _C2
    p = p * f + _C1
    p = np.float32(p * f + np.float32(1.0))
    power = np.int32(shifted.view(np.int32) << np.int32(23))
    return np.int32(p.view(np.int32) + power).view(np.float32)


@compiled
def log(x):
    """Return the natural logarithm of a positive normal float32.

    The error is below 2e-7 times the larger of 1 and the logarithm's magnitude.

    The mantissa is brought to [sqrt(1/2), sqrt(2)) and log((1 + s) / (1 - s)) is summed.
    """
    bits = np.float32(x).view(np.int32)
    shifted = np.int32(bits - np.int32(0x3F3504F3))
    k = np.int32(shifted >> np.int32(23))
    mantissa = np.int32(bits - np.int32(k << np.int32(23))).view(np.float32)
    s = (mantissa - np.float32(1.0)) / (mantissa + np.float32(1.0))
    z = s * s
    p = np.float32(2 / 9)
    p = p * z + np.float32(2 / 7)
    p = p * z + np.float32(2 / 5)
    p = p * z + np.float32(2 / 3)
    p = p * z + np.float32(2.0)
    return s * p + np.float32(k) * _LN2


@compiled
def exp_64(x):
    """Return e**x in float64, relative error below 4e-16; the argument is clipped to +-700.

    As :func:`exp`, with a Taylor polynomial of degree 13.
    """
    x = min(max(x, -700.0), 700.0)
    shifted = x * 1.4426950408889634 + _MAGIC_64
    n = shifted - _MAGIC_64
    f = x - n * _LN2_HIGH_64 - n * _LN2_LOW_64
    p = 1 / 6227020800
    p = p * f + 1 / 479001600
    p = p * f + 1 / 39916800
    p = p * f + 1 / 3628800
    p = p * f + 1 / 362880
    p = p * f + 1 / 40320
    p = p * f + 1 / 5040
    p = p * f + 1 / 720
    p = p * f + 1 / 120
    p = p * f + 1 / 24
    p = p * f + 1 / 6
    p = p * f + 0.5
    p = p * f + 1.0
    p = p * f + 1.0
    bits = np.int64((np.int64(n) + np.int64(1023)) << np.int64(52))
    return p * bits.view(np.float64)


@compiled
def log_64(x):
    """Return the natural logarithm in float64."""
    return math.log(x)


@compiled
def power_2(x):
    """Return x squared."""
    return x * x


@compiled
def power_3(x):
    """Return x cubed."""
    return x * x * x


@compiled
def power_4(x):
    """Return the fourth power of x."""
    return (x * x) * (x * x)

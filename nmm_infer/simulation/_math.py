"""Elementary functions that LLVM can vectorise without a vector maths library."""

from __future__ import annotations

import math

import numba
import numpy as np

__all__ = ["compiled", "exp", "exp_64", "log", "log_64", "power_2", "power_3", "power_4"]

_LOG2E = np.float32(1.4426950408889634)
_LN2_HIGH = np.float32(0.693359375)
_LN2_LOW = np.float32(-2.12194440e-4)
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
    """Return e**x in float32, relative error below 3e-7; the argument is clipped to +-87.

    Range reduction to +-ln(2)/2 and a degree-6 Taylor polynomial; the power of two is built in
    the exponent bits.
    """
    x = min(max(np.float32(x), np.float32(-87.0)), np.float32(87.0))
    shifted = x * _LOG2E + _MAGIC
    n = shifted - _MAGIC
    f = x - n * _LN2_HIGH - n * _LN2_LOW
    p = np.float32(1 / 720)
    p = p * f + np.float32(1 / 120)
    p = p * f + np.float32(1 / 24)
    p = p * f + np.float32(1 / 6)
    p = p * f + np.float32(0.5)
    p = p * f + np.float32(1.0)
    p = p * f + np.float32(1.0)
    bits = np.int32((np.int32(n) + np.int32(127)) << np.int32(23))
    return p * bits.view(np.float32)


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
    return s * p + np.float32(k) * np.float32(0.6931471805599453)


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

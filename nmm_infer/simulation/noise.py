"""Counter-based Gaussian noise: a value depends on its key and its place, on nothing else."""

from __future__ import annotations

import numpy as np

from nmm_infer.simulation._math import compiled, log

__all__ = ["standard_normal"]


@compiled
def _mix(x):
    """Mix 32 bits (the ``lowbias32`` multiply-xorshift hash of C. Wellons, 2018)."""
    # Numba promotes uint32 arithmetic to uint64: every step is cast back.
    x = np.uint32(x ^ np.uint32(x >> np.uint32(16)))
    x = np.uint32(x * np.uint32(0x7FEB352D))
    x = np.uint32(x ^ np.uint32(x >> np.uint32(15)))
    x = np.uint32(x * np.uint32(0x846CA68B))
    return np.uint32(x ^ np.uint32(x >> np.uint32(16)))


@compiled
def standard_normal(key_0, key_1, counter):
    """Return one draw of N(0, 1) in float32.

    Parameters
    ----------
    key_0, key_1 : uint32
        The two words of the stream's key.
    counter : uint32
        Number of the draw within the stream.

    Returns
    -------
    float32
        A draw; its magnitude is at most 5.4.

    Notes
    -----
    Two rounds of mixing, one for each word of the key, then the inverse of the normal
    distribution function: the single-precision polynomials of M. Giles (2012), "Approximating
    the erfinv function", GPU Computing Gems, chapter 10. Both branches are evaluated, so that
    the loop over simulations vectorises.
    """
    h = _mix(np.uint32(_mix(np.uint32(np.uint32(counter) ^ key_0)) + key_1))
    # 23 bits, centred: u is in (-1, 1), never at its ends, and symmetric.
    u = (np.float32(np.int32(np.uint32(h >> np.uint32(9)))) + np.float32(0.5)) * np.float32(
        2.0**-22
    ) - np.float32(1.0)
    w = -log((np.float32(1.0) - u) * (np.float32(1.0) + u))
    c = w - np.float32(2.5)
    p = np.float32(2.81022636e-08)
    p = np.float32(3.43273939e-07) + p * c
    p = np.float32(-3.5233877e-06) + p * c
    p = np.float32(-4.39150654e-06) + p * c
    p = np.float32(0.00021858087) + p * c
    p = np.float32(-0.00125372503) + p * c
    p = np.float32(-0.00417768164) + p * c
    p = np.float32(0.246640727) + p * c
    p = np.float32(1.50140941) + p * c
    t = np.float32(np.sqrt(max(w, np.float32(0.0)))) - np.float32(3.0)
    q = np.float32(-0.000200214257)
    q = np.float32(0.000100950558) + q * t
    q = np.float32(0.00134934322) + q * t
    q = np.float32(-0.00367342844) + q * t
    q = np.float32(0.00573950773) + q * t
    q = np.float32(-0.0076224613) + q * t
    q = np.float32(0.00943887047) + q * t
    q = np.float32(1.00167406) + q * t
    q = np.float32(2.83297682) + q * t
    return np.float32(1.4142135623730951) * u * (p if w < np.float32(5.0) else q)

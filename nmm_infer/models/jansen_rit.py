r"""The Jansen-Rit cortical column.

A column of pyramidal cells with one excitatory and one inhibitory feedback loop [1]_:

.. math::

    \dot y_0 &= y_3, & \dot y_3 &= A a S(y_1 - y_2) - 2 a y_3 - a^2 y_0 \\
    \dot y_1 &= y_4, & \dot y_4 &= A a (p + C_2 S(C_1 y_0)) - 2 a y_4 - a^2 y_1 \\
    \dot y_2 &= y_5, & \dot y_5 &= B b C_4 S(C_3 y_0) - 2 b y_5 - b^2 y_2

with :math:`S(v) = 2 e_0 / (1 + e^{r (v_0 - v)})` and :math:`C_k = \alpha_k C`. Voltages are in
millivolts, rates and inverse time constants in 1/s. The signal is the net postsynaptic potential
of the pyramidal cells, :math:`y_1 - y_2` [mV].

References
----------
.. [1] Jansen BH, Rit VG (1995). Electroencephalogram and visual evoked potential generation in a
   mathematical model of coupled cortical columns. Biological Cybernetics 73:357-366.
"""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import NDArray

from nmm_infer.models._math import exp
from nmm_infer.models.base import Constant, Model, register_model

__all__ = ["JANSEN_RIT"]

_JR = "Jansen and Rit 1995, section 2 (values of van Rotterdam et al. 1982)"

CONSTANTS = (
    Constant("A", "mV", 3.25, _JR),
    Constant("B", "mV", 22.0, _JR),
    Constant("a", "1/s", 100.0, _JR),
    Constant("b", "1/s", 50.0, _JR),
    Constant("C", "1", 135.0, "Jansen and Rit 1995, section 3 (alpha activity)"),
    Constant("alpha_1", "1", 1.0, "Jansen and Rit 1995, equation 7 (Braitenberg and Schuez 1991)"),
    Constant("alpha_2", "1", 0.8, "Jansen and Rit 1995, equation 7"),
    Constant("alpha_3", "1", 0.25, "Jansen and Rit 1995, equation 7"),
    Constant("alpha_4", "1", 0.25, "Jansen and Rit 1995, equation 7"),
    Constant("v0", "mV", 6.0, "Jansen and Rit 1995, section 2 (Freeman 1987)"),
    Constant("e0", "1/s", 2.5, "Jansen and Rit 1995, section 2 (Freeman 1987)"),
    Constant("r", "1/mV", 0.56, "Jansen and Rit 1995, section 2 (Freeman 1987)"),
)


@numba.njit(inline="always")
def _sigmoid(v, v0, e0, r):
    return (e0 + e0) / (np.float32(1.0) + exp(r * (v0 - v)))


@numba.njit(inline="always")
def _rate(y0, y1, y2, y3, y4, y5, A, B, a, b, C, alpha_1, alpha_2, alpha_3, alpha_4, v0, e0, r):
    return _sigmoid(y1 - y2, v0, e0, r)


@numba.njit(inline="always")
def _derivative(
    y0, y1, y2, y3, y4, y5, rate, drive,
    A, B, a, b, C, alpha_1, alpha_2, alpha_3, alpha_4, v0, e0, r,
):  # fmt: skip
    excitatory = alpha_2 * C * _sigmoid(alpha_1 * C * y0, v0, e0, r)
    inhibitory = alpha_4 * C * _sigmoid(alpha_3 * C * y0, v0, e0, r)
    return (
        y3,
        y4,
        y5,
        a * (A * rate - y3 - y3 - a * y0),
        a * (A * (drive + excitatory) - y4 - y4 - a * y1),
        b * (B * inhibitory - y5 - y5 - b * y2),
    )


@numba.njit(inline="always")
def _output(y0, y1, y2, y3, y4, y5):
    return y1 - y2


@numba.njit(cache=True, error_model="numpy")
def _response(v, p, A, B, a, b, C, alpha_1, alpha_2, alpha_3, alpha_4, v0, e0, r):
    """Return y0, y1 and y2 at rest where the pyramidal potential is held at v, in float64."""
    y0 = A / a * (2 * e0 / (1 + math.exp(r * (v0 - v))))
    y1 = A / a * (p + alpha_2 * C * (2 * e0 / (1 + math.exp(r * (v0 - alpha_1 * C * y0)))))
    y2 = B / b * alpha_4 * C * (2 * e0 / (1 + math.exp(r * (v0 - alpha_3 * C * y0))))
    return y0, y1, y2


@numba.njit(cache=True, parallel=True, error_model="numpy")
def _lowest_equilibria(p, c, step, out):
    for i in numba.prange(p.size):
        k = (c[0, i], c[1, i], c[2, i], c[3, i], c[4, i], c[5, i],
             c[6, i], c[7, i], c[8, i], c[9, i], c[10, i], c[11, i])  # fmt: skip
        # Any root below zero has y2 at most its value at v = 0, so none lies below this bound.
        _, _, inhibition = _response(0.0, p[i], *k)
        high = min(k[0] / k[2] * p[i] - inhibition, 0.0) - step
        low = high
        for _ in range(1_000_000):
            _, y1, y2 = _response(high, p[i], *k)
            if y1 - y2 - high <= 0.0:
                break
            low, high = high, high + step
        for _ in range(50):
            middle = 0.5 * (low + high)
            _, y1, y2 = _response(middle, p[i], *k)
            if y1 - y2 - middle > 0.0:
                low = middle
            else:
                high = middle
        y0, y1, y2 = _response(0.5 * (low + high), p[i], *k)
        out[0, i], out[1, i], out[2, i] = y0, y1, y2


def _equilibrium(
    drive: NDArray[np.float64], **constants: NDArray[np.float64]
) -> NDArray[np.float64]:
    r"""Return the lowest equilibrium of each column.

    At rest :math:`v = y_1 - y_2` solves the scalar equation
    :math:`v = (A/a)(p + C_2 S(C_1 y_0)) - (B/b) C_4 S(C_3 y_0)` with
    :math:`y_0 = (A/a) S(v)` (Grimbert and Faugeras 2006, Neural Computation 18:3052-3068). The
    lowest root is bracketed by steps of .05 mV, which resolves the folds, and bisected.
    """
    rows = np.broadcast_arrays(
        np.atleast_1d(np.asarray(drive, dtype=float)), *(constants[k.name] for k in CONSTANTS)
    )
    out = np.zeros((6, rows[0].size))
    _lowest_equilibria(np.ascontiguousarray(rows[0]), np.stack(rows[1:]).astype(float), 0.05, out)
    return out


JANSEN_RIT = register_model(
    Model(
        name="jansen_rit",
        states=("y0", "y1", "y2", "y3", "y4", "y5"),
        constants=CONSTANTS,
        rate=_rate,
        derivative=_derivative,
        output=_output,
        output_unit="mV",
        target="excitatory input of the pyramidal cells",
        equilibrium=_equilibrium,
    )
)

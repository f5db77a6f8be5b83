r"""The column of the released code of Tilwani and O'Reilly, units as they are there.

The equations are those of Jansen and Rit with three changes [1]_:

.. math::

    \ddot y_0 &= A a (S(y_1 - y_2) + u_i) - 2 a \dot y_0 - a^2 y_0 \\
    \ddot y_1 &= A a (p + C_2 S(C_1 y_0)) - 2 a \dot y_1 - a^2 y_1 \\
    \ddot y_2 &= B b (u_p + C_4 S(C_3 y_0)) - 2 b \dot y_2 - b^2 y_2

- A stimulus enters the inhibitory synapses of the pyramidal cells themselves (``inhibition``,
  :math:`u_p`), beside their excitatory ones (``pyramidal``) and the interneurons
  (``interneurons``).
- Potentials are in volts there, but the slope of the sigmoid is left at .56, which is a number in
  1/mV, and the largest rate is divided by 100: .05 /s. Here volts are written as millivolts, so the
  slope is :math:`r = .56 \cdot 10^{-3}` /mV and :math:`e_0 = .025` /s: the same numbers.
- So the slope of the sigmoid at its middle, :math:`e_0 r / 2`, is :math:`10^5` times smaller than
  that of Jansen and Rit: the column is a linear filter of its stimulus, whose feedback loops do
  next to nothing.

Names are those of ``jansen_rit``: the code's A_e, A_i, b_e, b_i, a_1 to a_4 are A, B, a, b and
alpha_1 to alpha_4. Bounds are wide because the prior of the study is Gaussian and not truncated; a
rate constant below zero, for which the code diverges, is outside of them.

References
----------
.. [1] Tilwani D, O'Reilly C (2024-25). Benchmarking deep Jansen-Rit parameter inference: an in
   silico study. arXiv:2406.05002; released code of March 2025.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmm_infer.models._sigmoid import sigmoid
from nmm_infer.models.base import Constant, Model, Output, register_model
from nmm_infer.models.jansen_rit import STATES, potential, rate

__all__ = ["TILWANI_2025"]

_NEWTON_STEPS = 12
_STEP = 1e-2  # mV

_CODE = "Tilwani and O'Reilly 2024-25, released code, typical value"
_HALF = "Tilwani and O'Reilly 2024-25, released code: half of v_max = .05 /s"
_SLOPE = "Tilwani and O'Reilly 2024-25, released code: .56 applied to volts"

CONSTANTS = (
    Constant("A", "mV", 3.25, -50.0, 50.0, _CODE),
    Constant("B", "mV", 22.0, -300.0, 300.0, _CODE),
    Constant("a", "1/s", 100.0, 0.1, 1000.0, _CODE),
    Constant("b", "1/s", 50.0, 0.1, 1000.0, _CODE),
    Constant("C", "1", 135.0, -5000.0, 5000.0, _CODE),
    Constant("alpha_1", "1", 1.0, -10.0, 10.0, _CODE),
    Constant("alpha_2", "1", 0.8, -10.0, 10.0, _CODE),
    Constant("alpha_3", "1", 0.25, -10.0, 10.0, _CODE),
    Constant("alpha_4", "1", 0.25, -10.0, 10.0, _CODE),
    Constant("v0", "mV", 6.0, -50.0, 50.0, _CODE),
    Constant(
        "e0",
        "1/s",
        0.025,
        0.0,
        100.0,
        _HALF,
    ),
    Constant(
        "r",
        "1/mV",
        0.56e-3,
        0.0,
        10.0,
        _SLOPE,
    ),
)


def derivative(
    y0, y1, y2, y3, y4, y5, pyramidal, interneurons, inhibition,
    A, B, a, b, C, alpha_1, alpha_2, alpha_3, alpha_4, v0, e0, r,
):  # fmt: skip
    """Return the right-hand side."""
    excitatory = alpha_2 * C * sigmoid(alpha_1 * C * y0, v0, e0, r)
    inhibitory = alpha_4 * C * sigmoid(alpha_3 * C * y0, v0, e0, r)
    return (
        y3,
        y4,
        y5,
        a * (A * (sigmoid(y1 - y2, v0, e0, r) + interneurons) - 2 * y3 - a * y0),
        a * (A * (pyramidal + excitatory) - 2 * y4 - a * y1),
        b * (B * (inhibition + inhibitory) - 2 * y5 - b * y2),
    )


def _potentials(
    v, pyramidal, interneurons, inhibition,
    A, B, a, b, C, alpha_1, alpha_2, alpha_3, alpha_4, v0, e0, r,
):  # fmt: skip
    y0 = A / a * (sigmoid(v, v0, e0, r) + interneurons)
    y1 = A / a * (pyramidal + alpha_2 * C * sigmoid(alpha_1 * C * y0, v0, e0, r))
    y2 = B / b * (inhibition + alpha_4 * C * sigmoid(alpha_3 * C * y0, v0, e0, r))
    return y0, y1, y2


def _equilibrium(
    inputs: Mapping[str, NDArray[Any]], constants: Mapping[str, NDArray[Any]]
) -> NDArray[np.float64]:
    """Return the equilibrium of each column: feedback is so weak that there is one.

    At rest v = y1 - y2 solves a scalar equation that is all but linear: Newton's method.
    """
    arguments = {**inputs, **constants}

    def excess(v):
        _, y1, y2 = _potentials(v, **arguments)
        return y1 - y2 - v

    v = np.zeros(np.broadcast_shapes(*(np.shape(x) for x in arguments.values()), (1,)))
    with np.errstate(all="ignore"):  # of columns without one, which are found out afterwards
        for _ in range(_NEWTON_STEPS):
            slope = (excess(v + _STEP) - excess(v - _STEP)) / (2 * _STEP)
            v = v - excess(v) / slope
        v = np.where(np.abs(excess(v)) < 1e-6 * (1 + np.abs(v)), v, np.nan)
    y0, y1, y2 = _potentials(v, **arguments)
    rest = np.zeros_like(v)
    return np.stack(np.broadcast_arrays(y0, y1, y2, rest, rest, rest))


TILWANI_2025 = register_model(
    Model(
        name="tilwani_2025",
        states=STATES,
        constants=CONSTANTS,
        targets=("pyramidal", "interneurons", "inhibition"),
        derivative=derivative,
        outputs=(Output("potential", "mV", potential), Output("rate", "1/s", rate)),
        rates=("a", "b"),
        equilibrium=_equilibrium,
        reference="Tilwani and O'Reilly 2024-25, arXiv:2406.05002",
    )
)

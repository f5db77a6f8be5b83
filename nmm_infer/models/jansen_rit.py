r"""The Jansen-Rit cortical column, as published.

A column of pyramidal cells with one excitatory and one inhibitory feedback loop [1]_:

.. math::

    \dot y_0 &= y_3, & \dot y_3 &= A a (S(y_1 - y_2) + u) - 2 a y_3 - a^2 y_0 \\
    \dot y_1 &= y_4, & \dot y_4 &= A a (p + C_2 S(C_1 y_0)) - 2 a y_4 - a^2 y_1 \\
    \dot y_2 &= y_5, & \dot y_5 &= B b C_4 S(C_3 y_0) - 2 b y_5 - b^2 y_2

with :math:`S(v) = 2 e_0 / (1 + e^{r (v_0 - v)})` and :math:`C_k = \alpha_k C`. Voltages are in
millivolts, rates and inverse time constants in 1/s. The signal is the net postsynaptic potential
of the pyramidal cells, :math:`y_1 - y_2` [mV].

The target ``pyramidal`` is the published input p. The target ``interneurons`` is u, zero in the
publication: both classes of interneurons share the excitatory potential :math:`y_0`, so this is
where an afferent reaches them.

References
----------
.. [1] Jansen BH, Rit VG (1995). Electroencephalogram and visual evoked potential generation in a
   mathematical model of coupled cortical columns. Biological Cybernetics 73:357-366.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmm_infer.models._rest import lowest_balance
from nmm_infer.models._sigmoid import sigmoid
from nmm_infer.models.base import Constant, Model, Output, State, register_model

__all__ = ["JANSEN_RIT"]

_JR = "Jansen and Rit 1995, section 2 (values of van Rotterdam et al. 1982)"
_FREEMAN = "Jansen and Rit 1995, section 2 (Freeman 1987)"
_SYNAPSES = "Jansen and Rit 1995, equation 7 (Braitenberg and Schuez 1991)"

STATES = (
    State("y0", "mV", "excitatory potential of the interneurons, per synapse"),
    State("y1", "mV", "excitatory potential of the pyramidal cells"),
    State("y2", "mV", "inhibitory potential of the pyramidal cells, as a magnitude"),
    State("y3", "mV/s", "derivative of y0"),
    State("y4", "mV/s", "derivative of y1"),
    State("y5", "mV/s", "derivative of y2"),
)
CONSTANTS = (
    Constant("A", "mV", 3.25, 0.0, 50.0, _JR),
    Constant("B", "mV", 22.0, 0.0, 300.0, _JR),
    Constant("a", "1/s", 100.0, 1.0, 1000.0, _JR),
    Constant("b", "1/s", 50.0, 1.0, 1000.0, _JR),
    Constant("C", "1", 135.0, 0.0, 2000.0, "Jansen and Rit 1995, section 3 (alpha activity)"),
    Constant("alpha_1", "1", 1.0, 0.0, 10.0, _SYNAPSES),
    Constant("alpha_2", "1", 0.8, 0.0, 10.0, _SYNAPSES),
    Constant("alpha_3", "1", 0.25, 0.0, 10.0, _SYNAPSES),
    Constant("alpha_4", "1", 0.25, 0.0, 10.0, _SYNAPSES),
    Constant("v0", "mV", 6.0, -50.0, 50.0, _FREEMAN),
    Constant("e0", "1/s", 2.5, 0.0, 100.0, _FREEMAN),
    Constant("r", "1/mV", 0.56, 0.0, 10.0, _FREEMAN),
)


def derivative(
    y0, y1, y2, y3, y4, y5, pyramidal, interneurons,
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
        b * (B * inhibitory - 2 * y5 - b * y2),
    )


def potential(y1, y2):
    """Return the net postsynaptic potential of the pyramidal cells [mV]."""
    return y1 - y2


def rate(y1, y2, v0, e0, r):
    """Return the firing rate of the pyramidal cells [1/s]."""
    return sigmoid(y1 - y2, v0, e0, r)


def _potentials(
    rising, falling, pyramidal, interneurons,
    A, B, a, b, C, alpha_1, alpha_2, alpha_3, alpha_4, v0, e0, r,
):  # fmt: skip
    up = A / a * (sigmoid(rising, v0, e0, r) + interneurons)
    down = A / a * (sigmoid(falling, v0, e0, r) + interneurons)
    y1 = A / a * (pyramidal + alpha_2 * C * sigmoid(alpha_1 * C * up, v0, e0, r))
    y2 = B / b * alpha_4 * C * sigmoid(alpha_3 * C * down, v0, e0, r)
    return up, y1, y2


def _balance(rising, falling, **arguments):
    _, y1, y2 = _potentials(rising, falling, **arguments)
    return y1 - y2


def _equilibrium(
    inputs: Mapping[str, NDArray[Any]], constants: Mapping[str, NDArray[Any]]
) -> NDArray[np.float64]:
    r"""Return the lowest equilibrium of each column.

    At rest :math:`v = y_1 - y_2` solves a scalar equation (Grimbert and Faugeras 2006, Neural
    Computation 18:3052-3068), because y1 and y2 follow from v.
    """
    arguments = {**inputs, **constants}
    v = lowest_balance(_balance, arguments)
    y0, y1, y2 = _potentials(v, v, **arguments)
    rest = np.zeros_like(v)
    return np.stack(np.broadcast_arrays(y0, y1, y2, rest, rest, rest))


JANSEN_RIT = register_model(
    Model(
        name="jansen_rit",
        states=STATES,
        constants=CONSTANTS,
        targets=("pyramidal", "interneurons"),
        derivative=derivative,
        outputs=(Output("potential", "mV", potential), Output("rate", "1/s", rate)),
        rates=("a", "b"),
        equilibrium=_equilibrium,
        reference="Jansen and Rit 1995, Biological Cybernetics 73:357-366",
    )
)

r"""The column with a slow and a fast subpopulation of David and Friston.

Each of the three populations of a Jansen-Rit column consists of two subpopulations [1]_. They have
synaptic kinetics of their own, and fire at common rates that follow from the weighted sums of their
potentials. For the subpopulations n = 1 (slow) and n = 2 (fast), with
:math:`w_1 = w, \; w_2 = 1 - w`:

.. math::

    \ddot y_{0,n} &= A_n a_n (S(v) + u) - 2 a_n \dot y_{0,n} - a_n^2 y_{0,n} \\
    \ddot y_{1,n} &= A_n a_n (p + C_2 S(C_1 y_0)) - 2 a_n \dot y_{1,n} - a_n^2 y_{1,n} \\
    \ddot y_{2,n} &= B_n b_n C_4 S(C_3 y_0) - 2 b_n \dot y_{2,n} - b_n^2 y_{2,n} \\
    y_0 &= \sum_n w_n y_{0,n}, \qquad v = \sum_n w_n (y_{1,n} - y_{2,n})

with :math:`S(v) = 2 e_0 / (1 + e^{r (v_0 - v)})` and :math:`C_k = \alpha_k C`. Voltages are in
millivolts, rates and inverse time constants in 1/s. The signal is the net postsynaptic potential
of the pyramidal cells, v [mV].

In the notation of the publication :math:`A_n = H_{e,n}, \; B_n = H_{i,n}, \; a_n = 1/\tau_{e,n}, \;
b_n = 1/\tau_{i,n}`. Its gains follow from the time constants: :math:`H_e \tau_e` = 32.5 mV ms and
:math:`H_i \tau_i` = 440 mV ms, the products in the column of Jansen and Rit (1995); here they are
constants of their own. As in :mod:`~nmm_infer.models.jansen_rit` the target ``pyramidal`` is the
input p, and ``interneurons`` is u, zero in the publication. Where both subpopulations have the same
kinetics, the model is that of Jansen and Rit for any w.

References
----------
.. [1] David O, Friston KJ (2003). A neural mass model for MEG/EEG: coupling and neuronal dynamics.
   NeuroImage 20:1743-1755.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmm_infer.models._rest import lowest_balance
from nmm_infer.models._sigmoid import sigmoid
from nmm_infer.models.base import Constant, Model, Output, State, register_model

__all__ = ["DAVID_FRISTON"]

_KINETICS = (
    "David and Friston 2003, NeuroImage 20:1743, as given by later published code that cites it"
)
_GAIN_E = f"32.5 mV ms / tau_e; {_KINETICS}"
_GAIN_I = f"440 mV ms / tau_i; {_KINETICS}"
_MIXTURE = (
    "a choice of later published code that cites David and Friston 2003; not confirmed as a value "
    "of that publication, which varies w from 0 to 1"
)
_JR = "Jansen and Rit 1995, adopted by David and Friston 2003"

STATES = (
    State("y0_1", "mV", "slow: excitatory potential of the interneurons, per synapse"),
    State("y1_1", "mV", "slow: excitatory potential of the pyramidal cells"),
    State("y2_1", "mV", "slow: inhibitory potential of the pyramidal cells, as a magnitude"),
    State("y0_2", "mV", "fast: excitatory potential of the interneurons, per synapse"),
    State("y1_2", "mV", "fast: excitatory potential of the pyramidal cells"),
    State("y2_2", "mV", "fast: inhibitory potential of the pyramidal cells, as a magnitude"),
    State("y3_1", "mV/s", "derivative of y0_1"),
    State("y4_1", "mV/s", "derivative of y1_1"),
    State("y5_1", "mV/s", "derivative of y2_1"),
    State("y3_2", "mV/s", "derivative of y0_2"),
    State("y4_2", "mV/s", "derivative of y1_2"),
    State("y5_2", "mV/s", "derivative of y2_2"),
)
CONSTANTS = (
    Constant("A_1", "mV", 32.5 / 10.8, 0.0, 50.0, _GAIN_E),
    Constant("B_1", "mV", 440 / 22.0, 0.0, 300.0, _GAIN_I),
    Constant("a_1", "1/s", 1 / 0.0108, 1.0, 1000.0, _KINETICS),
    Constant("b_1", "1/s", 1 / 0.0220, 1.0, 1000.0, _KINETICS),
    Constant("A_2", "mV", 32.5 / 4.6, 0.0, 50.0, _GAIN_E),
    Constant("B_2", "mV", 440 / 2.9, 0.0, 300.0, _GAIN_I),
    Constant("a_2", "1/s", 1 / 0.0046, 1.0, 1000.0, _KINETICS),
    Constant("b_2", "1/s", 1 / 0.0029, 1.0, 1000.0, _KINETICS),
    Constant("w", "1", 0.8, 0.0, 1.0, _MIXTURE),
    Constant("C", "1", 135.0, 0.0, 2000.0, _JR),
    Constant("alpha_1", "1", 1.0, 0.0, 10.0, _JR),
    Constant("alpha_2", "1", 0.8, 0.0, 10.0, _JR),
    Constant("alpha_3", "1", 0.25, 0.0, 10.0, _JR),
    Constant("alpha_4", "1", 0.25, 0.0, 10.0, _JR),
    Constant("v0", "mV", 6.0, -50.0, 50.0, _JR),
    Constant("e0", "1/s", 2.5, 0.0, 100.0, _JR),
    Constant("r", "1/mV", 0.56, 0.0, 10.0, _JR),
)


def derivative(
    y0_1, y1_1, y2_1, y0_2, y1_2, y2_2, y3_1, y4_1, y5_1, y3_2, y4_2, y5_2,
    pyramidal, interneurons,
    A_1, B_1, a_1, b_1, A_2, B_2, a_2, b_2, w,
    C, alpha_1, alpha_2, alpha_3, alpha_4, v0, e0, r,
):  # fmt: skip
    """Return the right-hand side."""
    y0 = w * y0_1 + (1 - w) * y0_2
    v = w * (y1_1 - y2_1) + (1 - w) * (y1_2 - y2_2)
    received = sigmoid(v, v0, e0, r) + interneurons
    excitatory = pyramidal + alpha_2 * C * sigmoid(alpha_1 * C * y0, v0, e0, r)
    inhibitory = alpha_4 * C * sigmoid(alpha_3 * C * y0, v0, e0, r)
    return (
        y3_1,
        y4_1,
        y5_1,
        y3_2,
        y4_2,
        y5_2,
        a_1 * (A_1 * received - 2 * y3_1 - a_1 * y0_1),
        a_1 * (A_1 * excitatory - 2 * y4_1 - a_1 * y1_1),
        b_1 * (B_1 * inhibitory - 2 * y5_1 - b_1 * y2_1),
        a_2 * (A_2 * received - 2 * y3_2 - a_2 * y0_2),
        a_2 * (A_2 * excitatory - 2 * y4_2 - a_2 * y1_2),
        b_2 * (B_2 * inhibitory - 2 * y5_2 - b_2 * y2_2),
    )


def potential(y1_1, y2_1, y1_2, y2_2, w):
    """Return the net postsynaptic potential of the pyramidal cells [mV]."""
    return w * (y1_1 - y2_1) + (1 - w) * (y1_2 - y2_2)


def rate(y1_1, y2_1, y1_2, y2_2, w, v0, e0, r):
    """Return the firing rate of the pyramidal cells [1/s]."""
    return sigmoid(w * (y1_1 - y2_1) + (1 - w) * (y1_2 - y2_2), v0, e0, r)


def _rates(
    rising, falling, pyramidal, interneurons,
    A_1, B_1, a_1, b_1, A_2, B_2, a_2, b_2, w,
    C, alpha_1, alpha_2, alpha_3, alpha_4, v0, e0, r,
):  # fmt: skip
    """Return the rates that the synapses receive at rest, and the mean gains of these [mV s]."""
    gain_e = w * A_1 / a_1 + (1 - w) * A_2 / a_2
    gain_i = w * B_1 / b_1 + (1 - w) * B_2 / b_2
    received = sigmoid(rising, v0, e0, r) + interneurons
    up, down = gain_e * received, gain_e * (sigmoid(falling, v0, e0, r) + interneurons)
    excitatory = pyramidal + alpha_2 * C * sigmoid(alpha_1 * C * up, v0, e0, r)
    inhibitory = alpha_4 * C * sigmoid(alpha_3 * C * down, v0, e0, r)
    return received, excitatory, inhibitory, gain_e, gain_i


def _balance(rising, falling, **arguments):
    _, excitatory, inhibitory, gain_e, gain_i = _rates(rising, falling, **arguments)
    return gain_e * excitatory - gain_i * inhibitory


def _equilibrium(
    inputs: Mapping[str, NDArray[Any]], constants: Mapping[str, NDArray[Any]]
) -> NDArray[np.float64]:
    """Return the lowest equilibrium of each column.

    At rest each potential is a gain times a common rate, so that v solves the scalar equation of
    the Jansen-Rit column with the gains averaged over the subpopulations.
    """
    arguments = {**inputs, **constants}
    v = lowest_balance(_balance, arguments)
    received, excitatory, inhibitory, _, _ = _rates(v, v, **arguments)
    potentials = []
    for n in "12":
        gain_e = constants[f"A_{n}"] / constants[f"a_{n}"]
        gain_i = constants[f"B_{n}"] / constants[f"b_{n}"]
        potentials += [gain_e * received, gain_e * excitatory, gain_i * inhibitory]
    return np.stack(np.broadcast_arrays(*potentials, *[np.zeros_like(v)] * 6))


DAVID_FRISTON = register_model(
    Model(
        name="david_friston",
        states=STATES,
        constants=CONSTANTS,
        targets=("pyramidal", "interneurons"),
        derivative=derivative,
        outputs=(Output("potential", "mV", potential), Output("rate", "1/s", rate)),
        rates=("a_1", "b_1", "a_2", "b_2"),
        equilibrium=_equilibrium,
        reference="David and Friston 2003, NeuroImage 20:1743-1755",
    )
)

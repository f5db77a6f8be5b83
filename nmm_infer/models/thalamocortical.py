r"""A Jansen-Rit cortical column in a loop with the thalamus.

This combination is our own and was not published as a whole. The cortex is the column of Jansen and
Rit [1]_. The populations of thalamic relay cells and of reticular cells, with their synapses and
the weights of all connections that leave or reach the thalamus, are from the thalamocortical model
of Sen Bhattacharya, Coyle and Maguire [2]_, with the values of the Simulink model that its authors
published (ModelDB 138970). Its thalamic interneurons and its reticular nucleus inhibit the relay
cells with equal weights, 15.45 each; here the reticular cells carry the whole inhibition.

.. math::

    \ddot y_0 &= A a S(v_P) - 2 a \dot y_0 - a^2 y_0 \\
    \ddot y_1 &= A a (p + C_2 S(C_1 y_0)) - 2 a \dot y_1 - a^2 y_1 \\
    \ddot y_2 &= B b C_4 S(C_3 y_0) - 2 b \dot y_2 - b^2 y_2 \\
    \ddot x_0 &= A_t a_t S(v_T) - 2 a_t \dot x_0 - a_t^2 x_0 \\
    \ddot x_1 &= B_t b_t S(v_R) - 2 b_t \dot x_1 - b_t^2 x_1 \\
    \ddot x_2 &= A_t a_t q - 2 a_t \dot x_2 - a_t^2 x_2 \\
    v_P &= y_1 - y_2 + W_{PT} x_0 \\
    v_T &= W_{TA} x_2 + W_{TP} y_0 - W_{TR} x_1 \\
    v_R &= W_{RT} x_0 + W_{RP} y_0 - W_{RR} x_1

with :math:`S(v) = 2 e_0 / (1 + e^{r (v_0 - v)})`, :math:`C_k = \alpha_k C`, and the potentials of
the pyramidal (P), relay (T) and reticular (R) cells; A is the sensory afferent. Derivatives are
:math:`y_3 = \dot y_0, \dots` and :math:`x_3 = \dot x_0, \dots`. A potential x or :math:`y_0` is
that of one synapse of unit weight: :math:`x_0` is what relay cells, :math:`x_1` what reticular
cells and :math:`x_2` what the afferent evokes. Pyramidal cells act on the thalamus with their
cortical kernel. Voltages are in millivolts, rates and inverse time constants in 1/s. The signal is
the net postsynaptic potential of the pyramidal cells, :math:`v_P` [mV].

The target ``pyramidal`` is p, what reaches the pyramidal cells from elsewhere than this thalamus;
``relay`` is q, the rate of the sensory afferent (in [2]_ that of the retina). Without
:math:`W_{PT}` the cortex is that of Jansen and Rit. As in [2]_ there are no
conduction delays between cortex and thalamus.

References
----------
.. [1] Jansen BH, Rit VG (1995). Electroencephalogram and visual evoked potential generation in a
   mathematical model of coupled cortical columns. Biological Cybernetics 73:357-366.
.. [2] Sen Bhattacharya B, Coyle D, Maguire LP (2011). A thalamo-cortico-thalamic neural mass model
   to study alpha rhythms in Alzheimer's disease. Neural Networks 24:631-645.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmm_infer.models._rest import lowest_balance
from nmm_infer.models._sigmoid import sigmoid
from nmm_infer.models.base import Constant, Model, Output, State, register_model

__all__ = ["THALAMOCORTICAL"]

_JR = "Jansen and Rit 1995, Biological Cybernetics 73:357"
_SB = "Sen Bhattacharya et al. 2011, Neural Networks 24:631 (values of ModelDB 138970)"
_FOLDED = f"{_SB}: 15.45 each of thalamic interneurons and reticular nucleus, here together"

STATES = (
    State("y0", "mV", "excitatory potential that pyramidal cells evoke, per synapse"),
    State("y1", "mV", "excitatory potential of the pyramidal cells from cortical cells"),
    State("y2", "mV", "inhibitory potential of the pyramidal cells, as a magnitude"),
    State("x0", "mV", "excitatory potential that relay cells evoke, per synapse"),
    State("x1", "mV", "inhibitory potential that reticular cells evoke, per synapse"),
    State("x2", "mV", "excitatory potential that the afferent evokes, per synapse"),
    State("y3", "mV/s", "derivative of y0"),
    State("y4", "mV/s", "derivative of y1"),
    State("y5", "mV/s", "derivative of y2"),
    State("x3", "mV/s", "derivative of x0"),
    State("x4", "mV/s", "derivative of x1"),
    State("x5", "mV/s", "derivative of x2"),
)
CONSTANTS = (
    Constant("A", "mV", 3.25, 0.0, 50.0, _JR),
    Constant("B", "mV", 22.0, 0.0, 300.0, _JR),
    Constant("a", "1/s", 100.0, 1.0, 1000.0, _JR),
    Constant("b", "1/s", 50.0, 1.0, 1000.0, _JR),
    Constant("C", "1", 135.0, 0.0, 2000.0, _JR),
    Constant("alpha_1", "1", 1.0, 0.0, 10.0, _JR),
    Constant("alpha_2", "1", 0.8, 0.0, 10.0, _JR),
    Constant("alpha_3", "1", 0.25, 0.0, 10.0, _JR),
    Constant("alpha_4", "1", 0.25, 0.0, 10.0, _JR),
    Constant("A_t", "mV", 3.25, 0.0, 50.0, _SB),
    Constant("B_t", "mV", 22.0, 0.0, 300.0, _SB),
    Constant("a_t", "1/s", 100.0, 1.0, 1000.0, _SB),
    Constant("b_t", "1/s", 40.0, 1.0, 1000.0, _SB),
    Constant("relay_to_pyramidal", "1", 80.0, 0.0, 1000.0, _SB),
    Constant("afferent_to_relay", "1", 7.1, 0.0, 1000.0, _SB),
    Constant("pyramidal_to_relay", "1", 62.0, 0.0, 1000.0, _SB),
    Constant("reticular_to_relay", "1", 30.9, 0.0, 1000.0, _FOLDED),
    Constant("relay_to_reticular", "1", 35.0, 0.0, 1000.0, _SB),
    Constant("pyramidal_to_reticular", "1", 50.0, 0.0, 1000.0, _SB),
    Constant("reticular_to_reticular", "1", 15.0, 0.0, 1000.0, _SB),
    Constant("v0", "mV", 6.0, -50.0, 50.0, _JR),
    Constant("e0", "1/s", 2.5, 0.0, 100.0, _JR),
    Constant("r", "1/mV", 0.56, 0.0, 10.0, _JR),
)


def potential(y1, y2, x0, relay_to_pyramidal):
    """Return the net postsynaptic potential of the pyramidal cells [mV]."""
    return y1 - y2 + relay_to_pyramidal * x0


def relay_potential(
    y0, x1, x2, afferent_to_relay, pyramidal_to_relay, reticular_to_relay
):  # fmt: skip
    """Return the net postsynaptic potential of the relay cells [mV]."""
    return afferent_to_relay * x2 + pyramidal_to_relay * y0 - reticular_to_relay * x1


def reticular_potential(
    y0, x0, x1, relay_to_reticular, pyramidal_to_reticular, reticular_to_reticular
):
    """Return the net postsynaptic potential of the reticular cells [mV]."""
    return relay_to_reticular * x0 + pyramidal_to_reticular * y0 - reticular_to_reticular * x1


def derivative(
    y0, y1, y2, x0, x1, x2, y3, y4, y5, x3, x4, x5, pyramidal, relay,
    A, B, a, b, C, alpha_1, alpha_2, alpha_3, alpha_4, A_t, B_t, a_t, b_t,
    relay_to_pyramidal, afferent_to_relay, pyramidal_to_relay, reticular_to_relay,
    relay_to_reticular, pyramidal_to_reticular, reticular_to_reticular, v0, e0, r,
):  # fmt: skip
    """Return the right-hand side."""
    cortex = potential(y1, y2, x0, relay_to_pyramidal)
    thalamus = relay_potential(
        y0, x1, x2, afferent_to_relay, pyramidal_to_relay, reticular_to_relay
    )
    reticulum = reticular_potential(
        y0, x0, x1, relay_to_reticular, pyramidal_to_reticular, reticular_to_reticular
    )
    excitatory = alpha_2 * C * sigmoid(alpha_1 * C * y0, v0, e0, r)
    inhibitory = alpha_4 * C * sigmoid(alpha_3 * C * y0, v0, e0, r)
    return (
        y3,
        y4,
        y5,
        x3,
        x4,
        x5,
        a * (A * sigmoid(cortex, v0, e0, r) - 2 * y3 - a * y0),
        a * (A * (pyramidal + excitatory) - 2 * y4 - a * y1),
        b * (B * inhibitory - 2 * y5 - b * y2),
        a_t * (A_t * sigmoid(thalamus, v0, e0, r) - 2 * x3 - a_t * x0),
        b_t * (B_t * sigmoid(reticulum, v0, e0, r) - 2 * x4 - b_t * x1),
        a_t * (A_t * relay - 2 * x5 - a_t * x2),
    )


def rate(y1, y2, x0, relay_to_pyramidal, v0, e0, r):
    """Return the firing rate of the pyramidal cells [1/s]."""
    return sigmoid(potential(y1, y2, x0, relay_to_pyramidal), v0, e0, r)


def relay_rate(
    y0, x1, x2, afferent_to_relay, pyramidal_to_relay, reticular_to_relay, v0, e0, r
):  # fmt: skip
    """Return the firing rate of the relay cells [1/s]."""
    v = relay_potential(y0, x1, x2, afferent_to_relay, pyramidal_to_relay, reticular_to_relay)
    return sigmoid(v, v0, e0, r)


def reticular_rate(
    y0, x0, x1, relay_to_reticular, pyramidal_to_reticular, reticular_to_reticular, v0, e0, r
):
    """Return the firing rate of the reticular cells [1/s]."""
    v = reticular_potential(
        y0, x0, x1, relay_to_reticular, pyramidal_to_reticular, reticular_to_reticular
    )
    return sigmoid(v, v0, e0, r)


def _thalamus(
    up, down, relay, A_t, B_t, a_t, b_t,
    afferent_to_relay, pyramidal_to_relay, reticular_to_relay,
    relay_to_reticular, pyramidal_to_reticular, reticular_to_reticular, v0, e0, r,
):  # fmt: skip
    """Return x0, x1 and x2 at rest.

    The potential y0 is ``up`` where it reaches the relay cells and ``down`` where it reaches the
    reticular ones, so x0 rises with ``up`` and falls with ``down``. The reticular potential v is
    the only zero of a function that has a slope of one or more.
    """
    gain_e, gain_i = A_t / a_t, B_t / b_t
    x2 = gain_e * relay
    drive = afferent_to_relay * x2 + pyramidal_to_relay * up

    def potentials(v):
        x1 = gain_i * sigmoid(v, v0, e0, r)
        return gain_e * sigmoid(drive - reticular_to_relay * x1, v0, e0, r), x1

    def excess(v):
        x0, x1 = potentials(v)
        return v - reticular_potential(
            down, x0, x1, relay_to_reticular, pyramidal_to_reticular, reticular_to_reticular
        )

    middle = pyramidal_to_reticular * down
    low = middle - reticular_to_reticular * gain_i * 2 * e0
    high = middle + relay_to_reticular * gain_e * 2 * e0
    width = float(np.max(high - low))
    for _ in range(int(np.ceil(np.log2(max(width / 1e-2, 2.0))))):  # to .01 mV
        middle = (low + high) / 2
        above = excess(middle) > 0
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    bottom, top = low, high
    f_bottom, f_top = excess(bottom), excess(top)
    for _ in range(3):  # secants: the error falls to rounding
        with np.errstate(divide="ignore", invalid="ignore"):
            v = top - f_top * (top - bottom) / (f_top - f_bottom)
        v = np.where(np.isfinite(v), v, top)
        bottom, f_bottom, top, f_top = top, f_top, v, excess(v)
    return (*potentials(top), x2)


def _potentials(
    rising, falling, pyramidal, relay_to_pyramidal,
    A, B, a, b, C, alpha_1, alpha_2, alpha_3, alpha_4, v0, e0, r, **thalamic
):  # fmt: skip
    up = A / a * sigmoid(rising, v0, e0, r)
    down = A / a * sigmoid(falling, v0, e0, r)
    y1 = A / a * (pyramidal + alpha_2 * C * sigmoid(alpha_1 * C * up, v0, e0, r))
    y2 = B / b * alpha_4 * C * sigmoid(alpha_3 * C * down, v0, e0, r)
    return up, y1, y2, *_thalamus(up, down, v0=v0, e0=e0, r=r, **thalamic)


def _balance(rising, falling, **arguments):
    _, y1, y2, x0, _, _ = _potentials(rising, falling, **arguments)
    return potential(y1, y2, x0, arguments["relay_to_pyramidal"])


def _equilibrium(
    inputs: Mapping[str, NDArray[Any]], constants: Mapping[str, NDArray[Any]]
) -> NDArray[np.float64]:
    """Return the lowest equilibrium of each column.

    At rest y0 follows from the pyramidal potential, and the thalamus, whose feedback on itself is
    negative, has one equilibrium for each y0: one scalar equation is left.
    """
    arguments = {**inputs, **constants}
    v = lowest_balance(_balance, arguments)
    potentials = _potentials(v, v, **arguments)
    return np.stack(np.broadcast_arrays(*potentials, *[np.zeros_like(v)] * 6))


THALAMOCORTICAL = register_model(
    Model(
        name="thalamocortical",
        states=STATES,
        constants=CONSTANTS,
        targets=("pyramidal", "relay"),
        derivative=derivative,
        outputs=(
            Output("potential", "mV", potential),
            Output("rate", "1/s", rate),
            Output("relay_rate", "1/s", relay_rate),
            Output("relay_potential", "mV", relay_potential),
            Output("reticular_rate", "1/s", reticular_rate),
        ),
        rates=("a", "b", "a_t", "b_t"),
        equilibrium=_equilibrium,
        reference=(
            "Jansen and Rit 1995, Biological Cybernetics 73:357-366, with the thalamus of "
            "Sen Bhattacharya et al. 2011, Neural Networks 24:631-645"
        ),
    )
)

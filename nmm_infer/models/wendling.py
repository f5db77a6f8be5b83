r"""The hippocampal column with fast inhibition of Wendling and colleagues.

A Jansen-Rit column with a second class of inhibitory interneurons, whose synapses lie at the soma
of the pyramidal cells and are fast; the slow, dendritic inhibition acts on them too [1]_:

.. math::

    \ddot y_0 &= A a (S(y_1 - y_2 - y_3) + u) - 2 a \dot y_0 - a^2 y_0 \\
    \ddot y_1 &= A a (p + C_2 S(C_1 y_0)) - 2 a \dot y_1 - a^2 y_1 \\
    \ddot y_2 &= B b C_4 S(C_3 y_0) - 2 b \dot y_2 - b^2 y_2 \\
    \ddot y_3 &= G g C_7 S(C_5 y_0 - C_6 y_4) - 2 g \dot y_3 - g^2 y_3 \\
    \ddot y_4 &= B b S(C_3 y_0) - 2 b \dot y_4 - b^2 y_4

with :math:`S(v) = 2 e_0 / (1 + e^{r (v_0 - v)})`, :math:`C_k = \alpha_k C`, and the derivatives
:math:`y_5 = \dot y_0, \dots, y_9 = \dot y_4`. Voltages are in millivolts, rates and inverse time
constants in 1/s. The signal is the net postsynaptic potential of the pyramidal cells,
:math:`y_1 - y_2 - y_3` [mV]. With G = 0 this is the column of Jansen and Rit.

The target ``pyramidal`` is the published input p, white noise of mean 90 /s. Its standard deviation
of 30 /s, drawn anew at each step of 1/512 s, is an intensity of :math:`30 \sqrt{1/512} = 1.33\,
\mathrm{s}^{-1/2}` (argument ``noise`` of :func:`~nmm_infer.simulation.integrate`). The target
``interneurons`` is u, zero in the publication. :data:`ACTIVITY` holds the gains A, B and G of the
six types of activity that the publication tells apart in depth EEG.

The constants are those of 2002. The code of the later publication [2]_ has A = 3.5 mV, B = 20 mV,
G = 15 mV, b = 30 /s and g = 350 /s instead.

References
----------
.. [1] Wendling F, Bartolomei F, Bellanger JJ, Chauvel P (2002). Epileptic fast activity can be
   explained by a model of impaired GABAergic dendritic inhibition. European Journal of
   Neuroscience 15:1499-1508.
.. [2] Wendling F, Hernandez A, Bellanger JJ, Chauvel P, Bartolomei F (2005). Interictal to ictal
   transition in human temporal lobe epilepsy: insights from a computational model of intracerebral
   EEG. Journal of Clinical Neurophysiology 22:343-356.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmm_infer.models._rest import lowest_balance
from nmm_infer.models._sigmoid import sigmoid
from nmm_infer.models.base import Constant, Model, Output, State, register_model

__all__ = ["ACTIVITY", "WENDLING"]

_WENDLING = "Wendling et al. 2002, European Journal of Neuroscience 15:1499"
_JR = "Jansen and Rit 1995, adopted by Wendling et al. 2002"

#: Gains A, B and G [mV] by type of activity (Wendling et al. 2002).
ACTIVITY: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        name: MappingProxyType({"A": 5.0, "B": slow, "G": fast})
        for name, slow, fast in (
            ("background", 50.0, 15.0),
            ("sporadic spikes", 40.0, 15.0),
            ("sustained spikes", 25.0, 15.0),
            ("slow rhythmic", 10.0, 15.0),
            ("low-voltage fast", 5.0, 25.0),
            ("quasi-sinusoidal", 15.0, 0.0),
        )
    }
)

STATES = (
    State("y0", "mV", "excitatory potential of the interneurons, per synapse"),
    State("y1", "mV", "excitatory potential of the pyramidal cells"),
    State("y2", "mV", "slow inhibitory potential of the pyramidal cells, as a magnitude"),
    State("y3", "mV", "fast inhibitory potential of the pyramidal cells, as a magnitude"),
    State("y4", "mV", "slow inhibitory potential of the fast interneurons, per synapse"),
    State("y5", "mV/s", "derivative of y0"),
    State("y6", "mV/s", "derivative of y1"),
    State("y7", "mV/s", "derivative of y2"),
    State("y8", "mV/s", "derivative of y3"),
    State("y9", "mV/s", "derivative of y4"),
)
CONSTANTS = (
    Constant("A", "mV", 3.25, 0.0, 50.0, _WENDLING),
    Constant("B", "mV", 22.0, 0.0, 300.0, _WENDLING),
    Constant("G", "mV", 10.0, 0.0, 300.0, _WENDLING),
    Constant("a", "1/s", 100.0, 1.0, 1000.0, _WENDLING),
    Constant("b", "1/s", 50.0, 1.0, 1000.0, _WENDLING),
    Constant("g", "1/s", 500.0, 1.0, 2000.0, _WENDLING),
    Constant("C", "1", 135.0, 0.0, 2000.0, _JR),
    Constant("alpha_1", "1", 1.0, 0.0, 10.0, _JR),
    Constant("alpha_2", "1", 0.8, 0.0, 10.0, _JR),
    Constant("alpha_3", "1", 0.25, 0.0, 10.0, _JR),
    Constant("alpha_4", "1", 0.25, 0.0, 10.0, _JR),
    Constant("alpha_5", "1", 0.3, 0.0, 10.0, _WENDLING),
    Constant("alpha_6", "1", 0.1, 0.0, 10.0, _WENDLING),
    Constant("alpha_7", "1", 0.8, 0.0, 10.0, _WENDLING),
    Constant("v0", "mV", 6.0, -50.0, 50.0, _JR),
    Constant("e0", "1/s", 2.5, 0.0, 100.0, _JR),
    Constant("r", "1/mV", 0.56, 0.0, 10.0, _JR),
)


def derivative(
    y0, y1, y2, y3, y4, y5, y6, y7, y8, y9, pyramidal, interneurons,
    A, B, G, a, b, g, C, alpha_1, alpha_2, alpha_3, alpha_4, alpha_5, alpha_6, alpha_7, v0, e0, r,
):  # fmt: skip
    """Return the right-hand side."""
    excitatory = alpha_2 * C * sigmoid(alpha_1 * C * y0, v0, e0, r)
    slow = sigmoid(alpha_3 * C * y0, v0, e0, r)
    fast = alpha_7 * C * sigmoid(C * (alpha_5 * y0 - alpha_6 * y4), v0, e0, r)
    return (
        y5,
        y6,
        y7,
        y8,
        y9,
        a * (A * (sigmoid(y1 - y2 - y3, v0, e0, r) + interneurons) - 2 * y5 - a * y0),
        a * (A * (pyramidal + excitatory) - 2 * y6 - a * y1),
        b * (B * alpha_4 * C * slow - 2 * y7 - b * y2),
        g * (G * fast - 2 * y8 - g * y3),
        b * (B * slow - 2 * y9 - b * y4),
    )


def potential(y1, y2, y3):
    """Return the net postsynaptic potential of the pyramidal cells [mV]."""
    return y1 - y2 - y3


def rate(y1, y2, y3, v0, e0, r):
    """Return the firing rate of the pyramidal cells [1/s]."""
    return sigmoid(y1 - y2 - y3, v0, e0, r)


def _potentials(
    rising, falling, pyramidal, interneurons,
    A, B, G, a, b, g, C, alpha_1, alpha_2, alpha_3, alpha_4, alpha_5, alpha_6, alpha_7, v0, e0, r,
):  # fmt: skip
    up = A / a * (sigmoid(rising, v0, e0, r) + interneurons)
    down = A / a * (sigmoid(falling, v0, e0, r) + interneurons)
    y1 = A / a * (pyramidal + alpha_2 * C * sigmoid(alpha_1 * C * up, v0, e0, r))
    y2 = B / b * alpha_4 * C * sigmoid(alpha_3 * C * down, v0, e0, r)
    y4 = B / b * sigmoid(alpha_3 * C * up, v0, e0, r)  # inhibits inhibition: it raises v
    y3 = G / g * alpha_7 * C * sigmoid(C * (alpha_5 * down - alpha_6 * y4), v0, e0, r)
    return up, y1, y2, y3, y4


def _balance(rising, falling, **arguments):
    _, y1, y2, y3, _ = _potentials(rising, falling, **arguments)
    return y1 - y2 - y3


def _equilibrium(
    inputs: Mapping[str, NDArray[Any]], constants: Mapping[str, NDArray[Any]]
) -> NDArray[np.float64]:
    """Return the lowest equilibrium of each column: at rest all potentials follow from v."""
    arguments = {**inputs, **constants}
    v = lowest_balance(_balance, arguments)
    potentials = _potentials(v, v, **arguments)
    return np.stack(np.broadcast_arrays(*potentials, *[np.zeros_like(v)] * 5))


WENDLING = register_model(
    Model(
        name="wendling",
        states=STATES,
        constants=CONSTANTS,
        targets=("pyramidal", "interneurons"),
        derivative=derivative,
        outputs=(Output("potential", "mV", potential), Output("rate", "1/s", rate)),
        rates=("a", "b", "g"),
        equilibrium=_equilibrium,
        reference="Wendling et al. 2002, European Journal of Neuroscience 15:1499-1508",
    )
)

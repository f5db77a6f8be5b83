r"""The source of dynamic causal modelling for evoked responses.

A Jansen-Rit column in which spiny stellate cells, pyramidal cells and inhibitory interneurons have
synapses of their own, so that connections between sources can differ in where they end [1]_:

.. math::

    \ddot x_1 &= A a (s + \gamma_1 S(v)) - 2 a \dot x_1 - a^2 x_1 \\
    \ddot x_2 &= A a (p + \gamma_2 S(x_1)) - 2 a \dot x_2 - a^2 x_2 \\
    \ddot x_3 &= B b \gamma_4 S(x_7) - 2 b \dot x_3 - b^2 x_3 \\
    \ddot x_7 &= A a (i + \gamma_3 S(v)) - 2 a \dot x_7 - a^2 x_7 \\
    v &= x_2 - x_3

with :math:`S(v) = 2 e_0 / (1 + e^{-r v}) - e_0` and the derivatives :math:`x_4 = \dot x_1`,
:math:`x_5 = \dot x_2`, :math:`x_6 = \dot x_3` and :math:`x_8 = \dot x_7`; the numbers are those of
the publication, whose ninth state is v. Potentials are in millivolts, rates and inverse time
constants in 1/s; in its notation :math:`A = H_e, \; B = H_i, \; a = 1/\tau_e, \; b = 1/\tau_i`.
Potentials and rates are deviations from those at rest, so that a rate may be negative and a source
without input rests at zero. The signal is v, the potential of the pyramidal cells [mV].

What other sources send, and the input to the brain, enter one of the targets ``stellate`` (s),
``pyramidal`` (p) and ``inhibitory`` (i):

- forward connections reach ``stellate``, as does the input u of a stimulus;
- backward connections reach ``pyramidal`` and ``inhibitory``;
- lateral connections reach all three.

Each is a :class:`~nmm_infer.simulation.Connection` with ``target=...`` for each of its targets. In
the released code the weights are 32 for forward, 16 for backward and 4 for lateral connections,
with a delay of 16 ms; its delays of 2 ms within a source are left out here.

The constants are those of the code released with the publication, ``spm_fx_erp.m`` of SPM in the
folder ``toolbox/api_erp``, whose sigmoid :math:`1 / (1 + e^{-r v}) - 1/2` is that above with
:math:`e_0 = 1/2`. Later releases (``toolbox/dcm_meeg``) have another one, :math:`1 / (1 + e^{-r_1
(v - r_2)}) - 1 / (1 + e^{r_1 r_2})`. We have not seen the values printed in the publication. With
:math:`e_0 = 2.5`, as in the column of Jansen and Rit, these gains make the rest unstable.

References
----------
.. [1] David O, Kiebel SJ, Harrison LM, Mattout J, Kilner JM, Friston KJ (2006). Dynamic causal
   modeling of evoked responses in EEG and MEG. NeuroImage 30:1255-1272.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmm_infer.models._rest import lowest_balance
from nmm_infer.models.base import Constant, Model, Output, State, register_model

__all__ = ["DAVID_2006"]

_SPM = "David et al. 2006, NeuroImage 30:1255: the released code, spm_fx_erp.m of SPM (api_erp)"

STATES = (
    State("x1", "mV", "potential of the stellate cells"),
    State("x2", "mV", "excitatory potential of the pyramidal cells"),
    State("x3", "mV", "inhibitory potential of the pyramidal cells, as a magnitude"),
    State("x7", "mV", "potential of the inhibitory interneurons"),
    State("x4", "mV/s", "derivative of x1"),
    State("x5", "mV/s", "derivative of x2"),
    State("x6", "mV/s", "derivative of x3"),
    State("x8", "mV/s", "derivative of x7"),
)
CONSTANTS = (
    Constant("A", "mV", 4.0, 0.0, 50.0, _SPM),
    Constant("B", "mV", 32.0, 0.0, 300.0, _SPM),
    Constant("a", "1/s", 1 / 0.008, 1.0, 1000.0, _SPM),
    Constant("b", "1/s", 1 / 0.016, 1.0, 1000.0, _SPM),
    Constant("gamma_1", "1", 128.0, 0.0, 5000.0, _SPM),
    Constant("gamma_2", "1", 128.0 * 4 / 5, 0.0, 5000.0, _SPM),
    Constant("gamma_3", "1", 128.0 / 4, 0.0, 5000.0, _SPM),
    Constant("gamma_4", "1", 128.0 / 4, 0.0, 5000.0, _SPM),
    Constant("e0", "1/s", 0.5, 0.0, 100.0, _SPM),
    Constant("r", "1/mV", 0.56, 0.0, 10.0, _SPM),
)


def sigmoid(v, e0, r):
    """Return the deviation of the firing rate from rest [1/s] at that of the potential, v [mV]."""
    return 2 * e0 / (1 + np.exp(-r * v)) - e0


def derivative(
    x1, x2, x3, x7, x4, x5, x6, x8, stellate, pyramidal, inhibitory,
    A, B, a, b, gamma_1, gamma_2, gamma_3, gamma_4, e0, r,
):  # fmt: skip
    """Return the right-hand side."""
    sent = sigmoid(x2 - x3, e0, r)
    return (
        x4,
        x5,
        x6,
        x8,
        a * (A * (stellate + gamma_1 * sent) - 2 * x4 - a * x1),
        a * (A * (pyramidal + gamma_2 * sigmoid(x1, e0, r)) - 2 * x5 - a * x2),
        b * (B * gamma_4 * sigmoid(x7, e0, r) - 2 * x6 - b * x3),
        a * (A * (inhibitory + gamma_3 * sent) - 2 * x8 - a * x7),
    )


def potential(x2, x3):
    """Return the potential of the pyramidal cells [mV]."""
    return x2 - x3


def rate(x2, x3, e0, r):
    """Return the firing rate of the pyramidal cells, relative to rest [1/s]."""
    return sigmoid(x2 - x3, e0, r)


def stellate_rate(x1, e0, r):
    """Return the firing rate of the stellate cells, relative to rest [1/s]."""
    return sigmoid(x1, e0, r)


def _potentials(
    rising, falling, stellate, pyramidal, inhibitory,
    A, B, a, b, gamma_1, gamma_2, gamma_3, gamma_4, e0, r,
):  # fmt: skip
    x1 = A / a * (stellate + gamma_1 * sigmoid(rising, e0, r))
    x2 = A / a * (pyramidal + gamma_2 * sigmoid(x1, e0, r))
    x7 = A / a * (inhibitory + gamma_3 * sigmoid(falling, e0, r))
    x3 = B / b * gamma_4 * sigmoid(x7, e0, r)
    return x1, x2, x3, x7


def _balance(rising, falling, **arguments):
    _, x2, x3, _ = _potentials(rising, falling, **arguments)
    return x2 - x3


def _equilibrium(
    inputs: Mapping[str, NDArray[Any]], constants: Mapping[str, NDArray[Any]]
) -> NDArray[np.float64]:
    """Return the lowest equilibrium of each source: at rest all potentials follow from v."""
    arguments = {**inputs, **constants}
    v = lowest_balance(_balance, arguments)
    potentials = _potentials(v, v, **arguments)
    return np.stack(np.broadcast_arrays(*potentials, *[np.zeros_like(v)] * 4))


DAVID_2006 = register_model(
    Model(
        name="david_2006",
        states=STATES,
        constants=CONSTANTS,
        targets=("stellate", "pyramidal", "inhibitory"),
        derivative=derivative,
        outputs=(
            Output("potential", "mV", potential),
            Output("rate", "1/s", rate),
            Output("stellate_rate", "1/s", stellate_rate),
        ),
        rates=("a", "b"),
        equilibrium=_equilibrium,
        reference="David et al. 2006, NeuroImage 30:1255-1272",
    )
)

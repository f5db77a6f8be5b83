"""The sigmoid that turns potentials into firing rates."""

from __future__ import annotations

import numpy as np

__all__ = ["sigmoid"]


def sigmoid(v, v0, e0, r):
    r"""Return the firing rate [1/s] at the mean potential v [mV].

    :math:`S(v) = 2 e_0 / (1 + e^{r (v_0 - v)})`: Freeman's sigmoid as in Jansen and Rit 1995, with
    its largest rate 2 e0 [1/s], the potential v0 [mV] of half of it, and the slope r [1/mV].
    """
    return 2 * e0 / (1 + np.exp(r * (v0 - v)))

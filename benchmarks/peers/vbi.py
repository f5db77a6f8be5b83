"""VBI: its Jansen-Rit model in Numba (vbi.models.numba.jansen_rit.JR_sde).

One simulation at a time, in float64, without delays. A compiled step in a Python loop over time.
Its coupling is ``G S(sum_j W_ij (y1_j - y2_j))``, one sigmoid of the summed potentials, where
Jansen and Rit sum the rates of the senders: the dynamics differ, the work is about the same.
"""

from __future__ import annotations

import numpy as np
from vbi.models.numba.jansen_rit import JR_sde

from benchmarks.peers import Case, Prepared


def prepare(case: Case, simulations: int, seconds: float) -> Prepared:
    """See :mod:`benchmarks.peers`."""
    assert simulations == 1 and case.lengths is None
    ms = case.milliseconds()
    step = case.step * 1e3
    model = JR_sde(
        {
            "weights": np.array(case.weights), "G": case.strength, "A": ms["A"], "B": ms["B"],
            "a": ms["a"], "b": ms["b"], "v0": ms["v0"], "r": ms["r"], "vmax": 2 * ms["e0"],
            "C0": ms["alpha_1"] * ms["C"], "C1": ms["alpha_2"] * ms["C"],
            "C2": ms["alpha_3"] * ms["C"], "C3": ms["alpha_4"] * ms["C"], "mu": ms["drive"],
            "noise_amp": ms["noise"], "dt": step, "t_end": (case.steps(seconds) + 0.5) * step,
            # It stores the state after a step under the time before it.
            "t_cut": (case.every - 1.5) * step, "decimate": case.every, "seed": 1,
        }
    )  # fmt: skip
    start = np.repeat(case.initial_ms(), case.nodes)

    def run():
        return model.run(x0=start)["x"].T[None]

    return Prepared(run, "float64")

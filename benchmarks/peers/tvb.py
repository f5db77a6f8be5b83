"""The Virtual Brain (tvb-library): its JansenRit, SigmoidalJansenRit and HeunStochastic.

One simulation at a time, in float64. The right-hand side is compiled by Numba, the loop over time
and the coupling are NumPy; coupling is frozen within a step. Configuring is not timed.
"""

from __future__ import annotations

import numpy as np
from tvb.datatypes.connectivity import Connectivity
from tvb.simulator.coupling import SigmoidalJansenRit
from tvb.simulator.integrators import HeunStochastic
from tvb.simulator.models.jansen_rit import JansenRit
from tvb.simulator.monitors import SubSample
from tvb.simulator.noise import Additive
from tvb.simulator.simulator import Simulator

from benchmarks.peers import Case, Prepared


def _model(case: Case) -> JansenRit:
    ms = case.milliseconds()
    given = {
        "A": ms["A"], "B": ms["B"], "a": ms["a"], "b": ms["b"], "v0": ms["v0"], "r": ms["r"],
        "nu_max": ms["e0"], "J": ms["C"], "mu": ms["drive"],
        **{f"a_{k}": ms[f"alpha_{k}"] for k in (1, 2, 3, 4)},
    }  # fmt: skip
    values = {name: np.array([value]) for name, value in given.items()}
    return JansenRit(variables_of_interest=("y1", "y2"), **values)


def _simulator(case: Case) -> Simulator:
    ms, n = case.milliseconds(), case.nodes
    lengths = np.zeros((n, n)) if case.lengths is None else np.array(case.lengths)
    connectivity = Connectivity(
        weights=np.array(case.weights),
        tract_lengths=lengths,
        # Simulator.conduction_speed would not change the delays.
        speed=np.array([case.speed]),
        region_labels=np.array([f"node-{i}" for i in range(n)]),
        centres=np.zeros((n, 3)),
    )
    coupling = SigmoidalJansenRit(
        cmin=np.array([0.0]), cmax=np.array([2 * ms["e0"]]), midpoint=np.array([ms["v0"]]),
        r=np.array([ms["r"]]), a=np.array([case.strength]),
    )  # fmt: skip
    # nsig is the D of sqrt(2 D): half the squared intensity.
    nsig = np.array([0, 0, 0, 0, ms["noise"] ** 2 / 2, 0])
    step = case.step * 1e3
    initial = case.initial_ms()[None, :, None, None]
    # The past reaches back to the longest delay; the monitor counts steps from its beginning.
    past = int(np.ceil((lengths / case.speed).max() / step)) + 1
    past = -(-past // case.every) * case.every + 1
    return Simulator(
        connectivity=connectivity,
        coupling=coupling,
        model=_model(case),
        integrator=HeunStochastic(dt=step, noise=Additive(nsig=nsig, noise_seed=1)),
        monitors=(SubSample(period=step * case.every),),
        initial_conditions=np.tile(initial, (past, 1, n, 1)),
    )


def prepare(case: Case, simulations: int, seconds: float) -> Prepared:
    """See :mod:`benchmarks.peers`; a later run goes on where the one before it ended."""
    assert simulations == 1
    simulator = _simulator(case).configure()

    def run():
        ((_, states),) = simulator.run(n_steps=np.int64(case.steps(seconds)))
        return (states[:, 0, :, 0] - states[:, 1, :, 0]).T[None]

    return Prepared(run, "float64")

"""Agreement with The Virtual Brain, where it is installed.

TVB is in ms and 1/ms where the package is in s and 1/s.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy import signal

from nmm_infer.models import JANSEN_RIT
from nmm_infer.simulation import Clock, Connection, Network, integrate

lab = pytest.importorskip("tvb.simulator.lab", reason="The Virtual Brain is not installed")

STEP = 1e-3
MU, V0, G = 130.0, 6.0, 0.4
SPEED = 4.0


def connectome():
    """The 76 regions of tvb-data."""
    found = lab.connectivity.Connectivity.from_file()
    found.speed = np.array([SPEED])  # the simulator's conduction_speed has no effect
    found.configure()
    assert found.number_of_regions == 76
    return found


def start(n):
    """Initial states of all regions in mV and mV/s, shape (state, region)."""
    rng = np.random.default_rng(1)
    middle = np.array([0.1, 16.0, 10.0, 0.0, 0.0, 0.0])[:, None]
    return middle + rng.normal(size=(6, n)) * np.array([0.02, 2, 2, 1, 100, 100])[:, None]


def tvb_run(duration, states, integrator, g=G, mu=MU):
    """Return TVB's y1 - y2, shape (step, region), and its connectome."""
    regions = connectome()
    model = lab.models.JansenRit(
        mu=np.array([mu / 1e3]),
        v0=np.array([V0]),
        variables_of_interest=("y1", "y2"),
    )
    coupling = lab.coupling.SigmoidalJansenRit(
        cmin=np.array([0.0]),
        cmax=2 * model.nu_max,
        midpoint=np.array([V0]),
        r=model.r,
        a=np.array([g]),
    )
    regions.set_idelays(STEP * 1e3)
    horizon = int(regions.idelays.max()) + 1
    history = states * np.array([1, 1, 1, 1e-3, 1e-3, 1e-3])[:, None]
    simulator = lab.simulator.Simulator(
        model=model,
        connectivity=regions,
        coupling=coupling,
        integrator=integrator,
        monitors=(lab.monitors.Raw(),),
        initial_conditions=np.repeat(history[None, ..., None], horizon, axis=0),
        simulation_length=duration * 1e3,
    )
    simulator.configure()
    ((times, values),) = simulator.run()
    np.testing.assert_allclose(np.diff(times), STEP * 1e3)  # its clock begins with the history
    return values[:, 0, :, 0] - values[:, 1, :, 0], regions


def our_run(duration, states, regions, mu=MU, **changes):
    """Return y1 - y2 of the package, shape (run, step, region)."""
    network = Network([Connection(regions.weights, regions.tract_lengths)])
    clock = Clock(STEP, duration, step=STEP, every=1, settle=STEP)
    given = {"noise": np.zeros((1, 1)), "speed": SPEED, "strength": G, "coupling_update": "step"}
    run = integrate(
        JANSEN_RIT,
        clock,
        network=network,
        drive=np.full((1, 1), mu),
        constants={"v0": V0},
        initial=states[:, None],
        dtype="float64",
        **given | changes,
    )
    return run.outputs["potential"].swapaxes(1, 2)


def test_trajectories_are_those_of_tvb():
    states = start(76)
    theirs, regions = tvb_run(1.0, states, lab.integrators.HeunDeterministic(dt=STEP * 1e3))
    assert (regions.idelays > 0).sum() > 1000 and np.unique(regions.idelays).size > 30
    (ours,) = our_run(1.0, states, regions)
    assert ours.shape == theirs.shape == (1000, 76)
    assert np.ptp(theirs, axis=0).min() > 1
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)
    # The coupling, its delays and its update matter for this.
    for change in ({"strength": 0.0}, {"speed": 40.0}, {"coupling_update": "stage"}):
        (other,) = our_run(1.0, states, regions, **change)
        assert np.abs(other - theirs).max() > 0.01


@pytest.mark.slow
def test_spectra_with_noise_are_those_of_tvb():
    sigma, seconds, mu = 2.0, 2.0, 360.0  # one stable state
    states = start(76)
    # Noise on the input p enters y4: D = (A a sigma)^2 / 2, with sigma in 1/ms per root of ms.
    D = np.zeros((6, 76, 1))
    D[4] = (3.25 * 0.1 * sigma / np.sqrt(1e3)) ** 2 / 2
    noise = lab.noise.Additive(nsig=D, noise_seed=7)
    integrator = lab.integrators.HeunStochastic(dt=STEP * 1e3, noise=noise)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs, regions = tvb_run(62.0, states, integrator, g=0.02, mu=mu)
    ours = our_run(
        12.0,
        states,
        regions,
        mu,
        strength=0.02,
        noise=np.full((1, 1), sigma),
        index=np.arange(16),
    )

    def spectra(x):
        """Spectra of stretches of time, averaged over the regions; the beginning is left out."""
        size = round(seconds / STEP)
        x = x[..., 2000:, :]
        x = x.reshape(*x.shape[:-2], -1, size, 76)
        frequency, power = signal.periodogram(
            x - x.mean(axis=(-2, -3), keepdims=True), 1 / STEP, "hann", detrend=False, axis=-2
        )
        return frequency, power.mean(axis=-1).reshape(-1, size // 2 + 1)

    frequency, first = spectra(theirs)
    _, second = spectra(ours)
    assert len(first) == 30 and len(second) == 80
    band = (frequency >= 1) & (frequency <= 40)
    first, second = first[:, band], second[:, band]
    error = np.sqrt(first.var(axis=0) / len(first) + second.var(axis=0) / len(second))
    z = (first.mean(axis=0) - second.mean(axis=0)) / error
    assert (error < 0.1 * second.mean(axis=0)).all()
    assert np.abs(z).max() < 4.5 and np.mean(z**2) < 2
    assert abs(first.mean() / second.mean() - 1) < 0.05

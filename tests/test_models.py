"""Every registered model, against independent equations, limits and published rhythms."""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from oracles import ORACLES, Link, heun
from scipy import signal

from nmm_infer.errors import InputError
from nmm_infer.models import Model, base, get_model, load_models, model_names
from nmm_infer.models.wendling import ACTIVITY
from nmm_infer.simulation import Clock, Connection, Course, Network, integrate
from nmm_infer.simulation.precision import digest, translate

BATCH, NODES = 3, 2
SHORT = Clock(0.0, 0.15, step=5e-4, every=1, settle=0.0)
LONG = Clock(0.0, 4.0, step=1e-4, every=5, settle=1.5, antialias=False)
# Delays of 2, 16 and 7 steps at 1 m/s.
WEIGHTS, LENGTHS = np.array([[0.3, 0.8], [1.1, 0.0]]), np.array([[1.0, 8.0], [3.5, 0.0]])
LINKS = ((0, 0, 0.3, 2), (0, 1, 0.8, 16), (1, 0, 1.1, 7))


def simulate(
    model: Model,
    clock: Clock,
    constants: Mapping[str, Any],
    drive: Mapping[str, Any],
    dtype: str = "float64",
    strength: Any = 0.0,
    courses: Mapping[str, Any] | None = None,
    initial: Any = None,
    network: Network | None = None,
) -> dict[str, np.ndarray]:
    """Run a model in the network above with everything, so that one kernel serves all tests.

    ``drive`` and ``courses`` by target, of shape (batch, node) and (node, batch, time); what is
    not given is zero.
    """
    batch = max([np.shape(v)[0] for v in drive.values()])
    silent = np.zeros((NODES, batch, len(clock.step_times)))
    result = integrate(
        model,
        clock,
        network=network or Network([Connection(WEIGHTS, LENGTHS)]),
        constants=constants,
        drive={t: np.asarray(drive.get(t, np.zeros((1, 1)))) for t in model.targets},
        stimuli=[
            Course(node, target, rates=(courses or {}).get(target, silent)[node])
            for target in model.targets
            for node in range(NODES)
        ],
        strength=strength,
        speed=1.0,
        initial=initial,
        record=[output.name for output in model.outputs],
        dtype=dtype,
        batch=batch,
    )
    assert not result.diverged.any()
    return result.outputs


def draw(model: Model, seed: int = 0) -> dict[str, Any]:
    """Constants, drives, courses, strengths and states that differ by simulation and node."""
    rng = np.random.default_rng(seed)
    shape = (BATCH, NODES)
    constants = {c.name: c.default * rng.uniform(0.9, 1.1, shape) for c in model.constants}
    drive = {t: rng.uniform(0, 110, shape) for t in model.targets[:1]}
    drive |= {t: rng.uniform(0, 2, shape) for t in model.targets[1:]}
    times = len(SHORT.step_times)
    courses = {t: rng.uniform(0, 60, (NODES, BATCH, times)) for t in model.targets}
    levels = np.full(len(model.states), 0.1)
    if model.equilibrium is not None:
        levels = rest(model, {t: v[:1, 0] for t, v in drive.items()}, model.defaults)[:, 0]
    initial = levels[:, None, None] * rng.uniform(0.8, 1.2, (len(levels), *shape))
    return {
        "constants": constants,
        "drive": drive,
        "courses": courses,
        "strength": rng.uniform(5, 30, BATCH),
        "initial": initial,
    }


def rest(model: Model, drive: Mapping[str, Any], constants: Mapping[str, Any]) -> np.ndarray:
    """Return equilibria, shape (state, n)."""
    inputs = {t: np.atleast_1d(drive.get(t, 0.0)) for t in model.targets}
    columns = {k: np.atleast_1d(v) for k, v in {**model.defaults, **constants}.items()}
    n = max(len(v) for v in (*inputs.values(), *columns.values()))
    inputs, columns = (
        {k: np.broadcast_to(v, n).astype(float) for k, v in part.items()}
        for part in (inputs, columns)
    )
    return model.equilibrium(inputs, columns)


def slopes(model: Model, states: Any, drive: Mapping[str, Any], constants: Mapping[str, Any]):
    """Return the time derivatives of all states, by the functions of the model."""
    values = {**model.defaults, **dict.fromkeys(model.targets, 0.0), **constants, **drive}
    values |= dict(zip(model.state_names, states, strict=True))
    names = inspect.signature(model.derivative).parameters
    return np.array(np.broadcast_arrays(*model.derivative(**{k: values[k] for k in names})))


def jacobian(model: Model, state: np.ndarray, drive: Mapping[str, Any], constants=None):
    h = 1e-5
    around = state[:, None] + h * np.eye(len(state))
    before = state[:, None] - h * np.eye(len(state))
    forward, backward = (slopes(model, y, drive, constants or {}) for y in (around, before))
    return (forward - backward) / (2 * h)


def leading(J: np.ndarray) -> tuple[float, float]:
    """Return growth rate [1/s] and frequency [Hz] of the slowest mode."""
    values = np.linalg.eigvals(J)
    top = values[values.real.argmax()]
    return top.real, abs(top.imag) / (2 * np.pi)


def rhythm(x: np.ndarray) -> tuple[float, float]:
    """Return frequency [Hz] and peak-to-peak amplitude of a limit cycle; (0, ~0) without one."""
    size = np.ptp(x)
    peaks, _ = signal.find_peaks(x, prominence=max(0.5 * size, 0.05))
    if len(peaks) < 3:
        return 0.0, size
    return (len(peaks) - 1) / (peaks[-1] - peaks[0]) * LONG.sfreq, size


def kick(batch: int) -> np.ndarray:
    """Return a pulse that takes columns off an unstable rest."""
    pulse = np.zeros((NODES, batch, len(LONG.step_times)))
    pulse[:, :, 50:250] = 100.0
    return pulse


@pytest.fixture(params=model_names())
def model(request: pytest.FixtureRequest) -> Model:
    return get_model(request.param)


# --- Every model


def test_every_model_has_an_oracle():
    assert set(model_names()) == set(ORACLES)


def test_trajectories_are_those_of_the_oracle(model):
    """In float64, with delayed connections, to rounding."""
    oracle = ORACLES[model.name]
    given = draw(model)
    exact = simulate(model, SHORT, **given)
    target = model.targets[0]
    for b in range(BATCH):

        def rates(k, n, b=b):
            return {
                t: given["drive"][t][b, n] + given["courses"][t][n, b, k] for t in model.targets
            }

        expected = heun(
            oracle,
            [{k: float(v[b, n]) for k, v in given["constants"].items()} for n in range(NODES)],
            rates,
            [
                {s: float(given["initial"][i, b, n]) for i, s in enumerate(model.state_names)}
                for n in range(NODES)
            ],
            SHORT.step,
            SHORT.n_steps,
            [Link(i, j, w * given["strength"][b], d) for i, j, w, d in LINKS],
            target=target,
        )
        assert set(expected) == set(exact)
        for name, trajectory in expected.items():
            size = np.abs(trajectory).max()
            # The sigmoid of tilwani_2025 is flat: that its rate stands still is its point.
            if (model.name, name) != ("tilwani_2025", "rate"):
                assert np.ptp(trajectory, axis=1).min() > 0.05 * size, "the output must move"
            np.testing.assert_allclose(exact[name][b], trajectory, rtol=1e-9, atol=1e-9 * size)


def test_single_precision_is_enough(model):
    """The error of float32 arithmetic does not grow; columns by themselves compile faster."""
    given = draw(model)
    exact = simulate(model, SHORT, **{**given, "strength": 0.0})
    network = Network(nodes=NODES)
    single = simulate(model, SHORT, **{**given, "strength": 0.0}, dtype="float32", network=network)
    for name, trajectory in exact.items():
        assert single[name].dtype == np.float32
        atol = 1e-5 * np.abs(trajectory).max()
        np.testing.assert_allclose(single[name], trajectory, rtol=0, atol=atol)


def test_equilibrium_is_the_lowest_one(model):
    if model.equilibrium is None:
        pytest.skip(f"{model.name} declares no equilibrium")
    oracle = ORACLES[model.name]
    rng = np.random.default_rng(1)
    n = 8
    constants = {c.name: c.default * rng.uniform(0.9, 1.1, n) for c in model.constants}
    for c in model.constants:
        constants[c.name][:2] = c.default
    drive = {t: rng.uniform(0, 110, n) for t in model.targets}
    drive |= {t: rng.uniform(0, 1, n) for t in model.targets if t == "interneurons"}
    states = rest(model, drive, constants)
    residual = slopes(model, states, drive, constants)
    fastest = max(constants[name].max() for name in model.rates)
    np.testing.assert_allclose(residual, 0, atol=1e-10 * fastest**2)
    for i in range(n):
        u, c = ({k: float(v[i]) for k, v in part.items()} for part in (drive, constants))
        state = dict(zip(model.state_names, states[:, i], strict=True))
        v = oracle.outputs["potential"](state, c)
        np.testing.assert_allclose(oracle.balance(v, u, c), v, rtol=1e-9, atol=1e-9)
        below = np.arange(-40.0, v - 0.03, 0.05)
        assert all(oracle.balance(x, u, c) > x for x in below), "an equilibrium lies below"


def test_equilibrium_of_one_column_is_that_in_a_batch(model):
    given = draw(model, seed=2)
    flat = {k: v.ravel() for k, v in given["constants"].items()}
    inputs = {k: v.ravel() for k, v in given["drive"].items()}
    together = rest(model, inputs, flat)
    alone = [
        rest(model, {k: v[i] for k, v in inputs.items()}, {k: v[i] for k, v in flat.items()})
        for i in range(together.shape[1])
    ]
    np.testing.assert_allclose(together, np.hstack(alone), rtol=1e-9, atol=1e-12)


def test_constants_have_units_bounds_and_citations(model):
    for c in model.constants:
        assert c.unit in ("mV", "1/s", "1/mV", "1")
        assert np.isfinite([c.low, c.high]).all() and c.low < c.high
        assert re.search(r"[A-Z]\w+.* (19|20)\d\d", c.source), f"{c.name}: {c.source}"
    for rate in model.rates:
        assert {c.name: c for c in model.constants}[rate].unit == "1/s"
        assert {c.name: c for c in model.constants}[rate].low > 0


def test_states_and_outputs_have_units(model):
    for state in model.states:
        assert state.unit in ("mV", "mV/s") and state.meaning
    assert model.output.unit == "mV"
    assert model.sent.unit == "1/s"
    assert {o.unit for o in model.outputs} <= {"mV", "1/s"}


def test_documentation_cites_the_reference(model):
    text = sys.modules[model.derivative.__module__].__doc__ or ""
    author, year = re.search(r"^(.*?) .*?((?:19|20)\d\d)", model.reference).groups()
    assert author in text and year in text
    assert ".. math::" in text and "References\n----------" in text
    for target in model.targets:
        assert f"``{target}``" in text


def test_everything_declared_matters(model):
    """Each target and each constant changes a derivative or an output."""
    given = draw(model, seed=3)
    states = given["initial"][:, 0, 0]
    drive = {k: v[0, 0] for k, v in given["drive"].items()}
    constants = {k: v[0, 0] for k, v in given["constants"].items()}
    here = slopes(model, states, drive, constants)
    assert here.shape == states.shape and np.isfinite(here).all()
    for target in model.targets:
        more = slopes(model, states, {**drive, target: drive[target] + 1}, constants)
        assert np.count_nonzero(more != here) >= 1, target
    for name in constants:
        changed = slopes(model, states, drive, {**constants, name: constants[name] * 1.01})
        assert (changed != here).any(), name


def test_outputs_are_computable(model):
    given = draw(model, seed=4)
    states = dict(zip(model.state_names, given["initial"], strict=True))
    values = {**states, **given["constants"]}
    for output in model.outputs:
        names = inspect.signature(output.function).parameters
        result = output.function(**{k: values[k] for k in names})
        assert result.shape == (BATCH, NODES) and np.isfinite(result).all()


def test_jansen_rit_of_the_virtual_brain():
    """TVB works in ms and kHz; its derivative at random states is the same."""
    reason = "The Virtual Brain is not installed: it is only needed to compare with it"
    tvb = pytest.importorskip("tvb.simulator.models.jansen_rit", reason=reason)
    ours = get_model("jansen_rit")
    rng = np.random.default_rng(0)
    states = rng.uniform(
        [[0], [5], [5], [-9], [-900], [-900]], [[0.2], [40], [40], [9], [900], [900]]
    )
    states = states + rng.uniform(0, 0.1, (6, 50))
    d = ours.defaults
    twin = tvb.JansenRit(
        A=np.array([d["A"]]), B=np.array([d["B"]]), a=np.array([d["a"] / 1e3]),
        b=np.array([d["b"] / 1e3]), v0=np.array([d["v0"]]), nu_max=np.array([d["e0"] / 1e3]),
        r=np.array([d["r"]]), J=np.array([d["C"]]), mu=np.array([0.12]),
    )  # fmt: skip
    twin.configure()
    theirs = states.copy()
    theirs[3:] /= 1e3
    got = twin.dfun(theirs[:, :, None], np.zeros((1, 50, 1)))[:, :, 0] * 1e3
    got[3:] *= 1e3
    expected = slopes(ours, states, {"pyramidal": 120.0}, {})
    scale = np.abs(expected).max(axis=1, keepdims=True)
    np.testing.assert_allclose(got / scale, expected / scale, atol=1e-12)


# --- Limits in which one model is another


def _compare(name: str, constants: Mapping[str, Any], targets: tuple[str, ...]) -> None:
    """Compare a model with Jansen-Rit, from its rest and with stimuli."""
    jansen_rit, model = get_model("jansen_rit"), get_model(name)
    given = draw(jansen_rit, seed=5)
    common = {k: v for k, v in given["constants"].items() if k in model.defaults}
    drive = {t: given["drive"][t] for t in targets}
    courses = {t: given["courses"][t] for t in targets}
    options = {"drive": drive, "courses": courses, "strength": given["strength"]}
    expected = simulate(jansen_rit, SHORT, given["constants"], **options)
    got = simulate(model, SHORT, {**common, **constants}, **options)
    for output in ("potential", "rate"):
        np.testing.assert_allclose(got[output], expected[output], rtol=1e-9, atol=1e-9)


def test_wendling_without_fast_inhibition_is_jansen_rit():
    _compare("wendling", {"G": 0.0}, ("pyramidal", "interneurons"))


def test_thalamocortical_without_its_relay_is_jansen_rit():
    _compare("thalamocortical", {"relay_to_pyramidal": 0.0}, ("pyramidal",))


def test_david_friston_of_equal_kinetics_is_jansen_rit():
    columns = draw(get_model("jansen_rit"), seed=5)["constants"]
    kinetics = {f"{k}_{n}": columns[k] for k in "ABab" for n in (1, 2)}
    w = np.random.default_rng(0).uniform(0, 1, (BATCH, NODES))
    _compare("david_friston", {**kinetics, "w": w}, ("pyramidal", "interneurons"))


# --- Published and known rhythms


def test_rhythms_of_david_and_friston():
    model = get_model("david_friston")
    drive = {"pyramidal": np.full((2, 1), 220.0)}
    got = simulate(model, LONG, {"w": [[1.0], [0.0]]}, drive, courses={"pyramidal": kick(2)})
    slow, fast = (rhythm(x)[0] for x in got["potential"][:, 0])
    assert slow == pytest.approx(10.0, abs=0.1)
    assert fast == pytest.approx(43.7, abs=0.1)


def test_gains_of_david_and_friston_follow_from_the_kinetics():
    d = get_model("david_friston").defaults
    for n in "12":
        assert d[f"A_{n}"] / d[f"a_{n}"] == pytest.approx(0.0325)
        assert d[f"B_{n}"] / d[f"b_{n}"] == pytest.approx(0.44)


def test_activity_of_wendling():
    """Without noise there are two limit cycles; the other types are stable."""
    model = get_model("wendling")
    gains = {k: np.array([[v[k]] for v in ACTIVITY.values()]) for k in "ABG"}
    drive = {"pyramidal": np.full((len(ACTIVITY), 1), 90.0)}
    got = simulate(model, LONG, gains, drive, courses={"pyramidal": kick(len(ACTIVITY))})
    rhythms = dict(zip(ACTIVITY, (rhythm(x) for x in got["potential"][:, 0]), strict=True))
    assert rhythms["sustained spikes"][0] == pytest.approx(4.5, abs=0.1)
    assert rhythms["quasi-sinusoidal"][0] == pytest.approx(11.0, abs=0.1)
    for name in ("background", "sporadic spikes", "slow rhythmic", "low-voltage fast"):
        assert rhythms[name][1] < 1e-3


def test_slow_rhythm_of_wendling_is_driven_by_noise():
    """White noise on the input, through the linearised column, has its peak near 10 Hz."""
    model = get_model("wendling")
    constants = ACTIVITY["slow rhythmic"]
    state = rest(model, {"pyramidal": 90.0}, constants)[:, 0]
    J = jacobian(model, state, {"pyramidal": 90.0}, constants)
    more = slopes(model, state, {"pyramidal": 91.0}, constants)
    entry = more - slopes(model, state, {"pyramidal": 90.0}, constants)
    frequencies = np.linspace(2, 40, 381)
    response = [
        np.linalg.solve(2j * np.pi * f * np.eye(len(J)) - J, entry)[[1, 2, 3]] @ [1, -1, -1]
        for f in frequencies
    ]
    assert leading(J)[0] < 0
    assert frequencies[np.argmax(np.abs(response))] == pytest.approx(10.2, abs=0.15)


def test_thalamocortical_rhythms():
    """A resonance near 10 Hz; where it is unstable, a slow cycle of large amplitude."""
    model, oracle = get_model("thalamocortical"), ORACLES["thalamocortical"]
    for drive, growth, frequency in (
        ({"pyramidal": 120.0, "relay": 11.0}, 7.0, 10.1),
        ({"pyramidal": 0.0, "relay": 200.0}, -1.74, 10.9),
    ):
        state = rest(model, drive, {})[:, 0]
        found = leading(jacobian(model, state, drive))
        assert found == pytest.approx((growth, frequency), abs=0.05)
    u = {"pyramidal": 120.0, "relay": 11.0}
    grid = np.arange(-20, 40, 0.1)
    excess = np.array([oracle.balance(v, u, model.defaults) - v for v in grid])
    assert np.count_nonzero(np.diff(np.sign(excess))) == 1
    drive = {k: np.full((1, 1), v) for k, v in u.items()}
    got = simulate(model, LONG, {}, drive, courses={"relay": kick(1)})
    frequency, size = rhythm(got["potential"][0, 0])
    assert frequency == pytest.approx(3.82, abs=0.05)
    assert size == pytest.approx(14.5, abs=0.1)


def test_david_2006_rests_at_zero_and_is_stable():
    """An evoked response needs a source that is silent by itself; e0 = 2.5 would not be one."""
    model = get_model("david_2006")
    np.testing.assert_allclose(rest(model, {}, {}), 0, atol=1e-9)
    at_rest = np.zeros(len(model.states))
    assert leading(jacobian(model, at_rest, {}))[0] < -30
    assert leading(jacobian(model, at_rest, {}, {"e0": 2.5}))[0] > 0


# --- Models of users

USER_MODEL = '''
"""A low-pass filter."""
import numpy as np

from nmm_infer.models import Constant, Model, Output, State, register_model

GAIN = 2


def limit(x):
    return np.tanh(x / 50)


def derivative(y, drive, a):
    return (a * (GAIN * drive - y),)


def value(y):
    return y


def bounded(y, scale):
    return scale * limit(y) ** 2 + 0.5


register_model(
    Model(
        name="{name}",
        states=(State("y", "1/s"),),
        constants=(
            Constant("a", "1/s", 50.0, 1.0, 500.0, "example"),
            Constant("scale", "mV", 3.0, 0.0, 10.0, "example"),
        ),
        targets=("drive",),
        derivative=derivative,
        outputs=(Output("bounded", "mV", bounded), Output("value", "1/s", value)),
        rates=("a",),
    )
)
'''


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is forgotten after it."""
    monkeypatch.setattr(base, "_REGISTRY", dict(base._REGISTRY))
    monkeypatch.setattr(base, "_FILES", dict(base._FILES))


def _write(folder: Path, text: str, name: str = "user_model") -> Path:
    path = folder / f"{name}.py"
    path.write_text(textwrap.dedent(text.replace("{name}", name)))
    return path


@pytest.mark.usefixtures("registry")
def test_a_model_of_a_user_runs(tmp_path):
    path = _write(tmp_path, USER_MODEL)
    assert load_models(path) == ["user_model"]
    assert load_models(path) == ["user_model"], "a file is run once"
    assert "user_model" in model_names()
    clock = Clock(0.0, 0.2, step=1e-3, every=1, settle=0.0)
    got = integrate(get_model("user_model"), clock, drive=30.0, record=["bounded", "value"])
    # Heun's scheme multiplies what is left of a linear system by 1 - q + q^2/2 each step.
    left = (1 - 0.05 + 0.05**2 / 2) ** np.arange(clock.n_samples)
    value = 60 * (1 - left)
    np.testing.assert_allclose(got.outputs["value"][0, 0], value, rtol=1e-5, atol=1e-5)
    expected = 3 * np.tanh(value / 50) ** 2 + 0.5
    np.testing.assert_allclose(got.outputs["bounded"][0, 0], expected, rtol=1e-5)


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("(y, drive, a)", "(y, drift, a)"), "derivative takes 'drift', which is not declared"),
        (("bounded(y, scale)", "bounded(y, size)"), "bounded takes 'size', which is not declared"),
        (('rates=("a",)', 'rates=("b",)'), "rates names 'b'"),
        (('"a", "1/s", 50.0, 1.0', '"a", "1/s", 50.0, 80.0'), "a: the default 50.0 is outside"),
        (("register_model(\n", "print(\n"), "registers no model"),
        (("def value(y):", "def value(y:"), "SyntaxError"),
        (("GAIN = 2", "GAIN = missing"), "NameError: name 'missing'"),
        (('name="{name}"', 'name="jansen_rit"'), "'jansen_rit' is registered already"),
        (("- y),)", "- y), y)"), "derivative must return a tuple of 1 slopes (y), not 2 value(s)"),
        (("return (a * (GAIN * drive - y),)", "return a * y"), "slopes (y), not 1 value(s)"),
        (("return (a", "z = (a"), "derivative returns nothing"),
        (("return y\n", "return y, y\n"), "value must return one number"),
        (("limit(y) **", "limit() **"), "bounded fails at the default constants: TypeError"),
    ],
)
def test_a_broken_file_is_refused(tmp_path, change, message):
    path = _write(tmp_path, USER_MODEL.replace(*change), "broken")
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        load_models(path)
    assert str(path) in str(caught.value)


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("np.tanh(x / 50)", "np.sin(x / 50)"), "limit: 'np.sin' cannot be compiled"),
        (("np.tanh(x / 50)", "np.where(x > 0, x, 0)"), "'np.where' is neither"),
        (("np.tanh(x / 50)", "x ** 0.5"), "only the powers 2, 3 and 4"),
        (("np.tanh(x / 50)", "np.linalg.norm(x)"), "'np.linalg.norm' cannot be compiled"),
        (("np.tanh(x / 50)", "missing * x"), "'missing' is not defined"),
        (
            ("    return np.tanh", "    for k in (1, 2):\n        x = k * x\n    return np.tanh"),
            "'for'",
        ),
        (
            ("    return np.tanh", "    if x > 9e9:\n        x = 'x'\n    return np.tanh"),
            "model unsupported: it cannot be compiled: ",
        ),
    ],
)
def test_what_cannot_be_compiled_is_named(tmp_path, change, message):
    load_models(_write(tmp_path, USER_MODEL.replace(*change), "unsupported"))
    clock = Clock(0.0, 0.01, step=1e-3, every=1, settle=0.0)
    with pytest.raises(InputError, match=re.escape(message)):
        integrate(get_model("unsupported"), clock, drive=1.0)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match="no such model file"):
        load_models(tmp_path / "absent.py")


# --- The rewriting of functions in one precision

HALF = 0.5


def _helper(x):
    return x**3 / 7


def _inner(x):
    """Return something through another helper."""
    return _helper(x) + HALF


def _everything(x: float, y):
    """Return a bit of everything."""
    z = 2 * np.exp(-x) + _inner(y) ** 2
    larger = x if x > 0.25 else np.sqrt(y)
    return z + larger**4, max(np.log(y), 0), abs(-1.5 * np.tanh(x)), np.pi


def _run(functions, number):
    """Execute translated source with NumPy."""
    source = translate(functions)
    space: dict[str, Any] = {
        "F": number, "njit": lambda f: f,
        "exp": np.exp, "log": np.log, "sqrt": np.sqrt, "tanh": np.tanh,
        "power_2": lambda x: x * x, "power_3": lambda x: x * x * x,
        "power_4": lambda x: x * x * x * x,
    }  # fmt: skip
    exec(source, space)
    return source, space


@pytest.mark.parametrize("number", [np.float32, np.float64])
def test_a_translation_computes_the_same_in_its_precision(number):
    source, space = _run({"everything": _everything}, number)
    got = space["everything"](number(0.3), number(1.7))
    assert {type(v) for v in got} == {number}
    tolerance = 1e-14 if number is np.float64 else 2e-6
    np.testing.assert_allclose(got, _everything(0.3, 1.7), rtol=tolerance)
    assert "bit of everything" not in source


def test_every_literal_becomes_a_number_of_the_kernel():
    source, _ = _run({"everything": _everything}, np.float32)
    bare = re.sub(r"F\(-?[\d.e-]+\)", "", source)
    bare = re.sub(r"[A-Za-z_]\w*", "", bare)  # names such as power_2
    assert not re.search(r"\d", bare), source
    for literal in ("F(2.0)", "F(0.25)", "F(0.5)", "F(7.0)", "F(0.0)", "F(1.5)"):
        assert literal in source


def test_helpers_come_along_once():
    source, space = _run({"first": _inner, "second": _everything}, np.float64)
    assert source.count("def _helper") == 1
    assert source.count("@njit") == source.count("def ")
    assert space["first"](2.0) == pytest.approx(8 / 7 + 0.5)


def _powers(x):
    return x**2, x**3, x**4


def _fifth(x):
    return x**5


def test_powers():
    _, space = _run({"powers": _powers}, np.float32)
    assert space["powers"](np.float32(3.0)) == (9.0, 27.0, 81.0)
    assert "**" not in translate({"powers": _powers})
    with pytest.raises(InputError, match=r"_fifth: only the powers 2, 3 and 4"):
        translate({"fifth": _fifth})


def test_functions_without_source_are_refused():
    nameless = lambda x: x  # noqa: E731
    with pytest.raises(InputError, match="with def"):
        translate({"f": nameless})


def test_a_changed_declaration_has_another_digest():
    """A store guards against a model of the same name with other equations or constants."""

    def other(y1, y2):
        return y1 - 2 * y2

    model = get_model("jansen_rit")
    output = dataclasses.replace(model.outputs[0], function=other)
    constant = dataclasses.replace(model.constants[0], default=3.3)
    changed = [
        dataclasses.replace(model, outputs=(output, *model.outputs[1:])),
        dataclasses.replace(model, constants=(constant, *model.constants[1:])),
        dataclasses.replace(model, equilibrium=None),
    ]
    assert digest(dataclasses.replace(model)) == digest(model)
    assert len({digest(m) for m in [model, *changed]}) == 4

"""One column by itself: closed forms, strata, trials, and the studies of the literature."""

from __future__ import annotations

import dataclasses
import re
import textwrap
from pathlib import Path

import numpy as np
import pytest
from scipy import optimize, stats

from nmm_infer.campaign import OK, REJECTED, PriorDesign, run
from nmm_infer.errors import InputError
from nmm_infer.models import get_model, growth_rates, stable_rest
from nmm_infer.models.base import Output
from nmm_infer.parameters import Parameter, Prior
from nmm_infer.runs import build_task, simulate_column
from nmm_infer.scenarios import ColumnTask
from nmm_infer.simulation import Clock, Pulse, integrate
from nmm_infer.study import PRESETS, Study

PULSE = 0.05  # s


def _alpha_response(t: np.ndarray, gain: float, rate: float, u: float) -> np.ndarray:
    """Response of a synapse gain * rate * t * exp(-rate t) to u for 50 ms, in closed form."""

    def step(s: np.ndarray) -> np.ndarray:
        s = np.maximum(s, 0.0)
        return u * gain / rate * (1 - (1 + rate * s) * np.exp(-rate * s))

    return step(t) - step(t - PULSE)


def _y0(y0):
    return y0


def _y1(y1):
    return y1


def _y2(y2):
    return y2


@pytest.mark.parametrize("page", ["README.md", "docs/guide/columns.rst"])
def test_examples_of_the_documentation_run(page: str) -> None:
    text = (Path(__file__).parents[1] / page).read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.S) or [
        textwrap.dedent(block)
        for block in re.findall(r"code-block:: python\n\n((?:   .*\n|\n)+)", text)
    ]
    (block,) = (block for block in blocks if "simulate_column" in block and "FAMILIES" in block)
    kept = block.replace("10_000", "300").replace("100", "40").replace("npe_cnn_bilstm", "npe_mlp")
    lines = kept.strip().splitlines()
    answer = lines.index(next(line for line in lines if line.startswith("estimator.posterior(")))
    lines[answer] = f"found = {lines[answer].split('#')[0]}"
    names: dict = {}
    exec("\n".join(lines), names)
    assert names["found"].dims == ("simulation", "draw", "parameter")
    assert np.isfinite(names["found"].values).all()


def test_numbers_of_runs_that_make_no_sense() -> None:
    study = Study.preset("column5_narrow")
    for n in (-5, 0, 2.5, float("nan"), None, "a"):
        with pytest.raises(InputError, match="a whole number of 1 or more"):
            simulate_column(study, n, "test")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"no \[column\]"):
        simulate_column(Study.evoked(), 5, "test")
    with pytest.raises(InputError, match="seed"):
        simulate_column(study.replace(seed=0), 5, "test").prior.sample(3, seed=-1)


def test_asis_peaks_are_those_of_the_open_loop() -> None:
    """1.05, 1.96 and 19.2 mV at the end of the pulse; feedback adds a percent or two.

    Gain [mV], rate [1/s], and input [1/s] of each synapse; what the flat sigmoid sends at rest,
    C_k e0, is added to the response.
    """
    synapses = {
        "y0": (3.25, 100.0, 0.56 * 60, 0.0, 1.05),
        "y1": (3.25, 100.0, 60.0, 0.8 * 135 * 0.025, 1.96),
        "y2": (22.0, 50.0, 60.0, 0.25 * 135 * 0.025, 19.2),
    }
    model = get_model("tilwani_2025")
    outputs = tuple(Output(f.__name__[1:], "mV", f) for f in (_y0, _y1, _y2))
    model = dataclasses.replace(model, name="asis_states", outputs=(*outputs, model.outputs[1]))
    shares = PRESETS["tilwani2025_asis"]["column"]["stimulus"]
    stimuli = [Pulse(0, t, 0.0, 60.0 * share, PULSE) for t, share in shares.items()]
    clock = Clock(0.0, 0.3, 1e-4, every=1, settle=1.0)
    runs = integrate(
        model, clock, stimuli=stimuli, initial=np.zeros((6, 1, 1)), scheme="euler",
        record=tuple(synapses), dtype="float64",
    )  # fmt: skip
    for name, (gain, rate, u, sent, published) in synapses.items():
        closed = _alpha_response(clock.sample_times, gain, rate, u)
        closed = closed + gain / rate * sent
        end = round(PULSE / clock.step)
        assert closed[end] == pytest.approx(published, rel=0.003)  # to the digits that are given
        simulated = runs.outputs[name][0, 0]
        assert simulated[end] == pytest.approx(closed[end], rel=0.03)
        assert simulated.max() == pytest.approx(closed.max(), rel=0.03)


def test_asis_sigmoid_is_a_hundred_thousand_times_too_flat() -> None:
    def slope(name: str) -> float:
        d = get_model(name).defaults
        return d["e0"] * d["r"] / 2

    assert slope("jansen_rit") / slope("tilwani_2025") == pytest.approx(1e5, rel=1e-12)


def test_asis_response_depends_on_products_of_connections_only() -> None:
    """A linear filter to first order: where alpha_1 alpha_2 stays, little else matters."""
    task = build_task(Study.preset("tilwani2025_asis"), [], stream="t")
    task = dataclasses.replace(task, trials=2, clock=dataclasses.replace(task.clock, every=5))
    base = {p.name: p.low for p in task.prior.parameters}
    base |= {"A": 6.2, "B": 60.0, "a": 80.0, "b": 50.0}
    rows = [
        {},
        {"alpha_1": 1.3, "alpha_2": 0.8 / 1.3 * 1.0},
        {"alpha_1": 1.3},
    ]
    values = {k: np.array([{**base, **row}[k] for row in rows]) for k in base}
    potential, status = task.respond(values, np.arange(3))
    assert (status == OK).all()
    response = potential - potential[:, :1]
    size = np.abs(response[0]).max()
    product = np.abs(response[1] - response[0]).max() / size
    single = np.abs(response[2] - response[0]).max() / size
    assert single < 0.01  # and the loop itself is next to nothing
    assert product < 0.25 * single


def test_stability_changes_at_the_published_bifurcations() -> None:
    """Grimbert and Faugeras 2006: a saddle-node at 113.6 /s, a Hopf bifurcation at 315.7 /s."""
    drive = np.array([50.0, 113.0, 114.2, 200.0, 315.0, 316.5])
    rates = growth_rates(get_model("jansen_rit"), {"pyramidal": drive}, {}, len(drive))
    np.testing.assert_array_equal(rates < 0, [True, True, False, False, False, True])
    hopf = optimize.brentq(
        lambda p: growth_rates(get_model("jansen_rit"), {"pyramidal": np.array([p])}, {}, 1)[0],
        300, 330,
    )  # fmt: skip
    assert hopf == pytest.approx(315.70, abs=0.01)


@pytest.mark.parametrize("name", ["jansen_rit", "wendling", "tilwani_2025", "thalamocortical"])
def test_the_quick_verdict_is_that_of_the_eigenvalues(name: str) -> None:
    model = get_model(name)
    rng = np.random.default_rng(0)
    n = 400
    constants = {
        c.name: c.default * rng.uniform(0.4, 2.5, n)
        for c in model.constants
        if c.name[0] in "ABabC"
    }
    drive = {model.targets[0]: rng.uniform(0, 300, n)}
    rates = growth_rates(model, drive, constants, n)
    rest, stable = stable_rest(model, drive, constants, n)
    np.testing.assert_array_equal(stable, rates < 0)
    assert rest.shape == (len(model.states), n)
    if name != "tilwani_2025":
        assert 0.1 < stable.mean() < 0.9


def _task(**changes) -> ColumnTask:
    prior = Prior(
        [
            Parameter("A", "mV", "uniform", 2.6, 9.75),
            Parameter("B", "mV", "uniform", 17.6, 110.0),
            Parameter("drive", "1/s", "fixed", 120.0),
            Parameter("stimulus_amplitude", "1/s", "fixed", 60.0),
            Parameter("source_scale", "nA*m/mV", "fixed", 20.0),
        ]
    )
    options = {"clock": Clock(-0.1, 0.3, 1e-3, 4, 0.0), "region": "column", "seed": 3, **changes}
    return ColumnTask("jansen_rit", prior, **options)


def test_strata_divide_the_prior() -> None:
    design = PriorDesign(_task().prior, 300, seed=1)
    status = {
        stratum: run(_task(stratum=stratum), design).dataset["status"].values
        for stratum in ("stable", "oscillating", "all")
    }
    assert (status["all"] == OK).all()
    np.testing.assert_array_equal(status["stable"] == OK, status["oscillating"] == REJECTED)
    assert 0.2 < (status["stable"] == OK).mean() < 0.8
    campaign = run(_task(), design)
    assert campaign.accepted == (status["stable"] == OK).mean()
    assert f"{int((status['stable'] == REJECTED).sum())} rejected" in repr(campaign)
    rejected = np.flatnonzero(status["stable"] == REJECTED)
    assert np.isnan(campaign.dataset["potential"].values[rejected]).all()
    reasons = set(campaign.failures()["reason"].values.tolist())
    assert reasons == {"the parameters lie outside of what the study asks about"}


def test_a_stable_column_rests_and_an_oscillating_one_does_not() -> None:
    design = PriorDesign(_task().prior, 200, seed=1)
    clock = Clock(-2.0, -0.01, 1e-3, 4, 1.0)  # the pulse comes after the window
    campaign = run(_task(clock=clock), design)
    potential = campaign.dataset["potential"].values[campaign.valid, 0]
    assert np.ptp(potential, axis=1).max() < 1e-2  # mV: rounding of some tens of mV, for 3 s
    clock = Clock(-1.0, -0.01, 1e-3, 4, 3.0)
    campaign = run(_task(stratum="oscillating", clock=clock), design)
    potential = campaign.dataset["potential"].values[campaign.valid, 0]
    assert (np.ptp(potential, axis=1) > 0.1).mean() > 0.9


def test_a_run_has_the_same_bits_beside_rejected_ones() -> None:
    theta = _task().prior.sample(64, seed=1)
    together = run(_task(), theta)
    row = int(together.valid[-1])
    alone = run(_task(), theta[row : row + 1])
    np.testing.assert_array_equal(
        alone.dataset["potential"].values[0], together.dataset["potential"].values[row]
    )


def test_random_onset_is_the_phase_of_an_oscillation() -> None:
    """At rest a later pulse changes nothing; an oscillating column answers differently."""
    theta = _task().prior.sample(60, seed=2)
    clock = Clock(-0.1, 0.3, 1e-3, 4, 2.0)
    for stratum in ("stable", "oscillating"):
        once, late = (
            run(_task(stratum=stratum, clock=clock, jitter=jitter), theta) for jitter in (0.0, 0.4)
        )
        a, b = (c.dataset["potential"].values[c.valid, 0] for c in (once, late))
        change = np.abs(a - b).max(axis=1) / np.abs(a).max(axis=1)
        if stratum == "stable":
            assert np.quantile(change, 0.9) < 1e-3
        else:
            assert np.median(change) > 0.05


def test_an_average_is_the_mean_of_its_windows() -> None:
    """Against one long simulation, cut by hand."""
    task = _task(trials=3, interval=0.5, stratum="all")
    theta = task.prior.sample(4, seed=5)
    values = dict(zip(task.prior.names, task.prior.values(theta).T, strict=True))
    got, _ = task.respond(values, np.arange(4))
    clock = Clock(-0.1, 1.3, 1e-3, 4, 0.0)
    onsets = np.broadcast_to([0.0, 0.5, 1.0, 1.5], (4, 4))
    runs = integrate(
        task.declaration, clock, constants={"A": values["A"][:, None], "B": values["B"][:, None]},
        drive=120.0, stimuli=[Pulse(0, None, onsets, np.full((4, 4), 60.0), 0.05)],
        initial=np.zeros((6, 1, 1)), index=np.arange(4),
    )  # fmt: skip
    record = runs.outputs["potential"][:, 0]
    expected = np.mean([record[:, k : k + 101] for k in (0, 125, 250)], axis=0)
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-5)


def test_asis_prior_is_the_gaussian_of_the_code() -> None:
    """Mean in the middle, a quarter of the range as deviation, not truncated."""
    prior = Study.preset("tilwani2025_asis").build_prior()
    free = [p for p in prior.parameters if p.distribution != "fixed"]
    assert [p.name for p in free] == [
        "A", "B", "a", "b", "C", "alpha_1", "alpha_2", "alpha_3", "alpha_4",
    ]  # fmt: skip
    assert (prior["C"].low, prior["C"].high) == (707.5, 321.25)
    theta = prior.sample(20_000, seed=0).sel(parameter="a").values
    # 1.6 % of rate constants are negative, as in the code.
    expected = stats.norm(77.5, 36.25).cdf(0.0)
    assert (theta < 0).mean() == pytest.approx(expected, abs=4 * np.sqrt(expected / 20_000))


def test_asis_share_accepted_is_that_of_positive_rates() -> None:
    """Its columns never oscillate: next to all of those refused have a rate below zero."""
    study = Study.preset("tilwani2025_asis")
    task = build_task(study, [], stream="t")
    theta = task.prior.sample(4000, seed=0)
    values = dict(zip(task.prior.names, task.prior.values(theta).T, strict=True))
    accepted = task.within(values, 4000)
    positive = (values["a"] >= 0.1) & (values["b"] >= 0.1)
    assert (accepted <= positive).all()
    assert accepted[positive].mean() > 0.995


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_simulates(name: str) -> None:
    study = Study.preset(name)
    assert study.protocol.n_steps == 121
    if study.column.trials > 1:
        study = study.replace(column={"trials": 2})
    campaign = simulate_column(study, 8, "training")
    assert campaign.dataset["potential"].dims == ("simulation", "region", "time")
    responses = campaign.select(campaign.valid).dataset["potential"].values
    assert np.isfinite(responses).all()
    assert (np.ptp(responses, axis=-1) > 1e-3).all()  # mV: every column answers
    assert np.isnan(campaign.dataset["potential"].values).any() == (campaign.accepted < 1)
    assert campaign.dataset.coords["region"].values.tolist() == ["caudalmiddlefrontal-lh"]


def test_a_preset_is_the_basis_of_a_file(tmp_path) -> None:
    path = tmp_path / "study.toml"
    path.write_text(
        'preset = "column5_wide"\nseed = 4\n[prior.A]\ndistribution = "fixed"\nlow = 3\n'
    )
    study = Study.read(path)
    assert study.seed == 4 and study.column == Study.preset("column5_wide").column
    assert study.build_prior()["A"].distribution == "fixed"
    path.write_text('preset = "tilwani"\n')
    with pytest.raises(InputError, match="no preset 'tilwani'; there are tilwani2025_asis"):
        Study.read(path)
    path.write_text("preset = [1]\n")
    with pytest.raises(InputError, match=r"no preset \[1\]"):
        Study.read(path)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"interval": 0.5003}, "no whole number of samples"),
        ({"stimulus": {"thalamus": 1.0}}, "no target 'thalamus'"),
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict, why: str) -> None:
    with pytest.raises(InputError, match=why):
        _task(**changes)


def test_an_empty_stratum_is_an_error() -> None:
    study = Study.preset("column5_wide").replace(
        prior={
            "drive": {"distribution": "fixed", "low": 200.0},
            **{n: {"distribution": "fixed", "low": v} for n, v in
               {"A": 3.25, "B": 22.0, "a": 100.0, "b": 50.0}.items()},
            "C": {"distribution": "uniform", "low": 134.0, "high": 136.0},
        }
    )  # fmt: skip
    with pytest.raises(InputError, match="stratum 'stable'"):
        simulate_column(study, 10, "training")

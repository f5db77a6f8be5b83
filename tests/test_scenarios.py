"""The network task: names, independence of batches, and the simulation of averages."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from nmm_infer.anatomy import Head
from nmm_infer.campaign import Campaign, run
from nmm_infer.errors import InputError
from nmm_infer.parameters import Parameter, Prior
from nmm_infer.runs import build_task
from nmm_infer.scenarios import FeatureTask, NetworkTask
from nmm_infer.simulation import Clock
from nmm_infer.study import Study

# A column at rest, weakly driven by noise: the linear range in which averages are exact.
REST = {
    "A": 3.25, "B": 22.0, "a": 100.0, "b": 50.0, "C": 135.0, "drive": 10.0, "noise": 3.0,
    "coupling": 2.0, "conduction_speed": 4.0, "stimulus_amplitude": 80.0, "stimulus_onset": 0.05,
    "source_scale": 50.0, "background": 0.3,
}  # fmt: skip


def _potential(campaign: Campaign) -> np.ndarray:
    return campaign.dataset["potential"].values


def test_runs_do_not_depend_on_the_chunk(task: NetworkTask, campaign: Campaign) -> None:
    design = task.prior.sample(240, seed=0, stream="prior/training")[:45]
    for chunk in (1, 13, 45):
        again = run(task, design, chunk=chunk)
        np.testing.assert_array_equal(_potential(again), _potential(campaign)[:45])
        np.testing.assert_array_equal(again.dataset["focus"], campaign.dataset["focus"][:45])
    tail = run(task, design[30:33])
    np.testing.assert_array_equal(_potential(tail), _potential(campaign)[30:33])


def test_runs_are_finite_and_move(campaign: Campaign) -> None:
    assert len(campaign.valid) == len(campaign) == 240
    potential = _potential(campaign)
    assert np.isfinite(potential).all()
    assert (np.ptp(potential, axis=-1) > 0).all()
    assert np.abs(potential).max() < 100  # mV


def test_focus_is_drawn_uniformly_from_the_candidates(head: Head) -> None:
    short = Clock(0.0, 0.004, every=1, settle=0.0)
    task = replace(build_task(Study.evoked(), head.regions, stream="a"), clock=short)
    focus = run(task, task.prior.sample(1500, seed=0)).dataset["focus"].values
    assert set(focus.tolist()) == set(range(68))
    assert stats.chisquare(np.bincount(focus, minlength=68)).pvalue > 1e-3
    few = replace(task, candidates=("insula-rh", "cuneus-lh", "insula-rh"))
    focus = run(few, task.prior.sample(600, seed=0)).dataset["focus"].values
    counts = Counter(head.regions[k] for k in focus)
    assert set(counts) == {"insula-rh", "cuneus-lh"}
    # Each entry has equal probability: one named twice is twice as likely.
    assert stats.binomtest(counts["insula-rh"], 600, 2 / 3).pvalue > 1e-3


def test_the_protocols_region_is_the_only_candidate(head: Head) -> None:
    study = Study(protocol={"kind": "evoked", "region": "cuneus-lh"})
    assert build_task(study, head.regions, stream="a").candidates == ("cuneus-lh",)


def test_the_focus_has_the_parameters_of_theta(task: NetworkTask) -> None:
    """A change of theta reaches the focus; the others change through the coupling only."""
    prior = task.prior
    one = prior.label(np.tile([REST[name] for name in prior.names], (6, 1)))
    one.loc[{"parameter": "coupling"}] = 0.0
    other = one.copy()
    other.loc[{"parameter": "B"}] = 26.0
    a, b = run(task, one), run(task, other)
    focus = a.dataset["focus"].values
    np.testing.assert_array_equal(focus, b.dataset["focus"])
    changed = (_potential(a) != _potential(b)).any(axis=-1)
    expected = np.zeros_like(changed)
    expected[np.arange(6), focus] = True
    np.testing.assert_array_equal(changed, expected)
    # So does the stimulus.
    other = one.copy()
    other.loc[{"parameter": "stimulus_amplitude"}] = 200.0
    changed = (_potential(run(task, other)) != _potential(a)).any(axis=-1)
    np.testing.assert_array_equal(changed, expected)


def test_parameters_are_found_by_name(task: NetworkTask, campaign: Campaign) -> None:
    theta = campaign.theta[:20].drop_vars([])
    order = [*task.prior.names[::-1]]
    shuffled = run(task, theta.sel(parameter=order))
    np.testing.assert_array_equal(_potential(shuffled), _potential(campaign)[:20])
    # Columns swapped without their names are other parameters.
    swapped = theta.copy(data=theta.sel(parameter=order).values)
    swapped.loc[{"parameter": ["A", "B", "a", "b", "C"]}] = theta.sel(
        parameter=["A", "B", "b", "a", "C"]
    ).values
    assert (_potential(run(task, swapped)) != _potential(shuffled)).any()


def test_streams_share_nothing(task: NetworkTask) -> None:
    other = replace(task, stream="calibration")
    prior = task.prior
    theta = prior.label(np.tile([REST[name] for name in prior.names], (40, 1)))
    a, b = run(task, theta), run(other, theta)
    assert (a.dataset["focus"].values != b.dataset["focus"].values).mean() > 0.9
    first = prior.sample(50, seed=0, stream="prior/training").values
    second = prior.sample(50, seed=0, stream="prior/calibration").values
    assert not np.isin(first, second).any(axis=0)[[0, 1, 2, 3]].any()
    # With the same network, what differs is the noise alone, and it is uncorrelated.
    settings = {"repeat": 0, "candidates": ("cuneus-lh",), "n_averages": 1}
    theta = theta.copy()
    theta.loc[{"parameter": "coupling"}] = 0.0
    theta.loc[{"parameter": "stimulus_amplitude"}] = 0.0
    a, b = run(replace(task, **settings), theta), run(replace(task, **settings), theta + 0.0)
    np.testing.assert_array_equal(_potential(a), _potential(b))
    node = a.dataset["focus"].values[0]
    prior_free = _potential(a)[:, node]
    assert (np.unique(prior_free[:, -1]).size) == 40  # runs do not share noise
    c = run(replace(task, **settings, seed=1), theta)
    node_c = c.dataset["focus"].values[0]
    assert node == node_c
    r = [np.corrcoef(x, y)[0, 1] for x, y in zip(prior_free, _potential(c)[:, node_c], strict=True)]
    assert abs(np.mean(r)) < 0.25


def _trials(head: Head, n: int, n_averages: int) -> np.ndarray:
    study = Study.evoked()
    fixed = {name: {"distribution": "fixed", "low": value} for name, value in REST.items()}
    study = study.replace(prior=fixed)
    task = build_task(
        study, head.regions, stream=f"n{n_averages}", n_averages=n_averages,
        candidates=("cuneus-lh",), repeat=0,
    )  # fmt: skip
    theta = task.prior.complete(
        task.prior.label(np.tile([REST[name] for name in task.prior.names], (n, 1)))
    )
    return _potential(run(task, theta)).astype(float)


def test_the_mean_of_trials_is_a_run_of_averages(head: Head) -> None:
    """Noise of sigma / sqrt(n): the mean of n trials against runs that stand for averages."""
    n, groups = 40, 12
    trials = _trials(head, n * groups, 1)
    # In every stream the other columns have the same (fixed) parameters: one network.
    means = trials.reshape(groups, n, *trials.shape[1:]).mean(axis=1)
    runs = _trials(head, 200, n)
    response = runs.mean(axis=0)
    error = means.mean(axis=0) - response
    spread = np.sqrt(means.var(axis=0, ddof=1) / groups + runs.var(axis=0, ddof=1) / 200)
    assert np.sqrt(((error / spread) ** 2).mean()) < 1.5
    node = np.ptp(response, axis=-1).argmax()
    assert np.abs(error[node]).max() < 0.05 * np.ptp(response[node])
    # The scatter of the averages: both its size over all columns and the factor of n.
    ratio = means.var(axis=0, ddof=1).mean() / runs.var(axis=0, ddof=1).mean()
    assert 0.8 < ratio < 1.25
    single = trials.var(axis=0, ddof=1).mean() / runs.var(axis=0, ddof=1).mean()
    assert single == pytest.approx(n, rel=0.2)


def test_what_a_task_needs(task: NetworkTask) -> None:
    with pytest.raises(InputError, match=r"no region .*'moon-lh'"):
        replace(task, candidates=("cuneus-lh", "moon-lh"))
    with pytest.raises(InputError, match="no region"):
        replace(task, candidates=())
    for name in (
        "drive",
        "noise",
        "coupling",
        "conduction_speed",
        "source_scale",
        "stimulus_onset",
    ):
        rest = [p for p in task.prior.parameters if p.name != name]
        with pytest.raises(InputError, match=f"{name}.*is missing"):
            replace(task, prior=Prior(rest))
    for name, low in (("noise", -1.0), ("conduction_speed", 0.0)):
        change = Parameter(name, "1", "uniform", low, 5.0)
        changed = [change if p.name == name else p for p in task.prior.parameters]
        with pytest.raises(InputError, match=f"prior.{name}: {low:g} 1 makes no sense"):
            replace(task, prior=Prior(changed))
    extra = [*task.prior.parameters, replace(task.prior["A"], name="gamma_ray")]
    with pytest.raises(InputError, match="no parameter 'gamma_ray'"):
        replace(task, prior=Prior(extra))


def test_fingerprint_tells_tasks_apart(task: NetworkTask) -> None:
    changes = [
        {"seed": 1}, {"stream": "x"}, {"n_averages": 2}, {"repeat": 0},
        {"candidates": ("cuneus-lh",)}, {"clock": Clock(-0.2, 0.4, every=8)},
        {"connectome": task.connectome * 0.5},
    ]  # fmt: skip
    prints = [str(replace(task, **change).fingerprint) for change in changes]
    assert len({str(task.fingerprint), *prints}) == len(changes) + 1


def test_unknown_regions_of_a_head(head: Head) -> None:
    with pytest.raises(InputError, match="connectome has no region 'V1'"):
        build_task(Study.evoked(), [*head.regions[:-1], "V1"], stream="a")


def test_evoked_background_rests_without_noise(task: NetworkTask) -> None:
    """Columns that no stimulus reaches stay at rest: they would not survive an average."""
    prior = task.prior
    design = prior.sample(64, seed=3)
    design.loc[{"parameter": "noise"}] = 0.0
    campaign = run(task, design)
    potential = campaign.dataset["potential"].values
    before = campaign.dataset.coords["time"].values < 0
    focus = campaign.dataset["focus"].values
    spread = np.ptp(potential[..., before], axis=-1)
    spread[np.arange(len(focus)), focus] = 0.0
    assert (spread.max(axis=1) < 0.5).mean() > 0.95


def test_features_are_those_of_the_time_series(task: NetworkTask) -> None:
    theta = task.prior.sample(40, seed=3)
    whole = run(task, theta).dataset
    features = run(FeatureTask(task), theta).dataset["features"]
    times = task.clock.sample_times
    first = int(np.argmax(times >= 0))
    focus = whole["focus"].values
    series = whole["potential"].values[np.arange(40), focus].astype(float)
    after = series[:, first:] - series[:, first - 1, None]
    expected = {
        "maximum": after.max(1),
        "maximum_latency": times[first + after.argmax(1)],
        "minimum": after.min(1),
        "minimum_latency": times[first + after.argmin(1)],
        "mean": after.mean(1),
        "deviation": np.sqrt((after**2).mean(1)),
    }
    assert features["feature"].values.tolist() == list(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(features.sel(feature=name), values, rtol=1e-5, atol=1e-5)
    assert after.max() > 0.1, "the stimulus does something"
    np.testing.assert_array_equal(
        run(FeatureTask(task), theta, chunk=7).dataset["features"], features
    )

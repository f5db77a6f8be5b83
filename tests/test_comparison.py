"""Model comparison against Gaussian models, whose evidence is known in closed form."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from scipy import special, stats
from sklearn.calibration import calibration_curve
from torchmetrics.functional.classification import binary_calibration_error

from experiments import model_comparison
from experiments.scales import Cells
from nmm_infer import _random
from nmm_infer.campaign import Campaign
from nmm_infer.diagnostics import logistic_baseline, reliability, resemblance
from nmm_infer.errors import InputError
from nmm_infer.inference import JoinedView, ModelComparison
from nmm_infer.inference.comparison import fit_scaling
from nmm_infer.observation import EvokedProtocol, Sequences
from nmm_infer.parameters import Parameter, Prior
from nmm_infer.settings import EncoderSettings, TrainingSettings

PRIOR = Prior([Parameter("u", "1", "uniform", 0.0, 1.0), Parameter("v", "1", "uniform", 0.0, 1.0)])
PROTOCOL = EvokedProtocol(tmin=-0.02, tmax=0.07)
STEPS = PROTOCOL.n_steps
SIGMA = 1.0
MODELS = ("one", "two", "three")
_rng = np.random.default_rng(4)
MEANS = dict(zip(MODELS, 0.5 * _rng.standard_normal((3, STEPS)), strict=True))
MIXING = {
    name: size * _rng.standard_normal((STEPS, 2))
    for name, size in zip(MODELS, (0.5, 0.5, 1.5), strict=True)
}


class Toy:
    """x = mean + mixing z + noise, with z ~ N(0, I): marginally normal."""

    def __init__(self, model: str, theta: xr.DataArray, stream: str) -> None:
        self.model, self.theta, self.stream = model, theta, stream

    def __len__(self) -> int:
        return len(self.theta)

    def select(self, positions: np.ndarray) -> Toy:
        return Toy(self.model, self.theta[positions], self.stream)

    def sequences(self, epoch: int = 0) -> Sequences:
        z = PRIOR.to_unconstrained(self.theta)
        numbers = self.theta.coords["simulation"].values
        noise = special.ndtri(_random.uniforms(epoch, self.stream, numbers, STEPS))
        x = MEANS[self.model] + z @ MIXING[self.model].T + SIGMA * noise
        return Sequences(x.astype(np.float32), numbers.astype(np.int64))


class Observer:
    protocol = PROTOCOL
    head = SimpleNamespace(channels=["Cz"])
    noise = SimpleNamespace(source="toy")

    def view(self, campaign: Campaign, stream: str = "training") -> Any:
        return Toy(str(campaign.dataset.attrs["model"]), campaign.theta, stream)


def campaign(model: str, n: int, stream: str = "training") -> Campaign:
    theta = PRIOR.sample(n, seed=1, stream=f"{stream}/{model}")
    attrs = {"nmm_infer_fingerprint": model, "model": model}
    status = ("simulation", np.zeros(n, np.int8))
    return Campaign(xr.Dataset({"theta": theta, "status": status}, attrs=attrs))


def joined(n: int | dict[str, int], stream: str, models: tuple[str, ...] = MODELS) -> JoinedView:
    counts = dict.fromkeys(models, n) if isinstance(n, int) else n
    observer = Observer()
    return JoinedView(
        {m: observer.view(campaign(m, k, stream), f"{stream}/{m}") for m, k in counts.items()},
        seed=3,
    )


def log_evidence(x: np.ndarray, models: tuple[str, ...] = MODELS) -> np.ndarray:
    return np.stack(
        [
            stats.multivariate_normal(
                MEANS[m], MIXING[m] @ MIXING[m].T + SIGMA**2 * np.eye(STEPS)
            ).logpdf(x)
            for m in models
        ],
        axis=-1,
    )


def labelled(p: np.ndarray, models: tuple[str, ...] = MODELS) -> xr.DataArray:
    return xr.DataArray(p, dims=("simulation", "model"), coords={"model": list(models)})


@pytest.fixture(scope="module")
def comparison() -> ModelComparison:
    """Trained with unequal numbers of runs, which must not matter."""
    counts = {"one": 4000, "two": 2000, "three": 3000}
    return ModelComparison(
        EncoderSettings(backbone="mlp", width=32),
        TrainingSettings(epochs=15, batch_size=256, learning_rate=3e-3),
    ).fit({m: campaign(m, n) for m, n in counts.items()}, Observer(), seed=0)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def fresh() -> JoinedView:
    return joined(2000, "fresh")


def test_joined_views_keep_runs_and_names_together(random_state_guard: None) -> None:
    counts = {"one": 7, "two": 3, "three": 5}
    view = joined(counts, "test")
    assert len(view) == 15 and view.models == MODELS
    parts = {m: Observer().view(campaign(m, n, "test"), f"test/{m}") for m, n in counts.items()}
    for epoch in (0, 2):
        seen = view.sequences(epoch)
        for k, name in enumerate(MODELS):
            own = parts[name].sequences(epoch)
            mine = view.labels == k
            # The toy's sequences carry the number of the run in the place of the region.
            np.testing.assert_array_equal(seen.values[mine], own.values[seen.region[mine]])
    assert (np.diff(view.labels) != 0).sum() > 3  # shuffled
    chosen = np.array([4, 14, 0, 7])
    part = view.select(chosen)
    np.testing.assert_array_equal(part.labels, view.labels[chosen])
    np.testing.assert_array_equal(part.truth, view.truth[chosen])
    np.testing.assert_array_equal(part.sequences(1).values, view.sequences(1).values[chosen])
    again = part.select(np.array([2, 1]))
    np.testing.assert_array_equal(again.sequences(1).values, view.sequences(1).values[[0, 14]])
    only = view.select(np.flatnonzero(view.labels == 1))
    assert len(only.sequences()) == 3


def test_probabilities_are_those_of_the_closed_form(
    comparison: ModelComparison, fresh: JoinedView
) -> None:
    x = fresh.sequences()
    exact = special.softmax(log_evidence(x.values.astype(float)), axis=1)
    found = comparison.probabilities(fresh)
    assert found.dims == ("simulation", "model")
    assert found["model"].values.tolist() == list(MODELS)
    np.testing.assert_allclose(found.sum("model"), 1.0, atol=1e-12)
    error = np.abs(found.values - exact)
    # The exact probabilities are far from the prior: the problem can be failed.
    assert np.abs(exact - 1 / 3).mean() > 0.2
    # Divergence of the learned from the exact posterior in nats: .01 to .02 over seeds and
    # schedules. A fit of w weights to n runs loses w / (2 n): as if 200 to 400 were fitted. By
    # Pinsker's inequality the three probabilities are then off by 2 / 3 sqrt(.03 / 2) = .08 at most
    # on average; a third of that was seen.
    divergence = (special.xlogy(exact, exact) - exact * np.log(found.values)).sum(axis=1)
    assert divergence.mean() < 0.03
    assert error.mean() < 0.04


def test_bayes_factors_and_priors_obey_bayes(
    comparison: ModelComparison, fresh: JoinedView
) -> None:
    x = fresh.select(np.arange(300)).sequences()
    equal = comparison.probabilities(x)
    factors = comparison.log_bayes_factors(x)
    assert factors.dims == ("simulation", "model", "other")
    np.testing.assert_allclose(factors, -factors.transpose("simulation", "other", "model").values)
    np.testing.assert_allclose(
        factors.sel(model="one", other="two"),
        np.log(equal.sel(model="one") / equal.sel(model="two")), atol=1e-9,
    )  # fmt: skip
    prior = {"two": 3.0, "three": 1.0, "one": 6.0}  # any order; scaled to sum one
    weighted = comparison.probabilities(x, prior=prior)
    odds = equal * xr.DataArray([6.0, 3.0, 1.0], dims="model", coords={"model": list(MODELS)})
    np.testing.assert_allclose(weighted, odds / odds.sum("model"), atol=1e-12)
    np.testing.assert_allclose(weighted.attrs["prior"], [0.6, 0.3, 0.1])
    for wrong in ({"one": 1.0, "two": 1.0}, {"one": 1.0, "two": -1.0, "three": 1.0}):
        with pytest.raises(InputError, match="prior"):
            comparison.probabilities(x, prior=wrong)


def test_learned_probabilities_are_reliable_and_inform(
    comparison: ModelComparison, fresh: JoinedView
) -> None:
    training = joined(2500, "training")
    baseline = logistic_baseline(training, fresh, logarithmic=False)
    found = reliability(
        comparison.probabilities(fresh), fresh.truth, baseline=baseline, resamples=200
    )
    assert found.attrs["passed"] == 1
    assert found.attrs["largest_ece"] < 0.04
    exact = special.softmax(log_evidence(fresh.sequences().values.astype(float)), axis=1)
    best = np.log(exact[np.arange(len(fresh)), fresh.labels]).mean()
    # The divergence, .03 at most.
    assert float(found["log_score_mean"]) == pytest.approx(best, abs=0.04)
    assert float(found["gain_over_prior"]) == pytest.approx(best + np.log(3), abs=0.04)
    assert float(found["gain_over_prior_interval"].sel(bound="low")) > 0
    # The third model differs in its covariance, which nothing linear sees.
    assert float(found["gain_over_baseline_interval"].sel(bound="low")) > 0.05
    np.testing.assert_allclose(found["confusion"].sum("assigned"), 1.0)
    assert (np.diag(found["confusion"]) > 0.5).all()


@pytest.fixture(scope="module")
def exact() -> tuple[np.ndarray, JoinedView]:
    view = joined(3000, "exact")
    return log_evidence(view.sequences().values.astype(float)), view


def test_exact_probabilities_pass(
    exact: tuple[np.ndarray, JoinedView], random_state_guard: None
) -> None:
    evidence, view = exact
    found = reliability(labelled(special.softmax(evidence, axis=1)), view.truth, resamples=200)
    assert found.attrs["passed"] == 1 and found.attrs["p_value"] > 0.01
    assert found.attrs["largest_ece"] < 0.03
    inside = (found["observed_interval"].sel(bound="low") <= found["predicted"]) & (
        found["predicted"] <= found["observed_interval"].sel(bound="high")
    )
    used = found["count"].values > 50
    assert inside.values[used].mean() > 0.8  # 95 % each


@pytest.mark.parametrize("factor", [0.4, 2.5])
def test_wrong_confidence_and_bias_fail_and_calibration_mends_them(
    exact: tuple[np.ndarray, JoinedView], factor: float
) -> None:
    evidence, view = exact
    bias = np.array([0.5, 0.0, -0.5])
    wrong = special.log_softmax(factor * evidence + bias, axis=1)
    found = reliability(labelled(np.exp(wrong)), view.truth, resamples=200)
    assert found.attrs["passed"] == 0 and found.attrs["p_value"] < 0.01
    assert found.attrs["largest_ece"] > max(found.attrs["band"], 0.03)
    # The inverse of what was done to it, but for what all models share. Six of 9,000 / 2 runs'
    # probabilities: the divergence that the fit costs is 6 / (2 * 4,500), less than .001 nats.
    half = np.arange(len(view)) < len(view) // 2
    scaling, offset = fit_scaling(wrong[half], view.labels[half])
    mended = special.log_softmax(wrong[~half] @ scaling.T + offset, axis=1)
    right = special.log_softmax(evidence[~half], axis=1)
    assert (np.exp(right) * (right - mended)).sum(axis=1).mean() < 0.003
    found = reliability(labelled(np.exp(mended)), view.truth[~half], resamples=200)
    assert found.attrs["passed"] == 1


def test_two_models_and_unequal_numbers_are_calibrated_alike() -> None:
    counts = {"one": 6000, "three": 2000}
    view = joined(counts, "unequal", ("one", "three"))
    evidence = log_evidence(view.sequences().values.astype(float), ("one", "three"))
    # What a classifier learns from three times as many runs of one of them.
    learned = special.log_softmax(evidence + np.log([0.75, 0.25]), axis=1)
    scaling, offset = fit_scaling(learned, view.labels)
    found = special.softmax(learned @ scaling.T + offset, axis=1)
    # The equal prior is back: a standard error of its log odds is about .04.
    np.testing.assert_allclose(found, special.softmax(evidence, axis=1), atol=0.05)


def test_a_biased_prior_fails_and_its_name_is_asked_for(
    exact: tuple[np.ndarray, JoinedView],
) -> None:
    evidence, view = exact
    tilted = special.softmax(evidence + np.log([0.7, 0.2, 0.1]), axis=1)
    assert reliability(labelled(tilted), view.truth, resamples=100).attrs["passed"] == 0


def test_the_band_holds_as_often_as_it_says() -> None:
    """Labels drawn from their own probabilities: 95 % of data sets stay below the band."""
    rng = np.random.default_rng(0)
    inside, p_values = [], []
    for seed in range(100):
        p = rng.dirichlet([0.7, 0.7, 0.7], 300)
        labels = (rng.random((300, 1)) > p.cumsum(axis=1)).sum(axis=1).clip(max=2)
        found = reliability(labelled(p), np.array(MODELS)[labels], resamples=100, seed=seed)
        inside.append(found.attrs["largest_ece"] <= found.attrs["band"])
        p_values.append(found.attrs["p_value"])
    # 4 standard errors of a share of .95 among 100 are .087; of a uniform mean, .115.
    assert np.mean(inside) == pytest.approx(0.95, abs=0.087)
    assert np.mean(p_values) == pytest.approx(0.5, abs=0.115)


def test_curve_and_error_agree_with_other_implementations() -> None:
    rng = np.random.default_rng(1)
    p = rng.dirichlet([1.0, 1.0, 1.0], 500)
    labels = rng.integers(3, size=500)
    found = reliability(labelled(p), np.array(MODELS)[labels], resamples=10)
    for k, name in enumerate(MODELS):
        one = found.sel(model=name)
        observed, predicted = calibration_curve(labels == k, p[:, k], n_bins=10)
        used = one["count"].values > 0
        np.testing.assert_allclose(one["observed"].values[used], observed)
        np.testing.assert_allclose(one["predicted"].values[used], predicted)
        theirs = binary_calibration_error(
            torch.as_tensor(p[:, k].copy()),
            torch.as_tensor(labels == k).int(),
            n_bins=10,
            norm="l1",
        )
        assert float(one["ece"]) == pytest.approx(float(theirs), abs=1e-6)
        low, high = one["ece_interval"].values
        assert low < float(one["ece"]) < high + 0.02
    assert found["count"].sum("bin").values.tolist() == [500] * 3


def test_reliability_refuses_what_does_not_fit() -> None:
    p = labelled(np.full((4, 3), 1 / 3))
    with pytest.raises(InputError, match="4 runs"):
        reliability(p, ["one"] * 3)
    with pytest.raises(InputError, match="'four'"):
        reliability(p, ["one", "two", "three", "four"])
    with pytest.raises(InputError, match="sum to one"):
        reliability(2 * p, ["one"] * 4)


def test_only_what_no_model_makes_is_flagged(comparison: ModelComparison) -> None:
    view = joined(1, "own")
    seen = view.sequences()
    flagged = [
        bool(resemblance(comparison, Sequences(seen.values[k : k + 1], seen.region[:1]))["none"])
        for k in range(len(view))
    ]
    # At most 5 % each: two of three have a probability of .007.
    assert sum(flagged) <= 1
    loud = Sequences(30 * np.sin(np.arange(STEPS))[None].astype(np.float32), seen.region[:1])
    found = resemblance(comparison, loud)
    assert bool(found["none"]) and (found["p_value"].sel(space="observation") < 0.025).all()
    assert found["p_value"].dims == ("space", "model")
    assert found["model"].values.tolist() == list(MODELS)


def test_saved_comparisons_answer_alike(
    comparison: ModelComparison, fresh: JoinedView, tmp_path: Path
) -> None:
    folder = comparison.save(tmp_path / "comparison")
    assert sorted(p.name for p in folder.iterdir()) == ["comparison.json", "weights.safetensors"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["comparison"]
    comparison.save(folder)  # again, over the old one
    back = ModelComparison.load(folder)
    xr.testing.assert_identical(back.probabilities(fresh), comparison.probabilities(fresh))
    np.testing.assert_array_equal(back.seen_.flat, comparison.seen_.flat)
    np.testing.assert_array_equal(back.seen_labels_, comparison.seen_labels_)
    told = json.loads((folder / "comparison.json").read_text())
    assert told["training"]["runs"] == {"one": 4000, "two": 2000, "three": 3000}
    (folder / "weights.safetensors").write_bytes(b"nonsense")
    with pytest.raises(InputError, match="does not hold a saved comparison"):
        ModelComparison.load(folder)


def test_fit_depends_on_the_seed_alone(random_state_guard: None) -> None:
    campaigns = {m: campaign(m, 80) for m in MODELS[:2]}
    x = joined(10, "fresh", MODELS[:2])

    def fitted(seed: int) -> np.ndarray:
        return (
            ModelComparison(
                EncoderSettings(backbone="mlp", width=8), TrainingSettings(epochs=1, batch_size=16)
            )
            .fit(campaigns, Observer(), seed=seed)  # type: ignore[arg-type]
            .probabilities(x)
            .values
        )

    np.testing.assert_array_equal(fitted(0), fitted(0))
    assert not np.array_equal(fitted(0), fitted(1))


def test_bad_questions_are_refused(comparison: ModelComparison) -> None:
    with pytest.raises(InputError, match="two models"):
        ModelComparison().fit({"one": campaign("one", 80)}, Observer())  # type: ignore[arg-type]
    with pytest.raises(InputError, match="too few"):
        ModelComparison().fit(
            {m: campaign(m, 10) for m in MODELS},
            Observer(),  # type: ignore[arg-type]
        )
    with pytest.raises(InputError, match="not been fitted"):
        ModelComparison().probabilities(joined(3, "x"))
    with pytest.raises(InputError, match="held_out"):
        ModelComparison(held_out=0.7)
    with pytest.raises(InputError, match="this comparison reads"):
        comparison.probabilities(Sequences(np.zeros((2, 5), np.float32), np.zeros(2, int)))


@pytest.mark.slow
def test_the_experiment_runs_at_smoke_scale(tmp_path: Path) -> None:
    cells = Cells(tmp_path / "cells")
    record = model_comparison.measure(model_comparison.SCALES["smoke"], 0, cells)
    assert list(record["kinds"]) == ["spontaneous", "evoked"]
    for part in record["kinds"].values():
        assert sum(part["runs"].values()) + sum(part["failed_runs"].values()) == 600
        np.testing.assert_allclose(np.sum(part["comparison"]["confusion"], axis=1), 1.0)
        curve = np.array(part["comparison"]["curve"]["count"])
        assert curve.sum(axis=1).tolist() == [sum(part["fresh_runs"].values())] * 3
    lines = model_comparison.table(record).splitlines()
    assert sum(line.startswith("|") for line in lines) == (2 + 6) + (2 + 6) + (2 + 4)
    model_comparison.draw(record, tmp_path / "figure.svg")
    assert (tmp_path / "figure.svg").stat().st_size > 10_000

"""Every family of estimators against posteriors in closed form; conformal coverage."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from conftest import TOY_PRIOR, ToyObserver, ToyView, toy_campaign
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import r2_score

from nmm_infer.campaign import Campaign
from nmm_infer.campaign.task import OK, REJECTED
from nmm_infer.diagnostics import calibrate, score_estimator
from nmm_infer.errors import InputError
from nmm_infer.inference import (
    Conformal,
    ConformalMixin,
    Ensemble,
    Estimator,
    FlowMatching,
    GradientBoosting,
    NearestNeighbour,
    PosteriorEstimator,
    PriorMean,
    Regressor,
    load_estimator,
)
from nmm_infer.inference.described import describe_flat
from nmm_infer.observation import EvokedProtocol, Sequences
from nmm_infer.sensitivity import compare_with_posterior
from nmm_infer.settings import DensitySettings, EncoderSettings, TrainingSettings

MLP = EncoderSettings(backbone="mlp", width=16)
FLOW = DensitySettings(kind="maf", transforms=2, hidden=16)
SHORT = TrainingSettings(epochs=8, batch_size=64, learning_rate=5e-3)
FIRST = TrainingSettings(epochs=4, batch_size=64, learning_rate=5e-3)


def _fit(estimator: Any, toy: Any, n: int = 3000) -> Any:
    return estimator.fit(toy_campaign(n), toy, TOY_PRIOR, seed=2)


@dataclass
class Fresh:
    """Runs that no estimator has seen, in probit space, with their exact posterior."""

    z: np.ndarray
    x: np.ndarray
    mean: np.ndarray
    covariance: np.ndarray
    view: ToyView

    @property
    def seen(self) -> Sequences:
        return Sequences(self.x, np.zeros(len(self.x), int))

    @property
    def prior(self) -> np.ndarray:
        return stats.norm.logpdf(self.z).sum(axis=1)

    @property
    def exact(self) -> np.ndarray:
        return stats.multivariate_normal(np.zeros(3), self.covariance).logpdf(self.z - self.mean)


@pytest.fixture(scope="module")
def fresh(toy: ToyObserver) -> Fresh:
    view = toy.view(toy_campaign(2000, "test"), "test")
    x = view.sequences().flat
    z = TOY_PRIOR.to_unconstrained(view.theta).astype(np.float32)
    return Fresh(z, x, toy.mean(x), toy.covariance, view)


@pytest.fixture(scope="module")
def regressor(toy: ToyObserver) -> Regressor:
    return _fit(Regressor(MLP, SHORT), toy)


@pytest.fixture(scope="module")
def fmpe(toy: ToyObserver) -> FlowMatching:
    density = DensitySettings(transforms=3, hidden=32)
    return _fit(FlowMatching(MLP, density, SHORT.model_copy(update={"epochs": 15}), FIRST), toy)


# Conformal


@pytest.mark.parametrize(("m", "level"), [(19, 0.9), (20, 0.9), (99, 0.5), (40, 0.33)])
def test_split_conformal_coverage_is_exact(m: int, level: float) -> None:
    """Whatever the predictor: over calibration sets, coverage is ceil((m + 1) level) / (m + 1)."""
    rng = np.random.default_rng(0)
    expected = np.ceil((m + 1) * level - 1e-9) / (m + 1)
    assert level <= expected < level + 1 / (m + 1)
    repeats, inside = 4000, 0
    scale = rng.uniform(0.5, 2.0, (m + 1, 1))  # a wrong mean, a wrong scale, a skewed truth
    for _ in range(repeats):
        truth = rng.exponential(size=(m + 1, 1))
        calibrated = Conformal.of(truth[:m], np.full((m, 1), 0.3), scale[:m])
        inside += int(abs(truth[m, 0] - 0.3) <= calibrated.quantile(level)[0] * scale[m, 0])
        scale = rng.permuted(scale, axis=0)
    # Binomial error, 4 standard deviations.
    assert inside / repeats == pytest.approx(expected, abs=4 * np.sqrt(0.25 / repeats))


def test_too_few_residuals_give_the_whole_range() -> None:
    calibrated = Conformal(np.ones((9, 2)))
    assert np.isinf(calibrated.quantile(0.95)).all()
    assert np.isfinite(calibrated.quantile(0.9)).all()  # the largest of nine: 9 of 10
    assert (Conformal(np.arange(1.0, 10)[:, None]).quantile(1e-12) == 1.0).all()  # the smallest
    with pytest.raises(InputError, match="between 0 and 1"):
        calibrated.quantile(0.0)


def test_draws_are_residuals_put_in_place_and_the_density_is_their_gaussian() -> None:
    rng = np.random.default_rng(1)
    root = np.array([[1.0, 0.0], [0.8, 0.6]])
    calibrated = Conformal(rng.standard_normal((3000, 2)) @ root.T + [0.1, 0.0])
    mean, scale = np.array([[1.0, -1.0], [0.0, 3.0]]), np.array([[0.5, 2.0], [1.0, 1.0]])
    draws = calibrated.sample(mean, scale, 20_000, 0)
    assert draws.shape == (2, 20_000, 2)
    residuals = (draws[0] - mean[0]) / scale[0]
    known = {tuple(row) for row in calibrated.residuals.astype(np.float32).round(4)}
    assert {tuple(row) for row in residuals[:50].astype(np.float32).round(4)} <= known
    # Sample moments of 20,000 draws, 5 standard errors.
    np.testing.assert_allclose(residuals.mean(0), calibrated.residuals.mean(0), atol=0.036)
    np.testing.assert_allclose(np.cov(residuals.T), np.cov(calibrated.residuals.T), atol=0.06)
    z = np.array([[1.2, 0.0], [0.5, 2.0]])
    for i in range(2):
        centre = mean[i] + scale[i] * calibrated.residuals.mean(0)
        covariance = np.diag(scale[i]) @ np.cov(calibrated.residuals.T) @ np.diag(scale[i])
        expected = stats.multivariate_normal(centre, covariance).logpdf(z[i])
        got = calibrated.log_prob(z[i : i + 1], mean[i : i + 1], scale[i : i + 1])
        assert got[0] == pytest.approx(expected, abs=1e-4)  # the ridge on the covariance


def test_few_residuals_make_no_covariance() -> None:
    rng = np.random.default_rng(5)
    z = rng.standard_normal((200, 9))
    mean, scale = np.zeros((200, 9)), np.ones((200, 9))
    for m in (1, 3, 8, 44):
        few = Conformal(rng.standard_normal((m, 9)))
        spread = np.sqrt((few.residuals**2).mean(axis=0) + 1e-6)
        expected = stats.norm.logpdf(z / spread).sum(axis=1) - np.log(spread).sum()
        np.testing.assert_allclose(few.log_prob(z, mean, scale), expected, rtol=1e-9)


class OneSpread(Estimator, ConformalMixin):
    """Predicts what it sees, with one spread at two levels of noise that differ threefold."""

    def __init__(self) -> None:
        self.prior_ = TOY_PRIOR.select(TOY_PRIOR.names[:1])
        self.training_ = {"context": ["snr", "level=0", "level=10"]}

    def _moments(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return x[:, :1].astype(float), np.ones((len(x), 1))

    _fit = _state = _restore = _load_weights = None


class TwoLevels:
    """Each run has one of two levels of noise, drawn anew in every epoch."""

    def __init__(self, n: int, seed: int) -> None:
        self.seed, self.z = seed, np.random.default_rng(seed).standard_normal((n, 1), np.float32)

    def __len__(self) -> int:
        return len(self.z)

    def sequences(self, epoch: int = 0) -> Sequences:
        rng = np.random.default_rng([self.seed, epoch])
        level = rng.integers(2, size=len(self))
        x = self.z + np.where(level, 0.3, 0.9)[:, None] * rng.standard_normal(self.z.shape)
        context = np.stack([level - 0.5, level == 0, level == 1], axis=1)
        return Sequences(x[..., None], np.zeros(len(self), int), context.astype(np.float32))


def test_intervals_hold_at_each_level_of_noise() -> None:
    estimator, held_out, fresh = OneSpread(), TwoLevels(4000, 0), TwoLevels(20_000, 1)
    with pytest.raises(InputError, match="never calibrated"):
        _ = estimator.conformal_
    estimator._calibrate(held_out, held_out.z)  # type: ignore[arg-type]
    # Half of those that have not had a level have it at each of six looks.
    assert [len(c.residuals) for c in estimator.conformal_] == pytest.approx([3938, 3938], abs=32)
    again = OneSpread()
    again._take_residuals(estimator._residuals())
    x = fresh.sequences(7).flat
    mean, _ = again._moments(x)
    draws = again._sample(x, 400, 0)
    density = again._log_prob(fresh.z, x)
    for k, spread in enumerate((0.9, 0.3)):
        own = x[:, 2 + k] == 1
        reach = again.conformal_[k].quantile(0.9)
        assert reach == pytest.approx(1.645 * spread, rel=0.06)
        inside = np.abs(fresh.z - mean)[own] <= reach
        # 3,900 calibrate and 10,000 test: 4 standard deviations of both together.
        assert inside.mean() == pytest.approx(0.9, abs=0.023)
        assert (draws - mean[:, None])[own].std() == pytest.approx(spread, rel=0.06)
        expected = stats.norm(mean, spread).logpdf(fresh.z)[own, 0]
        np.testing.assert_allclose(density[own].mean(), expected.mean(), atol=0.02)


def test_levels_of_which_nothing_is_known_are_refused() -> None:
    estimator, held_out = OneSpread(), TwoLevels(100, 3)
    seen = held_out.sequences

    def one_level(epoch: int = 0) -> Sequences:
        found = seen(epoch)
        found.context[:, 1:] = [1, 0]
        return found

    held_out.sequences = one_level  # type: ignore[method-assign]
    estimator._calibrate(held_out, held_out.z)  # type: ignore[arg-type]
    assert [len(c.residuals) for c in estimator.conformal_] == [100, 0]
    x = np.array([[0.1, 0.0, 1.0, 0.0], [0.1, 0.0, 0.0, 0.0], [0.1, 0.0, 0.0, 1.0]], np.float32)
    assert estimator._sample(x[:1], 5, 0).shape == (1, 5, 1)
    with pytest.raises(InputError, match=r"1 of 2 observations \(the first is number 1\)"):
        estimator._sample(x[:2], 5, 0)
    with pytest.raises(InputError, match="no run of level=10"):
        estimator._log_prob(x[2:, :1], x[2:])


@pytest.mark.parametrize("value", [np.nan, 1e9])
def test_truths_outside_of_the_prior_are_refused(value: float, toy: ToyObserver) -> None:
    campaign = toy_campaign(300)
    estimator = PriorMean().fit(campaign, toy, TOY_PRIOR)
    view = toy.view(campaign)
    seen = view.sequences()
    view.sequences = lambda epoch=0: seen
    view.theta[7, 1] = value
    name = TOY_PRIOR.names[1]
    for check in (calibrate, score_estimator):
        with pytest.raises(InputError, match=f"1 values of {name} are not finite, or outside"):
            check(estimator, view)


def test_runs_that_an_estimator_does_not_read_are_refused(toy: ToyObserver) -> None:
    view = toy.view(toy_campaign(300))
    with pytest.raises(InputError, match="not been fitted"):
        calibrate(PriorMean(), view)
    with pytest.raises(InputError, match="not been fitted"):
        score_estimator(Regressor(), view)
    estimator = PriorMean().fit(toy_campaign(300), toy, TOY_PRIOR)
    seen = view.sequences()
    view.sequences = lambda epoch=0: Sequences(seen.values[:, :-1], seen.region)
    for check in (calibrate, score_estimator):
        with pytest.raises(InputError, match="this estimator reads"):
            check(estimator, view)


# Point predictors


def test_a_regressor_finds_mean_and_spread(regressor: Regressor, fresh: Fresh) -> None:
    mean, scale = regressor._moments(fresh.x)
    exact = np.sqrt(np.diag(fresh.covariance))
    # What a network of 3,000 runs adds to the error that nobody can avoid.
    added = np.sqrt(((mean - fresh.mean) ** 2).mean(axis=0))
    assert (added < 0.6 * exact + 0.03).all()
    total = np.sqrt(((mean - fresh.z) ** 2).mean(axis=0))
    np.testing.assert_allclose(scale.mean(axis=0), total, rtol=0.25)
    predicted = regressor.predict(fresh.seen).values
    np.testing.assert_allclose(TOY_PRIOR.to_unconstrained(predicted), mean, atol=1e-5)


@pytest.mark.parametrize("level", [0.5, 0.9])
@pytest.mark.parametrize("kind", ["regressor", "nearest", "boosting"])
def test_intervals_cover(
    kind: str, level: float, regressor: Regressor, toy: ToyObserver, fresh: Fresh
) -> None:
    made = {"nearest": NearestNeighbour, "boosting": lambda: GradientBoosting(rounds=60)}
    estimator = regressor if kind == "regressor" else _fit(made[kind](), toy)
    interval = estimator.interval(fresh.seen, level)
    truth = TOY_PRIOR.values(fresh.view.theta)
    inside = (truth >= interval.sel(bound="low").values) & (
        truth <= interval.sel(bound="high").values
    )
    # 600 calibrate and 2,000 test: 4 standard deviations of both together.
    tolerance = 4 * np.sqrt(level * (1 - level) * (1 / 600 + 1 / 2000))
    np.testing.assert_allclose(inside.mean(axis=0), level, atol=tolerance)
    # The posterior says the same in its own way.
    draws = estimator._sample(fresh.x, 200, 0)
    rank = (draws < fresh.z[:, None]).mean(axis=1)
    np.testing.assert_allclose(
        (np.abs(rank - 0.5) < level / 2).mean(0), level, atol=tolerance + 0.01
    )
    gain = estimator._log_prob(fresh.z, fresh.x) - fresh.prior
    possible = (fresh.exact - fresh.prior).mean()
    assert 0.3 * possible < gain.mean() < possible


def test_neighbours_are_the_nearest(toy: ToyObserver, fresh: Fresh) -> None:
    """By brute force in the space of the estimates of a ridge regression on the same runs."""
    numbers = (2, 3, 4, 5, 6, 8, 10)
    estimator = _fit(NearestNeighbour(neighbours=numbers), toy, 400)
    campaign = toy_campaign(400)
    x = toy.view(campaign).sequences().flat[:320]  # a fifth calibrates
    z = TOY_PRIOR.to_unconstrained(campaign.theta)[:320]
    known, asked = (estimator.ridge_._mean(part) for part in (x, fresh.x[:10]))
    assert r2_score(z, known) > 0.3

    def nearest(points: NDArray[np.float64]) -> NDArray[np.float64]:
        distance = ((known[None] - points[:, None]) ** 2).sum(axis=-1)
        return np.asarray(z[np.argsort(distance, axis=1)])

    # Each run is the first of its own neighbours.
    errors = [((nearest(known)[:, 1 : k + 1].mean(axis=1) - z) ** 2).mean(0) for k in numbers]
    chosen = [numbers[row] for row in np.argmin(errors, axis=0)]
    assert estimator.chosen_.tolist() == chosen
    assert len(set(chosen)) > 1
    mean, scale = estimator._moments(fresh.x[:10])
    for j, k in enumerate(chosen):
        own = nearest(asked)[:, :k, j]
        np.testing.assert_allclose(mean[:, j], own.mean(axis=1), atol=1e-5)
        np.testing.assert_allclose(scale[:, j], np.sqrt(own.var(axis=1) + 0.05**2), atol=1e-5)


def test_the_prior_mean_is_the_prior(toy: ToyObserver, fresh: Fresh) -> None:
    estimator = _fit(PriorMean(), toy, 50)
    theta = fresh.view.theta
    np.testing.assert_allclose(
        estimator.log_prob(theta, fresh.seen), TOY_PRIOR.log_prob(theta), rtol=1e-4
    )
    middle = [p.quantile(0.5) for p in TOY_PRIOR.parameters]
    np.testing.assert_allclose(estimator.predict(fresh.seen), np.tile(middle, (2000, 1)))
    bounds = estimator.interval(fresh.seen, 0.8)[0]
    expected = [[p.quantile(q) for p in TOY_PRIOR.parameters] for q in (0.1, 0.9)]
    np.testing.assert_allclose(bounds, expected)
    draws = estimator._sample(fresh.x[:2], 5000, 0)
    for column in draws.reshape(-1, 3).T:  # 10,000 draws: the band of one test in a million
        assert stats.kstest(column, "norm").pvalue > 1e-6


def test_where_runs_are_rejected_the_prior_is_what_is_left(
    toy: ToyObserver, tmp_path: Path
) -> None:
    """Half of the prior, that where the first parameter lies above its median."""

    def half(n: int, stream: str) -> Campaign:
        runs = toy_campaign(n, stream)
        above = TOY_PRIOR.to_unconstrained(runs.theta)[:, 0] > 0
        runs.dataset["status"] = ("simulation", np.where(above, OK, REJECTED).astype(np.int8))
        return runs

    campaign = half(8000, "half")
    estimator = PriorMean().fit(campaign, toy, TOY_PRIOR)
    estimator.save(tmp_path / "prior")
    fresh = half(8000, "fresh")
    view = toy.view(fresh.select(fresh.valid), "fresh")
    for prior in (estimator, load_estimator(tmp_path / "prior")):
        found = calibrate(prior, view)
        assert found.attrs["passed"]
        # The posterior is the prior: nothing contracts, and no nat is gained.
        np.testing.assert_allclose(found["contraction"], 0.0, atol=0.05)
        np.testing.assert_allclose(found["log_density_gain"], 0.0, atol=0.05)
        np.testing.assert_allclose(found["prior_variance"][0], 1 - 2 / np.pi, atol=0.03)
        known = xr.Dataset(
            {
                "prior_variance": ("parameter", [1 - 2 / np.pi, 1.0, 1.0]),
                "contraction_bound": ("parameter", np.ones(3)),
                "contraction_local": ("parameter", np.ones(3)),
            },
            coords={"parameter": TOY_PRIOR.names},
            attrs={"level": 0.1},
        )
        compared = compare_with_posterior(known, found)
        np.testing.assert_allclose(compared["estimator"], 0.0, atol=0.06)
        estimate = TOY_PRIOR.to_unconstrained(prior.predict(view.sequences()))
        # The mean and the 90 % interval of a half-normal and of two normal distributions.
        np.testing.assert_allclose(estimate[0], [np.sqrt(2 / np.pi), 0, 0], atol=0.05)
        bounds = TOY_PRIOR.to_unconstrained(prior.interval(view.sequences(), 0.9)[0])
        half_normal = stats.halfnorm.ppf([0.05, 0.95])
        np.testing.assert_allclose(bounds[:, 0], half_normal, atol=0.08)
        np.testing.assert_allclose(bounds[:, 1], [-1.645, 1.645], atol=0.08)


def test_a_first_stage_has_no_intervals(toy_posterior: PosteriorEstimator, fresh: Fresh) -> None:
    with pytest.raises(InputError, match="first stage of a posterior"):
        toy_posterior.regressor_.interval(fresh.seen)
    assert toy_posterior.regressor_.predict(fresh.seen).shape == (2000, 3)


# What is known beside the values


class NoisyToy(ToyObserver):
    """The linear problem with a noise level that differs by run and is known."""

    context_names = ("log_noise",)

    def view(self, campaign: Any, stream: str = "training") -> Any:
        return NoisyView(self, campaign.theta, stream)

    def level(self, numbers: np.ndarray) -> np.ndarray:
        return np.exp(np.random.default_rng(8).uniform(-2, 1.5, 10_000)[numbers])


class NoisyView(ToyView):
    def select(self, positions: np.ndarray) -> NoisyView:
        return NoisyView(self.owner, self.theta[positions], self.stream)

    def sequences(self, epoch: int = 0) -> Sequences:
        owner: Any = self.owner
        numbers = self.theta.coords["simulation"].values
        sigma = owner.level(numbers)
        rng = np.random.default_rng([epoch, len(self.stream), int(numbers[0])])
        noise = sigma[:, None] * rng.standard_normal((len(sigma), len(owner.mixing)))
        z = TOY_PRIOR.to_unconstrained(self.theta)
        values = np.exp(z @ owner.mixing.T + noise).astype(np.float32)
        return Sequences(values, np.zeros(len(z), int), np.log(sigma)[:, None].astype(np.float32))


@pytest.mark.slow
def test_the_noise_level_is_heeded() -> None:
    """The spread follows that of the exact posterior, from a tenth to nearly the prior's."""
    noisy = NoisyToy()
    settings = TrainingSettings(epochs=15, batch_size=64, learning_rate=5e-3)
    regressor = _fit(Regressor(EncoderSettings(width=16, patch=8), settings), noisy, 4000)
    assert regressor.training_["context"] == ["log_noise"]
    view = noisy.view(toy_campaign(1000, "test"), "test")
    seen = view.sequences()
    sigma = np.exp(seen.context[:, 0].astype(float))
    gram = noisy.mixing.T @ noisy.mixing
    exact = np.sqrt([np.diag(np.linalg.inv(np.eye(3) + gram / s**2)) for s in sigma])
    _, scale = regressor._moments(seen.flat)
    assert exact[:, 0].min() < 0.1 and exact[:, 0].max() > 0.5
    ratio = np.log(scale / exact)
    assert np.abs(np.median(ratio, axis=0)).max() < 0.35
    for k in range(2):  # the third is hardly seen at any level
        assert stats.spearmanr(scale[:, k], exact[:, k]).statistic > 0.9
    without = Sequences(seen.values, seen.region)
    with pytest.raises(InputError, match=r"1 of context \(log_noise\)"):
        regressor.predict(without)


def test_features_have_names_by_component_and_context() -> None:
    protocol = EvokedProtocol(components=2)
    rng = np.random.default_rng(0)
    values = rng.standard_normal((4, protocol.n_steps, 2))
    flat = np.concatenate([values.reshape(4, -1), [[7.0]] * 4], axis=1).astype(np.float32)
    described = describe_flat(flat, protocol, ["log_noise"])
    names = described.coords["feature"].values.tolist()
    assert len(set(names)) == len(names)
    np.testing.assert_array_equal(described.sel(feature="log_noise"), 7.0)
    after = protocol.times > 0
    rest = values[:, ~after].mean(axis=1)
    for k in range(2):  # the definition of the root mean square in nmm_infer.features
        expected = np.sqrt(((values[:, after, k] - rest[:, k, None]) ** 2).mean(axis=1))
        np.testing.assert_allclose(described.sel(feature=f"rms[{k}]"), expected, rtol=1e-5)


# Posteriors


def _check_posterior(estimator: Any, fresh: Fresh, share: float) -> None:
    """Share of the possible gain over the prior; nothing beats the truth."""
    gain = (estimator._log_prob(fresh.z, fresh.x) - fresh.prior).mean()
    possible = (fresh.exact - fresh.prior).mean()
    assert share * possible < gain
    # 2,000 runs, differences of about one nat: 4 standard errors are .09.
    assert (estimator._log_prob(fresh.z, fresh.x) - fresh.exact).mean() < 0.05


def test_flow_matching(fmpe: FlowMatching, fresh: Fresh) -> None:
    _check_posterior(fmpe, fresh, 0.6)
    draws = fmpe._sample(fresh.x[:3], 4000, 0)
    exact = np.sqrt(np.diag(fresh.covariance))
    assert (np.abs(draws.mean(axis=1) - fresh.mean[:3]) < 1.5 * exact + 0.15).all()
    # Draws have the density: minus the mean log density of own draws is the entropy, and the
    # Gaussian of the same covariance has the largest one.
    for k in range(2):
        entropy = -fmpe._log_prob(draws[k, :2000], np.repeat(fresh.x[k : k + 1], 2000, 0)).mean()
        most = stats.multivariate_normal(np.zeros(3), np.cov(draws[k].T)).entropy()
        assert most - 0.3 < entropy < most + 0.05
    # Observations do not see each other (to the tolerance of the ODE).
    np.testing.assert_allclose(
        fmpe._log_prob(fresh.z[:5], fresh.x[:5])[3:],
        fmpe._log_prob(fresh.z[3:5], fresh.x[3:5]), atol=0.02,
    )  # fmt: skip


def test_flow_matching_in_sbi_is_the_same_density(fmpe: FlowMatching, fresh: Fresh) -> None:
    posterior = fmpe.to_sbi()
    with torch.no_grad():
        told = fmpe.net_.embedding(torch.as_tensor(fresh.x[:1]))
        mean, log_scale = fmpe.net_.gaussian(told)
        standard = (torch.as_tensor(fresh.z[:1]) - mean) / log_scale.exp()
    expected = float(posterior.log_prob(standard, x=told) - log_scale.sum())
    assert fmpe._log_prob(fresh.z[:1], fresh.x[:1])[0] == pytest.approx(expected, abs=1e-3)


@pytest.mark.slow
def test_named_features_make_a_posterior(toy: ToyObserver, fresh: Fresh) -> None:
    settings = EncoderSettings(backbone="mlp", inputs="features", width=16)
    _check_posterior(_fit(PosteriorEstimator(settings, FLOW, SHORT, FIRST), toy), fresh, 0.3)


@pytest.mark.slow
def test_an_ensemble_is_the_equal_mixture_of_its_members(toy: ToyObserver, fresh: Fresh) -> None:
    ensemble = _fit(Ensemble(MLP, FLOW, SHORT, FIRST, members=2), toy, 2000)
    _check_posterior(ensemble, fresh, 0.5)
    each = [np.exp(m._log_prob(fresh.z, fresh.x)) for m in ensemble.members]
    assert np.abs(each[0] - each[1]).max() > 0.01  # different seeds
    np.testing.assert_allclose(
        np.exp(ensemble._log_prob(fresh.z, fresh.x)), np.mean(each, axis=0), rtol=1e-6
    )


def test_draws_of_an_ensemble_are_in_random_order() -> None:
    class Constant(PosteriorEstimator):
        value = 0.0

        def _sample(self, x: np.ndarray, n_draws: int, seed: int) -> np.ndarray:
            return np.full((len(x), n_draws, 3), self.value, np.float32)

    ensemble = Ensemble(MLP, members=3)
    ensemble.members = [Constant() for _ in range(3)]
    for k, member in enumerate(ensemble.members):
        member.value = float(k)  # type: ignore[attr-defined]
    draws = ensemble._sample(np.zeros((200, 4), np.float32), 300, 0)[..., 0]
    shares = [(draws == k).mean() for k in range(3)]
    np.testing.assert_allclose(shares, 1 / 3, atol=0.11)  # 300 draws, 4 standard deviations
    first = [(draws[:, :30] == k).mean() for k in range(3)]
    np.testing.assert_allclose(first, shares, atol=0.03)  # 6,000 draws, 5 standard deviations
    assert len({tuple(row) for row in draws[:, :30]}) == 200
    one = [ensemble._sample(np.zeros((1, 4), np.float32), 1, seed)[0, 0, 0] for seed in range(600)]
    np.testing.assert_allclose(np.bincount(np.array(one, int)) / 600, 1 / 3, atol=0.08)
    with pytest.raises(InputError, match="at least one member"):
        Ensemble(members=0)

"""The contract of every estimator, on the same campaign; and closed-form posteriors."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import mne
import numpy as np
import pytest
import torch
from conftest import TOY_PRIOR, ToyObserver, toy_campaign
from scipy import stats

from nmm_infer.anatomy import Head
from nmm_infer.campaign import DIVERGED, REJECTED, Campaign
from nmm_infer.diagnostics import calibrate
from nmm_infer.errors import InputError
from nmm_infer.inference import (
    FAMILIES,
    Estimator,
    NearestNeighbour,
    PosteriorEstimator,
    PosteriorMixin,
    Regressor,
    RidgeGaussian,
    load_estimator,
)
from nmm_infer.observation import Observer, Sequences, View, observe
from nmm_infer.parameters import Parameter, Prior
from nmm_infer.scenarios import NetworkTask
from nmm_infer.settings import DensitySettings, EncoderSettings, TrainingSettings
from nmm_infer.study import Study

ONCE = TrainingSettings(epochs=1, batch_size=64)
TINY = {
    "encoder": EncoderSettings(width=8, layers=1, patch=8),
    "density": DensitySettings(transforms=1, hidden=8),
    "training": ONCE,
    "pretraining": ONCE,
    "finishing": ONCE,
}
#: Trained from no seed.
SEEDLESS = ("prior_mean", "ridge", "nearest")
#: Of one kind with others that are tested in the fast tests.
SLOW = ("mlp", "npe_mlp", "npe_lstm", "npe_cnn_bilstm")
KINDS = [pytest.param(k, marks=pytest.mark.slow if k in SLOW else ()) for k in FAMILIES]


def _make(kind: str) -> Estimator:
    more = {"members": 2} if kind == "ensemble" else {}
    if kind == "npe_transformer":
        more = {"density": DensitySettings(kind="maf", transforms=1, hidden=8)}
    return FAMILIES[kind](**(TINY | more))


def test_families_make_what_they_are_called() -> None:
    for kind in FAMILIES:
        made = _make(kind)
        if isinstance(made, (Regressor, PosteriorEstimator)) and kind != "fmpe":
            assert made.encoder.backbone == (
                "mlp" if kind == "npe_features" else kind.removeprefix("npe_")
            )
            assert made.encoder.width == 8
            assert (made.encoder.inputs == "features") == (kind == "npe_features")
    made = {type(_make(kind)).name for kind in FAMILIES}
    assert made == {
        "prior_mean", "ridge_gaussian", "nearest_neighbour", "gradient_boosting", "regressor",
        "npe", "fmpe", "ensemble",
    }  # fmt: skip


@pytest.fixture(scope="module")
def fresh(observer: Observer, campaign: Campaign) -> View:
    return observer.view(campaign.select(slice(0, 20)), "test")


def _answers(estimator: Estimator, view: View, seed: int = 0) -> list[np.ndarray]:
    """Everything that an estimator says, as arrays."""
    assert isinstance(estimator, PosteriorMixin)
    draws = estimator.posterior(view, n_draws=30, seed=seed)
    return [
        draws.values,
        estimator.log_prob(view.theta, view),
        estimator.predict(view, n_draws=30, seed=seed).values,
        estimator.interval(view, 0.8, n_draws=30, seed=seed).values,
    ]


def _same(kind: str, one: np.ndarray, other: np.ndarray) -> None:
    """Bit for bit; for the ridge, but for the order in which a BLAS adds in float64."""
    np.testing.assert_allclose(one, other, rtol=1e-14 if kind == "ridge" else 0, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_contract(
    kind: str, campaign: Campaign, observer: Observer, task: NetworkTask, fresh: View,
    tmp_path: Path, random_state_guard: None,
) -> None:  # fmt: skip
    estimator = _make(kind)
    for call in (
        lambda: estimator.sequences(fresh),
        lambda: estimator.save(tmp_path / "no"),
        lambda: _answers(estimator, fresh),
    ):
        with pytest.raises(InputError, match="not been fitted yet"):
            call()
    assert not (tmp_path / "no").exists()

    prior = task.prior
    assert estimator.fit(campaign, observer, prior, seed=5) is estimator
    free = [p.name for p in prior.parameters if p.distribution != "fixed"]
    assert estimator.prior_.names == free
    assert "noise" not in free
    assert estimator.protocol_ == observer.protocol
    assert estimator.training_["runs"] == 240
    assert estimator.training_["seed"] == 5
    assert estimator.training_["channels"] == observer.head.channels
    assert estimator.training_["campaign"] == campaign.fingerprint

    first = _answers(estimator, fresh)
    assert all(np.isfinite(values).all() for values in first)
    for one, other in zip(first, _answers(estimator, fresh), strict=True):
        _same(kind, one, other)

    # Within the bounds of the prior.
    low, high = (np.array([p.quantile(q) for p in estimator.prior_.parameters]) for q in (0, 1))
    for values in (first[0], first[2]):
        assert (values >= low).all() and (values <= high).all()

    # Names, units, shapes.
    draws = estimator.posterior(fresh, n_draws=30, seed=0)
    assert draws.dims == ("simulation", "draw", "parameter")
    assert draws.shape == (20, 30, len(free))
    predicted, interval = estimator.predict(fresh), estimator.interval(fresh, 0.8)
    assert predicted.dims == ("simulation", "parameter")
    assert interval.dims == ("simulation", "bound", "parameter")
    assert interval.coords["bound"].values.tolist() == ["low", "high"]
    for labelled in (draws, predicted, interval):
        assert labelled.coords["parameter"].values.tolist() == free
        assert labelled.coords["unit"].values.tolist() == estimator.prior_.units
    narrow = estimator.interval(fresh, 0.3)
    assert (narrow.sel(bound="low") > interval.sel(bound="low")).all()
    assert (narrow.sel(bound="high") < interval.sel(bound="high")).all()
    assert (_answers(estimator, fresh, seed=1)[0] != first[0]).any()
    shuffled = fresh.theta.sel(parameter=free[::-1])
    _same(kind, estimator.log_prob(shuffled, fresh), first[1])
    with pytest.raises(InputError, match="between 0 and 1"):
        estimator.interval(fresh, 1.0)
    short = Sequences(np.ones((2, 7), np.float32), np.zeros(2, int))
    with pytest.raises(InputError, match="7 numbers; this estimator reads 41 steps x 1"):
        estimator.predict(short)

    # Save and load.
    folder = estimator.save(tmp_path / "saved")
    assert {p.name for p in folder.iterdir()} == {"estimator.json", "weights.safetensors"}
    assert [p.name for p in tmp_path.iterdir()] == ["saved"]
    description = json.loads((folder / "estimator.json").read_text())
    assert {p["name"] for p in description["prior"]} == set(free)
    assert "torch" in description["training"]["versions"]
    loaded = load_estimator(folder)
    assert type(loaded) is type(estimator)
    assert loaded.prior_ == estimator.prior_
    assert loaded.protocol_ == estimator.protocol_
    assert loaded.training_ == json.loads(json.dumps(estimator.training_))
    for one, other in zip(first, _answers(loaded, fresh), strict=True):
        _same(kind, one, other)
    estimator.save(folder)  # an estimator replaces an estimator

    # The same seed gives the same weights.
    again = _make(kind).fit(campaign, observer, prior, seed=5)
    for name, weights in again._state()[1].items():
        assert torch.equal(weights, estimator._state()[1][name]), name
    if kind not in SEEDLESS:
        torch.rand(3)  # the global state is not where the weights come from
        torch.manual_seed(123)
        other = _make(kind).fit(campaign, observer, prior, seed=6)
        same = [torch.equal(w, estimator._state()[1][n]) for n, w in other._state()[1].items()]
        assert not all(same)


@pytest.mark.parametrize("kind", ["ridge", "bilstm"])
def test_order_of_parameters_is_by_name(
    kind: str, campaign: Campaign, observer: Observer, task: NetworkTask, fresh: View
) -> None:
    few = task.prior.select(["source_scale", "A", "stimulus_onset"])
    estimator = _make(kind).fit(campaign, observer, few)
    assert estimator.prior_.names == ["source_scale", "A", "stimulus_onset"]
    values = _answers(estimator, fresh)[0]
    onset = values[..., 2]
    assert (onset >= 0.03).all() and (onset <= 0.1).all()
    assert (values[..., 1] >= 2.6).all() and (values[..., 1] <= 4.5).all()
    with pytest.raises(InputError, match="no parameter 'gamma_ray'"):
        task.prior.select(["gamma_ray"])


def test_failed_runs_are_left_out(
    campaign: Campaign, observer: Observer, task: NetworkTask
) -> None:
    data = campaign.dataset.copy(deep=True)
    data["potential"][7] = np.nan
    data["status"][7] = 1
    estimator = RidgeGaussian().fit(Campaign(data), observer, task.prior)
    assert estimator.training_["runs"] == 239
    assert estimator.training_["failed_runs"] == 1
    assert np.isfinite(estimator.coefficients_).all()


def test_views_hold_valid_runs_under_their_numbers(
    campaign: Campaign, observer: Observer, task: NetworkTask
) -> None:
    data = campaign.dataset.copy(deep=True)
    data["potential"][:3] = np.nan
    data["status"][:2], data["status"][2] = REJECTED, DIVERGED
    some = Campaign(data)
    view = observer.view(some, "test")
    numbers = campaign.theta.coords["simulation"].values[3:]
    np.testing.assert_array_equal(view.theta.coords["simulation"], numbers)
    ridge = RidgeGaussian().fit(some, observer, task.prior)
    assert (ridge.training_["rejected_runs"], ridge.training_["failed_runs"]) == (2, 1)
    for found in (
        ridge.predict(view, n_draws=20),
        ridge.posterior(view, n_draws=20),
        ridge.interval(view, n_draws=20),
        calibrate(ridge, view, n_draws=20)["rank"],
    ):
        np.testing.assert_array_equal(found.coords["simulation"], numbers)
    error = ridge.predict(view, n_draws=20) - view.theta
    assert error.sizes["simulation"] == len(numbers)
    with pytest.raises(InputError, match="no valid run"):
        observer.view(some.select(slice(0, 3)))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_finite_is_refused(
    kind: str, campaign: Campaign, observer: Observer, task: NetworkTask, fresh: View
) -> None:
    estimator = _make(kind).fit(campaign, observer, task.prior, seed=5)
    seen = fresh.sequences()
    seen.values[3, 4] = np.nan
    for ask in (estimator.posterior, estimator.predict, estimator.interval):
        with pytest.raises(InputError, match=r"1 of 20 observations are not finite .* number 3"):
            ask(seen)
    with pytest.raises(InputError, match="not a str"):
        estimator.predict("recording.fif")
    with pytest.raises(InputError, match="n_draws"):
        estimator.posterior(fresh, n_draws=0)

    data = campaign.dataset.copy(deep=True)
    data["potential"][7] = np.nan  # and yet it is said to have ended well
    if kind != "prior_mean":  # which looks at no run
        with pytest.raises(InputError, match=r"1 runs .* not finite"):
            _make(kind).fit(Campaign(data), observer, task.prior)
    data = campaign.dataset.copy(deep=True)
    data["theta"][7, data["parameter"].values.tolist().index("A")] = np.nan
    with pytest.raises(InputError, match="values of A are not finite"):
        _make(kind).fit(Campaign(data), observer, task.prior)


def test_priors_that_the_runs_do_not_have(
    campaign: Campaign, observer: Observer, task: NetworkTask
) -> None:
    A = task.prior["A"]
    wrong = {
        "it is in V": Parameter("A", "V", A.distribution, A.low / 1e3, A.high / 1e3),
        "is not that of the campaign": Parameter("A", "mV", "uniform", A.low, 2 * A.high),
        "no parameter 'Aa'": Parameter("Aa", "mV", "uniform", 1.0, 2.0),
    }
    for message, parameter in wrong.items():
        with pytest.raises(InputError, match=message):
            RidgeGaussian().fit(campaign, observer, Prior([parameter]))
    with pytest.raises(InputError, match="give a campaign"):
        RidgeGaussian().fit(campaign.dataset, observer, task.prior)  # type: ignore[arg-type]


def test_saving_leaves_what_others_wrote(toy: ToyObserver, tmp_path: Path) -> None:
    ridge = RidgeGaussian().fit(toy_campaign(200), toy, TOY_PRIOR)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "data.txt").write_text("precious")
    (tmp_path / "file").write_text("precious")
    with pytest.raises(InputError, match=r"holds 'data\.txt'"):
        ridge.save(tmp_path / "mine")
    with pytest.raises(InputError, match="not a folder"):
        ridge.save(tmp_path / "file")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "mine"]
    assert (tmp_path / "mine" / "data.txt").read_text() == "precious"
    ridge.save(tmp_path / "own")
    ridge.save(tmp_path / "own")


def test_what_cannot_be_fitted_or_asked(toy: ToyObserver) -> None:
    with pytest.raises(InputError, match="no family 'npe_mpl'; there are prior_mean"):
        FAMILIES["npe_mpl"]
    runs = toy_campaign(200)
    with pytest.raises(InputError, match="give an observer, not a NoneType"):
        RidgeGaussian().fit(runs, None, TOY_PRIOR)
    with pytest.raises(InputError, match="give an observer, not a Study"):
        RidgeGaussian().fit(runs, Study(), TOY_PRIOR)
    ridge = RidgeGaussian().fit(runs, toy, TOY_PRIOR)
    for wrong in ({"n_draws": 1.5}, {"n_draws": 0}, {"seed": -1}, {"seed": 0.5}):
        with pytest.raises(InputError, match="must be a whole number"):
            ridge.posterior(toy.view(runs), **wrong)
    with pytest.raises(InputError, match="level of an interval lies between 0 and 1, got 'a'"):
        ridge.interval(toy.view(runs), "a")
    with pytest.raises(InputError, match="3 parameter sets do not pair with 200 runs"):
        ridge.log_prob(runs.theta[:3], toy.view(runs))
    for numbers in (20, (), (0, 5), (2.5,)):
        with pytest.raises(InputError, match="neighbours"):
            NearestNeighbour(numbers)
    seen = toy.view(runs).sequences()
    none = Sequences(seen.values[:0], seen.region[:0])
    for ask in (ridge.posterior, ridge.predict):
        with pytest.raises(InputError, match="no observation to ask about"):
            ask(none)


@pytest.mark.parametrize("kind", ["ridge", "mlp", "npe_mlp", "ensemble"])
def test_settings_that_no_family_has(kind: str) -> None:
    with pytest.raises(TypeError, match="practice"):
        FAMILIES[kind](practice=3)


def test_an_mne_object_is_asked_about_directly(
    campaign: Campaign, observer: Observer, task: NetworkTask, head: Head, info: mne.Info
) -> None:
    estimator = RidgeGaussian().fit(campaign, observer, task.prior)
    rng = np.random.default_rng(0)
    plain = mne.create_info(list(info["ch_names"]), 250.0, "eeg", verbose="error")
    raw = mne.io.RawArray(1e-5 * rng.standard_normal((32, 5000)), plain, verbose="error")
    raw.set_annotations(mne.Annotations(np.arange(2, 18), 0.0, "go"))
    direct = estimator.posterior(raw, head, events="go", n_draws=10)
    observation = observe(raw, observer.protocol, events="go", head=head)
    np.testing.assert_array_equal(direct, estimator.posterior(observation, n_draws=10))
    assert direct.shape[:2] == (1, 10)


@pytest.mark.parametrize("damage", ["missing", "class", "cut", "list", "training", "prior"])
def test_folders_without_an_estimator(damage: str, toy: ToyObserver, tmp_path: Path) -> None:
    folder = RidgeGaussian().fit(toy_campaign(200), toy, TOY_PRIOR).save(tmp_path / "e")
    if damage == "missing":
        (folder / "weights.safetensors").unlink()
    elif damage == "class":
        text = (folder / "estimator.json").read_text()
        (folder / "estimator.json").write_text(text.replace("ridge_gaussian", "os.system"))
    elif damage == "list":
        (folder / "estimator.json").write_text("[]")
    elif damage in ("training", "prior"):
        told = json.loads((folder / "estimator.json").read_text()) | {damage: 3}
        (folder / "estimator.json").write_text(json.dumps(told))
    else:
        content = (folder / "estimator.json").read_bytes()
        (folder / "estimator.json").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="does not hold a saved estimator"):
        load_estimator(folder)


def test_cut_off_weights(toy: ToyObserver, tmp_path: Path) -> None:
    folder = RidgeGaussian().fit(toy_campaign(200), toy, TOY_PRIOR).save(tmp_path / "e")
    content = (folder / "weights.safetensors").read_bytes()
    (folder / "weights.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="does not hold a saved estimator"):
        load_estimator(folder)


# Closed-form posteriors


def _exact(toy: ToyObserver, z: np.ndarray, x: np.ndarray) -> np.ndarray:
    return stats.multivariate_normal(np.zeros(3), toy.covariance).logpdf(z - toy.mean(x))


def test_ridge_gaussian_is_the_exact_posterior_of_a_linear_problem(toy: ToyObserver) -> None:
    estimator = RidgeGaussian().fit(toy_campaign(20_000), toy, TOY_PRIOR)
    view = toy.view(toy_campaign(1000, "test"), "test")
    x = view.sequences().values
    z = TOY_PRIOR.to_unconstrained(view.theta)
    exact = _exact(toy, z, x)
    got = estimator._log_prob(z.astype(np.float32), x)
    assert (exact - got).mean() == pytest.approx(0.0, abs=0.05)
    assert np.abs(exact - got).max() < 1.5
    np.testing.assert_allclose(estimator.covariance_, toy.covariance, atol=0.06)
    np.testing.assert_allclose(estimator._mean(x), toy.mean(x), atol=0.35)
    # In the parameters' own units.
    own = estimator.log_prob(view.theta, view.sequences())
    np.testing.assert_allclose(own - TOY_PRIOR.log_prob(view.theta),
                               got - stats.norm.logpdf(z).sum(axis=1), atol=1e-4)  # fmt: skip
    draws = estimator._sample(x[:3], 20_000, 0)
    np.testing.assert_allclose(draws.mean(axis=1), estimator._mean(x[:3]), atol=0.03)
    for part in draws:
        np.testing.assert_allclose(np.cov(part.T), estimator.covariance_, atol=0.03)


def test_a_density_integrates_to_one_in_the_units_of_the_parameters(toy: ToyObserver) -> None:
    pair = TOY_PRIOR.select(["alpha", "beta"])
    estimator = RidgeGaussian().fit(toy_campaign(500), toy, pair)
    x = toy.view(toy_campaign(1, "test"), "test").sequences()
    cells = (np.arange(150) + 0.5) / 150
    alpha, beta = 1.0 + 3.0 * cells, 10.0 + 90.0 * cells
    grid = np.stack(np.meshgrid(alpha, beta), axis=-1).reshape(-1, 2)
    repeated = type(x)(np.repeat(x.values, len(grid), axis=0), np.zeros(len(grid), int))
    density = np.exp(estimator.log_prob(pair.label(grid), repeated))
    assert density.mean() * 3.0 * 90.0 == pytest.approx(1.0, abs=0.03)


def test_a_single_parameter(toy: ToyObserver) -> None:
    alone = TOY_PRIOR.select(["alpha"])
    estimator = RidgeGaussian().fit(toy_campaign(300), toy, alone)
    view = toy.view(toy_campaign(5, "test"), "test")
    assert estimator.covariance_.shape == (1, 1)
    assert estimator.log_prob(view.theta, view.sequences()).shape == (5,)
    assert estimator.posterior(view.sequences(), n_draws=7).shape == (5, 7, 1)


def test_a_network_learns_the_linear_problem(
    toy: ToyObserver, toy_posterior: PosteriorEstimator
) -> None:
    view = toy.view(toy_campaign(500, "test"), "test")
    x = view.sequences().values
    z = TOY_PRIOR.to_unconstrained(view.theta)
    prior = stats.norm.logpdf(z).sum(axis=1)
    exact = _exact(toy, z, x)
    learned = toy_posterior._log_prob(z.astype(np.float32), x)
    possible = (exact - prior).mean()
    assert possible > 2.0
    assert (learned - prior).mean() > 0.4 * possible
    assert (learned - exact).mean() < 0.02  # nothing beats the truth
    # So does the regressor that it was pretrained as.
    prediction = toy_posterior.regressor_.predict(view.sequences())
    error = TOY_PRIOR.to_unconstrained(prediction) - toy.mean(x)
    assert np.sqrt((error[:, 0] ** 2).mean()) < 0.5


def test_to_sbi_is_the_same_density(toy: ToyObserver, toy_posterior: PosteriorEstimator) -> None:
    view = toy.view(toy_campaign(4, "test"), "test")
    x = view.sequences().values
    z = TOY_PRIOR.to_unconstrained(view.theta).astype(np.float32)
    posterior = toy_posterior.to_sbi()
    expected = [
        float(posterior.log_prob(torch.as_tensor(a[None]), torch.as_tensor(b[None])))
        for a, b in zip(z, x, strict=True)
    ]
    np.testing.assert_allclose(toy_posterior._log_prob(z, x), expected, atol=1e-4)


def test_draws_have_the_density(toy: ToyObserver, toy_posterior: PosteriorEstimator) -> None:
    x = toy.view(toy_campaign(3, "test"), "test").sequences().values
    draws = toy_posterior._sample(x, 4000, 0)
    near = toy.mean(x)
    assert np.abs(draws.mean(axis=1) - near)[:, 0].max() < 0.8
    # The mean log density of own draws is minus the entropy: close to the exact one's.
    entropy = -toy_posterior._log_prob(draws[0], np.repeat(x[:1], 4000, axis=0)).mean()
    exact = stats.multivariate_normal(near[0], toy.covariance).entropy()
    assert exact - 0.5 < entropy < exact + 2.0


def test_priors_of_saved_estimators_round_trip() -> None:
    assert Prior.from_dict(json.loads(json.dumps(TOY_PRIOR.to_dict()))) == TOY_PRIOR


def test_densities_pair_by_the_numbers_of_runs(toy: ToyObserver) -> None:
    runs = toy_campaign(40, "pairs")
    estimator = RidgeGaussian().fit(toy_campaign(400), toy, TOY_PRIOR)
    view = toy.view(runs)
    numbers = np.asarray(runs.theta.coords["simulation"].values)
    seen = replace(view.sequences(), simulation=numbers)
    expected = estimator.log_prob(runs.theta, seen)
    order = np.random.default_rng(0).permutation(40)
    np.testing.assert_allclose(estimator.log_prob(runs.theta[order], seen), expected)
    apart = np.abs(estimator.log_prob(runs.theta[order].drop_vars("simulation"), seen) - expected)
    assert apart.max() > 0.1  # by position, where the caller says so
    with pytest.raises(InputError, match="of other runs"):
        estimator.log_prob(runs.theta.assign_coords(simulation=numbers + 7), seen)

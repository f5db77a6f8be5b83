"""The training loop: parts of a campaign, fresh noise, checkpoints, early stopping."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from conftest import TOY_PRIOR, ToyObserver, ToyView, toy_campaign
from torch import Tensor, nn

from nmm_infer.campaign import Campaign
from nmm_infer.errors import InputError
from nmm_infer.inference import PosteriorEstimator, Regressor
from nmm_infer.observation import Observer, Sequences, View
from nmm_infer.settings import DensitySettings, EncoderSettings, TrainingSettings
from nmm_infer.training import Shards, read, train


@dataclass
class Numbers:
    """A view whose observations are the number of the run, the epoch, and noise of both."""

    numbers: np.ndarray
    seen: list[tuple[int, int]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def theta(self) -> xr.DataArray:
        return xr.DataArray(self.numbers[:, None], dims=("simulation", "parameter"))

    def select(self, positions: np.ndarray) -> Numbers:
        return Numbers(self.numbers[positions], self.seen)

    def sequences(self, epoch: int = 0) -> Sequences:
        self.seen.append((epoch, len(self)))
        columns = np.stack([self.numbers, np.full(len(self), epoch)], axis=1)
        return Sequences(columns.astype(np.float32), np.zeros(len(self), int))


def _numbers(n: int) -> tuple[Numbers, np.ndarray]:
    return Numbers(np.arange(n)), np.arange(n, dtype=np.float32)[:, None]


def _shards(n: int, size: int = 1024, batch: int = 100, seed: int = 3) -> tuple[Shards, Numbers]:
    view, target = _numbers(n)
    return Shards(view, target, size, batch, seed), view  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("n", "parts"), [(700, 1), (1024, 1), (1025, 1), (1200, 2), (5000, 5), (50, 1)]
)
def test_every_run_is_seen_once_with_its_own_target(n: int, parts: int) -> None:
    shards, view = _shards(n)
    assert shards.n_parts == parts
    assert (shards.edges[1:-1] % 512 == 0).all() and shards.edges[-1] == n
    batches = list(shards.batches(4))
    assert len(batches) == shards.n_batches
    assert {len(x) for _, x in batches} == {min(100, n)}
    target, x = (torch.cat(column) for column in zip(*batches, strict=True))
    assert torch.equal(target[:, 0], x[:, 0])
    assert (x[:, 1] == 1 + 4).all()  # the noise of this epoch; that of epoch 0 validates
    numbers = x[:, 0].numpy()
    assert len(np.unique(numbers)) == len(numbers)
    assert n - len(numbers) < 100 * parts  # what is left over in each part
    assert (np.diff(numbers) != 1).any()
    shards.close()
    assert max(length for _, length in view.seen) < 1024 + 100


def test_parts_are_whole_and_observed_one_ahead() -> None:
    shards, view = _shards(5000)
    stream = shards.batches(0)
    first = next(stream)[1][:, 0].numpy()
    part = int(np.searchsorted(shards.edges, first.max(), side="right")) - 1
    low, high = shards.edges[part : part + 2]
    assert ((first >= low) & (first < high)).all()
    shards.close()
    assert len(view.seen) <= 2  # this part, and the next one


def test_order_depends_on_seed_and_epoch_alone() -> None:
    def order(shards: Shards, epoch: int) -> list[float]:
        return torch.cat([x[:, 0] for _, x in shards.batches(epoch)]).tolist()

    one, _ = _shards(3000)
    first, second = order(one, 0), order(one, 1)
    assert first != second
    late, _ = _shards(3000)
    assert order(late, 1) == second  # an interrupted run goes on from here
    other, _ = _shards(3000, seed=4)
    assert order(other, 0) != first
    for shards in (one, late, other):
        shards.close()


def test_what_goes_wrong_while_observing_is_raised() -> None:
    class Broken(Numbers):
        def sequences(self, epoch: int = 0) -> Sequences:
            raise OSError("no disk")

    shards = Shards(Broken(np.arange(50)), np.zeros((50, 1), np.float32), 512, 10, 0)  # type: ignore[arg-type]
    with pytest.raises(OSError, match="no disk"):
        next(shards.batches(0))
    shards.close()


def test_a_campaign_in_parts_has_the_noise_of_the_whole(
    observer: Observer, view: View, toy: ToyObserver
) -> None:
    data = view.campaign.select(np.arange(700) % len(view)).dataset
    large = observer.view(Campaign(data.assign_coords(simulation=np.arange(700))))
    whole = large.sequences(epoch=2).flat
    np.testing.assert_array_equal(read(large, 2, 512), whole)
    np.testing.assert_array_equal(read(large, 2, 512, limit=512), whole[:512])
    toy_view = toy.view(toy_campaign(2000))
    np.testing.assert_array_equal(read(toy_view, 1, 512), toy_view.sequences(epoch=1).flat)


# Training


def _net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(20, 16), nn.Tanh(), nn.Linear(16, 3))


def _loss(net: nn.Module, target: Tensor, x: Tensor) -> Tensor:
    """Least squares; the numbers that it draws must come out the same after an interruption."""
    noise = 0.1 * torch.randn(target.shape)
    return nn.functional.mse_loss(net(torch.log(x)) + noise, target)


@dataclass
class Until:
    """A loss that breaks off after some calls in training."""

    calls: int
    loss: object = _loss

    def __call__(self, net: nn.Module, target: Tensor, x: Tensor) -> Tensor:
        if net.training:
            self.calls -= 1
            if self.calls < 0:
                raise KeyError("interrupted")
        return self.loss(net, target, x)  # type: ignore[operator]


FEW = TrainingSettings(epochs=5, batch_size=64, learning_rate=1e-2, shard=512)


@pytest.fixture(scope="module")
def problem(toy: ToyObserver) -> tuple[ToyView, np.ndarray]:
    view = toy.view(toy_campaign(1200))
    return view, TOY_PRIOR.to_unconstrained(view.theta).astype(np.float32)


def _train(
    problem: tuple[ToyView, np.ndarray], loss: object = _loss, folder: Path | None = None,
    settings: TrainingSettings = FEW, seed: int = 1,
) -> tuple[dict[str, Tensor], list[float]]:  # fmt: skip
    net = _net()
    view, target = problem
    losses = train(
        net, loss, view, target, settings, seed=seed, description="", folder=folder  # type: ignore[arg-type]
    )  # fmt: skip
    return net.state_dict(), losses


def test_what_is_learned_is_the_best_and_the_same_each_time(
    problem: tuple[ToyView, np.ndarray], random_state_guard: None
) -> None:
    state = torch.random.get_rng_state()
    with torch.random.fork_rng():
        one, losses = _train(problem)
        other, again = _train(problem)
    assert torch.equal(state, torch.random.get_rng_state())
    assert losses == again and len(losses) == 5
    assert losses[-1] < losses[0]
    assert all(torch.equal(one[name], other[name]) for name in one)
    with torch.random.fork_rng():
        different, _ = _train(problem, seed=2)
    assert any(not torch.equal(one[name], different[name]) for name in one)


def test_an_interrupted_fit_goes_on_to_the_same_end(
    problem: tuple[ToyView, np.ndarray], tmp_path: Path
) -> None:
    whole, losses = _train(problem)
    steps = 512 // 64 + 568 // 64  # 1080 runs in two parts
    folder = tmp_path / "fit"
    with pytest.raises(KeyError, match="interrupted"):
        _train(problem, Until(2 * steps + 5), folder)  # in the third epoch
    assert {"best.ckpt", "last.ckpt", "fit.json"} <= {p.name for p in folder.iterdir()}
    resumed, again = _train(problem, Until(3 * steps), folder)  # three epochs, no more, are left
    assert again == losses
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    # A fit that has ended is read, not repeated.
    read_again, known = _train(problem, Until(0), folder)
    assert known == losses
    assert all(torch.equal(whole[name], read_again[name]) for name in whole)


def test_checkpoints_of_another_fit_are_refused(
    problem: tuple[ToyView, np.ndarray], tmp_path: Path
) -> None:
    once = FEW.model_copy(update={"epochs": 1})
    _train(problem, folder=tmp_path, settings=once)
    view, target = problem
    for different in (
        {"seed": 2},
        {"settings": FEW},
        {"problem": (view, target + 1)},
        {"problem": (view.select(np.arange(1, 1200)), target[1:])},
    ):
        arguments = {"problem": problem, "settings": once, "folder": tmp_path} | different
        with pytest.raises(InputError, match="checkpoints of another fit"):
            _train(**arguments)  # type: ignore[arg-type]


def test_training_stops_when_nothing_is_gained(problem: tuple[ToyView, np.ndarray]) -> None:
    def useless(net: nn.Module, target: Tensor, x: Tensor) -> Tensor:
        return 0.0 * _loss(net, target, x) + 1.0

    patient = FEW.model_copy(update={"epochs": 30, "patience": 2})
    _, losses = _train(problem, useless, settings=patient)
    assert losses == [1.0] * 3  # the first one, and two without improvement


@pytest.mark.parametrize(("rate", "moved"), [(1e-3, True), (1e3, False)])
def test_a_stage_never_ends_worse_than_it_began(
    rate: float, moved: bool, problem: tuple[ToyView, np.ndarray]
) -> None:
    before = _net().state_dict()
    after, _ = _train(problem, settings=FEW.model_copy(update={"learning_rate": rate}))
    assert all(torch.equal(before[name], after[name]) for name in before) is not moved


def test_a_loss_that_is_not_finite_is_told(problem: tuple[ToyView, np.ndarray]) -> None:
    def infinite(net: nn.Module, target: Tensor, x: Tensor) -> Tensor:
        return _loss(net, target, x) / 0.0

    with pytest.raises(InputError, match="never finite"):
        _train(problem, infinite)


def test_too_few_runs(problem: tuple[ToyView, np.ndarray]) -> None:
    view, target = problem
    with pytest.raises(InputError, match="1 runs are too few"):
        _train((view.select(np.arange(1)), target[:1]))


@pytest.mark.slow
def test_a_campaign_in_parts_is_learned_as_well_as_in_memory(toy: ToyObserver) -> None:
    """Errors of the mean, against the closed-form one, from five parts and from one."""
    campaign = toy_campaign(2500)
    fresh = toy.view(toy_campaign(500, "test"), "test").sequences().flat
    errors = []
    for shard in (512, 16_384):
        settings = TrainingSettings(epochs=8, batch_size=64, learning_rate=5e-3, shard=shard)
        regressor = Regressor(EncoderSettings(backbone="mlp", width=16), settings)
        regressor.fit(campaign, toy, TOY_PRIOR)  # type: ignore[arg-type]
        errors.append(np.sqrt(((regressor._moments(fresh)[0] - toy.mean(fresh)) ** 2).mean()))
    assert max(errors) < 0.25  # the posterior standard deviations are .07, .1 and .3 to .5
    assert errors[0] < 1.3 * errors[1]


def _short_posterior(toy: ToyObserver, checkpoints: Path | None) -> PosteriorEstimator:
    short = TrainingSettings(epochs=2, batch_size=64)
    return PosteriorEstimator(
        EncoderSettings(backbone="mlp", width=8),
        DensitySettings(kind="maf", transforms=1, hidden=8), short, short, short,
    ).fit(toy_campaign(300), toy, TOY_PRIOR, seed=4, checkpoints=checkpoints)  # type: ignore[arg-type] # fmt: skip


def test_the_flow_is_finished_on_the_encoder_as_it_is(toy: ToyObserver, tmp_path: Path) -> None:
    estimator = _short_posterior(toy, tmp_path)
    before = torch.load(tmp_path / "posterior" / "best.ckpt", weights_only=True)["state_dict"]
    after = {f"net.{name}": value for name, value in estimator.net_.state_dict().items()}
    assert before.keys() == after.keys()
    kept = {name for name in before if torch.equal(before[name], after[name])}
    encoder = {name for name in before if "embedding" in name}
    flow = {name for name in before if "transform" in name and name.endswith("weight")}
    assert encoder and flow
    assert encoder <= kept and not flow & kept
    assert all(p.requires_grad for p in estimator.net_.parameters())
    assert len(estimator.training_["validation_loss"]) == 4


@pytest.mark.parametrize(
    ("calls", "begun"),
    [(5, {"regressor", "posterior"}), (10, {"regressor", "posterior", "finish"})],
)
def test_an_interrupted_posterior_goes_on(
    calls: int,
    begun: set[str],
    toy: ToyObserver,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The regressor is not trained again, and the weights are those of an uninterrupted fit."""

    def fit(checkpoints: Path | None) -> PosteriorEstimator:
        return _short_posterior(toy, checkpoints)

    whole = fit(None)._state()[1]
    from nmm_infer.inference import posterior, regressor

    with monkeypatch.context() as patch:
        patch.setattr(posterior, "_loss", Until(calls, posterior._loss))
        with pytest.raises(KeyError, match="interrupted"):
            fit(tmp_path / "c")
    assert {p.name for p in (tmp_path / "c").iterdir()} == begun
    with monkeypatch.context() as patch:
        patch.setattr(regressor, "_loss", Until(0))
        resumed = fit(tmp_path / "c")._state()[1]
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.slow
def test_the_benchmark_runs(tmp_path: Path) -> None:
    from benchmarks import training

    record = training.measure(quick=True, repeats=1)
    assert [row["loop"] for row in record["rows"]] == list(training.LOOPS)
    first, *others = record["rows"]
    assert first["ratio"] is None
    for row in others:
        expected = row["runs_per_second"]["median"] / first["runs_per_second"]["median"]
        assert row["ratio"]["median"] == pytest.approx(expected)
    assert all(label in training.table(record) for label in training.LOOPS.values())
    training.draw(record, tmp_path / "training.svg")
    assert (tmp_path / "training.svg").stat().st_size > 1000

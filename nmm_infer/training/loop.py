"""Training with Lightning: fresh sensor noise in every epoch, best weights kept."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from nmm_infer import _random
from nmm_infer._progress import stage
from nmm_infer.errors import InputError
from nmm_infer.networks.threads import one_thread
from nmm_infer.observation import View
from nmm_infer.settings import TrainingSettings
from nmm_infer.training.checkpoints import Checkpoints, identity, load
from nmm_infer.training.shards import Read, Shards, _same

__all__ = ["train"]

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]

#: No more runs validate, however large the campaign is.
MAX_VALIDATION = 10_000
_VALIDATION_BATCH = 1024
#: A guard against a batch that explodes, and no more: densities of narrow posteriors have gradients
#: of norm 20 to 200, and cutting all of them to one length slows their training.
_MAX_NORM = 1000.0


class _Module(lightning.LightningModule):
    def __init__(
        self, net: nn.Module, loss: Loss, settings: TrainingSettings, steps: int, seed: int
    ) -> None:
        super().__init__()
        self.net, self.loss, self.settings = net, loss, settings
        self.steps, self.seed = steps, seed

    # A loss may draw numbers (times and noise of flow matching). They depend on the epoch alone,
    # so that training can go on from it, and are the same in every validation.

    def on_train_epoch_start(self) -> None:
        _seed_torch(self.seed, "training/loss", 1 + self.current_epoch)

    def on_validation_epoch_start(self) -> None:
        _seed_torch(self.seed, "training/loss", 0)

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        return self.loss(self.net, *batch)

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        self.log("validation", self.loss(self.net, *batch), batch_size=len(batch[0]))

    def configure_optimizers(self) -> Any:
        optimiser = torch.optim.AdamW(
            self.parameters(), lr=self.settings.learning_rate, weight_decay=1e-4, fused=True
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, self.settings.learning_rate, total_steps=self.steps, pct_start=0.15
        )
        return {
            "optimizer": optimiser,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


class _Epochs(IterableDataset[tuple[Tensor, Tensor]]):
    """The batches of the epoch after those that are done.

    The trainer's own count is one behind when it goes on from a checkpoint.
    """

    def __init__(self, shards: Shards, done: Callable[[], int]) -> None:
        self.shards, self.done = shards, done

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self.shards.batches(self.done())

    def __len__(self) -> int:
        return self.shards.n_batches


class _Data(lightning.LightningDataModule):
    """Sequences of one view, observed anew (with new sensor noise) for every epoch."""

    def __init__(
        self, epochs: _Epochs, target: NDArray[np.float32], x: NDArray[np.float32]
    ) -> None:
        super().__init__()
        self.epochs = epochs
        self.target, self.x = torch.from_numpy(target), torch.from_numpy(x)

    def train_dataloader(self) -> DataLoader[Any]:
        # A loader draws a seed from its generator; the global one belongs to the loss.
        return DataLoader(self.epochs, batch_size=None, generator=torch.Generator())

    def val_dataloader(self) -> DataLoader[Any]:
        parts = (part.split(_VALIDATION_BATCH) for part in (self.target, self.x))
        batches: Any = list(zip(*parts, strict=True))
        return DataLoader(batches, batch_size=None, generator=torch.Generator())


class _History(Callback):
    """Validation losses, in the checkpoint too."""

    def __init__(self, advance: Callable[[int], None]) -> None:
        self.advance = advance
        self.losses: list[float] = []

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.losses.append(float(trainer.callback_metrics["validation"]))
        self.advance(1)

    def state_dict(self) -> dict[str, Any]:
        return {"losses": list(self.losses)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.losses = list(state_dict["losses"])
        self.advance(len(self.losses))


def _seed_torch(seed: int, stream: str, counter: int) -> None:
    torch.manual_seed(int(_random.generator(seed, stream, counter).integers(2**63)))


@contextmanager
def _quiet() -> Iterator[None]:
    names = ("lightning.pytorch", "lightning.fabric", "lightning")
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def train(
    net: nn.Module,
    loss: Loss,
    view: View,
    target: NDArray[np.float32],
    settings: TrainingSettings,
    *,
    seed: int,
    description: str,
    prepare: Read = _same,
    folder: Path | None = None,
) -> list[float]:
    """Train a network in place and leave it at its best validation loss, the start included.

    Sensor noise is fresh in every epoch. A view of more than ``settings.shard`` runs is read in
    contiguous parts, each observed while the network learns from the one before, so that memory
    does not grow with the campaign. A GPU is used where there is one.

    Parameters
    ----------
    net : torch.nn.Module
        The network.
    loss : callable
        ``loss(net, target, x)``: mean loss of a batch. ``net.training`` tells whether it is to be
        minimised or to choose the best epoch.
    view : View
        Training runs; the last part, 10,000 runs at most, is held out for validation, with the
        same noise in every epoch.
    target : numpy.ndarray of float32, shape (n, parameters)
        Targets of the same runs, in probit space.
    settings : TrainingSettings
        Schedule.
    seed : int
        Seed of the order of the batches, and of what the loss draws.
    description : str
        Text of the progress bar.
    prepare : callable, optional
        Maps what is observed, (n, step * component + context), to what the network reads.
    folder : Path, optional
        Where checkpoints are kept. A fit with the same data, settings and seed goes on from the
        last epoch that ended, and has the result of an uninterrupted one.

    Returns
    -------
    list of float
        Validation loss of each epoch.

    Raises
    ------
    InputError
        If the folder has checkpoints of another fit, or damaged ones, or if the loss is not
        finite.
    """
    n_validation = max(1, min(round(len(view) * settings.validation_fraction), MAX_VALIDATION))
    n_training = len(view) - n_validation
    if n_training < 1:
        raise InputError(f"{len(view)} runs are too few to train on: simulate more")
    held_out = view.select(np.arange(n_training, len(view)))
    x = np.ascontiguousarray(prepare(held_out.sequences(epoch=0).flat))
    data_target = np.ascontiguousarray(target)
    shards = Shards(
        view.select(np.arange(n_training)), data_target[:n_training], settings.shard,
        settings.batch_size, seed, prepare,
    )  # fmt: skip
    net.train()
    module = _Module(net, loss, settings, shards.n_batches * settings.epochs + 1, seed)
    with (
        tempfile.TemporaryDirectory() as aside,
        stage(description, settings.epochs) as advance,
        _quiet(),
        one_thread(),
        torch.random.fork_rng(),
    ):
        name = identity(net, data_target, x, seed=seed, **settings.model_dump())
        kept = Checkpoints(folder or Path(aside), name)
        history = _History(advance)
        epochs = _Epochs(shards, lambda: len(history.losses))
        data = _Data(epochs, data_target[n_training:], x)
        try:
            if kept.losses is None:
                kept.finish(
                    _fit(module, data, kept, history, settings, resumable=folder is not None)
                )
        finally:
            shards.close()
        checkpoint = load(kept.best)
    module.to("cpu").load_state_dict(checkpoint["state_dict"])
    net.eval()
    assert kept.losses is not None
    return kept.losses


def _fit(
    module: _Module,
    data: _Data,
    kept: Checkpoints,
    history: _History,
    settings: TrainingSettings,
    *,
    resumable: bool,
) -> list[float]:
    """Run Lightning's loop; the best weights are in the folder then."""
    callbacks: list[Callback] = [
        ModelCheckpoint(
            kept.folder, "best", monitor="validation", save_weights_only=True,
            enable_version_counter=False,
        ),
        history,
    ]  # fmt: skip
    if settings.patience is not None:
        callbacks.append(EarlyStopping("validation", patience=settings.patience))
    if resumable:
        callbacks.append(
            ModelCheckpoint(
                kept.folder, "last", save_on_train_epoch_end=True, enable_version_counter=False
            )
        )
    trainer = lightning.Trainer(
        max_epochs=settings.epochs,
        accelerator="auto",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        gradient_clip_val=_MAX_NORM,
        callbacks=callbacks,
        default_root_dir=kept.folder,
    )
    if kept.resumable is not None:
        load(kept.resumable)  # or say what is wrong with it
    start, before = _validation(module, data), deepcopy(module.state_dict())
    trainer.fit(module, data, ckpt_path=kept.resumable, weights_only=True)
    if not np.isfinite(history.losses).any():
        raise InputError(
            "the validation loss is never finite: lower the learning rate, "
            "or look for values in the campaign that are not finite"
        )
    if start <= np.nanmin(history.losses):
        torch.save({"state_dict": before}, kept.best)
    return history.losses


def _validation(module: _Module, data: _Data) -> float:
    """Return the validation loss of a network as it is."""
    trainer = lightning.Trainer(
        accelerator="auto", devices=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    (found,) = trainer.validate(module, data, verbose=False)
    module.to("cpu")
    return float(found["validation"])

"""Training with Lightning: fresh sensor noise in every epoch, best weights kept."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from nmm_infer._progress import stage
from nmm_infer.observation import View
from nmm_infer.settings import TrainingSettings

__all__ = ["train"]

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]


class _Module(lightning.LightningModule):
    def __init__(self, net: nn.Module, loss: Loss, settings: TrainingSettings, steps: int) -> None:
        super().__init__()
        self.net, self.loss, self.settings, self.steps = net, loss, settings, steps

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        return self.loss(self.net, *batch)

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        self.log("validation", self.loss(self.net, *batch), batch_size=len(batch[0]))

    def configure_optimizers(self) -> Any:
        optimiser = torch.optim.AdamW(
            self.parameters(), lr=self.settings.learning_rate, weight_decay=1e-4
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, self.settings.learning_rate, total_steps=self.steps, pct_start=0.15
        )
        return {
            "optimizer": optimiser,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


class _Data(lightning.LightningDataModule):
    """Sequences of one view, observed anew (with new sensor noise) for every epoch."""

    def __init__(
        self, view: View, target: NDArray[np.float32], settings: TrainingSettings, seed: int
    ) -> None:
        super().__init__()
        # The last runs validate. Noise of validation is that of one fixed epoch.
        n_validation = max(1, round(len(view) * settings.validation_fraction))
        positions = np.arange(len(view))
        self.view = view.select(positions[:-n_validation])
        self.target = torch.as_tensor(target[:-n_validation])
        held_out = view.select(positions[-n_validation:])
        self.validation = TensorDataset(
            torch.as_tensor(target[-n_validation:]),
            torch.as_tensor(held_out.sequences(epoch=0).values),
        )
        self.settings = settings
        self.generator = torch.Generator().manual_seed(seed)
        # The next epoch is observed while the network learns from this one.
        self.executor = ThreadPoolExecutor(max_workers=1)
        self.pending = self.executor.submit(self._observe, 0)

    def _observe(self, epoch: int) -> NDArray[np.float32]:
        return self.view.sequences(epoch=1 + epoch).values

    def train_dataloader(self) -> DataLoader[Any]:
        assert self.trainer is not None
        x = torch.as_tensor(self.pending.result())
        self.pending = self.executor.submit(self._observe, self.trainer.current_epoch + 1)
        return DataLoader(
            TensorDataset(self.target, x),
            batch_size=min(self.settings.batch_size, len(x)),
            shuffle=True,
            drop_last=True,
            generator=self.generator,
        )

    def teardown(self, stage: str) -> None:
        self.executor.shutdown(cancel_futures=True)

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.validation, batch_size=1024)


class _History(Callback):
    def __init__(self, advance: Callable[[int], None]) -> None:
        self.advance = advance
        self.losses: list[float] = []

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        if not trainer.sanity_checking:
            self.losses.append(float(trainer.callback_metrics["validation"]))
            self.advance(1)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch use one thread: these networks are too small for more to help."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


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
) -> list[float]:
    """Train a network in place and leave it at its best validation loss.

    Parameters
    ----------
    net : torch.nn.Module
        The network.
    loss : callable
        ``loss(net, target, x)``: mean loss of a batch.
    view : View
        Training runs; the last part is held out for validation.
    target : numpy.ndarray of float32, shape (n, parameters)
        Targets of the same runs, in probit space.
    settings : TrainingSettings
        Schedule.
    seed : int
        Seed of the order of the batches.
    description : str
        Text of the progress bar.

    Returns
    -------
    list of float
        Validation loss of each epoch.
    """
    data = _Data(view, target, settings, seed)
    steps = max(1, len(data.target) // settings.batch_size) * settings.epochs
    module = _Module(net, loss, settings, steps + 1)
    with (
        tempfile.TemporaryDirectory() as folder,
        stage(description, settings.epochs) as advance,
        _quiet(),
        _one_thread(),
    ):
        history = _History(advance)
        best = ModelCheckpoint(Path(folder), monitor="validation", save_weights_only=True)
        trainer = lightning.Trainer(
            max_epochs=settings.epochs,
            accelerator="auto",
            devices=1,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            gradient_clip_val=5.0,
            reload_dataloaders_every_n_epochs=1,
            callbacks=[best, EarlyStopping("validation", patience=settings.patience), history],
            default_root_dir=folder,
        )
        trainer.fit(module, data)
        checkpoint = torch.load(best.best_model_path, map_location="cpu", weights_only=True)
        module.load_state_dict(checkpoint["state_dict"])
    net.to("cpu").eval()
    return history.losses

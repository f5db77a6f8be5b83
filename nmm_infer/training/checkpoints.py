"""A folder in which an interrupted fit is found again."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from nmm_infer.errors import InputError, StoreMismatchError

__all__ = ["Checkpoints", "identity", "load"]


def identity(
    net: nn.Module, target: NDArray[np.float32], x: NDArray[np.float32], **settings: Any
) -> str:
    """Return a hash of what a fit depends on: shape of the network, data, settings."""
    shapes = {name: list(value.shape) for name, value in net.state_dict().items()}
    digest = hashlib.sha256(json.dumps([shapes, settings], sort_keys=True).encode())
    for array in (target, x):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def load(path: Path) -> dict[str, Any]:
    """Return what a checkpoint holds: tensors and plain values; Python objects are refused.

    Raises
    ------
    InputError
        If the file is damaged, or holds what would run code when it is read.
    """
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
        held["state_dict"].keys()
    except Exception as error:  # what a damaged file raises depends on where
        raise InputError(
            f"{path} is no checkpoint of a fit, or a damaged one, and is not read: delete "
            f"{path.parent}, and the fit begins anew"
        ) from error
    return dict(held)


class Checkpoints:
    """The files of one fit: ``best.ckpt``, ``last.ckpt`` and ``fit.json``.

    Parameters
    ----------
    folder : Path
        Where they are; made if it does not exist.
    identity : str
        What the fit depends on.

    Raises
    ------
    StoreMismatchError
        If the folder has checkpoints of another fit.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        self.folder, self.identity = folder, identity
        folder.mkdir(parents=True, exist_ok=True)
        self.best, self.last, self._note = (
            folder / "best.ckpt", folder / "last.ckpt", folder / "fit.json"
        )  # fmt: skip
        known = self._read()
        if known is not None and known["identity"] != identity:
            raise StoreMismatchError(
                f"{folder} has checkpoints of another fit (other data, settings or seed): delete "
                "it or choose another folder"
            )
        self.losses: list[float] | None = None
        if known is not None:
            self.losses = known.get("validation_loss")
        if known is None:
            self._write({"identity": identity})

    @property
    def resumable(self) -> Path | None:
        """Where to go on from, if anywhere."""
        return self.last if self.last.exists() else None

    def finish(self, losses: list[float]) -> None:
        """Note that the fit has ended."""
        self.losses = losses
        self._write({"identity": self.identity, "validation_loss": losses})

    def _read(self) -> dict[str, Any] | None:
        try:
            note: dict[str, Any] = json.loads(self._note.read_text())
            return note if "identity" in note else None
        except (OSError, ValueError, TypeError):
            return None

    def _write(self, note: dict[str, Any]) -> None:
        aside = self._note.with_name(f".{self._note.name}.{os.getpid()}.tmp")
        aside.write_text(json.dumps(note))
        os.replace(aside, self._note)

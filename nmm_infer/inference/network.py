"""What all estimators with an encoder share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nmm_infer.inference.base import Estimator
from nmm_infer.inference.described import describe_flat
from nmm_infer.networks import Encoder, FeatureEncoder
from nmm_infer.settings import EncoderSettings

__all__ = ["NetworkEstimator", "part"]


class NetworkEstimator(Estimator):
    """An estimator that reads a sequence, or named features of it, through an encoder."""

    encoder: EncoderSettings

    def _inputs(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what the encoder reads of observations (n, step * component + context)."""
        if self.encoder.inputs == "sequence":
            return x
        return np.asarray(describe_flat(x, self.protocol_, self.training_["context"]).values)

    def _tensor(self, x: NDArray[np.float32]) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(self._inputs(x), dtype=np.float32))

    def _make_encoder(self) -> Encoder | FeatureEncoder:
        protocol = self.protocol_
        if self.encoder.inputs == "features":
            n = protocol.n_steps * protocol.n_components + self.n_context
            return FeatureEncoder(self._inputs(np.ones((1, n), np.float32)).shape[1], self.encoder)
        return Encoder(
            protocol.n_steps, self.logarithmic, self.encoder, protocol.n_components, self.n_context
        )

    def _folder(self, stage: str) -> Path | None:
        """Return where a stage of training keeps its checkpoints."""
        return None if self._checkpoints is None else self._checkpoints / stage


def part(weights: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Return the entries whose names begin with a prefix, without it."""
    return {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}

"""Point estimates from the encoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor, nn

from nmm_infer.anatomy import Head
from nmm_infer.inference.base import Estimator
from nmm_infer.networks import Encoder
from nmm_infer.observation import Observation, Recording, Sequences, View
from nmm_infer.settings import EncoderSettings, TrainingSettings
from nmm_infer.training import train

__all__ = ["Regressor"]


class _Net(nn.Module):
    def __init__(self, encoder: Encoder, n_parameters: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(encoder.settings.width, n_parameters)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x))


def _loss(net: nn.Module, target: Tensor, x: Tensor) -> Tensor:
    return nn.functional.mse_loss(net(x), target)


class Regressor(Estimator):
    """Posterior mean by least squares in probit space.

    Parameters
    ----------
    encoder : EncoderSettings
        The backbone, shared with :class:`PosteriorEstimator`.
    training : TrainingSettings
        The schedule.
    """

    name = "regressor"

    def __init__(
        self,
        encoder: EncoderSettings | None = None,
        training: TrainingSettings | None = None,
    ) -> None:
        self.encoder = encoder or EncoderSettings()
        self.training = training or TrainingSettings()

    def _build(self) -> _Net:
        steps, logarithmic = self.protocol_.n_steps, self.protocol_.kind == "spontaneous"
        return _Net(Encoder(steps, logarithmic, self.encoder), len(self.prior_))

    def _fit(self, view: View, target: NDArray[np.float32], seed: int) -> None:
        self.net_ = self._build()
        self.net_.encoder.standardise.fit(torch.as_tensor(view.sequences(epoch=0).values))
        losses = train(
            self.net_, _loss, view, target, self.training, seed=seed,
            description="Training the encoder",
        )  # fmt: skip
        self.training_["validation_loss"] = losses

    @torch.no_grad()
    def predict(
        self,
        x: View | Sequences | Observation | Recording,
        forward: Head | None = None,
        *,
        events: str | None = None,
    ) -> xr.DataArray:
        """Return point estimates, dims (simulation, parameter), in the parameters' units.

        The estimate is the mean in probit space, mapped back: the median of a posterior that is
        normal there.
        """
        sequences = self.sequences(x, forward=forward, events=events)
        z = torch.cat([self.net_(part) for part in torch.as_tensor(sequences.values).split(2048)])
        return self.prior_.label(self.prior_.from_unconstrained(z.numpy()))

    def _state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        settings = {"encoder": self.encoder.model_dump(), "training": self.training.model_dump()}
        return settings, self.net_.state_dict()

    @classmethod
    def _restore(cls, settings: Mapping[str, Any]) -> Self:
        return cls(EncoderSettings(**settings["encoder"]), TrainingSettings(**settings["training"]))

    def _load_weights(self, weights: dict[str, Tensor]) -> None:
        self.net_ = self._build()
        self.net_.load_state_dict(weights)
        self.net_.eval()

"""Point estimates from the encoder, with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nmm_infer.inference.conformal import ConformalMixin, split
from nmm_infer.inference.network import NetworkEstimator, part
from nmm_infer.networks import Encoder, FeatureEncoder
from nmm_infer.networks.threads import one_thread
from nmm_infer.observation import View
from nmm_infer.settings import EncoderSettings, TrainingSettings
from nmm_infer.training import read, train

__all__ = ["Moments", "Regressor"]

#: Exponent of the variance in the training loss (Seitzer et al. 2022, beta-NLL).
BETA = 0.5
#: Bounds of the log standard deviation, around the prior's, 0.
LOWEST, HIGHEST = -5.0, 2.0


class Moments(nn.Module):
    """Gaussian of each parameter by itself, linear in an encoder's summary.

    Parameters
    ----------
    width : int
        Size of the summary.
    n_parameters : int
        Parameters.
    """

    def __init__(self, width: int, n_parameters: int) -> None:
        super().__init__()
        self.head = nn.Linear(width, n_parameters)
        self.spread = nn.Linear(width, n_parameters)

    def forward(self, summary: Tensor) -> tuple[Tensor, Tensor]:
        """Return means and log standard deviations, (n, parameter) both."""
        return self.head(summary), self.spread(summary).clamp(LOWEST, HIGHEST)

    def loss(self, mean: Tensor, log_scale: Tensor, target: Tensor) -> Tensor:
        """Return the weighted likelihood, in evaluation the plain one, of one value."""
        nll = 0.5 * ((target - mean) / log_scale.exp()) ** 2 + log_scale
        if self.training:  # the plain loss would give up on runs that it finds hard
            nll = nll * (2 * BETA * log_scale.detach()).exp()
        return nll.mean()


class _Net(nn.Module):
    def __init__(self, encoder: Encoder | FeatureEncoder, n_parameters: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.moments = Moments(encoder.settings.width, n_parameters)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return means and log standard deviations."""
        return self.moments(self.encoder(x))


def _loss(net: nn.Module, target: Tensor, x: Tensor) -> Tensor:
    return net.moments.loss(*net(x), target)  # type: ignore[operator, union-attr]


class Regressor(NetworkEstimator, ConformalMixin):
    """Mean and standard deviation of each parameter, in probit space.

    Trained by the Gaussian log likelihood, each run weighted with its variance to the power beta =
    1/2 [1]_; the plain likelihood chooses the best epoch. A fifth of the runs is held out for
    split-conformal intervals (see :mod:`nmm_infer.inference.conformal`).

    Parameters
    ----------
    encoder : EncoderSettings
        The backbone, shared with :class:`PosteriorEstimator`.
    training : TrainingSettings
        The schedule.

    References
    ----------
    .. [1] Seitzer M, Tavakoli A, Antic D, Martius G (2022). On the pitfalls of heteroscedastic
       uncertainty estimation with probabilistic neural networks. ICLR, arXiv:2203.09168.
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
        return _Net(self._make_encoder(), len(self.prior_))

    def _fit(self, view: View, target: NDArray[np.float32], seed: int) -> None:
        learned, held_out = split(len(view))
        self._learn(view.select(learned), target[learned], seed)
        self._calibrate(view.select(held_out), target[held_out])

    def _learn(self, view: View, target: NDArray[np.float32], seed: int) -> None:
        """Train the network, without calibration."""
        self.net_ = self._build()
        shard = self.training.shard
        self.net_.encoder.fit(self._tensor(read(view, 0, shard, limit=shard)))
        self.training_["validation_loss"] = train(
            self.net_, _loss, view, target, self.training, seed=seed, prepare=self._inputs,
            folder=self._folder("regressor"), description="Training the encoder",
        )  # fmt: skip

    @torch.no_grad()
    def _moments(self, x: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        with one_thread():
            parts = [self.net_(batch) for batch in self._tensor(x).split(2048)]
        mean, log_scale = (
            torch.cat(column).double().numpy() for column in zip(*parts, strict=True)
        )
        return mean, np.exp(log_scale)

    def _state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        settings = {"encoder": self.encoder.model_dump(), "training": self.training.model_dump()}
        weights = {f"net.{k}": v for k, v in self.net_.state_dict().items()}
        return settings, weights | self._residuals()

    @classmethod
    def _restore(cls, settings: Mapping[str, Any]) -> Self:
        return cls(EncoderSettings(**settings["encoder"]), TrainingSettings(**settings["training"]))

    def _load_weights(self, weights: dict[str, Tensor]) -> None:
        self.net_ = self._build()
        self.net_.load_state_dict(part(weights, "net."))
        self.net_.eval()
        self._take_residuals(weights)

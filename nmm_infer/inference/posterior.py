"""Neural posterior estimation on the encoder."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sbi.inference.posteriors import DirectPosterior
from sbi.neural_nets import posterior_nn
from torch import Tensor, nn

from nmm_infer.inference.base import Estimator, PosteriorMixin
from nmm_infer.inference.regressor import Regressor
from nmm_infer.networks import Encoder
from nmm_infer.observation import View
from nmm_infer.settings import DensitySettings, EncoderSettings, TrainingSettings
from nmm_infer.training import train

__all__ = ["PosteriorEstimator"]


def _loss(net: nn.Module, target: Tensor, x: Tensor) -> Tensor:
    return net.loss(target, x).mean()  # type: ignore[operator]


class PosteriorEstimator(Estimator, PosteriorMixin):
    """Amortised posterior: a normalising flow of sbi on the encoder's summary.

    The encoder is first trained as a :class:`Regressor` (kept as ``regressor_``), then becomes
    the embedding of the flow and both are trained together on the flow's log density. The flow
    lives in probit space, where the prior is N(0, I) and no draw can leave its range.

    Parameters
    ----------
    encoder : EncoderSettings
        The backbone.
    density : DensitySettings
        The flow.
    training : TrainingSettings
        The schedule of the flow.
    pretraining : TrainingSettings
        The schedule of the regressor.
    """

    name = "npe"

    def __init__(
        self,
        encoder: EncoderSettings | None = None,
        density: DensitySettings | None = None,
        training: TrainingSettings | None = None,
        pretraining: TrainingSettings | None = None,
    ) -> None:
        self.encoder = encoder or EncoderSettings()
        self.density = density or DensitySettings()
        self.training = training or TrainingSettings(learning_rate=2e-3)
        self.pretraining = pretraining or TrainingSettings(epochs=12, learning_rate=2e-3)

    def _build(self, encoder: Encoder) -> Any:
        builder = posterior_nn(
            self.density.kind,
            embedding_net=encoder,
            z_score_theta="none",
            z_score_x="none",
            hidden_features=self.density.hidden,
            num_transforms=self.density.transforms,
        )
        # Only the shapes are taken from these batches.
        return builder(torch.zeros(4, len(self.prior_)), torch.ones(4, self.protocol_.n_steps))

    def _fit(self, view: View, target: NDArray[np.float32], seed: int) -> None:
        self.regressor_ = Regressor(self.encoder, self.pretraining)
        self.regressor_.prior_, self.regressor_.protocol_ = self.prior_, self.protocol_
        self.regressor_.training_ = dict(self.training_)
        self.regressor_._fit(view, target, seed)
        encoder = Encoder(self.protocol_.n_steps, self._logarithmic, self.encoder)
        encoder.load_state_dict(self.regressor_.net_.encoder.state_dict())
        self.net_ = self._build(encoder)
        losses = train(
            self.net_, _loss, view, target, self.training, seed=seed,
            description="Training the posterior",
        )  # fmt: skip
        self.training_["validation_loss"] = losses

    @property
    def _logarithmic(self) -> bool:
        return self.protocol_.kind == "spontaneous"

    def to_sbi(self) -> DirectPosterior:
        """Return sbi's own posterior object, in probit space (see :class:`Prior`)."""
        self._check_fitted()
        return DirectPosterior(self.net_, self.prior_.to_torch(), enable_transform=False)

    @torch.no_grad()
    def _sample(self, x: NDArray[np.float32], n_draws: int, seed: int) -> NDArray[np.float32]:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # nflows calls a deprecated solver
            torch.manual_seed(seed)
            parts = [
                self.net_.sample((n_draws,), condition=part).transpose(0, 1)
                for part in torch.as_tensor(x).split(max(1, 200_000 // n_draws))
            ]
        return torch.cat(parts).numpy()

    @torch.no_grad()
    def _log_prob(self, z: NDArray[np.float32], x: NDArray[np.float32]) -> NDArray[np.float64]:
        pairs = zip(torch.as_tensor(z).split(2048), torch.as_tensor(x).split(2048), strict=True)
        parts = [self.net_.log_prob(a[None], condition=b)[0] for a, b in pairs]
        return np.asarray(torch.cat(parts).double().numpy())

    def _state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        parts = ("encoder", "density", "training", "pretraining")
        weights = {f"density.{k}": v for k, v in self.net_.state_dict().items()}
        weights |= {f"regressor.{k}": v for k, v in self.regressor_.net_.state_dict().items()}
        return {part: getattr(self, part).model_dump() for part in parts}, weights

    @classmethod
    def _restore(cls, settings: Mapping[str, Any]) -> Self:
        return cls(
            EncoderSettings(**settings["encoder"]),
            DensitySettings(**settings["density"]),
            TrainingSettings(**settings["training"]),
            TrainingSettings(**settings["pretraining"]),
        )

    def _load_weights(self, weights: dict[str, Tensor]) -> None:
        def part(prefix: str) -> dict[str, Tensor]:
            return {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}

        self.regressor_ = Regressor(self.encoder, self.pretraining)
        self.regressor_.prior_, self.regressor_.protocol_ = self.prior_, self.protocol_
        self.regressor_.training_ = self.training_
        self.regressor_._load_weights(part("regressor."))
        self.net_ = self._build(Encoder(self.protocol_.n_steps, self._logarithmic, self.encoder))
        self.net_.load_state_dict(part("density."))
        self.net_.eval()

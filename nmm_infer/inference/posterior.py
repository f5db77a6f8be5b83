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

from nmm_infer.inference.base import PosteriorMixin, check_fitted
from nmm_infer.inference.network import NetworkEstimator, part
from nmm_infer.inference.regressor import Regressor
from nmm_infer.networks import Embedding
from nmm_infer.networks.threads import one_thread
from nmm_infer.observation import View
from nmm_infer.settings import DensitySettings, EncoderSettings, TrainingSettings
from nmm_infer.training import train

__all__ = ["PosteriorEstimator"]


def _loss(net: nn.Module, target: Tensor, x: Tensor) -> Tensor:
    return net.loss(target, x).mean()  # type: ignore[operator]


class PosteriorEstimator(NetworkEstimator, PosteriorMixin):
    """Amortised posterior: a normalising flow of sbi on an :class:`~nmm_infer.networks.Embedding`.

    The encoder is first trained as a :class:`Regressor` (kept as ``regressor_``, uncalibrated);
    then encoder and flow are trained together on the flow's log density. At last the flow is
    trained alone, and the encoder stays as it is: it is the flow that needs many steps, and without
    the encoder a step costs a fraction. The flow lives in probit space, where the prior is N(0, I)
    and no draw can leave its range.

    Parameters
    ----------
    encoder : EncoderSettings
        The backbone; with ``inputs="features"``, named features are read instead of the sequence.
    density : DensitySettings
        The flow.
    training : TrainingSettings
        The schedule of encoder and flow together.
    pretraining : TrainingSettings
        The schedule of the regressor.
    finishing : TrainingSettings
        The schedule of the flow alone.
    """

    name = "npe"

    def __init__(
        self,
        encoder: EncoderSettings | None = None,
        density: DensitySettings | None = None,
        training: TrainingSettings | None = None,
        pretraining: TrainingSettings | None = None,
        finishing: TrainingSettings | None = None,
    ) -> None:
        self.encoder = encoder or EncoderSettings()
        self.density = density or DensitySettings()
        self.training = training or TrainingSettings(epochs=25, learning_rate=4e-3)
        self.pretraining = pretraining or TrainingSettings(epochs=12, learning_rate=2e-3)
        self.finishing = finishing or TrainingSettings(batch_size=512, learning_rate=4e-3)

    def _build(self, embedding: Embedding) -> Any:
        builder = posterior_nn(
            self.density.kind,
            embedding_net=embedding,
            z_score_theta="none",
            z_score_x="none",
            hidden_features=self.density.hidden,
            num_transforms=self.density.transforms,
        )
        # Only the shapes are taken from these batches.
        n = self.protocol_.n_steps * self.protocol_.n_components + self.n_context
        return builder(torch.zeros(4, len(self.prior_)), self._tensor(np.ones((4, n), np.float32)))

    def _fit(self, view: View, target: NDArray[np.float32], seed: int) -> None:
        self.regressor_ = Regressor(self.encoder, self.pretraining)
        self.regressor_._like(self)
        self.regressor_._checkpoints = self._checkpoints
        self.regressor_._learn(view, target, seed)
        encoder = self._make_encoder()
        encoder.load_state_dict(self.regressor_.net_.encoder.state_dict())
        self.net_ = self._build(Embedding(encoder))
        stages = (("posterior", self.training), ("finish", self.finishing))
        losses: list[float] = []
        for stage, settings in stages:
            encoder.requires_grad_(stage == "posterior")
            losses += train(
                self.net_, _loss, view, target, settings, seed=seed, prepare=self._inputs,
                folder=self._folder(stage), description="Training the posterior",
            )  # fmt: skip
        encoder.requires_grad_(True)
        self.training_["validation_loss"] = losses

    def to_sbi(self) -> Any:
        """Return sbi's own posterior object, in probit space (see :class:`Prior`).

        Its ``x`` is what the encoder reads: sequence and context, or named features.
        """
        check_fitted(self)
        return DirectPosterior(self.net_, self.prior_.to_torch(), enable_transform=False)

    @torch.no_grad()
    def _sample(self, x: NDArray[np.float32], n_draws: int, seed: int) -> NDArray[np.float32]:
        with one_thread(), torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # nflows calls a deprecated solver
            torch.manual_seed(seed)
            parts = [
                self.net_.sample((n_draws,), condition=batch).transpose(0, 1)
                for batch in self._tensor(x).split(max(1, 200_000 // n_draws))
            ]
        return torch.cat(parts).numpy()

    @torch.no_grad()
    def _sample_and_log_prob(
        self, x: NDArray[np.float32], n_draws: int, seed: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        # The observation is encoded once, not once a draw.
        with one_thread(), torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # nflows calls a deprecated solver
            torch.manual_seed(seed)
            draws, density = self.net_.sample_and_log_prob(
                torch.Size((n_draws,)), condition=self._tensor(x)
            )
        return draws[:, 0].numpy(), np.asarray(density[:, 0].double().numpy())

    @torch.no_grad()
    def _log_prob(self, z: NDArray[np.float32], x: NDArray[np.float32]) -> NDArray[np.float64]:
        pairs = zip(torch.as_tensor(z).split(2048), self._tensor(x).split(2048), strict=True)
        with one_thread():
            parts = [self.net_.log_prob(a[None], condition=b)[0] for a, b in pairs]
        return np.asarray(torch.cat(parts).double().numpy())

    def _state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        parts = ("encoder", "density", "training", "pretraining", "finishing")
        weights = {f"density.{k}": v for k, v in self.net_.state_dict().items()}
        weights |= {f"regressor.{k}": v for k, v in self.regressor_._state()[1].items()}
        return {part: getattr(self, part).model_dump() for part in parts}, weights

    @classmethod
    def _restore(cls, settings: Mapping[str, Any]) -> Self:
        return cls(
            EncoderSettings(**settings["encoder"]),
            DensitySettings(**settings["density"]),
            TrainingSettings(**settings["training"]),
            TrainingSettings(**settings["pretraining"]),
            TrainingSettings(**settings["finishing"]),
        )

    def _load_weights(self, weights: dict[str, Tensor]) -> None:
        self.regressor_ = Regressor(self.encoder, self.pretraining)
        self.regressor_._like(self)
        self.regressor_._load_weights(part(weights, "regressor."))
        self.net_ = self._build(Embedding(self._make_encoder()))
        self.net_.load_state_dict(part(weights, "density."))
        self.net_.eval()

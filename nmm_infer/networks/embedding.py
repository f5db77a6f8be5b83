"""What a density is told of an observation."""

from __future__ import annotations

import torch
from sklearn.covariance import ledoit_wolf
from torch import Tensor, nn

from nmm_infer.networks.encoder import Encoder
from nmm_infer.networks.features import FeatureEncoder

__all__ = ["Embedding"]


class Embedding(nn.Module):
    """An encoder's summary, whitened, and beside it what is known without learning.

    The units of an encoder are correlated, and what tells a parameter may be a small difference
    between large ones: whitened, all directions have the same variance. Size and context of the
    observation (or its named features) go with them as they are, so that the density need not find
    them again in the summary.

    Parameters
    ----------
    encoder : Encoder or FeatureEncoder
        The encoder.
    """

    location: Tensor
    scales: Tensor

    def __init__(self, encoder: Encoder | FeatureEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        width = encoder.settings.width
        self.register_buffer("location", torch.zeros(width))
        self.register_buffer("scales", torch.eye(width))

    @property
    def width(self) -> int:
        """Numbers that the density is told."""
        return self.encoder.settings.width + self.encoder.n_known

    @torch.no_grad()
    def fit(self, x: Tensor) -> Embedding:
        """Take mean and covariance of the summaries of training observations.

        The covariance is shrunk (Ledoit and Wolf 2004), so that few observations do not blow up
        directions in which they hardly differ.
        """
        summaries = self.encoder(x).double()
        covariance, _ = ledoit_wolf(summaries.numpy())
        values, vectors = torch.linalg.eigh(torch.as_tensor(covariance))
        self.location.copy_(summaries.mean(0))
        self.scales.copy_(vectors / values.clamp_min(1e-12).sqrt())
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Map what the encoder reads, (n, input), to (n, width)."""
        summary = (self.encoder(x) - self.location) @ self.scales
        return torch.cat([summary, self.encoder.known(x)], dim=1)

"""What a density is told of an observation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nmm_infer.networks.encoder import Encoder
from nmm_infer.networks.features import FeatureEncoder

__all__ = ["Embedding"]


class Embedding(nn.Module):
    """An encoder's summary, and beside it what is known without learning.

    Size and context of the observation (or its named features) go to the density as they are, so
    that it need not find them again in the summary.

    Parameters
    ----------
    encoder : Encoder or FeatureEncoder
        The encoder.
    """

    def __init__(self, encoder: Encoder | FeatureEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    @property
    def width(self) -> int:
        """Numbers that the density is told."""
        return self.encoder.settings.width + self.encoder.n_known

    def forward(self, x: Tensor) -> Tensor:
        """Map what the encoder reads, (n, input), to (n, width)."""
        return torch.cat([self.encoder(x), self.encoder.known(x)], dim=1)

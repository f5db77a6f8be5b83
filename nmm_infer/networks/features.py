"""An encoder of named features."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nmm_infer.networks.mlp import MLP
from nmm_infer.settings import EncoderSettings

__all__ = ["FeatureEncoder"]


class FeatureEncoder(nn.Module):
    """Summarise named features, which have no order in time, in one vector.

    Each feature x becomes asinh((x - median) / spread), with the interquartile range of training
    as the spread: features of very different units and with long tails come to order one.

    Parameters
    ----------
    n_features : int
        Number of features.
    settings : EncoderSettings
        Architecture; the backbone is :class:`MLP`.
    """

    location: Tensor
    spread: Tensor

    def __init__(self, n_features: int, settings: EncoderSettings) -> None:
        super().__init__()
        self.settings = settings
        self.register_buffer("location", torch.zeros(n_features))
        self.register_buffer("spread", torch.ones(n_features))
        self.direct = MLP(n_features, settings.width)

    @torch.no_grad()
    def fit(self, x: Tensor) -> FeatureEncoder:
        """Take the scales of training features, shape (n, feature)."""
        low, middle, high = (
            torch.quantile(x, q, dim=0) for q in (0.25, 0.5, 0.75)
        )  # fmt: skip
        spread = torch.where(high > low, high - low, x.std(0))
        self.location.copy_(middle)
        self.spread.copy_(torch.where(spread > 1e-12, spread, torch.ones_like(spread)))
        return self

    @property
    def n_known(self) -> int:
        """Length of :meth:`known`."""
        return len(self.location)

    def known(self, x: Tensor) -> Tensor:
        """Return the features, of order one, shape (n, feature)."""
        return torch.asinh((x - self.location) / self.spread)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, feature) to (n, width)."""
        return self.direct(self.known(x))

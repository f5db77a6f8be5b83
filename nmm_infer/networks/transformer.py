"""Transformer backbone."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["Transformer"]


class Transformer(nn.Module):
    """Let all tokens attend to each other (pre-norm encoder, learned positions).

    Parameters
    ----------
    width : int
        Size of the tokens and of the summary.
    layers : int
        Encoder layers with 4 heads and a feed-forward part of twice the width.
    n_tokens : int
        Length of the sequences of tokens.
    """

    def __init__(self, width: int, layers: int, n_tokens: int) -> None:
        super().__init__()
        self.position = nn.Parameter(0.02 * torch.randn(n_tokens, width))
        layer = nn.TransformerEncoderLayer(
            width, nhead=4, dim_feedforward=2 * width, dropout=0.0, activation="gelu",
            batch_first=True, norm_first=True,
        )  # fmt: skip
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.summary = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width))

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (n, token, width) to (n, width): mean over tokens."""
        return self.summary(self.encoder(tokens + self.position).mean(1))

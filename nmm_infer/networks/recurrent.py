"""Recurrent backbones: LSTMs in one direction or both."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["LSTM", "BiLSTM"]


class BiLSTM(nn.Module):
    """Read a sequence of tokens in both directions.

    Parameters
    ----------
    width : int
        Size of the tokens and of the summary.
    layers : int
        LSTM layers, each with ``width / 2`` units a direction.
    """

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, width // 2, layers, batch_first=True, bidirectional=True)
        self.summary = nn.Sequential(nn.LayerNorm(2 * width), nn.Linear(2 * width, width))

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (n, token, width) to (n, width): last states and mean over tokens."""
        states, (hidden, _) = self.lstm(tokens)
        last = torch.cat([hidden[-2], hidden[-1]], dim=-1)
        return self.summary(torch.cat([last, states.mean(1)], dim=-1))


class LSTM(nn.Module):
    """Read a sequence of tokens forwards.

    Parameters
    ----------
    width : int
        Size of the tokens, of the states and of the summary.
    layers : int
        LSTM layers.
    """

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, width, layers, batch_first=True)
        self.summary = nn.Sequential(nn.LayerNorm(2 * width), nn.Linear(2 * width, width))

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (n, token, width) to (n, width): last state and mean over tokens."""
        states, (hidden, _) = self.lstm(tokens)
        return self.summary(torch.cat([hidden[-1], states.mean(1)], dim=-1))

"""The encoder: one backbone for point regression and for posterior estimation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nmm_infer.networks.recurrent import BiLSTM
from nmm_infer.networks.standardise import Standardise
from nmm_infer.networks.transformer import Transformer
from nmm_infer.settings import EncoderSettings

__all__ = ["Encoder"]


class Encoder(nn.Module):
    """Summarise a sequence in one vector.

    Parameters
    ----------
    n_steps : int
        Length of the sequences, at most 150.
    logarithmic : bool
        Whether the values are powers.
    settings : EncoderSettings
        Architecture.
    """

    def __init__(self, n_steps: int, logarithmic: bool, settings: EncoderSettings) -> None:
        super().__init__()
        if n_steps > 150:
            raise ValueError(f"the encoder reads at most 150 steps, got {n_steps}")
        self.settings = settings
        self.standardise = Standardise(n_steps, logarithmic)
        self.n_tokens = -(-n_steps // settings.patch)
        self.padding = self.n_tokens * settings.patch - n_steps
        n_inputs = settings.patch * Standardise.n_features
        self.tokens = nn.Linear(n_inputs, settings.width)
        self.backbone: nn.Module
        if settings.backbone == "bilstm":
            self.backbone = BiLSTM(settings.width, settings.layers)
        else:
            self.backbone = Transformer(settings.width, settings.layers, self.n_tokens)
        # A direct linear path: what a linear read-out can tell is there from the first step.
        self.shortcut = nn.Linear(n_steps + 1, settings.width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, step), in the protocol's units, to (n, width)."""
        features = self.standardise(x)
        direct = torch.cat([features[..., 0], features[:, :1, 1]], dim=-1)
        padded = nn.functional.pad(features, (0, 0, 0, self.padding))
        tokens = self.tokens(padded.reshape(len(x), self.n_tokens, -1))
        return self.backbone(tokens) + self.shortcut(direct)

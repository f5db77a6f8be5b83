"""The encoder: one backbone for point regression and for posterior estimation."""

from __future__ import annotations

from torch import Tensor, nn

from nmm_infer.networks.convolution import Convolution
from nmm_infer.networks.mlp import MLP
from nmm_infer.networks.recurrent import LSTM, BiLSTM
from nmm_infer.networks.standardise import Standardise
from nmm_infer.networks.transformer import Transformer
from nmm_infer.settings import EncoderSettings

__all__ = ["Encoder"]

MAX_STEPS, MAX_COMPONENTS = 150, 16


class Encoder(nn.Module):
    """Summarise an observation in one vector.

    The sequence is standardised (:class:`Standardise`), cut into patches that make the tokens of
    the backbone, and read by it. Beside the backbone, all encoders have the same direct path from
    the whole observation to the summary (:class:`MLP`); the two are added. The direct path learns
    in a few epochs what an LSTM or a transformer needs many for, and the backbone adds to it.

    Parameters
    ----------
    n_steps : int
        Length of the sequences, at most 150.
    logarithmic : bool
        Whether the values are powers.
    settings : EncoderSettings
        Architecture.
    n_components : int
        Values at each step, at most 16.
    n_context : int
        Numbers that are known of each observation beside its values.
    """

    def __init__(
        self,
        n_steps: int,
        logarithmic: bool,
        settings: EncoderSettings,
        n_components: int = 1,
        n_context: int = 0,
    ) -> None:
        super().__init__()
        if n_steps > MAX_STEPS:
            raise ValueError(f"the encoder reads at most {MAX_STEPS} steps, got {n_steps}")
        if n_components > MAX_COMPONENTS:
            raise ValueError(
                f"the encoder reads at most {MAX_COMPONENTS} components, got {n_components}"
            )
        self.settings = settings
        self.standardise = Standardise(n_steps, logarithmic, n_components, n_context)
        self.direct = MLP(self.standardise.n_flat, settings.width)
        self.n_tokens = -(-n_steps // settings.patch)
        self.padding = self.n_tokens * settings.patch - n_steps
        self.tokens: nn.Module | None = None
        self.backbone: nn.Module | None = None
        if settings.backbone != "mlp":
            self.tokens = self._make_tokens()
            self.backbone = self._make_backbone()

    def _make_tokens(self) -> nn.Module:
        settings, n_features = self.settings, self.standardise.n_features
        if settings.backbone == "cnn_bilstm":
            return Convolution(n_features, settings.width, settings.patch)
        return nn.Sequential(
            nn.Unflatten(1, (self.n_tokens, settings.patch)),
            nn.Flatten(2),
            nn.Linear(settings.patch * n_features, settings.width),
        )

    def _make_backbone(self) -> nn.Module:
        width, layers = self.settings.width, self.settings.layers
        if self.settings.backbone == "transformer":
            return Transformer(width, layers, self.n_tokens)
        if self.settings.backbone == "lstm":
            return LSTM(width, layers)
        return BiLSTM(width, layers)

    def fit(self, x: Tensor) -> Encoder:
        """Take the scales of training observations, shape (n, step * component + context)."""
        self.standardise.fit(x)
        return self

    @property
    def n_known(self) -> int:
        """Length of :meth:`known`."""
        return 1 + self.standardise.n_context

    def known(self, x: Tensor) -> Tensor:
        """Return log size and context of observations, of order one, shape (n, 1 + context)."""
        return self.standardise.summary(x)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, step * component + context), in the protocol's units, to (n, width)."""
        known = self.standardise(x)
        summary = self.direct(known.flat)
        if self.tokens is None or self.backbone is None:
            return summary
        padded = nn.functional.pad(known.steps, (0, 0, 0, self.padding))
        return summary + self.backbone(self.tokens(padded))

"""Tokens by convolution, for the CNN-BiLSTM."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["Convolution"]


class Convolution(nn.Module):
    """Filter a sequence in time, one token for every patch.

    The convolution moves by a patch and sees the patches before and after it as well; a layer
    mixes its filters at each token.

    Parameters
    ----------
    n_features : int
        Numbers at each step.
    width : int
        Filters, and size of the tokens.
    patch : int
        Steps from one token to the next.
    """

    def __init__(self, n_features: int, width: int, patch: int) -> None:
        super().__init__()
        self.filters = nn.Conv1d(n_features, width, 3 * patch, stride=patch, padding=patch)
        self.mix = nn.Sequential(nn.GELU(), nn.Linear(width, width), nn.GELU())

    def forward(self, steps: Tensor) -> Tensor:
        """Map (n, step, feature), a whole number of patches, to (n, token, width)."""
        return self.mix(self.filters(steps.mT).mT)

"""The direct path: a linear map and a small perceptron, side by side."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["MLP"]


class MLP(nn.Module):
    """Read a whole observation at once.

    What a linear read-out can tell is there from the first step of training; two hidden layers
    learn the rest.

    Parameters
    ----------
    n_inputs : int
        Numbers in one observation.
    width : int
        Size of the summary; the hidden layers are twice as wide.
    """

    def __init__(self, n_inputs: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(n_inputs, width)
        self.hidden = nn.Sequential(
            nn.Linear(n_inputs, 2 * width), nn.GELU(),
            nn.Linear(2 * width, 2 * width), nn.GELU(),
            nn.Linear(2 * width, width),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, input) to (n, width)."""
        return self.linear(x) + self.hidden(x)

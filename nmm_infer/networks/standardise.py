"""From physical sequences to numbers of order one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["Standardise"]


class Standardise(nn.Module):
    """Separate the shape of a sequence from its size, and bring both to order one.

    An evoked time course is divided by its own root mean square and compressed by asinh; a power
    spectrum is taken in logarithms and standardised frequency by frequency. The logarithm of the
    size follows as a second, constant feature.

    Parameters
    ----------
    n_steps : int
        Length of the sequences.
    logarithmic : bool
        Whether the values are powers.
    """

    location: Tensor
    scale: Tensor
    size_location: Tensor
    size_scale: Tensor

    n_features = 2

    def __init__(self, n_steps: int, logarithmic: bool) -> None:
        super().__init__()
        self.logarithmic = logarithmic
        self.register_buffer("location", torch.zeros(n_steps))
        self.register_buffer("scale", torch.ones(n_steps))
        self.register_buffer("size_location", torch.zeros(()))
        self.register_buffer("size_scale", torch.ones(()))

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.logarithmic:
            shape = torch.log(x.clamp_min(1e-12))
            return shape, shape.mean(-1)
        size = (x**2).mean(-1).clamp_min(1e-16).sqrt()
        return torch.asinh(2.0 * x / size[:, None]), torch.log(size)

    @torch.no_grad()
    def fit(self, x: Tensor) -> Standardise:
        """Take location and scale from training sequences, shape (n, step)."""
        shape, size = self._split(x)
        if self.logarithmic:
            self.location.copy_(shape.mean(0))
            self.scale.copy_(shape.std(0).clamp_min(1e-3))
        self.size_location.copy_(size.mean())
        self.size_scale.copy_(size.std().clamp_min(1e-3))
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, step) to (n, step, 2)."""
        shape, size = self._split(x)
        shape = (shape - self.location) / self.scale
        size = (size - self.size_location) / self.size_scale
        return torch.stack([shape, size[:, None].expand_as(shape)], dim=-1)

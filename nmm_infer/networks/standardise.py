"""From physical sequences to numbers of order one."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

__all__ = ["Standardise", "Standardised"]


class Standardised(NamedTuple):
    """A batch of observations as numbers of order one.

    Parameters
    ----------
    shape : torch.Tensor, shape (n, step, component)
        Form of the sequence, free of its size; components keep their relative sizes.
    amplitude : torch.Tensor, shape (n, step, component)
        The sequence on a scale that is the same for all observations.
    summary : torch.Tensor, shape (n, 1 + context)
        Log size, and the context.
    """

    shape: Tensor
    amplitude: Tensor
    summary: Tensor

    @property
    def steps(self) -> Tensor:
        """All that is known at each step, shape (n, step, 2 * component + 1 + context)."""
        repeated = self.summary[:, None].expand(-1, self.shape.shape[1], -1)
        return torch.cat([self.shape, self.amplitude, repeated], dim=-1)

    @property
    def flat(self) -> Tensor:
        """All that is known, shape (n, 2 * step * component + 1 + context)."""
        return torch.cat([self.shape.flatten(1), self.amplitude.flatten(1), self.summary], dim=-1)


class Standardise(nn.Module):
    """Unpack observations, and bring them to order one in two ways.

    The *shape* of an evoked time course is the course over its own root mean square (of all
    components together), compressed by asinh; that of a power spectrum its logarithm less the mean
    of it, standardised frequency by frequency. The logarithm of the size goes with it. Small
    responses show as well as large ones, whatever the amplitude says.

    The *amplitude* is on one scale for all observations: asinh(x / scale), with the median size
    in training as the scale, or the logarithm of the power, standardised frequency by frequency.
    What a unit of noise is stays the same from one observation to the next, so noise of a known
    level can be told from signal.

    Parameters
    ----------
    n_steps : int
        Length of the sequences.
    logarithmic : bool
        Whether the values are powers.
    n_components : int
        Values at each step.
    n_context : int
        Numbers that are known of each observation beside its values.
    """

    scale: Tensor
    shape_location: Tensor
    shape_spread: Tensor
    amplitude_location: Tensor
    amplitude_spread: Tensor
    summary_location: Tensor
    summary_spread: Tensor

    def __init__(
        self, n_steps: int, logarithmic: bool, n_components: int = 1, n_context: int = 0
    ) -> None:
        super().__init__()
        self.logarithmic = logarithmic
        self.n_steps, self.n_components, self.n_context = n_steps, n_components, n_context
        grid = (n_steps, n_components)
        self.register_buffer("scale", torch.ones(()))
        for name, size in (("shape", grid), ("amplitude", grid), ("summary", (1 + n_context,))):
            self.register_buffer(f"{name}_location", torch.zeros(size))
            self.register_buffer(f"{name}_spread", torch.ones(size))

    @property
    def n_inputs(self) -> int:
        """Numbers in one observation."""
        return self.n_steps * self.n_components + self.n_context

    @property
    def n_features(self) -> int:
        """Numbers that are known at each step."""
        return 2 * self.n_components + 1 + self.n_context

    @property
    def n_flat(self) -> int:
        """Numbers that are known altogether."""
        return 2 * self.n_steps * self.n_components + 1 + self.n_context

    def _values(self, x: Tensor) -> Tensor:
        values = x[:, : self.n_steps * self.n_components]
        values = values.reshape(-1, self.n_steps, self.n_components)
        return torch.log(values.clamp_min(1e-12)) if self.logarithmic else values

    def _size(self, values: Tensor) -> Tensor:
        """Return the mean of logarithms, or the root mean square, shape (n,)."""
        if self.logarithmic:
            return values.mean((1, 2))
        return (values**2).mean((1, 2)).clamp_min(1e-16).sqrt()

    def _told(self, x: Tensor, size: Tensor) -> Tensor:
        """Return log size and context, shape (n, 1 + context)."""
        size = size if self.logarithmic else torch.log(size)
        return torch.cat([size[:, None], x[:, self.n_steps * self.n_components :]], dim=1)

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        values = self._values(x)
        size = self._size(values)
        if self.logarithmic:
            return values - size[:, None, None], values, self._told(x, size)
        shape = torch.asinh(2.0 * values / size[:, None, None])
        return shape, torch.asinh(values / self.scale), self._told(x, size)

    @torch.no_grad()
    def fit(self, x: Tensor) -> Standardise:
        """Take scales from training observations, shape (n, step * component + context)."""
        if not self.logarithmic:
            self.scale.fill_(1.0)
            self.scale.copy_(torch.exp(self._split(x)[2][:, 0]).median().clamp_min(1e-12))
        shape, amplitude, summary = self._split(x)
        if self.logarithmic:
            self.shape_location.copy_(shape.mean(0))
            self.shape_spread.copy_(_spread(shape))
            self.amplitude_location.copy_(amplitude.mean(0))
            self.amplitude_spread.copy_(_spread(amplitude))
        self.summary_location.copy_(summary.mean(0))
        self.summary_spread.copy_(_spread(summary))
        return self

    def forward(self, x: Tensor) -> Standardised:
        """Standardise observations, shape (n, step * component + context)."""
        shape, amplitude, summary = self._split(x)
        return Standardised(
            (shape - self.shape_location) / self.shape_spread,
            (amplitude - self.amplitude_location) / self.amplitude_spread,
            (summary - self.summary_location) / self.summary_spread,
        )

    def summary(self, x: Tensor) -> Tensor:
        """Return what :meth:`forward` returns as ``summary``, without the rest."""
        told = self._told(x, self._size(self._values(x)))
        return (told - self.summary_location) / self.summary_spread


def _spread(x: Tensor) -> Tensor:
    """Return standard deviations; one for what does not vary in training."""
    spread = x.std(0)
    return torch.where(spread > 1e-6, spread, torch.ones_like(spread))

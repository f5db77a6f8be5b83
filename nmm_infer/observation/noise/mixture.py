"""Several kinds of noise in stated shares."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from nmm_infer.errors import InputError

__all__ = ["Mixture", "NoiseSource", "sampling_rates"]


@runtime_checkable
class NoiseSource(Protocol):
    """What every kind of noise offers."""

    @property
    def channels(self) -> tuple[str, ...]:
        """Channel names."""

    def sample(self, n: int, n_times: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """Draw noise, shape (n, channel, n_times), in the channels' units."""


def sampling_rates(noise: NoiseSource) -> list[float]:
    """Return the different sampling rates in Hz that noise is made for; white noise has none."""
    rates = [rate for part in getattr(noise, "parts", ()) for rate in sampling_rates(part)]
    own = getattr(noise, "sfreq", None)
    if own is None and hasattr(noise, "info"):
        own = noise.info["sfreq"]
    if own is not None:
        rates.append(float(own))
    return sorted({round(rate, 4) for rate in rates})


@dataclass(frozen=True, eq=False)
class Mixture:
    """A sum of independent kinds of noise, by their shares of the mean power.

    Parameters
    ----------
    parts : tuple of NoiseSource
        The kinds, of the same channels, which are of one type, at the same sampling rate.
    shares : tuple of float
        Share of each in the mean power over channels, samples and windows; their sum is 1.
    level : float
        Root mean square of the sum, in V (MEG: T or T/m). Multiply a draw by
        :func:`level_for_snr` to have a signal-to-noise ratio instead.
    factors : tuple of float, optional
        What each part is multiplied by, from :meth:`calibrated`. Without, each part is scaled to
        its share in every draw.

    Raises
    ------
    InputError
        If channels, types or sampling rates differ, or the shares are not those of a whole, or
        factors are not possible.

    Notes
    -----
    Shares hold over a whole draw, not in each window: that is what a share of a sparse artefact
    means. Scaling by the draw makes them exact, but a draw of few windows is then unlike single
    windows of a large one, and a sparse part may be absent from it. Where draws are small or of
    different sizes (training in batches, one recording), use :meth:`calibrated`, whose factors are
    the same in all. The parts are independent, so their powers add up to ``level ** 2`` within
    sampling error.
    """

    parts: tuple[NoiseSource, ...]
    shares: tuple[float, ...]
    level: float
    factors: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if not self.parts or len(self.parts) != len(self.shares):
            raise InputError(
                f"a mixture of {len(self.parts)} kinds of noise has {len(self.shares)} shares: "
                "give one share for each kind"
            )
        if min(self.shares) <= 0 or not np.isclose(sum(self.shares), 1.0):
            raise InputError(
                f"the shares {', '.join(f'{s:g}' for s in self.shares)} of a mixture must be above "
                "0 and sum to 1"
            )
        if not (np.isfinite(self.level) and self.level > 0):
            raise InputError(f"the level of a mixture is {self.level:g}: it must be above 0")
        if any(part.channels != self.channels for part in self.parts):
            raise InputError(
                "the kinds of noise in a mixture have different channels: make all from one "
                "mne.Info"
            )
        rates = sampling_rates(self)
        if len(rates) > 1:
            raise InputError(
                "the kinds of noise in a mixture are sampled at "
                f"{', '.join(f'{rate:g}' for rate in rates)} Hz: make all at one rate"
            )
        infos = [part.info for part in self.parts if hasattr(part, "info")]
        types = sorted({kind for info in infos for kind in info.get_channel_types(unique=True)})
        if len(types) > 1:
            raise InputError(
                f"a mixture of channels of types {', '.join(types)} has no mean power, since their "
                "units differ: make one mixture a type"
            )
        if self.factors is not None and (
            len(self.factors) != len(self.parts)
            or not (np.isfinite(self.factors).all() and min(self.factors) > 0)
        ):
            raise InputError(
                f"the factors of a mixture are {self.factors}: give one above 0 for each of its "
                f"{len(self.parts)} kinds, or take Mixture.calibrated"
            )

    @property
    def channels(self) -> tuple[str, ...]:
        """Channel names."""
        return self.parts[0].channels

    def sample(self, n: int, n_times: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """Draw noise, shape (n, channel, n_times), in V (MEG: T, T/m).

        Raises
        ------
        InputError
            If a part without fixed factor is absent from the draw.
        """
        result = np.zeros((n, len(self.channels), n_times), dtype=np.float32)
        for k, part in enumerate(self.parts):
            draw = part.sample(n, n_times, rng)
            result += draw * np.float32(
                self._factor(k, draw) if self.factors is None else self.factors[k]
            )
        return result

    def calibrated(self, n: int, n_times: int, rng: np.random.Generator) -> Mixture:
        """Fix the factors by one large draw, so that later draws may be of any size.

        Parameters
        ----------
        n, n_times : int, int
            Size of the draw; windows as long as those that will be drawn.
        rng : numpy.random.Generator
            For the draw.

        Returns
        -------
        Mixture
            The same mixture with fixed ``factors``.

        Raises
        ------
        InputError
            If a part is absent from the draw.
        """
        factors = (self._factor(k, p.sample(n, n_times, rng)) for k, p in enumerate(self.parts))
        return replace(self, factors=tuple(factors))

    def _factor(self, k: int, draw: NDArray[np.float32]) -> float:
        power = np.square(draw, dtype=np.float64).mean()
        if power == 0:
            raise InputError(
                f"part {k} of the mixture ({type(self.parts[k]).__name__}) is absent from a draw "
                f"of {len(draw)} windows: draw more windows, use Mixture.calibrated, or give the "
                "part present=True"
            )
        return float(self.level * np.sqrt(self.shares[k] / power))

"""Few whitened components in the place of many sensors."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from nmm_infer import _random
from nmm_infer.anatomy import SensorOperator
from nmm_infer.errors import InputError
from nmm_infer.observation.noise import Noise, NoiseKind

__all__ = ["ComponentNoise", "spatial_components"]

_DRAWS = 2000  # windows that a covariance is estimated from where none is known
_RANK = 1e-9  # eigenvalues below this share of the largest are those of a reference


def spatial_components(
    leadfield: NDArray[np.float64],
    covariance: NDArray[np.float64],
    channels: tuple[str, ...],
    n_components: int,
) -> SensorOperator:
    r"""Return the map from sensors to the first components of the whitened lead field.

    With :math:`W` such that :math:`W \Sigma W^T = I` on the range of the noise covariance
    :math:`\Sigma`, and :math:`W L = U S V^T`, the components are :math:`U_k^T W x`: white noise of
    unit variance, and as much of what the regions can send as any k numbers hold. For one region
    the first one is the matched filter, and no other holds any signal.

    Parameters
    ----------
    leadfield : numpy.ndarray, shape (channel, column)
        Signals of the regions after reference.
    covariance : numpy.ndarray, shape (channel, channel)
        Noise after reference, of any rank.
    channels : tuple of str
        Names of the rows.
    n_components : int
        How many.

    Returns
    -------
    SensorOperator
        From the channels to ``component 1``, ...; in standard deviations of the noise.

    Raises
    ------
    InputError
        If lead field and noise have no more components than are asked for.
    """
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    kept = values > _RANK * values.max()
    whitener = (vectors[:, kept] / np.sqrt(values[kept])).T
    u, s, _ = np.linalg.svd(whitener @ leadfield, full_matrices=False)
    rank = int((s > _RANK * s.max()).sum())
    if n_components > rank:
        raise InputError(
            f"components: {n_components} are asked for, but the lead field of these regions has "
            f"{rank}: lower protocol.components"
        )
    matrix = u[:, :n_components].T @ whitener
    seen = matrix @ leadfield
    matrix *= np.where(seen[np.arange(len(seen)), np.abs(seen).argmax(axis=1)] < 0, -1, 1)[:, None]
    names = tuple(f"component {k + 1}" for k in range(n_components))
    return SensorOperator(matrix, names, channels, units="1")


@dataclass(frozen=True, eq=False)
class ComponentNoise:
    """A kind of noise as its own whitened components show it.

    Parameters
    ----------
    kind : NoiseKind
        The noise at the sensors.
    matrix : numpy.ndarray, shape (component, channel)
        Map from the sensors, in standard deviations of the noise at its unit level.
    noise : Noise, optional
        The noise of the components, where it is Gaussian.
    """

    kind: NoiseKind
    matrix: NDArray[np.float32]
    noise: Noise | None

    @classmethod
    def of(
        cls, kind: NoiseKind, leadfield: NDArray[np.float64], n_components: int, n_times: int
    ) -> Self:
        """Whiten by the covariance of the noise; that of a large draw where it is not Gaussian."""
        source = kind.noise
        if isinstance(source, Noise):
            covariance = source.spatial
        else:
            draw = source.sample(_DRAWS, n_times, _random.generator(0, "components"))
            flat = np.moveaxis(draw, 1, 0).reshape(draw.shape[1], -1).astype(np.float64)
            covariance = flat @ flat.T / flat.shape[1]
        channels = tuple(source.channels)
        return cls.through(kind, spatial_components(leadfield, covariance, channels, n_components))

    @classmethod
    def through(cls, kind: NoiseKind, operator: SensorOperator) -> Self:
        """Look at a kind of noise through components that are known."""
        source = kind.noise
        order = [operator.inputs.index(name) for name in source.channels]
        own = source.through(operator) if isinstance(source, Noise) else None
        return cls(kind, operator.matrix[:, order].astype(np.float32), own)

    def compare(self, noise: Noise, factor: float = 1.0) -> None:
        """Warn where the noise of a recording differs from this kind at a level.

        Parameters
        ----------
        noise : Noise
            Noise of the recording.
        factor : float
            What this kind is multiplied by.
        """
        spatial = noise.of_channels(self.kind.noise.channels).spatial
        ratio = np.einsum("ki,ij,kj->k", self.matrix, spatial, self.matrix) / factor**2
        worst = ratio[np.abs(np.log(np.maximum(ratio, 1e-12))).argmax()]
        if not 0.5 <= worst <= 2.0:
            warnings.warn(
                f"the noise of this recording has {worst:.2g} times the variance that its "
                "components are taken to have, so that answers are surer or less sure than they "
                "should be. Train with an observer of the recording (Observer.like, or "
                "column_observer(study, observation))",
                UserWarning,
                stacklevel=3,
            )

    def sample(self, n: int, n_times: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """Draw noise of the components, shape (n, component, n_times)."""
        if self.noise is not None:
            return self.noise.sample(n, n_times, rng)
        return np.asarray(self.matrix @ self.kind.noise.sample(n, n_times, rng))

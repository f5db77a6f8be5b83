"""The exact likelihood of a column without noise of its own, seen through Gaussian sensor noise."""

from __future__ import annotations

import copy
from functools import cached_property
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import toeplitz

from nmm_infer.campaign import OK
from nmm_infer.errors import InputError
from nmm_infer.observation import EvokedProtocol, Noise, NoiseLevels, Observer
from nmm_infer.observation.conditioning import time_operator
from nmm_infer.parameters import Prior
from nmm_infer.scenarios import ColumnTask

__all__ = ["GaussianLikelihood"]

_RANK = 1e-9  # directions that baseline and mean take away have no noise at all


class GaussianLikelihood:
    r"""Density of an observation given the parameters of a column.

    Without noise on its drive a column's response :math:`s(\theta)` is one curve, and all that the
    protocol does to it and to the noise is linear. With the noise :math:`N(0, \Sigma)` of the
    components and the matrix :math:`M` that takes away baseline and mean, an observation is
    :math:`M (s(\theta) + \epsilon)`. On the range of :math:`M \Sigma M^T` it is whitened, so that

    .. math:: \log p(y | \theta) = - |y - \mu(\theta)|^2 / 2 - (m / 2) \log 2 \pi

    with :math:`m` the rank. Parameters outside of the task's stratum have no likelihood: they are
    no part of the prior.

    Parameters
    ----------
    task : ColumnTask
        The column; its prior has no noise on the drive.
    observer : Observer
        With ``protocol.components`` and one region; noise that is Gaussian.
    kind, snr : str, float, optional
        Which noise it is, where the observer's differs from run to run.

    Attributes
    ----------
    prior : Prior
        The parameters that are not fixed.

    Raises
    ------
    InputError
        If the likelihood is not exact: noise on the drive, noise that is not Gaussian, trials that
        come early or late, a random onset, several regions, or a protocol that is not linear.
    """

    _dtype: Literal["float32", "float64"] = "float32"

    def __init__(
        self,
        task: ColumnTask,
        observer: Observer,
        *,
        kind: str | None = None,
        snr: float | None = None,
    ) -> None:
        if not isinstance(observer, Observer):
            raise InputError(f"likelihood: give an observer, not a {type(observer).__name__}")
        if not isinstance(task, ColumnTask):
            raise InputError(f"likelihood: give a task of one column, not a {type(task).__name__}")
        protocol, noise = observer.protocol, observer.noise
        reasons = {
            "the drive is noisy (prior.noise)": task.noisy,
            "pulses come at a random time (column.jitter)": task.jitter > 0,
            "the protocol is not linear (an evoked one with components is)": not isinstance(
                protocol, EvokedProtocol
            )
            or protocol.components is None,
            "there are several regions": len(observer.head.regions) != 1,
        }
        for reason, holds in reasons.items():
            if holds:
                raise InputError(f"the likelihood is not exact: {reason}")
        self._factor, place = 1.0, 0
        if isinstance(noise, NoiseLevels):
            if kind is None or snr is None or kind not in noise.kinds or snr not in noise.levels:
                raise InputError(
                    f"the observer's noise differs from run to run: name its kind (of "
                    f"{', '.join(noise.kinds)}) and snr (of {', '.join(map(str, noise.snrs))})"
                )
            self._factor, place = noise.levels[snr][kind], list(noise.kinds).index(kind)
        elif kind is not None or snr is not None:
            raise InputError("kind and snr choose among noise levels; this observer has one noise")
        part = observer.channels_to_components[place]
        if part.kind.jitter > 0 or not isinstance(part.noise, Noise):
            raise InputError("the likelihood is not exact: this noise is not Gaussian")
        self.task, self.observer = task, observer
        names = [p.name for p in task.prior.parameters if p.distribution != "fixed"]
        self.prior: Prior = task.prior.select(names)
        self.n_steps, self.n_components = protocol.n_steps, protocol.n_components

        times = len(protocol.times)
        level = observer.level(np.eye(times)).T  # acts from the left on columns of time
        covariance = level @ toeplitz(part.noise.autocorrelation[:times]) @ level.T
        values, vectors = np.linalg.eigh(covariance)
        kept = values > _RANK * values.max()
        whitener = (vectors[:, kept] / np.sqrt(values[kept])).T
        self._whitener = whitener  # (rank, step), of what the observer returns
        clock = task.clock
        low, high = observer.band
        operator = time_operator(
            clock.n_samples, clock.sfreq, clock.start, protocol.times,
            low if low > 0 else None, high, protocol.notch,
        )  # fmt: skip
        operator = operator.copy()
        operator[0] -= operator.sum(axis=0)  # the first sample is taken from all
        self._response = operator @ level.T @ whitener.T  # (sample, rank)
        self._gain = (part.matrix @ observer._leadfield)[:, 0].astype(float) / self._factor

    @property
    def size(self) -> int:
        """Numbers in a whitened observation."""
        return self.n_components * len(self._whitener)

    @property
    def precise(self) -> Self:
        """The same likelihood, simulated in float64: for derivatives by differences."""
        other = copy.copy(self)
        other._dtype = "float64"
        return other

    @cached_property
    def _fixed(self) -> dict[str, float]:
        fixed = [p for p in self.task.prior.parameters if p.distribution == "fixed"]
        return {p.name: p.low for p in fixed}

    def whiten(self, values: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return whitened observations, shape (..., size).

        Parameters
        ----------
        values : numpy.ndarray, shape (..., step, component) or (..., step * component)
            What the observer returns (``Sequences.values``).
        """
        values = np.asarray(values, dtype=float)
        shape = (self.n_steps, self.n_components)
        if values.shape[-2:] != shape:
            if values.shape[-1:] != (shape[0] * shape[1],):
                raise InputError(
                    f"whiten: observations are (..., {shape[0]}, {shape[1]}), got an array "
                    f"{values.shape}"
                )
            values = values.reshape(*values.shape[:-1], *shape)
        whitened = np.swapaxes(values, -1, -2) @ self._whitener.T
        return np.asarray(whitened.reshape(*whitened.shape[:-2], self.size))

    def mean(self, z: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return the whitened observation without noise.

        Parameters
        ----------
        z : numpy.ndarray, shape (n, parameter)
            Parameters in probit space.

        Returns
        -------
        means : numpy.ndarray, shape (n, size)
            Zero where not valid.
        valid : numpy.ndarray of bool, shape (n,)
            Which parameter sets belong to the stratum.
        """
        z = np.atleast_2d(np.asarray(z, dtype=float))
        n = len(z)
        if z.ndim != 2 or z.shape[1] != len(self.prior):
            raise InputError(
                f"the likelihood takes points (n, {len(self.prior)}) of "
                f"{', '.join(self.prior.names)}, got an array {z.shape}"
            )
        finite = np.asarray(np.isfinite(z).all(axis=1))
        free = self.prior.from_unconstrained(np.where(finite[:, None], z, 0.0))
        values = dict(zip(self.prior.names, free.T, strict=True))
        values |= {name: np.full(n, value) for name, value in self._fixed.items()}
        potential, status = self.task.respond(values, np.arange(n), self._dtype)
        valid = finite & (status == OK) & np.isfinite(potential).all(axis=1)
        scale = np.where(valid, values["source_scale"], 0.0)
        course = np.where(valid[:, None], potential, 0.0).astype(float) @ self._response
        course *= scale[:, None]
        means = self._gain[None, :, None] * course[:, None, :]
        return means.reshape(n, self.size), valid

    def log_prob(self, z: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the log density of one whitened observation under each parameter set, shape (n,).

        Parameters
        ----------
        z : numpy.ndarray, shape (n, parameter)
            Parameters in probit space.
        y : numpy.ndarray, shape (size,)
            A whitened observation; see :meth:`whiten`.
        """
        means, valid = self.mean(z)
        square = np.square(means - y).sum(axis=1)
        return np.where(valid, -0.5 * (square + self.size * np.log(2 * np.pi)), -np.inf)

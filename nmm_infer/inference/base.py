"""The contract of everything that learns parameters from campaigns."""

from __future__ import annotations

import json
import platform
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any, ClassVar, Self

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from pydantic import TypeAdapter
from safetensors import SafetensorError
from safetensors.torch import load_file

from nmm_infer._checks import check_whole
from nmm_infer.anatomy import Head
from nmm_infer.campaign import Campaign
from nmm_infer.errors import InputError
from nmm_infer.inference._asked import describe_observer, read_asked
from nmm_infer.inference._files import write_folder
from nmm_infer.observation import (
    Observation,
    Observer,
    Protocol,
    Recording,
    Sequences,
    View,
)
from nmm_infer.parameters import Prior

__all__ = ["Estimator", "PosteriorMixin", "load_estimator", "versions"]

_CLASSES: dict[str, type[Estimator]] = {}

#: Fewer runs cannot be divided into those that train, those that choose and those that calibrate.
MIN_RUNS = 20
_DRAWS_AT_A_TIME = 1_000_000


def versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    packages = ("nmm-infer", "numpy", "scipy", "numba", "torch", "sbi", "mne", "lightning")
    return {"python": platform.python_version(), **{p: version(p) for p in packages}}


def check_fitted(estimator: Any) -> None:
    """Raise an InputError where an estimator has no prior yet."""
    if not hasattr(estimator, "prior_"):
        name = type(estimator).__name__
        raise InputError(f"this {name} has not been fitted yet: call fit() first")


class Estimator(ABC):
    """Learns the parameters of a prior from a campaign, as an observer sees it.

    Construct with settings only. After :meth:`fit` these attributes exist:

    Attributes
    ----------
    prior_ : Prior
        The parameters that are estimated.
    protocol_ : EvokedProtocol or SpontaneousProtocol
        The protocol of the training data.
    training_ : dict
        Provenance: runs, channels, seed, losses, versions.
    """

    prior_: Prior
    protocol_: Protocol
    training_: dict[str, Any]

    _checkpoints: Path | None = None

    #: What a saved estimator is rebuilt from.
    name: ClassVar[str]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" in vars(cls):
            _CLASSES[cls.name] = cls

    def fit(
        self,
        campaign: Campaign,
        observer: Observer,
        prior: Prior | None = None,
        *,
        seed: int = 0,
        checkpoints: str | Path | None = None,
    ) -> Self:
        """Learn from the valid runs of a campaign.

        Parameters
        ----------
        campaign : Campaign
            Training runs; those that failed or were rejected are left out, and counted.
        observer : Observer
            Head, noise and protocol.
        prior : Prior, optional
            The parameters to estimate, a selection of the campaign's; fixed ones are left out.
            All of the campaign's without.
        seed : int
            Seed of initial weights and of the order of training.
        checkpoints : path, optional
            Folder in which networks keep their state after every epoch. After an interruption,
            the same call goes on from there.

        Returns
        -------
        self

        Raises
        ------
        InputError
            If ``checkpoints`` holds those of another fit, if ``prior`` is not a part of the
            campaign's, if parameters are not finite or lie outside of it, or if there are too few
            runs.
        """
        if not isinstance(campaign, Campaign):
            raise InputError(f"fit: give a campaign, not a {type(campaign).__name__}")
        if not callable(getattr(observer, "view", None)):
            raise InputError(f"fit: give an observer, not a {type(observer).__name__}")
        if prior is None:
            prior = campaign.prior
        elif campaign.has_prior:
            prior.check_part_of(campaign.prior, "the campaign")
        self.prior_ = prior.select([p.name for p in prior.parameters if p.distribution != "fixed"])
        self.protocol_ = observer.protocol
        view = observer.view(campaign, "training")
        self.training_ = {
            "estimator": self.name,
            "runs": len(view),
            "failed_runs": campaign.failed,
            "rejected_runs": campaign.rejected,
            "accepted": campaign.accepted,
            "campaign": campaign.fingerprint,
            **describe_observer(observer),
            "seed": seed,
            "versions": versions(),
        }
        if len(view) < MIN_RUNS:
            raise InputError(
                f"{len(view)} valid runs are too few to learn from: give at least {MIN_RUNS}"
            )
        target = self.prior_.to_unconstrained(view.theta, strict=True)
        self._checkpoints = None if checkpoints is None else Path(checkpoints)
        # torch's initialisation has no door but the global generator: it is put back afterwards.
        begin = perf_counter()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._fit(view, target.astype(np.float32), seed)
        self.training_["seconds"] = round(perf_counter() - begin, 1)
        return self

    def _like(self, other: Estimator) -> None:
        """Take everything from another estimator that :meth:`fit` learns but the weights."""
        self.prior_, self.protocol_ = other.prior_, other.protocol_
        self.training_ = dict(other.training_)

    @abstractmethod
    def _fit(self, view: View, target: NDArray[np.float32], seed: int) -> None:
        """Learn to predict ``target`` (n, parameter), in probit space.

        Checkpoints go to ``self._checkpoints``, if it is a folder.
        """

    @abstractmethod
    def _state(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """Return settings (JSON-ready) and weights."""

    @classmethod
    @abstractmethod
    def _restore(cls, settings: Mapping[str, Any]) -> Self:
        """Construct from settings."""

    @abstractmethod
    def _load_weights(self, weights: dict[str, torch.Tensor]) -> None:
        """Take weights; ``prior_`` and ``protocol_`` are set already."""

    @property
    def n_context(self) -> int:
        """Numbers that are known of each observation beside its values."""
        return len(self.training_["context"])

    @property
    def logarithmic(self) -> bool:
        """Whether the values are powers."""
        return self.protocol_.kind == "spontaneous"

    def flat(self, sequences: Sequences) -> NDArray[np.float32]:
        """Return what the estimator reads, shape (n, step * component + context).

        Raises
        ------
        InputError
            If there are none, or if the sequences are not those of the estimator's protocol, lack
            its context, or are not finite.
        """
        check_fitted(self)
        x, steps, components = sequences.flat, self.protocol_.n_steps, self.protocol_.n_components
        if x.shape[1] != steps * components + self.n_context:
            raise InputError(
                f"the sequences have {x.shape[1]} numbers; this estimator reads {steps} steps x "
                f"{components} component(s) + {self.n_context} of context "
                f"({', '.join(self.training_['context']) or 'none'}): observe them through its "
                "protocol and with its kind of observer"
            )
        check_finite(x)
        return x

    def sequences(
        self,
        x: View | Sequences | Observation | Recording,
        *,
        forward: Head | None = None,
        events: str | None = None,
    ) -> Sequences:
        """Turn whatever may be asked about into the sequences that the estimator reads."""
        check_fitted(self)
        return read_asked(
            x, self.protocol_, self.training_, "estimator", forward=forward, events=events
        )  # fmt: skip

    def save(self, folder: str | Path) -> Path:
        """Write the estimator: ``estimator.json`` and ``weights.safetensors``, no pickle."""
        check_fitted(self)
        settings, weights = self._state()
        description = {
            "class": self.name,
            "settings": settings,
            "prior": self.prior_.to_dict(),
            "protocol": self.protocol_.model_dump(),
            "training": self.training_,
        }
        return write_folder(folder, "estimator", description, weights)


def load_estimator(folder: str | Path) -> Estimator:
    """Read an estimator that :meth:`Estimator.save` wrote."""
    folder = Path(folder)
    try:
        description = json.loads((folder / "estimator.json").read_text())
        weights = load_file(folder / "weights.safetensors")
        estimator = _CLASSES[description["class"]]._restore(description["settings"])
        estimator.prior_ = Prior.from_dict(description["prior"])
        estimator.protocol_ = TypeAdapter(Protocol).validate_python(description["protocol"])
        estimator.training_ = description["training"]
        estimator._load_weights(weights)
    except (OSError, LookupError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        raise InputError(f"{folder} does not hold a saved estimator ({reason})") from error
    return estimator


class PosteriorMixin(ABC):
    """What an estimator with a posterior offers beside its density in probit space."""

    prior_: Prior

    @abstractmethod
    def sequences(
        self,
        x: View | Sequences | Observation | Recording,
        *,
        forward: Head | None = None,
        events: str | None = None,
    ) -> Sequences:
        """See :meth:`Estimator.sequences`."""

    @abstractmethod
    def flat(self, sequences: Sequences) -> NDArray[np.float32]:
        """See :meth:`Estimator.flat`."""

    @abstractmethod
    def _sample(self, x: NDArray[np.float32], n_draws: int, seed: int) -> NDArray[np.float32]:
        """Draw in probit space, shape (n, draw, parameter)."""

    @abstractmethod
    def _log_prob(self, z: NDArray[np.float32], x: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the log density in probit space of each pair, shape (n,)."""

    def _sample_and_log_prob(
        self, x: NDArray[np.float32], n_draws: int, seed: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Draw for one observation, shape (1, ...): (draw, parameter), and their log densities."""
        draws = self._sample(x, n_draws, seed)[0]
        return draws, self._log_prob(draws, np.repeat(x, n_draws, axis=0))

    def _read(
        self, x: Any, forward: Head | None = None, events: str | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return what the estimator reads, and the numbers of the runs."""
        sequences = self.sequences(x, forward=forward, events=events)
        return self.flat(sequences), sequences.numbers

    def _summarise(
        self,
        x: NDArray[np.float32],
        statistic: Callable[[NDArray[np.float32]], NDArray[Any]],
        n_draws: int,
        seed: int,
    ) -> NDArray[Any]:
        """Return a statistic over draws, (n, draw, parameter) to (n, ...), block by block."""
        rows = max(1, _DRAWS_AT_A_TIME // n_draws)
        parts = [
            statistic(self._sample(x[start : start + rows], n_draws, seed + i))
            for i, start in enumerate(range(0, len(x), rows))
        ]
        return np.concatenate(parts)

    def predict(
        self,
        x: View | Sequences | Observation | Recording,
        forward: Head | None = None,
        *,
        events: str | None = None,
        n_draws: int = 500,
        seed: int = 0,
    ) -> xr.DataArray:
        """Return point estimates, dims (simulation, parameter), in the parameters' units.

        The estimate is the posterior mean in probit space, mapped back: the median of a posterior
        that is normal there. Arguments are those of :meth:`posterior`.
        """
        check_draws(n_draws, seed)
        flat, numbers = self._read(x, forward, events)
        z = self._summarise(flat, lambda draws: draws.mean(axis=1), n_draws, seed)
        return self.prior_.label(self.prior_.from_unconstrained(z), numbers=numbers)

    def interval(
        self,
        x: View | Sequences | Observation | Recording,
        level: float = 0.9,
        forward: Head | None = None,
        *,
        events: str | None = None,
        n_draws: int = 1000,
        seed: int = 0,
    ) -> xr.DataArray:
        """Return an interval for each parameter that holds the truth with probability ``level``.

        Parameters
        ----------
        x : View, Observation or MNE object
            What was observed.
        level : float
            Probability, between 0 and 1.
        forward, events, n_draws, seed
            See :meth:`posterior`.

        Returns
        -------
        xarray.DataArray, dims (simulation, bound, parameter)
            Central intervals of the posterior: ``low`` and ``high``, in the parameters' units.
        """
        check_level(level)
        check_draws(n_draws, seed)
        flat, numbers = self._read(x, forward, events)
        tails = [(1 - level) / 2, (1 + level) / 2]
        z = self._summarise(
            flat, lambda draws: np.moveaxis(np.quantile(draws, tails, axis=1), 0, 1), n_draws, seed
        )
        return label_interval(self.prior_, z, numbers)

    def posterior(
        self,
        x: View | Sequences | Observation | Recording,
        forward: Head | None = None,
        *,
        events: str | None = None,
        n_draws: int = 2000,
        seed: int = 0,
    ) -> xr.DataArray:
        """Draw from the posterior of each observation.

        Parameters
        ----------
        x : View, Observation or MNE object
            What was observed.
        forward : Head, optional
            Forward model of an MNE object; the template head without.
        events : str, optional
            Events of a Raw.
        n_draws : int
            Draws for each observation.
        seed : int
            Seed of the draws.

        Returns
        -------
        xarray.DataArray, dims (simulation, draw, parameter)
            Draws in the parameters' units.
        """
        check_draws(n_draws, seed)
        flat, numbers = self._read(x, forward, events)
        draws = self._sample(flat, n_draws, seed)
        return xr.DataArray(
            self.prior_.from_unconstrained(draws),
            dims=("simulation", "draw", "parameter"),
            coords={"simulation": numbers, **self.prior_.coords()},
            name="posterior",
        )

    def log_prob(
        self, theta: xr.DataArray, x: View | Sequences | Observation | Recording
    ) -> NDArray[np.float64]:
        """Return log q(theta | x) of each pair, in the parameters' units.

        Parameters
        ----------
        theta : xarray.DataArray, dims (simulation, parameter)
            Parameter sets. Where both they and the observations carry numbers of runs, they are
            paired by these, else by position.
        x : View, Sequences, Observation or MNE object
            As many observations.

        Returns
        -------
        numpy.ndarray, shape (n,)
            In the order of the observations.

        Raises
        ------
        InputError
            If they are not as many, or of other runs.
        """
        sequences = self.sequences(x)
        flat, numbers = self.flat(sequences), sequences.simulation
        if numbers is not None and "simulation" in theta.coords:
            theta = _paired(theta, numbers)
        z = self.prior_.to_unconstrained(theta)
        if len(z) != len(flat):
            raise InputError(f"log_prob: {len(z)} parameter sets do not pair with {len(flat)} runs")
        return self._log_prob(z.astype(np.float32), flat) - self.prior_.log_jacobian(z)


def _paired(theta: xr.DataArray, numbers: NDArray[np.int64]) -> xr.DataArray:
    """Put parameter sets into the order of some runs."""
    own = np.asarray(theta.coords["simulation"].values)
    if np.array_equal(own, numbers):
        return theta
    if len(own) != len(numbers):
        return theta  # which does not pair at all
    order, wanted = np.argsort(own, kind="stable"), np.argsort(numbers, kind="stable")
    if not np.array_equal(own[order], numbers[wanted]):
        raise InputError(
            "log_prob: parameter sets and observations are of other runs (their simulation numbers "
            "differ): give those of the same runs, or theta.drop_vars('simulation') to pair them "
            "by position"
        )
    place = np.empty(len(own), np.int64)
    place[wanted] = order
    return theta.isel(simulation=place)


def check_finite(x: NDArray[np.floating]) -> None:
    """Raise an error unless observations (n, number) are finite, and there is one."""
    if not len(x):
        raise InputError("there is no observation to ask about")
    lost = ~np.isfinite(x).all(axis=1)
    if lost.any():
        raise InputError(
            f"{lost.sum()} of {len(x)} observations are not finite (the first is number "
            f"{int(lost.argmax())}): leave them out"
        )


def check_draws(n_draws: int, seed: int) -> None:
    """Raise an error unless there is at least one draw, and a seed."""
    check_whole("n_draws", n_draws, 1)
    check_whole("seed", seed, 0)


def check_level(level: float) -> None:
    """Raise an error unless a probability lies between 0 and 1."""
    if not isinstance(level, int | float | np.number) or not 0 < level < 1:
        raise InputError(f"the level of an interval lies between 0 and 1, got {level!r}")


def label_interval(prior: Prior, z: NDArray[Any], numbers: NDArray[np.int64]) -> xr.DataArray:
    """Return bounds in probit space, shape (n, 2, parameter), in the parameters' units."""
    return xr.DataArray(
        prior.from_unconstrained(z),
        dims=("simulation", "bound", "parameter"),
        coords={"simulation": numbers, "bound": ["low", "high"], **prior.coords()},
        name="interval",
    )

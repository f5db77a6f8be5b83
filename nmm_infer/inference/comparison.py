"""Which model made this recording? Posterior probabilities by an amortised classifier."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import Any, Self, cast

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from pydantic import TypeAdapter
from safetensors import SafetensorError
from safetensors.torch import load_file
from scipy import special
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from nmm_infer.anatomy import Head
from nmm_infer.campaign import Campaign
from nmm_infer.errors import InputError
from nmm_infer.inference._asked import describe_observer, read_asked
from nmm_infer.inference._files import write_folder
from nmm_infer.inference.base import check_finite, versions
from nmm_infer.inference.joined import JoinedView
from nmm_infer.networks import Encoder
from nmm_infer.observation import (
    Observation,
    Observer,
    Protocol,
    Recording,
    Sequences,
    View,
)
from nmm_infer.settings import EncoderSettings, TrainingSettings
from nmm_infer.training import train

__all__ = ["ModelComparison"]

#: Runs of each model that are kept with the estimator, to tell what its simulations look like.
_KEPT = 300
#: Inverse penalty of the calibration: next to none, it has a few weights for a thousand runs.
_WEAK = 1e4

Array = NDArray[np.float64]


class _Net(nn.Module):
    def __init__(self, encoder: Encoder, n_models: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(encoder.settings.width, n_models)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x))


def _loss(net: nn.Module, target: Tensor, x: Tensor) -> Tensor:
    return nn.functional.cross_entropy(net(x), target[:, 0].long())


class ModelComparison:
    """Posterior probabilities of some models, for any recording at once.

    A classifier on the shared encoder learns by cross-entropy from which model a simulation comes;
    at the minimum its outputs are the posterior probabilities of the models, with all parameters
    marginalised over their priors. Its log probabilities are then calibrated on simulations that
    were held out, by a multinomial logistic regression that counts each model alike (Kull et al.
    2019): it gives the evidence alone, whatever the numbers of training runs, and any prior enters
    by Bayes' rule.

    Failed and rejected runs are left out: the evidence of a model is that of its runs that ended
    well.

    Parameters
    ----------
    encoder : EncoderSettings
        The backbone.
    training : TrainingSettings
        The schedule.
    held_out : float
        Share of the runs that the classifier is calibrated on.

    Attributes
    ----------
    models_ : tuple of str
        Names of the models.
    protocol_ : EvokedProtocol or SpontaneousProtocol
        The protocol of the training data.
    scaling_ : numpy.ndarray, shape (model, model)
        From log probabilities of the classifier to log evidence, with ``offset_`` (model,).
    seen_ : Sequences
        Some training simulations, and ``seen_labels_`` (n,), the positions of their models.
    training_ : dict
        Provenance: runs, channels, seed, losses, versions.

    References
    ----------
    Radev ST et al. (2023), Amortized Bayesian model comparison with evidential deep learning, IEEE
    Transactions on Neural Networks and Learning Systems 34:4903-4917. Kull M et al. (2019), Beyond
    temperature scaling: obtaining well-calibrated multi-class probabilities with Dirichlet
    calibration, NeurIPS, arXiv:1910.12656.
    """

    def __init__(
        self,
        encoder: EncoderSettings | None = None,
        training: TrainingSettings | None = None,
        *,
        held_out: float = 0.1,
    ) -> None:
        self.encoder = encoder or EncoderSettings()
        self.training = training or TrainingSettings()
        if not 0 < held_out < 0.5:
            raise InputError(f"held_out: give a share between 0 and .5, not {held_out:g}")
        if self.encoder.inputs != "sequence":
            raise InputError("a model comparison reads sequences: set the encoder's inputs so")
        self.held_out = held_out

    def fit(
        self,
        campaigns: Mapping[str, Campaign],
        observer: Observer,
        *,
        seed: int = 0,
        checkpoints: str | Path | None = None,
    ) -> Self:
        """Learn from the valid runs of one campaign for each model.

        Parameters
        ----------
        campaigns : mapping of str to Campaign
            Training runs of each model, by its name; their numbers may differ.
        observer : Observer
            Head, noise and protocol, the same for all models.
        seed : int
            Seed of initial weights and of all orders.
        checkpoints : path, optional
            Folder in which the network keeps its state after every epoch. After an interruption,
            the same call goes on from there.

        Returns
        -------
        self

        Raises
        ------
        InputError
            If there are fewer than two models, or fewer than 50 valid runs of one.
        """
        if not isinstance(campaigns, Mapping) or not callable(getattr(observer, "view", None)):
            raise InputError("model comparison: give campaigns by the names of models, an observer")
        if len(campaigns) < 2:
            raise InputError(f"model comparison: give two models at least, not {list(campaigns)}")
        views = {}
        for name, campaign in campaigns.items():
            views[name] = observer.view(campaign, f"training/{name}")
            if len(views[name]) < 50:
                raise InputError(
                    f"model comparison: {len(views[name])} valid runs of {name!r} are too few: "
                    "give at least 50, and a thousand to learn from"
                )
        self.models_ = tuple(campaigns)
        self.protocol_ = observer.protocol
        joined = JoinedView(views, seed=seed)
        positions = np.arange(len(joined))
        n_held = round(self.held_out * len(joined))
        learned, held = joined.select(positions[:-n_held]), joined.select(positions[-n_held:])
        begin = perf_counter()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            losses = self._fit(learned, seed, None if checkpoints is None else Path(checkpoints))
        self.scaling_, self.offset_ = fit_scaling(
            self._scores(held.sequences(epoch=0)), held.labels
        )
        self.training_: dict[str, Any] = {
            "estimator": "model_comparison",
            "runs": {name: len(view) for name, view in views.items()},
            "failed_runs": {name: c.failed for name, c in campaigns.items()},
            "rejected_runs": {name: c.rejected for name, c in campaigns.items()},
            "campaigns": {name: c.fingerprint for name, c in campaigns.items()},
            **describe_observer(observer),
            "seed": seed,
            "versions": versions(),
            "validation_loss": losses,
            "seconds": round(perf_counter() - begin, 1),
        }
        return self

    def _fit(self, view: JoinedView, seed: int, folder: Path | None) -> list[float]:
        part = view.select(np.arange(min(len(view), self.training.shard)))
        first = part.sequences(epoch=0)
        self._build(0 if first.context is None else first.context.shape[1])
        self.net_.encoder.fit(torch.as_tensor(first.flat))
        kept = np.sort(
            np.concatenate(
                [np.flatnonzero(part.labels == k)[:_KEPT] for k in range(len(part.models))]
            )
        )
        self.seen_ = Sequences(
            first.values[kept],
            first.region[kept],
            None if first.context is None else first.context[kept],
        )
        self.seen_labels_ = part.labels[kept]
        return train(
            self.net_, _loss, cast(View, view), view.labels[:, None].astype(np.float32),
            self.training, seed=seed, folder=folder, description="Training the comparison",
        )  # fmt: skip

    def _build(self, n_context: int) -> None:
        protocol = self.protocol_
        encoder = Encoder(
            protocol.n_steps,
            protocol.kind == "spontaneous",
            self.encoder,
            protocol.n_components,
            n_context,
        )
        self.net_ = _Net(encoder, len(self.models_))

    def _log_evidence(self, x: Sequences) -> Array:
        """Log evidence of each model but for a constant, shape (n, model)."""
        return self._scores(x) @ self.scaling_.T + self.offset_

    @torch.no_grad()
    def _scores(self, x: Sequences) -> Array:
        """Log probabilities of the classifier as it was trained, shape (n, model)."""
        flat, expected = x.flat, self.seen_.flat.shape[1]
        if flat.shape[1] != expected:
            raise InputError(
                f"the sequences have {flat.shape[1]} numbers; this comparison reads {expected}: "
                "observe them through its protocol and with its kind of observer"
            )
        check_finite(flat)
        parts = [self.net_(part) for part in torch.as_tensor(flat).split(2048)]
        return np.asarray(special.log_softmax(torch.cat(parts).double().numpy(), axis=1))

    @property
    def encoder_(self) -> Encoder:
        """The trained encoder."""
        self._check_fitted()
        return self.net_.encoder

    def _check_fitted(self) -> None:
        if not hasattr(self, "training_"):
            raise InputError("this ModelComparison has not been fitted yet: call fit() first")

    def sequences(
        self,
        x: View | JoinedView | Sequences | Observation | Recording,
        *,
        forward: Head | None = None,
        events: str | None = None,
    ) -> Sequences:
        """Turn whatever may be asked about into the sequences that the classifier reads."""
        self._check_fitted()
        return read_asked(
            x, self.protocol_, self.training_, "comparison", forward=forward, events=events
        )  # fmt: skip

    def probabilities(
        self,
        x: View | JoinedView | Sequences | Observation | Recording,
        forward: Head | None = None,
        *,
        events: str | None = None,
        prior: Mapping[str, float] | None = None,
    ) -> xr.DataArray:
        """Return the posterior probability of each model.

        They are conditional on the list of models: one of them is taken to be true. Ask
        :func:`nmm_infer.diagnostics.resemblance` whether any of them could be.

        Parameters
        ----------
        x : View, JoinedView, Sequences, Observation or MNE object
            What was observed.
        forward : Head, optional
            Forward model of an MNE object; the template head without.
        events : str, optional
            Events of a Raw.
        prior : mapping of str to float, optional
            Prior probability of each model, positive, scaled to sum one; equal ones without.

        Returns
        -------
        xarray.DataArray, dims (simulation, model)
            Posterior probabilities.
        """
        sequences = self.sequences(x, forward=forward, events=events)
        evidence = self._log_evidence(sequences)
        odds = self._log_prior(prior)
        return xr.DataArray(
            special.softmax(evidence + odds, axis=1),
            dims=("simulation", "model"),
            coords={"simulation": sequences.numbers, "model": list(self.models_)},
            name="probability",
            attrs={"prior": np.exp(odds).tolist()},
        )

    def log_bayes_factors(
        self,
        x: View | JoinedView | Sequences | Observation | Recording,
        forward: Head | None = None,
        *,
        events: str | None = None,
    ) -> xr.DataArray:
        """Return the natural logarithm of the Bayes factor of each model against each other.

        Parameters
        ----------
        x, forward, events
            See :meth:`probabilities`.

        Returns
        -------
        xarray.DataArray, dims (simulation, model, other)
            log p(x | model) - log p(x | other); no prior of the models enters.
        """
        sequences = self.sequences(x, forward=forward, events=events)
        evidence = self._log_evidence(sequences)
        return xr.DataArray(
            evidence[:, :, None] - evidence[:, None, :],
            dims=("simulation", "model", "other"),
            coords={
                "simulation": sequences.numbers,
                "model": list(self.models_),
                "other": list(self.models_),
            },
            name="log_bayes_factor",
        )

    def _log_prior(self, prior: Mapping[str, float] | None) -> Array:
        if prior is None:
            return np.full(len(self.models_), -np.log(len(self.models_)))
        if set(prior) != set(self.models_):
            raise InputError(
                f"prior: give one probability for each of {', '.join(self.models_)}, not for "
                f"{', '.join(prior)}"
            )
        given = np.array([prior[name] for name in self.models_], dtype=float)
        if not (np.isfinite(given).all() and (given > 0).all()):
            raise InputError("prior: probabilities of models are positive numbers")
        return np.log(given / given.sum())

    def save(self, folder: str | Path) -> Path:
        """Write the comparison: ``comparison.json`` and ``weights.safetensors``, no pickle."""
        self._check_fitted()
        description = {
            "class": "model_comparison",
            "settings": {
                "encoder": self.encoder.model_dump(),
                "training": self.training.model_dump(),
                "held_out": self.held_out,
            },
            "models": list(self.models_),
            "scaling": self.scaling_.tolist(),
            "offset": self.offset_.tolist(),
            "context": 0 if self.seen_.context is None else self.seen_.context.shape[1],
            "protocol": self.protocol_.model_dump(),
            "training": self.training_,
        }
        weights = {f"net.{k}": v for k, v in self.net_.state_dict().items()}
        weights |= {
            "seen.values": torch.as_tensor(self.seen_.values),
            "seen.region": torch.as_tensor(self.seen_.region),
            "seen.labels": torch.as_tensor(self.seen_labels_),
        }
        if self.seen_.context is not None:
            weights["seen.context"] = torch.as_tensor(self.seen_.context)
        return write_folder(folder, "comparison", description, weights)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read a comparison that :meth:`save` wrote.

        Raises
        ------
        InputError
            If the folder does not hold one.
        """
        folder = Path(folder)
        try:
            told = json.loads((folder / "comparison.json").read_text())
            weights = load_file(folder / "weights.safetensors")
            settings = told["settings"]
            comparison = cls(
                EncoderSettings(**settings["encoder"]),
                TrainingSettings(**settings["training"]),
                held_out=settings["held_out"],
            )
            comparison.models_ = tuple(told["models"])
            comparison.protocol_ = TypeAdapter(Protocol).validate_python(told["protocol"])
            comparison.scaling_ = np.array(told["scaling"])
            comparison.offset_ = np.array(told["offset"])
            comparison.training_ = told["training"]
            seen = {k: weights.pop(f"seen.{k}").numpy() for k in ("values", "region", "labels")}
            context = weights.pop("seen.context").numpy() if told["context"] else None
            comparison.seen_ = Sequences(seen["values"], seen["region"], context)
            comparison.seen_labels_ = seen["labels"]
            comparison._build(int(told["context"]))
            comparison.net_.load_state_dict({k.removeprefix("net."): v for k, v in weights.items()})
        except (
            OSError, LookupError, TypeError, ValueError, RuntimeError, SafetensorError
        ) as error:  # fmt: skip
            reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            raise InputError(f"{folder} does not hold a saved comparison ({reason})") from error
        comparison.net_.eval()
        return comparison


def fit_scaling(log_p: Array, labels: NDArray[np.int64]) -> tuple[Array, Array]:
    """Calibrate log probabilities by multinomial logistic regression, each model counted alike.

    Parameters
    ----------
    log_p : numpy.ndarray, shape (n, model)
        Log probabilities of a classifier.
    labels : numpy.ndarray of int, shape (n,)
        True model of each run.

    Returns
    -------
    scaling : numpy.ndarray, shape (model, model)
    offset : numpy.ndarray, shape (model,)
        ``log_p @ scaling.T + offset`` is the log evidence, but for a constant of each run.
    """
    found = LogisticRegression(C=_WEAK, class_weight="balanced", max_iter=1000).fit(log_p, labels)
    scaling, offset = found.coef_, found.intercept_
    if len(scaling) == 1:  # of two models: log odds of the second
        scaling, offset = np.vstack([0 * scaling, scaling]), np.append(0.0, offset)
    return scaling.astype(float), offset.astype(float)

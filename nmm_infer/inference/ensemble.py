"""Several posteriors that differ by their seed, as one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import special
from torch import Tensor

from nmm_infer import _random
from nmm_infer.errors import InputError
from nmm_infer.inference.base import Estimator, PosteriorMixin
from nmm_infer.inference.network import part
from nmm_infer.inference.posterior import PosteriorEstimator
from nmm_infer.observation import View
from nmm_infer.settings import DensitySettings, EncoderSettings, TrainingSettings

__all__ = ["Ensemble"]


class Ensemble(Estimator, PosteriorMixin):
    """Equal mixture of neural posteriors that were trained from different seeds.

    Where training data are few, members disagree, and their mixture is less overconfident than
    each of them [1]_.

    Parameters
    ----------
    encoder, density, training, pretraining, finishing
        Settings of every member: see :class:`PosteriorEstimator`.
    members : int
        How many.

    References
    ----------
    .. [1] Hermans J, Delaunoy A, Rozet F, Wehenkel A, Begy V, Louppe G (2022). A crisis in
       simulation-based inference? Beware, your posterior approximations can be unfaithful. TMLR,
       arXiv:2110.06581.
    """

    name = "ensemble"

    def __init__(
        self,
        encoder: EncoderSettings | None = None,
        density: DensitySettings | None = None,
        training: TrainingSettings | None = None,
        pretraining: TrainingSettings | None = None,
        finishing: TrainingSettings | None = None,
        members: int = 3,
    ) -> None:
        if members < 1:
            raise InputError(f"an ensemble needs at least one member, got {members}")
        self._settings = (encoder, density, training, pretraining, finishing)
        self.members = [PosteriorEstimator(*self._settings) for _ in range(members)]

    def _fit(self, view: View, target: NDArray[np.float32], seed: int) -> None:
        losses = []
        for k, member in enumerate(self.members):
            member._like(self)
            member._checkpoints = (
                None if self._checkpoints is None else self._checkpoints / f"member_{k}"
            )
            own = int(_random.generator(seed, "ensemble", k).integers(2**31))
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(own)
                member._fit(view, target, own)
            losses.append(member.training_["validation_loss"])
        self.training_["validation_loss"] = losses

    def _sample(self, x: NDArray[np.float32], n_draws: int, seed: int) -> NDArray[np.float32]:
        rng = _random.generator(seed, "draws/ensemble")
        counts = rng.multinomial(n_draws, np.full(len(self.members), 1 / len(self.members)))
        parts = [
            member._sample(x, int(count), int(rng.integers(2**31)))
            for member, count in zip(self.members, counts, strict=True)
            if count
        ]
        # In random order for each observation, so that any part of the draws is from the mixture.
        draws = np.concatenate(parts, axis=1)
        order = rng.random(draws.shape[:2]).argsort(axis=1)
        return np.take_along_axis(draws, order[..., None], axis=1)

    def _log_prob(self, z: NDArray[np.float32], x: NDArray[np.float32]) -> NDArray[np.float64]:
        each = [member._log_prob(z, x) for member in self.members]
        return np.asarray(special.logsumexp(each, axis=0) - np.log(len(each)))

    def _state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        settings = dict(self.members[0]._state()[0]) | {"members": len(self.members)}
        weights = {
            f"member_{k}.{name}": value
            for k, member in enumerate(self.members)
            for name, value in member._state()[1].items()
        }
        return settings, weights

    @classmethod
    def _restore(cls, settings: Mapping[str, Any]) -> Self:
        member = PosteriorEstimator._restore(settings)
        return cls(
            member.encoder, member.density, member.training, member.pretraining, member.finishing,
            settings["members"],
        )  # fmt: skip

    def _load_weights(self, weights: dict[str, Tensor]) -> None:
        for k, member in enumerate(self.members):
            member._like(self)
            member._load_weights(part(weights, f"member_{k}."))

"""Flow matching posterior estimation (FMPE) on the encoder."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sbi.inference.posteriors import VectorFieldPosterior
from sbi.neural_nets import posterior_flow_nn
from torch import Tensor, nn

from nmm_infer.inference.base import check_fitted
from nmm_infer.inference.posterior import PosteriorEstimator
from nmm_infer.inference.regressor import HIGHEST, LOWEST, Moments
from nmm_infer.networks import Embedding
from nmm_infer.networks.threads import one_thread

__all__ = ["FlowMatching"]

#: Tolerance of the ODE solver for draws: a finer one costs more and moves them by a small part of
#: their standard deviation. Densities, which sum errors along the way, need a finer one.
_DRAWS, _DENSITIES = 1e-3, 1e-5
#: Draws that are solved for at once: of more, the layers' values do not fit into a cache.
_AT_ONCE = 20_000
#: Hidden units of what is made of an observation before the ODE.
_CONTEXT = 128
#: Times at which a step of training sees the way to each run: it costs less than to encode the run.
_TIMES = 8
#: The field sees time (0 at the posterior, 1 at the Gaussian) as sinusoids of angular frequencies
#: from 1 to about the inverse of this. Those of sbi's default are 1 and lower: they do not resolve
#: the end of the way to a posterior that is narrow in some directions.
_FASTEST = 0.01


class _Context(nn.Module):
    """What an embedding gives, and two layers on it: once for an observation, not for each draw.

    Parameters
    ----------
    embedding : Embedding
        Of an observation, size ``embedding.width``.
    """

    def __init__(self, embedding: Embedding) -> None:
        super().__init__()
        self.embedding = embedding
        self.layers = nn.Sequential(
            nn.Linear(embedding.width, _CONTEXT), nn.GELU(),
            nn.Linear(_CONTEXT, _CONTEXT), nn.GELU(), nn.LayerNorm(_CONTEXT),
        )  # fmt: skip
        self.width = embedding.width + _CONTEXT

    def forward(self, x: Tensor) -> Tensor:
        told = self.embedding(x)
        return torch.cat([told, self.layers(told)], dim=1)


class _Net(nn.Module):
    """Embedding, Gaussian and vector field: the ODE is solved many times for one summary."""

    def __init__(self, embedding: _Context, field: Any, moments: Moments) -> None:
        super().__init__()
        self.embedding, self.field, self.moments = embedding, field, moments
        # Linear in a summary that was learned for means, deviations alone come out too even.
        self.correction = nn.Linear(_CONTEXT, 2 * moments.head.out_features)
        for start in self.correction.parameters():
            nn.init.zeros_(start)

    def gaussian(self, told: Tensor) -> tuple[Tensor, Tensor]:
        """Return means and log standard deviations in which the field sees the parameters."""
        mean, log_scale = self.moments(told[:, : self.moments.head.in_features])
        more = self.correction(told[:, -_CONTEXT:]).chunk(2, dim=1)
        return mean + more[0], (log_scale + more[1]).clamp(LOWEST, HIGHEST)

    def loss(self, target: Tensor, x: Tensor) -> Tensor:
        told = self.embedding(x)
        mean, log_scale = self.gaussian(told)
        standard = ((target - mean) / log_scale.exp()).detach()
        # Uniform times squared: those near 0, where the posterior is, more often than others.
        times = torch.rand(_TIMES, len(target), device=target.device) ** 2
        standard, told = (part.expand(_TIMES, -1, -1) for part in (standard, told))
        field = self.field.loss(standard, told, times=times).mean(dim=0)
        return field + self.moments.loss(mean, log_scale, target)


class FlowMatching(PosteriorEstimator):
    """Amortised posterior whose draws follow a learned vector field from a Gaussian.

    Trained like :class:`PosteriorEstimator`, with the loss of conditional flow matching [1]_
    instead of a density; sbi builds the vector field and solves its differential equation. The
    field sees the parameters standardised with the regressor's mean and deviation, which learn on
    beside it, and learns what is left after the velocity that leads from N(0, I) to N(0, I): a
    posterior can be a hundred times as narrow as the prior, and that is far to go. Training has
    more times near the posterior than uniform ones, as the authors of [1]_ advise (with another
    law). Draws and densities are slower than those of a normalising flow.

    Parameters
    ----------
    encoder : EncoderSettings
        The backbone.
    density : DensitySettings
        Layers (``transforms``) and hidden units of the vector field; its ``kind`` is not used.
    training : TrainingSettings
        The schedule of encoder and vector field together.
    pretraining : TrainingSettings
        The schedule of the regressor.
    finishing : TrainingSettings
        The schedule of the vector field alone.

    References
    ----------
    .. [1] Wildberger J, Dax M, Buchholz S, Green S, Macke JH, Schölkopf B (2023). Flow matching for
       scalable simulation-based inference. NeurIPS, arXiv:2305.17161.
    """

    name = "fmpe"

    def _build(self, embedding: Embedding) -> Any:
        builder = posterior_flow_nn(
            "mlp",
            z_score_theta="none",
            z_score_x="none",
            hidden_features=self.density.hidden,
            num_layers=self.density.transforms,
            gaussian_baseline=True,
            sinusoidal_max_freq=_FASTEST,
        )
        # Only the shapes are taken from these batches.
        context = _Context(embedding)
        field = builder(torch.zeros(4, len(self.prior_)), torch.zeros(4, context.width))
        return _Net(context, field, deepcopy(self.regressor_.net_.moments))

    def to_sbi(self) -> VectorFieldPosterior:
        """Return sbi's own posterior object, of standardised parameters.

        Its ``x`` is what the vector field is told of an observation, ``net_.embedding(x)``. With
        ``mean, log_scale = net_.gaussian(x)``, a draw u of it is ``mean + log_scale.exp() * u`` in
        probit space (see :class:`Prior`).
        """
        check_fitted(self)
        return self._solver(_DENSITIES)

    def _solver(self, tolerance: float) -> VectorFieldPosterior:
        return VectorFieldPosterior(
            self.net_.field, self.prior_.to_torch(), enable_transform=False, sample_with="ode",
            neural_ode_kwargs={"atol": tolerance, "rtol": tolerance},
        )  # fmt: skip

    @torch.no_grad()
    def _sample(self, x: NDArray[np.float32], n_draws: int, seed: int) -> NDArray[np.float32]:
        posterior = self._solver(_DRAWS)
        parts = []
        with one_thread(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for batch in self._tensor(x).split(max(1, _AT_ONCE // n_draws)):
                told = self.net_.embedding(batch)
                mean, log_scale = self.net_.gaussian(told)
                standard = posterior.sample_batched(
                    torch.Size((n_draws,)), told, reject_outside_prior=False,
                    show_progress_bars=False, max_sampling_batch_size=1,
                )  # fmt: skip
                parts.append((mean + log_scale.exp() * standard).transpose(0, 1))
        return torch.cat(parts).numpy()

    def _log_prob(self, z: NDArray[np.float32], x: NDArray[np.float32]) -> NDArray[np.float64]:
        field = self._solver(_DENSITIES).potential_fn.neural_ode
        parts = []
        pairs = zip(torch.as_tensor(z).split(1024), self._tensor(x).split(1024), strict=True)
        with one_thread():
            for a, b in pairs:
                with torch.no_grad():
                    told = self.net_.embedding(b)
                    mean, log_scale = self.net_.gaussian(told)
                    standard = (a - mean) / log_scale.exp()
                parts.append(field(told).log_prob(standard).detach() - log_scale.sum(dim=1))
        return np.asarray(torch.cat(parts).double().numpy())

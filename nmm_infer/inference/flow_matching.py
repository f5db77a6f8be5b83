"""Flow matching posterior estimation (FMPE) on the encoder."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sbi.inference.posteriors import VectorFieldPosterior
from sbi.neural_nets import posterior_flow_nn
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from nmm_infer.inference.base import check_fitted
from nmm_infer.inference.posterior import PosteriorEstimator
from nmm_infer.inference.regressor import HIGHEST, LOWEST
from nmm_infer.networks import Embedding
from nmm_infer.networks.threads import one_thread

__all__ = ["FlowMatching"]

#: Tolerance of the ODE solver for draws: with 1e-6 they take more than twice as long and differ by
#: some 5e-5 of their standard deviation (2e-3 at most). Densities, which sum errors along the way,
#: need a finer one: with 1e-3 they are wrong by some hundredths.
_DRAWS, _DENSITIES = 1e-3, 1e-5


class _Net(nn.Module):
    """Embedding, Gaussian and vector field: the ODE is solved many times for one summary."""

    def __init__(self, embedding: Embedding, field: Any, n_parameters: int, hidden: int) -> None:
        super().__init__()
        self.embedding, self.field = embedding, field
        last = nn.Linear(hidden, n_parameters * (n_parameters + 3) // 2)
        nn.init.zeros_(last.weight)  # before training: the prior
        nn.init.zeros_(last.bias)
        self.moments = nn.Sequential(nn.Linear(embedding.width, hidden), nn.SiLU(), last)
        self.n = n_parameters

    def gaussian(self, told: Tensor) -> MultivariateNormal:
        """Return the Gaussian of each observation in which the field sees the parameters."""
        moments = self.moments(told)
        mean, log_scale, below = moments.split([self.n, self.n, moments.shape[1] - 2 * self.n], 1)
        factor = log_scale.clamp(LOWEST, HIGHEST).exp().diag_embed()
        rows, columns = torch.tril_indices(self.n, self.n, offset=-1)
        factor[:, rows, columns] = below
        return MultivariateNormal(mean, scale_tril=factor, validate_args=False)

    def loss(self, target: Tensor, x: Tensor) -> Tensor:
        told = self.embedding(x)
        gaussian = self.gaussian(told)
        white = _whiten(gaussian, target).detach()
        return self.field.loss(white, told) - gaussian.log_prob(target) / self.n


def _whiten(gaussian: MultivariateNormal, z: Tensor) -> Tensor:
    difference = (z - gaussian.loc)[..., None]
    return torch.linalg.solve_triangular(gaussian.scale_tril, difference, upper=False)[..., 0]


class FlowMatching(PosteriorEstimator):
    """Amortised posterior whose draws follow a learned vector field from a Gaussian.

    Trained like :class:`PosteriorEstimator`, with the loss of conditional flow matching [1]_
    instead of a density; sbi builds the vector field and solves its differential equation. The
    field sees the parameters whitened with a Gaussian of full covariance that is learned beside it,
    by its log likelihood: a posterior can be a hundred times as narrow as the prior, and from
    N(0, I) that is far to go. Draws and densities are slower than those of a normalising flow.

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
        )
        # Only the shapes are taken from these batches.
        told = torch.zeros(4, embedding.width)
        n = len(self.prior_)
        return _Net(embedding, builder(torch.zeros(4, n), told), n, self.density.hidden)

    def to_sbi(self) -> VectorFieldPosterior:
        """Return sbi's own posterior object, of whitened parameters.

        Its ``x`` is what the vector field is told of an observation, ``net_.embedding(x)``. With
        ``g = net_.gaussian(net_.embedding(x))``, a draw u of it is ``g.loc + g.scale_tril @ u`` in
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
            for batch in self._tensor(x).split(max(1, 200_000 // n_draws)):
                told = self.net_.embedding(batch)
                gaussian = self.net_.gaussian(told)
                white = posterior.sample_batched(
                    torch.Size((n_draws,)), told, reject_outside_prior=False,
                    show_progress_bars=False, max_sampling_batch_size=1,
                )  # fmt: skip
                z = gaussian.loc + (gaussian.scale_tril @ white[..., None])[..., 0]
                parts.append(z.transpose(0, 1))
        return torch.cat(parts).numpy()

    def _log_prob(self, z: NDArray[np.float32], x: NDArray[np.float32]) -> NDArray[np.float64]:
        field = self._solver(_DENSITIES).potential_fn.neural_ode
        parts = []
        pairs = zip(torch.as_tensor(z).split(1024), self._tensor(x).split(1024), strict=True)
        with one_thread():
            for a, b in pairs:
                with torch.no_grad():
                    told = self.net_.embedding(b)
                    gaussian = self.net_.gaussian(told)
                    white = _whiten(gaussian, a)
                    volume = gaussian.scale_tril.diagonal(dim1=1, dim2=2).log().sum(dim=1)
                parts.append(field(told).log_prob(white).detach() - volume)
        return np.asarray(torch.cat(parts).double().numpy())

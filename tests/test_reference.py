"""Reference posteriors against closed forms, and what must not pass for a reference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from likelihood_oracles import Banana, Gaussian, Linear, Ridge, Stratum

import nmm_infer.inference.reference as module
from nmm_infer.errors import InputError
from nmm_infer.inference._c2st import c2st
from nmm_infer.inference.reference import (
    MAX_C2ST,
    ReferencePosterior,
    certify,
    ranks_uniform,
    reference_posterior,
)

LINEAR = Linear()
Y = np.array([1.0, 2.0, 0.0])


def _constructed(likelihood: Linear, z: np.ndarray) -> ReferencePosterior:
    """A reference from draws that are there already."""
    return ReferencePosterior(
        draws=module._label(likelihood.prior, z), prior=likelihood.prior, c2st=0.5, tested=len(z),
        evaluations=0, seconds=0.0, acceptance=1.0,
    )  # fmt: skip


def test_gaussian_in_closed_form(random_state_guard: None) -> None:
    found = reference_posterior(LINEAR, Y, n_draws=1200, seed=3)
    assert found.certified and found.c2st <= MAX_C2ST
    assert found.draws.dims == ("draw", "parameter")
    assert found.draws.coords["parameter"].values.tolist() == LINEAR.prior.names
    assert found.draws.sizes["draw"] == 1200 and found.tested == 600
    assert "certified: two runs agree" in found.summary
    # Means of 1,200 draws, of which half are worth an independent one: five standard errors.
    sd = np.sqrt(np.diag(LINEAR.covariance))
    error = (found.z.mean(axis=0) - LINEAR.posterior_mean(Y)) / sd
    assert np.abs(error).max() < 5 * 600**-0.5
    # A sample variance has a relative standard error of sqrt(2 / n).
    np.testing.assert_allclose(found.z.std(axis=0) / sd, 1, atol=5 * (2 * 600) ** -0.5)


def test_evaluations_are_counted_and_a_seed_repeats() -> None:
    counting = Linear()
    found = reference_posterior(counting, Y, n_draws=400, seed=5, steps=10, max_rounds=1)
    assert counting.evaluations == found.evaluations
    again = reference_posterior(Linear(), Y, n_draws=400, seed=5, steps=10, max_rounds=1)
    np.testing.assert_array_equal(found.draws, again.draws)
    data = found.to_dataset()
    assert data.attrs["certified"] == int(found.certified) and data["draws"].sizes["draw"] == 400


@pytest.mark.slow
@pytest.mark.parametrize(
    ("likelihood", "y"),
    [(Ridge(), [25.0, 5.0]), (Banana(), [8.0, 5.0]), (Stratum(), [1.0, 2.0, 0.0])],
    ids=["ridge", "two branches", "stratum"],
)
def test_hard_posteriors_in_closed_form(likelihood: Gaussian, y: list[float]) -> None:
    found = reference_posterior(likelihood, y, n_draws=4000, seed=1)
    assert found.certified, found.summary
    exact = likelihood.exact(np.array(y), 4000, seed=2)  # type: ignore[attr-defined]
    # Chance at 2 x 4,000 has a standard deviation of .0056: four of them, and a little mixing.
    assert c2st(found.z, exact, max_samples=4000) < 0.53


def test_runs_in_different_modes_are_not_certifiable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken sampler: each run is stuck in another branch of the hyperbola z1 z2 = 4."""
    likelihood, y = Banana(scale=100.0), np.array([400.0, 0.0])
    exact = likelihood.exact(y, 4000, seed=0)
    branches = [exact[exact[:, 0] > 0], exact[exact[:, 0] < 0]]
    monkeypatch.setattr(module, "_tempered", lambda _, n, walkers, rng: branches.pop()[:walkers])
    found = reference_posterior(likelihood, y, n_draws=800, seed=1, steps=10, max_rounds=1)
    assert not found.certified
    assert found.c2st > 0.95
    assert found.summary.startswith("not certifiable: two runs disagree (C2ST")


def test_likelihood_that_changes_is_not_certifiable() -> None:
    """What is not a function of the parameters has no posterior: here it drifts with each call."""

    class Drifting(Linear):
        def function(self, z: np.ndarray) -> np.ndarray:
            return super().function(z) + 1e-3 * self.evaluations

    found = reference_posterior(Drifting(), Y, n_draws=800, seed=1, steps=10, max_rounds=1)
    assert not found.certified and found.reason


def test_ranks_tell_exact_references_from_narrow_ones() -> None:
    z = np.random.default_rng(1).standard_normal((200, 3))
    y = LINEAR.simulate(z, seed=2)
    theta = LINEAR.prior.label(LINEAR.prior.from_unconstrained(z))
    exact = [LINEAR.exact(row, 400, seed=i) for i, row in enumerate(y)]
    references = [_constructed(LINEAR, draws) for draws in exact]
    held, ranks = certify(references, theta)
    assert ranks.attrs["uniform"] and ranks.attrs["certified"] == 200
    assert all(r.certified for r in held)
    assert ranks["rank"].dims == ("simulation", "parameter")
    # In closed form: the rank of a truth among draws of its posterior is uniform on (0, 1).
    assert abs(float(ranks["rank"].mean()) - 0.5) < 5 * (1 / 12 / 600) ** 0.5

    # Half the width: .5 of a normal's mass lies within .67 sd, so ranks pile up at both ends.
    narrow = [
        _constructed(LINEAR, m + (draws - m) / 2)
        for draws, m in zip(exact, LINEAR.posterior_mean(y), strict=True)
    ]
    held, ranks = certify(narrow, theta)
    assert not ranks.attrs["uniform"]
    assert not any(r.certified for r in held)
    assert "not certifiable" in held[0].summary and "are not uniform" in held[0].summary


def test_ranks_follow_names() -> None:
    z = np.random.default_rng(1).standard_normal((20, 3))
    theta = LINEAR.prior.label(LINEAR.prior.from_unconstrained(z))
    draws = np.random.default_rng(2).standard_normal((50, 3))
    references = [replace(_constructed(LINEAR, draws)) for _ in range(20)]
    one = ranks_uniform(references, theta)
    other = ranks_uniform(references, theta.isel(parameter=[2, 0, 1]))
    np.testing.assert_array_equal(one["rank"], other["rank"])


def test_bad_input() -> None:
    class Nowhere(Linear):
        def inside(self, z: np.ndarray) -> np.ndarray:
            return np.zeros(len(z), bool)

    with pytest.raises(InputError, match="stratum"):
        reference_posterior(Nowhere(), Y, n_draws=400)
    with pytest.raises(InputError, match="not finite"):
        reference_posterior(LINEAR, [1.0, np.nan, 0.0])
    with pytest.raises(InputError, match="one observation"):
        reference_posterior(LINEAR, np.zeros((2, 3)))
    with pytest.raises(InputError, match="at least 400 draws"):
        reference_posterior(LINEAR, Y, n_draws=10)
    with pytest.raises(InputError, match="one for each"):
        ranks_uniform([], LINEAR.prior.sample(3, seed=0))

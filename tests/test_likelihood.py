"""The exact likelihood of a column, against an independent density and its own noise."""

from __future__ import annotations

import dataclasses

import mne
import numpy as np
import pytest
from scipy import stats
from scipy.linalg import toeplitz

from nmm_infer.anatomy import Head, patch_head
from nmm_infer.anatomy.sensors import reference
from nmm_infer.campaign import run
from nmm_infer.errors import InputError
from nmm_infer.inference.likelihood import GaussianLikelihood
from nmm_infer.observation import (
    NoiseKind,
    Observer,
    levels_for,
    power_law_noise,
    white_noise,
)
from nmm_infer.runs import build_task
from nmm_infer.study import Study

STUDY = Study.preset("column5_wide").replace(protocol={"tmin": -0.1, "tmax": 0.5})
N = STUDY.protocol.n_steps


@pytest.fixture(scope="module")
def patch(head: Head) -> Head:
    return patch_head(head, STUDY.protocol.region, 12.0)


@pytest.fixture(scope="module")
def setting(patch: Head, info: mne.Info):
    task = build_task(STUDY, [], stream="t")
    noise = power_law_noise(info, 5e-8, N, 100.0, (0.5, 50.0)).through(reference(info))
    observer = Observer(patch, noise, STUDY.protocol, info, seed=1)
    campaign = run(task, task.prior.sample(900, seed=0))
    return task, observer, campaign.select(campaign.valid[:300])


def test_residuals_are_white(setting) -> None:
    task, observer, campaign = setting
    likelihood = GaussianLikelihood(task, observer)
    view = observer.view(campaign)
    mean, valid = likelihood.mean(likelihood.prior.to_unconstrained(campaign.theta))
    assert valid.all()
    clean = likelihood.whiten(view.clean_sequences().values)
    np.testing.assert_allclose(clean, mean, atol=1e-4 * np.abs(mean).max())
    residual = likelihood.whiten(view.sequences().values) - clean
    assert likelihood.size == N - 1  # the mean has gone; the baseline is constant with it
    assert stats.kstest(residual.ravel(), "norm").pvalue > 1e-3
    square = (residual**2).sum(axis=1)
    assert stats.kstest(square, stats.chi2(likelihood.size).cdf).pvalue > 1e-3


def test_log_density_is_that_of_the_singular_normal(setting) -> None:
    """Differences between parameter sets are those of the density of the raw sequence."""
    task, observer, campaign = setting
    likelihood = GaussianLikelihood(task, observer)
    view = observer.view(campaign)
    x = view.sequences().values[0, :, 0].astype(float)
    # Baseline, then mean, of a row of times: x B D.
    baseline = np.zeros((N, N))
    inside = observer.protocol.in_baseline
    baseline[inside] = 1 / inside.sum()
    level = (np.eye(N) - baseline) @ (np.eye(N) - np.full((N, N), 1 / N))
    covariance = level.T @ toeplitz(observer.noise.autocorrelation[:N]) @ level
    clean = view.clean_sequences().values[:6, :, 0].astype(float)
    inverse = np.linalg.pinv(covariance, rcond=1e-9)
    expected = np.array([-0.5 * (x - m) @ inverse @ (x - m) for m in clean])
    z = likelihood.prior.to_unconstrained(campaign.theta)[:6]
    got = likelihood.log_prob(z, likelihood.whiten(view.sequences().values[0]))
    # Sequences are float32 numbers of up to some thousands.
    np.testing.assert_allclose(got - got[0], expected - expected[0], rtol=1e-3, atol=0.1)


def test_outside_of_the_stratum_there_is_no_likelihood(setting) -> None:
    task, observer, _ = setting
    likelihood = GaussianLikelihood(task, observer)
    z = np.random.default_rng(0).standard_normal((200, 5))
    theta = likelihood.prior.from_unconstrained(z)
    values = dict(zip(likelihood.prior.names, theta.T, strict=True))
    values |= {"drive": np.full(200, 120.0)}
    inside = task.within(values, 200)
    log = likelihood.log_prob(z, np.zeros(likelihood.size))
    np.testing.assert_array_equal(np.isfinite(log), inside)
    z[0] = np.nan
    assert likelihood.log_prob(z, np.zeros(likelihood.size))[0] == -np.inf


def test_a_level_scales_the_mean(setting, patch: Head, info: mne.Info) -> None:
    task, observer, campaign = setting
    kinds = {
        "white": NoiseKind(white_noise(info, 1e-6, N).through(reference(info))),
        "pink": NoiseKind(observer.noise),
        "late": NoiseKind(observer.noise, jitter=0.01),
    }
    levels = levels_for(kinds, 1e-14, (0.0, 20.0), N)
    several = Observer(patch, levels, STUDY.protocol, info, seed=1)
    z = np.zeros((1, 5))
    z[0, 0] = -1.0  # a column that rests
    one = GaussianLikelihood(task, observer).mean(z)
    assert one[1].all()
    for snr in levels.snrs:
        other = GaussianLikelihood(task, several, kind="pink", snr=snr).mean(z)
        np.testing.assert_allclose(other[0] * levels.levels[snr]["pink"], one[0], rtol=1e-6)
    view = several.view(campaign)
    kind, level = view.conditions(0)
    rows = np.flatnonzero((kind == 0) & (level == 1))
    likelihood = GaussianLikelihood(task, several, kind="white", snr=20.0)
    mean, _ = likelihood.mean(likelihood.prior.to_unconstrained(campaign.theta[rows]))
    residual = likelihood.whiten(view.sequences(0).values[rows]) - mean
    assert residual.std() == pytest.approx(1.0, abs=0.05)
    for choice, why in (
        ({}, "name its kind"),
        ({"kind": "pink", "snr": 7.0}, "name its kind"),
        ({"kind": "late", "snr": 0.0}, "not Gaussian"),
    ):
        with pytest.raises(InputError, match=why):
            GaussianLikelihood(task, several, **choice)


def test_what_has_no_exact_likelihood_is_refused(setting) -> None:
    task, observer, _ = setting
    with pytest.raises(InputError, match="random time"):
        GaussianLikelihood(dataclasses.replace(task, jitter=0.1), observer)
    noisy = STUDY.replace(
        prior={**STUDY.model_dump()["prior"], "noise": {"distribution": "fixed", "low": 1.0}}
    )
    with pytest.raises(InputError, match="noisy"):
        GaussianLikelihood(build_task(noisy, [], stream="t"), observer)

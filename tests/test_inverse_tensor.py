"""Kernels of torch against MNE-Python, closed forms and themselves in a loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mne
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from nmm_infer.anatomy import Head
from nmm_infer.errors import InputError
from nmm_infer.inverse.tensor import (
    combine_orientations,
    depth_weights,
    lambda2_by_discrepancy,
    lambda2_by_gcv,
    lcmv,
    minimum_norm,
    whitener,
)
from nmm_infer.observation import Noise

METHODS = ("MNE", "dSPM", "sLORETA", "eLORETA")
TIGHT = {"eps": 1e-11, "max_iter": 500}


@dataclass(frozen=True, eq=False)
class Case:
    """A forward model for MNE, and what the tensors need to know of it."""

    info: mne.Info
    forward: mne.Forward
    covariance: NDArray[np.float64]
    reference: NDArray[np.float64]
    depth_channels: list[int]
    n_orient: int

    @property
    def raw_gain(self) -> Tensor:
        return torch.tensor(self.forward["sol"]["data"].astype(float))

    @property
    def gain(self) -> Tensor:
        return torch.tensor(self.reference) @ self.raw_gain

    @property
    def noise(self) -> Tensor:
        return torch.tensor(self.covariance)

    def mne_covariance(self, matrix: NDArray[np.float64]) -> mne.Covariance:
        return mne.Covariance(matrix, self.info.ch_names, [], [], nfree=1, verbose="error")

    def unit_patterns(self) -> mne.EvokedArray:
        unit = np.eye(len(self.info.ch_names))
        return mne.EvokedArray(unit, self.info, tmin=0.0, nave=1, verbose="error")

    def mne_kernel(self, lambda2: float, method: str, depth: float | None) -> NDArray[np.float64]:
        """What MNE makes of unit patterns: its kernel, with the projections in it."""
        fixed = self.n_orient == 1
        prior: Any = {"exp": depth, "allow_fixed_depth": True} if depth and fixed else depth
        operator = mne.minimum_norm.make_inverse_operator(
            self.info, self.forward, self.mne_covariance(self.covariance), fixed=fixed,
            loose=0.0 if fixed else 1.0, depth=prior, verbose="error",
        )  # fmt: skip
        estimate = mne.minimum_norm.apply_inverse(
            self.unit_patterns(), operator, lambda2, method, pick_ori=None if fixed else "vector",
            method_params=TIGHT if method == "eLORETA" else None, verbose="error",
        )  # fmt: skip
        return estimate.data.reshape(-1, len(self.info.ch_names))

    def mne_lcmv(self, data_covariance: NDArray[np.float64], **how: Any) -> NDArray[np.float64]:
        filters = mne.beamformer.make_lcmv(
            self.info, self.forward, self.mne_covariance(data_covariance),
            noise_cov=self.mne_covariance(self.covariance), rank=None, verbose="error", **how,
        )  # fmt: skip
        estimate = mne.beamformer.apply_lcmv(self.unit_patterns(), filters, verbose="error")
        return estimate.data.reshape(-1, len(self.info.ch_names))


@pytest.fixture(scope="module")
def cases(info: mne.Info, head: Head, noise: Noise) -> dict[str, Case]:
    n = len(info.ch_names)
    referenced = mne.EvokedArray(np.zeros((n, 1)), info, tmin=0.0, verbose="error")
    referenced.set_eeg_reference("average", projection=True, verbose="error")
    average = np.eye(n) - 1.0 / n
    some = mne.forward.restrict_forward_to_label(head.forward, list(head.labels[:4]))
    free = mne.convert_forward_solution(some, force_fixed=False, surf_ori=False, verbose="error")
    eeg = (referenced.info, noise.spatial, average, list(range(n)))

    everything = mne.channels.read_meg_canonical_info("neuromag", verbose="error")
    meg = mne.pick_info(everything, [k for k in range(306) if k % 24 < 3])
    sphere = mne.make_sphere_model((0.0, 0.0, 0.04), None, verbose="error")
    grid = mne.setup_volume_source_space(
        pos=25.0, sphere=(0.003, 0.004, 0.045, 0.08), sphere_units="m", verbose="error"
    )
    volume = mne.make_forward_solution(meg, None, grid, sphere, eeg=False, verbose="error")
    m = len(meg.ch_names)
    gradiometers = list(mne.pick_types(meg, meg="grad"))
    rng = np.random.default_rng(0)
    deviation = np.sqrt(mne.make_ad_hoc_cov(meg, verbose="error").data)
    mixing = np.eye(m) + 0.2 * rng.standard_normal((m, m))
    full = deviation[:, None] * (mixing @ mixing.T) * deviation

    artefacts = np.zeros((m, 3))
    artefacts[mne.pick_types(meg, meg="mag")] = np.linalg.qr(rng.standard_normal((m // 3, 3)))[0]
    projection = np.eye(m) - artefacts @ artefacts.T
    projected = meg.copy()
    with projected._unlock():
        projected["projs"] = [
            mne.Projection(
                active=True, kind=1, desc=f"artefact {k}", explained_var=None,
                data={
                    "nrow": 1, "ncol": m, "row_names": None, "col_names": list(meg.ch_names),
                    "data": artefacts[:, k][None],
                },
            )
            for k in range(3)
        ]  # fmt: skip
    return {
        "fixed EEG": Case(eeg[0], some, *eeg[1:], 1),
        "free EEG": Case(eeg[0], free, *eeg[1:], 3),
        "MEG, diagonal": Case(meg, volume, np.diag(deviation**2), np.eye(m), gradiometers, 3),
        "MEG, full": Case(meg, volume, full, np.eye(m), gradiometers, 3),
        "MEG, projected": Case(
            projected, volume, projection @ full @ projection, projection, gradiometers, 3
        ),
    }


CASES = ("fixed EEG", "free EEG", "MEG, diagonal", "MEG, full", "MEG, projected")


def error(got: Tensor, expected: NDArray[np.float64]) -> float:
    """Largest difference relative to the largest value."""
    assert got.shape == expected.shape
    return float(np.abs(got.numpy() - expected).max() / np.abs(expected).max())


# --- Against MNE-Python


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", CASES)
def test_kernels_are_those_of_mne(cases: dict[str, Case], name: str, method: str) -> None:
    case = cases[name]
    got = minimum_norm(case.gain, case.noise, 0.03, method, case.n_orient)
    assert error(got, case.mne_kernel(0.03, method, None)) < 1e-6


@pytest.mark.parametrize("name", ["fixed EEG", "free EEG", "MEG, full"])
def test_depth_weighting_is_that_of_mne(cases: dict[str, Case], name: str) -> None:
    case = cases[name]
    prior = depth_weights(case.raw_gain[case.depth_channels], 0.8, case.n_orient)
    for method in METHODS[:3]:
        got = minimum_norm(case.gain, case.noise, 0.1, method, case.n_orient, depth=prior)
        assert error(got, case.mne_kernel(0.1, method, 0.8)) < 1e-6
        without = minimum_norm(case.gain, case.noise, 0.1, method, case.n_orient)
        assert error(without, case.mne_kernel(0.1, method, 0.8)) > 1e-2


def test_limit_of_depth_weighting_is_that_of_mne(cases: dict[str, Case]) -> None:
    case = cases["MEG, full"]
    for limit in (4.0, 6.0, 1e3):
        got = depth_weights(case.raw_gain[case.depth_channels], 0.6, 3, limit=limit)
        expected = mne.forward.compute_depth_prior(
            case.forward, case.info, exp=0.6, limit=limit, limit_depth_chs=True, verbose="error"
        )
        assert error(got, expected.reshape(-1, 3)[:, 0]) < 1e-6
        assert len(np.unique(expected)) > 3


def data_covariance(case: Case, n_samples: int = 400) -> NDArray[np.float64]:
    """Noise, and five sources of 30 times its power in one dimension."""
    rng = np.random.default_rng(1)
    gain = case.gain.numpy()
    patterns = gain[:, rng.choice(gain.shape[1], 5, replace=False)]
    patterns *= np.sqrt(30) / np.linalg.norm(whitener(case.noise).numpy() @ patterns, axis=0)
    values, vectors = np.linalg.eigh(case.covariance)
    noise = (vectors * np.sqrt(values.clip(0))) @ rng.standard_normal((len(gain), n_samples))
    data = patterns @ rng.standard_normal((5, n_samples)) + noise
    return data @ data.T / n_samples


WEIGHT_NORMS = (None, "unit-noise-gain", "unit-noise-gain-invariant", "nai")


@pytest.mark.parametrize("weight_norm", WEIGHT_NORMS)
@pytest.mark.parametrize("name", CASES)
def test_beamformers_are_those_of_mne(cases: dict[str, Case], name: str, weight_norm: Any) -> None:
    case = cases[name]
    covariance = data_covariance(case)
    # In a sphere, radial sources are silent in MEG, which MNE has to be told.
    how = {"weight_norm": weight_norm, "reduce_rank": name.startswith("MEG")}
    # The noise power of "nai" is the loading or the smallest eigenvalue.
    for regularisation in (0.05, 0.5) if weight_norm == "nai" else (0.05,):
        args = (case.gain, torch.tensor(covariance), case.noise, regularisation, case.n_orient)
        picks = ("vector",) if case.n_orient == 1 else ("vector", "max-power")
        for pick in picks:
            got = lcmv(*args, weight_norm=weight_norm, pick=pick)
            expected = case.mne_lcmv(
                covariance, reg=regularisation, pick_ori=None if case.n_orient == 1 else pick, **how
            )
            if pick == "max-power":  # the sign of an orientation is free
                signs = np.sign((got.numpy() * expected).sum(axis=1, keepdims=True))
                expected = expected * signs
            assert error(got, expected) < 1e-6, (regularisation, pick)


# --- Closed forms

RNG = np.random.default_rng


def example(
    n_orient: int = 1, *, n_channels: int = 16, n_sources: int = 30, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Average-referenced gain and noise covariance, random, sources of unequal strength."""
    rng = RNG(seed)
    average = np.eye(n_channels) - 1.0 / n_channels
    mixing = np.eye(n_channels) + 0.3 * rng.standard_normal((n_channels, n_channels))
    strength = rng.uniform(0.2, 5.0, n_sources).repeat(n_orient)
    gain = average @ rng.standard_normal((n_channels, n_sources * n_orient)) * strength
    return torch.tensor(gain), torch.tensor(average @ mixing @ mixing.T @ average)


def test_whitener_turns_noise_white_in_its_range_and_is_zero_outside() -> None:
    _, noise = example()
    white = whitener(noise)
    projection = torch.eye(16, dtype=torch.float64) - 1 / 16
    assert (white - white.mT).abs().max() < 1e-12
    torch.testing.assert_close(white @ noise @ white, projection, rtol=0, atol=1e-10)
    assert (white @ torch.ones(16, dtype=torch.float64)).abs().max() < 1e-10 * white.abs().max()
    torch.testing.assert_close(whitener(noise, 15), white)
    assert torch.linalg.matrix_rank(whitener(noise, 9)) == 9
    torch.testing.assert_close(
        whitener(torch.diag(torch.tensor([4.0, 9.0, 0.0]))).diagonal(),
        torch.tensor([1 / 2, 1 / 3, 0], dtype=torch.float64),
    )


def test_rank_is_that_of_the_stated_tolerance() -> None:
    basis = torch.linalg.qr(torch.tensor(RNG(4).standard_normal((64, 64))))[0]
    for share, rank in ((4e-15, 63), (1e-13, 64)):  # the threshold is 1.4e-14
        values = torch.ones(64, dtype=torch.float64)
        values[5] = share
        white = whitener((basis * values) @ basis.mT)
        assert int((torch.linalg.eigvalsh(white) > 0.5).sum()) == rank


def test_rank_of_a_covariance_in_float32_is_found() -> None:
    gain, noise = example(n_channels=64)
    white = whitener(noise.float())
    assert white.dtype == torch.float64
    assert torch.linalg.matrix_rank(white) == 63
    torch.testing.assert_close(white, whitener(noise), rtol=0, atol=1e-4 * float(white.abs().max()))
    kernel = minimum_norm(gain.float(), noise.float(), 0.1)
    assert kernel.dtype == torch.float64
    expected = minimum_norm(gain, noise, 0.1)
    torch.testing.assert_close(kernel, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


def test_minimum_norm_is_the_posterior_mean_of_a_gaussian_model() -> None:
    gain, noise = example(3)
    prior = RNG(1).uniform(0.1, 1.0, 30)
    got = minimum_norm(gain, noise, 0.3, "MNE", 3, depth=torch.tensor(prior)).numpy()
    L, C, R = gain.numpy(), noise.numpy(), np.diag(prior.repeat(3))
    R *= 15 / np.trace(np.linalg.pinv(C, rcond=1e-10, hermitian=True) @ L @ R @ L.T)
    expected = R @ L.T @ np.linalg.pinv(L @ R @ L.T + 0.3 * C, rcond=1e-10, hermitian=True)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-10 * np.abs(expected).max())


def test_without_regularisation_the_data_are_explained() -> None:
    projection = torch.eye(16, dtype=torch.float64) - 1 / 16
    for seed in range(8):
        gain, noise = example(seed=seed)
        for method in ("MNE", "eLORETA"):
            kernel = minimum_norm(gain, noise, 1e-17, method)
            torch.testing.assert_close(gain @ kernel, projection, rtol=0, atol=1e-9)


def test_scores_have_unit_variance() -> None:
    """DSPM under noise alone; sLORETA under prior sources and noise, times lambda."""
    gain, noise = example()
    scores = minimum_norm(gain, noise, 0.3, "dSPM")
    ones = torch.ones(30, dtype=torch.float64)
    torch.testing.assert_close((scores @ noise @ scores.mT).diagonal(), ones)
    scores = minimum_norm(gain, noise, 0.3, "sLORETA")
    white = whitener(noise)
    scale = 15 / (white @ gain).square().sum()
    total = scale * gain @ gain.mT + 0.3 * noise
    torch.testing.assert_close((scores @ total @ scores.mT).diagonal(), 0.3 * ones)
    free, noise = example(3)
    scores = minimum_norm(free, noise, 0.3, "dSPM", 3)
    pooled = (scores @ noise @ scores.mT).diagonal().reshape(30, 3).sum(-1)
    torch.testing.assert_close(pooled, ones)


def test_sloreta_and_eloreta_place_every_single_dipole_without_error() -> None:
    gain, noise = example()
    wrong = {}
    for method in METHODS:
        estimate = minimum_norm(gain, noise, 0.1, method) @ gain
        wrong[method] = int((estimate.abs().argmax(0) != torch.arange(30)).sum())
    assert wrong["sLORETA"] == wrong["eLORETA"] == 0
    assert wrong["MNE"] > 3 and wrong["dSPM"] > 0


def test_eloreta_places_every_dipole_of_any_orientation_without_error() -> None:
    gain, noise = example(3)
    moments = torch.tensor(RNG(2).standard_normal((30, 3, 7)))
    patterns = torch.einsum("csk,skn->csn", gain.reshape(16, 30, 3), moments).reshape(16, -1)
    expected = torch.arange(30).repeat_interleave(7)
    for method, exact in (("eLORETA", True), ("sLORETA", False), ("MNE", False)):
        estimate = combine_orientations(minimum_norm(gain, noise, 0.1, method, 3) @ patterns, 3)
        assert estimate.shape == (30, 210)
        assert torch.equal(estimate.argmax(0), expected) == exact


def test_eloreta_is_at_its_fixed_point() -> None:
    """Against a plain loop over its equations, many times as long."""
    gain, noise = example()
    kernel = minimum_norm(gain, noise, 0.1, "eLORETA")
    A = (whitener(noise) @ gain).numpy()
    resolution = (kernel @ gain).diagonal().numpy()
    inverse = np.eye(16)
    for _ in range(200):
        prior = np.einsum("cs,cd,ds->s", A, inverse, A) ** -0.5
        prior *= 15 / np.trace((A * prior) @ A.T)
        inverse = np.linalg.inv((A * prior) @ A.T + 0.1 * np.eye(16))
    expected = prior * np.einsum("cs,cd,ds->s", A, inverse, A)
    np.testing.assert_allclose(resolution, expected, rtol=1e-7)


def test_length_of_moments() -> None:
    estimate = torch.tensor([[3.0], [0.0], [4.0], [0.0], [-2.0], [0.0]])
    assert combine_orientations(estimate, 3).tolist() == [[5.0], [2.0]]
    assert combine_orientations(estimate, 1)[:, 0].tolist() == [3.0, 0.0, 4.0, 0.0, 2.0, 0.0]


def one_source(n_orient: int, source: int, moment: NDArray[np.float64]) -> tuple[Tensor, ...]:
    gain, noise = example(n_orient)
    pattern = gain.reshape(16, 30, n_orient)[:, source] @ torch.tensor(moment)
    return gain, noise, pattern, noise + torch.outer(pattern, pattern)


def test_beamformer_of_unit_gain_lets_its_source_through() -> None:
    gain, noise, pattern, data = one_source(1, 4, np.array([2.0]))
    weights = lcmv(gain, data, noise)
    torch.testing.assert_close((weights @ gain).diagonal(), torch.ones(30, dtype=torch.float64))
    # Without loading, the power at the source is its own and 1 / (l^T C^+ l) of noise.
    weights = lcmv(gain, data, noise, 0.0)[4]
    white = whitener(noise) @ pattern / 2.0
    torch.testing.assert_close(weights @ data @ weights, 4.0 + 1 / (white @ white))
    free, noise, _, data = one_source(3, 4, np.array([2.0, 1.0, -1.0]))
    response = (lcmv(free, data, noise, 0.05, 3) @ free).reshape(30, 3, 30, 3)
    own = response[torch.arange(30), :, torch.arange(30)]
    torch.testing.assert_close(own, torch.eye(3, dtype=torch.float64).expand(30, 3, 3))


def test_normalised_beamformers_have_their_noise() -> None:
    gain, noise, _, data = one_source(3, 4, np.array([2.0, 1.0, -1.0]))
    identity = torch.eye(3, dtype=torch.float64).expand(30, 3, 3)

    def gained(weight_norm: Any) -> Tensor:
        weights = lcmv(gain, data, noise, 1e-3, 3, weight_norm=weight_norm).reshape(30, 3, 16)
        return weights @ noise @ weights.mT

    torch.testing.assert_close(
        gained("unit-noise-gain").diagonal(dim1=1, dim2=2), torch.ones(30, 3, dtype=torch.float64)
    )
    torch.testing.assert_close(gained("unit-noise-gain-invariant"), identity)
    # White noise of power 1 in 15 dimensions, one source on top; the loading is less.
    torch.testing.assert_close(gained("nai"), gained("unit-noise-gain"))
    # With twice the mean diagonal, the loading is the noise power.
    white = whitener(noise)
    load = 2.0 * (white @ data @ white).diagonal().mean()
    nai, unit = (
        lcmv(gain, data, noise, 2.0, 3, weight_norm=norm) for norm in ("nai", "unit-noise-gain")
    )
    torch.testing.assert_close(nai * load.sqrt(), unit)


def test_invariant_beamformer_does_not_depend_on_the_axes() -> None:
    gain, noise, _, data = one_source(3, 4, np.array([2.0, 1.0, -1.0]))
    turn = torch.linalg.qr(torch.tensor(RNG(3).standard_normal((3, 3))))[0]
    turned = (gain.reshape(16, 30, 3) @ turn).reshape(16, 90)
    for norm, same in (("unit-noise-gain-invariant", True), ("unit-noise-gain", False)):
        power = [
            lcmv(g, data, noise, 0.05, 3, weight_norm=norm).reshape(30, 3, 16).square().sum((1, 2))
            for g in (gain, turned)
        ]
        assert torch.allclose(*power, rtol=1e-8) == same


def test_max_power_finds_the_orientation_of_a_source() -> None:
    moment = np.array([0.5, -3.0, 1.0])
    gain, noise, pattern, data = one_source(3, 4, moment)
    got = lcmv(gain, data, noise, 0.05, 3, weight_norm="unit-noise-gain", pick="max-power")
    assert got.shape == (30, 16)
    fixed = gain.clone()[:, :30]
    fixed[:, 4] = -pattern / np.linalg.norm(moment)  # so that the largest component is positive
    expected = lcmv(fixed, data, noise, 0.05, weight_norm="unit-noise-gain")
    torch.testing.assert_close(got[4], expected[4])


@pytest.mark.parametrize("n_orient", [1, 3])
def test_source_without_gain_gives_zero(n_orient: int) -> None:
    gain, noise = example(n_orient)
    gain[:, 2 * n_orient : 3 * n_orient] = 0.0
    for depth in (None, 0.8):
        for method in METHODS[: 4 if depth is None else 3]:
            kernel = minimum_norm(gain, noise, 0.1, method, n_orient, depth=depth)
            rows = kernel.unflatten(0, (30, n_orient))
            assert kernel.isfinite().all()
            assert (rows[2] == 0).all() and (rows[3] != 0).any()
    for norm in WEIGHT_NORMS:
        for pick in ("vector", "max-power"):
            weights = lcmv(gain, noise, noise, 0.05, n_orient, weight_norm=norm, pick=pick)
            rows = weights.unflatten(0, (30, -1))
            assert weights.isfinite().all()
            assert (rows[2] == 0).all() and (rows[3] != 0).any()


def test_units_of_the_data_do_not_matter() -> None:
    """Volts or microvolts, tesla or femtotesla: the estimate of the same data is the same."""
    gain, noise = example(3)
    _, _, _, data = one_source(3, 4, np.array([2.0, 1.0, -1.0]))
    for scale in (1e-15, 1e6):
        for method in METHODS:
            kernels = [
                minimum_norm(s * gain, s**2 * noise, 0.1, method, 3) * s for s in (1.0, scale)
            ]
            torch.testing.assert_close(*kernels, rtol=1e-6, atol=1e-8)
        filters = [lcmv(s * gain, s**2 * data, s**2 * noise, 0.05, 3) * s for s in (1.0, scale)]
        torch.testing.assert_close(*filters, rtol=1e-6, atol=1e-8)


def test_kernel_can_be_differentiated_by_lambda2() -> None:
    gain, noise = example()
    for method in METHODS[:3]:
        lambda2 = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(
            lambda x, m=method: minimum_norm(gain, noise, x, m)[3, :4], lambda2
        )


# --- Batches


def several(n_orient: int) -> tuple[Tensor, Tensor, Tensor]:
    """Two heads by three noise covariances of different rank, and as many lambda2."""
    gains, noises = zip(*(example(n_orient, seed=seed) for seed in range(3)), strict=True)
    noise = torch.stack(noises)
    white = torch.linalg.eigh(noise[2])[1][:, 5:]
    noise[2] = white @ white.mT @ noise[2] @ white @ white.mT
    return torch.stack(gains[:2]), noise, torch.tensor([[0.1, 1.0, 0.3], [0.5, 0.05, 2.0]])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n_orient", [1, 3])
def test_batch_of_kernels_is_a_loop(n_orient: int, method: str) -> None:
    gain, noise, lambda2 = several(n_orient)
    depth = None if method == "eLORETA" else 0.8
    got = minimum_norm(gain[:, None], noise, lambda2, method, n_orient, depth=depth)
    assert got.shape == (2, 3, 30 * n_orient, 16)
    for i in range(2):
        for k in range(3):
            one = minimum_norm(
                gain[i], noise[k], float(lambda2[i, k]), method, n_orient, depth=depth
            )
            torch.testing.assert_close(got[i, k], one, rtol=0, atol=1e-7 * float(one.abs().max()))
    assert minimum_norm(gain[0], noise[0], lambda2, method, n_orient).shape[:2] == (2, 3)


@pytest.mark.parametrize("pick", ["vector", "max-power"])
@pytest.mark.parametrize("weight_norm", WEIGHT_NORMS)
def test_batch_of_beamformers_is_a_loop(weight_norm: Any, pick: Any) -> None:
    gain, noise, share = several(3)
    samples = torch.tensor(RNG(5).standard_normal((4, 1, 1, 90, 50)))
    windows = gain[:, None] @ samples + (noise + 1.0) @ samples[..., :16, :]
    data = windows @ windows.mT / 50
    how = {"n_orient": 3, "weight_norm": weight_norm, "pick": pick}
    got = lcmv(gain[:, None], data, noise, share, **how)
    assert got.shape == (4, 2, 3, 90 if pick == "vector" else 30, 16)
    for j, i, k in [(0, 0, 0), (1, 0, 1), (2, 1, 2), (3, 1, 0)]:
        one = lcmv(gain[i], data[j, i, k], noise[k], float(share[i, k]), **how)
        torch.testing.assert_close(got[j, i, k], one, rtol=0, atol=1e-8 * float(one.abs().max()))


# --- Choice of lambda2


@pytest.fixture(scope="module")
def regions(head: Head, noise: Noise) -> tuple[Tensor, Tensor]:
    """Average-referenced gain of the regions in V/nAm, and the noise covariance in V^2."""
    gain = head.leadfield.values - head.leadfield.values.mean(axis=0)
    return torch.tensor(gain), torch.tensor(noise.spatial)


DECIBELS = (0, 5, 10, 15, 20)


def windows(
    gain: Tensor, noise: Tensor, n_times: int = 80, n_active: int | None = None
) -> tuple[Tensor, Tensor]:
    """Moments and data, 30 windows at each level of whitened power over that of the noise."""
    rng = RNG(7)
    n_sources = gain.shape[1]
    moments = rng.standard_normal((30, n_sources, n_times))
    if n_active is not None:
        rank = rng.random((30, n_sources, 1)).argsort(axis=1).argsort(axis=1)
        moments *= rank < n_active
    white = whitener(noise)
    values, vectors = torch.linalg.eigh(noise)
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.mT
    signal = white @ gain @ torch.tensor(moments)
    dimensions = torch.linalg.matrix_rank(white)
    power = signal.square().sum((-2, -1), keepdim=True) / (dimensions * n_times)
    snr = 10 ** (torch.tensor(DECIBELS, dtype=torch.float64) / 10)[:, None, None, None]
    scale = (snr / power).sqrt()
    sources = scale * torch.tensor(moments)
    return sources, gain @ sources + root @ torch.tensor(rng.standard_normal((30, 32, n_times)))


def test_cross_validation_finds_the_signal_to_noise_ratio(regions: tuple[Tensor, Tensor]) -> None:
    """Sources drawn from the prior: the best lambda2 is noise over signal power."""
    gain, noise = regions
    _, data = windows(gain, noise)
    chosen = lambda2_by_gcv(gain, noise, data)
    assert chosen.shape == (5, 30)
    decibels = -10 * chosen.log10()
    np.testing.assert_allclose(decibels.median(-1).values, DECIBELS, atol=2.0)
    # The scale of the noise covariance does not matter.
    assert torch.equal(lambda2_by_gcv(gain, 100.0 * noise, data), chosen)


@pytest.mark.parametrize("n_active", [None, 3])
def test_cross_validated_estimate_is_close_to_the_best(
    regions: tuple[Tensor, Tensor], n_active: int | None
) -> None:
    gain, noise = regions
    sources, data = windows(gain, noise, n_active=n_active)
    grid = torch.logspace(-4, 2, 25, dtype=torch.float64)
    chosen = lambda2_by_gcv(gain, noise, data, grid)
    assert (chosen.median(-1).values.diff() < 0).all()

    def errors(lambda2: Tensor) -> Tensor:
        wrong = minimum_norm(gain, noise, lambda2) @ data - sources
        return wrong.square().sum((-2, -1)) / sources.square().sum((-2, -1))

    best = torch.stack([errors(candidate) for candidate in grid]).amin(0)
    excess = errors(chosen) / best
    assert excess.mean(-1).max() < 1.05
    # One value for all levels would not do.
    assert (errors(chosen[0].median())[-1] / best[-1]).mean() > 1.1


@pytest.mark.parametrize("n_orient", [1, 3])
def test_choices_are_those_of_the_definitions(n_orient: int) -> None:
    gain, noise = example(n_orient)
    rng = RNG(9)
    sources = 0.2 * torch.tensor(rng.standard_normal((6, 30 * n_orient, 40)))
    sources = sources * torch.logspace(-1, 1, 6)[:, None, None]
    root = torch.linalg.eigh(noise)
    root = root[1] * root[0].clamp_min(0).sqrt()
    data = gain @ sources + root @ torch.tensor(rng.standard_normal((6, 16, 40)))
    grid = torch.logspace(-3, 3, 13, dtype=torch.float64)
    white = whitener(noise)
    back = torch.linalg.pinv(white, rtol=1e-10, hermitian=True)
    scores, residuals = [], []
    for candidate in grid:
        kernel = minimum_norm(gain, noise, candidate, "MNE", n_orient, depth=0.5)
        left = white @ back - white @ gain @ kernel @ back
        residuals.append((left @ white @ data).square().sum((-2, -1)))
        scores.append(15 * residuals[-1] / left.trace() ** 2)
    how = {"n_orient": n_orient, "depth": 0.5}
    chosen = lambda2_by_gcv(gain, noise, data, grid, **how)
    assert torch.equal(chosen, grid[torch.stack(scores).argmin(0)])
    assert len(chosen.unique()) > 2
    fits = torch.stack(residuals) <= 15 * 40
    expected = torch.stack([grid[column].max() for column in fits.mT])
    chosen = lambda2_by_discrepancy(gain, noise, data, grid.flip(0), **how)
    assert torch.equal(chosen, expected)
    assert len(chosen.unique()) > 2
    assert lambda2_by_discrepancy(gain, noise / 1e6, data, grid, **how).eq(grid[0]).all()


# --- Errors


def broken(matrix: Tensor, *place: int, value: float) -> Tensor:
    matrix = matrix.clone()
    matrix[place] = value
    return matrix


GAIN, NOISE = example(3)
TWO = torch.stack([NOISE, NOISE])
LIST = torch.ones(2, dtype=torch.float64)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: minimum_norm(GAIN[:15], NOISE, 0.1), "gain has 15 channels, noise_covariance 16"),
        (lambda: minimum_norm(GAIN[:, :-1], NOISE, 0.1, n_orient=3), "no sources of 3"),
        (lambda: minimum_norm(GAIN, NOISE, 0.1, n_orient=2), "n_orient must be 1 or 3"),
        (lambda: minimum_norm(GAIN[0], NOISE, 0.1), "at least 2 dimensions"),
        (lambda: minimum_norm(GAIN.expand(3, -1, -1), TWO, 0.1), r"gain \(3,\), noise_covariance"),
        (lambda: minimum_norm(GAIN, TWO, torch.ones(3)), r"gain \(2,\), lambda2 \(3,\)"),
        (lambda: minimum_norm(0 * GAIN, NOISE, 0.1), "gain is zero"),
        (lambda: minimum_norm(torch.ones(16, 9), NOISE, 0.1), "gain is zero where the noise"),
        (lambda: minimum_norm(broken(GAIN, 3, 4, value=np.nan), NOISE, 0.1), r"gain\[3, 4\]"),
        (lambda: minimum_norm(GAIN, NOISE, 0.0), "lambda2 must be above 0"),
        (lambda: minimum_norm(GAIN, NOISE, torch.tensor([1.0, -1.0])), r"lambda2\[1\] must"),
        (lambda: minimum_norm(GAIN, NOISE, float("inf")), "lambda2 must be above 0 and finite"),
        (lambda: minimum_norm(GAIN, NOISE, 0.1, "LORETA"), "method must be"),
        (lambda: minimum_norm(GAIN, NOISE, 0.1, "eLORETA", depth=0.8), "leave depth out"),
        (lambda: minimum_norm(GAIN, NOISE, 0.1, depth=-1.0), "exponent of at least 0"),
        (lambda: minimum_norm(GAIN, NOISE, 0.1, depth=LIST), "each of the 90 sources"),
        (lambda: minimum_norm(GAIN, NOISE, 0.1, depth=torch.zeros(90)), "leaves no source"),
        (lambda: minimum_norm(GAIN[:, :9], NOISE, 1e-18), "singular: regularise more"),
        (lambda: whitener(NOISE[:, :15]), "must be"),
        (lambda: whitener(broken(TWO, 1, 0, 3, value=9.0)), r"noise_covariance\[1\] is not symm"),
        (lambda: whitener(broken(TWO, 1, 0, 3, value=np.inf)), r"noise_covariance\[1, 0, 3\]"),
        (lambda: whitener(-torch.eye(16)), "no positive eigenvalue"),
        (lambda: whitener(0 * TWO), r"noise_covariance\[0\] has no positive eigenvalue"),
        (lambda: whitener(NOISE - 0.5 * torch.eye(16)), "negative eigenvalue"),
        (lambda: whitener(NOISE.numpy()), "must be a torch.Tensor, not ndarray"),
        (lambda: whitener(NOISE, 2.5), "rank must be between 1 and the 16 channels"),
        (lambda: whitener(NOISE, 17), "rank must be between 1 and the 16 channels"),
        (lambda: whitener(NOISE, 16), "rank below 16"),
        (lambda: depth_weights(GAIN, limit=0.5), "limit of at least 1"),
        (lambda: combine_orientations(torch.ones(7, 2), 3), "no sources of 3"),
        (lambda: lcmv(GAIN, NOISE[:9, :9], NOISE), "gain has 16 channels, data_covariance 9"),
        (lambda: lcmv(GAIN, broken(NOISE, 0, 1, value=99.0), NOISE), "data_covariance is not symm"),
        (lambda: lcmv(GAIN, 0 * NOISE, NOISE), "data_covariance has no power"),
        (lambda: lcmv(GAIN, GAIN[:, :5] @ GAIN[:, :5].mT, NOISE, 0.0), "regularise more"),
        (lambda: lcmv(GAIN, NOISE, NOISE, -0.1), "regularisation must be 0 or more"),
        (lambda: lcmv(GAIN, NOISE, NOISE, weight_norm="unit"), "weight_norm must be"),
        (lambda: lcmv(GAIN, NOISE, NOISE, pick="normal"), "pick must be"),
        (lambda: lambda2_by_gcv(GAIN, NOISE, GAIN[:15]), "gain has 16 channels, data 15"),
        (lambda: lambda2_by_gcv(GAIN, NOISE, 0 * GAIN), "data is zero everywhere"),
        (lambda: lambda2_by_gcv(GAIN, NOISE, GAIN, torch.ones(2, 2)), "list of candidates"),
        (lambda: lambda2_by_gcv(GAIN, NOISE, GAIN, -LIST), r"grid\[0\] must be above 0"),
    ],
)
def test_bad_input_is_told(call: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


def test_eloreta_that_does_not_converge_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nmm_infer.inverse.tensor._ELORETA_STEPS", 3)
    with pytest.raises(InputError, match=r"still changes by .* after 3 steps: raise lambda2"):
        minimum_norm(GAIN, NOISE, 1e-3, "eLORETA", 3)

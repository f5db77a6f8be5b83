"""Kernels and region operators against MNE, and where they put a source."""

from __future__ import annotations

import mne
import numpy as np
import pytest
import xarray as xr

from nmm_infer.anatomy import Head, template_head
from nmm_infer.demonstration import CHANNELS as MANY
from nmm_infer.errors import InputError
from nmm_infer.inverse import (
    RegionOperators,
    choose_lambda2,
    inverse_operator,
    lcmv_kernel,
    region_operators,
    source_estimate,
    source_kernel,
)
from nmm_infer.observation import EvokedProtocol, Noise, Observer, noise_from_level


@pytest.fixture(scope="module")
def evoked(info: mne.Info) -> mne.EvokedArray:
    data = 1e-6 * np.random.default_rng(0).standard_normal((len(info.ch_names), 30))
    evoked = mne.EvokedArray(data - data.mean(axis=0), info, nave=1, verbose="error")
    return evoked.set_eeg_reference("average", projection=True, verbose="error")


@pytest.fixture(scope="module", params=["eLORETA", "sLORETA"])
def pair(
    request: pytest.FixtureRequest, head: Head, info: mne.Info, noise: Noise,
    evoked: mne.EvokedArray,
) -> tuple[RegionOperators, mne.SourceEstimate, mne.SourceSpaces]:  # fmt: skip
    """Our operators, and MNE's own way to the same source estimate."""
    operators = region_operators(head, info, noise.covariance(), request.param, 2.0)
    theirs = mne.minimum_norm.make_inverse_operator(
        evoked.info, head.forward, noise.covariance(), loose=0.0, depth=None, fixed=True,
        verbose="error",
    )  # fmt: skip
    stc = mne.minimum_norm.apply_inverse(
        evoked, theirs, lambda2=0.25, method=request.param, verbose="error"
    )
    return operators, stc, theirs["src"]


def test_courses_are_those_of_mne(pair: tuple, evoked: mne.Evoked, head: Head) -> None:
    operators, stc, src = pair
    expected = mne.extract_label_time_course(
        stc, list(head.labels), src, mode="mean_flip", verbose="error"
    )
    got = operators.course.values @ evoked.data
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())
    assert operators.course.dims == ("region", "channel")
    assert list(operators.course.coords["region"].values) == head.regions


def test_power_is_that_of_the_vertices(pair: tuple, evoked: mne.Evoked, head: Head) -> None:
    operators, stc, _ = pair
    covariance = evoked.data @ evoked.data.T / evoked.data.shape[1]
    got = np.einsum("rcd,dc->r", operators.power.values, covariance)
    expected = [(stc.in_label(label).data ** 2).mean() for label in head.labels]
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_a_common_signal_reaches_no_region(pair: tuple) -> None:
    operators = pair[0]
    common = operators.course.values.sum(axis=1)
    assert np.abs(common).max() < 1e-6 * np.abs(operators.course.values).max()


@pytest.fixture(scope="module")
def dense(lock: object) -> Observer:
    info = mne.create_info(list(MANY), 100.0, "eeg", verbose="error")
    info.set_montage("fsaverage_1005", verbose="error")
    with lock:  # type: ignore[attr-defined]
        head = template_head(info)
    noise = noise_from_level(info, 1e-7, 41, 100.0, (0.5, 30.0))
    return Observer(head, noise, EvokedProtocol(), info)


def test_strength_is_largest_near_the_source(dense: Observer) -> None:
    """Noise-free patches of 64 channels: the strongest region lies near the true one."""
    head = dense.head
    wave = 50.0 * np.exp(-0.5 * ((dense.protocol.times - 0.12) / 0.02) ** 2)
    sensors = np.einsum("cr,t->rct", dense._leadfield, wave)[:, None]
    found = dense._strength(sensors).argmax(axis=1)
    places = head.region_weights.values @ head.forward["source_rr"]
    distance = np.linalg.norm(places[found] - places, axis=1)
    chance = np.linalg.norm(places[:, None] - places, axis=2).mean()
    assert chance > 0.06
    assert np.median(distance) < 0.02
    assert (distance < 0.04).mean() > 0.7


# Kernels of any head


@pytest.fixture(scope="module")
def deep(info: mne.Info, lock: object) -> Head:
    with lock:  # type: ignore[attr-defined]
        return template_head(info, "cortex+subcortex")


@pytest.mark.parametrize("method", ["MNE", "dSPM", "sLORETA"])
def test_fixed_and_free_sources_together_are_those_of_mne(
    deep: Head, info: mne.Info, noise: Noise, evoked: mne.EvokedArray, method: str
) -> None:
    """MNE's loose orientation of 0 on surfaces; its eLORETA divides by that 0."""
    got = source_kernel(deep, info, noise.covariance(), method, 0.25)  # type: ignore[arg-type]
    inverse = mne.minimum_norm.make_inverse_operator(
        evoked.info, deep.forward, noise.covariance(), depth=None,
        loose={"surface": 0.0, "discrete": 1.0}, verbose="error",
    )  # fmt: skip
    theirs = mne.minimum_norm.apply_inverse(
        evoked, inverse, 0.25, method=method, pick_ori="vector", verbose="error"
    ).data
    free, normals = deep.sources.free, deep.sources.normals
    expected = np.concatenate(
        [theirs[k] if free[k] else normals[k : k + 1] @ theirs[k] for k in range(len(free))]
    )
    values = got.values @ evoked.data
    np.testing.assert_allclose(values, expected, atol=1e-6 * np.abs(expected).max())
    assert list(got.coords["orientation"].values[-3:]) == ["x", "y", "z"]
    assert np.abs(got.values.sum(axis=1)).max() < 1e-6 * np.abs(got.values).max()


def test_eloreta_of_fixed_and_free_sources_has_no_bias(deep: Head, info: mne.Info) -> None:
    """A single source, fixed or free, without noise: the largest estimate is there."""
    cov = mne.make_ad_hoc_cov(info, verbose="error")
    kernel = source_kernel(deep, info, cov, "eLORETA", 1e-6).values
    source = deep.gain.coords["source"].values
    hits = []
    for k in np.linspace(0, len(deep.sources) - 1, 40).astype(int):
        columns = np.flatnonzero(source == k)
        field = deep.gain.values[:, columns].sum(axis=1)
        power = np.bincount(source, (kernel @ (field - field.mean())) ** 2)
        hits.append(power.argmax() == k)
    assert np.mean(hits) > 0.9


def test_chosen_regularisation_falls_with_the_noise(head: Head, info: mne.Info, deep: Head) -> None:
    cov = mne.make_ad_hoc_cov(info, {"eeg": 1e-6}, verbose="error")
    rng = np.random.default_rng(1)
    for one in (head, deep):
        moments = rng.standard_normal((one.gain.sizes["component"], 60))
        field = one.gain.values @ moments
        field *= 1e-6 / field.std()
        chosen = []
        for snr in (0.5, 2.0, 8.0):
            data = snr * field + 1e-6 * rng.standard_normal(field.shape)
            labelled = xr.DataArray(
                data, dims=("channel", "time"), coords={"channel": info.ch_names}
            )
            chosen.append(choose_lambda2(one, info, cov, labelled))
        assert chosen[0] > 3 * chosen[1] > 9 * chosen[2]


def test_a_beamformer_is_that_of_mne(head: Head, info: mne.Info, evoked: mne.EvokedArray) -> None:
    cov = mne.make_ad_hoc_cov(info, verbose="error")
    rng = np.random.default_rng(2)
    epochs = mne.EpochsArray(
        1e-6 * rng.standard_normal((20, len(info.ch_names), 50)), info, verbose="error"
    ).set_eeg_reference("average", projection=True, verbose="error")
    data_cov = mne.compute_covariance(epochs, verbose="error")
    got = lcmv_kernel(head, evoked.info, data_cov, cov, weight_norm="unit-noise-gain")
    filters = mne.beamformer.make_lcmv(
        evoked.info, head.forward, data_cov, reg=0.05, noise_cov=cov, pick_ori=None,
        weight_norm="unit-noise-gain", verbose="error",
    )  # fmt: skip
    expected = mne.beamformer.apply_lcmv(evoked, filters, verbose="error").data
    values = got.values @ evoked.data
    np.testing.assert_allclose(values, expected, atol=1e-8 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"method": "LORETA"}, "choose one of"),
        *(({"lambda2": bad}, "lambda2 must be positive") for bad in (0.0, np.inf, "a", None)),
        ({"depth": -1.0}, "depth is an exponent"),
    ],
)
def test_impossible_inverses_are_refused(
    head: Head, info: mne.Info, noise: Noise, arguments: dict, why: str
) -> None:
    with pytest.raises(InputError, match=why):
        source_kernel(head, info, noise.covariance(), **arguments)


def test_depth_weighting_of_fixed_sources_is_that_of_mne(
    info: mne.Info, evoked: mne.EvokedArray, lock: object
) -> None:
    with lock:  # type: ignore[attr-defined]
        fixed, free = (template_head(info, orientation=kind) for kind in ("fixed", "free"))
    cov = mne.make_ad_hoc_cov(info, verbose="error")
    inverse = mne.minimum_norm.make_inverse_operator(
        evoked.info, free.forward, cov, fixed=True, depth=0.8, verbose="error"
    )
    theirs = mne.minimum_norm.apply_inverse(evoked, inverse, 0.25, method="MNE", verbose="error")
    got = source_kernel(fixed, info, cov, "MNE", 0.25, depth=0.8).values @ evoked.data
    np.testing.assert_allclose(got, theirs.data, atol=1e-5 * np.abs(got).max())
    plain = source_kernel(fixed, info, cov, "MNE", 0.25).values @ evoked.data
    assert np.abs(plain - got).max() > 0.1 * np.abs(got).max()
    sources = fixed.sources
    bare = Head.from_leadfield(
        1e9 * fixed.gain.values, info, sources.positions, normals=sources.normals
    )
    with pytest.raises(InputError, match="leave depth out"):
        source_kernel(bare, info, cov, "MNE", depth=0.8)


def test_units_are_those_of_the_channels(
    head: Head, info: mne.Info, noise: Noise, meg: tuple[mne.Info, Head]
) -> None:
    sensors, around = meg
    cov = mne.make_ad_hoc_cov(sensors, verbose="error")
    operators = region_operators(around, sensors, cov, "MNE")
    assert operators.course.attrs["units"] == "A*m/T"
    assert operators.power.attrs["units"] == "(A*m/T)**2"
    assert source_kernel(around, sensors, cov, "dSPM").attrs["units"] == "1/T"
    assert source_kernel(head, info, noise.covariance(), "MNE").attrs["units"] == "A*m/V"


def _cov(info: mne.Info, data: np.ndarray | None = None, n: int | None = None) -> mne.Covariance:
    names = info["ch_names"][:n]
    data = 1e-12 * (np.eye(len(names)) if data is None else data)
    return mne.Covariance(data, names, [], [], 100)


EYE = np.eye(32)


@pytest.mark.parametrize(
    ("data", "n", "why"),
    [
        (None, 10, "noise covariance lacks channel"),
        (np.nan * EYE, None, "is not finite"),
        (0.0 * EYE, None, "is zero"),
        (EYE + np.eye(32, k=1), None, "not symmetric"),
        (np.diag([-1.0] + 31 * [1.0]), None, "negative eigenvalue"),
        (EYE + 2.0 * EYE[::-1], None, "negative eigenvalue"),
    ],
)
def test_what_is_no_covariance_is_refused(
    head: Head, info: mne.Info, data: np.ndarray | None, n: int | None, why: str
) -> None:
    bad, good = _cov(info, data, n), _cov(info)
    signals = xr.DataArray(EYE, dims=("channel", "time"), coords={"channel": info.ch_names})
    for call in (
        lambda: source_kernel(head, info, bad),
        lambda: inverse_operator(head, info, bad),
        lambda: lcmv_kernel(head, info, good, bad),
        lambda: choose_lambda2(head, info, bad, signals),
    ):
        with pytest.raises(InputError, match=why):
            call()
    with pytest.raises(InputError, match=why.replace("noise", "data")):
        lcmv_kernel(head, info, bad, good)


def test_what_cannot_be_inverted_is_refused(
    head: Head, info: mne.Info, evoked: mne.EvokedArray
) -> None:
    cov = _cov(info)
    few = head.pick(info.ch_names[:10])
    for call in (
        lambda: source_kernel(few, info, cov),
        lambda: lcmv_kernel(few, info, cov, cov),
    ):
        with pytest.raises(InputError, match=r"The head lacks channel\(s\) "):
            call()
    with pytest.raises(InputError, match="weight_norm is"):
        lcmv_kernel(head, info, cov, cov, weight_norm="foo")  # type: ignore[arg-type]
    for load in (-1.0, np.nan):
        with pytest.raises(InputError, match="regularisation must be 0 or more"):
            lcmv_kernel(head, info, cov, cov, load)
    cube = xr.DataArray(np.ones((2, 32, 5)), dims=("trial", "channel", "time"))
    with pytest.raises(InputError, match="channel and time are needed"):
        choose_lambda2(head, info, cov, cube)
    inverse = inverse_operator(head, evoked.info, cov)
    for snr in (0.0, -3.0, np.nan):
        with pytest.raises(InputError, match="snr must be positive"):
            source_estimate(evoked, inverse, snr=snr)
        with pytest.raises(InputError, match="snr must be positive"):
            region_operators(head, info, cov, snr=snr)
    with pytest.raises(InputError, match="choose one of"):
        source_estimate(evoked, inverse, "foo")  # type: ignore[arg-type]
    bare = mne.EvokedArray(evoked.data, info, verbose="error")
    for other in (bare, evoked.copy().pick(info.ch_names[:10])):
        with pytest.raises(InputError, match="MNE cannot apply the inverse"):
            source_estimate(other, inverse)

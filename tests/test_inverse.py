"""Region operators against MNE, and where they put a source."""

from __future__ import annotations

import mne
import numpy as np
import pytest

from nmm_infer.anatomy import Head, template_head
from nmm_infer.demonstration import CHANNELS as MANY
from nmm_infer.inverse import RegionOperators, region_operators
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

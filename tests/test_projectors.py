"""Projectors, applied or not, act on data, lead field and noise alike, as in MNE's inverse."""

from __future__ import annotations

import mne
import numpy as np
import pytest
from conftest import CHANNELS
from mne.io.constants import FIFF

from nmm_infer.anatomy import Head, template_head
from nmm_infer.anatomy.sensors import projection
from nmm_infer.inverse import estimate_sources
from nmm_infer.observation import EvokedProtocol, Observation, Observer, observe
from nmm_infer.observation.conditioning import resample_at

PROTOCOL = EvokedProtocol(reject=None)
METHODS = ("MNE", "dSPM", "sLORETA", "eLORETA")


def _recording(info: mne.Info, head: Head, level: float, seed: int = 0) -> mne.io.RawArray:
    """Forty responses, one a second, in noise that is correlated between channels."""
    rng = np.random.default_rng(seed)
    sfreq, n = info["sfreq"], round(44 * info["sfreq"])
    mixing = rng.standard_normal((len(info["ch_names"]), 6))
    size = np.array([1.0 if kind != "grad" else 20.0 for kind in info.get_channel_types()])
    noise = rng.standard_normal((len(size), n)) + mixing @ rng.standard_normal((6, n))
    times = np.arange(n) / sfreq
    wave = sum(np.exp(-0.5 * ((times - k - 0.12) / 0.02) ** 2) for k in range(2, 42))
    signal = head.leadfield.sel(region="precuneus-lh").values[:, None] * 50.0 * np.asarray(wave)
    raw = mne.io.RawArray(signal + level * size[:, None] * noise, info.copy(), verbose="error")
    raw.set_annotations(mne.Annotations(np.arange(2.0, 42.0), 0.0, "beat"))
    return raw


@pytest.fixture(scope="module")
def eeg(head: Head) -> mne.io.RawArray:
    info = mne.create_info(list(CHANNELS), 200.0, "eeg", verbose="error")
    info.set_montage("fsaverage_1005", verbose="error")
    return _recording(info, head, 1e-6)


@pytest.fixture(scope="module")
def elekta() -> tuple[mne.Info, Head]:
    """Every third sensor of a Neuromag helmet over the template's head."""
    info = mne.channels.read_meg_canonical_info("neuromag", verbose="error")
    picked = mne.pick_info(info, [k for k in range(306) if k % 9 < 3], verbose="error")
    head = template_head(picked)
    own = mne.pick_info(picked, range(len(picked["ch_names"])), copy=True, verbose="error")
    with own._unlock():
        own["sfreq"], own["lowpass"] = 200.0, 100.0
        own["dev_head_t"] = head.forward["info"]["dev_head_t"]
    return own, head


def _mne_by_hand(
    raw: mne.io.BaseRaw, seen: Observation, method: str, noise_cov: mne.Covariance
) -> np.ndarray:
    """Average and image with MNE alone; only the forward model and the resampling are ours."""
    raw = raw.copy().load_data().filter(PROTOCOL.l_freq, PROTOCOL.h_freq, verbose="error")
    if "eeg" in raw:
        raw.set_eeg_reference("average", projection=True, verbose="error")
    events, event_id = mne.events_from_annotations(raw, verbose="error")
    average = mne.Epochs(
        raw, events, event_id, -0.615, 0.315, baseline=None, preload=True, verbose="error"
    ).average()
    data = resample_at(average.data, raw.info["sfreq"], average.tmin, PROTOCOL.times)
    data -= data[:, PROTOCOL.in_baseline].mean(axis=1, keepdims=True)
    evoked = mne.EvokedArray(data, average.info, PROTOCOL.times[0], nave=40, verbose="error")
    inverse = mne.minimum_norm.make_inverse_operator(
        average.info, seen.head.forward, noise_cov, fixed=True, depth=None, verbose="error"
    )
    stc = mne.minimum_norm.apply_inverse(evoked, inverse, 1.0 / 9.0, method, verbose="error")
    return np.asarray(stc.data)


def _covariance(seen: Observation) -> mne.Covariance:
    """Noise covariance of the observation, for inverses of both kinds."""
    return seen.noise.covariance()


def _agrees(raw: mne.io.BaseRaw, method: str) -> Observation:
    seen = observe(raw, PROTOCOL, events="beat")
    ours = estimate_sources(seen.head, seen.to_evoked(), _covariance(seen), method)  # type: ignore[arg-type]
    theirs = _mne_by_hand(raw, seen, method, _covariance(seen))
    np.testing.assert_allclose(ours.data, theirs, atol=1e-6 * np.abs(theirs).max())
    return seen


def _with_ssp(raw: mne.io.RawArray, *, applied: bool, **counts: int) -> mne.io.RawArray:
    raw = raw.copy()
    # Of data, so that the vectors are not orthogonal to the average.
    raw.add_proj(mne.compute_proj_raw(raw, **counts, verbose="error"))
    return raw.apply_proj(verbose="error") if applied else raw


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("applied", [False, True])
def test_ssp_of_eeg_agrees_with_mne(eeg: mne.io.RawArray, method: str, applied: bool) -> None:
    seen = _agrees(_with_ssp(eeg, applied=applied, n_eeg=2), method)
    assert seen.rank == len(CHANNELS) - 3
    assert any("rank 29" in note for note in seen.notes)
    assert any("Projected out" in note for note in seen.notes)


@pytest.mark.parametrize("applied", [False, True])
def test_an_average_reference_as_projector(eeg: mne.io.RawArray, applied: bool) -> None:
    raw = eeg.copy().set_eeg_reference("average", projection=True, verbose="error")
    if applied:
        raw.apply_proj(verbose="error")
    seen = _agrees(raw, "eLORETA")
    plain = observe(eeg, PROTOCOL, events="beat")
    assert seen.rank == plain.rank == len(CHANNELS) - 1
    np.testing.assert_allclose(seen.data, plain.data, atol=1e-18)
    average = mne.Epochs(
        raw.copy().filter(0.5, 30.0, verbose="error"),
        *mne.events_from_annotations(raw, verbose="error"), -0.6, 0.4, verbose="error",
    ).average()  # fmt: skip
    again = observe(average, PROTOCOL, head=seen.head)
    np.testing.assert_allclose(again.data, plain.data, atol=3e-2 * np.abs(plain.data).max())


def test_applied_and_not_applied_are_the_same(eeg: mne.io.RawArray) -> None:
    raws = [_with_ssp(eeg, applied=a, n_eeg=2) for a in (False, True)]
    for raw in raws:
        raw.info["bads"] = ["Pz"]  # after the projectors were made
    for bads in ("drop", "interpolate"):
        protocol = EvokedProtocol(reject=None, bads=bads)  # type: ignore[arg-type]
        one, other = (observe(raw, protocol, events="beat") for raw in raws)
        np.testing.assert_allclose(one.data, other.data, atol=1e-17)
        assert one.operator is not None and other.operator is not None
        np.testing.assert_allclose(one.operator.matrix, other.operator.matrix, atol=1e-10)
        assert one.rank == other.rank == len(CHANNELS) - 4
        noise = np.linalg.eigvalsh(one.noise.spatial)
        assert (noise > 1e-9 * noise.max()).sum() == one.rank


@pytest.mark.parametrize("to", ["none", ("Cz",)])
def test_projected_data_under_another_reference(
    eeg: mne.io.RawArray, to: str | tuple[str, ...]
) -> None:
    """Regions do not depend on the reference, with projectors either."""
    raw = _with_ssp(eeg, applied=True, n_eeg=1)
    base, other = EvokedProtocol(reject=None), EvokedProtocol(reject=None, reference=to)  # type: ignore[arg-type]
    cov = mne.make_ad_hoc_cov(raw.info, verbose="error")
    courses = []
    for protocol in (base, other):
        seen = observe(raw, protocol, events="beat", noise_cov=cov)
        courses.append(Observer.like(seen, protocol).region_courses(seen).values)
    np.testing.assert_allclose(courses[1], courses[0], atol=2e-4 * np.abs(courses[0]).max())


def test_the_projection_is_mnes(eeg: mne.io.RawArray) -> None:
    raw = _with_ssp(eeg, applied=False, n_eeg=2)
    raw.set_eeg_reference("average", projection=True, verbose="error")
    operator = projection(raw.info)
    assert operator.rank == len(CHANNELS) - 3
    np.testing.assert_allclose(operator.matrix @ operator.matrix, operator.matrix, atol=1e-12)
    np.testing.assert_allclose(
        operator.matrix @ eeg.get_data(), raw.copy().apply_proj().get_data(), atol=1e-15
    )
    again = projection(eeg.info, average=True)
    np.testing.assert_allclose(again.matrix @ np.ones(len(CHANNELS)), 0.0, atol=1e-12)


@pytest.mark.parametrize("applied", [False, True])
def test_ssp_of_meg_agrees_with_mne(elekta: tuple[mne.Info, Head], applied: bool) -> None:
    raw = _with_ssp(_recording(*elekta, 2e-14), applied=applied, n_mag=3, n_grad=2)
    seen = _agrees(raw, "eLORETA")
    assert seen.rank == len(raw.ch_names) - 5


def test_maxwell_filtered_data(elekta: tuple[mne.Info, Head]) -> None:
    raw = _recording(*elekta, 2e-14)
    raw.info["bads"] = []
    filtered = mne.preprocessing.maxwell_filter(
        raw, origin=(0.0, 0.0, 0.04), int_order=5, ext_order=2, regularize=None, verbose="error"
    )
    rank = mne.compute_rank(filtered, rank="info", verbose="error")["meg"]
    assert rank < len(raw.ch_names)
    seen = _agrees(filtered, "eLORETA")
    assert seen.rank == rank
    assert any(f"{rank} of {len(raw.ch_names)}" in note for note in seen.notes)
    spatial = seen.noise.spatial / np.outer(*2 * [np.sqrt(np.diag(seen.noise.spatial))])
    values = np.linalg.eigvalsh(spatial)
    assert (values > 1e-7 * values.max()).sum() == rank
    # The data pass as they are.
    assert seen.operator is not None
    data = filtered.get_data()
    np.testing.assert_allclose(seen.operator.matrix @ data, data, atol=1e-6 * np.abs(data).max())
    Observer.like(seen, PROTOCOL).sequences(seen)


@pytest.mark.parametrize("bads", ["drop", "interpolate"])
def test_regions_of_projected_data_come_from_mnes_inverse(eeg: mne.io.RawArray, bads: str) -> None:
    """The observer's own read-out is the mean over a region of MNE's estimate."""
    raw = _with_ssp(eeg, applied=True, n_eeg=2)
    raw.info["bads"] = ["Pz"]
    protocol = PROTOCOL.model_copy(update={"bads": bads})
    seen = observe(raw, protocol, events="beat")
    observer = Observer.like(seen, protocol)
    head = observer.seen_head
    stc = estimate_sources(head, seen.to_evoked(), seen.noise.covariance(), "eLORETA")
    expected = mne.extract_label_time_course(
        stc, list(seen.head.labels), seen.head.forward["src"], mode="mean_flip", verbose="error"
    )
    got = 1e-9 * observer.region_courses(seen).values
    np.testing.assert_allclose(got, expected, atol=1e-6 * np.abs(expected).max())


# CTF: gradient compensation is part of the sensors


def _ctf() -> mne.Info:
    """Magnetometers of a CTF helmet with reference sensors and compensation of grade 3."""
    info = mne.channels.read_meg_canonical_info("ctf151", verbose="error")
    picked = mne.pick_info(info, range(0, 151, 4), copy=True, verbose="error")
    names = list(picked["ch_names"])
    chs = [channel.copy() for channel in picked["chs"]]
    references = []
    for k, place in enumerate(np.array([[0.0, 0.02, 0.25], [0.02, 0.0, 0.26], [-0.02, 0.0, 0.26]])):
        channel = {**chs[0], "ch_name": f"BG{k}", "coil_type": FIFF.FIFFV_COIL_CTF_REF_MAG}
        channel["kind"] = FIFF.FIFFV_REF_MEG_CH
        loc = np.zeros(12)
        loc[:3], loc[3:] = place, np.roll(np.eye(3), k, axis=0).ravel()
        channel["loc"] = loc
        references.append(channel)
    own = mne.create_info(
        [*names, "BG0", "BG1", "BG2"],
        200.0,
        ["mag"] * len(names) + ["ref_meg"] * 3,
        verbose="error",
    )
    weights = 0.2 * np.random.default_rng(5).standard_normal((len(names), 3))
    data = {"row_names": names, "col_names": ["BG0", "BG1", "BG2"], "data": weights}
    data |= {"nrow": len(names), "ncol": 3}
    comp = {
        "ctfkind": 1194410578, "kind": 3, "save_calibrated": 0, "data": data, "colcals": np.ones(3),
        "rowcals": np.ones(len(names)),
    }  # fmt: skip
    with own._unlock():
        for ours, theirs in zip(own["chs"], [*chs, *references], strict=True):
            for key in ("loc", "coil_type", "coord_frame", "kind"):
                ours[key] = theirs[key]
        own["comps"] = [comp]
    return own


def test_ctf_compensation_reaches_the_lead_field() -> None:
    plain = _ctf()
    before = template_head(plain)
    raw = mne.io.RawArray(np.zeros((len(plain["ch_names"]), 10)), plain, verbose="error")
    raw.apply_gradient_compensation(3, verbose="error")
    assert raw.compensation_grade == 3
    after = template_head(raw.info)
    # By hand: the forward model of all sensors, the references among them, compensated.
    every = mne.pick_info(plain, range(len(plain["ch_names"])), copy=True, verbose="error")
    with every._unlock():
        every["comps"] = []
        for channel in every["chs"]:
            if channel["kind"] == FIFF.FIFFV_REF_MEG_CH:
                channel["kind"] = FIFF.FIFFV_MEG_CH
                channel["coil_type"] = FIFF.FIFFV_COIL_POINT_MAGNETOMETER
    gains = template_head(every).leadfield
    weights = plain["comps"][0]["data"]["data"]
    names = before.channels
    expected = (
        gains.sel(channel=names).values - weights @ gains.sel(channel=["BG0", "BG1", "BG2"]).values
    )
    scale = np.abs(expected).max()
    np.testing.assert_allclose(before.leadfield, gains.sel(channel=names), atol=1e-5 * scale)
    assert np.abs(after.leadfield.values - before.leadfield.values).max() > 1e-2 * scale
    # By hand the reference coils are points.
    np.testing.assert_allclose(after.leadfield, expected, atol=1e-4 * scale)


def test_compensated_ctf_data_are_answered() -> None:
    plain = _ctf()
    head = template_head(plain)
    with plain._unlock():
        plain["dev_head_t"] = head.forward["info"]["dev_head_t"]
    rng = np.random.default_rng(1)
    data = 2e-14 * rng.standard_normal((len(plain["ch_names"]), 6000))
    raw = mne.io.RawArray(data, plain, verbose="error")
    raw.set_annotations(mne.Annotations(np.arange(2.0, 27.0), 0.0, "beat"))
    raw.apply_gradient_compensation(3, verbose="error")
    seen = observe(raw, PROTOCOL, events="beat")
    assert seen.head.channels == [n for n in raw.ch_names if not n.startswith("BG")]
    np.testing.assert_allclose(seen.head.leadfield, template_head(raw.info).leadfield, atol=1e-12)
    Observer.like(seen, PROTOCOL).sequences(seen)

"""Sensor operators: reference, interpolation and whitening of lead fields and data alike."""

from __future__ import annotations

from typing import Any

import mne
import numpy as np
import pytest
import xarray as xr

from nmm_infer.anatomy import Head, HeadSettings, SensorOperator, template_head
from nmm_infer.anatomy.electrodes import place_sensors
from nmm_infer.anatomy.sensors import identity, interpolation, reference, whitening
from nmm_infer.errors import InputError

RNG = 20250


@pytest.fixture(scope="module")
def eeg() -> mne.Info:
    names = "Fp1 Fp2 F7 F3 Fz F4 F8 T7 C3 Cz C4 T8 P7 P3 Pz P4 P8 O1 Oz O2"
    info = mne.create_info(names.split(), 250.0, "eeg", verbose="error")
    info.set_montage("fsaverage_1005", verbose="error")
    return info


@pytest.fixture(scope="module")
def meg() -> mne.Info:
    """Magnetometers and planar gradiometers over the template's head."""
    info = mne.channels.read_meg_canonical_info("neuromag")
    near = mne.pick_info(info, range(0, 306, 4), verbose="error")
    return place_sensors(near, HeadSettings())[0]


@pytest.fixture(scope="module")
def both(eeg: mne.Info, meg: mne.Info) -> mne.Info:
    """EEG and MEG; the montage digitises the head."""
    info = mne.create_info(
        [*meg["ch_names"], *eeg["ch_names"]],
        meg["sfreq"],
        [*meg.get_channel_types(), *eeg.get_channel_types()],
        verbose="error",
    )
    with info._unlock():
        info["chs"] = [channel.copy() for channel in [*meg["chs"], *eeg["chs"]]]
        info["dev_head_t"] = meg["dev_head_t"]
        info["dig"] = eeg["dig"]
    return info


@pytest.fixture(params=["eeg", "meg", "both"])
def sensors(request: pytest.FixtureRequest) -> mne.Info:
    return request.getfixturevalue(request.param)


def _signals(info: mne.Info, n_times: int = 40) -> xr.DataArray:
    """White signals of the size of each kind's."""
    scale = {"eeg": 1e-5, "mag": 1e-12, "grad": 1e-11}
    scales = np.array([scale[kind] for kind in info.get_channel_types()])
    values = scales[:, np.newaxis] * np.random.default_rng(RNG).standard_normal(
        (len(scales), n_times)
    )
    return xr.DataArray(values, dims=("channel", "time"), coords={"channel": info["ch_names"]})


def _evoked(info: mne.Info) -> mne.EvokedArray:
    return mne.EvokedArray(_signals(info).values, info.copy(), verbose="error")


def _close(got: Any, expected: Any, precision: float = 1e-10) -> None:
    """Row by row: channels of several kinds differ by many powers of ten."""
    got, expected = np.asarray(got), np.asarray(expected)
    size = np.abs(expected).max(axis=-1, keepdims=True)
    assert np.all(np.abs(got - expected) <= precision * np.maximum(size, size.max() * 1e-9))


def _correlated(info: mne.Info, rank: int | None = None) -> mne.Covariance:
    """A covariance of full rank, or of an orthogonal projection of it; V² or T²."""
    n = len(info["ch_names"])
    rng = np.random.default_rng(RNG + 1)
    mixing = np.eye(n) + 0.3 * rng.standard_normal((n, n))
    if rank is not None:
        kept = np.linalg.qr(rng.standard_normal((n, rank)))[0]
        mixing = kept @ kept.T @ mixing
    scale = {"eeg": 1e-5, "mag": 1e-13, "grad": 1e-12}
    mixing *= np.array([scale[kind] for kind in info.get_channel_types()])[:, np.newaxis]
    return mne.Covariance(mixing @ mixing.T, info["ch_names"], [], [], 1000)


# Reference


@pytest.mark.parametrize("to", ["average", "Cz", ["Cz"], ["T7", "T8"], "none"])
def test_reference_is_mnes(eeg: mne.Info, to: Any) -> None:
    evoked = _evoked(eeg)
    if to != "none":
        named = [to] if isinstance(to, str) and to != "average" else to
        evoked, _ = mne.set_eeg_reference(evoked, named, verbose="error")
    signals = _signals(eeg)
    referenced = reference(eeg, to)(signals)
    _close(referenced, evoked.data)
    if to == "average":
        assert np.abs(referenced.sum("channel")).max() < 1e-12 * np.abs(signals).max()
    if to in ("Cz", ["Cz"]):
        np.testing.assert_array_equal(referenced.sel(channel="Cz"), 0.0)


def test_reference_leaves_meg_alone(both: mne.Info) -> None:
    signals = _signals(both)
    referenced = reference(both)(signals)
    eeg = np.array(both.get_channel_types()) == "eeg"
    np.testing.assert_array_equal(referenced[~eeg], signals[~eeg])
    _close(referenced[eeg], signals[eeg] - signals[eeg].mean("channel"))
    meg = mne.pick_info(both, np.flatnonzero(~eeg), verbose="error")
    np.testing.assert_array_equal(reference(meg).matrix, np.eye((~eeg).sum()))


def test_lead_field_and_data_are_referenced_alike(head: Head) -> None:
    info = mne.create_info(head.channels, 250.0, "eeg", verbose="error")
    rng = np.random.default_rng(RNG)
    moments = xr.DataArray(
        rng.normal(0, 10.0, (len(head.regions), 30)),
        dims=("region", "time"),
        coords={"region": head.regions},
    )
    sources = rng.normal(0, 10.0, (head.gain.sizes["component"], 30))
    for to in ("average", "Oz", ["T7", "T8"]):
        operator = reference(info, to)
        _close(operator(head.leadfield).values @ moments.values, operator(head.project(moments)))
        signals = xr.DataArray(
            head.gain.values @ sources,
            dims=("channel", "time"),
            coords={"channel": head.channels},
        )
        _close(operator(head.gain).values @ sources, operator(signals))
    # Done to one of them alone it is not the same.
    unlike = operator(head.leadfield).values @ moments.values - head.project(moments).values
    assert np.abs(unlike).max() > 0.01 * np.abs(head.project(moments)).max()


@pytest.mark.parametrize("to", ["average", "Cz", ["P7", "P8"]])
def test_what_all_channels_share_vanishes(eeg: mne.Info, to: Any) -> None:
    operator, signals = reference(eeg, to), _signals(eeg)
    drift = 1e-3 * np.random.default_rng(1).standard_normal(signals.sizes["time"])
    _close(operator(signals + drift), operator(signals), 1e-9)
    np.testing.assert_allclose(operator.matrix.sum(axis=1), 0.0, atol=1e-15)


def test_the_last_reference_wins(eeg: mne.Info) -> None:
    for first in ("none", "average", "Fp1", ["T7", "T8"]):
        for last in ("average", "Cz", ["P7", "P8"]):
            again = reference(eeg, last) @ reference(eeg, first)
            np.testing.assert_allclose(again.matrix, reference(eeg, last).matrix, atol=1e-14)


def test_a_subset_is_referenced_to_itself(head: Head, lock: Any) -> None:
    names = ["Oz", "C4", "Fp1", "T7", "Pz", "F3"]
    info = mne.create_info(names, 250.0, "eeg", verbose="error")
    with lock:
        own = template_head(info)
    operator = reference(info)
    expected = own.leadfield.values - own.leadfield.values.mean(axis=0)
    _close(operator(own.leadfield), expected)
    _close(operator(head.pick(names).leadfield), expected, 1e-6)
    _close(operator(head.leadfield), expected, 1e-6)  # finds its channels by name
    whole = reference(mne.create_info(head.channels, 250.0, "eeg", verbose="error"))
    other = whole(head.leadfield).sel(channel=names).values
    assert np.abs(other - expected).max() > 0.05 * np.abs(expected).max()


# Interpolation


def _bads(info: mne.Info) -> list[str]:
    kinds = np.array(info.get_channel_types())
    rng = np.random.default_rng(3)
    bads: list[str] = []
    for kind in sorted(set(kinds)):
        of_kind = np.flatnonzero(kinds == kind)
        bads += [info["ch_names"][k] for k in rng.choice(of_kind, 2, replace=False)]
    return bads


def test_interpolation_is_mnes(sensors: mne.Info) -> None:
    bads = _bads(sensors)
    evoked = _evoked(sensors)
    evoked.info["bads"] = bads
    before = evoked.data.copy()
    origin = "auto" if sensors["dig"] else (0.0, 0.0, 0.04)
    evoked.interpolate_bads(origin=origin, method={"eeg": "spline"}, verbose="error")
    operator = interpolation(sensors, bads)
    signals = _signals(sensors)
    _close(operator(signals), evoked.data, 1e-8)
    for name in bads:
        row = sensors["ch_names"].index(name)
        assert np.abs(evoked.data[row] - before[row]).max() > 0.1 * np.abs(before[row]).max()
    assert operator.outputs == tuple(sensors["ch_names"])
    assert not set(operator.inputs) & set(bads)
    assert ", ".join(bads) in operator.notes[0]
    assert sensors["bads"] == []


def test_interpolation_reads_no_bad_channel(sensors: mne.Info) -> None:
    bads = _bads(sensors)
    broken = _signals(sensors)
    broken.loc[{"channel": bads}] = np.nan
    operator = interpolation(sensors, bads)
    _close(operator(broken), operator(_signals(sensors)))
    _close(operator(broken.drop_sel(channel=bads)), operator(_signals(sensors)))


def test_interpolation_keeps_smooth_fields(head: Head, eeg: mne.Info) -> None:
    names = [name for name in eeg["ch_names"] if name in head.channels]
    info = mne.pick_info(eeg, [eeg["ch_names"].index(n) for n in names], verbose="error")
    operator = interpolation(info, ["Cz"])
    fields = head.leadfield - head.leadfield.mean("channel")
    made = operator(fields).sel(channel="Cz").values
    r = np.corrcoef(made, fields.sel(channel="Cz").values)[0, 1]
    assert r > 0.85


def test_interpolated_and_then_referenced(eeg: mne.Info) -> None:
    evoked = _evoked(eeg)
    evoked.info["bads"] = ["Pz", "F7"]
    evoked.interpolate_bads(method={"eeg": "spline"}, verbose="error")
    evoked, _ = mne.set_eeg_reference(evoked, "average", verbose="error")
    both = reference(eeg) @ interpolation(eeg, ["Pz", "F7"])
    _close(both(_signals(eeg)), evoked.data, 1e-8)
    assert len(both.notes) == 2
    assert both.notes[0].startswith("Interpolated")


def test_nothing_bad_is_nothing_done(eeg: mne.Info) -> None:
    np.testing.assert_array_equal(interpolation(eeg, []).matrix, np.eye(20))
    two = mne.pick_info(eeg, [0, 1], verbose="error")
    np.testing.assert_array_equal(interpolation(two, []).matrix, np.eye(2))


@pytest.mark.parametrize(
    ("bads", "why"),
    [(["nobody"], "No channel 'nobody' to interpolate"), (None, "Only 0 of 20 channels are good")],
)
def test_what_cannot_be_interpolated(eeg: mne.Info, bads: list[str] | None, why: str) -> None:
    with pytest.raises(InputError, match=why):
        interpolation(eeg, eeg["ch_names"] if bads is None else bads)
    if bads is None:
        with pytest.raises(InputError, match="Only 3 of 20 channels are good"):
            interpolation(eeg, eeg["ch_names"][3:])


def test_interpolation_without_positions_is_refused(eeg: mne.Info) -> None:
    bare = mne.create_info(eeg["ch_names"], 250.0, "eeg", verbose="error")
    with pytest.raises(InputError, match="Set a montage"):
        interpolation(bare, ["Cz"])


# Whitening


def test_whitening_is_mnes(sensors: mne.Info) -> None:
    cov = _correlated(sensors)
    expected, _ = mne.cov.compute_whitener(cov, sensors, pca=False, verbose="error")
    operator = whitening(sensors, cov)
    np.testing.assert_allclose(operator.matrix, expected, rtol=1e-12)
    assert operator(_signals(sensors).assign_attrs(units="V")).attrs["units"] == "1"


def test_whitened_noise_is_white(eeg: mne.Info) -> None:
    cov = _correlated(eeg)
    operator = whitening(eeg, cov)
    np.testing.assert_allclose(operator.covariance(cov.data), np.eye(20), atol=1e-8)
    noise = np.random.default_rng(2).multivariate_normal(np.zeros(20), cov.data, 20000).T
    signals = xr.DataArray(noise, dims=("channel", "time"), coords={"channel": eeg["ch_names"]})
    np.testing.assert_allclose(np.cov(operator(signals).values), np.eye(20), atol=0.05)


@pytest.mark.parametrize("rank", [19, 12, 1])
def test_whitened_noise_without_rank_is_white_on_its_range(eeg: mne.Info, rank: int) -> None:
    cov = _correlated(eeg, rank)
    operator = whitening(eeg, cov)
    white = operator.covariance(cov.data)
    # A projection of that rank, onto the range of the covariance.
    np.testing.assert_allclose(white @ white, white, atol=1e-6)
    assert np.trace(white) == pytest.approx(rank, abs=1e-5)
    vectors = np.linalg.svd(cov.data)[0][:, :rank]
    np.testing.assert_allclose(white, vectors @ vectors.T, atol=1e-5)
    # What is not in the noise's range is not blown up.
    assert np.linalg.matrix_rank(operator.matrix) == rank


def test_whitening_of_several_kinds(both: mne.Info) -> None:
    cov = _correlated(both)
    kinds = np.array(both.get_channel_types())
    block = cov.data * (kinds[:, np.newaxis] == kinds)  # MNE takes kinds as uncorrelated
    cov = mne.Covariance(block, both["ch_names"], [], [], 1000)
    operator = whitening(both, cov)
    np.testing.assert_allclose(operator.covariance(block), np.eye(len(kinds)), atol=1e-6)
    # After average reference one dimension of the EEG is gone, and no other.
    referenced = mne.Covariance(reference(both).covariance(block), both["ch_names"], [], [], 1000)
    white = whitening(both, referenced).covariance(referenced.data)
    assert np.trace(white) == pytest.approx(len(kinds) - 1, abs=1e-4)
    np.testing.assert_allclose(white @ white, white, atol=1e-5)


def test_whitening_with_a_given_rank(eeg: mne.Info) -> None:
    cov = _correlated(eeg)
    strongest = np.linalg.eigh(cov.data)[1][:, -7:]
    for rank in (7, np.int64(7), {"eeg": 7}):
        white = whitening(eeg, cov, rank).covariance(cov.data)  # type: ignore[arg-type]
        np.testing.assert_allclose(white, strongest @ strongest.T, atol=1e-7)


def test_whitened_data_do_not_depend_on_the_recorded_reference(eeg: mne.Info) -> None:
    cov = _correlated(eeg).data
    signals = _signals(eeg)
    made = []
    for recorded in ("none", "Cz", ["T7", "T8"], "average"):
        was = reference(eeg, recorded)
        seen = mne.Covariance(was.covariance(cov), eeg["ch_names"], [], [], 1000)
        average = reference(eeg)
        after = mne.Covariance(average.covariance(seen.data), eeg["ch_names"], [], [], 1000)
        chain = whitening(eeg, after) @ average
        made.append(chain(was(signals)).values)
    for other in made[1:]:
        _close(other, made[0], 1e-6)
    # Length in noise units: that of the pseudo-inverse.
    average = reference(eeg)
    referenced = average(signals).values
    inverse = np.linalg.pinv(average.covariance(cov), rcond=1e-10, hermitian=True)
    lengths = np.einsum("ct,cd,dt->t", referenced, inverse, referenced)
    np.testing.assert_allclose((made[0] ** 2).sum(axis=0), lengths, rtol=1e-6)
    # And for any reference that takes one dimension away: the same lengths.
    single = reference(eeg, "Cz")
    seen = mne.Covariance(single.covariance(cov), eeg["ch_names"], [], [], 1000)
    alike = (whitening(eeg, seen) @ single)(signals).values
    np.testing.assert_allclose((alike**2).sum(axis=0), lengths, rtol=1e-6)


def test_a_larger_covariance_is_picked(eeg: mne.Info) -> None:
    cov = _correlated(eeg)
    rows = [18, 3, 9, 0]
    few = mne.pick_info(eeg, rows, verbose="error")
    expected = cov.data[np.ix_(rows, rows)]
    operator = whitening(few, cov)
    assert operator.outputs == tuple(eeg["ch_names"][k] for k in rows)
    np.testing.assert_allclose(operator.covariance(expected), np.eye(4), atol=1e-9)
    flat = mne.Covariance(np.full(20, 4e-12), eeg["ch_names"], [], [], 10)  # a diagonal one
    np.testing.assert_allclose(whitening(few, flat).matrix, np.eye(4) / 2e-6, atol=1e-3)


def test_whitening_ignores_bads_and_projections(eeg: mne.Info) -> None:
    cov = _correlated(eeg)
    raw = mne.io.RawArray(np.zeros((20, 5)), eeg.copy(), verbose="error")
    raw.set_eeg_reference(projection=True, verbose="error")
    raw.info["bads"] = ["Cz", "O1"]
    np.testing.assert_allclose(
        whitening(raw.info, cov).matrix, whitening(eeg, cov).matrix, rtol=1e-12
    )
    assert raw.info["bads"] == ["Cz", "O1"]
    assert len(raw.info["projs"]) == 1


@pytest.mark.parametrize(
    ("data", "names", "rank", "why"),
    [
        (np.zeros((20, 20)), None, None, "has rank 0"),
        (-np.eye(20), None, None, "negative eigenvalue"),
        (np.diag([-1.0] + 19 * [1.0]), None, None, "negative eigenvalue"),
        (np.eye(20) + 2.0 * np.eye(20)[::-1], None, None, "negative eigenvalue"),
        (np.eye(20) + np.eye(20, k=1), None, None, "not symmetric"),
        (np.eye(20), None, {"mag": 3}, "no channel of type 'mag'"),
        (np.eye(20), None, 2.5, "a whole number"),
        (np.full((20, 20), np.nan), None, None, "not finite"),
        (np.eye(20), [f"E{k}" for k in range(20)], None, "lacks channel"),
        (np.eye(20) * 1e-12, None, 21, "cannot whiten: .*exceeds the number of channels"),
        (np.eye(20) * 1e-12, None, 0, "rank must be positive"),
        (np.eye(20) * 1e-12, None, {"eeg": -1}, "rank must be positive"),
    ],
)
def test_what_cannot_whiten(
    eeg: mne.Info, data: np.ndarray, names: list[str] | None, rank: Any, why: str
) -> None:
    cov = mne.Covariance(data, names or eeg["ch_names"], [], [], 10)
    with pytest.raises(InputError, match=why):
        whitening(eeg, cov, rank)


def test_one_rank_for_several_kinds_is_refused(both: mne.Info) -> None:
    with pytest.raises(InputError, match=r"rank: give one for each of .*, in a dict"):
        whitening(both, _correlated(both), 5)


# The operator itself


@pytest.mark.parametrize(
    "dims",
    [
        ("channel",),
        ("channel", "time"),
        ("time", "channel"),
        ("trial", "channel", "time"),
        ("trial", "time", "channel"),
        ("channel", "trial", "time"),
    ],
)
def test_channels_may_stand_anywhere(eeg: mne.Info, dims: tuple[str, ...]) -> None:
    sizes = {"channel": 20, "time": 6, "trial": 3}
    rng = np.random.default_rng(RNG)
    signals = xr.DataArray(
        rng.standard_normal([sizes[dim] for dim in dims]),
        dims=dims,
        coords={"channel": eeg["ch_names"]},
        name="signals",
        attrs={"units": "V"},
    )
    if "time" in dims:
        signals = signals.assign_coords(time=np.arange(6) / 250.0)
    shuffled = signals.isel(channel=rng.permutation(20))
    matrix = xr.DataArray(rng.standard_normal((5, 20)), dims=("out", "channel"))
    names = tuple("abcde")
    operator = SensorOperator(matrix.values, names, tuple(eeg["ch_names"]))
    expected = xr.dot(matrix, signals, dim="channel").rename(out="channel").transpose(*dims)
    for given in (signals, shuffled):
        got = operator(given)
        assert got.dims == dims
        assert tuple(got.channel.values) == names
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)
        assert got.attrs == {"units": "V"}
        assert got.name == "signals"
        if "time" in dims:
            np.testing.assert_array_equal(got.time, signals.time)


def test_kinds_of_numbers(eeg: mne.Info) -> None:
    operator, signals = reference(eeg), _signals(eeg)
    single = operator(signals.astype(np.float32))
    assert single.dtype == np.float32
    _close(single, operator(signals), 1e-5)
    assert operator(signals).dtype == np.float64
    whole = (1e7 * signals).round()
    np.testing.assert_allclose(operator(whole.astype(int)), operator(whole), atol=1e-9)
    waves = operator(signals * np.exp(1j))
    np.testing.assert_allclose(waves, operator(signals) * np.exp(1j), rtol=1e-12)


def test_operators_compose(eeg: mne.Info) -> None:
    names = eeg["ch_names"]
    first = interpolation(eeg, ["Cz"])
    second = reference(eeg, ["T7", "T8"])
    cov = _correlated(eeg)
    third = whitening(eeg, mne.Covariance(second.covariance(cov.data), names, [], [], 100))
    signals = _signals(eeg)
    apart = third(second(first(signals)))
    for together in ((third @ second) @ first, third @ (second @ first)):
        _close(together(signals), apart, 1e-9)
        assert together.inputs == first.inputs
        assert together.outputs == third.outputs
        assert together.units == "1"
        assert together.notes == (*first.notes, *second.notes, *third.notes)
    few = identity(["Oz", "Fp1"]) @ second
    np.testing.assert_array_equal(few(signals), second(signals).sel(channel=["Oz", "Fp1"]))
    np.testing.assert_array_equal((second @ identity(names)).matrix, second.matrix)
    backwards = identity(names[::-1])  # by name, not by place
    np.testing.assert_allclose((second @ backwards)(signals), second(signals))
    with pytest.raises(InputError, match="gives no channel 'Fp1'"):
        second @ identity(["Oz"])


def test_covariance_is_that_of_the_signals(sensors: mne.Info) -> None:
    operator = reference(sensors) @ interpolation(sensors, _bads(sensors))
    signals = _signals(sensors, 200).sel(channel=list(operator.inputs))
    got = operator.covariance(np.cov(signals.values))
    _close(got, np.cov(operator(signals).values), 1e-8)


def test_missing_channels_are_named(eeg: mne.Info) -> None:
    operator, signals = reference(eeg), _signals(eeg)
    with pytest.raises(InputError, match=r"lack channel\(s\) C3, Pz, which the sensor operator"):
        operator(signals.drop_sel(channel=["C3", "Pz"]))
    with pytest.raises(InputError, match="does not fit 2 and 3 channels"):
        SensorOperator(np.eye(3), ("a", "b"), ("a", "b", "c"))


@pytest.mark.parametrize("to", ["Xz", ["Cz", "Xz"], []])
def test_unknown_references_are_refused(eeg: mne.Info, to: Any) -> None:
    with pytest.raises(InputError, match="No EEG channel"):
        reference(eeg, to)


def test_a_reference_named_twice_is_refused(eeg: mne.Info) -> None:
    """Its column was subtracted once, by half."""
    with pytest.raises(InputError, match="only once: Cz, Cz"):
        reference(eeg, ("Cz", "Cz"))
    matrix = reference(eeg, ("Cz", "Pz")).matrix
    np.testing.assert_allclose(matrix.sum(axis=1), 0.0, atol=1e-15)


def test_meg_channels_are_no_reference(both: mne.Info) -> None:
    with pytest.raises(InputError, match=r"No EEG channel .*MEG"):
        reference(both, both["ch_names"][0])

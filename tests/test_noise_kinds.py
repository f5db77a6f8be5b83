"""Every kind of sensor noise: its physics, its statistics, and its signal-to-noise ratio."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import mne
import numpy as np
import pytest
import xarray as xr
from scipy import signal, stats

from nmm_infer.anatomy.sensors import reference
from nmm_infer.errors import InputError
from nmm_infer.observation import (
    Blinks,
    BrainBackground,
    ElectrodePops,
    LineNoise,
    Mixture,
    Noise,
    NoiseSource,
    SlowDrifts,
    level_for_snr,
    noise_from_baseline,
    noise_from_covariance,
    noise_from_level,
    power_law_noise,
    scale_to_snr,
    snr_db,
    white_noise,
)
from nmm_infer.observation.noise.artefacts import _events

SFREQ = 250.0
LENGTH = 200
NAMES = (  # noqa: SIM905 - a list of strings is harder to read
    "Fp1 Fpz Fp2 F7 F3 Fz F4 F8 T7 C3 Cz C4 T8 TP9 TP10 P7 P3 Pz P4 P8 O1 Oz O2"
).split()
MIRROR = {"Fp1": "Fp2", "F7": "F8", "F3": "F4", "T7": "T8", "C3": "C4", "TP9": "TP10", "P7": "P8"}
N_MEG = 40


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def _eeg(sfreq: float = SFREQ, names: list[str] = NAMES) -> mne.Info:
    info = mne.create_info(list(names), sfreq, "eeg", verbose="error")
    info.set_montage("fsaverage_1005", verbose="error")
    return info


@pytest.fixture(scope="module")
def eeg() -> mne.Info:
    return _eeg()


@pytest.fixture(scope="module")
def meeg() -> mne.Info:
    """The electrodes, and point magnetometers on a helmet whose frame is turned and shifted."""
    k = np.arange(N_MEG) + 0.5
    z = 1 - 1.2 * k / N_MEG
    azimuth = np.pi * (1 + 5**0.5) * k
    radius = np.sqrt(1 - z**2)
    normal = np.stack([radius * np.cos(azimuth), radius * np.sin(azimuth), z], axis=1)
    names = [f"MEG{i:03}" for i in range(N_MEG)]
    info = mne.create_info(
        [*NAMES, *names], SFREQ, ["eeg"] * len(NAMES) + ["mag"] * N_MEG, verbose="error"
    )
    info.set_montage("fsaverage_1005", verbose="error")
    for channel, n in zip(info["chs"][len(NAMES) :], normal, strict=True):
        x = np.cross(n, [0.3, 0.5, 0.7])
        x /= np.linalg.norm(x)
        channel["loc"][:] = np.concatenate([0.13 * n, x, np.cross(n, x), n])
        channel["coil_type"] = mne._fiff.constants.FIFF.FIFFV_COIL_POINT_MAGNETOMETER
    turn = mne.transforms.rotation(0.1, -0.05, 0.2) @ mne.transforms.translation(0.0, 0.01, 0.05)
    with info._unlock():
        info["dev_head_t"] = mne.transforms.Transform("meg", "head", turn)
    return info


def _meg(meeg: mne.Info) -> mne.Info:
    return mne.pick_info(meeg, mne.pick_types(meeg, meg=True))


def _covariance(names: list[str], scale: float = 1e-6, seed: int = 3) -> mne.Covariance:
    mixing = scale * _rng(seed).standard_normal((len(names), 2 * len(names)))
    return mne.Covariance(mixing @ mixing.T, list(names), [], [], nfree=1, verbose="error")


def _bank(n_runs: int = 12, n_times: int = 900, n_regions: int = 9) -> xr.DataArray:
    """Red noise in mV, mixed between regions, with an offset."""
    rng = _rng(8)
    mixing = rng.standard_normal((n_regions, n_regions))
    white = rng.standard_normal((n_runs, n_regions, n_times + 100))
    values = 5.0 + mixing @ signal.lfilter([1.0], [1.0, -0.9], white)[..., 100:]
    return xr.DataArray(
        values,
        dims=("run", "region", "time"),
        coords={
            "region": [f"region{k}" for k in range(n_regions)],
            "time": np.arange(n_times) / SFREQ,
        },
        attrs={"units": "mV"},
    )


def _leadfield(names: list[str], n_regions: int = 9) -> xr.DataArray:
    return xr.DataArray(
        1e-8 * _rng(9).standard_normal((len(names), n_regions)),
        dims=("channel", "region"),
        coords={"channel": list(names), "region": [f"region{k}" for k in range(n_regions)]},
    )


def _relative(got: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(got - expected) / np.linalg.norm(expected))


def _spectrum(draws: np.ndarray, sfreq: float) -> tuple[np.ndarray, np.ndarray]:
    frequencies, power = signal.periodogram(draws, sfreq, window="hann", axis=-1)
    return frequencies, power.reshape(-1, power.shape[-1]).mean(axis=0)


def _mean_square(draws: np.ndarray) -> float:
    return float(np.square(draws, dtype=float).mean())


# Every kind has the signal-to-noise ratio that was asked for

BAND = (1.0, 100.0)


def _mixture(info: mne.Info) -> Mixture:
    parts = (white_noise(info, 1e-6, LENGTH), LineNoise(info), Blinks(info), SlowDrifts(info))
    return Mixture(parts, (0.4, 0.1, 0.3, 0.2), 5e-6).calibrated(300, LENGTH, _rng(6))


def _from_baseline(info: mne.Info) -> Noise:
    white = _rng(5).standard_normal((60, len(info.ch_names), 150))
    return noise_from_baseline(3e-6 * signal.lfilter([1.0], [1.0, -0.8], white), info, 4, LENGTH)


KINDS: dict[str, Callable[[mne.Info], NoiseSource]] = {
    "white": lambda info: white_noise(info, 3e-6, LENGTH),
    "white by channel": lambda i: white_noise(i, np.linspace(1, 4, len(i.ch_names)) * 1e-6, LENGTH),
    "1/f": lambda info: power_law_noise(info, 3e-6, LENGTH, SFREQ, BAND),
    "1/f, correlated": lambda info: noise_from_level(info, 3e-6, LENGTH, SFREQ, BAND),
    "covariance": lambda info: noise_from_covariance(_covariance(info.ch_names), info, LENGTH),
    "baseline": _from_baseline,
    "background": lambda info: BrainBackground(
        info, _leadfield(info.ch_names), _bank(), SFREQ, source_scale=40.0
    ),
    "line": LineNoise,
    "blinks": lambda info: Blinks(info, present=True),
    "drifts": SlowDrifts,
    "drifts, polynomial": lambda info: SlowDrifts(info, degree=3),
    "pops": lambda info: ElectrodePops(info, present=True),
    "mixture": _mixture,
}
SPARSE: dict[str, Callable[[mne.Info], NoiseSource]] = {
    "blinks": lambda info: Blinks(info, rate=0.6),
    "pops": lambda info: ElectrodePops(info, rate=0.5, highpass=2.0),
}


def _signals(n: int, n_channels: int) -> np.ndarray:
    """Responses of very different strength."""
    rng = _rng(17)
    strength = 10 ** rng.uniform(-8, -5, (n, 1, 1))
    topography = rng.standard_normal((n, n_channels, 1))
    times = np.arange(LENGTH) / SFREQ
    return strength * topography * np.sin(2 * np.pi * rng.uniform(3, 20, (n, 1, 1)) * times)


def _decibel(signal_power: float | np.ndarray, noise_power: float | np.ndarray) -> np.ndarray:
    return 10.0 * (np.log(signal_power) - np.log(noise_power)) / np.log(10.0)


@pytest.mark.parametrize("kind", KINDS)
def test_every_window_has_its_ratio_exactly(kind: str, eeg: mne.Info) -> None:
    noise = KINDS[kind](eeg).sample(30, LENGTH, _rng(1))
    signals = _signals(30, len(NAMES))
    requested = np.tile([-12.0, 0.0, 7.5], 10)
    scaled = scale_to_snr(signals, noise, requested)
    assert scaled.dtype == np.float32
    for s, e, wanted in zip(signals, scaled.astype(float), requested, strict=True):
        assert _decibel((s**2).sum(), (e**2).sum()) == pytest.approx(wanted, abs=1e-5)
    np.testing.assert_allclose(snr_db(signals, scaled), requested, atol=1e-5)
    # Only the level has changed.
    np.testing.assert_allclose(
        scaled / np.abs(scaled).max(axis=(1, 2), keepdims=True),
        noise / np.abs(noise).max(axis=(1, 2), keepdims=True),
        atol=1e-6,
    )


@pytest.mark.parametrize("kind", [*KINDS, *(f"sparse {name}" for name in SPARSE)])
def test_an_absolute_level_has_the_ratio_over_the_set(kind: str, eeg: mne.Info) -> None:
    """The level comes from one draw, the ratio is measured in another, within sampling error."""
    sparse = kind.startswith("sparse")
    source = (SPARSE[kind.removeprefix("sparse ")] if sparse else KINDS[kind])(eeg)
    n, requested = (2500 if sparse else 500), 3.0
    signals = _signals(300, len(NAMES))
    factor = level_for_snr(signals, source.sample(n, LENGTH, _rng(2)), requested)
    fresh = source.sample(n, LENGTH, _rng(3)).astype(float) * factor
    assert (fresh == 0).all(axis=(1, 2)).any() == sparse
    realised = _decibel((signals**2).mean(), (fresh**2).mean())
    windows = (fresh**2).mean(axis=(1, 2))
    error = windows.std() / windows.mean() / np.sqrt(n)  # of one draw, as share of the power
    tolerance = 4 * np.sqrt(2) * error * 10 / np.log(10)
    assert abs(realised - requested) < tolerance + 1e-4  # and rounding
    assert tolerance < 1.0, "the draw is too small to see 3 dB"


def test_the_ratio_is_that_of_the_definition() -> None:
    """A sinusoid of amplitude A has the power A^2 / 2, a constant c has c^2: nothing is halved."""
    times = np.arange(100) / 100
    wave = 3.0 * np.sin(2 * np.pi * 5 * times) * np.ones((4, 1))
    constant = np.full((4, 100), 0.5)
    assert snr_db(wave, constant) == pytest.approx(10 * np.log10(4.5 / 0.25), abs=1e-12)
    assert snr_db(wave, wave) == pytest.approx(0.0, abs=1e-12)
    assert snr_db(10 * wave, wave) == pytest.approx(20.0, abs=1e-12)
    # Means over channels are of powers: one silent channel of two costs 3 dB.
    half = wave * np.array([1.0, 1.0, 0.0, 0.0])[:, None]
    assert snr_db(half, wave) == pytest.approx(-10 * np.log10(2), abs=1e-12)


def test_the_window_is_where_the_ratio_holds() -> None:
    signals = _signals(5, 3)
    signals[..., :50] = 0.0
    noise = _rng().standard_normal(signals.shape)
    late = np.arange(LENGTH) >= 50
    scaled = scale_to_snr(signals, noise, np.array([-3.0, 0.0, 1.0, 2.0, 10.0]), late)
    np.testing.assert_allclose(snr_db(signals, scaled, late), [-3, 0, 1, 2, 10], atol=1e-12)
    np.testing.assert_allclose(
        snr_db(signals, scaled, late), snr_db(signals, scaled, slice(50, None)), atol=1e-12
    )
    assert (snr_db(signals, scaled) < snr_db(signals, scaled, late)).all()
    np.testing.assert_allclose(np.ptp(scaled / noise, axis=(1, 2)), 0.0, atol=1e-16)
    # The means of the powers, not of the decibels.
    factor = level_for_snr(signals, noise, 4.0, late)
    power = (signals[..., 50:] ** 2).mean() / (factor * noise[..., 50:] ** 2 * factor).mean()
    assert 10 * np.log10(power) == pytest.approx(4.0, abs=1e-12)
    assert snr_db(signals, factor * noise, late).mean() < 4.0 + 0.2


@pytest.mark.parametrize("ratio", [np.nan, np.inf, -np.inf])
def test_ratios_are_finite(ratio: float) -> None:
    values = _rng().standard_normal((2, 3, 9))
    with pytest.raises(InputError, match=r"snr_db is .*finite"):
        scale_to_snr(values, values, ratio)
    with pytest.raises(InputError, match=r"snr_db is .*finite"):
        level_for_snr(values, values, ratio)


def test_signals_and_noise_that_do_not_go_together() -> None:
    signals = _rng().standard_normal((2, 3, 9))
    for other, match in (
        (signals[:, :2], r"\(2, 3, 9\) and \(2, 2, 9\): they need the same channels"),
        (np.ones((4, 3, 9)), r"\(4, 3, 9\): give as many windows"),
    ):
        with pytest.raises(InputError, match=match):
            snr_db(signals, other)
        with pytest.raises(InputError, match=match):
            scale_to_snr(signals, other, 0.0)
    with pytest.raises(InputError, match="need the same channels"):
        level_for_snr(signals, signals[:, :2], 0.0)
    assert level_for_snr(signals, np.ones((4, 3, 9)), 0.0) > 0
    with pytest.raises(InputError, match=r"window has shape \(8,\), but the signal has 9 samples"):
        snr_db(signals, signals, np.ones(8, bool))


def test_windows_without_artefact_have_no_ratio(eeg: mne.Info) -> None:
    draws = Blinks(eeg).sample(30, LENGTH, _rng(0))
    silent = int((draws == 0).all(axis=(1, 2)).sum())
    assert 0 < silent < 30
    signals = _signals(30, len(NAMES))
    with pytest.raises(InputError, match=rf"noise is silent in {silent} of 30 .*present=True"):
        scale_to_snr(signals, draws, 0.0)
    with pytest.raises(InputError, match=r"noise is silent in \d+ of 30"):
        snr_db(signals, draws)
    factor = level_for_snr(signals, draws, 0.0)
    assert _mean_square(factor * draws) == pytest.approx((signals**2).mean(), rel=1e-6)
    signals[4] = 0.0
    with pytest.raises(InputError, match=r"signal is silent in 1 of 30 .*number 4"):
        scale_to_snr(signals, white_noise(eeg, 1e-6, LENGTH).sample(30, LENGTH, _rng()), 0.0)
    assert level_for_snr(signals, draws, 0.0) < factor
    with pytest.raises(InputError, match="noise is silent in the whole set"):
        level_for_snr(signals, 0.0 * draws, 0.0)
    with pytest.raises(InputError, match="signal is silent in the whole set"):
        level_for_snr(0.0 * signals, draws, 0.0)
    with pytest.raises(InputError, match="no sample of the signal"):
        snr_db(signals, draws, slice(300, None))
    with pytest.raises(InputError, match="NaN or infinite"):
        snr_db(np.full((2, 3), np.nan), np.ones((2, 3)))
    with pytest.raises(InputError, match="channel and time"):
        snr_db(np.ones(3), np.ones(3))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_offers_the_same(kind: str, eeg: mne.Info) -> None:
    source = KINDS[kind](eeg)
    assert isinstance(source, NoiseSource)
    assert source.channels == tuple(NAMES)
    draws = source.sample(3, 150, _rng(4))
    assert draws.shape == (3, len(NAMES), 150)
    assert draws.dtype == np.float32
    assert np.isfinite(draws).all()
    np.testing.assert_array_equal(draws, source.sample(3, 150, _rng(4)))
    assert not np.array_equal(draws, source.sample(3, 150, _rng(5)))
    assert not np.array_equal(draws[0], draws[1])


# Gaussian noise


def test_white_noise_is_white_and_has_its_levels(meeg: mne.Info) -> None:
    noise = white_noise(meeg, {"eeg": 4e-6, "mag": 1e-13}, 64)
    draws = noise.sample(800, 64, _rng()).astype(float)
    deviation = draws.std(axis=(0, 2))
    np.testing.assert_allclose(deviation[: len(NAMES)], 4e-6, rtol=0.02)
    np.testing.assert_allclose(deviation[len(NAMES) :], 1e-13, rtol=0.02)
    draws /= deviation[:, None]
    correlation = np.einsum("nct,ndt->cd", draws, draws) / (800 * 64)
    assert np.abs(correlation - np.eye(len(correlation))).max() < 5 / np.sqrt(800 * 64)
    for lag in (1, 2, 20):
        assert abs((draws[..., lag:] * draws[..., :-lag]).mean()) < 5e-3
    levels = 1e-6 * np.arange(1, len(NAMES) + 1)
    by_channel = white_noise(_eeg(), levels, 64).sample(800, 64, _rng())
    np.testing.assert_allclose(by_channel.std(axis=(0, 2)), levels, rtol=0.02)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_power_law_has_its_slope_and_level(exponent: float, eeg: mne.Info) -> None:
    noise = power_law_noise(eeg, 2e-6, 500, SFREQ, (1.0, 80.0), exponent=exponent)
    draws = noise.sample(60, 500, _rng()).astype(float)
    frequencies, power = _spectrum(draws, SFREQ)
    inside = (frequencies >= 4) & (frequencies <= 75)
    slope = np.polyfit(np.log(frequencies[inside]), np.log(power[inside]), 1)[0]
    assert slope == pytest.approx(-exponent, abs=0.03)
    outside = (frequencies > 84) | ((frequencies > 0) & (frequencies < 0.4))
    assert power[outside].max() < 0.02 * power[inside].min()
    assert _mean_square(draws) == pytest.approx((2e-6) ** 2, rel=0.03)
    # The closed form of the autocorrelation, an integral over the band.
    fine = np.linspace(1.0, 80.0, 400_001)
    lags = np.array([1, 5, 40, 499]) / SFREQ
    weights = fine**-exponent / (fine**-exponent).sum()
    expected = np.array([weights @ np.cos(2 * np.pi * fine * lag) for lag in lags])
    np.testing.assert_allclose(noise.autocorrelation[[1, 5, 40, 499]], expected, atol=0.002)
    np.testing.assert_allclose(noise.spatial, (2e-6) ** 2 * np.eye(len(NAMES)), rtol=1e-12)


def test_covariance_of_mne_is_matched_by_name(eeg: mne.Info) -> None:
    covariance = _covariance([*reversed(NAMES), "EOG"])
    colour = 0.9 ** np.arange(60)
    noise = noise_from_covariance(covariance, eeg, 50, autocorrelation=colour, n_averages=4)
    expected = covariance.data[:-1, :-1][::-1, ::-1] / 4
    np.testing.assert_array_equal(noise.spatial, expected)
    draws = noise.sample(1500, 50, _rng()).astype(float)
    got = np.einsum("nct,ndt->cd", draws, draws) / (1500 * 50)
    assert _relative(got, expected) < 0.05
    for lag in (1, 4, 20):
        product = (draws[..., lag:] * draws[..., :-lag]).mean() / (draws**2).mean()
        assert product == pytest.approx(0.9**lag, abs=0.02)
    diagonal = mne.Covariance(
        np.arange(1.0, 1 + len(NAMES)) ** 2 * 1e-12, NAMES, [], [], 1, verbose="error"
    )
    levels = noise_from_covariance(diagonal, eeg, 50).sample(600, 50, _rng()).std(axis=(0, 2))
    np.testing.assert_allclose(levels, 1e-6 * np.arange(1, 1 + len(NAMES)), rtol=0.03)


def test_covariance_may_lack_rank(eeg: mne.Info) -> None:
    n = len(NAMES)
    reference = np.eye(n) - 1 / n
    full = _covariance(NAMES)
    data = reference @ full.data @ reference
    covariance = mne.Covariance(data, NAMES, [], [], 1, verbose="error")
    draws = noise_from_covariance(covariance, eeg, 20).sample(500, 20, _rng()).astype(float)
    assert np.abs(draws.mean(axis=1)).max() < 1e-5 * draws.std()
    got = np.einsum("nct,ndt->cd", draws, draws) / (500 * 20)
    assert _relative(got, data) < 0.07


def test_covariance_of_different_units(meeg: mne.Info) -> None:
    """EEG in V and MEG in T: both blocks are drawn, though one is 1e-15 of the other."""
    scale = np.array([5e-6] * len(NAMES) + [5e-14] * N_MEG)
    unit = _covariance(meeg.ch_names, scale=1.0).data
    unit /= np.sqrt(np.outer(np.diag(unit), np.diag(unit)))
    data = unit * np.outer(scale, scale)
    covariance = mne.Covariance(data, meeg.ch_names, [], [], 1, verbose="error")
    draws = noise_from_covariance(covariance, meeg, 10).sample(4000, 10, _rng()).astype(float)
    draws /= scale[:, None]
    got = np.einsum("nct,ndt->cd", draws, draws) / (4000 * 10)
    np.testing.assert_allclose(got, unit, atol=0.03)


def test_impossible_gaussian_noise(eeg: mne.Info, meeg: mne.Info) -> None:
    with pytest.raises(InputError, match=r"lacks channel\(s\) Fp1, O2$"):
        noise_from_covariance(_covariance(NAMES[1:-1]), eeg, 10)
    negative = _covariance(NAMES)
    negative["data"] = negative.data - 1e-10 * np.eye(len(NAMES))
    with pytest.raises(InputError, match="negative eigenvalues"):
        noise_from_covariance(negative, eeg, 10)
    with pytest.raises(InputError, match="has 5 lags and begins with 1: it needs 10"):
        noise_from_covariance(_covariance(NAMES), eeg, 10, autocorrelation=np.ones(5))
    with pytest.raises(InputError, match="types eeg, mag, whose units differ"):
        white_noise(meeg, 1e-6, 10)
    with pytest.raises(InputError, match="no level is given for channels of type mag"):
        white_noise(meeg, {"eeg": 1e-6}, 10)
    with pytest.raises(InputError, match=r"shape \(2,\), but there are 23 channels"):
        white_noise(eeg, np.ones(2), 10)
    with pytest.raises(InputError, match="channel Fpz is -1 V"):
        white_noise(eeg, np.where(np.array(NAMES) == "Fpz", -1.0, 1.0), 10)
    with pytest.raises(InputError, match=r"not for HEOG \(eog\)"):
        white_noise(mne.create_info(["HEOG"], 100.0, "eog"), 1.0, 10)
    for band in ((0.0, 10.0), (10.0, 10.0), (1.0, 200.0)):
        with pytest.raises(InputError, match="the band is"):
            power_law_noise(eeg, 1e-6, 10, SFREQ, band)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"n_averages": -1}, "n_averages is -1"),
        ({"n_averages": 0}, "n_averages is 0"),
        ({"n_lags": 0}, "n_lags is 0"),
        ({"autocorrelation": np.array([1.0] + [5.0] * 9)}, "beyond -1 to 1"),
        ({"autocorrelation": np.array([1.0] + [np.nan] * 9)}, "is NaN or beyond"),
        ({"autocorrelation": np.empty(0)}, "has 0 lags and begins with none"),
    ],
)
def test_impossible_noise_of_a_covariance(
    options: dict[str, object], match: str, eeg: mne.Info
) -> None:
    with pytest.raises(InputError, match=match):
        noise_from_covariance(_covariance(NAMES), eeg, **{"n_lags": 10, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [np.nan, np.inf, 3.0])
def test_covariances_that_are_none(value: float, eeg: mne.Info) -> None:
    covariance = _covariance(NAMES)
    covariance["data"][0, 1] = value  # not finite, or not symmetric
    with pytest.raises(InputError, match="not finite, not symmetric"):
        noise_from_covariance(covariance, eeg, 10)


def test_impossible_baselines(eeg: mne.Info, meeg: mne.Info) -> None:
    good = 1e-6 * _rng().standard_normal((20, len(NAMES), 50))
    holes = np.where(np.arange(50) == 7, np.nan, good)
    still = np.concatenate([good, np.zeros((20, N_MEG, 50))], axis=1)
    for baseline, info, match in (
        (good[0], eeg, r"shape \(23, 50\), not \(segment, 23 channels"),
        (good[:, 1:], eeg, "has shape"),
        (holes, eeg, "NaN or infinite"),
        (0 * good, eeg, "all eeg channels is flat"),
        (still, meeg, "all mag channels is flat"),
    ):
        with pytest.raises(InputError, match=match):
            noise_from_baseline(baseline, info, 1, 50)
    with pytest.raises(InputError, match="n_averages is -1"):
        noise_from_baseline(good, eeg, -1, 50)
    with pytest.raises(InputError, match="n_lags is 0"):
        noise_from_baseline(good, eeg, 1, 0)


def test_impossible_colours_and_operators(eeg: mne.Info) -> None:
    with pytest.raises(InputError, match=r"band is .*give two numbers"):
        power_law_noise(eeg, 1e-6, 10, SFREQ, 40.0)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="exponent of power-law noise is nan"):
        power_law_noise(eeg, 1e-6, 10, SFREQ, BAND, exponent=np.nan)
    with pytest.raises(InputError, match="n_lags is 0"):
        white_noise(eeg, 1e-6, 0)
    for length in (0.0, -0.05, np.nan):
        with pytest.raises(InputError, match="correlation_length is"):
            noise_from_level(eeg, 1e-6, 10, SFREQ, BAND, correlation_length=length)
    few = white_noise(_eeg(names=NAMES[2:]), 1e-6, 10)
    with pytest.raises(InputError, match=r"lacks channel.s. Fp1, Fpz, which the sensor operator"):
        few.through(reference(eeg))


def test_noise_keeps_the_rate_it_was_made_for(eeg: mne.Info) -> None:
    """Alpha made for 250 Hz is at 20 Hz if it is taken for noise at 500 Hz."""
    alpha = power_law_noise(eeg, 1e-6, 500, 250.0, (8.0, 12.0))
    draws = alpha.sample(50, 500, _rng())
    for sfreq, expected in ((250.0, 10.0), (500.0, 20.0)):
        frequencies, power = signal.welch(draws, sfreq, nperseg=500)
        assert frequencies[power.mean(axis=(0, 1)).argmax()] == pytest.approx(expected, rel=0.21)
    assert alpha.sfreq == 250.0
    assert alpha.through(reference(eeg)).sfreq == 250.0
    assert _from_baseline(eeg).sfreq == SFREQ
    coloured = noise_from_covariance(
        _covariance(NAMES), eeg, 9, autocorrelation=0.9 ** np.arange(9)
    )
    assert coloured.sfreq == SFREQ
    assert white_noise(eeg, 1e-6, 10).sfreq is None
    for others in (
        (LineNoise(_eeg(500.0)),),
        (white_noise(eeg, 1e-6, 500), SlowDrifts(_eeg(500.0))),
    ):
        shares = (0.5, *(0.5 / len(others),) * len(others))
        with pytest.raises(InputError, match="sampled at 250, 500 Hz"):
            Mixture((alpha, *others), shares, 1e-6)


# Artefacts


@pytest.mark.parametrize("decay", [np.nan, np.inf, -5])
def test_impossible_decays(decay: float, eeg: mne.Info) -> None:
    with pytest.raises(InputError, match="decay of line noise is"):
        LineNoise(eeg, decay=decay)


def test_a_decay_may_be_a_whole_number(eeg: mne.Info) -> None:
    one, other = (LineNoise(eeg, decay=k).sample(1, 50, _rng()) for k in (2, 2.0))
    np.testing.assert_array_equal(one, other)


def test_line_noise_is_at_its_frequencies() -> None:
    info = _eeg(400.0)
    line = LineNoise(info, 3e-6, harmonics=3, decay=1.0)
    draws = line.sample(40, 800, _rng()).astype(float)
    spectrum = np.abs(np.fft.rfft(draws, axis=-1)) / 400  # amplitudes, 2 s
    frequencies = np.fft.rfftfreq(800, 1 / 400)
    tall = spectrum[..., np.isin(frequencies, [50.0, 100.0, 150.0])]
    ratio = tall / tall[..., :1]
    np.testing.assert_allclose(ratio, np.broadcast_to([1, 1 / 2, 1 / 3], ratio.shape), rtol=1e-3)
    others = spectrum[..., ~np.isin(frequencies, [50.0, 100.0, 150.0])]
    assert others.max() < 1e-4 * spectrum.max()
    # Mean over the channels of each window: whole periods, so exactly the level.
    np.testing.assert_allclose((draws**2).mean(axis=(1, 2)), (3e-6) ** 2, rtol=1e-5)
    phases = np.angle(np.fft.rfft(draws[:, 0], axis=-1)[:, frequencies == 50.0][:, 0])
    assert stats.kstest(phases, stats.uniform(-np.pi, 2 * np.pi).cdf).pvalue > 0.001
    sixty = LineNoise(_eeg(), 3e-6, frequency=60.0).sample(1, 250, _rng())
    frequencies, power = _spectrum(sixty, SFREQ)
    assert frequencies[power.argmax()] == 60.0
    assert power[frequencies == 120.0] > 100 * power[frequencies == 110.0]  # and none at 180


def test_line_noise_is_smooth_over_the_scalp(eeg: mne.Info) -> None:
    draws = LineNoise(eeg, 1.0).sample(3000, 5, _rng()).astype(float)
    topography = np.linalg.svd(draws, full_matrices=False)
    assert (topography.S[:, 1] < 1e-5 * topography.S[:, 0]).all()  # one topography a window
    maps = topography.U[..., 0] * np.sqrt(len(NAMES))
    correlation = np.einsum("nc,nd->cd", maps, maps) / len(maps)
    place = {name: k for k, name in enumerate(NAMES)}
    near = correlation[place["Fp1"], place["Fpz"]]
    far = correlation[place["Fp1"], place["O2"]]
    assert near > 0.85
    assert abs(far) < 0.4
    with pytest.raises(InputError, match=r"50 Hz does not exist in data sampled at 100 Hz"):
        LineNoise(_eeg(100.0))


def test_blinks_are_frontal_and_symmetric(eeg: mne.Info) -> None:
    blinks = Blinks(eeg, 1.2e-4)
    at = dict(zip(NAMES, blinks.topography, strict=True))
    assert at["Fpz"] == pytest.approx(1.2e-4, rel=1e-9)  # the frontal-most of these
    frontal = {name for name, value in at.items() if value > 0.6 * max(at.values())}
    assert frontal == {"Fp1", "Fpz", "Fp2"}
    peak = max(at.values())
    for left, right in MIRROR.items():
        assert abs(at[left] - at[right]) < 0.03 * peak
    # Against a mastoid, blinks fall monotonically along the midline.
    midline = np.array([at[name] for name in ("Fpz", "Fz", "Cz", "Pz", "Oz")]) - at["TP9"]
    assert (np.diff(midline) < 0).all()
    assert (midline / midline[0])[1:] == pytest.approx([0.39, 0.17, 0.08, 0.03], abs=0.03)


def test_blinks_are_two_dipoles_in_the_sphere_of_mne(meeg: mne.Info) -> None:
    """The same dipoles by another door of MNE, and for MEG the formula of Sarvas (1987)."""
    radius, centre, _ = mne.bem.fit_sphere_to_headshape(meeg, verbose="error")
    side, down = np.deg2rad(25), np.deg2rad(30)
    eyes = np.array(
        [
            [s * np.sin(side) * np.cos(down), np.cos(side) * np.cos(down), -np.sin(down)]
            for s in (1, -1)
        ]
    )
    eyes = centre + 0.85 * radius * eyes
    ahead = np.array([[0.0, 1.0, 0.0]] * 2)
    dipoles = mne.Dipole(np.zeros(2), eyes, np.ones(2), ahead, np.full(2, 100.0), verbose="error")
    sphere = mne.make_sphere_model(centre, radius, verbose="error")
    forward, _ = mne.make_forward_dipole(dipoles, sphere, meeg, verbose="error")
    gain = forward["sol"]["data"].sum(axis=1)
    order = [forward["sol"]["row_names"].index(name) for name in meeg.ch_names]
    topography = Blinks(meeg).topography
    expected = gain[order] * topography[NAMES.index("Fpz")] / gain[order][NAMES.index("Fpz")]
    n = len(NAMES)
    np.testing.assert_allclose(topography[:n], expected[:n], rtol=1e-5, atol=1e-11)
    np.testing.assert_allclose(topography[n:], expected[n:], rtol=1e-5, atol=1e-18)

    moment = topography[NAMES.index("Fpz")] / gain[order][NAMES.index("Fpz")]
    places = np.array([channel["loc"][:3] for channel in meeg["chs"][n:]])
    normals = np.array([channel["loc"][9:12] for channel in meeg["chs"][n:]])
    places = mne.transforms.apply_trans(meeg["dev_head_t"], places) - centre
    normals = mne.transforms.apply_trans(meeg["dev_head_t"], normals, move=False)
    field = sum(
        _sarvas(places, eye, moment * q) for eye, q in zip(eyes - centre, ahead, strict=True)
    )
    np.testing.assert_allclose(
        topography[n:], (field * normals).sum(axis=1), rtol=1e-3, atol=1e-3 * np.abs(field).max()
    )
    assert 1e-12 < np.abs(topography[n:]).max() < 1e-11
    # Without EEG the amplitude is that at the front of the sphere, some 5 % less than at Fpz.
    alone = Blinks(_meg(meeg)).topography / topography[n:]
    np.testing.assert_allclose(alone, alone[0], rtol=1e-9)
    assert alone[0] == pytest.approx(1.0, abs=0.1)


def _sarvas(places: np.ndarray, source: np.ndarray, moment: np.ndarray) -> np.ndarray:
    """Field of a current dipole in a sphere around 0 (Sarvas 1987, Phys Med Biol 32:11)."""
    a = places - source
    distance = np.linalg.norm(a, axis=1, keepdims=True)
    r = np.linalg.norm(places, axis=1, keepdims=True)
    a_r = (a * places).sum(axis=1, keepdims=True)
    f = distance * (r * distance + r**2 - (source * places).sum(axis=1, keepdims=True))
    gradient = (distance**2 / r + a_r / distance + 2 * distance + 2 * r) * places
    gradient -= (distance + 2 * r + a_r / distance) * source
    cross = np.cross(moment, source)
    return 1e-7 * (f * cross - (places @ cross)[:, None] * gradient) / f**2


def test_blinks_have_their_course_and_their_rate() -> None:
    info = _eeg(1000.0, ["Fpz", "Fp1", "Fp2", "Cz", "Oz", "T7"])
    one = Blinks(info, 1e-4, rate=1e-3, duration=0.3, spread=0.0, present=True)
    draws = one.sample(50, 1000, _rng()).astype(float)[:, 0]
    assert (draws.max(axis=1) <= 1e-4 * (1 + 1e-6)).all()
    assert (draws.max(axis=1) > 0.99e-4).all()  # the peak lies inside
    whole = draws[(draws[:, 0] == 0) & (draws[:, -1] == 0)]
    assert len(whole) > 20
    np.testing.assert_allclose((whole > 0).sum(axis=1), 300, atol=2)
    np.testing.assert_allclose((whole > 0.5e-4).sum(axis=1), 150, atol=2)
    np.testing.assert_allclose(whole.sum(axis=1) / 1000, 1e-4 * 0.3 / 2, rtol=1e-3)
    assert stats.kstest(draws.argmax(axis=1), stats.uniform(0, 1000).cdf).pvalue > 0.001
    # As they come: mean power of a Poisson process of Hann windows, 3 / 8 of their duration each.
    free = Blinks(info, 1e-4, rate=0.1, duration=0.3, spread=0.5)
    power = _mean_square(free.sample(8000, 100, _rng())[:, 0])
    assert power == pytest.approx(0.1 * 0.3 * 3 / 8 * 1e-8 * (1 + 0.25 / 3), rel=0.08)


def test_events_are_a_poisson_process() -> None:
    n, rate, window, margins = 40_000, 0.5, (0.0, 2.0), (0.7, 0.3)
    for present in (False, True):
        times = _events(n, rate, window, margins, present, _rng())
        inside = ((times >= 0) & (times < 2)).sum(axis=1)
        mean = 1.0 / (1 - np.exp(-1.0)) if present else 1.0
        assert inside.mean() == pytest.approx(mean, abs=0.02)
        for count in (1, 2, 3):  # the Poisson distribution, without 0 where present
            expected = stats.poisson(1.0).pmf(count) / (1 - np.exp(-1.0) if present else 1.0)
            assert (inside == count).mean() == pytest.approx(expected, abs=0.01)
        assert ((inside == 0).any()) != present
        assert ((times >= -0.7) & (times < 0)).sum(axis=1).mean() == pytest.approx(0.35, abs=0.01)
        assert ((times >= 2) & (times < 2.3)).sum(axis=1).mean() == pytest.approx(0.15, abs=0.01)
        found = times[~np.isnan(times)]
        assert found.min() >= -0.7
        assert found.max() < 2.3
    nothing = _events(5, 1e-9, window, margins, False, _rng())
    assert np.isnan(nothing).all()


def test_impossible_blinks(eeg: mne.Info, meeg: mne.Info) -> None:
    with pytest.raises(InputError, match="no position of channel Fp1"):
        Blinks(mne.create_info(["Fp1", "Fp2"], 100.0, "eeg"))
    with pytest.raises(InputError, match="rate of blinks is 0"):
        Blinks(eeg, rate=0.0)
    with pytest.raises(InputError, match="spread of blinks is 1"):
        Blinks(eeg, spread=1.0)
    with pytest.raises(InputError, match="shorter than two samples"):
        Blinks(eeg, duration=0.005)
    with pytest.raises(InputError, match="P4, is too far from the eyes"):
        Blinks(_eeg(names=["Pz", "P3", "P4", "O1", "Oz", "O2"]))
    no_head = _meg(meeg)
    with no_head._unlock():
        no_head["dig"] = None
    with pytest.raises(InputError, match="shape of the head"):
        Blinks(no_head)
    adrift = meeg.copy()
    with adrift._unlock():
        adrift["dev_head_t"] = None
    with pytest.raises(InputError, match="dev_head_t"):
        Blinks(adrift)


def test_slow_drifts_are_slow(eeg: mne.Info) -> None:
    drifts = SlowDrifts(_eeg(10.0), 1e-5, band=(0.02, 0.5))
    draws = drifts.sample(25, 2000, _rng()).astype(float)  # of 200 s
    frequencies, power = _spectrum(draws, 10.0)
    assert (
        power[frequencies > 0.55].max()
        < 1e-3 * power[(frequencies > 0) & (frequencies < 0.5)].min()
    )
    inside = (frequencies > 0.05) & (frequencies < 0.45)
    slope = np.polyfit(np.log(frequencies[inside]), np.log(power[inside]), 1)[0]
    assert slope == pytest.approx(-2.0, abs=0.1)
    assert _mean_square(draws) == pytest.approx(1e-10, rel=0.1)
    # Short windows are cut out of the same process.
    short = SlowDrifts(eeg, 1e-5, band=(0.02, 0.5)).sample(300, 100, _rng())
    assert _mean_square(short) == pytest.approx(1e-10, rel=0.1)
    channels = np.moveaxis(short, 1, 0).reshape(len(NAMES), -1)[:, ::100]
    correlation = np.corrcoef(channels) - np.eye(len(NAMES))
    assert np.abs(correlation).max() < 5 / np.sqrt(300)


@pytest.mark.parametrize("degree", [1, 3])
def test_polynomial_drifts_are_polynomials(degree: int, eeg: mne.Info) -> None:
    draws = SlowDrifts(eeg, 1e-5, degree=degree).sample(400, 120, _rng()).astype(float)
    rows = draws.reshape(-1, 120)
    grid = np.linspace(-1, 1, 120)
    for fitted, share in ((degree, 0.0), (degree - 1, 1 / degree)):
        basis = np.linalg.qr(np.vander(grid, fitted + 1))[0]
        rest = rows - rows @ basis @ basis.T
        assert (rest**2).mean() / (rows**2).mean() == pytest.approx(share, abs=0.03)
    assert np.abs(rows.mean(axis=1)).max() < 1e-3 * rows.std()
    assert _mean_square(draws) == pytest.approx(1e-10, rel=0.05)
    with pytest.raises(InputError, match=f"degree {degree} needs more than"):
        SlowDrifts(eeg, degree=degree).sample(1, degree, _rng())
    with pytest.raises(InputError, match="the band of slow drifts"):
        SlowDrifts(eeg, band=(0.0, 0.5))


def test_a_pop_is_on_one_electrode_and_decays(meeg: mne.Info) -> None:
    pops = ElectrodePops(meeg, 1e-4, rate=1e-4, highpass=0.5, spread=0.5, present=True)
    draws = pops.sample(400, LENGTH, _rng()).astype(float)
    touched = (draws != 0).any(axis=2)
    assert (touched.sum(axis=1) == 1).all()
    assert not touched[:, len(NAMES) :].any()  # no electrode
    counts = touched[:, : len(NAMES)].sum(axis=0)
    assert stats.chisquare(counts).pvalue > 0.001
    assert 0.4 < (draws.sum(axis=(1, 2)) > 0).mean() < 0.6  # of either sign
    decay = np.exp(-2 * np.pi * 0.5 / SFREQ)
    onsets = []
    for window in draws.sum(axis=1):
        onset = int(np.flatnonzero(window)[0])
        onsets.append(onset)
        expected = window[onset] * decay ** np.arange(LENGTH - onset)
        np.testing.assert_allclose(window[onset:], expected, rtol=1e-5)
        assert 0.5e-4 * decay <= abs(window[onset]) <= 1.5e-4
    assert stats.kstest(onsets, stats.uniform(0, LENGTH).cdf).pvalue > 0.001
    # As they come: mean power of a Poisson process of exponentials, half a time constant each.
    free = ElectrodePops(_eeg(), 1e-4, rate=0.5, highpass=0.5, spread=0.5)
    power = _mean_square(free.sample(4000, 50, _rng()))
    constant = 1 / (2 * np.pi * 0.5)
    expected = 0.5 * constant / 2 * 1e-8 * (1 + 0.25 / 3) / len(NAMES)
    assert power == pytest.approx(expected, rel=0.08)
    with pytest.raises(InputError, match="no EEG channel"):
        ElectrodePops(_meg(meeg))


def test_artefacts_of_meg_have_its_units(meeg: mne.Info) -> None:
    meg = _meg(meeg)
    for source, level in ((LineNoise(meg), 2e-13), (SlowDrifts(meg), 5e-13)):
        draws = source.sample(200, 100, _rng())
        assert np.sqrt(_mean_square(draws)) == pytest.approx(level, rel=0.1)
    both = LineNoise(meeg).sample(200, 100, _rng()).astype(float)
    n = len(NAMES)
    assert np.sqrt((both[:, :n] ** 2).mean()) == pytest.approx(2e-6, rel=0.15)
    assert np.sqrt((both[:, n:] ** 2).mean()) == pytest.approx(2e-13, rel=0.15)


# The brain's background


def test_background_is_leadfield_times_segments(eeg: mne.Info) -> None:
    bank, leadfield = _bank(n_runs=3, n_times=60), _leadfield(NAMES)
    shuffled = bank.isel(region=_rng().permutation(9))
    source = BrainBackground(
        eeg, leadfield.isel(channel=slice(None, None, -1)), shuffled, SFREQ, source_scale=40.0
    )
    draws = source.sample(80, 50, _rng()).astype(float)
    moments = 40.0 * (bank - bank.mean("time")).values
    found = set()
    for window in draws:
        errors = {
            (run, start): _relative(window, leadfield.values @ moments[run, :, start : start + 50])
            for run in range(3)
            for start in range(11)
        }
        best = min(errors, key=errors.__getitem__)
        assert errors[best] < 1e-5
        found.add(best)
    assert {run for run, _ in found} == {0, 1, 2}
    assert {start for _, start in found} == set(range(11))
    as_moments = (40.0 * bank).assign_attrs(units="nAm").rename(run="simulation")
    same = BrainBackground(eeg, leadfield, as_moments, SFREQ).sample(80, 50, _rng())
    without_times = BrainBackground(eeg, leadfield, as_moments.drop_vars("time"), SFREQ)
    np.testing.assert_array_equal(without_times.sample(80, 50, _rng()), same)
    np.testing.assert_allclose(same, draws, rtol=1e-4, atol=1e-11)


def test_background_has_the_covariance_of_the_network(eeg: mne.Info) -> None:
    bank, leadfield = _bank(), _leadfield(NAMES)
    source = BrainBackground(eeg, leadfield, bank, SFREQ, source_scale=40.0)
    draws = source.sample(2000, 100, _rng()).astype(float)
    got = np.einsum("nct,ndt->cd", draws, draws) / (2000 * 100)
    moments = 40.0 * (bank - bank.mean("time")).values
    between = np.einsum("nrt,nst->rs", moments, moments) / (12 * 900)
    assert _relative(got, leadfield.values @ between @ leadfield.values.T) < 0.05
    lagged = (draws[..., 5:] * draws[..., :-5]).mean() / (draws**2).mean()
    assert lagged == pytest.approx(0.9**5, abs=0.05)


def test_impossible_backgrounds(eeg: mne.Info) -> None:
    bank, leadfield = _bank(n_runs=2, n_times=60), _leadfield(NAMES)

    def make(**changes: object) -> BrainBackground:
        values = {"leadfield": leadfield, "signals": bank, "sfreq": SFREQ, "source_scale": 1.0}
        return BrainBackground(**{"info": eeg, **values, **changes})  # type: ignore[arg-type]

    with pytest.raises(InputError, match="sampled at 250 Hz, the sensors at 100 Hz: resample"):
        make(info=_eeg(100.0))
    with pytest.raises(InputError, match=r"said to be sampled at 125 Hz.*those of 250 Hz"):
        make(sfreq=125.0)
    with pytest.raises(InputError, match="signals are in mV: give source_scale"):
        make(source_scale=None)
    with pytest.raises(InputError, match=r"lead field lacks channel\(s\) Cz, Oz"):
        make(leadfield=leadfield.drop_sel(channel=["Cz", "Oz"]))
    with pytest.raises(InputError, match=r"different regions: region4 \(1 in all\)"):
        make(signals=bank.drop_sel(region="region4"))
    with pytest.raises(InputError, match="name its region"):
        make(signals=bank.drop_vars("region"))
    with pytest.raises(InputError, match="lead field holds NaN"):
        make(leadfield=leadfield.where(leadfield["channel"] != "Cz"))
    with pytest.raises(InputError, match="the signals have dims"):
        make(signals=bank.isel(run=0))
    broken = bank.copy()
    broken[1, 2, 3] = np.nan
    with pytest.raises(InputError, match=r"1 of 2 runs .*number 1"):
        make(signals=broken)
    with pytest.raises(InputError, match="have 60 samples, 61 were asked for"):
        make().sample(1, 61, _rng())


# Mixtures


def test_a_mixture_has_its_shares(eeg: mne.Info) -> None:
    """Parts that do not overlap in frequency are told apart in the sum."""
    alpha = power_law_noise(eeg, 1e-3, 1000, SFREQ, (8.0, 12.0), exponent=0.0)
    parts = (SlowDrifts(eeg, 1.0), alpha, LineNoise(eeg, 1e-9, harmonics=1))
    draws = Mixture(parts, (0.2, 0.5, 0.3), 4e-6).sample(60, 1000, _rng()).astype(float)
    spectrum = np.fft.rfft(draws, axis=-1)
    frequencies = np.fft.rfftfreq(1000, 1 / SFREQ)
    assert _mean_square(draws) == pytest.approx(16e-12, rel=0.02)
    middle = (frequencies > 6) & (frequencies < 14)
    power = np.abs(spectrum[..., middle]) ** 2
    assert 2 * power.sum() / draws.size / 1000 == pytest.approx(0.5 * 16e-12, rel=0.02)
    at_50 = np.abs(spectrum[..., frequencies == 50.0]) ** 2
    assert 2 * at_50.sum() / draws.size / 1000 == pytest.approx(0.3 * 16e-12, rel=0.02)
    # Each draw has them, whatever the levels of the parts were.
    rng, again = _rng(5), _rng(5)
    total = Mixture(parts, (0.2, 0.5, 0.3), 4e-6).sample(3, 500, rng)
    scaled = []
    for part, share in zip(parts, (0.2, 0.5, 0.3), strict=True):
        draw = part.sample(3, 500, again).astype(float)
        scaled.append(draw * 4e-6 * np.sqrt(share / (draw**2).mean()))
    np.testing.assert_allclose(total, sum(scaled), atol=1e-5 * 4e-6)


def test_a_calibrated_mixture_is_the_same_in_draws_of_any_size(eeg: mne.Info) -> None:
    mixture = Mixture((white_noise(eeg, 1e-6, 50), Blinks(eeg)), (0.5, 0.5), 1e-5)
    rare = replace(mixture, parts=(Blinks(eeg, rate=1e-9), mixture.parts[0]))
    with pytest.raises(InputError, match=r"part 0 .*Blinks.* absent from a draw of 1 windows"):
        rare.sample(1, 50, _rng(1))
    fixed = mixture.calibrated(6000, 50, _rng(100))
    rng = _rng(7)
    single = np.concatenate([fixed.sample(1, 50, rng) for _ in range(3000)])
    assert _mean_square(single) == pytest.approx(1e-10, rel=0.15)
    assert _mean_square(fixed.sample(3000, 50, _rng(8))) == pytest.approx(1e-10, rel=0.15)
    quiet = np.median((single.astype(float) ** 2).mean(axis=(1, 2)))
    assert quiet == pytest.approx(0.5e-10, rel=0.05)  # most windows have no blink


def test_impossible_mixtures(eeg: mne.Info, meeg: mne.Info) -> None:
    white, line = white_noise(eeg, 1e-6, 50), LineNoise(eeg)
    with pytest.raises(InputError, match="of 2 kinds of noise has 1 shares"):
        Mixture((white, line), (1.0,), 1.0)
    for shares in ((0.5, 0.6), (1.0, 0.0), (1.5, -0.5)):
        with pytest.raises(InputError, match="above 0 and sum to 1"):
            Mixture((white, line), shares, 1.0)
    with pytest.raises(InputError, match="level of a mixture is 0"):
        Mixture((white, line), (0.5, 0.5), 0.0)
    with pytest.raises(InputError, match="different channels"):
        Mixture((white, LineNoise(_eeg(names=NAMES[:5]))), (0.5, 0.5), 1.0)
    with pytest.raises(InputError, match="sampled at 200, 250 Hz"):
        Mixture((SlowDrifts(_eeg(200.0)), line), (0.5, 0.5), 1.0)
    both = {"eeg": 1e-6, "mag": 1e-13}
    with pytest.raises(InputError, match="types eeg, mag has no mean power"):
        Mixture((white_noise(meeg, both, 50), LineNoise(meeg)), (0.5, 0.5), 1.0)
    for factors in ((1.0, np.nan), (1.0,), (1.0, 0.0)):
        with pytest.raises(InputError, match="factors of a mixture are"):
            Mixture((white, line), (0.5, 0.5), 1.0, factors)
    nested = Mixture((Mixture((white, line), (0.5, 0.5), 1.0), white), (0.9, 0.1), 2e-6)
    assert _mean_square(nested.sample(50, 50, _rng())) == pytest.approx(4e-12, rel=0.05)
    assert replace(nested, level=1e-6).channels == tuple(NAMES)

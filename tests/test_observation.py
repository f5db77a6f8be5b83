"""Recordings and simulations through one protocol, noise, and what is said about channels."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import mne
import numpy as np
import pytest
import xarray as xr
from pydantic import ValidationError
from scipy import signal
from scipy.interpolate import CubicSpline

from nmm_infer.anatomy import Head
from nmm_infer.campaign import OK, Campaign, run
from nmm_infer.errors import InputError
from nmm_infer.observation import (
    EvokedProtocol,
    Noise,
    Observer,
    SpontaneousProtocol,
    View,
    noise_from_baseline,
    noise_from_level,
    observe,
)
from nmm_infer.observation.conditioning import bandpass, resample_at, time_operator
from nmm_infer.runs import build_task
from nmm_infer.simulation import Clock
from nmm_infer.study import Study

BEFORE, AFTER = 0.4, 2.0  # s around the event in which a simulated response is known


def _relative(got: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(got - expected) / np.linalg.norm(expected))


def _plain(info: mne.Info, sfreq: float) -> mne.Info:
    return mne.create_info(list(info["ch_names"]), sfreq, "eeg", verbose="error")


# Simulations and recordings are treated alike


@dataclass
class Responses:
    """Noise-free responses that end at rest: as stored for training, and at 1000 Hz."""

    campaign: Campaign
    times: np.ndarray
    sensors: np.ndarray


@pytest.fixture(scope="module")
def responses(head: Head) -> Responses:
    study = Study.evoked().replace(prior={"noise": {"distribution": "fixed", "low": 0.0}})
    task = build_task(study, head.regions, stream="training")
    design = task.prior.sample(24, seed=0)
    fine = run(replace(task, clock=Clock(-BEFORE, AFTER, every=1)), design)
    potential = fine.dataset["potential"].values
    potential = potential - potential[..., :1]
    restless = np.abs(potential[..., -1]).max(axis=1)
    restless += np.abs(potential[..., : round(1000 * BEFORE)]).max(axis=(1, 2))
    rest = np.flatnonzero(restless < 0.02)[:3]
    assert len(rest) == 3
    campaign = run(task, design).select(rest)
    weight = np.repeat(design[rest].sel(parameter="background").values[:, None], 68, axis=1)
    weight[np.arange(3), campaign.dataset["focus"].values] = 1.0
    weight *= design[rest].sel(parameter="source_scale").values[:, None]
    sensors = np.einsum("cr,nr,nrt->nct", head.leadfield.values, weight, potential[rest])
    return Responses(campaign, fine.dataset["time"].values, sensors)


def _continuous(
    sensors: np.ndarray, times: np.ndarray, info: mne.Info, sfreq: float, events: int = 6
) -> mne.io.RawArray:
    """Put a response into a long recording that is otherwise at rest."""
    curve = CubicSpline(times, sensors, axis=1)
    gap = round(8 * sfreq)
    first, last = int(BEFORE * sfreq), int(AFTER * sfreq)
    data = np.zeros((len(sensors), gap * events))
    places = np.array([gap * k + gap // 2 for k in range(events)])
    for place in places:
        data[:, place - first : place + last + 1] = curve(np.arange(-first, last + 1) / sfreq)
    data += 1e-10 * np.random.default_rng(0).standard_normal(data.shape)  # not quite silent
    raw = mne.io.RawArray(data, _plain(info, sfreq), verbose="error")
    return raw.set_annotations(mne.Annotations(places / sfreq, 0.0, "go"))


@pytest.mark.parametrize("sfreq", [128.0, 250.0, 512.0])
def test_a_recorded_response_equals_the_simulated_one(
    responses: Responses, observer: Observer, head: Head, info: mne.Info, sfreq: float
) -> None:
    protocol = EvokedProtocol(reject=None)
    for k in range(3):
        raw = _continuous(responses.sensors[k], responses.times, info, sfreq)
        observation = observe(raw, protocol, events="go", head=head)
        clean = observer.view(responses.campaign.select(np.array([k]))).clean()
        recorded, simulated = observer.sequences(observation), observer.reduce(clean)
        assert recorded.region[0] == simulated.region[0]
        assert _relative(recorded.values, simulated.values) < 0.02
        before = protocol.times <= 0
        expected = clean[0, 0] - clean[0, 0][:, before].mean(axis=1, keepdims=True)
        assert _relative(observation.data.values[0], expected) < 0.02
        assert observation.n_averages == 6
        assert "Averaged 6 of 6 epochs around 'go'." in observation.notes


def test_epochs_and_averages_enter_by_the_same_door(
    responses: Responses, head: Head, info: mne.Info
) -> None:
    protocol = EvokedProtocol(reject=None)
    raw = _continuous(responses.sensors[0], responses.times, info, 250.0)
    reference = observe(raw, protocol, events="go", head=head)
    filtered = raw.copy().filter(0.5, 30.0, verbose="error")
    events, event_id = mne.events_from_annotations(filtered, verbose="error")
    epochs = mne.Epochs(
        filtered, events, event_id, -0.6, 0.6, baseline=None, preload=True, verbose="error"
    )
    for recording in (epochs, epochs.average()):
        observation = observe(recording, protocol, head=head)
        assert _relative(observation.data.values, reference.data.values) < 0.03
        assert observation.n_averages == 6
        assert observation.band == (0.5, 30.0)
    with pytest.raises(InputError, match=r"no event 'stop' in the epochs; present: go"):
        observe(epochs, protocol, events="stop", head=head)


def test_what_observe_refuses(head: Head, info: mne.Info) -> None:
    raw = _noisy(info["ch_names"])
    evoked = mne.EvokedArray(
        1e-6 * np.random.default_rng(0).standard_normal((32, 160)), _plain(info, 128.0),
        tmin=-0.6, comment="go", nave=9, verbose="error",
    )  # fmt: skip
    events, event_id = mne.events_from_annotations(raw, verbose="error")
    epochs = mne.Epochs(
        raw, events, event_id, -0.6, 0.5, baseline=None, preload=True, verbose="error"
    )
    assert observe(evoked, EvokedProtocol(), events="go", head=head).n_averages == 9
    nobody = evoked.copy()
    nobody.nave = 0
    for recording, protocol, events_, why in (
        (evoked, EvokedProtocol(), "zz", "the average is of 'go', not of 'zz'"),
        (raw, SpontaneousProtocol(), "zz", "events 'zz' were named, but the protocol"),
        (nobody, EvokedProtocol(), None, "nave of the average is 0"),
        (epochs[:0], EvokedProtocol(), None, "no epochs left"),
        ("rec.fif", EvokedProtocol(), None, "of type str: .* by read_recording"),
        (None, SpontaneousProtocol(), None, "of type NoneType"),
    ):
        with pytest.raises(InputError, match=why):
            observe(recording, protocol, events=events_, head=head)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="head is 'template'"):
        observe(raw, SpontaneousProtocol(), head="template")  # type: ignore[arg-type]
    broken = mne.make_ad_hoc_cov(raw.info, verbose="error")
    broken["data"] = np.full(len(broken.ch_names), np.nan)
    with pytest.raises(InputError, match="covariance is not finite"):
        observe(raw, SpontaneousProtocol(), head=head, noise_cov=broken)


def test_a_notch_that_is_not_applied_is_said(head: Head, info: mne.Info) -> None:
    raw = _noisy(info["ch_names"])
    events, event_id = mne.events_from_annotations(raw, verbose="error")
    epochs = mne.Epochs(
        raw, events, event_id, -0.6, 0.5, baseline=None, preload=True, verbose="error"
    )

    def said(recording: mne.io.Raw | mne.Epochs, notch: float) -> list[str]:
        observation = observe(recording, EvokedProtocol(notch=notch), events="go", head=head)
        return [note for note in observation.notes if "notch" in note]

    assert said(raw, 50.0) == []
    assert said(raw, 70.0) == [
        "No notch filter of 70 Hz was applied: the recording is sampled at 128 Hz."
    ]
    assert "before cutting them" in said(epochs, 50.0)[0]


def test_noise_of_another_rate_is_refused(head: Head, info: mne.Info) -> None:
    noise = noise_from_level(info, 1e-6, 41, 250.0, (0.5, 30.0))
    with pytest.raises(InputError, match="noise is sampled at 250 Hz, the protocol at 100 Hz"):
        Observer(head, noise, EvokedProtocol(), info)


def test_reference_does_not_matter(responses: Responses, head: Head, info: mne.Info) -> None:
    protocol = EvokedProtocol(reject=None)
    raw = _continuous(responses.sensors[1], responses.times, info, 250.0)
    common = raw.copy()
    wave = 3e-5 * np.random.default_rng(1).standard_normal(raw.n_times)
    common._data += wave
    one, other = (observe(r, protocol, events="go", head=head) for r in (raw, common))
    scale = np.abs(one.data.values).max()
    np.testing.assert_allclose(one.data, other.data, atol=1e-9 * scale)
    np.testing.assert_allclose(one.data.sum("channel"), 0.0, atol=1e-9 * scale)


def test_the_recording_is_not_changed(responses: Responses, head: Head, info: mne.Info) -> None:
    raw = _continuous(responses.sensors[0], responses.times, info, 250.0)
    before = raw.get_data().copy()
    observe(raw, EvokedProtocol(reject=None), events="go", head=head)
    np.testing.assert_array_equal(raw.get_data(), before)
    assert raw.info["highpass"] == 0.0


def test_the_leadfield_of_an_observer_has_the_average_reference(
    observer: Observer, head: Head
) -> None:
    assert np.abs(observer._leadfield.sum(axis=0)).max() < 1e-5 * float(
        np.abs(head.leadfield).max()
    )
    expected = head.leadfield - head.leadfield.mean("channel")
    np.testing.assert_allclose(observer._leadfield, expected, rtol=1e-4, atol=1e-13)


def test_clean_signals_are_leadfield_times_moment(view: View, observer: Observer) -> None:
    """Slowly, run by run and in float64, without the matrix that the view multiplies by."""
    clean, data = view.clean(), view.campaign.dataset
    times = data["time"].values
    sfreq = 1 / np.diff(times).mean()
    for k in (0, 17, 239):
        theta = view.theta[k]
        weight = np.full(68, float(theta.sel(parameter="background")))
        weight[int(data["focus"][k])] = 1.0
        potential = data["potential"][k].values.astype(float)
        moment = float(theta.sel(parameter="source_scale")) * weight[:, None] * potential
        moment -= moment[:, :1]
        sensors = observer._leadfield @ moment
        expected = resample_at(
            bandpass(sensors, sfreq, 0.5, 30.0), sfreq, times[0], observer.protocol.times
        )
        assert _relative(clean[k, 0], expected) < 1e-4


def test_strongest_region_is_chosen_from_the_noisy_sensors(view: View, observer: Observer) -> None:
    sensors = view.sensors()
    sequences = view.sequences()
    chosen = observer._strength(
        sensors - sensors[..., observer.protocol.times <= 0].mean(-1, keepdims=True)
    ).argmax(axis=1)
    np.testing.assert_array_equal(sequences.region, chosen)
    assert len(set(chosen.tolist())) > 10


def test_a_named_region_is_obeyed(head: Head, noise: Noise, info: mne.Info, view: View) -> None:
    named = Observer(head, noise, EvokedProtocol(region="insula-rh"), info, seed=3)
    sequences = named.view(view.campaign).sequences()
    assert set(sequences.region.tolist()) == {head.regions.index("insula-rh")}
    with pytest.raises(InputError, match=r"no region 'insular-rh'"):
        Observer(head, noise, EvokedProtocol(region="insular-rh"), info)


def test_regions_of_another_head_are_refused(observer: Observer, campaign: Campaign) -> None:
    other = Campaign(campaign.dataset.isel(region=slice(None, None, -1)))
    with pytest.raises(InputError, match="regions"):
        observer.view(other).clean()


# Filter and resampling


@pytest.mark.parametrize(("frequency", "gain"), [(2.0, 1.0), (10.0, 1.0), (25.0, 1.0), (60.0, 0.0)])
def test_bandpass_gain(frequency: float, gain: float) -> None:
    t = np.arange(-10, 10, 1 / 250)
    wave = np.sin(2 * np.pi * frequency * t + 0.3)
    middle = np.abs(t) < 2
    got = bandpass(wave, 250.0, 0.5, 30.0)
    np.testing.assert_allclose(got[middle], gain * wave[middle], atol=0.005)


def test_bandpass_removes_a_constant_and_knows_rest() -> None:
    assert np.abs(bandpass(np.full((2, 100), 3.0), 250.0, 0.5, 30.0)).max() < 1e-6
    # What the filter makes of a response does not depend on the rest before and after it.
    t = np.arange(0, 1, 1 / 250)
    short = np.exp(-0.5 * ((t - 0.5) / 0.05) ** 2)
    long = np.concatenate([np.zeros(4000), short, np.zeros(4000)])
    np.testing.assert_allclose(
        bandpass(short, 250.0, 0.5, 30.0),
        mne.filter.filter_data(long, 250.0, 0.5, 30.0, verbose="error")[4000:4250],
        atol=1e-5,
    )
    same = np.random.default_rng(0).standard_normal(50)
    np.testing.assert_array_equal(bandpass(same, 100.0, None, 50.0), same)


@pytest.mark.parametrize("sfreq", [125.0, 128.0, 250.0, 512.0])
@pytest.mark.parametrize("frequency", [3.0, 11.0, 29.0])
def test_resample_at_a_known_sinusoid(sfreq: float, frequency: float) -> None:
    start = -1.0 + 0.3 / sfreq
    t = start + np.arange(round(2 * sfreq)) / sfreq
    times = np.arange(-50, 51) / 100
    got = resample_at(np.sin(2 * np.pi * frequency * t)[None], sfreq, start, times)
    np.testing.assert_allclose(got[0], np.sin(2 * np.pi * frequency * times), atol=0.01)


def test_time_operator_is_both_steps() -> None:
    values = np.random.default_rng(0).standard_normal((3, 40))
    times = np.arange(5, 30) / 100
    operator = time_operator(40, 125.0, 0.0, times, 0.5, 30.0)
    expected = resample_at(bandpass(values, 125.0, 0.5, 30.0), 125.0, 0.0, times)
    np.testing.assert_allclose(values @ operator, expected, atol=1e-10)


# Protocols


@pytest.mark.parametrize(
    ("kind", "change", "why"),
    [
        (EvokedProtocol, {"l_freq": 31.0}, "must be below h_freq"),
        (EvokedProtocol, {"sfreq": 60.0}, "2.5 times h_freq"),
        (EvokedProtocol, {"tmax": 1.5}, "at most 150"),
        (EvokedProtocol, {"tmin": 0.1}, "less than 0"),
        (EvokedProtocol, {"baseline": (-0.5, 0.0)}, "not within the window, -0.1 to 0.3 s"),
        (EvokedProtocol, {"baseline": (-0.1, 0.4)}, "not within the window"),
        (SpontaneousProtocol, {"window": np.inf}, "finite"),
        (SpontaneousProtocol, {"duration": 1.0}, "at least one window"),
        (SpontaneousProtocol, {"window": 8.0}, "at most 150"),
        (SpontaneousProtocol, {"tmin": -0.1}, "Extra inputs"),
    ],
)
def test_impossible_protocols(kind: type, change: dict[str, float], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        kind(**change)


def test_protocol_axes() -> None:
    evoked = EvokedProtocol(tmin=-0.05, tmax=0.2)
    np.testing.assert_allclose(evoked.times, np.arange(-5, 21) / 100)
    assert evoked.n_steps == 26
    spontaneous = SpontaneousProtocol()
    assert spontaneous.n_windows == 4
    assert len(spontaneous.times) == 800
    np.testing.assert_allclose(spontaneous.frequencies, np.arange(1, 81) / 2)


# Noise


def _autocorrelation(data: np.ndarray, lag: int) -> float:
    return float((data[..., lag:] * data[..., : data.shape[-1] - lag]).mean() / (data**2).mean())


def test_noise_of_a_level_has_its_spectrum(info: mne.Info) -> None:
    noise = noise_from_level(info, 2e-6, 400, 100.0, (2.0, 30.0), exponent=1.0)
    draws = noise.sample(200, 400, np.random.default_rng(0)).astype(float)
    frequencies, power = signal.periodogram(draws, 100.0, window="hann", axis=-1)
    power = power.mean(axis=(0, 1))
    inside = (frequencies >= 4) & (frequencies <= 27)
    slope = np.polyfit(np.log(frequencies[inside]), np.log(power[inside]), 1)[0]
    assert slope == pytest.approx(-1.0, abs=0.05)
    outside = (frequencies > 33) | ((frequencies < 1) & (frequencies > 0))
    assert power[outside].max() < 0.03 * power[inside].min()
    # The level is that of one channel before the average reference.
    n = len(info.ch_names)
    assert noise.spatial.trace() / n < (2e-6) ** 2
    assert noise.spatial.trace() / n > 0.1 * (2e-6) ** 2
    np.testing.assert_allclose(noise.spatial.sum(axis=0), 0.0, atol=1e-20)


def test_noise_samples_have_the_covariance_and_autocorrelation(noise: Noise) -> None:
    draws = noise.sample(3000, 20, np.random.default_rng(0)).astype(float)
    covariance = np.einsum("nct,ndt->cd", draws, draws) / (3000 * 20)
    assert _relative(covariance, noise.spatial) < 0.05
    for lag in (1, 3, 7, 15):
        expected = noise.autocorrelation[lag]
        assert _autocorrelation(draws, lag) == pytest.approx(expected, abs=0.03)
    assert abs(draws.mean()) < 0.02 * draws.std()
    with pytest.raises(InputError, match="knows 41 lags, 42 were asked for"):
        noise.sample(1, 42, np.random.default_rng(0))


@pytest.fixture(scope="module")
def baseline(info: mne.Info) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Average-referenced AR(2) noise with its covariance and autocorrelation."""
    rng = np.random.default_rng(4)
    n, length = len(info.ch_names), 220
    mixing = np.eye(n) + 0.3 * rng.standard_normal((n, n))
    reference = np.eye(n) - 1 / n
    white = rng.standard_normal((150, n, length + 200))
    coloured = signal.lfilter([1.0], [1.0, -0.9, 0.5], white, axis=-1)[..., 200:]
    rho = [1.0, 0.9 / 1.5]
    while len(rho) < 41:
        rho.append(0.9 * rho[-1] - 0.5 * rho[-2])
    scale = 1e-12 * 1.5 / ((1 - 0.5) * (1.5**2 - 0.9**2))  # of one AR(2) process
    covariance = scale * reference @ mixing @ mixing.T @ reference
    return 1e-6 * (reference @ mixing @ coloured), covariance, np.array(rho)


def test_noise_from_baseline_recovers_covariance_and_colour(
    baseline: tuple[np.ndarray, np.ndarray, np.ndarray], info: mne.Info
) -> None:
    data, covariance, rho = baseline
    noise = noise_from_baseline(data, info, 1, 41)
    assert _relative(noise.spatial, covariance) < 0.05
    np.testing.assert_allclose(noise.autocorrelation, rho, atol=0.03)
    # The spectrum of what is drawn, against the closed form of an AR(2) process.
    draws = noise.sample(2000, 41, np.random.default_rng(1)).astype(float)
    for lag in (1, 2, 3, 5, 8):
        assert _autocorrelation(draws, lag) == pytest.approx(rho[lag], abs=0.05)
    np.testing.assert_allclose(noise.spatial.sum(axis=0), 0.0, atol=1e-20)


def test_averaging_divides_the_noise(
    baseline: tuple[np.ndarray, np.ndarray, np.ndarray], info: mne.Info
) -> None:
    one, ten = (noise_from_baseline(baseline[0], info, n, 41) for n in (1, 10))
    np.testing.assert_allclose(ten.spatial, one.spatial / 10, rtol=1e-12, atol=0)
    np.testing.assert_array_equal(ten.autocorrelation, one.autocorrelation)


def test_noise_of_an_average_of_many_epochs(head: Head, info: mne.Info) -> None:
    """End to end: the covariance of the noise is that of the average's own scatter."""
    rng = np.random.default_rng(7)
    n_trials, protocol = 80, EvokedProtocol(reject=None)
    data = 5e-6 * rng.standard_normal((len(info.ch_names), 250 * (n_trials + 1)))
    raw = mne.io.RawArray(data, _plain(info, 250.0), verbose="error")
    raw.set_annotations(mne.Annotations(np.arange(n_trials) + 0.7, 0.0, "go"))
    observation = observe(raw, protocol, events="go", head=head)
    after = observation.data.values[0]
    residual = after - after.mean(axis=1, keepdims=True)
    expected = np.trace(observation.noise.spatial)
    assert (residual**2).mean(axis=1).sum() == pytest.approx(expected, rel=0.25)
    given = observe(
        raw, protocol, events="go", head=head,
        noise_cov=mne.make_ad_hoc_cov(raw.info, {"eeg": 5e-6}, verbose="error"),
    )  # fmt: skip
    n = len(info.ch_names)
    wanted = (5e-6) ** 2 * (np.eye(n) - 1 / n) / n_trials
    np.testing.assert_allclose(given.noise.spatial, wanted, atol=1e-18)


def test_noise_is_fresh_in_each_epoch_and_the_same_in_the_same(view: View) -> None:
    clean = view.clean()
    zero, again, one = (view.sensors(epoch) - clean for epoch in (0, 0, 1))
    np.testing.assert_array_equal(zero, again)
    assert abs(np.corrcoef(zero.ravel(), one.ravel())[0, 1]) < 0.03
    runs = zero.reshape(len(zero), -1)
    correlation = np.corrcoef(runs)[np.triu_indices(len(runs), 1)]
    assert np.abs(correlation).max() < 0.5  # no two runs share their noise
    assert zero.std() > 0


def test_noise_of_streams_and_seeds_is_independent(
    observer: Observer, campaign: Campaign, head: Head, noise: Noise, info: mne.Info
) -> None:
    part = campaign.select(slice(0, 60))
    other_seed = Observer(head, noise, observer.protocol, info, seed=4)
    views = [observer.view(part), observer.view(part, "calibration"), other_seed.view(part)]
    noises = [(v.sensors() - v.clean()).ravel() for v in views]
    assert np.abs(np.corrcoef(noises)[np.triu_indices(3, 1)]).max() < 0.05


def test_realised_noise_has_the_level_asked_for(view: View, noise: Noise) -> None:
    residual = (view.sensors() - view.clean()).astype(float)
    covariance = np.einsum("nwct,nwdt->cd", residual, residual)
    covariance /= residual.shape[0] * residual.shape[1] * residual.shape[3]
    assert _relative(covariance, noise.spatial) < 0.1


@pytest.mark.parametrize("positions", [[5], [0, 2, 4], [2, 1, 0]])
def test_a_selection_keeps_the_clean_signals_of_its_runs(
    observer: Observer, campaign: Campaign, view: View, positions: list[int]
) -> None:
    expected = view.clean()[positions]
    np.testing.assert_array_equal(view.select(np.array(positions)).clean(), expected)
    fresh = observer.view(campaign).select(np.array(positions)).clean()
    np.testing.assert_allclose(fresh, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


# Ongoing activity


@pytest.fixture(scope="module")
def spontaneous(head: Head, info: mne.Info) -> Observer:
    protocol = SpontaneousProtocol()
    noise = noise_from_level(info, 1e-6, 200, protocol.sfreq, (0.5, 40.0))
    return Observer(head, noise, protocol, info)


@pytest.mark.parametrize("frequency", [4.0, 10.0, 10.25, 33.0])
def test_spectrum_has_its_power_in_the_right_place(spontaneous: Observer, frequency: float) -> None:
    t = np.arange(200) / 100
    phases = np.array([0.1, 1.4, 2.9, 4.0])[:, None]
    courses = 3.0 * np.sin(2 * np.pi * frequency * t + phases)
    spectrum = spontaneous._spectrum(courses[None])[0]
    grid = spontaneous.protocol.frequencies
    assert len(spectrum) == spontaneous.protocol.n_steps
    assert abs(grid[spectrum.argmax()] - frequency) <= 0.25
    # Parseval: the integral of the density is the variance.
    assert spectrum.sum() * 0.5 == pytest.approx(3.0**2 / 2, rel=0.01)


def test_spectrum_of_white_noise_is_flat_and_absolute(spontaneous: Observer) -> None:
    courses = 2.0 * np.random.default_rng(0).standard_normal((800, 4, 200))
    spectrum = spontaneous._spectrum(courses).mean(axis=0)
    np.testing.assert_allclose(spectrum[2:], 2.0**2 / 50, rtol=0.08)  # variance over Nyquist


def _oscillation(head: Head, protocol: SpontaneousProtocol, region: str) -> Campaign:
    task = build_task(Study.spontaneous(), head.regions, stream="training")
    times = task.clock.sample_times
    potential = np.zeros((1, 68, len(times)), np.float32)
    focus = head.regions.index(region)
    potential[0, focus] = np.sin(2 * np.pi * 10.0 * (times - times[0]))
    theta = task.prior.sample(1, seed=0)
    theta.loc[{"parameter": "source_scale"}] = 40.0
    return Campaign(
        xr.Dataset(
            {
                "theta": theta,
                "potential": (("simulation", "region", "time"), potential),
                "focus": ("simulation", np.array([focus], np.int16)),
                "status": ("simulation", np.array([OK], np.int8)),
            },
            coords=task.coords,
        )
    )


@pytest.mark.parametrize("sfreq", [128.0, 250.0, 512.0])
def test_recorded_and_simulated_oscillations_have_the_same_spectrum(
    head: Head, info: mne.Info, spontaneous: Observer, sfreq: float
) -> None:
    region = "precuneus-lh"
    protocol = SpontaneousProtocol(region=region)
    t = np.arange(0, 30, 1 / sfreq)
    topography = 40.0 * head.leadfield.sel(region=region).values
    data = topography[:, None] * np.sin(2 * np.pi * 10.0 * t)
    data += 1e-10 * np.random.default_rng(0).standard_normal(data.shape)
    raw = mne.io.RawArray(data, _plain(info, sfreq), verbose="error")
    observation = observe(raw, protocol, head=head)
    assert observation.data.shape == (4, 32, 200)
    observer = Observer(head, spontaneous.noise, protocol, spontaneous.info)
    recorded = observer.sequences(observation).values[0]
    view = observer.view(_oscillation(head, protocol, region))
    simulated = observer.reduce(view.clean()).values[0]
    assert protocol.frequencies[recorded.argmax()] == 10.0
    assert protocol.frequencies[simulated.argmax()] == 10.0
    assert recorded.sum() == pytest.approx(simulated.sum(), rel=0.02)
    assert _relative(recorded, simulated) < 0.02
    # The amplitude of the region's own course, in nAm.
    amplitude = observer._course[head.regions.index(region)] @ (topography - topography.mean())
    assert recorded.sum() * 0.5 == pytest.approx(amplitude**2 / 2, rel=0.02)


def test_short_and_artefactual_recordings_are_refused(head: Head, info: mne.Info) -> None:
    rng = np.random.default_rng(0)
    raw = mne.io.RawArray(
        1e-5 * rng.standard_normal((32, 128 * 6)), _plain(info, 128.0), verbose="error"
    )
    with pytest.raises(InputError, match=r"lasts 6\.0 s, the protocol needs 8 s"):
        observe(raw, SpontaneousProtocol(), head=head)
    loud = mne.io.RawArray(
        4e-4 * rng.standard_normal((32, 128 * 12)), _plain(info, 128.0), verbose="error"
    )
    with pytest.raises(InputError, match=r"none of the \d+ windows is usable: \d+ are beyond"):
        observe(loud, SpontaneousProtocol(), head=head)
    average = mne.EvokedArray(np.ones((32, 300)), _plain(info, 128.0), verbose="error")
    with pytest.raises(InputError):
        observe(average, SpontaneousProtocol(), head=head)


# Channels and events


def _noisy(names: list[str], kinds: list[str] | str = "eeg", sfreq: float = 128.0) -> mne.io.Raw:
    data = 1e-5 * np.random.default_rng(0).standard_normal((len(names), round(24 * sfreq)))
    raw = mne.io.RawArray(data, mne.create_info(names, sfreq, kinds, verbose="error"))
    return raw.set_annotations(mne.Annotations(np.arange(1, 22), 0.0, "go"), verbose="error")


def test_channels_are_left_out_by_name_and_said(
    head: Head, info: mne.Info, caplog: pytest.LogCaptureFixture
) -> None:
    names = [*info["ch_names"], "EOG1", "Trigger", "Q99"]
    raw = _noisy(names)
    raw._data[names.index("Fz")] = 1e-6  # flat
    raw._data[names.index("O1"), 100:2000] = np.nan
    raw.info["bads"] = ["C3"]
    with caplog.at_level(logging.INFO, "nmm_infer"):
        observation = observe(raw, EvokedProtocol(), events="go", head=head)
    left_out = {"EOG1", "Trigger", "Q99", "Fz", "O1", "C3"}
    assert set(names) - set(observation.info["ch_names"]) == left_out
    assert {n for n, used in zip(names, observation.mask, strict=True) if not used} == left_out
    text = " ".join(observation.notes)
    for name, why in (
        ("EOG1, Trigger", "not EEG"),
        ("Fz", "flat"),
        ("O1", "NaN or infinite"),
        ("C3", "marked bad"),
        ("Q99", "no position"),
    ):
        assert any(f"Left out {name}: " in note and why in note for note in observation.notes), text
    warned = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    for name in ("Fz", "O1", "Q99"):
        assert any(f"Left out {name}:" in message for message in warned)
    assert np.isfinite(observation.data.values).all()
    assert observation.head.channels == observation.info["ch_names"]
    assert list(observation.data.coords["channel"].values) == observation.head.channels


def test_types_other_than_eeg_are_not_used(head: Head, info: mne.Info) -> None:
    names = [*info["ch_names"], "HEOG", "Aux"]
    raw = _noisy(names, ["eeg"] * 32 + ["eog", "misc"])
    observation = observe(raw, EvokedProtocol(), events="go", head=head)
    assert observation.info["ch_names"] == info["ch_names"]


@pytest.mark.parametrize(
    ("names", "why"),
    [
        ([f"X{k}" for k in range(20)], "only 0 usable EEG"),
        (["Fz", "Cz", "Pz", "Oz", "C3", "C4", "O1"], "only 7 usable EEG.*at least 8"),
    ],
)
def test_too_few_channels(names: list[str], why: str) -> None:
    with pytest.raises(InputError, match=why):
        observe(_noisy(names), EvokedProtocol(), events="go")


def test_no_eeg_at_all() -> None:
    with pytest.raises(InputError, match="no EEG channel"):
        observe(_noisy(["Fz", "Cz"], "misc"), EvokedProtocol(), events="go")


def test_unknown_events_list_those_present(head: Head, info: mne.Info) -> None:
    raw = _noisy(info["ch_names"])
    with pytest.raises(InputError, match=r"no event 'went' in the recording; present: go \(21\)"):
        observe(raw, EvokedProtocol(), events="went", head=head)
    with pytest.raises(InputError, match="needs the name of the events"):
        observe(raw, EvokedProtocol(), head=head)
    raw.set_annotations(None)
    with pytest.raises(InputError, match="present: none at all"):
        observe(raw, EvokedProtocol(), events="went", head=head)


def test_a_stimulus_channel_is_an_event_source(head: Head, info: mne.Info) -> None:
    raw = _noisy([*info["ch_names"], "STI 014"], ["eeg"] * 32 + ["stim"])
    raw.set_annotations(None)
    raw._data[-1] = 0
    raw._data[-1, 128 * np.arange(1, 20)] = 7
    observation = observe(raw, EvokedProtocol(), events="7", head=head)
    assert observation.n_averages == 19


def test_rejected_epochs_are_said(head: Head, info: mne.Info) -> None:
    raw = _noisy(info["ch_names"])
    clean = observe(raw, EvokedProtocol(), events="go", head=head)
    assert clean.n_averages == 21
    raw._data[4, 5 * 128 : 5 * 128 + 6] += 1e-3  # one large artefact
    observation = observe(raw, EvokedProtocol(), events="go", head=head)
    assert observation.n_averages == 20
    assert any("Averaged 20 of 21" in n and "1 by Fz" in n for n in observation.notes)
    with pytest.raises(InputError, match="none of the 21 epochs"):
        observe(raw, EvokedProtocol(reject=0.01), events="go", head=head)


def test_epochs_that_are_too_short(head: Head, info: mne.Info) -> None:
    raw = _noisy(info["ch_names"])
    events, event_id = mne.events_from_annotations(raw, verbose="error")

    def cut(tmin: float, tmax: float) -> mne.Epochs:
        return mne.Epochs(
            raw, events, event_id, tmin, tmax, baseline=None, preload=True, verbose="error"
        )

    with pytest.raises(InputError, match=r"the epochs span .* the protocol needs"):
        observe(cut(-0.2, 0.2), EvokedProtocol(), head=head)
    with pytest.raises(InputError, match=r"the epochs span .* the protocol needs"):
        observe(cut(-0.05, 0.4), EvokedProtocol(), head=head)
    with pytest.raises(InputError, match="longer baseline"):
        observe(cut(-0.02, 0.4), EvokedProtocol(tmin=-0.01), head=head)
    with pytest.raises(InputError, match="shorter than the window"):
        observe(cut(-0.5, 0.5), SpontaneousProtocol(), head=head)


def test_a_pass_band_beyond_nyquist(head: Head, info: mne.Info) -> None:
    raw = _noisy(info["ch_names"], sfreq=50.0)
    with pytest.raises(InputError, match=r"h_freq is 30\.0 Hz.*sampled at 50 Hz.*below 25 Hz"):
        observe(raw, EvokedProtocol(), events="go", head=head)


def test_filters_of_an_earlier_processing_reach_the_simulations(info: mne.Info, head: Head) -> None:
    """A recording that was filtered more narrowly gives its own pass band to the observer."""
    rng = np.random.default_rng(0)
    data = 1e-5 * rng.standard_normal((len(info["ch_names"]), 128 * 30))
    raw = mne.io.RawArray(data, mne.create_info(info["ch_names"], 128.0, "eeg"), verbose="error")
    raw.set_annotations(mne.Annotations(np.arange(2.0, 27.0), 0.0, "go"))
    raw.filter(2.0, 20.0, verbose="error")
    observation = observe(raw, EvokedProtocol(), events="go", head=head)
    assert observation.band == (2.0, 20.0)

"""Features against curves and spectra whose features are known in closed form."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import signal

from nmm_infer.errors import InputError
from nmm_infer.features import (
    EVOKED,
    FEATURES,
    SPECTRUM,
    coherence,
    correlation,
    describe,
    evoked_features,
    power_spectrum,
    spectrum_features,
)

TIMES = np.arange(-0.1, 0.6, 0.002)


def bump(latency: float, width: float, times: np.ndarray = TIMES) -> np.ndarray:
    return np.exp(-0.5 * ((times - latency) / width) ** 2)


def of(features, name: str) -> np.ndarray:
    return features.sel(feature=name).values


def test_two_bumps() -> None:
    # Far enough apart that neither moves the other: closed forms of a Gaussian.
    x = 2.0 * bump(0.1, 0.015) - 3.0 * bump(0.3, 0.03) + 7.0
    f = evoked_features(x[None], TIMES)
    # A parabola over 20 ms flattens a bump of width w by about (h^2 / w^2) / 40 of its height, with
    # h = 10 ms half window: 1 % and .3 %. Latencies are between samples of 2 ms.
    assert of(f, "positive_peak") == pytest.approx(2.0, rel=0.02)
    assert of(f, "negative_peak") == pytest.approx(-3.0, rel=0.01)
    assert of(f, "peak") == pytest.approx(-3.0, rel=0.01)
    assert of(f, "positive_peak_latency") == pytest.approx(0.1, abs=2e-4)
    assert of(f, "peak_latency") == pytest.approx(0.3, abs=2e-4)
    assert of(f, "first_peak") == pytest.approx(2.0, rel=0.02)
    assert of(f, "first_peak_latency") == pytest.approx(0.1, abs=2e-4)
    # Full width at half maximum: 2 sqrt(2 ln 2) w; the smoothing adds less than 2 %.
    assert of(f, "half_width") == pytest.approx(2.3548 * 0.03, rel=0.02)
    # Half of 3 on the first flank, of height 2: where exp(-d^2/2w^2) = .75.
    assert of(f, "onset_latency") == pytest.approx(
        0.1 - 0.015 * np.sqrt(2 * np.log(4 / 3)), abs=1e-3
    )
    root = np.sqrt(2 * np.pi)
    window = TIMES[-1]
    assert of(f, "area") == pytest.approx(root * (2 * 0.015 + 3 * 0.03), rel=1e-3)
    assert of(f, "mean") == pytest.approx(root * (2 * 0.015 - 3 * 0.03) / window, rel=0.01)
    power = np.sqrt(np.pi) * np.array([4 * 0.015, 9 * 0.03])
    assert of(f, "rms") == pytest.approx(np.sqrt(power.sum() / window), rel=0.01)
    assert of(f, "centroid_latency") == pytest.approx(power @ [0.1, 0.3] / power.sum(), rel=1e-3)


def test_a_peak_between_samples_of_ten_milliseconds() -> None:
    times = np.arange(-0.1, 0.5, 0.01)
    x = bump(0.1237, 0.04, times)
    f = evoked_features(x[None], times)
    # The parabola's error is of order (step / width)^2 of a quarter of a step.
    assert of(f, "peak_latency") == pytest.approx(0.1237, abs=3e-4)
    assert of(f, "peak") == pytest.approx(1.0 - x[:11].mean(), abs=5e-4)


def test_latencies_resist_noise() -> None:
    # A tenth of the peak, white at 500 Hz: the raw maximum of a 30 ms bump wanders by about 10 ms.
    rng = np.random.default_rng(0)
    x = bump(0.2, 0.03) + 0.1 * rng.standard_normal((200, len(TIMES)))
    f = evoked_features(x, TIMES)
    raw = np.abs(TIMES[x.argmax(axis=1)] - 0.2).mean()
    assert np.abs(of(f, "peak_latency") - 0.2).mean() < 0.8 * raw


def test_finite_input_gives_finite_features() -> None:
    rng = np.random.default_rng(1)
    cases = [np.zeros(60), np.ones(60), np.eye(60)[59], np.arange(60.0), -np.eye(60)[10],
             1e30 * rng.standard_normal(60), 1e-30 * rng.standard_normal(60)]  # fmt: skip
    times = np.arange(-10, 50) / 100
    f = evoked_features(np.stack(cases), times)
    assert np.isfinite(f.values).all()
    assert (f.sel(feature=["peak", "area", "half_width", "rms"]).values[:2] == 0).all()
    assert (of(f, "peak_latency")[:2] == times[11]).all()
    grid = np.arange(0, 50, 0.5)
    spectra = np.stack([np.zeros(100), np.ones(100), np.eye(100)[3], np.eye(100)[99] * 1e30])
    assert np.isfinite(spectrum_features(spectra, grid).values).all()
    assert np.isfinite(spectrum_features(np.ones((1, 3)), [20.0, 21.0, 22.0]).values).all()


def test_power_law_with_an_alpha_peak() -> None:
    grid = np.arange(0.5, 45.5, 0.5)
    line = 10 ** (1.2 - 1.7 * np.log10(grid))
    power = line * (1 + 9 * np.exp(-0.5 * ((grid - 10.3) / 0.8) ** 2))
    f = spectrum_features(power[None], grid)
    # Outside of 7 to 14 Hz the peak is below 3e-4 of the line.
    assert of(f, "aperiodic_slope") == pytest.approx(-1.7, abs=1e-3)
    assert of(f, "aperiodic_offset") == pytest.approx(1.2, abs=1e-3)
    assert of(f, "alpha_peak_frequency") == pytest.approx(10.3, abs=0.05)
    assert of(f, "alpha_peak_power") == pytest.approx(1.0, abs=0.02)
    inside = (grid >= 8) & (grid < 13)
    assert of(f, "band_power_alpha") == pytest.approx(power[inside].sum() * 0.5)
    shares = [of(f, f"relative_power_{b}") for b in ("delta", "theta", "alpha", "beta", "gamma")]
    assert np.sum(shares) == pytest.approx(1.0)


def test_a_peak_elsewhere_hardly_moves_the_slope() -> None:
    grid = np.arange(1.0, 45.0, 0.5)
    line = -1.0 * np.log10(grid)
    peak = 1.0 * np.exp(-0.5 * ((grid - 20) / 1.0) ** 2)
    fitted = (grid >= 2) & (grid <= 40) & ((grid < 7) | (grid > 14))
    plain = np.polyfit(np.log10(grid[fitted]), (line + peak)[fitted], 1)[0]
    robust = of(spectrum_features(10 ** (line + peak)[None], grid), "aperiodic_slope")[0]
    assert abs(robust + 1.0) < 0.25 * abs(plain + 1.0)


def test_welch_holds_the_variance() -> None:
    x = np.random.default_rng(2).standard_normal((4, 20_000)) * 3.0
    power, grid = power_spectrum(x, 200.0)
    # Parseval: the integral of the density is the variance, 9; 20,000 samples tell it to 1 %.
    assert power.sum(axis=1) * (grid[1] - grid[0]) == pytest.approx(9.0, rel=0.03)


def test_coherence_of_a_mixture() -> None:
    # y = x + noise of equal power: coherence 1/sqrt(2), without an imaginary part.
    rng = np.random.default_rng(3)
    x = rng.standard_normal(100_000)
    y = x + rng.standard_normal(len(x))
    late = np.roll(x, 5)
    values = np.stack([x, y, late])[None]
    assert correlation(values).values[0, 0, 1] == pytest.approx(np.sqrt(0.5), abs=0.01)
    found = coherence(values, 200.0, (8, 13), ["x", "y", "late"])
    # 1,000 windows: standard errors of about .02.
    assert found.sel(channel="x", other="y").item() == pytest.approx(np.sqrt(0.5), abs=0.05)
    imaginary = coherence(values, 200.0, (8, 13), imaginary=True)[0]
    assert imaginary.values[0, 1] < 0.06
    # A delay of 25 ms turns the phase by 2 pi f tau: its sine, averaged over the band.
    grid = np.arange(8, 13.5, 0.5)
    expected = np.abs(np.sin(2 * np.pi * grid * 0.025)).mean()
    assert imaginary.values[0, 2] == pytest.approx(expected, abs=0.05)
    frequencies, reference = signal.coherence(x, y, 200.0, nperseg=400)
    inside = (frequencies >= 8) & (frequencies <= 13)
    assert found.values[0, 0, 1] == pytest.approx(np.sqrt(reference[inside]).mean(), abs=1e-6)


def test_describe_follows_names() -> None:
    rng = np.random.default_rng(4)
    values = rng.standard_normal((5, 3, 600))
    times = np.arange(600) / 250 - 0.2
    names = ["aperiodic_slope", "peak", "correlation:b:c", "correlation", "coherence_alpha"]
    focus = np.array([0, 1, 2, 1, 0])
    f = describe(values, times, names, focus=focus, channels=list("abc"))
    assert f.dims == ("simulation", "feature")
    assert f["feature"].values.tolist() == names
    assert f["unit"].values.tolist() == ["1", "mV", "1", "1", "1"]
    own = values[np.arange(5), focus]
    np.testing.assert_allclose(of(f, "peak"), of(evoked_features(own, times), "peak"))
    exact = [np.corrcoef(v)[1, 2] for v in values]
    np.testing.assert_allclose(of(f, "correlation:b:c"), exact)
    back = describe(values, times, names[::-1], focus=focus, channels=list("abc"))
    np.testing.assert_array_equal(back.values, f.values[:, ::-1])


def test_every_feature_has_unit_and_meaning() -> None:
    assert set(EVOKED) | set(SPECTRUM) < set(FEATURES)
    assert all(f.unit and f.meaning for f in FEATURES.values())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: evoked_features(np.ones((2, 5)), np.arange(4)), "one of the times a step"),
        (lambda: evoked_features(np.ones((2, 5)), np.arange(5)[::-1]), "must increase"),
        (lambda: evoked_features(np.ones((2, 5)), np.arange(5), ["pek"]), "no feature 'pek'"),
        (lambda: spectrum_features(-np.ones((1, 5)), np.arange(5)), "not be negative"),
        (lambda: describe(np.ones((2, 50))), "needs times or sfreq"),
        (lambda: describe(np.ones((2, 50)), sfreq=10.0, names=["pek"]), "no feature 'pek'"),
        (lambda: describe(np.ones((2, 50)), sfreq=10.0, names=["correlation"]), "two channels"),
        (lambda: correlation(np.ones((2, 50))), "two channels"),
        (lambda: coherence(np.ones((1, 2, 50)), 100.0, (8.5, 9)), "no frequency"),
    ],
)
def test_refusals(call, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


def test_features_of_what_is_not_finite_are_not() -> None:
    times = np.arange(-0.1, 0.5, 0.01)
    x = np.exp(-0.5 * ((times - 0.12) / 0.03) ** 2) * np.ones((3, 1))
    x[1, 30] = np.nan
    found = evoked_features(x, times)
    assert np.isnan(found[1]).all()
    np.testing.assert_array_equal(found[[0, 2]], evoked_features(x[[0, 2]], times))

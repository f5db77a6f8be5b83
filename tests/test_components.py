"""Whitened components, and noise whose kind and level differ from run to run."""

from __future__ import annotations

import dataclasses
import warnings

import mne
import numpy as np
import pytest
import xarray as xr
from scipy import stats

from nmm_infer.anatomy import Head, patch_head, template_head
from nmm_infer.anatomy.sensors import interpolation, reference
from nmm_infer.campaign import Campaign, run
from nmm_infer.errors import InputError
from nmm_infer.inference import FAMILIES
from nmm_infer.observation import (
    BrainBackground,
    EvokedProtocol,
    Noise,
    NoiseKind,
    NoiseLevels,
    Observation,
    Observer,
    SpontaneousProtocol,
    levels_for,
    noise_from_level,
    power_law_noise,
    white_noise,
)
from nmm_infer.observation.components import spatial_components
from nmm_infer.runs import build_task, column_observer
from nmm_infer.study import Study

REGION = "caudalmiddlefrontal-lh"
PROTOCOL = EvokedProtocol(
    tmin=-0.2, tmax=0.6, h_freq=40.0, l_freq=0.0, region=REGION, components=1, demean=True
)


@pytest.fixture(scope="module")
def patch(head: Head) -> Head:
    return patch_head(head, REGION, 12.0)


@pytest.fixture(scope="module")
def columns() -> Campaign:
    study = Study.preset("column5_narrow").replace(protocol=PROTOCOL.model_dump())
    task = build_task(study, [], stream="training")
    campaign = run(task, task.prior.sample(700, seed=0))
    return campaign.select(campaign.valid[:300])


def _kinds(info: mne.Info) -> dict[str, NoiseKind]:
    n, to = PROTOCOL.n_steps, reference(info)
    return {
        "white": NoiseKind(white_noise(info, 1e-6, n).through(to)),
        "pink": NoiseKind(power_law_noise(info, 1e-6, n, 100.0, (0.5, 50.0)).through(to)),
        "jitter": NoiseKind(white_noise(info, 1e-6, n).through(to), jitter=0.02, trials=30),
    }


def test_a_patch_is_the_cortex_near_the_middle_of_a_region(head: Head, patch: Head) -> None:
    rows = patch.members[REGION]
    places = 1000 * head.sources.positions[rows]
    middle = 1000 * head.sources.positions[head.members[REGION]].mean(axis=0)
    assert 3 <= len(rows) < len(head.members[REGION])
    assert np.linalg.norm(places - middle, axis=1).max() < 24 + 6
    np.testing.assert_allclose(
        patch.leadfield.values[:, 0],
        np.average(head.gain.values[:, rows], weights=head.sources.sizes[rows], axis=1),
        rtol=1e-9,
    )
    assert patch_head(head, REGION).leadfield.values == pytest.approx(
        head.leadfield.sel(region=[REGION]).values
    )
    with pytest.raises(InputError, match="no region 'nose'"):
        patch_head(head, "nose")


def test_components_whiten_and_keep_all_information() -> None:
    """P C P' = I, and |P L| is what the generalised inverse of the noise makes of L."""
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((8, 8))
    mixing -= mixing.mean(axis=0)  # an average reference: rank 7
    covariance = mixing @ mixing.T
    leadfield = rng.standard_normal((8, 3))
    leadfield -= leadfield.mean(axis=0)
    names = tuple("abcdefgh")
    operator = spatial_components(leadfield, covariance, names, 3)
    np.testing.assert_allclose(operator.covariance(covariance), np.eye(3), atol=1e-9)
    seen = operator.matrix @ leadfield
    expected = leadfield.T @ np.linalg.pinv(covariance, rcond=1e-9) @ leadfield
    np.testing.assert_allclose(seen.T @ seen, expected, rtol=1e-8)
    one = spatial_components(leadfield[:, :1], covariance, names, 1)
    assert (one.matrix @ leadfield[:, 0])[0] > 0
    with pytest.raises(InputError, match=r"2 are asked for, but .* has 1"):
        spatial_components(leadfield[:, :1], covariance, names, 2)


def test_a_view_is_the_matched_filter_of_its_sensors(
    patch: Head, info: mne.Info, columns: Campaign
) -> None:
    noise = _kinds(info)["pink"].noise
    observer = Observer(patch, noise, PROTOCOL, info, seed=1)
    view = observer.view(columns)
    sensors = view.clean()[:, 0].astype(float)
    sensors -= sensors[..., PROTOCOL.in_baseline].mean(axis=-1, keepdims=True)
    sensors -= sensors.mean(axis=-1, keepdims=True)
    leadfield = observer.operator(patch.leadfield).values[:, 0]
    filtered = np.linalg.pinv(noise.spatial, rcond=1e-9) @ leadfield
    filtered /= np.sqrt(leadfield @ filtered)
    expected = np.einsum("c,nct->nt", filtered, sensors)
    got = view.clean_sequences().values
    assert got.shape == (300, 81, 1)
    scale = np.abs(expected).max(axis=1, keepdims=True)
    np.testing.assert_allclose(got[..., 0] / scale, expected / scale, atol=2e-4)


def test_noise_has_unit_variance_and_its_colour(
    patch: Head, info: mne.Info, columns: Campaign
) -> None:
    observer = Observer(patch, _kinds(info)["pink"].noise, PROTOCOL, info, seed=1)
    view = observer.view(columns)
    epochs = [(view.sequences(e).values - view.clean_sequences(e).values)[..., 0]
              for e in range(10)]  # fmt: skip
    residual = np.concatenate(epochs)
    level = observer.level(np.eye(81)).T
    from scipy.linalg import toeplitz

    expected = level @ toeplitz(observer.noise.autocorrelation[:81]) @ level.T
    # 3,000 windows: an entry of the covariance is known to some 1/sqrt(3000).
    np.testing.assert_allclose(np.cov(residual.T), expected, atol=0.1)
    assert (epochs[0] != epochs[1]).all()
    again = observer.view(columns).sequences(3).values
    np.testing.assert_array_equal(again, view.sequences(3).values)


def test_levels_have_the_ratio_that_they_name(
    patch: Head, info: mne.Info, columns: Campaign
) -> None:
    """Mean power of the sensors over that of the noise, by a draw of each."""
    kinds = _kinds(info)
    plain = Observer(patch, kinds["white"].noise, PROTOCOL, info)
    power = float(np.square(plain.view(columns).clean(), dtype=float).mean())
    levels = levels_for(kinds, power, (-10.0, 20.0), PROTOCOL.n_steps)
    for snr in levels.snrs:
        for name, kind in kinds.items():
            noise = levels.levels[snr][name] * kind.noise.sample(
                200, PROTOCOL.n_steps, np.random.default_rng(0)
            )
            got = 10 * np.log10(power / np.square(noise, dtype=float).mean())
            assert got == pytest.approx(snr, abs=0.3)  # 200 windows, of 1/f in one case


def test_conditions_are_drawn_told_and_used(patch: Head, info: mne.Info, columns: Campaign) -> None:
    levels = levels_for(_kinds(info), 1e-14, (-20.0, 0.0, 20.0), PROTOCOL.n_steps)
    told = tuple(f"level={snr:g}" for snr in levels.snrs)
    assert levels.context_names == ("snr", "kind=white", "kind=pink", "kind=jitter", *told)
    observer = Observer(patch, levels, PROTOCOL, info, seed=2)
    assert observer.context_names == levels.context_names
    view = observer.view(columns)
    kind, level = view.conditions(0)
    counts = np.bincount(3 * kind + level, minlength=9)
    assert stats.chisquare(counts).pvalue > 1e-3
    assert (view.conditions(1)[0] != kind).any()
    sequences = view.sequences(0)
    assert sequences.flat.shape == (300, 81 + 7)
    np.testing.assert_allclose(sequences.context[:, 0], (levels.snrs[level] - 0.0) / 20)
    np.testing.assert_array_equal(sequences.context[:, 1:4].argmax(axis=1), kind)
    np.testing.assert_array_equal(sequences.context[:, 4:].argmax(axis=1), level)
    np.testing.assert_array_equal(sequences.context[:, 1:].sum(axis=1), 2.0)
    clean = view.clean_sequences(0).values[..., 0]
    base = Observer(patch, levels.kinds["white"].noise, PROTOCOL, info).view(columns)
    unit = base.clean_sequences().values[..., 0]
    for k, snr in enumerate(levels.snrs):
        rows = (kind == 0) & (level == k)
        np.testing.assert_allclose(
            clean[rows] * levels.levels[snr]["white"], unit[rows], rtol=1e-4,
            atol=1e-5 * np.abs(unit[rows]).max(),
        )  # fmt: skip
    one = Observer(patch, levels.only("pink", 20.0), PROTOCOL, info, seed=2)
    kind, level = one.view(columns).conditions(0)
    assert (kind == 1).all() and (level == 2).all()
    assert one.context_names == observer.context_names
    with pytest.raises(InputError, match="no kind of noise 'brown'"):
        levels.only("brown")
    with pytest.raises(InputError, match="no level of 7 dB"):
        levels.only(snr=7.0)


def test_jitter_blurs_like_a_convolution() -> None:
    """A Gaussian pulse whose trials come early or late is a wider Gaussian."""
    times = np.arange(-60, 61) / 100.0
    kind = NoiseKind(None, jitter=0.04, trials=20_000)
    signal = np.exp(-0.5 * (times / 0.05) ** 2)[None, None].astype(np.float32)
    got = kind.blur(signal, 100.0, np.random.default_rng(0))[0, 0]
    wide = np.hypot(0.05, 0.04)
    expected = 0.05 / wide * np.exp(-0.5 * (times / wide) ** 2)
    np.testing.assert_allclose(got, expected, atol=4 / np.sqrt(20_000))
    assert NoiseKind(None).blur(signal, 100.0, np.random.default_rng(0)) is signal


def test_background_of_the_brain_is_whitened_by_its_own_covariance(
    patch: Head, head: Head, info: mne.Info
) -> None:
    import xarray as xr

    rng = np.random.default_rng(0)
    signals = xr.DataArray(
        rng.standard_normal((40, len(head.regions), 300)), dims=("run", "region", "time"),
        coords={"region": head.regions},
    )  # fmt: skip
    leadfield = reference(info)(head.leadfield)
    noise = BrainBackground(info, leadfield, signals, 100.0)
    levels = NoiseLevels({"brain": NoiseKind(noise)}, {0.0: {"brain": 1.0}})
    observer = Observer(patch, levels, PROTOCOL, info)
    (part,) = observer.channels_to_components
    draw = part.sample(500, 81, np.random.default_rng(1))
    assert draw.std() == pytest.approx(1.0, rel=0.03)


def test_several_components_of_all_regions(head: Head, info: mne.Info, campaign: Campaign) -> None:
    """Spectra and responses; more regions than sensors, so sensors are made first."""
    noise = noise_from_level(info, 1e-6, 400, 100.0, (0.5, 40.0))
    evoked = EvokedProtocol(components=4)
    view = Observer(head, noise, evoked, info).view(campaign.select(slice(0, 20)))
    assert view.sequences().values.shape == (20, 41, 4)
    assert (view.sequences().region >= 0).all()
    spontaneous = SpontaneousProtocol(components=3, duration=4.0)
    flat = Observer(head, noise, spontaneous, info)
    white = np.random.default_rng(0).standard_normal((5, 2, 3, 200))
    assert flat._compress(white).shape == (5, spontaneous.n_steps, 3)
    # White noise of unit variance has a one-sided density of 2 / sfreq, mean over all bins.
    assert flat._compress(white).mean() == pytest.approx(0.02, rel=0.1)


def _recording(sensors: np.ndarray, head: Head, info: mne.Info, noise: Noise) -> Observation:
    """Return sensors (1, channel, time) as an observation."""
    data = xr.DataArray(
        sensors, dims=("window", "channel", "time"), coords={"channel": list(head.channels)}
    )
    mask = np.ones(len(info.ch_names), bool)
    return Observation(data, head, noise, info, mask, 1, (0.0, 40.0))


def test_a_recording_goes_through_the_same_components(
    patch: Head, info: mne.Info, columns: Campaign
) -> None:
    """Those of training, whatever the noise and the channels' order in the recording are."""
    observer = Observer(patch, _kinds(info)["white"].noise, PROTOCOL, info, seed=4)
    estimator = FAMILIES["ridge"]().fit(columns, observer)
    sensors = observer.view(columns.select(slice(0, 1))).sensors(0)
    matrix = observer.channels_to_components[0].matrix
    expected = observer._compress(observer.level(matrix @ sensors))
    observation = _recording(sensors[0], patch, info, observer.noise)
    for seen in (observer, Observer.like(observation, PROTOCOL)):
        np.testing.assert_allclose(
            seen.sequences(observation).values, expected, rtol=1e-5, atol=1e-4
        )
    # Few samples give a poor covariance, and a whole head's components are not those of a patch.
    order = np.random.default_rng(3).permutation(len(info.ch_names))
    turned = mne.pick_info(info, order)
    names = tuple(turned.ch_names)
    head = template_head(turned)
    few = observer.noise.sample(20, 1, np.random.default_rng(1))[:, order, 0]
    noise = Noise(names, np.cov(few.T), observer.noise.autocorrelation, "20 samples")
    other = _recording(sensors[0][:, order], head, turned, noise)
    np.testing.assert_allclose(estimator.sequences(other).values, expected, rtol=1e-5, atol=1e-4)
    # Three times the noise is told; in both directions.
    for factor in (9.0, 1 / 9):
        strange = dataclasses.replace(noise, spatial=observer.noise.spatial * factor)
        strange = dataclasses.replace(strange, spatial=strange.spatial[np.ix_(order, order)])
        with pytest.warns(UserWarning, match=f"has {factor:.2g} times the variance"):
            estimator.sequences(dataclasses.replace(other, noise=strange))


def test_noise_is_that_of_its_channels_by_name(
    patch: Head, info: mne.Info, columns: Campaign
) -> None:
    """In any order, and with more channels than the head has."""
    loud = np.where(np.arange(len(info.ch_names)) == 3, 25.0, 1.0)
    plain = _kinds(info)["white"].noise
    plain = dataclasses.replace(plain, spatial=plain.spatial * np.sqrt(np.outer(loud, loud)))
    order = np.random.default_rng(4).permutation(len(info.ch_names))
    names = (*(plain.channels[k] for k in order), "EMG")
    spatial = np.zeros((len(names), len(names)))
    spatial[:-1, :-1], spatial[-1, -1] = plain.spatial[np.ix_(order, order)], 1.0
    turned = dataclasses.replace(plain, channels=names, spatial=spatial)
    one, other = (Observer(patch, noise, PROTOCOL, info, seed=4) for noise in (plain, turned))
    for a, b in zip(
        (one.view(columns).sequences().values, one.components.matrix),
        (other.view(columns).sequences().values, other.components.matrix),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-5)
    few = dataclasses.replace(plain, channels=plain.channels[2:], spatial=plain.spatial[2:, 2:])
    with pytest.raises(InputError, match=rf"lacks channel\(s\) {plain.channels[0]}"):
        Observer(patch, few, PROTOCOL, info)
    with pytest.raises(InputError, match="give a Noise or NoiseLevels, not a Covariance"):
        Observer(patch, plain.covariance(), PROTOCOL, info)
    turned = dataclasses.replace(turned, channels=names[:-1], spatial=spatial[:-1, :-1])
    found = []
    for noise in (plain, turned):
        kinds = {"a": NoiseKind(noise), "b": NoiseKind(noise, jitter=0.01)}
        levels = levels_for(kinds, 1e-14, (0.0, 10.0), PROTOCOL.n_steps)
        observer = Observer(patch, levels.only(snr=10.0), PROTOCOL, info, seed=4)
        found.append(observer.view(columns).sequences())
    np.testing.assert_allclose(found[0].values, found[1].values, rtol=1e-4, atol=1e-4)
    assert (found[0].context == found[1].context).all()
    assert len(np.unique(found[1].context, axis=0)) == 2  # two kinds at the chosen level


def test_filters_and_mended_channels_are_told(
    patch: Head, info: mne.Info, columns: Campaign
) -> None:
    observer = Observer(patch, _kinds(info)["white"].noise, PROTOCOL, info)
    estimator = FAMILIES["ridge"]().fit(columns, observer)
    sensors = observer.view(columns.select(slice(0, 1))).sensors(0)
    seen = _recording(sensors[0], patch, info, observer.noise)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        estimator.sequences(seen)
    for band in ((1.0, 40.0), (0.0, 20.0)):
        with pytest.warns(UserWarning, match=r"was filtered to .* the training data to 0 to 40 Hz"):
            estimator.sequences(dataclasses.replace(seen, band=band))
    near = np.argsort(-np.abs(patch.leadfield.values[:, 0]))[0]
    mended = reference(info) @ interpolation(info, [info.ch_names[near]])
    seen = dataclasses.replace(seen, operator=mended)
    with pytest.warns(UserWarning, match="channels of this recording were interpolated"):
        estimator.sequences(seen)
    # Trained as the recording was made, nothing is left to tell.
    study = Study.preset("column5_narrow").replace(protocol=PROTOCOL.model_dump())
    seen = dataclasses.replace(seen, head=template_head(info), band=(0.5, 30.0))
    own = column_observer(study, seen)
    assert (own.band, own.operator, own.head.regions) == (seen.band, mended, [REGION])
    estimator = FAMILIES["ridge"]().fit(columns, own)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        estimator.sequences(seen)


def test_a_recording_is_told_its_kind_and_level(
    patch: Head, info: mne.Info, columns: Campaign
) -> None:
    levels = levels_for(_kinds(info), 1e-14, (0.0, 20.0), PROTOCOL.n_steps)
    observer = Observer(patch, levels, PROTOCOL, info)
    view = observer.view(columns.select(slice(0, 1)))
    kinds = list(levels.kinds)
    estimator = FAMILIES["ridge"]().fit(columns, observer)
    for kind, snr in (("white", 20.0), (kinds[-1], 0.0)):
        factor = levels.levels[snr][kind]
        noise = levels.kinds["white"].noise
        noise = dataclasses.replace(noise, spatial=noise.spatial * factor**2)
        observation = _recording(view.clean()[0], patch, info, noise)
        got = observer.sequences(observation, kind=kind, snr=snr)
        matrix = observer.channels_to_components[kinds.index(kind)].matrix / factor
        expected = observer._compress(observer.level(matrix @ view.clean()))
        np.testing.assert_allclose(got.values, expected, rtol=1e-5, atol=1e-6)
        told = dict(zip(observer.context_names, got.context[0], strict=True))
        assert told[f"level={snr:g}"] == told[f"kind={kind}"] == 1.0
        assert sum(told.values()) == pytest.approx(2.0 + told["snr"])
        assert estimator.posterior(got, n_draws=3).shape[1] == 3
    with pytest.raises(InputError, match=r"must be told: .*white.* and snr= \(0, 20\)"):
        observer.sequences(observation)
    with pytest.raises(InputError, match="no level of 5 dB"):
        observer.sequences(observation, kind="white", snr=5.0)
    with pytest.raises(InputError, match="several kinds or levels of noise"):
        estimator.sequences(observation)
    with pytest.raises(InputError, match=r"ask sequences\(\) of an observation"):
        observer.reduce(view.clean())


def test_levels_need_components(patch: Head, info: mne.Info) -> None:
    levels = levels_for(_kinds(info), 1e-14, (0.0,), PROTOCOL.n_steps)
    with pytest.raises(InputError, match=r"protocol\.components"):
        Observer(patch, levels, PROTOCOL.model_copy(update={"components": None}), info)
    with pytest.raises(InputError, match="no factor above 0 at 5 dB"):
        NoiseLevels(levels.kinds, {5.0: {"white": 1.0}})
    with pytest.raises(InputError, match="jitter of 0 s or more"):
        dataclasses.replace(levels.kinds["white"], jitter=-1.0)

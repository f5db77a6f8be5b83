"""Recordings as people have them: each read as a careful person would, or refused with a reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import mne
import numpy as np
import pytest
from mne.io.constants import FIFF
from recording_files import write_cnt, write_gdf, write_mff, write_set

from nmm_infer.anatomy import Head, place_electrodes, template_head
from nmm_infer.anatomy.derivations import read_derivations
from nmm_infer.errors import InputError
from nmm_infer.inverse import estimate_sources, source_kernel
from nmm_infer.observation import (
    EvokedProtocol,
    Observation,
    Observer,
    SpontaneousProtocol,
    observe,
    read_recording,
    recording_from_array,
    set_montage,
)
from nmm_infer.observation.conditioning import resample_at
from nmm_infer.observation.noise import widening
from nmm_infer.observation.recording.events import matching
from nmm_infer.observation.recording.units import to_si

NAMES = tuple("Fp1 Fp2 F3 F4 C3 C4 P3 P4 O1 O2 F7 F8 T7 T8 P7 P8 Fz Cz Pz".split())  # noqa: SIM905
SFREQ = 250.0
EVOKED = EvokedProtocol()
CHAIN = ["Fp1-F7", "F7-T7", "T7-P7", "P7-O1", "Fp2-F8", "F8-T8", "T8-P8", "P8-O2"]
CHAIN += ["Fp1-F3", "F3-C3", "C3-P3", "P3-O1"]


def _raw(seconds: float = 40.0, names: tuple[str, ...] = NAMES, seed: int = 0) -> mne.io.RawArray:
    """One event a second from 2 s on; a deflection of 20 uV at the ninth channel after 100 ms."""
    rng = np.random.default_rng(seed)
    n = int(seconds * SFREQ)
    data = 5e-6 * rng.standard_normal((len(names), n))
    t = np.arange(int(0.3 * SFREQ)) / SFREQ
    bump = 20e-6 * np.exp(-(((t - 0.1) / 0.02) ** 2))
    onsets = np.arange(2.0, seconds - 2.0)
    for start in (onsets * SFREQ).astype(int):
        data[min(8, len(names) - 1), start : start + len(bump)] += bump
    raw = mne.io.RawArray(data, mne.create_info(list(names), SFREQ, "eeg"), verbose="error")
    raw.set_annotations(mne.Annotations(onsets, 0.0, "stim"), verbose="error")
    return raw


def _epochs(raw: mne.io.BaseRaw, tmin: float = -0.6, tmax: float = 0.6) -> mne.Epochs:
    events, event_id = mne.events_from_annotations(raw, verbose="error")
    return mne.Epochs(
        raw, events, event_id, tmin, tmax, baseline=None, preload=True, verbose="error"
    )


def _seen(recording: mne.io.BaseRaw | mne.BaseEpochs | mne.Evoked, **more: object) -> Observation:
    return observe(recording, EVOKED, events="stim", **more)  # type: ignore[arg-type]


def _renamed(change: Callable[[str], str]) -> mne.io.RawArray:
    raw = _raw()
    raw.rename_channels(change)
    return raw


def _described(names: list[str]) -> mne.io.RawArray:
    raw = _raw()
    n = len(raw.annotations)
    raw.annotations.description = np.array((names * n)[:n])
    return raw


# References


@pytest.mark.parametrize("suffix", ["-M2", "-Cz", "-LE", "-REF", "-A1A2", "/AVG", " REF"])
def test_a_common_second_name_is_a_reference(suffix: str) -> None:
    plain = _seen(_raw())
    seen = _seen(_renamed(lambda name: f"EEG {name}{suffix}"))
    assert seen.rank == plain.rank == len(NAMES) - 1
    np.testing.assert_allclose(seen.data.values, plain.data.values)
    np.testing.assert_allclose(seen.head.leadfield.values, plain.head.leadfield.values)


def _chain(typed: bool) -> mne.io.RawArray:
    raw = _raw()
    pairs = [name.split("-") for name in CHAIN]
    bipolar = mne.set_bipolar_reference(
        raw, [a for a, _ in pairs], [c for _, c in pairs], drop_refs=True, verbose="error"
    ).pick(CHAIN)
    if typed:
        return bipolar
    info = mne.create_info(CHAIN, SFREQ, "eeg", verbose="error")
    plain = mne.io.RawArray(bipolar.get_data(), info, verbose="error")
    return plain.set_annotations(raw.annotations, verbose="error")


@pytest.mark.parametrize("typed", [True, False])
def test_bipolar_channels_see_differences(typed: bool) -> None:
    """Anode less cathode of MNE's forward model, no average reference, the rank of the chain."""
    raw = _chain(typed)
    seen = _seen(raw)
    electrodes = sorted({name for pair in CHAIN for name in pair.split("-")})
    single = template_head(mne.create_info(electrodes, SFREQ, "eeg", verbose="error")).leadfield
    for name in CHAIN:
        first, second = (single.sel(channel=part).values for part in name.split("-"))
        np.testing.assert_allclose(
            seen.head.leadfield.sel(channel=name), first - second, atol=1e-12 * np.abs(first).max()
        )
    assert any("Bipolar channels" in note for note in seen.notes)
    assert not any("Referenced to" in note for note in seen.notes)
    # The temporal and the parasagittal chain have the same ends: one channel is the others' sum.
    assert seen.rank == len(CHAIN) - 1
    average = _epochs(raw.copy().filter(0.5, 30.0, verbose="error"), -0.612, 0.312).average()
    expected = resample_at(average.data, SFREQ, average.tmin, EVOKED.times)
    expected -= expected[:, EVOKED.in_baseline].mean(axis=1, keepdims=True)
    np.testing.assert_allclose(seen.data.values[0], expected, atol=1e-10)
    # The inverse places a source that differences see: no error for a single dipole.
    observer = Observer.like(seen, EVOKED)
    assert np.isfinite(observer.sequences(seen).values).all()
    noise = seen.noise.covariance()
    kernel = source_kernel(seen.head, seen.info, noise, "sLORETA")
    for source in (100, 2500):
        score = kernel.values @ seen.head.gain.values[:, source]
        assert np.abs(score).argmax() == source
    stc = estimate_sources(seen.head, seen.to_evoked(), noise)
    assert stc.data.shape == (len(seen.head.sources), len(EVOKED.times))
    ongoing = observe(raw, SpontaneousProtocol())
    assert np.linalg.matrix_rank(ongoing.noise.spatial, hermitian=True) == len(CHAIN) - 1


def test_a_head_of_electrodes_serves_bipolar_channels() -> None:
    electrodes = sorted({name for pair in CHAIN for name in pair.split("-")})
    head = template_head(mne.create_info(electrodes, SFREQ, "eeg", verbose="error"))
    own, given = _seen(_chain(False)), _seen(_chain(False), head=head)
    np.testing.assert_allclose(given.head.leadfield, own.head.leadfield, rtol=1e-9)
    with pytest.raises(InputError, match="no electrode"):
        _seen(_chain(False), head=head.pick(electrodes[1:]))


def test_contralateral_mastoids_are_not_one_reference() -> None:
    left = ("Fp1", "F3", "C3", "P3", "O1", "F7", "T7", "P7", "Fz", "Cz", "Pz")
    seen = _seen(_renamed(lambda name: f"{name}-M2" if name in left else f"{name}-M1"))
    assert seen.rank == len(NAMES)
    single = template_head(
        mne.create_info(["C3", "TP10", "C4", "TP9"], SFREQ, "eeg", verbose="error")
    ).leadfield
    expected = single.sel(channel="C3") - single.sel(channel="TP10")
    np.testing.assert_allclose(
        seen.head.leadfield.sel(channel="C3-M2").values, expected.values, rtol=1e-4, atol=1e-13
    )


def test_mixed_caps_are_split_and_said() -> None:
    chain, single = _chain(True), _raw().pick(["Fz", "Cz", "Pz"])
    for raw in (chain, single):  # MNE adds channels to those of the same reference
        with raw.info._unlock():
            raw.info["custom_ref_applied"] = FIFF.FIFFV_MNE_CUSTOM_REF_OFF
    few = chain.copy().add_channels([single])
    seen = _seen(few)
    assert list(seen.info.ch_names) == CHAIN
    assert any("Left out Fz, Cz, Pz: it is referential" in note for note in seen.notes)
    many = _raw().add_channels([chain])
    seen = _seen(many)
    assert list(seen.info.ch_names) == list(NAMES)
    assert any("Left out Fp1-F7" in n and "bipolar" in n for n in seen.notes)


def test_bipolar_channels_that_cannot_be_understood() -> None:
    raw = _chain(True)
    raw.rename_channels({name: f"B{k}" for k, name in enumerate(CHAIN)})
    with pytest.raises(InputError, match="its two electrodes cannot be read from its name"):
        _seen(raw)
    with pytest.raises(InputError, match="bipolar channel, which has no reference"):
        observe(_chain(False), EvokedProtocol(reference=("Fp1-F7",)), events="stim")
    raw = _chain(False)
    raw.rename_channels({"Fp1-F7": "Fp1-F7-0", "P3-O1": "Fp1-F7-1"})  # MNE numbers one name
    assert any("Left out Fp1-F7-1: another channel is the same" in n for n in _seen(raw).notes)


def test_derivations() -> None:
    found = read_derivations(["Fp1-F7", "F7-T3", "Cz", "C3-REF", "O1-X9"])
    assert found.bipolar == {"Fp1-F7": ("Fp1", "F7"), "F7-T3": ("F7", "T7")}
    assert found.referential == ("Cz", "C3-REF", "O1-X9")
    coil = FIFF.FIFFV_COIL_EEG_BIPOLAR
    assert read_derivations(["lead 1"], [coil]).unknown == ("lead 1",)
    assert read_derivations(["C3-LE", "C4-RE"]).bipolar["C4-RE"] == ("C4", "TP10")
    assert read_derivations(["C3-LE", "C4-LE", "Cz"]).referential == ("C3-LE", "C4-LE", "Cz")
    assert read_derivations(["A1", "B2", "E12"]).referential == ("A1", "B2", "E12")


@pytest.mark.parametrize("made", ["rereferenced", "added", "named", "unsaid"])
def test_the_reference_itself_is_a_channel(made: str) -> None:
    raw = _raw()
    if made == "rereferenced":
        raw.set_eeg_reference(["Cz"], verbose="error")
    elif made in ("added", "unsaid"):
        raw.set_eeg_reference(["Cz"], verbose="error")
        data = np.delete(raw.get_data(), NAMES.index("Cz"), axis=0)
        names = [name for name in NAMES if name != "Cz"]
        plain = mne.io.RawArray(data, mne.create_info(names, SFREQ, "eeg"), verbose="error")
        plain.set_annotations(raw.annotations, verbose="error")
        raw = mne.add_reference_channels(plain, "Cz", copy=True)
        if made == "unsaid":
            with raw.info._unlock():
                raw.info["custom_ref_applied"] = FIFF.FIFFV_MNE_CUSTOM_REF_OFF
    else:
        raw._data[NAMES.index("Cz")] = 0.0
        raw.rename_channels(lambda name: f"{name}-Cz")
    seen = _seen(raw)
    assert any(name.startswith("Cz") for name in seen.info.ch_names)
    assert any("taken for the reference" in note for note in seen.notes)
    assert bool(seen.warnings) == (made == "unsaid")  # where nothing in the file tells it
    if made == "rereferenced":  # then the average reference undoes it
        np.testing.assert_allclose(seen.data, _seen(_raw()).data, atol=1e-15)


def test_dead_channels_are_no_reference() -> None:
    two = _raw()
    two._data[[3, 5]] = 0.0
    assert not {"F4", "C4"} & set(_seen(two).info.ch_names)
    averaged = _raw().set_eeg_reference("average", verbose="error")
    for raw in (averaged, _raw(), _renamed(lambda n: f"{n}-M2"), _renamed(lambda n: f"{n}-LE")):
        raw._data[3] = 0.0
        seen = _seen(raw)
        assert not any(name.startswith("F4") for name in seen.info.ch_names)
        assert any("flat" in note for note in seen.notes)
    added = mne.add_reference_channels(_raw(), "FCz", copy=True)
    seen = _seen(added)  # MNE keeps in mind that it was added
    assert "FCz" in seen.info.ch_names and seen.warnings == ()
    with added.info._unlock():
        added.info["custom_ref_applied"] = FIFF.FIFFV_MNE_CUSTOM_REF_OFF
    seen = _seen(added)
    assert "FCz" in seen.info.ch_names and any("mark it bad" in w for w in seen.warnings)
    outer = _raw()  # all share the signal of an ear, and are the larger the nearer they are to Fp1
    outer.set_montage("colin27_1005", verbose="error")
    apart = np.array([channel["loc"][:3] for channel in outer.info["chs"]])
    apart = np.linalg.norm(apart - apart[0], axis=1)
    outer._data *= (4.0 - 3.0 * apart / apart.max())[:, None]
    outer._data -= 8e-6 * np.random.default_rng(3).standard_normal(outer.n_times)
    outer._data[0] = 0.0
    assert "Fp1" not in _seen(outer).info.ch_names


@pytest.mark.parametrize("size", [5e-3, 1.0])
@pytest.mark.parametrize("bads", ["drop", "interpolate"])
def test_a_broken_channel_does_not_spoil_the_others(
    size: float, bads: Literal["drop", "interpolate"]
) -> None:
    """It is judged before the average reference carries it into all of them."""
    protocol = EvokedProtocol(bads=bads)
    raw = _raw()
    raw._data[3] += size * np.random.default_rng(1).standard_normal(raw.n_times)
    epochs = _epochs(raw)
    for recording in (raw, epochs, epochs.average()):
        seen = observe(recording, protocol, events="stim")
        assert seen.n_averages == 36
        assert np.abs(seen.data).max() < 3e-5
        assert seen.operator is not None and "F4" not in seen.operator.inputs
        assert any("F4: in " in note and "beyond the limit" in note for note in seen.notes)
    marked = _raw()
    marked.info["bads"] = ["F4"]
    np.testing.assert_allclose(
        observe(raw, protocol, events="stim").data, observe(marked, protocol, events="stim").data
    )
    ongoing = observe(raw, SpontaneousProtocol())
    assert "F4" not in ongoing.info.ch_names


def test_bipolar_names_that_contradict_the_data() -> None:
    assert _seen(_chain(False)).warnings == ()
    raw = _chain(False)
    raw._data[:] = np.random.default_rng(0).standard_normal(raw._data.shape) * 1e-5
    assert any("contradict each other" in warning for warning in _seen(raw).warnings)


# Events


@pytest.mark.parametrize(
    ("name", "present", "expected"),
    [
        ("stim", ["stim", "stim/left"], ["stim"]),
        ("face", ["face/left", "face/right", "house"], ["face/left", "face/right"]),
        ("left/face", ["face/left", "face/right"], ["face/left"]),
        ("stim", ["Comment/stim", "Stimulus/S  1"], ["Comment/stim"]),
        ("S  2", ["Stimulus/S  2", "Stimulus/S 12"], ["Stimulus/S  2"]),
        ("S 2", ["Stimulus/S  2"], ["Stimulus/S  2"]),
        ("2", ["Response/R  2", "Stimulus/S  2", "Stimulus/S 22"], ["Stimulus/S  2"]),
        ("R2", ["Response/R  2", "Stimulus/S  2"], ["Response/R  2"]),
        ("Stimulus", ["Stimulus/S  1", "Stimulus/S  2", "x"], ["Stimulus/S  1", "Stimulus/S  2"]),
        ("S  2", ["S  2", "Stimulus/S  2"], ["S  2"]),
        ("Stim", ["stim"], []),
        ("3", ["Stimulus/S  2"], []),
    ],
)
def test_names_of_events(name: str, present: list[str], expected: list[str]) -> None:
    assert matching(name, present) == expected


def test_tags_and_several_names_are_pooled() -> None:
    raw = _described(["face/left", "face/right", "house"])
    n = len(raw.annotations)
    by_tag = observe(raw, EVOKED, events="face")
    by_names = observe(raw, EVOKED, events=["face/left", "face/right"])
    assert by_tag.n_averages == by_names.n_averages == n - len(range(2, n, 3))
    np.testing.assert_array_equal(by_tag.data, by_names.data)
    assert any("face/left (12), face/right (12)" in note for note in by_tag.notes)
    assert observe(_epochs(raw), EVOKED, events="face").n_averages == by_tag.n_averages
    # By hand: MNE pools the same epochs.
    average = _epochs(raw.copy().filter(0.5, 30.0, verbose="error"), -0.612, 0.312)["face"]
    data = average.average().data
    data = data - data.mean(axis=0)
    data = resample_at(data, SFREQ, average.tmin, EVOKED.times)
    data -= data[:, EVOKED.in_baseline].mean(axis=1, keepdims=True)
    np.testing.assert_allclose(by_tag.data.values[0], data, atol=1e-10)


@pytest.mark.parametrize("later", [0.0, 0.001])
def test_one_moment_counts_once(later: float) -> None:
    raw = _raw()
    onset = raw.annotations.onset
    names = ["stim"] * len(onset) + ["stim/again"] * 5
    raw.set_annotations(mne.Annotations(np.r_[onset, onset[:5] + later], 0.0, names))
    seen = observe(raw, EVOKED, events=["stim", "stim/again"])
    assert seen.n_averages == len(onset)
    assert any(f"5 of {len(onset) + 5} events mark a moment" in note for note in seen.notes)
    if later == 0.0:
        np.testing.assert_array_equal(seen.data, _seen(_raw()).data)


def _with_triggers() -> mne.io.RawArray:
    raw = _raw()
    starts = (raw.annotations.onset * SFREQ).astype(int)
    raw.set_annotations(mne.Annotations([1.0], [0.0], ["recording started"]))
    info = mne.create_info(["STI 014"], SFREQ, "stim")
    raw.add_channels([mne.io.RawArray(np.zeros((1, raw.n_times)), info)], force_update_info=True)
    raw.add_events(np.column_stack([starts, 0 * starts, 0 * starts + 5]), "STI 014")
    return raw


def test_a_stimulus_channel_beside_annotations() -> None:
    raw = _with_triggers()
    seen = observe(raw, EVOKED, events="5")
    np.testing.assert_array_equal(seen.data, _seen(_raw()).data)
    with pytest.raises(InputError, match=r"no event '7'.*recording started \(1\), 5 \(36\)"):
        observe(raw, EVOKED, events="7")


def test_status_bits_of_biosemi_are_not_triggers() -> None:
    raw = _with_triggers()
    raw.rename_channels({"STI 014": "Status"})
    raw._data[-1] += 65536.0
    assert observe(raw, EVOKED, events="5").n_averages == 36


def test_a_miss_lists_what_is_there_and_the_nearest() -> None:
    raw = _described(["face/left", "face/right"])
    why = r"no event 'faces'.*face/left \(18\), face/right \(18\); did you mean 'face/"
    with pytest.raises(InputError, match=why):
        observe(raw, EVOKED, events="faces")
    with pytest.raises(InputError, match="did you mean 'stim'"):
        observe(_raw(), EVOKED, events="Stim")
    with pytest.raises(InputError, match="is not the name of events"):
        observe(_raw(), EVOKED, events=["stim", " "])


# Units


def _kinds() -> dict[str, Callable[[], mne.io.BaseRaw | mne.BaseEpochs | mne.Evoked]]:
    return {
        "raw": _raw,
        "epochs": lambda: _epochs(_raw()),
        "average": lambda: _epochs(_raw()).average(),
    }


@pytest.mark.parametrize("kind", ["raw", "epochs", "average"])
@pytest.mark.parametrize(
    ("factor", "unit"), [(1e6, "uV"), (1e3, "mV"), (1e-3, "kV"), (1e-6, "MV"), (1e9, "nV")]
)
def test_amplitudes_of_another_unit(kind: str, factor: float, unit: str) -> None:
    made, plain = _kinds()[kind](), _kinds()[kind]()
    values = made.data if isinstance(made, mne.Evoked) else made._data
    values *= factor
    with pytest.raises(InputError, match=rf"look like {unit}.*--unit {unit} \(unit='{unit}'"):
        observe(made, EVOKED, events="stim")
    seen = observe(made, EVOKED, events="stim", unit=unit)
    expected = observe(plain, EVOKED, events="stim")
    np.testing.assert_allclose(seen.data, expected.data, rtol=1e-9, atol=1e-18)


def test_units_by_name() -> None:
    assert to_si("µV") == to_si("uV") == 1e-6
    assert to_si("fT", "mag") == pytest.approx(1e-15)
    assert to_si("fT/cm", "grad") == to_si("fT", "grad") == pytest.approx(1e-13)
    for unit, kind in (("furlong", "eeg"), ("fT", "eeg"), ("uV", "mag"), ("", "eeg")):
        with pytest.raises(InputError, match="is not a valid unit"):
            to_si(unit, kind)


def test_amplitudes_of_meg(meg: tuple[mne.Info, Head]) -> None:
    info, _ = meg
    data = 2e-13 * np.random.default_rng(0).standard_normal((len(info.ch_names), 6000))
    raw = mne.io.RawArray(1e15 * data, info, verbose="error")
    with pytest.raises(InputError, match=r"magnetometer channels.*too large for MEG.*look like fT"):
        observe(raw, SpontaneousProtocol())
    seen = observe(raw, SpontaneousProtocol(), unit="fT")
    plain = mne.io.RawArray(data, info, verbose="error")
    np.testing.assert_allclose(seen.data, observe(plain, SpontaneousProtocol()).data, rtol=1e-9)


def test_large_recordings_of_real_brains_pass() -> None:
    """Slow waves of an infant, 300 uV, and an artefact of many millivolts."""
    raw = _raw()
    t = raw.times
    raw._data += 1.5e-4 * np.sin(2 * np.pi * 1.3 * t) * np.linspace(0.5, 1.5, len(NAMES))[:, None]
    raw._data[:, 500:600] += 5e-2
    assert observe(raw, EvokedProtocol(reject=None), events="stim").n_averages == 36


def test_the_unit_of_a_file_counts(tmp_path: Path) -> None:
    """Numbers in uV in a file that says mV: MNE has scaled them by a thousand too much."""
    edfio = pytest.importorskip("edfio")
    raw = _raw()

    def write(name: str, scale: float, unit: str) -> Path:
        signals = [
            edfio.EdfSignal(values * scale, SFREQ, label=label, physical_dimension=unit)
            for label, values in zip(raw.ch_names, raw.get_data(), strict=True)
        ]
        marks = [edfio.EdfAnnotation(onset, None, "stim") for onset in raw.annotations.onset]
        edfio.Edf(signals, annotations=marks).write(str(tmp_path / name))
        return tmp_path / name

    expected = _seen(raw).data
    right = _seen(read_recording(write("mv.edf", 1e3, "mV"))).data
    np.testing.assert_allclose(right, expected, atol=2e-8)
    wrong = write("wrong.edf", 1e6, "mV")
    with pytest.raises(InputError, match="look like uV, not mV"):
        _seen(read_recording(wrong))
    np.testing.assert_allclose(_seen(read_recording(wrong, unit="uV")).data, expected, atol=2e-8)


# Channels that cost epochs, and gaps


def _noisy(*channels: int) -> mne.io.RawArray:
    raw = _raw()
    noise = np.random.default_rng(1).standard_normal((len(channels), raw.n_times))
    raw._data[list(channels)] += 3e-4 * noise
    return raw


@pytest.mark.parametrize("channels", [(7,), (2, 7)])
def test_channels_that_cost_most_epochs_are_left_out(channels: tuple[int, ...]) -> None:
    seen = _seen(_noisy(*channels))
    names = ", ".join(NAMES[k] for k in channels)
    assert seen.n_averages == 36
    assert any(note.startswith(f"Left out {names}: in more than a third") for note in seen.notes)
    rest = tuple(n for k, n in enumerate(NAMES) if k not in channels)
    assert tuple(seen.info.ch_names) == rest
    mended = observe(_noisy(*channels), EvokedProtocol(bads="interpolate"), events="stim")
    assert len(mended.info.ch_names) == len(NAMES)
    assert any(note.startswith(f"Interpolated {names}: in more") for note in mended.notes)
    ongoing = observe(_noisy(*channels), SpontaneousProtocol())
    assert tuple(ongoing.info.ch_names) == rest


def test_blinks_are_not_the_fault_of_a_channel() -> None:
    """Fp1 and Fp2 are beyond the limit in half of the epochs, other frontal channels with them."""
    raw = _raw()
    for onset in raw.annotations.onset[::2]:
        start = int((onset + 0.1) * SFREQ)
        for name, size in (("Fp1", 4e-4), ("Fp2", 4e-4), ("F7", 3e-4), ("F8", 3e-4), ("Fz", 3e-4),
                           ("F3", 3e-4)):  # fmt: skip
            raw._data[NAMES.index(name), start : start + 25] += size
    seen = _seen(raw)
    assert "Fp1" in seen.info.ch_names
    assert seen.n_averages == 18
    assert seen.warnings == ()


def test_most_epochs_lost_names_the_channels() -> None:
    raw = _raw()
    rng = np.random.default_rng(2)
    for k, onset in enumerate(raw.annotations.onset):  # another channel in every third epoch
        start = int((onset + 0.1) * SFREQ)
        raw._data[(2, 7, 11)[k % 3], start : start + 10] += 5e-4 * rng.choice([-1, 1])
    with pytest.raises(
        InputError, match=r"none of the 36 epochs.*cost most of them: mark them bad"
    ):
        _seen(raw)
    raw._data[:, : int(12 * SFREQ)] = _raw().get_data()[:, : int(12 * SFREQ)]
    seen = _seen(raw)
    assert any("of 36 epochs are usable" in w and "mark them bad" in w for w in seen.warnings)


def test_gaps_cost_the_epochs_they_touch() -> None:
    raw = _raw()
    raw._data[:, 2000:2300] = np.nan  # 8.0 to 9.2 s: events at 8 s and 9 s
    seen = _seen(raw)
    assert seen.n_averages == 34
    assert any("NaN or infinite values in 1 stretch of 19 channels" in n for n in seen.notes)
    one = _raw()
    one._data[4, 2000:2300] = np.inf
    seen = _seen(one)
    assert seen.n_averages == 34 and "C3" in seen.info.ch_names
    most = _raw()
    most._data[4, 2000:8000] = np.nan
    seen = _seen(most)
    assert seen.n_averages == 36 and "C3" not in seen.info.ch_names


def test_what_a_gap_leaves_is_what_it_would_have_been() -> None:
    """Epochs far from a gap are those of the same recording without it."""
    raw, whole = _raw(60.0), _raw(60.0)
    raw._data[:, 2000:2300] = np.nan
    kept = [k for k, onset in enumerate(whole.annotations.onset) if onset > 16.0]
    for recording in (raw, whole):
        recording.set_annotations(recording.annotations[kept])
    np.testing.assert_allclose(_seen(raw).data, _seen(whole).data, atol=1e-9)


def test_bad_spans_and_boundaries_cost_the_epochs_they_touch() -> None:
    raw = _raw()
    raw.annotations.append(10.0, 2.0, "BAD_eye")  # 10, 11 and 12 s (the baseline)
    raw.annotations.append(20.1, 9.7, "boundary")  # the duration of what was cut out
    seen = _seen(raw)
    assert seen.n_averages == 36 - 4
    assert any("1 cut in the recording" in note for note in seen.notes)
    ongoing = observe(raw, SpontaneousProtocol())
    assert any("touch a span marked bad" in note for note in ongoing.notes)


def test_a_step_at_a_boundary_does_not_reach_beyond_it() -> None:
    step = _raw()
    step._data[:, int(20.5 * SFREQ) :] += 3e-3  # 3 mV: the halves were never neighbours
    step.annotations.append(20.5, 0.0, "boundary")
    plain = _raw()
    plain.annotations.append(20.5, 0.0, "boundary")
    np.testing.assert_allclose(_seen(step).data, _seen(plain).data, atol=1e-10)
    assert _seen(step).n_averages == 35


def test_epochs_that_were_not_read_yet() -> None:
    raw = _raw()
    events, event_id = mne.events_from_annotations(raw, verbose="error")
    lazy = mne.Epochs(raw, events, event_id, -0.6, 0.6, baseline=None, verbose="error")
    np.testing.assert_array_equal(_seen(lazy).data, _seen(_epochs(raw)).data)
    delayed = mne.Epochs(
        raw.set_eeg_reference("average", projection=True, verbose="error"), events, event_id,
        -0.6, 0.6, baseline=None, proj="delayed", verbose="error",
    )  # fmt: skip
    np.testing.assert_allclose(_seen(delayed).data, _seen(_epochs(_raw())).data, atol=1e-18)
    assert not lazy.preload  # nor is anything else of them changed


def test_one_epoch_of_nan_costs_one_epoch() -> None:
    epochs = _epochs(_raw())
    epochs._data[3] = np.nan
    epochs._data[5, 2, 100] = np.nan
    seen = _seen(epochs)
    assert seen.n_averages == 34
    assert any("Averaged 34 of 36" in n and "2 hold NaN" in n for n in seen.notes)
    good = np.setdiff1d(np.arange(36), [3, 5])
    np.testing.assert_allclose(seen.data, _seen(_epochs(_raw())[good]).data, atol=1e-18)


# Few trials, short baselines


def test_few_trials_are_answered_with_a_warning() -> None:
    seen = _seen(_raw(8.0))
    assert seen.n_averages == 4
    assert any("Only 4 trials" in warning for warning in seen.warnings)
    assert seen.notes[: len(seen.warnings)] == seen.warnings
    assert _seen(_raw()).warnings == ()
    single = _epochs(_raw())[0].average()
    assert any("Only 1 trial was" in w for w in observe(single, EVOKED).warnings)


def test_noise_of_few_samples_is_wider() -> None:
    assert widening(1e9) == pytest.approx(1.0)
    assert widening(12.0) == pytest.approx(1.2)
    assert widening(2.0) == 3.0
    short = _epochs(_raw(), -0.1, 0.35).average()
    seen = observe(short, EVOKED)
    assert seen.noise.samples is not None and seen.noise.samples < 12
    assert any("short baseline" in warning for warning in seen.warnings)


def test_independent_samples_are_counted() -> None:
    """The spread of variances over many draws is what the count says."""
    from nmm_infer.observation import noise_from_baseline

    rng, n = np.random.default_rng(0), 40
    info = mne.create_info(list(NAMES), 100.0, "eeg", verbose="error")
    kernel = np.exp(-np.arange(12) / 3.0)
    white = rng.standard_normal((400, len(NAMES), n + 11))
    smooth = np.apply_along_axis(lambda x: np.convolve(x, kernel, "valid"), -1, white)
    found = noise_from_baseline(1e-6 * smooth, info, 1, n)
    variances = (smooth**2).mean(axis=-1)
    expected = 2.0 / (variances.std() / variances.mean()) ** 2
    assert found.samples is not None
    assert found.samples / 400 == pytest.approx(expected, rel=0.15)


def test_a_covariance_makes_up_for_a_missing_baseline() -> None:
    short = _epochs(_raw(), -0.02, 0.35).average()
    protocol = EvokedProtocol(tmin=-0.01)
    with pytest.raises(InputError, match=r"longer baseline; .* \(noise_cov=\)"):
        observe(short, protocol)
    cov = mne.make_ad_hoc_cov(short.info, {"eeg": 5e-6}, verbose="error")
    seen = observe(short, protocol, noise_cov=cov)
    n = len(NAMES)
    wanted = (5e-6) ** 2 * (np.eye(n) - 1 / n) / 36
    np.testing.assert_allclose(seen.noise.spatial, wanted, atol=1e-18)


# Where channels are


def _biosemi(part: str = "", step: int = 1) -> mne.io.RawArray:
    names = mne.channels.make_standard_montage("biosemi128").ch_names
    return _raw(names=tuple(n for n in names[::step] if n.startswith(part)))


def test_a_montage_by_name() -> None:
    raw = _biosemi(step=6)
    with pytest.raises(InputError, match=r"look like those of biosemi128.*--montage biosemi128"):
        _seen(raw)
    seen = _seen(raw, montage="BioSemi128")
    own = raw.copy().set_montage("biosemi128", verbose="error")
    np.testing.assert_allclose(seen.head.leadfield, _seen(own).head.leadfield, rtol=1e-6)
    with pytest.raises(InputError, match=r"no montage 'biosemi12'.*did you mean 'biosemi128'"):
        set_montage(raw, "biosemi12")
    with pytest.raises(InputError, match=r"none of the channels.*like those of 'biosemi128'"):
        set_montage(raw, "GSN-HydroCel-128")
    mixed = _biosemi(step=6)
    mixed.rename_channels(lambda name: f"EEG {name.lower()}-REF")
    placed = set_montage(mixed, "biosemi128").info
    np.testing.assert_allclose(placed["chs"][3]["loc"][:3], own.info["chs"][3]["loc"][:3])


def test_names_that_mean_another_place_yield_to_a_montage() -> None:
    """C3 and the like of a BioSemi cap are far from those of the 10-05 system."""
    names = mne.channels.make_standard_montage("biosemi128").ch_names
    table = mne.channels.make_standard_montage("colin27_1005").ch_names
    known = {name.lower() for name in table}
    twins = tuple(name for name in names if name.lower() in known)
    assert len(twins) >= 8
    seen = _seen(_raw(names=twins), montage="biosemi128")
    whole = _seen(_biosemi(), montage="biosemi128").head.leadfield.sel(channel=list(twins))
    correlation = [
        np.corrcoef(seen.head.leadfield.sel(channel=n), whole.sel(channel=n))[0, 1] for n in twins
    ]
    assert np.median(correlation) > 0.95


@pytest.mark.parametrize("part", ["A", "C"])  # posterior, frontal
def test_caps_over_a_part_of_the_head(part: str) -> None:
    """They sit where the same electrodes of a whole cap do."""
    whole = place_electrodes(set_montage(_biosemi(), "biosemi128").info, by_name=False)
    some = place_electrodes(set_montage(_biosemi(part), "biosemi128").info, by_name=False)
    assert not some.dropped
    places = [p.montage.get_positions()["ch_pos"] for p in (whole, some)]
    apart = [np.linalg.norm(places[0][name] - place) for name, place in places[1].items()]
    assert np.median(apart) < 0.012 and max(apart) < 0.02
    assert _seen(_biosemi(part), montage="biosemi128").rank == len(places[1]) - 1


# Files and arrays


def test_fif_files_by_what_they_hold(tmp_path: Path) -> None:
    raw = _raw()
    expected = {"raw": _seen(raw), "epochs": _seen(_epochs(raw))}
    raw.save(tmp_path / "subject_evoked.fif", verbose="error")
    _epochs(raw).save(tmp_path / "raw.fif", verbose="error")
    _epochs(raw).average().save(tmp_path / "epochs.fif", verbose="error")
    for name, kind in (("subject_evoked", "raw"), ("raw", "epochs"), ("epochs", "epochs")):
        read = read_recording(tmp_path / f"{name}.fif")
        np.testing.assert_allclose(_seen(read).data, expected[kind].data, atol=1e-10)
    assert isinstance(read, mne.Evoked)
    mne.make_ad_hoc_cov(raw.info, verbose="error").save(tmp_path / "x.fif", verbose="error")
    with pytest.raises(InputError, match="holds no recording, but a covariance"):
        read_recording(tmp_path / "x.fif")


def test_averages_are_pooled_by_trials(tmp_path: Path) -> None:
    raw = _described(["face/left", "face/left", "face/right", "house"])
    epochs = _epochs(raw)
    names = ("face/left", "face/right", "house")
    averages = [epochs[name].average() for name in names]
    for average, name in zip(averages, names, strict=True):
        average.comment = name
    path = tmp_path / "averages.fif"
    mne.write_evokeds(path, averages, verbose="error")
    pooled = read_recording(path, events="face")
    assert isinstance(pooled, mne.Evoked)
    np.testing.assert_allclose(pooled.data, epochs["face"].average().data, atol=1e-12)
    assert pooled.nave == 27
    assert observe(pooled, EVOKED, events="face").n_averages == 27
    with pytest.raises(InputError, match=r"'face/left', 'face/right', 'house'; say which"):
        read_recording(path)


def test_a_file_under_another_name(tmp_path: Path) -> None:
    mne.export.export_raw(tmp_path / "rec.edf", _raw(), verbose="error")
    (tmp_path / "rec.edf").rename(tmp_path / "rec.bdf")
    with pytest.raises(InputError, match=r"holds a \.edf recording under another name: rename"):
        read_recording(tmp_path / "rec.bdf")


def test_a_damaged_channel_type_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "raw.fif"
    _raw().save(path, verbose="error")
    content = bytearray(path.read_bytes())
    # The kind of the second channel: 203 is FIFF_CH_INFO, 2 its kind EEG.
    place = content.find((203).to_bytes(4, "big"))
    place = content.find((203).to_bytes(4, "big"), place + 4) + 16
    content[place + 8 : place + 12] = (77).to_bytes(4, "big")
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"raw\.fif"):
        read_recording(path)


def test_arrays() -> None:
    raw, epochs = _raw(), _epochs(_raw())
    made = recording_from_array(
        1e6 * raw.get_data(), NAMES, SFREQ, unit="uV", events={"stim": raw.annotations.onset}
    )
    np.testing.assert_allclose(_seen(made).data, _seen(raw).data, rtol=1e-9, atol=1e-18)
    cut = recording_from_array(
        1e3 * epochs.get_data(), NAMES, SFREQ, unit="mV", tmin=-0.6, events={"stim": []}
    )
    np.testing.assert_allclose(_seen(cut).data, _seen(epochs).data, rtol=1e-9, atol=1e-18)
    values = np.zeros((3, 100))
    for bad, why in (
        ({"data": values.T}, "transpose"),
        ({"data": values[0]}, "has shape"),
        ({"channels": ["a", "a", "b"]}, "named twice"),
        ({"sfreq": 0.0}, "sfreq is 0"),
        ({"unit": "furlong"}, "not a valid unit"),
        ({"kind": "ecg"}, "kind is"),
        ({"events": {"x": [5.0]}}, "times are from 0"),
        ({"data": "text"}, "are numbers"),
    ):
        given = {"data": values, "channels": ["a", "b", "c"], "sfreq": 100.0, "unit": "uV", **bad}
        with pytest.raises(InputError, match=why):
            recording_from_array(**given)


@pytest.mark.parametrize("name", ["rec.gdf", "rec.cnt", "rec.mff", "rec5.set", "rec73.set"])
def test_formats_without_a_writer_in_mne(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Numbers, units and events of each come back; names do, but for those of EGI."""
    raw, path = _described(["face", "house"]), tmp_path / name
    codes = {"face": "face", "house": "house"}
    if name.endswith(".gdf"):
        codes = {key: str(code) for key, code in write_gdf(path, raw).items()}
    elif name.endswith(".cnt"):
        codes = {key: str(code) for key, code in write_cnt(path, raw).items()}
    elif name.endswith(".mff"):
        raw.set_montage(None)
        codes = write_mff(path, raw)
    else:
        write_set(path, raw, "5" if "5" in name else "7.3")
    read = read_recording(path)
    assert capsys.readouterr().out == ""
    assert isinstance(read, mne.io.BaseRaw)
    if name.endswith(".mff"):
        names = [n for n in read.ch_names if n.startswith("E") and n[1:].isdecimal()]
        read.rename_channels(dict(zip(names, NAMES, strict=True)))
    seen = observe(read, EVOKED, events=codes["house"])
    expected = observe(raw, EVOKED, events="house")
    assert seen.n_averages == expected.n_averages == 18
    assert list(seen.info.ch_names) == list(NAMES)
    np.testing.assert_allclose(seen.data, expected.data, atol=1e-8)


def test_long_names_of_neuroscan_are_not_bad(tmp_path: Path) -> None:
    raw = _renamed(lambda name: f"{name}-REF")
    write_cnt(tmp_path / "rec.cnt", raw)
    assert read_recording(tmp_path / "rec.cnt").info["bads"] == []


def test_the_vertex_of_egi_is_its_reference(tmp_path: Path) -> None:
    names = mne.channels.make_standard_montage("GSN-HydroCel-32").ch_names[:-1]
    raw = _raw(names=tuple(names))
    raw.set_montage("GSN-HydroCel-32", on_missing="ignore", verbose="error")
    write_mff(tmp_path / "rec.mff", raw, vertex=True)
    seen = _seen(read_recording(tmp_path / "rec.mff"))
    assert any("VREF is zero throughout: it is taken for the reference" in n for n in seen.notes)
    assert "VREF" in seen.info.ch_names


@pytest.mark.parametrize("version", ["5", "7.3"])
@pytest.mark.parametrize("nested", [True, False])
def test_epoched_set_files(tmp_path: Path, version: Literal["5", "7.3"], nested: bool) -> None:
    """Epochs are named by the event at their time zero, not by all that fall into them."""
    raw = _described(["face", "house", "house"])
    epochs = _epochs(raw, -1.2, 1.2)
    write_set(tmp_path / "cut.set", epochs, version, nested=nested)
    read = read_recording(tmp_path / "cut.set")
    assert isinstance(read, mne.BaseEpochs)
    for name in ("face", "house"):
        seen, expected = (observe(e, EVOKED, events=name) for e in (read, epochs))
        assert seen.n_averages == expected.n_averages == len(epochs[name])
        np.testing.assert_allclose(seen.data, expected.data, atol=1e-10)


def test_cuts_of_eeglab(tmp_path: Path) -> None:
    write_set(tmp_path / "rec.set", _raw(), boundaries=[20.5])
    seen = _seen(read_recording(tmp_path / "rec.set"))
    assert seen.n_averages == 35  # the duration of a boundary is that of what is gone
    assert any("1 cut in the recording" in note for note in seen.notes)

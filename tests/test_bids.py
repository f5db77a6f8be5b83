"""Recordings from BIDS datasets, written by MNE-BIDS or by hand."""

from __future__ import annotations

import json
import logging
import runpy
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mne
import numpy as np
import pytest
from mne.io.constants import FIFF

from nmm_infer import cli
from nmm_infer.anatomy import Head
from nmm_infer.errors import InputError
from nmm_infer.observation import (
    EvokedProtocol,
    Observation,
    SpontaneousProtocol,
    observe,
    read_bids,
    read_recording,
)
from nmm_infer.observation.recording import bids, find_events

mne_bids = pytest.importorskip("mne_bids")

GO = 375 + 250 * np.arange(9)  # samples
STOP = np.array([1000, 1500])
EVENTS = {"go": GO, "stop": STOP}


def _eeg(info: mne.Info, seed: int) -> mne.io.RawArray:
    """Noise on the montage of the tests and an EOG, with events and bad channels."""
    info = mne.create_info([*info["ch_names"], "X1"], 250.0, "eeg", verbose="error")
    info.set_montage("fsaverage_1005", on_missing="ignore", verbose="error")
    data = 2e-5 * np.random.default_rng(seed).standard_normal((len(info["ch_names"]), 2750))
    raw = mne.io.RawArray(data, info, verbose="error")
    raw.set_channel_types({"X1": "eog"}, verbose="error")
    raw.info["bads"] = ["T7", "P4"]
    return _annotated(raw)


def _annotated(raw: mne.io.RawArray) -> mne.io.RawArray:
    onsets = np.concatenate([GO, STOP]) / raw.info["sfreq"]
    names = ["go"] * len(GO) + ["stop"] * len(STOP)
    return raw.set_annotations(mne.Annotations(onsets, 0.0, names), verbose="error")


def _write(root: Path, raw: mne.io.RawArray, format_: str = "BrainVision", **entities: str) -> Path:
    path = mne_bids.BIDSPath(root=root, **entities)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        written = mne_bids.write_raw_bids(
            raw, path, format=format_, allow_preload=True, overwrite=True, verbose="error"
        )
    return Path(written.fpath)


@pytest.fixture(scope="module")
def raws(info: mne.Info) -> dict[str, mne.io.RawArray]:
    """What is in the dataset, by the names of the files."""
    names = ("01_task-rest", "01_task-visual", "02_task-visual_run-01", "02_task-visual_run-02")
    return {name: _eeg(info, seed) for seed, name in enumerate(names)}


@pytest.fixture(scope="module")
def written(raws: dict[str, mne.io.RawArray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bids") / "dataset"
    for name, raw in raws.items():
        subject, *rest = name.split("_")
        _write(root, raw, subject=subject, datatype="eeg", **dict(e.split("-") for e in rest))
    return root


@pytest.fixture
def dataset(written: Path, tmp_path: Path) -> Path:
    """Copy the dataset, to be damaged."""
    return Path(shutil.copytree(written, tmp_path / "dataset"))


def _visual(root: Path) -> mne.io.BaseRaw:
    return read_bids(root, subject="01", task="visual")


def _positions(raw: mne.io.BaseRaw) -> np.ndarray:
    return np.array([ch["loc"][:3] for ch in raw.copy().pick("eeg").info["chs"]])


def _samples(raw: mne.io.BaseRaw, name: str) -> np.ndarray:
    return find_events(raw, name).samples - raw.first_samp


def _contents(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


# What is read


@pytest.mark.parametrize(
    ("name", "entities"),
    [
        ("01_task-rest", {"subject": "01", "task": "rest"}),
        ("01_task-visual", {"subject": "01", "task": "visual", "datatype": "eeg"}),
        ("02_task-visual_run-01", {"subject": "02", "run": "01"}),
        ("02_task-visual_run-02", {"run": 2}),
    ],
)
def test_a_recording_is_read_back(
    name: str, entities: dict[str, str], written: Path, raws: dict[str, mne.io.RawArray]
) -> None:
    raw, read = raws[name], read_bids(written, **entities)
    assert read.preload
    assert read.ch_names == raw.ch_names
    assert read.get_channel_types() == raw.get_channel_types()  # channels.tsv: X1 is an EOG
    assert read.info["sfreq"] == 250.0
    assert set(read.info["bads"]) == {"T7", "P4"}
    largest = np.abs(raw.get_data()).max()  # V; BrainVision holds float32
    np.testing.assert_allclose(read.get_data(), raw.get_data(), rtol=0, atol=2e-7 * largest)
    for event, samples in EVENTS.items():
        np.testing.assert_array_equal(_samples(read, event), samples)


def test_positions_are_in_the_head_frame_of_the_landmarks(
    written: Path, raws: dict[str, mne.io.RawArray]
) -> None:
    read = _visual(written)
    np.testing.assert_allclose(_positions(read), _positions(raws["01_task-visual"]), atol=1e-7)
    assert all(ch["coord_frame"] == FIFF.FIFFV_COORD_HEAD for ch in read.info["chs"])
    told = raws["01_task-visual"].get_montage().get_positions()
    got = read.get_montage().get_positions()
    for landmark in ("nasion", "lpa", "rpa"):
        np.testing.assert_allclose(got[landmark], told[landmark], atol=1e-7)


def _rewrite(
    root: Path, move: Callable[[np.ndarray], np.ndarray], system: str, landmarks: bool
) -> None:
    """Put the electrodes of subject 01 into another coordinate system, in mm."""
    folder = root / "sub-01" / "eeg"
    raw = _visual(root)
    table = [
        "\t".join(["name", "x", "y", "z"]),
        *("\t".join([n, *("n/a",) * 3]) for n in ("X1", "GND")),
        *(
            "\t".join([n, *(f"{v:.6f}" for v in 1e3 * move(p))])
            for n, p in zip(raw.copy().pick("eeg").ch_names, _positions(raw), strict=True)
        ),
    ]
    told = {"EEGCoordinateSystem": system, "EEGCoordinateUnits": "mm"}
    if landmarks:
        places = raw.get_montage().get_positions()
        told |= {
            "AnatomicalLandmarkCoordinates": {
                key: (100 * move(places[name])).tolist()
                for key, name in (("NAS", "nasion"), ("LPA", "lpa"), ("RPA", "rpa"))
            },
            "AnatomicalLandmarkCoordinateSystem": system,
            "AnatomicalLandmarkCoordinateUnits": "cm",
        }
    for file in folder.glob("*_space-*"):
        file.unlink()
    (folder / "sub-01_electrodes.tsv").write_text("\n".join(table) + "\n")
    (folder / "sub-01_coordsystem.json").write_text(json.dumps(told))


def test_any_system_with_landmarks_ends_in_the_head_frame(
    dataset: Path, raws: dict[str, mne.io.RawArray], caplog: pytest.LogCaptureFixture
) -> None:
    turn = np.linalg.qr(np.random.default_rng(4).standard_normal((3, 3)))[0]
    turn *= np.linalg.det(turn)  # no mirror
    _rewrite(dataset, lambda p: turn @ p + [0.01, -0.03, 0.05], "Other", landmarks=True)
    read = _visual(dataset)
    np.testing.assert_allclose(_positions(read), _positions(raws["01_task-visual"]), atol=1e-7)
    assert all(
        ch["coord_frame"] == FIFF.FIFFV_COORD_HEAD for ch in read.copy().pick("eeg").info["chs"]
    )
    nasion = raws["01_task-visual"].get_montage().get_positions()["nasion"]
    np.testing.assert_allclose(read.get_montage().get_positions()["nasion"], nasion, atol=1e-7)
    assert "without landmarks" not in caplog.text


def test_eeglab_axes_without_landmarks_are_turned(
    dataset: Path, raws: dict[str, mne.io.RawArray], caplog: pytest.LogCaptureFixture
) -> None:
    _rewrite(dataset, lambda p: np.array([p[1], -p[0], p[2]]), "EEGLAB", landmarks=False)
    read = _visual(dataset)
    np.testing.assert_allclose(_positions(read), _positions(raws["01_task-visual"]), atol=1e-7)
    assert "without landmarks" not in caplog.text


def test_an_unknown_system_without_landmarks_is_told(
    dataset: Path, raws: dict[str, mne.io.RawArray], caplog: pytest.LogCaptureFixture
) -> None:
    _rewrite(dataset, lambda p: p[::-1], "Other", landmarks=False)
    read = _visual(dataset)
    assert "system 'Other' without landmarks" in caplog.text
    expected = _positions(raws["01_task-visual"])[:, ::-1]
    np.testing.assert_allclose(_positions(read), expected, atol=1e-7)


@pytest.mark.parametrize(
    "points",
    [
        {"NAS": [], "LPA": [], "RPA": []},
        {"NAS": "n/a", "LPA": "n/a", "RPA": "n/a"},
        {"NAS": [0, 0, 0], "LPA": [0, 0, 0], "RPA": [0, 0, 0]},
        {"NAS": [0.0, 0.1, 0.0]},
        "n/a",
    ],
)
def test_landmarks_that_are_none(
    points: object, dataset: Path, raws: dict[str, mne.io.RawArray]
) -> None:
    (file,) = (dataset / "sub-01").rglob("*coordsystem.json")
    told = json.loads(file.read_text())
    file.write_text(json.dumps(told | {"AnatomicalLandmarkCoordinates": points}))
    read = _visual(dataset)
    np.testing.assert_allclose(_positions(read), _positions(raws["01_task-visual"]), atol=1e-7)


def test_an_observation_is_that_of_the_plain_recording(
    written: Path, raws: dict[str, mne.io.RawArray], head: Head
) -> None:
    protocol = EvokedProtocol(reject=None)
    plain = observe(raws["01_task-visual"], protocol, events="go", head=head)
    read = observe(_visual(written), protocol, events="go", head=head)
    assert read.data.channel.values.tolist() == plain.data.channel.values.tolist()
    assert read.n_averages == plain.n_averages == len(GO)
    scale = float(np.abs(plain.data).max())
    np.testing.assert_allclose(read.data, plain.data, rtol=0, atol=1e-6 * scale)
    assert read.source == "sub-01_task-visual_eeg.vhdr"


def test_an_meg_recording(tmp_path: Path) -> None:
    info = mne.channels.read_meg_canonical_info("ctf151", verbose="error")
    with info._unlock():
        info["sfreq"], info["lowpass"] = 250.0, 125.0
    rng = np.random.default_rng(5)
    data = 1e-13 * rng.standard_normal((len(info["ch_names"]), 2750))
    raw = _annotated(mne.io.RawArray(data, info, first_samp=70, verbose="error"))
    raw.info["bads"] = [raw.ch_names[3]]
    _write(tmp_path / "meg", raw, "FIF", subject="a", session="1", task="go", datatype="meg")
    folder = tmp_path / "meg" / "sub-a" / "ses-1" / "meg"
    shutil.copy(
        folder / "sub-a_ses-1_task-go_meg.fif", folder / "sub-a_ses-1_acq-crosstalk_meg.fif"
    )
    _write(
        tmp_path / "meg",
        raw,
        "FIF",
        subject="emptyroom",
        session="20200101",
        task="noise",
        datatype="meg",
    )
    read = read_bids(tmp_path / "meg")  # neither the crosstalk nor the empty room
    assert read.get_channel_types() == raw.get_channel_types()
    assert read.info["bads"] == raw.info["bads"]
    np.testing.assert_allclose(read.get_data(), raw.get_data(), rtol=0, atol=2e-7 * data.max())  # T
    for ours, theirs in zip(read.info["chs"], raw.info["chs"], strict=True):
        np.testing.assert_allclose(ours["loc"], theirs["loc"], atol=1e-7)
        assert ours["coord_frame"] == theirs["coord_frame"]
    for event, samples in EVENTS.items():
        np.testing.assert_array_equal(_samples(read, event), samples)
    empty = read_bids(tmp_path / "meg", subject="emptyroom")
    assert empty.n_times == raw.n_times


def test_maxshield_data_are_refused_as_in_plain_files(tmp_path: Path) -> None:
    info = mne.channels.read_meg_canonical_info("neuromag", verbose="error")
    with info._unlock():
        info["sfreq"], info["lowpass"], info["maxshield"] = 250.0, 125.0, True
    raw = mne.io.RawArray(np.zeros((len(info["ch_names"]), 500)), info, verbose="error")
    _write(tmp_path / "meg", raw, "FIF", subject="a", task="rest", datatype="meg")
    with pytest.raises(InputError, match=r"sub-a_task-rest_meg.fif: .*Active Shielding"):
        read_bids(tmp_path / "meg")


def test_reading_is_silent_and_writes_nothing(
    dataset: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (dataset / "participants.tsv").unlink()  # something to warn about
    handlers = [h for h in mne.utils.logger.handlers if not isinstance(h, logging.FileHandler)]
    monkeypatch.setattr(mne.utils.logger, "handlers", handlers)  # MNE prints more beside pytest's
    before = _contents(dataset)
    with warnings.catch_warnings(), caplog.at_level(logging.DEBUG, "nmm_infer"):
        warnings.simplefilter("error")
        _visual(dataset)
    assert capfd.readouterr() == ("", "")
    assert "participants.tsv file not found" in caplog.text
    ours = [record for record in caplog.records if record.name.startswith("nmm_infer")]
    assert {record.levelno for record in ours} == {logging.DEBUG}
    assert _contents(dataset) == before


def test_a_folder_and_a_file_are_read_by_one_function(
    written: Path, raws: dict[str, mne.io.RawArray]
) -> None:
    read = read_recording(written, subject="01", task="rest")
    (file,) = written.rglob("*task-rest_eeg.vhdr")
    plain = read_recording(file)
    np.testing.assert_array_equal(read.get_data(), plain.get_data())
    np.testing.assert_array_equal(_samples(read, "go"), GO)
    assert plain.info["bads"] == []  # they are in channels.tsv


def test_mne_bids_is_imported_when_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mne_bids", None)
    runpy.run_path(bids.__file__)


# What is refused


def _missing_package(root: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setitem(sys.modules, "mne_bids", None)


def _no_description(root: Path, patch: pytest.MonkeyPatch) -> None:
    (root / "dataset_description.json").unlink()


def _no_data(root: Path, patch: pytest.MonkeyPatch) -> None:
    for file in root.rglob("*.vhdr"):
        file.unlink()


def _cut(root: Path, patch: pytest.MonkeyPatch) -> None:
    (file,) = root.rglob("sub-01_task-visual_eeg.eeg")
    file.write_bytes(file.read_bytes()[:100_001])


def _damaged_events(root: Path, patch: pytest.MonkeyPatch) -> None:
    next(root.rglob("sub-01_task-visual_events.tsv")).write_text("my\tthesis\n1\t2\n")


def _damaged_coordinates(root: Path, patch: pytest.MonkeyPatch) -> None:
    next((root / "sub-01").rglob("*coordsystem.json")).write_text("{")


def _other_channels(root: Path, patch: pytest.MonkeyPatch) -> None:
    file = next(root.rglob("sub-01_task-visual_channels.tsv"))
    file.write_text(file.read_text().replace("Oz\t", "Inion\t"))


def _two_formats(root: Path, patch: pytest.MonkeyPatch) -> None:
    (root / "sub-01" / "eeg" / "sub-01_task-visual_eeg.edf").write_bytes(b"0")


def _one_without(root: Path, patch: pytest.MonkeyPatch) -> None:
    folder = root / "sub-01" / "eeg"
    for file in folder.glob("sub-01_task-visual_*"):
        copy = folder / file.name.replace("visual_", "visual_acq-low_")
        copy.write_bytes(file.read_bytes().replace(b"visual_eeg", b"visual_acq-low_eeg"))


def _nothing(root: Path, patch: pytest.MonkeyPatch) -> None:
    pass


VISUAL = {"subject": "01", "task": "visual"}


@pytest.mark.parametrize(
    ("damage", "entities", "message"),
    [
        (_missing_package, VISUAL, r"not installed: pip install 'nmm-infer\[bids\]'$"),
        (_no_description, VISUAL, "dataset: has no dataset_description.json; give the top folder"),
        (_no_data, VISUAL, "no EEG or MEG recording in it .*downloaded"),
        (_nothing, {}, "dataset: there are subjects 01, 02; say which$"),
        (_nothing, {"subject": "01"}, "dataset: there are tasks rest, visual; say which$"),
        (_nothing, {"subject": "02"}, "dataset: there are runs 01, 02; say which$"),
        (_nothing, {"task": "visual"}, "there are subjects 01, 02; say which$"),
        (_nothing, {"subject": "03"}, "no subject '03'; its subjects: 01, 02$"),
        (_nothing, {"subject": "02", "task": "rest"}, "no task 'rest'; its tasks: visual$"),
        (_nothing, {"subject": "0."}, "no subject '0.'"),
        (_nothing, VISUAL | {"session": "a"}, r"no session 'a'; its sessions: \"\" \(none\)$"),
        (_nothing, {"subject": "02", "run": 3}, "no run '3'; its runs: 01, 02$"),
        (_nothing, {"datatype": "meg"}, "no datatype 'meg'; its datatypes: eeg$"),
        (_one_without, VISUAL, r"there are acquisitions \"\" \(none\), low; say which$"),
        (_two_formats, VISUAL, "several files fit: .*edf.*vhdr.*; give one"),
        (_cut, VISUAL, r"sub-01_task-visual_eeg.vhdr: cut off"),
        (_damaged_events, VISUAL, r"sub-01_task-visual_eeg.vhdr: cannot be read"),
        (_damaged_coordinates, VISUAL, r"sub-01_task-visual_eeg.vhdr: cannot be read"),
        (_other_channels, VISUAL, r"cannot be read.*Channel mismatch"),
    ],
)
def test_what_cannot_be_read_is_told_in_one_line(
    damage: Callable[[Path, pytest.MonkeyPatch], None],
    entities: dict[str, str],
    message: str,
    dataset: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    damage(dataset, monkeypatch)
    with pytest.raises(InputError, match=message) as caught:
        read_bids(dataset, **entities)
    assert "\n" not in str(caught.value)


def test_an_empty_label_is_the_recording_without(dataset: Path, monkeypatch: object) -> None:
    _one_without(dataset, monkeypatch)
    without = read_bids(dataset, **VISUAL, acquisition="")
    assert "acq" not in Path(without.filenames[0]).name
    low = read_bids(dataset, **VISUAL, acquisition="low")
    assert "acq-low" in Path(low.filenames[0]).name


def test_folders_and_files_that_are_no_dataset(written: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none: no such folder"):
        read_bids(tmp_path / "none")
    with pytest.raises(InputError, match="is a folder without dataset_desc"):
        read_recording(written / "sub-01")
    (file,) = written.rglob("*task-rest_eeg.vhdr")
    with pytest.raises(InputError, match="is a file; subject chooses"):
        read_recording(file, subject="01")


# The command line


def test_the_command_line_reads_a_dataset(
    written: Path,
    raws: dict[str, mne.io.RawArray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: dict[str, Any] = {}

    def infer(recording: Observation, *_: object, **__: object) -> SimpleNamespace:
        seen["recording"] = recording
        return SimpleNamespace(observation=recording)

    def write(result: object, folder: Path, title: str) -> None:
        seen["title"] = title
        folder.mkdir(exist_ok=True)

    # Stand-ins, because the rooms themselves take long to import.
    monkeypatch.setitem(sys.modules, "nmm_infer.workflow", SimpleNamespace(infer=infer))
    monkeypatch.setitem(sys.modules, "nmm_infer.report", SimpleNamespace(write_results=write))
    options = ["--subject", "02", "--task", "visual", "--run", "2", "--output", tmp_path / "out"]
    monkeypatch.setattr(sys, "argv", ["nmm-infer", "infer", *map(str, [written, *options])])
    with pytest.raises(SystemExit) as exit_:
        cli.app()
    assert exit_.value.code == 0
    expected = observe(raws["02_task-visual_run-02"], SpontaneousProtocol())
    np.testing.assert_allclose(seen["recording"].data, expected.data, atol=1e-10)
    assert seen["title"].startswith("sub-02_task-visual_run-02")


def test_the_command_line_asks_which(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [written, "--task", "visual", "--output", tmp_path / "out"]
    monkeypatch.setattr(sys, "argv", ["nmm-infer", "infer", *map(str, options)])
    with pytest.raises(InputError, match="there are subjects 01, 02; say which"):
        cli.app()

"""The whole job, from Python and from the command line, with tiny budgets."""

from __future__ import annotations

import base64
import logging
import os
import re
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from copy import copy
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import mne
import numpy as np
import pytest
import xarray as xr
from filelock import FileLock
from rich.console import Console

from nmm_infer import cli
from nmm_infer._arviz import arviz as az
from nmm_infer._locks import locked
from nmm_infer.anatomy import Head
from nmm_infer.campaign.store import Store
from nmm_infer.errors import InputError
from nmm_infer.observation import read_recording
from nmm_infer.parameters import Prior
from nmm_infer.report import write_report, write_results
from nmm_infer.study import Study
from nmm_infer.training import loop
from nmm_infer.workflow import Result, infer

TOML = """
[budget]
training = 120
calibration = 100
predictive = 10
draws = 100
[encoder]
width = 8
layers = 1
patch = 8
[density]
kind = "maf"
transforms = 1
hidden = 8
[pretraining]
epochs = 1
[training]
epochs = 1
"""
SPONTANEOUS = '[protocol]\nkind = "spontaneous"\nwindow = 1.0\nduration = 2.0\nh_freq = 30.0\n'
FILES = {"posterior.nc", "sources.nc", "report.html"}
FORMATS = (".fif", ".set", ".edf", ".bdf", ".vhdr")


def _raw(names: list[str], seed: int = 0, sfreq: float = 128.0) -> mne.io.RawArray:
    rng = np.random.default_rng(seed)
    n = round(24 * sfreq)
    data = 4e-6 * rng.standard_normal((len(names), n))
    t = np.arange(round(0.4 * sfreq)) / sfreq
    wave = np.exp(-0.5 * ((t - 0.13) / 0.025) ** 2)
    for onset in range(1, 23):
        place = round(onset * sfreq)
        for name in ("O1", "Oz", "O2", "PO7"):
            data[names.index(name), place : place + len(t)] += 1e-5 * wave
    info = mne.create_info(list(names), sfreq, "eeg", verbose="error")
    raw = mne.io.RawArray(data, info, verbose="error")
    return raw.set_annotations(mne.Annotations(np.arange(1, 23), 0.0, "go"), verbose="error")


@pytest.fixture(scope="module")
def raw(info: mne.Info, head: Head) -> mne.io.RawArray:
    return _raw(list(info["ch_names"]))


@pytest.fixture(scope="module")
def files(raw: mne.io.RawArray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same recording in the five formats."""
    folder = tmp_path_factory.mktemp("files")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        raw.save(folder / "rec_raw.fif", verbose="error")
        for suffix in (".set", ".edf", ".bdf", ".vhdr"):
            mne.export.export_raw(folder / f"rec{suffix}", raw, verbose="error")
    (folder / "rec_raw.fif").rename(folder / "rec.fif")
    (folder / "tiny.toml").write_text(TOML)
    return folder


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., tuple[int, str]]:
    """Run the command line in this process; return exit code and standard error."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["nmm-infer", *map(str, arguments)])
        root = logging.getLogger()
        handlers, level = root.handlers[:], root.level
        capfd.readouterr()
        code = 0
        try:
            with warnings.catch_warnings():
                cli.main()
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        finally:
            root.handlers[:] = handlers
            root.setLevel(level)
        return code, capfd.readouterr().err

    return call


def _tiny(**changes: object) -> Study:
    import tomllib

    return Study(**tomllib.loads(TOML)).replace(**changes)


@pytest.fixture(scope="module")
def result(raw: mne.io.RawArray, head: Head) -> Result:
    return infer(raw, _tiny(), events="go", head=head, progress=False)


# The Python interface


def test_the_strongest_region_is_occipital(result: Result) -> None:
    assert re.match("lateraloccipital|pericalcarine|cuneus|lingual|fusiform", result.region)
    assert result.sources["strength"].idxmax("region").item() == result.region


def test_the_posterior_file(result: Result, tmp_path: Path) -> None:
    write_results(result, tmp_path / "out")
    assert {p.name for p in (tmp_path / "out").iterdir()} == FILES
    data = az.from_netcdf(str(tmp_path / "out" / "posterior.nc"))
    assert {"posterior", "prior", "posterior_predictive", "observed_data"} <= set(data.groups())
    for group in data.groups():
        for name, variable in data[group].variables.items():
            assert "units" in variable.attrs, (group, name)
    posterior, prior = data["posterior"], data["prior"]
    free = [p.name for p in result.prior.parameters if p.distribution != "fixed"]
    assert list(posterior.data_vars) == list(prior.data_vars) == free
    assert dict(posterior.sizes) == {"chain": 1, "draw": 100}
    for name in free:
        parameter = result.prior[name]
        assert posterior[name].attrs["units"] == parameter.unit
        if parameter.distribution == "uniform":
            assert parameter.low <= float(posterior[name].min())
            assert float(posterior[name].max()) <= parameter.high
    np.testing.assert_allclose(
        posterior["A"].values[0], result.draws["posterior"].sel(parameter="A")
    )
    observed = data["observed_data"]["moment"]
    np.testing.assert_array_equal(observed, result.observed)
    assert observed.attrs["units"] == "nA*m"
    assert observed.coords["time"].attrs["units"] == "s"
    assert data["posterior_predictive"]["moment"].shape == (1, 10, 41)
    assert "study" in data.attrs and "versions" in data.attrs
    assert az.summary(data, kind="stats").shape[0] == len(free)


def test_the_sources_file(result: Result, head: Head, tmp_path: Path) -> None:
    write_results(result, tmp_path / "out")
    with xr.open_dataset(tmp_path / "out" / "sources.nc") as sources:
        sources.load()
    courses = sources["region_courses"]
    assert courses.dims == ("region", "time")
    assert courses.coords["region"].values.tolist() == head.regions
    assert courses.attrs["units"] == "nA*m"
    for name, variable in sources.variables.items():
        assert "units" in variable.attrs, name
    # The course of the chosen region is what the estimator saw.
    np.testing.assert_allclose(
        courses.sel(region=result.region), result.observed, rtol=1e-3, atol=1e-3
    )


def test_the_report_stands_alone(result: Result, tmp_path: Path) -> None:
    write_results(result, tmp_path / "out")
    text = (tmp_path / "out" / "report.html").read_text()
    assert not re.search(r"""(src|href)\s*=\s*["']?\s*(https?:)?//""", text)
    assert "<script src" not in text and "@import" not in text and "url(http" not in text
    assert result.region in text
    assert text.count("data:image/") >= 3


HOSTILE = "a$\\frac$b <script>alert(1)</script> \"'&[red][/x] \x1b[31m\x00\u202e\udcff -->"


def _renamed(data: Any, **names: str) -> Any:
    """Give all that has one name, of a region or a parameter, another."""
    coords = {
        dim: [{name: HOSTILE}.get(str(n), str(n)) for n in data.coords[dim].values]
        for dim, name in names.items()
        if dim in data.coords
    }
    return data.assign_coords(coords)


@pytest.fixture(scope="module")
def hostile(result: Result) -> Result:
    """A result whose names, wherever they come from, want to be markup."""
    seen, region = result.observation, result.region
    info = seen.info.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mne.rename_channels(info, {"Cz": HOSTILE}, verbose="error")
    head = copy(seen.head)
    labels = [label.copy() for label in head.labels]
    for label in labels:
        label.name = HOSTILE if label.name == region else label.name
    object.__setattr__(head, "labels", labels)
    estimator = copy(result.estimator)
    estimator.prior_ = Prior(
        [
            replace(p, name=HOSTILE, symbol="", unit="$1/s") if p.name == "A" else p
            for p in result.estimator.prior_.parameters
        ]
    )
    bad = replace(
        result,
        observation=replace(seen, info=info, head=head, notes=[HOSTILE], source=HOSTILE),
        estimator=estimator,
        region=HOSTILE,
        draws={name: _renamed(draws, parameter="A") for name, draws in result.draws.items()},
        calibration=_renamed(result.calibration, parameter="A"),
        candidates=_renamed(result.candidates, region=region),
    )
    vars(bad)["sources"] = _renamed(result.sources, region=region)
    return bad


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text, self.images = "", list[bytes]()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)
        assert {name for name, _ in attrs} <= {
            "lang", "charset", "name", "content", "class", "style", "alt", "src"
        }  # fmt: skip
        source = dict(attrs).get("src") or ""
        if source.startswith("data:image/svg+xml;base64,"):
            self.images.append(base64.b64decode(source.partition(",")[2]))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_names_are_no_markup_in_a_report(hostile: Result, tmp_path: Path) -> None:
    path = write_report(hostile, tmp_path / "report.html", HOSTILE)
    page = _Page()
    page.feed(path.read_text(encoding="utf-8"))
    assert "script" not in page.tags
    shown = "a$\\frac$b <script>alert(1)</script> \"'&[red][/x] \ufffd -->"
    assert page.text.count(shown) >= 6  # title, heading, card, note, choice, two tables
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\ud800-\udfff]", page.text)
    assert len(page.images) >= 5
    for image in page.images:
        root = ElementTree.fromstring(image)  # it is whole, though names stand in its comments
        assert not [e for e in root.iter() if e.tag.endswith("script")]


def test_names_are_no_markup_in_the_console(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "[red]a[" / "b]\x1b[31m"
    folder.mkdir(parents=True)
    (folder / "report.html").write_text("")
    cli._list(Console(width=300), folder, ("report.html",))
    assert f"{tmp_path}/[red]a[/b]/report.html" in capfd.readouterr().out
    record = logging.LogRecord("a", 20, "", 0, "two\nlines \x1b[1mof\x9b31m %s", ("\x07it",), None)
    cli._Stderr().emit(record)
    assert capfd.readouterr().err == "nmm-infer: two lines of it\n"


def test_an_error_message_is_one_clean_line(
    call: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    code, err = call("infer", "no\n\x1b[2Jfile\u202e.fif", "--output", tmp_path / "out")
    assert code == 2
    assert err == "nmm-infer: no file.fif: no such file\n"


def test_source_estimates(result: Result, head: Head) -> None:
    stc = result.source_estimate()
    assert isinstance(stc, mne.SourceEstimate)
    assert stc.data.shape == (head.forward["nsource"], 41)
    np.testing.assert_allclose(stc.times, result.study.protocol.times, atol=1e-9)
    courses = mne.extract_label_time_course(
        stc, list(head.labels), head.forward["src"], mode="mean_flip", verbose="error"
    )
    got = result.sources["region_courses"].values
    np.testing.assert_allclose(1e9 * courses, got, atol=1e-5 * np.abs(got).max())


def test_candidates_and_summary(result: Result) -> None:
    assert float(result.candidates.sum()) == pytest.approx(1.0)
    assert float(result.candidates.min()) >= 0
    summary = result.summary()
    mean = result.draws["posterior"].mean("simulation")
    np.testing.assert_allclose(summary["mean"], mean.sel(parameter=summary["parameter"].values))
    assert result.calibration.attrs["runs"] == 100


def test_seeds(raw: mne.io.RawArray, head: Head, result: Result, random_state_guard: None) -> None:
    again = infer(raw, _tiny(), events="go", head=head, progress=False)
    np.testing.assert_array_equal(again.draws["posterior"], result.draws["posterior"])
    np.testing.assert_array_equal(again.predicted, result.predicted)


def test_an_interrupted_job_resumes_in_all_its_parts(
    raw: mne.io.RawArray,
    head: Head,
    result: Result,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = tmp_path / "training.zarr"
    written: list[tuple[str, int]] = []
    fits: list[str] = []
    write, fit = Store.write, loop._fit
    stop = {"fit": "finish", "chunk": ""}

    def fitting(module: Any, data: Any, kept: Any, *rest: Any, **more: Any) -> list[float]:
        if kept.folder.name == stop["fit"]:
            raise RuntimeError("interrupted")
        fits.append(kept.folder.name)
        return fit(module, data, kept, *rest, **more)

    def writing(self: Store, start: int, block: Any) -> None:
        if self.path.name == stop["chunk"] and start > 0:
            raise RuntimeError("interrupted")
        write(self, start, block)
        written.append((self.path.name, start))

    def job(**changes: Any) -> Result:
        written.clear()
        fits.clear()
        return infer(raw, _tiny(**changes), events="go", head=head, store=store, progress=False)

    monkeypatch.setattr(loop, "_fit", fitting)
    monkeypatch.setattr(Store, "write", writing)
    with pytest.raises(RuntimeError, match="interrupted"):
        job()
    assert fits == ["regressor", "posterior"]
    stop.update(fit="", chunk="training-calibration.zarr")
    with pytest.raises(RuntimeError, match="interrupted"):
        job()
    assert fits == ["finish"]
    assert written == [("training-calibration.zarr", 0)]
    stop["chunk"] = ""
    resumed = job()
    assert fits == []
    assert written == [("training-calibration.zarr", 64)]
    assert {p.name for p in tmp_path.iterdir()} == set(cli.WORK)
    np.testing.assert_array_equal(resumed.draws["posterior"], result.draws["posterior"])
    np.testing.assert_array_equal(resumed.predicted, result.predicted)
    xr.testing.assert_equal(resumed.calibration, result.calibration)
    # What another study left is made anew, part by part.
    other = job(budget={"calibration": 110}, finishing={"epochs": 2})
    assert other.calibration.attrs["runs"] == 110
    assert {name for name, _ in written} == {"training-calibration.zarr"}
    assert fits == ["regressor", "posterior", "finish"]
    with pytest.raises(InputError, match="written by another study"):
        job(budget={"training": 130})


@pytest.mark.slow
def test_another_seed(raw: mne.io.RawArray, head: Head, result: Result) -> None:
    other = infer(raw, _tiny(seed=1), events="go", head=head, progress=False)
    assert (other.draws["posterior"].values != result.draws["posterior"].values).any()
    np.testing.assert_array_equal(other.observed, result.observed)


@pytest.mark.slow
def test_an_evoked_and_a_region(
    raw: mne.io.RawArray, head: Head, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    filtered = raw.copy().filter(0.5, 30.0, verbose="error")
    events, event_id = mne.events_from_annotations(filtered, verbose="error")
    evoked = mne.Epochs(
        filtered, events, event_id, -0.6, 0.5, baseline=None, verbose="error"
    ).average()
    result = infer(evoked, _tiny(), region="cuneus-lh", head=head, progress=False)
    assert result.region == "cuneus-lh"
    assert result.observation.n_averages == 22
    assert result.candidates.sel(region="cuneus-lh") == 1
    assert list(tmp_path.iterdir()) == []  # a library writes nothing by itself


@pytest.mark.slow
def test_ongoing_activity(raw: mne.io.RawArray, head: Head, tmp_path: Path) -> None:
    protocol = {"kind": "spontaneous", "window": 1.0, "duration": 2.0, "h_freq": 30.0}
    study = Study(**{**_tiny().model_dump(exclude={"protocol", "prior"}), "protocol": protocol})
    result = infer(raw, study, head=head, progress=False)
    write_results(result, tmp_path / "out")
    data = az.from_netcdf(str(tmp_path / "out" / "posterior.nc"))
    assert data["observed_data"]["power"].attrs["units"] == "(nA*m)**2/Hz"
    assert data["observed_data"]["power"].dims == ("frequency",)
    assert (data["observed_data"]["power"] > 0).all()
    assert isinstance(result.source_estimate(), mne.SourceEstimate)
    with pytest.raises(InputError, match="spontaneous"):
        infer(raw, study, events="go", head=head, progress=False)


# Files


@pytest.mark.parametrize("suffix", FORMATS)
def test_formats_are_read(files: Path, raw: mne.io.RawArray, suffix: str) -> None:
    read = read_recording(files / f"rec{suffix}")
    assert read.ch_names == raw.ch_names
    assert read.info["sfreq"] == 128.0
    n = min(read.n_times, raw.n_times)
    np.testing.assert_allclose(read.get_data()[:, :n], raw.get_data()[:, :n], atol=1e-8)
    assert {"go"} == {str(d).split("/")[-1] for d in read.annotations.description if "go" in d}


def test_the_average_of_a_file_is_named(tmp_path: Path) -> None:
    info = mne.create_info(["Fz", "Cz"], 100.0, "eeg")
    averages = [
        mne.EvokedArray(np.full((2, 9), k), info, comment=name, verbose="error")
        for k, name in enumerate(("left", "right"))
    ]
    spread = averages[1].copy()
    spread.kind = "standard_error"
    path = tmp_path / "two-ave.fif"
    mne.write_evokeds(path, [*averages, spread], verbose="error")
    for k, name in enumerate(("left", "right")):
        read = read_recording(path, events=name)
        assert isinstance(read, mne.Evoked)
        np.testing.assert_allclose(read.data, k)
    with pytest.raises(
        InputError, match=r"two-ave.fif: averages in it: 'left', 'right'; say which"
    ):
        read_recording(path)
    with pytest.raises(InputError, match=r"no event 'up' .*; present: left \(1\), right"):
        read_recording(path, events="up")
    mne.write_evokeds(tmp_path / "one-ave.fif", averages[1:], verbose="error")
    np.testing.assert_allclose(read_recording(tmp_path / "one-ave.fif").data, 1.0)  # type: ignore[union-attr]


def test_a_study_is_not_a_path(raw: mne.io.RawArray) -> None:
    with pytest.raises(InputError, match=r"study is 'my\.toml': .* by Study\.read"):
        infer(raw, "my.toml")  # type: ignore[arg-type]


def _cut(source: Path, folder: Path, suffix: str) -> Path:
    for file in source.glob("rec.*"):
        if file.stem == "rec" and file.suffix in (suffix, ".fdt", ".eeg", ".vmrk"):
            (folder / file.name).write_bytes(file.read_bytes())
    target = folder / f"rec{suffix}"
    if suffix == ".vhdr":
        target = folder / "rec.eeg"
    elif (folder / "rec.fdt").exists() and suffix == ".set":
        target = folder / "rec.fdt"
    content = target.read_bytes()
    target.write_bytes(content[: len(content) // 2])
    return folder / f"rec{suffix}"


def _bad(what: str, files: Path, folder: Path) -> tuple[list[object], str]:
    """Arguments of a bad command, and what the message must say."""
    good = [files / "rec.fif", "--events", "go", "--study", files / "tiny.toml"]
    if what == "missing":
        return [folder / "none.fif", *good[1:]], r"none\.fif: no such file"
    if what == "text":
        (folder / "text.fif").write_text("my thesis\n" * 100)
        return [folder / "text.fif", *good[1:]], r"text\.fif: is not a \.fif recording"
    if what.startswith("cut"):
        path = _cut(files, folder, what.removeprefix("cut "))
        return [path, *good[1:]], re.escape(path.name)
    if what == "format":
        (folder / "notes.txt").write_text("my thesis")
        return [folder / "notes.txt", *good[1:]], "unknown format"
    if what == "event":
        return [good[0], "--events", "went", *good[3:]], r"no event 'went'.*go \(22\)"
    if what == "positions":
        raw = mne.io.read_raw_fif(files / "rec.fif", preload=True, verbose="error")
        raw.rename_channels({n: f"X{k}" for k, n in enumerate(raw.ch_names)})
        raw.save(folder / "nowhere.fif", verbose="error")
        return [folder / "nowhere.fif", *good[1:]], "no position"
    if what == "key":
        (folder / "bad.toml").write_text("[budget]\ntrainig = 5\n")
        return [*good[:4], folder / "bad.toml"], r"bad\.toml: unknown key 'budget.trainig'"
    if what == "region":
        return [*good, "--region", "V1"], "no region 'V1'"
    if what == "estimator":
        return [*good, "--estimator", "magic"], "--estimator 'magic'"
    raise AssertionError(what)


@pytest.mark.parametrize(
    "what",
    [
        *("missing", "text", "format", "event", "positions", "key", "region", "estimator"),
        *(f"cut {suffix}" for suffix in FORMATS),
    ],
)
def test_bad_input_is_one_line(
    what: str, files: Path, call: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        arguments, why = _bad(what, files, folder)
    before = {p.name for p in folder.iterdir()}
    code, err = call("infer", *arguments, "--output", tmp_path / "out")
    assert code == 2, err
    assert "Traceback" not in err
    last = err.strip().splitlines()[-1]
    assert last.startswith("nmm-infer: ")
    assert re.search(why, last), last
    if what != "positions":  # there, what was left out is logged too
        assert len(_without_progress(err)) == 1, err
    assert {p.name for p in tmp_path.iterdir()} == {"in"}
    assert {p.name for p in folder.iterdir()} == before


def _without_progress(err: str) -> list[str]:
    return [line for line in err.splitlines() if line.strip() and "Head model" not in line]


def test_an_existing_folder_is_not_touched(
    files: Path, call: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    code, err = call("infer", files / "rec.fif", "--events", "go", "--output", tmp_path / "out")
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert "exists already" in err and "--overwrite" in err
    assert (tmp_path / "out" / "thesis.txt").read_text() == "mine"
    (tmp_path / "file").write_text("mine")
    code, err = call("infer", files / "rec.fif", "--output", tmp_path / "file", "--overwrite")
    assert code == 2 and "not a folder" in err
    assert (tmp_path / "file").read_text() == "mine"
    code, err = call("infer", files / "rec.fif", "--output", tmp_path / "no" / "out")
    assert code == 2 and "no such folder" in err
    assert {p.name for p in tmp_path.iterdir()} == {"out", "file"}


def test_only_results_are_overwritten(
    files: Path, call: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    code, err = call(
        "infer", files / "rec.fif", "--events", "go", "--output", tmp_path / "out", "--overwrite"
    )
    assert code == 2 and "thesis.txt" in err
    assert (tmp_path / "out" / "thesis.txt").read_text() == "mine"


def test_a_second_job_with_the_same_output_is_refused(
    files: Path, call: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    aside = tmp_path / ".out.partial"
    aside.mkdir()
    (aside / "posterior.nc").write_text("half")
    arguments = ("infer", files / "rec.fif", "--events", "go", "--output", tmp_path / "out")
    with locked(aside, tmp_path / "out"):
        code, err = call(*arguments)
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert f"another process is writing to {tmp_path / 'out'}: wait for it" in err
    assert (aside / "posterior.nc").read_text() == "half"


def test_results_made_meanwhile_are_not_replaced(tmp_path: Path) -> None:
    def job(folder: Path) -> None:
        (folder / "report.html").write_text("mine")
        (folder / "training.zarr").mkdir()
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "report.html").write_text("theirs")

    with pytest.raises(InputError, match="exists already"):
        cli._beside(job, tmp_path / "out", cli.FILES, cli.WORK, False, False)
    assert (tmp_path / "out" / "report.html").read_text() == "theirs"
    assert (tmp_path / ".out.partial" / "training.zarr").exists()
    with pytest.raises(InputError, match="exists already"):
        cli._beside(job, tmp_path / "out", cli.FILES, cli.WORK, False, False)


@pytest.mark.parametrize("keep", [False, True])
def test_what_a_job_resumes_from_is_deleted_at_its_end(tmp_path: Path, keep: bool) -> None:
    def job(folder: Path) -> str:
        for name in cli.WORK:
            (folder / name / "c").mkdir(parents=True)
        (folder / ".training.zarr.tmp").mkdir()
        (folder / "report.html").write_text("new")
        return "done"

    (tmp_path / ".out.old").mkdir()  # a job was killed just before its end
    (tmp_path / ".out.old" / "report.html").write_text("older")
    (tmp_path / "out").mkdir()
    assert cli._beside(job, tmp_path / "out", cli.FILES, cli.WORK, True, keep) == "done"
    left = {p.name for p in (tmp_path / "out").iterdir()}
    assert left == {"report.html"} | ({"training.zarr"} if keep else set())
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_what_was_simulated_outlives_an_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def job(folder: Path) -> None:
        (folder / "training.zarr").mkdir()
        raise InputError("the disk is full")

    with caplog.at_level("INFO"), pytest.raises(InputError, match="the disk is full"):
        cli._beside(job, tmp_path / "out", cli.FILES, cli.WORK, False, False)
    assert (tmp_path / ".out.partial" / "training.zarr").exists()
    assert "the same command goes on" in caplog.text


@pytest.mark.parametrize("command", ["infer", "demo", "simulate", "sensitivity"])
def test_commands_ask_before_a_model_file_is_run(
    files: Path, call: Callable[..., tuple[int, str]], tmp_path: Path, command: str
) -> None:
    (tmp_path / "in").mkdir()
    study, code = tmp_path / "in" / "study.toml", tmp_path / "in" / "model.py"
    study.write_text(f'model_file = "{code.name}"\n')
    code.write_text("from pathlib import Path\nPath(__file__).with_name('ran').touch()\n")
    arguments = {
        "infer": (files / "rec.fif", "--study", study),
        "demo": ("--study", study),
        "simulate": (study, "--simulations", 10),
        "sensitivity": (study,),
    }[command]
    exit_code, err = call(command, *arguments, "--output", tmp_path / "out")
    assert exit_code == 2
    assert len(err.strip().splitlines()) == 1
    assert str(code) in err and "--trust-model-file" in err
    assert not code.with_name("ran").exists()
    assert {p.name for p in tmp_path.iterdir()} == {"in"}
    arguments = (*arguments, "--trust-model-file")
    exit_code, err = call(command, *arguments, "--output", tmp_path / "out")
    assert exit_code == 2 and "registers no model" in err
    assert code.with_name("ran").exists()


def test_an_interrupted_campaign_outlives_a_mistyped_command(
    files: Path, call: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    kept = tmp_path / ".out.partial" / "training.zarr"
    kept.mkdir(parents=True)
    (kept / "zarr.json").write_text("{}")
    code, _ = call("infer", files / "rec.fif", "--events", "went", "--output", tmp_path / "out")
    assert code == 2
    assert (kept / "zarr.json").exists()


def test_a_failed_overwrite_keeps_the_old_results(
    files: Path, call: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "posterior.nc").write_text("old")
    code, _ = call(
        "infer", files / "rec.fif", "--events", "went", "--output", tmp_path / "out", "--overwrite"
    )
    assert code == 2
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "posterior.nc").read_text() == "old"


def test_the_command_line_does_the_job(
    files: Path, call: Callable[..., tuple[int, str]], result: Result, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.html").write_text("old")
    code, err = call(
        "infer", files / "rec.fif", "--events", "go", "--study", files / "tiny.toml",
        "--output", "out", "--overwrite", "--seed", 0,
    )  # fmt: skip
    assert code == 0, err
    assert {p.name for p in (tmp_path / "out").iterdir()} == FILES
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    data = az.from_netcdf(str(tmp_path / "out" / "posterior.nc"))
    # Python and the command line run the same code (the file stores single precision).
    np.testing.assert_allclose(data["observed_data"]["moment"], result.observed, rtol=1e-2, atol=1)
    for name in ("A", "b"):
        assert data["posterior"][name].shape == (1, 100)


def test_regions_are_listed(call: Callable[..., tuple[int, str]], head: Head) -> None:
    code, err = call("regions")
    assert code == 0 and err == ""


def _command(files: Path, folder: Path, *more: str) -> list[str]:
    return [
        sys.executable, "-c", "from nmm_infer.cli import main; main()", "infer",
        str(files / "rec.fif"), "--events", "go", "--study", str(folder / "long.toml"),
        "--output", str(folder / "out"), *more,
    ]  # fmt: skip


@pytest.mark.slow
def test_a_killed_job_resumes_and_ends_the_same(
    files: Path, head: Head, lock: FileLock, tmp_path: Path
) -> None:
    (tmp_path / "long.toml").write_text(TOML.replace("training = 120", "training = 3000"))
    environment = {**os.environ, "COLUMNS": "80"}
    command = _command(files, tmp_path, "--keep-campaign")
    store = tmp_path / ".out.partial" / "training.zarr"
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment)
    status = store / "status" / "c"
    for _ in range(1200):
        if status.exists() and any(status.iterdir()):
            break
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    done = {p.name for p in status.iterdir()}
    assert 0 < len(done) < 6  # killed within the campaign
    assert not (tmp_path / "out").exists()
    subprocess.run(command, check=True, env=environment, capture_output=True)
    assert {p.name for p in (tmp_path / "out").iterdir()} == {*FILES, "training.zarr"}
    assert not (tmp_path / ".out.partial").exists()
    resumed = az.from_netcdf(str(tmp_path / "out" / "posterior.nc"))["posterior"].load()
    again = _command(files, tmp_path, "--overwrite")
    subprocess.run(again, check=True, env=environment, capture_output=True)
    whole = az.from_netcdf(str(tmp_path / "out" / "posterior.nc"))["posterior"].load()
    for name in whole.data_vars:
        np.testing.assert_array_equal(whole[name], resumed[name])

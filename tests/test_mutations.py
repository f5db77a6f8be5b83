"""Mutated studies and recordings: each is read, or refused in one line; none takes long."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import re
import resource
import shutil
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import mne
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from recording_files import write_cnt, write_gdf, write_set
from test_recordings import NAMES, _epochs, _raw

from nmm_infer import cli, workflow
from nmm_infer.errors import InputError
from nmm_infer.runs import build_task
from nmm_infer.study import Study

pytestmark = pytest.mark.slow

SECONDS, GIBIBYTES = 20, 4.0
#: Names as files have them, and as an enemy would write them.
NASTY = st.text(max_size=20) | st.sampled_from(
    ["<script>alert(1)</script>", "a$\\frac{$b", "\x1b[31mred", "[red]", "a\nb", "../../x", "", " "]
)
_MANY = settings(
    max_examples=250,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)


class _Answered(BaseException):
    """All that can be wrong with the input was looked at."""


class _TooLongError(BaseException):
    """A case took longer than it may."""


@contextlib.contextmanager
def _within(seconds: int) -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise _TooLongError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., str]:
    """Give arguments to the command line, which stops where the simulations would begin."""

    def stop(*_: Any, **__: Any) -> None:
        raise _Answered

    monkeypatch.setattr(workflow, "infer", stop)

    def judge(*arguments: object, may: str = "") -> str:
        output = tmp_path / "out"
        argv = ["nmm-infer", "infer", *map(str, arguments), "--output", str(output)]
        monkeypatch.setattr(sys, "argv", argv)
        root, said = logging.getLogger(), io.StringIO()
        handlers, level = root.handlers[:], root.level
        code: object = 0
        try:
            with (
                contextlib.redirect_stderr(said),
                contextlib.redirect_stdout(io.StringIO()),
                warnings.catch_warnings(),
                _within(SECONDS),
            ):
                cli.main()
        except _Answered:
            pass
        except SystemExit as exit_:
            code = exit_.code
        finally:
            root.handlers[:] = handlers
            root.setLevel(level)
            shutil.rmtree(tmp_path / ".out.partial", ignore_errors=True)
        lines = [line for line in said.getvalue().splitlines() if line.strip()]
        assert code in (0, 2), (code, lines)
        assert not any("Traceback" in line for line in lines), lines
        if code == 2:  # notes may come before
            assert lines and lines[-1].startswith("nmm-infer: "), lines
            assert len(lines[-1]) < 4000
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", said.getvalue())
        return lines[-1] if code == 2 else ""

    yield judge
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    assert peak < GIBIBYTES, f"{peak:.1f} GiB"


# Studies


def _tables() -> dict[str, Any]:
    return Study.evoked().model_dump(exclude_none=True)


VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=True, allow_infinity=True)
    | NASTY
    | st.lists(st.integers() | NASTY, max_size=3)
    | st.dictionaries(NASTY, st.integers() | NASTY, max_size=2)
)


@st.composite
def _mutated(draw: st.DrawFn) -> dict[str, Any]:
    """The default study with a few entries changed, added or taken away."""
    study = copy.deepcopy(_tables())
    if draw(st.booleans()):
        study["protocol"] = Study.spontaneous().protocol.model_dump(exclude_none=True)
    if draw(st.booleans()):
        study["prior"] = {draw(st.sampled_from(["A", "b", "drive", "e0", "Q"])): {"low": 3.0}}
    for _ in range(draw(st.integers(1, 3))):
        table = study
        path = draw(st.lists(st.integers(0, 30), min_size=1, max_size=3))
        for step in path[:-1]:
            inner = [value for value in table.values() if isinstance(value, dict) and value]
            if inner:
                table = inner[step % len(inner)]
        keys = list(table)
        what = draw(st.sampled_from(["change", "add", "scale", "delete"]))
        key = keys[path[-1] % len(keys)]
        if what == "change":
            table[key] = draw(VALUES)
        elif what == "add":
            table[draw(NASTY)] = draw(VALUES)
        elif what == "scale" and isinstance(table[key], float | int):
            table[key] = table[key] * draw(st.sampled_from([-1, 0, 1e-9, 1e3, 1e9]))
        elif what == "delete":
            del table[key]
        if not table:
            break
    return study


def _toml(table: dict[str, Any], name: str = "") -> str:
    """Write what TOML can hold, and what it cannot, as somebody might have typed it."""

    def one(value: Any) -> str:
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, str):
            plain = value.replace("\\", "\\\\").replace('"', '\\"')
            return f'"{plain}"'
        if isinstance(value, dict):
            return "{" + ", ".join(f"{one(k)} = {one(v)}" for k, v in value.items()) + "}"
        if isinstance(value, list | tuple):
            return "[" + ", ".join(map(one, value)) + "]"
        return str(value)

    inner = {key: value for key, value in table.items() if isinstance(value, dict)}
    own = [f"{one(k)} = {one(v)}" for k, v in table.items() if k not in inner and v is not None]
    head = [f"[{name}]"] if name else []
    parts = [
        _toml(value, f"{name}.{one(key)}" if name else one(key)) for key, value in inner.items()
    ]
    return "\n".join([*head, *own, *parts])


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "raw.fif"
    _raw(12.0).save(path, verbose="error")
    return path


def test_mutated_studies(judge: Callable[..., str], recording: Path, tmp_path: Path) -> None:
    path, read = tmp_path / "study.toml", []

    @_MANY
    @given(_mutated())
    def run(study: dict[str, Any]) -> None:
        path.write_text(_toml(study), encoding="utf-8", errors="replace")
        kind = study.get("protocol")
        evoked = not (isinstance(kind, dict) and kind.get("kind") == "spontaneous")
        said = judge(recording, "--study", path, *(["--events", "stim"] if evoked else []))
        read.append(not said)

    run()
    assert len(read) >= 250 and 0.05 < np.mean(read) < 0.95


def test_studies_with_damaged_bytes(
    judge: Callable[..., str], recording: Path, tmp_path: Path
) -> None:
    path, whole, read = tmp_path / "study.toml", _toml(_tables()).encode(), []

    @_MANY
    @given(_damage(len(whole)))
    def run(damage: list[tuple[str, int, bytes]]) -> None:
        path.write_bytes(_damaged(whole, damage))
        read.append(not judge(recording, "--study", path, "--events", "stim"))

    run()
    assert len(read) >= 250


def test_what_is_read_can_be_built() -> None:
    """A study that is taken gives a task."""
    regions = ["bankssts-lh", "cuneus-rh"]

    @_MANY
    @given(_mutated())
    def run(study: dict[str, Any]) -> None:
        try:
            plan = Study.model_validate(study)
            plan.build_prior()
        except (ValidationError, InputError):
            return
        if plan.model_file is None:
            with contextlib.suppress(InputError):
                build_task(plan, regions, stream="training")

    run()


# Recordings


def _damage(size: int) -> st.SearchStrategy[list[tuple[str, int, bytes]]]:
    """Some places, most of them near the beginning, and what happens to them."""
    place = st.integers(0, size - 1) | st.integers(0, min(size - 1, 2000))
    kind = st.sampled_from(["replace", "insert", "remove", "cut", "zero"])
    return st.lists(
        st.tuples(kind, place, st.binary(min_size=1, max_size=8)), min_size=1, max_size=4
    )


def _damaged(content: bytes, damage: list[tuple[str, int, bytes]]) -> bytes:
    for kind, place, other in damage:
        before, after = content[:place], content[place:]
        if kind == "replace":
            content = before + other + after[len(other) :]
        elif kind == "insert":
            content = before + other + after
        elif kind == "remove":
            content = before + after[len(other) :]
        elif kind == "zero":
            content = before + bytes(64) + after[64:]
        elif place > 4:
            content = before
    return content


FORMATS = {
    "raw.fif": lambda path: _raw(12.0).save(path, verbose="error"),
    "cut-epo.fif": lambda path: _epochs(_raw(12.0)).save(path, verbose="error"),
    "averages.fif": lambda path: _epochs(_raw(12.0)).average().save(path, verbose="error"),
    "rec.set": lambda path: mne.export.export_raw(path, _raw(12.0), verbose="error"),
    "cut.set": lambda path: _epochs(_raw(12.0)).export(path, verbose="error"),
    "rec5.set": lambda path: write_set(path, _raw(12.0), "5"),
    "rec73.set": lambda path: write_set(path, _raw(12.0), "7.3"),
    "rec.gdf": lambda path: write_gdf(path, _raw(12.0)),
    "rec.cnt": lambda path: write_cnt(path, _raw(12.0)),
    "rec.bdf": lambda path: mne.export.export_raw(path, _raw(12.0), verbose="error"),
    "rec.edf": lambda path: mne.export.export_raw(path, _raw(12.0), verbose="error"),
    "rec.vhdr": lambda path: mne.export.export_raw(path, _raw(12.0), verbose="error"),
    "rec.vmrk": lambda path: mne.export.export_raw(
        path.with_suffix(".vhdr"), _raw(12.0), verbose="error"
    ),
}


@pytest.mark.parametrize("name", list(FORMATS))
def test_recordings_with_damaged_bytes(
    judge: Callable[..., str], tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        FORMATS[name](folder / name)
    whole, read = (folder / name).read_bytes(), []
    given_path = folder / name.replace(".vmrk", ".vhdr")
    events = [] if "average" in name else ["--events", "stim"]

    @settings(_MANY, max_examples=32)
    @given(_damage(len(whole)))
    def run(damage: list[tuple[str, int, bytes]]) -> None:
        (folder / name).write_bytes(_damaged(whole, damage))
        read.append(not judge(given_path, *events))

    run()
    assert len(read) >= 32


@st.composite
def _strange(draw: st.DrawFn) -> mne.io.RawArray:
    """A recording that MNE can hold, with things that it should not have."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n = draw(st.integers(1, 24))
    names = draw(st.lists(NASTY.filter(bool), min_size=n, max_size=n, unique=True))
    if draw(st.booleans()):
        names = [*NAMES, *names][: max(n, 12)]
    plain = [name.encode("ascii", "ignore").decode()[:15] for name in names]  # a .fif holds no more
    names = list(dict.fromkeys(name or "x" for name in plain))
    sfreq = draw(st.sampled_from([1.0, 61.0, 100.0, 250.0, 1000.0]))
    samples = draw(st.integers(2, 4000))
    size = draw(st.sampled_from([0.0, 1e-12, 1e-6, 1e-5, 1e-3, 1.0, 1e6, 1e300]))
    data = size * rng.standard_normal((len(names), samples))
    for _ in range(draw(st.integers(0, 3))):
        row, first = draw(st.integers(0, len(names) - 1)), draw(st.integers(0, samples - 1))
        data[row, first : first + draw(st.integers(1, 2000))] = draw(
            st.sampled_from([0.0, np.nan, np.inf, -np.inf, 1.0])
        )
    kinds = [draw(st.sampled_from(["eeg", "eeg", "eeg", "eog", "stim", "mag", "misc"]))] * len(
        names
    )
    if draw(st.booleans()):
        kinds = ["eeg"] * len(names)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        raw = mne.io.RawArray(data, mne.create_info(names, sfreq, kinds), verbose="error")
        if draw(st.booleans()):
            places = rng.standard_normal((len(names), 3)) * draw(
                st.sampled_from([0.0, 1e-3, 0.09, 90.0, np.nan])
            )
            for channel, place in zip(raw.info["chs"], places, strict=True):
                channel["loc"][:3] = place
        count = draw(st.integers(0, 8))
        onsets = np.sort(rng.uniform(-1.0, samples / sfreq + 1.0, count))
        described = [draw(NASTY | st.sampled_from(["stim", "BAD", "boundary"])) for _ in onsets]
        described = [
            name.encode("ascii", "ignore").decode().replace("\0", "") for name in described
        ]
        raw.set_annotations(mne.Annotations(onsets, abs(rng.standard_normal(count)), described))
        raw.info["bads"] = names[: draw(st.integers(0, 2))]
    return raw


def test_strange_recordings(judge: Callable[..., str], tmp_path: Path) -> None:
    path, read = tmp_path / "raw.fif", []

    @_MANY
    @given(_strange(), st.booleans(), NASTY)
    def run(raw: mne.io.RawArray, evoked: bool, name: str) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            raw.save(path, overwrite=True, fmt="double", verbose="error")
        event = name if name.strip() and not name.startswith("-") and "\0" not in name else "stim"
        read.append(not judge(path, *(["--events", event] if evoked else [])))

    run()
    assert len(read) >= 250

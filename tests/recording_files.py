"""Tiny recordings in formats that MNE reads and does not write: GDF, Neuroscan, EGI, EEGLAB.

Each function writes one recording from an `mne.io.Raw` (EEGLAB's also from `mne.Epochs`), from the
format's public description alone; only what readers need is filled in. All channels are taken as
voltages. Events are the annotations, at the sample nearest to their onset; where a format numbers
or shortens their names, the function returns how.
"""

from __future__ import annotations

import itertools
import struct
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import h5py
import mne
import numpy as np
import scipy.io

__all__ = ["write_cnt", "write_gdf", "write_mff", "write_set"]

#: When recordings without a date are said to begin.
START = datetime(2020, 1, 1, 12, tzinfo=UTC)
#: Fields of EEGLAB's structure that say nothing here: numbers, text and structures.
_NO_NUMBERS = (
    *("icaact", "icawinv", "icasphere", "icaweights", "icachansind", "urchanlocs", "urevent"),
    *("epochdescription", "specdata", "specicaact", "splinefile", "icasplinefile", "dipfit"),
)
_NO_TEXT = ("filepath", "subject", "group", "condition", "session", "comments", "history")
_NO_FIELDS = ("chaninfo", "reject", "stats", "etc")


def write_gdf(path: str | Path, raw: mne.io.BaseRaw) -> dict[str, int]:
    """Write GDF 2.20 with samples of 16 bits.

    Layout: A. Schloegl, GDF - a general dataformat for biosignals, arXiv:cs/0608052: a fixed header
    of 256 bytes; as many for each channel, field by field; records, here of one sample each; the
    table of events with their positions (from 1), types and durations. MNE divides positions by the
    recording's sampling rate, whatever rate the table states; they are the same here.

    Parameters
    ----------
    path : path
        File to write, ``.gdf``.
    raw : mne.io.Raw
        Names of up to 16 ASCII characters.

    Returns
    -------
    dict
        Number of each kind of event, by which MNE calls it.
    """
    data, n = _microvolts(raw), len(raw.ch_names)
    codes = _codes(raw)
    interval = 1 / Fraction(raw.info["sfreq"]).limit_denominator(10**6)
    # The full range is left to overflows; all counts below it are valid.
    limits = 1.01 * np.maximum(np.abs(data).max(axis=1), 1e-3)
    top = 32767.0
    days = (_start(raw) - datetime(1, 1, 1, tzinfo=UTC)) / timedelta(days=1) + 367

    fixed = b"".join(
        (
            b"GDF 2.20",
            b"P01 X X".ljust(66),  # patient
            bytes(10 + 4),  # reserved; habits, weight, height, sex and handedness unknown
            b"written for a test".ljust(64),
            bytes(16),  # place
            struct.pack("<QQ", round(days * 2**32), 0),  # start; birthday unknown
            struct.pack("<H", n + 1),  # header, in blocks of 256 bytes
            bytes(6 + 8 + 6 + 6),  # diagnosis, equipment, network address, size of the head
            bytes(12 + 12),  # places of reference and ground
            struct.pack("<qII", raw.n_times, interval.numerator, interval.denominator),
            struct.pack("<HH", n, 0),
        )
    )
    channels = b"".join(
        (
            b"".join(_text(name, 16) for name in raw.ch_names),
            bytes(80 * n),  # transducers
            bytes(6 * n),  # units in words, obsolete
            np.full(n, 4275, "<u2").tobytes(),  # uV
            (-limits).astype("<f8").tobytes(),
            limits.astype("<f8").tobytes(),
            np.full(n, -top, "<f8").tobytes(),
            np.full(n, top, "<f8").tobytes(),
            bytes(68 * n),  # filters in words, obsolete; time offset
            np.full(n, raw.info["lowpass"], "<f4").tobytes(),
            np.full(n, raw.info["highpass"], "<f4").tobytes(),
            np.full(n, np.nan, "<f4").tobytes(),  # notch
            np.full(n, 1, "<u4").tobytes(),  # samples per record
            np.full(n, 3, "<u4").tobytes(),  # int16
            bytes(12 * n),  # places
            bytes(20 * n),  # impedances
        )
    )
    assert len(fixed) == 256 and len(channels) == 256 * n
    events = _events(raw)
    table = b"".join(
        (
            struct.pack("<B", 3),  # with channels and durations
            len(events).to_bytes(3, "little"),
            struct.pack("<f", raw.info["sfreq"]),
            np.array([sample + 1 for sample, _, _ in events], "<u4").tobytes(),
            np.array([codes[name] for _, _, name in events], "<u2").tobytes(),
            np.zeros(len(events), "<u2").tobytes(),  # all channels
            np.array([length for _, length, _ in events], "<u4").tobytes(),
        )
    )
    counts = np.round(data / limits[:, None] * top).astype("<i2")
    Path(path).write_bytes(fixed + channels + counts.T.tobytes() + table)
    return codes


def write_cnt(path: str | Path, raw: mne.io.BaseRaw) -> dict[str, int]:
    """Write a continuous file of Neuroscan's SCAN 4 with samples of 32 bits, in nV.

    Layout: P. Bourke, EEG file formats, https://paulbourke.net/dataformats/eeg/ (the structures
    SETUP, ELECTLOC, TEEG and EVENT2 of Neuroscan's sethead.h): a header of 900 bytes, 75 bytes for
    each channel, samples channel by channel, and a table of events that point to their place in the
    file. A count is baseline-corrected and scaled by sensitivity * calibration / 204.8 to uV.

    As SCAN does, channels get places on the screen: the recording's seen from above, or a circle.
    Three habits of MNE's reader: it takes an event to be one sample before the one it points to, so
    events point to the next one here; it makes a sphere of radius 1 m out of the screen; and it
    takes a name's fifth character for an old file's mark of a bad channel, so channels with names
    of five and more characters come back as bad.

    Parameters
    ----------
    path : path
        File to write, ``.cnt``.
    raw : mne.io.Raw
        Names of up to 9 ASCII characters; the sampling rate a whole number.

    Returns
    -------
    dict
        Number of each kind of event, by which MNE calls it.
    """
    data, n = _microvolts(raw), len(raw.ch_names)
    codes = _codes(raw)
    counts = np.round(data * 1e3).astype("<i4")
    begin = 900 + 75 * n
    end = begin + counts.nbytes
    start = _start(raw)

    setup = bytearray(900)
    struct.pack_into("<12s", setup, 0, b"Version 3.0")
    struct.pack_into("<20s", setup, 21, b"1")  # subject
    struct.pack_into("<10s12s", setup, 225, f"{start:%m/%d/%y}".encode(), f"{start:%X}".encode())
    struct.pack_into("<H", setup, 370, n)
    struct.pack_into("<H", setup, 376, _whole(raw.info["sfreq"], "sampling rate"))
    struct.pack_into("<i", setup, 864, raw.n_times)
    struct.pack_into("<i", setup, 886, end)
    struct.pack_into("<f", setup, 890, raw.n_times / raw.info["sfreq"])

    channels = bytearray()
    for name, (x, y) in zip(raw.ch_names, _screen(raw), strict=True):
        one = bytearray(75)
        struct.pack_into("<10s", one, 0, _text(name, 9))
        struct.pack_into("<ff", one, 19, x, y)
        struct.pack_into("<h", one, 47, 0)  # baseline
        struct.pack_into("<f", one, 59, 1.0)  # sensitivity
        struct.pack_into("<f", one, 71, 204.8e-3)  # calibration
        channels += one

    events = [
        # Number; function key; keypad; place; then fields of reaction times.
        struct.pack(
            "<HBBihhfBBB", codes[name], 0, 0, begin + 4 * n * (sample + 1), 0, 0, 0, 0, 0, 0
        )
        for sample, _, name in _events(raw)
    ]
    table = struct.pack("<Bii", 2, 19 * len(events), 0) + b"".join(events)
    Path(path).write_bytes(bytes(setup + channels) + counts.T.tobytes() + table)
    return codes


def write_mff(path: str | Path, raw: mne.io.BaseRaw, *, vertex: bool = False) -> dict[str, str]:
    """Write a folder as EGI's Net Station does.

    Layout: EGI's Meta File Format (MFF 3), with the namespaces and the block's header that the
    readers of MNE and mffpy document: XML beside ``signal1.bin``, which holds one block, its header
    of channels' offsets and rates before float32 samples in uV, channel after channel. Channels are
    numbered, not named, and events have codes of four characters; their whole name is the label.

    Places are the recording's, or those of the first sensors of GSN-HydroCel-32.

    Parameters
    ----------
    path : path
        Folder to make, ``.mff``.
    raw : mne.io.Raw
        The sampling rate a whole number, the length a whole number of ms: MNE wants both. The names
        of its channels are dropped.
    vertex : bool, optional
        Whether the last channel is the reference ``VREF``, which is zero throughout.

    Returns
    -------
    dict
        Code of each kind of event, by which MNE calls it and the stimulus channel that it adds.
    """
    data = _microvolts(raw)
    rate = _whole(raw.info["sfreq"], "sampling rate")
    milliseconds = _whole(1000 * raw.n_times / rate, "length in ms")
    codes = {name: name[:4] for name in _codes(raw)}
    if len(set(codes.values())) < len(codes):
        raise ValueError(f"kinds of events begin with the same four characters: {list(codes)}")
    places, fiducials = _places(raw)
    types = ["0"] * len(data)
    names = [""] * len(data)
    if vertex:
        data = np.r_[data, np.zeros((1, data.shape[1]))]
        places = np.r_[places, [[0.0, 0.0, np.linalg.norm(places, axis=1).mean()]]]
        types.append("1")
        names.append("VREF")
    n = len(data)
    start = _start(raw)
    folder = Path(path)
    folder.mkdir()

    samples = np.ascontiguousarray(data, "<f4")
    header = struct.pack("<4i", 1, 4 * (5 + 2 * n), samples.nbytes, n)
    header += (4 * samples.shape[1] * np.arange(n)).astype("<i4").tobytes()
    header += np.full(n, (rate << 8) + 32, "<i4").tobytes()  # bits of a sample
    header += struct.pack("<i", 0)  # no optional part
    (folder / "signal1.bin").write_bytes(header + samples.tobytes())

    layout = "Geodesic Sensor Net of a test"
    recorded: list[Any] = [("mffVersion", "3"), ("recordTime", _iso(start))]
    _write_xml(folder / "info.xml", "fileInfo", "info_mff", recorded)
    eeg = [("sensorLayoutName", layout), ("montageName", layout)]
    kind = [("generalInformation", [("fileDataType", [("EEG", eeg)])])]
    _write_xml(folder / "info1.xml", "dataInfo", "info_n_mff", kind)
    sensors = [
        _sensor(name, k + 1, type_, place)
        for k, (name, type_, place) in enumerate(zip(names, types, places, strict=True))
    ]
    content: list[Any] = [("name", layout), ("sensors", sensors)]
    _write_xml(folder / "sensorLayout.xml", "sensorLayout", "sensorLayout_mff", content)
    landmarks = [
        _sensor(name, n + k + 1, "2", place) for k, (name, place) in enumerate(fiducials.items())
    ]
    content = [
        ("sensorLayout", [("name", layout), ("sensors", sensors + landmarks)]),
        ("acqTime", _iso(start)),
        ("acqMethod", "none"),
        ("defaultSubject", "false"),
    ]
    _write_xml(folder / "coordinates.xml", "coordinates", "coordinates_mff", content)
    epoch = [
        ("beginTime", "0"),
        ("endTime", str(1000 * milliseconds)),  # us
        ("firstBlock", "1"),
        ("lastBlock", "1"),
    ]
    _write_xml(folder / "epochs.xml", "epochs", "epochs_mff", [("epoch", epoch)])
    events: list[Any] = [("name", "Events"), ("trackType", "EVNT")]
    for sample, length, name in _events(raw):
        event = [
            ("beginTime", _iso(start + timedelta(seconds=sample / rate))),
            ("duration", str(round(1e9 * length / rate))),  # ns
            ("code", codes[name]),
            ("label", name),
            ("sourceDevice", "none"),
        ]
        events.append(("event", event))
    _write_xml(folder / "Events_test.xml", "eventTrack", "event_mff", events)
    return codes


def write_set(
    path: str | Path,
    recording: mne.io.BaseRaw | mne.BaseEpochs,
    version: Literal["5", "7.3"] = "5",
    *,
    boundaries: Sequence[float] = (),
    nested: bool = True,
) -> None:
    """Write EEGLAB's ``.set``, data within.

    Layout: EEGLAB's data structures, https://eeglab.org/tutorials/ConceptsGuide/Data_Structures.html.
    Data are in uV, latencies in samples from 1 (in the epochs one after the other), those in
    EEG.epoch in ms from time zero, places in mm with the x-axis through the nose and y to the left.
    An epoch gets every event of `recording` that falls into it, as EEGLAB's own do; the fields of
    EEG.epoch are cells if any epoch has several.

    Parameters
    ----------
    path : path
        File to write, ``.set``.
    recording : mne.io.Raw or mne.Epochs
        Its channels' places go with it where there are any; fiducials do not.
    version : {"5", "7.3"}, optional
        MATLAB's format of the file; that of 7.3 is HDF5.
    boundaries : sequence of float, optional
        Seconds at which a piece was cut out: events ``boundary`` as ``pop_select`` leaves behind,
        half a sample before the first sample after the cut, and as long as the cut, here 1 s. The
        data are left as they are. For continuous data.
    nested : bool, optional
        Whether the file holds the structure EEG, or its fields one by one (``save -struct``), as
        newer versions of EEGLAB write.
    """
    rate = recording.info["sfreq"]
    data = np.asarray(recording.get_data() * 1e6, np.float32)
    if isinstance(recording, mne.BaseEpochs):
        if len(boundaries):
            raise ValueError("boundaries are for continuous data")
        data = data.transpose(1, 2, 0)
        events, epochs = _set_epochs(recording)
    else:
        events, epochs = _set_events(recording, boundaries), []
    eeg: dict[str, Any] = dict.fromkeys(_NO_NUMBERS, np.zeros((0, 0)))
    eeg |= dict.fromkeys(_NO_TEXT, "") | {field: {"none": 0.0} for field in _NO_FIELDS}
    eeg |= {
        "setname": "written for a test",
        "filename": Path(path).name,
        "nbchan": float(data.shape[0]),
        "pnts": float(data.shape[1]),
        "trials": float(len(epochs) or 1),
        "srate": float(rate),
        "xmin": float(recording.times[0]),
        "xmax": float(recording.times[-1]),
        "times": 1e3 * recording.times,
        "data": data,
        "chanlocs": [_set_channel(channel) for channel in recording.info["chs"]],
        "ref": "common",
        "event": events,
        "eventdescription": [""] * (len(events[0]) if events else 0),
        "epoch": epochs,
        "saved": "yes",
    }
    variables = {"EEG": eeg} if nested else eeg
    if version == "5":
        content = {name: _matlab5(value) for name, value in variables.items()}
        scipy.io.savemat(path, content, appendmat=False)
    else:
        _save_matlab73(Path(path), variables)


# Of all formats.


def _microvolts(raw: mne.io.BaseRaw) -> np.ndarray:
    data = raw.get_data() * 1e6
    if not np.isfinite(data).all():
        raise ValueError("the format holds finite numbers only")
    return data


def _events(raw: mne.io.BaseRaw) -> list[tuple[int, int, str]]:
    """First sample, number of samples and name of each annotation, in time."""
    rate, first = raw.info["sfreq"], raw.first_time
    return sorted(
        (round((one["onset"] - first) * rate), round(one["duration"] * rate), one["description"])
        for one in raw.annotations
    )


def _codes(raw: mne.io.BaseRaw) -> dict[str, int]:
    names = dict.fromkeys(name for _, _, name in _events(raw))
    return {name: k + 1 for k, name in enumerate(names)}


def _start(raw: mne.io.BaseRaw) -> datetime:
    return raw.info["meas_date"] or START


def _text(text: str, length: int) -> bytes:
    if len(text) > length:
        raise ValueError(f"{text!r} has more than {length} characters")
    return text.encode("ascii").ljust(length, b"\0")


def _whole(number: float, what: str) -> int:
    if abs(number - round(number)) > 1e-6:
        raise ValueError(f"the {what}, {number}, is not a whole number")
    return round(number)


def _positions(info: mne.Info) -> np.ndarray | None:
    """Places of all channels in m in MNE's head frame, or None if any is unknown."""
    places = np.array([channel["loc"][:3] for channel in info["chs"]])
    known = np.isfinite(places).all() and np.abs(places).sum(axis=1).all()
    return places if known else None


# Of Neuroscan.


def _screen(raw: mne.io.BaseRaw) -> np.ndarray:
    """Places within 0 and 1, x to the right and y downwards; the middle is the vertex."""
    places = _positions(raw.info)
    if places is None:
        radius = np.full(len(raw.ch_names), 0.4)
        angle = 2 * np.pi * np.arange(len(radius)) / len(radius)
    else:
        radius = np.arccos(places[:, 2] / np.linalg.norm(places, axis=1)) / (2 * np.pi)
        angle = np.arctan2(places[:, 1], places[:, 0])
    return 0.5 + radius[:, None] * np.c_[np.cos(angle), -np.sin(angle)]


# Of EGI.


def _places(raw: mne.io.BaseRaw) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Places in m of channels and of the fiducials by EGI's names."""
    montage, places = raw.get_montage(), _positions(raw.info)
    if montage is None or places is None:
        montage = mne.channels.make_standard_montage("GSN-HydroCel-32")
        known = montage.get_positions()["ch_pos"]
        places = np.array([known[f"E{k + 1}"] for k in range(len(raw.ch_names))])
    named = {"nasion": "Nasion", "lpa": "Left periauricular point"}
    named["rpa"] = "Right periauricular point"
    positions = montage.get_positions()
    return places, {
        name: positions[key] for key, name in named.items() if positions[key] is not None
    }


def _sensor(name: str, number: int, type_: str, place: np.ndarray) -> tuple[str, list[Any]]:
    axes = [(axis, f"{100 * value:.6f}") for axis, value in zip("xyz", place, strict=True)]  # cm
    return "sensor", [("name", name), ("number", str(number)), ("type", type_), *axes]


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds")


def _write_xml(path: Path, root: str, namespace: str, content: list[Any]) -> None:
    """Write nested pairs of a tag and its text or pairs."""

    def fill(element: ElementTree.Element, content: str | list[Any]) -> None:
        if isinstance(content, str):
            element.text = content
            return
        for tag, inner in content:
            fill(ElementTree.SubElement(element, tag), inner)

    top = ElementTree.Element(root, xmlns=f"http://www.egi.com/{namespace}")
    fill(top, content)
    ElementTree.ElementTree(top).write(path, encoding="UTF-8", xml_declaration=True)


# Of EEGLAB. Structures are dicts, arrays of them lists of dicts, cell arrays other lists.


def _set_channel(channel: Mapping[str, Any]) -> dict[str, Any]:
    place = 1e3 * channel["loc"][:3]  # mm
    known = np.isfinite(place).all() and place.any()
    x, y, z = (place[1], -place[0], place[2]) if known else [np.zeros((0, 0))] * 3
    return {"labels": channel["ch_name"], "X": x, "Y": y, "Z": z, "type": "EEG"}


def _set_events(raw: mne.io.BaseRaw, boundaries: Sequence[float]) -> list[dict[str, Any]]:
    rate = raw.info["sfreq"]
    found = [(float(sample + 1), float(length), name) for sample, length, name in _events(raw)]
    found += [(round(time * rate) + 0.5, float(rate), "boundary") for time in boundaries]
    return [
        {"type": name, "latency": latency, "duration": length, "urevent": k + 1.0}
        for k, (latency, length, name) in enumerate(sorted(found))
    ]


def _set_epochs(epochs: mne.BaseEpochs) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """EEG.event and EEG.epoch."""
    rate, n = epochs.info["sfreq"], len(epochs.times)
    before = round(epochs.times[0] * rate)
    names = {code: name for name, code in epochs.event_id.items()}
    events: list[dict[str, Any]] = []
    described: list[dict[str, Any]] = []
    for k, locked in enumerate(epochs.events[:, 0]):
        one: dict[str, list[Any]] = {"event": [], "eventlatency": [], "eventtype": []}
        for sample, _, code in epochs.events:
            if not 0 <= sample - locked - before < n:
                continue
            latency = float(k * n + sample - locked - before + 1)
            events.append(
                {"type": names[code], "latency": latency, "duration": 0.0, "epoch": k + 1.0}
            )
            one["event"].append(float(len(events)))
            one["eventlatency"].append(1e3 * float(sample - locked) / rate)
            one["eventtype"].append(names[code])
        one["eventduration"] = [0.0] * len(one["event"])
        described.append({**one, "event": np.array(one["event"])})
    if all(len(one["event"]) == 1 for one in described):
        described = [{field: value[0] for field, value in one.items()} for one in described]
    return events, described


def _matlab5(value: Any) -> Any:
    """Turn structures and cells into what scipy writes as such, with the shapes of MATLAB."""
    if isinstance(value, dict):
        return {field: _matlab5(inner) for field, inner in value.items()}
    if not isinstance(value, list):
        return np.atleast_2d(value) if isinstance(value, np.ndarray) else value
    if not value:
        return np.zeros((0, 0))
    if not isinstance(value[0], dict):
        cells = np.empty((1, len(value)), object)
        for k, inner in enumerate(value):
            cells[0, k] = _matlab5(inner)
        return cells
    structures = np.empty((1, len(value)), [(field, object) for field in value[0]])
    for (k, inner), field in itertools.product(enumerate(value), value[0]):
        structures[field][0, k] = _matlab5(inner[field])
    return structures


def _save_matlab73(path: Path, variables: Mapping[str, Any]) -> None:
    """Write variables as MATLAB 7.3 does.

    The format is HDF5 after a block of 512 bytes that begins as the files of MATLAB 5 do (MAT-File
    Format, The MathWorks). Arrays are transposed, and tell their class in an attribute; text is of
    16-bit characters; the elements of cells and of arrays of structures are kept apart in the group
    ``#refs#`` and referred to; what is empty holds its size.
    """
    with h5py.File(path, "w", userblock_size=512) as file:
        kept = file.create_group("#refs#")
        for name, value in variables.items():
            _put(kept, file, name, value)
    text = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: Wed Jan 01 12:00:00 2020"
    text += b" HDF5 schema 1.00 ."
    with path.open("r+b") as file:
        file.write(text.ljust(116) + bytes(8) + struct.pack("<H2s", 0x0200, b"IM"))


def _put(kept: h5py.Group, parent: h5py.Group, name: str, value: Any) -> None:
    if isinstance(value, list) and not value:
        value = np.zeros((0, 0))
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
        value = value[0]
    if isinstance(value, dict):
        group = parent.create_group(name)
        for field, inner in value.items():
            _put(kept, group, field, inner)
        kind = "struct"
    elif isinstance(value, list) and isinstance(value[0], dict):
        group = parent.create_group(name)
        for field in value[0]:
            values = [one[field] for one in value]
            group[field] = _refer(kept, f"{name}.{field}", values)  # these tell no class
        kind = "struct"
    elif isinstance(value, list):
        parent[name] = _refer(kept, name, value)
        kind = "cell"
    else:
        text = isinstance(value, str)
        array = np.frombuffer(value.encode("utf-16-le"), "<u2") if text else np.asarray(value)
        kind = "char" if text else {"f4": "single", "f8": "double"}[array.dtype.str[1:]]
        empty = not array.size
        parent[name] = np.zeros(2, np.uint64) if empty else np.atleast_2d(array).T
        if empty:
            parent[name].attrs["MATLAB_empty"] = np.uint8(1)
        elif text:
            parent[name].attrs["MATLAB_int_decode"] = np.int32(2)
    parent[name].attrs["MATLAB_class"] = np.bytes_(kind)


def _refer(kept: h5py.Group, name: str, values: Sequence[Any]) -> np.ndarray:
    """Keep values apart, by a unique name, and return references to them, as many rows."""
    references = np.empty((len(values), 1), h5py.ref_dtype)
    for k, value in enumerate(values):
        _put(kept, kept, f"{name}.{k + 1}", value)
        references[k, 0] = kept[f"{name}.{k + 1}"].ref
    return references

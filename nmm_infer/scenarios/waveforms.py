"""Waveforms of single columns: spikes, seizures, evoked responses, ongoing alpha."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from math import ceil
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import signal

from nmm_infer._checks import check_whole
from nmm_infer.campaign import DIVERGED, OK, PriorDesign, Variable
from nmm_infer.errors import InputError
from nmm_infer.models import Model, get_model
from nmm_infer.models.wendling import ACTIVITY
from nmm_infer.parameters import Parameter, Prior
from nmm_infer.simulation import Clock, Volley, integrate
from nmm_infer.simulation.precision import digest

__all__ = ["SEIZURE", "WAVEFORMS", "Waveform", "WaveformTask"]

_WENDLING = "Wendling et al. 2002, Eur J Neurosci 15:1499"
_JR = "Jansen and Rit 1995, Biol Cybern 73:357"
_SHARE = 0.1  # of a published value, to either side (chosen here)
_SPIKING = 0.03  # the same: sporadic spikes come between rest and sustained spikes only

#: Kinds that a seizure is made of (Wendling et al. 2002).
SEIZURE = ("sustained spikes", "slow rhythmic", "low-voltage fast", "quasi-sinusoidal")

_STEP = 5e-4  # s, at most: a quarter of the fastest synapse of Wendling's column
_SETTLE = 1.0  # s
_SEARCH = 6.0  # s of a run beyond its duration, to find a spike in
_BLOCK = 256  # runs at a time: the search takes more memory than what is kept
_LEAST_SFREQ = 100.0  # Hz: samples then hold what lies below 40 Hz
_SPIKE = 5.0  # mV above the median; at rest the column stays within 2 mV of it
_SHARP = 8.0  # robust standard deviations of the run
_RESPONSE = 5.0  # standard deviations before the stimulus
_RESPONSE_ENDS = 0.5  # s
_SLOWEST = 2.0  # Hz: a rhythm is not looked for below


@dataclass(frozen=True)
class Waveform:
    """A kind of waveform: the column that makes it, and what it must show to be used.

    Parameters
    ----------
    model : str
        Neural mass model.
    prior : Prior
        Parameters that vary: constants of the model, ``drive`` [1/s], ``noise`` [1/sqrt(s)] and,
        for responses, ``stimulus_amplitude`` [1/s].
    event : {"spike", "response"}, optional
        What happens once, in the middle of a run. Without, the activity is ongoing.
    band : tuple of float, optional
        Frequencies in Hz between which the largest peak of the spectrum must lie.
    """

    model: str
    prior: Prior
    event: Literal["spike", "response"] | None = None
    band: tuple[float, float] | None = None


def _around(share: float, source: str, **values: tuple[str, float]) -> list[Parameter]:
    source = f"{100 * share:g} % about the value of {source}"
    return [
        Parameter(name, unit, "uniform", (1 - share) * value, (1 + share) * value, source=source)
        for name, (unit, value) in values.items()
    ]


def _wendling(activity: str, *others: Parameter, share: float = _SHARE) -> Prior:
    """Gains of a type of activity (``others`` where not about the published ones) and input."""
    taken = {p.name for p in others}
    gains = {k: ("mV", v) for k, v in ACTIVITY[activity].items() if k not in taken}
    rates = {"a": ("1/s", 100.0), "b": ("1/s", 50.0), "g": ("1/s", 500.0), "drive": ("1/s", 90.0)}
    noise = Parameter(
        "noise", "1/s**0.5", "uniform", 1.3, 2.0,
        source=f"{_WENDLING}: 1.33 (a deviation of 30 /s at steps of 1/512 s)",
    )  # fmt: skip
    return Prior([*others, *_around(share, _WENDLING, **gains, **rates), noise])


_COLUMN = _around(
    _SHARE, _JR, A=("mV", 3.25), B=("mV", 22.0), a=("1/s", 100.0), b=("1/s", 50.0), C=("1", 135.0)
)
_FAST = (
    Parameter("B", "mV", "uniform", 1.0, 5.0, source=f"{_WENDLING}: 5 mV; below, chosen here"),
    Parameter(
        "G", "mV", "uniform", 25.0, 40.0,
        source=f"{_WENDLING}: 25 mV, where the resonance at 15 Hz is weak; towards 40 mV it stands "
        "out and rises to 28 Hz (chosen here)",
    ),
)  # fmt: skip
_NO_FAST_INHIBITION = Parameter("G", "mV", "uniform", 0.0, 1.0, source=f"{_WENDLING}: 0 mV")
_EVOKED = (
    Parameter("drive", "1/s", "uniform", 0.0, 30.0, source="columns rest without input"),
    Parameter(
        "noise", "1/s**0.5", "loguniform", 0.19, 0.85,
        source="6 in a single trial (about 1 mV at rest), averaged over 50 to 1,000 (chosen here)",
    ),
    Parameter(
        "stimulus_amplitude", "1/s", "loguniform", 60.0, 300.0,
        source=f"{_JR}, section 4: a peak of the order of the background",
    ),
)  # fmt: skip
_SPONTANEOUS = (
    Parameter("drive", "1/s", "uniform", 120.0, 320.0, source=_JR),
    Parameter(
        "noise", "1/s**0.5", "uniform", 4.0, 8.0, source="alpha waxes and wanes (chosen here)"
    ),
)

#: What can be simulated, by name. The types of activity of Wendling's column are those that its
#: publication shows; the bands hold the rhythms that its gains have here: limit cycles of 4.5 and
#: 11.0 Hz (sustained spikes, quasi-sinusoidal) and a resonance at 10.2 Hz (slow rhythmic).
WAVEFORMS: Mapping[str, Waveform] = MappingProxyType(
    {
        "spike": Waveform("wendling", _wendling("sporadic spikes", share=_SPIKING), event="spike"),
        "sustained spikes": Waveform("wendling", _wendling("sustained spikes"), band=(3.0, 6.0)),
        "slow rhythmic": Waveform("wendling", _wendling("slow rhythmic"), band=(8.0, 13.0)),
        "low-voltage fast": Waveform(
            "wendling", _wendling("low-voltage fast", *_FAST), band=(13.0, 40.0)
        ),
        "quasi-sinusoidal": Waveform(
            "wendling", _wendling("quasi-sinusoidal", _NO_FAST_INHIBITION), band=(8.0, 13.0)
        ),
        "evoked": Waveform("jansen_rit", Prior([*_COLUMN, *_EVOKED]), event="response"),
        "spontaneous": Waveform("jansen_rit", Prior([*_COLUMN, *_SPONTANEOUS]), band=(8.0, 12.0)),
    }
)


@dataclass(frozen=True, eq=False)
class WaveformTask:
    """Waveforms of one kind, one column a run.

    What a run must show is checked on the run itself, and told by ``valid``. A spike is the only
    one of its run and has its peak in the middle, 5 mV and 8 robust standard deviations above the
    median. A response, to a volley in the middle of the run, rises or falls by 5 standard
    deviations of what was before. Ongoing activity has the largest peak of its spectrum (Welch,
    segments of 1 s, above 2 Hz) in the band of its kind.

    Parameters
    ----------
    kind : str
        Name in :data:`WAVEFORMS`.
    seed : int
        Seed of the study.
    stream : str
        Training, test, ...: runs of different streams or seeds share nothing.
    duration, sfreq : float
        Length of a run in s and its sampling rate in Hz. Runs longer than the windows that will
        be cut from them let these begin anywhere: twice as long is enough for spikes.
    prior : Prior, optional
        Other parameters than those of the kind.

    Raises
    ------
    InputError
        If the kind or a parameter is not known, or duration and sampling rate are not possible.

    Examples
    --------
    >>> from nmm_infer.campaign import run
    >>> task = WaveformTask("spike", seed=0, stream="training")
    >>> campaign = run(task, task.design(64))
    >>> campaign.dataset["potential"].dims
    ('simulation', 'time')
    """

    kind: str
    seed: int
    stream: str
    duration: float = 2.0
    sfreq: float = 500.0
    prior: Prior | None = None

    def __post_init__(self) -> None:
        if self.kind not in WAVEFORMS:
            raise InputError(f"no waveform {self.kind!r}; there are {', '.join(WAVEFORMS)}")
        check_whole("seed", self.seed, 0)
        if not (np.isfinite(self.sfreq) and self.sfreq >= _LEAST_SFREQ):
            raise InputError(
                f"a sampling rate of {self.sfreq:g} Hz is too low: rhythms of up to 40 Hz need "
                f"{_LEAST_SFREQ:g} Hz"
            )
        if not (np.isfinite(self.duration) and self.duration >= 1.0):
            raise InputError(
                f"runs of {self.duration:g} s are too short to judge: take 1 s or more"
            )
        known = {*self.declaration.defaults, "drive", "noise"}
        if self.waveform.event == "response":
            known.add("stimulus_amplitude")
        names = set(self.parameters.names)
        needed = known - set(self.declaration.defaults)
        if names - known or needed - names:
            odd = sorted(names - known) or sorted(needed - names)
            raise InputError(
                f"prior of {self.kind!r}: {odd[0]!r} is "
                f"{'not known' if names - known else 'missing'}; it takes "
                f"{', '.join(sorted(known))}, and needs {', '.join(sorted(needed))}"
            )

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def waveform(self) -> Waveform:
        """What the kind stands for."""
        return WAVEFORMS[self.kind]

    @property
    def declaration(self) -> Model:
        """The neural mass model."""
        return get_model(self.waveform.model)

    @property
    def parameters(self) -> Prior:
        """Prior of the parameters that vary."""
        return self.waveform.prior if self.prior is None else self.prior

    def design(self, n: int) -> PriorDesign:
        """Return ``n`` draws of the parameters from this task's own stream."""
        return PriorDesign(self.parameters, n, self.seed, f"prior/{self._stream}")

    @property
    def _stream(self) -> str:
        return f"waveform/{self.kind}/{self.stream}"

    @property
    def n_samples(self) -> int:
        """Samples of a run."""
        return round(self.duration * self.sfreq)

    @cached_property
    def clock(self) -> Clock:
        """Times of the simulation; its filter acts before samples are thinned out."""
        every = ceil(1 / (self.sfreq * _STEP) - 1e-9)
        samples = self.n_samples + (
            round(_SEARCH * self.sfreq) if self.waveform.event == "spike" else 0
        )
        start = float(self.times[0])
        stop = start + (samples - 1) / self.sfreq
        return Clock(start, stop, step=1 / (self.sfreq * every), every=every, settle=_SETTLE)

    @property
    def times(self) -> NDArray[np.float64]:
        """Times of the samples in s; 0 is the spike's peak or the stimulus, if there is one."""
        return np.asarray((np.arange(self.n_samples) - self.n_samples // 2) / self.sfreq)

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Everything that the results depend on."""
        return {
            "task": "waveform",
            "kind": self.kind,
            "declaration": digest(self.declaration),
            "prior": self.parameters.to_dict(),
            "event": self.waveform.event,
            "band": self.waveform.band,
            "limits": [_STEP, _SETTLE, _SEARCH, _SPIKE, _SHARP, _RESPONSE, _RESPONSE_ENDS],
            "duration": self.duration,
            "sfreq": self.sfreq,
            "seed": self.seed,
            "stream": self.stream,
        }

    @property
    def coords(self) -> dict[str, Any]:
        """Coordinates of the samples."""
        return {"time": ("time", self.times, {"units": "s"})}

    @property
    def variables(self) -> dict[str, Variable]:
        """The potential, the sample of its event, and whether it is what its kind promises."""
        return {
            "potential": Variable(("time",), "float32", {"units": "mV"}),
            "event": Variable(
                (), "int32", {"units": "1", "meaning": "sample of the peak, -1 without"}
            ),
            "valid": Variable((), "bool", {"units": "1", "meaning": "the waveform may be used"}),
        }

    def simulate(self, theta: xr.DataArray, index: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """Run the columns; see :class:`nmm_infer.campaign.Task`."""
        values = self.parameters.values(theta)
        blocks = [slice(k, k + _BLOCK) for k in range(0, len(index), _BLOCK)]
        parts = [self._simulate(values[block], index[block]) for block in blocks]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _simulate(
        self, theta: NDArray[np.float64], index: NDArray[np.int64]
    ) -> dict[str, NDArray[Any]]:
        values = dict(zip(self.parameters.names, theta.T[..., None], strict=True))
        stimuli = []
        if self.waveform.event == "response":
            stimuli.append(Volley(0, None, 0.0, values["stimulus_amplitude"]))
        runs = integrate(
            self.declaration,
            self.clock,
            constants={k: v for k, v in values.items() if k in self.declaration.defaults},
            drive=values["drive"],
            noise=values["noise"],
            stimuli=stimuli,
            seed=self.seed,
            stream=f"noise/{self._stream}",
            index=index,
        )
        (potential,) = runs.outputs.values()
        series = np.where(runs.diverged[:, None], np.float32(0), potential[:, 0])
        if self.waveform.event == "spike":
            series, event, valid = _around_spikes(series, self.n_samples)
        elif self.waveform.event == "response":
            event, valid = _responses(series, self.times)
        else:
            event = np.full(len(index), -1)
            valid = _in_band(series, self.sfreq, self.waveform.band)
        return {
            "potential": series,
            "event": event.astype(np.int32),
            "valid": valid & ~runs.diverged,
            "status": np.where(runs.diverged, DIVERGED, OK).astype(np.int8),
        }


def _around_spikes(
    series: NDArray[np.floating], n: int
) -> tuple[NDArray[np.floating], NDArray[np.int64], NDArray[np.bool_]]:
    """Cut ``n`` samples about the first spike that is the only one in them."""
    half = n // 2
    cut, event = np.array(series[:, :n]), np.full(len(series), -1)
    for i, row in enumerate(series):
        level = np.median(row)
        peaks, _ = signal.find_peaks(row, height=level + _SPIKE, prominence=_SPIKE)
        gaps = np.diff(peaks, prepend=-n, append=len(row) + n)
        alone = (gaps[:-1] > half) & (gaps[1:] >= n - half)
        found = peaks[alone & (peaks >= half) & (peaks + n - half <= len(row))]
        if len(found):
            cut[i], event[i] = row[found[0] - half : found[0] - half + n], half
    deviation = cut - np.median(cut, axis=1, keepdims=True)
    spread = 1.4826 * np.median(np.abs(deviation), axis=1)
    valid = (event >= 0) & (deviation[:, half] > _SHARP * spread)
    return cut, np.where(valid, event, -1), valid


def _responses(
    series: NDArray[np.floating], times: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Find the peak of what follows the stimulus."""
    before, after = times < 0, (times >= 0) & (times <= _RESPONSE_ENDS)
    rest = series[:, before]
    change = np.abs(series[:, after] - rest.mean(axis=1, keepdims=True))
    event = np.flatnonzero(after)[change.argmax(axis=1)]
    valid = change.max(axis=1) > _RESPONSE * rest.std(axis=1)
    return np.where(valid, event, -1), valid


def _in_band(
    series: NDArray[np.floating], sfreq: float, band: tuple[float, float] | None
) -> NDArray[np.bool_]:
    """Tell whether the largest peak of the spectrum lies in a band."""
    if band is None:
        return np.ones(len(series), bool)
    frequencies, power = signal.welch(series, sfreq, nperseg=round(sfreq), axis=-1)
    searched = frequencies >= _SLOWEST
    peak = frequencies[searched][power[:, searched].argmax(axis=1)]
    return np.asarray((peak >= band[0]) & (peak <= band[1]))

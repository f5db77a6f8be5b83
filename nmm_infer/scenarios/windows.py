"""Windows of sensor data with their truth, made when they are needed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import cached_property
from threading import Lock
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from nmm_infer import _random
from nmm_infer._checks import check_whole, pair
from nmm_infer._threads import n_threads
from nmm_infer.anatomy import Head, SensorOperator
from nmm_infer.errors import InputError
from nmm_infer.observation.noise import NoiseSource, snr_db
from nmm_infer.observation.noise.mixture import sampling_rates
from nmm_infer.scenarios.bank import Bank, Norm, Picks, scaled
from nmm_infer.scenarios.truth import ActiveSource, Draw, Scenario, Truth

__all__ = ["Windows"]

_UNITS = {"eeg": "V/nAm", "mag": "T/nAm", "grad": "T/m/nAm"}
_BLOCK = 128  # windows whose noise is drawn at once
_KEPT = 4  # blocks of noise in memory


@dataclass(frozen=True, eq=False)
class Windows:
    """Any number of windows of simulated sensor data, each with exact truth.

    ``sensors = operator(gain @ moments + noise)``. A window depends on ``seed``, ``stream`` and its
    number only, so batches of any size and order hold the same windows. Nothing is stored but
    the bank: a window is active sources of the scenario, each with a waveform of the bank, and
    noise.

    Parameters
    ----------
    head : Head
        Gain and sources.
    sources : Patches, Blobs, Regions, Zones
        Where activity is.
    bank : Bank, optional
        When it is: time courses. Without, a window is one sample at which all waveforms are 1.
    noise : NoiseSource, optional
        Noise at the head's channels, before the operator; of any kind, the brain's background
        among them. Noise is drawn in blocks of 128 windows, so a :class:`Mixture` has its shares
        over a block.
    snr_db : tuple of float, optional
        Smallest and largest signal-to-noise ratio in dB, as :func:`snr_db` defines it, after the
        operator; uniform. The noise of each window is scaled to its own. Without, noise is added as
        it is.
    operator : SensorOperator, optional
        Reference, interpolation or whitening of signal and noise alike.
    n_times : int
        Samples of a window.
    n : int
        Number of windows; they are numbered from 0.
    seed : int
        Seed of the study.
    stream : str
        Training, test, ...: windows of different streams share nothing but the bank. Give these
        banks of their own.
    norm : {"peak", "rms"}
        What is 1 of a waveform: its largest magnitude or its root mean square.
    correlation : float
        Correlation, 0 to 1, of the waveforms within a window: each has a part, this share of its
        power, in common with all others. Expected; chance correlations come on top.

    Raises
    ------
    InputError
        If head, scenario, bank, noise and operator do not fit each other, or a value is not
        possible.

    Examples
    --------
    >>> windows = Windows(head, Patches(), bank, noise, (0, 20), n_times=500)  # doctest: +SKIP
    >>> batch = windows.batch(range(32))  # doctest: +SKIP
    >>> batch["sensors"].dims  # doctest: +SKIP
    ('window', 'channel', 'time')
    >>> windows.truth(range(4)).activity().dims  # doctest: +SKIP
    ('window', 'component', 'time')
    """

    head: Head
    sources: Scenario
    bank: Bank | None = None
    noise: NoiseSource | None = None
    snr_db: tuple[float, float] | None = None
    operator: SensorOperator | None = None
    n_times: int = 1
    n: int = 100_000
    seed: int = 0
    stream: str = "training"
    norm: Norm = "peak"
    correlation: float = 0.0

    def __post_init__(self) -> None:
        for name, least in (("n", 1), ("n_times", 1), ("seed", 0)):
            check_whole(name, getattr(self, name), least)
        if not 0 <= self.correlation <= 1:
            raise InputError(f"correlation is {self.correlation:g}: it is between 0 and 1")
        if self.bank is not None:
            self.bank.check(self.n_times)
        elif self.n_times != 1:
            raise InputError(
                f"windows of {self.n_times} samples need waveforms: give a bank, or n_times=1"
            )
        if self.norm not in ("peak", "rms"):
            raise InputError(f"norm is 'peak' or 'rms', not {self.norm!r}")
        if self.snr_db is not None:
            self._check_snr(*pair("snr_db", self.snr_db))
        if self.noise is not None:
            self._check_noise(self.noise)
        _ = self._gain, self._draw

    def _check_snr(self, low: float, high: float) -> None:
        if self.noise is None:
            raise InputError("a signal-to-noise ratio needs noise: give noise, or no snr_db")
        if not (np.isfinite([low, high]).all() and low <= high):
            raise InputError(
                f"snr_db is {low:g} to {high:g}: give two finite values, the smaller first"
            )

    def _check_noise(self, noise: NoiseSource) -> None:
        missing = [name for name in self._inputs if name not in noise.channels]
        if missing:
            raise InputError(
                f"the noise lacks channel(s) {', '.join(missing[:5])}: make it for the channels of "
                "the head"
            )
        for rate in sampling_rates(noise):
            if self.bank is not None and not np.isclose(rate, self.bank.sfreq, rtol=1e-6):
                raise InputError(
                    f"the bank is sampled at {self.bank.sfreq:g} Hz, the noise at {rate:g} Hz: "
                    "make both at one sampling rate"
                )

    def __getstate__(self) -> dict[str, Any]:
        # What is cached is found again: locks and remembered patches do not travel.
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def __len__(self) -> int:
        return self.n

    @property
    def channels(self) -> list[str]:
        """Names of the channels, as they come out of the operator."""
        return self.head.channels if self.operator is None else list(self.operator.outputs)

    @property
    def times(self) -> NDArray[np.float64]:
        """Times of the samples in s, from the beginning of a window."""
        return np.arange(self.n_times) / (1.0 if self.bank is None else self.bank.sfreq)

    @property
    def _inputs(self) -> Sequence[str]:
        return self.head.channels if self.operator is None else self.operator.inputs

    @cached_property
    def gain(self) -> xr.DataArray:
        """Gain after the operator, dims (channel, component), in V, T or T/m per nAm."""
        gain = self.head.gain if self.operator is None else self.operator(self.head.gain)
        if self.operator is not None and self.operator.units is not None:
            return gain
        info = self.head.forward["info"]
        kinds = dict(zip(info["ch_names"], info.get_channel_types(), strict=True))
        found = sorted({kinds[name] for name in self.channels if name in kinds})
        if len(found) > 1:
            raise InputError(
                f"channels of types {', '.join(found)} have different units: pick one type, or "
                "whiten them by an operator"
            )
        return gain.assign_attrs(units=_UNITS.get(found[0]) if found else gain.attrs["units"])

    @cached_property
    def _gain(self) -> NDArray[np.float32]:
        """Gain with components first: those of a patch are then rows."""
        return np.ascontiguousarray(self.gain.values.T, dtype=np.float32)

    @cached_property
    def _draw(self) -> Draw:
        return self.sources.on(self.head)

    @cached_property
    def _noise(self) -> _Noise:
        assert self.noise is not None
        rows = [self.noise.channels.index(name) for name in self._inputs]
        matrix = None if self.operator is None else self.operator.matrix.astype(np.float32)
        name = f"windows/noise/{self.stream}"
        return _Noise(self.noise, rows, matrix, self.n_times, self.seed, name)

    def batch(self, numbers: ArrayLike, *, parts: bool = False) -> xr.Dataset:
        """Make some windows.

        Parameters
        ----------
        numbers : array_like of int, shape (window,)
            Their numbers, 0 to n - 1, in any order.
        parts : bool
            Whether ``noise`` is told too. Signal and noise are ``sensors - noise`` and it.

        Returns
        -------
        xarray.Dataset
            ``sensors`` (window, channel, time), float32, in V, T or T/m, or without unit after
            whitening; ``snr`` (window) in dB, as realised, where there is noise; ``n_active``
            (window); ``waveform`` (window, active, time), without unit; ``run`` and ``kind``
            (window, active), where a waveform comes from in the bank; and what the scenario tells
            of each active source. Missing ones are -1, NaN, "" or, for waveforms, 0.

        Raises
        ------
        InputError
            If a number is out of range, or a signal or noise is silent in a window.
        """
        drawn = self._windows(numbers)
        sensors = np.empty((len(drawn.numbers), len(self.channels), self.n_times), np.float32)
        first = 0
        for row, active in zip(sensors, drawn.active, strict=True):
            np.matmul(
                self._topographies(active), drawn.waveforms[first : first + len(active)], out=row
            )
            first += len(active)
        data: dict[str, Any] = {}
        if self.noise is not None:
            noise = self._noise(drawn.numbers)
            ratio = snr_db(sensors, noise)
            if self.snr_db is not None:
                factor = 10 ** ((ratio - drawn.snr) / 20)
                noise *= factor[:, None, None].astype(np.float32)
                ratio = drawn.snr
            sensors += noise
            data["snr"] = ("window", ratio, {"units": "dB"})
            if parts:
                data["noise"] = (("window", "channel", "time"), noise, self._units)
        data["sensors"] = (("window", "channel", "time"), sensors, self._units)
        data |= self._facts(drawn)
        vectors = any("axis" in variable.dims for variable in self.sources.facts.values())
        return xr.Dataset(
            data,
            coords={
                "window": drawn.numbers,
                "channel": self.channels,
                "time": ("time", self.times, {"units": "s"}),
                **({"axis": ["x", "y", "z"]} if vectors else {}),
            },
            attrs={"seed": self.seed, "stream": self.stream},
        )

    def truth(self, numbers: ArrayLike) -> Truth:
        """Return the moments behind some windows, exactly.

        Parameters
        ----------
        numbers : array_like of int, shape (window,)
            Numbers of the windows.

        Returns
        -------
        Truth
        """
        drawn = self._windows(numbers)
        return Truth(self.head, drawn.numbers, drawn.active, drawn.waveforms, self.times)

    def batches(
        self, size: int = 64, start: int = 0, stop: int | None = None, *, parts: bool = False
    ) -> Iterator[xr.Dataset]:
        """Yield batches of windows, in order; a few are made ahead, on all threads.

        Parameters
        ----------
        size : int
            Windows of a batch; the last one may be smaller. Divisors and multiples of 128 are
            fastest.
        start, stop : int
            First window, and the one after the last.
        parts : bool
            See :meth:`batch`.

        Yields
        ------
        xarray.Dataset
            See :meth:`batch`.
        """
        stop = self.n if stop is None else stop
        if size < 1 or not 0 <= start <= stop <= self.n:
            raise InputError(
                f"batches of {size} from {start} to {stop} of {self.n} windows make no sense"
            )
        threads = n_threads()
        jobs = (np.arange(k, min(k + size, stop)) for k in range(start, stop, size))
        with ThreadPoolExecutor(threads, thread_name_prefix="windows") as pool:
            ahead: deque[Future[xr.Dataset]] = deque()
            try:
                for numbers in jobs:
                    ahead.append(pool.submit(self.batch, numbers, parts=parts))
                    if len(ahead) > threads:
                        yield ahead.popleft().result()
                while ahead:
                    yield ahead.popleft().result()
            finally:
                for future in ahead:
                    future.cancel()

    @property
    def _units(self) -> dict[str, str]:
        return {"units": str(self.gain.attrs["units"]).removesuffix("/nAm")}

    def _windows(self, numbers: ArrayLike) -> _Drawn:
        """Draw what some windows are, without noise."""
        chosen = np.atleast_1d(np.asarray(numbers))
        if chosen.ndim != 1 or not chosen.size or not np.issubdtype(chosen.dtype, np.integer):
            raise InputError("numbers of windows: give one whole number or a list of them")
        if chosen.min() < 0 or chosen.max() >= self.n:
            odd = chosen[(chosen < 0) | (chosen >= self.n)][0]
            raise InputError(f"there is no window {odd}: they are numbered from 0 to {self.n - 1}")
        active, runs, starts = [], [], []
        snr = np.full(len(chosen), np.nan)
        for row, number in enumerate(chosen):
            rng = _random.generator(self.seed, f"windows/{self.stream}", int(number))
            active.append(self._draw(rng))
            if self.bank is not None:
                # One more than sources: what they have in common.
                picks = self.bank.pick(rng, len(active[-1]) + 1, self.n_times)
                runs.append(picks.run)
                starts.append(picks.start)
            if self.snr_db is not None:
                snr[row] = rng.uniform(*self.snr_db)
        counts = np.array([len(some) for some in active])
        run, waveforms = self._waveforms(counts, runs, starts)
        return _Drawn(chosen.astype(np.int64), active, run, waveforms, snr)

    def _topographies(self, active: list[ActiveSource]) -> NDArray[np.float32]:
        """Return the signals of active sources where their waveforms are 1, (channel, active)."""
        shared = active[0].components
        if all(source.components is shared for source in active):  # blobs: one product for all
            whole = len(shared) == len(self._gain) and bool((np.diff(shared) == 1).all())
            gain = self._gain if whole else self._gain[shared]
            return (np.stack([source.moments for source in active]) @ gain).T
        return np.stack([s.moments @ self._gain[s.components] for s in active], axis=1)

    def _waveforms(
        self, counts: NDArray[np.int64], runs: list[NDArray[np.int64]], starts: list[Any]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return run and waveform of each active source, window after window."""
        total = int(counts.sum())
        if self.bank is None:
            return np.full(total, -1), np.ones((total, 1), np.float32)
        last = np.cumsum(counts + 1) - 1
        own = np.ones(total + len(counts), bool)
        own[last] = False
        run, start = np.concatenate(runs), np.concatenate(starts)
        waveforms = self.bank.cut(Picks(run[own], start[own]), self.n_times, self.norm)
        if self.correlation > 0:
            shared = self.bank.cut(Picks(run[last], start[last]), self.n_times, "rms")
            common = np.sqrt(np.float32(self.correlation)) * np.repeat(shared, counts, axis=0)
            rest = np.sqrt(np.float32(1 - self.correlation)) * scaled(waveforms, "rms")
            waveforms = scaled(common + rest, self.norm)
        return run[own], waveforms

    def _facts(self, drawn: _Drawn) -> dict[str, Any]:
        """Label what is told of active sources, filled up to the largest number of them."""
        counts = np.array([len(some) for some in drawn.active])
        shape = (len(counts), int(counts.max()))
        place = np.arange(shape[1]) < counts[:, None]

        def filled(values: NDArray[Any], empty: Any, *more: int) -> NDArray[Any]:
            whole = np.full((*shape, *more), empty, values.dtype)
            whole[place] = values
            return whole

        data: dict[str, Any] = {"n_active": ("window", counts, {"units": "1"})}
        dims = ("window", "active")
        waveforms = filled(drawn.waveforms, 0, self.n_times)
        data["waveform"] = ((*dims, "time"), waveforms, {"units": "1"})
        if self.bank is not None:
            data["run"] = (dims, filled(self.bank.number[drawn.run], -1), {"units": "1"})
            data["kind"] = (dims, filled(self.bank.kind[drawn.run], ""))
        every = [source.facts for some in drawn.active for source in some]
        for name, variable in self.sources.facts.items():
            empty = np.nan if variable.dtype.startswith("float") else -1
            gap = empty if not variable.dims else [empty] * 3
            values = np.array([facts.get(name, gap) for facts in every], variable.dtype)
            whole = filled(values, empty, *values.shape[1:])
            data[name] = ((*dims, *variable.dims), whole, dict(variable.attrs))
        return data


@dataclass(frozen=True, eq=False)
class _Drawn:
    """What some windows are: active sources, their runs and waveforms, the ratio asked for."""

    numbers: NDArray[np.int64]
    active: list[list[ActiveSource]]
    run: NDArray[np.int64]
    waveforms: NDArray[np.float32]
    snr: NDArray[np.float64]


class _Noise:
    """Noise of any window, drawn in blocks: many kinds cost as much for one window as for many."""

    def __init__(
        self,
        source: NoiseSource,
        rows: list[int],
        matrix: NDArray[np.float32] | None,
        n_times: int,
        seed: int,
        stream: str,
    ) -> None:
        self.source, self.rows, self.matrix = source, rows, matrix
        self.n_times, self.seed, self.stream = n_times, seed, stream
        self.ordered = rows == list(range(len(source.channels)))
        self.blocks: dict[int, Future[NDArray[np.float32]]] = {}
        self.lock = Lock()

    def __call__(self, numbers: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the noise of some windows, a copy, shape (window, channel, time)."""
        owner = numbers // _BLOCK
        result: NDArray[np.float32] | None = None
        for block in np.unique(owner):
            inside = owner == block
            part = self._block(int(block))[numbers[inside] - block * _BLOCK]
            if inside.all():
                return part
            if result is None:
                result = np.empty((len(numbers), *part.shape[1:]), np.float32)
            result[inside] = part
        assert result is not None
        return result

    def _block(self, block: int) -> NDArray[np.float32]:
        """Draw a block, or wait for the thread that draws it."""
        with self.lock:
            known = self.blocks.get(block)
            future: Future[NDArray[np.float32]] = Future() if known is None else known
            if known is None:
                self.blocks[block] = future
                if len(self.blocks) > _KEPT:
                    self.blocks.pop(next(iter(self.blocks)))
        if known is None:
            try:
                future.set_result(self._sample(block))
            except BaseException as error:
                future.set_exception(error)
                with self.lock:
                    self.blocks.pop(block, None)
        return future.result()

    def _sample(self, block: int) -> NDArray[np.float32]:
        rng = _random.generator(self.seed, self.stream, block)
        noise = self.source.sample(_BLOCK, self.n_times, rng)
        if not self.ordered:
            noise = noise[:, self.rows]
        return noise if self.matrix is None else self.matrix @ noise

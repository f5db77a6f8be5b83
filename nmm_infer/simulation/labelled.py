"""Simulate a model, labelled from end to end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from nmm_infer.errors import InputError
from nmm_infer.models import Model, get_model
from nmm_infer.simulation.clock import STOP_BAND_DB, Clock
from nmm_infer.simulation.engine import integrate
from nmm_infer.simulation.kernel import Scheme
from nmm_infer.simulation.network import Connection, Network
from nmm_infer.simulation.stimulus import Stimulus

__all__ = ["simulate"]


def simulate(
    model: str | Model = "jansen_rit",
    *,
    duration: float = 1.0,
    tmin: float = 0.0,
    settle: float = 0.5,
    step: float = 1e-3,
    sfreq: float | None = None,
    antialias: bool = True,
    connectome: xr.Dataset | Network | None = None,
    constants: Mapping[str, ArrayLike] | None = None,
    drive: ArrayLike | Mapping[str, ArrayLike] = 0.0,
    noise: ArrayLike | Mapping[str, ArrayLike] = 0.0,
    stimuli: Stimulus | Sequence[Stimulus] = (),
    strength: ArrayLike | Mapping[str, ArrayLike] = 1.0,
    speed: ArrayLike = 4.0,
    initial: ArrayLike | None = None,
    record: Sequence[str] | None = None,
    scheme: Scheme = "heun",
    dtype: Literal["float32", "float64"] = "float32",
    coupling_update: Literal["stage", "step"] = "stage",
    n_simulations: int | None = None,
    n_trials: int | None = None,
    seed: int = 0,
) -> xr.Dataset:
    r"""Simulate columns, one or many, once or many times.

    Parameters
    ----------
    model : str or Model
        A registered model's name (``nmm_infer.models.model_names()``) or a declaration.
    duration, tmin : float
        Length of what is kept and time of its first sample, in s.
    settle : float
        Time integrated before ``tmin`` and thrown away, in s.
    step : float
        Integration step, in s.
    sfreq : float, optional
        Sampling rate of what is kept, in Hz, a whole fraction of 1 / step; every step without.
    antialias : bool
        Whether samples pass a linear-phase low-pass filter before they are thinned out; see
        :class:`Clock`.
    connectome : xarray.Dataset or Network, optional
        ``weights`` and ``tract_lengths`` [mm], both (target, source), coupled by the sum of
        delayed firing rates; a :class:`Network` for anything else; a single column without.
    constants : mapping of str to array_like, shape broadcastable to (simulation, region)
        Parameters that differ from the published values. To vary by simulation only, give shape
        (simulation, 1).
    drive : array_like or mapping by target, shape broadcastable to (simulation, region)
        Constant background drive in 1/s.
    noise : array_like or mapping by target, shape broadcastable to (simulation, region)
        Intensity of white noise on the drive, in 1/sqrt(s); see :func:`integrate`.
    stimuli : Stimulus or sequence of Stimulus
        For instance ``Volley(node="cuneus-lh", onset=0.05, amplitude=150.0)``.
    strength : array_like or mapping by connection, shape broadcastable to (simulation,)
        Global coupling strength.
    speed : array_like, shape () or (simulation,)
        Conduction speed in m/s.
    initial : array_like, shape broadcastable to (state, simulation, region), optional
        Initial states; the lowest equilibrium of each column without.
    record : sequence of str, optional
        Outputs to keep; the signal that sources the EEG without.
    scheme, dtype, coupling_update
        See :func:`integrate`.
    n_simulations : int, optional
        Number of simulations; the longest of the arrays without.
    n_trials : int, optional
        Repetitions of every simulation with noise of their own.
    seed : int
        Seed of the noise.

    Returns
    -------
    xarray.Dataset
        One variable for each output, dims (simulation, region, time), or (simulation, trial,
        region, time) with ``n_trials``; ``status`` (0: ok, 1: diverged) and ``diverged_at`` [s].
        All carry units.

    Raises
    ------
    InputError
        See :func:`integrate`.

    Examples
    --------
    >>> data = simulate(drive=120.0, noise=2.0, duration=1.0, sfreq=250.0, n_simulations=3)
    >>> data["potential"].dims, data["potential"].attrs["units"]
    (('simulation', 'region', 'time'), 'mV')
    """
    model = get_model(model)
    network = _network(connectome)
    every = 1
    if sfreq is not None:
        every = round(1.0 / (sfreq * step)) if sfreq > 0 else 0
        if every < 1 or abs(every * sfreq * step - 1.0) > 1e-9:
            raise InputError(
                f"sfreq: {sfreq:g} Hz is no whole fraction of the {1 / step:g} steps per second"
            )
    clock = Clock(tmin, tmin + duration, step, every, settle, antialias)
    if isinstance(stimuli, Stimulus):
        stimuli = (stimuli,)
    if n_simulations is None:
        n_simulations = _batch(constants, drive, noise, strength, speed, initial, stimuli)
    repeats = 1 if n_trials is None else n_trials
    if n_simulations < 1 or repeats < 1:
        raise InputError("n_simulations and n_trials must be positive")
    runs = []
    for trial in range(repeats):
        runs.append(
            integrate(
                model, clock, network=network, constants=constants, drive=drive, noise=noise,
                stimuli=stimuli, strength=strength, speed=speed, initial=initial, record=record,
                scheme=scheme, dtype=dtype, coupling_update=coupling_update, seed=seed,
                index=np.arange(n_simulations), trial=trial,
            )
        )  # fmt: skip
    middle = () if n_trials is None else ("trial",)

    def joined(parts: list[Any]) -> Any:
        return parts[0] if n_trials is None else np.stack(parts, axis=1)

    data = xr.Dataset(
        coords={
            "simulation": np.arange(n_simulations),
            "region": network.nodes,
            "time": ("time", clock.sample_times, {"units": "s"}),
        }
    )
    for name in runs[0].outputs:
        dims = ("simulation", *middle, "region", "time")
        unit = model.get_output(name).unit
        data[name] = (dims, joined([r.outputs[name] for r in runs]), {"units": unit})
    data["status"] = (
        ("simulation", *middle),
        joined([r.diverged.astype(np.int8) for r in runs]),
        {"flag_values": [0, 1], "flag_meanings": "ok diverged", "units": "1"},
    )
    data["diverged_at"] = (
        ("simulation", *middle),
        joined([r.diverged_at for r in runs]),
        {"units": "s", "long_name": "first sample that is not finite"},
    )
    data.attrs = {
        "model": model.name,
        "reference": model.reference,
        "scheme": scheme,
        "step": step,
        "dtype": dtype,
        "coupling_update": coupling_update,
        "seed": seed,
        "antialias": (
            f"linear-phase FIR, {STOP_BAND_DB:g} dB from {0.6 * clock.sfreq:g} Hz on, flat to "
            f"{0.4 * clock.sfreq:g} Hz"
            if clock.filtered
            else "none"
        ),
        "short_delays": network.short,
        "nmm_infer": version("nmm-infer"),
    }
    return data


def _network(connectome: xr.Dataset | Network | None) -> Network:
    if connectome is None:
        return Network.column()
    if isinstance(connectome, Network):
        return connectome
    missing = [name for name in ("weights", "tract_lengths") if name not in connectome]
    if missing:
        raise InputError(f"connectome: the dataset has no variable {missing[0]!r}")
    return Network([Connection(connectome["weights"], connectome["tract_lengths"])])


def _batch(
    constants: Mapping[str, ArrayLike] | None,
    drive: Any,
    noise: Any,
    strength: Any,
    speed: Any,
    initial: Any,
    stimuli: Sequence[Stimulus],
) -> int:
    """Return the number of simulations that the arrays tell."""
    sizes = [1]
    for group in (constants or {}, drive, noise):
        for values in group.values() if isinstance(group, Mapping) else [group]:
            sizes += [np.shape(values)[0]] if np.ndim(values) == 2 else []
    for group in (strength, speed):
        for values in group.values() if isinstance(group, Mapping) else [group]:
            sizes += [np.shape(values)[0]] if np.ndim(values) == 1 else []
    if np.ndim(initial) == 3:
        sizes.append(np.shape(initial)[1])
    sizes += [stimulus.batch for stimulus in stimuli]
    return max(sizes)

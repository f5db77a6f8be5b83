"""Virtual recordings: what an EEG would show of simulated columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mne
import numpy as np
from numpy.typing import ArrayLike

from nmm_infer import _random
from nmm_infer.anatomy import Head, desikan_killiany_connectome, row_normalised, template_head
from nmm_infer.errors import InputError
from nmm_infer.observation.noise import NoiseSource
from nmm_infer.simulation import simulate

__all__ = ["simulate_raw"]


def simulate_raw(
    info: mne.Info,
    *,
    duration: float = 10.0,
    head: Head | None = None,
    source_scale: ArrayLike = 50.0,
    sensor_noise: float = 0.0,
    noise_sources: Sequence[NoiseSource] = (),
    step: float = 1e-3,
    seed: int = 0,
    **options: Any,
) -> mne.io.RawArray:
    """Simulate an EEG or MEG recording of coupled columns.

    Parameters
    ----------
    info : mne.Info
        EEG or MEG channels with positions, and the sampling rate, a whole fraction of 1 / step.
    duration : float
        Length in s.
    head : Head, optional
        Forward model; the template head for these channels without.
    source_scale : array_like, shape () or (region,)
        Moment of each region in nAm for one mV of the model's signal, signed along the outward
        normal.
    sensor_noise : float
        Standard deviation of white noise on every channel, in V (T, T/m).
    noise_sources : sequence of NoiseSource
        Blinks, line noise, drifts, electrode pops and more (:mod:`nmm_infer.observation.noise`),
        for the channels of `info` at its sampling rate; they are added as they are.
    step : float
        Integration step in s.
    seed : int
        Seed of state and sensor noise.
    **options
        Further arguments of :func:`nmm_infer.simulate`: model, drive, noise, stimuli, strength,
        speed, ... The connectome is by default the Desikan-Killiany one, rows scaled to sum 1.

    Returns
    -------
    mne.io.RawArray
        Signals in V (MEG: T, T/m), referenced as the forward model is (to infinity); the simulated
        potentials have had their mean over time taken away, as any EEG amplifier does.

    Raises
    ------
    InputError
        If the simulation diverges, or the regions of head and connectome differ.

    Examples
    --------
    >>> info = mne.create_info(["Fz", "Cz", "Pz", "Oz", "C3", "C4"], 250.0, "eeg")
    >>> info = info.set_montage("standard_1005")
    >>> raw = simulate_raw(info, duration=1.0, drive=200.0, noise=5.0, strength=10.0)
    >>> raw.get_data().shape
    (6, 251)
    """
    head = template_head(info) if head is None else head
    if "connectome" not in options:
        connectome = desikan_killiany_connectome()
        connectome["weights"] = row_normalised(connectome["weights"])
        absent = sorted(set(head.regions) - set(connectome.coords["target"].values.tolist()))
        if absent:
            raise InputError(f"give a connectome of the head's regions: {absent[0]!r} is not known")
        options["connectome"] = connectome.sel(target=head.regions, source=head.regions)
    data = simulate(duration=duration, sfreq=info["sfreq"], step=step, seed=seed, **options)
    if data.sizes["simulation"] != 1 or "trial" in data.dims:
        raise InputError("a recording is one simulation: give parameters for one")
    if int(data["status"][0]) != 0:
        raise InputError(
            f"the simulation diverged at {float(data['diverged_at'][0]):g} s: take a smaller step "
            "or weaker coupling"
        )
    regions = [str(name) for name in data.coords["region"].values]
    if regions != list(head.regions):
        raise InputError(
            f"the regions of head and connectome differ: {head.regions[0]!r}, ... and "
            f"{regions[0]!r}, ..."
        )
    try:
        scale = np.broadcast_to(np.asarray(source_scale, dtype=float), (len(regions),))
    except ValueError:
        raise InputError(
            f"source_scale: shape {np.shape(source_scale)} does not fit {len(regions)} regions"
        ) from None
    potential = data["potential"].values[0].astype(float)
    moments = scale[:, None] * (potential - potential.mean(axis=1, keepdims=True))
    signals = head.leadfield.values @ moments
    rng = _random.generator(seed, "raw/sensors")
    signals += sensor_noise * rng.standard_normal(signals.shape)
    for number, source in enumerate(noise_sources):
        if list(source.channels) != list(info["ch_names"]):
            raise InputError(f"noise source {number} is not for the channels of info")
        rng = _random.generator(seed, "raw/noise", number)
        signals += source.sample(1, signals.shape[1], rng)[0]
    return mne.io.RawArray(signals, info, verbose="error")

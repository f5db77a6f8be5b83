"""What the experiments on single columns share: noise, campaigns, scores."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

import mne
import numpy as np
import xarray as xr

from nmm_infer.anatomy import template_head
from nmm_infer.anatomy.sensors import reference
from nmm_infer.campaign import Campaign, PriorDesign, run
from nmm_infer.observation import (
    BrainBackground,
    NoiseKind,
    NoiseLevels,
    Sequences,
    View,
    levels_for,
    noise_from_baseline,
    power_law_noise,
    read_recording,
    white_noise,
)
from nmm_infer.observation.conditioning import time_operator
from nmm_infer.runs import build_task, column_info, column_observer, simulate_column
from nmm_infer.settings import TrainingSettings
from nmm_infer.study import Study

__all__ = [
    "KINDS",
    "Kept",
    "campaign",
    "kinds_of_noise",
    "levels",
    "realised",
    "schedule",
    "signal_power",
    "summary",
]

#: Kinds of noise; ``real`` needs the folder with recordings that NMM_INFER_DATA names.
KINDS = ("white", "pink", "real", "brain", "jitter")


def campaign(study: Study, n: int, stream: str) -> Campaign:
    """Return exactly so many runs of the study's stratum."""
    runs = simulate_column(study, n, stream)
    return runs.select(runs.valid[:n])


def schedule(runs: int, steps: int) -> dict[str, TrainingSettings]:
    """Schedules of a posterior: so many steps of encoder and flow together.

    Three quarters as many for the encoder before, and two and a half times as many, at twice the
    batch, for the flow alone after. Few runs are read more often, at most 60 times.
    """
    batch = 64 if runs < 3000 else 256

    def stage(share: float, batch: int, rate: float) -> TrainingSettings:
        epochs = int(np.clip(round(share * steps * batch / runs), 2, 60))
        return TrainingSettings(epochs=epochs, batch_size=batch, learning_rate=rate)

    return {
        "pretraining": stage(0.75, batch, 3e-3),
        "training": stage(1.0, batch, 4e-3),
        "finishing": stage(2.5, 2 * batch, 4e-3),
    }


def kinds_of_noise(study: Study, names: tuple[str, ...] = KINDS) -> dict[str, NoiseKind]:
    """Return kinds of noise after the average reference, at unit levels of 1 uV or their own."""
    info, n = column_info(study), study.protocol.n_steps
    to, sfreq = reference(info), study.protocol.sfreq
    kinds = {}
    for name in names:
        if name == "white":
            kinds[name] = NoiseKind(white_noise(info, 1e-6, n).through(to))
        elif name == "pink":
            noise = power_law_noise(info, 1e-6, n, sfreq, (0.5, sfreq / 2))
            kinds[name] = NoiseKind(noise.through(to))
        elif name == "jitter":  # trials that come 10 ms early or late
            noise = white_noise(info, 1e-6, n).through(to)
            kinds[name] = NoiseKind(noise, jitter=0.01, trials=59)
        elif name == "real":
            path = _recording()
            if path is not None:
                kinds[name] = NoiseKind(_real(info, path, n))
        else:
            kinds[name] = NoiseKind(_background(study, info))
    return kinds


def _recording() -> Path | None:
    """EEGLAB's tutorial recording, where it is."""
    folder = os.environ.get("NMM_INFER_DATA")
    path = Path(folder or "") / "eeglab_visual" / "eeglab_data.set"
    return path if folder and path.exists() else None


def _real(info: mne.Info, path: Path, n: int) -> Any:
    """Covariance and autocorrelation of a recording, interpolated to the electrodes."""
    raw = read_recording(path).copy().load_data(verbose="error").pick("eeg", verbose="error")
    raw.filter(None, 40.0, verbose="error").resample(info["sfreq"], verbose="error")
    raw.set_eeg_reference("average", verbose="error")
    with mne.utils.use_log_level("error"):
        raw = raw.interpolate_to(info.get_montage(), method="spline")
    data = raw.get_data(picks=info.ch_names)
    length = n
    count = data.shape[1] // length
    segments = data[:, : count * length].reshape(len(data), count, length).swapaxes(0, 1)
    size = np.ptp(segments, axis=-1).max(axis=1)
    segments = segments[size < 4 * np.median(size)]  # without blinks and pops
    segments = segments - segments.mean(axis=-1, keepdims=True)
    return noise_from_baseline(segments, info, 1, n)


def _background(study: Study, info: mne.Info) -> BrainBackground:
    """Ongoing activity of all regions of the connectome through the same head."""
    head = template_head(info, settings=study.head)
    network = Study.spontaneous().replace(seed=study.seed)
    task = build_task(network, head.regions, stream="background")
    runs = run(task, PriorDesign(task.prior, 64, seed=study.seed, stream="prior/background"))
    runs = runs.select(runs.valid)
    times = runs.dataset.coords["time"].values
    sfreq = study.protocol.sfreq
    grid = np.arange(np.ceil(times[0] * sfreq), times[-1] * sfreq - 1) / sfreq
    to_grid = time_operator(
        len(times), 1 / float(np.diff(times).mean()), float(times[0]), grid, 0.5,
        study.protocol.h_freq,
    )  # fmt: skip
    signals = runs.dataset["potential"].values @ to_grid.astype(np.float32)
    return BrainBackground(
        info,
        reference(info)(head.leadfield),
        xr.DataArray(
            signals,
            dims=("run", "region", "time"),
            coords={"region": head.regions},
            attrs={"units": "mV"},
        ),
        sfreq,
        source_scale=50.0,  # the median of the default prior
    )


class Kept:
    """A view whose sequences are computed once, to ask many estimators about the same runs.

    Parameters
    ----------
    view : View
        The view; its noise of epoch 0 is kept.
    """

    def __init__(self, view: View) -> None:
        self.theta, self.accepted = view.theta, view.accepted
        self._sequences = view.sequences()

    def __len__(self) -> int:
        return len(self.theta)

    def sequences(self) -> Sequences:
        """Return what an estimator sees."""
        return self._sequences


@cache
def _sensors(study: str) -> tuple[float, float, list[float]]:
    plan = Study.model_validate_json(study)
    observer = column_observer(plan)
    runs = campaign(plan, 2000, "power")
    clean = observer.view(runs).clean().astype(float)
    power = np.square(clean - clean.mean(axis=-1, keepdims=True)).mean(axis=(1, 2, 3))
    return float(power.mean()), float(np.median(power)), power.tolist()


def signal_power(study: Study, of: str = "median") -> float:
    """Return the mean square of the signal over sensors and samples, V^2.

    The mean over the runs of the prior, or their median: rare large spikes make the mean many times
    the power of most runs.
    """
    mean, median, _ = _sensors(study.model_dump_json())
    return median if of == "median" else mean


def levels(
    study: Study, kinds: tuple[str, ...], snrs: tuple[float, ...], of: str = "median"
) -> NoiseLevels:
    """Return kinds of noise at levels fixed once against the prior's power."""
    return levels_for(
        kinds_of_noise(study, kinds), signal_power(study, of), snrs, study.protocol.n_steps
    )


def realised(study: Study, snrs: tuple[float, ...], of: str = "median") -> dict[str, Any]:
    """Return quantiles over runs of their own ratio in dB at each nominal one."""
    _, _, power = _sensors(study.model_dump_json())
    base = 10 * np.log10(np.array(power) / signal_power(study, of))
    quantiles = np.quantile(base, [0.05, 0.5, 0.95])
    return {f"{snr:g}": (quantiles + snr).tolist() for snr in snrs}


def summary(scores: xr.Dataset) -> dict[str, Any]:
    """Return the scores of :func:`nmm_infer.diagnostics.score` as a results file holds them."""
    result = {}
    for k, name in enumerate(scores.coords["parameter"].values.tolist()):
        row = {
            key: float(scores[key].values[k])
            for key in (
                "r2", "nrmse", "slope", "r", "crps", "crps_skill", "contraction", "spread"
            )
        }  # fmt: skip
        row["r2_interval"] = scores["r2_interval"].values[k].tolist()
        for level, label in ((0.5, "coverage_50"), (0.9, "coverage_90")):
            row[label] = float(scores["coverage"].sel(level=level).values[k])
        row["beats_mean"] = bool(scores["beats_mean"].values[k])
        row["collapsed"] = bool(scores["collapsed"].values[k])
        result[name] = row
    return result

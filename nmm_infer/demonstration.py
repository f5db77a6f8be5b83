"""A recording with known parameters."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import mne
import numpy as np
import xarray as xr

from nmm_infer import _random
from nmm_infer._progress import show_progress
from nmm_infer.anatomy import template_head
from nmm_infer.campaign import run
from nmm_infer.errors import InputError
from nmm_infer.observation import noise_from_level
from nmm_infer.runs import build_task
from nmm_infer.simulation import Clock
from nmm_infer.study import Study
from nmm_infer.workflow import Result, infer, with_truth

__all__ = ["demo", "simulate_recording"]

CHANNELS = (
    *("Fp1", "Fpz", "Fp2", "AF7", "AF3", "AFz", "AF4", "AF8"),
    *("F7", "F5", "F3", "F1", "Fz", "F2", "F4", "F6", "F8"),
    *("FT7", "FC5", "FC3", "FC1", "FCz", "FC2", "FC4", "FC6", "FT8"),
    *("T7", "C5", "C3", "C1", "Cz", "C2", "C4", "C6", "T8"),
    *("TP7", "CP5", "CP3", "CP1", "CPz", "CP2", "CP4", "CP6", "TP8"),
    *("P7", "P5", "P3", "P1", "Pz", "P2", "P4", "P6", "P8"),
    *("PO7", "PO3", "POz", "PO4", "PO8", "O1", "Oz", "O2", "P9", "P10", "Iz"),
)
EVENT = "stimulus"
REGION = "lateraloccipital-rh"
N_TRIALS = 200
TRIAL = 1.2  # s from one stimulus to the next
BEGIN = -0.45  # s from the beginning of a trial to its stimulus
SFREQ = 250.0
NOISE = 8e-6  # V, one channel in a single trial
CONDITIONS = {
    "drive": 15.0,
    "coupling": 10.0,
    "stimulus_amplitude": 200.0,
    "stimulus_onset": 0.05,
    "source_scale": -60.0,
    "background": 0.4,
}


def simulate_recording(study: Study) -> tuple[mne.io.RawArray, xr.DataArray]:
    """Simulate an EEG recording of a visual stimulus, trial by trial.

    Every trial is a run of the whole network of its own, with its own noise on the columns, and
    sensor noise is drawn for the whole recording; so the demonstration also tests the
    approximation by which training simulates averages directly (see :class:`NetworkTask`).

    Parameters
    ----------
    study : Study
        An evoked study.

    Returns
    -------
    raw : mne.io.RawArray
        64 channels with annotations ``"stimulus"``.
    truth : xarray.DataArray, dims (parameter)
        The true parameters: the column of Jansen and Rit (1995) in ``truth.attrs["region"]``.
    """
    if study.column is not None:
        raise InputError("the demonstration takes a study of the whole network, not of one column")
    info = mne.create_info(list(CHANNELS), SFREQ, "eeg", verbose="error")
    info.set_montage("fsaverage_1005", verbose="error")
    head = template_head(info)
    task = replace(
        build_task(study, head.regions, stream="recording", candidates=(REGION,), repeat=0),
        clock=Clock(BEGIN, BEGIN + TRIAL - 1 / SFREQ, every=round(1000 / SFREQ)),
    )
    prior = study.build_prior()
    known = {**study.declaration.defaults, **CONDITIONS}
    values = [known.get(p.name, p.low) for p in prior.parameters]
    truth = prior.label([values])[0].drop_vars("simulation")
    truth.attrs["region"] = REGION
    campaign = run(
        task, prior.label(np.tile(values, (N_TRIALS, 1))), description="Simulating the recording"
    )
    weight = np.full(len(head.regions), CONDITIONS["background"])
    weight[head.regions.index(REGION)] = 1.0
    leadfield = head.leadfield.values * weight * CONDITIONS["source_scale"]
    trials = leadfield @ campaign.dataset["potential"].values
    length = trials.shape[-1]
    noise = noise_from_level(info, NOISE, length, SFREQ, (0.3, 100.0)).sample(
        N_TRIALS, length, _random.generator(study.seed, "recording/sensors")
    )
    raw = mne.io.RawArray(np.concatenate(list(trials + noise), axis=1), info, verbose="error")
    onsets = np.arange(N_TRIALS) * TRIAL - BEGIN
    raw.set_annotations(mne.Annotations(onsets, np.zeros(N_TRIALS), EVENT))
    return raw, truth


def demo(
    study: Study | None = None, *, store: str | Path | None = None, progress: bool = True
) -> Result:
    """Run the main job on a recording simulated with known parameters.

    Parameters
    ----------
    study : Study, optional
        An evoked study; the default one without.
    store, progress
        See :func:`nmm_infer.infer`.

    Returns
    -------
    Result
        The result, with the truth in ``result.truth``.
    """
    study = Study.evoked() if study is None else study
    with show_progress(progress):
        raw, truth = simulate_recording(study)
        result = infer(raw, study, events=EVENT, store=store, progress=progress)
    return with_truth(result, truth)

"""The runs of a study: from what it says to a task, and to a campaign."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import mne

from nmm_infer._checks import check_whole
from nmm_infer._progress import show_progress
from nmm_infer.anatomy import patch_head, template_head
from nmm_infer.anatomy.sensors import reference
from nmm_infer.campaign import Campaign, PriorDesign, run
from nmm_infer.errors import InputError
from nmm_infer.observation import (
    EvokedProtocol,
    Noise,
    NoiseLevels,
    Observation,
    Observer,
    white_noise,
)
from nmm_infer.scenarios import ColumnTask, NetworkTask
from nmm_infer.simulation import Clock
from nmm_infer.study import Study

__all__ = [
    "build_task",
    "column_observer",
    "simulate_campaign",
    "simulate_column",
    "simulate_study",
]


def build_task(
    study: Study,
    regions: list[str],
    *,
    stream: str,
    n_averages: int = 1,
    candidates: tuple[str, ...] | None = None,
    repeat: int | None = None,
) -> NetworkTask | ColumnTask:
    """Return the simulations of a study: of the network of all regions, or of one column.

    Parameters
    ----------
    study : Study
        The study.
    regions : list of str
        Regions of the head model, Desikan-Killiany names.
    stream : str
        Name of the random stream.
    n_averages : int
        Trials in the average that a run stands for.
    candidates : tuple of str, optional
        Regions that may be the focus; without, the protocol's region or all of them.
    repeat : int, optional
        See :class:`~nmm_infer.scenarios.NetworkTask`.

    Returns
    -------
    NetworkTask or ColumnTask
        What is simulated, its times and the prior, ready for a campaign.

    Raises
    ------
    InputError
        If the connectome lacks one of the regions.
    """
    if study.column is not None:
        return _column_task(study, stream)
    protocol = study.protocol
    connectome = study.build_connectome()
    known = connectome.coords["target"].values.tolist()
    absent = sorted(set(regions) - set(known))
    if absent:
        raise InputError(
            f"the connectome has no region {absent[0]!r} of the head; it has "
            f"{', '.join(known[:3])}, ...: head and connectome must have the same region names"
        )
    connectome = connectome.sel(target=regions, source=regions)
    # Stored at four samples a period of the highest frequency that the protocol keeps.
    every = int(1000 / (4 * protocol.h_freq))
    margin = 0.1 + 4 * every * 1e-3
    first, last = float(protocol.times[0]), float(protocol.times[-1])
    settle = 0.3 if isinstance(protocol, EvokedProtocol) else 1.0
    if candidates is None:
        candidates = tuple(regions) if protocol.region is None else (protocol.region,)
    return NetworkTask(
        kind=protocol.kind,
        model=study.model,
        prior=study.build_prior(),
        connectome=connectome,
        clock=Clock(first - margin, last + margin, every=every, settle=settle, margin=margin),
        candidates=candidates,
        n_averages=n_averages,
        seed=study.seed,
        stream=stream,
        repeat=repeat,
        model_file=study.model_file,
    )


def _column_task(study: Study, stream: str) -> ColumnTask:
    """Return the simulations of one column by itself."""
    protocol, column = study.protocol, study.column
    assert column is not None
    if not isinstance(protocol, EvokedProtocol):
        raise InputError('column: pulses belong to an evoked protocol (kind = "evoked")')
    # At least four samples a period of the highest frequency, a whole number of them a second.
    most = 1 / (4 * protocol.h_freq * column.step)
    every = max(k for k in (1, 2, 4, 5, 8, 10, 20) if k <= max(most, 1))
    margin = 4 * every * column.step + 0.1
    first, last = float(protocol.times[0]), float(protocol.times[-1])
    still = column.stratum == "stable"
    settle = (0.0 if still else 3.0) if column.settle is None else column.settle
    jitter = (0.0 if still else 1.0) if column.jitter is None else column.jitter
    return ColumnTask(
        model=study.model,
        prior=study.build_prior(),
        clock=Clock(first - margin, last + margin, column.step, every, settle, margin=margin),
        region=str(study.build_connectome().coords["target"].values[0]),
        stimulus=column.stimulus,
        duration=column.duration,
        trials=column.trials,
        interval=column.interval,
        rest=column.rest,
        scheme=column.scheme,
        stratum=column.stratum,
        jitter=jitter,
        seed=study.seed,
        stream=stream,
        model_file=study.model_file,
    )


def simulate_campaign(
    study: Study,
    observation: Observation,
    stream: str,
    n: int,
    store: str | Path | None = None,
    *,
    description: str = "Simulating",
) -> Campaign:
    """Run the study's simulations for an observation.

    Parameters
    ----------
    study : Study
        The study.
    observation : Observation
        Tells the regions and the number of trials in the average.
    stream : str
        ``"training"``, ``"calibration"``, ...: different streams share nothing.
    n : int
        Runs.
    store : path, optional
        See :func:`nmm_infer.campaign.run`.
    description : str
        Text of the progress bar.

    Returns
    -------
    Campaign
        Parameters and region signals.
    """
    task = build_task(
        study, observation.head.regions, stream=stream, n_averages=observation.n_averages
    )
    design = PriorDesign(task.prior, n, seed=study.seed, stream=f"prior/{stream}")
    return run(task, design, store, description=description)


def simulate_study(
    study: Study,
    n: int,
    store: str | Path | None = None,
    *,
    scheduler: str | None = None,
    progress: bool = False,
) -> Campaign:
    """Run a study's simulations for all regions of its connectome, without any head.

    Parameters
    ----------
    study : Study
        The study.
    n : int
        Runs, with parameters from the study's prior.
    store : path, optional
        A Zarr store; an interrupted one resumes. In memory without.
    scheduler : str, optional
        Address of a Dask scheduler, or ``"local"``; threads of this machine without.
    progress : bool
        Whether to show a progress bar on standard error.

    Returns
    -------
    Campaign
        Parameters, region potentials [mV], focus and status of each run.
    """
    regions = [str(name) for name in study.build_connectome().coords["target"].values]
    task = build_task(study, regions, stream="simulation")
    design = PriorDesign(task.prior, n, seed=study.seed, stream="prior/simulation")
    with show_progress(progress):
        return run(task, design, store, scheduler=scheduler, description="Simulating")


def column_observer(
    study: Study, noise: Noise | NoiseLevels | Observation | None = None
) -> Observer:
    """Return what sees the columns of a study: a patch of the template head, and noise.

    Parameters
    ----------
    study : Study
        A study of one column, whose protocol names the region.
    noise : Noise, NoiseLevels or Observation, optional
        Noise of the averaged response after reference; white noise of the study's level without.
        Or an observation that is to be asked about: its forward model, channels, filters and noise.

    Returns
    -------
    Observer
        With the electrodes of the study's montage, or those of the observation.

    Raises
    ------
    InputError
        If the study is not one of a column, or names no region.
    """
    column, region = study.column, study.protocol.region
    if column is None or region is None:
        raise InputError("a study of one column has a [column] table and names protocol.region")
    if isinstance(noise, Observation):
        seen = replace(noise, head=patch_head(noise.head, region, column.patch))
        return Observer.like(seen, study.protocol, seed=study.seed)
    info = column_info(study)
    head = patch_head(template_head(info, settings=study.head), region, column.patch)
    if noise is None:
        noise = white_noise(info, 1e-6 * column.noise_level, study.protocol.n_steps)
        noise = noise.through(reference(info))
    return Observer(head, noise, study.protocol, info, seed=study.seed)


def column_info(study: Study) -> mne.Info:
    """Return the electrodes of a study of one column, at the protocol's sampling rate."""
    assert study.column is not None
    montage = mne.channels.make_standard_montage(study.column.montage)
    info = mne.create_info(montage.ch_names, study.protocol.sfreq, "eeg", verbose="error")
    info.set_montage(montage, verbose="error")
    return info


def simulate_column(
    study: Study,
    n: int,
    stream: str,
    store: str | Path | None = None,
    *,
    description: str = "Simulating",
) -> Campaign:
    """Run a study of one column until there are ``n`` runs of its stratum.

    Parameters
    ----------
    study : Study
        A study of one column.
    n : int
        Accepted runs that are needed; the campaign holds some more (a margin, so that one design
        is enough), and those rejected, which estimators and observers leave out. For exactly so
        many: ``campaign.select(campaign.valid[:n])``.
    stream : str
        ``"training"``, ``"calibration"``, ...: different streams share nothing.
    store : path, optional
        See :func:`nmm_infer.campaign.run`.
    description : str
        Text of the progress bar.

    Returns
    -------
    Campaign
        Its ``valid`` runs are those to use; ``accepted`` is the share of the stratum.

    Raises
    ------
    InputError
        If the study is not one of a column, if ``n`` is not a number of runs, or if next to no
        parameter set of the prior belongs to the stratum.
    """
    if study.column is None:
        raise InputError("simulate_column: the study has no [column]; see simulate_study")
    check_whole("simulate_column: number of runs", n, 1)
    task = _column_task(study, stream)
    tried = task.prior.sample(2000, seed=study.seed, stream="prior/acceptance")
    values = dict(zip(task.prior.names, task.prior.values(tried).T, strict=True))
    share = float(task.within(values, len(tried)).mean())
    if share < 0.01:
        raise InputError(
            f"only {share:.1%} of the prior belongs to the stratum {task.stratum!r}: change the "
            "prior or column.stratum"
        )
    # Enough for all but one of a million campaigns: five standard deviations of both counts.
    low = share - 5 * (share * (1 - share) / len(tried)) ** 0.5
    proposals = int(n / max(low, 0.5 * share) + 5 * (n**0.5) / share) + 32
    design = PriorDesign(task.prior, proposals, seed=study.seed, stream=f"prior/{stream}")
    campaign = run(task, design, store, description=description)
    if len(campaign.valid) < n:
        raise InputError(
            f"{len(campaign)} parameter sets gave {len(campaign.valid)} runs of the stratum, "
            f"{n} were asked for"
        )
    return campaign

"""The runs of a study: from what it says to a task, and to a campaign."""

from __future__ import annotations

from pathlib import Path

from nmm_infer._progress import show_progress
from nmm_infer.campaign import Campaign, PriorDesign, run
from nmm_infer.errors import InputError
from nmm_infer.observation import EvokedProtocol, Observation
from nmm_infer.scenarios import NetworkTask
from nmm_infer.simulation import Clock
from nmm_infer.study import Study

__all__ = ["build_task", "simulate_campaign", "simulate_study"]


def build_task(
    study: Study,
    regions: list[str],
    *,
    stream: str,
    n_averages: int = 1,
    candidates: tuple[str, ...] | None = None,
    repeat: int | None = None,
) -> NetworkTask:
    """Return the simulations of a study.

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
    NetworkTask
        The network, its times and the prior, ready for a campaign.

    Raises
    ------
    InputError
        If the connectome lacks one of the regions.
    """
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
        clock=Clock(first - margin, last + margin, every=every, settle=settle),
        candidates=candidates,
        n_averages=n_averages,
        seed=study.seed,
        stream=stream,
        repeat=repeat,
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

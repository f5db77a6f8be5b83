"""Which parameters an output depends on, over the whole prior."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from scipy import stats

from nmm_infer.campaign import OK, Campaign, Task, run
from nmm_infer.errors import InputError
from nmm_infer.observation import Observer
from nmm_infer.parameters import Prior
from nmm_infer.scenarios.network import OBSERVED
from nmm_infer.sensitivity.design import SensitivityDesign
from nmm_infer.sensitivity.estimate import TOLERANCE, Inputs, check_accepted, estimate
from nmm_infer.sensitivity.methods import FEWEST_RUNS, Options, find_method, problem, whole_seed
from nmm_infer.sensitivity.outputs import choose_outputs
from nmm_infer.sensitivity.tasks import OUTPUT, Function, FunctionTask, OutputTask

__all__ = ["analyse", "convergence", "overall", "survey"]

#: Sizes of designs where none is asked for.
SIZES = {"sobol": 1024, "morris": 128, "efast": 1024, "shapley": 2048}
_GIVEN = 4096
#: Runs of a campaign that are reduced at a time, and bytes that are simulated at a time.
_RUNS, _BYTES = 2**12, 2**26


def survey(
    model: Task | Function,
    prior: Prior | None = None,
    *,
    method: str = "sobol",
    n: int | None = None,
    outputs: str | Sequence[str] | None = None,
    groups: Mapping[str, Iterable[str]] | None = None,
    second_order: bool = False,
    resamples: int = 100,
    level: float = 0.95,
    seed: int = 0,
    observer: Observer | None = None,
    at: Sequence[float] | None = None,
    number: int | None = 0,
    tolerance: float = TOLERANCE,
    store: str | Path | None = None,
    threads: int | None = None,
) -> xr.Dataset:
    """Run the design of a method and return sensitivity indices.

    SALib draws the design in the unit cube and computes the indices. Each input is the probability
    of a parameter under its prior, so any prior of independent parameters will do.

    Parameters
    ----------
    model : Task or callable
        A campaign task, or ``f(theta)``: from parameter sets, an ``xarray.DataArray``
        (simulation, parameter), to an array with ``simulation`` first.
    prior : Prior, optional
        Parameters that vary; fixed ones do not. The model's own prior without, less those that
        only sensors depend on where there is no observer. Parameters of the model that are not in
        it stay at their medians.
    method : {"sobol", "morris", "efast", "rbd-fast", "pawn", "delta", "shapley"}
        Method.
    n : int, optional
        Size: base points (Sobol, a power of two), trajectories (Morris, Shapley), points on a curve
        (eFAST) or runs. Sobol needs n (p + 2) runs for p parameters or groups, n (2 p + 2) with
        second order; Morris and Shapley n (p + 1), eFAST n p.
    outputs : str or sequence of str, optional
        ``"samples"`` of the focus less its mean before the event, ``"channels"`` or ``"sequence"``
        through an observer (without sensor noise), names of
        :data:`~nmm_infer.features.FEATURES`, or the name of an array of the task. Only these are
        kept, or stored.
    groups : mapping of str to list of str, optional
        Parameters that are asked about together (Sobol and Morris).
    second_order : bool
        Whether interactions of pairs are asked about (Sobol).
    resamples : int
        Bootstrap resamples behind the intervals.
    level : float
        Level of the intervals.
    seed : int
        Seed of design and resamples.
    observer : Observer, optional
        Head and protocol, to ask about sensors.
    at : sequence of float, optional
        Keep only the samples nearest to these times in s.
    number : int, optional
        Run whose random numbers (noise, focus, other regions) all runs have, so that the
        output is a function of the parameters; with ``None`` each has its own, and their share of
        the variance shows in every total index.
    tolerance : float
        Share of blocks that may be lost. A failed run takes its whole block with it (of a Saltelli
        design, or a trajectory), since no method can do without single runs of it.
    store : path, optional
        A Zarr store, in which the runs resume; in memory without.
    threads : int, optional
        Threads; all cores without.

    Returns
    -------
    xarray.Dataset, dims (..., parameter)
        Indices by name, with the dimensions of the output first. ``S1`` and ``ST`` (first and total
        order), ``S2`` (parameter, other), ``mu_star``, ``pawn``, ``delta`` or ``shapley``;
        ``_conf`` is the half width of an interval. ``mean`` and ``deviation`` of the output, and
        the number of blocks ``used``. Attributes: method, size, runs, seed, versions, failed runs,
        lost blocks and notes.

    Raises
    ------
    InputError
        If method, size, groups and outputs do not fit each other, or if too many runs failed.

    Examples
    --------
    >>> from nmm_infer.parameters import Parameter
    >>> prior = Prior([Parameter(x, "1", "uniform", 0.0, 1.0) for x in "xy"])
    >>> found = survey(lambda theta: 2.0 * theta.sel(parameter="x"), prior, n=64)
    >>> found["S1"].round(2).values.tolist()
    [1.0, 0.0]
    """
    job = _Job.of(
        model, prior, method, n, outputs, groups, second_order, seed, observer, at, number
    )
    campaign = job.run(store, threads)
    options = _options(method, second_order, resamples, level, seed)
    found = job.estimate(campaign, job.inputs, options, tolerance, threads)
    return found.assign_attrs(job.design.attrs())


def convergence(
    model: Task | Function,
    prior: Prior | None = None,
    *,
    method: str = "sobol",
    n: int | None = None,
    sizes: Sequence[int] | None = None,
    outputs: str | Sequence[str] | None = None,
    groups: Mapping[str, Iterable[str]] | None = None,
    second_order: bool = False,
    resamples: int = 100,
    level: float = 0.95,
    seed: int = 0,
    observer: Observer | None = None,
    at: Sequence[float] | None = None,
    number: int | None = 0,
    tolerance: float = TOLERANCE,
    store: str | Path | None = None,
    threads: int | None = None,
) -> xr.Dataset:
    """Return the indices of :func:`survey` for growing parts of one design.

    The first blocks of a design are a smaller design of the same kind, so nothing is run twice;
    with the store of a survey nothing is run at all.

    Parameters
    ----------
    sizes : sequence of int, optional
        Sizes, at most ``n``; halves of ``n``, down to a 32nd, without.
    model, prior, method, n, outputs, groups, second_order, resamples, level, seed, observer, at, \
    number, tolerance, store, threads
        See :func:`survey`.

    Returns
    -------
    xarray.Dataset, dims (n, ..., parameter)
        Indices by size.

    Raises
    ------
    InputError
        As :func:`survey`, and for eFAST, whose curves are of one size.
    """
    job = _Job.of(
        model, prior, method, n, outputs, groups, second_order, seed, observer, at, number
    )
    if not job.design.method.prefixes:
        raise InputError(f"{method}: a part of its design is none: run surveys of several sizes")
    whole = job.design.n
    wish = [whole >> k for k in range(5, -1, -1)] if sizes is None else list(sizes)
    wish = sorted({s for s in wish if s >= (2 if job.inputs.block > 1 else FEWEST_RUNS)})
    if not wish or wish[-1] > whole:
        raise InputError(f"sizes must lie below n = {whole}, got {wish}")
    campaign = job.run(store, threads)
    options = _options(method, second_order, resamples, level, seed)
    parts = [
        job.estimate(campaign, job.inputs.first(size), options, tolerance, threads) for size in wish
    ]
    found = xr.concat(parts, xr.DataArray(wish, dims="n", name="n"), combine_attrs="override")
    return found.assign_attrs(job.design.attrs())


def analyse(
    campaign: Campaign,
    outputs: str | Sequence[str] | None = None,
    *,
    method: str = "rbd-fast",
    prior: Prior | None = None,
    resamples: int = 100,
    level: float = 0.95,
    seed: int = 0,
    observer: Observer | None = None,
    at: Sequence[float] | None = None,
    tolerance: float = TOLERANCE,
    threads: int | None = None,
) -> xr.Dataset:
    """Return sensitivity indices of runs that are there: draws from a prior.

    Parameters
    ----------
    campaign : Campaign
        Runs whose parameters are independent draws, as training simulations are. Never posterior
        draws: these are not independent.
    outputs, resamples, level, seed, observer, at, tolerance, threads
        See :func:`survey`; a block is a run here.
    method : {"rbd-fast", "pawn", "delta"}
        Method that takes any draws.
    prior : Prior, optional
        Prior they were drawn from; without, the campaign's.

    Returns
    -------
    xarray.Dataset, dims (..., parameter)
        As :func:`survey` returns.

    Raises
    ------
    InputError
        If the method needs a design of its own, if too many runs failed or were rejected, or if
        the parameters do not follow the prior.
    """
    found = find_method(method)
    if not isinstance(campaign, Campaign):
        raise InputError(f"analyse: give a campaign, not a {type(campaign).__name__}")
    if not found.given_data:
        raise InputError(f"{method} needs a design of its own: call survey, or take rbd-fast")
    if prior is None:
        whole = campaign.prior
    else:
        whole = prior
        if campaign.has_prior:
            prior.check_part_of(campaign.prior, "the campaign")
    if len(campaign) < FEWEST_RUNS:
        raise InputError(f"{method}: give at least {FEWEST_RUNS} runs, not {len(campaign)}")
    check_accepted(campaign.accepted, tolerance)
    free = Prior([p for p in whole.parameters if p.distribution != "fixed"])
    if prior is None and observer is None:
        free = _seen(free)
    theta = campaign.theta.sel(parameter=free.names)
    values = free.values(theta)
    cube = np.column_stack([p.cumulative(values[:, i]) for i, p in enumerate(free.parameters)])
    _check_drawn(cube, free, tolerance)
    chosen = choose_outputs(outputs, campaign, observer=observer, at=at)
    status = campaign.dataset["status"].values
    dims = chosen.variable.dims
    sizes = xr.Dataset(coords=chosen.coords).sizes
    reduced = np.full(
        (len(campaign), *(sizes[d] for d in dims)), np.nan, dtype=chosen.variable.dtype
    )
    names = [str(v) for v in campaign.dataset.data_vars if v not in ("theta", "status")]
    for start in range(0, len(campaign), _RUNS):
        good = start + np.flatnonzero(status[start : start + _RUNS] == OK)
        if len(good):
            part = campaign.dataset.isel(simulation=good)
            reduced[good] = chosen({v: part[v].values for v in names}, part["theta"].load())
    array = xr.DataArray(
        reduced, dims=("simulation", *dims), coords=chosen.coords, attrs=dict(chosen.variable.attrs)
    )
    symbols = [p.symbol or p.name for p in free.parameters]
    inputs = Inputs(method, found, problem(free.names), free.names, free.units, symbols, cube, 1)
    options = _options(method, False, resamples, level, seed)
    result = estimate(array, status, inputs, options, tolerance=tolerance, threads=threads)
    return result.assign_attrs(n=len(campaign), runs=len(campaign), seed=seed, groups="{}")


@dataclass(frozen=True, eq=False)
class _Job:
    """A design, and the task that it is run with."""

    task: Task
    design: SensitivityDesign

    @classmethod
    def of(
        cls,
        model: Task | Function,
        prior: Prior | None,
        method: str,
        n: int | None,
        outputs: str | Sequence[str] | None,
        groups: Mapping[str, Iterable[str]] | None,
        second_order: bool,
        seed: int,
        observer: Observer | None,
        at: Sequence[float] | None,
        number: int | None,
    ) -> _Job:
        own: Prior | None = getattr(model, "prior", None)
        if prior is None:
            if own is None:
                raise InputError("survey: the model names no prior; give one")
            prior = own if observer is not None else _seen(own)
        design = SensitivityDesign(
            prior,
            method,
            SIZES.get(method, _GIVEN) if n is None else n,
            groups=groups,
            second_order=second_order,
            seed=seed,
            held=own,
        )
        if not hasattr(model, "simulate"):
            if outputs is not None or observer is not None or at is not None:
                raise InputError(
                    "outputs of a function are what it returns; outputs, observer and at belong to "
                    "tasks"
                )
            return cls(FunctionTask(model, design), design)
        task: Task = model  # type: ignore[assignment]
        chosen = choose_outputs(outputs, task, observer=observer, at=at)
        asked = json.dumps([outputs, None if at is None else list(at)])
        if observer is not None:
            asked += _facts(observer)
        return cls(OutputTask(task, chosen, asked, number), design)

    @property
    def inputs(self) -> Inputs:
        d = self.design
        return Inputs(d.name, d.method, d.problem, d.names, d.units, d.symbols, d.cube, d.block)

    def run(self, store: str | Path | None, threads: int | None) -> Campaign:
        chunk = None
        if isinstance(self.task, OutputTask):
            # What is kept is small; what is simulated for it may not be.
            most = max(_BYTES // self.task.bytes_of_run, 1)
            chunk = min(1 << (most.bit_length() - 1), max(len(self.design) // 16, 64), 2**14)
        return run(
            self.task, self.design, store, chunk=chunk, threads=threads, description="Simulating"
        )

    def estimate(
        self,
        campaign: Campaign,
        inputs: Inputs,
        options: Options,
        tolerance: float,
        threads: int | None,
    ) -> xr.Dataset:
        data = campaign.dataset
        values = data[OUTPUT].drop_vars(
            [c for c in data.coords if "parameter" in data[c].dims], errors="ignore"
        )
        return estimate(
            values, data["status"].values, inputs, options, tolerance=tolerance, threads=threads
        )


def overall(found: xr.Dataset) -> xr.Dataset:
    """Return one index a parameter for all samples, channels or frequencies together.

    First and total order of an output of many values of one unit are the means of those of its
    values, weighted with their variances (Lamboni, Monod and Makowski 2011, Reliability Engineering
    and System Safety 96:450-459).

    Parameters
    ----------
    found : xarray.Dataset
        What :func:`survey` returns, with ``S1`` or ``ST`` or ``shapley``.

    Returns
    -------
    xarray.Dataset, dims (parameter)
        The same indices, without intervals.

    Raises
    ------
    InputError
        If outputs have different units (features), or the method no shares of variance.
    """
    names = [name for name in ("ST", "S1", "shapley") if name in found]
    if not names or "feature" in found.dims:
        raise InputError("overall: it needs shares of the variance of outputs of one unit")
    dims = [d for d in found["deviation"].dims if d != "n"]
    weight = (found["deviation"] ** 2).where(found[names[0]].notnull().any("parameter")).fillna(0)
    result = {name: found[name].fillna(0.0).weighted(weight).mean(dims) for name in names}
    return xr.Dataset(result, attrs=found.attrs)


def _options(method: str, second_order: bool, resamples: int, level: float, seed: int) -> Options:
    if not 0 < level < 1:
        raise InputError(f"level must lie between 0 and 1, got {level}")
    if resamples < 2:
        raise InputError(f"resamples must be at least 2, got {resamples}")
    return Options(second_order, resamples, level, whole_seed(seed, f"resamples/{method}"))


def _seen(prior: Prior) -> Prior:
    """Leave out what only sensors depend on."""
    return Prior([p for p in prior.parameters if p.name not in OBSERVED])


def _check_drawn(cube: Any, prior: Prior, tolerance: float) -> None:
    """Refuse parameters that do not follow the prior, or are correlated: posterior draws.

    Where some sets were rejected, the others are a little off the prior: a distance (of Kolmogorov
    and Smirnov) of the share tolerated is let pass, beside that of chance.
    """
    for i, name in enumerate(prior.names):
        lost = int(np.isnan(cube[:, i]).sum())
        if lost:
            raise InputError(f"{name} is not a number in {lost} of {len(cube)} runs")
        gap = stats.kstest(cube[:, i], "uniform").statistic
        if gap > tolerance + 3 / np.sqrt(len(cube)):
            raise InputError(
                f"{name} does not follow the prior in these runs (a distance of {gap:.2f}): "
                "sensitivity indices need inputs that were drawn from it"
            )
    if cube.shape[1] < 2:
        return
    ranks = cube.argsort(axis=0).argsort(axis=0)
    matrix = np.corrcoef(ranks.T)
    np.fill_diagonal(matrix, 0.0)
    i, j = np.unravel_index(np.abs(matrix).argmax(), matrix.shape)
    # Six standard errors of a rank correlation of independent draws.
    if abs(matrix[i, j]) > 6 / np.sqrt(len(cube) - 1):
        raise InputError(
            f"{prior.names[i]} and {prior.names[j]} are correlated ({matrix[i, j]:.2f}) in these "
            "runs: sensitivity indices need independent inputs, drawn from the prior"
        )


def _facts(observer: Observer) -> str:
    """Return what sensors without noise depend on, for the fingerprint of a store."""
    digest = hashlib.sha256(np.ascontiguousarray(observer.head.leadfield.values).tobytes())
    digest.update(observer.protocol.model_dump_json().encode())
    digest.update(repr((observer.band, observer.info.ch_names)).encode())
    return digest.hexdigest()

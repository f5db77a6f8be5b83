"""A survey from words to files: what the command line asks for, and what it leaves behind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from rich.text import Text

from nmm_infer._text import printable
from nmm_infer.campaign import Task
from nmm_infer.errors import InputError
from nmm_infer.sensitivity import plots
from nmm_infer.sensitivity.methods import find_method
from nmm_infer.sensitivity.survey import convergence, overall, survey

__all__ = ["Request", "print_table", "write_survey"]

#: Features of ongoing activity that are asked about where none are named.
_ONGOING = "log_power,band_power_alpha,alpha_peak_frequency,alpha_peak_power,aperiodic_slope"


@dataclass(frozen=True)
class Request:
    """What is asked about.

    Parameters
    ----------
    method : str
        Method.
    outputs : str or list of str
        Outputs.
    n : int, optional
        Size of the design.
    parameters : list of str, optional
        Parameters that vary.
    groups : dict of str to list of str
        Groups of parameters.
    at : list of float, optional
        Times in s.
    """

    method: str
    outputs: str | list[str]
    n: int | None
    parameters: list[str] | None
    groups: dict[str, list[str]]
    at: list[float] | None

    @classmethod
    def read(
        cls,
        method: str,
        outputs: str | None,
        n: int | None,
        parameters: str | None,
        groups: str | None,
        at: str | None,
        *,
        evoked: bool,
    ) -> Request:
        """Read the words of the command line.

        Raises
        ------
        InputError
            If a list, a group or a time cannot be read, or the method is unknown.
        """
        find_method(method)
        if outputs is None:
            outputs = "samples" if evoked else _ONGOING
        names = _split(outputs)
        if not names:
            raise InputError("--outputs: name at least one")
        try:
            times = None if at is None else [float(t) for t in _split(at)]
        except ValueError:
            raise InputError(f"--at {at}: give times in seconds, as 0.1,0.15") from None
        return cls(
            method,
            names[0] if names == ["samples"] else names,
            n,
            None if parameters is None else _split(parameters),
            _groups(groups),
            times,
        )


def _split(text: str) -> list[str]:
    names = [part.strip() for part in text.split(",") if part.strip()]
    if not names:
        raise InputError(f"{text!r}: give names, with commas between them")
    return names


def _groups(text: str | None) -> dict[str, list[str]]:
    """Read ``gains=A,B rates=a,b``; semicolons separate as blanks do."""
    groups: dict[str, list[str]] = {}
    for part in (text or "").replace(";", " ").split():
        name, sign, members = part.partition("=")
        if not (name and sign and members):
            raise InputError(f"--groups {text!r}: write them as gains=A,B rates=a,b")
        groups[name] = _split(members)
    return groups


def write_survey(
    task: Task,
    request: Request,
    folder: Path,
    *,
    second_order: bool,
    with_convergence: bool,
    resamples: int,
    tolerance: float,
    seed: int,
) -> xr.Dataset:
    """Run a survey and write its results and figures.

    Parameters
    ----------
    task : Task
        What is run; its prior tells what may vary.
    request : Request
        What is asked about.
    folder : Path
        Gets ``sensitivity.nc``, ``indices.svg``, ``runs.zarr``, and where asked for
        ``convergence.nc`` and figures of convergence and interactions.
    second_order, with_convergence : bool
        What is asked about besides.
    resamples, tolerance, seed
        See :func:`~nmm_infer.sensitivity.survey`.

    Returns
    -------
    xarray.Dataset
        The indices.
    """
    prior = None
    if request.parameters is not None:
        prior = task.prior.select(request.parameters)  # type: ignore[attr-defined]
    folder.mkdir(parents=True, exist_ok=True)
    asked: dict[str, Any] = {
        "method": request.method,
        "n": request.n,
        "outputs": request.outputs,
        "groups": request.groups,
        "second_order": second_order,
        "at": request.at,
        "resamples": resamples,
        "tolerance": tolerance,
        "seed": seed,
        "store": folder / "runs.zarr",
    }
    found = survey(task, prior, **asked)
    found.to_netcdf(folder / "sensitivity.nc", engine="h5netcdf")
    _save(plots.curves(found) if _is_course(found) else plots.bars(found), folder / "indices.svg")
    if second_order:
        _save(plots.interactions(_largest(found)), folder / "interactions.svg")
    if with_convergence:
        grown = convergence(task, prior, **asked)
        grown.to_netcdf(folder / "convergence.nc", engine="h5netcdf")
        _save(plots.trend(_largest(grown)), folder / "convergence.svg")
    return found


def _is_course(found: xr.Dataset) -> bool:
    return found.sizes.get("time", 0) > 12


def _largest(found: xr.Dataset) -> xr.Dataset:
    """Return one output: the first feature, or the sample that varies most."""
    for dim in found["deviation"].dims:
        if dim == "n":
            continue
        deviation = found["deviation"]
        if "n" in deviation.dims:
            deviation = deviation.isel(n=-1)
        k = 0 if dim == "feature" else int(np.nan_to_num(deviation.values).argmax())
        found = found.isel({dim: k})
    return found


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, metadata={"Date": None})


def print_table(found: xr.Dataset, console: Console) -> None:
    """Print the indices of a few outputs.

    Parameters
    ----------
    found : xarray.Dataset
        What :func:`write_survey` returns.
    console : rich.console.Console
        Where to.
    """
    name = next(n for n in find_method(found.attrs["method"]).indices if n in found)
    table = Table(title=f"{found.attrs['method']}: {name}, {found.attrs['runs']:,} runs")
    table.add_column("parameter")
    columns: dict[str, list[str]] = {}
    if "feature" in found.dims:
        for k, feature in enumerate(found["feature"].values[:6]):
            columns[str(feature)] = _cells(found.isel(feature=k), name)
    elif "time" in found.dims:
        chosen = _largest(found)
        if name in ("ST", "S1", "shapley"):
            columns["all times"] = [f"{v:.2f}" for v in overall(found)[name].values]
        columns[f"{1e3 * float(chosen['time']):.0f} ms"] = _cells(chosen, name)
    else:
        columns["output"] = _cells(found, name)
    for column in columns:
        table.add_column(_bare(column), justify="right")
    for k, parameter in enumerate(found["parameter"].values):
        table.add_row(_bare(parameter), *(cells[k] for cells in columns.values()))
    console.print(table)
    told = {"failed_runs": "runs failed", "rejected_runs": "runs were rejected by the study"}
    if not find_method(found.attrs["method"]).given_data:  # a block is a run there
        told["lost_blocks"] = "blocks were lost"
    for attribute, unit in told.items():
        if found.attrs[attribute]:
            console.print(f"{found.attrs[attribute]:,} {unit}", highlight=False)


def _bare(name: object) -> Text:
    """Return a name in which brackets are no markup."""
    return Text(printable(name))


def _cells(found: xr.Dataset, name: str) -> list[str]:
    values = found[name].values
    if f"{name}_conf" not in found:
        return [f"{v:.3g}" for v in values]
    return [f"{v:.2g} ± {c:.1g}" for v, c in zip(values, found[f"{name}_conf"].values, strict=True)]

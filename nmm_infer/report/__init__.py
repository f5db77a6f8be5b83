"""Plots, the HTML report, and the three files of a result."""

from __future__ import annotations

from pathlib import Path

from nmm_infer.report.html import render
from nmm_infer.workflow import Result

__all__ = ["render", "write_report", "write_results"]


def write_report(result: Result, path: str | Path, title: str = "Recording") -> Path:
    """Write the report of a result as one self-contained HTML page."""
    path = Path(path)
    path.write_text(render(result, title), encoding="utf-8")
    return path


def write_results(result: Result, folder: str | Path, title: str = "Recording") -> Path:
    """Write ``posterior.nc``, ``sources.nc`` and ``report.html`` into a folder.

    Parameters
    ----------
    result : Result
        From :func:`nmm_infer.infer`.
    folder : path
        Made if it does not exist; files of these names are replaced.
    title : str
        Heading of the report.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    result.posterior.to_netcdf(str(folder / "posterior.nc"))
    result.sources.to_netcdf(folder / "sources.nc")
    write_report(result, folder / "report.html", title)
    return folder

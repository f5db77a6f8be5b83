"""Figures of sensitivity indices; each function returns a matplotlib figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import mne
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from nmm_infer._style import INK, formula, style
from nmm_infer._text import plain
from nmm_infer.errors import InputError
from nmm_infer.sensitivity.methods import find_method

__all__ = ["bars", "curves", "interactions", "scalp", "trend"]

#: Colours that differ for most readers (Okabe and Ito 2008, their yellow left out), then darker.
_COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#4B4B4B", "#7A3E9D",
    "#8C6D31", "#A6BDDB", "#B2182B", "#1B7837",
)  # fmt: skip
_TOTAL, _FIRST = "#1f6feb", "#9cc3ff"
_GREEK = ("alpha", "beta", "gamma", "delta", "kappa", "lambda", "mu", "rho", "sigma", "tau")
_TITLES = {
    "S1": "first order $S_1$",
    "ST": "total order $S_T$",
    "S2": "second order $S_2$",
    "mu_star": r"mean magnitude of effects $\mu^*$",
    "mu": r"mean effect $\mu$",
    "sigma": r"spread of effects $\sigma$",
    "pawn": "PAWN distance (median)",
    "delta": r"moment-independent $\delta$",
    "shapley": "Shapley effect",
}


def _main(found: xr.Dataset) -> str:
    return next(name for name in find_method(found.attrs["method"]).indices if name in found)


def _title(name: str, found: xr.Dataset) -> str:
    units = found[name].attrs.get("units", "1")
    title = _TITLES.get(name, name)
    return title if units in ("1", "see feature_unit") else f"{title} [{plain(units)}]"


def _labels(found: xr.Dataset) -> list[str]:
    """Symbols of the parameters; names like alpha_1 as the symbols that they spell."""
    names = found["symbol"] if "symbol" in found.coords else found["parameter"]
    return [formula(_spelled(str(name))) for name in np.atleast_1d(names.values)]


def _spelled(name: str) -> str:
    letter, _, number = name.partition("_")
    if letter in _GREEK and (number.isdigit() or not number):
        return rf"$\{letter}_{{{number}}}$" if number else rf"$\{letter}$"
    return name


def _output_dims(found: xr.Dataset) -> list[str]:
    return [str(d) for d in found[_main(found)].dims if d not in ("parameter", "other", "n")]


def bars(found: xr.Dataset, *, columns: int = 3) -> Figure:
    """Draw one panel for each output, and one pair of bars for each parameter.

    Parameters
    ----------
    found : xarray.Dataset
        Indices of one output or of some (features); select samples of a course first, e.g.
        ``found.sel(time=[0.1, 0.2], method="nearest")``.
    columns : int
        Panels in a row.

    Returns
    -------
    matplotlib.figure.Figure
        Bars of the main index of the method with its intervals, parameters from the top in the
        order of the first panel's bars; first order beside total order where there are both.

    Raises
    ------
    InputError
        If there are more than 24 outputs.
    """
    name, dims = _main(found), _output_dims(found)
    flat = found if not dims else found.stack(panel=dims)
    count = 1 if not dims else flat.sizes["panel"]
    if count > 24:
        raise InputError(f"bars: {count} outputs are too many for panels: select some, or curves")
    panels = [flat] if not dims else [flat.isel(panel=k) for k in range(count)]
    second = "S1" if name != "S1" and "S1" in found else None
    columns = min(columns, count)
    rows = -(-count // columns)
    size = found.sizes["parameter"]
    with style():
        height = rows * (0.75 + 0.3 * size) + 0.5
        figure = Figure(figsize=(3.3 * columns + 0.9, height), layout="constrained")
        pure = found[name].attrs.get("units") == "1"
        grid = figure.subplots(rows, columns, squeeze=False, sharey=True, sharex=pure)
        sums = np.nansum([np.nan_to_num(p[name].values) / max(_most(p, name), 1e-12)
                          for p in panels], axis=0)  # fmt: skip
        order = np.argsort(sums)
        place = np.arange(size)
        for axes, panel in zip(grid.flat, panels, strict=False):
            thick = 0.38 if second else 0.62
            _bar(axes, panel, name, order, place + (0.2 if second else 0), thick, _TOTAL)
            if second:
                _bar(axes, panel, second, order, place - 0.2, thick, _FIRST)
            if "pawn_floor" in panel:
                axes.axvline(
                    float(panel["pawn_floor"].values[0]), color="#d9480f", lw=1.2, ls=":",
                    label="an input that does nothing",
                )  # fmt: skip
            axes.set_title(_panel_title(panel, dims, units=not pure))
            axes.set_yticks(place, np.array(_labels(found))[order], color=INK)
            axes.tick_params(axis="y", length=0)
            axes.axvline(0, color="#6b7280", lw=0.8)
            axes.grid(axis="x", color="#e5e7eb", lw=0.8)
            axes.set_axisbelow(True)
        if pure and "pawn" not in found:
            low, high = grid[0, 0].get_xlim()
            grid[0, 0].set_xlim(max(min(0.0, low), -0.25), min(max(0.5, high), 1.5))
        for axes in list(grid.flat)[count:]:
            axes.axis("off")
        for axes in grid[-1]:
            if not second:
                axes.set_xlabel(_title(name, found))
        handles, labels = grid[0, 0].get_legend_handles_labels()
        if second or "pawn_floor" in found:
            figure.legend(handles, labels, loc="outside upper right", ncols=3)
    return figure


def _most(panel: xr.Dataset, name: str) -> float:
    values = panel[name].values
    return float(np.nanmax(values)) if np.isfinite(values).any() else 1.0


def _bar(
    axes: Axes,
    panel: xr.Dataset,
    name: str,
    order: NDArray[np.int64],
    place: NDArray[Any],
    thick: float,
    colour: str,
) -> None:
    half = panel[f"{name}_conf"].values[order] if f"{name}_conf" in panel else None
    axes.barh(
        place, panel[name].values[order], thick, color=colour, label=_TITLES.get(name, name),
        xerr=half, error_kw={"ecolor": "#374151", "elinewidth": 1.0, "capsize": 0},
    )  # fmt: skip


def _panel_title(panel: xr.Dataset, dims: list[str], units: bool) -> str:
    parts = []
    for dim in dims:
        value = panel.coords[dim].values[()]
        if dim == "time":
            parts.append(f"{1e3 * float(value):.0f} ms")
        elif dim == "feature":
            unit = f" [{panel.coords['feature_unit'].values[()]}]" if units else ""
            parts.append(str(value).replace("_", " ") + unit)
        else:
            parts.append(f"{dim} {value}")
    return plain(", ".join(parts))


def curves(found: xr.Dataset) -> Figure:
    """Draw indices of every sample of a course.

    Parameters
    ----------
    found : xarray.Dataset, dims (time, parameter) or (frequency, parameter)
        Indices of ``"samples"`` or of a sequence.

    Returns
    -------
    matplotlib.figure.Figure
        The mean course with one standard deviation, and below it the indices with their intervals.

    Raises
    ------
    InputError
        If the outputs are no course.
    """
    dims = _output_dims(found)
    if len(dims) != 1 or dims[0] not in ("time", "frequency"):
        raise InputError(f"curves: outputs need one dimension, time or frequency; got {dims}")
    dim, name = dims[0], _main(found)
    shown = [name, *(["S1"] if name != "S1" and "S1" in found else [])]
    x = found.coords[dim].values * (1e3 if dim == "time" else 1.0)
    with style():
        figure = Figure(figsize=(9, 2.0 + 2.5 * len(shown)), layout="constrained")
        course, *panels = figure.subplots(
            1 + len(shown), 1, sharex=True, height_ratios=[1, *[1.5] * len(shown)]
        )
        mean, deviation = found["mean"].values, found["deviation"].values
        course.fill_between(
            x, mean - deviation, mean + deviation, color=_TOTAL, alpha=0.18, lw=0,
            label="one standard deviation",
        )  # fmt: skip
        course.plot(x, mean, color=_TOTAL, lw=2, label="mean over the prior")
        unit = found["mean"].attrs.get("units", "1")
        course.set(ylabel=f"output [{plain(unit)}]")
        course.legend(loc="best", fontsize=8, ncols=2)
        for axes, index in zip(panels, shown, strict=True):
            for k, label in enumerate(_labels(found)):
                y = found[index].isel(parameter=k).values
                colour = _COLOURS[k % len(_COLOURS)]
                if f"{index}_conf" in found:
                    half = found[f"{index}_conf"].isel(parameter=k).values
                    axes.fill_between(x, y - half, y + half, color=colour, alpha=0.12, lw=0)
                axes.plot(x, y, color=colour, lw=1.7, label=label)
            axes.set(title=_title(index, found), ylabel="share of the variance")
            if found[index].attrs.get("units") != "1":
                axes.set_ylabel(f"[{plain(found[index].attrs['units'])}]")
            elif index in ("S1", "ST"):
                top = np.nanquantile(found[index].values, 0.999)
                axes.set_ylim(-0.05, max(1.0, min(1.1 * top, 1.5)))
            axes.axhline(0, color="#9ca3af", lw=0.8, zorder=0)
        for axes in (course, *panels):
            if dim == "time" and x[0] < 0:
                axes.axvline(0, color="#9ca3af", lw=0.8, ls=":", zorder=0)
        panels[-1].set_xlabel("time from the event [ms]" if dim == "time" else "frequency [Hz]")
        panels[-1].margins(x=0)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right upper")
    return figure


def interactions(found: xr.Dataset) -> Figure:
    """Draw second-order indices of one output as a matrix, first order on the diagonal.

    Parameters
    ----------
    found : xarray.Dataset
        Indices of one output, with ``S2``: select a feature or a sample first.

    Returns
    -------
    matplotlib.figure.Figure
        Indices of pairs; those whose interval holds zero are grey.

    Raises
    ------
    InputError
        If there is no second order, or more than one output.
    """
    if "S2" not in found:
        raise InputError("interactions: no second order here; ask for it with second_order=True")
    if _output_dims(found):
        raise InputError(f"interactions: select one output along {_output_dims(found)}")
    size, labels = found.sizes["parameter"], _labels(found)
    values, half = found["S2"].values.copy(), found["S2_conf"].values.copy()
    np.fill_diagonal(values, found["S1"].values)
    np.fill_diagonal(half, found["S1_conf"].values)
    clear = np.abs(values) > half
    lower = np.tri(size, dtype=bool)
    most = max(float(np.nanmax(np.where(lower & clear, values, 0.0))), 0.1)
    with style():
        figure = Figure(figsize=(1.8 + 0.62 * size, 1.2 + 0.56 * size), layout="constrained")
        axes = figure.subplots()
        axes.imshow(np.where(lower, 0.0, np.nan), cmap=mpl.colors.ListedColormap(["#f3f4f6"]))
        image = axes.imshow(
            np.where(lower & clear, values, np.nan), cmap="Blues", vmin=0, vmax=most
        )
        for i, j in zip(*np.nonzero(lower), strict=True):
            dark = clear[i, j] and values[i, j] > 0.55 * most
            axes.text(
                j, i, f"{values[i, j]:.2f}".replace("-0.00", "0.00"), ha="center", va="center",
                fontsize=8.5, color="white" if dark else INK if clear[i, j] else "#b6bcc6",
                fontweight="bold" if i == j else "normal",
            )  # fmt: skip
        axes.set_xticks(np.arange(size + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(size + 1) - 0.5, minor=True)
        axes.grid(which="minor", color="white", lw=1.5)
        axes.tick_params(which="minor", length=0)
        axes.set_xticks(range(size), labels, color=INK)
        axes.set_yticks(range(size), labels, color=INK)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_title("pairs $S_2$; diagonal: alone, $S_1$")
        bar = figure.colorbar(image, ax=axes, shrink=0.75, pad=0.03)
        bar.set_label("share of the variance", color=INK)
        bar.outline.set_visible(False)
    return figure


def scalp(
    found: xr.Dataset,
    info: mne.Info,
    at: Sequence[float],
    *,
    index: str | None = None,
    parameters: Sequence[str] | None = None,
) -> Figure:
    """Draw maps of an index over the channels.

    Parameters
    ----------
    found : xarray.Dataset, dims (channel, time, parameter)
        Indices of ``"channels"``.
    info : mne.Info
        Positions of the channels; the first type among them is drawn.
    at : sequence of float
        Latencies in s, one row each.
    index : str, optional
        Which index; the main one of the method without.
    parameters : sequence of str, optional
        Which parameters; all without.

    Returns
    -------
    matplotlib.figure.Figure
        One map for each latency and parameter, on one scale from zero, and the deviation of the
        output in front.

    Raises
    ------
    InputError
        If the outputs are no channels.
    """
    if "channel" not in found.dims or "time" not in found.dims:
        raise InputError('scalp: outputs need channels and times; ask for outputs="channels"')
    name = index or _main(found)
    kind = info.get_channel_types()[0]
    kinds = info.get_channel_types()
    picks = [k for k, other in enumerate(kinds) if other == kind]
    place = mne.pick_info(info, picks, copy=True, verbose="error")
    chosen = found.sel(channel=place["ch_names"]).sel(time=list(at), method="nearest")
    if parameters is not None:
        chosen = chosen.sel(parameter=list(parameters))
    factor, unit = {"eeg": (1e6, "µV"), "mag": (1e15, "fT"), "grad": (1e13, "fT/cm")}.get(
        kind, (1.0, "")
    )
    labels, size = _labels(chosen), chosen.sizes["parameter"]
    values = chosen[name].values
    most = float(np.nanmax(values)) if np.isfinite(values).any() else 1.0
    top = min(max(most, 0.1), 1.0) if found[name].attrs.get("units") == "1" else most
    with style():
        figure = Figure(
            figsize=(1.35 * (size + 1) + 1.4, 1.45 * len(at) + 0.7), layout="constrained"
        )
        grid = figure.subplots(len(at), size + 1, squeeze=False)
        settings: Any = {"sensors": False, "contours": 0, "show": False, "res": 96}
        for row, (axes, latency) in enumerate(zip(grid, chosen["time"].values, strict=True)):
            deviation = factor * chosen["deviation"].isel(time=row).values
            mne.viz.plot_topomap(
                deviation, place, axes=axes[0], cmap="Greys", vlim=(0, deviation.max()), **settings
            )
            axes[0].set_ylabel(f"{1e3 * latency:.0f} ms", fontweight="bold", color=INK)
            axes[0].set_xlabel(f"up to {deviation.max():.2g} {unit}", fontsize=8)
            for k in range(size):
                image, _ = mne.viz.plot_topomap(
                    np.nan_to_num(chosen[name].isel(time=row, parameter=k).values), place,
                    axes=axes[k + 1], cmap="Blues", vlim=(0, top), **settings,
                )  # fmt: skip
        grid[0, 0].set_title("deviation", loc="center", fontsize=9.5)
        for axes, label in zip(grid[0, 1:], labels, strict=True):
            axes.set_title(label, loc="center")
        bar = figure.colorbar(image, ax=grid[:, 1:], shrink=0.7, pad=0.02, aspect=18)
        bar.set_label(_title(name, found), color=INK)
        bar.outline.set_visible(False)
    return figure


def trend(found: xr.Dataset) -> Figure:
    """Draw indices of one output against the size of the design.

    Parameters
    ----------
    found : xarray.Dataset, dims (n, parameter)
        What :func:`~nmm_infer.sensitivity.convergence` returns, of one output or of some: without
        selection, the width of the intervals is drawn instead, the widest over all outputs.

    Returns
    -------
    matplotlib.figure.Figure
        Indices with their intervals against ``n``.

    Raises
    ------
    InputError
        If there is one size only.
    """
    if "n" not in found.dims:
        raise InputError("trend: no dimension n; call convergence")
    name, dims = _main(found), _output_dims(found)
    sizes = found["n"].values
    conf = f"{name}_conf"
    if dims and conf not in found:
        raise InputError(f"trend: select one output along {dims}")
    with style():
        figure = Figure(figsize=(7.2, 3.6), layout="constrained")
        axes = figure.subplots()
        for k, label in enumerate(_labels(found)):
            colour = _COLOURS[k % len(_COLOURS)]
            if dims:
                y = found[conf].isel(parameter=k).max(dims).values
                axes.plot(sizes, y, "o-", ms=4, color=colour, lw=1.5, label=label)
                continue
            y = found[name].isel(parameter=k).values
            if conf in found:
                half = found[conf].isel(parameter=k).values
                axes.fill_between(sizes, y - half, y + half, color=colour, alpha=0.15, lw=0)
            axes.plot(sizes, y, "o-", ms=4, color=colour, lw=1.7, label=label)
        axes.set_xscale("log", base=2)
        axes.set_xticks(sizes, [f"{n:,}" for n in sizes])
        axes.set_xlabel(f"size $N$ of the {found.attrs['method']} design")
        title = _title(name, found)
        axes.set_ylabel(title if not dims else f"widest half interval of {_TITLES.get(name, name)}")
        if dims:
            axes.set_yscale("log")
        else:
            most = float(np.nanmax(found[name].values))
            axes.set_ylim(-0.08 * most, 1.35 * most)
            axes.axhline(0, color="#9ca3af", lw=0.8, zorder=0)
        axes.margins(x=0.02)
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure

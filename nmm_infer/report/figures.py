"""The figures of a report; each function returns a matplotlib figure."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import mne
import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from nilearn import datasets, plotting
from numpy.typing import NDArray
from scipy import stats

from nmm_infer._style import formula, style
from nmm_infer._text import plain
from nmm_infer.workflow import Result

__all__ = [
    "calibration",
    "densities",
    "predictive",
    "recording",
    "region_courses",
    "source_map",
    "style",
]

#: Name, unit and factor from SI of what each channel type shows.
_QUANTITIES = {
    "eeg": ("potential", "µV", 1e6),
    "mag": ("field", "fT", 1e15),
    "grad": ("gradient", "fT/cm", 1e13),
}
PRIOR, POSTERIOR, TRUTH, FOCUS = "#aab2bd", "#1f6feb", "#d9480f", "#d9480f"


def _is_evoked(result: Result) -> bool:
    return result.study.protocol.kind == "evoked"


def recording(result: Result) -> Figure:
    """Sensors: all channels and scalp maps (evoked), or spectra and band maps (spontaneous)."""
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    axes = figure.subplot_mosaic([["a", "b", "c", "d"]], width_ratios=[2.6, 1, 1, 1])
    data, info = result.observation.data, result.observation.info
    types = info.get_channel_types()
    shown = next(kind for kind in _QUANTITIES if kind in types)  # one unit an axis
    picks = [k for k, kind in enumerate(types) if kind == shown]
    data, info = data[:, picks], mne.pick_info(info, picks, copy=True, verbose="error")
    quantity, sensor_unit, factor = _QUANTITIES[shown]
    depth = np.array([channel["loc"][1] for channel in info["chs"]])
    shade = mpl.colormaps["viridis"](0.9 * (depth - depth.min()) / (np.ptp(depth) + 1e-12))
    if _is_evoked(result):
        values, times = data.values[0] * factor, data.coords["time"].values
        power = np.where(times > 0.02, (values**2).mean(axis=0), 0.0)
        peaks = _peaks(power, times)
        maps = [(values[:, i], f"{times[i] * 1e3:.0f} ms") for i in peaks]
        x, y, labels = (
            times * 1e3,
            values,
            ("time from the event [ms]", f"{quantity} [{sensor_unit}]"),
        )
        for i in peaks:
            axes["a"].axvline(times[i] * 1e3, color="#d1d5db", lw=1, zorder=0)
        unit, cmap = sensor_unit, "RdBu_r"
        title = f"Average of {result.observation.n_averages} trials"
    else:
        windows = data.values * factor
        spectrum, x = mne.time_frequency.psd_array_multitaper(
            windows,
            info["sfreq"],
            1,
            result.study.protocol.h_freq,
            normalization="full",
            verbose="error",
        )
        y = 10 * np.log10(spectrum.mean(axis=0))
        labels = ("frequency [Hz]", f"power [dB re 1 ({sensor_unit})²/Hz]")
        bands = {"theta 4-7 Hz": (4, 7), "alpha 8-13 Hz": (8, 13), "beta 14-30 Hz": (14, 30)}
        maps = [
            (y[:, (x >= low) & (x <= high)].mean(axis=1), name)
            for name, (low, high) in bands.items()
        ]
        unit, cmap, title = "dB", "viridis", "Power spectra of all channels"
    for channel, colour in zip(y, shade, strict=True):
        axes["a"].plot(x, channel, color=colour, lw=0.8)
    axes["a"].set(xlabel=labels[0], ylabel=labels[1], title=title)
    axes["a"].margins(x=0)
    limit = max(np.abs(values).max() for values, _ in maps)
    for (values, name), key in zip(maps, "bcd", strict=False):
        bounds = (-limit, limit) if unit != "dB" else (values.min(), values.max())
        image, _ = mne.viz.plot_topomap(
            values,
            info,
            axes=axes[key],
            show=False,
            cmap=cmap,
            vlim=bounds,
            contours=4,
            sensors="k.",
        )
        axes[key].set_title(name, loc="center")
        if unit == "dB" or key == "d":
            figure.colorbar(image, ax=axes[key], shrink=0.5, label=unit)
    return figure


def _peaks(power: NDArray[np.float64], times: NDArray[np.float64], n: int = 3) -> list[int]:
    """Return up to ``n`` well separated maxima, in order of time."""
    chosen: list[int] = []
    for i in np.argsort(-power):
        if all(abs(times[i] - times[j]) > 0.04 for j in chosen):
            chosen.append(int(i))
        if len(chosen) == n:
            break
    return sorted(chosen)


def source_map(result: Result) -> Figure:
    """Strength of every region: on the inflated cortex, or at its place where there is none."""
    strength = result.sources["strength"]
    head = result.observation.head
    if {label.subject for label in head.labels} != {"fsaverage5"}:
        return _places(strength, head.region_positions.values)
    values = {"lh": np.full(10242, np.nan), "rh": np.full(10242, np.nan)}
    for label in head.labels:
        values[label.hemi][label.vertices] = float(strength.sel(region=label.name))
    mesh = datasets.load_fsaverage("fsaverage5")["inflated"]
    sulci = datasets.load_fsaverage_data(mesh="fsaverage5", data_type="sulcal")
    figure = Figure(figsize=(10, 2.9), layout="constrained")
    views = [("lh", "lateral"), ("lh", "medial"), ("rh", "medial"), ("rh", "lateral")]
    top = float(strength.max())
    for i, (hemi, view) in enumerate(views):
        axes: Any = figure.add_subplot(1, 4, i + 1, projection="3d")
        side = "left" if hemi == "lh" else "right"
        plotting.plot_surf(
            mesh.parts[side], values[hemi], bg_map=sulci.data.parts[side], hemi=side, view=view,
            cmap="inferno", vmin=0, vmax=top, axes=axes, figure=figure, colorbar=False,
            bg_on_data=False,
        )  # fmt: skip
        axes.set_title(f"{side}, {view}", loc="center", fontweight="normal")
        axes.set_box_aspect(None, zoom=1.35)
    scale = mpl.cm.ScalarMappable(mpl.colors.Normalize(0, top), "inferno")
    unit = strength.attrs["units"].replace("*", "")
    figure.colorbar(scale, ax=figure.axes, shrink=0.6, label=f"strength [{unit}]")
    return figure


def _places(strength: xr.DataArray, places: NDArray[np.float64]) -> Figure:
    """Draw each region as a dot from above, from the left and from behind."""
    figure = Figure(figsize=(10, 2.9), layout="constrained")
    axes = figure.subplots(1, 3)
    order = np.argsort(strength.values)
    for panel, (title, across, up) in zip(
        axes, (("above", 0, 1), ("left", 1, 2), ("behind", 0, 2)), strict=True
    ):
        dots = panel.scatter(
            1e3 * places[order, across], 1e3 * places[order, up], c=strength.values[order],
            cmap="inferno", vmin=0, s=18,
        )  # fmt: skip
        panel.set(aspect="equal", title=f"from {title}", xlabel=f"{'xyz'[across]} [mm]")
        panel.set_ylabel(f"{'xyz'[up]} [mm]")
    unit = strength.attrs["units"].replace("*", "")
    figure.colorbar(dots, ax=axes, shrink=0.8, label=f"strength [{unit}]")
    return figure


def region_courses(result: Result) -> Figure:
    """Time courses (or spectra) of the strongest regions."""
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    axes = figure.subplots()
    order = np.argsort(-result.sources["strength"].values)
    names = [str(result.sources.coords["region"].values[i]) for i in order[:6]]
    if result.region not in names:
        names = [result.region, *names[:5]]
    courses = result.sources["region_courses"]
    unit = courses.attrs["units"].replace("*", "")
    colours = iter(mpl.colormaps["Blues"](np.linspace(0.9, 0.35, len(names))))
    for name in names:
        values, x = courses.sel(region=name).values, courses.coords["time"].values
        chosen = name == result.region
        colour = FOCUS if chosen else next(colours)
        if _is_evoked(result):
            x = x * 1e3
        else:
            protocol = result.study.protocol
            windows = values.reshape(protocol.n_windows, -1)
            power, x = mne.time_frequency.psd_array_multitaper(
                windows,
                protocol.sfreq,
                protocol.l_freq,
                protocol.h_freq,
                normalization="full",
                verbose="error",
            )
            values = 10 * np.log10(power.mean(axis=0))
        axes.plot(
            x, values, color=colour, lw=2.4 if chosen else 1.2, zorder=3 if chosen else 2,
            label=plain(f"{name} (inferred)" if chosen else name),
        )  # fmt: skip
    evoked = _is_evoked(result)
    axes.set(
        xlabel="time from the event [ms]" if evoked else "frequency [Hz]",
        ylabel=f"source activity [{unit}]" if evoked else f"power [dB re 1 ({unit})²/Hz]",
        title="Six strongest regions",
    )
    if evoked:
        axes.axvline(0, color="#9ca3af", lw=0.8)
        axes.axhline(0, color="#e5e7eb", lw=0.8, zorder=0)
    axes.margins(x=0)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


def densities(result: Result) -> Figure:
    """Prior against posterior, one panel a parameter."""
    parameters = result.estimator.prior_.parameters
    columns = 4
    rows = -(-len(parameters) // columns)
    figure = Figure(figsize=(10, 2.0 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    summary = result.summary()
    for axes, parameter in zip(grid.flat, parameters, strict=False):
        posterior = result.draws["posterior"].sel(parameter=parameter.name).values
        low, high = parameter.quantile([0.002, 0.998])
        x = np.linspace(low, high, 400)
        u = parameter.cumulative(posterior)
        # Smoothed on the scale of the prior's probability, where the prior is flat on (0, 1), with
        # reflection at both ends: no mass leaks over a bound.
        smooth = stats.gaussian_kde(u)
        ux = parameter.cumulative(x)
        prior = np.exp(parameter.log_density(x))
        density = (smooth(ux) + smooth(-ux) + smooth(2 - ux)) * prior
        axes.fill_between(x, prior, color=PRIOR, alpha=0.45, lw=0, label="prior")
        axes.plot(x, density, color=POSTERIOR, lw=1.8, label="posterior")
        axes.fill_between(x, density, color=POSTERIOR, alpha=0.18, lw=0)
        if result.truth is not None:
            truth = float(result.truth.sel(parameter=parameter.name))
            axes.axvline(truth, color=TRUTH, lw=1.6, ls="--", label="truth")
        share = float(summary["contraction"].sel(parameter=parameter.name))
        label = parameter.label.replace("**0.5", "$^{1/2}$").replace("*", "·")
        axes.set_title(formula(label))
        axes.text(
            0.99, 0.97, f"contraction {share:.2f}", transform=axes.transAxes, ha="right", va="top",
            fontsize=8, color="#6b7280",
        )  # fmt: skip
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_ylim(0, 1.3 * max(density.max(), prior.max()))
        axes.margins(x=0)
    for axes in list(grid.flat)[len(parameters) :]:
        axes.axis("off")
    handles, labels = grid.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=3)
    return figure


def predictive(result: Result) -> Figure:
    """Compare the recording with simulations from the posterior."""
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    axes = figure.subplots()
    _, grid, unit = result.study.protocol.axis
    quantity, values_unit = result.study.protocol.quantity
    shown = values_unit.replace("**2", "²").replace("*", "")
    evoked = _is_evoked(result)
    x = grid * 1e3 if evoked else grid
    transform = (lambda v: v) if evoked else (lambda v: 10 * np.log10(v))
    predicted, observed = transform(result.predicted), transform(result.observed)
    for level, alpha in ((0.9, 0.18), (0.5, 0.3)):
        low, high = np.quantile(predicted, [(1 - level) / 2, (1 + level) / 2], axis=0)
        axes.fill_between(
            x,
            low,
            high,
            color=POSTERIOR,
            alpha=alpha,
            lw=0,
            label=f"central {level:.0%} of simulations",
        )
    for line in predicted[:8]:
        axes.plot(x, line, color=POSTERIOR, lw=0.5, alpha=0.5)
    axes.plot(x, observed, color="#111827", lw=2.2, label="recording")
    axes.set(
        xlabel="time from the event [ms]" if evoked else f"frequency [{unit}]",
        ylabel=f"{quantity} [{shown}]" if evoked else f"{quantity} [dB re 1 {shown}]",
        title="Chosen region: the recording, and simulations from the posterior",
    )
    axes.margins(x=0)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


def calibration(result: Result) -> Figure:
    """Rank distributions with their band, TARP coverage, and what contracts on average."""
    data = result.calibration
    figure = Figure(figsize=(10, 4.0), layout="constrained")
    ranks, tarp, learned = figure.subplots(1, 3, width_ratios=[1.3, 1, 1.2])
    grid = np.linspace(0, 1, 201)
    band = data.attrs["band"]
    ranks.axhspan(-band, band, color=PRIOR, alpha=0.4, lw=0, label="simultaneous 95 % band")
    colours = mpl.colormaps["tab20"](np.arange(data.sizes["parameter"]) % 20)
    for i, name in enumerate(data.coords["parameter"].values):
        column = np.sort(data["rank"].sel(parameter=name).values)
        difference = np.searchsorted(column, grid) / len(column) - grid
        ranks.plot(grid, difference, color=colours[i], lw=1.1, label=plain(name))
    figure.legend(loc="outside lower center", ncols=6, fontsize=8)
    limit = max(2.2 * band, 1.15 * float(data["gap"].max()), 0.035)
    for edge in (-data.attrs["max_gap"], data.attrs["max_gap"]):
        ranks.axhline(edge, color=TRUTH, lw=0.8, ls=":")
    ranks.set(
        ylim=(-limit, limit), xlabel="rank of the truth", ylabel="share below minus expected",
        title=f"Ranks, {data.attrs['runs']:,} fresh runs",
    )  # fmt: skip
    tarp.plot([0, 1], [0, 1], color=PRIOR, lw=1)
    tarp.plot(data.coords["credibility"], data["tarp_coverage"], color=POSTERIOR, lw=2)
    tarp.set(xlabel="credibility", ylabel="expected coverage", title="Joint coverage (TARP)")
    tarp.set_aspect("equal")
    order = np.argsort(data["contraction"].values)
    names = [plain(name) for name in data.coords["parameter"].values[order]]
    learned.barh(np.arange(len(names)), data["contraction"].values[order], color=POSTERIOR)
    learned.set_yticks(np.arange(len(names)), names, fontsize=8)
    learned.set(xlabel="mean contraction", title="What is learned on average", xlim=(0, 1))
    return figure

"""The report: one self-contained page."""

from __future__ import annotations

import base64
import html
import io
import json

import numpy as np
from matplotlib.figure import Figure

from nmm_infer._text import printable
from nmm_infer.report import figures
from nmm_infer.workflow import Result

__all__ = ["render"]

_STYLE = """
:root{--ink:#111827;--soft:#6b7280;--line:#e5e7eb;--blue:#1f6feb;--good:#1a7f37;--fair:#9a6700;
--bad:#cf222e}
*{box-sizing:border-box}body{margin:0;background:#f6f7f9;color:var(--ink);
font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
main{max-width:1080px;margin:0 auto;padding:32px 20px 60px}
header h1{font-size:27px;margin:0 0 4px;letter-spacing:-.01em}header p{margin:0;color:var(--soft)}
section{background:#fff;border:1px solid var(--line);border-radius:12px;padding:20px 24px;
margin-top:20px}h2{font-size:18px;margin:0 0 6px}section>p{margin:4px 0 12px;color:#374151}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(280px,1fr));gap:12px;margin-top:20px}
.card{background:#fff;border:1px solid var(--line);border-radius:12px;padding:14px 16px}
.card b{display:block;overflow-wrap:anywhere;font-size:17px;
line-height:1.25;margin:2px 0}.card span{color:var(--soft);
font-size:13px}.card.good{border-top:4px solid var(--good)}
.card.fair{border-top:4px solid var(--fair)}
.card.bad{border-top:4px solid var(--bad)}.card.info{border-top:4px solid var(--blue)}
img{width:100%;height:auto;display:block}table{border-collapse:collapse;width:100%;font-size:14px}
th,td{text-align:right;padding:6px 8px;border-bottom:1px solid var(--line)}
th:first-child,td:first-child{text-align:left}th{color:var(--soft);font-weight:600}
.bar{background:#eef1f5;border-radius:4px;height:9px;width:110px;display:inline-block}
.bar i{display:block;height:9px;border-radius:4px;background:var(--blue)}
.scroll{overflow-x:auto}tr.nuisance td{color:var(--soft)}details{margin-top:8px}
pre{white-space:pre-wrap;font-size:12px;background:#f6f7f9;padding:12px;border-radius:8px}
ul{margin:6px 0 0;padding-left:20px}.warned{border-left:4px solid var(--fair)}
"""


def _text(value: object) -> str:
    """Return text as a page shows it, whatever is in it."""
    return html.escape(printable(value))


def _image(figure: Figure, alt: str, kind: str = "svg") -> str:
    buffer = io.BytesIO()
    if kind == "svg":
        figure.savefig(buffer, format="svg", metadata={"Date": None})
        mime = "image/svg+xml"
    else:
        figure.savefig(buffer, format="png", dpi=170)
        mime = "image/png"
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{_text(alt)}" src="data:{mime};base64,{data}">'


def _card(state: str, label: str, value: str, note: str) -> str:
    return (
        f'<div class="card {state}"><span>{_text(label)}</span>'
        f"<b>{_text(value)}</b><span>{_text(note)}</span></div>"
    )


def _choice(result: Result) -> str:
    """Say how the region came to be chosen and what the choice is worth."""
    if result.study.protocol.region is not None:
        return "named by the user: that the activity comes from here is assumed, not tested"
    if result.candidates.attrs["runs"] == 0:
        return "the strongest; never the strongest in simulations, so beware"
    share = float(result.candidates.sel(region=result.region))
    return f"the strongest; in {share:.0%} of simulations with this choice, the generator"


def _best(result: Result) -> tuple[str, str]:
    """Name the synaptic parameter that this recording tells most about."""
    names = [n for n in result.study.synaptic if n in result.estimator.prior_.names]
    shares = result.summary()["contraction"].sel(parameter=names).values
    if not len(shares) or shares.max() < 0.1:
        return "none", "no synaptic parameter contracts by .1 for this recording"
    return names[shares.argmax()], f"posterior variance {shares.max():.0%} below the prior's"


def _data_card(result: Result) -> str:
    """Say how much the recording holds, and whether that is little."""
    observation, warned = result.observation, result.warnings
    n, channels = observation.n_averages, len(observation.head.channels)
    evoked = result.study.protocol.kind == "evoked"
    windows = f"{len(observation.data)} windows"
    value = f"{n} trial{'s' * (n != 1)}" if evoked else windows
    note = f"{channels} channels of rank {observation.rank}"
    return _card(
        "fair" if warned else "info", "Data", value, f"{note}; see the warnings" if warned else note
    )


def _warnings(result: Result) -> str:
    """Show what makes the answer less sure than usual, before anything else."""
    if not result.warnings:
        return ""
    listed = "".join(f"<li>{_text(warning)}</li>" for warning in result.warnings)
    return f'<section class="warned"><h2>Less sure than usual</h2><ul>{listed}</ul></section>'


def _cards(result: Result) -> str:
    calibration, checks = result.calibration, result.checks
    gap = float(calibration["gap"].max())
    gain = calibration["log_density_gain"].values
    half = 1.96 * gain.std() / np.sqrt(len(gain))
    chance = checks["misspecification_p_value"]
    distance = checks["predictive_p_distance"]
    fits = (
        "good"
        if min(chance, distance) > 0.05
        else "fair"
        if min(chance, distance) > 0.01
        else "bad"
    )
    passed = bool(calibration.attrs["passed"])
    return "".join(
        [
            _data_card(result),
            _card("info", "Region", result.region, _choice(result)),
            _card("info", "Best determined synaptic parameter", *_best(result)),
            _card(
                "good" if gain.mean() - half > 0 else "bad", "Information, on fresh simulations",
                f"{gain.mean():+.2f} nats", f"over the prior, 95 % interval ± {half:.2f}",
            ),
            _card(
                ("good" if calibration.attrs["band"] <= calibration.attrs["max_gap"] else "fair")
                if passed else "bad",
                "Calibration", "passed" if passed else "failed",
                f"largest rank gap {gap:.3f}; band {calibration.attrs['band']:.3f}, limit "
                f"{calibration.attrs['max_gap']:.2f}",
            ),
            _card(
                fits, "This recording under the model",
                {"good": "plausible", "fair": "borderline", "bad": "implausible"}[fits],
                f"p = {chance:.2f} (summaries), {distance:.2f} (predictions)",
            ),
        ]
    )  # fmt: skip


def _table(result: Result) -> str:
    summary = result.summary()
    rows = []
    for parameter in result.estimator.prior_.parameters:
        row = summary.sel(parameter=parameter.name)
        low, middle, high = row["quantile"].values
        share = float(row["contraction"])
        width = max(0, min(100, round(100 * share)))
        truth = (
            ""
            if result.truth is None
            else f"<td>{float(result.truth.sel(parameter=parameter.name)):.3g}</td>"
        )
        kind = "" if parameter.name in result.study.synaptic else ' class="nuisance"'
        unit = "" if parameter.unit == "1" else _text(parameter.unit)
        a, b = parameter.quantile([0.05, 0.95])
        rows.append(
            f"<tr{kind}><td>{_text(parameter.name)}</td><td>{unit}</td>"
            f"<td>{a:.3g} to {b:.3g}</td><td>{middle:.3g}</td><td>{low:.3g} to {high:.3g}</td>"
            f'<td><span class="bar"><i style="width:{width}%"></i></span> {share:.2f}</td>'
            f"{truth}</tr>"
        )
    truth_head = "" if result.truth is None else "<th>truth</th>"
    return (
        '<div class="scroll"><table><tr><th>parameter</th><th>unit</th><th>prior 90 %</th>'
        "<th>posterior median</th><th>posterior 90 %</th><th>contraction</th>"
        f"{truth_head}</tr>{''.join(rows)}</table></div>"
    )


def _calibration_table(result: Result) -> str:
    data = result.calibration
    rows = []
    for name in data.coords["parameter"].values:
        row = data.sel(parameter=name)
        rows.append(
            f"<tr><td>{_text(name)}</td><td>{float(row['gap']):.3f}</td>"
            + "".join(f"<td>{float(v):.3f}</td>" for v in row["coverage"].values)
            + f"<td>{float(row['contraction']):.2f}</td><td>{float(row['r2']):.2f}</td>"
            f"<td>{float(row['nrmse']):.2f}</td><td>{float(row['slope']):.2f}</td></tr>"
        )
    heads = "".join(f"<th>coverage of {level:.0%}</th>" for level in data.coords["level"].values)
    return (
        f'<div class="scroll"><table><tr><th>parameter</th><th>rank gap</th>{heads}'
        "<th>contraction</th><th>R²</th><th>nRMSE</th><th>slope</th></tr>"
        f"{''.join(rows)}</table></div>"
    )


def render(result: Result, title: str) -> str:
    """Return the page as text.

    Parameters
    ----------
    result : Result
        The result.
    title : str
        Heading, e.g. the name of the recording.
    """
    observation, protocol = result.observation, result.study.protocol
    data = result.calibration
    learned = ", ".join(
        f"{name} ({float(data['contraction'].sel(parameter=name)):.2f})"
        for name in data.coords["parameter"].values[np.argsort(-data["contraction"].values)]
        if float(data["contraction"].sel(parameter=name)) >= 0.1
    )
    ridge = data["log_density_gain"].values - data["ridge_log_density_gain"].values
    half = 1.96 * ridge.std() / np.sqrt(len(ridge))
    others = result.candidates.sortby(result.candidates, ascending=False)[:4]
    places = ", ".join(
        f"{name} {float(value):.0%}"
        for name, value in zip(others.coords["region"].values, others.values, strict=True)
        if value > 0
    )
    simulated = (
        "The recording was simulated with known parameters, shown as dashed lines. "
        if result.truth is not None
        else ""
    )
    training = result.estimator.training_
    notes = [note for note in observation.notes if note not in observation.warnings]
    sensors = "EEG" if "eeg" in observation.info.get_channel_types() else "MEG"
    with figures.style():
        body = f"""
<header><h1>{_text(title)}</h1>
<p>{len(observation.head.channels)} {sensors} channels, {_text(protocol.kind)} activity,
{_text(protocol.inverse)}, {training["runs"]:,} training simulations, seed {result.study.seed}.
{simulated}</p></header>
{_warnings(result)}
<div class="cards">{_cards(result)}</div>
<section><h2>What the recording says about the column</h2>
<p>Contraction: 0 means that nothing was learned beyond the prior, 1 that the value is known.
Nuisances (grey) are inferred together with the rest and so are accounted for.</p>
{_table(result)}</section>
<section><h2>Prior and posterior</h2>{_image(figures.densities(result), "prior and posterior")}
</section>
<section><h2>The recording</h2>{_image(figures.recording(result), "recording")}
<ul>{"".join(f"<li>{_text(note)}</li>" for note in notes)}</ul>
</section>
<section><h2>Where the activity was</h2>
<p>{_text(protocol.inverse)} on a template head. Simulations went through the same choice of region;
among those in which {_text(result.region)} was chosen, the generator was:
{_text(places)}.</p>
{_image(figures.source_map(result), "source map", "png")}
{_image(figures.region_courses(result), "region time courses")}</section>
<section><h2>Does the model reproduce the recording?</h2>
<p>{result.checks["predictive_inside_90"]:.0%} of the recording lies inside the central 90 % of
simulations from the posterior.</p>
{_image(figures.predictive(result), "posterior predictive")}</section>
<section><h2>Can the posterior be trusted?</h2>
<p>Tested on {data.attrs["runs"]:,} fresh simulations. On average these contract by at least .1:
{_text(learned) or "none"}. The mean log density at the truth exceeds that of a linear
Gaussian posterior by {ridge.mean():.2f} ± {half:.2f} nats.</p>
{_image(figures.calibration(result), "calibration")}{_calibration_table(result)}</section>
<section><h2>Provenance</h2><details><summary>Study, training and versions</summary>
<pre>{html.escape(json.dumps(result.study.model_dump(), indent=1))}</pre>
<pre>{html.escape(json.dumps(training, indent=1))}</pre></details></section>
"""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{_text(title)} - nmm_infer</title><style>{_STYLE}</style></head>"
        f"<body><main>{body}</main></body></html>"
    )

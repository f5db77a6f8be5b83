"""Which parameters of a column each kind of estimator finds, at which noise, and how surely.

    python -m experiments.noise_robustness --scale cpu \\
        --output experiments/results/noise_robustness.json \\
        --figure docs/_static/noise_robustness.svg
    python -m experiments.noise_robustness --table experiments/results/noise_robustness.json

Nine parameters (A, B, a, b, C, alpha_1 to alpha_4) of a column that rests, from one evoked
response. Noise: white, 1/f (``pink``), with the covariance of a recording (``real``; needs the
folder that NMM_INFER_DATA names), the background activity of all other regions (``brain``), and
white with trials that come 10 ms early or late (``jitter``). A level is fixed once against the
median power of the prior's responses; the file tells the quantiles of what single runs have. All
estimators are trained once over all kinds and levels, and told which, with several seeds (the
ensemble is one of three seeds); two of them also at single levels.

A cell is one fit. Finished cells are kept in ``--cells``, and an interrupted command goes on there.
The same command, started twice, shares the cells: one more run then writes the whole file.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from experiments.columns import (
    KINDS,
    Kept,
    campaign,
    kinds_of_noise,
    realised,
    signal_power,
)
from experiments.columns import summary as scores_of
from experiments.scales import Cells, main
from nmm_infer.diagnostics import MAX_GAP, calibrate, score, score_estimator
from nmm_infer.inference import (
    FAMILIES,
    GaussianLikelihood,
    PosteriorMixin,
    Refined,
    least_squares_from_truth,
    load_estimator,
)
from nmm_infer.inference.families import DENSITY, FINISHING, PRETRAINING, REGRESSION
from nmm_infer.observation import NoiseLevels, levels_for
from nmm_infer.runs import build_task, column_observer
from nmm_infer.study import Study

BASELINES = ("prior_mean", "ridge", "nearest", "boosting")
REGRESSORS = ("bilstm", "lstm", "cnn_bilstm", "transformer")
POSTERIORS = (
    "npe_bilstm", "npe_lstm", "npe_cnn_bilstm", "npe_transformer", "npe_features", "fmpe",
    "ensemble",
)  # fmt: skip
#: What further seeds would not change, and what holds several seeds by itself.
ONCE = ("prior_mean", "ensemble")
SNRS = (-20.0, -10.0, 0.0, 10.0, 20.0, 30.0, 40.0)

#: ``own_epochs``: passes of single families in the place of ``epochs``. With those of the others,
#: the posteriors from features and by flow matching are too wide at high levels; the table tells
#: what the training took.
SCALES = {
    "smoke": {
        "study": "tilwani2025_consistent_narrow", "training": 600, "test": 60, "calibration": 200,
        "families": ["prior_mean", "ridge", "bilstm", "npe_mlp"], "seeds": 1, "snrs": [0.0, 20.0],
        "kinds": ["white", "pink", "jitter"], "single": [], "single_snrs": [], "draws": 32,
        "epochs": {"regression": 2, "pretraining": 2, "density": 2, "finishing": 2}, "members": 2,
        "own_epochs": {}, "exact": 10, "exact_snrs": [20.0], "exact_family": "npe_mlp",
    },
    "cpu": {
        "study": "tilwani2025_consistent_narrow", "training": 30_000, "test": 1000,
        "calibration": 10_000, "families": [*BASELINES, *REGRESSORS, *POSTERIORS], "seeds": 3,
        "snrs": list(SNRS), "kinds": list(KINDS), "single": ["cnn_bilstm", "npe_cnn_bilstm"],
        "single_snrs": [-10.0, 10.0, 30.0], "draws": 64, "members": 3,
        "epochs": {"regression": 12, "pretraining": 5, "density": 4, "finishing": 40},
        "own_epochs": {
            "npe_features": {"pretraining": 15, "density": 12, "finishing": 40},
            "fmpe": {"finishing": 60},
        },
        "exact": 100, "exact_snrs": [0.0, 20.0, 40.0], "exact_family": "npe_mlp",
    },
    "gpu": {
        "study": "tilwani2025_consistent_narrow", "training": 100_000, "test": 1000,
        "calibration": 10_000, "families": [*BASELINES, *REGRESSORS, *POSTERIORS], "seeds": 3,
        "snrs": list(SNRS), "kinds": list(KINDS), "single": list(REGRESSORS + POSTERIORS),
        "single_snrs": list(SNRS), "draws": 256, "members": 5,
        "epochs": {"regression": 30, "pretraining": 10, "density": 15, "finishing": 50},
        "own_epochs": {},
        "exact": 300, "exact_snrs": list(SNRS), "exact_family": "npe_cnn_bilstm",
    },
}  # fmt: skip


def _make(family: str, scale: dict[str, Any]) -> Any:
    passes = scale["epochs"] | scale["own_epochs"].get(family, {})
    kind = "regression" if family in REGRESSORS else "density"
    more: dict[str, Any] = {
        "training": (REGRESSION if kind == "regression" else DENSITY).model_copy(
            update={"epochs": passes[kind]}
        ),
        "pretraining": PRETRAINING.model_copy(update={"epochs": passes["pretraining"]}),
        "finishing": FINISHING.model_copy(update={"epochs": passes["finishing"]}),
    }
    if family == "ensemble":
        more["members"] = scale["members"]
    return FAMILIES[family](**more)


def _views(
    study: Study, noise: NoiseLevels, scale: dict[str, Any]
) -> tuple[Callable[[str, float], Any], Callable[[float], Any]]:
    """Fresh runs by kind and level for scores, and by level, over all kinds, for calibration."""

    @cache
    def test(kind: str, snr: float) -> Any:
        observer = column_observer(study, noise.only(kind, snr))
        return Kept(observer.view(campaign(study, scale["test"], "test"), "test"))

    @cache
    def fresh(snr: float) -> Any:
        observer = column_observer(study, noise.only(snr=snr))
        runs = campaign(study, scale["calibration"], "calibration")
        return Kept(observer.view(runs, "calibration"))

    return test, fresh


def _columns(scores: dict[str, dict[str, Any]]) -> dict[str, list[Any]]:
    """Turn scores of parameters by name into lists in the order of the parameters."""
    rows = list(scores.values())
    return {key: [row[key] for row in rows] for key in rows[0]}


def _evaluate(
    estimator: Any, test: Callable[[str, float], Any], fresh: Callable[[float], Any],
    scale: dict[str, Any], seed: int, accepted: xr.DataArray, kinds: list[str], snrs: list[float],
) -> dict[str, Any]:  # fmt: skip
    """Scores by level and kind, and calibration by level over all kinds."""
    by_level = {}
    for snr in snrs:
        by_kind = {}
        for kind in kinds:
            found = score_estimator(
                estimator, test(kind, snr), n_draws=scale["draws"], seed=seed, accepted=accepted
            )
            by_kind[kind] = _columns(scores_of(found))
        by_level[f"{snr:g}"] = {"kinds": by_kind}
    if isinstance(estimator, PosteriorMixin) and seed == 0:
        for snr in snrs:
            found = calibrate(estimator, fresh(snr), n_draws=scale["draws"], seed=seed)
            by_level[f"{snr:g}"]["calibration"] = {
                "gap": dict(zip(found["parameter"].values.tolist(), found["gap"].values.tolist(),
                                strict=True)),
                "band": found.attrs["band"],
                "passed": bool(found.attrs["passed"]),
                "gain": float(found["log_density_gain"].mean()),
                "coverage_50": found["coverage"].sel(level=0.5).values,
                "coverage_90": found["coverage"].sel(level=0.9).values,
            }  # fmt: skip
    return by_level


def measure(scale: dict[str, Any], seed: int, cells: Cells) -> dict[str, Any]:
    """Run everything that is not there yet."""
    study = Study.preset(scale["study"]).replace(seed=seed)
    kinds = kinds_of_noise(study, tuple(scale["kinds"]))
    noise = levels_for(kinds, signal_power(study), scale["snrs"], study.protocol.n_steps)
    observer = column_observer(study, noise)
    prior = study.build_prior()
    free = prior.select([p.name for p in prior.parameters if p.distribution != "fixed"])
    training = campaign(study, scale["training"], "training")
    accepted = training.theta
    test, fresh = _views(study, noise, scale)

    def fit(family: str, number: int, snr: float | None = None) -> dict[str, Any]:
        own = noise if snr is None else noise.only(snr=snr)
        snrs = scale["snrs"] if snr is None else [snr]
        estimator = _make(family, scale)
        estimator.fit(training, column_observer(study, own), free, seed=number)
        found = _evaluate(estimator, test, fresh, scale, number, accepted, list(kinds), snrs)
        return {"levels": found, "training_seconds": estimator.training_["seconds"]}

    fits: dict[str, Any] = {}
    for number in range(scale["seeds"]):
        for family in scale["families"]:
            if number and family in ONCE:
                continue
            found = cells.find(f"{family}-{number}", partial(fit, family, number))
            if found is not None:
                fits.setdefault(family, []).append(found)
    single: dict[str, Any] = {}
    for family in scale["single"]:
        for snr in scale["single_snrs"]:
            name = f"{family}-single-{snr:g}"
            found = cells.find(name, partial(fit, family, 0, snr))
            if found is not None:
                single.setdefault(family, {})[f"{snr:g}"] = found
    task = build_task(study, [], stream="likelihood")

    def exact(snr: float) -> dict[str, Any]:
        """Refined posteriors, and least squares from the truth, where the likelihood is exact."""
        own = noise.only("white", snr)
        test = campaign(study, scale["exact"], "test")
        view = column_observer(study, own).view(test, "test")
        likelihood = GaussianLikelihood(task, observer, kind="white", snr=snr)
        kept = cells.folder / "estimator"
        if kept.exists():
            estimator: Any = load_estimator(kept)
        else:
            estimator = _make(scale["exact_family"], scale)
            estimator.fit(training, observer, free, seed=0)
            estimator.save(kept)
        refined = Refined(estimator, likelihood).refine(view)
        draws = np.stack([r.z[:1000] for r in refined])
        x = view.sequences()
        fitted = least_squares_from_truth(
            likelihood, likelihood.whiten(x.values), test.theta.sel(parameter=free.names),
            prior=True,
        )  # fmt: skip
        good = np.isfinite(fitted.z.values).all(axis=1)
        return {
            "refined": scores_of(score(draws, test.theta, free, accepted=accepted)),
            "amortised": scores_of(
                score_estimator(estimator, view, n_draws=256, accepted=accepted)
            ),
            "least_squares": scores_of(
                score(fitted.z.values[good], test.theta[good], free, accepted=accepted)
            ),
            "reliable": np.mean([r.reliable for r in refined]),
            "seconds": np.median([r.seconds for r in refined]),
            "converged": good.mean(),
        }

    checked = {}
    for snr in scale["exact_snrs"]:
        found = cells.find(f"exact-{snr:g}", partial(exact, snr))
        if found is not None:
            checked[f"{snr:g}"] = found
    return {
        "exact": checked,
        "study": study.model_dump(mode="json"),
        "budget": scale,
        "parameters": free.names,
        "kinds": list(kinds),
        "realised_snr": realised(study, tuple(scale["snrs"])),
        "context": list(observer.context_names),
        "fits": fits,
        "single": single,
    }


def _values(rows: list[dict[str, Any]], snr: str, key: str) -> NDArray[np.float64]:
    """Return a score of one level, shape (seed and kind, parameter); NaN where there is none."""
    return np.array(
        [scores[key] for row in rows for scores in row["levels"][snr]["kinds"].values()],
        dtype=float,
    )


def _mean(rows: list[dict[str, Any]], snr: str, key: str, parameter: int | None = None) -> float:
    """Mean over seeds and kinds, of one parameter or of all."""
    values = _values(rows, snr, key)
    values = values if parameter is None else values[:, parameter]
    values = values[np.isfinite(values)]
    return float(values.mean()) if values.size else float("nan")


def _best(record: dict[str, Any]) -> str:
    """Name the family with the highest R² over all levels."""
    snrs = [f"{snr:g}" for snr in record["budget"]["snrs"]]
    means = {f: np.mean([_mean(fits, s, "r2") for s in snrs]) for f, fits in record["fits"].items()}
    return max(means, key=lambda family: means[family])


def _markdown(title: str, corner: str, columns: list[str], rows: dict[str, list[str]]) -> list[str]:
    """Return lines of a table under its title, one named row for each entry."""
    return [
        "",
        title,
        "",
        f"| {corner} | {' | '.join(columns)} |",
        f"|---|{'---|' * len(columns)}",
        *(f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items()),
    ]


def _estimates(record: dict[str, Any], snrs: list[str]) -> list[str]:
    """Table of all families: R² by level, and what training took."""
    rows = {
        family: [f"{_mean(fits, s, 'r2'):z.2f}" for s in snrs]
        + [f"{np.mean([f['training_seconds'] for f in fits]):.0f}"]
        for family, fits in record["fits"].items()
    }
    title = "R², mean over the parameters, kinds of noise and seeds, at each level (dB):"
    return _markdown(title, "estimator", [*snrs, "training, s"], rows)


def _single(record: dict[str, Any]) -> list[str]:
    """Table of families that were trained at one level as well."""
    lines = []
    for family, found in record["single"].items():
        rows = {
            "that level only": [f"{_mean([fit], s, 'r2'):z.2f}" for s, fit in found.items()],
            "all levels": [
                f"{_mean(record['fits'].get(family, [])[:1], s, 'r2'):z.2f}" for s in found
            ],
        }
        title = f"R², mean over parameters and kinds, {family} of one seed, tested at each level:"
        lines += _markdown(title, "trained at", list(found), rows)
    return lines


def _calibrations(record: dict[str, Any], snrs: list[str]) -> list[str]:
    """Tables of posteriors: the largest gap of ranks by level, and the density of the truth."""
    calibrated = {
        family: found
        for family, fits in record["fits"].items()
        if all(found := [fits[0]["levels"][s].get("calibration") for s in snrs])
    }
    gaps = {
        family: [f"{max(c['gap'].values()):z.3f}{'' if c['passed'] else ' (!)'}" for c in found]
        for family, found in calibrated.items()
    }
    gains = {family: [f"{c['gain']:z.2f}" for c in found] for family, found in calibrated.items()}
    return [
        *_markdown(
            "Calibration on fresh runs, all kinds: the largest gap of ranks over the parameters "
            f"(limit {MAX_GAP} or the band, whichever is larger):",
            "estimator", snrs, gaps,
        ),
        *_markdown(
            "Mean log density of the truth, of all parameters together, less that of the prior "
            "(nats):",
            "estimator", snrs, gains,
        ),
    ]  # fmt: skip


def _parameters(record: dict[str, Any], snrs: list[str]) -> list[str]:
    """Table of the scores of each parameter, of the best family."""
    best = _best(record)
    fits = record["fits"][best]
    rows: dict[str, list[str]] = {}
    for j, p in enumerate(record["parameters"]):
        cells = rows[p] = []
        for s in snrs:
            values = [_mean(fits, s, k, j) for k in
                      ("r2", "nrmse", "slope", "r", "coverage_90", "contraction")]  # fmt: skip
            collapsed = _values(fits, s, "collapsed")[:, j].any()
            more = ", ".join("-" if np.isnan(v) else f"{v:z.2f}" for v in values[1:])
            cells.append(f"{values[0]:z.2f} ({more}{', c' if collapsed else ''})")
    title = (
        f"Each parameter, {best}, mean over kinds and seeds: R² (nRMSE, slope, r, coverage at "
        "90 %, contraction; `c` where collapsed):"
    )
    return _markdown(title, "parameter", snrs, rows)


def _exact(record: dict[str, Any]) -> list[str]:
    """Tables of what the exact likelihood adds, at single levels."""
    parameters, lines = record["parameters"], []
    for snr, found in record["exact"].items():
        rows = {
            name.replace("_", " "): [f"{found[name][p]['r2']:z.2f}" for p in parameters]
            for name in ("amortised", "refined", "least_squares")
        }
        title = (
            f"White noise at {snr} dB, {record['budget']['exact']} runs: R² of the amortised "
            f"posterior, refined with the exact likelihood ({found['reliable']:.0%} reliable, "
            f"{found['seconds']:.1f} s each), and of least squares that starts at the truth:"
        )
        lines += _markdown(title, "estimate", parameters, rows)
    return lines


def table(record: dict[str, Any]) -> str:
    """Return the record as Markdown: families by level, then parameters of the best."""
    snrs = [f"{snr:g}" for snr in record["budget"]["snrs"]]
    levels = "; ".join(
        f"{s}: {q[0]:.0f}, {q[1]:.0f}, {q[2]:.0f}" for s, q in record["realised_snr"].items()
    )
    lines = [
        *_estimates(record, snrs), *_single(record), *_calibrations(record, snrs),
        *_parameters(record, snrs), *_exact(record), "",
        f"Nominal levels and what single runs have (5, 50, 95 % quantiles, dB): {levels}",
    ]  # fmt: skip
    return "\n".join(lines).lstrip("\n")


def figure(record: dict[str, Any]) -> Any:
    """Draw R² against the level: families on the left, parameters of the best on the right."""
    import matplotlib.pyplot as plt

    snrs = [f"{snr:g}" for snr in record["budget"]["snrs"]]
    x = [float(s) for s in snrs]
    fig, axes = plt.subplots(1, 2, figsize=(9.5, 3.8), sharey=True, layout="constrained")
    colours = plt.get_cmap("tab20")
    best = _best(record)
    for j, (family, fits) in enumerate(record["fits"].items()):
        y = [_mean(fits, s, "r2") for s in snrs]
        style = "--" if family in BASELINES else "-"
        colour = "black" if family == best else colours(j % 20)
        axes[0].plot(x, y, style, marker=".", color=colour, label=family)
    axes[0].legend(fontsize=7, frameon=False, ncols=2, loc="upper left")
    axes[0].set(xlabel="nominal SNR, dB", ylabel="R², mean over parameters", title="estimators")
    fits = record["fits"][best]
    for j, p in enumerate(record["parameters"]):
        y = [_mean(fits, s, "r2", j) for s in snrs]
        axes[1].plot(x, y, marker=".", color=f"C{j}", label=p)
    axes[1].legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    axes[1].set(xlabel="nominal SNR, dB", title=f"parameters ({best})")
    for ax in axes:
        ax.axhline(0, color="0.6", lw=0.8)
        ax.set_ylim(-0.15, 1.0)
    return fig


def draw(record: dict[str, Any], path: Path) -> None:
    """Write the figure."""
    import matplotlib.pyplot as plt

    fig = figure(record)
    fig.savefig(path)
    plt.close(fig)


if __name__ == "__main__":
    main(__doc__, "noise_robustness", SCALES, measure, table, draw)

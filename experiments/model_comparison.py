"""Which column made this recording? Jansen-Rit, Wendling and thalamocortical columns compared.

    python -m experiments.model_comparison --scale cpu \
        --output experiments/results/model_comparison.json \
        --figure docs/_static/model_comparison.svg
    python -m experiments.model_comparison --table experiments/results/model_comparison.json

One column of one region is seen through 32 electrodes in 1/f noise, at rest (power spectrum) and
after a stimulus (evoked response). All three models have the same prior of what belongs to all:
source scale, noise on the drive, stimulus. A classifier learns to tell the models apart, is
calibrated on runs held out from it, and is tested on fresh ones beside a logistic regression.
Recordings of the models, and of a fast sine wave that none of them makes, are asked about too: do
they look like any of the models?
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import mne
import numpy as np
import xarray as xr
from scipy import stats

from experiments.scales import Cells, main
from nmm_infer.anatomy import template_head
from nmm_infer.anatomy.patch import patch_head
from nmm_infer.campaign import Campaign, PriorDesign, run
from nmm_infer.diagnostics import logistic_baseline, reliability, resemblance
from nmm_infer.inference import JoinedView, ModelComparison
from nmm_infer.observation import Observer, Sequences, noise_from_level
from nmm_infer.report.figures import style
from nmm_infer.runs import build_task
from nmm_infer.settings import EncoderSettings, TrainingSettings
from nmm_infer.study import Study

CHANNELS = (  # noqa: SIM905 - a list of 32 strings is harder to read
    "Fp1 Fp2 F7 F3 Fz F4 F8 FC5 FC1 FC2 FC6 T7 C3 Cz C4 T8 CP5 CP1 CP2 CP6 "
    "P7 P3 Pz P4 P8 PO7 POz PO8 O1 Oz O2 TP9"
).split()
REGION = "lateraloccipital-rh"
N_AVERAGES = 100
NOISE = {"spontaneous": 2e-6, "evoked": 5e-7}  # V a channel; evoked: after the average
RHYTHM, SIZE = 27.0, 5.0  # Hz, mV: what no model makes
NAMES = {
    "jansen_rit": "Jansen-Rit",
    "wendling": "Wendling",
    "thalamocortical": "thalamocortical",
}


def uniform(low: float, high: float, source: str) -> dict[str, Any]:
    return {"distribution": "uniform", "low": low, "high": high, "source": source}


_TYPES = "spans the six types of activity of Wendling et al. 2002, and their background"
#: What differs from the default prior of a column, by model.
PRIORS: dict[str, dict[str, Any]] = {
    "jansen_rit": {},
    "wendling": {
        "A": uniform(3.0, 7.0, _TYPES),
        "B": uniform(5.0, 50.0, _TYPES),
        "G": uniform(0.0, 25.0, _TYPES),
    },
    "thalamocortical": {
        "relay_to_pyramidal": uniform(40.0, 120.0, "half to one and a half of the published value"),
    },
}
#: Mean of the drive at rest where it is not that of Jansen and Rit.
DRIVES = {"wendling": uniform(60.0, 120.0, "Wendling et al. 2002: 90 /s, a third to both sides")}


SCALES: dict[str, dict[str, Any]] = {
    "smoke": {
        "training": 200, "fresh": 100, "foreign": 2, "encoder": {"backbone": "mlp", "width": 16},
        "schedule": {"epochs": 3, "batch_size": 64, "learning_rate": 3e-3},
    },
    "cpu": {
        "training": 4000, "fresh": 2000, "foreign": 10, "encoder": {},
        "schedule": {"epochs": 15, "batch_size": 128, "learning_rate": 2e-3},
    },
}  # fmt: skip


def study(kind: str, model: str, seed: int) -> Study:
    """Return the study of one column, at rest or stimulated."""
    table = (Study.spontaneous() if kind == "spontaneous" else Study.evoked()).model_dump()
    prior = dict(PRIORS[model])
    prior["background"] = {"distribution": "fixed", "low": 1.0, "source": "there is one region"}
    if kind == "spontaneous" and model in DRIVES:
        prior["drive"] = DRIVES[model]
    table |= {
        "model": model,
        "connectome": {"source": "column"},
        "prior": prior,
        "seed": seed,
        "protocol": {**table["protocol"], "region": REGION},
    }
    return Study.model_validate(table)


def simulate(kind: str, model: str, stream: str, n: int, seed: int) -> Campaign:
    """Run one model; streams of different models share nothing."""
    n_averages = N_AVERAGES if kind == "evoked" else 1
    stream = f"{model}/{stream}"
    task = build_task(study(kind, model, seed), [REGION], stream=stream, n_averages=n_averages)
    design = PriorDesign(task.prior, n, seed=seed, stream=f"prior/{stream}")
    return run(task, design, description=f"Simulating {NAMES[model]}")


def fast_rhythm(kind: str, n: int, seed: int) -> Campaign:
    """Return runs whose column does nothing but oscillate fast, with a random phase."""
    runs = simulate(kind, "jansen_rit", "foreign", n, seed)
    times = runs.dataset.coords["time"].values
    phase = np.linspace(0, 2 * np.pi, n, endpoint=False)[:, None, None]
    wave = SIZE * np.sin(2 * np.pi * RHYTHM * times + phase)
    potential = runs.dataset["potential"].copy(data=wave.astype(np.float32))
    theta = runs.theta.copy()
    theta.loc[{"parameter": "source_scale"}] = 50.0
    return Campaign(runs.dataset.assign(potential=potential, theta=theta))


def observer(kind: str, seed: int) -> Observer:
    """Return 32 electrodes over one region."""
    protocol = study(kind, "jansen_rit", seed).protocol
    info = mne.create_info(list(CHANNELS), protocol.sfreq, "eeg", verbose="error")
    info.set_montage("fsaverage_1005", verbose="error")
    noise = noise_from_level(
        info, NOISE[kind], len(protocol.times) // protocol.n_windows, protocol.sfreq,
        (protocol.l_freq, protocol.h_freq),
    )  # fmt: skip
    head = patch_head(template_head(info), REGION)
    return Observer(head, noise, protocol, info, seed=seed)


def measure_kind(kind: str, scale: dict[str, Any], seed: int) -> dict[str, Any]:
    """Train, calibrate and test one comparison."""
    seen_by = observer(kind, seed)
    training = {m: simulate(kind, m, "training", scale["training"], seed) for m in NAMES}
    comparison = ModelComparison(
        EncoderSettings(**scale["encoder"]), TrainingSettings(**scale["schedule"])
    ).fit(training, seen_by, seed=seed)
    views = {
        m: seen_by.view(simulate(kind, m, "test", scale["fresh"], seed), f"test/{m}") for m in NAMES
    }
    fresh = JoinedView(views, seed=seed)
    learned = JoinedView(
        {m: seen_by.view(runs, f"training/{m}") for m, runs in training.items()}, seed=seed
    )
    baseline = logistic_baseline(learned, fresh, logarithmic=kind == "spontaneous")
    seen = fresh.sequences()
    begin = time.perf_counter()
    probabilities = comparison.probabilities(seen)
    seconds = time.perf_counter() - begin
    found = reliability(probabilities, fresh.truth, baseline=baseline, seed=seed)
    linear = reliability(baseline, fresh.truth, seed=seed)
    rhythm = seen_by.view(fast_rhythm(kind, scale["foreign"], seed), "foreign").sequences()
    return {
        "prior": {m: study(kind, m, seed).build_prior().to_dict() for m in NAMES},
        "runs": comparison.training_["runs"],
        "failed_runs": comparison.training_["failed_runs"],
        "fresh_runs": {m: len(v) for m, v in views.items()},
        "scaling": comparison.scaling_.tolist(),
        "validation_loss": comparison.training_["validation_loss"],
        "seconds": {"training": comparison.training_["seconds"], "asking": seconds},
        "comparison": told(found),
        "logistic": told(linear),
        "unlike_all": {
            "of the models": flagged(comparison, seen, scale["foreign"]),
            f"a rhythm of {RHYTHM:g} Hz": flagged(comparison, rhythm, scale["foreign"]),
        },
    }


def flagged(comparison: ModelComparison, seen: Sequences, n: int) -> dict[str, float]:
    """Share of recordings that look like none of the models, with its 95 % interval (Wilson)."""
    none = [
        bool(resemblance(comparison, Sequences(seen.values[k : k + 1], seen.region[:1]))["none"])
        for k in range(min(n, len(seen)))
    ]
    found = stats.binomtest(sum(none), len(none))
    low, high = found.proportion_ci(method="wilson")
    return {"share": found.statistic, "low": low, "high": high, "n": len(none)}


def told(found: xr.Dataset) -> dict[str, Any]:
    """Return what the tables and the figure need, JSON-ready."""
    scores = {
        name: {"mean": float(found[name]), "low": low, "high": high}
        for name in ("log_score_mean", "gain_over_prior", "gain_over_baseline")
        if name in found
        for low, high in [found[f"{name}_interval"].values.tolist()]
    }
    curve = {
        name: np.where(np.isfinite(found[name]), found[name], -1).tolist()
        for name in ("predicted", "observed", "observed_interval", "count")
    }
    return {
        **scores,
        "accuracy": float(found["accuracy"]),
        "ece": dict(zip(found["model"].values.tolist(), found["ece"].values.tolist(), strict=True)),
        "largest_ece": found.attrs["largest_ece"],
        "band": found.attrs["band"],
        "p_value": found.attrs["p_value"],
        "passed": bool(found.attrs["passed"]),
        "confusion": found["confusion"].values.tolist(),
        "curve": curve,
    }


def measure(scale: dict[str, Any], seed: int, cells: Cells) -> dict[str, Any]:
    """Run everything that is not there yet."""
    kinds = {}
    for kind in NOISE:
        found = cells.find(kind, partial(measure_kind, kind, scale, seed))
        if found is not None:
            kinds[kind] = found
    return {"budget": scale, "models": list(NAMES), "kinds": kinds}


def table(record: dict[str, Any]) -> str:
    """Return the record as Markdown."""
    rows = [
        "| recording | probabilities of | information, nats | over logistic, nats | accuracy "
        "| calibration error (band) | calibrated |",
        "|---" * 7 + "|",
    ]
    for kind, part in record["kinds"].items():
        for name, label in {"comparison": "the network", "logistic": "logistic regression"}.items():
            one = part[name]
            over = show(one["gain_over_baseline"]) if "gain_over_baseline" in one else "-"
            rows.append(
                f"| {kind} | {label} | {show(one['gain_over_prior'])} | {over} "
                f"| {one['accuracy']:z.2f} | {one['largest_ece']:z.3f} ({one['band']:z.3f}) "
                f"| {'yes' if one['passed'] else 'no'} |"
            )
        rows.append(f"| {kind} | equal ones | 0 | - | {1 / len(record['models']):z.2f} | - | - |")
    names = [NAMES[m] for m in record["models"]]
    rows += ["", "| recording | made by | " + " | ".join(f"given to {n}" for n in names) + " |"]
    rows.append("|---" * (2 + len(names)) + "|")
    for kind, part in record["kinds"].items():
        for name, row in zip(names, part["comparison"]["confusion"], strict=True):
            rows.append(f"| {kind} | {name} | " + " | ".join(f"{c:z.2f}" for c in row) + " |")
    rows += ["", "| recording | what it is | looks like none of the models |", "|---|---|---|"]
    for kind, part in record["kinds"].items():
        for name, one in part["unlike_all"].items():
            share = f"{one['share']:z.2f} [{one['low']:z.2f}, {one['high']:z.2f}]"
            rows.append(f"| {kind} | {name} | {share} |")
    return "\n".join(rows)


def show(score: dict[str, float]) -> str:
    return f"{score['mean']:z.2f} [{score['low']:z.2f}, {score['high']:z.2f}]"


def draw(record: dict[str, Any], path: Path) -> None:
    """Draw the reliability curves."""
    with style():
        kinds = record["kinds"]
        figure, axes = plt.subplots(1, len(kinds), figsize=(4.2 * len(kinds), 3.9), sharey=True)
        for axis, (kind, part) in zip(axes, kinds.items(), strict=True):
            curve = part["comparison"]["curve"]
            axis.plot([0, 1], [0, 1], color="#9ca3af", linewidth=1)
            for k, model in enumerate(record["models"]):
                count = np.array(curve["count"][k])
                used = count >= 20  # of fewer a share says nothing
                predicted, observed = (
                    np.array(curve[name][k])[used] for name in ("predicted", "observed")
                )
                interval = np.array(curve["observed_interval"][k])[used]
                bars = np.abs(interval.T - observed)
                axis.errorbar(
                    predicted, observed, bars, marker="o", markersize=4, linewidth=1,
                    capsize=2, label=NAMES[model],
                )  # fmt: skip
            axis.set(title=kind, xlabel="posterior probability of a model", aspect="equal")
        axes[0].set_ylabel("share of simulations it made")
        axes[0].legend()
        figure.tight_layout()
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
        plt.close(figure)


if __name__ == "__main__":
    main(__doc__, "model_comparison", SCALES, measure, table, draw)

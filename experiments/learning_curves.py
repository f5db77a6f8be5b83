"""How many simulations the best estimators need.

    python -m experiments.learning_curves --scale cpu \\
        --output experiments/results/learning_curves.json --figure docs/_static/learning_curves.svg
    python -m experiments.learning_curves --table experiments/results/learning_curves.json

Nine parameters of a column that rests, white noise at levels of 0 to 40 dB of which the estimator
is told. The same fresh runs score all sizes.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from experiments.columns import campaign, levels, schedule
from experiments.scales import Cells, interval, main
from nmm_infer.diagnostics import calibrate
from nmm_infer.inference import FAMILIES
from nmm_infer.runs import column_observer
from nmm_infer.study import Study

SCALES = {
    "smoke": {
        "study": "tilwani2025_consistent_narrow", "snrs": [20.0], "sizes": [300, 600],
        "families": ["ridge", "npe_mlp"], "seeds": 1, "fresh": 200, "steps": 20,
    },
    "cpu": {
        "study": "tilwani2025_consistent_narrow", "snrs": [0.0, 20.0, 40.0],
        "sizes": [1000, 3000, 10_000, 30_000, 100_000],
        "families": ["ridge", "npe_mlp", "npe_cnn_bilstm"], "seeds": 2, "fresh": 5000,
        "steps": 1500,
    },
    "gpu": {
        "study": "tilwani2025_consistent_narrow", "snrs": [0.0, 20.0, 40.0],
        "sizes": [1000, 3000, 10_000, 30_000, 100_000, 1_000_000],
        "families": ["ridge", "npe_mlp", "npe_cnn_bilstm", "npe_transformer"], "seeds": 3,
        "fresh": 10_000, "steps": 40_000,
    },
}  # fmt: skip


def measure(scale: dict[str, Any], seed: int, cells: Cells) -> dict[str, Any]:
    """Run everything that is not there yet."""
    study = Study.preset(scale["study"]).replace(seed=seed)
    observer = column_observer(study, levels(study, ("white",), tuple(scale["snrs"])))
    prior = study.build_prior()
    free = prior.select([p.name for p in prior.parameters if p.distribution != "fixed"])
    pool = campaign(study, max(scale["sizes"]), "training")
    view = observer.view(campaign(study, scale["fresh"], "calibration"), "calibration")

    def fit(family: str, size: int, number: int) -> dict[str, Any]:
        start = 0 if size == max(scale["sizes"]) else number * size
        own = pool.select(np.arange(start, start + size))
        estimator = FAMILIES[family](**schedule(size, scale["steps"]))
        estimator.fit(own, observer, free, seed=number)
        found = calibrate(estimator, view, seed=seed)
        gain = found["log_density_gain"].values
        return {
            "gain": gain.mean(),
            "gain_error": gain.std(ddof=1) / np.sqrt(len(gain)),
            "contraction": dict(zip(free.names, found["contraction"].values, strict=True)),
            "r2": dict(zip(free.names, found["r2"].values, strict=True)),
            "largest_gap": float(found["gap"].max()),
            "band": found.attrs["band"],
            "seconds": estimator.training_["seconds"],
        }

    fits: dict[str, Any] = {}
    for family in scale["families"]:
        for size in scale["sizes"]:
            seeds = 1 if size == max(scale["sizes"]) and len(scale["sizes"]) > 2 else scale["seeds"]
            found = [
                cells.find(f"{family}-{size}-{k}", partial(fit, family, size, k))
                for k in range(seeds)
            ]
            if any(found):
                fits.setdefault(family, {})[str(size)] = [f for f in found if f is not None]
    return {"study": study.model_dump(mode="json"), "budget": scale, "fits": fits}


def table(record: dict[str, Any]) -> str:
    """Return the record as Markdown."""
    sizes = sorted({int(s) for by_size in record["fits"].values() for s in by_size})
    sizes = [str(s) for s in sizes]
    rows = [
        "Log density of the true parameters over that of the prior, nats (mean R² of the nine "
        "parameters; largest gap of ranks), by number of training runs:",
        "",
        f"| estimator | {' | '.join(f'{int(s):,}' for s in sizes)} |",
        f"|---|{'---|' * len(sizes)}",
    ]
    for family, by_size in record["fits"].items():
        cells = []
        for size in sizes:
            fits = by_size.get(size)
            if not fits:
                cells.append("-")
                continue
            gain = interval([f["gain"] for f in fits])["mean"]
            r2 = np.mean([list(f["r2"].values()) for f in fits])
            gap = max(f["largest_gap"] for f in fits)
            cells.append(f"{gain:z.2f} ({r2:z.2f}; {gap:z.3f})")
        rows.append(f"| {family} | {' | '.join(cells)} |")
    seconds = []
    for family, by_size in record["fits"].items():
        each = [by_size[size][0]["seconds"] for size in sizes if size in by_size]
        seconds.append(f"{family}: {', '.join(f'{s:.0f}' for s in each)}")
    rows += ["", f"Training, s: {'; '.join(seconds)}."]
    return "\n".join(rows)


def figure(record: dict[str, Any]) -> Any:
    """Draw information and R² of each parameter against the number of runs."""
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(1, 2, figsize=(9.5, 3.6), layout="constrained")
    for j, (family, by_size) in enumerate(record["fits"].items()):
        x = [int(s) for s in by_size]
        y = [np.mean([f["gain"] for f in fits]) for fits in by_size.values()]
        axes[0].plot(x, y, "o-", color=f"C{j}", label=family)
    axes[0].set(xscale="log", xlabel="training runs", ylabel="information over the prior, nats")
    axes[0].legend(frameon=False)
    family = list(record["fits"])[-1]
    by_size = record["fits"][family]
    for j, p in enumerate(next(iter(by_size.values()))[0]["r2"]):
        y = [np.mean([f["r2"][p] for f in fits]) for fits in by_size.values()]
        axes[1].plot([int(s) for s in by_size], y, "o-", ms=3, color=f"C{j}", label=p)
    axes[1].set(xscale="log", xlabel="training runs", ylabel="R²", title=family)
    axes[1].legend(frameon=False, fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))
    axes[1].axhline(0, color="0.6", lw=0.8)
    return fig


def draw(record: dict[str, Any], path: Path) -> None:
    """Write the figure."""
    import matplotlib.pyplot as plt

    fig = figure(record)
    fig.savefig(path)
    plt.close(fig)


if __name__ == "__main__":
    main(__doc__, "learning_curves", SCALES, measure, table, draw)

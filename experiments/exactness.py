"""How far an amortised posterior is from the exact one, and what its refinement costs.

    python -m experiments.exactness --scale cpu --output experiments/results/exactness.json
    python -m experiments.exactness --table experiments/results/exactness.json

Five parameters of a column (A, B, a, b, C; wide uniform prior, columns that rest) from one evoked
response with white noise at a level of 20 dB by the prior's mean power. The likelihood is exact, so
each observation has a reference posterior: two independent runs of a sampler that agree. A raw
posterior, and the same refined, are compared with it by a classifier (C2ST: .5 means that they
cannot be told apart, 1 that they have nothing in common).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from scipy import stats

from experiments.columns import campaign, levels, realised, schedule
from experiments.scales import Cells, main
from nmm_infer.diagnostics import calibrate
from nmm_infer.inference import FAMILIES, load_estimator
from nmm_infer.inference._c2st import c2st
from nmm_infer.inference.likelihood import GaussianLikelihood
from nmm_infer.inference.reference import reference_posterior
from nmm_infer.inference.refine import Refined
from nmm_infer.observation import Sequences
from nmm_infer.runs import build_task, column_observer
from nmm_infer.study import Study

SCALES = {
    "smoke": {
        "study": "column5_narrow", "snr": 20.0, "sizes": [600], "observations": 2, "steps": 20,
        "calibration": 300, "draws": 1000, "family": "npe_mlp",
    },
    "cpu": {
        "study": "column5_wide", "snr": 20.0, "sizes": [10_000, 100_000], "observations": 24,
        "steps": 6000, "calibration": 10_000, "draws": 10_000, "family": "npe_cnn_bilstm",
    },
    "gpu": {
        "study": "column5_wide", "snr": 20.0, "sizes": [10_000, 100_000, 1_000_000],
        "observations": 100, "steps": 100_000, "calibration": 10_000, "draws": 10_000,
        "family": "npe_cnn_bilstm",
    },
}  # fmt: skip


def measure(scale: dict[str, Any], seed: int, cells: Cells) -> dict[str, Any]:
    """Run everything."""
    study = Study.preset(scale["study"]).replace(seed=seed)
    noise = levels(study, ("white",), (scale["snr"],), of="mean")
    observer = column_observer(study, noise)
    task = build_task(study, [], stream="likelihood")
    likelihood = GaussianLikelihood(task, observer, kind="white", snr=scale["snr"])
    n = scale["observations"]
    test = campaign(study, n, "test")
    x = observer.view(test, "test").sequences()
    y = likelihood.whiten(x.values)
    truth = likelihood.prior.to_unconstrained(test.theta)
    references = {}

    def reference(k: int) -> Any:
        if k not in references:
            references[k] = reference_posterior(
                likelihood, y[k], n_draws=scale["draws"], seed=1000 * seed + k
            )
        return references[k]

    def certificate(k: int) -> dict[str, Any]:
        found = reference(k)
        below = (found.z < truth[k]).mean(axis=0)
        np.save(cells.folder / f"reference_{k}.npy", found.z)
        return {
            "certified": found.certified, "summary": found.summary, "c2st": found.c2st,
            "evaluations": found.evaluations, "seconds": found.seconds, "ranks": below,
            "contraction": 1 - found.z.var(axis=0),
        }  # fmt: skip

    certificates = [cells.get(f"reference_{k}", partial(certificate, k)) for k in range(n)]
    certified = [k for k in range(n) if certificates[k]["certified"]]
    fits = {}
    for size in scale["sizes"]:
        kept = cells.folder / f"estimator_{size}"
        if cells.late and not kept.exists():
            cells.missing.append(f"{size} training runs")
            continue
        if kept.exists():
            estimator: Any = load_estimator(kept)
        else:
            estimator = FAMILIES[scale["family"]](**schedule(size, scale["steps"]))
            estimator.fit(campaign(study, size, "training"), observer, likelihood.prior, seed=seed)
            estimator.save(kept)

        def compare(k: int, estimator: Any = estimator) -> dict[str, Any]:
            exact = np.load(cells.folder / f"reference_{k}.npy")
            begin = perf_counter()
            raw = estimator._sample(x.flat[k : k + 1], scale["draws"], seed + k)[0]
            amortised = perf_counter() - begin
            one = Sequences(x.values[k : k + 1], x.region[k : k + 1], x.context[k : k + 1])
            (refined,) = Refined(estimator, likelihood).refine(
                one, n_draws=scale["draws"], seed=seed + k
            )
            return {
                "raw": c2st(raw, exact, seed=k), "refined": c2st(refined.z, exact, seed=k),
                "amortised_seconds": amortised, "ess": refined.ess,
                "ess_estimator": refined.ess_estimator, "reliable": refined.reliable,
                "refined_seconds": refined.seconds, "evaluations": refined.evaluations,
                "summary": refined.summary,
            }  # fmt: skip

        rows = [cells.get(f"fit_{size}_{k}", partial(compare, k)) for k in certified]

        def check(estimator: Any = estimator) -> dict[str, Any]:
            fresh = campaign(study, scale["calibration"], "calibration")
            found = calibrate(estimator, observer.view(fresh, "calibration"), seed=seed)
            return {
                "largest_gap": float(found["gap"].max()), "band": found.attrs["band"],
                "passed": bool(found.attrs["passed"]),
                "gain": float(found["log_density_gain"].mean()),
                "contraction": dict(
                    zip(found["parameter"].values.tolist(), found["contraction"].values.tolist(),
                        strict=True)
                ),
            }  # fmt: skip

        fits[str(size)] = {
            "rows": rows,
            "calibration": cells.get(f"calibration_{size}", check),
            "training": estimator.training_,
        }
    # Of all references: to leave out those that are hard would bend the ranks.
    ranks = np.array([c["ranks"] for c in certificates])
    p_values = {
        name: stats.kstest(column, "uniform").pvalue
        for name, column in zip(likelihood.prior.names, ranks.T, strict=True)
    }
    return {
        "study": study.model_dump(mode="json"),
        "budget": scale,
        "realised_snr": realised(study, (scale["snr"],), of="mean"),
        "references": certificates,
        "certified": len(certified),
        "ranks_p_values": p_values,
        "fits": fits,
    }


def table(record: dict[str, Any]) -> str:
    """Return the record as Markdown."""
    rows = [
        "| training runs | raw NPE, C2ST | refined, C2ST: mean (90 % quantile) "
        "| effective draws of 10,000 at least 100 | refinement, s: median (largest) "
        "| 10,000 draws, s | calibrated: gap (band) |",
        "|---|---|---|---|---|---|---|",
    ]
    for size, fit in record["fits"].items():
        raw, refined, ess, seconds, amortised = (
            np.array([r[key] for r in fit["rows"]])
            for key in ("raw", "refined", "ess", "refined_seconds", "amortised_seconds")
        )
        found = fit["calibration"]
        rows.append(
            f"| {int(size):,} | {raw.mean():z.3f} | {refined.mean():z.3f} "
            f"({np.quantile(refined, 0.9):z.3f}) | {(ess >= 100).mean():.0%} "
            f"| {np.median(seconds):.1f} ({seconds.max():.1f}) | {np.median(amortised):z.2f} "
            f"| {found['largest_gap']:z.3f} ({found['band']:z.3f}) |"
        )
    p_values = record["ranks_p_values"]
    rows += [
        "",
        f"References certified: {record['certified']} of {len(record['references'])}. Ranks of the "
        f"true parameters among their draws are uniform: the smallest of {len(p_values)} p-values "
        f"is {min(p_values.values()):z.2f}.",
    ]
    return "\n".join(rows)


def figure(record: dict[str, Any]) -> Any:
    """Draw raw and refined distances by observation."""
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(6.5, 3.4), layout="constrained")
    for j, (size, fit) in enumerate(record["fits"].items()):
        raw = np.sort([r["raw"] for r in fit["rows"]])
        refined = np.sort([r["refined"] for r in fit["rows"]])
        share = (np.arange(len(raw)) + 0.5) / len(raw)
        colour = f"C{j}"
        ax.plot(raw, share, "o--", ms=3, color=colour, label=f"{int(size):,} runs, raw")
        ax.plot(refined, share, "o-", ms=3, color=colour, label=f"{int(size):,} runs, refined")
    ax.axvline(0.5, color="0.6", lw=0.8)
    ax.set(
        xlabel="C2ST to the exact posterior (.5: cannot be told apart)",
        ylabel="share of observations", ylim=(0, 1),
    )  # fmt: skip
    ax.legend(frameon=False)
    return fig


def draw(record: dict[str, Any], path: Path) -> None:
    """Write the figure."""
    import matplotlib.pyplot as plt

    fig = figure(record)
    fig.savefig(path)
    plt.close(fig)


if __name__ == "__main__":
    main(__doc__, "exactness", SCALES, measure, table, draw)

"""What a column tells of its connections, with the units of the released code and with others.

    python -m experiments.units --scale cpu --output experiments/results/units.json \\
        --figure docs/_static/units.svg
    python -m experiments.units --table experiments/results/units.json

Part one: the study of Tilwani and O'Reilly as its code has it, at its noise level, with 1,000
training runs and 1,000 fresh ones, five times with other training runs and seeds. Part two: the
same with 10,000 training runs, for every kind of estimator. Part three: the answer to the question
of the paper. One posterior estimator for three studies: as it is with its own prior, as it is with
the narrow prior, and with units that agree with the narrow prior; all at the noise level of the
paper, and at 20 dB by the median power. Only products C_k = alpha_k C act on a column, so a single
alpha_k or C cannot be known better than these four tell: the ceilings are the R² of an oracle that
is given C_1 to C_4 exactly.
"""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.columns import campaign, levels, schedule, signal_power
from experiments.columns import summary as scores_of
from experiments.noise_robustness import BASELINES, POSTERIORS, REGRESSORS
from experiments.scales import Cells, interval, main
from nmm_infer.diagnostics import calibrate, score_estimator
from nmm_infer.inference import FAMILIES
from nmm_infer.inference.likelihood import GaussianLikelihood
from nmm_infer.parameters import Prior
from nmm_infer.runs import build_task, column_observer
from nmm_infer.sensitivity.identifiability import compare_with_posterior, identifiability
from nmm_infer.settings import TrainingSettings
from nmm_infer.study import Study

SHARES = ("alpha_1", "alpha_2", "alpha_3", "alpha_4")
#: Correlations of stored outputs of the released code at its noise level (transformer).
PUBLISHED = {"B": 0.99, "b": 0.93, "a": 0.54}

SCALES = {
    "smoke": {
        "small": 300, "large": 600, "test": 100, "seeds": 2, "families_small": ["mlp", "npe_mlp"],
        "families_large": ["ridge", "mlp"], "posterior": "npe_mlp", "training": 600, "epochs": 4,
        "steps": 8, "steps_large": 8, "fresh": 200, "draws": 64, "trials": 2,
        "fisher": 20,
    },
    "cpu": {
        "small": 1000, "large": 10_000, "test": 1000, "seeds": 5,
        "families_small": ["ridge", "transformer", "bilstm", "npe_mlp"],
        "families_large": [*BASELINES, *REGRESSORS, *POSTERIORS], "posterior": "npe_mlp",
        "training": 100_000, "epochs": 120, "steps": 5000, "steps_large": 800,
        "fresh": 10_000, "draws": 256, "trials": 59, "fisher": 400,
    },
    "gpu": {
        "small": 1000, "large": 100_000, "test": 1000, "seeds": 5,
        "families_small": [*BASELINES, *REGRESSORS, *POSTERIORS],
        "families_large": [*BASELINES, *REGRESSORS, *POSTERIORS], "posterior": "npe_cnn_bilstm",
        "training": 300_000, "epochs": 120, "steps": 20_000, "steps_large": 20_000,
        "fresh": 10_000, "draws": 256, "trials": 59, "fisher": 2000,
    },
}  # fmt: skip


def ceilings(prior: Prior, n: int = 20_000, seed: int = 0) -> dict[str, float]:
    """R² of C and of each alpha_k where C_1 to C_4 are known and nothing else.

    Given these, C is distributed as p(C) / C^4 prod p(C_k / C), on a line: one-dimensional sums.
    Whether a column rests depends on C_k only, so the stratum changes none of this.
    """
    theta = prior.values(prior.sample(n, seed=seed, stream="ceilings"))
    values = dict(zip(prior.names, theta.T, strict=True))
    keep = values["C"] > 0
    known = [(values[s] * values["C"])[keep] for s in SHARES]
    grid = prior["C"].quantile((np.arange(2000) + 0.5) / 2000)
    grid = grid[grid > 0]
    log = np.full((keep.sum(), len(grid)), 0.0)  # grid points are equally likely under p(C)
    for name, c in zip(SHARES, known, strict=True):
        with np.errstate(divide="ignore"):
            log += prior[name].log_density(c[:, None] / grid) - np.log(grid)
    weight = np.exp(log - log.max(axis=1, keepdims=True))
    weight /= weight.sum(axis=1, keepdims=True)

    def r2(values_on_grid: NDArray[Any], truth: NDArray[Any]) -> float:
        mean = (weight * values_on_grid).sum(axis=1)
        return float(1 - np.mean((mean - truth) ** 2) / truth.var())

    result = {"C": r2(grid[None], values["C"][keep])}
    for name, c in zip(SHARES, known, strict=True):
        result[name] = r2(c[:, None] / grid, values[name][keep])
    return result


def _asis(scale: dict[str, Any], seed: int) -> Study:
    study = Study.preset("tilwani2025_asis").replace(seed=seed)
    return study.replace(column={"trials": scale["trials"]})


def _free(study: Study) -> Prior:
    prior = study.build_prior()
    return prior.select([p.name for p in prior.parameters if p.distribution != "fixed"])


def _schedule(family: str, scale: dict[str, Any], runs: int) -> dict[str, Any]:
    large = runs == scale["large"]
    if family not in REGRESSORS:
        return dict(schedule(runs, scale["steps_large" if large else "steps"]))
    if large:
        return {}
    return {"training": TrainingSettings(epochs=scale["epochs"], batch_size=32, learning_rate=2e-3)}


def products(
    estimator: Any, view: Any, study: Study, draws: int, seed: int
) -> dict[str, dict[str, float]]:
    """R² of each parameter, and of each C_k = alpha_k C, in their units, from posterior means.

    What a mean owes to the number of draws is taken out of its error.
    """
    prior: Prior = estimator.prior_
    x = view.sequences().flat
    found: dict[str, list[NDArray[Any]]] = {}
    excess: dict[str, list[NDArray[Any]]] = {}
    for i, start in enumerate(range(0, len(x), 500)):
        z = estimator._sample(x[start : start + 500], draws, seed + i)
        theta = dict(zip(prior.names, np.moveaxis(prior.from_unconstrained(z), -1, 0), strict=True))
        theta |= {f"C_{k + 1}": theta[s] * theta["C"] for k, s in enumerate(SHARES)}
        for name, values in theta.items():
            found.setdefault(name, []).append(values.mean(axis=1))
            excess.setdefault(name, []).append(values.var(axis=1, ddof=1) / draws)
    truth = dict(zip(prior.names, prior.values(view.theta).T, strict=True))
    truth |= {f"C_{k + 1}": truth[s] * truth["C"] for k, s in enumerate(SHARES)}
    result = {}
    for name, parts in found.items():
        mean, own = np.concatenate(parts), np.concatenate(excess[name])
        error = np.mean((mean - truth[name]) ** 2 - own)
        result[name] = {
            "r2": float(1 - error / truth[name].var()),
            "r": float(np.corrcoef(mean, truth[name])[0, 1]),
        }
    return result


def measure(scale: dict[str, Any], seed: int, cells: Cells) -> dict[str, Any]:
    """Run everything that is not there yet."""
    asis = _asis(scale, seed)
    observer = column_observer(asis)
    free = _free(asis)
    pool = campaign(asis, max(scale["large"], scale["small"] * scale["seeds"]), "training")
    test = observer.view(campaign(asis, scale["test"], "test"), "test")

    def one(family: str, runs: int, number: int) -> dict[str, Any]:
        first = number * scale["small"] if runs == scale["small"] else 0
        own = pool.select(np.arange(first, first + runs))
        estimator = FAMILIES[family](**_schedule(family, scale, runs))
        estimator.fit(own, observer, free, seed=number)
        found = score_estimator(
            estimator, test, n_draws=scale["draws"], seed=number, accepted=own.theta
        )
        return {"scores": scores_of(found), "seconds": estimator.training_["seconds"]}

    narrow = Study.preset("tilwani2025_consistent_narrow").replace(seed=seed)
    shared = {n: r for n, r in narrow.model_dump()["prior"].items() if n in free.names}
    studies = {
        "as it is, its prior": asis,
        "as it is, narrow prior": asis.replace(prior={**asis.model_dump()["prior"], **shared}),
        "units agree, narrow prior": narrow,
    }

    @cache
    def runs_of(name: str, n: int, stream: str) -> Any:  # 59 trials take a while
        return campaign(studies[name], n, stream)

    def answer(name: str, noise: str) -> dict[str, Any]:
        study = studies[name]
        if noise == "paper":
            own = column_observer(study)
        else:
            own = column_observer(study, levels(study, ("white",), (20.0,)))
        training = runs_of(name, scale["training"], "training")
        estimator = FAMILIES[scale["posterior"]](**schedule(scale["training"], scale["steps"]))
        estimator.fit(training, own, _free(study), seed=seed)
        fresh = own.view(runs_of(name, scale["fresh"], "calibration"), "calibration")
        found = calibrate(estimator, fresh, seed=seed)
        told: dict[str, Any] = {}
        if noise != "paper":  # what any estimator could have, from derivatives of the model
            likelihood = GaussianLikelihood(
                build_task(study, [], stream="likelihood"), own, kind="white", snr=20.0
            )
            known = identifiability(likelihood, n_draws=scale["fisher"], seed=seed)
            both = compare_with_posterior(known, found)
            told = {
                "contraction_possible": dict(
                    zip(known["parameter"].values.tolist(), both["local"].values, strict=True)
                ),
                "ridges": known["ridge_name"].values.tolist(),
                "unidentifiable": known.attrs["unidentifiable"],
                "directions": known["direction_name"].values.tolist(),
                "direction_contraction": known["direction_contraction"].values,
            }
        power = signal_power(study)
        level = 1e-6 * study.column.noise_level
        return {
            **told,
            "products": products(estimator, fresh, study, 64, seed),
            "contraction": dict(zip(found["parameter"].values.tolist(),
                                    found["contraction"].values.tolist(), strict=True)),
            "largest_gap": float(found["gap"].max()), "band": found.attrs["band"],
            "calibrated": bool(found.attrs["passed"]),
            "median_snr": 10 * np.log10(power / level**2) if noise == "paper" else 20.0,
        }  # fmt: skip

    answers: dict[str, Any] = {}
    for noise in ("20 dB", "paper"):
        for k, name in enumerate(studies):
            found = cells.find(f"answer-{noise}-{k}", partial(answer, name, noise))
            if found is not None:
                answers.setdefault(noise, {})[name] = found
    small: dict[str, Any] = {}
    for family in scale["families_small"]:
        for k in range(scale["seeds"]):
            name = f"small-{family}-{k}"
            found = cells.find(name, partial(one, family, scale["small"], k))
            if found is not None:
                small.setdefault(family, []).append(found)
    large: dict[str, Any] = {}
    for family in scale["families_large"]:
        found = cells.find(f"large-{family}", partial(one, family, scale["large"], 0))
        if found is not None:
            large[family] = found
    return {
        "budget": scale,
        "studies": {name: study.model_dump(mode="json") for name, study in studies.items()},
        "small": small,
        "large": large,
        "answers": answers,
        "ceilings": {name: ceilings(_free(study)) for name, study in studies.items()},
    }


def table(record: dict[str, Any]) -> str:
    """Return the record as Markdown."""
    budget, small = record["budget"], record["small"]
    names = list(next(iter(small.values()))[0]["scores"]) if small else []
    rows = [
        f"As it is, the noise of the paper, {budget['small']:,} training runs, {budget['test']:,} "
        f"fresh ones, {budget['seeds']} seeds: Pearson r with its 95 % interval, and R².",
        "",
        f"| estimator | {' | '.join(names)} |",
        f"|---|{'---|' * len(names)}",
    ]
    if small:
        told = [f"{PUBLISHED[name]:z.2f}" if name in PUBLISHED else "-" for name in names]
        rows.append(f"| stored outputs of the released code | {' | '.join(told)} |")
    for family, fits in small.items():
        cells = []
        for name in names:
            r = [f["scores"][name]["r"] for f in fits]
            r = interval([0.0 if v is None else v for v in r])
            r2 = np.mean([f["scores"][name]["r2"] for f in fits])
            spread = f"[{r['low']:z.3f}, {r['high']:z.3f}]" if len(fits) > 1 else "(one seed)"
            cells.append(f"{r['mean']:z.3f} {spread}, {r2:z.2f}")
        rows.append(f"| {family} | {' | '.join(cells)} |")
    if record["large"]:
        rows += [
            "",
            f"As it is, {budget['large']:,} training runs: R² (mark: not better than the mean).",
            "",
            f"| estimator | {' | '.join(names)} |",
            f"|---|{'---|' * len(names)}",
        ]
    for family, fit in record["large"].items():
        cells = [
            f"{fit['scores'][n]['r2']:z.2f}{'' if fit['scores'][n]['beats_mean'] else ' (!)'}"
            for n in names
        ]
        rows.append(f"| {family} | {' | '.join(cells)} |")
    for noise, answers in record["answers"].items():
        columns = list(next(iter(answers.values()))["products"])
        rows += [
            "",
            f"R² from posterior means, {noise if noise != 'paper' else 'the noise of the paper'} "
            "(in brackets: the ceiling where C_1 to C_4 are known):",
            "",
            f"| study | {' | '.join(columns)} | gap (band) |",
            f"|---|{'---|' * (len(columns) + 1)}",
        ]
        for name, found in answers.items():
            top = record["ceilings"][name]
            cells = [
                f"{found['products'][c]['r2']:z.2f}" + (f" [{top[c]:z.2f}]" if c in top else "")
                for c in columns
            ]
            rows.append(
                f"| {name} ({found['median_snr']:.0f} dB) | {' | '.join(cells)} "
                f"| {found['largest_gap']:z.3f} ({found['band']:z.3f}) |"
            )
    answers = record["answers"].get("20 dB", {})
    if not answers:
        return "\n".join(rows)
    names = list(next(iter(answers.values()))["contraction"])
    rows += [
        "",
        "Contraction at 20 dB: what the model can tell (Fisher information with the prior), and "
        "what this estimator gets out of it:",
        "",
        f"| study | {' | '.join(names)} |",
        f"|---|{'---|' * len(names)}",
    ]
    for name, found in answers.items():
        possible, got = found["contraction_possible"], found["contraction"]
        cells = [f"{possible[n]:z.2f}, {got[n]:z.2f}" for n in names]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    rows.append("")
    for name, found in answers.items():
        weak = [
            f"{direction} ({contraction:z.2f})"
            for direction, contraction in zip(
                found["directions"], found["direction_contraction"], strict=True
            )
            if contraction < 0.1
        ]
        rows.append(
            f"Directions that contract by less than .1, {name}: {'; '.join(weak) or 'none'}."
        )
        rows.append("")
    return "\n".join(rows)


def headline(record: dict[str, Any]) -> str:
    """Return the answer to the question of the paper as a short Markdown table."""
    answers, ceilings_of = record["answers"]["20 dB"], record["ceilings"]
    released, agreeing = "as it is, narrow prior", "units agree, narrow prior"
    columns = list(answers[agreeing]["products"])
    rows = [
        "| | " + " | ".join(columns) + " |",
        "|---|" + "---|" * len(columns),
    ]
    for label, name in {"units as released": released, "units that agree": agreeing}.items():
        cells = [f"{round(answers[name]['products'][c]['r2'], 2) + 0.0:z.2f}" for c in columns]
        rows.append(f"| {label} | {' | '.join(cells)} |")
    top = ceilings_of[agreeing]
    cells = [f"{top[c]:z.2f}" if c in top else "" for c in columns]
    rows.append(f"| ceiling where C_1 to C_4 are known | {' | '.join(cells)} |")
    return "\n".join(rows)


def figure(record: dict[str, Any]) -> Any:
    """Draw R² of connections and products in the three studies."""
    import matplotlib.pyplot as plt

    answers = record["answers"].get("20 dB", {})
    columns = [*SHARES, "C", "C_1", "C_2", "C_3", "C_4"]
    labels = [
        *(rf"$\alpha_{k}$" for k in range(1, 5)), "$C$", *(rf"$C_{k}$" for k in range(1, 5))
    ]  # fmt: skip
    fig, ax = plt.subplots(figsize=(7.5, 3.4), layout="constrained")
    width = 0.26
    for j, (name, found) in enumerate(answers.items()):
        x = np.arange(len(columns)) + (j - 1) * width
        ax.bar(x, [found["products"][c]["r2"] for c in columns], width, label=name, color=f"C{j}")
        top = record["ceilings"][name]
        for k, c in enumerate(columns):
            if c in top:
                ax.hlines(top[c], x[k] - width / 2, x[k] + width / 2, color="k", lw=1)
    ax.hlines([], [], [], color="k", lw=1, label="ceiling: $C_1$ to $C_4$ known")
    ax.set(xticks=range(len(columns)), xticklabels=labels, ylabel="R²", ylim=(-0.1, 1.05))
    ax.axhline(0, color="0.6", lw=0.8)
    ax.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4)
    return fig


def draw(record: dict[str, Any], path: Path) -> None:
    """Write the figure."""
    import matplotlib.pyplot as plt

    fig = figure(record)
    fig.savefig(path)
    plt.close(fig)


if __name__ == "__main__":
    main(__doc__, "units", SCALES, measure, table, draw)

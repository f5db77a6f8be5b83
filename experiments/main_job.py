"""Measure the main job: information, calibration and training time.

    python -m experiments.main_job --output experiments/results/main_job.json
    python -m experiments.main_job --table experiments/results/main_job.json

The recording is that of the demonstration. Posteriors are scored on fresh simulated recordings
(the study's calibration budget), which no part of the training has seen.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

from experiments.scales import interval
from nmm_infer._progress import show_progress
from nmm_infer.demonstration import EVENT, simulate_recording
from nmm_infer.diagnostics import calibrate
from nmm_infer.inference import PosteriorEstimator, RidgeGaussian, versions
from nmm_infer.observation import Observer, observe
from nmm_infer.runs import simulate_campaign
from nmm_infer.study import Study


def measure(study: Study) -> dict:
    """Run everything and return a JSON-ready record."""
    raw, _ = simulate_recording(study)
    observation = observe(raw, study.protocol, events=EVENT)
    observer = Observer.like(observation, study.protocol, seed=study.seed)
    begin = time.perf_counter()
    training = simulate_campaign(study, observation, "training", study.budget.training)
    seconds = {"training_campaign": time.perf_counter() - begin}
    fresh = simulate_campaign(study, observation, "calibration", study.budget.calibration)
    view = observer.view(fresh.select(fresh.valid), "calibration")
    prior = study.build_prior()
    record: dict = {
        "command": "python -m experiments.main_job",
        "seed": study.seed,
        "study": study.model_dump(),
        "versions": versions(),
        "cores": os.cpu_count(),
        "failed_runs": len(fresh) - len(fresh.valid),
    }
    for name, names in {"all": prior.names, "synaptic": list(study.synaptic)}.items():
        chosen = prior.select(names)
        estimator = PosteriorEstimator(
            study.encoder, study.density, study.training, study.pretraining, study.finishing
        ).fit(training, observer, chosen, seed=study.seed)
        ridge = RidgeGaussian().fit(training, observer, chosen, seed=study.seed)
        result = calibrate(estimator, view, seed=study.seed)
        linear = calibrate(ridge, view, seed=study.seed)
        gain = result["log_density_gain"].values
        difference = gain - linear["log_density_gain"].values
        parameters = {
            str(p): {
                "gap": float(result["gap"].sel(parameter=p)),
                "coverage_50": float(result["coverage"].sel(parameter=p, level=0.5)),
                "coverage_90": float(result["coverage"].sel(parameter=p, level=0.9)),
                "contraction": float(result["contraction"].sel(parameter=p)),
                "r2": float(result["r2"].sel(parameter=p)),
                "nrmse": float(result["nrmse"].sel(parameter=p)),
                "slope": float(result["slope"].sel(parameter=p)),
                "ridge_r2": float(linear["r2"].sel(parameter=p)),
            }
            for p in result.coords["parameter"].values
        }
        record[name] = {
            "gain_over_prior_nats": interval(gain),
            "gain_over_ridge_nats": interval(difference),
            "largest_gap": float(result["gap"].max()),
            "band": result.attrs["band"],
            "calibrated": bool(result.attrs["passed"]),
            "ridge_largest_gap": float(linear["gap"].max()),
            "parameters": parameters,
        }
        seconds[f"training_{name}"] = estimator.training_["seconds"]
    record["seconds"] = seconds
    return record


def table(record: dict) -> str:
    """Return the record as Markdown."""
    rows = ["| fresh runs | posterior of | over the prior, nats | over ridge-Gaussian, nats |"]
    rows[0] += " largest rank gap (band) | training, s |"
    rows.append("|---|---|---|---|---|---|")
    for name, label in {"all": "all parameters", "synaptic": "A, B, a, b, C only"}.items():
        part = record[name]

        def show(key: str, part: dict = part) -> str:
            g = part[key]
            return f"{g['mean']:z.2f} [{g['low']:z.2f}, {g['high']:z.2f}]"

        rows.append(
            f"| {record['study']['budget']['calibration']:,} | {label} "
            f"| {show('gain_over_prior_nats')} | {show('gain_over_ridge_nats')} "
            f"| {part['largest_gap']:z.3f} ({part['band']:z.3f}) "
            f"| {record['seconds'][f'training_{name}']:.0f} |"
        )
    rows += ["", "| parameter | contraction | R² | nRMSE | slope | 90 % coverage | ridge R² |"]
    rows.append("|---|---|---|---|---|---|---|")
    for name, row in record["all"]["parameters"].items():
        rows.append(
            f"| {name} | {row['contraction']:z.2f} | {row['r2']:z.2f} | {row['nrmse']:z.2f} "
            f"| {row['slope']:z.2f} | {row['coverage_90']:z.2f} | {row['ridge_r2']:z.2f} |"
        )
    rows.append("| predict the mean | 0 | 0 | 1 | 0 | - | 0 |")
    return "\n".join(rows)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="results file to write")
    parser.add_argument("--table", type=Path, help="results file to print as Markdown")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.table:
        print(table(json.loads(arguments.table.read_text())))
        return
    if arguments.output is None:
        parser.error("name --output or --table")
    with show_progress():
        record = measure(Study.evoked().replace(seed=arguments.seed))
    arguments.output.write_text(json.dumps(record, indent=1) + "\n")
    print(table(record))


if __name__ == "__main__":
    main()

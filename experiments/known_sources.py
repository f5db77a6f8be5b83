"""Linear inverses where the source is known: patches on DeepSIF's lead field, and its visual EEG.

    python -m experiments.known_sources --data DATA --output experiments/results/known_sources.json
    python -m experiments.known_sources --table experiments/results/known_sources.json

DATA is a folder with DeepSIF's files: ``deepsif/anatomy`` and ``deepsif/vep`` as in its repository.

Part one: single patches with the waveform of a spike (Wendling model), in white noise. The estimate
at the sample of largest global field power has its largest value inside the true patch, or not.
Simulation and inverse share the lead field; the patches' sizes, 10 to 50 cm², cover those of
DeepSIF's two- and three-layer patches. Part two: the published average of a visual response. Its
first peak comes from occipital cortex (Brodmann 17 to 19), which is here the Desikan-Killiany
regions cuneus, pericalcarine, lingual and lateral occipital.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import mne
import numpy as np
import torch
from scipy.io import loadmat

from nmm_infer.anatomy import Head
from nmm_infer.anatomy.deepsif import BIOSEMI64_OF_75, read_deepsif
from nmm_infer.anatomy.sensors import reference
from nmm_infer.campaign import run
from nmm_infer.inference import versions
from nmm_infer.inverse.tensor import lambda2_by_gcv, minimum_norm
from nmm_infer.observation.noise import white_noise
from nmm_infer.scenarios import Bank, Patches, WaveformTask, Windows

METHODS = ("MNE", "dSPM", "sLORETA", "eLORETA")
LEVELS = (5.0, 10.0, 15.0, 20.0)  # dB
FIRST_PEAK = slice(130, 160)  # samples of the visual response
OCCIPITAL = ("cuneus", "pericalcarine", "lingual", "lateraloccipital")
SFREQ = 500.0


def kernels(head: Head, data: torch.Tensor, covariance: np.ndarray) -> dict[str, torch.Tensor]:
    """Kernels of all methods, the regularisation of each window chosen by cross-validation."""
    operator = reference(head.forward["info"])
    gain = torch.from_numpy(operator(head.gain).values * 1e9)
    noise = torch.from_numpy(operator.covariance(covariance))
    lambda2 = lambda2_by_gcv(gain, noise, data)
    return {m: minimum_norm(gain, noise, lambda2, m) for m in METHODS}


def patches(head: Head, n: int, seed: int) -> dict[str, Any]:
    """Single patches: how often the peak of the estimate lies inside, by method and level."""
    task = WaveformTask("spike", seed=seed, stream="test", duration=1.5, sfreq=SFREQ)
    bank = Bank(run(task, task.design(256)))
    info = mne.create_info(head.channels, SFREQ, "eeg", verbose="error")
    info.set_montage(head.forward["info"].get_montage(), verbose="error")
    noise = white_noise(info, 1e-6, n_lags=int(SFREQ))
    positions = head.sources.positions
    levels: dict[str, Any] = {}
    for level in LEVELS:
        windows = Windows(
            head, Patches((1, 1), area_cm2=(10.0, 50.0)), bank, noise, (level, level),
            reference(info), n_times=int(SFREQ), n=n, seed=seed, stream=f"test/{level:g}",
        )  # fmt: skip
        inside: dict[str, list[bool]] = {method: [] for method in METHODS}
        distance: dict[str, list[float]] = {method: [] for method in METHODS}
        for batch in windows.batches(32):
            sensors = torch.from_numpy(batch["sensors"].values.astype(float))
            peak = (sensors**2).mean(dim=1).argmax(dim=-1)
            maps = sensors[torch.arange(len(sensors)), :, peak][..., None]
            found = kernels(head, maps, np.eye(len(head.channels)))
            moments = windows.truth(batch["window"].values).activity()
            true = np.abs(moments.values).max(axis=-1) > 0
            for method, kernel in found.items():
                best = (kernel @ maps).abs()[..., 0].argmax(dim=-1).numpy()
                for row, source in zip(true, best, strict=True):
                    inside[method].append(bool(row[source]))
                    away = np.linalg.norm(positions[row] - positions[source], axis=1).min()
                    distance[method].append(1e3 * float(away))
        levels[f"{level:g}"] = {
            method: {
                "inside": share(np.array(inside[method])),
                "mm_to_patch": float(np.mean(distance[method])),
            }
            for method in METHODS
        }
    return {"windows_a_level": n, "accepted_spikes": bank.accepted["spike"], "levels": levels}


def share(values: np.ndarray) -> dict[str, float]:
    """Share of true values with its 95 % interval (Wilson 1927)."""
    n, p, z = len(values), float(values.mean()), 1.96
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return {"share": p, "low": centre - half, "high": centre + half, "n": n}


def visual(head: Head, path: Path) -> dict[str, Any]:
    """The region where each method has its largest value at the first peak."""
    head = head.pick(BIOSEMI64_OF_75)
    data = loadmat(path)["data"].T.astype(float)
    data -= data.mean(axis=0)
    power = (data**2).mean(axis=0)
    peak = FIRST_PEAK.start + int(power[FIRST_PEAK].argmax())
    window = torch.from_numpy(data[:, peak : peak + 1])
    baseline = data[:, :100]
    covariance = np.eye(len(data)) * (baseline**2).mean()
    regions = {}
    for method, kernel in kernels(head, window, covariance).items():
        region = head.regions[int((kernel @ window).abs()[:, 0].argmax())]
        regions[method] = {"region": region, "occipital": region.startswith(OCCIPITAL)}
    return {"sample": peak, "regions": regions}


def measure(data: Path, n: int, seed: int) -> dict[str, Any]:
    head = read_deepsif(data / "deepsif" / "anatomy")
    return {
        "command": "python -m experiments.known_sources",
        "seed": seed,
        "versions": versions(),
        "cores": os.cpu_count(),
        "notes": list(head.notes),
        "patches": patches(head, n, seed),
        "visual": visual(head, data / "deepsif" / "vep" / "data1.mat"),
    }


def table(record: dict[str, Any]) -> str:
    """Return the record as Markdown."""
    levels = record["patches"]["levels"]
    rows = ["| peak inside the true patch | " + " | ".join(f"{k} dB" for k in levels) + " | all |"]
    rows.append("|---" * (len(levels) + 2) + "|")
    for method in METHODS:
        cells = [levels[k][method]["inside"]["share"] for k in levels]
        total = np.mean(cells)
        rows.append(f"| {method} | " + " | ".join(f"{c:.2f}" for c in cells) + f" | {total:.2f} |")
    rows += ["", f"Visual response, first peak (sample {record['visual']['sample']}):", ""]
    for method, found in record["visual"]["regions"].items():
        rows.append(f"- {method}: {found['region']}")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder with DeepSIF's files")
    parser.add_argument("--output", type=Path, help="results file to write")
    parser.add_argument("--table", type=Path, help="results file to print")
    parser.add_argument("--windows", type=int, default=400, help="windows a level")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.table:
        print(table(json.loads(arguments.table.read_text())))
        return
    if arguments.data is None:
        parser.error("--data: give the folder with DeepSIF's files")
    record = measure(arguments.data, arguments.windows, arguments.seed)
    if arguments.output:
        arguments.output.write_text(json.dumps(record, indent=1) + "\n")
    print(table(record))


if __name__ == "__main__":
    main()

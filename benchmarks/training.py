"""Throughput of training: our loop, which draws fresh noise and reads from disk, against sbi's own.

    python -m benchmarks.training --output benchmarks/results/training.json
    python -m benchmarks.training --table benchmarks/results/training.json

Both train the same network (a neural spline flow on an encoder) with the same batches on the same
runs of one column, validation included. sbi's ``NPE.train`` has all sequences in memory, with the
noise that they were observed with once. Ours observes every run anew in every epoch: with the
campaign in memory, and from a Zarr store in parts. In all of them torch has one thread, which is
faster for networks of this size; ours has one more, that observes. The loops take turns; a ratio is
that of a turn.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure

from benchmarks.command import main
from benchmarks.machine import describe
from nmm_infer.campaign import Campaign

STUDY = "column5_wide"
ENCODERS = ("mlp", "cnn_bilstm")
BATCH = 256
LOOPS = {
    "sbi": "sbi, in memory, noise drawn once",
    "memory": "nmm_infer, in memory, fresh noise",
    "parts": "nmm_infer, Zarr store in parts, fresh noise",
}


class Silent:
    """A tracker of sbi that writes nothing."""

    log_dir = None

    def log_metric(self, *_: Any, **__: Any) -> None: ...

    log_metrics = log_params = add_figure = flush = log_metric


def build(backbone: str, x: torch.Tensor, n_steps: int, n_parameters: int) -> Any:
    """The network of both loops, from the same seed."""
    from sbi.neural_nets import posterior_nn

    from nmm_infer.networks import Encoder
    from nmm_infer.settings import EncoderSettings

    torch.manual_seed(0)
    encoder = Encoder(n_steps, False, EncoderSettings(backbone=backbone, patch=8)).fit(x)
    builder = posterior_nn(
        "nsf", embedding_net=encoder, z_score_theta="none", z_score_x="none", hidden_features=64,
        num_transforms=4,
    )  # fmt: skip
    return builder(torch.zeros(4, n_parameters), x[:4])


def ours(net: Any, view: Any, target: Any, epochs: int, shard: int) -> float:
    """Seconds for an epoch."""
    from nmm_infer.settings import TrainingSettings
    from nmm_infer.training import train

    settings = TrainingSettings(epochs=epochs, patience=epochs, batch_size=BATCH, shard=shard)
    begin = time.perf_counter()
    losses = train(
        net, lambda net, target, x: net.loss(target, x).mean(), view, target, settings, seed=0,
        description="",
    )  # fmt: skip
    seconds = time.perf_counter() - begin
    return seconds / len(losses)


def theirs(net: Any, x: Any, target: Any, epochs: int) -> float:
    """Seconds for an epoch."""
    from sbi.inference import NPE

    zero = torch.zeros(target.shape[1])
    prior = torch.distributions.Independent(torch.distributions.Normal(zero, zero + 1), 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        inference = NPE(
            prior, density_estimator=lambda *_: net, tracker=Silent(), show_progress_bars=False
        )
        inference.append_simulations(torch.as_tensor(target), torch.as_tensor(x))
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        begin = time.perf_counter()
        inference.train(
            training_batch_size=BATCH, validation_fraction=0.1, max_num_epochs=epochs,
            stop_after_epochs=epochs + 10, show_train_summary=False,
        )  # fmt: skip
        seconds = time.perf_counter() - begin
        torch.set_num_threads(before)
    return seconds / len(inference.summary["training_loss"])


def spread(values: list[float]) -> dict[str, Any]:
    return {"median": float(np.median(values)), "range": [min(values), max(values)]}


def measure(quick: bool, repeats: int) -> dict[str, Any]:
    from nmm_infer.inference import versions
    from nmm_infer.runs import column_observer, simulate_column
    from nmm_infer.study import Study

    runs, epochs, shard = (1_500, 1, 512) if quick else (8_000, 5, 2_048)
    repeats = 1 if quick else repeats
    study = Study.preset(STUDY)
    observer = column_observer(study)
    prior = study.build_prior()
    prior = prior.select([p.name for p in prior.parameters if p.distribution != "fixed"])
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "training.zarr"
        simulate_column(study, runs, "training", store)
        stored = Campaign.open(store)
        stored = stored.select(stored.valid)
        loaded = Campaign(stored.dataset.load())
        n = len(loaded)
        target = prior.to_unconstrained(loaded.theta).astype(np.float32)
        views = {
            "memory": lambda: observer.view(loaded, "training"),
            "parts": lambda: observer.view(stored, "training"),
        }
        x = views["memory"]().sequences().flat
        n_steps = study.protocol.n_steps
        for backbone in ENCODERS[: 1 if quick else None]:
            net = build(backbone, torch.as_tensor(x), n_steps, len(prior))
            few = np.arange(600)  # what is imported and made once is not counted
            ours(net, views["memory"]().select(few), target[few], 1, 1024)
            theirs(net, x[few], target[few], 1)
            seconds: dict[str, list[float]] = {name: [] for name in LOOPS}
            for _ in range(repeats):
                for name, taken in seconds.items():
                    net = build(backbone, torch.as_tensor(x), n_steps, len(prior))
                    if name == "sbi":
                        taken.append(theirs(net, x, target, epochs))
                    else:
                        size = shard if name == "parts" else -(-n // 512) * 512
                        taken.append(ours(net, views[name](), target, epochs, size))
            seen = n - round(0.1 * n)
            for name, taken in seconds.items():
                ratios = [b / a for a, b in zip(taken, seconds["sbi"], strict=True)]
                rows.append(
                    {
                        "encoder": backbone,
                        "loop": name,
                        "runs_per_second": spread([seen / t for t in taken]),
                        "ratio": None if name == "sbi" else spread(ratios),
                    }
                )
    return {
        "command": "python -m benchmarks.training",
        "machine": describe(),
        "versions": versions(),
        "study": STUDY,
        "runs": n,
        "steps": n_steps,
        "batch": BATCH,
        "epochs": epochs,
        "part": shard,
        "repeats": repeats,
        "rows": rows,
    }


def table(record: dict[str, Any]) -> str:
    """Return the record as Markdown."""
    lines = ["| encoder | loop | training runs/s (range) | of sbi's (range) |", "|---|---|---|---|"]
    for row in record["rows"]:
        loop = LOOPS[row["loop"]]
        ratio = "" if row["ratio"] is None else _text(row["ratio"], ".2f")
        lines.append(
            f"| {row['encoder']} | {loop} | {_text(row['runs_per_second'], ',.0f')} | {ratio} |"
        )
    return "\n".join(lines)


def _text(entry: dict[str, Any], form: str) -> str:
    low, high = (f"{value:{form}}" for value in entry["range"])
    return f"{entry['median']:{form}} ({low} to {high})"


def draw(record: dict[str, Any], path: Path) -> None:
    """Draw the throughput of every loop."""
    with mpl.rc_context({"font.size": 10, "svg.hashsalt": "nmm_infer"}):
        figure = Figure(figsize=(7, 2.8), layout="constrained")
        axes = figure.subplots()
        encoders = list(dict.fromkeys(row["encoder"] for row in record["rows"]))
        colours = dict(zip(LOOPS, ("#868e96", "#1f6feb", "#d9480f"), strict=True))
        for k, (name, colour) in enumerate(colours.items()):
            own = [row["runs_per_second"] for row in record["rows"] if row["loop"] == name]
            middle = [entry["median"] for entry in own]
            error = [
                [m - entry["range"][0] for m, entry in zip(middle, own, strict=True)],
                [entry["range"][1] - m for m, entry in zip(middle, own, strict=True)],
            ]
            axes.bar(
                np.arange(len(encoders)) + 0.27 * (k - 1), middle, 0.25, color=colour,
                label=LOOPS[name], yerr=error, capsize=3,
            )  # fmt: skip
        axes.set_xticks(range(len(encoders)), encoders)
        axes.set(ylabel="training runs a second")
        axes.legend(frameon=False, fontsize=8)
        figure.savefig(path)


if __name__ == "__main__":
    main(__doc__, measure, draw, table)

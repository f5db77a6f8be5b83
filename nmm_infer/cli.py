"""The command line: a thin layer over the functions of :mod:`nmm_infer`."""

from __future__ import annotations

import logging
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from nmm_infer.errors import InputError, StoreMismatchError

if TYPE_CHECKING:
    from nmm_infer.workflow import Result

__all__ = ["app", "main"]

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Synapses from EEG and MEG: source activity and calibrated Jansen-Rit posteriors.",
)

#: What an output folder may hold, and so what may be overwritten.
FILES = ("report.html", "posterior.nc", "sources.nc", "training.zarr")

Output = Annotated[Path, typer.Option(help="Folder for the results; must not exist yet.")]
StudyFile = Annotated[Path | None, typer.Option("--study", help="Study file (TOML).")]
Region = Annotated[
    str | None, typer.Option(help="Region to infer (see `regions`); else the strongest.")
]
Seed = Annotated[int | None, typer.Option(min=0, help="Seed; overrides the study's.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing output folder.")]
Keep = Annotated[
    bool, typer.Option("--keep-campaign", help="Keep the training simulations (training.zarr).")
]


@app.command()
def infer(
    recording: Annotated[
        Path, typer.Argument(help=".fif, .set, .edf, .bdf or .vhdr file, or BIDS folder.")
    ],
    output: Output,
    events: Annotated[
        str | None, typer.Option(help="Events to average over; spontaneous activity without.")
    ] = None,
    study: StudyFile = None,
    region: Region = None,
    subject: Annotated[str | None, typer.Option(help="Of a BIDS folder: subject, as 01.")] = None,
    session: Annotated[str | None, typer.Option(help="Of a BIDS folder: session.")] = None,
    task: Annotated[str | None, typer.Option(help="Of a BIDS folder: task.")] = None,
    run: Annotated[str | None, typer.Option(help="Of a BIDS folder: run.")] = None,
    estimator: Annotated[
        str, typer.Option(help="`study`: an estimator trained for this study.")
    ] = "study",
    seed: Seed = None,
    overwrite: Overwrite = False,
    keep_campaign: Keep = False,
) -> None:
    """Infer source activity and synaptic parameters from a recording."""
    if estimator != "study":
        raise InputError(f"--estimator {estimator!r}: only 'study' exists so far")
    _check_output(output, overwrite)
    if not recording.exists():  # before the imports, which take a while
        raise InputError(f"{recording}: no such file")
    from nmm_infer.observation import read_recording
    from nmm_infer.study import Study

    plan = None if study is None else Study.read(study)
    signals = read_recording(
        recording, events=events, subject=subject, session=session, task=task, run=run
    )
    from nmm_infer.workflow import infer as infer_from

    def job(store: Path) -> Result:
        return infer_from(signals, plan, events=events, region=region, seed=seed, store=store)

    _run(job, output, keep_campaign, title="" if recording.is_dir() else recording.name)


@app.command()
def demo(
    output: Output = Path("demo"),
    study: StudyFile = None,
    seed: Seed = None,
    overwrite: Overwrite = False,
    keep_campaign: Keep = False,
) -> None:
    """Run the main job on a recording simulated with known parameters."""
    _check_output(output, overwrite)
    from nmm_infer.demonstration import demo as run
    from nmm_infer.study import Study

    plan = Study.evoked() if study is None else Study.read(study)
    if seed is not None:
        plan = plan.replace(seed=seed)

    def job(store: Path) -> Result:
        return run(plan, store=store)

    _run(job, output, keep_campaign, title="Demonstration: a simulated visual response")


@app.command()
def simulate(
    study: Annotated[Path, typer.Argument(help="Study file (TOML).")],
    simulations: Annotated[int, typer.Option(min=1, help="Number of simulations.")],
    output: Annotated[Path, typer.Option(help="Zarr store; an interrupted one is finished.")],
    scheduler: Annotated[
        str | None,
        typer.Option(help="Address of a Dask scheduler, or `local`; threads of this machine else."),
    ] = None,
    seed: Seed = None,
) -> None:
    """Simulate a study's model with parameters from its prior."""
    if not output.absolute().parent.is_dir():
        raise InputError(f"{output.absolute().parent}: no such folder to put the store in")
    from nmm_infer.runs import simulate_study
    from nmm_infer.study import Study

    plan = Study.read(study)
    if seed is not None:
        plan = plan.replace(seed=seed)
    campaign = simulate_study(plan, simulations, output, scheduler=scheduler, progress=True)
    failed = len(campaign) - len(campaign.valid)
    Console(stderr=True).print(
        f"{len(campaign):,} simulations, {failed:,} of them failed: {output}",
        highlight=False,
        soft_wrap=True,
    )


@app.command()
def regions() -> None:
    """List the regions of the template head."""
    from nmm_infer.anatomy import desikan_killiany_connectome

    typer.echo("\n".join(desikan_killiany_connectome().coords["target"].values))


def _check_output(output: Path, overwrite: bool) -> None:
    if output.exists() and not output.is_dir():
        raise InputError(f"{output}: exists and is not a folder")
    if output.exists() and not overwrite:
        raise InputError(f"{output}: exists already; choose another folder or add --overwrite")
    foreign = [p.name for p in output.iterdir() if p.name not in FILES] if output.exists() else []
    if foreign:
        raise InputError(
            f"{output}: holds {foreign[0]!r}, not a result of nmm-infer: not overwritten"
        )
    parent = output.resolve().parent
    if not parent.is_dir():
        raise InputError(f"{parent}: no such folder to put the results in")
    try:
        with tempfile.TemporaryDirectory(prefix=".nmm_infer.", dir=parent):
            pass
    except OSError as error:
        raise InputError(f"{parent}: cannot be written to ({error.strerror})") from error


def _run(job: Callable[[Path], Result], output: Path, keep_campaign: bool, title: str) -> None:
    """Run a job beside the output folder, then put its results in place in one step.

    Without a title the report has the name of the recording's file.
    """
    from nmm_infer.report import write_results

    output = output.resolve()
    aside = output.with_name(f".{output.name}.partial")
    store = aside / "training.zarr"
    resumed = store.exists()
    try:
        try:
            result = job(store)
        except StoreMismatchError:  # left behind by an interrupted run of another study
            shutil.rmtree(aside)
            result = job(store)
        write_results(result, aside, title=title or result.observation.source)
    except (InputError, OSError) as error:
        if not resumed:  # simulations of an interrupted run outlive a mistyped command
            shutil.rmtree(aside, ignore_errors=True)
        if isinstance(error, InputError):
            raise
        raise InputError(f"{aside}: {error}") from error
    for leftover in aside.iterdir():
        if leftover.name.startswith(".") or (leftover == store and not keep_campaign):
            shutil.rmtree(leftover, ignore_errors=True)
    old = output.with_name(f".{output.name}.old")
    if output.exists():
        output.rename(old)
    aside.rename(output)
    shutil.rmtree(old, ignore_errors=True)
    console = Console()
    console.print("\nResults:")
    for file in ("report.html", "posterior.nc", "sources.nc"):
        console.print(f"  {output / file}", highlight=False, soft_wrap=True)


class _Stderr(logging.Handler):
    """One line a message, to whatever standard error is now (a progress bar may stand there)."""

    def emit(self, record: logging.LogRecord) -> None:
        sys.stderr.write(f"nmm-infer: {' '.join(self.format(record).split())}\n")


def main() -> None:
    """Run the command line; bad input ends in one line on standard error and exit code 2."""
    warnings.filterwarnings("ignore")
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[_Stderr()])
    logging.getLogger("nmm_infer").setLevel(logging.INFO)
    try:
        app()
    except InputError as error:
        sys.stderr.write(f"nmm-infer: {' '.join(str(error).split())}\n")
        sys.exit(2)

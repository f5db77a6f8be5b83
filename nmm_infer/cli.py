"""The command line: a thin layer over the functions of :mod:`nmm_infer`."""

from __future__ import annotations

import logging
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.console import Console

from nmm_infer.errors import InputError, StoreMismatchError

if TYPE_CHECKING:
    import xarray as xr

    from nmm_infer.workflow import Result

__all__ = ["app", "main"]

T = TypeVar("T")

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Synapses from EEG and MEG: source activity and calibrated Jansen-Rit posteriors.",
)

#: What an output folder may hold, and so what may be overwritten.
FILES = ("report.html", "posterior.nc", "sources.nc", "training.zarr")
#: The same of a sensitivity analysis.
SENSITIVITY_FILES = (
    "sensitivity.nc",
    "convergence.nc",
    "indices.svg",
    "interactions.svg",
    "convergence.svg",
    "runs.zarr",
)

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
    rejected = campaign.rejected
    outside = f", {rejected:,} outside of its stratum ({campaign.accepted:.1%} accepted)"
    Console(stderr=True).print(
        f"{len(campaign):,} simulations, {campaign.failed:,} of them failed"
        f"{outside * (rejected > 0)}: {output}",
        highlight=False,
        soft_wrap=True,
    )


@app.command()
def sensitivity(
    study: Annotated[Path, typer.Argument(help="Study file (TOML).")],
    output: Output,
    method: Annotated[
        str,
        typer.Option(help="sobol, morris, efast, rbd-fast, pawn, delta or shapley."),
    ] = "sobol",
    outputs: Annotated[
        str | None,
        typer.Option(help="`samples` of the response, or features: peak,peak_latency,..."),
    ] = None,
    n: Annotated[int | None, typer.Option(min=2, help="Size of the design.")] = None,
    parameters: Annotated[
        str | None, typer.Option(help="Parameters that vary: A,B,a; all of the prior without.")
    ] = None,
    groups: Annotated[
        str | None, typer.Option(help="Parameters moved together: gains=A,B rates=a,b")
    ] = None,
    at: Annotated[str | None, typer.Option(help="Only the samples at these times, s.")] = None,
    second_order: Annotated[
        bool, typer.Option("--second-order", help="Interactions of pairs too (sobol).")
    ] = False,
    convergence: Annotated[
        bool, typer.Option("--convergence", help="Indices of parts of the design too.")
    ] = False,
    resamples: Annotated[int, typer.Option(min=2, help="Resamples of the intervals.")] = 100,
    tolerance: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of blocks that may be lost.")
    ] = 0.1,
    seed: Seed = None,
    overwrite: Overwrite = False,
    keep_campaign: Annotated[
        bool, typer.Option("--keep-campaign", help="Keep the runs (runs.zarr).")
    ] = False,
) -> None:
    """Say which parameters of a study its response, or features of it, depend on."""
    _check_output(output, overwrite, SENSITIVITY_FILES)
    from nmm_infer._progress import show_progress
    from nmm_infer.sensitivity.reporting import Request, print_table, write_survey
    from nmm_infer.study import Study

    plan = Study.read(study)
    if seed is not None:
        plan = plan.replace(seed=seed)
    from nmm_infer.runs import build_task

    regions = [str(name) for name in plan.build_connectome().coords["target"].values]
    task = build_task(plan, regions, stream="sensitivity")
    evoked = plan.protocol.kind == "evoked"
    request = Request.read(method, outputs, n, parameters, groups, at, evoked=evoked)

    def job(folder: Path) -> xr.Dataset:
        with show_progress(True):
            return write_survey(
                task,
                request,
                folder,
                second_order=second_order,
                with_convergence=convergence,
                resamples=resamples,
                tolerance=tolerance,
                seed=plan.seed,
            )

    found = _beside(job, output, "runs.zarr", keep_campaign)
    console = Console()
    print_table(found, console)
    _list(console, output, SENSITIVITY_FILES[:-1])


@app.command()
def regions() -> None:
    """List the regions of the template head."""
    from nmm_infer.anatomy import desikan_killiany_connectome

    typer.echo("\n".join(desikan_killiany_connectome().coords["target"].values))


def _check_output(output: Path, overwrite: bool, files: tuple[str, ...] = FILES) -> None:
    if output.exists() and not output.is_dir():
        raise InputError(f"{output}: exists and is not a folder")
    if output.exists() and not overwrite:
        raise InputError(f"{output}: exists already; choose another folder or add --overwrite")
    foreign = [p.name for p in output.iterdir() if p.name not in files] if output.exists() else []
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

    def write(folder: Path) -> None:
        result = job(folder / "training.zarr")
        write_results(result, folder, title=title or result.observation.source)

    _beside(write, output, "training.zarr", keep_campaign)
    _list(Console(), output, ("report.html", "posterior.nc", "sources.nc"))


def _beside(job: Callable[[Path], T], output: Path, campaign: str, keep_campaign: bool) -> T:
    """Let a job write into a folder beside the output folder, then rename it.

    The campaign in that folder outlives an interruption, and is deleted at the end unless it is to
    be kept.
    """
    output = output.resolve()
    aside = output.with_name(f".{output.name}.partial")
    store = aside / campaign
    resumed = store.exists()
    try:
        try:
            result = job(aside)
        except StoreMismatchError:  # left behind by an interrupted run of another study
            shutil.rmtree(aside)
            result = job(aside)
    except Exception as error:
        if not resumed:  # simulations of an interrupted run outlive a mistyped command
            shutil.rmtree(aside, ignore_errors=True)
        if isinstance(error, OSError):
            raise InputError(f"{aside}: {error}") from error
        raise
    for leftover in aside.iterdir():
        if leftover.name.startswith(".") or (leftover == store and not keep_campaign):
            shutil.rmtree(leftover, ignore_errors=True)
    old = output.with_name(f".{output.name}.old")
    if output.exists():
        output.rename(old)
    aside.rename(output)
    shutil.rmtree(old, ignore_errors=True)
    return result


def _list(console: Console, output: Path, files: tuple[str, ...]) -> None:
    """Name the files that are there."""
    console.print("\nResults:")
    for file in files:
        if (output / file).exists():
            console.print(f"  {output.resolve() / file}", highlight=False, soft_wrap=True)


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

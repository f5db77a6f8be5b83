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

from nmm_infer._locks import locked
from nmm_infer._text import one_line, printable
from nmm_infer.errors import InputError, StoreMismatchError

if TYPE_CHECKING:
    import xarray as xr

    from nmm_infer.study import Study
    from nmm_infer.workflow import Result

__all__ = ["app", "main"]

T = TypeVar("T")
logger = logging.getLogger(__name__)

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Synapses from EEG and MEG: source activity and calibrated Jansen-Rit posteriors.",
)

#: What a job resumes from: the campaign that may be kept, then what is deleted at the end.
WORK = ("training.zarr", "training-calibration.zarr", "training-fit")
#: What an output folder may hold, and so what may be overwritten.
FILES = ("report.html", "posterior.nc", "sources.nc", *WORK)
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
Trust = Annotated[
    bool,
    typer.Option(
        "--trust-model-file", help="Run the Python file that the study names as its model_file."
    ),
]
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
        Path,
        typer.Argument(
            help=".fif, .set, .edf, .bdf, .gdf, .vhdr, .cnt or .mff recording, or BIDS folder."
        ),
    ],
    output: Output,
    events: Annotated[
        list[str] | None,
        typer.Option(
            help="Events to average over; several times: pooled. Default: ongoing activity."
        ),
    ] = None,
    study: StudyFile = None,
    trust_model_file: Trust = False,
    region: Region = None,
    unit: Annotated[
        str | None, typer.Option(help="Unit that the file's numbers really have: uV, mV, fT ...")
    ] = None,
    montage: Annotated[
        str | None,
        typer.Option(help="Montage of MNE, or file of positions, for names that tell no place."),
    ] = None,
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
    plan = None if study is None else _read(study, trust_model_file)
    if plan is not None or region is not None:
        chosen = _read(None, False) if plan is None else plan
        chosen.replace(protocol={} if region is None else {"region": region}).check_region()
    events = events or None
    from nmm_infer.observation import observe, read_recording
    from nmm_infer.study import Study

    signals = read_recording(
        recording, events=events, subject=subject, session=session, task=task, run=run
    )
    whole = Study.for_recording(signals, plan, events=events, region=region, seed=seed)
    # What is wrong with the recording is said before the networks' libraries are read.
    seen = observe(
        signals, whole.protocol, events=events, head=whole.head, unit=unit, montage=montage
    )
    from nmm_infer.workflow import infer as infer_from

    def job(store: Path) -> Result:
        return infer_from(seen, whole, store=store)

    title = "" if recording.is_dir() else recording.name
    _run(job, output, overwrite, keep_campaign, title)


@app.command()
def demo(
    output: Output = Path("demo"),
    study: StudyFile = None,
    trust_model_file: Trust = False,
    seed: Seed = None,
    overwrite: Overwrite = False,
    keep_campaign: Keep = False,
) -> None:
    """Run the main job on a recording simulated with known parameters."""
    _check_output(output, overwrite)
    plan = _read(study, trust_model_file, seed)
    from nmm_infer.demonstration import demo as run

    def job(store: Path) -> Result:
        return run(plan, store=store)

    _run(job, output, overwrite, keep_campaign, "Demonstration: a simulated visual response")


@app.command()
def simulate(
    study: Annotated[Path, typer.Argument(help="Study file (TOML).")],
    simulations: Annotated[int, typer.Option(min=1, help="Number of simulations.")],
    output: Annotated[Path, typer.Option(help="Zarr store; an interrupted one is finished.")],
    scheduler: Annotated[
        str | None,
        typer.Option(help="Address of a Dask scheduler, or `local`; threads of this machine else."),
    ] = None,
    trust_model_file: Trust = False,
    seed: Seed = None,
) -> None:
    """Simulate a study's model with parameters from its prior."""
    if not output.absolute().parent.is_dir():
        raise InputError(f"{output.absolute().parent}: no such folder to put the store in")
    plan = _read(study, trust_model_file, seed)
    from nmm_infer.runs import simulate_study

    campaign = simulate_study(plan, simulations, output, scheduler=scheduler, progress=True)
    rejected = campaign.rejected
    outside = f", {rejected:,} outside of its stratum ({campaign.accepted:.1%} accepted)"
    Console(stderr=True).print(
        f"{len(campaign):,} simulations, {campaign.failed:,} of them failed"
        f"{outside * (rejected > 0)}: {printable(output)}",
        markup=False,
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
    trust_model_file: Trust = False,
    seed: Seed = None,
    overwrite: Overwrite = False,
    keep_campaign: Annotated[
        bool, typer.Option("--keep-campaign", help="Keep the runs (runs.zarr).")
    ] = False,
) -> None:
    """Say which parameters of a study its response, or features of it, depend on."""
    _check_output(output, overwrite, SENSITIVITY_FILES)
    plan = _read(study, trust_model_file, seed)
    from nmm_infer._progress import show_progress
    from nmm_infer.runs import build_task
    from nmm_infer.sensitivity.reporting import Request, print_table, write_survey

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

    found = _beside(job, output, SENSITIVITY_FILES, ("runs.zarr",), overwrite, keep_campaign)
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


def _read(path: Path | None, trust_model_file: bool, seed: int | None = None) -> Study:
    """Read a study file, or take the default evoked study."""
    from nmm_infer.study import Study

    trust = trust_model_file
    study = Study.evoked() if path is None else Study.read(path, trust_model_file=trust)
    return study if seed is None else study.replace(seed=seed)


def _run(
    job: Callable[[Path], Result], output: Path, overwrite: bool, keep_campaign: bool, title: str
) -> None:
    """Run a job beside the output folder, then put its results in place in one step.

    Without a title the report has the name of the recording's file.
    """
    from nmm_infer.report import write_results

    def write(folder: Path) -> None:
        result = job(folder / WORK[0])
        write_results(result, folder, title=title or result.observation.source)

    _beside(write, output, FILES, WORK, overwrite, keep_campaign)
    _list(Console(), output, ("report.html", "posterior.nc", "sources.nc"))


def _beside(
    job: Callable[[Path], T],
    output: Path,
    files: tuple[str, ...],
    work: tuple[str, ...],
    overwrite: bool,
    keep_campaign: bool,
) -> T:
    """Let a job write into a folder beside the output folder, then rename it.

    What the job resumes from (``work``, the campaign first) outlives an interruption or an error.
    At the end it is deleted, but for the campaign where that is to be kept. The folder is locked:
    a second job with the same output is refused.
    """
    output = output.resolve()
    aside = output.with_name(f".{output.name}.partial")
    try:
        with locked(aside, output, make=True):
            try:
                _check_output(output, overwrite, files)  # another job may just have ended
                result = _resumed(job, aside)
                _check_output(output, overwrite, files)
            except Exception:
                if any((aside / name).exists() for name in work):
                    logger.info("What was simulated is kept: the same command goes on from there")
                else:
                    shutil.rmtree(aside, ignore_errors=True)
                raise
            dropped = work[1:] if keep_campaign else work
            for left in aside.iterdir():
                if left.name not in files or left.name in dropped:
                    _remove(left)
            old = output.with_name(f".{output.name}.old")
            if output.exists():
                _remove(old)
                output.rename(old)
            aside.rename(output)
            _remove(old)
    except OSError as error:
        raise InputError(f"{aside}: {error}") from error
    return result


def _resumed(job: Callable[[Path], T], folder: Path) -> T:
    """Do a job in a folder; what an interrupted job of another study left there is removed."""
    try:
        return job(folder)
    except StoreMismatchError:
        for left in folder.iterdir():  # the folder itself is locked
            _remove(left)
        return job(folder)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _list(console: Console, output: Path, files: tuple[str, ...]) -> None:
    """Name the files that are there."""
    console.print("\nResults:")
    for file in files:
        if (output / file).exists():
            path = printable(f"  {output.resolve() / file}")
            console.print(path, markup=False, highlight=False, soft_wrap=True)


class _Stderr(logging.Handler):
    """One line a message, to whatever standard error is now (a progress bar may stand there)."""

    def emit(self, record: logging.LogRecord) -> None:
        sys.stderr.write(f"nmm-infer: {one_line(self.format(record))}\n")


def main() -> None:
    """Run the command line; bad input ends in one line on standard error and exit code 2."""
    warnings.filterwarnings("ignore")
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[_Stderr()])
    logging.getLogger("nmm_infer").setLevel(logging.INFO)
    try:
        app()
    except InputError as error:
        sys.stderr.write(f"nmm-infer: {one_line(error)}\n")
        sys.exit(2)

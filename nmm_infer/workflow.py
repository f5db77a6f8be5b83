"""Whole jobs: from a recording to source activity, a posterior, and how far to trust it."""

from __future__ import annotations

import json
import logging
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import mne
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nmm_infer._arviz import arviz as az
from nmm_infer._locks import locked
from nmm_infer._progress import show_progress, stage
from nmm_infer._text import printable
from nmm_infer.anatomy import Head
from nmm_infer.campaign import Campaign, run
from nmm_infer.diagnostics import calibrate, misspecification, predictive_check
from nmm_infer.errors import InputError, StoreMismatchError
from nmm_infer.inference import PosteriorEstimator, RidgeGaussian, versions
from nmm_infer.inverse import estimate_sources
from nmm_infer.observation import Names, Observation, Observer, Recording, observe
from nmm_infer.parameters import Prior
from nmm_infer.runs import build_task, simulate_campaign
from nmm_infer.study import Study

__all__ = ["Result", "infer", "with_truth"]

logger = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Result:
    """What :func:`infer` found.

    Attributes
    ----------
    study : Study
        The study.
    observation : Observation
        The recording after the protocol.
    observer : Observer
        Head, noise and protocol of this recording.
    estimator : PosteriorEstimator
        The fitted estimator; it can be saved and asked about other recordings of this montage.
    prior : Prior
        Prior of all parameters.
    region : str
        The region whose column was inferred.
    draws : dict of str to xarray.DataArray
        Parameter draws by group, dims (simulation, parameter).
    observed : numpy.ndarray, shape (step,)
        Sequence of the recording.
    predicted : numpy.ndarray, shape (draw, step)
        Posterior-predictive sequences.
    calibration : xarray.Dataset
        See :func:`nmm_infer.diagnostics.calibrate`.
    checks : dict of str to float
        Predictive and misspecification checks of this recording.
    candidates : xarray.DataArray, dims (region)
        Among training runs in which this region was chosen: the share in which the focus was
        this or another region. It sums to one.
    truth : xarray.DataArray, dims (parameter), optional
        True parameters, where the recording was simulated; ``truth.attrs["region"]`` too.
    """

    study: Study
    observation: Observation
    observer: Observer
    estimator: PosteriorEstimator
    prior: Prior
    region: str
    draws: dict[str, xr.DataArray]
    observed: NDArray[np.float32]
    predicted: NDArray[np.float32]
    calibration: xr.Dataset
    checks: dict[str, float]
    candidates: xr.DataArray
    truth: xr.DataArray | None = None

    @cached_property
    def posterior(self) -> az.InferenceData:
        """Everything about the parameters, as ArviZ knows it."""
        axis, grid, axis_unit = self.study.protocol.axis
        quantity, unit = self.study.protocol.quantity
        synaptic = self.study.synaptic

        def parameters(draws: xr.DataArray) -> xr.Dataset:
            return xr.Dataset(
                {
                    p.name: (
                        ("chain", "draw"),
                        draws.sel(parameter=p.name).values[None],
                        {
                            "units": p.unit,
                            "symbol": p.symbol,
                            "prior": f"{p.distribution} {p.low:g} {p.high:g}",
                            "source": p.source,
                            "role": "synaptic" if p.name in synaptic else "nuisance",
                        },
                    )
                    for p in self.estimator.prior_.parameters
                }
            )

        coords = {axis: (axis, grid, {"units": axis_unit})}
        groups = {
            "posterior": parameters(self.draws["posterior"]),
            "prior": parameters(self.draws["prior"]),
            "posterior_predictive": xr.Dataset(
                {quantity: (("chain", "draw", axis), self.predicted[None], {"units": unit})},
                coords=coords,
            ),
            "observed_data": xr.Dataset(
                {quantity: ((axis,), self.observed, {"units": unit})}, coords=coords
            ),
            "calibration": self.calibration,
            "checks": xr.Dataset({k: ((), v) for k, v in self.checks.items()}),
            "localisation": xr.Dataset({"focus_probability": self.candidates}),
        }
        if self.truth is not None:
            groups["truth"] = xr.Dataset(
                {
                    p.name: ((), float(self.truth.sel(parameter=p.name)), {"units": p.unit})
                    for p in self.estimator.prior_.parameters
                },
                attrs={"region": self.truth.attrs["region"]},
            )
        for dataset in groups.values():
            for variable in dataset.variables.values():
                variable.attrs.setdefault("units", "1")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # groups beyond the ArviZ schema
            return az.InferenceData(attrs=self.provenance, **groups)  # type: ignore[arg-type]

    @property
    def provenance(self) -> dict[str, Any]:
        """Study, versions, training and notes, as attributes of a file."""
        return {
            "inference_library": "nmm_infer",
            "recording": printable(self.observation.source),
            "region": self.region,
            "study": self.study.model_dump_json(),
            "training": json.dumps(self.estimator.training_),
            "versions": json.dumps(versions()),
            "notes": json.dumps(self.observation.notes),
            "warnings": json.dumps(self.observation.warnings),
            "seed": self.study.seed,
        }

    @property
    def warnings(self) -> tuple[str, ...]:
        """What makes the answer less sure than usual: few trials, little noise to learn from."""
        return self.observation.warnings

    @cached_property
    def sources(self) -> xr.Dataset:
        """Named region time courses and the strength of each region."""
        dataset = xr.Dataset(
            {
                "region_courses": self.observer.region_courses(self.observation),
                "strength": self.observer.strength(self.observation),
            }
        )
        dataset.coords["region"].attrs["units"] = "1"
        dataset.attrs = self.provenance
        return dataset

    def source_estimate(self) -> mne.SourceEstimate:
        """Return activity at every vertex (for ongoing activity: of the first window), in Am."""
        protocol = self.study.protocol
        return estimate_sources(
            self.observer.seen_head,
            self.observation.to_evoked(),
            self.observation.noise.covariance(),
            protocol.inverse,
            protocol.inverse_snr,
        )

    def summary(self) -> xr.Dataset:
        """Return prior and posterior mean, standard deviation and contraction by parameter.

        Contraction is 1 - posterior variance / prior variance, in probit space, where the prior
        variance is 1: nothing was learned at 0, and all at 1.
        """
        prior = self.estimator.prior_
        posterior = self.draws["posterior"]
        z = prior.to_unconstrained(posterior)
        values = prior.values(posterior)
        before = prior.values(self.draws["prior"])
        return xr.Dataset(
            {
                "prior_mean": ("parameter", before.mean(axis=0)),
                "prior_sd": ("parameter", before.std(axis=0)),
                "mean": ("parameter", values.mean(axis=0)),
                "sd": ("parameter", values.std(axis=0)),
                "quantile": (
                    ("level", "parameter"),
                    np.quantile(values, [0.05, 0.5, 0.95], axis=0),
                ),
                "contraction": ("parameter", 1 - z.var(axis=0)),
            },
            coords={**prior.coords(), "level": [0.05, 0.5, 0.95]},
        )


def infer(
    recording: Recording | Observation,
    study: Study | None = None,
    *,
    events: Names | None = None,
    region: str | None = None,
    seed: int | None = None,
    head: Head | None = None,
    noise_cov: mne.Covariance | None = None,
    unit: str | None = None,
    montage: str | mne.channels.DigMontage | None = None,
    store: str | Path | None = None,
    progress: bool = True,
) -> Result:
    """Infer source activity and synaptic parameters from a recording.

    The recording passes through the study's protocol; simulations from the study's prior pass
    through the same steps with the recording's own head, noise and channels; a posterior
    estimator is trained on them, tested on fresh simulations, and asked about the recording.

    Parameters
    ----------
    recording : mne.io.Raw, mne.Epochs, mne.Evoked or Observation
        EEG with channel positions or names of the 10-05 system, or MEG; or what
        :func:`~nmm_infer.observation.observe` has made of it.
    study : Study, optional
        The study. Without one, the default evoked study if there are ``events`` or the recording
        is cut around events already, and the default spontaneous study otherwise.
    events : str or sequence of str, optional
        Events to average over, for a Raw or Epochs; several are pooled. Of an Evoked, its comment.
    region : str, optional
        Region whose column is inferred; without (and without one in the study) the strongest.
    seed : int, optional
        Seed of everything random; the study's without.
    head : Head, optional
        Forward model; default: the template head with the study's settings.
    noise_cov : mne.Covariance, optional
        Noise covariance of single trials; default: estimated from the baseline.
    unit : str, optional
        Unit that the recording's numbers really have, where it is not the one that MNE took them
        for: "uV", "fT" and the like.
    montage : str or mne.channels.DigMontage, optional
        Where EEG channels are whose names do not tell.
    store : path, optional
        Where the training campaign is kept; in memory without. Beside ``NAME.zarr`` lie
        ``NAME-calibration.zarr``, the fresh runs, and ``NAME-fit``, the state of the training. An
        interrupted job resumes from them, with the same result; they are left there.
    progress : bool
        Whether to show one progress bar a stage on standard error.

    Returns
    -------
    Result
        Posterior, sources, checks.

    Raises
    ------
    InputError
        If recording and study do not go together; the message says why.
    """
    study = Study.for_recording(recording, study, events=events, region=region, seed=seed)
    options: dict[str, Any] = {"events": events, "head": head, "noise_cov": noise_cov}
    options |= {"unit": unit, "montage": montage}
    given = [name for name, value in options.items() if value is not None]
    if isinstance(recording, Observation) and given:
        raise InputError(f"{given[0]} is for a recording, and this is an observation: leave it out")
    with show_progress(progress):
        with stage("Head model and source imaging", 2) as advance:
            if isinstance(recording, Observation):
                observation = recording
            else:
                options["head"] = study.head if head is None else head
                observation = observe(recording, study.protocol, **options)
            advance(1)
            observer = Observer.like(observation, study.protocol, seed=study.seed)
            advance(1)
        with _working(store) as places:
            return _infer(study, observation, observer, places)


@dataclass(frozen=True)
class _Places:
    """Where a job keeps what it resumes from, if anywhere."""

    training: Path | None = None
    calibration: Path | None = None
    fit: Path | None = None


@contextmanager
def _working(store: str | Path | None) -> Iterator[_Places]:
    """Keep other jobs out of the places of this one."""
    if store is None:
        yield _Places()
        return
    path = Path(store).absolute()
    fit = path.with_name(f"{path.stem}-fit")
    try:
        fit.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{fit}: cannot be made here ({error.strerror})") from error
    calibration = path.with_name(f"{path.stem}-calibration{path.suffix}")
    with locked(fit, path):
        try:
            yield _Places(path, calibration, fit / "networks")
        finally:
            if not any(fit.iterdir()):
                fit.rmdir()


def _anew(job: Callable[[], T], place: Path | None) -> T:
    """Do a job that resumes from a place; what another study has left there is removed."""
    try:
        return job()
    except StoreMismatchError:
        if place is None:
            raise
        shutil.rmtree(place)
        return job()


def _infer(study: Study, observation: Observation, observer: Observer, places: _Places) -> Result:
    budget, prior = study.budget, study.build_prior()
    regions = observation.head.regions
    sequences = observer.sequences(observation)
    region = regions[int(sequences.region[0])]

    training = simulate_campaign(
        study,
        observation,
        "training",
        budget.training,
        places.training,
        description="Simulating training runs",
    )
    estimator = PosteriorEstimator(
        study.encoder, study.density, study.training, study.pretraining, study.finishing
    )
    _anew(
        lambda: estimator.fit(training, observer, prior, seed=study.seed, checkpoints=places.fit),
        places.fit,
    )
    view = observer.view(training.select(training.valid[:5000]), "training")
    seen = view.sequences()
    candidates = _candidates(view.campaign, seen.region, int(sequences.region[0]), regions)

    fresh = _anew(
        lambda: simulate_campaign(
            study,
            observation,
            "calibration",
            budget.calibration,
            places.calibration,
            description="Simulating fresh runs",
        ),
        places.calibration,
    )
    fresh = fresh.select(fresh.valid)
    fresh_view = observer.view(fresh, "calibration")
    calibration = calibrate(estimator, fresh_view, seed=study.seed)
    ridge = RidgeGaussian().fit(training, observer, prior, seed=study.seed)
    gain = ridge.log_prob(fresh_view.theta, fresh_view) - ridge.prior_.log_prob(fresh_view.theta)
    calibration["ridge_log_density_gain"] = ("simulation", gain)

    posterior = estimator.posterior(sequences, n_draws=budget.draws, seed=study.seed)
    posterior = posterior[0].drop_vars("simulation").rename(draw="simulation")
    draws = {
        "posterior": posterior,
        "prior": estimator.prior_.sample(budget.draws, seed=study.seed, stream="prior/shown"),
    }
    predicted = _predict(study, observation, observer, posterior, candidates)
    observed = sequences.values[0]
    checks = {f"predictive_{k}": v for k, v in predictive_check(observed, predicted).items()}
    found = misspecification(estimator, sequences, seen, seed=study.seed)
    checks |= {f"misspecification_{k}": v for k, v in found.items()}
    return Result(
        study, observation, observer, estimator, prior, region, draws, observed, predicted,
        calibration, checks, candidates,
    )  # fmt: skip


def _candidates(
    campaign: Campaign, chosen: NDArray[np.int64], region: int, regions: list[str]
) -> xr.DataArray:
    """Share of each region as the focus among runs in which ``region`` was chosen."""
    focus = campaign.dataset["focus"].values[chosen == region]
    counts = np.bincount(focus, minlength=len(regions)).astype(float)
    runs = int(counts.sum())
    if runs == 0:  # never chosen in training: nothing is known beyond the choice itself
        counts[region] = 1.0
    return xr.DataArray(
        counts / counts.sum(), dims="region", coords={"region": regions}, attrs={"runs": runs}
    )


def _predict(
    study: Study,
    observation: Observation,
    observer: Observer,
    posterior: xr.DataArray,
    candidates: xr.DataArray,
) -> NDArray[np.float32]:
    """Simulate from posterior draws and observe the simulations like the recording."""
    n = min(study.budget.predictive, posterior.sizes["simulation"])
    step = posterior.sizes["simulation"] // n
    counts = np.round(candidates.values * 1000).astype(int)
    names = np.repeat(candidates.coords["region"].values, counts).tolist()
    task = build_task(
        study,
        observation.head.regions,
        stream="predictive",
        n_averages=observation.n_averages,
        candidates=tuple(names),
    )
    theta = posterior.isel(simulation=slice(0, n * step, step))
    design = task.prior.complete(theta)
    campaign = run(task, design, description="Predictive simulations")
    view = observer.view(campaign.select(campaign.valid), "predictive")
    return view.sequences().values


def with_truth(result: Result, truth: xr.DataArray) -> Result:
    """Return the result of a simulated recording together with its true parameters."""
    return replace(result, truth=truth)

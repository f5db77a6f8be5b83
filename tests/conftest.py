"""What many tests share: a montage, a head, a small campaign, an observer; once a worker."""

from __future__ import annotations

import os

if "PYTEST_XDIST_WORKER" in os.environ:  # the workers share the cores already
    for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(_name, "1")

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mne
import numpy as np
import pytest
import torch
import xarray as xr
from filelock import FileLock

from nmm_infer.anatomy import Head, template_head
from nmm_infer.campaign import Campaign, run
from nmm_infer.observation import (
    EvokedProtocol,
    Noise,
    Observer,
    Sequences,
    SpontaneousProtocol,
    View,
    noise_from_level,
)
from nmm_infer.parameters import Parameter, Prior
from nmm_infer.runs import build_task
from nmm_infer.scenarios import NetworkTask
from nmm_infer.study import Study

CHANNELS = (  # noqa: SIM905 - a list of 32 strings is harder to read
    "Fp1 Fp2 F7 F3 Fz F4 F8 FC5 FC1 FC2 FC6 T7 C3 Cz C4 T8 CP5 CP1 CP2 CP6 "
    "P7 P3 Pz P4 P8 PO7 POz PO8 O1 Oz O2 TP9"
).split()
N_AVERAGES = 50


@pytest.fixture(scope="session", autouse=True)
def _cache(request: pytest.FixtureRequest) -> None:
    """Keep heads from one run of the tests to the next; the cache checks itself."""
    if "NMM_INFER_CACHE" not in os.environ:
        os.environ["NMM_INFER_CACHE"] = str(request.config.cache.mkdir("nmm_infer"))


def _shared(factory: pytest.TempPathFactory) -> Path:
    """Folder that all workers of this run of the tests share, and no other run."""
    base = factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def lock(tmp_path_factory: pytest.TempPathFactory) -> FileLock:
    """One worker at a time, so that the second finds what the first has built."""
    return FileLock(_shared(tmp_path_factory) / "nmm_infer.lock")


@pytest.fixture(scope="session")
def info() -> mne.Info:
    info = mne.create_info(list(CHANNELS), 100.0, "eeg", verbose="error")
    info.set_montage("fsaverage_1005", verbose="error")
    return info


@pytest.fixture(scope="session")
def head(info: mne.Info, lock: FileLock) -> Head:
    with lock:
        return template_head(info)


@pytest.fixture(scope="session")
def meg(lock: FileLock) -> tuple[mne.Info, Head]:
    """Every fourth magnetometer of a helmet set over the template's head, 200 Hz."""
    canonical = mne.channels.read_meg_canonical_info("ctf151", verbose="error")
    picked = mne.pick_info(canonical, range(0, 151, 4), verbose="error")
    with lock:
        head = template_head(picked)
    info = mne.create_info(picked["ch_names"], 200.0, "mag", verbose="error")
    for ours, theirs in zip(info["chs"], picked["chs"], strict=True):
        for key in ("loc", "coil_type", "coord_frame"):
            ours[key] = theirs[key]
    with info._unlock():
        info["dev_head_t"] = head.forward["info"]["dev_head_t"]
    return info, head


@pytest.fixture(scope="session")
def protocol() -> EvokedProtocol:
    return EvokedProtocol()


@pytest.fixture(scope="session")
def noise(info: mne.Info, protocol: EvokedProtocol) -> Noise:
    band = (protocol.l_freq, protocol.h_freq)
    return noise_from_level(info, 3e-7, protocol.n_steps, protocol.sfreq, band)


@pytest.fixture(scope="session")
def observer(head: Head, noise: Noise, protocol: EvokedProtocol, info: mne.Info) -> Observer:
    return Observer(head, noise, protocol, info, seed=3)


@pytest.fixture(scope="session")
def task(head: Head) -> NetworkTask:
    return build_task(Study.evoked(), head.regions, stream="training", n_averages=N_AVERAGES)


@pytest.fixture(scope="session")
def campaign(task: NetworkTask) -> Campaign:
    return run(task, task.prior.sample(240, seed=0, stream="prior/training"))


@pytest.fixture(scope="session")
def view(observer: Observer, campaign: Campaign) -> View:
    return observer.view(campaign)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Real recordings, where they lie beside the project."""
    folder = os.environ.get("NMM_INFER_DATA")
    if not folder:
        pytest.skip("NMM_INFER_DATA is not set: no folder with real recordings")
    return Path(folder)


@pytest.fixture
def random_state_guard() -> Iterator[None]:
    """Fail a test that moves the global random states of NumPy or torch."""
    np.random.seed(123)  # noqa: NPY002 - the global state is what is watched
    torch.manual_seed(123)
    before = np.random.get_state(), torch.random.get_rng_state()  # noqa: NPY002
    yield
    after = np.random.get_state(), torch.random.get_rng_state()  # noqa: NPY002
    assert before[0][2] == after[0][2]
    np.testing.assert_array_equal(before[0][1], after[0][1])
    assert torch.equal(before[1], after[1])


# A problem whose posterior is known in closed form: log x = G z + noise, with z ~ N(0, I).

TOY_PRIOR = Prior(
    [
        Parameter("alpha", "mV", "uniform", 1.0, 4.0),
        Parameter("beta", "1/s", "loguniform", 10.0, 100.0),
        Parameter("gamma", "1", "lognormal", 2.0, 1.5),
    ]
)


@dataclass
class ToyView:
    """What :class:`nmm_infer.observation.View` offers, for the closed-form problem."""

    owner: ToyObserver
    theta: xr.DataArray
    stream: str
    accepted: float = 1.0

    def __len__(self) -> int:
        return len(self.theta)

    def select(self, positions: np.ndarray) -> ToyView:
        return ToyView(self.owner, self.theta[positions], self.stream, self.accepted)

    def sequences(self, epoch: int = 0) -> Sequences:
        z = TOY_PRIOR.to_unconstrained(self.theta)
        numbers = self.theta.coords["simulation"].values
        noise = np.stack(
            [
                np.random.default_rng([epoch, len(self.stream), k]).standard_normal(
                    len(self.owner.mixing)
                )
                for k in numbers
            ]
        )
        values = np.exp(z @ self.owner.mixing.T + self.owner.sigma * noise)
        return Sequences(values.astype(np.float32), np.zeros(len(z), int))


class ToyObserver:
    """A linear map in the place of head, noise and protocol."""

    def __init__(self) -> None:
        self.protocol = SpontaneousProtocol(window=0.5, duration=0.5)
        rng = np.random.default_rng(11)
        self.mixing = rng.standard_normal((self.protocol.n_steps, 3)) * [0.5, 0.3, 0.1]
        self.sigma = 0.5
        self.head = SimpleNamespace(channels=["Cz"])
        self.noise = SimpleNamespace(source="toy")
        self.covariance = np.linalg.inv(np.eye(3) + self.mixing.T @ self.mixing / self.sigma**2)

    def view(self, campaign: Any, stream: str = "training") -> Any:
        campaign = campaign.select(campaign.valid)
        return ToyView(self, campaign.theta, stream, campaign.accepted)

    def mean(self, x: np.ndarray) -> np.ndarray:
        """Mean of the exact posterior in probit space."""
        return np.log(x.astype(float)) @ self.mixing @ self.covariance / self.sigma**2


def toy_campaign(n: int, stream: str = "toy") -> Campaign:
    theta = TOY_PRIOR.sample(n, seed=1, stream=stream)
    status = ("simulation", np.zeros(n, np.int8))
    attrs = {"nmm_infer_fingerprint": "toy"}
    return Campaign(xr.Dataset({"theta": theta, "status": status}, attrs=attrs))


@pytest.fixture(scope="session")
def toy() -> ToyObserver:
    return ToyObserver()


@pytest.fixture(scope="session")
def toy_posterior(
    toy: ToyObserver, lock: FileLock, tmp_path_factory: pytest.TempPathFactory
) -> Any:
    """A small network that has learned the closed-form problem."""
    from nmm_infer.inference import PosteriorEstimator, load_estimator
    from nmm_infer.settings import DensitySettings, EncoderSettings, TrainingSettings

    folder = _shared(tmp_path_factory) / "toy_posterior"
    with lock:  # the second worker reads what the first has learned
        if not folder.exists():
            PosteriorEstimator(
                EncoderSettings(width=16, layers=1),
                DensitySettings(kind="maf", transforms=2, hidden=16),
                TrainingSettings(epochs=5, batch_size=64, learning_rate=1e-2),
                TrainingSettings(epochs=4, batch_size=64, learning_rate=1e-2),
            ).fit(toy_campaign(2000), toy, TOY_PRIOR).save(folder)
    return load_estimator(folder)

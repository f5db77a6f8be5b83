"""Sensitivity indices against closed forms, and SALib's traps one by one."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import xarray as xr
from rich.console import Console
from SALib.analyze import delta, fast, sobol
from SALib.sample import sobol as sobol_sample
from scipy import stats

from benchmarks import sensitivity as bench
from nmm_infer.campaign import DIVERGED, OK, REJECTED, Campaign, PriorDesign, Variable, run
from nmm_infer.errors import InputError, StoreMismatchError
from nmm_infer.parameters import Parameter, Prior
from nmm_infer.runs import build_task
from nmm_infer.sensitivity import (
    METHODS,
    SensitivityDesign,
    analyse,
    convergence,
    overall,
    plots,
    survey,
)
from nmm_infer.sensitivity._sobol import analyse_sobol
from nmm_infer.sensitivity.methods import problem
from nmm_infer.sensitivity.reporting import print_table
from nmm_infer.study import Study

ANGLES = Prior([Parameter(x, "rad", "uniform", -np.pi, np.pi) for x in ("x1", "x2", "x3")])
#: Of four families: indices are those of the probability, whatever the family.
MIXED = Prior(
    [
        Parameter("u", "mV", "uniform", 2.0, 5.0),
        Parameter("g", "1/s", "normal", 10.0, 3.0),
        Parameter("f", "1", "fixed", 4.0),
        Parameter("l", "1", "lognormal", 2.0, 1.5),
        Parameter("s", "nA", "signed_lognormal", 3.0, 2.0),
    ]
)


def ishigami(theta: xr.DataArray) -> np.ndarray:
    x1, x2, x3 = (theta.sel(parameter=x).values for x in ("x1", "x2", "x3"))
    return np.sin(x1) + 7 * np.sin(x2) ** 2 + 0.1 * x3**4 * np.sin(x1)


def ishigami_indices() -> tuple[dict, dict, float]:
    """Closed forms (Ishigami and Homma 1990) for a = 7, b = .1."""
    a, b = 7.0, 0.1
    v1, v2 = 0.5 * (1 + b * np.pi**4 / 5) ** 2, a**2 / 8
    v13 = b**2 * np.pi**8 * (1 / 18 - 1 / 50)
    v = v1 + v2 + v13
    first = {"x1": v1 / v, "x2": v2 / v, "x3": 0.0}
    return first, {"x1": (v1 + v13) / v, "x2": v2 / v, "x3": v13 / v}, v13 / v


def linear(theta: xr.DataArray) -> np.ndarray:
    """3 P(u) + 2 P(g) + P(l) + 0 P(s): first and total orders are 9, 4, 1 and 0 of 14."""
    return sum(
        w * MIXED[k].cumulative(theta.sel(parameter=k).values)
        for k, w in (("u", 3.0), ("g", 2.0), ("l", 1.0))
    )


SHARES = np.array([9, 4, 1, 0]) / 14
FREE = ["u", "g", "l", "s"]


@pytest.mark.parametrize("names", [("x1", "x2", "x3"), ("x3", "x1", "x2")])
def test_ishigami(names: tuple[str, ...]) -> None:
    # In both orders of the prior: the result follows the names.
    found = survey(ishigami, ANGLES.select(names), n=4096, second_order=True, seed=1)
    first, total, pair = ishigami_indices()
    assert found["parameter"].values.tolist() == list(names)
    for x in names:
        part = found.sel(parameter=x)
        assert abs(part["S1"] - first[x]) < part["S1_conf"]
        assert abs(part["ST"] - total[x]) < part["ST_conf"]
    corner = found.sel(parameter="x3", other="x1")
    assert abs(corner["S2"] - pair) < corner["S2_conf"]
    assert found["S2"].sel(parameter="x1", other="x3") == corner["S2"]
    assert np.isnan(np.diagonal(found["S2"])).all()
    assert found.attrs["runs"] == 4096 * 8


def test_sobol_g() -> None:
    # Closed form (Saltelli and Sobol 1995): V_i = 1 / (3 (1 + a_i)^2), product over parameters.
    a = np.array([0.0, 1.0, 4.5, 9.0, 99.0])
    prior = Prior([Parameter(f"x{i}", "1", "uniform", 0.0, 1.0) for i in range(5)])

    def g(theta: xr.DataArray) -> np.ndarray:
        return np.prod((np.abs(4 * theta.values - 2) + a) / (1 + a), axis=1)

    v = 1 / (3 * (1 + a) ** 2)
    whole = np.prod(1 + v) - 1
    found = survey(g, prior, n=4096)
    assert (np.abs(found["S1"] - v / whole) < found["S1_conf"] + 1e-4).all()
    total = v * np.prod(1 + v) / (1 + v) / whole
    assert (np.abs(found["ST"] - total) < found["ST_conf"] + 1e-4).all()


@pytest.mark.parametrize("method", ["sobol", "efast", "rbd-fast", "shapley"])
def test_shares_of_a_linear_function(method: str) -> None:
    n = {"sobol": 2048, "efast": 1025, "rbd-fast": 4096, "shapley": 4096}[method]
    found = survey(linear, MIXED, method=method, n=n)
    assert found["parameter"].values.tolist() == FREE
    assert found["unit"].values.tolist() == ["mV", "1/s", "1", "nA"]
    # Without interactions all shares are the same. Tolerances: eFAST and RBD-FAST have a bias of
    # the order of harmonics over size; the others an interval of up to .03.
    for name in {"S1", "ST", "shapley"} & set(found):
        np.testing.assert_allclose(found[name], SHARES, atol=0.03)
    assert json.loads(found.attrs["held"]) == {"f": 4.0}


def test_morris_of_a_linear_function() -> None:
    bounded = MIXED.select(["u"])
    found = survey(lambda t: 3 * bounded["u"].cumulative(t.sel(parameter="u").values), bounded,
                   method="morris", n=10)  # fmt: skip
    # The effect over the whole range is the slope in probability, exactly.
    assert found["mu_star"].item() == pytest.approx(3.0)
    assert found["sigma"].item() == pytest.approx(0.0, abs=1e-12)
    # A prior without bounds is seen from probability .005 to .995.
    found = survey(linear, MIXED, method="morris", n=10)
    np.testing.assert_allclose(found["mu"], [3.0, 2.0 * 0.99, 0.99, 0.0], atol=1e-9)


def test_pawn_of_one_parameter() -> None:
    # Y = P(u): the k-th tenth of a uniform is max(k, 9 - k) / 10 away from the whole (Kolmogorov).
    prior = MIXED.select(["u", "g"])

    def f(theta: xr.DataArray) -> np.ndarray:
        return prior["u"].cumulative(theta.sel(parameter="u").values)

    found = survey(f, prior, method="pawn", n=4000)
    tenths = np.arange(10)
    distances = np.maximum(tenths, 9 - tenths) / 10
    assert found["pawn"][0] == pytest.approx(np.median(distances), abs=0.01)
    assert found["pawn_max"][0] == pytest.approx(0.9, abs=0.01)
    # What does nothing is not told from another input that does nothing: both are of the order of
    # Kolmogorov's .87 / sqrt(400).
    assert found["pawn"][1] < 0.07 and found["pawn_floor"][1] < 0.07


def test_delta_of_a_sum_of_normals() -> None:
    # Y = 2 x + y: half the mean distance of N(2 x, 1) and N(0, 5), by quadrature.
    prior = Prior([Parameter(k, "1", "normal", 0.0, 1.0) for k in "xyz"])

    def f(theta: xr.DataArray) -> np.ndarray:
        return 2 * theta.values[:, 0] + theta.values[:, 1]

    grid = np.linspace(-12, 12, 1201)
    z = stats.norm.ppf((np.arange(200) + 0.5) / 200)
    whole = stats.norm.pdf(grid, 0, np.sqrt(5))
    exact = [
        0.5 * np.abs(whole - stats.norm.pdf(grid, m * z[:, None], s)).sum(axis=1).mean() * 0.02
        for m, s in ((2.0, 1.0), (1.0, 2.0))
    ]
    found = survey(f, prior, method="delta", n=2000, resamples=5)
    # Kernels smooth, so large ones are low by some .03; distances of noisy densities are never
    # zero: .06 for an input that does nothing.
    np.testing.assert_allclose(found["delta"][:2], exact, atol=0.04)
    assert found["delta"][2] < 0.09
    np.testing.assert_allclose(found["S1"], [0.8, 0.2, 0.0], atol=0.05)


def test_groups_follow_names() -> None:
    found = survey(linear, MIXED, n=1024, groups={"late": ["l", "g"]}, second_order=True)
    assert found["parameter"].values.tolist() == ["u", "late", "s"]
    assert found["unit"].values.tolist() == ["mV", "", "nA"]
    np.testing.assert_allclose(found["ST"], [9 / 14, 5 / 14, 0], atol=0.03)
    assert json.loads(found.attrs["groups"])["late"] == ["g", "l"]
    swapped = survey(
        linear, MIXED.select(["s", "l", "g", "u"]), n=1024, groups={"late": ["g", "l"]}
    )
    assert swapped["parameter"].values.tolist() == ["s", "late", "u"]
    np.testing.assert_allclose(swapped["ST"], [0, 5 / 14, 9 / 14], atol=0.03)
    morris = survey(linear, MIXED, method="morris", n=200, groups={"late": ["g", "l"]})
    # Both move up or down by 2/3 of the range: |2 +- 1| x .99, each sign half of the time.
    assert morris["mu_star"].sel(parameter="late") == pytest.approx(2 * 0.99, abs=0.25)


@pytest.mark.parametrize("method", [m for m in METHODS if m not in ("sobol", "morris")])
def test_methods_that_ignore_groups_refuse_them(method: str) -> None:
    with pytest.raises(InputError, match="groups"):
        survey(linear, MIXED, method=method, n=256, groups={"late": ["g", "l"]})


@pytest.mark.parametrize(("n", "groups"), [(512, None), (4096, ["a", "b", "a", "c"])])
def test_our_resamples_are_salibs(n: int, groups: list[str] | None) -> None:
    # Both ways of taking resamples, some at a time and one by one; equal but for rounding.
    p = problem(["a0", "b0", "a1", "c0"], groups)
    x = sobol_sample.sample(p, n, calc_second_order=True, seed=1)
    y = np.cos(5 * x[:, 0]) * x[:, 1] + x[:, 2] ** 2
    ours = analyse_sobol(p, y, True, 7, 0.9, seed=3)
    theirs = sobol.analyze(p, y, True, num_resamples=7, conf_level=0.9, seed=3)
    for key in ("S1", "ST", "S2", "S1_conf", "ST_conf", "S2_conf"):
        np.testing.assert_allclose(ours[key], theirs[key], rtol=1e-9, atol=1e-12)


def test_a_nan_takes_its_block_and_no_more() -> None:
    def holes(theta: xr.DataArray) -> np.ndarray:
        y = ishigami(theta)
        y[theta["simulation"].values == 100] = np.nan
        y[theta["simulation"].values == 205] = np.inf
        return y

    # The trap: SALib says zero for all.
    design = SensitivityDesign(ANGLES, "sobol", 1024)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bare = sobol.analyze(design.problem, holes(design.rows(0, len(design))), False, seed=1)
    assert (np.nan_to_num(bare["ST"]) == 0).all()
    found, whole = survey(holes, ANGLES, n=1024), survey(ishigami, ANGLES, n=1024)
    assert found.attrs["lost_blocks"] == 2 and found.attrs["failed_runs"] == 2
    assert found["used"] == 1022
    np.testing.assert_allclose(found["ST"], whole["ST"], atol=0.01)
    for method in ("morris", "shapley", "rbd-fast", "pawn"):
        found = survey(holes, ANGLES, method=method, n=1024)
        assert found.attrs["lost_blocks"] == 2
        assert all(np.isfinite(found[name]).all() for name in found)
    found = survey(holes, ANGLES, method="efast", n=1024, tolerance=0.5)
    assert np.isnan(found["ST"]).values.tolist() == [True, False, False]


def test_errors_of_single_runs_are_failed_runs() -> None:
    def raises(theta: xr.DataArray) -> np.ndarray:
        if (theta["simulation"] == 7).any():
            raise FloatingPointError("seven")
        return ishigami(theta)

    found = survey(raises, ANGLES, n=1024)
    assert found.attrs["failed_runs"] == 1 and found.attrs["lost_blocks"] == 1
    assert found["ST"].sel(parameter="x2") == pytest.approx(0.442, abs=0.05)

    def never(theta: xr.DataArray) -> np.ndarray:
        raise ValueError("never")

    with pytest.raises(InputError, match=r"failed for each of the first .* ValueError: never"):
        survey(never, ANGLES, n=64)


def test_too_many_failures_are_refused() -> None:
    def half(theta: xr.DataArray) -> np.ndarray:
        x = theta.sel(parameter="x1").values
        return np.where(x > 2.0, np.nan, x)

    with pytest.raises(InputError, match=r"no output can be analysed: .* lost"):
        survey(half, ANGLES, n=256)


def test_a_rejected_stratum_is_no_independent_prior() -> None:
    class Stratum:
        fingerprint: ClassVar[dict] = {"task": "stratum"}
        coords: ClassVar[dict] = {}
        variables: ClassVar[dict] = {"y": Variable((), "float64", {"units": "mV"})}
        prior = ANGLES

        def simulate(self, theta, index):
            x = theta.sel(parameter="x1").values
            return {"y": x, "status": np.where(x > 2.0, REJECTED, OK).astype(np.int8)}

    with pytest.raises(InputError, match=r"rejected by the study.*take a method for given data"):
        survey(Stratum(), n=256)
    # A method for given data is not told to become one.
    with pytest.raises(InputError, match=r'take \[column\] stratum = "all", or raise the tol'):
        survey(Stratum(), n=256, method="rbd-fast")
    found = survey(Stratum(), n=4096, method="rbd-fast", tolerance=0.5)
    assert found["S1"].sel(parameter="x1") == pytest.approx(1.0, abs=0.02)
    assert found["mean"].attrs["units"] == "mV"
    assert found.attrs["failed_runs"] == 0
    assert found.attrs["rejected_runs"] == found.attrs["lost_blocks"] > 700
    said = Console(record=True, width=100)
    print_table(found, said)
    text = said.export_text()
    assert f"{found.attrs['rejected_runs']:,} runs were rejected" in text
    assert "blocks" not in text  # each is one of these runs


def test_constant_outputs_are_nan_with_a_note() -> None:
    def f(theta: xr.DataArray) -> xr.DataArray:
        x = theta.sel(parameter="x1")
        y = np.stack([np.full(len(x), 1e6), 1e6 + 1e-10 * x.values, x.values], axis=1)
        return xr.DataArray(y, dims=("simulation", "place"), coords={"place": ["a", "b", "c"]})

    found = survey(f, ANGLES, n=64)
    assert found["S1"].dims == ("place", "parameter")
    assert np.isnan(found["ST"].sel(place=["a", "b"])).all()
    assert found["ST"].sel(place="c", parameter="x1") == pytest.approx(1.0, abs=0.2)
    assert json.loads(found.attrs["notes"]) == {"constant": ["place=a", "place=b"]}
    with pytest.raises(InputError, match="constant"):
        survey(lambda theta: np.zeros(len(theta)), ANGLES, n=64)


@pytest.mark.parametrize("method", ["sobol", "efast", "delta", "morris", "rbd-fast"])
def test_seed_zero_is_a_seed(method: str, random_state_guard: None) -> None:
    size = {"n": 128, "method": method, "resamples": 5}
    form = warnings.formatwarning
    once, again = (survey(ishigami, ANGLES, seed=0, **size) for _ in range(2))
    xr.testing.assert_identical(once, again)
    other = survey(ishigami, ANGLES, seed=1, **size)
    assert not np.allclose(once.to_array(), other.to_array(), equal_nan=True)
    assert warnings.formatwarning is form


def test_the_traps_are_there() -> None:
    # Should SALib close one, the guard can go. Seed 0 is none; delta changes the global state.
    x = np.random.default_rng(0).random((256, 3))
    y = x[:, 0] + x[:, 1]
    state, form = np.random.get_state(), warnings.formatwarning  # noqa: NPY002
    p = problem(["a", "b", "c"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        once, again = (fast.analyze(p, y[:255], seed=0)["S1_conf"] for _ in range(2))
        delta.analyze(p, x, y, num_resamples=2, seed=1)
    changed = warnings.formatwarning is not form
    warnings.formatwarning = form
    np.random.set_state(state)  # noqa: NPY002
    assert not np.allclose(once, again)
    assert changed


def test_problems_are_new_each_time() -> None:
    design = SensitivityDesign(ANGLES, "sobol", 64)
    design.problem["names"].append("x1/x2")
    assert design.problem["names"] == ["x1", "x2", "x3"]


def test_design_is_lazy_and_follows_quantiles() -> None:
    design = SensitivityDesign(MIXED, "sobol", 256, seed=2)
    theta = design.rows(0, len(design))
    # In the order of the prior, for functions that read columns by position.
    assert theta["parameter"].values.tolist() == MIXED.names
    assert (theta.sel(parameter="f") == 4.0).all()
    u = np.column_stack([MIXED[k].cumulative(theta.sel(parameter=k)) for k in FREE])
    np.testing.assert_allclose(u, design.cube, atol=1e-9)
    xr.testing.assert_equal(design.rows(100, 130), theta[100:130])
    np.testing.assert_array_equal(design.rows(100, 130)["simulation"], np.arange(100, 130))


def test_a_store_is_run_once(tmp_path: Path) -> None:
    calls: list[int] = []

    def f(theta: xr.DataArray) -> np.ndarray:
        calls.append(len(theta))
        return ishigami(theta)

    first = survey(f, ANGLES, n=512, store=tmp_path / "own.zarr", threads=1)
    assert sum(calls) == 2560 + 2  # two tell the shape
    calls.clear()
    second = survey(f, ANGLES, n=512, store=tmp_path / "own.zarr")
    assert sum(calls) == 2
    xr.testing.assert_identical(first, second)
    with pytest.raises(StoreMismatchError):
        survey(ishigami, ANGLES, n=512, store=tmp_path / "own.zarr")
    grown = convergence(f, ANGLES, n=512, store=tmp_path / "own.zarr")
    assert sum(calls) == 4
    np.testing.assert_array_equal(grown["ST"].sel(n=512), first["ST"])


def test_an_interrupted_survey_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    limit = [700]

    def f(theta: xr.DataArray) -> np.ndarray:
        if len(seen) >= limit[0]:
            raise MemoryError
        seen.extend(theta["simulation"].values.tolist())
        return ishigami(theta)

    store = tmp_path / "runs.zarr"
    with pytest.raises(MemoryError):
        survey(f, ANGLES, n=512, store=store, threads=1)
    before, limit[0] = set(seen), 10**9
    assert 2 < len(before) < 2560
    seen.clear()
    found = survey(f, ANGLES, n=512, store=store, threads=1)
    assert set(seen) - {0, 1} == set(range(2560)) - before
    np.testing.assert_array_equal(found["ST"], survey(ishigami, ANGLES, n=512)["ST"])


def test_convergence() -> None:
    grown = convergence(ishigami, ANGLES, n=4096, sizes=[256, 1024, 4096])
    _, total, _ = ishigami_indices()
    exact = xr.DataArray(list(total.values()), dims="parameter", coords={"parameter": list(total)})
    assert (np.abs(grown["ST"] - exact) < 1.5 * grown["ST_conf"]).all()
    # Intervals shrink with the root of the size: by 4 from 256 to 4096, a few resamples apart.
    ratio = grown["ST_conf"].sel(n=256) / grown["ST_conf"].sel(n=4096)
    assert ((ratio > 2.5) & (ratio < 6.5)).all()
    alone = survey(ishigami, ANGLES, n=256)
    # A prefix of a Saltelli design is the smaller design.
    np.testing.assert_allclose(grown["ST"].sel(n=256), alone["ST"], rtol=1e-12)
    with pytest.raises(InputError, match="efast"):
        convergence(ishigami, ANGLES, method="efast", n=256)


class Toy:
    """A task with potentials: the focus rises to A, others to nothing."""

    prior = Prior(
        [
            Parameter("A", "mV", "uniform", 1.0, 3.0),
            Parameter("delay", "s", "uniform", 0.0, 0.1),
            Parameter("source_scale", "nA*m/mV", "signed_lognormal", 50.0, 2.0),
        ]
    )
    times = np.arange(-20, 80) / 200
    fingerprint: ClassVar[dict] = {"task": "toy"}
    coords: ClassVar[dict] = {"region": ["a", "b"], "time": ("time", times, {"units": "s"})}
    variables: ClassVar[dict] = {
        "potential": Variable(("region", "time"), "float32", {"units": "mV"}),
        "focus": Variable((), "int16"),
    }

    def simulate(self, theta: xr.DataArray, index: np.ndarray) -> dict:
        A, delay = (theta.sel(parameter=k).values[:, None] for k in ("A", "delay"))
        focus = (index % 2).astype(np.int16)
        potential = np.full((len(theta), 2, len(self.times)), 6.0, np.float32)
        rows = np.arange(len(theta))
        noise = np.random.default_rng(int(index[0])).standard_normal(1) * 0.0
        potential[rows, focus] += (
            A * np.exp(-0.5 * ((self.times - 0.1 - delay) / 0.02) ** 2) + noise
        )
        status = np.where(A[:, 0] > 2.999, DIVERGED, OK).astype(np.int8)
        return {"potential": potential, "focus": focus, "status": status}


def test_features_of_a_task() -> None:
    found = survey(Toy(), n=256, outputs=["peak", "peak_latency"])
    # What only sensors see is left out; the peak is A alone, its time the delay alone.
    assert found["parameter"].values.tolist() == ["A", "delay"]
    assert found["feature_unit"].values.tolist() == ["mV", "s"]
    np.testing.assert_allclose(found["S1"], np.eye(2), atol=0.05)
    assert found["mean"].sel(feature="peak") == pytest.approx(2.0, abs=0.03)
    assert json.loads(found.attrs["held"]) == {"source_scale": 50.0}


def test_samples_of_a_task() -> None:
    found = survey(Toy(), n=128)
    assert found["ST"].dims == ("time", "parameter")
    # Constant before the event, and where the bump never comes.
    assert np.isnan(found["ST"].sel(time=slice(None, 0.0))).all()
    assert found["mean"].sel(time=-0.05) == pytest.approx(0.0, abs=1e-6)
    kept = survey(Toy(), n=128, at=[0.1, 0.2])
    np.testing.assert_allclose(kept["time"], [0.1, 0.2])
    np.testing.assert_allclose(kept["ST"], found["ST"].sel(time=[0.1, 0.2], method="nearest"))
    everything = overall(found)
    assert everything["ST"].dims == ("parameter",)
    weight = found["deviation"] ** 2
    by_hand = (weight * found["ST"].fillna(0)).sum("time") / weight.sum("time")
    np.testing.assert_allclose(everything["ST"], by_hand, rtol=1e-3)


def test_common_random_numbers() -> None:
    class Noisy(Toy):
        fingerprint: ClassVar[dict] = {"task": "noisy"}

        def simulate(self, theta: xr.DataArray, index: np.ndarray) -> dict:
            result = super().simulate(theta, index)
            noise = [np.random.default_rng(int(k)).standard_normal() for k in index]
            result["potential"][..., 20:] += np.array(noise, np.float32)[:, None, None]
            return result

    common, own = (
        survey(Noisy(), n=256, outputs=["mean"], number=number)["ST"].isel(feature=0)
        for number in (0, None)
    )
    # A is all of the mean but a little delay at the end of the window; with noise of its own in
    # each run, whose variance is some 60 times larger, each total index holds it.
    assert common.sel(parameter="A") == pytest.approx(1.0, abs=0.05)
    assert common.sel(parameter="delay") < 0.05
    assert (own > 0.8).all()


def test_given_data() -> None:
    campaign = run(Toy(), PriorDesign(Toy.prior, 3000, seed=0))
    for method, name in (("rbd-fast", "S1"), ("pawn", "pawn")):
        found = analyse(campaign, ["peak", "peak_latency"], method=method, prior=Toy.prior)
        assert found["parameter"].values.tolist() == ["A", "delay", "source_scale"]
        best = found[name].idxmax("parameter").values.tolist()
        assert best == ["A", "delay"]
    assert found.attrs["failed_runs"] == int((campaign.dataset["status"] != OK).sum()) > 0
    kept = analyse(campaign, ["peak"], prior=Toy.prior.select(["delay", "A"]))
    np.testing.assert_allclose(kept["S1"], [[0.0, 1.0]], atol=0.03)
    with pytest.raises(InputError, match="design of its own"):
        analyse(campaign, ["peak"], method="sobol")


def test_a_run_with_nan_has_no_features_and_no_others_lose_theirs() -> None:
    campaign = run(Toy(), PriorDesign(Toy.prior, 1000, seed=0))
    data = campaign.dataset.load().copy(deep=True)
    lost = int(campaign.valid[5])
    data["potential"][lost, 0, 3] = np.nan
    wanted = ["peak", "peak_latency", "onset_latency"]
    found = analyse(Campaign(data), wanted, method="pawn", prior=Toy.prior)
    data["status"][lost] = DIVERGED
    without = analyse(Campaign(data), wanted, method="pawn", prior=Toy.prior)
    np.testing.assert_allclose(found["pawn"], without["pawn"])
    assert found.attrs["lost_blocks"] == without.attrs["lost_blocks"] == 1


def test_posterior_draws_are_refused() -> None:
    theta = Toy.prior.sample(500, seed=0)
    mixed = theta.copy()
    mixed[:, 1] = 0.1 * Toy.prior["A"].cumulative(theta[:, 0].values)
    data = xr.Dataset(
        {
            "theta": mixed,
            "status": ("simulation", np.zeros(500, np.int8)),
            "y": ("simulation", 2.0 * theta.values[:, 0]),
        }
    )
    with pytest.raises(InputError, match="A and delay are correlated"):
        analyse(Campaign(data), "y", prior=Toy.prior)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "sobl"}, "no method 'sobl'"),
        ({"n": 100}, "power of two"),
        ({"method": "efast", "n": 64}, "above 64"),
        ({"method": "morris", "second_order": True}, "second order"),
        ({"groups": {"g": ["A", "zz"]}}, "no parameter 'zz'"),
        ({"groups": {"g": ["A"], "h": ["A"]}}, "in two groups"),
        ({"groups": {"A": ["delay"]}}, "name of a parameter"),
        ({"groups": {"g": "A"}}, "a list of names, not the text 'A'"),
        ({"groups": {"g": []}}, "group 'g' is empty"),
        ({"groups": [["A"]]}, "give names and lists of parameters"),
        ({"at": [float("nan")]}, "at: give finite times"),
        ({"outputs": ["peak"], "at": [0.1]}, "features have no times to choose"),
        ({"outputs": ["pek"]}, "no feature 'pek'"),
        ({"outputs": "channels"}, "needs an observer"),
        ({"at": [3.0]}, "the times go from"),
        ({"level": 1.0}, "level"),
        ({"resamples": 1}, "resamples"),
    ],
)
def test_refusals(settings: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        survey(Toy(), **{"n": 64, **settings})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"groups": {"all": ["A", "delay"]}}, "holds every parameter"),
        ({"n": 0}, "whole number of 2 or more"),
        ({"n": 64.5}, "whole number"),
        ({"n": float("nan")}, "whole number"),
        ({"seed": 1.5}, "seed must be a whole number"),
        ({"method": "rbd-fast", "n": 12}, "at least 64 runs"),
        ({"tolerance": float("nan")}, "tolerance"),
        ({"seed": -1}, "seed"),
        ({"prior": Prior([Parameter("Aa", "mV", "uniform", 1.0, 3.0)])}, "no parameter 'Aa'"),
        ({"prior": Prior([Parameter("A", "V", "uniform", 1.0, 3.0)])}, "it is in V"),
    ],
)
def test_more_refusals(settings: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        survey(Toy(), **{"n": 64, **settings})


def test_complex_numbers_are_refused() -> None:
    with pytest.raises(InputError, match="complex numbers"):
        survey(lambda theta: 1j * ishigami(theta), ANGLES, n=64)


def test_runs_that_were_not_drawn_from_the_prior_are_refused() -> None:
    campaign = run(Toy(), PriorDesign(Toy.prior, 500, seed=0))
    narrow = Prior([Parameter("A", "mV", "uniform", 1.0, 2.0), Toy.prior["delay"]])
    with pytest.raises(InputError, match="is not that of the campaign"):
        analyse(campaign, ["peak"], prior=narrow)
    unnamed = Campaign(campaign.dataset.assign_attrs(task="{}", design="{}"))
    with pytest.raises(InputError, match="A does not follow the prior"):
        analyse(unnamed, ["peak"], prior=narrow)
    data = campaign.dataset.copy(deep=True)
    data["theta"][3, 0] = np.nan
    with pytest.raises(InputError, match="A is not a number in 1 of 500 runs"):
        analyse(Campaign(data), ["peak"])
    data = campaign.dataset.copy(deep=True)
    data["status"][data["theta"].sel(parameter="A").values > 2.0] = REJECTED
    left = Campaign(data)
    with pytest.raises(InputError, match="rejected by the study"):
        analyse(left.select(left.valid), ["peak"], prior=Toy.prior)
    with pytest.raises(InputError, match="at least 64 runs"):
        analyse(campaign.select(slice(0, 20)), ["peak"], prior=Toy.prior)


def test_indices_that_are_no_shares_are_told() -> None:
    def spikes(theta: xr.DataArray) -> np.ndarray:  # a few runs are all of the variance
        u = (theta.values / np.pi + 1) / 2
        size = np.where((u > 0.9).any(axis=1), 1e3, u[:, 0])
        return size * np.where(u[:, 1] > 0.9, 1.0, 0.01)

    told = []
    for seed in range(20):
        found = survey(spikes, ANGLES, n=64, resamples=20, seed=seed)
        beyond = [
            (found[name] - found[f"{name}_conf"] > 1.05)
            | (found[name] + found[f"{name}_conf"] < -0.05)
            for name in ("ST", "S1")
        ]
        told.append("no share" in found.attrs["notes"])
        assert told[-1] == any(part.any() for part in beyond)
    assert any(told)
    assert not all(told)
    assert survey(ishigami, ANGLES, n=1024).attrs["notes"] == "{}"


def test_nothing_is_left_of_the_runs() -> None:
    with pytest.raises(InputError, match="256 of 256 blocks are lost"):
        survey(lambda theta: np.full(len(theta), np.nan), ANGLES, n=256, tolerance=1.0)


def test_the_next_pulse_is_no_part_of_a_response() -> None:
    """As released, alpha_2 to alpha_4 act through a flat sigmoid: they move no latency."""
    study = Study.preset("tilwani2025_asis").replace(column={"trials": 2})
    task = build_task(study, [], stream="test")
    assert task.clock.margin > 0.1
    found = survey(task, n=128, outputs=["peak_latency", "peak"], tolerance=1.0)
    told = found["ST"].sel(feature="peak_latency")
    assert found["mean"].sel(feature="peak_latency") < 0.2
    assert found["deviation"].sel(feature="peak_latency") < 0.05
    assert (told.sel(parameter=["alpha_2", "alpha_3", "alpha_4"]) < 1e-2).all()
    times = survey(task, n=8, at=[-0.2, 0.1, 1.0], tolerance=1.0)["time"].values
    np.testing.assert_allclose(times, [-0.2, 0.1, 1.0], atol=task.clock.step * task.clock.every)
    with pytest.raises(InputError, match="the times go from"):
        survey(task, n=8, at=[1.1], tolerance=1.0)


def test_function_outputs_keep_their_labels(tmp_path: Path) -> None:
    def f(theta: xr.DataArray) -> xr.DataArray:
        x = theta.sel(parameter="x1", drop=True).drop_vars("simulation")
        t = xr.DataArray([0.0, 1.0, 2.0], dims="time", coords={"time": [0.0, 1.0, 2.0]})
        return (t * x).assign_attrs(units="mV")

    found = survey(f, ANGLES, n=64)
    assert found["ST"].dims == ("time", "parameter")
    assert found["mean"].attrs["units"] == "mV"
    found.to_netcdf(tmp_path / "f.nc", engine="h5netcdf")
    xr.testing.assert_identical(xr.open_dataset(tmp_path / "f.nc", engine="h5netcdf").load(), found)
    with pytest.raises(InputError, match="one entry for each"):
        survey(lambda theta: 1.0, ANGLES, n=64)
    # A plain array of three outputs, as of one.
    plain = survey(lambda theta: f(theta).transpose("simulation", "time").values, ANGLES, n=64)
    assert plain["ST"].dims == ("entry", "parameter")
    np.testing.assert_allclose(plain["ST"].values[1:], found["ST"].values[1:])
    with pytest.raises(InputError, match="belong to tasks"):
        survey(f, ANGLES, n=64, outputs=["peak"])


def test_figures(info) -> None:
    found = survey(Toy(), n=64, outputs=["peak", "peak_latency"], second_order=True)
    assert len(plots.bars(found).axes) == 2
    titles = [axes.get_title(loc="left") for axes in plots.bars(found).axes]
    assert titles == ["peak", "peak latency"]
    plots.interactions(found.sel(feature="peak"))
    with pytest.raises(InputError, match="select one output"):
        plots.interactions(found)
    course = survey(Toy(), n=64)
    figure = plots.curves(course)
    drawn = figure.axes[1].lines[0].get_ydata()
    np.testing.assert_array_equal(drawn, course["ST"].sel(parameter="A"))
    grown = convergence(Toy(), n=64, outputs=["peak"])
    plots.trend(grown.sel(feature="peak"))
    names = info.ch_names
    channels = xr.concat([course] * len(names), xr.DataArray(names, dims="channel", name="channel"))
    maps = plots.scalp(channels, info, [0.1, 0.15])
    assert sum(bool(axes.images) for axes in maps.axes) == 2 * 3


def test_channels_and_sequences_of_one_source(observer, info) -> None:
    regions = observer.head.regions

    class One(Toy):
        prior = Prior([*Toy.prior.parameters, Parameter("background", "1", "fixed", 1.0)])
        fingerprint: ClassVar[dict] = {"task": "one"}
        times = np.arange(-40, 90) / 200
        coords: ClassVar[dict] = {"region": regions, "time": ("time", times, {"units": "s"})}

        def simulate(self, theta: xr.DataArray, index: np.ndarray) -> dict:
            A = theta.sel(parameter="A").values[:, None]
            potential = np.zeros((len(theta), len(regions), len(self.times)), np.float32)
            potential[:, 5] = A * np.exp(-0.5 * ((self.times - 0.15) / 0.03) ** 2)
            return {"potential": potential, "focus": np.full(len(theta), 5, np.int16)}

    asked = One.prior.select(["A", "delay"])
    found = survey(One(), asked, n=64, observer=observer, at=[0.15])
    assert found["ST"].dims == ("channel", "time", "parameter")
    assert found["channel"].values.tolist() == info.ch_names
    # One source: every channel is a multiple of A, in float32.
    np.testing.assert_allclose(found["S1"].sel(parameter="A"), found["S1"][0, 0, 0], rtol=1e-3)
    np.testing.assert_allclose(found["ST"].sel(parameter="delay"), 0.0, atol=1e-6)
    # 2 mV on average (A), 2/sqrt(12) of deviation, through the lead field in V/nAm at 50 nAm/mV,
    # after the filter: one factor for all channels.
    gain = observer.operator(observer.head.leadfield).values[:, 5]
    ratio = found["mean"].isel(time=0) / gain
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-3)
    assert float(ratio[0]) == pytest.approx(100.0, rel=0.1)
    course = survey(One(), asked, n=64, observer=observer, outputs="sequence", at=[0.15])
    assert course["ST"].dims == ("time", "parameter")
    assert course["S1"].sel(parameter="A").item() == pytest.approx(
        found["S1"].values[0, 0, 0], rel=1e-3
    )


@pytest.mark.slow
def test_benchmark() -> None:
    record = bench.measure(quick=True, repeats=1)
    assert json.loads(json.dumps(record)) == record
    assert all(row["target"] is None and row["seconds"] > 0 for row in record["rows"])
    assert bench.table(record).count("\n") == len(record["rows"]) + 3

"""The methods of SALib behind one shape, with its traps closed.

What is guarded here: a seed of 0, which SALib takes for none; problems, which some of its functions
change; the global random state and the warning settings, which others change; groups, which some
ignore; and the sizes that the designs need.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from SALib.analyze import delta, fast, morris, pawn, rbd_fast, shapley
from SALib.sample import fast_sampler, latin
from SALib.sample import morris as morris_sample
from SALib.sample import shapley as shapley_sample
from SALib.sample import sobol as sobol_sample

from nmm_infer import _random
from nmm_infer._checks import check_whole
from nmm_infer.errors import InputError
from nmm_infer.sensitivity._sobol import analyse_sobol

__all__ = [
    "FEWEST_RUNS",
    "METHODS",
    "Index",
    "Method",
    "Options",
    "find_method",
    "problem",
    "quiet",
]

Problem = dict[str, Any]
Array = NDArray[np.float64]

#: Harmonics of eFAST, and levels of Morris' grid: SALib's defaults.
_HARMONICS, _LEVELS = 4, 4
#: Fewer runs tell nothing: with twenty or less RBD-FAST finds 1 for every parameter.
FEWEST_RUNS = 64
#: The name of an input that does nothing.
_DUMMY = "nothing"


@dataclass(frozen=True)
class Options:
    """How indices are estimated.

    Parameters
    ----------
    second_order : bool
        Whether there are interactions of pairs (Sobol only).
    resamples : int
        Resamples of the intervals.
    level : float
        Level of the intervals.
    seed : int
        Seed of resamples.
    """

    second_order: bool
    resamples: int
    level: float
    seed: int


@dataclass(frozen=True)
class Index:
    """One result of a method.

    Parameters
    ----------
    key : str
        Its name in SALib.
    meaning : str
        What it says.
    power : int
        0 for a pure number, 1 for one in the unit of the output.
    """

    key: str
    meaning: str
    power: int = 0


@dataclass(frozen=True)
class Method:
    """A method of SALib.

    Parameters
    ----------
    sample : callable
        ``sample(problem, n, second_order, seed)`` returns inputs in the unit cube.
    analyse : callable
        ``analyse(problem, x, y, options)`` returns what SALib returns.
    indices : mapping of str to Index
        Results by name; the first is what figures show.
    block : callable
        ``block(inputs, n, second_order)``: rows that belong together, and are dropped together.
    given_data : bool
        Whether any independent draws do.
    grouped : bool
        Whether groups of parameters can be asked about.
    prefixes : bool
        Whether the first blocks of a design are a smaller design.
    threads : bool
        Whether SALib's function may run in threads: it touches nothing global.
    """

    sample: Callable[[Problem, int, bool, int], Array]
    analyse: Callable[[Problem, Array, Array, Options], Mapping[str, Any]]
    indices: Mapping[str, Index]
    block: Callable[[int, int, bool], int]
    given_data: bool = False
    grouped: bool = False
    prefixes: bool = True
    threads: bool = True


def problem(names: list[str], groups: list[str] | None = None) -> Problem:
    """Return SALib's description of inputs in the unit cube."""
    made: Problem = {
        "num_vars": len(names),
        "names": list(names),
        "bounds": [[0.0, 1.0]] * len(names),
    }
    if groups is not None:
        made["groups"] = list(groups)
    return made


def whole_seed(seed: int, stream: str) -> int:
    """Return a seed that SALib takes for one: never zero, another one for every stream."""
    return int(_random.generator(seed, f"sensitivity/{stream}").integers(1, 2**31 - 1))


@contextmanager
def quiet() -> Iterator[None]:
    """Keep SALib's warnings to itself, and the global state as it was."""
    state, form = np.random.get_state(), warnings.formatwarning  # noqa: NPY002
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.showwarning = lambda *args, **kwargs: None  # delta sets a filter of its own
            yield
    finally:
        np.random.set_state(state)  # noqa: NPY002
        warnings.formatwarning = form


def find_method(name: str) -> Method:
    """Return a method by its name.

    Raises
    ------
    InputError
        If there is none of this name.
    """
    if name not in METHODS:
        raise InputError(
            f"no method {name!r} of sensitivity analysis; there are {', '.join(METHODS)}"
        )
    return METHODS[name]


def check_size(name: str, n: int) -> None:
    """Refuse sizes that a design cannot have."""
    check_whole("n", n, 2)
    if find_method(name).given_data and n < FEWEST_RUNS:
        raise InputError(f"{name}: n must be at least {FEWEST_RUNS} runs, got {n}")
    if name == "sobol" and n & (n - 1):
        low = 1 << (n.bit_length() - 1)
        raise InputError(f"{name}: n must be a power of two, got {n}: take {low} or {2 * low}")
    if name == "efast" and n <= 4 * _HARMONICS**2:
        raise InputError(f"{name}: n must be above {4 * _HARMONICS**2}, got {n}")


def _sample_sobol(p: Problem, n: int, second_order: bool, seed: int) -> Array:
    return sobol_sample.sample(p, n, calc_second_order=second_order, seed=seed)


def _analyse_sobol(p: Problem, x: Array, y: Array, o: Options) -> Mapping[str, Any]:
    return analyse_sobol(p, y, o.second_order, o.resamples, o.level, o.seed)


def _analyse_morris(p: Problem, x: Array, y: Array, o: Options) -> Mapping[str, Any]:
    return morris.analyze(
        p, x, y, num_resamples=o.resamples, conf_level=o.level, num_levels=_LEVELS, seed=o.seed
    )


def _analyse_fast(p: Problem, x: Array, y: Array, o: Options) -> Mapping[str, Any]:
    return fast.analyze(
        p, y, M=_HARMONICS, num_resamples=o.resamples, conf_level=o.level, seed=o.seed
    )


def _analyse_rbd(p: Problem, x: Array, y: Array, o: Options) -> Mapping[str, Any]:
    return rbd_fast.analyze(p, x, y, num_resamples=o.resamples, conf_level=o.level, seed=o.seed)


def _analyse_pawn(p: Problem, x: Array, y: Array, o: Options) -> Mapping[str, Any]:
    """Add an input that does nothing: what is found of it is the noise of the estimate."""
    nothing = np.random.default_rng(o.seed).random(len(x))
    found = pawn.analyze(problem([*p["names"], _DUMMY]), np.column_stack([x, nothing]), y)
    size = len(p["names"])
    result: dict[str, Any] = {key: found[key][:size] for key in ("median", "minimum", "maximum")}
    return {**result, "floor": np.full(size, found["median"][size])}


def _analyse_delta(p: Problem, x: Array, y: Array, o: Options) -> Mapping[str, Any]:
    # Names that end in "_step" and the like are forbidden there.
    plain = problem([f"x{i}" for i in range(len(p["names"]))])
    return delta.analyze(plain, x, y, num_resamples=o.resamples, conf_level=o.level, seed=o.seed)


def _analyse_shapley(p: Problem, x: Array, y: Array, o: Options) -> Mapping[str, Any]:
    return shapley.analyze(p, x, y, conf_level=o.level)


_FIRST = Index("S1", "first order: share of the variance that the parameter explains alone")
_TOTAL = Index("ST", "total order: share of the variance left when all others are known")
_HALF = "half width of the interval"

#: All methods by name.
METHODS: dict[str, Method] = {
    "sobol": Method(
        _sample_sobol,
        _analyse_sobol,
        {
            "ST": _TOTAL,
            "ST_conf": Index("ST_conf", _HALF),
            "S1": _FIRST,
            "S1_conf": Index("S1_conf", _HALF),
            "S2": Index("S2", "second order: share that two parameters explain only together"),
            "S2_conf": Index("S2_conf", _HALF),
        },
        lambda inputs, n, second_order: (2 if second_order else 1) * inputs + 2,
        grouped=True,
    ),
    "morris": Method(
        lambda p, n, second_order, seed: morris_sample.sample(p, n, num_levels=_LEVELS, seed=seed),
        _analyse_morris,
        {
            "mu_star": Index(
                "mu_star", "mean magnitude of the elementary effects, over the whole prior range", 1
            ),
            "mu_star_conf": Index("mu_star_conf", _HALF, 1),
            "mu": Index("mu", "mean of the elementary effects", 1),
            "sigma": Index("sigma", "their standard deviation: curvature and interactions", 1),
        },
        lambda inputs, n, second_order: inputs + 1,
        grouped=True,
    ),
    "efast": Method(
        lambda p, n, second_order, seed: fast_sampler.sample(p, n, M=_HARMONICS, seed=seed),
        _analyse_fast,
        {
            "ST": _TOTAL,
            "ST_conf": Index("ST_conf", f"{_HALF}, indicative only"),
            "S1": _FIRST,
            "S1_conf": Index("S1_conf", f"{_HALF}, indicative only"),
        },
        lambda inputs, n, second_order: n,
        prefixes=False,
        threads=False,
    ),
    "rbd-fast": Method(
        lambda p, n, second_order, seed: latin.sample(p, n, seed=seed),
        _analyse_rbd,
        {"S1": _FIRST, "S1_conf": Index("S1_conf", _HALF)},
        lambda inputs, n, second_order: 1,
        given_data=True,
    ),
    "pawn": Method(
        lambda p, n, second_order, seed: latin.sample(p, n, seed=seed),
        _analyse_pawn,
        {
            "pawn": Index(
                "median", "median distance (Kolmogorov-Smirnov) of the output given the parameter"
            ),
            "pawn_min": Index("minimum", "least distance over ten parts of the range"),
            "pawn_max": Index("maximum", "largest distance over ten parts of the range"),
            "pawn_floor": Index("floor", "what is found of an input that does nothing"),
        },
        lambda inputs, n, second_order: 1,
        given_data=True,
    ),
    "delta": Method(
        lambda p, n, second_order, seed: latin.sample(p, n, seed=seed),
        _analyse_delta,
        {
            "delta": Index(
                "delta_raw", "half the mean distance (L1) of the output's density given it"
            ),
            "delta_conf": Index("delta_raw_conf", f"{_HALF}, of resampling only"),
            "S1": _FIRST,
            "S1_conf": Index("S1_conf", f"{_HALF}, of resampling only"),
        },
        lambda inputs, n, second_order: 1,
        given_data=True,
        threads=False,
    ),
    "shapley": Method(
        lambda p, n, second_order, seed: shapley_sample.sample(p, n, seed=seed),
        _analyse_shapley,
        {
            "shapley": Index(
                "shapley_normalized", "Shapley effect: share of the variance; all sum to one"
            ),
            "shapley_conf": Index("shapley_normalized_conf", _HALF),
        },
        lambda inputs, n, second_order: inputs + 1,
    ),
}

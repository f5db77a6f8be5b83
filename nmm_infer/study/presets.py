"""Studies of the literature, as tables that a study file could hold.

``tilwani2025_asis`` is the study of Tilwani and O'Reilly (2024-25, arXiv:2406.05002) as their code
of March 2025 has it: equations, routing of the stimulus, forward Euler of 1 ms from zero, 60 pulses
a second apart of which 59 are averaged, and the Gaussian prior that is not truncated. The numbers
are theirs with volts written as millivolts (see :mod:`nmm_infer.models.tilwani_2025`).

``tilwani2025_consistent`` asks the same of the same nine parameters with units that agree: the
column of Jansen and Rit, whose sigmoid has a slope of .56 per *milli*volt and a largest rate of
5 /s, a background input of 120 /s, and the stimulus where Jansen and Rit put the input. Columns
start at rest, so one trial is enough, and Heun's scheme is used. ``..._wide`` and ``..._narrow``
have uniform priors: the ranges of the paper less their extremes, and about a quarter around the
published values. The ``column5`` studies leave the four synaptic shares at their published values:
five parameters.

What differs from the paper in both: 100 samples a second below 40 Hz in the place of 1,000, one
spatial component (all that one patch has), and the mean of a window removed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["PRESETS"]

#: Ranges of Tilwani and O'Reilly: a range becomes a Gaussian around its middle whose standard
#: deviation is a quarter of it.
_PAPER = {
    "A": (2.6, 9.75),
    "B": (17.6, 110.0),
    "a": (5.0, 150.0),
    "b": (25.0, 75.0),
    "C": (65.0, 1350.0),
    "alpha_1": (0.5, 1.5),
    "alpha_2": (0.4, 1.2),
    "alpha_3": (0.125, 0.375),
    "alpha_4": (0.125, 0.375),
}
_SHARES = {name: _PAPER[name] for name in ("alpha_1", "alpha_2", "alpha_3", "alpha_4")}
_WIDE = {
    "A": (2.6, 9.75),
    "B": (17.6, 110.0),
    "a": (50.0, 150.0),
    "b": (25.0, 75.0),
    "C": (65.0, 270.0),
}
_NARROW = {
    "A": (2.6, 4.5),
    "B": (17.6, 30.0),
    "a": (75.0, 125.0),
    "b": (37.0, 63.0),
    "C": (100.0, 170.0),
}
_CODE = "Tilwani and O'Reilly 2024-25, released code"


def _gaussian(ranges: Mapping[str, tuple[float, float]]) -> dict[str, Any]:
    return {
        name: {
            "distribution": "normal",
            "low": (low + high) / 2,
            "high": (high - low) / 4,
            "source": _CODE,
        }
        for name, (low, high) in ranges.items()
    }


def _uniform(ranges: Mapping[str, tuple[float, float]]) -> dict[str, Any]:
    return {
        name: {"distribution": "uniform", "low": low, "high": high, "source": "ranges of the study"}
        for name, (low, high) in ranges.items()
    }


def _fixed(value: float, source: str) -> dict[str, Any]:
    return {"distribution": "fixed", "low": value, "source": source}


_PROTOCOL = {
    "kind": "evoked",
    "tmin": -0.2,
    "tmax": 1.0,
    "sfreq": 100.0,
    "l_freq": 0.0,
    "h_freq": 40.0,
    "region": "caudalmiddlefrontal-lh",
    "components": 1,
    "demean": True,
}
_DRIVE = {"drive": _fixed(120.0, "Jansen and Rit 1995: 120 to 320 /s")}


def _consistent(prior: dict[str, Any]) -> dict[str, Any]:
    return {
        "model": "jansen_rit",
        "column": {"stimulus": {"pyramidal": 1.0}},
        "protocol": _PROTOCOL,
        "prior": {**prior, **_DRIVE},
    }


#: Tables of the studies by name.
PRESETS: Mapping[str, dict[str, Any]] = {
    "tilwani2025_asis": {
        "model": "tilwani_2025",
        "column": {
            "stimulus": {"pyramidal": 1.0, "inhibition": 1.0, "interneurons": 0.56},
            "trials": 59,
            "interval": 1.0,
            "settle": 0.68,  # the first pulse comes 1 s after the beginning
            "rest": "zero",
            "scheme": "euler",
        },
        "protocol": _PROTOCOL,
        "prior": _gaussian(_PAPER),
    },
    "tilwani2025_consistent": _consistent(_gaussian(_PAPER)),
    "tilwani2025_consistent_wide": _consistent(_uniform({**_WIDE, **_SHARES})),
    "tilwani2025_consistent_narrow": _consistent(_uniform({**_NARROW, **_SHARES})),
    "column5_wide": _consistent(_uniform(_WIDE)),
    "column5_narrow": _consistent(_uniform(_NARROW)),
}

"""Synapses from EEG: source activity and calibrated posteriors of neural mass models.

The main job is :func:`infer`; :func:`demo` runs it on a recording with known parameters.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version as _version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nmm_infer.demonstration import demo
    from nmm_infer.errors import InputError
    from nmm_infer.inference import load_estimator
    from nmm_infer.models import load_models, register_model
    from nmm_infer.observation import observe, read_recording
    from nmm_infer.parameters import Parameter, Prior
    from nmm_infer.report import write_report, write_results
    from nmm_infer.simulation import simulate
    from nmm_infer.study import Study
    from nmm_infer.virtual import simulate_raw
    from nmm_infer.workflow import Result, infer

__version__ = _version("nmm-infer")

# Loaded on first use: importing the package costs nothing.
_WHERE = {
    "InputError": "errors",
    "Parameter": "parameters",
    "Prior": "parameters",
    "Result": "workflow",
    "Study": "study",
    "demo": "demonstration",
    "infer": "workflow",
    "load_estimator": "inference",
    "load_models": "models",
    "observe": "observation",
    "read_recording": "observation",
    "register_model": "models",
    "simulate": "simulation",
    "simulate_raw": "virtual",
    "write_report": "report",
    "write_results": "report",
}

__all__ = [
    "InputError",
    "Parameter",
    "Prior",
    "Result",
    "Study",
    "demo",
    "infer",
    "load_estimator",
    "load_models",
    "observe",
    "read_recording",
    "register_model",
    "simulate",
    "simulate_raw",
    "write_report",
    "write_results",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'nmm_infer' has no attribute {name!r}")
    return getattr(import_module(f"nmm_infer.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_WHERE])

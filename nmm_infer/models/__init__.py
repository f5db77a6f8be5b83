"""Neural mass models: one file each, registered by name."""

from nmm_infer.models.base import (
    Constant,
    Model,
    Output,
    State,
    get_model,
    load_models,
    model_names,
    register_model,
)
from nmm_infer.models.david_2006 import DAVID_2006
from nmm_infer.models.david_friston import DAVID_FRISTON
from nmm_infer.models.jansen_rit import JANSEN_RIT
from nmm_infer.models.stability import growth_rates, resting_states, stable_rest
from nmm_infer.models.thalamocortical import THALAMOCORTICAL
from nmm_infer.models.tilwani_2025 import TILWANI_2025
from nmm_infer.models.wendling import WENDLING

__all__ = [
    "DAVID_2006",
    "DAVID_FRISTON",
    "JANSEN_RIT",
    "THALAMOCORTICAL",
    "TILWANI_2025",
    "WENDLING",
    "Constant",
    "Model",
    "Output",
    "State",
    "get_model",
    "growth_rates",
    "load_models",
    "model_names",
    "register_model",
    "resting_states",
    "stable_rest",
]

"""Neural mass models: one file each, registered by name."""

from nmm_infer.models.base import Constant, Model, get_model, register_model
from nmm_infer.models.jansen_rit import JANSEN_RIT

__all__ = ["JANSEN_RIT", "Constant", "Model", "get_model", "register_model"]

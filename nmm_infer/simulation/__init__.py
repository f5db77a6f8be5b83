"""The engine: a model declaration becomes a batched, coupled kernel."""

from nmm_infer.simulation.engine import Clock, integrate
from nmm_infer.simulation.stimulus import volley

__all__ = ["Clock", "integrate", "volley"]

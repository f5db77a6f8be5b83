"""The engine: a model declaration becomes a batched, delay-coupled kernel."""

from nmm_infer.simulation.clock import Clock
from nmm_infer.simulation.engine import Trajectories, integrate
from nmm_infer.simulation.labelled import simulate
from nmm_infer.simulation.network import Connection, Network
from nmm_infer.simulation.stimulus import Course, Pulse, Stimulus, Volley

__all__ = [
    "Clock",
    "Connection",
    "Course",
    "Network",
    "Pulse",
    "Stimulus",
    "Trajectories",
    "Volley",
    "integrate",
    "simulate",
]

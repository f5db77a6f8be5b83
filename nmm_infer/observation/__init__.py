"""Observations: recordings and simulations through one protocol."""

from nmm_infer.observation.noise import Noise, noise_from_baseline, noise_from_level
from nmm_infer.observation.observation import Observation
from nmm_infer.observation.observer import Observer, Sequences, View
from nmm_infer.observation.prepare import Recording, observe
from nmm_infer.observation.protocol import EvokedProtocol, Protocol, SpontaneousProtocol
from nmm_infer.observation.readers import read_recording

__all__ = [
    "EvokedProtocol",
    "Noise",
    "Observation",
    "Observer",
    "Protocol",
    "Recording",
    "Sequences",
    "SpontaneousProtocol",
    "View",
    "noise_from_baseline",
    "noise_from_level",
    "observe",
    "read_recording",
]

"""Observations: recordings and simulations through one protocol."""

from nmm_infer.observation.bids import read_bids
from nmm_infer.observation.noise import (
    Blinks,
    BrainBackground,
    ElectrodePops,
    LineNoise,
    Mixture,
    Noise,
    NoiseKind,
    NoiseLevels,
    NoiseSource,
    SlowDrifts,
    level_for_snr,
    levels_for,
    noise_from_baseline,
    noise_from_covariance,
    noise_from_level,
    power_law_noise,
    scale_to_snr,
    snr_db,
    white_noise,
)
from nmm_infer.observation.observation import Observation
from nmm_infer.observation.observer import Observer, Sequences, View
from nmm_infer.observation.prepare import Recording, observe
from nmm_infer.observation.protocol import EvokedProtocol, Protocol, SpontaneousProtocol
from nmm_infer.observation.readers import read_recording

__all__ = [
    "Blinks",
    "BrainBackground",
    "ElectrodePops",
    "EvokedProtocol",
    "LineNoise",
    "Mixture",
    "Noise",
    "NoiseKind",
    "NoiseLevels",
    "NoiseSource",
    "Observation",
    "Observer",
    "Protocol",
    "Recording",
    "Sequences",
    "SlowDrifts",
    "SpontaneousProtocol",
    "View",
    "level_for_snr",
    "levels_for",
    "noise_from_baseline",
    "noise_from_covariance",
    "noise_from_level",
    "observe",
    "power_law_noise",
    "read_bids",
    "read_recording",
    "scale_to_snr",
    "snr_db",
    "white_noise",
]

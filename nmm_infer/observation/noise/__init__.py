"""Sensor noise: Gaussian, artefacts, the brain's background, mixtures, and its level."""

from nmm_infer.observation.noise.artefacts import Blinks, ElectrodePops, LineNoise, SlowDrifts
from nmm_infer.observation.noise.background import BrainBackground
from nmm_infer.observation.noise.gaussian import (
    Noise,
    noise_from_baseline,
    noise_from_covariance,
    noise_from_level,
    power_law_noise,
    white_noise,
    widening,
)
from nmm_infer.observation.noise.levels import NoiseKind, NoiseLevels, levels_for
from nmm_infer.observation.noise.mixture import Mixture, NoiseSource
from nmm_infer.observation.noise.snr import level_for_snr, scale_to_snr, snr_db

__all__ = [
    "Blinks",
    "BrainBackground",
    "ElectrodePops",
    "LineNoise",
    "Mixture",
    "Noise",
    "NoiseKind",
    "NoiseLevels",
    "NoiseSource",
    "SlowDrifts",
    "level_for_snr",
    "levels_for",
    "noise_from_baseline",
    "noise_from_covariance",
    "noise_from_level",
    "power_law_noise",
    "scale_to_snr",
    "snr_db",
    "white_noise",
    "widening",
]

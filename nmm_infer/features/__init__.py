"""Named features of time series and spectra: what an analysis reads instead of all samples."""

from nmm_infer.features.connectivity import coherence, correlation
from nmm_infer.features.describe import describe
from nmm_infer.features.evoked import EVOKED, evoked_features
from nmm_infer.features.registry import FEATURES, Feature, find
from nmm_infer.features.spectrum import BANDS, SPECTRUM, power_spectrum, spectrum_features

__all__ = [
    "BANDS",
    "EVOKED",
    "FEATURES",
    "SPECTRUM",
    "Feature",
    "coherence",
    "correlation",
    "describe",
    "evoked_features",
    "find",
    "power_spectrum",
    "spectrum_features",
]

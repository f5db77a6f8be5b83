"""How far an answer can be trusted."""

from nmm_infer.diagnostics.calibration import MAX_GAP, calibrate, rank_band
from nmm_infer.diagnostics.recording import misspecification, predictive_check

__all__ = ["MAX_GAP", "calibrate", "misspecification", "predictive_check", "rank_band"]

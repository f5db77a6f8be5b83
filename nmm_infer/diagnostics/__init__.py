"""How far an answer can be trusted."""

from nmm_infer.diagnostics.c2st import c2st_distance
from nmm_infer.diagnostics.calibration import MAX_GAP, calibrate, rank_band
from nmm_infer.diagnostics.recording import misspecification, predictive_check
from nmm_infer.diagnostics.reliability import logistic_baseline, reliability, resemblance
from nmm_infer.diagnostics.scores import (
    holm,
    paired_comparison,
    score,
    score_estimator,
    score_table,
)

__all__ = [
    "MAX_GAP",
    "c2st_distance",
    "calibrate",
    "holm",
    "logistic_baseline",
    "misspecification",
    "paired_comparison",
    "predictive_check",
    "rank_band",
    "reliability",
    "resemblance",
    "score",
    "score_estimator",
    "score_table",
]

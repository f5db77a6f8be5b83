"""Estimators: point regressors, neural posteriors, and the baseline they must beat."""

from nmm_infer.inference.base import Estimator, PosteriorMixin, load_estimator, versions
from nmm_infer.inference.posterior import PosteriorEstimator
from nmm_infer.inference.regressor import Regressor
from nmm_infer.inference.ridge import RidgeGaussian

__all__ = [
    "Estimator",
    "PosteriorEstimator",
    "PosteriorMixin",
    "Regressor",
    "RidgeGaussian",
    "load_estimator",
    "versions",
]

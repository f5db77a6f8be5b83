"""Estimators: point regressors, neural posteriors, and the baseline they must beat."""

from nmm_infer.inference._likelihood import Likelihood
from nmm_infer.inference.base import Estimator, PosteriorMixin, load_estimator, versions
from nmm_infer.inference.boosting import GradientBoosting
from nmm_infer.inference.comparison import ModelComparison
from nmm_infer.inference.conformal import Conformal, ConformalMixin
from nmm_infer.inference.ensemble import Ensemble
from nmm_infer.inference.families import FAMILIES
from nmm_infer.inference.flow_matching import FlowMatching
from nmm_infer.inference.joined import JoinedView
from nmm_infer.inference.least_squares import (
    least_squares_from_truth,
    nonlinear_least_squares,
)
from nmm_infer.inference.likelihood import GaussianLikelihood
from nmm_infer.inference.nearest import NearestNeighbour
from nmm_infer.inference.posterior import PosteriorEstimator
from nmm_infer.inference.prior_mean import PriorMean
from nmm_infer.inference.reference import (
    ReferencePosterior,
    certify,
    ranks_uniform,
    reference_posterior,
)
from nmm_infer.inference.refine import Refined, RefinedPosterior, refine
from nmm_infer.inference.regressor import Regressor
from nmm_infer.inference.ridge import RidgeGaussian

__all__ = [
    "FAMILIES",
    "Conformal",
    "ConformalMixin",
    "Ensemble",
    "Estimator",
    "FlowMatching",
    "GaussianLikelihood",
    "GradientBoosting",
    "JoinedView",
    "Likelihood",
    "ModelComparison",
    "NearestNeighbour",
    "PosteriorEstimator",
    "PosteriorMixin",
    "PriorMean",
    "ReferencePosterior",
    "Refined",
    "RefinedPosterior",
    "Regressor",
    "RidgeGaussian",
    "certify",
    "least_squares_from_truth",
    "load_estimator",
    "nonlinear_least_squares",
    "ranks_uniform",
    "reference_posterior",
    "refine",
    "versions",
]

"""Global sensitivity analysis with SALib, over any task and any prior."""

from nmm_infer.sensitivity import plots
from nmm_infer.sensitivity.design import SensitivityDesign
from nmm_infer.sensitivity.identifiability import compare_with_posterior, identifiability
from nmm_infer.sensitivity.methods import METHODS
from nmm_infer.sensitivity.survey import analyse, convergence, overall, survey

__all__ = [
    "METHODS",
    "SensitivityDesign",
    "analyse",
    "compare_with_posterior",
    "convergence",
    "identifiability",
    "overall",
    "plots",
    "survey",
]

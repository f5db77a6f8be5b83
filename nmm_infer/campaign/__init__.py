"""A generic, resumable campaign of runs. It knows no model."""

from nmm_infer.campaign.design import ArrayDesign, Design, PriorDesign
from nmm_infer.campaign.result import Campaign
from nmm_infer.campaign.running import run
from nmm_infer.campaign.task import DIVERGED, FAILED, OK, PENDING, REJECTED, Task, Variable

__all__ = [
    "DIVERGED",
    "FAILED",
    "OK",
    "PENDING",
    "REJECTED",
    "ArrayDesign",
    "Campaign",
    "Design",
    "PriorDesign",
    "Task",
    "Variable",
    "run",
]

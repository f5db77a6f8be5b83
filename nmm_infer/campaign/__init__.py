"""A generic, resumable campaign of runs. It knows no model."""

from nmm_infer.campaign.store import Campaign, run
from nmm_infer.campaign.task import DIVERGED, OK, PENDING, Task, Variable

__all__ = ["DIVERGED", "OK", "PENDING", "Campaign", "Task", "Variable", "run"]

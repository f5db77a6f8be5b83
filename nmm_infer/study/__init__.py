"""What an answer depends on beside the recording."""

from nmm_infer.study.column import ColumnSettings
from nmm_infer.study.presets import PRESETS
from nmm_infer.study.priors import PriorRange
from nmm_infer.study.study import Budget, ConnectomeSettings, Study

__all__ = [
    "PRESETS",
    "Budget",
    "ColumnSettings",
    "ConnectomeSettings",
    "PriorRange",
    "Study",
]

"""Heads, regions, lead fields and connectomes; MNE does the physics."""

from __future__ import annotations

from nmm_infer.anatomy.connectome import (
    desikan_killiany_connectome,
    read_connectome,
    row_normalised,
    single_column,
)
from nmm_infer.anatomy.head import Head
from nmm_infer.anatomy.patch import patch_head
from nmm_infer.anatomy.positions import Placement, place_electrodes
from nmm_infer.anatomy.sensors import SensorOperator
from nmm_infer.anatomy.settings import HeadSettings
from nmm_infer.anatomy.sources import Sources
from nmm_infer.anatomy.template import template_head

__all__ = [
    "Head",
    "HeadSettings",
    "Placement",
    "SensorOperator",
    "Sources",
    "desikan_killiany_connectome",
    "patch_head",
    "place_electrodes",
    "read_connectome",
    "row_normalised",
    "single_column",
    "template_head",
]

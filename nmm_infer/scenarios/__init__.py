"""What is simulated for training and testing."""

from nmm_infer.scenarios.bank import Bank
from nmm_infer.scenarios.blobs import Blobs
from nmm_infer.scenarios.column import ColumnTask
from nmm_infer.scenarios.features import FeatureTask
from nmm_infer.scenarios.network import NetworkTask
from nmm_infer.scenarios.patches import Patches
from nmm_infer.scenarios.truth import ActiveSource, Scenario, Truth
from nmm_infer.scenarios.waveforms import SEIZURE, WAVEFORMS, WaveformTask
from nmm_infer.scenarios.windows import Windows
from nmm_infer.scenarios.zones import Regions, Zones

__all__ = [
    "SEIZURE",
    "WAVEFORMS",
    "ActiveSource",
    "Bank",
    "Blobs",
    "ColumnTask",
    "FeatureTask",
    "NetworkTask",
    "Patches",
    "Regions",
    "Scenario",
    "Truth",
    "WaveformTask",
    "Windows",
    "Zones",
]

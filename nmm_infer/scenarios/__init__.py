"""What is simulated for training and testing."""

from nmm_infer.scenarios.features import FeatureTask
from nmm_infer.scenarios.network import NetworkTask

__all__ = ["FeatureTask", "NetworkTask"]

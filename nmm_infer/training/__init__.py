"""The training loop."""

from nmm_infer.training.loop import TrainingSettings, train

__all__ = ["TrainingSettings", "train"]

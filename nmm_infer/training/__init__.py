"""The training loop."""

from nmm_infer.training.loop import train

__all__ = ["train"]

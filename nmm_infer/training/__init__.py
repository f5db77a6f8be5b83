"""The training loop."""

from nmm_infer.training.loop import train
from nmm_infer.training.shards import Shards, read

__all__ = ["Shards", "read", "train"]

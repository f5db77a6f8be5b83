"""Torch modules, one architecture a file."""

from nmm_infer.networks.encoder import Encoder
from nmm_infer.networks.recurrent import BiLSTM
from nmm_infer.networks.standardise import Standardise
from nmm_infer.networks.transformer import Transformer

__all__ = ["BiLSTM", "Encoder", "Standardise", "Transformer"]

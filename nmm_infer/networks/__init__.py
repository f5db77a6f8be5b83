"""Torch modules, one architecture a file."""

from nmm_infer.networks.convolution import Convolution
from nmm_infer.networks.embedding import Embedding
from nmm_infer.networks.encoder import Encoder
from nmm_infer.networks.features import FeatureEncoder
from nmm_infer.networks.mlp import MLP
from nmm_infer.networks.recurrent import LSTM, BiLSTM
from nmm_infer.networks.standardise import Standardise, Standardised
from nmm_infer.networks.transformer import Transformer

__all__ = [
    "LSTM",
    "MLP",
    "BiLSTM",
    "Convolution",
    "Embedding",
    "Encoder",
    "FeatureEncoder",
    "Standardise",
    "Standardised",
    "Transformer",
]

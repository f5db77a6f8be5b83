"""Synapses from EEG and MEG: simulation-based inference with neural mass models."""

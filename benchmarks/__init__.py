"""Measurements of speed and accuracy: commands, each with a results file and a table."""

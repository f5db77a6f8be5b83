"""Recordings as people have them: from files and arrays to channels, events and units."""

from nmm_infer.observation.recording.arrays import recording_from_array
from nmm_infer.observation.recording.bids import read_bids
from nmm_infer.observation.recording.events import Names, find_events
from nmm_infer.observation.recording.files import read_recording
from nmm_infer.observation.recording.kinds import Recording
from nmm_infer.observation.recording.montages import set_montage

__all__ = [
    "Names",
    "Recording",
    "find_events",
    "read_bids",
    "read_recording",
    "recording_from_array",
    "set_montage",
]

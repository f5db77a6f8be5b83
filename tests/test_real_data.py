"""A real recording: 32 channels, 80 visual targets (EEGLAB's tutorial data)."""

from __future__ import annotations

import re
from pathlib import Path

import mne
import pytest
from test_workflow import _tiny

from nmm_infer.observation import read_recording
from nmm_infer.workflow import infer


@pytest.fixture(scope="module")
def recording(data_folder: Path) -> mne.io.BaseRaw:
    path = data_folder / "eeglab_visual" / "eeglab_data.set"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    return read_recording(path)


def test_a_visual_response_is_occipital(recording: mne.io.BaseRaw) -> None:
    result = infer(recording, _tiny(), events="square", progress=False)
    notes = " ".join(result.observation.notes)
    assert re.search(r"Left out EOG1, EOG2: ", notes)
    assert not {"EOG1", "EOG2"} & set(result.observation.head.channels)
    assert len(result.observation.head.channels) == 30
    assert result.observation.n_averages > 50
    assert re.match("lateraloccipital|pericalcarine|cuneus|lingual|fusiform", result.region)

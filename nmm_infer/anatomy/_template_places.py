"""Where the template has the places of the 10-05 system, and its fiducials."""

from __future__ import annotations

import mne
import numpy as np
from numpy.typing import NDArray

from nmm_infer.anatomy._package_data import mne_fsaverage_file

__all__ = ["template_fiducials", "template_positions"]

_MONTAGE = "fsaverage_1005"


def template_positions() -> dict[str, NDArray[np.float64]]:
    """Read the 335 places of the 10-05 system on fsaverage's scalp.

    Returns
    -------
    dict
        Name to position, metres, head frame of the template.

    References
    ----------
    MNE's montage ``fsaverage_1005`` (10-05 places found on fsaverage's own head surface), taken
    from fsaverage's surface RAS to its head frame with MNE's ``fsaverage-trans.fif``.
    """
    positions = mne.channels.make_standard_montage(_MONTAGE).get_positions()["ch_pos"]
    moved = mne.transforms.apply_trans(_mri_to_head(), np.array(list(positions.values())))
    return dict(zip(positions, moved, strict=True))


def _mri_to_head() -> NDArray[np.float64]:
    trans = mne.read_trans(mne_fsaverage_file("fsaverage-trans.fif"), verbose="error")
    matrix: NDArray[np.float64] = mne.transforms.invert_transform(trans)["trans"]
    return matrix


def template_fiducials() -> dict[str, NDArray[np.float64]]:
    """Read nasion, lpa and rpa of the template, metres, head frame."""
    path = mne_fsaverage_file("fsaverage-fiducials.fif")
    points, _ = mne.io.read_fiducials(path, verbose="error")
    names = {1: "lpa", 2: "nasion", 3: "rpa"}
    to_head = _mri_to_head()
    return {
        names[int(point["ident"])]: mne.transforms.apply_trans(to_head, point["r"])
        for point in points
    }

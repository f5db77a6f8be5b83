"""The template head: everything from installed packages, nothing downloaded."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import mne
import numpy as np

from nmm_infer.anatomy import _layers
from nmm_infer.anatomy._cache import cache_folder, cached, fingerprint
from nmm_infer.anatomy._labels import SUBJECT, desikan_killiany_labels
from nmm_infer.anatomy._layers import template_layers
from nmm_infer.anatomy._package_data import (
    HEMIS,
    fsaverage5_file,
    label_file,
    load_fsaverage5,
    mne_fsaverage_file,
)
from nmm_infer.anatomy.head import Head
from nmm_infer.anatomy.positions import place_electrodes
from nmm_infer.errors import InputError

__all__ = ["template_head"]

_LOG = logging.getLogger(__name__)
_CONDUCTIVITY = (0.3, 0.006, 0.3)
_SPACING = "ico4"
_CONSTRUCTION = "1"  # raise it whenever the code below, or in _layers, gives other numbers
_NOTE = (
    "Template head, not the person's own: fsaverage5 white surface, Desikan-Killiany regions, "
    "three-layer BEM (.3, .006, .3 S/m, 642 vertices a layer). Its outer skull is a construction "
    "of this package, half way between MNE's fsaverage inner skull and head surface with the gap "
    "counted as 22 mm at most."
)


def template_head(info: mne.Info, cache_dir: str | os.PathLike[str] | None = None) -> Head:
    """Make the template head as the EEG channels of a recording see it.

    fsaverage5's white surface, one source about every 6 mm (MNE's ico4 spacing) without the medial
    wall, moments along the outward normals, and a three-layer boundary element model (.3, .006,
    .3 S/m; 642 vertices a layer) computed by MNE. Inner skull and head surface are MNE's own
    fsaverage surfaces; **the outer skull between them is a construction of this package**, half way
    along rays from the centre, the gap counted as 22 mm at most. Electrodes are placed by
    `place_electrodes` and projected onto the scalp.

    The first call computes for up to a minute; the conductor model and the source space are kept in
    the user's cache, and so is the forward model of every set of channels.

    Parameters
    ----------
    info : mne.Info
        The recording's. Its EEG channels are used, bad ones included; those that cannot be placed
        are left out, and ``Head.notes`` names them.
    cache_dir : path-like, optional
        Where to keep what was computed; by default ``NMM_INFER_CACHE`` or the user's cache folder.

    Returns
    -------
    Head
        The 68 Desikan-Killiany regions, about 5,000 vertices, and the channels in the order of
        `info`.

    Raises
    ------
    InputError
        If there is no EEG channel, or none can be placed.
    """
    placement = place_electrodes(info)
    positions = placement.montage.get_positions()["ch_pos"]
    if not positions:
        raise InputError(_nothing_placed(placement.dropped))
    for note in placement.notes:
        _LOG.info(note)
    channels = _eeg_info(placement.montage)
    folder = cache_folder(cache_dir)
    key = _construction_key()
    where = np.round(np.array(list(positions.values())), 7)
    forward_key = fingerprint(key, "\0".join(positions), where.tobytes())
    forward = cached(
        folder / f"template-{forward_key}-fwd.fif",
        build=lambda: _forward(channels, folder, key),
        write=lambda path, made: mne.write_forward_solution(path, made, verbose="error"),
        read=lambda path: mne.read_forward_solution(path, verbose="error"),
    )
    labels = desikan_killiany_labels()
    # Orientation first: patch normals are those of the whole surface. Then the wall goes.
    fixed = mne.convert_forward_solution(forward, surf_ori=True, force_fixed=True, verbose="error")
    cortex = mne.forward.restrict_forward_to_label(fixed, labels)
    return Head.from_forward(cortex, labels, notes=(_NOTE, *placement.notes))


def _nothing_placed(dropped: list[str]) -> str:
    if not dropped:
        return "The recording has no EEG channel: set the channel types (raw.set_channel_types)."
    return (
        f"None of the {len(dropped)} EEG channels can be placed on the head: their names are not "
        "those of the 10-05 system (Fp1, Cz, ...) and no positions are recorded. Set a montage "
        "first, e.g. raw.set_montage('biosemi64')."
    )


def _eeg_info(montage: mne.channels.DigMontage) -> mne.Info:
    """Make an Info of the placed electrodes alone, without a reference electrode."""
    info = mne.create_info(list(montage.ch_names), sfreq=1000.0, ch_types="eeg", verbose="error")
    info.set_montage(montage, verbose="error")
    for channel in info["chs"]:
        channel["loc"][3:6] = np.nan
    return info


@cache
def _construction_key() -> str:
    """Hash of everything that the conductor model and the source space are made from."""
    files = [fsaverage5_file(kind, hemi) for kind in ("white", "sphere") for hemi in HEMIS]
    files += [label_file(hemi) for hemi in HEMIS]
    files += [
        mne_fsaverage_file(f"fsaverage-{name}.fif")
        for name in ("inner_skull-bem", "head", "trans", "fiducials")
    ]
    settings = (_CONDUCTIVITY, _SPACING, _layers.GAP_CAP_MM, _layers.SKULL_SHARE)
    return fingerprint(_CONSTRUCTION, mne.__version__, repr(settings), *files)


def _forward(info: mne.Info, folder: Path, key: str) -> mne.Forward:
    """Compute the free-orientation forward model of all 5,124 vertices."""
    source_space = cached(
        folder / f"template-{key}-src.fif",
        build=_source_space,
        write=lambda path, made: made.save(path, verbose="error"),
        read=lambda path: mne.read_source_spaces(path, verbose="error"),
    )
    conductor = cached(
        folder / f"template-{key}-bem-sol.fif",
        build=_conductor,
        write=lambda path, made: mne.write_bem_solution(path, made, verbose="error"),
        read=lambda path: mne.read_bem_solution(path, verbose="error"),
    )
    trans = mne.read_trans(mne_fsaverage_file("fsaverage-trans.fif"), verbose="error")
    return mne.make_forward_solution(
        info, trans, source_space, conductor, meg=False, eeg=True, mindist=0.0, verbose="error"
    )


@contextmanager
def _subject_folder(kind: str) -> Iterator[Path]:
    """Open a subjects_dir for as long as the block; yields the subject's `kind` folder."""
    with tempfile.TemporaryDirectory() as subjects_dir:
        folder = Path(subjects_dir) / SUBJECT / kind
        folder.mkdir(parents=True)
        yield folder


def _source_space() -> mne.SourceSpaces:
    """Take 2,562 vertices of each white surface, with their patches."""
    with _subject_folder("surf") as folder:
        for hemi in HEMIS:
            for kind in ("white", "sphere"):
                mne.write_surface(folder / f"{hemi}.{kind}", *load_fsaverage5(kind, hemi))
        return mne.setup_source_space(
            SUBJECT,
            spacing=_SPACING,
            surface="white",
            subjects_dir=folder.parents[1],
            add_dist="patch",
            verbose="error",
        )


def _conductor() -> mne.bem.ConductorModel:
    """Compute the three-layer model; MNE checks that no surface crosses another."""
    _LOG.info("Computing the template's conductor model, once: some ten seconds.")
    layers = template_layers()
    with _subject_folder("bem") as folder:
        for name in ("inner_skull", "outer_skull", "outer_skin"):
            mne.write_surface(folder / f"{name}.surf", getattr(layers, name), layers.faces)
        model = mne.make_bem_model(
            SUBJECT,
            ico=None,
            conductivity=_CONDUCTIVITY,
            subjects_dir=folder.parents[1],
            verbose="error",
        )
    return mne.make_bem_solution(model, verbose="error")

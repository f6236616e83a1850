"""Environments: shapes, walls, holes, and conversion from and to RatInABox."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import shapely

from hfjax import arena, figures
from tests.against_ratinabox import RatInABoxEnvironment

SQUARE_HOLE = [[0.4, 0.4], [0.6, 0.4], [0.6, 0.6], [0.4, 0.6]]


def test_environments_survive_conversion_from_and_to_ratinabox():
    theirs = RatInABoxEnvironment({"scale": 2.0, "aspect": 1.5, "holes": [SQUARE_HOLE]})
    theirs.add_wall([[1.0, 0.0], [1.0, 1.5]])
    ours = arena.from_ratinabox(theirs)
    assert ours.extent == ((0, 3), (0, 2))
    assert ours.inner_walls.tolist() == [[[1.0, 0.0], [1.0, 1.5]]]
    again = arena.to_ratinabox(ours)
    assert again.is_rectangular
    assert {w.tobytes() for w in again.walls} == {w.tobytes() for w in theirs.walls}
    np.testing.assert_array_equal(ours.walls, again.walls)
    triangle = arena.polygon([[-1, 0], [1, 0], [0, 1]])
    np.testing.assert_array_equal(
        arena.from_ratinabox(arena.to_ratinabox(triangle)).boundary, triangle.boundary
    )
    ring = arena.from_ratinabox(arena.to_ratinabox(arena.track(0.7, periodic=True)))
    assert ring.extent == ((0, 0.7),)
    assert ring.periodic
    with pytest.raises(ValueError, match="must have a corner at the origin"):
        arena.to_ratinabox(arena.box(1.0, periodic=True, centred=True))


def test_walls_across_a_box_of_any_size_survive_conversion():
    """RatInABox's width is scale times aspect, which rounds."""
    sizes = np.random.default_rng(0).uniform(0.3, 3, (20, 2))
    assert 1.74 / 1.5 * 1.5 < 1.74
    for width, height in [(1.74, 1.5), (1.9, 1.21), (1.74, 1.1), *sizes.tolist()]:
        walls = [[[0.0, height / 3], [width, height / 3]], [[width / 3, 0.0], [width / 3, height]]]
        ours = arena.box(width, height, inner_walls=walls)
        again = arena.from_ratinabox(arena.to_ratinabox(ours))
        np.testing.assert_allclose(again.walls, ours.walls, rtol=1e-15)


def test_closed_outlines_and_repeated_corners_are_the_same_environment():
    """As shapely's `exterior.coords` and drawings on a screen give them."""
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    again = [0, 0, 1, 2, 2, 2, 3, 0]
    plain = arena.polygon(corners, holes=[SQUARE_HOLE])
    for periodic in (False, True):
        repeated = arena.polygon(
            shapely.Polygon(corners[again]).exterior.coords,
            holes=[np.array(SQUARE_HOLE)[again]],
            periodic=periodic,
        )
        np.testing.assert_array_equal(repeated.boundary, corners)
        np.testing.assert_array_equal(repeated.holes[0], SQUARE_HOLE)
        lengths = np.linalg.norm(repeated.walls[:, 1] - repeated.walls[:, 0], axis=-1)
        assert len(lengths) == 4 * (2 - periodic)
        assert lengths.min() > 0.1
    np.testing.assert_array_equal(plain.walls, arena.polygon(corners, holes=[SQUARE_HOLE]).walls)
    nearly = arena.polygon([*corners.tolist(), [1e-12, 1e-12]])
    np.testing.assert_array_equal(nearly.boundary, corners)
    theirs = RatInABoxEnvironment({"boundary": corners[again].tolist()})
    np.testing.assert_array_equal(arena.from_ratinabox(theirs).boundary, corners)


@pytest.mark.parametrize(
    ("corners", "sentence"),
    [
        ([[0, 2], [0, 1e9], [0, 0], [1, 0]], "must not cross itself or be flat"),  # a side dropped
        ([[0, 0], [0, 1e154], [1e154, 0]], "must have finite corners within 1e9 m"),
        ([[5e5, 4e6], [5e5 + 1, 4e6], [5e5, 4e6 + 1]], r"within 10000 times its extent \(1 m\)"),
    ],
)
def test_boundaries_that_float32_cannot_resolve_are_refused(corners, sentence):
    with pytest.raises(ValueError, match=sentence):
        arena.polygon(corners)


@pytest.mark.parametrize("turns", [1, -1], ids=["counter-clockwise", "clockwise"])
def test_positions_on_a_side_are_inside_as_shapely_has_it(turns):
    corners, hole = np.array([[0, 0], [2, 0], [2, 1], [1, 1], [1, 2], [0, 2]]), SQUARE_HOLE
    environment = arena.polygon(corners[::turns], holes=[hole[::turns]])
    space = shapely.Polygon(corners, [hole])
    side = np.linspace(-0.1, 2.1, 23).round(1)
    places = np.stack(np.meshgrid(side, side), axis=-1)
    np.testing.assert_array_equal(
        arena.contains(environment, places), shapely.covers(space, shapely.points(places))
    )
    off = np.array([[-1e-5, 1.0], [0.5, 0.4 + 1e-5], [np.nan, 0.5], [np.inf, 0.5]])
    assert not arena.contains(environment, off).any()


def test_positions_are_uniform_over_the_free_area():
    environment = arena.polygon(
        [[0, 0], [2, 0], [2, 1], [1, 1], [1, 2], [0, 2]], holes=[SQUARE_HOLE]
    )
    positions = arena.uniform_positions(jax.random.key(0), environment, 20_000)
    assert bool(arena.contains(environment, positions).all())
    lattice = jnp.stack(jnp.meshgrid(*[jnp.linspace(0.0125, 1.9875, 80)] * 2), axis=-1)
    # The L has an area of 3, the hole one of 0.04; a cell of the lattice 0.025 squared.
    assert float(arena.contains(environment, lattice).sum()) * 0.025**2 == pytest.approx(2.96)
    share = np.mean((np.asarray(positions) < 1).all(axis=-1))
    assert share == pytest.approx(0.96 / 2.96, abs=5 * np.sqrt(0.22 / 20_000))
    assert np.mean(np.asarray(positions)[:, 0]) == pytest.approx(
        (3 * 2.5 / 3 - 0.04 * 0.5) / 2.96, abs=0.02
    )


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: arena.box(1.0, inner_walls=[[[0.5, 0.5], [1.5, 0.5]]]), "is not inside"),
        (lambda: arena.box(1.0, inner_walls=[[[0.5, np.nan], [0.6, 0.5]]]), "is not inside"),
        (lambda: arena.box(1.0, inner_walls=[[[0.5, 0.5], [1 + 1e-8, 0.5]]]), "is not inside"),
        (lambda: arena.box(1.0, inner_walls=[[[0.5, 0.5], [0.5, 0.5]]]), "has no length"),
        (lambda: arena.box(holes=[SQUARE_HOLE, [[0.5, 0.5], [0.8, 0.5], [0.8, 0.8]]]), "overlap"),
        (lambda: arena.polygon([[0, 0], [1, 1], [1, 0], [0, 1]]), "cross itself"),
        (lambda: arena.polygon([[0, 0], [1, 1]]), "three corners"),
        (lambda: arena.polygon([[0, 0], [1, 1], [1, 1], [0, 0]]), "three different corners"),
        (lambda: arena.polygon([[0, 0], [0, 0], [0, 0]]), "three different corners"),
        (lambda: arena.polygon([[0, 0], [1], [1, 1]]), "three corners"),
        (lambda: arena.polygon([[0, 0], [1, np.inf], [1, 1]]), "finite"),
        (lambda: arena.box(1.0, inner_walls=[[0.1, 0.1], [0.2, 0.2], [0.3, 0.3]]), "pairs"),
        (lambda: arena.box(1.0, inner_walls=[[[0.5, 0.5], [0.5, 0.5 + 1e-12]]]), "has no length"),
        (lambda: arena.box(1.0, holes=[[[0.5, 0.5], [2, 0.5], [1, 1]]]), "inside"),
        (lambda: arena.polygon([[0, 0], [1, 0], [0, 1]], periodic=True), "rectangle"),
        (lambda: arena.box(-1.0), "width_m must be positive"),
        (
            lambda: figures.arenas(
                {"line": (arena.track(), np.zeros((2, 1)))}, dt_s=0.1, title="Paths"
            ),
            "arenas have two dimensions, but line is a track",
        ),
    ],
)
def test_impossible_environments_are_refused(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()

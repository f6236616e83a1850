"""Lines of sight, geodesics and boundary vector cells."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse.csgraph
import shapely

from hfjax import arena, cells, visibility
from tests.test_cells import MAZE, ROOM, places_in


def test_shortest_ways_worked_by_hand():
    room = visibility.geodesic_sq(ROOM)
    # Around the wall's upper end at (0.4, 0.7); the lower end is shut.
    ways = jnp.sqrt(room(jnp.array([[0.1, 0.3], [0.1, 0.9]]), jnp.array([[0.7, 0.3], [0.5, 0.8]])))
    expected = [[1, 0.5 + np.hypot(0.1, 0.1)], [np.hypot(0.3, 0.2) + 0.5, np.hypot(0.4, 0.1)]]
    np.testing.assert_allclose(ways, expected, atol=1e-6)
    # Along two sides of a square hole: corner to corner, and not through it.
    around = visibility.geodesic_sq(
        arena.box(1.0, holes=[[[0.4, 0.4], [0.6, 0.4], [0.6, 0.6], [0.4, 0.6]]])
    )
    way = jnp.sqrt(around(jnp.array([[0.4, 0.3]]), jnp.array([[0.7, 0.6]])))
    np.testing.assert_allclose(way, [[2 * np.hypot(0.2, 0.1)]], atol=1e-6)
    # The other way round two of its corners, level with its middle.
    way = jnp.sqrt(around(jnp.array([[0.35, 0.5]]), jnp.array([[0.65, 0.5]])))
    np.testing.assert_allclose(way, [[2 * np.hypot(0.05, 0.1) + 0.2]], atol=1e-6)
    # In an L the inner corner of the boundary is one to go around.
    corner = visibility.geodesic_sq(arena.polygon([[0, 0], [2, 0], [2, 1], [1, 1], [1, 2], [0, 2]]))
    way = jnp.sqrt(corner(jnp.array([[0.5, 1.8]]), jnp.array([[1.8, 0.5]])))
    np.testing.assert_allclose(way, [[2 * np.hypot(0.5, 0.8)]], atol=1e-6)
    # Through two gaps on opposite sides.
    maze = arena.box(1.2, 1.0, inner_walls=MAZE.inner_walls)
    way = jnp.sqrt(visibility.geodesic_sq(maze)(jnp.array([[0.1, 0.1]]), jnp.array([[1.1, 0.9]])))
    expected = np.hypot(0.2, 0.6) + np.hypot(0.5, 0.3) + np.hypot(0.3, 0.5)
    np.testing.assert_allclose(way, [[expected]], atol=1e-6)


A_ROOM = np.array([[0.3, 0.3], [0.7, 0.3], [0.7, 0.7], [0.3, 0.7]])


@pytest.mark.parametrize(
    ("walls", "here", "there", "expected"),
    [
        # A T: over the upper end of its bar, since its stem shuts the way round the lower one.
        (
            [[[0.5, 0.2], [0.5, 0.8]], [[0.5, 0.5], [0.9, 0.5]]],
            (0.3, 0.5),
            (0.7, 0.6),
            np.hypot(0.2, 0.3) + np.hypot(0.2, 0.2),
        ),
        # Along the back of the bar from end to end, past the foot of the stem.
        (
            [[[0.5, 0.2], [0.5, 0.8]], [[0.5, 0.5], [0.9, 0.5]]],
            (0.55, 0.1),
            (0.55, 0.9),
            2 * np.hypot(0.05, 0.1) + 0.6,
        ),
        # An L, from within: round its end at (0.3, 0.3), not through its corner.
        (
            [[[0.3, 0.3], [0.7, 0.3]], [[0.7, 0.3], [0.7, 0.7]]],
            (0.6, 0.35),
            (0.8, 0.2),
            np.hypot(0.3, 0.05) + np.hypot(0.5, 0.1),
        ),
        # The same from without, in sight of the corner from both sides of it.
        (
            [[[0.3, 0.3], [0.7, 0.3]], [[0.7, 0.3], [0.7, 0.7]]],
            (0.5, 0.2),
            (0.8, 0.5),
            np.hypot(0.2, 0.1) + np.hypot(0.1, 0.2),
        ),
        # Straight at the corner of the L, from within: it is shut.
        (
            [[[0.3, 0.3], [0.7, 0.3]], [[0.7, 0.3], [0.7, 0.7]]],
            (0.65, 0.35),
            (0.75, 0.25),
            np.hypot(0.35, 0.05) + np.hypot(0.45, 0.05),
        ),
        # From a corner of the box to its middle: round that end.
        ([[[0.0, 0.0], [0.5, 0.5]]], (0.2, 0.1), (0.1, 0.2), 1.0),
        # From side to side, and a closed room: there is no way.
        ([[[0.5, 0.0], [0.5, 1.0]]], (0.3, 0.5), (0.7, 0.5), 1000.0),
        (np.stack([A_ROOM, np.roll(A_ROOM, -1, axis=0)], axis=1), (0.5, 0.45), (0.9, 0.5), 1000.0),
    ],
    ids=["T", "T-back", "L", "L-outside", "L-corner", "from-corner", "across", "room"],
)
def test_no_way_leads_through_where_walls_meet(walls, here, there, expected):
    distance_sq = jax.jit(visibility.geodesic_sq(arena.box(1.0, inner_walls=walls)))
    for a, b in ((here, there), (there, here)):
        way = jnp.sqrt(distance_sq(jnp.array([a]), jnp.array([b])))
        np.testing.assert_allclose(way, [[expected]], rtol=1e-6)


@pytest.mark.parametrize(
    "environment",
    [
        arena.polygon(
            [[0, 0], [1, 0], [1, 1], [0.5, 0.6], [0, 1]],
            holes=[[[0.4, 0.2], [0.6, 0.2], [0.6, 0.4], [0.4, 0.4]]],
        ),
        # Walls that meet, cross, and end on each other or on the boundary.
        arena.box(
            inner_walls=[
                [[0.6, 0.4], [0.0, 0.0]],
                [[0.8, 0.4], [0.8, 1.0]],
                [[0.6, 0.8], [0.6, 0.2]],
                [[0.0, 0.6], [0.2, 0.0]],
            ]
        ),
    ],
    ids=["polygon", "maze"],
)
def test_shortest_ways_are_those_of_a_visibility_graph(environment):
    """Made by shapely, for which no way leads through a hole or along the outside."""
    places = places_in(environment, 50)
    walls = shapely.MultiLineString([*environment.inner_walls]).buffer(1e-7)
    space = shapely.Polygon(environment.boundary, environment.holes).difference(walls)
    nodes = np.concatenate([places, np.unique(shapely.get_coordinates(space), axis=0)])
    lines = shapely.linestrings([[[a, b] for b in nodes] for a in nodes])
    apart = np.where(shapely.covers(space.buffer(1e-9), lines), shapely.length(lines), 0)
    expected = scipy.sparse.csgraph.shortest_path(apart)[:50, :50]
    expected = np.minimum(expected, 1e3)  # unreachable
    assert np.mean(expected > 1e-3 + shapely.length(lines[:50, :50])) > 0.2
    ways = jnp.sqrt(jax.jit(visibility.geodesic_sq(environment))(places, places))
    np.testing.assert_allclose(ways, expected, atol=1e-5)


def on_a_wall(position, environment=None):
    """Rates of cells for a wall at 0 m in the east, north, west and south."""
    tuning = cells.VectorTuning(
        np.zeros(4), np.full(4, 0.02), np.arange(4) * np.pi / 2, np.full(4, 0.2)
    )
    environment = environment or arena.box(1.0)
    return visibility.boundary_vector_cells(position, tuning, environment=environment)


@pytest.mark.optimized
def test_boundary_vector_cells_see_the_wall_under_the_animal():
    """On a wall as a hair in front of it, where half of the rays meet it at once."""
    for turns in (1, -1):  # counter-clockwise and clockwise
        corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])[::turns]
        hole = np.array([[0.4, 0.4], [0.6, 0.4], [0.6, 0.6], [0.4, 0.6]])[::turns]
        room = arena.polygon(corners, holes=[hole])
        for place, inside in [([1, 0.5], [-1, 0]), ([0.3, 0], [0, 1]), ([0.4, 0.5], [-1, 0])]:
            beside = on_a_wall(np.array(place) + 1e-6 * np.array(inside), room)
            np.testing.assert_allclose(on_a_wall(place, room), beside, atol=1e-3)
            assert beside.max() > 0.95
        corner = on_a_wall([1.0, 1.0], room)
        # Cells for the east and the north see their walls all around, the others a half of them.
        np.testing.assert_allclose(corner, [1, 1, 0.465, 0.465], atol=0.002)
    # A slanted wall, on which rounding puts a place to either side.
    triangle = arena.polygon([[0, 0], [1, 0], [0, 0.7]])
    share = np.linspace(0.1, 0.9, 50)[:, None]
    rates = on_a_wall(share * [1, 0] + (1 - share) * [0, 0.7], triangle)
    np.testing.assert_allclose(rates, np.broadcast_to(rates[:1], rates.shape), atol=5e-3)
    assert rates[:, 1].min() > 0.9
    # From one side of an inner wall; whichever it is.
    across = on_a_wall([0.5, 0.5], arena.box(1.0, inner_walls=[[[0.5, 0.2], [0.5, 0.8]]]))
    assert sorted(np.round([across[0], across[2]])) == [0, 1]


def test_on_a_corner_that_juts_out_only_rays_into_it_meet_it():
    """The corner of a hole, and that of an L, against a place a hair in front of it."""
    hole = arena.box(1.0, holes=[[[0.4, 0.4], [0.6, 0.4], [0.6, 0.6], [0.4, 0.6]]])
    ell = arena.polygon([[0, 0], [1, 0], [1, 0.5], [0.5, 0.5], [0.5, 1], [0, 1]])
    # Rays between those along the walls.
    rays = (np.arange(24) + 0.5) * np.pi / 12
    for room, place in ((hole, [0.4, 0.4]), (ell, [0.5, 0.5])):
        before = np.array(place) - 1e-4
        on, beside = (
            visibility._distance_along_rays(jnp.array(p), room, rays) for p in (place, before)
        )
        np.testing.assert_allclose(on, beside, atol=2e-3)
        assert sum(np.asarray(on) < 1e-5) == 6  # a quarter


@pytest.mark.optimized
def test_no_ray_slips_through_a_corner():
    """From the middle of a regular polygon of 12 corners, rays at exactly its corners."""
    angles = np.arange(12) * np.pi / 6
    ring = arena.polygon(0.5 * np.stack([np.cos(angles), np.sin(angles)], axis=-1))
    tuning = cells.VectorTuning(*(np.full(1, x) for x in (0.5, 0.1, 0.0, 100.0)))
    rates = visibility.boundary_vector_cells([0, 0], tuning, environment=ring, num_angles=12)
    np.testing.assert_allclose(rates, 1, atol=1e-4)


@pytest.mark.parametrize("place", [[1.0, 0.5], [1.0, 1.0], [0.4, 0.7], [0.4, 0.3]])
def test_gradients_on_walls_and_corners_are_finite(place):
    tuning = cells.VectorTuning(*(np.full(2, x) for x in (0.1, 0.1, 0.5, 0.5)))
    geodesic = visibility.geodesic_sq(ROOM)

    def total(position):
        code = cells.gaussian(position, [place, [0.8, 0.2]], sigma_m=0.5, distance_sq=geodesic)
        seen = cells.object_vector_cells(position, [place], tuning)
        walls = visibility.boundary_vector_cells(position, tuning, environment=ROOM)
        return jnp.sum(code) + jnp.sum(seen) + jnp.sum(walls)

    assert np.isfinite(jax.grad(total)(jnp.array(place))).all()


@pytest.mark.parametrize("make", [visibility.line_of_sight_sq, visibility.geodesic_sq])
def test_periodic_environments_are_refused(make):
    with pytest.raises(ValueError, match="must have two dimensions and not be periodic"):
        make(arena.box(0.5, periodic=True))

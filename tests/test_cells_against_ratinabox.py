"""Cells against the installed RatInABox, at the same places."""

import importlib
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse.csgraph
import shapely

from hfjax import arena, cells, visibility
from tests.test_against_ratinabox import ENVIRONMENTS, HOLE, their_agent

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    Neurons = importlib.import_module("ratinabox.Neurons")  # the class of that name hides it

ROOM = arena.box(1.0, inner_walls=[[[0.4, 0.0], [0.4, 0.7]]])
# Two walls and a hole, and nothing convex about it.
MAZE = arena.box(
    1.2, 1.0, inner_walls=[[[0.3, 0.0], [0.3, 0.7]], [[0.8, 1.0], [0.8, 0.4]]], holes=[HOLE]
)
PLACES = {
    "gaussian": cells.gaussian,
    "gaussian_threshold": cells.gaussian_threshold,
    "diff_of_gaussians": lambda *a, **k: cells.difference_of_gaussians(*a, ratio=1.5, peak=1, **k),
    "top_hat": cells.top_hat,
    "one_hot": lambda *a, sigma_m, **k: cells.one_hot(*a, **k),
}


def agent_in(environment):
    np.random.seed(0)  # noqa: NPY002 (RatInABox draws from it)
    return their_agent(environment, arena.motion())


def places_in(environment, count=400):
    return np.asarray(arena.uniform_positions(jax.random.key(0), environment, count))


def theirs(kind, environment, positions, agent=None, **parameters):
    """Rates of RatInABox's cells [place, cell], and the cells."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = kind(agent or agent_in(environment), parameters)
        return made.get_state(evaluate_at=None, pos=np.asarray(positions, float)).T, made


@pytest.mark.parametrize(
    ("environment", "geometry"),
    [
        (ROOM, "euclidean"),
        (ROOM, "line_of_sight"),
        (ROOM, "geodesic"),
        (MAZE, "line_of_sight"),
        (ENVIRONMENTS["torus"], "euclidean"),
        (ENVIRONMENTS["ring"], "euclidean"),
    ],
    ids=["room", "room-sight", "room-geodesic", "maze-sight", "torus", "ring"],
)
def test_place_cells(environment, geometry):
    positions = places_in(environment)
    centres = np.asarray(arena.uniform_positions(jax.random.key(1), environment, 30))
    if environment.periodic:
        distance_sq = cells.periodic_sq(environment.extent[0][1])
    else:
        distance_sq = {
            "euclidean": lambda _: cells.euclidean_sq,
            "line_of_sight": visibility.line_of_sight_sq,
            "geodesic": visibility.geodesic_sq,
        }[geometry](environment)
    for description, code in PLACES.items():
        expected, _ = theirs(
            Neurons.PlaceCells,
            environment,
            positions,
            description=description,
            place_cell_centres=centres.astype(float),
            widths=0.2,
            wall_geometry=geometry,
        )
        ours = code(positions, centres, sigma_m=0.2, distance_sq=distance_sq)
        np.testing.assert_allclose(ours, expected, atol=1e-5, err_msg=description)
        assert 0.01 < np.mean(expected > 0) < 1 or description == "gaussian"


@pytest.mark.parametrize("environment", [ROOM, ENVIRONMENTS["ring"]], ids=["2d", "1d"])
def test_grid_cells(environment):
    positions = places_in(environment)
    for description, code in [
        ("rectified_cosines", cells.rectified_cosines),
        ("shifted_cosines", cells.shifted_cosines),
    ]:
        expected, made = theirs(Neurons.GridCells, environment, positions, description=description)
        phase = made.phase_offsets.reshape(30, environment.num_dims)
        orientation = getattr(made, "orientations", np.zeros(30))
        grid = cells.Grid(
            *(jnp.asarray(x, jnp.float32) for x in (made.gridscales, orientation)),
            jnp.asarray(phase, jnp.float32),
        )
        np.testing.assert_allclose(code(positions, grid), expected, atol=1e-5)
    spacing = 0.5 * 2 / np.sqrt(3)  # the nearest field lies across the waves, not along one
    one = cells.Grid(jnp.array([0.5]), jnp.zeros(1), jnp.zeros((1, 2)))
    peaks = jnp.array([[0.0, 0.0], [0.0, spacing], [spacing * np.sqrt(0.75), spacing / 2]])
    np.testing.assert_allclose(cells.rectified_cosines(peaks, one), 1, atol=1e-5)


def test_head_direction_velocity_and_speed_cells():
    agent = agent_in(ROOM)
    for _ in range(3):
        agent.update()
    heads = Neurons.HeadDirectionCells(agent, {"n": 7})
    preferred = jnp.linspace(0, 2 * np.pi, 8)[:-1]
    spread = jnp.full(7, np.pi / 4)
    ours = cells.head_direction_cells(
        jnp.asarray(agent.head_direction), preferred=preferred, spread=spread
    )
    np.testing.assert_allclose(ours, heads.get_state()[:, 0], atol=1e-5)
    moving = Neurons.VelocityCells(agent, {"n": 7})
    ours = cells.velocity_cells(
        jnp.asarray(agent.velocity), preferred=preferred, spread=spread, scale_mps=0.16
    )
    np.testing.assert_allclose(ours, moving.get_state()[:, 0], atol=1e-5)
    fast = Neurons.SpeedCell(agent, {}).get_state()
    velocity = jnp.asarray(agent.history["vel"][-1])
    np.testing.assert_allclose(cells.speed_cell(velocity, scale_mps=0.16), fast, atol=1e-5)
    two = cells.head_direction_cells(jnp.array([[0.3], [-2.0]]), preferred=None, spread=None)
    np.testing.assert_array_equal(two, [[1, 0], [0, 1]])


def tuning_of(made):
    return cells.VectorTuning(
        *(
            jnp.asarray(x, jnp.float32)
            for x in (
                made.tuning_distances,
                made.sigma_distances,
                made.tuning_angles,
                made.sigma_angles,
            )
        )
    )


@pytest.mark.parametrize("frame", ["allocentric", "egocentric"])
def test_vector_cells(frame):
    agent = agent_in(MAZE)
    agent.Environment.add_object([0.9, 0.2], type=0)
    agent.Environment.add_object([0.1, 0.8], type=1)
    agent.head_direction = np.array([0.6, 0.8])
    positions = places_in(MAZE, 100)
    head = jnp.broadcast_to(jnp.array([0.6, 0.8]), (100, 2)) if frame == "egocentric" else None

    def rates(kind, **parameters):
        made = kind(agent, {"reference_frame": frame, **parameters})
        return made.get_state(
            evaluate_at=None, pos=positions.astype(float), head_direction=agent.head_direction
        ).T, made

    expected, made = rates(Neurons.BoundaryVectorCells)
    ours = visibility.boundary_vector_cells(
        positions, tuning_of(made), environment=MAZE, head_direction=head
    )
    np.testing.assert_allclose(ours, expected, atol=1e-5)
    for occlude in (True, False):
        expected, made = rates(
            Neurons.ObjectVectorCells, walls_occlude=occlude, tuning_distance=(0.1, 0.6)
        )
        sees = np.arange(2)[:, None] == made.tuning_types[None]
        ours = cells.object_vector_cells(
            positions,
            jnp.asarray(agent.Environment.objects["objects"], jnp.float32),
            tuning_of(made),
            head_direction=head,
            sees=jnp.asarray(sees, jnp.float32),
            distance_sq=visibility.line_of_sight_sq(MAZE) if occlude else cells.euclidean_sq,
        )
        # RatInABox adds 1e-6 m to x before it takes an angle, which turns what is near.
        near = np.linalg.norm(positions[:, None] - agent.Environment.objects["objects"], axis=-1)
        turned = 1e-6 / near.min(axis=1)[:, None] / made.sigma_angles
        assert np.all(np.abs(ours - expected) < 1e-5 + turned)


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


def test_jittered_centres_are_spread_as_ratinaboxs():
    environment = agent_in(arena.box(2.2)).Environment
    lattice = environment.sample_positions(512, method="uniform") + 0.0
    ours = (
        np.asarray(
            cells.jittered_centres(jax.random.key(0), num_place=512, width_m=2.2, num_dims=2)
        )
        + 1.1
    )
    delta = 2.2 / np.sqrt(512)
    lattice = lattice[: 22**2].reshape(22, 22, 2).swapaxes(0, 1).reshape(-1, 2)
    assert np.abs(ours[: 22**2] - lattice).max() <= 0.45 * delta + 1e-6
    assert np.abs(ours[: 22**2] - lattice).max() > 0.4 * delta
    # Those that are left can lie outside, as RatInABox's can: 1.5 x 0.45 - 0.5 of delta at most.
    keys = jax.random.split(jax.random.key(1), 20)
    made = lambda key: cells.jittered_centres(key, num_place=512, width_m=2.2, num_dims=2)  # noqa: E731
    many = np.stack([made(key) for key in keys])
    beyond = np.abs(many).max() - 1.1
    assert 0 < beyond < 0.175 * delta + 1e-6
    extra = np.abs(ours[22**2 :, None] - ours[None, : 22**2]).max(axis=-1).min(axis=1)
    assert extra.max() <= 0.45 * delta / 2 + 1e-6


def test_impossible_cells_are_refused():
    for make in (visibility.line_of_sight_sq, visibility.geodesic_sq):
        with pytest.raises(ValueError, match="two dimensions that are not periodic"):
            make(ENVIRONMENTS["torus"])
    with pytest.raises(ValueError, match="ratio must be above 1"):
        cells.difference_of_gaussians(jnp.zeros((1, 2)), jnp.zeros((1, 2)), sigma_m=1.0, ratio=1.0)
    grid = cells.Grid(jnp.ones(1), jnp.zeros(1), jnp.zeros((1, 2)))
    with pytest.raises(ValueError, match="width_ratio"):
        cells.rectified_cosines(jnp.zeros((1, 2)), grid, width_ratio=0.0)

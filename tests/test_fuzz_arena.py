"""Random and extreme inputs to arena, cells, visibility and envs, against their docstrings.

Compiled functions have one shape, so that an example costs no compilation.
"""

from functools import partial

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import shapely
from hypothesis import assume, given
from hypothesis.extra.numpy import arrays

from hfjax import arena, cells, envs, visibility
from tests.against_ratinabox import HOLE

quick_jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
MOTION = arena.motion()
ROOMS = {
    "box": arena.box(1.0),
    "maze": arena.box(1.0, inner_walls=[[[0.2, 0.0], [0.2, 0.6]], [[0.8, 0.8], [0.3, 0.9]]]),
    "clockwise with a hole": arena.polygon(
        [[0, 0], [0, 1], [0.5, 0.75], [1, 1], [1, 0]], holes=[HOLE]
    ),
    "torus": arena.box(1.0, 0.5, periodic=True),
}
anything = st.floats(width=32) | st.sampled_from([0.0, -0.0, 1e-30, 1e-9, 0.5, 1.0, -1.0])
finite = st.floats(-1e6, 1e6, width=32) | st.sampled_from([0.0, 1e-30, 1e-9, 0.5, 1.0])


def tables(elements, *shape):
    return arrays(np.float32, shape, elements=elements)


@st.composite
def places(draw, environment, count):
    """Positions [count, 2] in an environment: anywhere, on a wall or corner, or a hair off it."""
    share = st.floats(0, 1, width=32) | st.sampled_from([0.0, 0.5, 1.0])
    low, high = np.array(environment.extent).T
    positions = []
    for _ in range(count):
        if len(environment.walls) and draw(st.booleans()):
            a, b = draw(st.sampled_from(list(environment.walls)))
            position = a + draw(share) * (b - a)
            position = position + draw(st.sampled_from([0, 1e-9, -1e-9])) * np.ones(2)
        else:
            position = low + np.array([draw(share), draw(share)]) * (high - low)
        positions.append(position)
    positions = np.array(positions, np.float32)
    assume(bool(np.asarray(arena.contains(environment, positions)).all()))
    return positions


# --- Environments ---


def tried(make, *args, **settings):
    """(what is made, ""), or (None, why it is refused)."""
    try:
        return make(*args, **settings), ""
    except ValueError as error:
        return None, str(error)


coordinate = st.sampled_from([0, 1, 2, 3]) | st.floats()
outlines = st.lists(st.lists(coordinate, min_size=2, max_size=2), max_size=9)


@given(corners=outlines | st.lists(st.lists(coordinate, max_size=3), max_size=4), hole=outlines)
def test_an_outline_is_refused_in_a_sentence_or_has_sides(corners, hole):
    environment, refusal = tried(arena.polygon, corners, holes=[hole] if hole else [])
    if refusal:
        assert "must" in refusal or "does not lie" in refusal
        return
    sides = environment.walls[:, 1] - environment.walls[:, 0]
    assert (np.linalg.norm(sides, axis=-1) > 0).all()
    drawn = shapely.Polygon(corners, [hole] if hole else [])
    made = shapely.Polygon(environment.boundary, environment.holes)
    assert made.area > 0
    assert np.isclose(made.area, drawn.area, rtol=1e-6)


@given(walls=st.lists(st.lists(st.lists(coordinate, max_size=2), max_size=2), max_size=3))
def test_a_wall_is_refused_in_a_sentence_or_has_a_length(walls):
    environment, refusal = tried(arena.box, 3.0, inner_walls=walls)
    if refusal:
        assert any(part in refusal for part in ("inner_walls must", "not inside", "no length"))
        return
    lengths = np.linalg.norm(np.diff(environment.inner_walls, axis=1), axis=-1)
    assert (lengths > 0).all()
    assert environment.inner_walls.shape == (len(lengths), 2, 2)


INSIDE = {name: quick_jit(partial(arena.contains, room)) for name, room in ROOMS.items()}


@given(name=st.sampled_from(list(ROOMS)), positions=tables(anything, 8, 2))
def test_what_an_environment_contains_is_what_shapely_covers(name, positions):
    inside = np.asarray(INSIDE[name](positions))
    assert (inside.shape, inside.dtype) == ((8,), bool)
    known = np.isfinite(positions).all(axis=-1)
    assert not inside[~known].any()
    space = shapely.Polygon(ROOMS[name].boundary, ROOMS[name].holes)
    points = shapely.points(positions[known].astype(float))
    clear = shapely.distance(space.boundary, points) > 2e-6
    np.testing.assert_array_equal(inside[known][clear], shapely.covers(space, points)[clear])


@given(seed=st.integers(0, 2**32 - 1), name=st.sampled_from(list(ROOMS)))
def test_uniform_positions_are_inside(seed, name):
    positions = arena.uniform_positions(jax.random.key(seed), ROOMS[name], 16)
    assert positions.shape == (16, 2)
    assert INSIDE[name](positions[:8]).all()
    assert INSIDE[name](positions[8:]).all()


WRAP = quick_jit(arena.wrap)


@given(
    x=tables(anything, 8),
    low=st.floats(-10, 10, width=32, allow_subnormal=False),  # which XLA takes for 0
    width=st.floats(0.125, 8, width=32),
)
def test_wrapped_positions_are_in_the_period(x, low, width):
    low, high = np.float32(low), np.float32(low) + np.float32(width)
    wrapped = np.asarray(WRAP(x, low, high))
    known = np.isfinite(x) & (np.abs(x) < 1e30)
    assert np.isnan(wrapped[~np.isfinite(x)]).all()
    assert ((wrapped[known] >= low) & (wrapped[known] < high)).all()
    small = np.abs(x) < 100
    laps = (x[small] - wrapped[small]) / (high - low)
    np.testing.assert_allclose(laps, np.round(laps), atol=1e-3)


# --- Motion ---


def step_of(environment):
    def step(position, velocity, rotation, head, noise):
        agent = arena.Agent(position, velocity, rotation, velocity, head)
        return arena.step(agent, noise, environment=environment, motion=MOTION)

    return quick_jit(jax.vmap(step))


STEP = {name: step_of(room) for name, room in ROOMS.items()}


@given(data=st.data(), name=st.sampled_from(list(ROOMS)))
def test_a_step_is_finite_and_stays_inside(data, name):
    environment = ROOMS[name]
    position = data.draw(places(environment, 8))
    velocity, noise = data.draw(tables(finite, 8, 2)), data.draw(tables(st.floats(-8, 8), 8, 2))
    rotation, head = data.draw(tables(st.floats(-50, 50), 8)), data.draw(tables(finite, 8, 2))
    after = STEP[name](position, velocity, rotation, head, noise)
    for value, like in zip(after, (position, velocity, rotation, velocity, head), strict=True):
        assert (value.shape, value.dtype) == (like.shape, np.float32)
        assert np.isfinite(value).all()
    assert INSIDE[name](after.position).all()
    assert np.all(np.linalg.norm(after.head_direction, axis=-1) < np.linalg.norm(head, axis=-1) + 2)


TRACKS = [arena.track(length, periodic=ring) for length in (0.005, 1.0) for ring in (False, True)]
STEP_1D = [step_of(track) for track in TRACKS]


@given(
    which=st.sampled_from(range(4)),
    share=tables(st.floats(0, 1, width=32), 4, 1),
    velocity=tables(finite, 4, 1),
    noise=tables(st.floats(-8, 8), 4, 1),
)
def test_an_animal_stays_on_its_track(which, share, velocity, noise):
    position = share * np.float32(TRACKS[which].extent[0][1])
    after = STEP_1D[which](position, velocity, np.zeros(4, np.float32), velocity, noise)
    assert arena.contains(TRACKS[which], after.position).all()
    assert np.isfinite(after.velocity).all()


ALONG = quick_jit(partial(arena.along, motion=MOTION))


# Steps below 1e-19 m have no direction in float32.
@given(positions=tables(finite.filter(lambda x: x == 0 or abs(x) > 1e-9), 5, 2))
def test_a_path_is_followed_with_heads_of_length_one(positions):
    path = ALONG(positions)
    np.testing.assert_array_equal(path.position, positions[1:])
    assert all(np.isfinite(x).all() and len(x) == 4 for x in path)
    length = np.linalg.norm(path.head_direction, axis=-1)
    moved = np.cumsum((np.diff(positions, axis=0) != 0).any(axis=-1)) > 0
    np.testing.assert_allclose(length[moved], 1, atol=1e-3)


@given(
    intervals=tables(st.floats(0.0625, 5, width=32), 6),
    positions=tables(anything, 6, 2),
    dt_s=st.floats(0.05, 1),
)
def test_resampled_pieces_keep_to_what_was_recorded(intervals, positions, dt_s):
    times = np.cumsum(intervals.astype(float))
    pieces = arena.resample_trajectory(times, positions, dt_s=dt_s, max_gap_s=1.0)
    tracked = np.isfinite(positions).all(axis=-1)
    assert sum(map(len, pieces)) <= (times[-1] - times[0]) / dt_s + 6
    for piece in pieces:
        assert piece.ndim == 2
        assert len(piece) >= 2
        low, high = positions[tracked].min(axis=0), positions[tracked].max(axis=0)
        span = 1e-6 * (1 + np.abs(positions[tracked].astype(float)).max())
        assert ((piece >= low - span) & (piece <= high + span)).all()


# --- Cells ---

CODES = {
    "softmax_gaussian": cells.softmax_gaussian,
    "softmax_surround": cells.softmax_surround,
    "gaussian": cells.gaussian,
    "difference_of_gaussians": cells.difference_of_gaussians,
    "gaussian_threshold": cells.gaussian_threshold,
    "top_hat": cells.top_hat,
    "one_hot": lambda positions, centres, sigma_m: cells.one_hot(positions, centres),
}
CODE = {
    name: quick_jit(lambda x, c, s, code=code: code(x, c, sigma_m=s))
    for name, code in CODES.items()
}


@given(
    name=st.sampled_from(list(CODES)),
    positions=tables(finite | st.just(np.nan), 6, 2),
    centres=tables(finite, 5, 2),
    sigma=tables(st.floats(2.0**-10, 1024, width=32), 5),
)
def test_place_codes_are_rates_and_unknown_only_where_the_position_is(
    name, positions, centres, sigma
):
    rates = np.asarray(CODE[name](positions, centres, sigma))
    assert (rates.shape, rates.dtype) == ((6, 5), np.float32)
    lost = np.isnan(positions).any(axis=-1)
    assert np.isnan(rates[lost]).all()
    rates = rates[~lost]
    least = -0.5 if name == "difference_of_gaussians" else 0
    assert ((rates >= least) & (rates <= 1 + 1e-5)).all()
    if name.startswith("softmax") or name == "one_hot":
        np.testing.assert_allclose(rates.sum(axis=-1), 1, atol=1e-4)


HEADS = quick_jit(partial(cells.head_direction_code, kappa=20.0))
TUNED = quick_jit(lambda x, mu, s: cells.velocity_cells(x, preferred=mu, spread=s, scale_mps=0.16))


@given(
    headings=tables(finite, 6),
    velocity=tables(finite, 6, 2),
    preferred=tables(st.floats(-7, 7, width=32), 5),
    spread=tables(st.floats(2.0**-6, 16, width=32), 5),
)
def test_direction_cells_are_rates(headings, velocity, preferred, spread):
    code = np.asarray(HEADS(headings, preferred))
    assert (code >= 0).all()
    np.testing.assert_allclose(code.sum(axis=-1), 1, atol=1e-4)
    rates = np.asarray(TUNED(velocity, preferred, spread))
    speed = np.linalg.norm(velocity.astype(float), axis=-1, keepdims=True)
    assert ((rates >= 0) & (rates <= speed / 0.16 * (1 + 1e-5) + 1e-6)).all()


GRIDS = quick_jit(lambda x, g: (cells.rectified_cosines(x, g), cells.shifted_cosines(x, g)))


@given(
    positions=tables(st.floats(-10, 10, width=32), 6, 2),
    period=tables(st.floats(0.25, 16, width=32), 3),
    angles=tables(st.floats(-7, 7, width=32), 3, 3),
)
def test_grid_cells_are_between_0_and_1(positions, period, angles):
    for rates in GRIDS(positions, cells.Grid(period, angles[0], angles[1:].T)):
        assert rates.shape == (6, 3)
        assert ((rates >= -1e-4) & (rates <= 1 + 1e-4)).all()


@given(
    num_place=st.sampled_from([1, 4, 7]),
    num_dims=st.sampled_from([1, 2]),
    width_m=st.floats(1e-3, 1e3),
    seed=st.integers(0, 9),
)
def test_centres_are_in_their_box(num_place, num_dims, width_m, seed):
    key = jax.random.key(seed)
    for centres, beyond in (
        (cells.place_centres(key, num_place=num_place, width_m=width_m), 0),
        (
            cells.jittered_centres(key, num_place=num_place, width_m=width_m, num_dims=num_dims),
            0.175 / num_place ** (1 / num_dims),
        ),
    ):
        assert len(centres) == num_place
        assert np.abs(centres).max() <= width_m * (0.5 + beyond) * (1 + 1e-6)


# --- Walls between places ---

MAZES = {name: ROOMS[name] for name in ("maze", "clockwise with a hole")}
GEODESIC = {name: quick_jit(visibility.geodesic_sq(room)) for name, room in MAZES.items()}
SIGHT = {name: quick_jit(visibility.line_of_sight_sq(room)) for name, room in MAZES.items()}
TUNING = cells.VectorTuning(
    *(jnp.array(x) for x in ([0.0, 0.1, 0.5], [0.02, 0.1, 0.1], [0.0, 2.0, 4.0], [0.1, 0.5, 1.0]))
)
WALL_CODES = {
    name: partial(visibility.boundary_vector_cells, environment=room, tuning=TUNING, num_angles=36)
    for name, room in MAZES.items()
}
WALL_CELLS = {name: quick_jit(code) for name, code in WALL_CODES.items()}
WALL_SLOPES = {
    name: quick_jit(jax.vmap(jax.grad(lambda x, code=code: jnp.sum(code(x)))))
    for name, code in WALL_CODES.items()
}


@given(data=st.data(), name=st.sampled_from(list(MAZES)))
def test_shortest_ways_are_no_shorter_than_straight_lines(data, name):
    here = data.draw(places(MAZES[name], 6))
    straight = np.asarray(cells.euclidean_sq(here, here))
    ways, seen = np.asarray(GEODESIC[name](here, here)), np.asarray(SIGHT[name](here, here))
    assert (ways >= straight * (1 - 1e-5) - 1e-6).all()
    assert (ways <= 16).all()  # every place can be reached
    open_ways = seen < 1e5
    np.testing.assert_allclose(ways[open_ways], straight[open_ways], rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(seen[~open_ways], 1e6)


@given(data=st.data(), name=st.sampled_from(list(MAZES)))
def test_boundary_vector_cells_are_rates_with_gradients(data, name):
    here = data.draw(places(MAZES[name], 6))
    rates = WALL_CELLS[name](here)
    assert (rates.shape, rates.dtype) == ((6, 3), np.float32)
    assert ((rates >= 0) & (rates <= 1.2)).all()
    assert np.isfinite(WALL_SLOPES[name](here)).all()
    lost = WALL_CELLS[name](np.full((6, 2), np.nan, np.float32))
    assert np.isnan(lost).all()


# --- Environments to act in ---

WINDY, PENDULUM = envs.windy_grid(), envs.pendulum()
WINDY_STEP, PENDULUM_STEP = quick_jit(WINDY.step), quick_jit(PENDULUM.step)


@given(
    state=tables(st.floats(-5, 5, width=32), 2), action=tables(anything, 1), seed=st.integers(0, 99)
)
def test_steps_of_the_windy_grid_stay_in_it(state, action, seed):
    after, reward, terminal = WINDY_STEP(state, action, jax.random.key(seed))
    assert (np.abs(after) <= 5).all()
    assert float(reward) in (-2, -1, 0, 1, 2)
    assert not terminal


@given(
    angle=st.floats(-1e4, 1e4, width=32),
    velocity=st.floats(-8, 8, width=32),
    action=tables(st.floats(-(2.0**99), 2.0**99, width=32), 1),
)
def test_steps_of_the_pendulum_keep_to_its_bounds(angle, velocity, action):
    state = envs.Pendulum(jnp.float32(angle), jnp.float32(velocity))
    after, reward, _ = PENDULUM_STEP(state, action, jax.random.key(0))
    observed = np.asarray(PENDULUM.observe(after))
    assert (np.abs(observed) <= PENDULUM.observation_high + 1e-6).all()
    assert -(np.pi**2 + 6.4 + 0.004) - 1e-3 <= float(reward) <= 0

"""Walks in a square box, on a ring or torus, along given paths."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from hfjax import arena
from tests.against_ratinabox import RatInABoxAgent, RatInABoxEnvironment

SPEED_MPS = 0.13 * 2 * np.pi


sorscher_walk = jax.jit(
    arena.sorscher_walk, static_argnames=("batch_size", "num_steps", "turn_std_radps", "boundary")
)


def walk(seed=0, batch_size=20_000, num_steps=20, **settings):
    drawn = sorscher_walk(
        jax.random.key(seed), batch_size=batch_size, num_steps=num_steps, **settings
    )
    return jax.tree.map(np.asarray, drawn)


@pytest.fixture(scope="module")
def walled():
    return walk()


@pytest.fixture(scope="module")
def periodic():
    return walk(boundary=arena.wrap_around)


@pytest.mark.parametrize(
    ("position", "heading", "turn", "factor"),
    [
        ((1.08, 0.2), 0.3, np.pi / 2 - 0.3, 0.25),  # at the east wall, to its left
        ((1.08, 0.2), -0.3, -(np.pi / 2 - 0.3), 0.25),  # ... to its right
        ((1.08, 0.2), 0.0, 0.0, 0.25),  # straight at it: slowed but not turned
        ((1.08, 0.2), np.pi - 0.3, 0.0, 1.0),  # away from it
        ((1.06, 0.2), 0.3, 0.0, 1.0),  # 4 cm are far enough
        ((1.12, 0.2), 0.3, np.pi / 2 - 0.3, 0.25),  # already beyond it
        ((0.5, 1.09), np.pi / 2 + 0.4, np.pi / 2 - 0.4, 0.25),  # north
        ((-1.09, 0.5), np.pi - 0.2, -(np.pi / 2 - 0.2), 0.25),  # west
        ((0.5, -1.09), -np.pi / 2 - 0.4, -(np.pi / 2 - 0.4), 0.25),  # south
        ((1.08, 1.09), np.pi / 4, -np.pi / 4, 0.25),  # in a corner the nearer wall counts
    ],
)
def test_wall_avoidance_worked_by_hand(position, heading, turn, factor):
    same, turned, slowed = arena.avoid_walls(
        jnp.array([position]), jnp.array([heading]), width_m=2.2, border_m=0.03
    )
    np.testing.assert_allclose(same, [position], rtol=1e-6)
    np.testing.assert_allclose(turned, [turn], atol=1e-6)
    assert slowed[0] == factor


def test_periodic_boundaries_worked_by_hand():
    folded, turn, factor = arena.wrap_around(
        jnp.array([[1.2, -1.15], [0.5, 0.0]]), jnp.zeros(2), width_m=2.2, border_m=0.03
    )
    np.testing.assert_allclose(folded, [[-1.0, 1.05], [0.5, 0.0]], atol=1e-6)
    assert not turn.any()
    assert (factor == 1).all()


def test_a_walk_adds_up(walled):
    path = walled.start[:, None] + np.cumsum(walled.displacements, axis=1)
    np.testing.assert_allclose(walled.positions, path, atol=1e-5)
    step_m = np.linalg.norm(walled.displacements, axis=-1)
    direction = np.stack([np.cos(walled.headings), np.sin(walled.headings)], axis=-1)
    np.testing.assert_allclose(walled.displacements, step_m[..., None] * direction, atol=1e-6)
    assert walled.headings.min() >= -np.pi
    assert walled.headings.max() < np.pi


def test_a_periodic_walk_adds_up_across_the_boundary(periodic):
    assert np.abs(periodic.positions).max() <= 1.1 + 1e-6
    path = periodic.start[:, None] + np.cumsum(periodic.displacements, axis=1)
    laps = (path - periodic.positions) / 2.2
    np.testing.assert_allclose(laps, np.round(laps), atol=1e-5)
    assert np.abs(np.round(laps)).max() == 1  # some walks do cross, and none can go round twice


def test_speed_and_turn_have_the_constants_of_the_paper(periodic):
    speed_mps = np.linalg.norm(periodic.displacements, axis=-1) / 0.02
    assert stats.kstest(speed_mps[:, 7], stats.rayleigh(scale=SPEED_MPS).cdf).pvalue > 0.01
    np.testing.assert_allclose(speed_mps.mean(), SPEED_MPS * np.sqrt(np.pi / 2), rtol=0.003)
    # A new speed at each step: no memory.
    assert abs(np.corrcoef(speed_mps[:, 3], speed_mps[:, 4])[0, 1]) < 0.02

    headings = np.concatenate([periodic.start_heading[:, None], periodic.headings], axis=1)
    turns = (np.diff(headings, axis=1) + np.pi) % (2 * np.pi) - np.pi
    np.testing.assert_allclose(turns.std(), 11.52 * 0.02, rtol=0.005)
    assert stats.kstest(turns[:, 5], stats.norm(scale=11.52 * 0.02).cdf).pvalue > 0.01
    uniform = stats.uniform(-np.pi, 2 * np.pi).cdf
    assert stats.kstest(periodic.start_heading, uniform).pvalue > 0.01
    for axis in (0, 1):
        uniform = stats.uniform(-1.1, 2.2).cdf
        assert stats.kstest(periodic.positions[:, -1, axis], uniform).pvalue > 0.01


def test_walks_leave_the_walled_box_as_rarely_as_the_originals(walled):
    # Golden: 40,000 walks of 20 steps of the original's `generate_trajectory` (numpy seed 1) are
    # outside in 0.57 % of positions, 7 cm at most, and end 0.3549 m from their start on average.
    outside = np.abs(walled.positions) > 1.1
    np.testing.assert_allclose(outside.any(axis=-1).mean(), 0.0057, atol=0.0005)
    assert np.abs(walled.positions).max() < 1.1 + 0.08
    net_m = np.linalg.norm(walled.positions[:, -1] - walled.start, axis=-1)
    np.testing.assert_allclose(net_m.mean(), 0.3549, atol=0.004)
    # The start is the position after a first step, so that it, too, can be outside.
    assert (np.abs(walled.start) > 1.1).any()


def test_walls_turn_and_slow_the_next_step():
    # Without random turns a walk turns at walls only: an independent reading of the rule.
    path = walk(batch_size=4000, turn_std_radps=0.0)
    before = np.concatenate([path.start[:, None], path.positions[:, :-1]], axis=1)[:, :-1]
    heading, following = path.headings[:, :-1], path.headings[:, 1:]
    step_m = np.linalg.norm(path.displacements, axis=-1)[:, :-1]
    gap = np.stack(
        [1.1 - before[..., 0], 1.1 - before[..., 1], 1.1 + before[..., 0], 1.1 + before[..., 1]]
    )
    normal = np.array([0, np.pi / 2, np.pi, -np.pi / 2])[gap.argmin(axis=0)]
    a = np.angle(np.exp(1j * (heading - normal)))
    blocked = (gap.min(axis=0) < 0.03) & (np.cos(a) > 0)
    along = np.where(a > 0, normal + np.pi / 2, normal - np.pi / 2)
    expected = np.where(blocked, along, heading)
    # Leave out what float32 can decide either way: at the border, and straight at a wall.
    clear = (np.abs(gap.min(axis=0) - 0.03) > 1e-6) & (np.abs(a) > 1e-4)
    off = np.abs(np.exp(1j * following) - np.exp(1j * expected))[clear]
    assert off.max() < 1e-4
    assert blocked.sum() > 1000
    # An animal that walks along a wall is blocked or free by a rounding error: not counted.
    along_a_wall = (gap.min(axis=0) < 0.031) & (np.abs(np.cos(a)) < 1e-3)
    slow, free = step_m[blocked & ~along_a_wall], step_m[~blocked & ~along_a_wall]
    np.testing.assert_allclose(slow.mean() / free.mean(), 0.25, rtol=0.04)


def test_a_key_gives_the_same_walk_and_another_key_another():
    first, again, other = walk(1, 4, 3), walk(1, 4, 3), walk(2, 4, 3)
    np.testing.assert_array_equal(first.positions, again.positions)
    assert not np.isclose(first.positions, other.positions).any()
    assert first.positions.shape == first.displacements.shape == (4, 3, 2)
    assert first.headings.shape == (4, 3)
    assert first.start.shape == (4, 2)
    assert first.start_heading.shape == (4,)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch_size", 0),
        ("num_steps", 0),
        ("width_m", 0.0),
        ("dt_s", -0.1),
        ("speed_scale_mps", -1.0),
        ("turn_std_radps", -1.0),
        ("border_m", -0.1),
    ],
)
def test_impossible_walks_are_refused(name, value):
    settings = {"batch_size": 2, "num_steps": 2, name: value}
    with pytest.raises(ValueError, match=f"{name} must .* but is {value}"):
        arena.sorscher_walk(jax.random.key(0), **settings)


def test_resampling_worked_by_hand():
    times_s = np.array([0.0, 0.1, 0.2, 0.3, 0.4, 2.0, 2.3, 5.0])
    x = np.array([0.0, 1.0, np.nan, 3.0, 4.0, 10.0, 13.0, 0.0])
    pieces = arena.resample_trajectory(
        times_s, np.stack([x, -2 * x], axis=-1), dt_s=0.05, max_gap_s=0.35
    )
    # The lost sample at 0.2 s is bridged (a gap of 0.2 s), the gaps after 0.4 s and 2.3 s are not,
    # and the lone sample at 5 s is no path.
    expected = [np.arange(9) * 0.5, 10 + np.arange(7) * 0.5]
    assert len(pieces) == 2
    for piece, x_m in zip(pieces, expected, strict=True):
        np.testing.assert_allclose(piece, np.stack([x_m, -2 * x_m], axis=-1), atol=1e-9)


def test_resampling_cuts_at_lost_samples_longer_than_the_gap():
    times_s = np.arange(10) * 0.1
    positions = np.ones((10, 2))
    positions[3:6, 1] = np.nan
    pieces = arena.resample_trajectory(times_s, positions, dt_s=0.1, max_gap_s=0.3)
    assert [len(piece) for piece in pieces] == [3, 4]
    assert arena.resample_trajectory(times_s, positions * np.nan, dt_s=0.1, max_gap_s=0.3) == []


def test_resampling_refuses_what_it_cannot_read():
    positions = np.zeros((3, 2))
    with pytest.raises(ValueError, match="times_s must increase"):
        arena.resample_trajectory(np.array([0.0, 0.2, 0.1]), positions, dt_s=0.1, max_gap_s=1.0)
    with pytest.raises(ValueError, match="dt_s must be positive, but is 0"):
        arena.resample_trajectory(np.arange(3.0), positions, dt_s=0, max_gap_s=1.0)
    with pytest.raises(AssertionError):
        arena.resample_trajectory(np.arange(4.0), positions, dt_s=0.1, max_gap_s=1.0)


@pytest.mark.parametrize("extreme", [0.0, 1 - 2.0**-24])
def test_steps_are_finite_at_both_ends_of_the_uniform_draw(monkeypatch, extreme):
    def draw(key, shape, dtype=jnp.float32, minval=0.0, maxval=1.0):
        return minval + extreme * (maxval - minval) * jnp.ones(shape, dtype)

    monkeypatch.setattr(jax.random, "uniform", draw)
    walk = arena.sorscher_walk(jax.random.key(0), batch_size=2, num_steps=3)
    assert jnp.isfinite(walk.displacements).all()


def test_a_periodic_walk_moves_first_and_then_draws_its_velocity():
    start = arena.PeriodicWalk(jnp.array([0.49]), jnp.array([1.0]))
    end, path = arena.periodic_walk(
        start, jax.random.key(0), num_steps=3, speed_std_mps=0.0, speed_mean_mps=0.2
    )
    # 0.49 + 0.025 wraps to -0.485; v goes to 0.2 by (0.2 - v) dt / T = 0.8 x 0.0357 a step.
    k = 0.025 / 0.7
    v1 = 1 + k * (0.2 - 1)
    np.testing.assert_allclose(path.position[:2, 0], [-0.485, -0.485 + 0.025 * v1], atol=1e-6)
    np.testing.assert_allclose(path.velocity[:2, 0], [v1, v1 + k * (0.2 - v1)], atol=1e-6)
    np.testing.assert_array_equal(end.position, path.position[-1])


@pytest.mark.parametrize("num_dims", [1, 2])
def test_a_periodic_walk_has_ratinaboxs_statistics(num_dims):
    """Speed, its coherence and the occupancy of the ring, with errors known beforehand."""
    settings = {"width_m": 1.0, "speed_mean_mps": 0.1, "speed_std_mps": 0.5}

    def walk(key):
        start_key, key = jax.random.split(key)
        start = arena.periodic_walk_start(start_key, num_dims=num_dims, **settings)
        return arena.periodic_walk(start, key, num_steps=2000, **settings)[1]

    path = jax.jit(jax.vmap(walk))(jax.random.split(jax.random.key(0), 100))
    v, x = np.asarray(path.velocity, np.float64), np.asarray(path.position)
    assert x.min() >= -0.5
    assert x.max() < 0.5
    # 5000 s of a velocity with a time constant of 0.7 s are some 3500 independent draws (an axis).
    se = 0.5 / np.sqrt(5000 / 1.4)
    k = 0.025 / 0.7
    std = 0.5 / np.sqrt(1 - k / 2)  # of the discrete process, exactly
    assert v.mean() == pytest.approx(0.1, abs=4 * se)
    assert v.std() == pytest.approx(std, abs=4 * se)
    lag = 28  # 0.7 s
    moved = v - 0.1
    correlation = np.mean(moved[:, lag:] * moved[:, :-lag]) / np.mean(moved**2)
    assert correlation == pytest.approx((1 - k) ** lag, abs=0.05)
    occupancy = np.histogram(x[..., 0], bins=10, range=(-0.5, 0.5))[0] / x[..., 0].size
    np.testing.assert_allclose(occupancy, 0.1, atol=0.012)


def test_a_periodic_walk_agrees_with_ratinabox_step_by_step():
    """RatInABox 1.15 draws the velocity before it moves: its positions come one step later."""
    ring = {"dimensionality": "1D", "boundary_conditions": "periodic", "scale": 1}
    agent = RatInABoxAgent(
        RatInABoxEnvironment(ring), {"dt": 0.025, "speed_mean": 0.1, "speed_std": 0.0}
    )
    agent.pos, agent.velocity = np.array([0.9]), np.array([0.8])
    walk = arena.PeriodicWalk(jnp.array([0.4]), jnp.array([0.8]))  # centred on 0
    _, path = arena.periodic_walk(
        walk, jax.random.key(0), num_steps=51, speed_mean_mps=0.1, speed_std_mps=0.0
    )
    velocities, positions = [], []
    for _ in range(50):
        agent.update()
        velocities.append(agent.velocity[0])
        positions.append(agent.pos[0])
    np.testing.assert_allclose(path.velocity[:50, 0], velocities, atol=1e-6)
    first_move = 0.8 * 0.025
    expected = np.mod(np.array(positions) + first_move, 1) - 0.5
    np.testing.assert_allclose(path.position[1:, 0], expected, atol=1e-5)


def test_an_impossible_periodic_walk_is_refused():
    walk = arena.PeriodicWalk(jnp.zeros(1), jnp.zeros(1))
    for settings, sentence in (
        ({"num_steps": 0}, "num_steps must be at least 1"),
        ({"width_m": 0.0}, "width_m must be positive"),
        ({"speed_std_mps": -0.1}, "speed_std_mps must not be negative"),
        ({"coherence_s": 0.02}, r"dt_s \(0.025\) must not be above coherence_s \(0.02\)"),
    ):
        with pytest.raises(ValueError, match=sentence):
            arena.periodic_walk(walk, jax.random.key(0), **{"num_steps": 1, **settings})


def random_walk(environment, motion, *, batch_size, num_steps):
    """`arena.random_walk`, which takes longer to compile than to run."""
    settings = {"batch_size": batch_size, "num_steps": num_steps}
    draw = partial(arena.random_walk, environment=environment, motion=motion, **settings)
    draw = jax.jit(draw, compiler_options={"xla_backend_optimization_level": 0})
    return jax.tree.map(np.asarray, draw(jax.random.key(0)))


def test_random_walk_is_a_walk_around_the_centre():
    motion = arena.motion(dt_s=0.02, speed_mean_mps=1.02, speed_coherence_s=0.5)
    walks = random_walk(arena.box(2.2), motion, batch_size=300, num_steps=20)
    assert walks.positions.shape == (300, 20, 2)
    assert abs(walks.positions.mean()) < 0.1
    assert np.abs(walks.positions).max() < 1.1
    steps = np.diff(walks.positions, axis=1, prepend=walks.start[:, None])
    np.testing.assert_allclose(steps, walks.displacements, atol=1e-6)
    direction = np.stack([np.cos(walks.headings), np.sin(walks.headings)], axis=-1)
    along = np.sum(direction * walks.displacements, axis=-1)
    np.testing.assert_allclose(along, np.linalg.norm(walks.displacements, axis=-1), atol=1e-6)
    wrapped = random_walk(arena.box(0.5, periodic=True), motion, batch_size=50, num_steps=200)
    assert np.abs(wrapped.positions).max() <= 0.25
    assert np.linalg.norm(wrapped.displacements, axis=-1).max() < 0.2
    with pytest.raises(ValueError, match="two dimensions"):
        random_walk(arena.track(), motion, batch_size=1, num_steps=1)


def test_led_along_positions_velocities_and_head_follow():
    motion = arena.motion(dt_s=0.1, head_direction_s=0.2)
    path = arena.along(jnp.array([[0.0, 0.0], [0.1, 0.0], [0.1, 0.1], [0.1, 0.1]]), motion=motion)
    np.testing.assert_allclose(path.velocity, [[1, 0], [0, 1], [0, 0]], atol=1e-6)
    # The head goes half of the way to each new direction, and stays where the animal does.
    half = np.sqrt(0.5)
    np.testing.assert_allclose(path.head_direction, [[1, 0], [half, half], [half, half]], atol=1e-6)
    assert float(path.rotational_velocity[1]) == pytest.approx(np.pi / 2 / 0.1, rel=1e-6)


def test_led_around_a_periodic_box_or_a_ring_by_the_shortest_way():
    motion = arena.motion(dt_s=0.1)
    torus = arena.box(1.0, 0.5, periodic=True, centred=True)
    positions = jnp.array([[0.45, 0.2], [-0.45, -0.2], [-0.4, -0.2], [0.45, 0.2]])
    path = arena.along(positions, motion=motion, environment=torus)
    np.testing.assert_allclose(path.velocity, [[1, 1], [0.5, 0], [-1.5, -1]], atol=1e-5)
    np.testing.assert_array_equal(path.position, positions[1:])
    ring = arena.track(2.0, periodic=True)
    path = arena.along(jnp.array([[1.9], [0.2], [1.1]]), motion=motion, environment=ring)
    np.testing.assert_allclose(path.velocity, [[3], [9]], atol=1e-5)
    np.testing.assert_array_equal(path.head_direction, [[1], [1]])
    straight = arena.along(positions, motion=motion, environment=arena.box(centred=True))
    np.testing.assert_allclose(straight.velocity[0], [-9, -4], atol=1e-5)


def test_teleport_goes_straight_between_uniform_places():
    environment = arena.box(1.0)
    teleport = partial(arena.teleport, environment=environment, num_steps=4000, num_places=2001)
    positions = np.asarray(jax.jit(teleport)(jax.random.key(1)))
    assert positions.shape == (4001, 2)
    assert bool(arena.contains(environment, positions).all())
    np.testing.assert_allclose(positions[1::2], (positions[:-1:2] + positions[2::2]) / 2, atol=1e-5)
    np.testing.assert_allclose(positions[::2].var(axis=0), 1 / 12, rtol=0.1)


def test_an_oblong_box_has_its_walls_where_they_are():
    """2 m x 1 m: 0.01 m from the upper wall, which in a square would be far."""
    position, heading = jnp.array([[0.3, 0.49], [0.3, 0.3]]), jnp.array([1.0, 1.0])
    same, turned, slowed = arena.avoid_walls(position, heading, width_m=(2.0, 1.0), border_m=0.03)
    np.testing.assert_array_equal(same, position)
    # 1 rad is pi/2 - 1 to the right of the wall's normal: it turns on to a heading of 0.
    np.testing.assert_allclose(turned, [-1.0, 0.0], atol=1e-6)
    np.testing.assert_array_equal(slowed, [0.25, 1.0])
    folded, _, _ = arena.wrap_around(
        jnp.array([[1.1, 0.6]]), heading[:1], width_m=(2.0, 1.0), border_m=0.0
    )
    np.testing.assert_allclose(folded, [[-0.9, -0.4]], atol=1e-6)
    drawn = arena.sorscher_walk(jax.random.key(0), batch_size=300, num_steps=20, width_m=(2.0, 1.0))
    positions = np.asarray(drawn.positions)
    assert np.mean(np.abs(positions) <= np.array([1.0, 0.5]) + 0.03) > 0.999
    np.testing.assert_allclose(np.ptp(positions, axis=(0, 1)), [2.0, 1.0], rtol=0.05)

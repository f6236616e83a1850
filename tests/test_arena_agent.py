"""Motion against the installed RatInABox: step by step with the same noise, and in distribution."""

import itertools
from functools import partial
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import shapely

from hfjax import arena
from tests.against_ratinabox import CONSTANTS, ENVIRONMENTS, HOLE, RatInABoxAgent, their_agent

# These programs take longer to compile than to run.
quick_jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def one_step(environment, positions, velocities, **constants):
    """Animals [batch] after a step without noise from places [batch, dim] at velocities."""
    noise = jnp.zeros(environment.num_dims)
    motion = arena.motion(**constants)

    def step(position, velocity):
        agent = arena.Agent(position, velocity, jnp.zeros(()), velocity, velocity)
        return arena.step(agent, noise, environment=environment, motion=motion)

    return quick_jit(jax.vmap(step))(jnp.array(positions, float), jnp.array(velocities, float))


@pytest.mark.optimized
def test_walls_stand_also_beyond_the_seam_of_a_periodic_box():
    """Just past the left side and on the upper side itself: to be met from the other side too."""
    environment = arena.box(
        1.0, periodic=True, inner_walls=[[[0.02, 0.1], [0.02, 0.9]], [[0.1, 1.0], [0.9, 1.0]]]
    )
    positions = np.array([[0.99, 0.5], [0.05, 0.5], [0.5, 0.97], [0.5, 0.03], [0.99, 0.95]])
    velocities = np.array([[2.0, 0.4], [-2.0, 0.4], [0.4, 2.0], [0.4, -2.0], [2.0, 0.0]])
    after = one_step(environment, positions, velocities, speed_mean_mps=1.0, wall_strength=0)
    back = velocities * [[-1, 1], [-1, 1], [1, -1], [1, -1], [1, 1]] / np.hypot(2, 0.4)
    np.testing.assert_allclose(after.velocity[:4], 0.5 * back[:4], atol=1e-6)
    np.testing.assert_allclose(after.position[:4], (positions + 0.025 * back)[:4], atol=1e-6)
    # The last meets no wall, and goes 9 to 10 cm over the seam.
    assert 0.07 < float(after.position[4, 0]) < 0.1


def test_periodic_boxes_need_not_start_at_the_origin():
    at_origin, centred = (arena.box(0.8, 0.5, periodic=True, centred=c) for c in (False, True))
    positions = np.array([[0.79, 0.2], [0.3, 0.01], [0.5, 0.3]])
    velocities = np.tile([0.7, -0.9], (3, 1))  # 3.5 and 4.5 cm a step, over two of the sides
    one = one_step(at_origin, positions, velocities, speed_mean_mps=1.0)
    other = one_step(centred, positions - (0.4, 0.25), velocities, speed_mean_mps=1.0)
    np.testing.assert_allclose(other.position, one.position - np.array([[0.4, 0.25]]), atol=1e-6)
    np.testing.assert_allclose(other.measured_velocity, one.measured_velocity, atol=1e-5)
    assert np.all(np.abs(other.position) <= [[0.4, 0.25]])
    assert float(one.position[0, 0]) < 0.1
    assert float(one.position[1, 1]) > 0.4
    walks = [
        quick_jit(
            partial(
                arena.random_walk,
                batch_size=4,
                num_steps=30,
                environment=environment,
                motion=arena.motion(speed_mean_mps=1.0),
            )
        )(jax.random.key(0))
        for environment in (at_origin, centred)
    ]
    assert np.abs(np.diff(walks[0].positions, axis=1)).max() > 0.3  # some went round
    np.testing.assert_allclose(walks[1].start, walks[0].start, atol=1e-6)
    np.testing.assert_allclose(walks[1].positions, walks[0].positions, atol=1e-4)


def test_a_drift_leads_to_its_goal_and_thigmotaxis_to_the_walls():
    environment = arena.box(1.0)

    def positions(thigmotaxis, drift=None):
        motion = arena.motion(thigmotaxis=thigmotaxis)

        def run(key):
            start_key, walk_key = jax.random.split(key)
            agent = arena.start(start_key, environment=environment, motion=motion)
            settings = {"environment": environment, "motion": motion, "num_steps": 600}
            return arena.walk(agent, walk_key, **settings, drift=drift, drift_ratio=5.0)[1].position

        return np.asarray(quick_jit(jax.vmap(run))(jax.random.split(jax.random.key(0), 100)))

    goal = np.array([0.7, 0.3])
    led = positions(0.5, arena.towards(goal, speed_mps=0.1))
    assert np.median(np.linalg.norm(led[:, -1] - goal, axis=-1)) < 0.05

    def near(thigmotaxis):
        x = positions(thigmotaxis)
        return np.mean(np.minimum(x, 1 - x).min(axis=-1) < 0.1)

    assert near(1.0) > 1.5 * near(0.2)


ON_WALLS = {
    "box": (arena.box(1.0), [[1.0, 0.5], [0.0, 0.5], [0.3, 1.0], [1.0, 1.0], [0.0, 0.0]]),
    "clockwise": (
        arena.polygon([[0, 0], [0, 1], [1, 1], [1, 0]]),
        [[1.0, 0.5], [0.0, 0.5], [0.3, 1.0], [1.0, 1.0], [0.0, 0.0]],
    ),
    "inner wall and hole": (
        arena.box(1.0, inner_walls=[[[0.2, 0.1], [0.2, 0.6]]], holes=[HOLE]),
        [[0.2, 0.3], [0.2, 0.6], [0.5, 0.4], [0.4, 0.4], [0.65, 0.55]],
    ),
}


@pytest.mark.optimized
@pytest.mark.parametrize("name", ON_WALLS)
def test_an_animal_on_a_wall_or_a_corner_moves_away_and_has_gradients(name):
    """Exactly there, and 1e-9 and 1e-7 m beside it; compiled as step by step."""
    environment, places = ON_WALLS[name]
    beside = np.array([[0, 0], [1e-9, 1e-9], [-1e-9, -1e-9], [1e-7, -1e-7]])
    positions = (np.array(places)[:, None] + beside).reshape(-1, 1, 2)
    angles = np.linspace(0, 2 * np.pi, 8)
    velocities = 0.08 * np.stack([np.cos(angles), np.sin(angles)], axis=-1)[None]
    pairs = np.broadcast_arrays(positions, velocities)
    positions, velocities = (jnp.asarray(x.reshape(-1, 2), jnp.float32) for x in pairs)
    motion = arena.motion()

    def step(position, velocity):
        agent = arena.Agent(position, velocity, jnp.zeros(()), velocity, velocity)
        return arena.step(agent, jnp.zeros(2), environment=environment, motion=motion)

    def moved(position, velocity):
        return jnp.sum(step(position, velocity).position)

    after = jax.jit(jax.vmap(step))(positions, velocities)
    assert all(np.isfinite(x).all() for x in after)
    assert arena.contains(environment, after.position).all()
    with jax.disable_jit():
        for k in range(0, len(positions), 31):
            eager = step(positions[k], velocities[k])
            np.testing.assert_allclose(eager.position, after.position[k], atol=1e-6)
    for gradient in (jax.grad, jax.jacfwd):
        slopes = quick_jit(jax.vmap(gradient(moved, (0, 1))))(positions, velocities)
        assert all(np.isfinite(x).all() for x in slopes)
        # Beyond the end of a wall the normal turns by 1 / distance.
        assert np.abs(slopes[0]).max() < 1e6


def test_lists_and_whole_numbers_are_positions_too():
    """The value of an animal on the right side of a box, with its heading of seed 0."""
    environment, motion = arena.box(1.0), arena.motion()
    agent = arena.start(jax.random.key(0), environment=environment, motion=motion)
    step = partial(arena.step, environment=environment, motion=motion)
    for position in ([1.0, 0.5], (1, 0.5), np.array([1, 0.5])):
        after = quick_jit(step)(agent._replace(position=position), [0, 0])
        np.testing.assert_allclose(after.position, [0.996, 0.4998], atol=1e-4)
        walk = partial(arena.walk, environment=environment, motion=motion, num_steps=2)
        _, path = walk(agent._replace(position=position), jax.random.key(1))
        assert path.position.shape == (2, 2)


@pytest.mark.parametrize(("position", "angle"), [([0.5, 0.5], 0.3), ([0.999, 0.5], 0.3)])
def test_gradients_of_a_step_are_differences_also_of_a_bounce(position, angle):
    """Central differences in float64, off the walls and through one bounce and two."""
    environment = arena.box(1.0, inner_walls=[[[0.98, 0.52], [0.99, 0.53]]])
    motion = arena.motion(speed_mean_mps=0.3, speed_std_mps=0.0)

    def step(x):
        agent = arena.Agent(x[:2], x[2:4], x[4], x[2:4], jnp.array([0.6, 0.8]))
        after = arena.step(agent, jnp.zeros(2), environment=environment, motion=motion)
        return jnp.concatenate([after.position, after.velocity, after.head_direction])

    with jax.enable_x64(True):
        x = jnp.array([*position, 0.3 * np.cos(angle), 0.3 * np.sin(angle), 0.5])
        differences = [(step(x + h) - step(x - h)) / 2e-6 for h in 1e-6 * jnp.eye(5)]
        expected = np.stack(differences, axis=1)
        assert np.abs(expected).max() > 0.5
        for jacobian in (jax.jacrev, jax.jacfwd):
            np.testing.assert_allclose(jacobian(step)(x), expected, rtol=1e-4, atol=1e-4)


def test_a_drift_that_would_diverge_is_refused():
    """drift_ratio dt / T = 2 and above: the velocity would overshoot without bound."""
    environment, motion = arena.box(10.0), arena.motion(dt_s=0.1, speed_coherence_s=0.5)
    agent = arena.start(jax.random.key(0), environment=environment, motion=motion)

    def speed(drift_ratio):
        _, path = arena.walk(
            agent,
            jax.random.key(1),
            environment=environment,
            motion=motion,
            num_steps=300,
            drift=lambda agent: jnp.array([0.1, 0.0]),
            drift_ratio=drift_ratio,
        )
        return float(jnp.linalg.norm(path.velocity, axis=-1).max())

    assert speed(9.5) < 1
    for ratio in (10.0, 40.0, np.inf, np.nan, -1.0):
        with pytest.raises(ValueError, match="drift_ratio must"):
            speed(ratio)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: arena.motion(dt_s=0.2), "twice rotation_coherence_s"),
        (lambda: arena.motion(thigmotaxis=1.1), "thigmotaxis"),
        (lambda: arena.motion(wall_distance_m=0), "wall_distance_m"),
        (
            lambda: one_step(arena.box(), [[0.5, 0.5]], [[1, 0]], speed_mean_mps=-0.1),
            "speed_mean_mps must not be negative",
        ),
        (
            lambda: arena.start(
                jax.random.key(0),
                environment=arena.box(),
                motion=arena.motion(speed_mean_mps=-0.1),
            ),
            "speed_mean_mps must not be negative",
        ),
    ],
)
def test_impossible_motions_are_refused(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()


def their_walk(agent, noise, **drift):
    """Positions, velocities, head directions, steps of RatInABox with the given noise."""
    states = []
    for draws in noise:
        queue = itertools.chain(draws, itertools.repeat(0.0))

        def normal(loc=0.0, scale=1.0, size=None, queue=queue):
            # Draws scaled by dt are the motion's; the others shake walls to break ties.
            value = scale * next(queue) if scale == agent.dt else 0.0
            return np.full(size, value)

        with mock.patch.object(np.random, "normal", normal):
            agent.update(**drift)
        states.append((agent.pos, agent.velocity, agent.head_direction, agent.measured_velocity))
    return [np.array(x, float) for x in zip(*states, strict=True)]


def side_by_side(environment, motion, position, velocity, noise, drift=None, drift_ratio=1.0):
    """RatInABox and ours from the same start with the same noise, in float64.

    -> their positions, velocities, head directions and steps, our path and start, our step.
    """
    theirs = their_agent(environment, motion)
    theirs.pos, theirs.velocity = np.array(position), np.array(velocity)
    theirs.measured_velocity = theirs.velocity.copy()
    theirs.head_direction = theirs.velocity / np.linalg.norm(theirs.velocity)
    first = (theirs.pos, theirs.velocity, np.zeros(()), theirs.velocity, theirs.head_direction)
    expected = their_walk(
        theirs, noise, drift_velocity=drift, drift_to_random_strength_ratio=drift_ratio
    )

    def step(agent, noise):
        return arena.step(
            agent,
            noise,
            environment=environment,
            motion=motion,
            drift_velocity=drift,
            drift_ratio=drift_ratio,
        )

    with jax.enable_x64(True):
        agent = arena.Agent(*map(jnp.asarray, first))
        scan = quick_jit(partial(jax.lax.scan, lambda a, n: (step(a, n),) * 2))
        _, path = scan(agent, jnp.asarray(noise))
        path = jax.device_get(path)
    return expected, path, arena.Agent(*first), step


def test_constants_are_ratinaboxs():
    expected = {ours: RatInABoxAgent.default_params[theirs] for ours, theirs in CONSTANTS.items()}
    assert arena.motion()._asdict() == expected


@pytest.mark.parametrize(
    ("name", "drifts"),
    [
        ("box", False),
        ("ring", False),
        *((name, True) for name in ("box", "wall", "ring", "track", "torus", "polygon")),
    ],
)
def test_steps_equal_ratinaboxs(name, drifts):
    environment = ENVIRONMENTS[name]
    dims = environment.num_dims
    # Fast and forgetful of turns, so that it meets many walls; nothing as by default.
    motion = arena.motion(
        dt_s=0.04,
        speed_mean_mps=0.4 if dims == 2 else 0.1,
        speed_std_mps=0.3,
        speed_coherence_s=0.9,
        rotation_std_radps=1.0,
        rotation_coherence_s=0.11,
        thigmotaxis=0.3,
        wall_distance_m=0.13,
        wall_strength=1.7,
        head_direction_s=0.21,
    )
    assert all(a != b for a, b in zip(motion, arena.motion(), strict=True))
    # Bounces make of a rounding error of 1e-16 one of 1e-9 within 300 steps or so.
    noise = np.random.default_rng(3).normal(size=(250, dims))
    (position, velocity, head_direction, measured), path, first, step = side_by_side(
        environment,
        motion,
        [0.3, 0.2][:dims],
        [0.3, 0.4][:dims],
        noise,
        drift=np.array([0.3, -0.2])[:dims] if drifts else None,
        drift_ratio=2.5,
    )
    np.testing.assert_allclose(path.position, position, atol=1e-9)
    # An animal at rest, at the end of a track, has a random direction in RatInABox.
    moved = np.abs(measured).max(axis=-1) > 1e-6
    assert moved.mean() > 0.5
    np.testing.assert_allclose(path.velocity[moved], velocity[moved], atol=1e-9)
    np.testing.assert_allclose(path.measured_velocity[moved], measured[moved], atol=1e-9)
    np.testing.assert_allclose(path.head_direction[moved], head_direction[moved], atol=1e-9)

    # In float32 each step from the exact state before it, so that chaos does not add up.
    before = jax.tree.map(
        lambda a, b: jnp.concatenate([jnp.asarray(a)[None], b[:-1]]).astype(jnp.float32),
        first,
        path,
    )
    after = quick_jit(jax.vmap(step))(before, jnp.asarray(noise, jnp.float32))
    error = np.abs(after.position - position).max(axis=-1)
    assert np.mean(error > 1e-6) < 0.01  # rounding may decide a bounce


def test_bounces_in_a_corner_and_off_two_walls_equal_ratinaboxs():
    motion = arena.motion(speed_mean_mps=0.4, wall_strength=0)
    # A slanted wall, the first in the list, and before it an upright one.
    walls = [[[0.475, 0.45], [0.525, 0.55]], [[0.47, 0.3], [0.47, 0.7]]]
    for environment, position, velocity, back in (
        # 1 cm after the first bounce, which still crosses the other side: a second one.
        (arena.box(1.0), [0.004, 0.002], [-0.3, -0.4], [0.6, 0.8]),
        # 7 cm through both. It is the first in the list that counts, not the nearest: reflected in
        # (1, 2), as (1.5, 0.3) is to (-0.66, 1.38).
        (arena.box(1.0, inner_walls=walls), [0.45, 0.5], [1.5, 0.3], [-0.66, 1.38]),
    ):
        (expected, *_), path, *_ = side_by_side(
            environment, motion, position, velocity, np.zeros((3, 2))
        )
        np.testing.assert_allclose(path.position, expected, atol=1e-9)
        step = path.position[0] - position
        np.testing.assert_allclose(step, 0.01 * np.array(back) / np.linalg.norm(back), atol=1e-9)


def distance_to_walls(environment, positions):
    """[..., 2] -> [...] (m), on the host."""
    walls = [shapely.LineString(wall) for wall in environment.walls]
    points = shapely.points(positions)
    return np.min([shapely.distance(wall, points) for wall in walls], axis=0)


def coherence_s(x, dt_s):
    """The autocorrelation of each run, summed up to 0.25 s: [run, time] -> [run] (s).

    At longer lags ten seconds are too short an average.
    """
    x = x - x.mean(axis=1, keepdims=True)
    r = [(x[:, lag:] * x[:, : x.shape[1] - lag]).mean(1) for lag in range(round(0.25 / dt_s))]
    return dt_s * np.sum(r, axis=0) / r[0]


def statistics(environment, position, velocity, dt_s):
    """Means over time, one for each run. position, velocity [run, time, dim] -> {name: [run]}."""
    speed = np.linalg.norm(velocity, axis=-1)
    lag = round(0.5 / dt_s)
    # Occupancy of thirds of the extent, along each dimension.
    low, high = np.array(environment.extent).T
    thirds = np.clip((3 * (position - low) / (high - low)).astype(int), 0, 2)
    means = {
        "speed": speed.mean(1),
        "speed squared": (speed**2).mean(1),
        "correlation of velocities": (velocity[:, lag:] * velocity[:, :-lag]).sum(-1).mean(1),
        "correlation of speeds": (speed[:, lag:] * speed[:, :-lag]).mean(1),
        "x": position[..., 0].mean(1),
        "x squared": (position[..., 0] ** 2).mean(1),
        "coherence of speed": coherence_s(speed, dt_s),
        "change of speed": np.abs(np.diff(speed, axis=1)).mean(1),
    }
    for part in np.ndindex(*[3] * environment.num_dims):
        means[f"time in {part}"] = (thirds == part).all(-1).mean(1)
    if environment.num_dims == 2:
        away = distance_to_walls(environment, position)
        angle = np.arctan2(velocity[..., 1], velocity[..., 0])
        rotation = np.asarray(arena.wrap_angle(np.diff(angle, axis=1))) / dt_s
        means |= {
            "rotation squared": (rotation**2).mean(1),
            "correlation of rotations": (rotation[:, 2:] * rotation[:, :-2]).mean(1),
            "coherence of rotation": coherence_s(rotation, dt_s),
            "y": position[..., 1].mean(1),
            "distance to walls": away.mean(1),
            "near a wall": (away < 0.05).mean(1),
        }
    return means


@pytest.mark.slow
@pytest.mark.parametrize("name", ["box", "wall", "ring", "polygon"])
def test_runs_are_distributed_as_ratinaboxs(name):
    environment = ENVIRONMENTS[name]
    motion = arena.motion(speed_mean_mps=0.2, speed_std_mps=0.2)
    num_runs, num_steps = 24, 200
    np.random.seed(0)  # noqa: NPY002 (RatInABox draws from it)
    theirs = []
    for _ in range(num_runs):
        agent = their_agent(environment, motion)
        for _ in range(num_steps):
            agent.update()
        history = agent.history
        theirs.append([np.array(history[key]) for key in ("pos", "vel")])
    theirs = [np.stack(x) for x in zip(*theirs, strict=True)]

    def run(key):
        start_key, walk_key = jax.random.split(key)
        agent = arena.start(start_key, environment=environment, motion=motion)
        return arena.walk(
            agent, walk_key, environment=environment, motion=motion, num_steps=num_steps
        )[1]

    # The error of the difference is that of the 24 runs: more of ours than 300 would not lower it.
    path = quick_jit(jax.vmap(run))(jax.random.split(jax.random.key(1), 300))
    velocity = np.asarray(path.measured_velocity)
    ours = statistics(environment, np.asarray(path.position), velocity, motion.dt_s)
    # Runs are independent of each other: Student's t of their means, one false alarm in a thousand
    # over all comparisons together.
    expected = statistics(environment, *theirs, motion.dt_s)
    for statistic, values in expected.items():
        p = scipy.stats.ttest_ind(values, ours[statistic], equal_var=False).pvalue
        assert p > 1e-3 / (3 * 23 + 11), (statistic, values.mean(), ours[statistic].mean(), p)


def crosses(walls, before, after):
    """Whether steps [step, 2] to [step, 2] cross any wall [wall, end, 2], by four orientations."""

    def side(a, b, c):
        return (b[..., 0] - a[..., 0]) * (c[..., 1] - a[..., 1]) - (b[..., 1] - a[..., 1]) * (
            c[..., 0] - a[..., 0]
        )

    crossed = np.zeros(len(before), bool)
    for a, b in walls:
        apart = side(before, after, a) * side(before, after, b) <= 0
        crossed |= apart & (side(a, b, before) * side(a, b, after) <= 0)
    return crossed


@pytest.mark.optimized
@pytest.mark.slow
@pytest.mark.parametrize("name", ["box", "wall", "polygon", "walled torus"])
def test_nobody_leaves_or_goes_through_a_wall(name):
    """In 1e7 steps, all environments together."""
    environment = ENVIRONMENTS[name]
    motion = arena.motion(speed_mean_mps=1.0, wall_distance_m=0.02, thigmotaxis=0.9)
    low, high = np.array(environment.extent).T
    walls, width = environment.walls, high - low
    if environment.periodic:  # each also beyond each side
        shifts = np.stack(np.meshgrid(*np.outer(width, [-1, 0, 1])), axis=-1).reshape(-1, 1, 1, 2)
        walls = (shifts + walls).reshape(-1, 2, 2)

    def run(agent, key):
        return arena.walk(agent, key, environment=environment, motion=motion, num_steps=500)

    run = jax.jit(jax.vmap(run))
    keys = jax.random.split(jax.random.key(5), (6, 1000))
    agent = jax.vmap(lambda k: arena.start(k, environment=environment, motion=motion))(keys[5])
    around = 0
    for now in keys[:5]:  # 500,000 steps each
        last, path = run(agent, now)
        after = np.asarray(path.position, np.float64)
        first = np.asarray(agent.position, np.float64)[:, None]
        before = np.concatenate([first, after[:, :-1]], axis=1)
        if environment.periodic:
            assert ((after >= low) & (after <= high)).all()
            # A push off the end of a wall can be longer than half the box.
            moved = motion.dt_s * np.asarray(path.measured_velocity, np.float64)
            laps = np.round((after - before - moved) / width)
            around += (laps != 0).any(axis=-1).sum()
            after = after - laps * width
        else:
            assert bool(arena.contains(environment, path.position).all())
        assert not crosses(walls, before.reshape(-1, 2), after.reshape(-1, 2)).any()
        agent = last
    assert np.mean(np.any(before != after, axis=-1)) > 0.99  # and nobody stands still for long
    assert (around > 10_000) == environment.periodic

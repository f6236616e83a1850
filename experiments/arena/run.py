"""Paths through environments by RatInABox's motion in JAX, drawn, and compared in distribution.

python experiments/arena/run.py                 # three minutes of one CPU core
python experiments/arena/run.py --only=figures  # the figures alone
"""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np

from experiments import harness
from hfjax import arena, cells, figures
from hfjax.data import recordings

HOLE = [[0.4, 0.4], [0.7, 0.4], [0.6, 0.7]]
ENVIRONMENTS = {
    "box": arena.box(1.0),
    "box with an inner wall": arena.box(1.2, 1.0, inner_walls=[[[0.4, 0.0], [0.4, 0.7]]]),
    "polygon with a hole": arena.polygon([[0, 0], [1.2, 0], [1.0, 1.1], [0.2, 0.9]], holes=[HOLE]),
    "torus": arena.box(1.0, periodic=True),
}
MINUTES = 3.0  # of each run in the comparison
NUM_RUNS = 1000  # of hfjax; RatInABox has the seeds of the section


def walk_from_start(
    key: jax.Array,
    *,
    environment: arena.Environment,
    motion: arena.Motion,
    num_steps: int,
    drift: arena.Drift | None = None,
) -> tuple[arena.Agent, arena.Agent]:
    """One animal -> (its start, its states [time, ...])."""
    start_key, walk_key = jax.random.split(key)
    agent = arena.start(start_key, environment=environment, motion=motion)
    _, path = arena.walk(
        agent,
        walk_key,
        environment=environment,
        motion=motion,
        num_steps=num_steps,
        drift=drift,
    )
    return agent, path


def path_in(
    environment: arena.Environment,
    motion: arena.Motion,
    *,
    seconds: float = 1200.0,
    drift: arena.Drift | None = None,
) -> np.ndarray:
    """Positions [time + 1, 2] of one animal."""
    walk = functools.partial(
        walk_from_start,
        environment=environment,
        motion=motion,
        num_steps=round(seconds / motion.dt_s),
        drift=drift,
    )
    agent, path = jax.jit(walk)(jax.random.key(0))
    return np.concatenate([agent.position[None], path.position])


def draw(study: harness.Study) -> str:
    """Figures of environments and of behaviours."""
    motion = arena.motion()
    environments = figures.arenas(
        {name: (room, path_in(room, motion)) for name, room in ENVIRONMENTS.items()},
        dt_s=motion.dt_s,
        title="RatInABox's random walk in four environments",
    )
    study.save("environments", environments, dpi=110)

    room = ENVIRONMENTS["box"]
    jumps = arena.teleport(jax.random.key(1), environment=room, num_steps=24_000, num_places=12_000)
    rat = recordings.sargolini(num_steps=200, dt_s=0.05)["rat_positions"] + 0.5
    cut = np.concatenate([rat, np.full_like(rat[:, :1], np.nan)], axis=1).reshape(-1, 2)
    centred = arena.towards((0.5, 0.5), speed_mps=0.05)
    paths = {
        "random walk\n(thigmotaxis 0.2)": path_in(room, arena.motion(thigmotaxis=0.2)),
        "along the walls\n(thigmotaxis 1)": path_in(room, arena.motion(thigmotaxis=1.0)),
        "drift to the centre\n(0.05 m/s)": path_in(room, motion, drift=centred),
        "teleport\n(12,000 places)": np.asarray(jumps),
        "a rat\n(Sargolini et al. 2006)": cut,
    }
    centres = cells.jittered_centres(jax.random.key(7), num_place=50, width_m=1.0, num_dims=2) + 0.5
    behaviours = figures.arenas(
        {name: (room, path) for name, path in paths.items()},
        dt_s=motion.dt_s,
        centres=np.asarray(centres),
        title="Behaviours in a box of 1 m, with the centres of fifty place fields",
    )
    study.save("behaviours", behaviours, dpi=110)
    return ""


def coherence_s(values: np.ndarray, dt_s: float) -> np.ndarray:
    """Time after which the autocorrelation of values [run, time] falls below 1/e, for each run."""
    x = values - values.mean(axis=1, keepdims=True)
    lags = range(round(3 / dt_s))
    r = np.stack([(x[:, : x.shape[1] - k] * x[:, k:]).mean(axis=1) for k in lags], axis=1)
    below = r < r[:, :1] / np.e
    at = below.argmax(axis=1)
    rows = np.arange(len(x))
    above = r[rows, at - 1] - r[:, 0] / np.e
    return dt_s * (at - 1 + above / (r[rows, at - 1] - r[rows, at]))


def measures(
    environment: arena.Environment,
    position: np.ndarray,
    velocity: np.ndarray,
    rotation: np.ndarray,
    *,
    dt_s: float,
) -> dict[str, np.ndarray]:
    """The measures of the table, one number for each run: [run, time, ...] -> {name: [run]}."""
    walls = environment.walls
    side = walls[:, 1] - walls[:, 0]
    offset = position[:, :, None] - walls[:, 0]
    along = np.clip((offset * side).sum(-1) / (side**2).sum(-1), 0, 1)
    away = np.linalg.norm(offset - along[..., None] * side, axis=-1).min(axis=-1)
    speed = np.linalg.norm(velocity, axis=-1)
    return {
        "speed (m/s)": speed.mean(axis=1),
        "rotational velocity, rms (rad/s)": np.sqrt((rotation**2).mean(axis=1)),
        "coherence time of speed (s)": coherence_s(speed, dt_s),
        "coherence time of rotation (s)": coherence_s(rotation, dt_s),
        "distance to the nearest wall (m)": away.mean(axis=1),
        "time within 5 cm of a wall (%)": 100 * (away < 0.05).mean(axis=1),
    }


def ratinabox_runs(
    environment: arena.Environment, motion: arena.Motion, *, num_runs: int, num_steps: int
) -> list[np.ndarray]:
    """Positions, velocities and rotational velocities [run, time, ...] by RatInABox."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import ratinabox
        from ratinabox import Agent
    ratinabox.verbose = False
    np.random.seed(1)  # noqa: NPY002 (RatInABox draws from it)
    runs = []
    for _ in range(num_runs):
        agent = Agent(arena.to_ratinabox(environment), {"dt": motion.dt_s})
        for _ in range(num_steps):
            agent.update()
        runs.append([np.array(agent.history[name], float) for name in ("pos", "vel", "rot_vel")])
    return [np.stack(x) for x in zip(*runs, strict=True)]


def hfjax_runs(
    environment: arena.Environment, motion: arena.Motion, *, num_runs: int, num_steps: int
) -> list[np.ndarray]:
    """The same arrays by hfjax."""
    run = functools.partial(
        walk_from_start, environment=environment, motion=motion, num_steps=num_steps
    )
    _, path = jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0), num_runs))
    velocity = path.measured_velocity
    turned = jnp.diff(jnp.arctan2(velocity[..., 1], velocity[..., 0]), axis=1)
    rotation = arena.wrap_angle(turned) / motion.dt_s
    return [np.asarray(x, float) for x in (path.position[:, 1:], velocity[:, 1:], rotation)]


def mean_and_error(values: np.ndarray) -> str:
    """Mean over runs, and its standard error."""
    return f"{values.mean():.4g} ± {values.std(ddof=1) / len(values) ** 0.5:.1g}"


def compare(study: harness.Study) -> str:
    """Means over runs with their standard errors, of RatInABox and hfjax."""
    motion = arena.motion()
    num_steps = round(60 * MINUTES / motion.dt_s)
    num_runs = {ratinabox_runs: study.seeds, hfjax_runs: NUM_RUNS}
    rows = []
    for name, environment in ENVIRONMENTS.items():
        if environment.periodic:
            continue
        theirs, ours = (
            measures(
                environment,
                *simulate(environment, motion, num_runs=count, num_steps=num_steps),
                dt_s=motion.dt_s,
            )
            for simulate, count in num_runs.items()
        )
        for number, measure in enumerate(theirs):
            values = [mean_and_error(x[measure]) for x in (theirs, ours)]
            rows.append(["" if number else name, measure, *values])
    return harness.table(["environment", "", "RatInABox", "hfjax"], rows)


SECTIONS = {"figures": harness.Section(draw), "motion": harness.Section(compare, seeds=16)}

if __name__ == "__main__":
    harness.main(__file__, __doc__, SECTIONS)

"""Paths in JAX beside RatInABox's: figures of environments and behaviours, and a table.

    python experiments/arena/paths.py            # three minutes of one CPU core
    python experiments/arena/paths.py --figures  # the figures alone

Prints a table in Markdown; draws environments.png and behaviours.png beside this file.
"""

import argparse
import pathlib
import warnings

import jax
import jax.numpy as jnp
import numpy as np

from hfjax import arena, cells, figures
from hfjax.data import recordings

HERE = pathlib.Path(__file__).parent
HOLE = [[0.4, 0.4], [0.7, 0.4], [0.6, 0.7]]
ENVIRONMENTS = {
    "box": arena.box(1.0),
    "box with an inner wall": arena.box(1.2, 1.0, inner_walls=[[[0.4, 0.0], [0.4, 0.7]]]),
    "polygon with a hole": arena.polygon([[0, 0], [1.2, 0], [1.0, 1.1], [0.2, 0.9]], holes=[HOLE]),
    "torus": arena.box(1.0, periodic=True),
}


def path_in(environment, motion, *, seconds, drift=None, drift_ratio=1.0, seed=0):
    """Positions [time + 1, 2] of one animal."""
    start_key, walk_key = jax.random.split(jax.random.key(seed))
    agent = arena.start(start_key, environment=environment, motion=motion)
    _, path = jax.jit(
        lambda agent, key: arena.walk(
            agent,
            key,
            environment=environment,
            motion=motion,
            num_steps=round(seconds / motion.dt_s),
            drift=drift,
            drift_ratio=drift_ratio,
        )
    )(agent, walk_key)
    return np.concatenate([agent.position[None], path.position])


def draw() -> None:
    """The two figures."""
    motion = arena.motion()
    centres = cells.jittered_centres(jax.random.key(7), num_place=50, width_m=1.0, num_dims=2) + 0.5
    figures.arenas(
        {
            name: (environment, path_in(environment, motion, seconds=1200))
            for name, environment in ENVIRONMENTS.items()
        },
        dt_s=motion.dt_s,
        title="RatInABox's random walk in four environments",
    ).savefig(HERE / "environments.png", dpi=110)

    room = ENVIRONMENTS["box"]
    jumps = arena.teleport(jax.random.key(1), environment=room, num_steps=24_000, num_places=12_000)
    rat = recordings.sargolini(num_steps=200, dt_s=0.05)["rat_positions"] + 0.5
    cut = np.concatenate([rat, np.full_like(rat[:, :1], np.nan)], axis=1).reshape(-1, 2)
    figures.arenas(
        {
            "random walk\n(thigmotaxis 0.2)": (
                room,
                path_in(room, arena.motion(thigmotaxis=0.2), seconds=1200),
            ),
            "along the walls\n(thigmotaxis 1)": (
                room,
                path_in(room, arena.motion(thigmotaxis=1.0), seconds=1200),
            ),
            "drift to the centre\n(0.05 m/s)": (
                room,
                path_in(
                    room, motion, seconds=1200, drift=arena.towards((0.5, 0.5), speed_mps=0.05)
                ),
            ),
            "teleport\n(12,000 places)": (room, np.asarray(jumps)),
            "a rat\n(Sargolini et al. 2006)": (room, cut),
        },
        dt_s=motion.dt_s,
        centres=np.asarray(centres),
        title="Behaviours in a box of 1 m, with the centres of fifty place fields",
    ).savefig(HERE / "behaviours.png", dpi=110)


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


def measures(environment, position, velocity, rotation, *, dt_s) -> dict[str, np.ndarray]:
    """What the table compares, one number for each run: [run, time, ...] -> {name: [run]}."""
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
        "distance to the next wall (m)": away.mean(axis=1),
        "time within 5 cm of a wall (%)": 100 * (away < 0.05).mean(axis=1),
    }


def table(num_runs: int = 16, minutes: float = 3.0) -> None:
    """Means over runs with their standard errors, RatInABox's and ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import ratinabox
        from ratinabox import Agent as RatInABoxAgent
    ratinabox.verbose = False
    motion = arena.motion()
    num_steps = round(60 * minutes / motion.dt_s)
    print(f"{num_runs} runs of {minutes:g} min by RatInABox, 1000 by us: mean ± standard error\n")
    print("| environment | | RatInABox | hfjax |\n|---|---|---|---|")
    for name in ("box", "box with an inner wall", "polygon with a hole"):
        environment = ENVIRONMENTS[name]
        np.random.seed(1)  # noqa: NPY002 (RatInABox draws from it)
        theirs = []
        for _ in range(num_runs):
            agent = RatInABoxAgent(arena.to_ratinabox(environment), {"dt": motion.dt_s})
            for _ in range(num_steps):
                agent.update()
            names = ("pos", "vel", "rot_vel")
            theirs.append([np.array(agent.history[n], float) for n in names])

        def run(key, environment=environment):
            start_key, walk_key = jax.random.split(key)
            agent = arena.start(start_key, environment=environment, motion=motion)
            return arena.walk(
                agent, walk_key, environment=environment, motion=motion, num_steps=num_steps
            )[1]

        path = jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0), 1000))
        turned = jnp.diff(
            jnp.arctan2(path.measured_velocity[..., 1], path.measured_velocity[..., 0]), axis=1
        )
        ours = [
            np.asarray(x, float)
            for x in (
                path.position[:, 1:],
                path.measured_velocity[:, 1:],
                arena.wrap_angle(turned) / motion.dt_s,
            )
        ]
        found = [
            measures(environment, *arrays, dt_s=motion.dt_s)
            for arrays in ([np.stack(x) for x in zip(*theirs, strict=True)], ours)
        ]
        for number, what in enumerate(found[0]):
            cells_ = [
                f"{x[what].mean():.4g} ± {x[what].std(ddof=1) / len(x[what]) ** 0.5:.1g}"
                for x in found
            ]
            print(f"| {'' if number else name} | {what} | {' | '.join(cells_)} |", flush=True)


def main() -> None:
    """Draw, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--figures", action="store_true", help="draw only")
    options = parser.parse_args()
    draw()
    if not options.figures:
        table()


if __name__ == "__main__":
    main()

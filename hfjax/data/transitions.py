"""Data sets of transitions for `models.dsm`, made on the device in seconds, kept as npz.

    python -m hfjax.data pendulum --out=pendulum.npz
    python -m hfjax.data place_cells --out=goal.npz --behaviour=goal

Every function returns a dict of arrays with "states" [time, dim] and "last" [time], and what
evaluation compares with; the file holds the same and the settings that made it. Nothing is pickled.
"""

import functools
import inspect
import io
import json
import math
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hfjax import arena, cells, check, envs, visibility
from hfjax.data import policies
from hfjax.errors import DataFileError, one_line
from hfjax.files import UNREADABLE, write_atomically

# (observation, key) -> action
Policy = Callable[[jax.Array, jax.Array], jax.Array]


def rollouts(
    env: envs.Env,
    policy: Policy,
    key: jax.Array,
    *,
    num_envs: int,
    num_steps: int,
    episode_steps: int,
) -> tuple[jax.Array, jax.Array]:
    """Observations [env, time, observation] and where episodes end, [env, time] of bool.

    Environments run side by side and begin anew where they are terminal, or after episode_steps.
    """

    def body(carry, key):
        state, age = carry
        action_key, step_key, reset_key = jax.random.split(key, 3)
        seen = env.observe(state)
        new, _, terminal = env.step(state, policy(seen, action_key), step_key)
        last = age == episode_steps - 1
        fresh = env.reset(reset_key)
        # A terminal state is shown, as the last of its episode, before the next one begins.
        ended = terminal & ~last
        state = jax.tree.map(lambda a, b: jnp.where(last, a, b), fresh, new)
        age = jnp.where(last, 0, jnp.where(ended, episode_steps - 1, age + 1))
        return (state, age), (seen, last)

    def one(key):
        reset_key, key = jax.random.split(key)
        start = env.reset(reset_key), jnp.int32(0)
        return jax.lax.scan(body, start, jax.random.split(key, num_steps))[1]

    return jax.jit(jax.vmap(one))(jax.random.split(key, num_envs))


def monte_carlo_returns(
    env: envs.Env,
    policy: Policy,
    rewards: Callable[[jax.Array, jax.Array], jax.Array],
    sources: Any,
    key: jax.Array,
    *,
    gamma: float,
    num_rollouts: int,
    num_steps: int | None = None,
    from_source: bool = True,
) -> np.ndarray:
    """Discounted returns of rollouts from given states: [source, reward, rollout].

    sources: states of the environment, leaves [source, ...]. rewards (observation, action) ->
    [reward]. num_steps: of a rollout (default: until a reward counts less than 1e-4, at least 200).
    from_source: whether the reward of the source itself counts; without, the first that
    counts, undiscounted, is that of the next state.
    """
    if num_steps is None:
        num_steps = max(200, math.ceil(math.log(1e-4) / math.log(gamma)) if gamma else 0)
    discounts = gamma ** jnp.arange(num_steps, dtype=jnp.float32)
    if not from_source:
        discounts = jnp.concatenate([jnp.zeros(1), discounts])

    def one(source, key):
        def body(carry, now):
            state, total = carry
            key, discount = now
            action_key, step_key = jax.random.split(key)
            seen = env.observe(state)
            action = policy(seen, action_key)
            state, _, _ = env.step(state, action, step_key)
            return (state, total + discount * rewards(seen, action)), None

        empty = jax.eval_shape(
            lambda s: rewards(env.observe(s), policy(env.observe(s), key)), source
        )
        start = source, jnp.zeros(empty.shape)
        return jax.lax.scan(body, start, (jax.random.split(key, len(discounts)), discounts))[0][1]

    def all_of(source_and_key):
        source, key = source_and_key
        keys = jax.random.split(key, num_rollouts)
        return jax.lax.map(lambda key: one(source, key), keys, batch_size=min(num_rollouts, 1000)).T

    count = len(jax.tree.leaves(sources)[0])
    keys = jax.random.split(key, count)
    return np.asarray(jax.jit(lambda both: jax.lax.map(all_of, both))((sources, keys)))


def pendulum(
    *,
    policy: str = "pendulum",
    num_transitions: int = 500_000,
    num_rollouts: int = 5_000,
    gamma: float = 0.95,
    from_source: bool = True,
    seed: int = 0,
) -> dict[str, Any]:
    """Transitions of a trained policy in Pendulum-v1, and returns from nine states.

    Episodes of 200 steps. Sources: angles pi/2, pi, 3 pi/2 by velocities -4, 0, 4.
    -> "states" [time, 3], "last" [time], "sources" [9, 3], "mc_returns" [source, reward, rollout]
    discounted by gamma and from_source (those of the task), for `envs.PENDULUM_REWARDS`,
    and the "policy", whose actions some rewards need.
    Raises ValueError where a number is below 1, or gamma outside [0, 1).
    Source: distributional-sr `make_dataset`, `make_mc_returns`.
    """
    check.at_least(1, num_transitions=num_transitions, num_rollouts=num_rollouts)
    check.below_one(gamma=gamma)
    trained = policies.load(policy)
    env = envs.pendulum()
    act = functools.partial(policies.act, trained)
    data_key, mc_key = jax.random.split(jax.random.key(seed))
    num_envs = min(500, -(-num_transitions // 200))
    states, last = rollouts(
        env,
        act,
        data_key,
        num_envs=num_envs,
        num_steps=200 * -(-num_transitions // (200 * num_envs)),
        episode_steps=200,
    )
    angles = np.repeat([np.pi / 2, np.pi, 3 * np.pi / 2], 3).astype(np.float32)
    velocities = np.tile([-4.0, 0.0, 4.0], 3).astype(np.float32)
    sources = envs.Pendulum(jnp.asarray(angles), jnp.asarray(velocities))

    def rewards(seen, action):
        named = envs.PENDULUM_REWARDS.values()
        return jnp.stack([reward(seen, action) for reward in named])

    returns = monte_carlo_returns(
        env,
        act,
        rewards,
        sources,
        mc_key,
        gamma=gamma,
        num_rollouts=num_rollouts,
        from_source=from_source,
    )
    return {
        "states": np.asarray(states).reshape(-1, 3)[:num_transitions],
        "last": np.asarray(last).reshape(-1)[:num_transitions],
        "sources": np.asarray(jax.vmap(env.observe)(sources), np.float32),
        "mc_returns": returns,
        "gamma": np.float32(gamma),
        "policy": jax.tree.map(np.asarray, trained),
    }


def windy_grid(
    *,
    num_transitions: int = 100_000,
    num_rollouts: int = 5_000,
    gamma: float = 0.95,
    seed: int = 0,
) -> dict[str, Any]:
    """Transitions of random moves in the windy grid world, and returns from five states.

    Episodes of 200 steps, all from the middle. Sources: the middle, and (+-2, +-2). As `pendulum`,
    with the reward of the quadrants. The original has neither data nor a policy for it.
    """
    check.at_least(1, num_transitions=num_transitions, num_rollouts=num_rollouts)
    check.below_one(gamma=gamma)
    env = envs.windy_grid()

    def act(seen, key):
        return jax.random.randint(key, (1,), 0, 4).astype(float)

    data_key, mc_key = jax.random.split(jax.random.key(seed))
    num_envs = min(100, -(-num_transitions // 200))
    states, last = rollouts(
        env,
        act,
        data_key,
        num_envs=num_envs,
        num_steps=200 * -(-num_transitions // (200 * num_envs)),
        episode_steps=200,
    )
    sources = np.array([[0, 0], [2, 2], [-2, 2], [-2, -2], [2, -2]], np.float32)
    returns = monte_carlo_returns(
        env,
        act,
        lambda seen, action: envs.quadrant_reward(seen)[None],
        jnp.asarray(sources),
        mc_key,
        gamma=gamma,
        num_rollouts=num_rollouts,
    )
    return {
        "states": np.asarray(states).reshape(-1, 2)[:num_transitions],
        "last": np.asarray(last).reshape(-1)[:num_transitions],
        "sources": sources,
        "mc_returns": returns,
        "gamma": np.float32(gamma),
    }


# Place cells -----------------------------------------------------------------------------------

WALL = [[[0.4, 0.0], [0.4, 0.9]]]


def _walk(key: jax.Array, room: arena.Environment, num_steps: int, **motion: float) -> np.ndarray:
    """Positions [time, 2] of one animal of RatInABox's."""
    start_key, walk_key = jax.random.split(key)
    constants = arena.motion(**motion)
    agent = arena.start(start_key, environment=room, motion=constants)

    def run(agent, key):
        return arena.walk(agent, key, environment=room, motion=constants, num_steps=num_steps)[1]

    return np.asarray(jax.jit(run)(agent, walk_key).position)


def random_walk(key: jax.Array, num_steps: int) -> tuple[arena.Environment, np.ndarray, np.ndarray]:
    """RatInABox's walk with thigmotaxis 0.2 in a box of 1 m, dt 50 ms."""
    room = arena.box(1.0)
    return room, _walk(key, room, num_steps, thigmotaxis=0.2), _only_at_the_end(num_steps)


def high_thigmotaxis(key: jax.Array, num_steps: int):
    """The same along the walls: thigmotaxis 1."""
    room = arena.box(1.0)
    return room, _walk(key, room, num_steps, thigmotaxis=1.0), _only_at_the_end(num_steps)


def wall(key: jax.Array, num_steps: int):
    """The random walk with a wall at x = 0.4 m from y = 0 to 0.9 m."""
    room = arena.box(1.0, inner_walls=WALL)
    return room, _walk(key, room, num_steps, thigmotaxis=0.2), _only_at_the_end(num_steps)


def teleport(key: jax.Array, num_steps: int):
    """Straight lines between random places, a new one every second step."""
    room = arena.box(1.0)
    path = arena.teleport(
        key, environment=room, num_steps=num_steps - 1, num_places=max(2, num_steps // 2)
    )
    return room, np.asarray(path), _only_at_the_end(num_steps)


def goal(key: jax.Array, num_steps: int):
    """A trained policy that seeks the middle (10 cm), dt 100 ms; every arrival ends an episode."""
    env = policies.goal_env()
    act = functools.partial(policies.act, policies.load("arena_goal"))
    observing = env._replace(observe=lambda agent: agent.position)
    code = policies.place_cells(arena.box(1.0))
    seen, last = rollouts(
        observing,
        lambda position, key: act(code(position), key),
        key,
        num_envs=1,
        num_steps=num_steps,
        episode_steps=300,
    )
    return arena.box(1.0), np.asarray(seen[0]), np.asarray(last[0])


def _only_at_the_end(num_steps: int) -> np.ndarray:
    return np.arange(num_steps) == num_steps - 1


BEHAVIOURS = {f.__name__: f for f in (random_walk, high_thigmotaxis, goal, teleport, wall)}


def place_cells(
    *,
    behaviour: str = "random_walk",
    num_steps: int = 24_000,
    num_cells: int = 50,
    width_m: float = 0.2,
    lattice: int = 20,
    gamma: float = 0.95,
    seed: int = 0,
) -> dict[str, Any]:
    """Rates of Gaussian place cells along a behaviour, as in the thesis: 20 minutes of 50 cells.

    behaviour: of BEHAVIOURS; where it has a wall, distances go around it. Centres are uniform in
    the box (there: uniform with jitter). -> "states" [time, cell], "last"
    [time], "positions" [time, 2] (m), "centres" [cell, 2]; "lattice" [place, 2], an even one of
    lattice x lattice places, and the rates there, "sources" [place, cell]; "occupancy" [place];
    "empirical" [place, cell]: discounted mean of the rates to come, (1 - gamma) sum_k gamma^k
    r_(t+k) to the episode's end, whose last rates count for all that would follow, averaged over
    the visits of a lattice bin (NaN where there are none); "cell_width_m".
    Raises ValueError for an unknown behaviour, numbers below 1, and gamma outside [0, 1).
    Source: dsm-hippocampus `make_dataset_rat_PC_...`.
    """
    if behaviour not in BEHAVIOURS:
        raise ValueError(f"behaviour must be one of {', '.join(BEHAVIOURS)}, but is {behaviour}")
    check.at_least(1, num_cells=num_cells, lattice=lattice)
    check.at_least(2, num_steps=num_steps)
    check.positive(width_m=width_m)
    check.below_one(gamma=gamma)
    walk_key, cell_key = jax.random.split(jax.random.key(seed))
    room, positions, last = BEHAVIOURS[behaviour](walk_key, num_steps)
    centres = arena.uniform_positions(cell_key, arena.box(1.0), num_cells)

    distance_sq = visibility.geodesic_sq(room) if behaviour == "wall" else cells.euclidean_sq

    def code(positions):
        return cells.gaussian(
            jnp.asarray(positions), centres, sigma_m=width_m, distance_sq=distance_sq
        )

    rates = np.asarray(jax.jit(code)(positions))
    axis = (np.arange(lattice) + 0.5) / lattice
    places = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    ahead, totals = np.empty_like(rates), rates[-1]
    for t in range(num_steps - 1, -1, -1):
        totals = rates[t] if last[t] else (1 - gamma) * rates[t] + gamma * totals
        ahead[t] = totals
    bins = np.clip((positions * lattice).astype(int), 0, lattice - 1) @ (lattice, 1)
    visits = np.bincount(bins, minlength=lattice**2)
    sums = np.stack([np.bincount(bins, a, minlength=lattice**2) for a in ahead.T], axis=1)
    empirical = np.where(visits[:, None] > 0, sums / np.maximum(visits, 1)[:, None], np.nan)
    return {
        "states": rates,
        "last": last,
        "positions": positions.astype(np.float32),
        "centres": np.asarray(centres),
        "lattice": places.astype(np.float32),
        "sources": np.asarray(code(places.astype(np.float32))),
        "occupancy": visits / visits.sum(),
        "empirical": empirical.astype(np.float32),
        "gamma": np.float32(gamma),
        "cell_width_m": np.float32(width_m),
    }


# Files -----------------------------------------------------------------------------------------

MAKERS = {f.__name__: f for f in (pendulum, windy_grid, place_cells)}


def saved_or_made(*, path: str | None = None, maker: Callable[[], Any]) -> Any:
    """The data set of a file, or made by maker(), and written there where path is given.

    maker: one of MAKERS, with its settings as `functools.partial` (in a config, fdl.Partial).
    Raises ValueError where the path is no npz, or its file was made by another maker or with other
    settings, DataFileError where it is no such file.
    """
    if path is None:
        return maker()
    if not path.endswith(".npz"):
        raise ValueError(f"a data set is an npz, but its path is {path}")
    file = pathlib.Path(path).expanduser()
    function, settings = getattr(maker, "func", maker), getattr(maker, "keywords", {})
    defaults = {n: p.default for n, p in inspect.signature(function).parameters.items()}
    recipe = {"maker": function.__name__, **defaults, **settings}
    if not file.is_file():
        made = maker()
        flat = {
            "/".join(str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", k)))) for k in p): a
            for p, a in jax.tree.leaves_with_path(made)
        }
        buffer = io.BytesIO()
        np.savez_compressed(buffer, recipe=json.dumps(recipe), **flat)
        write_atomically(file, buffer.getvalue())
        return made
    try:
        with file.open("rb") as opened, np.load(opened) as arrays:
            found = json.loads(str(arrays["recipe"]))
            flat = {n: arrays[n] for n in arrays if n != "recipe"}
    except UNREADABLE as error:
        raise DataFileError(
            f"{file} is not a data set of transitions ({one_line(error)})"
        ) from error
    if found != recipe:
        differs = [n for n in sorted({*found, *recipe}) if found.get(n) != recipe.get(n)]
        raise ValueError(
            f"{file} was made with {', '.join(f'{n}={found.get(n)}' for n in differs)}, not with "
            f"{', '.join(f'{n}={recipe.get(n)}' for n in differs)}"
        )
    data: dict[str, Any] = {n: a for n, a in flat.items() if "/" not in n}
    if any(n.startswith("policy/") for n in flat):
        arrays = {n.removeprefix("policy/"): a for n, a in flat.items() if n.startswith("policy/")}
        try:
            data["policy"] = policies.from_arrays(arrays)
        except KeyError as error:
            raise DataFileError(f"{file} lacks {error} of its policy") from error
    return data

"""Data sets of transitions for `models.dsm`; they are made on the device in seconds.

    python -m hfjax.data pendulum --out=pendulum.npz
    python -m hfjax.data place_cells --out=goal.npz --behaviour=goal

Each maker returns a dict of arrays: "states" [time, dim], "last" [time], and the references of the
evaluation. An npz file holds these arrays and the settings of the maker; nothing is pickled.
"""

import functools
import inspect
import io
import json
import math
import pathlib
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from hfjax import arena, cells, check, envs, visibility
from hfjax.data import actor_critic as seeking
from hfjax.data import policies
from hfjax.errors import DataFileError, one_line
from hfjax.files import local_path, read_npz, write_atomically


class Policy(Protocol):
    """(observation, key) -> action."""

    def __call__(self, observation: jax.Array, key: jax.Array, /) -> jax.Array:
        """observation [observation] -> action [action]."""


class Maker(Protocol):
    """() -> data set."""

    def __call__(self) -> dict[str, Any]:
        """Arrays by name; see the module."""


def rollouts(
    env: envs.Env,
    policy: Policy,
    key: jax.Array,
    *,
    num_envs: int,
    num_steps: int,
    episode_steps: int,
) -> tuple[jax.Array, jax.Array]:
    """Observations [env, time, observation] and last [env, time]: the last step of an episode.

    An episode ends at a terminal state, or after episode_steps; the next one then starts.
    """

    def step(carry: tuple[Any, jax.Array], key: jax.Array) -> tuple[Any, tuple[jax.Array, Any]]:
        state, age = carry
        action_key, step_key, reset_key = jax.random.split(key, 3)
        observation = env.observe(state)
        new, _, terminal = env.step(state, policy(observation, action_key), step_key)
        last = age == episode_steps - 1
        fresh = env.reset(reset_key)
        # A terminal state is observed, as the last of its episode, before the next one starts.
        ended = terminal & ~last
        state = jax.tree.map(lambda a, b: jnp.where(last, a, b), fresh, new)
        age = jnp.where(last, 0, jnp.where(ended, episode_steps - 1, age + 1))
        return (state, age), (observation, last)

    def rollout(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        reset_key, key = jax.random.split(key)
        start = env.reset(reset_key), jnp.int32(0)
        return jax.lax.scan(step, start, jax.random.split(key, num_steps))[1]

    return jax.jit(jax.vmap(rollout))(jax.random.split(key, num_envs))


def episodes(
    env: envs.Env, policy: Policy, key: jax.Array, *, num_transitions: int, most_envs: int
) -> dict[str, np.ndarray]:
    """ "states" [time, observation] and "last" [time] of episodes of 200 steps, joined."""
    num_envs = min(most_envs, -(-num_transitions // 200))
    states, last = rollouts(
        env,
        policy,
        key,
        num_envs=num_envs,
        num_steps=200 * -(-num_transitions // (200 * num_envs)),
        episode_steps=200,
    )
    return {
        "states": np.asarray(states).reshape(-1, states.shape[-1])[:num_transitions],
        "last": np.asarray(last).reshape(-1)[:num_transitions],
    }


def monte_carlo_returns(
    env: envs.Env,
    policy: Policy,
    rewards: envs.Reward,
    sources: Any,
    key: jax.Array,
    *,
    gamma: float,
    num_rollouts: int,
    num_steps: int | None = None,
    from_source: bool = True,
    truncated: bool = False,
) -> np.ndarray:
    """Discounted returns of rollouts from given states: [source, reward, rollout].

    sources: states of the environment, leaves [source, ...]. rewards (observation, action) ->
    [reward]. num_steps: length of a rollout; default: until gamma^k < 1e-4, at least 200.
    from_source: the return starts with the reward of the source itself; without, it starts, not
    discounted, with the reward of the next state.
    truncated: the return is the plain sum of the first H rewards, with H ~ Geometric(1 - gamma) of
    each rollout; its mean is that of the discounted return.
    """
    if num_steps is None:
        num_steps = max(200, math.ceil(math.log(1e-4) / math.log(gamma)) if gamma else 0)
    length = num_steps + int(not from_source)

    def weights(key: jax.Array) -> jax.Array:
        k = jnp.arange(num_steps, dtype=jnp.float32)
        counted = k < jax.random.geometric(key, 1 - gamma) if truncated else gamma**k
        return jnp.pad(counted.astype(jnp.float32), (int(not from_source), 0))

    def step(
        carry: tuple[Any, jax.Array], now: tuple[jax.Array, jax.Array]
    ) -> tuple[tuple[Any, jax.Array], None]:
        state, total = carry
        key, weight = now
        action_key, step_key = jax.random.split(key)
        observation = env.observe(state)
        action = policy(observation, action_key)
        state, _, _ = env.step(state, action, step_key)
        return (state, total + weight * rewards(observation, action)), None

    def discounted_return(source: Any, key: jax.Array) -> jax.Array:
        observation = env.observe(source)
        empty = jax.eval_shape(lambda o: rewards(o, policy(o, key)), observation)
        start = source, jnp.zeros(empty.shape)
        steps = jax.random.split(key, length), weights(jax.random.fold_in(key, length))
        return jax.lax.scan(step, start, steps)[0][1]

    def returns_from(source_and_key: tuple[Any, jax.Array]) -> jax.Array:
        source, key = source_and_key
        keys = jax.random.split(key, num_rollouts)
        from_here = functools.partial(discounted_return, source)
        return jax.lax.map(from_here, keys, batch_size=min(num_rollouts, 1000)).T

    keys = jax.random.split(key, len(jax.tree.leaves(sources)[0]))
    return np.asarray(jax.jit(functools.partial(jax.lax.map, returns_from))((sources, keys)))


OFF_THE_HORIZON = 0.1  # rad


def pendulum(
    *,
    policy: str = "pendulum",
    num_transitions: int = 500_000,
    num_rollouts: int = 5_000,
    gamma: float = 0.95,
    from_source: bool = True,
    truncated: bool = False,
    seed: int = 0,
) -> dict[str, Any]:
    """Transitions of a trained policy in Pendulum-v1, and Monte-Carlo returns from nine states.

    Episodes of 200 steps. Sources: angles pi/2 - .1, pi, 3 pi/2 + .1 by velocities -4, 0, 4.
    -> "states" [time, 3], "last" [time], "sources" [9, 3], "mc_returns" [source, reward, rollout]
    of `envs.PENDULUM_REWARDS`, "gamma", "from_source", and the "policy", for rewards that depend on
    the action.

    policy           name of a policy that comes with hfjax, or path of an npz file.
    num_transitions  states of all episodes together.
    num_rollouts     Monte-Carlo rollouts from each of the nine states.
    gamma            discount per time step of the returns; that of the task.
    from_source      whether returns include the reward of the first state; as the task has it.
    truncated        whether returns are sums up to a random end; see `monte_carlo_returns`.
    seed             seed of the trajectory and the rollouts.

    Raises ValueError where a number is below 1, or gamma outside [0, 1).
    Source: distributional-sr `make_dataset`, `make_mc_returns`.
    Deviation: the original has angles pi/2 and 3 pi/2, the edge of the reward "above horizon":
    rounding decides there between two rewards that differ by 1. Ours lie 0.1 rad above it.
    """
    check.at_least(1, num_transitions=num_transitions, num_rollouts=num_rollouts)
    check.below_one(gamma=gamma)
    trained = policies.load(policy)
    env, act = envs.pendulum(), functools.partial(policies.act, trained)
    data_key, mc_key = jax.random.split(jax.random.key(seed))
    data = episodes(env, act, data_key, num_transitions=num_transitions, most_envs=500)
    off = OFF_THE_HORIZON
    angles = np.repeat([np.pi / 2 - off, np.pi, 3 * np.pi / 2 + off], 3).astype(np.float32)
    velocities = np.tile([-4.0, 0.0, 4.0], 3).astype(np.float32)
    sources = envs.Pendulum(jnp.asarray(angles), jnp.asarray(velocities))

    def rewards(observation: jax.Array, action: jax.Array) -> jax.Array:
        return jnp.stack([f(observation, action) for f in envs.PENDULUM_REWARDS.values()])

    returns = monte_carlo_returns(
        env,
        act,
        rewards,
        sources,
        mc_key,
        gamma=gamma,
        num_rollouts=num_rollouts,
        from_source=from_source,
        truncated=truncated,
    )
    return {
        **data,
        "sources": np.asarray(jax.vmap(env.observe)(sources), np.float32),
        "mc_returns": returns,
        "gamma": np.float32(gamma),
        "from_source": np.bool_(from_source),
        "policy": jax.tree.map(np.asarray, trained),
    }


def windy_grid(
    *,
    moves: Policy | None = None,
    num_transitions: int = 100_000,
    num_rollouts: int = 5_000,
    gamma: float = 0.95,
    truncated: bool = False,
    seed: int = 0,
) -> dict[str, Any]:
    """Transitions of random moves in the windy grid world, and returns from five states.

    Episodes of 200 steps, all from the centre. Sources: the centre, and (+-2, +-2). The result is
    that of `pendulum`, with the quadrant reward and without a policy. The original has neither data
    nor a policy for this environment; of its variants "top" and "bottom" it has only the names.

    moves: how moves are drawn, `upwards` or `downwards`; None for `random_move`. num_rollouts:
    Monte-Carlo rollouts from each of the five states. num_transitions, gamma, truncated, seed: as
    in `pendulum`.
    """
    check.at_least(1, num_transitions=num_transitions, num_rollouts=num_rollouts)
    check.below_one(gamma=gamma)
    env, policy = envs.windy_grid(), moves or random_move
    data_key, mc_key = jax.random.split(jax.random.key(seed))
    sources = np.array([[0, 0], [2, 2], [-2, 2], [-2, -2], [2, -2]], np.float32)
    returns = monte_carlo_returns(
        env,
        policy,
        lambda observation, action: envs.quadrant_reward(observation)[None],
        jnp.asarray(sources),
        mc_key,
        gamma=gamma,
        num_rollouts=num_rollouts,
        truncated=truncated,
    )
    return {
        **episodes(env, policy, data_key, num_transitions=num_transitions, most_envs=100),
        "sources": sources,
        "mc_returns": returns,
        "gamma": np.float32(gamma),
        "from_source": np.bool_(True),
    }


def random_move(observation: jax.Array, key: jax.Array) -> jax.Array:
    """One of the four actions of `envs.windy_grid` with equal probability."""
    del observation
    return jax.random.randint(key, (1,), 0, 4).astype(float)


def upwards(observation: jax.Array, key: jax.Array) -> jax.Array:
    """A move up with probability .4, to each other side with .2: the animal stays at the top."""
    return _mostly(3, observation, key)


def downwards(observation: jax.Array, key: jax.Array) -> jax.Array:
    """A move down with probability .4, to each other side with .2."""
    return _mostly(2, observation, key)


def _mostly(action: int, observation: jax.Array, key: jax.Array) -> jax.Array:
    """An action with probability .4, each other one with .2."""
    del observation
    move = jax.random.randint(key, (1,), 0, 5)
    return jnp.where(move == 4, action, move).astype(float)


def pump(observation: jax.Array, key: jax.Array, *, noise: float = 0.5) -> jax.Array:
    """Force of `envs.mountain_car`: with the motion, sign(v), plus Gaussian noise (sd)."""
    along = jnp.where(observation[1] >= 0, 1.0, -1.0)
    return (along + noise * jax.random.normal(key))[None]


def pump_at(policy: Any, state: jax.Array, key: jax.Array) -> jax.Array:
    """`pump` as an evaluation asks for actions; there is no policy to load."""
    del policy
    return pump(state, key)


def mountain_car(
    *,
    num_transitions: int = 200_000,
    num_rollouts: int = 5_000,
    gamma: float = 0.95,
    truncated: bool = False,
    seed: int = 0,
) -> dict[str, Any]:
    """Transitions of a noisy car that pumps (`pump`), and returns from nine states.

    Episodes end at the goal, or after 200 steps. Sources: positions -.9, -.5, .2 by velocities
    -.03, 0, .03. The result is that of `pendulum`, for `envs.CAR_REWARDS` and without a policy.
    The thesis has the environment's plots, but neither data nor a policy.

    num_transitions, gamma, truncated, seed: as in `pendulum`. num_rollouts: Monte-Carlo rollouts
    from each of the nine states.
    """
    check.at_least(1, num_transitions=num_transitions, num_rollouts=num_rollouts)
    check.below_one(gamma=gamma)
    env = envs.mountain_car()
    data_key, mc_key = jax.random.split(jax.random.key(seed))
    sources = np.stack(np.meshgrid([-0.9, -0.5, 0.2], [-0.03, 0.0, 0.03], indexing="ij"), -1)
    sources = sources.reshape(-1, 2).astype(np.float32)
    returns = monte_carlo_returns(
        env,
        pump,
        lambda o, a: jnp.stack([f(o, a) for f in envs.CAR_REWARDS.values()]),
        envs.MountainCar(*jnp.asarray(sources.T)),
        mc_key,
        gamma=gamma,
        num_rollouts=num_rollouts,
        truncated=truncated,
    )
    return {
        **episodes(env, pump, data_key, num_transitions=num_transitions, most_envs=500),
        "sources": sources,
        "mc_returns": returns,
        "gamma": np.float32(gamma),
        "from_source": np.bool_(True),
    }


# --- Place cells ---

WALL = [[[0.4, 0.0], [0.4, 0.9]]]


class Track(NamedTuple):
    """Where an animal went: environment, positions [time, 2] (m), last [time]: of an episode.

    goals [goal, 2] (m): what it sought, if anything.
    """

    environment: arena.Environment
    positions: np.ndarray
    last: np.ndarray
    goals: np.ndarray = np.zeros((0, 2))


class Behaviour(Protocol):
    """(key, num_steps) -> `Track`."""

    def __call__(self, key: jax.Array, num_steps: int, /) -> Track:
        """A track of num_steps positions."""


def _walk(key: jax.Array, room: arena.Environment, num_steps: int, **motion: float) -> Track:
    """One animal of RatInABox, in one episode."""
    start_key, walk_key = jax.random.split(key)
    constants = arena.motion(**motion)
    agent = arena.start(start_key, environment=room, motion=constants)

    def run(agent: arena.Agent, key: jax.Array) -> jax.Array:
        walked = arena.walk(agent, key, environment=room, motion=constants, num_steps=num_steps)
        return walked[1].position

    return _one_episode(room, np.asarray(jax.jit(run)(agent, walk_key)))


def _one_episode(room: arena.Environment, positions: np.ndarray) -> Track:
    return Track(room, positions, np.arange(len(positions)) == len(positions) - 1)


def random_walk(key: jax.Array, num_steps: int) -> Track:
    """RatInABox's random walk with thigmotaxis 0.2 in a box of 1 m, dt 50 ms."""
    return _walk(key, arena.box(1.0), num_steps, thigmotaxis=0.2)


def low_thigmotaxis(key: jax.Array, num_steps: int) -> Track:
    """The random walk without any preference for walls: thigmotaxis 0."""
    return _walk(key, arena.box(1.0), num_steps, thigmotaxis=0.0)


def high_thigmotaxis(key: jax.Array, num_steps: int) -> Track:
    """The random walk along the walls: thigmotaxis 1."""
    return _walk(key, arena.box(1.0), num_steps, thigmotaxis=1.0)


def wall(key: jax.Array, num_steps: int) -> Track:
    """The random walk in a box with a wall at x = 0.4 m, from y = 0 to 0.9 m."""
    return _walk(key, arena.box(1.0, inner_walls=WALL), num_steps, thigmotaxis=0.2)


def teleport(key: jax.Array, num_steps: int) -> Track:
    """Straight lines between uniform random places, a new place at every second step."""
    room, num_places = arena.box(1.0), max(2, num_steps // 2)
    path = arena.teleport(key, environment=room, num_steps=num_steps - 1, num_places=num_places)
    return _one_episode(room, np.asarray(path))


def goal(key: jax.Array, num_steps: int) -> Track:
    """A trained policy that seeks the centre (10 cm), dt 100 ms; an episode ends at the goal."""
    env = policies.goal_env()
    act = functools.partial(policies.act, policies.load("arena_goal"))
    code = policies.place_cells(arena.box(1.0))
    positions, last = rollouts(
        env._replace(observe=lambda agent: agent.position),
        lambda position, key: act(code(position), key),
        key,
        num_envs=1,
        num_steps=num_steps,
        episode_steps=300,
    )
    goals = np.array([policies.GOAL])
    return Track(arena.box(1.0), np.asarray(positions[0]), np.asarray(last[0]), goals)


def actor_critic(
    key: jax.Array, num_steps: int, *, num_goals: int = 10, training_steps: int = 100_000
) -> Track:
    """An animal that learned by an actor-critic to seek one of ten random goals, dt 100 ms.

    num_goals       goals, uniform in the box; each episode has one of them, unknown to the animal.
    training_steps  steps in which it learns before the track.

    An episode ends at the goal (10 cm), or after 15 s. Of ten goals that it cannot tell apart the
    animal learns little: it reaches one in 9 of 89 episodes (5 of 84 after 1,000 steps), and ends
    at a wall; a single goal it reaches in 27 of 104 (key 0, 12,000 steps).
    Source: dsm-hippocampus `make_dataset_rat_PC_random_AC`, with its 50 place cells, at most 3,000
    episodes of learning at a tenth of this rate.
    """
    check.at_least(1, num_goals=num_goals, training_steps=training_steps)
    goal_key, cell_key, start_key, walk_key = jax.random.split(key, 4)
    room = arena.box(1.0)
    task = seeking.Task(
        room,
        arena.motion(dt_s=0.1),
        goals=arena.uniform_positions(goal_key, room, num_goals),
        centres=arena.uniform_positions(cell_key, room, 50),
    )

    rates = np.where(np.arange(training_steps + num_steps) < training_steps, seeking.RATE, 0.0)

    def walked(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        seeker = seeking.start(key, task=task)
        _, (positions, ended, _) = seeking.run(seeker, walk_key, jnp.asarray(rates), task=task)
        return positions[training_steps:], ended[training_steps:]

    positions, ended = map(np.asarray, jax.jit(walked)(start_key))
    last = ended | (np.arange(num_steps) == num_steps - 1)
    return Track(room, positions, last, np.asarray(task.goals))


BEHAVIOURS = {
    f.__name__: f
    for f in (random_walk, low_thigmotaxis, high_thigmotaxis, goal, actor_critic, teleport, wall)
}


def place_cells(
    *,
    behaviour: Behaviour = random_walk,
    num_steps: int = 24_000,
    num_cells: int = 50,
    width_m: float = 0.2,
    lattice: int = 20,
    gamma: float = 0.95,
    seed: int = 0,
) -> dict[str, Any]:
    """Rates of Gaussian place cells along a behaviour; as in the thesis, 20 minutes of 50 cells.

    behaviour  how the animal moves in the box of 1 m: `random_walk` or another of BEHAVIOURS.
    num_steps  time steps of the behaviour.
    num_cells  place cells.
    width_m    width of the place fields (m).
    lattice    places of the lattice along each side.
    gamma      discount per time step; that of the task.
    seed       seed of the behaviour and the place cells.

    Distances are around the walls of the box, if it has any. The centres are uniform in the box (in
    the thesis uniform with jitter).
    -> "states" [time, cell]: rates, "last" [time], "positions" [time, 2] (m), "centres" [cell, 2],
    "cell_width_m"; "lattice" [place, 2]: lattice x lattice places, "sources" [place, cell]: the
    rates there, "occupancy" [place]; "empirical" [place, cell]: mean of `discounted_rates` over the
    visits to a place (NaN if there are none), "gamma"; for figures "walls" [wall, end, 2] inside
    the box, and "goals" [goal, 2].
    Raises ValueError for numbers below 1 (num_steps: 2), and gamma outside [0, 1).
    Source: dsm-hippocampus `make_dataset_rat_PC_...`.
    """
    check.at_least(1, num_cells=num_cells, lattice=lattice)
    check.at_least(2, num_steps=num_steps)
    check.positive(width_m=width_m)
    check.below_one(gamma=gamma)
    walk_key, cell_key = jax.random.split(jax.random.key(seed))
    track = behaviour(walk_key, num_steps)
    centres = arena.uniform_positions(cell_key, arena.box(1.0), num_cells)
    code = functools.partial(
        cells.gaussian,
        centres=centres,
        sigma_m=width_m,
        distance_sq=around_walls(track.environment),
    )
    rates = np.asarray(jax.jit(code)(jnp.asarray(track.positions)))
    axis = (np.arange(lattice) + 0.5) / lattice
    places = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    visits, empirical = mean_by_place(
        discounted_rates(rates, track.last, gamma=gamma), track.positions, lattice=lattice
    )
    return {
        "states": rates,
        "last": track.last,
        "positions": track.positions.astype(np.float32),
        "centres": np.asarray(centres),
        "lattice": places.astype(np.float32),
        "sources": np.asarray(code(jnp.asarray(places, jnp.float32))),
        "occupancy": visits / visits.sum(),
        "empirical": empirical.astype(np.float32),
        "gamma": np.float32(gamma),
        "cell_width_m": np.float32(width_m),
        "walls": track.environment.inner_walls.astype(np.float32),
        "goals": np.asarray(track.goals, np.float32),
    }


def positions(
    *,
    behaviour: Behaviour = random_walk,
    num_steps: int = 24_000,
    gamma: float = 0.95,
    seed: int = 0,
) -> dict[str, Any]:
    """Positions along a behaviour, as states: [time, 2] (m), in place of place cells' rates.

    -> "states" and "positions", both [time, 2], "last" [time], "gamma", "walls", "goals".
    behaviour, num_steps, gamma, seed: as in `place_cells`.
    Source: dsm-hippocampus `make_dataset_rat_xy_goal`.
    """
    check.at_least(2, num_steps=num_steps)
    check.below_one(gamma=gamma)
    track = behaviour(jax.random.split(jax.random.key(seed))[0], num_steps)
    return {
        "states": track.positions.astype(np.float32),
        "last": track.last,
        "positions": track.positions.astype(np.float32),
        "gamma": np.float32(gamma),
        "walls": track.environment.inner_walls.astype(np.float32),
        "goals": np.asarray(track.goals, np.float32),
    }


def recorded_rates(
    *, path: str | None = None, gamma: float = 0.95, lattice: int = 20
) -> dict[str, Any]:
    """Your own cells: their rates along a path, as `place_cells` makes them.

    path     npz file with "positions" [time, 2] (m) and "rates" [time, cell], at even times; also
             "last" [time] of bool where it holds several episodes.
    gamma    discount per time step; that of the task.
    lattice  places of the lattice along each side.

    Rates are divided by each cell's highest. Positions are moved and divided by the longer side of
    their range: 1 m in figures is the width of your box. The maps of the cells are their mean rates
    by place, those of the nearest visited place where a place was not visited.
    Raises ValueError where there is no path, or an array has another shape or is not finite;
    DataFileError where the file cannot be read or lacks an array.
    """
    check.at_least(1, lattice=lattice)
    check.below_one(gamma=gamma)
    if path is None:
        raise ValueError("data.path must be set: an npz file with positions and rates")
    xy, rates, last = _own_arrays(local_path(path))
    xy = (xy - xy.min(axis=0)) / max(np.ptp(xy, axis=0).max(), 1e-9)
    rates = (rates / np.maximum(rates.max(axis=0), 1e-9)).astype(np.float32)
    axis = (np.arange(lattice) + 0.5) / lattice
    places = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    visits, own = mean_by_place(rates, xy, lattice=lattice)
    ahead = discounted_rates(rates, last, gamma=gamma)
    away = np.linalg.norm(places[:, None] - places[visits > 0][None], axis=-1)
    return {
        "states": rates,
        "last": last,
        "positions": xy.astype(np.float32),
        "lattice": places.astype(np.float32),
        "sources": own[visits > 0][away.argmin(axis=1)].astype(np.float32),
        "occupancy": visits / visits.sum(),
        "empirical": mean_by_place(ahead, xy, lattice=lattice)[1].astype(np.float32),
        "gamma": np.float32(gamma),
        "walls": np.zeros((0, 2, 2), np.float32),
        "goals": np.zeros((0, 2), np.float32),
    }


def _own_arrays(file: pathlib.Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """positions, rates and last of a file; see `recorded_rates`."""
    try:
        arrays = read_npz(file)
    except (OSError, ValueError) as error:
        raise DataFileError(f"{file} cannot be read ({one_line(error)})") from error
    lacking = [name for name in ("positions", "rates") if name not in arrays]
    if lacking:
        has = ", ".join(arrays) or "nothing"
        raise DataFileError(f"{file} lacks {' and '.join(lacking)}; it has {has}")
    xy, rates = arrays["positions"], arrays["rates"]
    if xy.ndim != 2 or xy.shape[1] != 2 or rates.ndim != 2 or len(xy) != len(rates):
        raise ValueError(
            f"positions must be [time, 2] and rates [time, cell], but they are {xy.shape} and "
            f"{rates.shape}"
        )
    for name in ("positions", "rates"):
        if not np.isfinite(arrays[name]).all():
            raise ValueError(f"{name} of {file} have values that are not finite")
    last = arrays.get("last", np.arange(len(xy)) == len(xy) - 1)
    if last.shape != (len(xy),):
        raise ValueError(f"last must be [time], {len(xy)} values, but is {last.shape}")
    return xy.astype(float), rates.astype(float), last.astype(bool)


def around_walls(environment: arena.Environment) -> cells.DistanceSq:
    """Squared distances of place cells: Euclidean, or around the walls inside the environment."""
    has_inner_walls = len(environment.walls) > len(environment.boundary)
    return visibility.geodesic_sq(environment) if has_inner_walls else cells.euclidean_sq


def discounted_rates(rates: np.ndarray, last: np.ndarray, *, gamma: float) -> np.ndarray:
    """(1 - gamma) sum_k gamma^k r_(t+k): rates [time, cell], last [time] -> [time, cell].

    After the end of an episode, and of the data, the rates at that end continue for ever.
    """
    ahead, total = np.empty_like(rates), rates[-1]
    for t in range(len(rates) - 1, -1, -1):
        total = rates[t] if last[t] else (1 - gamma) * rates[t] + gamma * total
        ahead[t] = total
    return ahead


def mean_by_place(
    values: np.ndarray, positions: np.ndarray, *, lattice: int
) -> tuple[np.ndarray, np.ndarray]:
    """Visits [place], and mean values [place, cell] (NaN without a visit), in a box of 1 m.

    values [time, cell], positions [time, 2] (m); places are lattice x lattice square bins.
    """
    bins = np.clip((positions * lattice).astype(int), 0, lattice - 1) @ (lattice, 1)
    visits = np.bincount(bins, minlength=lattice**2)
    sums = np.stack([np.bincount(bins, a, minlength=lattice**2) for a in values.T], axis=1)
    mean = np.where(visits[:, None] > 0, sums / np.maximum(visits, 1)[:, None], np.nan)
    return visits, mean


# --- Files ---

MAKERS = {f.__name__: f for f in (pendulum, windy_grid, mountain_car, place_cells, positions)}


def saved_or_made(*, path: str | None = None, maker: Maker) -> dict[str, Any]:
    """The data set in a file, or one made by maker(), which is written to path if that is given.

    path   file (.npz) that is read, or written where it does not exist; None to make the data anew.
    maker  makes the data set: one of MAKERS, with its settings as `functools.partial`.

    In a config the maker is an fdl.Partial. Raises ValueError if the path does not end in .npz, or
    the file was made by another maker or with other settings; DataFileError if the file is not a
    data set.
    """
    if path is None:
        return maker()
    if not path.endswith(".npz"):
        raise ValueError(f"a data set is an npz file, but its path is {path}")
    file = local_path(path)
    recipe = recipe_of(maker)
    if not file.is_file():
        data = maker()
        write_data(file, data, recipe)
        return data
    data, written = read_data(file)
    if written != recipe:
        differs = [n for n in sorted({*written, *recipe}) if written.get(n) != recipe.get(n)]
        raise ValueError(
            f"{file} was made with {', '.join(f'{n}={written.get(n)}' for n in differs)}, not with "
            f"{', '.join(f'{n}={recipe.get(n)}' for n in differs)}"
        )
    return data


def recipe_of(maker: Any) -> dict[str, Any]:
    """Name and settings of a maker, as JSON can hold them: functions by name."""
    function, settings = getattr(maker, "func", maker), getattr(maker, "keywords", {})
    defaults = {n: p.default for n, p in inspect.signature(function).parameters.items()}
    named = {n: getattr(v, "__name__", v) for n, v in {**defaults, **settings}.items()}
    return {"maker": function.__name__, **named}


def write_data(file: pathlib.Path, data: dict[str, Any], recipe: dict[str, Any]) -> None:
    """Write a data set and its recipe as an npz; a policy as "policy/..."."""
    arrays = {name: array for name, array in data.items() if name != "policy"}
    if "policy" in data:
        of_policy = policies.to_arrays(data["policy"])
        arrays |= {f"policy/{name}": array for name, array in of_policy.items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, recipe=json.dumps(recipe), **arrays)
    write_atomically(file, buffer.getvalue())


def read_data(file: pathlib.Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Data set and recipe of a file from `write_data`; raises DataFileError if it is not one."""
    try:
        flat = read_npz(file)
        recipe = json.loads(str(flat.pop("recipe")))
        if not isinstance(recipe, dict):
            raise ValueError("its recipe is not one")
    except (OSError, ValueError, KeyError) as error:
        raise DataFileError(
            f"{file} is not a data set of transitions ({one_line(error)})"
        ) from error
    data: dict[str, Any] = {name: a for name, a in flat.items() if "/" not in name}
    of_policy = {n.removeprefix("policy/"): a for n, a in flat.items() if n.startswith("policy/")}
    if of_policy:
        try:
            data["policy"] = policies.from_arrays(of_policy)
        except KeyError as error:
            raise DataFileError(f"{file} lacks {error} of its policy") from error
        except ValueError as error:
            raise DataFileError(f"{file} has a damaged policy: {error}") from error
    return data, recipe

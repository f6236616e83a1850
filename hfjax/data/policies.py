"""Behaviour policies as pure functions, and how ours were trained.

    python -m hfjax.data.policies pendulum            # needs the extra `rl`; some minutes
    python -m hfjax.data.policies arena_goal

trains one by soft actor-critic with sbx-rl and writes it beside this file, as an npz of arrays.
Using one needs no extra: `act(load("pendulum"), observation, key)`. Those that come with hfjax, by
these commands, over 400 episodes: pendulum has a return of -137 +- 81 in 200 steps; arena_goal
reached the goal in all, within 300 steps.
"""

import argparse
import importlib.util
import pathlib
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hfjax import arena, cells, envs, networks
from hfjax.errors import one_line
from hfjax.files import UNREADABLE

FOLDER = pathlib.Path(__file__).parent / "trained_policies"


class GaussianPolicy(NamedTuple):
    """A network whose action is the tanh of a normal variable, scaled to the action's bounds.

    hidden: its relu layers, mean and log_std its outputs [action]; low, high [action].
    Source: Haarnoja et al. 2018; sbx `SquashedGaussianActor`.
    """

    hidden: tuple[networks.DenseParams, ...]
    mean: networks.DenseParams
    log_std: networks.DenseParams
    low: jax.Array
    high: jax.Array


def act(policy: GaussianPolicy, observation: jax.Array, key: jax.Array) -> jax.Array:
    """A random action of the policy: observation [observation] -> [action]."""
    x = observation[None]
    for layer in policy.hidden:
        x = networks.relu(networks.dense(layer, x))
    mean, log_std = networks.dense(policy.mean, x)[0], networks.dense(policy.log_std, x)[0]
    noise = jax.random.normal(key, mean.shape, mean.dtype)
    squashed = jnp.tanh(mean + jnp.exp(jnp.clip(log_std, -20, 2)) * noise)
    return policy.low + (squashed + 1) / 2 * (policy.high - policy.low)


def save(path: pathlib.Path, policy: GaussianPolicy, **notes: str) -> None:
    """Write a policy as an npz; notes are kept in it as strings."""
    layers = {f"hidden/{i}": p for i, p in enumerate(policy.hidden)}
    layers |= {"mean": policy.mean, "log_std": policy.log_std}
    arrays = {f"{name}/{n}": v for name, p in layers.items() for n, v in p._asdict().items()}
    path.parent.mkdir(exist_ok=True)
    np.savez_compressed(path, low=policy.low, high=policy.high, **arrays, **notes)  # type: ignore[arg-type]


def load(name: str) -> GaussianPolicy:
    """A policy that comes with hfjax ("pendulum", "arena_goal"), or that of an npz at a path.

    Raises ValueError where there is none, or the file holds none.
    """
    path = pathlib.Path(name) if name.endswith(".npz") else FOLDER / f"{name}.npz"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in FOLDER.glob("*.npz")))
        raise ValueError(
            f"there is no policy {name}; there are {known}, and files that end in .npz"
        )
    try:
        with path.open("rb") as opened, np.load(opened) as file:
            return from_arrays({n: file[n] for n in file if file[n].dtype.kind == "f"})
    except UNREADABLE as error:
        raise ValueError(f"{path} does not hold a policy ({one_line(error)})") from error


def from_arrays(arrays: dict[str, np.ndarray]) -> GaussianPolicy:
    """A policy from its arrays by name: "low", "high", "mean/weights", "hidden/0/bias", ..."""

    def layer(prefix: str) -> networks.DenseParams:
        return networks.DenseParams(
            *(jnp.asarray(arrays[f"{prefix}/{name}"], float) for name in ("weights", "bias"))
        )

    count = sum(n.startswith("hidden/") and n.endswith("/bias") for n in arrays)
    low, high = (jnp.asarray(arrays[name], float) for name in ("low", "high"))
    return GaussianPolicy(
        tuple(layer(f"hidden/{i}") for i in range(count)),
        layer("mean"),
        layer("log_std"),
        low,
        high,
    )


# Environments of the policies that come with hfjax ----------------------------------------------

GOAL = (0.5, 0.5)
NUM_CELLS, CELL_WIDTH_M = 50, 0.2


def place_cells(environment: arena.Environment, seed: int = 0) -> Callable[[jax.Array], jax.Array]:
    """Rates of fifty Gaussian place cells of 0.2 m at random places, as in the thesis.

    -> function positions [..., 2] -> [..., 50].
    """
    centres = arena.uniform_positions(jax.random.key(seed), environment, NUM_CELLS)
    return lambda positions: cells.gaussian(positions, centres, sigma_m=CELL_WIDTH_M)


def goal_env(**settings: Any) -> envs.Env:
    """A box of 1 m with a goal of 10 cm in its middle, seen by place cells; dt 0.1 s."""
    room = arena.box(1.0)
    return envs.arena_with_goal(
        environment=room,
        motion=arena.motion(dt_s=0.1, thigmotaxis=0.2),
        goal=GOAL,
        radius_m=0.1,
        code=place_cells(room),
        num_cells=NUM_CELLS,
        **settings,
    )


def _hurried(env: envs.Env) -> envs.Env:
    """The same with a reward for training: 10 at the goal, less the distance (m) at every step."""

    def step(agent, action, key):
        new, reward, terminal = env.step(agent, action, key)
        return new, 10 * reward - jnp.linalg.norm(new.position - jnp.asarray(GOAL)), terminal

    return env._replace(step=step)


TRAINING: dict[str, dict[str, Any]] = {
    "pendulum": {"env": envs.pendulum, "max_steps": 200, "num_steps": 20_000},
    "arena_goal": {
        "env": lambda: _hurried(goal_env()),
        "max_steps": 300,
        "num_steps": 12_000,
    },
}


def train(name: str, *, num_steps: int | None = None, seed: int = 0) -> GaussianPolicy:
    """Train one of TRAINING by soft actor-critic; needs the extra `rl`."""
    from sbx import SAC

    from hfjax import gym

    setting = TRAINING[name]
    num_steps = num_steps or setting["num_steps"]
    model = SAC(
        "MlpPolicy",
        gym.GymEnv(setting["env"](), max_steps=setting["max_steps"]),
        seed=seed,
        verbose=1,
    )
    model.learn(num_steps, progress_bar=False)
    params = jax.tree.map(np.asarray, model.policy.actor_state.params)["params"]
    layers = [
        networks.DenseParams(params[f"Dense_{i}"]["kernel"], params[f"Dense_{i}"]["bias"])
        for i in range(len(params))
    ]
    env = setting["env"]()
    return GaussianPolicy(
        tuple(layers[:-2]),
        layers[-2],
        layers[-1],
        jnp.asarray(env.action_low),
        jnp.asarray(env.action_high),
    )


def main() -> None:
    """Train a policy and write it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=TRAINING)
    parser.add_argument("--steps", type=int, help="environment steps")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", help="file to write (default: beside this module)")
    options = parser.parse_args()
    if importlib.util.find_spec("sbx") is None:
        raise SystemExit("training a policy needs the extra rl: pdm sync -G rl")
    policy = train(options.name, num_steps=options.steps, seed=options.seed)
    path = pathlib.Path(options.out) if options.out else FOLDER / f"{options.name}.npz"
    save(path, policy, command=" ".join(["python -m hfjax.data.policies", *sys.argv[1:]]))
    print(f"wrote {path}")


if __name__ == "__main__":
    main()

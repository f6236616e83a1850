"""Behaviour policies as pure functions, and how the policies of hfjax were trained.

    python -m hfjax.data.policies pendulum            # needs the extra `rl`; some minutes
    python -m hfjax.data.policies arena_goal

Each command trains a policy by soft actor-critic (sbx-rl) and writes it beside this file, as an npz
of arrays. To use a policy no extra is needed: `act(load("pendulum"), observation, key)`. The
policies that come with hfjax were made by these commands. Return of pendulum in 200 steps: see
experiments/dsm/RESULTS.md. arena_goal reached the goal within 300 steps in each of 400 episodes.
"""

import argparse
import importlib.util
import pathlib
import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from hfjax import arena, cells, envs, networks
from hfjax.errors import one_line
from hfjax.files import local_path, npz_names, read_npz

FOLDER = pathlib.Path(__file__).parent / "trained_policies"


class Actor(nn.Module):
    """Relu layers, then the mean and the logarithm of the deviation of a normal variable.

    Source: sbx `SquashedGaussianActor`.
    """

    hidden: tuple[int, ...]
    num_actions: int

    @nn.compact
    def __call__(self, observations: jax.Array) -> tuple[jax.Array, jax.Array]:
        """observations [..., observation] -> mean and log_std, both [..., action]."""
        x = observations
        for size in self.hidden:
            x = networks.relu(nn.Dense(size)(x))
        outputs = [nn.Dense(self.num_actions, name=name)(x) for name in ("mean", "log_std")]
        return outputs[0], outputs[1]


class GaussianPolicy(NamedTuple):
    """A policy whose action is the tanh of a normal variable, scaled to the bounds of the action.

    params: of `Actor`, {layer: {"kernel", "bias"}}. low, high [action]: bounds.
    Source: Haarnoja et al. 2018.
    """

    params: dict[str, dict[str, jax.Array]]
    low: jax.Array
    high: jax.Array


def act(policy: GaussianPolicy, observation: jax.Array, key: jax.Array) -> jax.Array:
    """A random action of the policy: observation [observation] -> [action]."""
    sizes = tuple(
        policy.params[f"Dense_{i}"]["bias"].shape[0] for i in range(len(policy.params) - 2)
    )
    actor = Actor(sizes, policy.low.shape[0])
    outputs: Any = actor.apply({"params": policy.params}, observation[None])
    mean, log_std = outputs[0][0], outputs[1][0]
    noise = jax.random.normal(key, mean.shape, mean.dtype)
    squashed = jnp.tanh(mean + jnp.exp(jnp.clip(log_std, -20, 2)) * noise)
    return policy.low + (squashed + 1) / 2 * (policy.high - policy.low)


def save(path: pathlib.Path, policy: GaussianPolicy, **notes: str) -> None:
    """Write a policy as an npz; the notes are stored in it as strings."""
    path.parent.mkdir(exist_ok=True)
    np.savez_compressed(path, **to_arrays(policy), **notes)  # type: ignore[arg-type]


def load(name: str) -> GaussianPolicy:
    """A policy that comes with hfjax ("pendulum", "arena_goal"), or the policy of an npz file.

    Raises ValueError if there is no such policy, or the file does not hold one.
    """
    path = local_path(name) if name.endswith(".npz") else FOLDER / f"{name}.npz"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in FOLDER.glob("*.npz")))
        raise ValueError(
            f"there is no policy {name}; there are {known}, and files that end in .npz"
        )
    try:
        # Beside the arrays of the policy are the notes of `save`.
        names = [n for n in npz_names(path) if n in ("low", "high") or "/" in n]
        return from_arrays(read_npz(path, names))
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{path} does not hold a policy ({one_line(error)})") from error


def to_arrays(policy: GaussianPolicy) -> dict[str, np.ndarray]:
    """Its arrays by name: "low", "high", "mean/kernel", "Dense_0/bias", ..."""
    layers = {
        f"{layer}/{name}": np.asarray(array)
        for layer, arrays in policy.params.items()
        for name, array in arrays.items()
    }
    return {"low": np.asarray(policy.low), "high": np.asarray(policy.high), **layers}


def from_arrays(arrays: dict[str, np.ndarray]) -> GaussianPolicy:
    """The inverse of `to_arrays`; "Dense_i" are the hidden layers.

    Raises KeyError for a name that is missing, ValueError where shapes do not fit each other.
    """
    count = sum(name.startswith("Dense_") and name.endswith("/bias") for name in arrays)
    layers = ("mean", "log_std", *(f"Dense_{i}" for i in range(count)))
    _check_shapes(arrays, count)
    params = {
        layer: {name: jnp.asarray(arrays[f"{layer}/{name}"], float) for name in ("kernel", "bias")}
        for layer in layers
    }
    low, high = (jnp.asarray(arrays[name], float) for name in ("low", "high"))
    return GaussianPolicy(params, low, high)


def _check_shapes(arrays: dict[str, np.ndarray], num_hidden: int) -> None:
    """Raise ValueError unless each layer takes what the one before it gives."""
    if not all(array.dtype.kind == "f" for array in arrays.values()):
        raise ValueError("its arrays are not of floating-point numbers")
    size = None  # of the input of a layer; the observation has any size
    for layer in (*(f"Dense_{i}" for i in range(num_hidden)), "mean", "log_std"):
        kernel, bias = arrays[f"{layer}/kernel"], arrays[f"{layer}/bias"]
        fits = kernel.ndim == 2 and size in (None, kernel.shape[0]) and bias.ndim == 1
        if not fits or kernel.shape[1] != len(bias):
            raise ValueError(f"{layer} has a kernel {kernel.shape} and a bias {bias.shape}")
        size = len(bias) if layer.startswith("Dense_") else kernel.shape[0]
    if not arrays["low"].shape == arrays["high"].shape == bias.shape:
        raise ValueError("its bounds of the actions do not fit its layers")


# --- Environments of the policies that come with hfjax ---

GOAL = (0.5, 0.5)
NUM_CELLS, CELL_WIDTH_M = 50, 0.2


def place_cells(environment: arena.Environment, seed: int = 0) -> envs.Code:
    """A code of fifty Gaussian place cells of width 0.2 m at random places, as in the thesis.

    -> a function positions [..., 2] (m) -> rates [..., 50].
    """
    centres = arena.uniform_positions(jax.random.key(seed), environment, NUM_CELLS)
    return lambda positions: cells.gaussian(positions, centres, sigma_m=CELL_WIDTH_M)


def goal_env(**settings: Any) -> envs.Env:
    """A box of 1 m with a goal of radius 10 cm in its centre, observed by place cells; dt 0.1 s."""
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


def _with_shaped_reward(env: envs.Env) -> envs.Env:
    """`goal_env` with a reward for training: 10 at the goal, minus the distance (m) every step."""

    def step(
        agent: arena.Agent, action: jax.Array, key: jax.Array
    ) -> tuple[arena.Agent, jax.Array, jax.Array]:
        new, reward, terminal = env.step(agent, action, key)
        return new, 10 * reward - jnp.linalg.norm(new.position - jnp.asarray(GOAL)), terminal

    return env._replace(step=step)


TRAINING: dict[str, dict[str, Any]] = {
    "pendulum": {"env": envs.pendulum, "max_steps": 200, "num_steps": 20_000},
    "arena_goal": {
        "env": lambda: _with_shaped_reward(goal_env()),
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
    params = jax.tree.map(jnp.asarray, model.policy.actor_state.params)["params"]
    *hidden, mean, log_std = (params[f"Dense_{i}"] for i in range(len(params)))
    layers = {f"Dense_{i}": layer for i, layer in enumerate(hidden)}
    layers |= {"mean": mean, "log_std": log_std}
    env = setting["env"]()
    return GaussianPolicy(layers, jnp.asarray(env.action_low), jnp.asarray(env.action_high))


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
    path = local_path(options.out) if options.out else FOLDER / f"{options.name}.npz"
    save(path, policy, command=" ".join(["python -m hfjax.data.policies", *sys.argv[1:]]))
    print(f"wrote {path}")


if __name__ == "__main__":
    main()

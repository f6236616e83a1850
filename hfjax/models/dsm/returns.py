"""What a distributional successor measure predicts of returns, against Monte Carlo."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from hfjax import envs, figures
from hfjax.models.dsm.task import Predictor
from hfjax.task import HostReadout, Readout, Scalars

# Distances between samples of one number ---------------------------------------------------------


def distances(x: jax.Array, y: jax.Array) -> dict[str, jax.Array]:
    """How far two samples of a number lie apart: [p], [q] -> three scalars.

    With F, G their distribution functions: wasserstein = integral |F - G|, cramer_von_mises =
    p q / (p + q)^2 sum (F - G)^2 over all points of both (the two-sample statistic T of SciPy where
    no two are equal), kolmogorov_smirnov = max |F - G|.
    """
    p, q = len(x), len(y)
    both = jnp.sort(jnp.concatenate([x, y]))
    F = jnp.searchsorted(jnp.sort(x), both, side="right") / p
    G = jnp.searchsorted(jnp.sort(y), both, side="right") / q
    gap = jnp.abs(F - G)
    return {
        "wasserstein": jnp.sum(gap[:-1] * jnp.diff(both)),
        "cramer_von_mises": p * q / (p + q) ** 2 * jnp.sum(gap**2),
        "kolmogorov_smirnov": jnp.max(gap),
    }


# Returns ---------------------------------------------------------------------------------------


def first_two(states: jax.Array) -> jax.Array:
    """The first two numbers of states: [..., dim] -> [..., 2]."""
    return states[..., :2]


def evaluate_returns(
    model: Predictor,
    data: Any,
    key: jax.Array,
    *,
    gamma: float,
    rewards: Mapping[str, envs.Reward],
    act: Callable[[Any, jax.Array, jax.Array], jax.Array] | None = None,
    coordinates: Callable[[jax.Array], jax.Array] = first_two,
    num_inner: int = 4096,
) -> tuple[Scalars, Readout]:
    """Distributions of the return at data["sources"] against Monte Carlo: `evaluation=` of a task.

    An atom's return is the mean reward of its samples over 1 - gamma; over atoms they are compared
    with data["mc_returns"] [source, reward, rollout] by `distances`. act (data["policy"], state,
    key) -> action: for rewards that depend on it. coordinates (states) -> [..., 2]: what the
    figures show.

    Scalars, D each of the three distances, over sources and rewards; the Wasserstein distance is
    divided by the deviation of the reward's Monte-Carlo returns over all sources:
    D_mean, D_median, D_min, D_max; gaussian_D_mean and floor_D_mean, controls: as many quantiles of
    a normal fit of the Monte-Carlo returns, and as many of them drawn at random, both with noise
    like that which the mean of num_inner samples leaves in an atom's return; sampling_noise, this
    noise over the same deviation, mean. wasserstein_R of each reward R, not divided, a mean over
    sources. NaN where data["gamma"] is another.
    Deviation: the original takes 1024 samples.
    """
    sample_key, action_key, floor_key, noise_key = jax.random.split(key, 4)
    sources, truth = jnp.asarray(data["sources"]), jnp.asarray(data["mc_returns"])

    def at_source(now: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, ...]:
        """Mean and deviation of an atom's rewards [reward, outer]; some samples."""
        source, sample_key, action_key = now
        drawn = model.samples(source[None], sample_key, num_inner)[0]  # [outer, inner, dim]
        actions = jnp.zeros((*drawn.shape[:-1], 1), drawn.dtype)
        if act is not None:
            flat = drawn.reshape(-1, drawn.shape[-1])
            keys = jax.random.split(action_key, len(flat))
            actions = jax.vmap(act, (None, 0, 0))(data["policy"], flat, keys)
            actions = actions.reshape(*drawn.shape[:-1], -1)
        found = jnp.stack([reward(drawn, actions) for reward in rewards.values()])
        return jnp.mean(found, axis=-1), jnp.std(found, axis=-1), coordinates(drawn[:, :32])

    keys = (jax.random.split(k, len(sources)) for k in (sample_key, action_key))
    mean, std, shown = jax.lax.map(at_source, (sources, *keys))
    per_atom = mean / (1 - gamma)  # [source, reward, outer]
    noise = std / (1 - gamma) / num_inner**0.5
    num_outer = per_atom.shape[-1]
    # Some rewards are certain at some sources: the deviation is that over all sources.
    relative = jnp.maximum(jnp.std(truth, axis=(0, 2), keepdims=True)[..., 0], 1e-6)

    quantiles = jax.scipy.special.ndtri((jnp.arange(num_outer) + 0.5) / num_outer)
    normal = jnp.mean(truth, axis=-1, keepdims=True) + jnp.std(
        truth, axis=-1, keepdims=True
    ) * quantiles.reshape(1, 1, -1)
    some = jax.random.choice(floor_key, truth.shape[-1], (num_outer,), replace=False)
    # The noise of a perfect model is that of atoms as wide as these.
    same_noise = noise * jax.random.normal(noise_key, per_atom.shape, per_atom.dtype)
    scalars = {"sampling_noise": jnp.mean(noise / relative[..., None])}
    compare = jax.vmap(jax.vmap(distances))
    for prefix, values in (
        ("", per_atom),
        ("gaussian_", normal + same_noise),
        ("floor_", truth[..., some] + same_noise),
    ):
        for name, found in compare(values, truth).items():
            if name == "wasserstein":
                for number, reward in enumerate(rewards if not prefix else ()):
                    of_reward = jnp.mean(found[:, number])
                    scalars[f"wasserstein_{reward.replace(' ', '_')}"] = of_reward
                found = found / relative
            scalars[f"{prefix}{name}_mean"] = jnp.mean(found)
            for statistic in (jnp.median, jnp.min, jnp.max) if not prefix else ():
                scalars[f"{name}_{statistic.__name__}"] = statistic(found)
    same = jnp.abs(data["gamma"] - gamma) < 1e-6
    scalars = {n: jnp.where(same, v, jnp.nan) for n, v in scalars.items()}
    readout = {
        "returns": per_atom,
        "mc_returns": truth[..., :1000],
        "shown": shown,
        "shown_sources": coordinates(sources),
    }
    return scalars, readout


def pendulum_returns(
    model: Predictor,
    data: Any,
    key: jax.Array,
    *,
    gamma: float,
    act: Callable[[Any, jax.Array, jax.Array], jax.Array],
    num_inner: int = 4096,
) -> tuple[Scalars, Readout]:
    """`evaluate_returns` of envs.PENDULUM_REWARDS."""
    return evaluate_returns(
        model,
        data,
        key,
        gamma=gamma,
        rewards=envs.PENDULUM_REWARDS,
        act=act,
        coordinates=pendulum_coordinates,
        num_inner=num_inner,
    )


def windy_returns(
    model: Predictor,
    data: Any,
    key: jax.Array,
    *,
    gamma: float,
    num_inner: int = 4096,
) -> tuple[Scalars, Readout]:
    """`evaluate_returns` of envs.WINDY_REWARDS."""
    return evaluate_returns(
        model, data, key, gamma=gamma, rewards=envs.WINDY_REWARDS, num_inner=num_inner
    )


def pendulum_coordinates(states: jax.Array) -> jax.Array:
    """Angle (rad, 0 upright) and velocity (rad/s): [..., 3] -> [..., 2]."""
    return jnp.stack([envs.pendulum_angle(states), states[..., 2]], axis=-1)


def draw_pendulum(readout: HostReadout) -> dict[str, Figure]:
    """Figures of `pendulum_returns`."""
    axes = ("angle (rad)", "velocity (rad/s)")
    return draw_returns(readout, rewards=tuple(envs.PENDULUM_REWARDS), axes=axes)


def draw_windy(readout: HostReadout) -> dict[str, Figure]:
    """Figures of `windy_returns`."""
    return draw_returns(readout, rewards=tuple(envs.WINDY_REWARDS), axes=("x", "y"))


def draw_returns(
    readout: HostReadout, *, rewards: tuple[str, ...], axes: tuple[str, str]
) -> dict[str, Figure]:
    """Distribution functions and histograms of the returns, and samples by atom."""
    return {
        "samples": draw_samples(readout, axes),
        "cdf": _draw_returns(readout, rewards, axes, cumulative=True),
        "histogram": _draw_returns(readout, rewards, axes, cumulative=False),
    }


def _draw_returns(
    readout: HostReadout,
    rewards: tuple[str, ...],
    names: tuple[str, str],
    *,
    cumulative: bool,
) -> Figure:
    """A row a reward, a column a source: returns of the atoms against Monte Carlo."""
    sources = readout["shown_sources"]
    size = (1.7 * len(sources) + 0.8, 1.5 * len(rewards) + 1.2)
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(
        f"Discounted return of each reward (row) from each source (column): {', '.join(names)}",
        fontsize=11,
    )
    panels = figure.subplots(len(rewards), len(sources), squeeze=False)
    for number, line in enumerate(panels):
        for source, ax in enumerate(line):
            for values, colour, label in (
                (readout["mc_returns"][source, number], figures.GREY, "Monte Carlo"),
                (readout["returns"][source, number], figures.SIMULATED, "atoms"),
            ):
                if cumulative:
                    x = np.sort(values)
                    ax.step(x, np.arange(1, len(x) + 1) / len(x), color=colour, label=label)
                else:
                    ax.hist(values, bins=25, density=True, color=colour, alpha=0.5, label=label)
            ax.tick_params(labelsize=6)
            if not cumulative:
                ax.set_yticks([])
        line[0].set_ylabel(rewards[number], fontsize=8)
    for ax, source in zip(panels[0], sources, strict=True):
        ax.set_title(", ".join(f"{v:.2g}" for v in source), fontsize=8)
    for ax in panels[-1]:
        ax.set_xlabel("return", fontsize=7)
    panels[0, 0].legend(fontsize=6)
    return figure


def draw_samples(readout: HostReadout, names: tuple[str, str]) -> Figure:
    """Samples of the atoms, a colour an atom, after each source.

    readout: "shown" [source, outer, inner, 2], "shown_sources" [source, 2].
    """
    sources = readout["shown_sources"]
    columns = min(3, len(sources))
    rows = -(-len(sources) // columns)
    figure = Figure(figsize=(2.8 * columns + 0.6, 2.8 * rows + 0.6), layout="constrained")
    figure.suptitle("Samples of the states to come, a colour an atom; the cross is the source")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in panels[len(sources) :]:
        ax.set_axis_off()
    for ax, shown, source in zip(panels, readout["shown"], sources, strict=False):
        for atom, points in enumerate(shown):
            ax.plot(*points.T, ".", color=f"C{atom % 10}", markersize=2, alpha=0.5)
        ax.plot(*source, "x", color="black", markersize=8)
        ax.set_xlabel(names[0], fontsize=8)
        ax.tick_params(labelsize=7)
    for ax in panels[::columns]:
        ax.set_ylabel(names[1], fontsize=8)
    return figure

"""Returns that a distributional successor measure predicts, compared with Monte-Carlo returns."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from hfjax import envs, figures
from hfjax.models.dsm.task import Predictor
from hfjax.task import HostReadout, Readout, Scalars

# --- Distances between two samples of a number ---


def distances(x: jax.Array, y: jax.Array) -> dict[str, jax.Array]:
    """Distances between two samples of a number: [p], [q] -> three scalars.

    F and G are the distribution functions of x and y:
    wasserstein = integral |F - G|,
    cramer_von_mises = p q / (p + q)^2 sum (F - G)^2 over all points of both (SciPy's two-sample
    statistic T if no two points are equal),
    kolmogorov_smirnov = max |F - G|.
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


# --- Returns ---


class Act(Protocol):
    """(policy, state, key) -> action."""

    def __call__(self, policy: Any, state: jax.Array, key: jax.Array, /) -> jax.Array:
        """state [state] -> action [action]."""


class Coordinates(Protocol):
    """(states) -> the two numbers of a state that figures show."""

    def __call__(self, states: jax.Array, /) -> jax.Array:
        """states [..., dim] -> [..., 2]."""


def first_two(states: jax.Array) -> jax.Array:
    """The first two numbers of states: [..., dim] -> [..., 2]."""
    return states[..., :2]


class AtomReturns(NamedTuple):
    """mean, noise [source, reward, outer]; some samples [source, outer, inner, 2] for figures.

    mean: return of each atom. noise: its standard error, because it averages num_inner samples.
    """

    mean: jax.Array
    noise: jax.Array
    samples: jax.Array


def evaluate_returns(
    model: Predictor,
    data: Any,
    key: jax.Array,
    *,
    gamma: float,
    rewards: Mapping[str, envs.Reward],
    act: Act | None = None,
    coordinates: Coordinates = first_two,
    num_inner: int = 4096,
) -> tuple[Scalars, Readout]:
    """Return distributions at data["sources"], compared with Monte Carlo: `evaluation=` of a task.

    The return of an atom is the mean reward of its samples, divided by 1 - gamma. `distances`
    compares the atoms' returns with data["mc_returns"] [source, reward, rollout].

    rewards      {name: reward}.
    act          the policy, (data["policy"], state, key) -> action, for rewards that depend on it.
    coordinates  the two numbers of a state that figures show.
    num_inner    samples of each atom at each source.

    Scalars, D being each of the three distances, over sources and rewards:
    D_mean, D_median, D_min, D_max. The Wasserstein distance is divided by the standard deviation of
    the reward's Monte-Carlo returns over all sources.
    gaussian_D_mean, floor_D_mean: controls with the same number of atoms, (a) quantiles of a
    Gaussian fit to the Monte-Carlo returns, (b) random Monte-Carlo returns. Both have noise added
    that is as large as the sampling noise of an atom's return.
    sampling_noise: mean of this noise, divided by the same standard deviation.
    wasserstein_R: Wasserstein distance of each reward R, not divided, mean over sources.
    All are NaN if data["gamma"] is not gamma.
    Deviation: the original draws 1024 samples.
    """
    sample_key, action_key, floor_key, noise_key = jax.random.split(key, 4)
    truth = jnp.asarray(data["mc_returns"])
    atoms = atom_returns(
        model,
        data,
        (sample_key, action_key),
        gamma=gamma,
        rewards=rewards,
        act=act,
        coordinates=coordinates,
        num_inner=num_inner,
    )
    scalars = compare_returns(atoms, truth, (floor_key, noise_key), rewards=tuple(rewards))
    same = jnp.abs(data["gamma"] - gamma) < 1e-6
    scalars = {name: jnp.where(same, value, jnp.nan) for name, value in scalars.items()}
    readout = {
        "returns": atoms.mean,
        "mc_returns": truth[..., :1000],
        "shown": atoms.samples,
        "shown_sources": coordinates(jnp.asarray(data["sources"])),
    }
    return scalars, readout


def atom_returns(
    model: Predictor,
    data: Any,
    keys: tuple[jax.Array, jax.Array],
    *,
    gamma: float,
    rewards: Mapping[str, envs.Reward],
    act: Act | None,
    coordinates: Coordinates,
    num_inner: int,
) -> AtomReturns:
    """Return of each atom at each source; keys: of the samples, and of the actions."""
    sources = jnp.asarray(data["sources"])

    def actions_of(drawn: jax.Array, key: jax.Array) -> jax.Array:
        if act is None:
            return jnp.zeros((*drawn.shape[:-1], 1), drawn.dtype)
        flat = drawn.reshape(-1, drawn.shape[-1])
        keys = jax.random.split(key, len(flat))
        actions = jax.vmap(act, (None, 0, 0))(data["policy"], flat, keys)
        return actions.reshape(*drawn.shape[:-1], -1)

    def at_source(now: tuple[jax.Array, jax.Array, jax.Array]) -> AtomReturns:
        source, sample_key, action_key = now
        drawn = model.samples(source[None], sample_key, num_inner)[0]  # [outer, inner, dim]
        actions = actions_of(drawn, action_key)
        values = jnp.stack([reward(drawn, actions) for reward in rewards.values()])
        mean, std = jnp.mean(values, axis=-1), jnp.std(values, axis=-1)
        return AtomReturns(
            mean / (1 - gamma), std / (1 - gamma) / num_inner**0.5, coordinates(drawn[:, :32])
        )

    per_source = (jax.random.split(k, len(sources)) for k in keys)
    return jax.lax.map(at_source, (sources, *per_source))


def compare_returns(
    atoms: AtomReturns,
    truth: jax.Array,
    keys: tuple[jax.Array, jax.Array],
    *,
    rewards: tuple[str, ...],
) -> Scalars:
    """The scalars of `evaluate_returns`; truth [source, reward, rollout].

    keys: of the choice of Monte-Carlo returns, and of the controls' noise.
    """
    floor_key, noise_key = keys
    # Some rewards are certain at some sources, so the standard deviation is that over all sources.
    scale = jnp.maximum(jnp.std(truth, axis=(0, 2), keepdims=True)[..., 0], 1e-6)
    # A perfect model's atoms would have this noise.
    noise = atoms.noise * jax.random.normal(noise_key, atoms.mean.shape, atoms.mean.dtype)
    num_outer = atoms.mean.shape[-1]
    gaussian = gaussian_quantiles(truth, num_outer)
    some = jax.random.choice(floor_key, truth.shape[-1], (num_outer,), replace=False)
    return {
        "sampling_noise": jnp.mean(atoms.noise / scale[..., None]),
        **scalars_of_model(atoms.mean, truth, scale, rewards),
        **scalars_of_control("gaussian", gaussian + noise, truth, scale),
        **scalars_of_control("floor", truth[..., some] + noise, truth, scale),
    }


def gaussian_quantiles(truth: jax.Array, count: int) -> jax.Array:
    """Even quantiles of a Gaussian fit: [source, reward, rollout] -> [source, reward, count]."""
    quantiles = jax.scipy.special.ndtri((jnp.arange(count) + 0.5) / count)
    mean, std = (f(truth, axis=-1, keepdims=True) for f in (jnp.mean, jnp.std))
    return mean + std * quantiles.reshape(1, 1, -1)


def scaled_distances(
    values: jax.Array, truth: jax.Array, scale: jax.Array
) -> Iterator[tuple[str, jax.Array]]:
    """(name, distance [source, reward]); the Wasserstein distance is divided by scale."""
    for name, distance in jax.vmap(jax.vmap(distances))(values, truth).items():
        yield name, distance / scale if name == "wasserstein" else distance


def scalars_of_model(
    values: jax.Array, truth: jax.Array, scale: jax.Array, rewards: tuple[str, ...]
) -> Scalars:
    """Statistics of each distance over sources and rewards, and wasserstein_R of each reward."""
    scalars: Scalars = {}
    for name, distance in scaled_distances(values, truth, scale):
        for statistic in (jnp.mean, jnp.median, jnp.min, jnp.max):
            scalars[f"{name}_{statistic.__name__}"] = statistic(distance)
        if name == "wasserstein":
            by_reward = jnp.mean(distance * scale, axis=0)
            for reward, value in zip(rewards, by_reward, strict=True):
                scalars[f"wasserstein_{reward.replace(' ', '_')}"] = value
    return scalars


def scalars_of_control(
    control: str, values: jax.Array, truth: jax.Array, scale: jax.Array
) -> Scalars:
    """Mean of each distance over sources and rewards, for returns that no model predicted."""
    return {
        f"{control}_{name}_mean": jnp.mean(distance)
        for name, distance in scaled_distances(values, truth, scale)
    }


def pendulum_returns(
    model: Predictor,
    data: Any,
    key: jax.Array,
    *,
    gamma: float,
    act: Act,
    num_inner: int = 4096,
) -> tuple[Scalars, Readout]:
    """`evaluate_returns` of envs.PENDULUM_REWARDS.

    act, num_inner: as in `evaluate_returns`.
    """
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
    """`evaluate_returns` of envs.WINDY_REWARDS.

    num_inner: as in `evaluate_returns`.
    """
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
    """Distribution functions and histograms of the returns, and the samples of each atom."""
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
    """Returns of the atoms and of Monte Carlo; a row for each reward, a column for each source."""
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
    """Samples of the atoms at each source; each atom has a colour.

    readout: "shown" [source, outer, inner, 2], "shown_sources" [source, 2].
    """
    sources = readout["shown_sources"]
    columns = min(3, len(sources))
    rows = -(-len(sources) // columns)
    figure = Figure(figsize=(2.8 * columns + 0.6, 2.8 * rows + 0.6), layout="constrained")
    figure.suptitle("Samples of future states; colour: atom; cross: source")
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

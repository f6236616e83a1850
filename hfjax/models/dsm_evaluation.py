"""What a distributional successor measure predicts: returns against Monte Carlo, and rate maps."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from hfjax import arena, envs, figures, ratemaps

# (state [..., dim], action [..., action]) -> [...]
Reward = Callable[[jax.Array, jax.Array], jax.Array]

# Rewards ---------------------------------------------------------------------------------------


def _angle(s: jax.Array) -> jax.Array:
    """Of the pendulum's cos, sin, velocity [..., 3]: 0 upright, in [-pi, pi)."""
    return arena.wrap_angle(jnp.arctan2(s[..., 1], s[..., 0]))


def _torque(a: jax.Array) -> jax.Array:
    return jnp.clip(a[..., 0], -2, 2)


# Source: distributional-sr `rewards`, whose "default" lacks the cost of the action.
PENDULUM_REWARDS: dict[str, Reward] = {
    "default": lambda s, a: envs.pendulum_reward(_angle(s), s[..., 2], _torque(a)),
    "no action penalty": lambda s, a: -(_angle(s) ** 2 + 0.1 * s[..., 2] ** 2),
    "above horizon": lambda s, a: -((jnp.abs(_angle(s)) > jnp.pi / 2) + 0.1 * _torque(a) ** 2),
    "stay left": lambda s, a: jnp.minimum(s[..., 1], 0),
    "stay right": lambda s, a: jnp.maximum(s[..., 1], 0),
    "slow": lambda s, a: -jnp.abs(s[..., 2]),
    "counter-clockwise": lambda s, a: (s[..., 2] > 0).astype(s.dtype),
}
WINDY_REWARDS: dict[str, Reward] = {"quadrants": lambda s, a: envs.quadrant_reward(s)}

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


def returns(
    samples: Callable[[jax.Array, jax.Array, int], jax.Array],
    data: Any,
    key: jax.Array,
    *,
    gamma: float,
    rewards: Mapping[str, Reward],
    act: Callable[[Any, jax.Array, jax.Array], jax.Array] | None = None,
    coordinates: Callable[[jax.Array], jax.Array] = first_two,
    num_inner: int = 256,
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    """Distributions of the return at data["sources"] against Monte Carlo: `evaluation=` of a task.

    An atom's return is the mean reward of its samples over 1 - gamma; over atoms they are compared
    with data["mc_returns"] [source, reward, rollout] by `distances`. act (data["policy"], state,
    key) -> action: for rewards that depend on it. coordinates (states) -> [..., 2]: what the
    figures show.

    Scalars: mean, median, min and max of the three distances over sources and rewards, the
    Wasserstein distance divided by the deviation of the reward's Monte-Carlo returns over all
    sources; wasserstein_R of each reward R, not divided, a mean over sources; and as controls
    gaussian_wasserstein_mean, of as many quantiles of a normal fit of the Monte-Carlo returns, and
    floor_wasserstein_mean, of as many of them drawn at random. NaN where data["gamma"] is another.
    """
    sample_key, action_key, floor_key = jax.random.split(key, 3)
    sources, truth = jnp.asarray(data["sources"]), jnp.asarray(data["mc_returns"])
    drawn = samples(sources, sample_key, num_inner)  # [source, outer, inner, dim]
    num_outer = drawn.shape[1]
    if act is not None:
        flat = drawn.reshape(-1, drawn.shape[-1])
        actions = jax.vmap(act, (None, 0, 0))(
            data["policy"], flat, jax.random.split(action_key, len(flat))
        )
        actions = actions.reshape(*drawn.shape[:-1], -1)
    else:
        actions = jnp.zeros((*drawn.shape[:-1], 1), drawn.dtype)
    per_atom = jnp.stack(
        [jnp.mean(reward(drawn, actions), axis=-1) for reward in rewards.values()], axis=1
    ) / (1 - gamma)  # [source, reward, outer]
    compare = jax.vmap(jax.vmap(distances))
    std = jnp.std(truth, axis=-1)
    # Some rewards are certain at some sources: the deviation is that over all sources.
    relative = jnp.maximum(jnp.std(truth, axis=(0, 2), keepdims=True)[..., 0], 1e-6)

    quantiles = jax.scipy.special.ndtri((jnp.arange(num_outer) + 0.5) / num_outer)
    normal = jnp.mean(truth, axis=-1)[..., None] + std[..., None] * quantiles.reshape(1, 1, -1)
    some = jax.random.choice(floor_key, truth.shape[-1], (num_outer,), replace=False)
    found = compare(per_atom, truth)
    scalars = {}
    for name, values in found.items():
        values = values / relative if name == "wasserstein" else values
        for statistic in (jnp.mean, jnp.median, jnp.min, jnp.max):
            scalars[f"{name}_{statistic.__name__}"] = statistic(values)
    for number, name in enumerate(rewards):
        scalars[f"wasserstein_{name.replace(' ', '_')}"] = jnp.mean(found["wasserstein"][:, number])
    for name, others in (("gaussian", normal), ("floor", truth[..., some])):
        values = compare(others, truth)["wasserstein"] / relative
        scalars[f"{name}_wasserstein_mean"] = jnp.mean(values)
    same = jnp.abs(data["gamma"] - gamma) < 1e-6
    scalars = {n: jnp.where(same, v, jnp.nan) for n, v in scalars.items()}
    readout = {
        "returns": per_atom,
        "mc_returns": truth[..., :1000],
        "shown": coordinates(drawn[:, :, :32]),
        "shown_sources": coordinates(sources),
    }
    return scalars, readout


def pendulum_returns(
    samples: Callable[[jax.Array, jax.Array, int], jax.Array],
    data: Any,
    key: jax.Array,
    *,
    gamma: float,
    act: Callable[[Any, jax.Array, jax.Array], jax.Array],
    num_inner: int = 256,
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    """`returns` of PENDULUM_REWARDS."""
    return returns(
        samples,
        data,
        key,
        gamma=gamma,
        rewards=PENDULUM_REWARDS,
        act=act,
        coordinates=pendulum_coordinates,
        num_inner=num_inner,
    )


def windy_returns(
    samples: Callable[[jax.Array, jax.Array, int], jax.Array],
    data: Any,
    key: jax.Array,
    *,
    gamma: float,
    num_inner: int = 256,
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    """`returns` of WINDY_REWARDS."""
    return returns(samples, data, key, gamma=gamma, rewards=WINDY_REWARDS, num_inner=num_inner)


def pendulum_coordinates(states: jax.Array) -> jax.Array:
    """Angle (rad, 0 upright) and velocity (rad/s): [..., 3] -> [..., 2]."""
    return jnp.stack([_angle(states), states[..., 2]], axis=-1)


def draw_pendulum(readout: dict[str, np.ndarray]) -> dict[str, Figure]:
    """Figures of `pendulum_returns`."""
    axes = ("angle (rad)", "velocity (rad/s)")
    return draw_returns(readout, rewards=tuple(PENDULUM_REWARDS), axes=axes)


def draw_windy(readout: dict[str, np.ndarray]) -> dict[str, Figure]:
    """Figures of `windy_returns`."""
    return draw_returns(readout, rewards=tuple(WINDY_REWARDS), axes=("x", "y"))


def draw_returns(
    readout: dict[str, np.ndarray], *, rewards: tuple[str, ...], axes: tuple[str, str]
) -> dict[str, Figure]:
    """Distribution functions and histograms of the first and last reward, and samples by atom."""
    drawn = {"samples": _draw_samples(readout, axes)}
    for name in (rewards[0], rewards[-1]):
        suffix = name.replace(" ", "_").replace("-", "_")
        number = rewards.index(name)
        drawn[f"cdf_{suffix}"] = _draw_returns(readout, number, name, cumulative=True)
        drawn[f"histogram_{suffix}"] = _draw_returns(readout, number, name, cumulative=False)
    return drawn


def _panels(count: int, size: float) -> tuple[Figure, list[Any]]:
    columns = min(3, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(size * columns + 0.6, size * rows + 0.6), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for ax in axes[count:]:
        ax.set_axis_off()
    return figure, axes[:count]


def _draw_returns(
    readout: dict[str, np.ndarray], number: int, name: str, *, cumulative: bool
) -> Figure:
    """Returns of one reward at all sources: atoms against Monte Carlo."""
    figure, axes = _panels(len(readout["returns"]), 2.6)
    figure.suptitle(f"Discounted return, reward: {name}", fontsize=11)
    for source, ax in enumerate(axes):
        for values, colour, label in (
            (readout["mc_returns"][source, number], figures.GREY, "Monte Carlo"),
            (readout["returns"][source, number], figures.SIMULATED, "atoms"),
        ):
            if cumulative:
                x = np.sort(values)
                ax.step(x, np.arange(1, len(x) + 1) / len(x), color=colour, label=label)
            else:
                ax.hist(values, bins=25, density=True, color=colour, alpha=0.5, label=label)
        at = ", ".join(f"{v:.2g}" for v in readout["shown_sources"][source])
        ax.set_title(f"from ({at})", fontsize=9)
        ax.set_xlabel("return", fontsize=8)
        ax.tick_params(labelsize=7)
    axes[0].set_ylabel("share not above" if cumulative else "density", fontsize=8)
    axes[0].legend(fontsize=7)
    return figure


def _draw_samples(readout: dict[str, np.ndarray], axes_: tuple[str, str]) -> Figure:
    """Samples of the atoms, a colour an atom, after each source."""
    figure, axes = _panels(len(readout["shown"]), 2.8)
    figure.suptitle("Samples of the states to come, a colour an atom; the cross is the source")
    for source, ax in enumerate(axes):
        for atom, points in enumerate(readout["shown"][source]):
            colour = f"C{atom % 10}"
            ax.plot(*points.T, ".", color=colour, markersize=2, alpha=0.5)
        ax.plot(*readout["shown_sources"][source], "x", color="black", markersize=8)
        ax.set_xlabel(axes_[0], fontsize=8)
        ax.tick_params(labelsize=7)
    axes[0].set_ylabel(axes_[1], fontsize=8)
    return figure


# Place cells -----------------------------------------------------------------------------------


def place_maps(
    samples: Callable[[jax.Array, jax.Array, int], jax.Array],
    data: Any,
    key: jax.Array,
    *,
    gamma: float,
    num_inner: int = 64,
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    """Predicted rates over a lattice of places: `evaluation=` of a task on place cells.

    A cell's predicted rate map is, at each place, the mean of an atom's samples; over all atoms it
    is a successor representation. It is compared with the discounted mean of the rates that
    followed in the data ("empirical").

    Scalars: map_correlation, mean over cells of the correlation with the empirical map over visited
    places; map_error, root mean square difference; atom_spread, mean deviation between atoms;
    place_correlation, of the predicted map with the cell's own, for comparison; decoded_error_cm,
    distance between the position decoded from the prediction and that decoded from the empirical
    rates; information, mean spatial information (bits) of the predicted maps, and that of the place
    cells, place_information.
    """
    sources, truth = jnp.asarray(data["sources"]), jnp.asarray(data["empirical"])
    truth = jnp.where(jnp.abs(data["gamma"] - gamma) < 1e-6, truth, jnp.nan)
    drawn = samples(sources, key, num_inner)  # [place, outer, inner, cell]
    by_atom = jnp.mean(drawn, axis=2)
    mean = jnp.mean(by_atom, axis=1)  # [place, cell]
    visited = jnp.isfinite(truth[:, :1])
    count = jnp.sum(visited)
    known = jnp.where(visited, truth, 0)

    def correlation(a: jax.Array, b: jax.Array) -> jax.Array:
        a, b = (
            jnp.where(visited, z - jnp.sum(z * visited, axis=0, keepdims=True) / count, 0)
            for z in (a, b)
        )
        scale = jnp.sqrt(jnp.sum(a**2, axis=0) * jnp.sum(b**2, axis=0))
        return jnp.mean(jnp.sum(a * b, axis=0) / jnp.maximum(scale, 1e-12))

    decoder = jnp.asarray(data["decoder"])

    def decoded(rates: jax.Array) -> jax.Array:
        return rates @ decoder[:-1] + decoder[-1].reshape((1,) * (rates.ndim - 1) + (2,))

    apart = jnp.linalg.norm(decoded(mean) - decoded(known), axis=1, keepdims=True)
    side = round(len(sources) ** 0.5)
    even = jnp.full((side, side), 1 / side**2)
    maps = mean.T.reshape(-1, side, side)
    own = sources.T.reshape(-1, side, side)

    def information(maps: jax.Array) -> jax.Array:
        return jnp.nanmean(ratemaps.spatial_information(jnp.maximum(maps, 0), even).bits_per_spike)

    scalars = {
        "map_correlation": correlation(mean, known),
        "map_error": jnp.sqrt(jnp.sum(visited * (mean - known) ** 2) / (count * mean.shape[1])),
        "atom_spread": jnp.mean(jnp.std(by_atom, axis=1)),
        "place_correlation": correlation(mean, sources),
        "decoded_error_cm": 100 * jnp.sum(jnp.where(visited, apart, 0)) / count,
        "information": information(maps),
        "place_information": information(own),
    }
    readout = {
        "maps": maps,
        "atom_maps": jnp.moveaxis(by_atom, 0, -1).reshape(*by_atom.shape[1:], side, side),
        "place_maps": own,
        "empirical_maps": truth.T.reshape(-1, side, side),
        "decoded": decoded(mean),
        "decoded_by_atom": decoded(by_atom),
        "lattice": jnp.asarray(data["lattice"]),
    }
    return scalars, readout


def draw_place_maps(readout: dict[str, np.ndarray]) -> dict[str, Figure]:
    """Predicted maps of some cells beside the empirical ones, by atom, and decoded positions."""
    return {"rate_maps": _draw_maps(readout), "predictions": _draw_predictions(readout)}


def _draw_maps(readout: dict[str, np.ndarray]) -> Figure:
    """Rows: the cell itself, what follows in the data, the prediction, and three atoms."""
    shown = np.linspace(0, len(readout["maps"]) - 1, 8).astype(int)
    rows = {
        "place cell": readout["place_maps"][shown],
        "empirical successor": readout["empirical_maps"][shown],
        "predicted, all atoms": readout["maps"][shown],
    }
    for atom in range(min(3, len(readout["atom_maps"]))):
        rows[f"predicted, atom {atom + 1}"] = readout["atom_maps"][atom][shown]
    figure = Figure(figsize=(1.3 * len(shown) + 1.6, 1.4 * len(rows) + 0.8), layout="constrained")
    figure.suptitle("Rate maps over the box (1 m x 1 m), each from its lowest to its highest rate")
    axes = figure.subplots(len(rows), len(shown), squeeze=False)
    for line, (label, maps) in zip(axes, rows.items(), strict=True):
        for ax, rate_map in zip(line, maps, strict=True):
            ax.imshow(rate_map.T, origin="lower", extent=(0, 1, 0, 1), cmap="viridis")
            ax.set_xticks([])
            ax.set_yticks([])
        line[0].set_ylabel(label, fontsize=7)
    for ax, cell in zip(axes[0], shown, strict=True):
        ax.set_title(f"cell {cell}", fontsize=8)
    return figure


def _draw_predictions(readout: dict[str, np.ndarray]) -> Figure:
    """Decoded predictions: from each place an arrow, and x and y as maps."""
    lattice, decoded = readout["lattice"], readout["decoded"]
    side = round(len(lattice) ** 0.5)
    figure = Figure(figsize=(12, 4), layout="constrained")
    arrows, *maps = figure.subplots(1, 3)
    move = decoded - lattice
    arrows.quiver(*lattice.T, *move.T, angles="xy", scale_units="xy", scale=1, width=0.004)
    arrows.set(xlim=(0, 1), ylim=(0, 1), xlabel="x (m)", ylabel="y (m)", aspect="equal")
    arrows.set_title("Place, and mean place to come (decoded)", fontsize=10)
    for ax, column, name in zip(maps, (0, 1), "xy", strict=True):
        image = ax.imshow(
            decoded[:, column].reshape(side, side).T,
            origin="lower",
            extent=(0, 1, 0, 1),
            vmin=0,
            vmax=1,
            cmap="coolwarm",
        )
        figure.colorbar(image, ax=ax, label=f"predicted {name} (m)")
        ax.set(xlabel="x (m)", ylabel="y (m)")
        ax.set_title(f"Predicted {name} from each place", fontsize=10)
    return figure

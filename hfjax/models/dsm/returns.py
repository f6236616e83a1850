"""Returns that a distributional successor measure predicts, compared with Monte-Carlo returns."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hfjax import envs, figures
from hfjax.missing import MISSING
from hfjax.models.dsm.maps import Plane, draw_plane_maps, maps_over_plane
from hfjax.models.dsm.task import Predictor
from hfjax.task import HostReadout, Metric, Readout, Scalars, declares

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


NUM_NULL = 500  # permutations behind a p-value


def p_values(values: jax.Array, truth: jax.Array, key: jax.Array) -> dict[str, jax.Array]:
    """p-values of two distances: values [..., p], truth [..., q] -> two arrays [...].

    The null hypothesis is that both are samples of one distribution: p = (1 + n) / (1 + NUM_NULL),
    n being the number of random divisions of p + q different numbers whose distance is as large.
    Cramer-von Mises and Kolmogorov-Smirnov distances depend on ranks only, so that these divisions
    serve for all pairs. With equal numbers in a pair, its p-value is an approximation.
    """
    p, q = values.shape[-1], truth.shape[-1]

    def divided(key: jax.Array) -> dict[str, jax.Array]:
        order = jax.random.permutation(key, p + q).astype(values.dtype)
        return rank_distances(order[:p], order[p:])

    null = jax.lax.map(divided, jax.random.split(key, NUM_NULL))
    pairs = values.reshape(-1, p), truth.reshape(-1, q)
    actual = jax.vmap(rank_distances)(*pairs)

    def p_value(name: str) -> jax.Array:
        larger = null[name][None] >= actual[name][:, None] * (1 - 1e-6)
        return ((1 + jnp.sum(larger, axis=1)) / (1 + NUM_NULL)).reshape(values.shape[:-1])

    return {name: p_value(name) for name in actual}


def rank_distances(x: jax.Array, y: jax.Array) -> dict[str, jax.Array]:
    """The `distances` that depend on ranks only."""
    return {name: d for name, d in distances(x, y).items() if name != "wasserstein"}


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
    rewards [source, reward, outer, inner]: of the samples, over 1 - gamma, so that their mean is
    the return; None without a gamma model.
    """

    mean: jax.Array
    noise: jax.Array
    samples: jax.Array
    rewards: jax.Array | None = None


def evaluate_returns(
    model: Predictor,
    data: Any,
    key: jax.Array,
    *,
    gamma: float,
    rewards: Mapping[str, envs.Reward],
    act: Act | None = None,
    coordinates: Coordinates = first_two,
    plane: Plane | None = None,
    num_inner: int = 4096,
) -> tuple[Scalars, Readout]:
    """Return distributions at data["sources"], compared with Monte Carlo: `evaluation=` of a task.

    The return of an atom is the mean reward of its samples, divided by 1 - gamma. `distances`
    compares the atoms' returns with data["mc_returns"] [source, reward, rollout].

    rewards      {name: reward}.
    act          the policy, (data["policy"], state, key) -> action, for rewards that depend on it.
    coordinates  the two numbers of a state that figures show.
    plane        states over which maps are drawn, if any.
    num_inner    samples of each atom at each source.

    Scalars, D being each of the three distances, over sources and rewards:
    D_mean, D_median, D_min, D_max. The Wasserstein distance is divided by the standard deviation of
    the reward's Monte-Carlo returns over all sources.
    gaussian_D_mean, random_D_mean: controls with the same number of atoms, (a) quantiles of a
    Gaussian fit to the Monte-Carlo returns, (b) random Monte-Carlo returns. Both have noise added
    that is as large as the sampling noise of an atom's return.
    sampling_noise: mean of this noise, divided by the same standard deviation.
    D_p_median, D_rejected: median of `p_values`, and the share below .05, of the two distances that
    have them.
    wasserstein_R: Wasserstein distance of each reward R, not divided, mean over sources.
    All are MISSING if data["gamma"] is not gamma.
    Readout: returns and mc_returns (1000 of them) [source, reward, outer or rollout]; shown, some
    samples [source, outer, inner, 2]; shown_sources; shown_rewards [reward, outer, inner], those of
    samples at the middle source, over 1 - gamma; what `futures` and `maps_over_plane` return.
    Deviation: the original draws 1024 samples.
    """
    sample_key, action_key, random_key, noise_key = jax.random.split(key, 4)
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
    scalars = compare_returns(atoms, truth, (random_key, noise_key), rewards=tuple(rewards))
    same = jnp.abs(data["gamma"] - gamma) < 1e-6
    scalars = {name: jnp.where(same, value, MISSING) for name, value in scalars.items()}
    readout = returns_readout(atoms, data, key, gamma=gamma, coordinates=coordinates)
    if plane is not None:
        data_states, last = jnp.asarray(data["states"]), jnp.asarray(data["last"])
        map_key = jax.random.fold_in(key, 2)
        readout |= maps_over_plane(model, data_states, last, map_key, plane=plane, gamma=gamma)
    return scalars, readout


def returns_readout(
    atoms: AtomReturns, data: Any, key: jax.Array, *, gamma: float, coordinates: Coordinates
) -> Readout:
    """Returns and samples, for figures; see `evaluate_returns`."""
    states, last, sources = (jnp.asarray(data[n]) for n in ("states", "last", "sources"))
    ahead = futures(
        states, last, sources, jax.random.fold_in(key, 1), gamma=gamma, coordinates=coordinates
    )
    return {
        "returns": atoms.mean,
        "mc_returns": jnp.asarray(data["mc_returns"])[..., :1000],
        "shown": atoms.samples,
        "shown_sources": coordinates(sources),
        **ahead,
        **({} if atoms.rewards is None else {"shown_rewards": atoms.rewards[len(sources) // 2]}),
    }


NUM_FUTURES = 320  # of the data, drawn from each source


def futures(
    states: jax.Array,
    last: jax.Array,
    sources: jax.Array,
    key: jax.Array,
    *,
    gamma: float,
    coordinates: Coordinates = first_two,
) -> Readout:
    """Where the data went from near each source: the truth beside the samples of the atoms.

    From each of the NUM_FUTURES / 10 states that are nearest to a source (of every tenth state of
    the data, each dimension in units of its range) ten later ones, Geometric(1 - gamma) steps
    ahead, at most at the end of the episode. states [time, dim], last [time], sources [source, dim]
    -> shown_futures [source, future, 2]; shown_extent [2, 2]: lowest and highest of each of the two
    `coordinates` in the data.
    """
    scale = jnp.maximum(jnp.ptp(states, axis=0, keepdims=True), 1e-9)
    time = jnp.arange(len(states))
    ends = jax.lax.cummin(jnp.where(last, time, len(states) - 1), reverse=True)

    def ahead(now: tuple[jax.Array, jax.Array]) -> jax.Array:
        source, key = now
        away = jnp.sum(((states[::10] - source[None]) / scale) ** 2, axis=1)
        _, nearest = jax.lax.top_k(-away, min(NUM_FUTURES // 10, len(away)))
        nearest *= 10
        shape = (len(nearest), 10)
        steps = jax.random.geometric(key, 1 - gamma, shape) if gamma else jnp.ones(shape, int)
        times = jnp.minimum(nearest[:, None] + steps, ends[nearest][:, None])
        return coordinates(states[times.reshape(-1)])

    keys = jax.random.split(key, len(sources))
    shown = coordinates(states)
    return {
        "shown_futures": jax.lax.map(ahead, (sources, keys)),
        "shown_extent": jnp.stack([jnp.min(shown, axis=0), jnp.max(shown, axis=0)], axis=1),
    }


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

    def at_source(now: tuple[jax.Array, jax.Array, jax.Array]) -> AtomReturns:
        source, sample_key, action_key = now
        drawn = model.samples(source[None], sample_key, num_inner)[0]  # [outer, inner, dim]
        actions = actions_at(data, drawn, action_key, act=act)
        values = jnp.stack([reward(drawn, actions) for reward in rewards.values()])
        mean, std = jnp.mean(values, axis=-1), jnp.std(values, axis=-1)
        return AtomReturns(
            mean / (1 - gamma),
            std / (1 - gamma) / num_inner**0.5,
            coordinates(drawn[:, :32]),
            values[..., :32] / (1 - gamma),
        )

    per_source = (jax.random.split(k, len(sources)) for k in keys)
    return jax.lax.map(at_source, (sources, *per_source))


def actions_at(data: Any, states: jax.Array, key: jax.Array, *, act: Act | None) -> jax.Array:
    """Actions of the policy, data["policy"] if any, at states [..., dim]; 0 where act is None."""
    if act is None:
        return jnp.zeros((*states.shape[:-1], 1), states.dtype)
    flat = states.reshape(-1, states.shape[-1])
    keys = jax.random.split(key, len(flat))
    actions = jax.vmap(act, (None, 0, 0))(data.get("policy"), flat, keys)
    return actions.reshape(*states.shape[:-1], -1)


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
    random_key, noise_key = keys
    # Some rewards are certain at some sources, so the standard deviation is that over all sources.
    scale = jnp.maximum(jnp.std(truth, axis=(0, 2), keepdims=True)[..., 0], 1e-6)
    # A perfect model's atoms would have this noise.
    noise = atoms.noise * jax.random.normal(noise_key, atoms.mean.shape, atoms.mean.dtype)
    num_outer = atoms.mean.shape[-1]
    gaussian = gaussian_quantiles(truth, num_outer)
    few = num_outer > truth.shape[-1]
    some = jax.random.choice(random_key, truth.shape[-1], (num_outer,), replace=few)
    return {
        "sampling_noise": jnp.mean(atoms.noise / scale[..., None]),
        **scalars_of_model(atoms.mean, truth, scale, rewards),
        **scalars_of_p(p_values(atoms.mean, truth, jax.random.fold_in(noise_key, 1))),
        **scalars_of_control("gaussian", gaussian + noise, truth, scale),
        **scalars_of_control("random", truth[..., some] + noise, truth, scale),
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


def scalars_of_p(values: dict[str, jax.Array]) -> Scalars:
    """D_p_median and D_rejected, the share of pairs of source and reward with p < .05."""
    medians = {f"{name}_p_median": jnp.median(p) for name, p in values.items()}
    return medians | {f"{name}_rejected": jnp.mean(p < 0.05) for name, p in values.items()}


def scalars_of_control(
    control: str, values: jax.Array, truth: jax.Array, scale: jax.Array
) -> Scalars:
    """Mean of each distance over sources and rewards, for returns that no model predicted."""
    return {
        f"{control}_{name}_mean": jnp.mean(distance)
        for name, distance in scaled_distances(values, truth, scale)
    }


def return_metrics(rewards: Mapping[str, envs.Reward]) -> dict[str, Metric]:
    """What the scalars of `evaluate_returns` mean."""
    metrics = {"sampling_noise": Metric("sampling noise of an atom's return", "sd of returns")}
    for name, words, unit, measure in (
        ("wasserstein", "Wasserstein", "sd of returns", ""),
        ("cramer_von_mises", "Cramer-von Mises", "", "sum of squared gaps of the CDFs"),
        ("kolmogorov_smirnov", "Kolmogorov-Smirnov", "", "largest gap of the CDFs"),
    ):
        distance = Metric(words, unit, "held out", "lower", panel=f"{words} distance of returns")
        if name != "wasserstein":
            metrics[f"{name}_p_median"] = Metric(f"{words}, median p", level=("5 %", 0.05))
            metrics[f"{name}_rejected"] = Metric(f"{words}, p < .05", "% of sources and rewards")
        distance = distance._replace(measure=measure)
        metrics[f"{name}_mean"] = distance._replace(label=f"{words} distance, mean", series="mean")
        metrics[f"{name}_median"] = distance._replace(
            label="median of sources and rewards", series="median of sources and rewards"
        )
        metrics |= {f"{name}_{end}": distance._replace(panel="") for end in ("min", "max")}
        for control, label in (("gaussian", "Gaussian fit"), ("random", "random true returns")):
            metrics[f"{control}_{name}_mean"] = Metric(
                label, unit, role="control", of=f"{name}_mean"
            )
    for reward in rewards:
        metrics[f"wasserstein_{reward.replace(' ', '_')}"] = Metric(
            reward, "return", "held out", "lower", panel="Wasserstein distance by reward", log=True
        )
    return metrics


def rollout_returns(
    model: Predictor,
    data: Any,
    key: jax.Array,
    *,
    gamma: float,
    rewards: Mapping[str, envs.Reward],
    act: Act | None = None,
    coordinates: Coordinates = first_two,
    discount: float = 0.95,
    num_rollouts: int = 500,
    rollout_steps: int = 200,
) -> tuple[Scalars, Readout]:
    """Returns of rollouts of a one-step model, compared with Monte Carlo; see `evaluate_returns`.

    The first atom of a model of the next state is applied to its own samples, rollout_steps times;
    a return is sum_k discount^k r(s_(k+1)). Its distribution over rollouts takes the place of the
    distribution over atoms.

    rewards, act, coordinates: as in `evaluate_returns`.
    discount       discount per time step of the returns; that of the data.
    num_rollouts   rollouts from each source.
    rollout_steps  steps of a rollout.

    Scalars and readout: those of `evaluate_returns`, without maps; MISSING if gamma is not 0 or
    data["gamma"] not discount. The data's returns must start with the next state (from_source
    false). Source: distributional-sr `make_forward_model_returns`. Deviation: actions are those of
    the policy, where the original has 0.
    """
    roll_key, action_key, random_key, noise_key = jax.random.split(key, 4)
    sources, truth = jnp.asarray(data["sources"]), jnp.asarray(data["mc_returns"])

    def step(
        states: jax.Array, keys: tuple[jax.Array, jax.Array]
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        states = model.samples(states, keys[0], 1)[:, 0, 0]
        actions = actions_at(data, states, keys[1], act=act)
        return states, (jnp.stack([r(states, actions) for r in rewards.values()]), states)

    keys = jax.random.split(roll_key, rollout_steps), jax.random.split(action_key, rollout_steps)
    start = jnp.repeat(sources, num_rollouts, axis=0)
    _, (values, states) = jax.lax.scan(step, start, keys)  # values [step, reward, source rollout]
    weights = discount ** jnp.arange(rollout_steps, dtype=values.dtype)
    total = jnp.tensordot(weights, values, 1).reshape(len(rewards), len(sources), num_rollouts)
    total = jnp.swapaxes(total, 0, 1)
    shown = coordinates(states[:32]).reshape(-1, len(sources), num_rollouts, 2)[:, :, :10]
    atoms = AtomReturns(total, jnp.zeros_like(total), jnp.moveaxis(shown, 0, 2))
    scalars = compare_returns(atoms, truth, (random_key, noise_key), rewards=tuple(rewards))
    same = (jnp.abs(data["gamma"] - discount) < 1e-6) & (gamma == 0)
    scalars = {name: jnp.where(same, value, MISSING) for name, value in scalars.items()}
    return scalars, returns_readout(atoms, data, key, gamma=discount, coordinates=coordinates)


def pendulum_coordinates(states: jax.Array) -> jax.Array:
    """Angle (rad, 0 upright) and velocity (rad/s): [..., 3] -> [..., 2]."""
    return jnp.stack([envs.pendulum_angle(states), states[..., 2]], axis=-1)


def pendulum_states(coordinates: jax.Array) -> jax.Array:
    """The states of angles and velocities: [..., 2] -> [..., 3]."""
    angle, velocity = coordinates[..., 0], coordinates[..., 1]
    return jnp.stack([jnp.cos(angle), jnp.sin(angle), velocity], axis=-1)


PENDULUM = Plane(
    pendulum_coordinates,
    pendulum_states,
    extent=((-np.pi, np.pi), (-8.0, 8.0)),
    names=("angle (rad)", "velocity (rad/s)"),
    colour_maps=("twilight", "viridis"),
)
WINDY = Plane(
    first_two, first_two, extent=((-5.0, 5.0), (-5.0, 5.0)), names=("x (steps)", "y (steps)")
)


@declares(return_metrics(envs.PENDULUM_REWARDS))
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
        plane=PENDULUM,
        num_inner=num_inner,
    )


@declares(return_metrics(envs.WINDY_REWARDS))
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
        model, data, key, gamma=gamma, rewards=envs.WINDY_REWARDS, plane=WINDY, num_inner=num_inner
    )


@declares(return_metrics(envs.PENDULUM_REWARDS))
def pendulum_rollouts(
    model: Predictor,
    data: Any,
    key: jax.Array,
    *,
    gamma: float,
    act: Act,
    discount: float = 0.95,
    num_rollouts: int = 500,
    rollout_steps: int = 200,
) -> tuple[Scalars, Readout]:
    """`rollout_returns` of envs.PENDULUM_REWARDS.

    act, discount, num_rollouts, rollout_steps: as in `rollout_returns`.
    """
    return rollout_returns(
        model,
        data,
        key,
        gamma=gamma,
        rewards=envs.PENDULUM_REWARDS,
        act=act,
        coordinates=pendulum_coordinates,
        discount=discount,
        num_rollouts=num_rollouts,
        rollout_steps=rollout_steps,
    )


@declares(return_metrics(envs.CAR_REWARDS))
def car_returns(
    model: Predictor, data: Any, key: jax.Array, *, gamma: float, act: Act, num_inner: int = 4096
) -> tuple[Scalars, Readout]:
    """`evaluate_returns` of envs.CAR_REWARDS.

    act, num_inner: as in `evaluate_returns`.
    """
    return evaluate_returns(
        model,
        data,
        key,
        gamma=gamma,
        rewards=envs.CAR_REWARDS,
        act=act,
        plane=CAR,
        num_inner=num_inner,
    )


CAR = Plane(
    first_two, first_two, extent=((-1.2, 0.6), (-0.07, 0.07)), names=("position", "velocity")
)


def draw_car(readout: HostReadout) -> dict[str, Figure]:
    """Figures of `car_returns`."""
    rewards = tuple(envs.CAR_REWARDS)
    return draw_returns(readout, rewards=rewards, axes=CAR.names) | draw_plane_maps(readout, CAR)


def draw_pendulum(readout: HostReadout) -> dict[str, Figure]:
    """Figures of `pendulum_returns`."""
    rewards = tuple(envs.PENDULUM_REWARDS)
    return draw_returns(readout, rewards=rewards, axes=PENDULUM.names) | draw_plane_maps(
        readout, PENDULUM
    )


def draw_windy(readout: HostReadout) -> dict[str, Figure]:
    """Figures of `windy_returns`."""
    rewards = tuple(envs.WINDY_REWARDS)
    return draw_returns(readout, rewards=rewards, axes=WINDY.names, equal=True) | draw_plane_maps(
        readout, WINDY
    )


def draw_returns(
    readout: HostReadout,
    *,
    rewards: tuple[str, ...],
    axes: tuple[str, str],
    equal: bool = False,
) -> dict[str, Figure]:
    """Distribution functions and histograms of the returns; samples of each atom, their rewards.

    axes: the two coordinates of a state; equal: whether they have the same unit.
    """
    return {
        **({"rewards": draw_rewards(readout, rewards, axes)} if "shown_rewards" in readout else {}),
        "samples": draw_samples(readout, axes, equal=equal),
        "cdf": _draw_returns(
            readout, rewards, axes, draw=draw_cdf, y_label="share of returns <= x"
        ),
        "histogram": _draw_returns(
            readout, rewards, axes, draw=draw_histogram, y_label="share of rollouts (%)"
        ),
    }


def draw_rewards(readout: HostReadout, rewards: tuple[str, ...], axes: tuple[str, str]) -> Figure:
    """Rewards of samples of each atom at the middle source, a panel for each reward.

    Divided by 1 - gamma, so that the mean of an atom is its return.
    """
    middle = len(readout["shown_sources"]) // 2
    names = (name.partition(" (")[0] for name in axes)
    numbers = zip(names, readout["shown_sources"][middle], strict=True)
    figure = Figure(figsize=(12.5, 2.7 * -(-len(rewards) // 4) + 0.9), layout="constrained")
    figure.suptitle(
        "Rewards of the samples of each atom, the atom with the lowest return first; source: "
        + ", ".join(f"{name} {number:.3g}" for name, number in numbers),
        fontsize=11,
    )
    panels = figure.subplots(-(-len(rewards) // 4), min(4, len(rewards)), squeeze=False).ravel()
    for ax in panels[len(rewards) :]:
        ax.set_axis_off()
    for number, (ax, reward) in enumerate(zip(panels, rewards, strict=False)):
        returns = readout["returns"][middle, number]
        order, x = np.argsort(returns), np.arange(1, len(returns) + 1)
        samples = readout["shown_rewards"][number][order]
        ax.plot(
            np.repeat(x, samples.shape[1]), samples.ravel(), ".", ms=2, alpha=0.4, label="sample"
        )
        ax.plot(x, returns[order], "_", color="black", label="return of the atom")
        mean = readout["mc_returns"][middle, number].mean()
        ax.axhline(mean, color=figures.RAT, label="mean return, Monte Carlo")
        ax.set_title(reward, fontsize=9)
        ax.set(xlabel="atom", ylabel="reward / (1 - gamma)")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    handles = panels[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=3, fontsize=9)
    return figure


class DrawReturns(Protocol):
    """(returns of atoms, of Monte Carlo, limits, title, ax) -> figure."""

    def __call__(
        self,
        atoms: np.ndarray,
        monte_carlo: np.ndarray,
        /,
        *,
        limits: tuple[float, float],
        title: str,
        ax: Axes | None = None,
    ) -> Figure:
        """One panel of returns, atoms [atom] and monte_carlo [rollout]."""


def draw_cdf(
    atoms: np.ndarray,
    monte_carlo: np.ndarray,
    *,
    limits: tuple[float, float],
    title: str,
    ax: Axes | None = None,
) -> Figure:
    """Distribution functions of the returns of atoms [atom] and of Monte Carlo [rollout]."""
    return figures.ecdf(
        {"model": atoms, "Monte Carlo": monte_carlo},
        limits=limits,
        x_label="return",
        title=title,
        ax=ax,
    )


def draw_histogram(
    atoms: np.ndarray,
    monte_carlo: np.ndarray,
    *,
    limits: tuple[float, float],
    title: str,
    ax: Axes | None = None,
) -> Figure:
    """Histogram of Monte-Carlo returns [rollout], and a tick for the return of each atom [atom]."""
    ax = figures.axes_or_new(ax, (5.0, 3.6))
    weights = np.full(len(monte_carlo), 100 / len(monte_carlo))
    shares, _, _ = ax.hist(
        monte_carlo,
        24,
        range=limits,
        weights=weights,
        color=figures.RAT,
        alpha=0.5,
        label="Monte Carlo",
    )
    top = max(1.1 * float(np.max(shares)), ax.get_ylim()[1])  # panels may share the axis
    ax.set_ylim(-0.25 * top, top)
    ax.set_yticks([tick for tick in MaxNLocator(4).tick_values(0, top) if 0 <= tick <= top])
    ax.vlines(
        atoms,
        0.03,
        0.15,
        transform=ax.get_xaxis_transform(),  # shares of the panel's height
        color=figures.SIMULATED,
        lw=0.9,
        label="model: a tick for each atom or rollout",
    )
    ax.set_xlim(limits)
    ax.set_xlabel("return")
    ax.set_ylabel("share of rollouts (%)")
    ax.set_title(title, fontsize=10)
    ax.legend(fontsize=8)
    return figures.figure_of(ax)


def _draw_returns(
    readout: HostReadout,
    rewards: tuple[str, ...],
    names: tuple[str, str],
    *,
    draw: DrawReturns,
    y_label: str,
) -> Figure:
    """Returns of atoms and Monte Carlo; a row for each reward, a column for each source.

    Panels of a row have the same axes.
    """
    sources, returns, truth = (readout[n] for n in ("shown_sources", "returns", "mc_returns"))
    width = min(2.4, 12.0 / len(sources))
    size = (width * len(sources) + 1.0, max(2.0, 1.25 * len(rewards)) + 1.7)
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(
        "Discounted return of each reward (row) from each source (column):\n"
        "the model, and Monte-Carlo rollouts (the truth)",
        fontsize=11,
    )
    panels = figure.subplots(len(rewards), len(sources), squeeze=False, sharey="row")
    for number, (reward, line) in enumerate(zip(rewards, panels, strict=True)):
        limits = _limits(returns[:, number], truth[:, number])
        for source, ax in enumerate(line):
            heading = "" if number else _at(sources[source], names)
            draw(
                returns[source, number], truth[source, number], limits=limits, title=heading, ax=ax
            )
            ax.title.set_fontsize(8)
            lowest = reward == rewards[-1]
            ax.set_xlabel("return" if lowest else "", fontsize=8)
            ax.set_ylabel("" if source else reward.replace(" ", "\n"), fontsize=8)
            ax.tick_params(labelsize=6, labelleft=source == 0)
            ax.get_legend().remove()
    figure.supylabel(y_label, fontsize=9)
    handles = panels[0, 0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=2, fontsize=9)
    return figure


def _at(source: np.ndarray, names: tuple[str, str]) -> str:
    """A source [2] in words, a line for each coordinate: "angle 1.5 rad" of "angle (rad)"."""
    words = (name.rstrip(")").partition(" (") for name in names)  # "position" has no unit
    lines = (f"{n} {v:.3g} {unit}" for v, (n, _, unit) in zip(source, words, strict=True))
    return "\n".join(line.rstrip() for line in lines)


def _limits(*values: np.ndarray) -> tuple[float, float]:
    """The range of all values and 3 % on both sides."""
    low, high = min(float(v.min()) for v in values), max(float(v.max()) for v in values)
    margin = 0.03 * (high - low) or 1.0
    return low - margin, high + margin


def sample_points(
    samples: np.ndarray,
    futures: np.ndarray,
    source: np.ndarray,
    *,
    names: tuple[str, str],
    extent: np.ndarray,
    title: str,
    ax: Axes | None = None,
) -> Figure:
    """Samples [atom, sample, 2] of each atom at a source [2], over futures [future, 2] of the data.

    extent [2, 2]: lowest and highest of each coordinate; its outline is drawn.
    """
    ax = figures.axes_or_new(ax, (4.2, 4.0))
    (left, right), (bottom, top) = extent
    ax.plot(*figures.box_outline(extent), color=figures.GREY, linewidth=0.8)
    ax.plot(*futures.T, ".", color="0.75", markersize=4, label="data: from near the source")
    for atom, points in enumerate(samples):
        ax.plot(*points.T, ".", color=f"C{atom % 7}", markersize=1.8, alpha=0.7)
    ax.plot([], [], ".", color="C0", label="model: a colour for each atom or rollout")
    ax.plot(*source, "X", color="black", markeredgecolor="white", markersize=9, label="source")
    margin = 0.06 * np.array([right - left, top - bottom])
    ax.set_xlim(left - margin[0], right + margin[0])
    ax.set_ylim(bottom - margin[1], top + margin[1])
    ax.set_xlabel(names[0], fontsize=8)
    ax.set_ylabel(names[1], fontsize=8)
    ax.set_title(title, fontsize=8)
    ax.tick_params(labelsize=7)
    return figures.figure_of(ax)


def draw_samples(
    readout: HostReadout, names: tuple[str, str], *, equal: bool, how: str = ""
) -> Figure:
    """`sample_points` of each source, all with the same axes; equal: with the same unit.

    readout: shown [source, outer, inner, 2], shown_sources [source, 2], shown_futures [source,
    future, 2], shown_extent [2, 2]; walls [wall, end, 2] and goals [goal, 2] where there are any.
    how: more words for the title.
    """
    sources, extent = readout["shown_sources"], readout["shown_extent"]
    columns = min(3, len(sources))
    rows = -(-len(sources) // columns)
    figure = Figure(figsize=(2.9 * columns + 0.6, 3.2 * rows + 1.2), layout="compressed")
    figure.suptitle(
        f"Future states that the model samples, and those of the data{how}", fontsize=11
    )
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in panels[len(sources) :]:
        ax.set_axis_off()
    for number, (ax, source) in enumerate(zip(panels, sources, strict=False)):
        shown = readout["shown"][number]
        inside = ((shown >= extent[:, 0]) & (shown <= extent[:, 1])).all(axis=-1)
        title = f"source ({source[0]:.3g}, {source[1]:.3g})"
        if not inside.all():
            title += f"\n{100 * (1 - inside.mean()):.1f} % of samples beyond the frame"
        sample_points(
            shown,
            readout["shown_futures"][number],
            source,
            names=names,
            extent=extent,
            title=title,
            ax=ax,
        )
        draw_room(ax, readout)
        if equal:
            ax.set_aspect("equal")
    handles = panels[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=5, fontsize=9, markerscale=1.5)
    return figure


def draw_room(ax: Axes, readout: HostReadout) -> None:
    """The walls inside the box and the goals of a readout, where it has any."""
    for number, wall in enumerate(readout.get("walls", ())):
        ax.plot(*wall.T, color="black", linewidth=2, label="_wall" if number else "wall")
    if len(readout.get("goals", ())):
        ax.plot(*readout["goals"].T, "*", color="gold", mec="black", ms=11, label="goal")

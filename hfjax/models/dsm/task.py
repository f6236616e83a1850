"""The distributional successor measure: a distribution over where an animal will be.

Under a policy, the discounted occupancy of states after a state is a distribution; with a random
future it is a random one. The model has atoms, each of which samples from one possible occupancy;
together they stand for the distribution over occupancies, from which follow the distributions of
the return of any reward. It learns from transitions alone, by bootstrapping.

Source: Wiltzer, Farebrother et al., ICML 2024; their repository distributional-sr.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from hfjax import check, kernels, networks
from hfjax.task import Figures, Task

PAIRS_AT_ONCE = 2**23  # of samples; bounds the memory of the kernels

# Targets ---------------------------------------------------------------------------------------


def horizons(
    key: jax.Array,
    last: jax.Array,
    *,
    gamma: float,
    num_outer: int,
    num_inner: int,
    from_source: bool = True,
) -> jax.Array:
    """How many steps ahead each target sample lies: last [batch, time] -> [batch, outer, inner].

    H ~ Geometric(1 - gamma), at most the first time at which the episode ends, and with from_source
    one more. Source: distributional-sr `train_step`.
    """
    shape = (last.shape[0], num_outer, num_inner)
    if gamma == 0:
        H = jnp.ones(shape, jnp.int32)
    else:
        H = jax.random.geometric(key, 1 - gamma, shape, dtype=jnp.int32)
    end = jnp.argmax(last, axis=1).astype(jnp.int32) + int(from_source)
    ends = jnp.any(last, axis=1)
    return jnp.where(ends[:, None, None], jnp.minimum(end[:, None, None], H), H)


def target_samples(
    states: jax.Array,
    last: jax.Array,
    H: jax.Array,
    bootstrap: jax.Array | None,
    *,
    from_source: bool = True,
) -> jax.Array:
    """Samples of the occupancy that a stretch of a trajectory shows.

    states s_0 .. s_n [batch, n + 1, dim], last [batch, n + 1]: where an episode ends; H [batch,
    outer, inner] of `horizons`; bootstrap [batch, outer, inner, dim]: samples of the model at s_n,
    or None. A sample is element H - 1 (without from_source, H) of s_0 .. s_{n-1}, b, beyond whose
    end it is b: the bootstrap, or s_n itself where the episode ends or there is no bootstrap.
    -> [batch, outer, inner, dim]. Source: distributional-sr `train_step`.
    """
    index = jnp.minimum(H - int(from_source), states.shape[1] - 1)
    samples = jax.vmap(lambda s, i: s[i])(states, index)
    if bootstrap is None:
        return samples
    chex.assert_equal_shape([samples, bootstrap])
    goes_on = ~jnp.any(last, axis=1)[:, None, None] & (index == states.shape[1] - 1)
    return jnp.where(goes_on[..., None], bootstrap, samples)


# The atoms -------------------------------------------------------------------------------------

Layers = tuple[networks.DenseParams, ...]


def atoms_init(
    key: jax.Array, *, num_outer: int, dim: int, latent_dims: int, hidden: tuple[int, ...]
) -> Layers:
    """Separate networks, one for each atom: every array has a leading [outer] axis."""
    sizes = (latent_dims + dim, *hidden, dim)

    def one(key: jax.Array) -> Layers:
        return networks.mlp_init(key, sizes=sizes)

    return jax.vmap(one)(jax.random.split(key, num_outer))


def atom_activity(
    params: Layers, states: jax.Array, key: jax.Array, *, num_inner: int, latent_dims: int
) -> tuple[jax.Array, ...]:
    """Activity of each layer for num_inner samples of each atom after each state.

    states [batch, dim] -> of each hidden layer [batch, outer, inner, unit]; last, the samples,
    [batch, outer, inner, dim].
    """
    num_outer, batch = params[0].weights.shape[0], states.shape[0]
    noise = jax.random.normal(key, (num_outer, batch * num_inner, latent_dims), states.dtype)

    def one(layers: Layers, noise: jax.Array) -> list[jax.Array]:
        # The first layer's product with a state serves all samples after that state.
        first, *others = layers
        of_noise, of_state = first.weights[:latent_dims], first.weights[latent_dims:]
        x = jnp.repeat(states @ of_state + first.bias[None], num_inner, axis=0) + noise @ of_noise
        activity = []
        for layer in others:
            activity.append(networks.leaky_relu(x))
            x = networks.dense(layer, activity[-1])
        return [*activity, x]

    return tuple(
        jnp.swapaxes(x.reshape(num_outer, batch, num_inner, -1), 0, 1)
        for x in jax.vmap(one)(params, noise)
    )


def sample_atoms(
    params: Layers, states: jax.Array, key: jax.Array, *, num_inner: int, latent_dims: int
) -> jax.Array:
    """num_inner samples of each atom's occupancy after each state.

    states [batch, dim] -> [batch, outer, inner, dim].
    """
    return atom_activity(params, states, key, num_inner=num_inner, latent_dims=latent_dims)[-1]


class Predictor(NamedTuple):
    """What an evaluation may ask of a trained model.

    samples (states [batch, dim], key, num_inner) -> [batch, outer, inner, dim].
    hidden (the same) -> of each hidden layer [batch, outer, unit], the mean over num_inner samples.
    """

    samples: Callable[[jax.Array, jax.Array, int], jax.Array]
    hidden: Callable[[jax.Array, jax.Array, int], tuple[jax.Array, ...]]


# Adversaries -----------------------------------------------------------------------------------


class Adversary(NamedTuple):
    """The embedding in which samples are compared, which learns to tell them apart.

    init (key, *, dim, num_outer) -> (params, u), u the vectors of spectral normalisation, or ().
    embed (params, u, samples [batch, outer, inner, dim]) -> (embedded, u).
    learns: whether it has anything to learn.
    """

    init: Callable[..., tuple[Any, Any]]
    embed: Callable[[Any, Any, jax.Array], tuple[jax.Array, Any]]
    learns: bool = True


def _over_samples(function: Callable, samples: jax.Array) -> jax.Array:
    """A network [sample, dim] -> [sample, out] over all samples of all atoms."""
    out = function(samples.reshape(-1, samples.shape[-1]))
    return out.reshape(*samples.shape[:-1], out.shape[-1])


def _shared_or_separate(init, embed, separate: bool) -> Adversary:
    """One embedding for all atoms, or one for each."""
    if not separate:
        return Adversary(lambda key, *, dim, num_outer: init(key, dim), embed)

    def init_each(key: jax.Array, *, dim: int, num_outer: int):
        return jax.vmap(lambda key: init(key, dim))(jax.random.split(key, num_outer))

    def embed_each(params, u, samples):
        return jax.vmap(embed, in_axes=(0, 0, 1), out_axes=(1, 0))(params, u, samples)

    return Adversary(init_each, embed_each)


def residual_adversary(
    *,
    num_units: int = 256,
    num_blocks: int = 2,
    layers_per_block: int = 2,
    num_outputs: int = 8,
    separate: bool = False,
) -> Adversary:
    """Residual network whose matrices have a spectral norm of 1; as published.

    x W; then for each block x + (layers_per_block leaky relu layers and a linear one)(f(x)); then
    f(x) W, f = leaky relu. One step of power iteration at each embedding. separate: one for each
    atom, as the ensemble of gamma models has it.
    Raises ValueError for a size below 1.
    Source: distributional-sr `ResidualMLP` under Flax's SpectralNorm.
    """
    check.at_least(
        1,
        num_units=num_units,
        num_blocks=num_blocks,
        layers_per_block=layers_per_block,
        num_outputs=num_outputs,
    )
    block_sizes = (num_units,) * (layers_per_block + 2)

    def init(key: jax.Array, dim: int):
        params_key, u_key = jax.random.split(key)
        first_key, last_key, *keys = jax.random.split(params_key, 2 + num_blocks)
        params = (
            networks.dense_init(first_key, num_in=dim, num_out=num_units),
            tuple(networks.mlp_init(k, sizes=block_sizes) for k in keys),
            networks.dense_init(last_key, num_in=num_units, num_out=num_outputs),
        )
        return params, networks.spectral_init(u_key, params)

    def embed(params, u, samples):
        (first, blocks, last), u = networks.spectral_normalised(params, u)

        def network(x: jax.Array) -> jax.Array:
            x = networks.dense(first, x)
            for block in blocks:
                x = x + networks.mlp(block, networks.leaky_relu(x))
            return networks.dense(last, networks.leaky_relu(x))

        return _over_samples(network, samples), u

    return _shared_or_separate(init, embed, separate)


def mlp_adversary(
    *, hidden: tuple[int, ...] = (256, 256, 256), num_outputs: int = 8, separate: bool = False
) -> Adversary:
    """A plain network of leaky relu layers, without a bound on its slope."""
    check.at_least(1, **{f"hidden[{i}]": size for i, size in enumerate(hidden)})

    def init(key: jax.Array, dim: int):
        return networks.mlp_init(key, sizes=(dim, *hidden, num_outputs)), ()

    def embed(params, u, samples):
        return _over_samples(partial(networks.mlp, params), samples), u

    return _shared_or_separate(init, embed, separate)


def no_adversary() -> Adversary:
    """Samples are compared as they are."""
    return Adversary(
        lambda key, *, dim, num_outer: ((), ()), lambda params, u, samples: (samples, u), False
    )


# Objectives ------------------------------------------------------------------------------------

# (predicted, target [outer, inner, dim], *, learned_target) -> scalar, for one state.
Objective = Callable[..., jax.Array]


def between_atoms(
    predicted: jax.Array,
    target: jax.Array,
    *,
    learned_target: bool,
    inner: kernels.Kernel = kernels.rational_quadratic,
    outer: kernels.Kernel = kernels.inverse_multiquadric,
    bandwidth: float | None = None,
) -> jax.Array:
    """Outer MMD of the two sets of atoms, whose distance is their inner MMD; as published.

    `kernels.outer_mmd_sq`, the inner means by `kernels.fused_mean_kernels`. learned_target: whether
    a gradient by `target` is wanted; without, it is 0.
    """
    z = jnp.concatenate([predicted, target])
    num_x = len(predicted)

    def loss(z: jax.Array) -> jax.Array:
        S = kernels.fused_mean_kernels(z, inner, len(z) if learned_target else num_x)
        return kernels.outer_mmd_sq(S, num_x, kernel=outer, bandwidth=bandwidth)

    return kernels.with_gradient_at_once(loss)(z)


def between_atoms_by_median(
    predicted: jax.Array,
    target: jax.Array,
    *,
    learned_target: bool,
    inner: kernels.Kernel = kernels.gaussian,
    outer: kernels.Kernel = kernels.gaussian,
) -> jax.Array:
    """`between_atoms` with a bandwidth of its own for every two atoms: the median distance of
    their samples. For use without an adversary.

    Source: the `median` config of distributional-sr.
    """
    del learned_target
    z = jnp.concatenate([predicted, target])
    num_x, n = len(predicted), len(z)

    def pair(x: jax.Array, y: jax.Array) -> jax.Array:
        both = jnp.concatenate([x, y])
        d = kernels.squared_distances(both, both)
        d = d * (1 - jnp.eye(len(both), dtype=d.dtype))
        k = inner(d / kernels.median_distance(d, len(x)))
        i = len(x)
        within = (jnp.sum(k[:i, :i]) + jnp.sum(k[i:, i:]) - jnp.trace(k)) / (i * (i - 1))
        return jnp.maximum(within - 2 * jnp.mean(k[:i, i:]), 0)

    d = jax.lax.map(lambda x: jax.vmap(lambda y: pair(x, y))(z), z)
    d = d * (1 - jnp.eye(n, dtype=d.dtype))
    k = outer(d / kernels.median_distance(d, num_x))
    within = jnp.mean(k[:num_x, :num_x]) + jnp.mean(k[num_x:, num_x:])
    return within - 2 * jnp.mean(k[:num_x, num_x:])


def each_atom(
    predicted: jax.Array,
    target: jax.Array,
    *,
    learned_target: bool,
    inner: kernels.Kernel = kernels.rational_quadratic,
) -> jax.Array:
    """Mean over atoms of the inner MMD between a prediction and its target: an ensemble of gamma
    models (Janner et al. 2020), each of which learns the successor representation.
    """
    del learned_target
    return jnp.mean(jax.vmap(lambda x, y: kernels.mmd_sq(x, y, inner))(predicted, target))


# The task --------------------------------------------------------------------------------------


def soft_update(target: Any, params: Any, steps: jax.Array, *, rate: float = 0.01) -> Any:
    """target + rate (params - target), at every step; as published. 0 < rate <= 1."""
    del steps
    if not 0 < rate <= 1:
        raise ValueError(f"rate must be above 0 and at most 1, but is {rate}")
    return optax.incremental_update(params, target, rate)


def hard_update(target: Any, params: Any, steps: jax.Array, *, period: int = 100) -> Any:
    """The params at every period-th step, otherwise the target as it is."""
    check.at_least(1, period=period)
    return optax.periodic_update(params, target, steps, period)


class State(NamedTuple):
    """What a checkpoint holds. atoms, target: of `atoms_init`; spectral: the adversary's u."""

    atoms: Layers
    target: Layers
    adversary: Any
    spectral: Any
    opt_state: Any
    steps: jax.Array


class Stretch(NamedTuple):
    """states [..., time, dim], last [..., time]: where an episode ends."""

    states: jax.Array
    last: jax.Array


def task(
    *,
    gamma: float = 0.95,
    horizon: int = 6,
    num_outer: int = 51,
    num_inner: int = 32,
    latent_dims: int = 8,
    hidden: tuple[int, ...] = (256, 256, 256),
    batch_size: int = 64,
    learning_rate: float | optax.Schedule = 6.25e-5,
    eps: float = 1.5e-4,
    adversary: Adversary | None = None,
    objective: Objective = between_atoms,
    target_update: Callable[[Any, Any, jax.Array], Any] = soft_update,
    bootstrap: bool = True,
    from_source: bool = True,
    updates_per_step: int = 1,
    evaluation: Callable[..., Any] | None = None,
    draw: Figures | None = None,
) -> Task:
    """The distributional successor measure of the policy that a data set shows, as a Task.

    An update of the adversary, which raises the objective, and one of the atoms, which lowers it,
    each on its own batch_size stretches of horizon + 1 states; a step is updates_per_step of both.
    The target samples come from the stretch up to a geometric horizon, and beyond it from the
    target network at its last state (`horizons`, `target_samples`).

    gamma: discount. num_outer atoms, num_inner samples of each, latent_dims numbers of noise each.
    adversary: `residual_adversary` (default), `mlp_adversary`, `no_adversary`. objective:
    `between_atoms`, `between_atoms_by_median`, `each_atom`. target_update: `soft_update`,
    `hard_update`. bootstrap: without, samples beyond the stretch are its last state. from_source:
    whether the state itself belongs to its occupancy. learning_rate, eps: of both Adams.
    data: {"states" [time, dim], "last" [time] of bool, ...}, one trajectory or several in a row.
    evaluation (`Predictor`, data, key, *, gamma) -> (scalars, readout); draw (readout) -> figures.

    step's scalars, means over its updates: objective (of the atoms' update), and where there is an
    adversary adversary_objective, its own, and embedding_norm, the mean length of an embedding.
    Raises ValueError where gamma is outside [0, 1), a size is below 1 (num_inner: 2), a rate is not
    positive, and for data that are shorter than the horizon or are no trajectory.

    Source: distributional-sr `train`; the defaults are those of the paper's pendulum. Deviations:
    one power iteration at an update's predictions and none at its targets, which see the same
    normalised weights; the diagonals of distances are exactly 0.
    """
    check.below_one(gamma=gamma)
    check.at_least(
        1,
        horizon=horizon,
        num_outer=num_outer,
        latent_dims=latent_dims,
        batch_size=batch_size,
        updates_per_step=updates_per_step,
        **{f"hidden[{i}]": size for i, size in enumerate(hidden)},
    )
    check.at_least(2, num_inner=num_inner)
    check.at_least(1, hidden_layers=len(hidden))
    check.positive(eps=eps)
    if not callable(learning_rate):
        check.positive(learning_rate=learning_rate)
    jax.eval_shape(target_update, jnp.zeros(1), jnp.zeros(1), jnp.int32(1))  # its own checks, now
    rival = residual_adversary() if adversary is None else adversary
    optimizer = optax.adam(learning_rate, eps=eps)
    sampled = partial(sample_atoms, num_inner=num_inner, latent_dims=latent_dims)
    at_once = max(1, PAIRS_AT_ONCE // (2 * num_outer * num_inner) ** 2)

    def check_data(data: Any) -> None:
        if not isinstance(data, dict) or not {"states", "last"} <= set(data):
            raise ValueError("the task needs the states of a trajectory, and where episodes end")
        if data["states"].ndim != 2 or data["last"].shape != data["states"].shape[:1]:
            raise ValueError(
                f"states must be [time, dim] and last [time], but they are {data['states'].shape} "
                f"and {data['last'].shape}"
            )
        if len(data["states"]) < horizon + 2:
            raise ValueError(
                f"horizon must be at most {len(data['states']) - 2}, two less than the states, but "
                f"is {horizon}"
            )

    def init(key: jax.Array, data: Any) -> State:
        check_data(data)
        dim = data["states"].shape[1]
        atoms_key, adversary_key = jax.random.split(key)
        atoms = atoms_init(
            atoms_key, num_outer=num_outer, dim=dim, latent_dims=latent_dims, hidden=tuple(hidden)
        )
        params, spectral = rival.init(adversary_key, dim=dim, num_outer=num_outer)
        opt_state = optimizer.init(atoms), optimizer.init(params)
        target = jax.tree.map(jnp.copy, atoms)
        return State(atoms, target, params, spectral, opt_state, jnp.int32(0))

    def sample(data: Any, key: jax.Array) -> Stretch:
        """Stretches [batch, update, adversary's and atoms', time, ...]."""
        shape = (batch_size, updates_per_step, 2)
        first = jax.random.randint(key, shape, 0, len(data["states"]) - horizon - 1)
        index = first[..., None] + jnp.arange(horizon + 1).reshape(1, 1, 1, -1)
        return Stretch(data["states"][index], data["last"][index])

    def loss(atoms, params, spectral, target, batch: Stretch, key, *, learned_target: bool):
        horizon_key, predicted_key, bootstrap_key = jax.random.split(key, 3)
        predicted = sampled(atoms, batch.states[:, 0], predicted_key)
        beyond = sampled(target, batch.states[:, -1], bootstrap_key) if bootstrap else None
        H = horizons(
            horizon_key,
            batch.last,
            gamma=gamma,
            num_outer=num_outer,
            num_inner=num_inner,
            from_source=from_source,
        )
        aims = target_samples(batch.states, batch.last, H, beyond, from_source=from_source)
        x, new_spectral = rival.embed(params, spectral, predicted)
        y, _ = rival.embed(params, spectral, aims)
        one = partial(objective, learned_target=learned_target)
        each = jax.lax.map(lambda xy: one(*xy), (x, y), batch_size=min(at_once, batch_size))
        return jnp.mean(each), (new_spectral, jnp.mean(jnp.linalg.norm(x, axis=-1)))

    def update(state: State, batch: tuple[Stretch, Stretch], key: jax.Array):
        atoms, target, params, spectral, (atoms_opt, rival_opt), steps = state
        rival_key, atoms_key = jax.random.split(key)
        scalars = {}
        if rival.learns:

            def gain(params):
                return loss(
                    atoms, params, spectral, target, batch[0], rival_key, learned_target=True
                )

            (value, (spectral, norm)), gradient = jax.value_and_grad(gain, has_aux=True)(params)
            gradient = jax.tree.map(jnp.negative, gradient)
            changes, rival_opt = optimizer.update(gradient, rival_opt, params)
            params = optax.apply_updates(params, changes)
            scalars = {"adversary_objective": value, "embedding_norm": norm}

        def cost(atoms):
            return loss(atoms, params, spectral, target, batch[1], atoms_key, learned_target=False)

        (value, _), gradient = jax.value_and_grad(cost, has_aux=True)(atoms)
        changes, atoms_opt = optimizer.update(gradient, atoms_opt, atoms)
        atoms = optax.apply_updates(atoms, changes)
        steps = steps + 1
        target = target_update(target, atoms, steps)
        scalars["objective"] = value
        return State(atoms, target, params, spectral, (atoms_opt, rival_opt), steps), scalars

    def step(state: State, batch: Stretch, key: jax.Array):
        by_update = jax.tree.map(lambda a: jnp.moveaxis(a, (1, 2), (0, 1)), batch)

        def body(state, now):
            both, i = now
            pair = tuple(jax.tree.map(lambda a, k=k: a[k], both) for k in (0, 1))
            return update(state, pair, jax.random.fold_in(key, i))

        state, scalars = jax.lax.scan(body, state, (by_update, jnp.arange(updates_per_step)))
        return state, jax.tree.map(jnp.mean, scalars)

    def evaluate(state: State, data: Any, key: jax.Array):
        if evaluation is None:
            return {"updates": state.steps.astype(float)}, {"updates": state.steps}

        def activity(states: jax.Array, key: jax.Array, num_inner: int) -> tuple[jax.Array, ...]:
            return atom_activity(
                state.atoms, states, key, num_inner=num_inner, latent_dims=latent_dims
            )

        model = Predictor(
            samples=lambda *which: activity(*which)[-1],
            hidden=lambda *which: tuple(jnp.mean(x, axis=2) for x in activity(*which)[:-1]),
        )
        return evaluation(model, data, key, gamma=gamma)

    return Task(init, sample, step, evaluate, draw or (lambda readout: {}))

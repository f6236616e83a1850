"""Decoders: read a position, or anything else, from the activity of cells.

A fitted decoder takes rates, targets and queries: it fits the targets from the rates and predicts
at the queries, in one call. `network_ensemble` takes long to fit, so it returns a function of the
queries instead. All can be jitted and vmapped.
"""

import functools
from typing import Any, NamedTuple, Protocol

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental.buffer_callback import buffer_callback

from hfjax import check, networks
from hfjax.ratemaps import maps as ratemaps


class Decoder(Protocol):
    """(rates, targets, queries) -> prediction."""

    def __call__(self, rates: jax.Array, targets: jax.Array, queries: jax.Array, /) -> jax.Array:
        """rates [sample, cell], targets [sample, out], queries [query, cell] -> [query, out]."""


class Decoded(NamedTuple):
    """A prediction with its uncertainty: mean [query, out], std [query] or [query, out]."""

    mean: jax.Array
    std: jax.Array


def decode_position(outputs: jax.Array, centres: jax.Array, *, top: int = 3) -> jax.Array:
    """Position from place cells: the mean centre of the `top` cells with the largest output.

    outputs [..., place], centres [place, 2] (m) -> [..., 2] (m). Ties go to the lowest index.
    Raises ValueError where top is below 1 or above the number of cells.
    Source: Sorscher et al. 2019; grid-pattern-formation `get_nearest_cell_pos`.
    """
    num_place = outputs.shape[-1]
    chex.assert_shape(centres, (num_place, 2))
    if not 1 <= top <= num_place:
        raise ValueError(f"top must be between 1 and {num_place} (place cells), but is {top}")
    _, best = jax.lax.top_k(outputs, top)
    return jnp.mean(centres[best], axis=-2)


def windowed(counts: np.ndarray, width: int) -> np.ndarray:
    """Sums of counts [time, cell] over `width` samples around each; beyond the ends there are none.

    Raises ValueError where width is below 1.
    """
    check.at_least(1, width=width)
    return np.stack(
        [np.convolve(n, np.ones(width))[(width - 1) // 2 :][: len(n)] for n in counts.T], 1
    )


def decode_angles(code: jax.Array, *, width_m: float) -> jax.Array:
    """The inverse of `cells.angles_code`: a position on a ring or torus.

    code [..., 2 dim], cosines then sines, each pair of any length -> positions [..., dim] (m), in
    [-width_m / 2, width_m / 2].
    """
    cosine, sine = jnp.split(code, 2, axis=-1)
    return jnp.arctan2(sine, cosine) * (width_m / (2 * jnp.pi))


def ridge_decoder(
    rates: jax.Array, targets: jax.Array, queries: jax.Array, *, alpha: float = 0.01
) -> jax.Array:
    """Ridge regression with an unpenalised intercept: min |Y - X W - b|^2 + alpha |W|^2.

    rates X [sample, cell], targets Y [sample, out], queries [query, cell] -> [query, out]. With
    targets of `cells.angles_code` it is a circular decoder.
    Raises ValueError where alpha is not positive.
    Source: HelmholtzHippocampus `train_decoder`, "linear_regression".
    """
    check.positive(alpha=alpha)
    chex.assert_equal_shape_prefix([rates, targets], 1)
    mean, mean_target = jnp.mean(rates, axis=0), jnp.mean(targets, axis=0)
    X, Y = rates - mean[None], targets - mean_target[None]
    W = _solve(X.T @ X + alpha * jnp.eye(X.shape[1], dtype=X.dtype), X.T @ Y)
    return (queries - mean[None]) @ W + mean_target[None]


def bayesian_decoder(
    counts: jax.Array,
    targets: jax.Array,
    queries: jax.Array,
    *,
    num_bins: int = 25,
    sigma_bins: float = 1.0,
) -> jax.Array:
    """The most probable position under independent Poisson cells: the usual Bayesian decoder.

        log p(x | n) = sum_i (n_i log l_i(x) - l_i(x)) + log p(x) + const

    l_i(x) is the mean count of cell i in bin x, and p(x) the share of samples there; both are
    estimated from the samples, after smoothing counts and samples with a Gaussian.

    counts [sample, cell] and queries [query, cell]: spikes in windows of one length, whole or not;
    targets [sample, 2] -> the middle of a bin [query, 2]. The bins are num_bins x num_bins over the
    extent of the targets. Bins that were never visited are never the answer.
    Raises ValueError where a number is below 1 (num_bins) or not positive (sigma_bins).
    Source: Zhang et al. 1998 (doi:10.1152/jn.1998.79.2.1017), eqs. 35 and 36, for one window.
    """
    check.at_least(1, num_bins=num_bins)
    chex.assert_equal_shape_prefix([counts, targets], 1)
    low = jnp.min(targets, axis=0, keepdims=True)
    width = jnp.maximum(jnp.max(targets, axis=0, keepdims=True) - low, 1e-12) / num_bins
    index = jnp.clip(jnp.floor((targets - low) / width), 0, num_bins - 1).astype(jnp.int32)
    ones = jnp.ones_like(counts[:, :1])
    sums = jnp.zeros((num_bins, num_bins, counts.shape[1] + 1), counts.dtype)
    sums = sums.at[index[:, 0], index[:, 1]].add(jnp.concatenate([ones, counts], axis=1))
    visited = sums[..., 0] > 0
    smooth = ratemaps.blurred(jnp.moveaxis(sums, -1, 0), sigma_bins)
    time = jnp.where(visited, smooth[0], 1)
    # A bin without a spike of a cell must not be ruled out by a single one of them.
    rates = jnp.maximum(smooth[1:] / time[None], 1e-3).reshape(counts.shape[1], -1)
    prior = jnp.where(visited, jnp.log(time), -jnp.inf).reshape(1, -1)
    log_p = queries @ jnp.log(rates) - jnp.sum(rates, axis=0, keepdims=True) + prior
    best = jnp.argmax(log_p, axis=1)
    bins = jnp.stack([best // num_bins, best % num_bins], axis=1)
    return low + (bins + 0.5) * width


@jax.custom_batching.sequential_vmap
def _solve(A: jax.Array, B: jax.Array) -> jax.Array:
    """A^-1 B; under vmap one A after the other.

    On a CPU a batch of LU decompositions waits for threads of the pool that it runs in. Several of
    them at once, as in the evaluation of a population, then wait for ever.
    """
    return jnp.linalg.solve(A, B)


def gaussian_process(
    rates: jax.Array,
    targets: jax.Array,
    queries: jax.Array,
    *,
    length: float = 1.0,
    noise: float = 0.03,
) -> Decoded:
    """Gaussian process with the kernel k(r, r') = s^2 exp(-|r - r'|^2 / (2 length^2)).

        mean = m + k_q (K + noise^2 I)^-1 (y - m),
        std^2 = s^2 (1 - k_q (K + noise^2 I)^-1 k_q^T)      (k_q, K over s^2)

    m is the mean of each target, s the standard deviation of all targets together; noise is a
    fraction of s.

    rates [sample, cell], targets [sample, out], queries [query, cell] -> mean [query, out],
    std [query], in the units of the targets. Fitted by scikit-learn on the host, in float64.
    Length and noise are not optimised. Under vmap the members are fitted one after another.
    Raises ValueError where length or noise is not positive.
    Source: Rasmussen & Williams 2006, eqs. 2.25 and 2.26.
    """
    check.positive(length=length, noise=noise)
    chex.assert_equal_shape_prefix([rates, targets], 1)
    m = jnp.mean(targets, axis=0, keepdims=True)
    s = jnp.maximum(jnp.std(targets - m), 1e-12)
    fit = functools.partial(_fit_process, length=length, noise=noise, with_std=True)
    shape = (queries.shape[0], targets.shape[1] + 1)
    predicted = _on_host(fit, shape, rates, (targets - m) / s, queries)
    return Decoded(m + s * predicted[:, :-1], s * predicted[:, -1])


def gaussian_process_decoder(rates: jax.Array, targets: jax.Array, queries: jax.Array) -> jax.Array:
    """Mean of a Gaussian process with prior mean 0, kernel length 1, and almost no noise.

    rates [sample, cell], targets [sample, out], queries [query, cell] -> [query, out]; fitted as
    in `gaussian_process`. Length and noise variance (1e-10) are scikit-learn's defaults of 2023.
    Source: HelmholtzHippocampus `train_decoder`, "gaussian_process".
    """
    chex.assert_equal_shape_prefix([rates, targets], 1)
    fit = functools.partial(_fit_process, length=1.0, noise=1e-5, with_std=False)
    return _on_host(fit, (queries.shape[0], targets.shape[1]), rates, targets, queries)


def _fit_process(
    rates: np.ndarray,
    targets: np.ndarray,
    queries: np.ndarray,
    *,
    length: float,
    noise: float,
    with_std: bool,
) -> np.ndarray:
    """Means [query, out], followed by a column of standard deviations if asked for."""
    from sklearn.gaussian_process import GaussianProcessRegressor, kernels  # slow to import

    X, Y, Q = (np.asarray(a).astype(np.float64) for a in (rates, targets, queries))
    # optimizer=None: newer versions would otherwise fit the kernel's length, for minutes.
    model = GaussianProcessRegressor(kernels.RBF(length), alpha=noise**2, optimizer=None).fit(X, Y)

    def predict(piece: np.ndarray) -> np.ndarray:
        if not with_std:
            return model.predict(piece).reshape(len(piece), -1)
        mean, std = (a.reshape(len(piece), -1) for a in model.predict(piece, return_std=True))
        return np.concatenate([mean, std[:, :1]], axis=1)  # std is the same for every target

    # In pieces: the kernel between all queries and samples would take gigabytes.
    return np.concatenate([predict(piece) for piece in np.array_split(Q, max(1, len(Q) // 2000))])


class _HostFunction(Protocol):
    def __call__(self, *arrays: np.ndarray) -> np.ndarray: ...


def _on_host(function: _HostFunction, shape: tuple[int, ...], *arrays: jax.Array) -> jax.Array:
    """A NumPy function of arrays, called from a jitted one; the dtype is that of the first."""
    dtype = arrays[0].dtype

    def call(*arrays: np.ndarray) -> np.ndarray:
        return function(*arrays).astype(dtype)

    def call_in_place(context: object, out: np.ndarray, *arrays: np.ndarray) -> None:
        del context
        np.asarray(out)[...] = function(*arrays)

    result = jax.ShapeDtypeStruct(shape, dtype)
    # On a CPU with one core a pure_callback was seen to wait for ever: its arguments are copied by
    # the thread that the callback holds. A callback on the buffers themselves copies nothing.
    on_cpu = buffer_callback(call_in_place, result, vmap_method="sequential")
    elsewhere = functools.partial(jax.pure_callback, call, result, vmap_method="sequential")
    return jax.lax.platform_dependent(*arrays, cpu=on_cpu, default=elsewhere)


class Predict(Protocol):
    """queries -> prediction with its uncertainty."""

    def __call__(self, queries: jax.Array, /) -> Decoded:
        """queries [query, cell] -> mean [query, out], std [query] or [query, out]."""


def network_ensemble(
    rates: jax.Array,
    targets: jax.Array,
    key: jax.Array,
    *,
    num_networks: int = 5,
    hidden: tuple[int, ...] = (64,),
    num_steps: int = 2_000,
    batch_size: int = 64,
    optimizer: optax.GradientTransformation | None = None,
) -> Predict:
    """An ensemble of networks that differ in their initial weights and their training samples.

    Each `networks.MLP` minimises the squared error on a bootstrap sample of the samples. Where the
    training rates resemble a query, the networks agree; elsewhere they differ, and std is large.

    rates [sample, cell], targets [sample, out] -> a function queries [query, cell] -> mean and std
    over networks, both [query, out]. optimizer: default Adam, with a learning rate that falls from
    3e-3 to 0 along a cosine.
    Raises ValueError where a number is below 1 (num_networks: 2).
    Source: Lakshminarayanan et al. 2017, without adversarial samples. The thesis of dsm uses one
    network with dropout instead.
    """
    check.at_least(1, num_steps=num_steps, batch_size=batch_size)
    check.at_least(2, num_networks=num_networks)
    chex.assert_equal_shape_prefix([rates, targets], 1)
    m = jnp.mean(targets, axis=0, keepdims=True)
    s = jnp.maximum(jnp.std(targets - m), 1e-12)
    network = networks.MLP((*hidden, targets.shape[1]))
    train = functools.partial(
        _train_on_bootstrap,
        rates=rates,
        targets=(targets - m) / s,
        network=network,
        num_steps=num_steps,
        batch_size=batch_size,
        optimizer=optimizer or optax.adam(optax.cosine_decay_schedule(3e-3, num_steps)),
    )
    trained = jax.vmap(train)(jax.random.split(key, num_networks))

    def predict(queries: jax.Array) -> Decoded:
        outputs: Any = jax.vmap(network.apply, (0, None))(trained, queries)
        predicted = m[None] + s * outputs
        return Decoded(jnp.mean(predicted, axis=0), jnp.std(predicted, axis=0))

    return predict


def _train_on_bootstrap(
    key: jax.Array,
    *,
    rates: jax.Array,
    targets: jax.Array,
    network: networks.MLP,
    num_steps: int,
    batch_size: int,
    optimizer: optax.GradientTransformation,
) -> Any:
    """Parameters of a network that is trained on a bootstrap sample of the samples."""
    init_key, bootstrap_key, key = jax.random.split(key, 3)
    params: Any = network.init(init_key, rates[:1])
    bootstrap = jax.random.randint(bootstrap_key, (len(rates),), 0, len(rates))

    def loss(params: Any, chosen: jax.Array) -> jax.Array:
        outputs: Any = network.apply(params, rates[chosen])
        return jnp.mean((outputs - targets[chosen]) ** 2)

    def step(carry: tuple[Any, optax.OptState], key: jax.Array) -> tuple[Any, None]:
        params, opt_state = carry
        chosen = bootstrap[jax.random.randint(key, (batch_size,), 0, len(rates))]
        gradient = jax.grad(loss)(params, chosen)
        changes, opt_state = optimizer.update(gradient, opt_state, params)
        return (optax.apply_updates(params, changes), opt_state), None

    start = params, optimizer.init(params)
    (params, _), _ = jax.lax.scan(step, start, jax.random.split(key, num_steps))
    return params

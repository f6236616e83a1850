"""Where an animal is, read from rates with an uncertainty: Gaussian process, network ensemble.

A decoder is fitted to rates and targets and read at queries in one call, all of it on the device;
`cells.ridge_decoder` is the linear one.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from hfjax import check, kernels, networks


class Decoded(NamedTuple):
    """mean [query, out], std [query] or [query, out]: of what was decoded."""

    mean: jax.Array
    std: jax.Array


def gaussian_process(
    rates: jax.Array,
    targets: jax.Array,
    queries: jax.Array,
    *,
    length: float = 1.0,
    noise: float = 0.03,
) -> Decoded:
    """Gaussian process of the targets with the kernel k = s^2 exp(-|r - r'|^2 / (2 length^2)).

        mean = m + k_q (K + noise^2 I)^-1 (y - m),
        std^2 = s^2 (1 - k_q (K + noise^2 I)^-1 k_q^T)      (k_q, K over s^2),
    m and s the mean and deviation of the targets, the latter over all their columns; noise as a
    share of s.

    rates [sample, cell], targets [sample, out], queries [query, cell] -> mean [query, out],
    std [query], in units of the targets.
    Raises ValueError where length or noise is not positive.
    Source: Rasmussen & Williams 2006, eqs. 2.25 and 2.26; equal to scikit-learn's.
    """
    check.positive(length=length, noise=noise)
    chex.assert_equal_shape_prefix([rates, targets], 1)

    def kernel(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.exp(kernels.squared_distances(a, b) / (-2 * length**2))

    m = jnp.mean(targets, axis=0, keepdims=True)
    s = jnp.std(targets - m)
    K = kernel(rates, rates) + noise**2 * jnp.eye(len(rates), dtype=rates.dtype)
    factor = jax.scipy.linalg.cho_factor(K, lower=True)
    k_q = kernel(queries, rates)
    mean = m + k_q @ jax.scipy.linalg.cho_solve(factor, targets - m)
    explained = jnp.sum(jax.scipy.linalg.solve_triangular(factor[0], k_q.T, lower=True) ** 2, 0)
    return Decoded(mean, s * jnp.sqrt(jnp.maximum(1 - explained, 0)))


def network_ensemble(
    rates: jax.Array,
    targets: jax.Array,
    queries: jax.Array,
    key: jax.Array,
    *,
    num_networks: int = 5,
    hidden: tuple[int, ...] = (64,),
    num_steps: int = 2_000,
    batch_size: int = 64,
    learning_rate: float = 3e-3,
) -> Decoded:
    """Networks that differ by their first weights and by the samples that they saw.

    Each learns by squared error, with Adam at a rate that falls to 0 along a cosine, from a sample
    of the samples (bootstrap); they agree where they saw rates like those of the query.

    rates [sample, cell], targets [sample, out], queries [query, cell] -> mean and std over
    networks, [query, out] both.
    Raises ValueError for numbers below 1 (networks: 2) and a rate that is not positive.
    Source: Lakshminarayanan et al. 2017, without adversarial samples. The thesis has a network
    with dropout in this place.
    """
    check.at_least(1, num_steps=num_steps, batch_size=batch_size)
    check.at_least(2, num_networks=num_networks)
    check.positive(learning_rate=learning_rate)
    chex.assert_equal_shape_prefix([rates, targets], 1)
    m = jnp.mean(targets, axis=0, keepdims=True)
    s = jnp.maximum(jnp.std(targets - m), 1e-12)
    y = (targets - m) / s
    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, num_steps))

    def one(key: jax.Array) -> jax.Array:
        init_key, own_key, key = jax.random.split(key, 3)
        sizes = (rates.shape[1], *hidden, targets.shape[1])
        params = networks.mlp_init(init_key, sizes=sizes)
        own = jax.random.randint(own_key, (len(rates),), 0, len(rates))

        def loss(params, chosen):
            return jnp.mean((networks.mlp(params, rates[chosen]) - y[chosen]) ** 2)

        def step(carry, key):
            params, opt_state = carry
            chosen = own[jax.random.randint(key, (batch_size,), 0, len(rates))]
            changes, opt_state = optimizer.update(jax.grad(loss)(params, chosen), opt_state)
            return (optax.apply_updates(params, changes), opt_state), None

        start = params, optimizer.init(params)
        (params, _), _ = jax.lax.scan(step, start, jax.random.split(key, num_steps))
        return networks.mlp(params, queries)

    read = m[None] + s * jax.vmap(one)(jax.random.split(key, num_networks))
    return Decoded(jnp.mean(read, axis=0), jnp.std(read, axis=0))

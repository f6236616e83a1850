"""Local learning rules: how a synapse changes from what is present at its two ends.

A rule gives the drive on the synapses of one dendrite, [post, pre]. A circuit low-passes the drive
into a plasticity trace and adds the trace to the weights:

    drive = rule(weights, x, soma, dendrite, slope)
    trace = low_pass(trace, drive, kappa=dt / tau)
    weights = change(weights, trace, learning_rate=eta, l1=0, l2=0)

Rules share one signature, so that a circuit can take any of them: weights [post, pre]; x [pre], the
input's rates; soma and dendrite [post], the rates of both; slope [post], f'(V) of the dendrite.
"""

import jax
import jax.numpy as jnp


def dendritic_prediction(
    weights: jax.Array, x: jax.Array, soma: jax.Array, dendrite: jax.Array, slope: jax.Array
) -> jax.Array:
    """A dendrite learns to predict its soma: delta x^T, delta = (soma - dendrite) f'(V).

    Shapes as in the module's docstring -> [post, pre].
    Source: George et al. 2023, sec. 2, after Urbanczik & Senn 2014; HelmholtzHippocampus
    `update_weights`.
    """
    del weights
    return jnp.outer((soma - dendrite) * slope, x)


def hebb(
    weights: jax.Array, x: jax.Array, soma: jax.Array, dendrite: jax.Array, slope: jax.Array
) -> jax.Array:
    """Plain Hebb: y x^T, y the soma's rate. Weights grow without bound unless l2 holds them.

    Shapes as in the module's docstring -> [post, pre]. Source: Hebb 1949.
    """
    del weights, dendrite, slope
    return jnp.outer(soma, x)


def oja(
    weights: jax.Array, x: jax.Array, soma: jax.Array, dendrite: jax.Array, slope: jax.Array
) -> jax.Array:
    """Oja's rule: y x^T - y^2 W, row by row; each row tends to unit length.

    Shapes as in the module's docstring -> [post, pre]. Source: Oja 1982, eq. 3.
    """
    del dendrite, slope
    return jnp.outer(soma, x) - jnp.square(soma)[:, None] * weights


def low_pass(trace: jax.Array, drive: jax.Array, *, kappa: float) -> jax.Array:
    """Plasticity trace: P_t = (1 - kappa) P_tm1 + kappa drive, kappa = dt / tau.

    trace, drive [post, pre] -> [post, pre].
    Source: George et al. 2023, sec. 2; HelmholtzHippocampus `update_weights`.
    """
    return (1 - kappa) * trace + kappa * drive


def change(
    weights: jax.Array, trace: jax.Array, *, learning_rate: float, l1: float = 0.0, l2: float = 0.0
) -> jax.Array:
    """New weights: W + eta (P - L2 W - L1 sign W). There is no dt in front of eta, as published.

    weights, trace [post, pre] -> [post, pre]. Source: HelmholtzHippocampus `update_weights`.
    """
    if l2:
        trace = trace - l2 * weights
    if l1:
        trace = trace - l1 * jnp.sign(weights)
    return weights + learning_rate * trace


def dales_law(weights: jax.Array, *, sign: int) -> jax.Array:
    """Weights of one sign: those of the other become 0. sign is +1 (excitatory) or -1 (inhibitory).

    weights [post, pre] -> [post, pre]. Raises ValueError for another sign.
    Source: HelmholtzHippocampus `update_weights`.
    """
    if sign not in (1, -1):
        raise ValueError(f"the sign of Dale's law must be 1 or -1, but is {sign}")
    return sign * jnp.maximum(sign * weights, 0)

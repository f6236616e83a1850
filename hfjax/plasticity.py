"""Local learning rules: a synapse changes by the activity on its two sides.

A rule computes the drive on the synapses of one dendrite, [post, pre]. A circuit low-passes the
drive into a plasticity trace and adds the trace to the weights:

    drive = rule(weights, x, soma, dendrite, slope)
    trace = low_pass(trace, drive, kappa=dt / tau)
    weights = change(weights, trace, learning_rate=eta, l1=0, l2=0)

All rules have the signature of `Rule`, so a circuit can use any of them.
"""

from typing import Protocol

import jax
import jax.numpy as jnp


class Rule(Protocol):
    """(weights, x, soma, dendrite, slope) -> drive."""

    def __call__(
        self,
        weights: jax.Array,
        x: jax.Array,
        soma: jax.Array,
        dendrite: jax.Array,
        slope: jax.Array,
        /,
    ) -> jax.Array:
        """The drive on the synapses of one dendrite.

        weights [post, pre]; x [pre], rates of the input; soma [post] and dendrite [post], rates of
        both; slope [post], f'(V) of the dendrite -> [post, pre].
        """


def dendritic_prediction(
    weights: jax.Array, x: jax.Array, soma: jax.Array, dendrite: jax.Array, slope: jax.Array
) -> jax.Array:
    """The dendrite learns to predict the soma: delta x^T, delta = (soma - dendrite) f'(V).

    Shapes: see `Rule`.
    Source: George et al. 2023, sec. 2, after Urbanczik & Senn 2014; HelmholtzHippocampus
    `update_weights`.
    """
    del weights
    return jnp.outer((soma - dendrite) * slope, x)


def hebb(
    weights: jax.Array, x: jax.Array, soma: jax.Array, dendrite: jax.Array, slope: jax.Array
) -> jax.Array:
    """Hebb's rule: y x^T, y the rate of the soma. Weights grow without bound unless l2 > 0.

    Shapes: see `Rule`. Source: Hebb 1949.
    """
    del weights, dendrite, slope
    return jnp.outer(soma, x)


def oja(
    weights: jax.Array, x: jax.Array, soma: jax.Array, dendrite: jax.Array, slope: jax.Array
) -> jax.Array:
    """Oja's rule: y x^T - y^2 W, row by row. Each row of W tends to unit length.

    Shapes: see `Rule`. Source: Oja 1982, eq. 3.
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
    """New weights: W + eta (P - L2 W - L1 sign W). As published, eta is not multiplied by dt.

    weights, trace [post, pre] -> [post, pre]. Source: HelmholtzHippocampus `update_weights`.
    """
    if l2:
        trace = trace - l2 * weights
    if l1:
        trace = trace - l1 * jnp.sign(weights)
    return weights + learning_rate * trace


def dales_law(weights: jax.Array, *, sign: int) -> jax.Array:
    """Dale's law: weights of the wrong sign become 0. sign: 1 (excitatory) or -1 (inhibitory).

    weights [post, pre] -> [post, pre]. Raises ValueError unless sign is 1 or -1.
    Source: HelmholtzHippocampus `update_weights`.
    """
    if sign not in (1, -1):
        raise ValueError(f"the sign of Dale's law must be 1 or -1, but is {sign}")
    return sign * jnp.maximum(sign * weights, 0)

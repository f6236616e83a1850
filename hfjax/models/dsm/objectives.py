"""Objectives: how far predicted samples are from their targets, for one state."""

import functools
from typing import Protocol

import jax
import jax.numpy as jnp

from hfjax import kernels


class Objective(Protocol):
    """(predicted, target, *, learned_target) -> distance, for one state."""

    def __call__(
        self, predicted: jax.Array, target: jax.Array, /, *, learned_target: bool
    ) -> jax.Array:
        """predicted, target [outer, inner, dim] -> scalar.

        learned_target: whether the gradient by `target` is needed; if not, it may be 0.
        """


def between_atoms(
    predicted: jax.Array,
    target: jax.Array,
    *,
    learned_target: bool,
    inner: kernels.Kernel = kernels.rational_quadratic,
    outer: kernels.Kernel = kernels.inverse_multiquadric,
    bandwidth: float | None = None,
) -> jax.Array:
    """Outer MMD between two sets of atoms; the distance of two atoms is their inner MMD.

    inner      kernel between samples of two atoms.
    outer      kernel between atoms.
    bandwidth  bandwidth of the outer kernel; None for the median distance of atoms.

    `kernels.outer_mmd_sq` with the inner means of `kernels.fused_mean_kernels`.
    Source: Wiltzer et al. 2024.
    """
    z = jnp.concatenate([predicted, target])
    num_x = len(predicted)

    def outer_mmd_sq(z: jax.Array) -> jax.Array:
        S = kernels.fused_mean_kernels(z, inner, len(z) if learned_target else num_x)
        return kernels.outer_mmd_sq(S, num_x, kernel=outer, bandwidth=bandwidth)

    return kernels.with_gradient_at_once(outer_mmd_sq)(z)


def between_atoms_by_median(
    predicted: jax.Array,
    target: jax.Array,
    *,
    learned_target: bool,
    inner: kernels.Kernel = kernels.gaussian,
    outer: kernels.Kernel = kernels.gaussian,
) -> jax.Array:
    """`between_atoms` with a separate inner bandwidth for each pair of atoms.

    inner, outer: as in `between_atoms`.
    The bandwidth is the median distance between the pair's samples. For use without an adversary.
    Source: the `median` config of distributional-sr.
    """
    del learned_target
    z = jnp.concatenate([predicted, target])
    num_x, num_inner = len(predicted), z.shape[1]
    different = 1 - jnp.eye(2 * num_inner, dtype=z.dtype)

    def inner_mmd_sq(x: jax.Array, y: jax.Array) -> jax.Array:
        both = jnp.concatenate([x, y])
        d = kernels.squared_distances(both, both) * different
        mmd_sq = kernels.mmd_sq_of_distances(d, num_inner, kernel=inner, unbiased=True)
        return jnp.maximum(mmd_sq, 0)

    d = jax.lax.map(lambda x: jax.vmap(functools.partial(inner_mmd_sq, x))(z), z)
    d = d * (1 - jnp.eye(len(z), dtype=d.dtype))
    return kernels.mmd_sq_of_distances(d, num_x, kernel=outer, unbiased=False)


def each_atom(
    predicted: jax.Array,
    target: jax.Array,
    *,
    learned_target: bool,
    inner: kernels.Kernel = kernels.rational_quadratic,
) -> jax.Array:
    """Inner MMD between an atom and its own target, averaged over atoms.

    inner: kernel between samples of an atom and its target.
    The atoms are then an ensemble of gamma models (Janner et al. 2020); each learns the successor
    representation.
    """
    del learned_target
    mmd_sq = functools.partial(kernels.mmd_sq, kernel=inner)
    return jnp.mean(jax.vmap(mmd_sq)(predicted, target))

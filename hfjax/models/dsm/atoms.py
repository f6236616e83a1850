"""Atoms: generators of samples of an occupancy, each with its own weights."""

from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import linen as nn

from hfjax import check, networks


class MakeAtom(Protocol):
    """(sizes) -> module of one atom."""

    def __call__(self, sizes: tuple[int, ...], /) -> nn.Module:
        """sizes: of the hidden layers and the output. The module is called as an `Atom`."""


def identity(x: jax.Array) -> jax.Array:
    """x itself."""
    return x


class Atom(nn.Module):
    """One atom: an MLP of noise z and state s whose first layer is f(z W_z + s W_s + b).

    The product with a state is computed once for all samples of that state. The initial weights are
    those of a `networks.MLP` of (z, s). With feedback, the last hidden layer is recurrent: from
    h = f(u), with its input u, it goes `feedback` times to h = f(u + h W_h).
    """

    sizes: tuple[int, ...]  # of the hidden layers and the output
    activation: Callable[[jax.Array], jax.Array] = networks.leaky_relu
    output: Callable[[jax.Array], jax.Array] = identity
    feedback: int = 0

    @nn.compact
    def __call__(self, states: jax.Array, noise: jax.Array) -> tuple[jax.Array, ...]:
        """states [batch, dim], noise [batch inner, latent] -> each layer [batch inner, unit]."""
        num_in = states.shape[1] + noise.shape[1]

        def first(x: jax.Array, use_bias: bool, name: str) -> jax.Array:
            init = nn.initializers.variance_scaling(
                x.shape[1] / num_in, mode="fan_in", distribution="truncated_normal"
            )
            return nn.Dense(self.sizes[0], use_bias, kernel_init=init, name=name)(x)

        of_state = first(states, True, "of_state")
        x = jnp.repeat(of_state, noise.shape[0] // states.shape[0], axis=0)
        x = x + first(noise, False, "of_noise")
        activity = []
        for number, size in enumerate(self.sizes[1:], 1):
            h = self.activation(x)
            if self.feedback and number == len(self.sizes) - 1:
                back = nn.Dense(self.sizes[number - 1], use_bias=False, name="feedback")
                for _ in range(self.feedback):
                    h = self.activation(x + back(h))
            activity.append(h)
            x = nn.Dense(size)(h)
        return (*activity, self.output(x))


def atom(
    *,
    activation: Callable[[jax.Array], jax.Array] = networks.leaky_relu,
    output: Callable[[jax.Array], jax.Array] = identity,
    feedback: int = 0,
) -> MakeAtom:
    """`Atom` with these settings.

    activation  function of the hidden layers.
    output      function of the output; `jax.nn.softplus` keeps predicted rates positive.
    feedback    how often the last hidden layer is fed back to itself; 0 for no recurrence.

    Raises ValueError where feedback is negative.
    The thesis (dsm-hippocampus) names positive activations and recurrence as future work.
    """
    check.at_least(0, feedback=feedback)
    return lambda sizes: Atom(sizes, activation, output, feedback)


def atoms_init(
    key: jax.Array,
    *,
    num_outer: int,
    dim: int,
    latent_dims: int,
    hidden: tuple[int, ...],
    make: MakeAtom = Atom,
) -> Any:
    """Parameters of `Atom`, separate for each atom: every array has a leading [outer] axis."""
    state, noise = jnp.zeros((1, dim)), jnp.zeros((1, latent_dims))

    def init(key: jax.Array) -> Any:
        return make((*hidden, dim)).init(key, state, noise)["params"]

    return jax.vmap(init)(jax.random.split(key, num_outer))


def atom_activity(
    params: Any,
    states: jax.Array,
    key: jax.Array,
    num_inner: int,
    *,
    latent_dims: int,
    hidden: tuple[int, ...],
    make: MakeAtom = Atom,
    shared: bool = False,
) -> tuple[jax.Array, ...]:
    """Activity of each layer, for num_inner samples of each atom at each state.

    shared: all states and atoms have the same num_inner draws of noise.
    states [batch, dim] -> each hidden layer [batch, outer, inner, unit], and the samples [batch,
    outer, inner, dim].
    """
    num_outer, (batch, dim) = len(jax.tree.leaves(params)[0]), states.shape
    shape = (1, num_inner) if shared else (num_outer, batch * num_inner)
    noise = jax.random.normal(key, (*shape, latent_dims), states.dtype)
    if shared:
        noise = jnp.tile(noise, (num_outer, batch, 1))
    module = make((*hidden, dim))

    def activity(params: Any, noise: jax.Array) -> tuple[jax.Array, ...]:
        layers: Any = module.apply({"params": params}, states, noise)
        return layers

    return tuple(
        jnp.swapaxes(x.reshape(num_outer, batch, num_inner, -1), 0, 1)
        for x in jax.vmap(activity)(params, noise)
    )


def sample_atoms(
    params: Any,
    states: jax.Array,
    key: jax.Array,
    num_inner: int,
    *,
    latent_dims: int,
    hidden: tuple[int, ...],
    make: MakeAtom = Atom,
) -> jax.Array:
    """num_inner samples of each atom at each state: [batch, dim] -> [batch, outer, inner, dim]."""
    sizes: dict[str, Any] = {"latent_dims": latent_dims, "hidden": hidden, "make": make}
    return atom_activity(params, states, key, num_inner, **sizes)[-1]

"""Learners: the three-factor rule, and its baselines on the same networks and data."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from hfjax import kernels
from hfjax.models.biohsic.networks import Layer, Network


class Update(NamedTuple):
    """What a learner makes of a window: the gradient to descend, and what the network did.

    gradient: like params. outputs [window, class]. u: the layers' state after this time step.
    scalars: what the learner has to report.
    """

    gradient: tuple
    outputs: jax.Array
    u: tuple
    scalars: dict[str, jax.Array]


def cross_entropy(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Mean over samples of -sum_c y_c log softmax(outputs)_c: [sample, class] twice -> scalar."""
    return jnp.mean(optax.softmax_cross_entropy(outputs, targets))


def _own_gradient(objective, layer: Layer, params, u, below):
    """objective(z), its gradient by the layer's own params, z and the layer's new u."""

    def value_of(params):
        z, new_u = layer(params, u, below)
        return objective(z), (z, new_u)

    (value, (z, new_u)), gradient = jax.value_and_grad(value_of, has_aux=True)(params)
    return value, gradient, z, new_u


def _push_back(signal: jax.Array, layer: Layer, params, u, below):
    """`signal` for the newest activity of a layer, pushed back to its params through that alone."""
    u, below = jax.tree.map(lambda a: a[-1:], (u, below))
    (gradient,) = jax.vjp(lambda params: layer(params, u, below)[0], params)[1](signal[None])
    return gradient


def biological_rule(
    network: Network,
    params: tuple,
    u: tuple,
    x: jax.Array,
    y: jax.Array,
    Kx: jax.Array,
    Ky: jax.Array,
    *,
    gamma: float,
    sigma_z: float,
) -> Update:
    """The three-factor rule: for each layer, its newest local activity times the global signal.

    With xi = `kernels.global_signal` of the layer, the gradient is xi pushed back through layer
    norm, relu and weights of this layer for the newest sample, whose activities before and behind
    the weights are the other two factors: of rank one for a dense layer. The outputs take the
    gradient of their own cross-entropy over the window.

    x [window, ...], y [window, class]; Kx, Ky [window, window] their kernel matrices; the newest
    sample is the last. Reports `signal_norm_1`, ..., |xi| of each layer.
    Source: Daruwalla & Lipasti 2024; `create_biohsic_step` of biological-hsic, which pushes back
    all samples through all layers, and then keeps what is here.
    """
    z, gradients, states, norms = x, [], [], {}
    for number, (layer, p, u_l) in enumerate(
        zip(network.layers[:-1], params[:-1], u[:-1], strict=True), start=1
    ):
        below = z
        z, new_u = layer(p, u_l, below)
        xi = kernels.global_signal(Kx, Ky, z, gamma=gamma, sigma=sigma_z)
        gradients.append(_push_back(xi, layer, p, u_l, below))
        states.append(new_u)
        norms[f"signal_norm_{number}"] = jnp.sqrt(jnp.sum(xi**2))
    _, gradient, outputs, new_u = _own_gradient(
        partial(cross_entropy, targets=y), network.layers[-1], params[-1], u[-1], z
    )
    return Update((*gradients, gradient), outputs, (*states, new_u), norms)


def hsic_gradient(
    network: Network,
    params: tuple,
    u: tuple,
    x: jax.Array,
    y: jax.Array,
    Kx: jax.Array,
    Ky: jax.Array,
    *,
    gamma: float,
    sigma_z: float,
) -> Update:
    """Each layer by the gradient of its own objective over the window, the outputs as in the rule.

    The objective is `kernels.hsic_objective`; the layer's input is given, so that no gradient
    crosses a layer. Arguments as in `biological_rule`; reports `objective_1`, ... of each layer.
    Source: `create_hsic_step` of biological-hsic (Ma, Lewis & Kleijn 2020).
    """

    def objective(z):
        Kz = kernels.rbf_kernel(z, sigma=sigma_z)
        return kernels.hsic_objective(Kx, Ky, Kz, gamma=gamma)

    z, gradients, states, reports = x, [], [], {}
    for number, (layer, p, u_l) in enumerate(zip(network.layers, params, u, strict=True), start=1):
        last = number == len(network.layers)
        own = partial(cross_entropy, targets=y) if last else objective
        value, gradient, z, new_u = _own_gradient(own, layer, p, u_l, z)
        gradients.append(gradient)
        states.append(new_u)
        if not last:
            reports[f"objective_{number}"] = value
    return Update(tuple(gradients), z, tuple(states), reports)


def back_propagation(
    network: Network,
    params: tuple,
    u: tuple,
    x: jax.Array,
    y: jax.Array,
    Kx: jax.Array,
    Ky: jax.Array,
    *,
    gamma: float,
    sigma_z: float,
) -> Update:
    """The gradient of the cross-entropy through all layers of one time step.

    Arguments as in `biological_rule`, of which the kernels, gamma and sigma_z have no part in it.
    """
    del Kx, Ky, gamma, sigma_z

    def loss(params):
        activity, new_u = forward(network, params, u, x)
        return cross_entropy(activity[-1], y), (activity[-1], new_u)

    gradient, (outputs, new_u) = jax.grad(loss, has_aux=True)(params)
    return Update(gradient, outputs, new_u, {})


def forward(network: Network, params: tuple, u: tuple, x: jax.Array) -> tuple[tuple, tuple]:
    """Activity [sample, ...] of all layers, outputs last, and their new state, for inputs x."""
    z, activity, states = x, [], []
    for layer, p, u_l in zip(network.layers, params, u, strict=True):
        z, new_u = layer(p, u_l, z)
        activity.append(z)
        states.append(new_u)
    return tuple(activity), tuple(states)

"""Learners: the three-factor rule and its two baselines, on the same networks and data.

A learner sees one window at one time step and returns the gradient that the optimizer descends.
"""

from functools import partial
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax

from hfjax import check, kernels
from hfjax.models.biohsic.networks import Layer, LayerState, Params, forward
from hfjax.task import Metric, declares


class Bottleneck(NamedTuple):
    """The objective of a layer, HSIC(x, z) - gamma HSIC(y, z), and the widths of its kernels.

    gamma    weight of the target y against the input x.
    sigma_x  width of the Gaussian kernel of inputs, divided by the root of their dimensions.
    sigma_y  width of the Gaussian kernel of targets, divided by the root of their dimensions.
    sigma_z  width of the Gaussian kernel of activity, divided by the root of the layer's units.

    Kernels: `kernels.rbf_kernel`. The defaults are those published for MNIST.
    """

    gamma: float = 2.0
    sigma_x: float = 0.5
    sigma_y: float = 0.1
    sigma_z: float = 1.0


MNIST = Bottleneck()


class Window(NamedTuple):
    """A window of samples as a learner sees it, the newest sample last.

    x [window, ...] inputs, y [window, class] targets, one-hot; Kx, Ky [window, window] their kernel
    matrices.
    """

    x: jax.Array
    y: jax.Array
    Kx: jax.Array
    Ky: jax.Array


class Update(NamedTuple):
    """The gradient to descend, and what the network did.

    gradient: like params. outputs [window, class]. u: the layers' state after this time step.
    scalars: what the learner reports.
    """

    gradient: tuple
    outputs: jax.Array
    u: tuple
    scalars: dict[str, jax.Array]


class Learner(Protocol):
    """(layers, params, u, window, bottleneck) -> Update."""

    def __call__(
        self,
        layers: tuple[Layer, ...],
        params: tuple,
        u: tuple,
        window: Window,
        bottleneck: Bottleneck,
        /,
    ) -> Update:
        """params, u: of each layer; u is the state before this time step."""


class Objective(Protocol):
    """(z) -> scalar: a function of a layer's activity over the window."""

    def __call__(self, z: jax.Array, /) -> jax.Array:
        """z [window, ...] -> scalar."""


def check_bottleneck(bottleneck: Bottleneck) -> None:
    """Raise ValueError where a setting is not positive."""
    check.positive(**bottleneck._asdict())


def see(x: jax.Array, y: jax.Array, bottleneck: Bottleneck) -> Window:
    """A window with its kernel matrices: x [window, ...], y [window, class]."""
    return Window(
        x,
        y,
        kernels.rbf_kernel(x, sigma=bottleneck.sigma_x),
        kernels.rbf_kernel(y, sigma=bottleneck.sigma_y),
    )


def cross_entropy(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Mean over samples of -sum_c y_c log softmax(outputs)_c: [sample, class] twice -> scalar."""
    return jnp.mean(optax.softmax_cross_entropy(outputs, targets))


def own_gradient(
    objective: Objective, layer: Layer, params: Params, u: LayerState, below: jax.Array
) -> tuple[jax.Array, Params, jax.Array, LayerState]:
    """The gradient of objective(z) with respect to the layer's own parameters.

    The layer's input is taken as given, so that no gradient crosses a layer.
    -> objective(z), gradient, z [window, ...], new state of the layer.
    """

    def value_of(params: Params) -> tuple[jax.Array, tuple[jax.Array, LayerState]]:
        z, new_u = layer.apply(params, u, below)
        return objective(z), (z, new_u)

    (value, (z, new_u)), gradient = jax.value_and_grad(value_of, has_aux=True)(params)
    return value, gradient, z, new_u


def push_back(
    signal: jax.Array, layer: Layer, params: Params, u: LayerState, below: jax.Array
) -> Params:
    """`signal` on the newest activity of a layer, pushed back to the layer's own parameters.

    signal [...], of the shape of one z; u and below as in `Layer`. Only the newest sample counts.
    """
    u, below = jax.tree.map(lambda a: a[-1:], (u, below))
    _, pull = jax.vjp(lambda params: layer.apply(params, u, below)[0], params)
    (gradient,) = pull(signal[None])
    return gradient


@declares(
    {
        "signal_norm_*": Metric(
            "hidden layer {}", "", "training", panel="Length of the global signal", measure="norm"
        )
    }
)
def biological_rule(
    layers: tuple[Layer, ...],
    params: tuple,
    u: tuple,
    window: Window,
    bottleneck: Bottleneck,
) -> Update:
    """The three-factor rule: for each layer, its newest local activity times the global signal.

    With xi = `kernels.global_signal` of the layer, the gradient is xi pushed back through the layer
    norm, relu and weights of this layer for the newest sample. The activities before and after the
    weights are the other two factors; for a dense layer the gradient has rank one. The outputs take
    the gradient of their own cross-entropy over the window.

    Reports `signal_norm_1`, ..., |xi| of each hidden layer.
    Source: Daruwalla & Lipasti 2024; `create_biohsic_step` of biological-hsic, which pushes back
    all samples through all layers and then keeps only what is computed here.
    """
    z, gradients, states, norms = window.x, [], [], {}
    for number, (layer, p, u_l) in enumerate(
        zip(layers[:-1], params[:-1], u[:-1], strict=True), start=1
    ):
        below = z
        z, new_u = layer.apply(p, u_l, below)
        xi = kernels.global_signal(
            window.Kx, window.Ky, z, gamma=bottleneck.gamma, sigma=bottleneck.sigma_z
        )
        gradients.append(push_back(xi, layer, p, u_l, below))
        states.append(new_u)
        norms[f"signal_norm_{number}"] = jnp.sqrt(jnp.sum(xi**2))
    _, gradient, outputs, new_u = own_gradient(
        partial(cross_entropy, targets=window.y), layers[-1], params[-1], u[-1], z
    )
    return Update((*gradients, gradient), outputs, (*states, new_u), norms)


@declares(
    {
        "objective_*": Metric(
            "hidden layer {}",
            split="training",
            better="lower",
            panel="Objective of each layer",
            measure="HSIC with input - gamma HSIC with class",
        )
    }
)
def hsic_gradient(
    layers: tuple[Layer, ...],
    params: tuple,
    u: tuple,
    window: Window,
    bottleneck: Bottleneck,
) -> Update:
    """Each layer descends the gradient of its own objective over the window.

    The objective of a hidden layer is `kernels.hsic_objective`, that of the outputs their
    cross-entropy. Reports `objective_1`, ... of each hidden layer.
    Source: `create_hsic_step` of biological-hsic (Ma, Lewis & Kleijn 2020).
    """

    def objective(z: jax.Array) -> jax.Array:
        Kz = kernels.rbf_kernel(z, sigma=bottleneck.sigma_z)
        return kernels.hsic_objective(window.Kx, window.Ky, Kz, gamma=bottleneck.gamma)

    z, gradients, states, reports = window.x, [], [], {}
    for number, (layer, p, u_l) in enumerate(zip(layers, params, u, strict=True), start=1):
        last = number == len(layers)
        own: Objective = partial(cross_entropy, targets=window.y) if last else objective
        value, gradient, z, new_u = own_gradient(own, layer, p, u_l, z)
        gradients.append(gradient)
        states.append(new_u)
        if not last:
            reports[f"objective_{number}"] = value
    return Update(tuple(gradients), z, tuple(states), reports)


def back_propagation(
    layers: tuple[Layer, ...],
    params: tuple,
    u: tuple,
    window: Window,
    bottleneck: Bottleneck,
) -> Update:
    """The gradient of the cross-entropy through all layers of one time step.

    The kernels of the window and the bottleneck are not used.
    """
    del bottleneck

    def loss(params: tuple) -> tuple[jax.Array, tuple[jax.Array, tuple]]:
        activity, new_u = forward(layers, params, u, window.x)
        return cross_entropy(activity[-1], window.y), (activity[-1], new_u)

    gradient, (outputs, new_u) = jax.grad(loss, has_aux=True)(params)
    return Update(gradient, outputs, new_u, {})

"""Network pieces as pairs of functions, one that draws parameters and one that applies them.

Weights are [in, out] and activity is a row: a layer is x W, a recurrence h W_h with
W_h [from, to]. This is the transpose of PyTorch's layout.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.experimental.layout import Layout, with_layout_constraint

from hfjax import check

Nonlinearity = Callable[[jax.Array], jax.Array]
RecurrentInit = Callable[[jax.Array, int], jax.Array]


class RNNParams(NamedTuple):
    """inputs [in, unit], recurrent [unit, unit] (from, to). No biases."""

    inputs: jax.Array
    recurrent: jax.Array


class LeakyRNNParams(NamedTuple):
    """inputs [in, unit], recurrent [unit, unit] (from, to), log_tau [unit] (tau in steps)."""

    inputs: jax.Array
    recurrent: jax.Array
    log_tau: jax.Array


def relu(x: jax.Array) -> jax.Array:
    """max(x, 0), with slope 0 at 0."""
    return jax.nn.relu(x)


def tanh(x: jax.Array) -> jax.Array:
    """Hyperbolic tangent."""
    return jnp.tanh(x)


def identity(x: jax.Array) -> jax.Array:
    """x itself: a linear unit."""
    return x


def threshold_relu(x: jax.Array, *, gain: float = 1.0, threshold: float = 0.0) -> jax.Array:
    """gain max(x - threshold, 0), with slope 0 at the threshold."""
    return gain * jax.nn.relu(x - threshold)


def retanh(x: jax.Array, *, gain: float = 1.0, threshold: float = 0.0) -> jax.Array:
    """Rectified tanh: gain max(tanh(x - threshold), 0), with slope 0 at the threshold."""
    return gain * jax.nn.relu(jnp.tanh(x - threshold))


def sigmoid(
    x: jax.Array,
    *,
    lowest: float = 0.0,
    highest: float = 1.0,
    midpoint: float = 1.0,
    width: float = 2.0,
) -> jax.Array:
    """Logistic curve from `lowest` to `highest`, which does 90 % of its rise in `width`.

    lowest + (highest - lowest) / (1 + exp(-beta (x - midpoint))), beta = 2 ln 19 / width.
    Raises ValueError where width is not positive. Source: RatInABox `activate`, "sigmoid".
    """
    check.positive(width=width)
    beta = 2 * math.log(19) / width
    return lowest + (highest - lowest) * jax.nn.sigmoid(beta * (x - midpoint))


def softplus(x: jax.Array, *, gain: float = 1.0, threshold: float = 0.0) -> jax.Array:
    """gain ln(1 + exp(x - threshold)): a smooth relu. RatInABox's `activate` calls it "softmax"."""
    return gain * jax.nn.softplus(x - threshold)


def with_slope(nonlinearity: Nonlinearity, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """f(x) and f'(x) of a nonlinearity that acts unit by unit, both of the shape of x.

    Forward differentiation gives the exact slope. Deviation from RatInABox's `activate`, whose
    slopes of tanh and retanh leave the threshold out.
    """
    return jax.jvp(nonlinearity, (x,), (jnp.ones_like(x),))


def _uniform(key: jax.Array, shape: tuple[int, ...], bound: float) -> jax.Array:
    return jax.random.uniform(key, shape, minval=-bound, maxval=bound)


def linear_init(key: jax.Array, *, num_in: int, num_out: int) -> jax.Array:
    """Weights of a linear layer without bias, uniform in +-1/sqrt(num_in) -> [in, out].

    Raises ValueError where a size is below 1. Source: PyTorch `Linear`, used by the originals.
    """
    check.at_least(1, num_in=num_in, num_out=num_out)
    return _uniform(key, (num_in, num_out), num_in**-0.5)


def glorot_init(key: jax.Array, *, num_in: int, num_out: int) -> jax.Array:
    """Weights uniform in +-sqrt(6 / (num_in + num_out)) -> [in, out].

    Raises ValueError where a size is below 1. Source: Glorot & Bengio 2010; PyTorch
    `xavier_uniform_`.
    """
    check.at_least(1, num_in=num_in, num_out=num_out)
    return _uniform(key, (num_in, num_out), math.sqrt(6 / (num_in + num_out)))


def linear(weights: jax.Array, x: jax.Array) -> jax.Array:
    """x W: weights [in, out], x [..., in] -> [..., out].

    The leading axes are made one first: the gradient of W is then a plain matrix product, where a
    sum over several axes makes XLA transpose its arguments on the CPU (twice the time for a
    read-out of 256 units). With the batch axis first, this keeps a sharded batch where it is.
    Rounded as in `product`.
    """
    chex.assert_shape(x, (..., weights.shape[0]))
    return product(_flat(x), weights).reshape(*x.shape[:-1], weights.shape[1])


def product(x: jax.Array, y: jax.Array) -> jax.Array:
    """x y: [i, j], [j, k] -> [i, k], factors of float32 rounded to bfloat16 where JAX is told so.

    That is where `jax.default_matmul_precision` is "bfloat16" (`matmul_precision` of an
    experiment). Sums and the result keep float32; derivatives are of first order and in reverse
    mode. JAX itself rounds so on TPUs, takes TF32 on GPUs, and ignores the name on CPUs, though
    those with AMX (Intel Xeon since 2023) multiply bfloat16 several times faster.
    """
    return _rounded_product(x, y) if _rounds(x, y) else x @ y


def _rounds(*factors: jax.Array) -> bool:
    name = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
    return name == "bfloat16" and all(factor.dtype == jnp.float32 for factor in factors)


def _contract(x: jax.Array, y: jax.Array, axes: tuple[int, int]) -> jax.Array:
    """The sum over axis axes[0] of x and axes[1] of y, two matrices, rounded as in `product`."""
    if not _rounds(x, y):
        return (x.T if axes[0] == 0 else x) @ (y.T if axes[1] == 1 else y)
    x16, y16 = x.astype(jnp.bfloat16), y.astype(jnp.bfloat16)
    if axes[0] == 0 and jax.default_backend() == "cpu" and jax.device_count() == 1:
        # XLA would turn a transposed first factor back to float32; a copy is left as it is. Of
        # several devices each would get the whole copy.
        x16, axes = with_layout_constraint(x16.T, Layout((0, 1))), (1, axes[1])
    x16, y16 = jax.lax.optimization_barrier((x16, y16))  # or the rounding is simplified away
    over = ((axes[:1], axes[1:]), ((), ()))
    return jax.lax.dot_general(x16, y16, over, preferred_element_type=x.dtype)


@jax.custom_vjp
def _rounded_product(x: jax.Array, y: jax.Array) -> jax.Array:
    """x y, whose gradient is of rounded products too."""
    return _contract(x, y, (1, 0))


def _rounded_product_backward(
    factors: tuple[jax.Array, jax.Array], g: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, y = factors
    return _contract(g, y, (1, 1)), _contract(x, g, (0, 0))


_rounded_product.defvjp(lambda x, y: (_rounded_product(x, y), (x, y)), _rounded_product_backward)


def _flat(x: jax.Array) -> jax.Array:
    return x.reshape(-1, x.shape[-1])


def uniform_fan_in(key: jax.Array, num_units: int) -> jax.Array:
    """Recurrent weights uniform in +-1/sqrt(num_units) -> [unit, unit], as published.

    Their spectral radius is about 1/sqrt(3), so that a ReLU network starts by forgetting.
    Source: PyTorch `RNN`, used by grid-pattern-formation.
    """
    return _uniform(key, (num_units, num_units), num_units**-0.5)


def glorot_recurrent(key: jax.Array, num_units: int) -> jax.Array:
    """Recurrent weights by `glorot_init` -> [unit, unit]."""
    return glorot_init(key, num_in=num_units, num_out=num_units)


def near_identity(
    key: jax.Array, num_units: int, *, gain: float = 1.0, scale: float = 1.0
) -> jax.Array:
    """Recurrent weights gain I + scale U, U as in `uniform_fan_in` -> [unit, unit].

    gain: weight of a unit onto itself. scale: factor of the random weights U.
    A network that starts by remembering: small networks leave the uniform code at once, where the
    published weights keep them there for more than a thousand steps. Source: after Le, Jaitly &
    Hinton 2015 (identity for ReLU networks); not in the grid-cell papers.
    """
    weights = uniform_fan_in(key, num_units)
    return gain * jnp.eye(num_units, dtype=weights.dtype) + scale * weights


def rnn_init(
    key: jax.Array,
    *,
    num_in: int,
    num_units: int,
    recurrent_init: RecurrentInit = uniform_fan_in,
    input_gain: float = 1.0,
) -> RNNParams:
    """Parameters of a vanilla RNN: inputs uniform in +-input_gain/sqrt(num_units).

    An input_gain of 1 is PyTorch's `RNN`; sqrt(num_units / num_in) is its `Linear`.
    recurrent_init (key, num_units) -> [unit, unit]. Raises ValueError where a size is below 1.
    """
    check.at_least(1, num_in=num_in, num_units=num_units)
    input_key, recurrent_key = jax.random.split(key)
    return RNNParams(
        inputs=input_gain * _uniform(input_key, (num_in, num_units), num_units**-0.5),
        recurrent=recurrent_init(recurrent_key, num_units),
    )


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _rnn(f: Nonlinearity, params: RNNParams, h0: jax.Array, v: jax.Array) -> jax.Array:
    """`rnn`, with the gradient of W_h formed in one product over batch and time.

    Reverse-mode differentiation of a scan adds a [unit, unit] matrix at every time step. It
    suffices to carry the gradients of the pre-activations a_t back,
        d_t = f'(a_t) (g_t + d_tp1 W_h^T),   g_t the gradient of h_t from outside,
    and to contract once: dW_h = sum_t h_tm1^T d_t, dW_i = sum_t v_t^T d_t, dv_t = d_t W_i^T.
    """
    return _rnn_forward(f, params, h0, v)[0]


def _rnn_forward(
    f: Nonlinearity, params: RNNParams, h0: jax.Array, v: jax.Array
) -> tuple[jax.Array, Any]:
    def step(h_tm1: jax.Array, v_t: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        a_t = v_t @ params.inputs + product(h_tm1, params.recurrent)
        h_t = f(a_t)
        return h_t, (h_t, a_t)

    _, (h, a) = jax.lax.scan(step, h0, v.swapaxes(0, 1))
    h = h.swapaxes(0, 1)
    return h, (params, h0, v, h, a)


def _rnn_backward(
    f: Nonlinearity, residuals: Any, g: jax.Array
) -> tuple[RNNParams, jax.Array, jax.Array]:
    params, h0, v, h, a = residuals

    def step(dh_t: jax.Array, now: Any) -> tuple[jax.Array, jax.Array]:
        g_t, a_t = now
        (d_t,) = jax.vjp(f, a_t)[1](g_t + dh_t)
        return _contract(d_t, params.recurrent, (1, 1)), d_t

    dh_0, d = jax.lax.scan(step, jnp.zeros_like(h0), (g.swapaxes(0, 1), a), reverse=True)
    d = d.swapaxes(0, 1)
    h_tm1 = jnp.concatenate([h0[:, None], h[:, :-1]], axis=1)
    gradient = RNNParams(
        inputs=_flat(v).T @ _flat(d), recurrent=_contract(_flat(h_tm1), _flat(d), (0, 0))
    )
    return gradient, dh_0, linear(params.inputs.T, d)


_rnn.defvjp(_rnn_forward, _rnn_backward)


def _check_recurrent(inputs: jax.Array, h0: jax.Array, params: Any) -> None:
    batch_size, num_units = h0.shape
    chex.assert_shape(inputs, (batch_size, None, params.inputs.shape[0]))
    chex.assert_axis_dimension(params.recurrent, 0, num_units)


def rnn(
    params: RNNParams, h0: jax.Array, inputs: jax.Array, *, nonlinearity: Nonlinearity
) -> jax.Array:
    """Vanilla RNN without biases: h_t = f(v_t W_i + h_tm1 W_h).

    h0 [batch, unit], inputs v [batch, time, in] -> hidden [batch, time, unit]. `nonlinearity` acts
    on each number by itself. Gradients by `_rnn`, equal to those of `rnn_plain`; first order and
    reverse mode only.
    """
    _check_recurrent(inputs, h0, params)
    return _rnn(nonlinearity, params, h0, inputs)


def rnn_plain(
    params: RNNParams, h0: jax.Array, inputs: jax.Array, *, nonlinearity: Nonlinearity
) -> jax.Array:
    """`rnn` as a plain scan, differentiated by JAX itself: the reference for its gradients."""
    _check_recurrent(inputs, h0, params)

    def step(h_tm1: jax.Array, v_t: jax.Array) -> tuple[jax.Array, jax.Array]:
        h_t = nonlinearity(v_t @ params.inputs + h_tm1 @ params.recurrent)
        return h_t, h_t

    return jax.lax.scan(step, h0, inputs.swapaxes(0, 1))[1].swapaxes(0, 1)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _leaky_rnn(
    f: Nonlinearity, params: RNNParams, alpha: jax.Array, h0: jax.Array, v: jax.Array
) -> jax.Array:
    """`leaky_rnn`, with the gradient of W_h in one product over batch and time, as in `_rnn`.

    With g_t the gradient of h_t from outside, e_t = g_t + dh_t and d_t = alpha f'(a_t) e_t,
        dh_tm1 = (1 - alpha) e_t + d_t W_h^T,   dalpha = sum_t e_t (f(a_t) - h_tm1).
    """
    return _leaky_rnn_forward(f, params, alpha, h0, v)[0]


def _leaky_rnn_forward(
    f: Nonlinearity, params: RNNParams, alpha: jax.Array, h0: jax.Array, v: jax.Array
) -> tuple[jax.Array, Any]:
    row = alpha[None]

    def step(h_tm1: jax.Array, v_t: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        a_t = v_t @ params.inputs + product(h_tm1, params.recurrent)
        h_t = (1 - row) * h_tm1 + row * f(a_t)
        return h_t, (h_t, a_t)

    _, (h, a) = jax.lax.scan(step, h0, v.swapaxes(0, 1))
    h = h.swapaxes(0, 1)
    return h, (params, alpha, h0, v, h, a)


def _leaky_rnn_backward(
    f: Nonlinearity, residuals: Any, g: jax.Array
) -> tuple[RNNParams, jax.Array, jax.Array, jax.Array]:
    params, alpha, h0, v, h, a = residuals
    row = alpha[None]
    h_tm1 = jnp.concatenate([h0[:, None], h[:, :-1]], axis=1)

    def step(carry: Any, now: Any) -> tuple[Any, jax.Array]:
        dh_t, dalpha = carry
        g_t, a_t, h_before = now
        e_t = g_t + dh_t
        f_t, back = jax.vjp(f, a_t)
        (d_t,) = back(row * e_t)
        dalpha += jnp.sum(e_t * (f_t - h_before), axis=0)
        return ((1 - row) * e_t + _contract(d_t, params.recurrent, (1, 1)), dalpha), d_t

    (dh_0, dalpha), d = jax.lax.scan(
        step,
        (jnp.zeros_like(h0), jnp.zeros_like(alpha)),
        (g.swapaxes(0, 1), a, h_tm1.swapaxes(0, 1)),
        reverse=True,
    )
    d = d.swapaxes(0, 1)
    gradient = RNNParams(
        inputs=_flat(v).T @ _flat(d), recurrent=_contract(_flat(h_tm1), _flat(d), (0, 0))
    )
    return gradient, dalpha, dh_0, linear(params.inputs.T, d)


_leaky_rnn.defvjp(_leaky_rnn_forward, _leaky_rnn_backward)


def time_constants(log_tau: jax.Array, *, tau_min: float, tau_max: float) -> jax.Array:
    """tau = exp(log_tau), held within [tau_min, tau_max] (steps): any shape, the same.

    As in PyTorch's `clamp`, the gradient is whole on the bounds and 0 beyond.
    """
    tau = jnp.exp(log_tau)
    return jnp.where((tau >= tau_min) & (tau <= tau_max), tau, jnp.clip(tau, tau_min, tau_max))


def leaky_rnn(
    params: LeakyRNNParams,
    h0: jax.Array,
    inputs: jax.Array,
    *,
    nonlinearity: Nonlinearity,
    tau_min: float,
    tau_max: float,
) -> jax.Array:
    """RNN of units with their own time constants, which are learned:
    h_t = (1 - 1/tau) h_tm1 + (1/tau) f(v_t W_i + h_tm1 W_h), tau = `time_constants`.

    h0 [batch, unit], inputs v [batch, time, in] -> hidden [batch, time, unit]. Gradients by
    `_leaky_rnn`, equal to those of a plain scan; first order and reverse mode only.
    Source: TopographicGridCells `TauRNN`.
    """
    _check_recurrent(inputs, h0, params)
    alpha = 1 / time_constants(params.log_tau, tau_min=tau_min, tau_max=tau_max)
    weights = RNNParams(params.inputs, params.recurrent)
    return _leaky_rnn(nonlinearity, weights, alpha, h0, inputs)


class LSTM(nn.Module):
    """LSTM with weights of `flax.linen.OptimizedLSTMCell`, from given h_0 and c_0.

    a_t = v_t W_i + h_tm1 W_h + b, split into i, f, g, o;
    c_t = s(f) c_tm1 + s(i) tanh(g), h_t = s(o) tanh(c_t), s the logistic function.

    starts [batch, 2 unit] (h_0, c_0), inputs v [batch, time, in] -> hidden [batch, time, unit].
    Weights start uniform in +-bound (1/sqrt(num_units) where it is None); bias_init draws the
    biases, as `sum_of_two_biases`.
    Source: Hochreiter & Schmidhuber 1997 with the forget gate of Gers et al. 2000. The defaults
    are those of PyTorch's `LSTM`.
    """

    num_units: int
    bound: float | None = None
    bias_init: nn.initializers.Initializer | None = None

    @nn.compact
    def __call__(self, starts: jax.Array, inputs: jax.Array) -> jax.Array:
        """Run over time."""
        chex.assert_shape(starts, (inputs.shape[0], 2 * self.num_units))
        default = self.num_units**-0.5
        weight_init = symmetric_uniform(default if self.bound is None else self.bound)
        cell = nn.OptimizedLSTMCell(
            self.num_units,
            kernel_init=weight_init,
            recurrent_kernel_init=weight_init,
            bias_init=self.bias_init or sum_of_two_biases(default),
            name="cell",
        )
        h0, c0 = jnp.split(starts, 2, axis=-1)
        hidden: jax.Array = nn.RNN(cell)(inputs, initial_carry=(c0, h0))  # type: ignore[assignment]
        return hidden


def symmetric_uniform(bound: float) -> nn.initializers.Initializer:
    """Numbers uniform in +-bound, as an initializer of flax."""
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(
        key, shape, dtype, minval=-bound, maxval=bound
    )


def sum_of_two_biases(bound: float) -> nn.initializers.Initializer:
    """Sums of two numbers uniform in +-bound, as an initializer of flax.

    PyTorch's `LSTM` has two biases, which only act as their sum; flax has one.
    """
    return lambda key, shape, dtype=jnp.float32: jnp.sum(
        symmetric_uniform(bound)(key, (2, *shape), dtype), axis=0
    )


def lstm_recurrent(params: Any) -> jax.Array:
    """Recurrent weights of an `LSTM` [unit, 4 unit] (from, to), gates i, f, g, o in order."""
    return jnp.concatenate([params["cell"][f"h{gate}"]["kernel"] for gate in "ifgo"], axis=1)


def leaky_step(u: jax.Array, drive: jax.Array, *, dt_s: float, tau_s: float) -> jax.Array:
    """One Euler step of a leaky integrator: u + (dt/tau) (drive - u), any shape, twice the same."""
    chex.assert_equal_shape([u, drive])
    return u + dt_s / tau_s * (drive - u)


def leaky_relu(x: jax.Array) -> jax.Array:
    """x where positive, else x / 100."""
    return jax.nn.leaky_relu(x)


class MLP(nn.Module):
    """Dense layers with a nonlinearity between them: [..., in] -> [..., sizes[-1]].

    Weights start as LeCun's: normal, cut off at two standard deviations, with variance 1/in. Biases
    start at 0.
    """

    sizes: tuple[int, ...]
    nonlinearity: Nonlinearity = leaky_relu

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x [..., in] -> [..., sizes[-1]]."""
        for size in self.sizes[:-1]:
            x = self.nonlinearity(nn.Dense(size)(x))
        return nn.Dense(self.sizes[-1])(x)


class ResidualMLP(nn.Module):
    """A dense layer, residual blocks x + MLP(f(x)), and a dense layer after f.

    The MLP of a block has layers_per_block hidden layers; all layers but the last have num_units.
    Source: distributional-sr `ResidualMLP`.
    """

    num_units: int
    num_blocks: int
    layers_per_block: int
    num_outputs: int
    nonlinearity: Nonlinearity = leaky_relu

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x [..., in] -> [..., num_outputs]."""
        x = nn.Dense(self.num_units)(x)
        for _ in range(self.num_blocks):
            sizes = (self.num_units,) * (self.layers_per_block + 1)
            x = x + MLP(sizes, self.nonlinearity)(self.nonlinearity(x))
        return nn.Dense(self.num_outputs)(self.nonlinearity(x))

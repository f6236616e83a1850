"""Grid cells on a sheet: neighbours that resemble each other, and time constants that are learned.

The path-integrating network of `grid_rnn` with RatInABox's animals, whose units stand on a sheet.
Three variants: plain; with a penalty on units whose incoming weights differ from those of their
neighbours; and with leaky units, whose time constants are learned and penalised where they differ
from those of their neighbours.

Source: the repository TopographicGridCells; the penalty on weights is TopoLoss (Deb et al. 2025,
murtylab/topoloss).
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hfjax import arena, cells, check, figures, networks, ratemaps
from hfjax.models import grid_rnn, path_integration
from hfjax.models.grid_rnn import Layers, Loss
from hfjax.models.path_integration import EvaluationSettings, World
from hfjax.task import (
    Evaluate,
    HostReadout,
    Metric,
    Readout,
    Scalars,
    Task,
    declares,
    logged,
    metrics_of,
)

NUM_SHUFFLES = 200  # of the units on the sheet, beside which Moran's I is reported
GRID_SCORE = 0.3  # units above it count as grid cells in the statistics of the sheet
PUBLISHED_EVALUATION = EvaluationSettings(num_map_walks=10_000, num_bins=32)

# --- The sheet ---


Sheet = tuple[int, int]  # rows and columns; unit u stands in row u // columns


def sheet_of(num_units: int, sheet: Sheet | None = None) -> Sheet:
    """Rows and columns of the sheet of num_units; for None those that are nearest to a square.

    Raises ValueError where there are fewer than 2 rows or columns, or they do not hold the units.
    Source: topoloss `find_cortical_sheet_size`.
    """
    check.at_least(4, num_units=num_units)
    if sheet is None:
        rows = max(n for n in range(1, math.isqrt(num_units) + 1) if num_units % n == 0)
        if rows == 1:
            raise ValueError(f"num_units must not be prime, for a sheet, but is {num_units}")
        return rows, num_units // rows
    rows, columns = sheet
    if min(rows, columns) < 2 or rows * columns != num_units:
        raise ValueError(
            f"sheet must be two or more rows and columns of num_units ({num_units}) in all, but is "
            f"{rows} x {columns}"
        )
    return rows, columns


class Interpolate(Protocol):
    """(num_out, num_in, step) -> matrix [out, in] that resamples a line, step pixels apart."""

    def __call__(self, num_out: int, num_in: int, step: float, /) -> np.ndarray:
        """The weights of the pixels of the line in each new pixel; rows sum to 1."""


def linear(num_out: int, num_in: int, step: float) -> np.ndarray:
    """Linear interpolation, with the centre of pixel i at i + 1/2; constant beyond the ends.

    Source: PyTorch's `interpolate` with mode="bilinear", align_corners=False.
    """
    source = np.clip((np.arange(num_out) + 0.5) * step - 0.5, 0, num_in - 1)
    return np.maximum(0, 1 - np.abs(source[:, None] - np.arange(num_in)[None]))


def cubic(num_out: int, num_in: int, step: float) -> np.ndarray:
    """Cubic convolution with a = -3/4, centres as in `linear`; pixels repeat beyond the ends.

    Source: PyTorch's `interpolate` with mode="bicubic"; Keys 1981.
    """
    a = -0.75
    source = (np.arange(num_out) + 0.5) * step - 0.5
    pixels = np.floor(source)[:, None] + np.arange(-1, 3)[None]  # the four nearest
    d = np.abs(source[:, None] - pixels)
    near, far = (a + 2) * d**3 - (a + 3) * d**2 + 1, a * (d**3 - 5 * d**2 + 8 * d - 4)
    matrix = np.zeros((num_out, num_in))
    rows = np.arange(num_out)[:, None]
    np.add.at(
        matrix, (rows, np.clip(pixels, 0, num_in - 1).astype(int)), np.where(d <= 1, near, far)
    )
    return matrix


def nearest(num_out: int, num_in: int, step: float) -> np.ndarray:
    """The pixel floor(i step). Source: PyTorch's `interpolate` with mode="nearest"."""
    pixels = np.minimum(np.floor(np.arange(num_out) * step).astype(int), num_in - 1)
    return np.eye(num_in)[pixels]


def shrunk_and_restored(
    sheet: jax.Array,
    *,
    factors: tuple[float, float] = (2.0, 2.0),
    interpolate: Interpolate = linear,
) -> jax.Array:
    """A sheet after it is shrunk by a factor along each axis, and restored: [row, column, ...].

    Raises ValueError where a factor is below 1 or larger than the sheet.
    Source: `laplacian_pyramid_loss` of topoloss.
    """
    for axis, factor in enumerate(factors):
        size = sheet.shape[axis]
        if not 1 <= factor <= size:
            raise ValueError(f"factors[{axis}] must be from 1 to {size}, but is {factor}")
        small = int(size / factor)
        line = interpolate(size, small, small / size) @ interpolate(small, size, factor)
        sheet = jnp.moveaxis(
            jnp.tensordot(jnp.asarray(line, sheet.dtype), sheet, (1, axis)), 0, axis
        )
    return sheet


def restored(values: jax.Array, *, sheet: Sheet) -> jax.Array:
    """Values on the sheet after it is halved and restored, both bilinearly: [unit, ...], the same.

    See `shrunk_and_restored`.
    """
    chex.assert_axis_dimension(values, 0, math.prod(sheet))
    return shrunk_and_restored(values.reshape(*sheet, -1)).reshape(values.shape)


def unlike_neighbours(
    sheet: jax.Array,
    *,
    factors: tuple[float, float] = (2.0, 2.0),
    interpolate: Interpolate = linear,
) -> jax.Array:
    """1 - mean cosine between the features of units and the same after `shrunk_and_restored`.

    sheet [row, column, feature]: the features of the units of any layer, such as the rows of its
    weights or the filters of a convolution (`incoming`), on a sheet of any shape.
    Of one number for each unit, such as biases, [row, column], it is one cosine over all units.
    Source: `laplacian_pyramid_loss` and `laplacian_pyramid_loss_on_bias` of topoloss.
    """
    smooth = shrunk_and_restored(sheet, factors=factors, interpolate=interpolate)
    a, b = (
        (sheet, smooth) if sheet.ndim == 3 else (sheet.reshape(1, 1, -1), smooth.reshape(1, 1, -1))
    )
    norms = jnp.linalg.norm(a, axis=-1) * jnp.linalg.norm(b, axis=-1)
    return 1 - jnp.mean(jnp.sum(a * b, axis=-1) / jnp.maximum(norms, 1e-8))


def incoming(kernel: jax.Array, *, shape: tuple[int, int]) -> jax.Array:
    """The weights to each unit of a flax layer: Dense [in, unit] or Conv [..., in, unit].

    shape: (rows, columns) of the sheet -> [row, column, weight], for `unlike_neighbours`.
    """
    chex.assert_axis_dimension(kernel, -1, shape[0] * shape[1])
    return kernel.reshape(-1, kernel.shape[-1]).T.reshape(*shape, -1)


class MoranI(NamedTuple):
    """statistic: I. shuffled_mean, shuffled_std: of I where the values are permuted among units."""

    statistic: jax.Array
    shuffled_mean: jax.Array
    shuffled_std: jax.Array


def morans_i(
    values: jax.Array,
    among: jax.Array,
    key: jax.Array,
    *,
    sheet: Sheet,
    num_shuffles: int = NUM_SHUFFLES,
) -> MoranI:
    """Moran's I, the correlation of neighbours on the sheet: 1 where they are equal, about 0 where
    they are independent.

        I = (N / W) sum_uv w_uv (x_u - m).(x_v - m) / sum_u |x_u - m|^2,
    w_uv = 1 where v is next to u in its row or column and both are in `among`, else 0; W the sum of
    w, N the number of units in `among`, m their mean. Give angles as cos and sin.

    values x [unit, component], among [unit] (bool) -> MoranI, three scalars; 0 where nothing varies
    or there are no neighbours. Source: Moran 1950.
    """
    chex.assert_shape([values], (math.prod(sheet), None))
    chex.assert_shape([among], (math.prod(sheet),))
    m = among.reshape(sheet).astype(values.dtype)
    count = jnp.sum(m)
    pairs = jnp.sum(m[1:] * m[:-1]) + jnp.sum(m[:, 1:] * m[:, :-1])  # each once
    counted = among[:, None]
    values = jnp.where(counted, values, 0)
    x = jnp.where(counted, values - jnp.sum(values, axis=0, keepdims=True) / count, 0)
    variance = jnp.sum(x**2)

    def morans_index(x: jax.Array) -> jax.Array:
        on = x.reshape(*sheet, -1)
        alike = jnp.sum(on[1:] * on[:-1]) + jnp.sum(on[:, 1:] * on[:, :-1])
        valid = (pairs > 0) & (variance > 0)
        statistic = count * alike / (jnp.where(valid, pairs, 1) * jnp.where(valid, variance, 1))
        return jnp.where(valid, statistic, 0)

    places = jnp.argsort(~among)  # units in `among` come first

    def shuffled(key: jax.Array) -> jax.Array:
        order = jnp.argsort(jnp.where(among, jax.random.uniform(key, among.shape), jnp.inf))
        return morans_index(jnp.zeros_like(x).at[places].set(x[order]))

    others = jax.lax.map(shuffled, jax.random.split(key, num_shuffles))
    return MoranI(morans_index(x), jnp.mean(others), jnp.std(others))


def spearman(a: jax.Array, b: jax.Array, among: jax.Array) -> jax.Array:
    """Spearman's rank correlation of a and b over units in `among`; ties get their mean rank.

    a, b [unit], among [unit] (bool) -> scalar, 0 where a or b does not vary.
    """

    def ranks(x: jax.Array) -> jax.Array:
        above = (x[:, None] > x[None]) + 0.5 * (x[:, None] == x[None])
        rank = above @ among.astype(above.dtype)
        return jnp.where(among, rank - jnp.sum(rank * among) / count, 0)

    count = jnp.maximum(jnp.sum(among), 1)
    rank_a, rank_b = ranks(a), ranks(b)
    scale = jnp.sqrt(jnp.sum(rank_a**2) * jnp.sum(rank_b**2))
    return jnp.where(scale > 0, jnp.sum(rank_a * rank_b) / jnp.where(scale > 0, scale, 1), 0)


# --- Time constants ---


class TauInit(Protocol):
    """Initial time constants of a sheet."""

    def __call__(
        self, key: jax.Array, /, *, sheet: Sheet, tau_min: float, tau_max: float
    ) -> jax.Array:
        """Time constants [unit] (steps) between the bounds."""


class TimeConstants(Protocol):
    """(params of the network) -> time constants [unit] (steps)."""

    def __call__(self, params: Any, /) -> jax.Array:
        """The time constants."""


def random_tau(key: jax.Array, *, sheet: Sheet, tau_min: float, tau_max: float) -> jax.Array:
    """Uniform between the bounds, independent for each unit; as published."""
    return jax.random.uniform(key, (math.prod(sheet),), minval=tau_min, maxval=tau_max)


def gradient_tau(key: jax.Array, *, sheet: Sheet, tau_min: float, tau_max: float) -> jax.Array:
    """From tau_min in the first row to tau_max in the last row, linearly."""
    del key
    rows, columns = sheet
    return jnp.repeat(jnp.linspace(tau_min, tau_max, rows), columns)


def radial_tau(key: jax.Array, *, sheet: Sheet, tau_min: float, tau_max: float) -> jax.Array:
    """From tau_min in the middle of the sheet to tau_max in its corners, linearly in distance."""
    del key
    y, x = (jnp.linspace(-1, 1, count) for count in sheet)
    distance = jnp.hypot(y[:, None], x[None]) / math.sqrt(2)
    return (tau_min + (tau_max - tau_min) * distance).reshape(-1)


def striped_tau(
    key: jax.Array, *, sheet: Sheet, tau_min: float, tau_max: float, num_stripes: int = 4
) -> jax.Array:
    """Stripes of rows with one time constant each, in even steps from tau_min to tau_max.

    num_stripes: stripes, at most the rows of the sheet.
    The last stripe also gets the rows that remain. Raises ValueError where there are more stripes
    than rows.
    """
    del key
    check.at_least(1, num_stripes=num_stripes)
    rows, columns = sheet
    if num_stripes > rows:
        raise ValueError(f"num_stripes must be at most {rows}, the rows, but is {num_stripes}")
    stripe = np.minimum(np.arange(rows) // (rows // num_stripes), num_stripes - 1)
    return jnp.repeat(jnp.linspace(tau_min, tau_max, num_stripes)[stripe], columns)


def equal_tau(key: jax.Array, *, sheet: Sheet, tau_min: float, tau_max: float) -> jax.Array:
    """The mean of the bounds for all units."""
    del key
    return jnp.full(math.prod(sheet), (tau_min + tau_max) / 2, float)


class Units(NamedTuple):
    """The units of the sheet; made by `plain_units` or `leaky_units`.

    network (sheet) -> the network. tau: time constants; None where the units have none.
    """

    network: Callable[[Sheet], grid_rnn.RecurrentNetwork]
    tau: TimeConstants | None


def plain_units(
    *,
    nonlinearity: networks.Nonlinearity = networks.relu,
    recurrent_init: networks.RecurrentInit = networks.uniform_fan_in,
    input_gain: float = 1.0,
    bias: bool = False,
) -> Units:
    """Units without leak: `grid_rnn.vanilla`.

    nonlinearity, recurrent_init, input_gain, bias: as in `grid_rnn.vanilla`.
    """
    network = grid_rnn.vanilla(
        nonlinearity=nonlinearity, recurrent_init=recurrent_init, input_gain=input_gain, bias=bias
    )
    return Units(lambda sheet: network, None)


def leaky_units(
    *,
    nonlinearity: networks.Nonlinearity = networks.relu,
    tau_min: float = 1.0,
    tau_max: float = 50.0,
    tau_init: TauInit = random_tau,
    learned: bool = True,
    recurrent_init: networks.RecurrentInit = networks.glorot_recurrent,
    input_gain: float = 1.0,
) -> Units:
    """Leaky units, each with its time constant: `networks.leaky_rnn`, Glorot-uniform weights.

    nonlinearity    nonlinearity of the units.
    tau_min         smallest time constant (time steps), 1 or more.
    tau_max         largest time constant (time steps).
    tau_init        initial time constants over the sheet, as `random_tau`.
    learned         whether the time constants are trained or keep their initial values.
    recurrent_init  draws the initial recurrent weights.
    input_gain      factor of the initial input weights.

    Raises ValueError where tau_min is below one step or above tau_max, or input_gain not positive.
    Source: TopographicGridCells `TauRNN`.
    """
    if not 1 <= tau_min <= tau_max < math.inf:
        raise ValueError(
            f"1 <= tau_min <= tau_max must hold (steps), but tau_min is {tau_min} and tau_max is "
            f"{tau_max}"
        )
    check.positive(input_gain=input_gain)

    def network(sheet: Sheet) -> grid_rnn.RecurrentNetwork:
        return grid_rnn.RecurrentNetwork(
            init=partial(
                _leaky_init,
                recurrent_init=recurrent_init,
                input_gain=input_gain,
                tau_init=partial(tau_init, sheet=sheet, tau_min=tau_min, tau_max=tau_max),
            ),
            num_starts=1,
            apply=partial(
                _leaky_apply,
                learned=learned,
                nonlinearity=nonlinearity,
                tau_min=tau_min,
                tau_max=tau_max,
            ),
            recurrent=lambda params: params.recurrent,
            weights=lambda params: params.recurrent,
        )

    return Units(
        network, partial(_time_constants, learned=learned, tau_min=tau_min, tau_max=tau_max)
    )


def _leaky_init(
    key: jax.Array,
    /,
    *,
    num_in: int,
    num_units: int,
    recurrent_init: networks.RecurrentInit,
    input_gain: float,
    tau_init: partial[jax.Array],
) -> networks.LeakyRNNParams:
    input_key, recurrent_key, tau_key = jax.random.split(key, 3)
    return networks.LeakyRNNParams(
        inputs=input_gain * networks.glorot_init(input_key, num_in=num_in, num_out=num_units),
        recurrent=recurrent_init(recurrent_key, num_units),
        log_tau=jnp.log(tau_init(tau_key)),
    )


def _trained(params: networks.LeakyRNNParams, learned: bool) -> networks.LeakyRNNParams:
    """The parameters, without a gradient for time constants that are not learned."""
    return params if learned else params._replace(log_tau=jax.lax.stop_gradient(params.log_tau))


def _leaky_apply(
    params: networks.LeakyRNNParams,
    h0: jax.Array,
    inputs: jax.Array,
    /,
    *,
    learned: bool,
    nonlinearity: networks.Nonlinearity,
    tau_min: float,
    tau_max: float,
) -> jax.Array:
    return networks.leaky_rnn(
        _trained(params, learned),
        h0,
        inputs,
        nonlinearity=nonlinearity,
        tau_min=tau_min,
        tau_max=tau_max,
    )


def _time_constants(
    params: networks.LeakyRNNParams, /, *, learned: bool, tau_min: float, tau_max: float
) -> jax.Array:
    log_tau = _trained(params, learned).log_tau
    return networks.time_constants(log_tau, tau_min=tau_min, tau_max=tau_max)


# --- Penalties ---


class Penalty(Protocol):
    """A penalty on parameters of the network or on time constants [unit] (None without them)."""

    def __call__(
        self, params: Any, tau: jax.Array | None, /, *, sheet: Sheet, step: Any
    ) -> tuple[jax.Array, Scalars]:
        """The addition to the loss, and scalars by name; step: updates so far."""


class Spread(Protocol):
    """(tau [unit]) -> scalar, low where time constants differ; as `less_than_variance`."""

    def __call__(self, tau: jax.Array, /) -> jax.Array:
        """The term of the loss."""


def no_penalty(
    params: Any, tau: jax.Array | None, *, sheet: Sheet, step: Any
) -> tuple[jax.Array, Scalars]:
    """No penalty: units need not resemble their neighbours."""
    del params, tau, sheet, step
    return jnp.zeros(()), {}


class WeightsOf(Protocol):
    """(params) -> weights [from, to unit] of a network, or one number for each unit [unit]."""

    def __call__(self, params: Any, /) -> jax.Array:
        """What should be alike between neighbours."""


def recurrent_weights(params: Any) -> jax.Array:
    """Weights between units."""
    weights: jax.Array = params.recurrent
    return weights


def input_weights(params: Any) -> jax.Array:
    """Weights of the velocity to units."""
    weights: jax.Array = params.inputs[:2]
    return weights


def outgoing_weights(params: Any) -> jax.Array:
    """Weights between units, by the unit that they come from."""
    weights: jax.Array = params.recurrent.T
    return weights


def biases(params: Any) -> jax.Array:
    """Biases of units [unit]. Raises ValueError where they have none."""
    if len(params.inputs) != 3:
        raise ValueError("the units have no biases: set task.units.bias=True")
    bias: jax.Array = params.inputs[2]
    return bias


@declares(
    {
        "topographic_loss": Metric(
            "unlike weights of neighbours",
            split="training",
            better="lower",
            panel="Penalty",
            measure="1 - cosine of weights",
        ),
        "topographic_weight": Metric("weight of the penalty"),
    }
)
def unlike_weights(
    params: Any,
    tau: jax.Array | None,
    *,
    sheet: Sheet,
    step: Any,
    weight: float | optax.Schedule = 1.0,
    factors: tuple[float, float] = (2.0, 2.0),
    interpolate: Interpolate = linear,
    of: WeightsOf = recurrent_weights,
) -> tuple[jax.Array, Scalars]:
    """The penalty weight (1 - mean over units of cos(w_u, w'_u)).

    w_u are the weights to unit u, w' the same after the sheet is shrunk and restored
    (`unlike_neighbours`). Of biases it is the cosine over all units.

    weight       factor of the penalty in the loss, or a schedule of it, such as
                 `optax.linear_schedule` or `optax.warmup_cosine_decay_schedule`.
    factors      by which the sheet is shrunk along each axis.
    interpolate  how it is shrunk and restored: `linear`, `cubic` or `nearest`.
    of           what: `recurrent_weights`, `outgoing_weights`, `input_weights` or `biases`.

    Scalars: topographic_loss, without its weight; topographic_weight.
    Source: TopoLoss; `rnn_laplacian_pyramid_loss` of TopographicGridCells.
    """
    del tau
    values = of(params)
    if callable(weight) and step is None:
        raise ValueError("a schedule of the penalty needs an optimizer that counts, as optax.adam")
    on = values.reshape(sheet) if values.ndim == 1 else incoming(values, shape=sheet)
    loss = unlike_neighbours(on, factors=factors, interpolate=interpolate)
    now = jnp.asarray(weight(step) if callable(weight) else weight, loss.dtype)
    return now * loss, {"topographic_loss": loss, "topographic_weight": now}


def less_than_variance(tau: jax.Array) -> jax.Array:
    """-var(tau), unbiased: rewards time constants that differ; as published."""
    return -jnp.var(tau, ddof=1)


def off_the_ramp(tau: jax.Array) -> jax.Array:
    """Mean squared distance of the sorted tau to even steps from the smallest to the largest.

    No gradient passes through the two ends.
    """
    ends = jax.lax.stop_gradient((jnp.min(tau), jnp.max(tau)))
    return jnp.mean((jnp.sort(tau) - jnp.linspace(*ends, tau.shape[0])) ** 2)


TAU = Metric("mean tau", "steps", panel="Time constants")


@declares(
    {
        "tau_roughness": Metric("roughness of tau", "steps^2", panel="Penalty on time constants"),
        "tau_mean": TAU,
        "tau_std": TAU._replace(label="standard deviation of tau"),
        "tau_min": TAU._replace(label="smallest tau"),
        "tau_max": TAU._replace(label="largest tau"),
    }
)
def unlike_tau(
    params: Any,
    tau: jax.Array | None,
    *,
    sheet: Sheet,
    step: Any,
    smoothness: float = 1.0,
    spread: float = 0.1,
    spread_term: Spread = less_than_variance,
) -> tuple[jax.Array, Scalars]:
    """smoothness mean (tau - tau')^2 + spread spread_term(tau), tau' after halving and restoring.

    smoothness   factor of the difference between neighbours.
    spread       factor of spread_term.
    spread_term  keeps tau from becoming one number: `less_than_variance` or `off_the_ramp`.

    Scalars: tau_roughness, the mean square; tau_mean, tau_std, tau_min, tau_max.
    Raises ValueError where the units have no time constants.
    Source: TopographicGridCells `tau_topographic_loss`, and `..._v2` with the ramp.
    """
    del params, step
    if tau is None:
        raise ValueError("unlike_tau needs units with time constants: leaky_units")
    roughness = jnp.mean((tau - restored(tau, sheet=sheet)) ** 2)
    scalars = {
        "tau_roughness": roughness,
        "tau_mean": jnp.mean(tau),
        "tau_std": jnp.std(tau),
        "tau_min": jnp.min(tau),
        "tau_max": jnp.max(tau),
    }
    return smoothness * roughness + spread * spread_term(tau), scalars


# --- The task ---


def rat_walk(
    key: jax.Array,
    *,
    batch_size: int,
    num_steps: int,
    width_m: check.Width,
    dt_s: float,
    boundary: arena.Boundary,
    speed_mean_mps: float = 1.02,
    speed_coherence_s: float = 0.5,
    thigmotaxis: float = 0.5,
) -> arena.Walk:
    """RatInABox's animals at the speed of Sorscher et al.: a `motion` of `grid_rnn.task`.

    speed_mean_mps     mean speed (m/s).
    speed_coherence_s  time constant of the speed (s).
    thigmotaxis        from 0 (the animal avoids walls) to 1 (it follows them).

    Rayleigh speeds; turns are those of RatInABox. Source: TopographicGridCells `datagen`. It also
    sets a standard deviation of the speed, 0.53 m/s, that RatInABox does not use in two dimensions.
    Deviation: displacements are those walked. There they are the velocity of the motion model
    times dt, without the shift along walls, so that paths within 10 cm of a wall cannot be
    integrated exactly.
    """
    return arena.random_walk(
        key,
        batch_size=batch_size,
        num_steps=num_steps,
        environment=arena.box(*check.widths(width_m, 2), periodic=boundary is arena.wrap_around),
        motion=arena.motion(
            dt_s=dt_s,
            speed_mean_mps=speed_mean_mps,
            speed_coherence_s=speed_coherence_s,
            thigmotaxis=thigmotaxis,
        ),
    )


def jittered_lattice(key: jax.Array, *, num_place: int, width_m: check.Width) -> jax.Array:
    """`cells.jittered_centres` in two dimensions: `place_centres` of `grid_rnn.task`."""
    return cells.jittered_centres(key, num_place=num_place, width_m=width_m, num_dims=2)


def difference_of_gaussians(
    positions: jax.Array,
    centres: jax.Array,
    *,
    sigma_m: float,
    distance_sq: cells.DistanceSq = cells.euclidean_sq,
) -> jax.Array:
    """`cells.difference_of_gaussians` of RatInABox: a `place_code` of `grid_rnn.task`."""
    return cells.difference_of_gaussians(
        positions, centres, sigma_m=sigma_m, ratio=1.5, peak=1.0, distance_sq=distance_sq
    )


@declares({"loss": Metric("cross-entropy", "nats")})
def floored_cross_entropy(outputs: jax.Array, code: jax.Array) -> jax.Array:
    """-sum_i p_i log(softmax(outputs)_i + 1e-10): [..., place] twice -> [...]; as published.

    The small number bounds it for codes that are negative in their surround.
    """
    return -jnp.sum(code * jnp.log(jax.nn.softmax(outputs, axis=-1) + 1e-10), axis=-1)


def task(
    *,
    num_units: int = 4096,
    sheet: Sheet | None = None,
    num_place: int = 512,
    sigma_m: float = 0.12,
    batch_size: int = 200,
    num_steps: int = 20,
    dt_s: float = 0.02,
    optimizer: optax.GradientTransformation | None = None,
    weight_decay: float = 1e-4,
    readout_decay: float = 0.0,
    activity_decay: float = 0.0,
    encoder_gain: float = 1.0,
    units: Units | None = None,
    penalty: Penalty = no_penalty,
    box: path_integration.Box | None = None,
    motion: path_integration.Motion = rat_walk,
    encoder_init: grid_rnn.WeightInit = networks.linear_init,
    decoder_init: grid_rnn.WeightInit = networks.glorot_init,
    place_centres: cells.PlaceCentres = jittered_lattice,
    place_code: path_integration.PlaceCode = difference_of_gaussians,
    objective: grid_rnn.Objective = floored_cross_entropy,
    evaluation: EvaluationSettings | None = None,
) -> Task:
    """Path integration by units on a sheet, as a Task: the equations of `grid_rnn.task`.

    num_units   units of the sheet.
    sheet       rows and columns of the sheet; None for the nearest to a square.
    units       units with or without time constants; None for `plain_units()`.
    penalty     term of the loss: `no_penalty`, `unlike_weights` or `unlike_tau`.
    optimizer   optax optimizer; None for `published_optimizer()`.
    evaluation  how much is evaluated; None for 10,000 walks and maps of 32 x 32 bins.

    num_place, sigma_m, batch_size, num_steps, dt_s, weight_decay, readout_decay, activity_decay,
    encoder_gain, box, motion, encoder_init, decoder_init, place_centres, place_code, objective: as
    in `grid_rnn.task`.

    step's scalars: those of `grid_rnn.task` and of the penalty. Evaluation: that of
    `path_integration.evaluate`, mean_grid_score, and what `measure_sheet` returns.
    Raises ValueError where the sheet does not hold num_units, the penalty does not fit the units,
    or `grid_rnn.task` would raise it.

    Source: TopographicGridCells `train_grid`; the defaults are its values. The wavelength is the
    "scale" of its maps (`get_spectral_scale_colors`). Deviations: see `rat_walk`; wave numbers are
    interpolated between whole ones.
    """
    sheet = sheet_of(num_units, sheet)
    units, box = units or plain_units(), box or path_integration.walled_box()
    network, optimizer = units.network(sheet), optimizer or published_optimizer()
    penalise = penalty_of_units(penalty, network, units.tau, sheet=sheet, optimizer=optimizer)
    integrates = grid_rnn.assemble(
        layers=Layers(network, num_units, num_place, encoder_init, encoder_gain, decoder_init),
        world=World(box, motion, dt_s, place_centres, place_code, sigma_m),
        loss=Loss(objective, weight_decay, readout_decay, activity_decay, penalise),
        optimizer=optimizer,
        batch_size=batch_size,
        num_steps=num_steps,
        evaluation=evaluation or PUBLISHED_EVALUATION,
    )
    evaluate_sheet = partial(
        evaluate, network=integrates.evaluate, tau=units.tau, sheet=sheet, width_m=box.width_m
    )
    declared = logged(
        step=metrics_of(penalty), evaluation=sheet_metrics(has_tau=units.tau is not None)
    )
    return integrates._replace(
        evaluate=evaluate_sheet, figures=draw, metrics={**integrates.metrics, **declared}
    )


def published_optimizer() -> optax.GradientTransformation:
    """Adam with learning rate 1e-4; gradients are first clipped to a global norm of 1."""
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-4))


def penalty_of_units(
    penalty: Penalty,
    network: grid_rnn.RecurrentNetwork,
    tau: TimeConstants | None,
    *,
    sheet: Sheet,
    optimizer: optax.GradientTransformation,
) -> grid_rnn.Penalty | None:
    """The penalty as a function of the network's parameters alone; None for `no_penalty`.

    Raises ValueError where the penalty needs what the units do not have, such as time constants, or
    a count of updates that the optimizer does not keep.
    """
    if penalty is no_penalty:
        return None

    def penalise(params: Any, step: Any) -> tuple[jax.Array, Scalars]:
        return penalty(params, None if tau is None else tau(params), sheet=sheet, step=step)

    def penalise_at_first(key: jax.Array) -> tuple[jax.Array, Scalars]:
        params = network.init(key, num_in=2, num_units=math.prod(sheet))
        return penalise(params, grid_rnn.count_updates(optimizer.init(params)))

    jax.eval_shape(penalise_at_first, jax.random.key(0))
    return penalise


def evaluate(
    state: grid_rnn.State,
    data: Any,
    key: jax.Array,
    /,
    *,
    network: Evaluate,
    tau: TimeConstants | None,
    sheet: Sheet,
    width_m: float,
) -> tuple[Scalars, Readout]:
    """The network's own evaluation, and that of the sheet; see `task`."""
    network_key, sheet_key = jax.random.split(key)
    scalars, readout = network(state, data, network_key)
    maps, grid_score = readout["rate_maps"], readout["grid_score_60"]
    steps = None if tau is None else tau(state.params.network)
    order, places = measure_sheet(maps, grid_score, steps, sheet_key, sheet=sheet, width_m=width_m)
    places["sheet"] = jnp.asarray(sheet)
    return scalars | {"mean_grid_score": jnp.mean(grid_score)} | order, readout | places


def sheet_metrics(*, has_tau: bool) -> dict[str, Metric]:
    """What the scalars of `evaluate` mean, but for those of the network."""
    layers = ["scale", "orientation", "phase", *["tau"] * has_tau]
    metrics = {
        "mean_grid_score": ratemaps.SCORE._replace(label="mean grid score", series="mean"),
        "grid_units": Metric("units with a grid score above 0.3", "units"),
    }
    for layer in layers:
        index = Metric(f"Moran's I of {layer}")
        metrics[f"moran_{layer}"] = index
        metrics[f"moran_{layer}_z"] = index._replace(
            label=f"order of {layer}",
            unit="sd above shuffles",
            level=("shuffled units", 0.0),
            panel="Order on the sheet: Moran's I",
            series=layer,
        )
    if has_tau:
        correlation = Metric(
            "tau and scale (Spearman)",
            level=("no relation", 0.0),
            panel="Correlation of tau and scale",
            measure="Spearman's rho",
        )
        metrics["tau_scale_correlation"] = correlation
        metrics["tau_scale_z"] = correlation._replace(
            label="the same, over its standard deviation by chance", level=None, panel=""
        )
    return metrics


def measure_sheet(
    maps: jax.Array,
    grid_score: jax.Array,
    tau: jax.Array | None,
    key: jax.Array,
    *,
    sheet: Sheet,
    width_m: float,
) -> tuple[Scalars, Readout]:
    """How far the sheet is ordered, and whether time constants go with the scale of the maps.

    maps [unit, x, y], grid_score [unit], tau [unit] (steps) or None
    -> scalars. Over units with a grid score above 0.3: grid_units, their number; moran_scale,
    moran_orientation, moran_phase, Moran's I of the map's strongest plane wave
    (`ratemaps.plane_waves`; orientations count modulo 60 degrees). Over all units: moran_tau.
    Control of each, by shuffled units: ..._z, how many standard deviations I lies above theirs.
    tau_scale_correlation: rank correlation of tau and the wavelength, over the grid units;
    tau_scale_z, the same in units of 1/sqrt(grid_units - 1), its standard deviation by chance where
    units are independent (units whose tau is smooth over the sheet are not).
    -> readout scale_m, wave_direction_rad, wave_phase_rad [unit]; where there is a tau, tau [unit]
    and the two scalars of its correlation.
    """
    wave = ratemaps.plane_waves(maps, bin_width_m=width_m / maps.shape[1])
    grid = (grid_score > GRID_SCORE) & jnp.isfinite(wave.wavelength)
    scale = jnp.where(jnp.isfinite(wave.wavelength), wave.wavelength, 0)
    layers = {
        "scale": (scale[:, None], grid),
        "orientation": (_circular(6 * wave.direction), grid),
        "phase": (_circular(wave.phase), grid),
    }
    readout = {
        "scale_m": wave.wavelength,
        "wave_direction_rad": wave.direction,
        "wave_phase_rad": wave.phase,
    }
    scalars = {"grid_units": jnp.sum(grid).astype(scale.dtype)}
    if tau is not None:
        layers["tau"] = tau[:, None], jnp.ones_like(grid)
        readout["tau"] = tau
        correlation = spearman(tau, scale, grid)
        scalars["tau_scale_correlation"] = correlation
        scalars["tau_scale_z"] = correlation * jnp.sqrt(jnp.maximum(scalars["grid_units"] - 1, 0))
        readout |= {name: scalars[name] for name in ("tau_scale_correlation", "tau_scale_z")}
    keys = jax.random.split(key, len(layers))
    for (name, (values, counts)), layer_key in zip(layers.items(), keys, strict=True):
        moran = morans_i(values, counts, layer_key, sheet=sheet)
        scalars |= {f"moran_{name}": moran.statistic, f"moran_{name}_z": _above_shuffles(moran)}
    return scalars, readout


def _circular(angle: jax.Array) -> jax.Array:
    """Angles [unit] (rad) as their cos and sin [unit, 2]."""
    return jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=1)


def _above_shuffles(moran: MoranI) -> jax.Array:
    """By how many standard deviations I lies above that of shuffled units; 0 where they are 0."""
    std = moran.shuffled_std
    difference = moran.statistic - moran.shuffled_mean
    return jnp.where(std > 0, difference / jnp.where(std > 0, std, 1), 0)


# --- Figures ---


def draw(readout: HostReadout) -> dict[str, Figure]:
    """The figures of `path_integration`, the sheet, and tau against the spacing."""
    drawn = path_integration.draw(readout)
    drawn["all_maps"] = _draw_all_maps(
        readout["rate_maps"], readout["extent_m"], sheet=_sheet(readout)
    )
    drawn["sheet"] = _draw_sheet(readout)
    if "tau" in readout:
        drawn["tau_and_scale"] = draw_tau_and_spacing(readout)
    return drawn


def _sheet(readout: HostReadout) -> Sheet:
    if "sheet" not in readout:  # of an earlier version, whose sheets were squares
        return sheet_of(len(readout["grid_score_60"]))
    rows, columns = map(int, readout["sheet"])
    return rows, columns


def _draw_all_maps(maps: np.ndarray, extent_m: np.ndarray, *, sheet: Sheet) -> Figure:
    rows, columns = sheet
    return figures.map_sheet(
        maps,
        columns=columns,
        extent_m=extent_m,
        title=f"Rate maps of all units, as they stand on the sheet of {rows} x {columns}",
    )


def _spacing_m(readout: HostReadout) -> np.ndarray:
    """Spacing (m) of the hexagonal grid that each map's strongest plane wave belongs to [unit]."""
    return 2 / math.sqrt(3) * np.asarray(readout["scale_m"])


def sheet_map(
    values: np.ndarray,
    *,
    sheet: Sheet,
    title: str,
    colour_label: str,
    colour_map: str = "viridis",
    limits: tuple[float, float] | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Values [unit] of the units at their places on the sheet, row by row from the top."""
    ax = figures.axes_or_new(ax, (4.0, 3.6))
    low, high = limits or (None, None)
    image = ax.imshow(
        np.asarray(values).reshape(sheet),
        cmap=colour_map,
        vmin=low,
        vmax=high,
        interpolation="nearest",
    )
    bar = figures.figure_of(ax).colorbar(image, ax=ax, shrink=0.8)
    bar.set_label(colour_label, fontsize=8)
    bar.ax.tick_params(labelsize=7)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(6, integer=True))
    ax.set_title(title, fontsize=9)
    ax.set_xlabel("column of the sheet", fontsize=8)
    ax.set_ylabel("row of the sheet", fontsize=8)
    ax.tick_params(labelsize=7)
    return figures.figure_of(ax)


def _draw_sheet(readout: HostReadout) -> Figure:
    """Maps over the sheet. Units that are not grid cells are white, except in the map of tau."""
    score = np.asarray(readout["grid_score_60"])
    grid = score > GRID_SCORE
    sheet = _sheet(readout)
    draw_sheet = partial(sheet_map, sheet=sheet)

    def of_grid(values: np.ndarray) -> np.ndarray:
        return np.where(grid & np.isfinite(values), values, np.nan)

    columns = 3 if "tau" in readout else 2
    figure = Figure(figsize=(3.55 * columns, 6.9), layout="constrained")
    figure.suptitle(
        f"The sheet of {sheet[0]} x {sheet[1]} units; white: grid score not above {GRID_SCORE} "
        f"({grid.sum()} units are above)",
        fontsize=11,
    )
    axes = list(figure.subplots(2, columns).flat)
    draw_sheet(score, title="grid score", colour_label="grid score", ax=axes[0])
    spacing_m = of_grid(_spacing_m(readout))
    shown = spacing_m[np.isfinite(spacing_m)]
    draw_sheet(
        spacing_m,
        title="grid spacing",
        colour_label="spacing (m), lowest 98 %",
        limits=tuple(np.quantile(shown, (0, 0.98))) if len(shown) else None,
        ax=axes[1],
    )
    cyclic = partial(draw_sheet, colour_label="degrees", colour_map="hsv")
    orientation = of_grid(np.degrees(readout["wave_direction_rad"]) % 60)
    cyclic(orientation, title="orientation, modulo 60 degrees", limits=(0, 60), ax=axes[2])
    phase = of_grid(np.degrees(readout["wave_phase_rad"]))
    cyclic(phase, title="phase of the strongest wave", limits=(-180, 180), ax=axes[3])
    if "tau" in readout:
        draw_sheet(readout["tau"], title="time constant", colour_label="tau (steps)", ax=axes[4])
        axes[5].set_axis_off()
    return figure


def draw_tau_and_spacing(readout: HostReadout, *, ax: Axes | None = None) -> Figure:
    """Time constant against grid spacing, one dot per unit, with the rank correlation."""
    ax = figures.axes_or_new(ax, (6.8, 4.6))
    score, tau = np.asarray(readout["grid_score_60"]), np.asarray(readout["tau"])
    spacing_m = _spacing_m(readout)
    for shown, colour, label in (
        (score <= GRID_SCORE, figures.GREY, "other units"),
        (score > GRID_SCORE, figures.SIMULATED, f"grid score above {GRID_SCORE}"),
    ):
        shown = shown & np.isfinite(spacing_m)
        label = f"{label} ({shown.sum()})"
        ax.plot(tau[shown], spacing_m[shown], ".", color=colour, markersize=5, label=label)
    ax.set_xlabel("time constant tau (steps)")
    ax.set_ylabel("grid spacing of the map (m)")
    ax.set_ylim(0, None)
    num_grid = int(np.sum((score > GRID_SCORE) & np.isfinite(spacing_m)))
    ax.set_title(
        "Time constant and spacing of the units\n"
        f"Spearman's rho {float(readout['tau_scale_correlation']):.2f}, "
        f"z {float(readout['tau_scale_z']):.1f}, n {num_grid} (grid score above {GRID_SCORE})",
        fontsize=10,
    )
    ax.legend(fontsize=8)
    return figures.figure_of(ax)

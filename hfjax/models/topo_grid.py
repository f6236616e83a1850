"""Grid cells on a sheet: neighbours that resemble each other, and time constants that are learned.

The path-integrating network of `grid_rnn`, walked by RatInABox's animals, whose units stand on a
square sheet. Three variants: as it is; with a penalty on units that receive other weights than
their neighbours; and with leaky units, whose time constants are learned and penalised where they
differ from their neighbours'.

Source: the repository TopographicGridCells; the penalty on weights is TopoLoss (Deb et al. 2025,
murtylab/topoloss).
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

from hfjax import arena, cells, check, figures, networks, ratemaps
from hfjax.models import grid_rnn
from hfjax.task import HostReadout, Readout, Scalars, Task

NUM_SHUFFLES = 200  # of the units on the sheet, beside which Moran's I is reported
GRID_SCORE = 0.3  # units above it count as grid cells in the statistics of the sheet

# The sheet -------------------------------------------------------------------------------------


def side_of(num_units: int) -> int:
    """Side of the square sheet. Raises ValueError where num_units is not a square of 2 or more."""
    side = math.isqrt(max(num_units, 0))
    if side < 2 or side**2 != num_units:
        raise ValueError(
            f"the number of units must be the square of 2 or more, for a square sheet, but is "
            f"{num_units}"
        )
    return side


def _halving_and_restoring(side: int) -> np.ndarray:
    """What a line of the sheet becomes when it is halved and restored, as a matrix [side, side].

    Bilinear on both ways, pixels with their centres at i + 1/2 (PyTorch's `interpolate` with
    align_corners=False): a pixel of the half line is the mean of two, and the whole line lies
    between them, the ends going on as they are.
    """
    half = side // 2
    down = np.zeros((half, side))
    down[np.arange(half), 2 * np.arange(half)] = down[np.arange(half), 2 * np.arange(half) + 1] = (
        0.5
    )
    source = np.clip((np.arange(side) + 0.5) * half / side - 0.5, 0, half - 1)
    low = np.floor(source).astype(int)
    high = np.minimum(low + 1, half - 1)
    up = np.zeros((side, half))
    up[np.arange(side), low] += 1 - (source - low)
    up[np.arange(side), high] += source - low
    return up @ down


def restored(values: jax.Array, *, side: int) -> jax.Array:
    """Values on the sheet after it was halved and restored, both bilinearly: [unit, ...], the same.

    Unit u stands in row u // side and column u % side.
    Source: `laplacian_pyramid_loss` of topoloss, with its factor of 2.
    """
    chex.assert_axis_dimension(values, 0, side**2)
    line = jnp.asarray(_halving_and_restoring(side), values.dtype)
    sheet = values.reshape(side, side, -1)
    rows = jnp.einsum("ij,jkf->ikf", line, sheet)
    return jnp.einsum("ij,kjf->kif", line, rows).reshape(values.shape)


class MoranI(NamedTuple):
    """statistic: I. shuffled_mean, shuffled_std: of the same values dealt anew to the units."""

    statistic: jax.Array
    shuffled_mean: jax.Array
    shuffled_std: jax.Array


def morans_i(
    values: jax.Array,
    among: jax.Array,
    key: jax.Array,
    *,
    side: int,
    num_shuffles: int = NUM_SHUFFLES,
) -> MoranI:
    """How alike neighbours on the sheet are: 1 for equals, about 0 for strangers.

        I = (N / W) sum_uv w_uv (x_u - m).(x_v - m) / sum_u |x_u - m|^2,
    w_uv = 1 where v is next to u in its row or column and both count, else 0; W their sum, N how
    many count, m their mean. Angles are given as cos and sin.

    values [unit, component], among [unit] of bool -> MoranI, three scalars; 0 where nothing varies
    or nobody has a neighbour. Source: Moran 1950.
    """
    chex.assert_shape([values], (side**2, None))
    chex.assert_shape([among], (side**2,))
    m = among.reshape(side, side).astype(values.dtype)
    count = jnp.sum(m)
    pairs = jnp.sum(m[1:] * m[:-1]) + jnp.sum(m[:, 1:] * m[:, :-1])  # each once
    counted = among[:, None]
    values = jnp.where(counted, values, 0)
    x = jnp.where(counted, values - jnp.sum(values, axis=0, keepdims=True) / count, 0)
    variance = jnp.sum(x**2)

    def index(x: jax.Array) -> jax.Array:
        sheet = x.reshape(side, side, -1)
        alike = jnp.sum(sheet[1:] * sheet[:-1]) + jnp.sum(sheet[:, 1:] * sheet[:, :-1])
        valid = (pairs > 0) & (variance > 0)
        found = count * alike / (jnp.where(valid, pairs, 1) * jnp.where(valid, variance, 1))
        return jnp.where(valid, found, 0)

    places = jnp.argsort(~among)  # those that count come first

    def shuffled(key: jax.Array) -> jax.Array:
        order = jnp.argsort(jnp.where(among, jax.random.uniform(key, among.shape), jnp.inf))
        return index(jnp.zeros_like(x).at[places].set(x[order]))

    others = jax.lax.map(shuffled, jax.random.split(key, num_shuffles))
    return MoranI(index(x), jnp.mean(others), jnp.std(others))


def spearman(a: jax.Array, b: jax.Array, among: jax.Array) -> jax.Array:
    """Rank correlation of a and b over the units that count; equals share their mean rank.

    a, b [unit], among [unit] of bool -> scalar, 0 where one of them does not vary.
    """

    def ranks(x: jax.Array) -> jax.Array:
        above = (x[:, None] > x[None]) + 0.5 * (x[:, None] == x[None])
        rank = above @ among.astype(above.dtype)
        return jnp.where(among, rank - jnp.sum(rank * among) / count, 0)

    count = jnp.maximum(jnp.sum(among), 1)
    rank_a, rank_b = ranks(a), ranks(b)
    scale = jnp.sqrt(jnp.sum(rank_a**2) * jnp.sum(rank_b**2))
    return jnp.where(scale > 0, jnp.sum(rank_a * rank_b) / jnp.where(scale > 0, scale, 1), 0)


# Time constants --------------------------------------------------------------------------------

# (key, *, side, tau_min, tau_max) -> time constants [unit] (steps)
TauInit = Callable[..., jax.Array]


def random_tau(key: jax.Array, *, side: int, tau_min: float, tau_max: float) -> jax.Array:
    """Uniform between the bounds, each unit by itself; as published."""
    return jax.random.uniform(key, (side**2,), minval=tau_min, maxval=tau_max)


def gradient_tau(key: jax.Array, *, side: int, tau_min: float, tau_max: float) -> jax.Array:
    """From tau_min in the first row to tau_max in the last, evenly."""
    del key
    return jnp.repeat(jnp.linspace(tau_min, tau_max, side), side)


def radial_tau(key: jax.Array, *, side: int, tau_min: float, tau_max: float) -> jax.Array:
    """From tau_min in the middle of the sheet to tau_max in its corners, by the distance."""
    del key
    line = jnp.linspace(-1, 1, side)
    distance = jnp.hypot(line[:, None], line[None]) / math.sqrt(2)
    return (tau_min + (tau_max - tau_min) * distance).reshape(-1)


def striped_tau(
    key: jax.Array, *, side: int, tau_min: float, tau_max: float, num_stripes: int = 4
) -> jax.Array:
    """Stripes of rows, each of one time constant, evenly from tau_min to tau_max.

    Rows that are left belong to the last stripe. Raises ValueError where there are more stripes
    than rows.
    """
    del key
    check.at_least(1, num_stripes=num_stripes)
    if num_stripes > side:
        raise ValueError(f"num_stripes must be at most {side}, the rows, but is {num_stripes}")
    stripe = np.minimum(np.arange(side) // (side // num_stripes), num_stripes - 1)
    return jnp.repeat(jnp.linspace(tau_min, tau_max, num_stripes)[stripe], side)


def equal_tau(key: jax.Array, *, side: int, tau_min: float, tau_max: float) -> jax.Array:
    """The middle between the bounds for all."""
    del key
    return jnp.full(side**2, (tau_min + tau_max) / 2, float)


class Units(NamedTuple):
    """The units of the sheet; made by `plain_units` or `leaky_units`.

    network: as in `grid_rnn`. tau (its params) -> time constants [unit] (steps), None where the
    units have none.
    """

    network: grid_rnn.Network
    tau: Callable[[Any], jax.Array] | None


def plain_units(
    *,
    recurrent_init: networks.RecurrentInit = networks.uniform_fan_in,
    input_gain: float = 1.0,
) -> Units:
    """Relu units without leak, as in `grid_rnn`."""
    return Units(grid_rnn.vanilla(recurrent_init=recurrent_init, input_gain=input_gain), None)


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
    """Units with time constants of their own: `networks.leaky_rnn`, Glorot-uniform weights.

    learned: whether the time constants are; otherwise they stay as they were drawn. input_gain
    multiplies the first weights of the inputs.
    Raises ValueError where tau_min is below one step or above tau_max, or input_gain not positive.
    Source: TopographicGridCells `TauRNN`.
    """
    if not 1 <= tau_min <= tau_max < math.inf:
        raise ValueError(
            f"1 <= tau_min <= tau_max must hold (steps), but tau_min is {tau_min} and tau_max is "
            f"{tau_max}"
        )
    check.positive(input_gain=input_gain)

    def init(key: jax.Array, *, num_in: int, num_units: int) -> networks.LeakyRNNParams:
        input_key, recurrent_key, tau_key = jax.random.split(key, 3)
        tau = tau_init(tau_key, side=side_of(num_units), tau_min=tau_min, tau_max=tau_max)
        return networks.LeakyRNNParams(
            inputs=input_gain * networks.glorot_init(input_key, num_in=num_in, num_out=num_units),
            recurrent=recurrent_init(recurrent_key, num_units),
            log_tau=jnp.log(tau),
        )

    def as_learned(params: networks.LeakyRNNParams) -> networks.LeakyRNNParams:
        return params if learned else params._replace(log_tau=jax.lax.stop_gradient(params.log_tau))

    def apply(params: networks.LeakyRNNParams, h0: jax.Array, inputs: jax.Array) -> jax.Array:
        return networks.leaky_rnn(
            as_learned(params),
            h0,
            inputs,
            nonlinearity=nonlinearity,
            tau_min=tau_min,
            tau_max=tau_max,
        )

    def tau(params: networks.LeakyRNNParams) -> jax.Array:
        log_tau = as_learned(params).log_tau
        return networks.time_constants(log_tau, tau_min=tau_min, tau_max=tau_max)

    network = grid_rnn.Network(init, 1, apply, weights=lambda params: params.recurrent)
    return Units(network, tau)


# Penalties -------------------------------------------------------------------------------------

# (params of the network, tau [unit] or None, *, side) -> (addition to the loss, scalars)
Penalty = Callable[..., tuple[jax.Array, dict[str, jax.Array]]]


def no_penalty(
    params: Any, tau: jax.Array | None, *, side: int
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """None: units need not resemble their neighbours."""
    del params, tau, side
    return jnp.zeros(()), {}


def unlike_weights(
    params: Any, tau: jax.Array | None, *, side: int, weight: float = 1.0
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """weight (1 - mean over units of cos(w_u, w'_u)): w_u the recurrent weights that unit u
    receives, w' the same after the sheet was halved and restored.

    Scalar: topographic_loss, without its weight.
    Source: TopoLoss; `rnn_laplacian_pyramid_loss` of TopographicGridCells.
    """
    del tau
    w = params.recurrent.T  # [to, from]
    blurred = restored(w, side=side)
    product = jnp.sum(w * blurred, axis=1)
    norms = jnp.linalg.norm(w, axis=1) * jnp.linalg.norm(blurred, axis=1)
    loss = 1 - jnp.mean(product / jnp.maximum(norms, 1e-8))
    return weight * loss, {"topographic_loss": loss}


def less_than_variance(tau: jax.Array) -> jax.Array:
    """-var(tau), unbiased: the more the time constants differ the better; as published."""
    return -jnp.var(tau, ddof=1)


def off_the_ramp(tau: jax.Array) -> jax.Array:
    """Mean squared distance of the sorted tau to even steps from the least to the largest.

    No gradient goes into the ends of the ramp.
    """
    ends = jax.lax.stop_gradient((jnp.min(tau), jnp.max(tau)))
    return jnp.mean((jnp.sort(tau) - jnp.linspace(*ends, tau.shape[0])) ** 2)


def unlike_tau(
    params: Any,
    tau: jax.Array | None,
    *,
    side: int,
    smoothness: float = 1.0,
    spread: float = 0.1,
    spread_term: Callable[[jax.Array], jax.Array] = less_than_variance,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """smoothness mean (tau - tau')^2 + spread spread_term(tau), tau' after halving and restoring.

    spread_term: `less_than_variance` or `off_the_ramp`, which keep tau from becoming one number.
    Scalars: tau_roughness, the mean square; tau_mean, tau_std.
    Raises ValueError where the units have no time constants.
    Source: TopographicGridCells `tau_topographic_loss`, and `..._v2` with the ramp.
    """
    del params
    if tau is None:
        raise ValueError("unlike_tau needs units with time constants: leaky_units")
    roughness = jnp.mean((tau - restored(tau, side=side)) ** 2)
    scalars = {"tau_roughness": roughness, "tau_mean": jnp.mean(tau), "tau_std": jnp.std(tau)}
    return smoothness * roughness + spread * spread_term(tau), scalars


# The task --------------------------------------------------------------------------------------


def rat_walk(
    key: jax.Array,
    *,
    batch_size: int,
    num_steps: int,
    width_m: float,
    dt_s: float,
    boundary: arena.Boundary,
    speed_mean_mps: float = 1.02,
    speed_coherence_s: float = 0.5,
    thigmotaxis: float = 0.5,
) -> arena.Walk:
    """RatInABox's animals, as fast as those of Sorscher et al.: for `motion=` of `grid_rnn.task`.

    Rayleigh speeds; turns as RatInABox has them. Source: TopographicGridCells `datagen`, which also
    names a deviation of the speed, 0.53 m/s, that RatInABox does not use in two dimensions.
    Deviation: displacements are those walked. There they are the velocity of the motion model
    times dt, which knows nothing of the shift along walls, so that a path cannot be integrated
    exactly within 10 cm of one.
    """
    return arena.random_walk(
        key,
        batch_size=batch_size,
        num_steps=num_steps,
        environment=arena.box(width_m, periodic=boundary is arena.wrap_around),
        motion=arena.motion(
            dt_s=dt_s,
            speed_mean_mps=speed_mean_mps,
            speed_coherence_s=speed_coherence_s,
            thigmotaxis=thigmotaxis,
        ),
    )


def jittered_lattice(key: jax.Array, *, num_place: int, width_m: float) -> jax.Array:
    """`cells.jittered_centres` in two dimensions, for `place_centres=` of `grid_rnn.task`."""
    return cells.jittered_centres(key, num_place=num_place, width_m=width_m, num_dims=2)


def difference_of_gaussians(
    positions: jax.Array,
    centres: jax.Array,
    *,
    sigma_m: float,
    distance_sq: cells.DistanceSq = cells.euclidean_sq,
) -> jax.Array:
    """`cells.difference_of_gaussians` as RatInABox has it, for `place_code=` of `grid_rnn.task`."""
    return cells.difference_of_gaussians(
        positions, centres, sigma_m=sigma_m, ratio=1.5, peak=1.0, distance_sq=distance_sq
    )


def floored_cross_entropy(outputs: jax.Array, code: jax.Array) -> jax.Array:
    """-sum_i p_i log(softmax(outputs)_i + 1e-10): [..., place] twice -> [...]; as published.

    The small number is what bounds it for codes that are negative in their surround.
    """
    return -jnp.sum(code * jnp.log(jax.nn.softmax(outputs, axis=-1) + 1e-10), axis=-1)


def task(
    *,
    num_units: int = 4096,
    num_place: int = 512,
    sigma_m: float = 0.12,
    batch_size: int = 200,
    num_steps: int = 20,
    dt_s: float = 0.02,
    learning_rate: float | optax.Schedule = 1e-4,
    weight_decay: float = 1e-4,
    readout_decay: float = 0.0,
    activity_decay: float = 0.0,
    max_gradient_norm: float | None = 1.0,
    encoder_gain: float = 1.0,
    units: Units | None = None,
    penalty: Penalty = no_penalty,
    box: grid_rnn.Box | None = None,
    motion: Callable[..., arena.Walk] = rat_walk,
    encoder_init: Callable[..., jax.Array] = networks.linear_init,
    decoder_init: Callable[..., jax.Array] = networks.glorot_init,
    place_centres: Callable[..., jax.Array] = jittered_lattice,
    place_code: Callable[..., jax.Array] = difference_of_gaussians,
    objective: Callable[[jax.Array, jax.Array], jax.Array] = floored_cross_entropy,
    eval_steps: int = 20,
    rollout_steps: int = 500,
    num_rollouts: int = 100,
    num_map_walks: int = 10_000,
    num_bins: int = 32,
    num_noise_maps: int = 1000,
) -> Task:
    """Path integration by units on a sheet, as a Task: `grid_rnn.task` with what is said there.

    units default to `plain_units()`, box to a walled one of 2.2 m. penalty: `no_penalty`,
    `unlike_weights` or `unlike_tau`.

    Evaluation, of walks of eval_steps, adds to that of `grid_rnn` what lies where on the sheet.
    Over units with a grid score above 0.3: grid_units, their number; moran_scale,
    moran_orientation, moran_phase, Moran's I of the map's strongest plane wave
    (`ratemaps.plane_waves`; orientations count modulo 60 degrees); over all units moran_tau. Beside
    each, ..._z, by how many standard deviations it lies above that of shuffled units.
    tau_scale_correlation: Spearman's, of tau with the wavelength, over the grid units, and
    tau_scale_z, the same in units of 1/sqrt(grid_units - 1), its deviation by chance where units
    are independent (which those of a smooth tau are not).
    Raises ValueError where num_units is not a square, and what `grid_rnn.task` raises.

    Source: TopographicGridCells `train_grid`; the defaults are its values. The wavelength is the
    "scale" of its maps (`get_spectral_scale_colors`). Deviations: see `rat_walk`; wave numbers are
    interpolated between whole ones.
    """
    side = side_of(num_units)
    chosen = plain_units() if units is None else units
    space = grid_rnn.walled_box() if box is None else box

    def penalise(params: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        return penalty(params, None if chosen.tau is None else chosen.tau(params), side=side)

    if penalty is not no_penalty:
        key = jax.random.key(0)
        jax.eval_shape(lambda: penalise(chosen.network.init(key, num_in=2, num_units=num_units)))
    network = grid_rnn.task(
        num_grid=num_units,
        num_place=num_place,
        sigma_m=sigma_m,
        batch_size=batch_size,
        num_steps=num_steps,
        dt_s=dt_s,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        readout_decay=readout_decay,
        activity_decay=activity_decay,
        max_gradient_norm=max_gradient_norm,
        encoder_gain=encoder_gain,
        network=chosen.network,
        box=space,
        motion=motion,
        encoder_init=encoder_init,
        decoder_init=decoder_init,
        penalty=None if penalty is no_penalty else penalise,
        place_centres=place_centres,
        place_code=place_code,
        objective=objective,
        eval_steps=eval_steps,
        rollout_steps=rollout_steps,
        num_rollouts=num_rollouts,
        num_map_walks=num_map_walks,
        num_bins=num_bins,
        num_noise_maps=num_noise_maps,
    )

    def evaluate(state: grid_rnn.State, data: Any, key: jax.Array) -> tuple[Scalars, Readout]:
        key, sheet_key = jax.random.split(key)
        scalars, readout = network.evaluate(state, data, key)
        tau = None if chosen.tau is None else chosen.tau(state.params.network)
        found, maps = on_the_sheet(
            readout["rate_maps"],
            readout["grid_score_60"],
            tau,
            sheet_key,
            side=side,
            width_m=space.width_m,
        )
        mean_score = {"mean_grid_score": jnp.mean(readout["grid_score_60"])}
        return scalars | mean_score | found, readout | maps

    return network._replace(evaluate=evaluate, figures=draw)


def on_the_sheet(
    maps: jax.Array,
    grid_score: jax.Array,
    tau: jax.Array | None,
    key: jax.Array,
    *,
    side: int,
    width_m: float,
) -> tuple[Scalars, Readout]:
    """Scalars on the order of the sheet, as `task` tells, and what lies where.

    maps [unit, x, y], grid_score [unit], tau [unit] or None
    -> scalars; {"scale_m", "wave_direction_rad", "wave_phase_rad", and "tau" where there is one:
    [unit]}.
    """
    wave = ratemaps.plane_waves(maps, bin_width_m=width_m / maps.shape[1])
    grid = (grid_score > GRID_SCORE) & jnp.isfinite(wave.wavelength)
    scale = jnp.where(jnp.isfinite(wave.wavelength), wave.wavelength, 0)

    def circular(angle: jax.Array) -> jax.Array:
        return jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=1)

    layers = {
        "scale": (scale[:, None], grid),
        "orientation": (circular(6 * wave.direction), grid),
        "phase": (circular(wave.phase), grid),
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
    for (name, (values, among)), own_key in zip(
        layers.items(), jax.random.split(key, len(layers)), strict=True
    ):
        moran = morans_i(values, among, own_key, side=side)
        scalars[f"moran_{name}"] = moran.statistic
        std = moran.shuffled_std
        scalars[f"moran_{name}_z"] = jnp.where(
            std > 0, (moran.statistic - moran.shuffled_mean) / jnp.where(std > 0, std, 1), 0
        )
    return scalars, readout


# Figures ---------------------------------------------------------------------------------------


def draw(readout: HostReadout) -> dict[str, Figure]:
    """The figures of `grid_rnn`, the maps over the sheet, and tau against the scale."""
    drawn = grid_rnn.draw(readout) | {"sheet": _draw_sheet(readout)}
    if "tau" in readout:
        drawn["tau_and_scale"] = _draw_tau_and_scale(readout)
    return drawn


def _draw_sheet(readout: HostReadout) -> Figure:
    """What lies where on the sheet; units that are no grid cells are left white, but for tau."""
    score = np.asarray(readout["grid_score_60"])
    grid = score > GRID_SCORE
    side = math.isqrt(len(score))

    def of_grid(values: np.ndarray) -> np.ndarray:
        return np.where(grid & np.isfinite(values), values, np.nan)

    direction = np.degrees(readout["wave_direction_rad"])
    panels: dict[str, tuple[np.ndarray, str, tuple[float | None, float | None]]] = {
        "grid score": (score, "viridis", (None, None)),
        "scale: wavelength (m)": (of_grid(readout["scale_m"]), "viridis", (None, None)),
        "orientation, modulo 60 (degrees)": (of_grid(direction % 60), "hsv", (0, 60)),
        "phase (degrees)": (of_grid(np.degrees(readout["wave_phase_rad"])), "hsv", (-180, 180)),
    }
    if "tau" in readout:
        panels["time constant tau (steps)"] = np.asarray(readout["tau"]), "viridis", (None, None)
    figure = Figure(figsize=(0.4 + 3.1 * len(panels), 3.5), layout="constrained")
    figure.suptitle(
        f"The sheet of {side} x {side} units; white: grid score not above {GRID_SCORE}", fontsize=11
    )
    for ax, (title, (values, colours, (low, high))) in zip(
        figure.subplots(1, len(panels)), panels.items(), strict=True
    ):
        image = ax.imshow(
            values.reshape(side, side), cmap=colours, vmin=low, vmax=high, interpolation="nearest"
        )
        figure.colorbar(image, ax=ax, shrink=0.75).ax.tick_params(labelsize=7)
        ax.set_title(title, fontsize=9)
        ax.set_xlabel("column", fontsize=8)
        ax.tick_params(labelsize=7)
    figure.axes[0].set_ylabel("row", fontsize=8)
    return figure


def _draw_tau_and_scale(readout: HostReadout) -> Figure:
    """Time constant against wavelength, a dot a unit."""
    score, tau = np.asarray(readout["grid_score_60"]), np.asarray(readout["tau"])
    scale = np.asarray(readout["scale_m"])
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    ax = figure.subplots()
    for shown, colour, label in (
        (score <= GRID_SCORE, figures.GREY, "other units"),
        (score > GRID_SCORE, figures.SIMULATED, f"grid score above {GRID_SCORE}"),
    ):
        shown = shown & np.isfinite(scale)
        ax.plot(
            tau[shown],
            scale[shown],
            ".",
            color=colour,
            markersize=5,
            label=f"{label} ({shown.sum()})",
        )
    ax.set(xlabel="time constant tau (steps)", ylabel="scale: wavelength of the rate map (m)")
    ax.set_title("Does the time constant of a unit set the scale of its map?", fontsize=11)
    ax.legend(fontsize=8)
    return figure

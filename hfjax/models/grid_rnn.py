"""A recurrent network that learns to path-integrate, and whose units become spatial cells.

The network is told where a walk starts, by the place cells that fire there, and then only the
displacement of each step. It is trained to tell which place cells fire along the walk.

Source: Sorscher, Mel, Ganguli & Ocko, NeurIPS 2019, and Sorscher et al., Neuron 2023; their
repository grid-pattern-formation.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

from hfjax import arena, cells, check, decoders, figures, networks, ratemaps
from hfjax.task import HostReadout, Readout, Scalars, Task

# Walks are evaluated in groups of about this many positions, to bound memory: 4096 units take
# 0.25 GiB for each array of [group, time, unit].
POSITIONS_AT_ONCE = 16_384


class Box(NamedTuple):
    """A square arena centred on 0 and its geometry; made by `walled_box` or `periodic_box`.

    boundary, distance_sq: as in `arena` and `cells`.
    decode (outputs [..., place], centres [place, 2]) -> positions [..., 2].
    offset (from [..., 2], to [..., 2]) -> the shortest way [..., 2].
    """

    width_m: float
    boundary: arena.Boundary
    distance_sq: cells.DistanceSq
    decode: Callable[[jax.Array, jax.Array], jax.Array]
    offset: Callable[[jax.Array, jax.Array], jax.Array]


def walled_box(*, width_m: float = 2.2) -> Box:
    """A square arena with walls, as published."""
    check.positive(width_m=width_m)
    return Box(
        width_m,
        boundary=arena.avoid_walls,
        distance_sq=cells.euclidean_sq,
        decode=decoders.decode_position,
        offset=lambda origin, goal: goal - origin,
    )


def periodic_box(*, width_m: float = 2.2) -> Box:
    """A square without walls: who leaves on one side enters on the other.

    Deviation: the original keeps the plain mean of the three decoded centres, and the plain
    distance to it, also where they lie on opposite sides of the seam. Here both go round.
    """
    check.positive(width_m=width_m)

    def decode(outputs: jax.Array, centres: jax.Array) -> jax.Array:
        angle = centres * (2 * np.pi / width_m)
        sine = decoders.decode_position(outputs, jnp.sin(angle))
        cosine = decoders.decode_position(outputs, jnp.cos(angle))
        return jnp.arctan2(sine, cosine) * (width_m / (2 * np.pi))

    def offset(origin: jax.Array, goal: jax.Array) -> jax.Array:
        return arena.wrap(goal - origin, -width_m / 2, width_m / 2)

    return Box(
        width_m,
        boundary=arena.wrap_around,
        distance_sq=cells.periodic_sq(width_m),
        decode=decode,
        offset=offset,
    )


class Network(NamedTuple):
    """A recurrent network as functions; made by `vanilla` or `lstm`.

    init (key, *, num_in, num_units) -> params, a NamedTuple with a field `recurrent`.
    num_starts: how many vectors of [unit] its start takes.
    apply (params, starts [batch, num_starts * unit], inputs [batch, time, in])
        -> hidden [batch, time, unit].
    weights (params) -> [unit, unit], (from, to): the recurrent weights to look at.
    """

    init: Callable[..., Any]
    num_starts: int
    apply: Callable[..., jax.Array]
    weights: Callable[[Any], jax.Array]


def vanilla(
    *,
    nonlinearity: networks.Nonlinearity = networks.relu,
    recurrent_init: networks.RecurrentInit = networks.uniform_fan_in,
    input_gain: float = 1.0,
) -> Network:
    """h_t = f(v_t W_i + h_tm1 W_h), without biases, as published; see `networks.rnn_init`."""
    check.positive(input_gain=input_gain)
    return Network(
        init=partial(networks.rnn_init, recurrent_init=recurrent_init, input_gain=input_gain),
        num_starts=1,
        apply=partial(networks.rnn, nonlinearity=nonlinearity),
        weights=lambda params: params.recurrent,
    )


def lstm() -> Network:
    """A long short-term memory. The weights to look at are those from h to the new content g.

    The original code names this option and does not have it; the start of both h and c is read
    from the place code, as in its `square_grid_cells.ipynb`.
    """

    def apply(params: networks.LSTMParams, starts: jax.Array, inputs: jax.Array) -> jax.Array:
        h0, c0 = jnp.split(starts, 2, axis=-1)
        return networks.lstm(params, h0, c0, inputs)

    return Network(
        init=networks.lstm_init,
        num_starts=2,
        apply=apply,
        weights=lambda params: jnp.split(params.recurrent, 4, axis=-1)[2],
    )


class Params(NamedTuple):
    """encoder W_e [place, starts * unit], the network's own, decoder W_d [unit, place]."""

    encoder: jax.Array
    network: Any
    decoder: jax.Array


class State(NamedTuple):
    """What a checkpoint holds. place_centres [place, 2] (m) are drawn once, for each seed anew."""

    params: Params
    opt_state: Any
    place_centres: jax.Array


def cross_entropy(outputs: jax.Array, code: jax.Array) -> jax.Array:
    """-sum_i p_i log softmax(outputs)_i for a code p: [..., place] twice -> [...]. As published.

    Written with the logarithm of the normaliser taken out of the sum, which spares an array.
    """
    normaliser = jax.nn.logsumexp(outputs, axis=-1) * jnp.sum(code, axis=-1)
    return normaliser - jnp.sum(code * outputs, axis=-1)


def squared_error(outputs: jax.Array, code: jax.Array) -> jax.Array:
    """sum_i (outputs_i - p_i)^2: [..., place] twice -> [...].

    For codes that can be negative, which have no cross-entropy with a lower bound.
    """
    return jnp.sum((outputs - code) ** 2, axis=-1)


def task(
    *,
    num_grid: int = 4096,
    num_place: int = 512,
    sigma_m: float = 0.12,
    batch_size: int = 200,
    num_steps: int = 20,
    dt_s: float = 0.02,
    learning_rate: float | optax.Schedule = 1e-4,
    weight_decay: float = 1e-4,
    readout_decay: float = 0.0,
    activity_decay: float = 0.0,
    encoder_gain: float = 1.0,
    max_gradient_norm: float | None = None,
    network: Network | None = None,
    box: Box | None = None,
    motion: Callable[..., arena.Walk] = arena.sorscher_walk,
    encoder_init: Callable[..., jax.Array] = networks.linear_init,
    decoder_init: Callable[..., jax.Array] = networks.linear_init,
    penalty: Callable[[Any], tuple[jax.Array, dict[str, jax.Array]]] | None = None,
    place_centres: Callable[..., jax.Array] = cells.place_centres,
    place_code: Callable[..., jax.Array] = cells.softmax_surround,
    objective: Callable[[jax.Array, jax.Array], jax.Array] = cross_entropy,
    eval_steps: int = 20,
    rollout_steps: int = 500,
    num_rollouts: int = 100,
    num_map_walks: int = 5000,
    num_bins: int = 20,
    num_noise_maps: int = 1000,
) -> Task:
    """Path integration from displacements to place cells, as a Task.

    h_0 = p_0 W_e;  h_t = f(v_t W_i + h_tm1 W_h);  y_t = h_t W_d
    loss = mean over batch and time of objective(y_t, p_t) + weight_decay sum W_h^2
           + readout_decay sum W_d^2 + activity_decay mean h_t^2;  Adam.
    p_t [batch, place] is the place code at the position of step t, v_t [batch, 2] the displacement
    in metres. Weights start uniform in +-1/sqrt(fan in), the encoder's times encoder_gain.

    num_grid: hidden units. sigma_m: width of place fields. num_steps, dt_s: length of a training
    walk. learning_rate: a number, or an optax schedule. place_centres, place_code: of `cells`.
    objective (outputs, code) -> [...]. network defaults to `vanilla()`, box to `walled_box()`.
    motion: as `arena.sorscher_walk`. encoder_init, decoder_init: as `networks.linear_init`.
    penalty (the network's own params) -> (what to add to the loss, its scalars by name).
    max_gradient_norm: a longer gradient, of all parameters together, is cut to this norm.
    Evaluation, see `evaluation`: eval_steps, rollout_steps, num_rollouts, num_map_walks, num_bins,
    num_noise_maps. `data` is () or what `recordings.sargolini` returns.

    step's scalars: loss; code_loss, the loss without decays and penalty; those of the penalty;
    error_cm, the mean distance between true and decoded positions (at five steps evenly spread, of
    walks of ten or more).
    Raises ValueError where a size is below 1, or a width, a time, a rate or a gain is not
    positive, or a decay is negative.

    Source: grid-pattern-formation `main`, `model`, `trainer`; the defaults are its published
    values; readout_decay and activity_decay, which it does not have, are 0. Penalty and
    max_gradient_norm are for `topo_grid`. Deviations: place
    centres are uniform with another generator, and differ between seeds; evaluation walks are held
    out by their keys.
    """
    check.at_least(
        1,
        num_grid=num_grid,
        batch_size=batch_size,
        num_steps=num_steps,
        eval_steps=eval_steps,
        rollout_steps=rollout_steps,
        num_rollouts=num_rollouts,
        num_map_walks=num_map_walks,
        num_noise_maps=num_noise_maps,
    )
    check.positive(sigma_m=sigma_m, dt_s=dt_s, encoder_gain=encoder_gain)
    if not callable(learning_rate):
        check.positive(learning_rate=learning_rate)
    if max_gradient_norm is not None:
        check.positive(max_gradient_norm=max_gradient_norm)
    if num_place < 3:
        raise ValueError(f"num_place must be at least 3 for decoding, but is {num_place}")
    check.not_negative(
        weight_decay=weight_decay, readout_decay=readout_decay, activity_decay=activity_decay
    )
    net = vanilla() if network is None else network
    space = walled_box() if box is None else box
    optimizer = optax.adam(learning_rate)
    if max_gradient_norm is not None:
        optimizer = optax.chain(optax.clip_by_global_norm(max_gradient_norm), optimizer)
    code = partial(place_code, sigma_m=sigma_m, distance_sq=space.distance_sq)

    def walks(key: jax.Array, count: int, length: int) -> arena.Walk:
        return motion(
            key,
            batch_size=count,
            num_steps=length,
            width_m=space.width_m,
            dt_s=dt_s,
            boundary=space.boundary,
        )

    def init(key: jax.Array, data: Any) -> State:
        del data
        encoder_key, network_key, decoder_key, place_key = jax.random.split(key, 4)
        params = Params(
            encoder=encoder_gain
            * encoder_init(encoder_key, num_in=num_place, num_out=net.num_starts * num_grid),
            network=net.init(network_key, num_in=2, num_units=num_grid),
            decoder=decoder_init(decoder_key, num_in=num_grid, num_out=num_place),
        )
        centres = place_centres(place_key, num_place=num_place, width_m=space.width_m)
        return State(params, optimizer.init(params), centres)

    def sample(data: Any, key: jax.Array) -> arena.Walk:
        del data
        return walks(key, batch_size, num_steps)

    def forward(params: Params, centres: jax.Array, walk: arena.Walk):
        starts = code(walk.start, centres) @ params.encoder
        hidden = net.apply(params.network, starts, walk.displacements)
        return hidden, networks.linear(params.decoder, hidden)

    def loss(params: Params, centres: jax.Array, walk: arena.Walk):
        hidden, y = forward(params, centres, walk)
        code_loss = jnp.mean(objective(y, code(walk.positions, centres)))
        total = code_loss + weight_decay * jnp.sum(params.network.recurrent**2)
        if readout_decay:
            total += readout_decay * jnp.sum(params.decoder**2)
        if activity_decay:
            total += activity_decay * jnp.mean(hidden**2)
        reports: dict[str, jax.Array] = {}
        if penalty is not None:
            added, reports = penalty(params.network)
            total += added
        return total, (code_loss, y, reports)

    def step(state: State, batch: arena.Walk, key: jax.Array):
        del key
        params, opt_state, centres = state
        (total, (code_loss, y, reports)), gradient = jax.value_and_grad(loss, has_aux=True)(
            params, centres, batch
        )
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        # Decoding all of a long walk would take a tenth of a small network's time.
        stride = max(1, num_steps // 5)
        some = slice(stride // 2, None, stride)
        offset = space.offset(batch.positions[:, some], space.decode(y[:, some], centres))
        error_m = jnp.linalg.norm(offset, axis=-1)
        scalars = {"loss": total, "code_loss": code_loss, "error_cm": 100 * jnp.mean(error_m)}
        scalars |= reports
        return State(optax.apply_updates(params, updates), opt_state, centres), scalars

    evaluate = evaluation(
        forward=lambda state, walk: forward(state.params, state.place_centres, walk),
        weights=lambda state: net.weights(state.params.network),
        num_units=num_grid,
        code=code,
        walks=walks,
        box=space,
        dt_s=dt_s,
        num_steps=eval_steps,
        rollout_steps=rollout_steps,
        num_rollouts=num_rollouts,
        num_map_walks=num_map_walks,
        num_bins=num_bins,
        num_noise_maps=num_noise_maps,
    )
    return Task(init, sample, step, evaluate, draw)


def walk_along(positions: jax.Array) -> arena.Walk:
    """The Walk along recorded positions [batch, time + 1, 2] (m); the first one is the start.

    The heading at the start, which a recording of positions lacks, is that of the first step.
    """
    chex.assert_shape(positions, (None, None, 2))
    displacements = positions[:, 1:] - positions[:, :-1]
    headings = jnp.arctan2(displacements[..., 1], displacements[..., 0])
    return arena.Walk(
        start=positions[:, 0],
        start_heading=headings[:, 0],
        positions=positions[:, 1:],
        displacements=displacements,
        headings=headings,
    )


def evaluation(
    *,
    forward: Callable[[Any, arena.Walk], tuple[jax.Array, jax.Array]],
    weights: Callable[[Any], jax.Array | None],
    num_units: int,
    code: Callable[[jax.Array, jax.Array], jax.Array],
    walks: Callable[[jax.Array, int, int], arena.Walk],
    box: Box,
    dt_s: float,
    num_steps: int,
    rollout_steps: int,
    num_rollouts: int,
    num_map_walks: int,
    num_bins: int,
    num_noise_maps: int,
) -> Callable[..., tuple[Scalars, Readout]]:
    """A Task's `evaluate` for any network that path-integrates to place cells.

    forward (state, walk) -> activity [batch, time, unit], outputs [batch, time, place].
    weights (state) -> [unit, unit] between those units, or None where there are none.
    state has `place_centres`. walks (key, batch, time) -> Walk.

    Four questions, on walks that were not trained on:
    - How far from the true position is the decoded one, in walks as long as the training ones and
      in rollouts of rollout_steps? Beside it the floor: the error that is left when the true
      position itself is coded and decoded.
    - And along the paths of a real rat (where data holds "rat_positions", in box widths)?
    - What does each unit respond to? Rate maps over num_map_walks walks of num_steps steps, grid
      scores, and the share of units above the thresholds of the field, beside the same share of
      num_noise_maps maps of low-pass filtered noise.
    - Is the population low-dimensional? See `torus`.
    """
    half = box.width_m / 2
    extent = ((-half, half), (-half, half))

    def integrate(state, walk):
        activity, outputs = forward(state, walk)
        decoded = box.decode(outputs, state.place_centres)
        floor = box.decode(code(walk.positions, state.place_centres), state.place_centres)
        return activity, decoded, floor

    def distance_cm(walk, decoded):
        return 100 * jnp.linalg.norm(box.offset(walk.positions, decoded), axis=-1)

    def decode_all(state, walk):
        """Decoded positions and their floor, both [walk, time, 2], a group of walks at a time."""
        count, length = walk.positions.shape[:2]
        num_groups = -(-count * length // POSITIONS_AT_ONCE)
        group = -(-count // num_groups)
        index = jnp.arange(num_groups * group) % count  # the last group is filled up with others
        decoded, floor = jax.lax.map(
            lambda members: integrate(state, jax.tree.map(lambda x: x[members], walk))[1:],
            index.reshape(num_groups, group),
        )
        return tuple(x.reshape(-1, length, 2)[:count] for x in (decoded, floor))

    def map_units(state, key):
        """Rate maps of all units [unit, x, y], and errors with their floors [walk, time]."""
        num_groups = -(-num_map_walks * num_steps // POSITIONS_AT_ONCE)
        group = -(-num_map_walks // num_groups)

        def add(totals, group_key):
            walk = walks(group_key, group, num_steps)
            activity, decoded, floor = integrate(state, walk)
            totals = ratemaps.add_samples(
                totals,
                walk.positions.reshape(-1, 2),
                activity.reshape(-1, activity.shape[-1]),
                extent=extent,
            )
            return totals, (distance_cm(walk, decoded), distance_cm(walk, floor))

        totals, errors = jax.lax.scan(
            add,
            ratemaps.rate_map_sums(num_units=num_units, num_bins=num_bins),
            jax.random.split(key, num_groups),
        )
        error, floor = (x.reshape(-1, num_steps) for x in errors)
        return ratemaps.mean_maps(totals), error, floor

    def evaluate(state, data, key):
        map_key, rollout_key, noise_key = jax.random.split(key, 3)
        scalars: dict[str, jax.Array] = {}
        readout: dict[str, jax.Array] = {}

        def report(name, walk_error, walk_floor):
            scalars[f"{name}error_cm"] = jnp.mean(walk_error)
            scalars[f"{name}floor_cm"] = jnp.mean(walk_floor)
            scalars[f"{name}error_above_floor_cm"] = jnp.mean(walk_error) - jnp.mean(walk_floor)

        def report_rollouts(name, walk):
            decoded, floor = decode_all(state, walk)
            error_cm, floor_cm = distance_cm(walk, decoded), distance_cm(walk, floor)
            report(name, error_cm, floor_cm)
            quartiles = jnp.array([0.25, 0.5, 0.75])
            readout[f"{name}error_cm"] = jnp.quantile(error_cm, quartiles, axis=0)
            readout[f"{name}floor_cm"] = jnp.quantile(floor_cm, quartiles, axis=0)
            readout[f"{name}true_m"] = walk.positions[:4]
            readout[f"{name}decoded_m"] = decoded[:4]

        maps, error_cm, floor_cm = map_units(state, map_key)
        report("", error_cm, floor_cm)
        report_rollouts("rollout_", walks(rollout_key, num_rollouts, rollout_steps))
        if data:
            paths = box.width_m * jnp.asarray(data["rat_positions"])
            report_rollouts("rat_rollout_", walk_along(paths))
            short = walk_along(_windows(paths, num_steps))
            decoded, floor = decode_all(state, short)
            report("rat_", distance_cm(short, decoded), distance_cm(short, floor))

        control = ratemaps.noise_control(maps, noise_key, num_noise_maps=num_noise_maps)
        score_60 = control.scores.score_60
        scalars |= control.shares
        scalars["max_grid_score"] = jnp.max(score_60)
        scalars["median_grid_score"] = jnp.median(score_60)

        best = jnp.argsort(-score_60)[:64]
        readout |= {
            "box_width_m": jnp.asarray(box.width_m),
            "dt_s": jnp.asarray(dt_s),
            "rate_maps": maps,
            "grid_score_60": score_60,
            "grid_score_90": control.scores.score_90,
            "noise_grid_score_60": control.noise_scores.score_60,
            "best_units": best,
            "best_autocorrelograms": ratemaps.autocorrelograms(maps[best]),
        }
        readout |= torus(maps, score_60, weights(state), width_m=box.width_m)
        return scalars, readout

    return evaluate


def _windows(paths: jax.Array, num_steps: int) -> jax.Array:
    """Paths [piece, time + 1, 2] cut into [window, num_steps + 1, 2]; neighbours share one end."""
    num_pieces, num_positions, _ = paths.shape
    each = (num_positions - 1) // num_steps
    if each < 1:
        raise ValueError(
            f"num_steps must be at most {num_positions - 1}, the length of the recorded paths, "
            f"but is {num_steps}"
        )
    index = num_steps * jnp.arange(each)[:, None] + jnp.arange(num_steps + 1)[None, :]
    return paths[:, index].reshape(num_pieces * each, num_steps + 1, 2)


def torus(
    maps: jax.Array,
    grid_score: jax.Array,
    recurrent: jax.Array | None,
    *,
    width_m: float,
    threshold: float = 0.37,
    min_lattice_share: float = 0.3,
) -> dict[str, jax.Array]:
    """Low-dimensional structure: components of the maps, and one module of grid cells on its torus.

    Grid cells of one spacing and orientation differ only in phase, a point on a torus: with the
    lattice's wave vectors k_1, k_2 (60 degrees apart, k_3 = k_2 - k_1), unit u has phases
    phi_ua = -arg sum_x r_u(x) exp(-i k_a x). In a continuous attractor the weight between two units
    depends on the difference of their phases only. Its mean as a function of that difference, over
    all pairs of the module's M units, has the Fourier coefficients
        c_m = 1/M^2 sum_uv exp(i m phi_u) W_uv exp(-i m phi_v),   m in {-3..3}^2,
    and a hexagonal attractor shows in m = +-(1, 0), +-(0, 1), +-(1, -1).

    The lattice is the one of 28 spacings (0.15 to 0.8 box widths) x 20 orientations whose three
    waves hold the largest share of the maps' variance, over units with a grid score above
    `threshold`. Its module is those of them in which it holds more than `min_lattice_share`.

    maps [unit, x, y], grid_score [unit], recurrent [unit, unit] (from, to) or None. -> a dict:
    component_share [component], of the variance of the maps, largest first;
    lattice_spacings_m [28], lattice_share [28] (best orientation), module [unit] (bool),
    module_spacing_m, module_orientation_rad (of the fields, in [0, pi/3)),
    module_phases [unit, 2] (rad), module_power [7, 7] = |c_m|^2 (0 at m = 0, sum 1),
    module_weights [24, 24], the mean weight less its mean, at phase differences 2 pi j / 24
    (both left out where recurrent is None),
    population_phase [3, x, y, 2]: real and imaginary part of sum_u r_u(x) exp(i phi_ua), and
    population_wave [3, x, y] = k_a x, the phase that it should have.
    All numbers of an empty module are 0.

    Source: Sorscher et al. 2023, figures on the toroidal manifold and the sorted weights;
    grid-pattern-formation `utils`. Deviation: there units are sorted onto a square of whole
    numbers, here phase differences are used as they are, so that any number of units will do.
    """
    num_units, num_x, num_y = maps.shape
    flat = maps.reshape(num_units, -1)
    visited = jnp.isfinite(flat)
    mean = jnp.nanmean(flat, axis=1, keepdims=True)
    r = jnp.where(visited, flat - mean, 0)
    # Components: all units as they are, so that a strong unit counts for more.
    variance = jnp.maximum(jnp.linalg.eigvalsh(r.T @ r)[::-1], 0)
    component_share = variance / jnp.maximum(jnp.sum(variance), 1e-30)
    norm = jnp.sqrt(jnp.sum(r**2, axis=1, keepdims=True))
    r = jnp.where(norm > 0, r / jnp.where(norm > 0, norm, 1), 0)

    edges = (jnp.arange(num_x) + 0.5) / num_x - 0.5, (jnp.arange(num_y) + 0.5) / num_y - 0.5
    x = width_m * jnp.stack(jnp.meshgrid(*edges, indexing="ij"), axis=-1).reshape(-1, 2)
    spacings_m = width_m * jnp.geomspace(0.15, 0.8, 28)
    orientations = jnp.arange(20) * (jnp.pi / 60)
    # Waves stand at 30 degrees to the axes along which fields are neighbours.
    angles = orientations[:, None] + (jnp.pi / 6 + jnp.arange(3) * (jnp.pi / 3))[None, :]
    directions = jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=-1)
    k = (4 * jnp.pi / 3**0.5 / spacings_m)[:, None, None, None] * directions[None]
    # [spacing, orientation, wave, bin]; k_1 and k_2 are the first two, k_3 the last.
    waves = jnp.einsum("soac,bc->soab", k, x)
    real = jnp.einsum("ub,soab->usoa", r, jnp.cos(waves))
    imaginary = jnp.einsum("ub,soab->usoa", r, jnp.sin(waves))
    share = jnp.sum(real**2 + imaginary**2, axis=-1) * (2 / (num_x * num_y))

    grid = grid_score > threshold
    mean_share = jnp.sum(jnp.where(grid[:, None, None], share, 0), axis=0)
    mean_share /= jnp.maximum(jnp.sum(grid), 1)
    best_s, best_o = jnp.unravel_index(jnp.argmax(mean_share), mean_share.shape)
    module = grid & (share[:, best_s, best_o] > min_lattice_share)
    waves, real, imaginary = (
        waves[best_s, best_o],
        real[:, best_s, best_o],
        imaginary[:, best_s, best_o],
    )
    phases = jnp.arctan2(imaginary, real)  # -arg of the sum with exp(-i k x)

    population = jnp.einsum("ub,ua->ab", r * module[:, None], jnp.exp(1j * phases))
    population = jnp.stack([jnp.real(population), jnp.imag(population)], axis=-1)
    readout = {
        "component_share": component_share,
        "lattice_spacings_m": spacings_m,
        "lattice_share": jnp.max(mean_share, axis=1),
        "module": module,
        "module_spacing_m": spacings_m[best_s],
        "module_orientation_rad": orientations[best_o],
        "module_phases": phases[:, :2] * module[:, None],
        "population_phase": population.reshape(3, num_x, num_y, 2),
        "population_wave": waves.reshape(3, num_x, num_y),
    }
    if recurrent is None:
        return readout

    chex.assert_shape(recurrent, (num_units, num_units))
    m = jnp.stack(jnp.meshgrid(jnp.arange(-3, 4), jnp.arange(-3, 4), indexing="ij"), axis=-1)
    m = m.reshape(-1, 2).astype(phases.dtype)
    turned = jnp.exp(1j * (phases[:, :2] @ m.T)) * module[:, None]
    count = jnp.maximum(jnp.sum(module), 1)
    # Less the mean weight, which a finite number of phases would spread over all coefficients.
    centred = recurrent - (module @ recurrent @ module) / count**2
    c = jnp.sum(turned * (centred.astype(turned.dtype) @ turned.conj()), axis=0) / count**2
    c = jnp.where(jnp.all(m == 0, axis=1), 0, c)
    power = jnp.abs(c) ** 2
    phase_steps = jnp.arange(24) * (2 * jnp.pi / 24)
    d = jnp.stack(jnp.meshgrid(phase_steps, phase_steps, indexing="ij"), axis=-1).reshape(-1, 2)
    readout["module_power"] = (power / jnp.maximum(jnp.sum(power), 1e-30)).reshape(7, 7)
    readout["module_weights"] = jnp.real(jnp.exp(1j * (d @ m.T)) @ c).reshape(24, 24)
    return readout


def draw(readout: HostReadout) -> dict[str, Figure]:
    """All figures of `evaluation`'s readout; those of the rat where it was given its paths."""
    width_m, dt_s = float(readout["box_width_m"]), float(readout["dt_s"])
    maps, scores = np.asarray(readout["rate_maps"]), np.asarray(readout["grid_score_60"])
    best = np.asarray(readout["best_units"])
    rollouts = {"simulated": "rollout_"}
    if "rat_rollout_error_cm" in readout:
        rollouts["real rat"] = "rat_rollout_"
    band_share = figures.band_share(maps)
    banded = np.argsort(-band_share)[:16]
    return {
        "rate_maps": figures.rate_maps(
            np.asarray(ratemaps.smooth(jnp.asarray(maps[best]), 1.0)),
            [f"{score:.2f}" for score in scores[best]],
            width_m=width_m,
            title=f"Smoothed rate maps of the {len(best)} units with the highest grid scores "
            f"(of {len(maps)})\nabove each map: its grid score (60 degrees)",
        ),
        "autocorrelograms": figures.autocorrelograms(
            np.asarray(readout["best_autocorrelograms"]),
            [f"{score:.2f}" for score in scores[best]],
            width_m=width_m,
            title="Spatial autocorrelograms of the same maps\n"
            "six peaks around the centre mark a hexagonal grid",
        ),
        "banded_maps": figures.rate_maps(
            np.asarray(ratemaps.smooth(jnp.asarray(maps[banded]), 1.0)),
            [f"{100 * share:.0f} %" for share in band_share[banded]],
            width_m=width_m,
            title="Smoothed rate maps nearest to parallel bands\n"
            "above each map: share of its variance in a single plane wave",
        ),
        "grid_scores": figures.score_histogram(
            scores,
            np.asarray(readout["noise_grid_score_60"]),
            thresholds=ratemaps.GRID_SCORE_THRESHOLDS,
            what="units",
        ),
        "trajectories": figures.trajectories(
            {
                label: (readout[f"{name}true_m"], readout[f"{name}decoded_m"])
                for label, name in rollouts.items()
            },
            width_m=width_m,
            dt_s=dt_s,
        ),
        "error_over_time": figures.error_over_time(
            {
                label: (readout[f"{name}error_cm"], readout[f"{name}floor_cm"])
                for label, name in rollouts.items()
            },
            dt_s=dt_s,
        ),
        "low_dimensional_structure": figures.low_dimensional_structure(readout),
    }

"""The Helmholtz machine on a ring or torus: path integration by a learned attractor, remapping.

HPC copies place cells, EC compresses HPC and predicts itself from its own past and from cells that
combine that past with velocity (CVC). After half an hour of theta-gated learning, EC is a
continuous attractor: with theta held high the senses are cut, and the bump of activity goes on
moving with the animal (George et al., NeurIPS 2023, figure 3). When the place fields are shuffled,
only the synapses between HPC and EC need to be learned again (figure 4).

Source of equations and constants: the paper, and `figs34.ipynb` of HelmholtzHippocampus, on
RatInABox 1.6.3. Positions lie in [-width / 2, width / 2).
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from hfjax import arena, cells, check, decoders, figures, plasticity, theta
from hfjax.models.helmholtz import (
    Circuit,
    CircuitState,
    Feedforward,
    HelmholtzState,
    Projection,
    Pyramidal,
    Source,
    Synapses,
    World,
    check_circuit,
    check_duration,
    check_layers,
    draw_modes,
    frozen,
    machine,
    normal_weights,
    potential,
    pyramidal,
    run_modes,
    shown,
    simulate,
    steps_in,
)
from hfjax.networks import retanh, threshold_relu
from hfjax.task import HostReadout, Readout, Scalars, Task

Decoder = decoders.Decoder
FEATURES, VELOCITY = "features", "VC"
FIELD_PEAK = 0.05  # a unit whose rate map stays below has no field

# Circuit and world -----------------------------------------------------------------------------


def opponent_velocity(key: jax.Array, num_post: int, num_pre: int) -> jax.Array:
    """Fixed weights [CVC, VC]: a block of CVC for each cell of VC, 1 from it, -1 from its opposite.

    Velocity cells come as (+x, +y, -x, -y). `key` is not used.
    """
    del key
    signs = jnp.eye(num_pre) - jnp.roll(jnp.eye(num_pre), num_pre // 2, axis=1)
    return jnp.repeat(signs, num_post // num_pre, axis=0)


def path_integrator(
    *,
    num_dims: int = 1,
    num_place: int = 100,
    learning_rate: float = 0.01,
    trace_time_s: float = 0.1,
    recurrent_scale: float = 0.2,
    recurrent_l2: float = 0.0,
    threshold: float = 1.0,
    noise: float = 0.01,
    rule: Callable[..., jax.Array] = plasticity.dendritic_prediction,
) -> Circuit:
    """Place cells, HPC, EC, conjunctive cells (CVC), velocity cells (VC), in this order.

    CVC = relu(W_v v + EC - threshold), one copy of EC for each of the 2 num_dims velocity cells, so
    that a copy is active where EC is and while the animal moves the copy's way.
    Source: HelmholtzHippocampus `figs34.ipynb`, which has one dimension.
    """
    num_velocity = 2 * num_dims
    learned: Callable[..., Projection] = partial(
        Projection, learning_rate=learning_rate, trace_time_s=trace_time_s, rule=rule
    )
    weak = partial(normal_weights, scale=recurrent_scale)
    return (
        Source(FEATURES, num_place),
        Pyramidal(
            "HPC",
            num_place,
            basal=(Projection(FEATURES, weights=None),),
            apical=(learned("EC", bias=True),),
            basal_noise=noise,
            apical_noise=noise,
        ),
        Pyramidal(
            "EC",
            num_place,
            basal=(learned("HPC", bias=True),),
            apical=(
                learned("EC", weights=weak, l2=recurrent_l2),
                learned("CVC", weights=weak, l2=recurrent_l2),
            ),
            nonlinearity=retanh,
            basal_noise=noise,
            apical_noise=noise,
        ),
        Feedforward(
            "CVC",
            num_velocity * num_place,
            (Projection(VELOCITY, weights=opponent_velocity), Projection("EC", weights=None)),
            nonlinearity=partial(threshold_relu, threshold=threshold),
        ),
        Source(VELOCITY, num_velocity),
    )


class PlaceWorld(NamedTuple):
    """An animal, and the centres [place, dim] (m) of its place cells."""

    walk: arena.PeriodicWalk
    centres: jax.Array


class Box(NamedTuple):
    """The animal's world: a ring (num_dims 1) or torus (2), its place cells and its motion.

    Velocity cells have the rates relu(v / velocity_scale_mps) and relu(-v / ...), cell by axis. In
    RatInABox the scale is mean + standard deviation of the speed when the cells are made.
    """

    num_dims: int = 1
    num_place: int = 100
    width_m: float = 1.0
    sigma_m: float = 0.06
    speed_mean_mps: float = 0.0
    speed_std_mps: float = 0.5
    coherence_s: float = 0.7
    velocity_scale_mps: float = 0.5


def place_cells(box: Box, positions: jax.Array, centres: jax.Array) -> jax.Array:
    """Rates of the box's Gaussian place cells. positions [..., dim] -> [..., place]."""
    distance_sq = cells.periodic_sq(box.width_m)
    return cells.gaussian(positions, centres, sigma_m=box.sigma_m, distance_sq=distance_sq)


def place_world(box: Box, *, dt_s: float) -> World:
    """Place and velocity cells of an animal in the box, as source layers "features" and "VC".

    The other arrays are "positions" and "velocities" [time, dim]; the velocity of a step is the one
    that it draws, for the next move.
    """
    if round(box.num_place ** (1 / box.num_dims)) ** box.num_dims != box.num_place:
        raise ValueError(
            f"num_place must be a number to the power {box.num_dims} in {box.num_dims} dimensions, "
            f"but is {box.num_place}"
        )
    motion = {"width_m": box.width_m, "speed_mean_mps": box.speed_mean_mps}

    def start(key: jax.Array) -> PlaceWorld:
        walk_key, centre_key = jax.random.split(key)
        walk = arena.periodic_walk_start(
            walk_key, num_dims=box.num_dims, speed_std_mps=box.speed_std_mps, **motion
        )
        centres = cells.jittered_centres(
            centre_key, num_place=box.num_place, width_m=box.width_m, num_dims=box.num_dims
        )
        return PlaceWorld(walk, centres)

    def block(world: PlaceWorld, key: jax.Array, num_steps: int):
        walk, path = arena.periodic_walk(
            world.walk,
            key,
            num_steps=num_steps,
            dt_s=dt_s,
            speed_std_mps=box.speed_std_mps,
            coherence_s=box.coherence_s,
            **motion,
        )
        v = path.velocity / box.velocity_scale_mps
        sources = {
            FEATURES: place_cells(box, path.position, world.centres),
            VELOCITY: jax.nn.relu(jnp.concatenate([v, -v], axis=-1)),
        }
        others = {"positions": path.position, "velocities": path.velocity}
        return world._replace(walk=walk), sources, others

    return World(start, block)


def _apart(a: jax.Array, b: jax.Array, width_m: float) -> jax.Array:
    """The shortest way from b to a on the ring or torus: [..., dim] (m)."""
    return jnp.mod(a - b + width_m / 2, width_m) - width_m / 2


def chance_error(box: Box) -> float:
    """Mean distance (m) between two random positions: a quarter of a ring, .383 of a torus."""
    x = (np.arange(1000) + 0.5) / 2000 * box.width_m
    axes = np.meshgrid(*[x] * box.num_dims)
    return float(np.mean(np.sqrt(sum(a**2 for a in axes))))


# Path integration ------------------------------------------------------------------------------


class Protocol(NamedTuple):
    """How path integration is tested.

    Decoders are fitted to HPC's somata over decoder_s, one sample every fit_every_s. Each of
    num_tests animals runs for spin_up_s with theta on; then theta is held at 1, which cuts the
    senses, for test_s. Positions are decoded every read_every_s. The first decoder is the one that
    figures and unnamed scalars use.
    """

    decoders: tuple[Decoder, ...] = (decoders.gaussian_process_decoder, decoders.ridge_decoder)
    decoder_s: float = 600.0
    fit_every_s: float = 0.1
    num_tests: int = 50
    spin_up_s: float = 10.0
    test_s: float = 20.0
    read_every_s: float = 0.25


RING, AS_PUBLISHED = Box(), Protocol()


def check_protocol(protocol: Protocol, *, dt_s: float) -> None:
    """Raise ValueError, in one sentence, for a test that cannot be run."""
    check.at_least(1, num_tests=protocol.num_tests, decoders=len(protocol.decoders))
    names = [_name(decoder) for decoder in protocol.decoders]
    if len(set(names)) < len(names):
        raise ValueError(f"decoders must be different functions, but are {names}")
    durations = {name: value for name, value in protocol._asdict().items() if name.endswith("_s")}
    check_duration(dt_s=dt_s, **durations)
    if protocol.decoder_s < protocol.fit_every_s:
        raise ValueError(
            f"decoder_s must be at least fit_every_s ({protocol.fit_every_s}), but is "
            f"{protocol.decoder_s}"
        )
    every = steps_in(protocol.read_every_s, dt_s=dt_s)
    if steps_in(1.0, dt_s=dt_s) % every:
        raise ValueError(f"read_every_s must divide 1 s, but is {protocol.read_every_s}")
    if protocol.test_s < 1.0 or protocol.spin_up_s < protocol.read_every_s:
        raise ValueError(
            f"a test must last 1 s or more (test_s is {protocol.test_s}), after at least one "
            f"reading (spin_up_s is {protocol.spin_up_s})"
        )


def _name(decoder: Any) -> str:
    return getattr(decoder, "func", decoder).__name__.removesuffix("_decoder")


def _hpc(activity):
    return activity["HPC"].soma


def measure_path_integration(
    state: HelmholtzState,
    key: jax.Array,
    *,
    circuit: Circuit,
    box: Box,
    thetas: np.ndarray,
    fit_thetas: np.ndarray,
    protocol: Protocol,
    dt_s: float,
) -> tuple[Scalars, Readout]:
    """Decoding error before and after the senses are cut, over many tests, beside its controls.

    fit_thetas  the gate while the decoders' samples are taken.
    -> (scalars, readout). For each decoder, 1 s after the cut and at the end of the test, the mean
    error over tests and its standard error. For the first decoder also the error at the cut, the
    controls at both times (a perfect integrator, which adds the true displacement to the position
    decoded at the cut; one that stays where it was at the cut), chance, and speed_gain, the slope
    of the decoded displacements on the true ones between readings after the cut.
    readout: errors/NUMBER_DECODER and errors/stays [test, time], errors/perfect and errors/chance
    [], times_s [time] with 0 at the cut; of the first test example/true [step, dim],
    example/decoded [time, dim], example/HPC and example/EC [step, unit].

    Deviation: the decoders see ten minutes with the weights frozen, not the last ten of learning;
    tests start at random places and run side by side, not one after the other.
    """
    still, world = frozen(circuit), place_world(box, dt_s=dt_s)
    run = partial(simulate, circuit=still, world=world, dt_s=dt_s)
    steps = partial(steps_in, dt_s=dt_s)
    fit_key, start_key, test_key = jax.random.split(key, 3)

    fit_every = steps(protocol.fit_every_s)
    num_fit = steps(protocol.decoder_s) // fit_every * fit_every
    _, rates, others = run(state, fit_key, thetas=fit_thetas, num_steps=num_fit, record=_hpc)
    rates, positions = rates[fit_every - 1 :: fit_every], others["positions"]
    targets = cells.angles_code(positions[fit_every - 1 :: fit_every], width_m=box.width_m)

    every = steps(protocol.read_every_s)
    num_spin_up, num_test = (
        steps(duration) // every * every for duration in (protocol.spin_up_s, protocol.test_s)
    )

    def one_test(start_key, key, record=_hpc):
        spin_up_key, cut_key = jax.random.split(key)
        walk = world.start(start_key).walk
        animal = state._replace(world=state.world._replace(walk=walk))
        animal, up, others_up = run(
            animal, spin_up_key, thetas=thetas, num_steps=num_spin_up, record=record
        )
        _, cut, others_cut = run(
            animal, cut_key, thetas=np.ones(1), num_steps=num_test, record=record
        )
        rates = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), up, cut)
        return rates, jnp.concatenate([others_up["positions"], others_cut["positions"]])

    num_tests = protocol.num_tests
    keys = jax.random.split(start_key, num_tests), jax.random.split(test_key, num_tests)
    hpc, positions = jax.vmap(one_test)(*keys)
    # The first test once more, for EC: all of them would fill the memory of a population.
    ec, _ = one_test(keys[0][0], keys[1][0], record=lambda activity: activity["EC"].soma)
    queries, true = hpc[:, every - 1 :: every], positions[:, every - 1 :: every]
    at_cut = num_spin_up // every - 1
    times_s = (jnp.arange(true.shape[1]) - at_cut) * (every * dt_s)
    ends = {"1s": at_cut + steps(1.0) // every, "end": true.shape[1] - 1}

    def distance(a, b):
        return jnp.linalg.norm(_apart(a, b, box.width_m), axis=-1)

    def mean_and_error(name, errors):
        for end, index in ends.items():
            at = errors[:, index]
            scalars[f"{name}_{end}_m"] = jnp.mean(at)
            scalars[f"{name}_{end}_sem_m"] = jnp.std(at) / num_tests**0.5

    scalars: dict[str, jax.Array] = {}
    readout: dict[str, jax.Array] = {"times_s": times_s}
    for number, decoder in enumerate(protocol.decoders):
        code = decoder(rates, targets, queries.reshape(-1, queries.shape[-1]))
        decoded = decoders.decode_angles(code, width_m=box.width_m).reshape(true.shape)
        errors = distance(decoded, true)
        name = _name(decoder)
        readout[f"errors/{number}_{name}"] = errors
        mean_and_error("error" if number == 0 else f"{name}_error", errors)
        if number == 0:
            at = slice(at_cut, at_cut + 1)
            stays = distance(decoded[:, at], true)
            readout["errors/stays"] = stays
            mean_and_error("stays_error", stays)
            scalars["perfect_error_m"] = jnp.mean(errors[:, at_cut])
            moved, went = (
                _apart(x[:, at_cut + 1 :], x[:, at_cut:-1], box.width_m) for x in (decoded, true)
            )
            scalars["speed_gain"] = jnp.sum(moved * went) / jnp.sum(went**2)
            readout["example/decoded"] = decoded[0]
    scalars["chance_error_m"] = jnp.asarray(chance_error(box), true.dtype)
    readout |= {
        "errors/perfect": scalars["perfect_error_m"],
        "errors/chance": scalars["chance_error_m"],
        "example/true": positions[0],
        "example/HPC": hpc[0],
        "example/EC": ec,
        "example/cut_s": jnp.asarray(num_spin_up * dt_s),
    }
    return scalars, readout


# The attractor ---------------------------------------------------------------------------------


def _positions_of_maps(box: Box) -> np.ndarray:
    """Where rate maps are taken: [position, dim], 100 along a ring, 20 x 20 over a torus."""
    num_bins = 100 if box.num_dims == 1 else 20
    x = ((np.arange(num_bins) + 0.5) / num_bins - 0.5) * box.width_m
    return np.stack(np.meshgrid(*[x] * box.num_dims, indexing="ij"), -1).reshape(-1, box.num_dims)


def bottom_up_maps(
    circuit: Circuit, state: CircuitState, box: Box, centres: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Rate maps of HPC and EC driven through their basal dendrites, without noise.

    -> two arrays [unit, position], at the positions of the module's maps: 100 along a ring, 20 x 20
    over a torus. Layers other than these two and the place cells count as silent.
    Source: HelmholtzHippocampus, rate maps with theta = 0.
    """
    layers = {layer.name: layer for layer in pyramidal(circuit)}

    def at(features):
        rates = {name: jnp.zeros_like(values) for name, values in state.rates.items()}
        rates[FEATURES] = features
        for layer in (layers["HPC"], layers["EC"]):
            V = potential(layer, "basal", layer.basal, rates, state.synapses)
            rates[layer.name] = layer.nonlinearity(V)
        return rates["HPC"], rates["EC"]

    positions = jnp.asarray(_positions_of_maps(box), centres.dtype)
    return jax.vmap(at, out_axes=1)(place_cells(box, positions, centres))


class Attractor(NamedTuple):
    """Weights into EC against the distance between the peaks of the fields of post and pre.

    peaks     [EC unit, dim] (m), where each unit's field has its peak.
    active    [EC unit], whether it has a field at all.
    offsets   [bin] (m), the bins of the distance along an axis, from -width / 2 to width / 2.
    means, stds  [block, bin, ...] (one bin axis a dim), mean weight and standard deviation over
                 pairs of units; block 0 is EC to itself, then the CVC blocks in their order.
    asymmetry [CVC block], sum of w sin(2 pi d / width) over that of |w|, with d along the
              direction of the block's velocity cell: above 0 where it pushes activity its own way.
    """

    peaks: jax.Array
    active: jax.Array
    offsets: jax.Array
    means: jax.Array
    stds: jax.Array
    asymmetry: jax.Array


def attractor(circuit: CircuitState, maps: jax.Array, box: Box) -> Attractor:
    """The recurrent weights of EC, aligned by its fields and averaged.

    maps [EC unit, position], from `bottom_up_maps`. Units without a field are left out; a bin
    without any pair of units is NaN. There are 25 bins on a ring and 20 along each axis of a torus,
    which the positions of the maps fill evenly.
    Deviation from the original: aligned by the distance between fields, not by rank in their
    order; and the spread is that of the weights (there, of their mean, which is 0).
    """
    num_bins = 25 if box.num_dims == 1 else 20
    positions = jnp.asarray(_positions_of_maps(box), maps.dtype)
    peaks = positions[jnp.argmax(maps, axis=1)]
    active = jnp.max(maps, axis=1) > FIELD_PEAK
    recurrent = circuit.synapses["EC/apical/EC"].weights
    velocity = circuit.synapses["EC/apical/CVC"].weights
    num_units, num_blocks = recurrent.shape[0], 2 * box.num_dims
    blocks = jnp.stack([recurrent, *jnp.split(velocity, num_blocks, axis=1)])  # [block, post, pre]

    ahead = _apart(peaks[:, None], peaks[None], box.width_m)  # [post, pre, dim]
    both = active[:, None] & active[None]
    # Halves go up, in spite of rounding: a bin then holds as many offsets as any other.
    index = jnp.floor(ahead / box.width_m * num_bins + 0.501).astype(jnp.int32) + num_bins // 2
    index = jnp.clip(index, 0, num_bins - 1)
    flat = sum(
        index[..., axis] * num_bins ** (box.num_dims - 1 - axis) for axis in range(box.num_dims)
    )
    flat = jnp.where(both, flat, num_bins**box.num_dims).reshape(-1)  # pairs to leave out: last

    def per_bin(values):
        total = jax.ops.segment_sum(values, flat, num_bins**box.num_dims + 1)
        return total[:-1]

    count = per_bin(jnp.ones_like(flat, maps.dtype))
    shape = (num_blocks + 1, *[num_bins] * box.num_dims)
    w = blocks.reshape(num_blocks + 1, num_units**2)
    means = jax.vmap(per_bin)(w) / count[None]
    variances = jnp.maximum(jax.vmap(per_bin)(w**2) / count[None] - means**2, 0)
    # The direction of block b: velocity cells are +x, (+y,) -x, (-y).
    directions = jnp.concatenate([jnp.eye(box.num_dims), -jnp.eye(box.num_dims)])
    along = jnp.einsum("ijd,bd->bij", ahead, directions.astype(maps.dtype))
    turned = jnp.sin(2 * jnp.pi * along / box.width_m) * both[None]
    asymmetry = jnp.sum(blocks[1:] * turned, axis=(1, 2)) / jnp.maximum(
        jnp.sum(jnp.abs(blocks[1:]) * both[None], axis=(1, 2)), 1e-12
    )
    offsets = (jnp.arange(num_bins) - num_bins // 2) * (box.width_m / num_bins)
    stds = jnp.sqrt(variances)
    return Attractor(peaks, active, offsets, means.reshape(shape), stds.reshape(shape), asymmetry)


# Path integration, the task --------------------------------------------------------------------


def _check(box: Box, circuit: Circuit, protocol: Protocol, *, dt_s: float, **durations: float):
    check.at_least(1, num_dims=box.num_dims, num_place=box.num_place)
    if box.num_dims > 2:
        raise ValueError(f"num_dims must be 1 (ring) or 2 (torus), but is {box.num_dims}")
    check.positive(sigma_m=box.sigma_m, velocity_scale_mps=box.velocity_scale_mps)
    check_circuit(circuit, dt_s=dt_s)
    check_layers(circuit)
    check_duration(dt_s=dt_s, **durations)
    check_protocol(protocol, dt_s=dt_s)
    sizes = {layer.name: layer.size for layer in circuit}
    into_ec = {p.source for layer in pyramidal(circuit) if layer.name == "EC" for p in layer.apical}
    if not {"EC", "CVC"} <= into_ec or sizes.get("CVC") != 2 * box.num_dims * sizes["EC"]:
        raise ValueError(
            "EC's apical dendrites need inputs from EC and from CVC, a layer of one copy of EC for "
            f"each of the {2 * box.num_dims} velocity cells; they have {sorted(into_ec)}, and the "
            f"sizes are {sizes}"
        )
    for name, size in ((FEATURES, box.num_place), (VELOCITY, 2 * box.num_dims)):
        if sizes.get(name) != size:
            raise ValueError(
                f"the circuit's layer {name!r} must have the {size} units of its box, but has "
                f"{sizes.get(name, 0)}"
            )
    world, key = place_world(box, dt_s=dt_s), jax.random.key(0)
    jax.eval_shape(lambda: world.block(world.start(key), key, 1))  # its own checks


def task(
    *,
    box: Box = RING,
    circuit: Circuit | None = None,
    gate: theta.Gate = theta.square,
    protocol: Protocol = AS_PUBLISHED,
    dt_s: float = 0.025,
    block_s: float = 10.0,
    mode_s: float = 60.0,
    between_s: float = 6.0,
    loss_from_s: float = 0.4,
    num_shown: int = 5,
) -> Task:
    """Path integration on a ring or torus, figure 3.

    box       the animal's world; circuit  the layers (default: `path_integrator` of the box's
              sizes); gate  theta as a function of time while learning; protocol  of the tests.
    block_s   simulated time of one `step`; the others are as in `helmholtz.task`.

    Step scalars: HPC_loss and EC_loss, low-passed over 60 s. Evaluation: the losses in each mode
    (`helmholtz.run_modes`), the tests (`measure_path_integration`), and of the attractor the mean
    weight between units with fields less than sigma_m apart (recurrent_near), of the others
    (recurrent_far), the asymmetry of each velocity block, and the share of EC units with a field.

    Raises ValueError for impossible numbers and circuits.
    """
    by_default = partial(path_integrator, num_dims=box.num_dims, num_place=box.num_place)
    layers = by_default() if circuit is None else circuit
    _check(box, layers, protocol, dt_s=dt_s, block_s=block_s, mode_s=mode_s, between_s=between_s)
    check.at_least(1, num_shown=num_shown)
    thetas = theta.tabulate(gate, dt_s=dt_s)
    steps = partial(steps_in, dt_s=dt_s)
    learner = machine(
        layers,
        place_world(box, dt_s=dt_s),
        thetas=thetas,
        dt_s=dt_s,
        block_s=block_s,
        loss_from_s=loss_from_s,
    )

    def evaluate(state: HelmholtzState, data: Any, key: jax.Array) -> tuple[Scalars, Readout]:
        del data
        mode_key, test_key = jax.random.split(key)
        scalars, recorded = run_modes(
            state,
            mode_key,
            run=learner.run,
            circuit=layers,
            thetas=thetas,
            num_steps=steps(mode_s),
            num_between=steps(between_s),
            record=partial(shown, num_shown=num_shown),
        )
        readout = {"dt_s": jnp.asarray(dt_s), "width_m": jnp.asarray(box.width_m)}
        for mode, (rates, _) in recorded.items():
            readout |= {f"{mode}/{name}": values for name, values in rates.items()}
        tested, arrays = measure_path_integration(
            state,
            test_key,
            circuit=layers,
            box=box,
            thetas=thetas,
            fit_thetas=thetas,
            protocol=protocol,
            dt_s=dt_s,
        )
        hpc_maps, ec_maps = bottom_up_maps(layers, state.circuit, box, state.world.centres)
        found = attractor(state.circuit, ec_maps, box)
        near, far = _near_and_far(state.circuit, found, box)
        scalars |= tested
        scalars |= {"recurrent_near": near, "recurrent_far": far}
        scalars |= {f"asymmetry_{i}": a for i, a in enumerate(found.asymmetry)}
        scalars["EC_share_with_field"] = jnp.mean(found.active.astype(near.dtype))
        readout |= arrays
        readout |= {f"attractor/{name}": value for name, value in found._asdict().items()}
        readout |= {
            "maps/HPC": hpc_maps,
            "maps/EC": ec_maps,
            "weights/EC": state.circuit.synapses["EC/apical/EC"].weights,
            "weights/CVC": state.circuit.synapses["EC/apical/CVC"].weights,
        }
        return scalars, readout

    return Task(learner.init, learner.sample, learner.step, evaluate, draw)


def _near_and_far(circuit: CircuitState, found: Attractor, box: Box) -> tuple[jax.Array, jax.Array]:
    """Mean recurrent weight between units with fields less, and more, than sigma_m apart."""
    away = _apart(found.peaks[:, None], found.peaks[None], box.width_m)
    near = jnp.linalg.norm(away, axis=-1) < box.sigma_m
    both = found.active[:, None] & found.active[None]
    w = circuit.synapses["EC/apical/EC"].weights

    def mean(mask):
        return jnp.sum(w * mask) / jnp.maximum(jnp.sum(mask), 1)

    return mean(near & both), mean(~near & both)


# Remapping, the task ---------------------------------------------------------------------------


class Relearning(NamedTuple):
    """What the new environment adds to a trained path integrator.

    centres   [place, dim] (m), the place fields there.
    synapses  those from before the relearning.
    steps     [], blocks of relearning done; while 0, the present synapses are those from before.
    """

    centres: jax.Array
    synapses: dict[str, Synapses]
    steps: jax.Array


class RemappingState(NamedTuple):
    """A path integrator, as `task` trains it, and its relearning.

    `fresh` is not copied by the trainer's `init_from`.
    """

    circuit: CircuitState
    world: PlaceWorld
    fresh: Relearning


def remapping(
    *,
    box: Box = RING,
    circuit: Circuit | None = None,
    gate: theta.Gate = theta.square,
    protocol: Protocol = AS_PUBLISHED,
    dt_s: float = 0.025,
    block_s: float = 10.0,
    pretraining_s: float = 1800.0,
    relearning_speed_mean_mps: float = 0.2,
    loss_from_s: float = 0.4,
) -> Task:
    """Remapping, figure 4: the place fields are shuffled, and HPC and EC learn each other again.

    `init` trains a path integrator for pretraining_s; the trainer's `init_from` puts another in its
    place. Each step is then a block of relearning among new place fields: the weights into EC's
    apical dendrites, the attractor, stay frozen. The mean speed is relearning_speed_mean_mps, which
    the original found to help the bump to form.

    Evaluation: the test of path integration in three conditions, before the remapping, right after
    it (decoders fitted to inferred activity, as alternation would mix the two maps), and with what
    has been relearned (tests at the new mean speed, as in the original). Scalars as in
    `measure_path_integration`, with the prefix before_, after_ or relearned_.

    Source: HelmholtzHippocampus `figs34.ipynb`, section 4. There the rates are also set to zero at
    the remapping, without effect: they are computed anew before anything reads them. Deviation: its
    tests have 1 s with theta on, and 1 s without the senses.
    Raises ValueError for impossible numbers and circuits.
    """
    by_default = partial(path_integrator, num_dims=box.num_dims, num_place=box.num_place)
    layers = by_default() if circuit is None else circuit
    _check(box, layers, protocol, dt_s=dt_s, block_s=block_s, pretraining_s=pretraining_s)
    thetas = theta.tabulate(gate, dt_s=dt_s)
    new_box = box._replace(speed_mean_mps=relearning_speed_mean_mps)
    new_world = place_world(new_box, dt_s=dt_s)
    attractor_frozen = frozen(layers, only=lambda name: name.startswith("EC/apical/"))
    make = partial(machine, thetas=thetas, dt_s=dt_s, block_s=block_s, loss_from_s=loss_from_s)
    integrator = make(layers, place_world(box, dt_s=dt_s))
    relearner = make(attractor_frozen, new_world)
    if pretraining_s < block_s:
        raise ValueError(
            f"pretraining_s must be at least block_s ({block_s}), but is {pretraining_s}"
        )
    conditions = ("before", "after", "relearned")

    def init(key: jax.Array, data: Any) -> RemappingState:
        init_key, centre_key, shuffle_key, train_key = jax.random.split(key, 4)
        state, _ = jax.lax.scan(
            lambda state, key: integrator.step(state, (), key),
            integrator.init(init_key, data),
            jax.random.split(train_key, round(pretraining_s / block_s)),
        )
        centres = new_world.start(centre_key).centres
        centres = jax.random.permutation(shuffle_key, centres)
        fresh = Relearning(centres, state.circuit.synapses, jnp.int32(0))
        return RemappingState(state.circuit, state.world, fresh)

    def step(
        state: RemappingState, batch: tuple[()], key: jax.Array
    ) -> tuple[RemappingState, dict[str, jax.Array]]:
        before = _before(state)
        there = state.world._replace(centres=state.fresh.centres)
        moved, losses = relearner.step(HelmholtzState(state.circuit, there), batch, key)
        fresh = state.fresh._replace(synapses=before, steps=state.fresh.steps + 1)
        world = moved.world._replace(centres=state.world.centres)
        return RemappingState(moved.circuit, world, fresh), losses

    def evaluate(state: RemappingState, data: Any, key: jax.Array) -> tuple[Scalars, Readout]:
        del data
        old = state.circuit._replace(synapses=_before(state))
        there = state.world._replace(centres=state.fresh.centres)
        cases = (
            (old, state.world, box, thetas),
            (old, there, box, np.zeros(1)),
            (state.circuit, there, new_box, thetas),
        )
        scalars: dict[str, jax.Array] = {}
        readout = {"dt_s": jnp.asarray(dt_s), "width_m": jnp.asarray(box.width_m)}
        for name, test_key, (circuit_state, world, here, fit_thetas) in zip(
            conditions, jax.random.split(key, 3), cases, strict=True
        ):
            tested, arrays = measure_path_integration(
                HelmholtzState(circuit_state, world),
                test_key,
                circuit=layers,
                box=here,
                thetas=thetas,
                fit_thetas=fit_thetas,
                protocol=protocol,
                dt_s=dt_s,
            )
            scalars |= {f"{name}_{what}": value for what, value in tested.items()}
            readout |= {f"{name}/{what}": value for what, value in arrays.items()}
            hpc_maps, ec_maps = bottom_up_maps(layers, circuit_state, box, world.centres)
            readout |= {f"{name}/maps/HPC": hpc_maps, f"{name}/maps/EC": ec_maps}
        return scalars, readout

    return Task(init, relearner.sample, step, evaluate, draw_remapping)


def _before(state: RemappingState) -> dict[str, Synapses]:
    """The synapses from before the relearning, which are the present ones until its first block."""
    unchanged = state.fresh.steps == 0
    return jax.tree.map(
        lambda now, then: jnp.where(unchanged, now, then),
        state.circuit.synapses,
        state.fresh.synapses,
    )


# Figures ---------------------------------------------------------------------------------------


def _field_order(maps: np.ndarray) -> np.ndarray:
    """Units with a field, in the order of the peaks of their maps [unit, position]."""
    active = np.flatnonzero(maps.max(axis=1) > FIELD_PEAK)
    return active[np.argsort(maps[active].argmax(axis=1), kind="stable")]


def _by_position(maps: np.ndarray) -> np.ndarray:
    """For each position the unit, of those with a field, whose field is nearest on the ring."""
    order = _field_order(maps)
    positions = np.arange(maps.shape[1])
    away = np.abs(positions[:, None] - maps[order].argmax(axis=1)[None])
    return order[np.minimum(away, len(positions) - away).argmin(axis=1)]


def draw(readout: HostReadout) -> dict[str, Figure]:
    """Figure 3: rates in each mode, maps, the test, and the weights of the attractor."""
    drawn = draw_modes(readout)
    drawn["error"] = figures.error_since_cut(
        _error_curves(readout),
        times_s=readout["times_s"],
        levels={
            "perfect integrator": float(readout["errors/perfect"]),
            "chance": float(readout["errors/chance"]),
        },
    )
    drawn |= (_draw_ring if readout["attractor/peaks"].shape[1] == 1 else _draw_torus)(readout)
    return drawn


def _error_curves(readout: HostReadout) -> dict[str, np.ndarray]:
    known = {"errors/perfect", "errors/chance", "errors/stays"}
    names = [name for name in readout if name.startswith("errors/") and name not in known]
    curves = {" ".join(name.split("_")[1:]) + " decoder": readout[name] for name in sorted(names)}
    # A bump that stays put is the same as the rest before the cut.
    stays = np.where(readout["times_s"][None] < 0, np.nan, readout["errors/stays"])
    return curves | {"a bump that stays where it was": stays}


def _draw_ring(readout: HostReadout) -> dict[str, Figure]:
    width_m, order = float(readout["width_m"]), _field_order(readout["maps/EC"])
    if not len(order):
        return {}  # EC is silent: there is nothing to sort
    blocks = np.split(readout["weights/CVC"], 2, axis=1)
    weights = dict(
        zip(
            ("EC to EC", "rightward CVC to EC", "leftward CVC to EC"),
            (readout["weights/EC"], *blocks),
            strict=True,
        )
    )
    profiles = zip(readout["attractor/means"], readout["attractor/stds"], strict=True)
    return {
        "path_integration": figures.ring_activity(
            {
                layer: readout[f"example/{layer}"][:, _by_position(readout[f"maps/{layer}"])]
                for layer in ("HPC", "EC")
            },
            true=readout["example/true"][:, 0],
            decoded=readout["example/decoded"][:, 0],
            decoded_times_s=readout["times_s"] + readout["example/cut_s"],
            cut_s=float(readout["example/cut_s"]),
            dt_s=float(readout["dt_s"]),
            width_m=width_m,
            title="One test of path integration",
        ),
        "rate_maps": figures.ring_maps(
            {
                "HPC": readout["maps/HPC"],
                "EC": readout["maps/EC"],
                "EC, sorted by field": readout["maps/EC"][order],
            },
            width_m=width_m,
            title="Rate maps, driven bottom-up",
        ),
        "weights": figures.ring_weights(
            weights,
            order,
            dict(zip(weights, profiles, strict=True)),
            offsets_m=readout["attractor/offsets"],
        ),
    }


def _draw_torus(readout: HostReadout) -> dict[str, Figure]:
    side = round(readout["maps/EC"].shape[1] ** 0.5)
    strongest = np.argsort(-readout["maps/EC"].max(axis=1))[:24]
    width_m = float(readout["width_m"])
    return {
        "rate_maps": figures.rate_maps(
            readout["maps/EC"][strongest].reshape(-1, side, side),
            [f"unit {unit}" for unit in strongest],
            width_m=width_m,
            title="EC's rate maps on the torus, driven bottom-up: the 24 with the highest peak",
        ),
        "weights": figures.rate_maps(
            readout["attractor/means"],
            ["EC", "CVC right", "CVC up", "CVC left", "CVC down"],
            width_m=width_m,
            title="Mean weight into EC by how far the field of post is ahead of that of pre",
            colour_label="weight: lowest (0)\nto highest (1) of each panel",
            axis_labels=("ahead in x", "ahead in y"),
        ),
    }


def draw_remapping(readout: HostReadout) -> dict[str, Figure]:
    """Figure 4: errors before, right after, and after relearning, and the maps of HPC and EC."""
    first = min(name for name in readout if name.startswith("before/errors/0_"))
    labels = {"before": "before", "after": "right after", "relearned": "relearned"}
    errors = {label: readout[name + first.removeprefix("before")] for name, label in labels.items()}
    times_s, chance = readout["before/times_s"], float(readout["before/errors/chance"])
    second = int(np.argmin(np.abs(times_s - min(1.0, times_s[-1]))))
    drawn = {
        "errors": figures.condition_bars(
            {
                f"{times_s[index]:g} s after the cut": {
                    label: values[:, index] for label, values in errors.items()
                }
                for index in (second, len(times_s) - 1)
            },
            level=chance,
            level_label="chance",
            title=f"Remapping: error of path integration (mean +- SEM of {len(errors['before'])} "
            "tests; a dot a test)",
        ),
        "error_over_time": figures.error_since_cut(
            errors, times_s=times_s, levels={"chance": chance}
        ),
    }
    order = _field_order(readout["before/maps/EC"])
    if readout["before/example/true"].shape[1] == 1 and len(order):
        maps = {
            f"{layer}, {label}": readout[f"{name}/maps/{layer}"][order if layer == "EC" else ...]
            for layer in ("HPC", "EC")
            for name, label in labels.items()
        }
        drawn["rate_maps"] = figures.ring_maps(
            maps,
            width_m=float(readout["width_m"]),
            title="Rate maps; EC always in the order of its fields before the remapping",
        )
    return drawn

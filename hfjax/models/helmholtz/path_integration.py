"""Path integration: a Helmholtz machine that learns a continuous attractor on a ring or torus.

HPC copies place cells. EC compresses HPC, and predicts itself from its own past and from cells that
combine that past with velocity (CVC). After half an hour of theta-gated learning EC is a continuous
attractor: with theta held at 1 the senses are cut, and the bump of activity goes on moving with the
animal (George et al., NeurIPS 2023, figure 3). Theta has the sign of the code, opposite to that of
the paper's figures 2 and S1, where theta is 1 in wake.

Source of equations and constants: the paper, and `figs34.ipynb` of HelmholtzHippocampus, on
RatInABox 1.6.3. Positions lie in [-width / 2, width / 2).
"""

import math
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from hfjax import cells, check, figures, movies, plasticity, theta
from hfjax.decoders import Decoder, decode_angles, gaussian_process_decoder, ridge_decoder
from hfjax.models.helmholtz import figures as panels
from hfjax.models.helmholtz.attractor import (
    as_images,
    attractor,
    bottom_up_maps,
    field_order,
    fields_of,
    map_likeness,
    near_and_far,
    top_down_maps,
    unit_at_each_position,
)
from hfjax.models.helmholtz.circuit import (
    Activity,
    Circuit,
    Feedforward,
    Projection,
    Pyramidal,
    Source,
    check_circuit,
    check_layers,
    normal_weights,
    pyramidal,
)
from hfjax.models.helmholtz.machine import (
    ONE_MINUTE,
    Arrays,
    HelmholtzState,
    Machine,
    Modes,
    Record,
    check_duration,
    check_modes,
    init_machine,
    learn_block,
    loss_metrics,
    make_machine,
    mode_metrics,
    modes_readout,
    run_modes,
    shown,
    simulate,
    simulated_minutes,
    steps_in,
)
from hfjax.models.helmholtz.track import (
    FEATURES,
    RING,
    VELOCITY,
    Track,
    chance_error,
    check_track,
    displacement,
    distance,
    extent_m,
    place_cells,
    place_world,
    velocity_cells,
)
from hfjax.networks import retanh, threshold_relu
from hfjax.task import PATH, HostReadout, Inputs, Metric, Readout, Scalars, Task, logged, no_batch

# --- The circuit ---


def opponent_velocity(key: jax.Array, num_post: int, num_pre: int) -> jax.Array:
    """Fixed weights [CVC, VC]: in each block 1 from its velocity cell, -1 from the opposite one.

    Velocity cells are in the order (+x, +y, -x, -y). `key` is not used.
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
    soma_noise: float = 0.0,
    dendrite_time_s: float | None = None,
    hpc_gate: theta.Gate | None = None,
    ec_gate: theta.Gate | None = None,
    rule: plasticity.Rule = plasticity.dendritic_prediction,
) -> Circuit:
    """Place cells, HPC, EC, conjunctive cells (CVC), velocity cells (VC), in this order.

    CVC = relu(W_v v + EC - threshold), with one copy of EC for each of the 2 num_dims velocity
    cells: a copy is active where EC is active, while the animal moves in the copy's direction.

    num_dims         1 for a ring, 2 for a torus; that of the track.
    num_place        place cells, and units of HPC and EC; those of the track.
    learning_rate    learning rate of all learned weights, for each time step.
    trace_time_s     time constant of the plasticity traces (s).
    recurrent_scale  factor of the initial weights of EC and CVC onto EC.
    recurrent_l2     L2 penalty on the weights of EC and CVC onto EC.
    threshold        input above which a conjunctive cell is active.
    noise            standard deviation of the noise in all dendrites.
    soma_noise       standard deviation of the noise in the somata of HPC and EC.
    dendrite_time_s  time constant of all dendrites (s); None for none.
    hpc_gate         theta of HPC as a function of time; None for that of the task.
    ec_gate          theta of EC as a function of time; None for that of the task.
    rule             plasticity of the learned weights, as `plasticity.dendritic_prediction`.

    Source: HelmholtzHippocampus `figs34.ipynb`, in one dimension.
    """
    num_velocity = 2 * num_dims
    learned = partial(Projection, learning_rate=learning_rate, trace_time_s=trace_time_s, rule=rule)
    recurrent = partial(
        learned, weights=partial(normal_weights, scale=recurrent_scale), l2=recurrent_l2
    )
    neurons = partial(
        Pyramidal,
        size=num_place,
        basal_noise=noise,
        apical_noise=noise,
        soma_noise=soma_noise,
        dendrite_time_s=dendrite_time_s,
    )
    copied = Projection(FEATURES, weights=None)
    conjunction = Projection(VELOCITY, weights=opponent_velocity), Projection("EC", weights=None)
    return (
        Source(FEATURES, num_place),
        neurons("HPC", basal=(copied,), apical=(learned("EC", bias=True),), gate=hpc_gate),
        neurons(
            "EC",
            basal=(learned("HPC", bias=True),),
            apical=(recurrent("EC"), recurrent("CVC")),
            nonlinearity=retanh,
            gate=ec_gate,
        ),
        Feedforward(
            "CVC",
            num_velocity * num_place,
            conjunction,
            nonlinearity=partial(threshold_relu, threshold=threshold),
        ),
        Source(VELOCITY, num_velocity),
    )


# --- The protocol of the test ---


class Protocol(NamedTuple):
    """How path integration is tested.

    decoders      decode position from the HPC somata; figures and unnamed scalars use the first.
    decoder_s     duration of the samples that decoders are fitted to (s).
    fit_every_s   time between two such samples (s).
    num_tests     animals in the test.
    spin_up_s     time with theta alternating before the senses are cut (s).
    test_s        time with theta held at 1, which cuts the senses (s).
    read_every_s  time between two decoded positions (s).
    """

    decoders: tuple[Decoder, ...] = (gaussian_process_decoder, ridge_decoder)
    decoder_s: float = 600.0
    fit_every_s: float = 0.1
    num_tests: int = 50
    spin_up_s: float = 10.0
    test_s: float = 20.0
    read_every_s: float = 0.25


AS_PUBLISHED = Protocol()


class Timing(NamedTuple):
    """A protocol in steps; num_ are whole numbers of samples or readings.

    every is between readings; at_cut is the index of the reading at the cut; after_1s and last are
    those of the readings 1 s after the cut and at the end.
    """

    fit_every: int
    num_fit: int
    every: int
    num_spin_up: int
    num_test: int
    at_cut: int
    after_1s: int
    last: int


def timing(protocol: Protocol, *, dt_s: float) -> Timing:
    """The protocol in steps of dt_s."""
    fit_every, every = (
        steps_in(duration_s, dt_s=dt_s)
        for duration_s in (protocol.fit_every_s, protocol.read_every_s)
    )
    num_spin_up, num_test = (
        steps_in(duration_s, dt_s=dt_s) // every
        for duration_s in (protocol.spin_up_s, protocol.test_s)
    )
    at_cut = num_spin_up - 1
    return Timing(
        fit_every=fit_every,
        num_fit=steps_in(protocol.decoder_s, dt_s=dt_s) // fit_every * fit_every,
        every=every,
        num_spin_up=num_spin_up * every,
        num_test=num_test * every,
        at_cut=at_cut,
        after_1s=at_cut + steps_in(1.0, dt_s=dt_s) // every,
        last=at_cut + num_test,
    )


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


# --- The test ---


class Samples(NamedTuple):
    """What the decoders are fitted to: HPC rates [sample, unit], positions as angles_code."""

    rates: jax.Array
    targets: jax.Array


def decoder_samples(
    machine: Machine, state: HelmholtzState, key: jax.Array, *, track: Track, timing: Timing
) -> Samples:
    """HPC somata and positions, one sample every fit_every steps."""
    _, rates, others = simulate(machine, state, key, num_steps=timing.num_fit, record=_soma("HPC"))
    chosen = slice(timing.fit_every - 1, None, timing.fit_every)
    targets = cells.angles_code(others["positions"][chosen], width_m=track.width_m)
    return Samples(rates[chosen], targets)


def run_test(
    machine: Machine,
    state: HelmholtzState,
    start_key: jax.Array,
    key: jax.Array,
    *,
    layer: str,
    timing: Timing,
) -> tuple[jax.Array, jax.Array]:
    """One animal at a random start: spin-up with theta alternating, then without its senses.

    -> (somata of the layer [step, unit], positions [step, dim]).
    """
    spin_up_key, cut_key = jax.random.split(key)
    walk = machine.world.start(start_key).walk
    animal = state._replace(world=state.world._replace(walk=walk))
    animal, up, others_up = simulate(
        machine, animal, spin_up_key, num_steps=timing.num_spin_up, record=_soma(layer)
    )
    cut_off = machine._replace(thetas=np.ones(1))
    _, cut, others_cut = simulate(
        cut_off, animal, cut_key, num_steps=timing.num_test, record=_soma(layer)
    )
    positions = jnp.concatenate([others_up["positions"], others_cut["positions"]])
    return jnp.concatenate([up, cut]), positions


def _soma(layer: str) -> Record:
    def record(activity: Activity) -> jax.Array:
        return activity[layer].soma

    return record


def measure_path_integration(
    machine: Machine,
    state: HelmholtzState,
    key: jax.Array,
    *,
    track: Track,
    protocol: Protocol,
    fit_thetas: np.ndarray | jax.Array | None = None,
) -> tuple[Scalars, Readout]:
    """Decoding error before and after the senses are cut, over many tests, with controls.

    fit_thetas  theta by step while the decoders' samples are taken; None for that of the machine.
    -> (scalars, readout), see `decoding_errors` and `tests_readout`.

    Deviation: the decoders are fitted to ten minutes with frozen weights, not to the last ten of
    learning; tests start at random places and run in parallel, not one after the other.
    """
    still, steps = machine.frozen(), timing(protocol, dt_s=machine.dt_s)
    fit_key, start_key, test_key = jax.random.split(key, 3)
    fitted = still if fit_thetas is None else still._replace(thetas=fit_thetas)
    samples = decoder_samples(fitted, state, fit_key, track=track, timing=steps)

    start_keys, test_keys = (jax.random.split(k, protocol.num_tests) for k in (start_key, test_key))
    run = partial(run_test, still, state, timing=steps)
    hpc, positions = jax.vmap(partial(run, layer="HPC"))(start_keys, test_keys)
    # The first test again, for EC: EC in all of them would fill the memory of a population.
    ec, _ = run(start_keys[0], test_keys[0], layer="EC")

    read = slice(steps.every - 1, None, steps.every)
    true = positions[:, read]
    decoded = decode_all(samples, hpc[:, read], decoders=protocol.decoders, track=track)
    scalars, errors = decoding_errors(decoded, true, timing=steps, track=track)
    readout = {
        **errors,
        "times_s": (jnp.arange(true.shape[1]) - steps.at_cut) * (steps.every * machine.dt_s),
        "positions_m": true,
        "decoded_m": next(iter(decoded.values())),
        "example/positions_m": positions[0],
        "example/HPC": hpc[0],
        "example/EC": ec,
        "example/cut_s": jnp.asarray(steps.num_spin_up * machine.dt_s),
    }
    return scalars, readout


def test_metrics(protocol: Protocol) -> dict[str, Metric]:
    """What the scalars of `measure_path_integration` mean."""
    ends = {"1s": "1 s after the cut", "end": f"{protocol.test_s:g} s after the cut"}
    metrics = {}
    for end, when in ends.items():
        error = Metric(
            f"error {when}", "m", "frozen", "lower", panel="Error after the senses are cut"
        )
        for number, decoder in enumerate(protocol.decoders):
            name = f"{_name(decoder)}_error" if number else "error"
            by = f", {_name(decoder)} decoder" if number else ""
            series = when.removesuffix(" after the cut") + by
            metrics[f"{name}_{end}_m"] = error._replace(label=error.label + by, series=series)
            metrics[f"{name}_{end}_sem_m"] = Metric(f"standard error of {error.label}{by}", "m")
        metrics[f"stays_error_{end}_m"] = Metric(
            "static bump", "m", role="control", of=f"error_{end}_m"
        )
        metrics[f"stays_error_{end}_sem_m"] = Metric("standard error of a static bump", "m")
    return metrics | {
        "perfect_error_m": Metric("perfect integrator", "m", role="floor", of="error_1s_m"),
        "chance_error_m": Metric("chance", "m", role="chance", of="error_1s_m"),
        "speed_gain": Metric(
            "gain of speed",
            split="frozen",
            level=("perfect integrator", 1.0),
            panel="Gain of the path integrator",
            measure="speed of bump / animal",
        ),
    }


# Where the cells of each velocity block of CVC drive the bump, by dimensions of the track.
DIRECTIONS = {1: ("right", "left"), 2: ("right", "up", "left", "down")}


def attractor_metrics(track: Track) -> dict[str, Metric]:
    """What the scalars of `describe_attractor` mean."""
    weight = Metric(
        "weight between near fields", panel="Recurrent weights of EC", measure="mean weight"
    )
    asymmetry = Metric(
        "asymmetry",
        panel="Asymmetry of the velocity blocks",
        measure="antisymmetric share of weights",
    )
    return {
        "recurrent_near": weight,
        "recurrent_far": weight._replace(label="weight between far fields"),
        **{
            f"asymmetry_{i}": asymmetry._replace(label=f"asymmetry, {where}", series=where)
            for i, where in enumerate(DIRECTIONS[track.num_dims])
        },
        "EC_share_with_field": Metric(
            "EC units with a field", "% of EC units", panel="EC's fields"
        ),
        **{
            f"{layer}_apical_likeness": Metric(
                f"apical against basal maps of {layer}",
                split="frozen",
                better="higher",
                panel="Likeness of apical and basal rate maps",
                measure="mean correlation",
                series=layer,
            )
            for layer in ("HPC", "EC")
        },
    }


def decode_all(
    samples: Samples, queries: jax.Array, *, decoders: tuple[Decoder, ...], track: Track
) -> dict[str, jax.Array]:
    """Positions by each decoder: queries [test, time, unit] -> {decoder: [test, time, dim]} (m)."""
    flat = queries.reshape(-1, queries.shape[-1])
    decoded = {}
    for decoder in decoders:
        code = decoder(samples.rates, samples.targets, flat)
        positions = decode_angles(code, width_m=track.width_m)
        decoded[_name(decoder)] = positions.reshape(*queries.shape[:2], track.num_dims)
    return decoded


def decoding_errors(
    decoded: dict[str, jax.Array], true: jax.Array, *, timing: Timing, track: Track
) -> tuple[Scalars, Readout]:
    """Errors of each decoder {name: [test, time, dim]} (m), with controls.

    Scalars: for each decoder the mean error over tests and its standard error, 1 s after the cut
    and at the end of the test (error_1s_m, error_1s_sem_m, ... for the first decoder,
    NAME_error_1s_m, ... for the others). For the first decoder: speed_gain, the slope of decoded on
    true displacements between readings after the cut. Controls: stays_error_, a bump that stays
    where it was at the cut; perfect_error_m, the error at the cut, which is that of a perfect
    integrator at all times after it; chance_error_m.
    Readout: errors/NUMBER_DECODER and errors/stays [test, time], errors/perfect and errors/chance
    [] (m).
    """
    first = next(iter(decoded.values()))
    at_cut, width_m = timing.at_cut, track.width_m
    errors = {name: distance(x, true, width_m=width_m) for name, x in decoded.items()}
    stays = distance(first[:, at_cut : at_cut + 1], true, width_m=width_m)
    scalars: Scalars = {}
    for number, (name, values) in enumerate(errors.items()):
        scalars |= _means(f"{name}_error" if number else "error", values, timing)
    scalars |= _means("stays_error", stays, timing)
    scalars["perfect_error_m"] = jnp.mean(next(iter(errors.values()))[:, at_cut])
    scalars["chance_error_m"] = jnp.asarray(chance_error(track), true.dtype)
    moved, went = (
        displacement(x[:, at_cut + 1 :], x[:, at_cut:-1], width_m=width_m) for x in (first, true)
    )
    scalars["speed_gain"] = jnp.sum(moved * went) / jnp.sum(went**2)
    readout = {f"errors/{number}_{name}": e for number, (name, e) in enumerate(errors.items())}
    readout |= {
        "errors/stays": stays,
        "errors/perfect": scalars["perfect_error_m"],
        "errors/chance": scalars["chance_error_m"],
    }
    return scalars, readout


def _means(name: str, errors: jax.Array, timing: Timing) -> Scalars:
    """Mean and standard error over tests, 1 s after the cut and at the end; errors [test, time]."""
    scalars = {}
    for end, index in (("1s", timing.after_1s), ("end", timing.last)):
        at = errors[:, index]
        scalars[f"{name}_{end}_m"] = jnp.mean(at)
        scalars[f"{name}_{end}_sem_m"] = jnp.std(at) / len(at) ** 0.5
    return scalars


# --- The task ---


def task(
    *,
    track: Track = RING,
    circuit: Circuit | None = None,
    gate: theta.Gate = theta.square,
    modes: Modes = ONE_MINUTE,
    protocol: Protocol = AS_PUBLISHED,
    dt_s: float = 0.025,
    block_s: float = 10.0,
    loss_from_s: float = 0.4,
) -> Task:
    """Path integration on a ring or torus, figure 3.

    track        ring or torus, place cells, motion of the animal.
    circuit      the layers; None for `path_integrator` of the track's sizes.
    gate         theta as a function of time while learning, in layers without one of their own; 1
                 for generation.
    modes        how inference, generation and their alternation are evaluated.
    protocol     how path integration is tested.
    dt_s         duration of a time step (s).
    block_s      simulated time of a training step (s).
    loss_from_s  time at which the low-pass filter on the losses starts (s).

    Step scalars: HPC_loss and EC_loss, low-passed over 60 s. Evaluation: see `evaluate`.

    Raises ValueError for impossible numbers and circuits.
    """
    layers = circuit_for(track, circuit)
    check_setting(track, layers, protocol, dt_s=dt_s)
    check_duration(dt_s=dt_s, block_s=block_s)
    check_modes(modes, dt_s=dt_s)
    world = place_world(track, dt_s=dt_s)
    machine = make_machine(layers, world, gate=gate, dt_s=dt_s, loss_from_s=loss_from_s)
    return Task(
        init=partial(init_machine, machine=machine),
        sample=no_batch,
        step=partial(learn_block, machine=machine, num_steps=machine.steps(block_s)),
        evaluate=partial(evaluate, machine=machine, track=track, modes=modes, protocol=protocol),
        figures=draw,
        animations=animate,
        metrics=logged(
            step=loss_metrics(layers),
            evaluation={
                **test_metrics(protocol),
                **attractor_metrics(track),
                **mode_metrics(layers),
            },
        ),
        axis=simulated_minutes(block_s),
        apply=partial(apply, machine=machine, track=track),
        inputs=PATH if track.num_dims == 2 else Inputs("positions along the ring (m)", (1,)),
        dt_s=machine.dt_s,
    )


def apply(
    state: HelmholtzState, positions: jax.Array, /, *, machine: Machine, track: Track
) -> jax.Array:
    """A Task's `apply`: somata of EC along a path, with theta alternating.

    The machine does not learn. As in its own world, the velocity of a step is the one with which
    the animal moves in the next step; that of the last step is the one before. The noise is that of
    `jax.random.key(0)`.

    positions [time, dim] (m), two or more, every dt_s of the machine -> [time, unit]; dim is 1 on a
    ring, 2 on a torus.
    Raises ValueError where there are fewer than two positions.
    """
    chex.assert_shape(positions, (None, track.num_dims))
    check.at_least(2, num_positions=len(positions))
    moves = displacement(positions[1:], positions[:-1], width_m=track.width_m) / machine.dt_s
    sources = {
        FEATURES: place_cells(track, positions, state.world.centres),
        VELOCITY: velocity_cells(track, jnp.concatenate([moves, moves[-1:]])),
    }

    def block(now: jax.Array, key: jax.Array, num_steps: int) -> tuple[jax.Array, Arrays, Arrays]:
        del key
        part = {n: jax.lax.dynamic_slice_in_dim(a, now, num_steps) for n, a in sources.items()}
        return now + num_steps, part, {}

    along = machine.frozen()._replace(world=machine.world._replace(block=block))
    start = state._replace(world=jnp.int32(0))
    num_steps = len(positions)
    return simulate(along, start, jax.random.key(0), num_steps=num_steps, record=_soma("EC"))[1]


def circuit_for(track: Track, circuit: Circuit | None) -> Circuit:
    """The circuit, or for None a `path_integrator` of the track's sizes."""
    if circuit is not None:
        return circuit
    return path_integrator(num_dims=track.num_dims, num_place=track.num_place)


def check_setting(track: Track, circuit: Circuit, protocol: Protocol, *, dt_s: float) -> None:
    """Raise ValueError for a circuit that does not fit its track, or an impossible test."""
    check_circuit(circuit, dt_s=dt_s)
    check_layers(circuit)
    check_track(track, dt_s=dt_s)
    check_protocol(protocol, dt_s=dt_s)
    sizes = {layer.name: layer.size for layer in circuit}
    into_ec = {p.source for layer in pyramidal(circuit) if layer.name == "EC" for p in layer.apical}
    if not {"EC", "CVC"} <= into_ec or sizes.get("CVC") != 2 * track.num_dims * sizes["EC"]:
        raise ValueError(
            "EC's apical dendrites need inputs from EC and from CVC, a layer of one copy of EC for "
            f"each of the {2 * track.num_dims} velocity cells; they have {sorted(into_ec)}, and "
            f"the sizes are {sizes}"
        )
    for name, size in ((FEATURES, track.num_place), (VELOCITY, 2 * track.num_dims)):
        if sizes.get(name) != size:
            raise ValueError(
                f"the circuit's layer {name!r} must have the {size} units of its track, but has "
                f"{sizes.get(name, 0)}"
            )


def evaluate(
    state: HelmholtzState,
    data: Any,
    key: jax.Array,
    *,
    machine: Machine,
    track: Track,
    modes: Modes,
    protocol: Protocol,
) -> tuple[Scalars, Readout]:
    """The modes (`run_modes`), the tests (`measure_path_integration`) and the attractor."""
    del data
    mode_key, test_key = jax.random.split(key)
    record = partial(shown, num_shown=modes.num_shown)
    scalars, recorded = run_modes(machine, state, mode_key, modes=modes, record=record)
    rates = {mode: rates for mode, (rates, _) in recorded.items()}
    readout = modes_readout(rates, machine=machine, state=state, modes=modes)
    tested, tests = measure_path_integration(
        machine, state, test_key, track=track, protocol=protocol
    )
    described, attractor_arrays = describe_attractor(machine, state, track)
    return {**scalars, **tested, **described}, {**readout, **tests, **attractor_arrays}


def describe_attractor(
    machine: Machine, state: HelmholtzState, track: Track
) -> tuple[Scalars, Readout]:
    """Rate maps and recurrent weights of EC.

    Scalars: the mean weight between units with fields less than sigma_m apart (recurrent_near) and
    between the others (recurrent_far), asymmetry_BLOCK of each velocity block, the share of EC
    units with a field, and HPC_ and EC_apical_likeness, the mean correlation of the apical with the
    basal maps over units with a field. Readout: see `maps_readout`, also with apical/ before the
    names; weights/EC, weights/CVC [post, pre]; attractor/NAME, the arrays of `Attractor`.
    """
    hpc_maps, ec_maps = bottom_up_maps(machine.circuit, state.circuit, track, state.world.centres)
    aligned = attractor(state.circuit, ec_maps, track)
    near, far = near_and_far(state.circuit, aligned, track)
    scalars = {"recurrent_near": near, "recurrent_far": far}
    scalars |= {f"asymmetry_{i}": a for i, a in enumerate(aligned.asymmetry)}
    scalars["EC_share_with_field"] = jnp.mean(aligned.active.astype(near.dtype))
    readout = maps_readout(hpc_maps, ec_maps, track)
    apical = top_down_maps(machine.circuit, state.circuit, track, state.world.centres)
    readout |= {
        f"apical/{name}": maps
        for name, maps in maps_readout(*apical, track).items()
        if name.endswith("maps")
    }
    for layer, maps, of_apical in zip(("HPC", "EC"), (hpc_maps, ec_maps), apical, strict=True):
        likeness = map_likeness(maps, of_apical, fields_of(maps, track).active)
        scalars[f"{layer}_apical_likeness"] = likeness
    readout |= {f"attractor/{name}": value for name, value in aligned._asdict().items()}
    readout |= {
        f"weights/{source}": state.circuit.synapses[f"EC/apical/{source}"].weights
        for source in ("EC", "CVC")
    }
    return scalars, readout


def maps_readout(hpc_maps: jax.Array, ec_maps: jax.Array, track: Track) -> Readout:
    """rate_maps of EC and HPC_rate_maps [unit, x, y] (on a ring one bin of y), and extent_m."""
    return {
        "rate_maps": as_images(ec_maps, track),
        "HPC_rate_maps": as_images(hpc_maps, track),
        "extent_m": jnp.asarray(extent_m(track), ec_maps.dtype),
    }


# --- Figures ---


def draw(readout: HostReadout) -> dict[str, Figure]:
    """Figure 3: rates in each mode, maps, the test, and the weights of the attractor."""
    drawn = panels.draw_modes(readout)
    drawn["error"] = panels.error_since_cut(
        _error_curves(readout),
        times_s=readout["times_s"],
        levels={
            "perfect integrator": float(readout["errors/perfect"]),
            "chance": float(readout["errors/chance"]),
        },
    )
    is_ring = readout["positions_m"].shape[-1] == 1
    return drawn | (_draw_ring if is_ring else _draw_torus)(readout)


def _width_m(readout: HostReadout) -> float:
    low, high = readout["extent_m"][0]
    return float(high - low)


def _error_curves(readout: HostReadout) -> dict[str, np.ndarray]:
    controls = {"errors/perfect", "errors/chance", "errors/stays"}
    names = [name for name in readout if name.startswith("errors/") and name not in controls]
    labels = {name: " ".join(name.split("_")[1:]) + " decoder" for name in sorted(names)}
    curves = {
        label.replace("gaussian", "Gaussian"): readout[name] for name, label in labels.items()
    }
    # Before the cut this bump would be an animal that never moves: not a control.
    stays = np.where(readout["times_s"][None] < 0, np.nan, readout["errors/stays"])
    return curves | {"a bump that stays where it was": stays}


def _draw_ring(readout: HostReadout) -> dict[str, Figure]:
    maps = {"HPC": readout["HPC_rate_maps"][:, :, 0], "EC": readout["rate_maps"][:, :, 0]}
    apical = {
        "HPC": readout["apical/HPC_rate_maps"][:, :, 0],
        "EC": readout["apical/rate_maps"][:, :, 0],
    }
    order = field_order(maps["EC"])
    if not len(order):
        return {}  # EC is silent: there is nothing to sort
    return {
        "path_integration": _draw_test(readout, maps),
        "rate_maps": panels.ring_maps(
            [
                maps,
                {
                    "HPC, units by field": maps["HPC"][field_order(maps["HPC"])],
                    "EC, units by field": maps["EC"][order],
                },
                {
                    "HPC, apical, the same units": apical["HPC"][field_order(maps["HPC"])],
                    "EC, apical, the same units": apical["EC"][order],
                },
            ],
            width_m=_width_m(readout),
            title="Rate maps, driven bottom-up through basal dendrites; in the last row\n"
            "through apical dendrites, from the place that was inferred",
        ),
        "weights": _draw_weights(readout, order),
    }


def _draw_test(readout: HostReadout, maps: dict[str, np.ndarray]) -> Figure:
    return panels.ring_test(
        **_test(readout, maps),
        title="One test of path integration: the animal runs, then its senses are cut",
    )


def animate(readout: HostReadout) -> dict[str, Iterator[Image.Image]]:
    """On a ring, the bump before and after the senses are cut; {} where EC is silent."""
    if readout["positions_m"].shape[-1] > 1:
        return {}
    maps = {"HPC": readout["HPC_rate_maps"][:, :, 0], "EC": readout["rate_maps"][:, :, 0]}
    if not len(field_order(maps["EC"])):
        return {}
    return {"bump": movies.bump_on_ring(**_test(readout, maps))}


def _test(readout: HostReadout, maps: dict[str, np.ndarray]) -> dict[str, Any]:
    """One test: activity by place, positions (m) and times (s)."""
    cut_s = float(readout["example/cut_s"])
    return {
        "activity": {
            layer: readout[f"example/{layer}"][:, unit_at_each_position(maps[layer])]
            for layer in ("HPC", "EC")
        },
        "true": readout["example/positions_m"][:, 0],
        "decoded": readout["decoded_m"][0, :, 0],
        "decoded_times_s": readout["times_s"] + cut_s,
        "cut_s": cut_s,
        "dt_s": float(readout["dt_s"]),
        "width_m": _width_m(readout),
    }


def _draw_weights(readout: HostReadout, order: np.ndarray) -> Figure:
    names = ("EC to EC", *(f"CVC {where} to EC" for where in DIRECTIONS[1]))
    weights = readout["weights/EC"], *np.split(readout["weights/CVC"], 2, axis=1)
    profiles = zip(readout["attractor/means"], readout["attractor/stds"], strict=True)
    return panels.ring_weights(
        dict(zip(names, weights, strict=True)),
        order,
        dict(zip(names, profiles, strict=True)),
        offsets_m=readout["attractor/offsets"],
    )


def _draw_torus(readout: HostReadout) -> dict[str, Figure]:
    maps, extent = readout["rate_maps"], readout["extent_m"]
    peaks = maps.max(axis=(1, 2))
    strongest = np.argsort(-peaks)[:24]
    title = "EC's rate maps on the torus, driven bottom-up"
    return {
        "rate_maps": figures.rate_maps(
            maps[strongest],
            [f"{unit}: {peaks[unit]:.2f}" for unit in strongest],
            extent_m=extent,
            title=f"{title}: the {len(strongest)} with the highest peak\n"
            "above each map: number of the unit, and its peak rate",
        ),
        "apical_maps": _draw_apical_maps(readout),
        "all_maps": figures.map_sheet(
            maps,
            columns=math.ceil(len(maps) ** 0.5),
            extent_m=extent,
            title=f"{title}: all {len(maps)} units",
        ),
        "weights": _draw_torus_weights(readout["attractor/means"], extent),
    }


def _draw_apical_maps(readout: HostReadout) -> Figure:
    """Basal and apical maps of some units of HPC and EC, those of each layer on one scale."""
    rows, columns = [], 8
    for layer, name in (("HPC", "HPC_rate_maps"), ("EC", "rate_maps")):
        maps = readout[name]
        chosen = np.argsort(-maps.max(axis=(1, 2)))[:columns]
        both = {"basal": maps[chosen], "apical": readout[f"apical/{name}"][chosen]}
        top = max(float(of.max()) for of in both.values())
        rows += [
            figures.MapRow(of, f"{layer}, {dendrite}", "rate", (0.0, max(top, 1e-6)))
            for dendrite, of in both.items()
        ]
    return figures.map_rows(
        rows,
        columns=[f"unit {i + 1}" for i in range(len(rows[0].maps))],
        extent_m=readout["extent_m"],
        title="Rate maps through basal dendrites (bottom-up), and through apical dendrites from\n"
        "the place that was inferred; the units of each layer with the highest basal peak",
    )


def _draw_torus_weights(means: np.ndarray, extent_m: np.ndarray) -> Figure:
    """Mean weights [block, x, y] by distance of fields, each block on its own symmetric scale."""
    names = ("EC to EC", *(f"CVC {where} to EC" for where in DIRECTIONS[2]))
    figure = Figure(figsize=(13.0, 2.7), layout="constrained")
    figure.suptitle(
        "Mean weight into EC by how far the field of post is ahead of that of pre", fontsize=11
    )
    axes = figure.subplots(1, len(names))
    recurrent, *velocity = means
    for number, (ax, name, block) in enumerate(zip(axes, names, means, strict=True)):
        scale = float(np.nanmax(np.abs(velocity if number else recurrent)))
        figures.spatial_map(
            block,
            extent_m=extent_m,
            title=name,
            limits=(-scale, scale),
            colour_map="RdBu_r",
            colour_label="mean weight" if number in (0, len(names) - 1) else None,
            axis_labels=("ahead in x (m)", "ahead in y (m)"),
            ax=ax,
        )
    return figure

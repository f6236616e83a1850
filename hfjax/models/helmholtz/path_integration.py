"""Path integration: a Helmholtz machine that learns a continuous attractor on a ring or torus.

HPC copies place cells. EC compresses HPC, and predicts itself from its own past and from cells that
combine that past with velocity (CVC). After half an hour of theta-gated learning EC is a continuous
attractor: with theta held at 1 the senses are cut, and the bump of activity goes on moving with the
animal (George et al., NeurIPS 2023, figure 3).

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

from hfjax import cells, check, figures, plasticity, theta
from hfjax.decoders import Decoder, decode_angles, gaussian_process_decoder, ridge_decoder
from hfjax.models.helmholtz import figures as panels
from hfjax.models.helmholtz.attractor import (
    attractor,
    bottom_up_maps,
    by_position,
    field_order,
    near_and_far,
)
from hfjax.models.helmholtz.circuit import (
    Circuit,
    Feedforward,
    Projection,
    Pyramidal,
    Source,
    check_circuit,
    check_layers,
    frozen,
    normal_weights,
    pyramidal,
)
from hfjax.models.helmholtz.machine import (
    HelmholtzState,
    check_duration,
    machine,
    run_modes,
    shown,
    simulate,
    steps_in,
)
from hfjax.models.helmholtz.track import FEATURES, VELOCITY, Track, apart, chance_error, place_world
from hfjax.networks import retanh, threshold_relu
from hfjax.task import HostReadout, Readout, Scalars, Task


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


class Protocol(NamedTuple):
    """How path integration is tested.

    Decoders are fitted to HPC's somata over decoder_s, one sample every fit_every_s. Each of
    num_tests animals runs for spin_up_s with theta on; then theta is held at 1, which cuts the
    senses, for test_s. Positions are decoded every read_every_s. The first decoder is the one that
    figures and unnamed scalars use.
    """

    decoders: tuple[Decoder, ...] = (gaussian_process_decoder, ridge_decoder)
    decoder_s: float = 600.0
    fit_every_s: float = 0.1
    num_tests: int = 50
    spin_up_s: float = 10.0
    test_s: float = 20.0
    read_every_s: float = 0.25


RING, AS_PUBLISHED = Track(), Protocol()


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
    track: Track,
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
    still, world = frozen(circuit), place_world(track, dt_s=dt_s)
    run = partial(simulate, circuit=still, world=world, dt_s=dt_s)
    steps = partial(steps_in, dt_s=dt_s)
    fit_key, start_key, test_key = jax.random.split(key, 3)

    fit_every = steps(protocol.fit_every_s)
    num_fit = steps(protocol.decoder_s) // fit_every * fit_every
    _, rates, others = run(state, fit_key, thetas=fit_thetas, num_steps=num_fit, record=_hpc)
    rates, positions = rates[fit_every - 1 :: fit_every], others["positions"]
    targets = cells.angles_code(positions[fit_every - 1 :: fit_every], width_m=track.width_m)

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
        return jnp.linalg.norm(apart(a, b, track.width_m), axis=-1)

    def mean_and_error(name, errors):
        for end, index in ends.items():
            at = errors[:, index]
            scalars[f"{name}_{end}_m"] = jnp.mean(at)
            scalars[f"{name}_{end}_sem_m"] = jnp.std(at) / num_tests**0.5

    scalars: dict[str, jax.Array] = {}
    readout: dict[str, jax.Array] = {"times_s": times_s}
    for number, decoder in enumerate(protocol.decoders):
        code = decoder(rates, targets, queries.reshape(-1, queries.shape[-1]))
        decoded = decode_angles(code, width_m=track.width_m).reshape(true.shape)
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
                apart(x[:, at_cut + 1 :], x[:, at_cut:-1], track.width_m) for x in (decoded, true)
            )
            scalars["speed_gain"] = jnp.sum(moved * went) / jnp.sum(went**2)
            readout["example/decoded"] = decoded[0]
    scalars["chance_error_m"] = jnp.asarray(chance_error(track), true.dtype)
    readout |= {
        "errors/perfect": scalars["perfect_error_m"],
        "errors/chance": scalars["chance_error_m"],
        "example/true": positions[0],
        "example/HPC": hpc[0],
        "example/EC": ec,
        "example/cut_s": jnp.asarray(num_spin_up * dt_s),
    }
    return scalars, readout


def check_setting(
    track: Track, circuit: Circuit, protocol: Protocol, *, dt_s: float, **durations: float
) -> None:
    """Raise ValueError for a circuit that does not fit its track, or a test that cannot be run."""
    check.at_least(1, num_dims=track.num_dims, num_place=track.num_place)
    if track.num_dims > 2:
        raise ValueError(f"num_dims must be 1 (ring) or 2 (torus), but is {track.num_dims}")
    check.positive(sigma_m=track.sigma_m, velocity_scale_mps=track.velocity_scale_mps)
    check_circuit(circuit, dt_s=dt_s)
    check_layers(circuit)
    check_duration(dt_s=dt_s, **durations)
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
    world, key = place_world(track, dt_s=dt_s), jax.random.key(0)
    jax.eval_shape(lambda: world.block(world.start(key), key, 1))  # its own checks


def task(
    *,
    track: Track = RING,
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

    track       the animal's world; circuit  the layers (default: `path_integrator` of the track's
              sizes); gate  theta as a function of time while learning; protocol  of the tests.
    block_s   simulated time of one `step`; the others are as in `helmholtz.task`.

    Step scalars: HPC_loss and EC_loss, low-passed over 60 s. Evaluation: the losses in each mode
    (`helmholtz.run_modes`), the tests (`measure_path_integration`), and of the attractor the mean
    weight between units with fields less than sigma_m apart (recurrent_near), of the others
    (recurrent_far), the asymmetry of each velocity block, and the share of EC units with a field.

    Raises ValueError for impossible numbers and circuits.
    """
    by_default = partial(path_integrator, num_dims=track.num_dims, num_place=track.num_place)
    layers = by_default() if circuit is None else circuit
    check_setting(
        track, layers, protocol, dt_s=dt_s, block_s=block_s, mode_s=mode_s, between_s=between_s
    )
    check.at_least(1, num_shown=num_shown)
    thetas = theta.tabulate(gate, dt_s=dt_s)
    steps = partial(steps_in, dt_s=dt_s)
    learner = machine(
        layers,
        place_world(track, dt_s=dt_s),
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
        readout = {"dt_s": jnp.asarray(dt_s), "width_m": jnp.asarray(track.width_m)}
        for mode, (rates, _) in recorded.items():
            readout |= {f"{mode}/{name}": values for name, values in rates.items()}
        tested, arrays = measure_path_integration(
            state,
            test_key,
            circuit=layers,
            track=track,
            thetas=thetas,
            fit_thetas=thetas,
            protocol=protocol,
            dt_s=dt_s,
        )
        hpc_maps, ec_maps = bottom_up_maps(layers, state.circuit, track, state.world.centres)
        found = attractor(state.circuit, ec_maps, track)
        near, far = near_and_far(state.circuit, found, track)
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
    width_m, order = float(readout["width_m"]), field_order(readout["maps/EC"])
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
        "path_integration": panels.ring_activity(
            {
                layer: readout[f"example/{layer}"][:, by_position(readout[f"maps/{layer}"])]
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
        "rate_maps": panels.ring_maps(
            {
                "HPC": readout["maps/HPC"],
                "EC": readout["maps/EC"],
                "EC, sorted by field": readout["maps/EC"][order],
            },
            width_m=width_m,
            title="Rate maps, driven bottom-up",
        ),
        "weights": panels.ring_weights(
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

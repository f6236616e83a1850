"""An animal on a ring or torus, with its place cells and velocity cells."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hfjax import arena, cells, check
from hfjax.models.helmholtz.machine import Arrays, World

FEATURES, VELOCITY = "features", "VC"  # source layers: place cells and velocity cells


class Track(NamedTuple):
    """A ring (num_dims 1) or torus (num_dims 2), the place cells and the motion of the animal.

    num_dims            1 for a ring, 2 for a torus.
    num_place           place cells; in two dimensions a square number.
    width_m             length of the ring, or side of the torus (m).
    sigma_m             width of the place fields (m).
    speed_mean_mps      mean velocity along each axis (m/s).
    speed_std_mps       standard deviation of the velocity along each axis (m/s).
    coherence_s         time constant of the velocity (s).
    velocity_scale_mps  velocity at which a velocity cell has rate 1 (m/s).

    Velocity cells have the rates relu(v / velocity_scale_mps) and relu(-v / velocity_scale_mps) for
    each axis. In RatInABox the scale is the mean plus the standard deviation of the speed when the
    cells are made.
    """

    num_dims: int = 1
    num_place: int = 100
    width_m: float = 1.0
    sigma_m: float = 0.06
    speed_mean_mps: float = 0.0
    speed_std_mps: float = 0.5
    coherence_s: float = 0.7
    velocity_scale_mps: float = 0.5


class PlaceWorld(NamedTuple):
    """An animal, and the centres [place, dim] (m) of its place cells."""

    walk: arena.PeriodicWalk
    centres: jax.Array


RING = Track()


def check_track(track: Track, *, dt_s: float) -> None:
    """Raise ValueError for an impossible track, or one whose motion needs shorter steps."""
    check.at_least(1, num_dims=track.num_dims, num_place=track.num_place)
    if track.num_dims > 2:
        raise ValueError(f"num_dims must be 1 (ring) or 2 (torus), but is {track.num_dims}")
    check.positive(sigma_m=track.sigma_m, velocity_scale_mps=track.velocity_scale_mps)
    if round(track.num_place ** (1 / track.num_dims)) ** track.num_dims != track.num_place:
        raise ValueError(
            f"num_place must be a number to the power {track.num_dims} in {track.num_dims} "
            f"dimensions, but is {track.num_place}"
        )
    world = place_world(track, dt_s=dt_s)

    def move() -> None:  # `periodic_walk` checks the motion
        key = jax.random.key(0)
        world.block(world.start(key), key, 1)

    jax.eval_shape(move)


def place_world(track: Track, *, dt_s: float) -> World:
    """Place and velocity cells of an animal on the track, as source layers "features" and "VC".

    The other arrays are "positions" and "velocities" [time, dim]. The velocity of a step is the one
    drawn in it, with which the animal moves in the next step.
    """
    return World(start=partial(_start, track=track), block=partial(_block, track=track, dt_s=dt_s))


def _start(key: jax.Array, *, track: Track) -> PlaceWorld:
    walk_key, centre_key = jax.random.split(key)
    walk = arena.periodic_walk_start(
        walk_key,
        num_dims=track.num_dims,
        width_m=track.width_m,
        speed_mean_mps=track.speed_mean_mps,
        speed_std_mps=track.speed_std_mps,
    )
    centres = cells.jittered_centres(
        centre_key, num_place=track.num_place, width_m=track.width_m, num_dims=track.num_dims
    )
    return PlaceWorld(walk, centres)


def _block(
    world: PlaceWorld, key: jax.Array, num_steps: int, *, track: Track, dt_s: float
) -> tuple[PlaceWorld, Arrays, Arrays]:
    walk, path = arena.periodic_walk(
        world.walk,
        key,
        num_steps=num_steps,
        dt_s=dt_s,
        width_m=track.width_m,
        speed_mean_mps=track.speed_mean_mps,
        speed_std_mps=track.speed_std_mps,
        coherence_s=track.coherence_s,
    )
    sources = {
        FEATURES: place_cells(track, path.position, world.centres),
        VELOCITY: velocity_cells(track, path.velocity),
    }
    others = {"positions": path.position, "velocities": path.velocity}
    return world._replace(walk=walk), sources, others


def place_cells(track: Track, positions: jax.Array, centres: jax.Array) -> jax.Array:
    """Rates of Gaussian place cells on the track. positions [..., dim] -> [..., place]."""
    distance_sq = cells.periodic_sq(track.width_m)
    return cells.gaussian(positions, centres, sigma_m=track.sigma_m, distance_sq=distance_sq)


def velocity_cells(track: Track, velocities: jax.Array) -> jax.Array:
    """Rates relu(+-v / scale) of velocity cells: [..., dim] -> [..., 2 dim], +x, (+y,) -x, (-y)."""
    v = velocities / track.velocity_scale_mps
    return jax.nn.relu(jnp.concatenate([v, -v], axis=-1))


def displacement(a: jax.Array, b: jax.Array, *, width_m: float) -> jax.Array:
    """The shortest vector from b to a on the ring or torus: [..., dim] (m)."""
    return arena.wrap(a - b, -width_m / 2, width_m / 2)


def distance(a: jax.Array, b: jax.Array, *, width_m: float) -> jax.Array:
    """The length of the shortest vector from b to a: [..., dim] (m) -> [...] (m)."""
    return jnp.linalg.norm(displacement(a, b, width_m=width_m), axis=-1)


def chance_error(track: Track) -> float:
    """Mean distance (m) between two random positions: a quarter of a ring, .383 of a torus."""
    x = (np.arange(1000) + 0.5) / 2000 * track.width_m
    axes = np.meshgrid(*[x] * track.num_dims)
    return float(np.mean(np.sqrt(sum(a**2 for a in axes))))


def extent_m(track: Track) -> np.ndarray:
    """The lower and upper bound of x and of y (m) [2, 2]; on a ring y is 0."""
    half = track.width_m / 2
    return np.array([[-half, half], [-half, half] if track.num_dims == 2 else [0.0, 0.0]])

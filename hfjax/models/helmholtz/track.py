"""An animal on a ring or torus, with its place cells and velocity cells."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hfjax import arena, cells
from hfjax.models.helmholtz.machine import World

FEATURES, VELOCITY = "features", "VC"


class PlaceWorld(NamedTuple):
    """An animal, and the centres [place, dim] (m) of its place cells."""

    walk: arena.PeriodicWalk
    centres: jax.Array


class Track(NamedTuple):
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


def place_cells(track: Track, positions: jax.Array, centres: jax.Array) -> jax.Array:
    """Rates of the track's Gaussian place cells. positions [..., dim] -> [..., place]."""
    distance_sq = cells.periodic_sq(track.width_m)
    return cells.gaussian(positions, centres, sigma_m=track.sigma_m, distance_sq=distance_sq)


def place_world(track: Track, *, dt_s: float) -> World:
    """Place and velocity cells of an animal in the track, as source layers "features" and "VC".

    The other arrays are "positions" and "velocities" [time, dim]; the velocity of a step is the one
    that it draws, for the next move.
    """
    if round(track.num_place ** (1 / track.num_dims)) ** track.num_dims != track.num_place:
        raise ValueError(
            f"num_place must be a number to the power {track.num_dims} in {track.num_dims} "
            f"dimensions, but is {track.num_place}"
        )
    motion = {"width_m": track.width_m, "speed_mean_mps": track.speed_mean_mps}

    def start(key: jax.Array) -> PlaceWorld:
        walk_key, centre_key = jax.random.split(key)
        walk = arena.periodic_walk_start(
            walk_key, num_dims=track.num_dims, speed_std_mps=track.speed_std_mps, **motion
        )
        centres = cells.jittered_centres(
            centre_key, num_place=track.num_place, width_m=track.width_m, num_dims=track.num_dims
        )
        return PlaceWorld(walk, centres)

    def block(world: PlaceWorld, key: jax.Array, num_steps: int):
        walk, path = arena.periodic_walk(
            world.walk,
            key,
            num_steps=num_steps,
            dt_s=dt_s,
            speed_std_mps=track.speed_std_mps,
            coherence_s=track.coherence_s,
            **motion,
        )
        v = path.velocity / track.velocity_scale_mps
        sources = {
            FEATURES: place_cells(track, path.position, world.centres),
            VELOCITY: jax.nn.relu(jnp.concatenate([v, -v], axis=-1)),
        }
        others = {"positions": path.position, "velocities": path.velocity}
        return world._replace(walk=walk), sources, others

    return World(start, block)


def apart(a: jax.Array, b: jax.Array, width_m: float) -> jax.Array:
    """The shortest way from b to a on the ring or torus: [..., dim] (m)."""
    return arena.wrap(a - b, -width_m / 2, width_m / 2)


def chance_error(track: Track) -> float:
    """Mean distance (m) between two random positions: a quarter of a ring, .383 of a torus."""
    x = (np.arange(1000) + 0.5) / 2000 * track.width_m
    axes = np.meshgrid(*[x] * track.num_dims)
    return float(np.mean(np.sqrt(sum(a**2 for a in axes))))

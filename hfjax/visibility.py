"""Walls between places: line of sight, geodesic distances, boundary vector cells."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse.csgraph
import shapely

from hfjax import check
from hfjax.arena import Environment, contains
from hfjax.cells import DistanceSq, VectorTuning, euclidean_sq, heading_angle, von_mises


def _cross(a: jax.Array, b: jax.Array, wall: np.ndarray) -> jax.Array:
    """Whether the ways from a to b, [..., 2] (m), cross a wall [end, 2], its ends taken in."""
    (x, y), side = wall[0], wall[1] - wall[0]
    dx, dy = b[..., 0] - a[..., 0], b[..., 1] - a[..., 1]
    ox, oy = x - a[..., 0], y - a[..., 1]
    denominator = dx * side[1] - dy * side[0]
    parallel = denominator == 0
    denominator = jnp.where(parallel, 1, denominator)
    on_way = (ox * side[1] - oy * side[0]) / denominator
    on_wall = (ox * dy - oy * dx) / denominator
    # The margin keeps a way that ends on a wall from crossing it by rounding, and shuts corners.
    margin = 1e-6
    on_way_inside = (on_way > margin) & (on_way < 1 - margin)
    return on_way_inside & (on_wall > -margin) & (on_wall < 1 + margin) & ~parallel


def _occluded(positions: jax.Array, centres: jax.Array, walls: np.ndarray) -> jax.Array:
    """Whether any wall stands between: [..., 2], [place, 2], [wall, end, 2] -> [..., place]."""
    a = positions[..., None, :]
    b = centres.reshape((1,) * (positions.ndim - 1) + centres.shape)
    a, b = jnp.broadcast_arrays(a, b)
    crossed = jnp.zeros(a.shape[:-1], bool)
    for wall in walls:
        crossed |= _cross(a, b, wall)
    return crossed


def _opaque(environment: Environment) -> np.ndarray:
    """The walls that can stand between two places inside: all but those of a convex boundary."""
    if environment.num_dims != 2 or environment.periodic:
        raise ValueError("walls are seen in environments of two dimensions that are not periodic")
    boundary = shapely.Polygon(environment.boundary)
    convex = boundary.convex_hull.equals(boundary)
    return environment.walls[len(environment.boundary) if convex else 0 :]


def line_of_sight_sq(environment: Environment) -> DistanceSq:
    """Squared distances, and 1000 m squared where a wall stands between: for `distance_sq=`.

    A wall's ends belong to it, so that nothing is seen through a corner.
    Raises ValueError where the environment is periodic or a track.
    Source: RatInABox, wall geometry "line_of_sight". Deviation: there the first four walls never
    hide anything, whichever they are; here those of a convex boundary never do.
    """
    walls = _opaque(environment)

    def distance_sq(positions: jax.Array, centres: jax.Array) -> jax.Array:
        occluded = _occluded(positions, centres, walls)
        return jnp.where(occluded, 1e6, euclidean_sq(positions, centres))

    return distance_sq


def _turning_points(environment: Environment) -> tuple[np.ndarray, np.ndarray]:
    """Corners that a shortest way can turn at, and two places in the open beside each.

    At such a corner the walls that meet leave a sector of more than 180 degrees free, inside the
    environment: ends of walls that end nowhere, corners of holes, inward corners of the boundary.
    On the corner itself a way has no side of the walls: what is seen from it, is seen from one of
    the places, square to the first and the last wall of the sector, 1e-5 of the extent away. Walls
    nearer to each other than twice that meet.
    -> corners [corner, 2], places [corner, which, 2] (m).
    """
    walls = environment.walls
    sides = walls[:, 1] - walls[:, 0]
    lengths = np.linalg.norm(sides, axis=-1)
    beside = 1e-5 * max(high - low for low, high in environment.extent)
    near = np.minimum(2 * beside, lengths / 4)
    corners, places = [], []
    for corner in np.unique(walls.reshape(-1, 2), axis=0):
        along = np.sum((corner - walls[:, 0]) * sides, axis=-1) / lengths
        foot = walls[:, 0] + (np.clip(along / lengths, 0, 1))[:, None] * sides
        meets = np.linalg.norm(corner - foot, axis=-1) <= near
        # A wall leaves the corner one way if it ends there, both ways if it passes.
        leaving = [sides[meets & (along < lengths - near)], -sides[meets & (along > near)]]
        dx, dy = np.concatenate(leaving).T
        angles = np.sort(np.arctan2(dy, dx))
        free = np.diff(angles, append=angles[0] + 2 * np.pi)
        widest = np.argmax(free)
        if free[widest] > np.pi + 1e-6:
            square = angles[widest] + np.array([np.pi / 2, free[widest] - np.pi / 2])
            pair = corner + beside * np.stack([np.cos(square), np.sin(square)], axis=-1)
            if bool(contains(environment, jnp.asarray(pair)).all()):
                corners.append(corner)
                places.append(pair)
    return np.reshape(corners, (-1, 2)), np.reshape(places, (-1, 2, 2))


def geodesic_sq(environment: Environment) -> DistanceSq:
    """Squared lengths of the shortest ways around walls and holes: for `distance_sq=`.

    A shortest way is straight from corner to corner (`_turning_points`); ways between corners are
    tabulated once, by Dijkstra's algorithm. Where walls meet, or meet the boundary, nobody gets
    through; what is open is told to 1e-5 of the environment, lengths are exact. Places that cannot
    be reached are 1000 m away.
    Raises ValueError where the environment is periodic or a track.
    Source: RatInABox, wall geometry "geodesic", which knows one wall in a rectangle.
    """
    walls = _opaque(environment)
    corners, places = _turning_points(environment)
    if not len(corners):
        return line_of_sight_sq(environment)

    def seen(x: jax.Array) -> jax.Array:
        """Which corners are seen from x: [..., 2] -> [..., corner]."""
        occluded = _occluded(x, jnp.asarray(places.reshape(-1, 2), x.dtype), walls)
        return ~jnp.all(occluded.reshape(*x.shape[:-1], len(corners), 2), axis=-1)

    with jax.enable_x64(True):
        open_ = np.asarray(seen(jnp.asarray(places)).any(axis=1))
    apart = np.linalg.norm(corners[:, None] - corners[None], axis=-1)
    between = scipy.sparse.csgraph.shortest_path(np.where(open_, apart, 0), directed=False)
    between = np.minimum(between, 1e3)

    def distance_sq(positions: jax.Array, centres: jax.Array) -> jax.Array:
        def reach(x):
            """From x [..., 2] to the corners that are in sight: [..., corner]."""
            d = jnp.sqrt(euclidean_sq(x, jnp.asarray(corners, x.dtype)))
            return jnp.where(seen(x), d, 1e3)

        steps = jnp.asarray(between, positions.dtype)
        from_centre = jnp.min(reach(centres)[:, :, None] + steps[None], axis=1)  # [place, corner]
        here = reach(positions)
        shortest = jnp.where(
            _occluded(positions, centres, walls), 1e3, jnp.sqrt(euclidean_sq(positions, centres))
        )
        for k in range(len(corners)):
            around = here[..., k, None] + from_centre[:, k].reshape((1,) * (here.ndim - 1) + (-1,))
            shortest = jnp.minimum(shortest, around)
        return shortest**2

    return distance_sq


def boundary_vector_cells(
    positions: jax.Array,
    tuning: VectorTuning,
    *,
    environment: Environment,
    head_direction: jax.Array | None = None,
    num_angles: int = 180,
) -> jax.Array:
    """Cells that fire where the nearest wall in a direction is at a distance.

    Sum of the tuning over num_angles rays to the first wall in each, over the same sum for walls
    at the preferred distance all around.

    positions [..., 2] (m), head_direction [..., 2] for egocentric cells -> [..., cell].
    Raises ValueError where the environment is periodic or a track, or num_angles is below 2.
    Source: Barry & Burgess 2007; de Cothi & Barry 2020; RatInABox `BoundaryVectorCells`, with the
    rays that it has: the one along x twice, and none at -360 / num_angles degrees. Kept on purpose.
    """
    check.at_least(2, num_angles=num_angles)
    if environment.num_dims != 2 or environment.periodic:
        raise ValueError("boundary vector cells need two dimensions that are not periodic")
    rays = 2 * np.pi / num_angles * np.maximum(np.arange(num_angles) - 1, 0)
    dx, dy = np.cos(rays), np.sin(rays)
    x, y = positions[..., 0, None], positions[..., 1, None]
    row = (1,) * (positions.ndim - 1) + (-1,)
    nearest = jnp.full((*positions.shape[:-1], num_angles), jnp.inf, positions.dtype)
    for corner, end in environment.walls:
        side = end - corner
        denominator = dx * side[1] - dy * side[0]  # [ray]
        parallel = np.abs(denominator) < 1e-12
        inverse = np.where(parallel, 0, 1 / np.where(parallel, 1, denominator))
        per, ray_x, ray_y = (jnp.asarray(a, x.dtype).reshape(row) for a in (inverse, dx, dy))
        ox, oy = corner[0] - x, corner[1] - y
        reach = (ox * side[1] - oy * side[0]) * per
        on_wall = (ox * ray_y - oy * ray_x) * per
        met = (reach > 0) & (on_wall >= 0) & (on_wall <= 1) & ~jnp.asarray(parallel).reshape(row)
        nearest = jnp.where(met, jnp.minimum(nearest, reach), nearest)
    angles = jnp.asarray(rays, positions.dtype).reshape(row) - heading_angle(head_direction)
    angles = jnp.broadcast_to(angles, nearest.shape)
    most = jnp.sum(von_mises(jnp.asarray(rays)[:, None], tuning.angle_spread[None]), axis=0)
    total = jnp.sum(tuning.rate(nearest, angles), axis=-2)
    return total / most.reshape(row)

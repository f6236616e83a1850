"""Walls between places: line of sight, geodesic distances, boundary vector cells."""

import collections
import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse.csgraph
import shapely

from hfjax import check
from hfjax.arena import Environment, contains
from hfjax.arena.environment import FacingWalls, facing_walls, thickness_m
from hfjax.cells import (
    DistanceSq,
    VectorTuning,
    as_row,
    euclidean_sq,
    heading_angle,
    root,
    von_mises,
)


def _cross(a: jax.Array, b: jax.Array, wall: np.ndarray) -> jax.Array:
    """Whether straight lines from a to b, [..., 2] (m), cross a wall [end, 2], ends included."""
    (x, y), side = wall[0], wall[1] - wall[0]
    dx, dy = b[..., 0] - a[..., 0], b[..., 1] - a[..., 1]
    ox, oy = x - a[..., 0], y - a[..., 1]
    denominator = dx * side[1] - dy * side[0]
    parallel = denominator == 0
    denominator = jnp.where(parallel, 1, denominator)
    a_behind = ox * side[1] - oy * side[0]  # the distance to the wall times its length
    b_behind = a_behind - (dx * side[1] - dy * side[0])
    on_wall = (ox * dy - oy * dx) / denominator
    # The margin closes corners, and a line that ends on a wall does not cross it by rounding.
    margin = 1e-6
    slack = margin * (side @ side)
    from_front = (a_behind < -slack) & (b_behind > slack)
    from_behind = (a_behind > slack) & (b_behind < -slack)
    return (from_front | from_behind) & (on_wall > -margin) & (on_wall < 1 + margin) & ~parallel


def _occluded(positions: jax.Array, centres: jax.Array, walls: np.ndarray) -> jax.Array:
    """Whether a wall stands between: [..., 2], [place, 2], [wall, end, 2] -> [..., place] bool."""
    positions, centres = check.floats(positions), check.floats(centres)
    a = positions[..., None, :]
    b = centres.reshape((1,) * (positions.ndim - 1) + centres.shape)
    a, b = jnp.broadcast_arrays(a, b)
    crossed = jnp.zeros(a.shape[:-1], bool)
    for wall in walls:
        crossed |= _cross(a, b, wall)
    return crossed


def _opaque(environment: Environment) -> np.ndarray:
    """The walls that can stand between two places inside: all but those of a convex boundary.

    Raises ValueError where the environment is periodic or a track.
    """
    if environment.num_dims != 2 or environment.periodic:
        raise ValueError("the environment must have two dimensions and not be periodic")
    boundary = shapely.Polygon(environment.boundary)
    convex = boundary.convex_hull.equals(boundary)
    return environment.walls[len(environment.boundary) if convex else 0 :]


def line_of_sight_sq(environment: Environment) -> DistanceSq:
    """Squared distances, but (1000 m)^2 where a wall stands between. For `distance_sq=`.

    A wall includes its ends, so that corners are opaque.
    Raises ValueError where the environment is periodic or a track.
    Source: RatInABox, wall geometry "line_of_sight". Deviation: RatInABox ignores the first four
    walls, whichever they are; this function ignores those of a convex boundary.
    """
    walls = _opaque(environment)

    def distance_sq(positions: jax.Array, centres: jax.Array) -> jax.Array:
        occluded = _occluded(positions, centres, walls)
        return jnp.where(occluded, 1e6, euclidean_sq(positions, centres))

    return distance_sq


class _Corners(NamedTuple):
    """Where shortest paths can turn, on the host.

    corners [corner, 2] (m). viewpoints [corner, side, 2] (m): two points in the open beside each
    corner. A point is visible from a corner if it is visible from one of these, because a line that
    ends on the corner itself is on neither side of its walls.
    """

    corners: np.ndarray
    viewpoints: np.ndarray


def _turning_corners(environment: Environment) -> _Corners:
    """The corners at which a shortest path can turn.

    There the walls that meet leave a sector of more than 180 degrees free, inside the environment:
    free ends of walls, corners of holes, inward corners of the boundary. The viewpoints are 1e-5 of
    the extent away, perpendicular to the first and the last wall of the sector. Walls closer to
    each other than twice that count as meeting.
    """
    beside = 1e-5 * max(high - low for low, high in environment.extent)
    corners, viewpoints = [], []
    for corner in np.unique(environment.walls.reshape(-1, 2), axis=0):
        start, width = _widest_free_sector(corner, environment.walls, beside)
        if width <= np.pi + 1e-6:
            continue
        normals = start + np.array([np.pi / 2, width - np.pi / 2])
        pair = corner + beside * np.stack([np.cos(normals), np.sin(normals)], axis=-1)
        if bool(contains(environment, jnp.asarray(pair)).all()):
            corners.append(corner)
            viewpoints.append(pair)
    return _Corners(np.reshape(corners, (-1, 2)), np.reshape(viewpoints, (-1, 2, 2)))


def _widest_free_sector(
    corner: np.ndarray, walls: np.ndarray, beside: float
) -> tuple[float, float]:
    """The widest sector between the walls that meet at a corner [2]: its first angle, its width."""
    sides = walls[:, 1] - walls[:, 0]
    lengths = np.linalg.norm(sides, axis=-1)
    near = np.minimum(2 * beside, lengths / 4)
    along = np.sum((corner - walls[:, 0]) * sides, axis=-1) / lengths
    foot = walls[:, 0] + (np.clip(along / lengths, 0, 1))[:, None] * sides
    meets = np.linalg.norm(corner - foot, axis=-1) <= near
    # A wall leaves the corner in one direction if it ends there, in both if it passes.
    leaving = [sides[meets & (along < lengths - near)], -sides[meets & (along > near)]]
    dx, dy = np.concatenate(leaving).T
    angles = np.sort(np.arctan2(dy, dx))
    free = np.diff(angles, append=angles[0] + 2 * np.pi)
    widest = np.argmax(free)
    return angles[widest], free[widest]


def _visible_corners(x: jax.Array, turns: _Corners, walls: np.ndarray) -> jax.Array:
    """Whether each corner is visible from x: [..., 2] -> [..., corner] bool."""
    viewpoints = jnp.asarray(turns.viewpoints.reshape(-1, 2), x.dtype)
    occluded = _occluded(x, viewpoints, walls)
    return ~jnp.all(occluded.reshape(*x.shape[:-1], len(turns.corners), 2), axis=-1)


def _between_corners(turns: _Corners, walls: np.ndarray) -> np.ndarray:
    """Lengths (m) of the shortest paths between corners [corner, corner], by Dijkstra's algorithm.

    On the host; 1000 m where there is no path.
    """
    with jax.enable_x64(True):
        visible = _visible_corners(jnp.asarray(turns.viewpoints), turns, walls).any(axis=1)
    apart = np.linalg.norm(turns.corners[:, None] - turns.corners[None], axis=-1)
    graph = np.where(np.asarray(visible), apart, 0)
    return np.minimum(scipy.sparse.csgraph.shortest_path(graph, directed=False), 1e3)


def _to_visible_corners(x: jax.Array, turns: _Corners, walls: np.ndarray) -> jax.Array:
    """Distances (m) to the corners, 1000 m to those out of sight: [..., 2] -> [..., corner]."""
    distance = root(euclidean_sq(x, jnp.asarray(turns.corners, x.dtype)))
    return jnp.where(_visible_corners(x, turns, walls), distance, 1e3)


def _shortest_sq(
    positions: jax.Array,
    centres: jax.Array,
    /,
    *,
    turns: _Corners,
    walls: np.ndarray,
    between: np.ndarray,
) -> jax.Array:
    """Squared lengths of shortest paths; `between` [corner, corner] (m) as `_between_corners`."""
    positions, centres = check.floats(positions), check.floats(centres)
    steps = jnp.asarray(between, positions.dtype)
    to_centres = _to_visible_corners(centres, turns, walls)
    from_corners = jnp.min(to_centres[:, :, None] + steps[None], axis=1)  # [place, corner]
    to_corners = _to_visible_corners(positions, turns, walls)
    shortest = jnp.where(
        _occluded(positions, centres, walls), 1e3, root(euclidean_sq(positions, centres))
    )
    for k in range(len(turns.corners)):
        around = to_corners[..., k, None] + as_row(from_corners[:, k], positions.ndim)
        shortest = jnp.minimum(shortest, around)
    return shortest**2


def geodesic_sq(environment: Environment) -> DistanceSq:
    """Squared lengths of the shortest paths around walls and holes. For `distance_sq=`.

    environment: the room whose walls and holes are in the way.
    A shortest path consists of straight lines between corners (`_turning_corners`). Paths between
    corners are computed once, here. Where walls meet each other or the boundary there is no way
    through; gaps count as open from 1e-5 of the extent upwards. Lengths are exact. Places without
    any path between them are 1000 m apart.
    Raises ValueError where the environment is periodic or a track.
    Source: RatInABox, wall geometry "geodesic", which supports one wall in a rectangle.
    """
    walls = _opaque(environment)
    turns = _turning_corners(environment)
    if not len(turns.corners):
        return line_of_sight_sq(environment)
    between = _between_corners(turns, walls)
    return functools.partial(_shortest_sq, turns=turns, walls=walls, between=between)


NOWHERE_M = 1e18  # of a ray without a wall: in place of infinity, whose gradients are NaN


def _distance_along_rays(
    positions: jax.Array, environment: Environment, directions: np.ndarray
) -> jax.Array:
    """Distance (m) to the first wall along each ray, `NOWHERE_M` where there is none.

    A position on a wall is in front of it, as in `arena.step`: rays that leave the front meet the
    wall at a distance of 0. The same holds behind a side of a polygon, up to half its thickness.
    Walls reach beyond their ends by a millionth of their length, so that no ray slips through a
    corner. A position on a corner that juts into free space sees what `_into_corners` says.

    positions [..., 2] (m), directions [ray] (rad) -> [..., ray].
    """
    dx, dy = np.cos(directions), np.sin(directions)
    x, y = positions[..., 0, None], positions[..., 1, None]
    nearest = jnp.full((*positions.shape[:-1], len(directions)), NOWHERE_M, positions.dtype)
    walls, thickness = facing_walls(environment), thickness_m(environment)
    into_corners = _into_corners(walls, dx, dy)
    for (corner, end), one_sided, into_corner in zip(*walls, into_corners, strict=True):
        side = end - corner
        denominator = dx * side[1] - dy * side[0]  # [ray], negative for rays to the back
        parallel = np.abs(denominator) < 1e-12
        inverse = np.where(parallel, 0, 1 / np.where(parallel, 1, denominator))
        per, ray_x, ray_y, to_front = (
            as_row(jnp.asarray(a, x.dtype), positions.ndim)
            for a in (inverse, dx, dy, np.sign(denominator) * ~parallel)
        )
        ox, oy = corner[0] - x, corner[1] - y
        behind = ox * side[1] - oy * side[0]  # [..., 1], the distance times the length
        slack = thickness * np.linalg.norm(side) if one_sided else 0
        in_front = behind <= slack
        reach = jnp.where(in_front, jnp.minimum(behind, 0), behind) * per
        on_wall = (ox * ray_y - oy * ray_x) * per
        met = (jnp.where(in_front, -1, 1) * to_front > 0) & (jnp.abs(on_wall - 0.5) <= 0.5 + 1e-6)
        for (u, v), into in zip((corner, end), into_corner, strict=True):
            if not into.all():
                on_corner = (u - x) ** 2 + (v - y) ** 2 <= (2 * thickness) ** 2
                met &= (as_row(jnp.asarray(into, x.dtype), positions.ndim) > 0) | ~on_corner
        nearest = jnp.where(met, jnp.minimum(nearest, reach), nearest)
    return nearest + 0 * (x + y)  # NaN stays NaN


def _into_corners(walls: FacingWalls, dx: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """Whether a ray from the end of a wall may meet it there: dx, dy [ray] -> [wall, end, ray].

    All may, but at a corner of two sides that juts into free space: there only rays to the back of
    both sides go into the wall.
    """
    sides = walls.walls[:, 1] - walls.walls[:, 0]
    to_back = dx * sides[:, 1, None] - dy * sides[:, 0, None] < -1e-12  # [wall, ray]
    into = np.ones((len(sides), 2, len(dx)), bool)
    meeting = collections.defaultdict(list)  # sides by their corners
    for i, end in itertools.product(np.flatnonzero(walls.one_sided), (0, 1)):
        meeting[tuple(walls.walls[i, end])].append((i, end))
    for corner, ends in meeting.items():
        for (i, end), (j, other) in itertools.permutations(ends, 2):
            u, v = walls.walls[j, 1 - other] - corner
            if u * sides[i, 1] - v * sides[i, 0] < 0:  # the other side lies behind this one
                into[i, end] = to_back[i] & to_back[j]
    return into


def boundary_vector_cells(
    positions: jax.Array,
    tuning: VectorTuning,
    *,
    environment: Environment,
    head_direction: jax.Array | None = None,
    num_angles: int = 180,
) -> jax.Array:
    """Cells that fire where a wall is at a preferred distance in a preferred direction.

    The sum of the tuning over the first walls along num_angles rays, divided by the same sum for
    walls at the preferred distance in every direction. An animal exactly on a wall is in front of
    it (`arena.step`) and sees it at a distance of 0; in RatInABox chance decides.

    positions [..., 2] (m), head_direction [..., 2] for egocentric cells -> [..., cell].
    Raises ValueError where the environment is periodic or a track, or num_angles is below 2.
    Source: Barry & Burgess 2007; de Cothi & Barry 2020; RatInABox `BoundaryVectorCells`. Its rays,
    kept on purpose, contain the one along x twice and none at -360 / num_angles degrees.
    """
    check.at_least(2, num_angles=num_angles)
    if environment.num_dims != 2 or environment.periodic:
        raise ValueError("boundary vector cells need two dimensions that are not periodic")
    positions = check.floats(positions)
    rays = 2 * np.pi / num_angles * np.maximum(np.arange(num_angles) - 1, 0)
    nearest = _distance_along_rays(positions, environment, rays)
    angles = as_row(jnp.asarray(rays, positions.dtype), positions.ndim)
    angles = angles - heading_angle(head_direction)
    angles = jnp.broadcast_to(angles, nearest.shape)
    spread = check.floats(tuning.angle_spread)
    most = jnp.sum(von_mises(jnp.asarray(rays)[:, None], spread[None]), axis=0)
    total = jnp.sum(tuning.rate(nearest, angles), axis=-2)
    return total / as_row(most, positions.ndim)

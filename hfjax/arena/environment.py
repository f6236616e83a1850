"""Environments: boundaries, walls, holes, and conversion from and to RatInABox."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import shapely

from hfjax import check


class Environment(NamedTuple):
    """The space in which an animal moves. `box`, `polygon`, `track` and `from_ratinabox` make it.

    boundary [corner, 2] (m): the outer polygon; on a track [0, 2].
    inner_walls [wall, end, 2] (m): thin straight walls inside.
    holes: polygons [corner, 2] (m) inside that cannot be entered.
    extent: (lowest, highest) coordinate (m) along each dimension.
    periodic: whether the boundaries are periodic.
    """

    boundary: np.ndarray
    inner_walls: np.ndarray
    holes: tuple[np.ndarray, ...]
    extent: tuple[tuple[float, float], ...]
    periodic: bool

    @property
    def num_dims(self) -> int:
        """1 on a track, 2 elsewhere."""
        return len(self.extent)

    @property
    def walls(self) -> np.ndarray:
        """All walls [wall, end, 2] (m), in RatInABox's order: boundary, inner walls, holes."""
        outer = () if self.periodic else (self.boundary,)
        return np.concatenate(
            [*map(edges, outer), self.inner_walls, *map(edges, self.holes)]
        ).reshape(-1, 2, 2)


def edges(corners: np.ndarray) -> np.ndarray:
    """The sides of a polygon: [corner, 2] -> [side, end, 2]."""
    return np.stack([np.roll(corners, -1, axis=0), corners], axis=1)


class FacingWalls(NamedTuple):
    """Walls and the side from which they are met.

    walls [wall, end, 2] (m), in the order of `Environment.walls`. An animal at p is in front of a
    wall where the cross product (p - first end) x (second end - first end) is positive.
    one_sided [wall]: the sides of the boundary and of holes have their front towards free space,
    and nothing behind.
    """

    walls: np.ndarray
    one_sided: np.ndarray


def facing_walls(environment: Environment) -> FacingWalls:
    """All walls, with the ends of polygons' sides in the order that `FacingWalls` asks for."""
    outer = [] if environment.periodic else [_facing(environment.boundary, inwards=True)]
    holes = [_facing(hole, inwards=False) for hole in environment.holes]
    walls = np.concatenate([*outer, environment.inner_walls, *holes]).reshape(-1, 2, 2)
    counts = sum(map(len, outer)), len(environment.inner_walls), sum(map(len, holes))
    return FacingWalls(walls, np.repeat([True, False, True], counts))


def _facing(corners: np.ndarray, *, inwards: bool) -> np.ndarray:
    """The sides [side, end, 2] of a polygon [corner, 2], with their fronts inwards or outwards."""
    sides = edges(corners)
    return sides if shapely.LinearRing(corners).is_ccw == inwards else sides[:, ::-1]


# Corners that are nearer to each other than this share of the extent are one corner.
SAME_CORNER = 1e-9
# Half the thickness of a wall, as a share of the extent.
THICKNESS = 1e-6
# Farther from the origin, in extents, float32 resolves less than a thousandth of the extent.
FARTHEST = 1e4


def thickness_m(environment: Environment) -> float:
    """Half the thickness of the walls, with which rounding of float32 opens no corner."""
    return THICKNESS * max(high - low for low, high in environment.extent)


def polygon(
    corners: Any, *, inner_walls: Any = (), holes: Sequence[Any] = (), periodic: bool = False
) -> Environment:
    """An environment with a polygonal boundary, inner walls, and holes.

    corners [corner, 2] (m), inner_walls [wall, end, 2] (m), holes: sequence of [corner, 2] (m).
    An outline may be closed (its first corner once more at the end) or repeat a corner: sides
    shorter than a billionth of the extent are dropped.
    Raises ValueError where a coordinate is not finite, above 1e9 m, or above 1e4 times the extent
    (float32 would not resolve positions); a polygon crosses itself or has no area (less than a
    billionth of the square of its extent); a wall or a hole lies outside (a wall may, by a
    billionth of the extent, for rounding); a wall is shorter than that; holes overlap or share a
    side; or a periodic boundary is not an axis-aligned rectangle.
    Source: RatInABox `Environment`.
    """
    outline = _outline(corners, "the boundary")
    _check_near_origin(outline)
    walls = _wall_ends(inner_walls)
    space = shapely.Polygon(outline)
    low, high = outline.min(axis=0), outline.max(axis=0)
    tolerance = SAME_CORNER * (high - low).max()
    within = space.buffer(tolerance)
    for wall in walls:
        if not (np.isfinite(wall).all() and within.covers(shapely.LineString(wall))):
            raise ValueError(f"the wall {wall.tolist()} is not inside the environment")
        if np.linalg.norm(wall[1] - wall[0]) <= tolerance:
            raise ValueError(f"the wall {wall.tolist()} has no length")
    cut = tuple(_outline(hole, "a hole") for hole in holes)
    for hole in cut:
        if not space.contains(shapely.Polygon(hole)):
            raise ValueError(f"the hole {hole.tolist()} does not lie inside the environment")
    if not shapely.Polygon(outline, cut).is_valid:
        raise ValueError("holes must not overlap, or share a side with a hole or the boundary")
    if periodic and not space.equals(shapely.box(*low, *high)):
        raise ValueError("a periodic environment must be a rectangle along the axes")
    extent = tuple((float(a), float(b)) for a, b in zip(low, high, strict=True))
    return Environment(outline, walls, cut, extent, periodic)


def _outline(corners: Any, name: str) -> np.ndarray:
    """The different corners [corner, 2] of a valid polygon; `name` is for the ValueError."""
    outline = _array(corners)
    if outline.ndim != 2 or outline.shape[1] != 2 or len(outline) < 3:
        raise ValueError(f"{name} must be at least three corners (x, y), but is {corners}")
    if not np.all(np.abs(outline) <= 1e9):
        raise ValueError(f"{name} must have finite corners within 1e9 m, but is {outline.tolist()}")
    to_next = np.abs(outline - np.roll(outline, -1, axis=0)).max(axis=-1)
    outline = outline[to_next > SAME_CORNER * np.ptp(outline, axis=0).max()]
    if len(outline) < 3:
        raise ValueError(f"{name} must be at least three different corners, but is {corners}")
    drawn, extent = shapely.Polygon(outline), np.ptp(outline, axis=0).max()
    if not drawn.is_valid or drawn.area <= SAME_CORNER * extent**2:
        raise ValueError(f"{name} must not cross itself or be flat, but is {outline.tolist()}")
    return outline


def _check_near_origin(outline: np.ndarray) -> None:
    """Raises ValueError for a boundary [corner, 2] so far away that float32 cannot resolve it."""
    farthest, extent = np.abs(outline).max(), np.ptp(outline, axis=0).max()
    if farthest > FARTHEST * extent:
        raise ValueError(
            f"the boundary must lie within {FARTHEST:g} times its extent ({extent:g} m) of the "
            f"origin, but has a corner at {farthest:g} m: shift the origin"
        )


def _wall_ends(walls: Any) -> np.ndarray:
    """Walls as [wall, end, 2]; one wall [end, 2] is accepted."""
    ends = _array(walls)
    if ends.size and (ends.ndim not in (2, 3) or ends.shape[-2:] != (2, 2)):
        raise ValueError(f"inner_walls must be pairs of points [wall, end, 2], but is {walls}")
    return ends.reshape(-1, 2, 2)


def _array(values: Any) -> np.ndarray:
    """An array of numbers; no dimension where that cannot be."""
    try:
        return np.asarray(values, float)
    except (TypeError, ValueError):
        return np.asarray(np.nan)


def box(
    width_m: float = 1.0,
    height_m: float | None = None,
    *,
    inner_walls: Any = (),
    holes: Sequence[Any] = (),
    periodic: bool = False,
    centred: bool = False,
) -> Environment:
    """A rectangle (a square where height_m is None), with a corner or its centre at the origin.

    width_m      length along x (m).
    height_m     length along y (m); None for a square.
    inner_walls  walls inside, [wall, end, 2] (m).
    holes        outlines of areas that are left out, each [corner, 2] (m).
    periodic     whether opposite sides are joined.
    centred      whether the origin is the centre; otherwise it is the lower left corner.

    Raises ValueError as `polygon` does, and where a
    length is not positive.
    """
    height_m = width_m if height_m is None else height_m
    check.positive(width_m=width_m, height_m=height_m)
    corners = np.array([(0, 0), (width_m, 0), (width_m, height_m), (0, height_m)], float)
    if centred:
        corners -= (width_m / 2, height_m / 2)
    return polygon(corners, inner_walls=inner_walls, holes=holes, periodic=periodic)


def track(length_m: float = 1.0, *, periodic: bool = False) -> Environment:
    """A linear track from 0 to length_m, or a ring of that circumference.

    Raises ValueError where length_m is not positive.
    """
    check.positive(length_m=length_m)
    nothing = np.zeros((0, 2, 2))
    return Environment(nothing[:, 0], nothing, (), ((0.0, float(length_m)),), periodic)


def from_ratinabox(environment: Any) -> Environment:
    """A RatInABox `Environment` with its boundary, walls, holes and boundary conditions.

    Raises ValueError where its array of walls does not contain the sides of its polygons.
    """
    periodic = environment.boundary_conditions == "periodic"
    if environment.dimensionality == "1D":
        return track(environment.scale, periodic=periodic)
    holes = [np.asarray(hole, float) for hole in environment.holes]
    sides = sum(map(len, holes)) + (0 if periodic else len(environment.boundary))
    # RatInABox keeps all walls in one array: the sides of its polygons, and inner walls.
    polygon_sides = {
        tuple(wall.ravel())
        for hole in [*holes, environment.boundary]
        for wall in edges(np.asarray(hole, float))
    }
    walls = np.asarray(environment.walls, float).reshape(-1, 2, 2)
    inner = [wall for wall in walls if tuple(wall.ravel()) not in polygon_sides]
    if len(inner) != len(walls) - sides:
        raise ValueError("the environment's walls are not those of its boundary and holes")
    return polygon(environment.boundary, inner_walls=inner, holes=holes, periodic=periodic)


def to_ratinabox(environment: Environment) -> Any:
    """A RatInABox `Environment` with the same boundary, walls, holes and boundary conditions.

    Raises ValueError for a periodic box without a corner at the origin, which RatInABox lacks.
    """
    from ratinabox import Environment as RatInABoxEnvironment  # slow to import

    conditions = "periodic" if environment.periodic else "solid"
    right = environment.extent[0][1]
    if environment.num_dims == 1:
        return RatInABoxEnvironment(
            {"dimensionality": "1D", "scale": right, "boundary_conditions": conditions}
        )
    top = environment.extent[1][1]
    shape: dict[str, Any] = {"boundary": environment.boundary.tolist()}
    at_origin = np.array([(0, 0), (right, 0), (right, top), (0, top)])
    if environment.boundary.shape == (4, 2) and np.array_equal(environment.boundary, at_origin):
        shape = {"scale": top, "aspect": right / top}
    elif environment.periodic:
        raise ValueError("a periodic box of RatInABox must have a corner at the origin")
    return RatInABoxEnvironment(
        {
            **shape,
            "walls": environment.inner_walls.tolist(),
            "holes": [hole.tolist() for hole in environment.holes],
            "boundary_conditions": conditions,
        }
    )


def contains(environment: Environment, positions: jax.Array) -> jax.Array:
    """Whether positions are inside the environment and in no hole: [..., dim] (m) -> [...] bool.

    Positions on the boundary and on the sides of holes are inside, to half the thickness of a wall
    (a millionth of the extent). NaN is not.
    """
    positions = check.floats(positions)
    if environment.num_dims == 1:
        low, high = environment.extent[0]
        return (positions[..., 0] >= low) & (positions[..., 0] <= high)
    allowed = _inside(environment.boundary, positions)
    for hole in environment.holes:
        allowed &= ~_inside(hole, positions)
    for outline in (environment.boundary, *environment.holes):
        allowed |= _on_a_side(outline, positions, thickness_m(environment))
    return allowed


def _on_a_side(corners: np.ndarray, positions: jax.Array, within_m: float) -> jax.Array:
    """Whether positions [..., 2] are this near to a side of a polygon [corner, 2] -> [...] bool."""
    near = jnp.zeros(positions.shape[:-1], bool)
    for corner, end in edges(corners):
        side = end - corner
        length = np.linalg.norm(side)
        tx, ty = map(float, side / length)
        x, y = positions[..., 0] - float(corner[0]), positions[..., 1] - float(corner[1])
        along = tx * x + ty * y
        beyond = along - jnp.clip(along, 0, float(length))
        near |= beyond**2 + (tx * y - ty * x) ** 2 <= within_m**2
    return near


def _inside(corners: np.ndarray, positions: jax.Array) -> jax.Array:
    """Whether positions [..., 2] are inside a polygon [corner, 2]: even-odd rule, ray along x."""
    odd = jnp.zeros(positions.shape[:-1], bool)
    x, y = positions[..., 0], positions[..., 1]
    for (x1, y1), (x0, y0) in edges(corners):
        if y0 != y1:
            crosses = (y0 > y) != (y1 > y)
            odd ^= crosses & (x < x0 + (y - y0) * ((x1 - x0) / (y1 - y0)))
    return odd


def uniform_positions(key: jax.Array, environment: Environment, count: int) -> jax.Array:
    """Uniform positions inside the environment and in no hole -> [count, dim] (m).

    Chooses a triangle of a triangulation, with its share of the area, then a point in the triangle.
    """
    if environment.num_dims == 1:
        low, high = environment.extent[0]
        return jax.random.uniform(key, (count, 1), minval=low, maxval=high)
    space = shapely.Polygon(environment.boundary, environment.holes)
    pieces = shapely.constrained_delaunay_triangles(space).geoms
    a, b, c = np.stack([shapely.get_coordinates(p)[:3] for p in pieces], axis=1)
    triangle_key, within_key = jax.random.split(key)
    area = jnp.asarray([p.area for p in pieces])
    triangle = jax.random.categorical(triangle_key, jnp.log(area), shape=(count,))
    u = jax.random.uniform(within_key, (2, count, 1))
    u = jnp.where(u[0] + u[1] > 1, 1 - u, u)  # the parallelogram folded onto the triangle
    a, b, c = (jnp.asarray(corner)[triangle] for corner in (a, b, c))
    return a + u[0] * (b - a) + u[1] * (c - a)

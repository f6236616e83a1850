"""What path-integrating networks share: their world, their evaluation and their figures.

A path-integrating network gets the place code of a start and then the displacement of each step. It
is trained to give the place code along the path. Such networks are `grid_rnn`, `grid_lstm` and
`topo_grid`.

Source: Sorscher, Mel, Ganguli & Ocko, NeurIPS 2019, and Sorscher et al., Neuron 2023; their
repository grid-pattern-formation.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import chex
import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from hfjax import arena, cells, check, decoders, figures, ratemaps
from hfjax.missing import MISSING
from hfjax.models import grid_module
from hfjax.task import HostReadout, Metric, Readout, Scalars, declares, metrics_of

# Walks are evaluated in groups of about this many positions, to bound memory: 4096 units take
# 0.25 GiB for each array of [group, time, unit].
POSITIONS_AT_ONCE = 16_384

NUM_BEST = 64  # units whose maps are drawn, by grid score
NUM_BANDED = 16  # units whose maps are drawn, by band share
NUM_RANDOM = 64  # units whose maps are drawn as a random sample
NUM_PATHS = 4  # rollouts that are drawn
NUM_BORDER = 16  # units whose maps are drawn, by border score
NUM_FIELDS = 16  # place cells whose fields are drawn
NUM_WALKS = 20  # walks of num_steps that are drawn
BORDER_SCORE = 0.5  # above which units count as border cells: Solstad et al. 2008
QUARTILES = (0.25, 0.5, 0.75)


# --- The world ---


class Decode(Protocol):
    """(outputs [..., place], centres [place, 2] (m)) -> positions [..., 2] (m)."""

    def __call__(self, outputs: jax.Array, centres: jax.Array, /) -> jax.Array:
        """The position that the outputs stand for."""


class Offset(Protocol):
    """(from [..., 2], to [..., 2]) -> vectors [..., 2] (m)."""

    def __call__(self, origin: jax.Array, goal: jax.Array, /) -> jax.Array:
        """The shortest way from one position to the other."""


class Motion(Protocol):
    """Draws walks in a box centred on 0, as `arena.sorscher_walk` does."""

    def __call__(
        self,
        key: jax.Array,
        /,
        *,
        batch_size: int,
        num_steps: int,
        width_m: check.Width,
        dt_s: float,
        boundary: arena.Boundary,
    ) -> arena.Walk:
        """Walks of num_steps steps; width_m: (width, height) of the box."""


class PlaceCode(Protocol):
    """A place code, as `cells.softmax_gaussian`."""

    def __call__(
        self,
        positions: jax.Array,
        centres: jax.Array,
        /,
        *,
        sigma_m: float,
        distance_sq: cells.DistanceSq,
    ) -> jax.Array:
        """Positions [..., 2], centres [place, 2] (m) -> rates [..., place]."""


class Box(NamedTuple):
    """A rectangular box centred on 0 and its geometry; made by `walled_box` or `periodic_box`.

    boundary, distance_sq: as in `arena` and `cells`.
    """

    width_m: float
    height_m: float
    boundary: arena.Boundary
    distance_sq: cells.DistanceSq
    decode: Decode
    offset: Offset

    @property
    def sides_m(self) -> tuple[float, float]:
        """(width, height) (m)."""
        return self.width_m, self.height_m


class World(NamedTuple):
    """A box, the animal's motion in it and the place cells that cover it.

    dt_s: time between positions. sigma_m: width of the place fields.
    """

    box: Box
    motion: Motion
    dt_s: float
    place_centres: cells.PlaceCentres
    place_code: PlaceCode
    sigma_m: float


def walled_box(*, width_m: float = 2.2, height_m: float | None = None) -> Box:
    """A box with walls; a square, as published, where height_m is None.

    width_m   side of the box along x (m).
    height_m  side of the box along y (m); None for a square.

    Raises ValueError where a side is not positive.
    """
    return Box(
        *_sides(width_m, height_m),
        boundary=arena.avoid_walls,
        distance_sq=cells.euclidean_sq,
        decode=decoders.decode_position,
        offset=lambda origin, goal: goal - origin,
    )


def _sides(width_m: float, height_m: float | None) -> tuple[float, float]:
    height_m = width_m if height_m is None else height_m
    check.positive(width_m=width_m, height_m=height_m)
    return width_m, height_m


def periodic_box(*, width_m: float = 2.2, height_m: float | None = None) -> Box:
    """A box with periodic boundaries; a square where height_m is None.

    width_m, height_m: as in `walled_box`. Raises ValueError where a side is not positive.
    Deviation: the original takes the plain mean of the three decoded centres and the plain distance
    to it, also where they lie on opposite sides of the seam. Here mean and distance are circular.
    """
    sides_m = _sides(width_m, height_m)

    def decode(outputs: jax.Array, centres: jax.Array) -> jax.Array:
        angle = centres / (_row(sides_m, centres) / (2 * np.pi))
        sine = decoders.decode_position(outputs, jnp.sin(angle))
        cosine = decoders.decode_position(outputs, jnp.cos(angle))
        return jnp.arctan2(sine, cosine) * (_row(sides_m, sine) / (2 * np.pi))

    def offset(origin: jax.Array, goal: jax.Array) -> jax.Array:
        way = goal - origin
        half = _row(sides_m, way) / 2
        return arena.wrap(way, -half, half)

    return Box(
        *sides_m,
        boundary=arena.wrap_around,
        distance_sq=cells.periodic_sq(sides_m),
        decode=decode,
        offset=offset,
    )


def _row(sides_m: tuple[float, float], like: jax.Array) -> jax.Array:
    """The sides of a box, to divide or multiply positions [..., 2]."""
    return jnp.asarray(sides_m, like.dtype).reshape((1,) * (like.ndim - 1) + (2,))


def walks(world: World, key: jax.Array, *, batch_size: int, num_steps: int) -> arena.Walk:
    """Walks [batch, time] of the world's animal."""
    return world.motion(
        key,
        batch_size=batch_size,
        num_steps=num_steps,
        width_m=world.box.sides_m,
        dt_s=world.dt_s,
        boundary=world.box.boundary,
    )


def sample(
    data: Any, key: jax.Array, /, *, world: World, batch_size: int, num_steps: int
) -> arena.Walk:
    """A Task's `sample`: a batch of training walks."""
    del data
    return walks(world, key, batch_size=batch_size, num_steps=num_steps)


def walk_along(positions: jax.Array) -> arena.Walk:
    """The Walk along recorded positions [batch, time + 1, 2] (m); the first one is the start.

    A recording of positions has no heading at the start; it is taken from the first step.
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


def code(world: World, positions: jax.Array, centres: jax.Array) -> jax.Array:
    """The place code at positions [..., 2] (m) of cells at centres [place, 2] -> [..., place]."""
    return world.place_code(
        positions, centres, sigma_m=world.sigma_m, distance_sq=world.box.distance_sq
    )


def draw_centres(world: World, key: jax.Array, *, num_place: int) -> jax.Array:
    """Centres of place fields in the world's box -> [place, 2] (m)."""
    return world.place_centres(key, num_place=num_place, width_m=world.box.sides_m)


def check_world(world: World) -> None:
    """Raise ValueError where a width or a time is not positive."""
    check.positive(sigma_m=world.sigma_m, dt_s=world.dt_s)


def check_num_place(num_place: int) -> None:
    """Raise ValueError where num_place is below 3: decoding takes the mean of three centres."""
    if num_place < 3:
        raise ValueError(f"num_place must be at least 3 for decoding, but is {num_place}")


def distance_cm(world: World, positions: jax.Array, decoded: jax.Array) -> jax.Array:
    """Distances between true and decoded positions [..., 2] (m) -> [...] (cm)."""
    return 100 * jnp.linalg.norm(world.box.offset(positions, decoded), axis=-1)


def chance_cm(box: Box) -> jax.Array:
    """Median distance (cm) between two positions in the box, both uniform, on a lattice of 16^2."""
    x, y = (side * ((jnp.arange(16) + 0.5) / 16 - 0.5) for side in box.sides_m)
    places = jnp.stack(jnp.meshgrid(x, y, indexing="ij"), axis=-1).reshape(-1, 2)
    away = box.offset(places[:, None], places[None])
    return 100 * jnp.median(jnp.linalg.norm(away, axis=-1))


@declares({"loss": Metric("cross-entropy", "nats")})
def cross_entropy(outputs: jax.Array, code: jax.Array) -> jax.Array:
    """-sum_i p_i log softmax(outputs)_i for a code p: [..., place] twice -> [...]. As published.

    The logarithm of the normaliser is taken out of the sum, which saves an array.
    """
    normaliser = jax.nn.logsumexp(outputs, axis=-1) * jnp.sum(code, axis=-1)
    return normaliser - jnp.sum(code * outputs, axis=-1)


# --- Evaluation ---


class Forward(Protocol):
    """(state, walk) -> activity [batch, time, unit], outputs [batch, time, place]."""

    def __call__(self, state: Any, walk: arena.Walk, /) -> tuple[jax.Array, jax.Array]:
        """Run the network along walks."""


class RecurrentWeights(Protocol):
    """(state) -> weights [unit, unit] (from, to), or None where units have no such weights."""

    def __call__(self, state: Any, /) -> jax.Array | None:
        """The weights that are compared with the units' phases."""


class Integrator(NamedTuple):
    """A trained path-integrating network in its world, as the evaluation takes it.

    Its state has a field place_centres [place, 2] (m). num_units: of the activity.
    """

    forward: Forward
    weights: RecurrentWeights
    num_units: int
    world: World


class EvaluationSettings(NamedTuple):
    """How much is evaluated.

    num_steps       time steps of a walk that is scored and mapped.
    rollout_steps   time steps of a long walk.
    num_rollouts    number of long walks.
    num_map_walks   walks of num_steps from which rate maps are made.
    num_bins        bins of a rate map along the longer side of the box; bins are square.
    num_noise_maps  maps of smooth noise that are scored as a control.
    """

    num_steps: int = 20
    rollout_steps: int = 500
    num_rollouts: int = 100
    num_map_walks: int = 5000
    num_bins: int = 20
    num_noise_maps: int = 1000


def check_settings(settings: EvaluationSettings) -> None:
    """Raise ValueError where a number is below 1."""
    check.at_least(1, **settings._asdict())


def error_panel(num_steps: int) -> str:
    """The panel of training.png for walks of this length."""
    return f"Distance to the true position, {num_steps} steps"


def mean_distance_cm(box: Box) -> float:
    """Mean distance (cm) of two independent positions: .521 sides of a square, .383 if periodic.

    Along each axis the density of the distance d is 2 (1 - d) sides, or 2 up to half a periodic
    side; the mean is a sum over a fine lattice of both.
    """
    periodic = box.boundary is arena.wrap_around
    d = (np.arange(500) + 0.5) / (1000 if periodic else 500)
    weight = np.ones(500) / 500 if periodic else 2 * (1 - d) / 500
    x, y = (side * d for side in box.sides_m)
    return 100 * float(weight @ np.hypot(x[:, None], y[None]) @ weight)


def metrics(world: World, settings: EvaluationSettings) -> dict[str, Metric]:
    """What the scalars of `evaluate` mean."""
    chance = "chance", mean_distance_cm(world.box)
    declared = {}
    for prefix, num_steps, where in (
        ("", settings.num_steps, ""),
        ("rollout_", settings.rollout_steps, ""),
        ("rat_", settings.num_steps, ", rat's path"),
        ("rat_rollout_", settings.rollout_steps, ", rat's path"),
    ):
        length = f"{num_steps} steps ({world.dt_s * num_steps:.3g} s)"
        series = "rat's path" if where else "simulated walks"
        error = Metric(f"error, {length}{where}", "cm", "held out", "lower", series=series)
        declared[f"{prefix}error_cm"] = error._replace(
            panel=error_panel(num_steps), level=chance if prefix == "rollout_" else None
        )
        declared[f"{prefix}floor_cm"] = Metric("floor", "cm", role="floor", of=f"{prefix}error_cm")
        declared[f"{prefix}error_above_floor_cm"] = error._replace(
            label=f"error above the floor, {length}{where}"
        )
    score = ratemaps.SCORE
    if has_walls(world.box):
        declared |= border_metrics()
    return declared | {
        **ratemaps.share_metrics("units"),
        "max_grid_score": score._replace(label="highest grid score", series="highest"),
        "median_grid_score": score,
    }


def border_metrics() -> dict[str, Metric]:
    """What the scalars of `score_borders` mean."""
    share = Metric(
        f"border score above {BORDER_SCORE}",
        "% of units",
        panel="Share of units above a border score",
    )
    name = f"border_share_above_{BORDER_SCORE}"
    noise = Metric("smooth noise", "% of units", role="control", of=name)
    return {name: share, f"border_noise_share_above_{BORDER_SCORE}": noise}


def loss_metrics(names: Mapping[str, str], objective: Any) -> dict[str, Metric]:
    """Losses {name: label} of training walks, in one panel and the unit that `objective` has."""
    loss = metrics_of(objective).get("loss", Metric("loss"))
    return {
        name: loss._replace(label=label, split="training", better="lower", panel="Loss")
        for name, label in names.items()
    }


def training_error(num_steps: int) -> Metric:
    """The error of training walks, which may be shorter than those of the evaluation."""
    return Metric(
        f"error, {num_steps} steps",
        "cm",
        "training",
        "lower",
        panel=error_panel(num_steps),
        series="training walks",
    )


def evaluate(
    state: Any,
    data: Any,
    key: jax.Array,
    *,
    integrator: Integrator,
    settings: EvaluationSettings,
) -> tuple[Scalars, Readout]:
    """A Task's `evaluate` for any network that path-integrates to place cells.

    It answers four questions, on walks that were not trained on:
    - How large is the error of decoding, in walks of num_steps and in rollouts of rollout_steps?
      Beside each error is its floor: the error where the true position is coded and decoded.
    - How large is it along the paths of a real rat? Only where data holds "rat_positions" (in box
      widths), as `recordings.sargolini` returns it.
    - What does each unit respond to? Rate maps, their grid scores, and the share of units above the
      thresholds of the field. Control: the same share of maps of low-pass filtered noise.
    - Is the population low-dimensional? See `grid_module.torus`.

    -> scalars {,rollout_,rat_,rat_rollout_}{error,floor,error_above_floor}_cm and those of
    `score_maps` and `score_borders`; readout: extent_m [2, 2], chance_cm (`chance_cm`), and what
    `measure_rollouts` (for the rat with the prefix rat_), `score_maps`, `score_borders`,
    `world_to_draw`, `maps_to_draw` and `grid_module.torus` return.
    """
    map_key, rollout_key, noise_key = jax.random.split(key, 3)
    world = integrator.world
    maps, error_cm, floor_cm = map_units(state, map_key, integrator=integrator, settings=settings)
    rollouts = walks(
        world, rollout_key, batch_size=settings.num_rollouts, num_steps=settings.rollout_steps
    )
    scored, scores = score_maps(maps, noise_key, num_noise_maps=settings.num_noise_maps)
    rolled, paths = measure_rollouts(state, rollouts, integrator=integrator)
    scalars = mean_errors("", error_cm, floor_cm) | rolled | scored
    others_key = jax.random.fold_in(key, 3)
    readout = {
        "extent_m": jnp.asarray(extent_m(world.box)),
        "chance_cm": chance_cm(world.box),
        "rate_maps": maps,
        **scores,
        **paths,
        **world_to_draw(world, state.place_centres, others_key, num_steps=settings.num_steps),
    }
    if has_walls(world.box):
        shares, borders = score_borders(
            maps, others_key, world=world, num_noise_maps=settings.num_noise_maps
        )
        scalars |= shares
        readout |= borders
    if data:
        followed, rat_paths = measure_rat(
            state, data, integrator=integrator, num_steps=settings.num_steps
        )
        scalars |= followed
        readout |= rat_paths
    readout |= maps_to_draw(maps, scores["grid_score_60"])
    readout |= grid_module.torus(
        maps, scores["grid_score_60"], integrator.weights(state), width_m=world.box.sides_m
    )
    return scalars, readout


def has_walls(box: Box) -> bool:
    """Whether the animal is kept in by walls; otherwise the box is periodic."""
    return box.boundary is not arena.wrap_around


def extent_m(box: Box) -> ratemaps.Extent:
    """((left, right), (bottom, top)) of a box (m)."""
    x, y = (side / 2 for side in box.sides_m)
    return ((-x, x), (-y, y))


def bins_of_maps(box: Box, num_bins: int) -> tuple[int, int]:
    """Bins of a rate map along x and y: num_bins along the longer side, and about square."""
    x, y = (max(1, round(num_bins * side / max(box.sides_m))) for side in box.sides_m)
    return x, y


def integrate(
    state: Any, walk: arena.Walk, *, integrator: Integrator
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Run along walks -> activity [walk, time, unit]; decoded positions and their floor [.., 2]."""
    world, centres = integrator.world, state.place_centres
    activity, outputs = integrator.forward(state, walk)
    decoded = world.box.decode(outputs, centres)
    floor = world.box.decode(code(world, walk.positions, centres), centres)
    return activity, decoded, floor


def integrate_in_groups(
    state: Any, walk: arena.Walk, *, integrator: Integrator
) -> tuple[jax.Array, jax.Array]:
    """Decoded positions and their floor, both [walk, time, 2], a group of walks at a time."""
    count, length = walk.positions.shape[:2]
    num_groups = -(-count * length // POSITIONS_AT_ONCE)
    group = -(-count // num_groups)
    # The last group is filled up with walks of the first.
    index = jnp.arange(num_groups * group) % count

    def integrate_group(members: jax.Array) -> tuple[jax.Array, jax.Array]:
        some = jax.tree.map(lambda x: x[members], walk)
        return integrate(state, some, integrator=integrator)[1:]

    decoded, floor = jax.lax.map(integrate_group, index.reshape(num_groups, group))
    return decoded.reshape(-1, length, 2)[:count], floor.reshape(-1, length, 2)[:count]


def apply(
    state: Any, positions: jax.Array, /, *, integrator: Integrator, num_steps: int
) -> jax.Array:
    """A Task's `apply`: activity [time, unit] along a path of any length; see `along`."""
    return along(positions, lambda piece: integrator.forward(state, piece)[0], num_steps=num_steps)


def decode(
    state: Any, positions: jax.Array, /, *, integrator: Integrator, num_steps: int
) -> jax.Array:
    """A Task's `decode`: decoded positions [time, 2] (m) along a path of any length; see `along`.

    The first is decoded from the place code of the start.
    """
    world, centres = integrator.world, state.place_centres

    def decoded(piece: arena.Walk) -> jax.Array:
        return world.box.decode(integrator.forward(state, piece)[1], centres)

    start = world.box.decode(code(world, positions[:1], centres), centres)
    return jnp.concatenate([start, along(positions, decoded, num_steps=num_steps)[1:]])


def along(
    positions: jax.Array, forward: Callable[[arena.Walk], jax.Array], *, num_steps: int
) -> jax.Array:
    """What a network gives along a path of any length.

    The network gets the place code of a start and num_steps displacements, then the place code of
    the next start, so that its error does not grow with the path: what its units respond to is
    compared, not its memory. num_steps is that of training.

    positions [time, 2] (m), two or more, every dt_s of the world and in its box; forward: of walks
    [1, num_steps] -> [1, num_steps, ...]. Returns [time, ...]; the first is that after the first
    step. Raises ValueError where there are fewer than two positions.
    """
    chex.assert_shape(positions, (None, 2))
    check.at_least(2, num_positions=len(positions))
    num_pieces = -(-(len(positions) - 1) // num_steps)
    # The last piece is filled up with the last position.
    index = num_steps * np.arange(num_pieces)[:, None] + np.arange(num_steps + 1)
    pieces = positions[np.minimum(index, len(positions) - 1)]
    given = jax.lax.map(
        lambda piece: forward(walk_along(piece[None]))[0],
        pieces,
        batch_size=max(1, POSITIONS_AT_ONCE // num_steps),
    )
    flat = given.reshape(-1, *given.shape[2:])[: len(positions) - 1]
    return jnp.concatenate([flat[:1], flat])


def map_units(
    state: Any, key: jax.Array, *, integrator: Integrator, settings: EvaluationSettings
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Rate maps of all units [unit, x, y]; errors and their floors, both [walk, time] (cm).

    Bins that were never visited are MISSING.
    """
    world, num_steps = integrator.world, settings.num_steps
    num_groups = -(-settings.num_map_walks * num_steps // POSITIONS_AT_ONCE)
    group = -(-settings.num_map_walks // num_groups)

    def add(totals: Any, group_key: jax.Array) -> tuple[Any, tuple[jax.Array, jax.Array]]:
        walk = walks(world, group_key, batch_size=group, num_steps=num_steps)
        activity, decoded, floor = integrate(state, walk, integrator=integrator)
        totals = ratemaps.add_samples(
            totals,
            walk.positions.reshape(-1, 2),
            activity.reshape(-1, activity.shape[-1]),
            extent=extent_m(world.box),
        )
        error = distance_cm(world, walk.positions, decoded)
        return totals, (error, distance_cm(world, walk.positions, floor))

    totals, (error, floor) = jax.lax.scan(
        add,
        ratemaps.rate_map_sums(
            num_units=integrator.num_units, num_bins=bins_of_maps(world.box, settings.num_bins)
        ),
        jax.random.split(key, num_groups),
    )
    maps = ratemaps.mean_maps(totals, unvisited=MISSING)
    return maps, error.reshape(-1, num_steps), floor.reshape(-1, num_steps)


def mean_errors(name: str, error_cm: jax.Array, floor_cm: jax.Array) -> Scalars:
    """Mean error, mean floor and their difference (cm), as scalars that begin with `name`."""
    error, floor = jnp.mean(error_cm), jnp.mean(floor_cm)
    return {
        f"{name}error_cm": error,
        f"{name}floor_cm": floor,
        f"{name}error_above_floor_cm": error - floor,
    }


def measure_rollouts(
    state: Any, walk: arena.Walk, *, integrator: Integrator, name: str = ""
) -> tuple[Scalars, Readout]:
    """Errors along long walks, and their course over time.

    -> scalars as of `mean_errors`; readout, all names after `name`: positions_m and decoded_m
    [path, time, 2] of the first paths, times_s [time], rollout_error_cm and rollout_floor_cm
    [quartile, time].
    """
    world = integrator.world
    decoded, floor = integrate_in_groups(state, walk, integrator=integrator)
    error_cm, floor_cm = (distance_cm(world, walk.positions, x) for x in (decoded, floor))
    quartiles = jnp.array(QUARTILES)
    return mean_errors(f"{name}rollout_", error_cm, floor_cm), {
        f"{name}times_s": world.dt_s * jnp.arange(1, walk.positions.shape[1] + 1),
        f"{name}positions_m": walk.positions[:NUM_PATHS],
        f"{name}decoded_m": decoded[:NUM_PATHS],
        f"{name}rollout_error_cm": jnp.quantile(error_cm, quartiles, axis=0),
        f"{name}rollout_floor_cm": jnp.quantile(floor_cm, quartiles, axis=0),
    }


def measure_rat(
    state: Any, data: Any, *, integrator: Integrator, num_steps: int
) -> tuple[Scalars, Readout]:
    """`measure_rollouts` along a rat's paths, and the errors in pieces of num_steps.

    data["rat_positions"] [path, time + 1, 2], in box widths from the middle. In an oblong box they
    are scaled to its shorter side along both axes: the rat stays in the middle square. Raises
    ValueError where paths have fewer than num_steps steps.
    """
    world = integrator.world
    paths = min(world.box.sides_m) * jnp.asarray(data["rat_positions"])
    scalars, readout = measure_rollouts(
        state, walk_along(paths), integrator=integrator, name="rat_"
    )
    short = walk_along(_windows(paths, num_steps))
    errors = (
        distance_cm(world, short.positions, x)
        for x in integrate_in_groups(state, short, integrator=integrator)
    )
    return scalars | mean_errors("rat_", *errors), readout


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


def score_maps(maps: jax.Array, key: jax.Array, *, num_noise_maps: int) -> tuple[Scalars, Readout]:
    """Grid scores of maps [unit, x, y]; control: those of low-pass noise (`noise_control`).

    -> scalars grid_share_above_T and its control noise_share_above_T for each threshold T,
    max_grid_score, median_grid_score; readout grid_score_60 and grid_score_90 [unit],
    noise_grid_score_60 and noise_grid_score_90 [map].
    """
    control = ratemaps.noise_control(maps, key, num_noise_maps=num_noise_maps)
    score_60 = control.scores.score_60
    scalars = {
        **control.shares,
        "max_grid_score": jnp.max(score_60),
        "median_grid_score": jnp.median(score_60),
    }
    return scalars, {
        "grid_score_60": score_60,
        "grid_score_90": control.scores.score_90,
        "noise_grid_score_90": control.noise_scores.score_90,
        "noise_grid_score_60": control.noise_scores.score_60,
    }


def score_borders(
    maps: jax.Array, key: jax.Array, *, world: World, num_noise_maps: int
) -> tuple[Scalars, Readout]:
    """Border scores of maps [unit, x, y]; control: those of low-pass noise, less its minimum.

    Activity below 0 belongs to no field. -> scalars border_share_above_0.5 and its control
    border_noise_share_above_0.5; readout border_score [unit], border_units [border] with the
    highest scores, border_maps (smoothed), border_noise_share.
    """
    num_units, num_x, num_y = maps.shape
    noise = ratemaps.low_pass_noise_maps(key, num_units=num_noise_maps, num_bins=(num_x, num_y))
    noise -= jnp.min(noise, axis=(1, 2), keepdims=True)
    bin_width_m = world.box.width_m / num_x
    scores = ratemaps.border_scores(jnp.concatenate([maps, noise]), bin_width_m=bin_width_m).score
    share, noise_share = (
        jnp.mean(some > BORDER_SCORE) for some in (scores[:num_units], scores[num_units:])
    )
    best = jnp.argsort(-scores[:num_units])[:NUM_BORDER]
    return {
        f"border_share_above_{BORDER_SCORE}": share,
        f"border_noise_share_above_{BORDER_SCORE}": noise_share,
    }, {
        "border_score": scores[:num_units],
        "border_noise_share": noise_share,
        "border_units": best,
        "border_maps": ratemaps.smooth(maps[best], 1.0),
    }


def world_to_draw(world: World, centres: jax.Array, key: jax.Array, *, num_steps: int) -> Readout:
    """What the network is told and what it should say: walks, and the fields of place cells.

    centres [place, 2] (m) -> walks_m [walk, time + 1, 2], as training draws them; place_centres_m
    [place, 2]; place_fields [cell, x, y], the code of the first cells on a lattice of 40 places
    along the longer side; place_code [walk, place], the code of all cells at the end of each walk.
    """
    walk = walks(world, key, batch_size=NUM_WALKS, num_steps=num_steps)
    axes = [
        jnp.linspace(low, high, 2 * n + 1)[1::2]
        for (low, high), n in zip(extent_m(world.box), bins_of_maps(world.box, 40), strict=True)
    ]
    places = jnp.stack(jnp.meshgrid(*axes, indexing="ij"), axis=-1)
    return {
        "walks_m": jnp.concatenate([walk.start[:, None], walk.positions], axis=1),
        "place_centres_m": centres,
        "place_fields": jnp.moveaxis(code(world, places, centres)[..., :NUM_FIELDS], -1, 0),
        "place_code": code(world, walk.positions[:, -1], centres),
    }


def maps_to_draw(maps: jax.Array, grid_score: jax.Array) -> Readout:
    """What the figures of maps [unit, x, y] show: the best by grid_score [unit], banded ones, and a
    random sample, which has the same units at every evaluation.

    -> best_units [best], best_maps (smoothed), best_autocorrelograms; band_share [unit],
    banded_units [banded], banded_maps (smoothed); random_units [random], random_maps (smoothed).
    """
    share = band_share(maps)
    some = np.sort(np.random.default_rng(0).permutation(len(maps))[:NUM_RANDOM])
    best, banded = jnp.argsort(-grid_score)[:NUM_BEST], jnp.argsort(-share)[:NUM_BANDED]
    return {
        "best_units": best,
        "best_maps": ratemaps.smooth(maps[best], 1.0),
        "best_autocorrelograms": ratemaps.autocorrelograms(maps[best]),
        "band_share": share,
        "banded_units": banded,
        "banded_maps": ratemaps.smooth(maps[banded], 1.0),
        "random_units": jnp.asarray(some),
        "random_maps": ratemaps.smooth(maps[some], 1.0),
    }


def band_share(maps: jax.Array) -> jax.Array:
    """Share of each map's variance in its strongest plane wave: [unit, x, y] -> [unit].

    1 for a sinusoidal grating with whole periods in the box, 1/3 for three such waves. Waves of
    less than about two periods do not count: they are gradients, not bands. Bins that were never
    visited (not finite) count as the map's mean.
    """
    visited = jnp.isfinite(maps)
    count = jnp.maximum(jnp.sum(visited, axis=(1, 2), keepdims=True), 1)
    mean = jnp.sum(jnp.where(visited, maps, 0), axis=(1, 2), keepdims=True) / count
    power = jnp.abs(jnp.fft.fft2(jnp.where(visited, maps - mean, 0))) ** 2
    frequency = [np.fft.fftfreq(n, 1 / n) for n in maps.shape[1:]]
    bands = np.hypot(frequency[0][:, None], frequency[1][None, :]) >= 1.9
    total = jnp.sum(power, axis=(1, 2))
    # A real wave stands in two places of the transform.
    strongest = 2 * jnp.max(jnp.where(bands[None], power, 0), axis=(1, 2))
    return jnp.where(total > 0, strongest / jnp.where(total > 0, total, 1), 0)


# --- Figures ---


def draw(readout: HostReadout) -> dict[str, Figure]:
    """All figures of `evaluate`'s readout; those of the rat where its paths were evaluated."""
    return {
        **draw_world(readout),
        **draw_maps(readout),
        **draw_paths(readout),
        "low_dimensional_structure": grid_module.draw(readout),
    }


def draw_world(readout: HostReadout) -> dict[str, Figure]:
    """Figures of walks as in training, and of the place cells that are the target."""
    centres, fields = readout["place_centres_m"], readout["place_fields"]
    population = {"place_code": draw_place_code(readout)} if "place_code" in readout else {}
    return population | {
        "training_walks": draw_walks(
            readout["walks_m"],
            centres,
            extent_m=readout["extent_m"],
            dt_s=float(readout["times_s"][0]),
        ),
        "place_fields": figures.rate_maps(
            fields,
            [f"({x:.2f}, {y:.2f})" for x, y in centres[: len(fields)]],
            extent_m=readout["extent_m"],
            title=f"Place fields of {len(fields)} of the {len(centres)} place cells that the "
            "network is trained to reproduce\nabove each: the centre (m)",
            colour_label="rate: lowest (0)\nto highest (1) of each cell",
        ),
    }


def draw_place_code(readout: HostReadout) -> Figure:
    """The rates of all place cells, at their centres, for an animal at some places.

    Deviation from `grid_pc` of the original: the rates are not interpolated between the cells.
    """
    places, rates = readout["walks_m"][:8, -1], readout["place_code"][:8]
    width, height = np.ptp(readout["extent_m"], axis=1)
    rows = (len(places) + 3) // 4
    size = (11.0, 0.9 + 2.5 * rows * min(1.5, height / width))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, 4, squeeze=False)
    limits = {"vmin": min(0.0, float(rates.min())), "vmax": float(rates.max())}
    for ax, place, rate in zip(axes.flat, places, rates, strict=False):
        dots = ax.scatter(*readout["place_centres_m"].T, c=rate, s=12, cmap="viridis", **limits)
        ax.plot(*place, "+", color="red", markersize=11, markeredgewidth=1.5)
        figures.set_space(ax, readout["extent_m"], f"({place[0]:.2f}, {place[1]:.2f})", margin=0.04)
    for ax in axes.flat[len(places) :]:
        ax.set_axis_off()
    figure.colorbar(dots, ax=axes, shrink=0.7, label="rate of the place cell")
    figure.suptitle(
        "Population code: all place cells, each at its centre, for an animal at the red cross\n"
        "above each panel: its position (m)",
        fontsize=11,
    )
    return figure


def draw_walks(
    walks_m: np.ndarray, centres: np.ndarray, *, extent_m: np.ndarray, dt_s: float
) -> Figure:
    """Walks [walk, time + 1, 2] (m) in their box, each in a colour, over centres of place cells."""
    width, height = np.ptp(extent_m, axis=1)
    figure = Figure(figsize=(6.0, 1.1 + 4.9 * min(1.5, height / width)), layout="constrained")
    ax = figure.subplots()
    ax.plot(*centres.T, "+", color="0.75", markersize=4, label="centre of a place cell")
    for number, path in enumerate(walks_m):
        colour = f"C{number % 10}"
        ax.plot(
            *figures.broken_at_jumps(path, np.array([width, height]) / 2),
            color=colour,
            linewidth=1.2,
        )
        ax.plot(*path[0], "o", color=colour, markersize=4)
    ax.plot([], [], "o-", color="black", markersize=4, label="a walk, from its start")
    ax.plot(*figures.box_outline(extent_m), color="black", linewidth=1)
    seconds = dt_s * (walks_m.shape[1] - 1)
    figures.set_space(
        ax,
        extent_m,
        f"{len(walks_m)} walks of {walks_m.shape[1] - 1} steps ({seconds:.3g} s)",
        margin=0.04,
    )
    figure.legend(loc="outside lower center", ncols=2, fontsize=9)
    return figure


def draw_maps(readout: HostReadout) -> dict[str, Figure]:
    """Figures of rate maps and their scores."""
    extent, scores = readout["extent_m"], readout["grid_score_60"]
    best, some, banded = (readout[f"{which}_units"] for which in ("best", "random", "banded"))
    maps = {
        "rate_maps": figures.rate_maps(
            readout["best_maps"],
            [f"{score:.2f}" for score in scores[best]],
            extent_m=extent,
            title=f"Smoothed rate maps of the {len(best)} units with the highest grid scores "
            f"(of {len(scores)})\nabove each map: its grid score (60 degrees)",
        ),
        "random_maps": figures.rate_maps(
            readout["random_maps"],
            [f"{unit}: {scores[unit]:.2f}" for unit in some],
            extent_m=extent,
            title=f"Smoothed rate maps of {len(some)} units drawn at random (of {len(scores)})\n"
            "above each map: number of the unit, and its grid score (60 degrees)",
        ),
        "banded_maps": figures.rate_maps(
            readout["banded_maps"],
            [f"{100 * share:.0f} %" for share in readout["band_share"][banded]],
            extent_m=extent,
            title="Smoothed rate maps nearest to parallel bands\n"
            "above each map: share of its variance in a single plane wave",
        ),
    }
    if "border_score" in readout:
        maps["border_maps"] = draw_border_maps(readout)
    return maps | {
        "all_maps": draw_all_maps(
            readout["rate_maps"][np.argsort(-scores, kind="stable")], readout["extent_m"]
        ),
        "autocorrelograms": figures.autocorrelograms(
            readout["best_autocorrelograms"],
            [f"{score:.2f}" for score in scores[best]],
            extent_m=extent,
            title=f"Spatial autocorrelograms of the {len(best)} maps with the highest grid scores\n"
            "six peaks around the centre mark a hexagonal grid; above each: the score",
        ),
        "grid_scores": figures.score_histogram(
            scores,
            readout["noise_grid_score_60"],
            thresholds=ratemaps.GRID_SCORE_THRESHOLDS,
            what="units",
        ),
    }


def draw_border_maps(readout: HostReadout) -> Figure:
    """The maps with the highest border scores, beside how common such scores are."""
    units, scores = readout["border_units"], readout["border_score"]
    share, noise = 100 * np.mean(scores > BORDER_SCORE), 100 * float(readout["border_noise_share"])
    return figures.rate_maps(
        readout["border_maps"],
        [f"{score:.2f}" for score in scores[units]],
        extent_m=readout["extent_m"],
        title=f"Smoothed rate maps of the {len(units)} units with the highest border scores\n"
        f"above {BORDER_SCORE}: {share:.1f} % of {len(scores)} units, {noise:.1f} % of maps of "
        "smooth noise",
    )


def draw_all_maps(maps: np.ndarray, extent_m: np.ndarray) -> Figure:
    """The maps of all units [unit, x, y], the highest grid score first."""
    return figures.map_sheet(
        maps,
        columns=math.ceil(len(maps) ** 0.5),
        extent_m=extent_m,
        title=f"Rate maps of all {len(maps)} units, from the highest grid score (top left, along "
        "rows) to the lowest",
    )


def draw_paths(readout: HostReadout) -> dict[str, Figure]:
    """Figures of true and decoded paths, and of the error over time."""
    dt_s = float(readout["times_s"][0])
    names = {"simulated": ""} | ({"real rat": "rat_"} if "rat_positions_m" in readout else {})
    return {
        "trajectories": figures.trajectories(
            {
                label: (readout[f"{name}positions_m"], readout[f"{name}decoded_m"])
                for label, name in names.items()
            },
            extent_m=readout["extent_m"],
            dt_s=dt_s,
        ),
        "error_over_time": figures.error_over_time(
            {
                label: (readout[f"{name}rollout_error_cm"], readout[f"{name}rollout_floor_cm"])
                for label, name in names.items()
            },
            dt_s=dt_s,
            levels={"chance: median distance of random positions": float(readout["chance_cm"])},
        ),
    }

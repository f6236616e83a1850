"""Predictions of a distributional successor measure of place cells: maps, places, robustness.

Maps are over a square lattice of places in a box of 1 m.
Source: the thesis on hippocampal maps built on the measure (dsm-hippocampus).
"""

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from PIL import Image

from hfjax import arena, cells, decoders, figures, missing, movies
from hfjax.missing import MISSING
from hfjax.models.dsm.layers import draw_layers, evaluate_layers, hidden_maps, layer_metrics
from hfjax.models.dsm.maps import (
    MOST_ATOMS,
    Plane,
    as_maps,
    atom_columns,
    compared,
    draw_hidden_atoms,
    draw_plane_maps,
    maps_over_plane,
    mean_by_place,
    mean_information,
    most_varying,
    of_noise,
)
from hfjax.models.dsm.returns import draw_room, draw_samples, first_two, futures
from hfjax.models.dsm.task import Predictor
from hfjax.task import HostReadout, Metric, Readout, Scalars, declares

MOVED = (0, 1, 2, 5, 10, 15, 20, 25, 30, 40, 50)  # place cells moved in the perturbation test
BOX_M = ((0.0, 1.0), (0.0, 1.0))
WALL_M = 0.2  # a field is at a wall if its centre is nearer to the wall than this


class Fields(NamedTuple):
    """Firing fields of maps, all [map]: places where a map is at least half-way to its maximum.

    area: share of the places. centre [map, 2] (m): mean place, weighted by the rate above the
    minimum of the map. variance [map, 2] (m^2) around the centre.
    """

    area: jax.Array
    centre: jax.Array
    variance: jax.Array


def fields(maps: jax.Array, lattice: jax.Array) -> Fields:
    """Fields of maps [map, place] over a lattice [place, 2] (m). Not finite: an unknown rate."""
    known = jnp.isfinite(maps)
    peak = jnp.max(jnp.where(known, maps, -jnp.inf), axis=1, keepdims=True)
    low = jnp.min(jnp.where(known, maps, jnp.inf), axis=1, keepdims=True)
    low = jnp.where(jnp.any(known, axis=1, keepdims=True), low, 0)
    w = jnp.where(known & (maps >= (peak + low) / 2), maps - low, 0)
    share = w / jnp.maximum(jnp.sum(w, axis=1, keepdims=True), 1e-12)
    centre = share @ lattice
    variance = jnp.einsum("mp,mpd->md", share, (lattice[None] - centre[:, None]) ** 2)
    return Fields(jnp.sum(w > 0, axis=1) / jnp.maximum(jnp.sum(known, axis=1), 1), centre, variance)


def field_statistics(
    maps: jax.Array, own: jax.Array, lattice: jax.Array, *, width_m: float = 1.0
) -> dict[str, jax.Array]:
    """Fields of maps compared with the fields `own` of the cells themselves, both [map, place].

    Places where a map is not finite are left out of both. MISSING where no place is left.

    field_size: median ratio of the areas. shift_cm: mean distance between the centres.
    shift_to_centre_cm: mean component of that shift towards the centre of the box.
    wall_elongation: standard deviation along a wall over that across it, divided by the same ratio
    of the own field; median over fields nearer than WALL_M to one wall, and to no perpendicular
    wall.
    """
    after = fields(maps, lattice)
    before = fields(jnp.where(jnp.isfinite(maps), own, MISSING), lattice)
    shift = after.centre - before.centre
    inwards = width_m / 2 - before.centre
    inwards = inwards / jnp.maximum(jnp.linalg.norm(inwards, axis=1, keepdims=True), 1e-12)
    # Whether a wall is near in x, and in y.
    near = jnp.minimum(before.centre, width_m - before.centre) < WALL_M
    x, y = jnp.sqrt(_ratio(after.variance, before.variance)).T
    elongation = jnp.where(near[:, 0] & ~near[:, 1], _ratio(y, x), _ratio(x, y))
    elongation = jnp.where((near[:, 0] ^ near[:, 1]) & (elongation > 0), elongation, MISSING)
    known = (before.area > 0) & (after.area > 0)
    size = jnp.where(known, _ratio(after.area, before.area), MISSING)

    def mean_cm(distance: jax.Array) -> jax.Array:
        return missing.mean(jnp.where(known, 100 * distance, MISSING))

    return {
        "field_size": missing.median(size),
        "shift_cm": mean_cm(jnp.linalg.norm(shift, axis=1)),
        "shift_to_centre_cm": mean_cm(jnp.sum(shift * inwards, axis=1)),
        "wall_elongation": missing.median(elongation),
    }


def _ratio(a: jax.Array, b: jax.Array) -> jax.Array:
    """a / b, and 0 where b is 0."""
    return jnp.where(b > 0, a / jnp.where(b > 0, b, 1), 0)


def mean_maps(model: Predictor, states: jax.Array, key: jax.Array, num_inner: int) -> jax.Array:
    """Predicted maps, averaged over atoms and samples: states [place, cell] -> [cell, place]."""
    return jnp.mean(model.samples(states, key, num_inner), axis=(1, 2)).T


class Change(Protocol):
    """(data, chosen, key) -> rates."""

    def __call__(self, data: Any, chosen: jax.Array, key: jax.Array, /) -> jax.Array:
        """Rates over the lattice after a change of the cells of which `chosen` [cell] is true.

        -> [place, cell]
        """


class Changed(NamedTuple):
    """Cosines between maps after and before a change of some place cells.

    predicted, place_cells [number, draw, cell]: of predicted maps, and of the place cells' own; 0
    for a map without any rate. chosen [number, draw, cell] of bool: the cells that change.
    example [number, place]: predicted map of the cell whose centre is nearest to the middle, one
    draw.
    """

    predicted: jax.Array
    place_cells: jax.Array
    chosen: jax.Array
    example: jax.Array


def similarity_when_changed(
    model: Predictor,
    data: Any,
    key: jax.Array,
    *,
    change: Change,
    numbers: tuple[int, ...] = MOVED,
    num_draws: int = 5,
    num_samples: int = 320,
) -> Changed:
    """Cosine similarity of predicted maps before and after a change of some place cells.

    change       `moved_rates` or `silenced_rates`.
    numbers      of cells that change.
    num_draws    choices of these cells for each number; the same for every `change` with one key.
    num_samples  samples that each map averages, all atoms together, so that models of one atom and
                 of many are equally noisy.

    Each draw chooses cells of the original population; the model then predicts from the rates of
    the changed population. The predictions before and after are independent draws; the first row,
    where no cell changes, shows the loss due to sampling noise.

    Source: the perturbation test of the thesis, 1 to 50 cells moved, 5 draws; its notebooks also
    silence ten cells. Deviations: there the changes of one draw remain in the next, and one atom is
    compared with the mean of ten.
    """
    own = jnp.asarray(data["sources"])
    num_cells = own.shape[1]
    before_key, key = jax.random.split(key)
    num_outer = jax.eval_shape(lambda s: model.samples(s, key, 1), own[:1]).shape[1]
    num_inner = max(1, num_samples // num_outer)
    before = mean_maps(model, own, before_key, num_inner)
    lattice = jnp.asarray(data["lattice"])
    middle = jnp.argmin(jnp.linalg.norm(fields(own.T, lattice).centre - 0.5, axis=1))

    def after_a_change(now: tuple[jax.Array, jax.Array]) -> Changed:
        number, key = now
        order_key, change_key, sample_key = jax.random.split(key, 3)
        chosen = jax.random.permutation(order_key, num_cells) < number
        states = change(data, chosen, change_key)
        after = mean_maps(model, states, sample_key, num_inner)
        return Changed(cosines(after, before), cosines(states.T, own.T), chosen, after[middle])

    repeated = jnp.repeat(jnp.minimum(jnp.array(numbers), num_cells), num_draws)
    drawn = jax.lax.map(after_a_change, (repeated, jax.random.split(key, len(repeated))))
    by_draw = Changed(*(x.reshape(len(numbers), num_draws, -1) for x in drawn))
    return by_draw._replace(example=by_draw.example[:, 0])


def moved_rates(
    data: Any, moves: jax.Array, key: jax.Array, *, distance_sq: cells.DistanceSq
) -> jax.Array:
    """Rates over the lattice after the cells of which `moves` [cell] is true have moved.

    Gaussian cells with known centres get uniform random centres; the maps of other cells are moved
    by a random number of places, around the edges of the box. -> [place, cell]
    """
    own, num_cells = jnp.asarray(data["sources"]), len(moves)
    if "centres" in data:
        places = arena.uniform_positions(key, arena.box(1.0), num_cells)
        centres = jnp.where(moves[:, None], places, jnp.asarray(data["centres"]))
        d = distance_sq(jnp.asarray(data["lattice"]), centres)
        return jnp.exp(d / (-2 * data["cell_width_m"] ** 2))
    side = round(len(own) ** 0.5)
    shifts = jax.random.randint(key, (num_cells, 2), 0, side) * moves[:, None]
    rolled = jax.vmap(lambda m, by: jnp.roll(m, by, axis=(0, 1)))(as_maps(own), shifts)
    return rolled.reshape(num_cells, -1).T


def silenced_rates(data: Any, silenced: jax.Array, key: jax.Array) -> jax.Array:
    """Rates over the lattice with 0 for the cells of which `silenced` [cell] is true.

    -> [place, cell]
    """
    del key
    return jnp.where(silenced[None], 0, jnp.asarray(data["sources"]))


def cosines(a: jax.Array, b: jax.Array) -> jax.Array:
    """Cosine similarity of each map, both [map, place] -> [map]."""
    product = jnp.linalg.norm(a, axis=1) * jnp.linalg.norm(b, axis=1)
    return jnp.sum(a * b, axis=1) / jnp.maximum(product, 1e-12)


class Rates(NamedTuple):
    """Rates at the places of a lattice, all [place, cell].

    predicted: mean over atoms and samples. empirical: discounted mean of the rates that followed in
    the data, 0 where not visited. sources: the place cells' own rates. visited [place, 1] of bool.
    """

    predicted: jax.Array
    empirical: jax.Array
    sources: jax.Array
    visited: jax.Array


def _map_metrics() -> dict[str, Metric]:
    """What the scalars of `evaluate_place_maps` mean."""
    repeated = "the state repeated"
    correlation = Metric(
        "maps, correlation with data",
        split="held out",
        better="higher",
        panel="Predicted maps, compared with the data",
        measure="correlation",
        series="predicted maps",
    )
    error = Metric(
        "maps, rms error",
        split="held out",
        better="lower",
        panel="Error of the predicted rates",
        measure="rms, peak of a field = 1",
        series="predicted maps",
        log=True,
    )
    metrics = compared("map_correlation", "place_correlation", correlation, repeated)
    metrics |= compared("map_error", "place_error", error, repeated)
    spread = Metric(
        "between atoms",
        panel="Spread of the atoms",
        measure="standard deviation, peak of a field = 1",
        log=True,
    )
    metrics["atom_spread"] = spread
    metrics["noise_spread"] = spread._replace(label="between noises of an atom")
    metrics |= layer_metrics()
    information = Metric("predicted maps", "bits", panel="Spatial information")
    metrics |= compared("information", "place_information", information, "the place cells")
    for name, label, unit in (
        ("field_size", "size of fields, own = 1", ""),
        ("shift_cm", "shift of fields", "cm"),
        ("shift_to_centre_cm", "shift of fields to the centre", "cm"),
        ("wall_elongation", "elongation of fields at walls", ""),
    ):
        metrics |= compared(name, f"empirical_{name}", Metric(label, unit), "in the data")
    for prefix, change in (("", "moved"), ("silenced_", "silenced")):
        for count in (0, 20, 50):
            similar = Metric(
                f"cosine, {count} cells {change}",
                panel=f"Predicted maps after cells were {change}",
                measure="cosine with those before",
                series=f"{count} {change}",
            )
            names = f"{prefix}similarity_{count}", f"{prefix}place_similarity_{count}"
            metrics |= compared(*names, similar, "the place cells")
    words = {"ridge": "ridge regression", "gp": "Gaussian process", "ensemble": "networks"}
    for decoder, name in words.items():
        places = Metric(f"by {name}", "cm", better="lower", panel="Decoded places", log=True)
        names = f"{decoder}_error_cm", f"{decoder}_place_error_cm"
        metrics |= compared(*names, places, repeated)
    for decoder in ("gp", "ensemble"):
        metrics[f"{decoder}_std_cm"] = Metric(f"uncertainty of {words[decoder]}", "cm")
    return metrics


@declares(_map_metrics())
def evaluate_place_maps(
    model: Predictor,
    data: Any,
    key: jax.Array,
    *,
    gamma: float,
    num_inner: int = 64,
    distance_sq: cells.DistanceSq = cells.euclidean_sq,
) -> tuple[Scalars, Readout]:
    """Predicted rates over a lattice of places: `evaluation=` of a task on place cells.

    The predicted rate map of a cell is, at each place, the mean of an atom's samples. Averaged over
    all atoms it is a successor representation. It is compared with the empirical map: the
    discounted mean of the rates that followed in the data.

    num_inner    samples of each atom at each place.
    distance_sq  squared distance between places, as in the code of the data's place cells.

    Scalars: those of `compare_maps`; those of `field_statistics` for the predicted maps, and with
    the prefix empirical_ for the empirical maps; atom_spread, mean standard deviation between
    atoms; noise_spread, that between samples of the first atom with different noise; information
    and place_information, mean spatial information (bits) of the predicted maps and of the place
    cells, with equal occupancy; similarity_N and place_similarity_N from
    `similarity_when_changed`, N cells moved, mean over draws and all cells, and the same with the
    prefix silenced_ for N silenced cells; those of `decode_places` and `evaluate_layers`.
    The map of a silenced place cell has no rate, and counts as a cosine of 0: the control
    silenced_place_similarity_N is 1 - N / cells. A model that fills in silenced cells is above it;
    but so is one whose maps are flat, as all are when every cell is silent.
    Scalars that need the empirical maps are MISSING if data["gamma"] is not gamma.
    """
    maps_key, moved_key, ensemble_key, hidden_key = jax.random.split(key, 4)
    lattice, sources = jnp.asarray(data["lattice"]), jnp.asarray(data["sources"])
    truth = jnp.asarray(data["empirical"])
    known = jnp.isfinite(truth) & (jnp.abs(data["gamma"] - gamma) < 1e-6)
    truth = jnp.where(known, truth, MISSING)
    visited = known[:, :1]
    drawn = model.samples(sources, maps_key, num_inner)  # [place, outer, inner, cell]
    by_atom = jnp.mean(drawn, axis=2)
    rates = Rates(jnp.mean(by_atom, axis=1), jnp.where(visited, truth, 0), sources, visited)
    move = functools.partial(moved_rates, distance_sq=distance_sq)
    moved = similarity_when_changed(model, data, moved_key, change=move)
    # Half the samples, which is half the time: these maps are compared with each other only.
    silenced = similarity_when_changed(
        model, data, moved_key, change=silenced_rates, num_samples=160
    )
    shown = central_places(len(sources))
    decoded_scalars, decoded = decode_places(
        data, rates, by_atom, drawn[shown, :, :32], ensemble_key
    )
    hidden = model.hidden(sources, hidden_key, num_inner)
    noises = of_noise(model, sources, jax.random.fold_in(key, 2))
    layer_scalars, layers = evaluate_layers(
        model,
        data,
        jax.random.fold_in(key, 3),
        maps=(jnp.broadcast_to(sources[:, None], by_atom.shape), *hidden, by_atom),
        decode=lambda rates: place_process(data)(rates).mean,
    )
    scalars = {
        "atom_spread": jnp.mean(jnp.std(by_atom, axis=1)),
        **scalars_of_maps(rates, truth, lattice),
        "noise_spread": jnp.mean(jnp.std(noises, axis=1)),
        **means_when_changed("", moved),
        **means_when_changed("silenced_", silenced),
        **decoded_scalars,
        **layer_scalars,
    }
    readout = {
        **readout_of_maps(by_atom, truth, sources, hidden),
        "noise_maps": as_maps(noises),
        "lattice": lattice,
        "visited": visited[:, 0],
        "shown_sources": lattice[shown],
        "similarity": jnp.mean(moved.predicted, axis=2),
        "place_similarity": jnp.mean(moved.place_cells, axis=2),
        "similarity_cells": moved.predicted,
        "silenced_similarity_cells": silenced.predicted,
        "silenced": silenced.chosen,
        "moved_maps": as_maps(moved.example.T),
        **decoded,
        **layers,
        **surroundings(data, lattice[shown], jax.random.fold_in(key, 1), gamma=gamma),
        **of_the_data(data),
        **along_the_walk(model, data, jax.random.fold_in(key, 4), gamma=gamma),
    }
    return scalars, readout


WALK_EVERY = 10  # steps of the data from one frame of the animation to the next


def along_the_walk(
    model: Predictor,
    data: Any,
    key: jax.Array,
    *,
    gamma: float,
    num_frames: int = 80,
    num_inner: int = 8,
) -> Readout:
    """Samples of every atom along the beginning of the data's walk, for an animation.

    -> walk_steps [time], steps of the data; walk_m [time, 2]: where the animal is; walk_atoms_m
    [time, outer, inner, 2]: samples of future rates, decoded by a Gaussian process; walk_futures_m
    [time, future, 2]: where the data went from near there (`futures`).
    """
    sample_key, future_key = jax.random.split(key)
    states, positions, last = (jnp.asarray(data[n]) for n in ("states", "positions", "last"))
    every = max(1, min(WALK_EVERY, len(states) // num_frames))
    steps = every * np.arange(min(num_frames, len(states)))
    samples = model.samples(states[steps], sample_key, num_inner)
    decoded = place_process(data)(samples.reshape(-1, samples.shape[-1])).mean
    ahead = futures(positions, last, positions[steps], future_key, gamma=gamma)
    return {
        "walk_steps": jnp.asarray(steps, jnp.int32),
        "walk_m": positions[steps],
        "walk_atoms_m": decoded.reshape(*samples.shape[:3], 2),
        "walk_futures_m": ahead["shown_futures"],
    }


MOST_POINTS = 3_000  # of the walk in a figure


def of_the_data(data: Any) -> Readout:
    """The walk of the data at up to MOST_POINTS even steps, and what it shows of three cells.

    -> data_steps [time]; data_m [time, 2]; data_episode [time]: number of the episode;
    data_occupancy [x, y]: time at each place, 1 in the mean, MISSING without a visit; data_cells
    [cell]: their numbers; data_maps [cell, x, y]: their mean rates by place, MISSING likewise.
    """
    states, positions, last = (jnp.asarray(data[n]) for n in ("states", "positions", "last"))
    steps = np.unique(np.linspace(0, len(states) - 1, MOST_POINTS).astype(int))
    shown = np.unique(np.linspace(0, states.shape[1] - 1, 3).astype(int))
    time = jnp.asarray(data["occupancy"]) * len(data["occupancy"])
    return {
        "data_steps": jnp.asarray(steps, jnp.int32),
        "data_m": positions[steps],
        "data_episode": (jnp.cumsum(last) - last)[steps],
        "data_occupancy": as_maps(jnp.where(time > 0, time, MISSING)),
        "data_cells": jnp.asarray(shown, jnp.int32),
        "data_maps": as_maps(mean_by_place(states[:, shown], positions, BOX)),
    }


def readout_of_maps(
    by_atom: jax.Array, truth: jax.Array, sources: jax.Array, hidden: tuple[jax.Array, ...]
) -> Readout:
    """Maps [..., x, y]: predicted, by atom, of the place cells, empirical, and of hidden units.

    by_atom [place, outer, cell], truth and sources [place, cell], hidden [place, outer, unit] of
    each layer, of which the first atom's are kept.
    """
    return {
        "maps": as_maps(jnp.mean(by_atom, axis=1)),
        "atom_maps": as_maps(by_atom),
        "place_maps": as_maps(sources),
        "empirical_maps": as_maps(truth),
        **{f"hidden_maps_{i}": as_maps(layer[:, 0]) for i, layer in enumerate(hidden, start=1)},
        **most_varying(hidden),
    }


def surroundings(data: Any, places: jax.Array, key: jax.Array, *, gamma: float) -> Readout:
    """Where the animal went from near places [source, 2] (`futures`), its walls and goals."""
    positions, last = jnp.asarray(data["positions"]), jnp.asarray(data["last"])
    return {
        **futures(positions, last, places, key, gamma=gamma),
        "shown_extent": jnp.array(BOX_M),
        # Data sets of older versions have neither.
        "walls": jnp.asarray(data.get("walls", np.zeros((0, 2, 2)))),
        "goals": jnp.asarray(data.get("goals", np.zeros((0, 2)))),
    }


def scalars_of_maps(rates: Rates, truth: jax.Array, lattice: jax.Array) -> Scalars:
    """Scalars of predicted and empirical maps: errors, information and fields.

    truth [place, cell]: empirical rates, NaN where not visited. lattice [place, 2] (m).
    """
    own = rates.sources.T
    return {
        **compare_maps(rates),
        "information": mean_information(rates.predicted),
        "place_information": mean_information(rates.sources),
        **field_statistics(rates.predicted.T, own, lattice),
        **{f"empirical_{n}": v for n, v in field_statistics(truth.T, own, lattice).items()},
    }


def central_places(num_places: int) -> np.ndarray:
    """Indices of nine places of a square lattice, spread evenly over its inner part."""
    side = round(num_places**0.5)
    along = np.linspace(0, side - 1, 5).round().astype(int)[1:4]
    return (along[:, None] * side + along[None]).ravel()


def compare_maps(rates: Rates) -> Scalars:
    """Predicted against empirical maps, over visited places.

    map_correlation: mean correlation over cells. map_error: root mean square difference.
    place_correlation, place_error: the same for the place cells' own maps; a model that repeats the
    state would have them.
    """
    count = jnp.sum(rates.visited)

    def correlation(a: jax.Array) -> jax.Array:
        a, b = (
            jnp.where(rates.visited, z - _mean_visited(z, rates.visited), 0)
            for z in (a, rates.empirical)
        )
        scale = jnp.sqrt(jnp.sum(a**2, axis=0) * jnp.sum(b**2, axis=0))
        mean = jnp.mean(jnp.sum(a * b, axis=0) / jnp.maximum(scale, 1e-12))
        return jnp.where(count > 0, mean, MISSING)

    def error(a: jax.Array) -> jax.Array:
        squares = rates.visited * (a - rates.empirical) ** 2
        mean = jnp.sum(squares) / (jnp.maximum(count, 1) * a.shape[1])
        return jnp.where(count > 0, jnp.sqrt(mean), MISSING)

    return {
        "map_correlation": correlation(rates.predicted),
        "place_correlation": correlation(rates.sources),
        "map_error": error(rates.predicted),
        "place_error": error(rates.sources),
    }


def _mean_visited(x: jax.Array, visited: jax.Array) -> jax.Array:
    """Mean over visited places: [place, cell] -> [1, cell]."""
    return jnp.sum(x * visited, axis=0, keepdims=True) / jnp.maximum(jnp.sum(visited), 1)


def means_when_changed(prefix: str, changed: Changed) -> Scalars:
    """similarity_N and place_similarity_N of 0, 20 and 50 cells: means over draws and cells."""
    of = {"similarity": changed.predicted, "place_similarity": changed.place_cells}
    return {
        f"{prefix}{name}_{count}": jnp.mean(cosines[MOVED.index(count)])
        for name, cosines in of.items()
        for count in (0, 20, 50)
    }


def place_process(data: Any) -> Callable[[jax.Array], decoders.Decoded]:
    """The Gaussian process from rates to places, fitted to 500 evenly spaced steps of the data."""
    states, positions = jnp.asarray(data["states"]), jnp.asarray(data["positions"])
    some = np.linspace(0, len(states) - 1, min(500, len(states))).astype(int)
    return functools.partial(decoders.gaussian_process, states[some], positions[some])


def decode_places(
    data: Any, rates: Rates, by_atom: jax.Array, samples: jax.Array, key: jax.Array
) -> tuple[Scalars, Readout]:
    """Places decoded from predicted rates by three decoders, fitted to the data.

    D is ridge (regression), gp (Gaussian process), ensemble (of networks). Scalars:
    D_error_cm: mean distance between the places decoded from predicted and from empirical rates.
    D_place_error_cm: the same for a model that repeats the state.
    gp_std_cm, ensemble_std_cm: mean standard deviation of the decoder, at predicted rates.
    by_atom [place, outer, cell] and samples [source, outer, inner, cell]: decoded by the Gaussian
    process, for figures.
    """
    states, positions = jnp.asarray(data["states"]), jnp.asarray(data["positions"])
    process = place_process(data)
    ensemble = decoders.network_ensemble(states, positions, key)
    decode: dict[str, Callable[[jax.Array], jax.Array]] = {
        "ridge": functools.partial(decoders.ridge_decoder, states, positions),
        "gp": lambda queries: process(queries).mean,
        "ensemble": lambda queries: ensemble(queries).mean,
    }
    scalars: Scalars = {}
    readout: Readout = {}
    for name, places_of in decode.items():
        predicted, empirical, repeated = map(places_of, rates[:3])
        readout[f"decoded_{name}"] = predicted
        readout[f"decoded_{name}_empirical"] = empirical
        for label, places in (("", predicted), ("place_", repeated)):
            apart = jnp.linalg.norm(places - empirical, axis=1, keepdims=True)
            apart = jnp.where(rates.visited, 100 * apart, MISSING)
            scalars[f"{name}_{label}error_cm"] = missing.mean(apart)
    ensemble_std = jnp.sqrt(jnp.mean(ensemble(rates.predicted).std ** 2, axis=1))
    for name, std in (("gp", process(rates.predicted).std), ("ensemble", ensemble_std)):
        readout[f"std_{name}"] = std
        scalars[f"{name}_std_cm"] = 100 * jnp.mean(std)
    readout["std_gp_empirical"] = process(rates.empirical).std
    atoms = jnp.moveaxis(by_atom[:, :MOST_ATOMS], 1, 0)
    decoded_atoms = process(atoms.reshape(-1, atoms.shape[-1]))
    readout["decoded_atoms"] = decoded_atoms.mean.reshape(*atoms.shape[:2], 2)
    readout["std_atoms"] = decoded_atoms.std.reshape(atoms.shape[:2])
    decoded_samples = process(samples.reshape(-1, samples.shape[-1])).mean
    readout["shown"] = decoded_samples.reshape(*samples.shape[:3], 2)
    return scalars, readout


# --- Positions as states ---

BOX = Plane(first_two, first_two, extent=BOX_M, names=("x (m)", "y (m)"))


def _position_metrics() -> dict[str, Metric]:
    """What the scalars of `evaluate_positions` mean."""
    error = Metric("mean future place, error", "cm", "held out", "lower", panel="Future places")
    metrics = compared("position_error_cm", "place_error_cm", error, "the state repeated")
    metrics["atom_spread_cm"] = Metric("between atoms (sd)", "cm", panel="Spread of the atoms")
    return metrics


@declares(_position_metrics())
def evaluate_positions(
    model: Predictor, data: Any, key: jax.Array, *, gamma: float, num_inner: int = 64
) -> tuple[Scalars, Readout]:
    """Predicted places where states are positions: `evaluation=` of a task.

    num_inner: samples of each atom at each place.

    Scalars: position_error_cm, mean distance between the mean future place of the model and of the
    data, over visited places; place_error_cm, the same for a model that repeats the state;
    atom_spread_cm, standard deviation between all atoms, mean over places and coordinates.
    Readout: that of `maps_over_plane`, and samples at nine places.
    """
    states, last = jnp.asarray(data["states"]), jnp.asarray(data["last"])
    map_key, sample_key, future_key = jax.random.split(key, 3)
    readout = maps_over_plane(
        model, states, last, map_key, plane=BOX, gamma=gamma, num_inner=num_inner
    )
    known, mean, *_ = jnp.moveaxis(readout["state_maps"], 0, -1)  # [x, y, coordinate] each
    lattice = BOX.lattice().astype(np.float32)

    def error_cm(places: jax.Array) -> jax.Array:
        apart = jnp.linalg.norm(places - known, axis=-1)
        return missing.mean(jnp.where(jnp.isfinite(known[..., 0]), 100 * apart, MISSING))

    scalars = {
        "position_error_cm": error_cm(mean),
        "place_error_cm": error_cm(jnp.asarray(lattice).reshape(known.shape)),
        "atom_spread_cm": 100 * jnp.mean(jnp.std(readout["state_maps"][:, 2:], axis=1)),
    }
    shown = lattice[central_places(len(lattice))]
    readout |= {
        "shown": model.samples(jnp.asarray(shown), sample_key, 32),
        "shown_sources": jnp.asarray(shown),
        **surroundings(data, jnp.asarray(shown), future_key, gamma=gamma),
    }
    return scalars, readout


def draw_positions(readout: HostReadout) -> dict[str, Figure]:
    """Figures of `evaluate_positions`."""
    samples = draw_samples(readout, BOX.names, equal=True)
    return {"samples": samples, **draw_plane_maps(readout, BOX)}


# --- Figures ---


def draw_place_maps(readout: HostReadout) -> dict[str, Figure]:
    """Predicted maps, maps of hidden units, decoded predictions, samples, and similarity."""
    space: dict[str, Any] = {"extent_m": BOX_M, "walls": readout["walls"]}
    return {
        "rate_maps": _draw_maps(readout),
        "atom_maps": _draw_atoms(readout),
        "noise": _draw_noise(readout),
        "hidden_maps": _draw_hidden(readout),
        **draw_hidden_atoms(readout, **space),
        **draw_layers(readout),
        "all_maps": _draw_all_maps(readout),
        **({"data": _draw_data(readout)} if "data_m" in readout else {}),
        "predictions": _draw_predictions(readout),
        "samples": draw_samples(
            readout,
            ("x (m)", "y (m)"),
            equal=True,
            how=",\nas places that a Gaussian process decodes from the sampled rates",
        ),
        "similarity": _draw_changes(readout),
        "similarity_histogram": draw_similarity_histogram(
            {"predicted maps": readout["similarity_cells"]}
        ),
        "moved_maps": figures.map_rows(
            [
                figures.MapRow(
                    readout["moved_maps"], "predicted", "rate", _limits(readout["moved_maps"])
                )
            ],
            columns=[str(count) for count in MOVED],
            title="Predicted map of one cell as more and more place cells move (number above)",
            **space,
        ),
    }


def animate_place_maps(readout: HostReadout) -> dict[str, Iterator[Image.Image]]:
    """The atoms' predictions along the walk; {} for the readout of an older version."""
    if "walk_atoms_m" not in readout:
        return {}
    return {
        "atoms": movies.atoms_on_walk(
            readout["walk_m"],
            readout["walk_atoms_m"],
            readout["walk_futures_m"],
            extent_m=BOX_M,
            steps=readout["walk_steps"],
            walls=readout["walls"],
        )
    }


def _limits(maps: np.ndarray) -> tuple[float, float]:
    """0, and the highest value of maps."""
    return 0.0, float(np.nanmax(maps, initial=1e-6))


def _draw_atoms(readout: HostReadout) -> Figure:
    """Columns: data, mean of atoms, each atom; rows: future x and y, the decoder's uncertainty of
    them, and mean rate of all cells."""
    side = readout["maps"].shape[-1]

    def of_data(values: np.ndarray) -> np.ndarray:
        visited = readout["visited"].reshape(-1, *[1] * (values.ndim - 1))
        return np.where(visited, values, np.nan)

    atoms = readout["atom_maps"][:MOST_ATOMS].mean(axis=1)
    decoded = [of_data(readout["decoded_gp_empirical"]), readout["decoded_gp"]]
    decoded += list(readout["decoded_atoms"][: len(atoms)])
    places = np.stack(decoded).reshape(-1, side, side, 2)
    rates = np.stack([readout["empirical_maps"].mean(axis=0), readout["maps"].mean(axis=0), *atoms])
    rows = [
        figures.MapRow(places[..., 0], "future x", "x (m)", (0.0, 1.0)),
        figures.MapRow(places[..., 1], "future y", "y (m)", (0.0, 1.0)),
        figures.MapRow(rates, "mean rate\nof all cells", "rate", _limits(rates)),
    ]
    if "std_atoms" in readout:
        std = [of_data(readout["std_gp_empirical"]), readout["std_gp"]]
        std += list(readout["std_atoms"][: len(atoms)])
        cm = 100 * np.stack(std).reshape(-1, side, side)
        rows.insert(2, figures.MapRow(cm, "uncertainty\nof the decoder", "sd (cm)", _limits(cm)))
    return figures.map_rows(
        rows,
        columns=atom_columns(len(atoms)),
        extent_m=BOX_M,
        title="From each place: where the animal will be (decoded by a Gaussian process), and the "
        "population's rate,\nin the data and as the atoms predict it. Grey: never visited",
        walls=readout["walls"],
    )


def _draw_noise(readout: HostReadout) -> Figure:
    """Rows: cells; columns: noises."""
    noises = readout["noise_maps"]
    shown = np.linspace(0, noises.shape[1] - 1, 4).astype(int)
    limits = float(noises[:, shown].min()), float(noises[:, shown].max())
    return figures.map_rows(
        [figures.MapRow(noises[:, c], f"cell {c}", "rate", limits) for c in shown],
        columns=[f"noise {i + 1}" for i in range(len(noises))],
        extent_m=BOX_M,
        title="Effect of the noise z: samples of atom 1,\nwith the same z at all places",
        walls=readout["walls"],
    )


def draw_similarity_histogram(cosines: dict[str, np.ndarray]) -> Figure:
    """Histograms over cells and draws of {label: cosines [moved, draw, cell]}; a panel a number."""
    panels = [MOVED.index(count) for count in (1, 10, 20, 50)]
    figure = Figure(figsize=(3.0 * len(panels), 3.2), layout="constrained")
    figure.suptitle("How much of each cell's map remains when place cells move", fontsize=11)
    lowest = min(0.0, *(float(values.min()) for values in cosines.values()))
    axes = figure.subplots(1, len(panels), sharey=True)
    for ax, index in zip(axes, panels, strict=True):
        for number, (label, values) in enumerate(cosines.items()):
            ax.hist(
                values[index].ravel(),
                40,
                range=(lowest, 1.0),
                weights=np.full(values[index].size, 100 / values[index].size),
                histtype="step",
                linewidth=1.5,
                color=figures.COLOURS[number % len(figures.COLOURS)],
                label=label,
            )
        ax.set_title(f"{MOVED[index]} moved", fontsize=10)
        ax.set_xlabel("cosine similarity")
    axes[0].set_ylabel("cells and draws (%)")
    axes[0].legend(fontsize=8, loc="upper left")
    return figure


def _draw_changes(readout: HostReadout) -> Figure:
    """Similarity after cells moved and, unless the readout is older, after they fell silent."""
    silent = "silenced" in readout
    figure = Figure(figsize=(6.4 * (1 + silent), 4.6), layout="constrained")
    first, *others = np.ravel(figure.subplots(1, 1 + silent, sharey=True))
    control = "place cells themselves (control)"
    moved = {"predicted maps": readout["similarity"], control: readout["place_similarity"]}
    spread = "lowest and highest of the draws"
    draw_similarity(over_draws(moved), spread=spread, ax=first)
    for ax in others:
        chosen, cosines = readout["silenced"], readout["silenced_similarity_cells"]
        parts = {
            "predicted maps": cosines,
            control: 1.0 - chosen,
            "predicted maps of silent cells": np.where(chosen, cosines, np.nan),
            "predicted maps of the others": np.where(chosen, np.nan, cosines),
        }
        means = {label: _mean_known(values) for label, values in parts.items()}
        draw_similarity(over_draws(means), spread=spread, change="are silent", ax=ax)
        maps = readout["maps"]
        flat = np.mean(np.abs(maps.mean(axis=(1, 2))) / np.sqrt((maps**2).mean(axis=(1, 2))))
        ax.axhline(flat, color="black", linestyle=":", label="flat maps")
        ax.legend(fontsize=8, loc="lower left")
    return figure


def _mean_known(values: np.ndarray) -> np.ndarray:
    """Mean of the values [..., cell] that are not NaN; NaN where all are."""
    known = np.isfinite(values)
    count = known.sum(axis=-1)
    total = np.where(known, values, 0).sum(axis=-1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def over_draws(
    curves: Mapping[str, np.ndarray],
) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Mean, lowest and highest over draws: {label: [number, draw]}, as `draw_similarity` takes."""
    return {n: (x.mean(axis=1), x.min(axis=1), x.max(axis=1)) for n, x in curves.items()}


def draw_similarity(
    curves: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]],
    *,
    spread: str,
    change: str = "move",
    ax: Axes | None = None,
) -> Figure:
    """Curves {label: (mean, low, high), each [number]}; spread: the meaning of low and high.

    change: what happens to the cells, as the end of "when place cells ...".
    """
    ax = figures.axes_or_new(ax, (6.4, 4.4))
    for number, (label, (mean, low, high)) in enumerate(curves.items()):
        colour = figures.COLOURS[number % len(figures.COLOURS)]
        ax.fill_between(MOVED, low, high, color=colour, alpha=0.2, linewidth=0)
        ax.plot(MOVED, mean, ".-", color=colour, label=label)
    ax.set(
        xlabel=f"number of place cells that {change}",
        ylabel="cosine similarity to the map before",
        ylim=(0, 1.02),
    )
    ax.set_title(
        f"How much of a map remains when place cells {change}\nmean; band: {spread}", fontsize=10
    )
    ax.legend(fontsize=8)
    return figures.figure_of(ax)


def _draw_maps(readout: HostReadout) -> Figure:
    """Rows: place cells, empirical maps, predicted maps: their mean, and each atom's."""
    shown = np.linspace(0, len(readout["maps"]) - 1, 8).astype(int)
    rows = {"successor,\ndata": readout["empirical_maps"][shown]}
    num_atoms = len(readout["atom_maps"])
    if num_atoms == 1:
        rows["successor,\nmodel"] = readout["maps"][shown]
    else:
        rows[f"model, mean of\n{num_atoms} atoms"] = readout["maps"][shown]
        for atom in range(min(MOST_ATOMS, num_atoms)):
            rows[f"model,\natom {atom + 1}"] = readout["atom_maps"][atom][shown]
    limits = 0.0, max(float(np.nanmax(maps, initial=1e-6)) for maps in rows.values())
    grey = "" if np.isfinite(rows["successor,\ndata"]).all() else " Grey: never visited."
    return figures.map_rows(
        [
            figures.MapRow(readout["place_maps"][shown], "place cell", "rate", (0.0, 1.0)),
            *(figures.MapRow(maps, label, "rate", limits) for label, maps in rows.items()),
        ],
        columns=[f"cell {cell}" for cell in shown],
        extent_m=BOX_M,
        title="Rate maps of place cells, and of their discounted future rates: in the data, and as "
        f"the model predicts them.{grey}",
        walls=readout["walls"],
    )


def _draw_all_maps(readout: HostReadout) -> Figure:
    """The maps of every cell: its own, its successor in the data, and as the model predicts it."""
    sheets = {
        "own rates": readout["place_maps"],
        "successor, data": readout["empirical_maps"],
        "successor, model": readout["maps"],
    }
    columns = math.ceil(len(readout["maps"]) ** 0.5)
    rows = math.ceil(len(readout["maps"]) / columns)
    figure = Figure(figsize=(17.0, 0.8 + 5.6 * rows / columns), layout="constrained")
    for ax, (label, maps) in zip(figure.subplots(1, 3), sheets.items(), strict=True):
        title = f"All {len(maps)} cells, along rows: {label}"
        figures.map_sheet(maps, columns=columns, extent_m=np.array(BOX_M), title=title, ax=ax)
    return figure


def _draw_data(readout: HostReadout) -> Figure:
    """The walk that the model learns from, coloured by time; time in each place; rates on it."""
    figure = Figure(figsize=(12.5, 5.6), layout="constrained")
    figure.suptitle("The data that the model learns from (grey: never visited)", fontsize=11)
    grid = figure.add_gridspec(2, 4)
    path, episode = readout["data_m"], readout["data_episode"]
    together = episode[1:] == episode[:-1]
    pieces = np.stack([path[:-1], path[1:]], axis=1)[together]
    lines = LineCollection(list(pieces), cmap="viridis", linewidths=0.7)
    lines.set_array(readout["data_steps"][:-1][together])
    ax = figure.add_subplot(grid[:, :2])
    ax.add_collection(lines)
    draw_room(ax, readout)
    title = f"the walk, episodes: {episode[-1] + 1}"
    figures.set_space(ax, BOX_M, title, margin=0.03)
    figure.colorbar(lines, ax=ax, label="step of the data", location="left", shrink=0.85)
    maps, cells = readout["data_maps"], readout["data_cells"]
    limits = _limits(maps)
    panels = [
        (readout["data_occupancy"], "time at each place", "time / mean", None, "magma"),
        *(
            (values, f"cell {cell}: rate on the walk", "rate", limits, "viridis")
            for cell, values in zip(cells, maps, strict=True)
        ),
    ]
    for number, (values, title, label, colours, colour_map) in enumerate(panels):
        figures.spatial_map(
            values,
            extent_m=BOX_M,
            walls=readout["walls"],
            title=title,
            limits=colours,
            colour_map=colour_map,
            colour_label=label,
            ax=figure.add_subplot(grid[number // 2, 2 + number % 2]),
        )
    return figure


def _draw_hidden(readout: HostReadout) -> Figure:
    """Rows: hidden layers of the first atom; columns: the eight units that vary most."""
    layers = hidden_maps(readout)
    count = min(8, *map(len, layers))
    rows = []
    for number, maps in enumerate(layers, 1):
        maps = maps[np.argsort(-maps.std(axis=(1, 2)))[:count]]
        limits = float(maps.min()), float(maps.max())
        rows.append(figures.MapRow(maps, f"hidden layer {number}", "activity", limits))
    return figures.map_rows(
        rows,
        columns=[f"no. {i + 1}" for i in range(count)],
        extent_m=BOX_M,
        title=f"Activity of hidden units of the first atom over the box: the {count} of each layer "
        "that vary most, in this order",
        walls=readout["walls"],
    )


def _draw_predictions(readout: HostReadout) -> Figure:
    """Rows: decoders; columns: the future places of the data and of the model, their distance, and
    the uncertainty of the decoder."""
    names = {
        "gp": "Gaussian process",
        "ensemble": "ensemble of networks",
        "ridge": "ridge regression",
    }
    figure = Figure(figsize=(12.5, 9.2), layout="constrained")
    figure.suptitle(
        "Mean future place, decoded from discounted future rates by three decoders (rows)\n"
        "an arrow runs from each place to the place that is decoded there",
        fontsize=11,
    )
    of_data = {
        name: np.where(readout["visited"][:, None], readout[f"decoded_{name}_empirical"], np.nan)
        for name in names
    }
    apart = {n: np.linalg.norm(readout[f"decoded_{n}"] - of_data[n], axis=1) for n in names}
    most = max(float(np.max(x, initial=0, where=np.isfinite(x))) for x in apart.values())
    top_cm = float(np.clip(100 * most, 1.0, 50.0))
    for (name, decoder), row in zip(names.items(), figure.subplots(len(names), 4), strict=True):
        arrows, std = readout[f"decoded_{name}"], readout.get(f"std_{name}")
        draw_arrows(of_data[name], readout, title=f"{decoder}: data", ax=row[0])
        draw_arrows(arrows, readout, title=f"{decoder}: model", ax=row[1])
        _draw_values(
            row[2],
            100 * apart[name],
            readout,
            "from model to data",
            f"distance (cm), up to {top_cm:.0f}",
            (0, top_cm),
        )
        if std is None:
            row[3].set_axis_off()
            row[3].set_title("ridge regression has no\nmeasure of uncertainty", fontsize=9, y=0.5)
        else:
            limits = (0.0, 100 * float(std.max()))
            _draw_values(
                row[3], 100 * std, readout, "uncertainty of the decoder", "sd (cm)", limits
            )
    return figure


def draw_arrows(
    decoded: np.ndarray, readout: HostReadout, *, title: str, ax: Axes | None = None
) -> Figure:
    """Arrows from places to decoded places [place, 2]; on a fine lattice from every second place.

    readout: lattice [place, 2] (m), walls and goals. A place without a value (NaN) has no arrow.
    """
    ax = figures.axes_or_new(ax, (3.8, 3.6))
    lattice = readout["lattice"]
    side = round(len(lattice) ** 0.5)
    row, column = np.divmod(np.arange(len(lattice)), side)
    shown = (row % 2 == 0) & (column % 2 == 0) if side > 10 else np.ones(len(lattice), bool)
    shown &= np.isfinite(decoded).all(axis=1)
    start, move = lattice[shown], (decoded - lattice)[shown]
    ax.quiver(*start.T, *move.T, angles="xy", scale_units="xy", scale=1, width=0.005)
    draw_room(ax, readout)
    ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="x (m)", ylabel="y (m)", aspect="equal")
    ax.set_title(title, fontsize=9)
    return figures.figure_of(ax)


def _draw_values(
    ax: Axes,
    values: np.ndarray,
    readout: HostReadout,
    title: str,
    label: str,
    limits: tuple[float, float],
) -> None:
    """A map of values [place] with its colour bar."""
    side = round(len(values) ** 0.5)
    figures.spatial_map(
        values.reshape(side, side),
        extent_m=BOX_M,
        title=title,
        limits=limits,
        colour_label=label,
        ax=ax,
    )
    ax.title.set_fontsize(9)
    draw_room(ax, readout)

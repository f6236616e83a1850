"""Predictions of a distributional successor measure of place cells: maps, places, robustness.

Maps are over a square lattice of places in a box of 1 m.
Source: the thesis on hippocampal maps built on the measure (dsm-hippocampus).
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hfjax import arena, cells, decoders, figures, missing, ratemaps
from hfjax.missing import MISSING
from hfjax.models.dsm.returns import draw_room, draw_samples, futures
from hfjax.models.dsm.task import Predictor
from hfjax.task import HostReadout, Metric, Readout, Role, Scalars, declares

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


def similarity_when_moved(
    model: Predictor,
    data: Any,
    key: jax.Array,
    *,
    moved: tuple[int, ...] = MOVED,
    num_draws: int = 5,
    num_samples: int = 320,
    distance_sq: cells.DistanceSq = cells.euclidean_sq,
) -> tuple[jax.Array, jax.Array]:
    """Cosine similarity of predicted maps before and after the centres of some place cells move.

    Each draw chooses cells of the original population and moves their centres to uniform random
    places; the model then predicts from the rates of the changed population. -> cosine between the
    predicted maps after and before, mean over cells, [moved, draw]; and the same for the place
    cells' own maps. Each map averages num_samples samples of all atoms together, so that models of
    one atom and of many are equally noisy. The predictions before and after are independent draws;
    the first row, where no cell moves, shows the loss due to sampling noise.

    Source: the perturbation test of the thesis, 1 to 50 cells, 5 draws. Deviation: there the
    changes of one draw remain in the next, and one atom is compared with the mean of ten.
    """
    centres, lattice = jnp.asarray(data["centres"]), jnp.asarray(data["lattice"])
    num_cells, place_cell_maps = len(centres), jnp.asarray(data["sources"])
    before_key, key = jax.random.split(key)
    num_outer = jax.eval_shape(lambda s: model.samples(s, key, 1), place_cell_maps[:1]).shape[1]
    num_inner = max(1, num_samples // num_outer)
    before = mean_maps(model, place_cell_maps, before_key, num_inner)

    def after_a_move(now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        count, key = now
        order_key, place_key, sample_key = jax.random.split(key, 3)
        moves = jax.random.permutation(order_key, num_cells) < count
        places = arena.uniform_positions(place_key, arena.box(1.0), num_cells)
        d = distance_sq(lattice, jnp.where(moves[:, None], places, centres))
        states = jnp.exp(d / (-2 * data["cell_width_m"] ** 2))
        after = mean_maps(model, states, sample_key, num_inner)
        return mean_cosine(after, before), mean_cosine(states.T, place_cell_maps.T)

    counts = jnp.repeat(jnp.minimum(jnp.array(moved), num_cells), num_draws)
    both = jax.lax.map(after_a_move, (counts, jax.random.split(key, len(counts))))
    predicted, of_place_cells = (x.reshape(len(moved), num_draws) for x in both)
    return predicted, of_place_cells


def mean_cosine(a: jax.Array, b: jax.Array) -> jax.Array:
    """Cosine similarity of each map, both [map, place]; mean over maps."""
    product = jnp.linalg.norm(a, axis=1) * jnp.linalg.norm(b, axis=1)
    return jnp.mean(jnp.sum(a * b, axis=1) / jnp.maximum(product, 1e-12))


class Rates(NamedTuple):
    """Rates at the places of a lattice, all [place, cell].

    predicted: mean over atoms and samples. empirical: discounted mean of the rates that followed in
    the data, 0 where not visited. sources: the place cells' own rates. visited [place, 1] of bool.
    """

    predicted: jax.Array
    empirical: jax.Array
    sources: jax.Array
    visited: jax.Array


def _compared(
    name: str, control: str, metric: Metric, label: str, role: Role = "control"
) -> dict[str, Metric]:
    """A scalar and its control, by their names."""
    return {name: metric, control: Metric(label, metric.unit, role=role, of=name)}


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
    metrics = _compared("map_correlation", "place_correlation", correlation, repeated)
    metrics |= _compared("map_error", "place_error", error, repeated)
    metrics["atom_spread"] = Metric(
        "between atoms",
        panel="Spread of the atoms",
        measure="standard deviation, peak of a field = 1",
        log=True,
    )
    information = Metric("predicted maps", "bits", panel="Spatial information")
    metrics |= _compared("information", "place_information", information, "the place cells")
    for name, label, unit in (
        ("field_size", "size of fields, own = 1", ""),
        ("shift_cm", "shift of fields", "cm"),
        ("shift_to_centre_cm", "shift of fields to the centre", "cm"),
        ("wall_elongation", "elongation of fields at walls", ""),
    ):
        metrics |= _compared(name, f"empirical_{name}", Metric(label, unit), "in the data")
    for count in (0, 20, 50):
        similar = Metric(
            f"cosine, {count} cells moved",
            panel="Predicted maps after cells moved",
            measure="cosine with those before",
            series=f"{count} moved",
        )
        metrics |= _compared(
            f"similarity_{count}", f"place_similarity_{count}", similar, "the place cells"
        )
    for decoder in ("ridge", "gp", "ensemble"):
        places = Metric(f"by {decoder}", "cm", better="lower", panel="Decoded places", log=True)
        names = f"{decoder}_error_cm", f"{decoder}_place_error_cm"
        metrics |= _compared(*names, places, repeated)
    for decoder in ("gp", "ensemble"):
        metrics[f"{decoder}_std_cm"] = Metric(f"uncertainty of {decoder}", "cm")
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
    atoms; information and place_information, mean spatial information (bits) of the predicted maps
    and of the place cells, with equal occupancy; similarity_N and place_similarity_N from
    `similarity_when_moved`, N cells moved, mean over draws; those of `decode_places`.
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
    similarity, place_similarity = similarity_when_moved(
        model, data, moved_key, distance_sq=distance_sq
    )
    shown = central_places(len(sources))
    decoded_scalars, decoded = decode_places(data, rates, drawn[shown, :, :32], ensemble_key)
    scalars = {
        "atom_spread": jnp.mean(jnp.std(by_atom, axis=1)),
        **scalars_of_maps(rates, truth, lattice),
        **means_when_moved("similarity", similarity),
        **means_when_moved("place_similarity", place_similarity),
        **decoded_scalars,
    }
    readout = {
        **readout_of_maps(by_atom, truth, sources, model.hidden(sources, hidden_key, num_inner)),
        "lattice": lattice,
        "visited": visited[:, 0],
        "shown_sources": lattice[shown],
        "similarity": similarity,
        "place_similarity": place_similarity,
        **decoded,
        **surroundings(data, lattice[shown], jax.random.fold_in(key, 1), gamma=gamma),
    }
    return scalars, readout


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


def as_maps(x: jax.Array) -> jax.Array:
    """[place, ...] -> [..., x, y], of a square lattice."""
    side = round(len(x) ** 0.5)
    return jnp.moveaxis(x, 0, -1).reshape(*x.shape[1:], side, side)


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


def mean_information(rates: jax.Array) -> jax.Array:
    """Spatial information (bits), mean over cells, with equal occupancy: [place, cell] -> []."""
    occupancy = as_maps(jnp.full(len(rates), 1 / len(rates), rates.dtype))
    maps = jnp.maximum(as_maps(rates), 0)
    return missing.mean(ratemaps.spatial_information(maps, occupancy).bits_per_spike)


def means_when_moved(name: str, similarity: jax.Array) -> Scalars:
    """NAME_0, NAME_20, NAME_50 from [moved, draw]: means over draws."""
    return {f"{name}_{count}": jnp.mean(similarity[MOVED.index(count)]) for count in (0, 20, 50)}


def decode_places(
    data: Any, rates: Rates, samples: jax.Array, key: jax.Array
) -> tuple[Scalars, Readout]:
    """Places decoded from predicted rates by three decoders, fitted to the data.

    D is ridge (regression), gp (Gaussian process), ensemble (of networks). Scalars:
    D_error_cm: mean distance between the places decoded from predicted and from empirical rates.
    D_place_error_cm: the same for a model that repeats the state.
    gp_std_cm, ensemble_std_cm: mean standard deviation of the decoder, at predicted rates.
    samples [source, outer, inner, cell]: decoded by the Gaussian process, for figures.
    """
    states, positions = jnp.asarray(data["states"]), jnp.asarray(data["positions"])
    some = np.linspace(0, len(states) - 1, min(500, len(states))).astype(int)
    process = functools.partial(decoders.gaussian_process, states[some], positions[some])
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
    decoded_samples = process(samples.reshape(-1, samples.shape[-1])).mean
    readout["shown"] = decoded_samples.reshape(*samples.shape[:3], 2)
    return scalars, readout


# --- Figures ---


def draw_place_maps(readout: HostReadout) -> dict[str, Figure]:
    """Predicted maps, maps of hidden units, decoded predictions, samples, and similarity."""
    return {
        "rate_maps": _draw_maps(readout),
        "hidden_maps": _draw_hidden(readout),
        "predictions": _draw_predictions(readout),
        "samples": draw_samples(
            readout,
            ("x (m)", "y (m)"),
            equal=True,
            how=",\nas places that a Gaussian process decodes from the sampled rates",
        ),
        "similarity": draw_similarity(
            {
                label: (x.mean(axis=1), x.min(axis=1), x.max(axis=1))
                for label, x in (
                    ("predicted maps", readout["similarity"]),
                    ("place cells themselves (control)", readout["place_similarity"]),
                )
            },
            spread="lowest and highest of the draws",
        ),
    }


def draw_similarity(
    curves: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]],
    *,
    spread: str,
    ax: Axes | None = None,
) -> Figure:
    """Curves {label: (mean, low, high), each [moved]}; spread: the meaning of low and high."""
    ax = figures.axes_or_new(ax, (6.4, 4.4))
    for number, (label, (mean, low, high)) in enumerate(curves.items()):
        colour = figures.COLOURS[number % len(figures.COLOURS)]
        ax.fill_between(MOVED, low, high, color=colour, alpha=0.2, linewidth=0)
        ax.plot(MOVED, mean, ".-", color=colour, label=label)
    ax.set(
        xlabel="number of place cells that moved",
        ylabel="cosine similarity to the map before",
        ylim=(0, 1.02),
    )
    ax.set_title(
        f"How much of a map remains when place cells move\nmean; band: {spread}", fontsize=10
    )
    ax.legend(fontsize=8)
    return figures.figure_of(ax)


def _draw_maps(readout: HostReadout) -> Figure:
    """Rows: place cells, empirical maps, predicted maps of all atoms, and of three atoms."""
    shown = np.linspace(0, len(readout["maps"]) - 1, 8).astype(int)
    rows = {"successor,\ndata": readout["empirical_maps"][shown]}
    num_atoms = len(readout["atom_maps"])
    if num_atoms == 1:
        rows["successor,\nmodel"] = readout["maps"][shown]
    else:
        rows[f"model, mean of\n{num_atoms} atoms"] = readout["maps"][shown]
        for atom in range(min(3, num_atoms)):
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


def _draw_hidden(readout: HostReadout) -> Figure:
    """Rows: hidden layers of the first atom; columns: the eight units that vary most."""
    layers = [n for n in readout if n.startswith("hidden_maps_")]
    count = min(8, *(len(readout[n]) for n in layers))
    rows = []
    for number, name in enumerate(layers, 1):
        maps = readout[name]
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

"""What a distributional successor measure of place cells predicts: maps, places, and how robustly.

Source: the thesis on hippocampal maps built on the measure (dsm-hippocampus). Maps are those of a
square lattice of places in a box.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hfjax import arena, cells, decoders, figures, ratemaps
from hfjax.models.dsm.returns import draw_samples
from hfjax.models.dsm.task import Predictor
from hfjax.task import HostReadout, Readout, Scalars

MOVED = (0, 1, 2, 5, 10, 15, 20, 25, 30, 40, 50)  # place cells, in the perturbation test
WALL_M = 0.2  # a field is at a wall where its middle is nearer to one wall than this


class Fields(NamedTuple):
    """Firing fields of maps: where a map is nearer to its maximum than to its minimum; each [map].

    area: share of the places. middle [map, 2] (m): mean place, weighted by how far the map is above
    its minimum. variance [map, 2] (m^2) around it.
    """

    area: jax.Array
    middle: jax.Array
    variance: jax.Array


def fields(maps: jax.Array, lattice: jax.Array) -> Fields:
    """Fields of maps [map, place] over a lattice [place, 2] (m); NaN are places without a rate."""
    known = jnp.isfinite(maps)
    peak = jnp.max(jnp.where(known, maps, -jnp.inf), axis=1, keepdims=True)
    low = jnp.min(jnp.where(known, maps, jnp.inf), axis=1, keepdims=True)
    w = jnp.where(known & (maps >= (peak + low) / 2), maps - low, 0)
    share = w / jnp.maximum(jnp.sum(w, axis=1, keepdims=True), 1e-12)
    middle = share @ lattice
    variance = jnp.einsum("mp,mpd->md", share, (lattice[None] - middle[:, None]) ** 2)
    return Fields(jnp.sum(w > 0, axis=1) / jnp.sum(known, axis=1), middle, variance)


def field_statistics(
    maps: jax.Array, own: jax.Array, lattice: jax.Array, *, width_m: float = 1.0
) -> dict[str, jax.Array]:
    """How fields of maps differ from those of the cells themselves, `own`: both [map, place].

    Places where a map is NaN count in neither.

    field_size: area over the own one, median. shift_cm: distance between the middles, mean.
    shift_to_centre_cm: how far it leads towards the middle of the box, mean; negative where it
    leads outwards. wall_elongation: deviation along a wall over that across it, both over those of
    the own field, median over fields within WALL_M of one wall and of no other.
    """
    found, before = (
        fields(maps, lattice),
        fields(jnp.where(jnp.isfinite(maps), own, jnp.nan), lattice),
    )
    shift = found.middle - before.middle
    inwards = width_m / 2 - before.middle
    inwards = inwards / jnp.maximum(jnp.linalg.norm(inwards, axis=1, keepdims=True), 1e-12)
    near = jnp.minimum(before.middle, width_m - before.middle) < WALL_M  # a wall across x, or y
    across_x = near[:, 0] & ~near[:, 1]
    along_over_across = jnp.sqrt(found.variance / before.variance)
    x, y = along_over_across.T
    elongation = jnp.where(across_x, y / x, x / y)
    elongation = jnp.where(near[:, 0] ^ near[:, 1], elongation, jnp.nan)
    return {
        "field_size": jnp.median(found.area / before.area),
        "shift_cm": 100 * jnp.mean(jnp.linalg.norm(shift, axis=1)),
        "shift_to_centre_cm": 100 * jnp.mean(jnp.sum(shift * inwards, axis=1)),
        "wall_elongation": jnp.nanmedian(elongation),
    }


def mean_maps(model: Predictor, states: jax.Array, key: jax.Array, num_inner: int) -> jax.Array:
    """Predicted maps, over atoms and samples: states [place, cell] -> [cell, place]."""
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
    """How alike predicted maps remain when the centres of some place cells move.

    In every draw so many cells, chosen anew among those as they were, get centres that are uniform
    in the box; the model is asked with the rates of those cells. -> cosine of every predicted map
    with the one before, mean over cells, [moved, draw]; the same of the cells' own maps. Every map
    is the mean of num_samples samples, over all atoms together, so that models of one atom and of
    many are equally noisy. The two predictions are independent draws: the first row, where none has
    moved, tells what the noise of sampling costs.

    Source: the perturbation test of the thesis, 1 to 50 cells, 5 draws. Deviation: there the
    changes of one draw remain in the next, and one atom is compared with the mean of ten.
    """
    centres, lattice = jnp.asarray(data["centres"]), jnp.asarray(data["lattice"])
    num_cells = len(centres)
    before_key, key = jax.random.split(key)
    own = jnp.asarray(data["sources"])
    num_outer = jax.eval_shape(lambda s: model.samples(s, key, 1), own[:1]).shape[1]
    num_inner = max(1, num_samples // num_outer)
    before = mean_maps(model, own, before_key, num_inner)

    def cosine(a: jax.Array, b: jax.Array) -> jax.Array:
        product = jnp.linalg.norm(a, axis=1) * jnp.linalg.norm(b, axis=1)
        return jnp.mean(jnp.sum(a * b, axis=1) / jnp.maximum(product, 1e-12))

    def one(now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        count, key = now
        order_key, place_key, sample_key = jax.random.split(key, 3)
        moves = jax.random.permutation(order_key, num_cells) < count
        places = arena.uniform_positions(place_key, arena.box(1.0), num_cells)
        d = distance_sq(lattice, jnp.where(moves[:, None], places, centres))
        states = jnp.exp(d / (-2 * data["cell_width_m"] ** 2))
        after = mean_maps(model, states, sample_key, num_inner)
        return cosine(after, before), cosine(states.T, own.T)

    counts = jnp.repeat(jnp.minimum(jnp.array(moved), num_cells), num_draws)
    found = jax.lax.map(one, (counts, jax.random.split(key, len(counts))))
    predicted, cells_own = (x.reshape(len(moved), num_draws) for x in found)
    return predicted, cells_own


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

    A cell's predicted rate map is, at each place, the mean of an atom's samples; over all atoms it
    is a successor representation. It is compared with the discounted mean of the rates that
    followed in the data ("empirical"). distance_sq: as in the
    code of the data's place cells.

    Scalars: map_correlation, mean over cells of the correlation with the empirical map over visited
    places; map_error, root mean square difference; place_correlation and place_error, the same of
    the cell's own map, which is what a model that repeats the state would have; atom_spread, mean
    deviation between atoms; those of `field_statistics`, and with empirical_ in front the same of
    the empirical maps; information, mean spatial information (bits) of the predicted maps, all
    places alike, and place_information, that of the cells. similarity_N and place_similarity_N, of
    `similarity_when_moved`, mean over draws.
    Of three decoders (D: ridge; gp, a Gaussian process; ensemble, of networks), fitted to the data,
    D_error_cm: mean distance between the places decoded from the prediction and from the empirical
    rates, and D_place_error_cm, for a model that repeats the state; gp_std_cm, ensemble_std_cm:
    their own deviation at the prediction.
    What needs the empirical maps is NaN where data["gamma"] is another.
    """
    maps_key, moved_key, ensemble_key, hidden_key = jax.random.split(key, 4)
    lattice, sources = jnp.asarray(data["lattice"]), jnp.asarray(data["sources"])
    truth = jnp.asarray(data["empirical"])
    truth = jnp.where(jnp.abs(data["gamma"] - gamma) < 1e-6, truth, jnp.nan)
    drawn = model.samples(sources, maps_key, num_inner)  # [place, outer, inner, cell]
    by_atom = jnp.mean(drawn, axis=2)
    mean = jnp.mean(by_atom, axis=1)  # [place, cell]
    visited = jnp.isfinite(truth[:, :1])
    count = jnp.sum(visited)
    known = jnp.where(visited, truth, 0)

    def error(a: jax.Array) -> jax.Array:
        return jnp.sqrt(jnp.sum(visited * (a - known) ** 2) / (count * a.shape[1]))

    def correlation(a: jax.Array) -> jax.Array:
        a, b = (
            jnp.where(visited, z - jnp.sum(z * visited, axis=0, keepdims=True) / count, 0)
            for z in (a, known)
        )
        scale = jnp.sqrt(jnp.sum(a**2, axis=0) * jnp.sum(b**2, axis=0))
        mean = jnp.mean(jnp.sum(a * b, axis=0) / jnp.maximum(scale, 1e-12))
        return jnp.where(count > 0, mean, jnp.nan)

    side = round(len(sources) ** 0.5)

    def as_maps(x: jax.Array) -> jax.Array:
        """[place, ...] -> [..., x, y]."""
        return jnp.moveaxis(x, 0, -1).reshape(*x.shape[1:], side, side)

    def information(x: jax.Array) -> jax.Array:
        even = jnp.full((side, side), 1 / side**2)
        maps = jnp.maximum(as_maps(x), 0)
        return jnp.nanmean(ratemaps.spatial_information(maps, even).bits_per_spike)

    similarity, place_similarity = similarity_when_moved(
        model, data, moved_key, distance_sq=distance_sq
    )
    scalars = {
        "map_correlation": correlation(mean),
        "place_correlation": correlation(sources),
        "map_error": error(mean),
        "place_error": error(sources),
        "atom_spread": jnp.mean(jnp.std(by_atom, axis=1)),
        "information": information(mean),
        "place_information": information(sources),
        **field_statistics(mean.T, sources.T, lattice),
    }
    for name, value in field_statistics(truth.T, sources.T, lattice).items():
        scalars[f"empirical_{name}"] = value
    for moved in (0, 20, 50):
        row = MOVED.index(moved)
        scalars[f"similarity_{moved}"] = jnp.mean(similarity[row])
        scalars[f"place_similarity_{moved}"] = jnp.mean(place_similarity[row])

    # Where the prediction is: each decoder is asked for the means, for what followed, and for the
    # samples of each atom.
    rates, positions = jnp.asarray(data["states"]), jnp.asarray(data["positions"])
    some = np.linspace(0, len(rates) - 1, min(500, len(rates))).astype(int)
    shown = np.linspace(0, side - 1, 5).round().astype(int)[1:4]
    shown = (shown[:, None] * side + shown[None]).ravel()  # nine places
    samples = drawn[shown, :, :32]
    asked = jnp.concatenate([mean, known, sources, samples.reshape(-1, samples.shape[-1])])
    ridge = decoders.ridge_decoder(rates, positions, asked)
    process = decoders.gaussian_process(rates[some], positions[some], asked)
    ensemble = decoders.network_ensemble(rates, positions, asked, ensemble_key)
    places = {"ridge": ridge, "gp": process.mean, "ensemble": ensemble.mean}
    std = {"gp": process.std, "ensemble": jnp.sqrt(jnp.mean(ensemble.std**2, axis=1))}
    total = len(lattice)
    for name, found in places.items():
        predicted, followed, repeated = (found[i * total : (i + 1) * total] for i in range(3))
        for kind, others in (("", predicted), ("place_", repeated)):
            apart = jnp.linalg.norm(others - followed, axis=1, keepdims=True)
            error_cm = 100 * jnp.sum(jnp.where(visited, apart, 0)) / count
            scalars[f"{name}_{kind}error_cm"] = error_cm
    for name, found in std.items():
        scalars[f"{name}_std_cm"] = 100 * jnp.mean(found[:total])

    readout = {
        "maps": as_maps(mean),
        "atom_maps": as_maps(by_atom),
        "place_maps": as_maps(sources),
        "empirical_maps": as_maps(truth),
        "lattice": lattice,
        "shown": process.mean[3 * total :].reshape(*samples.shape[:3], 2),
        "shown_sources": lattice[shown],
        "similarity": similarity,
        "place_similarity": place_similarity,
    }
    for number, hidden in enumerate(model.hidden(sources, hidden_key, num_inner)):
        readout[f"hidden_maps_{number + 1}"] = as_maps(hidden[:, 0])  # of the first atom
    for name, found in places.items():
        readout[f"decoded_{name}"] = found[:total]
    for name, found in std.items():
        readout[f"std_{name}"] = found[:total]
    return scalars, readout


# Figures ---------------------------------------------------------------------------------------


def draw_place_maps(readout: HostReadout) -> dict[str, Figure]:
    """Maps, predicted and of hidden layers, places to come, samples by atom, and similarity."""
    return {
        "rate_maps": _draw_maps(readout),
        "hidden_maps": _draw_hidden(readout),
        "predictions": _draw_predictions(readout),
        "samples": draw_samples(readout, ("x (m), decoded (GP)", "y (m), decoded (GP)")),
        "similarity": draw_similarity(
            {
                label: (x.mean(axis=1), x.min(axis=1), x.max(axis=1))
                for label, x in (
                    ("predicted maps", readout["similarity"]),
                    ("place cells themselves", readout["place_similarity"]),
                )
            },
            spread="lowest and highest of the draws",
        ),
    }


def draw_similarity(
    curves: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]], *, spread: str
) -> Figure:
    """Curves {label: (middle, low, high), each [moved]}; spread: what low and high are."""
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    ax = figure.subplots()
    for number, (label, (middle, low, high)) in enumerate(curves.items()):
        colour = figures.COLOURS[number % len(figures.COLOURS)]
        ax.fill_between(MOVED, low, high, color=colour, alpha=0.2, linewidth=0)
        ax.plot(MOVED, middle, ".-", color=colour, label=label)
    ax.set(xlabel="place cells that moved", ylabel="cosine with the map before", ylim=(None, 1.02))
    ax.set_title(f"Maps when place cells move: mean, {spread}", fontsize=9, loc="right")
    ax.legend(fontsize=8)
    return figure


def _show(ax: Axes, rate_map: np.ndarray) -> None:
    ax.imshow(rate_map.T, origin="lower", extent=(0, 1, 0, 1), cmap="viridis")
    ax.set_xticks([])
    ax.set_yticks([])


def _rows_of_maps(rows: dict[str, np.ndarray], title: str, columns: list[str]) -> Figure:
    figure = Figure(figsize=(1.3 * len(columns) + 1.6, 1.4 * len(rows) + 0.8), layout="constrained")
    figure.suptitle(title)
    axes = figure.subplots(len(rows), len(columns), squeeze=False)
    for line, (label, maps) in zip(axes, rows.items(), strict=True):
        for ax, rate_map in zip(line, maps, strict=True):
            _show(ax, rate_map)
        line[0].set_ylabel(label, fontsize=7)
    for ax, label in zip(axes[0], columns, strict=True):
        ax.set_title(label, fontsize=8)
    return figure


def _draw_maps(readout: HostReadout) -> Figure:
    """Rows: the cell itself, what follows in the data, the prediction, and three atoms."""
    shown = np.linspace(0, len(readout["maps"]) - 1, 8).astype(int)
    rows = {
        "place cell": readout["place_maps"][shown],
        "empirical successor": readout["empirical_maps"][shown],
        "predicted, all atoms": readout["maps"][shown],
    }
    for atom in range(min(3, len(readout["atom_maps"]))):
        rows[f"predicted, atom {atom + 1}"] = readout["atom_maps"][atom][shown]
    title = "Rate maps over the box (1 m x 1 m), each from its lowest to its highest rate"
    return _rows_of_maps(rows, title, [f"cell {cell}" for cell in shown])


def _draw_hidden(readout: HostReadout) -> Figure:
    """Rows: hidden layers of the first atom; eight units each, those that vary most."""
    layers = [n for n in readout if n.startswith("hidden_maps_")]
    count = min(8, *(len(readout[n]) for n in layers))
    rows = {}
    for number, name in enumerate(layers, 1):
        maps = readout[name]
        most = np.argsort(-maps.std(axis=(1, 2)))[:count]
        rows[f"hidden layer {number}"] = maps[most]
    title = "Hidden units of the first atom over the box, those that vary most"
    return _rows_of_maps(rows, title, [f"{i + 1}." for i in range(count)])


def _draw_predictions(readout: HostReadout) -> Figure:
    """Rows: decoders; the move to the mean place to come, x and y as maps, and the uncertainty."""
    lattice = readout["lattice"]
    side = round(len(lattice) ** 0.5)
    titles = {
        "ridge": "ridge regression",
        "gp": "Gaussian process",
        "ensemble": "ensemble of networks",
    }
    figure = Figure(figsize=(14, 10), layout="constrained")
    figure.suptitle("Place, and the place that is decoded from the predicted rates")
    axes = figure.subplots(len(titles), 4)
    for (name, title), line in zip(titles.items(), axes, strict=True):
        decoded = readout[f"decoded_{name}"]
        panels = [(decoded[:, 0], "predicted x (m)"), (decoded[:, 1], "predicted y (m)")]
        if f"std_{name}" in readout:
            panels.append((readout[f"std_{name}"], "decoder's deviation (m)"))
        arrows, *others = line
        row, column = np.divmod(np.arange(len(lattice)), side)
        thin = (row % 2 == 0) & (column % 2 == 0)
        move = (decoded - lattice)[thin if side > 10 else slice(None)]
        start = lattice[thin if side > 10 else slice(None)]
        arrows.quiver(*start.T, *move.T, angles="xy", scale_units="xy", scale=1, width=0.004)
        arrows.set(xlim=(0, 1), ylim=(0, 1), xlabel="x (m)", ylabel="y (m)", aspect="equal")
        arrows.set_title(title, fontsize=10)
        for ax, (values, label) in zip(others, panels, strict=False):
            place = "x (m)" in label or "y (m)" in label
            image = ax.imshow(
                values.reshape(side, side).T,
                origin="lower",
                extent=(0, 1, 0, 1),
                vmin=0,
                vmax=1 if place else None,
                cmap="coolwarm" if place else "viridis",
            )
            figure.colorbar(image, ax=ax, label=label)
            ax.set(xlabel="x (m)", ylabel="y (m)")
        for ax in others[len(panels) :]:
            ax.set_axis_off()
    return figure

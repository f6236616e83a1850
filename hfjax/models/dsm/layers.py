"""What the layers of a successor measure of place cells hold: place, future, heading.

A code is the activity of one layer: the place cells (the input, and the control of the others),
each hidden layer, and the predicted rates (the output).
Source: notebooks of the thesis on hippocampal maps (dsm-hippocampus).
"""

import functools
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from hfjax import decoders, figures, ratemaps
from hfjax.models.dsm.maps import compared, mean_information
from hfjax.models.dsm.task import Predictor
from hfjax.task import HostReadout, Metric, Readout, Scalars

TUNED = 0.3  # mean vector length of a unit that is called tuned, as in the thesis
HEADINGS = 20  # bins
NUM_SHIFTS = 20  # of the headings, for the 99th percentile of mean vector lengths


class Decode(Protocol):
    """(rates) -> places."""

    def __call__(self, rates: jax.Array, /) -> jax.Array:
        """rates [sample, cell] -> [sample, 2] (m)."""


def layer_metrics() -> dict[str, Metric]:
    """What the scalars of `evaluate_layers` mean."""
    tuned = Metric("units tuned to heading", "% of units", panel="Hidden units: direction")
    place = Metric("R2 of the place, from the last hidden layer", split="held out")
    future = place._replace(label="R2 of the future place, from the last hidden layer")
    return {
        **compared("heading_share", "shuffled_heading_share", tuned, "headings shifted"),
        **compared("hidden_place_r2", "cells_place_r2", place, "from the place cells"),
        **compared("hidden_future_r2", "cells_future_r2", future, "from the place cells"),
    }


def evaluate_layers(
    model: Predictor, data: Any, key: jax.Array, *, maps: tuple[jax.Array, ...], decode: Decode
) -> tuple[Scalars, Readout]:
    """Place, future place, heading and spatial information by code; {} without a hidden layer.

    maps    of each code [place, outer, unit], averages over the noise.
    decode  from rates to the places of the animal.

    Scalars: those of `tuning_to_heading`; hidden_place_r2, hidden_future_r2, means over atoms of
    `place_and_future` of the last hidden layer, and cells_place_r2, cells_future_r2 of the place
    cells.
    Readout: that of both; layer_information [code], mean spatial information (bits) of the
    activity above each unit's lowest, with equal occupancy. The entropy of the normalised map is
    log2(places) less this.
    """
    if len(maps) < 3:
        return {}, {}
    place_key, heading_key = jax.random.split(key)
    both = place_and_future(model, data, place_key, decode=decode)
    scalars, readout = tuning_to_heading(model, data, heading_key)
    flat = [above_lowest(code.reshape(len(code), -1)) for code in maps]
    for name, r2 in zip(("place", "future"), both, strict=True):
        scalars[f"hidden_{name}_r2"] = jnp.mean(r2[-2])
        scalars[f"cells_{name}_r2"] = jnp.mean(r2[0])
        readout[f"layer_{name}_r2"] = r2
    readout["layer_information"] = jnp.stack([mean_information(code) for code in flat])
    return scalars, readout


def codes_of(
    model: Predictor, states: jax.Array, key: jax.Array, num_inner: int
) -> tuple[jax.Array, ...]:
    """Activity of each code, with one noise in all, a mean over num_inner samples.

    states [sample, cell] -> each [sample, outer, unit]; of the place cells outer is 1.
    """
    hidden = model.hidden(states, key, num_inner)
    return states[:, None], *hidden, jnp.mean(model.samples(states, key, num_inner), axis=2)


def above_lowest(activity: jax.Array) -> jax.Array:
    """Activity [sample, unit] less the lowest of each unit."""
    return activity - jnp.min(activity, axis=0, keepdims=True)


def place_and_future(model: Predictor, data: Any, key: jax.Array, *, decode: Decode) -> jax.Array:
    """R2 of the place of the source, and of the future place that is sampled, by code and atom.

    From each place each atom draws one sample. Targets are the source, and the place that `decode`
    reads from the sampled rates. `held_out_r2` decodes both from the activity in that very draw.
    The place cells do not know its noise: their R2 of the future is what the source alone tells.
    Half of the places, as on a chessboard, are held out.
    -> [target, code, outer], targets in this order.
    """
    lattice, sources = jnp.asarray(data["lattice"]), jnp.asarray(data["sources"])
    codes = codes_of(model, sources, key, 1)
    shape = codes[-1].shape[:2]
    future = decode(codes[-1].reshape(-1, sources.shape[1])).reshape(*shape, 2)
    targets = jnp.stack([jnp.broadcast_to(lattice[:, None], future.shape), future], axis=2)
    side = round(len(lattice) ** 0.5)
    held = np.indices((side, side)).sum(axis=0).ravel() % 2 == 1
    of_atoms = jax.vmap(functools.partial(held_out_r2, held=held), in_axes=(1, 1))
    r2 = [of_atoms(jnp.broadcast_to(c, (*shape, c.shape[2])), targets) for c in codes]
    return jnp.moveaxis(jnp.stack(r2), 2, 0)


def held_out_r2(code: jax.Array, targets: jax.Array, *, held: np.ndarray) -> jax.Array:
    """R2 = 1 - sum |y - y'|^2 / sum |y - mean y|^2 of ridge regression, over held-out samples.

    code [sample, unit], targets y [sample, target, 2], held [sample] of bool -> [target]. Below 0
    where the regression is worse than the mean.
    """
    flat, y = targets.reshape(len(targets), -1), targets[held]
    predicted = decoders.ridge_decoder(code[~held], flat[~held], code[held])
    error = y - predicted.reshape(y.shape)
    around = y - jnp.mean(y, axis=0, keepdims=True)
    return 1 - jnp.sum(error**2, axis=(0, 2)) / jnp.maximum(jnp.sum(around**2, axis=(0, 2)), 1e-12)


def tuning_to_heading(model: Predictor, data: Any, key: jax.Array) -> tuple[Scalars, Readout]:
    """Tuning of each code to the animal's heading, all atoms.

    The activity of a unit along the path, less its minimum, is averaged by heading.
    Scalars: heading_share, the share of units of the last hidden layer whose mean vector is longer
    than TUNED; shuffled_heading_share, the same with headings shifted by half of the record
    (control).
    Readout: heading_lengths and shuffled_heading_lengths [unit] of that layer; heading_curves
    [unit, direction] of its eight most tuned units; layer_heading_share [code], the share of units
    with a mean vector longer than the 99th percentile of all units of the code with headings
    shifted at random, and layer_shuffled_heading_share [code] (control; .01 by definition, if all
    shifts are alike).
    Source: the criterion of the thesis' notes. Deviations: its other one, the divergence from a
    uniform curve, is left out; so is its Rayleigh test, whose n would be a sum of activity: p would
    depend on the scale of the network. The percentile decides in its place.
    """
    positions, states = jnp.asarray(data["positions"]), jnp.asarray(data["states"])
    steps = jnp.diff(positions, axis=0)
    going = jnp.any(steps != 0, axis=1) & ~jnp.asarray(data["last"])[:-1]
    headings = jnp.where(going, jnp.arctan2(steps[:, 1], steps[:, 0]), jnp.nan)
    some = np.linspace(0, len(steps) - 1, min(2000, len(steps))).astype(int)
    code_key, shift_key = jax.random.split(key)
    codes = [c.reshape(len(some), -1) for c in codes_of(model, states[some], code_key, 4)]
    activity = above_lowest(jnp.concatenate(codes, axis=1))
    ends = np.cumsum([code.shape[1] for code in codes])[:-1]

    def lengths_at(shift: jax.Array) -> jax.Array:
        turned = jnp.roll(headings, shift)[some]
        curves = ratemaps.head_direction_curves(turned, activity, num_bins=HEADINGS)
        return jnp.nan_to_num(ratemaps.head_direction_length(curves).length)

    random = jax.random.randint(shift_key, (NUM_SHIFTS,), 0, len(steps))
    shifts = jnp.concatenate([jnp.array([0, len(steps) // 2]), random])
    by_code = jnp.split(jax.lax.map(lengths_at, shifts), ends, axis=1)  # each [shift, unit]
    scalars: Scalars = {}
    readout: Readout = {}
    for number, prefix in enumerate(("", "shuffled_")):
        lengths = by_code[-2][number]
        scalars[f"{prefix}heading_share"] = jnp.mean(lengths > TUNED)
        readout[f"{prefix}heading_lengths"] = lengths
        shares = [jnp.mean(x[number] > jnp.quantile(x[2:], 0.99)) for x in by_code]
        readout[f"layer_{prefix}heading_share"] = jnp.stack(shares)
    _, most = jax.lax.top_k(by_code[-2][0], min(8, codes[-2].shape[1]))
    last = jnp.split(activity, ends, axis=1)[-2][:, most]
    curves = ratemaps.head_direction_curves(headings[some], last, num_bins=HEADINGS)
    readout["heading_curves"] = curves
    return scalars, readout


# --- Figures ---


def draw_layers(readout: HostReadout) -> dict[str, Figure]:
    """Figures of `evaluate_layers`, the hidden units' maps, and their embedding.

    Without those that the readout of an older version lacks.
    """
    drawn = {"heading": draw_heading(readout), "embedding": draw_embedding(readout)}
    drawn["all_hidden_maps"] = draw_all_hidden(readout)
    if "layer_place_r2" in readout:
        drawn["layers"] = draw_by_layer(readout)
    return drawn


def draw_heading(readout: HostReadout) -> Figure:
    """Curves of the most tuned units, and all mean vector lengths beside the control."""
    figure = Figure(figsize=(12.0, 5.4), layout="constrained")
    figure.suptitle(
        "Tuning of the last hidden layer to the animal's heading, all atoms: the most tuned units "
        "(activity above the unit's lowest), and all units",
        fontsize=11,
    )
    grid = figure.add_gridspec(2, 6)
    curves = readout.get("heading_curves", np.zeros((0, HEADINGS)))
    lengths = np.sort(readout.get("heading_lengths", np.zeros(0)))[::-1]
    angles = 2 * np.pi * (np.arange(HEADINGS + 1) + 0.5) / HEADINGS
    for number, curve in enumerate(curves):
        row, column = divmod(number, 4)
        ax = figure.add_subplot(grid[row, column], projection="polar")
        ax.plot(angles, np.append(curve, curve[0]), color=figures.SIMULATED)
        ax.set(xticks=np.pi / 2 * np.arange(4), yticks=[], ylim=(0, None))
        ax.set_title(f"length {lengths[number]:.2f}", fontsize=9)
        ax.tick_params(labelsize=7)
        ax.set_xlabel("heading", fontsize=8)
        ax.set_ylabel("activity", fontsize=8, labelpad=24)
    ax = figure.add_subplot(grid[:, 4:])
    for name, label in (("", "path"), ("shuffled_", "headings shifted (control)")):
        lengths = readout.get(f"{name}heading_lengths", np.zeros(0))
        ax.hist(lengths, 40, range=(0.0, 1.0), histtype="step", linewidth=1.5, label=label)
    ax.axvline(TUNED, color="black", linestyle=":", label="called tuned beyond")
    ax.set(xlabel="mean vector length", ylabel="units", title="all units")
    ax.legend(fontsize=8)
    return figure


def draw_by_layer(readout: HostReadout) -> Figure:
    """Decoding of place and future, tuning to heading, and spatial information, by code."""
    place, future = readout["layer_place_r2"], readout["layer_future_r2"]
    heading, shuffled = readout["layer_heading_share"], readout["layer_shuffled_heading_share"]
    information = readout["layer_information"]
    figure = Figure(figsize=(12.5, 4.2), layout="constrained")
    figure.suptitle(
        "What each layer holds, from the place cells (the input, the control of the others) to the "
        "predicted rates",
        fontsize=11,
    )
    decoding, direction, spatial = figure.subplots(1, 3)
    x = np.arange(len(information))
    labels = ["place\ncells", *map(str, x[1:-1]), "predicted\nrates"]
    for number, (label, r2) in enumerate(
        (("place of the source", place), ("future place in the same sample", future))
    ):
        colour = figures.COLOURS[number]
        decoding.fill_between(x, r2.min(axis=1), r2.max(axis=1), color=colour, alpha=0.2, lw=0)
        decoding.plot(x, r2.mean(axis=1), ".-", color=colour, label=label)
    decoding.set_ylim(max(-0.5, min(0.0, place.min(), future.min())) - 0.02, 1.02)
    decoding.set(title="linear decoding, band: atoms", ylabel="R² at places not fitted")
    direction.plot(x, 100 * heading, ".-", color=figures.SIMULATED, label="path")
    direction.plot(x, 100 * shuffled, ".--", color=figures.GREY, label="headings shifted (control)")
    direction.set_ylim(0, max(5.0, 105 * float(np.max([heading, shuffled]))))
    direction.set(title="tuning to heading", ylabel="units beyond 99 % of shifted (%)")
    spatial.plot(x, information, ".-", color=figures.SIMULATED)
    spatial.set_ylim(0, 1.1 * max(float(np.nanmax(information, initial=0)), 1e-6))
    spatial.set(title="spatial information, mean of units", ylabel="bits")
    for ax in (decoding, direction, spatial):
        ax.title.set_fontsize(10)
        ax.set_xticks(x, labels)
        ax.set_xlabel("hidden layer, between input and output")
    decoding.legend(fontsize=8)
    direction.legend(fontsize=8)
    return figure


def hidden_maps(readout: HostReadout) -> list[np.ndarray]:
    """Maps of the first atom's units, of each hidden layer [unit, x, y]."""
    return [maps for name, maps in readout.items() if name.startswith("hidden_maps_")]


def draw_embedding(readout: HostReadout) -> Figure:
    """t-SNE of each code of the first atom: a point is a place, and has its colour.

    Of a fine lattice every second place, so that it takes a second.
    """
    codes = {"place cells (control)": readout["place_maps"]}
    codes |= {f"hidden layer {i}": maps for i, maps in enumerate(hidden_maps(readout), 1)}
    codes["predicted rates"] = readout["atom_maps"][0]
    side = readout["place_maps"].shape[-1]
    step = 2 if side > 10 else 1
    places = readout["lattice"].reshape(side, side, 2)[::step, ::step].reshape(-1, 2)
    colours = place_colours(places)
    figure = Figure(figsize=(2.2 * (len(codes) + 1), 2.9), layout="constrained")
    figure.suptitle(
        "Places that the layers of the first atom hold alike: t-SNE of their activity over the box",
        fontsize=11,
    )
    key, *panels = figure.subplots(1, 1 + len(codes))
    key.scatter(*places.T, c=colours, s=12)
    key.set(xlabel="x (m)", ylabel="y (m)", aspect="equal")
    key.set_title("places", fontsize=9)
    for ax, (label, maps) in zip(panels, codes.items(), strict=True):
        some = maps[:, ::step, ::step].reshape(len(maps), -1).T
        ax.scatter(*embedded(some).T, c=colours, s=12)
        ax.set(xlabel="t-SNE 1", ylabel="t-SNE 2", xticks=[], yticks=[])
        ax.set_title(label, fontsize=9)
    return figure


def embedded(activity: np.ndarray) -> np.ndarray:
    """t-SNE of activity [place, unit] -> [place, 2]; all at 0 where no unit changes."""
    from sklearn.manifold import TSNE  # slow to import

    if not np.ptp(activity, axis=0).any():
        return np.zeros((len(activity), 2))
    # "exact" does not compete for cores with a model that is still learning.
    tsne = TSNE(
        perplexity=min(30.0, (len(activity) - 1) / 3),
        init="pca" if min(activity.shape) > 1 else "random",
        method="exact",
        random_state=0,
    )
    return tsne.fit_transform(activity)


def place_colours(places: np.ndarray) -> np.ndarray:
    """Colours [place, 3] of places [place, 2]: mixtures of those of the four corners of the box."""
    corners = np.array([[[0.1, 0.2, 0.7], [0.1, 0.7, 0.4]], [[0.8, 0.1, 0.3], [1.0, 0.85, 0.2]]])
    low, high = places.min(axis=0), places.max(axis=0)
    x, y = ((places - low) / np.maximum(high - low, 1e-9)).T
    along_x, along_y = np.stack([1 - x, x]), np.stack([1 - y, y])
    return np.einsum("ip,jp,ijc->pc", along_x, along_y, corners)


def draw_all_hidden(readout: HostReadout) -> Figure:
    """Maps of every hidden unit of the first atom; a panel for each layer."""
    layers = hidden_maps(readout)
    columns = max(16, int(np.ceil(max(map(len, layers)) / 8)))
    heights = [-(-len(maps) // columns) for maps in layers]
    figure = Figure(figsize=(12.0, 0.75 * sum(heights) + 0.7 * len(layers)), layout="constrained")
    axes = figure.subplots(len(layers), 1, squeeze=False, height_ratios=heights)[:, 0]
    for number, (ax, maps) in enumerate(zip(axes, layers, strict=True), 1):
        title = f"All {len(maps)} units of hidden layer {number}, first atom"
        extent = readout["shown_extent"]
        figures.map_sheet(maps, columns=columns, extent_m=extent, title=title, ax=ax)
    return figure

"""Panels that the models of this package share. Arguments are NumPy arrays.

A function that draws a single panel takes `ax`, as in `hfjax.figures`.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hfjax.figures import COLOURS, GREY, RAT, SIMULATED, axes_or_new, figure_of
from hfjax.models.helmholtz.machine import MODES
from hfjax.task import HostReadout

THETA_S = 2.0  # seconds of alternating theta that are drawn: ten cycles of 5 Hz
EXPLAINED = {
    "inference": "Inference (theta = 0; 1 in the paper): somata follow basal dendrites",
    "generation": "Generation (theta = 1; 0 in the paper): somata follow apical dendrites",
    "alternating": "Alternating theta: somata follow basal dendrites at 0, apical at 1",
}

# --- Rates over time ---


def draw_modes(readout: HostReadout, *, below: Sequence[str] = ()) -> dict[str, Figure]:
    """One figure for each mode: dendrites and somata of a few units of each layer, over time.

    below: names of other arrays MODE/NAME to draw at the bottom. Of alternating theta the last two
    seconds are drawn, with theta itself.
    """
    dt_s = float(readout["dt_s"])
    names = [f"{layer}/{part}" for layer in ("EC", "HPC") for part in ("apical", "soma", "basal")]
    drawn = {}
    for mode in MODES:
        rates = {name.replace("/", " "): readout[f"{mode}/{name}"] for name in [*names, *below]}
        theta = None
        if mode == "alternating":
            last = round(THETA_S / dt_s)
            rates = {label: values[-last:] for label, values in rates.items()}
            theta = readout["alternating/theta"][-last:]
        drawn[f"rates_{mode}"] = stacked_traces(
            rates, dt_s=dt_s, title=EXPLAINED[mode], theta=theta
        )
    return drawn


def traces(
    rates: np.ndarray, *, dt_s: float, distance: float, title: str, ax: Axes | None = None
) -> Figure:
    """Rates [time, unit] over time, each about its mean, one above the other, `distance` apart."""
    ax = axes_or_new(ax, (8.5, 2.2))
    num_steps, num_units = rates.shape
    time_s = dt_s * np.arange(num_steps)
    lifted = (rates - rates.mean(axis=0)) / distance + np.arange(num_units)
    for unit, line in enumerate(lifted.T):
        ax.plot(time_s, line, color=COLOURS[unit % len(COLOURS)], linewidth=0.7)
    ax.set_xlim(0, dt_s * num_steps)
    ax.set_ylim(min(-0.5, lifted.min() - 0.1), max(num_units - 0.5, lifted.max() + 0.1))
    ax.set_yticks(range(num_units), [""] * num_units)
    ax.set_ylabel(f"{num_units} units", fontsize=8)
    ax.set_xlabel("time (s)")
    ax.set_title(title, fontsize=9, loc="left", pad=2)
    ax.spines[["top", "right"]].set_visible(False)
    return figure_of(ax)


def stacked_traces(
    rates: Mapping[str, np.ndarray], *, dt_s: float, title: str, theta: np.ndarray | None = None
) -> Figure:
    """`traces` of each population {label: [time, unit]}, all on one scale; theta [time] on top."""
    num_panels = len(rates) + (theta is not None)
    figure = Figure(figsize=(8.5, 0.8 + 1.05 * num_panels), layout="constrained")
    axes = list(figure.subplots(num_panels, 1, sharex=True, squeeze=False)[:, 0])
    about_mean = [np.abs(x - x.mean(axis=0)) for x in rates.values()]
    distance = _round_up(1.1 * max(float(np.quantile(x, 0.95)) for x in about_mean))
    figure.suptitle(
        f"{title}\neach line is a unit's rate about its mean; neighbouring lines are a rate of "
        f"{distance:g} apart\nunits are evenly spread over their layer",
        fontsize=11,
    )
    if theta is not None:
        top = axes.pop(0)
        for layer, of in enumerate(np.atleast_2d(np.asarray(theta).T)):
            # Gates of several layers, in their order: HPC, EC.
            colour = ("black", RAT)[layer % 2]
            label = ("HPC", "EC")[layer % 2]
            top.step(
                dt_s * np.arange(len(of)), of, where="post", color=colour, linewidth=1, label=label
            )
        if np.ndim(theta) > 1:
            top.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))
        top.set_ylabel("theta", fontsize=8)
        top.set_ylim(-0.1, 1.1)
        top.spines[["top", "right"]].set_visible(False)
    for ax, (label, values) in zip(axes, rates.items(), strict=True):
        traces(values, dt_s=dt_s, distance=distance, title=label, ax=ax)
        ax.set_xlabel("")
    axes[-1].set_xlabel("time (s)")
    return figure


def predictions(stimulus: np.ndarray, prediction: np.ndarray, *, dt_s: float, title: str) -> Figure:
    """What units [time, unit] receive, and what is predicted for them, over each other.

    A panel for each unit; above it the correlation of both. All panels have one scale.
    """
    num_units = stimulus.shape[1]
    figure = Figure(figsize=(8.5, 1.2 + 1.35 * num_units), layout="constrained")
    figure.suptitle(title, fontsize=11)
    axes = figure.subplots(num_units, 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    time_s = dt_s * np.arange(len(stimulus))
    for unit, ax in enumerate(axes):
        a, b = stimulus[:, unit], prediction[:, unit]
        ax.plot(time_s, a, color=SIMULATED, linewidth=1.2, label="stimulus: basal dendrite")
        ax.plot(time_s, b, ":", color=RAT, linewidth=1.4, label="prediction: apical dendrite")
        r = np.corrcoef(a, b)[0, 1] if a.std() > 0 and b.std() > 0 else 0.0
        ax.set_title(f"unit {unit + 1}: correlation {r:.2f}", fontsize=9, loc="left", pad=2)
        ax.set_ylabel("rate", fontsize=8)
        ax.spines[["top", "right"]].set_visible(False)
    axes[-1].set_xlim(0, dt_s * len(stimulus))
    axes[-1].set_xlabel("time (s)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def before_and_after(readout: HostReadout) -> Figure:
    """Figure S1: inference, generation and the autocorrelation, before and after learning.

    Left: HPC's apical dendrites over its basal ones while senses drive it. Middle: EC's generated
    activity over the latents. Right: their autocorrelations. Each column has one scale.
    """
    dt_s = float(readout["dt_s"])
    figure = Figure(figsize=(13.2, 7.6), layout="constrained")
    figure.suptitle(
        "Before learning (above: a new circuit) and after learning (below)", fontsize=12
    )
    axes = figure.subplots(4, 3, width_ratios=(3, 3, 1.6))
    columns = (
        ("inference", "HPC/apical", "HPC/basal", "Inference (theta = 0; 1 in the paper)"),
        ("generation", "EC/soma", "latents", "Generation (theta = 1; 0 in the paper)"),
    )
    for column, (mode, above, below, heading) in enumerate(columns):
        shown = [
            readout[f"{when}{mode}/{name}"]
            for when in ("untrained/", "")
            for name in (above, below)
        ]
        distance = _round_up(
            1.1 * max(float(np.quantile(np.abs(x - x.mean(0)), 0.95)) for x in shown)
        )
        for row, values in enumerate(shown):
            when = "before" if row < 2 else "after"
            label = f"{when}: {(above, below)[row % 2].replace('/', ' ')}"
            ax = axes[row, column]
            traces(values, dt_s=dt_s, distance=distance, title=label, ax=ax)
            if row < 3:
                ax.set_xlabel("")
        axes[0, column].set_title(
            f"{heading}\n{axes[0, column].get_title(loc='left')}", fontsize=9, loc="left", pad=2
        )
    for rows, name, when in ((slice(0, 2), "EC_untrained", "before"), (slice(2, 4), "EC", "after")):
        grid = axes[rows.start, 2].get_gridspec()
        for ax in axes[rows, 2]:
            ax.remove()
        curves = {
            "latents": readout["autocorrelation/latents"],
            "EC, generated": readout[f"autocorrelation/{name}"],
        }
        ax = figure.add_subplot(grid[rows, 2])
        autocorrelations(curves, dt_s=dt_s, title=f"autocorrelation, {when}", ax=ax)
    return figure


def _round_up(value: float) -> float:
    """The next of 1, 2, 5, 10, ... at or above a value."""
    power = 10.0 ** np.floor(np.log10(max(value, 1e-9)))
    return power * min(m for m in (1, 2, 5, 10) if m * power >= value * (1 - 1e-6))


def autocorrelations(
    correlations: Mapping[str, np.ndarray], *, dt_s: float, title: str, ax: Axes | None = None
) -> Figure:
    """Autocorrelation of populations against the lag: units faint, their mean bold.

    correlations {label: [lag, unit]}.
    """
    ax = axes_or_new(ax, (6.0, 4.2))
    for colour, (label, values) in zip(COLOURS, correlations.items(), strict=False):
        lag_s = dt_s * np.arange(len(values))
        ax.plot(lag_s, values, color=colour, linewidth=0.6, alpha=0.35)
        ax.plot(lag_s, values.mean(axis=1), color=colour, linewidth=2, label=label)
    ax.axhline(0, color=GREY, linewidth=0.8)
    ax.set_xlim(0, dt_s * (len(values) - 1))
    lowest = min(float(values.min()) for values in correlations.values())
    ax.set_ylim(min(-0.5, lowest - 0.05), 1.03)
    ax.set_xlabel("lag (s)")
    ax.set_ylabel("correlation of a unit's rate with itself")
    ax.set_title(title, fontsize=10)
    ax.legend(fontsize=8, title="mean over units (thin: each unit)", title_fontsize=8, loc=1)
    return figure_of(ax)


# --- The test of path integration ---


def ring_activity(
    activity: np.ndarray,
    *,
    true: np.ndarray,
    decoded: np.ndarray,
    decoded_times_s: np.ndarray,
    cut_s: float,
    dt_s: float,
    width_m: float,
    title: str,
    ax: Axes | None = None,
) -> Figure:
    """Activity of a population on a ring as an image over time, with true and decoded position.

    activity [time, position], of the unit whose field is nearest to each of evenly spaced
    positions; true [time] and decoded [reading] (m, in +-width_m / 2); decoded_times_s [reading]
    and cut_s count from the start.
    """
    ax = axes_or_new(ax, (9.0, 3.0))
    half, num_steps = width_m / 2, len(true)
    path = np.where(np.abs(np.diff(true, prepend=true[0])) > half, np.nan, true)
    image = ax.imshow(
        activity.T,
        origin="lower",
        aspect="auto",
        extent=(0, dt_s * num_steps, -half, half),
        vmin=0,
        vmax=max(float(np.quantile(activity, 0.995)), 1e-6),
        cmap="Greys",
        interpolation="nearest",
    )
    figure_of(ax).colorbar(image, ax=ax, pad=0.01, extend="max", label="rate")
    time_s = dt_s * np.arange(num_steps)
    ax.plot(time_s, path, color=SIMULATED, linewidth=1, label="true position")
    ax.plot(
        decoded_times_s, decoded, ".", color=RAT, markersize=4, label="position decoded from HPC"
    )
    ax.axvline(cut_s, color="black", linestyle="--", linewidth=1, label="senses are cut")
    ax.set_ylabel("position (m)")
    ax.set_ylim(-half, half)
    ax.set_xlabel("time (s)")
    ax.set_title(title, fontsize=10)
    return figure_of(ax)


def ring_test(
    activity: Mapping[str, np.ndarray],
    *,
    true: np.ndarray,
    decoded: np.ndarray,
    decoded_times_s: np.ndarray,
    cut_s: float,
    dt_s: float,
    width_m: float,
    title: str,
) -> Figure:
    """`ring_activity` of each population {label: [time, position]} in one test."""
    figure = Figure(figsize=(9, 1.4 + 2.5 * len(activity)), layout="constrained")
    figure.suptitle(title, fontsize=11)
    axes = figure.subplots(len(activity), 1, sharex=True, squeeze=False)[:, 0]
    for ax, (label, rates) in zip(axes, activity.items(), strict=True):
        ring_activity(
            rates,
            true=true,
            decoded=decoded,
            decoded_times_s=decoded_times_s,
            cut_s=cut_s,
            dt_s=dt_s,
            width_m=width_m,
            title=f"{label}: each unit at the position of its field",
            ax=ax,
        )
    for ax in axes[:-1]:
        ax.set_xlabel("")
    handles = axes[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=3, fontsize=9)
    return figure


def error_since_cut(
    errors: Mapping[str, np.ndarray],
    *,
    times_s: np.ndarray,
    levels: Mapping[str, float],
    ax: Axes | None = None,
) -> Figure:
    """Decoding error before and after the senses are cut: mean over tests, band +-1 SEM.

    errors {label: [test, time]} (m), NaN where nothing is drawn; times_s [time], 0 at the cut;
    levels {label: m}, horizontal lines.
    """
    ax = axes_or_new(ax, (7.0, 4.6))
    for colour, (label, values) in zip(COLOURS, errors.items(), strict=False):
        mean, sem = values.mean(axis=0), values.std(axis=0) / len(values) ** 0.5
        ax.fill_between(times_s, mean - sem, mean + sem, color=colour, alpha=0.25, linewidth=0)
        ax.plot(times_s, mean, color=colour, label=label)
    for style, (label, level) in zip(("--", ":", "-."), levels.items(), strict=False):
        ax.axhline(level, color=GREY, linestyle=style, linewidth=1.2, label=label)
    ax.axvline(0, color="black", linestyle="--", linewidth=0.8, label="senses are cut")
    ax.set_ylim(0, None)
    ax.set_xlim(times_s[0], times_s[-1])
    ax.set_xlabel("time since the senses were cut (s)")
    ax.set_ylabel("distance to the true position (m)")
    ax.set_title(
        f"Error of path integration: mean over {len(values)} tests, band +-1 standard error\n"
        "peaks before the cut: readings while theta has the circuit generate",
        fontsize=10,
    )
    ax.legend(fontsize=8, loc="upper left", bbox_to_anchor=(0, -0.14), ncols=3)
    return figure_of(ax)


def condition_bars(
    values: Mapping[str, np.ndarray],
    *,
    level: float,
    level_label: str,
    title: str,
    ax: Axes | None = None,
) -> Figure:
    """Error (m) in each condition {condition: [test or seed]}: mean +- SEM, every value a dot."""
    ax = axes_or_new(ax, (4.0, 3.8))
    for x, (colour, errors) in enumerate(zip(COLOURS, values.values(), strict=False)):
        sem = errors.std() / len(errors) ** 0.5
        ax.bar(x, errors.mean(), yerr=sem, color=colour, alpha=0.5, capsize=4, width=0.7)
        jitter = np.linspace(-0.25, 0.25, len(errors))
        ax.plot(x + jitter, errors, ".", color=colour, markersize=4)
    ax.axhline(level, color=GREY, linestyle="--", linewidth=1.2, label=level_label)
    ax.set_xticks(range(len(values)), list(values), fontsize=8)
    ax.set_xlabel("relative to the shuffle of HPC's place fields")
    ax.set_ylabel("distance to the true position (m)")
    ax.set_ylim(0, None)
    ax.set_title(title, fontsize=9)
    ax.legend(fontsize=8)
    return figure_of(ax)


def bars_by_time(
    values: Mapping[str, Mapping[str, np.ndarray]], *, level: float, level_label: str, title: str
) -> Figure:
    """`condition_bars` for each panel {panel: {condition: [test or seed]}}, on one axis."""
    figure = Figure(figsize=(0.8 + 3.2 * len(values), 4.0), layout="constrained")
    figure.suptitle(title, fontsize=11)
    axes = figure.subplots(1, len(values), sharey=True, squeeze=False)[0]
    for ax, (panel, conditions) in zip(axes, values.items(), strict=True):
        condition_bars(conditions, level=level, level_label=level_label, title=panel, ax=ax)
    for ax in axes[1:]:
        ax.set_ylabel("")
        ax.get_legend().remove()
    return figure


# --- Maps and weights ---


def ring_map(
    maps: np.ndarray, *, width_m: float, limit: float, title: str, ax: Axes | None = None
) -> Figure:
    """Rate maps [unit, position] along a ring as an image, one row a unit; colours to limit."""
    ax = axes_or_new(ax, (3.6, 3.4))
    image = ax.imshow(
        maps,
        aspect="auto",
        extent=(-width_m / 2, width_m / 2, len(maps) + 0.5, 0.5),
        vmin=0,
        vmax=limit,
        cmap="viridis",
        interpolation="nearest",
    )
    ax.set_title(title, fontsize=9)
    ax.set_xlabel("position (m)", fontsize=8)
    ax.set_ylabel("unit", fontsize=8)
    ax.tick_params(labelsize=7)
    bar = figure_of(ax).colorbar(image, ax=ax, shrink=0.9)
    bar.set_label("rate", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    return figure_of(ax)


def ring_maps(rows: Sequence[Mapping[str, np.ndarray]], *, width_m: float, title: str) -> Figure:
    """`ring_map` of each population {label: [unit, position]}; a row has one scale of colours."""
    columns = max(map(len, rows))
    figure = Figure(figsize=(0.6 + 3.1 * columns, 0.5 + 3.2 * len(rows)), layout="constrained")
    figure.suptitle(title, fontsize=11)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for line, row in zip(axes, rows, strict=True):
        limit = max(1e-6, *(float(maps.max(initial=0)) for maps in row.values()))
        for ax, (label, maps) in zip(line, row.items(), strict=False):
            ring_map(maps, width_m=width_m, limit=limit, title=label, ax=ax)
        for ax in line[len(row) :]:
            ax.set_axis_off()
    return figure


def weight_matrix(
    w: np.ndarray, *, limit: float, title: str, units: str, ax: Axes | None = None
) -> Figure:
    """Weights [post, pre] as an image; units: how they are numbered."""
    ax = axes_or_new(ax, (4.0, 3.6))
    image = ax.imshow(w, vmin=-limit, vmax=limit, cmap="RdBu_r", interpolation="nearest")
    ax.set_title(title, fontsize=9)
    ax.set_xlabel(f"from {units}", fontsize=8)
    ax.set_ylabel(f"to {units}", fontsize=8)
    ax.tick_params(labelsize=7)
    bar = figure_of(ax).colorbar(image, ax=ax, shrink=0.8, extend="both")
    bar.set_label("weight", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    return figure_of(ax)


def weight_profile(
    mean: np.ndarray,
    std: np.ndarray,
    *,
    offsets_m: np.ndarray,
    title: str,
    ax: Axes | None = None,
) -> Figure:
    """Weights by the distance from pre to post (m): mean and standard deviation [offset]."""
    ax = axes_or_new(ax, (4.0, 3.0))
    ax.fill_between(offsets_m, mean - std, mean + std, color=SIMULATED, alpha=0.25, linewidth=0)
    ax.plot(offsets_m, mean, color=SIMULATED)
    ax.axhline(0, color=GREY, linewidth=0.8)
    ax.axvline(0, color=GREY, linewidth=0.8)
    ax.set_title(title, fontsize=9)
    ax.set_xlabel("field of post ahead of pre by (m)", fontsize=8)
    ax.set_ylabel("weight: mean +- sd", fontsize=8)
    ax.tick_params(labelsize=7)
    return figure_of(ax)


def ring_weights(
    weights: Mapping[str, np.ndarray],
    order: np.ndarray,
    profiles: Mapping[str, tuple[np.ndarray, np.ndarray]],
    *,
    offsets_m: np.ndarray,
) -> Figure:
    """Recurrent weights: unsorted, sorted by the fields of the units, and averaged by distance.

    weights {label: [post, pre]}; order [unit] sorts post and pre; profiles {label: (mean, standard
    deviation)}, each [offset], of the weights by the distance from pre to post (m).
    """
    figure = Figure(figsize=(0.8 + 3.2 * len(weights), 8.6), layout="constrained")
    figure.suptitle("Weights into EC's apical dendrites", fontsize=11)
    axes = figure.subplots(3, len(weights), squeeze=False)
    limit = max(float(np.quantile(np.abs(w), 0.99)) for w in weights.values())
    for column, (label, w) in enumerate(weights.items()):
        above, middle, below = axes[:, column]
        text = f"{label}\nin the order of the units"
        weight_matrix(w, limit=limit, title=text, units="unit", ax=above)
        text, units = f"{label}\nsorted by field", "unit, by field"
        weight_matrix(w[order][:, order], limit=limit, title=text, units=units, ax=middle)
        mean, std = profiles[label]
        text = f"{label}\nby the distance of the fields"
        weight_profile(mean, std, offsets_m=offsets_m, title=text, ax=below)
        below.sharey(axes[2, 0])
    return figure

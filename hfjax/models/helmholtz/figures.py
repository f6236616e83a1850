"""Panels that the models of this package share. Arguments are NumPy arrays."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from hfjax.figures import COLOURS, GREY, RAT, SIMULATED
from hfjax.models.helmholtz.machine import MODES
from hfjax.task import HostReadout


def draw_modes(readout: HostReadout, *, below: Sequence[str] = ()) -> dict[str, Figure]:
    """One figure for each mode: dendrites and somata of a few units of each layer, over time.

    below: names of other arrays MODE/NAME to draw at the bottom.
    """
    drawn = {}
    explained = {
        "inference": "inference (theta = 0; 1 in the paper): somata follow basal dendrites",
        "generation": "generation (theta = 1; 0 in the paper): somata follow apical dendrites",
        "alternating": "alternating theta",
    }
    names = [f"{layer}/{part}" for layer in ("EC", "HPC") for part in ("apical", "soma", "basal")]
    for mode in MODES:
        drawn[f"rates_{mode}"] = stacked_traces(
            {name.replace("/", " "): readout[f"{mode}/{name}"] for name in [*names, *below]},
            dt_s=float(readout["dt_s"]),
            title=explained[mode],
        )
    return drawn


def stacked_traces(rates: Mapping[str, np.ndarray], *, dt_s: float, title: str) -> Figure:
    """Rates over time: one panel for each population, its units stacked, on the panel's own scale.

    rates {label: [time, unit]}.
    """
    figure = Figure(figsize=(8.5, 0.6 + 0.85 * len(rates)), layout="constrained")
    figure.suptitle(title, fontsize=11)
    axes = figure.subplots(len(rates), 1, sharex=True, squeeze=False)[:, 0]
    for ax, (label, values) in zip(axes, rates.items(), strict=True):
        num_units = values.shape[1]
        scale = 1.3 * max(float(np.quantile(np.abs(values), 0.99)), 1e-9)
        time_s = dt_s * np.arange(len(values))
        for unit in range(num_units):
            colour = COLOURS[unit % len(COLOURS)]
            ax.plot(time_s, values[:, unit] / scale + unit, color=colour, linewidth=0.6)
        ax.set_ylim(-1, num_units)
        ax.set_yticks([0, num_units - 1], ["1", str(num_units)], fontsize=7)
        ax.set_ylabel(f"{label}\nunit", fontsize=8)
        ax.spines[["top", "right"]].set_visible(False)
        ax.text(1.005, 0.5, f"step of 1:\n{scale:.2g}", transform=ax.transAxes, fontsize=6)
    axes[-1].set_xlabel("time (s)")
    axes[-1].set_xlim(0, dt_s * len(values))
    return figure


def autocorrelations(correlations: Mapping[str, np.ndarray], *, dt_s: float) -> Figure:
    """Autocorrelation of populations against the lag: units faint, their mean bold.

    correlations {label: [lag, unit]}.
    """
    figure = Figure(figsize=(5.5, 4), layout="constrained")
    ax = figure.subplots()
    for colour, (label, values) in zip(COLOURS, correlations.items(), strict=False):
        lag_s = dt_s * np.arange(len(values))
        ax.plot(lag_s, values, color=colour, linewidth=0.6, alpha=0.35)
        ax.plot(lag_s, values.mean(axis=1), color=colour, linewidth=2, label=f"{label} (mean)")
    ax.axhline(0, color=GREY, linewidth=0.8)
    ax.set_xlim(0, dt_s * len(values))
    ax.set_xlabel("lag (s)")
    ax.set_ylabel("autocorrelation of each unit's rate")
    ax.legend(fontsize=8)
    return figure


def ring_activity(
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
    """Activity of populations on a ring as images over time, with true and decoded position.

    activity {label: [time, position]}, of the unit whose field is nearest to each of evenly spaced
    positions; true [time] and decoded [reading] (m, in +-width_m / 2); decoded_times_s [reading]
    and cut_s count from the start.
    """
    half, num_steps = width_m / 2, len(true)
    time_s = dt_s * np.arange(num_steps)
    path = np.where(np.abs(np.diff(true, prepend=true[0])) > half, np.nan, true)
    figure = Figure(figsize=(9, 0.9 + 2.3 * len(activity)), layout="constrained")
    figure.suptitle(title, fontsize=11)
    axes = figure.subplots(len(activity), 1, sharex=True, squeeze=False)[:, 0]
    for ax, (label, rates) in zip(axes, activity.items(), strict=True):
        top = float(np.quantile(rates, 0.995))
        image = ax.imshow(
            rates.T,
            origin="lower",
            aspect="auto",
            extent=(0, dt_s * num_steps, -half, half),
            vmin=0,
            vmax=max(top, 1e-6),
            cmap="Greys",
            interpolation="nearest",
        )
        figure.colorbar(image, ax=ax, pad=0.01).set_label("rate", fontsize=8)
        ax.plot(time_s, path, color=SIMULATED, linewidth=1, label="true position")
        ax.plot(decoded_times_s, decoded, ".", color=RAT, markersize=4, label="decoded position")
        ax.axvline(cut_s, color="black", linestyle="--", linewidth=1, label="senses cut")
        ax.set_ylabel(f"{label}: field's\nposition (m)", fontsize=8)
        ax.set_ylim(-half, half)
    axes[0].legend(fontsize=7, loc="upper left", ncols=3)
    axes[-1].set_xlabel("time (s)")
    return figure


def ring_maps(maps: Mapping[str, np.ndarray], *, width_m: float, title: str) -> Figure:
    """Rate maps {label: [unit, position]} along a ring, as images side by side; one row a unit."""
    figure = Figure(figsize=(0.6 + 2.6 * len(maps), 3.4), layout="constrained")
    figure.suptitle(title, fontsize=11)
    axes = figure.subplots(1, len(maps), squeeze=False)[0]
    for ax, (label, values) in zip(axes, maps.items(), strict=True):
        image = ax.imshow(
            values,
            aspect="auto",
            extent=(-width_m / 2, width_m / 2, len(values), 0),
            vmin=0,
            cmap="viridis",
            interpolation="nearest",
        )
        ax.set_title(label, fontsize=9)
        ax.set_xlabel("position (m)", fontsize=8)
        ax.tick_params(labelsize=7)
        figure.colorbar(image, ax=ax, shrink=0.8).ax.tick_params(labelsize=6)
    axes[0].set_ylabel("unit", fontsize=8)
    return figure


def error_since_cut(
    errors: Mapping[str, np.ndarray], *, times_s: np.ndarray, levels: Mapping[str, float]
) -> Figure:
    """Decoding error before and after the senses are cut: mean over tests, band +-1 SEM.

    errors {label: [test, time]} (m), NaN where nothing is drawn; times_s [time], 0 at the cut;
    levels {label: m}, horizontal lines.
    """
    figure = Figure(figsize=(7, 4), layout="constrained")
    ax = figure.subplots()
    for colour, (label, values) in zip(COLOURS, errors.items(), strict=False):
        mean, sem = values.mean(axis=0), values.std(axis=0) / len(values) ** 0.5
        ax.fill_between(times_s, mean - sem, mean + sem, color=colour, alpha=0.25, linewidth=0)
        ax.plot(times_s, mean, color=colour, label=label)
    for style, (label, level) in zip(("--", ":", "-."), levels.items(), strict=False):
        ax.axhline(level, color=GREY, linestyle=style, linewidth=1.2, label=label)
    ax.axvline(0, color="black", linestyle="--", linewidth=0.8)
    ax.set_ylim(0, None)
    ax.set_xlim(times_s[0], times_s[-1])
    ax.set_xlabel("time since the senses were cut (s)")
    ax.set_ylabel("distance to the true position (m)")
    ax.set_title(f"Mean over {len(values)} tests, band +-1 standard error", fontsize=11)
    ax.legend(fontsize=8)
    return figure


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
    figure = Figure(figsize=(0.8 + 2.8 * len(weights), 7.6), layout="constrained")
    figure.suptitle("Weights into EC's apical dendrites", fontsize=11)
    axes = figure.subplots(3, len(weights), squeeze=False)
    for column, (label, w) in enumerate(weights.items()):
        top = max(float(np.quantile(np.abs(w), 0.99)), 1e-9)
        sorted_w = w[order][:, order]
        for row, (matrix, how) in enumerate(((w, "as they are"), (sorted_w, "sorted by field"))):
            ax = axes[row, column]
            image = ax.imshow(matrix, vmin=-top, vmax=top, cmap="RdBu_r", interpolation="nearest")
            ax.set_title(f"{label}\n{how}", fontsize=9)
            ax.set_xlabel("from unit", fontsize=8)
            ax.set_ylabel("to unit", fontsize=8)
            ax.tick_params(labelsize=7)
            figure.colorbar(image, ax=ax, shrink=0.8).ax.tick_params(labelsize=6)
        mean, std = profiles[label]
        ax = axes[2, column]
        ax.fill_between(offsets_m, mean - std, mean + std, color=SIMULATED, alpha=0.25, linewidth=0)
        ax.plot(offsets_m, mean, color=SIMULATED)
        ax.axhline(0, color=GREY, linewidth=0.8)
        ax.axvline(0, color=GREY, linewidth=0.8)
        ax.set_xlabel("field of post ahead of pre by (m)", fontsize=8)
        ax.set_ylabel("weight: mean +- sd", fontsize=8)
        ax.tick_params(labelsize=7)
    return figure


def condition_bars(
    values: Mapping[str, Mapping[str, np.ndarray]], *, level: float, level_label: str, title: str
) -> Figure:
    """Error (m) in each condition: mean +- SEM, and every value as a dot.

    values {panel: {condition: [test or seed]}}.
    """
    figure = Figure(figsize=(0.8 + 3.2 * len(values), 3.8), layout="constrained")
    figure.suptitle(title, fontsize=11)
    axes = figure.subplots(1, len(values), sharey=True, squeeze=False)[0]
    for ax, (panel, conditions) in zip(axes, values.items(), strict=True):
        for x, (colour, errors) in enumerate(zip(COLOURS, conditions.values(), strict=False)):
            sem = errors.std() / len(errors) ** 0.5
            ax.bar(x, errors.mean(), yerr=sem, color=colour, alpha=0.5, capsize=4, width=0.7)
            jitter = np.linspace(-0.25, 0.25, len(errors))
            ax.plot(x + jitter, errors, ".", color=colour, markersize=4)
        ax.axhline(level, color=GREY, linestyle="--", linewidth=1.2, label=level_label)
        ax.set_xticks(range(len(conditions)), list(conditions), fontsize=8)
        ax.set_title(panel, fontsize=9)
    axes[0].set_ylabel("distance to the true position (m)")
    axes[0].legend(fontsize=8)
    return figure

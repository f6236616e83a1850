"""Figures of a readout of `biohsic`."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from hfjax import figures
from hfjax.task import HostReadout


def draw(readout: HostReadout) -> dict[str, Figure]:
    """Figures of a readout (see `task`): information plane, objective of each layer, confusion, map
    of 2-D inputs."""
    drawn = {"information_plane": draw_plane(readout), "confusion": draw_confusion(readout)}
    if "gamma" in readout:  # a readout of an earlier version has none
        drawn["objective"] = draw_objective(readout)
    if "decision_map" in readout:
        drawn["decision_boundary"] = draw_decision(readout)
    return drawn


def draw_plane(readout: HostReadout, *, ax: Axes | None = None) -> Figure:
    """Each layer's way through the plane of HSIC(x, z) and HSIC(y, z), an epoch a point."""
    ax = figures.axes_or_new(ax, (6.8, 5.2))
    num_epochs = min(int(readout["epochs_done"]), len(readout["plane"]))
    path = readout["plane"][:num_epochs]
    num_layers = path.shape[1]
    for layer in range(num_layers):
        colour = figures.COLOURS[layer % len(figures.COLOURS)]
        name = f"layer {layer + 1}" + " (outputs)" * (layer == num_layers - 1)
        ax.plot(*path[:, layer].T, ".-", color=colour, lw=0.8, label=name)
        for epoch in (0, num_epochs - 1) if num_epochs > 1 else ():
            ax.annotate(
                str(epoch + 1),
                path[epoch, layer],
                xytext=(4, 4),
                textcoords="offset points",
                fontsize=8,
                color=colour,
                path_effects=[withStroke(linewidth=2, foreground="white")],
                zorder=3,
            )
        ax.plot(*readout["test_plane"][layer], "s", color=colour, mfc="none")
    ax.plot([], [], "s", color="black", mfc="none", label="test samples, at the end")
    ax.axhline(0, color=figures.GREY, lw=0.8, ls="--", label="independent of the class")
    ax.set_xlabel("HSIC(x, z): dependence of the layer on the input")
    ax.set_ylabel("HSIC(y, z): dependence of the layer on the class")
    ax.set_title(
        "Information plane: dots, training samples after each epoch "
        f"(numbers: the first and the last, {num_epochs})",
        fontsize=9,
    )
    ax.legend(fontsize=8)
    return figures.figure_of(ax)


def draw_objective(readout: HostReadout, *, ax: Axes | None = None) -> Figure:
    """HSIC(x, z) - gamma HSIC(y, z) of each layer over epochs; hidden layers lower it by the rule
    and by the HSIC gradient, the outputs learn by cross-entropy.
    """
    ax = figures.axes_or_new(ax, (6.8, 4.4))
    num_epochs = min(int(readout["epochs_done"]), len(readout["plane"]))
    gamma = float(readout["gamma"])
    objective = readout["plane"][..., 0] - gamma * readout["plane"][..., 1]
    at_end = readout["test_plane"][:, 0] - gamma * readout["test_plane"][:, 1]
    num_layers = objective.shape[1]
    for layer in range(num_layers):
        colour = figures.COLOURS[layer % len(figures.COLOURS)]
        name = "outputs" if layer == num_layers - 1 else f"layer {layer + 1}"
        epochs = np.arange(1, num_epochs + 1)
        ax.plot(epochs, objective[:num_epochs, layer], ".-", color=colour, lw=0.9, label=name)
        ax.plot(num_epochs, at_end[layer], "s", color=colour, mfc="none")
    ax.plot([], [], "s", color="black", mfc="none", label="test samples, at the end")
    ax.axhline(0, color=figures.GREY, lw=0.8, ls="--", label="independent of input and class")
    ax.set_xlabel("epoch")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_ylabel(f"HSIC(x, z) - {gamma:g} HSIC(y, z)")
    ax.set_title(
        "Bottleneck objective (lower is better) of each layer, training samples after each epoch;\n"
        "not that of the outputs, which learn by cross-entropy",
        fontsize=9,
    )
    ax.legend(fontsize=8)
    return figures.figure_of(ax)


def draw_confusion(readout: HostReadout, *, ax: Axes | None = None) -> Figure:
    """How often each class was given to samples of each class, in per cent of the true class."""
    ax = figures.axes_or_new(ax, (6.0, 5.2))
    confusion = readout["confusion"]
    num_classes = len(confusion)
    share = 100 * confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    image = ax.imshow(share, cmap="Blues", vmin=0, vmax=100)
    figures.figure_of(ax).colorbar(image, ax=ax, label="share of the true class (%)")
    for (row, column), value in np.ndenumerate(share):
        colour = "white" if value > 60 else "black"
        ax.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=7, color=colour)
    ax.set(xlabel="class given by the network", ylabel="true class")
    ax.set(xticks=range(num_classes), yticks=range(num_classes))
    right = 100 * np.trace(confusion) / max(confusion.sum(), 1)
    chance = 100 * confusion.sum(axis=1).max() / max(confusion.sum(), 1)
    ax.set_title(
        f"{int(confusion.sum())} test samples: {right:.1f} % right\n"
        f"(chance, always the most frequent class: {chance:.1f} %)",
        fontsize=10,
    )
    return figures.figure_of(ax)


def draw_decision(readout: HostReadout, *, ax: Axes | None = None) -> Figure:
    """Probability of class 1 over the plane of inputs, with the test samples."""
    ax = figures.axes_or_new(ax, (6.4, 6.0))
    low, high = readout["decision_extent"]
    figures.spatial_map(
        readout["decision_map"],
        extent_m=readout["decision_extent"].T,
        title="Output of the network, and test samples",
        limits=(0, 1),
        colour_map="RdBu_r",
        colour_label="probability of class 1",
        axis_labels=("input 1", "input 2"),
        ax=ax,
    )
    ax.contour(
        *np.linspace(low, high, len(readout["decision_map"])).T,
        readout["decision_map"].T,
        levels=[0.5],
        colors="black",
        linewidths=0.8,
    )
    classes = readout["test_classes"]
    for number, colour, marker in ((0, "#0b2545", "o"), (1, "#5c0a0a", "^")):
        shown = readout["test_inputs"][classes == number]
        label = f"true class {number}"
        ax.plot(*shown.T, marker, color=colour, ms=4.5, mfc="white", clip_on=False, label=label)
    ax.plot([], [], color="black", lw=0.8, label="boundary: probability 0.5")
    ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
    ax.legend(fontsize=8, loc="upper left", bbox_to_anchor=(0, -0.12), ncols=3)
    return figures.figure_of(ax)

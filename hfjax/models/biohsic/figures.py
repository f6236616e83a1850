"""Figures of a readout of `biohsic`."""

import numpy as np
from matplotlib.figure import Figure

from hfjax import figures
from hfjax.task import HostReadout


def draw(readout: HostReadout) -> dict[str, Figure]:
    """Figures of a readout (see `task`): information plane, confusion, map of 2-D inputs."""
    drawn = {"information_plane": _draw_plane(readout), "confusion": _draw_confusion(readout)}
    if "decision_map" in readout:
        drawn["decision_boundary"] = _draw_decision(readout)
    return drawn


def _draw_plane(readout: HostReadout) -> Figure:
    """Each layer's way through the plane of HSIC(x, z) and HSIC(y, z), an epoch a point."""
    num_epochs = min(int(readout["epochs_done"]), len(readout["plane"]))
    path = readout["plane"][:num_epochs]
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    ax = figure.subplots()
    num_layers = path.shape[1]
    for layer in range(num_layers):
        colour = figures.COLOURS[layer % len(figures.COLOURS)]
        name = "outputs" if layer == num_layers - 1 else f"layer {layer + 1}"
        ax.plot(*path[:, layer].T, ".-", color=colour, lw=0.8, label=name)
        for epoch in (0, num_epochs - 1) if num_epochs > 1 else ():
            ax.annotate(str(epoch + 1), path[epoch, layer], fontsize=8)
        ax.plot(*readout["test_plane"][layer], "s", color=colour, mfc="none")
    ax.plot([], [], "s", color="black", mfc="none", label="now, test samples")
    ax.set_xlabel("HSIC(x, z): dependence of the layer on the input")
    ax.set_ylabel("HSIC(y, z): dependence of the layer on the class")
    ax.set_title(f"Information plane, training samples after epochs 1 to {num_epochs}", fontsize=11)
    ax.legend(fontsize=8)
    return figure


def _draw_confusion(readout: HostReadout) -> Figure:
    """Which class was taken for which, in per cent of the true class."""
    confusion = readout["confusion"]
    share = 100 * confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(5.6, 4.8), layout="constrained")
    ax = figure.subplots()
    image = ax.imshow(share, cmap="Blues", vmin=0, vmax=100)
    figure.colorbar(image, ax=ax, label="share of the true class (%)")
    for (row, column), value in np.ndenumerate(share):
        colour = "white" if value > 60 else "black"
        ax.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=7, color=colour)
    ax.set(xlabel="class given", ylabel="true class")
    right = 100 * np.trace(confusion) / max(confusion.sum(), 1)
    ax.set_title(f"Test samples: {right:.1f} % right", fontsize=11)
    return figure


def _draw_decision(readout: HostReadout) -> Figure:
    """Probability of class 1 over the plane of inputs, with the test samples."""
    (left, bottom), (right, top) = readout["decision_extent"]
    figure = Figure(figsize=(5.8, 4.8), layout="constrained")
    ax = figure.subplots()
    image = ax.imshow(
        readout["decision_map"].T,
        origin="lower",
        extent=(left, right, bottom, top),
        cmap="RdBu_r",
        vmin=0,
        vmax=1,
        alpha=0.7,
    )
    figure.colorbar(image, ax=ax, label="probability of class 1")
    classes = readout["test_classes"]
    for number, colour, marker in ((0, "#16467a", "o"), (1, "#8c1c13", "^")):
        shown = readout["test_inputs"][classes == number]
        ax.plot(*shown.T, marker, color=colour, ms=4, mfc="none", label=f"class {number}")
    ax.set(xlabel="input 1", ylabel="input 2")
    ax.set_title("Decision of the network, and test samples", fontsize=11)
    ax.legend(fontsize=8, loc="upper right")
    return figure

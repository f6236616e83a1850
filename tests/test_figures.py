import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure

from hfjax import arena, figures


def drawn(figure, tmp_path):
    """The figure itself, once it has been drawn without a warning."""
    assert isinstance(figure, Figure)
    figure.savefig(tmp_path / "figure.png", dpi=40)
    return figure


def texts(figure):
    return " ".join(text.get_text() for text in figure.findobj(lambda o: hasattr(o, "get_text")))


def test_rate_maps_run_from_each_units_lowest_to_its_highest(tmp_path):
    maps = np.random.default_rng(0).normal(size=(10, 6, 6))
    maps[0] = 5.0  # a unit that never changes
    maps[1, 2, 3] = np.nan  # a bin that was never visited
    labels = [f"unit {i}" for i in range(10)]
    figure = drawn(figures.rate_maps(maps, labels, width_m=2.2, title="Maps"), tmp_path)
    axes = [ax for ax in figure.axes if ax.get_images()]
    assert [ax.get_title() for ax in axes] == labels
    shown = axes[2].get_images()[0].get_array()
    assert shown.min() == 0
    assert shown.max() == 1
    # The map is [x, y] and the picture [row, column] = [y, x].
    x, y = np.unravel_index(maps[2].argmax(), maps[2].shape)
    assert shown[y, x] == 1
    assert axes[0].get_images()[0].get_array().max() == 0
    assert axes[1].get_images()[0].get_array().mask[3, 2]
    assert {"x (m)", "y (m)"} <= {text.get_text() for text in figure.texts}


def test_autocorrelograms(tmp_path):
    correlograms = np.linspace(-1, 1, 2 * 11 * 11).reshape(2, 11, 11)
    figure = drawn(
        figures.autocorrelograms(correlograms, ["0.1", "0.2"], width_m=2.2, title="C"), tmp_path
    )
    image = figure.axes[0].get_images()[0]
    assert image.get_clim() == (-1, 1)
    assert image.get_extent() == [-2.2, 2.2, -2.2, 2.2]


def test_histogram_shows_both_shares_at_each_threshold(tmp_path):
    scores, noise = np.array([-0.2, 0.1, 0.5, 0.9]), np.array([-0.3, 0.0, 0.1, 0.2, 0.9])
    figure = drawn(
        figures.score_histogram(scores, noise, thresholds=(0.3, 0.8), what="units"), tmp_path
    )
    written = texts(figure)
    assert "above 0.3:\nunits 50.0 %\nnoise 20.0 %" in written
    assert "above 0.8:\nunits 25.0 %\nnoise 20.0 %" in written


def test_trajectories_break_at_the_seam(tmp_path):
    path = np.array([[[0.9, 0.0], [1.0, 0.0], [-1.0, 0.1], [-0.9, 0.1]]])
    figure = drawn(
        figures.trajectories({"simulated": (path, path)}, width_m=2.2, dt_s=0.5), tmp_path
    )
    np.testing.assert_array_equal(
        figure.axes[0].lines[0].get_xdata(), [0.9, 1.0, np.nan, -1.0, -0.9]
    )
    assert "in 2 s" in texts(figure)


def test_error_over_time(tmp_path):
    error = np.array([[1.0, 2.0], [2.0, 4.0], [3.0, 6.0]])
    figure = drawn(figures.error_over_time({"real rat": (error, error / 2)}, dt_s=0.1), tmp_path)
    (ax,) = figure.axes
    np.testing.assert_allclose(ax.lines[0].get_xdata(), [0.1, 0.2])
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [2, 4])
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), [1, 2])
    assert "(s)" in ax.get_xlabel()
    assert "(cm)" in ax.get_ylabel()


def test_arenas_show_paths_walls_and_how_long_the_animal_was_where(tmp_path):
    wide = arena.box(2.0, 1.0, inner_walls=[[[1.0, 0.0], [1.0, 0.5]]])
    # Nine samples in one corner, one far away, after a cut, and a jump through the seam.
    positions = np.array([[0.1, 0.1]] * 9 + [[np.nan, np.nan], [1.9, 0.9]])
    figure = drawn(
        figures.arenas(
            {"walled": (wide, positions), "torus": (arena.box(1.0, periodic=True), positions / 2)},
            dt_s=6.0,
            centres=np.array([[0.5, 0.5]]),
            num_bins=10,
            title="Paths",
        ),
        tmp_path,
    )
    above, _, below, torus = figure.axes[:4]
    assert above.get_title() == "walled\n1 min"
    walls = [line for line in above.lines if len(line.get_xdata()) == 2]
    assert len(walls) == 5
    assert sum(len(line.get_xdata()) == 2 for line in torus.lines) == 0
    occupancy = below.get_images()[0].get_array()  # [y, x], of 5 x 10 bins
    assert occupancy.shape == (5, 10)
    np.testing.assert_allclose([occupancy[0, 0], occupancy[4, 9]], [45, 5])  # 10 samples, 50 bins
    assert "x (m)" in texts(figure)
    assert "centres of fields" in texts(figure)


ONE_TO_SIX = np.arange(1.0, 7.0).reshape(3, 2)
LABELS = {"x_label": "x", "y_label": "y", "title": "t"}
PANELS = {
    "score_histogram": lambda ax: figures.score_histogram(
        ONE_TO_SIX[0], ONE_TO_SIX[1], thresholds=(0.3,), what="units", ax=ax
    ),
    "error_over_time": lambda ax: figures.error_over_time(
        {"rat": (ONE_TO_SIX, ONE_TO_SIX)}, dt_s=0.1, ax=ax
    ),
    "curves_with_spread": lambda ax: figures.curves_with_spread(
        {"rule": ONE_TO_SIX}, **LABELS, ax=ax
    ),
    "points_with_spread": lambda ax: figures.points_with_spread(
        {2: ONE_TO_SIX[0], 4: ONE_TO_SIX[1]}, **LABELS, ax=ax
    ),
}


@pytest.mark.parametrize("name", PANELS)
def test_a_panel_draws_into_the_given_axes_and_leaves_the_others_alone(name, tmp_path):
    figure = Figure(layout="constrained")
    left, right = figure.subfigures(1, 2)
    given, other = left.subplots(), right.subplots()
    before = len(other.findobj())
    assert PANELS[name](given) is figure
    assert given.has_data()
    assert given.get_title()
    assert len(other.findobj()) == before
    assert not other.has_data()
    assert not figure.legends
    assert len(drawn(figure, tmp_path).axes) == 2


@pytest.mark.parametrize("name", PANELS)
def test_a_panel_without_axes_makes_a_figure_of_its_own(name, tmp_path):
    (ax,) = drawn(PANELS[name](None), tmp_path).axes
    assert ax.has_data()


def test_figures_need_no_jax():
    code = "import sys, hfjax.figures; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_curves_and_points_show_means_over_seeds():
    values = np.array([[1.0, 3.0], [2.0, 6.0], [5.0, 5.0]])
    labels = {"x_label": "epoch", "y_label": "accuracy", "title": "title"}
    ax = figures.curves_with_spread({"rule": values}, **labels).axes[0]
    np.testing.assert_allclose(ax.lines[0].get_xydata(), [[0, 2], [1, 4], [2, 5]])
    assert ax.get_legend_handles_labels()[1] == ["rule"]
    ax = figures.points_with_spread({2: values[0], 8: values[1]}, **labels).axes[0]
    means = next(line for line in ax.lines if line.get_label() == "mean over seeds")
    np.testing.assert_allclose(means.get_xydata(), [[2, 2], [8, 4]])

import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure

from hfjax import arena, figures
from hfjax.models import pattern_formation, reservoir, topo_grid
from hfjax.models.biohsic import figures as biohsic
from hfjax.models.dsm import place_maps, returns
from hfjax.models.helmholtz import figures as helmholtz
from tests.contract import check_figures

BOX = ((-1.1, 1.1), (-1.1, 1.1))


def drawn(figure):
    """The figure itself, once it has been laid out without a warning."""
    assert isinstance(figure, Figure)
    figure.draw_without_rendering()
    return figure


def texts(figure):
    return " ".join(text.get_text() for text in figure.findobj(lambda o: hasattr(o, "get_text")))


def test_rate_maps_run_from_each_units_lowest_to_its_highest():
    maps = np.random.default_rng(0).normal(size=(10, 6, 6))
    maps[0] = 5.0  # a unit that never changes
    maps[1, 2, 3] = np.nan  # a bin that was never visited
    labels = [f"unit {i}" for i in range(10)]
    figure = drawn(figures.rate_maps(maps, labels, extent_m=BOX, title="Maps"))
    ax = figure.axes[0]
    images = ax.get_images()
    # Each map below its label, in rows from the top.
    written = {text.get_text(): np.array(text.get_position()) for text in ax.texts}
    for label, image in zip(labels, images, strict=True):
        left, right, bottom, top = image.get_extent()
        np.testing.assert_allclose(written[label], [(left + right) / 2, top + 0.03])
        assert (right - left, top - bottom) == pytest.approx((1.05, 1.05))
    assert images[8].get_extent()[0] == images[0].get_extent()[0] == 0
    assert images[8].get_extent()[3] < images[0].get_extent()[2]
    # Numbers stand at the outer maps: y of two rows, x below each of the eight columns.
    numbers = [text.get_text() for text in ax.texts if text.get_text() not in labels]
    assert sorted(numbers) == sorted(["-0.9", "0", "0.9"] * 10)
    lines = ax.collections[0].get_segments()  # the first map's frame, then its ticks
    np.testing.assert_allclose(lines[0][2], np.array(images[0].get_extent())[[1, 3]])
    np.testing.assert_allclose(lines[3][0][0], 1.05 * 2.0 / 2.2)  # 0.9 m
    shown = images[2].get_array()
    assert shown.min() == 0
    assert shown.max() == 1
    # The map is [x, y] and the picture [row, column] = [y, x].
    x, y = np.unravel_index(maps[2].argmax(), maps[2].shape)
    assert shown[y, x] == 1
    assert images[0].get_array().max() == 0
    assert images[1].get_array().mask[3, 2]
    assert figure.get_supxlabel() == "x (m)"
    assert figure.get_supylabel() == "y (m)"
    assert "grey: never visited" in texts(figure)
    assert "grey" not in texts(figures.rate_maps(maps[2:], labels[2:], extent_m=BOX, title="Maps"))


def test_a_sheet_of_maps_shows_every_unit_at_its_place_with_x_to_the_right_and_y_up():
    maps = np.zeros((5, 3, 4))
    maps[4, 2, 3] = 7.0  # the last unit, in the second row and column, is active top right
    maps[0, 0, 0] = np.nan
    figure = drawn(figures.map_sheet(maps, columns=3, extent_m=BOX, title="All units"))
    (ax,) = figure.axes
    assert "each 2.2 m wide" in ax.get_title()
    picture = ax.get_images()[0].get_array()
    assert picture.shape[:2] == (2 * 5, 3 * 4)  # 4 bins of y and 3 of x, and a gap
    yellow = np.argwhere(np.isclose(picture[..., :3], [0.993248, 0.906157, 0.143936], 1e-4).all(-1))
    np.testing.assert_array_equal(yellow, [[5 + 0, 4 + 2]])
    np.testing.assert_allclose(picture[3, 0, :3], 0.82)  # never visited, bottom left
    assert np.all(picture[:, 3] == 1)
    assert np.all(picture[5:, 8:] == 1)  # there is no sixth unit


def test_a_row_of_maps_has_its_scale_and_every_map_the_wall_at_its_place():
    """The wall runs from the middle to the top of a box 2 m wide and 4 m high."""
    values = np.arange(12.0).reshape(3, 2, 2)
    rows = [
        figures.MapRow(values, "above", "rate", (0.0, 11.0)),
        figures.MapRow(-values, "below", "rate", (-11.0, 0.0), "RdBu_r"),
    ]
    wall = np.array([[[0.0, 0.0], [0.0, 2.0]]])
    extent = ((-1.0, 1.0), (-2.0, 2.0))
    figure = figures.map_rows(
        rows, columns=["a", "b", "c"], extent_m=extent, title="maps", walls=wall
    )
    drawn = [ax for ax in figure.axes if ax.get_images()]
    for ax, row in zip(drawn, rows, strict=True):
        assert {"a", "b", "c"} <= {t.get_text() for t in ax.texts} or row.label == "below"
        assert row.label in [t.get_text() for t in ax.texts]
        walls = [c.get_segments()[0] for c in ax.collections if c.get_linewidths()[0] == 2]
        for image, values, line in zip(ax.get_images(), row.maps, walls, strict=True):
            np.testing.assert_array_equal(image.get_array(), values.T)
            assert image.get_clim() == row.limits
            left, right, bottom, top = image.get_extent()
            middle = [(left + right) / 2, (bottom + top) / 2]
            np.testing.assert_allclose(line, [middle, [middle[0], top]])
    bars = [c.colorbar for ax in drawn for c in ax.get_images() if c.colorbar]
    assert [bar.cmap.name for bar in bars] == ["viridis", "RdBu_r"]


def test_an_ecdf_steps_after_its_samples():
    figure = drawn(
        figures.ecdf(
            {"atoms": np.array([3.0, 1.0, 2.0])}, limits=(0.0, 4.0), x_label="return", title="t"
        )
    )
    (line,) = figure.axes[0].lines
    assert line.get_drawstyle() == "steps-post"
    np.testing.assert_allclose(line.get_xdata(), [0, 1, 2, 3, 4])
    np.testing.assert_allclose(line.get_ydata(), [0, 1 / 3, 2 / 3, 1, 1])


def test_autocorrelograms():
    correlograms = np.linspace(-1, 1, 2 * 11 * 11).reshape(2, 11, 11)
    figure = drawn(figures.autocorrelograms(correlograms, ["0.1", "0.2"], extent_m=BOX, title="C"))
    image = figure.axes[0].get_images()[0]
    assert image.get_clim() == (-1, 1)
    assert {"-1.9", "0", "1.9"} <= {text.get_text() for text in figure.axes[0].texts}  # shifts


def test_histogram_shows_both_shares_at_each_threshold():
    scores, noise = np.array([-0.2, 0.1, 0.5, 0.9]), np.array([-0.3, 0.0, 0.1, 0.2, 0.9])
    figure = drawn(figures.score_histogram(scores, noise, thresholds=(0.3, 0.8), what="units"))
    written = texts(figure)
    assert "above 0.3:\nunits 50.0 %\nnoise 20.0 %" in written
    assert "above 0.8:\nunits 25.0 %\nnoise 20.0 %" in written


def test_trajectories_break_at_the_seam():
    path = np.array([[[0.9, 0.0], [1.0, 0.0], [-1.0, 0.1], [-0.9, 0.1]]])
    figure = drawn(figures.trajectories({"simulated": (path, path)}, extent_m=BOX, dt_s=0.5))
    np.testing.assert_array_equal(
        figure.axes[0].lines[1].get_xdata(), [0.9, 1.0, np.nan, -1.0, -0.9]
    )
    assert "in 2 s" in texts(figure)


def test_error_over_time():
    error = np.array([[1.0, 2.0], [2.0, 4.0], [3.0, 6.0]])
    figure = drawn(
        figures.error_over_time({"real rat": (error, error / 2)}, dt_s=0.1, levels={"chance": 80.0})
    )
    (ax,) = figure.axes
    np.testing.assert_allclose(ax.lines[0].get_xdata(), [0.1, 0.2])
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [2, 4])
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), [1, 2])
    assert ax.lines[2].get_ydata() == [80, 80]
    assert ax.get_ylim()[1] > 80
    assert "(s)" in ax.get_xlabel()
    assert "(cm)" in ax.get_ylabel()


def test_a_direction_is_drawn_at_its_angle_in_polar_axes():
    rates = np.array([1.0, 4.0, 2.0, np.nan])
    figure = drawn(figures.direction_curve(rates, title="cell"))
    (ax,) = figure.axes
    theta, r = ax.lines[0].get_data()
    np.testing.assert_allclose(theta, np.pi / 4 * np.array([1, 3, 5, 7, 9]))
    np.testing.assert_array_equal(r, [1, 4, 2, np.nan, 1])
    assert ax.get_ylim() == (0, 4)
    assert "4 Hz" in texts(figure)
    silent = drawn(figures.direction_curve(np.zeros(4), title="silent"))
    assert silent.axes[0].get_ylim() == (0, 1)
    aside = Figure().add_subplot(projection="polar")
    assert figures.direction_curve(rates, title="cell", ax=aside) is aside.figure
    assert aside.has_data()


def test_arenas_show_paths_walls_and_how_long_the_animal_was_where():
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
        )
    )
    above, torus, below = figure.axes[:3]
    assert above.get_title() == "walled\n1 min"
    assert all(ax.get_aspect() == 1 for ax in figure.axes[:4])
    assert below.get_images()[0].get_clim() == figure.axes[3].get_images()[0].get_clim()
    walls = [line for line in above.lines if len(line.get_xdata()) == 2]
    assert len(walls) == 5
    assert sum(len(line.get_xdata()) == 2 for line in torus.lines) == 0
    occupancy = below.get_images()[0].get_array()  # [y, x], of 5 x 10 bins
    assert occupancy.shape == (5, 10)
    np.testing.assert_allclose([occupancy[0, 0], occupancy[4, 9]], [45, 5])  # 10 samples, 50 bins
    assert "x (m)" in texts(figure)
    assert "centres of fields" in texts(figure)


def test_bins_outside_the_boundary_and_in_holes_have_no_occupancy():
    room = arena.polygon(
        [[0, 0], [1, 0], [1, 1], [0, 0.98]],
        holes=[[[0.4, 0.4], [0.6, 0.4], [0.6, 0.6], [0.4, 0.6]]],
    )
    share = figures.occupancy(room, np.array([[0.05, 0.05]] * 3), num_bins=10)
    assert np.isnan(share[4:6, 4:6]).all()
    assert np.isfinite(share).sum() == 96
    np.testing.assert_allclose(share[0, 0], 96)  # all of the time, of 96 bins


ONE_TO_SIX = np.arange(1.0, 7.0).reshape(3, 2)
LABELS = {"x_label": "x", "y_label": "y", "title": "t"}
PATH = np.linspace(0.1, 0.9, 12).reshape(6, 2)
SHEET = {
    "grid_score_60": np.array([0.1, 0.5, 0.6, 0.2]),
    "tau": np.arange(1.0, 5.0),
    "scale_m": np.arange(4.0) / 4 + 0.5,
    "tau_scale_correlation": np.array(0.5),
    "tau_scale_z": np.array(0.7),
}
SPECTRUM = {
    "spectrum": np.arange(9.0).reshape(3, 3),
    "wave_vectors": np.linspace(0, 2, 18).reshape(3, 3, 2),
    "spacing_m": np.array([0.8, 0.8, np.nan]),
    "extent_m": np.array(BOX),
}
LAYERS = {
    "plane": np.arange(12.0).reshape(3, 2, 2),
    "epochs_done": np.array(2),
    "test_plane": ONE_TO_SIX[:2],
    "confusion": np.array([[3.0, 1.0], [0.0, 2.0]]),
}
PANELS = {
    "spatial_map": lambda ax: figures.spatial_map(ONE_TO_SIX, extent_m=BOX, title="t", ax=ax),
    "rate_map": lambda ax: figures.rate_map(
        ONE_TO_SIX, extent_m=BOX, title="t", colour_label=None, ax=ax
    ),
    "autocorrelogram": lambda ax: figures.autocorrelogram(
        ONE_TO_SIX / 6, extent_m=BOX, title="t", colour_label=None, ax=ax
    ),
    "map_sheet": lambda ax: figures.map_sheet(
        ONE_TO_SIX[None], columns=1, extent_m=BOX, title="t", ax=ax
    ),
    "ecdf": lambda ax: figures.ecdf(
        {"atoms": ONE_TO_SIX[0]}, limits=(0, 7), x_label="return", title="t", ax=ax
    ),
    "trajectory": lambda ax: figures.trajectory(PATH, PATH, extent_m=BOX, title="t", ax=ax),
    "spikes_on_path": lambda ax: figures.spikes_on_path(
        PATH, PATH[:1], extent_m=BOX, title="t", ax=ax
    ),
    "train_correlogram": lambda ax: figures.train_correlogram(
        ONE_TO_SIX[0], ONE_TO_SIX[1], title="t", ax=ax
    ),
    "walked_path": lambda ax: figures.walked_path(arena.box(1.0), PATH, title="t", ax=ax),
    "occupancy_map": lambda ax: figures.occupancy_map(
        arena.box(1.0), PATH, title="t", colour_label=None, ax=ax
    ),
    "dsm sample_points": lambda ax: returns.sample_points(
        ONE_TO_SIX[None],
        ONE_TO_SIX,
        ONE_TO_SIX[0],
        names=("x", "y"),
        extent=np.array(BOX),
        title="t",
        ax=ax,
    ),
    "dsm draw_cdf": lambda ax: returns.draw_cdf(
        ONE_TO_SIX[0], ONE_TO_SIX[:, 0], limits=(0, 7), title="t", ax=ax
    ),
    "dsm draw_histogram": lambda ax: returns.draw_histogram(
        ONE_TO_SIX[0], ONE_TO_SIX[:, 0], limits=(0, 7), title="t", ax=ax
    ),
    "dsm draw_arrows": lambda ax: place_maps.draw_arrows(
        PATH[::-1], {"lattice": PATH}, title="t", ax=ax
    ),
    "dsm draw_similarity": lambda ax: place_maps.draw_similarity(
        {"maps": (np.ones(11), np.zeros(11), np.ones(11))}, spread="quartiles", ax=ax
    ),
    "topo_grid draw_tau_and_spacing": lambda ax: topo_grid.draw_tau_and_spacing(SHEET, ax=ax),
    "pattern_formation draw_eigenvalues": lambda ax: pattern_formation.draw_eigenvalues(
        SPECTRUM, ax=ax
    ),
    "reservoir draw_trace": lambda ax: reservoir.draw_trace(
        ONE_TO_SIX, ONE_TO_SIX[:, 0], times_ms=np.arange(6.0), title="t", ax=ax
    ),
    "reservoir draw_error": lambda ax: reservoir.draw_error(
        {"epochs_done": np.array(2), "errors": ONE_TO_SIX}, ax=ax
    ),
    "biohsic draw_plane": lambda ax: biohsic.draw_plane(LAYERS, ax=ax),
    "helmholtz traces": lambda ax: helmholtz.traces(
        ONE_TO_SIX, dt_s=0.1, distance=2.0, title="t", ax=ax
    ),
    "helmholtz autocorrelations": lambda ax: helmholtz.autocorrelations(
        {"EC": ONE_TO_SIX / 6}, dt_s=0.1, title="t", ax=ax
    ),
    "helmholtz error_since_cut": lambda ax: helmholtz.error_since_cut(
        {"ridge": ONE_TO_SIX}, times_s=np.array([-1.0, 1.0]), levels={"chance": 0.25}, ax=ax
    ),
    "helmholtz condition_bars": lambda ax: helmholtz.condition_bars(
        {"before": ONE_TO_SIX[0]}, level=0.25, level_label="chance", title="t", ax=ax
    ),
    "helmholtz weight_profile": lambda ax: helmholtz.weight_profile(
        ONE_TO_SIX[:, 0], ONE_TO_SIX[:, 1], offsets_m=np.arange(3.0), title="t", ax=ax
    ),
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
def test_a_panel_draws_into_the_given_axes_and_leaves_the_others_alone(name):
    figure = Figure(figsize=(12, 6), layout="constrained")
    left, right = figure.subfigures(1, 2)
    given, other = left.subplots(), right.subplots()
    before = len(other.findobj())
    assert PANELS[name](given) is figure
    assert given.has_data()
    assert given.get_title() or given.get_title(loc="left")
    assert len(other.findobj()) == before
    assert not other.has_data()
    assert not figure.legends
    assert len(drawn(figure).axes) == 2


# Panels whose image always has a colour bar, which stands beside the given axes.
WITH_COLOUR_BAR = {
    "spatial_map": lambda ax: figures.spatial_map(
        ONE_TO_SIX, extent_m=BOX, title="t", colour_label="rate", ax=ax
    ),
    "topo_grid sheet_map": lambda ax: topo_grid.sheet_map(
        SHEET["tau"], sheet=(2, 2), title="t", colour_label="tau (steps)", ax=ax
    ),
    "biohsic draw_confusion": lambda ax: biohsic.draw_confusion(LAYERS, ax=ax),
    "biohsic draw_decision": lambda ax: biohsic.draw_decision(
        {
            "decision_map": PATH[:, :1] * PATH[:, 1],
            "decision_extent": np.array([[0.0, 0.0], [1.0, 1.0]]),
            "test_classes": np.array([0, 0, 0, 1, 1, 1]),
            "test_inputs": PATH,
        },
        ax=ax,
    ),
    "ring_activity": lambda ax: helmholtz.ring_activity(
        ONE_TO_SIX,
        true=np.zeros(3),
        decoded=np.zeros(2),
        decoded_times_s=np.arange(2.0),
        cut_s=0.1,
        dt_s=0.1,
        width_m=1.0,
        title="t",
        ax=ax,
    ),
    "ring_map": lambda ax: helmholtz.ring_map(ONE_TO_SIX, width_m=1.0, limit=6.0, title="t", ax=ax),
    "weight_matrix": lambda ax: helmholtz.weight_matrix(
        ONE_TO_SIX, limit=6.0, title="t", units="unit", ax=ax
    ),
}


@pytest.mark.parametrize("name", WITH_COLOUR_BAR)
def test_a_panel_with_a_colour_bar_draws_into_the_given_axes(name):
    figure = Figure(figsize=(12, 6), layout="constrained")
    left, right = figure.subfigures(1, 2)
    given, other = left.subplots(), right.subplots()
    assert WITH_COLOUR_BAR[name](given) is figure
    assert given.get_images()
    assert given.get_title() or given.get_title(loc="left")
    assert not other.has_data()
    (bar,) = (ax for ax in drawn(figure).axes if ax not in (given, other))
    assert bar.get_ylabel()
    assert bar in left.get_children()


@pytest.mark.parametrize("name", PANELS)
def test_a_panel_without_axes_makes_a_figure_of_its_own(name):
    (ax,) = PANELS[name](None).axes
    assert ax.has_data()


def good():
    """A figure that passes: a map of a box with its colour bar, and an ECDF."""
    figure = Figure(layout="constrained")
    left, right = figure.subplots(1, 2)
    figures.rate_map(ONE_TO_SIX, extent_m=BOX, title="t", ax=left)
    figures.ecdf({"atoms": ONE_TO_SIX[0]}, limits=(0, 7), x_label="return", title="t", ax=right)
    return figure


FAULTS = {
    "no y label": lambda f: f.axes[0].set_ylabel(""),
    "no x label": lambda f: f.axes[1].set_xlabel(""),
    "no title": lambda f: f.axes[0].set_title(""),
    "unequal aspect": lambda f: f.axes[0].set_aspect("auto"),
    "steps before": lambda f: f.axes[1].lines[0].set_drawstyle("steps-pre"),
    "a colour bar without a label": lambda f: f.axes[2].set_ylabel(""),
    "an image on another scale": lambda f: f.axes[1].imshow(2 * ONE_TO_SIX),
    "too large": lambda f: f.set_size_inches(14, 4),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_check_of_every_figure_sees_this_fault(fault):
    figure = good()
    check_figures({"figure": figure})
    FAULTS[fault](figure)
    with pytest.raises(AssertionError):
        check_figures({"figure": figure})


def test_figures_need_no_jax():
    code = "import sys, hfjax.figures; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_curves_show_medians_and_quartiles_and_points_show_means_over_seeds():
    values = np.array([[1.0, 3.0], [2.0, 6.0], [5.0, 5.0]])
    labels = {"x_label": "epoch", "y_label": "accuracy", "title": "title"}
    accuracies = np.array([[100.0, 100.0, 100.0, 40.0], [90.0, 100.0, 100.0, 100.0]])
    ax = figures.curves_with_spread({"rule": accuracies}, **labels).axes[0]
    np.testing.assert_allclose(ax.lines[0].get_xydata(), [[0, 100], [1, 100]])
    band = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (85, 100)  # quartiles never lie above 100 %
    assert ax.get_legend_handles_labels()[1] == ["rule"]
    ax = figures.points_with_spread({2: values[0], 8: values[1]}, **labels).axes[0]
    means = next(line for line in ax.lines if line.get_label() == "mean over seeds")
    np.testing.assert_allclose(means.get_xydata(), [[2, 2], [8, 4]])

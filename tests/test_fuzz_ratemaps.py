"""Random and extreme inputs to ratemaps, decoders and kernels, against their docstrings.

Compiled functions have one shape, so that an example costs no compilation.
"""

from functools import partial

import hypothesis.strategies as st
import jax
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis.extra.numpy import arrays

from hfjax import decoders, kernels, ratemaps

UNITS, BINS, SAMPLES = 2, 8, 100
EXTENT = ((0.0, 1.0), (-1.0, 2.0))
NO_MAPS = np.full((UNITS, BINS, BINS), np.nan, np.float32)
LARGE_MAPS = np.full_like(NO_MAPS, 3e38)  # whose sum and range overflow
LARGE_MAPS[0, 2:5, 3:] = -3e38

anything = st.floats(width=32) | st.sampled_from([0.0, -0.0, 1e-30, 0.1, 1.0, -1.0])
finite = st.floats(-(2.0**50), 2.0**50, width=32) | st.sampled_from(
    [0.0, 1e-30, 1e-9, 0.1, 1.0, 3.0]
)
small = st.floats(-100, 100, width=32) | st.sampled_from([0.0, 1e-9, 0.1, 1.0])


def tables(elements, *shape):
    return arrays(np.float32, shape, elements=elements)


def jit(function, **settings):
    return jax.jit(partial(function, **settings))


maps = tables(anything, UNITS, BINS, BINS)


# --- Maps and curves ---


add = jit(ratemaps.rate_maps, num_bins=2, extent=EXTENT)


def in_float64(values, bins, num_bins):
    """Means by bin [bin, column], and the mean size of what is added up."""
    means, sizes = np.full((2, num_bins, values.shape[1]), np.nan)
    for k in range(num_bins):
        some = values[bins == k].astype(np.float64)
        if len(some):
            means[k], sizes[k] = some.mean(0), np.abs(some).mean(0)
    return means, sizes


sums = jax.jit(ratemaps.sum_by_bin, static_argnums=2)


@given(
    values=tables(finite, SAMPLES, 2),
    bins=arrays(np.int32, SAMPLES, elements=st.integers(0, 3) | st.just(1), fill=st.just(1))
    | arrays(np.int32, SAMPLES, elements=st.integers(-(2**31), 2**31 - 1)),
)
def test_sums_by_bin_are_those_of_float64(values, bins):
    result = sums(values, bins, 3)
    means, sizes = in_float64(values, bins, 3)
    np.testing.assert_array_equal(result.samples, [np.sum(bins == k) for k in range(3)])
    error = np.abs(np.asarray(ratemaps.mean_by_bin(result)) - means)
    np.testing.assert_array_equal(np.isnan(error), np.isnan(means))
    assert np.all((error <= 1e-6 * sizes + 1e-37) | np.isnan(error))


@given(
    values=tables(anything, SAMPLES, 2), bins=arrays(np.int32, SAMPLES, elements=st.integers(0, 2))
)
def test_what_is_not_finite_affects_its_own_bin_and_column(values, bins):
    means = np.asarray(ratemaps.mean_by_bin(sums(values, bins, 3)))
    for k in range(3):
        for j in range(2):
            some = values[bins == k, j].astype(np.float64)
            if len(some) and np.abs(some).sum() < 1e38:  # no overflow of the sum
                assert np.isfinite(means[k, j])
            if not np.isfinite(some).all():
                assert not np.isfinite(means[k, j])


@given(positions=tables(anything, SAMPLES, 2), activity=tables(small, SAMPLES, 1))
def test_samples_outside_the_extent_are_left_out(positions, activity):
    out = np.asarray(add(positions, activity))
    inside = np.ones(SAMPLES, bool)
    for axis, (low, high) in enumerate(EXTENT):
        inside &= (positions[:, axis] >= low) & (positions[:, axis] <= high)
    assert np.isfinite(out).any() == inside.any()
    known = out[np.isfinite(out)]
    assert np.all(known <= activity[inside].max(initial=-np.inf) + 1e-4)
    assert np.all(known >= activity[inside].min(initial=np.inf) - 1e-4)


curves = jit(ratemaps.head_direction_curves, num_bins=4)
tuning = jit(ratemaps.head_direction_length)


@given(headings=tables(anything, SAMPLES), rates=tables(st.floats(0, 1e6, width=32), SAMPLES, 2))
@example(headings=np.full(SAMPLES, -1e-9, np.float32), rates=np.ones((SAMPLES, 2), np.float32))
def test_every_finite_heading_has_a_bin(headings, rates):
    out = np.asarray(curves(headings, rates))
    assert np.isfinite(out).any() == np.isfinite(headings).any()
    vector = tuning(out)
    known = np.isfinite(vector.length)
    np.testing.assert_array_equal(known, np.nansum(out, axis=1) > 0)
    assert np.all((vector.length[known] >= 0) & (vector.length[known] <= 1 + 1e-6))
    assert np.all(np.abs(vector.direction[known]) <= np.float32(np.pi))


# --- Scores ---


SCORES = {
    "grid": jit(ratemaps.grid_scores),
    "grid masked": jit(ratemaps.grid_scores, autocorrelogram=ratemaps.masked_autocorrelograms),
    "moser": jit(ratemaps.moser_grid_scores),
    "plain": jit(ratemaps.autocorrelograms),
    "masked": jit(ratemaps.masked_autocorrelograms),
    "geometry": jit(ratemaps.spacing_orientation, bin_width_m=0.1),
    "phases": jit(ratemaps.grid_phases, spacing=0.7, orientation=0.4, extent=EXTENT),
    "waves": jit(ratemaps.plane_waves, bin_width_m=0.1),
    "border": jit(ratemaps.border_scores, bin_width_m=0.11),
    "smooth": jit(ratemaps.smooth, sigma_bins=1.0),
    "information": jit(ratemaps.spatial_information),
}


@given(maps=maps)
@example(maps=NO_MAPS)
@example(maps=LARGE_MAPS)
def test_a_grid_score_is_a_number_for_every_map(maps):
    for name in ("grid", "grid masked"):
        scores = SCORES[name](maps)
        assert np.isfinite(scores.score_60).all(), name
        assert np.isfinite(scores.score_90).all(), name
    moser = SCORES["moser"](maps)
    assert np.all((np.abs(moser.score) <= 2 + 1e-3) | np.isnan(moser.score))
    assert np.all(moser.central_radius >= 0)


@given(maps=maps)
@example(maps=NO_MAPS)
@example(maps=LARGE_MAPS)
def test_an_autocorrelogram_holds_correlations(maps):
    for name in ("plain", "masked"):
        r = SCORES[name](maps)
        assert np.all(np.abs(r) <= 1 + 1e-2), name
        np.testing.assert_allclose(r, r[:, ::-1, ::-1], atol=1e-4)


@given(maps=maps)
@example(maps=NO_MAPS)
@example(maps=LARGE_MAPS)
def test_geometry_lies_in_its_ranges(maps):
    geometry = SCORES["geometry"](maps)
    known = np.isfinite(geometry.spacing)
    np.testing.assert_array_equal(known, np.isfinite(geometry.orientation))
    assert np.all(geometry.spacing[known] > 0)
    assert np.all((geometry.orientation[known] >= 0) & (geometry.orientation[known] <= np.pi / 3))
    phases = SCORES["phases"](maps)
    assert np.all((phases >= 0) & (phases < 1))
    waves = SCORES["waves"](maps)
    assert np.all(waves.wavelength > 0)
    assert np.all((waves.direction >= 0) & (waves.direction < np.pi))
    assert np.all(np.abs(waves.phase) <= np.float32(np.pi))


@pytest.mark.parametrize("name", ["plain", "masked", "phases", "waves"])
def test_the_largest_maps_give_what_small_ones_give(name):
    large = LARGE_MAPS.copy()
    large[1, 3, 4] = np.nan
    expected = jax.tree.leaves(SCORES[name](large / np.float32(2.0**127)))
    for value, other in zip(jax.tree.leaves(SCORES[name](large)), expected, strict=True):
        np.testing.assert_allclose(value, other, rtol=1e-5, atol=1e-5)


@given(maps=tables(st.floats(0, width=32), UNITS, BINS, BINS))
@example(maps=NO_MAPS)
def test_border_scores_lie_between_minus_one_and_one(maps):
    border = SCORES["border"](maps)
    assert np.all((border.score >= -1) & (border.score <= 1))
    assert np.all((border.coverage >= 0) & (border.coverage <= 1))
    assert np.all((border.distance >= 0) & (border.distance <= 1 + 1e-6))


@given(maps=tables(finite | st.just(np.nan), UNITS, BINS, BINS))
@example(maps=NO_MAPS)
def test_smoothing_stays_within_the_range_of_a_map(maps):
    out = np.asarray(SCORES["smooth"](maps))
    visited = np.isfinite(maps)
    np.testing.assert_array_equal(np.isfinite(out), visited)
    for rates, mean, known in zip(maps, out, visited, strict=True):
        if known.any():
            room = 1e-5 * np.abs(rates[known]).max() + 1e-37
            assert mean[known].min() >= rates[known].min() - room
            assert mean[known].max() <= rates[known].max() + room


@given(
    maps=tables(st.floats(0, 1e6, width=32) | st.just(np.nan), UNITS, BINS, BINS),
    occupancy=tables(st.floats(0, 1e6, width=32) | st.just(np.nan), BINS, BINS),
)
def test_information_is_at_most_that_of_one_bin(maps, occupancy):
    out = SCORES["information"](maps, occupancy)
    assert np.all(np.isfinite(out.bits_per_second))
    p = np.where(np.isfinite(maps) & np.isfinite(occupancy), occupancy, 0)
    silent = np.sum(p * np.nan_to_num(maps) > 0, axis=(1, 2)) == 0
    some = out.bits_per_spike[~silent & np.isfinite(out.bits_per_spike)]
    assert np.all(some >= -1e-4)
    assert np.isnan(out.bits_per_spike[silent]).all()


# --- Decoders ---


CENTRES = np.random.default_rng(0).uniform(-1, 1, (6, 2)).astype(np.float32)
decode = jit(decoders.decode_position, top=3)
angles = jit(decoders.decode_angles, width_m=2.0)
ridge = jit(decoders.ridge_decoder, alpha=1.0)


@given(outputs=tables(anything, 4, 6), code=tables(finite, 4, 4))
def test_a_decoded_position_lies_among_the_centres(outputs, code):
    position = np.asarray(decode(outputs, CENTRES))
    assert np.all((position >= CENTRES.min(0) - 1e-6) & (position <= CENTRES.max(0) + 1e-6))
    assert np.all(np.abs(angles(code)) <= 1 + 1e-6)


@given(rates=tables(small, 5, 3), targets=tables(small, 5, 2))
def test_ridge_equals_its_equation_in_float64(rates, targets):
    X, Y = rates.astype(np.float64), targets.astype(np.float64)
    X, Y = X - X.mean(0), Y - Y.mean(0)
    W = np.linalg.solve(X.T @ X + np.eye(3), X.T @ Y)
    np.testing.assert_allclose(ridge(rates, targets, rates), X @ W + targets.mean(0), atol=1e-2)


def test_ridge_of_one_sample_and_one_cell():
    one = np.ones((1, 1), np.float32)
    np.testing.assert_allclose(decoders.ridge_decoder(one, 3 * one, 2 * one), 3)


# --- Kernels ---


rbf = jit(kernels.rbf_kernel, sigma=0.5)
distances = jit(kernels.squared_distances)
KERNELS = {
    name: jax.jit(getattr(kernels, name))
    for name in ("rational_quadratic", "inverse_multiquadric", "gaussian", "cauchy")
}


@given(x=tables(finite, 5, 3))
def test_a_kernel_matrix_has_ones_on_its_diagonal_and_nothing_above(x):
    K = np.asarray(rbf(x))
    np.testing.assert_array_equal(np.diagonal(K), 1)
    assert np.all((K >= 0) & (K <= 1))
    np.testing.assert_allclose(K, K.T, atol=1e-5)
    assert np.isfinite(kernels.hsic(K, K))
    assert np.all(distances(x, x) >= 0)


@pytest.mark.parametrize("name", list(KERNELS))
@given(d=tables(st.floats(0, width=32, allow_nan=False), 5))
def test_a_kernel_falls_with_the_distance(name, d):
    k = np.asarray(KERNELS[name](np.sort(d)))
    assert np.all(k >= 0)
    assert np.all(np.diff(k) <= 1e-6)


median = jit(kernels.median_distance, num_x=2)


@given(x=tables(small, 2, 3), y=tables(small, 3, 3))
def test_the_median_distance_is_a_median(x, y):
    z = np.concatenate([x, y])
    d = np.asarray(distances(z, z))
    d = (d + d.T) / 2
    within = [d[a, b] for a in range(5) for b in range(5) if a != b and (a < 2) == (b < 2)]
    across = [d[a, b] for a in range(2) for b in range(2, 5)]
    expected = max(np.median([*within, *across]), 1e-6)
    np.testing.assert_allclose(median(d), expected, rtol=1e-5)

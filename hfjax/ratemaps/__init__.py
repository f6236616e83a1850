"""Rate maps of many units, and the scores of the field: grid, border, information, direction.

A rate map is an array [x, y] of square bins over any rectangle, and the maps of a population are
[unit, x, y]. A bin that was never
visited is NaN; functions take every bin that is not finite as unvisited. Under `jax_debug_nans` a
program must not return NaN: there `mean_maps` and `mean_by_bin` can mark such a bin by another
number (tasks use `missing.MISSING`).

All functions are pure, work on all units in one program, and leave `jax.jit` to the caller. Those
with large intermediate results loop over blocks of units, so that 4096 maps of 32 x 32 bins need
little memory beyond the maps themselves.
"""

from hfjax.ratemaps.autocorrelogram import (
    autocorrelograms,
    masked_autocorrelograms,
    recording_autocorrelograms,
)
from hfjax.ratemaps.geometry import (
    GridGeometry,
    PlaneWaves,
    grid_phases,
    plane_waves,
    spacing_orientation,
)
from hfjax.ratemaps.map_statistics import (
    FiringFields,
    coherence,
    firing_fields,
    first_half,
    map_correlations,
    odd_minutes,
    sparsity,
    stability,
)
from hfjax.ratemaps.maps import (
    Bins,
    Extent,
    NumBins,
    RateMapSums,
    add_samples,
    bins_of,
    mean_maps,
    position_bins,
    rate_map_sums,
    rate_maps,
    smooth,
)
from hfjax.ratemaps.moser_score import MoserScores, moser_grid_scores
from hfjax.ratemaps.recording_score import (
    Lattice,
    RecordingScores,
    recording_grid_scores,
    recording_lattice,
)
from hfjax.ratemaps.ring_score import (
    GRID_SCORE_THRESHOLDS,
    RING_INNER,
    RING_OUTER,
    GridScores,
    grid_scores,
)
from hfjax.ratemaps.shuffles import (
    SCORE,
    NoiseControl,
    low_pass_noise_maps,
    noise_control,
    share_metrics,
)
from hfjax.ratemaps.significance import (
    Significance,
    population_threshold,
    random_shifts,
    shuffled_scores,
    significance,
)
from hfjax.ratemaps.spikes import (
    adaptive_rate_maps,
    firing_rate_maps,
    occupancy,
    samples_of_counts,
    spike_maps,
    spike_samples,
    spikes_by_bin,
)
from hfjax.ratemaps.sums import BinSums, mean_by_bin, sum_by_bin
from hfjax.ratemaps.temporal import (
    ThetaModulation,
    speed_scores,
    spike_autocorrelogram,
    theta_modulation,
)
from hfjax.ratemaps.tuning import (
    BorderScores,
    DirectionTuning,
    Rayleigh,
    SpatialInformation,
    border_scores,
    direction_bins,
    head_direction_curves,
    head_direction_length,
    rayleigh_test,
    spatial_information,
)

__all__ = [
    "GRID_SCORE_THRESHOLDS",
    "RING_INNER",
    "RING_OUTER",
    "SCORE",
    "BinSums",
    "Bins",
    "BorderScores",
    "DirectionTuning",
    "Extent",
    "FiringFields",
    "GridGeometry",
    "GridScores",
    "Lattice",
    "MoserScores",
    "NoiseControl",
    "NumBins",
    "PlaneWaves",
    "RateMapSums",
    "Rayleigh",
    "RecordingScores",
    "Significance",
    "SpatialInformation",
    "ThetaModulation",
    "adaptive_rate_maps",
    "add_samples",
    "autocorrelograms",
    "bins_of",
    "border_scores",
    "coherence",
    "direction_bins",
    "firing_fields",
    "firing_rate_maps",
    "first_half",
    "grid_phases",
    "grid_scores",
    "head_direction_curves",
    "head_direction_length",
    "low_pass_noise_maps",
    "map_correlations",
    "masked_autocorrelograms",
    "mean_by_bin",
    "mean_maps",
    "moser_grid_scores",
    "noise_control",
    "occupancy",
    "odd_minutes",
    "plane_waves",
    "population_threshold",
    "position_bins",
    "random_shifts",
    "rate_map_sums",
    "rate_maps",
    "rayleigh_test",
    "recording_autocorrelograms",
    "recording_grid_scores",
    "recording_lattice",
    "samples_of_counts",
    "share_metrics",
    "shuffled_scores",
    "significance",
    "smooth",
    "spacing_orientation",
    "sparsity",
    "spatial_information",
    "speed_scores",
    "spike_autocorrelogram",
    "spike_maps",
    "spike_samples",
    "spikes_by_bin",
    "stability",
    "sum_by_bin",
    "theta_modulation",
]

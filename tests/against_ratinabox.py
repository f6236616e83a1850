"""The installed RatInABox for comparisons: its classes, environments for both, its agents."""

import warnings

from hfjax import arena

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # a string in its source
    import ratinabox
    from ratinabox import Agent as RatInABoxAgent
    from ratinabox import Environment as RatInABoxEnvironment

ratinabox.verbose = False
__all__ = [
    "CONSTANTS",
    "ENVIRONMENTS",
    "HOLE",
    "RatInABoxAgent",
    "RatInABoxEnvironment",
    "their_agent",
]


HOLE = [[0.4, 0.4], [0.7, 0.4], [0.6, 0.7]]


ENVIRONMENTS = {
    "box": arena.box(1.0),
    "wall": arena.box(1.2, 1.0, inner_walls=[[[0.4, 0.0], [0.4, 0.7]]]),
    "ring": arena.track(1.5, periodic=True),
    "track": arena.track(0.5),
    "torus": arena.box(0.5, periodic=True),
    "walled torus": arena.box(0.5, periodic=True, inner_walls=[[[0.01, 0.1], [0.01, 0.4]]]),
    "polygon": arena.polygon([[0, 0], [1.2, 0], [1.0, 1.1], [0.2, 0.9]], holes=[HOLE]),
}


CONSTANTS = {
    "speed_mean_mps": "speed_mean",
    "speed_std_mps": "speed_std",
    "speed_coherence_s": "speed_coherence_time",
    "rotation_std_radps": "rotational_velocity_std",
    "rotation_coherence_s": "rotational_velocity_coherence_time",
    "thigmotaxis": "thigmotaxis",
    "wall_distance_m": "wall_repel_distance",
    "wall_strength": "wall_repel_strength",
    "head_direction_s": "head_direction_smoothing_timescale",
    "dt_s": "dt",
}


def their_agent(environment, motion):
    parameters = {theirs: getattr(motion, ours) for ours, theirs in CONSTANTS.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a drift on a track with ends
        return RatInABoxAgent(arena.to_ratinabox(environment), parameters)

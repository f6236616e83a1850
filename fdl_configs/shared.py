"""Fiddlers of several models, to import into the modules of their configs."""

import fiddle as fdl

from hfjax import cells
from hfjax.data import recordings
from hfjax.models import path_integration


def tanni(cfg: fdl.Config) -> None:
    """Evaluate along another rat's path: Tanni et al. 2022."""
    cfg.data = fdl.Config(recordings.tanni, num_steps=500, dt_s=0.02, max_gap_s=0.1, length_s=600.0)


def recorded(cfg: fdl.Config) -> None:
    """Evaluate along your own path (npz, csv or mat): --fdl_set=data.path=FILE.

    Other columns, units and lost tracking: data.time, data.columns, data.time_unit_s,
    data.position_unit_m, data.lost; see `hfjax.data.recordings.trajectory`. A file with missing
    samples or gaps also needs --fdl_set=data.max_gap_s=SECONDS: the path is cut at longer gaps.
    """
    cfg.data = fdl.Config(recordings.trajectory, num_steps=500, dt_s=0.02, max_gap_s=None)


def gaussian(cfg: fdl.Config) -> None:
    """Gaussian place fields of peak 1, not normalised over cells."""
    cfg.task.place_code = cells.gaussian


def periodic(cfg: fdl.Config) -> None:
    """A box with periodic boundaries in place of walls."""
    box = cfg.task.box
    cfg.task.box = fdl.Config(
        path_integration.periodic_box, width_m=box.width_m, height_m=box.height_m
    )

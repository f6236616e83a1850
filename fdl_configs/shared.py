"""Fiddlers of several models, to import into the modules of their configs."""

import fiddle as fdl

from hfjax.data import recordings


def tanni(cfg: fdl.Config) -> None:
    """Evaluate along another rat's path: Tanni et al. 2022."""
    cfg.data = fdl.Config(recordings.tanni, num_steps=500, dt_s=0.02, max_gap_s=0.1, length_s=600.0)


def recorded(cfg: fdl.Config) -> None:
    """Evaluate along a path of your own, an npz with t and pos: --fdl_set=data.path=FILE.

    See `hfjax.data.recordings.trajectory`. A file with missing samples or gaps also needs
    --fdl_set=data.max_gap_s=SECONDS: the path is cut at gaps longer than that.
    """
    cfg.data = fdl.Config(
        recordings.trajectory, path=None, num_steps=500, dt_s=0.02, max_gap_s=None
    )

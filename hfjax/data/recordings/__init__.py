"""Recordings of animals: trajectories for models, and sessions with the spikes of their cells.

    from hfjax.data import recordings

    paths = recordings.sargolini()                          # a rat's path in pieces, for a model
    session = recordings.load("session.nwb")                # positions, head direction, spikes
    cleaned = recordings.clean(session, min_speed_mps=0.05)
    cells = recordings.score(cleaned).columns                # scores and p-values of each cell

`python -m hfjax.data.recordings FILES --out=DIR` scores and draws every cell.
"""

from typing import TYPE_CHECKING

from hfjax import _lazy

if TYPE_CHECKING:  # at run time _lazy gives them
    from hfjax.data.recordings.cleaning import Cleaned, clean
    from hfjax.data.recordings.loading import from_nwb, from_pynapple, load
    from hfjax.data.recordings.scoring import Scored, score
    from hfjax.data.recordings.sessions import Problem, Recording, from_arrays, two_leds
    from hfjax.data.recordings.trajectories import sargolini, save_series, tanni, trajectory

__all__ = [
    "Cleaned",
    "Problem",
    "Recording",
    "Scored",
    "clean",
    "from_arrays",
    "from_nwb",
    "from_pynapple",
    "load",
    "sargolini",
    "save_series",
    "score",
    "tanni",
    "trajectory",
    "two_leds",
]
_MODULES = {
    "cleaning": ("Cleaned", "clean"),
    "loading": ("from_nwb", "from_pynapple", "load"),
    "scoring": ("Scored", "score"),
    "sessions": ("Problem", "Recording", "from_arrays", "two_leds"),
    "trajectories": ("sargolini", "save_series", "tanni", "trajectory"),
}
__getattr__, __dir__ = _lazy.attributes(
    __name__,
    {name: f"{__name__}.{module}" for module, names in _MODULES.items() for name in names},
)

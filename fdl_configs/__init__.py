"""Configs (functions that make one) and fiddlers (functions that change one), by name.

`--fdl_config=NAME` and `--fiddler=NAME` look here. A config has the name of its module, whose place
it takes in this package.
"""

import fiddle as fdl

from fdl_configs import grid_lstm as _grid_lstm
from fdl_configs import grid_rnn as _grid_rnn
from fdl_configs.grid_lstm import grid_lstm
from fdl_configs.grid_rnn import (
    cpu_grids,
    dog,
    gaussian,
    grid_rnn,
    lstm,
    no_surround,
    periodic,
    tanh,
)
from fdl_configs.pattern_formation import (
    hierarchy,
    hierarchy_tanh,
    pattern_formation,
    saturated_maps,
    tanh_maps,
)

__all__ = [
    "cpu_grids",
    "dog",
    "gaussian",
    "grid_lstm",
    "grid_rnn",
    "hierarchy",
    "hierarchy_tanh",
    "laptop",
    "lstm",
    "no_surround",
    "pattern_formation",
    "periodic",
    "saturated_maps",
    "tanh",
    "tanh_maps",
]

_LAPTOP = {
    _grid_lstm.model.task: _grid_lstm.laptop,
    _grid_rnn.model.task: _grid_rnn.laptop,
}


def laptop(cfg: fdl.Config) -> None:
    """A smaller grid_rnn or grid_lstm, with settings of its own, for two CPU cores."""
    task = fdl.get_callable(cfg.task)
    if task not in _LAPTOP:
        raise ValueError("the fiddler laptop changes grid_rnn and grid_lstm, and no other config")
    _LAPTOP[task](cfg)

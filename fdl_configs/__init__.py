"""Configs (functions that make one) and fiddlers (functions that change one), by name.

`--fdl_config=NAME` and `--fiddler=NAME` look here. A config has the name of its module, whose place
it takes in this package.
"""

import fiddle as fdl

from fdl_configs import biohsic as _biohsic
from fdl_configs import dsm as _dsm
from fdl_configs import grid_lstm as _grid_lstm
from fdl_configs import grid_rnn as _grid_rnn
from fdl_configs import reservoir as _reservoir
from fdl_configs import topo_grid as _topo_grid
from fdl_configs.biohsic import (
    back_propagation,
    biohsic,
    cifar10,
    cifar10_mlp,
    digits,
    fashion_mnist,
    hsic_gradient,
    mnist_10k,
    online,
    single_layer,
)
from fdl_configs.biohsic_lif import biohsic_lif, linear, reset, unscaled, xor
from fdl_configs.dsm import (
    cauchy,
    dsm,
    dsm_place_cells,
    dsm_windy,
    energy,
    gamma_ensemble,
    goal,
    hard_target,
    high_thigmotaxis,
    median,
    mlp_adversary,
    no_adversary,
    one_step,
    random_walk,
    rbf,
    successor,
    teleport,
    wall,
)
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
from fdl_configs.helmholtz import helmholtz, sine_gate
from fdl_configs.helmholtz_path_integration import (
    helmholtz_path_integration,
    helmholtz_remapping,
    ridge_only,
    torus,
)
from fdl_configs.pattern_formation import (
    hierarchy,
    hierarchy_tanh,
    pattern_formation,
    saturated_maps,
    tanh_maps,
)
from fdl_configs.reservoir import noise, reservoir
from fdl_configs.topo_grid import (
    equal_tau,
    fixed_tau,
    gradient_tau,
    radial_tau,
    ramp_tau,
    recorded,
    sheet_grids,
    sorscher,
    striped_tau,
    tanni,
    topo_grid,
    topo_grid_plain,
    topo_grid_topoloss,
)

__all__ = [
    "back_propagation",
    "biohsic",
    "biohsic_lif",
    "cauchy",
    "cifar10",
    "cifar10_mlp",
    "cpu_grids",
    "digits",
    "dog",
    "dsm",
    "dsm_place_cells",
    "dsm_windy",
    "energy",
    "equal_tau",
    "fashion_mnist",
    "fixed_tau",
    "gamma_ensemble",
    "gaussian",
    "goal",
    "gradient_tau",
    "grid_lstm",
    "grid_rnn",
    "hard_target",
    "helmholtz",
    "helmholtz_path_integration",
    "helmholtz_remapping",
    "hierarchy",
    "hierarchy_tanh",
    "high_thigmotaxis",
    "hsic_gradient",
    "laptop",
    "linear",
    "lstm",
    "median",
    "mlp_adversary",
    "mnist_10k",
    "no_adversary",
    "no_surround",
    "noise",
    "one_step",
    "online",
    "pattern_formation",
    "periodic",
    "radial_tau",
    "ramp_tau",
    "random_walk",
    "rbf",
    "recorded",
    "reservoir",
    "reset",
    "ridge_only",
    "saturated_maps",
    "sheet_grids",
    "sine_gate",
    "single_layer",
    "sorscher",
    "striped_tau",
    "successor",
    "tanh",
    "tanh_maps",
    "tanni",
    "teleport",
    "topo_grid",
    "topo_grid_plain",
    "topo_grid_topoloss",
    "torus",
    "unscaled",
    "wall",
    "xor",
]

_LAPTOP = {
    _biohsic.model.task: _biohsic.laptop,
    _dsm.model.task: _dsm.laptop,
    _grid_lstm.model.task: _grid_lstm.laptop,
    _grid_rnn.model.task: _grid_rnn.laptop,
    _reservoir.model.task: _reservoir.laptop,
    _topo_grid.model.task: _topo_grid.laptop,
}


def laptop(cfg: fdl.Config) -> None:
    """A smaller run, or one that needs no file, for two CPU cores; see each config's own laptop."""
    task = fdl.get_callable(cfg.task)
    if task not in _LAPTOP:
        raise ValueError(
            "the fiddler laptop changes grid_rnn, grid_lstm, topo_grid..., biohsic, reservoir and "
            "dsm..., and no other config"
        )
    _LAPTOP[task](cfg)

"""The config `successor`: the successor representation of place cells.

Paper: Wiltzer et al. 2024
Results: experiments/dsm/RESULTS.md
"""

import fiddle as fdl

from fdl_configs.dsm import cauchy, energy, hard_target, laptop, mlp_adversary, no_adversary, rbf
from fdl_configs.dsm_place_cells import (
    dsm_place_cells,
    goal,
    high_thigmotaxis,
    random_walk,
    teleport,
    wall,
)
from hfjax import kernels
from hfjax.models import dsm as model


def successor() -> fdl.Config:
    """The successor representation of place cells: one gamma model, its adversary its own.

        python -m hfjax --fdl_config=successor --workdir=runs/successor

    For N models that are averaged, as many as the atoms of dsm_place_cells:
    --fdl_set=task.num_outer=10. With `laptop` a minute, and maps as those of dsm_place_cells.
    Fiddlers: as dsm_place_cells, but median.
    """
    cfg = dsm_place_cells()
    cfg.task.objective = fdl.Partial(model.each_atom, inner=kernels.rational_quadratic)
    cfg.task.adversary.separate = True
    cfg.task.num_outer = 1
    return cfg

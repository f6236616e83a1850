"""The config `successor`: the successor representation of place cells.

Paper: Wiltzer et al. 2024
Results: experiments/dsm/RESULTS.md
"""

import fiddle as fdl

from fdl_configs.dsm import energy, hard_target, no_adversary, recurrent
from fdl_configs.dsm_place_cells import (
    _when_moved,
    dsm_place_cells,
    goal,
    high_thigmotaxis,
    laptop,
    low_thigmotaxis,
    positive,
    random_walk,
    recorded,
    teleport,
    wall,
    xy,
)
from fdl_configs.gamma_ensemble import cauchy, mlp_adversary, rbf
from hfjax import kernels
from hfjax.models import dsm as model


def successor() -> fdl.Config:
    """The successor representation of place cells: one gamma model with its own adversary.

        python -m hfjax --fdl_config=successor --workdir=runs/successor

    --fdl_set=task.num_outer=10 averages 10 models, as many as the atoms of dsm_place_cells. With
    `laptop` one minute; the maps are as accurate as those of dsm_place_cells. Seed 0, the default,
    is a common one: a similarity of .91 after 20 cells moved, and .916 +- .008 (standard deviation)
    over five seeds.
    """
    cfg = dsm_place_cells()
    cfg.task.objective = fdl.Partial(model.each_atom, inner=kernels.rational_quadratic)
    cfg.task.adversary.separate = True
    cfg.task.num_outer = 1
    cfg.headline = (*cfg.headline[:2], _when_moved(0.85))
    return cfg

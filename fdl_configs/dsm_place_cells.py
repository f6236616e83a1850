"""The config `dsm_place_cells` and its fiddlers: the behaviours of the animal.

Paper: Wiltzer et al. 2024
Results: experiments/dsm/RESULTS.md
"""

import fiddle as fdl

from fdl_configs.dsm import (
    cauchy,
    dsm,
    energy,
    hard_target,
    laptop,
    median,
    mlp_adversary,
    no_adversary,
    rbf,
)
from hfjax import arena, visibility
from hfjax.data import transitions
from hfjax.models import dsm as model


def dsm_place_cells() -> fdl.Config:
    """The same of an animal in a box, whose states are the rates of fifty place cells.

        python -m hfjax --fdl_config=dsm_place_cells --workdir=runs/dsm_place_cells

    Constants of the thesis: 10 atoms, 5 samples, networks of 32 units, 500,000 updates: two hours
    of one core, not run by us. With `laptop`, two minutes: maps that correlate by .99 with the
    rates that followed.
    Fiddlers: laptop; random_walk, high_thigmotaxis, goal, teleport, wall; hard_target and others.
    """
    cfg = dsm()
    task = cfg.task
    task.num_outer, task.num_inner, task.latent_dims, task.batch_size = 10, 5, 5, 32
    task.hidden, task.adversary.num_units = (32, 32, 32), 32
    task.evaluation = fdl.Partial(model.evaluate_place_maps)
    task.draw = model.draw_place_maps
    task.updates_per_step = 100
    cfg.data.maker = fdl.Partial(
        transitions.place_cells, behaviour="random_walk", num_steps=24_000, gamma=0.95
    )
    cfg.num_steps, cfg.chunk, cfg.eval_every, cfg.save_every = 5_000, 10, 500, 100
    cfg.show = ("objective", "map_correlation")
    return cfg


def random_walk(cfg: fdl.Config) -> None:
    """dsm_place_cells of RatInABox's random walk (the default)."""
    cfg.data.maker.behaviour = "random_walk"


def high_thigmotaxis(cfg: fdl.Config) -> None:
    """dsm_place_cells of an animal that keeps to the walls."""
    cfg.data.maker.behaviour = "high_thigmotaxis"


def goal(cfg: fdl.Config) -> None:
    """dsm_place_cells of a trained animal that seeks the middle."""
    cfg.data.maker.behaviour = "goal"


def teleport(cfg: fdl.Config) -> None:
    """dsm_place_cells of an animal that jumps between random places."""
    cfg.data.maker.behaviour = "teleport"


def wall(cfg: fdl.Config) -> None:
    """dsm_place_cells of a random walk in a box with a wall."""
    cfg.data.maker.behaviour = "wall"
    room = fdl.Config(arena.box, width_m=1.0, inner_walls=transitions.WALL)
    cfg.task.evaluation.distance_sq = fdl.Config(visibility.geodesic_sq, room)

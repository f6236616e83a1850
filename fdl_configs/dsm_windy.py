"""The config `dsm_windy`.

Paper: Wiltzer et al. 2024
Results: experiments/dsm/RESULTS.md
"""

import fiddle as fdl

from fdl_configs.dsm import (
    _small_and_fast,
    cauchy,
    dsm,
    energy,
    hard_target,
    median,
    mlp_adversary,
    no_adversary,
    rbf,
    recurrent,
)
from hfjax.data import transitions
from hfjax.models import dsm as model


def dsm_windy() -> fdl.Config:
    """The distributional successor measure of random moves in a windy grid world.

        python -m hfjax --fdl_config=dsm_windy --workdir=runs/dsm_windy

    Two dimensions, one reward; otherwise as `dsm`, and as slow. With `laptop` one minute, see
    experiments/dsm/RESULTS.md. Seed 0, the default, ends with a Wasserstein distance of .12, lower
    than three seeds in one program (.135, quartiles .133-.142).
    """
    cfg = dsm()
    cfg.task.evaluation = model.windy_returns
    cfg.task.draw = model.draw_windy
    cfg.data.maker = fdl.Partial(
        transitions.windy_grid, num_transitions=100_000, num_rollouts=5_000, gamma=0.95
    )
    return cfg


def laptop(cfg: fdl.Config) -> None:
    """Two CPU cores, one minute: a smaller model without an adversary, 6,000 fast updates."""
    _small_and_fast(cfg)
    cfg.num_steps, cfg.eval_every = 60, 30


def top(cfg: fdl.Config) -> None:
    """Moves that go up more often than elsewhere: a walk along the upper edge."""
    cfg.data.maker.moves = transitions.upwards


def bottom(cfg: fdl.Config) -> None:
    """Moves that go down more often than elsewhere: a walk along the lower edge."""
    cfg.data.maker.moves = transitions.downwards

"""The distributional successor measure: `dsm`, `dsm_windy`, and fiddlers for all of its kin.

Paper: Wiltzer et al. 2024
Results: experiments/dsm/RESULTS.md
"""

from collections.abc import Callable

import fiddle as fdl

from hfjax import kernels
from hfjax.data import policies, transitions
from hfjax.models import dsm as model
from hfjax.training import schedules
from hfjax.training.config import NumSteps
from hfjax.training.run import Experiment


def dsm() -> fdl.Config:
    """The distributional successor measure of a trained policy in the pendulum, as published.

        python -m hfjax --fdl_config=dsm --workdir=runs/dsm

    51 atoms, 32 samples of each, 2.5 million updates of both networks: for a GPU. An update of both
    takes some 10 s on two CPU cores; see `laptop`. Not run to its end by us.
    Evaluated against 5,000 Monte-Carlo rollouts from each of nine states, for seven rewards. With
    `laptop`, four minutes: Wasserstein distance .63 of the returns' deviation (1.6 untrained).
    Fiddlers: laptop; median, mlp_adversary, no_adversary, hard_target, rbf, cauchy, energy.
    """
    return fdl.Config(
        Experiment,
        task=fdl.Config(
            model.task,
            gamma=0.95,
            horizon=6,
            num_outer=51,
            num_inner=32,
            latent_dims=8,
            hidden=(256, 256, 256),
            batch_size=64,
            learning_rate=6.25e-5,
            eps=1.5e-4,
            adversary=fdl.Config(
                model.residual_adversary, num_units=256, num_blocks=2, num_outputs=8, separate=False
            ),
            objective=fdl.Partial(
                model.between_atoms,
                inner=kernels.rational_quadratic,
                outer=kernels.inverse_multiquadric,
            ),
            target_update=fdl.Partial(model.soft_update, rate=0.01),
            updates_per_step=1,
            evaluation=fdl.Partial(model.pendulum_returns, act=policies.act),
            draw=model.draw_pendulum,
        ),
        data=fdl.Config(
            transitions.saved_or_made,
            path=None,
            maker=fdl.Partial(
                transitions.pendulum, num_transitions=500_000, num_rollouts=5_000, gamma=0.95
            ),
        ),
        num_steps=2_500_000,
        chunk=100,
        eval_every=100_000,
        save_every=10_000,
        show=("objective", "wasserstein_mean"),
    )


def dsm_windy() -> fdl.Config:
    """The same of random moves in a windy grid world: two dimensions, one reward.

        python -m hfjax --fdl_config=dsm_windy --workdir=runs/dsm_windy

    As slow as dsm; with `laptop` a minute, see experiments/dsm/RESULTS.md.
    """
    cfg = dsm()
    cfg.task.evaluation = model.windy_returns
    cfg.task.draw = model.draw_windy
    cfg.data.maker = fdl.Partial(
        transitions.windy_grid, num_transitions=100_000, num_rollouts=5_000, gamma=0.95
    )
    return cfg


def laptop(cfg: fdl.Config) -> None:
    """The configs of dsm for two CPU cores: smaller, without an adversary, and learning faster.

        python -m hfjax --fdl_config=dsm --fiddler=laptop --workdir=runs/dsm_laptop
        python -m hfjax --fdl_config=dsm_place_cells --fiddler=laptop --workdir=runs/dsm_places

    At this size kernels on the states themselves learn many times as fast as those on what an
    adversary shows. The pendulum takes four minutes (20,000 updates), the windy grid one (6,000),
    place cells two (10,000); see experiments/dsm/RESULTS.md for what to expect. Give it before
    other fiddlers.
    """
    task, maker = cfg.task, fdl.get_callable(cfg.data.maker)
    task.adversary = fdl.Config(model.no_adversary)
    task.updates_per_step = 100
    if maker is transitions.place_cells:
        cfg.num_steps, cfg.chunk, cfg.eval_every, cfg.save_every = 100, 5, 50, 50
        rate = 1e-3
    else:
        task.num_outer, task.num_inner, task.batch_size = min(task.num_outer, 10), 10, 32
        task.hidden = (64, 64, 64)
        cfg.data.maker.num_transitions, cfg.data.maker.num_rollouts = 100_000, 2_000
        cfg.num_steps, cfg.chunk, cfg.eval_every, cfg.save_every = 200, 5, 100, 100
        if maker is transitions.windy_grid:
            cfg.num_steps, cfg.eval_every = 60, 30
        rate = 3e-3
    task.learning_rate = fdl.Config(
        schedules.cosine, init_value=rate, num_steps=NumSteps.new(), updates_per_step=100
    )


def median(cfg: fdl.Config) -> None:
    """dsm without an adversary: Gaussian kernels, inner and outer, as wide as the median."""
    cfg.task.objective = fdl.Partial(
        model.between_atoms_by_median, inner=kernels.gaussian, outer=kernels.gaussian
    )
    cfg.task.adversary = fdl.Config(model.no_adversary)


def no_adversary(cfg: fdl.Config) -> None:
    """dsm with samples compared as they are."""
    cfg.task.adversary = fdl.Config(model.no_adversary)


def mlp_adversary(cfg: fdl.Config) -> None:
    """dsm with an adversary without a bound on its slope."""
    separate = fdl.get_callable(cfg.task.objective) is model.each_atom
    cfg.task.adversary = fdl.Config(model.mlp_adversary, hidden=cfg.task.hidden, separate=separate)


def hard_target(cfg: fdl.Config) -> None:
    """dsm with a target network that is replaced every 100 updates."""
    cfg.task.target_update = fdl.Partial(model.hard_update, period=100)


def rbf(cfg: fdl.Config) -> None:
    """dsm with Gaussian kernels, inner and outer."""
    _kernels(cfg, kernels.gaussian)


def cauchy(cfg: fdl.Config) -> None:
    """dsm with Cauchy kernels, inner and outer."""
    _kernels(cfg, kernels.cauchy)


def energy(cfg: fdl.Config) -> None:
    """dsm with the energy distance between samples, alpha 1.5, and without an adversary."""
    cfg.task.objective.inner = fdl.Partial(kernels.minus_distance, alpha=1.5)
    cfg.task.adversary = fdl.Config(model.no_adversary)


def _kernels(cfg: fdl.Config, kernel: Callable) -> None:
    cfg.task.objective.inner = kernel
    if fdl.get_callable(cfg.task.objective) is not model.each_atom:
        cfg.task.objective.outer = kernel

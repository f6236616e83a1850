"""Gamma models of the pendulum: `gamma_ensemble`, `one_step`.

Paper: Wiltzer et al. 2024
Results: experiments/dsm/RESULTS.md
"""

import fiddle as fdl

from fdl_configs.dsm import dsm, energy, hard_target, laptop, no_adversary, recurrent
from hfjax import kernels
from hfjax.data import policies
from hfjax.models import dsm as model


def gamma_ensemble() -> fdl.Config:
    """51 gamma models of the pendulum, each with its own adversary; otherwise as `dsm`.

        python -m hfjax --fdl_config=gamma_ensemble --workdir=runs/gamma_ensemble

    For a GPU. With `laptop` (ten models, four minutes of one core), seed 0, the default, ends with
    a Wasserstein distance of .23 in units of the standard deviation of the returns (untrained 1.8;
    a Gaussian fit .03); three seeds had .25 to .26 with nearly the same sources.
    """
    cfg = dsm()
    cfg.task.objective = fdl.Partial(model.each_atom, inner=kernels.rational_quadratic)
    cfg.task.adversary.separate = True
    return cfg


def one_step() -> fdl.Config:
    """A model of the pendulum's next state: gamma 0, one atom, no bootstrap.

        python -m hfjax --fdl_config=one_step --workdir=runs/one_step

    Its returns are those of rollouts, in which the model is applied to its own samples. We have not
    run it to its end. With `laptop`, two minutes, seed 0 has a Wasserstein distance of .21 in units
    of the standard deviation of the returns (untrained 1.4; a Gaussian fit .014).
    """
    cfg = gamma_ensemble()
    cfg.task.gamma = 0.0
    cfg.task.num_outer, cfg.task.horizon = 1, 1
    cfg.task.bootstrap, cfg.task.from_source, cfg.data.maker.from_source = False, False, False
    cfg.task.evaluation = fdl.Partial(
        model.pendulum_rollouts,
        act=policies.act,
        discount=0.95,
        num_rollouts=500,
        rollout_steps=200,
    )
    return cfg


def mlp_adversary(cfg: fdl.Config) -> None:
    """Adversaries without a bound on their slope, with the hidden layers of the atoms."""
    cfg.task.adversary = fdl.Config(model.mlp_adversary, hidden=cfg.task.hidden, separate=True)


def rbf(cfg: fdl.Config) -> None:
    """A Gaussian kernel."""
    cfg.task.objective.inner = kernels.gaussian


def cauchy(cfg: fdl.Config) -> None:
    """A Cauchy kernel."""
    cfg.task.objective.inner = kernels.cauchy

"""The config `conformal` and its fiddlers.

Paper: Xu et al. 2025
Results: experiments/conformal/RESULTS.md
"""

from collections.abc import Callable
from typing import Any

import fiddle as fdl
import optax

from fdl_configs.shared import recorded, tanni
from hfjax import arena, networks
from hfjax.data import recordings
from hfjax.models import conformal as model
from hfjax.models import path_integration, topo_grid
from hfjax.training import schedules
from hfjax.training.config import NumSteps
from hfjax.training.experiment import Headline
from hfjax.training.run import Experiment


def _adam(*, peak_value: float) -> fdl.Config:
    """Adam whose rate rises, stays and falls as published; gradients of norm 10 at most."""
    rate = fdl.Config(
        schedules.trapezoid,
        peak_value=peak_value,
        num_steps=NumSteps.new(),
        rising=0.15,
        flat=0.15,
    )
    return fdl.Config(
        optax.chain,
        fdl.Config(optax.clip_by_global_norm, max_norm=10.0),
        fdl.Config(optax.adam, learning_rate=rate),
    )


def _normalised(transition: Callable, **settings: Any) -> fdl.Config:
    """A transition whose code keeps its length."""
    return fdl.Config(model.normalised, transition=fdl.Config(transition, **settings))


def conformal() -> fdl.Config:
    """Grid cells that code distances, in three modules: hexagons in a walled box.

        python -m hfjax --fdl_config=conformal --workdir=runs/conformal

    Its training takes one minute of a CPU core. Expect all units above grid score 0.8 (ten seeds:
    100 %, the lowest 86 %; smooth noise 3 %), 1.35 cm over 20 steps and 2.3 cm over 10 s (2.1 to
    3.6) in a walled box of 2.2 m, where chance is 115, and 5.1 cm over 10 s of a real rat's path
    (3.6 to 28), read out without tracking. Over 60 s: 7.8 and 48 cm. Of the ten seed 0, the
    default, is the sixth on walks of 10 s (2.3) and the second on the rat's (3.8). The paper trains
    one module at a time, with a table of directions and without normalisation: see `published`.
    """
    return fdl.Config(
        Experiment,
        task=fdl.Config(
            model.task,
            scales=(6.0, 8.0, 10.5),
            num_units=24,
            num_nodes=40,
            transition=_normalised(model.recurrent, nonlinearity=networks.relu),
            directions=fdl.Config(model.harmonics, order=1),
            reach=0.03,
            spread=1.25,
            transition_weight=30_000.0,
            isometry_weight=30_000.0,
            batch_size=500,
            optimizer=_adam(peak_value=2e-2),
            num_place=1600,
            sigma_m=0.12,
            dt_s=0.02,
            box=fdl.Config(path_integration.walled_box, width_m=2.2),
            motion=arena.sorscher_walk,
            evaluation=fdl.Config(
                path_integration.EvaluationSettings,
                num_steps=20,
                rollout_steps=500,
                num_rollouts=100,
                num_map_walks=5000,
                num_bins=20,
                num_noise_maps=1000,
            ),
        ),
        data=fdl.Config(recordings.sargolini, num_steps=500, dt_s=0.02, max_gap_s=0.1),
        num_steps=12_000,
        chunk=200,
        eval_every=6_000,
        save_every=3_000,
        show=("transition_error", "rollout_error_cm", "grid_share_above_0.8"),
        headline=(
            fdl.Config(Headline, name="eval/rollout_error_cm"),
            fdl.Config(Headline, name="eval/grid_share_above_0.8"),
            fdl.Config(Headline, name="eval/rat_rollout_error_cm"),
        ),
    )


def published(cfg: fdl.Config) -> None:
    """The published constants: one module of s = 10, 18 directions, 20,000 steps of 4000 pairs."""
    not_normalised(cfg)
    task = cfg.task
    task.scales, task.reach = (10.0,), 0.075
    task.batch_size, task.isometry_weight = 4000, 120_000.0
    task.directions = fdl.Config(model.discrete, num=18)
    task.optimizer = _adam(peak_value=3e-3)
    cfg.num_steps, cfg.eval_every, cfg.save_every = 20_000, 5_000, 2_000


def not_normalised(cfg: fdl.Config) -> None:
    """A transition without normalisation, as published: its code fades within a second."""
    if fdl.get_callable(cfg.task.transition) is model.normalised:
        cfg.task.transition = cfg.task.transition.transition


def tanh(cfg: fdl.Config) -> None:
    """Tanh in place of relu in the transition."""
    cfg.task.transition = _normalised(model.recurrent, nonlinearity=networks.tanh)


def linear(cfg: fdl.Config) -> None:
    """A linear transition: v + dr v B(theta), normalised."""
    cfg.task.transition = _normalised(model.linear)


def additive(cfg: fdl.Config) -> None:
    """A vanilla recurrent network of 128 units a module as transition."""
    task = cfg.task
    task.transition = _normalised(model.additive, nonlinearity=networks.relu)
    task.num_units = 128


def discrete(cfg: fdl.Config) -> None:
    """18 directions of movement, as published; others take the nearest."""
    cfg.task.directions = fdl.Config(model.discrete, num=18)


def one_module(cfg: fdl.Config) -> None:
    """One module of s = 10, as published: its code is ambiguous without tracking."""
    cfg.task.scales = (10.0,)


def rat_walk(cfg: fdl.Config) -> None:
    """Evaluate along walks of RatInABox's animals, at the speed of Sorscher's."""
    cfg.task.motion = topo_grid.rat_walk


def one_minute(cfg: fdl.Config) -> None:
    """Evaluate over walks of 60 s in place of 10 s."""
    cfg.task.evaluation.rollout_steps, cfg.task.evaluation.num_rollouts = 3000, 50
    cfg.data.num_steps = 3000


def laptop(cfg: fdl.Config) -> None:
    """Changes nothing: a run takes minutes on two CPU cores."""
    del cfg

"""The config `dsm_place_cells` and its fiddlers: the behaviours of the animal.

Paper: Wiltzer et al. 2024
Results: experiments/dsm/RESULTS.md
"""

import fiddle as fdl

from fdl_configs.dsm import (
    _learn_fast,
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
from hfjax import arena, networks, visibility
from hfjax.data import transitions
from hfjax.models import dsm as model
from hfjax.training.experiment import Headline


def dsm_place_cells() -> fdl.Config:
    """The distributional successor measure of an animal in a box; states are place-cell rates.

        python -m hfjax --fdl_config=dsm_place_cells --workdir=runs/dsm_place_cells

    Constants of the thesis: 50 cells, 10 atoms, 5 samples, networks of 32 units, 500,000 updates.
    That takes two hours of one core, and we have not run it. With `laptop`, three minutes: the maps
    correlate by .99 with the discounted rates in the data (the rates themselves: .987), with seed
    0, the default, as with two others.
    """
    cfg = dsm()
    task = cfg.task
    task.num_outer, task.num_inner, task.latent_dims, task.batch_size = 10, 5, 5, 32
    task.hidden, task.adversary.num_units = (32, 32, 32), 32
    task.evaluation = fdl.Partial(model.evaluate_place_maps)
    task.draw = model.draw_place_maps
    task.animations = model.animate_place_maps
    task.updates_per_step = 100
    cfg.data.maker = fdl.Partial(
        transitions.place_cells, behaviour=transitions.random_walk, num_steps=24_000, gamma=0.95
    )
    cfg.num_steps, cfg.chunk, cfg.eval_every, cfg.save_every = 5_000, 10, 500, 100
    cfg.show = ("objective", "map_correlation")
    cfg.headline = (
        fdl.Config(Headline, name="eval/map_correlation"),
        fdl.Config(Headline, name="eval/map_error"),
        _when_moved(0.91),
    )
    return cfg


def _when_moved(published: float) -> fdl.Config:
    """The similarity of maps after 20 cells moved, with the value of the thesis.

    In the thesis each draw starts from the cells that the last one moved.
    """
    return fdl.Config(
        Headline,
        name="eval/similarity_20",
        published=published,
        source="thesis, whose moves accumulate",
        at={"num_steps": 5_000},  # of 100 updates
    )


def laptop(cfg: fdl.Config) -> None:
    """Two CPU cores, two minutes: no adversary, 10,000 fast updates.

    With `mlp_adversary` it keeps that adversary.
    """
    cfg.num_steps, cfg.chunk, cfg.eval_every, cfg.save_every = 100, 5, 50, 50
    _learn_fast(cfg, learning_rate=1e-3)


def positive(cfg: fdl.Config) -> None:
    """Positive activity: hidden units with relu, predicted rates with softplus."""
    cfg.task.atom.activation, cfg.task.atom.output = networks.relu, networks.softplus


def random_walk(cfg: fdl.Config) -> None:
    """RatInABox's random walk (the default)."""
    cfg.data.maker.behaviour = transitions.random_walk


def low_thigmotaxis(cfg: fdl.Config) -> None:
    """An animal without any preference for walls."""
    cfg.data.maker.behaviour = transitions.low_thigmotaxis


def high_thigmotaxis(cfg: fdl.Config) -> None:
    """An animal that stays near the walls."""
    cfg.data.maker.behaviour = transitions.high_thigmotaxis


def goal(cfg: fdl.Config) -> None:
    """A trained animal that seeks the centre."""
    cfg.data.maker.behaviour = transitions.goal


def actor_critic(cfg: fdl.Config) -> None:
    """An animal that learned by an actor-critic to seek ten random goals, with little success."""
    cfg.data.maker.behaviour = fdl.Partial(
        transitions.actor_critic, num_goals=10, training_steps=100_000
    )


def teleport(cfg: fdl.Config) -> None:
    """An animal that moves between random places."""
    cfg.data.maker.behaviour = transitions.teleport


def wall(cfg: fdl.Config) -> None:
    """A random walk in a box with a wall; distances are around the wall."""
    cfg.data.maker.behaviour = transitions.wall
    if fdl.get_callable(cfg.task.evaluation) is model.evaluate_place_maps:
        room = fdl.Config(arena.box, width_m=1.0, inner_walls=transitions.WALL)
        cfg.task.evaluation.distance_sq = fdl.Config(visibility.geodesic_sq, room)


def xy(cfg: fdl.Config) -> None:
    """States are positions (m) in place of rates of place cells."""
    maker = cfg.data.maker
    cfg.data.maker = fdl.Partial(
        transitions.positions,
        behaviour=maker.behaviour,
        num_steps=maker.num_steps,
        gamma=maker.gamma,
    )
    cfg.task.evaluation = fdl.Partial(model.evaluate_positions, num_inner=64)
    cfg.task.draw = model.draw_positions
    cfg.task.animations = None
    cfg.show = ("objective", "position_error_cm")
    cfg.headline = (fdl.Config(Headline, name="eval/position_error_cm"),)


def recorded(cfg: fdl.Config) -> None:
    """Your own cells: --fdl_set=data.path=FILE, an npz with positions and rates along them.

    See `hfjax.data.transitions.recorded_rates`.
    """
    cfg.data = fdl.Config(transitions.recorded_rates, path=None, gamma=0.95, lattice=20)

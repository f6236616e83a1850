"""Configs of the successor measure, distributional and not: `dsm`, `successor` and others."""

import fiddle as fdl

from hfjax import arena, cells, kernels
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


def successor() -> fdl.Config:
    """The successor representation of place cells: one gamma model, its adversary its own.

        python -m hfjax --fdl_config=successor --workdir=runs/successor

    For N models that are averaged, as many as the atoms of dsm_place_cells:
    --fdl_set=task.num_outer=10. With `laptop` a minute, and maps as those of dsm_place_cells.
    Fiddlers: as dsm_place_cells, but median.
    """
    cfg = dsm_place_cells()
    _gamma_models(cfg)
    cfg.task.num_outer = 1
    return cfg


def gamma_ensemble() -> fdl.Config:
    """51 gamma models of the pendulum, each with an adversary of its own; otherwise as dsm.

        python -m hfjax --fdl_config=gamma_ensemble --workdir=runs/gamma_ensemble

    For a GPU; with `laptop` three minutes, see experiments/dsm/RESULTS.md. Fiddlers: as dsm, but
    median.
    """
    cfg = dsm()
    _gamma_models(cfg)
    return cfg


def one_step() -> fdl.Config:
    """A model of the pendulum's next state: gamma 0, one atom, no bootstrap.

        python -m hfjax --fdl_config=one_step --workdir=runs/one_step

    Its "returns" are the rewards of the next state. Not run to its end by us. Fiddlers: as dsm, but
    median.
    """
    cfg = gamma_ensemble()
    cfg.task.gamma, cfg.data.maker.gamma = 0.0, 0.0
    cfg.task.num_outer, cfg.task.horizon = 1, 1
    cfg.task.bootstrap, cfg.task.from_source, cfg.data.maker.from_source = False, False, False
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
    _dsm_only(cfg, "laptop")
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
    _dsm_only(cfg, "median")
    if fdl.get_callable(cfg.task.objective) is model.each_atom:
        raise ValueError(
            "the fiddler median compares atoms, but gamma models are compared one by one"
        )
    cfg.task.objective = fdl.Partial(
        model.between_atoms_by_median, inner=kernels.gaussian, outer=kernels.gaussian
    )
    cfg.task.adversary = fdl.Config(model.no_adversary)


def no_adversary(cfg: fdl.Config) -> None:
    """dsm with samples compared as they are."""
    _dsm_only(cfg, "no_adversary")
    cfg.task.adversary = fdl.Config(model.no_adversary)


def mlp_adversary(cfg: fdl.Config) -> None:
    """dsm with an adversary without a bound on its slope."""
    _dsm_only(cfg, "mlp_adversary")
    separate = fdl.get_callable(cfg.task.objective) is model.each_atom
    cfg.task.adversary = fdl.Config(model.mlp_adversary, hidden=cfg.task.hidden, separate=separate)


def hard_target(cfg: fdl.Config) -> None:
    """dsm with a target network that is replaced every 100 updates."""
    _dsm_only(cfg, "hard_target")
    cfg.task.target_update = fdl.Partial(model.hard_update, period=100)


def rbf(cfg: fdl.Config) -> None:
    """dsm with Gaussian kernels, inner and outer."""
    _kernels(cfg, "rbf", kernels.gaussian)


def cauchy(cfg: fdl.Config) -> None:
    """dsm with Cauchy kernels, inner and outer."""
    _kernels(cfg, "cauchy", kernels.cauchy)


def energy(cfg: fdl.Config) -> None:
    """dsm with the energy distance between samples, alpha 1.5, and without an adversary."""
    _dsm_only(cfg, "energy")
    cfg.task.objective.inner = fdl.Partial(kernels.minus_distance, alpha=1.5)
    cfg.task.adversary = fdl.Config(model.no_adversary)


def random_walk(cfg: fdl.Config) -> None:
    """dsm_place_cells of RatInABox's random walk (the default)."""
    _behaviour(cfg, "random_walk")


def high_thigmotaxis(cfg: fdl.Config) -> None:
    """dsm_place_cells of an animal that keeps to the walls."""
    _behaviour(cfg, "high_thigmotaxis")


def goal(cfg: fdl.Config) -> None:
    """dsm_place_cells of a trained animal that seeks the middle."""
    _behaviour(cfg, "goal")


def teleport(cfg: fdl.Config) -> None:
    """dsm_place_cells of an animal that jumps between random places."""
    _behaviour(cfg, "teleport")


def wall(cfg: fdl.Config) -> None:
    """dsm_place_cells of a random walk in a box with a wall."""
    _behaviour(cfg, "wall")
    room = fdl.Config(arena.box, width_m=1.0, inner_walls=transitions.WALL)
    cfg.task.evaluation.distance_sq = fdl.Config(cells.geodesic_sq, room)


def _behaviour(cfg: fdl.Config, behaviour: str) -> None:
    _dsm_only(cfg, behaviour)
    if fdl.get_callable(cfg.data.maker) is not transitions.place_cells:
        raise ValueError(f"the fiddler {behaviour} needs place cells: dsm_place_cells or successor")
    cfg.data.maker.behaviour = behaviour


def _gamma_models(cfg: fdl.Config) -> None:
    cfg.task.objective = fdl.Partial(model.each_atom, inner=kernels.rational_quadratic)
    cfg.task.adversary.separate = True


def _kernels(cfg: fdl.Config, fiddler: str, kernel) -> None:
    _dsm_only(cfg, fiddler)
    cfg.task.objective.inner = kernel
    if fdl.get_callable(cfg.task.objective) is not model.each_atom:
        cfg.task.objective.outer = kernel


def _dsm_only(cfg: fdl.Config, fiddler: str) -> None:
    if fdl.get_callable(cfg.task) is not model.task:
        raise ValueError(f"the fiddler {fiddler} changes the configs of dsm, and no other")

"""The config `dsm`, and fiddlers that the other configs of the successor measure share.

Paper: Wiltzer et al. 2024
Results: experiments/dsm/RESULTS.md
"""

import fiddle as fdl
import optax

from hfjax import kernels, networks
from hfjax.data import policies, transitions
from hfjax.models import dsm as model
from hfjax.training import schedules
from hfjax.training.config import NumSteps
from hfjax.training.experiment import Headline
from hfjax.training.run import Experiment


def dsm() -> fdl.Config:
    """The distributional successor measure of a trained policy in the pendulum, as published.

        python -m hfjax --fdl_config=dsm --workdir=runs/dsm

    51 atoms, 32 samples of each, 2.5 million updates of both networks: for a GPU. One update of
    both takes about 10 s on two CPU cores, and we have not run it to its end. The evaluation
    compares seven rewards at nine states with 5,000 Monte-Carlo rollouts each.
    With `laptop`, seven minutes of one busy core: Wasserstein distance .63 in units of the standard
    deviation of the returns (1.7 before training; a Gaussian fit .03), the median of three seeds;
    seed 0, the default, has .60.
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
            atom=fdl.Config(
                model.atom, activation=networks.leaky_relu, output=model.identity, feedback=0
            ),
            batch_size=64,
            optimizer=fdl.Config(optax.adam, learning_rate=6.25e-5, eps=1.5e-4),
            adversary=fdl.Config(
                model.residual_adversary, num_units=256, num_blocks=2, num_outputs=8, separate=False
            ),
            adversary_optimizer=None,
            adversary_steps=1,
            atom_steps=1,
            energy_penalty=0.0,
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
        headline=(fdl.Config(Headline, name="eval/wasserstein_mean"),),
    )


def laptop(cfg: fdl.Config) -> None:
    """Two CPU cores, four minutes: a smaller model without an adversary, 20,000 fast updates.

    At this size the model learns many times faster from kernels of the states themselves than with
    an adversary. With `mlp_adversary` it keeps that adversary.
    """
    _small_and_fast(cfg)


def median(cfg: fdl.Config) -> None:
    """No adversary; Gaussian kernels, inner and outer, with the median distance as bandwidth."""
    cfg.task.objective = fdl.Partial(
        model.between_atoms_by_median, inner=kernels.gaussian, outer=kernels.gaussian
    )
    cfg.task.adversary = fdl.Config(model.no_adversary)


def no_adversary(cfg: fdl.Config) -> None:
    """No adversary: samples are compared as they are."""
    cfg.task.adversary = fdl.Config(model.no_adversary)


def mlp_adversary(cfg: fdl.Config) -> None:
    """An adversary without a bound on its slope, with the hidden layers of the atoms."""
    cfg.task.adversary = fdl.Config(model.mlp_adversary, hidden=cfg.task.hidden)


def hard_target(cfg: fdl.Config) -> None:
    """A target network that is replaced every 100 updates."""
    cfg.task.target_update = fdl.Partial(model.hard_update, period=100)


def mountain_car(cfg: fdl.Config) -> None:
    """The mountain car in place of the pendulum: a noisy policy that pumps, four rewards."""
    cfg.data.maker = fdl.Partial(
        transitions.mountain_car, num_transitions=200_000, num_rollouts=5_000, gamma=0.95
    )
    cfg.task.evaluation = fdl.Partial(model.car_returns, act=transitions.pump_at)
    cfg.task.draw = model.draw_car


def recurrent(cfg: fdl.Config) -> None:
    """Atoms whose last hidden layer is recurrent: three steps of feedback to itself."""
    cfg.task.atom.feedback = 3


def rbf(cfg: fdl.Config) -> None:
    """Gaussian kernels, inner and outer."""
    cfg.task.objective.inner = cfg.task.objective.outer = kernels.gaussian


def cauchy(cfg: fdl.Config) -> None:
    """Cauchy kernels, inner and outer."""
    cfg.task.objective.inner = cfg.task.objective.outer = kernels.cauchy


def energy(cfg: fdl.Config) -> None:
    """No adversary; the energy distance between samples, with alpha 1.5."""
    cfg.task.objective.inner = fdl.Partial(kernels.minus_distance, alpha=1.5)
    cfg.task.adversary = fdl.Config(model.no_adversary)


def _small_and_fast(cfg: fdl.Config) -> None:
    task = cfg.task
    task.num_outer, task.num_inner, task.batch_size = min(task.num_outer, 10), 10, 32
    task.hidden = (64, 64, 64)
    cfg.data.maker.num_transitions, cfg.data.maker.num_rollouts = 100_000, 2_000
    cfg.num_steps, cfg.chunk, cfg.eval_every, cfg.save_every = 200, 5, 100, 100
    _learn_fast(cfg, learning_rate=3e-3)


def _learn_fast(cfg: fdl.Config, *, learning_rate: float) -> None:
    """100 updates a step, a learning rate that falls to 0, and no residual adversary."""
    task = cfg.task
    if fdl.get_callable(task.adversary) is model.mlp_adversary:
        task.adversary.hidden = task.hidden
    else:
        task.adversary = fdl.Config(model.no_adversary)
    task.updates_per_step = 100
    task.optimizer.learning_rate = fdl.Config(
        schedules.cosine,
        init_value=learning_rate,
        num_steps=NumSteps.new(),
        updates_per_step=100,
    )

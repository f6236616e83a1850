"""Learning rates that follow the length of the run."""

import optax

from hfjax import check


def cosine(
    *, init_value: float, num_steps: int, updates_per_step: int = 1, alpha: float = 0.0
) -> optax.Schedule:
    """Cosine decay from init_value to alpha init_value over num_steps training steps.

    init_value        learning rate at the first step.
    num_steps         training steps, by default those of the run.
    updates_per_step  optimizer updates in a training step.
    alpha             last learning rate, as a share of the first.

    In a config give num_steps as `config.NumSteps.new()`: it becomes the run's number of steps.
    Raises ValueError where a number is below 1, init_value not positive or alpha negative.
    Source: optax `cosine_decay_schedule`.
    """
    check.at_least(1, num_steps=num_steps, updates_per_step=updates_per_step)
    check.positive(init_value=init_value)
    check.not_negative(alpha=alpha)
    return optax.cosine_decay_schedule(init_value, num_steps * updates_per_step, alpha)

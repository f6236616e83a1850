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


def restarted_cosine(
    *,
    init_value: float,
    restart_value: float,
    restart_step: int,
    num_steps: int,
    alpha: float = 0.0,
) -> optax.Schedule:
    """Cosine decay from init_value, and from restart_step on another one from restart_value.

    init_value     learning rate at the first step.
    restart_value  learning rate at restart_step.
    restart_step   the first step of the second decay.
    num_steps      training steps, by default those of the run; in a shorter run than restart_step
                   the second decay never comes.
    alpha          last learning rate of each decay, as a share of its first.

    In a config give num_steps as in `cosine`.
    Raises ValueError where a step is below 1, a rate not positive or alpha negative.
    Source: Loshchilov & Hutter 2017 (warm restarts), with one restart.
    """
    check.at_least(1, restart_step=restart_step, num_steps=num_steps)
    check.positive(restart_value=restart_value)
    rest = max(num_steps - restart_step, 1)
    return optax.join_schedules(
        [
            cosine(init_value=init_value, num_steps=restart_step, alpha=alpha),
            cosine(init_value=restart_value, num_steps=rest, alpha=alpha),
        ],
        [restart_step],
    )


def trapezoid(
    *, peak_value: float, num_steps: int, rising: float = 0.15, flat: float = 0.15
) -> optax.Schedule:
    """A learning rate that rises linearly to peak_value, stays there, and falls linearly to 0.

    peak_value  highest learning rate.
    num_steps   training steps, by default those of the run.
    rising      share of the steps in which it rises; the corners are at the nearest whole steps.
    flat        share of the steps at peak_value.

    In a config give num_steps as in `cosine`.
    Raises ValueError where num_steps is below 1, peak_value not positive, a share negative, or both
    shares together 1 or more.
    """
    check.at_least(1, num_steps=num_steps)
    check.positive(peak_value=peak_value)
    check.not_negative(rising=rising, flat=flat)
    check.below_one(rising_and_flat=rising + flat)
    first, second = round(rising * num_steps), round((rising + flat) * num_steps)
    return optax.join_schedules(
        [
            # From the first step on: a rate of 0 would waste it.
            lambda step: peak_value * (step + 1) / max(first, 1),
            optax.constant_schedule(peak_value),
            optax.linear_schedule(peak_value, 0.0, max(num_steps - second, 1)),
        ],
        [first, second],
    )

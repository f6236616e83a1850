"""Checks of hyperparameters: each raises ValueError with one sentence that names the first culprit.

check.at_least(1, num_grid=num_grid, batch_size=batch_size)
check.positive(dt_s=dt_s)
"""


def at_least(least: int, **values: int) -> None:
    """Raise ValueError unless every value is `least` or more."""
    for name, value in values.items():
        if value < least:
            raise ValueError(f"{name} must be at least {least}, but is {value}")


def positive(**values: float) -> None:
    """Raise ValueError unless every value is above 0 (NaN is not)."""
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{name} must be positive, but is {value}")


def not_negative(**values: float) -> None:
    """Raise ValueError unless every value is 0 or more (NaN is not)."""
    for name, value in values.items():
        if not value >= 0:
            raise ValueError(f"{name} must not be negative, but is {value}")

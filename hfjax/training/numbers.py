"""Scalars as a person reads them: in their unit, with quartiles in a population."""

from typing import Any

import numpy as np

from hfjax.task import Metric


def factor(unit: str) -> float:
    """100 for shares, which are shown in percent; else 1."""
    return 100.0 if unit.startswith("%") else 1.0


def in_words(value: Any, metric: Metric | None, *, short: bool = False) -> str:
    """A scalar with its unit; in a population the median, and the quartiles in brackets.

    short  leaves the unit out, but for the sign of percent.
    """
    unit = metric.unit if metric else ""
    values = factor(unit) * np.asarray(value, float)
    if values.ndim:
        low, middle, high = np.nanquantile(values, (0.25, 0.5, 0.75))
        text = f"{digits(middle)} ({digits(low)} to {digits(high)})"
    else:
        text = digits(float(values))
    if short:
        unit = "%" if unit.startswith("%") else ""
    return f"{text} {unit}".rstrip()


def digits(value: float) -> str:
    """Three digits, without an exponent where the number is a usual one."""
    return f"{value:.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"

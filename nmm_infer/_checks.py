"""Mistakes in arguments that would otherwise become wrong numbers or errors from elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np

from nmm_infer.errors import InputError

__all__ = ["check_whole", "pair"]


def pair(name: str, values: Any) -> tuple[float, float]:
    """Return the two numbers of a range, or refuse what is not two numbers."""
    try:
        low, high = (float(value) for value in values)
    except (TypeError, ValueError):
        raise InputError(f"{name} is {values!r}: give two numbers, (lowest, highest)") from None
    return low, high


def check_whole(name: str, value: Any, least: int) -> None:
    """Refuse what is not a whole number, or too small."""
    if not isinstance(value, int | np.integer) or value < least:
        raise InputError(f"{name} is {value!r}: it must be a whole number of {least} or more")

"""What the prior of a task must have and may have."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from nmm_infer.errors import InputError
from nmm_infer.parameters import Prior

__all__ = ["check_prior"]

#: What a parameter of this name may not be.
_SIGNS = {"noise": "negative", "conduction_speed": "zero or negative"}


def check_prior(prior: Prior, known: Iterable[str], needed: Iterable[str], where: str) -> None:
    """Refuse a prior with unknown, missing or senseless parameters.

    Parameters
    ----------
    prior : Prior
        Prior of all parameters of a task.
    known, needed : iterable of str
        Names that it may have, and that it must have.
    where : str
        Whose prior it is, for the text of errors.

    Raises
    ------
    InputError
        If a name is unknown or missing, or if a bound makes no sense.
    """
    known = sorted(known)
    unknown = [name for name in prior.names if name not in known]
    if unknown:
        raise InputError(
            f"prior: no parameter {unknown[0]!r} in {where}; there are {', '.join(known)}"
        )
    missing = sorted(set(needed) - set(prior.names))
    if missing:
        raise InputError(
            f'prior: {missing[0]!r} is missing for {where} (distribution = "fixed" gives it a '
            "value)"
        )
    for name, senseless in _SIGNS.items():
        if name in prior.names:
            p = prior[name]
            positive = p.distribution in ("lognormal", "loguniform")
            least = np.inf if positive else float(p.quantile(0.0))
            if least < 0 or (least == 0 and name == "conduction_speed"):
                raise InputError(
                    f"prior.{name}: {least:g} {p.unit} makes no sense: it is {senseless}"
                )

"""The parameter sets that a method asks for: drawn in the unit cube, mapped through the prior."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cached_property
from importlib.metadata import version
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nmm_infer.errors import InputError
from nmm_infer.parameters import Parameter, Prior
from nmm_infer.sensitivity.methods import check_size, find_method, problem, quiet, whole_seed

__all__ = ["SensitivityDesign"]

#: Where a prior has no bounds, Morris' outermost levels stand at these probabilities ...
_EDGE = 0.005
#: ... and points of other designs, which hardly ever meet a bound, are kept off it.
_TINY = 1e-9


class SensitivityDesign:
    """A design of SALib over a prior; see :class:`nmm_infer.campaign.Design`.

    Inputs are drawn in the unit cube and mapped by the quantile function of each parameter's prior,
    by name. Parameters that are fixed, or not asked about, have one value in all runs.

    Parameters
    ----------
    prior : Prior
        Prior of the parameters that vary; fixed ones are left out.
    method : str
        Name of the method.
    n : int
        Size of the design as the method counts it: base points (Sobol), trajectories (Morris,
        Shapley), points on a curve (eFAST) or runs.
    groups : mapping of str to list of str, optional
        Parameters that are moved together, by name of the group; others are by themselves.
    second_order : bool
        Whether there are runs for interactions of pairs.
    seed : int
        Seed.
    held : Prior, optional
        Parameters that a model needs beside; they stay at their medians (of ``signed_lognormal``:
        at the median magnitude).

    Raises
    ------
    InputError
        If nothing varies, if method, size and groups do not fit each other, or if the model has no
        such parameter or has it in another unit.
    """

    def __init__(
        self,
        prior: Prior,
        method: str,
        n: int,
        *,
        groups: Mapping[str, Iterable[str]] | None = None,
        second_order: bool = False,
        seed: int = 0,
        held: Prior | None = None,
    ) -> None:
        self.method = find_method(method)
        self.name, self.n, self.seed, self.second_order = method, n, seed, second_order
        check_size(method, n)
        if second_order and "S2" not in self.method.indices:
            raise InputError(f"{method} has no second order: take sobol")
        free = [p.name for p in prior.parameters if p.distribution != "fixed"]
        if not free:
            raise InputError("sensitivity: every parameter of the prior is fixed; nothing varies")
        self.free = prior.select(free)
        # In the order of the prior, for functions that read columns by position.
        if held is not None:  # what the model takes
            self.free.check_part_of(held, "the model", ranges=False)
        everything = {p.name: p if p.name in free else _median(p) for p in prior.parameters}
        for p in () if held is None else held.parameters:
            everything.setdefault(p.name, _median(p))
        self.all = Prior(everything.values())
        self.held = [p for p in self.all.parameters if p.name not in free]
        self.groups = None if not groups else _members(self.free.names, groups)
        if self.groups is not None and not self.method.grouped:
            raise InputError(
                f"{method} cannot ask about groups of parameters: take sobol or morris, or leave "
                "the groups out"
            )
        if self.groups is not None and len(self.names) < 2:
            raise InputError(
                f"groups: {self.names[0]!r} holds every parameter that varies, so there is nothing "
                "to compare it with"
            )
        if second_order and len(self.names) < 2:
            raise InputError("second order needs two parameters or groups")

    @property
    def problem(self) -> dict[str, Any]:
        """SALib's description, a new one each time."""
        return problem(self.free.names, self.groups)

    @property
    def names(self) -> list[str]:
        """Names of what is asked about: parameters, or groups in the order of their first."""
        return list(dict.fromkeys(self.groups or self.free.names))

    @property
    def units(self) -> list[str]:
        """Units of the parameters; those of groups are empty."""
        units = dict(zip(self.free.names, self.free.units, strict=True))
        return [units.get(name, "") for name in self.names]

    @property
    def symbols(self) -> list[str]:
        """Symbols in figures; names where there are none."""
        symbols = {p.name: p.symbol or p.name for p in self.free.parameters}
        return [symbols.get(name, name) for name in self.names]

    @property
    def block(self) -> int:
        """Rows that belong together."""
        return self.method.block(len(self.names), self.n, self.second_order)

    @cached_property
    def cube(self) -> NDArray[np.float64]:
        """Inputs in the unit cube, shape (runs, parameters)."""
        with quiet():
            seed = whole_seed(self.seed, f"design/{self.name}")
            return np.asarray(
                self.method.sample(self.problem, self.n, self.second_order, seed), dtype=np.float64
            )

    def __len__(self) -> int:
        return len(self.cube)

    @property
    def coords(self) -> dict[str, Any]:
        """Names and units of all parameters, those that are held included."""
        return self.all.coords()

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Prior, method, size, seed and the version that drew the design."""
        return {
            "design": "sensitivity",
            "method": self.name,
            "n": self.n,
            "second_order": self.second_order,
            "groups": self.groups,
            "prior": self.all.to_dict(),
            "seed": self.seed,
            "salib": version("SALib"),
        }

    def rows(self, start: int, stop: int) -> xr.DataArray:
        """Return rows ``start`` to ``stop`` in the units of the parameters."""
        u = self.cube[start:stop]
        place = {name: i for i, name in enumerate(self.free.names)}
        columns = [
            p.quantile(_inside(p, u[:, place[p.name]], self.name))
            if p.name in place
            else np.full(len(u), p.low)
            for p in self.all.parameters
        ]
        return self.all.label(np.column_stack(columns), first=start)

    def attrs(self) -> dict[str, Any]:
        """Return what a result says of its design."""
        return {
            "method": self.name,
            "n": self.n,
            "runs": len(self),
            "seed": self.seed,
            "groups": json.dumps(
                {g: [n for n, of in zip(self.free.names, self.groups, strict=True) if of == g]
                 for g in self.names} if self.groups else {}
            ),
            "held": json.dumps({p.name: p.low for p in self.held}),
        }  # fmt: skip


def _median(p: Parameter) -> Parameter:
    """Return the parameter fixed at its median; with a sign, at the median magnitude."""
    if p.distribution == "fixed":
        return p
    middle = float(p.quantile(0.75 if p.distribution == "signed_lognormal" else 0.5))
    return Parameter(p.name, p.unit, "fixed", middle, symbol=p.symbol, source="median of its prior")


def _inside(p: Parameter, u: NDArray[np.float64], method: str) -> NDArray[np.float64]:
    """Keep probabilities off the ends of a prior without bounds."""
    if np.isfinite(p.quantile([0.0, 1.0])).all():
        return u
    if method == "morris":
        return _EDGE + (1 - 2 * _EDGE) * u
    return np.clip(u, _TINY, 1 - _TINY)


def _members(names: list[str], groups: Mapping[str, Iterable[str]]) -> list[str]:
    """Return the group of each parameter, in the order of the parameters."""
    of: dict[str, str] = {}
    if not isinstance(groups, Mapping):
        raise InputError('groups: give names and lists of parameters, {"gains": ["A", "B"]}')
    for group, members in groups.items():
        if isinstance(members, str):
            raise InputError(f"group {group!r}: give a list of names, not the text {members!r}")
        members = list(members)
        if not members:
            raise InputError(f"group {group!r} is empty")
        for name in members:
            if name not in names:
                raise InputError(
                    f"group {group!r}: no parameter {name!r} varies; there are {', '.join(names)}"
                )
            if name in of:
                raise InputError(f"parameter {name!r} is in two groups, {of[name]!r} and {group!r}")
            of[name] = group
    for group in groups:
        if group in names and of.get(group) != group:
            raise InputError(f"group {group!r} has the name of a parameter that is not in it")
    return [of.get(name, name) for name in names]

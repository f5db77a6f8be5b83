"""Named parameters with units, and the prior over them.

A :class:`Prior` is the one place that turns names into a torch distribution, a design of
parameter draws, and xarray coordinates.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from nmm_infer._random import generator
from nmm_infer.errors import InputError

if TYPE_CHECKING:
    import torch

__all__ = ["Parameter", "Prior"]

Distribution = Literal["uniform", "loguniform", "normal", "lognormal", "signed_lognormal", "fixed"]

#: Draws that share a random generator: any row is reached without drawing all before it.
_BLOCK = 4096


@dataclass(frozen=True)
class Parameter:
    """One named quantity and what is believed of it before a recording is seen.

    Parameters
    ----------
    name : str
        Name in code and files, e.g. ``"A"``.
    unit : str
        Unit, e.g. ``"mV"``, ``"1/s"``; ``"1"`` for a dimensionless quantity.
    distribution : {"uniform", "loguniform", "normal", "lognormal", "signed_lognormal", "fixed"}
        Family of the marginal prior. ``signed_lognormal`` is a log-normal magnitude with a fair
        sign.
    low, high : float
        ``uniform`` and ``loguniform``: the bounds. ``normal``: mean and standard deviation.
        ``lognormal`` and ``signed_lognormal``: the
        median magnitude and the geometric standard deviation. ``fixed``: the value (``high`` is
        not used).
    symbol : str
        Symbol in figures (mathtext); the name when empty.
    source : str
        Where the range comes from.

    Examples
    --------
    >>> Parameter("A", "mV", "uniform", 2.6, 4.5).quantile(0.5)
    array(3.55)
    """

    name: str
    unit: str
    distribution: Distribution
    low: float
    high: float = float("nan")
    symbol: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        where = f"prior of {self.name!r}"
        if self.distribution not in get_args(Distribution):
            raise InputError(
                f"{where}: no distribution {self.distribution!r}; there are "
                f"{', '.join(get_args(Distribution))}"
            )
        if self.distribution == "fixed":
            valid = bool(np.isfinite(self.low))
        else:
            valid = bool(np.isfinite([self.low, self.high]).all())
        if not valid:
            raise InputError(f"{where}: bounds must be finite, got {self.low}, {self.high}")
        if self.distribution in ("uniform", "loguniform") and not self.low < self.high:
            raise InputError(f"{where}: low must be below high, got {self.low} and {self.high}")
        if self.distribution == "loguniform" and self.low <= 0:
            raise InputError(f"{where}: a loguniform range must be positive, got low={self.low}")
        if self.distribution == "normal" and self.high <= 0:
            raise InputError(f"{where}: the standard deviation must be above 0, got {self.high}")
        if self.distribution in ("lognormal", "signed_lognormal") and (
            self.low <= 0 or self.high <= 1
        ):
            raise InputError(
                f"{where}: a {self.distribution} takes a positive median and a geometric standard "
                f"deviation above 1, got {self.low} and {self.high}"
            )

    @property
    def label(self) -> str:
        """Symbol with unit, for axes."""
        symbol = self.symbol or self.name
        return symbol if self.unit == "1" else f"{symbol} [{self.unit}]"

    @property
    def _belief(self) -> tuple[str, float, float]:
        high = 0.0 if self.distribution == "fixed" else self.high
        return self.distribution, self.low, high

    @property
    def _told(self) -> str:
        if self.distribution == "fixed":
            return f"fixed at {self.low:g}"
        return f"{self.distribution} ({self.low:g}, {self.high:g})"

    @cached_property
    def _magnitude(self) -> Any:
        if self.distribution == "uniform":
            return stats.uniform(self.low, self.high - self.low)
        if self.distribution == "loguniform":
            return stats.loguniform(self.low, self.high)
        if self.distribution == "normal":
            return stats.norm(self.low, self.high)
        return stats.lognorm(s=np.log(self.high), scale=self.low)

    def quantile(self, probability: ArrayLike) -> NDArray[np.float64]:
        """Return the value below which a draw falls with the given probability."""
        u = np.asarray(probability, dtype=float)
        if self.distribution == "fixed":
            return np.full_like(u, self.low)
        if self.distribution == "uniform":
            return np.asarray(self.low + (self.high - self.low) * u)
        if self.distribution == "loguniform":
            return np.asarray(np.exp(np.log(self.low) + np.log(self.high / self.low) * u))
        if self.distribution == "normal":
            return np.asarray(self.low + self.high * special.ndtri(u))
        if self.distribution == "lognormal":
            return np.asarray(self.low * np.exp(np.log(self.high) * special.ndtri(u)))
        tail = np.where(u < 0.5, 1 - 2 * u, 2 * u - 1)
        magnitude = self.low * np.exp(np.log(self.high) * special.ndtri(tail))
        return np.asarray(np.where(u < 0.5, -magnitude, magnitude))

    def cumulative(self, value: ArrayLike) -> NDArray[np.float64]:
        """Return the probability that a draw falls below ``value``."""
        x = np.asarray(value, dtype=float)
        if self.distribution == "fixed":
            return np.where(x < self.low, 0.0, 1.0)
        if self.distribution == "signed_lognormal":
            return np.asarray(0.5 + 0.5 * np.sign(x) * self._magnitude.cdf(np.abs(x)))
        return np.asarray(self._magnitude.cdf(x))

    def log_density(self, value: ArrayLike) -> NDArray[np.float64]:
        """Return the log of the prior density, in units of 1 / ``unit``."""
        x = np.asarray(value, dtype=float)
        if self.distribution == "fixed":
            return np.where(x == self.low, 0.0, -np.inf)
        if self.distribution == "signed_lognormal":
            return np.asarray(self._magnitude.logpdf(np.abs(x)) - np.log(2))
        return np.asarray(self._magnitude.logpdf(x))

    def admits(self, value: ArrayLike) -> NDArray[np.bool_]:
        """Return which values are finite and inside of the range, but for rounding."""
        x = np.asarray(value, dtype=float)
        low, high = self.quantile(np.array([0.0, 1.0]))
        rounding = 1e-6 * max(abs(low), abs(high)) if np.isfinite([low, high]).all() else 0.0
        return np.isfinite(x) & (x >= low - rounding) & (x <= high + rounding)


class Prior:
    """Independent named parameters, in a fixed order.

    Every parameter is mapped by its own cumulative distribution to the standard normal
    (*probit space*), where the whole prior is N(0, I): density estimators work there, without
    bounds to leak over.

    Parameters
    ----------
    parameters : iterable of Parameter
        Parameters with different names.

    Examples
    --------
    >>> prior = Prior([Parameter("A", "mV", "uniform", 2.6, 4.5)])
    >>> prior.sample(3, seed=0).dims
    ('simulation', 'parameter')
    """

    def __init__(self, parameters: Iterable[Parameter]) -> None:
        self.parameters = tuple(parameters)
        names = [p.name for p in self.parameters]
        if not names:
            raise InputError("a prior needs at least one parameter")
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise InputError(f"prior: parameter {twice[0]!r} is given more than once")

    def __repr__(self) -> str:
        return f"Prior({', '.join(self.names)})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Prior) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash(json.dumps(self.to_dict()))

    def __len__(self) -> int:
        return len(self.parameters)

    def __getitem__(self, name: str) -> Parameter:
        for parameter in self.parameters:
            if parameter.name == name:
                return parameter
        raise InputError(f"no parameter {name!r} in the prior; there are {', '.join(self.names)}")

    @property
    def names(self) -> list[str]:
        """Names, in order."""
        return [p.name for p in self.parameters]

    @property
    def units(self) -> list[str]:
        """Units, in the order of the names."""
        return [p.unit for p in self.parameters]

    def select(self, names: Iterable[str]) -> Prior:
        """Return the prior of some of the parameters, in the order of ``names``."""
        return Prior([self[n] for n in names])

    def coords(self) -> dict[str, Any]:
        """Return the xarray coordinates of the ``parameter`` dimension."""
        return {"parameter": self.names, "unit": ("parameter", self.units)}

    def sample(self, n: int, *, seed: int, stream: str = "prior") -> xr.DataArray:
        """Draw parameter sets.

        Parameters
        ----------
        n : int
            Number of draws.
        seed : int
            Seed of the study.
        stream : str
            Name of the stream; training, validation and test use different ones.

        Returns
        -------
        xarray.DataArray, dims (simulation, parameter)
            Draws with names and units as coordinates. The first ``k`` draws do not depend on
            ``n``.
        """
        return self.rows(0, n, seed=seed, stream=stream)

    def rows(self, start: int, stop: int, *, seed: int, stream: str = "prior") -> xr.DataArray:
        """Draw parameter sets ``start`` to ``stop`` of a stream, without those before them.

        They are rows ``start`` to ``stop`` of :meth:`sample`.
        """
        u = np.empty((max(stop - start, 0), len(self)))
        for block in range(start // _BLOCK, -(-stop // _BLOCK)):
            first, last = block * _BLOCK, min((block + 1) * _BLOCK, stop)
            drawn = generator(seed, stream, block).random((last - first, len(self)))
            low = max(first, start)
            u[low - start : last - start] = drawn[low - first :]
        values = np.column_stack([p.quantile(u[:, i]) for i, p in enumerate(self.parameters)])
        return self.label(values, first=start)

    def label(
        self, values: ArrayLike, *, first: int = 0, numbers: ArrayLike | None = None
    ) -> xr.DataArray:
        """Attach names, units and numbers to an array of shape (n, parameters).

        Numbers count from ``first``, or are those of the runs, shape (n,).
        """
        values = np.asarray(values, dtype=float)
        if numbers is None:
            numbers = np.arange(first, first + len(values))
        coords = {"simulation": np.asarray(numbers), **self.coords()}
        return xr.DataArray(values, dims=("simulation", "parameter"), coords=coords, name="theta")

    def values(self, theta: xr.DataArray | ArrayLike) -> NDArray[np.float64]:
        """Return the columns of this prior, by name where ``theta`` has names."""
        if isinstance(theta, xr.DataArray):
            present = set(theta.coords["parameter"].values.tolist())
            missing = [n for n in self.names if n not in present]
            if missing:
                raise InputError(f"theta lacks the parameter(s) {', '.join(missing)}")
            return np.asarray(theta.sel(parameter=self.names).values, dtype=float)
        values = np.asarray(theta, dtype=float)
        if values.shape[-1] != len(self):
            raise InputError(f"expected {len(self)} parameters, got an array {values.shape}")
        return values

    def check_part_of(self, other: Prior, what: str, *, ranges: bool = True) -> None:
        """Refuse parameters that another prior does not have, or has otherwise.

        Parameters
        ----------
        other : Prior
            What the runs were drawn from, or what a model takes.
        what : str
            Whose prior that is, for the text of errors.
        ranges : bool
            Whether the distributions must be the same too, beside names and units.

        Raises
        ------
        InputError
            If a name is unknown, or a unit or distribution differs.
        """
        for mine in self.parameters:
            if mine.name not in other.names:
                raise InputError(
                    f"prior: no parameter {mine.name!r} in {what}; there are "
                    f"{', '.join(other.names)}"
                )
            theirs = other[mine.name]
            if mine.unit != theirs.unit:
                raise InputError(
                    f"prior of {mine.name!r}: it is in {mine.unit}, that of {what} in {theirs.unit}"
                )
            if ranges and mine._belief != theirs._belief:
                raise InputError(
                    f"prior of {mine.name!r}: {mine._told} is not that of {what}, {theirs._told}"
                )

    def complete(self, theta: xr.DataArray) -> xr.DataArray:
        """Add the fixed parameters of this prior to draws of the others."""
        present = set(theta.coords["parameter"].values.tolist())
        columns = [
            theta.sel(parameter=p.name).values
            if p.name in present or p.distribution != "fixed"
            else np.full(theta.sizes["simulation"], p.low)
            for p in self.parameters
        ]
        return self.label(np.column_stack(columns))

    def log_prob(self, theta: xr.DataArray | ArrayLike) -> NDArray[np.float64]:
        """Return the log prior density, shape (n,), in the parameters' own units."""
        values = self.values(theta)
        return np.sum(
            [p.log_density(values[..., i]) for i, p in enumerate(self.parameters)], axis=0
        )

    def to_unconstrained(
        self, theta: xr.DataArray | ArrayLike, *, strict: bool = False
    ) -> NDArray[np.float64]:
        """Map parameters to probit space, where the prior is N(0, I).

        Draws at the very edge of a range are kept finite (about 8 standard deviations), and so is
        what lies outside of it.

        Raises
        ------
        InputError
            With ``strict``, if a value is not finite or lies outside of its prior.
        """
        values = self.values(theta)
        if strict:
            for i, parameter in enumerate(self.parameters):
                lost = ~parameter.admits(values[..., i])
                if lost.any():
                    raise InputError(
                        f"{lost.sum()} values of {parameter.name} are not finite, or outside of "
                        f"its prior (the first is {values[..., i][lost][0]:g})"
                    )
        u = np.stack([p.cumulative(values[..., i]) for i, p in enumerate(self.parameters)], axis=-1)
        return np.asarray(stats.norm.ppf(np.clip(u, 1e-15, 1 - 1e-15)))

    def from_unconstrained(self, z: ArrayLike) -> NDArray[np.float64]:
        """Map points of probit space back to parameters in their own units."""
        u = stats.norm.cdf(np.asarray(z, dtype=float))
        return np.stack([p.quantile(u[..., i]) for i, p in enumerate(self.parameters)], axis=-1)

    def log_jacobian(self, z: ArrayLike) -> NDArray[np.float64]:
        """Return the log Jacobian determinant of :meth:`from_unconstrained`, shape (n,).

        Subtract it from a log density over ``z`` to have the log density over ``theta``.
        """
        z = np.asarray(z, dtype=float)
        return np.asarray(stats.norm.logpdf(z).sum(-1) - self.log_prob(self.from_unconstrained(z)))

    def to_torch(self) -> torch.distributions.Distribution:
        """Return the prior in probit space as a torch distribution: N(0, I)."""
        import torch  # two seconds, which simulations do not need

        zero = torch.zeros(len(self))
        return torch.distributions.Independent(torch.distributions.Normal(zero, zero + 1), 1)

    def to_dict(self) -> list[dict[str, Any]]:
        """Return a JSON-ready description."""
        rows = []
        for parameter in self.parameters:
            row = asdict(parameter)
            if np.isnan(row["high"]):
                row.pop("high")
            rows.append(row)
        return rows

    @classmethod
    def from_dict(cls, rows: Iterable[Mapping[str, Any]]) -> Prior:
        """Rebuild a prior from :meth:`to_dict`."""
        return cls([Parameter(**row) for row in rows])

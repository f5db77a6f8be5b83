"""A few numbers instead of a time series, where only these are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nmm_infer.campaign import Variable
from nmm_infer.scenarios.network import NetworkTask

__all__ = ["FEATURES", "FeatureTask"]

#: Features of the focus after the event, by name, with their units.
FEATURES = {
    "maximum": "mV",
    "maximum_latency": "s",
    "minimum": "mV",
    "minimum_latency": "s",
    "mean": "mV",
    "deviation": "mV",
}


@dataclass(frozen=True, eq=False)
class FeatureTask:
    """A network task of which only features of the focus are kept.

    They describe the potential after the event (time 0) less its value at the last sample before
    it: maximum and minimum with their latencies, mean, and root mean square.

    Parameters
    ----------
    task : NetworkTask
        What is simulated.
    """

    task: NetworkTask

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Everything that the results depend on."""
        return {"features": list(FEATURES), "of": self.task.fingerprint}

    @property
    def coords(self) -> dict[str, Any]:
        """Names and units of the features."""
        return {
            "feature": list(FEATURES),
            "feature_unit": ("feature", list(FEATURES.values())),
        }

    @property
    def variables(self) -> dict[str, Variable]:
        """The features and the focus."""
        unit = "mV or s, see feature_unit"
        return {
            "features": Variable(("feature",), "float32", {"units": unit}),
            "focus": self.task.variables["focus"],
        }

    def simulate(self, theta: xr.DataArray, index: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """Run the network; see :class:`nmm_infer.campaign.Task`."""
        result = self.task.simulate(theta, index)
        features = np.empty((len(index), len(FEATURES)), np.float32)
        times = self.task.clock.sample_times
        _describe(result["potential"], result["focus"], times, features)
        return {"features": features, "focus": result["focus"], "status": result["status"]}


# Sums and extremes are vectors of partial ones; a run that is not finite is diverged and not used.
@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "nsz", "nnan"})
def _describe(potential, focus, times, out):
    first = 0
    while first < times.size - 1 and times[first] < 0:
        first += 1
    for i in range(potential.shape[0]):
        series = potential[i, focus[i], first:]
        rest = potential[i, focus[i], max(first - 1, 0)]
        high = low = series[0]
        total = square = 0.0
        for value in series:
            high, low = max(high, value), min(low, value)
            total += np.float64(value - rest)
            square += np.float64(value - rest) ** 2
        out[i, 0], out[i, 1] = high - rest, times[first + _position(series, high)]
        out[i, 2], out[i, 3] = low - rest, times[first + _position(series, low)]
        out[i, 4], out[i, 5] = total / series.size, np.sqrt(square / series.size)


@numba.njit(cache=True, nogil=True)
def _position(series, value):
    for k in range(series.size):
        if series[k] == value:
            return k
    return 0

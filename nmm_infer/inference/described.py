"""Named features of what an observer sees, for estimators that read them."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nmm_infer.features import evoked_features, spectrum_features
from nmm_infer.observation import EvokedProtocol, Protocol

__all__ = ["describe_flat"]


def describe_flat(x: NDArray[np.float32], protocol: Protocol, context: list[str]) -> xr.DataArray:
    """Describe each observation by named features.

    Parameters
    ----------
    x : numpy.ndarray, shape (n, step * component + context)
        See :attr:`nmm_infer.observation.Sequences.flat`.
    protocol : EvokedProtocol or SpontaneousProtocol
        What the steps are.
    context : list of str
        Names of what follows the steps.

    Returns
    -------
    xarray.DataArray, dims (simulation, feature)
        Features of the response or of the spectrum, those of each component after each other
        (``peak[0]``, ``peak[1]``, ... where there are several), then the context.
    """
    steps, components = protocol.n_steps, protocol.n_components
    values = x[:, : steps * components].reshape(len(x), steps, components)
    parts = []
    for k in range(components):
        if isinstance(protocol, EvokedProtocol):
            part = evoked_features(values[..., k], protocol.times)
        else:
            part = spectrum_features(values[..., k], protocol.frequencies)
        names = [str(name) for name in part.coords["feature"].values]
        if components > 1:
            names = [f"{name}[{k}]" for name in names]
        parts.append((names, part.values))
    parts.append((context, x[:, steps * components :]))
    return xr.DataArray(
        np.concatenate([values for _, values in parts], axis=1).astype(np.float32),
        dims=("simulation", "feature"),
        coords={"feature": [name for names, _ in parts for name in names]},
        name="features",
    )

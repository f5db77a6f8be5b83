"""Finished runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nmm_infer.campaign.layout import FINGERPRINT
from nmm_infer.campaign.task import OK, PENDING, REASONS, REJECTED
from nmm_infer.errors import InputError
from nmm_infer.parameters import Prior

__all__ = ["Campaign"]

#: Attribute of a selection: the share accepted of the campaign that it was taken from.
_ACCEPTED = "nmm_infer_accepted"


class Campaign:
    """Finished runs.

    Parameters
    ----------
    dataset : xarray.Dataset
        Variables ``theta`` (simulation, parameter), ``status`` (simulation), and those of the
        task, with ``simulation`` as their first dimension. Arrays from a store are read when
        they are indexed. Attributes: fingerprint, ``task``, ``design`` and ``versions`` (JSON), and
        ``seed`` if the task has one.
    """

    def __init__(self, dataset: xr.Dataset) -> None:
        self.dataset = dataset

    @classmethod
    def open(cls, path: str | Path) -> Campaign:
        """Open a store, finished or not.

        Parameters
        ----------
        path : path
            A store that :func:`nmm_infer.campaign.run` has written.

        Raises
        ------
        InputError
            If there is no campaign store.
        """
        if not Path(path).exists():
            raise InputError(f"{path} does not exist")
        try:
            # Older formats of Zarr can hold Python objects, which are made by running code.
            dataset = xr.open_zarr(path, chunks=None, consolidated=False, zarr_format=3)
            texts = {
                name: coord.copy(data=np.array(coord.values.tolist(), dtype=str))
                for name, coord in dataset.coords.items()
                if coord.dtype.kind in ("O", "T")
            }
        except (OSError, KeyError, ValueError, RuntimeError) as error:
            raise InputError(f"{path} is not a campaign store, or a damaged one") from error
        if FINGERPRINT not in dataset.attrs or not {"theta", "status"} <= set(dataset.data_vars):
            raise InputError(f"{path} is not a campaign store")
        return cls(dataset.assign_coords(texts))

    def __len__(self) -> int:
        return int(self.dataset.sizes["simulation"])

    def __repr__(self) -> str:
        rejected, pending = self.rejected, int((self._status == PENDING).sum())
        return (
            f"Campaign({len(self)} runs, {self.failed} failed"
            f"{f', {rejected} rejected' * (rejected > 0)}{f', {pending} pending' * (pending > 0)})"
        )

    @property
    def _status(self) -> NDArray[np.int8]:
        return np.asarray(self.dataset["status"].values)

    @property
    def theta(self) -> xr.DataArray:
        """Parameter sets, dims (simulation, parameter)."""
        return self.dataset["theta"]

    @property
    def valid(self) -> NDArray[np.int64]:
        """Positions of the runs that ended well."""
        return np.flatnonzero(self._status == OK)

    @property
    def accepted(self) -> float:
        """Share of the runs that belong to what the study asks about (see ``REJECTED``).

        Of a selection it is the share of the campaign that was selected from.
        """
        told = self.dataset.attrs.get(_ACCEPTED)
        if told is not None:
            return float(told)
        finished = self._status[self._status != PENDING]
        return float((finished != REJECTED).mean()) if len(finished) else 1.0

    @property
    def rejected(self) -> int:
        """Number of runs that do not belong to what the study asks about."""
        return int((self._status == REJECTED).sum())

    @property
    def failed(self) -> int:
        """Number of runs that did not end well, the rejected ones aside."""
        return int((self._status > OK).sum()) - self.rejected

    @property
    def prior(self) -> Prior:
        """Prior that the parameters were drawn from, as the task or else the design tells it."""
        told = self._told_prior
        if told is None:
            raise InputError("this campaign names no prior: give one")
        return Prior.from_dict(told)

    @property
    def has_prior(self) -> bool:
        """Whether the campaign tells the prior that its parameters were drawn from."""
        return self._told_prior is not None

    @property
    def _told_prior(self) -> Any:
        for source in ("task", "design"):
            told: Any = json.loads(self.dataset.attrs.get(source, "{}"))
            if "prior" in told:
                return told["prior"]
        return None

    @property
    def fingerprint(self) -> str:
        """Hash of task, design and version."""
        return str(self.dataset.attrs[FINGERPRINT])

    def failures(self) -> xr.Dataset:
        """Return the runs that did not end well.

        Returns
        -------
        xarray.Dataset, dims (simulation)
            ``status`` and ``reason`` of each, by absolute number.
        """
        failed = self.dataset[["status"]].isel(simulation=np.flatnonzero(self._status > OK)).load()
        failed["reason"] = (
            "simulation",
            np.array([REASONS[int(code)] for code in failed["status"].values], dtype=str),
        )
        return failed

    def select(self, positions: NDArray[np.int64] | slice) -> Campaign:
        """Return some of the runs; their parameters, results and numbers stay together."""
        part = self.dataset.isel(simulation=positions)
        return Campaign(part.assign_attrs({_ACCEPTED: self.accepted}))

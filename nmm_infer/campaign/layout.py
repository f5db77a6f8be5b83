"""Which arrays a campaign has, in memory as in a store."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nmm_infer.campaign.design import Design
from nmm_infer.campaign.task import FAILED, PENDING, REASONS, Task
from nmm_infer.errors import InputError

__all__ = ["FINGERPRINT", "Block", "Field", "Layout"]

#: The attribute that makes a Zarr group a campaign store.
FINGERPRINT = "nmm_infer_fingerprint"
#: Results of some runs: one array a field, with ``simulation`` first.
Block = dict[str, NDArray[Any]]

#: A chunk is what is simulated, compressed and written at a time: large enough that its overhead
#: is small, small enough for memory, for loss at an interruption, and for reading a few runs.
_CHUNK_BYTES = 2**24
_CHUNK_RUNS = 2**14
#: Small campaigns have this many chunks, so that threads share the work and the bar moves ...
_CHUNKS = 16
#: ... but a chunk has not fewer runs than this, if they fit.
_FEWEST_RUNS = 64


@dataclass(frozen=True)
class Field:
    """One array of a campaign, with ``simulation`` as its first dimension.

    Parameters
    ----------
    dims : tuple of str
        Dimensions after ``simulation``.
    shape : tuple of int
        Their sizes.
    dtype : numpy.dtype
        Type.
    fill : float
        Value of runs that are pending or failed.
    attrs : mapping
        Attributes.
    """

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fill: float = 0
    attrs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Bytes of one run."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


@dataclass(frozen=True)
class Layout:
    """Fields, coordinates and attributes of a campaign.

    Parameters
    ----------
    n : int
        Number of runs.
    fields : dict of str to Field
        The arrays, in the order in which they are written: ``status`` is last.
    coords : dict
        Coordinates of the dimensions other than ``simulation``.
    attrs : dict
        Fingerprint and provenance.
    """

    n: int
    fields: dict[str, Field]
    coords: dict[str, Any]
    attrs: dict[str, Any]

    @classmethod
    def of(cls, task: Task, design: Design) -> Layout:
        """Lay out the campaign of a task and a design."""
        coords = {**task.coords, **design.coords}
        sizes = xr.Dataset(coords=coords).sizes
        fields = {
            "simulation": Field((), (), np.dtype("int64"), -1, {"meaning": "absolute number"}),
            "theta": Field(
                ("parameter",), (sizes["parameter"],), np.dtype("float64"), float("nan")
            ),
        }
        for name, variable in task.variables.items():
            for dim in variable.dims:
                if dim not in sizes:
                    raise InputError(f"variable {name!r} of the task: {dim!r} has no coordinate")
            if name in ("simulation", "theta", "status", *coords):
                raise InputError(f"variable {name!r} of the task: the name is taken")
            shape = tuple(sizes[dim] for dim in variable.dims)
            fields[name] = Field(
                variable.dims, shape, np.dtype(variable.dtype), attrs=dict(variable.attrs)
            )
        fields["status"] = Field(
            (),
            (),
            np.dtype("int8"),
            PENDING,
            {
                "flag_values": list(REASONS),
                "flag_meanings": "pending ok diverged failed rejected",
                "status_reason": list(REASONS.values()),
            },
        )
        return cls(len(design), fields, coords, _attributes(task, design, fields))

    @property
    def fingerprint(self) -> str:
        """Hash of task, design and version."""
        return str(self.attrs[FINGERPRINT])

    @property
    def chunk(self) -> int:
        """Runs in a chunk, from this layout alone: any number of threads makes the same store."""
        size = sum(f.nbytes for f in self.fields.values())
        wish = min(_CHUNK_BYTES // size, _CHUNK_RUNS, max(self.n // _CHUNKS, _FEWEST_RUNS))
        return 1 << (max(wish, 1).bit_length() - 1)

    def arrays(self, n: int) -> Block:
        """Return arrays of ``n`` runs that ended in an error."""
        arrays = {
            name: np.zeros((n, *field.shape), field.dtype) for name, field in self.fields.items()
        }
        arrays["status"][:] = FAILED
        return arrays

    def dataset(self, arrays: Block) -> xr.Dataset:
        """Attach labels to the arrays of all runs."""
        return xr.Dataset(
            {
                name: (("simulation", *field.dims), arrays[name], dict(field.attrs))
                for name, field in self.fields.items()
            },
            coords=self.coords,
            attrs=self.attrs,
        ).set_coords("simulation")


def _plain(value: Any) -> Any:
    """Turn NumPy values into what JSON knows."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a fingerprint must be JSON-ready, but holds a {type(value).__name__}")


def _attributes(task: Task, design: Design, fields: dict[str, Field]) -> dict[str, Any]:
    names = ("nmm-infer", "numpy", "numba", "zarr")
    versions = {name: version(name) for name in names}
    texts = {
        "task": json.dumps(task.fingerprint, sort_keys=True, default=_plain),
        "design": json.dumps(design.fingerprint, sort_keys=True, default=_plain),
    }
    arrays = [[name, *f.dims, *f.shape, f.dtype.str] for name, f in fields.items()]
    content = json.dumps([versions["nmm-infer"], texts["task"], texts["design"], arrays])
    python = ".".join(map(str, sys.version_info[:3]))
    attrs = {
        FINGERPRINT: hashlib.sha256(content.encode()).hexdigest(),
        **texts,
        "versions": json.dumps({"python": python, **versions}),
    }
    seed = getattr(task, "seed", None)
    return attrs if seed is None else {**attrs, "seed": int(seed)}

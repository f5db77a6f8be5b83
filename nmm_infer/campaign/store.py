"""A campaign on disk: a Zarr group whose chunks are whole or do not count."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, ZstdCodec

from nmm_infer._locks import locked
from nmm_infer.campaign.layout import FINGERPRINT, Block, Layout
from nmm_infer.campaign.task import PENDING
from nmm_infer.errors import InputError, StoreMismatchError

__all__ = ["Store"]

# Measured on Jansen-Rit potentials (one core, float32): ratio 1.2 to 1.3 at 1 to 2 GB/s; zstd gains
# a few per cent more at a third of the speed. Blosc's bytes depend on its threads, so it must have
# one: Zarr sees to that.
_DATA = BloscCodec(cname="lz4", clevel=5, shuffle="shuffle")
# A torn or damaged status must not be read as anything: it has a checksum.
_STATUS = ZstdCodec(level=0, checksum=True)
#: Blosc takes no larger buffer.
_LARGEST = 2**31 - 17


@dataclass(frozen=True)
class Store:
    """A campaign store that exists.

    All arrays have the same chunks along ``simulation``, and one file a chunk. The chunk of
    ``status`` is written last, and without it the others do not count. Arrays are opened when
    they are first asked for, in every process that a store is sent to.

    Parameters
    ----------
    path : Path
        Absolute path.
    fingerprint : str
        What the store must have been written by.
    names : tuple of str
        Its arrays, in the order in which they are written: ``status`` is last.
    """

    path: Path
    fingerprint: str
    names: tuple[str, ...]

    def __reduce__(self) -> tuple[Any, ...]:
        return Store, (self.path, self.fingerprint, self.names)

    @classmethod
    def at(cls, path: Path, layout: Layout, chunk: int) -> Store:
        """Find a store, or create it with so many runs in a chunk."""
        if not path.exists():
            cls._create(path, layout, chunk)
        return cls(path, layout.fingerprint, tuple(layout.fields))

    @staticmethod
    def _create(path: Path, layout: Layout, chunk: int) -> None:
        """Lay out an empty store beside its place, then rename it into it."""
        chunk = max(1, min(chunk, layout.n))
        for name, field in layout.fields.items():
            if chunk * field.nbytes > _LARGEST:
                raise InputError(
                    f"{chunk} runs of {name!r} are too large for one chunk: give a chunk of at "
                    f"most {max(1, _LARGEST // field.nbytes)} runs"
                )
        aside = path.with_name(f".{path.name}.tmp")
        with locked(aside, path, make=True):
            if path.exists():  # another process has made it meanwhile
                shutil.rmtree(aside)
                return
            try:
                _lay_out(aside, layout, chunk)
                os.replace(aside, path)
            except BaseException:
                shutil.rmtree(aside, ignore_errors=True)
                raise

    @cached_property
    def arrays(self) -> dict[str, Any]:
        """The arrays by name.

        Raises
        ------
        InputError
            If this is no campaign store, or another study's.
        """
        if not self.path.exists():
            raise InputError(
                f"{self.path} cannot be seen from {socket.gethostname()}: Dask workers need a disk "
                "that they share with this machine, under the same path"
            )
        # Zarr would leave out chunks of zeros: here a missing file means a missing chunk.
        config = {"write_empty_chunks": True}
        try:
            group: Any = zarr.open_group(self.path, mode="r+", zarr_format=3)
            if group.attrs[FINGERPRINT] == self.fingerprint:
                return {name: group[name].with_config(config) for name in self.names}
        except (OSError, KeyError, ValueError) as error:
            raise InputError(
                f"{self.path} exists but is not a campaign store: choose another path"
            ) from error
        raise StoreMismatchError(
            f"{self.path} was written by another study, number of runs or version (its fingerprint "
            "differs): delete it or choose another path"
        )

    @property
    def chunk(self) -> int:
        """Runs in a chunk."""
        return int(self.arrays["status"].chunks[0])

    def pending(self) -> list[int]:
        """Return the first run of every chunk that is not whole."""
        array = self.arrays["status"]
        starts = range(0, array.shape[0], self.chunk)
        try:
            status = array[:]
        except Exception:  # a chunk is torn; what it raises depends on where
            status = np.concatenate([self._status(start) for start in starts])
        return [
            start
            for start in starts
            if (status[start : start + self.chunk] == PENDING).any() or self._lacks_files(start)
        ]

    def _status(self, start: int) -> NDArray[np.int8]:
        try:
            return np.asarray(self.arrays["status"][start : start + self.chunk])
        except Exception:
            n = min(self.chunk, self.arrays["status"].shape[0] - start)
            return np.full(n, PENDING, np.int8)

    def _lacks_files(self, start: int) -> bool:
        """Tell whether files are missing or empty, as they may be after a power cut."""
        return not all(file.exists() and file.stat().st_size for file in self._files(start))

    def write(self, start: int, block: Block) -> None:
        """Write the runs of one chunk, status last."""
        stop = start + len(block["status"])
        for name, array in self.arrays.items():
            array[start:stop] = block[name]

    @contextmanager
    def writing(self) -> Iterator[list[int]]:
        """Keep other writers out, and leave nothing behind but chunks that are whole.

        Yields
        ------
        list of int
            What is :meth:`pending`.
        """
        _ = self.arrays  # before anything is touched: this is a campaign store, and the right one
        with locked(self.path, self.path):
            self._sweep()
            pending = self.pending()
            for start in pending:
                for file in self._files(start):
                    file.unlink(missing_ok=True)
            yield pending
            self._sweep()

    def _files(self, start: int) -> list[Path]:
        """Files of one chunk, status first."""
        chunk = start // self.chunk
        return [
            self.path / name / array.metadata.encode_chunk_key((chunk, *(0,) * (array.ndim - 1)))
            for name, array in reversed(self.arrays.items())
        ]

    def _sweep(self) -> None:
        """Remove the temporary files of killed writers: whatever is not named like a chunk."""
        for name in self.names:
            for file in (self.path / name / "c").rglob("*"):
                if not file.name.isdecimal():
                    file.unlink(missing_ok=True)


def _lay_out(folder: Path, layout: Layout, chunk: int) -> None:
    for left in folder.iterdir():  # by a process that was killed here
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    header = xr.Dataset(coords=layout.coords, attrs=layout.attrs)
    for name, coord in header.coords.items():
        if coord.dtype.kind == "U":  # Zarr has a specified type for variable lengths only
            header[name] = coord.astype(object)
    header.to_zarr(folder, consolidated=False, zarr_format=3)
    group = zarr.open_group(folder, mode="r+", zarr_format=3)
    for name, field in layout.fields.items():
        group.create_array(
            name,
            shape=(layout.n, *field.shape),
            chunks=(chunk, *(max(1, size) for size in field.shape)),
            dtype=field.dtype,
            compressors=_STATUS if name == "status" else _DATA,
            dimension_names=("simulation", *field.dims),
            attributes=dict(field.attrs),
            fill_value=field.dtype.type(field.fill),
        )

"""Columns and the connections between them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import scipy.sparse
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from nmm_infer.errors import InputError
from nmm_infer.models import Model

__all__ = ["Connection", "Network"]

logger = logging.getLogger(__name__)

Form = Literal["rates", "linear", "diffusive"]


@dataclass(frozen=True, eq=False)
class Connection:
    r"""One kind of connection between columns.

    Node i receives, in the target population,

    .. math::

        G \sum_j W_{ij} \, x_j(t - d_{ij}) \quad \text{(rates, linear)} \qquad
        G \sum_j W_{ij} \, (x_j(t - d_{ij}) - x_i(t)) \quad \text{(diffusive)}

    with :math:`d_{ij}` the tract length over the conduction speed. In the form ``"rates"`` x is a
    firing rate: the sum of the delayed rates of the senders, each through its own sigmoid, as in
    Jansen and Rit (1995); ``"linear"`` and ``"diffusive"`` take any output.

    Parameters
    ----------
    weights : array, scipy.sparse array or xarray.DataArray, shape (node, node)
        Row: target, column: source.
    lengths : array or xarray.DataArray, shape (node, node), optional
        Tract lengths in mm; without them, or where they are zero, there is no delay.
    source : str, optional
        Output of the model that is sent; its firing rate without.
    target : str, optional
        Population that receives it; the model's first target without.
    form : {"rates", "linear", "diffusive"}
        How it is summed.
    name : str
        Name, under which its strength is given where a network has several; for instance
        ``"forward"``, ``"backward"``, ``"lateral"`` (David et al. 2006, NeuroImage 30:1255).
    """

    weights: Any
    lengths: Any = None
    source: str | None = None
    target: str | None = None
    form: Form = "rates"
    name: str = "coupling"


@dataclass(frozen=True)
class Edges:
    """Compressed rows of one connection: what target i receives is at start[i]:start[i + 1]."""

    start: NDArray[np.int64]
    source: NDArray[np.int64]
    weight: NDArray[np.float64]
    length: NDArray[np.float64]  # mm


class Network:
    """Nodes and their connections, checked.

    Parameters
    ----------
    connections : sequence of Connection
        Connections of different kinds between the same nodes.
    nodes : sequence of str or int, optional
        Names of the nodes, or their number; taken from the weights where these are labelled.

    Raises
    ------
    InputError
        If a matrix is not square, differs in size, is not finite, has negative lengths, or has
        names that do not match.

    Examples
    --------
    >>> Network([Connection([[0, 1], [0.5, 0]], lengths=[[0, 30], [30, 0]])]).n_nodes
    2
    """

    def __init__(
        self, connections: Sequence[Connection] = (), nodes: Sequence[str] | int | None = None
    ) -> None:
        self.connections = tuple(connections)
        names = [c.name for c in self.connections]
        if len(set(names)) < len(names):
            raise InputError(f"two connections have one name: {', '.join(names)}")
        known: list[str] | None = None
        size: int | None = None
        if nodes is not None:
            if isinstance(nodes, int):
                size = nodes
            else:
                known = [str(n) for n in nodes]
                size = len(known)
        for connection in self.connections:
            for what in ("weights", "lengths"):
                found, n = _names(connection, what)
                if n is None:
                    continue
                if size is not None and n != size:
                    raise InputError(
                        f"{connection.name}: {what} are for {n} nodes, but there are {size}"
                    )
                size = n
                if found is None:
                    continue
                if known is not None and found != known:
                    differing = next((a, b) for a, b in zip(found, known, strict=True) if a != b)
                    raise InputError(
                        f"{connection.name}: the names of {what} do not match the other ones: "
                        f"{differing[0]!r} stands where {differing[1]!r} is expected"
                    )
                known = found
        self.n_nodes = 1 if size is None else size
        if self.n_nodes < 1:
            raise InputError("a network needs a node")
        if known is not None and len(set(known)) < len(known):
            twice = next(name for name in known if known.count(name) > 1)
            raise InputError(f"two nodes are called {twice!r}")
        self.nodes = known or [f"node-{i}" for i in range(self.n_nodes)]
        self.edges = tuple(_edges(c, self.n_nodes) for c in self.connections)
        #: Delays below one step, as last counted by :meth:`steps`.
        self.short = 0
        self._told = False

    @classmethod
    def column(cls) -> Network:
        """Return a single column, coupled to nothing."""
        return cls(nodes=["column"])

    @property
    def delayed(self) -> bool:
        """Whether any connection has a length."""
        return any((edges.length > 0).any() for edges in self.edges)

    def steps(self, speed: Any, step: float, least: int) -> list[NDArray[np.int32]]:
        """Return delays in steps.

        Parameters
        ----------
        speed : float or numpy.ndarray, shape (batch,)
            Conduction speed in m/s (the same as mm/ms).
        step : float
            Integration step in s.
        least : int
            Steps that a connection with a length takes at least.

        Returns
        -------
        list of numpy.ndarray of int32, shape (edge,) or (edge, batch)
            One array for each connection. Delays are rounded to the nearest step. If some are
            below one step, a warning is logged the first time.
        """
        result = []
        short = total = 0
        for edges in self.edges:
            length = edges.length if np.ndim(speed) == 0 else edges.length[:, None]
            exact = length * 1e-3 / speed / step
            if exact.size and exact.max() > 2**30:
                raise InputError("speed: a conduction this slow would take more than 2**30 steps")
            whole = np.rint(exact).astype(np.int32)
            result.append(np.where(length > 0, np.maximum(whole, least), 0).astype(np.int32))
            short += int(((exact > 0) & (exact < 1)).sum())
            total += exact.size
        self.short = short
        if short and not self._told:
            self._told = True
            logger.warning(
                "%d of %d delays are shorter than one step of %g ms: they are rounded to %s",
                short, total, step * 1e3, "one step" if least else "zero or one step",
            )  # fmt: skip
        return result


def _names(connection: Connection, what: str) -> tuple[list[str] | None, int | None]:
    """Return the node names (where labelled) and the size of a matrix, checked to be square."""
    matrix = getattr(connection, what)
    if matrix is None:
        return None, None
    shape = np.shape(matrix) if not scipy.sparse.issparse(matrix) else matrix.shape
    if len(shape) != 2 or shape[0] != shape[1]:
        raise InputError(
            f"{connection.name}: {what} must be a square matrix (target, source), not {shape}"
        )
    if not isinstance(matrix, xr.DataArray) or not all(d in matrix.coords for d in matrix.dims):
        return None, shape[0]
    rows, columns = ([str(v) for v in matrix.coords[dimension].values] for dimension in matrix.dims)
    if rows != columns:
        i = next(i for i, (a, b) in enumerate(zip(rows, columns, strict=True)) if a != b)
        raise InputError(
            f"{connection.name}: the names of {what} do not match: row {i + 1} is {rows[i]!r}, "
            f"column {i + 1} is {columns[i]!r}"
        )
    return rows, shape[0]


def _edges(connection: Connection, n: int) -> Edges:
    matrix = connection.weights
    if scipy.sparse.issparse(matrix):
        sparse = scipy.sparse.coo_array(matrix)
        sparse.sum_duplicates()
    else:
        dense = np.asarray(matrix, dtype=float)
        if not np.isfinite(dense).all():
            raise InputError(f"{connection.name}: weights must be finite")
        sparse = scipy.sparse.coo_array(dense)
    if not np.isfinite(sparse.data).all():
        raise InputError(f"{connection.name}: weights must be finite")
    csr = scipy.sparse.csr_array(sparse)
    csr.eliminate_zeros()
    csr.sort_indices()
    rows = np.repeat(np.arange(n), np.diff(csr.indptr))
    length = np.zeros(csr.nnz)
    if connection.lengths is not None:
        lengths = connection.lengths
        if scipy.sparse.issparse(lengths):
            lengths = lengths.toarray()
        lengths = np.asarray(lengths, dtype=float)
        if not np.isfinite(lengths).all() or (lengths < 0).any():
            raise InputError(f"{connection.name}: lengths must be finite and not negative")
        length = lengths[rows, csr.indices]
    return Edges(
        csr.indptr.astype(np.int64), csr.indices.astype(np.int64), csr.data.astype(float), length
    )


def resolve(network: Network, model: Model) -> list[tuple[str, str, Form]]:
    """Return source output, target population and form of each connection, checked."""
    terms: list[tuple[str, str, Form]] = []
    for connection in network.connections:
        if connection.form not in ("rates", "linear", "diffusive"):
            raise InputError(
                f"{connection.name}: no form {connection.form!r}; there are rates, linear, "
                "diffusive"
            )
        output = model.sent if connection.source is None else model.get_output(connection.source)
        if connection.form == "rates" and output.unit != "1/s":
            raise InputError(
                f"{connection.name}: the form 'rates' sums firing rates, but {output.name!r} is "
                f"in {output.unit}: use the form 'linear' or another output"
            )
        terms.append((output.name, model.get_target(connection.target), connection.form))
    return terms


def per_connection(
    network: Network, what: str, values: ArrayLike | Mapping[str, ArrayLike]
) -> list[Any]:
    """Return one value for each connection, from one for all or from a mapping of their names."""
    names = [c.name for c in network.connections]
    if not isinstance(values, Mapping):
        return [values] * len(names)
    for name in values:
        if name not in names:
            raise InputError(f"{what}: no connection {name!r}; there are {', '.join(names)}")
    missing = sorted(set(names) - set(values))
    if missing:
        raise InputError(f"{what}: none is given for the connection {missing[0]!r}")
    return [values[name] for name in names]

"""Nearest neighbours as scikit-learn's users ask for them: the same names, arguments and shapes, on an `Index`."""

from __future__ import annotations

import inspect
from typing import Any, Literal, NamedTuple, Self, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..codes import as_array, check_codes, check_int, check_rows, pack
from ..support import memory, require
from .index import Index
from .results import Ranges

Mode = Literal["connectivity", "distance"]

# Bytes, at most
_NEIGHBOR = 28  # of a distance and an index, and without those of a row itself
_LISTS = 240  # of a row's two arrays, beside what they hold
_EDGE = 24  # of a graph, beside its neighbor


class Neighbors(NamedTuple):
    """What `HammingNeighbors` finds."""

    distances: NDArray[Any]
    """In bits: ``(q, k)``, or within a radius ``(q,)`` arrays of their own."""
    indices: NDArray[Any]
    """Places of the neighbours among the fitted rows; the same shape."""


class HammingNeighbors:
    """Exact nearest neighbours by Hamming distance, in the manner of ``sklearn.neighbors.NearestNeighbors``.

    scikit-learn need not be there. Where it is, this is one of its estimators: it can be cloned, and stands as
    ``KNeighborsTransformer`` does before what takes ``metric="precomputed"``.

    Parameters
    ----------
    n_neighbors : int
        How many neighbours a row has, where a call does not say.
    radius : int
        How far neighbours may be, in bits, where a call does not say.
    input : {"codes", "bits"}
        What rows are: packed codes of uint8, or one 0 or 1 a column, as scikit-learn's ``metric="hamming"`` takes.
    mode : {"distance", "connectivity"}
        What the graph of `transform` holds: distances, or ones.
    n_jobs : int, optional
        The most threads to use; None and -1 are as many CPUs as this process may run on.

    Attributes
    ----------
    index_ : Index
        The fitted rows; an id is the place of a row.
    n_samples_fit_, n_features_in_ : int
        Rows and columns of what was fitted.

    Notes
    -----
    Distances are whole numbers of bits; scikit-learn's are shares, the same divided by the number of bits. Neighbours
    come in (distance, place) order, ties to the earlier row, on every machine.

    Examples
    --------
    >>> import numpy as np, pyhash
    >>> codes = np.array([[0, 0], [255, 255], [1, 0]], dtype=np.uint8)
    >>> near = pyhash.HammingNeighbors(n_neighbors=2).fit(codes)
    >>> near.kneighbors(codes[:1])
    Neighbors(distances=array([[0, 1]], dtype=int32), indices=array([[0, 2]]))
    """

    index_: Index
    n_samples_fit_: int
    n_features_in_: int

    def __init__(
        self,
        n_neighbors: int = 5,
        radius: int = 1,
        *,
        input: Literal["codes", "bits"] = "codes",
        mode: Mode = "distance",
        n_jobs: int | None = None,
    ) -> None:
        self.n_neighbors = n_neighbors
        self.radius = radius
        self.input = input
        self.mode = mode
        self.n_jobs = n_jobs

    # As an estimator: parameters are checked where they are used, so that clones and grids can carry any

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters by name; `deep` is there for scikit-learn and changes nothing."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def set_params(self, **params: Any) -> Self:
        """Set parameters by name; ValueError where there is no such one."""
        known = self.get_params()
        for name in params:
            if name not in known:
                raise ValueError(f"parameters are {', '.join(known)}; got {name!r}")
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.get_params().items())})"

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "index_")

    def __sklearn_tags__(self) -> Any:  # only scikit-learn asks
        utils = require("sklearn.utils", "dev")
        return utils.Tags(
            estimator_type="transformer",
            target_tags=utils.TargetTags(required=False),
            transformer_tags=utils.TransformerTags(preserves_dtype=[]),
        )

    def fit(self, X: ArrayLike, y: object = None) -> Self:
        """Store rows to search; `y` is there for scikit-learn and not looked at."""
        columns, codes = self._codes(X)
        if not len(codes):
            raise ValueError("X must have at least one row, got none")
        index = Index(codes.shape[1] * 8)
        index.add(codes)
        self.index_, self.n_samples_fit_, self.n_features_in_ = index, len(codes), columns
        return self

    def fit_transform(self, X: ArrayLike, y: object = None) -> Any:
        """Fit rows and return the graph of their neighbours, themselves included, as `transform` does."""
        return self.fit(X).transform(X)

    def transform(self, X: ArrayLike) -> Any:
        """Return the sparse graph of the `n_neighbors` nearest of each row.

        With ``mode="distance"`` there is one neighbour more, as with ``KNeighborsTransformer``: a fitted row counts
        as its own, and what takes the graph may not want that one.
        """
        n_neighbors = check_int(self.n_neighbors, "n_neighbors", 1) + (self.mode == "distance")
        return self.kneighbors_graph(X, n_neighbors, self.mode)

    # Neighbours

    @overload
    def kneighbors(
        self, X: ArrayLike | None = ..., n_neighbors: int | None = ..., return_distance: Literal[True] = ...
    ) -> Neighbors: ...
    @overload
    def kneighbors(
        self, X: ArrayLike | None = ..., n_neighbors: int | None = ..., *, return_distance: Literal[False]
    ) -> NDArray[np.int64]: ...
    def kneighbors(
        self, X: ArrayLike | None = None, n_neighbors: int | None = None, return_distance: bool = True
    ) -> Neighbors | NDArray[np.int64]:
        """Find the nearest fitted rows of each row.

        Parameters
        ----------
        X : array_like, (q, n_features), optional
            Rows like those fitted; by default the fitted rows themselves, none then being its own neighbour.
        n_neighbors : int, optional
            How many, at most as many as there are.
        return_distance : bool
            Whether distances are wanted, too.

        Returns
        -------
        distances : ndarray of int32, (q, n_neighbors)
            Left out with ``return_distance=False``.
        indices : ndarray of int64, (q, n_neighbors)
            In (distance, place) order.
        """
        k = check_int(self.n_neighbors if n_neighbors is None else n_neighbors, "n_neighbors", 1)
        queries = self._queries(X)
        there = self.n_samples_fit_ - (X is None)
        if k > there:
            others = " besides a row itself" if X is None else ""
            raise ValueError(f"n_neighbors must be at most {there}, the rows fitted{others}, got {k}")
        n, taken = len(queries), k + (X is None)
        memory.ask(_NEIGHBOR * n * taken, "n_neighbors must be smaller", "%d neighbors of each of %d rows", taken, n)
        distances, indices = self.index_.search(queries, taken, threads=self._threads())
        if X is None:
            # Where so many rows are equal that one is not in its own list, it is the last of the list that is too many.
            own = indices == np.arange(len(indices))[:, None]
            own[~own.any(axis=1), -1] = True
            distances, indices = distances[~own].reshape(-1, k), indices[~own].reshape(-1, k)
        return Neighbors(distances, indices) if return_distance else indices

    @overload
    def radius_neighbors(
        self, X: ArrayLike | None = ..., radius: int | None = ..., return_distance: Literal[True] = ...
    ) -> Neighbors: ...
    @overload
    def radius_neighbors(
        self, X: ArrayLike | None = ..., radius: int | None = ..., *, return_distance: Literal[False]
    ) -> NDArray[np.object_]: ...
    def radius_neighbors(
        self, X: ArrayLike | None = None, radius: int | None = None, return_distance: bool = True
    ) -> Neighbors | NDArray[np.object_]:
        """Find the fitted rows within a radius of each row.

        Parameters
        ----------
        X : array_like, (q, n_features), optional
            As in `kneighbors`.
        radius : int, optional
            The largest distance that is near enough, in bits.
        return_distance : bool
            Whether distances are wanted, too.

        Returns
        -------
        distances : ndarray of object, (q,)
            An array of int32 a row. Left out with ``return_distance=False``.
        indices : ndarray of object, (q,)
            An array of int64 a row, in (distance, place) order.
        """
        found = self._within(X, radius)
        n = len(found.offsets) - 1
        memory.ask(_LISTS * n, "X must have fewer rows", "lists of %d rows", n)
        indices = _apart(found.offsets, found.ids)
        return Neighbors(_apart(found.offsets, found.distances), indices) if return_distance else indices

    def kneighbors_graph(
        self, X: ArrayLike | None = None, n_neighbors: int | None = None, mode: Mode = "connectivity"
    ) -> Any:
        """Return what `kneighbors` finds as a sparse graph; it needs SciPy.

        Parameters
        ----------
        X, n_neighbors
            As in `kneighbors`.
        mode : {"connectivity", "distance"}
            Whether an edge is 1 or the distance in bits.

        Returns
        -------
        scipy.sparse.csr_matrix of float64, (q, n_samples_fit_)
            Edges of a row in (distance, place) order; a distance of 0 is stored, too.
        """
        distances, indices = self.kneighbors(X, n_neighbors)
        offsets = np.arange(len(indices) + 1, dtype=np.int64) * indices.shape[1]
        return self._graph(offsets, distances.ravel(), indices.ravel(), mode)

    def radius_neighbors_graph(
        self, X: ArrayLike | None = None, radius: int | None = None, mode: Mode = "connectivity"
    ) -> Any:
        """Return what `radius_neighbors` finds as a sparse graph, such as `kneighbors_graph` makes.

        With ``mode="distance"`` it is what ``DBSCAN(eps, metric="precomputed")`` takes, for any `eps` up to the radius.
        """
        found = self._within(X, radius)
        return self._graph(found.offsets, found.distances, found.ids, mode)

    def _within(self, X: ArrayLike | None, radius: int | None) -> Ranges:
        radius = check_int(self.radius if radius is None else radius, "radius", 0)
        queries = self._queries(X)
        found = self.index_.range_search(queries, radius, threads=self._threads())
        if X is not None:
            return found
        memory.ask(_NEIGHBOR * len(found.ids), "radius must be smaller", "%d neighbors", len(found.ids))
        rows = np.repeat(np.arange(len(queries)), np.diff(found.offsets))
        others = found.ids != rows  # each row has found itself, once
        return Ranges(found.offsets - np.arange(len(found.offsets)), found.distances[others], found.ids[others])

    def _graph(self, offsets: NDArray[np.int64], distances: NDArray[Any], indices: NDArray[Any], mode: Mode) -> Any:
        if mode not in ("connectivity", "distance"):
            raise ValueError(f"mode must be 'connectivity' or 'distance', got {mode!r}")
        memory.ask(_EDGE * len(indices), "X must have fewer rows", "%d edges", len(indices))
        edges = np.ones(len(indices)) if mode == "connectivity" else distances.astype(np.float64)
        shape = len(offsets) - 1, self.n_samples_fit_
        return require("scipy.sparse", "graph").csr_matrix((edges, indices, offsets), shape=shape)

    def _queries(self, X: ArrayLike | None) -> NDArray[np.uint8]:
        if not hasattr(self, "index_"):
            raise ValueError(f"this {type(self).__name__} holds nothing yet: call fit first")
        if X is None:
            return self.index_.codes(self.index_.ids)
        columns, codes = self._codes(X)
        if columns != self.n_features_in_:
            raise ValueError(f"X must have {self.n_features_in_} columns, as what was fitted, got {columns}")
        return codes

    def _codes(self, X: ArrayLike) -> tuple[int, NDArray[np.uint8]]:
        """Return the columns of rows, and the rows as codes."""
        if self.input not in ("codes", "bits"):
            raise ValueError(f"input must be 'codes' or 'bits', got {self.input!r}")
        rows = as_array(X, "X") if self.input == "bits" else check_rows(X, "X")
        if rows.ndim != 2:
            raise ValueError(f"X must be 2-D, a row each, got {rows.ndim}-D")
        if self.input == "bits":
            if not np.all((rows == 0) | (rows == 1)):
                raise ValueError("X must hold nothing but 0 and 1 with input='bits'; packed codes are input='codes'")
            return rows.shape[1], pack(rows == 1)
        return rows.shape[1], check_codes(rows, rows.shape[1] * 8, "X")

    def _threads(self) -> int | None:
        return None if self.n_jobs in (None, -1) else check_int(self.n_jobs, "n_jobs", 1)


def _apart(offsets: NDArray[np.int64], values: NDArray[Any]) -> NDArray[np.object_]:
    """Return an array of arrays, one a query."""
    lists = np.empty(len(offsets) - 1, dtype=object)
    for i, (begin, end) in enumerate(zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)):
        lists[i] = values[begin:end]
    return lists

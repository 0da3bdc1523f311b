"""Embeddings as int8: what rankings are computed from, in integers, so that every kernel finds the same."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..codes import as_array
from ..support import memory

Floats = NDArray[np.float32]
_Number = TypeVar("_Number", bound=np.generic)

MAX_DIM = 65536  # sums of products of int8 fit in 32 bits
_CELLS = 1 << 20  # worked on at a time


class Quantized(NamedTuple):
    """Embeddings of one byte a number, as `quantize` makes them.

    Row i stands for ``vectors[i] * norms[i] / |vectors[i]|``.
    """

    vectors: NDArray[np.int8]
    """``(n, dim)``: each row times 127 over its own largest number, rounded to the nearest."""
    norms: NDArray[np.float32]
    """``(n,)``: the length of each row as it was given."""


Embeddings: TypeAlias = ArrayLike | Quantized
"""Rows of floats, or what `quantize` made of them."""


def quantize(rows: ArrayLike) -> Quantized:
    """Turn embeddings into int8, each row with a scale of its own.

    Parameters
    ----------
    rows : array_like of float, (n, dim)
        Of any length, taken as float32.

    Returns
    -------
    Quantized
        ``vectors`` int8 (n, dim) and ``norms`` float32 (n,). A row of zeros stays one.

    Raises
    ------
    ValueError
        When rows hold NaN or infinity, or do not have such a shape.
    TypeError
        When they are not numbers.

    Examples
    --------
    >>> quantize([[3.0, -4.0], [0.0, 0.0]])
    Quantized(vectors=array([[  95, -127],
           [   0,    0]], dtype=int8), norms=array([5., 0.], dtype=float32))
    """
    floats = as_floats(rows, "rows")
    memory.ask(floats.size, "rows must be fewer at a time", "%d x %d numbers as int8", *floats.shape)
    vectors, norms = np.empty(floats.shape, dtype=np.int8), np.empty(len(floats), dtype=np.float32)
    for part in blocks(*floats.shape):
        block = floats[part]
        largest = np.abs(block).max(axis=1, keepdims=True)
        vectors[part] = np.rint(block / np.where(largest == 0, np.float32(1), largest) * np.float32(127))
        norms[part] = lengths(block)
    return Quantized(vectors, norms)


def as_quantized(rows: Embeddings, name: str) -> Quantized:
    """Return embeddings as int8, contiguous; errors name them as `name`."""
    if not isinstance(rows, Quantized):
        return quantize(as_floats(rows, name))
    vectors = rows.vectors
    if not isinstance(vectors, np.ndarray) or vectors.dtype != np.int8:
        raise TypeError(f"{name}.vectors must be an array of int8, got {getattr(vectors, 'dtype', type(vectors))}")
    _check_shape(vectors.shape, f"{name}.vectors")
    return rows._replace(vectors=np.ascontiguousarray(vectors))


def as_floats(rows: ArrayLike, name: str) -> Floats:
    """Return rows of finite numbers as float32, contiguous; errors name them as `name`."""
    array = as_array(rows, name)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name} must be an array of floats, got {array.dtype}")
    _check_shape(array.shape, name)
    if array.dtype != np.float32 or not array.flags.c_contiguous:
        memory.ask(4 * array.size, f"{name} must be fewer at a time", "%d x %d numbers as float32", *array.shape)
    with np.errstate(over="ignore"):
        floats = np.ascontiguousarray(array, dtype=np.float32)
    for part in blocks(*floats.shape):
        finite = np.isfinite(floats[part]).all(axis=1)
        if not finite.all():
            raise ValueError(f"{name} must be finite float32 numbers, row {part.start + int(finite.argmin())} is not")
    return floats


def lengths(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the Euclidean length of each row."""
    squares = np.square(rows, dtype=np.float64)  # first, so that each row is summed alone: the same in any block
    found: NDArray[np.float64] = np.sqrt(squares.sum(axis=1))
    return found


def as_rows(rows: ArrayLike | Quantized, name: str) -> Any:
    """Return one row as an array of rows."""
    if isinstance(rows, Quantized):
        return rows
    array = as_array(rows, name)
    return array[None] if array.ndim == 1 else array


class Directions:
    """Rows brought to length 1 (those of zeros left as they are), a few at a time, as they are asked for."""

    def __init__(self, rows: Embeddings, name: str) -> None:
        self._rows = as_quantized(rows, name).vectors if isinstance(rows, Quantized) else as_floats(rows, name)
        self._scales: Floats | None = None
        self.shape = self._rows.shape

    def measure(self) -> None:
        """Measure all rows now, where each is to be taken several times."""
        self._scales = np.empty((len(self._rows), 1), dtype=np.float32)
        for part in blocks(*self.shape):
            self._scales[part] = _scales(self._rows[part])

    def take(self, places: NDArray[np.int64] | slice) -> Floats:
        """Return the rows in these places as float32."""
        rows: Any = taken(self._rows, places)
        found: Floats = rows * (_scales(rows) if self._scales is None else self._scales[places])
        return found


def taken(rows: NDArray[_Number], places: NDArray[np.int64] | slice) -> NDArray[_Number]:
    """Return the rows in these places, a view of a slice."""
    found: NDArray[_Number] = rows[places] if isinstance(places, slice) else rows.take(places, axis=0)  # the faster way
    return found


def _scales(rows: NDArray[np.int8] | Floats) -> Floats:
    """Return what brings each row to length 1, (n, 1)."""
    of_rows = lengths(rows.astype(np.float32, copy=False))[:, None]
    return (1 / np.where(of_rows == 0, 1, of_rows)).astype(np.float32)


def blocks(length: int, width: int) -> list[slice]:
    """Slices of `length` rows of this width, each of about a million numbers."""
    step = max(1, _CELLS // width)
    return [slice(start, min(start + step, length)) for start in range(0, length, step)]


def _check_shape(shape: tuple[int, ...], name: str) -> None:
    if len(shape) != 2 or not 1 <= shape[1] <= MAX_DIM:
        raise ValueError(f"{name} must have shape (n, dim) with dim from 1 to {MAX_DIM}, got {shape}")

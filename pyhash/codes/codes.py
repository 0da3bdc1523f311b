"""Codes: levels, packing and unpacking, validation, and distances between two small sets."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

try:
    from . import _pack
except ImportError:  # not compiled: NumPy does the same, slower
    _pack = None  # type: ignore[assignment]

MAX_BITS = 65536

_UINT8 = np.dtype(np.uint8)
_UINT64 = np.dtype(np.uint64)
_Array = np.ndarray


class Levels(Mapping[str, int]):
    """Named granularities of a code: contiguous runs of its bits, in order.

    A mapping of name to bits that cannot be changed. It equals another mapping with the same names and bits in the same
    order, and a JSON object made of ``dict(levels)`` gives it back.

    Parameters
    ----------
    levels : mapping of str to int
        Bits of each level. With several levels each must be a whole number of bytes; all together 1 to 65536 bits.

    Raises
    ------
    TypeError, ValueError
        When it is not such a mapping.

    Examples
    --------
    >>> levels = Levels({"coarse": 16, "fine": 48})
    >>> levels.bits, levels["fine"], levels.byte_range("fine")
    (64, 48, slice(2, 8, None))
    """

    __slots__ = ("_bits", "_ranges")

    def __init__(self, levels: Mapping[str, int]) -> None:
        if not isinstance(levels, Mapping):
            raise TypeError(f"levels must be a mapping of name to bits, got {type(levels).__name__}")
        if not levels:
            raise ValueError("levels must name at least one level, got none")
        self._bits: dict[str, int] = {}
        self._ranges: dict[str, slice] = {}
        first = 0
        for name, value in levels.items():
            if not isinstance(name, str):
                raise TypeError(f"levels must have names that are str, got {name!r}")
            if not name:
                raise ValueError("levels must have names that are not empty, got ''")
            bits = check_int(value, f"levels[{name!r}]", 1)
            if bits % 8 and len(levels) > 1:
                raise ValueError(f"levels[{name!r}] must be a whole number of bytes (a multiple of 8 bits), got {bits}")
            self._bits[name] = bits
            self._ranges[name] = slice(first, first := first + (bits + 7) // 8)
        if self.bits > MAX_BITS:
            raise ValueError(f"levels must have at most {MAX_BITS} bits together, got {self.bits}")

    @classmethod
    def single(cls, bits: int) -> Levels:
        """Return the one level ``"code"`` of a plain code of `bits` bits, 1 to 65536."""
        return cls({"code": check_bits(bits)})

    @property
    def bits(self) -> int:
        """Bits of a whole code."""
        return sum(self._bits.values())

    @property
    def n_bytes(self) -> int:
        """Bytes of a whole code."""
        return (self.bits + 7) // 8

    def byte_range(self, name: str) -> slice:
        """Return which bytes of a code hold this level: ``codes[:, levels.byte_range(name)]`` is the level's codes."""
        return self._ranges[name]

    def __getitem__(self, name: str) -> int:
        return self._bits[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._bits)

    def __len__(self) -> int:
        return len(self._bits)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mapping):
            return NotImplemented
        return list(self.items()) == list(other.items())

    def __hash__(self) -> int:
        return hash(tuple(self.items()))

    def __repr__(self) -> str:
        return f"Levels({self._bits!r})"


def pack(features: ArrayLike, threshold: ArrayLike = 0.0) -> NDArray[np.uint8]:
    """Turn features into codes, one bit a column: ``bit = feature > threshold``.

    Parameters
    ----------
    features : array_like, (n, bits) or (bits,)
        float16, float32, float64, bool, or integers of at most 32 bits; any strides. Infinities are like other numbers.
    threshold : float or array_like of float, (bits,)
        One for all columns, or one a column; taken as float64. The comparison is exact, whatever the types.

    Returns
    -------
    ndarray of uint8, (n, ceil(bits / 8)), or (ceil(bits / 8),) for 1-D features
        Codes in the bit order of `numpy.packbits` (bit 0 is the most significant bit of byte 0), pad bits zero.

    Raises
    ------
    ValueError
        When features or threshold hold NaN, or do not have such a shape.
    TypeError
        When they are of another type (64-bit integers and extended precision do not fit in a float64).
    """
    rows = as_array(features, "features")
    single = rows.ndim == 1
    if not 1 <= rows.ndim <= 2:
        raise ValueError(f"features must be 1-D or 2-D, got {rows.ndim}-D")
    if single:
        rows = rows[None]
    bits = rows.shape[1]
    if not 1 <= bits <= MAX_BITS:
        raise ValueError(f"features must have 1 to {MAX_BITS} columns, got {bits}")
    rows = _comparable(rows)
    limits = _limits(threshold, bits, rows.dtype)
    codes = np.empty((len(rows), (bits + 7) // 8), dtype=np.uint8)
    if _pack is None:
        has_nan = rows.dtype.kind == "f" and bool(np.isnan(rows).any())
        if not has_nan:
            codes = np.packbits(rows > limits, axis=1)
    else:
        has_nan = _pack.pack(_bare(rows if rows.flags.aligned else rows.copy()), _bare(limits), codes)
    if has_nan:
        row, column = np.argwhere(np.isnan(rows))[0].tolist()
        raise ValueError(f"features must not contain NaN, got one in {'' if single else f'row {row}, '}column {column}")
    return codes[0] if single else codes


def unpack(codes: ArrayLike, bits: int) -> NDArray[np.uint8]:
    """Turn codes into one 0 or 1 a bit: what `pack` was given, where that was 0 and 1.

    Parameters
    ----------
    codes : array_like of uint8, (n, ceil(bits / 8)) or (ceil(bits / 8),)
        Packed codes, pad bits zero.
    bits : int
        Length of a code, 1 to 65536.

    Returns
    -------
    ndarray of uint8, (n, bits), or (bits,) for one code

    Raises
    ------
    ValueError, TypeError
        When codes are not codes of that length.
    """
    bits = check_bits(bits)
    rows = check_codes(codes, bits, "codes")
    if _pack is None:
        return np.unpackbits(rows, axis=-1, count=bits)
    unpacked = np.empty((*rows.shape[:-1], bits), dtype=np.uint8)
    _pack.unpack(np.atleast_2d(rows), np.atleast_2d(unpacked))
    return unpacked


def hamming(a: ArrayLike, b: ArrayLike, threads: int | None = None) -> Any:
    """Count the bits in which codes differ, every row of `a` with every row of `b`.

    Parameters
    ----------
    a : array_like of uint8, (m, n_bytes) or (n_bytes,)
        Packed codes.
    b : array_like of uint8, (n, n_bytes) or (n_bytes,)
        Packed codes of the same length.
    threads : int, optional
        The most threads to use; by default as many CPUs as this process may run on (or PYHASH_THREADS).

    Returns
    -------
    ndarray of int32, (m, n)
        Distances. A 1-D argument takes its dimension away: (n,), (m,), or for two codes one int32 number.

    Raises
    ------
    ValueError, TypeError
        When a or b are not codes, or not of the same length.
    """
    from .. import backend  # it needs the validators of this module

    left, right = _check_rows(a, "a"), _check_rows(b, "b")
    if left.shape[-1] != right.shape[-1]:
        raise ValueError(
            f"a and b must have the same number of bytes a code, got {left.shape[-1]} and {right.shape[-1]}"
        )
    n_threads = backend.threads(threads)
    words = to_words(np.atleast_2d(left)), to_words(np.atleast_2d(right))
    distances = backend.module().hamming(*words, n_threads)
    return distances[0 if left.ndim == 1 else slice(None), 0 if right.ndim == 1 else slice(None)]


# What other modules validate with: each returns its argument in the form that is worked on, or raises.


def check_int(value: object, name: str, minimum: int | None = None, maximum: int | None = None) -> int:
    """Return an integer (a NumPy one too, a bool not) as int; TypeError or ValueError names it as `name`."""
    if type(value) is not int:
        if isinstance(value, (bool, np.bool_)) or not hasattr(value, "__index__"):
            raise TypeError(f"{name} must be an integer, got {value!r}")
        try:
            value = operator.index(value)
        except TypeError:  # an array, but not one integer
            raise TypeError(f"{name} must be an integer, got {value!r}") from None
    if minimum is not None and value < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {value}")
    if maximum is not None and value > maximum:
        raise ValueError(f"{name} must be at most {maximum}, got {value}")
    return value


def as_array(value: ArrayLike, name: str) -> NDArray[Any]:
    """Return an array of what may be one; ValueError names it as `name` where lists in it differ in length."""
    try:
        return np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name} must be an array: {error}") from None


def check_bits(bits: object) -> int:
    """Return the length of a code in bits."""
    return check_int(bits, "bits", 1, MAX_BITS)


def check_codes(codes: ArrayLike, bits: int, name: str) -> NDArray[np.uint8]:
    """Return codes of `bits` bits as a C-contiguous array, 1-D or 2-D as they came."""
    # Every search comes through here, so the usual case takes few steps.
    array = codes if type(codes) is _Array else as_array(codes, name)
    shape = array.shape
    n_bytes = (bits + 7) >> 3
    if array.dtype is not _UINT8 or not 1 <= len(shape) <= 2 or shape[-1] != n_bytes:
        array = _check_rows(array, name)
        if array.shape[-1] != n_bytes:
            raise ValueError(f"{name} must have {n_bytes} bytes a code for {bits} bits, got {array.shape[-1]}")
    if bits & 7:
        mask = 255 >> (bits & 7)
        if len(shape) == 1:
            row = "" if array[-1] & mask else None
        else:
            padding = array[:, -1] & mask
            row = f" of row {int(np.flatnonzero(padding)[0])}" if padding.any() else None
        if row is not None:
            raise ValueError(
                f"{name} must have zeros in the {-bits & 7} pad bits after the {bits} of a code, "
                f"but the last byte{row} has not"
            )
    return array if array.flags.c_contiguous else np.ascontiguousarray(array)


def words_per_code(n_bytes: int) -> int:
    """Words of 8 bytes that hold a code of `n_bytes` bytes."""
    return (n_bytes + 7) // 8


def to_words(codes: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return contiguous codes `(n, n_bytes)` as words `(n, n_words)`, zero-padded; a view where their memory allows."""
    n, n_bytes = codes.shape
    if not n_bytes & 7:
        words = codes.view(_UINT64)
        return words if words.flags.aligned else words.copy()
    words = np.zeros((n, (n_bytes + 7) >> 3), dtype=np.uint64)
    words.view(np.uint8)[:, :n_bytes] = codes
    return words


def from_words(words: NDArray[np.uint64], n_bytes: int) -> NDArray[np.uint8]:
    """Return contiguous words `(n, n_words)` as codes `(n, n_bytes)`; a view where no padding is left out."""
    return np.ascontiguousarray(words.view(np.uint8)[:, :n_bytes])


def _check_rows(codes: ArrayLike, name: str) -> NDArray[np.uint8]:
    """Return codes of any length as a C-contiguous array, 1-D or 2-D."""
    array = as_array(codes, name)
    if array.dtype != _UINT8:
        raise TypeError(f"{name} must be packed codes of dtype uint8, got {array.dtype}")
    if not 1 <= array.ndim <= 2:
        raise ValueError(f"{name} must be 1-D or 2-D, got {array.ndim}-D")
    if not 1 <= array.shape[-1] <= MAX_BITS // 8:
        raise ValueError(f"{name} must have 1 to {MAX_BITS // 8} bytes a code, got {array.shape[-1]}")
    return np.ascontiguousarray(array)


def _comparable(features: NDArray[Any]) -> NDArray[Any]:
    """Return features in a type that is compared as it is: bool, 8-bit integer or float."""
    dtype = features.dtype
    if dtype.kind == "f" and dtype.itemsize <= 8:
        return features if dtype.isnative else features.astype(dtype.newbyteorder("="))
    if dtype.kind == "b" or (dtype.kind in "iu" and dtype.itemsize == 1):
        return features
    if dtype.kind in "iu" and dtype.itemsize <= 4:
        return features.astype(np.float64)
    raise TypeError(f"features must be float16, float32, float64, bool or integers of at most 32 bits, got {dtype}")


def _limits(threshold: ArrayLike, bits: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return limits, one or one a column, such that ``x > threshold`` is ``x > limit`` for every x of this type.

    For floats that is the nearest one of the same type that is not above the threshold; for integers an int16.
    """
    given = as_array(threshold, "threshold")
    if given.dtype.kind not in "fiub" or given.dtype.itemsize > 8:
        raise TypeError(f"threshold must be a number or an array of numbers (float64 at most), got {given.dtype}")
    if given.ndim and given.shape != (bits,):
        raise ValueError(f"threshold must be one number or one a column, ({bits},), got shape {given.shape}")
    exact = given.reshape(-1).astype(np.float64)
    nan = np.isnan(exact)
    if nan.any():
        where = f", got one in column {int(np.flatnonzero(nan)[0])}" if given.ndim else ""
        raise ValueError(f"threshold must not be NaN{where}")
    if dtype.kind != "f":
        return np.clip(np.floor(exact), -129, 255).astype(np.int16)
    with np.errstate(over="ignore"):
        limits: NDArray[Any] = exact.astype(dtype)
        above = limits > exact
        if above.any():
            limits = np.where(above, np.nextafter(limits, dtype.type(-np.inf)), limits)
    limits += dtype.type(0)  # turns -0 into 0, for float16 is compared as bits
    return limits


def _bare(array: NDArray[Any]) -> NDArray[Any]:
    """View what the buffer protocol or Cython has no type for as integers of the same size."""
    if array.dtype == np.float16:
        return array.view(np.uint16)
    return array.view(np.uint8) if array.dtype == np.bool_ else array

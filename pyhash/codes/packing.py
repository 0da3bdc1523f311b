"""Packing bits into codes and unpacking them; codes as words."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..support import memory
from .checks import MAX_BITS, as_array, check_bits, check_codes

try:
    from . import _pack
except ImportError:  # not compiled: NumPy does the same, slower
    _pack = None  # type: ignore[assignment]


_UINT8 = np.dtype(np.uint8)
_UINT64 = np.dtype(np.uint64)
_Array = np.ndarray


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
    n_bytes = len(rows) * ((bits + 7) // 8)
    as_floats = 8 * rows.size if rows.dtype.kind in "iu" and rows.dtype.itemsize > 1 else 0
    memory.ask(n_bytes + as_floats, "features must be fewer at a time", "%d codes of %d bits", len(rows), bits)
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


def use_packing(name: str) -> None:
    """Pack with instructions that the search kernel of this name may use; `pyhash.use` calls it."""
    if _pack is not None:
        _pack.use("auto" if name == "numba" else name)


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
    n = rows.size // rows.shape[-1]
    memory.ask(n * bits, "codes must be fewer at a time", "%d codes unpacked to %d bytes each", n, bits)
    if _pack is None:
        return np.unpackbits(rows, axis=-1, count=bits)
    unpacked = np.empty((*rows.shape[:-1], bits), dtype=np.uint8)
    _pack.unpack(np.atleast_2d(rows), np.atleast_2d(unpacked))
    return unpacked


def words_per_code(n_bytes: int) -> int:
    """Words of 8 bytes that hold a code of `n_bytes` bytes."""
    return (n_bytes + 7) // 8


def to_words(codes: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return contiguous codes `(n, n_bytes)` as words `(n, n_words)`, zero-padded; a view where their memory allows."""
    n, n_bytes = codes.shape
    if not n_bytes & 7:
        words = codes.view(_UINT64)
        return words if words.flags.aligned else words.copy()
    n_words = (n_bytes + 7) >> 3
    memory.ask(8 * n * n_words, "codes must be fewer at a time", "%d codes, padded to whole words,", n)
    words = np.zeros((n, n_words), dtype=np.uint64)
    words.view(np.uint8)[:, :n_bytes] = codes
    return words


def from_words(words: NDArray[np.uint64], n_bytes: int) -> NDArray[np.uint8]:
    """Return contiguous words `(n, n_words)` as codes `(n, n_bytes)`; a view where no padding is left out."""
    return np.ascontiguousarray(words.view(np.uint8)[:, :n_bytes])


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

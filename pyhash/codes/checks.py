"""What codes and arguments are validated with: each returns its argument in the form that is worked on, or raises."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

MAX_BITS = 65536

_UINT8 = np.dtype(np.uint8)
_Array = np.ndarray


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
        array = check_rows(array, name)
        if array.shape[-1] != n_bytes:
            hint = "; these look unpacked, so pyhash.pack them first" if array.shape[-1] == bits else ""
            raise ValueError(f"{name} must have {n_bytes} bytes a code for {bits} bits, got {array.shape[-1]}{hint}")
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


def check_rows(codes: ArrayLike, name: str) -> NDArray[np.uint8]:
    """Return codes of any length as a C-contiguous array, 1-D or 2-D."""
    array = as_array(codes, name)
    if array.dtype != _UINT8:
        raise TypeError(f"{name} must be packed codes of dtype uint8, got {array.dtype}{_cure(array)}")
    if not 1 <= array.ndim <= 2:
        raise ValueError(f"{name} must be 1-D or 2-D, got {array.ndim}-D")
    if not 1 <= array.shape[-1] <= MAX_BITS // 8:
        raise ValueError(f"{name} must have 1 to {MAX_BITS // 8} bytes a code, got {array.shape[-1]}")
    return np.ascontiguousarray(array)


def _cure(array: NDArray[Any]) -> str:
    """Say what makes codes of an array that holds something else, where that can be told."""
    if array.dtype.kind == "b":
        return "; these look unpacked, so pyhash.pack them first"
    if array.dtype.kind == "S":
        return "; of bytes np.frombuffer(..., np.uint8) makes codes"
    if array.dtype.kind in "iu" and array.size and array.min() >= 0 and array.max() <= 255:
        return "; of numbers from 0 to 255 np.array(..., np.uint8) makes codes"
    return ""

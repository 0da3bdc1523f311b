"""Threshold and pack rows of numbers into codes, and unpack them: the inner loops of `pyhash.codes`."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

def pack(rows: NDArray[Any], limits: NDArray[Any], codes: NDArray[np.uint8]) -> bool:
    """Set each bit of `codes` whose number is above its column's limit; return whether there is a NaN.

    rows: (n, bits) float32, float64, int8, uint8, or float16 viewed as uint16; any strides, aligned.
    limits: (bits,), or (1,) for all columns, of the type of `rows`; int16 for int8 and uint8. No float16 limit is -0.
    codes: (n, ceil(bits / 8)), written.
    """

def use(name: str) -> str:
    """Pack as the search kernel of this name may, or as fast as this CPU can ("auto"); return the kernel's name."""

def kernel() -> str:
    """Name the kernel in use."""

def unpack(codes: NDArray[np.uint8], bits: NDArray[np.uint8]) -> None:
    """Write each bit of the codes as one 0 or 1.

    codes: (n, n_bytes); bits: (n, up to 8 * n_bytes), written.
    """

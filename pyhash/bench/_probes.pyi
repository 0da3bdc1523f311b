"""The limits of this machine that a search can be compared with."""

import numpy as np
from numpy.typing import NDArray

from ..backend import Kernel

def read_words(words: NDArray[np.uint64]) -> int:
    """The exclusive or of all words, read as fast as memory allows one core."""

def scan_cached(kernel: Kernel, n_words: int, n_codes: int) -> int:
    """Measure at least `n_codes` codes that stay in cache: the limit of this compiled kernel's popcount scan."""

"""What goes into a gallery's file and what comes out of it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Identity(NamedTuple):
    """Whose codes a file holds."""

    name: str
    fingerprint: str
    levels: dict[str, int]
    opened: dict[str, Any] | None = None
    """How the encoder was opened, where that can be written down."""


class Record(NamedTuple):
    """What is stored of one image; the path is inside the folder, with forward slashes."""

    path: str
    size: int
    mtime_ns: int
    code: bytes | None
    error: str | None


class Known(NamedTuple):
    """What a stored image was when it was last looked at."""

    id: int
    size: int
    mtime_ns: int
    error: str | None
    has_code: bool


class Counts(NamedTuple):
    """How many images can be searched, are known to be bad, and wait to be encoded."""

    images: int
    failed: int
    waiting: int


class Rows(NamedTuple):
    """Rows to search, by ascending id."""

    ids: NDArray[np.int64]
    codes: NDArray[np.uint8]
    """``(n, n_bytes)``."""
    paths: list[bytes]
    """Of their images, inside the folder, as the file system encodes them."""


class Difference(NamedTuple):
    """What became of the rows since an earlier revision."""

    rows: Rows
    """Those that are new or changed."""
    gone: NDArray[np.int64]
    """Ids of those that can no longer be searched, or never could."""

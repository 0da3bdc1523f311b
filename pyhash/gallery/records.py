"""What goes into a gallery's file and what comes out of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..images import Part

NEIGHBOURS = 10
"""So many are kept of each row."""


class Identity(NamedTuple):
    """Whose codes a file holds."""

    name: str
    fingerprint: str
    """Of the network up to the embedding where the encoder tells its parts apart, else of all of it."""
    levels: dict[str, int]
    opened: dict[str, Any] | None = None
    """How the encoder was opened, where that can be written down."""
    decoder: str | None = None
    """Fingerprint of what makes pixels of files; None where the parts are not told apart."""
    head: str = ""
    """Fingerprint of the encoder's own head."""
    whole: str = ""
    """Fingerprint of all of it."""
    by_labels: bool = False
    """Whether its head was fitted with labels, so that its codes know more than its embeddings."""

    @property
    def built_in(self) -> str | None:
        """Which encoder of those that come with pyhash this is; None for any other."""
        if self.opened is None or self.opened["model"] not in (None, "small"):
            return None
        return str(self.opened["model"] or "default")


class Wishes(NamedTuple):
    """What the user wants a gallery to be."""

    adapt: bool = True
    """Whether a head is fitted on the collection."""
    embeddings: bool = True
    """Whether embeddings are kept."""
    levels: dict[str, int] | None = None
    """Of the codes; None: those of the encoder."""
    exclude: Sequence[str] = ()
    """Patterns of what is left out of the folder."""
    min_size: int = 0
    """Images whose files have fewer bytes are left out, too."""
    turned: bool = False
    """Whether images are looked at mirrored and turned, too."""
    tiles: Sequence[int] = ()
    """Rows and columns of the tiles that images are looked at in, too; empty for none."""
    thumbnails: bool = True
    """Whether small JPEGs of images are kept."""

    @property
    def groups(self) -> set[str]:
        """Which groups of parts every image has; boxes are given for some."""
        turned = {"turned"} if self.turned else set()
        return turned | ({"tile {}x{}".format(*self.tiles)} if self.tiles else set())


class Embedding(NamedTuple):
    """One image's embedding, as it is stored."""

    vector: bytes
    """int8; the embedding is this, brought to the norm."""
    norm: float


class PartRecord(NamedTuple):
    """What is stored of a part of an image."""

    group: str
    """Its kind, and what there is to it, as `part_tables` tells."""
    part: Part
    code: bytes | None = None
    embedding: Embedding | None = None


class Record(NamedTuple):
    """What is stored of one image; the path is inside the folder, with forward slashes."""

    path: str
    size: int
    mtime_ns: int
    code: bytes | None
    error: str | None
    embedding: Embedding | None = None
    digest: bytes | None = None
    """Of the file's bytes."""
    reader: str | None = None
    """What read or refused it."""
    look: tuple[bytes, bytes] | None = None
    """Blocks of coefficients, and the image in grey, small."""
    thumbnail: bytes | None = None
    ctime_ns: int | None = None
    inode: int | None = None
    parts: Sequence[PartRecord] = ()


class Known(NamedTuple):
    """What a stored image was when it was last looked at."""

    id: int
    size: int
    mtime_ns: int
    error: str | None
    has_code: bool
    has_embedding: bool
    reader: str | None
    ctime_ns: int | None = None
    inode: int | None = None
    digest: bytes | None = None


class Counts(NamedTuple):
    """How many images can be searched, are known to be bad, and wait to be encoded."""

    images: int
    failed: int
    waiting: int
    rows: int
    """That can be searched: of wholes and of parts."""


class Rows(NamedTuple):
    """Rows to search, by ascending id."""

    ids: NDArray[np.int64]
    codes: NDArray[np.uint8]
    """``(n, n_bytes)``."""
    images: NDArray[np.int64]
    """Those of the rows that are wholes."""
    paths: list[bytes]
    """Of these images, inside the folder, as the file system encodes them."""


class Difference(NamedTuple):
    """What became of the rows since an earlier revision."""

    rows: Rows
    """Those that are new or changed."""
    gone: NDArray[np.int64]
    """Ids of those that can no longer be searched, or never could."""


class Embeddings(NamedTuple):
    """Embeddings of rows, by ascending id, each a vector brought to its norm."""

    ids: NDArray[np.int64]
    vectors: NDArray[np.int8]
    """``(n, dim)``."""
    norms: NDArray[np.float32]


class Lists(NamedTuple):
    """The neighbours of rows, by ascending id."""

    ids: NDArray[np.int64]
    near: NDArray[np.int64]
    """``(n, k)``: ids of rows, -1 where there are fewer."""
    weights: NDArray[np.float32]


class StoredHead(NamedTuple):
    """The head whose codes are searched."""

    id: int
    matrix: bytes | None
    """None: the encoder's own."""
    fitted_on: int
    levels: dict[str, int]

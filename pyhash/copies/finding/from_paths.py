"""Copies among files that no gallery knows."""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...errors import ImageError
from ...images import THUMBNAIL_SIDE, PixelBudget, opened, walk
from ...support import machine
from ..values import Duplicates, Uncompared
from .find import Progress, find
from .stock import Stock

__all__ = ["duplicates"]

PathLike = str | os.PathLike[str]

_NEAR = 10
_ROWS = 1024
_AT_ONCE = 64


def duplicates(
    paths: PathLike | Iterable[PathLike],
    *,
    turned: bool = False,
    cropped: bool = False,
    similar: bool = False,
    against: PathLike | Iterable[PathLike] | None = None,
    embeddings: ArrayLike | None = None,
    progress: Progress | None = None,
) -> Duplicates:
    """Find the copies among image files: recompressed, resized, brighter or darker, grey, marked, with a border,
    cropped by up to 5 % of each edge, or within a screenshot.

    Candidates are images whose looks are near one another; each pair is then proved on the images themselves: placed on
    one another, and compared wherever both overlap. Nothing is taken for a copy because both are blank, or share a
    frame. Each file is decoded once to be looked at, and those of groups once more.

    Without `embeddings` some copies are no candidates where there are more than 500 images: nearly none that were
    cropped further, and some of those cropped by 5 % at one corner. A gallery knows which images are like one another,
    and finds those, too (`Gallery.duplicates`).

    Parameters
    ----------
    paths : path or sequence of paths
        Of image files, and of folders, whose images are meant. A file with several names is one image.
    turned : bool
        Find those that were mirrored, or turned by 90, 180 or 270 degrees, too.
    cropped : bool
        Find parts cut out of an image, of a fifth of it or more, too.
    similar : bool
        Add groups of images that are alike, and were not proved to be copies; their `Group.level` is ``"similar"``.
    against : path or sequence of paths, optional
        Find copies of these images among `paths`, and nothing else; each of their groups holds images of both sides.
    embeddings : array-like, shape (n, dim), optional
        Embeddings of the images of `paths`, then of those of `against`, where all are files (`Encoder.embed` makes
        them): the ten nearest of each image become candidates, too.
    progress : callable, optional
        Called with (images read, images), then with (pairs compared, pairs), several times.

    Returns
    -------
    Duplicates
        Groups, each with the best image first and the reason for that; what could not be compared.

    Raises
    ------
    ValueError
        When there are not as many embeddings as paths.

    Examples
    --------
    >>> found = pyhash.duplicates("photos")                                             # doctest: +SKIP
    >>> [[copy.path for copy in group.images] for group in found.groups]                # doctest: +SKIP
    """
    mine, failed = _files(paths)
    theirs, more = _files(() if against is None else against)
    listed = mine + theirs
    vectors = None if embeddings is None else np.asarray(embeddings, np.float32)
    if vectors is not None and (vectors.ndim != 2 or len(vectors) != len(listed)):
        raise ValueError(
            f"embeddings must be as many rows as there are files, {len(listed):,}, got an array of shape "
            f"{vectors.shape}; folders among paths cannot be given with embeddings"
        )
    with tempfile.TemporaryFile() as file:
        kept = _Thumbnails(file)
        read: list[_Read] = []
        places: list[int] = []
        one_file: set[tuple[int, int]] = set()
        for number, seen in enumerate(_read_all(listed)):
            if isinstance(seen, ImageError):
                failed.append(Uncompared(listed[number], seen.reason))
            elif seen.inode not in one_file:
                one_file.add(seen.inode)
                places.append(number)
                kept.add(seen.thumbnail)
                read.append(seen._replace(thumbnail=b""))
            if progress is not None:
                progress(number + 1, len(listed))
        stock = Stock(
            path=lambda place: listed[places[place]],
            n_bytes=np.array([one.n_bytes for one in read], np.int64),
            mtime_ns=np.array([one.mtime_ns for one in read], np.int64),
            digests=[one.digest for one in read],
            blocks=np.stack([one.blocks for one in read]) if read else np.empty((0, 2, 8, 8), np.int16),
            thumbnail=kept.of,
            near=None if vectors is None else _nearest(vectors[places]),
            reference=None if against is None else np.array(places, np.int64) >= len(mine),
        )
        found = find(stock, turned=turned, cropped=cropped, similar=similar, progress=progress)
    return found._replace(uncompared=tuple(sorted([*failed, *more, *found.uncompared])))


class _Read(NamedTuple):
    inode: tuple[int, int]
    n_bytes: int
    mtime_ns: int
    digest: bytes
    blocks: NDArray[np.int16]
    thumbnail: bytes


class _Thumbnails:
    """Thumbnails in a temporary file."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._ends = [0]
        self._lock = threading.Lock()

    def add(self, thumbnail: bytes) -> None:
        self._file.write(thumbnail)
        self._ends.append(self._ends[-1] + len(thumbnail))

    def of(self, place: int) -> bytes:
        with self._lock:
            self._file.seek(self._ends[place])
            return self._file.read(self._ends[place + 1] - self._ends[place])


def _files(paths: PathLike | Iterable[PathLike]) -> tuple[list[str], list[Uncompared]]:
    """Return the files that are meant, in their order, and folders that could not be read."""
    listed: list[str] = []
    failed: list[Uncompared] = []
    for path in [paths] if isinstance(paths, (str, os.PathLike)) else paths:
        if os.path.isdir(path):
            found = walk(path)
            listed += [os.path.join(path, image.path) for image in found.images]
            failed += [Uncompared(error.path, error.reason) for error in found.failed]
        else:
            listed.append(os.fspath(path))
    return listed, failed


def _read_all(paths: Sequence[str]) -> Iterator[_Read | ImageError]:
    budget = PixelBudget()

    def read(path: str) -> _Read | ImageError:
        try:
            return _read(path, budget)
        except ImageError as error:
            return error

    waiting = iter(paths)
    with ThreadPoolExecutor(machine.cpus()) as pool:
        while some := [*islice(waiting, _AT_ONCE)]:
            yield from pool.map(read, some)


def _read(path: str, budget: PixelBudget) -> _Read:
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).digest()
    except OSError as error:
        raise ImageError(path, (error.strerror or str(error)).lower()) from error
    with opened(path, at_least=THUMBNAIL_SIDE, budget=budget) as image:
        blocks, thumbnail = image.look().blocks, image.thumbnail()
    return _Read((status.st_dev, status.st_ino), status.st_size, status.st_mtime_ns, digest, blocks, thumbnail)


def _nearest(vectors: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the places of the nearest vectors of each, by the cosine."""
    n = len(vectors)
    count = min(_NEAR, n - 1)
    if count < 1:
        return np.full((n, 1), -1, np.int64)
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    near = np.empty((n, count), np.int64)
    for start in range(0, n, _ROWS):
        cosines = vectors[start : start + _ROWS] @ vectors.T
        rows = np.arange(len(cosines))
        cosines[rows, start + rows] = -2
        near[start : start + _ROWS] = np.argpartition(-cosines, count - 1, axis=1)[:, :count]
    return near

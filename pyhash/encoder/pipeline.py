"""The one way from sources to rows: decoded, prepared, run through a network, in order and in bounded memory.

An image is worked on by one thread from file to row, and as many threads do so as there are CPUs. A
convolutional network gains little from large batches, and loses when several threads share one image;
this way no CPU ever waits for another. Only an image that comes alone, to a network for large ones, is run
on all CPUs at once.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice, repeat
from typing import Any, Generic, Literal, TypeAlias, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from .. import backend
from ..errors import ImageError
from ..images import Look, Part, PixelBudget, Source, Views, name_of
from ..networks import Preparation
from ..support import machine, require

__all__ = ["Compute", "OnError", "Pipeline", "Row", "finite", "gathered", "usable_threads"]

T = TypeVar("T")
A = TypeVar("A", bound=NDArray[Any])
OnError: TypeAlias = Literal["raise"] | Callable[[ImageError], object]
Compute: TypeAlias = Callable[[NDArray[np.uint8], int], Iterable[T | None]]
"""What makes a value of each image: of pixels (n, height, width, 3), on so many threads. None says that it cannot."""

_Job: TypeAlias = tuple[Source, Views]
_WHOLE = Views()
# A network for smaller images is done before a second thread has woken.
_SHARED_PIXELS = 128 * 128


def usable_threads(threads: int | None) -> int:
    """Return how many threads to use: those asked for, what PYHASH_THREADS says, or the CPUs of this process."""
    return backend.threads(threads) or machine.cpus()


@dataclass(frozen=True)
class Row(Generic[T]):
    """A source with what was made of it, or with what is wrong with it."""

    source: Source
    value: T | None
    error: ImageError | None
    look: Look | None = None
    thumbnail: bytes | None = None
    parts: Sequence[tuple[Part, T | None]] = ()


class Pipeline(Generic[T]):
    """Takes images from their sources to values.

    Parameters
    ----------
    preparation : Preparation
        How they are loaded.
    compute : callable
        Makes a value of each image: of pixels (n, height, width, 3), on so many threads.
    chunk : int
        Images that a thread takes at a time.
    threads : int
        Threads to use.
    looks : bool
        Whether looks and thumbnails are made too, of the same decoding.
    """

    def __init__(
        self, preparation: Preparation, compute: Compute[T], chunk: int, threads: int, *, looks: bool = False
    ) -> None:
        self.preparation = preparation
        self._compute = compute
        self._chunk = chunk
        self._threads = threads
        self._looks = looks

    def one(self, source: Source) -> Row[T]:
        """Return the row of a single image, which all threads share if it is large."""
        threads = self._threads if math.prod(self.preparation.shape) >= _SHARED_PIXELS else 1
        return self._run([(source, _WHOLE)], self._budget(), threads)[0]

    def rows(
        self, sources: Iterable[Source], n: int | None = None, views: Iterable[Views] | None = None
    ) -> Generator[Row[T]]:
        """Yield the rows of images, in order.

        Parameters
        ----------
        sources : iterable of images
            Taken only a little ahead of what has been given back.
        n : int, optional
            How many there are, where that is known: then chunks are such that every thread gets some.
        views : iterable of Views, optional
            What parts of each are looked at, too.
        """
        chunk = self._chunk if n is None else max(1, min(self._chunk, math.ceil(n / self._threads)))
        remaining = zip(sources, repeat(_WHOLE) if views is None else views, strict=views is not None)
        budget = self._budget()
        chunks = iter(lambda: list(islice(remaining, chunk)), [])
        if self._threads == 1:
            for part in chunks:
                yield from self._run(part, budget)
            return
        pool = ThreadPoolExecutor(self._threads, "pyhash-encode")
        pending: deque[Future[list[Row[T]]]] = deque()
        try:
            for part in chunks:
                pending.append(pool.submit(self._run, part, budget))
                if len(pending) > 2 * self._threads:
                    yield from pending.popleft().result()
            while pending:
                yield from pending.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _budget(self) -> PixelBudget:
        return PixelBudget(self.preparation.max_pixels)

    def _run(self, chunk: list[_Job], budget: PixelBudget, threads: int = 1) -> list[Row[T]]:
        """Work on a few images in the calling thread."""
        size = len(chunk) if all(views == _WHOLE for _, views in chunk) else self._chunk
        batch = _Batch(self._compute, np.empty((size, *self.preparation.shape, 3), np.uint8), threads)
        found: list[tuple[Row[T], int, list[tuple[Part, int]]]] = []
        for source, views in chunk:
            try:
                with self.preparation.opened(source, budget, views) as image:
                    place = batch.add(self.preparation.pixels(image))
                    look, thumbnail = (image.look(), image.thumbnail()) if self._looks else (None, None)
                    parts = [(part, batch.add(self.preparation.pixels(cut))) for part, cut in image.parts()]
                found.append((Row(source, None, None, look, thumbnail), place, parts))
            except ImageError as error:
                found.append((Row(source, None, error), -1, []))
        values = batch.finish()
        return [
            row if row.error is not None else _valued(row, values[place], [(part, values[n]) for part, n in parts])
            for row, place, parts in found
        ]


class _Batch(Generic[T]):
    """Pixels that are computed on as soon as so many have come together, however many parts an image has."""

    def __init__(self, compute: Compute[T], pixels: NDArray[np.uint8], threads: int) -> None:
        self._compute, self._pixels, self._threads = compute, pixels, threads
        self._n = 0
        self._values: list[T | None] = []

    def add(self, pixels: NDArray[np.uint8]) -> int:
        """Add an image; return the place that its value will have."""
        if self._n == len(self._pixels):
            self._flush()
        self._pixels[self._n] = pixels
        self._n += 1
        return len(self._values) + self._n - 1

    def finish(self) -> list[T | None]:
        """Return the values of all."""
        self._flush()
        return self._values

    def _flush(self) -> None:
        if self._n:
            self._values.extend(self._compute(self._pixels[: self._n], self._threads))  # may be an array
        self._n = 0


def _valued(row: Row[T], value: T | None, parts: list[tuple[Part, T | None]]) -> Row[T]:
    """Return a row with its value, or with what is wrong where the network could make none."""
    if value is not None:
        return replace(row, value=value, parts=parts)
    reason = "the network gives NaN or infinity for this image; check how images are prepared (preprocess)"
    return replace(row, error=ImageError(name_of(row.source), reason))


def finite(
    parts: Sequence[NDArray[np.floating[Any]]], finish: Callable[[list[NDArray[Any]]], Iterable[T]]
) -> list[T | None]:
    """Make a value of each image whose numbers are numbers.

    Parameters
    ----------
    parts : sequence of float arrays, each of shape (n, columns)
        What a network gives for images, output by output.
    finish : callable
        Makes their values of the rows that are left.
    """
    usable = np.logical_and.reduce([np.isfinite(part).all(axis=1) for part in parts])
    values = iter(finish([part if usable.all() else part[usable] for part in parts]) if usable.any() else ())
    return [next(values) if good else None for good in usable]


def gathered(pipeline: Pipeline[A], images: Any, on_error: OnError, nothing: A) -> A:
    """Return the rows of all images that can be read as one array, or the row of a single one."""
    if on_error != "raise" and not callable(on_error):
        raise ValueError(f"on_error must be 'raise' or a function, got {on_error!r}")
    alone = _is_image(images)
    sources = [images] if alone else list(images)
    rows = []
    for index, row in enumerate([pipeline.one(images)] if alone else pipeline.rows(sources, len(sources))):
        if row.value is not None:
            rows.append(row.value)
        if row.error is not None:
            row.error.index = None if alone else index
            if not callable(on_error):
                raise row.error
            on_error(row.error)
    if not rows:
        return nothing
    return rows[0] if alone else cast(A, np.stack(rows))


def _is_image(images: Any) -> bool:
    """Whether this is one image, and not several."""
    if isinstance(images, np.ndarray):
        return images.ndim != 4
    if isinstance(images, (str, os.PathLike, bytes, bytearray, memoryview, require("PIL.Image", "encoder").Image)):
        return True
    if not isinstance(images, Iterable):
        raise TypeError(f"images must be an image or an iterable of images, got {type(images).__name__}")
    return False

"""The one way from sources to rows: decoded, prepared, run through a network, in order and in bounded memory.

An image is worked on by one thread from file to row, and as many threads do so as there are CPUs. A
convolutional network gains little from large batches, and loses when several threads share one image;
this way no CPU ever waits for another. Only an image that comes alone, to a network for large ones, is run
on all CPUs at once.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from .. import backend
from ..errors import ImageError
from ..images import PixelBudget, Source
from ..networks import Preparation
from ..support import machine

__all__ = ["Compute", "Pipeline", "Row", "usable_threads"]

T = TypeVar("T")
Compute: TypeAlias = Callable[[NDArray[np.uint8], int], Iterable[T]]
"""What makes a value of each image: of pixels (n, height, width, 3), on so many threads."""

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
    """

    def __init__(self, preparation: Preparation, compute: Compute[T], chunk: int, threads: int) -> None:
        self.preparation = preparation
        self._compute = compute
        self._chunk = chunk
        self._threads = threads

    def one(self, source: Source) -> Row[T]:
        """Return the row of a single image, which all threads share if it is large."""
        threads = self._threads if math.prod(self.preparation.shape) >= _SHARED_PIXELS else 1
        return self._run([source], self._budget(), threads)[0]

    def rows(self, sources: Iterable[Source], n: int | None = None) -> Generator[Row[T]]:
        """Yield the rows of images, in order.

        Parameters
        ----------
        sources : iterable of images
            Taken only a little ahead of what has been given back.
        n : int, optional
            How many there are, where that is known: then chunks are such that every thread gets some.
        """
        chunk = self._chunk if n is None else max(1, min(self._chunk, math.ceil(n / self._threads)))
        remaining, budget = iter(sources), self._budget()
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

    def _run(self, sources: list[Source], budget: PixelBudget, threads: int = 1) -> list[Row[T]]:
        """Work on a few images in the calling thread."""
        pixels = np.empty((len(sources), *self.preparation.shape, 3), np.uint8)
        failed: dict[int, ImageError] = {}
        for at, source in enumerate(sources):
            try:
                pixels[at - len(failed)] = self.preparation.load(source, budget)
            except ImageError as error:
                failed[at] = error
        n_good = len(sources) - len(failed)
        values = iter(self._compute(pixels[:n_good], threads) if n_good else ())
        return [
            Row(source, None, failed[at]) if at in failed else Row(source, next(values), None)
            for at, source in enumerate(sources)
        ]

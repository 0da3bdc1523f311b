"""The copies of one image among others, a few."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from ...images import Source
from ..values import Copy
from .groups import Grouping
from .prover import Prover
from .stock import Stock

__all__ = ["copies_of", "proving"]


def copies_of(
    source: Source, thumbnail: bytes, digest: bytes | None, stock: Stock, *, turned: bool = False, cropped: bool = False
) -> list[Copy]:
    """Return which images of a stock are copies of one, and what they are to it, the surest first.

    Parameters
    ----------
    source : path, bytes, PIL image or array
    thumbnail : bytes
        Of it.
    digest : bytes, optional
        Of its bytes.
    stock : Stock
        Those that may be its copies, a few.
    """
    n = len(stock)

    def path(place: int) -> str:
        return "the image" if place == n else stock.path(place)

    both = replace(
        stock,
        path=path,
        n_bytes=np.append(stock.n_bytes, 0),
        mtime_ns=np.append(stock.mtime_ns, 0),
        digests=[*stock.digests, digest],
        thumbnail=lambda place: thumbnail if place == n else stock.thumbnail(place),
        given={n: source},
    )
    with Prover(both, turned=turned, cropped=cropped).working() as prover:
        outcomes = prover.prove(n, range(n), [-1] * n)
        proofs = {(n, place): outcome.proof for place, outcome in outcomes.items() if outcome.proof is not None}
        same = [place for place in range(n) if digest is not None and stock.digests[place] == digest]
        grouping = Grouping(both, prover, proofs)
        found = grouping.looked_at(sorted({n, *same, *(place for _, place in proofs)}))
        return [copy for _, copy in grouping.beside(n, found)]


@contextmanager
def proving(stock: Stock) -> Iterator[Callable[[int, Sequence[int]], list[int]]]:
    """Give a function that returns which images, by their places, were proved to be copies of one."""
    told_apart = {(one, other) for pair in stock.apart.tolist() for one, other in (pair, pair[::-1])}
    with Prover(stock, turned=False, cropped=False).working() as prover:

        def proved(one: int, others: Sequence[int]) -> list[int]:
            asked = [other for other in others if (one, other) not in told_apart]
            digest = stock.digests[one]
            same = [other for other in asked if digest is not None and stock.digests[other] == digest]
            rest = [other for other in asked if other not in same]
            outcomes = prover.prove(one, rest, [-1] * len(rest))
            return same + [other for other, outcome in outcomes.items() if outcome.proof is not None]

        yield proved

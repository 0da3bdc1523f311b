"""The copies of one image among others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...images import Source
from ..values import Copy
from .groups import Grouping
from .prover import Prover
from .stock import Stock

__all__ = ["copies_of"]


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

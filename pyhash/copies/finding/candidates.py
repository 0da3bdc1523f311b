"""Pairs of images that may be copies: by their looks, and those that are like one another anyway."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...images import look_codes, turned
from ...index import Index
from ...support import machine
from .stock import Stock

__all__ = ["Candidates", "blank", "by_looks", "by_neighbours", "by_pictures", "codes_of"]

Places = NDArray[np.int64]

RADIUS = 12
"""Bits of 64 in which looks of copies differ at most: of 200 photographs changed in 18 ways that leave them upright and
whole, all but some of those with marks; of 5.5 million different pairs 268 differ in as few."""
_TURNS = range(1, 7)
"""Ways to mirror and turn one of two images: the seventh is the fifth of the other one."""
_ROWS = 1 << 15
_FEW = 500
_FLAT = 32
"""Grey levels of a look, all frequencies together: what has less is blank, and looks like all that is blank."""


class Candidates(NamedTuple):
    """Pairs, those first that are the most alike."""

    one: Places
    other: Places
    turn: NDArray[np.int8]
    """How the one is turned to be compared: a way of `images.turned`, -1 where none is known."""


def by_looks(stock: Stock, places: Places, *, turns: bool) -> Iterator[Candidates]:
    """Yield the pairs of images whose looks are near one another, many at a time.

    Both looks of an image, that of the whole and that without its border, are compared with both of another.
    """
    blocks, n = stock.blocks[places], len(places)
    at = _with_looks(blocks)
    if not len(at):
        return
    index = _index(blocks, at)
    for found in index.pairs(RADIUS, blocks=True):
        yield _candidates(stock, places[found.i % n], places[found.j % n], found.distances, 0)
    for turn in _TURNS if turns else ():
        parts = [turned(blocks[k : k + _ROWS])[:, :, turn] for k in range(0, len(blocks), _ROWS)]
        other = _index(np.concatenate(parts), at)
        for found in other.pairs(RADIUS, other=index, blocks=True):
            yield _candidates(stock, places[found.i % n], places[found.j % n], found.distances, turn)


def by_pictures(stock: Stock, places: Places, pictures: Callable[[int], NDArray[np.uint8]]) -> Candidates:
    """Return the pairs of an image in which a picture lies, and one whose look is near that of the picture.

    Parameters
    ----------
    pictures : callable
        Gives the codes of the looks of pictures inside an image, ``(n, 8)``; several threads ask.
    """
    with ThreadPoolExecutor(machine.cpus()) as pool:
        found = [*pool.map(pictures, places.tolist())]
    blocks = stock.blocks[places]
    at = _with_looks(blocks)
    owner = np.repeat(places, [len(codes) for codes in found])
    if not len(owner) or not len(at):
        return _as_candidates(np.empty((0, 2), np.int64), 0)
    inner = Index(bits=64)
    inner.add(np.concatenate(found))
    near = inner.pairs(RADIUS, other=_index(blocks, at))
    return _candidates(stock, owner[near.i], places[near.j % len(places)], near.distances, 0)


def codes_of(blocks: NDArray[np.int16]) -> NDArray[np.uint8]:
    """Return the codes of looks ``(n, 2, 8, 8)`` in which there is something to see, ``(m, 8)``."""
    codes = look_codes(blocks)[_seen(blocks)] if len(blocks) else np.empty((0, 8), np.uint8)
    return np.unique(codes, axis=0)


def blank(stock: Stock, places: Places) -> list[list[int]]:
    """Return the images in which nothing is to be seen, those together that may have the same pixels."""
    flat = places[~_seen(stock.blocks[places]).any(axis=1)]
    alike: dict[bytes, list[int]] = defaultdict(list)
    for place in flat.tolist():
        alike[stock.blocks[place].tobytes()].append(place)
    return [some for some in alike.values() if len(some) > 1]


def _seen(blocks: NDArray[np.int16]) -> NDArray[np.bool_]:
    """Whether there is something to see: of the whole images, and of them without borders."""
    squares = blocks.astype(np.float32) ** 2
    varying = np.sqrt(squares.sum(axis=(2, 3)) - squares[..., 0, 0])
    seen: NDArray[np.bool_] = varying > 4 * _FLAT
    return seen


def by_neighbours(stock: Stock, places: Places) -> Candidates:
    """Return the pairs of images that are listed as like one another; all pairs of few, where nothing is listed."""
    if stock.near is None and len(places) <= _FEW:
        pairs = np.stack(np.triu_indices(len(places), 1), axis=1)
        pairs = places[pairs]
        return _as_candidates(pairs[_wanted(stock, pairs)], -1)
    if stock.near is None:
        return _as_candidates(np.empty((0, 2), np.int64), -1)
    known = np.zeros(len(stock) + 1, np.bool_)
    known[places] = True
    near = stock.near[places]
    pairs = np.stack([np.repeat(places, near.shape[1]), near.ravel()], axis=1)
    pairs = pairs[(pairs[:, 1] >= 0) & known[pairs[:, 1]] & (pairs[:, 0] != pairs[:, 1])]
    pairs = np.unique(np.sort(pairs, axis=1), axis=0)
    return _as_candidates(pairs[_wanted(stock, pairs)], -1)


def _with_looks(blocks: NDArray[np.int16]) -> Places:
    """Where there is something to see: of the whole images, and n farther on of them without borders."""
    seen = _seen(blocks)
    return np.concatenate([np.flatnonzero(seen[:, 0]), len(blocks) + np.flatnonzero(seen[:, 1])])


def _index(blocks: NDArray[np.int16], at: Places) -> Index:
    """The looks of whole images under their places, those without borders n farther on."""
    n = len(blocks)
    index = Index(bits=64)
    index.add(look_codes(blocks[at % n, at // n]), ids=at)
    return index


def _candidates(stock: Stock, one: Places, other: Places, distances: NDArray[np.int32], turn: int) -> Candidates:
    """Return each of some pairs once that is to be compared, the nearest first."""
    pairs = np.stack([one, other], axis=1)[np.argsort(distances, kind="stable")]
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    pairs = np.sort(pairs, axis=1) if turn == 0 else pairs
    _, first = np.unique(pairs, axis=0, return_index=True)
    pairs = pairs[np.sort(first)]
    return _as_candidates(pairs[_wanted(stock, pairs)], turn)


def _as_candidates(pairs: Places, turn: int) -> Candidates:
    return Candidates(pairs[:, 0], pairs[:, 1], np.full(len(pairs), turn, np.int8))


def _wanted(stock: Stock, pairs: Places) -> NDArray[np.bool_]:
    """Which pairs are to be compared: where some are there to be searched against, one of these and one other."""
    if stock.reference is None:
        return np.ones(len(pairs), np.bool_)
    wanted: NDArray[np.bool_] = stock.reference[pairs[:, 0]] != stock.reference[pairs[:, 1]]
    return wanted

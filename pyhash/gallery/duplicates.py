"""Near-duplicates: groups of codes that are near one another, and of images that look the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..backend import hamming
from ..errors import ImageError
from ..images import PixelBudget, load
from ..index import Index
from ..support import machine
from .update import Progress

_Slots = NDArray[np.intp]
_Pairs = Iterator[tuple[_Slots, _Slots]]
_Near = Callable[[_Slots], _Pairs]

_SIDE = 16
_NOISE = 3.0  # levels of brightness: contrast below it says nothing
# Of 3,068 photographs of clothes, copies recompressed at JPEG quality 20 to 70, reduced to a third, or made 0.7 to 1.2
# times as bright correlate with the original by 0.968 or more; of 4.7 million pairs of different ones, 11 reach 0.97.
_SAME = 0.97
_ROWS = 1024


class Group(NamedTuple):
    """Near-duplicates: the smallest id, then the others by their distance to it and id."""

    ids: NDArray[np.int64]
    distances: NDArray[np.int32]
    """To the code of the first."""


def default_radius(bits: int) -> int:
    """Return in how many bits the codes of near-duplicates may differ, unless the user says: a tenth of all."""
    return bits // 10


def codes_of(index: Index, ids: NDArray[np.int64], level: str | None) -> NDArray[np.uint8]:
    """Return the codes of ids, or what they are at a level."""
    codes = index.codes(ids)
    return codes if level is None else np.ascontiguousarray(codes[:, index.levels.byte_range(level)])


def near_codes(index: Index, ids: NDArray[np.int64], radius: int, level: str | None) -> list[Group]:
    """Group the codes of ascending ids: any two that differ in at most `radius` bits, at a level, are in one group.

    Returns the groups of two or more, by their smallest ids.
    """
    codes, whole = codes_of(index, ids, level), index.codes(ids)

    def near(first: _Slots) -> _Pairs:
        where = None if len(first) == len(index) else ids[first]
        # Not `Index.pairs`: codes of alike things can be so alike that all the pairs do not fit in memory at once.
        for start in range(0, len(first), _ROWS):
            offsets, _, found = index.range_search(
                whole[first[start : start + _ROWS]], radius, where=where, level=level
            )
            rows = np.repeat(np.arange(start, start + len(offsets) - 1), np.diff(offsets))
            yield rows, np.searchsorted(first, np.searchsorted(ids, found))

    return [_by_distance(ids[slots], codes[slots]) for slots in _groups(codes, near)]


def same_looks(
    index: Index, groups: list[Group], paths: dict[int, str], level: str | None, progress: Progress | None
) -> list[Group]:
    """Part groups by what the images look like; `paths` are those of all ids. What cannot be read is in no group.

    Two look the same when their pixels correlate: brightness and contrast do not matter, position does.
    """
    looks: dict[int, NDArray[np.uint8]] = {}
    for done, (number, look) in enumerate(zip(paths, _thumbnails(list(paths.values())), strict=True), 1):
        if look is not None:
            looks[number] = look
        if progress is not None:
            progress(done, len(paths))
    parts = []
    for group in groups:
        ids = np.array(sorted(looks.keys() & set(group.ids.tolist())), np.int64)
        if len(ids) > 1:
            pixels = np.stack([looks[number] for number in ids.tolist()])
            parts += [
                _by_distance(ids[slots], codes_of(index, ids[slots], level))
                for slots in _groups(pixels, _correlated(pixels))
            ]
    return sorted(parts, key=lambda part: int(part.ids[0]))


def _correlated(pixels: NDArray[np.uint8]) -> _Near:
    def near(first: _Slots) -> _Pairs:
        values = pixels[first].astype(np.float32)
        values -= values.mean(axis=1, keepdims=True)
        values /= np.sqrt((values**2).sum(axis=1, keepdims=True) + _NOISE**2 * values.shape[1])
        for start in range(0, len(values), _ROWS):
            i, j = np.nonzero(values[start : start + _ROWS] @ values.T >= _SAME)
            yield i + start, j

    return near


def _thumbnails(paths: Sequence[str]) -> Iterator[NDArray[np.uint8] | None]:
    """Yield each image at 16 x 16 pixels, uint8 `(768,)`, or None where it cannot be read."""
    budget = PixelBudget()

    def small(path: str) -> NDArray[np.uint8] | None:
        try:
            return load(path, size=_SIDE, resize="box", fast_jpeg=True, budget=budget).reshape(-1)
        except ImageError:
            return None

    with ThreadPoolExecutor(machine.cpus()) as pool:
        yield from pool.map(small, paths)


def _by_distance(ids: NDArray[np.int64], codes: NDArray[np.uint8]) -> Group:
    """Make a group of ascending ids and their codes."""
    distances = hamming(codes[0], codes)
    order = [0, *(np.argsort(distances[1:], kind="stable") + 1).tolist()]
    return Group(ids[order], distances[order])


def _groups(rows: NDArray[np.uint8], near: _Near) -> list[_Slots]:
    """Group rows: equal ones, and those that `near` pairs, given the slots of distinct rows and counting in them."""
    # Equal rows are joined first: n of them would be n * (n - 1) / 2 pairs.
    values = np.ascontiguousarray(rows).view(f"V{rows.shape[1]}").ravel()
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    slots = np.sort(first)
    component = _components(len(slots), near(slots))[np.searchsorted(slots, first)[inverse]]
    shared = np.flatnonzero(np.bincount(component)[component] > 1)
    order = shared[np.argsort(component[shared], kind="stable")]
    groups = np.split(order, np.flatnonzero(np.diff(component[order])) + 1) if len(order) else []
    return sorted(groups, key=lambda slots: int(slots[0]))


def _components(n: int, pairs: _Pairs) -> NDArray[np.intp]:
    """The smallest member of each node's connected component."""
    root = np.arange(n)
    for i, j in pairs:
        while (apart := root[i] != root[j]).any():
            i, j = i[apart], j[apart]
            np.minimum.at(root, np.maximum(root[i], root[j]), np.minimum(root[i], root[j]))
            while (further := root[root] != root).any():
                root[further] = root[root[further]]
    return root

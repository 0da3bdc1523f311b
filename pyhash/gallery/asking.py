"""How a gallery is asked: what a query is made of, candidates by codes, and their order by embeddings."""

from __future__ import annotations

import hashlib
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..codes import Levels, check_int
from ..errors import GalleryMismatchError, ImageError
from ..index import Hits
from ..ranking import Quantized, quantize, rescore
from .adapt import are_copies, find_near, own_level, without_copies
from .collection import Collection, directions, restored, vectors_of, within
from .encoders import GalleryEncoder, embeds, stream
from .parts import once_each
from .results import OnError
from .snapshot import Snapshot

Ids = NDArray[np.int64]
Floats = NDArray[np.float32]
T = TypeVar("T")

_CANDIDATES = 100
"""As many at least are put in order."""
_FURTHER = 4
"""Times as many rows are looked at where the nearest are of too few images."""
_UNWANTED = 0.5
_APART = 0.02  # of the bits made of an image alone may differ between two readings of one file
_SAME = 0.99  # as alike are two readings of one file
_MOST_WEIGHT = 24  # of a level, among the small numbers that stand for shares


class Questions(NamedTuple):
    """Queries, ready to be compared."""

    codes: NDArray[np.uint8]
    vectors: dict[str, Quantized] | None = None
    """As `Collection.vectors`, and ``"neighbourhood"``."""
    rows: Ids | None = None
    """The row that each is, -1 for none."""


class Found(NamedTuple):
    """Of one query, in order."""

    ids: Ids
    distances: NDArray[np.int32]
    similarities: NDArray[np.float64] | None


class Measure(NamedTuple):
    """What is compared."""

    shares: dict[str, float] | None = None
    """How much each level counts in a similarity; None where codes alone are compared."""
    level: str | None = None
    """As `Index.search` takes it, like what follows."""
    weights: Mapping[str, int] | None = None


def measure(now: Snapshot, level: str | None, weights: Mapping[str, float] | None) -> Measure:
    """Return what level or weights ask for, by default equal shares of all levels; by codes alone as `Index.search`."""
    levels = now.index.levels
    if now.head is None and now.collection is None:  # codes alone: a weight is how often a bit counts
        return Measure(None, level, cast("Mapping[str, int] | None", weights))
    if level is not None:
        if weights is not None:
            raise ValueError("level and weights must not both be given")
        _check_level(levels, level, "level")
        return Measure({level: 1.0}, level)
    if weights is None:
        weights = dict.fromkeys(levels, 1.0)
    if not isinstance(weights, Mapping):
        raise TypeError(f"weights must be a mapping of level to its share, got {type(weights).__name__}")
    for name, share in weights.items():
        _check_level(levels, name, "weights")
        if isinstance(share, bool) or not isinstance(share, (int, float, np.number)):
            raise TypeError(f"weights[{name!r}] must be a number, got {type(share).__name__}")
        if not 0 <= share <= sys.float_info.max:
            raise ValueError(f"weights[{name!r}] must be at least 0 and finite, got {share!r}")
    if not any(weights.values()):
        raise ValueError(f"weights must have one that is not 0, got {dict(weights)!r}")
    # By a power of two, which rounds nothing: sums of the largest and quotients of the smallest stay numbers.
    power = math.frexp(max(weights.values()))[1]
    scaled = {name: math.ldexp(share, -power) for name, share in weights.items()}
    shares = {name: share for name, share in scaled.items() if share}
    return Measure(shares, weights=_small_weights(levels, shares))


def _small_weights(levels: Levels, shares: Mapping[str, float]) -> dict[str, int]:
    """How often a bit of each level counts, in small whole numbers, so that levels count by their shares."""
    ratios = {name: share / levels[name] for name, share in shares.items()}
    least = min(ratios.values())
    ratios = {name: min(ratio / least, _MOST_WEIGHT) for name, ratio in ratios.items()}

    def error(scale: int) -> float:
        return max(abs(round(scale * ratio) / (scale * ratio) - 1) for ratio in ratios.values())

    scales = range(1, int(_MOST_WEIGHT / max(ratios.values())) + 1)
    scale = min(scales, key=lambda scale: (round(error(scale), 2), scale))
    return {name: round(scale * ratio) for name, ratio in ratios.items()}


def _check_level(levels: Levels, level: object, name: str) -> None:
    if not isinstance(level, str) or level not in levels:
        known = ", ".join(map(repr, levels))
        raise ValueError(f"{name} must name a level of this gallery ({known}), got {level!r}")


@dataclass(frozen=True)
class Examples:
    """Images to search a gallery with, as its encoder gives them (`Gallery.examples`)."""

    codes: NDArray[np.uint8] | None
    """``(n, n_bytes)``; None where the head that was fitted on the collection makes them."""
    embeddings: Floats | None
    """``(n, dim)``, as the network projects them; None where the gallery has none."""
    rows: Ids
    """Which image of the gallery each is, as ids; -1 for none."""
    head: int | None = None
    """By which of the gallery's heads the codes were made."""

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, places: slice) -> Examples:
        codes = None if self.codes is None else self.codes[places]
        embeddings = None if self.embeddings is None else self.embeddings[places]
        return Examples(codes, embeddings, self.rows[places], self.head)

    @staticmethod
    def joined(some: Sequence[Examples]) -> Examples:
        """Return several as one; of one state of a gallery."""

        def of(name: str) -> Any:
            parts = [getattr(one, name) for one in some]
            return None if any(part is None for part in parts) else np.concatenate(parts)

        heads = {one.head for one in some}
        return Examples(of("codes"), of("embeddings"), of("rows"), heads.pop() if len(heads) == 1 else -1)


def encode_examples(
    encoder: GalleryEncoder, now: Snapshot, rows: Ids, sources: list[Any], level: str | None, on_error: OnError
) -> tuple[Examples, list[int]]:
    """Encode images to search with; also return the places of those that could be read.

    `rows` are the rows that they are. Of codes only a level is made where that is enough.
    """
    failed: list[ImageError] = []
    codes = embeddings = None
    some = sources[0] if len(sources) == 1 else sources  # one alone is encoded by all threads
    if now.head is not None:
        assert embeds(encoder)
        embeddings = np.atleast_2d(encoder.embed(some, normalize=False, on_error=failed.append))
        if now.collection is None:
            codes, embeddings = now.head.codes(restored(*quantize(embeddings))), None  # as those of rows are
    elif now.collection is None and on_error == "raise":
        codes = np.atleast_2d(encoder.encode(some, level=level))
    else:
        found = [*stream(encoder, sources, embeddings=now.collection is not None)]
        for place, one in enumerate(found):
            if one.error is not None:
                one.error.index = place
                failed.append(one.error)
        good = [one for one in found if one.error is None]
        codes = np.array([one.code for one in good], np.uint8).reshape(-1, now.index.levels.n_bytes)
        if now.collection is not None:
            dim = now.collection.dim
            embeddings = np.array([one.embedding for one in good], np.float32).reshape(-1, dim)
    for error in failed:
        if not callable(on_error):
            raise error
        error.index = error.index or 0  # one alone has no place
        on_error(error)
    lost = {error.index or 0 for error in failed}
    kept = [place for place in range(len(sources)) if place not in lost]
    return Examples(codes, embeddings, rows[kept], head_of(now)), kept


def examples_of_embeddings(now: Snapshot, embeddings: Floats) -> Examples:
    """Return embeddings as examples."""
    if now.head is None or now.collection is None:
        raise ValueError("embeddings must be searched for in a gallery that keeps them and has a head fitted on them")
    dim = len(now.head.mean)
    if embeddings.ndim != 2 or embeddings.shape[1] != dim:
        raise ValueError(f"embeddings must have {dim} numbers each, got an array of shape {embeddings.shape}")
    if not np.isfinite(embeddings).all():
        raise ValueError("embeddings must be finite")
    return Examples(None, embeddings, np.full(len(embeddings), -1, np.int64), head_of(now))


def head_of(now: Snapshot) -> int | None:
    """By which head codes are made."""
    return None if now.stored_head is None else now.stored_head.id


def ask_each(now: Snapshot, examples: Examples) -> Questions:
    """Make a query of each example."""
    by_codes = examples.embeddings is None or now.collection is None or now.head is None
    if by_codes and (examples.codes is None or examples.head != head_of(now)):
        raise GalleryMismatchError(
            "examples must be of the gallery as it is now, and it was coded anew since: make them again"
        )
    if examples.embeddings is None or now.collection is None:
        return _by_codes_alone(now, _present(examples.codes), examples.rows)
    stored = quantize(examples.embeddings)  # as rows are, so that a copy is equal to its row
    return _questions(now, now.collection, stored, examples.codes, examples.rows)


def _by_codes_alone(now: Snapshot, codes: NDArray[np.uint8], rows: Ids) -> Questions:
    """Make queries of codes; one that is a row takes its code, which may be made of a neighbourhood."""
    known = np.array([row in now.index for row in rows.tolist()], np.bool_)
    if not known.any():
        return Questions(codes)
    level = own_level(now)
    part = slice(None) if level is None else now.index.levels.byte_range(level)
    of_rows = codes.copy()
    of_rows[known] = now.index.codes(rows[known])
    apart = np.bitwise_count(of_rows[:, part] ^ codes[:, part]).sum(axis=1)
    known &= apart <= _APART * 8 * codes[:, part].shape[1]  # a row may have become another image since
    return Questions(np.where(known[:, None], of_rows, codes), rows=np.where(known, rows, -1))


def ask_together(now: Snapshot, examples: Examples, without: Examples | None) -> Questions:
    """Make one query of several examples, and take off what is unwanted.

    The mean of the ones less a share of the mean of the others (Rocchio, "Relevance feedback in information retrieval",
    1971), of own embeddings, of neighbourhoods, and of whatever else is compared; of bits where there are none.
    """
    wanted, unwanted = ask_each(now, examples), None if without is None else ask_each(now, without)
    bits = _mixed(_signs(wanted.codes), None if unwanted is None else _signs(unwanted.codes))
    codes = np.packbits(np.where(bits == 0, _signs(wanted.codes[:1]), bits) > 0, axis=1)
    if wanted.vectors is None:
        return Questions(codes)
    floats = {
        name: _mixed(directions(rows), None if unwanted is None else directions(_present(unwanted.vectors)[name]))
        for name, rows in wanted.vectors.items()
    }
    if now.head is not None:
        lengths = np.linalg.norm(_present(examples.embeddings) - now.head.mean, axis=1)
        own = now.head.mean + lengths.mean(dtype=np.float32) * floats["own"]
        codes = now.head.codes(own, floats["neighbourhood"])
    return Questions(codes, {name: quantize(rows) for name, rows in floats.items()})


def _mixed(rows: Floats, unwanted: Floats | None) -> Floats:
    """The mean of rows less a share of the mean of others, of length 1."""
    mean: Floats = rows.mean(axis=0, keepdims=True)
    if unwanted is not None:
        mean = mean - np.float32(_UNWANTED) * unwanted.mean(axis=0, keepdims=True)
    unit: Floats = mean / np.maximum(np.linalg.norm(mean), np.float32(1e-30))
    return unit


def _signs(codes: NDArray[np.uint8]) -> Floats:
    return np.unpackbits(codes, axis=1).astype(np.float32) * 2 - 1


def _present(value: T | None) -> T:
    assert value is not None
    return value


def _questions(
    now: Snapshot, collection: Collection, stored: Quantized, codes: NDArray[np.uint8] | None, rows: Ids
) -> Questions:
    """Make queries of embeddings; of those that are rows, or copies of rows, what the collection has of these."""
    vectors, head = vectors_of(now.head, *stored), now.head
    own = around = vectors["own"]
    same = np.flatnonzero(collection.has(rows))
    # A row may have become another image since.
    cosines = (directions(own)[same] * directions(collection.take("own", rows[same]))).sum(axis=1)
    same = same[cosines > _SAME]
    found = np.full(len(rows), -1, np.int64)
    found[same] = rows[same]
    if head is not None:
        embeddings = restored(*stored)
        codes = head.codes(embeddings)
        if "neighbourhood" in head.made_of.values():
            near = find_near(now, collection, own, codes)
            copies = (found < 0) & are_copies(near)[:, 0]
            found[copies] = near.ids[copies, 0]
            average = collection.average(own, without_copies(near))
            codes, around = head.codes(embeddings, average), quantize(average)
    codes = _present(codes)
    vectors["neighbourhood"] = Quantized(around.vectors.copy(), around.norms)  # changed below
    known = np.flatnonzero(found >= 0)
    if len(known):
        vectors["neighbourhood"].vectors[known] = collection.neighbourhoods(found[known]).vectors
        of_rows = now.index.codes(found[known])
        for level, made in ({} if head is None else head.made_of).items():
            if made == "neighbourhood":
                part = now.index.levels.byte_range(level)
                codes[known, part] = of_rows[:, part]
        for name in collection.names:
            vectors[name].vectors[same] = collection.take(name, found[same]).vectors
        codes[same] = now.index.codes(found[same])
    return Questions(codes, vectors, found)


def find(
    now: Snapshot,
    asked: Questions,
    k: int,
    what: Measure,
    *,
    where: ArrayLike | None = None,
    cascade: tuple[str, int] | None = None,
    exclude: Sequence[Sequence[int]] | None = None,
    threads: int | None = None,
) -> list[Found]:
    """Answer queries: candidates by code; in order of similarity where they bring embeddings."""
    check_int(k, "k", 1)
    omitted = [()] * len(asked.codes) if exclude is None else exclude
    wanted = k if asked.vectors is None and asked.rows is None else max(k, _CANDIDATES)

    def nearest(codes: NDArray[np.uint8], count: int) -> Hits:
        return now.index.search(
            codes,
            min(count, max(1, len(now.index))),
            level=what.level,
            weights=what.weights,
            where=where,
            cascade=cascade,
            threads=threads,
        )

    distances, ids = _candidates(now, nearest, asked.codes, wanted, omitted)
    if asked.vectors is not None:
        return _ordered(now, asked, ids, distances, k, what)
    if asked.rows is not None:
        _copies_first(asked.rows, distances, ids)
    answers = []
    for row, near in zip(ids, distances, strict=True):
        kept = _nearest_parts(now, row)[:k]
        answers.append(Found(row[kept], near[kept], None))
    return answers


def _candidates(
    now: Snapshot,
    nearest: Callable[[NDArray[np.uint8], int], Hits],
    codes: NDArray[np.uint8],
    wanted: int,
    omitted: Sequence[Sequence[int]],
) -> tuple[NDArray[np.int32], Ids]:
    """Find the nearest rows of so many images that are not omitted, in (distance, id) order; -1 stands for no row.

    An image may have many of the nearest rows: it is looked further until there are enough others.
    """
    count = wanted + max(map(len, omitted), default=0)
    distances, ids = nearest(codes, count)
    ended = ids[:, -1] < 0
    _omit(now, ids, omitted)
    while len(now.parts) and count < len(now.index):
        few = np.array([len(_nearest_parts(now, row)) < wanted for row in ids], np.bool_)
        short = np.flatnonzero(few & ~ended)
        if not len(short):
            break
        count = min(_FURTHER * count, len(now.index))
        further, found = nearest(codes[short], count)
        ended[short] = found[:, -1] < 0
        _omit(now, found, [omitted[place] for place in short.tolist()])
        missing = ((0, 0), (0, count - ids.shape[1]))
        ids = np.pad(ids, missing, constant_values=-1)
        distances = np.pad(distances, missing, constant_values=np.iinfo(np.int32).max)
        ids[short], distances[short] = found, further
    return distances, ids


def _omit(now: Snapshot, ids: Ids, omitted: Sequence[Sequence[int]]) -> None:
    """Take the rows of some images out of each answer."""
    for row, omit in zip(ids, omitted, strict=True):
        if len(omit):
            row[np.isin(now.parts.images_of(row), omit)] = -1


def _nearest_parts(now: Snapshot, rows: Ids) -> NDArray[np.intp]:
    """Where, in an answer of rows of which -1 is none, each image comes first."""
    kept = np.flatnonzero(rows >= 0)
    return kept[once_each(now.parts.images_of(rows[kept]))] if len(now.parts) else kept


def _copies_first(rows: Ids, distances: NDArray[np.int32], ids: Ids) -> None:
    """Of codes that equal a query's, put the row first that the query is a copy of."""
    for row, near, found in zip(rows, distances, ids, strict=True):
        (place,) = np.nonzero((found == row) & (near == 0) & (row >= 0))
        if len(place):
            found[: place[0] + 1] = np.roll(found[: place[0] + 1], 1)


def _ordered(
    now: Snapshot, asked: Questions, ids: Ids, distances: NDArray[np.int32], k: int, what: Measure
) -> list[Found]:
    collection, head = now.collection, now.head
    assert collection is not None
    assert what.shares is not None
    assert asked.vectors is not None
    shares = {"own": 0.0}
    for level, share in what.shares.items():
        made = "own" if head is None else head.made_of[level]
        name = level if made == "labels" else made
        shares[name] = shares.get(name, 0.0) + share
    candidates = np.unique(ids)
    candidates = candidates[candidates >= 0]  # ascending, so that places in them decide as ids would
    if not len(candidates):
        return [Found(ids[:0, 0], distances[:0, 0], np.empty(0))] * len(ids)
    rows = {
        name: collection.neighbourhoods(candidates) if name == "neighbourhood" else collection.take(name, candidates)
        for name in shares
    }
    places = within(candidates, ids)
    near = rescore({name: asked.vectors[name] for name in shares}, rows, places, shares=shares, own="own")
    found = []
    for row, similarities, before, of_code in zip(near.ids, near.similarities, places, distances, strict=True):
        kept = _nearest_parts(now, np.where(row < 0, -1, candidates[row]))[:k]
        row, order = row[kept], np.argsort(before, kind="stable")
        slots = order[np.searchsorted(before, row, sorter=order)]
        found.append(Found(candidates[row], of_code[slots], similarities[kept]))
    return found


def digest_of(source: Any) -> bytes | None:
    """Return what recognises a file by its bytes; None where there are none, or where they cannot be read."""
    if isinstance(source, (str, os.PathLike)):
        try:
            source = Path(source).read_bytes()
        except OSError:
            return None
    if not isinstance(source, (bytes, bytearray, memoryview)):
        return None
    return hashlib.blake2b(source, digest_size=16).digest()


def sources_of(images: Any) -> tuple[list[Any], bool]:
    """Return images as a list, and whether it was a single one."""
    pixels = hasattr(images, "__array_interface__") and getattr(images, "ndim", 2) != 4
    if pixels or isinstance(images, (str, os.PathLike, bytes, bytearray, memoryview)):
        return [images], True
    return list(images), False

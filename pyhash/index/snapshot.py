"""What an index holds at one moment: segments and the next id, immutable. Every change gives another snapshot.

Codes whose ids come in ascending order make one segment. Others make further ones, merged so that each is at least
twice the next: there are few of them, and a code is moved only as often as the logarithm of their number.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..backend import Kernel
from ..backend import Target as KernelTarget
from ..errors import MissingIdError
from ..support import memory
from .chunks import Slots, Words
from .segment import Ids, Segment, merged

_SMALL_SEGMENT = 512  # codes: segments up to this size are merged at once


class Target(NamedTuple):
    """Segments, and what a kernel sees of them."""

    segments: Sequence[Segment]
    own: KernelTarget

    @classmethod
    def of(cls, kernel: Kernel, segments: Sequence[Segment], allowed: list[Words] | None = None) -> Target:
        """Show segments to a kernel: all, or the slots that are marked, a word a block."""
        return cls(segments, kernel.target([segment.view(kernel) for segment in segments], allowed))


class Snapshot:
    """The segments of an index, and the id that the next code gets. Their ids do not overlap one by one."""

    __slots__ = ("_targets", "n_codes", "next_id", "segments")

    def __init__(self, segments: Iterable[Segment] = (), next_id: int = 0) -> None:
        self.segments = tuple(segments)
        self.next_id = next_id
        self._targets: dict[object, Target] = {}  # threads that race make one twice, and the same
        self.n_codes = sum([segment.n_codes - segment.n_removed for segment in self.segments])

    def __len__(self) -> int:
        return self.n_codes

    def target(self, kernel: Kernel) -> Target:
        """All codes, as this kernel can search them."""
        target = self._targets.get(type(kernel))
        if target is None:
            target = Target.of(kernel, [segment.for_kernel(kernel) for segment in self.segments])
            self._targets[type(kernel)] = target
        return target

    # Finding

    def ids(self) -> Ids:
        """Return all ids, ascending: a copy."""
        n = sum([segment.n_codes for segment in self.segments])
        memory.ask(24 * n, "there must be fewer codes", "the ids of %d codes", n)
        if len(self.segments) == 1:
            return self.segments[0].live_ids().copy()
        return np.sort(np.concatenate([segment.live_ids() for segment in self.segments] or [np.empty(0, np.int64)]))

    def taken(self, ids: Ids) -> Ids:
        """Return which of these ids there are."""
        return np.concatenate([ids[segment.find(ids) >= 0] for segment in self.segments] or [ids[:0]])

    def has(self, ids: Ids) -> NDArray[np.bool_]:
        """Return whether each of these ids is there."""
        there = np.zeros(len(ids), dtype=np.bool_)
        for segment in self.segments:
            there |= segment.find(ids) >= 0
        return there

    def locate(self, ids: Ids) -> list[tuple[int, NDArray[np.intp], Slots]]:
        """Return, for each segment that holds some of these ids: its number, which of them, and their slots.

        Raises
        ------
        MissingIdError
            When an id is in no segment.
        """
        memory.ask(48 * len(ids), "ids must be fewer at a time", "the places of %d ids", len(ids))
        located = []
        found = 0
        for number, segment in enumerate(self.segments):
            slots = segment.find(ids)
            here = (slots >= 0).nonzero()[0]
            if len(here):
                located.append((number, here, slots[here]))
                found += len(here)
                if found == len(ids):  # no id is in two segments
                    return located
        if found < len(ids):
            missing = np.ones(len(ids), dtype=np.bool_)
            for _, here, _ in located:
                missing[here] = False
            raise MissingIdError(ids[missing].tolist())
        return located

    def rows(self, ids: Ids, n_words: int) -> Words:
        """Return the codes of these ids as rows of words; MissingIdError when one is not there."""
        words = np.empty((len(ids), n_words), dtype=np.uint64)
        for number, here, slots in self.locate(ids):
            words[here] = self.segments[number].rows(slots)
        return words

    # Changes: another snapshot

    def added(self, words: Words, ids: Ids) -> Snapshot:
        """Store rows of words whose ids ascend and are new."""
        if not len(ids):
            return self
        last = self.segments[-1] if self.segments else None
        next_id = max(self.next_id, int(ids[-1]) + 1)
        if last is not None and last.ring is None and int(ids[0]) > last.last_id:
            return Snapshot(_merged_ends([*self.segments[:-1], last.extended(words, ids)]), next_id)
        return Snapshot(_with_rows(self.segments, words, ids), next_id)

    def removed(self, ids: Ids) -> Snapshot:
        """Remove these ids, each named once; MissingIdError when one is not there."""
        return Snapshot(_without_gaps(self._without(ids)), self.next_id)

    def updated(self, words: Words, ids: Ids) -> Snapshot:
        """Replace the codes of these ids, which ascend: removed here, and stored again behind."""
        if not len(ids):
            return self
        return Snapshot(_with_rows(_without_gaps(self._without(ids)), words, ids), self.next_id)

    def _without(self, ids: Ids) -> list[Segment]:
        segments = list(self.segments)
        for number, _, slots in self.locate(ids):
            segments[number] = segments[number].without(slots)
        return segments

    def compacted(self) -> Snapshot:
        """Make one segment without gaps of all."""
        if len(self.segments) <= 1 and not any(segment.n_removed for segment in self.segments):
            return self
        return Snapshot([merged(self.segments)], self.next_id)

    def with_ring(self, source: Segment, ring: Segment) -> Snapshot:
        """Put a ring of the codes of `source`, once the first segment, in its place.

        What was removed since is removed from the ring, and what was added since becomes a segment of its own. Where
        the first segment is another by now, nothing happens.
        """
        first = self.segments[0] if self.segments else None
        if first is None or first.chunks is not source.chunks or first.ring is not None:
            return self
        gone = np.flatnonzero(source.alive() & ~first.alive()[: source.n_codes])
        if len(gone):
            ring = ring.without(ring.find(source.ids_of(gone)))
        rest = first.after(source.n_codes)
        return Snapshot([ring, *([] if rest is None else [rest]), *self.segments[1:]], self.next_id)

    def copy(self) -> Snapshot:
        """Return this snapshot for another index to change."""
        return Snapshot([segment.copy() for segment in self.segments], self.next_id)


def _with_rows(segments: Sequence[Segment], words: Words, ids: Ids) -> Sequence[Segment]:
    """Store rows of words whose ids ascend in a segment of their own, or with the last one where it is small."""
    if segments and _too_alike(segments[-1].n_codes, len(ids)):
        with contextlib.suppress(MemoryError):  # of the larger piece; they may fit alone
            return _merged_ends([*segments[:-1], merged([segments[-1]], words, ids)])
    return [*segments, Segment.of_rows(words, ids)]


def _too_alike(a: int, b: int) -> bool:
    """Whether a segment of `a` codes is to be merged with one of `b` behind it."""
    return a < 2 * b or a + b <= _SMALL_SEGMENT


def _merged_ends(segments: Sequence[Segment]) -> Sequence[Segment]:
    """Merge the last segments until each is at least twice the next."""
    while len(segments) > 1 and _too_alike(segments[-2].n_codes, segments[-1].n_codes):
        try:
            segments = [*segments[:-2], merged(segments[-2:])]
        except MemoryError:  # the codes are in, and more segments than need be are no harm
            break
    return segments


def _without_gaps(segments: list[Segment]) -> list[Segment]:
    """Drop segments that are empty, and gaps where there are too many."""
    for i, segment in enumerate(segments):
        if segment.n_removed * 2 > segment.n_codes and len(segment):
            with contextlib.suppress(MemoryError):  # gaps are no harm
                segments[i] = merged([segment])
    return [segment for segment in segments if len(segment)]

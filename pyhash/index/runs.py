"""The runs of an index: where codes are put, found and taken away, and when a ring is built.

Codes whose ids come in ascending order make one run. Others make further ones, merged so that each is at least twice
the next: there are few of them, and a code is moved only as often as the logarithm of their number.
"""

from __future__ import annotations

import contextlib
import logging
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..backend import MAX_RING_WORDS, Kernel
from ..errors import MissingIdError
from . import store
from .store import BLOCK, Run

_log = logging.getLogger("pyhash")
_SMALL_RUN = 4096  # codes: runs up to this size are merged at once
_RING_FROM = 1 << 16  # codes from which "auto" thinks of a ring: below, a flat pass takes microseconds
_RING_AFTER = 4096  # flat passes that take about as long as building a ring
_RING_SHARE = 0.25  # of all codes: what a query may pass over, here and there, with a ring that is worth building
_FEW_QUERIES = 16  # in one call: below, each passes over the codes alone

_Ids = NDArray[np.int64]
_Words = NDArray[np.uint64]
_Slots = NDArray[np.int64]


def ascending(ids: _Ids) -> _Ids:
    """Return ids in ascending order, each once.

    As `numpy.unique` does; but that imports at its first call, and a child forked meanwhile would wait for ever.
    """
    ids = np.sort(ids)
    fresh = np.ones(len(ids), dtype=np.bool_)
    fresh[1:] = ids[1:] != ids[:-1]
    return ids[fresh]


class RingPlan(NamedTuple):
    """What was found out about the first run, and whether that is still so."""

    n_changes: int
    n_codes: int
    run: Run | None  # the run with a ring; None where it does not pay


class Runs:
    """Codes and their ids, as runs. Who calls holds the index's lock: to read, or to write what changes them."""

    def __init__(self, n_words: int, structure: str) -> None:
        self.n_words = n_words
        self.structure = structure
        self.list: list[Run] = []
        self._flat_passes = 0.0  # over the first run, since a ring was last thought of
        self._judged = 0  # codes in the first run when a ring was last found not to pay
        self._n_changes = 0

    def __len__(self) -> int:
        return sum(map(len, self.list))

    # Finding

    def ids(self) -> _Ids:
        """Return all ids, ascending."""
        if len(self.list) == 1:
            return self.list[0].live_ids().copy()
        return np.sort(np.concatenate([run.live_ids() for run in self.list] or [np.empty(0, np.int64)]))

    def taken(self, ids: _Ids) -> _Ids:
        """Return which of these ids there are."""
        return np.concatenate([ids[run.find(ids) >= 0] for run in self.list] or [ids[:0]])

    def locate(self, ids: _Ids) -> list[tuple[Run, NDArray[np.intp], _Slots]]:
        """Return, for each run that holds some of these ids: the run, which of them, and their slots.

        Raises
        ------
        MissingIdError
            When an id is in no run.
        """
        located = []
        missing = np.ones(len(ids), dtype=np.bool_)
        for run in self.list:
            slots = run.find(ids)
            here = np.flatnonzero(slots >= 0)
            if len(here):
                missing[here] = False
                located.append((run, here, slots[here]))
        if missing.any():
            raise MissingIdError(ids[missing].tolist())
        return located

    def rows(self, ids: _Ids) -> _Words:
        """Return the codes of these ids as rows of words; MissingIdError when one is not there."""
        words = np.empty((len(ids), self.n_words), dtype=np.uint64)
        for run, here, slots in self.locate(ids):
            words[here] = run.rows(slots)
        return words

    # Changing

    def insert(self, words: _Words, ids: _Ids) -> None:
        """Store rows of words whose ids ascend and are new."""
        if not len(ids):
            return
        self._n_changes += 1
        if self.list and self.list[-1].ring is None and int(ids[0]) > self.list[-1].last_id:
            self.list[-1].append(words, ids)
        else:
            self.list.append(Run.from_rows(words, ids))
        self._merge()

    def remove(self, ids: _Ids) -> None:
        """Remove these ids, each named once; MissingIdError when one is not there, and nothing is removed."""
        located = self.locate(ids)
        self._n_changes += 1
        for run, _, slots in located:
            run.remove(slots)
        self._tidy()

    def update(self, ids: _Ids, words: _Words) -> None:
        """Replace the codes of these ids, each named once; MissingIdError if one is not there, and none is replaced."""
        located = self.locate(ids)
        moved = [here for run, here, _ in located if run.ring is not None]
        fresh = []
        if moved:  # where a code lies in a ring depends on its bits; made before anything is changed
            rows = np.concatenate(moved)
            rows = rows[np.argsort(ids[rows])]
            fresh = [Run.from_rows(words[rows], ids[rows])]
        self._n_changes += 1
        for run, here, slots in located:
            if run.ring is None:
                run.overwrite(slots, words[here])
            else:
                run.prepare_removal()
        runs = [*self.list, *fresh]
        for run, _, slots in located:
            if run.ring is not None:
                run.remove(slots)
        self.list = runs
        self._tidy()
        self._merge()

    def _merge(self) -> None:
        """Merge the last runs until each is at least twice the next."""
        while len(self.list) > 1:
            a, b = self.list[-2:]
            if a.n_codes >= 2 * b.n_codes and a.n_codes + b.n_codes > _SMALL_RUN:
                break
            try:
                self.list[-2:] = [store.merged([a, b])]
            except MemoryError:  # the codes are in, and more runs than need be are no harm
                break

    def _tidy(self) -> None:
        """Drop runs that are empty, and gaps where there are too many."""
        before = self.list[:1]
        for i, run in enumerate(self.list):
            if run.n_dead * 2 > run.n_codes and len(run):
                with contextlib.suppress(MemoryError):  # gaps are no harm
                    self.list[i] = store.merged([run])
        self.list = [run for run in self.list if len(run)]
        if self.list[:1] != before:  # other codes, that a ring may pay for
            self._judged = 0

    # Rings

    def optimize(self, kernel: Kernel, threads: int) -> None:
        """Make one run without gaps, with a ring if it pays."""
        if len(self.list) > 1 or any(run.n_dead for run in self.list):
            self.list = [store.merged(self.list)]
            self._n_changes += 1
        if self.list and self.list[0].ring is None and self.structure != "flat":
            self._judged = 0  # asked for, so thought of anew
            self.take_ring(self.plan_ring(kernel, threads))

    def wants_ring(self, kernel: Kernel, n_queries: int) -> bool:
        """Count a search, and say whether searches have cost about as much by now as building a ring would."""
        runs = self.list  # asked without the lock, so another list may take its place
        if self.structure == "flat" or not runs or not kernel.rings or self.n_words > MAX_RING_WORDS:
            return False
        main = runs[0]
        if main.ring is not None or main.n_codes < 2 * self._judged or main.n_codes >= 2**32:
            return False
        if self.structure == "ring":
            return True
        if main.n_codes < _RING_FROM:
            return False
        # Many queries in one call share a pass. Threads that count at once may lose a count, which does no harm.
        self._flat_passes += n_queries if n_queries < _FEW_QUERIES else n_queries / 4
        return self._flat_passes >= _RING_AFTER

    def plan_ring(self, kernel: Kernel, threads: int) -> RingPlan | None:
        """Build a ring for the first run if it pays; None if there is none to build. Changes nothing yet."""
        if not self.list or not kernel.rings or self.n_words > MAX_RING_WORDS:
            return None
        main = self.list[0]
        if main.ring is not None or main.n_codes < 2 * self._judged or main.n_codes >= 2**32:
            return None
        if main.n_dead:
            main = store.merged([main])
        n_clusters, share = kernel.choose_clusters(main.view(kernel), threads)
        pays = share <= _RING_SHARE or self.structure == "ring"
        return RingPlan(self._n_changes, main.n_codes, main.with_ring(kernel, n_clusters, threads) if pays else None)

    def give_up_ring(self) -> None:
        """Try no ring again until there are twice as many codes."""
        self._flat_passes = 0.0
        self._judged = self.list[0].n_codes if self.list else 0

    def take_ring(self, plan: RingPlan | None) -> None:
        """Put a planned ring in place, unless the codes have changed since."""
        if plan is not None:
            self._flat_passes = 0.0
            if plan.n_changes == self._n_changes:
                if plan.run is None:
                    self._judged = plan.n_codes
                else:
                    self.list[0] = plan.run
                    _log.info("built a ring for %d codes", plan.n_codes)

    # What to search

    def for_backend(self, kernel: Kernel) -> list[Run]:
        """Return the runs as this backend can search them."""
        return self.list if kernel.rings else [run.flattened() for run in self.list]

    def restricted(
        self, kernel: Kernel, where: NDArray[np.bool_] | _Ids, n_queries: int
    ) -> tuple[list[Run], list[_Words] | None]:
        """Return runs to search when only some codes are allowed, and bit masks of those where the runs hold others.

        Few allowed codes are gathered into small runs of their own; many are marked in a bit mask, a word a block.
        `where` is a mask aligned with `ids()`, or ids.
        """
        runs = self.for_backend(kernel)
        if where.dtype == np.bool_ and len(runs) == 1 and runs[0].dead is None and runs[0].ring is None:
            slots = [np.flatnonzero(where)]
        else:
            wanted = self.ids()[where] if where.dtype == np.bool_ else ascending(where.astype(np.int64, copy=False))
            found = [run.find(wanted) for run in runs]
            slots = [s[s >= 0] for s in found]
        n_allowed = sum(map(len, slots))
        n_codes = sum(run.n_codes for run in runs)
        # Gathering a code costs about as much as passing over a few hundred, once for all queries.
        if n_allowed <= BLOCK or (n_allowed * 256 < n_codes * n_queries and n_allowed * 8 < n_codes):
            return [_gathered(run, s) for run, s in zip(runs, slots, strict=True) if len(s)], None
        masks = []
        for run, allowed in zip(runs, slots, strict=True):
            marks = np.zeros(run.n_blocks * BLOCK, dtype=np.bool_)
            marks[allowed] = True
            masks.append(np.packbits(marks, bitorder="little").view("<u8").astype(np.uint64, copy=False))
        return runs, masks

    def gathered(self, ids: _Ids) -> list[Run]:
        """Return small runs with the codes of these ids, which ascend."""
        return [_gathered(run, slots) for run, _, slots in self.locate(ids)]


def _gathered(run: Run, slots: _Slots) -> Run:
    """Return a small flat run with the codes of these slots, which are in the order of their ids."""
    return Run.from_rows(run.rows(slots), run.ids_of(slots))

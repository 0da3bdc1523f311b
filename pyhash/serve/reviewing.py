"""Copies in a gallery, sought in the background and given a page at a time."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..copies import Copy, Duplicates
from ..gallery import Gallery

__all__ = ["Reviewing"]

_log = logging.getLogger(__name__)


class _Asked(NamedTuple):
    turned: bool
    cropped: bool


@dataclass
class _Search:
    """One search, under way or done."""

    done: int = 0
    total: int = 0
    revision: int = -1
    """Of the gallery, when it was begun."""
    found: Duplicates | None = None
    failed: str | None = None


class _Ended(Exception):
    """The service ends."""


class Reviewing:
    """Seeks copies once for each kind of search, and again where that is asked for."""

    def __init__(self, gallery: Gallery, inside: Callable[[str], str]) -> None:
        self._gallery = gallery
        self._inside = inside
        self._searches: dict[_Asked, _Search] = {}
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._ended = False

    def page(self, page: int, size: int, level: str, *, turned: bool, cropped: bool) -> tuple[int, dict[str, Any]]:
        """Return a page of groups with status 200; or 202, and how far the search is."""
        asked = _Asked(turned, cropped)
        with self._lock:
            search = self._searches.get(asked)
            done = search is not None and search.found is not None
            if search is None or search.failed is not None or (done and search.revision != self._gallery.revision):
                search = self._searches[asked] = _Search(revision=self._gallery.revision)
                thread = threading.Thread(target=self._run, args=(asked, search), name="pyhash-copies", daemon=True)
                self._threads.append(thread)
                thread.start()
                # What is known already takes no time: worth a moment.
                self._lock.release()
                try:
                    thread.join(0.2)
                finally:
                    self._lock.acquire()
        found = search.found
        if search.failed is not None:
            return 500, {"status": "failed", "detail": search.failed}
        if found is None:
            return 202, {"status": "searching", "done": search.done, "total": search.total}
        groups = [group for group in found.groups if group.level == level]
        start = (page - 1) * size
        return 200, {
            "status": "done",
            "groups": [
                {"images": [*map(self._shown, group.images)], "reason": group.reason, "chained": group.chained}
                for group in groups[start : start + size]
            ],
            "page": page,
            "pages": -(-len(groups) // size),
            "total": len(groups),
            "images": found.images,
            "uncompared": [{"path": self._inside(one.path), "reason": one.reason} for one in found.uncompared],
        }

    def close(self) -> None:
        """Stop what is under way; it goes on there when it is asked for again."""
        self._ended = True
        for thread in self._threads:
            thread.join()

    def _run(self, asked: _Asked, search: _Search) -> None:
        def progress(done: int, total: int) -> None:
            search.done, search.total = done, total
            if self._ended:
                raise _Ended

        try:
            search.found = self._gallery.duplicates(
                turned=asked.turned, cropped=asked.cropped, similar=True, progress=progress
            )
        except _Ended:
            pass
        except Exception:
            _log.exception("the search for copies failed")
            search.failed = "the search for copies failed; the log of the service says why"

    def _shown(self, copy: Copy) -> dict[str, Any]:
        return {
            "id": copy.id,
            "path": self._inside(copy.path),
            "width": copy.width,
            "height": copy.height,
            "bytes": copy.n_bytes,
            "mtime_ns": str(copy.mtime_ns),  # many readers of JSON keep 53 bits of a number
            "digest": None if copy.digest is None else copy.digest.hex(),
            "modified": copy.mtime_ns // 10**9,
            "format": copy.format,
            "relation": copy.relation,
            "differs": [*copy.differs],
            "certainty": copy.certainty,
            "joined_by": None if copy.joined_by is None else self._inside(copy.joined_by),
            "away": copy.away,
        }

"""Proves candidates: opens what it needs of two images, cheap things first."""

from __future__ import annotations

import os
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Generic, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from ...errors import ImageError
from ...images import PixelBudget, Source, load, look_of
from ...support import require
from .candidates import codes_of
from .inside import pictures_in
from .placement import WHOLE
from .points import Found, Points, matches, points_of, turned_points
from .proof import CLOSER, SMALL, Compared, View, compared, confirmed
from .remembered import Remembered, remembering
from .stock import Stock

__all__ = ["Prover"]

T = TypeVar("T")

_VIEWS, _CLOSER_VIEWS = 512, 24
_IN_MEMORY = 100_000
"""Images whose points are kept in memory, 5 kB each; those of more lie in a temporary file."""
_AROUND = 0.1  # of its side: a placement so near to edge to edge is tried as that first
_FEW_POINTS = 12


class Prover:
    """Compares images of a stock; several threads may ask at the same time."""

    def __init__(
        self, stock: Stock, *, turned: bool, cropped: bool, remembered: str | os.PathLike[str] | None = None
    ) -> None:
        self._stock = stock
        self._file = remembered
        self._remembered: Remembered | None = None
        self._turned = turned
        self._cropped = cropped
        self._budget = PixelBudget()
        self._views: _Kept[View | None] = _Kept(_VIEWS, self._open_small)
        self._closer: _Kept[View | None] = _Kept(_CLOSER_VIEWS, self._open_closer)
        self._points: Points | None = None
        self._known = np.zeros(len(stock), np.bool_)
        self._sizes = np.zeros((len(stock), 2), np.uint16)
        self._lock = threading.Lock()
        self.unreadable: dict[int, str] = {}
        """Why images could not be compared."""

    @contextmanager
    def working(self) -> Iterator[Self]:
        """Keep the points of images in the block, and what came of comparing them beyond it."""
        n = len(self._stock)
        with ExitStack() as stack:
            if n <= _IN_MEMORY:
                self._points = Points.room(n)
            else:
                self._points = Points.in_file(stack.enter_context(tempfile.TemporaryFile()), n)
            self._remembered = stack.enter_context(
                remembering(self._file, self._stock, turned=self._turned, cropped=self._cropped)
            )
            yield self
        self._points = self._remembered = None

    def prove(self, one: int, others: Sequence[int], turns: Sequence[int]) -> dict[int, Compared]:
        """Compare an image with others; return what came of those that are alike at all.

        Parameters
        ----------
        turns : sequence of int
            How the one is turned to be compared with each of the others; -1 where that is not known.
        """
        assert self._remembered is not None
        outcomes: dict[int, Compared] = {}
        new: list[tuple[int, int]] = []
        for other, turn in zip(others, turns, strict=True):
            known = self._remembered.known(one, other, turn)
            if known is None:
                new.append((other, turn))
            else:
                outcomes[other] = known
        found = self._compare(one, [other for other, _ in new], [turn for _, turn in new])
        for other, turn in new:
            outcomes[other] = found.get(other, Compared(None, False))
            if one not in self.unreadable and other not in self.unreadable:
                self._remembered.note(one, other, turn, outcomes[other])
        return {other: outcome for other, outcome in outcomes.items() if outcome.similar}

    def _compare(self, one: int, others: Sequence[int], turns: Sequence[int]) -> dict[int, Compared]:
        if not others or self._points_of(one) is None:
            return {}
        there = [(other, turn) for other, turn in zip(others, turns, strict=True) if self._points_of(other) is not None]
        outcomes: dict[int, Compared] = {}
        for turn in sorted({max(0, turn) for _, turn in there}):
            self._prove(one, turn, [other for other, t in there if max(0, t) == turn], outcomes)
        for turn in range(1, 8) if self._turned else ():
            open_ = [other for other, t in there if t < 0 and (other not in outcomes or outcomes[other].proof is None)]
            self._prove(one, turn, open_, outcomes)
        return outcomes

    def _prove(self, one: int, turn: int, others: list[int], outcomes: dict[int, Compared]) -> None:
        if not others:
            return
        points, size = self._turned_points(one, turn)
        assert self._points is not None
        theirs = Points(*(np.stack([values[other] for other in others]) for values in self._points))
        sizes = [self._size(other) for other in others]
        for other, found in zip(others, matches(points, theirs, size, sizes), strict=True):
            few = min(np.any(points.patch, axis=1).sum(), self._points.patch[other].any(axis=1).sum()) < _FEW_POINTS
            if found or few:
                outcome = self._pair(one, other, turn, found, edge_to_edge=few or _is_whole(found[0]))
                if outcome.similar:
                    outcomes[other] = outcome

    def _pair(self, one: int, other: int, turn: int, found: list[Found], *, edge_to_edge: bool) -> Compared:
        a, b = self._views(one), self._views(other)
        if a is None or b is None:
            return Compared(None, False)
        guesses: list[Found | None] = [None, *found] if edge_to_edge else [*found]
        outcome = compared(a.turned(turn), b, guesses, turn=turn, cropped=self._cropped)
        if outcome.proof is None or min(max(view.size) for view in (a, b)) < SMALL:
            return outcome
        close, there = self._closer(one), self._closer(other)
        if close is None or there is None or min(max(view.size) for view in (close, there)) <= SMALL:
            return outcome
        return Compared(confirmed(close.turned(turn), there, outcome.proof, cropped=self._cropped), True)

    def _turned_points(self, one: int, turn: int) -> tuple[Points, tuple[int, int]]:
        assert self._points is not None
        points, size = Points(*(values[one] for values in self._points)), self._size(one)
        if turn == 0:
            return points, size
        return turned_points(points, size, turn), size if turn < 4 else (size[1], size[0])

    def _size(self, place: int) -> tuple[int, int]:
        width, height = self._sizes[place].tolist()
        return width, height

    def _points_of(self, place: int) -> bool | None:
        """Find the points of an image, once; None where it cannot be seen."""
        assert self._points is not None
        if not self._known[place]:
            view = self._views(place)
            if view is not None:
                found = points_of(view.grey)
                self._points.at[place], self._points.level[place] = found.at, found.level
                self._points.patch[place] = found.patch
                self._sizes[place] = view.size
            self._known[place] = True
        return None if place in self.unreadable else True

    def pictures(self, place: int) -> NDArray[np.uint8]:
        """The codes of the looks of pictures inside an image."""
        assert self._remembered is not None
        known = self._remembered.pictures(place)
        if known is None:
            view = self._views(place)
            if view is None:
                return np.empty((0, 8), np.uint8)
            looks = [look_of(view.grey.crop(box)).blocks for box in pictures_in(view.grey)]
            known = codes_of(np.array(looks, np.int16).reshape(-1, 2, 8, 8))
            self._remembered.note_pictures(place, known)
        return known

    def view(self, place: int) -> View | None:
        """The small view of an image; None where it cannot be seen."""
        return self._views(place)

    def closer(self, place: int) -> View | None:
        """The larger view of an image; None where its file cannot be read."""
        return self._closer(place)

    def _open_small(self, place: int) -> View | None:
        thumbnail = self._stock.thumbnail(place)
        source = self._stock.source(place) if thumbnail is None else thumbnail
        try:
            return _view(source, SMALL, self._budget)
        except ImageError as error:
            self.unreadable[place] = error.reason
            return None

    def _open_closer(self, place: int) -> View | None:
        try:
            return _view(self._stock.source(place), CLOSER, self._budget)
        except ImageError:
            return None


class _Kept(Generic[T]):
    """The last values of a function, for several threads."""

    def __init__(self, most: int, make: Callable[[int], T]) -> None:
        self._most, self._make = most, make
        self._values: OrderedDict[int, T] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, place: int) -> T:
        with self._lock:
            if place in self._values:
                self._values.move_to_end(place)
                return self._values[place]
        value = self._make(place)
        with self._lock:
            self._values[place] = value
            while len(self._values) > self._most:
                self._values.popitem(last=False)
        return value


def _view(source: Source, longest: int, budget: PixelBudget) -> View:
    pixels = load(source, longest=longest, resize="box", budget=budget)
    return View(require("PIL.Image", "encoder").fromarray(pixels))


def _is_whole(found: Found) -> bool:
    return all(abs(a - b) <= _AROUND for a, b in zip(found.placement, WHOLE, strict=True))

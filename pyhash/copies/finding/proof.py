"""Proof that two images are copies of one another: placed on one another, and compared wherever both overlap."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from ...support import require
from .agreement import Agreement, agreement
from .frames import surround
from .hues import hues
from .local import Floats, smoothed
from .placement import WHOLE, Placement, fits, pixels_of, refined, working_size
from .points import Found, Points, points_of

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["CLOSER", "SMALL", "Compared", "Proof", "View", "compared", "confirmed"]

SMALL = 160
"""The longest side at which images are compared first."""
CLOSER = 480
"""The longest side at which those that agree are compared once more, where they are so large."""
_LEAST = 16  # pixels of the shorter side at which two images are compared

_SAME_EDGES = 0.87
"""Share of each side that both images show, from which on one is not cropped: 5 % off each edge leave .9."""
_SAME_PLACE = 0.002
"""Shares of a side by which two placements differ that are one at the small size, a third of it at the larger one."""
_COMPLETE = 0.96
"""Share of each side from which on an image is complete in another."""
_FRAMED = 0.15
"""Share of the area of a screenshot that the image in it has, at least: a sign on a slide is no copy of the slide."""
_FAINT = 0.8
"""Correlation of what is faint, from which on a ground is not plain, and agrees: no drawing has that."""
_PARTED, _PARTED_ROUGHLY = 0.75, 0.5
"""Share of the sides at which it is parted from what lies around it, and at the small size, where edges blur."""
_CROPPED = 0.2
"""Share of an image that a part cut out of it has, at least."""

_MARK = 2.9
"""Score of a mark: of marked photographs 98 in 100 have more, of things that moved or were replaced 10."""
_COVERED = 0.2
"""Share of the seen windows that may be different where nothing shines through; more of what does."""
_OWN = math.log(2.0)
"""Structure of an image where they differ, by that beside it, from which on it shows something of its own there."""
_CORNER, _STRIP = 0.33, 0.13
"""Shares of the sides within which marks lie that are set in a corner, or along an edge."""
_SHARED = 0.3
"""Share of an image that a similar one shows, too, at least."""
_HOPELESS = 0.6
"""Share of the seen windows that are different, from which on colours are not looked at any more."""

Extent = Literal["whole", "framed", "cropped"]
"""Both show the same from edge to edge or nearly, one has a border or a screen around the other, or is part of it."""

_AFLOAT: dict[Extent, float] = {"whole": 0.27, "framed": 0.37, "cropped": 0.45}
"""Share of windows that agree, at least, where an image or a part of it has plain edges and the same lies around it: a
thing on a plain ground may be in any place."""


class View:
    """A small image in memory, as it is compared."""

    def __init__(self, colour: Image.Image) -> None:
        self.colour = colour
        """Of mode RGB."""
        self.grey = colour.convert("L")

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.colour.size

    @cached_property
    def points(self) -> Points:
        """Its points."""
        return points_of(self.grey)

    def turned(self, turn: int) -> View:
        """Return it turned in one of the eight ways of `images.turned`."""
        ways = require("PIL.Image", "encoder").Transpose
        way = (
            None,
            ways.FLIP_LEFT_RIGHT,
            ways.ROTATE_180,
            ways.FLIP_TOP_BOTTOM,
            ways.TRANSPOSE,
            ways.ROTATE_270,
            ways.TRANSVERSE,
            ways.ROTATE_90,
        )[turn]
        return self if way is None else View(self.colour.transpose(way))


class Proof(NamedTuple):
    """That one image is a copy of another."""

    placement: Placement
    """Where the one, turned, lies in the other."""
    turn: int
    """How the one was turned: one of the eight ways of `images.turned`."""
    extent: Extent
    agreement: Agreement
    certainty: float
    """From 0 to 1: how well they agree where there is something to see, less where a mark was laid over one or where
    they are not whole."""
    marked: int
    """Which of them a mark was laid over: 0 for the one, 1 for the other, -1 for none."""
    colour: float
    """Strength of the colours of the other, by those of the one."""

    def inverse(self) -> Proof:
        """Return the same of the other image and the one, which is not turned."""
        marked = 1 - self.marked if self.marked >= 0 else -1
        return self._replace(
            placement=self.placement.inverse(),
            agreement=self.agreement.inverse(),
            marked=marked,
            colour=1 / max(self.colour, 1e-3),
        )


class Compared(NamedTuple):
    """What came of comparing two images."""

    proof: Proof | None
    similar: bool
    """Whether they are alike in most of what both show, where that is no small part of either."""


def compared(
    one: View, other: View, found: Iterable[Found | None], *, turn: int = 0, cropped: bool = False
) -> Compared:
    """Compare two images; the first proof that one is a copy of the other will do.

    Parameters
    ----------
    one : View
        Turned already.
    other : View
    found : iterable of Found or None
        Where the one may lie in the other, roughly, most probable first; None for exactly edge to edge.
    turn : int
        How the one was turned; to be noted.
    cropped : bool
        Whether a part cut out of an image is its copy.
    """
    similar = False
    tried: list[Placement] = []
    for guess in found:
        placement: Placement | None = WHOLE
        if guess is not None:
            placement = refined(one.grey, other.grey, guess.placement)
        elif not fits(one.grey, other.grey, WHOLE):
            placement = None
        if placement is not None and not any(placement.is_near(before, _SAME_PLACE) for before in tried):
            tried.append(placement)
            proof = _judged(one, other, placement, turn, SMALL, cropped=cropped, fitted=guess is not None)
            if proof is not None:
                return Compared(proof, True)
            similar |= (
                min((right - left) * (bottom - top) for left, top, right, bottom in placement.frames()) >= _SHARED
            )
    return Compared(None, similar)


def confirmed(one: View, other: View, proof: Proof, *, cropped: bool = False) -> Proof | None:
    """Return a proof that holds for larger views, too; None where it does not."""
    placement: Placement | None = proof.placement
    for exact in (False, True):
        if exact:
            placement = refined(one.grey, other.grey, proof.placement)
        if placement is not None and not (exact and placement.is_near(proof.placement, _SAME_PLACE / 3)):
            fitted = proof.placement != WHOLE
            judged = _judged(one, other, placement, proof.turn, CLOSER, cropped=cropped, fitted=fitted)
            if judged is not None:
                return judged
    return None


def _judged(
    one: View, other: View, placement: Placement, turn: int, longest: int, *, cropped: bool, fitted: bool
) -> Proof | None:
    closer = longest > SMALL
    extent, least = _extent(one, other, placement, cropped=cropped, closer=closer)
    if extent is None:
        return None
    size = working_size(one.grey, other.grey, placement.frames(), longest)
    if min(size) < _LEAST:
        return None
    measured = agreement(*(_pixels(view, frame, size, "L") for view, frame in _both(one, other, placement)))
    colours: tuple[Floats, Floats] | None = None
    if not _shows_one(measured, closer=closer) and measured.different <= _HOPELESS:
        # Brightness may have been cut off in one channel alone.
        colours = _in_colour(one, other, placement, size)
        measured = agreement(*colours)
    if not _is_evidence(measured, fitted=fitted, closer=closer) or not _shows_one(measured, closer=closer):
        return None
    if measured.agreeing < least and not _FAINT <= measured.faint < 1:
        return None
    if colours is None:
        colours = _in_colour(one, other, placement, size)
    coloured = hues(*colours, measured.where)
    if not coloured.same:
        return None
    certainty = measured.lower * min(1.0, 0.9 + measured.agreeing) * (1.0 if extent == "whole" else 0.97)
    marked = -1
    if not _is_plain(measured):
        marked = _mark(measured).over
        certainty *= 1 - min(0.4, measured.area)
    certainty = round(max(0.0, min(1.0, certainty)), 3)
    return Proof(placement, turn, extent, measured, certainty, marked, coloured.strength)


def _both(one: View, other: View, placement: Placement) -> Iterable[tuple[View, tuple[float, float, float, float]]]:
    return zip((one, other), placement.frames(), strict=True)


def _in_colour(one: View, other: View, placement: Placement, size: tuple[int, int]) -> tuple[Floats, Floats]:
    a, b = (_pixels(view, frame, size, "RGB") for view, frame in _both(one, other, placement))
    return a, b


def _pixels(view: View, frame: tuple[float, float, float, float], size: tuple[int, int], mode: str) -> Floats:
    """Return what a view shows in a frame, without the edge, where one of them may show what lies beside."""
    edge = 2 if min(size) >= 64 else 1
    image = view.grey if mode == "L" else view.colour
    return smoothed(pixels_of(image, frame, size))[edge:-edge, edge:-edge]


def _is_evidence(measured: Agreement, *, fitted: bool, closer: bool) -> bool:
    """Whether enough agrees to prove anything; more is asked where the placement was chosen so that much agrees, less
    of a closer look, in which there is less to see in a window.
    """
    least, spread = (0.04, 0.2) if closer else (0.12, 0.3) if fitted else (0.05, 0.2)
    return (
        measured.agreeing >= least
        and measured.spread >= spread
        and measured.lower >= 0.8
        and measured.faint >= 0.3
        and measured.lost <= 0.5
    )


def _shows_one(measured: Agreement, *, closer: bool) -> bool:
    """Whether both show one thing, where a mark may have been laid over one of them."""
    return _is_plain(measured) or _is_mark(measured, closer=closer)


def _is_plain(measured: Agreement) -> bool:
    """Whether nothing contradicts, or only what is finer than the difference that is left everywhere."""
    return measured.different <= 0.015 and (measured.contradicting == 0 or measured.changed == 0)


class _Mark(NamedTuple):
    """What differs between two images, seen as a mark laid over one of them."""

    score: float
    over: int
    """Which of them it would lie on: 0 for the one, 1 for the other."""


def _mark(measured: Agreement) -> _Mark:
    """Weigh whether what differs is a mark.

    A mark leaves traces in one image alone: that has more structure there than beside it, and an outline, while the
    other goes on as if nothing were, and shines through or between; letters make it brighter, or darker, and do not do
    both; and marks are laid into corners and along edges. Of what has moved, or is another thing, both show something.
    How that is weighed was fitted to 388 photographs with six kinds of marks, and to 344 pairs of images that are equal
    but for a thing that moved, was replaced, or was written.
    """
    outlines = [math.log(max(0.1, outline)) for outline in measured.outline]
    structures = [math.log(strange + 0.1) for strange in measured.strange]
    over = int(outlines[0] + structures[0] <= outlines[1] + structures[1])
    score = (
        1.5 * (outlines[over] - outlines[1 - over])
        - 5.6 * outlines[1 - over]
        + 4.3 * (structures[over] - structures[1 - over])
        + 3.9 * max(0.0, measured.persisting)
        + 3.5 * measured.one_way
        + 3.3 * _is_aside(measured)
        - 5.0 * max(0.0, structures[1 - over] - _OWN)
    )
    return _Mark(score, over)


def _is_aside(measured: Agreement) -> bool:
    """Whether all that differs lies in one corner, or along one edge."""
    across, down = (np.flatnonzero(measured.where.any(axis=axis)) / measured.where.shape[1 - axis] for axis in (0, 1))
    if not len(across):
        return False
    wide, tall = (min(float(at[-1]), 1 - float(at[0])) for at in (across, down))
    return max(wide, tall) < _CORNER or min(wide, tall) < _STRIP


def _is_mark(measured: Agreement, *, closer: bool) -> bool:
    """Whether what differs is a mark laid over one image: in a limited area, while all else agrees. More is asked of
    the closer look, which decides.
    """
    return (
        measured.area <= 0.4
        and measured.changed <= 0.2
        and measured.different <= _COVERED + max(0.0, measured.persisting)
        and measured.agreeing >= 0.12
        and measured.spread >= 0.25
        and measured.lower >= 0.78
        and _mark(measured).score >= (_MARK if closer else _MARK - 3.5)
    )


def _extent(
    one: View, other: View, placement: Placement, *, cropped: bool, closer: bool
) -> tuple[Extent | None, float]:
    """Return how much of one another two images show, None where that makes no copies; and the share of windows that
    must agree, which is 0 but where plain edges go on in what lies around.
    """
    frames = placement.frames()
    sides = [(frame[2] - frame[0], frame[3] - frame[1]) for frame in frames]
    inner = 0 if min(sides[0]) >= min(sides[1]) else 1
    outer, share = 1 - inner, sides[1 - inner][0] * sides[1 - inner][1]
    whole = all(min(side) >= _SAME_EDGES for side in sides)
    beside = [surround(view.grey, frame) for view, frame in _both(one, other, placement)]
    afloat = all(around.parted in (0, 1) and not around.edged for around in beside) and beside[outer].parted == 1
    parted = beside[outer].parted >= (_PARTED if closer else _PARTED_ROUGHLY)
    extent: Extent | None = None
    if min(sides[inner]) >= _COMPLETE and share >= _FRAMED and parted:
        extent = "framed"
    elif whole:
        extent = "whole"
    elif cropped and min(wide * tall for wide, tall in sides) >= _CROPPED:
        extent = "cropped"
    return extent, _AFLOAT["whole" if whole else extent] if afloat and extent else 0.0

"""How much of one collection is in another: images of a test set that are in the training set too."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from .choices import inside_of
from .values import Group

__all__ = ["Overlap", "Share", "overlap"]


class Share(NamedTuple):
    """How many of some images have a copy on the other side."""

    copies: int
    images: int

    @property
    def share(self) -> float:
        """Of the images, from 0 to 1; 0 of none."""
        return self.copies / self.images if self.images else 0.0


class Overlap(NamedTuple):
    """How many images of one side have a copy on the other."""

    whole: Share
    by_class: dict[str, Share]
    """By the first folder inside the folders; what lies in none is under an empty name."""
    paths: tuple[str, ...]
    """Those that have one."""


def overlap(
    groups: Iterable[Group], paths: Iterable[str], folders: Sequence[str], *, reference: bool = False
) -> Overlap:
    """Count the images of one side that have a copy on the other.

    Parameters
    ----------
    groups : iterable of Group
        Of a search against another collection; groups of similar images do not count.
    paths : iterable of str
        All images of that side.
    folders : sequence of str
        Its folders.
    reference : bool
        Whether it is the side that was searched against.
    """
    copied: dict[str, None] = {}
    for group in groups:
        sides = {copy.reference for copy in group.images}
        if group.level == "duplicates" and len(sides) == 2:
            copied |= dict.fromkeys(copy.path for copy in group.images if copy.reference == reference)
    counts: dict[str, list[int]] = {}
    for path in {*paths, *copied}:
        first, slash, _ = inside_of(path, folders)[1].replace(os.sep, "/").partition("/")
        count = counts.setdefault(first if slash else "", [0, 0])
        count[0] += path in copied
        count[1] += 1
    by_class = {name: Share(*counts[name]) for name in sorted(counts)}
    whole = Share(*map(sum, zip(*counts.values(), strict=True))) if counts else Share(0, 0)
    return Overlap(whole, by_class, tuple(copied))

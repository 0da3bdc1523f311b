"""What a search for copies gives back."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

__all__ = ["Copy", "Duplicates", "Group", "Level", "Relation", "Uncompared"]

Level: TypeAlias = Literal["duplicates", "similar"]
"""Proved on the images to be copies of one another, or alike and no more than that."""

Relation: TypeAlias = Literal["best", "identical bytes", "same pixels", "changed", "similar"]
"""What an image is to the first of its group: itself, a file of the same bytes, one of other bytes that decodes to the
same pixels, the same image changed, or an image that is like it."""


class Copy(NamedTuple):
    """One image of a group."""

    path: str
    """Of the file; in a gallery its folder joined with the path inside it."""
    id: int | None
    """In the gallery; None where there is none."""
    width: int | None
    """In pixels, upright; like the height None where the file is away and that was never noted."""
    height: int | None
    n_bytes: int
    """Of the file when it was compared; with `mtime_ns` and `digest` that tells whether it is the same still."""
    mtime_ns: int
    digest: bytes | None
    """BLAKE2b of the file's bytes, 16 of them; None where it could not be read."""
    format: str | None
    """As its content says, such as ``"JPEG"``; None where the file is away."""
    sharpness: float | None
    """How much fine detail there is, to be compared within a group: an image enlarged has less than one of the same
    size that was not; None where the file is away."""
    relation: Relation
    """What it is to the first of its group."""
    differs: tuple[str, ...] = ()
    """What differs from the first, in words: ``"a quarter of its pixels"``, ``"brighter"``, ``"mirrored"``."""
    certainty: float = 1.0
    """How sure it is that this is a copy of the first, from 0 to 1; of one that only a chain joins, of the image in the
    group that it was proved to be a copy of."""
    joined_by: str | None = None
    """The path of the image that joins it to the group, where it was not proved to be a copy of the first."""
    away: bool = False
    """Whether its file is out of sight, so that only what the gallery keeps of it was compared."""
    reference: bool = False
    """Whether it belongs to what was searched against, which is never touched."""


class Group(NamedTuple):
    """Images that are copies of one another, or similar."""

    images: tuple[Copy, ...]
    """Two or more: the best first, then by how sure it is that they are copies, and by path."""
    reason: str
    """Why the first is the best, in words: ``"most pixels"``, ``"least compressed"``, ``"oldest"``."""
    level: Level = "duplicates"
    chained: bool = False
    """Whether some are joined to the first by others only; those say which (`Copy.joined_by`)."""


class Uncompared(NamedTuple):
    """An image that could not be compared."""

    path: str
    reason: str


class Duplicates(NamedTuple):
    """What a search for copies found."""

    groups: tuple[Group, ...]
    """Duplicates first, then those that are similar where they were asked for; by the path of the best."""
    uncompared: tuple[Uncompared, ...] = ()
    """What could not be compared, and why."""
    images: int = 0
    """How many were compared."""
    candidates: int = 0
    """How many pairs were looked at more closely."""
    away: int = 0
    """How many were compared by what the gallery keeps of them, as their files are out of sight."""
    waiting: int = 0
    """How many images of the gallery wait to be encoded, and were not compared."""

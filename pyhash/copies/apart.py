"""Groups without the pairs of images that a person has told apart."""

from __future__ import annotations

from collections.abc import Iterable

from .values import Copy, Group

__all__ = ["told_apart"]


def told_apart(groups: Iterable[Group], pairs: Iterable[tuple[str, str]]) -> list[Group]:
    """Return groups in which no image is with one that it was told apart from, of those in front of it.

    Those that leave a group stay together where they may: what joined them is the first of it, and that is said.

    Parameters
    ----------
    groups : iterable of Group
    pairs : iterable of (str, str)
        Paths of images that are no duplicates of one another.
    """
    apart = {frozenset(pair) for pair in pairs}
    found: list[Group] = []
    for group in groups:
        images = [*group.images]
        while len(images) > 1:
            together: list[Copy] = []
            rest: list[Copy] = []
            for copy in images:
                fits = all(frozenset((copy.path, other.path)) not in apart for other in together)
                (together if fits else rest).append(copy)
            if len(together) > 1:
                found.append(_of_group(group, together))
            images = rest
    return found


def _of_group(group: Group, images: list[Copy]) -> Group:
    """Some images of a group as one of their own."""
    best, *others = images
    if best is group.images[0]:
        return group._replace(images=tuple(images))
    joined = [
        copy._replace(relation="identical bytes", differs=(), joined_by=None)
        if copy.digest is not None and copy.digest == best.digest
        else copy._replace(differs=(), joined_by=group.images[0].path)
        for copy in others
    ]
    relation = best.relation if group.level == "similar" else "best"
    first = best._replace(relation=relation, differs=(), joined_by=None)
    chained = any(copy.joined_by is not None for copy in joined)
    return Group((first, *joined), "best of those that are left", group.level, chained)

"""Which file of a folder is which image of its gallery, and which images are gone: by names, times and contents.

A file is the one that was looked at when its size and its times are the same (where a system does not tell when a file
was changed, its inode). Where a time is another and the size is not, the content decides, by its digest. So does it
where a file is new: an image that was moved or renamed keeps its row, and of a copy everything is known.

What is not seen is not always gone: a disk may be away. What lay on another disk than the folder itself, or in a
folder that is there and empty (as a mount point without its disk is), keeps its rows.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from typing import NamedTuple

from ..images import FoundImage, raws_beside
from .folders import Folders, folder_of, root_of
from .records import Known

LOOK_AGAIN = -1
"""Stands for the time of a file that could not be read for no fault of its content: the next run tries it again."""
_MOST_LOST = 0.25
"""Of the images that can be searched: a run that would drop more of them drops none, unless it is told to."""


class Files(NamedTuple):
    """The images of a folder, one a file."""

    images: list[FoundImage]
    """By one of their names: the one that they are known by, else the first that is no link to another."""
    others: dict[str, str]
    """Their other names (links, hard links, RAW files beside them), each with the name in `images`."""
    mounts: list[str]
    """Subfolders, each ending in a slash, on which another disk is mounted."""


class Recognised(NamedTuple):
    """What files are, by what is known."""

    same: list[FoundImage]
    """As they were, under the path that they were known by."""
    touched: list[FoundImage]
    """Likewise, but for times or inode."""
    moved: list[tuple[str, FoundImage]]
    """Known under the first path, which is there no more."""
    copies: list[tuple[int, FoundImage]]
    """Their content is that of the image of this id."""
    changed: list[FoundImage]
    new: list[FoundImage]
    unseen: list[str]
    """Paths of images that were not found, by any name."""


def files_of(
    images: Iterable[FoundImage], folders: Folders, walked: Container[int], known: Mapping[str, Known]
) -> Files:
    """Put the names of one file together, and RAW files with the images that were made of them.

    Images of folders that were not `walked` keep their names.
    """
    by_path = {image.path: image for image in images}
    beside = {_file_of(by_path[raw]): _file_of(by_path[image]) for raw, image in raws_beside(by_path).items()}
    made = {*beside.values()}
    beside = {raw: image for raw, image in beside.items() if raw not in made}  # no link from one to the other
    groups: dict[object, list[FoundImage]] = {}
    for image in by_path.values():
        file = _file_of(image)
        groups.setdefault(beside.get(file, file), []).append(image)
    elsewhere = {row.inode: key for key, row in known.items() if row.inode and folder_of(key) not in walked}
    chosen, others = [], {}
    for whole in groups.values():
        group = [image for image in whole if _file_of(image) not in beside]
        there = elsewhere.get(inode_of(group[0]) or 0)
        if there is not None and _is_same_file(folders.join(there), folders.join(group[0].path)):
            others.update({image.path: there for image in whole})
            continue
        one = min(group, key=lambda image: _preference(image, known)) if len(group) > 1 else group[0]
        if len(group) > 1 and one.path not in known:
            one = next((image for image in group if not os.path.islink(folders.join(image.path))), one)
        chosen.append(one)
        others.update({image.path: one.path for image in whole if image is not one})
    return Files(chosen, others, _mounts(chosen, folders))


def _is_same_file(path: str, other: str) -> bool:
    try:
        return os.path.samefile(path, other)
    except OSError:
        return False


def _file_of(image: FoundImage) -> object:
    return (image.device, image.inode) if image.inode else image.path


def _preference(image: FoundImage, known: Mapping[str, Known]) -> tuple[bool, int]:
    row = known.get(image.path)
    return row is None, 0 if row is None else row.id


def _mounts(images: Iterable[FoundImage], folders: Folders) -> list[str]:
    """The topmost folders, of those that hold these images, that lie on another disk than the gallery's folder does."""
    devices: dict[str, int | None] = {}

    def device(key: str) -> int | None:
        if key not in devices:
            devices[key] = _device(folders.join(key))
        return devices[key]

    mounts = set()
    for image in images:
        own = device(root_of(image.path))
        if image.device == own:
            continue
        for parent in _parents(image.path):
            if device(parent) != own:  # nobody's is the folder of a link to a file on another disk
                mounts.add(parent)
                break
    return sorted(mounts)


def to_digest(files: Files, known: Mapping[str, Known]) -> Iterator[FoundImage]:
    """The files whose content has to be looked at to tell what they are."""
    sizes = {row.size for row in known.values() if row.digest is not None}
    for image in files.images:
        row = known.get(image.path)
        if image.size in sizes and (row is None or not _is_same(image, row)):
            yield image


def recognise(
    files: Files,
    known: Mapping[str, Known],
    digests: Mapping[str, bytes | None],
    walked: Container[int],
    is_gone: Callable[[str], bool],
) -> Recognised:
    """Tell files by what is known, and by the digests of those of `to_digest`.

    Of an image that was not found in a folder that was `walked`, or that lies in another, is asked whether it `is_gone`
    where a new file has its content: then it was moved, else copied.
    """
    found = Recognised([], [], [], [], [], [], [])
    here = {image.path for image in files.images}
    unseen = {path for path in known if path not in here and path not in files.others and folder_of(path) in walked}
    by_digest = defaultdict(list)
    for path, row in known.items():
        if row.digest is not None:
            by_digest[row.digest].append(path)
    strangers, moved = [], set[str]()
    for image in files.images:
        was, digest = known.get(image.path), digests.get(image.path)
        if was is not None and _is_same(image, was):
            found.same.append(image)
        elif was is not None and digest is not None and digest == was.digest and was.mtime_ns != LOOK_AGAIN:
            found.touched.append(image)
        else:
            strangers.append(image)
    for image in strangers:
        digest = digests.get(image.path)
        alike = by_digest[digest] if digest is not None else []
        lost = (
            path
            for path in alike
            if (path in unseen or (path not in moved and folder_of(path) not in walked)) and is_gone(path)
        )
        before = next(lost, None) if image.path not in known else None
        original = next((path for path in alike if known[path].has_code), None)
        if before is not None:
            unseen.discard(before)
            moved.add(before)
            found.moved.append((before, image))
        elif original is not None:
            found.copies.append((known[original].id, image))
        elif image.path in known:
            found.changed.append(image)
        else:
            found.new.append(image)
    found.unseen.extend(sorted(unseen))
    return found


def _is_same(image: FoundImage, row: Known) -> bool:
    if (image.size, image.mtime_ns) != (row.size, row.mtime_ns):
        return False
    # What an earlier version did not note says nothing. Some file systems number files anew each time they are mounted,
    # so the inode is asked only where there is no time of change.
    if row.ctime_ns is not None and image.ctime_ns is not None:
        return row.ctime_ns == image.ctime_ns
    return row.inode is None or inode_of(image) is None or row.inode == inode_of(image)


def inode_of(image: FoundImage) -> int | None:
    """The inode as it is stored: 64 bits with a sign."""
    if not image.inode:
        return None
    return (image.inode & (1 << 64) - 1) - (1 << 64 if image.inode & 1 << 63 else 0)


def away_mounts(folders: Folders, mounts: Iterable[str]) -> tuple[str, ...]:
    """On which of these subfolders no other disk is mounted now."""
    return tuple(m for m in mounts if _device(folders.join(m)) in (None, _device(folders.join(root_of(m)))))


def out_of_sight(paths: Iterable[str], folders: Folders, mounts: Iterable[str]) -> set[str]:
    """Which of these paths, not found, may lie on a disk that is away."""
    away = away_mounts(folders, mounts)
    empty: dict[str, bool] = {}

    def is_away(path: str) -> bool:
        if away and path.startswith(away):
            return True
        for parent in (root_of(path), *_parents(path)):
            if parent not in empty:
                empty[parent] = is_empty(folders.join(parent))
            if empty[parent]:
                return True
        return False

    return {path for path in paths if is_away(path)}


def too_many(lost: int, searchable: int) -> bool:
    """Whether so many of the images that can be searched are not to be dropped unless asked for.

    One may always go, unless it is all.
    """
    return lost > 0 and (lost == searchable or (lost > 1 and lost > _MOST_LOST * searchable))


def is_empty(folder: str) -> bool:
    """Whether a folder is there and nothing is in it, a gallery aside."""
    try:
        with os.scandir(folder) as entries:
            return all(entry.name == ".pyhash" for entry in entries)
    except OSError:
        return False


def is_gone(folders: Folders, key: str) -> bool:
    """Whether a file is not there any more, though its folder is."""
    root = folders.join(root_of(key))
    return not os.path.lexists(folders.join(key)) and os.path.isdir(root) and not is_empty(root)


def _parents(path: str) -> Iterator[str]:
    """The folders that a path lies in, the topmost first, each ending in a slash."""
    end = path.find("/")
    while end >= 0:
        yield path[: end + 1]
        end = path.find("/", end + 1)


def _device(folder: str) -> int | None:
    try:
        return os.stat(folder).st_dev
    except OSError:
        return None

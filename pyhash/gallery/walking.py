"""Looking at the folders of a gallery: one walk each, put together under the keys of their images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..errors import GalleryError, ImageError
from ..images import FoundImage, Walk, walk
from .folders import key_of, split
from .records import Wishes
from .store import GalleryFile


@dataclass
class Seen:
    """What was found in the folders of a gallery, without what the user has forgotten."""

    images: list[FoundImage] = field(default_factory=list)
    """Under their keys, one folder after the other."""
    failed: list[ImageError] = field(default_factory=list)
    passed_over: dict[str, int] = field(default_factory=dict)
    links: int = 0
    walks: dict[int, Walk] = field(default_factory=dict)
    lost: set[int] = field(default_factory=set)
    """Folders that could not be looked at, as where a disk is away."""

    @property
    def walked(self) -> frozenset[int]:
        """The folders that were looked at."""
        return frozenset(self.walks)

    def excludes(self, key: str) -> bool:
        """Whether what a key names was left out."""
        number, path = split(key)
        return self.walks[number].excludes(path)

    def hides(self, key: str) -> bool:
        """Whether what a key names could not be seen."""
        number, path = split(key)
        return self.walks[number].hides(path)

    def add(self, number: int, found: Walk) -> None:
        """Add what was found in one folder."""
        self.walks[number] = found
        self.images += (image._replace(path=key_of(number, image.path)) for image in found.images)
        self.failed += found.failed
        self.links += found.links
        for kind, count in found.passed_over.items():
            self.passed_over[kind] = self.passed_over.get(kind, 0) + count


def look(file: GalleryFile, folders: Mapping[int, str], wishes: Wishes) -> Seen:
    """Walk folders, by number, as is wished; GalleryError where none of them can be listed."""
    seen = Seen()
    why = ""
    for number, folder in folders.items():
        try:
            found = walk(folder, wishes.exclude, wishes.min_size)
        except OSError as error:
            why = why or f"the folder {folder} cannot be read: {error.strerror}"
            seen.lost.add(number)
        else:
            seen.add(number, file.without_forgotten(found, folder, number))
    if not seen.walks:
        raise GalleryError(why)
    return seen

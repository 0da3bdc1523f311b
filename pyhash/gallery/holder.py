"""The encoder of a gallery: given or remembered, checked, and with the head that was fitted on the collection."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

from ..backend import hamming
from ..codes import Levels
from ..errors import GalleryError, ImageError
from ..heads import CollectionHead
from .encoders import GalleryEncoder, identity_of, open_remembered, opened_in
from .folders import FIRST, Folders, folder_of
from .kinship import Kinship
from .loading import mapped_folder
from .mapped import sizes as mapped_sizes
from .place import Places
from .records import Identity
from .results import GalleryStats
from .store import GalleryFile

_MOVED_BITS = 0.1  # of a code: more than another decoder moves, and less than another network does


class Encoders:
    """The encoder of one open gallery file."""

    def __init__(self, file: GalleryFile, places: Places, given: GalleryEncoder | None) -> None:
        self._file = file
        self._places = places
        self._encoder = given
        self._fits = False  # whether it was seen that its codes can be compared
        self._adapted: tuple[int, GalleryEncoder] | None = None  # by the id of the head

    def _opened(self) -> GalleryEncoder:
        if self._encoder is None:
            with self._file.reading():
                identity = self._file.identity()
            self._encoder = open_remembered(identity, self._places.now(), self._file.path)
        return self._encoder

    def recalled(self) -> GalleryEncoder:
        """The encoder itself, though what else the gallery notes of it may be damaged."""
        if self._encoder is None:
            with self._file.reading():
                opened = self._file.opened()
            if opened is None:
                raise GalleryError(
                    f"what the gallery {self._file.path} notes of its encoder is damaged: give the encoder that made "
                    "it (--encoder MODEL)"
                )
            self._encoder = open_remembered(Identity("", "", {}, opened), self._places.now(), self._file.path)
        return self._encoder

    def identity(self) -> Identity:
        """What the gallery notes of it."""
        return identity_of(self._opened(), self._places.now())

    def levels(self) -> Levels:
        """Of an empty gallery's codes."""
        return Levels.single(64) if self._encoder is None else self._encoder.levels

    def to_search(self) -> GalleryEncoder:
        """The encoder itself; GalleryMismatchError when its codes cannot be compared with those that there are."""
        if not self._fits:
            self._check(index=False)
            self._fits = True
        return self._opened()

    def to_index(self) -> tuple[GalleryEncoder, bool]:
        """The encoder itself, and whether codes had to be compared to see that it is the right one.

        One that takes the place of the one before will do.
        """
        return self._opened(), self._check(index=True)

    def adapted(self) -> GalleryEncoder:
        """The encoder with the head that was fitted on the collection, where one was."""
        encoder: Any = self.to_search()
        with self._file.reading():
            stored = self._file.vectors.head()
        if stored is None or stored.matrix is None or not hasattr(encoder, "with_head"):
            return encoder  # type: ignore[no-any-return]
        if self._adapted is None or self._adapted[0] != stored.id:
            self._adapted = stored.id, encoder.with_head(CollectionHead.from_bytes(stored.matrix))
        return self._adapted[1]

    def _check(self, *, index: bool) -> bool:
        """Refuse an encoder whose codes cannot be compared; return whether it had to be proved that they can."""
        identity = self.identity()
        with self._file.reading():
            kin = self._file.kinship(identity)
        if kin is Kinship.SAME:
            return False
        if self._proved(identity):
            return True
        if not index or kin is Kinship.OTHER:
            with self._file.reading():
                self._file.refuse_other(identity)
        return False

    def _proved(self, identity: Identity) -> bool:
        """Whether an encoder makes the same codes though its fingerprint is another, noted by an earlier pyhash.

        That did not tell network and decoder apart, and a new decoder moves a few bits at most.
        """
        with self._file.reading():
            stored = self._file.identity()
            if stored is None or stored.decoder is not None or identity.decoder is None:
                return False
            if (stored.name, stored.levels) != (identity.name, identity.levels):
                return False
            known, n_bytes = self._file.known(), Levels(stored.levels).n_bytes
            codes = {
                row: code for rows in self._file.rows(n_bytes) for row, code in zip(rows.ids, rows.codes, strict=True)
            }
        folders = self._places.now()
        for key, row in known.items():
            image = folders.join(key)
            with contextlib.suppress(ImageError, OSError):
                status = os.stat(image)
                if row.has_code and (status.st_size, status.st_mtime_ns) == (row.size, row.mtime_ns):
                    apart = int(hamming(self._opened().encode(image), codes[row.id]))
                    return apart <= _MOVED_BITS * 8 * n_bytes
        return False


def stats_of(file: GalleryFile, folders: Folders) -> GalleryStats:
    """What a gallery holds; inside a transaction."""
    counts, identity, head, wishes = file.counts(), file.identity(), file.vectors.head(), file.wishes()
    fitted = None if head is None or head.matrix is None else CollectionHead.from_bytes(head.matrix)
    return GalleryStats(
        file=os.fspath(file.path),
        images=counts.images,
        failed=counts.failed,
        waiting=counts.waiting,
        encoder=None if identity is None else identity.name,
        fingerprint=None if identity is None else identity.fingerprint,
        levels=None if identity is None else identity.levels,
        opened=None if identity is None or identity.opened is None else _shown(identity.opened, folders),
        embeddings=file.vectors.count(),
        fitted_on=None if fitted is None else fitted.fitted_on,
        made_of=None if fitted is None else dict(fitted.made_of),
        why_own=file.why_own(),
        exclude=[*wishes.exclude],
        min_size=wishes.min_size,
        forgotten=[*map(folders.shown, file.forgotten.keys())],
        folders={root: file.images_of(number) for number, root in folders.roots.items()},
        parts=counts.rows - counts.images,
        lacking=file.lacking(),
        turned=wishes.turned,
        tiles=(wishes.tiles[0], wishes.tiles[1]) if wishes.tiles else None,
        files=sizes_of(file.path),
    )


def _shown(opened: dict[str, Any], folders: Folders) -> dict[str, Any]:
    """How an encoder was opened, for people; a model in the first folder has its path inside it."""
    model = opened.get("model")
    return opened_in(opened, folders) if isinstance(model, str) and folder_of(model) != FIRST else opened


def sizes_of(path: Path) -> dict[str, int]:
    """The files that a gallery consists of, with their sizes in bytes."""
    sizes = {}
    for suffix in ("", "-wal", "-shm", "-journal", ".compared", ".compared-journal"):
        with contextlib.suppress(FileNotFoundError):
            sizes[f"{path}{suffix}"] = os.stat(f"{path}{suffix}").st_size
    sizes.update((os.fspath(mapped), size) for mapped, size in mapped_sizes(mapped_folder(path)))
    return sizes

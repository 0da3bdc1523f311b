"""Copies among the images of a gallery, and those of one image."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..copies import Copy, Duplicates, Stock, copies_of, find
from ..images import THUMBNAIL_SIDE, Source, opened
from ..images import turned as turned_looks
from .adapt import own_level
from .answering import Answering
from .asking import digest_of
from .collection import slots_of
from .records import NEIGHBOURS
from .results import PathLike
from .snapshot import Snapshot
from .stocking import Stocking, compared_file, together
from .update import Progress

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Ids = NDArray[np.int64]


class Comparing(Answering):
    """The searches of a gallery for copies. `pyhash.Gallery` has them."""

    def duplicates(
        self,
        *,
        turned: bool = False,
        cropped: bool = False,
        similar: bool = False,
        against: Comparing | PathLike | Iterable[PathLike] | None = None,
        where: Iterable[PathLike] | ArrayLike | None = None,
        progress: Progress | None = None,
    ) -> Duplicates:
        """Find the images that are copies of one another: recompressed, resized, brighter or darker, grey, marked, with
        a border, cropped by up to 5 % of each edge, or within a screenshot.

        Candidates are images whose looks are near one another, and the neighbours that the gallery keeps. Each pair is
        then proved on the images themselves: placed on one another, and compared wherever both overlap, first at the
        size of thumbnails, then at 480 pixels. Nothing is taken for a copy because both are blank, or share a frame.
        Groups hang together by such proofs; the best of each comes first, and with each of the others is said what it
        is to the best. An image with several names is one image; what `not_duplicates` told apart is in no group.

        What came of each comparison is kept beside the gallery's file: a search that was stopped goes on where it was,
        and one after a few images were added is short.

        Parameters
        ----------
        turned : bool
            Find those that were mirrored, or turned by 90, 180 or 270 degrees, too.
        cropped : bool
            Find parts cut out of an image, of a fifth of it or more, too.
        similar : bool
            Add groups of images that are alike, and were not proved to be copies; their `Group.level` is ``"similar"``.
        against : Gallery, path, or sequence of paths, optional
            Find copies of these images, and nothing else: those of another gallery, or of this one images, or folders
            of them. Each group holds images of both sides. Where the other gallery was made with another encoder, only
            looks bring candidates.
        where : sequence of paths (of images, or of folders of them) or ids, or bool mask, optional
            Compare only these images of the gallery, as in `search`.
        progress : callable, optional
            Called with (pairs compared, pairs), several times.

        Returns
        -------
        Duplicates
            Groups, and what could not be compared. An image whose file is out of sight is compared by what the gallery
            keeps of it, and said to be `away`.

        Raises
        ------
        GalleryError
            When the gallery was never filled, or its file is damaged.
        """

        def answer(now: Snapshot) -> Duplicates:
            self._refuse_empty(now)
            stocking = Stocking(self._file, self._names, now)
            stocking.note_failed()
            mine = now.images if where is None else self._chosen(now, where)
            if isinstance(against, Comparing):
                stock = self._beside(stocking, mine, against)
            else:
                listed = [against] if isinstance(against, (str, os.PathLike)) else against
                theirs = None if listed is None else self._chosen(now, listed)
                stock = stocking.of(mine if theirs is None else np.union1d(mine, theirs), theirs)
            with self._file.reading():
                waiting = self._file.counts().waiting
            found = find(
                stock,
                turned=turned,
                cropped=cropped,
                similar=similar,
                remembered=compared_file(self.file),
                progress=progress,
            )
            uncompared = tuple(sorted({one.path: one for one in (*found.uncompared, *stocking.failed)}.values()))
            return found._replace(uncompared=uncompared, waiting=waiting)

        return self._snapshots.ask(answer)

    def duplicates_of(self, image: Source, *, turned: bool = False, cropped: bool = False) -> list[Copy]:
        """Find the images of the gallery that are copies of one image, in a fraction of a second.

        Parameters
        ----------
        image : path, bytes, PIL image or array
            An image of the gallery is no copy of itself.
        turned, cropped : bool
            As in `duplicates`.

        Returns
        -------
        list of Copy
            What each is to the image, the surest first.

        Raises
        ------
        ImageError
            When the image cannot be read.
        GalleryError
            When the gallery was never filled, or its file is damaged.
        """
        digest = digest_of(image)
        with opened(image, at_least=THUMBNAIL_SIDE) as seen:
            look, thumbnail = seen.look(), seen.thumbnail()
        itself = self._names.id_of(image) if isinstance(image, (str, os.PathLike)) else None

        def answer(now: Snapshot) -> list[Copy]:
            self._refuse_empty(now)
            blocks = look.blocks[None]
            if turned:
                blocks = turned_looks(look.blocks).swapaxes(0, 1)
            (near,) = self._looks.near(now, blocks[None])
            matches = self.search([image], NEIGHBOURS, level=own_level(now))[0]
            ids = np.union1d(near, np.array([match.id for match in matches], np.int64))
            with self._file.reading():
                same = None if digest is None else self._file.looks.of_digest(digest)
            ids = np.union1d(ids, np.array(same or [], np.int64))
            ids = ids[ids != itself]
            stock = Stocking(self._file, self._names, now).of(ids)
            return copies_of(image, thumbnail, digest, stock, turned=turned, cropped=cropped)

        return self._snapshots.ask(answer)

    def _chosen(self, now: Snapshot, where: Iterable[PathLike] | ArrayLike) -> Ids:
        """The images that are meant, by ascending id."""
        chosen = np.asarray(self._names.allowed(now, where))
        rows = now.index.ids[chosen] if chosen.dtype == np.bool_ else chosen.astype(np.int64)
        return np.intersect1d(now.parts.images_of(rows), now.images)

    def _beside(self, stocking: Stocking, mine: Ids, against: Comparing) -> Stock:
        """The images of this gallery, and those of another to be searched against."""

        def answer(now: Snapshot) -> Stock:
            against._refuse_empty(now)
            others = Stocking(against._file, against._names, now)
            own, theirs = stocking.of(mine), others.of(now.images)
            assert theirs.ids is not None
            stocking.failed += others.failed
            return together(own, theirs, slots_of(theirs.ids, stocking.near_in(others, mine)))

        return against._snapshots.ask(answer)

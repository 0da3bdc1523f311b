"""Images that are sent to a gallery: files of its own folder of uploads."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import ImageError
from ..gallery import Gallery
from ..images import described, opened
from ..support import files
from .problems import Problem

__all__ = ["Writing"]

_UPLOADS = "uploads"
_ENDINGS = {"JPEG": "jpg", "TIFF": "tif"}


class Writing:
    """Adds images to a gallery, and takes them out; one after another."""

    def __init__(self, gallery: Gallery) -> None:
        self._gallery = gallery
        self._folder = Path(gallery.folder) / _UPLOADS
        self._lock = threading.Lock()

    def add(self, images: Sequence[tuple[str, bytes]]) -> list[dict[str, Any]]:
        """Write files, and bring the gallery up to date; nothing is written where one is no image."""
        named: list[tuple[str, bytes]] = []
        for name, content in images:
            try:
                with opened(content) as image:
                    image.pixels(longest=8)
                kind = described(content).format or "image"
            except ImageError as error:
                raise Problem(422, f"{name}: {error.reason}", argument="image") from error
            ending = _ENDINGS.get(kind, kind.lower())
            named.append((f"{hashlib.blake2b(content, digest_size=16).hexdigest()}.{ending}", content))
        with self._lock:
            self._folder.mkdir(exist_ok=True)
            for name, content in named:
                path = self._folder / name
                if not path.exists():
                    files.write(path, [content], ())
                with contextlib.suppress(ValueError):
                    self._gallery.forget(path, undo=True)
            self._gallery.update()
            return [{"id": self._gallery.id_of(self._folder / name), "path": f"{_UPLOADS}/{name}"} for name, _ in named]

    def remove(self, number: int) -> None:
        """Forget an image; the file of an upload goes with it, no other is touched."""
        with self._lock:
            path = Path(self._gallery.path(number))
            self._gallery.forget(path)
            if path.parent == self._folder:
                with contextlib.suppress(OSError):
                    os.unlink(path)

    def close(self) -> None:
        """Wait for what is under way."""
        with self._lock:
            pass

"""Images of readers that decode all at once: their size is known before, their pixels are made when asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any

from ..support import require

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["late"]


def late(size: tuple[int, int], make: Callable[[], Image.Image]) -> Any:
    """Return a class of images that is opened as Pillow's are, whatever the stream.

    Parameters
    ----------
    size : (int, int)
        Width and height that are decoded; what is made may have others.
    make : callable
        Makes the image.
    """
    image_class: Any = require("PIL.Image", "encoder").Image

    class LateImage(image_class):  # type: ignore[misc]
        def __init__(self, _: IO[bytes]) -> None:
            super().__init__()
            self._size, self._mode = size, "RGB"
            self.tile: list[Any] = []

        def load(self) -> Any:
            if self._im is None:
                made = make()
                made.load()
                self._size, self._mode, self.info, self.im = made.size, made.mode, made.info, made.im
            return super().load()

    return LateImage

"""Every error of pyhash's own that a caller may catch: each a `PyhashError`, most of them a built-in error besides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = [
    "BoxError",
    "CorruptHeadError",
    "CorruptIndexError",
    "EncoderError",
    "ForeignFileError",
    "GalleryDamagedError",
    "GalleryError",
    "GalleryMismatchError",
    "GraphError",
    "ImageError",
    "LabelError",
    "MissingIdError",
    "PatternError",
    "PlanError",
    "PyhashError",
    "QuantizationError",
]

_SHOWN = 5


class PyhashError(Exception):
    """What pyhash could not do with what it was given; the message names it and says what to do."""


class ImageError(PyhashError, ValueError):
    """An image that cannot be read.

    Attributes
    ----------
    path : str
        The file; ``<bytes>``, ``<array>`` or ``<image>`` for what is no file.
    reason : str
        What is wrong with it.
    index : int or None
        Its place among the images given together.
    """

    def __init__(self, path: str, reason: str, index: int | None = None) -> None:
        super().__init__(path, reason, index)
        self.path, self.reason, self.index = path, reason, index

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class PatternError(PyhashError, ValueError):
    """A pattern of what is to be left out is wrong, or the file that holds it cannot be read."""


class BoxError(PyhashError, ValueError):
    """A box that does not lie in an image, or a file of boxes that cannot be understood."""


class PlanError(PyhashError, ValueError):
    """A plan or an undo file that is none, is damaged, or is of a later pyhash."""


class LabelError(PyhashError, ValueError):
    """Labels that do not fit the images or the levels."""


class CorruptIndexError(PyhashError, ValueError):
    """A file or byte string is not a whole, undamaged index."""


class CorruptHeadError(PyhashError, ValueError):
    """A byte string is not a whole, undamaged head of a collection."""


class ForeignFileError(PyhashError, FileExistsError):
    """A file to write to is there, and pyhash did not write it; it is left as it is."""


class MissingIdError(PyhashError, KeyError):
    """Ids that an index does not hold.

    Attributes
    ----------
    ids : list of int
    """

    def __init__(self, ids: Sequence[int]) -> None:
        shown = ", ".join(map(str, ids[:_SHOWN])) + (", ..." if len(ids) > _SHOWN else "")
        super().__init__(f"ids must be in the index, but {shown} {'is' if len(ids) == 1 else 'are'} not")
        self.ids = list(ids)

    def __str__(self) -> str:
        return str(self.args[0])  # a KeyError shows it in quotes

    def __reduce__(self) -> tuple[type[MissingIdError], tuple[list[int]]]:
        return type(self), (self.ids,)


class GraphError(PyhashError, ValueError):
    """A network that cannot be made into an encoder; the message names the node or tensor and says why."""


class EncoderError(PyhashError, ValueError):
    """A model that cannot be used as an encoder: what was expected, and what was found."""


class QuantizationError(PyhashError, ValueError):
    """A quantised network that retrieves worse than was allowed.

    Attributes
    ----------
    report : pyhash.encoder.Quantized
        How much worse.
    """

    def __init__(self, message: str, report: Any) -> None:
        super().__init__(message, report)
        self.report = report

    def __str__(self) -> str:
        return str(self.args[0])


class GalleryError(PyhashError):
    """The gallery is missing, damaged, locked, read-only or not a gallery; the message says what to do."""


class GalleryDamagedError(GalleryError):
    """The gallery's file holds what no gallery holds; `Gallery.check` and `pyhash check` tell what, and repair it."""


class GalleryMismatchError(GalleryError):
    """The gallery holds codes of another encoder; codes of two encoders cannot be compared."""

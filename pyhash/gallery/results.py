"""What a gallery gives back, and how it can be asked."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, TypedDict

from ..codes import LevelsLike
from ..errors import ImageError
from ..images import Part

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

PathLike = str | os.PathLike[str]
OnError: TypeAlias = Literal["raise"] | Callable[[ImageError], object]


class Match(NamedTuple):
    """One image of an answer."""

    path: str
    """Of the file: its folder joined with the path inside it."""
    distance: int
    """In how many bits the codes differ; with weights of levels a bit counts as often as they say."""
    id: int
    """Of the image, whichever part of it is nearest: stays with the path for as long as the image is in the gallery."""
    similarity: float | None = None
    """How alike the images are, from -1 to 1, by their embeddings and neighbourhoods; None where codes decide."""
    part: Part | None = None
    """Which part of the image is like the query; None for the whole."""
    copies: int | None = None
    """How many copies of the image stand behind it, where distinct images were asked for."""


@dataclass(frozen=True)
class GalleryStats:
    """What a gallery holds; what `Gallery.stats` returns."""

    file: str
    images: int
    """Those that can be searched."""
    failed: int
    """Those known to be bad."""
    waiting: int
    """Those that wait to be encoded again."""
    encoder: str | None
    """The name of the encoder; like what follows None before the first `Gallery.update`."""
    fingerprint: str | None
    levels: dict[str, int] | None
    opened: dict[str, Any] | None
    """How the encoder was opened, where that is known: arguments of `pyhash.Encoder`."""
    embeddings: int = 0
    """How many images have embeddings, by which answers are put in order once all have."""
    fitted_on: int | None = None
    """How many images the head was fitted on; None where the codes are those of the encoder."""
    made_of: dict[str, str] | None = None
    """What each level of that head is made of: ``"own"``, ``"neighbourhood"`` or ``"labels"``."""
    why_own: str | None = None
    """Why none is made of neighbourhoods, where that was measured on the collection."""
    exclude: list[str] = field(default_factory=list)
    """Patterns of what is left out of the folders."""
    min_size: int = 0
    """Images whose files have fewer bytes are left out, too."""
    forgotten: list[str] = field(default_factory=list)
    """Paths inside the folder that `Gallery.update` leaves out, of several folders those in the file system; a
    subfolder's ends in a slash."""
    folders: dict[str, int] = field(default_factory=dict)
    """The folders, and how many of the images lie in each."""
    parts: int = 0
    """How many parts of the images can be searched, besides the wholes."""
    lacking: int = 0
    """How many images lack parts that are wished, until the next `Gallery.update`."""
    turned: bool = False
    """Whether images are looked at mirrored and turned, too."""
    tiles: tuple[int, int] | None = None
    """Rows and columns of the tiles that images are looked at in, too."""
    files: dict[str, int] = field(default_factory=dict)
    """What the gallery lies in: paths of files, and how many bytes each has."""


class SearchOptions(TypedDict, total=False):
    """How a gallery is searched: arguments of `Gallery.search`."""

    level: str | None
    weights: Mapping[str, float] | None
    where: Iterable[PathLike] | ArrayLike | None
    cascade: tuple[str, int] | None
    threads: int | None
    rescore: bool
    on_error: OnError
    crop: tuple[int, int, int, int] | None
    distinct: bool


class GalleryOptions(TypedDict, total=False):
    """How a gallery is opened: arguments of `Gallery`."""

    create: bool
    rebuild: bool
    adapt: bool | None
    embeddings: bool | None
    levels: LevelsLike | None
    exclude: Iterable[str] | None
    min_size: int | None
    turned: bool | None
    tiles: tuple[int, int] | tuple[()] | None
    thumbnails: bool | None

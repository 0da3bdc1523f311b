"""What a gallery needs of an encoder, and how it remembers the one that it was made with."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeGuard

import numpy as np
from numpy.typing import NDArray

from ..codes import Levels
from ..errors import EncoderError, GalleryError, ImageError
from ..heads import LEVELS
from ..images import Views
from .folders import Folders
from .records import Identity

if TYPE_CHECKING:
    from ..encoder import Encoded, Fingerprints


class GalleryEncoder(Protocol):
    """What a gallery needs of an encoder; `pyhash.Encoder` has it.

    One that has an attribute `opened` too, as `pyhash.Encoder.opened`, is remembered by the gallery.
    """

    @property
    def name(self) -> str:
        """A name for people."""

    @property
    def fingerprint(self) -> str:
        """Changes whenever the same image may give another code."""

    @property
    def bits(self) -> int:
        """Length of a code."""

    @property
    def levels(self) -> Levels:
        """The levels of a code."""

    def encode(self, images: Any, *, level: str | None = None) -> NDArray[np.uint8]:
        """Codes of one image `(n_bytes,)` or of many `(n, n_bytes)`; with a level, only its bits are needed."""

    def stream(self, sources: Iterable[Any]) -> Iterator[Encoded]:
        """Each source with its code, or with what is wrong with it, in order."""


class EmbeddingEncoder(GalleryEncoder, Protocol):
    """An encoder that gives embeddings too; `pyhash.Encoder` does where its file has them."""

    def embed(
        self, images: Any, *, normalize: bool = True, on_error: Literal["raise"] | Callable[[ImageError], object]
    ) -> NDArray[np.float32]:
        """Embeddings of one image `(dim,)` or of many `(n, dim)`, here as the network projects them."""

    def stream(self, sources: Iterable[Any], *, embeddings: bool = False) -> Iterator[Encoded]:
        """Each source with its code and its embedding."""


def is_plain(encoder: GalleryEncoder) -> bool:
    """Whether an encoder is a network that pyhash did not make, of which nothing is known but its outputs."""
    metadata = getattr(encoder, "metadata", None)
    return metadata is not None and metadata.schema is None


def embeds(encoder: GalleryEncoder) -> TypeGuard[EmbeddingEncoder]:
    """Whether an encoder gives embeddings besides codes.

    A plain network whose levels were given makes codes: its output is no embedding.
    """
    embed = getattr(encoder, "embed", None)
    if embed is None or (is_plain(encoder) and encoder.levels != Levels.single(encoder.bits)):
        return False
    try:
        embed([])
    except EncoderError:
        return False
    return True


def stream(encoder: GalleryEncoder, sources: list[Any], *, embeddings: bool) -> Iterator[Encoded]:
    """Encode images, with their embeddings where they are wanted."""
    if not embeddings:
        return encoder.stream(sources)
    assert embeds(encoder)
    return encoder.stream(sources, embeddings=True)


def stream_all(
    encoder: GalleryEncoder, sources: list[Any], *, embeddings: bool, views: Sequence[Views] = ()
) -> Iterator[Encoded]:
    """Encode images, with all that the encoder can tell of them; `views` are the parts of each, where any has some."""
    known = inspect.signature(encoder.stream).parameters
    if "looks" not in known and not views:
        return stream(encoder, sources, embeddings=embeddings)
    options: dict[str, Any] = {"embeddings": True} if embeddings else {}
    if "looks" in known:
        options["looks"] = True
    if views:
        check_sees_parts(encoder)
        options["views"] = views
    return encoder.stream(sources, **options)


def check_sees_parts(encoder: GalleryEncoder) -> None:
    """Raise GalleryError when an encoder cannot encode parts of images."""
    if "views" not in inspect.signature(encoder.stream).parameters:
        raise GalleryError(
            f"the encoder {encoder.name!r} does not encode parts of images: its `stream` must take `views`, as that of "
            "pyhash.Encoder does; or leave turned, tiles and boxes out"
        )


def levels_of(encoder: GalleryEncoder) -> Levels:
    """The levels of the codes of a gallery of an encoder."""
    return LEVELS if is_plain(encoder) else encoder.levels


def spread_of(encoder: GalleryEncoder) -> NDArray[np.float64] | None:
    """Variances of embeddings over images in general, where the encoder knows them."""
    spread: NDArray[np.float64] | None = getattr(encoder, "spread", None)
    return spread


def identity_of(encoder: GalleryEncoder, folders: Folders) -> Identity:
    """Return what a gallery notes of its encoder.

    The path of a model inside one of its folders is noted relative to that, so that both can be moved together.
    """
    opened: dict[str, Any] | None = getattr(encoder, "opened", None)
    from ..encoder import is_named

    if opened is not None and opened["model"] is not None and not is_named(opened["model"]):
        inside = next(folders.keys([os.path.realpath(opened["model"])]))
        if inside is not None:
            opened = {**opened, "model": inside}
    parts: Fingerprints | None = getattr(encoder, "fingerprints", None)
    made_of = getattr(getattr(encoder, "metadata", None), "made_of", {})
    return Identity(
        encoder.name,
        encoder.fingerprint if parts is None else parts.network,
        dict(encoder.levels),
        opened,
        None if parts is None else parts.decoder,
        "" if parts is None else parts.head,
        encoder.fingerprint,
        "labels" in made_of.values(),
    )


def open_remembered(identity: Identity | None, folders: Folders, file: Path) -> GalleryEncoder:
    """Open the encoder that a gallery was made with; the built-in one where it notes none."""
    opened = {} if identity is None or identity.opened is None else opened_in(identity.opened, folders)
    model = opened.pop("model", None)
    opened["preprocess"] = _as_meant(opened.get("preprocess"))
    try:
        return _open_encoder(model, opened)
    except (EncoderError, OSError, TypeError, ValueError) as error:
        raise GalleryError(
            f"the gallery {file} was made with the encoder {model or 'built in'}, which cannot be opened: {error}. "
            "Give the encoder that made the gallery (--encoder MODEL), or encode every image again with another one "
            "(`pyhash index FOLDER --encoder MODEL --rebuild`)"
        ) from error


def opened_in(opened: Mapping[str, Any], folders: Folders) -> dict[str, Any]:
    """How an encoder was opened, with the path in the file system of a model that lies in one of the folders."""
    from ..encoder import is_named

    model = opened.get("model")
    if model is None or is_named(model) or os.path.isabs(model):
        return dict(opened)
    return {**opened, "model": folders.join(model)}


def _as_meant(preprocess: Any) -> Any:
    """Return a noted preparation as it was meant.

    Now all settings are noted; the name of a preset was while ``imagenet`` took the whole of an image's middle.
    """
    noted = {"preset": preprocess} if isinstance(preprocess, str) else preprocess
    if isinstance(noted, Mapping) and noted.get("preset") == "imagenet":
        return {"crop_fraction": None, **noted}
    return noted


def _open_encoder(model: str | None, arguments: dict[str, Any]) -> GalleryEncoder:
    from ..encoder import Encoder

    return Encoder(model, **arguments)

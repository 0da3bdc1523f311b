"""What is served: a gallery, or an index of codes."""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from ..errors import GalleryMismatchError, ImageError
from ..gallery import Examples, Gallery, Match
from ..images import opened
from ..index import Index
from .problems import Problem
from .questions import Asked, SearchOptions

__all__ = ["Answer", "Encoded", "GallerySearcher", "IndexSearcher", "Searcher"]


class Encoded(NamedTuple):
    """An image, or what stands for it, ready to be searched for."""

    example: Any


class Wanted(NamedTuple):
    """A search: examples of one query, or of several together, and how."""

    examples: list[Encoded]
    without: list[Encoded]
    options: SearchOptions


class Answer(NamedTuple):
    """What was found for a query."""

    matches: list[dict[str, Any]]
    by_similarity: bool


class Searcher(Protocol):
    """What an application asks; from several threads at the same time."""

    def warm(self) -> None:
        """Load what the first request would wait for."""

    def facts(self) -> dict[str, Any]:
        """Return what there is: for /v1/info and the metrics."""

    @property
    def fingerprint(self) -> str:
        """Tells what made the codes."""

    def encode(self, images: list[tuple[bytes, tuple[int, int, int, int] | None]]) -> list[Encoded | BaseException]:
        """Encode images, each or a part of it."""

    def prepare(self, asked: Asked) -> Encoded:
        """Make a query of what is no image; Problem where that cannot be."""

    def search(self, wanted: list[Wanted]) -> list[Answer | BaseException]:
        """Search, for those that ask for the same in one pass."""

    def vectors(self, encoded: Sequence[Encoded]) -> list[dict[str, Any]]:
        """Return codes and embeddings as JSON has them."""


class GallerySearcher:
    """Searches a gallery."""

    def __init__(self, gallery: Gallery) -> None:
        self.gallery = gallery
        self._facts: tuple[float, dict[str, Any]] | None = None
        self._lock = threading.Lock()

    def warm(self) -> None:
        """Load the encoder and the codes, and answer a query."""
        gallery = self.gallery
        if len(gallery):
            first = next(iter(gallery.index.ids.tolist()))
            gallery.search(gallery.examples(ids=[first]), 1)
            gallery.examples(np.zeros((64, 64, 3), np.uint8))

    @property
    def fingerprint(self) -> str:
        """Of the encoder and of the head that was fitted."""
        return self.gallery.fingerprint

    def facts(self) -> dict[str, Any]:
        """Return what there is, no older than a second."""
        with self._lock:
            now = time.monotonic()
            if self._facts is None or now - self._facts[0] > 1:
                self._facts = now, self._counted()
            return self._facts[1]

    def _counted(self) -> dict[str, Any]:
        stats, index = self.gallery.stats(), self.gallery.index
        return {
            "kind": "gallery",
            "folders": [os.path.basename(folder) or folder for folder in stats.folders],
            "images": stats.images,
            "waiting": stats.waiting + stats.lacking,
            "codes": len(index),
            "n_bytes": index.stats().nbytes,
            "encoder": stats.encoder,
            "fingerprint": self.fingerprint,
            "levels": dict(self.gallery.levels),
            "embeddings": stats.embeddings > 0,
        }

    def encode(self, images: list[tuple[bytes, tuple[int, int, int, int] | None]]) -> list[Encoded | BaseException]:
        """Encode all that are whole in one batch, and parts one by one."""
        found: list[Encoded | BaseException | None] = [None] * len(images)
        whole = [place for place, (_, crop) in enumerate(images) if crop is None]
        failed: list[ImageError] = []
        if whole:
            # One alone is encoded by all threads.
            examples = self.gallery.examples([images[place][0] for place in whole], on_error=failed.append)
            lost = {whole[error.index or 0]: error for error in failed}
            kept = [place for place in whole if place not in lost]
            for row, place in enumerate(kept):
                found[place] = Encoded(examples[row : row + 1])
            for place, error in lost.items():
                found[place] = error
        for place, (image, crop) in enumerate(images):
            if crop is not None:
                try:
                    found[place] = Encoded(self.gallery.examples(image, crop=crop))
                except ImageError as error:
                    found[place] = error
                except ValueError as error:  # a box that is none of the image
                    found[place] = Problem(422, str(error), argument="crop")
        return [one for one in found if one is not None]

    def prepare(self, asked: Asked) -> Encoded:
        """Make a query of an id, a code or an embedding."""
        try:
            if asked.id is not None:
                return Encoded(self.gallery.examples(ids=[asked.id]))
            if asked.embedding is not None:
                return Encoded(self.gallery.examples(embeddings=[asked.embedding]))
        except KeyError as error:
            raise Problem(404, str(error.args[0]), argument="id") from error
        except ValueError as error:
            raise Problem(422, str(error), argument="embedding") from error
        assert asked.code is not None
        return Encoded(_row_of_code(asked.code, self.gallery.levels.n_bytes))

    def search(self, wanted: list[Wanted]) -> list[Answer | BaseException]:
        """Search; those of equal options in one pass."""
        answers: list[Answer | BaseException | None] = [None] * len(wanted)
        for places in _alike(wanted):
            try:
                found = self._found([wanted[place] for place in places])
                for place, matches in zip(places, found, strict=True):
                    answers[place] = self._answer(matches, wanted[place].options)
            except Exception as error:
                if len(places) == 1:
                    answers[places[0]] = _as_problem(error, self.gallery.folders)
                else:  # so that one does not spoil the others
                    for place in places:
                        answers[place] = self.search([wanted[place]])[0]
        return [one for one in answers if one is not None]

    def _found(self, wanted: list[Wanted]) -> list[list[Match]]:
        options = wanted[0].options
        asked: dict[str, Any] = {"level": options.level, "weights": options.weights, "where": self._where(options)}
        k = options.k
        queries = [query.example for one in wanted for query in (*one.examples, *one.without)]
        if any(isinstance(query, np.ndarray) for query in queries):
            refused = next((name for name in ("together", "distinct") if getattr(options, name)), None)
            if refused is not None:
                raise Problem(422, f"{refused} needs images, ids or embeddings, and a code was given", argument=refused)
            return self.gallery.search_codes(np.concatenate(queries), k, **asked)
        if options.together:
            (one,) = wanted
            without = Examples.joined([other.example for other in one.without]) if one.without else None
            examples: Any = Examples.joined([other.example for other in one.examples])
            asked |= {"rescore": options.rescore, "distinct": options.distinct, "without": without, "together": True}
            return [self.gallery.search(examples, k, **asked)]
        examples = Examples.joined(queries)
        return self.gallery.search(examples, k, rescore=options.rescore, distinct=options.distinct, **asked)  # type: ignore[no-any-return]

    def _where(self, options: SearchOptions) -> list[str] | None:
        """Subfolders as paths: a request never names one outside."""
        if options.where is None:
            return None
        folders = self.gallery.folders
        found = []
        for inside in options.where:
            parts = Path(inside).parts
            if os.path.isabs(inside) or ".." in parts or "\0" in inside:
                raise Problem(422, f"in must be a subfolder of the gallery, got {inside!r}", argument="in")
            base = folders[0]
            if len(folders) > 1 and parts:
                base = next((folder for folder in folders if os.path.basename(folder) == parts[0]), "")
                inside = os.path.join(*parts[1:]) if base and len(parts) > 1 else "" if base else inside
                base = base or folders[0]
            found.append(os.path.join(base, inside))
        return found

    def _answer(self, matches: list[Match], options: SearchOptions) -> Answer:
        if options.radius is not None:
            matches = [match for match in matches if match.distance <= options.radius]
        return Answer([*map(self._shown, matches)], any(match.similarity is not None for match in matches))

    def _shown(self, match: Match) -> dict[str, Any]:
        shown: dict[str, Any] = {"id": match.id, "path": self.inside(match.path), "distance": match.distance}
        if match.similarity is not None:
            shown["similarity"] = round(match.similarity, 6)
        if match.part is not None:
            shown["part"] = match.part._asdict()
            if match.part.box is not None:
                with contextlib.suppress(ImageError), opened(match.path) as image:
                    shown["size"] = [*image.size]  # in whose pixels the part lies
        if match.copies is not None:
            shown["copies"] = match.copies
        return shown

    def inside(self, path: str) -> str:
        """The path of an image inside its folder; of several folders, with that folder's name."""
        folders = self.gallery.folders
        for folder in folders:
            around = os.path.join(folder, "")
            if path.startswith(around):
                inside = path[len(around) :].replace(os.sep, "/")
                return inside if len(folders) == 1 else f"{os.path.basename(folder)}/{inside}"
        return os.path.basename(path)

    def sample(self, k: int) -> list[dict[str, Any]]:
        """Return some images, other ones each time."""
        ids = self.gallery.index.ids
        rows = random.sample(range(len(ids)), min(k, len(ids)))
        found: dict[int, str] = {}
        for number in ids[rows].tolist():  # of parts the image that they are of
            with contextlib.suppress(KeyError):  # it went meanwhile
                path = self.gallery.path(number)
                image = self.gallery.id_of(path)
                if image is not None:
                    found[image] = self.inside(path)
        return [{"id": number, "path": path} for number, path in found.items()]

    def vectors(self, encoded: Sequence[Encoded]) -> list[dict[str, Any]]:
        """Return codes of the image alone, and embeddings."""
        shown = []
        for one in encoded:
            embeddings = one.example.embeddings
            shown.append(
                {
                    "code": self.gallery.codes(one.example)[0].tobytes(),
                    "embedding": None if embeddings is None else embeddings[0].tolist(),
                }
            )
        return shown


class IndexSearcher:
    """Searches an index of codes."""

    def __init__(self, index: Index, encoder: Any = None) -> None:
        self.index = index
        self._encoder = encoder

    def warm(self) -> None:
        """Touch the codes."""
        if len(self.index):
            self.index.search(self.index.codes(int(self.index.ids[0])), 1)
        if self._encoder is not None:
            self._encoder.encode(np.zeros((64, 64, 3), np.uint8))

    @property
    def fingerprint(self) -> str:
        """Of the encoder; empty where there is none."""
        return "" if self._encoder is None else str(self._encoder.fingerprint)

    def facts(self) -> dict[str, Any]:
        """Return what there is."""
        return {
            "kind": "index",
            "codes": len(self.index),
            "images": len(self.index),
            "waiting": 0,
            "n_bytes": self.index.stats().nbytes,
            "encoder": None if self._encoder is None else self._encoder.name,
            "fingerprint": self.fingerprint,
            "levels": dict(self.index.levels),
            "embeddings": False,
        }

    def encode(self, images: list[tuple[bytes, tuple[int, int, int, int] | None]]) -> list[Encoded | BaseException]:
        """Encode images where there is an encoder."""
        if self._encoder is None:
            raise Problem(
                422, "images need an encoder, and this index is served without: ask with a code", argument="image"
            )
        failed: list[ImageError] = []
        if any(crop is not None for _, crop in images):
            raise Problem(422, "crop needs a gallery, and this is an index", argument="crop")
        codes = self._encoder.encode([image for image, _ in images], on_error=failed.append)
        lost = {error.index: error for error in failed}
        rows = iter(codes)
        return [lost[place] if place in lost else Encoded(next(rows)[None]) for place in range(len(images))]

    def prepare(self, asked: Asked) -> Encoded:
        """Make a query of an id or a code."""
        if asked.id is not None:
            if asked.id not in self.index:
                raise Problem(404, f"the index has no code {asked.id}", argument="id")
            return Encoded(self.index.codes(asked.id)[None])
        if asked.code is None:
            raise Problem(422, "an index holds no embeddings: ask with a code or an id", argument="embedding")
        return Encoded(_row_of_code(asked.code, self.index.levels.n_bytes))

    def search(self, wanted: list[Wanted]) -> list[Answer | BaseException]:
        """Search; those of equal options in one pass."""
        answers: list[Answer | BaseException | None] = [None] * len(wanted)
        for places in _alike(wanted):
            options = wanted[places[0]].options
            refused = next((name for name in ("where", "together", "distinct") if getattr(options, name)), None)
            try:
                if refused is not None:
                    raise Problem(422, f"{refused} needs a gallery, and this is an index", argument=refused)
                codes = np.concatenate([wanted[place].examples[0].example for place in places])
                weights: Any = options.weights
                k = min(options.k, max(1, len(self.index)))
                distances, ids = self.index.search(codes, k, level=options.level, weights=weights)
                for place, near, found in zip(places, distances.tolist(), ids.tolist(), strict=True):
                    answers[place] = Answer(
                        [
                            {"id": number, "distance": distance}
                            for number, distance in zip(found, near, strict=True)
                            if number >= 0 and (options.radius is None or distance <= options.radius)
                        ],
                        False,
                    )
            except Exception as error:
                for place in places:
                    answers[place] = _as_problem(error)
        return [one for one in answers if one is not None]

    def vectors(self, encoded: Sequence[Encoded]) -> list[dict[str, Any]]:
        """Return codes."""
        return [{"code": one.example[0].tobytes(), "embedding": None} for one in encoded]


def _row_of_code(code: bytes, n_bytes: int) -> Any:
    if len(code) != n_bytes:
        raise Problem(422, f"a code must have {n_bytes} bytes, got {len(code)}", argument="code")
    return np.frombuffer(code, np.uint8)[None]


def _alike(wanted: list[Wanted]) -> list[list[int]]:
    """Return the places of those that are answered in one pass."""
    groups: dict[Any, list[int]] = {}
    for place, one in enumerate(wanted):
        kind: Any = place if one.options.together else type(one.examples[0].example)
        state = getattr(one.examples[0].example, "head", None), _has_codes(one.examples[0].example)
        groups.setdefault((kind, state, one.options.model_dump_json()), []).append(place)
    return [*groups.values()]


def _has_codes(example: Any) -> tuple[bool, bool]:
    if not isinstance(example, Examples):
        return True, False
    return example.codes is not None, example.embeddings is not None


def _as_problem(error: Exception, folders: Sequence[str] = ()) -> BaseException:
    """Return what is wrong with a search as a problem, where it is the request's fault; it does not tell where the
    folders lie.
    """
    if isinstance(error, (Problem, GalleryMismatchError)) or not isinstance(error, (ValueError, TypeError)):
        return error
    told = str(error)
    for folder in folders:
        told = told.replace(os.path.join(folder, ""), "")
    if told.startswith("where "):  # as a request calls it
        return Problem(422, f"in {told.removeprefix('where ')}", argument="in")
    return Problem(422, told)

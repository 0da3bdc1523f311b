"""What tests of galleries share: an encoder without a network, pictures, and a look into the file."""

from __future__ import annotations

import dataclasses
import functools
import io
import itertools
import sqlite3
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from PIL import Image

from pyhash import ImageError, Levels
from pyhash.encoder import Encoded, EncodedPart
from pyhash.images import Decoded, Views, look_of, opened
from pyhash.networks import Metadata


class FakeEncoder:
    """16 coarse bits (brightness) and 48 fine bits (colour) of a small grid; counts the pictures that it was given."""

    def __init__(self, fingerprint: str = "f" * 16, name: str = "fake", delay: float = 0.0) -> None:
        self.name = name
        self.fingerprint = fingerprint
        self.levels = Levels({"coarse": 16, "fine": 48})
        self.bits = 64
        self.delay = delay
        self.metadata = Metadata()
        self.seen: list[Any] = []

    def encode(self, images: Any, *, level: str | None = None) -> np.ndarray[Any, np.dtype[np.uint8]]:
        if isinstance(images, list | tuple):
            return np.array([self._code(image) for image in images], np.uint8).reshape(-1, 8)
        return self._code(images)

    def stream(self, sources: Iterable[Any], batch_size: int = 8) -> Iterator[Encoded]:
        for source in sources:
            time.sleep(self.delay)
            try:
                yield Encoded(source, self._code(source))
            except ImageError as error:
                yield Encoded(source, error=error)

    def _code(self, source: Any) -> np.ndarray[Any, np.dtype[np.uint8]]:
        self.seen.append(source)
        try:
            with Image.open(source) as image:
                pixels = np.asarray(image.convert("RGB").resize((4, 4), Image.Resampling.BOX), np.float32)
        except OSError as error:
            raise ImageError(source, str(error)) from error
        grey = pixels.mean(axis=2)
        return np.packbits(np.concatenate([(grey > grey.mean()).ravel(), (pixels > 127).ravel()]))


def picture(path: Any, seed: int = 0, size: tuple[int, int] = (32, 24)) -> None:
    """Write a picture of 4 x 4 coloured fields."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_png(seed, size))


@functools.cache  # tests write the same ones hundreds of times
def _png(seed: int, size: tuple[int, int]) -> bytes:
    fields = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    with io.BytesIO() as file:
        Image.fromarray(fields).resize(size, Image.Resampling.NEAREST).save(file, "PNG")
        return file.getvalue()


def photos(root: Path) -> Path:
    """Write six pictures in three folders, and a file that is none."""
    for number, name in enumerate(["a.png", "b.PNG", "sub/c.png", "sub/deep/d.png", "sub/e.jpeg", "z.webp"]):
        picture(root / name, number)
    (root / "notes.txt").write_text("not a picture")
    return root


def rows(file: Path) -> list[tuple[Any, ...]]:
    """(id, path, size, mtime_ns, code, error) of each image; there is one row an image, with the same id."""
    db = sqlite3.connect(file)
    try:
        assert db.execute("SELECT count(*) FROM images JOIN rows USING (id) WHERE image <> id").fetchone() == (0,)
        return db.execute(
            "SELECT images.id, path, size, mtime_ns, code, error FROM images JOIN rows USING (id) "
            "LEFT JOIN codes ON codes.row = rows.id ORDER BY images.id"
        ).fetchall()
    finally:
        db.close()


def store(file: Path, images: Iterable[tuple[int, bytes, bytes]]) -> None:
    """Put (id, path, code) of images into a gallery that was updated once."""
    db = sqlite3.connect(file)
    try:
        with db:
            for number, path, code in images:
                db.execute("DELETE FROM codes WHERE row = ?", (number,))
                db.execute(
                    "INSERT OR REPLACE INTO images (id, folder, path, size, mtime_ns, checksum) "
                    "VALUES (?, 1, ?, 1, 1, ?)",
                    (number, path, crc32(path, number)),
                )
                db.execute("INSERT OR REPLACE INTO rows (id, image) VALUES (?, ?)", (number, number))
                db.execute("INSERT INTO codes VALUES (?, 1, ?, ?)", (number, code, crc32(code, number)))
            db.execute("UPDATE settings SET value = value + 1 WHERE key = 'revision'")
            db.execute(
                "UPDATE settings SET value = (SELECT value FROM settings WHERE key = 'revision') "
                "WHERE key = 'changes_from'"
            )
    finally:
        db.close()


def execute(file: Path, statement: str, *values: tuple[Any, ...]) -> None:
    db = sqlite3.connect(file)
    try:
        with db:
            db.executemany(statement, values or [()])
    finally:
        db.close()


class EmbeddingEncoder(FakeEncoder):
    """A `FakeEncoder` that gives embeddings too: the colours of the grid, 48 numbers around 0."""

    dim = 48

    def __init__(self, fingerprint: str = "e" * 16, name: str = "embedding", delay: float = 0.0) -> None:
        super().__init__(fingerprint, name, delay)
        self.metadata = Metadata(schema=1)

    def embed(self, images: Any, *, normalize: bool = True, on_error: Any = "raise") -> np.ndarray[Any, Any]:
        assert not normalize or not images
        alone = not isinstance(images, list | tuple)
        rows = []
        for place, encoded in enumerate(self.stream([images] if alone else images, embeddings=True)):
            if encoded.error is None:
                rows.append(encoded.embedding)
            elif on_error == "raise":
                raise encoded.error
            else:
                encoded.error.index = None if alone else place
                on_error(encoded.error)
        found = np.array(rows, np.float32).reshape(-1, self.dim)
        return found[0] if alone and len(found) else found

    def stream(self, sources: Iterable[Any], batch_size: int = 8, embeddings: bool = False) -> Iterator[Encoded]:
        for encoded in super().stream(sources):
            if encoded.error is not None or not embeddings:
                yield encoded
            else:
                yield Encoded(encoded.source, encoded.code, self._embedding(encoded.source))

    def _embedding(self, source: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
        with Image.open(source) as image:
            pixels = np.asarray(image.convert("RGB").resize((4, 4), Image.Resampling.BOX), np.float32)
        return (pixels / 64 - 2).ravel()


class SeeingEncoder(EmbeddingEncoder):
    """An `EmbeddingEncoder` that gives looks and thumbnails too, these as noise that is nowhere else."""

    def stream(
        self, sources: Iterable[Any], batch_size: int = 8, embeddings: bool = False, looks: bool = False
    ) -> Iterator[Encoded]:
        for encoded in super().stream(sources, batch_size, embeddings):
            if encoded.error is not None or not looks:
                yield encoded
                continue
            with Image.open(encoded.source) as image:
                look = look_of(image.convert("L").resize((256, 256), 0))
            noise = np.random.default_rng(crc32(Path(encoded.source).read_bytes())).bytes(5000)
            yield dataclasses.replace(encoded, look=look, thumbnail=noise)


class PartsEncoder(EmbeddingEncoder):
    """An `EmbeddingEncoder` that encodes parts of images, too, and takes all that an image can be given as."""

    def encode(self, images: Any, *, level: str | None = None) -> np.ndarray[Any, np.dtype[np.uint8]]:
        alone = not isinstance(images, list | tuple)
        found = [*self.stream([images] if alone else images)]
        for encoded in found:
            if encoded.error is not None:
                raise encoded.error
        codes = np.array([encoded.code for encoded in found], np.uint8).reshape(-1, 8)
        return codes[0] if alone else codes

    def stream(
        self,
        sources: Iterable[Any],
        batch_size: int = 8,
        embeddings: bool = False,
        views: Iterable[Views] | None = None,
    ) -> Iterator[Encoded]:
        for source, view in zip(sources, itertools.repeat(Views()) if views is None else views, strict=False):
            self.seen.append(source)
            time.sleep(self.delay)
            try:
                with opened(source, views=view) as image:
                    code, embedding = self._both(image, embeddings)
                    parts = [EncodedPart(part, *self._both(cut, embeddings)) for part, cut in image.parts()]
                yield Encoded(source, code, embedding, parts=parts)
            except ImageError as error:
                yield Encoded(source, error=error)

    def _both(self, image: Decoded, embeddings: bool) -> tuple[Any, Any]:
        pixels = image.pixels(4, resize="box").astype(np.float32)
        grey = pixels.mean(axis=2)
        code = np.packbits(np.concatenate([(grey > grey.mean()).ravel(), (pixels > 127).ravel()]))
        return code, (pixels / 64 - 2).ravel() if embeddings else None


def kinds(root: Path, n_kinds: int, n_each: int, start: int = 0) -> Path:
    """Write pictures of some kinds, in a folder each: those of a kind are alike."""
    for kind in range(n_kinds):
        fields = np.random.default_rng(kind).integers(0, 256, (4, 4, 3)).astype(np.int16)
        for number in range(start, start + n_each):
            noise = np.random.default_rng(1000 * kind + number).integers(-60, 61, fields.shape)
            path = root / f"kind{kind}" / f"{number:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.clip(fields + noise, 0, 255).astype(np.uint8)).resize((16, 16), 0).save(path)
    return root

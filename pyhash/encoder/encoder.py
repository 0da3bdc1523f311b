"""Images in, codes and embeddings out."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from functools import cached_property
from itertools import repeat
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from .. import heads
from ..codes import Levels, LevelsLike, check_int
from ..errors import EncoderError
from ..images import MAX_PIXELS, Source, Views, decoder_identity
from ..labels import Labels
from ..networks import (
    EMBEDDING,
    PRESETS,
    Metadata,
    Model,
    Preparation,
    Providers,
    save,
    source_of,
)
from ..support import require
from .adapting import fit_head, give_head
from .pipeline import Compute, OnError, Pipeline, Row, finite, gathered, usable_threads
from .reading import Reading
from .records import Encoded, EncodedPart, Fingerprints
from .saying import LOOKED_AT, warn_of_silence

__all__ = ["PRESETS", "Encoder", "EncoderError"]

T = TypeVar("T")
_Outcome: TypeAlias = tuple[NDArray[np.uint8], NDArray[np.float32] | None]


class Encoder:
    """Turns images into codes and embeddings.

    Safe to call from several threads at once, to pickle, and to use after a fork.

    Parameters
    ----------
    model : path, bytes or str, optional
        An ONNX model; None is the built-in one, and ``"small"`` another, of one network instead of two, for edge
        boxes: half the time and size, and a little less found. A model made by ``pyhash build`` carries in its metadata
        how images are prepared and what its levels are; any other needs ``preprocess``. The name
        ``hf://owner/repo[@revision][/file]`` is one of the Hugging Face hub, which is fetched once (extra ``hub``),
        and prepares images as its repository says.
    output : str, optional
        The output to read. Unless given ``image_embeds``, ``pooler_output`` or ``logits`` where there is one, the only
        one, or of ``last_hidden_state`` the token CLS (the mean of all where there is none).
    preprocess : str, path or dict, optional
        For a model without metadata: one of `PRESETS`, the path of a ``preprocessor_config.json``, open_clip's
        ``preprocess_cfg.json`` or timm's ``config.json``, or a dict with any of

        - ``preset``: what the rest is based on, such a name or path (a repository's own, or ``unit``);
        - ``size``: a side, or (height, width), in pixels; needed if the model leaves it open;
        - ``scale``, ``mean``, ``std``: a value becomes ``(pixel * scale - mean) / std``; ``scale`` is 1/255
          unless given, ``mean`` and ``std`` are a number or three, in the model's channel order;
        - ``channel_order``: ``rgb`` or ``bgr``;
        - ``layout``: ``nchw`` or ``nhwc``, if the input's shape does not show it;
        - ``resize``, ``crop``, ``crop_fraction``, ``fill``: as `images.load` takes them.
    levels : mapping of str to int, optional
        Names and bits of the levels, for a model without metadata; one level, ``code``, unless given.
    threads : int, optional
        CPUs to use: unless given, as many as PYHASH_THREADS says or this process may run on.
    fast_jpeg : bool
        Bring large images near the wanted size before they are resized (see `images.load`), which is several times
        faster for JPEG. Some bits differ from those of the exact way (``pytest -s bench/bench_encoder.py`` counts
        them), and so does the fingerprint.
    max_pixels : int
        Larger images are refused.
    providers : sequence of str or (str, mapping), optional
        Execution providers of ONNX Runtime, best first, such as ``["CUDAExecutionProvider"]``; unless given, those
        that PYHASH_PROVIDERS names with commas between them, or the CPU.

    Raises
    ------
    EncoderError
        When the model does not fit: what was expected, and what was found.
    FileNotFoundError
        When there is no such model.
    ImportError
        When ONNX Runtime or Pillow is not installed.

    Notes
    -----
    A bit is 1 where the output is above 0. Another kind of CPU may round the network's sums differently,
    which turns a bit whose output is within rounding error of 0.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | bytes | None = None,
        *,
        output: str | None = None,
        preprocess: str | os.PathLike[str] | Mapping[str, Any] | None = None,
        levels: Mapping[str, int] | None = None,
        threads: int | None = None,
        fast_jpeg: bool = True,
        max_pixels: int = MAX_PIXELS,
        providers: Providers | None = None,
    ) -> None:
        require("PIL.Image", "encoder")
        self.threads = usable_threads(threads)
        self._fast_jpeg = fast_jpeg
        self._max_pixels = check_int(max_pixels, "max_pixels", 1)
        source = source_of(model, preprocess)
        self._model = Model(
            source.data,
            source.name,
            output,
            preprocess,
            beside=source.preprocess,
            revision=source.revision,
            providers=providers,
        )
        self._read = Reading(self._model, source.data, levels, providers)
        self._source = source.data
        self._warned = False
        self._arguments = {
            "model": model if isinstance(model, bytes) else source.again,
            "output": output,
            "preprocess": self._model.asked and self._model.asked.settings(),
            "levels": None if levels is None else dict(levels),
            "threads": threads,
            "fast_jpeg": fast_jpeg,
            "max_pixels": max_pixels,
            "providers": providers,
        }

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self._arguments,)

    def __repr__(self) -> str:
        levels = ", ".join(f"{name}={bits}" for name, bits in self.levels.items())
        return f"<Encoder {self.name}: {self.bits} bits ({levels}), fingerprint {self.fingerprint}>"

    @property
    def name(self) -> str:
        """What the model is called, by its metadata or its file."""
        return self._model.name

    @property
    def levels(self) -> Levels:
        """Names and bits of the levels."""
        return self._read.levels

    @property
    def bits(self) -> int:
        """Length of a code in bits."""
        return self._model.width

    @property
    def size(self) -> int | tuple[int, int]:
        """Side of the square that the model sees, in pixels; or its (height, width)."""
        height, width = self._model.preparation.shape
        return height if height == width else (height, width)

    @property
    def metadata(self) -> Metadata:
        """What the model's file says about itself (training, taps, ...); nothing for a model not made here."""
        return self._model.metadata

    @property
    def opened(self) -> dict[str, Any] | None:
        """How to open this encoder again, but for its threads: arguments of `Encoder`, as JSON holds them.

        None where it was made of bytes.
        """
        if isinstance(self._arguments["model"], bytes):
            return None
        arguments = {name: value for name, value in self._arguments.items() if name != "threads"}
        text = json.dumps(arguments, default=lambda value: np.asarray(value).tolist())
        return cast("dict[str, Any]", json.loads(text))

    @property
    def spread(self) -> NDArray[np.float64] | None:
        """The variance of each number of the embedding over images in general; None where that is not known.

        `pyhash.heads.adapt` takes it as ``general``, for collections of few images.
        """
        return np.array(self.metadata.spread) if self.metadata.spread else None

    @cached_property
    def fingerprints(self) -> Fingerprints:
        """What codes depend on, in parts: of one network and one decoder, embeddings can be compared."""
        upto = self._read.embedding or self._model.output
        network = {"network": self._model.digest_of(upto), "preprocess": self._model.preparation.identity()}
        head = "" if upto == self._model.output else self._model.digest_of(self._model.output, after=upto)
        decoder = f"{decoder_identity()} fast" if self._fast_jpeg else decoder_identity()
        return Fingerprints(_digest(json.dumps(network, sort_keys=True)), head and _digest(head), _digest(decoder))

    @cached_property
    def fingerprint(self) -> str:
        """32 hex digits; codes can be compared only where they are the same.

        They stand for the model's bytes, for how images are prepared, and for how this machine decodes
        and resizes (see `images.decoder_identity`).
        """
        parts = {
            "model": self._model.digest,
            "output": self._model.output,
            "preprocess": self._model.preparation.identity(),
            "fast_jpeg": self._fast_jpeg,
            "decoder": decoder_identity(),
        }
        return _digest(json.dumps(parts, sort_keys=True))

    def encode(
        self, images: Source | Iterable[Source], *, level: str | None = None, on_error: OnError = "raise"
    ) -> NDArray[np.uint8]:
        """Return the code of each image.

        Parameters
        ----------
        images : image or iterable of images
            Paths, bytes of files, PIL images or uint8 arrays, as `images.load` takes them; or one array (n,
            h, w, 3).
        level : str, optional
            Compute this level only; the other bits are 0, so the codes fit ``Index.search(level=...)``. Where the
            level reads early layers only (see `pyhash.build`), just that part of the network is run; it is cut
            out at the first such call, by the package onnx.
        on_error : "raise" or callable
            What to do about an image that cannot be read: raise; or call this with the `ImageError`, whose
            ``index`` is the image's place, and leave the image out. ``on_error=errors.append`` collects
            them.

        Returns
        -------
        numpy.ndarray
            uint8, shape (n, n_bytes); (n_bytes,) for one image, or (0, n_bytes) if that one was left out.

        Raises
        ------
        ImageError
            When an image cannot be read.
        """
        model, finish = self._read.at(level)
        pipeline = self._pipeline(
            lambda pixels, threads: finite(model.run(pixels, threads), lambda parts: finish(parts[0]))
        )
        codes: NDArray[np.uint8] = gathered(pipeline, images, on_error, np.empty((0, self.levels.n_bytes), np.uint8))
        if level is None:
            self._listen(np.atleast_2d(codes))
        return codes

    def logits(self, images: Source | Iterable[Source], *, on_error: OnError = "raise") -> NDArray[np.float32]:
        """Return what the model gives for each image before it is cut to bits.

        Parameters
        ----------
        images, on_error
            As for `encode`.

        Returns
        -------
        numpy.ndarray
            float32, shape (n, bits); (bits,) for one image.
        """
        pipeline = self._pipeline(
            lambda pixels, threads: finite(self._model.run(pixels, threads), lambda parts: parts[0])
        )
        return gathered(pipeline, images, on_error, np.empty((0, self.bits), np.float32))

    def embed(
        self, images: Source | Iterable[Source], *, normalize: bool = True, on_error: OnError = "raise"
    ) -> NDArray[np.float32]:
        """Return the embedding of each image: the floats that its code is made of.

        Parameters
        ----------
        images, on_error
            As for `encode`.
        normalize : bool
            Whether they are brought to length 1, so that their products are cosines; else they are as the network
            projects them, which is what a head is fitted on.

        Returns
        -------
        numpy.ndarray
            float32, shape (n, dim); (dim,) for one image.

        Raises
        ------
        EncoderError
            When the encoder's file gives codes alone.
        ImageError
            When an image cannot be read.
        """
        output = self._read.embedding_output()

        def compute(pixels: NDArray[np.uint8], threads: int) -> list[NDArray[np.float32] | None]:
            rows = self._model.run(pixels, threads, [output])
            return finite(rows, lambda parts: _unit_length(parts[0]) if normalize else parts[0])

        return gathered(
            self._pipeline(compute), images, on_error, np.empty((0, self._model.width_of(output)), np.float32)
        )

    def stream(
        self,
        sources: Iterable[Source],
        *,
        batch_size: int | None = None,
        level: str | None = None,
        embeddings: bool = False,
        looks: bool = False,
        views: Iterable[Views] | None = None,
    ) -> Iterator[Encoded]:
        """Encode any number of images, in order and in bounded memory.

        Parameters
        ----------
        sources : iterable of images
            As for `encode`. Taken only a little ahead of what has been given back.
        batch_size : int, optional
            Images that a thread takes at a time.
        level : str, optional
            As for `encode`.
        embeddings : bool
            Whether to give the embedding of each image too, as the network projects it; the whole network is run then.
        looks : bool
            Whether to give the look and a thumbnail of each image too, made of the same decoding.
        views : iterable of Views, optional
            For each source which parts of it to encode, too: mirrored and turned, in tiles, in boxes.

        Yields
        ------
        Encoded
            Each source with its code, or with the `ImageError` that says why it has none.

        Raises
        ------
        EncoderError
            When embeddings are asked for and the encoder's file gives codes alone.
        """
        size = None if batch_size is None else check_int(batch_size, "batch_size", 1)
        wanted = self._read.embedding_output() if embeddings else None
        model, finish = self._read.at(level, whole=embeddings)
        outputs = list(dict.fromkeys([model.output, wanted or model.output]))

        def outcomes(parts: list[NDArray[np.float32]]) -> Iterable[_Outcome]:
            return zip(finish(parts[0]), parts[-1] if embeddings else repeat(None), strict=False)

        def compute(pixels: NDArray[np.uint8], threads: int) -> list[_Outcome | None]:
            return finite(model.run(pixels, threads, outputs), outcomes)

        encoded = _encoded(self._pipeline(compute, size, looks=looks).rows(sources, views=views))
        return encoded if embeddings or level is not None else self._overheard(encoded)

    def _listen(self, codes: NDArray[np.uint8]) -> None:
        """Warn, once, where codes say little."""
        self._warned = self._warned or warn_of_silence(codes, self.bits, self.name, fitted=self.metadata != Metadata())

    def _overheard(self, stream: Iterator[Encoded]) -> Iterator[Encoded]:
        """Listen to the first codes of a stream."""
        codes: list[NDArray[np.uint8]] = []
        for encoded in stream:
            if encoded.code is not None and len(codes) < LOOKED_AT:
                codes.append(encoded.code)
            yield encoded
        if codes:
            self._listen(np.stack(codes))

    def adapt(
        self,
        images: Source | Iterable[Source] | NDArray[np.floating[Any]],
        labels: Labels | None = None,
        levels: LevelsLike | None = None,
        head: heads.Kind | None = None,
        *,
        seed: int = 0,
    ) -> Encoder:
        """Return an encoder with another head, fitted on a collection of images.

        Without labels, codes tell apart what is in the collection; with labels, what these tell apart. The network
        stays as it is, so that a collection encoded before needs no image again: give its embeddings.

        Parameters
        ----------
        images : iterable of images, or float array, shape (n, dim)
            At least two; or their embeddings, as ``embed(..., normalize=False)`` gives them.
        labels : array or mapping of level to array, each of shape (n,), optional
            Integers or strings. A bare array is for all levels.
        levels : Levels, mapping or int, optional
            Those of this encoder unless given; for a network that was not made by pyhash, 64 bits ``coarse`` and 192
            ``fine``.
        head : str, optional
            Kind of head, as `pyhash.heads.adapt` takes it.
        seed : int

        Returns
        -------
        Encoder
            Its network is part of memory, not a file, until it is saved.

        Raises
        ------
        EncoderError
            When this encoder's file gives codes alone.
        ImageError
            When an image cannot be read.
        ValueError
            When embeddings, labels and levels do not fit.
        ImportError
            When onnx is not installed.
        """
        output = self._read.embedding_output()
        if isinstance(images, np.ndarray) and images.dtype.kind == "f":
            rows = images
        else:
            rows = self.embed(cast("Iterable[Source]", images), normalize=False)
        dim = self._model.width_of(output)
        if rows.ndim != 2 or rows.shape[1] != dim:
            raise ValueError(f"images must be several, or their embeddings (n, {dim}), got shape {rows.shape}")
        if levels is None:
            levels = heads.LEVELS if self.metadata == Metadata() else self.levels
        return self.with_head(fit_head(rows, labels, levels, head, self.spread, seed))

    def with_head(self, head: heads.CollectionHead) -> Encoder:
        """Return an encoder with this head: every level made of the image alone.

        Parameters
        ----------
        head : CollectionHead
            Fitted on embeddings of this encoder (`pyhash.heads.adapt`).
        """
        output = self._read.embedding_output()
        if head.dim != self._model.width_of(output):
            raise ValueError(f"head must be one of {self._model.width_of(output)} numbers, got {head.dim}")
        made = give_head(self._model, self._source, output, head)
        others = {"output": None, "preprocess": None, "levels": None}
        encoder = _rebuild({**self._arguments, **others, "model": made})
        noise = np.random.default_rng(0).integers(0, 256, (2, *self._model.preparation.shape, 3), np.uint8)
        wanted, found = self._model.run(noise, 1, [output])[0], encoder._model.run(noise, 1, [EMBEDDING])[0]
        if not np.allclose(wanted, found, rtol=1e-2, atol=1e-2 * float(np.abs(wanted).max())):
            raise self._read.error("gives other embeddings as one file: its preparation cannot be moved inside it")
        return encoder

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the encoder as one ONNX file, which `Encoder` opens and other runtimes run.

        Parameters
        ----------
        path : path
        overwrite : bool
            Replace a file that is no encoder of pyhash's making, too.

        Raises
        ------
        EncoderError
            When this is a network that was not made by pyhash, which `adapt` makes an encoder of.
        ForeignFileError
            When a file is there that is no encoder of pyhash's making.
        """
        if self.metadata == Metadata():
            raise self._read.error(
                "was not made by pyhash, so there is nothing to save: adapt it to a collection first"
            )
        if isinstance(self._source, bytes):
            content = self._source
        else:
            content = Path(self._source).read_bytes()
            Encoder(content)  # refuses one whose weights lie in other files
        save(content, path, overwrite=overwrite)

    def _pipeline(self, compute: Compute[T], chunk: int | None = None, *, looks: bool = False) -> Pipeline[T]:
        self._model.settle()  # before there are threads
        return Pipeline(self._preparation, compute, chunk or self._model.batch_sizes[0], self.threads, looks=looks)

    @property
    def _preparation(self) -> Preparation:
        return replace(self._model.preparation, fast_jpeg=self._fast_jpeg, max_pixels=self._max_pixels)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _rebuild(arguments: dict[str, Any]) -> Encoder:
    return Encoder(**arguments)


def _encoded(rows: Generator[Row[_Outcome]]) -> Iterator[Encoded]:
    with closing(rows):  # at once when the stream is closed, and its threads with it
        for row in rows:
            code, embedding = row.value if row.value is not None else (None, None)
            parts = [EncodedPart(part, *(value or (None, None))) for part, value in row.parts]
            yield Encoded(row.source, code, embedding, row.error, row.look, row.thumbnail, parts)


def _unit_length(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.sqrt(np.square(rows).sum(axis=1, keepdims=True))
    unit: NDArray[np.float32] = rows / np.maximum(lengths, np.float32(1e-30))
    return unit

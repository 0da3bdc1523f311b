"""Pictures in, codes out.

A picture is encoded by one thread from file to bits, and as many threads do so as there are CPUs. A
convolutional network gains little from large batches, and loses when several threads share one picture;
this way no CPU ever waits for another. Only a picture that comes alone, to a network for large ones, is run
on all CPUs at once.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import json
import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from .. import backend
from ..codes import MAX_BITS, Levels, check_int, pack
from ..errors import EncoderError, ImageError
from ..images import MAX_PIXELS, PixelBudget, decoder_identity
from ..networks import PRESETS, Metadata, Model, Preparation
from ..support import machine, require

__all__ = ["PRESETS", "Encoder", "EncoderError"]

# A network for smaller pictures is done before a second thread has woken.
_SHARED_PIXELS = 128 * 128

_OnError: TypeAlias = Literal["raise"] | Callable[[ImageError], object]
_Finish: TypeAlias = Callable[[NDArray[np.float32]], NDArray[Any]]
_Results: TypeAlias = list[tuple[Any, NDArray[Any] | ImageError]]


class Encoder:
    """Turns pictures into codes.

    Safe to call from several threads at once, to pickle, and to use after a fork.

    Parameters
    ----------
    model : path or bytes, optional
        An ONNX model; None is the built-in one. A model made by ``pyhash build`` carries in its metadata
        how pictures are prepared and what its levels are; any other needs ``preprocess``.
    output : str, optional
        The output to read; needed if there are several and none is called ``logits``.
    preprocess : str or dict, optional
        For a model without metadata: one of `PRESETS`, or a dict with any of

        - ``preset``: what the rest is based on (``unit``);
        - ``size``: a side, or (height, width), in pixels; needed if the model leaves it open;
        - ``scale``, ``mean``, ``std``: a value becomes ``(pixel * scale - mean) / std``; ``scale`` is 1/255
          unless given, ``mean`` and ``std`` are a number or three, in the model's channel order;
        - ``channel_order``: ``rgb`` or ``bgr``;
        - ``layout``: ``nchw`` or ``nhwc``, if the input's shape does not show it;
        - ``resize``, ``crop``: as `images.load` takes them.
    levels : mapping of str to int, optional
        Names and bits of the levels, for a model without metadata; one level, ``code``, unless given.
    threads : int, optional
        CPUs to use: unless given, as many as PYHASH_THREADS says or this process may run on.
    fast_jpeg : bool
        Decode large JPEG pictures at a reduced scale (see `images.load`). Some bits then differ from those
        of the full decoding (``pytest -s bench/bench_encoder.py`` counts them), and so does the fingerprint.
    max_pixels : int
        Larger pictures are refused.

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
        preprocess: str | Mapping[str, Any] | None = None,
        levels: Mapping[str, int] | None = None,
        threads: int | None = None,
        fast_jpeg: bool = False,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        require("PIL.Image", "encoder")
        self.threads = backend.threads(threads) or machine.cpus()
        self._fast_jpeg = fast_jpeg
        self._max_pixels = check_int(max_pixels, "max_pixels", 1)
        source: str | bytes
        if model is None:
            source, name = (
                importlib.resources.files("pyhash.models").joinpath("default.onnx").read_bytes(),
                "default",
            )
        elif isinstance(model, bytes):
            source, name = model, "model"
        elif isinstance(model, (str, os.PathLike)):
            path = Path(model).absolute()
            if not path.is_file():
                raise FileNotFoundError(
                    f"no such model: {os.fspath(model)}; give the path of an ONNX file, or none for the built-in model"
                )
            source, name = os.fspath(path), path.stem
        else:
            raise TypeError(f"model must be a path, bytes or None, got {type(model).__name__}")
        self._model = Model(source, name, output, preprocess)
        self._levels = self._choose_levels(levels)
        self._source = source
        self._parts: dict[str, Model] = {}
        self._arguments = {
            "model": None if model is None else source,
            "output": output,
            "preprocess": dict(preprocess) if isinstance(preprocess, Mapping) else preprocess,
            "levels": None if levels is None else dict(levels),
            "threads": threads,
            "fast_jpeg": fast_jpeg,
            "max_pixels": max_pixels,
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
        return self._levels

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
        if isinstance(self._source, bytes) and self._arguments["model"] is not None:
            return None
        arguments = {name: value for name, value in self._arguments.items() if name != "threads"}
        text = json.dumps(arguments, default=lambda value: np.asarray(value).tolist())
        return cast("dict[str, Any]", json.loads(text))

    @cached_property
    def fingerprint(self) -> str:
        """32 hex digits; codes can be compared only where they are the same.

        They stand for the model's bytes, for how pictures are prepared, and for how this machine decodes
        and resizes (see `images.decoder_identity`).
        """
        parts = {
            "model": self._model.digest,
            "output": self._model.output,
            "preprocess": self._model.preparation.identity(),
            "fast_jpeg": self._fast_jpeg,
            "decoder": decoder_identity(),
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]

    def encode(self, images: Any, *, level: str | None = None, on_error: _OnError = "raise") -> NDArray[np.uint8]:
        """Return the code of each picture.

        Parameters
        ----------
        images : picture or iterable of pictures
            Paths, bytes of files, PIL images or uint8 arrays, as `images.load` takes them; or one array (n,
            h, w, 3).
        level : str, optional
            Compute this level only; the other bits are 0, so the codes fit ``Index.search(level=...)``. Where the
            level reads early layers only (see `pyhash.build`), just that part of the network is run; it is cut
            out at the first such call, by the package onnx.
        on_error : "raise" or callable
            What to do about a picture that cannot be read: raise; or call this with the `ImageError`, whose
            ``index`` is the picture's place, and leave the picture out. ``on_error=errors.append`` collects
            them.

        Returns
        -------
        numpy.ndarray
            uint8, shape (n, n_bytes); (n_bytes,) for one picture, or (0, n_bytes) if that one was left out.

        Raises
        ------
        ImageError
            When a picture cannot be read.
        """
        return self._all(images, on_error, *self._at(level), np.empty((0, self.levels.n_bytes), np.uint8))

    def logits(self, images: Any, *, on_error: _OnError = "raise") -> NDArray[np.float32]:
        """Return what the model gives for each picture before it is cut to bits.

        Parameters
        ----------
        images, on_error
            As for `encode`.

        Returns
        -------
        numpy.ndarray
            float32, shape (n, bits); (bits,) for one picture.
        """
        return self._all(images, on_error, self._model, lambda logits: logits, np.empty((0, self.bits), np.float32))

    def stream(
        self, sources: Iterable[Any], *, batch_size: int | None = None, level: str | None = None
    ) -> Iterator[tuple[Any, NDArray[np.uint8] | ImageError]]:
        """Encode any number of pictures, in order and in bounded memory.

        Parameters
        ----------
        sources : iterable of pictures
            As for `encode`. Taken only a little ahead of what has been given back.
        batch_size : int, optional
            Pictures that a thread takes at a time.
        level : str, optional
            As for `encode`.

        Yields
        ------
        tuple
            Each source with its code, uint8 of shape (n_bytes,), or with the `ImageError` that says why it
            has none.
        """
        size = self._model.batch_sizes[0] if batch_size is None else check_int(batch_size, "batch_size", 1)
        return self._spread(sources, size, *self._at(level))

    def _at(self, level: str | None) -> tuple[Model, _Finish]:
        """Return what is run for a level, or for all of them, and what makes codes of its logits."""
        if level is None:
            return self._model, pack
        if level not in self.levels:
            raise ValueError(f"level must be one of {', '.join(self.levels)}, got {level!r}")
        if level not in self._parts:
            self._parts[level] = self._cut(level)  # twice if two threads ask at once, which does no harm
        model = self._parts[level]
        bits = self.levels.bit_range(level) if model is self._model else slice(None)

        def finish(logits: NDArray[np.float32]) -> NDArray[np.uint8]:
            codes = np.zeros((len(logits), self.levels.n_bytes), np.uint8)
            codes[:, self.levels.byte_range(level)] = pack(logits[:, bits])
            return codes

        return model, finish

    @property
    def _preparation(self) -> Preparation:
        return replace(self._model.preparation, fast_jpeg=self._fast_jpeg, max_pixels=self._max_pixels)

    def _choose_levels(self, given: Mapping[str, int] | None) -> Levels:
        """Return the levels that the model's metadata names, or those given; one of all bits where neither does."""
        metadata, bits = self.metadata, self.bits
        if metadata != Metadata():
            if given is not None:
                raise self._error("this encoder stores its own levels: levels must be None")
            lacking = [f"pyhash.{key}" for key in ("schema", "levels") if getattr(metadata, key) is None]
            if lacking:
                raise self._error(f"its metadata lacks {', '.join(lacking)}")
            given = metadata.levels
        if not 1 <= bits <= MAX_BITS:
            raise self._error(f"expected an output of 1 to {MAX_BITS} bits, found {bits}")
        try:
            levels = Levels.single(bits) if given is None else Levels(given)
        except (TypeError, ValueError) as error:
            raise self._error(str(error)) from error
        if levels.bits != bits:
            raise self._error(f"levels must have {bits} bits together, as the output has, got {levels.bits}")
        return levels

    def _error(self, text: str) -> EncoderError:
        return EncoderError(f"encoder {self.name!r}: {text}")

    def _cut(self, level: str) -> Model:
        """Return the part of the network that a level needs; the whole where there is no such part."""
        if f"{self._model.output}_{level}" not in self._model.outputs:
            return self._model
        try:
            from ..networks import select_levels

            return Model(select_levels(self._source, [level]).SerializeToString(), self.name)
        except ImportError:  # without onnx it is slower, not wrong
            return self._model

    def _all(
        self, images: Any, on_error: _OnError, model: Model, finish: _Finish, nothing: NDArray[Any]
    ) -> NDArray[Any]:
        if on_error != "raise" and not callable(on_error):
            raise ValueError(f"on_error must be 'raise' or a function, got {on_error!r}")
        alone = _is_picture(images)
        if alone:
            threads = self.threads if math.prod(self._preparation.shape) >= _SHARED_PIXELS else 1
            results = iter(self._chunk([images], model, finish, PixelBudget(self._max_pixels), threads))
        else:
            sources = list(images)
            share = math.ceil(len(sources) / self.threads)
            results = self._spread(sources, max(1, min(share, self._model.batch_sizes[0])), model, finish)
        rows = []
        for index, (_, result) in enumerate(results):
            if not isinstance(result, ImageError):
                rows.append(result)
                continue
            result.index = None if alone else index
            if not callable(on_error):
                raise result
            on_error(result)
        if not rows:
            return nothing
        return rows[0] if alone else np.stack(rows)

    def _spread(self, sources: Iterable[Any], size: int, model: Model, finish: _Finish) -> Iterator[Any]:
        """Encode chunks of pictures in as many threads as there are CPUs; give results back in order."""
        budget = PixelBudget(self._max_pixels)
        remaining = iter(sources)
        chunks = iter(lambda: list(islice(remaining, size)), [])
        if self.threads == 1:
            for chunk in chunks:
                yield from self._chunk(chunk, model, finish, budget)
            return
        pool = ThreadPoolExecutor(self.threads, "pyhash-encode")
        pending: deque[Future[_Results]] = deque()
        try:
            for chunk in chunks:
                pending.append(pool.submit(self._chunk, chunk, model, finish, budget))
                if len(pending) > 2 * self.threads:
                    yield from pending.popleft().result()
            while pending:
                yield from pending.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _chunk(
        self, sources: list[Any], model: Model, finish: _Finish, budget: PixelBudget, threads: int = 1
    ) -> _Results:
        """Encode a few pictures in the calling thread."""
        preparation = self._preparation
        pixels = np.empty((len(sources), *preparation.shape, 3), np.uint8)
        failed: dict[int, ImageError] = {}
        for at, source in enumerate(sources):
            try:
                pixels[at - len(failed)] = preparation.load(source, budget)
            except ImageError as error:
                failed[at] = error
        n_good = len(sources) - len(failed)
        rows = iter(finish(model.run(pixels[:n_good], threads)[0]) if n_good else ())
        return [(source, failed[at] if at in failed else next(rows)) for at, source in enumerate(sources)]


def _rebuild(arguments: dict[str, Any]) -> Encoder:
    return Encoder(**arguments)


def _is_picture(images: Any) -> bool:
    """Whether this is one picture, and not several."""
    if isinstance(images, np.ndarray):
        return images.ndim != 4
    if isinstance(images, (str, os.PathLike, bytes, bytearray, memoryview, require("PIL.Image", "encoder").Image)):
        return True
    if not isinstance(images, Iterable):
        raise TypeError(f"images must be a picture or an iterable of pictures, got {type(images).__name__}")
    return False

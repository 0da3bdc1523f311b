"""An ONNX model as an encoder needs it: pixels in, logits out, and what it tells about itself."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import math
import mmap
import os
import threading
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..codes import MAX_BITS, Levels
from ..errors import EncoderError
from ..images import CROPS, RESIZES, as_shape
from ..support import locked, require

SCHEMA = "1"

PRESETS: dict[str, dict[str, Any]] = {
    "imagenet": {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "crop": "center"},
    "unit": {},
    "keras-caffe": {"scale": 1.0, "mean": (103.939, 116.779, 123.68), "channel_order": "bgr"},
    "tf": {"mean": 0.5, "std": 0.5},
    "raw": {"scale": 1.0},
}
"""What common models expect, as dicts that ``Encoder(preprocess=...)`` takes.

``imagenet`` is torchvision's, ``unit`` is 0 to 1, ``keras-caffe`` is that of Keras for VGG and ResNet,
``tf`` (-1 to 1) that for Inception and MobileNet, and ``raw`` leaves 0 to 255 to a model that normalises
inside.
"""

# Only these sizes are run, so that ONNX Runtime plans its memory once for each. Large batches help fully
# connected layers, whose weights are read once a run; for large pictures they are smaller, because every
# thread holds the activations of one.
BATCH_SIZES = (16, 4, 1)
BATCH_PIXELS = 1 << 19

_INPUT_TYPES: dict[str, type[np.generic]] = {
    "tensor(uint8)": np.uint8,
    "tensor(float16)": np.float16,
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
}
_OUTPUT_TYPES = ("tensor(float16)", "tensor(float)", "tensor(double)")
_SETTINGS = ("size", "resize", "crop", "scale", "mean", "std", "channel_order", "layout")

_live: weakref.WeakSet[Model] = weakref.WeakSet()


@dataclass(frozen=True)
class Policy:
    """How a picture becomes input: resized, then ``(pixel * scale - mean) / std``, channels in its order."""

    size: int | tuple[int, int]
    resize: str = "bilinear"
    crop: str = "squash"
    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    channel_order: str = "rgb"
    layout: str = "nhwc"

    @property
    def plain(self) -> bool:
        """Whether pixels keep their values."""
        return self.scale == 1 and set(self.mean) == {0.0} and set(self.std) == {1.0}

    def apply(self, pixels: NDArray[np.uint8], dtype: type[np.generic]) -> NDArray[Any]:
        """Turn uint8 RGB (n, height, width, 3) into what the model takes."""
        values: NDArray[Any] = pixels[..., ::-1] if self.channel_order == "bgr" else pixels
        if not self.plain:
            std = np.asarray(self.std)
            values = values * np.float32(self.scale / std) - np.float32(np.asarray(self.mean) / std)
        if self.layout == "nchw":
            values = values.transpose(0, 3, 1, 2)
        return np.ascontiguousarray(values, dtype)


class Model:
    """An ONNX model, the preparation that it wants, and its sessions.

    Parameters
    ----------
    source : str or bytes
        Path of the file, or its bytes.
    name : str
        What to call it, unless its metadata does.
    output, preprocess, levels
        As `Encoder` takes them.

    Attributes
    ----------
    name : str
    metadata : dict
        The ``pyhash.`` entries of the model's metadata, without that prefix.
    digest : str
        SHA-256 of the model, including the files where it keeps weights outside.
    outputs : tuple of str
        Names of all outputs.
    output : str
        Name of the one that is read.
    policy : Policy
    bits : int
    levels : Levels
    batch_sizes : tuple of int
        What is run at once, largest first.
    """

    def __init__(
        self,
        source: str | bytes,
        name: str,
        output: str | None = None,
        preprocess: str | Mapping[str, Any] | None = None,
        levels: Mapping[str, int] | None = None,
    ) -> None:
        self._source = source
        self.name = name
        self._lock = threading.RLock()
        self._sessions: dict[int, Any] = {}
        _live.add(self)
        session = self._session(1)
        self.digest = _digest(source)
        properties = session.get_modelmeta().custom_metadata_map
        self.metadata = {key[7:]: properties[key] for key in sorted(properties) if key.startswith("pyhash.")}
        self.name = self.metadata.get("name") or name

        if self.metadata:
            if preprocess is not None or levels is not None:
                raise self._error("preprocess and levels must be None, because the model's metadata has them")
            settings, levels = self._from_metadata()
        else:
            settings = _settings(preprocess)
        self._input = self._choose_input(session.get_inputs())
        self.outputs = tuple(value.name for value in session.get_outputs())
        self._output = self._choose_output(session.get_outputs(), output)
        self.output: str = self._output.name
        self._dtype = _INPUT_TYPES[self._input.type]
        self.policy = self._make_policy(settings)
        if self._dtype is np.uint8 and not self.policy.plain:
            raise self._error(f"input {_described(self._input)} holds no normalised values; use preprocess='raw'")
        n_fixed = self._input.shape[0]
        n_pixels = math.prod(as_shape(self.policy.size))
        self.batch_sizes: tuple[int, ...] = (
            (n_fixed,)
            if isinstance(n_fixed, int)
            else tuple(n for n in BATCH_SIZES if n == 1 or n * n_pixels <= BATCH_PIXELS)
        )
        self.bits = self._count_bits(session)
        try:
            self.levels = Levels.single(self.bits) if levels is None else Levels(levels)
        except (TypeError, ValueError) as error:
            raise self._error(str(error)) from error
        if self.levels.bits != self.bits:
            raise self._error(f"levels must have {self.bits} bits together, as the output has, got {self.levels.bits}")

    def run(self, pixels: NDArray[np.uint8], threads: int = 1) -> NDArray[np.float32]:
        """Run the network.

        Parameters
        ----------
        pixels : numpy.ndarray
            uint8 RGB, shape (n, height, width, 3).
        threads : int
            Threads that work on one picture. Several callers can run at once.

        Returns
        -------
        numpy.ndarray
            float32, shape (n, bits).
        """
        session = self._session(threads)
        logits = np.empty((len(pixels), self.bits), np.float32)
        start = 0
        while start < len(pixels):
            n_left = len(pixels) - start
            size = next((n for n in self.batch_sizes if n <= n_left), self.batch_sizes[-1])
            batch = pixels[start : start + size]
            if len(batch) < size:  # the model takes batches of one size only
                batch = np.concatenate([batch, np.zeros((size - len(batch), *batch.shape[1:]), np.uint8)])
            output = self._run_batch(session, batch)
            if output.shape != (size, self.bits):
                raise self._error(f"output must be {(size, self.bits)} for {size} pictures, got {output.shape}")
            logits[start : start + size] = output[:n_left]
            start += size
        if np.isnan(logits).any():
            raise self._error("output must be numbers, got NaN")
        return logits

    def forget_sessions(self) -> None:
        """Begin anew without sessions, in a forked child."""
        for threads, session in self._sessions.items():
            if threads > 1:
                # Its threads are the parent's. If it were ever freed here, ONNX Runtime would wait for them
                # for ever.
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(session._sess))
        self._sessions = {}
        self._lock = threading.RLock()

    def _session(self, threads: int) -> Any:
        """Return the session that runs a picture on so many threads, made at its first use in a process."""
        return locked(self._lock, lambda: self._sessions.get(threads) or self._open(threads))

    def _open(self, threads: int) -> Any:
        runtime = onnxruntime()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 4  # what goes wrong is raised; it need not be printed too
        try:
            session = runtime.InferenceSession(self._source, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's exceptions have no class in common
            if "INVALID_PROTOBUF" in str(error):
                raise self._error("not an ONNX model, or one that is cut short") from error
            raise self._error(f"ONNX Runtime cannot load it: {error}") from error
        self._sessions[threads] = session
        return session

    def _run_batch(self, session: Any, batch: NDArray[np.uint8]) -> NDArray[Any]:
        try:
            (output,) = session.run([self._output.name], {self._input.name: self.policy.apply(batch, self._dtype)})
        except Exception as error:
            raise self._error(f"ONNX Runtime cannot run it: {error}") from error
        return np.asarray(output).reshape(_without_trailing_ones(output.shape))

    def _error(self, text: str) -> EncoderError:
        return EncoderError(f"encoder {self.name!r}: {text}")

    def _from_metadata(self) -> tuple[dict[str, Any], Mapping[str, int]]:
        """Return preprocessing and levels as the metadata tells them."""
        found = self.metadata.get("schema")
        if found != SCHEMA:
            raise self._error(f"expected metadata pyhash.schema to be {SCHEMA!r}, found {found!r}")
        missing = [f"pyhash.{key}" for key in ("levels", "size", "resize", "crop") if key not in self.metadata]
        if missing:
            raise self._error(f"its metadata lacks {', '.join(missing)}")
        try:
            levels = json.loads(self.metadata["levels"])
            size = json.loads(self.metadata["size"])  # a side, or [height, width]
            size = tuple(map(int, size)) if isinstance(size, list) else int(size)
        except (TypeError, ValueError) as error:
            raise self._error(f"its metadata cannot be read: {error}") from error
        settings = {"size": size, "resize": self.metadata["resize"], "crop": self.metadata["crop"]}
        return PRESETS["raw"] | settings, levels

    def _choose_input(self, inputs: list[Any]) -> Any:
        if len(inputs) != 1 or inputs[0].type not in _INPUT_TYPES or len(inputs[0].shape) != 4:
            raise self._error(
                "expected one input of uint8 or floats, (n, 3, height, width) or (n, height, width, 3); "
                f"found {_listed(inputs)}"
            )
        return inputs[0]

    def _choose_output(self, outputs: list[Any], name: str | None) -> Any:
        found = {value.name: value for value in outputs}
        if name is None:
            if "logits" not in found and len(found) > 1:
                raise self._error(f"output must name one of several: {_listed(outputs)}")
            name = "logits" if "logits" in found else outputs[0].name
        if name not in found:
            raise self._error(f"expected an output {name!r}, found {_listed(outputs)}")
        chosen = found[name]
        # An exporter that does not know a shape leaves it empty; the first run shows it.
        fits = not chosen.shape or len(_without_trailing_ones(chosen.shape)) == 2
        if chosen.type not in _OUTPUT_TYPES or not fits:
            raise self._error(
                f"expected an output of floats, (n, bits), found {_described(chosen)}; "
                f"the outputs there are: {_listed(outputs)}"
            )
        return chosen

    def _make_policy(self, settings: dict[str, Any]) -> Policy:
        """Fit the settings of the preprocessing to the input."""
        shape, shown = self._input.shape, _described(self._input)
        layout = settings.get("layout")
        if layout is None:
            if (shape[1] == 3) == (shape[3] == 3):
                raise self._error(
                    f"expected the input to have 3 channels, (n, 3, height, width) or (n, height, width, 3), "
                    f"found {shown}; if it has, say which: preprocess={{..., 'layout': 'nchw'}} (or 'nhwc')"
                )
            layout = "nchw" if shape[1] == 3 else "nhwc"
        channels, sides = (shape[1], shape[2:]) if layout == "nchw" else (shape[3], shape[1:3])
        if isinstance(channels, int) and channels != 3:
            raise self._error(f"expected 3 channels as {layout}, found {channels}: {shown}")
        size = settings.get("size")
        if size is None:
            if not all(isinstance(side, int) for side in sides):
                raise self._error(
                    f"input {shown} leaves the size open, so preprocess must tell it: "
                    "preprocess={'preset': 'imagenet', 'size': 224}"
                )
            size = tuple(sides)
        for key, options in (("resize", RESIZES), ("crop", CROPS)):
            if settings.get(key, options[0]) not in options:
                raise self._error(f"{key} must be one of {', '.join(options)}, got {settings[key]!r}")
        try:
            wanted = as_shape(size)
        except ValueError as error:
            raise self._error(str(error)) from error
        if any(isinstance(side, int) and side != given for side, given in zip(sides, wanted, strict=True)):
            raise self._error(f"expected pictures of size {size} as the preprocessing says, found {shown}")
        side = wanted[0] if wanted[0] == wanted[1] else wanted
        return Policy(**settings | {"size": side, "layout": layout})

    def _count_bits(self, session: Any) -> int:
        bits = self._output.shape[1] if self._output.shape else None
        if not isinstance(bits, int):
            black = np.zeros((self.batch_sizes[-1], *as_shape(self.policy.size), 3), np.uint8)
            shape = self._run_batch(session, black).shape
            if len(shape) != 2:
                raise self._error(f"expected an output (n, bits), found {shape} for {len(black)} pictures")
            bits = shape[1]
        if not 1 <= bits <= MAX_BITS:
            raise self._error(f"expected an output of 1 to {MAX_BITS} bits, found {bits}")
        return bits


def onnxruntime() -> Any:
    """Import ONNX Runtime.

    Its wheels for Linux and macOS, from 1.29 on, start a thread at import that uploads telemetry, and a
    forked child then hangs when it exits. ``ORT_DISABLE_TELEMETRY`` prevents both if it is set before; a
    user's own setting of it is kept.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    return require("onnxruntime", "encoder")


def _described(value: Any) -> str:
    shape = ", ".join("?" if side is None else str(side) for side in value.shape)
    return f"{value.name!r} {value.type.removeprefix('tensor(').removesuffix(')')} ({shape})"


def _listed(values: list[Any]) -> str:
    return ", ".join(map(_described, values)) or "none"


def _without_trailing_ones(shape: Any) -> tuple[Any, ...]:
    """Return a shape without what global pooling leaves behind: (n, bits, 1, 1) is (n, bits)."""
    n_kept = len(shape)
    while n_kept > 2 and shape[n_kept - 1] == 1:
        n_kept -= 1
    return tuple(shape[:n_kept])


def _settings(preprocess: str | Mapping[str, Any] | None) -> dict[str, Any]:
    """Check ``preprocess``; return it as a dict with the preset filled in."""
    presets = ", ".join(PRESETS)
    if preprocess is None:
        raise EncoderError(
            f"this model has no pyhash metadata, so preprocess must be given: one of {presets}, "
            f"or a dict of {', '.join(_SETTINGS)}, based on a preset"
        )
    given = {"preset": preprocess} if isinstance(preprocess, str) else dict(preprocess)
    preset = given.pop("preset", "unit")
    if preset not in PRESETS:
        raise ValueError(f"preprocess must be one of {presets}, or a dict, got {preset!r}")
    for key in given:
        if key not in _SETTINGS:
            raise ValueError(f"preprocess must have no keys but preset, {', '.join(_SETTINGS)}, got {key!r}")
    settings = PRESETS[preset] | given
    for key, shapes in (("scale", [()]), ("mean", [(), (3,)]), ("std", [(), (3,)])):
        if key in settings:
            try:
                values = np.asarray(settings[key], np.float64)
            except (TypeError, ValueError):
                values = np.array([np.nan])
            if values.shape not in shapes or not np.isfinite(values).all() or (key != "mean" and not values.all()):
                what = "a number" if len(shapes) == 1 else "a number or three"
                zero = "" if key == "mean" else ", not 0"
                raise ValueError(f"preprocess {key} must be {what}{zero}, got {settings[key]!r}")
            settings[key] = float(values) if key == "scale" else tuple(np.broadcast_to(values, 3).tolist())
    for key, options in (("channel_order", ("rgb", "bgr")), ("layout", ("nchw", "nhwc"))):
        if key in settings and settings[key] not in options:
            raise ValueError(f"preprocess {key} must be {' or '.join(options)}, got {settings[key]!r}")
    return settings


def _digest(source: str | bytes) -> str:
    if isinstance(source, bytes):
        return hashlib.sha256(source).hexdigest()
    names: set[str] = set()
    with open(source, "rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        # A model in ONNX Runtime's own format is no such message, and keeps nothing outside.
        with mapped, contextlib.suppress(IndexError, ValueError):
            names = _external_files(mapped)
    for name in sorted(names):
        with open(Path(source).parent / name, "rb") as file:
            digest.update(name.encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _external_files(model: mmap.mmap) -> set[str]:
    """Return the names of the files where a serialised model keeps weights outside.

    By the field numbers of onnx.proto: ModelProto.graph is 7, GraphProto.initializer 5,
    TensorProto.external_data 13, and that is pairs of a key, 1, and a value, 2. Offsets stand for messages,
    as weights may be large.
    """
    names: set[str] = set()
    for graph in _fields(model, 0, len(model), 7):
        for tensor in _fields(model, *graph, 5):
            for pair in _fields(model, *tensor, 13):
                if [model[slice(*key)] for key in _fields(model, *pair, 1)] == [b"location"]:
                    names.update(model[slice(*value)].decode() for value in _fields(model, *pair, 2))
    return names


def _fields(model: mmap.mmap, at: int, end: int, wanted: int) -> Iterator[tuple[int, int]]:
    """Iterate over where the length-delimited fields of a number lie in the message ``at`` to ``end``."""

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = model[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    while at < end:
        key = varint()
        kind = key & 7
        if kind == 0:
            varint()
            continue
        length = varint() if kind == 2 else 8 if kind == 1 else 4
        if kind == 2 and key >> 3 == wanted:
            yield at, at + length
        at += length


def _after_fork_in_child() -> None:
    for model in list(_live):
        model.forget_sessions()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)

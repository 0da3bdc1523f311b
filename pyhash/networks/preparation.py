"""How an image becomes what a network takes: one object that loads it, prepares its pixels, or says so in ONNX."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, replace
from types import NoneType
from typing import Any, Literal, Self, cast, get_args

import numpy as np
from numpy.typing import NDArray

from ..errors import EncoderError
from ..images import (
    CROPS,
    MAX_PIXELS,
    RESIZES,
    Crop,
    Decoded,
    PixelBudget,
    Resize,
    Source,
    Views,
    as_shape,
    check_fill,
    check_fraction,
    inner,
    opened,
)
from .nodes import FLOAT, UINT8, Emitter
from .processors import read_processor

__all__ = ["PRESETS", "ChannelOrder", "Layout", "Preparation"]

Layout = Literal["nchw", "nhwc"]
"""Where the channels of an image input are."""
ChannelOrder = Literal["rgb", "bgr"]

PRESETS: dict[str, dict[str, Any]] = {
    "imagenet": {
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "crop": "center",
        "crop_fraction": 224 / 256,
    },
    "unit": {},
    "keras-caffe": {"scale": 1.0, "mean": (103.939, 116.779, 123.68), "channel_order": "bgr"},
    "tf": {"mean": 0.5, "std": 0.5},
    "raw": {"scale": 1.0},
}
"""What common models expect, as dicts that ``Encoder(preprocess=...)`` takes.

``imagenet`` is torchvision's (the shorter side to 256, and the middle 224 of it; other sizes in proportion),
``unit`` is 0 to 1, ``keras-caffe`` is that of Keras for VGG and ResNet, ``tf`` (-1 to 1) that for Inception and
MobileNet, and ``raw`` leaves 0 to 255 to a model that normalises inside.
"""

_KEYS = ("size", "resize", "crop", "crop_fraction", "fill", "scale", "mean", "std", "channel_order", "layout")
_WHOLE = Views()
_CHECKS: dict[str, Callable[[Any], Any]] = {"crop_fraction": check_fraction, "fill": check_fill}


@dataclass(frozen=True)
class Preparation:
    """How an image becomes input: decoded, resized, then ``(pixel * scale - mean) / std``, channels in order.

    Attributes
    ----------
    size : int or (int, int), optional
        Side or (height, width) in pixels; None while the network has not been asked.
    resize, crop : str
    crop_fraction : float, optional
    fill : (int, int, int)
        As `pyhash.images.load` takes them.
    scale : float
    mean, std : tuple of float
        One for each channel, in the model's order.
    channel_order : str
    layout : str, optional
        None while the network has not been asked.
    fast_jpeg : bool
    max_pixels : int
        As `pyhash.images.load` takes them.
    """

    size: int | tuple[int, int] | None = None
    resize: Resize = "bilinear"
    crop: Crop = "squash"
    crop_fraction: float | None = None
    fill: tuple[int, int, int] = (0, 0, 0)
    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    channel_order: ChannelOrder = "rgb"
    layout: Layout | None = None
    fast_jpeg: bool = True
    max_pixels: int = MAX_PIXELS

    @classmethod
    def parse(
        cls,
        preprocess: str | os.PathLike[str] | Mapping[str, Any] | Preparation | None,
        beside: Mapping[str, Any] | None = None,
    ) -> Preparation:
        """Check what a caller gave as ``preprocess``: a preset, the path of a JSON file, or a mapping based on one.

        Parameters
        ----------
        preprocess : str, path, mapping, Preparation or None
        beside : mapping, optional
            What the model comes with, which a mapping without ``preset`` is based on.

        Raises
        ------
        EncoderError
            When neither is given, or such a file asks for what cannot be done.
        FileNotFoundError
            When there is no such file.
        ValueError
            When it is no such thing.
        """
        if isinstance(preprocess, Preparation):
            return preprocess
        presets = ", ".join(PRESETS)
        if preprocess is None and beside is None:
            raise EncoderError(
                f"this model has no pyhash metadata, so preprocess must be given: one of {presets}, "
                f"a JSON file (preprocessor_config.json), or a dict of {', '.join(_KEYS)}, based on a preset"
            )
        given = dict(preprocess or {}) if isinstance(preprocess, (Mapping, NoneType)) else {"preset": preprocess}
        base = _base(given.pop("preset"), presets) if "preset" in given else dict(beside or PRESETS["unit"])
        base.pop("preset", None)
        for key in given:
            if key not in _KEYS:
                raise ValueError(f"preprocess must have no keys but preset, {', '.join(_KEYS)}, got {key!r}")
        settings = base | given
        for key in {"scale", "mean", "std"} & settings.keys():
            settings[key] = _numbers(key, settings[key])
        for key, options in (("channel_order", get_args(ChannelOrder)), ("layout", get_args(Layout))):
            if settings.get(key, options[0]) not in options:
                raise ValueError(f"preprocess {key} must be {' or '.join(options)}, got {settings[key]!r}")
        for key, options in (("resize", RESIZES), ("crop", CROPS)):
            if settings.get(key, options[0]) not in options:
                raise ValueError(f"{key} must be one of {', '.join(options)}, got {settings[key]!r}")
        for key, check in _CHECKS.items():
            if key in settings:
                settings[key] = check(settings[key])
        if settings.get("size") is not None:
            settings["size"] = _side(as_shape(settings["size"]))
        return cls(**settings)

    @property
    def plain(self) -> bool:
        """Whether pixels keep their values."""
        return self.scale == 1 and set(self.mean) == {0.0} and set(self.std) == {1.0}

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of what is loaded."""
        if self.size is None:
            raise ValueError("size must be given: the network leaves it open")
        return as_shape(self.size)

    def fitted(self, shape: tuple[int, int], layout: Layout) -> Self:
        """Return the same preparation for a network that takes images of this height and width, in this layout."""
        return replace(self, size=_side(shape), layout=layout)

    def identity(self) -> dict[str, Any]:
        """Return what of it changes an image's code, as a fingerprint takes it; decoding aside.

        What came later than the first galleries is in it only where it is used, so that their fingerprints hold.
        """
        later = {key for key, default in _LATER.items() if getattr(self, key) == default}
        return {key: getattr(self, key) for key in _KEYS if key not in later}

    def settings(self) -> dict[str, Any]:
        """Return it as a dict that ``preprocess=`` takes, whatever presets come to mean."""
        return {key: getattr(self, key) for key in _KEYS if getattr(self, key) is not None} | {"preset": "unit"}

    def opened(
        self, source: Source, budget: PixelBudget | None = None, views: Views = _WHOLE
    ) -> AbstractContextManager[Decoded]:
        """Decode an image, for `pixels` and for all else that is made of it; see `pyhash.images.opened`."""
        height, width = inner(self.shape, self.crop_fraction)
        return opened(
            source,
            at_least=(height, width) if self.fast_jpeg else None,
            max_pixels=self.max_pixels,
            budget=budget,
            views=views,
        )

    def pixels(self, image: Decoded) -> NDArray[np.uint8]:
        """Return what `apply` takes of a decoded image: uint8 RGB (height, width, 3)."""
        return image.pixels(
            self.shape, resize=self.resize, crop=self.crop, crop_fraction=self.crop_fraction, fill=self.fill
        )

    def load(self, source: Source, budget: PixelBudget | None = None) -> NDArray[np.uint8]:
        """Decode an image into pixels for `apply`, uint8 RGB (height, width, 3)."""
        with self.opened(source, budget) as image:
            return self.pixels(image)

    def apply(self, pixels: NDArray[np.uint8], dtype: type[np.generic]) -> NDArray[Any]:
        """Turn uint8 RGB (n, height, width, 3) into what the network takes."""
        values: NDArray[Any] = pixels[..., ::-1] if self.channel_order == "bgr" else pixels
        if not self.plain:
            std = np.asarray(self.std)
            values = values * np.float32(self.scale / std) - np.float32(np.asarray(self.mean) / std)
        if self.layout == "nchw":
            values = values.transpose(0, 3, 1, 2)
        return np.ascontiguousarray(values, dtype)

    def emit(self, emitter: Emitter, source: str, output: str, element: int) -> None:
        """Emit what `apply` does as nodes of a network, from the tensor `source` to `output`.

        Parameters
        ----------
        emitter : Emitter
        source, output : str
            Names of tensors: uint8 RGB (n, height, width, 3), and the network's own input.
        element : int
            The element type of that, as of `onnx.TensorProto`.
        """
        current = source
        if self.channel_order == "bgr":
            current = emitter.emit("Gather", [current, emitter.const(np.array([2, 1, 0], np.int64))], axis=3)
        if self.layout == "nchw":
            current = emitter.emit("Transpose", [current], perm=[0, 3, 1, 2])  # while a pixel is still a byte
        if element != UINT8:
            current = emitter.emit("Cast", [current], to=FLOAT)
            std = np.asarray(self.std, np.float64)
            factor, offset = self.scale / std, -np.asarray(self.mean) / std
            shape = (3, 1, 1) if self.layout == "nchw" else (3,)
            if (factor != 1).any():
                current = emitter.emit("Mul", [current, emitter.const(factor.astype(np.float32).reshape(shape))])
            if offset.any():
                current = emitter.emit("Add", [current, emitter.const(offset.astype(np.float32).reshape(shape))])
            if element != FLOAT:
                current = emitter.emit("Cast", [current], to=element)
        emitter.emit("Identity", [current], output=output)


_LATER = {field.name: field.default for field in fields(Preparation) if field.name in _CHECKS}


def _base(preset: Any, presets: str) -> dict[str, Any]:
    """Return the settings of a preset, or those that a file says."""
    if isinstance(preset, str) and preset in PRESETS:
        return dict(PRESETS[preset])
    if isinstance(preset, (str, os.PathLike)) and os.fspath(preset).lower().endswith(".json"):
        return read_processor(preset)
    raise ValueError(f"preprocess must be one of {presets}, the path of a JSON file, or a dict, got {preset!r}")


def _side(shape: tuple[int, int]) -> int | tuple[int, int]:
    """Return a square's side, or (height, width)."""
    return shape[0] if shape[0] == shape[1] else shape


def _numbers(key: str, value: Any) -> float | tuple[float, ...]:
    """Check a scale, or a mean or deviation of the channels."""
    shapes = [()] if key == "scale" else [(), (3,)]
    try:
        values = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        values = np.array([np.nan])
    if values.shape not in shapes or not np.isfinite(values).all() or (key != "mean" and not values.all()):
        what = "a number" if key == "scale" else "a number or three"
        zero = "" if key == "mean" else ", not 0"
        raise ValueError(f"preprocess {key} must be {what}{zero}, got {value!r}")
    return float(values) if key == "scale" else cast(tuple[float, ...], tuple(np.broadcast_to(values, 3).tolist()))

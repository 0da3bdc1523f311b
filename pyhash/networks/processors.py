"""How a network wants its images, by the JSON files that lie beside it: of Hugging Face, of open_clip, of timm.

Each is turned into the dict that ``preprocess=`` takes. What cannot be said so is refused by name, never left out.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import EncoderError

__all__ = ["PROCESSOR_FILES", "is_timm", "read_processor", "settings_of"]

PROCESSOR_FILES = (
    "preprocessor_config.json",
    "processor_config.json",
    "preprocess_cfg.json",
    "open_clip_config.json",
    "config.json",
)
"""Names of such files; the last also means others, and counts where it is timm's."""

_OPENAI = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_FILTERS = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # by Pillow's numbers


class _Kind(NamedTuple):
    """What a type of Hugging Face's image processors does where its file does not say."""

    shortest: bool
    """Whether a bare number as size is the shorter side, not both."""
    crops: bool
    resample: int


_KINDS = {
    **dict.fromkeys(("CLIP", "ChineseCLIP", "Bit", "ViTHybrid", "Levit", "PoolFormer"), _Kind(True, True, 3)),
    **dict.fromkeys(("MobileNetV1", "MobileNetV2", "MobileViT"), _Kind(True, True, 2)),
    **dict.fromkeys(("DeiT", "Beit", "EfficientFormer", "Flava"), _Kind(False, True, 3)),
    **dict.fromkeys(("ViT", "Segformer", "Pvt", "DINOv3ViT"), _Kind(False, False, 2)),
    **dict.fromkeys(("Siglip", "Blip"), _Kind(False, False, 3)),
    "EfficientNet": _Kind(False, False, 0),
    "ConvNext": _Kind(True, False, 2),
}
_STEPS = {"resize", "center_crop", "rescale", "normalize", "convert_rgb", "flip_channel_order", "reduce_labels"}
"""What ``do_...`` can say; the last concerns no images."""


def read_processor(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read such a file; EncoderError names what of it cannot be done."""
    try:
        config = json.loads(Path(path).read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise EncoderError(f"{os.fspath(path)} is not JSON: {error}") from error
    try:
        return settings_of(config)
    except EncoderError as error:
        raise EncoderError(f"{os.fspath(path)}: {error}") from error
    except (LookupError, TypeError, ValueError, ZeroDivisionError) as error:
        raise EncoderError(f"{os.fspath(path)} cannot be understood: {error!r}") from error


def settings_of(config: Any) -> dict[str, Any]:
    """Return what a file's content says, as ``preprocess=`` takes it.

    Parameters
    ----------
    config : mapping
        The content of one of `PROCESSOR_FILES`.

    Raises
    ------
    EncoderError
        When it is none of them, or asks for what cannot be done; the message names it.
    """
    if not isinstance(config, Mapping):
        raise EncoderError("it must be a JSON object")
    if isinstance(config.get("image_processor"), Mapping):  # of a processor for images and text
        return settings_of(config["image_processor"])
    if is_timm(config):
        return _timm(config.get("pretrained_cfg") or config)
    if "preprocess_cfg" in config:
        vision = (config.get("model_cfg") or {}).get("vision_cfg") or {}
        return _open_clip({"size": vision.get("image_size", 224)} | dict(config["preprocess_cfg"]))
    if "resize_mode" in config or ("mean" in config and "interpolation" in config):
        return _open_clip(config)
    named = config.get("image_processor_type") or config.get("feature_extractor_type")
    if named is None and not isinstance(config.get("size"), Mapping):
        raise EncoderError(
            "it names no image_processor_type, and is neither open_clip's preprocess_cfg nor timm's config; say "
            "preprocess= yourself"
        )
    return _hugging_face(config, named)


def is_timm(config: Mapping[str, Any]) -> bool:
    """Whether this is timm's ``config.json``; other libraries call other things so."""
    return "pretrained_cfg" in config or ("architecture" in config and "input_size" in config)


def _hugging_face(config: Mapping[str, Any], named: str | None) -> dict[str, Any]:
    kind, family = _kind(named)
    for key, value in config.items():
        if key.startswith("do_") and value and key.removeprefix("do_") not in _STEPS:
            raise EncoderError(f"it asks for {key}, which cannot be done")
    if not config.get("do_resize", True):
        raise EncoderError("it says do_resize false, and a network takes images of one size")
    resample = config.get("resample")
    found = _placed(config, kind, family)
    found["resize"] = _FILTERS[kind.resample if resample is None else resample]
    found["scale"] = config.get("rescale_factor", 1 / 255) if config.get("do_rescale", True) else 1.0
    mean, std = _three(0), _three(1)
    if config.get("do_normalize", True) and family != "MobileViT":
        if "image_mean" not in config or "image_std" not in config:
            raise EncoderError("it says do_normalize, and no image_mean and image_std")
        mean, std = _three(config["image_mean"]), _three(config["image_std"])
    if config.get("offset") or config.get("rescale_offset"):  # pixel * scale - 1
        mean = [value + 1 for value in mean]
    if family == "EfficientNet" and config.get("include_top", True):  # it divides once more
        std = [value * value for value in std]
    if config.get("do_flip_channel_order", family == "MobileViT"):
        found["channel_order"] = "bgr"
    return _complete(found, mean, std)


def _kind(named: str | None) -> tuple[_Kind, str]:
    """Return what is known of a type of image processor, and its name without what all have in common."""
    if named is None:  # its size says all
        return _Kind(True, False, 2), ""
    family = named.removesuffix("Pil").removesuffix("Fast").removesuffix("ImageProcessor")
    family = family.removesuffix("FeatureExtractor")
    if family in ("Image", ""):  # the general one of transformers.js
        return _Kind(True, False, 2), ""
    if family not in _KINDS:
        raise EncoderError(
            f"it is of the image processor {named!r}, which is not known; say preprocess= yourself, as a dict"
        )
    return _KINDS[family], family


def _placed(config: Mapping[str, Any], kind: _Kind, family: str) -> dict[str, Any]:
    """Return size, crop and crop_fraction by ``size``, ``crop_size`` and ``crop_pct``."""
    shorter, whole = _size(config.get("size"), kind)
    crop = _sides(config["crop_size"]) if config.get("do_center_crop", kind.crops) and "crop_size" in config else None
    share = config.get("crop_pct", {"ConvNext": 224 / 256, "PoolFormer": 0.9}.get(family))
    if family == "Levit" and shorter is not None:
        shorter = int(256 / 224 * shorter)
    if share is not None and family == "PoolFormer":
        return _cropped(int((shorter or min(whole or (0,))) / share), crop)
    elif share is not None and shorter is not None and crop is None:
        if shorter >= 384:
            whole, shorter = (shorter, shorter), None  # ConvNeXt: large images are not cropped
        else:
            shorter, crop = int(shorter / share), (shorter, shorter)
    if whole is not None:
        if crop is None or crop == whole:
            return {"size": whole, "crop": "squash"}
        return {"size": crop, "crop": "squash", "crop_fraction": _fraction(crop, whole)}
    return _cropped(shorter, crop)


def _cropped(shorter: int | None, crop: tuple[int, int] | None) -> dict[str, Any]:
    """Return what cuts the middle out of images that are resized by their shorter side."""
    if shorter is None or crop is None:
        raise EncoderError("it says size by the shorter side and no crop_size, so images come out in several sizes")
    if crop[0] != crop[1]:
        raise EncoderError(f"it says crop_size {crop[0]} x {crop[1]} of a shorter side: only squares are understood")
    return {"size": crop, "crop": "center", "crop_fraction": _fraction(crop, (shorter, shorter))}


def _size(size: Any, kind: _Kind) -> tuple[int | None, tuple[int, int] | None]:
    """Return the shorter side, or both sides, that images are resized to."""
    if isinstance(size, Mapping):
        given = {key: value for key, value in size.items() if value is not None}
        if given.keys() == {"shortest_edge"}:
            return int(given["shortest_edge"]), None
        if given.keys() == {"height", "width"}:
            return None, _sides(given)
        raise EncoderError(f"it says size {dict(size)}, which is not understood")
    if size is None:
        raise EncoderError("it says no size")
    if isinstance(size, int) and kind.shortest:
        return size, None
    return None, _sides(size)


def _open_clip(config: Mapping[str, Any]) -> dict[str, Any]:
    size = _sides(config.get("size", 224))
    mode = config.get("resize_mode") or "shortest"
    crops = {"shortest": ("center", 1.0), "longest": ("letterbox", None), "squash": ("squash", None)}
    if mode not in crops or config.get("mode", "RGB") != "RGB":
        raise EncoderError(f"it says resize_mode {mode!r} and mode {config.get('mode')!r}, which are not understood")
    crop, fraction = crops[mode]
    found = {"size": size, "crop": crop, "crop_fraction": fraction, "resize": _filter(config.get("interpolation"))}
    if crop == "letterbox":
        found["fill"] = config.get("fill_color", 0)
    return _complete(found, _three(config.get("mean") or _OPENAI[0]), _three(config.get("std") or _OPENAI[1]))


def _timm(config: Mapping[str, Any]) -> dict[str, Any]:
    channels, height, width = config.get("input_size") or (3, 224, 224)
    if channels != 3:
        raise EncoderError(f"it says input_size {config['input_size']}: only three channels are understood")
    share, mode = config.get("crop_pct") or 0.875, config.get("crop_mode") or "center"
    crops = {"center": "center", "squash": "squash", "border": "letterbox"}
    if mode not in crops:
        raise EncoderError(f"it says crop_mode {mode!r}, which is not understood")
    larger = math.floor(height / share), math.floor(width / share)
    found = {"size": (height, width), "crop": crops[mode], "crop_fraction": _fraction((height, width), larger)}
    found["resize"] = _filter(config.get("interpolation"))
    mean, std = _three(config.get("mean") or _IMAGENET[0]), _three(config.get("std") or _IMAGENET[1])
    if mode == "border":
        found["fill"] = [round(255 * value) for value in mean]
    return _complete(found, mean, std)


def _complete(found: dict[str, Any], mean: list[float], std: list[float]) -> dict[str, Any]:
    """Return whole settings; all of these networks are exported with channels first, whatever their shape shows."""
    return {"preset": "unit", "layout": "nchw"} | found | {"mean": mean, "std": std}


def _filter(name: str | None) -> str:
    """Return a filter by its name; timm and open_clip mean bicubic where they say nothing, or that any will do."""
    return "bicubic" if name in (None, "", "random") else str(name)


def _sides(value: Any) -> tuple[int, int]:
    """Return (height, width)."""
    if isinstance(value, Mapping):
        return int(value["height"]), int(value["width"])
    height, width = value if isinstance(value, (list, tuple)) else (value, value)
    return int(height), int(width)


def _three(value: Any) -> list[float]:
    numbers = [float(part) for part in (value if isinstance(value, (list, tuple)) else [value])]
    return numbers if len(numbers) == 3 else numbers * 3


def _fraction(kept: tuple[int, int], whole: tuple[int, int]) -> float:
    """Return how much is kept; the division is made good by rounding where images are resized."""
    shares = {kept[0] / whole[0], kept[1] / whole[1]}
    if max(shares) > 1:
        raise EncoderError(f"it crops {kept[0]} x {kept[1]} of {whole[0]} x {whole[1]}, which is larger")
    if [round(side / max(shares)) for side in kept] != list(whole):
        raise EncoderError(f"it crops {kept[0]} x {kept[1]} of {whole[0]} x {whole[1]}: only one share is understood")
    return max(shares)

"""What lies beside a network and says how it wants its images: read as those who wrote it do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("PIL")
from photographs import photo
from PIL import Image

from pyhash.errors import EncoderError
from pyhash.networks import Preparation
from pyhash.networks.processors import settings_of

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
NORMAL = {"do_normalize": True, "image_mean": MEAN, "image_std": STD}


def hugging_face(kind: str, **said: Any) -> dict[str, Any]:
    return {"image_processor_type": kind, **NORMAL, **said}


def by_pillow(pixels: np.ndarray, size: tuple[int, int], resample: int, crop: int | None) -> np.ndarray:
    """Resize to (width, height) by one of Pillow's numbers, and keep the middle, as torchvision rounds it."""
    image = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling(resample)))
    top, left = (round((have - (crop or have)) / 2) for have in image.shape[:2])
    return image[top : top + crop, left : left + crop] if crop else image


# The photograph is 60 wide and 40 high. Each line: what the file says, what it is resized to, by which of Pillow's
# filters, and the square that is kept of it.
PLACED: dict[str, tuple[dict[str, Any], tuple[int, int], int, int | None]] = {
    "clip": (hugging_face("CLIPImageProcessor", size={"shortest_edge": 28}, crop_size=28), (42, 28), 3, 28),
    "clip, old": (
        NORMAL | {"feature_extractor_type": "CLIPFeatureExtractor", "size": 32, "crop_size": 28, "resample": 2},
        (48, 32),
        2,
        28,
    ),
    "dinov2": (
        hugging_face(
            "BitImageProcessorFast",
            size={"shortest_edge": 32, "longest_edge": None},
            crop_size={"height": 28, "width": 28},
            resample=3,
        ),
        (48, 32),
        3,
        28,
    ),
    "vit": (hugging_face("ViTImageProcessor", size={"height": 28, "width": 28}), (28, 28), 2, None),
    "vit, old": (
        NORMAL | {"feature_extractor_type": "ViTFeatureExtractor", "size": 28, "resample": 3},
        (28, 28),
        3,
        None,
    ),
    "deit": (hugging_face("DeiTImageProcessor", size=32, crop_size=28), (32, 32), 3, 28),
    "deit, not cropped": (
        hugging_face("DeiTImageProcessor", size=28, crop_size=20, do_center_crop=False),
        (28, 28),
        3,
        None,
    ),
    "siglip": (hugging_face("SiglipImageProcessor", size={"height": 28, "width": 28}), (28, 28), 3, None),
    "convnext": (hugging_face("ConvNextImageProcessor", size={"shortest_edge": 28}, crop_pct=0.875), (48, 32), 2, 28),
    "convnext, large": (hugging_face("ConvNextImageProcessor", size={"shortest_edge": 384}), (384, 384), 2, None),
    "levit": (hugging_face("LevitImageProcessor", size={"shortest_edge": 28}, crop_size=28), (48, 32), 3, 28),
    "poolformer": (hugging_face("PoolFormerImageProcessor", size=27, crop_size=27, crop_pct=0.9), (45, 30), 3, 27),
    "transformers.js": (
        hugging_face("ImageFeatureExtractor", size={"shortest_edge": 28}, crop_pct=0.875),
        (48, 32),
        2,
        28,
    ),
    "image and text": (
        {"processor_class": "CLIPProcessor", "image_processor": hugging_face("ViTImageProcessor", size=28)},
        (28, 28),
        2,
        None,
    ),
    "timm": (
        {
            "pretrained_cfg": {
                "input_size": [3, 28, 28],
                "crop_pct": 0.875,
                "interpolation": "bilinear",
                "mean": MEAN,
                "std": STD,
            }
        },
        (48, 32),
        2,
        28,
    ),
    "timm, older": (
        {
            "architecture": "x",
            "input_size": [3, 28, 28],
            "crop_pct": 0.9,
            "crop_mode": "squash",
            "mean": MEAN,
            "std": STD,
        },
        (31, 31),
        3,
        28,
    ),
    "open_clip": (
        {"model_cfg": {"vision_cfg": {"image_size": 28}}, "preprocess_cfg": {"mean": MEAN, "std": STD}},
        (42, 28),
        3,
        28,
    ),
    "open_clip, squash": (
        {
            "size": [28, 28],
            "mean": MEAN,
            "std": STD,
            "interpolation": "bilinear",
            "resize_mode": "squash",
            "mode": "RGB",
        },
        (28, 28),
        2,
        None,
    ),
}


@pytest.mark.parametrize("case", PLACED)
def test_images_are_prepared_as_the_file_says(case: str) -> None:
    config, size, resample, crop = PLACED[case]
    preparation = Preparation.parse(settings_of(config))
    pixels = preparation.load(photo(60, 40))
    np.testing.assert_array_equal(pixels, by_pillow(photo(60, 40), size, resample, crop))
    values = preparation.fitted(preparation.shape, "nchw").apply(pixels[None], np.float32)[0]
    np.testing.assert_allclose(values, ((pixels / 255 - MEAN) / STD).transpose(2, 0, 1), atol=1e-5)


def test_a_letterbox_of_open_clip_and_of_timm() -> None:
    found = settings_of({"size": 28, "mean": MEAN, "std": STD, "resize_mode": "longest", "fill_color": 7})
    assert (found["crop"], found["crop_fraction"], found["fill"]) == ("letterbox", None, 7)
    found = settings_of({"pretrained_cfg": {"input_size": [3, 28, 28], "crop_pct": 1.0, "crop_mode": "border"}})
    assert (found["crop"], found["crop_fraction"], found["fill"]) == ("letterbox", 1.0, [124, 116, 104])
    assert Preparation.parse(found).load(photo(60, 40))[0, 0].tolist() == [124, 116, 104]


VIT = hugging_face("ViTImageProcessor", size=28)


@pytest.mark.parametrize(
    ("config", "by_hand"),
    [
        (VIT | {"rescale_factor": 1 / 128}, lambda x: (x / 128 - MEAN) / STD),
        (VIT | {"do_rescale": False}, lambda x: (x - MEAN) / STD),
        (VIT | {"do_normalize": False}, lambda x: x / 255),
        (VIT | {"image_mean": 0.5, "image_std": [0.5]}, lambda x: (x / 255 - 0.5) / 0.5),
        (VIT | {"image_processor_type": "EfficientNetImageProcessor"}, lambda x: (x / 255 - MEAN) / np.square(STD)),
        (
            VIT
            | {"image_processor_type": "EfficientNetImageProcessor", "include_top": False, "rescale_factor": 1 / 127.5}
            | {"rescale_offset": True},
            lambda x: (x / 127.5 - 1 - MEAN) / STD,
        ),
        (
            {
                "image_processor_type": "MobileViTImageProcessor",
                "size": 28,
                "crop_size": 28,
                "do_flip_channel_order": True,
            },
            lambda x: x[..., ::-1] / 255,
        ),
        (
            VIT | {"do_flip_channel_order": True, **NORMAL, "image_mean": 0, "image_std": 1},
            lambda x: x[..., ::-1] / 255,
        ),
    ],
)
def test_values_are_scaled_as_the_file_says(config: dict[str, Any], by_hand: Any) -> None:
    preparation = Preparation.parse(settings_of(config)).fitted((28, 28), "nhwc")
    pixels = preparation.load(photo(60, 40))
    np.testing.assert_allclose(
        preparation.apply(pixels[None], np.float32)[0], by_hand(pixels.astype(np.float64)), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (hugging_face("Owlv2ImageProcessor", size=28), "the image processor 'Owlv2ImageProcessor', which is not known"),
        (NORMAL | {"size": 28}, "it names no image_processor_type"),
        ({"model_type": "resnet"}, "it names no image_processor_type"),
        ([1], "it must be a JSON object"),
        (VIT | {"do_pad": True}, "it asks for do_pad"),
        (VIT | {"do_resize": False}, "it says do_resize false"),
        (VIT | {"size": {"longest_edge": 28}}, "it says size {'longest_edge': 28}, which is not understood"),
        (VIT | {"size": None}, "it says no size"),
        ({"image_processor_type": "ViTImageProcessor", "size": 28}, "it says do_normalize, and no image_mean"),
        (hugging_face("CLIPImageProcessor", size=28, do_center_crop=False), "images come out in several sizes"),
        (hugging_face("CLIPImageProcessor", size=28, crop_size=32), "it crops 32 x 32 of 28 x 28, which is larger"),
        (
            hugging_face("CLIPImageProcessor", size=28, crop_size={"height": 20, "width": 24}),
            "only squares are understood",
        ),
        ({"pretrained_cfg": {"input_size": [1, 28, 28]}}, "only three channels"),
        ({"pretrained_cfg": {"input_size": [3, 28, 28], "crop_mode": "wide"}}, "crop_mode 'wide', which is not"),
        ({"size": 28, "mean": MEAN, "interpolation": "bicubic", "resize_mode": "fit"}, "resize_mode 'fit'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_done_is_refused_by_name(config: Any, message: str) -> None:
    with pytest.raises(EncoderError) as caught:
        settings_of(config)
    assert message in str(caught.value)


def test_a_path_is_read_and_can_be_changed(tmp_path: Path) -> None:
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps(VIT))
    expected = Preparation.parse(settings_of(VIT))
    assert Preparation.parse(path) == Preparation.parse(str(path)) == expected
    changed = Preparation.parse({"preset": str(path), "crop": "center", "size": 14})
    assert (changed.mean, changed.crop, changed.size) == (expected.mean, "center", 14)
    for text, message in [
        ("{", "is not JSON"),
        ("[]", "must be a JSON object"),
        (json.dumps(VIT | {"resample": 9}), "cannot be understood"),
        (json.dumps(VIT | {"image_mean": ["x"]}), "cannot be understood"),
    ]:
        path.write_text(text)
        with pytest.raises(EncoderError, match=rf"preprocessor_config\.json.* {message}"):
            Preparation.parse(path)
    with pytest.raises(FileNotFoundError):
        Preparation.parse(str(tmp_path / "gone.json"))

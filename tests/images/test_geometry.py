"""How an image becomes one of a wanted size: what is cut away, what is filled, and that others do the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("PIL")
from hypothesis import given
from hypothesis import strategies as st
from photographs import photo
from PIL import Image

from pyhash.images import load

SIDES = st.integers(5, 90)
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def torchvision(pixels: np.ndarray, shorter: int, crop: int, resize: str) -> np.ndarray:
    """``Resize(shorter)`` and ``CenterCrop(crop)`` of an image that Pillow resizes, by torchvision's arithmetic."""
    height, width = pixels.shape[:2]
    size = (shorter, int(shorter * height / width)) if width <= height else (int(shorter * width / height), shorter)
    resized = np.asarray(Image.fromarray(pixels).resize(size, FILTERS[resize]))
    top, left = round((size[1] - crop) / 2.0), round((size[0] - crop) / 2.0)
    return resized[top : top + crop, left : left + crop]


@given(SIDES, SIDES, st.sampled_from([(32, 28), (29, 28), (28, 28), (43, 37)]), st.sampled_from(sorted(FILTERS)))
def test_a_part_of_the_middle_is_that_of_torchvision(height: int, width: int, sides: Any, resize: Any) -> None:
    pixels = photo(width, height)
    found = load(pixels, size=sides[1], resize=resize, crop="center", crop_fraction=sides[1] / sides[0])
    expected = torchvision(pixels, *sides, resize)
    if max(height, width) < 10 * min(height, width):
        np.testing.assert_array_equal(found, expected)
    else:  # resized by its middle alone, with other roundings
        assert np.abs(found.astype(int) - expected).mean() < 2


@pytest.mark.parametrize("shape", [(3, 4000), (4000, 3)])
def test_a_panorama_is_not_made_large_to_be_cut(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    resize = Image.Image.resize
    monkeypatch.setattr(Image.Image, "resize", lambda self, size, *rest: made.append(size) or resize(self, size, *rest))
    pixels = photo(shape[1], shape[0])
    found = load(pixels, size=32, crop="center", crop_fraction=0.5)
    assert made == [(32, 32)]
    expected = torchvision(pixels, 64, 32, "bilinear")
    assert np.abs(found.astype(int) - expected).mean() < 2


@given(SIDES, SIDES)
def test_a_letterbox_holds_the_whole_image_in_its_own_proportions(height: int, width: int) -> None:
    pixels = photo(width, height)
    found = load(pixels, size=(24, 36), crop="letterbox", fill=(1, 2, 3))
    ratio = min(24 / height, 36 / width)
    inner = max(1, round(height * ratio)), max(1, round(width * ratio))
    top, left = (24 - inner[0]) // 2, (36 - inner[1]) // 2
    expected = np.empty((24, 36, 3), np.uint8)
    expected[:] = (1, 2, 3)
    expected[top : top + inner[0], left : left + inner[1]] = np.asarray(
        Image.fromarray(pixels).resize(inner[::-1], Image.Resampling.BILINEAR)
    )
    np.testing.assert_array_equal(found, expected)


def test_the_whole_image_can_be_resized_for_a_larger_size_too() -> None:
    pixels = photo(60, 40)
    larger = np.asarray(Image.fromarray(pixels).resize((32, 32), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(load(pixels, size=28, crop_fraction=0.875), larger[2:30, 2:30])
    boxed = load(pixels, size=32, crop="letterbox", fill=9)
    np.testing.assert_array_equal(
        load(pixels, size=28, crop="letterbox", crop_fraction=0.875, fill=9), boxed[2:30, 2:30]
    )


def test_transparency_is_laid_on_white_inside_and_the_fill_is_beside_it() -> None:
    clear = np.zeros((10, 20, 4), np.uint8)
    found = load(clear, size=20, crop="letterbox", fill=(10, 20, 30))
    assert found[5:15].tolist() == np.full((10, 20, 3), 255).tolist()
    assert np.unique(np.concatenate([found[:5], found[15:]]).reshape(-1, 3), axis=0).tolist() == [[10, 20, 30]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"crop_fraction": 0}, "crop_fraction must be above 0 and at most 1, or None, got 0"),
        ({"crop_fraction": 1.5}, "crop_fraction must be above 0 and at most 1, or None, got 1.5"),
        ({"crop_fraction": "most"}, "crop_fraction must be .* got 'most'"),
        ({"crop_fraction": float("nan")}, "crop_fraction must be .* got nan"),
        ({"fill": 256}, "fill must be a whole number from 0 to 255, or three, got 256"),
        ({"fill": (1, 2)}, r"fill must be .* got \(1, 2\)"),
        ({"fill": 0.5}, "fill must be .* got 0.5"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(photo(), size=8, **arguments)

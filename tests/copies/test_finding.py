"""Copies among image files: found however they were changed, and only where the images themselves say so."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

import pyhash
from pyhash.copies import Duplicates


def scene(seed: int, size: tuple[int, int] = (360, 270)) -> Image.Image:
    """An image with large and small shapes."""
    rng = np.random.default_rng(seed)
    image = Image.fromarray(rng.integers(0, 256, (5, 6, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)
    for _ in range(30):
        w, h = rng.integers(8, 90, 2)
        colour = tuple(int(value) for value in rng.integers(0, 256, 3))
        x, y = rng.integers(0, size[0] - w), rng.integers(0, size[1] - h)
        image.paste(colour, (int(x), int(y), int(x + w), int(y + h)))
    return image


def cropped(image: Image.Image) -> Image.Image:
    w, h = image.size
    return image.crop((w // 40, h // 40, w - w // 40, h - h // 40))


def names(found: Duplicates) -> list[set[str]]:
    return [{Path(copy.path).name for copy in group.images} for group in found.groups]


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "same": lambda image: image,
    "half": lambda image: image.resize((image.width // 2, image.height // 2)),
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.7),
    "grey": lambda image: ImageOps.grayscale(image).convert("RGB"),
    "border": lambda image: ImageOps.expand(image, 10, "white"),
    "cropped": cropped,
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found(tmp_path: Path, change: str) -> None:
    for seed in range(4):
        scene(seed).save(tmp_path / f"{seed}.png")
    CHANGES[change](scene(2)).save(tmp_path / "copy.jpg")
    found = pyhash.duplicates(tmp_path)
    assert names(found) == [{"2.png", "copy.jpg"}]
    assert found.groups[0].level == "duplicates"
    assert found.groups[0].reason
    assert found.uncompared == ()


def test_identical_files_and_the_best_first(tmp_path: Path) -> None:
    scene(1).save(tmp_path / "large.png")
    shutil.copy(tmp_path / "large.png", tmp_path / "twin.png")
    scene(1).resize((180, 135)).save(tmp_path / "small.jpg")
    ((first, *others),) = [group.images for group in pyhash.duplicates(tmp_path).groups]
    assert Path(first.path).name in {"large.png", "twin.png"}
    assert {Path(copy.path).name: copy.relation for copy in others}["small.jpg"] == "changed"
    assert [copy.relation for copy in others if Path(copy.path).name != "small.jpg"] == ["identical bytes"]


def test_different_images_that_share_a_frame_are_no_copies(tmp_path: Path) -> None:
    """White signs, and scans in one frame: what is blank or shared proves nothing."""
    for seed in range(4):
        page = Image.new("RGB", (320, 320), "white")
        page.paste(scene(10 + seed).resize((60, 60)), (130, 130))
        page.save(tmp_path / f"sign{seed}.png")
        framed = ImageOps.expand(scene(30 + seed).resize((200, 200)), 40, (40, 30, 20))
        framed.save(tmp_path / f"scan{seed}.png")
    assert names(pyhash.duplicates(tmp_path)) == []


def test_mirrored_and_turned_only_if_asked(tmp_path: Path) -> None:
    scene(3).save(tmp_path / "a.png")
    ImageOps.mirror(scene(3)).save(tmp_path / "mirrored.jpg")
    assert names(pyhash.duplicates(tmp_path)) == []
    assert names(pyhash.duplicates(tmp_path, turned=True)) == [{"a.png", "mirrored.jpg"}]


def test_what_cannot_be_read_is_named_and_links_are_no_copies(tmp_path: Path) -> None:
    scene(4).save(tmp_path / "a.png")
    os.link(tmp_path / "a.png", tmp_path / "link.png")
    (tmp_path / "text.png").write_text("no image")
    found = pyhash.duplicates(tmp_path)
    assert names(found) == []
    assert [Path(one.path).name for one in found.uncompared] == ["text.png"]


def test_nothing(tmp_path: Path) -> None:
    assert pyhash.duplicates(tmp_path) == pyhash.duplicates([])
    assert pyhash.duplicates([]).groups == ()

"""The decoder's fingerprint stands for what makes pixels, and for nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("PIL")
from PIL import Image, ImageCms, JpegImagePlugin, WebPImagePlugin, features

from pyhash.images import colour, decoder_identity, identity


@pytest.fixture
def anew() -> Iterator[Callable[[], str]]:
    """Compute it as a new process would."""

    def compute() -> str:
        decoder_identity.cache_clear()
        colour._transform.cache_clear()
        return decoder_identity()

    yield compute
    decoder_identity.cache_clear()
    colour._transform.cache_clear()


def test_it_is_short_and_does_not_change(anew: Callable[[], str]) -> None:
    assert len(anew()) == 16
    assert set(anew()) <= set("0123456789abcdef")
    assert anew() == anew()


def test_the_version_of_libraries_does_not_matter_where_pixels_are_the_same(
    anew: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = anew()
    monkeypatch.setattr(Image, "__version__", "99.0.0")
    monkeypatch.setattr(features, "version", lambda feature: "99.0.0")
    assert anew() == before


def test_what_this_package_does_to_pixels_counts(anew: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    before = anew()
    monkeypatch.setattr(identity, "DECODING", identity.DECODING + 1)
    assert anew() != before


def other_pixels(load: Any) -> Any:
    def changed(self: Any) -> Any:
        result = load(self)
        self.im.putpixel((0, 0), (1, 2, 3))
        return result

    return changed


@pytest.mark.parametrize("part", ["resize", "JPEG", "scaled JPEG", "WebP", "colours"])
def test_other_pixels_count(anew: Callable[[], str], monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    before = anew()
    if part == "resize":
        resize = Image.Image.resize
        nearest = Image.Resampling.NEAREST
        monkeypatch.setattr(Image.Image, "resize", lambda self, size, _, box=None: resize(self, size, nearest, box))
    elif part == "JPEG":
        plugin = JpegImagePlugin.JpegImageFile
        monkeypatch.setattr(plugin, "load", other_pixels(plugin.load))
    elif part == "scaled JPEG":
        draft = JpegImagePlugin.JpegImageFile.draft
        twice = lambda self, mode, size: draft(self, mode, (size[0] * 2, size[1] * 2))  # noqa: E731
        monkeypatch.setattr(JpegImagePlugin.JpegImageFile, "draft", twice)
    elif part == "WebP":
        monkeypatch.setattr(WebPImagePlugin.WebPImageFile, "load", other_pixels(WebPImagePlugin.WebPImageFile.load))
    else:
        if not features.check("littlecms2"):
            pytest.skip("this Pillow converts no colours")
        apply = ImageCms.applyTransform
        monkeypatch.setattr(ImageCms, "applyTransform", lambda image, transform: apply(image, transform).rotate(180))
    assert anew() != before

"""Images in other colour spaces come out as their copies in sRGB do."""

from __future__ import annotations

import io
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

pytest.importorskip("PIL")
from photographs import encoded, photo
from PIL import Image, ImageCms, features
from profiles import SPACES, SRGB, cmyk_profile, grey_profile, in_space, rgb_profile

from pyhash.images import colour, load

pytestmark = pytest.mark.skipif(not features.check("littlecms2"), reason="this Pillow converts no colours")


def scene() -> Image.Image:
    """Colours that are neither very dark nor as strong as can be."""
    return Image.fromarray(photo(64, 48) // 2 + 60)


def difference(a: Any, b: Any) -> float:
    return float(np.abs(np.asarray(a).astype(int) - np.asarray(b)).max())


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_matrix_profiles(space: str, kind: str) -> None:
    image, profile = in_space(scene(), *SPACES[space]), rgb_profile(*SPACES[space])
    options = {"lossless": True} if kind == "WEBP" else {}
    assert difference(load(encoded(image, kind, icc_profile=profile, **options)), scene()) <= 4
    assert difference(load(encoded(image, kind, **options)), scene()) > 8


@pytest.mark.parametrize("space", ["Display P3", "Adobe RGB"])
@pytest.mark.parametrize("fast_jpeg", [False, True])
def test_in_jpeg_at_every_scale(space: str, fast_jpeg: bool) -> None:
    large = scene().resize((640, 480), Image.Resampling.BICUBIC)
    image, profile = in_space(large, *SPACES[space]), rgb_profile(*SPACES[space])
    options = {"quality": 95, "subsampling": 0}
    expected = load(encoded(large, "JPEG", **options), size=160, fast_jpeg=fast_jpeg)
    result = load(encoded(image, "JPEG", icc_profile=profile, **options), size=160, fast_jpeg=fast_jpeg)
    assert difference(result, expected) <= 6


def test_a_given_image_brings_its_profile() -> None:
    data = encoded(in_space(scene(), *SPACES["Display P3"]), "PNG", icc_profile=rgb_profile(*SPACES["Display P3"]))
    with Image.open(io.BytesIO(data)) as image:
        np.testing.assert_array_equal(load(image), load(data))


def test_a_profile_of_srgb_changes_nothing() -> None:
    made = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    np.testing.assert_array_equal(load(encoded(scene(), "PNG", icc_profile=made)), np.asarray(scene()))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG"])
def test_grey(kind: str) -> None:
    grey = Image.fromarray(np.full((16, 16), 128, np.uint8))
    result = load(encoded(grey, kind, icc_profile=grey_profile(1.0)))
    assert set(result.ravel()) == {188}  # half of the light in sRGB
    deep = Image.fromarray(np.full((16, 16), 0x8080, np.uint16))
    if kind != "JPEG":
        assert set(load(encoded(deep, kind, icc_profile=grey_profile(1.0))).ravel()) == {188}


def lab_of(cyan: int, magenta: int, yellow: int, black: int) -> tuple[float, float, float]:
    """An ink that is called cyan and is red, one called magenta that is white; the others are black."""
    if yellow or black:
        return 0, 0, 0
    return (53.2, 80.1, 67.2) if cyan else (100, 0, 0)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_by_its_profile(kind: str) -> None:
    profile = cmyk_profile(lab_of)
    inks = {(255, 0, 0, 0): (255, 0, 0), (0, 255, 0, 0): (255, 255, 255), (0, 0, 0, 255): (0, 0, 0)}
    for ink, colours in inks.items():
        image = Image.new("CMYK", (16, 16), ink)
        assert difference(load(encoded(image, kind, icc_profile=profile))[4, 4], colours) <= 12
    plain = load(encoded(Image.new("CMYK", (16, 16), (255, 0, 0, 0)), kind))[4, 4]
    assert difference(plain, (0, 255, 255)) <= 2


def test_lab() -> None:
    to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    image = ImageCms.applyTransform(scene(), to_lab)
    assert image.mode == "LAB"
    assert difference(load(encoded(image, "TIFF")), scene()) <= 12  # whole numbers of Lab are coarse


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_alpha_is_kept(kind: str) -> None:
    space = SPACES["Display P3"]
    image = in_space(scene(), *space).convert("RGBA")
    alpha = np.full((48, 64), 255, np.uint8)
    alpha[:, :20], alpha[:, 20:40] = 0, 128
    image.putalpha(Image.fromarray(alpha))
    result = load(encoded(image, kind, icc_profile=rgb_profile(*space)))
    assert set(result[:, :20].ravel()) == {255}
    assert difference(result[:, 20:40], (np.asarray(scene())[:, 20:40].astype(int) + 255) // 2) <= 4
    assert difference(result[:, 40:], np.asarray(scene())[:, 40:]) <= 4
    greys = Image.merge("LA", (Image.new("L", (64, 48), 128), Image.fromarray(alpha)))
    result = load(encoded(greys, kind, icc_profile=grey_profile(1.0)))
    assert set(result[:, :20].ravel()) == {255}
    assert set(result[:, 40:].ravel()) == {188}


def test_a_palette_has_the_colours_of_the_profile() -> None:
    space = SPACES["Adobe RGB"]
    image = in_space(scene(), *space).quantize(64)
    shown = image.convert("RGB")
    result = load(encoded(image, "PNG", icc_profile=rgb_profile(*space)))
    np.testing.assert_array_equal(result, load(encoded(shown, "PNG", icc_profile=rgb_profile(*space))))
    see_through = load(encoded(image, "PNG", icc_profile=rgb_profile(*space), transparency=5))
    assert set(see_through[np.asarray(image) == 5].ravel()) == {255}
    np.testing.assert_array_equal(see_through[np.asarray(image) != 5], result[np.asarray(image) != 5])


def with_chunks(image: Image.Image, **numbers: tuple[float, ...]) -> bytes:
    """A PNG that says its colours in chunks of numbers, in hundred thousandths."""
    data = encoded(image, "PNG")
    at = data.index(b"IDAT") - 4
    chunks = b""
    for name, values in numbers.items():
        body = (
            struct.pack(f">{len(values)}I", *(round(value * 100000) for value in values)) if name != "sRGB" else b"\0"
        )
        kind = name.encode()
        chunks += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return data[:at] + chunks + data[at:]


P3 = (0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)
REC709 = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)


def test_a_png_may_say_its_colours_in_chunks() -> None:
    image = in_space(scene(), *SPACES["Display P3"])
    assert difference(load(with_chunks(image, gAMA=(1 / 2.2,), cHRM=P3)), scene()) <= 5
    light = in_space(scene(), *SPACES["linear"])
    for chunks in ({"gAMA": (1.0,)}, {"gAMA": (1.0,), "cHRM": REC709}):
        assert difference(load(with_chunks(light, **chunks)), scene()) <= 4
    grey = Image.fromarray(np.full((16, 16), 128, np.uint8))
    deep = Image.fromarray(np.full((16, 16), 0x8080, np.uint16))
    for half in (grey, deep):
        assert set(load(with_chunks(half, gAMA=(1.0,))).ravel()) == {188}


@pytest.mark.parametrize(
    "chunks",
    [
        {"gAMA": (0.45455,)},
        {"gAMA": (0.45455,), "cHRM": REC709},
        {"sRGB": (), "gAMA": (1.0,), "cHRM": P3},
        {"cHRM": P3},
        {"gAMA": (1.0,), "cHRM": (0.3,) * 8},
        {"gAMA": (1.0,), "cHRM": (0.0,) * 8},
        {"gAMA": (0.0,)},
    ],
    ids=str,
)
def test_chunks_that_say_srgb_or_nothing_of_use(chunks: dict[str, tuple[float, ...]]) -> None:
    for image in (scene(), scene().convert("L")):
        if image.mode == "RGB" or "cHRM" not in chunks or "sRGB" in chunks:
            np.testing.assert_array_equal(load(with_chunks(image, **chunks)), np.asarray(image.convert("RGB")))


def test_a_profile_comes_before_chunks() -> None:
    data = encoded(scene(), "PNG", icc_profile=rgb_profile(*SPACES["Display P3"]))
    at = data.index(b"IDAT") - 4
    extra = with_chunks(scene(), gAMA=(1.0,))
    chunk = extra[extra.index(b"gAMA") - 4 :][:16]
    np.testing.assert_array_equal(load(data[:at] + chunk + data[at:]), load(data))


def test_broken_profiles_and_those_of_other_images_are_ignored() -> None:
    whole = rgb_profile(*SPACES["Display P3"])
    for profile in (b"no profile", whole[:200], whole[:100] + bytes(300), grey_profile(1.0), cmyk_profile(lab_of)):
        np.testing.assert_array_equal(load(encoded(scene(), "PNG", icc_profile=profile)), np.asarray(scene()))
    grey = scene().convert("L")
    result = load(encoded(grey, "PNG", icc_profile=whole))
    np.testing.assert_array_equal(result[:, :, 0], np.asarray(grey))


def test_transforms_are_made_once_and_threads_share_them() -> None:
    profile = rgb_profile(SRGB, 1.8)
    data = encoded(in_space(scene(), SRGB, 1.8), "PNG", icc_profile=profile)
    expected = load(data)
    before = colour._transform.cache_info()
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(load, [data] * 64))
    after = colour._transform.cache_info()
    np.testing.assert_array_equal(results, [expected] * 64)
    assert (after.misses - before.misses, after.hits - before.hits) == (0, 64)


@pytest.mark.parametrize("says", [{0xA001: 0xFFFF}, {}], ids=["uncalibrated", "nothing"])
def test_cameras_say_adobe_rgb_in_exif(says: dict[int, int]) -> None:
    image = in_space(scene(), *SPACES["Adobe RGB"])

    def with_exif(space: dict[int, int], index: str) -> bytes:
        exif = Image.Exif()
        exif.get_ifd(0x8769).update({**space, 0xA005: {1: index}})
        return encoded(image, "JPEG", quality=100, subsampling=0, exif=exif)

    plain = load(encoded(image, "JPEG", quality=100, subsampling=0))
    assert difference(load(with_exif(says, "R03")), scene()) <= 8
    assert difference(plain, scene()) > 12
    for other in (with_exif(says, "R98"), with_exif({0xA001: 1}, "R03")):
        assert difference(load(other), plain) == 0

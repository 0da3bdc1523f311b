"""Decoding: every format, depth and colour mode gives the right pixels, and every bad file one clear reason."""

import contextlib
import io
import os
import pickle
import struct
import sys
import threading
import time
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("PIL")
from PIL import Image, ImageOps

from pyhash.errors import ImageError
from pyhash.images import PixelBudget, decoder_identity, load
from pyhash.images import decode as images

Image.init()
AVIF = pytest.param("AVIF", marks=pytest.mark.skipif("AVIF" not in Image.SAVE, reason="this Pillow has no AVIF"))


def photo(width=60, height=40, seed=0):
    """A smooth colour picture, as a uint8 array."""
    y, x = np.mgrid[0:height, 0:width]
    rng = np.random.default_rng(seed)
    waves = [np.sin(x / rng.uniform(4, 12) + y / rng.uniform(4, 12) + rng.uniform(0, 6)) for _ in range(3)]
    return np.uint8(np.stack(waves, -1) * 110 + 128)


def encoded(picture, kind, **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture(params=["simplejpeg", "pillow"])
def jpeg_decoder(request, monkeypatch):
    if request.param == "pillow":
        monkeypatch.setattr(images, "_simplejpeg", lambda: None)
    else:
        pytest.importorskip("simplejpeg")
        assert images._simplejpeg() is not None, "simplejpeg does not decode as Pillow does"
    return request.param


# Formats


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "TIFF", "PPM", "WEBP", "JPEG2000"])
def test_lossless_formats_give_the_pixels_back(kind):
    options = {"WEBP": {"lossless": True}, "JPEG2000": {"irreversible": False}}.get(kind, {})
    pixels = photo() // 64 * 64 if kind == "GIF" else photo()
    data = encoded(Image.fromarray(pixels), kind, **options)
    np.testing.assert_array_equal(load(data), pixels)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", AVIF])
def test_lossy_formats_come_close(kind):
    difference = load(encoded(Image.fromarray(photo()), kind, quality=95)).astype(int) - photo()
    assert np.abs(difference).mean() < 4


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate", "packbits", "jpeg"])
def test_tiff_compressions(compression):
    result = load(encoded(Image.fromarray(photo()), "TIFF", compression=compression))
    assert np.abs(result.astype(int) - photo()).mean() < 4


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG"])
def test_the_first_frame_is_taken(kind):
    first, second = (Image.fromarray(np.full((8, 9, 3), value, np.uint8)) for value in (64, 192))
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(first, kind, save_all=True, append_images=[second], **options)
    assert set(load(data).ravel()) == {64}


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"subsampling": 2}], ids=str)
def test_jpeg_is_decoded_as_pillow_does(jpeg_decoder, mode, options):
    data = encoded(Image.fromarray(photo(61, 43)).convert(mode), "JPEG", **options)
    with Image.open(io.BytesIO(data)) as picture:
        np.testing.assert_array_equal(load(data), np.asarray(picture.convert("RGB")))


def test_jpeg_stored_as_rgb(jpeg_decoder):
    data = encoded(Image.fromarray(photo()), "JPEG", keep_rgb=True, quality=100)
    assert np.abs(load(data).astype(int) - photo()).max() < 6


def test_both_jpeg_decoders_give_the_same_pixels(monkeypatch):
    pytest.importorskip("simplejpeg")
    rng = np.random.default_rng(0)
    pictures = []
    for width, height in [(1, 1), (7, 3), (16, 16), (33, 129), (200, 150)]:
        for quality in (30, 95):
            noise = Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))
            pictures.append(encoded(noise, "JPEG", quality=quality, subsampling=int(rng.integers(3))))
    with_simplejpeg = [load(data, size=16) for data in pictures]
    monkeypatch.setattr(images, "_simplejpeg", lambda: None)
    np.testing.assert_array_equal(with_simplejpeg, [load(data, size=16) for data in pictures])


def test_another_jpeg_decoder_is_not_used(monkeypatch):
    """One that decodes to other pixels than Pillow must not decide the codes."""
    simplejpeg = pytest.importorskip("simplejpeg")
    decode = simplejpeg.decode_jpeg
    monkeypatch.setattr(simplejpeg, "decode_jpeg", lambda data, raw: decode(data, raw) ^ 1)
    images._simplejpeg.cache_clear()
    assert images._simplejpeg() is None
    images._simplejpeg.cache_clear()


def test_decoder_identity_does_not_depend_on_simplejpeg(monkeypatch):
    decoder_identity.cache_clear()
    identity = decoder_identity()
    decoder_identity.cache_clear()
    monkeypatch.setattr(images, "_simplejpeg", lambda: None)
    assert decoder_identity() == identity
    assert len(identity) == 16


def test_decoder_identity_sees_another_resize(monkeypatch):
    decoder_identity.cache_clear()
    identity = decoder_identity()
    decoder_identity.cache_clear()
    resize = Image.Image.resize
    monkeypatch.setattr(
        Image.Image, "resize", lambda self, size, _, box=None: resize(self, size, Image.Resampling.NEAREST, box)
    )
    assert decoder_identity() != identity
    decoder_identity.cache_clear()


# Orientation


ORIENTATIONS = range(1, 9)


def exif_with_orientation(value, order="<"):
    mark = b"II" if order == "<" else b"MM"
    tags = struct.pack(order + "HHIHH", 0x0112, 3, 1, value, 0)
    return b"Exif\0\0" + mark + struct.pack(order + "HIH", 42, 8, 1) + tags + struct.pack(order + "I", 0)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied(jpeg_decoder, kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(photo()), kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    with Image.open(io.BytesIO(data)) as picture:
        expected = np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
    assert expected.shape[:2] == ((40, 60) if orientation < 5 else (60, 40))
    np.testing.assert_array_equal(load(data), expected)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_orientation_of_both_byte_orders(order, orientation):
    assert images._orientation(exif_with_orientation(orientation, order)) == orientation


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_damaged_exif_is_upright_or_an_orientation(data):
    exif = bytearray(exif_with_orientation(6))
    for at in data.draw(st.lists(st.integers(0, len(exif) - 1), max_size=4)):
        exif[at] = data.draw(st.integers(0, 255))
    images._orientation(bytes(exif[: data.draw(st.integers(0, len(exif)))]))


def test_an_orientation_that_does_not_exist_is_upright(jpeg_decoder):
    data = encoded(Image.fromarray(photo()), "JPEG", exif=exif_with_orientation(9))
    assert load(data).shape == (40, 60, 3)


def test_a_pil_image_is_turned_upright_too():
    data = encoded(Image.fromarray(photo()), "PNG", exif=exif_with_orientation(6))
    with Image.open(io.BytesIO(data)) as picture:
        np.testing.assert_array_equal(load(picture), load(data))


# Colour modes


def test_greyscale():
    grey = photo()[:, :, 0]
    result = load(encoded(Image.fromarray(grey), "PNG"))
    np.testing.assert_array_equal(result, np.repeat(grey[:, :, None], 3, 2))


def test_greyscale_is_resized_as_its_rgb():
    grey = Image.fromarray(photo()[:, :, 0])
    np.testing.assert_array_equal(load(grey, size=16), load(grey.convert("RGB"), size=16))


def test_bilevel():
    result = load(encoded(Image.fromarray(photo()[:, :, 0]).convert("1"), "PNG"))
    assert set(result.ravel()) == {0, 255}


def test_palette():
    picture = Image.fromarray(photo()).quantize(32)
    np.testing.assert_array_equal(load(encoded(picture, "PNG")), np.asarray(picture.convert("RGB")))


@pytest.mark.parametrize("transparency", [3, bytes([255] * 3 + [0] + [255] * 28)], ids=["index", "table"])
def test_palette_with_a_transparent_entry_is_laid_on_white(transparency):
    picture = Image.fromarray(photo()).quantize(32)
    expected = np.asarray(picture.convert("RGB")).copy()
    expected[np.asarray(picture) == 3] = 255
    np.testing.assert_array_equal(load(encoded(picture, "PNG", transparency=transparency)), expected)


def test_transparent_gif_is_laid_on_white():
    picture = Image.fromarray(photo()).quantize(32)
    expected = np.asarray(picture.convert("RGB")).copy()
    expected[np.asarray(picture) == 3] = 255
    np.testing.assert_array_equal(load(encoded(picture, "GIF", transparency=3)), expected)


def test_png_colour_key_is_laid_on_white():
    pixels = photo()
    pixels[:10] = (10, 20, 30)
    result = load(encoded(Image.fromarray(pixels), "PNG", transparency=(10, 20, 30)))
    np.testing.assert_array_equal(result[:10], 255)
    np.testing.assert_array_equal(result[10:], pixels[10:])


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_alpha_is_laid_on_white(kind):
    alpha = np.linspace(0, 255, 60).astype(np.uint8) * np.ones((40, 1), np.uint8)
    picture = Image.fromarray(np.dstack([photo(), alpha]))
    data = encoded(picture, kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {}))
    weight = alpha[:, :, None] / 255
    expected = photo() * weight + 255 * (1 - weight)
    assert np.abs(load(data) - expected).max() <= 1.01


def test_transparent_pixels_do_not_bleed_when_resized():
    """What colour lies under a fully transparent part must not matter."""
    codes = []
    for hidden in (0, 255):
        pixels = np.dstack([photo(), np.full((40, 60), 255, np.uint8)])
        pixels[:, 30:, :3] = hidden
        pixels[:, 30:, 3] = 0
        codes.append(load(Image.fromarray(pixels), size=16, resize="lanczos"))
    np.testing.assert_array_equal(*codes)


def test_opaque_alpha_changes_nothing():
    opaque = np.dstack([photo(), np.full((40, 60), 255, np.uint8)])
    for size in (None, 16):
        np.testing.assert_array_equal(
            load(opaque, size=size, resize="bicubic"), load(photo(), size=size, resize="bicubic")
        )


def test_grey_with_alpha():
    pixels = np.dstack([np.full((4, 4), 100, np.uint8), np.full((4, 4), 0, np.uint8)])
    assert set(load(encoded(Image.fromarray(pixels, "LA"), "PNG")).ravel()) == {255}


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk(kind):
    picture = Image.fromarray(photo()).convert("CMYK")
    assert np.abs(load(encoded(picture, kind)).astype(int) - photo()).mean() < 6


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bit_grey_is_scaled_and_not_clipped(kind):
    values = np.linspace(0, 65535, 40 * 60).reshape(40, 60).astype(np.uint16)
    result = load(encoded(Image.fromarray(values), kind))
    np.testing.assert_array_equal(result[:, :, 0], values >> 8)
    assert result.min() == 0
    assert result.max() == 255


def test_big_endian_16_bit_tiff():
    values = np.linspace(0, 65535, 40 * 60).reshape(40, 60).astype(">u2")
    np.testing.assert_array_equal(load(encoded(Image.fromarray(values), "TIFF"))[:, :, 1], values >> 8)


def png_16_bit_rgb(values):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    height, width, _ = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_16_bit_rgb_png():
    values = np.random.default_rng(0).integers(0, 65536, (8, 9, 3), np.uint16)
    np.testing.assert_array_equal(load(png_16_bit_rgb(values)), values >> 8)


def test_float_tiff_of_0_to_1():
    values = np.linspace(0, 1, 40 * 60).reshape(40, 60).astype(np.float32)
    np.testing.assert_array_equal(load(encoded(Image.fromarray(values), "TIFF"))[:, :, 2], np.round(values * 255))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.full((4, 4), 2.5, np.float32), "floating-point pixels outside 0 to 1"),
        (np.full((4, 4), np.nan, np.float32), "floating-point pixels outside 0 to 1"),
        (np.full((4, 4), 70000, np.int32), "32-bit pixels outside 0 to 65535"),
        (np.full((4, 4), -1, np.int32), "32-bit pixels outside 0 to 65535"),
    ],
)
def test_pixels_without_a_known_range_are_refused(values, reason):
    with pytest.raises(ImageError, match=f"^<bytes>: {reason}$"):
        load(encoded(Image.fromarray(values), "TIFF"))


# Sources


def test_a_path_bytes_an_image_and_an_array_give_the_same(tmp_path):
    path = tmp_path / "picture.png"
    path.write_bytes(encoded(Image.fromarray(photo()), "PNG"))
    expected = load(photo(), size=20)
    data = path.read_bytes()
    for source in (path, str(path), data, bytearray(data), memoryview(data), Image.fromarray(photo())):
        np.testing.assert_array_equal(load(source, size=20), expected)


def test_arrays_of_each_shape():
    grey = photo()[:, :, 0]
    np.testing.assert_array_equal(load(grey), load(grey[:, :, None]))
    np.testing.assert_array_equal(load(photo()[::-1, ::2]), photo()[::-1, ::2])


@pytest.mark.parametrize(
    "array",
    [np.zeros((4, 4, 3)), np.zeros((4, 4, 2), np.uint8), np.zeros(4, np.uint8), np.zeros((0, 4, 3), np.uint8)],
    ids=["float64", "two channels", "1-D", "empty"],
)
def test_other_arrays_are_refused(array):
    with pytest.raises(ImageError, match=r"^<array>: must .* shape \("):
        load(array)


def test_the_given_picture_is_left_as_it_was():
    pixels = photo()
    result = load(pixels)
    result[:] = 0
    np.testing.assert_array_equal(pixels, photo())
    picture = Image.fromarray(photo())
    load(picture, size=8)
    assert picture.size == (60, 40)


# Size, crop, resize


@pytest.mark.parametrize("resize", images.RESIZES)
def test_resize_is_pillows(resize):
    expected = Image.fromarray(photo()).resize((24, 16), Image.Resampling[resize.upper()])
    np.testing.assert_array_equal(load(photo(), size=(16, 24), resize=resize), np.asarray(expected))


@pytest.mark.parametrize(
    ("shape", "size", "box"),
    [((40, 60), 16, (10, 0, 50, 40)), ((60, 40), 16, (0, 10, 40, 50)), ((40, 60), (16, 8), (20, 0, 40, 40))],
)
def test_center_crops_the_largest_part_of_the_wanted_shape(shape, size, box):
    picture = Image.fromarray(photo(shape[1], shape[0]))
    height, width = images.as_shape(size)
    expected = picture.resize((width, height), Image.Resampling.BILINEAR, box)
    fitted = ImageOps.fit(picture, (width, height), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(expected, fitted)
    np.testing.assert_array_equal(load(picture, size=size, crop="center"), np.asarray(expected))


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1), (3, 2)])
@pytest.mark.parametrize("crop", images.CROPS)
def test_odd_shapes(shape, crop):
    assert load(np.full((*shape, 3), 7, np.uint8), size=64, crop=crop).tolist() == np.full((64, 64, 3), 7).tolist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, "size must be a number of pixels of at least 1, or \\(height, width\\), got 0"),
        ({"size": (4, 4, 4)}, "size must be .* got \\(4, 4, 4\\)"),
        ({"size": 2.5}, "size must be .* got 2.5"),
        ({"size": True}, "size must be .* got True"),
        ({"resize": "cubic"}, "resize must be one of nearest, .* got 'cubic'"),
        ({"crop": "middle"}, "crop must be one of squash, center, got 'middle'"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        load(photo(), **arguments)


@pytest.mark.parametrize("source", [3, None, [photo()], io.BytesIO()], ids=lambda source: type(source).__name__)
def test_what_is_no_source(source):
    with pytest.raises(TypeError, match="an image must be a path, bytes, a PIL image or a uint8 array, got"):
        load(source)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (40, 16)])
def test_fast_jpeg_comes_close_and_is_off_by_default(height, width):
    data = encoded(Image.fromarray(photo(640, 480)), "JPEG", quality=90)
    exact, fast = load(data, size=(height, width)), load(data, size=(height, width), fast_jpeg=True)
    with Image.open(io.BytesIO(data)) as picture:
        picture.draft("RGB", (2 * width, 2 * height))
        assert picture.size == (160, 120)
        np.testing.assert_array_equal(fast, np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR)))
    assert 0 < np.abs(exact.astype(int) - fast).max() < 12


@pytest.mark.parametrize(
    ("own", "longest", "shape"),
    [((640, 480), 300, (225, 300)), ((30, 90), 30, (30, 10)), ((20, 30), 30, (30, 20)), ((1, 5000), 7, (7, 1))],
)
@pytest.mark.parametrize("fast_jpeg", [False, True])
def test_longest_side(own, longest, shape, fast_jpeg):
    data = encoded(Image.fromarray(photo(*own)), "JPEG", quality=95)
    pixels = load(data, longest=longest, fast_jpeg=fast_jpeg)
    assert pixels.shape == (*shape, 3)
    assert np.abs(pixels.astype(int) - load(data, size=shape)).max() < 12
    turned = Image.Exif()
    turned[0x0112] = 6
    data = encoded(Image.fromarray(photo(*own)), "JPEG", exif=turned)
    assert load(data, longest=longest, fast_jpeg=fast_jpeg).shape == (*shape[::-1], 3)
    with pytest.raises(ValueError, match="size and longest exclude each other, got size=3 and longest=4"):
        load(data, size=3, longest=4)


# Bad files


def reason_of(source, **options):
    with pytest.raises(ImageError) as caught:
        load(source, **options)
    return caught.value.reason


def test_a_missing_file(tmp_path):
    path = os.fspath(tmp_path / "none.jpg")
    with pytest.raises(ImageError) as caught:
        load(path)
    assert (caught.value.path, caught.value.reason, caught.value.index) == (path, "no such file", None)
    assert str(caught.value) == f"{path}: no such file"


def test_a_folder(tmp_path):
    assert reason_of(tmp_path) == "a folder, not an image; pyhash.Gallery is for folders"
    assert reason_of(np.zeros((4, 4, 3), np.float32)).endswith("; multiply values from 0 to 1 by 255 and cast them")


def test_an_empty_file(tmp_path):
    path = tmp_path / "empty.jpg"
    path.touch()
    assert reason_of(path) == "empty, 0 bytes long"
    assert reason_of(b"") == "empty, 0 bytes long"


def test_text_named_jpg(tmp_path):
    path = tmp_path / "text.jpg"
    path.write_text("hello, world")
    assert reason_of(path) == "not an image in a format that can be read; it begins with b'hello, world'"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="everything is readable to root")
def test_an_unreadable_file(tmp_path):
    path = tmp_path / "secret.png"
    path.write_bytes(encoded(Image.fromarray(photo()), "PNG"))
    path.chmod(0)
    assert reason_of(path) == "permission denied"


def test_a_format_that_pillow_does_not_know_yet(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL.AvifImagePlugin", None)
    assert reason_of(b"\0\0\0\x1cftypavif" + bytes(20)) == "Avif, which this version of Pillow cannot read"


def test_permission_denied_is_said(tmp_path, monkeypatch):
    path = tmp_path / "secret.png"
    path.write_bytes(encoded(Image.fromarray(photo()), "PNG"))

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    assert reason_of(path) == "permission denied"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_named_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    assert reason_of(tmp_path / "pipe.jpg") == "not a regular file"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "TIFF", "BMP", "WEBP", "PPM"])
def test_truncated_files(jpeg_decoder, kind):
    data = encoded(Image.fromarray(photo()), kind)
    assert reason_of(data[: len(data) // 2]).startswith(("truncated: ", "damaged: "))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "TIFF", "BMP", "WEBP", "PPM", "JPEG2000", AVIF])
def test_every_damage_gives_a_picture_or_an_image_error(kind):
    rng = np.random.default_rng(1)
    data = encoded(Image.fromarray(photo(24, 16)), kind)
    for _ in range(60):
        damaged = bytearray(data)
        for at in rng.integers(0, min(len(data), 400), rng.integers(1, 6)):
            damaged[at] = rng.integers(256)
        with contextlib.suppress(ImageError):
            assert load(bytes(damaged[: rng.integers(1, len(data) + 1)]), size=8).shape == (8, 8, 3)


@given(st.sampled_from([entry[0] for entry in images._FORMATS]), st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_garbage_behind_a_signature_is_an_image_error(start, rest):
    with pytest.raises(ImageError):
        load(start + rest)


def bomb(kind, width, height):
    """A small file that claims to be huge."""
    if kind == "PNG":
        small = encoded(Image.new("L", (1, 1)), "PNG")
        header = b"IHDR" + struct.pack(">II", width, height) + small[24:29]
        return small[:12] + header + struct.pack(">I", zlib.crc32(header)) + small[33:]
    data = bytearray(encoded(Image.new("L", (8, 8)), kind))
    if kind == "JPEG":
        at = data.index(b"\xff\xc0") + 5
        data[at : at + 4] = struct.pack(">HH", height, width)
    elif kind == "GIF":
        data[6:10] = struct.pack("<HH", width, height)
    else:
        data[18:26] = struct.pack("<ii", width, height)
    return bytes(data)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP"])
def test_decompression_bombs_are_refused_before_decoding(jpeg_decoder, kind):
    reason = reason_of(bomb(kind, 65000, 60000))
    assert reason == "65000 x 60000 pixels, over the limit of 178,956,970 pixels"


def test_the_limit_can_be_set():
    assert load(photo(), max_pixels=2400).shape == (40, 60, 3)
    data = encoded(Image.fromarray(photo()), "PNG")
    assert load(data, max_pixels=2400).shape == (40, 60, 3)
    assert reason_of(data, max_pixels=2399) == "60 x 40 pixels, over the limit of 2,399 pixels"


def test_pictures_over_pillows_warning_limit_pass_without_a_warning(jpeg_decoder, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    for kind in ("PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP"):
        assert load(encoded(Image.fromarray(photo()), kind), size=8).shape == (8, 8, 3)


def test_metadata_that_pillow_warns_about_does_not_matter(jpeg_decoder):
    """Under ``-W error`` the picture comes out as it does otherwise."""
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + struct.pack("<HHII", 0x010F, 2, 90000, 500)
    data = encoded(Image.fromarray(photo()), "JPEG", exif=exif)
    start = data.index(b"JFIF") - 4
    data = data[:start] + data[start + 18 :]  # without JFIF, Pillow looks for the resolution in the EXIF block
    with pytest.warns(UserWarning, match="Tag|EXIF|Truncated"), Image.open(io.BytesIO(data)):
        pass
    filters = list(warnings.filters)
    assert load(data).shape == (40, 60, 3)
    assert warnings.filters == filters


def test_image_error_survives_pickling():
    error = pickle.loads(pickle.dumps(ImageError("a.jpg", "no such file", 3)))
    assert (error.path, error.reason, error.index) == ("a.jpg", "no such file", 3)


# Threads


def test_threads_decode_alike(tmp_path, jpeg_decoder):
    data = [
        encoded(Image.fromarray(photo(100, 80, seed)), kind) for seed, kind in enumerate(["JPEG", "PNG", "WEBP"] * 4)
    ]
    expected = [load(picture, size=16) for picture in data]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda picture: load(picture, size=16), data * 8))
    np.testing.assert_array_equal(results, expected * 8)


def test_pixel_budget_bounds_what_is_held():
    budget = PixelBudget(100)
    held, most, lock = 0, 0, threading.Lock()

    def work(pixels):
        nonlocal held, most
        with budget.hold(pixels):
            with lock:
                held += pixels
                most = max(most, held if pixels <= 100 else 0)
                assert pixels <= 100 or held == pixels
            time.sleep(0.001)  # so that others would enter if they could
            with lock:
                held -= pixels

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, [30, 60, 250, 10, 90] * 40))
    assert most <= 100


def test_a_refused_picture_gives_its_budget_back():
    budget = PixelBudget(60 * 40)
    data = encoded(Image.fromarray(photo()), "JPEG")
    for _ in range(3):
        with pytest.raises(ImageError):
            load(data[: len(data) // 2], budget=budget)
    assert load(data, budget=budget).shape == (40, 60, 3)


def test_without_pillow_the_error_says_what_to_install(monkeypatch):
    def missing(module, extra):
        raise ImportError(f"pip install 'pyhash-retrieval[{extra}]'")

    monkeypatch.setattr(images, "require", missing)
    with pytest.raises(ImportError, match=r"pyhash-retrieval\[encoder\]"):
        load(photo())

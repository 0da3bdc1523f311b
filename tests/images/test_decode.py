"""Decoding: formats, sources, sizes, crops, threads."""

import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

pytest.importorskip("PIL")
from photographs import AVIF, encoded, photo
from PIL import Image, ImageOps

from pyhash import images
from pyhash.errors import ImageError
from pyhash.images import decode, load


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
def test_jpeg_is_decoded_as_pillow_does(mode, options):
    data = encoded(Image.fromarray(photo(61, 43)).convert(mode), "JPEG", **options)
    with Image.open(io.BytesIO(data)) as picture:
        np.testing.assert_array_equal(load(data), np.asarray(picture.convert("RGB")))


def test_jpeg_stored_as_rgb():
    data = encoded(Image.fromarray(photo()), "JPEG", keep_rgb=True, quality=100)
    assert np.abs(load(data).astype(int) - photo()).max() < 6


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
    picture = np.full((*shape, 3), 7, np.uint8)
    assert load(picture, size=64, crop=crop, fill=7).tolist() == np.full((64, 64, 3), 7).tolist()
    assert load(picture, size=64, crop=crop, crop_fraction=0.5, fill=7).tolist() == np.full((64, 64, 3), 7).tolist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, "size must be a number of pixels of at least 1, or \\(height, width\\), got 0"),
        ({"size": (4, 4, 4)}, "size must be .* got \\(4, 4, 4\\)"),
        ({"size": 2.5}, "size must be .* got 2.5"),
        ({"size": True}, "size must be .* got True"),
        ({"resize": "cubic"}, "resize must be one of nearest, .* got 'cubic'"),
        ({"crop": "middle"}, "crop must be one of squash, center, letterbox, got 'middle'"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        load(photo(), **arguments)


@pytest.mark.parametrize("source", [3, None, [photo()], io.BytesIO()], ids=lambda source: type(source).__name__)
def test_what_is_no_source(source):
    with pytest.raises(TypeError, match="an image must be a path, bytes, a PIL image or a uint8 array, got"):
        load(source)


def soft(width, height):
    """Colours that change slowly, so that no filter does much to them."""
    return Image.fromarray(photo(width // 8, height // 8)).resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize(
    ("own", "size", "factor"),
    [
        ((1280, 960), 240, 4),
        ((1280, 960), 241, 2),  # by four one side would become smaller than that
        ((1280, 960), (240, 400), 2),
        ((1003, 797), 199, 4),
        ((400, 300), 200, 1),
        ((320, 330), 20, 2),  # never smaller than a thumbnail
        ((3200, 3208), 190, 16),
    ],
)
def test_large_images_are_first_brought_near_the_wanted_size(own, size, factor):
    picture = soft(*own)
    wanted = images.as_shape(size)[::-1]
    for kind, options in (("JPEG", {"quality": 95}), ("PNG", {"compress_level": 1})):
        data = encoded(picture, kind, **options)
        with images.opened(data, at_least=size) as image:
            assert image.pixels().shape == (-(-own[1] // factor), -(-own[0] // factor), 3)
        with Image.open(io.BytesIO(data)) as by_hand:
            if kind == "JPEG" and factor > 1:
                by_hand.draft("RGB", (own[0] // factor, own[1] // factor))
                by_hand = by_hand.reduce(2) if factor == 16 else by_hand
            elif factor > 1:
                by_hand = by_hand.reduce(factor)
            expected = np.asarray(by_hand.resize(wanted, Image.Resampling.BILINEAR))
        np.testing.assert_array_equal(load(data, size=size), expected)
        exact = load(data, size=size, fast_jpeg=False)
        assert np.abs(exact.astype(int) - expected).mean() < 6
        assert (factor == 1) == np.array_equal(exact, expected)
    for source in (picture, np.asarray(picture)):
        np.testing.assert_array_equal(load(source, size=size), expected)


def test_an_image_that_lies_is_reduced_by_how_it_stands():
    exif = Image.Exif()
    exif[0x0112] = 6
    for kind in ("JPEG", "PNG", "TIFF"):
        data = encoded(soft(1280, 640), kind, exif=exif)
        with images.opened(data, at_least=(400, 200)) as image:
            assert image.pixels().shape == (640, 320, 3)
        with images.opened(data, at_least=(200, 400)) as image:
            assert image.pixels().shape == (1280, 640, 3)


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


def test_threads_decode_alike(tmp_path):
    data = [
        encoded(Image.fromarray(photo(100, 80, seed)), kind) for seed, kind in enumerate(["JPEG", "PNG", "WEBP"] * 4)
    ]
    expected = [load(picture, size=16) for picture in data]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda picture: load(picture, size=16), data * 8))
    np.testing.assert_array_equal(results, expected * 8)


def test_without_pillow_the_error_says_what_to_install(monkeypatch):
    def missing(module, extra):
        raise ImportError(f"pip install 'pyhash-retrieval[{extra}]'")

    monkeypatch.setattr(decode, "require", missing)
    with pytest.raises(ImportError, match=r"pyhash-retrieval\[encoder\]"):
        load(photo())

"""Parts of an image: where tiles lie, what turns do, and that a part of a large image keeps its pixels."""

import io

import numpy as np
import pytest

pytest.importorskip("PIL")
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pyhash.errors import ImageError
from pyhash.images import TURNS, Part, Views, crop_of, opened, size_of

SIDES = st.integers(1, 700)


def smooth(width, height, seed=0):
    """Pixels of a smooth image that is like none of its turns."""
    fields = np.random.default_rng(seed).integers(0, 256, (5, 4, 3), np.uint8)
    return Image.fromarray(fields).resize((width, height), Image.Resampling.BICUBIC)


def file_of(image, kind="JPEG", **options):
    with io.BytesIO() as file:
        image.save(file, kind, **options)
        return file.getvalue()


def parts_of(source, views, at_least=None):
    with opened(source, at_least=at_least, views=views) as image:
        return [(part, cut.pixels()) for part, cut in image.parts()]


@given(width=SIDES, height=SIDES, rows=st.integers(1, 9), columns=st.integers(1, 9))
def test_tiles_cover_the_image_and_are_of_one_size(width, height, rows, columns):
    tiles = [part.box for part in Views(tiles=(rows, columns)).of(width, height)]
    assert len(tiles) == len(set(tiles)) >= 1
    assert len({(right - left, bottom - top) for left, top, right, bottom in tiles}) == 1
    seen = np.zeros((height, width), bool)
    for left, top, right, bottom in tiles:
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        seen[top:bottom, left:right] = True
    assert seen.all()


def test_a_grid_has_one_tile_more_in_the_middle_unless_one_lies_there():
    boxes = [part.box for part in Views(tiles=(2, 2)).of(100, 60)]
    assert boxes == [(0, 0, 50, 30), (50, 0, 100, 30), (0, 30, 50, 60), (50, 30, 100, 60), (25, 15, 75, 45)]
    assert len(Views(tiles=(3, 3)).of(90, 90)) == 9
    assert [part.box for part in Views(tiles=(1, 2)).of(80, 10)][-1] == (20, 0, 60, 10)


def test_more_tiles_than_pixels():
    assert [part.box for part in Views(tiles=(2, 2)).of(1, 1)] == [(0, 0, 1, 1)]
    assert [part.box for part in Views(tiles=(4, 4)).of(2, 1)] == [(0, 0, 1, 1), (1, 0, 2, 1)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mirrored", lambda a: a[:, ::-1]),
        ("turned by 90°", lambda a: np.rot90(a, -1)),
        ("turned by 180°", lambda a: np.rot90(a, 2)),
        ("turned by 270°", lambda a: np.rot90(a)),
        ("turned by 90°, mirrored", lambda a: np.rot90(a, -1)[:, ::-1]),
        ("turned by 180°, mirrored", lambda a: np.rot90(a, 2)[:, ::-1]),
        ("turned by 270°, mirrored", lambda a: np.rot90(a)[:, ::-1]),
    ],
)
def test_turns_are_clockwise_and_then_mirrored(name, expected):
    pixels = np.asarray(smooth(40, 30))
    found = {part.name: image for part, image in parts_of(pixels, Views(turned=True))}
    assert list(found) == list(TURNS)
    np.testing.assert_array_equal(found[name], expected(pixels))


@pytest.mark.parametrize("lies", range(1, 9))
def test_boxes_and_sizes_are_of_the_upright_image(lies):
    image = smooth(160, 240)
    pixels = np.asarray(image)
    stored = {1: image, **{n: image.transpose(how) for n, how in enumerate([0, 3, 1, 5, 2, 6, 4], 2)}}[lies]
    exif = Image.Exif()
    exif[0x0112] = lies
    png = file_of(stored, "PNG", exif=exif)
    box = Part("box", (20, 30, 120, 90), "shoe")
    ((part, cut),) = parts_of(png, Views(boxes=[box]))
    assert part == box
    np.testing.assert_array_equal(cut, pixels[30:90, 20:120])


def test_the_size_of_a_file_is_that_of_the_upright_image(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    smooth(300, 200).save(tmp_path / "lies.jpg", exif=exif)
    smooth(300, 200).save(tmp_path / "lies.png", exif=exif)
    smooth(300, 200).save(tmp_path / "stands.webp")
    assert [size_of(tmp_path / n) for n in ("lies.jpg", "lies.png", "stands.webp")] == [
        (200, 300),
        (200, 300),
        (300, 200),
    ]
    (tmp_path / "none.jpg").write_bytes(b"nothing")
    with pytest.raises(ImageError, match=r"none\.jpg"):
        size_of(tmp_path / "none.jpg")


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("size", [(230, 700), (800, 250)])
def test_a_flat_or_narrow_part_keeps_its_pixels(kind, size):
    box = (1200, 400, 1200 + size[1], 400 + size[0])
    ((_, cut),) = parts_of(file_of(smooth(2000, 1600), kind), Views(boxes=[Part("box", box)]), at_least=224)
    assert cut.shape[:2] == size


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_part_keeps_the_pixels_that_a_network_sees(kind):
    """A whole may be decoded at an eighth; a box of it must not come from that."""
    image = smooth(2000, 1600)
    source = file_of(image, kind)
    box = (1200, 400, 1200 + 250, 400 + 230)
    views = Views(tiles=(2, 2), boxes=[Part("box", box), Part("box", (10, 20, 11, 21))])
    parts = dict(parts_of(source, views, at_least=224))
    assert [p.shape for part, p in parts.items() if part.kind == "box"] == [(230, 250, 3), (1, 1, 3)]
    tile = parts[Part("tile", (0, 0, 1000, 800))]
    assert tile.shape[:2] == (400, 500)  # enough for the network, and no more than that takes
    whole = np.asarray(image, np.int16)
    assert abs(parts[Part("box", box)] - whole[400:630, 1200:1450]).mean() < 3
    assert abs(tile - np.asarray(image.crop((0, 0, 1000, 800)).reduce(2), np.int16)).mean() < 3
    with opened(source, at_least=224, views=views) as several, opened(source, at_least=224) as alone:
        assert several.size == (2000, 1600)
        assert abs(several.pixels(224).astype(np.int16) - alone.pixels(224)).mean() < 1
        assert several.look().grey.shape == alone.look().grey.shape


def test_without_parts_nothing_is_decoded_larger():
    source = file_of(smooth(2000, 1600))
    with opened(source, at_least=224) as image:
        assert image.pixels().shape == (400, 500, 3)
        assert [*image.parts()] == []


@pytest.mark.parametrize("box", [(0, 0, 0, 5), (5, 5, 4, 9), (-1, 0, 5, 5), (0, 0, 41, 5), (0, 0, 5, 31)])
def test_boxes_outside_the_image_are_no_parts_and_no_crops(box):
    assert Views(boxes=[Part("box", box)]).of(40, 30) == []
    with pytest.raises(ValueError, match=rf"lie in the image, <array> of 40 x 30 pixels, got x0={box[0]}"):
        crop_of(np.zeros((30, 40, 3), np.uint8), box)


def test_a_crop_is_what_lies_in_the_box():
    pixels = np.asarray(smooth(40, 30))
    np.testing.assert_array_equal(crop_of(pixels, (3, 4, 33, 29)), pixels[4:29, 3:33])
    assert crop_of(np.zeros((3000, 5000, 3), np.uint8), (0, 0, 4800, 2900)).shape == (1450, 2400, 3)

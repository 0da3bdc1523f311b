"""Files that cannot be read say why, and none is decoded that is too large."""

import contextlib
import io
import os
import pickle
import struct
import sys
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("PIL")
from photographs import AVIF, encoded, photo
from PIL import Image

from pyhash.errors import ImageError
from pyhash.images import load
from pyhash.images.formats import FORMATS


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
def test_truncated_files(kind):
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


@given(st.sampled_from([entry[0] for entry in FORMATS]), st.binary(max_size=200))
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
def test_decompression_bombs_are_refused_before_decoding(kind):
    reason = reason_of(bomb(kind, 65000, 60000))
    assert reason == "65000 x 60000 pixels, over the limit of 178,956,970 pixels"


def test_the_limit_can_be_set():
    assert load(photo(), max_pixels=2400).shape == (40, 60, 3)
    data = encoded(Image.fromarray(photo()), "PNG")
    assert load(data, max_pixels=2400).shape == (40, 60, 3)
    assert reason_of(data, max_pixels=2399) == "60 x 40 pixels, over the limit of 2,399 pixels"


def test_pictures_over_pillows_warning_limit_pass_without_a_warning(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    for kind in ("PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP"):
        assert load(encoded(Image.fromarray(photo()), kind), size=8).shape == (8, 8, 3)


def test_metadata_that_pillow_warns_about_does_not_matter():
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

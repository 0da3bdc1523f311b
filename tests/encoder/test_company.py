"""A code is a function of the image alone, whatever the network; one image without numbers stops no other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("PIL")
import odd_networks
from PIL import Image
from tiny_networks import pictures

import pyhash
from pyhash.encoder import Encoder, build
from pyhash.errors import ImageError

BLACK = np.zeros((20, 20, 3), np.uint8)


def folder_of(place: Path, images: list[np.ndarray]) -> Path:
    place.mkdir()
    for number, pixels in enumerate(images):
        Image.fromarray(pixels).save(place / f"{number:02}.png")
    return place


def test_an_image_without_numbers_is_left_out_and_the_rest_go_on() -> None:
    encoder = Encoder(odd_networks.standardised(), preprocess="raw")
    good = pictures(5)
    images = [*good[:2], BLACK, *good[2:]]
    errors: list[ImageError] = []
    codes = encoder.encode(images, on_error=errors.append)
    np.testing.assert_array_equal(codes, encoder.encode(good))
    assert [(error.path, error.index) for error in errors] == [("<array>", 2)]
    assert "NaN or infinity for this image" in errors[0].reason
    for method in (encoder.encode, encoder.logits, encoder.embed):
        with pytest.raises(ImageError, match="NaN or infinity"):
            method(images)
        assert len(method(images, on_error=lambda error: None)) == 5
        assert len(method(BLACK, on_error=lambda error: None)) == 0
    streamed = list(encoder.stream(images, embeddings=True))
    assert [encoded.error is None for encoded in streamed] == [True, True, False, True, True, True]
    np.testing.assert_array_equal(np.stack([e.code for e in streamed if e.code is not None]), codes)
    assert [encoded.embedding is None for encoded in streamed] == [False, False, True, False, False, False]


def test_a_gallery_and_build_list_it(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "photos", [*pictures(6), BLACK])
    with pyhash.Gallery(folder, Encoder(odd_networks.standardised(), preprocess="raw")) as gallery:
        changes = gallery.update()
        assert (changes.added, len(gallery)) == (6, 6)
        assert [Path(failure.path).name for failure in changes.failed] == ["06.png"]
    built = build(odd_networks.standardised(), folder, None, 8, tmp_path / "e.onnx", head="lsh", preprocess="raw")
    assert built.n_images == 6
    assert [Path(error.path).name for error in built.failed] == ["06.png"]

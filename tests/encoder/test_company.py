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
from pyhash.errors import EncoderError, GraphError, ImageError
from pyhash.networks import Session

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


def one_by_one(encoder: Encoder, images: list[np.ndarray]) -> np.ndarray:
    return np.stack([encoder.encode(image) for image in images])


MIXING = {
    "quantised": (odd_networks.quantised_by_the_batch, "the_quantiser"),
    "largest": (odd_networks.over_the_largest, "ReduceMax_"),
}


@pytest.mark.parametrize("kind", MIXING)
def test_a_network_that_takes_images_together_gets_them_one_at_a_time(kind: str) -> None:
    make, node = MIXING[kind]
    images = [*pictures(9), BLACK + 1, np.full((20, 20, 3), 255, np.uint8)]
    subject = Encoder(make(), preprocess="unit")
    with pytest.warns(RuntimeWarning, match=f"run with it, by the node '{node}.*; images are run one at a time"):
        codes = subject.encode(images)
    np.testing.assert_array_equal(codes, one_by_one(subject, images))
    np.testing.assert_array_equal(subject.encode(images[::-1])[::-1], codes)  # and no second warning
    np.testing.assert_array_equal(np.stack([encoded.code for encoded in subject.stream(images)]), codes)


def test_such_a_network_for_four_images_gets_one_four_times() -> None:
    images = pictures(7)
    subject = Encoder(odd_networks.quantised_by_the_batch(4), preprocess="unit")
    with pytest.warns(RuntimeWarning, match="the_quantiser"):
        codes = subject.encode(images)
    with pytest.warns(RuntimeWarning, match="the_quantiser"):
        expected = Encoder(odd_networks.quantised_by_the_batch(), preprocess="unit").encode(images)
    np.testing.assert_array_equal(codes, expected)
    np.testing.assert_array_equal(one_by_one(subject, images), codes)


@pytest.mark.parametrize(
    ("model", "node"),
    [
        (odd_networks.random(times=0.1), "RandomNormalLike_"),
        (odd_networks.random(times=1e-6), "RandomNormalLike_"),
        (odd_networks.random("RandomUniformLike", high=0.5, low=-0.5), "RandomUniformLike_"),
    ],
    ids=["normal", "faint", "uniform"],
)
def test_a_network_with_chance_in_it_is_refused_by_the_node(model: bytes, node: str, tmp_path: Path) -> None:
    with pytest.raises(
        EncoderError, match=f"something else each time for one image; the node '{node}.* evaluation mode"
    ):
        Encoder(model, preprocess="unit").encode(BLACK)
    folder = folder_of(tmp_path / "photos", pictures(4))
    with pytest.raises((EncoderError, GraphError), match=f"something else each time for one image; the node '{node}"):
        build(model, folder, None, 8, tmp_path / "e.onnx", head="lsh", preprocess="unit")
    assert not (tmp_path / "e.onnx").exists()


def test_chance_that_changes_nothing_is_none() -> None:
    images = pictures(3)
    assert len(Encoder(odd_networks.random(times=0), preprocess="unit").encode(images)) == 3


@pytest.mark.parametrize("batch", ["n", 4])
def test_a_network_that_says_nothing_about_an_image_alone_is_refused(batch: object) -> None:
    with pytest.raises(EncoderError, match=r"by the node 'ReduceMean_.*'; alone, all images give the same"):
        Encoder(odd_networks.less_the_mean(batch), preprocess="unit").encode(pictures(3))


def test_an_encoder_made_of_such_a_network_runs_images_alone(tmp_path: Path) -> None:
    images = pictures(12)
    folder = folder_of(tmp_path / "photos", images)
    with pytest.warns(RuntimeWarning, match="by the node 'the_quantiser'; images are run one at a time"):
        built = build(
            odd_networks.quantised_by_the_batch(), folder, None, 16, tmp_path / "e.onnx", head="lsh", preprocess="unit"
        )
    assert built.batch == 1
    encoder = Encoder(tmp_path / "e.onnx")
    np.testing.assert_array_equal(encoder.encode(images), one_by_one(encoder, images))


def test_what_is_found_out_is_found_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    subject, runs = Encoder(odd_networks.made(lambda net, x: x), preprocess="unit"), []
    run = Session.run
    monkeypatch.setattr(Session, "run", lambda self, *rest: runs.append(1) or run(self, *rest))
    subject.encode(BLACK)
    tried = len(runs)
    subject.encode(BLACK)
    assert len(runs) == tried + 1
    runs.clear()
    Encoder().encode(BLACK)  # was found out when it was made
    assert len(runs) == 1

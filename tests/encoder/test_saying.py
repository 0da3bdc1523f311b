"""Codes that say nothing are warned about, with cause and remedy, wherever codes are made; others never."""

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
from pyhash.encoder import Encoder, build, evaluate_folder, silence
from pyhash.errors import GraphError


def codes_of(bits: np.ndarray) -> np.ndarray:
    return np.packbits(bits.astype(bool), axis=1)


RNG = np.random.default_rng(0)
FAIR = RNG.random((200, 64)) < 0.5


@pytest.mark.parametrize(
    ("bits", "message"),
    [
        (np.ones((1, 64)), "every bit is 1: the output is nearly always above 0"),
        (np.zeros((7, 10)), "every bit is 0: the output is nearly always 0 or below"),
        (np.repeat(FAIR[:1, :10], 7, axis=0), "all 7 images have one code"),
        (np.zeros((3, 64)), "every bit is 0: the output is nearly always 0 or below"),
        (RNG.random((40, 64)) < 0.96, "of the bits are 1: the output is nearly always above 0"),
        (np.repeat(FAIR[:1], 5, axis=0), "all 5 images have one code: unless they are copies"),
        (np.where(np.arange(64) < 40, FAIR[:1], FAIR), "62% of the bits are the same for all 200 images"),
    ],
)
def test_what_is_wrong_is_said(bits: np.ndarray, message: str) -> None:
    found = silence(codes_of(bits), bits.shape[1])
    assert found is not None
    assert message in found
    assert "output" in found or "preprocess" in found  # the remedy


def test_a_fitted_head_may_tell_few_classes_apart() -> None:
    codes = codes_of(np.where(np.arange(64) < 40, FAIR[:1], FAIR))
    assert silence(codes, 64, fitted=True) is None
    assert "of the bits are the same" in str(
        silence(codes_of(np.where(np.arange(64) < 60, FAIR[:1], FAIR)), 64, fitted=True)
    )


@pytest.mark.parametrize(
    "bits",
    [
        FAIR,
        FAIR[:1],
        np.repeat(FAIR[:1], 4, axis=0),
        np.where(np.arange(64) < 40, FAIR[:1], FAIR)[:63],
        RNG.random((500, 64)) < 0.8,
        np.zeros((0, 64)),
        np.ones((1, 8)),
    ],
)
def test_what_is_well_is_not(bits: np.ndarray) -> None:
    assert silence(codes_of(bits), bits.shape[1]) is None


def test_unused_bits_of_the_last_byte_are_none() -> None:
    assert "every bit is 1" in str(silence(codes_of(np.ones((2, 20))), 20))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for number, pixels in enumerate(pictures(12)):
        place = folder / "ab"[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place / f"{number:02}.png")
    return folder


@pytest.mark.parametrize("kind", ["Softmax", "Sigmoid"])
def test_a_network_that_gives_nothing_below_0_is_warned_about_once(kind: str) -> None:
    subject = Encoder(odd_networks.positive(kind), preprocess="unit")
    with pytest.warns(RuntimeWarning, match=r"every bit is 1: .* Read another output"):
        assert subject.encode(pictures(1)[0]).tolist() == [255, 255, 255]
    assert len(subject.encode(pictures(3))) == 3
    again = Encoder(odd_networks.positive(kind), preprocess="unit")
    with pytest.warns(RuntimeWarning, match="every bit is 1"):
        assert len(list(again.stream(pictures(3)))) == 3


def test_a_dead_network_is_warned_about_and_no_encoder_is_made_of_it(folder: Path, tmp_path: Path) -> None:
    subject = Encoder(odd_networks.dead(), preprocess="unit")
    with pytest.warns(RuntimeWarning, match="all 6 images have one code"):
        subject.encode(pictures(6))
    net = odd_networks.Net()
    net.op("Gemm", net.body(net.op("Mul", "x", net.const(np.float32(0)))), net.he(24, 24), out="logits")
    dead = net.model()
    for head, labels in (("lsh", None), ("hadamard-ridge", "folders")):
        with pytest.raises(GraphError, match="the network gives the same for all 12 images"):
            build(dead, folder, labels, 16, tmp_path / "e.onnx", head=head, preprocess="unit")
    assert not (tmp_path / "e.onnx").exists()


def test_index_and_eval_warn_too(folder: Path) -> None:
    subject = Encoder(odd_networks.positive("Sigmoid"), preprocess="unit")
    with pyhash.Gallery(folder, subject) as gallery:
        with pytest.warns(RuntimeWarning, match="every bit is 1"):
            gallery.update()
        gallery.update()  # which changes nothing
    with pytest.warns(RuntimeWarning, match="every bit is 1"):
        evaluate_folder(folder, encoder=Encoder(odd_networks.positive("Sigmoid"), preprocess="unit"), levels=["code"])


def test_built_codes_that_say_little_are_warned_about(folder: Path, tmp_path: Path) -> None:
    with pytest.warns(RuntimeWarning, match="of the bits are 1|every bit is 1"):
        build(odd_networks.positive("Relu"), folder, None, 32, tmp_path / "e.onnx", head="sign", preprocess="unit")

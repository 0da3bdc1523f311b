"""The options that say how a network wants its images say what ``preprocess=`` does."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("click")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("PIL")
from commands import run
from hub import put_in_cache
from PIL import Image
from tiny_networks import build, pictures, plain

import pyhash

SAID: list[tuple[list[str], Any]] = [
    (["--preprocess", "imagenet"], "imagenet"),
    (["--preprocess", "tf", "--resize", "lanczos", "--layout", "nchw"], {"preset": "tf", "resize": "lanczos"}),
    (
        ["--scale", "1", "--mean", "103.9,116.8,123.7", "--channel-order", "bgr"],
        {"scale": 1, "mean": (103.9, 116.8, 123.7), "channel_order": "bgr"},
    ),
    (
        ["--mean", "0.5", "--std", ".25,.5,1", "--crop", "center", "--crop-fraction", "0.875"],
        {"mean": 0.5, "std": (0.25, 0.5, 1), "crop": "center", "crop_fraction": 0.875},
    ),
    (["--preprocess", "unit", "--crop", "letterbox", "--fill", "114"], {"crop": "letterbox", "fill": 114}),
    (["--preprocess", "unit", "--crop", "letterbox", "--fill", "1,2,3"], {"crop": "letterbox", "fill": (1, 2, 3)}),
    (["--preprocess", "raw", "--size", "8"], {"preset": "raw", "size": 8}),
]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "plain.onnx"
    path.write_bytes(plain())
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for number, pixels in enumerate(pictures(4)):
        place = folder / "ab"[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place / f"{number}.png")
    return folder


@pytest.mark.parametrize(("options", "preprocess"), SAID, ids=lambda value: " ".join(value) if value else "")
def test_a_gallery_is_made_with_what_is_said(model: Path, folder: Path, options: list[str], preprocess: Any) -> None:
    run("index", folder, "--encoder", model, *options)
    with pyhash.Gallery(folder) as gallery:
        assert gallery.encoder.fingerprint == pyhash.Encoder(model, preprocess=preprocess).fingerprint


def test_a_json_file_says_it_too(model: Path, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "preprocessor_config.json"
    path.write_text(
        json.dumps({"size": 8, "image_processor_type": "ViTImageProcessor", "image_mean": 0.5, "image_std": 0.5})
    )
    run("index", folder, "--encoder", model, "--preprocess", path, "--resize", "lanczos")
    path.unlink()  # the gallery remembers what it said
    with pyhash.Gallery(folder) as gallery:
        expected = {"preset": "tf", "resize": "lanczos", "mean": 0.5, "std": 0.5}
        assert gallery.encoder.fingerprint == pyhash.Encoder(model, preprocess=expected).fingerprint


def test_a_model_of_the_hub_needs_no_word_and_takes_some(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", os.fspath(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    config = {"size": 8, "image_processor_type": "ViTImageProcessor", "image_mean": 0.5, "image_std": 0.5}
    put_in_cache(
        tmp_path / "hub",
        "owner/repo",
        {"onnx/model.onnx": plain(), "preprocessor_config.json": json.dumps(config).encode()},
    )
    run("index", folder, "--encoder", "hf://owner/repo")
    run("search", folder, folder / "a" / "0.png", "--encoder", "hf://owner/repo")
    run("search", folder, folder / "a" / "0.png")
    result = run("search", folder, folder / "a" / "0.png", "--encoder", "hf://owner/repo", "--crop", "center", code=3)
    assert "--rebuild" in result.stderr
    assert "must be named hf://owner/repo" in run("index", folder, "--encoder", "hf://resnet50", code=4).stderr
    assert run("taps", "hf://owner/repo").stdout == run("taps", "hf://owner/repo/onnx/model.onnx").stdout != ""
    out = tmp_path / "encoder.onnx"
    run("build", "hf://owner/repo", folder, "--levels", "16", "--crop", "center", "-o", out)
    assert pyhash.Encoder(out).metadata.preparation.crop == "center"
    assert pyhash.Encoder(out).name == "repo"
    result = run("build", "hf://owner/gone", folder, "-o", out, "--overwrite", code=4)
    assert "hf://owner/gone cannot be used" in result.stderr


def test_providers(model: Path, folder: Path) -> None:
    run("index", folder, "--encoder", model, "--preprocess", "tf", "--providers", "cpu")
    run("search", folder, folder / "a" / "0.png", "--providers", "CPUExecutionProvider")
    result = run("search", folder, folder / "a" / "0.png", "--providers", "warp", code=3)
    assert "must be among those that are available" in result.stderr
    result = run("index", folder, "--encoder", model, "--preprocess", "tf", "--providers", "warp", code=4)
    assert "must be among those that are available" in result.stderr
    assert "PYHASH_PROVIDERS" not in os.environ


def test_build_takes_the_same(tmp_path: Path, folder: Path, model: Path) -> None:
    options = ["--head", "lsh", "--levels", "8", "--taps", "active", "--json"]
    said = ["--preprocess", "tf", "--crop", "letterbox", "--fill", "9", "--crop-fraction", "0.5"]
    run("build", model, folder, *options, *said, "-o", tmp_path / "made.onnx")
    pyhash.build(
        os.fspath(model),
        folder,
        None,
        8,
        tmp_path / "same.onnx",
        taps=["active"],
        head="lsh",
        preprocess={"preset": "tf", "crop": "letterbox", "fill": 9, "crop_fraction": 0.5},
        name="plain",
    )
    made, same = pyhash.Encoder(tmp_path / "made.onnx"), pyhash.Encoder(tmp_path / "same.onnx")
    assert (made.metadata.crop, made.metadata.fill, made.metadata.crop_fraction) == ("letterbox", (9, 9, 9), 0.5)
    assert made.fingerprint == same.fingerprint


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--mean", "1,2"], "must be a number such as 0.5, or three such as 0.485,0.456,0.406, got '1,2'"),
        (["--mean", "x"], "must be a number such as 0.5"),
        (["--std", "0"], "preprocess std must be a number or three, not 0"),
        (["--preprocess", "tf", "--fill", "256"], "must be a whole number from 0 to 255"),
        (["--preprocess", "tf", "--fill", "1,2"], "must be a whole number from 0 to 255"),
        (["--preprocess", "tf", "--crop-fraction", "0"], "0.0 is not in the range 0<x<=1"),
        (["--preprocess", "caffe"], "preprocess must be one of imagenet"),
        (["--crop", "letterbox"], "--crop needs --preprocess, which says how the network wants its images"),
        (["--crop-fraction", "0.5"], "--crop-fraction needs --preprocess"),
        (["--size", "8"], "--size needs --preprocess"),
        (["--layout", "nchw"], "--layout needs --preprocess"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_does_not_do_is_refused(model: Path, folder: Path, options: list[str], message: str) -> None:
    found_late = ("--std", "caffe")  # by the encoder
    result = run("index", folder, "--encoder", model, *options, code=4 if any(x in options for x in found_late) else 2)
    assert message in " ".join(result.stderr.split())


def test_an_encoder_of_our_own_and_the_built_in_one_take_none(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "ours.onnx").write_bytes(build())
    result = run("index", folder, "--encoder", tmp_path / "ours.onnx", "--mean", "1", code=4)
    assert "stores its own preparation" in result.stderr
    assert "need an ONNX model" in run("index", folder, "--mean", "1", code=2).stderr

"""A gallery remembers its encoder and how it was opened."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from galleries import FakeEncoder, SeeingEncoder, photos, picture

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper, numpy_helper

from pyhash import Encoder, Gallery
from pyhash.errors import GalleryError, GalleryMismatchError


def network(seed: int = 0, sides: tuple[int | str, int | str] = ("h", "w")) -> bytes:
    """A plain network for images of any size unless their sides are given, with two outputs of 32 values."""
    rng = np.random.default_rng(seed)
    values = {"w": rng.normal(size=(8, 3, 3, 3)), "v": rng.normal(size=(8, 32)), "b": rng.normal(size=32) / 9}
    nodes = [
        helper.make_node("Conv", ["images", "w"], ["map"]),
        helper.make_node("Identity", ["map"], ["active"]),
        helper.make_node("GlobalAveragePool", ["active"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "v"], ["sums"]),
        helper.make_node("Add", ["sums", "b"], ["more"]),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ("n", 3, *sides))],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ("n", 32)) for name in ("sums", "more")],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(model.SerializeToString())


OPENED: dict[str, Any] = {
    "output": "more",
    "preprocess": {"preset": "imagenet", "size": (40, 32), "mean": np.array([0.5, 0.4, 0.3])},
    "levels": {"coarse": 8, "fine": 24},
    "fast_jpeg": False,
    "max_pixels": 10**6,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return photos(tmp_path / "photos")


def test_opened_again_in_the_same_way(folder: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(network())
    encoder = Encoder(model, threads=1, **OPENED)
    with Gallery(folder, encoder) as gallery:
        gallery.update()
        expected = gallery.search(folder / "a.png")
        assert expected[0].distance == 0
    assert Encoder(**encoder.opened).fingerprint == encoder.fingerprint
    with Gallery(folder) as gallery:
        assert gallery.search(folder / "a.png") == expected
        assert gallery.encoder.fingerprint == encoder.fingerprint
        assert gallery.stats().opened == encoder.opened
        picture(folder / "new.png", 77)
        assert gallery.update().added == 1


@pytest.mark.parametrize("noted", ["imagenet", {"preset": "imagenet"}, {"preset": "imagenet", "crop": "squash"}])
def test_a_preset_noted_by_name_means_what_it_meant(noted: Any, folder: Path, tmp_path: Path) -> None:
    """Before its settings were noted, ``imagenet`` took all of the middle of an image, not 7/8 of it."""
    model = tmp_path / "model.onnx"
    model.write_bytes(network(sides=(48, 48)))
    before = {"preset": "imagenet", "crop_fraction": None} | (noted if isinstance(noted, dict) else {})
    encoder = Encoder(model, output="more", preprocess=before)
    with Gallery(folder, encoder) as gallery:
        gallery.update()
        expected = gallery.search(folder / "a.png")
        file = gallery.file
    with closing(sqlite3.connect(file)) as db, db:
        opened = json.dumps({**encoder.opened, "preprocess": noted})
        assert db.execute("UPDATE settings SET value = ? WHERE key = 'opened'", [opened]).rowcount == 1
    today = Encoder(model, output="more", preprocess=noted)
    assert today.fingerprint != encoder.fingerprint
    with Gallery(folder) as gallery:
        assert gallery.encoder.fingerprint == encoder.fingerprint
        assert gallery.search(folder / "a.png") == expected
        assert gallery.update().changed == 0
    with pytest.raises(GalleryMismatchError, match="--rebuild"):
        Gallery(folder, today)


def test_a_model_in_the_folder_moves_with_it(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "models").mkdir()
    (folder / "models" / "net.onnx").write_bytes(network())
    monkeypatch.chdir(tmp_path)
    with Gallery("photos", Encoder("photos/models/net.onnx", **OPENED)) as gallery:
        gallery.update()
    shutil.move(folder, tmp_path / "elsewhere")
    with Gallery("elsewhere") as gallery:
        assert gallery.search(Path("elsewhere", "a.png"), 1)[0].path == os.path.join("elsewhere", "a.png")
        assert gallery.stats().opened == {
            **Encoder("elsewhere/models/net.onnx", **OPENED).opened,
            "model": "models/net.onnx",
        }


def test_what_cannot_be_opened_again(folder: Path, tmp_path: Path) -> None:
    model, moved = tmp_path / "model.onnx", tmp_path / "moved.onnx"
    model.write_bytes(network())
    with Gallery(folder, Encoder(model, **OPENED)) as gallery:
        gallery.update()
        expected = gallery.search(folder / "a.png")
    model.rename(moved)
    remedy = r"model\.onnx, which cannot be opened: no such model.*Give the encoder.*--encoder MODEL.*--rebuild"
    with Gallery(folder) as gallery:
        assert gallery.duplicates().images == 6  # needs none
        for ask in (lambda: gallery.search(folder / "a.png"), gallery.update):
            with pytest.raises(GalleryError, match=remedy):
                ask()
    with pytest.raises(GalleryError, match=remedy):
        Gallery(folder, rebuild=True)
    with Gallery(folder, Encoder(moved, **OPENED)) as gallery:  # the same one, elsewhere
        assert gallery.search(folder / "a.png") == expected
        gallery.update()
    with Gallery(folder) as gallery:
        assert gallery.search(folder / "a.png") == expected
    moved.write_bytes(network(1))  # trained again
    with Gallery(folder) as gallery, pytest.raises(GalleryMismatchError, match=r"fingerprint.*--rebuild"):
        gallery.search(folder / "a.png")
    with Gallery(folder, rebuild=True) as gallery:
        assert gallery.update().changed == 6
        assert gallery.search(folder / "a.png", 1)[0].distance == 0


def test_what_cannot_be_remembered(folder: Path) -> None:
    encoder = Encoder(network(), **OPENED)
    assert encoder.opened is None
    with Gallery(folder, encoder) as gallery:
        gallery.update()
        assert gallery.stats().opened is None
    with (
        Gallery(folder) as gallery,
        pytest.raises(GalleryMismatchError, match="Give the encoder that made the gallery"),
    ):
        gallery.search(folder / "a.png")  # with the built-in one
    with Gallery(folder, FakeEncoder(), rebuild=True) as gallery:
        gallery.update()
        assert gallery.stats().opened is None


def test_thumbnails_are_kept_unless_that_is_said(tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos")
    with Gallery(folder, SeeingEncoder()) as gallery:
        gallery.update()
        assert gallery.thumbnail(folder / "a.png")
        assert gallery.thumbnail("nowhere.png") is None
    with Gallery(folder, SeeingEncoder(), thumbnails=False) as gallery:
        assert gallery.update().unchanged == 6  # nothing is encoded again
        assert gallery.thumbnail(folder / "a.png") is None
    picture(folder / "new.png", 50)
    with Gallery(folder, SeeingEncoder()) as gallery:  # remembered
        gallery.update()
        assert gallery.thumbnail(folder / "new.png") is None
    picture(folder / "newer.png", 51)
    with Gallery(folder, SeeingEncoder(), thumbnails=True) as gallery:
        gallery.update()
        assert gallery.thumbnail(folder / "newer.png")
        assert gallery.thumbnail(gallery.id_of(folder / "newer.png") or -1)

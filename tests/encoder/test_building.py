"""From a network and labelled pictures to an encoder: in Python, from the shell, and what it retrieves."""

from __future__ import annotations

import os
import pickle
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("PIL")
pytest.importorskip("scipy")
import labelled_pictures
import networks
import onnx
from onnx import ModelProto

from pyhash import heads
from pyhash import networks as graph
from pyhash.encoder import Encoder, build, extract
from pyhash.errors import GraphError, ImageError, LabelError
from pyhash.evaluation import evaluate
from pyhash.gallery import Gallery
from pyhash.networks import Model

LEVELS = {"coarse": 8, "fine": 24}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return labelled_pictures.draw(tmp_path_factory.mktemp("pictures") / "train")


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return labelled_pictures.draw(tmp_path_factory.mktemp("pictures") / "test", per_class=5, seed=1)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("backbone") / "small resnet.onnx"
    onnx.save_model(networks.resnet(), path)
    return path


def retrieval(encoder: Encoder, queries: Path, database: Path) -> dict[str, float]:
    """Mean average precision of each level, judged by its own labels; by chance about 1/2 and 1/6."""
    files = [sorted(root.rglob("*.png")) for root in (queries, database)]
    labels = [{"coarse": [f.parts[-3] for f in part], "fine": [f.parts[-2] for f in part]} for part in files]
    codes = [encoder.encode(part) for part in files]
    report = evaluate(codes[0], codes[1], labels[0], labels[1], levels=encoder.levels, ks=[5])
    names = list(encoder.levels) if len(encoder.levels) > 1 else ["code"]
    return {name: report.value("mAP", name, name if name in LEVELS else "fine") for name in names}


# What is built


@pytest.mark.parametrize("head", [*heads.SUPERVISED, "pca-itq", "lsh"])
def test_every_head_makes_an_encoder_that_retrieves(
    head: str, backbone: Path, folder: Path, held_out: Path, tmp_path: Path
) -> None:
    labels = "folders" if head in heads.SUPERVISED else None
    steps = []
    built = build(
        backbone,
        folder,
        labels,
        LEVELS,
        tmp_path / "e.onnx",
        head=head,
        progress=lambda step, done, total: steps.append((step, done, total)),
    )
    onnx.checker.check_model(onnx.load(tmp_path / "e.onnx"), full_check=True)
    encoder = Encoder(tmp_path / "e.onnx")
    assert (dict(encoder.levels), encoder.name) == (LEVELS, "small resnet")
    assert encoder.metadata.training == f"head {head} fitted on 84 images of train"
    assert (built.path, built.n_images, built.failed, built.batch) == (str(tmp_path / "e.onnx"), 84, [], None)
    assert built.taps == {"stage1": 8, "stage2": 12, "stage3": 16, "stage4": 24}
    assert built.classes == ({"coarse": 2, "fine": 6} if labels else {})
    assert built.grouped == ()
    assert steps[0][0] == "features"
    assert steps[-1] == ("head", 1, 1)
    assert ("features", 84, 84) in steps
    found = retrieval(encoder, held_out, folder)
    assert found["coarse"] > 0.6
    assert found["fine"] > (0.55 if labels else 0.3)


def test_building_twice_gives_the_same_file(backbone: Path, folder: Path, tmp_path: Path) -> None:
    for name, threads in (("one", 1), ("two", 3)):
        build(backbone, folder, "folders", 16, tmp_path / name, threads=threads, name="same", max_images=50)
    one, two = (Encoder(tmp_path / name) for name in ("one", "two"))
    pictures = sorted(folder.rglob("*.png"))
    np.testing.assert_array_equal(one.encode(pictures), two.encode(pictures))
    build(backbone, folder, "folders", 16, tmp_path / "three", name="same", max_images=50, seed=1)
    assert not np.array_equal(Encoder(tmp_path / "three").encode(pictures), one.encode(pictures))


def test_the_textbook_recipe(folder: Path, tmp_path: Path) -> None:
    """A hash layer that was trained elsewhere: every output is a bit, above 0 or not."""
    model = networks.vgg_channels_last()
    built = build(model, folder, None, 64, tmp_path / "e.onnx", taps=["fc2"], preprocess="keras-caffe", head="sign")
    assert built.taps == {"fc2": 64}
    features = graph.add_features(model, ["fc2"], "keras-caffe")
    pictures = sorted(folder.rglob("*.png"))[::9]
    expected, _, _ = extract(features, pictures)
    np.testing.assert_array_equal(Encoder(tmp_path / "e.onnx").encode(pictures), np.packbits(expected > 0, axis=1))
    with pytest.raises(
        ValueError, match="levels must have 64 bits together, one a feature, for the head 'sign', got 48"
    ):
        build(model, folder, None, 48, tmp_path / "f.onnx", taps=["fc2"], preprocess="keras-caffe", head="sign")


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (lambda: networks.vit(), {}),
        (lambda: networks.vit(batch=1), {}),
        (lambda: networks.mobilenet(opset=11), {"preprocess": "tf"}),
        (lambda: networks.resnet(dtype=np.float16), {}),
        (lambda: networks.efficientnet(), {"size": (32, 48), "preprocess": "unit"}),
        (lambda: networks.dense_with_batch(4), {}),
        (lambda: networks.vgg_channels_last(top=False), {"preprocess": "keras-caffe"}),
    ],
    ids=["vit", "vit-batch-1", "mobilenet", "float16", "oblong", "batch-4", "channels-last"],
)
def test_networks_of_every_kind(make: Any, options: Mapping[str, Any], folder: Path, tmp_path: Path) -> None:
    built = build(make(), folder, "folders", LEVELS, tmp_path / "e.onnx", **options)
    encoder = Encoder(tmp_path / "e.onnx")
    assert encoder.size == options.get("size", 32)
    codes = encoder.encode(sorted(folder.rglob("*.png"))[:5])
    assert codes.shape == (5, 4)
    assert built.batch in (None, 1, 4)


def test_levels_without_labels_of_their_own_are_grouped(backbone: Path, folder: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    for kind in folder.glob("*/*"):
        shutil.copytree(kind, flat / kind.name)
    built = build(backbone, flat, "folders", LEVELS, tmp_path / "e.onnx")
    assert built.grouped == ("coarse",)
    assert built.classes == {"coarse": 2, "fine": 6}  # about the root of six


def test_pictures_that_cannot_be_read_are_left_out(backbone: Path, folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    files = sorted(folder.rglob("*.png"))
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    rows = [f"{file},{file.parts[-2]}" for file in [files[0], bad, *files[1:], tmp_path / "gone.png"]]
    table.write_text("\n".join(["path,kind", *rows]))
    built = build(backbone, folder, table, 16, tmp_path / "e.onnx")
    assert built.n_images == len(files)
    assert [Path(error.path).name for error in built.failed] == ["bad.png", "gone.png"]
    table.write_text(f"path,kind\n{bad},a\n{tmp_path / 'gone.png'},b\n")
    with pytest.raises(ImageError, match=r"bad\.png"):
        build(backbone, folder, table, 16, tmp_path / "f.onnx")
    assert not (tmp_path / "f.onnx").exists()


def test_the_embedding_comes_before_the_head_and_says_which_tap_its_numbers_are_of(
    backbone: Path, folder: Path, tmp_path: Path
) -> None:
    built = build(backbone, folder, "folders", LEVELS, tmp_path / "e.onnx")
    encoder = Encoder(tmp_path / "e.onnx")
    files = sorted(folder.rglob("*.png"))
    rows = encoder.embed(files, normalize=False)
    assert rows.shape == (84, 60)
    np.testing.assert_allclose(rows.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(rows.var(axis=0), encoder.metadata.spread, rtol=1e-2, atol=1e-6)
    np.testing.assert_allclose(rows @ built.fitted.weight + built.fitted.bias, encoder.logits(files), atol=1e-3)
    assert [tap.components for tap in encoder.metadata.taps] == [8, 12, 16, 24]
    assert encoder.metadata.made_of == {"coarse": "labels", "fine": "labels"}
    features = graph.add_features(backbone)
    alone, _, _ = extract(features, files)
    for name, columns in graph.feature_blocks(features).items():
        numbers = built.projection.blocks[name]
        near, far = (part - part.mean(axis=0) for part in (alone[:, columns], rows[:, numbers]))
        np.testing.assert_allclose(near @ near.T, far @ far.T, atol=1e-3)  # all components: no distance changes
    adapted = encoder.adapt(rows)
    assert adapted.fingerprints.network == encoder.fingerprints.network
    assert adapted.fingerprints.head != encoder.fingerprints.head
    np.testing.assert_allclose(adapted.embed(files, normalize=False), rows, atol=1e-5)


def test_weights_decide_what_a_level_reads(backbone: Path, folder: Path, held_out: Path, tmp_path: Path) -> None:
    weights = {"coarse": [1, 1, 0, 0]}
    built = build(backbone, folder, "folders", LEVELS, tmp_path / "e.onnx", weights=weights)
    assert built.fitted.details["coarse"]["taps"] == {"stage1": 1.0, "stage2": 1.0, "stage3": 0.0, "stage4": 0.0}
    assert max(built.fitted.details["fine"]["taps"].values()) == 1
    whole = Encoder(tmp_path / "e.onnx")
    assert retrieval(whole, held_out, folder)["coarse"] > 0.6


def test_a_level_runs_only_the_part_of_the_network_that_it_needs(
    backbone: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(backbone, folder, "folders", LEVELS, tmp_path / "e.onnx", weights={"coarse": [1, 1, 0, 0]})
    encoder = Encoder(tmp_path / "e.onnx")
    pictures = sorted(folder.rglob("*.png"))[::3]
    codes = encoder.encode(pictures)
    run_by: list[str] = []
    whole_run = Model.run

    def spy(self: Model, pixels: Any, *rest: Any) -> Any:
        run_by.append(",".join(self.metadata.levels or ()))
        return whole_run(self, pixels, *rest)

    monkeypatch.setattr(Model, "run", spy)
    for level, columns in (("coarse", slice(0, 1)), ("fine", slice(1, 4))):
        run_by.clear()
        found = encoder.encode(pictures, level=level)
        assert set(run_by) == {level}
        np.testing.assert_array_equal(found[:, columns], codes[:, columns])
        found[:, columns] = 0
        assert not found.any()
    np.testing.assert_array_equal(encoder.encode(pictures[0], level="coarse")[0], codes[0, 0])
    streamed = [encoded.code for encoded in encoder.stream(pictures, level="coarse")]
    np.testing.assert_array_equal(np.stack(streamed)[:, :1], codes[:, :1])
    again = pickle.loads(pickle.dumps(encoder))
    np.testing.assert_array_equal(again.encode(pictures, level="coarse")[:, :1], codes[:, :1])
    with pytest.raises(ValueError, match="level must be one of coarse, fine, got 'middle'"):
        encoder.encode(pictures, level="middle")

    with Gallery.open(folder, encoder, tmp_path / "g.sqlite") as gallery:
        gallery.update()
        assert gallery.search(pictures[0], 3, level="coarse")[0].distance == 0

    monkeypatch.setitem(sys.modules, "onnx", None)  # without it the whole network is run
    run_by.clear()
    found = Encoder(tmp_path / "e.onnx").encode(pictures, level="coarse")
    assert set(run_by) == {"coarse,fine"}
    np.testing.assert_array_equal(found[:, :1], codes[:, :1])


def test_a_level_of_a_head_that_reads_everything(backbone: Path, folder: Path, tmp_path: Path) -> None:
    build(backbone, folder, "folders", LEVELS, tmp_path / "e.onnx", max_images=40)
    encoder = Encoder(tmp_path / "e.onnx")
    pictures = sorted(folder.rglob("*.png"))[:4]
    found = encoder.encode(pictures, level="fine")
    np.testing.assert_array_equal(found[:, 1:], encoder.encode(pictures)[:, 1:])
    assert not found[:, 0].any()


def test_arguments(backbone: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "e.onnx"
    with pytest.raises(ValueError, match="labels must be given for the head 'hadamard-ridge', got None"):
        build(backbone, folder, None, LEVELS, out)
    with pytest.raises(ValueError, match="labels must be None for the head 'lsh', got 'folders'"):
        build(backbone, folder, "folders", LEVELS, out, head="lsh")
    with pytest.raises(ValueError, match="weights must be for the levels coarse, fine, got 'middle'"):
        build(backbone, folder, "folders", LEVELS, out, weights={"middle": [1, 1, 1, 1]})
    for weights in ([1, 1], [1, 1, 1, -1], [0, 0, 0, 0], [1, 1, 1, np.nan]):
        with pytest.raises(ValueError, match="weights of level 'fine' must be 4 numbers of at least 0, not all 0"):
            build(backbone, folder, "folders", LEVELS, out, weights={"fine": weights})
    with pytest.raises(ValueError, match="quantize must be 'weights', 'int8' or None, got 'int4'"):
        build(backbone, folder, "folders", LEVELS, out, quantize="int4")
    with pytest.raises(LabelError, match="no images in"):
        build(backbone, tmp_path, "folders", LEVELS, out)
    with pytest.raises(GraphError, match="tap 'stage9' is not in the network"):
        build(backbone, folder, "folders", LEVELS, out, taps=["stage9"])
    with pytest.raises(FileNotFoundError):
        build(tmp_path / "gone.onnx", folder, "folders", LEVELS, out)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_told_before_the_work(backbone: Path, folder: Path, tmp_path: Path) -> None:
    def never(*_: object) -> None:
        pytest.fail("pictures were encoded")

    with pytest.raises(FileNotFoundError, match=r"no such folder to write to: .*gone'"):
        build(backbone, folder, "folders", 16, tmp_path / "gone" / "e.onnx", max_images=20, progress=never)


def test_two_inputs_that_could_be_the_picture(folder: Path, tmp_path: Path) -> None:
    model = networks.resnet()
    model.graph.input.append(onnx.helper.make_tensor_value_info("mask", onnx.TensorProto.FLOAT, ["n", 3, 32, 32]))
    with pytest.raises(GraphError, match="'input', 'mask': input must name one"):
        build(model, folder, "folders", 16, tmp_path / "e.onnx", max_images=20)
    with pytest.raises(GraphError, match="several inputs"):
        graph.choose_taps(model)
    chosen = graph.choose_taps(model, input="input")
    assert chosen == graph.choose_taps(networks.resnet())
    assert graph.taps(model, input="input") == graph.taps(networks.resnet())
    built = build(model, folder, "folders", 16, tmp_path / "e.onnx", max_images=20, input="input")
    assert list(built.taps) == [tap.name for tap in chosen]


def test_a_file_that_is_no_encoder_is_not_replaced(backbone: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "backbone.onnx"
    out.write_bytes(backbone.read_bytes())
    with pytest.raises(FileExistsError, match="a file that pyhash did not write is there"):
        build(backbone, folder, "folders", 16, out, max_images=20)
    assert out.read_bytes() == backbone.read_bytes()
    for overwrite in (True, False):  # from then on it is an encoder
        build(backbone, folder, "folders", 16, out, max_images=20, overwrite=overwrite)
    assert Encoder(out).bits == 16


def test_an_old_file_survives_a_failure(
    backbone: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "e.onnx"
    out.write_text("pyhash.old")

    def fail(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space left"):
        build(backbone, folder, "folders", 16, out, max_images=20)
    assert out.read_text() == "pyhash.old"
    assert [path.name for path in tmp_path.iterdir()] == ["e.onnx"]


def test_the_model_in_memory_is_left_alone(folder: Path, tmp_path: Path) -> None:
    model: ModelProto = networks.resnet()
    before = model.SerializeToString()
    build(model, folder, "folders", 16, tmp_path / "e.onnx", max_images=30)
    assert model.SerializeToString() == before

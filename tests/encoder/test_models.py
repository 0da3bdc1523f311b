"""The built-in model keeps its contract and its card's word; the scripts that make and measure it, on tiny sets."""

from __future__ import annotations

import csv
import importlib
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import pyhash

pytest.importorskip("onnxruntime")
pytest.importorskip("PIL")
from PIL import Image

from pyhash.networks import onnxruntime

ROOT = Path(__file__).parents[2]
MODELS = Path(pyhash.__file__).parent / "models"
SHIPPED = {"default": MODELS / "default.onnx", "small": MODELS / "small.onnx"}
LARGEST = {"default": 12_500_000, "small": 5_500_000}
LEVELS = {"coarse": 64, "fine": 192}


def open_session(file: Path) -> Any:
    options = onnxruntime().SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime().InferenceSession(file, options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("name", SHIPPED)
def test_a_built_in_model_keeps_the_contract(name: str) -> None:
    session = open_session(SHIPPED[name])
    metadata = session.get_modelmeta().custom_metadata_map
    keys = {"schema", "name", "levels", "size", "resize", "crop", "taps", "training", "quantized"}
    assert {f"pyhash.{key}" for key in keys} <= set(metadata)
    assert metadata["pyhash.schema"] == "1"
    assert metadata["pyhash.quantized"] == "weights"
    assert list(json.loads(metadata["pyhash.levels"]).items()) == list(LEVELS.items())
    (images,) = session.get_inputs()
    assert (images.name, images.type, images.shape[1:]) == ("images", "tensor(uint8)", [224, 224, 3])
    assert isinstance(images.shape[0], str)
    assert [(value.name, value.type, value.shape[1]) for value in session.get_outputs()] == [
        ("logits", "tensor(float)", 256),
        ("embedding", "tensor(float)", 384),
    ]
    assert SHIPPED[name].stat().st_size <= LARGEST[name]
    batch = np.random.default_rng(0).integers(0, 256, (5, 224, 224, 3), np.uint8)
    for output in ("logits", "embedding"):
        (together,) = session.run([output], {"images": batch})
        assert together.dtype == np.float32
        alone = np.concatenate([session.run([output], {"images": one[None]})[0] for one in batch])
        np.testing.assert_allclose(alone, together, atol=1e-4)


@pytest.mark.parametrize("name", SHIPPED)
def test_the_logits_are_an_affine_map_of_the_embedding(name: str) -> None:
    """The coarse bits read the 64 leading components, the fine ones 192, centred: what a collection can do anew."""
    onnx = pytest.importorskip("onnx")
    batch = np.random.default_rng(0).integers(0, 256, (4, 224, 224, 3), np.uint8)
    logits, embedding = open_session(SHIPPED[name]).run(["logits", "embedding"], {"images": batch})
    graph = onnx.load(SHIPPED[name]).graph
    (head,) = (node for node in graph.node if list(node.output) == ["logits"])
    assert head.input[0] == "embedding"
    made = {name: node for node in graph.node for name in node.output}
    values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    scaled = made[head.input[1]]
    weight = values[made[scaled.input[0]].input[0]] * values[scaled.input[1]]
    np.testing.assert_allclose(embedding @ weight + values[head.input[2]], logits, atol=1e-5)
    energy = np.square(weight)
    assert energy[:64, :64].sum() > 0.98 * energy[:, :64].sum()
    assert energy[:192, 64:].sum() > 0.98 * energy[:, 64:].sum()


@pytest.mark.parametrize("name", [None, "small"])
def test_a_built_in_model_finds_the_kind_of_a_photograph(name: str | None) -> None:
    """The photographs of the demo: twelve of each of ten kinds, each searching the others."""
    files = sorted((MODELS / "photographs" / "collection").rglob("*.jpg"))
    assert len(files) == 120
    codes = pyhash.Encoder(name).encode(files)
    kinds = np.array([file.parent.name for file in files])
    distances = pyhash.hamming(codes, codes)
    np.fill_diagonal(distances, 1000)
    nearest = np.argsort(distances, axis=1, kind="stable")[:, :3]
    assert (kinds[nearest] == kinds[:, None]).mean() > 0.5  # 0.09 by chance
    assert len(np.unique(codes, axis=0)) == 120
    ones = np.unpackbits(codes, axis=1).mean(axis=0)
    assert ((ones > 0) & (ones < 1)).all()


def test_the_card_tells_the_files_and_names_what_they_are_made_of() -> None:
    card = (MODELS / "MODEL_CARD.md").read_text()
    table = card.split("<!-- costs -->")[1].split("<!-- end of costs -->")[0]
    for title, name in (("built-in", None), ("small", "small")):
        size = SHIPPED[name or "default"].stat().st_size
        assert f"| {title} | file, MB | {size / 1e6:.2f} |" in table
        training = pyhash.Encoder(name).metadata.training
        for word in re.findall(r"[a-z]{5,}", training.split("head: ")[1].split(",")[0]):
            assert word in card


# The scripts


def load_script(monkeypatch: pytest.MonkeyPatch, name: str, folder: str = "training") -> ModuleType:
    for module in ("onnx", "scipy"):
        pytest.importorskip(module)
    monkeypatch.syspath_prepend(ROOT / folder)
    return importlib.import_module(name)


def draw_sets(data: Path) -> None:
    """Small sets with the layout of the real ones: plain colours with noise, one a class."""
    rng = np.random.default_rng(0)
    folders = [f"clothing/{part}/{kind}" for part in ("train", "validation") for kind in ("hat", "shoes")]
    folders += [f"{name}/{kind}" for name in ("objects", "grocery") for kind in ("ant", "barrel", "crab")]
    folders += [f"{name}/{kind}" for name in ("cifar10/train", "cifar10/test") for kind in ("cat", "dog")]
    for folder in [*folders, "photos"]:
        (data / folder).mkdir(parents=True)
        colour = np.random.default_rng([*Path(folder).name.encode()]).integers(0, 256, 3)
        for number in range(7):
            pixels = np.clip(colour + rng.normal(0, 30, (40, 50, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(data / folder / f"{number}.jpg")
    with (data / "grocery" / "classes.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [["class", "fine", "coarse"], *([kind, kind, str(kind == "barrel")] for kind in ("ant", "barrel", "crab"))]
        )


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[ModuleType, Path]:
    """The script that makes the model, and what it made of a small network and small sets."""
    making = load_script(monkeypatch, "default_model")
    import networks
    import onnx

    draw_sets(tmp_path / "data")
    onnx.save_model(networks.efficientnet(), tmp_path / "network.onnx")
    monkeypatch.setattr(making, "PREPROCESS", making.PREPROCESS | {"size": 32})
    monkeypatch.setattr(making, "LEVELS", pyhash.Levels({"coarse": 8, "fine": 16}))
    monkeypatch.setattr(making, "COMPONENTS", 24)
    out = tmp_path / "made.onnx"
    making.main([str(tmp_path / "network.onnx"), "--data", str(tmp_path / "data"), "--out", str(out)])
    return making, out


def test_the_model_is_made_of_what_the_stored_network_gives(made: tuple[ModuleType, Path], tmp_path: Path) -> None:
    making, file = made
    from pyhash.encoder import extract
    from pyhash.networks import add_features
    from pyhash.networks.int8 import quantize_weights

    encoder = pyhash.Encoder(file)
    assert (dict(encoder.levels), encoder.size) == ({"coarse": 8, "fine": 16}, 32)
    network = quantize_weights(
        add_features(tmp_path / "network.onnx", ["last_map"], making.PREPROCESS, pooling=["gap"])
    )
    files = [f for name in making.SETS for f in sorted((tmp_path / "data" / name).rglob("*.jpg"))]
    features, _, _ = extract(network, files)
    rows = making.typical_rows(features, making.class_vectors(tmp_path / "network.onnx"))
    assert rows.shape == (len(files) + 10, 40)
    np.testing.assert_array_equal(rows[: len(files)], features)
    spread = [np.square(part - features.mean(axis=0)).sum(axis=1).mean() for part in (features, rows[len(files) :])]
    assert spread[0] == pytest.approx(spread[1], rel=1e-4)
    centred = rows - rows.mean(axis=0)
    components = np.linalg.svd(centred, full_matrices=False)[2][:24]

    import onnx

    batch = np.stack([pyhash.images.load(f, size=32, resize="bicubic") for f in files])
    (found,) = open_session(file).run(["embedding"], {"images": batch})
    expected = (features - rows.mean(axis=0)) @ components.T
    kept = slice(0, 4)  # of the later ones the order may differ by the rounding
    np.testing.assert_allclose(np.abs(found[:, kept]), np.abs(expected[:, kept]), atol=0.02 * np.abs(expected).max())
    assert np.square(found).sum() == pytest.approx(np.square(expected).sum(), rel=0.05)
    assert onnx.load(file).graph.output[1].name == "embedding"


def test_measuring_knows_every_protocol(
    made: tuple[ModuleType, Path], tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    measuring = load_script(monkeypatch, "bench_retrieval", "bench")
    monkeypatch.setattr(measuring, "ENCODERS", {"tiny": made[1]})
    monkeypatch.setattr(measuring, "DRAWS", 20)
    doc = tmp_path / "doc.md"
    marks = [f"<!-- {part} -->\nold\n<!-- end of {part} -->\n" for part in measuring.PARTS]
    doc.write_text(f"before\n{marks[0]}between\n{marks[1]}after\n")
    capsys.readouterr()
    measuring.main(["--data", str(tmp_path / "data"), "--encoders", "tiny", "--doc", str(doc)])
    printed = capsys.readouterr().out
    page = doc.read_text()
    words = ("<!--", "before", "between", "after")
    assert [row for row in page.splitlines() if not row.startswith(words)] == printed.splitlines()
    assert page.startswith("before\n<!-- answers -->\n")
    assert "<!-- end of answers -->\nbetween\n<!-- costs -->\n" in page
    assert page.endswith("<!-- end of costs -->\nafter\n")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in printed.splitlines() if line.startswith("| ")]
    wide = [row for row in rows if len(row) == 8 and row[0] == "tiny"]
    sizes = [row[1] for row in wide if row[2] == "`index`, `search`"]
    assert sizes == [
        "objects, 6 over 15",  # 0 and 5 of each 7
        "grocery, 6 over 15",
        "clothing, validation over train, 14 over 14",
        "all of them and photos in one, 26 over 51",
    ]
    assert [row[2] for row in wide[:6]] == [
        "`index`, `search`",
        "256-bit code alone",
        "cosine of its networks' features, 40 floats",
        "PCA, random rotation, 256 bits",
        "pHash, 64 bits",
        "64-bit code alone (`--bits 64`)",
    ]
    assert all(0 <= float(row[5]) <= 1 for row in wide)
    levels = [row[2] for row in wide if "fitted with labels" in row[2]]
    assert levels == [f"fitted with labels, level {level}" for level in ("coarse", "fine")] * 2
    (same,) = (row for row in rows if row[1] == "the same bytes")
    assert same[2:] == ["1.000"] * 5
    assert any(row[1] == "file, MB" for row in rows)


def test_measures_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    measuring = load_script(monkeypatch, "bench_retrieval", "bench")
    files = [Path(f"{kind}/{number}") for kind in "ab" for number in range(7)]
    queries, others = measuring.parted(files[::-1])
    assert [str(file) for file in queries] == ["a/0", "a/5", "b/0", "b/5"]
    assert sorted([*queries, *others]) == files

    task = measuring.Task("", [], [], [np.array(["x"]), np.array(["x", "y", "x"])])
    outcome = measuring.by_distance(task, np.array([[1, 2, 3]]))
    assert outcome.average == pytest.approx([(1 + 2 / 3) / 2])
    assert outcome.at_5 == pytest.approx([2 / 3])
    assert measuring.difference(np.ones(9), np.zeros(9)) == "+1.000 (+1.000 to +1.000)"

    pictures = np.random.default_rng(0).integers(0, 200, (3, 32, 32, 3), np.uint8)
    hashes = np.stack([measuring.p_hash(one) for one in (*pictures, *(pictures + np.uint8(40)))])
    assert hashes.shape == (6, 8)
    flipped = np.bitwise_count(hashes[:, None] ^ hashes).sum(-1)
    assert (flipped[np.arange(3), np.arange(3) + 3] <= 1).all()  # brightness hardly moves it
    assert flipped[0, 1] > 10


def test_the_demo_photographs_are_those_that_the_script_makes(
    data_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choosing = load_script(monkeypatch, "demo_photographs")
    choosing.main(["--data", str(data_directory), "--out", str(tmp_path)])
    made, shipped = (
        {file.relative_to(root): file for file in root.rglob("*.jpg")} for root in (tmp_path, MODELS / "photographs")
    )
    assert set(made) == set(shipped)
    for name, file in made.items():
        with Image.open(file) as one, Image.open(shipped[name]) as other:
            assert one.size == other.size
            assert (
                np.abs(np.asarray(one, int) - np.asarray(other, int)).mean() < 2
            )  # another Pillow may round otherwise

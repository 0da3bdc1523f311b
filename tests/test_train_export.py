"""The training example: a tiny run end to end, the exported file's contract, and the model that ships."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "examples" / "train_hash_model.py"
SHIPPED = ROOT / "pyhash" / "models" / "default.onnx"
KEYS = {"schema", "name", "levels", "size", "resize", "crop", "taps", "training"}


def open_session(file: Path) -> Any:
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def check_contract(file: Path) -> None:
    """Assert that ``file`` is an encoder as DESIGN.md describes it."""
    session = open_session(file)
    metadata = session.get_modelmeta().custom_metadata_map
    assert {f"pyhash.{key}" for key in KEYS} <= set(metadata)
    assert metadata["pyhash.schema"] == "1"
    levels = json.loads(metadata["pyhash.levels"])
    assert list(levels.items()) == [("coarse", 16), ("fine", 48)]
    assert metadata["pyhash.resize"] in {"nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"}
    assert metadata["pyhash.crop"] in {"squash", "center"}
    assert len(json.loads(metadata["pyhash.taps"])) >= 2
    size = int(metadata["pyhash.size"])
    (images,), (logits,) = session.get_inputs(), session.get_outputs()
    assert (images.name, images.type, logits.name, logits.type) == (
        "images",
        "tensor(uint8)",
        "logits",
        "tensor(float)",
    )
    assert isinstance(images.shape[0], str)
    assert images.shape[1:] == [size, size, 3]
    rng = np.random.default_rng(0)
    for n in (1, 3, 8):
        batch = rng.integers(0, 256, (n, size, size, 3), np.uint8)
        (values,) = session.run(["logits"], {"images": batch})
        assert values.shape == (n, 64)
        assert values.dtype == np.float32
        assert np.isfinite(values).all()
        (alone,) = session.run(["logits"], {"images": batch[-1:]})
        np.testing.assert_allclose(alone[0], values[-1], atol=1e-3)
    assert file.stat().st_size <= 3_000_000


def test_the_shipped_model_keeps_the_contract() -> None:
    check_contract(SHIPPED)


def test_the_shipped_model_spends_its_bits() -> None:
    """Plain colours, ramps and noise of many kinds must not all get one code."""
    rng = np.random.default_rng(1)
    ramp = np.linspace(0, 1, 64)[None, :, None, None]
    colours = rng.integers(0, 256, (2, 64, 1, 1, 3))
    pictures = (colours[0] * ramp + colours[1] * (1 - ramp)).astype(np.uint8).repeat(64, axis=2)
    (logits,) = open_session(SHIPPED).run(["logits"], {"images": pictures})
    assert len(np.unique(np.packbits(logits > 0, axis=1), axis=0)) >= 16


@pytest.fixture(scope="module")
def example() -> ModuleType:
    for name in ("torch", "onnx", "onnxscript", "onnxruntime", "PIL"):
        pytest.importorskip(name)
    spec = importlib.util.spec_from_file_location("train_hash_model", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_targets_are_far_apart_and_no_bit_is_constant(example: ModuleType) -> None:
    for classes, bits, least in ((16, 16, 8), (11, 16, 8), (60, 64, 32), (220, 48, 14)):
        words = example.hash_targets(classes, bits, seed=3).numpy()
        distances = (bits - words @ words.T) / 2
        assert distances[~np.eye(classes, dtype=bool)].min() >= least
        assert (np.abs(words) == 1).all()
        assert (np.abs(words.mean(0)) < 1).all()


def test_an_epoch_shows_each_source_as_often_as_it_says(example: ModuleType) -> None:
    order = example.epoch_order([10, 4], [0.5, 3.0], seed=0)
    seen = np.bincount(order, minlength=14)
    assert seen[:10].sum() == 5
    assert seen[:10].max() == 1
    assert (seen[10:] == 3).all()


def test_train_resume_export_and_measure(
    example: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    for split, n in (("train", 6), ("validation", 5)):
        for number, name in enumerate(("dress", "hat", "pants", "shoes")):
            folder = tmp_path / "data" / "clothing" / split / name
            folder.mkdir(parents=True)
            for i in range(n):
                pixels = rng.integers(60 * number, 60 * number + 40, (40 + i, 50, 3), np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    out = tmp_path / "tiny.onnx"
    command = ["--data", str(tmp_path / "data"), "--out", str(out), "--cache", str(tmp_path / "cache")]
    command += ["--batch", "16", "--epochs"]
    example.main([*command, "0.4"])
    first = capsys.readouterr().out
    assert "| clothing | 20 / 24 | our code, all 64 bits |" in first
    assert "equal bits 100" in first
    check_contract(out)

    example.main([*command, "0.6", "--resume"])
    again = capsys.readouterr().out
    assert "resumed at step" in again
    example.main([*command, "0.6", "--evaluate"])
    measured = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert measured == [line for line in again.splitlines() if line.startswith("|")]

    other = example.fold(example.HashNet())
    pictures = rng.integers(0, 256, (4, example.SIZE, example.SIZE, 3), np.uint8)
    with pytest.raises(SystemExit, match="does not agree"):
        example.check_export(other, out, pictures)

"""The gate of int8: what it costs is measured, and a worse network is not written."""

from __future__ import annotations

import dataclasses
import json
import os
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
from click.testing import CliRunner
from tuning import tune

from pyhash import heads
from pyhash import networks as graph
from pyhash.cli import main as cli
from pyhash.codes import Levels
from pyhash.encoder import Encoder, Quantized, build, building, extract, gate
from pyhash.errors import GraphError, QuantizationError
from pyhash.networks import int8 as quantize

LEVELS = {"coarse": 8, "fine": 24}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return labelled_pictures.draw(tmp_path_factory.mktemp("pictures") / "train")


@pytest.fixture(autouse=True)
def in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    tune(monkeypatch, gate_seconds=0)


@pytest.fixture(scope="module")
def network() -> onnx.ModelProto:
    return graph.add_features(networks.resnet(), preprocess="unit")


def sample(noise: float, n: int = 400) -> tuple[tuple[np.ndarray, np.ndarray], dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 6, n)
    features = (rng.normal(size=(6, 60))[classes] + 0.7 * rng.normal(size=(n, 60))).astype(np.float32)
    other = (features + noise * rng.normal(size=features.shape)).astype(np.float32)
    return (features, other), {"coarse": classes // 3, "fine": classes}


def assessed(network: onnx.ModelProto, noise: float, labelled: bool = True, **changes: Any) -> Quantized:
    features, labels = sample(noise)
    model, pixels = network, np.zeros((4, 32, 32, 3), np.uint8)
    blocks = graph.feature_blocks(model)

    def fit(rows: np.ndarray, named: Any) -> heads.Head:
        kind = "hadamard-ridge" if named else "pca-itq"
        return heads.fit_fused(rows, blocks, Levels(LEVELS), named, kind=kind)

    given = tuple(part.copy() for part in features)
    named = labels if labelled else None
    report = gate.assess((model, model), features, named, fit, pixels, 0.01)
    for part, copy in zip(features, given, strict=True):
        np.testing.assert_array_equal(part, copy)  # they are still needed
    return dataclasses.replace(report, **changes)


@pytest.mark.parametrize("labelled", [True, False])
def test_equal_features_lose_nothing(network: onnx.ModelProto, labelled: bool) -> None:
    report = assessed(network, 0.0, labelled)
    assert (report.loss, report.flipped, report.flipped_refitted) == (0, 0, 0)
    assert (report.n_queries, report.n_database, report.n_calibration) == (100, 300, 4)
    assert list(report.mean_average_precision) == (["code", "coarse", "fine"] if labelled else ["code"])
    assert all(before == after > 0.3 for before, after in report.mean_average_precision.values())
    assert report.n_bytes[0] == report.n_bytes[1] > 100_000
    assert min(report.milliseconds) > 0
    report.check()


@pytest.mark.parametrize("labelled", [True, False])
def test_worse_features_are_refused(network: onnx.ModelProto, labelled: bool) -> None:
    small, large = assessed(network, 0.3, labelled), assessed(network, 5.0, labelled)
    assert small.flipped < large.flipped < 0.6
    assert small.loss < large.loss
    assert large.loss > 0.1
    with pytest.raises(
        QuantizationError, match=r"quantize='int8' loses 0\.\d+ of mean average precision .* tolerance of 0\.01"
    ) as e:
        large.check()
    assert e.value.report is large
    dataclasses.replace(large, tolerance=large.loss).check()


def test_the_loss_is_that_of_the_worst_ranking() -> None:
    report = Quantized("int8", 4, (1, 1), (1.0, 1.0), 0.0, 0.0, {"code": (0.5, 0.6), "fine": (0.5, 0.45)}, 10, 30, 0.04)
    assert report.loss == pytest.approx(0.05)
    with pytest.raises(QuantizationError, match=r"\(fine: 0\.5000 in float, 0\.4500 in int8, 10 queries\)"):
        report.check()
    broken = dataclasses.replace(report, mean_average_precision={"code": (0.5, float("nan"))})
    with pytest.raises(QuantizationError):
        broken.check()


def test_build_writes_an_int8_encoder(folder: Path, tmp_path: Path) -> None:
    built = build(networks.resnet(), folder, "folders", LEVELS, tmp_path / "e.onnx", quantize="int8", tolerance=0.2)
    report = built.quantized
    assert report is not None
    assert report.n_calibration == 84
    assert report.loss <= 0.2
    assert report.n_bytes[1] < report.n_bytes[0] / 2
    encoder = Encoder(tmp_path / "e.onnx")
    assert encoder.metadata.quantized == "int8"
    build(networks.resnet(), folder, "folders", LEVELS, tmp_path / "float.onnx")
    pictures = sorted(folder.rglob("*.png"))
    logits = [Encoder(tmp_path / name).logits(pictures) for name in ("e.onnx", "float.onnx")]
    assert not np.array_equal(*logits)
    assert ((logits[0] > 0) != (logits[1] > 0)).mean() < 0.25
    assert os.path.getsize(tmp_path / "e.onnx") < os.path.getsize(tmp_path / "float.onnx")


@pytest.mark.parametrize("weights", [None, {"coarse": [0, 0, 1, 1]}])
def test_build_stores_weights_and_head_as_int8(folder: Path, tmp_path: Path, weights: Any) -> None:
    """Two levels that read the same taps, and two that do not."""
    options = {"n_taps": 4, "weights": weights, "tolerance": 0.05}
    built = build(networks.resnet(), folder, "folders", LEVELS, tmp_path / "e.onnx", quantize="weights", **options)
    report = built.quantized
    assert report is not None
    assert (report.kind, report.n_calibration) == ("weights", 0)
    assert report.n_bytes[1] < report.n_bytes[0] / 2
    encoder = Encoder(tmp_path / "e.onnx")
    assert encoder.metadata.quantized == "weights"
    files = sorted(map(str, folder.rglob("*.png")))
    features, _, _ = extract(quantize.quantize_weights(graph.add_features(networks.resnet())), files)
    fitted = built.fitted
    np.testing.assert_array_equal(quantize.rounded(fitted.weight), fitted.weight)
    np.testing.assert_allclose(
        encoder.logits(files), built.projection(features) @ fitted.weight + fitted.bias, atol=1e-4
    )
    np.testing.assert_array_equal(encoder.encode(files, level="coarse")[:, 0], encoder.encode(files)[:, 0])
    tensors = [t for t in onnx.load(tmp_path / "e.onnx").graph.initializer if t.data_type == onnx.TensorProto.FLOAT]
    assert max(np.prod(tensor.dims) for tensor in tensors) < 1024


def test_the_head_is_fitted_on_what_the_int8_network_gives(folder: Path, tmp_path: Path) -> None:
    built = build(networks.resnet(), folder, "folders", LEVELS, tmp_path / "e.onnx", quantize="int8", tolerance=1)
    model = graph.add_features(networks.resnet())
    files = sorted(map(str, folder.rglob("*.png")))
    from pyhash.encoder.features import pixels_of

    drawn = np.sort(np.random.default_rng(0).permutation(len(files))[:128])
    int8 = quantize.quantize(model, pixels_of(model, [files[row] for row in drawn]))
    features, _, _ = extract(int8, files)
    np.testing.assert_allclose(
        Encoder(tmp_path / "e.onnx").logits(files), built.projection.before(built.fitted).logits(features), atol=1e-3
    )


def test_the_command_writes_nothing_that_is_worse(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx.save_model(networks.resnet(), tmp_path / "net.onnx")
    out = tmp_path / "e.onnx"
    out.write_text("pyhash.old")
    arguments = ["build", tmp_path / "net.onnx", folder, "-o", out, "--quantize", "int8", "--json"]

    def worse(*arguments: Any, **options: Any) -> Quantized:
        report = real(*arguments, **options)
        changed = {name: (before, before - 0.5) for name, (before, _) in report.mean_average_precision.items()}
        return dataclasses.replace(report, mean_average_precision=changed)

    real = gate.assess
    monkeypatch.setattr(building, "assess", worse)
    result = CliRunner().invoke(cli.cli, list(map(str, arguments)), prog_name="pyhash")
    assert result.exit_code == 5, result.output
    assert "quantize='int8' loses 0.5000 of mean average precision" in result.stderr
    assert "nothing was written" in result.stderr
    answer = json.loads(result.stdout)
    assert answer["written"] is None
    assert answer["quantized"]["loss"] == pytest.approx(0.5)
    assert out.read_text() == "pyhash.old"

    monkeypatch.setattr(building, "assess", real)
    arguments[-1:] = ["--tolerance", "0.3"]
    result = CliRunner().invoke(cli.cli, list(map(str, arguments)), prog_name="pyhash")
    assert result.exit_code == 0, result.output
    for part in ("int8 size", "int8 time", "flip under the float network's head", "int8 mAP coarse"):
        assert part in result.stdout
    assert Encoder(out).metadata.quantized == "int8"


@pytest.mark.parametrize("kind", quantize.KINDS)
def test_int8_of_int8_is_refused_before_an_image_is_read(folder: Path, tmp_path: Path, kind: quantize.Kind) -> None:
    model = graph.add_features(networks.resnet())
    files = sorted(map(str, folder.rglob("*.png")))[:8]
    pixels = building.pixels_of(model, files)
    done = quantize.quantize(model, pixels) if kind == "int8" else quantize.quantize_weights(model)
    steps: list[tuple[str, int, int]] = []
    with pytest.raises(GraphError, match="build it from the network in float, or without quantize"):
        build(
            done,
            folder,
            "folders",
            LEVELS,
            tmp_path / "e.onnx",
            quantize=kind,
            preprocess="raw",
            progress=lambda *step: steps.append(step),
        )
    assert not steps

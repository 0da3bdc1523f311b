"""Int8 networks: what they give is near, what they cost is measured, and a worse one is not written."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import warnings
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

from pyhash import heads
from pyhash import networks as graph
from pyhash.cli import main as cli
from pyhash.codes import Levels
from pyhash.encoder import Encoder, Quantized, build, building, extract, gate
from pyhash.errors import GraphError, QuantizationError
from pyhash.networks import int8 as quantize
from pyhash.networks import onnxruntime

LEVELS = {"coarse": 8, "fine": 24}
NETWORKS = {
    "resnet": networks.resnet,
    "resnet-opset-11": lambda: networks.resnet(opset=11),
    "resnet-batch-4": lambda: networks.resnet(batch=4),
    "mobilenet": networks.mobilenet,
    "vgg-channels-last": networks.vgg_channels_last,
    "vit": networks.vit,
    "swin": networks.swin,
    "batch-1": networks.dense_with_batch,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return labelled_pictures.draw(tmp_path_factory.mktemp("pictures") / "train")


def pixels_of(folder: Path, n: int = 12) -> np.ndarray:
    from pyhash.images import load

    files = sorted(folder.rglob("*.png"))
    return np.stack([load(file, size=32) for file in files[:: len(files) // n][:n]])


def features_of(model: onnx.ModelProto, pixels: np.ndarray) -> np.ndarray:
    session = onnxruntime().InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    step = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value or len(pixels)
    parts = [session.run(None, {"images": pixels[at : at + step]})[0] for at in range(0, len(pixels), step)]
    return np.concatenate(parts)


@pytest.mark.parametrize("name", NETWORKS)
def test_features_are_near_those_of_the_float_network(name: str, folder: Path) -> None:
    model = graph.add_features(NETWORKS[name](), preprocess="unit")
    before = model.SerializeToString()
    pixels = pixels_of(folder)
    root_logger = logging.root.manager.disable
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = quantize.quantize(model, pixels)
    assert logging.root.manager.disable == root_logger
    assert model.SerializeToString() == before
    onnx.checker.check_model(result, full_check=True)
    assert {entry.key: entry.value for entry in result.metadata_props}["pyhash.quantized"] == "int8"
    assert graph.feature_blocks(result) == graph.feature_blocks(model)
    expected, found = features_of(model, pixels), features_of(result, pixels)
    assert found.shape == expected.shape
    assert 0 < np.abs(found - expected).max() < 0.15  # taps have length 1
    cosine = (found * expected).sum(axis=1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
    assert cosine.min() > 0.99

    weights = [onnx.numpy_helper.to_array(tensor) for tensor in result.graph.initializer if len(tensor.dims) == 4]
    assert any(weight.dtype == np.int8 for weight in weights)
    assert max(np.abs(weight.astype(int)).max() for weight in weights if weight.dtype == np.int8) <= 64  # 7 bits
    ours = {name for node in result.graph.node if node.name.startswith("pyhash/") for name in node.output}
    quantized = {name for node in result.graph.node if node.op_type == "QuantizeLinear" for name in node.input[:1]}
    assert "features" in ours
    assert not {name for name in ours & quantized if "mul" not in name and "add" not in name}


def test_joined_vectors_keep_their_small_parts(folder: Path) -> None:
    model = graph.add_features(networks.joined(), ["joined"], preprocess="unit", pooling=["none"], normalize=False)
    pixels = pixels_of(folder)
    kept = {node.output[0] for node in quantize._kept_in_float(model) if not node.name.startswith("pyhash/")}
    assert "joined" in kept
    assert "inner" not in kept  # layers with weights read it
    result = quantize.quantize(model, pixels)
    expected, found = features_of(model, pixels), features_of(result, pixels)
    assert np.abs(expected[:, :24]).max() > 1000 * np.abs(expected[:, 24:48]).max()
    for part in range(3):
        columns = slice(24 * part, 24 * part + 24)
        error = np.abs(found - expected)[:, columns].max() / np.abs(expected[:, columns]).max()
        assert 0 < error < 0.1


def test_networks_that_cannot_be_quantised(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    half = graph.add_features(networks.resnet(dtype=np.float16), preprocess="unit")
    with pytest.raises(GraphError, match="no weights that can be quantised: those of Conv, Gemm or MatMul, in float32"):
        quantize.quantize(half, pixels_of(folder))
    model = graph.add_features(networks.resnet(), preprocess="unit")
    from onnxruntime import quantization

    def fail(*_: Any, **__: Any) -> None:
        raise KeyError("some tensor")

    monkeypatch.setattr(quantization, "quantize_static", fail)
    with pytest.raises(GraphError, match="onnxruntime cannot quantise the network: KeyError: 'some tensor'"):
        quantize.quantize(model, pixels_of(folder))


# Weights alone


def by_hand(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with every large weight of a layer rounded to 255 steps for each output."""
    rounded = onnx.ModelProto()
    rounded.CopyFrom(model)
    for tensor in rounded.graph.initializer:
        weight = onnx.numpy_helper.to_array(tensor)
        for node in rounded.graph.node:
            if weight.ndim < 2 or weight.size < 1024 or tensor.name not in node.input[:2]:
                continue
            transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
            axis = {"Conv": 0, "Gemm": 0 if transposed else 1, "MatMul": weight.ndim - 1}.get(node.op_type)
            if axis is not None:
                rows = np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1).astype(np.float32)
                step = np.abs(rows).max(axis=1, keepdims=True) / 127
                rows = np.rint(rows / np.where(step, step, 1)) * step.astype(weight.dtype)
                moved = rows.reshape(np.moveaxis(weight, axis, 0).shape)
                tensor.CopyFrom(
                    onnx.numpy_helper.from_array(np.moveaxis(moved, 0, axis).astype(weight.dtype), tensor.name)
                )
                break
    return rounded


@pytest.mark.parametrize("name", [*NETWORKS, "efficientnet", "half"])
def test_stored_weights_are_those_rounded_by_hand(name: str, folder: Path) -> None:
    others = {"efficientnet": networks.efficientnet, "half": lambda: networks.resnet(dtype=np.float16)}
    model = graph.add_features({**NETWORKS, **others}[name](), preprocess={"preset": "unit", "size": 32})
    before = model.SerializeToString()
    result = quantize.quantize_weights(model)
    assert model.SerializeToString() == before
    onnx.checker.check_model(result, full_check=True)
    assert {entry.key: entry.value for entry in result.metadata_props}["pyhash.quantized"] == "weights"
    assert graph.feature_blocks(result) == graph.feature_blocks(model)
    assert graph.choose_taps(result) == graph.choose_taps(model)
    again = quantize.quantize_weights(result)  # what is stored so stays
    assert [node.output for node in again.graph.node] == [node.output for node in result.graph.node]
    assert [t.raw_data for t in again.graph.initializer] == [t.raw_data for t in result.graph.initializer]
    stored = sum(tensor.data_type == onnx.TensorProto.INT8 for tensor in result.graph.initializer)
    large = [t for t in model.graph.initializer if len(t.dims) > 1 and np.prod(t.dims) >= 1024]
    assert stored == len(large) > 0

    pixels = pixels_of(folder)
    expected, float_ones, found = (features_of(m, pixels) for m in (by_hand(model), model, result))
    np.testing.assert_allclose(found, expected, atol=1e-5 if name != "half" else 2e-3)
    assert np.abs(found - float_ones).max() > 0
    assert (found * float_ones).sum(axis=1).min() > 0.999 * len(graph.feature_blocks(model))  # taps have length 1


def test_the_runtime_makes_floats_when_it_loads(tmp_path: Path) -> None:
    model = graph.add_features(networks.resnet(), preprocess="unit")
    operators = []
    for number, each in enumerate((model, quantize.quantize_weights(model))):
        options = onnxruntime().SessionOptions()
        options.optimized_model_filepath = str(tmp_path / f"{number}.onnx")
        options.graph_optimization_level = onnxruntime().GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        onnxruntime().InferenceSession(each.SerializeToString(), options, providers=["CPUExecutionProvider"])
        operators.append(sorted(node.op_type for node in onnx.load(tmp_path / f"{number}.onnx").graph.node))
    assert operators[0] == operators[1]


def test_weights_that_cannot_be_stored_so() -> None:
    small = graph.add_features(networks.resnet(), preprocess="unit")
    for tensor in list(small.graph.initializer):
        if np.prod(tensor.dims) >= 1024:
            weight = onnx.numpy_helper.to_array(tensor).copy()
            weight.flat[0] = np.inf
            tensor.CopyFrom(onnx.numpy_helper.from_array(weight, tensor.name))
    with pytest.raises(GraphError, match="no large weights in float that could be stored as int8"):
        quantize.quantize_weights(small)


def test_a_channel_of_zeros_and_one_of_tiny_values() -> None:
    weight = np.array([[0, 1e-30, 1, -3], [0, -2e-30, 0.5, 2]], np.float32)
    rounded = quantize.rounded(weight)
    assert (rounded[:, 0] == 0).all()
    np.testing.assert_allclose(rounded, weight, rtol=0.01, atol=0)
    np.testing.assert_array_equal(quantize.rounded(rounded), rounded)


# The gate


def sample(noise: float, n: int = 400) -> tuple[tuple[np.ndarray, np.ndarray], dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 6, n)
    features = (rng.normal(size=(6, 60))[classes] + 0.7 * rng.normal(size=(n, 60))).astype(np.float32)
    other = (features + noise * rng.normal(size=features.shape)).astype(np.float32)
    return (features, other), {"coarse": classes // 3, "fine": classes}


def assessed(folder: Path, noise: float, labelled: bool = True, **changes: Any) -> Quantized:
    features, labels = sample(noise)
    model = graph.add_features(networks.resnet(), preprocess="unit")
    blocks = graph.feature_blocks(model)

    def fit(rows: np.ndarray, named: Any) -> heads.Head:
        kind = "hadamard-ridge" if named else "pca-itq"
        return heads.fit_fused(rows, blocks, Levels(LEVELS), named, kind=kind)

    given = tuple(part.copy() for part in features)
    named = labels if labelled else None
    report = gate.assess((model, model), features, named, fit, pixels_of(folder, 4), 0.01)
    for part, copy in zip(features, given, strict=True):
        np.testing.assert_array_equal(part, copy)  # they are still needed
    return dataclasses.replace(report, **changes)


@pytest.mark.parametrize("labelled", [True, False])
def test_equal_features_lose_nothing(folder: Path, labelled: bool) -> None:
    report = assessed(folder, 0.0, labelled)
    assert (report.loss, report.flipped, report.flipped_refitted) == (0, 0, 0)
    assert (report.n_queries, report.n_database, report.n_calibration) == (100, 300, 4)
    assert list(report.mean_average_precision) == (["code", "coarse", "fine"] if labelled else ["code"])
    assert all(before == after > 0.3 for before, after in report.mean_average_precision.values())
    assert report.n_bytes[0] == report.n_bytes[1] > 100_000
    assert min(report.milliseconds) > 0
    assert max(report.milliseconds) < 4 * min(report.milliseconds)  # the same network twice, on a busy machine
    report.check()


@pytest.mark.parametrize("labelled", [True, False])
def test_worse_features_are_refused(folder: Path, labelled: bool) -> None:
    small, large = assessed(folder, 0.3, labelled), assessed(folder, 5.0, labelled)
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


def test_neighbours_by_hand() -> None:
    """Three codes at distances 0, 1 and 1, of which the first and the third are near: (1 + (2/2 + 2/3) / 2) / 2."""
    near = np.array([[True, False, True]])
    found = gate._by_neighbours(np.array([[0, 1, 1]], np.int32), near, 8)
    assert found == pytest.approx((1 + (1 + 2 / 3) / 2) / 2)


# The whole


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
    np.testing.assert_allclose(encoder.logits(files), features @ fitted.weight + fitted.bias, atol=1e-4)
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
        Encoder(tmp_path / "e.onnx").logits(files), features @ built.fitted.weight + built.fitted.bias, atol=1e-3
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

"""Int8 networks: what they give is near what the float ones give."""

from __future__ import annotations

import logging
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

from pyhash import networks as graph
from pyhash.errors import GraphError
from pyhash.networks import int8 as quantize
from pyhash.networks import onnxruntime

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
    with pytest.raises(GraphError, match="ONNX Runtime cannot quantise the network: KeyError: 'some tensor'"):
        quantize.quantize(model, pixels_of(folder))


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


def test_what_is_int8_already_is_refused(folder: Path) -> None:
    model = graph.add_features(networks.resnet(), preprocess="unit")
    integers = quantize.quantize(model, pixels_of(folder))
    with pytest.raises(GraphError, match=r"the network is int8 already: node '.*' \(QuantizeLinear\); build"):
        quantize.check_float(integers, "int8")
    with pytest.raises(GraphError, match="the network is int8 already"):
        quantize.quantize(integers, pixels_of(folder))
    stored = quantize.quantize_weights(model)
    quantize.check_float(stored, "int8")
    with pytest.raises(GraphError, match="no large weights in float that could be stored as int8; build it from the"):
        quantize.check_float(stored, "weights")
    for kind in quantize.KINDS:
        quantize.check_float(model, kind)

"""Small networks of every kind with what shall be read of them, and their features part by part, in NumPy."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("PIL")
import networks
import onnx
from networks import FLOAT
from onnx import ModelProto, TensorProto, helper, numpy_helper

from pyhash import networks as graph
from pyhash.networks import onnxruntime

NEWEST = min(onnx.defs.onnx_opset_version(), 26)  # what onnxruntime 1.20 and later run


WHOLE = {"preset": "imagenet", "crop_fraction": None}  # keeps an image of the network's size as it is


@dataclasses.dataclass(frozen=True)
class Case:
    """A network, the taps that shall be chosen in it with their meaning, and how its pictures are prepared."""

    make: Callable[[], ModelProto]
    taps: Mapping[str, str]
    preprocess: Any = dataclasses.field(default_factory=lambda: WHOLE)
    size: int = 32
    batch: int | None = None  # the batch that the encoder has to insist on
    input: str = "nchw"


STAGES = {"stage1": "nchw", "stage2": "nchw", "stage3": "nchw", "stage4": "nchw"}


MOBILE = {"block2_expanded": "nchw", "block4_expanded": "nchw", "last_map": "nchw", "hidden": "nchw"}


BLOCKS = {"block2": "tokens", "block4": "tokens", "block6": "tokens", "block8": "tokens"}


CONVS = {"block1_conv2": "nhwc", "block2_conv2": "nhwc", "block3_conv2": "nhwc"}


CASES = {
    "resnet": Case(networks.resnet, STAGES),
    "resnet-opset-11": Case(lambda: networks.resnet(opset=11), STAGES),
    "resnet-newest-opset": Case(lambda: networks.resnet(opset=NEWEST), STAGES),
    "resnet-float16": Case(lambda: networks.resnet(dtype=np.float16), STAGES),
    "resnet-batch-1": Case(lambda: networks.resnet(batch=1), STAGES),
    "resnet-batch-4": Case(lambda: networks.resnet(batch=4), STAGES),
    "resnet-two-outputs": Case(lambda: networks.resnet(two_outputs=True), STAGES),
    "resnet-any-size": Case(lambda: networks.resnet(size="side"), STAGES, size=40),
    "mobilenet": Case(networks.mobilenet, MOBILE, "tf"),
    "mobilenet-opset-11": Case(lambda: networks.mobilenet(opset=11), MOBILE, "tf"),
    "efficientnet": Case(
        networks.efficientnet,
        {"block2_expanded": "nchw", "block3_expanded": "nchw", "last_map": "nchw"},
        {"preset": "unit", "size": 48},
        size=48,
    ),
    "vgg-channels-last": Case(networks.vgg_channels_last, {**CONVS, "fc2": "vector"}, "keras-caffe", input="nhwc"),
    "vgg-without-top": Case(lambda: networks.vgg_channels_last(top=False), CONVS, "keras-caffe", input="nhwc"),
    "vit": Case(networks.vit, BLOCKS),
    "vit-opset-11": Case(lambda: networks.vit(opset=11), BLOCKS),
    "vit-newest-opset": Case(lambda: networks.vit(opset=NEWEST), BLOCKS),
    "vit-batch-1": Case(lambda: networks.vit(batch=1), BLOCKS, batch=1),
    "swin": Case(networks.swin, {f"stage{number}_block2": "nhwc" for number in (1, 2, 3)}),
    "padded": Case(networks.padded, {"stage2_1": "nchw", "stage3_1": "nchw", "stage4_1": "nchw", "stage4_2": "nchw"}),
    "padded-by-reflection": Case(
        lambda: networks.padded(opset=11, mode="reflect"),
        {"stage2_1": "nchw", "stage3_1": "nchw", "stage4_1": "nchw", "stage4_2": "nchw"},
    ),
    "unet": Case(networks.unet, {"down1": "nchw", "down2": "nchw", "down3": "nchw", "bottom": "nchw"}),
    "reshape-insists-on-batch-1": Case(networks.dense_with_batch, {"map": "nchw", "hidden": "vector"}, batch=1),
    "reshape-insists-on-batch-4": Case(
        lambda: networks.dense_with_batch(4), {"map": "nchw", "hidden": "vector"}, batch=4
    ),
}


ONE_BY_ONE = {  # (pixel * scale - mean) / std, and the channel order, by the words of those who trained with them
    "imagenet": (1 / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "rgb"),
    "unit": (1 / 255, 0, 1, "rgb"),
    "keras-caffe": (1, (103.939, 116.779, 123.68), 1, "bgr"),
    "tf": (1 / 127.5, 1, 1, "rgb"),
}


def pictures(n: int, side: int, seed: int = 0) -> np.ndarray:
    """Smooth pictures with some noise."""
    rng = np.random.default_rng(seed)
    coarse = np.kron(rng.integers(0, 256, (n, 4, 4, 3)), np.ones((1, side // 4, side // 4, 1)))
    return np.clip(coarse + rng.normal(0, 20, coarse.shape), 0, 255).astype(np.uint8)


def run(model: ModelProto, feeds: Mapping[str, Any], outputs: Sequence[str] | None = None) -> list[Any]:
    session = onnxruntime().InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(outputs, feeds)


def prepared(case: Case, pixels: np.ndarray) -> np.ndarray:
    name = case.preprocess if isinstance(case.preprocess, str) else case.preprocess["preset"]
    scale, mean, std, order = ONE_BY_ONE[name]
    values = (pixels[..., ::-1] if order == "bgr" else pixels) * scale
    values = (values - np.array(mean)) / std
    return values if case.input == "nhwc" else values.transpose(0, 3, 1, 2)


def pooled(array: np.ndarray, kind: str, pooling: str) -> np.ndarray:
    array = array.astype(np.float64)
    axes = {"nchw": (2, 3), "nhwc": (1, 2), "tokens": (1,), "vector": ()}[kind]
    if pooling == "gem":
        return np.mean(np.maximum(array, 1e-6) ** 3, axis=axes) ** (1 / 3)
    if pooling == "patches":
        return array[:, 1:].mean(axis=1)  # one class token is there, the first
    assert pooling == ("none" if kind == "vector" else "gap")
    return array.mean(axis=axes) if axes else array


def part_by_part(case: Case, pixels: np.ndarray, poolings: Sequence[str]) -> np.ndarray:
    """Features: preparation and pooling in NumPy, and the network as it came, in the batches that it came for."""
    model = case.make()
    inputs = model.graph.input[0]
    step = inputs.type.tensor_type.shape.dim[0].dim_value or len(pixels)
    dtype = np.float16 if inputs.type.tensor_type.elem_type == TensorProto.FLOAT16 else np.float32
    values = prepared(case, pixels).astype(dtype)
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in case.taps)
    maps = [run(model, {inputs.name: values[at : at + step]}, list(case.taps)) for at in range(0, len(values), step)]
    vectors = []
    for parts, kind, pooling in zip(zip(*maps, strict=True), case.taps.values(), poolings, strict=True):
        vector = pooled(np.concatenate(parts), kind, pooling)
        vectors.append(vector / np.maximum(np.linalg.norm(vector, axis=1, keepdims=True), 1e-12))
    return np.concatenate(vectors, axis=1)


@dataclasses.dataclass(frozen=True)
class Affine:
    weight: np.ndarray
    bias: np.ndarray


def random_head(dim: int, bits: int) -> Affine:
    rng = np.random.default_rng(1)
    return Affine(rng.normal(size=(dim, bits)).astype(np.float32), rng.normal(size=bits).astype(np.float32) / 10)


def features_of(model: Any, **options: Any) -> ModelProto:
    return graph.add_features(model, **{"preprocess": WHOLE, **options})


def dim_of(model: ModelProto) -> int:
    return max(columns.stop for columns in graph.feature_blocks(model).values())


def batch_of(model: ModelProto) -> int | None:
    return model.graph.input[0].type.tensor_type.shape.dim[0].dim_value or None


def tiny(shape: Sequence[Any], element: int = FLOAT, **weights: np.ndarray) -> Callable[..., ModelProto]:
    """Return what makes a network with this input out of nodes."""

    def make(*nodes: Any, output: str = "y", opset: int = 17, inputs: Sequence[Any] = ()) -> ModelProto:
        body = helper.make_graph(
            list(nodes),
            "tiny",
            [helper.make_tensor_value_info("x", element, shape), *inputs],
            [onnx.ValueInfoProto(name=output)],
            [numpy_helper.from_array(value, name) for name, value in weights.items()],
        )
        return helper.make_model(body, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)

    return make


KERNEL = np.random.default_rng(0).normal(size=(8, 3, 3, 3)).astype(np.float32)


CONV = helper.make_node("Conv", ["x", "w"], ["y"], name="the_conv", strides=[2, 2])

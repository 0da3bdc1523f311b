"""Graph surgery: what is read of networks of every kind, and that one file gives what its parts give one by one."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("PIL")
import networks
import onnx
from hypothesis import event, given, settings
from hypothesis import strategies as st
from networks import FLOAT, Net
from onnx import ModelProto, TensorProto, helper, numpy_helper

from pyhash import networks as graph
from pyhash.encoder import Encoder
from pyhash.errors import GraphError
from pyhash.networks import onnxruntime

NEWEST = min(onnx.defs.onnx_opset_version(), 26)  # what onnxruntime 1.20 and later run


@dataclasses.dataclass(frozen=True)
class Case:
    """A network, the taps that shall be chosen in it with their meaning, and how its pictures are prepared."""

    make: Callable[[], ModelProto]
    taps: Mapping[str, str]
    preprocess: Any = "imagenet"
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


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


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
    return graph.add_features(model, **{"preprocess": {"preset": "imagenet"}, **options})


def dim_of(model: ModelProto) -> int:
    return max(columns.stop for columns in graph.feature_blocks(model).values())


def batch_of(model: ModelProto) -> int | None:
    return model.graph.input[0].type.tensor_type.shape.dim[0].dim_value or None


# What is read, and that the whole gives what the parts give


def test_taps_are_chosen_at_the_ends_of_stages(case: Case) -> None:
    chosen = graph.choose_taps(case.make(), size=case.size)
    assert {tap.name: tap.kind for tap in chosen} == dict(case.taps)
    assert [tap.stage for tap in chosen] == sorted(tap.stage for tap in chosen)
    for n in (1, 2, 3):
        fewer = graph.choose_taps(case.make(), n, size=case.size)
        assert len(fewer) <= n
        assert fewer[-1] == chosen[-1]


def test_every_tap_that_is_listed_can_be_read(case: Case) -> None:
    model = case.make()
    listed = graph.taps(model, size=case.size)
    names = [tap.name for tap in listed]
    assert set(case.taps) <= set(names)
    assert len(set(names)) == len(names)
    for tap in listed[:: max(1, len(listed) // 6)]:
        result = graph.add_features(model, [tap.name], case.preprocess, size=case.size)
        assert dim_of(result) == tap.channels


def test_the_encoder_is_its_parts(case: Case) -> None:
    whole = graph.add_features(case.make(), preprocess=case.preprocess, size=case.size)
    onnx.checker.check_model(whole, full_check=True)
    assert batch_of(whole) == case.batch
    poolings = json.loads(dict_of(whole)["pooling"])
    pixels = pictures(4, case.size)
    expected = part_by_part(case, pixels, poolings)
    step = case.batch or len(pixels)
    found = np.concatenate([run(whole, {"images": pixels[at : at + step]})[0] for at in range(0, 4, step)])
    half = "float16" if case.make().graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT16 else ""
    tolerance = 1e-2 if half else 2e-4
    np.testing.assert_allclose(found, expected, atol=tolerance, rtol=tolerance)
    assert np.ptp(found, axis=0).max() > 10 * tolerance, "these pictures all have the same features"

    levels = {"coarse": 8, "fine": 24}
    head = random_head(expected.shape[1], 32)
    encoder = graph.add_head(whole, head, levels, name="ours", training="nothing")
    onnx.checker.check_model(encoder, full_check=True)
    loaded = Encoder(encoder.SerializeToString())
    assert (dict(loaded.levels), loaded.name, loaded.metadata.training) == (levels, "ours", "nothing")
    assert [tap.name for tap in loaded.metadata.taps] == list(case.taps)
    logits = loaded.logits(pixels)
    np.testing.assert_allclose(logits, expected @ head.weight + head.bias, atol=20 * tolerance)
    np.testing.assert_array_equal(loaded.encode(pixels), np.packbits(logits > 0, axis=1))


def dict_of(model: ModelProto) -> dict[str, str]:
    return {entry.key.removeprefix("pyhash."): entry.value for entry in model.metadata_props}


def test_the_model_given_is_not_changed(case: Case) -> None:
    model = case.make()
    before = model.SerializeToString()
    features = graph.add_features(model, preprocess=case.preprocess, size=case.size)
    assert model.SerializeToString() == before
    before = features.SerializeToString()
    graph.add_head(features, random_head(dim_of(features), 16), {"code": 16})
    assert features.SerializeToString() == before


def test_what_is_behind_the_last_tap_is_left_out() -> None:
    model = networks.resnet(two_outputs=True)
    result = features_of(model, taps=["stage1", "stage2"])
    made = {name for node in result.graph.node for name in node.output}
    assert {"stage1", "stage2"} <= made
    assert not made & {"stage3", "stage3_first", "stage4", "embedding", "probabilities"}
    assert [value.name for value in result.graph.output] == ["features"]
    used = {name for node in result.graph.node for name in node.input}
    assert {tensor.name for tensor in result.graph.initializer} <= used
    assert result.ByteSize() < features_of(model).ByteSize()


def test_forms_of_a_model(tmp_path: Path) -> None:
    model = networks.resnet()
    onnx.save_model(model, tmp_path / "one.onnx")
    onnx.save_model(
        networks.resnet(),
        tmp_path / "two.onnx",
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    expected = features_of(model).SerializeToString()
    for form in (tmp_path / "one.onnx", str(tmp_path / "one.onnx"), model.SerializeToString()):
        assert features_of(form).SerializeToString() == expected
    outside = features_of(tmp_path / "two.onnx")  # whose weights are all inside then
    assert b"weights.bin" not in outside.SerializeToString()
    pixels = pictures(2, 32)
    np.testing.assert_array_equal(run(outside, {"images": pixels}), run(features_of(model), {"images": pixels}))
    with pytest.raises(GraphError, match=r"the weights '.*' lie in the file 'weights.bin'.*give the path"):
        features_of((tmp_path / "two.onnx").read_bytes())
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(GraphError, match=r"lie in the file 'weights.bin', which cannot be read"):
        features_of(tmp_path / "two.onnx")
    with pytest.raises(FileNotFoundError):
        features_of(tmp_path / "gone.onnx")
    with pytest.raises(TypeError, match=r"model must be a path, bytes or an onnx\.ModelProto, got int"):
        features_of(3)


def test_the_file_tells_nothing_of_where_it_was_made() -> None:
    model = networks.resnet()
    for node in model.graph.node:
        node.doc_string = "/home/someone/secret.py"
    model.doc_string = model.graph.doc_string = "/home/someone/secret.py"
    helper.set_model_props(model, {"source": "/home/someone/secret.py"})
    encoder = graph.add_head(features_of(model), random_head(60, 8), {"code": 8})
    assert b"secret" not in encoder.SerializeToString()


def test_names_that_are_ours_may_be_taken() -> None:
    net = Net()
    x = net.relu(net.conv("images", 3, 8, stride=2), name="features")
    x = net.relu(net.conv(x, 8, 8, stride=2), name="logits")
    net.dense(net.node("Flatten", net.node("GlobalAveragePool", x)), 8, 4, name="pyhash/constant_0")
    model = net.model(["n", 3, 32, 32], {"pyhash/constant_0": ["n", 4]}, input="images")
    plain = features_of(model, taps=["features", "logits"])
    assert json.loads(dict_of(plain)["taps"]) == ["features", "logits"]
    encoder = graph.add_head(plain, random_head(16, 8), {"code": 8})
    assert Encoder(encoder.SerializeToString()).logits(pictures(2, 32)).shape == (2, 8)


def test_pooling_and_normalisation_can_be_chosen() -> None:
    model = networks.resnet()
    case = dataclasses.replace(CASES["resnet"], taps={"stage1": "nchw", "stage4": "nchw"})
    pixels = pictures(3, 32)
    for poolings in (["gap", "gem"], ["gem", "gap"]):
        found = run(features_of(model, taps=list(case.taps), pooling=poolings), {"images": pixels})[0]
        np.testing.assert_allclose(found, part_by_part(case, pixels, poolings), atol=1e-4)
    loose = run(features_of(model, taps=list(case.taps), normalize=False), {"images": pixels})[0]
    assert not np.allclose(np.linalg.norm(loose[:, :8], axis=1), 1, atol=0.05)
    with pytest.raises(ValueError, match=r"pooling must be one of gap, gem, none for each of 2 taps, got \['gap'\]"):
        features_of(model, taps=list(case.taps), pooling=["gap"])
    with pytest.raises(ValueError, match=r"pooling of 'stage1', of shape \[1, 8, 8, 8\], cannot be 'none'"):
        features_of(model, taps=["stage1"], pooling=["none"])


def test_oblong_pictures() -> None:
    result = graph.add_head(features_of(networks.resnet(size="s"), size=(32, 64)), random_head(60, 8), {"code": 8})
    encoder = Encoder(result.SerializeToString())
    assert encoder.size == (32, 64)
    assert encoder.logits(np.zeros((50, 70, 3), np.uint8)).shape == (8,)


def test_an_encoder_can_be_read_again() -> None:
    """What takes uint8 prepares its pictures itself: its head can be exchanged for another."""
    first = graph.add_features(networks.resnet(), preprocess={"preset": "imagenet", "resize": "bicubic"})
    encoder = graph.add_head(first, random_head(60, 8), {"code": 8})
    again = graph.add_features(encoder, list(STAGES), "raw")
    assert dict_of(again)["resize"] == "bicubic"
    pixels = pictures(3, 32)
    np.testing.assert_allclose(run(again, {"images": pixels})[0], run(first, {"images": pixels})[0], atol=1e-5)


# Heads and levels


def test_a_level_that_reads_early_taps_only_can_be_run_alone() -> None:
    features = features_of(networks.resnet())
    blocks = graph.feature_blocks(features)
    head = random_head(60, 32)
    head.weight[blocks["stage3"].start :, :8] = 0  # coarse reads the first two
    encoder = graph.add_head(features, head, {"coarse": 8, "fine": 24})
    assert [value.name for value in encoder.graph.output] == ["logits", "logits_coarse", "logits_fine"]
    pixels = pictures(5, 32)
    expected = run(features, {"images": pixels})[0] @ head.weight + head.bias
    np.testing.assert_allclose(run(encoder, {"images": pixels}, ["logits"])[0], expected, atol=1e-4)
    coarse = graph.select_levels(encoder, ["coarse"])
    assert len(coarse.graph.node) < len(encoder.graph.node) / 1.5
    assert "stage3" not in {name for node in coarse.graph.node for name in node.output}
    for levels, columns in ((["coarse"], slice(0, 8)), (["fine"], slice(8, 32)), (["fine", "coarse"], slice(0, 32))):
        part = Encoder(graph.select_levels(encoder, levels).SerializeToString())
        assert list(part.levels) == [level for level in ("coarse", "fine") if level in levels]
        np.testing.assert_allclose(part.logits(pixels), expected[:, columns], atol=1e-4)


def test_levels_that_read_every_tap_can_be_selected_too() -> None:
    head = random_head(60, 32)
    encoder = graph.add_head(features_of(networks.resnet()), head, {"coarse": 8, "fine": 24})
    assert [value.name for value in encoder.graph.output] == ["logits"]
    whole = Encoder(encoder.SerializeToString()).logits(pictures(3, 32))
    for level, columns in (("coarse", slice(0, 8)), ("fine", slice(8, 32))):
        part = Encoder(graph.select_levels(encoder, [level]).SerializeToString())
        np.testing.assert_allclose(part.logits(pictures(3, 32)), whole[:, columns], atol=1e-5)
    with pytest.raises(ValueError, match=r"levels must be some of coarse, fine, got \['middle'\]"):
        graph.select_levels(encoder, ["middle"])
    with pytest.raises(ValueError, match=r"levels must be some of coarse, fine, got \[\]"):
        graph.select_levels(encoder, [])
    with pytest.raises(GraphError, match=r"not an encoder: its metadata lacks pyhash\.levels"):
        graph.select_levels(networks.resnet(), ["coarse"])


def test_a_projection_before_the_head_is_an_output() -> None:
    """Also where the network has a tensor of that name already."""
    model = networks.resnet()
    assert "embedding" in {name for node in model.graph.node for name in node.output}
    features = features_of(model)
    projection, head = random_head(60, 20), random_head(20, 32)
    encoder = graph.add_head(features, head, {"coarse": 8, "fine": 24}, embedding=projection)
    assert [value.name for value in encoder.graph.output] == ["logits", "embedding"]
    pixels = pictures(5, 32)
    (given,) = run(features, {"images": pixels})
    logits, embedding = run(encoder, {"images": pixels}, ["logits", "embedding"])
    np.testing.assert_allclose(embedding, given @ projection.weight + projection.bias, atol=1e-4)
    np.testing.assert_allclose(logits, embedding @ head.weight + head.bias, atol=1e-4)
    np.testing.assert_array_equal(Encoder(encoder.SerializeToString()).logits(pixels), logits)
    coarse = graph.select_levels(encoder, ["coarse"])
    assert [value.name for value in coarse.graph.output] == ["logits"]
    np.testing.assert_allclose(run(coarse, {"images": pixels})[0], logits[:, :8], atol=1e-5)


def test_a_head_must_fit() -> None:
    features = features_of(networks.resnet())
    with pytest.raises(
        ValueError, match=r"embedding must have a weight of \(60, 9\) and a bias of \(9,\), got \(61, 9\)"
    ):
        graph.add_head(features, random_head(9, 8), {"code": 8}, embedding=random_head(61, 9))
    with pytest.raises(ValueError, match=r"head must have a weight of \(9, 8\) and a bias of \(8,\), got \(60, 8\)"):
        graph.add_head(features, random_head(60, 8), {"code": 8}, embedding=random_head(60, 9))
    with pytest.raises(ValueError, match=r"head must have a weight of \(60, 16\) and a bias of \(16,\), got \(60, 8\)"):
        graph.add_head(features, random_head(60, 8), {"code": 16})
    broken = random_head(60, 8)
    broken.weight[3, 3] = np.nan
    with pytest.raises(ValueError, match="head must have finite weights"):
        graph.add_head(features, broken, {"code": 8})


# What does not fit says why


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
EXTRA = helper.make_tensor_value_info("gain", FLOAT, ["n", 8, 15, 15])


def through_a_sequence() -> ModelProto:
    """A sequence of tensors on the way."""
    return tiny(["n", 3, 32, 32], w=KERNEL)(
        CONV,
        helper.make_node("SequenceConstruct", ["y", "y"], ["pair"]),
        helper.make_node("ConcatFromSequence", ["pair"], ["z"], axis=1),
        output="z",
    )


def unknown_operator() -> ModelProto:
    strange = helper.make_node("Wobble", ["y"], ["z"], name="the_wobble", domain="com.example")
    model = tiny(["n", 3, 32, 32], w=KERNEL)(CONV, strange, output="z")
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    return model


REFUSED = {
    "garbage": (lambda: b"this is no model", {}, "not an ONNX model"),
    "nothing": (lambda: b"", {}, "it has no nodes"),
    "old opset": (
        lambda: tiny(["n", 3, 32, 32])(helper.make_node("Wobble", ["x"], ["y"]), opset=9),
        {},
        "opset 9 is too old and cannot be lifted to 11: .*Wobble",
    ),
    "text": (
        lambda: tiny(["n", 77], TensorProto.INT64)(helper.make_node("Identity", ["x"], ["y"])),
        {},
        r"no image input \(4 axes.*'x' int64 \['n', 77\]",
    ),
    "four channels": (lambda: tiny(["n", 4, 32, 32])(helper.make_node("Relu", ["x"], ["y"])), {}, "'x' must take 3"),
    "video": (lambda: tiny(["n", 3, 8, 32, 32])(helper.make_node("Relu", ["x"], ["y"])), {}, "no image input"),
    "open layout": (
        lambda: tiny(["n", "a", "b", "c"])(helper.make_node("Relu", ["x"], ["y"])),
        {"size": 32},
        "cannot tell where its channels are: layout must say, nchw or nhwc",
    ),
    "open size": (networks.efficientnet, {}, "'input' takes images of any size: size must say which"),
    "wrong size": (networks.resnet, {"size": 64}, "'input' takes images of 32 x 32 pixels, got size 64"),
    "two pictures": (
        lambda: tiny(["n", 3, 32, 32])(
            helper.make_node("Add", ["x", "gain"], ["y"]),
            inputs=[helper.make_tensor_value_info("gain", FLOAT, ["n", 3, 32, 32])],
        ),
        {},
        "several inputs could be the image, 'x', 'gain': input must name one",
    ),
    "no such input": (networks.resnet, {"input": "x"}, "input must be one of the network's, 'input', got 'x'"),
    "a second input is needed": (
        lambda: tiny(["n", 3, 32, 32], w=KERNEL)(
            helper.make_node("Conv", ["x", "w"], ["z"], strides=[2, 2]),
            helper.make_node("Mul", ["z", "gain"], ["y"], name="the_gain"),
            inputs=[EXTRA],
        ),
        {"input": "x", "taps": ["y"]},
        "tap 'y' has no known shape: the network also needs the inputs 'gain'",
    ),
    "unknown operator": (unknown_operator, {"taps": ["z"]}, "Wobble"),
    "no end of a stage": (
        lambda: tiny(["n", 3, 32, 32])(helper.make_node("ReduceMax", ["x"], ["y"], keepdims=0)),
        {},
        "could not choose layers automatically; pass their names in taps=",
    ),
    "output without the picture": (
        lambda: tiny(["n", 3, 32, 32], w=KERNEL)(helper.make_node("Identity", ["w"], ["y"])),
        {},
        "no output of the network depends on its image input 'x'",
    ),
    "no such tap": (networks.resnet, {"taps": ["stage9"]}, "tap 'stage9' is not in the network; near it are 'stage"),
    "the picture as tap": (networks.resnet, {"taps": ["input"]}, "tap 'input' is the image itself"),
    "a weight as tap": (networks.resnet, {"taps": ["w0"]}, "tap 'w0' does not depend on the image"),
    "a map of unknown axes": (
        lambda: tiny(["n", 3, 32, 32], w=KERNEL)(CONV, helper.make_node("Transpose", ["y"], ["z"], perm=[0, 2, 1, 3])),
        {"taps": ["z"]},
        r"tap 'z' has axes \[1, 15, 8, 15\] of unknown meaning",
    ),
    "a sequence": (through_a_sequence, {"taps": ["z"]}, r"tap 'z' has axes \[1, 16, 15, 15\] of unknown meaning"),
    "five axes": (
        lambda: tiny(["n", 3, 32, 32], w=KERNEL, a=np.array([1], np.int64))(
            CONV, helper.make_node("Unsqueeze", ["y", "a"], ["z"])
        ),
        {"taps": ["z"]},
        "tap 'z' must have 2, 3 or 4 axes, got 5",
    ),
    "integers": (
        lambda: tiny(["n", 3, 32, 32], w=KERNEL)(CONV, helper.make_node("ArgMax", ["y"], ["z"], axis=1)),
        {"taps": ["z"]},
        "tap 'z' does not hold floats",
    ),
    "no batch axis": (
        lambda: tiny(["n", 3, 32, 32], w=KERNEL, s=np.array([8, -1], np.int64))(
            CONV, helper.make_node("Reshape", ["y", "s"], ["z"])
        ),
        {"taps": ["z"]},
        r"tap 'z' must have the batch as its first axis, got shape \[8, 225\] for 1 image",
    ),
    "a kernel larger than the map": (
        lambda: tiny(["n", 3, 4, 4], w=np.ones((8, 3, 9, 9), np.float32))(CONV),
        {"taps": ["y"]},
        "ONNX Runtime cannot run the network: .*Conv node.*the_conv",
    ),
    "infinite features": (
        lambda: tiny(["n", 3, 32, 32], w=KERNEL * np.float32(1e30))(
            helper.make_node("Conv", ["x", "w"], ["a"]), helper.make_node("Mul", ["a", "a"], ["y"])
        ),
        {"taps": ["y"]},
        "returns NaN or infinity for a random image; check preprocess",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_says_why(name: str) -> None:
    make, options, message = REFUSED[name]
    with pytest.raises(GraphError, match=message):
        features_of(make(), **options)


@pytest.mark.parametrize("taps", [[], "stage1", ["stage1", "stage1"]])
def test_taps_must_be_names(taps: Any) -> None:
    with pytest.raises(ValueError, match="taps must be one or more names, each once, got"):
        features_of(networks.resnet(), taps=taps)


def test_arguments() -> None:
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        graph.choose_taps(networks.resnet(), 0)
    with pytest.raises(ValueError, match="layout must be 'nchw' or 'nhwc', got 'hwc'"):
        graph.taps(networks.resnet(), layout="hwc")
    with pytest.raises(ValueError, match="preprocess"):
        graph.add_features(networks.resnet(), preprocess="nonsense")


# Networks nobody has seen


def odd_old() -> ModelProto:
    """Opset 9, from before pyhash's oldest: Squeeze has its axes as an attribute, Pad its numbers."""
    pad = helper.make_node("Pad", ["y"], ["z"], pads=[0, 0, 1, 1, 0, 0, 1, 1])
    return tiny(["n", 3, 32, 32], w=KERNEL)(CONV, pad, output="z", opset=9)


def odd_if() -> ModelProto:
    """The map flows through the branches of an If."""
    branches = {
        name: helper.make_graph(
            [helper.make_node(op, ["y"], [f"out_{name}"])], name, [], [onnx.ValueInfoProto(name=f"out_{name}")]
        )
        for name, op in (("then_branch", "Relu"), ("else_branch", "Sigmoid"))
    }
    choice = helper.make_node("If", ["yes"], ["z"], name="the_if", **branches)
    return tiny(["n", 3, 32, 32], w=KERNEL, yes=np.array(True))(CONV, choice, output="z")


def odd_functions() -> ModelProto:
    """A block that is a function of the model's own."""
    body = [helper.make_node("Sigmoid", ["a"], ["s"]), helper.make_node("Mul", ["a", "s"], ["b"])]
    silu = helper.make_function("ours", "Silu", ["a"], ["b"], body, [helper.make_opsetid("", 17)])
    model = tiny(["n", 3, 32, 32], w=KERNEL)(CONV, helper.make_node("Silu", ["y"], ["z"], domain="ours"), output="z")
    model.opset_import.append(helper.make_opsetid("ours", 1))
    model.functions.append(silu)
    return model


def odd_constants() -> ModelProto:
    """Weights as nodes, and an input that is a weight too, as old exporters write them."""
    weight = helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(KERNEL))
    model = tiny(["n", 3, 32, 32], slope=np.array([0.1], np.float32))(
        weight, CONV, helper.make_node("PRelu", ["y", "slope"], ["z"]), output="z"
    )
    model.graph.input.append(helper.make_tensor_value_info("slope", FLOAT, [1]))
    return model


def odd_split() -> ModelProto:
    """Channels are split, shuffled and joined again."""
    parts = helper.make_node("Split", ["y"], ["left", "right"], axis=1)
    joined = helper.make_node("Concat", ["right", "active"], ["z"], axis=1)
    return tiny(["n", 3, 32, 32], w=KERNEL)(
        CONV, parts, helper.make_node("Relu", ["left"], ["active"]), joined, output="z", opset=13
    )


ODD = {
    "old": (odd_old, "z"),
    "if": (odd_if, "z"),
    "functions": (odd_functions, "z"),
    "constants": (odd_constants, "z"),
    "split": (odd_split, "z"),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_networks_can_be_read(name: str) -> None:
    make, tap = ODD[name]
    pixels = pictures(3, 32)
    expected = pooled(run(make(), {"x": prepared(CASES["resnet"], pixels).astype(np.float32)})[0], "nchw", "gap")
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    result = features_of(make(), taps=[tap], pooling=["gap"])
    np.testing.assert_allclose(run(result, {"images": pixels})[0], expected, atol=1e-4)


LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


@pytest.mark.parametrize("name", ["bvlc_alexnet", "densenet121", "inception_v1", "shufflenet", "squeezenet"])
def test_famous_networks_of_opset_9(name: str) -> None:
    """Those that the package onnx brings along: real graphs whose weights are all alike."""
    path = LIGHT / f"light_{name}.onnx"
    if not path.exists():
        pytest.skip(f"this version of the package onnx has no {path.name}")
    chosen = graph.choose_taps(path)
    areas = [int(np.prod(tap.positions)) for tap in chosen]
    assert len(chosen) == 4
    assert areas == sorted(areas, reverse=True)
    assert len(set(areas)) == 4
    features = graph.add_features(path, [tap.name for tap in chosen[:2]])
    assert dim_of(features) == sum(tap.channels for tap in chosen[:2])


@settings(max_examples=150)
@given(st.data())
def test_a_random_network_gives_features_or_a_graph_error(data: st.DataObject) -> None:
    """Operators in a random chain with random side branches; many are nonsense, and none may end otherwise."""
    opset = data.draw(st.sampled_from([11, 13, 17, 21]), "opset")
    net = Net(opset)
    values = ["input"]
    for _ in range(data.draw(st.integers(1, 9), "nodes")):
        x = data.draw(st.sampled_from(values[-3:]), "source")
        y = data.draw(st.sampled_from(values), "other")
        op = data.draw(st.sampled_from(sorted(RANDOM)), "op")
        values.append(RANDOM[op](net, x, y, data.draw(st.integers(1, 4), "number")))
    layout = data.draw(st.sampled_from([["n", 3, 16, 16], [1, 3, 16, 16], ["n", 16, 16, 3], [2, 3, "h", "w"]]), "shape")
    model = net.model(layout, {values[-1]: None})
    taps = data.draw(st.sampled_from([None, None, [values[-1]]]), "taps")
    try:
        result = graph.add_features(model, taps, "unit" if "h" not in layout else {"preset": "unit", "size": 16})
    except GraphError:
        event("GraphError")
        return
    event("features")
    batch = batch_of(result) or 3
    features = run(result, {"images": pictures(batch, 16)})[0]
    assert features.shape == (batch, dim_of(result))
    if not any(node.op_type == "Log" for node in model.graph.node):  # of some images only, which no check can foresee
        assert np.isfinite(features).all()


RANDOM: dict[str, Callable[[Net, str, str, int], str]] = {
    "conv": lambda net, x, y, n: net.conv(x, 3 if x == "input" else 4, 4, stride=1 + n % 2),
    "conv 1 x 1": lambda net, x, y, n: net.conv(x, 4, 4, kernel=1),
    "relu": lambda net, x, y, n: net.relu(x),
    "swish": lambda net, x, y, n: net.swish(x),
    "pool": lambda net, x, y, n: net.pool(x),
    "mean": lambda net, x, y, n: net.node("GlobalAveragePool", x),
    "reduce": lambda net, x, y, n: net.reduce("ReduceMean", x, *range(1, n), keepdims=n % 2) if n > 1 else x,
    "add": lambda net, x, y, n: net.node("Add", x, y),
    "concat": lambda net, x, y, n: net.node("Concat", x, y, axis=n - 1),
    "flatten": lambda net, x, y, n: net.node("Flatten", x, axis=n % 3),
    "reshape": lambda net, x, y, n: net.node(
        "Reshape", x, net.ints(*[(0, -1), (1, -1), (0, 4, -1), (-1, 2, 2, 4)][n - 1])
    ),
    "transpose": lambda net, x, y, n: net.node(
        "Transpose", x, perm=[[0, 2, 3, 1], [0, 3, 1, 2], [0, 2, 1], [1, 0, 2, 3]][n - 1]
    ),
    "matmul": lambda net, x, y, n: net.node("MatMul", x, net.weight(4, 4)),
    "softmax": lambda net, x, y, n: net.node("Softmax", x, axis=n - 1),
    "shape": lambda net, x, y, n: net.node("Shape", x),
    "cast": lambda net, x, y, n: net.node("Cast", x, to=[1, 10, 11, 7][n - 1]),
    "argmax": lambda net, x, y, n: net.node("ArgMax", x, axis=n - 1),
    "log": lambda net, x, y, n: net.node("Log", x),
    "loss of rank": lambda net, x, y, n: net.node("Size", x),
}

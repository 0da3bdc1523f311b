"""Networks that give features: one file gives what its parts give one by one, and what does not fit says why."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
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
from network_cases import (
    CASES,
    CONV,
    KERNEL,
    STAGES,
    WHOLE,
    Case,
    batch_of,
    dim_of,
    features_of,
    part_by_part,
    pictures,
    pooled,
    prepared,
    random_head,
    run,
    tiny,
)
from networks import FLOAT, Net
from onnx import ModelProto, TensorProto, helper, numpy_helper

from pyhash import networks as graph
from pyhash.encoder import Encoder
from pyhash.errors import GraphError


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


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


def test_links_of_a_hub_cache_are_followed(tmp_path: Path) -> None:
    """Model and weights are links, beside each other, to files of other names elsewhere."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "main"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    onnx.save_model(
        networks.resnet(), blobs / "a", save_as_external_data=True, location="model.onnx_data", size_threshold=0
    )
    (blobs / "model.onnx_data").rename(blobs / "b")
    for name, blob in (("model.onnx", "a"), ("model.onnx_data", "b")):
        (snapshot / name).symlink_to(Path("..", "..", "blobs", blob))
    expected = features_of(networks.resnet()).SerializeToString()
    assert features_of(snapshot / "model.onnx").SerializeToString() == expected
    assert graph.choose_taps(snapshot / "model.onnx") == graph.choose_taps(networks.resnet())
    (tmp_path / "link.onnx").symlink_to(snapshot / "model.onnx")  # nothing beside it, and all beside the target
    (blobs / "model.onnx_data").symlink_to(blobs / "b")
    assert features_of(tmp_path / "link.onnx").SerializeToString() == expected
    (blobs / "b").write_bytes((blobs / "b").read_bytes()[:-1])
    with pytest.raises(GraphError, match=r"'model.onnx_data', which cannot be read: it is cut short"):
        features_of(snapshot / "model.onnx")


@pytest.mark.parametrize("location", ["../weights.bin", "/weights.bin", "a/../../weights.bin", ""])
def test_weights_lie_beside_the_model(tmp_path: Path, location: str) -> None:
    model = networks.resnet()
    (tmp_path / "net").mkdir()
    onnx.save_model(
        model, tmp_path / "net" / "m.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    (tmp_path / "net" / "weights.bin").rename(tmp_path / "weights.bin")
    model = onnx.load_model(tmp_path / "net" / "m.onnx", load_external_data=False)
    for tensor in model.graph.initializer:
        tensor.external_data[0].value = location
    (tmp_path / "net" / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(GraphError, match="its name must be that of a file beside the model"):
        features_of(tmp_path / "net" / "m.onnx")


def test_weights_inside_of_nodes_may_lie_outside(tmp_path: Path) -> None:
    """Whatever holds a tensor: a Constant, and one in a branch of an If."""
    model = odd_if()
    for branch in model.graph.node[1].attribute:
        node = branch.g.node[0]
        scale = numpy_helper.from_array(np.full((8, 15, 15), 3, np.float32), "inner")
        branch.g.node.insert(0, helper.make_node("Constant", [], [f"c_{branch.g.name}"], value=scale))
        node = branch.g.node[1]
        branch.g.node.append(helper.make_node("Mul", [node.output[0], f"c_{branch.g.name}"], [f"m_{branch.g.name}"]))
        branch.g.output[0].name = f"m_{branch.g.name}"
    expected = features_of(model, taps=["z"]).SerializeToString()
    data = b""
    for branch in model.graph.node[1].attribute:
        tensor = branch.g.node[0].attribute[0].t
        for key, value in (("location", "w"), ("offset", len(data)), ("length", len(tensor.raw_data))):
            tensor.external_data.add(key=key, value=str(value))
        data += tensor.raw_data
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
    (tmp_path / "w").write_bytes(data)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    assert features_of(tmp_path / "m.onnx", taps=["z"]).SerializeToString() == expected


def test_nodes_in_any_order() -> None:
    model = networks.vit()
    expected = features_of(model)
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(nodes[number] for number in np.random.default_rng(0).permutation(len(nodes)))
    pixels = pictures(2, 32)
    found = features_of(model)
    assert dict_of(found)["taps"] == dict_of(expected)["taps"]
    np.testing.assert_allclose(run(found, {"images": pixels})[0], run(expected, {"images": pixels})[0], atol=1e-5)


@pytest.mark.parametrize("inner", ["features", "images", "pyhash/constant_0", "logits"])
def test_names_inside_of_branches_may_be_ours(inner: str) -> None:
    branches = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node("Relu", ["y"], [inner]), helper.make_node(op, [inner, inner], [name])],
            name,
            [],
            [onnx.ValueInfoProto(name=name)],
        )
        for name, op in (("then", "Mul"), ("else", "Add"))
    }
    choice = helper.make_node("If", ["yes"], ["z"], **branches)
    model = tiny(["n", 3, 32, 32], w=KERNEL, yes=np.array(True))(CONV, choice, output="z")
    encoder = graph.add_head(features_of(model, taps=["y", "z"]), random_head(16, 8), {"code": 8})
    assert Encoder(encoder.SerializeToString()).logits(pictures(2, 32)).shape == (2, 8)


def test_what_needs_no_other_input_can_be_read() -> None:
    """As in the network of images of a pair with text: the other input comes in behind."""
    net = Net()
    x = net.relu(net.conv("input", 3, 8, stride=2), name="early")
    x = net.relu(net.conv(x, 8, 12, stride=2), name="late")
    x = net.node("Flatten", net.node("GlobalAveragePool", x))
    net.node("MatMul", x, net.node("Transpose", "text", perm=[1, 0]), name="scores")
    model = net.model(["n", 3, 32, 32], {"scores": ["n", "m"]})
    model.graph.input.append(helper.make_tensor_value_info("text", FLOAT, ["m", 12]))
    assert json.loads(dict_of(features_of(model))["taps"]) == ["early", "late"]
    with pytest.raises(GraphError, match="tap 'scores' also needs the input 'text'"):
        features_of(model, taps=["scores"])


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
    with pytest.raises(
        ValueError, match=r"pooling must be one of gap, gem, patches, cls, none for each of 2 taps, got \['gap'\]"
    ):
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
    first = graph.add_features(networks.resnet(), preprocess=WHOLE | {"resize": "bicubic"})
    encoder = graph.add_head(first, random_head(60, 8), {"code": 8})
    again = graph.add_features(encoder, list(STAGES), "raw")
    assert dict_of(again)["resize"] == "bicubic"
    pixels = pictures(3, 32)
    np.testing.assert_allclose(run(again, {"images": pixels})[0], run(first, {"images": pixels})[0], atol=1e-5)


def takes_bytes() -> ModelProto:
    """A network that takes pixels as they are, and normalises them itself."""
    return tiny(["n", 32, 32, 3], TensorProto.UINT8, w=KERNEL)(
        helper.make_node("Transpose", ["x"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["planes"], ["values"], to=FLOAT),
        helper.make_node("Conv", ["values", "w"], ["y"]),
        helper.make_node("Relu", ["y"], ["z"]),
        output="z",
    )


def test_the_channel_order_of_a_network_that_takes_bytes_is_honoured() -> None:
    pixels = pictures(3, 32)
    rgb, raw, bgr = (
        run(graph.add_features(takes_bytes(), ["z"], **said), {"images": given})[0]
        for said, given in (
            ({}, pixels),
            ({"preprocess": "raw"}, pixels),
            ({"preprocess": {"preset": "raw", "channel_order": "bgr"}}, np.ascontiguousarray(pixels[..., ::-1])),
        )
    )
    np.testing.assert_allclose(bgr, rgb, atol=1e-6)
    np.testing.assert_array_equal(raw, rgb)
    swapped = graph.add_features(takes_bytes(), ["z"], {"preset": "raw", "channel_order": "bgr"})
    assert np.abs(run(swapped, {"images": pixels})[0] - rgb).max() > 1e-3


@pytest.mark.parametrize("preprocess", ["imagenet", "tf", {"mean": 0.5}, {"preset": "raw", "scale": 2}], ids=str)
def test_values_cannot_be_normalised_for_a_network_that_takes_bytes(preprocess: Any) -> None:
    with pytest.raises(GraphError, match=r"'x' takes uint8 pixels, .* preprocess must be 'raw' or based on it"):
        graph.add_features(takes_bytes(), ["z"], preprocess)


def test_an_encoder_keeps_its_own_preparation() -> None:
    first = graph.add_features(networks.resnet(), preprocess=WHOLE | {"crop": "letterbox", "fill": 114})
    encoder = graph.add_head(first, random_head(60, 8), {"code": 8})
    for preprocess in (None, "raw", {"preset": "raw", "size": 32}):
        again = graph.add_features(encoder, list(STAGES), preprocess)
        assert (dict_of(again)["crop"], dict_of(again)["fill"]) == ("letterbox", "[114, 114, 114]")
    with pytest.raises(GraphError, match="this encoder stores its own preparation: preprocess must be 'raw'"):
        graph.add_features(encoder, list(STAGES), {"preset": "raw", "channel_order": "bgr"})


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
        r"tap 'y' also needs the input 'gain' float \['n', 8, 15, 15\]: only networks with one image input",
    ),
    "a second input is needed before any layer": (
        lambda: tiny(["n", 3, 32, 32], w=KERNEL)(
            helper.make_node("Cast", ["mask"], ["gain"], to=FLOAT),
            helper.make_node("Mul", ["x", "gain"], ["masked"]),
            helper.make_node("Conv", ["masked", "w"], ["z"]),
            helper.make_node("Relu", ["z"], ["y"]),
            inputs=[helper.make_tensor_value_info("mask", TensorProto.BOOL, ["n", 1, 32, 32])],
        ),
        {},
        r"also needs the input 'mask' bool \['n', 1, 32, 32\]: .* export it with that input made a constant",
    ),
    "a circle": (
        lambda: tiny(["n", 3, 32, 32], w=KERNEL)(
            helper.make_node("Add", ["x", "b"], ["a"], name="first"),
            helper.make_node("Relu", ["a"], ["b"]),
            helper.make_node("Conv", ["b", "w"], ["y"]),
        ),
        {},
        r"node 'first' \(Add\) reads, through others, what it makes itself",
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
        lambda: tiny(["n", 3, 32, 32], w=KERNEL, s=np.array([0, 15, 8, 15], np.int64))(
            CONV, helper.make_node("Reshape", ["y", "s"], ["z"])
        ),
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

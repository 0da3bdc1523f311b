"""Networks side by side: their features one after the other, whatever their names, opsets and weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("PIL")
import networks
import onnx
from network_cases import dim_of, features_of, pictures, random_head, run

from pyhash import networks as graph
from pyhash.encoder import Encoder
from pyhash.errors import GraphError

CENTER = {"preset": "tf", "crop": "center"}  # normalises otherwise than `features_of` unless told
PAIRS: dict[str, Callable[[], dict[str, Any]]] = {
    "one-twice": lambda: {"a": features_of(networks.resnet()), "b": features_of(networks.resnet())},
    "opsets": lambda: {
        "old": features_of(networks.resnet(opset=11)),
        "new": features_of(networks.mobilenet(), preprocess=CENTER),
    },
    "int8-weights": lambda: {
        "stored": graph.int8.quantize_weights(features_of(networks.resnet())),
        "float": features_of(networks.vit()),
    },
    "one-batch": lambda: {"any": features_of(networks.resnet()), "four": features_of(networks.dense_with_batch(4))},
}


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_features_are_those_of_each_network(pair: Callable[[], dict[str, Any]]) -> None:
    models, pixels = pair(), pictures(4, 32)
    before = {name: model.SerializeToString() for name, model in models.items()}
    joined = graph.join_features(models)
    assert {name: model.SerializeToString() for name, model in models.items()} == before
    expected = np.concatenate([run(model, {"images": pixels})[0] for model in models.values()], axis=1)
    np.testing.assert_allclose(run(joined, {"images": pixels})[0], expected, atol=1e-5)
    taps = [f"{name}/{tap}" for name, model in models.items() for tap in graph.feature_blocks(model)]
    assert list(graph.feature_blocks(joined)) == taps
    assert (graph.fixed_batch(joined) or 0) == max(graph.fixed_batch(model) or 0 for model in models.values())
    names = [node.name for node in joined.graph.node if node.name]
    assert len(names) == len(set(names))


def test_what_becomes_an_encoder_is_one_and_a_level_can_read_one_network_alone() -> None:
    models = {"a": features_of(networks.resnet()), "b": features_of(networks.mobilenet(), preprocess=CENTER)}
    joined, pixels = graph.join_features(models), pictures(3, 32)
    head = random_head(dim_of(joined), 32)
    head.weight[dim_of(models["a"]) :, :8] = 0
    encoder = graph.int8.quantize_weights(graph.add_head(joined, head, {"coarse": 8, "fine": 24}))
    whole = Encoder(encoder.SerializeToString()).logits(pixels)
    part = graph.select_levels(encoder, ["coarse"])
    assert not any(node.name.startswith(("b/", "pyhash/b/")) for node in part.graph.node)
    np.testing.assert_allclose(Encoder(part.SerializeToString()).logits(pixels), whole[:, :8], atol=1e-4)
    assert graph.metadata_of(encoder).quantized == "weights"


def test_names_inside_branches_do_not_collide() -> None:
    """A branch of each network reads weights and tensors from outside, which are called the same in both."""
    models = {
        name: features_of(_with_branch(shift), taps=["y"], pooling=["gap"]) for name, shift in (("a", 1.0), ("b", 50.0))
    }
    pixels = pictures(2, 16)
    expected = np.concatenate([run(model, {"images": pixels})[0] for model in models.values()], axis=1)
    assert not np.allclose(expected[:, :3], expected[:, 3:])
    found = run(graph.join_features(models), {"images": pixels})[0]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def _with_branch(shift: float) -> onnx.ModelProto:
    helper = onnx.helper
    value = helper.make_tensor_value_info
    branches = {
        name: helper.make_graph(
            [helper.make_node(op, ["x", "shift"], ["inner"])], name, [], [value("inner", 1, ["n", 3, 16, 16])]
        )
        for name, op in (("then_branch", "Add"), ("else_branch", "Sub"))
    }
    body = helper.make_graph(
        [helper.make_node("If", ["yes"], ["y"], **branches)],
        "branch",
        [value("x", 1, ["n", 3, 16, 16])],
        [value("y", 1, ["n", 3, 16, 16])],
        [
            onnx.numpy_helper.from_array(np.array(True), "yes"),
            onnx.numpy_helper.from_array(np.array([shift, 0, 0], np.float32).reshape(3, 1, 1), "shift"),
        ],
    )
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_what_does_not_fit_is_refused() -> None:
    resnet = features_of(networks.resnet())
    with pytest.raises(ValueError, match=r"models must be at least two, by names without '/', got \['a'\]"):
        graph.join_features({"a": resnet})
    with pytest.raises(ValueError, match=r"by names without '/', got \['a', 'b/c'\]"):
        graph.join_features({"a": resnet, "b/c": resnet})
    with pytest.raises(GraphError, match="the network 'raw' does not give features: it must be as add_features"):
        graph.join_features({"a": resnet, "raw": networks.resnet()})
    with pytest.raises(GraphError, match="must have one crop: 'a' has center, 'b' has squash"):
        graph.join_features({"a": resnet, "b": features_of(networks.mobilenet(), preprocess="tf")})
    with pytest.raises(GraphError, match="must have one size: 'a' has 32, 'b' has 48"):
        graph.join_features({"a": resnet, "b": features_of(networks.efficientnet(), size=48)})
    batches = {str(n): features_of(networks.dense_with_batch(n)) for n in (1, 4)}
    with pytest.raises(GraphError, match="must take one batch size: '4' takes 4, one before it 1"):
        graph.join_features(batches)

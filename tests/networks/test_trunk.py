"""What of a network is worth reading: its trunk, not what lies beside; its embedding, not its answer; whole blocks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("PIL")
import onnx
from network_cases import CASES, features_of, pictures, pooled, prepared, run
from networks import Net, mobilenet, resnet, swin, vit
from onnx import ModelProto, helper

from pyhash import networks as graph
from pyhash.errors import GraphError
from pyhash.networks import onnxruntime

SIDE = 64
STAGES = ["stage1", "stage2", "stage3", "stage4"]


def names(model: ModelProto, n: int = 4) -> list[str]:
    return [tap.name for tap in graph.choose_taps(model, n)]


def body(net: Net, beside: Callable[[Net, str, int], str] = lambda net, x, channels: x, at: int = 2) -> str:
    """Four stages, the end of each named; something can be done beside one of them."""
    x, channels = "input", 3
    for stage, width in enumerate((8, 12, 16, 24), 1):
        x = net.conv(x, channels, width, stride=2)
        if stage == at:
            x = beside(net, net.relu(x), width)
        x, channels = net.relu(net.conv(x, width, width), name=f"stage{stage}"), width
    return x


def mean(net: Net, x: str) -> str:
    return net.node("Flatten", net.node("GlobalAveragePool", x), axis=1)


def finished(net: Net, output: str = "logits", width: int = 10) -> ModelProto:
    return net.model(["n", 3, SIDE, SIDE], {output: ["n", width]})


def resized(net: Net, x: str, factor: int) -> str:
    scales = net.const(np.array([1, 1, factor, factor], np.float32))
    return net.node("Resize", x, "", scales, mode="nearest")


def shrunk(net: Net, x: str, factor: int) -> str:
    return net.node("AveragePool", x, kernel_shape=[factor] * 2, strides=[factor] * 2)


def half_resolution(net: Net, x: str, channels: int) -> str:
    low = net.relu(net.conv(net.relu(net.conv(shrunk(net, x, 2), channels, channels)), channels, channels))
    return net.node("Add", x, resized(net, low, 2))


def context(net: Net, x: str, channels: int) -> str:
    low = net.relu(net.conv(shrunk(net, x, 4), channels, channels, kernel=1))
    return net.conv(net.node("Concat", x, resized(net, low, 4), axis=1), 2 * channels, channels)


def hourglass(net: Net, x: str, channels: int) -> str:
    """Down twice and up twice, in one stage."""
    inner = half_resolution(net, net.relu(net.conv(shrunk(net, x, 2), channels, channels)), channels)
    return net.node("Add", x, resized(net, net.relu(net.conv(inner, channels, channels)), 2))


def reduced_attention(net: Net, x: str, channels: int) -> str:
    """Queries of every position, keys and values of a map a quarter as wide."""

    def tokens(y: str) -> str:
        flat = net.node("Reshape", y, net.ints(0, channels, -1))
        return net.node("Transpose", flat, perm=[0, 2, 1])

    few = tokens(net.conv(x, channels, channels, kernel=5, stride=4))
    keys = net.node("Transpose", net.linear(few, channels, channels), perm=[0, 2, 1])
    shares = net.node("Softmax", net.node("MatMul", net.linear(tokens(x), channels, channels), keys), axis=-1)
    out = net.node("Add", tokens(x), net.node("MatMul", shares, net.linear(few, channels, channels)))
    shape = net.node("Shape", x)
    return net.node("Reshape", net.node("Transpose", out, perm=[0, 2, 1]), shape)


def chosen_by_the_light(net: Net, x: str, channels: int) -> str:
    """One way for a light image, another for a dark one, where the image itself is asked."""
    value = helper.make_tensor_value_info
    ways = {
        name: helper.make_graph([helper.make_node(op, [x], [f"{x}_{op}"])], name, [], [value(f"{x}_{op}", 1, None)])
        for name, op in (("then_branch", "Relu"), ("else_branch", "Abs"))
    }
    light = net.node("Greater", net.node("ReduceMean", "input", keepdims=0), net.const(np.float32(0)))
    return net.node("If", light, **ways)


@pytest.mark.parametrize("beside", [half_resolution, context, hourglass, reduced_attention, chosen_by_the_light])
@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_a_branch_at_another_resolution_is_not_the_trunk(beside: Callable[[Net, str, int], str], at: int) -> None:
    net = Net()
    net.dense(mean(net, body(net, beside, at)), 24, 10, name="logits")
    assert names(finished(net)) == STAGES


@pytest.mark.parametrize("at", [1, 2])
def test_a_branch_beside_a_network_that_ends_in_a_map(at: int) -> None:
    net = Net()
    body(net, context, at)
    assert names(net.model(["n", 3, SIDE, SIDE], {"stage4": ["n", 24, 4, 4]})) == STAGES


def test_branches_side_by_side_until_the_end() -> None:
    """As in HRNet: behind the first stage nothing is passed by all of the image until the end."""
    net = Net()
    x = net.relu(net.conv(net.relu(net.conv("input", 3, 8, stride=2), name="stem"), 8, 8, stride=2), name="first")
    wide = net.relu(net.conv(x, 8, 8))
    low = net.relu(net.conv(x, 8, 12, stride=2))
    for _ in range(2):
        wide, low = (
            net.relu(net.node("Add", net.conv(wide, 8, 8), resized(net, net.conv(low, 12, 8, kernel=1), 2))),
            net.relu(net.node("Add", net.conv(low, 12, 12), net.conv(wide, 8, 12, stride=2))),
        )
    x = net.relu(net.node("Add", net.conv(low, 12, 16), net.conv(wide, 8, 16, stride=2)), name="joined")
    net.dense(mean(net, x), 16, 10, name="logits")
    assert names(finished(net)) == ["stem", "first", "joined"]


def test_the_encoder_of_a_decoder_whose_blocks_have_branches() -> None:
    """As in SegFormer: every stage goes to the decoder, and keys are as few in the first stage as in the last."""
    net = Net()
    x, channels, maps = "input", 3, []
    for stage, width in enumerate((8, 12, 16), 1):
        x = net.relu(net.conv(x, channels, width, stride=2))
        if stage == 1:
            x = reduced_attention(net, x, width)
        x, channels = net.relu(net.conv(x, width, width), name=f"stage{stage}"), width
        maps.append(resized(net, net.conv(x, width, 8, kernel=1), 2 ** (stage - 1)))
    net.conv(net.relu(net.conv(net.node("Concat", *maps, axis=1), 24, 8)), 8, 4, kernel=1)
    model = net.model(["n", 3, 32, 32], {net.nodes[-1].output[0]: None})
    assert names(model, 3) == STAGES[:3]


def test_maps_of_several_sizes_that_are_averaged_and_joined() -> None:
    net = Net()
    body(net)
    joined = net.node("Concat", *(mean(net, f"stage{stage}") for stage in (2, 3, 4)), axis=1)
    net.dense(joined, 52, 10, name="logits")
    assert names(finished(net)) == STAGES


def two_heads(net: Net, x: str) -> None:
    answers = [net.dense(x, 24, 10) for _ in range(2)]
    net.node("Div", net.node("Add", *answers), net.full(2), name="out")


def clipped(net: Net, x: str) -> None:
    net.node("Softmax", net.node("Clip", net.dense(x, 24, 10), net.full(-15), net.full(15)), axis=1, name="out")


def expected_value(net: Net, x: str) -> None:
    """The mean of a number for each class: one more layer behind the shares."""
    net.node("MatMul", net.node("Softmax", net.dense(x, 24, 10), axis=1), net.weight(10, 1), name="out")


def gated(net: Net, x: str) -> None:
    answer = net.dense(x, 24, 10)
    net.node("Mul", answer, net.node("Sigmoid", answer), name="logits")


def convolution(net: Net, x: str) -> None:
    y = net.conv(net.node("Reshape", x, net.ints(0, 24, 1, 1)), 24, 10, kernel=1)
    net.node("Flatten", net.relu(y), name="class_scores")


ANSWERS = {
    "two heads": two_heads,
    "clipped": clipped,
    "expected value": expected_value,
    "gated": gated,
    "convolution": convolution,
}


@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("hidden", [False, True])
def test_the_answer_of_a_classifier_is_not_read(name: str, hidden: bool) -> None:
    net = Net()
    x = mean(net, body(net))
    if hidden:
        x = net.relu(net.dense(x, 24, 24), name="hidden_layer")
    ANSWERS[name](net, x)
    model = net.model(["n", 3, SIDE, SIDE], {net.nodes[-1].output[0]: None})
    assert names(model) == ([*STAGES[1:], "hidden_layer"] if hidden else STAGES)


@pytest.mark.parametrize("shares", [False, True])
def test_a_map_of_classes_is_an_answer(shares: bool) -> None:
    """As in SqueezeNet: the last convolution gives a map a class, and what follows averages it."""
    net = Net()
    scores = mean(net, net.relu(net.conv(body(net), 24, 10, kernel=1)))
    if shares:
        net.node("Softmax", scores, axis=1, name="out")
    else:
        net.node("Identity", scores, name="logits")
    assert names(net.model(["n", 3, SIDE, SIDE], {net.nodes[-1].output[0]: None})) == STAGES


def unit_length(net: Net, x: str) -> str:
    v = net.dense(x, 24, 32)
    length = net.node("Clip", net.reduce("ReduceL2", v, 1), net.full(1e-12))
    return net.node("Div", v, length, name="out")


def divided_by_the_root_of_squares(net: Net, x: str) -> str:
    v = net.dense(x, 24, 32)
    square = net.node("ReduceSum", net.node("Mul", v, v), net.ints(1))
    return net.node("Div", v, net.node("Sqrt", square), name="out")


def batch_norm(net: Net, x: str) -> str:
    one, zero = net.full(1, 32), net.full(0, 32)
    return net.node("BatchNormalization", net.dense(x, 24, 32), one, zero, zero, one, name="out")


def layer_norm(net: Net, x: str) -> str:
    return net.node("LayerNormalization", net.dense(x, 24, 32), net.full(1, 32), net.full(0, 32), name="out")


def tanh(net: Net, x: str) -> str:
    return net.node("Tanh", net.dense(x, 24, 32), name="out")


def projection(net: Net, x: str) -> str:
    return net.node("MatMul", x, net.weight(24, 32), name="image_embeds")


EMBEDDINGS = [unit_length, divided_by_the_root_of_squares, batch_norm, layer_norm, tanh, projection]


@pytest.mark.parametrize("make", EMBEDDINGS)
@pytest.mark.parametrize("logits", [None, "beside", "behind"])
def test_an_embedding_is_read_last(make: Callable[[Net, str], str], logits: str | None) -> None:
    """Whether it is all that the network gives, or a classifier is beside it, or works on it."""
    net = Net()
    x = mean(net, body(net))
    out = make(net, x)
    outputs = {out: ["n", 32]}
    if logits is not None:
        net.node("Relu", net.dense(*((x, 24) if logits == "beside" else (out, 32)), 10), name="logits")
        outputs = {"logits": ["n", 10], **outputs}
    model = net.model(["n", 3, SIDE, SIDE], outputs)
    assert names(model) == [*STAGES[1:], out]
    assert names(model, 1) == [out]
    assert graph.metadata_of(features_of(model)).taps[-1] == graph.TapNote(out, 32, "none")


def test_a_hidden_layer_that_is_an_output_too() -> None:
    net = Net()
    hidden = net.dense(mean(net, body(net)), 24, 32, name="neck")
    net.dense(hidden, 32, 10, name="out")
    model = net.model(["n", 3, SIDE, SIDE], {"neck": ["n", 32], "out": ["n", 10]})
    assert names(model) == [*STAGES[1:], "neck"]


def test_the_mean_of_a_map_is_no_embedding_of_its_own() -> None:
    net = Net()
    net.node("Identity", mean(net, body(net)), name="embedding")
    assert names(finished(net, "embedding", 24)) == STAGES


def transformer(
    depth: int = 8, first: str = "batch", registers: int = 0, end: str = "mean", fused: bool = False
) -> ModelProto:
    """Blocks of attention with one head and two layers more; the end of each is named."""
    net, width = Net(), 16
    x = net.node("Conv", "input", net.weight(width, 3, 16, 16, fan_in=768), strides=[16, 16])
    x = net.node("Transpose", net.node("Reshape", x, net.ints(0, width, -1)), perm=[0, 2, 1])
    if registers:
        count = net.node("Slice", net.node("Shape", x), net.ints(0), net.ints(1))
        shape = net.node("Concat", count, net.ints(registers, width), axis=0)
        tokens = net.node("Expand", net.weight(1, registers, width), shape)
        x = net.node("Concat", *((x, tokens) if end == "behind" else (tokens, x)), axis=1)
    swap = (lambda y: net.node("Transpose", y, perm=[1, 0, 2])) if first == "tokens" else (lambda y: y)
    x = swap(x)
    one, zero = net.full(1, width), net.full(0, width)
    for number in range(1, depth + 1):
        y = x if fused else net.layer_norm(x, width)
        q, k, v = (swap(net.linear(y, width, width)) for _ in range(3))
        shares = net.node("Softmax", net.node("MatMul", q, net.node("Transpose", k, perm=[0, 2, 1])), axis=-1)
        y = net.linear(swap(net.node("MatMul", shares, v)), width, width)
        last = {"name": f"block{number}"}
        if fused:
            x = net.node("SkipLayerNormalization", x, y, one, zero, domain="com.microsoft")
            y = net.linear(net.relu(net.linear(x, width, 32)), 32, width)
            x = net.node("SkipLayerNormalization", x, y, one, zero, domain="com.microsoft", **last)
        else:
            x = net.node("Add", x, y)
            y = net.linear(net.relu(net.linear(net.layer_norm(x, width), width, 32)), 32, width)
            x = net.node("Add", x, y, **last)
    x = net.layer_norm(swap(x), width)
    if end == "attention":
        shares = net.node("Softmax", net.linear(x, width, 1), axis=1)
        y = net.node("ReduceSum", net.node("Mul", x, shares), net.ints(1))
        y = net.node("Add", y, net.linear(net.relu(net.linear(net.layer_norm(y, width), width, 32)), 32, width))
        net.node("Reshape", y, net.ints(-1, width), name="pooler_output")
    else:
        net.dense(net.reduce("ReduceMean", x, 1, keepdims=0), width, 10, name="out")
    model = net.model(["n", 3, SIDE, SIDE], {net.nodes[-1].output[0]: None})
    if fused:
        model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return model


@pytest.mark.parametrize("first", ["batch", "tokens"])
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("depth", [4, 5, 6, 8, 11])
def test_a_transformer_is_read_after_whole_blocks(first: str, fused: bool, depth: int) -> None:
    model = transformer(depth, first, fused=fused)
    for n in range(1, 5):
        chosen = names(model, n)
        assert len(chosen) == n
        assert chosen[-1] == f"block{depth}"
        assert set(chosen) <= {f"block{number}" for number in range(1, depth + 1)}
        steps = np.diff([0, *(int(name.removeprefix("block")) for name in chosen)])
        assert np.ptp(steps) <= 1


def test_attention_in_the_end_makes_an_embedding() -> None:
    assert names(transformer(8, end="attention")) == ["block3", "block5", "block8", "pooler_output"]


def test_tokens_before_images_give_the_same_features() -> None:
    pixels = pictures(3, SIDE)
    ours, theirs = (run(features_of(transformer(first=first)), {"images": pixels})[0] for first in ("batch", "tokens"))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    one, other = (graph.choose_taps(transformer(first=first))[0] for first in ("batch", "tokens"))
    assert (one.axes, one.shape, other.axes, other.shape) == ("ntc", (1, 16, 16), "tnc", (16, 1, 16))
    assert (one.channels, one.positions, one.stage) == (other.channels, other.positions, other.stage)


@pytest.mark.parametrize(("registers", "end", "place"), [(1, "mean", 0), (5, "mean", 0), (2, "behind", -2)])
@pytest.mark.parametrize("first", ["batch", "tokens"])
def test_tokens_that_are_no_part_of_the_image(registers: int, end: str, place: int, first: str) -> None:
    model = transformer(4, first, registers, end)
    (tap,) = graph.choose_taps(model, 1)
    assert tap.extra == ((0, registers) if end == "behind" else (registers, 0))
    pixels = pictures(3, SIDE)
    values = prepared(CASES["resnet"], pixels).astype(np.float32)
    model.graph.output.append(onnx.ValueInfoProto(name=tap.name))
    tokens = run(model, {"input": values}, [tap.name])[0]
    tokens = tokens.transpose(1, 0, 2) if first == "tokens" else tokens
    inside = tokens[:, :-registers] if end == "behind" else tokens[:, registers:]
    expected = {
        None: inside.mean(axis=1),
        "patches": inside.mean(axis=1),
        "gap": pooled(tokens, "tokens", "gap"),
        "cls": tokens[:, place],
    }
    for pooling, vectors in expected.items():
        result = features_of(model, taps=[tap.name], pooling=pooling and [pooling], normalize=False)
        np.testing.assert_allclose(run(result, {"images": pixels})[0], vectors, atol=1e-4)


def test_a_class_token_is_of_tokens() -> None:
    with pytest.raises(ValueError, match=r"pooling of 'stage1', of shape .* cannot be 'cls'"):
        features_of(resnet(), taps=["stage1"], pooling=["cls"])


def test_what_cannot_be_read_is_said_with_its_share() -> None:
    """Channels and positions are mixed in a way that no operator tells."""
    net = Net()
    x = net.relu(net.conv("input", 3, 8, stride=8))
    x = net.node("Reshape", x, net.ints(0, 16, 4, 8))
    for _ in range(6):
        x = net.node("Add", x, net.relu(net.linear(x, 8, 8)))
    net.dense(net.node("Reshape", x, net.ints(0, -1)), 512, 10, name="out")
    with pytest.raises(GraphError, match=r"only 14% of the layers on the way to 'out' can be read: 'add\d+' has axes"):
        graph.choose_taps(finished(net, "out"))


@pytest.mark.parametrize("make", [resnet, mobilenet, lambda: vit(depth=4), swin])
@pytest.mark.parametrize("level", ["ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL"])
def test_files_that_onnx_runtime_saved(tmp_path: Path, make: Callable[[], ModelProto], level: str) -> None:
    """Fused operators are read as what they were made of; channels in blocks are refused by name."""
    runtime = onnxruntime()
    options = runtime.SessionOptions()
    options.graph_optimization_level = getattr(runtime.GraphOptimizationLevel, level)
    options.optimized_model_filepath = str(tmp_path / "saved.onnx")
    options.log_severity_level = 4
    runtime.InferenceSession(make().SerializeToString(), options, providers=["CPUExecutionProvider"])
    saved = onnx.load(tmp_path / "saved.onnx")
    if any(node.domain == "com.microsoft.nchwc" for node in saved.graph.node):
        with pytest.raises(
            GraphError, match=r"of com.microsoft.nchwc works on channels in blocks: .* without optimisa"
        ):
            features_of(saved)
        return
    found, expected = features_of(saved), features_of(make())
    blocks, others = graph.feature_blocks(found), graph.feature_blocks(expected)
    assert len(blocks) == len(others)
    pixels = pictures(2, 32)
    ours, theirs = (run(model, {"images": pixels})[0] for model in (found, expected))
    same = [name for name in blocks if name in others]
    assert len(same) >= len(blocks) - 1  # a last sum may be in its norm, and nowhere else
    for name in same:
        np.testing.assert_allclose(ours[:, blocks[name]], theirs[:, others[name]], atol=1e-4)

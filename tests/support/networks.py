"""Small image networks as ONNX models with random weights: real architectures at a thousandth of their size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

FLOAT, FLOAT16 = TensorProto.FLOAT, TensorProto.FLOAT16
Shape = Sequence[int | str]


class Net:
    """Writes a graph node by node; every method returns the name of the tensor that it makes."""

    def __init__(self, opset: int = 17, dtype: Any = np.float32, seed: int = 0) -> None:
        self.opset = opset
        self.dtype = np.dtype(dtype)
        self.element = FLOAT16 if self.dtype == np.float16 else FLOAT
        self.rng = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def node(self, op: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        output = name or f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [output], name=f"node_{output}", **attributes))
        return output

    def const(self, values: Any) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def weight(self, *shape: int, gain: float = 1.0, fan_in: int = 1) -> str:
        return self.const((gain * self.rng.standard_normal(shape) / math.sqrt(fan_in)).astype(self.dtype))

    def full(self, value: float, *shape: int) -> str:
        return self.const(np.full(shape, value, self.dtype))

    def ints(self, *values: int) -> str:
        return self.const(np.array(values, np.int64))

    def conv(self, x: str, c_in: int, c_out: int, kernel: int = 3, stride: int = 1, group: int = 1) -> str:
        fan_in = c_in // group * kernel * kernel
        weight = self.weight(c_out, c_in // group, kernel, kernel, gain=1.4, fan_in=fan_in)
        bias = self.weight(c_out, gain=0.1)
        pad = kernel // 2
        return self.node("Conv", x, weight, bias, strides=[stride] * 2, pads=[pad] * 4, group=group)

    def relu(self, x: str, name: str | None = None) -> str:
        return self.node("Relu", x, name=name)

    def swish(self, x: str, name: str | None = None) -> str:
        return self.node("Mul", x, self.node("Sigmoid", x), name=name)

    def pool(self, x: str) -> str:
        return self.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])

    def dense(self, x: str, c_in: int, c_out: int, name: str | None = None) -> str:
        weight = self.weight(c_in, c_out, fan_in=c_in)
        return self.node("Gemm", x, weight, self.weight(c_out, gain=0.1), name=name)

    def linear(self, x: str, c_in: int, c_out: int) -> str:
        """A dense layer over the last axis, as exporters write it for more than two axes."""
        weight = self.weight(c_in, c_out, fan_in=c_in)
        return self.node("Add", self.node("MatMul", x, weight), self.weight(c_out, gain=0.1))

    def reduce(self, op: str, x: str, *axes: int, keepdims: int = 1) -> str:
        if self.opset >= 18:
            return self.node(op, x, self.ints(*axes), keepdims=keepdims)
        return self.node(op, x, axes=list(axes), keepdims=keepdims)

    def layer_norm(self, x: str, channels: int) -> str:
        if self.opset >= 17:
            return self.node("LayerNormalization", x, self.full(1, channels), self.full(0, channels), axis=-1)
        centred = self.node("Sub", x, self.reduce("ReduceMean", x, -1))
        variance = self.reduce("ReduceMean", self.node("Mul", centred, centred), -1)
        scaled = self.node("Div", centred, self.node("Sqrt", self.node("Add", variance, self.full(1e-5))))
        return self.node("Mul", scaled, self.full(1, channels))

    def squeeze_excite(self, x: str, channels: int) -> str:
        small = self.relu(self.conv(self.node("GlobalAveragePool", x), channels, max(channels // 4, 2), kernel=1))
        return self.node("Mul", x, self.node("Sigmoid", self.conv(small, max(channels // 4, 2), channels, kernel=1)))

    def model(self, shape: Shape, outputs: dict[str, Shape | None], input: str = "input") -> ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "network",
            [helper.make_tensor_value_info(input, self.element, list(shape))],
            [helper.make_tensor_value_info(name, self.element, shape) for name, shape in outputs.items()],
            self.weights,
        )
        opsets = [helper.make_opsetid("", self.opset)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10 if self.opset > 20 else 8)


def _residual(net: Net, x: str, c_in: int, c_out: int, stride: int, name: str) -> str:
    inner = net.conv(net.relu(net.conv(x, c_in, c_out, stride=stride)), c_out, c_out)
    shortcut = x if stride == 1 and c_in == c_out else net.conv(x, c_in, c_out, kernel=1, stride=stride)
    return net.relu(net.node("Add", inner, shortcut), name=name)


def resnet(
    opset: int = 17, dtype: Any = np.float32, batch: int | str = "n", size: int | str = 32, two_outputs: bool = False
) -> ModelProto:
    """Stem, max pool, four stages of two residual blocks, mean, classifier; ends: stage1 to stage4."""
    net = Net(opset, dtype)
    x = net.pool(net.relu(net.conv("input", 3, 8, kernel=7, stride=2), name="stem"))
    channels = 8
    for stage, width in enumerate((8, 12, 16, 24), 1):
        x = _residual(net, x, channels, width, 1 if stage == 1 else 2, f"stage{stage}_first")
        x = _residual(net, x, width, width, 1, f"stage{stage}")
        channels = width
    vector = net.node("Flatten", net.node("GlobalAveragePool", x), axis=1, name="embedding")
    net.dense(vector, channels, 10, name="probabilities")
    outputs: dict[str, Shape | None] = {"probabilities": [batch, 10]}
    if two_outputs:
        outputs["embedding"] = [batch, channels]
    return net.model([batch, 3, size, size], outputs)


def mobilenet(opset: int = 17) -> ModelProto:
    """Inverted residuals with squeeze-and-excitation, Relu6 and linear bottlenecks; hard swish after the mean."""
    net = Net(opset)

    def relu6(x: str, name: str | None = None) -> str:
        return net.node("Clip", x, net.full(0), net.full(6), name=name)

    def block(x: str, c_in: int, c_out: int, stride: int, name: str) -> str:
        wide = relu6(net.conv(x, c_in, 4 * c_in, kernel=1), name=f"{name}_expanded")
        deep = relu6(net.conv(wide, 4 * c_in, 4 * c_in, stride=stride, group=4 * c_in))
        out = net.conv(net.squeeze_excite(deep, 4 * c_in), 4 * c_in, c_out, kernel=1)
        return net.node("Add", x, out, name=name) if stride == 1 and c_in == c_out else out

    x = relu6(net.conv("input", 3, 8, stride=2))
    for number, (c_in, c_out, stride) in enumerate([(8, 8, 1), (8, 12, 2), (12, 12, 1), (12, 16, 2), (16, 16, 1)], 1):
        x = block(x, c_in, c_out, stride, f"block{number}")
    x = relu6(net.conv(x, 16, 32, kernel=1), name="last_map")
    x = net.conv(net.node("GlobalAveragePool", x), 32, 48, kernel=1)
    x = net.node("HardSwish", x, name="hidden") if opset >= 14 else net.relu(x, name="hidden")
    net.dense(net.node("Flatten", x, axis=1), 48, 10, name="classes")
    return net.model(["n", 3, 32, 32], {"classes": ["n", 10]})


def efficientnet(opset: int = 17) -> ModelProto:
    """Swish everywhere, written as x * sigmoid(x); input pixels 0 to 1; any picture size."""
    net = Net(opset)
    x = net.swish(net.conv("input", 3, 8, stride=2), name="stem")
    for number, (c_in, c_out, stride) in enumerate([(8, 8, 1), (8, 12, 2), (12, 16, 2), (16, 16, 1)], 1):
        wide = net.swish(net.conv(x, c_in, 4 * c_in, kernel=1), name=f"block{number}_expanded")
        deep = net.swish(net.conv(wide, 4 * c_in, 4 * c_in, kernel=5, stride=stride, group=4 * c_in))
        out = net.conv(net.squeeze_excite(deep, 4 * c_in), 4 * c_in, c_out, kernel=1)
        x = net.node("Add", x, out) if stride == 1 and c_in == c_out else out
    x = net.swish(net.conv(x, 16, 40, kernel=1), name="last_map")
    net.dense(net.node("Flatten", net.node("GlobalAveragePool", x), axis=1), 40, 10, name="classes")
    return net.model(["n", 3, "h", "w"], {"classes": ["n", 10]})


def vgg_channels_last(opset: int = 17, top: bool = True) -> ModelProto:
    """What Keras writes: NHWC input, every convolution between two transposes, its bias a separate Add."""
    net = Net(opset)
    x, channels, side = "input", 3, 32
    for number, width in enumerate((8, 12, 16), 1):
        for layer in (1, 2):
            weight = net.weight(width, channels, 3, 3, gain=1.4, fan_in=9 * channels)
            y = net.node("Conv", net.node("Transpose", x, perm=[0, 3, 1, 2]), weight, pads=[1] * 4)
            y = net.node("Add", net.node("Transpose", y, perm=[0, 2, 3, 1]), net.weight(width, gain=0.1))
            x, channels = net.relu(y, name=f"block{number}_conv{layer}"), width
        y = net.pool(net.node("Transpose", x, perm=[0, 3, 1, 2]))
        x, side = net.node("Transpose", y, perm=[0, 2, 3, 1], name=f"block{number}_pool"), side // 2
    if not top:
        return net.model(["n", 32, 32, 3], {x: ["n", side, side, channels]})
    flat = net.node("Reshape", x, net.ints(-1, side * side * channels))
    hidden = net.relu(net.linear(flat, side * side * channels, 64), name="fc1")
    net.dense(net.relu(net.linear(hidden, 64, 64), name="fc2"), 64, 10, name="classes")
    return net.model(["n", 32, 32, 3], {"classes": ["n", 10]})


def vit(opset: int = 17, batch: int | str = "n", depth: int = 8) -> ModelProto:
    """Patches, class token, pre-norm transformer blocks; with a fixed batch, reshapes hold that batch."""
    net = Net(opset)
    side, width, heads = 4, 24, 3
    tokens, head = side * side + 1, width // 3
    fixed = isinstance(batch, int)
    n = batch if isinstance(batch, int) else 0  # 0 copies the axis
    patches = net.node("Conv", "input", net.weight(width, 3, 8, 8, fan_in=192), strides=[8, 8])
    x = net.node("Transpose", net.node("Reshape", patches, net.ints(n, width, side * side)), perm=[0, 2, 1])
    token = net.weight(1, 1, width)
    if not fixed:
        count = net.node("Slice", net.node("Shape", x), net.ints(0), net.ints(1))
        token = net.node("Expand", token, net.node("Concat", count, net.ints(1), net.ints(width), axis=0))
    x = net.node("Add", net.node("Concat", token, x, axis=1), net.weight(1, tokens, width, gain=0.1))
    for number in range(1, depth + 1):
        y = net.layer_norm(x, width)
        q, k, v = (
            net.node(
                "Transpose",
                net.node("Reshape", net.linear(y, width, width), net.ints(n, tokens, heads, head)),
                perm=perm,
            )
            for perm in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3])
        )
        attention = net.node("Softmax", net.node("Mul", net.node("MatMul", q, k), net.full(head**-0.5)), axis=-1)
        y = net.node("Transpose", net.node("MatMul", attention, v), perm=[0, 2, 1, 3])
        y = net.linear(net.node("Reshape", y, net.ints(n, tokens, width)), width, width)
        x = net.node("Add", x, y, name=f"block{number}_attention")
        y = net.linear(net.relu(net.linear(net.layer_norm(x, width), width, 2 * width)), 2 * width, width)
        x = net.node("Add", x, y, name=f"block{number}")
    first = net.node("Gather", net.layer_norm(x, width), net.const(np.array(0, np.int64)), axis=1)
    net.dense(first, width, 10, name="classes")
    return net.model([batch, 3, 32, 32], {"classes": [batch, 10]})


def padded(opset: int = 17, mode: str = "constant") -> ModelProto:
    """Every convolution is without padding and has a Pad before it, so that maps grow by a rim all the time."""
    net = Net(opset)
    x, channels = "input", 3
    for stage, width in enumerate((8, 12, 16, 24), 1):
        for layer in (1, 2):
            x = net.node("Pad", x, net.ints(0, 0, 1, 1, 0, 0, 1, 1), mode=mode)
            weight = net.weight(width, channels, 3, 3, gain=1.4, fan_in=9 * channels)
            x = net.relu(net.node("Conv", x, weight, strides=[layer, layer]), name=f"stage{stage}_{layer}")
            channels = width
    net.dense(net.node("Flatten", net.node("GlobalAveragePool", x)), channels, 10, name="classes")
    return net.model(["n", 3, 32, 32], {"classes": ["n", 10]})


def swin(opset: int = 17) -> ModelProto:
    """Maps are NHWC all through and rolled around their edges in every block; four neighbours are merged into one."""
    net = Net(opset)

    def part(x: str, start: int, end: int, axis: int, step: int = 1) -> str:
        return net.node("Slice", x, net.ints(start), net.ints(end), net.ints(axis), net.ints(step))

    def rolled(x: str, shift: int) -> str:
        for axis in (1, 2):
            x = net.node("Concat", part(x, shift, 99, axis), part(x, 0, shift, axis), axis=axis)
        return x

    width = 12
    x = net.node("Conv", "input", net.weight(width, 3, 4, 4, fan_in=48), strides=[4, 4])
    x = net.node("Transpose", x, perm=[0, 2, 3, 1])
    for stage in (1, 2, 3):
        if stage > 1:
            rows = [part(x, start, 99, 1, 2) for start in (0, 1)]
            x = net.node("Concat", *(part(row, start, 99, 2, 2) for row in rows for start in (0, 1)), axis=3)
            x, width = net.linear(x, 4 * width, 2 * width), 2 * width
        for block in (1, 2):
            y = rolled(net.linear(rolled(net.layer_norm(x, width), 1), width, width), -1)
            x = net.node("Add", x, y)
            y = net.linear(net.relu(net.linear(net.layer_norm(x, width), width, 2 * width)), 2 * width, width)
            x = net.node("Add", x, y, name=f"stage{stage}_block{block}")
    net.dense(net.reduce("ReduceMean", x, 1, 2, keepdims=0), width, 10, name="classes")
    return net.model(["n", 3, 32, 32], {"classes": ["n", 10]})


def unet(opset: int = 17) -> ModelProto:
    """Down three times, and up again with skip connections: the deepest map is in the middle."""
    net = Net(opset)
    x, channels, skips = "input", 3, []
    for number, width in enumerate((8, 12, 16), 1):
        x = net.relu(net.conv(x, channels, width), name=f"down{number}")
        skips.append((x, width))
        x, channels = net.pool(x), width
    x = net.relu(net.conv(x, channels, channels), name="bottom")
    for skip, width in reversed(skips):
        x = net.node("Resize", x, "", net.const(np.array([1, 1, 2, 2], np.float32)), mode="nearest")
        x = net.relu(net.conv(net.node("Concat", x, skip, axis=1), channels + width, width))
        channels = width
    net.node("Sigmoid", net.conv(x, channels, 1, kernel=1), name="mask")
    return net.model(["n", 3, 32, 32], {"mask": ["n", 1, 32, 32]})


def dense_with_batch(batch: int = 1) -> ModelProto:
    """A fixed batch that a Reshape insists on, before the layer that is worth reading."""
    net = Net()
    x = net.pool(net.relu(net.conv("input", 3, 8), name="map"))
    flat = net.node("Reshape", x, net.ints(batch, 8 * 16 * 16))
    net.dense(net.relu(net.dense(flat, 8 * 16 * 16, 32), name="hidden"), 32, 10, name="classes")
    return net.model([batch, 3, 32, 32], {"classes": [batch, 10]})


def joined(opset: int = 17) -> ModelProto:
    """Vectors joined within, and in the end vectors of very unlike ranges, and shares that add up to one."""
    net = Net(opset)
    x = net.relu(net.conv("input", 3, 16, stride=2))
    x = net.relu(net.conv(x, 16, 32, stride=2))
    means = [net.node("Flatten", net.node("GlobalAveragePool", each), axis=1) for each in (x, net.relu(x))]
    inner = net.node("Concat", *means, axis=1, name="inner")
    parts = [net.node("Gemm", inner, net.weight(64, 24, gain=gain, fan_in=64)) for gain in (50.0, 0.01)]
    shares = net.node("Softmax", net.node("Gemm", inner, net.weight(64, 24, gain=3.0, fan_in=64)), axis=1)
    net.node("Concat", *parts, shares, axis=1, name="joined")
    return net.model(["n", 3, 32, 32], {"joined": ["n", 72]})

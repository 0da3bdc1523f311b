"""Small networks that a code cannot simply be made of, each for one reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT


class Net:
    """Collects nodes and weights; every method returns the name of what it made."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def const(self, value: Any) -> str:
        name = f"c{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def he(self, *shape: int) -> str:
        scale = np.sqrt(2 / np.prod(shape[1:]))
        return self.const((self.rng.standard_normal(shape) * scale).astype(np.float32))

    def op(self, kind: str, *inputs: str, out: str | None = None, **attributes: Any) -> str:
        out = out or f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [out], name=f"{kind}_{len(self.nodes)}", **attributes))
        return out

    def conv(self, x: str, before: int, after: int) -> str:
        y = self.op("Conv", x, self.he(after, before, 3, 3), strides=[2, 2], pads=[1, 1, 1, 1])
        return self.op("Relu", y)

    def body(self, x: str) -> str:
        return self.op("Flatten", self.op("GlobalAveragePool", self.conv(self.conv(x, 3, 8), 8, 24)))

    def model(self, batch: Any = "n", out: str = "logits", bits: int = 24) -> bytes:
        graph = helper.make_graph(
            self.nodes,
            "odd",
            [helper.make_tensor_value_info("x", FLOAT, [batch, 3, 16, 16])],
            [helper.make_tensor_value_info(out, FLOAT, [batch, bits])],
            self.weights,
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        return bytes(made.SerializeToString())


def made(change: Callable[[Net, str], str], batch: Any = "n") -> bytes:
    """A network whose features are changed before its last layer."""
    net = Net()
    net.op("Gemm", change(net, net.body("x")), net.he(24, 24), net.he(24), out="logits")
    return net.model(batch)


def standardised() -> bytes:
    """Every channel of every image gets mean 0 and deviation 1: 0/0 for an image of one colour."""
    net = Net()
    centred = net.op("Sub", "x", net.op("ReduceMean", "x", axes=[2, 3], keepdims=1))
    square = net.op("ReduceMean", net.op("Mul", centred, centred), axes=[2, 3], keepdims=1)
    net.op("Gemm", net.body(net.op("Div", centred, net.op("Sqrt", square))), net.he(24, 24), out="logits")
    return net.model()


def quantised_by_the_batch(batch: Any = "n") -> bytes:
    """Values in int8 whose range is that of all images run together, as dynamic quantisation has it."""
    net = Net()
    first = net.conv("x", 3, 8)
    net.nodes.append(helper.make_node("DynamicQuantizeLinear", [first], ["q", "scale", "zero"], name="the_quantiser"))
    last = net.conv(net.op("DequantizeLinear", "q", "scale", "zero"), 8, 24)
    net.op("Gemm", net.op("Flatten", net.op("GlobalAveragePool", last)), net.he(24, 24), net.he(24), out="logits")
    return net.model(batch)


def random(kind: str = "RandomNormalLike", times: float = 1, **attributes: Any) -> bytes:
    """Something drawn at random is added."""
    scale = np.float32(times)
    return made(lambda net, x: net.op("Add", x, net.op("Mul", net.op(kind, x, **attributes), net.const(scale))))


def less_the_mean(batch: Any = "n") -> bytes:
    """The mean of all images run together is taken away, and so all of an image that is run alone."""
    return made(lambda net, x: net.op("Sub", x, net.op("ReduceMean", x, axes=[0], keepdims=1)), batch)


def over_the_largest() -> bytes:
    """Values are divided by the largest of all images run together."""
    return made(lambda net, x: net.op("Div", x, net.op("ReduceMax", x, axes=[0, 1], keepdims=1)))


def dead() -> bytes:
    return made(lambda net, x: net.op("Mul", x, net.const(np.float32(0))))


def positive(kind: str) -> bytes:
    """A network whose last layer is one of those that give nothing below 0."""
    net = Net()
    net.op(
        kind, net.op("Gemm", net.body("x"), net.he(24, 24)), out="logits", **({"axis": 1} if kind == "Softmax" else {})
    )
    return net.model()

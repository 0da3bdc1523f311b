"""What a network does with its input before it computes: where it normalises itself, nobody else may."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .nodes import attribute_of, inputs_of
from .preparation import Preparation

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

__all__ = ["contradiction"]

_Numbers = NDArray[np.float64]
_KEPT = {"Cast", "Identity", "Transpose", "Dropout", "DequantizeLinear"}
"""What leaves values as they are; of images in bytes, dequantising does too, as far as is needed here."""

_NARROWEST, _WIDEST = 0.9, 6.5  # a network wants values that lie so far apart, or all of a byte's
_BYTE = (200, 300)
_ASIDE = 0.6  # and their middle not far from 0, as a share of that
_BETTER = 0.15  # how much nearer to 0 another preparation must bring them


class _Front(NamedTuple):
    """An affine map, a number or three, and the last node that is part of it."""

    factor: _Numbers
    offset: _Numbers
    node: str


def contradiction(graph: GraphProto, name: str, given: Preparation) -> str | None:
    """Return how a preparation contradicts what a network does with its input itself, and the remedy.

    Parameters
    ----------
    graph : onnx.GraphProto
        Nodes, and the small constants.
    name : str
        Its image input.
    given : Preparation
        What is done before.

    Returns
    -------
    str or None
        None where it does nothing of the kind, or what comes out is what networks want.
    """
    front = _front(graph, name)
    if front is None:
        return None
    low, high = _range(given, front)
    others = {preset: _range(Preparation.parse(preset), front) for preset in ("raw", "unit")}
    fit = {preset: _aside(*found) for preset, found in others.items() if _wanted(*found)}
    twice = any(given.mean) and front.offset.any()
    if not fit or (_wanted(low, high) and not (twice and _aside(low, high) > min(fit.values()) + _BETTER)):
        return None
    better = min(fit, key=fit.__getitem__)
    return (
        f"the network normalises its input itself (up to the node {front.node!r}), which does not go with this "
        f"preprocess: its values become {low.min():.3g} to {high.max():.3g}. With preprocess={better!r} they become "
        f"{others[better][0].min():.3g} to {others[better][1].max():.3g}: say that (--preprocess {better}), or base "
        "yours on it"
    )


def _range(preparation: Preparation, front: _Front) -> tuple[_Numbers, _Numbers]:
    """Return what black and white become, channel by channel, the smaller first."""
    ends = [(value * preparation.scale - np.asarray(preparation.mean)) / preparation.std for value in (0, 255)]
    made = np.sort(np.stack([front.factor * end + front.offset for end in ends]), axis=0)
    return made[0], made[1]


def _aside(low: _Numbers, high: _Numbers) -> float:
    """Return how far the middle lies from 0, as a share of the width."""
    return float(np.abs((low + high) / 2 / np.maximum(high - low, 1e-12)).max())


def _wanted(low: _Numbers, high: _Numbers) -> bool:
    """Whether these are values such as networks want."""
    width = high - low
    usual = (width >= _NARROWEST) & (width <= _WIDEST) | (width >= _BYTE[0]) & (width <= _BYTE[1])
    return bool(usual.all()) and _aside(low, high) <= _ASIDE


def _front(graph: GraphProto, name: str) -> _Front | None:
    """Follow the input as long as it is only multiplied by constants, and constants are added."""
    readers: dict[str, list[NodeProto]] = {}
    makers = {output: node for node in graph.node for output in node.output}
    for node in graph.node:
        for source in set(inputs_of(node)):
            readers.setdefault(source, []).append(node)
    constants = _small(graph)
    factor, offset, last = np.ones(3), np.zeros(3), None
    while True:
        nodes = [node for node in readers.get(name, []) if node.op_type not in ("Shape", "Size")]
        if len(nodes) != 1:
            break
        (node,) = nodes
        if node.op_type in _KEPT and node.input[0] == name:
            name = node.output[0]
            continue
        if node.op_type not in ("Add", "Sub", "Mul", "Div") or list(node.input).count(name) != 1:
            break
        first = node.input[0] == name
        number = _number(node.input[1 if first else 0], constants, makers)
        if number is None or (node.op_type == "Div" and not (first and number.all())):
            break
        if node.op_type == "Add":
            offset = offset + number
        elif node.op_type == "Sub":
            factor, offset = (factor, offset - number) if first else (-factor, number - offset)
        else:
            times = number if node.op_type == "Mul" else 1 / number
            factor, offset = factor * times, offset * times
        name, last = node.output[0], node.name or node.output[0]
    return None if last is None else _Front(factor, offset, last)


def _number(name: str, constants: dict[str, _Numbers], makers: dict[str, NodeProto]) -> _Numbers | None:
    """Return a constant of one number or three, reshaped or cast on the way or not."""
    while name not in constants and name in makers:
        node = makers[name]
        if node.op_type not in ("Cast", "Identity", "Reshape", "Unsqueeze", "Squeeze"):
            return None
        name = node.input[0]
    value = constants.get(name)
    return np.resize(value, 3) if value is not None and value.size in (1, 3) and np.isfinite(value).all() else None


def _small(graph: GraphProto) -> dict[str, _Numbers]:
    """Return the constants of one number or three."""
    from onnx import numpy_helper

    found = {tensor.name: tensor for tensor in graph.initializer if not tensor.external_data}
    for node in graph.node:
        value = attribute_of(node, "value") if node.op_type == "Constant" else None
        if value is not None:
            found[node.output[0]] = value
    arrays = {key: numpy_helper.to_array(tensor) for key, tensor in found.items() if np.prod(tensor.dims) in (1, 3)}
    return {key: array.astype(np.float64).ravel() for key, array in arrays.items() if array.dtype.kind in "fiu"}

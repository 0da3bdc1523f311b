"""What lies at the end of a network: the answer of a classifier, which is not worth reading, or an embedding, which is.

Both are vectors that a layer makes. An embedding is told by what the network does with it: it brings it to unit length
or normalises it, it ends in an activation, or it goes on computing with it. Where nothing tells, the output's name
does, which exporters keep to (``image_embeds``, ``pooler_output``, ``logits``).
"""

from __future__ import annotations

import re

from ..errors import GraphError
from .axes import SHUFFLES
from .flow import COMPUTING, Flow
from .network import ONE_INPUT, Network, Tap
from .nodes import op_of

__all__ = ["ACTIVATIONS", "NORMS", "ends_in_answer", "only_pools", "only_shuffles", "target_of"]

ACTIVATIONS = {
    *("Relu", "Clip", "LeakyRelu", "PRelu", "Elu", "Celu", "Selu", "ThresholdedRelu", "Softplus", "Tanh"),
    *("Gelu", "HardSwish", "Mish", "Swish"),
    *(f"com.microsoft:{op}" for op in ("Gelu", "FastGelu", "BiasGelu", "QuickGelu")),
}
NORMS = {
    *("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization"),
    *("com.microsoft:SkipLayerNormalization", "com.microsoft:SkipSimplifiedLayerNormalization"),
}
_SHARES = {"Softmax", "LogSoftmax", "Sigmoid", "Hardmax", "HardSigmoid"}
"""What makes shares of scores."""
_LENGTHS = {"ReduceL2", "ReduceSumSquare", "ReduceL1", "ReduceSum", "ReduceMean"}
_SCALES = {"Mul", "Div", "Add", "Sub"}  # by constants
_POOLS = {
    *("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool", "AveragePool", "MaxPool"),
    *("ReduceMean", "ReduceMax", "ReduceSum", *SHUFFLES, *_SCALES),
}
_EMBEDDING = re.compile(r"embed|feat|descriptor|pool|hidden|latent|represent", re.IGNORECASE)
_ANSWER = re.compile(r"logit|prob|class|score|softmax|predict|label", re.IGNORECASE)


def target_of(network: Network, flow: Flow) -> tuple[int, bool]:
    """Return the node whose output is the network's end, and whether that is an embedding.

    Of several outputs it is an embedding, if one is, else the deepest.

    Raises
    ------
    GraphError
        When no output depends on the image, or another input is needed before the first layer.
    """
    numbers = {
        value.name: network.carriers[value.name]
        for value in network.model.graph.output
        if network.carriers.get(value.name, -1) >= 0 and value.name not in network.others
    }
    if not numbers:  # as where images and texts meet in the end
        alone = {name: n for name, n in network.carriers.items() if n >= 0 and name not in network.others}
        numbers = alone
    outputs = [value.name for value in network.model.graph.output if value.name in network.carriers]
    if not outputs:
        raise GraphError(f"no output of the network depends on its image input {network.input!r}")
    if not any(flow.computed[number] for number in numbers.values()) and outputs[0] in network.others:
        raise GraphError(f"the network also needs the input {network.others[outputs[0]]}: {ONE_INPUT}")
    embeddings = [number for name, number in numbers.items() if _is_embedding(network, flow, name, number)]
    return max(embeddings or numbers.values(), key=flow.depth.__getitem__), bool(embeddings)


def _is_embedding(network: Network, flow: Flow, name: str, number: int) -> bool:
    tap = network.find(name)
    if not isinstance(tap, Tap) or tap.area > 1:
        return False
    if _EMBEDDING.search(name) or _ANSWER.search(name):
        return not _ANSWER.search(name)
    while flow.nodes[number].op_type in SHUFFLES | _SCALES and len(flow.before[number]) == 1:
        (source,) = flow.before[number]
        if source < 0:
            return False
        number = source
    op = op_of(flow.nodes[number])
    if op in NORMS | {"BatchNormalization", "LpNormalization"} or (op in ACTIVATIONS and op != "Clip"):
        return True
    return _of_unit_length(flow, number) or _goes_on(flow, number)


def _of_unit_length(flow: Flow, number: int) -> bool:
    """Whether a node divides a vector by its own length."""
    if flow.nodes[number].op_type not in ("Div", "Mul") or len(flow.before[number]) != 2:
        return False
    start = flow.dominators[number]
    between = {flow.nodes[inner].op_type for inner in flow.needed(number) if start < inner < number}
    return bool(between & _LENGTHS) and not between & ({"Exp"} | COMPUTING)


def _goes_on(flow: Flow, number: int) -> bool:
    """Whether a layer reads a node, perhaps through others."""
    behind = {number}
    for later in range(number + 1, len(flow.nodes)):
        if not behind.isdisjoint(flow.before[later]):
            if op_of(flow.nodes[later]) in COMPUTING:
                return True
            behind.add(later)
    return False


def ends_in_answer(flow: Flow, target: int) -> int | None:
    """Return the node that the answer of a classifier is complete with; None where that is not clear.

    Everything behind the last layer before it is the answer, a map of classes that is averaged afterwards included.
    """
    for number in flow.passed(target):
        vector = number in flow.taps and flow.taps[number].area == 1
        if flow.nodes[number].op_type in _SHARES and vector:
            return number
    return target if any(_ANSWER.search(name) for name in flow.nodes[target].output) else None


def only_pools(flow: Flow, start: int, end: int) -> bool:
    """Whether nothing but pooling, and joining of what was pooled, lies between a node and one that it dominates."""
    return all(
        flow.nodes[number].op_type == "Concat"
        or (flow.nodes[number].op_type in _POOLS and len(flow.before[number]) == 1)
        for number in flow.needed(end)
        if number > start
    )


def only_shuffles(flow: Flow, start: int, end: int) -> bool:
    """Whether a node has the numbers of one that dominates it, in other shape."""
    return all(flow.nodes[number].op_type in SHUFFLES for number in flow.needed(end) if number > start)

"""How an image flows through a network: what all of it passes, and what lies beside.

A node dominates another if the image reaches the second one only through the first. What dominates the end of a
network is its trunk; the inside of blocks, gates, context at another resolution and auxiliary outputs lie beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

from .network import Network, Tap
from .nodes import inputs_of, op_of

__all__ = ["COMPUTING", "CUTS", "Flow", "runs"]

COMPUTING = {
    *("Conv", "ConvInteger", "QLinearConv", "ConvTranspose", "MatMul", "QLinearMatMul", "MatMulInteger", "Gemm"),
    *("Einsum", "Attention"),
    *(
        f"com.microsoft:{op}"
        for op in (
            *("FusedConv", "NhwcConv", "NhwcFusedConv", "QLinearConv", "FusedMatMul", "FusedGemm", "QGemm"),
            *("Attention", "QAttention", "PackedAttention", "MultiHeadAttention", "PackedMultiHeadAttention"),
            *("DynamicQuantizeMatMul", "MatMulIntegerToFloat", "MatMulNBits", "TransposeMatMul"),
        )
    ),
}
"""Operators with weights, or that mix positions: what layers are made of."""
CUTS = {"Slice", "Split", "Gather", "Pad"}
"""A window of a map or half of a roll is no smaller map, nor a rim a larger."""


class Flow:
    """The nodes of a network by number, and how the image gets from one to the next; -1 is the image itself.

    Parameters
    ----------
    network : Network

    Attributes
    ----------
    nodes : list of onnx.NodeProto
    number : dict of str to int
        The node that makes each tensor.
    before : list of list of int
        The nodes that each node reads the image from.
    depth : list of int
        The longest way from the image.
    taps : dict of int to Tap
        What can be read of a node; of a fused residual the sum.
    """

    def __init__(self, network: Network) -> None:
        self.number = carriers = network.carriers
        self.nodes = list(network.model.graph.node)
        self.before: list[list[int]] = []
        self.depth: list[int] = []
        for node in self.nodes:
            read = [name for name in inputs_of(node) if name in carriers]
            if op_of(node) == "If":  # nothing of an image gets through a condition, though it is made of one
                read = [name for name in read if name != node.input[0]] or read
            sources = sorted({carriers[name] for name in read})
            self.before.append(sources)
            self.depth.append(1 + max((self.depth[s] for s in sources if s >= 0), default=0) if sources else 0)
        self.taps: dict[int, Tap] = {}
        several = set()
        for tap in network.taps():
            number = carriers[tap.name]
            if number in self.taps and "SkipLayerNormalization" not in tap.op:
                several.add(number)
            self.taps[number] = tap
        for number in several:
            del self.taps[number]

    @cached_property
    def dominators(self) -> dict[int, int]:
        """Return each node's immediate dominator (Cooper, Harvey, Kennedy 2001)."""
        dominator = {-1: -1}
        for number, before in enumerate(self.before):
            sources = [source for source in before if source in dominator]
            if not sources:
                continue
            common = sources[0]
            for other in sources[1:]:
                while common != other:
                    if common > other:
                        common = dominator[common]
                    else:
                        other = dominator[other]
            dominator[number] = common
        return dominator

    def passed(self, target: int) -> list[int]:
        """Return the nodes that all of the image passes on its way to a node, and that one."""
        chain = []
        while target >= 0:
            chain.append(target)
            target = self.dominators[target]
        return chain[::-1]

    def read(self, target: int) -> list[Tap]:
        """Return what can be read of these, windows of maps aside."""
        return [
            self.taps[number]
            for number in self.passed(target)
            if number in self.taps and (self.taps[number].op not in CUTS or number == target)
        ]

    def needed(self, target: int) -> set[int]:
        """Return the nodes that a node needs, and that one."""
        found, todo = {target}, [target]
        while todo:
            for source in self.before[todo.pop()]:
                if source >= 0 and source not in found:
                    found.add(source)
                    todo.append(source)
        return found

    def computes(self, start: int, end: int) -> bool:
        """Whether a layer lies behind a node that `end` is dominated by, up to `end`."""
        return any(number > start and op_of(self.nodes[number]) in COMPUTING for number in self.needed(end))

    @cached_property
    def computed(self) -> list[bool]:
        """Return for each node whether a layer lies on the way to it, itself included."""
        found: list[bool] = []
        for node, before in zip(self.nodes, self.before, strict=True):
            found.append(op_of(node) in COMPUTING or any(found[source] for source in before if source >= 0))
        return found


def runs(taps: Sequence[Tap]) -> Iterator[list[Tap]]:
    """Yield runs of about as many positions: stages."""
    run: list[Tap] = []
    for tap in taps:
        if run and not (0.5 < tap.area / run[0].area < 2):
            yield run
            run = []
        run.append(tap)
    if run:
        yield run

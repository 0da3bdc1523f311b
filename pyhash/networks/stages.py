"""Which tensors of a network to read: all that can be, those at the ends of its stages, or those that are named."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..errors import GraphError
from .network import ONE_INPUT, Network, Tap, spatial
from .nodes import inputs_of
from .preparation import Layout

__all__ = ["choose_taps", "chosen_taps", "named_taps", "taps"]

_COMPUTING = {"Conv", "ConvInteger", "QLinearConv", "FusedConv", "MatMul", "Gemm", "Einsum", "ConvTranspose"}
_ACTIVATIONS = {
    *("Relu", "Clip", "LeakyRelu", "PRelu", "Elu", "Celu", "Selu", "ThresholdedRelu", "Softplus", "Tanh"),
    *("Gelu", "HardSwish", "Mish", "Swish"),
}
_MERGES = {"Add", "Sum", "Mul", "Div", "Concat"}  # ends of blocks, and x * sigmoid(x), when two inputs hold images
_CUTS = {"Slice", "Split", "Gather", "Pad"}  # a window of a map or half of a roll is no smaller map, nor a rim a larger


def taps(
    model: Any, *, size: int | tuple[int, int] | None = None, layout: Layout | None = None, input: str | None = None
) -> list[Tap]:
    """List the tensors of a network that can be read as features.

    Shapes come from ONNX's shape inference, and where that fails from running the network once on zeros.

    Parameters
    ----------
    model : path, bytes or onnx.ModelProto
        A network with one image input of float, float16, double or uint8, (n, 3, h, w) or (n, h, w, 3).
    size : int or (int, int), optional
        Side or (height, width) of the images, needed where the network leaves it open.
    layout : str, optional
        ``"nchw"`` or ``"nhwc"``, needed where neither shape nor operators tell.
    input : str, optional
        The image input, needed where several could be it.

    Returns
    -------
    list of Tap
        In the order of the graph.

    Raises
    ------
    GraphError
        When the network does not fit; the message names the node or tensor and says why.
    """
    return Network(model, size, layout, input).taps()


def choose_taps(
    model: Any,
    n: int = 4,
    *,
    size: int | tuple[int, int] | None = None,
    layout: Layout | None = None,
    input: str | None = None,
) -> list[Tap]:
    """Choose where to read a network: at the ends of its last stages.

    A stage is a run of tensors of one spatial size, and its end the last activation or merge of branches that
    everything behind it flows through. What only pools is no stage. A network whose tensors all have one size, such as
    a vision transformer, is read at even depths, after whole blocks. The hidden layer before a classifier is a stage,
    the classifier's answer is not.

    Parameters
    ----------
    model, size, layout, input
        As for `taps`.
    n : int
        How many to choose at most.

    Returns
    -------
    list of Tap
        1 to `n`, from early to late.

    Raises
    ------
    GraphError
        When the network does not fit, or no end of a stage is found.
    """
    return chosen_taps(Network(model, size, layout, input), n)


def chosen_taps(network: Network, n: int) -> list[Tap]:
    """Return what `choose_taps` does, of a network that was read already."""
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    ends = [value.name for value in network.model.graph.output if value.name in network.carriers]
    if not ends:
        raise GraphError(f"no output of the network depends on its image input {network.input!r}")
    chosen = stage_ends(network, n)
    if not chosen:
        other = next((network.others[name] for name in ends if name in network.others), None)
        if other is not None:
            raise GraphError(f"the network also needs the input {other}: {ONE_INPUT}")
        raise GraphError(
            "could not choose layers automatically; pass their names in taps= (pyhash.networks.taps lists them)"
        )
    return chosen


def named_taps(network: Network, names: Sequence[str]) -> list[Tap]:
    """Return the taps of these names; GraphError says why a tensor cannot be one, and what is near its name."""
    if isinstance(names, str) or not names or len(set(names)) != len(names):
        raise ValueError(f"taps must be one or more names, each once, got {names!r}")
    found = {name: network.find(name) for name in names}
    for name, tap in found.items():
        if isinstance(tap, str):
            near = difflib.get_close_matches(name, network.carriers, 3) if "not in the network" in tap else []
            hint = f"; near it are {', '.join(map(repr, near))}" if near else ""
            raise GraphError(f"tap {name!r} {tap}{hint}")
    return [tap for tap in found.values() if isinstance(tap, Tap)]


def trunk(network: Network) -> list[Tap]:
    """Return the taps that all of the image flows through on its way to the deepest maps, and to vectors behind.

    Side branches (the inside of residual blocks, squeeze-and-excitation, auxiliary outputs) are not among them, nor
    is a decoder, where maps grow again.
    """
    nodes = network.model.graph.node
    carriers = network.carriers
    before: list[list[int]] = []
    depth: list[int] = []
    for node in nodes:
        sources = sorted({carriers[name] for name in inputs_of(node) if name in carriers})
        before.append(sources)
        depth.append(1 + max((depth[source] for source in sources if source >= 0), default=0) if sources else 0)
    ends = [carriers[value.name] for value in network.model.graph.output if value.name in carriers]
    path = [max(ends, key=depth.__getitem__)]
    while any(source >= 0 for source in before[path[-1]]):
        path.append(max((s for s in before[path[-1]] if s >= 0), key=depth.__getitem__))
    by_node: dict[int, list[Tap]] = {}
    for tap in network.taps():
        by_node.setdefault(carriers[tap.name], []).append(tap)
    deepest, decodes = _deepest(network, path[::-1], by_node)

    def through(target: int) -> list[Tap]:
        dominator = _dominators(before, target)
        chain = []
        while target >= 0:
            if len(by_node.get(target, ())) == 1:
                chain += by_node[target]
            target = dominator[target]
        return chain[::-1]

    vectors = [] if decodes else [tap for tap in through(path[0]) if not spatial(tap)]
    return through(deepest) + [tap for tap in vectors if carriers[tap.name] > deepest]


def _deepest(network: Network, path: list[int], by_node: dict[int, list[Tap]]) -> tuple[int, bool]:
    """Return the last node of a path that gives maps or tokens, before maps grow; and whether they do."""
    smallest, computed, last = None, False, path[-1]
    for number in path:
        computed = computed or network.model.graph.node[number].op_type in _COMPUTING
        taps = by_node.get(number, [])
        # Maps of one pixel are skipped: squeeze-and-excitation makes them inside a block.
        if not computed or not taps or not spatial(taps[0]) or taps[0].op in _CUTS:
            continue
        area = int(np.prod(taps[0].positions)) if len(taps[0].positions) == 2 else None
        if area is not None:
            if smallest is not None and area >= 2 * smallest:  # less can be what convolutions pad
                return last, True
            smallest = min(area, smallest or area)
        last = number
    return last, False


def stage_ends(network: Network, n: int) -> list[Tap]:
    """Return the ends of the last `n` stages; for a network of one long stage, `n` even depths of it."""
    main = [tap for tap in trunk(network) if tap.op not in _CUTS]
    producer = {name: node for node in network.model.graph.node for name in node.output}
    carriers = network.carriers
    numbers = [carriers[tap.name] for tap in main]
    outputs = {value.name for value in network.model.graph.output}

    def merges(tap: Tap) -> bool:
        node = producer[tap.name]
        return tap.op in _MERGES and sum(name in carriers for name in node.input) > 1

    ends: list[Tap] = []
    blocks: list[Tap] = []
    for first, last in _groups(main):
        # A stage that only pools or reshapes repeats the one before it.
        start = numbers[first - 1] + 1 if first else 0
        if not any(node.op_type in _COMPUTING for node in network.model.graph.node[start : numbers[last] + 1]):
            continue
        group = main[first : last + 1]
        finished = [tap for tap in group if tap.op in _ACTIVATIONS or merges(tap) or tap.op == "LayerNormalization"]
        if spatial(group[0]) == ():
            # A classifier's answer says less than what it was computed from.
            group = [tap for tap in finished if tap.op != "LayerNormalization" and tap.name not in outputs]
            finished = group
        if finished or group:
            ends.append((finished or group)[-1])
        blocks += [tap for tap in group if spatial(tap) and merges(tap) and tap.op in ("Add", "Sum")]
    maps = [tap for tap in ends if spatial(tap)]
    if len(maps) < 3 and len(blocks) >= max(n, 4):
        depths = [round(len(blocks) * (part + 1) / n) - 1 for part in range(n)]
        return [blocks[depth] for depth in depths]
    return ends[-n:]


def _groups(taps: list[Tap]) -> Iterator[tuple[int, int]]:
    """Yield first and last place of each run of one spatial size."""
    first = 0
    for place in range(1, len(taps) + 1):
        if place == len(taps) or spatial(taps[place]) != spatial(taps[first]):
            yield first, place - 1
            first = place


def _dominators(before: list[list[int]], target: int) -> dict[int, int]:
    """Return each node's immediate dominator, -1 being the image (Cooper, Harvey, Kennedy 2001)."""
    dominator = {-1: -1}
    for number in range(target + 1):
        sources = [source for source in before[number] if source in dominator]
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

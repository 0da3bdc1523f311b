"""Which tensors of a network to read: all that can be, those at the ends of its stages, or those that are named."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from ..errors import GraphError
from .ends import ACTIVATIONS, NORMS, ends_in_answer, only_pools, only_shuffles, target_of
from .flow import COMPUTING, CUTS, Flow, runs
from .network import Network, Tap
from .nodes import op_of
from .preparation import Layout, Preparation
from .source import backbone_of

__all__ = ["choose_taps", "chosen_taps", "named_taps", "taps"]

_MERGES = {"Add", "Sum", "Mul", "Div", "Concat"}  # ends of blocks, and x * sigmoid(x), when two inputs hold images
_RESIDUALS = {"Add", "Sum", "com.microsoft:SkipLayerNormalization", "com.microsoft:SkipSimplifiedLayerNormalization"}
_ATTENTION = {"Softmax", "Attention", *(f"com.microsoft:{op}" for op in ("Attention", "MultiHeadAttention"))}
_MIXES = {"Conv", "AveragePool", "MaxPool", "com.microsoft:FusedConv"}


def taps(
    model: Any, *, size: int | tuple[int, int] | None = None, layout: Layout | None = None, input: str | None = None
) -> list[Tap]:
    """List the tensors of a network that can be read as features.

    Shapes come from ONNX's shape inference, and where that fails from running the network once on zeros.

    Parameters
    ----------
    model : path, bytes or onnx.ModelProto
        A network with one image input of float, float16, double or uint8, (n, 3, h, w) or (n, h, w, 3); or the name of
        one of the hub, as `pyhash.Encoder` takes it.
    size : int or (int, int), optional
        Side or (height, width) of the images, needed where neither the network nor its repository tells.
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
    return _network(model, size, layout, input).taps()


def choose_taps(
    model: Any,
    n: int = 4,
    *,
    size: int | tuple[int, int] | None = None,
    layout: Layout | None = None,
    input: str | None = None,
) -> list[Tap]:
    """Choose where to read a network: at the ends of its last stages.

    A stage is a run of tensors of about one spatial size, and its end the last activation or merge of branches that
    everything behind it flows through. What only pools is no stage. A network whose blocks all have one size, such as
    a vision transformer, is read at even depths, after whole blocks. The hidden layer before a classifier is a stage,
    and so is an embedding that the network gives; the classifier's answer is not.

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
        When the network does not fit, no end of a stage is found, or less than half of the layers on the way can be
        read.
    """
    return chosen_taps(_network(model, size, layout, input), n)


def _network(model: Any, size: int | tuple[int, int] | None, layout: Layout | None, input: str | None) -> Network:
    """Read a network; for one of the hub, its repository says what is not given."""
    backbone = backbone_of(model)
    prepared = backbone.preparation or Preparation()
    return Network(backbone.model, size or prepared.size, layout or prepared.layout, input)


def chosen_taps(network: Network, n: int) -> list[Tap]:
    """Return what `choose_taps` does, of a network that was read already."""
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    flow = Flow(network)
    target, embeds = target_of(network, flow)
    _check_share(network, flow, target)
    chosen = stage_ends(network, flow, target, n, embeds=embeds)
    if not chosen:
        raise GraphError(
            "could not choose layers automatically; pass their names in taps= (pyhash.networks.taps lists them)"
        )
    return chosen


def _check_share(network: Network, flow: Flow, target: int) -> None:
    """Raise GraphError when most ends of blocks on the way to a node cannot be read: what is left says little."""
    ends = [number for number in flow.passed(target) if op_of(flow.nodes[number]) in ACTIVATIONS | NORMS | _RESIDUALS]
    unread = [number for number in ends if number not in flow.taps]
    if 2 * len(unread) > len(ends):
        name, end = flow.nodes[unread[0]].output[0], flow.nodes[target].output[0]
        raise GraphError(
            f"only {1 - len(unread) / len(ends):.0%} of the layers on the way to {end!r} can be read: "
            f"{name!r} {network.find(name)}; pass names in taps= to read what can be all the same"
        )


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


def stage_ends(network: Network, flow: Flow, target: int, n: int, *, embeds: bool) -> list[Tap]:
    """Return the ends of the last `n` stages before a node; for a network of one long stage, `n` even depths of it."""
    maps, vectors = _trunk(network, flow, target, embeds)
    ends: list[Tap] = []
    blocks: list[list[Tap]] = []
    last = -1
    for run in runs(maps):
        number = flow.number[run[-1].name]
        # A stage that only pools or reshapes repeats the one before it.
        if any(op_of(flow.nodes[inner]) in COMPUTING for inner in range(last + 1, number + 1)):
            ends.append(next((tap for tap in reversed(run) if _finishes(flow, tap)), run[-1]))
            blocks.append([tap for tap in run if tap.op in _RESIDUALS and _merges(flow, tap)])
        last = number
    residual = [run for run in blocks if run]
    n_maps = n - len(vectors)
    if (len(residual) == 1 or len(ends) < 3) and sum(map(len, residual)) >= max(n, 4):
        whole = _whole_blocks(flow, [tap for run in residual for tap in run])
        ends = [whole[round(len(whole) * (part + 1) / n_maps) - 1] for part in range(n_maps)]
    return [*ends[max(len(ends) - n_maps, 0) :], *vectors][-n:]


def _trunk(network: Network, flow: Flow, target: int, embeds: bool) -> tuple[list[Tap], list[Tap]]:
    """Return the maps and tokens that all of the image flows through, from large to small, and the vector behind.

    The vector is the embedding that the network gives, or the hidden layer before a classifier; there may be none.
    """
    way = flow.read(target)
    maps, decodes = _shrinking(flow, way, target)
    vectors = [tap for tap in way if tap.area == 1]
    if decodes or not vectors:
        return maps, []
    complete = None if embeds else ends_in_answer(flow, target)
    if complete is not None:
        maps = [tap for tap in maps if flow.computes(flow.number[tap.name], complete)]
    start = flow.number[maps[-1].name] if maps else -1
    outputs = {value.name for value in network.model.graph.output}
    hidden: list[Tap] = []
    for tap in vectors:
        number = flow.number[tap.name]
        # What a classifier answers says less than what it was computed from, whatever is made of it afterwards.
        if number > start and (embeds or flow.computes(number, target if complete is None else complete)):
            before = flow.number[hidden[-1].name] if hidden else start
            if tap.name in outputs and hidden and only_shuffles(flow, before, number):
                hidden[-1] = tap  # the same under the name that the network gives it
            elif tap.name in outputs or (_finishes(flow, tap) and tap.op not in NORMS):
                hidden += [] if only_pools(flow, before, number) else [tap]
    return maps, hidden[-1:]


def _shrinking(flow: Flow, way: list[Tap], target: int) -> tuple[list[Tap], bool]:
    """Return the maps of a trunk as far as they shrink, and whether what comes behind them makes them grow again.

    The deepest of the smallest maps need not be on the way to the end: a decoder goes round them by its skip
    connections. A branch at a lower resolution is no deeper part of the trunk: the trunk goes on without it.
    """
    direct = _until_growth([tap for tap in way if flow.computed[flow.number[tap.name]]])
    needed = flow.needed(target)
    small = [
        number
        for number, tap in flow.taps.items()
        if number in needed and tap.area > 1 and flow.computed[number] and tap.op not in CUTS
    ]
    if not small:
        return direct, False
    deepest = max(small, key=lambda number: (-flow.taps[number].area, flow.depth[number]))
    round_about = _until_growth([tap for tap in flow.read(deepest) if flow.computed[flow.number[tap.name]]])
    n_direct, n_round = sum(1 for _ in runs(direct)), sum(1 for _ in runs(round_about))
    comes_back = bool(direct) and deepest in flow.needed(flow.number[direct[-1].name])
    if n_round <= n_direct:
        return direct, False
    if not comes_back:
        return round_about, False
    branch = n_round == n_direct + 1 or n_direct > 2 if way[-1].area == 1 else n_round == n_direct + 1 and n_direct > 2
    return (direct, False) if branch else (round_about, True)


def _until_growth(taps: list[Tap]) -> list[Tap]:
    """Return the maps of a trunk up to where they grow, which less than twice is not: convolutions pad."""
    kept: list[Tap] = []
    smallest = None
    for tap in taps:
        if tap.area == 1:
            continue
        if smallest is not None and tap.area >= 2 * smallest:
            break
        smallest = min(tap.area, smallest or tap.area)
        kept.append(tap)
    return kept


def _merges(flow: Flow, tap: Tap) -> bool:
    node = flow.nodes[flow.number[tap.name]]
    return sum(name in flow.number for name in node.input) > 1


def _finishes(flow: Flow, tap: Tap) -> bool:
    """Whether a tensor is the end of a block, or of a layer: an activation, a merge of branches, a norm."""
    if tap.op in ACTIVATIONS | NORMS:
        return True
    return tap.op in _MERGES and _merges(flow, tap)


def _whole_blocks(flow: Flow, residuals: list[Tap]) -> list[Tap]:
    """Return those residual sums that end a block: what is added there is of the kind that is added last of all.

    A block of a transformer has two, behind the attention and behind the layers that work on each position alone.
    """
    kinds: list[tuple[bool, ...]] = []
    start = -1
    for tap in residuals:
        end = flow.number[tap.name]
        inside = flow.nodes[start + 1 : end]
        ops = set(map(op_of, inside))
        attends = bool(ops & _ATTENTION) or any(
            node.op_type in ("MatMul", "Einsum") and sum(name in flow.number for name in node.input) > 1
            for node in inside
        )
        kinds.append((attends, bool(ops & (ACTIVATIONS | {"Sigmoid", "Erf"})), bool(ops & _MIXES), "Transpose" in ops))
        start = end
    whole = [tap for tap, kind in zip(residuals, kinds, strict=True) if kind == kinds[-1]]
    return whole if 3 * len(whole) >= len(residuals) else residuals

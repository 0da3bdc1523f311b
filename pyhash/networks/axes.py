"""What the axes of tensors mean, followed from operator to operator.

ONNX does not say which axis of a tensor holds the channels. The operators do: convolutions and pools take channels
first, a Transpose swaps, a Reshape merges and splits, most others keep. Axes are written as a word, a letter each:
``n`` images, ``c`` channels, ``h`` and ``w`` height and width, ``t`` positions in a row, such as tokens. So ``"nchw"``
is a map, and ``"ntc"`` tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..errors import GraphError
from .nodes import attribute_of, op_of, title

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

__all__ = ["CHANNELS_FIRST", "SHUFFLES", "axes_made", "refuse_blocked"]

CHANNELS_FIRST = {
    *("Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool"),
    *("BatchNormalization", "InstanceNormalization", "GroupNormalization", "LRN", "DepthToSpace", "SpaceToDepth"),
    *("QLinearConv", "ConvInteger", "GlobalLpPool", "com.microsoft:FusedConv"),
}
"""Operators that take channels after the images."""
_CHANNELS_LAST = {
    *("com.microsoft:NhwcConv", "com.microsoft:NhwcFusedConv", "com.microsoft:NhwcMaxPool"),
    *("com.microsoft:GroupNorm", "com.microsoft:SkipGroupNorm"),
}
_EITHER = {
    *("com.microsoft:QLinearConv", "com.microsoft:QLinearAveragePool", "com.microsoft:QLinearGlobalAveragePool"),
}
"""Those that say with ``channels_last``."""
SHUFFLES = {"Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Cast", "Identity", "Dropout"}
"""Operators that only move numbers."""
_MERGING = {"Reshape", "Flatten", "Squeeze", "Unsqueeze"}
_BLOCKED = ("com.microsoft.nchwc", "com.ms.internal.nhwc")  # domains of layouts that are private to ONNX Runtime

_Shape = tuple[int, ...]


def refuse_blocked(model: ModelProto) -> None:
    """Raise GraphError when ONNX Runtime has laid tensors out for one kind of CPU: their axes are not those told."""
    for node in model.graph.node:
        if node.domain in _BLOCKED:
            raise GraphError(
                f"node {title(node)} of {node.domain} works on channels in blocks: the file was saved by ONNX Runtime "
                "after it was optimised for one machine; save it without optimisation, or take the file before"
            )


def axes_made(
    node: NodeProto,
    sources: Sequence[str],
    shapes: Mapping[str, _Shape],
    known: Mapping[str, str],
    shape: _Shape,
    batch: int,
) -> str | None:
    """Return the axes of what a node makes; None where they are not known.

    Parameters
    ----------
    node : onnx.NodeProto
    sources : sequence of str
        The tensors of the image that it reads.
    shapes : mapping of str to tuple of int
    known : mapping of str to str
        Axes of tensors before it.
    shape : tuple of int
        Of what it makes.
    batch : int
        How many images that is for.
    """
    rank, op = len(shape), op_of(node)
    if rank == 2:
        return "nc" if shape[0] == batch else None
    if rank not in (3, 4) or not sources:
        return None
    spatial = _spatial_operator(op, node)
    if spatial is not None:
        return spatial if rank == 4 else spatial.replace("hw", "t")
    source = sources[0]
    axes, before = known.get(source), shapes.get(source, ())
    if op == "Transpose":
        perm = attribute_of(node, "perm", range(rank)[::-1])
        return "".join(axes[place] for place in perm) if axes and sorted(perm) == list(range(len(axes))) else None
    if op in _MERGING and before != shape:
        return _reshaped(axes, before, shape) if axes else None
    same = [known[name] for name in sources if name in known and len(shapes[name]) == rank]
    if same:
        return same[0]
    return (
        None if axes and len(before) > rank else _guessed(shape, batch)
    )  # an axis is gone, and which one is not clear


def _spatial_operator(op: str, node: NodeProto) -> str | None:
    if op in _EITHER:
        return "nhwc" if attribute_of(node, "channels_last", 0) else "nchw"
    return "nchw" if op in CHANNELS_FIRST else "nhwc" if op in _CHANNELS_LAST else None


def _guessed(shape: _Shape, batch: int) -> str | None:
    """Return the axes of three that nothing is known of: those of tokens, which have their channels last."""
    if len(shape) != 3 or batch not in shape[:2]:
        return None
    return "ntc" if shape[0] == batch else "tnc"


def _reshaped(axes: str, before: _Shape, after: _Shape) -> str | None:
    """Return the axes after a reshape that merges or splits neighbouring positions, or adds and drops axes of one."""
    start = 0
    while start < min(len(before), len(after)) and before[start] == after[start]:
        start += 1
    end = 0
    while end < min(len(before), len(after)) - start and before[-1 - end] == after[-1 - end]:
        end += 1
    old, new = axes[start : len(axes) - end], len(after) - start - end
    mixes = "n" in old or "c" in old or new > 2 or (new == 2 and len(old) > 1)
    if mixes or (new and not old and set(axes) & set("hwt")):
        return None
    return axes[:start] + ("", "t", "hw")[new] + axes[len(axes) - end :]

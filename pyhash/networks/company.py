"""Whether what a network gives for an image is a function of that image alone, found by trying.

One image is run twice, and it and another one with others beside them. A network that has chance in it gives something
else each time, and none can be made an encoder of; one that looks at all images of a run together (a range of dynamic
quantisation, a mean over the batch) gives something else in company, and can be run image by image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import GraphError
from .nodes import attribute_of, inputs_of

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

__all__ = ["needs_to_be_alone", "probes"]

Run = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Gives rows (n, columns) for images run together."""

_OF_DIFFERENCE, _OF_LENGTH = 3e-4, 2e-5
"""What rounding may do to a row: of how two images differ, and of its own length. A batch is added up in another
order; int8 ranges that change with the company do ten times as much."""

_REPEATS = 8  # of a network with chance in it, which need not show each time
_CHANCE = {
    *("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"),
    *("Multinomial", "Bernoulli"),
}
_OVER_AXES = {f"Reduce{kind}" for kind in ("Mean", "Max", "Min", "Sum", "L1", "L2", "SumSquare", "LogSumExp", "Prod")}


def probes(height: int, width: int) -> NDArray[np.uint8]:
    """Return four images that differ in all that a network may take together: uint8 (4, height, width, 3)."""
    rng = np.random.default_rng(0)
    down, across = np.linspace(0, 1, height)[:, None, None], np.linspace(0, 1, width)[None, :, None]
    faint = 110 + 30 * across + rng.normal(0, 4, (height, width, 3))
    bright = 60 + 150 * down * across + rng.normal(0, 12, (height, width, 3))
    noise = rng.integers(0, 256, (height, width, 3))
    halves = np.broadcast_to(255.0 * (down > 0.5), (height, width, 3)) + rng.normal(0, 1, (height, width, 3))
    return np.clip(np.stack([faint, bright, noise, halves]), 0, 255).astype(np.uint8)


def needs_to_be_alone(
    run: Run, images: NDArray[np.uint8], batch: int, graph: GraphProto | None, *, copies: int = 1
) -> str | None:
    """Try whether an image's row depends on what is run with it.

    Parameters
    ----------
    run : callable
        Runs images together, as many as `batch` or `copies`.
    images : uint8 array, shape (4, height, width, 3)
        As `probes` makes them.
    batch : int
        How many are run together.
    graph : onnx.GraphProto or None
        The network, to say which node is the cause.
    copies : int
        How often an image is run at once to be alone: more than 1 where the network takes no other number.

    Returns
    -------
    str or None
        None where it does not; else the reason.

    Raises
    ------
    GraphError
        When an image's row is not always the same, or says nothing without others.
    """
    first = [np.repeat(image[None], copies, axis=0) for image in images[:2]]
    alone = [run(part)[:1] for part in first]
    chance = _chance(graph)
    for _ in range(_REPEATS if chance else 1):
        again = run(first[0])[:1]
        if not np.array_equal(again, alone[0], equal_nan=True) and (chance or _differ(again, alone[0], alone)):
            where = f"; the node {chance!r} draws at random" if chance else ""
            raise GraphError(
                f"it gives something else each time for one image{where}: export the network for inference, in "
                "evaluation mode"
            )
    if batch == 1:
        return None
    # Each of the two stands at another place, with all of the others beside it as far as there is room.
    together = [run(np.resize(np.roll(images, -place, axis=0), (batch, *images.shape[1:]))) for place in (0, 1)]
    if not any(_differ(rows[:1], one, alone) for rows, one in zip(together, alone, strict=True)):
        return None
    where = "".join(f", by the node {name!r}" for name in _mixing(graph))
    reason = f"what it gives for an image depends on the images that are run with it{where}"
    if np.array_equal(alone[0], alone[1]):
        raise GraphError(f"{reason}; alone, all images give the same, so no codes can be made of it")
    return reason


def _differ(a: NDArray[np.float32], b: NDArray[np.float32], alone: list[NDArray[np.float32]]) -> bool:
    """Whether two rows differ by more than rounding."""
    if np.isnan(a).any() or np.isnan(b).any():
        return not np.array_equal(np.isnan(a), np.isnan(b))
    allowed = max(_OF_DIFFERENCE * np.linalg.norm(alone[0] - alone[1]), _OF_LENGTH * np.linalg.norm(b))
    return bool(np.linalg.norm(a - b) > allowed)


def _chance(graph: GraphProto | None) -> str | None:
    """Return the name of a node that draws at random, if there is one."""
    if graph is None:
        return None
    return next((_name(node) for node in graph.node if node.op_type in _CHANCE), None)


def _mixing(graph: GraphProto | None) -> Iterator[str]:
    """Yield the name of the first node that takes the images of a run together, if one is known to."""
    constants = _constants(graph) if graph is not None else {}
    for node in graph.node if graph is not None else ():
        axes = attribute_of(node, "axes")
        if axes is None and len(node.input) > 1:
            axes = constants.get(node.input[1])
        reduces = node.op_type in _OVER_AXES and (axes is None or 0 in np.atleast_1d(axes))
        trains = node.op_type == "BatchNormalization" and attribute_of(node, "training_mode", 0)
        if reduces or trains or node.op_type == "DynamicQuantizeLinear":
            yield _name(node)
            return


def _constants(graph: GraphProto) -> dict[str, NDArray[np.generic]]:
    """Return the small constants of a graph."""
    from onnx import numpy_helper

    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer if not tensor.external_data}
    for node in graph.node:
        value = attribute_of(node, "value") if node.op_type == "Constant" else None
        if value is not None:
            found[node.output[0]] = numpy_helper.to_array(value)
    return found


def _name(node: NodeProto) -> str:
    return node.name or f"{node.op_type} of {next(inputs_of(node), '')}".strip()

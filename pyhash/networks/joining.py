"""Several networks side by side in one model: the same images in, the features of all of them out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..errors import GraphError
from ..support import require
from .features import BATCH, FEATURES, IMAGES, fixed_batch
from .metadata import Metadata, TapNote, metadata_of, set_metadata
from .nodes import FLOAT, Emitter, opset, prune, subgraphs
from .onnx_file import check, lift, read_model

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["join_features"]

_OURS = "pyhash/"  # how the names of nodes begin that are not of the network itself
_QUANTIZED = (None, "weights", "int8")


def join_features(models: Mapping[str, Any]) -> ModelProto:
    """Put networks that give features side by side: the result gives the features of all, one after the other.

    Each network normalises the same images in its own way, and each of its taps keeps its length, 1 unless it was made
    otherwise, so that no network outweighs another. Every tensor and node of a network gets the network's name before
    its own, and so do the taps.

    Parameters
    ----------
    models : mapping of str to path, bytes or onnx.ModelProto
        At least two, as `add_features` returns them, perhaps with int8 weights (`pyhash.networks.int8`); by names
        without ``/``. They must take images of one size, resized and cropped alike.

    Returns
    -------
    onnx.ModelProto
        As `add_features` returns one: `feature_blocks`, `add_head` and the rest take it.

    Raises
    ------
    ValueError
        When there are fewer than two, or a name is empty or has a ``/``.
    GraphError
        When a model does not give features, or they do not take the same images.
    """
    if len(models) < 2 or any(not name or "/" in name for name in models):
        raise ValueError(f"models must be at least two, by names without '/', got {list(models)}")
    networks = {name: read_model(model) for name, model in models.items()}
    notes = {name: metadata_of(network) for name, network in networks.items()}
    joined = {name: _vectors(name, network) for name, network in networks.items()}
    told, batch = _common(notes, networks)

    newest = max(map(opset, networks.values()))
    version = max(network.ir_version for network in networks.values())
    result: ModelProto = require("onnx", "graph").ModelProto(ir_version=version)
    result.graph.name = "side by side"
    domains: dict[str, int] = {}
    for name, network in networks.items():
        lifted = network if opset(network) == newest else lift(network, newest)
        _put_before(f"{name}/", lifted.graph)
        for field in ("node", "initializer", "sparse_initializer", "quantization_annotation"):
            getattr(result.graph, field).extend(getattr(lifted.graph, field))
        for entry in lifted.opset_import:
            if domains.setdefault(entry.domain, entry.version) != entry.version:
                raise GraphError(f"the networks need several versions of the operators of {entry.domain!r}")
    result.opset_import.extend(require("onnx", "graph").helper.make_opsetid(*entry) for entry in domains.items())

    helper = require("onnx", "graph").helper
    tail = Emitter(result)
    tail.emit("Concat", [vector for vectors in joined.values() for vector in vectors], output=FEATURES, axis=1)
    result.graph.node.extend(tail.nodes)
    images = next(iter(networks.values())).graph.input[0]
    shape = [batch or BATCH, *(side.dim_value for side in images.type.tensor_type.shape.dim[1:])]
    width = sum(tap.dim or 0 for tap in told.taps)
    rows = helper.make_tensor_value_info(FEATURES, FLOAT, [batch or BATCH, width])
    prune(result, helper.make_tensor_value_info(IMAGES, images.type.tensor_type.elem_type, shape), [rows])
    set_metadata(result, told)
    check(result)
    return result


def _vectors(name: str, network: ModelProto) -> list[str]:
    """Return the tensors that a network's features are joined of, as they will be called; GraphError for none."""
    made = [node for node in network.graph.node if list(node.output) == [FEATURES] and node.op_type == "Concat"]
    inputs = [value.name for value in network.graph.input]
    if not made or inputs != [IMAGES] or FEATURES not in [value.name for value in network.graph.output]:
        raise GraphError(f"the network {name!r} does not give features: it must be as add_features returns it")
    return [f"{name}/{vector}" for vector in made[0].input]


def _common(notes: Mapping[str, Metadata], networks: Mapping[str, ModelProto]) -> tuple[Metadata, int | None]:
    """Return what the networks say together, and the batch that they take; GraphError where they contradict."""
    batch = None
    for name, network in networks.items():
        fixed = fixed_batch(network)
        if batch and fixed and fixed != batch:
            raise GraphError(f"the networks must take one batch size: {name!r} takes {fixed}, one before it {batch}")
        batch = batch or fixed
    first, told = next(iter(notes.items()))
    for name, note in notes.items():
        for key in ("size", "resize", "crop", "crop_fraction", "fill"):
            ours, theirs = getattr(told, key), getattr(note, key)
            if ours != theirs:
                raise GraphError(f"the networks must have one {key}: {first!r} has {ours}, {name!r} has {theirs}")
    taps = tuple(
        TapNote(f"{name}/{tap.name}", tap.dim, tap.pooling) for name, note in notes.items() for tap in note.taps
    )
    quantized = max((note.quantized for note in notes.values()), key=_QUANTIZED.index)
    return replace(told, taps=taps, quantized=quantized), batch


def _put_before(prefix: str, graph: Any) -> None:
    """Put a prefix before every name but that of the images, in the graphs inside nodes as well."""

    def renamed(name: str) -> str:
        return prefix + name if name not in ("", IMAGES) else name

    for node in graph.node:
        ours = node.name.startswith(_OURS)
        node.name = _OURS + prefix + node.name.removeprefix(_OURS) if ours else renamed(node.name)
        for field in (node.input, node.output):
            field[:] = map(renamed, field)
        for inner in subgraphs(node):
            _put_before(prefix, inner)
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.name = renamed(value.name)
    for tensor in graph.sparse_initializer:
        tensor.values.name, tensor.indices.name = renamed(tensor.values.name), renamed(tensor.indices.name)
    for note in graph.quantization_annotation:
        note.tensor_name = renamed(note.tensor_name)
        for entry in note.quant_parameter_tensor_names:
            entry.value = renamed(entry.value)

"""Heads and levels in a network's graph: features become logits, and an encoder is cut down to some of its levels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..codes import Levels
from ..errors import GraphError
from ..support import require
from .features import BATCH, FEATURES, add_features, feature_blocks, fixed_batch
from .metadata import TapNote, metadata_of, set_metadata
from .model import all_patches
from .network import Network
from .nodes import FLOAT, Emitter, free_names, prune
from .onnx_file import check, read_model
from .preparation import Preparation
from .stages import named_taps

if TYPE_CHECKING:
    from onnx import ModelProto, ValueInfoProto

__all__ = ["EMBEDDING", "LOGITS", "Affine", "add_head", "give_embedding", "replace_head", "select_levels"]

LOGITS, EMBEDDING = "logits", "embedding"
"""Names of the outputs."""


class Affine(Protocol):
    """An affine map, ``features @ weight + bias``: a head, or the projection before it."""

    @property
    def weight(self) -> NDArray[np.float32]:
        """Shape (dim, bits)."""

    @property
    def bias(self) -> NDArray[np.float32]:
        """Shape (bits,)."""


def add_head(
    model: ModelProto,
    head: Affine,
    levels: Mapping[str, int],
    *,
    embedding: Affine | None = None,
    parts: Mapping[str, slice] | None = None,
    spread: Sequence[float] = (),
    made_of: Mapping[str, str] | None = None,
    name: str = "encoder",
    training: str = "",
) -> ModelProto:
    """Put a head on a network that gives features: the result is an encoder.

    A level whose weights are zero for some taps does not read them. If that is so, every level becomes an output of
    its own, ``logits_LEVEL``, beside ``logits``, which has all of them; `select_levels` cuts the network down to what
    one of them needs.

    Parameters
    ----------
    model : onnx.ModelProto
        As `add_features` returns it; it is not changed.
    head : object with ``weight`` (dim, bits) and ``bias`` (bits,)
        ``bit = features @ weight + bias > 0``.
    levels : mapping of str to int
        Names and bits of the levels, in the order of the columns.
    embedding : object with ``weight`` (dim, components) and ``bias`` (components,), optional
        A projection that comes before the head, which is then one of its result, ``features @ weight + bias``; that
        becomes the output ``embedding``, beside ``logits``.
    parts : mapping of str to slice, optional
        Which columns of the projection read which tap, for one that reads each by itself. Then a level needs those
        taps only of whose numbers it makes something.
    spread : sequence of float
        Variances of the embedding's numbers over images in general, whose mean is to be 0; kept in the file, where a
        head that is fitted on few images finds them (`pyhash.heads.adapt`).
    made_of : mapping of str to str, optional
        What the bits of each level are made of, as `Metadata` says it.
    name, training : str
        What the encoder is called, and what it was trained on; kept in the file.

    Returns
    -------
    onnx.ModelProto

    Raises
    ------
    ValueError
        When shapes do not fit.
    GraphError
        When the result is not a valid model.
    """
    levels = Levels(levels)
    blocks = feature_blocks(model)
    dim = max(columns.stop for columns in blocks.values())
    result = read_model(model)
    free_names(
        result, [LOGITS, *(f"{LOGITS}_{level}" for level in levels), *([EMBEDDING] if embedding is not None else [])]
    )
    tail = Emitter(result)
    told = metadata_of(model)
    outputs = []
    if embedding is None:
        source, vectors = FEATURES, dict(zip(blocks, _joined(result), strict=True))
    else:
        projection, origin = _affine("embedding", embedding, dim, None)
        dim, source = projection.shape[1], EMBEDDING
        if parts is not None:
            told = replace(told, taps=_with_components(told.taps, parts))
        blocks, vectors = _emit_embedding(
            tail, dict(zip(blocks, _joined(result), strict=True)), blocks, parts, projection, origin
        )
        outputs.append((EMBEDDING, dim))
    weight, bias = _affine("head", head, dim, levels.bits)
    partial = _emit_levels(tail, source, vectors, blocks, weight, bias, levels)
    result.graph.node.extend(tail.nodes)
    named = [(LOGITS, levels.bits), *outputs, *partial]
    prune(result, result.graph.input[0], [_rows(result, output, width) for output, width in named])
    if len(spread) not in (0, dim):
        raise ValueError(f"spread must have {dim} variances, one for each number of the embedding, got {len(spread)}")
    told = replace(told, name=name, training=training, levels=levels, made_of=made_of or {}, spread=tuple(spread))
    set_metadata(result, replace(told, schema=told.needed_schema))
    check(result)
    return result


def _emit_embedding(
    tail: Emitter,
    taps: Mapping[str, str],
    blocks: Mapping[str, slice],
    parts: Mapping[str, slice] | None,
    projection: NDArray[np.float32],
    origin: NDArray[np.float32],
) -> tuple[dict[str, slice], dict[str, str]]:
    """Emit the embedding; return which of its columns are a vector of their own, and the tensors of these vectors."""
    if parts is None:
        tail.emit("Gemm", [FEATURES, tail.const(projection), tail.const(origin)], output=EMBEDDING)
        return {EMBEDDING: slice(0, len(origin))}, {EMBEDDING: EMBEDDING}
    rest, vectors = projection.copy(), {}
    for tap, columns in parts.items():
        matrix, offset = tail.const(projection[blocks[tap], columns]), tail.const(origin[columns])
        vectors[tap] = tail.emit("Gemm", [taps[tap], matrix, offset])
        rest[blocks[tap], columns] = 0
    if rest.any():
        raise ValueError("embedding must read one tap with each of its columns, as parts say")
    tail.emit("Concat", list(vectors.values()), output=EMBEDDING, axis=1)
    return dict(parts), vectors


def _joined(model: ModelProto) -> list[str]:
    """Return the tensors that the features are joined of, one a tap."""
    (joined,) = (node for node in model.graph.node if list(node.output) == [FEATURES])
    return list(joined.input)


def _with_components(taps: Sequence[TapNote], parts: Mapping[str, slice]) -> tuple[TapNote, ...]:
    """Note how many numbers of the embedding come from each tap."""
    ends = [0, *(columns.stop for columns in parts.values())]
    if list(parts) != [tap.name for tap in taps] or [columns.start for columns in parts.values()] != ends[:-1]:
        raise ValueError(
            f"parts must follow each other, for the taps {', '.join(tap.name for tap in taps)}, got {parts}"
        )
    return tuple(
        replace(tap, components=columns.stop - columns.start) for tap, columns in zip(taps, parts.values(), strict=True)
    )


def replace_head(
    model: Any, head: Affine, levels: Mapping[str, int], *, made_of: Mapping[str, str], training: str = ""
) -> ModelProto:
    """Give an encoder another head on its embedding.

    Parameters
    ----------
    model : path, bytes or onnx.ModelProto
        An encoder with the output ``embedding``; what is behind that is left out. It is not changed.
    head : object with ``weight`` (dim, bits) and ``bias`` (bits,)
    levels : mapping of str to int
    made_of : mapping of str to str
        What the bits of each level are made of, as `Metadata` says it.
    training : str
        What the network and the head were trained on; kept in the file.

    Returns
    -------
    onnx.ModelProto

    Raises
    ------
    ValueError
        When shapes do not fit.
    GraphError
        When the model has no embedding.
    """
    result, levels = read_model(model), Levels(levels)
    kept = [value for value in result.graph.output if value.name == EMBEDDING]
    if not kept:
        raise GraphError(f"the model gives codes alone, it has no output {EMBEDDING!r}")
    prune(result, result.graph.input[0], kept)
    free_names(result, [LOGITS])
    weight, bias = _affine("head", head, np.shape(head.weight)[0], levels.bits)
    tail = Emitter(result)
    tail.emit("Gemm", [EMBEDDING, tail.const(weight), tail.const(bias)], output=LOGITS)
    result.graph.node.extend(tail.nodes)
    result.graph.output.insert(0, _rows(result, LOGITS, levels.bits))
    set_metadata(result, replace(metadata_of(result), levels=levels, made_of=made_of, training=training))
    check(result)
    return result


def give_embedding(
    model: Any, output: str, preprocess: str | Mapping[str, Any] | Preparation, *, name: str = "encoder"
) -> ModelProto:
    """Turn any network into one that takes images and gives an embedding, which `replace_head` makes an encoder of.

    Parameters
    ----------
    model : path, bytes or onnx.ModelProto
    output : str
        The tensor that is the embedding; of a map of one pixel the vector, of tokens the class token, or the mean of
        all where there is none.
    preprocess : str or mapping
        As for `add_features`.
    name : str
        Kept in the file.

    Returns
    -------
    onnx.ModelProto

    Raises
    ------
    GraphError
        When the network does not fit; the message names the node or tensor and says why.
    """
    wanted = Preparation.parse(preprocess)
    network = Network(model, wanted.size, wanted.layout)
    (tap,) = named_taps(network, [output])
    if tap.kind == "vector":
        pooling = "none"
    else:  # as `Model` reads it
        pooling = "cls" if tap.kind == "tokens" and not all_patches(tap.positions[0], network.size) else "gap"
    result = add_features(model, [output], wanted, pooling=[pooling], normalize=False)
    free_names(result, [EMBEDDING])
    tail = Emitter(result)
    tail.emit("Identity", [FEATURES], output=EMBEDDING)
    result.graph.node.extend(tail.nodes)
    prune(result, result.graph.input[0], [_rows(result, EMBEDDING, tap.channels)])
    told = replace(metadata_of(result), name=name)
    set_metadata(result, replace(told, schema=told.needed_schema))
    check(result)
    return result


def _rows(model: ModelProto, name: str, width: int) -> ValueInfoProto:
    """Declare an output of floats, a row an image."""
    declared: ValueInfoProto = require("onnx", "graph").helper.make_tensor_value_info(
        name, FLOAT, [fixed_batch(model) or BATCH, width]
    )
    return declared


def _emit_levels(
    tail: Emitter,
    source: str,
    vectors: Mapping[str, str],
    blocks: Mapping[str, slice],
    weight: NDArray[np.float32],
    bias: NDArray[np.float32],
    levels: Levels,
) -> list[tuple[str, int]]:
    """Emit the logits; return names and widths of the outputs of single levels, where levels read different taps.

    The features are the tensor `source`; `vectors` are those of each tap, and `blocks` says which rows of the weight
    are theirs.
    """
    read = {
        level: [tap for tap, rows in blocks.items() if weight[rows, levels.bit_range(level)].any()] or list(blocks)
        for level in levels
    }
    if all(used == list(blocks) for used in read.values()):
        tail.emit("Gemm", [source, tail.const(weight), tail.const(bias)], output=LOGITS)
        return []
    partial = []
    for level, used in read.items():
        rows, columns = np.concatenate([np.arange(len(weight))[blocks[tap]] for tap in used]), levels.bit_range(level)
        vector = tail.emit("Concat", [vectors[tap] for tap in used], axis=1)
        matrix, offset = tail.const(weight[rows, columns]), tail.const(bias[columns])
        partial.append((tail.emit("Gemm", [vector, matrix, offset], output=f"{LOGITS}_{level}"), levels[level]))
    tail.emit("Concat", [name for name, _ in partial], output=LOGITS, axis=1)
    return partial


def _affine(name: str, given: Affine, dim: int, width: int | None) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Check the shapes and values of an affine map; return its weight and bias."""
    weight, bias = np.asarray(given.weight, np.float32), np.asarray(given.bias, np.float32)
    if width is None:
        width = weight.shape[-1] if weight.ndim else 0
    if weight.shape != (dim, width) or bias.shape != (width,):
        raise ValueError(
            f"{name} must have a weight of {(dim, width)} and a bias of {(width,)}, got {weight.shape} and {bias.shape}"
        )
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise ValueError(f"{name} must have finite weights, got infinity or NaN")
    return weight, bias


def select_levels(model: Any, levels: Sequence[str]) -> ModelProto:
    """Cut an encoder down to some of its levels, and its network to what they need.

    The result is an encoder too; its logits are those of the whole one at these levels. ONNX Runtime always runs the
    whole network, whatever output is asked for, so this is what makes a coarse level cheaper than the whole code.

    Parameters
    ----------
    model : path, bytes or onnx.ModelProto
        As `add_head` returns it, or any encoder with the metadata of one.
    levels : sequence of str
        Names of levels.

    Returns
    -------
    onnx.ModelProto

    Raises
    ------
    ValueError
        When there is no such level.
    GraphError
        When the model is not an encoder.
    """
    result = read_model(model)
    metadata = metadata_of(result)
    all_levels = metadata.levels
    if all_levels is None:
        raise GraphError("the model is not an encoder: its metadata lacks pyhash.levels")
    unknown = [level for level in levels if level not in all_levels]
    if unknown or not levels:
        raise ValueError(f"levels must be some of {', '.join(all_levels)}, got {list(levels)}")
    kept = Levels({level: bits for level, bits in all_levels.items() if level in levels})
    made = {name for node in result.graph.node for name in node.output}
    outputs = [f"{LOGITS}_{level}" for level in kept]
    whole = free_names(result, [LOGITS])[LOGITS]
    tail = Emitter(result)
    if made.issuperset(outputs):
        tail.emit("Concat", outputs, output=LOGITS, axis=1)
    else:
        chosen = np.concatenate([np.arange(all_levels.bits)[all_levels.bit_range(level)] for level in kept])
        tail.emit("Gather", [whole, tail.const(chosen.astype(np.int64))], output=LOGITS, axis=1)
    result.graph.node.extend(tail.nodes)
    prune(result, result.graph.input[0], [_rows(result, LOGITS, kept.bits)])
    made_of = {level: made for level, made in metadata.made_of.items() if level in kept}
    set_metadata(result, replace(metadata, levels=kept, made_of=made_of, spread=()))  # the embedding is not kept
    check(result)
    return result

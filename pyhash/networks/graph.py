"""Graph surgery: from any ONNX image network to one file that takes pictures and gives hash logits.

    images (uint8) -> preprocessing -> backbone -> taps -> pooling, L2 norm -> concatenation -> Gemm -> logits

Several depths of the backbone are read ("taps"): early ones know colour and texture, late ones what is to be seen.
Maps become vectors by their mean over positions, or by the generalised mean with p = 3 (Radenovic, Tolias, Chum,
"Fine-tuning CNN image retrieval with no human annotation", TPAMI 2019), which lets strong responses count more. Each
vector is brought to length 1, so that no tap outweighs another. Whatever is fitted on these features is affine,
whitening and weights of the taps included, and so ends up in the one Gemm of the head (see `pyhash.build`).
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..codes import Levels
from ..errors import GraphError
from ..support import require
from .model import SCHEMA, _settings
from .network import Network, Tap
from .surgery import (
    FLOAT,
    UINT8,
    Emitter,
    check,
    describe,
    free_names,
    metadata_of,
    prune,
    read_model,
    run,
    save,
    session,
)

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = [
    "POOLINGS",
    "GraphError",
    "Tap",
    "add_features",
    "add_head",
    "choose_taps",
    "feature_blocks",
    "save",
    "select_levels",
    "taps",
]

POOLINGS = ("gap", "gem", "none")
"""Mean over positions; generalised mean with p = 3, of what is positive; and nothing, for a vector."""

# Activations whose values are positive, or nearly all of their weight is; `Mul` is x * sigmoid(x).
_POSITIVE = {"Relu", "Clip", "Softplus", "HardSwish", "Gelu", "Mish", "Swish", "Mul"}
_IMAGES, _FEATURES, _EMBEDDING, _LOGITS, _BATCH = "images", "features", "embedding", "logits", "n"


class Affine(Protocol):
    """An affine map, ``features @ weight + bias``: a head, or the projection before it."""

    @property
    def weight(self) -> NDArray[np.float32]:
        """Shape (dim, bits)."""

    @property
    def bias(self) -> NDArray[np.float32]:
        """Shape (bits,)."""


def taps(
    model: Any, *, size: int | tuple[int, int] | None = None, layout: str | None = None, input: str | None = None
) -> list[Tap]:
    """List the tensors of a network that can be read as features.

    Shapes come from ONNX's shape inference, and where that fails from running the network once on zeros.

    Parameters
    ----------
    model : path, bytes or onnx.ModelProto
        A network with one picture input of float, float16, double or uint8, (n, 3, h, w) or (n, h, w, 3).
    size : int or (int, int), optional
        Side or (height, width) of the pictures, needed where the network leaves it open.
    layout : str, optional
        ``"nchw"`` or ``"nhwc"``, needed where neither shape nor operators tell.
    input : str, optional
        The picture input, needed where several could be it.

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
    layout: str | None = None,
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
    return _choose(Network(model, size, layout, input), n)


def _choose(network: Network, n: int) -> list[Tap]:
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    chosen = network.stage_ends(n)
    if not chosen:
        raise GraphError("found no end of a stage to read; name tensors with taps= (pyhash.networks.taps lists them)")
    return chosen


def add_features(
    model: Any,
    taps: Sequence[str] | None = None,
    preprocess: str | Mapping[str, Any] = "imagenet",
    *,
    n_taps: int = 4,
    pooling: Sequence[str] | None = None,
    normalize: bool = True,
    size: int | tuple[int, int] | None = None,
    layout: str | None = None,
    input: str | None = None,
) -> ModelProto:
    """Turn a network into one that takes pictures and gives their fused features.

    The result takes ``images``, uint8 RGB (n, height, width, 3), prepares them inside, pools each tap, brings it to
    length 1, joins the taps, and gives ``features``, float32 (n, dim). What is behind the last tap is left out. A
    network exported for a batch of 1 takes any batch then, where that gives the same features.

    Parameters
    ----------
    model : path, bytes or onnx.ModelProto
    taps : sequence of str, optional
        Names of tensors, from early to late; chosen by `choose_taps` unless given.
    preprocess : str or mapping
        One of `pyhash.encoder.PRESETS` or a dict, as `pyhash.Encoder` takes it. Not used for a network that takes
        uint8, which prepares pictures itself.
    n_taps : int
        How many to choose.
    pooling : sequence of str, optional
        One of `POOLINGS` for each tap. Unless given: ``gem`` for the later half of the maps, where their values are
        activations, ``gap`` for the others and for tokens, ``none`` for vectors.
    normalize : bool
        Whether each tap is brought to length 1.
    size : int or (int, int), optional
    layout : str, optional
    input : str, optional
        The picture input, where several could be it.

    Returns
    -------
    onnx.ModelProto

    Raises
    ------
    GraphError
        When the network does not fit; the message names the node or tensor and says why.
    """
    settings = _settings(preprocess)
    network = Network(model, size or settings.get("size"), layout or settings.get("layout"), input)
    if network.dtype == UINT8:
        given = metadata_of(network.model)  # of a network that is an encoder already
        settings = {**_settings("raw"), "crop": settings.get("crop", "squash")}
        settings.update({key: given[key] for key in ("resize", "crop") if key in given})
    chosen = _named(network, taps) if taps is not None else _choose(network, n_taps)
    poolings = list(pooling) if pooling is not None else _poolings(chosen)
    if len(poolings) != len(chosen) or any(kind not in POOLINGS for kind in poolings):
        raise ValueError(f"pooling must be one of {', '.join(POOLINGS)} for each of {len(chosen)} taps, got {pooling}")

    result = network.model
    metadata = {
        "size": json.dumps(network.size[0] if len(set(network.size)) == 1 else network.size),
        "resize": settings.get("resize", "bilinear"),
        "crop": settings.get("crop", "squash"),
        "taps": json.dumps([tap.name for tap in chosen]),
        "dims": json.dumps([tap.channels for tap in chosen]),
        "pooling": json.dumps(poolings),
    }
    elements = [network.shapes[tap.name][1] for tap in chosen]
    renamed = free_names(result, [_IMAGES, _FEATURES])
    emitter = Emitter(result)
    _emit_preprocessing(emitter, network, settings, renamed.get(network.input, network.input))
    n_front = len(emitter.nodes)
    pooled = []
    for tap, kind, element in zip(chosen, poolings, elements, strict=True):
        vector = _emit_pooling(emitter, tap, renamed.get(tap.name, tap.name), element, kind)
        pooled.append(_emit_unit_length(emitter, vector) if normalize else vector)
    emitter.emit("Concat", pooled, output=_FEATURES, axis=1)
    nodes = [*emitter.nodes[:n_front], *result.graph.node, *emitter.nodes[n_front:]]
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    helper = require("onnx", "graph").helper
    images = helper.make_tensor_value_info(_IMAGES, UINT8, [_BATCH, *network.size, 3])
    features = helper.make_tensor_value_info(_FEATURES, FLOAT, [_BATCH, sum(tap.channels for tap in chosen)])
    prune(result, images, [features])
    _settle_batch(result, network.batch)
    describe(result, metadata)
    check(result)
    return result


def feature_blocks(model: ModelProto) -> dict[str, slice]:
    """Return which columns of the features come from which tap, of a model that `add_features` made."""
    metadata = metadata_of(model)
    ends = np.cumsum([0, *json.loads(metadata["dims"])])
    names = json.loads(metadata["taps"])
    return {name: slice(int(a), int(b)) for name, a, b in zip(names, ends, ends[1:], strict=False)}


def add_head(
    model: ModelProto,
    head: Affine,
    levels: Mapping[str, int],
    *,
    embedding: Affine | None = None,
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
    if embedding is not None:
        projection, origin = _affine("embedding", embedding, dim, None)
        blocks, dim = {_EMBEDDING: slice(0, projection.shape[1])}, projection.shape[1]
    weight, bias = _affine("head", head, dim, levels.bits)
    result = read_model(model)
    partial = [f"{_LOGITS}_{level}" for level in levels]
    free_names(result, [_LOGITS, *partial, *([_EMBEDDING] if embedding is not None else [])])
    batch = _batch_of(result)
    helper = require("onnx", "graph").helper
    outputs = [helper.make_tensor_value_info(_LOGITS, FLOAT, [batch, levels.bits])]
    tail = Emitter(result)
    if embedding is None:
        source = _FEATURES
        (joined,) = (node for node in result.graph.node if list(node.output) == [_FEATURES])
        vectors = dict(zip(blocks, joined.input, strict=True))
    else:
        source = tail.emit("Gemm", [_FEATURES, tail.const(projection), tail.const(origin)], output=_EMBEDDING)
        vectors = {_EMBEDDING: source}
        outputs.append(helper.make_tensor_value_info(_EMBEDDING, FLOAT, [batch, dim]))
    ends = np.cumsum([0, *levels.values()])
    columns = {level: slice(a, b) for level, a, b in zip(levels, ends, ends[1:], strict=False)}
    read = {
        level: [tap for tap, rows in blocks.items() if weight[rows, bits].any()] or list(blocks)
        for level, bits in columns.items()
    }
    if all(used == list(blocks) for used in read.values()):
        tail.emit("Gemm", [source, tail.const(weight), tail.const(bias)], output=_LOGITS)
    else:
        for level, used in read.items():
            rows = np.concatenate([np.arange(dim)[blocks[tap]] for tap in used])
            vector = tail.emit("Concat", [vectors[tap] for tap in used], axis=1)
            matrix, offset = tail.const(weight[rows, columns[level]]), tail.const(bias[columns[level]])
            tail.emit("Gemm", [vector, matrix, offset], output=f"{_LOGITS}_{level}")
            outputs.append(helper.make_tensor_value_info(f"{_LOGITS}_{level}", FLOAT, [batch, levels[level]]))
        tail.emit("Concat", partial, output=_LOGITS, axis=1)
    result.graph.node.extend(tail.nodes)
    prune(result, result.graph.input[0], outputs)
    own = {"schema": SCHEMA, "name": name, "levels": json.dumps(dict(levels)), "training": training}
    describe(result, {**metadata_of(model), **own})
    check(result)
    return result


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

    The result is an encoder too; its logits are those of the whole one at these levels. onnxruntime always runs the
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
    if "levels" not in metadata:
        raise GraphError("the model is not an encoder: its metadata lacks pyhash.levels")
    all_levels = Levels(json.loads(metadata["levels"]))
    unknown = [level for level in levels if level not in all_levels]
    if unknown or not levels:
        raise ValueError(f"levels must be some of {', '.join(all_levels)}, got {list(levels)}")
    kept = Levels({level: bits for level, bits in all_levels.items() if level in levels})
    made = {name for node in result.graph.node for name in node.output}
    outputs = [f"{_LOGITS}_{level}" for level in kept]
    whole = free_names(result, [_LOGITS])[_LOGITS]
    tail = Emitter(result)
    if made.issuperset(outputs):
        tail.emit("Concat", outputs, output=_LOGITS, axis=1)
    else:
        ends = dict(zip(all_levels, np.cumsum(list(all_levels.values())), strict=True))
        chosen = np.concatenate([np.arange(ends[level] - bits, ends[level]) for level, bits in kept.items()])
        tail.emit("Gather", [whole, tail.const(chosen.astype(np.int64))], output=_LOGITS, axis=1)
    result.graph.node.extend(tail.nodes)
    value = require("onnx", "graph").helper.make_tensor_value_info(_LOGITS, FLOAT, [_batch_of(result), kept.bits])
    prune(result, result.graph.input[0], [value])
    describe(result, {**metadata, "levels": json.dumps(dict(kept))})
    check(result)
    return result


def _named(network: Network, names: Sequence[str]) -> list[Tap]:
    if isinstance(names, str) or not names or len(set(names)) != len(names):
        raise ValueError(f"taps must be one or more names, each once, got {names!r}")
    found = {name: network.find(name) for name in names}
    for name, tap in found.items():
        if isinstance(tap, str):
            near = difflib.get_close_matches(name, network.carriers, 3) if "not in the network" in tap else []
            hint = f"; near it are {', '.join(map(repr, near))}" if near else ""
            raise GraphError(f"tap {name!r} {tap}{hint}")
    return [tap for tap in found.values() if isinstance(tap, Tap)]


def _poolings(chosen: Sequence[Tap]) -> list[str]:
    maps = [tap.name for tap in chosen if np.prod(tap.positions) > 1 and tap.kind != "tokens"]
    late = set(maps[len(maps) // 2 :])
    kinds = ["gem" if tap.name in late and tap.op in _POSITIVE else "gap" for tap in chosen]
    return ["none" if tap.kind == "vector" else kind for tap, kind in zip(chosen, kinds, strict=True)]


def _emit_preprocessing(emitter: Emitter, network: Network, settings: Mapping[str, Any], output: str) -> None:
    """Emit what makes of uint8 RGB rows the network's own input: channel order, layout, scale, mean, type."""
    current = _IMAGES
    if settings.get("channel_order") == "bgr":
        current = emitter.emit("Gather", [current, emitter.const(np.array([2, 1, 0], np.int64))], axis=3)
    if network.layout == "nchw":
        current = emitter.emit("Transpose", [current], perm=[0, 3, 1, 2])  # while a pixel is still a byte
    if network.dtype != UINT8:
        current = emitter.emit("Cast", [current], to=FLOAT)
        std = np.asarray(settings.get("std", 1.0), np.float64)
        factor = np.broadcast_to(settings.get("scale", 1 / 255) / std, 3)
        offset = np.broadcast_to(-np.asarray(settings.get("mean", 0.0)) / std, 3)
        shape = (3, 1, 1) if network.layout == "nchw" else (3,)
        if (factor != 1).any():
            current = emitter.emit("Mul", [current, emitter.const(factor.astype(np.float32).reshape(shape))])
        if offset.any():
            current = emitter.emit("Add", [current, emitter.const(offset.astype(np.float32).reshape(shape))])
        if network.dtype != FLOAT:
            current = emitter.emit("Cast", [current], to=network.dtype)
    emitter.emit("Identity", [current], output=output)


def _emit_pooling(emitter: Emitter, tap: Tap, source: str, element: int, kind: str) -> str:
    """Emit what makes a float32 vector of a tap."""
    if (kind == "none") != (tap.kind == "vector"):
        raise ValueError(f"pooling of {tap.name!r}, of shape {list(tap.shape)}, cannot be {kind!r}")
    current = source if element == FLOAT else emitter.emit("Cast", [source], to=FLOAT)
    if kind == "none":
        return current
    axes = {"nchw": [2, 3], "nhwc": [1, 2], "tokens": [1]}[tap.kind]
    if kind == "gap":
        return emitter.reduce("ReduceMean", current, axes, keepdims=False)
    positive = emitter.emit("Max", [current, emitter.const(np.array(1e-6, np.float32))])
    square = emitter.emit("Mul", [positive, positive])
    mean = emitter.reduce("ReduceMean", emitter.emit("Mul", [square, positive]), axes, keepdims=False)
    return emitter.emit("Pow", [mean, emitter.const(np.array(1 / 3, np.float32))])


def _emit_unit_length(emitter: Emitter, vector: str) -> str:
    length = emitter.reduce("ReduceL2", vector, [1], keepdims=True)
    return emitter.emit("Div", [vector, emitter.emit("Max", [length, emitter.const(np.array(1e-12, np.float32))])])


def _settle_batch(model: ModelProto, exported: int | None) -> None:
    """Leave the batch open if that gives the features of one picture at a time, else fix it as it was exported."""
    height, width = (dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim[1:3])
    pictures = np.random.default_rng(0).integers(0, 256, (3, height, width, 3), np.uint8)
    try:
        opened = session(model)
        together = run(opened, [_FEATURES], {_IMAGES: pictures})[0]
        single = np.concatenate([run(opened, [_FEATURES], {_IMAGES: picture[None]})[0] for picture in pictures])
        good = together.shape == single.shape and np.allclose(together, single, rtol=1e-2, atol=1e-3, equal_nan=True)
    except GraphError:
        good = False
    if not good:
        fixed = exported or 1
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = fixed
        opened = session(model, optimize=False)  # so that an error has the name of a node of the network
        together = run(opened, [_FEATURES], {_IMAGES: np.resize(pictures, (fixed, height, width, 3))})[0]
    if not np.isfinite(together).all():
        raise GraphError(
            "the features of a picture of noise hold infinity or NaN; the network may need another preprocess"
        )


def _batch_of(model: ModelProto) -> int | str:
    dim = model.graph.input[0].type.tensor_type.shape.dim[0]
    return dim.dim_value or _BATCH

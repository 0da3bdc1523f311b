"""From any ONNX image network to one that takes images and gives their fused features.

    images (uint8) -> preparation -> backbone -> taps -> pooling, L2 norm -> concatenation -> features

Several depths of the backbone are read ("taps"): early ones know colour and texture, late ones what is to be seen.
Maps become vectors by their mean over positions, or by the generalised mean with p = 3 (Radenovic, Tolias, Chum,
"Fine-tuning CNN image retrieval with no human annotation", TPAMI 2019), which lets strong responses count more. Each
vector is brought to length 1, so that no tap outweighs another. Whatever is fitted on these features is affine,
whitening and weights of the taps included, and so ends up in the one Gemm of the head (see `pyhash.networks.levels`).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import GraphError
from ..support import require
from .company import needs_to_be_alone, probes
from .front import contradiction
from .metadata import Metadata, TapNote, metadata_of, set_metadata
from .network import Network, Tap
from .nodes import FLOAT, UINT8, Emitter, free_names, prune, refill
from .onnx_file import check
from .preparation import Layout, Preparation
from .session import Session
from .source import backbone_of
from .stages import chosen_taps, named_taps
from .weights import as_source

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["BATCH", "FEATURES", "IMAGES", "POOLINGS", "add_features", "feature_blocks", "fixed_batch"]

POOLINGS = ("gap", "gem", "patches", "cls", "none")
"""Mean over positions; generalised mean with p = 3, of what is positive; mean over those tokens that are of the image,
without class token and registers; the class token; and nothing, for a vector."""

IMAGES, FEATURES, BATCH = "images", "features", "n"
"""Names of the input, of the output, and of an open first axis."""

# Activations whose values are positive, or nearly all of their weight is; `Mul` is x * sigmoid(x).
_POSITIVE = {"Relu", "Clip", "Softplus", "HardSwish", "Gelu", "Mish", "Swish", "Mul", "com.microsoft:QuickGelu"}


def add_features(
    model: Any,
    taps: Sequence[str] | None = None,
    preprocess: str | Mapping[str, Any] | Preparation | None = None,
    *,
    n_taps: int = 4,
    pooling: Sequence[str] | None = None,
    normalize: bool = True,
    size: int | tuple[int, int] | None = None,
    layout: Layout | None = None,
    input: str | None = None,
) -> ModelProto:
    """Turn a network into one that takes images and gives their fused features.

    The result takes ``images``, uint8 RGB (n, height, width, 3), prepares them inside, pools each tap, brings it to
    length 1, joins the taps, and gives ``features``, float32 (n, dim). What is behind the last tap is left out. A
    network exported for a batch of 1 takes any batch then, where that gives the same features.

    Parameters
    ----------
    model : path, bytes or onnx.ModelProto
        Or the name of one of the hub, as `pyhash.Encoder` takes it.
    taps : sequence of str, optional
        Names of tensors, from early to late; chosen by `choose_taps` unless given.
    preprocess : str or mapping, optional
        One of `pyhash.encoder.PRESETS` or a dict, as `pyhash.Encoder` takes it. Unless given ``imagenet``, or for a
        network that takes uint8 ``raw``, as such a one does the rest itself; an encoder's own where it is one; what its
        repository says, where that says it, for one of the hub.
    n_taps : int
        How many to choose.
    pooling : sequence of str, optional
        One of `POOLINGS` for each tap. Unless given: ``gem`` for the later half of the maps, where their values are
        activations, ``patches`` for tokens with a class token or registers among them, ``gap`` for the others,
        ``none`` for vectors.
    normalize : bool
        Whether each tap is brought to length 1.
    size : int or (int, int), optional
    layout : str, optional
    input : str, optional
        The image input, where several could be it.

    Returns
    -------
    onnx.ModelProto

    Raises
    ------
    GraphError
        When the network does not fit; the message names the node or tensor and says why.
    """
    backbone = backbone_of(model, preprocess)
    given = backbone.preparation or Preparation.parse("imagenet")
    network = Network(backbone.model, size or given.size, layout or given.layout, input)
    if network.dtype == UINT8:
        given = _for_bytes(network, backbone.preparation)
    wanted = given.fitted(network.size, network.layout)
    contrary = contradiction(network.model.graph, network.input, wanted)
    if contrary is not None:
        warnings.warn(contrary, RuntimeWarning, stacklevel=2)
    chosen = named_taps(network, taps) if taps is not None else chosen_taps(network, n_taps)
    poolings = list(pooling) if pooling is not None else _poolings(chosen)
    if len(poolings) != len(chosen) or any(kind not in POOLINGS for kind in poolings):
        raise ValueError(f"pooling must be one of {', '.join(POOLINGS)} for each of {len(chosen)} taps, got {pooling}")

    result = network.model
    _emit_features(network, wanted, chosen, poolings, normalize=normalize)
    helper = require("onnx", "graph").helper
    images = helper.make_tensor_value_info(IMAGES, UINT8, [BATCH, *network.size, 3])
    features = helper.make_tensor_value_info(FEATURES, FLOAT, [BATCH, sum(tap.channels for tap in chosen)])
    prune(result, images, [features])
    _settle_batch(result, network.batch)
    notes = (TapNote(tap.name, tap.channels, kind) for tap, kind in zip(chosen, poolings, strict=True))
    set_metadata(result, replace(Metadata.of(wanted), taps=tuple(notes)))
    check(result)
    return result


def _for_bytes(network: Network, given: Preparation | None) -> Preparation:
    """Return how images are loaded for a network that takes uint8, perhaps an encoder already, and does the rest."""
    own, raw = metadata_of(network.model), Preparation.parse("raw")
    if given is not None and not given.plain:
        raise GraphError(
            f"input {network.input!r} takes uint8 pixels, so they cannot be normalised outside: preprocess must be "
            "'raw' or based on it, or not be given"
        )
    if own.size is None:
        return given or raw
    if given is not None and replace(given, size=None, layout=None) != raw:
        raise GraphError("this encoder stores its own preparation: preprocess must be 'raw', or not be given")
    return own.preparation


def _emit_features(
    network: Network, preparation: Preparation, chosen: Sequence[Tap], poolings: Sequence[str], *, normalize: bool
) -> None:
    """Put the preparation before a network's nodes, and pooling and joining of taps behind them."""
    graph = network.model.graph
    elements = [network.shapes[tap.name][1] for tap in chosen]
    renamed = free_names(network.model, [IMAGES, FEATURES])
    emitter = Emitter(network.model)
    preparation.emit(emitter, IMAGES, renamed.get(network.input, network.input), network.dtype)
    n_front = len(emitter.nodes)
    pooled = []
    for tap, kind, element in zip(chosen, poolings, elements, strict=True):
        vector = _emit_pooling(emitter, tap, renamed.get(tap.name, tap.name), element, kind)
        pooled.append(_emit_unit_length(emitter, vector) if normalize else vector)
    emitter.emit("Concat", pooled, output=FEATURES, axis=1)
    refill(graph.node, [*emitter.nodes[:n_front], *graph.node, *emitter.nodes[n_front:]])


def feature_blocks(model: ModelProto) -> dict[str, slice]:
    """Return which columns of the features come from which tap, of a model that `add_features` made."""
    taps = metadata_of(model).taps
    if not taps or any(tap.dim is None for tap in taps):
        raise GraphError("the model does not say which taps its features are made of: it is not from add_features")
    ends = np.cumsum([0, *(tap.dim for tap in taps if tap.dim is not None)])
    return {tap.name: slice(int(a), int(b)) for tap, a, b in zip(taps, ends, ends[1:], strict=False)}


def _poolings(chosen: Sequence[Tap]) -> list[str]:
    maps = [tap.name for tap in chosen if tap.area > 1 and tap.kind != "tokens"]
    late = set(maps[len(maps) // 2 :])

    def pooling(tap: Tap) -> str:
        if tap.kind == "vector":
            return "none"
        if tap.name in late and tap.op in _POSITIVE:
            return "gem"
        return "patches" if sum(tap.extra) else "gap"

    return list(map(pooling, chosen))


def _emit_pooling(emitter: Emitter, tap: Tap, source: str, element: int, kind: str) -> str:
    """Emit what makes a float32 vector of a tap."""
    if (kind == "none") != (tap.kind == "vector") or (kind in ("cls", "patches") and tap.kind != "tokens"):
        raise ValueError(f"pooling of {tap.name!r}, of shape {list(tap.shape)}, cannot be {kind!r}")
    current = source if element == FLOAT else emitter.emit("Cast", [source], to=FLOAT)
    if kind == "none":
        return current
    axes = list(tap.places)
    (before, behind), last = tap.extra, tap.shape[axes[0]]
    if kind == "cls":
        place = last - behind if behind and not before else 0
        return emitter.emit("Gather", [current, emitter.const(np.array(place, np.int64))], axis=axes[0])
    if kind == "patches" and before + behind:
        bounds = [emitter.const(np.array([number], np.int64)) for number in (before, last - behind, axes[0])]
        current = emitter.emit("Slice", [current, *bounds])
    if kind != "gem":
        return emitter.reduce("ReduceMean", current, axes, keepdims=False)
    positive = emitter.emit("Max", [current, emitter.const(np.array(1e-6, np.float32))])
    square = emitter.emit("Mul", [positive, positive])
    mean = emitter.reduce("ReduceMean", emitter.emit("Mul", [square, positive]), axes, keepdims=False)
    return emitter.emit("Pow", [mean, emitter.const(np.array(1 / 3, np.float32))])


def _emit_unit_length(emitter: Emitter, vector: str) -> str:
    length = emitter.reduce("ReduceL2", vector, [1], keepdims=True)
    return emitter.emit("Div", [vector, emitter.emit("Max", [length, emitter.const(np.array(1e-12, np.float32))])])


def _settle_batch(model: ModelProto, exported: int | None) -> None:
    """Leave the batch open if that gives the features of one image at a time, else fix it: at 1, or as exported."""
    height, width = (dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim[1:3])
    images = probes(height, width)

    def run(part: NDArray[np.uint8]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = opened.run([FEATURES], {IMAGES: part})[0]
        return found

    with as_source(model) as source:
        try:
            opened = Session(source, lean=True)
            together = run(images[:3])
            shapes = [len(run(images[:1])), len(together)]
        except GraphError:
            shapes = []
        reason = needs_to_be_alone(run, images, 3, model.graph) if shapes == [1, 3] else None
    if reason is not None:
        warnings.warn(f"{reason}; images are run one at a time, which takes longer", RuntimeWarning, stacklevel=3)
    if reason is not None or shapes != [1, 3]:
        fixed = 1 if reason is not None else exported or 1
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = fixed
        with as_source(model) as source:
            opened = Session(source, optimize=False, lean=True)  # so that errors have the names of the network's nodes
            together = run(np.resize(images, (fixed, height, width, 3)))
    width = model.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    if together.shape[1:] != (width,):
        raise GraphError(f"features must be {width} numbers an image, got {list(together.shape[1:])}: name other taps")
    if not np.isfinite(together).all():
        raise GraphError("the network returns NaN or infinity for a random image; check preprocess")


def fixed_batch(model: ModelProto) -> int | None:
    """Return how many images a network takes at a time; None for any number."""
    return model.graph.input[0].type.tensor_type.shape.dim[0].dim_value or None

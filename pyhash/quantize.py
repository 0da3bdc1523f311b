"""int8 for a network that gives features, of two kinds, and the gate that keeps a worse one from being written.

``weights``: only the file is int8. Every large weight is stored with a scale for each output channel, and two nodes
make floats of it again, which ONNX Runtime computes once, when it loads the file: a quarter of the size at the speed
of float, and answers that depend on the CPU no more than those of float do.

``int8``: the arithmetic is int8 too. Activations become uint8 and weights int8, with the ranges that the network's
values have on the pictures given (QuantizeLinear and DequantizeLinear pairs around every operator, which ONNX Runtime
fuses; Jacob et al., "Quantization and training of neural networks for efficient integer-arithmetic-only inference",
CVPR 2018). Weights use 7 of the 8 bits, so that sums of two products fit into 16 bits on CPUs without VNNI and codes do
not depend on the CPU. Preparation, pooling and head stay in float: they cost little and see the most. So does what
joins vectors that no further layer reads: together they would have to share one scale.

Quantisation shifts features, and a head that is fitted on the shifted ones makes up for much of it.
"""

from __future__ import annotations

import logging
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from . import _ties
from ._extras import require
from ._onnx import onnxruntime
from ._surgery import (
    FLOATS,
    Emitter,
    GraphError,
    attribute_of,
    check,
    describe,
    lift,
    metadata_of,
    opset,
    read_model,
    refill,
    run,
    session,
)
from .codes import Levels, hamming, pack
from .evaluate import evaluate

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

    from .build import Fitted

__all__ = ["KINDS", "QuantizationError", "Quantized", "assess", "quantize", "quantize_weights", "rounded"]

KINDS = ("weights", "int8")
"""int8 on disk and float in memory; int8 arithmetic."""

Fit: TypeAlias = "Callable[[NDArray[np.float32], dict[str, NDArray[Any]] | None], Fitted]"

_MAX_QUERIES = 1000
_NEIGHBOURS = 10
_SECONDS = 0.5
_INT8 = 3  # in onnx.TensorProto
_WEIGHTED = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
_LARGE = 1024  # numbers; what holds fewer is not worth two more nodes
_MIN_OPSET = 13  # from which a scale for each channel is part of ONNX


class QuantizationError(ValueError):
    """A quantised network that retrieves worse than was allowed; `report` says how much."""

    def __init__(self, message: str, report: Quantized) -> None:
        super().__init__(message)
        self.report = report


@dataclass(frozen=True)
class Quantized:
    """What quantisation changed. The pairs are of the float network and of the quantised one.

    Attributes
    ----------
    kind : str
        One of `KINDS`.
    n_calibration : int
        Pictures that the ranges were taken from; 0 where none are needed.
    n_bytes : (int, int)
        Size of the network.
    milliseconds : (float, float)
        A picture in a batch, on one thread, from pixels to features.
    flipped : float
        Share of bits that change when the head that was fitted for the float network gets the quantised features.
    flipped_refitted : float
        Share of bits that differ when each has a head of its own. Heads without labels choose their bits anew, so that
        there it need not be small.
    mean_average_precision : dict of str to (float, float)
        For each ranking, ``"code"`` or a level of several, judged by the labels of that level, the finest for the code;
        without labels by the ten nearest pictures by the float network's features. Held out: heads are fitted on three
        quarters of the pictures, and the other quarter searches in them.
    n_queries, n_database : int
    tolerance : float
        How much lower any mean average precision may be.
    """

    kind: str
    n_calibration: int
    n_bytes: tuple[int, int]
    milliseconds: tuple[float, float]
    flipped: float
    flipped_refitted: float
    mean_average_precision: dict[str, tuple[float, float]]
    n_queries: int
    n_database: int
    tolerance: float

    @property
    def loss(self) -> float:
        """The largest fall of a mean average precision; negative when all are better."""
        return max(before - after for before, after in self.mean_average_precision.values())

    def check(self) -> None:
        """Raise QuantizationError unless the loss is within the tolerance."""
        if not self.loss <= self.tolerance:
            worst = max(self.mean_average_precision.items(), key=lambda item: item[1][0] - item[1][1])
            ranking, (before, after) = worst
            raise QuantizationError(
                f"quantize={self.kind!r} loses {self.loss:.4f} of mean average precision ({ranking}: {before:.4f} in "
                f"float, {after:.4f} in int8, {self.n_queries:,} queries), more than the tolerance of "
                f"{self.tolerance:g}: nothing was written",
                self,
            )


def quantize_weights(model: ModelProto) -> ModelProto:
    """Store every large weight of a network or an encoder as int8, a scale for each output channel.

    ONNX Runtime makes floats of them when it loads the file, so that it runs as fast as before.

    Parameters
    ----------
    model : onnx.ModelProto
        It is not changed. What is stored so already stays as it is.

    Returns
    -------
    onnx.ModelProto
        The same inputs, outputs and metadata.

    Raises
    ------
    GraphError
        When there is no large weight of a Conv, Gemm or MatMul.
    """
    to_array, result = require("onnx", "graph").numpy_helper.to_array, read_model(model)
    emitter, stored = Emitter(result), set()
    axes = _output_axes(result)
    for tensor in list(result.graph.initializer):
        large = len(tensor.dims) > 1 and np.prod(tensor.dims) >= _LARGE
        if large and tensor.name in axes and tensor.data_type in FLOATS:
            weight = to_array(tensor)
            if np.isfinite(weight).all():
                values, scale = _as_int8(weight, axes[tensor.name])
                floats = emitter.emit("Cast", [emitter.const(values)], to=tensor.data_type)
                emitter.emit("Mul", [floats, emitter.const(scale.astype(weight.dtype))], output=tensor.name)
                stored.add(tensor.name)
    metadata = metadata_of(model)
    if not stored and metadata.get("quantized") != "weights":
        raise GraphError("the network has no large weights in float that could be stored as int8")
    refill(result.graph.node, [*emitter.nodes, *result.graph.node])
    refill(result.graph.initializer, [tensor for tensor in result.graph.initializer if tensor.name not in stored])
    describe(result, {**metadata, "quantized": "weights"})
    check(result)
    return result


def rounded(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what `quantize_weights` makes of the weight of a head, of shape (dim, bits)."""
    values, scale = _as_int8(weight, 1)
    return values * scale


def _as_int8(weight: NDArray[Any], axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return int8 values and the scales that they are to be multiplied by, one for each place along an axis."""
    others = tuple(other for other in range(weight.ndim) if other != axis % weight.ndim)
    largest = np.abs(weight).max(axis=others, keepdims=True).astype(np.float32)
    scale = np.where(largest > 0, largest / np.float32(127), np.float32(1))
    return np.rint(weight / scale).astype(np.int8), scale


def _output_axes(model: ModelProto) -> dict[str, int]:
    """Return which axis of the layers' weights is that of the outputs, by the weight's name."""
    axes: dict[str, int] = {}
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx") or node.op_type not in _WEIGHTED:
            continue
        if node.op_type == "MatMul":
            axes |= {node.input[0]: -2, node.input[1]: -1}
        else:
            first = node.op_type == "Conv" or (node.op_type == "Gemm" and attribute_of(node, "transB", 0))
            axes[node.input[1]] = 0 if first else 1
    return axes


def quantize(model: ModelProto, pixels: NDArray[np.uint8]) -> ModelProto:
    """Quantise a network that gives features: weights, activations and arithmetic.

    Parameters
    ----------
    model : onnx.ModelProto
        As `pyhash.graph.add_features` returns it; it is not changed.
    pixels : uint8 array, shape (n, height, width, 3)
        Pictures that show what ranges the network's values have; a hundred are enough.

    Returns
    -------
    onnx.ModelProto
        The same inputs, outputs and metadata.

    Raises
    ------
    GraphError
        When ONNX Runtime's tools cannot quantise it.
    """
    onnxruntime()  # first of all: it keeps telemetry off
    quantization = require("onnxruntime.quantization", "encoder")
    preparation = require("onnxruntime.quantization.shape_inference", "encoder")
    source = model if opset(model) >= _MIN_OPSET else lift(model, _MIN_OPSET)
    with tempfile.TemporaryDirectory(prefix="pyhash-") as folder, _quiet():
        given, prepared, quantized = (Path(folder, f"{name}.onnx") for name in ("given", "prepared", "quantized"))
        given.write_bytes(source.SerializeToString())  # of a model in memory the tools move the weights to a file
        try:
            preparation.quant_pre_process(given, prepared, skip_symbolic_shape=True)
            in_float = [node.name for node in _kept_in_float(read_model(prepared))]
            quantization.quantize_static(
                prepared,
                quantized,
                _reader(quantization, pixels, model.graph.input[0].type.tensor_type.shape.dim[0].dim_value),
                per_channel=True,
                reduce_range=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                nodes_to_exclude=in_float,
            )
            result = read_model(quantized)
        except Exception as error:  # the tools raise whatever they stumble over
            raise GraphError(f"onnxruntime cannot quantise the network: {type(error).__name__}: {error}") from error
    if not any(tensor.data_type == _INT8 and len(tensor.dims) > 1 for tensor in result.graph.initializer):
        raise GraphError("the network has no weights that can be quantised: those of Conv, Gemm or MatMul, in float32")
    describe(result, {**metadata_of(model), "quantized": "int8"})
    check(result)
    return result


def _kept_in_float(model: ModelProto) -> Iterator[NodeProto]:
    """Yield the nodes that stay in float: ours, and each Concat and Softmax that no layer with weights comes after.

    A joined vector would get one scale, in which its part with the smallest values is lost.
    """
    read: set[str] = set()  # by a layer with weights, perhaps further on
    for node in reversed(model.graph.node):
        if node.name.startswith("pyhash/"):
            yield node
        elif node.op_type in _WEIGHTED or not read.isdisjoint(node.output):
            read.update(node.input)
        elif node.op_type in ("Concat", "Softmax"):
            yield node


def assess(
    networks: tuple[ModelProto, ModelProto],
    features: tuple[NDArray[np.float32], NDArray[np.float32]],
    labels: Mapping[str, NDArray[Any]] | None,
    fit: Fit,
    pixels: NDArray[np.uint8],
    tolerance: float,
    seed: int = 0,
    *,
    kind: str = "int8",
) -> Quantized:
    """Compare a network with its quantised form.

    Parameters
    ----------
    networks : (onnx.ModelProto, onnx.ModelProto)
        The float one, and what `quantize` or `quantize_weights` made of it.
    features : (float32 array, float32 array), each of shape (n, dim)
        What they give for the same pictures.
    labels : mapping of level to array of shape (n,), or None
    fit : callable
        Fits a head on features, which it may overwrite, and labels.
    pixels : uint8 array, shape (n, height, width, 3)
        Pictures to time the networks with; for int8 those of the calibration.
    tolerance : float
    seed : int
        Draws the quarter that is held out.
    kind : str
        One of `KINDS`.

    Returns
    -------
    Quantized
    """
    n = len(features[0])
    order = np.random.default_rng(seed).permutation(n)
    n_queries = min(max(1, n // 4), _MAX_QUERIES)
    queries, database = order[:n_queries], np.sort(order[n_queries:])
    training = {level: values[database] for level, values in labels.items()} if labels else None
    fitted = [fit(part[database], training) for part in features]
    levels = fitted[0].levels
    codes = [_codes(part, head) for part, head in zip(features, fitted, strict=True)]
    same_head = _codes(features[1], fitted[0])
    if labels:
        judged = [_by_labels(part[queries], part[database], labels, queries, database, levels) for part in codes]
    else:
        near = _nearest(features[0], queries, database)
        judged = [{"code": _by_neighbours(hamming(part[queries], part[database]), near, levels.bits)} for part in codes]
    return Quantized(
        kind=kind,
        n_calibration=len(pixels) if kind == "int8" else 0,
        n_bytes=(networks[0].ByteSize(), networks[1].ByteSize()),
        milliseconds=_time(networks, pixels),
        flipped=_differing(codes[0], same_head, levels.bits),
        flipped_refitted=_differing(codes[0], codes[1], levels.bits),
        mean_average_precision={ranking: (value, judged[1][ranking]) for ranking, value in judged[0].items()},
        n_queries=len(queries),
        n_database=len(database),
        tolerance=tolerance,
    )


def _by_labels(
    queries: NDArray[np.uint8],
    database: NDArray[np.uint8],
    labels: Mapping[str, NDArray[Any]],
    query_rows: NDArray[np.int64],
    database_rows: NDArray[np.int64],
    levels: Levels,
) -> dict[str, float]:
    report = evaluate(
        queries,
        database,
        {level: values[query_rows] for level, values in labels.items()},
        {level: values[database_rows] for level, values in labels.items()},
        levels=levels,
        ks=[1],
    )
    finest = list(labels)[-1]
    found = {"code": report.value("mAP", "code", finest)}
    if len(levels) > 1:
        found |= {level: report.value("mAP", level, level) for level in labels}
    return found


def _by_neighbours(distances: NDArray[np.int32], near: NDArray[np.bool_], bits: int) -> float:
    """Return the mean average precision of a ranking by distance, ties in any order."""
    everything, hits = (
        np.stack([np.bincount(row[kept], minlength=bits + 1) for row, kept in zip(distances, rows, strict=True)])
        for rows in (np.ones_like(near), near)
    )
    sums = _ties.binary(everything, hits, [], 0, "retrieved", np.array([1]), _ties.Tables(near.shape[1]))
    return float(sums["mAP"]) / len(near)


def _codes(features: NDArray[np.float32], head: Fitted) -> NDArray[np.uint8]:
    return pack(features @ head.weight + head.bias)


def _differing(a: NDArray[np.uint8], b: NDArray[np.uint8], bits: int) -> float:
    return int(np.bitwise_count(a ^ b).sum()) / (len(a) * bits)


def _nearest(
    features: NDArray[np.float32], queries: NDArray[np.int64], database: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Return which of the database are the nearest to each query by Euclidean distance, shape (q, n)."""
    stored = features[database]
    squares = np.square(stored).sum(axis=1)
    distances = squares - 2 * (features[queries] @ stored.T)
    kept = min(_NEIGHBOURS, len(database))
    near = np.zeros(distances.shape, bool)
    np.put_along_axis(near, np.argpartition(distances, kept - 1, axis=1)[:, :kept], True, axis=1)
    return near


def _time(networks: Sequence[ModelProto], pixels: NDArray[np.uint8]) -> tuple[float, float]:
    """Return the milliseconds that each network takes a picture: the smallest of runs that take turns."""
    fixed = networks[0].graph.input[0].type.tensor_type.shape.dim[0].dim_value
    batch = np.resize(pixels, (fixed or min(4, len(pixels)), *pixels.shape[1:]))
    opened = [session(network, 1) for network in networks]
    best = [float("inf")] * len(opened)
    end = time.perf_counter() + _SECONDS * len(opened)
    for turn in range(1000):
        for number, network in enumerate(opened):
            start = time.perf_counter()
            run(network, None, {"images": batch})
            if turn:  # the first run plans memory
                best[number] = min(best[number], time.perf_counter() - start)
        if turn > 2 and time.perf_counter() > end:
            break
    return best[0] / len(batch) * 1e3, best[1] / len(batch) * 1e3


def _reader(quantization: Any, pixels: NDArray[np.uint8], fixed: int) -> Any:
    """Return what feeds pictures to the calibration."""

    def batches() -> Iterator[dict[str, NDArray[np.uint8]]]:
        size = fixed or 4
        for start in range(0, len(pixels), size):
            batch = pixels[start : start + size]
            yield {"images": np.resize(batch, (fixed, *batch.shape[1:])) if fixed else batch}

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches = batches()

        def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
            return next(self._batches, None)

    return Reader()


class _quiet:
    """Keep the tools' advice and warnings, which concern their own use, from the user."""

    def __enter__(self) -> None:
        self._warnings = warnings.catch_warnings()
        self._warnings.__enter__()
        warnings.simplefilter("ignore")
        self._disabled = logging.root.manager.disable
        logging.disable(logging.WARNING)

    def __exit__(self, *_: object) -> None:
        logging.disable(self._disabled)
        self._warnings.__exit__(None, None, None)

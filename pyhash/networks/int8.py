"""int8 for a network that gives features, of two kinds.

``weights``: only the file is int8. Every large weight is stored with a scale for each output channel, and two nodes
make floats of it again, which ONNX Runtime computes once, when it loads the file: a quarter of the size at the speed
of float, and answers that depend on the CPU no more than those of float do.

``int8``: the arithmetic is int8 too. Activations become uint8 and weights int8, with the ranges that the network's
values have on the images given (QuantizeLinear and DequantizeLinear pairs around every operator, which ONNX Runtime
fuses; Jacob et al., "Quantization and training of neural networks for efficient integer-arithmetic-only inference",
CVPR 2018). Weights use 7 of the 8 bits, so that sums of two products fit into 16 bits on CPUs without VNNI and codes do
not depend on the CPU. Preparation, pooling and head stay in float: they cost little and see the most. So does what
joins vectors that no further layer reads: together they would have to share one scale.

Quantisation shifts features, and a head that is fitted on the shifted ones makes up for much of it.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..errors import GraphError
from ..support import require
from .features import IMAGES, fixed_batch
from .metadata import metadata_of, set_metadata
from .nodes import FLOATS, Emitter, attribute_of, keep, opset, refill, title
from .onnx_file import check, lift, read_model
from .session import onnxruntime

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

__all__ = ["KINDS", "Kind", "check_float", "quantize", "quantize_weights", "rounded"]

Kind = Literal["weights", "int8"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""int8 on disk and float in memory; int8 arithmetic."""

_INT8 = 3  # in onnx.TensorProto
_ARITHMETIC = {
    *("QuantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger"),
    *("QGemm", "QAttention", "DynamicQuantizeMatMul", "MatMulIntegerToFloat", "MatMulNBits"),
}
"""Operators of networks that compute in integers."""
_WEIGHTED = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
_LARGE = 1024  # numbers; what holds fewer is not worth two more nodes
_MIN_OPSET = 13  # from which a scale for each channel is part of ONNX


def check_float(model: ModelProto, kind: Kind) -> None:
    """Raise GraphError when a network cannot be quantised because it is so already: better before all the work.

    Parameters
    ----------
    model : onnx.ModelProto
        It is not changed.
    kind : str
        One of `KINDS`.
    """
    remedy = "build it from the network in float, or without quantize"
    for node in model.graph.node:
        if node.op_type in _ARITHMETIC:
            raise GraphError(f"the network is int8 already: node {title(node)}; {remedy}")
    if kind == "weights" and not _large_weights(model, _output_axes(model)):
        raise GraphError(f"the network has no large weights in float that could be stored as int8; {remedy}")


def _large_weights(model: ModelProto, axes: Mapping[str, int]) -> list[TensorProto]:
    return [
        tensor
        for tensor in model.graph.initializer
        if tensor.name in axes
        and len(tensor.dims) > 1
        and np.prod(tensor.dims) >= _LARGE
        and tensor.data_type in FLOATS
    ]


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
    for tensor in _large_weights(result, axes):
        weight = to_array(tensor)
        if np.isfinite(weight).all():
            values, scale = _as_int8(weight, axes[tensor.name])
            floats = emitter.emit("Cast", [emitter.const(values)], to=tensor.data_type)
            emitter.emit("Mul", [floats, emitter.const(scale.astype(weight.dtype))], output=tensor.name)
            stored.add(tensor.name)
    metadata = metadata_of(model)
    if not stored and metadata.quantized != "weights":
        raise GraphError("the network has no large weights in float that could be stored as int8")
    refill(result.graph.node, [*emitter.nodes, *result.graph.node])
    keep(result.graph.initializer, lambda tensor: tensor.name not in stored)
    set_metadata(result, replace(metadata, quantized="weights"))
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
        As `pyhash.networks.add_features` returns it; it is not changed.
    pixels : uint8 array, shape (n, height, width, 3)
        Images that show what ranges the network's values have; a hundred are enough.

    Returns
    -------
    onnx.ModelProto
        The same inputs, outputs and metadata.

    Raises
    ------
    GraphError
        When it is int8 already, or ONNX Runtime's tools cannot quantise it.
    """
    check_float(model, "int8")
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
                _reader(quantization, pixels, fixed_batch(model)),
                per_channel=True,
                reduce_range=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                nodes_to_exclude=in_float,
            )
            result = read_model(quantized)
        except Exception as error:  # the tools raise whatever they stumble over
            raise GraphError(f"ONNX Runtime cannot quantise the network: {type(error).__name__}: {error}") from error
    if not any(tensor.data_type == _INT8 and len(tensor.dims) > 1 for tensor in result.graph.initializer):
        raise GraphError("the network has no weights that can be quantised: those of Conv, Gemm or MatMul, in float32")
    set_metadata(result, replace(metadata_of(model), quantized="int8"))
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


def _reader(quantization: Any, pixels: NDArray[np.uint8], fixed: int | None) -> Any:
    """Return what feeds images to the calibration."""

    def batches() -> Iterator[dict[str, NDArray[np.uint8]]]:
        size = fixed or 4
        for start in range(0, len(pixels), size):
            batch = pixels[start : start + size]
            yield {IMAGES: np.resize(batch, (fixed, *batch.shape[1:])) if fixed else batch}

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

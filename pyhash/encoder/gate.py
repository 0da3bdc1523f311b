"""The gate that keeps an int8 network that retrieves worse from being written."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..backend import hamming
from ..codes import Levels, pack
from ..errors import QuantizationError
from ..evaluation import evaluate, mean_average_precision
from ..heads import Head
from ..networks import IMAGES, Session, fixed_batch, serialized

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["QuantizationError", "Quantized", "assess"]

Fit: TypeAlias = "Callable[[NDArray[np.float32], dict[str, NDArray[Any]] | None], Head]"

_MAX_QUERIES = 1000
_NEIGHBOURS = 10
_SECONDS = 0.5


@dataclass(frozen=True)
class Quantized:
    """What quantisation changed. The pairs are of the float network and of the quantised one.

    Attributes
    ----------
    kind : str
        One of `KINDS`.
    n_calibration : int
        Images that the ranges were taken from; 0 where none are needed.
    n_bytes : (int, int)
        Size of the network.
    milliseconds : (float, float)
        An image in a batch, on one thread, from pixels to features.
    flipped : float
        Share of bits that change when the head that was fitted for the float network gets the quantised features.
    flipped_refitted : float
        Share of bits that differ when each has a head of its own. Heads without labels choose their bits anew, so that
        there it need not be small.
    mean_average_precision : dict of str to (float, float)
        For each ranking, ``"code"`` or a level of several, judged by the labels of that level, the finest for the code;
        without labels by the ten nearest images by the float network's features. Held out: heads are fitted on three
        quarters of the images, and the other quarter searches in them.
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
        What they give for the same images.
    labels : mapping of level to array of shape (n,), or None
    fit : callable
        Fits a head on features, which it may overwrite, and labels.
    pixels : uint8 array, shape (n, height, width, 3)
        Images to time the networks with; for int8 those of the calibration.
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
        judged = [{"code": mean_average_precision(hamming(part[queries], part[database]), near)} for part in codes]
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


def _codes(features: NDArray[np.float32], head: Head) -> NDArray[np.uint8]:
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
    """Return the milliseconds that each network takes an image: the smallest of runs that take turns."""
    batch = np.resize(pixels, (fixed_batch(networks[0]) or min(4, len(pixels)), *pixels.shape[1:]))
    opened = [Session(serialized(network)) for network in networks]
    best = [float("inf")] * len(opened)
    end = time.perf_counter() + _SECONDS * len(opened)
    for turn in range(1000):
        for number, network in enumerate(opened):
            start = time.perf_counter()
            network.run(None, {IMAGES: batch})
            if turn:  # the first run plans memory
                best[number] = min(best[number], time.perf_counter() - start)
        if turn > 2 and time.perf_counter() > end:
            break
    return best[0] / len(batch) * 1e3, best[1] / len(batch) * 1e3

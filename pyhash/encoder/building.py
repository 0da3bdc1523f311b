"""From a network and a folder of labelled pictures to an encoder, in one call.

The features of all pictures are computed with the fused network (`pyhash.networks`). What is then fitted on them,
whitening and weights of the taps and the head (`pyhash.heads`), is affine, and is folded into one matrix and vector.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import backend, heads
from ..codes import Levels
from ..errors import GraphError, ImageError, LabelError
from ..images import PixelBudget, load
from ..labels import read_labels
from ..networks import add_features, add_head, check_target, feature_blocks, int8, metadata_of, run, save, session
from ..support import machine, require
from .gate import Quantized, assess

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["Built", "Fitted", "build", "extract", "fit_head"]

Floats = NDArray[np.floating[Any]]
Progress = Callable[[str, int, int], object]

_WHITENING_FLOOR = 1e-2  # of the mean eigenvalue: directions that hold less are noise, and are not blown up
_BLOCK_ROWS = 4096
_BATCH_PIXELS = 1 << 19
_N_CALIBRATION = 128  # pictures that a quantised network's ranges are taken from


@dataclass(frozen=True, eq=False)
class Fitted(heads.Head):
    """What was fitted on features, whitening and weights of the taps included: a head on the features themselves.

    Attributes
    ----------
    weights : dict of str to dict of str to float
        How much each level heeds each tap.
    """

    weights: dict[str, dict[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Built:
    """What `build` did.

    Attributes
    ----------
    path : str
        The encoder.
    levels : Levels
    taps : dict of str to int
        What is read of the network, and the length of each vector.
    n_pictures : int
        Pictures that the head was fitted on.
    classes : dict of str to int
        How many classes each level tells apart; empty without labels.
    grouped : tuple of str
        Levels without labels of their own, whose classes were found by grouping those of the next finer level.
    batch : int or None
        The batch size that the network insists on.
    failed : list of ImageError
        Images that could not be read, and subfolders that could not be listed.
    fitted : Fitted
    quantized : Quantized or None
        What quantisation changed, where that was asked for.
    """

    path: str
    levels: Levels
    taps: dict[str, int]
    n_pictures: int
    classes: dict[str, int]
    grouped: tuple[str, ...]
    batch: int | None
    failed: list[ImageError]
    fitted: Fitted
    quantized: Quantized | None = None


def build(
    backbone: Any,
    images: str | os.PathLike[str],
    labels: str | os.PathLike[str] | None,
    levels: heads.LevelsLike,
    out: str | os.PathLike[str],
    *,
    taps: Sequence[str] | None = None,
    preprocess: str | Mapping[str, Any] = "imagenet",
    head: str = "hadamard-ridge",
    size: int | tuple[int, int] | None = None,
    layout: str | None = None,
    input: str | None = None,
    n_taps: int = 4,
    pooling: Sequence[str] | None = None,
    weights: Mapping[str, Sequence[float]] | None = None,
    name: str | None = None,
    training: str | None = None,
    max_images: int | None = None,
    quantize: str | None = None,
    tolerance: float = 0.01,
    threads: int | None = None,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Built:
    """Make an encoder of a network.

    Parameters
    ----------
    backbone : path, bytes or onnx.ModelProto
        Any image network; see `pyhash.networks.taps`.
    images : path
        A folder of pictures.
    labels : "folders", path or None
        As `pyhash.labels.read_labels` takes them. The heads that use no labels take None. A coarse level without
        labels gets groups of the next finer level's classes, by Ward's clustering of their mean features.
    levels : Levels, mapping of name to bits, or int
        From coarse to fine.
    out : path
        The file to write; it is replaced as a whole or not at all.
    taps, preprocess, size, layout, input, n_taps, pooling
        As `pyhash.networks.add_features` takes them.
    head : str
        One of the kinds of `pyhash.heads.fit`. ``"sign"`` cuts the features themselves at 0, so that the levels must
        have as many bits as there are features.
    weights : mapping of level to sequence of float, optional
        How much a level heeds each tap. What weighs 0 is not read: a level that reads early taps only needs only the
        first part of the network (see `pyhash.networks.select_levels`). Unless given, a level with labels weighs a tap
        by how much of its variance lies between that level's classes.
    name, training : str, optional
        Kept in the file: what the encoder is called, and what it was trained on.
    max_images : int, optional
        Use at most so many pictures, drawn at random.
    quantize : "weights" or "int8", optional
        Store the weights as int8, which makes the file a quarter as large, or make the network an int8 one, which also
        runs faster on most CPUs (see `pyhash.networks.int8`). The head is fitted on what the quantised network gives.
    tolerance : float
        How much of mean average precision that may cost; if it costs more, nothing is written.
    threads : int, optional
        CPUs to use.
    seed : int
    overwrite : bool
        Replace a file that is no encoder of pyhash's making, too.
    progress : callable, optional
        Called with the step, how much is done and how much there is.

    Returns
    -------
    Built

    Raises
    ------
    GraphError
        When the network does not fit; the message names the node or tensor and says why.
    LabelError
        When labels do not fit.
    ForeignFileError
        When `out` names a file that is no encoder of pyhash's making.
    QuantizationError
        When the quantised network is worse than the tolerance; its ``report`` says how much.
    ImportError
        When onnx, onnxruntime, SciPy or Pillow is not installed.
    """
    from .encoder import Encoder

    levels = heads.as_levels(levels)
    folder = Path(out).absolute().parent
    if not folder.is_dir():  # better said now than after all the work
        raise FileNotFoundError(errno.ENOENT, "no such folder to write to", os.fspath(folder))
    check_target(out, overwrite=overwrite)
    if quantize not in (None, *int8.KINDS):
        raise ValueError(f"quantize must be {', '.join(map(repr, int8.KINDS))} or None, got {quantize!r}")
    if (labels is None) == (head in heads.SUPERVISED):
        needs = "must be given" if labels is None else "must be None"
        raise ValueError(f"labels {needs} for the head {head!r}, got {labels!r}")
    labelled = read_labels(images, labels, list(levels))
    files, named = labelled.files, {level: np.array(values) for level, values in labelled.labels.items()}
    if max_images is not None and len(files) > max_images:
        rows = np.sort(np.random.default_rng(seed).choice(len(files), max_images, replace=False))
        files, named = [files[row] for row in rows], {level: values[rows] for level, values in named.items()}

    model = add_features(
        backbone, taps, preprocess, n_taps=n_taps, pooling=pooling, size=size, layout=layout, input=input
    )
    blocks = feature_blocks(model)
    _check_weights(weights, levels, blocks)
    dim = sum(columns.stop - columns.start for columns in blocks.values())
    if head == "sign" and levels.bits != dim:
        raise ValueError(f"levels must have {dim} bits together, one a feature, for the head 'sign', got {levels.bits}")
    title = name or (Path(backbone).stem if isinstance(backbone, (str, os.PathLike)) else "encoder")
    zeros = np.zeros(levels.bits, np.float32)
    nothing = heads.Head(head, np.zeros((dim, levels.bits), np.float32), zeros, levels, zeros, False)
    Encoder(add_head(model, nothing, levels).SerializeToString())  # better refused now than after all the work

    features, kept, failed = extract(model, files, threads=threads, progress=progress)
    if len(features) < 2:
        raise failed[0] if failed else LabelError(f"images must hold at least 2 pictures, got {len(features)}")
    named = {level: values[kept] for level, values in named.items()}
    files = [files[row] for row in kept]

    def fit(rows: NDArray[np.float32], of_rows: Mapping[str, NDArray[Any]] | None) -> Fitted:
        fitted = fit_head(rows, blocks, levels, of_rows, kind=head, weights=weights, seed=seed)
        return replace(fitted, weight=int8.rounded(fitted.weight)) if quantize == "weights" else fitted

    quantized = None
    if quantize is not None:
        pixels = _calibration(model, files, seed)
        before, before_features = model, features
        model = int8.quantize(before, pixels) if quantize == "int8" else int8.quantize_weights(before)
        features, _, changed = extract(model, files, threads=threads, progress=progress)
        if changed:
            raise changed[0]
        networks, both = (before, model), (before_features, features)
        quantized = assess(networks, both, named, fit, pixels, tolerance, seed, kind=quantize)
        quantized.check()
        del before_features, both
    sample, answers = files[:8], features[:8].copy()
    if progress is not None:
        progress("head", 0, 1)
    grouped = tuple(level for level in levels if level not in named) if named else ()
    fitted = fit(features, named or None)
    if training is None:
        training = f"head {head} fitted on {len(features)} pictures of {Path(images).resolve().name}"
    encoder = add_head(model, fitted, levels, name=title, training=training)
    if quantize == "weights":
        encoder = int8.quantize_weights(encoder)
    _compare(encoder, sample, answers @ fitted.weight + fitted.bias)
    save(encoder, out, overwrite=overwrite)
    if progress is not None:
        progress("head", 1, 1)
    return Built(
        path=os.fspath(out),
        levels=levels,
        taps={tap: columns.stop - columns.start for tap, columns in blocks.items()},
        n_pictures=len(features),
        classes={level: fitted.details[level]["n_classes"] for level in levels} if named else {},
        grouped=grouped,
        batch=encoder.graph.input[0].type.tensor_type.shape.dim[0].dim_value or None,
        failed=[*labelled.failed, *failed],
        fitted=fitted,
        quantized=quantized,
    )


def extract(
    model: ModelProto,
    files: Sequence[str | os.PathLike[str]],
    *,
    threads: int | None = None,
    progress: Progress | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.int64], list[ImageError]]:
    """Compute the features of pictures.

    Parameters
    ----------
    model : onnx.ModelProto
        As `pyhash.networks.add_features` returns it.
    files : sequence of path
    threads : int, optional
    progress : callable, optional
        Called with ``"features"``, pictures done and pictures in all.

    Returns
    -------
    features : float32 array, shape (n, dim)
    kept : int64 array, shape (n,)
        Which of the files these are: those that could be read.
    failed : list of ImageError
    """
    metadata = metadata_of(model)
    fixed, shape = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value, _size_of(model)
    size: int = fixed or max(1, min(16, _BATCH_PIXELS // (shape[0] * shape[1])))
    opened = session(model, 1)
    budget = PixelBudget()
    features = np.empty((len(files), sum(json.loads(metadata["dims"]))), np.float32)
    good = np.zeros(len(files), bool)
    bad: dict[int, ImageError] = {}

    def work(start: int) -> int:
        rows: list[int] = []
        pixels = np.zeros((size, *shape, 3), np.uint8)
        stop: int = min(start + size, len(files))
        for row in range(start, stop):
            try:
                pixels[len(rows)] = load(
                    files[row], size=shape, resize=metadata["resize"], crop=metadata["crop"], budget=budget
                )
                rows.append(row)
            except ImageError as error:
                bad[row] = error
        if rows:
            batch = pixels if fixed else pixels[: len(rows)]
            features[rows] = run(opened, None, {"images": batch})[0][: len(rows)]
            good[rows] = True
        return stop - start

    done = 0
    n_threads = backend.threads(threads) or machine.cpus()
    with ThreadPoolExecutor(n_threads, "pyhash-build") as pool:
        try:
            for n_done in pool.map(work, range(0, len(files), size)):
                done += n_done
                if progress is not None:
                    progress("features", done, len(files))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    kept = np.flatnonzero(good)
    if bad:
        features = features[kept]
    return features, kept, [bad[row] for row in sorted(bad)]


def fit_head(
    features: NDArray[np.float32],
    blocks: Mapping[str, slice],
    levels: heads.LevelsLike,
    labels: Mapping[str, NDArray[Any]] | None,
    *,
    kind: str = "hadamard-ridge",
    weights: Mapping[str, Sequence[float]] | None = None,
    seed: int = 0,
    **options: Any,
) -> Fitted:
    """Fit what joins the taps and what makes bits of them.

    Each tap is centred. For the heads that use labels it is whitened too: all its directions get equal variance,
    except that those with less than a hundredth of the mean variance are damped; otherwise early taps are ruled by a
    few directions such as brightness. The heads that use no labels need the variances, which are all
    they go by, so there a tap is only scaled. Either way the mean squared length is 1, times the weight of the tap.
    Without labels and without ``weights``, a tap weighs as much as its vectors of unit length varied over the pictures.

    Parameters
    ----------
    features : float32 array, shape (n, dim)
        **Overwritten.**
    blocks : mapping of str to slice
        Which columns come from which tap, as `pyhash.networks.feature_blocks` says.
    levels : Levels, mapping or int
    labels : mapping of level to array of shape (n,), or None
        Of the finest level at least; the others are grouped from it, as for `build`.
    kind, seed, **options
        As for `pyhash.heads.fit`.
    weights : mapping of level to sequence of float, optional
        As for `build`.

    Returns
    -------
    Fitted
    """
    levels = heads.as_levels(levels)
    _check_weights(weights, levels, blocks)
    if kind == "sign":
        head = heads.fit(kind, features, None, levels=levels, seed=seed, **options)
        ones = {level: dict.fromkeys(blocks, 1.0) for level in levels}
        return Fitted(kind, head.weight, head.bias, levels, head.rates, head.supervised, {}, ones)
    supervised = kind in heads.SUPERVISED
    mean, maps = _standardize(features, blocks, whiten=supervised)
    named = _group_classes(features, dict(labels), list(levels)) if labels else {}
    taps = list(blocks)
    if not supervised:
        varied = np.array([1 / maps[tap][0, 0] for tap in taps])  # what scaling took off
    chosen: dict[str, list[float]] = {}
    for level in levels:
        if weights is not None and level in weights:
            chosen[level] = list(weights[level])
        else:
            chosen[level] = _weigh(features, blocks, named[level]) if supervised else (varied / varied.max()).tolist()
    runs = [list(run) for _, run in itertools.groupby(levels, key=chosen.__getitem__)]  # these share a decomposition

    weight, bias = np.zeros((features.shape[1], levels.bits)), np.zeros(levels.bits)
    rates = np.zeros(levels.bits, np.float32)
    ends = dict(zip(levels, np.cumsum(list(levels.values())), strict=True))
    scale = np.ones(features.shape[1])
    details: dict[str, Any] = {}
    for run_levels in runs:
        wanted = np.concatenate(
            [
                np.full(blocks[tap].stop - blocks[tap].start, w)
                for tap, w in zip(taps, chosen[run_levels[0]], strict=True)
            ]
        )
        read = wanted > 0
        factor = np.where(read, wanted / scale, 1).astype(np.float32)
        features *= factor
        scale *= factor
        part = features if read.all() else np.ascontiguousarray(features[:, read])
        given = {level: named[level] for level in run_levels} if supervised else None
        sizes = {level: levels[level] for level in run_levels}
        head = heads.fit(kind, part, given, levels=sizes, seed=seed, **options)
        columns = slice(ends[run_levels[0]] - sizes[run_levels[0]], ends[run_levels[-1]])
        weight[np.flatnonzero(read), columns] = head.weight * wanted[read, None]
        bias[columns] = head.bias
        rates[columns] = head.rates
        for level in run_levels:
            details[level] = {"n_classes": len(np.unique(named[level])) if named else 0, **head.details.get(level, {})}
    for tap, matrix in maps.items():
        weight[blocks[tap]] = matrix @ weight[blocks[tap]]
    bias -= mean @ weight
    heeded = {level: dict(zip(taps, map(float, chosen[level]), strict=True)) for level in levels}
    affine = weight.astype(np.float32), bias.astype(np.float32)
    return Fitted(kind, *affine, levels, rates, supervised, details, heeded)


def _check_weights(weights: Mapping[str, Sequence[float]] | None, levels: Levels, blocks: Mapping[str, slice]) -> None:
    for level, values in (weights or {}).items():
        if level not in levels:
            raise ValueError(f"weights must be for the levels {', '.join(levels)}, got {level!r}")
        if len(values) != len(blocks) or not all(0 <= value < np.inf for value in values) or not any(values):
            raise ValueError(
                f"weights of level {level!r} must be {len(blocks)} numbers of at least 0, not all 0, "
                f"for the taps {', '.join(blocks)}; got {list(values)}"
            )


def _standardize(
    features: NDArray[np.float32], blocks: Mapping[str, slice], *, whiten: bool
) -> tuple[NDArray[np.float64], dict[str, NDArray[np.float64]]]:
    """Centre, whiten or scale each block in place; return the mean and the matrix of each block."""
    n = len(features)
    rows = [slice(start, start + _BLOCK_ROWS) for start in range(0, n, _BLOCK_ROWS)]
    mean = np.add.reduce([features[part].sum(axis=0, dtype=np.float64) for part in rows]) / n
    maps = {}
    for tap, columns in blocks.items():
        width = columns.stop - columns.start
        if whiten:
            scatter = np.zeros((width, width))
            for part in rows:
                centred = features[part, columns] - mean[columns]
                scatter += centred.T @ centred
            matrix, energy = _whitening(scatter / n, float(np.square(mean[columns]).max()))
        else:
            matrix = np.eye(width)
            energy = sum(float(np.square(features[part, columns] - mean[columns]).sum()) for part in rows) / n
        matrix /= np.sqrt(energy) if energy > 0 else 1.0
        for part in rows:
            features[part, columns] = (features[part, columns] - mean[columns]) @ matrix
        maps[tap] = matrix
    return mean, maps


def _whitening(covariance: Floats, square: float) -> tuple[NDArray[np.float64], float]:
    """Return a matrix W with W W' = (covariance + damping)^-1, and the variance that is left behind it.

    By Cholesky's factors instead of principal axes: another rotation of the same, and what follows does not mind
    rotations. A tap that does not vary beyond the rounding of its values, whose largest square is given, becomes 0.
    """
    width = len(covariance)
    variance = float(np.trace(covariance)) / width
    if variance <= np.finfo(np.float32).eps ** 2 * square:
        return np.zeros((width, width)), 0.0
    damping = _WHITENING_FLOOR * variance
    factor = np.linalg.cholesky(covariance + damping * np.eye(width))
    triangular = require("scipy.linalg", "graph").solve_triangular
    matrix: NDArray[np.float64] = triangular(factor, np.eye(width), lower=True, check_finite=False).T
    return matrix, width - damping * float(np.square(matrix).sum())


def _weigh(features: NDArray[np.float32], blocks: Mapping[str, slice], labels: NDArray[Any]) -> list[float]:
    """Return for each block the root of the share of its variance that lies between classes; the largest is 1.

    n pictures without any difference between their C classes still have a share of (C - 1) / n, which is taken off.
    """
    means, sizes = _class_means(features, labels)
    chance = (len(sizes) - 1) / len(features)
    between = sizes / sizes.sum() @ np.square(means)
    shares = np.array([between[columns].sum() for columns in blocks.values()])
    shares = np.maximum(shares - chance, 1e-3 * shares.max() + 1e-12)
    return [float(weight) for weight in np.sqrt(shares / shares.max())]


def _class_means(features: NDArray[np.float32], labels: NDArray[Any]) -> tuple[Floats, NDArray[np.int64]]:
    _, of_row, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    order = np.argsort(of_row, kind="stable")
    starts = np.cumsum(sizes) - sizes
    means = np.empty((len(sizes), features.shape[1]))
    for number, (start, size) in enumerate(zip(starts, sizes, strict=True)):
        means[number] = features[order[start : start + size]].mean(axis=0, dtype=np.float64)
    return means, sizes


def _group_classes(
    features: NDArray[np.float32], named: dict[str, NDArray[Any]], levels: list[str]
) -> dict[str, NDArray[Any]]:
    """Give levels without labels groups of the next finer level's classes: about the root of their number."""
    if levels[-1] not in named:
        raise LabelError(f"labels must be given for the finest level, {levels[-1]!r}")
    for finer, level in zip(levels[:0:-1], levels[-2::-1], strict=True):
        if level not in named:
            hierarchy = require("scipy.cluster.hierarchy", "graph")
            means, sizes = _class_means(features, named[finer])
            names, of_row = np.unique(named[finer], return_inverse=True)
            n_groups = max(2, round(len(sizes) ** 0.5))
            groups = (
                hierarchy.fcluster(hierarchy.ward(means), n_groups, "maxclust") if len(names) > 3 else range(len(names))
            )
            named[level] = np.asarray(groups)[of_row]
    return named


def _calibration(model: ModelProto, files: Sequence[str | os.PathLike[str]], seed: int) -> NDArray[np.uint8]:
    """Load pictures at random, as the model takes them."""
    rows = np.sort(np.random.default_rng(seed).permutation(len(files))[:_N_CALIBRATION])
    metadata = metadata_of(model)
    shape = _size_of(model)
    return np.stack([load(files[row], size=shape, resize=metadata["resize"], crop=metadata["crop"]) for row in rows])


def _size_of(model: ModelProto) -> tuple[int, int]:
    _, height, width, _ = (dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim)
    return height, width


def _compare(encoder: ModelProto, files: Sequence[str | os.PathLike[str]], expected: Floats) -> None:
    """Raise GraphError unless the encoder gives these logits for these files."""
    from .encoder import Encoder

    found = Encoder(encoder.SerializeToString()).logits(files)
    difference = float(np.abs(found - expected).max())
    if difference > 1e-2 * max(1.0, float(np.abs(expected).max())):
        raise GraphError(f"the encoder's logits differ from those of its parts by {difference:.2g}")

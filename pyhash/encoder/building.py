"""From a network and a folder of labelled pictures to an encoder, in one call.

The features of all pictures are computed with the fused network (`pyhash.networks`). What is then fitted on them,
whitening and weights of the taps and the head (`pyhash.heads`), is affine, and is folded into one matrix and vector.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import backend, heads
from ..codes import Levels, LevelsLike, as_levels
from ..errors import GraphError, ImageError, LabelError
from ..images import PixelBudget
from ..labels import read_labels
from ..networks import (
    IMAGES,
    Layout,
    Session,
    add_features,
    add_head,
    check_target,
    feature_blocks,
    int8,
    metadata_of,
    save,
    serialized,
)
from ..support import machine
from .gate import Quantized, assess

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["Built", "build", "extract"]

Floats = NDArray[np.floating[Any]]
Progress = Callable[[str, int, int], object]

_BATCH_PIXELS = 1 << 19
_N_CALIBRATION = 128  # pictures that a quantised network's ranges are taken from


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
    fitted : Head
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
    fitted: heads.Head
    quantized: Quantized | None = None


def build(
    backbone: Any,
    images: str | os.PathLike[str],
    labels: str | os.PathLike[str] | None,
    levels: LevelsLike,
    out: str | os.PathLike[str],
    *,
    taps: Sequence[str] | None = None,
    preprocess: str | Mapping[str, Any] = "imagenet",
    head: str = "hadamard-ridge",
    size: int | tuple[int, int] | None = None,
    layout: Layout | None = None,
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

    levels = as_levels(levels)
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
    heads.check_weights(weights, levels, blocks)
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

    def fit(rows: NDArray[np.float32], of_rows: Mapping[str, NDArray[Any]] | None) -> heads.Head:
        fitted = heads.fit_fused(rows, blocks, levels, of_rows, kind=head, weights=weights, seed=seed)
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
        classes={level: fitted.details[level]["classes"] for level in levels} if named else {},
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
    preparation = metadata_of(model).preparation
    fixed, shape = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value, _size_of(model)
    size: int = fixed or max(1, min(16, _BATCH_PIXELS // (shape[0] * shape[1])))
    opened = Session(serialized(model))
    budget = PixelBudget()
    features = np.empty(
        (len(files), sum(columns.stop - columns.start for columns in feature_blocks(model).values())), np.float32
    )
    good = np.zeros(len(files), bool)
    bad: dict[int, ImageError] = {}

    def work(start: int) -> int:
        rows: list[int] = []
        pixels = np.zeros((size, *shape, 3), np.uint8)
        stop: int = min(start + size, len(files))
        for row in range(start, stop):
            try:
                pixels[len(rows)] = preparation.load(files[row], budget)
                rows.append(row)
            except ImageError as error:
                bad[row] = error
        if rows:
            batch = pixels if fixed else pixels[: len(rows)]
            features[rows] = opened.run(None, {IMAGES: batch})[0][: len(rows)]
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


def _calibration(model: ModelProto, files: Sequence[str | os.PathLike[str]], seed: int) -> NDArray[np.uint8]:
    """Load pictures at random, as the model takes them."""
    rows = np.sort(np.random.default_rng(seed).permutation(len(files))[:_N_CALIBRATION])
    preparation = metadata_of(model).preparation
    return np.stack([preparation.load(files[row]) for row in rows])


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

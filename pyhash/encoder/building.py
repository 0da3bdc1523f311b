"""From a network and a folder of labelled images to an encoder, in one call.

Six steps, with a value between each two: what is asked for (`Request`), the network's features of the images
(`Features`), the same of the quantised network, where that is asked for, the embedding that is made of them
(`heads.Projection`), a head that is fitted on it, and the file.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import heads
from ..codes import Levels, LevelsLike, as_levels, pack
from ..errors import GraphError, ImageError, LabelError
from ..labels import Labelled, read_labels
from ..networks import (
    LOGITS,
    Layout,
    Model,
    add_features,
    add_head,
    as_source,
    backbone_of,
    check_target,
    feature_blocks,
    fixed_batch,
    int8,
    save,
)
from .features import Progress, extract, pixels_of
from .gate import Quantized, assess
from .saying import LOOKED_AT, warn_of_silence

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["Built", "build"]

_N_CALIBRATION = 128  # images that a quantised network's ranges are taken from
_N_COMPARED = 8  # images that the file is tried on before it is written


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
    n_images : int
        Images that the head was fitted on.
    classes : dict of str to int
        How many classes each level tells apart; empty without labels.
    grouped : tuple of str
        Levels without labels of their own, whose classes were found by grouping those of the next finer level.
    batch : int or None
        The only batch size that the network takes; None for any.
    failed : list of ImageError
        Images that could not be read, and subfolders that could not be listed.
    projection : Projection
        From features to the embedding.
    fitted : Head
        From the embedding to bits.
    quantized : Quantized or None
        What quantisation changed, where that was asked for.
    """

    path: str
    levels: Levels
    taps: dict[str, int]
    n_images: int
    classes: dict[str, int]
    grouped: tuple[str, ...]
    batch: int | None
    failed: list[ImageError]
    projection: heads.Projection
    fitted: heads.Head
    quantized: Quantized | None = None


@dataclass(frozen=True)
class Request:
    """What `build` was asked for, as far as several steps need it."""

    images: str | os.PathLike[str]
    labels: str | os.PathLike[str] | None
    levels: Levels
    out: str | os.PathLike[str]
    head: heads.Kind
    weights: Mapping[str, Sequence[float]] | None
    max_images: int | None
    quantize: int8.Kind | None
    tolerance: float
    threads: int | None
    seed: int
    overwrite: bool
    progress: Progress | None

    def check(self) -> None:
        """Refuse what cannot work: better now than after all the work."""
        folder = Path(self.out).absolute().parent
        if not folder.is_dir():
            raise FileNotFoundError(errno.ENOENT, "no such folder to write to", os.fspath(folder))
        check_target(self.out, overwrite=self.overwrite)
        if self.quantize not in (None, *int8.KINDS):
            raise ValueError(f"quantize must be {', '.join(map(repr, int8.KINDS))} or None, got {self.quantize!r}")
        if (self.labels is None) == (self.head in heads.SUPERVISED):
            needs = "must be given" if self.labels is None else "must be None"
            raise ValueError(f"labels {needs} for the head {self.head!r}, got {self.labels!r}")

    def tell(self, step: str, done: int, total: int) -> None:
        """Report progress."""
        if self.progress is not None:
            self.progress(step, done, total)


@dataclass(frozen=True)
class Features:
    """What a network gives for labelled images.

    Attributes
    ----------
    network : onnx.ModelProto
        As `add_features` returns it, perhaps quantised.
    rows : float32 array, shape (n, dim)
    files : list of str
    labels : dict of str to array of shape (n,)
        For each level that has some.
    failed : list of ImageError
        Images that could not be read, and subfolders that could not be listed.
    """

    network: ModelProto
    rows: NDArray[np.float32]
    files: list[str]
    labels: dict[str, NDArray[Any]]
    failed: list[ImageError]

    @property
    def blocks(self) -> dict[str, slice]:
        """Which columns come from which tap."""
        return feature_blocks(self.network)


def build(
    backbone: Any,
    images: str | os.PathLike[str],
    labels: str | os.PathLike[str] | None,
    levels: LevelsLike,
    out: str | os.PathLike[str],
    *,
    taps: Sequence[str] | None = None,
    preprocess: str | Mapping[str, Any] | None = None,
    head: heads.Kind = "hadamard-ridge",
    size: int | tuple[int, int] | None = None,
    layout: Layout | None = None,
    input: str | None = None,
    n_taps: int = 4,
    pooling: Sequence[str] | None = None,
    weights: Mapping[str, Sequence[float]] | None = None,
    name: str | None = None,
    training: str | None = None,
    max_images: int | None = None,
    quantize: int8.Kind | None = None,
    tolerance: float = 0.01,
    threads: int | None = None,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Built:
    """Make an encoder of a network.

    Parameters
    ----------
    backbone : path, bytes, str or onnx.ModelProto
        Any image network; see `pyhash.networks.taps`. The name ``hf://owner/repo[@revision][/file]`` is one of the
        Hugging Face hub, as `pyhash.Encoder` takes it.
    images : path
        A folder of images.
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
        Weight of each tap, for a level. A tap with weight 0 is not read: a level that reads early taps only needs only
        the first part of the network (see `pyhash.networks.select_levels`). Unless given, a level with labels weighs a
        tap by how much of its variance lies between that level's classes.
    name, training : str, optional
        Kept in the file: what the encoder is called, and what it was trained on.
    max_images : int, optional
        Use at most so many images, drawn at random.
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
    request = Request(
        images=images,
        labels=labels,
        levels=as_levels(levels),
        out=out,
        head=head,
        weights=weights,
        max_images=max_images,
        quantize=quantize,
        tolerance=tolerance,
        threads=threads,
        seed=seed,
        overwrite=overwrite,
        progress=progress,
    )
    request.check()
    labelled = _drawn(read_labels(images, labels, list(request.levels)), max_images, seed)
    found = backbone_of(backbone, preprocess)
    network = add_features(
        found.model, taps, found.preparation, n_taps=n_taps, pooling=pooling, size=size, layout=layout, input=input
    )
    _try(request, network)
    features = _features(request, network, labelled)
    del network  # held by the features; a large one needs not be in memory any longer than they are
    features, report = _quantized(request, features)
    grouped = tuple(level for level in request.levels if level not in features.labels) if features.labels else ()
    expected = features.rows[:LOOKED_AT].copy()
    if not np.ptp(expected, axis=0).any():
        raise GraphError(
            f"the network gives the same for all {len(expected):,} images: check how images are prepared (preprocess) "
            "and which layers are read (taps)"
        )
    request.tell("head", 0, 1)
    projection, fitted = _fit(request, features.blocks, features.rows, features.labels)
    encoder = add_head(
        features.network,
        fitted,
        request.levels,
        embedding=projection,
        parts=projection.blocks,
        spread=projection.spread.tolist(),
        made_of=dict.fromkeys(request.levels, "labels" if fitted.supervised else "own"),
        name=name or found.name or "encoder",
        training=_training(request, features) if training is None else training,
    )
    built = Built(
        path=os.fspath(out),
        levels=request.levels,
        taps={tap: columns.stop - columns.start for tap, columns in features.blocks.items()},
        n_images=len(features.rows),
        classes={level: fitted.details[level]["classes"] for level in request.levels} if features.labels else {},
        grouped=grouped,
        batch=fixed_batch(encoder),
        failed=features.failed,
        projection=projection,
        fitted=fitted,
        quantized=report,
    )
    compared = features.files[:_N_COMPARED]
    del features
    if quantize == "weights":
        encoder = int8.quantize_weights(encoder)
    logits = projection(expected) @ fitted.weight + fitted.bias
    _compare(encoder, compared, logits[:_N_COMPARED])
    warn_of_silence(pack(logits), request.levels.bits, os.fspath(out), fitted=True)
    save(encoder, out, overwrite=overwrite)
    request.tell("head", 1, 1)
    return built


def _training(request: Request, features: Features) -> str:
    return f"head {request.head} fitted on {len(features.rows)} images of {Path(request.images).resolve().name}"


def _drawn(labelled: Labelled, n: int | None, seed: int) -> Labelled:
    """Draw at most so many images at random."""
    if n is None or len(labelled.files) <= n:
        return labelled
    return labelled.take(np.sort(np.random.default_rng(seed).choice(len(labelled.files), n, replace=False)))


def _try(request: Request, network: ModelProto) -> None:
    """Refuse weights and levels that do not fit the network, and a network that makes no encoder."""
    levels, blocks = request.levels, feature_blocks(network)
    if request.quantize is not None:
        int8.check_float(network, request.quantize)
    heads.check_weights(request.weights, levels, blocks)
    dim = max(columns.stop for columns in blocks.values())
    if request.head == "sign" and levels.bits != dim:
        raise ValueError(f"levels must have {dim} bits together, one a feature, for the head 'sign', got {levels.bits}")
    zeros = np.zeros(levels.bits, np.float32)
    nothing = heads.Head(request.head, np.zeros((dim, levels.bits), np.float32), zeros, levels, zeros, False)
    with as_source(add_head(network, nothing, levels)) as source:
        Model(source, "the encoder", lean=True)


def _features(request: Request, network: ModelProto, labelled: Labelled) -> Features:
    """Compute the features of the images that can be read."""
    rows, kept, failed = extract(network, labelled.files, threads=request.threads, progress=request.progress)
    if len(rows) < 2:
        raise failed[0] if failed else LabelError(f"images must hold at least 2 images, got {len(rows)}")
    read = labelled.take(kept)
    labels = {level: np.array(values) for level, values in read.labels.items()}
    return Features(network, rows, read.files, labels, [*labelled.failed, *failed])


def _quantized(request: Request, features: Features) -> tuple[Features, Quantized | None]:
    """Quantise the network, where that is asked for; QuantizationError when it is worse than the tolerance."""
    kind = request.quantize
    if kind is None:
        return features, None
    drawn = np.sort(np.random.default_rng(request.seed).permutation(len(features.files))[:_N_CALIBRATION])
    pixels = pixels_of(features.network, [features.files[row] for row in drawn], request.threads)
    network = int8.quantize(features.network, pixels) if kind == "int8" else int8.quantize_weights(features.network)
    rows, _, failed = extract(network, features.files, threads=request.threads, progress=request.progress)
    if failed:
        raise failed[0]

    def fit(part: NDArray[np.float32], labels: Mapping[str, NDArray[Any]] | None) -> heads.Head:
        projection, head = _fit(request, features.blocks, part, labels)
        return projection.before(head)

    networks, both = (features.network, network), (features.rows, rows)
    report = assess(networks, both, features.labels, fit, pixels, request.tolerance, request.seed, kind=kind)
    report.check()
    return replace(features, network=network, rows=rows), report


def _fit(
    request: Request,
    blocks: Mapping[str, slice],
    rows: NDArray[np.float32],
    labels: Mapping[str, NDArray[Any]] | None,
) -> tuple[heads.Projection, heads.Head]:
    """Fit the projection of features and the head on what it gives; the head ``sign`` wants the features themselves."""
    stored = request.quantize == "weights"
    projection = heads.as_they_are(rows, blocks) if request.head == "sign" else heads.principal_components(rows, blocks)
    if stored and request.head != "sign":
        weight = int8.rounded(projection.weight)
        bias = -rows.mean(axis=0, dtype=np.float64) @ weight
        projection = replace(projection, weight=weight, bias=bias.astype(np.float32))
    fitted = heads.fit_fused(
        projection(rows),
        projection.blocks,
        request.levels,
        labels or None,
        kind=request.head,
        weights=request.weights,
        seed=request.seed,
    )
    return projection, replace(fitted, weight=int8.rounded(fitted.weight)) if stored else fitted


def _compare(encoder: ModelProto, files: Sequence[str], expected: NDArray[np.float32]) -> None:
    """Raise GraphError unless the encoder gives these logits for these files."""
    found = extract(encoder, files, output=LOGITS)
    if found.failed:
        raise found.failed[0]
    difference = float(np.abs(found.rows - expected).max())
    if difference > 1e-2 * max(1.0, float(np.abs(expected).max())):
        raise GraphError(f"the encoder's logits differ from those of its parts by {difference:.2g}")

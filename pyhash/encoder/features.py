"""The features of many images, as a network for features gives them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError
from ..networks import FEATURES, Model, as_source, metadata_of
from .pipeline import Pipeline, finite, usable_threads

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["Extracted", "Progress", "extract", "pixels_of"]

Progress = Callable[[str, int, int], object]
"""Called with the step, how much is done and how much there is."""

_CHUNK = 16  # images that are only loaded


class Extracted(NamedTuple):
    """The features of those files that could be read."""

    rows: NDArray[np.float32]
    """Shape (n, dim)."""
    kept: NDArray[np.int64]
    """Which of the files these are, shape (n,)."""
    failed: list[ImageError]
    """What is wrong with the others."""


def extract(
    model: ModelProto,
    files: Sequence[str | os.PathLike[str]],
    *,
    output: str = FEATURES,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Extracted:
    """Compute the features of images.

    Parameters
    ----------
    model : onnx.ModelProto
        As `pyhash.networks.add_features` returns it, or `add_head`.
    files : sequence of path
    output : str
        Which of its outputs to take.
    threads : int, optional
    progress : callable, optional
        Called with ``"features"``, images done and images in all.

    Returns
    -------
    Extracted
    """
    kept: list[int] = []
    failed: list[ImageError] = []
    with as_source(model) as source:
        large = isinstance(source, str)  # then memory is dearer than a quarter of the time
        network = Model(source, "the network", output, lean=large)
        pipeline = Pipeline(
            network.preparation,
            lambda pixels, n_threads: finite(network.run(pixels, n_threads), lambda parts: parts[0]),
            network.batch_sizes[0],
            usable_threads(threads),
        )
        rows = np.empty((len(files), network.width), np.float32)
        for done, row in enumerate(pipeline.rows(files, len(files)), 1):
            if row.value is not None:
                rows[len(kept)] = row.value
                kept.append(done - 1)
            if row.error is not None:
                failed.append(row.error)
            if progress is not None:
                progress("features", done, len(files))
    return Extracted(rows[: len(kept)], np.array(kept, np.int64), failed)


def pixels_of(
    model: ModelProto, files: Sequence[str | os.PathLike[str]], threads: int | None = None
) -> NDArray[np.uint8]:
    """Load images as a network takes them, uint8 (n, height, width, 3); ImageError when one cannot be read."""
    pipeline = Pipeline(metadata_of(model).preparation, lambda pixels, _: pixels, _CHUNK, usable_threads(threads))
    loaded: list[NDArray[np.uint8]] = []
    for row in pipeline.rows(files, len(files)):
        if row.error is not None:
            raise row.error
        if row.value is not None:
            loaded.append(row.value)
    return np.stack(loaded)

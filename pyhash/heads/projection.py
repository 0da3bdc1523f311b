"""From the features of several taps to an embedding: principal components of each, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..support import one_blas_thread, require
from .head import Head
from .numerics import blocks as row_blocks
from .numerics import class_means

COMPONENTS = 384
"""Numbers of an embedding, at most."""


@dataclass(frozen=True, eq=False)
class Projection:
    """What turns features into an embedding: an affine map that keeps lengths and angles as well as it can.

    Attributes
    ----------
    weight : float32 array, shape (dim, components)
        Each column reads one tap.
    bias : float32 array, shape (components,)
        ``embedding = features @ weight + bias``; its mean is 0 on the images that it was fitted on.
    blocks : dict of str to slice
        Which numbers of the embedding come from which tap.
    spread : float64 array, shape (components,)
        Their variances on those images.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    blocks: dict[str, slice]
    spread: NDArray[np.float64]

    def __call__(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return embeddings, float32 (n, components), of features (n, dim)."""
        return features @ self.weight + self.bias

    def before(self, head: Head) -> Head:
        """Return a head on the embedding as one on the features."""
        return replace(head, weight=self.weight @ head.weight, bias=self.bias @ head.weight + head.bias)


def principal_components(
    features: NDArray[np.float32], blocks: Mapping[str, slice], components: int = COMPONENTS
) -> Projection:
    """Project each tap on its principal components, without whitening.

    Taps get equal shares of the components, and what one cannot use goes to the wider ones. Each stays by itself, so
    that a level can weigh depths in its own way, and a part of the network that has the first taps alone still gives
    their part of the embedding. Joint components are no better: with two depths of EfficientNet-Lite0 the cosine finds
    as much by shares of 192 as by the 384 largest of both.

    Parameters
    ----------
    features : float32 array, shape (n, dim)
    blocks : mapping of str to slice
        Which columns come from which tap.
    components : int
        At least as many as taps.

    Returns
    -------
    Projection
    """
    mean = class_means(features, np.zeros(len(features), np.intp))[0]
    weight = np.zeros((features.shape[1], components), np.float32)
    spread = np.zeros(components)
    parts, end = {}, 0
    for tap, share in _shares(blocks, components).items():
        columns, start, end = blocks[tap], end, end + share
        parts[tap] = slice(start, end)
        values, vectors = _leading(features, columns, mean[columns], share)
        weight[columns, start:end] = vectors
        spread[start:end] = values
    weight = weight[:, :end]
    return Projection(weight, (-mean @ weight).astype(np.float32), parts, spread[:end])


def as_they_are(features: NDArray[np.float32], blocks: Mapping[str, slice]) -> Projection:
    """Return the projection that leaves features as they are."""
    dim = features.shape[1]
    variances = features.var(axis=0, dtype=np.float64)
    return Projection(np.eye(dim, dtype=np.float32), np.zeros(dim, np.float32), dict(blocks), variances)


def _shares(blocks: Mapping[str, slice], components: int) -> dict[str, int]:
    """Return how many components each tap gets: as equal as their widths allow."""
    widths = {tap: columns.stop - columns.start for tap, columns in blocks.items()}
    shares, left = {}, components
    for number, tap in enumerate(sorted(widths, key=widths.__getitem__)):
        shares[tap] = min(widths[tap], left // (len(widths) - number))
        left -= shares[tap]
    return {tap: shares[tap] for tap in blocks}


def _leading(
    features: NDArray[np.float32], columns: slice, mean: NDArray[np.float64], k: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the k largest eigenvalues of the covariance of some columns, and their eigenvectors (width, k)."""
    width = columns.stop - columns.start
    covariance = np.zeros((width, width))
    for rows in row_blocks(len(features), width):
        centred = features[rows, columns] - mean
        covariance += centred.T @ centred
    eigh: Any = require("scipy.linalg", "graph").eigh
    with one_blas_thread():
        values, vectors = eigh(covariance / len(features), subset_by_index=[width - k, width - 1], check_finite=False)
    values, vectors = values[::-1], vectors[:, ::-1]
    largest = vectors[np.abs(vectors).argmax(axis=0), np.arange(k)]
    return np.maximum(values, 0), vectors * np.where(largest < 0, -1.0, 1.0)  # their signs are arbitrary: fix them

"""Heads fitted without labels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..codes import LevelsLike, as_levels
from . import numerics
from .head import Head, as_features, fitted


def pca_itq(features: NDArray[Any], levels: LevelsLike, *, iterations: int = 50, seed: int = 0) -> Head:
    """Unsupervised: principal components, rotated so that their signs lose least (iterative quantization).

    Gong, Lazebnik, Gordo and Perronnin, "Iterative Quantization", TPAMI 2013: with Z the images on the leading
    components, find the orthogonal R that minimises ``|B - ZR|_F`` with ``B = sign(ZR)``, by turns: B from R, then R
    from the singular value decomposition of Z'B (the orthogonal Procrustes problem). R is fitted on at most 20,000
    images.

    With fewer components than bits (few dimensions, or few images) R has orthonormal rows instead of being square,
    and the same two steps still descend: the components are lifted to all the bits. Every level of a code of several
    is a head of its own on the leading components, so each can be searched alone.

    Parameters
    ----------
    features, levels, seed
        See the module.
    iterations : int

    Returns
    -------
    Head

    Raises
    ------
    ValueError
        When features are not finite, or all equal.
    """
    features, levels = as_features(features), as_levels(levels)
    if iterations < 0:
        raise ValueError(f"iterations must be at least 0, got {iterations}")
    ones = np.ones(len(features))
    mean = numerics.class_means(features, np.zeros(len(features), np.intp), ones)[0]
    vectors = numerics.spectrum(features, mean, ones).vectors
    weights, biases, details = [], [], {}
    for number, (level, bits) in enumerate(levels.items()):
        directions = vectors[:, :bits]
        weights.append(directions @ numerics.lift(features, mean, directions, bits, iterations, seed + number))
        biases.append(-mean @ weights[-1])
        details[level] = {"components": directions.shape[1]}
    return fitted("pca-itq", features, levels, weights, biases, details, supervised=False)


def pca_random(features: NDArray[Any], levels: LevelsLike, *, seed: int = 0) -> Head:
    """Baseline: principal components under a random rotation, cut at their mean.

    What `pca_itq` begins with, without its iterations (Hashing-Baseline, arXiv 2509.14427): the rotation spreads the
    variance over all bits, and nothing else is fitted.

    Parameters
    ----------
    features, levels, seed
        See the module.

    Returns
    -------
    Head

    Raises
    ------
    ValueError
        When features are not finite, or all equal.
    """
    return replace(pca_itq(features, levels, iterations=0, seed=seed), kind="pca-random")


def lsh(features: NDArray[Any], levels: LevelsLike, *, seed: int = 0) -> Head:
    """Baseline: signs of random projections of the centred features (Charikar, STOC 2002).

    The projections are orthogonal in batches of as many as there are dimensions, which makes Hamming distance a less
    noisy estimate of the angle (super-bit hashing: Ji et al., NeurIPS 2012).

    Parameters
    ----------
    features, levels, seed
        See the module; of the features only the mean is used.

    Returns
    -------
    Head

    Raises
    ------
    ValueError
        When features are not finite.
    """
    features, levels = as_features(features), as_levels(levels)
    dim = features.shape[1]
    mean = numerics.class_means(features, np.zeros(len(features), np.intp), np.ones(len(features)))[0]
    rng = np.random.default_rng(seed)
    batches = [
        np.linalg.qr(rng.standard_normal((dim, min(dim, levels.bits - i))))[0] for i in range(0, levels.bits, dim)
    ]
    weight = np.concatenate(batches, axis=1)
    return fitted("lsh", features, levels, [weight], [-mean @ weight], {}, supervised=False)


def sign(
    features: NDArray[Any], levels: LevelsLike | None = None, *, threshold: ArrayLike = 0.0, seed: int = 0
) -> Head:
    """No fitting: a bit for every feature, ``feature > threshold``, the textbook recipe for a trained hash layer.

    Parameters
    ----------
    features, seed
        See the module; nothing is random here.
    levels : Levels, mapping or int, optional
        Must have as many bits as there are features, the default.
    threshold : float or array of shape (dim,)
        `recenter` sets it to the median of a gallery.

    Returns
    -------
    Head

    Raises
    ------
    ValueError
        When the bits are not as many as the features, or threshold does not fit.
    """
    features = as_features(features)
    dim = features.shape[1]
    levels = as_levels(dim if levels is None else levels)
    if levels.bits != dim:
        raise ValueError(f"levels must have a bit for each of the {dim} features, got {levels.bits} bits")
    limits = np.asarray(threshold, np.float64)
    if limits.shape not in ((), (dim,)) or not np.isfinite(limits).all():
        raise ValueError(f"threshold must be one finite number, or one for each of {dim} features, got {threshold!r}")
    bias = -np.broadcast_to(limits, (dim,))
    return fitted("sign", features, levels, [np.eye(dim)], [bias], {}, supervised=False)

"""Which class an image shows, as probabilities: by how much two images agree in them, answers are put in order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import numerics

_SHARPNESS = 2.0 ** np.arange(0, 8.1, 0.25)
_ROWS = 20_000  # on which the sharpness is chosen


@dataclass(frozen=True, eq=False)
class Posterior:
    """Probabilities of classes: ``softmax(sharpness * (features @ weight + bias))``.

    Attributes
    ----------
    weight : float32 array, shape (dim, classes)
    bias : float32 array, shape (classes,)
        Ridge regression onto the indicators of the classes.
    sharpness : float
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    sharpness: float

    def __call__(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """Return the probabilities, float32 (n, classes)."""
        found = np.empty((len(features), len(self.bias)), np.float32)
        for rows in numerics.blocks(len(features), max(self.weight.shape)):
            scores = features[rows].astype(np.float32, copy=False) @ self.weight + self.bias
            found[rows] = _softmax(scores, self.sharpness)
        return found


def fit_posterior(features: NDArray[Any], labels: NDArray[Any], seed: int = 0) -> Posterior:
    """Fit probabilities of classes that are as sure as they are right.

    The scores are those of a ridge regression, its strength chosen by generalised cross-validation (`hadamard_ridge`).
    The sharpness is the one that makes the labels most likely when every image is scored by a regression without it:
    with h its leverage, ``(score - h * indicator) / (1 - h)``.

    Parameters
    ----------
    features : float array, shape (n, dim)
    labels : array, shape (n,)
    seed : int

    Returns
    -------
    Posterior
    """
    values, of_row = np.unique(labels, return_inverse=True)
    n = len(features)
    fit = numerics.regress(features, [of_row.astype(np.intp)], np.ones(n), None, {})
    weight = fit.spectrum.vectors @ (fit.cross / fit.damped[:, None])
    bias = fit.totals / n - fit.mean @ weight
    rows = np.arange(n)
    if n > _ROWS:
        rows = np.sort(np.random.default_rng(seed).choice(n, _ROWS, replace=False))
    likelihoods = np.zeros(len(_SHARPNESS))
    for part in numerics.blocks(len(rows), max(len(values), features.shape[1])):
        block, true = features[rows[part]].astype(np.float64), of_row[rows[part]]
        projected = (block - fit.mean) @ fit.spectrum.vectors
        leverage = np.minimum(1 / n + (projected**2 / fit.damped).sum(axis=1), 1 - 1e-6)[:, None]
        places = np.arange(len(block)), true
        scores = block @ weight + bias
        scores[places] -= leverage[:, 0]
        scores /= 1 - leverage
        for number, sharpness in enumerate(_SHARPNESS):
            likelihoods[number] += np.log(_softmax(scores, sharpness)[places] + 1e-12).sum()
    return Posterior(weight.astype(np.float32), bias.astype(np.float32), float(_SHARPNESS[likelihoods.argmax()]))


def _softmax(scores: NDArray[Any], sharpness: float) -> NDArray[Any]:
    powers = np.exp(sharpness * (scores - scores.max(axis=1, keepdims=True)))
    shares: NDArray[Any] = powers / powers.sum(axis=1, keepdims=True)
    return shares

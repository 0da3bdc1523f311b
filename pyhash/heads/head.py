"""A head: the affine map that turns features into bits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..codes import Levels, pack
from .numerics import Floats, blocks, check_finite


@dataclass(frozen=True, eq=False)
class Head:
    """What turns features into bits: an affine map.

    Attributes
    ----------
    kind : str
        Its name in `fit`.
    weight : float32 array, shape (dim, bits)
    bias : float32 array, shape (bits,)
        ``bit = features @ weight + bias > 0``.
    levels : Levels
    rates : float32 array, shape (bits,)
        Share of the training images whose bit is one.
    supervised : bool
        Whether labels were used.
    details : dict of str to dict
        What was chosen in fitting each level, as plain values: ``classes``, ``splits``, ``ridge``, ``labels``,
        ``directions`` or ``components``, as far as the kind knows them, and ``taps``, the weight of each tap, where
        several were joined (`fit_fused`).
    """

    kind: str
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    levels: Levels
    rates: NDArray[np.float32]
    supervised: bool
    details: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __repr__(self) -> str:
        parts = ", ".join(f"{level} {bits}" for level, bits in self.levels.items())
        return f"<Head {self.kind}: {self.dim} -> {self.bits} bits{f' ({parts})' if len(self.levels) > 1 else ''}>"

    @property
    def dim(self) -> int:
        """Columns of the features."""
        return int(self.weight.shape[0])

    @property
    def bits(self) -> int:
        """Bits of a code."""
        return int(self.weight.shape[1])

    def logits(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """Map features of shape (n, dim) to logits of shape (n, bits); ValueError unless all are finite."""
        features = as_features(features)
        if features.shape[1] != self.dim:
            raise ValueError(
                f"features must have {self.dim} columns, as the head was fitted on, got {features.shape[1]}"
            )
        logits = np.empty((len(features), self.bits), np.float32)
        for rows in blocks(*features.shape):
            with np.errstate(invalid="ignore", over="ignore"):  # checked in the next line
                logits[rows] = features[rows].astype(np.float32, copy=False) @ self.weight + self.bias
            check_finite(logits[rows], rows.start)
        return logits

    def encode(self, features: NDArray[Any]) -> NDArray[np.uint8]:
        """Map features of shape (n, dim) to codes of shape (n, n_bytes)."""
        return pack(self.logits(features))


def recenter(head: Head, features: NDArray[Any], rates: ArrayLike | None = None) -> Head:
    """Move the thresholds of a head to suit a gallery whose images differ from those it was fitted on.

    Parameters
    ----------
    head : Head
    features : array, shape (n, dim)
        Of the gallery; n at least 2.
    rates : float or array of shape (bits,), optional
        The share of the gallery's bits that shall be one. By default 0.5, the median, for a head fitted without labels;
        for one fitted with labels the share it had in training, because a split of classes need not be even and
        the median would cut through a class.

    Returns
    -------
    Head
        With another bias.

    Raises
    ------
    ValueError
        When features or rates do not fit.
    """
    features = as_features(features)
    if rates is None:
        rates = head.rates if head.supervised else 0.5
    shares = np.asarray(rates, np.float64)
    if shares.shape not in ((), (head.bits,)) or not ((shares >= 0) & (shares <= 1)).all():
        raise ValueError(f"rates must be one number from 0 to 1, or one for each of {head.bits} bits, got {rates!r}")
    logits = head.logits(features)
    logits.sort(axis=0)
    n = len(logits)
    zeros = np.clip(n - np.rint(np.broadcast_to(shares, (head.bits,)) * n), 1, n - 1).astype(np.intp)
    columns = np.arange(head.bits)
    thresholds = (logits[zeros - 1, columns].astype(np.float64) + logits[zeros, columns]) / 2
    return replace(head, bias=(head.bias - thresholds).astype(np.float32))


def fitted(
    kind: str,
    features: NDArray[Any],
    levels: Levels,
    weights: Sequence[Floats],
    biases: Sequence[Floats],
    details: dict[str, dict[str, Any]],
    *,
    supervised: bool,
) -> Head:
    """Join the weights and biases of levels to a head, and count which share of the images has each bit."""
    weight = np.ascontiguousarray(np.concatenate(weights, axis=1), np.float32)
    bias = np.concatenate(biases).astype(np.float32)
    head = Head(kind, weight, bias, levels, np.zeros(levels.bits, np.float32), supervised, details)
    logits = head.logits(features)
    return replace(head, rates=(logits > 0).mean(axis=0, dtype=np.float64).astype(np.float32))


def as_features(features: NDArray[Any]) -> NDArray[Any]:
    """Check the type and the shape of features."""
    array = np.asarray(features)
    if array.dtype.kind != "f":
        raise TypeError(f"features must be floating point, got {array.dtype}")
    if array.ndim != 2 or array.shape[0] < 2 or array.shape[1] < 1:
        raise ValueError(f"features must have shape (n, dim) with n at least 2 and dim at least 1, got {array.shape}")
    return array

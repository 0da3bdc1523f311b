"""Clusters of features that heads are tried on, and what they retrieve there."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyhash import heads
from pyhash.evaluation import evaluate

KINDS = [*heads.SUPERVISED, *heads.UNSUPERVISED]


class Clusters:
    """Gaussian classes in a few of 48 dimensions, in groups, under noise that is loudest where there are no classes."""

    def __init__(self, n: int = 900, n_classes: int = 12, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        groups = rng.standard_normal((n_classes // 3, 12)) * 1.2
        centres = groups[np.arange(n_classes) // 3] + 0.8 * rng.standard_normal((n_classes, 12))
        of_row = rng.choice(n_classes, n, p=np.arange(1, n_classes + 1) / np.arange(1, n_classes + 1).sum())
        inner = centres[of_row] + 0.7 * rng.standard_normal((n, 12))
        outer = rng.standard_normal((n, 36)) * np.linspace(0.5, 3, 36)
        rotation = np.linalg.qr(rng.standard_normal((48, 48)))[0]
        self.features = (np.concatenate([inner, outer], axis=1) @ rotation + 5).astype(np.float32)
        self.labels = {"coarse": of_row // 3, "fine": of_row}

    def half(self, part: int) -> tuple[NDArray[np.float32], dict[str, NDArray[np.int64]]]:
        return self.features[part::2], {level: values[part::2] for level, values in self.labels.items()}


def fit(kind: str, clusters: Clusters, levels: Any = 32, **options: Any) -> heads.Head:
    features, labels = clusters.half(0)
    if kind == "sign":
        levels = 48
    given = None if kind in heads.UNSUPERVISED else labels if isinstance(levels, dict) else labels["fine"]
    return heads.fit(kind, features, given, levels=levels, **options)


def retrieval(head: Any, clusters: Clusters, level: str = "fine", **options: Any) -> float:
    """Return mAP among pictures that the head was not fitted on."""
    features, labels = clusters.half(1)
    codes = head.encode(features)
    report = evaluate(codes[:100], codes[100:], labels[level][:100], labels[level][100:], ks=[1], **options)
    return report.value("mAP")

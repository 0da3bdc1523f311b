"""What turns features into bits, fitted in closed form or in seconds on a CPU."""

from __future__ import annotations

from .heads import (
    SUPERVISED,
    UNSUPERVISED,
    Head,
    Labels,
    LevelsLike,
    as_labels,
    as_levels,
    fit,
    hadamard_ridge,
    laplacian,
    lsh,
    pca_itq,
    recenter,
    sign,
    target_codes,
)

__all__ = [
    "SUPERVISED",
    "UNSUPERVISED",
    "Head",
    "Labels",
    "LevelsLike",
    "as_labels",
    "as_levels",
    "fit",
    "hadamard_ridge",
    "laplacian",
    "lsh",
    "pca_itq",
    "recenter",
    "sign",
    "target_codes",
]


def __dir__() -> list[str]:
    return __all__

"""What a search measures: the whole code, one level, or a weighted sum of levels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..codes import Levels, check_int, words_per_code
from .contract import Kernel, Metric

MAX_DISTANCE = 2**31 - 2  # 2**31 - 1 is the padding of answers

Terms = tuple[tuple[int, int, int], ...]  # (first byte, end byte, weight)


def terms(levels: Levels, level: str | None, weights: Mapping[str, int] | None) -> Terms | None:
    """Turn what is to be measured into byte ranges with weights; None is the whole code.

    Raises
    ------
    ValueError, TypeError
        When there is no such level, or weights do not fit.
    """
    if level is None and weights is None:
        return None
    if level is not None:
        if weights is not None:
            raise ValueError("level and weights must not both be given")
        check_level(levels, level, "level")
        chosen = {level: 1}
    else:
        if not isinstance(weights, Mapping):
            raise TypeError(f"weights must be a mapping of level to integer, got {type(weights).__name__}")
        for key in weights:
            check_level(levels, key, "weights")
        chosen = {key: check_int(value, f"weights[{key!r}]", 0) for key, value in weights.items()}
        if not any(chosen.values()):
            raise ValueError(f"weights must have one that is not 0, got {dict(chosen)!r}")
        most = sum(levels[key] * weight for key, weight in chosen.items())
        if most > MAX_DISTANCE:
            raise ValueError(f"weights must keep distances below 2**31 - 1, got a largest distance of {most}")
    if all(chosen.get(key) == 1 for key in levels):
        return None
    ranges = ((levels.byte_range(key), chosen.get(key, 0)) for key in levels)
    return tuple((part.start, part.stop, weight) for part, weight in ranges if weight)


def check_level(levels: Levels, level: object, name: str) -> None:
    """Raise a ValueError unless there is a level of this name."""
    if not isinstance(level, str) or level not in levels:
        known = ", ".join(map(repr, levels))
        raise ValueError(f"{name} must name a level of this index ({known}), got {level!r}")


def metric(kernel: Kernel, n_bytes: int, terms: Terms) -> Metric:
    """Return the kernel's `Metric` for these terms."""
    words, masks, weights = [], [], []
    for first, end, weight in terms:
        mask = np.zeros(words_per_code(n_bytes) * 8, dtype=np.uint8)
        mask[first:end] = 255
        words_of_level = mask.view(np.uint64)
        for word in np.flatnonzero(words_of_level).tolist():
            words.append(word)
            masks.append(words_of_level[word])
            weights.append(weight)
    return kernel.metric(
        np.array(words, dtype=np.uint32), np.array(masks, dtype=np.uint64), np.array(weights, dtype=np.uint32)
    )

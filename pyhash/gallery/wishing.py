"""What may be wished of a gallery when it is opened, checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..images import check_grid, check_min_size, check_patterns
from .labelling import split_levels

_CHECKS: dict[str, Callable[[Any], Any]] = {
    "levels": split_levels,
    "exclude": check_patterns,
    "min_size": check_min_size,
    "tiles": lambda tiles: check_grid(tiles) or (),
}


def checked_wishes(**wished: Any) -> dict[str, Any]:
    """Return the fields of `Wishes` that are given, all but None, as they are noted."""
    return {name: _CHECKS.get(name, bool)(value) for name, value in wished.items() if value is not None}

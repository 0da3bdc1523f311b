"""A service: searches of a gallery or an index over HTTP, with a page to search on."""

from __future__ import annotations

from .app import app
from .guard import LOCAL
from .limits import Limits
from .running import Settings, run

__all__ = ["LOCAL", "Limits", "Settings", "app", "run"]


def __dir__() -> list[str]:
    return __all__

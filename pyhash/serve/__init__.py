"""A service: searches of a gallery or an index over HTTP, with a page to search on."""

from __future__ import annotations

from ..support import require

for _package in ("fastapi", "prometheus_client", "python_multipart", "uvicorn"):
    require(_package, "serve")

from .app import app  # noqa: E402
from .guard import LOCAL  # noqa: E402
from .limits import Limits  # noqa: E402
from .running import Settings, run  # noqa: E402

__all__ = ["LOCAL", "Limits", "Settings", "app", "run"]


def __dir__() -> list[str]:
    return __all__

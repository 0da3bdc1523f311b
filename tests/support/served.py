"""An application beside a small gallery, asked without a network between."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from starlette.testclient import TestClient

from pyhash.serve import app


@contextlib.contextmanager
def asked(served: Any, **options: Any) -> Iterator[TestClient]:
    """Start an application, and wait until it is ready."""
    with TestClient(app(served, **options), base_url="http://localhost") as client:
        for _ in range(500):
            if client.get("/readyz").status_code == 200:
                break
            time.sleep(0.01)
        yield client

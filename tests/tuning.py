"""Where the constants are that tests change to reach with small data what happens with large."""

from __future__ import annotations

import importlib

import pytest

_PLACES = {
    "small_run": "pyhash.runs._SMALL_RUN",  # codes; what is smaller is merged into the next
    "ring_from": "pyhash.runs._RING_FROM",  # codes; a ring is considered from so many on
    "ring_after": "pyhash.runs._RING_AFTER",  # queries; and after so many flat passes
    "chunk_bytes": "pyhash.store._CHUNK_BYTES",
    "numba_work": "pyhash._numba._WORK_PER_THREAD",
    "numba_hits": "pyhash._numba._HITS",
    "busy_seconds": "pyhash._gallery_file._BUSY_SECONDS",
    "duplicate_rows": "pyhash._duplicates._ROWS",
    "evaluation_queries": "pyhash.evaluate._CHUNK_QUERIES",
    "evaluation_cells": "pyhash.evaluate._CHUNK_CELLS",
    "fitting_bytes": "pyhash._fitting._BLOCK_BYTES",
}


def tune(patch: pytest.MonkeyPatch, **values: float) -> None:
    """Set tuning constants, by their names here, for as long as the patch lasts."""
    for name, value in values.items():
        module, _, attribute = _PLACES[name].rpartition(".")
        patch.setattr(importlib.import_module(module), attribute, value)

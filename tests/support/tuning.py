"""Where the constants are that tests change to reach with small data what happens with large."""

from __future__ import annotations

import importlib

import pytest

_PLACES = {
    "small_segment": "pyhash.index.snapshot._SMALL_SEGMENT",  # codes; what is smaller is merged into the next
    "ring_from": "pyhash.index.rings._RING_FROM",  # codes; a ring is considered from so many on
    "ring_after": "pyhash.index.rings._RING_AFTER",  # queries; and after so many flat passes
    "chunk_bytes": "pyhash.index.chunks._CHUNK_BYTES",
    "numba_work": "pyhash.backend.numba_search._WORK_PER_THREAD",
    "numba_hits": "pyhash.backend.numba_search._HITS",
    "busy_seconds": "pyhash.gallery.opening._BUSY_SECONDS",
    "logged_revisions": "pyhash.gallery.store._LOGGED_REVISIONS",
    "logged_rows": "pyhash.gallery.store._LOGGED_ROWS",
    "mapped_from": "pyhash.gallery.loading._MAPPED_FROM",  # rows
    "small_difference": "pyhash.gallery.loading._SMALL_DIFFERENCE",  # rows beside the mapped ones, which are left so
    "large_difference": "pyhash.gallery.loading._LARGE_DIFFERENCE",  # rows beside the others, which are left so
    "few_images": "pyhash.gallery.adapt.FEW_IMAGES",
    "commit_images": "pyhash.gallery.update._COMMIT_ROWS",
    "product_queries": "pyhash.ranking.cosines._BLOCK_QUERIES",
    "product_numbers": "pyhash.ranking.cosines._BLOCK_PRODUCTS",
    "listed_numbers": "pyhash.ranking.cosines._BLOCK_CELLS",
    "searched_queries": "pyhash.ranking.averages._QUERIES",
    "averaged_rows": "pyhash.ranking.averages._BLOCK_ROWS",
    "evaluation_queries": "pyhash.evaluation.evaluating._CHUNK_QUERIES",
    "evaluation_cells": "pyhash.evaluation.evaluating._CHUNK_CELLS",
    "gate_seconds": "pyhash.encoder.gate._SECONDS",  # how long networks are timed
    "fitting_bytes": "pyhash.heads.numerics._BLOCK_BYTES",
}


def tune(patch: pytest.MonkeyPatch, **values: float) -> None:
    """Set tuning constants, by their names here, for as long as the patch lasts."""
    for name, value in values.items():
        module, _, attribute = _PLACES[name].rpartition(".")
        patch.setattr(importlib.import_module(module), attribute, value)

"""Linear algebra on one thread, and on as many as before where nothing can be done about it."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from pyhash.support import one_blas_thread


def test_one_thread_inside_and_as_many_as_before_behind() -> None:
    threadpoolctl = pytest.importorskip("threadpoolctl")
    np.linalg.eigh(np.eye(3))

    def counts() -> list[Any]:
        return [one["num_threads"] for one in threadpoolctl.threadpool_info() if one["user_api"] == "blas"]

    before = counts()
    with one_blas_thread():
        assert set(counts()) <= {1}
    assert counts() == before


def test_without_the_package_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    with one_blas_thread():
        np.testing.assert_allclose(np.linalg.eigh(np.eye(3))[0], 1)

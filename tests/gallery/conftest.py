"""Galleries of these tests do not wait for the disk, but where a test says so."""

from __future__ import annotations

import pytest
from tuning import tune

from pyhash.gallery import store

SYNCHRONOUS = store._SYNCHRONOUS


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    tune(monkeypatch, synchronous="OFF")


@pytest.fixture
def durable(_hasty: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have galleries wait for the disk, as they do outside tests."""
    tune(monkeypatch, synchronous=SYNCHRONOUS)

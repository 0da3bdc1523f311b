"""Fixtures of the tests of heads."""

from __future__ import annotations

import pytest
from clusters import Clusters


@pytest.fixture(scope="module")
def clusters() -> Clusters:
    return Clusters()

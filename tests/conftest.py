"""What tests share: the kernel that results are tested on, and codes to test with."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from numpy.typing import NDArray

import pyhash

pytest_plugins = ["command_fixtures", "page_fixtures"]

# What a test starts imports the package that is tested, not the source that may lie in the folder it starts in.
os.environ["PYTHONSAFEPATH"] = "1"
DATA_HOME = pytest.StashKey[str]()

settings.register_profile("pyhash", deadline=None, max_examples=50)
settings.load_profile("pyhash")


def pytest_configure(config: pytest.Config) -> None:
    """Keep the user's data folder out of the tests, of the processes too that they start."""
    os.environ["XDG_DATA_HOME"] = config.stash.setdefault(DATA_HOME, tempfile.mkdtemp(prefix="pyhash-tests-"))


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove what took its place."""
    shutil.rmtree(config.stash[DATA_HOME], ignore_errors=True)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests of kernels on every one; tests of the index, which stands on them, on the best one and Numba.

    tests/backend/test_choose.py says which cannot run here.
    """
    if "kernel" in metafunc.fixturenames:
        names = pyhash.kernels()
        if metafunc.definition.path.parent.name == "index":
            names = sorted({names[0], names[-1]})
        metafunc.parametrize("kernel", names, indirect=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Test once, where there is native code, what no kernel changes and takes long: copies and their files."""
    if pyhash.kernels() != ["numba"]:
        return
    once = pytest.mark.skip(reason="no kernel changes it: it is tested where there is native code")
    for item in items:
        if item.path.parent.name == "copies" or item.path.name == "test_bench_duplicates.py":
            item.add_marker(once)


@pytest.fixture
def kernel(request: pytest.FixtureRequest) -> Iterator[str]:
    """Use a kernel for the test."""
    with pyhash.use(request.param):
        yield request.param


@pytest.fixture
def data_directory() -> Path:
    """Directory of real data, named by the environment variable PYHASH_DATA."""
    directory = os.environ.get("PYHASH_DATA")
    if not directory:
        pytest.skip("PYHASH_DATA does not name a directory of real data")
    return Path(directory)


def random_codes(rng: np.random.Generator, n: int, bits: int, spread: float = 0.5) -> NDArray[np.uint8]:
    """Codes around a few centres: each bit differs from the centre's with probability `spread`; 0.5 is uniform."""
    centres = rng.integers(0, 2, (4, bits), dtype=np.uint8)
    flipped = rng.random((n, bits), dtype=np.float32) < spread
    return np.packbits(centres[rng.integers(0, 4, n)] ^ flipped, axis=1)

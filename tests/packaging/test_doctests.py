"""The examples in the documentation of the package run, as they stand."""

import doctest
import importlib
import pkgutil

import pytest

import pyhash

MODULES = ["pyhash", *(found.name for found in pkgutil.walk_packages(pyhash.__path__, "pyhash."))]
NOT_EXAMPLES = {"pyhash.__main__", "pyhash._native", "pyhash.bench._probes", "pyhash.codes._pack"}


@pytest.mark.parametrize("name", [name for name in MODULES if name not in NOT_EXAMPLES])
def test_examples(name: str) -> None:
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        pytest.skip(f"it needs a package that is not here: {error}")
    failed, _ = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert failed == 0


def test_the_finder_finds_examples() -> None:
    assert any(test.examples for test in doctest.DocTestFinder().find(pyhash.Index, "Index"))

"""Which kernels there are, which is active, and with how many threads."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import pyhash
from pyhash import backend
from pyhash.backend import choose, native

# Every kernel there is: what this machine lacks is skipped here by name, once, and nowhere else.
KERNELS = ["scalar", "avx2", "avx512", "neon", "numba"]


def run(code, **environment):
    """Run Python code in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300)
    return done.stdout.strip() if done.returncode == 0 else done.stderr.strip().splitlines()[-1]


def test_every_kernel_here_is_tested():
    assert set(backend.kernels()) <= set(KERNELS)
    if backend.why_no_native() is None:
        from pyhash import _native

        names = [kernel.name for kernel in _native.kernels()]
        assert backend.kernels()[: len(names)] == names
        assert set(names) <= set(_native.compiled_kernels()) <= set(KERNELS)


@pytest.mark.parametrize("name", KERNELS)
def test_use_switches_at_once_and_restores(name):
    if name not in pyhash.kernels():
        pytest.skip(f"kernel {name} cannot run here: there are {', '.join(pyhash.kernels())}")
    before = pyhash.kernel()
    with pyhash.use(name):
        assert pyhash.kernel() == name
        with pyhash.use("auto"):
            assert pyhash.kernel() == pyhash.kernels()[0]
        assert pyhash.kernel() == backend.active().name == name
        assert backend.active() is backend.active()
    assert pyhash.kernel() == before
    chosen = pyhash.use(name)
    assert pyhash.kernel() == name
    assert repr(chosen) == f"<pyhash kernel {name}, before: {before}>"
    with chosen:
        pass
    assert pyhash.kernel() == before


def test_restores_after_an_error():
    before = pyhash.kernel()
    with pytest.raises(ZeroDivisionError), pyhash.use(pyhash.kernels()[-1]):
        raise ZeroDivisionError
    assert pyhash.kernel() == before


@pytest.mark.parametrize("name", ["nonsense", "", "AVX 2", None])
def test_an_unknown_kernel_lists_those_there_are(name):
    before = pyhash.kernel()
    with pytest.raises(ValueError, match="kernel must be one of 'auto', ") as caught:
        pyhash.use(name)
    assert all(repr(known) in str(caught.value) for known in pyhash.kernels())
    assert str(caught.value).lower().endswith(f"got {name!r}".lower())
    assert pyhash.kernel() == before


def test_a_kernel_is_named_in_any_case():
    with pyhash.use("SCALAR" if "scalar" in pyhash.kernels() else "Numba"):
        assert pyhash.kernel() in ("scalar", "numba")


def test_environment_chooses_the_kernel():
    code = "import pyhash; print(pyhash.kernel())"
    for name in backend.kernels():
        assert run(code, PYHASH_KERNEL=name) == name
    assert run(code, PYHASH_KERNEL="auto") == run(code, PYHASH_KERNEL="") == backend.kernels()[0]
    message = run(code, PYHASH_KERNEL="nonsense")
    assert message.startswith("ValueError: PYHASH_KERNEL must be one of 'auto', ")
    assert message.endswith("got 'nonsense'")
    code = "import pyhash\nwith pyhash.use('auto'): pass\nprint(pyhash.kernel())"
    assert run(code, PYHASH_KERNEL=backend.kernels()[-1]) == backend.kernels()[-1]


def test_threads(monkeypatch):
    monkeypatch.setattr(choose, "_default_threads", None)
    monkeypatch.delenv("PYHASH_THREADS", raising=False)
    assert backend.threads(None) == 0
    assert backend.threads(3) == backend.threads(np.int64(3)) == 3
    assert 1 <= backend.threads(10**30) < 2**31
    for bad, error in [(0, ValueError), (-1, ValueError), (1.0, TypeError), (True, TypeError)]:
        with pytest.raises(error, match="threads must be "):
            backend.threads(bad)
    monkeypatch.setattr(choose, "_default_threads", None)
    monkeypatch.setenv("PYHASH_THREADS", "2")
    assert (backend.threads(), backend.threads(5)) == (2, 5)
    for bad in ("0", "-1", "two", "1.5", "²"):
        monkeypatch.setattr(choose, "_default_threads", None)
        monkeypatch.setenv("PYHASH_THREADS", bad)
        with pytest.raises(ValueError, match=f"PYHASH_THREADS must be an integer of at least 1, got '{bad}'"):
            backend.threads()


def test_import_brings_no_numba():
    code = "import sys, pyhash, pyhash.index, pyhash.codes; pyhash.kernels(); print('numba' in sys.modules)"
    assert run(code) == "False"


WITHOUT = "import sys; sys.modules.update(dict.fromkeys({}))\nimport pyhash; from pyhash import backend\n"


def test_without_the_compiled_modules():
    if "numba" not in backend.kernels():
        pytest.skip("Numba is not installed")
    code = WITHOUT.format(["pyhash._native", "pyhash.codes._pack"]) + (
        "print(pyhash.kernels(), pyhash.kernel(), backend.cpu_features(), backend.why_no_native())"
    )
    said = run(code)
    assert said.startswith("['numba'] numba [] the compiled module was not found in ")
    assert said.endswith("it was not compiled when pyhash was installed")
    strict = "import warnings; warnings.simplefilter('error', RuntimeWarning)\n" + code
    assert run(strict).startswith("RuntimeWarning: pyhash searches with Numba, which is several times slower")
    assert run(strict.replace("pyhash.kernel(),", "pyhash.use('numba'), pyhash.kernel(),")).startswith("['numba']")


def test_a_source_tree_that_hides_the_installed_package_says_so(monkeypatch, tmp_path):
    class Installed:
        def locate_file(self, name):
            return tmp_path / name

    (tmp_path / "pyhash").mkdir()
    monkeypatch.setattr(importlib.metadata, "distributions", lambda name: [Installed()])
    assert "was not compiled" in native._why_missing()
    (tmp_path / "pyhash" / "_native.cpython-311.so").touch()
    said = native._why_missing()
    assert said.startswith(
        f"pyhash is imported from {Path(pyhash.__file__).parent}, which hides the installed package in"
    )
    assert "install this one with `pip install -e .`" in said


def test_without_any_backend():
    code = WITHOUT.format(["pyhash._native", "numba"]) + "print(pyhash.kernels()); pyhash.kernel()"
    message = run(code)
    assert message.startswith("ImportError: no search backend is available: the compiled module was not found in ")
    assert message.endswith("pip install 'pyhash-retrieval[numba]'")


def test_without_numba():
    if backend.why_no_native():
        pytest.skip(backend.why_no_native())
    code = WITHOUT.format(["numba"]) + "assert 'numba' not in pyhash.kernels()\npyhash.use('numba')"
    assert run(code).endswith("got 'numba' (pip install 'pyhash-retrieval[numba]' brings it)")

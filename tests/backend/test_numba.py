"""Numba in processes that fork."""

from __future__ import annotations

import os

import pytest
from test_choose import run

import pyhash


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_numba_searches_in_a_child_forked_during_a_compilation():
    if "numba" not in pyhash.kernels():
        pytest.skip("Numba is not installed")
    code = """
import os, signal, threading, time, numpy as np, pyhash
index = pyhash.Index(bits=64)
index.add(np.zeros((3, 8), dtype=np.uint8))
pyhash.use("numba")
from numba.core.compiler_lock import global_compiler_lock
compiling = threading.Event()
def search():
    with global_compiler_lock:
        compiling.set()
        time.sleep(0.5)
signal.alarm(60)  # ends a process that waits for ever
threading.Thread(target=search).start()
compiling.wait()
pid = os.fork()
if not pid:
    signal.alarm(60)
    index.search(np.zeros(8, dtype=np.uint8), 3)
    os._exit(0)
print(os.waitpid(pid, 0)[1])
"""
    assert run(code) == "0"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_numba_searches_in_a_forked_child():
    if "numba" not in pyhash.kernels():
        pytest.skip("Numba is not installed")
    code = """
import os, sys, numpy as np, pyhash
from pyhash.backend import numba_search as _numba
_numba._WORK_PER_THREAD = 1
codes = np.random.default_rng(0).integers(0, 256, (5000, 8), dtype=np.uint8)
index = pyhash.Index(bits=64)
index.add(codes)
pyhash.use("numba")
expected = index.search(codes[:50], 5, threads=2)
pid = os.fork()
if not pid:
    found = index.search(codes[:50], 5, threads=2)
    os._exit(0 if all(map(np.array_equal, expected, found)) else 1)
print(os.waitpid(pid, 0)[1])
"""
    assert run(code) == "0"

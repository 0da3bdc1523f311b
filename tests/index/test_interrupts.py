"""Ctrl-C in the middle of a long call: KeyboardInterrupt long before it would have ended, and all is as it was."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

import pyhash

SCRIPT = """
import os, signal, sys, threading, time
import numpy as np, pyhash

pyhash.use(sys.argv[2])
threads = int(sys.argv[3])
rng = np.random.default_rng(0)
index = pyhash.Index(8192, structure="flat")
index.add(rng.integers(0, 256, (60_000, 1024), dtype=np.uint8))
queries = index.codes(index.ids)
calls = {
    "search": lambda: index.search(queries, 3, threads=threads),
    "range_search": lambda: index.range_search(queries, 3700, threads=threads),
    "pairs": lambda: index.pairs(3700, threads=threads),
    "groups": lambda: index.groups(3700, threads=threads),
}
call = calls[sys.argv[1]]
sent = []

def interrupt():
    sent.append(time.monotonic())
    os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it in what runs in the background
threading.Timer(0.5, interrupt).start()
try:
    call()
except KeyboardInterrupt:
    print(time.monotonic() - sent[0])
else:
    sys.exit("the call ended before it was interrupted")
assert len(index) == 60_000
assert index.search(queries[:2], 1, threads=threads).ids.tolist() == [[0], [1]]
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a process cannot send itself SIGINT there")
@pytest.mark.parametrize(("call", "threads"), [("search", 1), ("range_search", 2), ("pairs", 2), ("groups", 1)])
def test_ctrl_c(call: str, threads: int) -> None:
    fast = pyhash.kernels()[0]
    if fast == "numba":
        pytest.skip("the Numba backend hears signals between its tasks only")
    arguments = [sys.executable, "-c", SCRIPT, call, fast, str(threads)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 3  # none of the calls ends so soon


def test_a_handler_that_does_not_raise_stops_nothing() -> None:
    """Handlers run in the middle of a call, may search themselves, and the answer is what it would have been."""
    if not hasattr(signal, "setitimer"):
        pytest.skip("this system has no interval timers")
    import numpy as np

    index = pyhash.Index(256, structure="flat")
    rng = np.random.default_rng(0)
    index.add(rng.integers(0, 256, (30_000, 32), dtype=np.uint8))
    queries = index.codes(index.ids)
    expected = index.pairs(70)
    heard = []
    before = signal.signal(signal.SIGALRM, lambda *_: heard.append(index.search(queries[0], 1).ids[0]))
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
    try:
        while len(heard) < 5:
            found = index.pairs(70)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert set(heard) == {0}
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)

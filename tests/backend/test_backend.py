"""Every kernel against the reference, through `pyhash/backend/contract.py`; and choosing one."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stored import Stored, assert_same, check, clustered, flat, interleaved
from tuning import tune

import pyhash
from pyhash.backend import choose as backend
from pyhash.codes import to_words

KERNELS = ["scalar", "avx2", "avx512", "neon", "numba"]
WIDTHS = [*range(1, 10), 16, 125]  # words
SIZES = [0, 1, 63, 64, 65, 127, 128, 129, 511, 512, 513, 1000]
LARGEST = 2**31 - 2


def use_or_skip(name):
    if name not in backend.kernels():
        if name == "numba":
            pytest.skip("Numba is not installed")
        pytest.skip(pyhash.backend.why_no_native() or f"this machine cannot run the kernel {name}")
    return backend.use(name)


@pytest.fixture(params=pyhash.kernels())
def module(request, monkeypatch):
    """One kernel after the other."""
    with pyhash.use(request.param):
        active = backend.active()
        if request.param == "numba":
            tune(monkeypatch, numba_work=1)  # so that little work is shared too
            tune(monkeypatch, numba_hits=100)  # and few answers are more than fit
        yield active


# Searches


@pytest.mark.parametrize("n_words", [1, 2, 3, 8])
def test_sizes_around_blocks_and_chunks(module, n_words):
    rng = np.random.default_rng(n_words)
    for n in SIZES:
        rows = clustered(rng, n, 8 * n_words)
        queries = clustered(rng, 3, 8 * n_words)
        check(module, [Stored(rows, 5)], queries, (1, 10, n + 3), (0, 12, 8 * n_words), threads=(1, 2))


@pytest.mark.parametrize("n_words", WIDTHS)
def test_widths(module, n_words):
    rng = np.random.default_rng(n_words)
    for n_bytes in {8 * n_words, 8 * n_words - 1, 8 * n_words - 5, 8 * n_words - 7}:
        rows = rng.integers(0, 256, (200, n_bytes), dtype=np.uint8)
        queries = np.concatenate([rows[7:8], ~rows[9:10], rng.integers(0, 256, (2, n_bytes), dtype=np.uint8)])
        check(module, [Stored(rows)], queries, (1, 17), (4 * n_bytes, 8 * n_bytes))


@pytest.mark.parametrize("n_words", [1, 2, 5])
@pytest.mark.parametrize("dead", [0, 0.3])
@pytest.mark.parametrize("allowed", [None, 0.02, 0.6])
def test_interleaved_segments_removed_and_allowed(module, n_words, dead, allowed):
    rng = np.random.default_rng(7)
    rows = clustered(rng, 700, 8 * n_words, flips=2)
    queries = np.concatenate([rows[:3], clustered(rng, 2, 8 * n_words)])
    stored = interleaved(rng, rows, 4, dead, allowed)
    check(module, stored, queries, (1, 9, 100, 800), (0, 3, 40), threads=(1, 2, 3))


LEVELS = {
    1: [[(0, 2, 1)], [(2, 8, 1)], [(0, 2, 3), (2, 8, 1)], [(1, 2, 7), (5, 6, 2)]],
    3: [[(0, 4, 1)], [(4, 24, 1)], [(0, 4, 5), (4, 24, 2)], [(12, 20, 1)], [(0, 3, 1), (3, 9, 10), (9, 24, 100)]],
}


@pytest.mark.parametrize("n_words", LEVELS)
def test_levels_and_weights(module, n_words):
    rng = np.random.default_rng(8)
    rows = clustered(rng, 300, 8 * n_words)
    queries = np.concatenate([rows[:2], rng.integers(0, 256, (1, 8 * n_words), dtype=np.uint8)])
    for parts in LEVELS[n_words]:
        check(module, interleaved(rng, rows, 3, 0.1, 0.8), queries, (1, 20, 400), (0, 5, 60), parts, (1, 3))


def test_weights_up_to_the_largest_distance(module):
    rng = np.random.default_rng(9)
    rows = rng.integers(0, 256, (500, 8), dtype=np.uint8)
    queries = np.concatenate([rows[:1], ~rows[1:2], rng.integers(0, 256, (1, 8), dtype=np.uint8)])
    weight = LARGEST // 64
    check(module, interleaved(rng, rows, 2), queries, (1, 30), (0, 20 * weight, LARGEST), [(0, 8, weight)])
    parts = [(0, 4, LARGEST // 64), (4, 6, 1), (6, 8, LARGEST // 33)]
    check(module, interleaved(rng, rows, 2), queries, (1, 30), (0, LARGEST // 3), parts)


def test_the_longest_codes(module):
    rng = np.random.default_rng(10)
    rows = rng.integers(0, 256, (70, 8192), dtype=np.uint8)
    queries = np.concatenate([rows[:1], ~rows[1:2]])
    check(module, [Stored(rows)], queries, (1, 70), (0, 32768, 65536))


@pytest.mark.parametrize("n_segments", [1, 3])
def test_heavy_ties(module, n_segments):
    rng = np.random.default_rng(11)
    for n_different in (1, 2, 5):
        rows = rng.integers(0, 256, (n_different, 8), dtype=np.uint8)[rng.integers(0, n_different, 1000)]
        queries = np.concatenate([rows[:1], rng.integers(0, 256, (1, 8), dtype=np.uint8)])
        check(module, interleaved(rng, rows, n_segments), queries, (1, 10, 63, 64, 65, 500, 1000), (0, 40))


@pytest.mark.parametrize("parts", [None, [(0, 8, 1_000_000)]])
def test_ties_with_ever_smaller_ids(module, parts):
    rows = np.full((250, 8), 15, dtype=np.uint8)
    stored = [Stored(rows, first) for first in range(5000, 0, -500)]
    check(module, stored, np.zeros((2, 8), dtype=np.uint8), (1, 10, 100, 1000), (31,), parts, (1, 3))


@pytest.mark.parametrize("parts", [None, [(0, 1, 1), (1, 8, 1000)], [(0, 2, 1000), (2, 8, 1_000_000)]])
def test_ever_nearer_codes(module, parts):
    """Every code is a candidate, for each is nearer than all before; then with ties, and ids against the order."""
    bits = np.arange(64)[::-1, None] > np.arange(64)  # distances 63, 62, ... 0 from zero
    rows = np.repeat(np.packbits(bits, axis=1), 30, axis=0)
    queries = np.zeros((2, 8), dtype=np.uint8)
    n = len(rows)
    check(module, [Stored(rows)], queries, (1, 7, 200, 900), (10, 3000), parts)
    late = Stored(rows[::2], np.arange(2 * n, 2 * n + n // 2))
    early = Stored(rows[1::2], np.arange(n // 2))
    check(module, [late, early], queries, (1, 7, 200, 900), (10,), parts)


def test_threads_and_many_queries(module):
    rng = np.random.default_rng(12)
    rows = clustered(rng, 1000, 48)
    queries = clustered(rng, 300, 48)
    stored = interleaved(rng, rows, 2, 0.1)
    check(module, stored, queries, (5,), (12,), threads=(0, 1, 2, 3, 64))


def test_nothing_to_search_or_to_search_for(module):
    rows = np.arange(80, dtype=np.uint8).reshape(10, 8)
    queries = rows[:2]
    check(module, [Stored(rows)], queries[:0], (3,), (3,))
    check(module, [Stored(rows, dead=np.ones(10, bool))], queries, (3,), (64,))
    check(module, [Stored(rows, allowed=np.zeros(10, bool))], queries, (3,), (64,))
    check(module, [Stored(rows[:0]), Stored(rows, 100), Stored(rows[:0])], queries, (3,), (64,))
    distances, ids = module.topk([], to_words(queries), None, 3, None, 0)
    assert (distances.tolist(), ids.tolist()) == ([[2**31 - 1] * 3] * 2, [[-1] * 3] * 2)
    offsets, distances, ids = module.within([], to_words(queries), None, 3, None, 0)
    assert (offsets.tolist(), len(distances), len(ids)) == ([0, 0, 0], 0, 0)
    assert [len(part) for part in module.pairs([], 3, 0)] == [0, 0, 0]


@settings(max_examples=25, deadline=None, derandomize=True)
@given(data=st.data())
@pytest.mark.parametrize("name", pyhash.kernels())
def test_any_search(name, data):
    with pyhash.use(name):
        seed = data.draw(st.integers(0, 2**32 - 1), "seed")
        rng = np.random.default_rng(seed)
        n_bytes = data.draw(st.integers(1, 40), "bytes")
        rows = clustered(rng, data.draw(st.integers(0, 300), "codes"), n_bytes, data.draw(st.integers(0, 8), "flips"))
        queries = clustered(rng, data.draw(st.integers(1, 70), "queries"), n_bytes)
        fraction = st.sampled_from([0, 0.1, 0.9])
        dead, allowed = data.draw(fraction, "dead"), data.draw(st.none() | fraction, "allowed")
        stored = interleaved(rng, rows, data.draw(st.integers(1, 4), "segments"), dead, allowed)
        cut = data.draw(st.integers(0, n_bytes - 1), "cut")
        weight = data.draw(st.integers(1, 9), "weight")
        parts = data.draw(st.sampled_from([None, [(cut, n_bytes, weight)], [(0, cut + 1, 1), (cut, n_bytes, weight)]]))
        k = data.draw(st.sampled_from([1, 2, 10, 100, 301]), "k")
        radius = data.draw(st.integers(0, 8 * n_bytes), "radius")
        check(backend.active(), stored, queries, (k,), (radius,), parts, (data.draw(st.integers(0, 3), "threads"),))


# Pairs and distances


@functools.cache
def pair_case(n_words, n, n_segments, dead):
    rng = np.random.default_rng(13)
    stored = interleaved(rng, clustered(rng, n, 8 * n_words, flips=3), n_segments, dead)
    stored = [s for s in stored if len(s.rows)] or stored[:1]
    rows, ids, there, _ = flat(stored)
    return stored, {radius: oracle.pairs(rows[there], ids[there], radius) for radius in (0, 4)}


@pytest.mark.parametrize("n_segments", [1, 3])
@pytest.mark.parametrize("dead", [0, 0.3])
def test_pairs(module, n_segments, dead):
    for n_words, n in [(1, 0), (1, 1), (1, 64), (1, 65), (1, 600), (2, 129), (3, 200), (9, 130)]:
        stored, expected = pair_case(n_words, n, n_segments, dead)
        segments = [s.segment(module) for s in stored]
        for radius, answer in expected.items():
            for threads in (1, 3):
                assert_same(module.pairs(segments, radius, threads), answer, f"{n} codes, radius {radius}")


def test_pairs_of_all_with_all(module):
    rows = np.random.default_rng(14).integers(0, 256, (150, 8), dtype=np.uint8)
    answer = module.pairs([Stored(rows, 3).segment(module)], LARGEST, 0)
    assert_same(answer, oracle.pairs(rows, np.arange(3, 153), 64), "all pairs")
    assert len(answer[0]) == 150 * 149 // 2


@pytest.mark.parametrize("n_words", WIDTHS)
def test_distances(module, n_words):
    rng = np.random.default_rng(15)
    for m, n in [(0, 3), (3, 0), (1, 1), (5, 513), (200, 3), (65, 64)]:
        a = rng.integers(0, 256, (m, 8 * n_words), dtype=np.uint8)
        b = rng.integers(0, 256, (n, 8 * n_words), dtype=np.uint8)
        expected = oracle.hamming(a, b).astype(np.int32)
        for threads in (0, 1, 3):
            assert_same([module.hamming(to_words(a), to_words(b), threads)], [expected], (m, n, threads))


def test_hamming_takes_away_dimensions(module):
    rng = np.random.default_rng(16)
    for n_bytes in (1, 8, 13):
        a, b = (rng.integers(0, 256, (n, n_bytes), dtype=np.uint8) for n in (4, 6))
        expected = oracle.hamming(a, b)
        for left, right, cut in [
            (a, b, expected),
            (a[2], b, expected[2]),
            (a, b[1], expected[:, 1]),
            (a[::-1], b[::2], expected[::-1, ::2]),
            (a[:0], b, expected[:0]),
        ]:
            distances = pyhash.hamming(left, right)
            assert distances.dtype == np.int32
            np.testing.assert_array_equal(distances, cut)
        assert pyhash.hamming(a[1], b[5], threads=2) == expected[1, 5]


@pytest.mark.parametrize(
    ("a", "b", "threads", "error", "message"),
    [
        (np.zeros(2, np.uint8), np.zeros(3, np.uint8), None, ValueError, "a and b must have the same .* got 2 and 3"),
        (
            np.zeros(2, np.int8),
            np.zeros(2, np.uint8),
            None,
            TypeError,
            "a must be packed codes of dtype uint8, got int8",
        ),
        (np.zeros(2, np.uint8), np.zeros((1, 1, 2), np.uint8), None, ValueError, "b must be 1-D or 2-D, got 3-D"),
        (np.zeros((2, 0), np.uint8), np.zeros((2, 0), np.uint8), None, ValueError, "a must have 1 to 8192 bytes"),
        (np.zeros(2, np.uint8), np.zeros(2, np.uint8), 0, ValueError, "threads must be at least 1, got 0"),
    ],
)
def test_hamming_bad_input(a, b, threads, error, message):
    with pytest.raises(error, match=message):
        pyhash.hamming(a, b, threads)


# Choosing


def run(code, **environment):
    """Run Python code in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300)
    return done.stdout.strip() if done.returncode == 0 else done.stderr.strip().splitlines()[-1]


def test_every_kernel_here_is_tested():
    assert set(backend.kernels()) <= set(KERNELS)
    if pyhash.backend.why_no_native() is None:
        from pyhash import _native

        names = [kernel.name for kernel in _native.kernels()]
        assert backend.kernels()[: len(names)] == names
        assert set(names) <= set(_native.compiled_kernels()) <= set(KERNELS)


@pytest.mark.parametrize("name", KERNELS)
def test_use_switches_at_once_and_restores(name):
    before = pyhash.kernel()
    with use_or_skip(name):
        assert pyhash.kernel() == name
        with pyhash.use("auto"):
            assert pyhash.kernel() == pyhash.kernels()[0]
        assert pyhash.kernel() == name
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
    monkeypatch.setattr(backend, "_default_threads", None)
    monkeypatch.delenv("PYHASH_THREADS", raising=False)
    assert backend.threads(None) == 0
    assert backend.threads(3) == backend.threads(np.int64(3)) == 3
    assert 1 <= backend.threads(10**30) < 2**31
    for bad, error in [(0, ValueError), (-1, ValueError), (1.0, TypeError), (True, TypeError)]:
        with pytest.raises(error, match="threads must be "):
            backend.threads(bad)
    monkeypatch.setattr(backend, "_default_threads", None)
    monkeypatch.setenv("PYHASH_THREADS", "2")
    assert (backend.threads(), backend.threads(5)) == (2, 5)
    for bad in ("0", "-1", "two", "1.5", "²"):
        monkeypatch.setattr(backend, "_default_threads", None)
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
    assert "was not compiled" in pyhash.backend.native._why_missing()
    (tmp_path / "pyhash" / "_native.cpython-311.so").touch()
    said = pyhash.backend.native._why_missing()
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
    if pyhash.backend.why_no_native():
        pytest.skip(pyhash.backend.why_no_native())
    code = WITHOUT.format(["numba"]) + "assert 'numba' not in pyhash.kernels()\npyhash.use('numba')"
    assert run(code).endswith("got 'numba' (pip install 'pyhash-retrieval[numba]' brings it)")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_numba_searches_in_a_child_forked_during_a_compilation():
    if "numba" not in backend.kernels():
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
    if "numba" not in backend.kernels():
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

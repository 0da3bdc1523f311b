"""Many threads and processes at one index: a change is seen whole or not at all, and nothing waits for ever."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import oracle
import pytest
from conftest import random_codes
from numpy.testing import assert_array_equal
from tuning import tune

import pyhash
from pyhash import Index
from pyhash.support import lock as _lock

LONG = 60  # seconds in which a test that works is surely done
GROUP = 100
X, Y = np.full(8, 0x5A, dtype=np.uint8), np.full(8, 0xC3, dtype=np.uint8)

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
# From Python 3.12 on a fork in a process with threads warns; here it is what is tested.
forks = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@pytest.fixture(autouse=True)
def _switch_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@contextmanager
def meanwhile(*functions: Callable[[], Any]) -> Iterator[None]:
    """Call functions again and again, each in a thread of its own; what one raises is raised in the end."""
    stop = threading.Event()
    raised: list[BaseException] = []
    begun = threading.Barrier(len(functions) + 1)

    def again(function: Callable[[], Any]) -> None:
        begun.wait(LONG)
        try:
            while not stop.is_set():
                function()
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=again, args=(function,), daemon=True) for function in functions]
    for thread in threads:
        thread.start()
    begun.wait(LONG)
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(LONG)
    assert not any(thread.is_alive() for thread in threads), "a thread waits for ever"
    if raised:
        raise raised[0]


def background(structure: str, n: int = 3000) -> Index:
    """Codes that are far from X and Y, with even ids."""
    codes = random_codes(np.random.default_rng(0), n, 64, 0.1)
    codes[:, 0] = 0x3C
    index = Index(64, structure=structure)
    index.add(codes, np.arange(n) * 2)
    index.search(X)
    return index


def counted(index: Index) -> tuple[int, int]:
    """How often X and Y are in the index, as one search sees it."""
    offsets, distances, _ = index.range_search(np.stack([X, Y]), 0)
    assert not distances.any()
    x, y = np.diff(offsets).tolist()
    return x, y


STRUCTURES = ["flat", "ring"]


@pytest.mark.parametrize("structure", STRUCTURES)
def test_add_and_remove_are_seen_whole_or_not_at_all(kernel: str, structure: str) -> None:
    index = background(structure)
    ids = np.arange(GROUP) * 13 * 2 + 1  # between those there are

    def look() -> None:
        assert counted(index) in ((0, 0), (GROUP, 0))
        distances, found = index.search(X, GROUP + 20)
        assert np.count_nonzero(distances == 0) in (0, GROUP)
        assert len(set(found.tolist())) == GROUP + 20
        assert len(index.ids) in (3000, 3000 + GROUP)
        assert len(Index.from_bytes(bytes(index))) in (3000, 3000 + GROUP)

    with meanwhile(look, look, look):
        for _ in range(30):
            index.add(np.tile(X, (GROUP, 1)), ids)
            index.remove(ids)
    assert counted(index) == (0, 0)
    assert len(index) == 3000


@pytest.mark.parametrize("structure", STRUCTURES)
def test_update_is_seen_whole_or_not_at_all(kernel: str, structure: str) -> None:
    index = background(structure)
    ids = np.arange(GROUP) * 26
    index.update(ids, np.tile(X, (GROUP, 1)))

    def look() -> None:
        assert counted(index) in ((GROUP, 0), (0, GROUP))
        x, y = (np.count_nonzero(index.search(code, 2 * GROUP)[0] == 0) for code in (X, Y))
        assert x in (0, GROUP)
        assert y in (0, GROUP)
        now = index.codes(ids)
        assert np.all(now == X) or np.all(now == Y)
        assert len(index.ids) == 3000
        assert 26 in index

    def look_at_length() -> None:
        for _ in range(100):
            assert len(index) == 3000

    with meanwhile(look, look, look_at_length):
        for turn in range(40):
            index.update(ids, np.tile(X if turn % 2 else Y, (GROUP, 1)))
            if turn % 10 == 9:
                index.optimize()
    assert counted(index) == (GROUP, 0)


def test_many_writers(kernel: str) -> None:
    index = Index(64)
    codes = random_codes(np.random.default_rng(1), 400, 64)

    def write(own: int) -> None:
        for turn in range(20):
            ids = index.add(codes[own * 50 + turn : own * 50 + turn + 10])
            assert_array_equal(np.diff(ids), np.ones(9))
            index.remove(ids[:5])
            index.update(ids[5:], codes[own * 50 + turn + 5 : own * 50 + turn + 10])

    threads = [threading.Thread(target=write, args=(own,), daemon=True) for own in range(4)]
    with meanwhile(lambda: index.search(codes[:20]), lambda: index.pairs(3)):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LONG)
    assert len(index) == 4 * 20 * 5
    held = index.codes(index.ids)
    expected = [codes[own * 50 + turn + 5 : own * 50 + turn + 10] for own in range(4) for turn in range(20)]
    assert_array_equal(np.sort(held.view(">u8").ravel()), np.sort(np.concatenate(expected).view(">u8").ravel()))
    for found, right in zip(index.search(codes[:9], 5), oracle.topk(held, index.ids, codes[:9], 5), strict=True):
        assert_array_equal(found, right)


def test_writers_get_their_turn_among_readers(kernel: str) -> None:
    index = background("flat", 20_000)
    queries = random_codes(np.random.default_rng(1), 16, 64)
    with meanwhile(*[lambda: index.search(queries, 10)] * 4):
        for _ in range(20):
            index.add(X)
    assert len(index) == 20_020


def test_the_same_answers_from_many_threads_at_once(kernel: str) -> None:
    codes, queries = (
        random_codes(np.random.default_rng(2), 9000, 64, 0.2),
        random_codes(np.random.default_rng(3), 80, 64, 0.3),
    )
    for structure in STRUCTURES:
        index = Index(64, structure=structure)
        index.add(codes)
        expected = index.search(queries, 10, threads=1)
        ranged = index.range_search(queries, 6, threads=1)

        def look(threads: int | None) -> None:
            for found, right in zip(index.search(queries, 10, threads=threads), expected, strict=True):  # noqa: B023
                assert_array_equal(found, right)
            for found, right in zip(index.range_search(queries, 6, threads=threads), ranged, strict=True):  # noqa: B023
                assert_array_equal(found, right)

        with meanwhile(lambda: look(1), lambda: look(2), lambda: look(3)):
            for _ in range(10):
                look(None)


def test_rings_are_built_and_lost_under_searches(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An index that is emptied and filled while searches count towards a ring and build it."""
    tune(monkeypatch, ring_from=50, ring_after=3)
    index = Index(64)
    group = np.tile(X, (GROUP, 1))
    ids = np.arange(GROUP)

    def look() -> None:
        assert counted(index) in ((0, 0), (GROUP, 0))
        assert np.count_nonzero(index.search(X, 2 * GROUP)[0] == 0) in (0, GROUP)
        index.stats()
        assert index.nbytes >= 0
        assert len(index) in (0, GROUP)

    with meanwhile(look, look, look):
        for _ in range(60):
            index.add(group, ids)
            index.remove(ids)


def test_the_kernel_can_change_under_searches() -> None:
    codes, queries = random_codes(np.random.default_rng(2), 3000, 64), random_codes(np.random.default_rng(3), 40, 64)
    index = Index(64, structure="ring")
    index.add(codes)
    expected = index.search(queries, 10)

    def look() -> None:
        for found, right in zip(index.search(queries, 10), expected, strict=True):
            assert_array_equal(found, right)

    with meanwhile(look, look):
        for _ in range(10):
            for name in pyhash.kernels():
                with pyhash.use(name):
                    look()


# Processes


def wait_for(child: int) -> int:
    """Exit code of a child; one that does not end is killed by its own alarm."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def forked(function: Callable[[], Any]) -> int:
    """Run a function in a forked child, which cannot run for ever, and return the child's exit code."""
    child = os.fork()
    if child:
        return wait_for(child)
    code = 1
    try:
        signal.alarm(LONG)
        function()
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


def test_using_an_index_imports_nothing() -> None:
    """A child that is forked while another thread imports a module would wait for that module for ever."""
    code = """
import sys, numpy as np, pyhash
codes = np.arange(800, dtype=np.uint8).reshape(100, 8)
index = pyhash.Index(levels={"coarse": 16, "fine": 48}, structure="ring")
index.add(codes)
index.search(codes, 3)
before = set(sys.modules)
index.add(codes, np.arange(300, 200, -1))
index.search(codes[0], 3, level="coarse")
index.search(codes[0], 3, weights={"coarse": 2, "fine": 1})
index.search(codes[0], 3, where=[5, 3, 250])
index.search(codes[0], 3, where=np.ones(200, dtype=bool))
index.search(codes, 3, cascade=("coarse", 10))
index.range_search(codes, 3)
index.pairs(3)
index.update([250, 3], codes[:2])
index.remove([7, 5, 210])
index.optimize()
pyhash.Index.from_bytes(bytes(index)).codes([3, 250])
print(index.stats().codes, len(index.ids), sorted(set(sys.modules) - before))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "197 197 []\n"


@needs_fork
@forks
@pytest.mark.parametrize("structure", STRUCTURES)
def test_fork_while_threads_search_and_write(kernel: str, structure: str) -> None:
    """The child finds every change whole, every lock free, and threads of its own; the parent goes on."""
    index = background(structure, 20_000)
    queries = random_codes(np.random.default_rng(1), 128, 64)
    index.search(queries, 5, threads=2)  # the parent's pool of threads is there
    ids = np.arange(GROUP) * 26 + 1
    group = np.tile(X, (GROUP, 1))

    def write() -> None:
        index.add(group, ids)
        index.update(ids, np.tile(Y, (GROUP, 1)))
        index.remove(ids)

    def in_child() -> None:
        for found, right in zip(index.search(queries, 5, threads=2), index.search(queries, 5, threads=1), strict=True):
            assert_array_equal(found, right)
        assert counted(index) in ((0, 0), (GROUP, 0), (0, GROUP))
        n = len(index)
        assert n in (20_000, 20_000 + GROUP)
        assert len(index.ids) == n
        new = index.add(np.tile(X, (7, 1)))
        assert counted(index)[0] % GROUP == 7
        index.update(new[:3], np.tile(Y, (3, 1)))
        index.remove(new)
        index.optimize()
        assert len(index) == n
        assert index.search(queries, 5, threads=2)[1].min() >= 0
        made = Index(64)
        made.add(queries)
        assert made.search(queries, 1)[0].max() == 0

    with meanwhile(write, lambda: index.search(queries, 5, threads=2), lambda: index.search(X, 5)):
        for _ in range(8):
            assert forked(in_child) == 0
    assert len(index) == 20_000


@needs_fork
@forks
def test_fork_while_a_ring_is_built(kernel: str) -> None:
    """A fork in the middle of building: the child can search, and build its own."""
    codes = random_codes(np.random.default_rng(0), 2000, 64, 0.1)
    queries = codes[:20]
    expected = Index(64, structure="flat")
    expected.add(codes)
    right = expected.search(queries, 5)

    def in_child() -> None:
        for found, exact in zip(index.search(queries, 5), right, strict=True):
            assert_array_equal(found, exact)
        index.search(queries)
        assert (index.stats().segments[0].clusters > 0) == (kernel != "numba")

    for _ in range(12):
        index = Index(64, structure="ring")
        index.add(codes)
        with meanwhile(lambda: index.search(queries, 5), lambda: index.search(queries[0], 5)):  # noqa: B023
            assert forked(in_child) == 0


@needs_fork
@forks
def test_fork_while_indexes_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is done at a fork goes through every index there is, and others come and go at the same time."""
    wrong: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: wrong.append(what.exc_value))
    kept = [Index(8) for _ in range(1000)]

    def make() -> None:
        for _ in range(50):
            Index(8)

    with meanwhile(make, make):
        for turn in range(40):
            assert forked(lambda turn=turn: kept[turn].add(np.array([turn], np.uint8))) == 0  # type: ignore[misc]
    assert not wrong


@needs_fork
@forks
def test_forked_workers_of_multiprocessing(kernel: str) -> None:
    global _shared
    codes, queries = random_codes(np.random.default_rng(2), 20_000, 64), random_codes(np.random.default_rng(3), 128, 64)
    _shared = Index(64)
    _shared.add(codes)
    expected = _shared.search(queries, 5, threads=2)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        answers = [pool.apply_async(search_and_add, (queries,)) for _ in range(4)]
        for answer in answers:
            for found, right in zip(answer.get(LONG), expected, strict=True):
                assert_array_equal(found, right)
    assert len(_shared) == 20_000
    sent = multiprocessing.get_context("fork").Pool(1)
    with sent as pool:  # an index travels as a pickle
        ids = pool.apply_async(ids_of, (_shared,)).get(LONG)
    assert_array_equal(ids, np.arange(20_000))


_shared: Index


def search_and_add(queries: Any) -> Any:
    found = _shared.search(queries, 5, threads=2)
    _shared.remove(_shared.add(queries[:3]))
    return found


def ids_of(index: Index) -> Any:
    return index.ids


COUNT_THREADS = """
import os, sys
import numpy as np
def count():
    return len(os.listdir("/proc/self/task"))
before = count()
import pyhash
pyhash.use(sys.argv[1])
codes = np.random.default_rng(0).integers(0, 256, (20000, 32), dtype=np.uint8)
index = pyhash.Index(256)
index.add(codes)
index.search(codes[:64], 3, threads=1)
assert count() == before, "threads=1 is this thread only"
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
index.search(codes[:64], 3)
assert count() == before, "one CPU, one thread"
index.search(codes[:64], 3, threads=3)
print(count() - before)
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="no /proc to count threads in")
def test_threads_start_when_first_needed_and_where_there_are_cpus(kernel: str) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    environment.pop("PYHASH_THREADS", None)
    done = subprocess.run(
        [sys.executable, "-c", COUNT_THREADS, kernel], capture_output=True, text=True, timeout=LONG, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == (0 if kernel == "numba" else 2)  # the threads of the Numba backend end with the call


# What is under way when the process ends

AT_EXIT = """
import sys, threading, numpy as np, pyhash
rng = np.random.default_rng(0)
index = pyhash.Index(64, structure="flat")
index.add(rng.integers(0, 256, (300_000, 8), dtype=np.uint8))
queries = rng.integers(0, 256, (300, 8), dtype=np.uint8)
calls = {
    "search": lambda: index.search(queries, 10, threads=2),
    "range_search": lambda: index.range_search(queries, 18, threads=2),
    "pairs": lambda: index.pairs(2, threads=2),
    "hamming": lambda: pyhash.hamming(queries, index.codes(index.ids[:20_000]), threads=2),
}
begun = threading.Barrier(3)
def work():
    begun.wait()
    while True:
        calls[sys.argv[1]]()
for _ in range(2):
    threading.Thread(target=work, daemon=True).start()
begun.wait()
calls["search"]()
"""


@pytest.mark.parametrize("call", ["search", "range_search", "pairs", "hamming"])
def test_a_daemon_thread_does_not_keep_the_process_from_ending(call: str) -> None:
    if "numba" in pyhash.kernels()[:1]:
        pytest.skip("Numba gives the GIL back in its own way")
    for _ in range(5):
        done = subprocess.run([sys.executable, "-c", AT_EXIT, call], capture_output=True, text=True, timeout=LONG)
        assert (done.returncode, done.stderr) == (0, "")


LOOKED_UP = """
import numpy as np, pyhash, pyhash._native
multiarray = getattr(np, "_core", None) or np.core
del multiarray.multiarray._ARRAY_API
index = pyhash.Index(64)
index.add(np.zeros((3, 8), dtype=np.uint8))
assert index.search(np.zeros((1, 8), dtype=np.uint8), 1).ids.tolist() == [[0]]
"""


def test_numpy_is_looked_up_when_the_module_is_loaded_not_by_threads_that_may_be_ended(kernel: str) -> None:
    if kernel == "numba":
        pytest.skip("Numba has no pybind11")
    done = subprocess.run([sys.executable, "-c", LOOKED_UP], capture_output=True, text=True, timeout=LONG)
    assert (done.returncode, done.stderr) == (0, "")


# What an interrupt leaves


def interrupted(seed: int, codes: Any, again: Callable[[Index], object]) -> Iterator[Index]:
    """Yield indexes of ten codes to which `again` was done until Ctrl-C came, each time at another moment."""

    armed = False

    def interrupt(*_: object) -> None:
        nonlocal armed
        if armed:  # a timer that was set anew while its last signal was on the way interrupts nothing else
            armed = False
            raise KeyboardInterrupt

    rng = np.random.default_rng(seed)
    before = signal.signal(signal.SIGALRM, interrupt)
    gc.disable()  # what is raised in its callbacks, such as Hypothesis has, is lost
    try:
        for _ in range(1500):
            index = Index(64)
            index.add(codes[:10])
            assert len(index) == 10  # from here on this thread is a reader, whom a writer shuts out
            with contextlib.suppress(KeyboardInterrupt):
                while True:  # an interrupt that some callback swallows is followed by another
                    armed = True
                    signal.setitimer(signal.ITIMER_REAL, float(rng.uniform(2e-5, 6e-4)))
                    for _ in range(50):
                        again(index)
            yield index
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        gc.enable()
        signal.signal(signal.SIGALRM, before)


needs_timer = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timer signals")


@needs_timer
def test_interrupts_leave_nothing_locked() -> None:
    """Ctrl-C at any moment of a search or a change: another thread can still change the index."""
    codes = random_codes(np.random.default_rng(0), 17, 64)
    unlocked = []

    def probe(index: Index) -> None:
        lock = index._writer._lock()
        unlocked.append(lock.acquire(timeout=5))
        lock.release()

    def again(index: Index) -> None:
        index.add(codes[10:])
        index.search(codes[0], 1, threads=1)

    for index in interrupted(0, codes, again):
        thread = threading.Thread(target=probe, args=(index,))
        thread.start()
        thread.join()
        assert unlocked[-1]
    assert len(unlocked) == 1500


@needs_timer
def test_an_interrupted_add_is_seen_whole_or_not_at_all() -> None:
    codes = random_codes(np.random.default_rng(1), 17, 64)
    for index in interrupted(1, codes, lambda index: index.add(codes[10:])):
        n = len(index)
        assert_array_equal(index.ids, np.arange(n))
        assert (n - 10) % 7 == 0
        assert_array_equal(index.codes(index.ids), np.concatenate([codes[:10], *[codes[10:]] * (n // 7)])[:n])
        assert index.add(codes[:1]).tolist() == [n]


@needs_timer
@pytest.mark.parametrize("change", ["add", "update", "remove", "optimize"])
def test_an_interrupted_change_is_seen_whole_or_not_at_all(change: str) -> None:
    """Old or new, never a mixture; the next change works. A thousand interrupts of every kind of change."""
    codes = random_codes(np.random.default_rng(2), 40, 64)
    fresh = random_codes(np.random.default_rng(3), 40, 64)
    order = np.random.default_rng(4).permutation(40)
    struck = 0

    def state(index: Index) -> tuple[list[int], bytes]:
        ids = index.ids
        return ids.tolist(), index.codes(ids).tobytes()

    def prepared() -> Index:
        index = Index(64)
        index.add(codes[order], order)
        index.add(codes, range(100, 140))
        if change == "optimize":
            index.remove(range(5))
            index.add(codes[:3], [-5, -3, -4])
        return index

    def run(index: Index) -> None:
        if change == "add":
            index.add(fresh[order], 200 + order)
        elif change == "update":
            index.update([*order, *range(100, 140)], np.concatenate([fresh[order], fresh]))
        elif change == "remove":
            index.remove(range(10, 35))
        else:
            index.optimize(threads=1)

    armed = False

    def interrupt(*_: object) -> None:
        if armed:  # a signal that comes late interrupts nothing else
            raise KeyboardInterrupt

    lasted = []
    for _ in range(9):
        index = prepared()
        old = state(index)
        begun = time.perf_counter()
        run(index)
        lasted.append(time.perf_counter() - begun)
        new = state(index)
    usual = sorted(lasted)[4]  # what the moments are drawn from, so that most strike on any machine
    rng = np.random.default_rng(5)
    before = signal.signal(signal.SIGALRM, interrupt)
    gc.disable()
    try:
        for _ in range(1000):
            index = prepared()
            try:
                armed = True
                signal.setitimer(signal.ITIMER_REAL, float(rng.uniform(5e-6, 1.3 * usual)))
                run(index)
                armed = False
            except KeyboardInterrupt:
                armed = False
                struck += 1
            signal.setitimer(signal.ITIMER_REAL, 0)
            found = state(index)
            assert found in (old, new)
            other = threading.Thread(target=index.add, args=(codes[:1], [1000]))
            other.start()
            other.join(LONG)
            assert index.ids.tolist() == [*found[0], 1000]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        gc.enable()
        signal.signal(signal.SIGALRM, before)
    assert struck > 50


class Cut:
    """A re-entrant lock that an interrupt strikes between its taking and the block, as Python 3.14 lets it happen."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.strikes = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self.lock, name)

    def __enter__(self) -> None:
        self.lock.acquire()
        if self.strikes:
            raise KeyboardInterrupt

    def __exit__(self, *_: object) -> None:
        self.lock.release()


@pytest.mark.parametrize("held", [0, 2])
def test_what_an_interrupt_cuts_off_is_held_as_often_as_before(held: int) -> None:
    cut = Cut()
    for _ in range(held):
        cut.acquire()
    with pytest.raises(KeyboardInterrupt):
        _lock.locked(cut, lambda: pytest.fail("not reached"))
    assert cut._recursion_count() == held
    cut.strikes = False
    assert _lock.locked(cut, lambda: cut._recursion_count()) == held + 1
    with pytest.raises(ZeroDivisionError):
        _lock.locked(cut, lambda: 1 // 0)
    assert cut._recursion_count() == held


def test_an_interrupt_between_lock_and_block_leaves_the_index_free(monkeypatch: pytest.MonkeyPatch) -> None:
    index = Index(64)
    index.add(X[None])
    cut = Cut()
    index._writer._locks = dict.fromkeys(index._writer._locks, cut)  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        index.add(Y[None])
    assert cut._recursion_count() == 0
    assert len(index) == 1
    cut.strikes = False
    thread = threading.Thread(target=index.add, args=(Y[None],), daemon=True)
    thread.start()
    thread.join(LONG)
    assert len(index) == 2


def test_what_comes_in_the_middle_of_a_change_may_search_and_not_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal handler, or a finalizer."""
    index = Index(64, structure="ring")
    index.add(X[None])
    added = pyhash.index.snapshot.Snapshot.added

    def interfering(now: Any, *arguments: Any) -> Any:
        after = added(now, *arguments)
        assert index.ids.tolist() == [0]
        assert index.search(X, 1)[1].tolist() == [0]  # with no ring yet, which is not the moment to build one
        with pytest.raises(RuntimeError, match="cannot change what this thread is changing"):
            index.remove([0])
        return after

    with monkeypatch.context() as patch:
        patch.setattr("pyhash.index.snapshot.Snapshot.added", interfering)
        index.add(Y[None])
    assert index.ids.tolist() == [0, 1]


def test_an_argument_that_changes_the_index_changes_no_search_under_way() -> None:
    index = Index(64, structure="ring")
    index.add(X[None])

    class Filter:
        def __array__(self, *_: object, **__: object) -> Any:
            index.add(Y[None])
            return np.ones(1, dtype=np.bool_)

    assert index.search(Y, 2, where=Filter()).ids.tolist() == [0, -1]  # type: ignore[arg-type]
    assert index.search(Y, 1).ids.tolist() == [1]


# Rings


@pytest.mark.parametrize("look", ["codes", "where", "cascade", "in"])
def test_the_first_to_look_for_ids_in_a_ring(look: str) -> None:
    """Where codes lie in a ring is worked out by the first who asks; those who ask meanwhile must wait or do it too."""
    if "numba" in pyhash.kernels()[:1]:
        pytest.skip("rings are native only")
    codes = random_codes(np.random.default_rng(0), 60_000, 64, 0.1)
    index = Index(64, structure="ring")
    index.add(codes)
    index.optimize()
    some = np.random.default_rng(1).integers(0, len(codes), 50)

    def ask() -> None:
        begun.wait(LONG)
        if look == "codes":
            right.append(bool((index.codes(some) == codes[some]).all()))
        elif look == "where":
            right.append(int(index.search(codes[some[0]], 1, where=some[:1])[0][0]) == 0)
        elif look == "cascade":
            right.append(int(index.search(codes[some[0]], 1, cascade=("code", 40))[0][0]) == 0)
        else:
            right.append(all(int(id) in index for id in some))

    for _ in range(10):
        index._now.segments[0]._slot_of_rank = None  # as it is after a ring was built or a file opened
        right: list[bool] = []
        begun = threading.Barrier(4)
        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LONG)
        assert right == [True] * 4


class Watched:
    """A kernel that tells when it begins to build a ring, and waits to be told to go on."""

    def __init__(self) -> None:
        self.kernel = pyhash.backend.active()
        self.building, self.goes_on = threading.Event(), threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.kernel, name)

    def build_ring(self, *arguments: Any) -> Any:
        self.building.set()
        assert self.goes_on.wait(LONG)
        return self.kernel.build_ring(*arguments)


def test_a_ring_is_built_beside_searches_and_changes_and_none_is_lost(
    kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kernel == "numba":
        pytest.skip("rings are native only")
    codes = random_codes(np.random.default_rng(0), 3000, 64, 0.05)
    index, twin = Index(64, structure="ring"), Index(64, structure="flat")
    for each in (index, twin):
        each.add(codes[:2000])
        each.remove(range(0, 2000, 7))
    watched = Watched()
    monkeypatch.setattr("pyhash.backend.active", lambda: watched)
    before = index.snapshot()
    builder = threading.Thread(target=index.search, args=(X,))
    builder.start()
    assert watched.building.wait(LONG)
    for each in (index, twin):  # while it is built, from the codes that there were
        each.add(codes[2000:2500])
        each.remove([1, 1501, 2300])
        each.update([2, 1502, 2301], codes[2500:2503])
        each.add(codes[2600:2700], ids=range(-200, -100))
    assert_array_equal(index.search(codes[:50], 20).ids, twin.search(codes[:50], 20).ids)
    assert index.stats().segments[0].clusters == 0
    watched.goes_on.set()
    builder.join(LONG)
    assert not builder.is_alive()
    assert index.stats().segments[0].clusters > 0
    for each in (index, twin):
        each.add(codes[2700:2705])
        each.remove([3, 2302, -200])
    assert_array_equal(index.ids, twin.ids)
    assert_array_equal(index.codes(index.ids), twin.codes(twin.ids))
    for query in (codes[:50], codes[2500:2550]):
        assert_array_equal(index.search(query, 20).ids, twin.search(query, 20).ids)
        assert_array_equal(index.search(query, 20).distances, twin.search(query, 20).distances)
    assert len(before) == len(range(2000)) - len(range(0, 2000, 7))


def test_a_ring_of_codes_that_are_no_more_is_dropped(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if kernel == "numba":
        pytest.skip("rings are native only")
    codes = random_codes(np.random.default_rng(0), 2000, 64, 0.05)
    index = Index(64, structure="ring")
    index.add(codes)
    watched = Watched()
    monkeypatch.setattr("pyhash.backend.active", lambda: watched)
    builder = threading.Thread(target=index.search, args=(X,))
    builder.start()
    assert watched.building.wait(LONG)
    index.remove(range(1500))  # so many that the rest is stored anew
    watched.goes_on.set()
    builder.join(LONG)
    assert not builder.is_alive()
    assert index.stats().segments[0].clusters == 0
    assert index.search(codes[1500], 1).ids.tolist() == [1500]  # and built anew
    assert index.stats().segments[0].clusters > 0

"""Public calls where memory is short: an error that says what is needed, before it is taken."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import random_codes

import pyhash
from pyhash import Index, ranking
from pyhash.support import machine, memory

LEFT = 48 << 20  # bytes of address space that calls have left

# Each call wants more. What it is made of is there before the limit is set.
SCRIPT = f"""
import json, os, resource, sys
import numpy as np, pyhash
from pyhash import ranking
from pyhash.support import memory

pyhash.use(sys.argv[1])
folder = sys.argv[2]
rng = np.random.default_rng(0)
codes = rng.integers(0, 256, (4000, 8), np.uint8)
two = pyhash.Index({{"coarse": 16, "fine": 48}})
two.add(codes)
many = pyhash.Index(8, structure="flat")
many.add(np.zeros((3_000_000, 1), np.uint8))
many.remove([5])
blank = np.zeros((50_000, 1024), np.uint8)
wide = pyhash.Index(8192)
wide.add(blank)
path = os.path.join(folder, "wide.index")
wide.save(path)
data = wide.to_bytes()
near = pyhash.HammingNeighbors(1000, 64).fit(codes)
small = ranking.quantize(rng.standard_normal((4000, 16)))
some = ranking.Quantized(small.vectors[:2], small.norms[:2])
candidates = np.tile(np.arange(200), (4000, 1))
large, doubles = np.zeros((4000, 4096), np.float32), np.zeros((4000, 4096))
of_large = ranking.Neighbours(np.zeros((4000, 1), np.int64), np.ones((4000, 1), np.float32))
logits = rng.standard_normal((4000, 64)).astype(np.float32)
broad = np.zeros((1000, 256), np.uint8)
labels = np.zeros(1000, int)
integers = np.zeros((60_000, 256), np.int32)
packed = np.zeros((300_000, 32), np.uint8)
empty = pyhash.Index(8192)
odd, nines = pyhash.Index(72), np.zeros((4_000_000, 9), np.uint8)
places = np.arange(3_000_000)
zeros = np.zeros(50_000, int)

calls = {{
    "search": lambda: two.search(codes[:200], 50_000),
    "cascade": lambda: two.search(codes[:500], 3, cascade=("coarse", 4000)),
    "where": lambda: many.search(codes[0, :1], 3, where=places),
    "range_search": lambda: two.range_search(codes, 64),
    "pairs": lambda: two.pairs(64),
    "groups": lambda: many.groups(0),
    "add": lambda: empty.add(blank),
    "add padded": lambda: odd.add(nines),
    "add in another order": lambda: empty.add(blank, np.arange(50_000)[::-1]),
    "update": lambda: wide.update(np.arange(50_000), blank),
    "codes": lambda: wide.codes(zeros),
    "ids": lambda: many.ids,
    "optimize": lambda: many.optimize(),
    "open": lambda: pyhash.Index.open(path),
    "to_bytes": lambda: wide.to_bytes(),
    "from_bytes": lambda: pyhash.Index.from_bytes(data),
    "hamming": lambda: pyhash.hamming(codes, codes),
    "fit": lambda: pyhash.HammingNeighbors().fit(blank),
    "kneighbors": lambda: near.kneighbors(),
    "kneighbors_graph": lambda: near.kneighbors_graph(),
    "radius_neighbors": lambda: near.radius_neighbors(),
    "quantize": lambda: ranking.quantize(doubles),
    "neighbours": lambda: ranking.neighbours(small, small, 500),
    "neighbours of candidates": lambda: ranking.neighbours(small, small, 5, candidates=candidates),
    "rescore": lambda: ranking.rescore(small, small, candidates),
    "rescore_codes": lambda: ranking.rescore_codes(logits, codes, candidates),
    "average": lambda: ranking.average(large, of_large),
    "neighbourhoods": lambda: ranking.neighbourhoods(small, 500),
    "k_reciprocal": lambda: ranking.k_reciprocal(some, small, [[0, 1], [2, 3]], k1=1000),
    "neighbourhoods_help": lambda: ranking.neighbourhoods_help(large),
    "evaluate": lambda: pyhash.evaluate(broad, broad, labels, labels),
    "pack": lambda: pyhash.pack(integers),
    "unpack": lambda: pyhash.unpack(packed, 256),
}}
two.range_search(codes, 3), two.pairs(3), ranking.neighbours(small, some, 3)  # starts threads
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + {LEFT}, resource.RLIM_INFINITY))
memory._last = (float("-inf"), 0)  # what it was a moment ago no longer counts
said = {{}}
for name, call in calls.items():
    try:
        call()
        said[name] = "nothing"
    except MemoryError as error:
        said[name] = str(error)
assert len(two.search(codes[:10], 3).ids) == 10
assert (len(wide), len(empty), len(odd), len(many)) == (50_000, 0, 0, 2_999_999)
print(json.dumps(said))
"""

SAID = {
    "search": "k must be smaller: 50000 answers to each of 200 queries",
    "cascade": "cascade's number of candidates must be smaller: 4000 candidates and 3 answers to each of 500 queries",
    "where": "where must be shorter: the places of 3000000 codes",
    "range_search": "radius must be smaller: what lies within 64",
    "pairs": "radius must be smaller: what lies within 64",
    "groups": "there must be fewer codes: groups of 2999999 codes",
    "add": "codes must be fewer at a time: 50000 codes and their ids",
    "add padded": "codes must be fewer at a time: 4000000 codes, padded to whole words,",
    "add in another order": "codes must be fewer at a time: 50000 codes in the order of their ids",
    "update": "codes must be fewer at a time: 50000 codes and their ids",
    "codes": "ids must be fewer at a time: 50000 codes",
    "ids": "there must be fewer codes: the ids of 3000000 codes",
    "optimize": "there must be fewer codes: 3000000 codes on their way into one segment",
    "open": "mmap must be True: the codes of ",
    "to_bytes": "save must be used instead: the bytes of an index file",
    "from_bytes": "data must be less: the codes of an index file",
    "hamming": "a and b must be smaller (pyhash.Index keeps only the near ones): 4000 x 4000 distances",
    "fit": "codes must be fewer at a time: 50000 codes and their ids",
    "kneighbors": "n_neighbors must be smaller: 1001 neighbors of each of 4000 rows",
    "kneighbors_graph": "n_neighbors must be smaller: 1001 neighbors of each of 4000 rows",
    "radius_neighbors": "radius must be smaller: what lies within 64",
    "quantize": "rows must be fewer at a time: 4000 x 4096 numbers as float32",
    "neighbours": "k must be smaller: 500 neighbours of each of 4000 rows",
    "neighbours of candidates": "candidates must be fewer at a time: 200 candidates of each of 4000 queries",
    "rescore": "candidates must be fewer at a time: 200 candidates of each of 4000 queries",
    "rescore_codes": "candidates must be fewer at a time: 200 candidates of each of 4000 queries",
    "average": "vectors must have fewer rows: averages of 4000 rows of 4096 numbers",
    "neighbourhoods": "k must be smaller: 500 neighbours of each of 4000 rows",
    "k_reciprocal": "k1 or the collection must be smaller: neighbours of 4000 rows and 36 sets of them",
    "neighbourhoods_help": "embeddings must have fewer columns: the principal components of 4096 columns",
    "evaluate": "database must be smaller: rankings of 1000 codes for 1000 queries at a time",
    "pack": "features must be fewer at a time: 60000 codes of 256 bits",
    "unpack": "codes must be fewer at a time: 300000 codes unpacked to 256 bytes each",
}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of the address space work on Linux")
def test_every_call_says_what_it_needs(tmp_path: Path) -> None:
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    run = [sys.executable, "-c", SCRIPT, pyhash.kernels()[0], os.fspath(tmp_path)]
    done = subprocess.run(run, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said.keys() == SAID.keys()
    for call, text in said.items():
        assert text.startswith(SAID[call]), (call, text)
        needs = re.search(r" need (\d+) MB, (\d+) MB are available$", text)
        more = re.search(r" needs more than the (\d+) MB available$", text)
        assert (needs and int(needs[1]) >= int(needs[2])) or more, (call, text)
        assert int((needs or more)[needs.lastindex if needs else 1]) <= LEFT / 1e6, (call, text)


# In this process, as in a container


@pytest.fixture
def limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """What limits the memory of this process as a container does, to so many bytes."""
    ask = machine.available_memory

    def change(n_bytes: int) -> None:
        files = {"proc/meminfo": "MemAvailable: 67108864 kB", "proc/self/cgroup": "0::/"}
        files |= {"cgroup/memory.max": f"{n_bytes}", "cgroup/memory.current": "0"}
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(f"{text}\n")
        monkeypatch.setattr(machine, "available_memory", lambda: ask(tmp_path / "proc", tmp_path / "cgroup"))
        monkeypatch.setattr(memory, "_last", (-math.inf, 0))

    return change


def test_answers_of_any_length_stop_at_the_limit_of_a_container(kernel: str, limit: Callable[[int], None]) -> None:
    index = Index(64)
    codes = random_codes(np.random.default_rng(0), 1500, 64)
    index.add(codes)
    limit(1 << 30)
    expected, near = index.pairs(64), index.range_search(codes, 64)
    assert (len(expected.i), len(near.ids)) == (1500 * 1499 // 2, 1500 * 1500)
    limit(20_000_000)
    text = "radius must be smaller: what lies within 64 needs more than the 20 MB available"
    for ask in (lambda: index.pairs(64), lambda: index.range_search(codes, 64)):
        with pytest.raises(MemoryError) as caught:
            ask()
        assert str(caught.value) == text
    assert len(index.pairs(8).i) == 0
    assert len(index.range_search(codes, 8).ids) == 1500
    blocks = list(index.pairs(64, blocks=True))
    assert len(blocks) > 1
    for found, whole in zip(zip(*blocks, strict=True), expected, strict=True):
        np.testing.assert_array_equal(np.concatenate(found), whole)


def test_a_join_that_has_no_room_to_sort_codes_answers_all_the_same(kernel: str) -> None:
    index = Index(64)
    index.add(np.repeat(random_codes(np.random.default_rng(0), 2500, 64), 2, axis=0))
    active = pyhash.backend.active()
    offsets, ids = active.groups(index._now.target(active).own, None, 2, 0, 1 << 16)
    assert ids.tolist() == list(range(5000))
    assert np.array_equal(np.diff(offsets), np.full(2500, 2))


def test_small_calls_ask_nothing(kernel: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    codes = random_codes(np.random.default_rng(0), 200, 64)
    vectors = np.random.default_rng(0).standard_normal((200, 16))

    def asked() -> int:
        raise AssertionError("it takes as long as many a call")

    monkeypatch.setattr(machine, "available_memory", asked)
    index = Index({"coarse": 16, "fine": 48})
    index.add(codes)
    index.update([3], codes[:1])
    index.search(codes, 100)
    index.search(codes, 5, where=index.ids[:20], cascade=("coarse", 50))
    index.range_search(codes, 64)
    index.pairs(64)
    index.groups(3)
    index.optimize()
    index.save(tmp_path / "an.index")
    Index.from_bytes(Index.open(tmp_path / "an.index").to_bytes())
    pyhash.hamming(codes, codes)
    pyhash.HammingNeighbors().fit(codes).kneighbors()
    found: Any = ranking.neighbours(vectors, vectors, 5)
    ranking.average(vectors, found)
    ranking.rescore(vectors, vectors, found.ids)
    pyhash.unpack(pyhash.pack(vectors), 16)


def test_what_else_is_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of calls that ask more than once: what the limit above does not come to."""
    asked: list[tuple[int, str]] = []
    monkeypatch.setattr(memory, "ask", lambda n_bytes, remedy, what, *values: asked.append((n_bytes, what % values)))
    monkeypatch.setattr(memory, "room", lambda most: asked.append((most, "room")))

    def asks(call: Callable[[], object], *expected: tuple[int, str]) -> None:
        asked.clear()
        call()
        assert not set(expected) - set(asked), asked

    codes = random_codes(np.random.default_rng(0), 30, 64)
    index = Index(64, structure="ring")
    index.add(np.repeat(codes, 2, axis=0))
    asks(lambda: index.groups(0), (60 * 48, "groups of 60 codes"), (60 * 16, "room"), (30 * 200, "lists of 30 groups"))
    asks(lambda: index.codes([3, 4]), (2 * 48, "the places of 2 ids"))
    near = pyhash.HammingNeighbors(1, 64).fit(codes)
    asks(near.radius_neighbors, (900 * 28, "900 neighbors"), (30 * 240, "lists of 30 rows"))
    if importlib.util.find_spec("scipy") is not None:
        asks(lambda: near.radius_neighbors_graph(codes), (900 * 24, "900 edges"))
    vectors = np.random.default_rng(0).standard_normal((30, 16)).astype(np.float32)
    found = ranking.neighbours(vectors, vectors, 5)
    asks(
        lambda: ranking.neighbours(vectors, vectors, 5),
        (30 * 5 * 40, "5 neighbours of each of 30 rows"),
        (30 * 5 * (16 + 128), "5 neighbours of each of 30 rows"),
    )
    some = ranking.Neighbours(np.array([[7, 8]]), np.ones((1, 2), np.float32))
    asks(
        lambda: ranking.average(vectors[:1], some, collection=vectors, among=found, rounds=1),
        (2 * 16 * 8, "2 neighbours of 16 numbers each"),
    )
    if pyhash.kernel() != "numba":
        asks(index.optimize, (60 * (8 + 32), "a ring of 60 codes"))
        index.save(tmp_path / "an.index")
        asks(lambda: Index.open(tmp_path / "an.index"), (60 * 17, "the checks of a ring of 60 codes"))

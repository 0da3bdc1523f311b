"""Any sequence of changes, searches, files and copies: the index always answers as a plain dict of codes would."""

from __future__ import annotations

import copy
import pickle
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import oracle
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from numpy.testing import assert_array_equal
from tuning import tune

import pyhash
from pyhash import Index

LEVELS = [
    {"code": 1},
    {"code": 12},
    {"code": 64},
    {"coarse": 16, "fine": 48},
    {"a": 8, "b": 56, "c": 40},
    {"code": 200},
]
MOST = 2**63 - 1
SEEDS = st.integers(0, 2**32 - 1)
# Few ids, so that they meet again; some at the ends of what there is.
IDS = st.one_of(st.integers(-40, 400), st.sampled_from([-MOST - 1, -MOST, MOST - 1])).filter(lambda id: id != -1)


class AgainstDict(RuleBasedStateMachine):
    """The model: id -> code, and the next id."""

    @initialize(
        levels=st.sampled_from(LEVELS),
        structure=st.sampled_from(["auto", "flat", "ring"]),
        kernel=st.sampled_from(pyhash.kernels()),
        small_segment=st.sampled_from([4, 32, 4096]),
        chunk_bytes=st.sampled_from([4096, 2 << 20]),
    )
    def start(self, levels: dict[str, int], structure: str, kernel: str, small_segment: int, chunk_bytes: int) -> None:
        self.patch = pytest.MonkeyPatch()
        tune(self.patch, small_segment=small_segment, ring_from=64, ring_after=20, chunk_bytes=chunk_bytes)
        self.restore = pyhash.use(kernel)
        self.restore.__enter__()
        self.folder = Path(tempfile.mkdtemp())
        self.levels = pyhash.Levels(levels)
        self.index = Index(levels=self.levels, structure=structure)
        self.model: dict[int, bytes] = {}
        self.others: list[tuple[Index, dict[int, bytes], int]] = []
        self.kept: list[tuple[Index, dict[int, bytes]]] = []
        self.next_id = 0

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.restore.__exit__()
            self.patch.undo()
            shutil.rmtree(self.folder)

    # What the model says

    def random_codes(self, seed: int, n: int) -> Any:
        """Codes of which many are alike, some equal to stored ones."""
        rng = np.random.default_rng(seed)
        bits = rng.integers(0, 2, (3, self.levels.bits), dtype=np.uint8)[rng.integers(0, 3, n)]
        codes = np.packbits(bits ^ (rng.random(bits.shape) < 0.1), axis=1)
        stored = list(self.model.values())
        for row in np.flatnonzero(rng.random(n) < 0.2) if stored else []:
            codes[row] = np.frombuffer(stored[rng.integers(len(stored))], np.uint8)
        return codes

    def held(self) -> tuple[Any, Any]:
        """All codes and ids, in no order."""
        codes = np.frombuffer(b"".join(self.model.values()), np.uint8).reshape(-1, self.levels.n_bytes)
        return codes, np.array(list(self.model), dtype=np.int64)

    def some_ids(self, data: Any) -> list[int]:
        return data.draw(st.lists(st.sampled_from(sorted(self.model)), unique=True, max_size=60))

    def put(self, ids: Any, codes: Any) -> None:
        for id, code in zip(ids, codes, strict=True):
            self.model[int(id)] = code.tobytes()

    # Changes

    @rule(seed=SEEDS, n=st.one_of(st.integers(0, 5), st.integers(50, 200)))
    def add(self, seed: int, n: int) -> None:
        if self.next_id + n - 1 > MOST:
            return
        codes = self.random_codes(seed, n)
        ids = self.index.add(codes)
        assert_array_equal(ids, [self.next_id + i for i in range(n)])
        self.put(ids, codes)
        self.next_id += n

    @rule(seed=SEEDS, ids=st.lists(IDS, unique=True, max_size=40))
    def add_with_ids(self, seed: int, ids: list[int]) -> None:
        codes = self.random_codes(seed, len(ids))
        taken = [id for id in ids if id in self.model]
        if taken:
            with pytest.raises(ValueError, match="already in the index"):
                self.index.add(codes, ids)
            return
        assert_array_equal(self.index.add(codes, ids), ids)
        self.put(ids, codes)
        self.next_id = max([self.next_id, *(id + 1 for id in ids)])

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def remove(self, data: Any) -> None:
        ids = self.some_ids(data)
        self.index.remove(ids)
        for id in ids:
            del self.model[id]

    @precondition(lambda self: len(self.model) > 20)
    @rule(seed=SEEDS)
    def remove_most(self, seed: int) -> None:
        ids = np.random.default_rng(seed).permutation(sorted(self.model))[: -len(self.model) // 8]
        self.index.remove(ids)
        for id in ids.tolist():
            del self.model[id]

    @rule(id=IDS)
    def remove_one_that_may_not_be_there(self, id: int) -> None:
        if id in self.model:
            self.index.remove(id)
            del self.model[id]
        else:
            with pytest.raises(KeyError, match=f"but {id} is not"):
                self.index.remove([*list(self.model)[:2], id])

    @precondition(lambda self: self.model)
    @rule(data=st.data(), seed=SEEDS)
    def update(self, data: Any, seed: int) -> None:
        ids = self.some_ids(data)
        codes = self.random_codes(seed, len(ids))
        self.index.update(ids, codes)
        self.put(ids, codes)

    @rule()
    def optimize(self) -> None:
        self.index.optimize()
        assert len(self.index.stats().segments) <= 1

    # The same index in another place

    @rule(way=st.sampled_from(["save", "map", "bytes", "pickle", "copy", "deepcopy"]))
    def travel(self, way: str) -> None:
        if way in ("save", "map"):
            self.index.save(self.folder / "index")
            self.index = Index.open(self.folder / "index", mmap=way == "map", readonly=False)
        elif way == "bytes":
            self.index = Index.from_bytes(bytes(self.index))
        elif way == "pickle":
            self.index = pickle.loads(pickle.dumps(self.index))
        else:
            self.index = getattr(copy, way)(self.index)

    @rule()
    def part(self) -> None:
        """Make a copy that goes its own way."""
        self.others = [*self.others[-1:], (copy.copy(self.index), dict(self.model), self.next_id)]

    @precondition(lambda self: getattr(self, "others", None))
    @rule()
    def change_places(self) -> None:
        other = self.others.pop(0)
        self.others.append((self.index, self.model, self.next_id))
        self.index, self.model, self.next_id = other

    @rule()
    def keep(self) -> None:
        """Take a snapshot, which must stay what it is."""
        self.kept = [*self.kept[-2:], (self.index.snapshot(), dict(self.model))]

    @precondition(lambda self: getattr(self, "kept", None))
    @rule(seed=SEEDS)
    def search_what_was_kept(self, seed: int) -> None:
        index, model = self.kept[0]
        self.model, now = model, self.model
        self.compare(index, seed, 3, 5)
        self.model = now
        with pytest.raises(ValueError, match="snapshot and read-only"):
            index.remove([])

    @rule(seed=SEEDS)
    def map(self, seed: int) -> None:
        self.index.save(self.folder / "mapped")
        mapped = Index.open(self.folder / "mapped", mmap=True)
        mapped.verify()
        self.compare(mapped, seed, 3, 5)
        with pytest.raises(ValueError, match="read-only"):
            mapped.add(self.random_codes(seed, 1))

    @rule(name=st.sampled_from(pyhash.kernels()))
    def use(self, name: str) -> None:
        pyhash.use(name)

    # Searches

    def compare(self, index: Index, seed: int, n: int, k: int, **options: Any) -> None:
        codes, ids = self.held()
        queries = self.random_codes(seed, n)
        found = index.search(queries, k, **options)
        for a, b in zip(found, oracle.topk(codes, ids, queries, k), strict=True):
            assert_array_equal(a, b)

    @rule(seed=SEEDS, n=st.sampled_from([0, 1, 3, 20]), k=st.integers(1, 300), threads=st.sampled_from([None, 1, 3]))
    def search(self, seed: int, n: int, k: int, threads: int | None) -> None:
        self.compare(self.index, seed, n, k, threads=threads)

    @rule(seed=SEEDS, k=st.integers(1, 20), data=st.data())
    def search_levels(self, seed: int, k: int, data: Any) -> None:
        weights = data.draw(st.fixed_dictionaries({name: st.integers(0, 3) for name in self.levels}))
        if not any(weights.values()):
            return
        codes, ids = self.held()
        queries = self.random_codes(seed, 4)
        ranges = {name: self.levels.byte_range(name) for name in self.levels}
        parts = [(ranges[name].start, ranges[name].stop, weight) for name, weight in weights.items() if weight]
        for a, b in zip(
            self.index.search(queries, k, weights=weights), oracle.topk(codes, ids, queries, k, parts), strict=True
        ):
            assert_array_equal(a, b)

    @rule(seed=SEEDS, k=st.integers(1, 20), share=st.sampled_from([0.02, 0.5, 0.9]), by_mask=st.booleans())
    def search_where(self, seed: int, k: int, share: float, by_mask: bool) -> None:
        codes, ids = self.held()
        order = np.argsort(ids)
        codes, ids = codes[order], ids[order]
        mask = np.random.default_rng(seed).random(len(ids)) < share
        queries = self.random_codes(seed, 20)
        where = mask if by_mask else np.append(ids[mask], [10**6, -1])
        expected = oracle.topk(codes, ids, queries, k, None, mask)
        for a, b in zip(self.index.search(queries, k, where=where), expected, strict=True):
            assert_array_equal(a, b)

    @rule(seed=SEEDS, radius=st.integers(0, 64), n=st.sampled_from([1, 20]))
    def range_search(self, seed: int, radius: int, n: int) -> None:
        codes, ids = self.held()
        queries = self.random_codes(seed, n)
        expected = oracle.within(codes, ids, queries, radius)
        for a, b in zip(self.index.range_search(queries, radius), expected, strict=True):
            assert_array_equal(a, b)

    @rule(radius=st.integers(0, 6))
    def pairs(self, radius: int) -> None:
        codes, ids = self.held()
        if len(ids) <= 250:  # the reference is slow
            for a, b in zip(self.index.pairs(radius), oracle.pairs(codes, ids, radius), strict=True):
                assert_array_equal(a, b)

    # Always

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        if not hasattr(self, "model"):
            return
        codes, ids = self.held()
        assert len(self.index) == len(ids)
        assert_array_equal(self.index.ids, np.sort(ids))
        assert_array_equal(self.index.codes(ids), codes)
        some = (-1, 0, 5, 399, MOST)
        assert all((id in self.index) == (id in self.model) for id in some)
        assert self.index.contains(some).tolist() == [id in self.model for id in some]
        for index, model in [*self.kept, *((index, model) for index, model, _ in self.others)]:
            assert len(index) == len(model)
            assert_array_equal(index.ids, sorted(model))
            assert index.codes(list(model)).tobytes() == b"".join(model.values())


TestAgainstDict = AgainstDict.TestCase
TestAgainstDict.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)

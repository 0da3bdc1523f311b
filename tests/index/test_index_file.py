"""The index file: round trips, damage that is always noticed, mapping, and a path that always holds a whole index."""

from __future__ import annotations

import contextlib
import copy
import errno
import functools
import json
import multiprocessing
import os
import pickle
import random
import signal
import stat
import struct
import sys
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import oracle
import pytest
from conftest import random_codes
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

import pyhash
from pyhash import CorruptIndexError, Index
from pyhash.index import file as _file
from pyhash.index.segment import Segment
from pyhash.index.snapshot import Snapshot

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")


def example(kind: str) -> Index:
    """Small indexes that between them hold every kind of section."""
    rng = np.random.default_rng(3)
    if kind == "empty":
        return Index(levels={"coarse": 16, "fine": 48}, structure="flat")
    if kind == "plain":
        index = Index(12)
        index.add(random_codes(rng, 5, 12))
        return index
    index = Index(levels={"coarse": 8, "fine": 8}, structure="ring" if kind == "ring" else "auto")
    ids = rng.permutation(90) * 3 - 101
    index.add(random_codes(rng, 90, 16, 0.1), ids)
    if kind == "ring":
        index.search(random_codes(rng, 1, 16))
    index.remove(ids[:7])
    if kind == "ring" and index.stats().segments[0].clusters == 0:
        pytest.skip("the Numba backend builds no rings")
    return index


KINDS = ["empty", "plain", "custom ids, removed", "ring"]


@functools.cache
def content(kind: str) -> bytes:
    return bytes(example(kind))


def same(a: Index, b: Index) -> None:
    """Two indexes hold the same and answer the same."""
    assert (a.bits, dict(a.levels), a.structure, len(a)) == (b.bits, dict(b.levels), b.structure, len(b))
    assert_array_equal(a.ids, b.ids)
    assert_array_equal(a.codes(a.ids), b.codes(b.ids))
    queries = random_codes(np.random.default_rng(1), 20, a.bits)
    for found, expected in zip(a.search(queries, 7), b.search(queries, 7), strict=True):
        assert_array_equal(found, expected)
    assert bytes(a) == bytes(b)


# Round trips


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [1, 64, 600])
def test_what_is_mapped_can_grow_beside_its_file(kind: str, n: int, tmp_path: Path) -> None:
    path = tmp_path / "index"
    path.write_bytes(content(kind))
    mapped, read = Index.open(path, mmap=True, readonly=False), Index.open(path)
    assert (mapped.readonly, read.readonly, Index.open(path, readonly=True).readonly) == (False, False, True)
    before = mapped.snapshot()
    codes = random_codes(np.random.default_rng(4), n, read.bits)
    for index in (mapped, read):
        index.add(codes)
        index.update(index.ids[::3], index.codes(index.ids[::3]) ^ codes[0])
        index.remove(index.ids[1::4])
    assert_array_equal(mapped.ids, read.ids)
    assert_array_equal(mapped.codes(mapped.ids), read.codes(read.ids))
    same(before, Index.open(path))
    assert path.read_bytes() == content(kind)
    damaged = bytearray(content(kind))
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(CorruptIndexError):
        Index.open(path, mmap=True, readonly=False)


@pytest.mark.parametrize("kind", KINDS)
def test_round_trips(kernel: str, kind: str, tmp_path: Path) -> None:
    index = Index.from_bytes(content(kind)) if kind == "ring" else example(kind)
    data = bytes(index)
    path = tmp_path / "codes.pyhash"
    index.save(path)
    index.save(str(path))  # again, over the old one
    assert path.read_bytes() == data == index.to_bytes()
    assert [entry.name for entry in tmp_path.iterdir()] == ["codes.pyhash"]
    copies = [
        Index.open(path),
        Index.open(str(path), mmap=True),
        *(Index.from_bytes(buffer) for buffer in (data, bytearray(data), memoryview(data))),
        *(pickle.loads(pickle.dumps(index, protocol)) for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)),
        copy.copy(index),
        copy.deepcopy(index),
        pickle.loads(pickle.dumps(Index.open(path, mmap=True))),
    ]
    assert [made.readonly for made in copies].count(True) == 1
    for made in copies:
        made.verify()
        same(made, index)
    for made in copies:
        if made.readonly:
            continue
        code = np.zeros((1, -(-index.bits // 8)), dtype=np.uint8)
        assert made.add(code).tolist() == index.add(code).tolist()  # the next id is remembered
        index.remove(index.ids[-1:])
        index = Index.from_bytes(data)
        made.remove(made.ids[::2])
        made.optimize()
        assert len(made) == (len(index) + 1) // 2
    assert bytes(index) == data  # a copy is not the original
    same(Index.open(path, mmap=True), index)


@pytest.mark.parametrize("kind", KINDS)
def test_header_says_what_the_file_holds(kernel: str, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "codes.pyhash"
    path.write_bytes(content(kind))
    index = Index.open(path)
    header = Index.header(path)
    assert (header.version, header.levels, header.bits) == (_file.VERSION, index.levels, index.bits)
    assert (header.structure, header.codes, header.nbytes) == (index.structure, len(index), len(content(kind)))
    assert header.removed == sum(segment.n_removed for segment in index._now.segments)
    assert header.clusters == (len(index._now.segments[0].ring.least) if kind == "ring" else 0)


def test_header_does_not_look_at_codes(tmp_path: Path) -> None:
    data = bytearray(content("plain"))
    data[-512:] = bytes(512)  # its only section
    path = tmp_path / "codes.pyhash"
    path.write_bytes(data)
    assert Index.header(path).codes == 5
    with pytest.raises(CorruptIndexError, match="checksum"):
        Index.open(path)


def test_header_of_what_is_no_whole_index(tmp_path: Path) -> None:
    path = tmp_path / "codes.pyhash"
    whole = content("custom ids, removed")
    damaged = bytearray(whole)
    damaged[40] ^= 1
    for data in (b"", b"PYHASH", b"something else, longer than the header of an index", whole[:-64], bytes(damaged)):
        path.write_bytes(data)
        with pytest.raises(CorruptIndexError, match=r"codes\.pyhash"):
            Index.header(path)
    with pytest.raises(FileNotFoundError):
        Index.header(tmp_path / "missing")


def test_what_is_saved_does_not_depend_on_chance(kernel: str) -> None:
    """The same steps give the same bytes; room to grow and lanes not in use leave no trace."""
    codes = random_codes(np.random.default_rng(0), 200, 100)
    made = []
    for scrap in (0, 255):
        index = Index(100)
        index.add(codes[:150])
        for segment in index._now.segments:
            for chunk in segment.chunks.arrays:
                chunk[-1, :, 40:] |= np.uint64(scrap)
        made.append(bytes(index))
    assert made[0] == made[1]


def test_changes_after_opening(kernel: str, tmp_path: Path) -> None:
    """What was read from a file grows, shrinks and changes like what was made here."""
    rng = np.random.default_rng(5)
    for n in (1, 63, 64, 65, 500):
        codes, queries = random_codes(rng, n + 300, 72), random_codes(rng, 20, 72)
        ids = rng.permutation(n + 300) if n > 64 else np.arange(n + 300)
        index = Index(72)
        index.add(codes[:n], ids[:n])
        index.save(tmp_path / "index")
        for opened in (
            Index.open(tmp_path / "index"),
            Index.from_bytes(bytes(index)),
            pickle.loads(pickle.dumps(index)),
        ):
            opened.add(codes[n:], ids[n:])
            opened.remove(ids[: n // 2])
            opened.update(ids[n : n + 9], codes[:9])
            now = codes.copy()
            now[n : n + 9] = codes[:9]
            kept = np.s_[n // 2 :]
            for found, expected in zip(
                opened.search(queries, 9), oracle.topk(now[kept], ids[kept], queries, 9), strict=True
            ):
                assert_array_equal(found, expected)
            assert_array_equal(opened.codes(ids[kept]), now[kept])


def test_copies_are_apart(kernel: str) -> None:
    index = example("plain")
    for made in (copy.copy(index), copy.deepcopy(index), pickle.loads(pickle.dumps(index))):
        before = bytes(index)
        made.update(0, ~made.codes(0) & np.array([255, 0xF0], np.uint8))
        made.remove(1)
        made.add(made.codes([2]))
        assert bytes(index) == before


def test_subclasses_stay_what_they_are() -> None:
    index = Named(64)
    for made in (
        copy.copy(index),
        copy.deepcopy(index),
        pickle.loads(pickle.dumps(index)),
        Named.from_bytes(bytes(index)),
    ):
        assert type(made) is Named


class Named(Index):
    """At the top of the module, where pickle finds it."""


# Damage


@pytest.mark.parametrize("kind", KINDS)
def test_every_flipped_bit_is_noticed(kind: str) -> None:
    data = bytearray(content(kind))
    Index.from_bytes(data)
    for place in range(len(data)):
        for bit in range(8):
            data[place] ^= 1 << bit
            with pytest.raises(CorruptIndexError):
                Index.from_bytes(data)
            data[place] ^= 1 << bit
    Index.from_bytes(data)


@pytest.mark.parametrize("kind", ["plain", "ring"])
def test_every_flipped_bit_of_a_file_is_noticed(kind: str, tmp_path: Path) -> None:
    """Opened: one bit of every third byte of the header, at once, and of some others, by verify() where it is mapped.

    The test before this one flips every bit there is.
    """
    data = bytearray(content(kind))
    header_size = struct.unpack_from("<I", data, 12)[0]
    path = tmp_path / "index"
    behind = np.random.default_rng(0).choice(np.arange(header_size, len(data)), 128, replace=False)
    for place in [*range(0, header_size, 3), *behind.tolist(), len(data) - 1]:
        data[place] ^= 1 << place % 8
        path.write_bytes(data)
        with pytest.raises(CorruptIndexError, match=str(path)):
            Index.open(path)
        if place < header_size:
            with pytest.raises(CorruptIndexError, match=str(path)):
                Index.open(path, mmap=True)
        else:
            mapped = Index.open(path, mmap=True)
            with pytest.raises(CorruptIndexError, match=r"section '0\.\w+(\.\w+)?' is damaged"):
                mapped.verify()
        data[place] ^= 1 << place % 8


@pytest.mark.parametrize("kind", KINDS)
def test_every_cut_and_every_addition_is_noticed(kind: str, tmp_path: Path) -> None:
    data = content(kind)
    path = tmp_path / "index"
    for end in range(len(data)):
        with pytest.raises(CorruptIndexError):
            Index.from_bytes(data[:end])
        if end % 7 == 0 or end % 64 < 2:
            path.write_bytes(data[:end])
            for mmap in (False, True):
                with pytest.raises(CorruptIndexError, match=str(path)):
                    Index.open(path, mmap=mmap)
    for more in (b"\0", bytes(64), b"x" * 1000, data):
        with pytest.raises(CorruptIndexError):
            Index.from_bytes(data + more)
        path.write_bytes(data + more)
        with pytest.raises(CorruptIndexError):
            Index.open(path, mmap=True)
    for begin in (1, 8, 64):
        with pytest.raises(CorruptIndexError):
            Index.from_bytes(data[begin:])


@pytest.mark.parametrize("kind", KINDS)
def test_exchanged_and_overwritten_stretches_are_noticed(kind: str) -> None:
    """What a disk does: sectors of zeros, or of somewhere else."""
    data = content(kind)
    rng = random.Random(0)
    for _ in range(300):
        length = rng.choice([1, 2, 8, 64, 512])
        a, b = (rng.randrange(max(1, len(data) - length)) for _ in "ab")
        for piece in (bytes(length), b"\xff" * length, data[a : a + length]):
            damaged = data[:b] + piece[: len(data) - b] + data[b + length :]
            if damaged != data:
                with pytest.raises(CorruptIndexError):
                    Index.from_bytes(damaged)


@settings(max_examples=100)
@given(
    st.binary(max_size=2000),
    st.sampled_from([b"", b"PYHASHIX", b"PYHASHIX\x01\0\0\0", b"PYHASHIX\x01\0\0\0\x40\0\0\0"]),
)
def test_garbage_is_an_error(garbage: bytes, start: bytes) -> None:
    with pytest.raises(CorruptIndexError):
        Index.from_bytes(start + garbage)


def resealed(data: bytes, header: Any) -> bytes:
    """A file with another JSON in its header, and right checksums and sizes: what a hostile writer could make."""
    text = json.dumps(header).encode()
    old_size = struct.unpack_from("<I", data, 12)[0]
    size = -(-(24 + len(text) + 4) // 64) * 64
    head = struct.pack("<8sIIQ", b"PYHASHIX", 1, size, size + len(data) - old_size) + text
    head = head.ljust(size - 4, b"\0")
    return head + struct.pack("<I", zlib.crc32(head)) + data[old_size:]


def header_of(data: bytes) -> Any:
    size = struct.unpack_from("<I", data, 12)[0]
    return json.loads(data[24 : size - 4].rstrip(b"\0"))


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value."""
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += leaves(inner, (*path, key))
    return found


def test_sealed_nonsense_is_an_error_and_never_a_crash() -> None:
    """Headers with right checksums that say wrong things: each is an error when opened, or does no harm in use."""
    odd_values = [
        None,
        True,
        -1,
        0,
        1,
        3,
        2**31,
        2**63,
        2**64,
        10**30,
        1.5,
        "x",
        "<u8",
        "<i8",
        "<u4",
        "|u1",
        [],
        [1],
        {},
    ]
    queries = random_codes(np.random.default_rng(0), 20, 16)
    loaded = 0
    for kind in ("custom ids, removed", "ring"):
        data = content(kind)
        assert resealed(data, header_of(data)) is not None
        Index.from_bytes(resealed(data, header_of(data)))
        for path in leaves(header_of(data)):
            for odd in [*odd_values, ...]:
                header = header_of(data)
                holder = functools.reduce(lambda inner, key: inner[key], path[:-1], header)
                if odd is ...:
                    del holder[path[-1]]
                else:
                    holder[path[-1]] = odd
                try:
                    index = Index.from_bytes(resealed(data, header))
                except CorruptIndexError:
                    continue
                loaded += 1
                if index.bits != 16:
                    continue
                try:
                    index.search(queries, 5)
                    index.search(queries[0], 5)
                    index.range_search(queries, 3)
                    index.codes(index.ids[:3])
                    index.pairs(2)
                    index.add(queries)
                    index.remove(index.ids[:50])
                except (ValueError, TypeError, KeyError, IndexError):
                    pass
    assert loaded


@settings(max_examples=60)
@given(data=st.data())
def test_damaged_mapped_file_never_crashes(data: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Without verify() a damaged file may answer wrongly or raise, but reads nothing outside."""
    kind = data.draw(st.sampled_from(["custom ids, removed", "ring"]))
    damaged = bytearray(content(kind))
    header_size = struct.unpack_from("<I", damaged, 12)[0]
    for _ in range(data.draw(st.integers(1, 8))):
        place = data.draw(st.integers(header_size, len(damaged) - 1))
        damaged[place] = data.draw(st.sampled_from([0, 0x7F, 0x80, 0xFF, damaged[place] ^ 1]))
    path = tmp_path_factory.mktemp("damaged") / "index"
    path.write_bytes(damaged)
    index = Index.open(path, mmap=True)
    queries = random_codes(np.random.default_rng(0), 20, 16)
    ways: list[Any] = [
        lambda: index.search(queries, 5),
        lambda: index.search(queries[0], 90),
        lambda: index.range_search(queries, 16),
        lambda: index.search(queries, 5, where=index.ids[::2]),
        lambda: index.search(queries, 5, level="fine"),
        lambda: index.search(queries, 5, cascade=("coarse", 9)),
        lambda: index.pairs(16),
        lambda: index.codes(index.ids),
        lambda: index.stats(),
        lambda: pickle.dumps(index),
    ]
    for way in ways:
        with contextlib.suppress(ValueError, KeyError, IndexError):
            way()


def strange(segment: Segment, **changes: Any) -> Segment:
    """A segment of which something is otherwise than it can be."""
    names = ("chunks", "n_codes", "first_id", "ids", "removed", "n_removed", "ring")
    return Segment(**({name: getattr(segment, name) for name in names} | changes))


def beyond(array: Any, **places: Any) -> Any:
    """A copy of an array with some entries changed: ``_3=5`` sets entry 3 to 5."""
    changed = array.copy()
    for place, value in places.items():
        changed[int(place[1:])] = value
    return changed


SENSELESS: list[tuple[str, str, Callable[[Segment], Any]]] = [
    ("ids do not ascend", "custom", lambda s: strange(s, ids=beyond(s.ids, _3=int(s.ids[2])))),
    ("ids do not ascend", "custom", lambda s: strange(s, ids=s.ids[::-1].copy())),
    ("-1 is an id", "custom", lambda s: strange(s, ids=np.append(s.ids[:-1] - 10**6, -1))),
    ("-1 is an id", "plain", lambda s: strange(s, first_id=-5)),
    ("marked as removed", "plain", lambda s: strange(s, removed=np.full(s.n_blocks, 1 << 63, np.uint64))),
    ("the next id is not beyond", "plain", lambda s: strange(s, first_id=s.first_id + 5)),
    ("bits beyond its length", "plain", lambda s: s.chunks.write(3, np.full((1, 1), 1 << 40, np.uint64))),
    ("its ring refers to codes beyond", "ring", lambda s: strange(s, ring=s.ring._replace(order=s.ring.order + 1))),
    ("its ring leaves codes out", "ring", lambda s: strange(s, ring=s.ring._replace(order=s.ring.order * 0))),
    ("codes in the wrong place", "ring", lambda s: strange(s, ring=s.ring._replace(least=beyond(s.ring.least, _0=9)))),
    ("codes in the wrong place", "ring", lambda s: strange(s, ring=s.ring._replace(centres=~s.ring.centres))),
    ("hold every code once", "ring", lambda s: strange(s, ring=s.ring._replace(starts=beyond(s.ring.starts, _0=1)))),
    ("without an end", "ring", lambda s: strange(s, ring=s.ring._replace(first=s.ring.first * 0))),
]


@pytest.mark.parametrize(("reason", "kind", "change"), SENSELESS)
def test_what_is_whole_and_cannot_be_is_refused(
    reason: str, kind: str, change: Callable[[Segment], Any], tmp_path: Path
) -> None:
    """Files with right checksums that no index would have written."""
    if kind == "ring" and "numba" in pyhash.kernels()[:1]:
        pytest.skip("rings are native only")
    codes = random_codes(np.random.default_rng(0), 300, 16, 0.1)
    index = Index(16, structure="ring" if kind == "ring" else "flat")
    index.add(codes, None if kind != "custom" else np.arange(300) * 3 + 100)
    if kind == "ring":
        index.optimize()
    assert Index.from_bytes(bytes(index)).ids.tolist() == index.ids.tolist()
    changed = change(index._now.segments[0])
    index._now = Snapshot([changed or index._now.segments[0]], index._now.next_id)
    index.save(tmp_path / "index")
    with pytest.raises(CorruptIndexError, match=reason):
        Index.from_bytes(bytes(index))
    with pytest.raises(CorruptIndexError, match=reason):
        Index.open(tmp_path / "index")
    mapped = Index.open(tmp_path / "index", mmap=True)
    with pytest.raises(CorruptIndexError, match=reason):
        mapped.verify()


def test_an_id_that_is_there_twice_is_refused() -> None:
    codes = random_codes(np.random.default_rng(0), 2000, 16)
    index = Index(16)
    index.add(codes)
    (segment,) = index._now.segments
    index._now = Snapshot([segment, Segment.of_rows(segment.rows(np.arange(2)), np.array([5, 3000]))], 4000)
    with pytest.raises(CorruptIndexError, match="an id is there twice"):
        Index.from_bytes(bytes(index))


def test_another_version_is_refused_by_name() -> None:
    data = bytearray(content("plain"))
    size = struct.unpack_from("<I", data, 12)[0]
    struct.pack_into("<I", data, 8, 2)
    struct.pack_into("<I", data, size - 4, zlib.crc32(data[: size - 4]))
    with pytest.raises(CorruptIndexError, match="format version 2; this pyhash reads version 1"):
        Index.from_bytes(data)


# Saving


def test_failed_save_leaves_the_old_file(kernel: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = example("plain")
    path = tmp_path / "index"
    index.save(path)
    before = path.read_bytes()
    index.add(index.codes([0]))
    for name in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, failing)
            with pytest.raises(OSError, match="no space"):
                index.save(path)
        assert path.read_bytes() == before
        assert [entry.name for entry in tmp_path.iterdir()] == ["index"]
    with pytest.raises(OSError):  # noqa: PT011
        index.save(tmp_path / "no such folder" / "index")
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        index.save(tmp_path / "folder")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["folder", "index"]
    index.save(path)  # and no lock is left behind
    same(Index.open(path), index)


def test_a_file_that_is_no_index_is_not_replaced(tmp_path: Path) -> None:
    index, path = example("plain"), tmp_path / "thesis.txt"
    path.write_text("ten years of work")
    with pytest.raises(FileExistsError, match="a file that pyhash did not write is there"):
        index.save(path)
    assert path.read_text() == "ten years of work"
    index.save(path, overwrite=True)
    index.save(path)
    same(Index.open(path), index)


def failing(*_: Any) -> Any:
    raise OSError("no space left on device")


@needs_fork
def test_killed_at_any_step_of_saving(tmp_path: Path) -> None:
    """SIGKILL before each part is written, before the sync, around the rename: the old file or the new, whole."""
    old, new = example("plain"), example("custom ids, removed")
    path = tmp_path / "index"
    n_parts = len(list(_file._parts(*new._content())))
    assert n_parts > 5
    seen = set()
    for step in [*range(n_parts), "sync", "rename", "renamed"]:
        old.save(path)
        child = os.fork()
        if child == 0:
            try:
                save_and_die(new, path, step)
            finally:
                os._exit(9)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        found = bytes(Index.open(path))
        Index.open(path, mmap=True).verify()
        assert found == (bytes(new) if step == "renamed" else bytes(old)), step
        seen.add(found)
        new.save(path)  # what the killed one left behind is in nobody's way
        assert path.read_bytes() == bytes(new)
    assert len(seen) == 2


def save_and_die(index: Index, path: Path, step: Any) -> None:
    parts, replace = _file._parts, os.replace

    def die(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def some_parts(*arguments: Any) -> Any:
        for number, part in enumerate(parts(*arguments)):
            if number == step:
                die()
            yield part

    def rename(*arguments: Any) -> None:
        if step == "rename":
            die()
        replace(*arguments)
        die()

    _file._parts = some_parts
    if step == "sync":
        os.fsync = die
    os.replace = rename
    index.save(path)


@needs_fork
def test_killed_at_random_while_saving_again_and_again(tmp_path: Path) -> None:
    small, large = Index(64), Index(64)
    small.add(random_codes(np.random.default_rng(0), 10, 64))
    large.add(random_codes(np.random.default_rng(1), 20_000, 64))
    path = tmp_path / "index"
    small.save(path)
    whole = {bytes(small), bytes(large)}
    context = multiprocessing.get_context("fork")
    for delay in (0.002, 0.01, 0.03, 0.06):
        started = context.Event()
        child = context.Process(target=save_for_ever, args=(large, small, path, started))
        child.start()
        assert started.wait(30)
        threading.Event().wait(delay)
        child.kill()
        child.join()
        assert path.read_bytes() in whole
        assert bytes(Index.open(path)) in whole


def save_for_ever(a: Index, b: Index, path: Path, started: Any) -> None:
    while True:
        a.save(path)
        started.set()
        b.save(path)


def test_readers_see_a_whole_file_while_others_save(tmp_path: Path) -> None:
    """Saving over a file: who opens it meets the old content or the new, and who has it mapped keeps the old."""
    indexes = [Index(64), Index(64)]
    for seed, index in enumerate(indexes):
        index.add(random_codes(np.random.default_rng(seed), 3000 + 2000 * seed, 64))
    path = tmp_path / "index"
    indexes[0].save(path)
    mapped = Index.open(path, mmap=True)
    whole = {bytes(index) for index in indexes}
    stop = threading.Event()
    failed: list[BaseException] = []

    def save(index: Index) -> None:
        try:
            while not stop.is_set():
                index.save(path)
        except BaseException as error:
            failed.append(error)

    savers = [threading.Thread(target=save, args=(index,)) for index in indexes]
    for saver in savers:
        saver.start()
    try:
        for turn in range(60):
            opened = Index.open(path, mmap=turn % 2 == 0)
            opened.verify()
            assert bytes(opened) in whole
    finally:
        stop.set()
        for saver in savers:
            saver.join()
    assert not failed
    assert bytes(mapped) == bytes(indexes[0])
    assert [entry.name for entry in tmp_path.iterdir()] == ["index"]


def test_saving_over_the_file_that_is_mapped(tmp_path: Path) -> None:
    index = example("custom ids, removed")
    path = tmp_path / "index"
    index.save(path)
    mapped = Index.open(path, mmap=True)
    mapped.save(path)
    same(mapped, index)
    same(Index.open(path), index)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX modes")
def test_file_has_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    example("plain").save(tmp_path / "index")
    assert (tmp_path / "index").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_link_stays_a_link_and_a_file_keeps_its_permissions(tmp_path: Path) -> None:
    real, link = tmp_path / "real.pyhash", tmp_path / "link.pyhash"
    index = Index(64)
    index.save(real)
    real.chmod(0o600)
    link.symlink_to(real)
    index.add(np.zeros((1, 8), dtype=np.uint8))
    index.save(link)
    assert link.is_symlink()
    assert len(Index.open(real)) == 1
    if os.name == "posix":
        assert real.stat().st_mode & 0o777 == 0o600


def test_a_folder_that_cannot_be_synced_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sync = os.fsync

    def only_files(number: int) -> None:
        if stat.S_ISDIR(os.fstat(number).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        sync(number)

    monkeypatch.setattr(os, "fsync", only_files)
    index = Index(64)
    index.save(tmp_path / "i.pyhash")
    assert len(Index.open(tmp_path / "i.pyhash")) == 0


def test_what_could_not_be_opened_is_not_saved(tmp_path: Path) -> None:
    index = Index(levels={"x" * 1_100_000: 16, "fine": 8})
    with pytest.raises(ValueError, match="levels must have shorter names"):
        index.save(tmp_path / "i.pyhash")
    assert list(tmp_path.iterdir()) == []


def test_paths_and_data_that_are_none(tmp_path: Path) -> None:
    for path in ("", tmp_path):
        with pytest.raises(OSError, match="path must name a file, not a folder"):
            Index(64).save(path)
    with pytest.raises(TypeError, match="data must be bytes, got str"):
        Index.from_bytes("abc")  # type: ignore[arg-type]
    spread = np.repeat(np.frombuffer(Index(64).to_bytes(), np.uint8), 2)
    assert len(Index.from_bytes(memoryview(spread)[::2])) == 0


def test_a_damaged_ring_that_is_mapped_is_called_damaged(tmp_path: Path) -> None:
    """Every answer of a mapped file with one flipped bit in its ring: an answer, or an error that says so."""
    rng = np.random.default_rng(0)
    codes = random_codes(rng, 3000, 64, 0.1)
    index = Index(64, structure="ring")
    index.add(codes)
    index.optimize()
    if not index.stats().segments[0].clusters:
        pytest.skip("rings are native only")
    index.remove(np.arange(40))
    data = index.to_bytes()
    sections = _file.Reader.from_bytes(data)._sections
    path = tmp_path / "i.pyhash"
    n_damaged = 0
    for name, section in sections.items():
        if name.split(".")[1] in ("blocks", "ids", "dead"):
            continue
        for _ in range(12):
            changed = bytearray(data)
            changed[section["offset"] + int(rng.integers(section["nbytes"]))] ^= 1 << int(rng.integers(8))
            path.write_bytes(changed)
            mapped = Index.open(path, mmap=True)
            for ask in (
                lambda: mapped.search(codes[:3], 5),  # noqa: B023
                lambda: mapped.search(codes[:3], 5, where=np.arange(100, 2000)),  # noqa: B023
                lambda: mapped.codes(np.arange(100, 200)),  # noqa: B023
                lambda: mapped.ids,  # noqa: B023
                lambda: mapped.pairs(0),  # noqa: B023
                lambda: mapped.stats(),  # noqa: B023
            ):
                try:
                    ask()
                except (CorruptIndexError, KeyError):  # an id may seem to have been removed
                    n_damaged += 1
            with pytest.raises(CorruptIndexError):
                mapped.verify()
    assert n_damaged > 20

"""How fast a gallery opens and answers first, and how soon a running searcher sees what another process adds.

    python bench/bench_gallery_open.py [--rows 10000 100000 1000000] [--folder FOLDER]

Also how long searches take while another process indexes. Galleries are written as an indexer writes them, but without
images: embeddings of 384 numbers in clusters of 50, codes of 256 bits by a head that is fitted on them, ten neighbours
a row. Each is opened in a process of its own, its files in the system's cache: mapped, and from the database alone.
Beside that stands what is read at least: the same arrays by `numpy.load`. Nothing is encoded: queries are embeddings.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import numpy as np

from pyhash import Index
from pyhash.gallery import loading
from pyhash.gallery.asking import Examples, ask_each, find, measure
from pyhash.gallery.collection import restored, vectors_of
from pyhash.gallery.records import Embedding, Identity, Lists, Record
from pyhash.gallery.snapshot import Snapshots
from pyhash.gallery.store import GalleryFile
from pyhash.heads import CollectionHead, adapt
from pyhash.ranking import Neighbours, average, quantize

DIM, KIND, STEP, FITTED = 384, 50, 20_000, 20_000
LEVELS = {"coarse": 64, "fine": 192}
IDENTITY = Identity("random", "0" * 32, LEVELS, None, "decoder", "head", "whole")
ADDED, QUERIES, ROUNDS = 100, 100, 5
Floats = np.ndarray[Any, np.dtype[np.float32]]


def embeddings(first: int, n: int) -> Floats:
    kinds = np.arange(first, first + n) // KIND
    centres = {kind: np.random.default_rng([1, kind]).standard_normal(DIM, np.float32) for kind in set(kinds.tolist())}
    rows = np.random.default_rng([0, first]).standard_normal((n, DIM), np.float32)
    return rows + 3 + np.float32(0.7) * np.array([centres[kind] for kind in kinds.tolist()])


def near(first: int, n: int, n_rows: int) -> tuple[np.ndarray[Any, np.dtype[np.int64]], Floats]:
    """Ten others of the same kind, as places, and weights."""
    rng = np.random.default_rng([2, first])
    begins = np.arange(first, first + n)[:, None] // KIND * KIND
    others = np.argsort(rng.random((n, KIND)), axis=1)[:, :10]
    weights = np.sort(rng.random((n, 10), np.float32), axis=1)[:, ::-1] / 2
    return np.minimum(begins + others, n_rows - 1), np.ascontiguousarray(weights)


def fitted(n_rows: int) -> CollectionHead:
    n = min(n_rows, FITTED)
    rows = embeddings(0, n)
    head = adapt(rows, LEVELS)
    own = vectors_of(head, *quantize(rows))["own"]
    return head.with_neighbourhoods(average(own, Neighbours(*near(0, n, n))), "coarse")


def records(head: CollectionHead, paths: list[str], rows: Floats) -> list[Record]:
    vectors, norms = quantize(rows)
    codes = head.codes(restored(vectors, norms))
    return [
        Record(path, 1, 1, code.tobytes(), None, Embedding(vector.tobytes(), float(norm)), os.urandom(16), "decoder")
        for path, code, vector, norm in zip(paths, codes, vectors, norms, strict=True)
    ]


def write(path: Path, n_rows: int) -> None:
    """Write a gallery of so many images, and the mapped files beside it."""
    head = fitted(n_rows)
    with closing(GalleryFile(path)) as file:
        for first in range(0, n_rows, STEP):
            n = min(STEP, n_rows - first)
            paths = [f"{(first + i) // 1000:04}/IMG_{first + i:07}.jpg" for i in range(n)]
            made = records(head, paths, embeddings(first, n))
            ids = np.arange(first, first + n) + 1
            with file.writing(IDENTITY):
                file.put(made)
                if first == 0:
                    number = file.vectors.put_head(LEVELS, head.to_bytes(), n_rows)
                    codes = np.frombuffer(b"".join(record.code or b"" for record in made), np.uint8).reshape(n, -1)
                    file.vectors.put_codes(number, ids, codes)
                places, weights = near(first, n, n_rows)
                file.vectors.put_neighbours(Lists(ids, places + 1, weights))
                file.note_settled()
    loading.keep(path)


class Searcher:
    """A running search of a gallery."""

    def __init__(self, path: Path) -> None:
        self.snapshots = Snapshots(GalleryFile(path), lambda: Index(256))
        self.rng = np.random.default_rng()

    def ask(self) -> float:
        """Ask once; return how long it took."""
        n_rows = len(self.snapshots._now.index) if self.snapshots._now else 10_000
        query = embeddings(int(self.rng.integers(0, n_rows)), 1)
        began = time.perf_counter()

        def answer(now: Any) -> None:
            asked = ask_each(now, Examples(None, query, np.array([-1])))
            (found,) = find(now, asked, 10, measure(now, None, None), threads=1)
            assert len(now.paths.of(found.ids)) == 10

        self.snapshots.ask(answer)
        return time.perf_counter() - began


def memory() -> dict[str, int]:
    """MB of this process, if the system tells: all, and what is no file's."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return {}
    fields = dict(line.split(":", 1) for line in lines)
    return {name: int(fields[name].split()[0]) // 1000 for name in ("VmRSS", "RssAnon", "VmHWM")}


def opened(path: Path, mapped: bool) -> None:
    """In a process of its own: open and ask once."""
    if not mapped:
        loading._MAPPED_FROM = 1 << 60
        loading._usable = lambda *_: None
    began = time.perf_counter()
    searcher = Searcher(path)
    searcher.ask()
    seconds = time.perf_counter() - began
    assert (searcher.snapshots.now().state.token is not None) == mapped
    print(json.dumps({"seconds": seconds, **memory()}))


def child(mode: str, path: Path) -> dict[str, float]:
    found = subprocess.run([sys.executable, __file__, "--child", mode, path], check=True, capture_output=True)
    return dict(json.loads(found.stdout))


def bound(path: Path, folder: Path) -> tuple[float, int]:
    """Seconds in which NumPy reads the same arrays into memory, and their bytes."""
    files = []
    token = Searcher(path).snapshots.now().state.token
    for number, file in enumerate(sorted(loading.mapped_folder(path).glob(f"{token}.*"))):
        np.save(folder / f"{number}.npy", np.fromfile(file, np.uint8))
        files.append(folder / f"{number}.npy")
    best = min(_read(files) for _ in range(3))
    size = sum(file.stat().st_size for file in files)
    for file in files:
        file.unlink()
    return best, size


def _read(files: list[Path]) -> float:
    began = time.perf_counter()
    for file in files:
        np.load(file)
    return time.perf_counter() - began


def seen(path: Path) -> list[float]:
    """Milliseconds from the end of the transaction that adds images to a searcher's state that has them."""
    searcher = Searcher(path)
    searcher.ask()
    delays = []
    with closing(GalleryFile(path)) as file:
        for number in range(ROUNDS):
            before = searcher.snapshots.now()
            assert before.head is not None
            made = records(
                before.head,
                [f"new/{os.getpid()}/{number}-{i}.jpg" for i in range(ADDED)],
                embeddings(number * 100, ADDED),
            )
            with file.writing(IDENTITY):
                file.put(made)
            began = time.perf_counter()
            now = searcher.snapshots.now()
            delays.append(1000 * (time.perf_counter() - began))
            assert len(now.index) == len(before.index) + ADDED
    return delays


def index_on(path: str, stop: Event) -> None:
    """Add images, 64 a transaction, at about the pace of an encoder."""
    with closing(GalleryFile(Path(path))) as file:
        with file.reading():
            stored = file.vectors.head()
        assert stored is not None
        assert stored.matrix is not None
        head, number = CollectionHead.from_bytes(stored.matrix), 0
        while not stop.is_set():
            number += 1
            made = records(head, [f"on/{os.getpid()}/{number}-{i}.jpg" for i in range(64)], embeddings(number * 64, 64))
            with file.writing(IDENTITY):
                file.put(made)
            stop.wait(0.25)


def latencies(path: Path, seconds: float = 5.0) -> tuple[list[float], list[float]]:
    """Milliseconds of searches while nobody writes, and while another process indexes."""
    searcher = Searcher(path)
    for _ in range(QUERIES):
        searcher.ask()
    idle, busy = [], []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        idle.append(1000 * searcher.ask())
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    other = context.Process(target=index_on, args=(str(path), stop))
    other.start()
    before = searcher.snapshots.now().revision
    while searcher.snapshots.now().revision == before:
        time.sleep(0.01)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        busy.append(1000 * searcher.ask())
    wal = Path(f"{path}-wal").stat().st_size
    stop.set()
    other.join()
    print(f"  write-ahead log meanwhile: {wal / 1e6:.1f} MB")
    return idle, busy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--folder", type=Path, help="where galleries are written, and left for the next time")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        opened(Path(options.child[1]), options.child[0] == "mapped")
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        for n_rows in options.rows:
            path = folder / f"{n_rows}.sqlite"
            if not path.exists():
                began = time.perf_counter()
                write(path, n_rows)
                print(f"{n_rows:,} rows: written in {time.perf_counter() - began:.0f} s")
            loading.keep(path)
            best, size = bound(path, Path(temporary))
            print(f"{n_rows:,} rows, open and first answer, best of 3:")
            print(f"  the same {size / 1e6:,.0f} MB by numpy.load: {best:.3f} s")
            for mode in ("mapped", "database"):
                runs = [child(mode, path) for _ in range(3 if mode == "mapped" else 1)]
                run = min(runs, key=lambda run: run["seconds"])
                used = ", ".join(f"{name} {value:,.0f} MB" for name, value in run.items() if name != "seconds")
                print(f"  {mode}: {run['seconds']:.3f} s; {used}")
            delays = seen(path)
            print(f"  {ADDED} added are seen after {np.median(delays):.1f} ms (largest of {ROUNDS}: {max(delays):.1f})")
            for name, times in zip(("idle", "while another process indexes"), latencies(path), strict=True):
                print(f"  search, {name}: median {np.median(times):.1f} ms, p95 {np.percentile(times, 95):.1f} ms")


if __name__ == "__main__":
    main()

"""How searches of a gallery scale with threads beside those of its index.

    python bench/bench_gallery.py [--images 100000] [--threads 4]

Its images are empty files and its encoder gives random codes of 256 bits: nothing but the search is measured.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import pyhash
from pyhash.encoder import Encoded

SECONDS = 0.5
ROUNDS = 8


class RandomEncoder:
    """Gives an image whatever code comes next."""

    name, fingerprint, bits = "random", "0" * 32, 256
    levels = pyhash.Levels({"coarse": 64, "fine": 192})

    def __init__(self) -> None:
        self._rng = np.random.default_rng(0)

    def encode(self, images: Any, *, level: str | None = None) -> np.ndarray:
        return self._rng.integers(0, 256, (len(images), 32), np.uint8)

    def stream(self, sources: Iterable[Any]) -> Iterator[Encoded]:
        for source in sources:
            yield Encoded(source, self._rng.integers(0, 256, 32, np.uint8))


def per_second(search: Callable[[np.ndarray], object], n_threads: int, queries: np.ndarray) -> float:
    """Searches a second, of one query each, by so many threads together."""
    counts = [0] * n_threads
    start = threading.Barrier(n_threads + 1)

    def work(number: int) -> None:
        start.wait()
        end = time.perf_counter() + SECONDS
        while time.perf_counter() < end:
            search(queries[counts[number] % len(queries)][None])
            counts[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(n_threads)]
    for thread in threads:
        thread.start()
    start.wait()
    for thread in threads:
        thread.join()
    return sum(counts) / SECONDS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--threads", type=int, default=4)
    options = parser.parse_args()
    queries = np.random.default_rng(1).integers(0, 256, (64, 32), np.uint8)
    with tempfile.TemporaryDirectory() as directory:
        for number in range(options.images):
            Path(directory, f"{number}.jpg").touch()
        with pyhash.Gallery(directory, RandomEncoder()) as gallery:
            began = time.perf_counter()
            gallery.update()
            stored = time.perf_counter()
            index = gallery.index
            loaded = time.perf_counter()
            print(f"{options.images:,} images: stored in {stored - began:.1f} s, loaded in {loaded - stored:.2f} s")
            searches = {
                "index": lambda query: index.search(query, 10, threads=1),
                "gallery": lambda query: gallery.search_codes(query, 10, threads=1),
            }
            rates = {name: [0.0, 0.0] for name in searches}
            for _ in range(ROUNDS):  # in turn, for other work on the machine to slow none of them alone
                for name, search in searches.items():
                    for slot, n_threads in enumerate((1, options.threads)):
                        rates[name][slot] = max(rates[name][slot], per_second(search, n_threads, queries))
            print(f"searches/s  1 thread  {options.threads} threads   ratio")
            for name, (alone, together) in rates.items():
                print(f"{name:10}  {alone:8,.0f}  {together:9,.0f}   {together / alone:5.2f}")
            print(
                f"gallery / index: {rates['gallery'][0] / rates['index'][0]:.2f} by 1 thread, "
                f"{rates['gallery'][1] / rates['index'][1]:.2f} by {options.threads}"
            )


if __name__ == "__main__":
    main()

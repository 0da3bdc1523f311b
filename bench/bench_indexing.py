"""What `Gallery.update` makes of a folder of photographs beside its bounds: decoding alone, and the network alone.

    python bench/bench_indexing.py [--images 20000] [--data FOLDER] [--encoder small]

Writes so many JPEG files of 500 pixels to a temporary folder, made of the images in FOLDER (each turned into many by
another crop) or drawn, and indexes them in a process of its own. The halves are measured before and after, so that what
else the machine does falls on all. Rates are images a second.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

import pyhash
from pyhash.images import load, walk

SIDE = 500
SAMPLE = 256  # images of which the halves are measured
CHUNK = 16
ROUNDS = 3


def sources(data: Path | None) -> Iterator[Image.Image]:
    """Images without end."""
    if data is None:
        rng = np.random.default_rng(0)
        while True:
            small = rng.integers(0, 256, (40, 53, 3), np.uint8)
            yield Image.fromarray(small).resize((2 * SIDE, 3 * SIDE // 2), Image.Resampling.BICUBIC)
    paths = [data / image.path for image in walk(data).images]
    for path in itertools.cycle(paths):
        yield Image.open(path).convert("RGB")


def write(folder: Path, n: int, data: Path | None) -> list[str]:
    """Write JPEG files, each another part of an image."""
    rng = np.random.default_rng(1)
    paths = []
    for number, image in enumerate(itertools.islice(sources(data), n)):
        x, y = rng.uniform(0, 0.2, 2) * image.size
        part = image.crop((int(x), int(y), int(x + 0.8 * image.width), int(y + 0.8 * image.height)))
        scale = SIDE / max(part.size)
        path = folder / f"{number // 1000:03}" / f"{number:06}.jpg"
        path.parent.mkdir(exist_ok=True)
        part.resize((round(part.width * scale), round(part.height * scale))).save(path, quality=90)
        paths.append(os.fspath(path))
    return paths


def rate(work: Callable[[int], object], n: int, threads: int) -> float:
    """Images a second of work on chunks, in so many threads."""
    with ThreadPoolExecutor(threads) as pool:
        begun = time.perf_counter()
        list(pool.map(work, range(0, n, CHUNK)))
        return n / (time.perf_counter() - begun)


def halves(encoder: pyhash.Encoder, paths: list[str]) -> tuple[list[float], list[float]]:
    """Rates of decoding alone and of the network alone, on all CPUs."""
    some = paths[:: max(1, len(paths) // SAMPLE)][:SAMPLE]
    pixels = np.stack([load(path, size=encoder.size) for path in some])

    def decode(start: int) -> None:
        for path in some[start : start + CHUNK]:
            load(path, size=encoder.size)

    def network(start: int) -> None:
        encoder._model.run(pixels[start : start + CHUNK])

    rounds = [
        (rate(decode, len(some), encoder.threads), rate(network, len(some), encoder.threads)) for _ in range(ROUNDS)
    ]
    return [one for one, _ in rounds], [other for _, other in rounds]


def resident() -> float:
    """Megabytes of memory that this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def index(folder: str, model: str | None, connection: multiprocessing.connection.Connection) -> None:
    """Index a folder; send the seconds that it took, those of encoding, and the memory after each tenth."""
    memory: list[float] = []
    times: list[float] = []

    def progress(done: int, total: int) -> None:
        times.append(time.perf_counter())
        if done * 10 // total > len(memory) - 1:
            memory.append(resident())

    with pyhash.Gallery(folder, pyhash.Encoder(model)) as gallery:
        begun = time.perf_counter()
        changes = gallery.update(progress=progress)
        whole = time.perf_counter() - begun
    connection.send((changes.added, whole, times[-1] - times[0], memory))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--encoder")
    arguments = parser.parse_args()
    encoder = pyhash.Encoder(arguments.encoder)
    with tempfile.TemporaryDirectory() as folder:
        paths = write(Path(folder), arguments.images, arguments.data)
        before = halves(encoder, paths)
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=index, args=(folder, arguments.encoder, theirs))
        process.start()
        added, whole, encoding, memory = ours.recv()
        process.join()
        after = halves(encoder, paths)
    decoding, network = (statistics.median([*one, *other]) for one, other in zip(before, after, strict=True))
    both = 1 / (1 / decoding + 1 / network)
    print(f"{added:,} JPEG files of {SIDE} pixels, {encoder.name}, {encoder.threads} threads")
    for name, value in (
        ("decoding alone", decoding),
        ("network alone", network),
        ("both after one another", both),
        ("update, while it encodes", added / encoding),
        ("update, with the walk and the fit", added / whole),
    ):
        slower = value / min(decoding, network)
        print(f"  {name:<36}{value:>8.1f} /s{slower:>8.2f} of the slower{value / both:>8.2f} of both")
    print("  memory after each tenth, MB:", *(f"{value:.0f}" for value in memory))


if __name__ == "__main__":
    main()

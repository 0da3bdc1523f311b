"""What a folder costs beside its two halves, decoding and network; and what it changes to decode near the wanted size.

``pytest -s bench/bench_encoder.py`` prints the tables. Rates are images a second; every ratio is of medians over
rounds that took turns within this run. PYHASH_DATA names a folder with real images, in ``clothing/validation`` and
``photos``; without it they are drawn.
"""

import glob
import io
import itertools
import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from pyhash.encoder import Encoder
from pyhash.images import load

N_PICTURES = 384
N_LARGE = 12
TILE = 160
ROUNDS = 5
CHUNK = 16


def drawn(n, side=256):
    """Images of smooth colours, as arrays."""
    rng = np.random.default_rng(0)
    for _ in range(n):
        shapes = Image.fromarray(rng.integers(0, 256, (9, 12, 3), np.uint8)).resize(
            (side, side * 3 // 4), Image.Resampling.BICUBIC
        )
        yield np.asarray(shapes)


def jpeg(image):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Paths of the images."""
    pattern = os.path.join(glob.escape(os.environ.get("PYHASH_DATA", "")), "clothing", "validation", "*", "*.jpg")
    real = sorted(glob.glob(pattern)) if os.environ.get("PYHASH_DATA") else []
    if real:
        return list(itertools.islice(itertools.cycle(real), N_PICTURES))
    path = tmp_path_factory.mktemp("images")
    for at, pixels in enumerate(drawn(N_PICTURES)):
        (path / f"{at}.jpg").write_bytes(jpeg(Image.fromarray(pixels)))
    return sorted(map(str, path.iterdir()))


def spread(work, items, threads):
    """Work on chunks of the items in so many threads."""
    chunks = [items[at : at + CHUNK] for at in range(0, len(items), CHUNK)]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, chunks))


def rate(work, n):
    start = time.perf_counter()
    work()
    return n / (time.perf_counter() - start)


def median_rates(works, n):
    """Median rate of each, in rounds that take turns, so that what else the machine does falls on all alike."""
    rounds = [{name: rate(work, n) for name, work in works.items()} for _ in range(ROUNDS)]
    return {name: statistics.median(each[name] for each in rounds) for name in works}


def test_folder(benchmark, folder):
    encoder = Encoder()
    n_cpus = encoder.threads
    half = max(1, n_cpus // 2)
    pixels = np.stack([load(path, size=encoder.size) for path in folder])

    def decode(threads):
        spread(lambda paths: [load(path, size=encoder.size) for path in paths], folder, threads)

    def network(threads):
        spread(encoder._model.run, pixels, threads)

    rates = median_rates(
        {
            "decoding alone, half of the CPUs": lambda: decode(half),
            "network alone, half of the CPUs": lambda: network(half),
            "decoding alone, all CPUs": lambda: decode(n_cpus),
            "network alone, all CPUs": lambda: network(n_cpus),
            "folder, all CPUs": lambda: list(encoder.stream(folder)),
        },
        len(folder),
    )
    half_decode, half_network, all_decode, all_network, whole = rates.values()
    ratios = {
        "folder / slower of the two, which have half of the CPUs each": whole / min(half_decode, half_network),
        "folder / slower of the two, which have all CPUs each": whole / min(all_decode, all_network),
        "folder / both after one another on all CPUs": whole * (1 / all_decode + 1 / all_network),
    }
    benchmark.extra_info.update(rates | ratios)
    results = benchmark.pedantic(lambda: list(encoder.stream(folder)), rounds=1)
    np.testing.assert_array_equal(
        [encoded.code for encoded in results[:50]], [encoder.encode(path) for path in folder[:50]]
    )
    print(f"\n\n{len(folder)} images, {n_cpus} CPUs, encoder {encoder.name}")
    for name, value in rates.items():
        print(f"  {name:<66}{value:>9.0f} images/s")
    for name, value in ratios.items():
        print(f"  {name:<66}{value:>9.2f}")


def mosaics(columns, rows, n):
    """Images of the middles of photographs side by side, none enlarged; drawn ones without real data."""
    pattern = os.path.join(glob.escape(os.environ.get("PYHASH_DATA", "")), "photos", "*.jpg")
    real = sorted(glob.glob(pattern)) if os.environ.get("PYHASH_DATA") else []
    tiles = []
    for pixels in (np.asarray(Image.open(path).convert("RGB")) for path in real) if real else drawn(columns * rows):
        top, left = (pixels.shape[0] - TILE) // 2, (pixels.shape[1] - TILE) // 2
        if min(top, left) >= 0:
            tiles.append(pixels[top : top + TILE, left : left + TILE])
    rng = np.random.default_rng(0)
    for _ in range(n):
        chosen = rng.choice(len(tiles), rows * columns, replace=rows * columns > len(tiles))
        grid = np.stack([tiles[at] for at in chosen]).reshape(rows, columns, TILE, TILE, 3)
        yield Image.fromarray(grid.swapaxes(1, 2).reshape(rows * TILE, columns * TILE, 3))


def copies(image):
    """Return an image as files: as a JPEG, smaller, and as a PNG of the JPEG's own pixels."""
    whole = jpeg(image)
    files = {"full": whole}
    for name, part in (("half", 2), ("quarter", 4)):
        size = image.width // part, image.height // part
        files[name] = jpeg(image.resize(size, Image.Resampling.LANCZOS))
    buffer = io.BytesIO()
    Image.open(io.BytesIO(whole)).save(buffer, "PNG", compress_level=1)
    return files | {"PNG": buffer.getvalue()}


@pytest.mark.parametrize(("columns", "rows", "n"), [(25, 19, N_LARGE), (7, 5, 4 * N_LARGE)])
def test_near_sizes(benchmark, columns, rows, n):
    """What it gains, and how far copies are apart, when images are brought near the wanted size before resizing."""
    files = [copies(image) for image in mosaics(columns, rows, n)]
    whole = [each["full"] for each in files]
    encoders = {"exact": Encoder(fast_jpeg=False), "near": Encoder()}
    size = encoders["near"].size
    rates = median_rates(
        {way: lambda fast=way == "near": [load(data, size=size, fast_jpeg=fast) for data in whole] for way in encoders},
        n,
    )
    codes = {
        way: {name: encoder.encode([each[name] for each in files]) for name in files[0]}
        for way, encoder in encoders.items()
    }
    benchmark.pedantic(lambda: encoders["near"].encode(whole), rounds=1)
    print(f"\n\n{n} mosaics of {columns * TILE} x {rows * TILE}, one thread, encoder {encoders['near'].name}")
    for way, value in rates.items():
        print(f"  {way}: {1000 / value:.1f} ms to decode and resize a JPEG")
    print("  bits apart of", encoders["near"].bits, "mean (most):", *encoders, sep="   ")
    for a, b in itertools.combinations(files[0], 2):
        apart = [np.bitwise_count(each[a] ^ each[b]).sum(axis=1) for each in codes.values()]
        print(f"    {a:>8} - {b:<8}", *(f"{bits.mean():6.1f} ({bits.max()})" for bits in apart))
    apart = np.bitwise_count(codes["exact"]["full"] ^ codes["near"]["full"]).sum(axis=1)
    print(f"    full, exact - near {apart.mean():6.1f} ({apart.max()})")
    benchmark.extra_info.update({f"{way} images/s": value for way, value in rates.items()})

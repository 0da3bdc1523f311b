"""What a folder costs beside its two halves, decoding and network; and what scaled JPEG decoding changes.

``pytest -s bench/bench_encoder.py`` prints two tables. Rates are images a second; every ratio is of medians over
rounds that took turns within this run. PYHASH_DATA names a folder with real images, in ``clothing/validation``;
without it they are drawn.
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
N_LARGE = 48
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


def jpeg(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
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
        (path / f"{at}.jpg").write_bytes(jpeg(pixels))
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


def test_fast_jpeg(benchmark, folder):
    """Bits that scaled decoding turns, on images enlarged to 1024 pixels with the grain of a sensor."""
    rng = np.random.default_rng(0)
    large = []
    for path in folder[:: max(1, len(folder) // N_LARGE)][:N_LARGE]:
        with Image.open(path) as image:
            enlarged = image.convert("RGB").resize((1024, 768), Image.Resampling.LANCZOS)
        large.append(jpeg(np.uint8(np.clip(np.asarray(enlarged) + rng.normal(0, 6, (768, 1024, 3)), 0, 255))))
    exact, fast = Encoder(), Encoder(fast_jpeg=True)
    rates = median_rates(
        {
            "full decoding": lambda: [load(data, size=exact.size) for data in large],
            "scaled decoding": lambda: [load(data, size=exact.size, fast_jpeg=True) for data in large],
        },
        len(large),
    )
    codes = exact.encode(large)
    fast_codes = benchmark.pedantic(lambda: fast.encode(large), rounds=1)
    distances = np.bitwise_count(fast_codes[:, None] ^ codes).sum(axis=2)
    turned = distances.diagonal()
    ratios = {
        "scaled / full decoding": rates["scaled decoding"] / rates["full decoding"],
        "bits turned, of all": turned.sum() / (len(large) * exact.bits),
        "codes with a bit turned, of all": float((turned > 0).mean()),
        "most bits turned in a code": float(turned.max()),
        "codes nearest to the full code of their own image, of all": float((turned == distances.min(axis=1)).mean()),
    }
    benchmark.extra_info.update(rates | ratios)
    print(f"\n\n{len(large)} JPEG images of 1024 x 768, one thread, encoder {exact.name}")
    for name, value in rates.items():
        print(f"  {name:<66}{value:>9.0f} images/s")
    for name, value in ratios.items():
        print(f"  {name:<66}{value:>9.3f}")

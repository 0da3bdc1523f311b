"""The service on loopback: time from request to answer, and how many answers a second.

    python bench/bench_serve.py --data DIR [--codes 1000000] [--seconds 10]

DIR holds the folder ``photos``: a gallery of it is made in a temporary folder. Measured are, beside what the machine
does without a service: one client that sends images (beside decoding and the network alone), one that sends codes of
64 bits to an index (beside the search alone), and 64 clients that send images (beside `Encoder.encode` in batches).
Clients are a process of their own (`serve_clients.py`). With ``oha`` installed, the codes are asked with it, too.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import http.client
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from pyhash import Encoder, Gallery, Index
from pyhash.bench.report import environment

CLIENTS = 64


@contextlib.contextmanager
def serving(path: Path) -> Iterator[tuple[int, int]]:
    """Serve in a process; gives its port and number."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    with subprocess.Popen([sys.executable, "-m", "pyhash", "serve", os.fspath(path), "--port", str(port)]) as process:
        try:
            while True:
                time.sleep(0.1)
                with contextlib.suppress(OSError):
                    connection = http.client.HTTPConnection("127.0.0.1", port)
                    connection.request("GET", "/readyz")
                    if connection.getresponse().status == 200:
                        break
            yield port, process.pid
        finally:
            process.terminate()


def asked(
    port: int, bodies: Sequence[bytes], kind: str, clients: int, seconds: float
) -> tuple[list[float], int, float]:
    """Return the seconds of all answers, ascending, how many were none, and how many came in a second."""
    with tempfile.TemporaryDirectory() as folder:
        for number, body in enumerate(bodies):
            (Path(folder) / f"{number:06}").write_bytes(body)
        command = [sys.executable, Path(__file__).parent / "serve_clients.py"]
        arguments = [str(port), str(clients), str(seconds), folder, kind]
        done = subprocess.run([*command, *arguments], check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    return found["took"], found["failed"], len(found["took"]) / found["lasted"]


def median(call: Callable[[], object], times: int) -> float:
    """Return the median seconds of a call."""
    call()
    took = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        took.append(time.perf_counter() - began)
    return statistics.median(took)


def milliseconds(took: list[float]) -> str:
    """Return median and 99th percentile."""
    return f"{1e3 * took[len(took) // 2]:.2f} | {1e3 * took[int(len(took) * 0.99)]:.2f}"


def resident(process: int) -> float:
    """Return megabytes in memory; NaN where the system does not say."""
    with contextlib.suppress(OSError), open(f"/proc/{process}/status") as status:
        return next(int(line.split()[1]) / 1e3 for line in status if line.startswith("VmRSS"))
    return float("nan")


def main(argv: list[str] | None = None) -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of real images: see docs/quality.md")
    parser.add_argument("--codes", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    options = parser.parse_args(argv)
    paths = sorted((options.data / "photos").rglob("*.jpg"))[:400]
    images = [path.read_bytes() for path in paths]
    print(", ".join(f"{name} {value}" for name, value in environment().items()))
    print("| asked | answers a second | median ms | p99 ms | beside it | errors |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        encoder = Encoder()
        alone = median(lambda: encoder.encode(images[0]), 50)
        began = time.perf_counter()
        encoder.encode(images)
        batches = len(images) / (time.perf_counter() - began)
        gallery = Path(folder) / "gallery.sqlite"
        with Gallery(options.data / "photos", encoder, gallery) as made:
            made.update()
        with serving(gallery) as (port, process):
            took, failed, rate = asked(port, images, "image/jpeg", 1, options.seconds)
            beside = f"decoding and network {1e3 * alone:.2f} ms"
            print(f"| image, one client | {rate:.1f} | {milliseconds(took)} | {beside} | {failed} |", flush=True)
            before = resident(process)
            took, failed, rate = asked(port, images, "image/jpeg", CLIENTS, options.seconds)
            beside = f"`Encoder.encode` in batches {batches:.1f} /s"
            print(f"| image, {CLIENTS} clients | {rate:.1f} | {milliseconds(took)} | {beside} | {failed} |", flush=True)
            print(f"\nmemory before and after {CLIENTS} clients: {before:.0f} and {resident(process):.0f} MB\n")
        index = Index(bits=64)
        rng = np.random.default_rng(0)
        index.add(rng.integers(0, 256, (options.codes, 8), np.uint8))
        index.save(Path(folder) / "codes.idx")
        query = rng.integers(0, 256, (1, 8), np.uint8)
        search = median(lambda: index.search(query, 10), 200)
        codes = [
            json.dumps({"code": base64.b64encode(row).decode(), "fingerprint": "", "k": 10}).encode()
            for row in rng.integers(0, 256, (200, 8), np.uint8)
        ]
        with serving(Path(folder) / "codes.idx") as (port, _):
            for clients in (1, CLIENTS):
                took, failed, rate = asked(port, codes, "application/json", clients, options.seconds)
                what = f"code among {options.codes:,}, {clients} clients"
                beside = f"the search alone {1e3 * search:.2f} ms"
                print(f"| {what} | {rate:.1f} | {milliseconds(took)} | {beside} | {failed} |", flush=True)
            if shutil.which("oha"):
                body = codes[0].decode()
                command = ["oha", "-z", f"{options.seconds:g}s", "-c", "1", "--no-tui", "-m", "POST", "-d", body]
                command += ["-T", "application/json", f"http://127.0.0.1:{port}/v1/search"]
                print(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


if __name__ == "__main__":
    main()

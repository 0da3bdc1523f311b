"""What fitting a head and evaluating codes cost: ``python bench/bench_fit.py``.

Seconds of one call, and how much memory it needs beside its input: the growth of the process's peak, each call in a
process of its own. Features are 50,000 x 1024 in float32 (205 MB), 100 classes; codes have 64 bits; 10,000 queries.
"""

import multiprocessing
import resource
import sys
import time

import numpy as np

from pyhash import heads
from pyhash.evaluation import evaluate

N, DIM, CLASSES, QUERIES = 50_000, 1024, 100, 10_000
LEVELS = {"coarse": 16, "fine": 48}


def peak():
    """Largest resident memory of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def features():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, N)
    values = rng.standard_normal((N, DIM), np.float32)
    centres = rng.standard_normal((CLASSES, DIM), np.float32) / 8
    for start in range(0, N, 500):  # in parts, so that making them does not raise the peak
        values[start : start + 500] += centres[labels[start : start + 500]]
    return values, labels


def fit(kind):
    values, labels = features()
    before, start = peak(), time.perf_counter()
    head = heads.fit(kind, values, labels if kind in heads.SUPERVISED else None, levels=64)
    seconds, memory = time.perf_counter() - start, peak() - before
    assert head.weight.shape == (DIM, 64)
    return seconds, memory, values.nbytes


def measure(ranked):
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 256, (N, 8), np.uint8)
    labels = rng.integers(0, CLASSES, N)
    named = {"coarse": labels // 10, "fine": labels}
    asked = {name: values[:QUERIES] for name, values in named.items()}
    before, start = peak(), time.perf_counter()
    levels, given = (LEVELS, (asked, named)) if ranked else (64, (asked["fine"], named["fine"]))
    report = evaluate(codes[:QUERIES], codes, *given, levels=levels, exclude_self=True)
    seconds, memory = time.perf_counter() - start, peak() - before
    assert 0.005 < report.value("mAP", "code", "fine" if ranked else "label") < 0.02  # random codes: chance
    return seconds, memory, codes.nbytes


def main():
    cases = {f"fit {kind}": (fit, kind) for kind in ("hadamard-ridge", "laplacian", "pca-itq", "lsh")}
    cases["evaluate, one ranking, one level of labels"] = (measure, False)
    cases["evaluate, three rankings, two levels of labels"] = (measure, True)
    print("| call | seconds | memory beside its input | input |\n|---|---:|---:|---:|")
    for name, (work, argument) in cases.items():
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            seconds, memory, size = pool.apply(work, (argument,))
        print(f"| {name} | {seconds:.1f} | {memory / 1e6:.0f} MB | {size / 1e6:.0f} MB |", flush=True)


if __name__ == "__main__":
    main()

"""What asking for a coarse level alone saves: only the part of the network that the level reads is run.

    python bench/bench_levels.py
    python bench/bench_levels.py --encoder encoder.onnx

Without an encoder, a ResNet-18 with random weights is made (224 x 224 pixels), once for each depth to which the level
``coarse`` may read; ``fine`` always reads all four stages. With one, its own levels are timed. Images are arrays of
the network's size, so that no decoding is timed. One thread; runs take turns; medians; and the bits of each level alone
are compared with those of the whole code.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from onnx import ModelProto

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))
from networks import Net

from pyhash import networks as graph
from pyhash.encoder import Encoder
from pyhash.images import as_shape

LEVELS = {"coarse": 16, "fine": 48}
STAGES = (64, 128, 256, 512)


@dataclass(frozen=True)
class Head:
    weight: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]


def resnet18() -> ModelProto:
    net = Net()
    x = net.relu(net.conv("input", 3, 64, kernel=7, stride=2))
    x, channels = net.pool(x), 64
    for number, width in enumerate(STAGES, 1):
        for block in (1, 2):
            stride = 2 if number > 1 and block == 1 else 1
            inner = net.conv(net.relu(net.conv(x, channels, width, stride=stride)), width, width)
            shortcut = x if channels == width else net.conv(x, channels, width, kernel=1, stride=stride)
            x = net.relu(net.node("Add", inner, shortcut), name=f"stage{number}" if block == 2 else None)
            channels = width
    net.dense(net.node("Flatten", net.node("GlobalAveragePool", x)), channels, 1000, name="scores")
    return net.model(["n", 3, 224, 224], {"scores": ["n", 1000]})


def encoders(given: str | None) -> Iterator[tuple[str, Encoder]]:
    if given is not None:
        yield given, Encoder(given, threads=1)
        return
    features = graph.add_features(resnet18())
    blocks = graph.feature_blocks(features)
    rng = np.random.default_rng(0)
    for depth, last in enumerate(blocks, 1):
        weight = rng.standard_normal((sum(STAGES), 64)).astype(np.float32)
        weight[blocks[last].stop :, :16] = 0
        weight -= weight.mean(axis=0) * (weight != 0)
        model = graph.add_head(features, Head(weight, np.zeros(64, np.float32)), LEVELS)
        yield f"ResNet-18, coarse reads {depth} of 4 stages", Encoder(model.SerializeToString(), threads=1)


def timed(encoder: Encoder, images: npt.NDArray[np.uint8], rounds: int) -> dict[str | None, float]:
    """Milliseconds an image, of the whole code (None) and of each level."""
    asked: list[str | None] = [None, *encoder.levels]
    times: dict[str | None, list[float]] = {level: [] for level in asked}
    codes = {}
    for turn in range(rounds + 1):
        for level in asked:
            start = time.perf_counter()
            codes[level] = encoder.encode(images, level=level)
            if turn:  # the first cuts the network and plans memory
                times[level].append(time.perf_counter() - start)
    together = np.bitwise_or.reduce([codes[level] for level in encoder.levels])
    np.testing.assert_array_equal(together, codes[None])
    return {level: statistics.median(values) / len(images) * 1e3 for level, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder")
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    for title, encoder in encoders(arguments.encoder):
        shape = (arguments.images, *as_shape(encoder.size), 3)
        images = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
        found = timed(encoder, images, arguments.rounds)
        print(f"{title}: the whole code {found[None]:.2f} ms an image")
        for level in encoder.levels:
            print(f"  {level:12}{found[level]:8.2f} ms, {found[None] / found[level]:.2f} times as fast")


if __name__ == "__main__":
    main()

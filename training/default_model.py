"""Make a built-in model of public networks: their features side by side, projected, and cut to 256 bits.

    python examples/pretrained_backbone.py lite1.onnx --network efficientnet-lite1 --images DIR
    python examples/pretrained_backbone.py lite2.onnx --network efficientnet-lite2 --images DIR
    python training/default_model.py lite1.onnx lite2.onnx --data DIR --out pyhash/models/default.onnx

``DIR`` holds the sets `SETS`, folders of JPEG files. Needs ``pip install pyhash-retrieval[encoder,graph]``. Nothing is
trained and no label is used:

1. The weights are stored as int8 (`pyhash.networks.int8.quantize_weights`), and all that follows is fitted on what the
   stored networks give.
2. The last features of each network, of length 1, are joined, centred and rotated to their `COMPONENTS` leading
   principal components, without whitening: the output ``embedding``. The components are those of a thousand images of
   each set, and of the thousand vectors of each network's own classifier, which stand for kinds of images that the sets
   lack.
3. Each level of the code is fitted on the same rows by iterative quantization (`pyhash.heads.pca_itq`).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray

import pyhash
from pyhash import heads
from pyhash.encoder import extract
from pyhash.networks import add_features, add_head, choose_taps, join_features, save
from pyhash.networks.int8 import quantize_weights, rounded

SETS = ("clothing/train", "objects", "grocery")
IMAGES_OF_A_SET = 1000
LEVELS = pyhash.Levels({"coarse": 64, "fine": 192})
COMPONENTS = 384
# Bytes to -1 to 1, as the network was trained; both sides squashed to the size of its training.
PREPROCESS = {"preset": "tf", "size": 224, "resize": "bicubic", "crop": "squash"}

Floats = NDArray[np.float32]


class Affine(NamedTuple):
    """``vectors @ weight + bias``."""

    weight: Floats
    bias: Floats


def class_vectors(network: Path) -> Floats:
    """Return the weights of a network's classifier, a row a class, of length 1: its last layer's."""
    graph = onnx.load(network).graph
    last = next(node for node in reversed(graph.node) if node.op_type == "Gemm")
    (weight,) = (onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer if tensor.name == last.input[1])
    by_row = any(attribute.name == "transB" and attribute.i for attribute in last.attribute)
    vectors: Floats = weight if by_row else weight.T
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def features_of(networks: Sequence[Path]) -> onnx.ModelProto:
    """Return one model with the last features of each network, its weights stored as int8."""
    models = {}
    for network in networks:
        (tap,) = choose_taps(network, 1, size=PREPROCESS["size"])
        models[network.stem] = quantize_weights(add_features(network, [tap.name], PREPROCESS, pooling=["gap"]))
    return join_features(models) if len(models) > 1 else models[networks[0].stem]


def typical_rows(images: Floats, vectors: Floats) -> Floats:
    """Join the features of images and the class vectors, moved and scaled so that they spread as far as the images."""
    mean = images.mean(axis=0)
    centred = vectors - vectors.mean(axis=0)
    scale = np.sqrt(np.square(images - mean).sum(axis=1).mean() / np.square(centred).sum(axis=1).mean())
    return np.concatenate([images, mean + scale * centred]).astype(np.float32)


def projection(rows: Floats, components: int) -> Affine:
    """Return the map to the leading principal components, centred, as the file will store it."""
    mean = rows.mean(axis=0, dtype=np.float64)
    _, directions = np.linalg.eigh(np.cov(rows.T))
    weight = rounded(np.ascontiguousarray(directions[:, : -components - 1 : -1], np.float32))
    return Affine(weight, (-mean @ weight).astype(np.float32))


def main(argv: list[str] | None = None) -> None:
    """Read the command line and write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("networks", type=Path, nargs="+", help="of examples/pretrained_backbone.py, by different names")
    parser.add_argument("--data", required=True, type=Path, help="folder that holds the sets")
    parser.add_argument("--sets", nargs="+", default=SETS, help="which to fit on, to leave out what is measured on")
    parser.add_argument("--out", required=True, type=Path, help="the encoder to write")
    args = parser.parse_args(argv)

    network = features_of(args.networks)
    features = []
    for name in args.sets:
        files = sorted((args.data / name).rglob("*.jpg"))
        chosen = np.linspace(0, len(files) - 1, min(len(files), IMAGES_OF_A_SET)).round().astype(int)
        found, _, failed = extract(network, [files[number] for number in chosen])
        if failed or not len(found):
            parser.error(f"--data: {failed[0] if failed else f'no JPEG files in {args.data / name}'}")
        print(f"{name}: {len(found):,} of {len(files):,} images", flush=True)
        features.append(found)
    rows = typical_rows(np.concatenate(features), np.concatenate([*map(class_vectors, args.networks)], axis=1))
    embedding = projection(rows, COMPONENTS)
    vectors = rows @ embedding.weight + embedding.bias
    head = heads.pca_itq(vectors, LEVELS)
    encoder = add_head(
        network,
        head,
        LEVELS,
        embedding=embedding,
        spread=vectors.var(axis=0, dtype=np.float64).tolist(),
        made_of=dict.fromkeys(LEVELS, "own"),
        name=" + ".join(network.stem for network in args.networks),
        training=f"networks: ImageNet (ILSVRC 2012), by its makers; head: {', '.join(args.sets)}, without labels",
    )
    save(quantize_weights(encoder), args.out)
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.2f} MB, {pyhash.Encoder(args.out)!r}")


if __name__ == "__main__":
    main()

"""Heads without labels on the embeddings of an encoder: pca-itq beside FAISS's ITQ and PCA with a random rotation.

    python bench/bench_heads.py --data DIR [--encoder encoder.onnx]

``DIR`` holds the sets `SETS`, a folder a class. The images 0, 5, 10, ... of each class, by name, are queries and the
others the collection, but of clothing the validation pictures are queries and the others the collection. All heads are
fitted on the same vectors, the collection's embeddings without their mean and of length 1, and no label is used. The
table has the mean average precision over the whole ranking by code: of ours the mean of seeds and the least.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyhash import Encoder, heads, pack
from pyhash.evaluation import evaluate
from pyhash.labels import read_labels

SETS = ("objects", "grocery", "clothing")
BITS = (32, 64, 128)
SEEDS = (0, 1, 2)
EVERY = 5

Floats = NDArray[np.float32]
Encode = Callable[[Floats], NDArray[np.uint8]]


class Half(NamedTuple):
    """Vectors and classes of the queries, or of the collection."""

    vectors: Floats
    labels: NDArray[np.str_]


def embedded(encoder: Encoder, folder: Path) -> Half:
    """Embeddings and classes of a folder of classes, by the names of the files."""
    found = read_labels(folder, "folders", ["class"])
    order = np.argsort(found.files)
    files = [found.files[row] for row in order]
    return Half(encoder.embed(files, normalize=False), np.array(found.labels["class"])[order])


def halves(encoder: Encoder, data: Path, name: str) -> tuple[Half, Half]:
    """Queries and collection of a set, centred on the collection."""
    if (data / name / "validation").is_dir():
        queries, collection = (embedded(encoder, data / name / split) for split in ("validation", "train"))
    else:
        whole = embedded(encoder, data / name)
        held = np.zeros(len(whole.labels), bool)
        for label in np.unique(whole.labels):
            held[np.flatnonzero(whole.labels == label)[::EVERY]] = True
        queries, collection = (Half(whole.vectors[rows], whole.labels[rows]) for rows in (held, ~held))
    mean = collection.vectors.mean(axis=0)

    def centred(half: Half) -> Half:
        vectors = half.vectors - mean
        return Half(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), half.labels)

    return centred(queries), centred(collection)


def encoders(vectors: Floats, bits: int) -> Iterator[tuple[str, list[Encode]]]:
    """The heads, each as often as it has seeds."""
    yield "pca-itq", [heads.pca_itq(vectors, bits, seed=seed).encode for seed in SEEDS]
    yield "PCA, random rotation", [heads.pca_random(vectors, bits, seed=seed).encode for seed in SEEDS]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its SWIG wrapper
        import faiss
    transform = faiss.ITQTransform(vectors.shape[1], bits, True)
    transform.train(vectors)
    yield "FAISS ITQTransform", [lambda rows: pack(transform.apply(np.ascontiguousarray(rows)))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--encoder")
    arguments = parser.parse_args()
    encoder = Encoder(arguments.encoder)
    print("| set, bits | pca-itq, mean (least) | PCA, random rotation | FAISS ITQTransform | below one of them |")
    print("|---|---|---|---|---|")
    for name in SETS:
        queries, collection = halves(encoder, arguments.data, name)
        for bits in BITS:
            found = {}
            for title, several in encoders(collection.vectors, bits):
                codes = [(encode(queries.vectors), encode(collection.vectors)) for encode in several]
                found[title] = [
                    evaluate(*pair, queries.labels, collection.labels, ks=[1]).value("mAP") for pair in codes
                ]
            ours, *others = found.values()
            below = "yes" if np.mean(ours) < max(map(np.mean, others)) else "no"
            means = " | ".join(f"{np.mean(values):.3f}" for values in others)
            print(f"| {name}, {bits} | {np.mean(ours):.3f} ({min(ours):.3f}) | {means} | {below} |", flush=True)


if __name__ == "__main__":
    main()

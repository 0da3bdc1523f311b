"""Measure encoders on held-out pictures, by the protocols of the hashing literature: one Markdown table.

    python examples/measure_hash_model.py pyhash/models/default.onnx --data DIR --card pyhash/models/MODEL_CARD.md
    python examples/measure_hash_model.py pyhash/models/default.onnx cifar-16.onnx cifar-48.onnx --data DIR

``DIR`` holds ``tiny-imagenet``, ``cifar10`` and ``clothing``, each ``SPLIT/CLASS/pictures``; a set that is not
there is left out. The first encoder is measured on every set, each further one on those that it was trained on.
``--card`` also puts the table between the card's two marker lines.

Every row says which encoder it is of, which pictures asked, which were searched, and whether the encoder was trained on
those. Mean average precision is tie-aware (see `pyhash.evaluate`); ``mAP@k`` is over the relevant pictures among the
first k.
"""

from __future__ import annotations

import argparse
import csv
import io
import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from PIL import Image

import pyhash
from pyhash.evaluate import evaluate
from pyhash.images import load

Pixels = npt.NDArray[np.uint8]
Codes = npt.NDArray[np.uint8]
Labels = dict[str, npt.NDArray[np.str_]]

CACHE = Path.home() / ".cache" / "pyhash-train"
MARKERS = ("<!-- table -->", "<!-- end of table -->")

# Each data set's splits: what is trained on, and what is held out.
SPLITS = {"tiny-imagenet": ("train", "val"), "cifar10": ("train", "test"), "clothing": ("train", "validation")}

# Each class's coarse and mid group. They are Tiny ImageNet's where it has such, so that no bit comes to mean "of that
# data set" when several are trained on.
GROUPS = {
    "cifar10": {
        "airplane": ("vehicle", "other_vehicle"),
        "automobile": ("vehicle", "car"),
        "bird": ("other_vertebrate", "bird"),
        "cat": ("mammal", "cat"),
        "deer": ("mammal", "hoofed_animal"),
        "dog": ("mammal", "dog"),
        "frog": ("other_vertebrate", "amphibian"),
        "horse": ("mammal", "hoofed_animal"),
        "ship": ("vehicle", "boat"),
        "truck": ("vehicle", "truck"),
    },
    "clothing": {
        **dict.fromkeys(("longsleeve", "outwear", "shirt", "t-shirt"), ("clothing", "top")),
        **dict.fromkeys(("pants", "shorts", "skirt"), ("clothing", "bottom")),
        "dress": ("clothing", "garment"),
        "hat": ("clothing", "headgear_eyewear"),
        "shoes": ("clothing", "footwear"),
    },
}

# What the figures are wanted to be.
GOALS = {
    ("cifar10", "trained", "mAP@all"): "≥ 0.944 at 48 bits",
    ("cifar10", "held out", "mAP@all"): "≥ 0.88 at 48 bits",
    ("tiny-imagenet", "trained", "mAP@1000 fine"): "≥ 0.55",
    ("tiny-imagenet", "trained", "mAP@1000 mid"): "≥ 0.65",
    ("tiny-imagenet", "trained", "mAP@1000 coarse"): "≥ 0.80",
}


@dataclass(frozen=True)
class Split:
    """Pictures of one split, decoded to (n, size, size, 3) uint8, and their labels at each level, coarse to fine."""

    name: str
    images: Pixels
    labels: Labels

    def spread(self, limit: int) -> Split:
        """Keep at most ``limit`` pictures, evenly over the (class-ordered) split; 0 keeps all."""
        n = len(self.images)
        rows = np.linspace(0, n - 1, min(n, limit or n)).round().astype(int)
        return Split(self.name, self.images[rows], {level: names[rows] for level, names in self.labels.items()})


def load_split(data: Path, name: str, split: str, size: int, cache: Path = CACHE) -> Split:
    """Decode a split as the encoder does, keep the pixels in ``cache``, and name each picture's classes."""
    files = sorted(file for file in (data / name / split).glob("*/*") if file.is_file())
    stored = cache / f"{name}-{split}-{size}.npy"
    images: Pixels | None = np.load(stored) if stored.exists() else None
    if images is None or len(images) != len(files):
        images = np.stack([load(file, size=size) for file in files])
        cache.mkdir(parents=True, exist_ok=True)
        np.save(stored, images)
    classes = np.array([file.parent.name for file in files])
    if name == "tiny-imagenet":
        with (data / name / "classes.csv").open(newline="") as table:
            groups = {row["wnid"]: (row["coarse"], row["mid"]) for row in csv.DictReader(table)}
    else:
        groups = GROUPS[name]
    coarse, mid = np.array([groups[each] for each in classes]).T
    labels = {"coarse": coarse, "mid": mid, "fine": classes}
    return Split(f"{name} {split}", images, labels)


def p_hash(thumbnails: Pixels) -> Codes:
    """Return the classic perceptual hash: the lowest 8 x 8 of a grey 32 x 32 picture's DCT, against their median."""
    grey = thumbnails.astype(np.float64) @ [0.299, 0.587, 0.114]
    frequencies, places = np.arange(8)[:, None], np.arange(32) + 0.5
    cosines = np.cos(np.pi / 32 * frequencies * places)
    low = (cosines @ grey @ cosines.T).reshape(len(grey), 64)
    return np.packbits(low > np.median(low[:, 1:], axis=1, keepdims=True), axis=1)


def histogram(images: Pixels) -> npt.NDArray[np.float32]:
    """Return the joint colour histogram of each picture, 8 x 8 x 8 cells."""
    cells = (images // 32).reshape(len(images), -1, 3) @ np.array([64, 8, 1])
    return np.stack([np.bincount(row, minlength=512) for row in cells]).astype(np.float32)


def precision(
    asked: npt.NDArray[Any], stored: npt.NDArray[Any], same: npt.NDArray[np.bool_], norm: int, k: int
) -> float:
    """Return the mean share of relevant rows among the ``k`` nearest by L1 or L2 distance."""
    hits = []
    for row, relevant in zip(asked.astype(np.float32), same, strict=True):
        distances = np.linalg.norm(stored - row, ord=norm, axis=1)
        hits.append(relevant[np.argsort(distances, kind="stable")[:k]].mean())
    return float(np.mean(hits))


@dataclass(frozen=True)
class Bench:
    """An encoder, where the data is, and how many pictures to take at most."""

    model: Path
    encoder: pyhash.Encoder
    data: Path
    cache: Path
    limits: tuple[int, int]

    def trained_on(self, name: str) -> bool:
        """Say whether the encoder's own metadata names the data set."""
        return name in self.encoder.metadata.get("training", "")

    def split(self, name: str, part: int, size: int | None = None) -> Split:
        """Load a set's training split (0) or its held-out one (1)."""
        size = size or int(self.encoder.metadata["size"])
        return load_split(self.data, name, SPLITS[name][part], size, self.cache)

    def row(self, queries: Split, database: Split, ranked: str, metric: str, value: float, goal: str = "") -> str:
        """Format one figure with its protocol."""
        set_name = database.name.split()[0]
        seen = self.trained_on(set_name) and database.name.endswith(" train")
        if self.trained_on(set_name) and not goal:
            goal = GOALS.get((set_name, "trained" if seen else "held out", metric), "")
        protocol = f"{queries.name}, {len(queries.images):,} | {database.name}, {len(database.images):,}"
        protocol = f"| {self.encoder.name} | {protocol}"
        return f"{protocol} | {'yes' if seen else 'no'} | {ranked} | {metric} | {value:.3f} | {goal} |"

    def retrieval(self, name: str, kinds: Sequence[str], k: int | None) -> Iterator[str]:
        """Yield rows of mAP@k, or of mAP: held-out pictures search the training pictures, then one another."""
        held_out, training = self.split(name, 1).spread(self.limits[0]), self.split(name, 0).spread(self.limits[1])
        asked, stored = self.encoder.encode(held_out.images), self.encoder.encode(training.images)
        levels = self.encoder.levels
        others = Split(f"{held_out.name} without itself", held_out.images, held_out.labels)
        for database, codes, itself in ((training, stored, False), (others, asked, True)):
            labels = [{kind: part.labels[kind] for kind in kinds} for part in (held_out, database)]
            cuts = [] if k is None else [min(k, len(codes) - 1)]
            whole = {"code": dict.fromkeys(levels, 1)}
            report = evaluate(asked, codes, *labels, levels=levels, rankings=whole, ks=cuts, exclude_self=itself)
            metric = "mAP" if k is None else f"mAP@{cuts[0]}"
            for kind in kinds:
                title = f"{metric} {kind}" if k else "mAP@all"
                value = report.value(metric, "code", kind)
                yield self.row(held_out, database, f"code, {levels.bits} bits", title, value)

    def clothing(self, k: int = 5) -> Iterator[str]:
        """Yield P@k rows: the encoder, each of its levels, and three classics."""
        held_out, training = self.split("clothing", 1), self.split("clothing", 0)
        thumbnails = (self.split("clothing", 1, 32).images, self.split("clothing", 0, 32).images)
        kinds = (held_out.labels["fine"], training.labels["fine"])
        same = kinds[0][:, None] == kinds[1]
        colours = (histogram(held_out.images), histogram(training.images))
        flat = (thumbnails[0].reshape(len(same), -1), thumbnails[1].reshape(same.shape[1], -1))
        found = {
            "colour histogram 8x8x8, L1": precision(*colours, same, 1, k),
            "raw pixels 32x32, L2": precision(*flat, same, 2, k),
            "chance": float(same.mean()),
        }
        hashes = (p_hash(thumbnails[0]), p_hash(thumbnails[1]))
        found["pHash, 64 bits"] = evaluate(*hashes, *kinds, ks=[k]).value(f"P@{k}")
        asked, stored = (self.encoder.encode(split.images) for split in (held_out, training))
        report = evaluate(asked, stored, *kinds, levels=self.encoder.levels, ks=[k])
        goal = f"≥ {1.5 * found['colour histogram 8x8x8, L1']:.3f} (1.5 x histogram), > {found['pHash, 64 bits']:.3f}"
        for score in report.scores:
            ranked = f"{score.ranking}, {self.encoder.levels.get(score.ranking, self.encoder.bits)} bits"
            wanted = goal if score.ranking == "code" else ""
            yield self.row(held_out, training, ranked, f"P@{k}", score.values[f"P@{k}"], wanted)
        seen = f"| | {held_out.name}, {len(held_out.images):,} | {training.name}, {len(training.images):,} | |"
        for ranked, value in found.items():
            yield f"{seen} {ranked} | P@{k} | {value:.3f} | |"


def latency(model: Path, pictures: Pixels, side: int) -> float:
    """Return the median milliseconds from the bytes of a JPEG of that side to the code, on one thread."""
    encoder = pyhash.Encoder(model, threads=1)
    times = []
    for pixels in pictures:
        file = io.BytesIO()
        Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
        start = time.perf_counter()
        encoder.encode(file.getvalue())
        times.append(time.perf_counter() - start)
    return 1e3 * float(np.median(times))


def multiply_adds(model: Path) -> int:
    """Count the multiplications with weights that one picture takes."""
    graph = onnx.shape_inference.infer_shapes(onnx.load(model), data_prop=True).graph
    shapes = {
        value.name: [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
        for value in (*graph.value_info, *graph.output)
    } | {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    total = 0
    for node in graph.node:
        if node.op_type in ("Conv", "Gemm", "MatMul"):
            total += int(np.prod(shapes[node.input[1]])) * int(np.prod(shapes[node.output[0]][2:], dtype=int))
    return total


def table(benches: Sequence[Bench], names: Sequence[str]) -> Iterator[str]:
    """Yield the lines of the table, those of a set as soon as they are known."""
    yield "| encoder | queries | database | trained on the database | ranked by | metric | value | goal |"
    yield "|---|---|---|---|---|---|---|---|"
    first = benches[0]
    there = [name for name in SPLITS if name in names and (first.data / name).is_dir()]
    if not there:
        raise SystemExit(f"--data must hold one of {', '.join(names)}; {first.data} holds none")
    for bench, name in itertools.product(benches, there):
        if bench is first or bench.trained_on(name):
            if name == "tiny-imagenet":
                yield from bench.retrieval(name, ("fine", "mid", "coarse"), 1000)
            elif name == "cifar10":
                yield from bench.retrieval(name, ("fine",), None)
            else:
                yield from bench.clothing()
    pictures, name = first.split(there[-1], 1).spread(200).images, first.encoder.name
    yield f"| {name} | | | | | file, MB | {first.model.stat().st_size / 1e6:.2f} | ≤ 5 |"
    yield f"| {name} | | | | | multiply-adds a picture, million | {multiply_adds(first.model) / 1e6:.0f} | |"
    for side in (64, 256):
        protocol = f"| {name} | {len(pictures)} JPEG pictures of {side} x {side}, from bytes to code | | | |"
        yield f"{protocol} median ms, one core | {latency(first.model, pictures, side):.2f} | ≤ 5 |"


def main(argv: list[str] | None = None) -> None:
    """Read the command line, print the table, and put it into the card."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("models", nargs="+", type=Path, help="the encoders")
    add("--data", type=Path, required=True, help="folder that holds the data sets")
    add("--sets", nargs="+", choices=list(SPLITS), default=list(SPLITS), help="data sets to measure on")
    add("--cache", type=Path, default=CACHE, help="keeps decoded pictures")
    add("--queries", type=int, default=0, help="take at most this many queries a set (0: all)")
    add("--database", type=int, default=0, help="against at most this many pictures (0: all)")
    add("--card", type=Path, help="model card whose table to replace")
    args = parser.parse_args(argv)
    limits = args.queries, args.database
    benches = [Bench(model, pyhash.Encoder(model), args.data, args.cache, limits) for model in args.models]
    lines = []
    for line in table(benches, args.sets):
        print(line, flush=True)
        lines.append(line)
    if args.card:
        before, rest = args.card.read_text().split(MARKERS[0])
        after = rest.split(MARKERS[1])[1]
        args.card.write_text("\n".join([before + MARKERS[0], *lines, MARKERS[1] + after]))


if __name__ == "__main__":
    main()

"""Measure an encoder on real images, each set by its protocol: the table of the model card.

    python training/measure_model.py pyhash/models/default.onnx --data DIR --card pyhash/models/MODEL_CARD.md

``DIR`` holds the sets, folders of JPEG files; one that is not there is left out. ``--card`` also puts the table between
the card's two marker lines. Needs ``pip install pyhash-retrieval[encoder,graph]``.

No label is used but to judge. Where a set has no split of its own, images 0, 5, 10, ... of each class, sorted by the
name of the file, are queries and the others the collection. P@k and mAP are over whole rankings; codes at one distance
count as in every order alike (`pyhash.evaluate`). Peers of the same run: the cosine of the encoder's own features in
float, and pHash. CIFAR-10 and Tiny ImageNet are drawn evenly to `DRAWN` queries and ten times as many others.
"""

from __future__ import annotations

import argparse
import csv
import io
import statistics
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime  # type: ignore[import-untyped]
from numpy.typing import NDArray
from PIL import Image

import pyhash
from pyhash.evaluation import evaluate
from pyhash.images import load

MARKERS = ("<!-- table -->", "<!-- end of table -->")
DRAWN = 1000
_BATCH = 4


@dataclass(frozen=True)
class Task:
    """Queries, the collection that they search, and what they are judged by."""

    title: str
    queries: list[Path]
    collection: list[Path]
    classes: tuple[NDArray[np.str_], NDArray[np.str_]]
    sets: tuple[str, ...]
    ks: tuple[int, ...] = (5,)

    def fitted(self, training: str) -> str:
        """Say whether the head was fitted on the task's sets, by what the encoder's file tells of its training."""
        known = sum(name in training.partition("head:")[2] for name in self.sets)
        return "yes" if known == len(self.sets) else "in part" if known else "no"


def parted(files: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Part a set into queries, images 0, 5, 10, ... of each class, and the others."""
    queries: list[Path] = []
    others: list[Path] = []
    seen: dict[str, int] = {}
    for file in sorted(files, key=lambda file: (file.parent.name, file.name)):
        number = seen.get(file.parent.name, 0)
        seen[file.parent.name] = number + 1
        (others if number % 5 else queries).append(file)
    return queries, others


def drawn(files: Sequence[Path], n: int) -> list[Path]:
    """Return n of the files, evenly over their sorted list."""
    ordered = sorted(files)
    return [ordered[number] for number in np.linspace(0, len(ordered) - 1, min(n, len(ordered))).round().astype(int)]


def tasks(data: Path) -> Iterator[Task]:
    """Yield the tasks whose sets are there."""
    jpeg = {name: [*(data / name).rglob("*.jpg")] for name in ("objects", "grocery", "photos")}
    split = {part: sorted((data / "clothing" / part).glob("*/*.jpg")) for part in ("validation", "train")}
    mixed_queries: list[Path] = []
    mixed: list[Path] = []
    for name in ("objects", "grocery"):
        if jpeg[name]:
            queries, others = parted(jpeg[name])
            mixed_queries, mixed = mixed_queries + queries, mixed + others
            yield Task(name, queries, others, (folders(queries), folders(others)), (name,))
            if name == "grocery":
                with (data / name / "classes.csv").open(newline="") as table:
                    group = {row["class"]: row["coarse"] for row in csv.DictReader(table)}
                coarse = tuple(np.array([group[file.parent.name] for file in part]) for part in (queries, others))
                yield Task("grocery, 43 groups", queries, others, (coarse[0], coarse[1]), (name,))
    if split["train"]:
        queries, others = split["validation"], split["train"]
        labels = (folders(queries), folders(others))
        yield Task("clothing, validation over train", queries, others, labels, ("clothing",))
        mixed_queries, mixed = mixed_queries + queries, mixed + others
    if split["train"] and all(jpeg.values()):
        mixed += sorted(jpeg["photos"])
        title = "objects, grocery, clothing and photos in one"
        labels = (folders(mixed_queries, data), folders(mixed, data))
        yield Task(title, mixed_queries, mixed, labels, (*jpeg, "clothing"), (5, 50))
    for name, held_out in (("cifar10", "test"), ("tiny-imagenet", "val")):
        if (data / name).is_dir():
            queries = drawn([*(data / name / held_out).glob("*/*")], DRAWN)
            others = drawn([*(data / name / "train").glob("*/*")], 10 * DRAWN)
            yield Task(f"{name}, {held_out} over train", queries, others, (folders(queries), folders(others)), (name,))


def folders(files: Sequence[Path], data: Path | None = None) -> NDArray[np.str_]:
    """Return the class of each file: the name of its folder, and of its set where several are mixed."""
    sets = ["" if data is None else f"{file.relative_to(data).parts[0]}/" for file in files]
    return np.array([name + file.parent.name for name, file in zip(sets, files, strict=True)])


class Reader:
    """Computes logits, features and perceptual hashes of files, each file once."""

    def __init__(self, model: Path) -> None:
        self.encoder = pyhash.Encoder(model, threads=1)
        self.features = bare_network(model)
        self._known: dict[Path, tuple[NDArray[Any], ...]] = {}

    def __call__(self, files: Sequence[Path]) -> tuple[NDArray[Any], ...]:
        """Return codes, features of length 1, and pHash codes."""
        new = [file for file in files if file not in self._known]
        with ThreadPoolExecutor() as pool:
            chunks = pool.map(self._read, [new[start : start + _BATCH] for start in range(0, len(new), _BATCH)])
            self._known.update(zip(new, (row for chunk in chunks for row in zip(*chunk, strict=True)), strict=True))
        codes, features, hashes = zip(*(self._known[file] for file in files), strict=True)
        return np.stack(codes), np.stack(features), np.stack(hashes)

    def _read(self, files: list[Path]) -> tuple[NDArray[Any], ...]:
        pixels = prepared(self.encoder, [load(file) for file in files])
        features = self.features.run(None, {"images": pixels})[0]
        features /= np.linalg.norm(features, axis=1, keepdims=True)
        return self.encoder.encode([*pixels]), features, p_hash(np.stack([load(file, size=32) for file in files]))


def prepared(encoder: pyhash.Encoder, sources: Sequence[Any]) -> NDArray[np.uint8]:
    """Resize images as the encoder does."""
    return np.stack([encoder.metadata.preparation.load(source) for source in sources])


def bare_network(model: Path) -> Any:
    """Open the encoder's network alone, without what comes after its features; one thread an image."""
    network = onnx.load(model)
    del network.graph.output[:]
    network.graph.output.append(onnx.helper.make_tensor_value_info("features", onnx.TensorProto.FLOAT, ["n", None]))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(network.SerializeToString(), options, providers=["CPUExecutionProvider"])


def p_hash(thumbnails: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the classic perceptual hash: the lowest 8 x 8 of a grey 32 x 32 image's DCT, against their median."""
    grey = thumbnails.astype(np.float64) @ [0.299, 0.587, 0.114]
    frequencies, places = np.arange(8)[:, None], np.arange(32) + 0.5
    cosines = np.cos(np.pi / 32 * frequencies * places)
    low = (cosines @ grey @ cosines.T).reshape(len(grey), 64)
    return np.packbits(low > np.median(low[:, 1:], axis=1, keepdims=True), axis=1)


def by_codes(
    task: Task, codes: Sequence[NDArray[np.uint8]], levels: pyhash.Levels
) -> Iterator[tuple[str, list[float]]]:
    """Yield P@k and mAP by the whole code and by each level."""
    report = evaluate(*codes, *task.classes, levels=levels, ks=list(task.ks))
    for score in report.scores:
        title = f"{score.ranking}, {levels.get(score.ranking, levels.bits)} bits"
        yield title, [score.values[name] for name in (*(f"P@{k}" for k in task.ks), "mAP")]


def by_cosine(task: Task, features: Sequence[NDArray[np.float32]]) -> list[float]:
    """Return P@k and mAP by the cosine of vectors of length 1."""
    asked, stored = features
    same = task.classes[0][:, None] == task.classes[1]
    ranked = np.take_along_axis(same, np.argsort(-(asked @ stored.T), axis=1, kind="stable"), axis=1)
    precision = ranked.cumsum(axis=1) / np.arange(1, ranked.shape[1] + 1)
    means = (precision * ranked).sum(axis=1) / ranked.sum(axis=1).clip(1)
    return [*(float(ranked[:, :k].mean()) for k in task.ks), float(means.mean())]


def table(model: Path, data: Path) -> Iterator[str]:
    """Yield the lines of the table, those of a task as soon as they are known."""
    reader = Reader(model)
    training = reader.encoder.metadata.training
    yield "| queries over collection | sizes | head fitted on it | ranked by | P@5 | P@50 | mAP |"
    yield "|---|---:|---|---|---:|---:|---:|"
    for task in tasks(data):
        asked, stored = reader(task.queries), reader(task.collection)
        levels = pyhash.Levels.single(64)
        codes, features, hashes = zip(asked, stored, strict=True)
        rows = [*by_codes(task, codes, reader.encoder.levels)]
        rows.append((f"cosine of its network's features, {features[0].shape[1]:,} floats", by_cosine(task, features)))
        rows.append(("pHash, 64 bits", next(by_codes(task, hashes, levels))[1]))
        for title, values in rows:
            figures = [f"{value:.3f}" for value in values]
            if len(task.ks) == 1:
                figures.insert(1, "")
            sizes = f"{len(task.queries):,} / {len(task.collection):,}"
            yield f"| {task.title} | {sizes} | {task.fitted(training)} | {title} | {' | '.join(figures)} |"


def latency(model: Path, photos: Path) -> Iterator[str]:
    """Yield lines: from a JPEG of 500 pixels to its code on one core, beside decoding it and running the bare network.

    The images are mosaics of four photographs, so that none is enlarged.
    """
    reader, files = Reader(model), sorted(photos.glob("*.jpg"))[:200]
    times: dict[str, list[float]] = {"code": [], "decode": [], "network": []}
    for start in range(0, len(files) - 3, 4):
        mosaic = Image.new("RGB", (500, 376))
        for number, file in enumerate(files[start : start + 4]):
            with Image.open(file) as image:
                mosaic.paste(image.convert("RGB").resize((250, 188)), (250 * (number % 2), 188 * (number // 2)))
        buffer = io.BytesIO()
        mosaic.save(buffer, "JPEG", quality=90)
        for _ in range(5):
            begin = time.perf_counter()
            reader.encoder.encode(buffer.getvalue())
            encoded = time.perf_counter()
            pixels = prepared(reader.encoder, [buffer.getvalue()])
            decoded = time.perf_counter()
            reader.features.run(None, {"images": pixels})
            times["code"].append(encoded - begin)
            times["decode"].append(decoded - encoded)
            times["network"].append(time.perf_counter() - decoded)
    code, decode, network = (1e3 * statistics.median(times[step]) for step in ("code", "decode", "network"))
    yield f"| one JPEG of 500 x 376 to its code, one core, median ms | {code:.1f} |"
    beside = f"decoding ({decode:.1f}) and the bare network ({network:.1f})"
    yield f"| the same beside {beside} | {code / (decode + network):.2f} x |"


def main(argv: list[str] | None = None) -> None:
    """Read the command line, print the table, and put it into the card."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", type=Path, help="the encoder, made by pyhash")
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the sets")
    parser.add_argument("--card", type=Path, help="model card whose table to replace")
    args = parser.parse_args(argv)
    lines = []
    for line in card(args.model, args.data):
        print(line, flush=True)
        lines.append(line)
    if args.card:
        before, rest = args.card.read_text().split(MARKERS[0])
        args.card.write_text("\n".join([before + MARKERS[0], *lines, MARKERS[1] + rest.split(MARKERS[1])[1]]))


def card(model: Path, data: Path) -> Iterator[str]:
    """Yield all lines for the card."""
    yield from table(model, data)
    yield ""
    yield "| file and time | |"
    yield "|---|---:|"
    yield f"| file, MB | {model.stat().st_size / 1e6:.2f} |"
    if (data / "photos").is_dir():
        yield from latency(model, data / "photos")


if __name__ == "__main__":
    main()

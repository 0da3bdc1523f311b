"""How well the built-in encoders find the right image, no option given: the tables of docs/quality.md and the card.

    python bench/bench_retrieval.py --data DIR --doc docs/quality.md --doc pyhash/models/MODEL_CARD.md

``DIR`` holds the sets objects, grocery, clothing and photos, folders of JPEG files. For each set the collection is put
into a folder of its own, `Gallery.update` indexes it, and `Gallery.search` is asked with every query, both as they
come. No label is used but to judge (and where a row says so). Where a set has no split of its own, images 0, 5, 10, ...
of each class, sorted by the name of the file, are queries and the others the collection. P@5 is of the answers as they
come; mAP is over the whole ranking. Codes at one distance come in the order of their ids, as they do to a user.

Beside each stand, from the same run: the cosine of the plain features of the encoder's own networks, with the
interval of the difference (paired bootstrap over queries, 95 %); the head of Hashing-Baseline (PCA and a random
rotation, arXiv 2509.14427) on those features at the same length; and pHash. Needs
``pip install pyhash-retrieval[encoder,graph]``.
"""

from __future__ import annotations

import argparse
import csv
import io
import shutil
import statistics
import subprocess
import sys
import tempfile
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
from pyhash.images import load

MODELS = Path(pyhash.__file__).parent / "models"
ENCODERS = {"built-in": MODELS / "default.onnx", "small": MODELS / "small.onnx"}
PARTS = ("answers", "costs")
DRAWS = 2000
SEED = 0
_BATCH = 64

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Task:
    """Queries, the collection that they search, and what they are judged by."""

    title: str
    queries: list[Path]
    collection: list[Path]
    labels: list[NDArray[np.str_]]  # of the queries, of the collection
    deep: bool = False  # whether P@50 is told as well


@dataclass(frozen=True)
class Outcome:
    """How good the answers to each query are."""

    at_5: NDArray[np.float64]
    at_50: NDArray[np.float64]
    average: NDArray[np.float64]

    @classmethod
    def of(cls, ranked: NDArray[np.bool_]) -> Outcome:
        """Judge rankings: whether each answer, nearest first, is of the query's class."""
        precision = ranked.cumsum(axis=1) / np.arange(1, ranked.shape[1] + 1)
        average = (precision * ranked).sum(axis=1) / ranked.sum(axis=1).clip(1)
        return cls(ranked[:, :5].mean(axis=1), ranked[:, :50].mean(axis=1), average)


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


def tasks(data: Path) -> Iterator[Task]:
    """Yield the tasks whose sets are there."""
    jpeg = {name: sorted((data / name).rglob("*.jpg")) for name in ("objects", "grocery", "photos")}
    split = {part: sorted((data / "clothing" / part).glob("*/*.jpg")) for part in ("validation", "train")}
    pairs = {name: parted(jpeg[name]) for name in ("objects", "grocery") if jpeg[name]}
    if split["train"]:
        pairs["clothing, validation over train"] = split["validation"], split["train"]
    for title, (queries, others) in pairs.items():
        yield Task(title, queries, others, [kinds(queries, data), kinds(others, data)])
    if split["train"] and all(jpeg.values()):
        queries = [file for part, _ in pairs.values() for file in part]
        others = [*(file for _, part in pairs.values() for file in part), *jpeg["photos"]]
        yield Task("all of them and photos in one", queries, others, [kinds(queries, data), kinds(others, data)], True)


def kinds(files: Sequence[Path], data: Path) -> NDArray[np.str_]:
    """Return the class of each file: the names of its set and of its folder."""
    return np.array([f"{file.relative_to(data).parts[0]}/{file.parent.name}" for file in files])


def groups(files: Sequence[Path], table: Path) -> NDArray[np.str_]:
    """Return the coarse class of each file, by a table with the columns class and coarse."""
    with table.open(newline="") as rows:
        group = {row["class"]: row["coarse"] for row in csv.DictReader(rows)}
    return np.array([group[file.parent.name] for file in files])


class Shelf:
    """A collection in a folder of its own, as a gallery; its files lie under the names of their classes."""

    def __init__(self, task: Task, encoder: pyhash.Encoder, folder: Path, data: Path) -> None:
        self._task = task
        self._places = {}
        for number, file in enumerate(task.collection):
            copy = folder / file.relative_to(data).parent / f"{number:05}.jpg"
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
            self._places[str(copy)] = number
        self.gallery = pyhash.Gallery(folder, encoder)
        begun = time.perf_counter()
        changes = self.gallery.update()
        self.seconds = time.perf_counter() - begun
        if changes.failed:
            raise SystemExit(f"{changes.failed[0].path}: {changes.failed[0].reason}")

    def ask(self, labels: Sequence[NDArray[np.str_]] | None = None, **options: Any) -> Outcome:
        """Search with every query; judge by the classes, or by other labels."""
        asked, stored = self._task.labels if labels is None else labels
        ranked = np.empty((len(asked), len(stored)), bool)
        for start in range(0, len(asked), _BATCH):
            queries = [*map(str, self._task.queries[start : start + _BATCH])]
            for at, matches in enumerate(self.gallery.search(queries, len(stored), **options), start):
                ranked[at] = stored[[self._places[match.path] for match in matches]] == asked[at]
        return Outcome.of(ranked)


class Network:
    """The networks of an encoder without what comes after their features, and pHash: what galleries are measured by."""

    def __init__(self, encoder: pyhash.Encoder, file: Path) -> None:
        self._encoder = encoder
        network = onnx.load(file)
        del network.graph.output[:]
        network.graph.output.append(onnx.helper.make_tensor_value_info("features", onnx.TensorProto.FLOAT, ["n", None]))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        providers = ["CPUExecutionProvider"]
        self._session = onnxruntime.InferenceSession(network.SerializeToString(), options, providers=providers)
        self._known: dict[Path, tuple[Floats, NDArray[np.uint8]]] = {}

    def pixels(self, source: Any) -> NDArray[np.uint8]:
        """Decode and resize an image as the encoder does."""
        pixels: NDArray[np.uint8] = self._encoder.metadata.preparation.load(source)
        return pixels

    def run(self, pixels: NDArray[np.uint8]) -> Floats:
        """Return the features of an image, of length 1."""
        (features,) = self._session.run(None, {"images": pixels[None]})
        unit: Floats = features[0] / np.linalg.norm(features)
        return unit

    def __call__(self, files: Sequence[Path]) -> tuple[Floats, NDArray[np.uint8]]:
        """Return features and pHash codes of files; each file is read once."""

        def read(file: Path) -> tuple[Floats, NDArray[np.uint8]]:
            return self.run(self.pixels(file)), p_hash(load(file, size=32))

        new = [file for file in files if file not in self._known]
        with ThreadPoolExecutor() as pool:
            self._known.update(zip(new, pool.map(read, new), strict=True))
        features, hashes = zip(*(self._known[file] for file in files), strict=True)
        return np.stack(features), np.stack(hashes)


def p_hash(thumbnail: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the classic perceptual hash: the lowest 8 x 8 of a grey 32 x 32 image's DCT, against their median."""
    grey = thumbnail.astype(np.float64) @ [0.299, 0.587, 0.114]
    frequencies, places = np.arange(8)[:, None], np.arange(32) + 0.5
    cosines = np.cos(np.pi / 32 * frequencies * places)
    low = (cosines @ grey @ cosines.T).reshape(64)
    return np.packbits(low > np.median(low[1:]))


def by_distance(task: Task, distances: NDArray[Any]) -> Outcome:
    """Judge rankings by distances, queries by collection."""
    order = np.argsort(distances, axis=1, kind="stable")
    return Outcome.of(task.labels[1][order] == task.labels[0][:, None])


def baseline(task: Task, features: Sequence[Floats], bits: int) -> Outcome:
    """Judge codes of principal components of the collection, rotated at random."""
    asked, stored = features
    mean = stored.mean(axis=0)
    directions = np.linalg.svd(stored - mean, full_matrices=False)[2][:bits].T
    rotation = np.linalg.qr(np.random.default_rng(SEED).standard_normal((directions.shape[1], bits)).T)[0].T
    codes = [pyhash.pack((part - mean) @ directions @ rotation) for part in (asked, stored)]
    return by_distance(task, pyhash.hamming(*codes))


def difference(one: NDArray[np.float64], other: NDArray[np.float64]) -> str:
    """Tell the mean difference and its 95 % interval, by a paired bootstrap over queries."""
    apart = one - other
    drawn = np.random.default_rng(SEED).integers(0, len(apart), (DRAWS, len(apart)))
    low, high = np.quantile(apart[drawn].mean(axis=1), [0.025, 0.975])
    return f"{apart.mean():+.3f} ({low:+.3f} to {high:+.3f})"


def cells(task: Task, outcome: Outcome, anchor: Outcome | None = None) -> list[str]:
    """Tell P@5 with its standard error, P@50 where it is wanted, mAP, and how they differ from an anchor's."""
    error = outcome.at_5.std(ddof=1) / len(outcome.at_5) ** 0.5
    told = [
        f"{outcome.at_5.mean():.3f} ± {error:.3f}",
        f"{outcome.at_50.mean():.3f}" if task.deep else "",
        f"{outcome.average.mean():.3f}",
    ]
    if anchor is None:
        return [*told, "", ""]
    return [*told, difference(outcome.at_5, anchor.at_5), difference(outcome.average, anchor.average)]


def line(*values: object) -> str:
    """Return a line of a table."""
    return f"| {' | '.join(map(str, values))} |"


def found(name: str, shelf: Shelf, task: Task, network: Network) -> Iterator[str]:
    """Yield the lines of one set and one encoder: the gallery as it comes, codes alone, and their peers."""
    features, hashes = zip(network(task.queries), network(task.collection), strict=True)
    cosine = by_distance(task, -(features[0] @ features[1].T))
    size = f"{task.title}, {len(task.queries):,} over {len(task.collection):,}"
    width = features[0].shape[1]
    yield line(name, size, "`index`, `search`", *cells(task, shelf.ask(), cosine))
    yield line(name, size, "256-bit code alone", *cells(task, shelf.ask(rescore=False), cosine))
    yield line(name, size, f"cosine of its networks' features, {width:,} floats", *cells(task, cosine))
    yield line(name, size, "PCA, random rotation, 256 bits", *cells(task, baseline(task, features, 256), cosine))
    yield line(name, size, "pHash, 64 bits", *cells(task, by_distance(task, pyhash.hamming(*hashes)), cosine))
    shelf.gallery.fit(levels=64)
    yield line(name, size, "64-bit code alone (`--bits 64`)", *cells(task, shelf.ask(rescore=False), cosine))


def with_labels(name: str, shelf: Shelf, task: Task, data: Path) -> Iterator[str]:
    """Yield lines of a gallery that is fitted with labels."""
    size = f"{task.title}, {len(task.queries):,} over {len(task.collection):,}"
    if task.title.startswith("clothing"):
        begun = time.perf_counter()
        shelf.gallery.fit("folders")
        fitted = f"`fit --labels folders` ({time.perf_counter() - begun:.1f} s)"
        yield line(name, size, fitted, *cells(task, shelf.ask()))
        yield line(name, size, f"{fitted}, code alone", *cells(task, shelf.ask(rescore=False)))
    if task.title == "grocery":
        coarse = [groups(files, data / "grocery" / "classes.csv") for files in (task.queries, task.collection)]
        places = [shelf._places[path] for path in shelf.gallery]
        shelf.gallery.fit({"coarse": coarse[1][places], "fine": task.labels[1][places]})
        for what, labels in (("43 groups", coarse), ("81 classes", None)):
            for level in ("coarse", "fine"):
                outcome = shelf.ask(labels, level=level)
                yield line(name, f"{size}, by {what}", f"fitted with labels, level {level}", *cells(task, outcome))


def copies(name: str, encoder: pyhash.Encoder, data: Path, folder: Path) -> Iterator[str]:
    """Yield lines: how often the original is first when its copy is looked for."""
    photos = sorted((data / "photos").glob("*.jpg"))
    task = Task(
        "photos", photos[:300], photos, [np.array([file.stem for file in part]) for part in (photos[:300], photos)]
    )
    shelf = Shelf(task, encoder, folder, data)
    kinds_of_copies = {"the same bytes": [file.read_bytes() for file in task.queries], "JPEG 90": []}
    for file in task.queries:
        buffer = io.BytesIO()
        Image.open(file).convert("RGB").save(buffer, "JPEG", quality=90)
        kinds_of_copies["JPEG 90"].append(buffer.getvalue())
    ways: dict[str, dict[str, Any]] = {
        "no option": {},
        "level coarse": {"level": "coarse"},
        "level fine": {"level": "fine"},
        "coarse 3, fine 1": {"weights": {"coarse": 3, "fine": 1}},
        "code alone": {"rescore": False},
    }
    for kind, queries in kinds_of_copies.items():
        shares = []
        for options in ways.values():
            answers = [
                match
                for start in range(0, 300, _BATCH)
                for match in shelf.gallery.search(queries[start : start + _BATCH], 1, **options)
            ]
            shares.append(np.mean([shelf._places[best.path] == at for at, (best,) in enumerate(answers)]))
        yield line(name, kind, *(f"{share:.3f}" for share in shares))


def mosaics(photos: Path) -> list[bytes]:
    """Return JPEG files of 500 x 376, each of four photographs, so that none is enlarged."""
    files, made = sorted(photos.glob("*.jpg"))[:200], []
    for start in range(0, len(files) - 3, 4):
        mosaic = Image.new("RGB", (500, 376))
        for number, file in enumerate(files[start : start + 4]):
            with Image.open(file) as image:
                mosaic.paste(image.convert("RGB").resize((250, 188)), (250 * (number % 2), 188 * (number // 2)))
        buffer = io.BytesIO()
        mosaic.save(buffer, "JPEG", quality=90)
        made.append(buffer.getvalue())
    return made


def costs(name: str, file: Path, data: Path, folder: Path) -> Iterator[str]:
    """Yield lines: size, time from a JPEG of 500 pixels to code and embedding, images a second, memory."""
    encoder = pyhash.Encoder(file, threads=1)
    network, pictures = Network(encoder, file), mosaics(data / "photos")
    times: dict[str, list[float]] = {"code": [], "decode": [], "network": []}
    for picture in [picture for picture in pictures for _ in range(3)]:
        begin = time.perf_counter()
        next(iter(encoder.stream([picture], embeddings=True)))
        encoded = time.perf_counter()
        pixels = network.pixels(picture)
        decoded = time.perf_counter()
        network.run(pixels)
        times["code"].append(encoded - begin)
        times["decode"].append(decoded - encoded)
        times["network"].append(time.perf_counter() - decoded)
    code, decode, run = (1e3 * statistics.median(times[step]) for step in ("code", "decode", "network"))
    yield line(name, "file, MB", f"{file.stat().st_size / 1e6:.2f}")
    yield line(name, "one JPEG of 500 x 376 to code and embedding, one core, median ms", f"{code:.1f}")
    yield line(
        name,
        f"the same beside decoding ({decode:.1f}) and the bare network ({run:.1f})",
        f"{code / (decode + run):.2f} x",
    )
    folder.mkdir()
    for number, picture in enumerate(pictures * 24):
        (folder / f"{number}.jpg").write_bytes(picture + b"\n" * (number + 1))
    begun = time.perf_counter()
    with pyhash.Gallery(folder, pyhash.Encoder(file)) as gallery:
        gallery.update()
        images = len(gallery)
    indexed = images / (time.perf_counter() - begun)
    with ThreadPoolExecutor() as pool:
        begun = time.perf_counter()
        [*pool.map(network.run, [pixels] * images)]
        alone = images / (time.perf_counter() - begun)
    yield line(
        name,
        f"`index`, images a second beside the network alone ({alone:.0f})",
        f"{indexed:.0f}, {indexed / alone:.2f} x",
    )
    for what, program in (("pyhash", _ENCODE), ("ONNX Runtime alone, with the same file", _RUN)):
        out = subprocess.run([sys.executable, "-c", program, file, folder], check=True, capture_output=True, text=True)
        yield line(
            name, f"resident memory of one image after another, one thread, MB: {what}", f"{int(out.stdout) / 1e3:.0f}"
        )


# Not ru_maxrss: it begins with what the process had that started this one.
_ENCODE = r"""
import re, sys
from pathlib import Path
import pyhash
encoder = pyhash.Encoder(sys.argv[1], threads=1)
for file in sorted(Path(sys.argv[2]).glob("*.jpg"))[:100]:
    encoder.encode(file)
print(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])"""
_RUN = r"""
import re, sys
from pathlib import Path
import numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
black = numpy.zeros((1, *session.get_inputs()[0].shape[1:]), numpy.uint8)
for _ in range(100):
    session.run(["logits"], {"images": black})
print(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])"""


def answers(data: Path, encoders: Sequence[str]) -> Iterator[str]:
    """Yield the lines about what is found, each as soon as it is known."""
    files = {name: ENCODERS[name] for name in encoders}
    labelled: list[str] = []
    head = ("encoder", "queries over collection", "ranked by", "P@5", "P@50", "mAP", "P@5 - cosine's", "mAP - cosine's")
    rule = "|---|---|---|---:|---:|---:|---:|---:|"
    yield from ("### No option, no label", "", line(*head), rule)
    for name, file in files.items():
        encoder = pyhash.Encoder(file)
        network = Network(encoder, file)
        for task in tasks(data):
            with tempfile.TemporaryDirectory() as folder:
                shelf = Shelf(task, encoder, Path(folder), data)
                yield from found(name, shelf, task, network)
                shelf.gallery.fit(levels=dict(encoder.levels))
                labelled += with_labels(name, shelf, task, data)
                shelf.gallery.close()
    yield from ("", "### With labels, from the embeddings that the gallery keeps", "", line(*head), rule, *labelled)
    yield from ("", "### Copies: the share whose original comes first", "")
    yield from (
        line(
            "encoder",
            "300 copies among 1,000 photographs",
            "no option",
            "level coarse",
            "level fine",
            "coarse 3, fine 1",
            "code alone",
        ),
        "|---|---|---:|---:|---:|---:|---:|",
    )
    for name, file in files.items():
        with tempfile.TemporaryDirectory() as folder:
            yield from copies(name, pyhash.Encoder(file), data, Path(folder))


def price(data: Path, encoders: Sequence[str]) -> Iterator[str]:
    """Yield the lines about size, time and memory, each as soon as it is known."""
    yield from (line("encoder", "", ""), "|---|---|---:|")
    for name in encoders:
        with tempfile.TemporaryDirectory() as folder:
            yield from costs(name, ENCODERS[name], data, Path(folder, "mosaics"))


def replaced(text: str, part: str, lines: Sequence[str]) -> str:
    """Return a page with what lies between the marker lines of a part replaced."""
    before, rest = text.split(f"<!-- {part} -->")
    end = f"<!-- end of {part} -->"
    return "\n".join([f"{before}<!-- {part} -->", *lines, end + rest.split(end)[1]])


def main(argv: list[str] | None = None) -> None:
    """Read the command line, print the tables, and put them into the pages."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the sets")
    parser.add_argument("--encoders", nargs="+", choices=ENCODERS, default=[*ENCODERS], help="which to measure")
    parser.add_argument("--part", nargs="+", choices=PARTS, default=PARTS, help="costs want a machine that is idle")
    parser.add_argument("--doc", type=Path, action="append", default=[], help="page whose tables to replace")
    args = parser.parse_args(argv)
    for part, told in (("answers", answers), ("costs", price)):
        if part not in args.part:
            continue
        lines = []
        for row in told(args.data, args.encoders):
            print(row, flush=True)
            lines.append(row)
        for file in args.doc:
            file.write_text(replaced(file.read_text(), part, lines))


if __name__ == "__main__":
    main()

"""How well codes retrieve: our heads beside FAISS's, segmented codes beside flat ones, all taps beside the last.

    python bench/bench_quality.py --data DIR --out OUT --doc docs/heads.md

measures the small built-in model's network, and those that ``--backbone`` names, on the sets
``clothing`` and ``cifar10`` in DIR (each ``SPLIT/CLASS/pictures``). It writes OUT/quality.json and the page
OUT/quality.md (also to --doc), in which every figure is from this one run. Features are kept in OUT/features, which
makes a second run shorter.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shlex
import statistics
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyhash import Encoder, heads, pack
from pyhash.encoder import extract
from pyhash.evaluation import GRADED, Protocol, Report, evaluate
from pyhash.heads import SUPERVISED
from pyhash.labels import read_labels
from pyhash.networks import PRESETS, add_features, feature_blocks
from pyhash.support import require

BITS = (16, 32, 64)
LENGTHS = f"{', '.join(map(str, BITS[:-1]))} and {BITS[-1]} bits"
SEEDS = (0, 1, 2)
SEGMENTS = {32: {"coarse": 8, "fine": 24}, 64: {"coarse": 16, "fine": 48}}
CUT = 100  # of nDCG and mAHP

# The groups are coarse classes of a person's making; the classes are the folders.
SETS = {
    "clothing": {
        "splits": ("train", "validation"),
        "groups": {
            "tops": ["t-shirt", "longsleeve", "shirt", "outwear"],
            "bottoms": ["pants", "shorts", "skirt"],
            "dress": ["dress"],
            "shoes": ["shoes"],
            "hat": ["hat"],
        },
    },
    "cifar10": {
        "splits": ("train", "test"),
        "groups": {
            "mammal": ["cat", "deer", "dog", "horse"],
            "other vertebrate": ["bird", "frog"],
            "vehicle": ["airplane", "automobile", "ship", "truck"],
        },
    },
}

HEAD = "hadamard-ridge"  # that `pyhash build` fits unless told otherwise

Features = NDArray[np.float32]


class Pair(NamedTuple):
    """Codes of the held-out images and of those that the heads were fitted on."""

    held: NDArray[np.uint8]
    train: NDArray[np.uint8]


@dataclass(frozen=True)
class Part:
    """Features and labels of some images."""

    features: Features
    labels: dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Case:
    """One backbone on one set: heads are fitted on `train`; `held` was seen by no head."""

    backbone: str
    trained_on: str
    dataset: str
    blocks: dict[str, slice]
    train: Part
    held: Part

    def last(self) -> Case:
        """The same with the last tap alone."""
        name, columns = list(self.blocks.items())[-1]
        width = columns.stop - columns.start
        parts = [Part(part.features[:, columns], part.labels) for part in (self.train, self.held)]
        return Case(self.backbone, self.trained_on, self.dataset, {name: slice(0, width)}, *parts)


def features_of(model: Any, folder: Path, limit: int, cache: Path) -> tuple[Features, NDArray[np.str_]]:
    """Features and class of the images of a folder, of `limit` drawn at random; kept in `cache`."""
    found = read_labels(folder, "folders", ["fine"])
    files, classes = found.files, np.array(found.labels["fine"])
    if limit < len(files):
        rows = np.sort(np.random.default_rng(0).choice(len(files), limit, replace=False))
        files, classes = [files[row] for row in rows], classes[rows]
    key = hashlib.sha256(model.SerializeToString(deterministic=True))
    key.update("\n".join(files).encode())
    stored = cache / f"{folder.parent.name}-{folder.name}-{key.hexdigest()[:16]}.npz"
    if stored.exists():
        with np.load(stored) as arrays:
            return arrays["features"], classes[arrays["kept"]]
    start = time.monotonic()
    features, kept, failed = extract(model, files)
    if failed:
        print(f"{len(failed)} images could not be read, the first: {failed[0]}", file=sys.stderr)
    print(
        f"  {folder.parent.name}/{folder.name}: {len(features):,} images in {time.monotonic() - start:.0f} s",
        flush=True,
    )
    cache.mkdir(parents=True, exist_ok=True)
    np.savez(stored, features=features, kept=kept)
    return features, classes[kept]


def load_case(name: str, path: str | None, preprocess: str, dataset: str, args: argparse.Namespace) -> Case:
    if path is None:
        backbone: Any = (Path(sys.modules["pyhash"].__file__).parent / "models" / "small.onnx").read_bytes()  # type: ignore[arg-type]
        trained_on = Encoder().metadata.training
    else:
        backbone = path
        trained_on = require("onnx", "graph").load(path).doc_string or "not stated"
    model = add_features(backbone, preprocess={"preset": preprocess, "crop": "center"} if path else "raw")
    groups = {name: group for group, names in SETS[dataset]["groups"].items() for name in names}  # type: ignore[attr-defined]
    parts = []
    for split, limit in zip(SETS[dataset]["splits"], (args.train, args.held), strict=True):
        features, classes = features_of(model, args.data / dataset / split, limit, args.out / "features")
        parts.append(Part(features, {"coarse": np.array([groups[name] for name in classes]), "fine": classes}))
    return Case(name, trained_on, dataset, feature_blocks(model), *parts)


def ours(kind: str, case: Case, levels: dict[str, int], seed: int = 0) -> dict[str, Pair]:
    """Fit one of our heads, as `pyhash build` does, at several levels at once; the codes of each.

    A level learns the classes, or the groups where its name says coarse.
    """
    labels = {name: case.train.labels["coarse" if name.startswith("coarse") else "fine"] for name in levels}
    given = labels if kind in SUPERVISED else None
    fitted = heads.fit_fused(case.train.features.copy(), case.blocks, levels, given, kind=kind, seed=seed)
    ends = np.cumsum([0, *levels.values()])
    logits = [part.features @ fitted.weight + fitted.bias for part in (case.held, case.train)]
    return {
        name: Pair(*(pack(values[:, start:stop]) for values in logits))
        for name, start, stop in zip(levels, ends, ends[1:], strict=False)
    }


def flat(kind: str, case: Case, seed: int) -> dict[int, Pair]:
    found = ours(kind, case, {f"fine{bits}": bits for bits in BITS}, seed=seed)
    return {bits: found[f"fine{bits}"] for bits in BITS}


def segmented(kind: str, case: Case, seed: int) -> dict[int, Pair]:
    """Codes of a coarse level and a fine one, joined."""
    names = {f"{level}{bits}": part[level] for level in ("coarse", "fine") for bits, part in SEGMENTS.items()}
    found = ours(kind, case, names, seed=seed)
    joined = {}
    for bits in SEGMENTS:
        coarse, fine = found[f"coarse{bits}"], found[f"fine{bits}"]
        joined[bits] = Pair(np.hstack([coarse.held, fine.held]), np.hstack([coarse.train, fine.train]))
    return joined


def faiss_itq(faiss: Any, case: Case, bits: int, seed: int) -> Pair:
    transform = faiss.ITQTransform(case.train.features.shape[1], bits, True)
    transform.itq.seed = seed + 1
    transform.train(case.train.features)
    return Pair(*(np.packbits(transform.apply(part.features) > 0, axis=1) for part in (case.held, case.train)))


def faiss_pca(faiss: Any, case: Case, bits: int, seed: int) -> Pair:
    transform = faiss.PCAMatrix(case.train.features.shape[1], bits)
    transform.train(case.train.features)
    return Pair(*(np.packbits(transform.apply(part.features) > 0, axis=1) for part in (case.held, case.train)))


def faiss_lsh(faiss: Any, case: Case, bits: int, seed: int) -> Pair:
    """IndexLSH with trained thresholds. Its random rotation knows one seed only, so the columns are shuffled."""
    order = np.random.default_rng(seed).permutation(case.train.features.shape[1])
    index = faiss.IndexLSH(len(order), bits, True, True)
    index.train(np.ascontiguousarray(case.train.features[:, order]))
    return Pair(*(index.sa_encode(np.ascontiguousarray(part.features[:, order])) for part in (case.held, case.train)))


def judge(case: Case, codes: Pair, database: str, levels: Any, queries: int, **options: Any) -> Report:
    """Search with held-out images, among the other held-out ones or among the training images."""
    n = len(codes.held)
    rows = np.sort(np.random.default_rng(1).permutation(n)[:queries])
    held = database == "held out"
    train, test = SETS[case.dataset]["splits"]
    protocol = Protocol(
        queries=f"{case.dataset}/{test}",
        database=f"{case.dataset}/{test if held else train}",
        training=f"head on {len(codes.train):,} of {case.dataset}/{train}, backbone: {case.trained_on}",
        database_in_training=not held,
    )
    return evaluate(
        codes.held[rows],
        codes.held if held else codes.train,
        {level: values[rows] for level, values in case.held.labels.items()},
        (case.held if held else case.train).labels,
        levels=levels,
        ks=[CUT],
        exclude_self=rows if held else False,
        protocol=protocol,
        **options,
    )


def compare_heads(case: Case, flats: dict[str, list[dict[int, Pair]]], queries: int) -> list[dict[str, Any]]:
    """Every head at every length: fine mAP by seed, against both databases."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its SWIG wrapper
        import faiss
    theirs = {"FAISS ITQTransform": faiss_itq, "FAISS PCAMatrix, sign": faiss_pca, "FAISS IndexLSH": faiss_lsh}
    codes: dict[tuple[str, int], list[Pair]] = {}
    for method, runs in flats.items():
        for bits in BITS:
            codes[method, bits] = [run[bits] for run in runs]
    for method, make in theirs.items():
        for bits in BITS:
            seeds = SEEDS[:1] if make is faiss_pca else SEEDS  # nothing in it is random
            codes[method, bits] = [make(faiss, case, bits, seed) for seed in seeds]
    dim = case.train.features.shape[1]
    codes["sign", dim] = list(ours("sign", case, {"fine": dim}).values())
    rows = []
    for (method, bits), pairs in codes.items():
        row: dict[str, Any] = {"method": method, "bits": bits}
        for database in ("held out", "train"):
            reports = [judge(case, pair, database, bits, queries) for pair in pairs]
            row[database] = [report.value("mAP", "code", "fine") for report in reports]
            row[f"{database} protocol"] = reports[0].statement()
        rows.append(row)
        print(f"  {method:24}{bits:5} bits  {mean(row['held out']):.4f}  {mean(row['train']):.4f}", flush=True)
    return rows


def compare_segments(case: Case, flats: list[dict[int, Pair]], queries: int) -> list[dict[str, Any]]:
    """Codes of two levels beside a flat code of the same length that learned the classes alone."""
    rankings = {"code": {"coarse": 1, "fine": 1}, "coarse": {"coarse": 1}, "fine": {"fine": 1}}
    parts = [segmented(HEAD, case, seed) for seed in SEEDS]
    rows = []
    for bits, levels in SEGMENTS.items():
        values: dict[str, list[float]] = {}
        for one_flat, part in zip(flats, parts, strict=True):
            reports = {
                "flat": judge(case, one_flat[bits], "held out", bits, queries),
                "segmented": judge(case, part[bits], "held out", levels, queries, rankings=rankings),
            }
            for name, report in reports.items():
                for score in report.scores:
                    metric = f"nDCG@{CUT}" if score.relevance == GRADED else "mAP"
                    key = f"{name}, by {score.ranking}, {score.relevance} {metric}"
                    values.setdefault(key, []).append(score.values[metric])
        rows.append({"levels": levels, **values})
    return rows


def compare_taps(case: Case, flats: dict[str, list[dict[int, Pair]]], queries: int) -> list[dict[str, Any]]:
    """All taps beside the last one, for the same head and length."""
    last = case.last()
    rows = []
    for kind in (*SUPERVISED, "pca-itq"):
        alone = [flat(kind, last, seed) for seed in SEEDS]
        for bits in BITS:
            row: dict[str, Any] = {"head": kind, "bits": bits}
            for name, runs in (("fused", flats[kind]), ("last", alone)):
                reports = [judge(case, run[bits], "held out", bits, queries) for run in runs]
                row[f"{name} fine"] = [report.value("mAP", "code", "fine") for report in reports]
                row[f"{name} nDCG"] = [report.value(f"nDCG@{CUT}", "code", GRADED) for report in reports]
            rows.append(row)
    return rows


def mean(values: list[float]) -> float:
    return statistics.fmean(values)


def show(values: list[float]) -> str:
    """Mean, and half of the range over the seeds where there are several."""
    spread = (max(values) - min(values)) / 2
    return f"{mean(values):.3f}" + (f" ±{spread:.3f}" if len(values) > 1 and spread >= 0.0005 else "")


def table(header: list[str], rows: list[list[str]]) -> list[str]:
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines] + [""]


def goals(results: list[dict[str, Any]]) -> list[str]:
    """The tables in short, worked out from them."""
    rows = []
    for result in results:
        heads = {(row["method"], row["bits"]): row for row in result["heads"]}

        def ratio(database: str, heads: Any = heads) -> str:
            values = [
                mean(heads[HEAD, bits][database]) / mean(heads["FAISS ITQTransform", bits][database]) for bits in BITS
            ]
            return " / ".join(f"{value:.2f}" for value in values)

        gaps = [
            mean(heads["pca-itq", bits]["held out"]) - mean(heads["FAISS ITQTransform", bits]["held out"])
            for bits in BITS
        ]
        coarse = [
            gap(row, "segmented, by coarse, coarse mAP", "flat, by code, coarse mAP") for row in result["segments"]
        ]
        fine = [gap(row, "segmented, by code, fine mAP", "flat, by code, fine mAP") for row in result["segments"]]
        taps = [row for row in result["taps"] if row["head"] == HEAD]
        rows.append(
            [
                f"{result['backbone']}, {result['dataset']}",
                ratio("held out"),
                ratio("train"),
                signed(gaps),
                signed(coarse),
                signed(fine),
                signed([gap(row, "fused fine", "last fine") for row in taps]),
                signed([gap(row, "fused nDCG", "last nDCG") for row in taps]),
            ]
        )
    header = ["backbone, set", f"{HEAD} ÷ FAISS ITQ", "the same, db = train", "pca-itq - FAISS ITQ"]
    header += ["segmented - flat, coarse", "segmented - flat, fine", "fused - last, mAP", f"fused - last, nDCG@{CUT}"]
    return table(header, rows)


def misses(results: list[dict[str, Any]]) -> list[str]:
    """Where a goal is missed, in words, at the mean over the seeds."""
    found: dict[str, list[str]] = {}
    for result in results:
        where = f"{result['backbone']} on {result['dataset']}"
        heads = {(row["method"], row["bits"]): row for row in result["heads"]}
        for database in ("held out", "train"):
            for bits in BITS:
                ratio = mean(heads[HEAD, bits][database]) / mean(heads["FAISS ITQTransform", bits][database])
                if ratio < 1.5:
                    goal = f"`{HEAD}` is below 1.5 times FAISS ITQ ({database.replace('train', 'db = train')})"
                    found.setdefault(goal, []).append(f"{where}, {bits} bits: {ratio:.2f}")
        for bits in BITS:
            row, other = heads["pca-itq", bits]["held out"], heads["FAISS ITQTransform", bits]["held out"]
            if max(row) < min(other):
                found.setdefault("`pca-itq` is below FAISS ITQ at every seed", []).append(f"{where}, {bits} bits")
        for row in result["segments"]:
            fine = gap(row, "segmented, by code, fine mAP", "flat, by code, fine mAP")
            if fine < -0.01:
                goal = "segmented codes lose more than 0.01 of fine mAP"
                found.setdefault(goal, []).append(f"{where}, {sum(row['levels'].values())} bits: {fine:+.3f}")
        for row in result["taps"]:
            if gap(row, "fused fine", "last fine") <= 0 and gap(row, "fused nDCG", "last nDCG") <= 0:
                goal = "fusion does not help, neither mAP nor nDCG"
                found.setdefault(goal, []).append(f"{where}, {row['head']}, {row['bits']} bits")
    lines = [f"* {goal}: {'; '.join(places)}." for goal, places in found.items()]
    return ["Goals missed:", "", *lines, ""] if lines else ["No goal was missed.", ""]


def gap(row: dict[str, Any], one: str, other: str) -> float:
    return mean(row[one]) - mean(row[other])


def signed(values: list[float]) -> str:
    return " / ".join(f"{value:+.3f}" for value in values)


def page(results: list[dict[str, Any]], command: str) -> str:
    """The Markdown page."""
    lines = [
        "# How well the codes retrieve",
        "",
        "Every figure is from one run of",
        "",
        "```sh",
        command,
        "```",
        "",
        "which wrote this page. `DIR` holds the sets `clothing` and `cifar10`; `--backbone` measures another network, "
        "too.",
        "",
        "Figures are mean average precision over the whole ranking, aware of ties, for the classes (fine) unless a "
        f"column says otherwise: the mean over {len(SEEDS)} seeds, ± half of their range. Queries and the held-out "
        "database were seen by no head; what each backbone had seen is said with it. Our heads and FAISS's were fitted "
        "on the same features, those of all taps. nDCG counts agreement on the group as half of that on both.",
        "",
        "## In short",
        "",
        f"At {' / '.join(map(str, BITS))} bits (segmented: {' / '.join(map(str, SEGMENTS))}). Segmented and fused are "
        f"with `{HEAD}`; groups (coarse) are ranked by the coarse level alone, classes (fine) by the whole code.",
        "",
        *goals(results),
        *misses(results),
    ]
    for result in results:
        lines += [f"## {result['backbone']} on {result['dataset']}", ""]
        lines += [f"Backbone: {result['trained on']}. Taps: {', '.join(result['taps read'])}.", ""]
        for name, key in (("Held out", "held out"), ("db = train", "train")):
            protocol = result["heads"][0][f"{key} protocol"]  # of the first length; the rest of it is that of all
            lines += [f"{name}: {protocol.replace(f'{BITS[0]} bits (code {BITS[0]})', LENGTHS)}", ""]
        by_method: dict[str, dict[int, dict[str, Any]]] = {}
        for row in result["heads"]:
            by_method.setdefault(row["method"], {})[row["bits"]] = row
        body = []
        for method, by_bits in by_method.items():
            if method == "sign":
                ((bits, row),) = by_bits.items()
                body.append([f"sign, at {bits:,} bits", "", "", show(row["held out"]), "", "", show(row["train"])])
            else:
                figures = [show(by_bits[bits][database]) for database in ("held out", "train") for bits in BITS]
                body.append([method, *figures])
        lines += table(["head", *(f"{bits} bits" for bits in BITS), *(f"{bits}, db = train" for bits in BITS)], body)
        lines += [f"Codes of two levels beside flat codes that learned the classes alone (`{HEAD}`, held out):", ""]
        metrics = ("coarse mAP", "fine mAP", f"graded nDCG@{CUT}")
        body = []
        for row in result["segments"]:
            title = " + ".join(f"{bits} {level}" for level, bits in row["levels"].items())
            for name, ranking in (("flat", "code"), *(("segmented", by) for by in ("code", "coarse", "fine"))):
                by = "" if name == "flat" else f", by the {'whole ' if ranking == 'code' else ''}{ranking}"
                first = f"{sum(row['levels'].values())} bits, flat" if name == "flat" else title + by
                body.append([first, *(show(row[f"{name}, by {ranking}, {metric}"]) for metric in metrics)])
        lines += table(["", "coarse mAP", "fine mAP", f"nDCG@{CUT}"], body)
        lines += [f"All taps beside the last one alone (`{result['taps read'][-1]}`, held out):", ""]
        body = []
        for row in result["taps"]:
            figures = [show(row[f"{name} {metric}"]) for metric in ("fine", "nDCG") for name in ("fused", "last")]
            gains = [gap(row, f"fused {metric}", f"last {metric}") for metric in ("fine", "nDCG")]
            verdict = "yes" if min(gains) > 0 else "in one" if max(gains) > 0 else "no"
            body.append([f"{row['head']}, {row['bits']} bits", *figures, verdict])
        header = ["", "mAP: fused", "last", f"nDCG@{CUT}: fused", "last", "does fusion help?"]
        lines += table(header, body)
    return "\n".join(lines).rstrip() + "\n"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the sets")
    parser.add_argument(
        "--backbone", action="append", default=[], metavar="FILE", help="a network to measure; repeat it"
    )
    parser.add_argument("--preprocess", choices=list(PRESETS), default="imagenet", help="how those want their images")
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--train", type=int, default=8000, help="fit heads on at most this many images of a set")
    parser.add_argument(
        "--held", type=int, default=5000, help="search among at most this many held-out images of a set"
    )
    parser.add_argument("--queries", type=int, default=1000, help="search with at most this many of those")
    parser.add_argument("--out", type=Path, required=True, help="folder for quality.json, quality.md and the features")
    parser.add_argument("--doc", type=Path, help="write the page here too")
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    results = []
    for path in [None, *args.backbone]:
        name = "built-in" if path is None else Path(path).stem
        for dataset in args.sets:
            print(f"{name} on {dataset}", flush=True)
            case = load_case(name, path, args.preprocess, dataset, args)
            result = {
                "backbone": name,
                "trained on": case.trained_on,
                "dataset": dataset,
                "taps read": list(case.blocks),
            }
            flats = {kind: [flat(kind, case, seed) for seed in SEEDS] for kind in (*SUPERVISED, "pca-itq", "lsh")}
            result["heads"] = compare_heads(case, flats, args.queries)
            result["segments"] = compare_segments(case, flats[HEAD], args.queries)
            result["taps"] = compare_taps(case, flats, args.queries)
            results.append(result)
    words = sys.argv[1:] if argv is None else argv
    command = shlex.join(["python", "bench/bench_quality.py", *public(words)])
    (args.out / "quality.json").write_text(json.dumps({"command": command, "results": results}, indent=1) + "\n")
    text = page(results, command)
    for target in (args.out / "quality.md", args.doc):
        if target is not None:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)


def public(words: list[str]) -> list[str]:
    """The command's words without the folders of this machine."""
    places = {"--data": "DIR", "--out": "OUT", "--doc": "docs/heads.md"}
    return [
        places.get(before, Path(word).name if before == "--backbone" else word)
        for before, word in zip(["", *words], words, strict=False)
    ]


if __name__ == "__main__":
    main()

"""Copies found and different images told apart: `pyhash dedupe` beside imagededup and pHash, on the same images.

    python bench/bench_duplicates.py --data DIR [--part tune] [--images 60] [--json FILE] [--failures FOLDER]

``DIR`` holds the folders ``photos`` and ``objects``. Of photos every second by name is of the part ``tune``, on which
thresholds may be chosen, and the others of ``report``; so are the classes of objects, but ``Motorbikes`` and ``Faces``,
which are reported alone. What is drawn, is drawn from another seed for either part.

**Copies.** For each kind (`copies_of`) one copy of each photograph is made and laid beside the photographs, and copies
are sought among them all, with no option given; with ``turned`` or ``cropped`` for the kinds that are none without. The
recall is the share of photographs whose copy was found with them, with its standard error. Two images that were found
together and come from different photographs are a wrong pair; the precision is the share of pairs that are none.

**Look-alikes.** The pairs found in sets that have no copies (`lookalikes`, and of the data each set of one kind): all
are counted as wrong, though `objects` holds some images twice. With groups all pairs of their members
count; peers have no groups, and only the pairs they name count.

Each finder takes what it takes when nothing is said; imagededup's hashes and pHash 64 bits within 10. Of pyhash there
are a gallery of the images (`Gallery.duplicates`, as `pyhash dedupe` finds them), and `pyhash.duplicates` of the files.
Peers are optional (``pip install imagededup``): what cannot run is said below the tables. Seconds are of the whole
search, reading and encoding included; but a photograph is encoded and hashed once, at its first kind.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from copies_of import KINDS, Kind
from copy_finders import Finder, Pairs, finders
from lookalikes import SETS
from PIL import Image, ImageOps

from pyhash.bench.report import environment

PARTS = ("tune", "report")
ALONE = ("Motorbikes", "Faces")
MOST_WRONG = 1


@dataclass
class Found:
    """What a finder found among the photographs and their copies, or in a set of look-alikes."""

    where: str
    finder: str
    option: str | None
    images: int
    seconds: float
    wrong: int
    right: int = 0
    goal: float | None = None
    wrong_pairs: list[tuple[str, str]] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)

    @property
    def recall(self) -> float:
        return self.right / self.images

    @property
    def recall_in_words(self) -> str:
        return f"{self.recall:.3f} ± {math.sqrt(self.recall * (1 - self.recall) / self.images):.3f}"


class Data:
    """The photographs and objects of a part."""

    def __init__(self, folder: Path, part: str, count: int) -> None:
        place = PARTS.index(part)
        files = sorted((folder / "photos").rglob("*.jpg"))[place::2]
        step = max(1.0, len(files) / count)
        self.photographs = [files[int(number * step)] for number in range(min(count, len(files)))]
        if not self.photographs:
            raise SystemExit(f"--data must hold the folder photos with JPEG files, got {folder}")
        classes = sorted(path for path in (folder / "objects").glob("*") if path.is_dir())
        mine = [path for path in classes if path.name not in ALONE][place::2]
        self.sets = {"photographs": self.photographs}
        if mine:
            self.sets["objects"] = [file for path in mine for file in sorted(path.glob("*.jpg"))]
        for path in classes if part == "report" else ():
            if path.name in ALONE:
                self.sets[path.name.lower()] = sorted(path.glob("*.jpg"))


class Failures:
    """Keeps the images of what went wrong, if a folder was given."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def keep(self, where: str, what: str, files: Sequence[Path], sources: Sequence[Path]) -> None:
        """Copy the two files of a pair there, named by what they come from, and add a line to failures.txt."""
        if self._folder is None:
            return
        names = []
        for number, (file, source) in enumerate(zip(files, sources, strict=True)):
            names.append(f"{where}, {what}, {sources[0].stem}, {source.stem}, {number}{file.suffix}")
            shutil.copyfile(file, self._folder / names[-1])
        with (self._folder / "failures.txt").open("a") as lines:
            print(where, what, *names, sep="\t", file=lines)


def copies(kind: Kind, photographs: Sequence[Path], folder: Path) -> list[Path]:
    folder.mkdir()
    return [kind.write(file, number, folder) for number, file in enumerate(photographs)]


def sought(finder: Finder, files: Sequence[Path], option: str | None) -> tuple[Pairs, float]:
    begun = time.perf_counter()
    pairs = finder.pairs(files, **({} if option is None else {option: True}))
    return pairs, time.perf_counter() - begun


def judged_copies(
    found: Pairs, kind: Kind, finder: str, photographs: Sequence[Path], seconds: float
) -> tuple[Found, list[tuple[int, int]]]:
    """Judge the pairs among photographs and, in the same order behind them, their copies; return the wrong ones too."""
    count = len(photographs)
    wrong = sorted(pair for pair in found if pair[0] % count != pair[1] % count)
    missed = [place for place in range(count) if (place, place + count) not in found]
    named = [(photographs[one % count].name, photographs[other % count].name) for one, other in wrong]
    row = Found(kind.name, finder, kind.option, count, seconds, len(wrong), count - len(missed), kind.goal, named)
    row.missed = [photographs[place].name for place in missed]
    return row, wrong


def measured_copies(
    kinds: Sequence[Kind], photographs: Sequence[Path], which: Sequence[Finder], root: Path, failures: Failures
) -> Iterator[list[Found]]:
    """Yield what the finders found of each kind."""
    for kind in kinds:
        folder = root / kind.name
        files = [*photographs, *copies(kind, photographs, folder)]
        rows = []
        for finder in which:
            found, seconds = sought(finder, files, kind.option)
            row, wrong = judged_copies(found, kind, finder.title, photographs, seconds)
            rows.append(row)
            if finder is which[0]:
                count = len(photographs)
                for place in range(count):
                    if photographs[place].name in row.missed:
                        failures.keep(kind.name, "missed", [files[place], files[place + count]], [files[place]] * 2)
                for pair in wrong:
                    sources = [photographs[place % count] for place in pair]
                    failures.keep(kind.name, "wrong", [files[place] for place in pair], sources)
        yield rows
        shutil.rmtree(folder)


def drawn_sets(names: Sequence[str], photographs: Sequence[Path], seed: int, root: Path) -> Iterator[tuple[str, Any]]:
    """Yield the drawn sets, as files."""
    opened = []
    for file in photographs[:20]:
        with Image.open(file) as image:
            opened.append(ImageOps.exif_transpose(image).convert("RGB"))
    for one in SETS:
        if one.name in names:
            folder = root / one.name
            folder.mkdir()
            files = []
            for number, image in enumerate(one.images(seed, opened)):
                files.append(folder / f"{number:04}.png")
                image.save(files[-1])
            yield one.name, files


def measured_lookalikes(
    sets: Iterator[tuple[str, Sequence[Path]]], which: Sequence[Finder], failures: Failures
) -> Iterator[list[Found]]:
    """Yield what the finders found in each set."""
    for name, files in sets:
        rows = []
        for finder in which:
            found, seconds = sought(finder, files, None)
            named = [(files[one].name, files[other].name) for one, other in sorted(found)]
            rows.append(Found(name, finder.title, None, len(files), seconds, len(found), wrong_pairs=named))
            if finder is which[0]:
                for pair in sorted(found):
                    failures.keep(name, "wrong", [files[place] for place in pair], [files[place] for place in pair])
        yield rows


def table_row(*cells: Any) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def marked(cells: list[str], missed: bool) -> list[str]:
    """Return cells with pyhash's, the first, in bold where it missed the goal."""
    return [f"**{cells[0]}**", *cells[1:]] if missed else cells


def totals(rows: Sequence[Found], titles: Sequence[str]) -> Iterator[str]:
    """Yield the lines that sum up all kinds: wrong pairs, precision, seconds."""
    sums: dict[str, Counter[str]] = {title: Counter() for title in titles}
    for row in rows:
        sums[row.finder].update({"right": row.right, "wrong": row.wrong})
        sums[row.finder]["ms"] += round(row.seconds * 1000)
    yield table_row("wrong pairs", "", "", *(sums[title]["wrong"] for title in titles))
    shares = (total["right"] / max(1, total["right"] + total["wrong"]) for total in sums.values())
    yield table_row("precision", "", ">= 0.999", *(f"{share:.4f}" for share in shares))
    yield table_row("seconds", "", "", *(f"{sums[title]['ms'] / 1000:.0f}" for title in titles))


def main(argv: list[str] | None = None) -> None:
    """Read the command line, measure, and print the tables."""
    names = [*(kind.name for kind in KINDS), *(one.name for one in SETS), "photographs", "objects"]
    names += [name.lower() for name in ALONE]
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder that holds photos and objects")
    parser.add_argument("--part", choices=PARTS, default="report", help="half of the data (default: report)")
    parser.add_argument("--images", type=int, default=300, help="photographs to copy (default: 300)")
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME", help="kinds and sets")
    parser.add_argument("--finders", nargs="+", metavar="NAME", help="columns of the tables (default: all)")
    parser.add_argument("--json", type=Path, help="file to write every figure to")
    parser.add_argument("--failures", type=Path, help="folder to keep what the first column was wrong about")
    args = parser.parse_args(argv)
    if args.images < 2:
        parser.error(f"--images must be at least 2, got {args.images}")
    data, failures = Data(args.data, args.part, args.images), Failures(args.failures)
    kinds = [kind for kind in KINDS if kind.name in args.only]
    measured: list[Found] = []

    def tell(line: str) -> None:
        print(line, flush=True)

    about = ", ".join(f"{key} {value}" for key, value in environment().items())
    tell(f"Part {args.part}, {len(data.photographs)} photographs. {about}\n")
    with tempfile.TemporaryDirectory() as folder:
        which, skipped = finders(Path(folder) / "gallery")
        if args.finders:
            which = [finder for finder in which if finder.title in args.finders]
        titles = [finder.title for finder in which]
        rule = "---:|" * len(titles)
        if kinds:
            tell(f"{table_row('kind of copy', 'option', 'goal, recall', *titles)}\n|---|---|---:|{rule}")
        for rows in measured_copies(kinds, data.photographs, which, Path(folder), failures):
            measured += rows
            goal = "" if rows[0].goal is None else f">= {rows[0].goal}"
            cells = marked([row.recall_in_words for row in rows], rows[0].recall < (rows[0].goal or 0))
            tell(table_row(rows[0].where, rows[0].option or "", goal, *cells))
        for line in totals(measured, titles) if kinds else ():
            tell(line)
        tell(f"\n{table_row('look-alikes, wrong pairs', 'images', 'goal', *titles)}\n|---|---:|---:|{rule}")
        drawn = drawn_sets(args.only, data.photographs, PARTS.index(args.part), Path(folder))
        real = ((name, files) for name, files in data.sets.items() if name in args.only)
        for sets in (drawn, real):
            for rows in measured_lookalikes(sets, which, failures):
                measured += rows
                cells = marked([str(row.wrong) for row in rows], rows[0].wrong > MOST_WRONG)
                tell(table_row(rows[0].where, rows[0].images, f"<= {MOST_WRONG}", *cells))
    for reason in skipped:
        tell(f"\nNot run: {reason}")
    if args.json is not None:
        found = {"environment": environment(), "part": args.part, "skipped": skipped, "rows": [*map(asdict, measured)]}
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()

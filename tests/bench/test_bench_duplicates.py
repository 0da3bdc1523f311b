"""The benchmark of copies: what it draws is what it says, and what a finder finds is counted right."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

import pyhash

ROOT = Path(__file__).parents[2]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    monkeypatch.syspath_prepend(ROOT / "bench")
    return importlib.import_module


def drawn(seed: int, size: tuple[int, int] = (256, 192)) -> Image.Image:
    rng = np.random.default_rng(seed)
    image = Image.fromarray(rng.integers(0, 256, (5, 6, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)
    for _ in range(30):
        w, h = (int(side) for side in rng.integers(8, 70, 2))
        x, y = int(rng.integers(0, size[0] - w)), int(rng.integers(0, size[1] - h))
        image.paste(tuple(rng.integers(0, 256, 3).tolist()), (x, y, x + w, y + h))
    return image


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Ten photographs, and four classes of three objects."""
    folders = {"photos": 10, "objects/Faces": 3, "objects/Motorbikes": 3, "objects/ant": 3, "objects/bee": 3}
    seed = 0
    for name, count in folders.items():
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(count):
            drawn(seed := seed + 1).save(tmp_path / "data" / name / f"{number}.jpg")
    return tmp_path / "data"


class All:
    """Takes everything for copies."""

    title = "all"

    def pairs(self, files: Sequence[Path], **options: bool) -> set[tuple[int, int]]:
        return set(combinations(range(len(files)), 2))


class Last:
    """Finds the copy of the last photograph alone, and says what it was asked."""

    title = "last"

    def __init__(self) -> None:
        self.asked: list[dict[str, bool]] = []

    def pairs(self, files: Sequence[Path], **options: bool) -> set[tuple[int, int]]:
        self.asked.append(options)
        return {(len(files) // 2 - 1, len(files) - 1)}


def test_copies_are_what_they_are_called(script: Callable[[str], ModuleType], tmp_path: Path) -> None:
    source = tmp_path / "source.jpg"
    drawn(1).save(source)
    seen = {}
    for kind in script("copies_of").KINDS:
        again = kind.write(source, 3, tmp_path).read_bytes()
        path = kind.write(source, 3, tmp_path)
        assert path.read_bytes() == again, kind.name
        with Image.open(path) as image:
            seen[kind.name] = image.convert("RGB")
    original = Image.open(source)
    different = {image.tobytes() for image in seen.values()}
    assert len(different) == len(seen) - 1  # the PNG has the pixels of the exact copy
    assert seen["exact"].tobytes() == seen["PNG"].tobytes() == original.tobytes()
    sizes = {name: image.size for name, image in seen.items()}
    assert sizes["quarter size"] == (64, 48)
    assert sizes["crop 5 %"] == sizes["crop 5 %, off centre"] == (243, 182)
    assert sizes["crop 5 % at each edge"] == (230, 173)
    assert sizes["border 3 %, white"] == (268, 204)
    assert sizes["square"] == (192, 192)
    assert sizes["turned 90"] == (192, 256)
    values = {name: np.asarray(image, int) for name, image in seen.items()}
    assert np.ptp(values["grey"], axis=2).max() <= 3
    assert values["brightness 0.7"].mean() < 0.75 * values["exact"].mean()
    marked = [name for name in seen if name.startswith("mark, ")]
    assert len(marked) == 5
    for name in marked:
        changed = np.abs(values[name] - values["exact"]).max(axis=2) > 40
        assert 0.005 < changed.mean() < 0.3, name


def test_lookalikes_are_different_images(script: Callable[[str], ModuleType]) -> None:
    photographs = [drawn(seed) for seed in range(4)]
    for one in script("lookalikes").SETS:
        pixels = [image.tobytes() for image in one.images(0, photographs)]
        assert len({*pixels}) == len(pixels) == one.count, one.name
        again, other = (next(one.images(seed, photographs)).tobytes() for seed in (0, 1))
        assert pixels[0] == again, one.name
        assert other not in pixels, one.name


def test_halves_share_nothing(script: Callable[[str], ModuleType], data: Path) -> None:
    halves = [script("bench_duplicates").Data(data, part, 4) for part in ("tune", "report")]
    assert [len(half.photographs) for half in halves] == [4, 4]
    assert [[*half.sets] for half in halves] == [
        ["photographs", "objects"],
        ["photographs", "objects", "faces", "motorbikes"],
    ]
    first, second = ({file for files in half.sets.values() for file in files} for half in halves)
    assert first
    assert not first & second


def test_pairs_are_counted(
    script: Callable[[str], ModuleType], data: Path, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    bench, last = script("bench_duplicates"), Last()
    monkeypatch.setattr(bench, "finders", lambda folder: ([last, All()], ["another: is not here"]))
    told, kept = tmp_path / "told.json", tmp_path / "kept"
    wanted = ["exact", "mirrored", "crop 40 %", "icons", "faces"]
    bench.main(["--data", str(data), "--images", "4", "--only", *wanted, "--json", str(told), "--failures", str(kept)])
    rows = {(row["where"], row["finder"]): row for row in json.loads(told.read_text())["rows"]}
    assert {where for where, _ in rows} == {*wanted}
    assert last.asked == [{}, {"turned": True}, {"cropped": True}, {}, {}]
    for where in wanted[:3]:
        assert (rows[where, "last"]["right"], rows[where, "last"]["wrong"]) == (1, 0)
        assert len(rows[where, "last"]["missed"]) == 3
        assert (rows[where, "all"]["right"], rows[where, "all"]["wrong"]) == (4, 24)
    assert (rows["icons", "last"]["wrong"], rows["icons", "all"]["wrong"]) == (1, 435)
    printed = capsys.readouterr().out
    assert "| exact |  | >= 0.99 | **0.250 ± 0.217** | 1.000 ± 0.000 |" in printed
    assert "| crop 40 % | cropped |  | 0.250 ± 0.217 | 1.000 ± 0.000 |" in printed
    assert "| wrong pairs |  |  | 0 | 72 |" in printed
    assert "| precision |  | >= 0.999 | 1.0000 | 0.1429 |" in printed
    assert "| icons | 30 | <= 1 | 1 | 435 |" in printed
    assert "Not run: another: is not here" in printed
    lines = [line.split("\t") for line in (kept / "failures.txt").read_text().splitlines()]
    assert [tuple(line[:2]) for line in lines] == [
        *((where, "missed") for where in wanted[:3] for _ in range(3)), ("icons", "wrong"), ("faces", "wrong"),
    ]  # fmt: skip
    assert all((kept / name).is_file() for line in lines for name in line[2:])


def test_finders_find_what_is_there(script: Callable[[str], ModuleType], data: Path, tmp_path: Path) -> None:
    finders, kinds = script("copy_finders"), script("copies_of").KINDS
    files = sorted((data / "photos").iterdir())[:5]
    half = next(kind for kind in kinds if kind.name == "half size")
    copies = [half.write(file, number, tmp_path) for number, file in enumerate(files)]
    expected = {(place, place + 5) for place in range(5)}
    gallery = finders.Dedupe(tmp_path / "gallery", pyhash.Encoder())
    assert gallery.pairs(files) == set()
    for finder in (finders.Files(), finders.PlainHash(), gallery):
        assert finder.pairs([*files, *copies]) == expected, finder.title
        assert finder.pairs([*files, *copies[::-1]]) == {(place, 9 - place) for place in range(5)}, finder.title

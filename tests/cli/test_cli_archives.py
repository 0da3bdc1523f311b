"""``pyhash dedupe --against`` and ``--is``: two collections, and one image beside a collection."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from commands import run
from copied import tree
from scenes import scaled, scene

TRAIN = {"cat/0": 0, "cat/1": 1, "dog/2": 2, "dog/3": 3, "top": 4}
TEST = {"cat/a": 0, "cat/b": 5, "dog/c": 6, "dog/d": 2}


def filled(folder: Path, scenes: dict[str, int], factor: float = 1) -> Path:
    for name, seed in scenes.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        scaled(factor)(scene(seed)).save(folder / f"{name}.png")
    return folder


@pytest.mark.usefixtures("fake")
class TestAgainst:
    @pytest.fixture
    def train(self, tmp_path: Path) -> Path:
        """An indexed folder."""
        run("index", filled(tmp_path / "train", TRAIN))
        return tmp_path / "train"

    @pytest.fixture
    def test(self, tmp_path: Path) -> Path:
        """Another, with smaller copies of two of its images."""
        run("index", filled(tmp_path / "test", TEST, 0.7))
        return tmp_path / "test"

    def test_a_report_of_what_is_in_both(self, train: Path, test: Path) -> None:
        lines = run("dedupe", train, "--against", test, "--fail-if-found", code=7).stdout.splitlines()
        assert lines[-2:] == [
            f"of 5 images in {train} 2 (40.00%) have copies in {test}",
            f"of 4 images in {test} 2 (50.00%) have copies in {train}",
        ]
        cells = {line.split("  ")[0]: line.split() for line in lines[-6:-2]}
        assert cells["cat"] == ["cat", "1", "of", "2", "50.00%", "1", "of", "2", "50.00%"]
        assert cells["(in no subfolder)"][-4:] == ["0", "of", "1", "0.00%"]

    def test_as_json(self, train: Path, test: Path) -> None:
        shown = json.loads(run("dedupe", train, "--against", test, "--json").stdout)
        assert [[Path(image["path"]).name for image in group] for group in shown["groups"]] == [
            ["0.png", "a.png"],
            ["2.png", "d.png"],
        ]
        assert shown["overlap"]["folder"] == {
            "copies": 2,
            "images": 5,
            "share": 0.4,
            "by_class": {
                "": {"copies": 0, "images": 1, "share": 0.0},
                "cat": {"copies": 1, "images": 2, "share": 0.5},
                "dog": {"copies": 1, "images": 2, "share": 0.5},
            },
        }
        assert shown["overlap"]["against"]["by_class"]["dog"] == {"copies": 1, "images": 2, "share": 0.5}
        assert "overlap" not in json.loads(run("dedupe", train, "--json").stdout)

    def test_the_archive_is_never_touched(self, train: Path, test: Path, tmp_path: Path) -> None:
        before = tree(train)
        run("dedupe", test, "--against", train, "--move-to", tmp_path / "out", "--undo-file", tmp_path / "undo")
        assert tree(train) == before
        assert sorted(path.name for path in (tmp_path / "out").rglob("*.png")) == ["a.png", "d.png"]
        assert sorted(path.name for path in test.rglob("*.png")) == ["b.png", "c.png"]
        run("dedupe", "--undo", tmp_path / "undo")
        assert len([*test.rglob("*.png")]) == 4

    def test_a_folder_inside(self, train: Path, tmp_path: Path) -> None:
        shutil.copy(train / "cat" / "0.png", train / "dog" / "cat.png")
        run("index", train)
        lines = run("dedupe", train, "--against", train / "dog").stdout.splitlines()
        assert lines[-1] == f"of 3 images in {train / 'dog'} 1 (33.33%) has a copy in {train}"

    def test_on_a_page(self, train: Path, test: Path, tmp_path: Path) -> None:
        run("dedupe", train, "--against", test, "--html", tmp_path / "out.html")
        page = (tmp_path / "out.html").read_text(encoding="utf-8")
        assert "a.png" in page
        assert "d.png" in page

    def test_what_cannot_be(self, train: Path, tmp_path: Path) -> None:
        assert "--against must name another gallery" in run("dedupe", train, "--against", train, code=2).stderr
        filled(tmp_path / "other", TEST)
        assert "there is no gallery at" in run("dedupe", train, "--against", tmp_path / "other", code=3).stderr
        assert "does not exist" in run("dedupe", train, "--against", tmp_path / "nothing", code=2).stderr


@pytest.mark.usefixtures("fake")
class TestIs:
    @pytest.fixture
    def archive(self, tmp_path: Path) -> Path:
        """An indexed folder, and beside it two images."""
        run("index", filled(tmp_path / "archive", TRAIN))
        filled(tmp_path, {"known": 3, "new": 9}, 0.7)
        return tmp_path / "archive"

    def test_copies_of_images(self, archive: Path, tmp_path: Path) -> None:
        known, new = tmp_path / "known.png", tmp_path / "new.png"
        lines = run("dedupe", archive, "--is", known, "--is", new).stdout.splitlines()
        assert (lines[0], lines[2]) == (f"{known}: 1 copy", f"{new}: no copy")
        assert lines[1].endswith(os.fspath(archive / "dog" / "3.png"))
        run("dedupe", archive, "--is", known, "--fail-if-found", code=7)
        run("dedupe", archive, "--is", new, "--fail-if-found")
        assert run("dedupe", archive, "--is", known, "-f").stdout == f"{archive / 'dog' / '3.png'}\n"

    def test_as_json(self, archive: Path, tmp_path: Path) -> None:
        (tmp_path / "bad.png").write_bytes(b"no image")
        result = run("dedupe", archive, "--is", tmp_path / "bad.png", "--is", tmp_path / "known.png", "--json", code=1)
        shown = json.loads(result.stdout)
        (answer,) = shown["results"]
        assert answer["query"] == os.fspath(tmp_path / "known.png")
        assert [copy["path"] for copy in answer["copies"]] == [os.fspath(archive / "dog" / "3.png")]
        assert [failure["path"] for failure in shown["failed"]] == [os.fspath(tmp_path / "bad.png")]
        assert "skipped" in result.stderr

    def test_it_does_nothing_else(self, archive: Path, tmp_path: Path) -> None:
        for more in (["--against", archive], ["--csv"], ["--html", tmp_path / "x.html"], ["--trash"], ["--hardlink"]):
            if more != ["--trash"]:  # that may be missing
                run("dedupe", archive, "--is", tmp_path / "known.png", *more, code=2)


@pytest.mark.usefixtures("fake")
def test_distinct_answers(tmp_path: Path) -> None:
    folder = filled(filled(tmp_path / "images", TRAIN), {"cat/small": 0, "cat/smaller": 0}, 0.6)
    run("index", folder)
    query = folder / "cat" / "0.png"
    lines = run("search", folder, query, "--distinct").stdout.splitlines()
    assert lines[1].split() == ["distance", "copies", "image"]
    assert lines[2].split() == ["0", "2", os.fspath(query)]
    assert len(lines) == 2 + len(TRAIN) + 1
    (result,) = json.loads(run("search", folder, query, "--distinct", "--json").stdout)["results"]
    assert [match["copies"] for match in result["matches"]] == [2, 0, 0, 0, 0]
    (result,) = json.loads(run("search", folder, query, "--json").stdout)["results"]
    assert len(result["matches"]) == len(TRAIN) + 2
    assert "copies" not in result["matches"][0]
    run("search", folder, query, "--distinct", "--html", tmp_path / "out.html")
    assert "and 2 copies" in (tmp_path / "out.html").read_text(encoding="utf-8")

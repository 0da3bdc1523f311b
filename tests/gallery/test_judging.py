"""What the user said of two images is remembered for as long as both are in the gallery."""

from __future__ import annotations

from pathlib import Path

import pytest
from galleries import FakeEncoder, execute, picture

from pyhash import Gallery
from pyhash.gallery import default_file, recover


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for number in range(4):
        picture(root / f"{number}.png", number)
    with Gallery(root, FakeEncoder()) as gallery:
        gallery.update()
    return root


def names(folder: Path) -> list[tuple[str, ...]]:
    with Gallery(folder, FakeEncoder()) as gallery:
        return [tuple(Path(path).name for path in pair) for pair in gallery.told_apart()]


def test_remembered_and_taken_back(folder: Path) -> None:
    with Gallery(folder, FakeEncoder()) as gallery:
        assert gallery.told_apart() == []
        gallery.not_duplicates(folder / "2.png", folder / "1.png")
        gallery.not_duplicates(1, 4)
        gallery.not_duplicates("0.png", "3.png")  # once more
        assert gallery.stats().images == 4
    assert names(folder) == [("0.png", "3.png"), ("1.png", "2.png")]
    with Gallery(folder, FakeEncoder()) as gallery:
        gallery.not_duplicates(folder / "1.png", folder / "2.png", undo=True)
        assert gallery.check().damaged == []
    assert names(folder) == [("0.png", "3.png")]


def test_errors(folder: Path) -> None:
    with Gallery(folder, FakeEncoder()) as gallery:
        with pytest.raises(ValueError, match="other must be an image of the gallery, and gone is none"):
            gallery.not_duplicates(folder / "1.png", "gone")
        with pytest.raises(ValueError, match="one must be an image of the gallery, and 99 is none"):
            gallery.not_duplicates(99, folder / "1.png")
        with pytest.raises(ValueError, match="must be two images"):
            gallery.not_duplicates(folder / "1.png", 2)
        with pytest.raises(ValueError, match="must have been told apart to take that back"):
            gallery.not_duplicates(1, 2, undo=True)
        assert gallery.told_apart() == []


def test_it_goes_with_the_images(folder: Path) -> None:
    with Gallery(folder, FakeEncoder()) as gallery:
        gallery.not_duplicates("0.png", "1.png")
        gallery.not_duplicates("2.png", "3.png")
    (folder / "sub").mkdir()
    (folder / "0.png").rename(folder / "sub" / "moved.png")
    (folder / "3.png").unlink()
    with Gallery(folder, FakeEncoder()) as gallery:
        gallery.update()
    assert names(folder) == [("moved.png", "1.png")]


def test_it_outlives_damage(folder: Path) -> None:
    with Gallery(folder, FakeEncoder()) as gallery:
        gallery.not_duplicates("0.png", "1.png")
    file = default_file(folder)
    execute(file, "PRAGMA wal_checkpoint(TRUNCATE)")
    with open(file, "r+b") as damaged:
        damaged.write(b"no SQLite file ")
    recover(file)
    assert names(folder) == [("0.png", "1.png")]

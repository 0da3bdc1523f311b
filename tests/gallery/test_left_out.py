"""A gallery and what its folder leaves out: patterns that are remembered, and what becomes of rows."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from galleries import FakeEncoder, photos, picture

from pyhash import Gallery
from pyhash.errors import GalleryError, PatternError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = photos(tmp_path / "photos")
    picture(root / "raw" / "1.png", 91)
    picture(root / "raw" / "2.png", 92)
    return root


def test_patterns_are_remembered_until_others_take_their_place(folder: Path) -> None:
    encoder = FakeEncoder()
    with Gallery(folder, encoder) as gallery:
        whole = gallery.update().added
        before = gallery.id_of("raw/1.png")
    with Gallery(folder, encoder, exclude=["raw/"]) as gallery:
        assert gallery.stats().exclude == []  # noted at the next update
        changes = gallery.update()
        assert (changes.excluded, changes.removed, changes.unchanged) == (2, 0, whole - 2)
        assert gallery.id_of("raw/1.png") is None
    seen = len(encoder.seen)
    with Gallery.open(folder, encoder) as gallery:
        changes = gallery.update()
        assert (changes.excluded, changes.added, changes.unchanged) == (0, 0, whole - 2)
        assert gallery.stats().exclude == ["raw/"]
    with Gallery.open(folder, encoder, exclude=("/raw/1*",)) as gallery:
        assert gallery.update().added == 1
        assert gallery.stats().exclude == ["/raw/1*"]
    with Gallery(folder, encoder, exclude=[]) as gallery:
        assert gallery.update().added == 1
        assert gallery.stats().exclude == []
        assert gallery.id_of("raw/1.png") != before
    assert len(encoder.seen) == seen + 2


def test_what_an_earlier_gallery_holds_of_a_systems_folder_is_excluded(folder: Path) -> None:
    (folder / "raw").rename(folder / "thumbs_")
    with Gallery(folder, FakeEncoder()) as gallery:
        gallery.update()
        (folder / "thumbs_").rename(folder / "Thumbs")
        picture(folder / "Thumbs" / "1.png", 93)
        changes = gallery.update()
        assert (changes.excluded, changes.removed) == (0, 2)  # they are gone from where they were
    with Gallery(folder, FakeEncoder(), exclude=["!Thumbs/"]) as gallery:
        assert gallery.update().added == 2
    with Gallery(folder, FakeEncoder(), exclude=[]) as gallery:
        assert gallery.update().excluded == 2


def test_what_is_gone_is_removed_and_what_is_left_out_and_gone_is_excluded(folder: Path) -> None:
    with Gallery(folder, FakeEncoder()) as gallery:
        gallery.update()
    (folder / "raw" / "1.png").unlink()
    with Gallery(folder, FakeEncoder(), exclude=["raw/2.png"]) as gallery:
        changes = gallery.update()
        assert (changes.excluded, changes.removed) == (1, 1)


def test_a_link_whose_target_is_away_keeps_its_row(folder: Path, tmp_path: Path) -> None:
    picture(tmp_path / "disk" / "x.png", 95)
    (folder / "x.png").symlink_to(tmp_path / "disk" / "x.png")
    with Gallery(folder, FakeEncoder()) as gallery:
        gallery.update()
        number = gallery.id_of(folder / "x.png")
        (tmp_path / "disk").rename(tmp_path / "away")
        changes = gallery.update()
        assert (changes.removed, changes.excluded) == (0, 0)
        assert [failure.reason for failure in changes.failed] == ["a link to a file that does not exist"]
        assert number in gallery.index
        assert changes.kept == 1
        (tmp_path / "away").rename(tmp_path / "disk")
        assert gallery.update().changed == 0
        assert gallery.id_of(folder / "x.png") == number
        (tmp_path / "disk").rename(tmp_path / "away")
        assert gallery.update(prune=True).removed == 1
        assert number not in gallery.index


def test_the_users_own_word_drops_however_many(folder: Path) -> None:
    with Gallery(folder, FakeEncoder()) as gallery:
        whole = gallery.update().added
    (folder / "a.png").unlink()
    with Gallery(folder, FakeEncoder(), exclude=["*", "!b.*"]) as gallery:
        changes = gallery.update()
        assert (changes.excluded, changes.removed, changes.withheld, changes.kept) == (whole - 2, 1, 0, 0)


def test_what_moves_out_of_a_folder_that_is_left_out_keeps_its_row(folder: Path) -> None:
    encoder = FakeEncoder()
    with Gallery(folder, encoder) as gallery:
        gallery.update()
        number, seen = gallery.id_of("raw/1.png"), len(encoder.seen)
    (folder / "raw" / "1.png").rename(folder / "kept.png")
    with Gallery(folder, encoder, exclude=["raw/"]) as gallery:
        changes = gallery.update()
        assert (changes.moved, changes.excluded) == (1, 1)
        assert gallery.id_of("kept.png") == number
    assert len(encoder.seen) == seen


def test_a_folder_whose_patterns_are_wrong_keeps_its_rows(folder: Path) -> None:
    with Gallery(folder, FakeEncoder()) as gallery:
        before = gallery.update().added
        (folder / "raw" / ".pyhashignore").write_text("[\n")
        changes = gallery.update()
        assert (changes.removed, changes.excluded, len(gallery)) == (0, 0, before)
        assert "line 1: the pattern '[' is wrong" in changes.failed[0].reason
        (folder / ".pyhashignore").write_text("[\n")
        with pytest.raises(PatternError, match="line 1"):
            gallery.update()
        assert len(gallery) == before


def test_wrong_patterns_change_nothing(folder: Path) -> None:
    for wrong, error in (["[z-a]", "", "a//b"], PatternError), ("*.png", TypeError), ([3], TypeError):
        with pytest.raises(error, match="pattern"):
            Gallery(folder, FakeEncoder(), exclude=wrong)  # type: ignore[arg-type]
    assert not (folder / ".pyhash").exists()


def test_an_empty_folder_without_a_gallery(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    with pytest.raises(GalleryError, match=r"disk is empty: is its disk there\?"):
        Gallery(tmp_path / "disk", FakeEncoder(), create=False)
    (tmp_path / "disk" / "lost+found").mkdir()
    with pytest.raises(GalleryError) as caught:
        Gallery(tmp_path / "disk", FakeEncoder(), create=False)
    assert "is empty" not in str(caught.value)
    assert os.listdir(tmp_path / "disk") == ["lost+found"]


def test_files_that_are_too_small_are_left_out_until_that_is_taken_back(folder: Path) -> None:
    encoder = FakeEncoder()
    sizes = sorted(
        path.stat().st_size for path in folder.rglob("*") if path.suffix in (".png", ".PNG", ".jpeg", ".webp")
    )
    with Gallery(folder, encoder) as gallery:
        whole = gallery.update().added
        assert (whole, gallery.stats().min_size) == (len(sizes), 0)
    least = sizes[3]
    n_less = sum(size < least for size in sizes)
    assert 0 < n_less < whole
    with Gallery(folder, encoder, min_size=least) as gallery:
        changes = gallery.update()
        assert (changes.excluded, changes.removed, changes.unchanged, changes.failed) == (n_less, 0, whole - n_less, [])
    with Gallery.open(folder, encoder, exclude=["nothing"]) as gallery:
        assert gallery.update().unchanged == whole - n_less
        assert (gallery.stats().min_size, gallery.stats().exclude) == (least, ["nothing"])
        (folder / "empty.jpg").touch()
        assert gallery.update().failed == []
    with Gallery(folder, encoder, min_size=max(sizes) + 1) as gallery:
        assert (gallery.update().excluded, len(gallery)) == (whole - n_less, 0)
    with Gallery.open(folder, encoder, min_size=0) as gallery:
        changes = gallery.update()
        assert (changes.added, len(changes.failed)) == (whole, 1)


def test_a_wrong_least_size_changes_nothing(folder: Path) -> None:
    for wrong in (-1, 1.5, "10k", True):
        with pytest.raises(ValueError, match="min_size must be a number of bytes, 0 or more, got"):
            Gallery(folder, FakeEncoder(), min_size=wrong)  # type: ignore[arg-type]
    assert not (folder / ".pyhash").exists()

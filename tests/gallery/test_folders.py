"""One gallery of several folders: images keep their rows wherever they go, and none is lost."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from children import Child, Report
from galleries import EmbeddingEncoder, FakeEncoder, execute, kinds, picture

from pyhash import Gallery
from pyhash.errors import GalleryError
from pyhash.gallery import Changes, adapt, recognising, walking
from pyhash.images import Walk
from pyhash.ranking import Help


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two folders: five images in the one, four in the other, in one of two subfolders of the same name."""
    for number in range(5):
        picture(tmp_path / "a" / f"{number}.png", number)
    for number in range(4):
        picture(tmp_path / "b" / "sub" / f"{number}.png", 10 + number)
    picture(tmp_path / "a" / "sub" / "0.png", 20)
    return tmp_path


def updated(root: Path, *folders: str, file: str = "g.sqlite", **options: Any) -> tuple[Changes, list[str]]:
    """Bring some folders of a gallery up to date; return what changed, and what was encoded, seen from the root."""
    encoder = FakeEncoder()
    with Gallery([root / folder for folder in folders], encoder, root / file) as gallery:
        changes = gallery.update(**options)
    return changes, sorted(os.path.relpath(path, root) for path in encoder.seen)


def held(root: Path, *folders: str) -> dict[str, int]:
    """The images of a gallery, seen from the root, and their ids."""
    given = [root / folder for folder in folders]
    with Gallery(given, file=root / "g.sqlite", create=False) if given else Gallery(root / "g.sqlite") as gallery:
        return {os.path.relpath(path, root): gallery.id_of(path) for path in gallery}


# Many folders, one gallery


def test_one_gallery(root: Path) -> None:
    changes, seen = updated(root, "a", "b")
    assert (changes.added, len(seen)) == (10, 10)
    with Gallery([root / "a", root / "b"], FakeEncoder(), root / "g.sqlite", create=False) as gallery:
        assert gallery.folders == [os.fspath(root / "a"), os.fspath(root / "b")]
        assert gallery.folder == os.fspath(root / "a")
        assert gallery.stats().folders == {os.fspath(root / "a"): 6, os.fspath(root / "b"): 4}
        for path in [*gallery]:
            assert os.path.exists(path)
            assert gallery.search(path, 1)[0].path == path
            assert gallery.path(gallery.id_of(path)) == path
            assert path in gallery
        assert gallery.id_of("sub/3.png") == gallery.id_of(root / "b" / "sub" / "3.png") is not None
        assert gallery.id_of("sub/0.png") == gallery.id_of(root / "a" / "sub" / "0.png")
        assert repr(gallery) == f"<pyhash.Gallery {str(root / 'a')!r}, {str(root / 'b')!r}, 10 images>"
        query = root / "a" / "0.png"
        assert {m.path for m in gallery.search(query, 20, where=[root / "b"])} == {p for p in gallery if "/b/" in p}
        assert len(gallery.search(query, 20, where=["sub"])) == 5  # in both
        assert len(gallery.search(query, 20, where=[root / "a" / "sub", root / "b" / "sub" / "1.png"])) == 2
    assert updated(root, "a", "b") == (Changes(0, 0, 0, 10, []), [])


def test_the_order_in_which_folders_are_given_says_nothing(root: Path) -> None:
    updated(root, "a", "b")
    before = held(root)
    assert updated(root, "b", "a") == (Changes(0, 0, 0, 10, []), [])
    assert held(root, "b", "a") == held(root, "b") == before


def test_how_folders_are_given(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    os.symlink(root / "b", root / "link")
    with Gallery(["a", "link"], FakeEncoder(), "g.sqlite") as gallery:
        gallery.update()
        assert gallery.folders == ["a", "link"]
        assert gallery.id_of("b/sub/0.png") == gallery.id_of("link/sub/0.png") == gallery.id_of(root / "b/sub/0.png")
    with Gallery(["b"], FakeEncoder(), "g.sqlite") as gallery:
        assert gallery.folders == ["b", os.path.realpath("a")]
        found = {match.path for match in gallery.search("a/0.png", 20)}
        assert "b/sub/0.png" in found
        assert os.path.realpath("a/0.png") in found
    assert updated(root, "a", "link")[0].unchanged == 10


@pytest.mark.skipif(os.name == "nt" or os.uname().sysname == "Darwin", reason="names are text there")
def test_names_that_are_not_utf_8(root: Path) -> None:
    odd = os.fsdecode(os.fsencode(root) + b"/\xff\xfe")
    (root / "b").rename(odd)
    updated(root, "a", odd)
    assert os.path.join(odd, "sub", "0.png") in [*Gallery(root / "g.sqlite")]
    assert updated(root, "a", odd)[0].unchanged == 10


def test_a_file_stands_for_its_folders(root: Path) -> None:
    updated(root, "a", "b")
    with Gallery(root / "g.sqlite", FakeEncoder()) as gallery:
        assert gallery.folders == [os.fspath(root / "a"), os.fspath(root / "b")]
        picture(root / "a" / "new.png", 30)
        picture(root / "b" / "new.png", 31)
        assert gallery.update().added == 2
    with Gallery(root / "a", FakeEncoder()) as gallery:
        gallery.update()
    (root / "a").rename(root / "c")  # the file goes with it
    with Gallery(root / "c" / ".pyhash" / "gallery.sqlite") as gallery:
        assert gallery.folders == [os.fspath(root / "c")]
    (root / "text").write_text("no gallery")
    for path, why in (("text", "not a pyhash gallery"), ("none", "there is no folder")):
        with pytest.raises(GalleryError, match=why):
            Gallery(root / path)
    with pytest.raises(GalleryError, match="a gallery's file alone, got the file"):
        Gallery([root / "a", root / "g.sqlite"], file=root / "g.sqlite")
    with pytest.raises(ValueError, match="file must be given for a gallery of several folders"):
        Gallery([root / "c", root / "b"])
    with pytest.raises(ValueError, match="got none"):
        Gallery([], file=root / "g.sqlite")


def test_folders_in_one_another_are_refused(root: Path) -> None:
    os.symlink(root / "b", root / "link")
    os.symlink(root / "a" / "sub", root / "inner")
    for folders, why in (
        (("a", "a/sub"), f"{root / 'a/sub'} lies in {root / 'a'}, whose"),
        (("inner", "a"), f"{root / 'inner'} lies in {root / 'a'}, whose"),
        (("b", "a", "link"), f"{root / 'link'} and {root / 'b'} are the same folder"),
        (("a", "a/"), "are the same folder"),
        (("a", "."), f"{root / 'a'} lies in {root / '.'}, whose"),
    ):
        with pytest.raises(GalleryError, match=why):
            updated(root, *folders)
    assert not (root / "g.sqlite").exists()
    updated(root, "a", "b")
    for folders in (("b", "a/sub"), ("b", "inner"), ("b", ".")):
        with pytest.raises(GalleryError, match=r"lies in .*whose images are found with it"):
            updated(root, *folders)


def test_others_are_refused_by_name_and_added_beside(root: Path) -> None:
    updated(root, "a", "b")
    picture(root / "c" / "0.png", 40)
    with pytest.raises(
        GalleryError, match=f"is of the folders {root / 'a'} and {root / 'b'}, not of {root / 'c'}"
    ) as e:
        updated(root, "c")
    assert f"`pyhash index {root / 'a'} {root / 'c'} --gallery {root / 'g.sqlite'}`" in str(e.value)
    with pytest.raises(GalleryError, match=f"has no folder {root / 'c'}: it is of"):
        held(root, "a", "c")
    with pytest.raises(GalleryError, match=f"there is no folder {root / 'typo'}, nor is it one of the gallery"):
        updated(root, "a", "typo")
    changes, seen = updated(root, "b", "c")
    assert (changes.added, changes.unchanged, seen) == (1, 4, ["c/0.png"])
    assert len(held(root)) == 11
    with Gallery(root / "g.sqlite") as gallery:
        assert [os.path.basename(folder) for folder in gallery.folders] == ["a", "b", "c"]


def test_some_of_the_folders(root: Path) -> None:
    updated(root, "a", "b")
    picture(root / "a" / "new.png", 30)
    picture(root / "b" / "new.png", 31)
    (root / "b" / "sub" / "0.png").unlink()
    changes, seen = updated(root, "a")
    assert (changes.added, changes.removed, changes.kept, changes.unchanged) == (1, 0, 0, 6)
    assert (seen, changes.away) == (["a/new.png"], {})
    assert {"b/sub/0.png", "a/new.png"} <= {*held(root)}
    changes, seen = updated(root, "b")
    assert (changes.added, changes.removed, seen) == (1, 1, ["b/new.png"])


def test_patterns_apply_in_each_folder(root: Path) -> None:
    with Gallery([root / "a", root / "b"], FakeEncoder(), root / "g.sqlite", exclude=["/sub/0.png"]) as gallery:
        assert gallery.update().added == 8
        (root / "b" / ".pyhashignore").write_text("1.png\n")
        changes = gallery.update()
        assert (changes.excluded, changes.unchanged) == (1, 7)
        assert root / "a" / "1.png" in gallery


# What moves


@pytest.mark.parametrize("given", [("a", "b"), ("b", "a"), ("b",)])
def test_what_was_moved_keeps_its_row(root: Path, given: tuple[str, ...]) -> None:
    updated(root, "a", "b")
    before = held(root)
    (root / "a" / "0.png").rename(root / "b" / "moved.png")
    changes, seen = updated(root, *given)
    assert (seen, changes.moved, changes.removed, changes.added) == ([], 1, 0, 0)
    after = held(root)
    assert after.pop("b/moved.png") == before.pop("a/0.png")
    assert after == before
    assert updated(root, "a", "b") == (Changes(0, 0, 0, 10, []), [])


def test_what_was_copied_is_not_encoded(root: Path) -> None:
    updated(root, "a", "b")
    shutil.copy(root / "a" / "0.png", root / "b" / "copy.png")
    changes, seen = updated(root, "b")
    assert (seen, changes.added, changes.moved) == ([], 1, 0)
    assert len(held(root)) == 11


@pytest.mark.parametrize("link", [os.link, os.symlink])
@pytest.mark.parametrize("given", [("a", "b"), ("b",)])
def test_a_file_in_two_folders_is_one_image(root: Path, link: Any, given: tuple[str, ...]) -> None:
    updated(root, "a", "b")
    link(root / "a" / "0.png", root / "b" / "twin.png")
    changes, seen = updated(root, *given)
    assert (seen, changes.names, changes.added) == ([], 1, 0)
    with Gallery(root / "g.sqlite", FakeEncoder()) as gallery:
        number = gallery.id_of(root / "a" / "0.png")
        assert number == gallery.id_of(root / "b" / "twin.png") is not None
        assert len(gallery) == 10
        found = gallery.search(root / "b" / "twin.png", 20, exclude=root / "b" / "twin.png")
        assert number not in {match.id for match in found}
        assert number in {match.id for match in gallery.search(root / "a" / "0.png", 20, where=[root / "b"])}
    assert updated(root, "a")[0].names == 0
    assert updated(root, "b")[0].names == 1


@pytest.mark.parametrize("given", [("a", "b"), ("a",)])
def test_an_image_lives_on_by_its_name_in_another_folder(root: Path, given: tuple[str, ...]) -> None:
    os.link(root / "a" / "0.png", root / "b" / "twin.png")
    updated(root, "a", "b")
    number = held(root)["a/0.png"]
    (root / "a" / "0.png").unlink()
    changes, seen = updated(root, *given)
    assert (seen, changes.removed) == ([], 0)
    assert held(root)["b/twin.png"] == number
    assert updated(root, "a", "b") == (Changes(0, 0, 0, 10, []), [])


def test_duplicates_across_folders(root: Path) -> None:
    shutil.copy(root / "a" / "0.png", root / "b" / "copy.png")
    updated(root, "a", "b")
    with Gallery(root / "g.sqlite") as gallery:
        (group,) = gallery.duplicates().groups
        assert {copy.path for copy in group.images} == {
            os.fspath(root / "a" / "0.png"),
            os.fspath(root / "b" / "copy.png"),
        }


# What is away


@pytest.mark.parametrize("empty", [False, True])
@pytest.mark.parametrize("which", ["a", "b"])
def test_a_disk_that_is_away(root: Path, which: str, empty: bool) -> None:
    updated(root, "a", "b")
    before, other = held(root), "b" if which == "a" else "a"
    (root / which).rename(root / "unplugged")
    if empty:
        (root / which).mkdir()
    picture(root / other / "new.png", 30)
    for _ in range(2):
        changes, _ = updated(root, "a", "b")
        kept = {"a": 6, "b": 4}[which]
        assert (changes.kept, changes.away) == (kept, {os.fspath(root / which): kept})
        assert (changes.removed, changes.withheld, changes.failed) == (0, 0, [])
    assert held(root) == {**before, f"{other}/new.png": 11}
    if empty:
        (root / which).rmdir()
        assert updated(root, which, other)[0].away
    else:
        with pytest.raises(GalleryError, match="cannot be read"):
            updated(root, which)
        assert updated(root, "a", "b", prune=True)[0].kept == kept
    with Gallery(root / which, FakeEncoder(), root / "g.sqlite") as gallery:
        assert gallery.search(root / "unplugged" / "sub" / "0.png", 1)[0].path == os.fspath(root / which / "sub/0.png")
    (root / "unplugged").rename(root / which)
    assert updated(root, "a", "b") == (Changes(0, 0, 0, 11, []), [])
    shutil.rmtree(root / which)
    (root / which).mkdir()
    assert updated(root, "a", "b", prune=True)[0].removed == kept


def test_an_empty_mount_point_is_not_noted_as_the_folder(root: Path) -> None:
    updated(root, "a", "b")
    (root / "b").rename(root / "elsewhere")
    (root / "b").mkdir()
    updated(root, "a", "b")
    (root / "elsewhere" / "sub").rename(root / "elsewhere" / "other")  # so that only the device tells
    changes, seen = updated(root, "a", "elsewhere")
    assert (seen, changes.moved, changes.added) == ([], 4, 0)
    assert len(held(root)) == 10


def test_a_disk_below_a_folder_is_remembered_while_others_are_updated(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounted, device, walk = True, recognising._device, walking.walk

    def is_on_it(path: str) -> bool:
        return mounted and os.path.relpath(path, root).startswith(os.path.join("b", "sub"))

    def walked(folder: str, *options: Any) -> Walk:
        found = walk(folder, *options)
        images = [i._replace(device=-1) if is_on_it(os.path.join(folder, i.path)) else i for i in found.images]
        return dataclasses.replace(found, images=images)

    monkeypatch.setattr(recognising, "_device", lambda path: -1 if is_on_it(path) else device(path))
    monkeypatch.setattr(walking, "walk", walked)
    for number in range(20):
        picture(root / "b" / f"{number}.png", 100 + number)
    updated(root, "a", "b")
    mounted = False
    shutil.rmtree(root / "b" / "sub")
    assert updated(root, "a")[0].unchanged == 6
    changes, _ = updated(root, "b")
    assert (changes.kept, changes.removed, changes.unchanged) == (4, 0, 20)


def test_no_folder_hides_that_another_is_lost(root: Path) -> None:
    """All of a small folder goes, which is little of a large gallery."""
    for number in range(100, 140):
        picture(root / "a" / f"{number}.png", number)
    updated(root, "a", "b")
    shutil.rmtree(root / "b" / "sub")
    picture(root / "b" / "other.png", 50)
    (root / "a" / "0.png").unlink()
    changes, _ = updated(root, "a", "b")
    assert (changes.removed, changes.withheld, changes.kept, changes.added) == (1, 4, 0, 1)
    changes, _ = updated(root, "a", "b", prune=True)
    assert (changes.removed, changes.withheld) == (4, 0)


# Folders that are elsewhere now


def swap(root: Path) -> None:
    (root / "a").rename(root / "x")
    (root / "b").rename(root / "a")
    (root / "x").rename(root / "b")


@pytest.mark.parametrize("given", [("a", "b"), ("b", "a"), ("a",)])
def test_folders_that_changed_their_names(root: Path, given: tuple[str, ...]) -> None:
    updated(root, "a", "b")
    before = held(root)
    swap(root)
    after = {{"a": "b", "b": "a"}[path[0]] + path[1:]: number for path, number in before.items()}
    assert held(root, *given) == after
    assert updated(root, *given)[0].moved == 0
    assert updated(root, "a", "b") == (Changes(0, 0, 0, 10, []), [])
    assert held(root) == after


@pytest.mark.parametrize("how", ["rename", "copy"])
@pytest.mark.parametrize("given", [("c", "b"), ("c",), ("b", "c")])
def test_a_folder_that_was_moved(root: Path, given: tuple[str, ...], how: str) -> None:
    updated(root, "a", "b")
    before = held(root)
    if how == "copy":  # as from one disk to another
        shutil.copytree(root / "a", root / "c")
        shutil.rmtree(root / "a")
    else:
        (root / "a").rename(root / "c")
    changes, seen = updated(root, *given)
    assert (seen, changes.added, changes.moved) == ([], 0, 0)
    assert held(root) == {path.replace("a/", "c/"): number for path, number in before.items()}


def test_a_copy_of_a_folder_that_is_there_is_another_one(root: Path) -> None:
    updated(root, "a", "b")
    shutil.copytree(root / "a", root / "c")
    with pytest.raises(GalleryError, match="not of"):
        updated(root, "c")
    changes, seen = updated(root, "a", "c")
    assert (seen, changes.added, changes.unchanged) == ([], 6, 6)
    assert len(held(root)) == 16


def test_a_new_folder_of_an_old_name(root: Path) -> None:
    updated(root, "a", "b")
    before = held(root)
    (root / "a").rename(root / "old")
    for number in range(3):
        picture(root / "a" / f"{number}.png", 60 + number)
    changes, seen = updated(root, "a", "old", "b")
    assert (len(seen), changes.added, changes.unchanged + changes.moved) == (3, 3, 10)
    after = held(root)
    assert {after[path.replace("a/", "old/")] for path in before} == {*before.values()}


# Forgetting


def test_a_folder_is_taken_out(root: Path) -> None:
    os.link(root / "b" / "sub" / "0.png", root / "a" / "z.png")
    updated(root, "b", "a")
    number = held(root)["b/sub/0.png"]
    with Gallery([root / "a", root / "b"], FakeEncoder(), root / "g.sqlite") as both:
        with Gallery(root / "g.sqlite", FakeEncoder()) as gallery:
            assert gallery.forget([root / "b"]) == ([os.fspath(root / "b") + "/"], 3)
            assert gallery.folders == [os.fspath(root / "a")]
            assert gallery.stats().forgotten == []
            assert b"sub/3.png" not in (root / "g.sqlite").read_bytes()
        with pytest.raises(GalleryError, match=f"{root / 'b'} is no folder of the gallery .* forgotten meanwhile"):
            both.update()
    assert held(root)["a/z.png"] == number
    assert {path[0] for path in held(root)} == {"a"}
    assert updated(root, "a") == (Changes(0, 0, 0, 7, []), [])
    with pytest.raises(GalleryError, match=f"is of the folder {root / 'a'}, not of"):
        updated(root, "b")
    changes, seen = updated(root, "a", "b")
    assert (changes.added, changes.names, len(seen)) == (3, 1, 3)
    with (
        Gallery(root / "g.sqlite") as gallery,
        pytest.raises(ValueError, match=r"must lie inside the gallery's folder, .* delete"),
    ):
        gallery.forget([root / "a", root / "b"])


def test_images_are_forgotten_in_their_folder(root: Path) -> None:
    updated(root, "a", "b")
    with Gallery([root / "a", root / "b"], FakeEncoder(), root / "g.sqlite") as gallery:
        with pytest.raises(ValueError, match=f"which may be {root / 'a/sub/0.png'} or {root / 'b/sub/0.png'}"):
            gallery.forget("sub/0.png")
        with pytest.raises(ValueError, match="give its whole path"):
            gallery.forget("sub")
        given = [os.fspath(root / "b" / "sub" / "0.png"), os.fspath(root / "a" / "4.png")]
        assert gallery.forget([root / "b" / "sub" / "0.png", "4.png"]) == (given, 2)
        assert gallery.update().unchanged == 8
        assert gallery.forget(root / "a" / "sub").images == 1
        assert gallery.update().unchanged == 7
        assert sorted(gallery.stats().forgotten) == sorted([*given, os.fspath(root / "a" / "sub") + "/"])
        assert gallery.check().damaged == []
        gallery.forget([root / "b"], undo=True)
        assert gallery.update().added == 1
        gallery.forget([root / "a"], undo=True)
        assert gallery.update().added == 2


# Its encoder, its labels, its file


def test_labels_by_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapt, "neighbourhoods_help", lambda own: Help(True, 0.5, 0.6, 0.01))
    kinds(tmp_path / "a", 4, 8)
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "kind3").rename(tmp_path / "b" / "kind3")
    shutil.copytree(tmp_path / "a" / "kind2", tmp_path / "b" / "kind2")
    with Gallery([tmp_path / "a", tmp_path / "b"], EmbeddingEncoder(), tmp_path / "g.sqlite") as gallery:
        gallery.update()
        assert gallery.fit("folders").images == 40
        csv = ["path,kind", *(f"{path},{Path(path).parent.name}" for path in gallery)]
        (tmp_path / "labels.csv").write_text("\n".join(csv))
        assert gallery.fit(tmp_path / "labels.csv").images == 40


def test_repair(root: Path) -> None:
    updated(root, "a", "b")
    before = held(root)
    execute(root / "g.sqlite", "UPDATE codes SET code = x'0000000000000000' WHERE row IN (2, 8)")
    execute(root / "g.sqlite", "UPDATE images SET folder = 1, path = 'x' || path WHERE id = 9")
    with Gallery(root / "g.sqlite", FakeEncoder()) as gallery:
        assert {os.path.dirname(os.path.relpath(d.path, root)) for d in gallery.check().damaged} >= {"a", "b/sub"}
        assert gallery.check(repair=True).repaired
        assert gallery.check().damaged == []
        gallery.update()
    assert {*held(root)} == {*before}


def test_two_processes_add_folders_at_once(root: Path) -> None:
    updated(root, "a", "b")
    for name in ("c", "d"):
        picture(root / name / "0.png", ord(name))
    one = Gallery([root / "a", root / "c"], FakeEncoder(), root / "g.sqlite")
    two = Gallery([root / "c", root / "d", root / "a"], FakeEncoder(), root / "g.sqlite")
    three = Gallery([root / "b"], FakeEncoder(), root / "g.sqlite")
    (root / "c" / "sub").mkdir()
    inner = Gallery([root / "a", root / "c" / "sub"], FakeEncoder(), root / "g.sqlite")
    with one, two, three, inner:
        assert three.update().unchanged == 4
        assert one.update().added == 1
        assert two.update().added == 1
        for gallery in (one, two, three):
            assert len(gallery) == 12
            assert all(os.path.exists(path) for path in gallery)
            assert len(gallery.folders) == 4
        with pytest.raises(GalleryError, match="lies in"):
            inner.update()
        # A number is not given twice: others may still hold rows of a folder that was taken out.
        before, paths = three._snapshots.now(), [*three]
        three.forget(root / "d")
        assert all(os.path.exists(path) for path in two)
        picture(root / "e" / "0.png", 90)
        updated(root, "a", "e")
        assert len([*two]) == 12
        assert three._names.joined(before, before.index.ids) == paths
        assert {os.path.relpath(path, root) for path in three} == {*held(root)}


def test_two_processes_make_a_gallery_at_once(root: Path) -> None:
    both = Gallery([root / "a", root / "b"], FakeEncoder(), root / "g.sqlite")
    one = Gallery([root / "b"], FakeEncoder(), root / "g.sqlite")
    other = Gallery([root / "a"], FakeEncoder(), root / "g.sqlite")
    with both, one, other:
        assert one.update().added == 4
        assert {*both} == {*one}
        assert both.folders == [os.fspath(root / "b")]
        with pytest.raises(GalleryError, match=f"is of the folder {root / 'b'}, not of {root / 'a'}"):
            other.update()
        changes = both.update()
        assert (changes.added, changes.unchanged) == (6, 4)
        assert both.folders == [os.fspath(root / "a"), os.fspath(root / "b")]
        assert sorted(one) == sorted(both)
    assert held(root)["b/sub/0.png"] == 1


def update_folder(report: Report, root: Path, folder: str) -> None:
    """Update one folder of a gallery, slowly; report how many images are done."""
    with Gallery(root / folder, FakeEncoder(delay=0.01), root / "g.sqlite") as gallery:
        gallery.update(progress=lambda done, total: report(done))


def test_two_processes_index_different_folders_and_are_killed(root: Path) -> None:
    updated(root, "a", "b")
    for number in range(30):
        for folder in "ab":
            picture(root / folder / f"new{number}.png", ord(folder) * 1000 + number)
    with_both = [Child(update_folder, root, folder) for folder in "ab"]
    for child in with_both:
        child.go()
    for child, stop in zip(with_both, (7, 20), strict=True):
        assert stop in child.reports()
        child.kill()
        child.wait()
    again = [Child(update_folder, root, folder) for folder in "ab"]
    for child in again:
        child.go()
    assert [child.wait() for child in again] == [0, 0]
    assert updated(root, "a", "b") == (Changes(0, 0, 0, 70, []), [])
    with Gallery(root / "g.sqlite") as gallery:
        assert gallery.check().damaged == []


def test_a_row_in_a_folder_that_there_is_not_is_damage(root: Path) -> None:
    updated(root, "a", "b")
    execute(root / "g.sqlite", "UPDATE images SET folder = 7 WHERE id = 3")
    with Gallery([root / "a", root / "b"], FakeEncoder(), root / "g.sqlite") as gallery:
        with pytest.raises(GalleryError, match="does not match its checksum"):
            gallery.index  # noqa: B018
        assert gallery.check().damaged
        assert gallery.check(repair=True).repaired
        assert {*gallery} == {os.fspath(path) for path in root.rglob("*.png")}
        assert gallery.folders == [os.fspath(root / "a"), os.fspath(root / "b")]
    assert updated(root, "a", "b") == (Changes(0, 0, 0, 10, []), [])

"""Forgotten images: no trace of them in any file, and no update brings them back, unless that is taken back."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
from children import Child, Report, update_gallery
from galleries import EmbeddingEncoder, FakeEncoder, SeeingEncoder, execute, kinds, photos, picture
from hypothesis import given, settings
from hypothesis import strategies as st

from pyhash import Gallery
from pyhash.errors import GalleryError
from pyhash.gallery import adapt, forgetting, store
from pyhash.ranking import Help


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return photos(tmp_path / "photos")


def inside(gallery: Gallery) -> set[str]:
    return {os.path.relpath(path, gallery.folder) for path in gallery}


def bytes_of(file: Path, path: str) -> dict[str, bytes]:
    """What a gallery's file holds of an image."""
    where = "FROM images JOIN rows ON image = images.id WHERE path = ?)"
    queries = {
        "digest": f"SELECT digest FROM images WHERE id = (SELECT images.id {where}",
        "code": f"SELECT code FROM codes WHERE row = (SELECT rows.id {where}",
        "vector": f"SELECT vector FROM embeddings WHERE row = (SELECT rows.id {where}",
        "grey": f"SELECT grey FROM looks WHERE image = (SELECT images.id {where}",
        "thumbnail": f"SELECT thumbnail FROM thumbnails WHERE image = (SELECT images.id {where}",
    }
    with closing(sqlite3.connect(file)) as db:
        return {name: db.execute(query, (path.encode(),)).fetchone()[0] for name, query in queries.items()}


def everything(file: Path) -> bytes:
    """All bytes of all files of a gallery."""
    return b"\n".join(part.read_bytes() for part in sorted(file.parent.iterdir()))


@pytest.mark.parametrize("earlier", [False, True])
def test_nothing_remains_and_nothing_comes_back(folder: Path, earlier: bool) -> None:
    for number in range(100):
        picture(folder / "more" / f"number{number:03}.png", 100 + number)
    with Gallery(folder, SeeingEncoder(), adapt=False) as gallery, Gallery(folder) as other:
        if earlier:  # pyhashes left what they deleted where it lay
            gallery._file._db.execute("PRAGMA secure_delete = OFF")
        gallery.update()
        before = bytes_of(gallery.file, "more/number007.png")
        picture(folder / "more" / "number007.png", 999)  # what was made of it until now may lie in free space
        gallery.update()
        held = bytes_of(gallery.file, "more/number007.png")
        parts = [value[n : n + 8] for value in (*before.values(), *held.values()) for n in range(0, len(value), 8)]
        rare = {part for part in parts if len({*part}) > 5}  # not the zeros of a look
        assert {value[:64] in everything(gallery.file) for value in held.values()} == {True}
        assert len(other) == 106
        assert gallery.forget(folder / "more" / "number007.png") == (["more/number007.png"], 1)
        everywhere = everything(gallery.file)
        assert [part for part in rare if part in everywhere] == []
        assert gallery.update().added == 0
        for one in (gallery, other):
            assert "more/number007.png" not in inside(one)
            assert len(one) == 105
        assert [number for _, number, *_ in gallery.search(folder / "more" / "number007.png", 400)]  # the file is left


def test_a_subfolder_leaves_not_even_names(folder: Path) -> None:
    with Gallery(folder, FakeEncoder()) as gallery:
        gallery.update()
        assert gallery.forget(folder / "sub") == (["sub/"], 3)
        assert inside(gallery) == {"a.png", "b.PNG", "z.webp"}
        assert b"c.png" not in everything(gallery.file)
        assert b"sub/deep" not in everything(gallery.file)
        picture(folder / "sub" / "new.png", 70)
        picture(folder / "sub.png", 71)
        picture(folder / "subway" / "new.png", 72)
        assert gallery.update().added == 2
        assert inside(gallery) == {"a.png", "b.PNG", "z.webp", "sub.png", "subway/new.png"}
        (folder / "sub" / "bad.png").write_text("no image")
        assert gallery.update().failed == []


def test_how_paths_are_given(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder.parent / "link.png").symlink_to(folder / "a.png")
    monkeypatch.chdir(folder.parent)
    with Gallery("photos", FakeEncoder()) as gallery:
        gallery.update()
        given = ["link.png", "photos/b.PNG", "sub/c.png", os.fspath(folder / "sub" / "deep") + "/"]
        assert gallery.forget(given).paths == ["a.png", "b.PNG", "sub/c.png", "sub/deep/"]
        assert inside(gallery) == {"sub/e.jpeg", "z.webp"}
        assert gallery.forget("a.png") == (["a.png"], 0)  # again
        picture(folder / "coming.png")
        assert gallery.forget("coming.png") == (["coming.png"], 0)  # before it was ever taken in
        for wrong in ("nothing.png", "../link.png", "link.pn", folder.parent, "/etc/passwd"):
            with pytest.raises(
                ValueError, match=f"paths must name images or subfolders .* of {re.escape(os.fspath(gallery.folder))}"
            ):
                gallery.forget(["z.webp", wrong])
        for root in (folder, ".", "photos"):
            with pytest.raises(ValueError, match=r"must lie inside the gallery's folder, .* delete"):
                gallery.forget(root)
        assert gallery.update().added == 0
        assert inside(gallery) == {"sub/e.jpeg", "z.webp"}


def test_taken_back(folder: Path) -> None:
    with Gallery(folder, FakeEncoder()) as gallery:
        gallery.update()
        gallery.forget([folder / "a.png", folder / "sub" / "deep" / "d.png", folder / "sub"])
        with pytest.raises(ValueError, match=r"b\.PNG: it was not forgotten"):
            gallery.forget(["a.png", "b.PNG"], undo=True)
        with pytest.raises(ValueError, match=r"c\.png: it was forgotten with sub/: take that back"):
            gallery.forget("sub/c.png", undo=True)
        assert gallery.stats().forgotten == ["a.png", "sub/"]
        assert gallery.forget("a.png", undo=True) == (["a.png"], 0)
        assert gallery.update().added == 1
        assert gallery.forget(folder, undo=True) == (["sub/"], 0)
        assert gallery.update().added == 3
        assert gallery.stats().forgotten == []


def test_other_names_of_the_same_file(folder: Path) -> None:
    with Gallery(folder, FakeEncoder()) as gallery:
        gallery.update()
        number = gallery.id_of("a.png")
        os.link(folder / "a.png", folder / "twin.png")
        execute(gallery.file, "INSERT INTO names VALUES (1, ?, ?)", (b"twin.png", number))
        assert gallery.forget("twin.png").images == 1
        assert gallery.stats().forgotten == ["a.png", "twin.png"]
        assert gallery.update().added == 0


def test_neighbours_no_longer_name_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left is what an update makes where the files have gone."""
    monkeypatch.setattr(adapt, "neighbourhoods_help", lambda own: Help(True, 0.5, 0.6, 0.01))
    folder = kinds(tmp_path / "photos", 6, 20)
    with Gallery(folder, EmbeddingEncoder()) as gallery:
        gallery.update()
        shutil.copytree(folder, tmp_path / "other")
        gallery.forget([f"kind2/{number:03}.png" for number in range(5)])
        gone = {*range(1, 121)} - {*gallery.index.ids.tolist()}
        assert len(gone) == 5
        with gallery._file.reading():
            assert not {*gallery._file.vectors.neighbours().near.ravel().tolist()} & gone
        for number in range(5):
            (tmp_path / "other" / "kind2" / f"{number:03}.png").unlink()
        with Gallery(tmp_path / "other", EmbeddingEncoder()) as expected:
            expected.update()
            queries = [folder / "kind2" / "007.png", folder / "kind2" / "001.png", folder / "kind5" / "003.png"]
            for found, right in zip(gallery.search(queries), expected.search(queries), strict=True):
                assert [match[1:] for match in found] == [match[1:] for match in right]


PATHS = ["a.png", "b/a.png", "b/c/a.png", "b/c/d.png", "b.png", "bc/a.png", "zé/a.png"]
FOLDERS = ["b", "b/c", "bc", "zé"]


@settings(max_examples=25)
@given(st.lists(st.tuples(st.sampled_from(["forget", "undo", "update"]), st.sampled_from(PATHS + FOLDERS)), max_size=8))
def test_any_order(steps: list[tuple[str, str]]) -> None:
    """The model: a set of marks, each for a path and what lies under it."""
    folder = Path(tempfile.mkdtemp())
    try:
        for number, path in enumerate(PATHS):
            picture(folder / path, number)
        marks: set[str] = set()
        with Gallery(folder, FakeEncoder()) as gallery:
            gallery.update()
            there = {*PATHS}
            for step, path in steps:
                under = {mark for mark in marks if mark == path or mark.startswith(path + "/")}
                covered = any(path == mark or path.startswith(mark + "/") for mark in marks)
                if step == "update":
                    gallery.update()
                    there = {p for p in PATHS if not any(p == m or p.startswith(m + "/") for m in marks)}
                elif step == "forget":
                    gallery.forget(path)
                    marks = marks if covered else (marks - under) | {path}
                    there = {p for p in there if not (p == path or p.startswith(path + "/"))}
                elif under:
                    gallery.forget(path, undo=True)
                    marks -= under
                else:
                    with pytest.raises(ValueError, match="paths must be what was forgotten"):
                        gallery.forget(path, undo=True)
                assert inside(gallery) == there
                assert {mark.rstrip("/") for mark in gallery.stats().forgotten} == marks
                with gallery._file.reading():
                    assert gallery._file.forgotten.is_whole()
    finally:
        shutil.rmtree(folder)


def test_forgotten_while_another_process_takes_it_in(folder: Path) -> None:
    """It had walked the folder before."""
    for number in range(10):
        picture(folder / f"{number}.png", number)
    with Gallery(folder, FakeEncoder()) as gallery, Gallery(folder, FakeEncoder()) as other:
        gallery.update(progress=lambda done, total: other.forget("9.png") if done == 0 else None)
        assert gallery.id_of("9.png") is None
        assert len(gallery) == 15


def forget_and_die(report: Report, folder: Path, step: str) -> None:
    """Forget a picture, and end in the middle."""
    with pytest.MonkeyPatch.context() as patch:
        where = store.GalleryFile if step == "clean" else forgetting
        patch.setattr(where, step, lambda *_, **__: os._exit(7))
        with Gallery(folder, FakeEncoder()) as gallery:
            gallery.forget("sub/c.png")


@pytest.mark.parametrize("step", ["settle", "clean"])
def test_killed_before_the_file_was_cleaned(folder: Path, step: str) -> None:
    with Gallery(folder, FakeEncoder()) as gallery:
        gallery.update()
    child = Child(forget_and_die, folder, step)
    child.go()
    assert child.wait() == 7
    with Gallery(folder, FakeEncoder()) as gallery:
        assert gallery.update().added == 0
        with gallery._file.reading():
            assert gallery._file.forgotten.has_traces()
        gallery.forget("sub/c.png")
        with gallery._file.reading():
            assert not gallery._file.forgotten.has_traces()


def test_a_failure_forgets_nothing_or_says_that_traces_remain(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Gallery(folder, FakeEncoder()) as gallery:
        gallery.update()

        def full(*_: object) -> None:
            raise sqlite3.OperationalError("database or disk is full")

        with monkeypatch.context() as patch:
            patch.setattr(store.GalleryFile, "remove", full)
            with pytest.raises(GalleryError):
                gallery.forget("a.png")
        assert gallery.stats().forgotten == []
        assert len(gallery) == 6
        with closing(sqlite3.connect(gallery.file, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM images").fetchone()
            gallery._file._db.execute("PRAGMA busy_timeout = 50")
            with pytest.raises(GalleryError, match=r"forgotten, but traces .* read by another process"):
                gallery.forget("a.png")
        assert len(gallery) == 5
        gallery.forget("a.png")
        assert len(everything(gallery.file)) < 200_000
        with gallery._file.reading():
            assert not gallery._file.forgotten.has_traces()


def test_two_processes(tmp_path: Path) -> None:
    """What is forgotten while another process encodes stays away, whichever was first."""
    folder = tmp_path / "photos"
    for number in range(150):
        picture(folder / f"{number % 3}" / f"{number:03}.png", number)
    Gallery(folder, FakeEncoder()).close()
    child = Child(update_gallery, folder, 0.003)
    child.go()
    with Gallery(folder, FakeEncoder()) as gallery:
        reports = child.reports()
        for done in reports:
            if done == 70:
                break
        gallery.forget("1")
        assert [*reports][-1] == 150
        assert child.wait() == 0
        assert len(gallery) == 100
        assert not [path for path in gallery if os.path.dirname(path).endswith("1")]
        assert gallery.check().damaged == []


def forget_on_a_full_disk(report: Report, folder: Path) -> None:
    import resource

    with Gallery(folder, FakeEncoder()) as gallery:
        resource.setrlimit(resource.RLIMIT_FSIZE, (gallery.file.stat().st_size - 8192,) * 2)
        try:
            gallery.forget("sub")
        except GalleryError as error:
            report("the images are forgotten, but traces" in str(error))


@pytest.mark.skipif(os.name == "nt", reason="sets a limit that Windows does not have")
def test_a_disk_too_full_to_write_the_file_anew(folder: Path) -> None:
    for number in range(300):
        picture(folder / "more" / f"{number:03}.png", number % 5)
    with Gallery(folder, FakeEncoder()) as gallery:
        gallery.update()
    child = Child(forget_on_a_full_disk, folder)
    child.go()
    assert [*child.reports()] == [True]
    assert child.wait() == 0
    with Gallery(folder, FakeEncoder()) as gallery:
        assert len(gallery) == 303
        assert gallery.check().traces
        assert gallery.check().damaged == []
        gallery.check(repair=True)
        assert not gallery.check().traces
        assert b"sub/deep" not in everything(gallery.file)

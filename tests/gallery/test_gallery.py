"""Galleries: what is found, and what is encoded again."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from galleries import FakeEncoder, photos, picture, rows

import pyhash
from pyhash.errors import GalleryError, GalleryMismatchError
from pyhash.gallery import Changes, Gallery, Match, encoders, update


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return photos(tmp_path / "photos")


def names(matches: list[Match], folder: Path) -> list[str]:
    return [Path(match.path).relative_to(folder).as_posix() for match in matches]


def touch(path: Path, seconds: int = 5) -> None:
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + seconds * 10**9))


# Searching


def test_finds_itself_first(folder: Path) -> None:
    with Gallery.open(folder, FakeEncoder()) as pictures:
        changes = pictures.update()
        assert (changes.added, changes.changed, changes.removed, changes.unchanged) == (6, 0, 0, 0)
        assert changes.failed == []
        assert len(pictures) == 6
        assert pictures.file == folder / ".pyhash" / "gallery.sqlite"
        for path in [folder / "a.png", folder / "sub" / "deep" / "d.png"]:
            found = pictures.search(path, k=3)
            assert found[0].path == os.fspath(path)
            assert found[0].distance == 0
            assert found[0].id == pictures.id_of(path)
            assert [m.distance for m in found] == sorted(m.distance for m in found)


def test_same_as_brute_force(folder: Path) -> None:
    encoder = FakeEncoder()
    for number in range(40):
        picture(folder / f"more/{number}.png", 100 + number % 30)
    with Gallery.open(folder, encoder) as pictures:
        pictures.update()
        stored = [(number, np.frombuffer(code, np.uint8)) for number, _, _, _, code, _ in rows(pictures.file)]
        queries = [folder / "a.png", folder / "more" / "7.png"]
        for level, part in [(None, slice(None)), ("coarse", slice(0, 2)), ("fine", slice(2, 8))]:
            answers = pictures.search(queries, k=9, level=level)
            for query, answer in zip(encoder.encode(queries), answers, strict=True):
                bits = sorted(
                    (int(np.bitwise_count(code[part] ^ query[part]).sum()), number) for number, code in stored
                )
                assert [(m.distance, m.id) for m in answer] == bits[:9]
        weighted = pictures.search(queries[0], k=4, weights={"coarse": 3, "fine": 1})
        assert weighted[0].distance == 0
        cascade = pictures.search(queries[0], k=4, cascade=("coarse", 46))
        assert cascade == pictures.search(queries[0], k=4)


def test_one_query_or_many(folder: Path) -> None:
    with Gallery.open(folder, FakeEncoder()) as pictures:
        pictures.update()
        one = pictures.search(folder / "a.png", k=2)
        assert pictures.search([folder / "a.png"], k=2) == [one]
        assert pictures.search([], k=2) == []
        assert len(pictures.search(folder / "a.png", k=10**9)) == 6


def test_exclude(folder: Path) -> None:
    encoder = FakeEncoder()
    with Gallery.open(folder, encoder) as pictures:
        pictures.update()
        a, b = folder / "a.png", folder / "b.PNG"
        codes = encoder.encode([a, b])
        whole = pictures.search_codes(codes, 6)
        answers = pictures.search_codes(codes, 3, exclude=[pictures.id_of(a), None])
        assert answers == [whole[0][1:4], whole[1][:3]]
        with pytest.raises(ValueError, match="k must be at least 1, got 0"):
            pictures.search_codes(codes, 0, exclude=[1, 2])


def test_where(folder: Path) -> None:
    a, b, c = folder / "a.png", folder / "b.PNG", folder / "sub" / "c.png"
    with Gallery(folder, FakeEncoder()) as pictures:
        pictures.update()
        ids = [pictures.id_of(b), pictures.id_of(c)]
        expected = [match for match in pictures.search(a) if match.id in ids]
        assert len(expected) == 2
        for where in (
            [b, c],
            ["b.PNG", os.fspath(c)],
            iter([b, c]),
            ids,
            np.array(ids),
            np.isin(pictures.index.ids, ids),
        ):
            assert pictures.search(a, where=where) == expected
        assert pictures.search([a, b], where=[a, b], exclude=[a, b], k=3) == [
            pictures.search(a, where=[b]),
            pictures.search(b, where=[a]),
        ]
        assert pictures.search(a, 3, exclude=a) == pictures.search(a, 4)[1:]
        assert pictures.search(a, where=[]) == []
        under = [match for match in pictures.search(a) if "sub" in Path(match.path).parts]
        assert len(under) == 3
        for where in ([folder / "sub"], ["sub"], ["sub/"], ["sub", c], [folder / "sub" / "deep", c, "sub/e.jpeg"]):
            assert pictures.search(a, where=where) == under
        assert pictures.search(a, where=[folder]) == pictures.search(a)
        with pytest.raises(ValueError, match=r"where must name images .* or folders of them, but .*nowhere\.png"):
            pictures.search(a, where=[b, folder / "nowhere.png"])
        with pytest.raises(TypeError, match="where must be a sequence"):
            pictures.search(a, where=os.fspath(b))


def test_the_index_cannot_be_changed(folder: Path) -> None:
    with Gallery(folder, FakeEncoder()) as pictures:
        pictures.update()
        index, before = pictures.index, pictures.search(folder / "a.png")
        for change in (
            lambda: index.remove(index.ids[:3]),
            lambda: index.update(index.ids[:1], np.zeros((1, 8), np.uint8)),
            lambda: index.add(np.zeros((1, 8), np.uint8)),
        ):
            with pytest.raises(ValueError, match="is a snapshot and read-only"):
                change()
        assert pictures.search(folder / "a.png") == before
        (folder / "b.PNG").unlink()
        pictures.update()
        assert len(index) == 6  # as it was
        assert len(pictures.index) == 5


def test_bad_arguments(folder: Path) -> None:
    with Gallery.open(folder, FakeEncoder()) as pictures:
        pictures.update()
        with pytest.raises(ValueError, match="k must be at least 1, got 0"):
            pictures.search(folder / "a.png", k=0)
        with pytest.raises(ValueError, match=r"level must name .*'middle'"):
            pictures.search(folder / "a.png", level="middle")
        with pytest.raises(pyhash.ImageError, match=r"notes\.txt"):
            pictures.search(folder / "notes.txt")
        with pytest.raises(KeyError, match="no image 99"):
            pictures.path(99)
        assert len(pictures.search(folder / "a.png")) == 6


def test_empty_gallery(tmp_path: Path) -> None:
    picture(tmp_path / "query.png")
    folder = tmp_path / "empty"
    folder.mkdir()
    with Gallery.open(folder, FakeEncoder()) as pictures:
        for ask in (lambda: pictures.search(tmp_path / "query.png"), pictures.duplicates):
            with pytest.raises(GalleryError, match=r"has no codes yet: fill it with update\(\)"):
                ask()
        assert pictures.stats().fingerprint is None
        assert pictures.update() == Changes(0, 0, 0, 0, [])
        assert pictures.search(tmp_path / "query.png") == []
        assert pictures.stats().fingerprint == "f" * 16
        assert pictures.stats().levels == {"coarse": 16, "fine": 48}
    with Gallery.open(folder) as pictures:
        assert pictures.duplicates().groups == ()


def test_missing_gallery_and_folder(tmp_path: Path) -> None:
    with pytest.raises(GalleryError, match=r"no gallery .*pyhash index"):
        Gallery.open(tmp_path, FakeEncoder(), create=False)
    assert not (tmp_path / ".pyhash").exists()
    for file in (None, tmp_path / "g.sqlite"):
        with pytest.raises(GalleryError, match=r"there is no folder .*gone; is its name right, and its disk there"):
            Gallery.open(tmp_path / "gone", FakeEncoder(), file)
    assert not any(tmp_path.iterdir())  # a mistyped name makes no folder
    (tmp_path / "gone").mkdir()
    Gallery.open(tmp_path / "gone", FakeEncoder(), tmp_path / "g.sqlite").close()
    (tmp_path / "gone").rmdir()
    with (
        Gallery.open(tmp_path / "gone", FakeEncoder(), tmp_path / "g.sqlite") as pictures,
        pytest.raises(GalleryError, match="gone cannot be read: No such file"),
    ):
        pictures.update()


def test_a_gallery_as_a_container(folder: Path) -> None:
    (folder / "broken.png").write_text("no picture")
    with Gallery.open(folder, FakeEncoder()) as pictures:
        assert list(pictures) == []
        pictures.update()
        assert len(list(pictures)) == len(pictures) == 6
        assert all(path in pictures and Path(path) in pictures for path in pictures)
        assert {Path(path).parent.resolve() for path in pictures} <= {folder.resolve(), *(folder.resolve().rglob("*"))}
        for other in (folder / "none.png", folder / "broken.png", 7, None):
            assert other not in pictures
        assert repr(pictures) == f"<pyhash.Gallery {os.fspath(folder)!r}, 6 images>"
        assert pictures.levels == FakeEncoder().levels
        encoder = FakeEncoder()
        for path in (folder / "a.png", "sub/c.png", os.fspath(folder / "z.webp")):
            assert pictures[path].tolist() == encoder.encode(folder / path).tolist()
        for other in (folder / "none.png", "broken.png"):
            with pytest.raises(KeyError, match="the gallery has no code of"):
                pictures[other]
    assert "is closed" in repr(pictures)


def test_another_file(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "new" / "place.sqlite"
    with Gallery.open(folder, FakeEncoder(), file) as pictures:
        pictures.update()
        assert pictures.file == file
    assert not (folder / ".pyhash").exists()
    with Gallery.open(folder, file=file) as pictures:
        assert len(pictures) == 6


# Keeping up with the folder


def test_only_what_changed_is_encoded(folder: Path) -> None:
    with Gallery.open(folder, FakeEncoder()) as pictures:
        pictures.update()
        ids = {name: pictures.id_of(folder / name) for name in ["a.png", "b.PNG", "sub/c.png", "z.webp"]}
    encoder = FakeEncoder()
    with Gallery.open(folder, encoder) as pictures:
        assert pictures.update() == Changes(0, 0, 0, 6, [])
        assert encoder.seen == []
        picture(folder / "a.png", 77, size=(40, 40))
        touch(folder / "b.PNG")
        (folder / "sub" / "c.png").unlink()
        (folder / "z.webp").rename(folder / "y.webp")
        picture(folder / "new.png", 78)
        assert pictures.update() == Changes(added=1, changed=1, removed=1, unchanged=3, failed=[], moved=1)
        assert sorted(Path(p).name for p in encoder.seen) == ["a.png", "new.png"]
        assert pictures.search(folder / "a.png", k=1)[0].id == ids["a.png"]  # an id stays with its path
        assert pictures.id_of(folder / "b.PNG") == ids["b.PNG"]
        assert pictures.id_of(folder / "sub" / "c.png") is None
        assert pictures.id_of(folder / "y.webp") == ids["z.webp"]  # and with the image
        assert len(pictures) == 6
        assert pictures.update() == Changes(0, 0, 0, 6, [])


@pytest.mark.parametrize("name", ["linked.png", "sub/linked.png"])
def test_paths_with_links(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    picture(tmp_path / "elsewhere" / "far.png", 5)
    (folder / name).symlink_to(tmp_path / "elsewhere" / "far.png")
    (tmp_path / "way").symlink_to(folder, target_is_directory=True)
    (tmp_path / "shortcut.png").symlink_to(folder / "a.png")
    with Gallery(tmp_path / "way", FakeEncoder()) as pictures:
        pictures.update()
        assert all(path in pictures for path in pictures)
        assert len({pictures.id_of(path) for path in pictures}) == 7
        link = pictures.id_of(name)
        assert link is not None
        assert pictures.id_of(folder / name) == pictures.id_of(tmp_path / "way" / name) == link
        assert pictures.id_of(tmp_path / "elsewhere" / "far.png") is None
        assert pictures.id_of(tmp_path / "shortcut.png") == pictures.id_of("a.png")
        monkeypatch.chdir(folder / "sub")
        assert pictures.id_of("e.jpeg") == pictures.id_of("../sub/e.jpeg") == pictures.id_of("sub/e.jpeg")
        assert pictures.id_of("../a.png") == pictures.id_of("a.png")


def test_ids_are_never_given_again(folder: Path) -> None:
    with Gallery.open(folder, FakeEncoder()) as pictures:
        pictures.update()
        last = max(pictures.index.ids)
        Path(pictures.path(last)).unlink()
        pictures.update()
        picture(folder / "new.png", 50)
        pictures.update()
        assert pictures.id_of(folder / "new.png") == last + 1


def test_what_counts_as_a_picture(folder: Path, tmp_path: Path) -> None:
    encoder = FakeEncoder()
    for name in [".hidden.png", ".dir/x.png", "sub/.pyhash/y.png", "picture.jpg/inside.png"]:
        picture(folder / name)
    for name in ["1.JPG", "2.Tiff", "3.gif", "4.bmp", "5.jfif", "6.tif"]:
        picture(folder / name)
    picture(folder / "no-suffix")  # it is what it holds
    (folder / "no-image").write_text("a note")
    picture(tmp_path / "elsewhere" / "far.png", 5)
    (folder / "link.png").symlink_to(tmp_path / "elsewhere" / "far.png")
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    (folder / "sub" / "loop.png").symlink_to(folder, target_is_directory=True)
    (folder / "dangling.png").symlink_to(folder / "nowhere.png")
    os.mkfifo(folder / "pipe.png")
    with Gallery.open(folder, encoder) as pictures:
        changes = pictures.update()
        assert changes.added == 6 + 6 + 1 + 1 + 1
        assert changes.failed == [
            (os.fspath(folder / "dangling.png"), "a link to a file that does not exist"),
            (os.fspath(folder / "pipe.png"), "not a regular file"),
        ]
        relative = [Path(p).relative_to(folder).as_posix() for p in encoder.seen]
        assert relative == [
            *["1.JPG", "2.Tiff", "3.gif", "4.bmp", "5.jfif", "6.tif", "a.png", "b.PNG", "link.png"],
            *["no-suffix", "z.webp"],
            *["picture.jpg/inside.png", "sub/c.png", "sub/e.jpeg", "sub/deep/d.png"],
        ]


def test_bad_pictures_are_remembered(folder: Path) -> None:
    (folder / "text.jpg").write_text("hello")
    (folder / "zero.png").touch()
    (folder / "sub" / "cut.png").write_bytes((folder / "a.png").read_bytes()[:60])
    encoder = FakeEncoder()
    with Gallery.open(folder, encoder) as pictures:
        changes = pictures.update()
        bad = [os.fspath(folder / name) for name in ["sub/cut.png", "text.jpg", "zero.png"]]
        assert changes.added == 6
        assert [failure.path for failure in changes.failed] == bad
        assert all(failure.reason for failure in changes.failed)
        assert pictures.stats().failed == 3
        encoder.seen.clear()
        assert pictures.update() == Changes(0, 0, 0, 6, changes.failed)
        assert encoder.seen == []
        picture(folder / "text.jpg")
        (folder / "zero.png").unlink()
        again = pictures.update()
        assert (again.changed, again.removed, again.unchanged) == (1, 1, 6)
        assert [failure.path for failure in again.failed] == bad[:1]
        picture(folder / "a.png", 3, size=(64, 64))
        (folder / "a.png").write_bytes(b"bad now")
        assert [failure.path for failure in pictures.update().failed] == [
            os.fspath(folder / "a.png"),
            *bad[:1],
        ]
        assert len(pictures) == 6
        assert os.fspath(folder / "a.png") not in [m.path for m in pictures.search(folder / "b.PNG")]


def test_unreadable_is_tried_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "locked.png").write_text("pretend that this may not be read")
    encoder = FakeEncoder()
    with Gallery.open(folder, encoder) as pictures:
        with monkeypatch.context() as patch:
            patch.setattr(update, "_can_be_read", lambda path: False)
            assert len(pictures.update().failed) == 1
        encoder.seen.clear()
        assert len(pictures.update().failed) == 1
        assert encoder.seen == [os.fspath(folder / "locked.png")]
        assert len(pictures.update().failed) == 1
        assert len(encoder.seen) == 1  # this time the content was at fault
    assert update._can_be_read(os.fspath(folder / "a.png"))
    assert not update._can_be_read(os.fspath(folder / "gone.png"))


def test_out_of_sight_is_not_gone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Gallery.open(folder, FakeEncoder()) as pictures:
        pictures.update()
        scandir = os.scandir

        def refuse(path: str) -> Any:
            if os.fspath(path).rstrip("/").endswith("sub"):
                raise PermissionError(13, "Permission denied", path)
            return scandir(path)

        (folder / "z.webp").unlink()
        with monkeypatch.context() as patch:
            patch.setattr(os, "scandir", refuse)
            changes = pictures.update()
        assert (changes.removed, changes.unchanged) == (1, 2)
        assert [failure.reason for failure in changes.failed] == ["cannot list this folder: Permission denied"]
        assert len(pictures) == 5
        assert pictures.update() == Changes(0, 0, 0, 5, [])


WEIRD = [
    b"new\nline.png",
    b"tab\tand \x1b[31mcolour.png",
    "ünïcödé 猫 🐈.png".encode(),
    "e\u0301.png".encode(),
    "\u00e9.png".encode(),
    b"bytes\xff\xfe.png",
    b"quote'\"`;--.png",
    b"<b>&amp;.png",
    b" space .png",
    b"-dash.png",
    b"percent%20#?.png",
    b"back\\slash.png",
    b"a" * 251 + b".png",
    b"dir\xe9/in\xff.png",
]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux takes any bytes as a name")
def test_weird_names(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"root\xff ?#%")
    paths = [folder / os.fsdecode(name) for name in WEIRD]
    for number, path in enumerate(paths):
        picture(path, number)
    with Gallery.open(folder, FakeEncoder()) as pictures:
        assert pictures.update().added == len(WEIRD)
        assert pictures.update().unchanged == len(WEIRD)
        for path in paths:
            assert path.exists()
            best = pictures.search(path, k=1)[0]
            assert (best.path, best.distance, best.id) == (os.fspath(path), 0, pictures.id_of(path))
        assert {row[1] for row in rows(pictures.file)} == set(WEIRD)


def test_progress(folder: Path) -> None:
    calls: list[tuple[int, int]] = []
    with Gallery.open(folder, FakeEncoder()) as pictures:
        pictures.update(progress=lambda done, total: calls.append((done, total)))
        assert calls == [(done, 6) for done in range(7)]
        calls.clear()
        pictures.update(progress=lambda done, total: calls.append((done, total)))
        assert calls == [(0, 0)]


# Near-duplicates


# Whose codes


def test_another_encoder_is_refused(folder: Path) -> None:
    with Gallery.open(folder, FakeEncoder("1111", "one")) as pictures:
        pictures.update()
        before = rows(pictures.file)
    other = FakeEncoder("2222", "two")
    with pytest.raises(GalleryMismatchError, match=r"'one' with fingerprint 1111.*'two' with fingerprint 2222") as info:
        Gallery.open(folder, other)
    assert "--encoder" in str(info.value)
    assert "--rebuild" in str(info.value)
    assert info.type is pyhash.GalleryMismatchError
    assert rows(folder / ".pyhash" / "gallery.sqlite") == before
    with Gallery.open(folder, other, rebuild=True) as pictures:
        assert len(pictures) == 0
        assert pictures.update() == Changes(0, 6, 0, 0, [])
        assert pictures.stats().fingerprint == "2222"
        assert [row[:2] for row in rows(pictures.file)] == [row[:2] for row in before]  # ids stay
    for stranger in (FakeEncoder("1111", "one"), FakeEncoder("1111", "two")):
        with pytest.raises(GalleryMismatchError):
            Gallery.open(folder, stranger)
    Gallery.open(folder, FakeEncoder("2222", "renamed")).close()  # the same codes under another name


def test_duplicates_need_no_encoder(folder: Path) -> None:
    shutil.copy(folder / "a.png", folder / "copy.png")
    with Gallery.open(folder, FakeEncoder()) as pictures:
        pictures.update()
    with Gallery.open(folder) as pictures:
        (group,) = pictures.duplicates().groups
        assert [os.path.relpath(copy.path, folder) for copy in group.images] == ["a.png", "copy.png"]


def test_default_encoder_is_checked_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Gallery.open(folder, FakeEncoder("1111", "one")) as pictures:
        pictures.update()
    monkeypatch.setattr(encoders, "_open_encoder", lambda model, arguments: FakeEncoder("2222", "two"))
    with Gallery.open(folder) as pictures:
        for _ in range(2):
            with pytest.raises(GalleryMismatchError):
                pictures.search(folder / "a.png")
            with pytest.raises(GalleryMismatchError):
                pictures.update()
    with Gallery.open(folder, rebuild=True) as pictures:
        assert pictures.update().changed == 6


def test_rebuilt_while_indexing(folder: Path) -> None:
    for number in range(80):
        picture(folder / f"{number}.png", number)

    def interfere(done: int, total: int) -> None:
        if done == 10:
            Gallery.open(folder, FakeEncoder("2222", "two"), rebuild=True).close()

    with Gallery.open(folder, FakeEncoder("1111", "one")) as pictures:
        with pytest.raises(GalleryMismatchError):
            pictures.update(progress=interfere)
        with pytest.raises(GalleryMismatchError):
            pictures.update()
    assert all(row[4] is None for row in rows(folder / ".pyhash" / "gallery.sqlite"))

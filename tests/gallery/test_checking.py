"""Damaged galleries: what is damaged is found and named, and made again; nothing of the user's is lost on the way."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from children import Child, Report, update_gallery
from galleries import EmbeddingEncoder, FakeEncoder, SeeingEncoder, execute, kinds, photos, picture, rows
from tuning import tune

from pyhash import Gallery
from pyhash.errors import GalleryError
from pyhash.gallery import Damage, adapt, recover, seal
from pyhash.ranking import Help

KINDS = ["images", "codes", "embeddings", "neighbours", "looks", "thumbnails"]


@pytest.fixture(autouse=True)
def _adapts_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapt, "neighbourhoods_help", lambda own: Help(True, 0.5, 0.6, 0.01))
    tune(monkeypatch, few_images=30)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A gallery with a fitted head, and something forgotten."""
    folder = kinds(tmp_path / "photos", 4, 9)
    picture(folder / "secret" / "one.png", 500)
    with Gallery(folder, SeeingEncoder()) as gallery:
        gallery.forget("secret")
        gallery.update()
    return folder


def file_of(folder: Path) -> Path:
    return folder / ".pyhash" / "gallery.sqlite"


def answers(gallery: Gallery) -> Any:
    queries = [os.path.join(gallery.folder, path) for path in ("kind0/003.png", "kind2/001.png", "kind3/008.png")]
    both = (gallery.search(queries, 50), gallery.search(queries, 50, level="coarse", rescore=False))
    found = [[[(match.path, match.distance, match.similarity) for match in one] for one in each] for each in both]
    return found, sorted(gallery), gallery.stats().forgotten


def expected(folder: Path) -> Any:
    with Gallery(folder, SeeingEncoder()) as gallery:
        assert gallery.stats().fitted_on == 36
        return answers(gallery)


def test_a_whole_gallery(folder: Path) -> None:
    with Gallery(folder, SeeingEncoder()) as gallery:
        for repair in (False, True):
            checked = gallery.check(repair=repair)
            assert checked.damaged == []
            assert checked.checked == dict.fromkeys(KINDS, 36) | {"parts": 0}
            assert (checked.waiting, checked.traces, checked.away, checked.kept) == (0, False, [], None)
    with Gallery(folder.parent, FakeEncoder()) as gallery:  # without embeddings
        gallery.update()
        assert gallery.check().checked["codes"] == 37
        assert gallery.check().damaged == []
    with Gallery(photos(folder / "other"), FakeEncoder()) as gallery:  # never filled
        assert gallery.check().damaged == []


IMAGE = "kind1/004.png"
ROW = f"(SELECT id FROM images WHERE path = CAST('{IMAGE}' AS BLOB))"


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        (f"UPDATE codes SET code = zeroblob(8) WHERE row = {ROW}", "code"),
        (f"UPDATE codes SET code = code || x'00' WHERE row = {ROW}", "code"),
        (f"UPDATE codes SET code = 'abcdefgh' WHERE row = {ROW}", "code"),
        (f"UPDATE codes SET checksum = checksum + 1 WHERE row = {ROW}", "code"),
        (f"UPDATE embeddings SET vector = zeroblob(48) WHERE row = {ROW}", "embedding"),
        (f"UPDATE embeddings SET norm = norm * 2 WHERE row = {ROW}", "embedding"),
        (f"UPDATE neighbours SET ids = zeroblob(80) WHERE row = {ROW}", "neighbours"),
        (f"UPDATE neighbours SET weights = x'' WHERE row = {ROW}", "neighbours"),
        (f"UPDATE looks SET grey = zeroblob(1024) WHERE image = {ROW}", "look"),
        (f"UPDATE thumbnails SET thumbnail = x'00' WHERE image = {ROW}", "thumbnail"),
        (f"DELETE FROM rows WHERE id = {ROW}", "row"),
        (f"UPDATE rows SET part = 'whqle' WHERE id = {ROW}", "row"),
    ],
)
def test_what_belongs_to_an_image(folder: Path, statement: str, what: str) -> None:
    right = expected(folder)
    with closing(sqlite3.connect(file_of(folder), isolation_level=None)) as db:
        db.execute("PRAGMA foreign_keys = ON")
        assert db.execute(statement).rowcount == 1
    with Gallery(folder, SeeingEncoder()) as gallery:
        assert gallery.check().damaged == [Damage(os.fspath(folder / IMAGE), what)]
        assert gallery.check().damaged  # looking changes nothing
        checked = gallery.check(repair=True)
        assert checked.damaged == [Damage(os.fspath(folder / IMAGE), what)]
        assert (checked.repaired, checked.away, checked.kept) == (True, [], None)
        assert gallery.check().damaged == []
        assert gallery.check().checked == dict.fromkeys(KINDS, 36) | {"parts": 0}
        assert answers(gallery) == right


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        (f"UPDATE images SET checksum = 5 WHERE id = {ROW}", "path"),
        ("UPDATE heads SET matrix = zeroblob(900)", "the head that was fitted"),
        ('UPDATE heads SET levels = \'{"coarse": 16, "fime": 48}\'', "the settings"),
        ("UPDATE heads SET levels = 'many'", "the settings"),
        ("UPDATE networks SET fingerprint = 'x' || fingerprint", "the settings"),
        ("UPDATE settings SET value = value + 1 WHERE key = 'head'", "the settings"),
        ("UPDATE settings SET value = 'much' WHERE key = 'revision'", "the settings"),
        ("DELETE FROM settings WHERE key = 'head'", "the settings"),
        ("UPDATE sqlite_sequence SET seq = seq + 1 WHERE name = 'rows'", "the settings"),
        ("UPDATE sqlite_sequence SET seq = 9223372036854775807", "the settings"),
        ("UPDATE forgotten SET path = path || '2'", "the list of what was forgotten"),
        ("UPDATE codes SET head = 77 WHERE row = 3", "1 of the codes belong to no heads"),
        ("DROP INDEX rows_by_image", "its table of contents"),
        ("CREATE TABLE more (a)", "its table of contents"),
    ],
)
def test_what_belongs_to_the_file(folder: Path, statement: str, what: str) -> None:
    right = expected(folder)
    execute(file_of(folder), statement)
    with Gallery(folder, SeeingEncoder()) as gallery:
        (damage,) = gallery.check().damaged
        assert damage.path.startswith(os.fspath(gallery.file))
        assert damage.what.startswith(what)
        checked = gallery.check(repair=True)
        assert (checked.repaired, checked.away) == (True, [])
        assert bool(checked.kept) is (what in ("its table of contents", "1 of the codes belong to no heads"))
        assert gallery.check().damaged == []
        if "forgotten" in statement:  # what, nobody knows
            assert "lists it" in checked.notes[0]
            assert gallery.stats().forgotten == ["secret/2"]
        else:
            assert answers(gallery) == right


def flip(content: bytes, rng: random.Random, count: int) -> bytes:
    flipped = bytearray(content)
    for _ in range(count):
        flipped[rng.randrange(len(flipped))] ^= rng.choice([1 << rng.randrange(8), rng.randrange(1, 256)])
    return bytes(flipped)


@pytest.mark.parametrize("count", [1, 20])
def test_flipped_bytes(folder: Path, count: int) -> None:
    """What is not found changes no answer; what is found can be repaired."""
    shutil.rmtree(folder / "secret")  # a list of what is forgotten may be lost
    right, file, rng = expected(folder), file_of(folder), random.Random(count)
    content, found = file.read_bytes(), 0
    for _ in range(25):
        for left in file.parent.iterdir():
            left.unlink()
        file.write_bytes(flip(content, rng, count))
        try:
            with Gallery(folder, SeeingEncoder()) as gallery:
                damaged = bool(gallery.check().damaged)
                if not damaged:
                    assert answers(gallery) == right
        except GalleryError:
            damaged = True
        found += damaged
        kept = recover(file)
        with Gallery(folder, SeeingEncoder()) as gallery:
            checked = gallery.check(repair=True)
            assert checked.repaired or not checked.damaged
            assert damaged is bool(kept or checked.damaged)
            assert answers(gallery)[:2] == right[:2]
            assert gallery.check().damaged == []
    assert found > 12


def test_it_is_the_disk_that_is_looked_at(folder: Path) -> None:
    with Gallery(folder, SeeingEncoder()) as gallery:
        right = answers(gallery)
        content = gallery.file.read_bytes()
        with gallery._file.reading():
            (code,) = gallery._file._db.execute(f"SELECT code FROM codes WHERE row = {ROW}").fetchone()
        place = content.index(code)
        with open(gallery.file, "r+b") as file:
            file.seek(place)
            file.write(bytes([code[0] ^ 1]))
        assert answers(gallery) == right  # from memory
        assert gallery.check().damaged == [Damage(os.fspath(folder / IMAGE), "code")]


def test_on_a_read_only_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    execute(file_of(folder), f"UPDATE codes SET code = zeroblob(8) WHERE row = {ROW}")
    before = {path.name: path.read_bytes() for path in file_of(folder).parent.iterdir()}
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    with Gallery(folder, SeeingEncoder()) as gallery:
        assert len(gallery.check().damaged) == 1
        with pytest.raises(GalleryError, match="cannot write the gallery"):
            gallery.check(repair=True)
    assert {path.name: path.read_bytes() for path in file_of(folder).parent.iterdir()} == before


def test_an_image_whose_file_is_away_waits(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "gallery.sqlite"
    shutil.copy(file_of(folder), file)
    execute(file, f"UPDATE codes SET code = zeroblob(8) WHERE row = {ROW}")
    folder.rename(tmp_path / "elsewhere")
    with Gallery(folder, SeeingEncoder(), file) as gallery:
        number = gallery.id_of(IMAGE)
        checked = gallery.check(repair=True)
        assert checked.damaged == [Damage(os.fspath(folder / IMAGE), "code")]
        assert checked.repaired
        assert checked.away == [os.fspath(folder / IMAGE)]
        assert "cannot be read" in checked.notes[0]
        assert gallery.id_of(IMAGE) == number
        assert gallery.stats().waiting == 1
        (tmp_path / "elsewhere").rename(folder)
        assert gallery.update().changed == 1
        assert gallery[IMAGE] is not None
        assert gallery.id_of(IMAGE) == number


def test_a_head_whose_embeddings_are_damaged_too(folder: Path) -> None:
    right = expected(folder)
    execute(file_of(folder), "UPDATE heads SET matrix = zeroblob(900)")
    execute(file_of(folder), f"UPDATE embeddings SET norm = 7 WHERE row = {ROW}")
    with Gallery(folder, SeeingEncoder()) as gallery:
        checked = gallery.check(repair=True)
        assert {damage.what for damage in checked.damaged} == {"embedding", "the head that was fitted on the images"}
        assert "labels" in checked.notes[0]
        assert answers(gallery) == right
    execute(file_of(folder), "UPDATE heads SET matrix = zeroblob(900)")
    execute(file_of(folder), "UPDATE embeddings SET norm = 7")
    with Gallery(folder, SeeingEncoder()) as gallery:
        assert gallery.check(repair=True).repaired
        assert answers(gallery) == right


def test_what_else_looks_at_it_goes_on(folder: Path) -> None:
    with Gallery(folder, SeeingEncoder()) as gallery, Gallery(folder, SeeingEncoder()) as other:
        right = answers(other)
        execute(gallery.file, "DROP INDEX rows_by_image")
        gallery.check(repair=True)
        assert answers(other) == right
        picture(folder / "new.png", 3)
        assert other.update().added == 1
        assert len(gallery) == 37
        assert gallery.check().damaged == []


def test_while_another_process_indexes(tmp_path: Path) -> None:
    folder = tmp_path / "many"
    for number in range(200):
        picture(folder / f"{number}.png", number)
    Gallery(folder, FakeEncoder()).close()
    child = Child(update_gallery, folder, 0.002)
    child.go()
    seen = []
    with Gallery(folder, FakeEncoder()) as gallery:
        for _ in child.reports():
            checked = gallery.check()
            assert checked.damaged == []
            seen.append(checked.checked["codes"])
        assert child.wait() == 0
        assert gallery.check().checked["codes"] == 200
    assert seen == sorted(seen)


# A file that cannot be opened


def spoil(file: Path, where: int, what: bytes) -> bytes:
    content = bytearray(file.read_bytes())
    content[where : where + len(what)] = what
    file.write_bytes(content)
    return bytes(content)


@pytest.mark.parametrize(
    ("where", "what", "left"),
    [
        (0, b"SQLite", 36),  # nothing wrong
        (0, b"Sqlite", 36),  # another kind of file
        (68, b"pyhb", 36),  # whose it is
        (60, b"\0\0\0\3", 36),  # a newer schema, as it seems
        (60, b"\0\0\0\0", 36),  # an older one
        (100, b"\0" * 50, 0),  # the table of contents
    ],
)
def test_a_file_that_cannot_be_opened(folder: Path, where: int, what: bytes, left: int) -> None:
    right, file = expected(folder), file_of(folder)
    damaged = spoil(file, where, what)
    kept = recover(file)
    assert (kept is None) is (what == b"SQLite")
    if kept is not None:
        assert kept.read_bytes() == damaged
        assert kept.name == "gallery.sqlite.damaged"
    assert len(rows(file)) == left
    with Gallery(folder, SeeingEncoder()) as gallery:
        if not left:
            gallery.forget("secret")
            gallery.update()
        assert gallery.check(repair=True).damaged == [] or what == b"\0\0\0\0"
        assert answers(gallery) == right
    assert recover(file) is None


@pytest.mark.parametrize("name", ["images", "forgotten", "heads", "settings"])
def test_a_table_of_contents_with_a_flipped_byte(folder: Path, name: str) -> None:
    """No row is lost by it."""
    right, file = expected(folder), file_of(folder)
    spoil(file, file.read_bytes().index(f"CREATE TABLE {name} ".encode()) + 7, b"T\1BLE")
    with pytest.raises(GalleryError, match="damaged"):
        Gallery(folder, SeeingEncoder())
    recover(file)
    with Gallery(folder, SeeingEncoder()) as gallery:
        assert gallery.check().damaged == []
        assert answers(gallery) == right


def test_a_row_that_says_that_it_is_another_images(folder: Path) -> None:
    right = expected(folder)
    execute(file_of(folder), "DROP INDEX rows_by_image")
    execute(file_of(folder), "UPDATE rows SET image = 5 WHERE id = 4")
    with Gallery(folder, SeeingEncoder()) as gallery:
        assert gallery.check(repair=True).repaired
        assert answers(gallery) == right
        assert gallery.check().checked == dict.fromkeys(KINDS, 36) | {"parts": 0}


def test_neighbours_that_are_lost_with_the_file(folder: Path) -> None:
    right = expected(folder)
    execute(file_of(folder), "DROP INDEX rows_by_image")
    execute(file_of(folder), "DELETE FROM neighbours WHERE row % 2")
    with Gallery(folder, SeeingEncoder()) as gallery:
        assert gallery.check(repair=True).repaired
        assert gallery.check().checked == dict.fromkeys(KINDS, 36) | {"parts": 0}
        assert answers(gallery) == right


def test_what_is_not_recovered(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Foreign, newer, locked or absent is not damaged."""
    other = tmp_path / "other"
    with pytest.raises(GalleryError, match="there is no gallery"):
        recover(other)
    for content in (b"", b"notes" * 1000):
        other.write_bytes(content)
        with pytest.raises(GalleryError):
            recover(other)
        assert other.read_bytes() == content
    other.unlink()
    execute(other, "CREATE TABLE recipes (name)")
    with pytest.raises(GalleryError, match="not a pyhash gallery"):
        recover(other)
    shutil.copy(file_of(folder), other)
    execute(other, "CREATE TABLE more (a)")
    execute(other, "PRAGMA user_version = 3")
    with pytest.raises(GalleryError, match="a newer one can read it"):
        recover(other)
    tune(monkeypatch, busy_seconds=0.05)
    with closing(sqlite3.connect(file_of(folder), isolation_level=None)) as db:
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("BEGIN EXCLUSIVE")
        with pytest.raises(GalleryError, match="locked"):
            recover(file_of(folder))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "photos"]
    assert [path.name for path in file_of(folder).parent.iterdir()] == ["gallery.sqlite"]


def test_damaged_files_are_never_replaced(folder: Path) -> None:
    names = set()
    for _ in range(3):
        spoil(file_of(folder), 0, b"Sqlite")
        kept = recover(file_of(folder))
        assert kept is not None
        names.add(kept.name)
    assert names == {"gallery.sqlite.damaged", "gallery.sqlite.damaged1", "gallery.sqlite.damaged2"}


# Stopped in the middle


def repair_and_die(report: Report, folder: Path, step: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"pyhash.gallery.{step}", lambda *_, **__: os._exit(7))
        with Gallery(folder, SeeingEncoder()) as gallery:
            gallery.check(repair=True)


@pytest.mark.parametrize(
    "step",
    [
        "salvage.salvage",
        "salvage._drop_strays",
        "store.drop_damaged",
        "mending.settle",
        "gallery.Gallery.update",
        "mending.refit",
    ],
)
def test_killed_while_it_is_repaired(folder: Path, step: str) -> None:
    right = expected(folder)
    if step.startswith("salvage"):
        execute(file_of(folder), "DROP INDEX rows_by_image")
    execute(file_of(folder), "UPDATE heads SET matrix = zeroblob(900)")
    execute(file_of(folder), f"UPDATE looks SET grey = zeroblob(1024) WHERE image = {ROW}")
    child = Child(repair_and_die, folder, step)
    child.go()
    assert child.wait() == 7
    with Gallery(folder, SeeingEncoder()) as gallery:
        gallery.check(repair=True)
        gallery.update()
        if step in ("mending.settle", "gallery.Gallery.update", "mending.refit"):
            gallery.fit()  # that a head was damaged is not known any more
        assert answers(gallery) == right
        assert gallery.check().damaged == []


def repair_on_a_full_disk(report: Report, folder: Path) -> None:
    import resource

    with Gallery(folder, SeeingEncoder()) as gallery:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        try:
            gallery.check(repair=True)
        except GalleryError:
            report(1)


@pytest.mark.skipif(os.name == "nt", reason="sets a limit that Windows does not have")
def test_a_full_disk_leaves_the_file_as_it_is(folder: Path) -> None:
    execute(file_of(folder), "DROP INDEX rows_by_image")
    before = file_of(folder).read_bytes()
    child = Child(repair_on_a_full_disk, folder)
    child.go()
    assert [*child.reports()] == [1]
    assert child.wait() == 0
    assert file_of(folder).read_bytes() == before
    assert [path.name for path in file_of(folder).parent.iterdir()] == ["gallery.sqlite"]


# The seal


def test_every_change_seals(folder: Path) -> None:
    changes: list[Callable[[Gallery], object]] = [
        lambda gallery: gallery.update(),
        lambda gallery: gallery.forget("kind0/000.png"),
        lambda gallery: gallery.forget("kind0/000.png", undo=True),
        lambda gallery: gallery.fit(levels=48),
        lambda gallery: gallery.fit("folders"),
        lambda gallery: Gallery(folder, EmbeddingEncoder("1111"), rebuild=True).close(),
    ]
    for change in changes:
        with Gallery(folder, SeeingEncoder()) as gallery:
            change(gallery)
            assert gallery.check().damaged == []
            assert not seal.is_broken(gallery._file._db)


def test_a_pyhash_that_knows_no_seal_breaks_none(folder: Path) -> None:
    with Gallery(folder, SeeingEncoder()) as gallery:
        execute(gallery.file, "UPDATE settings SET value = value + 1 WHERE key = 'revision'")
        execute(gallery.file, "UPDATE settings SET value = 'older' WHERE key = 'version'")
        assert gallery.check().damaged == []
        execute(gallery.file, "DELETE FROM settings WHERE key = 'seal'")
        assert gallery.check().damaged == []

"""The tables of a gallery file, and galleries of schema 1, which pyhash made until 8f364cb."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import time
from pathlib import Path

import numpy as np
import pytest
from children import Child, open_gallery
from galleries import FakeEncoder, execute, photos, picture, rows

from pyhash.errors import GalleryError
from pyhash.gallery import Gallery, Match, opening, schema

FILES = Path(__file__).parent / "files" / "8f364cb"
ANSWERS = json.loads((FILES / "answers.json").read_text())
TABLES_OF_1 = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "CREATE TABLE pictures (id INTEGER PRIMARY KEY AUTOINCREMENT, path BLOB NOT NULL UNIQUE, "
    "size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, code BLOB, error TEXT, "
    "CHECK (code IS NULL OR error IS NULL))",
    "INSERT INTO meta VALUES ('schema', '1'), ('revision', '3'), ('encoder', 'fake'), "
    f"('fingerprint', '{'f' * 16}'), ('levels', '{{\"coarse\": 16, \"fine\": 48}}')",
    "PRAGMA journal_mode = WAL",
    f"PRAGMA application_id = {schema.APPLICATION_ID}",
)


def make_schema_1(file: Path, n_images: int) -> None:
    """Make a gallery as 8f364cb did, of this many images that have gone from the folder."""
    db = sqlite3.connect(file)
    try:
        with db:
            for statement in TABLES_OF_1:
                db.execute(statement)
            codes = np.random.default_rng(0).integers(0, 256, (n_images, 8), np.uint8)
            images = ((f"{n}.png".encode(), code.tobytes()) for n, code in enumerate(codes))
            db.executemany("INSERT INTO pictures (path, size, mtime_ns, code) VALUES (?, 1, 1, ?)", images)
    finally:
        db.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a gallery that 8f364cb made."""
    (tmp_path / ".pyhash").mkdir()
    shutil.copy(FILES / "gallery.sqlite", tmp_path / ".pyhash")
    return tmp_path


def check_answers(gallery: Gallery) -> None:
    codes = np.array(ANSWERS["codes"], np.uint8)
    for level in (None, "coarse"):
        found = gallery.search_codes(codes, 30, level=level)
        assert as_lists(found, gallery) == ANSWERS[str(level)]
    assert len(gallery) == ANSWERS["count"]


def as_lists(answers: list[list[Match]], gallery: Gallery) -> list[list[list[object]]]:
    return [[[os.path.relpath(m.path, gallery.folder), m.distance, m.id] for m in answer] for answer in answers]


def test_a_gallery_of_8f364cb_answers_as_it_did(folder: Path) -> None:
    for _ in range(2):
        with Gallery(folder) as gallery:
            check_answers(gallery)
            assert gallery.stats().failed == 1
            assert gallery.levels == {"coarse": 16, "fine": 48}
    before = rows(folder / ".pyhash" / "gallery.sqlite")
    picture(folder / "new.png")
    with Gallery(folder, FakeEncoder()) as gallery:
        check_answers(gallery)
        assert gallery.update(prune=True).removed == len(before)
        assert gallery.id_of(folder / "new.png") == 29  # 28 was the last that schema 1 had given
    assert [row[0] for row in rows(folder / ".pyhash" / "gallery.sqlite")] == [29]
    with pytest.raises(GalleryError, match="'fake' with fingerprint ffffffffffffffff"):
        Gallery(folder, FakeEncoder("1111", "other"))


def test_where_nothing_can_be_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = folder / ".pyhash" / "gallery.sqlite"
    before = file.read_bytes()
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    with Gallery(folder, FakeEncoder()) as gallery:
        check_answers(gallery)
        with pytest.raises(GalleryError, match="cannot write the gallery"):
            gallery.update()
        check_answers(gallery)
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == ["gallery.sqlite"]


def test_a_migration_that_fails_changes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = dump(folder)
    for n_statements in range(len(schema.FROM_1)):
        with monkeypatch.context() as patch:
            patch.setattr(opening, "FROM_1", (*schema.FROM_1[:n_statements], "no statement"))
            with pytest.raises(GalleryError, match="syntax error"):
                Gallery(folder)
        assert dump(folder) == before
    with Gallery(folder) as gallery:
        check_answers(gallery)


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE pictures SET code = 'abcdefgh' WHERE id = 2", "damaged"),
        ("UPDATE pictures SET code = x'00' WHERE id = 4", "code of row 4 must be 8 bytes"),
        ("UPDATE pictures SET path = 'text' WHERE id = 1", "damaged"),
        ("UPDATE meta SET value = 'many' WHERE key = 'levels'", "levels must be a JSON object, got 'many'"),
        ("DELETE FROM meta WHERE key = 'levels'", "levels must be a JSON object, got ''"),
        ("DELETE FROM meta WHERE key = 'fingerprint'", "damaged"),
        ("DROP TABLE meta", "no such table"),
    ],
)
def test_a_damaged_schema_1(folder: Path, statement: str, message: str) -> None:
    execute(folder / ".pyhash" / "gallery.sqlite", statement)
    with pytest.raises(GalleryError, match=message) as info, Gallery(folder) as gallery:
        gallery.search_codes(np.zeros((1, 8), np.uint8))
    assert "damaged" in str(info.value)


def dump(folder: Path) -> list[str]:
    db = sqlite3.connect(folder / ".pyhash" / "gallery.sqlite")
    try:
        return [*db.iterdump(), str(db.execute("PRAGMA user_version").fetchone())]
    finally:
        db.close()


def test_killed_while_migrating(tmp_path: Path) -> None:
    """The old gallery or the new one, whole: for kills spread over the time that it takes."""
    original = tmp_path / "original.sqlite"
    make_schema_1(original, 4_000)
    folder = tmp_path / "photos"
    (folder / ".pyhash").mkdir(parents=True)
    file = folder / ".pyhash" / "gallery.sqlite"
    shutil.copy(original, file)
    began = time.monotonic()
    with Gallery(folder) as gallery:
        took = time.monotonic() - began
        query = gallery.index.codes(7)[None]
        expected = gallery.search_codes(query, 50)
    seen = set()
    for delay in np.linspace(0, 1.2 * took, 12):
        for path in file.parent.iterdir():
            path.unlink()
        shutil.copy(original, file)
        child = Child(open_gallery, folder)
        child.go()
        time.sleep(delay)
        child.kill()
        child.wait()
        db = sqlite3.connect(file)
        try:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            table = {0: "pictures", schema.SCHEMA: "images"}[version]
            assert db.execute(f"SELECT count(*) FROM {table}").fetchone() == (4_000,)
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        finally:
            db.close()
        seen.add(version)
        with Gallery(folder) as gallery:
            assert gallery.search_codes(query, 50) == expected
    assert 0 in seen


def test_three_processes_migrate_at_once(tmp_path: Path) -> None:
    (tmp_path / ".pyhash").mkdir()
    make_schema_1(tmp_path / ".pyhash" / "gallery.sqlite", 5_000)
    children = [Child(open_gallery, tmp_path) for _ in range(3)]
    for child in children:
        child.go()
    assert [child.wait() for child in children] == [0, 0, 0]
    with Gallery(tmp_path) as gallery:
        assert len(gallery) == 5_000
        assert len(gallery.index) == 5_000


def test_an_older_pyhash_is_told(tmp_path: Path) -> None:
    """It reads this table, and says which format it found and which it reads."""
    Gallery(tmp_path).close()
    db = sqlite3.connect(tmp_path / ".pyhash" / "gallery.sqlite")
    try:
        assert dict(db.execute("SELECT key, value FROM meta")).get("schema") == "2"
    finally:
        db.close()


FILL = (
    "INSERT INTO names VALUES (1, x'70', 1)",
    "INSERT INTO embeddings (row, network, vector, norm, checksum) VALUES (1, 1, x'00', 1.0, 0)",
    "INSERT INTO neighbours VALUES (1, x'00', x'00', 0)",
    "INSERT INTO looks VALUES (1, x'00', x'00', 0)",
    "INSERT INTO thumbnails VALUES (1, x'00', 0)",
    "INSERT INTO verdicts VALUES (1, 2, 'different')",
)


def test_what_has_gone_leaves_nothing(tmp_path: Path) -> None:
    """Removing an image removes all that hangs on it, and every such look-up has an index."""
    folder = photos(tmp_path / "photos")
    with Gallery(folder, FakeEncoder()) as gallery:
        gallery.update()
        for statement in FILL:
            execute(gallery.file, statement)
        (folder / "a.png").unlink()
        gallery.update()
    db = sqlite3.connect(gallery.file)
    try:
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        counts = {table: db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables}
        assert [counts[table] for table in ("images", "rows", "codes")] == [5, 5, 5]
        empty = ["names", "embeddings", "neighbours", "looks", "thumbnails", "verdicts", "forgotten"]
        assert [counts[table] for table in empty] == [0] * 7
        for table in tables:
            led = {
                db.execute(f"PRAGMA index_info({index[1]})").fetchone()[2]
                for index in db.execute(f"PRAGMA index_list({table})")
            }
            led |= {column[1] for column in db.execute(f"PRAGMA table_info({table})") if column[5] == 1}
            for _, _, parent, column, *_ in db.execute(f"PRAGMA foreign_key_list({table})"):
                assert column in led or parent not in ("images", "rows"), (table, column)
    finally:
        db.close()

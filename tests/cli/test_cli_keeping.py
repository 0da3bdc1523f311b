"""``pyhash check``, ``backup`` and ``forget``, and what ``info`` tells of a gallery's files."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from commands import run
from galleries import execute


@pytest.mark.usefixtures("fake")
class TestCheck:
    def test_whole(self, folder: Path) -> None:
        run("index", folder)
        for arguments in ((), ("--repair",)):
            text = run("check", folder, *arguments).stdout
            assert text.startswith("6 images, 5 codes, ")
            assert text.endswith(": all whole\n")
        answer = json.loads(run("check", folder, "--json").stdout)
        assert (answer["damaged"], answer["waiting"], answer["kept"]) == ([], 0, None)
        assert answer["checked"]["codes"] == 5

    def test_damaged_and_repaired(self, folder: Path) -> None:
        run("index", folder)
        before = run("search", folder, folder / "a.png").stdout
        file, code = folder / ".pyhash" / "gallery.sqlite", "UPDATE codes SET code = zeroblob(8) WHERE row = 4"
        execute(file, code)
        copy = folder / "copy.png"
        found = run("check", folder, code=3).stdout.splitlines()
        assert found[0] == f"{copy}: code"
        assert found[1].endswith(": 1 damaged")
        assert found[2] == "--repair makes it again"
        answer = json.loads(run("check", folder, "--json", code=3).stdout)
        assert answer["damaged"] == [{"path": os.fspath(copy), "what": "code"}]
        assert answer["repaired"] is False
        assert run("check", folder, "--repair").stdout.splitlines()[-1].endswith(": 1 damaged, repaired")
        assert run("search", folder, folder / "a.png").stdout == before
        execute(file, code)
        assert json.loads(run("check", folder, "--repair", "--json").stdout)["repaired"] is True

    def test_an_image_that_is_away(self, folder: Path) -> None:
        run("index", folder)
        execute(folder / ".pyhash" / "gallery.sqlite", "UPDATE codes SET code = zeroblob(8) WHERE row = 4")
        (folder / "copy.png").unlink()
        text = run("check", folder, "--repair", code=1).stdout
        assert f"{folder / 'copy.png'}: waits, its file is away or cannot be read\n" in text

    def test_a_file_that_cannot_be_opened(self, folder: Path) -> None:
        run("index", folder)
        before = run("search", folder, folder / "a.png").stdout
        file = folder / ".pyhash" / "gallery.sqlite"
        content = b"nothing" + file.read_bytes()[7:]
        file.write_bytes(content)
        assert "not a pyhash gallery" in run("check", folder, code=3).stderr
        text = run("check", folder, "--repair").stdout
        assert f"{file}: it could not be opened\n" in text
        assert f"the damaged one is {file}.damaged\n" in text
        assert (folder / ".pyhash" / "gallery.sqlite.damaged").read_bytes() == content
        assert run("search", folder, folder / "a.png").stdout == before
        run("check", folder)

    def test_what_is_no_gallery(self, folder: Path, tmp_path: Path) -> None:
        for arguments in ((), ("--repair",)):
            assert "there is no gallery" in run("check", folder, *arguments, code=3).stderr
            (tmp_path / "notes").write_text("mine")
            run("check", folder, "--gallery", tmp_path / "notes", *arguments, code=3)
            assert (tmp_path / "notes").read_text() == "mine"


@pytest.mark.usefixtures("fake")
class TestBackup:
    def test_a_copy_that_can_be_searched(self, folder: Path, tmp_path: Path) -> None:
        run("index", folder)
        copy = tmp_path / "copy.sqlite"
        text = run("backup", folder, copy).stdout
        assert text.startswith("5 images, ")
        assert text.endswith(f"kB\nwrote {copy}\n")
        answer = json.loads(run("backup", folder, copy, "--json").stdout)
        size = copy.stat().st_size
        assert answer == {"folder": os.fspath(folder), "file": os.fspath(copy), "images": 5, "bytes": size}
        first = run("search", folder, folder / "a.png", "--json").stdout
        assert run("search", folder, folder / "a.png", "--gallery", copy, "--json").stdout == first

    def test_what_is_refused(self, folder: Path, tmp_path: Path) -> None:
        assert "there is no gallery" in run("backup", folder, tmp_path / "copy", code=3).stderr
        run("index", folder)
        assert "did not write" in run("backup", folder, folder / "a.png", code=2).stderr
        assert "the gallery itself" in run("backup", folder, folder / ".pyhash" / "gallery.sqlite", code=2).stderr
        (tmp_path / "notes").write_text("mine")
        run("backup", folder, tmp_path / "notes", code=2)
        run("backup", folder, tmp_path / "notes", "--overwrite")
        run("info", folder, "--gallery", tmp_path / "notes")


@pytest.mark.usefixtures("fake")
class TestForget:
    def test_forgotten_and_taken_back(self, folder: Path) -> None:
        run("index", folder)
        text = run("forget", folder, folder / "sub", "a.png").stdout
        assert text == "forgotten: sub/\nforgotten: a.png\n3 images dropped, 2 images can be searched\n"
        assert run("index", folder).stdout == "2 images can be searched (2 unchanged, 1 failed)\n"
        answer = json.loads(run("forget", folder, "sub", "--undo", "--json").stdout)
        assert answer == {"folder": os.fspath(folder), "paths": ["sub/"], "images": 0, "forgotten": ["a.png"]}
        assert run("index", folder).stdout.startswith("4 images can be searched (2 added")
        assert run("forget", folder, "a.png", "--undo").stdout.startswith("no longer forgotten: a.png\n")
        assert run("index", folder).stdout.startswith("5 images can be searched (1 added")

    def test_what_names_nothing(self, folder: Path) -> None:
        run("index", folder)
        assert "nothing.png" in run("forget", folder, "a.png", "nothing.png", code=2).stderr
        assert "it was not forgotten" in run("forget", folder, "a.png", "--undo", code=2).stderr
        run("forget", folder, code=2)
        assert run("index", folder).stdout == "5 images can be searched (5 unchanged, 1 failed)\n"


@pytest.mark.usefixtures("fake")
def test_info_tells_files_and_what_is_forgotten(folder: Path) -> None:
    run("index", folder)
    run("forget", folder, "a.png")
    file = folder / ".pyhash" / "gallery.sqlite"
    stats = json.loads(run("info", folder, "--json").stdout)["gallery"]
    assert stats["forgotten"] == ["a.png"]
    assert stats["files"][os.fspath(file)] == file.stat().st_size
    assert {*stats["files"]} <= {f"{file}{suffix}" for suffix in ("", "-wal", "-shm")}
    lines = run("info", folder).stdout.splitlines()
    assert [line.split() for line in lines if line.startswith("gallery forgotten")] == [["gallery", "forgotten", "1"]]
    assert next(line for line in lines if line.startswith(f"{file} ")).endswith("kB")

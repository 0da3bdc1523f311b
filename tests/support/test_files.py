"""Files are written whole or not at all, and never over what is not of pyhash's own making."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from pyhash.errors import ForeignFileError, PyhashError
from pyhash.support import files

MARKS = [b"MARK"]
OURS = b"x" * 100 + b"MARK" + b"y" * 100
needs_modes = pytest.mark.skipif(os.name != "posix", reason="this system has no modes, owners or pipes")


def left(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_new_ours_and_empty_files_are_written(tmp_path: Path) -> None:
    path = tmp_path / "file"
    files.write(path, [OURS[:50], memoryview(OURS)[50:]], MARKS)
    assert path.read_bytes() == OURS
    files.write(os.fspath(path), [b"MARK", b" again"], MARKS)
    assert path.read_bytes() == b"MARK again"
    (tmp_path / "empty").touch()  # as tempfile makes them
    files.write(tmp_path / "empty", [OURS], MARKS)
    assert left(tmp_path) == ["empty", "file"]


@pytest.mark.parametrize("size", [1, 10, 1 << 16, 1 << 20])
def test_foreign_files_are_left_as_they_are(tmp_path: Path, size: int) -> None:
    path = tmp_path / "holiday.jpg"
    path.write_bytes(b"\xff" * size)
    for attempt in (files.check_target, lambda path, marks: files.write(path, [OURS], marks)):
        with pytest.raises(ForeignFileError, match=r"a file that pyhash did not write is there.*--overwrite") as caught:
            attempt(path, MARKS)
        assert isinstance(caught.value, (FileExistsError, PyhashError))
        assert caught.value.filename == os.fspath(path)
    assert path.read_bytes() == b"\xff" * size
    files.write(path, [OURS], MARKS, overwrite=True)
    assert path.read_bytes() == OURS


@pytest.mark.parametrize("at", ["first", "last", "middle"])
def test_marks_are_looked_for_at_both_ends(tmp_path: Path, at: str) -> None:
    path, filler = tmp_path / "file", b"z" * (1 << 17)
    path.write_bytes({"first": b"MARK" + filler, "last": filler + b"MARK", "middle": filler + b"MARK" + filler}[at])
    if at == "middle":
        with pytest.raises(ForeignFileError):
            files.check_target(path, MARKS)
    else:
        assert files.check_target(path, MARKS) == path.resolve()


@needs_modes
def test_links_owners_and_modes_stay(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    real, link = tmp_path / "folder" / "real", tmp_path / "link"
    real.write_bytes(OURS)
    real.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(real, 1234, 4321)
    link.symlink_to(real)
    before = real.stat()
    files.write(link, [b"MARK new"], MARKS)
    assert link.is_symlink()
    assert real.read_bytes() == b"MARK new"
    after = real.stat()
    assert stat.S_IMODE(after.st_mode) == 0o640
    assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)
    link.unlink()
    link.symlink_to(tmp_path / "folder" / "to come")
    files.write(link, [OURS], MARKS)
    assert (tmp_path / "folder" / "to come").read_bytes() == OURS


@needs_modes
@pytest.mark.parametrize("overwrite", [False, True])
def test_pipes_and_devices_are_refused(tmp_path: Path, overwrite: bool) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/null")):
        before = os.stat(path)
        with pytest.raises(ForeignFileError, match="must name a plain file, not a device or a pipe"):
            files.write(path, [OURS], MARKS, overwrite=overwrite)
        assert os.stat(path).st_ino == before.st_ino
    for path in (tmp_path, Path("/")):
        with pytest.raises(IsADirectoryError, match="must name a file, not a folder"):
            files.write(path, [OURS], MARKS, overwrite=overwrite)


@pytest.mark.parametrize("call", ["fsync", "replace", "parts"])
def test_what_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(OURS)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    def parts() -> object:
        yield b"half"
        fail()

    if call != "parts":
        monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="No space left") as caught:
        files.write(path, parts() if call == "parts" else [b"MARK new"], MARKS)  # type: ignore[arg-type]
    assert caught.value.filename == os.fspath(path)
    assert path.read_bytes() == OURS
    assert left(tmp_path) == ["file"]


def test_threads_that_write_one_file_leave_one_of_them(tmp_path: Path) -> None:
    path = tmp_path / "file"
    contents = [b"MARK" + bytes([number]) * 100_000 for number in range(8)]
    threads = [threading.Thread(target=files.write, args=(path, [content], MARKS)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() in contents
    assert left(tmp_path) == ["file"]

"""``pyhash index --watch`` follows a folder."""

from __future__ import annotations

import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import run
from galleries import picture

from pyhash.cli import watching
from pyhash.cli.watching import changes_under
from pyhash.gallery import Gallery

DEADLINE = 240.0  # what no system tells is seen by a look, and on a busy machine that comes late


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE
    while not holds():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.05)


@pytest.mark.usefixtures("fake")
def test_changes_are_followed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watchfiles = pytest.importorskip("watchfiles")
    faults: list[BaseException] = []
    stop, watch = threading.Event(), watchfiles.watch
    monkeypatch.setattr(watchfiles, "watch", lambda *args, **options: watch(*args, stop_event=stop, **options))

    def holds(*names: str) -> Callable[[], bool]:
        def there() -> bool:
            with Gallery(folder, create=False) as gallery:
                return {Path(path).name for path in gallery} == {*names}

        return there

    def change() -> None:
        try:
            until((folder / ".pyhash" / "gallery.sqlite").exists)
            with Gallery(folder, create=False) as gallery:
                until(lambda: len(gallery) == 5)
                first = {Path(path).name for path in gallery}
            picture(folder / "new.png", 20)
            until(holds(*first, "new.png"))
            (folder / "new.png").rename(folder / "sub" / "moved.png")
            (folder / "b.png").unlink()
            until(holds(*first - {"b.png"}, "moved.png"))
        except BaseException as fault:
            faults.append(fault)
        finally:
            stop.set()

    thread = threading.Thread(target=change)
    thread.start()
    try:
        result = run("index", folder, "--watch")
    finally:
        stop.set()
        thread.join()
    assert faults == []
    lines = [line for line in result.stdout.splitlines() if "can be searched" in line]
    assert lines[0].startswith("5 images can be searched (5 added")
    assert any("1 added" in line for line in lines[1:])
    assert lines[-1].startswith("5 images can be searched")


@pytest.mark.usefixtures("fake")
def test_an_interrupt_is_how_it_ends(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watchfiles = pytest.importorskip("watchfiles")

    def watch(*_: object, **__: object) -> Iterator[Any]:
        yield set()
        picture(folder / "new.png", 20)
        yield {("added", "new.png")}
        raise KeyboardInterrupt

    monkeypatch.setattr(watchfiles, "watch", watch)
    lines = [line for line in run("index", folder, "--watch").stdout.splitlines() if "can be searched" in line]
    assert [line.split(" (")[0] for line in lines] == ["5 images can be searched", "6 images can be searched"]


@pytest.mark.usefixtures("fake")
def test_what_was_not_told_is_found_a_little_later(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watchfiles = pytest.importorskip("watchfiles")
    now = 0.0
    monkeypatch.setattr(watching, "time", types.SimpleNamespace(monotonic=lambda: now))

    def watch(*_: object, **__: object) -> Iterator[Any]:
        nonlocal now
        yield set()
        picture(folder / "new.png", 20)
        yield set()
        with Gallery(folder, create=False) as gallery:
            assert len(gallery) == 5
        now = 30.0
        yield set()
        raise KeyboardInterrupt

    monkeypatch.setattr(watchfiles, "watch", watch)
    lines = [line for line in run("index", folder, "--watch").stdout.splitlines() if "can be searched" in line]
    assert [line.split(" (")[0] for line in lines] == ["5 images can be searched", "6 images can be searched"]


@pytest.mark.usefixtures("fake")
def test_what_cannot_be_read_or_seen_is_said_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watchfiles = pytest.importorskip("watchfiles")

    def watch(*_: object, **__: object) -> Iterator[Any]:
        yield set()
        (folder / "damaged.png").write_bytes(b"not an image")
        yield {("added", "damaged.png")}
        yield {("added", "notes.txt")}
        for image in folder.glob("?.png"):
            image.unlink()
        yield {("deleted", "a.png")}
        yield {("added", "notes.txt")}
        raise KeyboardInterrupt

    monkeypatch.setattr(watchfiles, "watch", watch)
    result = run("index", folder, "--watch", code=6)
    assert result.stderr.count("skipped " + str(folder / "damaged.png")) == 2  # it stands when something else is said
    assert result.stderr.count("and none dropped as they are so many") == 1
    assert len([line for line in result.stdout.splitlines() if "can be searched" in line]) == 3


def test_a_folder_that_goes_or_comes_is_a_change_and_is_watched_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watchfiles = pytest.importorskip("watchfiles")
    here, disk = tmp_path / "here", tmp_path / "disk"
    here.mkdir()
    watched: list[list[str]] = []

    def watch(*paths: str, **_: object) -> Iterator[Any]:
        watched.append([Path(path).name for path in paths])
        for _ in range(2 if len(watched) < 3 else 1):
            yield set()  # nothing but time goes by
            disk.rmdir() if disk.is_dir() else disk.mkdir()

    monkeypatch.setattr(watchfiles, "watch", watch)
    told = len(list(changes_under([str(here), str(disk)], tmp_path / "gallery.sqlite")))
    assert watched == [["here"], ["here", "disk"], ["here"]]
    assert told == 3  # that it has begun, that the disk came, that it went


@pytest.mark.usefixtures("fake")
def test_what_it_takes_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    assert "pyhash-retrieval[watch]" in run("index", folder, "--watch", code=4).stderr
    assert not (folder / ".pyhash").exists()

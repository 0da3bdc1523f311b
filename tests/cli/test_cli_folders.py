"""Commands about a gallery of several folders: how they are named, what is said, and how they exit."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from pathlib import Path

import pytest
from commands import run
from galleries import picture

from pyhash import Gallery

pytestmark = pytest.mark.usefixtures("fake")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number in range(4):
        picture(tmp_path / "a" / f"{number}.png", number)
        picture(tmp_path / "b" / "sub" / f"{number}.png", 10 + number)
    return tmp_path


def index(root: Path, *folders: str, code: int = 0, options: tuple[str, ...] = ()) -> tuple[str, str]:
    result = run("index", *(root / name for name in folders), "--gallery", root / "g.sqlite", *options, code=code)
    return result.stdout, result.stderr


def test_index(root: Path) -> None:
    assert "several folders need --gallery FILE" in run("index", root / "a", root / "b", code=2).stderr
    assert "does not exist" in index(root, "a", "typo", code=2)[1]
    assert not (root / "g.sqlite").exists()
    assert index(root, "a", "b")[0] == "8 images can be searched (8 added)\n"
    answer = json.loads(index(root, "b", options=("--json",))[0])
    assert answer["folders"] == [os.fspath(root / "b"), os.fspath(root / "a")]
    assert (answer["unchanged"], answer["images"], answer["away"]) == (4, 8, {})
    picture(root / "c" / "0.png", 40)
    assert f"`pyhash index {root / 'a'} {root / 'c'} --gallery {root / 'g.sqlite'}`" in index(root, "c", code=3)[1]
    assert "there is no folder" in index(root, "a", "typo", code=3)[1]
    assert "lies in" in index(root, "a", "b/sub", code=3)[1]
    assert index(root, "a", "c")[0] == "9 images can be searched (1 added, 4 unchanged)\n"
    assert run("index", root / "g.sqlite").stdout == "9 images can be searched (9 unchanged)\n"


@pytest.mark.parametrize("empty", [False, True])
def test_a_folder_that_is_away(root: Path, empty: bool) -> None:
    index(root, "a", "b")
    (root / "b").rename(root / "unplugged")
    if empty:
        (root / "b").mkdir()
    out, err = index(root, "a", "b", code=6)
    assert out == "8 images can be searched (4 unchanged)\n"
    assert err == f"pyhash: {root / 'b'} is away or empty: its 4 images are kept\n"
    found = run("search", root / "g.sqlite", root / "a" / "0.png", "--json")
    assert json.loads(found.stdout)["away"] == [os.fspath(root / "b")]
    assert f"{root / 'b'} is away or empty: its images are found, but cannot be opened now" in found.stderr
    answer = json.loads(index(root, "b", "a", options=("--json",), code=6)[0])
    assert (answer["kept"], answer["away"]) == (4, {os.fspath(root / "b"): 4})
    found = run("search", root / "b", root / "unplugged" / "sub" / "0.png", "-fk", "1", "--gallery", root / "g.sqlite")
    assert found.stdout == f"{root / 'b/sub/0.png'}\n"
    assert run("info", root / "b", "--gallery", root / "g.sqlite", "--json")


def test_what_waits_in_other_folders_is_said(root: Path) -> None:
    index(root, "a", "b")
    waits = f"4 images wait to be encoded and cannot be found yet: pyhash index {root / 'g.sqlite'}"
    assert waits in index(root, "a", options=("--rebuild",), code=1)[1]
    assert waits in run("search", root / "a", root / "a" / "0.png", "--gallery", root / "g.sqlite", code=1).stderr
    assert waits in run("dedupe", root / "g.sqlite", code=1).stderr
    assert run("index", root / "g.sqlite").stdout == "8 images can be searched (4 changed, 4 unchanged)\n"


def test_a_gallerys_file_in_place_of_its_folders(root: Path) -> None:
    index(root, "a", "b")
    file, query = root / "g.sqlite", root / "b" / "sub" / "1.png"
    assert run("search", file, query, "-fk", "1").stdout == f"{query}\n"
    assert run("search", file, query, "-fk", "9", "--in", root / "a").stdout.count("\n") == 4
    assert run("search", root / "a", query, "-fk", "9", "--in", "sub", "--gallery", file).stdout.count("\n") == 4
    shutil.copy(query, root / "a" / "copy.png")
    run("index", file)
    assert os.fspath(root / "a" / "copy.png") in run("dedupe", file, "--html", root / "d.html").stdout
    facts = json.loads(run("info", file, "--json").stdout)["gallery"]
    assert facts["folders"] == {os.fspath(root / "a"): 5, os.fspath(root / "b"): 4}
    assert f"{root / 'a'}" in run("info", file).stdout
    assert "all whole" in run("check", file).stdout
    run("backup", file, root / "copy.sqlite")
    assert run("search", root / "copy.sqlite", query, "-f").stdout.count("\n") == 9
    assert run("forget", file, root / "b").stdout.endswith("4 images dropped, 5 images can be searched\n")
    assert run("index", file).stdout == "5 images can be searched (5 unchanged)\n"
    assert "of the folder" in run("search", root / "b", query, "--gallery", file, code=3).stderr
    assert "must be a folder or a gallery's file" in run("search", query, query, code=2).stderr
    assert run("info", root / "a" / "0.png", code=2)


def test_repair_of_a_file_that_cannot_be_opened(root: Path) -> None:
    index(root, "a", "b")
    content = (root / "g.sqlite").read_bytes()
    (root / "g.sqlite").write_bytes(bytes(100) + content[100:])
    result = run("check", root / "g.sqlite", "--repair")
    assert "what could be read is in a new file" in result.stdout
    assert {*Gallery(root / "g.sqlite")} == {os.fspath(path) for path in root.rglob("*.png")}


def test_watch_follows_all_folders(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watchfiles = pytest.importorskip("watchfiles")
    stop, watch = threading.Event(), watchfiles.watch
    monkeypatch.setattr(watchfiles, "watch", lambda *args, **options: watch(*args, stop_event=stop, **options))

    def until(count: int) -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if (root / "g.sqlite").exists():
                with Gallery([root / "a", root / "b"], file=root / "g.sqlite") as gallery:
                    if len(gallery) == count:
                        return
            time.sleep(0.05)

    def change() -> None:
        try:
            until(8)
            picture(root / "a" / "new.png", 20)
            until(9)
            picture(root / "b" / "new.png", 21)
            until(10)
        finally:
            stop.set()

    thread = threading.Thread(target=change)
    thread.start()
    try:
        out, _ = index(root, "a", "b", options=("--watch",))
    finally:
        stop.set()
        thread.join()
    assert "10 images can be searched" in out

"""Undo: all is brought back, after kills at every moment and on full disks too; twice is harmless.

Real processes are killed. At any moment each image's bytes are there, under its old name or where the undo file says.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from children import Child
from copied import act, group_of, own_home, tree, write
from mounts import mounted, on_another_disk

from pyhash.copies import Group, Plan, carry_out, make_plan, undo, write_plan
from pyhash.copies.journal import read_journal
from pyhash.errors import PlanError

if sys.platform == "win32":
    pytest.skip("processes are killed as POSIX systems do", allow_module_level=True)

KILLS = int(os.environ.get("PYHASH_KILLS", "60"))


@pytest.fixture
def other_disk(tmp_path: Path) -> Iterator[Path]:
    with on_another_disk(tmp_path) as disk:
        yield disk


@pytest.fixture(autouse=True)
def trash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own_home(monkeypatch, tmp_path / "home")


def images(folder: Path, n: int, size: int = 2000) -> Group:
    """Files of the same bytes, with times and rights of their own."""
    content = np.random.default_rng(7).bytes(size)
    paths = [write(folder / f"sub{number % 2}" / f"{number}.png", content, 1000 * number) for number in range(n)]
    for number, path in enumerate(paths):
        path.chmod(0o600 + 0o10 * (number % 4))
    return group_of(*paths)


def plan_of(group: Group, folder: Path, action: str, target: Path) -> Plan:
    plan = make_plan([group], [folder])
    return plan.decided(action, target if action == "move" else None)  # type: ignore[arg-type]


WAYS = ["move", "move to another disk", "hardlink", "trash"]


class Scene:
    """Four copies, and what is to be done with three of them."""

    def __init__(self, root: Path, other: Path, way: str, n: int = 4, size: int = 2000) -> None:
        pytest.importorskip("send2trash")
        self.folder = root / "photos"
        self.target = (other if "disk" in way else root) / "out"
        self.plan = plan_of(images(self.folder, n, size), self.folder, way.split()[0], self.target)
        self.before = tree(self.folder)
        write_plan(self.plan, root / "plan.json", overwrite=True)
        self.plan_file, self.undo_file = root / "plan.json", root / "undo.jsonl"
        self.trash = root / "home"

    def all_there(self) -> None:
        """Whether the bytes of each image are under its old name, or where the undo file says."""
        entries = read_journal(self.undo_file).entries.values()
        places = {entry.file.path: entry.to for entry in entries}
        thrown = [content for content, *_ in tree(self.trash).values()]
        for name, (content, *_) in self.before.items():
            path = self.folder / name
            to = places.get(os.fspath(path))
            found = [Path(place).read_bytes() for place in (path, to) if place is not None and Path(place).exists()]
            assert content in (found or thrown), name
        assert not any(content != self.before["sub0/0.png"][0] for content, *_ in tree(self.folder).values())

    def is_as_before(self) -> None:
        assert tree(self.folder) == self.before
        assert all((self.folder / name).stat().st_nlink == 1 for name in self.before)
        assert not self.target.exists()
        assert [*tree(self.trash)] == []
        assert [*self.folder.rglob(".*")] == []


def killed(scene: Scene, plan: Path | None, number: int) -> bool:
    """Whether a process that carries out a plan, or undoes it, was killed before so many changes of files."""
    child = Child(act, plan, scene.undo_file, number)
    child.go()
    return child.wait() != 0


@pytest.mark.parametrize("way", WAYS)
class TestEverythingComesBack:
    def test_at_once(self, tmp_path: Path, other_disk: Path, way: str) -> None:
        scene = Scene(tmp_path, other_disk, way)
        done = carry_out(scene.plan, scene.undo_file)
        assert (len(done.done), done.left) == (3, ())
        assert tree(scene.folder) != scene.before
        scene.all_there()
        seen: list[tuple[int, int]] = []
        undone = undo(scene.undo_file, progress=lambda *count: seen.append(count))
        assert seen == [(1, 3), (2, 3), (3, 3)]
        assert (len(undone.restored), undone.already, undone.left) == (3, 0, ())
        scene.is_as_before()
        for _ in range(2):
            again = undo(scene.undo_file)
            assert (again.restored, again.already, again.left, again.unreadable) == ((), 3, (), ())
        scene.is_as_before()

    def test_by_what_is_seen_alone(self, tmp_path: Path, other_disk: Path, way: str) -> None:
        """The lines after the steps are lost, of the undo's too."""
        scene = Scene(tmp_path, other_disk, way)
        carry_out(scene.plan, scene.undo_file)
        lines = [line for line in scene.undo_file.read_bytes().splitlines(True) if b'"done"' not in line]
        for expected in ((3, 0), (0, 3)):
            scene.undo_file.write_bytes(b"".join(lines))
            undone = undo(scene.undo_file)
            assert (len(undone.restored), undone.already, undone.left) == (*expected, ())
            scene.is_as_before()

    def test_killed_before_each_change_of_a_file(self, tmp_path: Path, other_disk: Path, way: str) -> None:
        scene = Scene(tmp_path, other_disk, way, n=3)
        number = going = 1
        while going:
            going = killed(scene, scene.plan_file, number)
            if scene.undo_file.exists():
                scene.all_there()
                assert undo(scene.undo_file).left == ()
                scene.undo_file.unlink()
            for path in tmp_path.rglob("*.trashinfo"):
                path.unlink()  # of what was not yet put there
            scene.is_as_before()
            number += 1
        assert number > 12

    def test_undo_killed_before_each_change_of_a_file(self, tmp_path: Path, other_disk: Path, way: str) -> None:
        scene = Scene(tmp_path, other_disk, way, n=3)
        number = going = 1
        while going:
            again = group_of(*(scene.folder / name for name in sorted(scene.before)))  # they may have other inodes now
            assert carry_out(plan_of(again, scene.folder, way.split()[0], scene.target), scene.undo_file).left == ()
            going = killed(scene, None, number)
            scene.all_there()
            assert undo(scene.undo_file).left == ()
            scene.is_as_before()
            scene.undo_file.unlink()
            number += 1
        assert number > 12


def test_killed_at_random_moments_between_disks(tmp_path: Path, other_disk: Path) -> None:
    """In the middle of a copy, and of an undo."""
    random = np.random.default_rng(KILLS)
    scene = Scene(tmp_path, other_disk, "move to another disk", n=4, size=1_000_000)
    begun = time.monotonic()
    carry_out(scene.plan, scene.undo_file)
    duration = time.monotonic() - begun
    undo(scene.undo_file)
    scene.undo_file.unlink()
    killed = 0
    while killed < max(3, KILLS // 12):
        for plan in (scene.plan_file, None):
            child = Child(act, plan, scene.undo_file, 0)
            child.go()
            time.sleep(random.uniform(0, 1.2) * duration)
            child.kill()
            killed += child.wait() != 0
            if not scene.undo_file.exists():
                break
            scene.all_there()
        else:
            assert undo(scene.undo_file).left == ()
            scene.undo_file.unlink()
        scene.is_as_before()


class TestWhatIsNotBroughtBack:
    @pytest.fixture
    def moved(self, tmp_path: Path) -> Scene:
        scene = Scene(tmp_path, tmp_path, "move")
        carry_out(scene.plan, scene.undo_file)
        return scene

    def test_something_else_has_the_old_name(self, moved: Scene) -> None:
        write(moved.folder / "sub1/1.png", b"mine", 5)
        (moved.folder / "sub0/2.png").symlink_to("nowhere")
        undone = undo(moved.undo_file)
        assert [os.path.basename(path) for path in undone.restored] == ["3.png"]
        assert {left.reason for left in undone.left} == {
            f"something else has its old name; it is left at {moved.target / name}"
            for name in ("sub1/1.png", "sub0/2.png")
        }
        assert (moved.folder / "sub1/1.png").read_bytes() == b"mine"
        assert os.readlink(moved.folder / "sub0/2.png") == "nowhere"
        (moved.folder / "sub1/1.png").unlink()
        (moved.folder / "sub0/2.png").unlink()
        assert len(undo(moved.undo_file).restored) == 2
        moved.is_as_before()

    def test_changed_where_it_is(self, moved: Scene) -> None:
        write(moved.target / "sub1/1.png", b"edited", 5)
        (left,) = undo(moved.undo_file).left
        assert left.reason == f"{moved.target}/sub1/1.png has changed since it was moved, and is left there"
        assert (moved.target / "sub1/1.png").read_bytes() == b"edited"

    def test_gone(self, moved: Scene) -> None:
        (moved.target / "sub1/1.png").unlink()
        (left,) = undo(moved.undo_file).left
        assert left.reason == f"it is not there any more, nor is it at {moved.target}/sub1/1.png"

    def test_another_file_at_its_old_name_and_none_where_it_was_moved(self, moved: Scene) -> None:
        (moved.target / "sub1/1.png").unlink()
        write(moved.folder / "sub1/1.png", b"mine", 5)
        (left,) = undo(moved.undo_file).left
        assert "what has its old name is another file" in left.reason

    def test_the_folder_has_gone(self, moved: Scene) -> None:
        (moved.folder / "sub1").rmdir()
        assert len(undo(moved.undo_file).restored) == 3
        moved.is_as_before()

    def test_what_lies_beside_stays(self, moved: Scene) -> None:
        write(moved.target / "sub0/mine.txt", b"mine", 5)
        assert undo(moved.undo_file).left == ()
        assert {*tree(moved.target)} == {"sub0/mine.txt"}
        assert not (moved.target / "sub1").exists()

    def test_a_hard_link_that_was_changed(self, tmp_path: Path) -> None:
        scene = Scene(tmp_path, tmp_path, "hardlink")
        carry_out(scene.plan, scene.undo_file)
        (scene.folder / "sub0/0.png").write_bytes(b"in place, so all of them")
        undone = undo(scene.undo_file)
        assert undone.restored == ()
        assert {left.reason for left in undone.left} == {"its bytes have changed since it became a link: they are left"}

    def test_a_hard_link_whose_other_name_has_gone(self, tmp_path: Path) -> None:
        scene = Scene(tmp_path, tmp_path, "hardlink")
        carry_out(scene.plan, scene.undo_file)
        os.replace(scene.folder / "sub0/0.png", tmp_path / "elsewhere.png")
        assert len(undo(scene.undo_file).restored) == 3
        os.replace(tmp_path / "elsewhere.png", scene.folder / "sub0/0.png")
        scene.is_as_before()

    def test_emptied_trash(self, tmp_path: Path) -> None:
        scene = Scene(tmp_path, tmp_path, "trash")
        carry_out(scene.plan, scene.undo_file)
        gone, changed, _ = (
            sorted(tree(scene.trash))[::2]
            if False
            else sorted(name for name in tree(scene.trash) if name.endswith(".png"))
        )
        (scene.trash / gone).unlink()
        write(scene.trash / changed, b"changed", 5)
        undone = undo(scene.undo_file)
        assert len(undone.restored) == 1
        assert {left.reason for left in undone.left} == {
            "it was put into the trash, where it is not found: restore it by the means of the system"
        }

    def test_of_several_in_the_trash_the_right_one(self, tmp_path: Path) -> None:
        scene = Scene(tmp_path, tmp_path, "trash")
        carry_out(scene.plan, scene.undo_file)
        path = scene.folder / "sub1/1.png"
        write(path, b"another of this name", 9)
        import send2trash

        send2trash.send2trash(os.fspath(path))
        assert len(undo(scene.undo_file).restored) == 3
        assert tree(scene.folder) == scene.before
        assert len([name for name in tree(scene.trash) if name.endswith(".png")]) == 1


class TestUndoFile:
    def test_is_written_before(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        scene = Scene(tmp_path, tmp_path, "move")
        seen = []

        def link(source: str, target: str) -> None:
            entries = read_journal(scene.undo_file).entries
            seen.append((entries[len(entries)].file.path, entries[len(entries)].to) == (source, target))
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(os, "link", link)
        carried = carry_out(scene.plan, scene.undo_file)
        assert seen == [True] * 3
        assert {left.reason for left in carried.left} == {"Input/output error"}
        assert all(entry.settled for entry in read_journal(scene.undo_file).entries.values())
        assert undo(scene.undo_file).left == ()

    def test_must_be_new(self, tmp_path: Path) -> None:
        scene = Scene(tmp_path, tmp_path, "move")
        scene.undo_file.write_text("mine")
        with pytest.raises(FileExistsError, match="it must be new"):
            carry_out(scene.plan, scene.undo_file)
        scene.is_as_before()
        assert scene.undo_file.read_text() == "mine"
        with pytest.raises(PlanError, match="is no undo file of pyhash"):
            undo(scene.undo_file)
        scene.undo_file.write_text(json.dumps({"pyhash": "undo", "version": 2}))
        with pytest.raises(PlanError, match="is an undo file of version 2; this pyhash reads version 1"):
            undo(scene.undo_file)
        with pytest.raises(FileNotFoundError):
            undo(tmp_path / "none.jsonl")

    def test_nothing_to_write(self, tmp_path: Path) -> None:
        scene = Scene(tmp_path, tmp_path, "move")
        carried = carry_out(dataclasses.replace(scene.plan, steps=()), scene.undo_file)
        assert carried == ((), (), None, None)
        assert not scene.undo_file.exists()

    @pytest.mark.parametrize("cut", [1, 20, 200])
    def test_a_line_that_was_not_finished(self, tmp_path: Path, cut: int) -> None:
        scene = Scene(tmp_path, tmp_path, "move")
        carry_out(scene.plan, scene.undo_file)
        with open(scene.undo_file, "r+b") as file:
            file.seek(0, os.SEEK_END)
            file.write(b'{"step": 4, "action": "move"' + b" " * cut)
        for _ in range(2):
            undone = undo(scene.undo_file)
            assert (undone.left, undone.unreadable) == ((), ())
        scene.is_as_before()

    def test_a_damaged_line(self, tmp_path: Path) -> None:
        scene = Scene(tmp_path, tmp_path, "move")
        carry_out(scene.plan, scene.undo_file)
        lines = scene.undo_file.read_bytes().splitlines(True)
        lines[3] = lines[3].replace(b'"move"', b'"mvoe"')
        scene.undo_file.write_bytes(b"".join(lines))
        undone = undo(scene.undo_file)
        assert undone.unreadable == (4, 5)  # and that it was done
        assert len(undone.restored) == 2

    def test_names_no_file_for_removal_that_is_not_its_own(self, tmp_path: Path) -> None:
        scene = Scene(tmp_path, tmp_path, "move")
        carry_out(scene.plan, scene.undo_file)
        mine = write(tmp_path / "mine.tmp", b"mine", 5)
        with open(scene.undo_file, "ab") as file:
            file.write(json.dumps({"temporary": {"path": os.fspath(mine)}}).encode() + b"\n")
        undo(scene.undo_file)
        assert mine.exists()


@pytest.mark.parametrize("kilobytes", [8, 100, 120, 250])
def test_a_full_disk(tmp_path: Path, kilobytes: int) -> None:
    """Images are moved to a disk that is too small, and what could not be is where it was."""
    scene = Scene(tmp_path, tmp_path, "move", n=6, size=50_000)
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", f"size={kilobytes}k", "none") as disk:
        plan = scene.plan.decided("move", disk / "out")
        carried = carry_out(plan, scene.undo_file)
        assert {left.reason for left in carried.left} == {"No space left on device"}
        assert len(carried.done) == kilobytes // 52
        assert len(tree(disk)) == len(carried.done)
        assert len(tree(scene.folder)) == 6 - len(carried.done)
        assert undo(scene.undo_file).left == ()
        scene.is_as_before()
        assert [*disk.iterdir()] == []


def fill(disk: Path, left: int) -> None:
    """Fill a disk but for so many bytes."""
    status = os.statvfs(disk)
    (disk / "filling").write_bytes(bytes(status.f_bavail * status.f_bsize - left))


@pytest.mark.parametrize("action", ["move", "hardlink"])
def test_undo_to_a_full_disk(tmp_path: Path, action: str) -> None:
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=500k", "none") as disk:
        folder = disk / "photos"
        plan = plan_of(images(folder, 5, 50_000), folder, action, tmp_path / "out")
        before = tree(folder)
        carry_out(plan, tmp_path / "undo.jsonl")
        fill(disk, 60_000)
        undone = undo(tmp_path / "undo.jsonl")
        assert {left.reason for left in undone.left} == {"No space left on device"}
        assert len(undone.restored) == 1
        assert [path.name for path in folder.rglob(".*")] == []
        (disk / "filling").unlink()
        assert undo(tmp_path / "undo.jsonl").left == ()
        assert tree(folder) == before
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kilobytes", [4, 8, 12])
def test_an_undo_file_on_a_full_disk(tmp_path: Path, kilobytes: int) -> None:
    """Nothing is done that could not be written down."""
    scene = Scene(tmp_path, tmp_path, "move", n=40, size=100)
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", f"size={kilobytes}k", "none") as disk:
        carried = carry_out(scene.plan, disk / "undo.jsonl")
        assert carried.stopped is not None
        assert "undo.jsonl cannot be written: No space left on device" in carried.stopped
        assert len(tree(scene.folder)) == 40 - len(carried.done)
        assert 0 < len(carried.done) < 39
        assert undo(disk / "undo.jsonl").left == ()
        scene.is_as_before()


def test_an_undo_file_that_cannot_be_made(tmp_path: Path) -> None:
    scene = Scene(tmp_path, tmp_path, "move")
    (tmp_path / "file").write_text("")
    carried = carry_out(scene.plan, tmp_path / "file" / "undo.jsonl")
    assert carried.stopped is not None
    assert carried.undo_file is None
    scene.is_as_before()


def test_while_another_process_does_the_same(tmp_path: Path) -> None:
    scene = Scene(tmp_path, tmp_path, "move", n=30)
    children = [Child(act, scene.plan_file, tmp_path / f"{n}.jsonl", 0) for n in range(2)]
    for child in children:
        child.go()
    assert [child.wait() for child in children] == [0, 0]
    assert len(tree(scene.folder)) == 1
    found = tree(scene.target)
    assert len(found) >= 29
    for n in range(2):
        if (tmp_path / f"{n}.jsonl").exists():
            assert undo(tmp_path / f"{n}.jsonl").unreadable == ()
    assert tree(scene.folder) == scene.before
    assert tree(scene.target) == {}  # folders that the other made may be left


def test_extended_attributes_come_back(tmp_path: Path) -> None:
    scene = Scene(tmp_path, tmp_path, "hardlink")
    path = scene.folder / "sub1/1.png"
    try:
        os.setxattr(path, "user.tag", b"holiday")
    except (AttributeError, OSError):
        pytest.skip("there are no extended attributes here")
    carry_out(scene.plan, scene.undo_file)
    assert len(undo(scene.undo_file).restored) == 3
    assert os.getxattr(path, "user.tag") == b"holiday"
    scene.is_as_before()


def test_a_disk_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as exFAT: a copy is made."""
    scene = Scene(tmp_path, tmp_path, "move")
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(1, "Operation not permitted")))
    assert carry_out(scene.plan, scene.undo_file).left == ()
    scene.all_there()
    assert undo(scene.undo_file).left == ()
    scene.is_as_before()


def test_a_copy_is_read_again(tmp_path: Path, other_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(tmp_path, other_disk, "move to another disk")
    monkeypatch.setattr(shutil, "copyfileobj", lambda source, target, _: target.write(source.read()[:-1] + b"?"))
    carried = carry_out(scene.plan, scene.undo_file)
    assert {left.reason for left in carried.left} == {"the copy of it has other bytes"}
    assert undo(scene.undo_file).left == ()
    scene.is_as_before()

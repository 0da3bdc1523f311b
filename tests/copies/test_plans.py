"""Plans: which image is kept, what is done with the others, and what is refused at the moment of acting."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from copied import copy_of, group_of, tree, write
from mounts import on_another_disk

from pyhash.copies import (
    Group,
    Keep,
    Plan,
    carry_out,
    make_plan,
    plan_as_json,
    read_plan,
    undo,
    write_plan,
    write_script,
)
from pyhash.copies.plan_file import path_as_json
from pyhash.errors import ForeignFileError, PatternError, PlanError

if sys.platform == "win32":
    pytest.skip("paths of POSIX systems", allow_module_level=True)

ODD = [
    "a b.png",
    "-rf.png",
    "quote'\".png",
    "$(touch pwned).png",
    "`touch pwned`.png",
    "line\nbreak.png",
    "back\\slash.png",
    os.fsdecode(b"odd\xff.png"),
    "\u202egnp.png",
    "*.png",
    "~",
]


@pytest.fixture
def other_disk(tmp_path: Path) -> Iterator[Path]:
    with on_another_disk(tmp_path) as disk:
        yield disk


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three copies in two folders: large, old, new."""
    folder = tmp_path / "photos"
    write(folder / "a" / "best.png", b"best" * 10, 500)
    write(folder / "b" / "large.jpg", b"large" * 100, 300)
    write(folder / "a" / "old.jpg", b"old", 100)
    write(folder / "b" / "new.jpg", b"new", 900)
    return folder


def whole(photos: Path) -> Group:
    return group_of(*(photos / name for name in ("a/best.png", "b/large.jpg", "a/old.jpg", "b/new.jpg")))


def kept(plan: Plan) -> set[tuple[str, str]]:
    return {(os.path.basename(step.kept.path), step.why) for step in plan.steps}


class TestWhichIsKept:
    @pytest.mark.parametrize(
        ("keep", "name", "why"),
        [
            (Keep(), "best.png", "most pixels"),
            (Keep(by="largest"), "large.jpg", "largest file"),
            (Keep(by="oldest"), "old.jpg", "oldest"),
            (Keep(by="newest"), "new.jpg", "newest"),
            (Keep(matching=["*.jpg"]), "large.jpg", "matches *.jpg, best of those"),
            (Keep(matching=["*.tif", "n*"]), "new.jpg", "matches n*"),
            (Keep(matching=["b/"], by="oldest"), "large.jpg", "matches b/, oldest"),
            (Keep(matching=["*.gif"]), "best.png", "most pixels"),
        ],
    )
    def test_by(self, photos: Path, keep: Keep, name: str, why: str) -> None:
        plan = make_plan([whole(photos)], [photos], keep=keep)
        assert kept(plan) == {(name, why)}
        assert len(plan.steps) == 3
        assert plan.left == ()

    def test_within(self, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(photos.parent)
        plan = make_plan([whole(photos)], [photos], keep=Keep(within=["photos/b"]))
        assert kept(plan) == {("large.jpg", "in photos/b, best of those")}
        (photos / "bb").mkdir()
        several = Keep(within=["photos/bb", "photos/b", "photos/a"], by="newest")
        assert kept(make_plan([whole(photos)], [photos], keep=several)) == {("new.jpg", "in photos/b, newest")}
        assert kept(make_plan([whole(photos)], [photos], keep=Keep(within=["photos/bb"]))) == {
            ("best.png", "most pixels")
        }

    def test_usage(self) -> None:
        with pytest.raises(ValueError, match="by must be one of best, largest, oldest, newest, got 'first'"):
            Keep(by="first")  # type: ignore[arg-type]
        with pytest.raises(PatternError, match=r"the pattern '\[a' is wrong"):
            Keep(matching=["[a"])

    def test_reference_folders(self, photos: Path) -> None:
        plan = make_plan([whole(photos)], [photos], reference=[photos / "b"])
        assert kept(plan) == {("large.jpg", "on the side that is never touched, best of those")}
        assert [os.path.basename(step.file.path) for step in plan.steps] == ["best.png", "old.jpg"]
        other = group_of(photos / "a/best.png", photos / "a/old.jpg")
        marked = other._replace(images=(other.images[0], other.images[1]._replace(reference=True)))
        assert kept(make_plan([marked], [photos])) == {("old.jpg", "on the side that is never touched")}

    def test_folders_by_any_of_their_names(self, photos: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """As where small letters are not told from large ones, or a folder is mounted twice."""
        (tmp_path / "PHOTOS").symlink_to(photos)
        real = os.path.realpath
        monkeypatch.setattr(os.path, "realpath", lambda path: real(path) if "PHOTOS" not in str(path) else str(path))
        plan = make_plan([whole(photos)], [photos], reference=[tmp_path / "PHOTOS" / "b"])
        assert [os.path.basename(step.file.path) for step in plan.steps] == ["best.png", "old.jpg"]
        plan = make_plan([whole(photos)], [photos], keep=Keep(within=[os.fspath(tmp_path / "PHOTOS" / "b")]))
        assert {os.path.basename(step.kept.path) for step in plan.steps} == {"large.jpg"}
        plan = make_plan([whole(photos)], [photos]).decided("move", tmp_path / "out")
        carried = carry_out(
            dataclasses.replace(plan, reference=(os.fspath(tmp_path / "PHOTOS" / "b"),)), tmp_path / "u"
        )
        assert [os.path.basename(done.step.file.path) for done in carried.done] == ["old.jpg"]

    def test_folders_that_are_not_there(self, photos: Path) -> None:
        with pytest.raises(ValueError, match="reference must be folders that are there, and gone is none"):
            make_plan([], [photos], reference=["gone"])
        with pytest.raises(ValueError, match="within must be folders that are there, and gone is none"):
            make_plan([], [photos], keep=Keep(within=["gone"]))

    def test_what_is_away(self, photos: Path) -> None:
        group = whole(photos)
        best, *others = group.images
        (photos / "a/best.png").unlink()
        away = group._replace(images=(best._replace(away=True), *others))
        plan = make_plan([away], [photos])
        assert kept(plan) == {("large.jpg", "best of those")}
        assert len(plan.steps) == 2
        assert (
            make_plan([group._replace(images=tuple(c._replace(away=True) for c in group.images))], [photos]).steps == ()
        )

    def test_similar_ones_are_no_copies(self, photos: Path) -> None:
        assert make_plan([whole(photos)._replace(level="similar")], [photos]) == Plan((os.fspath(photos),), ())

    def test_what_only_a_chain_joins_is_left(self, photos: Path) -> None:
        group = whole(photos)
        best, large, old, new = group.images
        new = new._replace(joined_by=old.path)
        plan = make_plan([group._replace(images=(best, large, old, new), chained=True)], [photos])
        assert len(plan.steps) == 2
        assert [left.path for left in plan.left] == [new.path]
        assert plan.left[0].reason.startswith("it was not proved to be a copy of the one kept")
        kept_is_chained = make_plan([group._replace(images=(best, large, old, new))], [photos], keep=Keep(by="newest"))
        assert [os.path.basename(step.file.path) for step in kept_is_chained.steps] == ["old.jpg"]  # that joins it
        same = new._replace(digest=best.digest)
        assert len(make_plan([group._replace(images=(best, same))], [photos]).steps) == 1

    def test_what_changed_since_it_was_compared(self, photos: Path) -> None:
        group = whole(photos)
        write(photos / "b/new.jpg", b"wen", 901)
        plan = make_plan([group], [photos])
        assert {(os.path.basename(left.path), left.reason) for left in plan.left} == {
            ("new.jpg", "it has changed since it was compared")
        }
        write(photos / "a/best.png", b"other", 500)
        plan = make_plan([group], [photos])
        assert plan.steps == ()
        assert len(plan.left) == 3
        assert "which is to be kept: it has changed" in plan.left[0].reason

    def test_links(self, photos: Path, tmp_path: Path) -> None:
        (photos / "linked").symlink_to(photos / "b")
        (photos / "a/link.jpg").symlink_to(photos / "b/new.jpg")
        group = group_of(photos / "a/best.png", photos / "linked/large.jpg", photos / "b/new.jpg")
        link = copy_of(photos / "b/new.jpg")._replace(path=os.fspath(photos / "a/link.jpg"))
        elsewhere = write(tmp_path / "elsewhere.jpg", b"x", 1)
        group = group._replace(images=(*group.images, link, copy_of(elsewhere)))
        plan = make_plan([group], [photos])
        assert [os.path.basename(step.file.path) for step in plan.steps] == ["new.jpg"]
        assert [left.reason for left in plan.left] == [
            "it is reached through a link",
            "it is a link",
            "it lies in none of the folders",
        ]
        (tmp_path / "way").symlink_to(photos)  # the folder itself may be one
        through = [copy._replace(path=copy.path.replace("/photos/", "/way/")) for copy in whole(photos).images]
        plan = make_plan([whole(photos)._replace(images=tuple(through))], [tmp_path / "way"])
        assert len(plan.steps) == 3
        assert plan.steps[0].file.path == os.fspath(photos / "b/large.jpg")


def moved(plan: Plan, to: Path) -> Plan:
    return plan.decided("move", to)


class TestMove:
    def test_the_structure_is_kept(self, photos: Path, tmp_path: Path) -> None:
        plan = moved(make_plan([whole(photos)], [photos]), tmp_path / "out" / "deep")
        before = tree(photos)
        rehearsed = carry_out(plan, tmp_path / "undo.jsonl", dry_run=True)
        assert tree(photos) == before
        assert not (tmp_path / "out").exists()
        assert not (tmp_path / "undo.jsonl").exists()
        assert rehearsed.undo_file is None
        done = carry_out(plan, tmp_path / "undo.jsonl")
        assert done.done == rehearsed.done
        assert done.left == ()
        assert done.undo_file == os.fspath(tmp_path / "undo.jsonl")
        assert {*tree(photos)} == {"a/best.png"}
        assert {*tree(tmp_path / "out" / "deep")} == {"b/large.jpg", "a/old.jpg", "b/new.jpg"}
        assert tree(tmp_path / "out" / "deep")["a/old.jpg"] == before["a/old.jpg"]
        assert len(undo(tmp_path / "undo.jsonl").restored) == 3
        assert tree(photos) == before
        assert not (tmp_path / "out").exists()

    def test_never_over_a_file(self, photos: Path, tmp_path: Path) -> None:
        plan = moved(make_plan([whole(photos)], [photos]), tmp_path / "out")
        write(tmp_path / "out/a/old.jpg", b"mine", 5)
        (tmp_path / "out/b").mkdir()
        (tmp_path / "out/b/new.jpg").symlink_to("nowhere")
        rehearsed = carry_out(plan, tmp_path / "undo.jsonl", dry_run=True)
        done = carry_out(plan, tmp_path / "undo.jsonl")
        assert done.done == rehearsed.done
        assert {*tree(tmp_path / "out")} == {"a/old.jpg", "a/old (2).jpg", "b/large.jpg", "b/new (2).jpg"}
        assert (tmp_path / "out/a/old.jpg").read_bytes() == b"mine"
        assert os.readlink(tmp_path / "out/b/new.jpg") == "nowhere"

    def test_a_file_where_a_folder_is_to_be(self, photos: Path, tmp_path: Path) -> None:
        write(tmp_path / "out/b", b"a file", 1)
        done = carry_out(moved(make_plan([whole(photos)], [photos]), tmp_path / "out"), tmp_path / "undo.jsonl")
        assert [os.path.basename(one.step.file.path) for one in done.done] == ["old.jpg"]
        assert len(done.left) == 2

    def test_several_folders_of_one_name(self, tmp_path: Path) -> None:
        one, two = tmp_path / "1/photos", tmp_path / "2/photos"
        files = [write(folder / "x.png", b"%d" % number, number) for number, folder in enumerate((one, two))]
        best = write(tmp_path / "1/photos/best.png", b"best", 9)
        plan = moved(make_plan([group_of(best, *files)], [one, two]), tmp_path / "out")
        assert carry_out(plan, tmp_path / "undo.jsonl").left == ()
        assert {*tree(tmp_path / "out")} == {"photos/x.png", "photos (2)/x.png"}

    def test_where_to(self, photos: Path, tmp_path: Path) -> None:
        plan = make_plan([whole(photos)], [photos])
        (tmp_path / "way").symlink_to(photos / "b")
        for bad in (photos, photos / "sub", tmp_path / "way"):
            with pytest.raises(ValueError, match="move_to must lie outside of"):
                plan.decided("move", bad)
        assert carry_out(plan.decided("move", photos / ".out"), tmp_path / "undo.jsonl").left == ()
        plan.decided("move", photos / "sub" / ".out")
        with pytest.raises(ValueError, match="move_to must be a folder where"):
            plan.decided("move")
        with pytest.raises(ValueError, match="move_to must be a folder where"):
            plan.decided("trash", tmp_path)
        with pytest.raises(ValueError, match="action must be one of move, trash, hardlink"):
            plan.decided("delete")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="must say what is to be done"):
            carry_out(plan, tmp_path / "undo.jsonl")


def same(tmp_path: Path) -> tuple[Path, Group]:
    """Three files of the same bytes, and one of others."""
    folder = tmp_path / "photos"
    files = [write(folder / f"{n}.png", b"same bytes", 10 * n + 1) for n in range(3)]
    other = write(folder / "other.png", b"other bytes", 7)
    return folder, group_of(*files, other)


class TestHardlink:
    def test_of_the_same_bytes_alone(self, tmp_path: Path) -> None:
        folder, group = same(tmp_path)
        (folder / "1.png").chmod(0o640)
        before = tree(folder)
        plan = make_plan([group], [folder]).decided("hardlink")
        assert len(plan.steps) == 2
        done = carry_out(plan, tmp_path / "undo.jsonl")
        assert (len(done.done), done.left) == (2, ())
        assert (folder / "0.png").stat().st_nlink == 3
        assert {*tree(folder)} == {*before}
        assert [*undo(tmp_path / "undo.jsonl").restored] == [os.fspath(folder / f"{n}.png") for n in (2, 1)]
        assert tree(folder) == before
        assert all((folder / name).stat().st_nlink == 1 for name in before)

    def test_refused(self, tmp_path: Path) -> None:
        folder, group = same(tmp_path)
        plan = make_plan([group], [folder]).decided("hardlink")
        os.link(folder / "1.png", folder / "one.png")
        carried = carry_out(plan, tmp_path / "undo.jsonl")
        assert [left.reason[:18] for left in carried.left] == ["it has other names"]
        assert [os.path.basename(done.step.file.path) for done in carried.done] == ["2.png"]
        of_others = make_plan([group_of(folder / "other.png", folder / "2.png")], [folder]).steps[0].kept
        different = plan.steps[0]._replace(kept=of_others)
        (left,) = carry_out(Plan(plan.folders, (different,)), tmp_path / "2.jsonl").left
        assert left.reason == "its bytes are not those of the one kept"

    def test_other_file_system(self, tmp_path: Path, other_disk: Path) -> None:
        folder, group = same(tmp_path)
        there = write(other_disk / "x.png", b"same bytes", 3)
        group = group._replace(images=(group.images[0], copy_of(there)))
        plan = make_plan([group], [folder, other_disk]).decided("hardlink")
        (left,) = carry_out(plan, tmp_path / "undo.jsonl").left
        assert left.reason == "it lies on another file system than the one kept"


class TestRefused:
    """What is looked at again at the moment of acting."""

    @pytest.fixture(params=["move", "trash", "hardlink"])
    def plan(self, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
        pytest.importorskip("send2trash")
        folder, group = same(tmp_path)
        group = group._replace(images=group.images[:2])
        self.file, self.kept, self.folder = folder / "1.png", folder / "0.png", folder
        self.undo = tmp_path / "undo.jsonl"
        return make_plan([group], [folder]).decided(
            request.param, tmp_path / "out" if request.param == "move" else None
        )

    def refused(self, plan: Plan, reason: str) -> None:
        before = tree(self.folder)
        for dry_run in (True, False):
            carried = carry_out(plan, self.undo, dry_run=dry_run)
            assert carried.done == ()
            (left,) = carried.left
            assert left.path == plan.steps[0].file.path
            assert reason in left.reason
        assert not self.undo.exists()
        assert tree(self.folder) == before

    def test_the_kept_one_is_gone(self, plan: Plan) -> None:
        self.kept.unlink()
        self.refused(plan, "0.png, which is to be kept: it is not there any more")

    def test_the_kept_one_has_other_bytes(self, plan: Plan) -> None:
        write(self.kept, b"SAME bytes", 1)
        self.refused(plan, "which is to be kept: its bytes have changed")

    def test_the_kept_one_is_a_link_to_the_file(self, plan: Plan) -> None:
        self.kept.unlink()
        self.kept.symlink_to(self.file)
        self.refused(plan, "which is to be kept: it is a link")

    def test_the_kept_one_is_another_name_of_the_file(self, plan: Plan) -> None:
        self.kept.unlink()
        os.link(self.file, self.kept)
        file = plan.steps[0].file
        plan = Plan(
            plan.folders, (plan.steps[0]._replace(kept=file._replace(path=os.fspath(self.kept))),), plan.move_to
        )
        self.refused(plan, "it is another name of the file that is kept")

    def test_the_kept_one_is_the_file(self, plan: Plan) -> None:
        plan = Plan(plan.folders, (plan.steps[0]._replace(kept=plan.steps[0].file),), plan.move_to)
        self.refused(plan, "which is to be kept, is one of the files")

    def test_other_bytes_of_the_same_size_and_time(self, plan: Plan) -> None:
        write(self.file, b"SAME bytes", 11)
        self.refused(plan, "its bytes have changed since")

    def test_touched(self, plan: Plan) -> None:
        os.utime(self.file)
        self.refused(plan, "it has changed since it was compared")

    def test_longer(self, plan: Plan) -> None:
        write(self.file, b"same bytes, and more", 11)
        self.refused(plan, "it has changed since it was compared")

    def test_another_file_of_the_same_bytes(self, plan: Plan) -> None:
        shutil.copy2(self.file, self.folder / "new.png")
        os.replace(self.folder / "new.png", self.file)
        self.refused(plan, "another file has taken its place")

    def test_gone(self, plan: Plan) -> None:
        self.file.unlink()
        self.refused(plan, "it is not there any more")

    def test_a_link_now(self, plan: Plan) -> None:
        os.replace(self.file, self.folder / "elsewhere.png")
        self.file.symlink_to(self.folder / "elsewhere.png")
        self.refused(plan, "it is a link")

    def test_a_folder_now(self, plan: Plan) -> None:
        self.file.unlink()
        self.file.mkdir()
        self.refused(plan, "it is no plain file")

    def test_a_pipe_now(self, plan: Plan) -> None:
        self.file.unlink()
        os.mkfifo(self.file)
        self.refused(plan, "it is no plain file")

    def test_outside_of_the_folders(self, plan: Plan, tmp_path: Path) -> None:
        self.refused(Plan((os.fspath(tmp_path / "pho"),), plan.steps, plan.move_to), "it lies in none of the plan's")

    def test_reference(self, plan: Plan) -> None:
        self.refused(
            Plan(plan.folders, plan.steps, plan.move_to, (os.fspath(self.folder),)), "in which nothing is touched"
        )

    def test_through_a_link(self, plan: Plan, tmp_path: Path) -> None:
        (tmp_path / "way").symlink_to(self.folder)
        file = plan.steps[0].file
        step = plan.steps[0]._replace(file=file._replace(path=os.fspath(tmp_path / "way/1.png")))
        self.refused(Plan((os.fspath(tmp_path / "way"),), (step,), plan.move_to), "it is reached through a link")

    @pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may do all")
    def test_not_allowed(self, plan: Plan) -> None:
        self.folder.chmod(0o500)
        try:
            self.refused(plan, "ermission denied")
        finally:
            self.folder.chmod(0o700)

    def test_others_go_on(self, plan: Plan, tmp_path: Path) -> None:
        """The first of two steps is refused, the second is done."""
        if plan.steps[0].action == "trash":
            pytest.skip("as the others")
        _, group = same(tmp_path)
        both = make_plan([group], [self.folder])
        both = both.decided("hardlink") if plan.move_to is None else both.decided("move", tmp_path / "out")
        os.utime(self.file)
        carried = carry_out(both, self.undo)
        assert os.path.basename(carried.left[0].path) == "1.png"
        assert "2.png" in {os.path.basename(done.step.file.path) for done in carried.done}


def test_never_the_last_copy(tmp_path: Path) -> None:
    """Plans that keep each of two in place of the other, put together by hand."""
    folder, group = same(tmp_path)
    one, two = group.images[:2]
    there = make_plan([group._replace(images=(one, two))], [folder]).decided("move", tmp_path / "out")
    back = make_plan([group._replace(images=(two, one))], [folder]).decided("move", tmp_path / "out")
    both = Plan(there.folders, there.steps + back.steps, there.move_to)
    carried = carry_out(both, tmp_path / "undo.jsonl")
    assert carried.done == ()
    assert len(carried.left) == 2
    assert carry_out(there, tmp_path / "1.jsonl").left == ()
    assert carry_out(back, tmp_path / "2.jsonl").done == ()  # one after the other


def test_names_of_one_file_may_move_on_their_disk(tmp_path: Path, other_disk: Path) -> None:
    folder, group = same(tmp_path)
    os.link(folder / "1.png", folder / "one.png")
    plan = make_plan([group._replace(images=group.images[:2])], [folder])
    (left,) = carry_out(plan.decided("move", other_disk / "out"), tmp_path / "undo.jsonl").left
    assert "would part" in left.reason
    assert carry_out(plan.decided("move", tmp_path / "out"), tmp_path / "undo.jsonl").left == ()
    assert os.path.samefile(tmp_path / "out/1.png", folder / "one.png")


def test_a_plan_stays_what_it_is_in_its_file(tmp_path: Path) -> None:
    folder, ref = tmp_path / os.fsdecode(b"photos\xfe"), tmp_path / "ref"
    ref.mkdir()
    files = [write(folder / name, b"x%d" % number, number) for number, name in enumerate(ODD)]
    plan = make_plan([group_of(*files)], [folder], reference=[ref]).decided("move", tmp_path / "out")
    assert len(plan.steps) == len(ODD) - 1
    write_plan(plan, tmp_path / "plan.json")
    assert read_plan(tmp_path / "plan.json") == plan
    shown = json.loads((tmp_path / "plan.json").read_text("ascii"))
    assert shown["pyhash"] == "plan"
    assert "path_bytes" in shown["folders"][0]
    assert "path_bytes" not in shown["reference"][0]
    assert isinstance(shown["steps"][0]["file"]["mtime_ns"], str)  # 64 bits in every reader
    write_plan(plan, tmp_path / "plan.json")
    (tmp_path / "mine.json").write_text("{}")
    with pytest.raises(ForeignFileError):
        write_plan(plan, tmp_path / "mine.json")
    assert carry_out(read_plan(tmp_path / "plan.json"), tmp_path / "undo.jsonl").left == ()
    assert {*tree(tmp_path / "out")} == {*ODD[1:]}
    assert len(undo(tmp_path / "undo.jsonl").restored) == len(ODD) - 1


def test_a_plan_that_is_none(tmp_path: Path) -> None:
    folder, group = same(tmp_path)
    good = plan_as_json(make_plan([group], [folder]).decided("move", tmp_path / "out"))

    def refused(read: Any, message: str) -> None:
        (tmp_path / "plan.json").write_text(json.dumps(read) if not isinstance(read, str) else read)
        with pytest.raises(PlanError, match=message):
            read_plan(tmp_path / "plan.json")

    def changed(path: str, value: Any) -> Any:
        read = json.loads(json.dumps(good))
        *way, last = path.split("/")
        place = read
        for part in way:
            place = place[int(part) if part.isdecimal() else part]
        place[last] = value
        return read

    refused("", "is no plan of pyhash, or is damaged")
    refused("[]", "is no plan of pyhash: it does not say so")
    refused(changed("version", 2), "is a plan of version 2; this pyhash reads version 1")
    refused({key: value for key, value in good.items() if key != "steps"}, "'steps' is missing")
    refused(changed("steps/0/action", "delete"), "step 1 is wrong: action must be null or one of move, trash, hardlink")
    refused(changed("steps/1/level", "alike"), "step 2 is wrong: level must be one of")
    refused(changed("steps/1/why", None), "why must be text")
    refused(changed("steps/1/file/digest", "xyz"), "step 2 is wrong")
    refused(changed("steps/1/file/mtime_ns", "soon"), "step 2 is wrong")
    for path in ("relative", "/a/../b", "/a//b", "/a\0", 7, None):
        refused(changed("steps/1/kept/path", path), "step 2 is wrong: a path must be absolute")
    refused(changed("folders/0/path", "photos"), "it is wrong: a path must be absolute")
    refused(changed("folders/0/path_bytes", "!"), "path_bytes must be base64")


class TestScript:
    @pytest.fixture(params=[None, "move", "hardlink"])
    def action(self, request: pytest.FixtureRequest) -> Any:
        return request.param

    def plan(self, tmp_path: Path, action: Any) -> Plan:
        self.folder = tmp_path / "photos"
        files = [write(self.folder / name, b"the same", number) for number, name in enumerate(ODD)]
        plan = make_plan([group_of(*files)], [self.folder])
        return plan if action is None else plan.decided(action, tmp_path / "out" if action == "move" else None)

    def run(self, tmp_path: Path, code: int = 0, **options: Any) -> str:
        found = subprocess.run(
            ["sh", tmp_path / "act.sh"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            check=False,
            **options,
        )
        assert found.returncode == code, found
        assert not [*tmp_path.rglob("pwned")]
        return found.stderr

    def test_any_file_name(self, tmp_path: Path, action: Any) -> None:
        plan = self.plan(tmp_path, action)
        write_script(plan, tmp_path / "act.sh")
        assert subprocess.run(["sh", "-n", tmp_path / "act.sh"], check=False).returncode == 0
        assert {*tree(self.folder)} == {*ODD}
        assert self.run(tmp_path) == ""
        if action == "hardlink":
            assert (self.folder / ODD[0]).stat().st_nlink == len(ODD)
            assert {*tree(self.folder)} == {*ODD}
        else:
            assert {*tree(self.folder)} == {ODD[0]}
        if action == "move":
            assert {*tree(tmp_path / "out")} == {*ODD[1:]}

    def test_what_changed_is_left(self, tmp_path: Path, action: Any) -> None:
        write_script(self.plan(tmp_path, action), tmp_path / "act.sh")
        write(self.folder / ODD[1], b"not same", 1)
        os.replace(self.folder / ODD[2], tmp_path / "aside")
        (self.folder / ODD[2]).symlink_to(tmp_path / "aside")
        (self.folder / ODD[3]).unlink()
        os.link(self.folder / ODD[0], self.folder / ODD[3])
        said = self.run(tmp_path, code=1)
        assert said.count("left: ") == 3
        assert "it is another name of the one kept" in said
        assert (self.folder / ODD[1]).read_bytes() == b"not same"
        assert (tmp_path / "aside").exists()
        assert (self.folder / ODD[3]).exists()

    def test_the_kept_one_changed(self, tmp_path: Path, action: Any) -> None:
        write_script(self.plan(tmp_path, action), tmp_path / "act.sh")
        write(self.folder / ODD[0], b"not same", 1)
        before = tree(self.folder)
        assert self.run(tmp_path, code=1).count("is not what it was") == len(ODD) - 1
        assert tree(self.folder) == before

    def test_without_b2sum_sizes_are_compared(self, tmp_path: Path, action: Any) -> None:
        write_script(self.plan(tmp_path, action), tmp_path / "act.sh")
        write(self.folder / ODD[1], b"longer than it was", 1)
        (tmp_path / "bin").mkdir()
        for name in ("sh", "wc", "tr", "cut", "rm", "mv", "mkdir", "dirname", "ln", "cmp"):
            (tmp_path / "bin" / name).symlink_to(str(shutil.which(name)))
        said = self.run(tmp_path, code=1, env={"PATH": os.fspath(tmp_path / "bin")})
        assert said.count("left: ") == 1
        assert "sizes alone are compared" in said
        assert (self.folder / ODD[1]).exists()

    def test_a_name_of_its_own(self, tmp_path: Path) -> None:
        plan = self.plan(tmp_path, None)
        odd = tmp_path / "a\n'b.sh"
        write_script(plan, odd)
        write_script(plan, odd)
        assert subprocess.run(["sh", "-n", odd], check=False).returncode == 0
        write_script(plan, tmp_path / "act.sh")
        assert stat.S_ISREG((tmp_path / "act.sh").stat().st_mode)
        (tmp_path / "mine.sh").write_text("#!/bin/sh\n")
        with pytest.raises(ForeignFileError):
            write_script(plan, tmp_path / "mine.sh")
        with pytest.raises(ValueError, match="a script cannot put files into the trash"):
            write_script(plan.decided("trash"), tmp_path / "act.sh")


def test_paths_as_json() -> None:
    assert path_as_json("/ä") == {"path": "/ä"}
    assert path_as_json(os.fsdecode(b"/\xff")) == {"path": "/\udcff", "path_bytes": "L/8="}

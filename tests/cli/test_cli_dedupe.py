"""``pyhash dedupe``: what is listed and how, what is done with copies, and how it is undone."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from commands import run, start
from copied import group_of, own_home, tree, write
from galleries import picture

from pyhash.cli import deduping
from pyhash.copies import Duplicates, Group, Uncompared, make_plan, write_plan


@pytest.mark.usefixtures("fake")
class TestFound:
    @pytest.fixture
    def folder(self, folder: Path) -> Path:
        """Without the file that is no image."""
        (folder / "bad.jpg").unlink()
        return folder

    def test_what_could_not_be_read_is_named(self, folder: Path) -> None:
        (folder / "bad.png").write_text("no image")
        run("index", folder)
        result = run("dedupe", folder, "--json", code=1)
        (named,) = json.loads(result.stdout)["uncompared"]
        assert named["path"] == os.fspath(folder / "bad.png")
        assert f"not compared: {folder / 'bad.png'}: " in result.stderr

    def test_groups(self, folder: Path) -> None:
        run("index", folder)
        answer = json.loads(run("dedupe", folder, "--json").stdout)
        (group,) = answer["groups"]
        assert [image["path"] for image in group] == [os.fspath(folder / "a.png"), os.fspath(folder / "copy.png")]
        assert run("dedupe", folder).stdout.splitlines()[-1] == "1 group, 1 image beyond the first of each"
        run("dedupe", folder, "--fail-if-found", code=7)
        assert (folder / "copy.png").exists()

    def test_html(self, folder: Path, tmp_path: Path) -> None:
        run("index", folder)
        run("dedupe", folder, "--html", tmp_path / "out.html")
        assert "pyhash" in (tmp_path / "out.html").read_text(encoding="utf-8")
        (folder / "copy.png").unlink()
        run("index", folder)
        result = run("dedupe", folder, "--html", tmp_path / "out.html")
        assert result.stdout == "no duplicates among 4 images\n"
        run("dedupe", folder, "--fail-if-found")

    def test_the_best_is_first(self, folder: Path) -> None:
        """Most pixels, then most bytes, then the oldest."""
        os.utime(folder / "copy.png", ns=(10**18, 10**18))
        run("index", folder)
        (group,) = json.loads(run("dedupe", folder, "--json").stdout)["groups"]
        assert [(Path(image["path"]).name, image["reason"]) for image in group] == [
            ("copy.png", "oldest"),
            ("a.png", ""),
        ]
        picture(folder / "a.png", 0, (64, 48))
        run("index", folder)
        (group,) = json.loads(run("dedupe", folder, "--json").stdout)["groups"]
        assert (Path(group[0]["path"]).name, group[0]["reason"]) == ("a.png", "most pixels")
        assert (group[0]["width"], group[0]["height"], group[0]["relation"]) == (64, 48, "best")

    def test_a_changed_copy(self, folder: Path, tmp_path: Path) -> None:
        picture(folder / "copy.png", 0, (64, 48))
        picture(folder / "a.png", 0, (32, 24))
        run("index", folder)
        (group,) = json.loads(run("dedupe", folder, "--json").stdout)["groups"]
        assert [(Path(image["path"]).name, image["relation"]) for image in group] == [
            ("copy.png", "best"),
            ("a.png", "changed"),
        ]
        assert group[1]["differs"] == ["32 x 24 pixels instead of 64 x 48"]
        run("dedupe", folder, "--move-to", tmp_path / "out")
        assert {*tree(tmp_path / "out")} == {"a.png"}

    def test_not_duplicates(self, folder: Path) -> None:
        run("index", folder)
        pair = [folder / "copy.png", folder / "a.png"]
        said = run("dedupe", folder, "--not-duplicates", *pair).stdout
        assert said == f"{pair[0]} and {pair[1]} are no duplicates: remembered\n"
        run("index", folder)
        run("dedupe", folder, "--fail-if-found")
        shown = json.loads(run("dedupe", folder, "--json").stdout)
        assert shown["groups"] == []
        assert shown["not_duplicates"] == [
            {"one": os.fspath(folder / "a.png"), "other": os.fspath(folder / "copy.png")}
        ]
        back = run("dedupe", folder, "--maybe-duplicates", *pair, "--json").stdout
        assert json.loads(back) == {"not_duplicates": []}
        run("dedupe", folder, "--fail-if-found", code=7)
        assert "must have been told apart" in run("dedupe", folder, "--maybe-duplicates", *pair, code=2).stderr
        assert "is none" in run("dedupe", folder, "--not-duplicates", "x.png", pair[0], code=2).stderr

    def test_usage(self, folder: Path) -> None:
        run("dedupe", folder, code=3)
        assert "Missing argument 'FOLDER'" in run("dedupe", code=2).stderr

    def test_a_plan_from_the_folder_to_the_undo(self, folder: Path, tmp_path: Path) -> None:
        """As it is, without anything put in its place."""
        run("index", folder)
        run("dedupe", folder)  # that leaves beside the gallery what came of comparisons
        before = tree(folder)
        run("dedupe", folder, "--keep-matching", "copy*", "--move-to", tmp_path / "out", "--undo-file", tmp_path / "u")
        assert {*tree(tmp_path / "out")} == {"a.png"}
        run("dedupe", "--undo", tmp_path / "u")
        assert tree(folder) == before


class Scene:
    """A folder with two groups of copies and one of similar images, which the search is told to find."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        same = [write(folder / name, b"same bytes", n) for n, name in enumerate(["a/1.png", "a/2.png", "b/1.png"])]
        other = [write(folder / "b" / name, content, 5) for name, content in [("3.png", b"three"), ("4.png", b"four")]]
        alike = [write(folder / "c" / name, content, 6) for name, content in [("5.png", b"five"), ("6.png", b"six")]]
        best, *copies = group_of(*same).images
        copies = [copy._replace(relation="identical bytes", id=n) for n, copy in enumerate(copies)]
        changed = group_of(*other, reason="least compressed")
        second = changed.images[1]._replace(differs=("a quarter of its pixels", "brighter"), certainty=0.9)
        self.found = Duplicates(
            (
                Group((best._replace(relation="best"), *copies), "oldest"),
                changed._replace(images=(changed.images[0]._replace(relation="best"), second)),
                group_of(*alike)._replace(level="similar"),
            ),
            images=9,
        )

    def dedupe(self, *arguments: str | Path, code: int = 0) -> Result:
        return run("dedupe", self.folder, *arguments, code=code)

    def json(self, *arguments: str | Path, code: int = 0) -> Any:
        return json.loads(self.dedupe(*arguments, "--json", code=code).stdout)


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake: object) -> Scene:
    folder = tmp_path / "photos"
    picture(folder / "other.png", 1)
    run("index", folder)
    (folder / "other.png").unlink()
    scene = Scene(folder)
    monkeypatch.setattr(deduping, "_find", lambda *_, **__: scene.found)
    own_home(monkeypatch, tmp_path / "home")
    return scene


class TestShown:
    def test_json(self, scene: Scene) -> None:
        shown = scene.json()
        assert [[Path(image["path"]).name for image in group] for group in shown["groups"]] == [
            ["1.png", "2.png", "1.png"],
            ["3.png", "4.png"],
        ]
        assert [len(group) for group in shown["similar"]] == [2]
        first, second, _ = shown["groups"][0]
        status = (scene.folder / "a/2.png").stat()
        assert second == {
            "path": os.fspath(scene.folder / "a/2.png"),
            "id": 0,
            "width": 40,
            "height": 30,
            "bytes": 10,
            "mtime_ns": status.st_mtime_ns,
            "digest": hashlib.blake2b(b"same bytes", digest_size=16).hexdigest(),
            "format": "PNG",
            "sharpness": 1.0,
            "relation": "identical bytes",
            "differs": [],
            "certainty": 1.0,
            "joined_by": None,
            "away": False,
            "reference": False,
            "reason": "",
        }
        assert first["reason"] == "oldest"
        assert shown["groups"][1][1]["differs"] == ["a quarter of its pixels", "brighter"]
        assert (shown["images"], shown["waiting"], shown["uncompared"]) == (9, 0, [])

    def test_text(self, scene: Scene) -> None:
        lines = scene.dedupe().stdout.splitlines()
        assert lines[0] == "3 images, first the best: oldest"
        assert lines[1].split() == ["best", "40", "x", "30", "10", "bytes", "PNG", "1970-01-01", *lines[1].split()[-1:]]
        assert lines[2].startswith("identical bytes")
        assert "changed, a quarter of its pixels, brighter, 90% sure" in lines[7]
        assert "similar: 2 images, first the best: most pixels" in lines
        assert lines[-2:] == [
            "2 groups, 3 images beyond the first of each",
            "1 group of similar images, 1 image beyond the first of each",
        ]

    def test_csv(self, scene: Scene) -> None:
        odd = write(scene.folder / os.fsdecode(b'o"d\xff,\n.png'), b"odd", 1)
        scene.found = scene.found._replace(groups=(*scene.found.groups, group_of(odd, odd)))
        text = scene.dedupe("--csv").stdout_bytes
        rows = [*csv.DictReader(io.StringIO(os.fsdecode(text), newline=""))]
        assert len(rows) == 9
        assert [row["group"] for row in rows] == list("111223344")
        assert rows[3] == {
            "level": "duplicates",
            "group": "2",
            "path": os.fspath(scene.folder / "b/3.png"),
            "relation": "best",
            "differs": "",
            "width": "40",
            "height": "30",
            "bytes": "5",
            "modified": rows[3]["modified"],
            "format": "PNG",
            "sharpness": "1.0",
            "certainty": "1.0",
            "joined_by": "",
            "away": "0",
            "reference": "0",
            "reason": "least compressed",
        }
        assert rows[5]["level"] == "similar"
        assert rows[7]["path"] == os.fspath(odd)

    def test_paths_alone(self, scene: Scene) -> None:
        names = [["a/1.png", "a/2.png", "b/1.png"], ["b/3.png", "b/4.png"], ["c/5.png", "c/6.png"]]
        for option, end in [("-f", "\n"), ("--paths", "\n"), ("-0", "\0"), ("--null", "\0")]:
            shown = scene.dedupe(option).stdout
            assert shown == "".join("".join(f"{scene.folder}/{name}{end}" for name in group) + end for group in names)

    def test_one_answer(self, scene: Scene) -> None:
        assert "--json cannot be given with --csv" in scene.dedupe("--json", "--csv", code=2).stderr
        assert "--csv cannot be given with --paths or --null" in scene.dedupe("-0", "--csv", code=2).stderr

    def test_what_could_not_be_compared(self, scene: Scene) -> None:
        scene.found = Duplicates((), (Uncompared("/x/bad\n.jpg", "cut short"),), images=3, waiting=2)
        result = scene.dedupe(code=1)
        assert result.stdout == "no duplicates among 3 images\n"
        assert "pyhash: not compared: /x/bad\\n.jpg: cut short\n" in result.stderr
        assert "2 images wait to be encoded" in result.stderr
        shown = scene.json(code=1)
        assert shown["uncompared"] == [{"path": "/x/bad\n.jpg", "reason": "cut short"}]
        scene.found = scene.found._replace(waiting=0)
        scene.dedupe("--fail-if-found", code=1)

    def test_found(self, scene: Scene) -> None:
        scene.dedupe("--fail-if-found", code=7)
        scene.found = scene.found._replace(groups=scene.found.groups[2:])
        scene.dedupe("--fail-if-found")  # what is similar is no copy

    def test_across_folders(self, scene: Scene) -> None:
        shown = scene.json("--across-folders")
        assert [len(group) for group in shown["groups"]] == [3]
        assert shown["similar"] == []

    @pytest.mark.parametrize("mtime_ns", [-(2**62), 2**62, 2**63 - 1])
    def test_times_that_no_calendar_has(self, scene: Scene, mtime_ns: int) -> None:
        first = scene.found.groups[0]
        images = tuple(copy._replace(mtime_ns=mtime_ns) for copy in first.images)
        scene.found = scene.found._replace(groups=(first._replace(images=images),))
        scene.dedupe()
        scene.dedupe("--csv")


class TestDone:
    def test_nothing_unless_it_is_said(self, scene: Scene) -> None:
        before = tree(scene.folder)
        scene.dedupe("--keep", "newest", "--keep-in", scene.folder / "b", "--reference", scene.folder / "a")
        assert tree(scene.folder) == before
        assert "--dry-run needs" in scene.dedupe("--dry-run", code=2).stderr

    def test_move(self, scene: Scene, tmp_path: Path) -> None:
        before, undo_file = tree(scene.folder), tmp_path / "undo file.jsonl"
        arguments = ["--move-to", tmp_path / "out", "--undo-file", undo_file]
        dry = scene.dedupe(*arguments, "--dry-run").stdout
        assert f"would move {scene.folder}/a/2.png -> {tmp_path}/out/a/2.png\n" in dry
        assert f"  keeps {scene.folder}/a/1.png: oldest\n" in dry
        assert dry.endswith("3 images, 24 bytes; nothing was done, as --dry-run says\n")
        assert tree(scene.folder) == before
        assert not undo_file.exists()
        result = scene.dedupe(*arguments)
        done = result.stdout
        assert result.stderr == f"pyhash: what is done is written to {undo_file}\n"
        assert f"moved {scene.folder}/a/2.png -> {tmp_path}/out/a/2.png\n" in done
        assert done.endswith(f"3 images, 24 bytes\nundo: pyhash dedupe --undo {undo_file}\n")
        assert {*tree(tmp_path / "out")} == {"a/2.png", "b/1.png", "b/4.png"}
        assert "c/6.png" in tree(scene.folder)  # what is similar is left
        back = run("dedupe", "--undo", undo_file).stdout
        assert f"brought back {scene.folder}/a/2.png\n" in back
        assert back.endswith("3 images brought back\n")
        assert tree(scene.folder) == before
        assert run("dedupe", "--undo", undo_file).stdout == "0 images brought back, 3 had not been away\n"

    def test_trash_and_undo_file_of_its_own(self, scene: Scene, tmp_path: Path) -> None:
        pytest.importorskip("send2trash")
        before = tree(scene.folder)
        shown = scene.json("--trash")
        assert [Path(done["path"]).name for done in shown["done"]] == ["2.png", "1.png", "4.png"]
        assert {done["action"] for done in shown["done"]} == {"trash"}
        assert len(tree(scene.folder)) == len(before) - 3
        assert os.path.dirname(shown["undo_file"]) == os.fspath(tmp_path / "home/data/pyhash/undo")
        undone = json.loads(run("dedupe", "--undo", shown["undo_file"], "--json").stdout)
        assert len(undone["restored"]) == 3
        assert undone["left"] == undone["unreadable_lines"] == []
        assert tree(scene.folder) == before

    def test_hardlink(self, scene: Scene, tmp_path: Path) -> None:
        shown = scene.dedupe("--hardlink", "--keep-in", scene.folder / "b", "--undo-file", tmp_path / "undo").stdout
        assert f"made a hard link of {scene.folder}/a/1.png\n" in shown
        assert f"  keeps {scene.folder}/b/1.png: in {scene.folder}/b\n" in shown
        assert "1 image left: links need the same bytes\n" in shown
        assert (scene.folder / "a/1.png").samefile(scene.folder / "b/1.png")
        assert (scene.folder / "b/4.png").stat().st_nlink == 1

    def test_script(self, scene: Scene, tmp_path: Path) -> None:
        before, script = tree(scene.folder), tmp_path / "act.sh"
        assert scene.dedupe("--script", script).stdout == f"3 images in {script}; nothing was done\n"
        assert tree(scene.folder) == before
        subprocess.run(["sh", script], check=True)
        assert {*tree(scene.folder)} == {"a/1.png", "b/3.png", "c/5.png", "c/6.png"} | {
            name for name in before if name.startswith(".")
        }
        scene.dedupe("--script", script, "--trash", code=2)
        (tmp_path / "mine").write_text("mine")
        assert "a file that pyhash did not write" in scene.dedupe("--script", tmp_path / "mine", code=2).stderr
        scene.found = scene.found._replace(groups=())
        scene.dedupe("--script", tmp_path / "mine", "--overwrite")

    def test_plan_and_apply(self, scene: Scene, tmp_path: Path) -> None:
        before, plan, undo_file = tree(scene.folder), tmp_path / "plan.json", tmp_path / "undo"
        assert scene.dedupe("--plan", plan).stdout == f"3 images in {plan}; nothing was done\n"
        assert tree(scene.folder) == before
        assert "does not say what is to be done" in run("dedupe", "--apply", plan, code=2).stderr
        out = ["--move-to", tmp_path / "out"]
        assert "would move" in run("dedupe", "--apply", plan, *out, "--dry-run").stdout
        assert tree(scene.folder) == before
        shown = json.loads(run("dedupe", "--apply", plan, *out, "--undo-file", undo_file, "--json").stdout)
        assert len(shown["done"]) == 3
        run("dedupe", "--undo", undo_file)
        assert tree(scene.folder) == before
        scene.dedupe("--plan", plan, *out)
        run("dedupe", "--apply", plan, "--undo-file", tmp_path / "undo2")
        assert {*tree(tmp_path / "out")} == {"a/2.png", "b/1.png", "b/4.png"}
        (tmp_path / "no.json").write_text("{}")
        assert "is no plan of pyhash" in run("dedupe", "--apply", tmp_path / "no.json", code=2).stderr
        assert "No such file" in run("dedupe", "--apply", tmp_path / "gone.json", code=2).stderr

    def test_what_was_refused(self, scene: Scene, tmp_path: Path) -> None:
        plan = tmp_path / "plan.json"
        scene.dedupe("--plan", plan)
        (scene.folder / "a/2.png").write_bytes(b"changed")
        (scene.folder / "b/3.png").unlink()
        arguments = ["dedupe", "--apply", plan, "--move-to", tmp_path / "out", "--undo-file", tmp_path / "undo"]
        result = run(*arguments, code=1)
        assert "1 image, 10 bytes\n" in result.stdout
        assert f"pyhash: left {scene.folder}/a/2.png: it has changed since it was compared\n" in result.stderr
        assert (
            f"left {scene.folder}/b/4.png: of {scene.folder}/b/3.png, which is to be kept: it is not" in result.stderr
        )
        shown = scene.json("--move-to", tmp_path / "out", "--undo-file", tmp_path / "undo2", code=1)
        assert {Path(left["path"]).name for left in shown["left"]} == {"1.png", "2.png", "4.png"}

    def test_reference(self, scene: Scene, tmp_path: Path) -> None:
        arguments = ["--move-to", tmp_path / "out", "--undo-file", tmp_path / "undo"]
        shown = scene.json(*arguments, "--reference", scene.folder / "b")
        assert [os.path.relpath(done["path"], scene.folder) for done in shown["done"]] == ["a/1.png", "a/2.png"]
        assert {done["why"] for done in shown["done"]} == {"on the side that is never touched"}

    def test_usage(self, scene: Scene, tmp_path: Path) -> None:
        assert "only one can be given" in scene.dedupe("--trash", "--hardlink", code=2).stderr
        refused = scene.dedupe("--move-to", scene.folder / "sub", code=2)
        assert "--move-to must lie outside of" in refused.stderr
        (tmp_path / "there").write_text("mine")
        refused = scene.dedupe("--hardlink", "--undo-file", tmp_path / "there", code=2)
        assert "--undo-file must name a new file" in refused.stderr
        assert "is no undo file" in run("dedupe", "--undo", tmp_path / "there", code=2).stderr
        assert "needs neither FOLDER" in scene.dedupe("--undo", tmp_path / "there", code=2).stderr
        assert "needs neither FOLDER" in scene.dedupe("--apply", tmp_path / "there", code=2).stderr
        assert "does not exist" in scene.dedupe("--reference", tmp_path / "gone", code=2).stderr
        assert "does not exist" in scene.dedupe("--keep-in", tmp_path / "gone", code=2).stderr
        assert "the pattern '[a' is wrong" in scene.dedupe("--keep-matching", "[a", code=2).stderr

    def test_without_the_package_for_the_trash(self, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "send2trash", None)
        assert "pyhash-retrieval[trash]" in scene.dedupe("--trash", code=4).stderr

    def test_undo_that_cannot_bring_all_back(self, scene: Scene, tmp_path: Path) -> None:
        scene.dedupe("--move-to", tmp_path / "out", "--undo-file", tmp_path / "undo")
        shutil.rmtree(tmp_path / "out" / "b")
        result = run("dedupe", "--undo", tmp_path / "undo", code=1)
        assert result.stdout.endswith("1 image brought back\n")
        assert f"pyhash: not brought back: {scene.folder}/b/4.png: it is not there any more" in result.stderr

    def test_a_full_disk_for_the_undo_file(self, scene: Scene, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        before = tree(scene.folder)
        result = scene.dedupe("--move-to", tmp_path / "out", "--undo-file", tmp_path / "file" / "undo", code=2)
        assert "stopped: the undo file" in result.stderr
        assert tree(scene.folder) == before


def test_killed_and_brought_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that is killed while it moves images; another brings back what it moved."""
    own_home(monkeypatch, tmp_path / "home")
    folder = tmp_path / "photos"
    groups = [group_of(*(write(folder / f"{n}{name}.png", b"%d" % n, n) for name in "ab")) for n in range(300)]
    write_plan(make_plan(groups, [folder]), tmp_path / "plan.json")
    before = tree(folder)
    child = start("dedupe", "--apply", tmp_path / "plan.json", "--move-to", tmp_path / "out")
    assert child.stderr is not None
    said = "pyhash: what is done is written to "  # perhaps after a warning
    undo_file = next(line for line in child.stderr if line.startswith(said)).removeprefix(said).strip()
    while len(tree(tmp_path / "out")) < 20:
        time.sleep(0.01)
    child.kill()
    child.communicate()
    moved = len(tree(tmp_path / "out"))
    assert 20 <= moved < 300
    assert run("dedupe", "--undo", undo_file).stdout.splitlines()[-1].startswith(f"{moved} images brought back")
    assert tree(folder) == before
    assert not (tmp_path / "out").exists()

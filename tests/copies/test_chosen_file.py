"""What was chosen on the page of a service, as a plan."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from commands import run
from galleries import picture

from pyhash.copies import carry_out, holds_choices, read_choices, read_plan
from pyhash.copies.seen import look_at
from pyhash.errors import PlanError


def shown(folder: Path, inside: str, called: str | None = None) -> dict[str, Any]:
    """A file as the page has it."""
    seen = look_at(os.fspath(folder / inside))
    return {
        "path": called or inside,
        "size": seen.size,
        "mtime_ns": str(seen.mtime_ns),
        "digest": seen.digest.hex(),
    }


def step(file: dict[str, Any], kept: dict[str, Any]) -> dict[str, Any]:
    return {"level": "duplicates", "why": "most pixels", "file": file, "kept": kept}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    for number, name in enumerate(("a/1.png", "b/1.png", "b/2.png")):
        picture(folder / name, number)
    return folder


def write(path: Path, *steps: dict[str, Any], **more: Any) -> Path:
    path.write_text(json.dumps({"pyhash": "choices", "version": 1, "steps": [*steps]} | more))
    return path


def test_it_is_carried_out(folder: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "choices.json", step(shown(folder, "b/1.png"), shown(folder, "a/1.png")))
    assert holds_choices(file)
    plan = read_choices(file, [folder])
    assert (plan.folders, plan.left) == ((os.fspath(folder),), ())
    carry_out(plan.decided("move", tmp_path / "out"), tmp_path / "undo")
    assert (tmp_path / "out/b/1.png").exists()
    assert not (folder / "b/1.png").exists()


def test_what_is_not_as_it_was_is_left(folder: Path, tmp_path: Path) -> None:
    steps = [step(shown(folder, f"b/{n}.png"), shown(folder, "a/1.png")) for n in (1, 2)]
    gone = {**shown(folder, "b/1.png"), "path": "b/3.png"}
    file = write(tmp_path / "choices.json", *steps, step(gone, shown(folder, "a/1.png")))
    picture(folder / "b/1.png", 7)
    plan = read_choices(file, [folder])
    (left,) = plan.left
    assert left.path == os.fspath(folder / "b/3.png")
    assert "not there any more" in left.reason
    carried = carry_out(plan.decided("move", tmp_path / "out"), tmp_path / "undo")
    assert [Path(done.step.file.path).name for done in carried.done] == ["2.png"]
    assert "has changed" in carried.left[0].reason


def test_of_several_folders_each_has_its_name(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "there" / "more"
    picture(other / "1.png", 9)
    called = step(shown(other, "1.png", "more/1.png"), shown(folder, "a/1.png", "images/a/1.png"))
    plan = read_choices(write(tmp_path / "choices.json", called), [folder, other])
    assert plan.steps[0].file.path == os.fspath(other / "1.png")
    assert plan.steps[0].kept.path == os.fspath(folder / "a/1.png")


@pytest.mark.parametrize("path", ["/etc/passwd", "../secret.png", "a/../../secret.png", "", 7])
def test_nothing_outside_is_named(folder: Path, tmp_path: Path, path: Any) -> None:
    picture(tmp_path / "secret.png")
    wrong = {**shown(folder, "b/1.png"), "path": path}
    with pytest.raises(PlanError, match="must lie inside the folder"):
        read_choices(write(tmp_path / "choices.json", step(wrong, shown(folder, "a/1.png"))), [folder])


def test_what_cannot_be_read(folder: Path, tmp_path: Path) -> None:
    good = step(shown(folder, "b/1.png"), shown(folder, "a/1.png"))
    for steps, more in (
        ([{**good, "level": "kind"}], {}),
        ([{**good, "why": None}], {}),
        ([{**good, "kept": {}}], {}),
        ([{**good, "file": {**good["file"], "digest": "no"}}], {}),
        ([good], {"version": 2}),
        ([good], {"pyhash": "plan"}),
        ([], {"steps": None}),
    ):
        with pytest.raises(PlanError, match="holds no choices"):
            read_choices(write(tmp_path / "choices.json", *steps, **more), [folder])
    (tmp_path / "none").write_text("{")
    assert not holds_choices(tmp_path / "none")
    with pytest.raises(PlanError, match="give the folder"):
        read_plan(write(tmp_path / "choices.json", good))


@pytest.mark.usefixtures("fake")
def test_by_the_command(folder: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "choices.json", step(shown(folder, "b/1.png"), shown(folder, "a/1.png")))
    run("index", folder)
    wanted = ["--move-to", tmp_path / "out", "--undo-file", tmp_path / "undo"]
    assert "give the folder" in run("dedupe", "--apply", file, *wanted, code=2).stderr
    assert "does not say what is to be done" in run("dedupe", folder, "--apply", file, code=2).stderr
    assert "1 image" in run("dedupe", folder, "--apply", file, *wanted).stdout
    assert (tmp_path / "out/b/1.png").exists()
    run("dedupe", "--undo", tmp_path / "undo")
    assert (folder / "b/1.png").exists()

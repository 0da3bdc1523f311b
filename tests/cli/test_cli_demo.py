"""``pyhash demo``, with the built-in model and its photographs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from commands import run, start
from galleries import FakeEncoder, picture

pytest.importorskip("onnxruntime")

from pyhash import encoder
from pyhash.cli import photographs as demo


def test_demo_and_its_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`pyhash demo` in a process of its own, then every other command on what it copied."""
    child = start("demo", cwd=tmp_path)
    shown, errors = child.communicate()
    assert child.returncode == 0, errors
    assert [line for line in errors.splitlines() if "searches with Numba" not in line] == []
    directory = tmp_path / "pyhash-demo"
    assert (directory / "search.html").read_text(encoding="utf-8").count("data:image") == 3 * 13
    assert "120 images can be searched (120 added)" in shown

    monkeypatch.chdir(tmp_path)
    again = run("demo", "--json")
    assert "120 images can be searched (120 unchanged)" in again.stderr
    answer = json.loads(again.stdout)
    assert Path(answer["html"]) == Path("pyhash-demo", "search.html")
    assert [len(result["matches"]) for result in answer["results"]] == [12, 12, 12]

    images, file = directory / "photographs", directory / "gallery.sqlite"
    queries = sorted((directory / "queries").iterdir())
    found = run("search", images, *queries, "-k", "5", "--gallery", file, "--json")
    families = {
        Path(result["query"]).stem: [Path(match["path"]).parent.name for match in result["matches"]]
        for result in json.loads(found.stdout)["results"]
    }
    right = [family == name for name, near in families.items() for family in near]
    assert sum(right) >= 0.6 * len(right), families  # by chance it would be a tenth

    itself = run("search", images, images / "hat" / "hat-03.jpg", "--gallery", file, "--json")
    (result,) = json.loads(itself.stdout)["results"]
    assert result["matches"][0]["distance"] == 0
    assert len(result["matches"]) == 12

    shutil.copy(images / "hat" / "hat-03.jpg", images / "hat" / "twin.jpg")
    assert run("index", images, "--gallery", file).stdout.startswith("121 images")
    twins = json.loads(run("dedupe", images, "--gallery", file, "--json").stdout)
    assert ["hat-03.jpg", "twin.jpg"] in [[Path(m["path"]).name for m in group] for group in twins["groups"]]

    facts = json.loads(run("info", images, "--gallery", file, "--json").stdout)
    assert facts["gallery"]["images"] == 121
    assert facts["gallery"]["fingerprint"] == facts["encoder"]["fingerprints"]["network"]
    assert facts["gallery"]["fitted_on"] == 120
    assert facts["gallery"]["embeddings"] == 121


def test_how_jpegs_were_decoded_is_remembered(tmp_path: Path) -> None:
    queries = demo.copy_photographs(tmp_path / "all", tmp_path / "queries")
    images, file = tmp_path / "all" / "hat", tmp_path / "exact.sqlite"
    run("index", images, "--gallery", file, "--exact-jpeg")
    plain, exact = (run("search", images, queries[0], "--gallery", file, *more) for more in ([], ["--exact-jpeg"]))
    assert plain.stdout == exact.stdout


@pytest.mark.usefixtures("fake")
def test_demo_with_a_folder(tmp_path: Path) -> None:
    for number in range(6):
        picture(tmp_path / "mine" / f"{number}.png", number, size=(96, 64))
    run("demo", tmp_path / "mine", "--out", tmp_path / "try")
    assert sorted(p.name for p in (tmp_path / "mine").iterdir()) == [f"{n}.png" for n in range(6)]
    assert (tmp_path / "try" / "search.html").read_text(encoding="utf-8").count("data:image") == 3 * 6
    (tmp_path / "empty").mkdir()
    run("demo", tmp_path / "empty", "--out", tmp_path / "try2", code=1)


@pytest.mark.usefixtures("fake")
def test_demo_that_another_encoder_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        picture(tmp_path / "mine" / f"{number}.png", number)
    run("demo", tmp_path / "mine", "--out", tmp_path / "try")
    monkeypatch.setattr(encoder, "Encoder", lambda *_, **__: FakeEncoder("2222", "newer"))
    assert "(3 changed)" in run("demo", tmp_path / "mine", "--out", tmp_path / "try").stdout


def test_photographs_that_are_there_are_left_alone(tmp_path: Path) -> None:
    queries = demo.copy_photographs(tmp_path / "photographs", tmp_path / "queries")
    assert [path.name for path in queries] == ["pants.jpg", "shirt.jpg", "shoes.jpg"]
    files = sorted((tmp_path / "photographs").rglob("*.jpg"))
    assert len({path.read_bytes() for path in (*files, *queries)}) == 123
    assert {path.parent.name for path in files} == {path.stem.rpartition("-")[0] for path in files}
    files[0].write_bytes(b"mine")
    files[1].unlink()
    assert demo.copy_photographs(tmp_path / "photographs", tmp_path / "queries") == queries
    assert files[0].read_bytes() == b"mine"
    assert sorted((tmp_path / "photographs").rglob("*")) == sorted({*files, *(path.parent for path in files)})

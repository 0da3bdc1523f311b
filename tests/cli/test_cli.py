"""The command: what it prints where, and how it exits."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from galleries import FakeEncoder, picture

import pyhash
from pyhash import __main__, encoder
from pyhash.cli import main as cli
from pyhash.cli import photographs as demo

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five pictures, two of them the same, and a bad one."""
    root = tmp_path / "photos"
    for number, name in enumerate(["a.png", "b.png", "sub/c.png", "sub/d.png"]):
        picture(root / name, number)
    shutil.copy(root / "a.png", root / "copy.png")
    (root / "bad.jpg").write_text("not a picture")
    return root


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    """The built-in encoder is the fake one; a model of any name is another fake one."""

    def make(model: str | None = None, **options: Any) -> FakeEncoder:
        if model is None:
            return FakeEncoder()
        if "broken" in model:
            raise ValueError("expected an image input, found none")
        return FakeEncoder("2222", os.path.basename(model))

    monkeypatch.setattr(encoder, "Encoder", make)
    monkeypatch.delenv("PYHASH_ENCODER", raising=False)


def run(*arguments: str | Path, code: int = 0, **options: Any) -> Result:
    result = CliRunner().invoke(cli.cli, [os.fspath(a) for a in arguments], prog_name="pyhash", **options)
    assert result.exit_code == code, (result.output, result.exception)
    return result


@pytest.mark.usefixtures("fake")
class TestIndex:
    def test_counts(self, folder: Path) -> None:
        result = run("index", folder)
        assert result.stdout == "5 images can be searched (5 added, 1 failed)\n"
        assert result.stderr.startswith(f"pyhash: skipped {folder / 'bad.jpg'}: ")
        assert result.stderr.count("\n") == 1  # no progress bar where nobody watches
        (folder / "b.png").unlink()
        picture(folder / "a.png", 9, size=(50, 50))
        picture(folder / "new.png", 8)
        result = run("index", folder)
        expected = "5 images can be searched (1 added, 1 changed, 1 removed, 3 unchanged, 1 failed)\n"
        assert result.stdout == expected

    def test_json(self, folder: Path) -> None:
        result = run("index", folder, "--json")
        answer = json.loads(result.stdout)
        (failure,) = answer.pop("failed")
        assert failure["path"] == os.fspath(folder / "bad.jpg")
        assert failure["reason"]
        assert answer == {
            "folder": os.fspath(folder),
            "gallery": os.fspath(folder / ".pyhash" / "gallery.sqlite"),
            "images": 5,
            "added": 5,
            "changed": 0,
            "removed": 0,
            "unchanged": 0,
        }

    def test_bad_pictures_and_exit_codes(self, folder: Path, tmp_path: Path) -> None:
        run("index", folder, code=0)
        run("index", folder, "--strict", code=1)
        (folder / "bad.jpg").unlink()
        run("index", folder, "--strict", code=0)
        (tmp_path / "only-bad").mkdir()
        (tmp_path / "only-bad" / "x.png").touch()
        run("index", tmp_path / "only-bad", code=1)
        (tmp_path / "empty").mkdir()
        result = run("index", tmp_path / "empty", code=0)
        assert result.stdout == "0 images can be searched\n"
        assert "no images found" in result.stderr

    def test_another_encoder(self, folder: Path, tmp_path: Path) -> None:
        model = tmp_path / "other.onnx"
        model.touch()
        run("index", folder)
        result = run("index", folder, "--encoder", model, code=3)
        assert "f" * 16 in result.stderr
        assert "'other.onnx' with fingerprint 2222" in result.stderr
        assert "--rebuild" in result.stderr
        result = run("index", folder, "--encoder", model, "--rebuild")
        assert result.stdout == "5 images can be searched (5 changed, 1 failed)\n"
        run("search", folder, folder / "a.png", code=3)
        run("search", folder, folder / "a.png", "--encoder", model)
        run("search", folder, folder / "a.png", env={"PYHASH_ENCODER": os.fspath(model)})

    def test_usage(self, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "broken.onnx").touch()
        run("index", tmp_path / "gone", code=2)
        run("index", folder / "a.png", code=2)
        run("index", code=2)
        run("index", folder, "--encoder", tmp_path / "gone.onnx", code=2)
        run("index", folder, "--output-name", "features", code=2)
        run("index", folder, "--size", "64", code=2)
        result = run("index", folder, "--encoder", tmp_path / "broken.onnx", "--size", "64", code=2)
        assert "--size needs --preprocess" in result.stderr
        result = run("index", folder, "--encoder", tmp_path / "broken.onnx", code=4)
        assert "broken.onnx cannot be used: expected an image input" in result.stderr

    def test_missing_package(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def missing(*_: object, **__: object) -> None:
            raise ImportError("this needs the package 'onnxruntime': pip install 'pyhash-retrieval[encoder]'")

        monkeypatch.setattr(encoder, "Encoder", missing)
        assert "pip install" in run("index", folder, code=4).stderr

    def test_interrupted(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(FakeEncoder, "stream", interrupt)
        assert "what was finished is kept" in run("index", folder, code=130).stderr

    def test_gallery_elsewhere(self, folder: Path, tmp_path: Path) -> None:
        file = tmp_path / "g.sqlite"
        run("index", folder, "--gallery", file)
        assert not (folder / ".pyhash").exists()
        run("search", folder, folder / "a.png", code=3)
        run("search", folder, folder / "a.png", "--gallery", file)
        run("dedupe", folder, "--gallery", file)
        run("info", folder, "--gallery", file)
        file.write_text("rubbish " * 100)
        assert "not a pyhash gallery" in run("search", folder, folder / "a.png", "--gallery", file, code=3).stderr


@pytest.mark.usefixtures("fake")
class TestSearch:
    def test_json(self, folder: Path) -> None:
        run("index", folder)
        queries = [os.fspath(folder / "b.png"), os.fspath(folder / "sub" / "c.png")]
        answer = json.loads(run("search", folder, *queries, "-k", "3", "--json").stdout)
        assert list(answer) == ["results"]
        assert [result["query"] for result in answer["results"]] == queries
        for result in answer["results"]:
            assert list(result) == ["query", "matches"]
            matches = result["matches"]
            assert len(matches) == 3
            assert all(list(match) == ["path", "distance", "id"] for match in matches)
            assert (matches[0]["path"], matches[0]["distance"]) == (result["query"], 0)
            assert [m["distance"] for m in matches] == sorted(m["distance"] for m in matches)

    def test_table(self, folder: Path) -> None:
        run("index", folder)
        lines = run("search", folder, folder / "b.png", "-k", "2").stdout.splitlines()
        assert lines[0] == os.fspath(folder / "b.png")
        assert lines[1].split() == ["distance", "image"]
        assert lines[2].split() == ["0", os.fspath(folder / "b.png")]
        assert len(lines) == 5

    def test_some_queries_cannot_be_read(self, folder: Path) -> None:
        run("index", folder)
        result = run(*["search", folder, folder / "gone.png", folder / "b.png", folder / "bad.jpg", "--json"], code=1)
        answer = json.loads(result.stdout)
        assert [r["query"] for r in answer["results"]] == [os.fspath(folder / "b.png")]
        assert "gone.png" in result.stderr
        assert "bad.jpg" in result.stderr
        result = run("search", folder, folder / "gone.png", "--json", code=1)
        assert json.loads(result.stdout) == {"results": []}

    def test_exclude_self(self, folder: Path) -> None:
        run("index", folder)
        query = os.path.join(folder, "sub", "..", "b.png")
        answer = json.loads(run("search", folder, query, "-k", "9", "--exclude-self", "--json").stdout)
        found = [match["path"] for match in answer["results"][0]["matches"]]
        assert len(found) == 4
        assert os.fspath(folder / "b.png") not in found

    def test_levels(self, folder: Path) -> None:
        run("index", folder)
        for level in ("coarse", "fine"):
            run("search", folder, folder / "b.png", "--level", level)
        for query in (folder / "b.png", folder / "bad.jpg"):
            result = run("search", folder, query, "--level", "middle", "--html", folder / "s.html", code=2)
            assert "--level must be one of coarse, fine, got 'middle'" in result.stderr

    def test_html(self, folder: Path, tmp_path: Path) -> None:
        run("index", folder)
        sheet = tmp_path / "out.html"
        result = run("search", folder, folder / "b.png", "-k", "4", "--level", "fine", "--html", sheet, "--json")
        assert json.loads(result.stdout)["results"]
        assert result.stderr == f"wrote {sheet}\n"
        text = sheet.read_text(encoding="utf-8")
        assert text.count("data:image/jpeg;base64,") == 5
        assert "fine (48 bits)" in text
        lost = tmp_path / "gone" / "out.html"
        result = run("search", folder, folder / "b.png", "--html", lost, "--json", code=2)
        assert json.loads(result.stdout)["results"]  # the answer is there all the same
        assert result.stderr == f"pyhash: {lost}: No such file or directory\n"

    @pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read every file")
    def test_a_query_that_may_not_be_read(self, folder: Path, tmp_path: Path) -> None:
        run("index", folder)
        shutil.copy(folder / "a.png", tmp_path / "locked.png")
        (tmp_path / "locked.png").chmod(0)
        result = run("search", folder, tmp_path / "locked.png", folder / "b.png", "--json", code=1)
        assert len(json.loads(result.stdout)["results"]) == 1
        assert "locked.png: " in result.stderr

    def test_usage(self, folder: Path, tmp_path: Path) -> None:
        run("index", folder)
        run("search", folder, code=2)
        run("search", folder, folder / "a.png", "-k", "0", code=2)
        run("search", tmp_path / "gone", folder / "a.png", code=2)
        (tmp_path / "fresh").mkdir()
        result = run("search", tmp_path / "fresh", folder / "a.png", code=3)
        assert "pyhash index" in result.stderr

    def test_odd_names(self, folder: Path) -> None:
        path = folder / os.fsdecode(b"odd\xff\n[red]\x1b[31m.png")
        picture(path, 70)
        run("index", folder)
        result = run("search", folder, path, "-k", "1")
        assert result.stdout.count("odd\\udcff\\n[red]\\x1b[31m.png") == 2
        answer = json.loads(run("search", folder, path, "-k", "1", "--json").stdout)
        assert answer["results"][0]["matches"][0]["path"] == os.fspath(path)


@pytest.mark.usefixtures("fake")
class TestDedupe:
    def test_groups(self, folder: Path) -> None:
        run("index", folder)
        answer = json.loads(run("dedupe", folder, "--radius", "0", "--json").stdout)
        assert answer["radius"] == 0
        (group,) = answer["groups"]
        assert [(match["path"], match["distance"]) for match in group] == [
            (os.fspath(folder / "a.png"), 0),
            (os.fspath(folder / "copy.png"), 0),
        ]
        lines = run("dedupe", folder, "--radius", "0").stdout.splitlines()
        assert lines[-1] == "1 group, 1 image beyond the first of each"
        assert (folder / "copy.png").exists()

    def test_html(self, folder: Path, tmp_path: Path) -> None:
        run("index", folder)
        run("dedupe", folder, "--html", tmp_path / "out.html")
        assert "Nearly identical images" in (tmp_path / "out.html").read_text(encoding="utf-8")
        (folder / "copy.png").unlink()
        run("index", folder)
        result = run("dedupe", folder, "--radius", "0", "--html", tmp_path / "out.html")
        assert result.stdout == "no duplicates among 4 images\n"
        assert "No two images are that similar." in (tmp_path / "out.html").read_text(encoding="utf-8")

    def test_usage(self, folder: Path) -> None:
        run("dedupe", folder, code=3)
        run("index", folder)
        run("dedupe", folder, "--radius", "-1", code=2)


@pytest.mark.usefixtures("fake")
class TestInfo:
    def test_json(self, folder: Path) -> None:
        answer = json.loads(run("info", "--json").stdout)
        assert answer["version"] == pyhash.__version__
        assert answer["kernel"] == pyhash.kernel()
        assert answer["kernels"] == list(pyhash.kernels())
        assert answer["native"] is (answer["why_no_native"] is None)
        assert answer["threads"] >= 1
        assert answer["encoder"]["fingerprint"] == "f" * 16
        assert "gallery" not in answer
        run("index", folder)
        stats = json.loads(run("info", folder, "--json").stdout)["gallery"]
        assert (stats["images"], stats["failed"], stats["encoder"]) == (5, 1, "fake")

    def test_table(self, folder: Path) -> None:
        run("index", folder)
        text = run("info", folder).stdout
        for expected in [pyhash.__version__, pyhash.kernel(), "native code", "coarse 16, fine 48", "f" * 16]:
            assert expected in text

    def test_without_onnxruntime(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def missing(*_: object, **__: object) -> None:
            raise ImportError("pip install this")

        monkeypatch.setattr(encoder, "Encoder", missing)
        assert json.loads(run("info", "--json").stdout)["encoder"] == {"error": "pip install this"}
        assert "pip install this" in run("info").stdout


def test_help_teaches() -> None:
    text = run("--help").stdout
    assert run("-h").stdout == text
    for name in ("index", "search", "dedupe", "info", "demo"):
        assert name in text
        page = run(name, "--help").stdout
        assert f"pyhash {name}" in page
        assert "Examples:\n" in page
        assert "Exit codes" not in page
        assert max(map(len, page.splitlines())) <= 100
    assert run("--version").stdout == f"pyhash, version {pyhash.__version__}\n"
    run("nonsense", code=2)


def test_starts_without_what_it_does_not_need(folder: Path) -> None:
    """Each of these takes longer to import than a search takes."""
    code = (
        "import sys; from click.testing import CliRunner; from pyhash import cli; "
        f"cli.cli.main(['dedupe', {os.fspath(folder)!r}, '--codes-only'], standalone_mode=False); "
        "print(sorted({'rich', 'jinja2', 'onnxruntime', 'matplotlib', 'numba', 'pyhash.evaluate'} & {*sys.modules}))"
    )
    assert command("index", folder).returncode == 0
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    needed = ["numba"] if pyhash.kernel() == "numba" else []  # what searches there
    assert child.stdout.endswith(f"{needed}\n")


def test_missing_click_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "click", None)
    with pytest.raises(SystemExit) as info:
        __main__.main()
    assert info.value.code == 4
    assert "pip install 'pyhash-retrieval[cli]'" in capsys.readouterr().err


# The whole, with the built-in model


def command(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([os.fspath(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-m", "pyhash", *map(os.fspath, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
        **options,
    )


def test_demo_and_its_commands(tmp_path: Path) -> None:
    """`pyhash demo`, then every other command on what it copied, all in processes of their own."""
    shown = command("demo", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert [line for line in shown.stderr.splitlines() if "searches with Numba" not in line] == []
    directory = tmp_path / "pyhash-demo"
    assert (directory / "search.html").read_text(encoding="utf-8").count("data:image") == 3 * 13
    assert "120 images can be searched (120 added)" in shown.stdout
    again = command("demo", "--json", cwd=tmp_path)
    assert "120 images can be searched (120 unchanged)" in again.stderr
    answer = json.loads(again.stdout)
    assert Path(answer["html"]) == Path("pyhash-demo", "search.html")
    assert [len(result["matches"]) for result in answer["results"]] == [12, 12, 12]

    pictures, file = directory / "photographs", directory / "gallery.sqlite"
    queries = sorted((directory / "queries").iterdir())
    found = command("search", pictures, *queries, "-k", "5", "--gallery", file, "--json")
    assert found.returncode == 0, found.stderr
    families = {
        Path(result["query"]).stem: [Path(match["path"]).parent.name for match in result["matches"]]
        for result in json.loads(found.stdout)["results"]
    }
    right = [family == name for name, near in families.items() for family in near]
    assert sum(right) >= 0.6 * len(right), families  # by chance it would be a tenth

    itself = command("search", pictures, pictures / "hat" / "hat-03.jpg", "--gallery", file, "--json")
    (result,) = json.loads(itself.stdout)["results"]
    assert result["matches"][0]["distance"] == 0
    assert len(result["matches"]) == 12

    assert command("search", pictures, queries[0], "--gallery", file, "--fast-jpeg").returncode == 3
    fast = directory / "fast.sqlite"
    assert command("index", pictures, "--gallery", fast, "--fast-jpeg").returncode == 0
    assert command("search", pictures, queries[0], "--gallery", fast, "--fast-jpeg").returncode == 0
    assert command("search", pictures, queries[0], "--gallery", fast).returncode == 0  # remembered

    shutil.copy(pictures / "hat" / "hat-03.jpg", pictures / "hat" / "twin.jpg")
    assert command("index", pictures, "--gallery", file).stdout.startswith("121 images")
    twins = json.loads(command("dedupe", pictures, "--radius", "0", "--gallery", file, "--json").stdout)
    assert ["hat-03.jpg", "twin.jpg"] in [[Path(m["path"]).name for m in group] for group in twins["groups"]]

    facts = json.loads(command("info", pictures, "--gallery", file, "--json").stdout)
    assert facts["gallery"]["images"] == 121
    assert facts["gallery"]["fingerprint"] == facts["encoder"]["fingerprint"]


def test_demo_with_a_folder(tmp_path: Path) -> None:
    for number in range(6):
        picture(tmp_path / "mine" / f"{number}.png", number, size=(96, 64))
    shown = command("demo", tmp_path / "mine", "--out", tmp_path / "try")
    assert shown.returncode == 0, shown.stderr
    assert sorted(p.name for p in (tmp_path / "mine").iterdir()) == [f"{n}.png" for n in range(6)]
    assert (tmp_path / "try" / "search.html").read_text(encoding="utf-8").count("data:image") == 3 * 6
    (tmp_path / "empty").mkdir()
    assert command("demo", tmp_path / "empty", "--out", tmp_path / "try2").returncode == 1


@pytest.mark.usefixtures("fake")
def test_demo_that_another_encoder_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        picture(tmp_path / "mine" / f"{number}.png", number)
    run("demo", tmp_path / "mine", "--out", tmp_path / "try")
    monkeypatch.setattr(encoder, "Encoder", lambda *_, **__: FakeEncoder("2222", "newer"))
    assert "(3 changed)" in run("demo", tmp_path / "mine", "--out", tmp_path / "try").stdout


def test_what_pyhash_did_not_write_is_not_written_over(folder: Path) -> None:
    command("index", folder)
    picture_of_mine = folder / "a.png"
    before = picture_of_mine.read_bytes()
    for arguments in (("search", folder, picture_of_mine, "--html"), ("dedupe", folder, "--html")):
        refused = command(*arguments, picture_of_mine)
        assert refused.returncode == 2
        assert "a.png: a file that pyhash did not write is there" in refused.stderr
        assert picture_of_mine.read_bytes() == before
        sheet = folder / "sheet.html"
        for _ in range(2):  # one of its own it replaces
            assert command(*arguments, sheet).returncode == 0
        sheet.write_text("<html>mine</html>")
        assert command(*arguments, sheet).returncode == 2
        assert command(*arguments, sheet, "--overwrite").returncode == 0
        assert "pyhash" in sheet.read_text(encoding="utf-8")


def test_reader_that_goes_away(folder: Path) -> None:
    command("index", folder)
    path = os.pathsep.join([os.fspath(ROOT), os.environ.get("PYTHONPATH", "")])
    child = subprocess.Popen(
        [sys.executable, "-m", "pyhash", "search", os.fspath(folder), *[os.fspath(folder / "a.png")] * 300],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert child.stdout is not None
    assert child.stderr is not None
    child.stdout.readline()
    child.stdout.close()
    assert [line for line in child.stderr if b"searches with Numba" not in line] == []
    child.stderr.close()
    assert child.wait() == 141


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


def test_command_is_installed_under_its_name() -> None:
    points = importlib.metadata.entry_points(group="console_scripts", name="pyhash")
    if not points:
        pytest.skip("pyhash runs from its source folder, it is not installed")
    (point,) = points
    assert point.load() is __main__.main

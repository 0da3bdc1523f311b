"""``pyhash index``, ``search``, ``dedupe`` and ``info``: what they print where, and how they exit."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from commands import run
from galleries import EmbeddingEncoder, FakeEncoder, kinds, picture

import pyhash
from pyhash import encoder
from pyhash.cli.galleries import in_kinds
from pyhash.gallery import adapt
from pyhash.images import KINDS
from pyhash.ranking import Help


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
            "folders": [os.fspath(folder)],
            "gallery": os.fspath(folder / ".pyhash" / "gallery.sqlite"),
            "images": 5,
            "parts": 0,
            "lost_boxes": 0,
            "added": 5,
            "changed": 0,
            "removed": 0,
            "unchanged": 0,
            "moved": 0,
            "names": 0,
            "kept": 0,
            "withheld": 0,
            "away": {},
            "again": {},
            "adapted": None,
            "excluded": 0,
            "passed_over": {},
            "links": 0,
        }

    def test_bad_pictures_and_exit_codes(self, folder: Path, tmp_path: Path) -> None:
        run("index", folder, code=0)
        run("index", folder, "--strict", code=1)
        (folder / "bad.jpg").unlink()
        run("index", folder, "--strict", code=0)
        (tmp_path / "only-bad").mkdir()
        (tmp_path / "only-bad" / "x.png").touch()
        run("index", tmp_path / "only-bad", code=1)
        (tmp_path / "none").mkdir()
        (tmp_path / "none" / ".hidden").touch()
        result = run("index", tmp_path / "none", code=0)
        assert result.stdout == "0 images can be searched\n"
        assert result.stderr == f"no images found in {tmp_path / 'none'}\n"

    @pytest.mark.parametrize("elsewhere", [False, True])
    def test_an_empty_mount_point_gets_no_gallery(self, elsewhere: bool, tmp_path: Path) -> None:
        disk, file = tmp_path / "disk", tmp_path / "g.sqlite"
        disk.mkdir()
        options = ["--gallery", file] if elsewhere else []
        for command in ("index", "dedupe"):
            error = run(command, disk, *options, code=3).stderr
            assert "disk is empty: is its disk there?" in error
            assert not any(disk.iterdir())
            assert not file.exists()
        picture(disk / "a.png", 1)
        assert run("index", disk, *options).stdout == "1 image can be searched (1 added)\n"

    def test_what_is_not_read_is_said(self, folder: Path, tmp_path: Path) -> None:
        for name in ("1.raw", "2.R3D", "3.svg", "4.txt", "a.mov", "bad.mov", "x.xcf", "y.xcf"):
            (folder / name).touch()
        (folder / "@eaDir").mkdir()
        shutil.copy(folder / "a.png", folder / "@eaDir" / "a.png")
        (folder / "one").symlink_to(tmp_path)
        expected = (
            "not read: 2 camera RAW files, 1 SVG drawing, 2 images of other formats, 1 video, "
            "1 film of a live photograph, 1 other file\n"
        )
        first, *rest = run("index", folder).stdout.splitlines(keepends=True)
        assert first == "5 images can be searched (5 added, 1 failed)\n"
        assert rest == [expected, "1 link to a folder was not followed\n"]
        for name in ("two", "three"):
            (folder / name).symlink_to(tmp_path)
        assert run("index", folder).stdout.endswith("3 links to folders were not followed\n")
        answer = json.loads(run("index", folder, "--json").stdout)
        assert answer["links"] == 3
        assert sum(answer["passed_over"].values()) == 8
        assert answer["passed_over"]["camera RAW"] == 2

    def test_a_folder_of_raw_files_alone(self, tmp_path: Path) -> None:
        (tmp_path / "raw").mkdir()
        for name in ("1.raw", "2.eip", "3.svg"):
            (tmp_path / "raw" / name).touch()
        result = run("index", tmp_path / "raw")
        assert result.stderr == f"no images found in {tmp_path / 'raw'}; it holds 2 camera RAW files, 1 SVG drawing\n"

    def test_every_kind_has_its_words(self) -> None:
        for count in (1, 2):
            words = in_kinds(dict.fromkeys(KINDS, count)).split(", ")
            assert len(set(words)) == len(KINDS)
            assert all(word.startswith(f"{count} ") for word in words)

    def test_excluded(self, folder: Path) -> None:
        run("index", folder)
        result = run("index", folder, "--exclude", "sub/", "--exclude", "*.jpg")
        assert result.stdout == "3 images can be searched (3 excluded, 3 unchanged)\n"
        assert run("index", folder).stdout == "3 images can be searched (3 unchanged)\n"
        assert "gallery exclude" in run("info", folder).stdout
        assert json.loads(run("info", folder, "--json").stdout)["gallery"]["exclude"] == ["sub/", "*.jpg"]
        (folder / "sub" / ".pyhashignore").write_text("c*\n")
        result = run("index", folder, "--no-exclude")
        assert result.stdout == "4 images can be searched (1 added, 3 unchanged, 1 failed)\n"
        (folder / ".pyhashignore").write_text("copy.png\n")
        assert json.loads(run("index", folder, "--json").stdout)["excluded"] == 1
        (folder / "a.png").unlink()
        result = run("index", folder, "--exclude", "b.png")
        assert result.stdout == "1 image can be searched (1 removed, 1 excluded, 1 unchanged, 1 failed)\n"

    def test_the_least_size(self, folder: Path) -> None:
        run("index", folder)
        (folder / "large.png").write_bytes((folder / "a.png").read_bytes().ljust(9000, b"\0"))
        assert run("index", folder, "--min-size", "9k").stdout == "1 image can be searched (1 added, 6 excluded)\n"
        assert run("index", folder).stdout == "1 image can be searched (1 unchanged)\n"
        assert ["gallery", "min", "size", "9.0", "kB"] in map(str.split, run("info", folder).stdout.splitlines())
        assert json.loads(run("info", folder, "--json").stdout)["gallery"]["min_size"] == 9000
        assert run("index", folder, "--min-size", "9001").stdout == "0 images can be searched (1 excluded)\n"
        assert "6 images can be searched (6 added, 1 failed)" in run("index", folder, "--min-size", "0").stdout
        for wrong in ("-1", "10x", "", "1.5M", "k", "10 k", "9" * 20):
            error = run("index", folder, "--min-size", wrong, code=2).stderr
            assert f"must be a number of bytes such as 500, 10k (10,000), 2M or 1G, got {wrong!r}" in error

    def test_wrong_patterns(self, folder: Path) -> None:
        error = run("index", folder, "--exclude", "[z-a]", code=2).stderr
        assert error == "pyhash: the pattern '[z-a]' is wrong: z comes after a\n"
        assert not (folder / ".pyhash").exists()
        run("index", folder, "--exclude", "a", "--no-exclude", code=2)
        (folder / ".pyhashignore").write_text("# mine\n../x\n")
        assert f"{folder / '.pyhashignore'}, line 2: the pattern '../x' is wrong" in run("index", folder, code=2).stderr

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
        interrupted = run("index", folder, code=130).stderr
        assert "what was finished is kept" in interrupted
        assert "6 images wait to be encoded" in interrupted
        monkeypatch.undo()
        waiting = json.loads(run("info", folder, "--json").stdout)["gallery"]["waiting"]
        assert waiting == 6

    def test_an_unfinished_gallery_says_so(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def some(self: FakeEncoder, sources: Any, batch_size: int = 8) -> Any:
            sources = list(sources)
            yield from stream(self, sources[:2])
            raise KeyboardInterrupt

        stream = FakeEncoder.stream
        with monkeypatch.context() as patch:
            patch.setattr(FakeEncoder, "stream", some)
            run("index", folder, code=130)
        found = run("search", folder, folder / "a.png", "--json", code=1)
        assert json.loads(found.stdout)["waiting"] == 4
        assert "4 images wait to be encoded and cannot be found yet" in found.stderr
        found = run("dedupe", folder, "--json", code=1)
        assert json.loads(found.stdout)["waiting"] == 4
        run("index", folder)
        assert json.loads(run("search", folder, folder / "a.png", "--json").stdout)["waiting"] == 0

    def test_what_is_out_of_sight_is_kept_and_the_exit_code_says_so(self, folder: Path) -> None:
        run("index", folder)
        for file in (folder / "sub").iterdir():
            file.unlink()
        result = run("index", folder, code=6)
        assert "kept that cannot be seen" in result.stderr
        run("index", folder, "--prune")
        run("index", folder)

    def test_gallery_elsewhere(self, folder: Path, tmp_path: Path) -> None:
        file = tmp_path / "g.sqlite"
        run("index", folder, "--gallery", file)
        assert not (folder / ".pyhash").exists()
        run("search", folder, folder / "a.png", code=3)
        run("search", folder, folder / "a.png", "--gallery", file)
        run("dedupe", folder, "--gallery", file, code=1)  # one file is no image
        run("info", folder, "--gallery", file)
        file.write_text("rubbish " * 100)
        assert "not a pyhash gallery" in run("search", folder, folder / "a.png", "--gallery", file, code=3).stderr


@pytest.mark.usefixtures("fake")
class TestSearch:
    def test_in_a_subfolder(self, folder: Path) -> None:
        run("index", folder)
        for given in (folder / "sub", "sub"):
            found = run("search", folder, folder / "a.png", "--in", given, "--paths").stdout.split("\n")
            assert [Path(path).parent.name for path in found if path] == ["sub"] * (len(found) - 1) != []
        assert "is neither" in run("search", folder, folder / "a.png", "--in", "nowhere", code=2).stderr

    def test_json(self, folder: Path) -> None:
        run("index", folder)
        queries = [os.fspath(folder / "b.png"), os.fspath(folder / "sub" / "c.png")]
        answer = json.loads(run("search", folder, *queries, "-k", "3", "--json").stdout)
        assert list(answer) == ["results", "waiting", "away", "failed"]
        assert [result["query"] for result in answer["results"]] == queries
        for result in answer["results"]:
            assert list(result) == ["query", "ranked_by", "matches"]
            assert result["ranked_by"] == "distance"
            matches = result["matches"]
            assert len(matches) == 3
            assert all(list(match) == ["path", "distance", "id", "similarity"] for match in matches)
            assert all(match["similarity"] is None for match in matches)
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
        answer = json.loads(result.stdout)
        assert [failure["path"] for failure in answer.pop("failed")] == [os.fspath(folder / "gone.png")]
        assert answer == {"results": [], "waiting": 0, "away": []}

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

    def test_weights_and_cascade(self, folder: Path, tmp_path: Path) -> None:
        run("index", folder)
        query = folder / "b.png"

        def distances(*options: str) -> dict[str, int]:
            answer = json.loads(run("search", folder, query, "--json", *options).stdout)
            return {match["path"]: match["distance"] for match in answer["results"][0]["matches"]}

        coarse, fine = distances("--level", "coarse"), distances("--level", "fine")
        weighted = distances("--weights", "coarse=3,fine=1")
        assert weighted == {path: 3 * coarse[path] + fine[path] for path in coarse}
        nearest = sorted(coarse, key=coarse.__getitem__)[:2]
        assert set(distances("--cascade", "coarse=2")) <= {
            path for path in coarse if coarse[path] <= coarse[nearest[1]]
        }
        run("search", folder, query, "--weights", "coarse=3,fine=1", "--html", tmp_path / "s.html")
        assert "coarse 3, fine 1 (64 bits)" in (tmp_path / "s.html").read_text(encoding="utf-8")
        for options, message in [
            (["--weights", "coarse"], "must be like coarse=3"),
            (["--weights", "coarse=1,coarse=2"], "each level once"),
            (["--weights", "coarse=0,fine=0"], "weights must"),
            (["--weights", "middle=1"], "middle"),
            (["--cascade", "coarse=2,fine=3"], "--cascade must be of one level"),
            (["--cascade", "coarse=0"], "cascade"),
        ]:
            assert message in run("search", folder, query, *options, code=2).stderr

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

    def test_paths_alone(self, folder: Path) -> None:
        odd = folder / os.fsdecode(b"odd\xff\n.png")
        picture(odd, 3)
        run("index", folder)
        queries = [odd, folder / "b.png"]
        answer = json.loads(run("search", folder, *queries, "-k", "4", "--json").stdout)
        found = [os.fsencode(match["path"]) for result in answer["results"] for match in result["matches"]]
        assert len(found) == 8
        assert os.fsencode(odd) in found
        for option, end in [("-f", b"\n"), ("--paths", b"\n"), ("-0", b"\0"), ("--null", b"\0"), ("-f0", b"\0")]:
            result = run("search", folder, *queries, "-k", "4", option)
            assert result.stdout_bytes == b"".join(path + end for path in found)
        result = run("search", folder, folder / "gone.png", "-f", code=1)
        assert result.stdout == ""
        assert "gone.png" in result.stderr
        run("search", folder, odd, "-f", "--json", code=2)

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


@pytest.fixture
def embedding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder, "Encoder", lambda *_, **__: EmbeddingEncoder())
    monkeypatch.setattr(adapt, "neighbourhoods_help", lambda own: Help(True, 0.5, 0.6, 0.01))


@pytest.mark.usefixtures("embedding")
class TestAdapted:
    def test_index_search_and_info(self, tmp_path: Path) -> None:
        folder = kinds(tmp_path / "kinds", 5, 22)
        assert run("index", folder).stdout == "110 images can be searched (110 added)\ncodes fitted to 110 images\n"
        query = folder / "kind1" / "004.png"
        (result,) = json.loads(run("search", folder, query, "-k", "5", "--json").stdout)["results"]
        assert result["ranked_by"] == "similarity"
        similarities = [match["similarity"] for match in result["matches"]]
        assert similarities[0] == pytest.approx(1)
        assert similarities == sorted(similarities, reverse=True)
        lines = run("search", folder, query, "-k", "2", "--weights", "coarse=0.5,fine=2").stdout.splitlines()
        assert lines[1].split() == ["similarity", "distance", "image"]
        assert lines[2].split() == ["1.000", "0", os.fspath(query)]
        (plain,) = json.loads(run("search", folder, query, "--no-rescore", "--json").stdout)["results"]
        assert plain["ranked_by"] == "distance"
        facts = json.loads(run("info", folder, "--json").stdout)["gallery"]
        assert facts["fitted_on"] == 110
        assert facts["made_of"] == {"coarse": "neighbourhood", "fine": "own"}
        assert "neighbourhood" in run("info", folder).stdout

    def test_together(self, tmp_path: Path) -> None:
        folder = kinds(tmp_path / "kinds", 5, 22)
        run("index", folder)
        a, b, c = (os.fspath(folder / f"kind{number}" / "001.png") for number in range(3))
        more = ["--together", "--without", c, "--exclude-self", "--html", os.fspath(tmp_path / "s.html"), "--json"]
        (result,) = json.loads(run("search", folder, a, b, "-k", "9", *more).stdout)["results"]
        assert (result["query"], result["without"]) == ([a, b], [c])
        assert {Path(match["path"]).parent.name for match in result["matches"]} <= {"kind0", "kind1"}
        assert not {a, b} & {match["path"] for match in result["matches"]}
        assert "Not like" in (tmp_path / "s.html").read_text(encoding="utf-8")
        gone = run("search", folder, "gone.png", "--json", code=1)
        assert json.loads(gone.stdout)["results"] == []
        assert "skipped gone.png" in gone.stderr
        gone = run("search", folder, a, "gone.png", "--together", "--without", "lost.png", "--json", code=1)
        assert json.loads(gone.stdout)["results"][0]["query"] == [a]
        assert "gone.png" in gone.stderr
        assert "lost.png" in gone.stderr
        assert "--without needs --together" in run("search", folder, a, "--without", b, code=2).stderr

    def test_fit_and_options(self, tmp_path: Path) -> None:
        folder = kinds(tmp_path / "kinds", 5, 22)
        run("index", folder, "--no-adapt")
        assert json.loads(run("info", folder, "--json").stdout)["gallery"]["fitted_on"] is None
        assert run("fit", folder, "--labels", "folders").stdout == "codes fitted to 110 images, 110 images coded\n"
        answer = json.loads(run("fit", folder, "--bits", "32", "--json").stdout)
        assert (answer["images"], answer["fitted_on"]) == (110, 110)
        assert json.loads(run("info", folder, "--json").stdout)["gallery"]["levels"] == {"coarse": 8, "fine": 24}
        assert "multiple of 8" in run("index", folder, "--bits", "20", code=2).stderr
        assert "no-such.csv" in run("fit", folder, "--labels", "no-such.csv", code=2).stderr
        run("index", folder, "--no-embeddings")
        assert "no embedding of every image" in run("fit", folder, code=3).stderr


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

    def test_index_file(self, tmp_path: Path) -> None:
        path = tmp_path / "codes.index"
        pyhash.Index(levels={"coarse": 8, "fine": 8}).save(path)
        facts = json.loads(run("info", path, "--json").stdout)["index"]
        assert (facts["codes"], facts["bits"], facts["levels"]) == (0, 16, {"coarse": 8, "fine": 8})
        assert "coarse 8, fine 8" in run("info", path).stdout
        path.write_bytes(path.read_bytes()[:-1])
        assert "codes.index" in run("info", path, code=2).stderr

    def test_without_onnxruntime(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def missing(*_: object, **__: object) -> None:
            raise ImportError("pip install this")

        monkeypatch.setattr(encoder, "Encoder", missing)
        assert json.loads(run("info", "--json").stdout)["encoder"] == {"error": "pip install this"}
        assert "pip install this" in run("info").stdout


@pytest.mark.usefixtures("fake")
def test_what_pyhash_did_not_write_is_not_written_over(folder: Path) -> None:
    (folder / "bad.jpg").unlink()
    run("index", folder)
    mine = folder / "a.png"
    before = mine.read_bytes()
    for arguments in (("search", folder, mine, "--html"), ("dedupe", folder, "--html")):
        refused = run(*arguments, mine, code=2)
        assert "a.png: a file that pyhash did not write is there" in refused.stderr
        assert mine.read_bytes() == before
        sheet = folder / "sheet.html"
        for _ in range(2):  # one of its own it replaces
            run(*arguments, sheet)
        sheet.write_text("<html>mine</html>")
        run(*arguments, sheet, code=2)
        run(*arguments, sheet, "--overwrite")
        assert "pyhash" in sheet.read_text(encoding="utf-8")

"""``pyhash build`` and ``pyhash taps``: what they print, what they make, and how they exit."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("PIL")
pytest.importorskip("scipy")
import labelled_pictures
import networks
import onnx
from click.testing import CliRunner, Result

from pyhash import Encoder
from pyhash.cli import main as cli


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return labelled_pictures.draw(tmp_path_factory.mktemp("pictures") / "train")


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return labelled_pictures.draw(tmp_path_factory.mktemp("pictures") / "test", per_class=5, seed=1)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("backbone") / "small resnet.onnx"
    onnx.save_model(networks.resnet(), path)
    return path


def run(*arguments: str | Path, code: int = 0) -> Result:
    result = CliRunner().invoke(cli.cli, [os.fspath(a) for a in arguments], prog_name="pyhash")
    assert result.exit_code == code, (result.output, result.exception)
    return result


def test_build_then_index_then_search(backbone: Path, folder: Path, held_out: Path, tmp_path: Path) -> None:
    encoder, gallery = tmp_path / "encoder.onnx", tmp_path / "g.sqlite"
    result = run(*("build", backbone, folder, "--labels", "folders", "--levels", "coarse=16,fine=48", "-o", encoder))
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["encoder", str(encoder)]
    assert "coarse 16, fine 48" in result.stdout
    assert "stage1 8, stage2 12, stage3 16, stage4 24" in result.stdout
    assert lines[-1] == f"Now: pyhash index {folder} --encoder {encoder} --rebuild"
    assert result.stderr == ""
    run("index", folder, "--encoder", encoder, "--gallery", gallery)
    query = held_out / "cold" / "grid" / "00.png"
    for level, part in ((None, -2), ("coarse", -3), ("fine", -2)):
        options = ["--level", level] if level else []
        found = run("search", folder, query, "-k", "5", "--gallery", gallery, "--json", *options)
        matches = json.loads(found.stdout)["results"][0]["matches"]
        assert sum(Path(match["path"]).parts[part] == query.parts[part] for match in matches) >= 3


def test_json(backbone: Path, folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    files = sorted(folder.rglob("*.png"))
    table.write_text("path,code\n" + "".join(f"{f},{f.parts[-3]}\n" for f in [*files, tmp_path / "gone.png"]))
    out = tmp_path / "e.onnx"
    result = run(
        *("build", backbone, folder, "--labels", table, "--levels", "24", "-o", out, "--json"),
        *("--taps", "stage2, stage4", "--pooling", "gem,gap", "--head", "laplacian", "--weights", "code=1,0.5"),
        *("--name", "mine", "--preprocess", "unit", "--seed", "3", "--size", "32"),
    )
    answer = json.loads(result.stdout)
    (failed,) = answer.pop("failed")
    assert failed["path"] == str(tmp_path / "gone.png")
    assert "gone.png" in result.stderr
    assert answer == {
        "written": str(out),
        "levels": {"code": 24},
        "taps": {"stage2": 12, "stage4": 24},
        "weights": {"code": {"stage2": 1.0, "stage4": 0.5}},
        "images": 84,
        "classes": {"code": 2},
        "grouped": [],
        "batch": None,
        "quantized": None,
    }
    assert Encoder(out).name == "mine"
    assert [tap.pooling for tap in Encoder(out).metadata.taps] == ["gem", "gap"]


def test_taps_are_listed(backbone: Path) -> None:
    chosen = run("taps", backbone).stdout.splitlines()
    assert [line.split()[0] for line in chosen] == ["stage1", "stage2", "stage3", "stage4"]
    assert chosen[0].split() == ["stage1", "8", "x", "8", "x", "8", "Relu"]
    everything = run("taps", backbone, "--all", "--n-taps", "2").stdout.splitlines()
    assert [line.split()[0] for line in everything if line.startswith("*")] == ["*stage3", "*stage4"]
    listed = json.loads(run("taps", backbone, "--json").stdout)["taps"]
    assert listed[0] == {
        "name": "stage1",
        "shape": [1, 8, 8, 8],
        "kind": "nchw",
        "stage": listed[0]["stage"],
        "op": "Relu",
        "axes": "nchw",
        "extra": [0, 0],
        "chosen": True,
    }


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--taps", "stage9"], 4, "tap 'stage9' is not in the network; near it are 'stage"),
        (["--size", "64"], 4, "'input' takes images of 32 x 32 pixels, got size 64"),
        (["--size", "64y32"], 2, "must be a side such as 224"),
        (["--levels", "coarse:16"], 2, "must be like coarse=16,fine=48, or a number of bits, got 'coarse:16'"),
        (["--levels", "coarse=15,fine=9"], 2, "must be like coarse=16,fine=48"),
        (["--levels", "0"], 2, "must be like coarse=16,fine=48"),
        (["--levels", "coarse=16,coarse=48"], 2, "coarse is named twice"),
        (["--head", "magic"], 2, "'magic' is not one of"),
        (
            ["--head", "lsh", "--labels", "folders"],
            2,
            "--labels needs a head that uses labels (hadamard-ridge",
        ),
        (["--input", "image"], 4, "input must be one of the network's, 'input', got 'image'"),
        (["--pooling", "gap"], 2, "pooling must be one of"),
        (["--weights", "coarse"], 2, "--weights must be like coarse=1,1,0"),
        (["--weights", "fine=1,1"], 2, "weights of level 'fine' must be 4 numbers"),
        (["--labels", "gone.csv"], 2, "gone.csv"),
        (["--max-images", "1"], 2, "1 is not in the range"),
        (["--tolerance", "-1"], 2, "-1.0 is not in the range"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_calls_say_why(
    backbone: Path, folder: Path, tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    out = tmp_path / "e.onnx"
    result = run("build", backbone, folder, "-o", out, *arguments, code=code)
    assert message in " ".join(result.stderr.split())
    assert "Traceback" not in result.output
    assert not out.exists()


def test_networks_that_do_not_fit(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("not a model")
    result = run("build", tmp_path / "text.onnx", folder, "-o", tmp_path / "e.onnx", code=4)
    assert "text.onnx cannot be used: not an ONNX model" in result.stderr
    run("taps", tmp_path / "text.onnx", code=4)
    onnx.save_model(networks.efficientnet(), tmp_path / "open.onnx")
    result = run("taps", tmp_path / "open.onnx", code=4)
    assert "takes images of any size: size must say which" in result.stderr
    assert "last_map" in run("taps", tmp_path / "open.onnx", "--size", "64x96").stdout


def test_only_bad_pictures(backbone: Path, tmp_path: Path) -> None:
    for name in ("a/1.png", "b/1.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("no picture")
    result = run("build", backbone, tmp_path, "-o", tmp_path / "e.onnx", code=1)
    assert "1.png" in result.stderr

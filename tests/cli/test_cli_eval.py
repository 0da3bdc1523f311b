"""``pyhash eval``: what it prints, which pictures it leaves out, and how it exits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import commands
import numpy as np
import pytest
from click.testing import Result
from galleries import FakeEncoder, picture

from pyhash.evaluation import evaluate
from pyhash.networks import Metadata

pytestmark = pytest.mark.usefixtures("fake")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A split ``test`` and a split ``train`` of three classes in two groups."""
    for number in range(24):
        name = ("warm/red", "warm/orange", "cold/blue")[number % 3]
        picture(tmp_path / ("test" if number < 9 else "train") / name / f"{number}.png", number)
    return tmp_path


def run(*arguments: str | Path, code: int = 0) -> Result:
    return commands.run("eval", *arguments, code=code)


def labelled(folder: Path) -> tuple[Any, dict[str, list[str]]]:
    files = sorted(folder.rglob("*.png"))
    labels = {"coarse": [file.parts[-3] for file in files], "fine": ["/".join(file.parts[-3:-1]) for file in files]}
    return FakeEncoder().encode(files), labels


def test_the_figures_are_those_of_evaluate(pictures: Path) -> None:
    answer = json.loads(run(pictures / "test", pictures / "train", "-k", "3", "-k", "1", "--json").stdout)
    (asked, asked_labels), (stored, stored_labels) = labelled(pictures / "test"), labelled(pictures / "train")
    expected = evaluate(asked, stored, asked_labels, stored_labels, levels={"coarse": 16, "fine": 48}, ks=[1, 3])
    assert answer["scores"] == json.loads(json.dumps(expected.to_dict()["scores"]))
    assert {score["relevance"] for score in answer["scores"]} == {"coarse", "fine", "graded"}
    assert (answer["n_queries"], answer["n_database"], answer["excluded_self"]) == (9, 15, False)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], "training: not stated; whether the database was trained on is not stated"),
        (["--held-out", "--training", "other pictures"], "training: other pictures; database held out from training"),
        (["--trained-on"], "database = training images"),
    ],
)
def test_the_table_states_its_protocol(pictures: Path, options: list[str], expected: str) -> None:
    text = run(pictures / "test", pictures / "train", *options).stdout
    of = pictures.name
    assert text.startswith(f"9 queries ({of}/test) against 15 codes ({of}/train) of 64 bits (coarse 16 | fine 48); ")
    assert expected in text
    for metric in ("mAP", "mAP@10", "P@10", "R@10", "P@r≤2", "empty@r≤2", "nDCG@10", "mAHP@10"):
        assert f"\n| {metric} |" in text


def test_what_the_encoder_was_trained_on_is_read_from_its_file(pictures: Path, fake: Any) -> None:
    fake.metadata = Metadata(training="a million pictures")
    assert "training: a million pictures;" in run(pictures / "test", pictures / "train").stdout


def test_queries_that_lie_in_the_database_are_not_their_own_answers(pictures: Path) -> None:
    tree = pictures / "tree.csv"
    tree.write_text("class,coarse\nred,warm\norange,warm\nblue,cold\n")
    answer = json.loads(run(pictures / "test", pictures, "-k", "1", "--labels", tree, "--json").stdout)
    assert answer["excluded_self"]
    assert (answer["n_queries"], answer["n_database"]) == (9, 24)


def test_labels_from_tables(pictures: Path) -> None:
    for split in ("test", "train"):
        rows = [
            f"{file.relative_to(pictures / split)},{file.parent.name}" for file in (pictures / split).rglob("*.png")
        ]
        (pictures / f"{split}.csv").write_text("\n".join(["path,colour", *rows]))
    found = run(
        *(pictures / "test", pictures / "train", "--labels", pictures / "test.csv"),
        *("--database-labels", pictures / "train.csv", "--levels", "colour", "--json"),
    )
    by_folder = json.loads(run(pictures / "test", pictures / "train", "--levels", "fine", "--json").stdout)
    scores = json.loads(found.stdout)["scores"]
    assert [score["relevance"] for score in scores] == ["colour"] * 3
    for score, other in zip(scores, by_folder["scores"], strict=True):
        assert score["values"] == pytest.approx(other["values"])


def test_bad_pictures_are_skipped_and_listed(pictures: Path) -> None:
    bad = pictures / "train" / "warm" / "red" / "bad.jpg"
    bad.write_text("not a picture")
    result = run(pictures / "test", pictures / "train", "--json", code=1)
    assert json.loads(result.stdout)["n_database"] == 15
    assert f"skipped {bad}: " in result.stderr
    for file in (pictures / "test").rglob("*.png"):
        file.write_text("not a picture")
    result = run(pictures / "test", pictures / "train", code=1)
    assert "cannot identify image file" in result.stderr


def test_a_table_or_markdown(pictures: Path) -> None:
    plain = run(pictures / "test", pictures / "train").stdout
    assert run(pictures / "test", pictures / "train", "--format", "md").stdout == plain
    statement, *rows = run(pictures / "test", pictures / "train", "--format", "table").stdout.splitlines()
    assert statement == plain.splitlines()[0]
    assert rows[1].startswith(" ")  # the header
    figures = [line.replace("|", " ").split() for line in plain.splitlines() if line.startswith("| mAP ")]
    assert [line.split() for line in rows if line.startswith("mAP ")] == figures


@pytest.mark.parametrize("ending", [".png", ".svg"])
def test_a_curve_is_drawn(pictures: Path, ending: str) -> None:
    pytest.importorskip("matplotlib")
    path = pictures / f"pr{ending}"
    result = run(pictures / "test", pictures / "train", "--plot", path)
    assert f"wrote {path}" in result.stderr
    assert path.read_bytes().startswith(b"\x89PNG" if ending == ".png" else b"<?xml")


def test_wrong_calls(pictures: Path, fake: FakeEncoder) -> None:
    test, train = pictures / "test", pictures / "train"
    assert "--plot must end in .png or .svg, got 'pr.pdf'" in run(test, train, "--plot", "pr.pdf", code=2).stderr
    (pictures / "empty").mkdir()
    assert "no images in" in run(test, pictures / "empty", code=2).stderr
    assert not fake.seen  # both were said before any work
    assert "-k must be integers from 1 to the 15 codes" in run(test, train, "-k", "16", code=2).stderr
    assert "does not exist" in run(test, pictures / "none", code=2).stderr
    (pictures / "table.csv").write_text("path,colour\n")
    assert "table.csv holds no rows" in run(test, train, "--labels", pictures / "table.csv", code=2).stderr
    flat = pictures / "flat"
    for number in range(4):
        picture(flat / ("a", "b")[number % 2] / f"{number}.png", number)
    message = run(test, flat, code=2).stderr
    assert "database_labels must have the levels of query_labels, ['coarse', 'fine'], got ['fine']" in message


def test_built_in_model_on_real_pictures(data_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    folder = data_directory / "clothing" / "validation"
    answer = json.loads(run(folder, "-k", "5", "--json").stdout)
    scores = {score["ranking"]: score["values"] for score in answer["scores"]}
    sizes = np.array([len(list(kind.iterdir())) for kind in folder.iterdir()])
    chance = float(np.square(sizes / sizes.sum()).sum())
    for ranking in ("code", "coarse", "fine"):
        assert scores[ranking]["mAP"] > 2 * chance
        assert scores[ranking]["P@5"] > 3 * chance

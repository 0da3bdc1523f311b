"""`pyhash.evaluate_folder`: folders of labelled images encoded, searched and judged."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
from galleries import FakeEncoder, picture

import pyhash
from pyhash import Encoder, ImageError, evaluate, evaluate_folder
from pyhash.errors import LabelError

LEVELS = {"coarse": 16, "fine": 48}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A split ``test`` and a split ``train`` of three classes in two groups."""
    for number in range(24):
        name = ("warm/red", "warm/orange", "cold/blue")[number % 3]
        picture(tmp_path / ("test" if number < 9 else "train") / name / f"{number}.png", number)
    return tmp_path


@pytest.fixture
def fake() -> Any:
    return cast(Encoder, FakeEncoder())


def labelled(folder: Path) -> tuple[Any, dict[str, list[str]]]:
    files = sorted(folder.rglob("*.png"))
    labels = {"coarse": [file.parts[-3] for file in files], "fine": ["/".join(file.parts[-3:-1]) for file in files]}
    return FakeEncoder().encode(files), labels


def test_the_report_is_that_of_evaluate(images: Path, fake: Any) -> None:
    done = []
    trial = evaluate_folder(
        images / "test", images / "train", fake, ks=[1, 3], held_out=True, progress=lambda *step: done.append(step)
    )
    (asked, asked_labels), (stored, stored_labels) = labelled(images / "test"), labelled(images / "train")
    expected = evaluate(asked, stored, asked_labels, stored_labels, levels=LEVELS, ks=[1, 3])
    assert trial.report.scores == expected.scores
    assert trial.failed == []
    protocol = trial.report.protocol
    assert (protocol.queries, protocol.database) == (f"{images.name}/test", f"{images.name}/train")
    assert (protocol.training, protocol.database_in_training) == ("not stated", False)
    assert done == [(number, 24) for number in range(1, 25)]


def test_a_folder_alone_searches_itself_without_itself(images: Path, fake: Any) -> None:
    report = evaluate_folder(images / "train", encoder=fake).report
    codes, labels = labelled(images / "train")
    assert report.scores == evaluate(codes, codes, labels, labels, levels=LEVELS, exclude_self=True).scores
    assert len(fake.seen) == 15  # each image is encoded once
    assert evaluate_folder(images / "train", images / "train", fake).report == report


def test_a_file_under_another_path_is_no_answer_to_itself(images: Path, fake: Any) -> None:
    links = images / "links"
    for number in range(0, 9, 3):
        kind = links / "warm" / "red"
        kind.mkdir(parents=True, exist_ok=True)
        (kind / f"link-{number}.png").symlink_to(images / "test" / "warm" / "red" / f"{number}.png")
    (links / "cold" / "blue").mkdir(parents=True)
    (links / "cold" / "blue" / "8.png").symlink_to(images / "test" / "cold" / "blue" / "8.png")
    report = evaluate_folder(links, images / "test", fake).report
    assert report.excluded_self
    assert len(fake.seen) == 9
    assert (report.n_queries, report.n_database) == (4, 9)


def test_queries_are_drawn_by_the_seed(images: Path, fake: Any) -> None:
    first, again, other = (
        evaluate_folder(images / "train", encoder=fake, max_queries=4, seed=seed).report for seed in (0, 0, 1)
    )
    assert (first.n_queries, first.n_database) == (4, 15)
    assert first == again != other


def test_what_cannot_be_read_is_left_out(images: Path, fake: Any) -> None:
    bad = images / "train" / "warm" / "red" / "bad.jpg"
    bad.write_text("not an image")
    trial = evaluate_folder(images / "test", images / "train", fake)
    assert [Path(error.path) for error in trial.failed] == [bad]
    assert trial.report.n_database == 15
    for file in (images / "test").rglob("*.png"):
        file.write_text("not an image")
    with pytest.raises(ImageError):
        evaluate_folder(images / "test", images / "train", fake)


def test_what_does_not_fit_is_said_before_the_work(images: Path, fake: Any) -> None:
    (images / "empty").mkdir()
    with pytest.raises(LabelError, match="no images in"):
        evaluate_folder(images / "test", images / "empty", fake)
    assert not fake.seen
    with pytest.raises(ValueError, match="ks must be integers from 1 to the 15 codes"):
        evaluate_folder(images / "test", images / "train", fake, ks=[16])


def test_the_built_in_encoder_is_the_default(images: Path) -> None:
    pytest.importorskip("onnxruntime")
    report = evaluate_folder(images / "train", max_queries=3).report
    assert report.levels == dict(pyhash.Encoder().levels)


def test_queries_of_one_class(images: Path, fake: Any) -> None:
    """They are right where the database has that class, whatever folders lie around it."""
    trial = evaluate_folder(images / "test" / "warm", images / "train" / "warm", fake)
    assert trial.report.without_relevant == {"fine": 0}
    only = images / "only"
    (only / "warm").mkdir(parents=True)
    (images / "test" / "warm" / "red").rename(only / "warm" / "red")
    report = evaluate_folder(only, images / "train", fake).report
    (asked, asked_labels), (stored, stored_labels) = labelled(only), labelled(images / "train")
    expected = evaluate(asked, stored, asked_labels, stored_labels, levels=LEVELS)
    assert (report.scores, report.without_relevant) == (expected.scores, {"coarse": 0, "fine": 0})
    with pytest.raises(LabelError, match="at least two"):
        evaluate_folder(only, encoder=fake)

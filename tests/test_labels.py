"""Where labels come from: folders, CSV files, trees; and what they must fit."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyhash.errors import LabelError
from pyhash.labels import Labelled, read_labels

LEVELS = ["coarse", "fine"]


def touch(root: Path, *names: str) -> Path:
    """Make empty files; labels are read without looking into pictures."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def by_name(labelled: Labelled, root: Path, level: str) -> dict[str, str]:
    names = [Path(os.path.relpath(file, root)).as_posix() for file in labelled.files]
    return dict(zip(names, labelled.labels[level], strict=True))


@pytest.fixture
def animals(tmp_path: Path) -> Path:
    return touch(
        tmp_path / "set", "cat/1.jpg", "cat/2.JPG", "dog/1.png", "car/1.webp", "car/notes.txt", ".trash/x/9.jpg"
    )


def test_folders_are_classes(animals: Path) -> None:
    labelled = read_labels(animals, "folders", LEVELS)
    assert list(labelled.labels) == ["fine"]
    expected = {"car/1.webp": "car", "cat/1.jpg": "cat", "cat/2.JPG": "cat", "dog/1.png": "dog"}
    assert by_name(labelled, animals, "fine") == expected
    assert labelled.files == sorted(labelled.files)


def test_folders_around_folders_are_groups(tmp_path: Path) -> None:
    root = touch(
        tmp_path, "train/pets/cat/1.jpg", "train/pets/dog/1.jpg", "train/farm/cow/1.jpg", "train/farm/cat/1.jpg"
    )
    labelled = read_labels(root, "folders", LEVELS)
    assert set(labelled.labels["coarse"]) == {"pets", "farm"}
    assert set(labelled.labels["fine"]) == {"pets/cat", "pets/dog", "farm/cow", "farm/cat"}  # two kinds of cat
    assert set(read_labels(root, "folders", ["code"]).labels["code"]) == set(labelled.labels["fine"])
    three = read_labels(root, "folders", ["a", "b", "c"])
    assert list(three.labels) == ["b", "c"]


def test_pictures_outside_of_folders(tmp_path: Path) -> None:
    touch(tmp_path, "cat/1.jpg", "2.jpg")
    with pytest.raises(LabelError, match=r"one folder per class .at least two.; .*2\.jpg is not inside"):
        read_labels(tmp_path, "folders", LEVELS)
    with pytest.raises(LabelError, match=r"one folder per class .at least two.; .*1\.jpg is not inside"):
        read_labels(touch(tmp_path / "one", "only/1.jpg", "only/2.jpg"), "folders", LEVELS)


def test_no_labels(animals: Path, tmp_path: Path) -> None:
    labelled = read_labels(animals, None, LEVELS)
    assert (len(labelled.files), labelled.labels) == (4, {})
    (tmp_path / "empty").mkdir()
    for source in (None, "folders"):
        with pytest.raises(LabelError, match=r"no images in .*empty"):
            read_labels(tmp_path / "empty", source, LEVELS)
    with pytest.raises(NotADirectoryError, match=r"images must be a folder, got '.*gone'"):
        read_labels(tmp_path / "gone", None, LEVELS)


def test_the_folder_is_walked_as_a_gallery_walks_it(animals: Path, tmp_path: Path) -> None:
    (animals / "dog/gone.png").symlink_to(tmp_path / "nowhere")
    (animals / "link").symlink_to(animals / "cat", target_is_directory=True)
    labelled = read_labels(animals, "folders", LEVELS)
    assert len(labelled.files) == 4
    assert [(Path(error.path).name, error.reason[:5]) for error in labelled.failed] == [
        ("gone.png", "a lin"),
    ]
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "gone.png").symlink_to(tmp_path / "nowhere")
    with pytest.raises(LabelError, match=r"no images in .*only that can be read; .*gone\.png: a link"):
        read_labels(tmp_path / "only", "folders", LEVELS)


def test_csv_of_pictures(animals: Path, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    elsewhere = touch(tmp_path, "other.jpg") / "other.jpg"
    table.write_text(
        f"\ufeffpath,fine,coarse,note\ncat/1.jpg,cat,animal,\n{elsewhere},bus,vehicle,x\n", encoding="utf-8"
    )
    labelled = read_labels(animals, table, LEVELS)
    assert [Path(file).name for file in labelled.files] == ["1.jpg", "other.jpg"]
    assert labelled.files[1] == os.fspath(elsewhere)
    assert labelled.labels == {"coarse": ["animal", "vehicle"], "fine": ["cat", "bus"]}
    assert list(labelled.labels) == LEVELS
    table.write_text("path,kind\ncat/1.jpg,cat\ndog/1.png,dog\n")
    assert read_labels(animals, table, ["code"]).labels == {"code": ["cat", "dog"]}  # one level, one column


def test_csv_of_classes(animals: Path, tmp_path: Path) -> None:
    table = tmp_path / "tree.csv"
    table.write_text("class,coarse\ncat,animal\ndog,animal\ncar,vehicle\nbus,vehicle\n")
    labelled = read_labels(animals, table, LEVELS)
    assert by_name(labelled, animals, "coarse")["car/1.webp"] == "vehicle"
    assert by_name(labelled, animals, "coarse")["cat/2.JPG"] == "animal"
    assert by_name(labelled, animals, "fine")["dog/1.png"] == "dog"


def test_json_tree(animals: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree.json"
    tree.write_text(json.dumps({"animal": ["cat", "dog"], "vehicle": ["car"]}))
    labelled = read_labels(animals, tree, LEVELS)
    assert by_name(labelled, animals, "coarse") == {
        "car/1.webp": "vehicle",
        "cat/1.jpg": "animal",
        "cat/2.JPG": "animal",
        "dog/1.png": "animal",
    }
    assert by_name(labelled, animals, "fine")["cat/1.jpg"] == "cat"
    tree.write_text(json.dumps({"alive": {"feline": ["cat"], "canine": ["dog"]}, "thing": ["car"]}))
    three = read_labels(animals, tree, ["top", "middle", "fine"])
    assert by_name(three, animals, "top")["dog/1.png"] == "alive"
    assert by_name(three, animals, "middle") == {
        "car/1.webp": "car",  # a branch that ends early stands for itself
        "cat/1.jpg": "feline",
        "cat/2.JPG": "feline",
        "dog/1.png": "canine",
    }


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "", "a.csv holds no rows"),
        ("a.csv", "path,fine\n", "a.csv holds no rows"),
        ("a.csv", ",\n1,2\n", "a.csv holds no rows"),
        (
            "a.csv",
            "path,coarse,x\ncat/1.jpg,animal,y\n",
            "a.csv must have a column for the level 'fine', got coarse, x",
        ),
        ("a.csv", "path\ncat/1.jpg\n", "a.csv must have a column for the level 'fine', got none"),
        ("a.csv", "path,fine\ncat/1.jpg,cat\ndog/1.png,\n", "row 2 of a.csv has no label for the level 'fine'"),
        ("a.csv", "path,fine\ncat/1.jpg\n", "row 1 of a.csv has no label for the level 'fine'"),
        ("a.csv", "path,fine\n,cat\n", "row 1 of a.csv has no path"),
        ("a.csv", "class,coarse\ncat,animal\n", "the tree of classes has no class 'car', the folder of .*car"),
        ("a.csv", "class,coarse\ncat,animal\ndog,animal\ncar,\n", "row 1 of the tree of classes has no label"),
        ("a.csv", b"path,fine\n\xff\xfe,cat\n", r"a\.csv is not UTF-8"),
        ("a.json", '{"animal": ["cat", "dog"]}', "has no class 'car'"),
        ("a.json", '{"animal": 3}', "must be objects around lists of names, got 3"),
        ("a.json", "{", r"a\.json is not JSON"),
        ("a.json", "{}", "has no class 'car'"),
    ],
)
def test_what_does_not_fit(animals: Path, tmp_path: Path, name: str, text: str | bytes, message: str) -> None:
    (tmp_path / name).write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(LabelError, match=message):
        read_labels(animals, tmp_path / name, LEVELS)


def test_a_missing_file(animals: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_labels(animals, tmp_path / "gone.csv", LEVELS)


TREES = st.recursive(
    st.lists(st.sampled_from(["cat", "dog", "car", "cow"]), max_size=3)
    | st.integers()
    | st.none()
    | st.text(max_size=3),
    lambda inner: st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=3) | st.lists(inner, max_size=3),
    max_leaves=8,
)


@given(tree=TREES, levels=st.sampled_from([["fine"], LEVELS, ["a", "b", "c"]]))
def test_any_json_gives_labels_or_a_label_error(
    tmp_path_factory: pytest.TempPathFactory, tree: Any, levels: list[str]
) -> None:
    root = tmp_path_factory.getbasetemp() / "any"
    touch(root / "set", "cat/1.jpg", "dog/1.jpg")
    (root / "tree.json").write_text(json.dumps(tree))
    try:
        labelled = read_labels(root / "set", root / "tree.json", levels)
    except LabelError:
        return
    assert set(labelled.labels) <= set(levels)
    assert levels[-1] in labelled.labels
    assert all(len(values) == len(labelled.files) == 2 for values in labelled.labels.values())


@pytest.mark.parametrize("separator", [";", "\t", "|", " , "])
def test_columns_may_be_separated_otherwise(animals: Path, tmp_path: Path, separator: str) -> None:
    table = tmp_path / "labels.csv"
    for header in ("path", "Path", "file name"):  # the values say what it is
        rows = [[header, "coarse", "fine"], ["cat/1.jpg", "animal, tame", "cat"], ["car/1.webp", "vehicle", "car"]]
        if separator == " , ":
            rows[1][1] = '"animal, tame"'
        table.write_text("".join(f"{separator.join(row)}\r\n" for row in rows))
        labelled = read_labels(animals, table, LEVELS)
        assert by_name(labelled, animals, "coarse") == {"cat/1.jpg": "animal, tame", "car/1.webp": "vehicle"}


def test_a_table_that_is_neither_says_what_it_has(animals: Path, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("id;kind\n17;cat\n18;dog\n")
    message = r"'path' with files of .* class folders; its columns are 'id', 'kind', and 'id' holds neither, '17' for"
    with pytest.raises(LabelError, match=message):
        read_labels(animals, table, LEVELS)


def test_an_image_has_one_label(animals: Path, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("path,fine\ncat/1.jpg,cat\ncat/2.JPG,cat\n./cat/1.jpg,cat\n")
    assert [Path(file).name for file in read_labels(animals, table, LEVELS).files] == ["1.jpg", "2.JPG"]
    table.write_text("path,fine\ncat/1.jpg,cat\ncat/2.JPG,cat\ncat/../cat/1.jpg,dog\n")
    message = (
        r"rows 1 and 3 of labels.csv give one image, 'cat/../cat/1.jpg', two labels of the level 'fine', 'cat' and"
    )
    with pytest.raises(LabelError, match=message):
        read_labels(animals, table, LEVELS)
    (animals / "dog/also.jpg").symlink_to(animals / "cat/1.jpg")
    with pytest.raises(LabelError, match=r"cat/1\.jpg and .*dog/also\.jpg are one image .a link. in two classes"):
        read_labels(animals, "folders", LEVELS)


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.json", '{"animal": ["cat", "dog"], "thing": ["car", "dog"]}'), ("a.csv", "c,coarse\ncat,a\ndog,a\ndog,b\n")],
)
def test_a_class_has_one_place_in_a_tree(animals: Path, tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(LabelError, match=rf"{name} lists the class 'dog' twice, in different groups"):
        read_labels(animals, tmp_path / name, LEVELS)


def test_images_of_one_class_beside_others(tmp_path: Path) -> None:
    """What is compared with other images needs their labels, however few of them it has."""
    touch(tmp_path, "all/train/pets/cat/1.jpg", "all/train/pets/dog/1.jpg", "all/train/farm/cat/1.jpg")
    classes = set(read_labels(tmp_path / "all", "folders", LEVELS).labels["fine"])
    for place, fine in {
        "one/cat/1.jpg": "cat",  # not among them: as it stands
        "two/pets/cat/1.jpg": "pets/cat",
        "three/test/farm/cat/1.jpg": "farm/cat",
    }.items():
        root = touch(tmp_path, place) / place.split("/")[0]
        assert read_labels(root, "folders", LEVELS, classes=classes).labels["fine"] == [fine]
        with pytest.raises(LabelError, match="at least two"):
            read_labels(root, "folders", LEVELS)
    root = touch(tmp_path / "four", "pets/cat/1.jpg", "pets/dog/1.jpg")
    assert read_labels(root, "folders", LEVELS, classes=classes).labels["fine"] == ["pets/cat", "pets/dog"]
    with pytest.raises(LabelError, match="at least two"):
        read_labels(touch(tmp_path / "five", "1.jpg"), "folders", LEVELS, classes=classes)

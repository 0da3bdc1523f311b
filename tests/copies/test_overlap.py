"""How many images of one collection have a copy in another."""

from __future__ import annotations

from pathlib import Path

from copied import group_of, write

from pyhash.copies import Group, Share, overlap


def against(train: list[Path], test: list[Path]) -> Group:
    group = group_of(*train, *test)
    return group._replace(images=tuple(copy._replace(reference=Path(copy.path) in test) for copy in group.images))


def test_by_class(tmp_path: Path) -> None:
    train = [
        write(tmp_path / "train" / name, b"x", 1) for name in ("cat/1.png", "cat/2.png", "dog/deep/1.png", "0.png")
    ]
    test = [write(tmp_path / "test" / name, b"x", 1) for name in ("cat/7.png", "dog/8.png", "dog/9.png")]
    groups = [
        against(train[:2], test[:1]),
        against(train[:2], []),  # copies within one side are no leak
        against(train[2:3], test[1:2])._replace(level="similar"),
        against(train[3:], test[2:]),
    ]
    found = overlap(groups, map(str, train), [str(tmp_path / "train")])
    assert found.whole == Share(3, 4)
    assert found.by_class == {"": Share(1, 1), "cat": Share(2, 2), "dog": Share(0, 1)}
    assert found.paths == (str(train[0]), str(train[1]), str(train[3]))
    other = overlap(groups, map(str, test), [str(tmp_path / "test")], reference=True)
    assert other.whole == Share(2, 3)
    assert other.whole.share == 2 / 3
    assert other.by_class == {"cat": Share(1, 1), "dog": Share(1, 2)}


def test_of_nothing() -> None:
    assert overlap([], [], ["/x"]).whole == Share(0, 0)
    assert Share(0, 0).share == 0

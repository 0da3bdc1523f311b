"""Groups without the pairs that a person has told apart."""

from __future__ import annotations

from pathlib import Path

from copied import group_of, write

from pyhash.copies import Group, told_apart


def names(groups: list[Group]) -> list[list[str]]:
    return [[Path(copy.path).stem for copy in group.images] for group in groups]


def test_told_apart(tmp_path: Path) -> None:
    a, b, c, d = paths = [write(tmp_path / f"{name}.png", name.encode(), 1) for name in "abcd"]
    group = group_of(*paths)

    def found(*pairs: tuple[Path, Path]) -> list[Group]:
        return told_apart([group], [(str(one), str(other)) for one, other in pairs])

    assert found() == [group]
    assert found((a, tmp_path / "x")) == [group]
    assert names(found((b, a))) == [["a", "c", "d"]]
    assert names(found((a, b), (a, c), (a, d))) == [["b", "c", "d"]]
    assert names(found((b, c))) == [["a", "b", "d"]]
    assert names(found((a, b), (a, c), (b, c))) == [["a", "d"]]
    assert names(found((a, b), (a, c), (d, b), (d, c))) == [["a", "d"], ["b", "c"]]
    assert names(told_apart([group_of(a, b)], [(str(b), str(a))])) == []


def test_what_left_a_group_is_joined_by_its_first(tmp_path: Path) -> None:
    a, b, c = (write(tmp_path / f"{name}.png", name.encode(), 1) for name in "abc")
    same = write(tmp_path / "same.png", b"b", 2)
    group = group_of(a, b, c, same)
    group = group._replace(images=tuple(copy._replace(differs=("brighter",)) for copy in group.images))
    (left,) = told_apart([group], [(str(a), str(other)) for other in (b, c, same)])
    assert left.chained
    assert left.reason == "best of those that are left"
    assert [(copy.relation, copy.joined_by, copy.differs) for copy in left.images] == [
        ("best", None, ()),
        ("changed", str(a), ()),
        ("identical bytes", None, ()),
    ]

"""The example that finds test images in a training set."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from scenes import scaled, scene

EXAMPLE = Path(__file__).parents[2] / "examples" / "leaks.py"


def write(folder: Path, scenes: dict[str, int], factor: float = 1) -> Path:
    for name, seed in scenes.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        scaled(factor)(scene(seed)).save(folder / f"{name}.png")
    return folder


def test_leaks_are_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = write(tmp_path / "train", {"cat/0": 0, "cat/1": 1, "dog/2": 2, "dog/3": 3})
    test = write(tmp_path / "test", {"cat/a": 0, "cat/b": 5, "dog/c": 6, "dog/d": 7, "dog/e": 8}, 0.7)
    main = runpy.run_path(str(EXAMPLE))["main"]
    main([str(train), str(test), "--list", str(tmp_path / "leaks.txt"), "--galleries", str(tmp_path / "kept")])
    assert capsys.readouterr().out.splitlines()[:4] == [
        "test images with a copy in train: 1 of 5 (20.00%)",
        "  cat: 1 of 2 (50.00%)",
        "train images with a copy in test: 1 of 4 (25.00%)",
        "  cat: 1 of 2 (50.00%)",
    ]
    assert (tmp_path / "leaks.txt").read_text(encoding="utf-8") == f"{test / 'cat' / 'a.png'}\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "leaks.txt", "test", "train"]
    assert not [*train.glob(".*"), *test.glob(".*")]  # nothing is written there

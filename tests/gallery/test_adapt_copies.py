"""Galleries that adapt: what counts as a copy, as the same row, and as a change by another."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from galleries import EmbeddingEncoder, kinds

from pyhash import Gallery
from pyhash.gallery import adapt


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return kinds(tmp_path / "photos", 6, 20)


def test_a_copy_adds_nothing_to_an_average(folder: Path) -> None:
    original, copy = folder / "kind2" / "007.png", folder / "kind2" / "copy.png"
    shutil.copy(original, copy)
    with Gallery(folder, EmbeddingEncoder()) as gallery:
        gallery.update()
        with gallery._file.reading():
            lists = gallery._file.vectors.neighbours()
        for path, other in ((original, copy), (copy, original)):
            row = lists.ids.tolist().index(gallery.id_of(os.fspath(path)))
            assert lists.near[row][0] == gallery.id_of(os.fspath(other))
            assert (lists.weights[row] > 0).tolist() == [False] + [True] * (lists.near.shape[1] - 1)


def test_a_change_by_another_while_a_head_is_fitted_is_not_lost(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit = adapt.adapt

    def fit_slowly(*arguments: Any, **options: Any) -> Any:
        monkeypatch.setattr(adapt, "adapt", fit)
        with Gallery(folder, EmbeddingEncoder()) as other:
            kinds(folder, 1, 1, start=20)
            assert other.update().adapted == adapt.Adapted(121, True)
        return fit(*arguments, **options)

    monkeypatch.setattr(adapt, "adapt", fit_slowly)
    with Gallery(folder, EmbeddingEncoder()) as gallery:
        assert gallery.update().adapted is None  # the other did it
        assert gallery.stats().fitted_on == 121


class DriftingEncoder(EmbeddingEncoder):
    """One that reads an image a little differently each time."""

    def _code(self, source: Any) -> np.ndarray[Any, np.dtype[np.uint8]]:
        code = super()._code(source)
        code[-1] ^= len(self.seen) & 0xFF
        return code

    def _embedding(self, source: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
        return super()._embedding(source) + np.float32(0.0001) * len(self.seen)


def test_a_row_read_a_little_differently_is_still_that_row(tmp_path: Path) -> None:
    with Gallery(kinds(tmp_path / "photos", 3, 10), DriftingEncoder()) as gallery:
        gallery.update()
        for path in gallery:
            first = gallery.search(path, 1)[0]
            assert (first.path, first.distance) == (path, 0)

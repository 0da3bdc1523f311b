"""Files and pickles that commit 8f364cb made still open, and answer what they answered then.

They were made of codes around eight centres: an index with a ring, own ids, removed and replaced codes; one of two
levels; its pickle; and a pickled Encoder, which holds the bytes of an encoder file.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

import pyhash

FOLDER = Path(__file__).parent / "files" / "8f364cb"
ANSWERS = np.load(FOLDER / "answers.npz")


def check(index: pyhash.Index, name: str) -> None:
    hits = index.search(ANSWERS["queries"], 7)
    np.testing.assert_array_equal(hits.distances, ANSWERS[f"{name}_distances"])
    np.testing.assert_array_equal(hits.ids, ANSWERS[f"{name}_ids"])


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("name", ["ring", "levels"])
def test_index_files(name: str, mmap: bool, kernel: str, tmp_path: Path) -> None:
    index = pyhash.Index.open(FOLDER / f"{name}.pyhash", mmap=mmap)
    check(index, name)
    index.save(tmp_path / "again")
    check(pyhash.Index.open(tmp_path / "again"), name)


def test_pickled_indexes(kernel: str) -> None:
    index = pickle.loads((FOLDER / "index.pickle").read_bytes())
    assert index.levels == {"coarse": 16, "fine": 48}
    assert 5 not in index
    check(index, "levels")
    check(pickle.loads(pickle.dumps(index)), "levels")


def test_encoders(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("PIL")
    encoder = pickle.loads((FOLDER / "encoder.pickle").read_bytes())
    (tmp_path / "encoder.onnx").write_bytes(encoder._source)
    for each in (encoder, pyhash.Encoder(tmp_path / "encoder.onnx")):
        assert each.levels == {"coarse": 8, "fine": 24}
        logits = each.logits(ANSWERS["pixels"])
        np.testing.assert_allclose(logits, ANSWERS["logits"], atol=1e-3 * np.abs(ANSWERS["logits"]).max())
        near_zero = np.abs(ANSWERS["logits"]) < 1e-3
        bits = np.unpackbits(each.encode(ANSWERS["pixels"]), axis=1)
        assert ((bits == (ANSWERS["logits"] > 0)) | near_zero).all()

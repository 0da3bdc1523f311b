"""The digest of a model: its bytes, and the files where it keeps weights."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("PIL")
import onnx
from tiny_networks import plain

from pyhash.networks.digest import digest


def test_bytes_and_a_file_of_them_are_alike(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(plain())
    assert digest(plain()) == digest(str(tmp_path / "model.onnx")) == hashlib.sha256(plain()).hexdigest()


def test_every_file_of_weights_counts(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    model = onnx.load_model_from_string(plain())
    onnx.save_model(model, path, save_as_external_data=True, all_tensors_to_one_file=False, size_threshold=0)
    files = [file for file in tmp_path.iterdir() if file != path]
    assert len(files) == 3
    found = {digest(str(path))}
    for file in files:
        content = bytearray(file.read_bytes())
        content[0] ^= 1
        file.write_bytes(content)
        found.add(digest(str(path)))
    assert len(found) == 4
    assert digest(path.read_bytes()) not in found


@given(st.data())
def test_damaged_and_foreign_files_have_digests_too(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Nothing but the file counts then: it is for ONNX Runtime to refuse it."""
    content = bytearray(plain())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=4), "damaged"):
        content[place] = data.draw(st.integers(0, 255), "value")
    content = content[: data.draw(st.integers(1, len(content)), "length")]
    path = tmp_path_factory.getbasetemp() / "damaged.onnx"
    path.write_bytes(content)
    assert digest(str(path)) == hashlib.sha256(content).hexdigest()

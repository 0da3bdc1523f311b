"""The digest of a model: its bytes, and the files where it keeps weights."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("PIL")
import onnx
from tiny_networks import pictures, plain

from pyhash import Encoder
from pyhash.errors import EncoderError
from pyhash.networks import taps
from pyhash.networks.digest import digest, digest_of_part


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


def test_a_part_has_what_it_needs_and_nothing_else(tmp_path: Path) -> None:
    """The weights that only a branch reads, and those outside the file, are part of it."""
    helper, value = onnx.helper, onnx.helper.make_tensor_value_info
    branches = {
        name: helper.make_graph([helper.make_node(op, ["x", "w"], ["inner"])], name, [], [value("inner", 1, [3])])
        for name, op in (("then_branch", "Add"), ("else_branch", "Sub"))
    }
    nodes = [
        helper.make_node("Mul", ["y", "v"], ["z"]),
        helper.make_node("If", ["yes"], ["y"], **branches),
        helper.make_node("Mul", ["x", "u"], ["other"]),
    ]
    weights = {"yes": np.array(True), **{name: np.arange(3, dtype=np.float32) for name in "uvw"}}

    def made(**changed: np.ndarray) -> onnx.ModelProto:
        tensors = [onnx.numpy_helper.from_array(array, name) for name, array in {**weights, **changed}.items()]
        outputs = [value(name, 1, [3]) for name in ("y", "z", "other")]
        body = helper.make_graph(nodes, "body", [value("x", 1, [3])], outputs, tensors)
        return helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    def parts(model: onnx.ModelProto) -> list[str]:
        content = model.SerializeToString()
        return [digest_of_part(content, "y"), digest_of_part(content, "z", after="y"), digest_of_part(content, "z")]

    before, ones = parts(made()), np.ones(3, np.float32)
    assert len(set(before)) == 3
    assert parts(made(u=ones)) == before
    assert [a == b for a, b in zip(parts(made(v=ones)), before, strict=True)] == [True, False, False]
    assert [a == b for a, b in zip(parts(made(w=ones)), before, strict=True)] == [False, True, False]

    noted = made()
    for tensor in noted.graph.initializer:
        tensor.doc_string = "a note"
    assert parts(noted) == before

    path = tmp_path / "model.onnx"
    onnx.save_model(made(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    outside = digest_of_part(str(path), "y")
    (tmp_path / "weights.bin").write_bytes((tmp_path / "weights.bin").read_bytes().replace(b"\x3f", b"\x3e"))
    assert digest_of_part(str(path), "y") != outside


def test_weights_are_found_beside_what_a_link_leads_to(tmp_path: Path) -> None:
    """A link to a model is that model, wherever it lies; and so are links to all of its files."""
    path, near, far = (tmp_path / name / "model.onnx" for name in ("model", "near", "far"))
    for file in (path, near, far):
        file.parent.mkdir()
    model = onnx.load_model_from_string(plain())
    onnx.save_model(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    for link in (near, far):
        link.symlink_to(path)
    (near.parent / "weights.bin").symlink_to(path.parent / "weights.bin")
    encoders = [Encoder(file, preprocess="tf") for file in (path, near, far)]
    assert len({encoder.fingerprint for encoder in encoders}) == 1
    for link in (near, far):
        assert digest(str(link)) == digest(str(path))
        assert digest_of_part(str(link), "logits") == digest_of_part(str(path), "logits")
        assert [tap.name for tap in taps(link)] == [tap.name for tap in taps(path)]
    codes = [encoder.encode(pictures(3)).tolist() for encoder in encoders]
    assert codes[0] == codes[1] == codes[2]
    opened = encoders[2].opened
    assert opened is not None
    assert opened["model"] == str(far)
    (path.parent / "weights.bin").unlink()
    with pytest.raises(EncoderError, match=r"weights\.bin"):
        Encoder(far, preprocess="tf")

"""Large weights: held once, in files beside the network while it runs, and never lost on the way."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("PIL")
pytest.importorskip("scipy")
import labelled_pictures
import onnx
from network_cases import features_of, pictures, run
from networks import Net, resnet
from onnx import ModelProto

from pyhash.networks import Session, as_source, serialized, weights


def large(width: int) -> ModelProto:
    """A network nearly all of whose weights are in one layer, and whose features are few."""
    net = Net()
    x = net.relu(net.conv("input", 3, 16, stride=2))
    x = net.node("Flatten", net.relu(net.conv(x, 16, 16, stride=2)), axis=1)
    x = net.relu(net.dense(net.relu(net.dense(x, 1024, width)), width, 16))
    net.dense(x, 16, 10, name="logits")
    return net.model(["n", 3, 32, 32], {"logits": ["n", 10]})


def test_a_network_runs_from_files_as_from_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    model = features_of(resnet())
    images = pictures(3, 32)
    with as_source(model) as source:
        assert isinstance(source, bytes)
    monkeypatch.setattr(weights, "_LARGE_MODEL", 0)
    with as_source(model) as source:
        assert isinstance(source, str)
        folder = Path(source).parent
        assert (folder / "weights").stat().st_size > 10 * Path(source).stat().st_size / 11 - weights.LARGE
        found = Session(source).run(None, {"images": images})[0]
    np.testing.assert_array_equal(found, run(model, {"images": images})[0])
    assert not folder.exists()
    assert features_of(resnet()).SerializeToString() == model.SerializeToString()


def test_without_weights_nothing_else_changes() -> None:
    model = features_of(resnet())
    bare = weights.without_weights(model)
    assert len(serialized(bare)) < len(serialized(model)) / 2
    for field in ("node", "input", "output"):
        assert list(getattr(bare.graph, field)) == list(getattr(model.graph, field))
    for one, other in zip(bare.graph.initializer, model.graph.initializer, strict=True):
        assert (one.name, one.data_type, list(one.dims)) == (other.name, other.data_type, list(other.dims))
    assert (bare.opset_import, bare.metadata_props) == (model.opset_import, model.metadata_props)


CHILD = """
import resource, sys
from pyhash import build
from pyhash.networks import add_features
small, model, folder, step = sys.argv[1:]
def make(model):
    if step == "build":
        build(model, folder, "folders", 16, small + ".out", overwrite=True)
    else:
        add_features(model)
make(small)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
make(model)
print(1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is told in other units elsewhere")
@pytest.mark.parametrize("step", ["features", "build"])
def test_memory_is_at_most_three_times_the_file(tmp_path: Path, step: str) -> None:
    onnx.save(large(16), tmp_path / "small.onnx")
    onnx.save(large(16384), tmp_path / "large.onnx")
    folder = labelled_pictures.draw(tmp_path / "train", per_class=4)
    arguments = [tmp_path / "small.onnx", tmp_path / "large.onnx", folder, step]
    child = subprocess.run(
        [sys.executable, "-c", CHILD, *map(os.fspath, arguments)], capture_output=True, text=True, check=True
    )
    assert int(child.stdout) < 3 * (tmp_path / "large.onnx").stat().st_size

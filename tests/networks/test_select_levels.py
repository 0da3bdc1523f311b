"""Heads and levels in a graph: one file gives what its parts give, and a level alone what it gives in the whole."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("PIL")
import networks
from network_cases import (
    features_of,
    pictures,
    random_head,
    run,
)

from pyhash import networks as graph
from pyhash.encoder import Encoder
from pyhash.errors import GraphError


def test_a_level_that_reads_early_taps_only_can_be_run_alone() -> None:
    features = features_of(networks.resnet())
    blocks = graph.feature_blocks(features)
    head = random_head(60, 32)
    head.weight[blocks["stage3"].start :, :8] = 0  # coarse reads the first two
    encoder = graph.add_head(features, head, {"coarse": 8, "fine": 24})
    assert [value.name for value in encoder.graph.output] == ["logits", "logits_coarse", "logits_fine"]
    pixels = pictures(5, 32)
    expected = run(features, {"images": pixels})[0] @ head.weight + head.bias
    np.testing.assert_allclose(run(encoder, {"images": pixels}, ["logits"])[0], expected, atol=1e-4)
    coarse = graph.select_levels(encoder, ["coarse"])
    assert len(coarse.graph.node) < len(encoder.graph.node) / 1.5
    assert "stage3" not in {name for node in coarse.graph.node for name in node.output}
    for levels, columns in ((["coarse"], slice(0, 8)), (["fine"], slice(8, 32)), (["fine", "coarse"], slice(0, 32))):
        part = Encoder(graph.select_levels(encoder, levels).SerializeToString())
        assert list(part.levels) == [level for level in ("coarse", "fine") if level in levels]
        np.testing.assert_allclose(part.logits(pixels), expected[:, columns], atol=1e-4)


def test_levels_that_read_every_tap_can_be_selected_too() -> None:
    head = random_head(60, 32)
    encoder = graph.add_head(features_of(networks.resnet()), head, {"coarse": 8, "fine": 24})
    assert [value.name for value in encoder.graph.output] == ["logits"]
    whole = Encoder(encoder.SerializeToString()).logits(pictures(3, 32))
    for level, columns in (("coarse", slice(0, 8)), ("fine", slice(8, 32))):
        part = Encoder(graph.select_levels(encoder, [level]).SerializeToString())
        np.testing.assert_allclose(part.logits(pictures(3, 32)), whole[:, columns], atol=1e-5)
    with pytest.raises(ValueError, match=r"levels must be some of coarse, fine, got \['middle'\]"):
        graph.select_levels(encoder, ["middle"])
    with pytest.raises(ValueError, match=r"levels must be some of coarse, fine, got \[\]"):
        graph.select_levels(encoder, [])
    with pytest.raises(GraphError, match=r"not an encoder: its metadata lacks pyhash\.levels"):
        graph.select_levels(networks.resnet(), ["coarse"])


def test_a_projection_before_the_head_is_an_output() -> None:
    """Also where the network has a tensor of that name already."""
    model = networks.resnet()
    assert "embedding" in {name for node in model.graph.node for name in node.output}
    features = features_of(model)
    projection, head = random_head(60, 20), random_head(20, 32)
    encoder = graph.add_head(features, head, {"coarse": 8, "fine": 24}, embedding=projection)
    assert [value.name for value in encoder.graph.output] == ["logits", "embedding"]
    pixels = pictures(5, 32)
    (given,) = run(features, {"images": pixels})
    logits, embedding = run(encoder, {"images": pixels}, ["logits", "embedding"])
    np.testing.assert_allclose(embedding, given @ projection.weight + projection.bias, atol=1e-4)
    np.testing.assert_allclose(logits, embedding @ head.weight + head.bias, atol=1e-4)
    np.testing.assert_array_equal(Encoder(encoder.SerializeToString()).logits(pixels), logits)
    coarse = graph.select_levels(encoder, ["coarse"])
    assert [value.name for value in coarse.graph.output] == ["logits"]
    np.testing.assert_allclose(run(coarse, {"images": pixels})[0], logits[:, :8], atol=1e-5)


def test_a_head_must_fit() -> None:
    features = features_of(networks.resnet())
    with pytest.raises(
        ValueError, match=r"embedding must have a weight of \(60, 9\) and a bias of \(9,\), got \(61, 9\)"
    ):
        graph.add_head(features, random_head(9, 8), {"code": 8}, embedding=random_head(61, 9))
    with pytest.raises(ValueError, match=r"head must have a weight of \(9, 8\) and a bias of \(8,\), got \(60, 8\)"):
        graph.add_head(features, random_head(60, 8), {"code": 8}, embedding=random_head(60, 9))
    with pytest.raises(ValueError, match=r"head must have a weight of \(60, 16\) and a bias of \(16,\), got \(60, 8\)"):
        graph.add_head(features, random_head(60, 8), {"code": 16})
    broken = random_head(60, 8)
    broken.weight[3, 3] = np.nan
    with pytest.raises(ValueError, match="head must have finite weights"):
        graph.add_head(features, broken, {"code": 8})

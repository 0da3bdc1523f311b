"""Which tensors of a network can be read, and which of them are chosen, in networks of every kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("PIL")
import networks
import onnx
from network_cases import (
    CASES,
    Case,
    dim_of,
    features_of,
)

from pyhash import networks as graph


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def test_taps_are_chosen_at_the_ends_of_stages(case: Case) -> None:
    chosen = graph.choose_taps(case.make(), size=case.size)
    assert {tap.name: tap.kind for tap in chosen} == dict(case.taps)
    assert [tap.stage for tap in chosen] == sorted(tap.stage for tap in chosen)
    for n in (1, 2, 3):
        fewer = graph.choose_taps(case.make(), n, size=case.size)
        assert len(fewer) <= n
        assert fewer[-1] == chosen[-1]


def test_every_tap_that_is_listed_can_be_read(case: Case) -> None:
    model = case.make()
    listed = graph.taps(model, size=case.size)
    names = [tap.name for tap in listed]
    assert set(case.taps) <= set(names)
    assert len(set(names)) == len(names)
    for tap in listed[:: max(1, len(listed) // 6)]:
        result = graph.add_features(model, [tap.name], case.preprocess, size=case.size)
        assert dim_of(result) == tap.channels


@pytest.mark.parametrize("taps", [[], "stage1", ["stage1", "stage1"]])
def test_taps_must_be_names(taps: Any) -> None:
    with pytest.raises(ValueError, match="taps must be one or more names, each once, got"):
        features_of(networks.resnet(), taps=taps)


def test_arguments() -> None:
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        graph.choose_taps(networks.resnet(), 0)
    with pytest.raises(ValueError, match="layout must be 'nchw' or 'nhwc', got 'hwc'"):
        graph.taps(networks.resnet(), layout="hwc")
    with pytest.raises(ValueError, match="preprocess"):
        graph.add_features(networks.resnet(), preprocess="nonsense")


LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


@pytest.mark.parametrize("name", ["bvlc_alexnet", "densenet121", "inception_v1", "shufflenet", "squeezenet"])
def test_famous_networks_of_opset_9(name: str) -> None:
    """Those that the package onnx brings along: real graphs whose weights are all alike."""
    path = LIGHT / f"light_{name}.onnx"
    if not path.exists():
        pytest.skip(f"this version of the package onnx has no {path.name}")
    chosen = graph.choose_taps(path)
    areas = [int(np.prod(tap.positions)) for tap in chosen]
    assert len(chosen) == 4
    assert areas == sorted(areas, reverse=True)
    assert len(set(areas)) == 4
    features = graph.add_features(path, [tap.name for tap in chosen[:2]])
    assert dim_of(features) == sum(tap.channels for tap in chosen[:2])

"""A network that normalises its input itself is found where images are normalised for it too, or not enough."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("PIL")
from odd_networks import Net
from PIL import Image
from tiny_networks import pictures

from pyhash.encoder import Encoder, build
from pyhash.networks import add_features

MEAN = np.array([0.485, 0.456, 0.406], np.float32).reshape(3, 1, 1)
STD = np.array([0.229, 0.224, 0.225], np.float32).reshape(3, 1, 1)

FRONTS: dict[str, tuple[Callable[[Net, str], str], str]] = {  # what a network does first, and what it wants for it
    "bytes": (
        lambda n, x: n.op("Div", n.op("Sub", x, n.const(np.float32(120))), n.const(np.float32(58))),
        "raw",
    ),
    "bytes by 255": (lambda n, x: n.op("Mul", x, n.const(np.float32(1 / 255))), "raw"),
    "bytes as Keras": (
        lambda n, x: n.op("Add", n.op("Mul", x, n.const(np.float32(1 / 127.5))), n.const(np.float32(-1))),
        "raw",
    ),
    "bytes by channel": (
        lambda n, x: n.op("Div", n.op("Sub", n.op("Div", x, n.const(np.float32(255))), n.const(MEAN)), n.const(STD)),
        "raw",
    ),
    "turned round": (
        lambda n, x: n.op("Div", n.op("Sub", n.const(np.float32(128)), x), n.const(np.float32(64))),
        "raw",
    ),
    "less the mean": (lambda n, x: n.op("Sub", x, n.const(255 * MEAN)), "raw"),
    "unit": (lambda n, x: n.op("Div", n.op("Sub", x, n.const(MEAN)), n.const(STD)), "unit"),
    "unit to 1": (
        lambda n, x: n.op("Sub", n.op("Mul", x, n.const(np.float32(2))), n.const(np.float32(1))),
        "unit",
    ),
    "by an unsqueezed constant": (
        lambda n, x: n.op("Mul", x, n.op("Unsqueeze", n.const(np.full(3, 1 / 255, np.float32)), n.const([1, 2]))),
        "raw",
    ),
}


def network(front: Callable[[Net, str], str]) -> bytes:
    net = Net()
    net.op("Gemm", net.body(front(net, "x")), net.he(24, 24), net.he(24), out="logits")
    return net.model()


def told(model: bytes, preprocess: Any) -> str | None:
    """What is said of a preparation, by an encoder and by `add_features` alike."""
    said = []
    for use in (
        lambda: Encoder(model, preprocess=preprocess).encode(pictures(1)[0]),
        lambda: add_features(model, preprocess=preprocess),
    ):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            use()
        found = [str(warning.message) for warning in caught if "normalises its input itself" in str(warning.message)]
        said.append(found[0].removeprefix("encoder 'model': ") if found else None)
    assert said[0] == said[1]
    return said[0]


@pytest.mark.parametrize("kind", FRONTS)
@pytest.mark.parametrize("preprocess", ["imagenet", "tf", "unit", "raw", "keras-caffe"])
def test_a_preparation_that_does_not_go_with_a_network_is_told_with_the_one_that_does(
    kind: str, preprocess: str
) -> None:
    front, wanted = FRONTS[kind]
    said = told(network(front), preprocess)
    goes_too = preprocess == "keras-caffe" and kind in ("bytes by 255", "by an unsqueezed constant")  # -0.5 to 0.6
    if preprocess == wanted or goes_too:
        assert said is None
    else:
        assert said is not None
        assert f"say that (--preprocess {wanted})" in said


@pytest.mark.parametrize(
    "front",
    [
        lambda n, x: x,
        # torchvision's Inception makes of ImageNet's normalisation another one
        lambda n, x: n.op("Add", n.op("Mul", x, n.const(np.float32(0.458))), n.const(np.float32(-0.03))),
        lambda n, x: n.op("Sub", x, n.op("ReduceMean", x, axes=[2, 3], keepdims=1)),
        lambda n, x: n.op("Mul", x, x),
    ],
    ids=["none", "inception", "own mean", "square"],
)
@pytest.mark.parametrize("preprocess", ["imagenet", "tf", "unit"])
def test_nothing_is_said_of_others(front: Callable[[Net, str], str], preprocess: str) -> None:
    assert told(network(front), preprocess) is None


def test_build_says_it_with_the_default_too(tmp_path: Path) -> None:
    for number, pixels in enumerate(pictures(6)):
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    with pytest.warns(RuntimeWarning, match=r"up to the node 'Div_1'.*say that \(--preprocess raw\)"):
        build(network(FRONTS["bytes"][0]), tmp_path, None, 8, tmp_path / "e.onnx", head="lsh")

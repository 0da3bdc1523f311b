"""One preparation: loading, NumPy and the nodes of a graph agree."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("PIL")
from onnx import TensorProto, helper
from PIL import Image
from tiny_networks import pictures

from pyhash.images import CROPS, MAX_PIXELS, load
from pyhash.networks import PRESETS, Preparation
from pyhash.networks.nodes import DTYPES, Emitter
from pyhash.networks.session import Session

NUMBERS = st.floats(0.125, 300)
THREE = st.tuples(NUMBERS, NUMBERS, NUMBERS)


def emitted(preparation: Preparation, element: int, pixels: np.ndarray) -> np.ndarray:
    """Run a network that is nothing but the preparation."""
    opsets = [helper.make_opsetid("", 17)]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [], "prepared", [value("images", TensorProto.UINT8, ["n", 6, 8, 3])], [value("input", element, None)]
    )
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    emitter = Emitter(model)
    preparation.emit(emitter, "images", "input", element)
    model.graph.node.extend(emitter.nodes)
    found: np.ndarray = Session(model.SerializeToString()).run(None, {"images": pixels})[0]
    return found


@settings(max_examples=30)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "preset": st.sampled_from(sorted(PRESETS)),
            "scale": NUMBERS,
            "mean": NUMBERS | THREE,
            "std": NUMBERS | THREE,
            "channel_order": st.sampled_from(["rgb", "bgr"]),
        },
    ),
    st.sampled_from(["nchw", "nhwc"]),
    st.sampled_from([TensorProto.FLOAT, TensorProto.DOUBLE]),
)
def test_nodes_do_what_numpy_does(preprocess: dict[str, Any], layout: Any, element: int) -> None:
    preparation = Preparation.parse(preprocess).fitted((6, 8), layout)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 6, 8, 3), np.uint8)
    expected = preparation.apply(pixels, DTYPES[element])
    assert expected.shape == ((2, 3, 6, 8) if layout == "nchw" else (2, 6, 8, 3))
    found = emitted(preparation, element, pixels)
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("order", ["rgb", "bgr"])
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_a_network_that_takes_bytes_gets_them(layout: Any, order: str) -> None:
    preparation = Preparation.parse({"preset": "raw", "channel_order": order}).fitted((6, 8), layout)
    assert preparation.plain
    pixels = np.random.default_rng(0).integers(0, 256, (2, 6, 8, 3), np.uint8)
    found = emitted(preparation, TensorProto.UINT8, pixels)
    np.testing.assert_array_equal(found, preparation.apply(pixels, np.uint8))
    by_hand = pixels[..., ::-1] if order == "bgr" else pixels
    np.testing.assert_array_equal(found, by_hand.transpose(0, 3, 1, 2) if layout == "nchw" else by_hand)


def test_loading_is_that_of_load() -> None:
    (picture,) = pictures(1, side=30)
    preparation = Preparation.parse({"size": (6, 8), "crop": "center", "resize": "lanczos"})
    np.testing.assert_array_equal(
        preparation.load(picture), load(picture, size=(6, 8), crop="center", resize="lanczos")
    )
    with pytest.raises(ValueError, match="size must be given: the network leaves it open"):
        Preparation.parse("unit").load(picture)


def test_imagenet_is_that_of_torchvision() -> None:
    (picture,) = pictures(1, side=300)
    preparation = Preparation.parse("imagenet").fitted((224, 224), "nchw")
    picture = picture[:, :230]
    half = Image.fromarray(picture).resize((256, 333), Image.Resampling.BILINEAR)  # Resize(256): int(256 * 300 / 230)
    pixels = np.asarray(half)[54:278, 16:240]  # CenterCrop(224): round((333 - 224) / 2)
    np.testing.assert_array_equal(preparation.load(picture), pixels)
    by_hand = (pixels / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(preparation.apply(pixels[None], np.float32)[0], by_hand.transpose(2, 0, 1), atol=1e-5)


@given(
    st.fixed_dictionaries(
        {"preset": st.sampled_from(sorted(PRESETS)), "size": st.sampled_from([8, (6, 8)])},
        optional={
            "crop": st.sampled_from(CROPS),
            "crop_fraction": st.none() | st.floats(0.1, 1),
            "fill": st.integers(0, 255),
            "mean": THREE,
            "channel_order": st.sampled_from(["rgb", "bgr"]),
            "layout": st.sampled_from(["nchw", "nhwc"]),
        },
    )
)
def test_the_settings_of_a_preparation_make_it_again_whatever_its_preset_becomes(preprocess: dict[str, Any]) -> None:
    preparation = Preparation.parse(preprocess)
    assert "imagenet" not in preparation.settings().values()
    assert Preparation.parse(json.loads(json.dumps(preparation.settings()))) == preparation


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_by_its_name_is_the_dict_that_names_it(preset: str) -> None:
    parsed = Preparation.parse(preset)
    assert parsed == Preparation.parse({"preset": preset}) == Preparation.parse(PRESETS[preset] | {"preset": "unit"})
    assert Preparation.parse(parsed) is parsed
    assert (parsed.size, parsed.layout) == (None, None)
    assert parsed.max_pixels == MAX_PIXELS


def test_the_identity_has_what_changes_a_code_and_how_the_decoder_is_set_has_a_place_of_its_own() -> None:
    identity = Preparation.parse("tf").fitted((6, 8), "nhwc").identity()
    assert identity == {
        "size": (6, 8),
        "resize": "bilinear",
        "crop": "squash",
        "scale": 1 / 255,
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
        "channel_order": "rgb",
        "layout": "nhwc",
    }

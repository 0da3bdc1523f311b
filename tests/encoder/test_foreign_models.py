"""Models from elsewhere: how they want their images, which outputs they have, and what does not fit says why."""

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("PIL")
from onnx import TensorProto, helper
from tiny_networks import COLOUR, DOUBLE, FLOAT, FLOAT16, METADATA, UINT8, build, pictures, plain

from pyhash.encoder import PRESETS, Encoder
from pyhash.errors import EncoderError
from pyhash.images import decode as images
from pyhash.images import load
from pyhash.networks import onnxruntime

MEANS = {
    "imagenet": [(10 / 255 - 0.485) / 0.229, (100 / 255 - 0.456) / 0.224, (200 / 255 - 0.406) / 0.225],
    "unit": [10 / 255, 100 / 255, 200 / 255],
    "keras-caffe": [200 - 103.939, 100 - 116.779, 10 - 123.68],
    "tf": [10 / 127.5 - 1, 100 / 127.5 - 1, 200 / 127.5 - 1],
    "raw": [10, 100, 200],
}


def test_every_preset_is_tested():
    assert MEANS.keys() == PRESETS.keys()


@pytest.mark.parametrize("shape", [("n", 3, 8, 8), ("n", 8, 8, 3), (1, 3, 8, 8)], ids=str)
@pytest.mark.parametrize("dtype", [FLOAT16, FLOAT, DOUBLE], ids=["float16", "float32", "float64"])
@pytest.mark.parametrize("preset", PRESETS)
def test_presets(preset, dtype, shape):
    subject = Encoder(plain(shape, dtype, outputs=("means",)), preprocess=preset)
    tolerance = 2e-3 if dtype == FLOAT16 else 1e-5
    np.testing.assert_allclose(subject.logits(COLOUR), MEANS[preset], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("preprocess", "expected"),
    [
        ({"mean": 0.5}, [10 / 255 - 0.5, 100 / 255 - 0.5, 200 / 255 - 0.5]),
        ({"mean": (1, 2, 3), "std": (2, 4, 8), "scale": 1}, [4.5, 24.5, 24.625]),
        ({"mean": (1, 2, 3), "std": (2, 4, 8), "scale": 1, "channel_order": "bgr"}, [99.5, 24.5, 0.875]),
        ({"preset": "keras-caffe", "channel_order": "rgb"}, [10 - 103.939, 100 - 116.779, 200 - 123.68]),
        ({"scale": 2.0, "layout": "nchw"}, [20, 200, 400]),
    ],
    ids=str,
)
def test_preprocess_of_ones_own(preprocess, expected):
    subject = Encoder(plain(outputs=("means",)), preprocess=preprocess)
    np.testing.assert_allclose(subject.logits(COLOUR), expected, rtol=1e-5)


def test_crop_and_resize_are_those_of_load():
    picture = pictures(1, side=30)[0][:, :20]
    preprocess = {"preset": "raw", "crop": "center", "resize": "lanczos"}
    logits = Encoder(plain(outputs=("means",)), preprocess=preprocess).logits(picture)
    expected = images.load(picture, size=8, crop="center", resize="lanczos").mean((0, 1))
    np.testing.assert_allclose(logits, expected, rtol=1e-5)


def test_open_and_oblong_sizes():
    model = plain(("n", 3, "h", "w"), outputs=("means",))
    with pytest.raises(EncoderError, match=r"leaves the size open.*'size': 224"):
        Encoder(model, preprocess="imagenet")
    assert Encoder(model, preprocess={"preset": "raw", "size": 12}).size == 12
    assert Encoder(model, preprocess={"preset": "raw", "size": (6, 12)}).size == (6, 12)
    oblong = Encoder(plain(("n", 3, 6, 12), outputs=("means",)), preprocess="raw")
    assert oblong.size == (6, 12)
    expected = images.load(pictures(1)[0], size=(6, 12)).mean((0, 1))
    np.testing.assert_allclose(oblong.logits(pictures(1)[0]), expected, rtol=1e-5)


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_a_layout_that_the_shape_does_not_show(layout):
    model = plain(("n", "a", "b", "c"), outputs=("means",), nchw=layout == "nchw")
    with pytest.raises(EncoderError, match=r"'images' float \(n, a, b, c\).*layout"):
        Encoder(model, preprocess={"preset": "raw", "size": 8})
    subject = Encoder(model, preprocess={"preset": "raw", "size": 8, "layout": layout})
    np.testing.assert_allclose(subject.logits(COLOUR), [10, 100, 200], rtol=1e-5)


def test_the_output_can_be_chosen():
    model = plain(outputs=("map", "means", "logits"))
    assert Encoder(model, preprocess="raw").bits == 24
    assert Encoder(model, preprocess="raw", output="means").bits == 3


@pytest.mark.parametrize(
    ("outputs", "chosen"),
    [
        (("last_hidden_state", "pooler_output", "image_embeds"), "image_embeds"),
        (("last_hidden_state", "pooler_output"), "pooler_output"),
        (("logits", "pooler_output"), "pooler_output"),
        (("map", "logits", "last_hidden_state"), "logits"),
        (("map", "last_hidden_state"), "last_hidden_state"),
        (("last_hidden_state",), "last_hidden_state"),
    ],
    ids=str,
)
def test_the_output_that_stands_for_the_image_is_chosen(outputs, chosen):
    model = plain(outputs=outputs)
    subject, named = Encoder(model, preprocess="tf"), Encoder(model, preprocess="tf", output=chosen)
    assert subject.fingerprint == named.fingerprint
    assert subject.bits == (24 if chosen == "logits" else 6)


def test_tokens_are_read_by_their_first_one_or_by_their_mean_where_all_are_parts_of_the_image():
    images = pictures(3)
    first = Encoder(plain(outputs=("last_hidden_state",)), preprocess="tf").logits(images)
    expected = Encoder(plain(outputs=("pooler_output",)), preprocess="tf").logits(images)
    np.testing.assert_array_equal(first, expected)  # what the network pools is what it puts first
    mean = Encoder(plain(outputs=("last_hidden_state",), with_cls=False), preprocess="tf").logits(images)
    session = onnxruntime().InferenceSession(plain(outputs=("map",)), providers=["CPUExecutionProvider"])
    values = np.stack([load(image, size=8) for image in images]).transpose(0, 3, 1, 2) / 127.5 - 1
    (maps,) = session.run(None, {"images": values.astype(np.float32)})
    np.testing.assert_allclose(mean, maps.mean((2, 3)), atol=1e-5)


def test_axes_that_exporters_name_need_no_layout():
    model = plain(("batch_size", "num_channels", "height", "width"), outputs=("means",), nchw=True)
    subject = Encoder(model, preprocess={"preset": "raw", "size": 8})
    np.testing.assert_allclose(subject.logits(COLOUR), [10, 100, 200], rtol=1e-5)


def test_a_model_without_metadata_needs_preprocess():
    with pytest.raises(
        EncoderError, match=r"one of imagenet, unit, keras-caffe, tf, raw, a JSON file .*, or a dict of size, resize"
    ):
        Encoder(plain())


@pytest.mark.parametrize(
    ("preprocess", "message"),
    [
        ("caffe", "preprocess must be one of imagenet, .* got 'caffe'"),
        ({"means": 1}, "no keys but preset, size, .* got 'means'"),
        ({"mean": (1, 2)}, r"preprocess mean must be a number or three, got \(1, 2\)"),
        ({"std": 0}, "preprocess std must be a number or three, not 0, got 0"),
        ({"std": "x"}, "preprocess std must be a number or three, not 0, got 'x'"),
        ({"scale": (1, 2, 3)}, r"preprocess scale must be a number, not 0, got \(1, 2, 3\)"),
        ({"channel_order": "gbr"}, "preprocess channel_order must be rgb or bgr, got 'gbr'"),
        ({"layout": "chw"}, "preprocess layout must be nchw or nhwc, got 'chw'"),
        ({"size": 0}, "size must be .* got 0"),
        ({"size": 9}, r"expected images of size 9 as the preparation says, found 'images' float \(n, 3, 8, 8\)"),
        ({"resize": "cubic"}, "resize must be one of .* got 'cubic'"),
        ({"crop": "middle"}, "crop must be one of squash, center, letterbox, got 'middle'"),
        ({"layout": "nhwc"}, "expected 3 channels as nhwc, found 8"),
    ],
    ids=str,
)
def test_wrong_preprocess(preprocess, message):
    with pytest.raises(ValueError, match=message):
        Encoder(plain(), preprocess=preprocess)


def test_a_uint8_input_takes_no_normalised_values():
    with pytest.raises(EncoderError, match=r"takes uint8 pixels, .* use preprocess='raw'"):
        Encoder(plain(dtype=UINT8), preprocess="imagenet")
    assert Encoder(plain(dtype=UINT8), preprocess="raw").bits == 24


@pytest.mark.parametrize(
    ("shape", "dtype", "found"),
    [
        (("n", 1, 8, 8), FLOAT, r"3 channels.*'images' float \(n, 1, 8, 8\)"),
        (("n", 192), FLOAT, r"'images' float \(n, 192\)"),
        (("n", 3, 8, 8), TensorProto.INT64, r"'images' int64 \(n, 3, 8, 8\)"),
    ],
)
def test_inputs_that_do_not_fit(shape, dtype, found):
    value = helper.make_tensor_value_info("images", dtype, shape)
    nodes = [
        helper.make_node("Flatten", ["images"], ["flat"]),
        helper.make_node("Cast", ["flat"], ["logits"], to=FLOAT),
    ]
    graph = helper.make_graph(nodes, "g", [value], [helper.make_tensor_value_info("logits", FLOAT, ("n", 8))])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    with pytest.raises(EncoderError, match="expected .*" + found):
        Encoder(model.SerializeToString(), preprocess="raw")


def test_two_inputs_do_not_fit():
    values = [helper.make_tensor_value_info(name, FLOAT, ("n", 3, 8, 8)) for name in "ab"]
    nodes = [helper.make_node("Add", ["a", "b"], ["c"]), helper.make_node("Flatten", ["c"], ["logits"])]
    graph = helper.make_graph(nodes, "g", values, [helper.make_tensor_value_info("logits", FLOAT, ("n", 192))])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    with pytest.raises(EncoderError, match=r"expected one input .*; found 'a' float \(n, 3, 8, 8\), 'b' float"):
        Encoder(model.SerializeToString(), preprocess="raw")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pyhash.schema": "3"}, "has pyhash.schema 3, and this version of pyhash reads up to 2: upgrade pyhash"),
        ({"pyhash.schema": "3", "pyhash.levels": "?"}, "upgrade pyhash"),
        ({"pyhash.schema": "one"}, "expected metadata pyhash.schema to be a number from 1 to 2, found 'one'"),
        ({"pyhash.schema": None}, "its metadata lacks pyhash.schema"),
        ({"pyhash.size": None, "pyhash.crop": None}, "its metadata lacks pyhash.size, pyhash.crop"),
        ({"pyhash.levels": "{"}, "its metadata cannot be read"),
        ({"pyhash.levels": "[8, 16]"}, "levels must be a mapping"),
        ({"pyhash.levels": '{"all": 32}'}, "levels must have 24 bits together, as the output has, got 32"),
        ({"pyhash.size": "big"}, "its metadata cannot be read"),
        ({"pyhash.size": "9"}, "expected images of size 9"),
        ({"pyhash.resize": "cubic"}, "resize must be one of"),
        ({"pyhash.crop": "middle"}, "crop must be one of"),
    ],
    ids=str,
)
def test_wrong_metadata(changes, message):
    metadata = {key: value for key, value in (METADATA | changes).items() if value is not None}
    with pytest.raises(EncoderError, match=message):
        Encoder(build(metadata=metadata))


def test_metadata_is_not_overruled():
    for name, given in (("preprocess", "raw"), ("levels", {"code": 24})):
        with pytest.raises(EncoderError, match=f"this encoder stores its own .*: {name} must be None"):
            Encoder(build(), **{name: given})


def test_what_is_no_model(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such model: .*none\.onnx"):
        Encoder(tmp_path / "none.onnx")
    with pytest.raises(EncoderError, match="'model': not an ONNX model"):
        Encoder(b"no model")
    path = tmp_path / "cut.onnx"
    path.write_bytes(build()[:200])
    with pytest.raises(EncoderError, match="'cut': not an ONNX model"):
        Encoder(path)
    with pytest.raises(TypeError, match="model must be a path, bytes or None, got int"):
        Encoder(3)


@pytest.mark.parametrize(
    ("outputs", "output", "message"),
    [
        (("means", "map"), None, r"output must name one of several: 'means' float \(n, 3, 1, 1\), 'map' float"),
        (("logits",), "embedding", r"expected an output 'embedding', found 'logits' float \(n, 24\)"),
        (
            ("logits", "map"),
            "map",
            r"expected an output of floats, \(n, bits\), found 'map' float \(n, 6, 8, 8\); .*'logits'",
        ),
        (("class",), None, r"expected an output of floats, \(n, bits\), found 'class' int64 \(n, 1\)"),
    ],
)
def test_outputs_that_do_not_fit(outputs, output, message):
    with pytest.raises(EncoderError, match=message):
        Encoder(plain(outputs=outputs), preprocess="raw", output=output)


def test_bits_that_are_not_declared_are_counted():
    assert Encoder(plain(declared=("n", "bits")), preprocess="raw").bits == 24


def test_levels_of_ones_own():
    assert dict(Encoder(plain(), preprocess="raw").levels) == {"code": 24}
    subject = Encoder(plain(), preprocess="raw", levels={"a": 8, "b": 16})
    assert dict(subject.levels) == {"a": 8, "b": 16}
    with pytest.raises(EncoderError, match="levels must have 24 bits together, as the output has, got 16"):
        Encoder(plain(), preprocess="raw", levels={"a": 16})
    with pytest.raises(EncoderError, match="multiple of 8"):
        Encoder(plain(), preprocess="raw", levels={"a": 12, "b": 12})


@pytest.mark.parametrize("with_cls", [True, False])
def test_an_adapted_encoder_reads_the_same_token(with_cls):
    subject = Encoder(plain(outputs=("last_hidden_state",), with_cls=with_cls), preprocess="tf")
    images = pictures(12)
    adapted = subject.adapt(images, levels=8)
    np.testing.assert_allclose(
        adapted.embed(images, normalize=False), subject.embed(images, normalize=False), atol=1e-5
    )

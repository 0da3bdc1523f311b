"""The encoder: what goes in, what comes out, which models fit, and that neither company nor threads change a code."""

import copy
import gc
import glob
import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("PIL")
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import pyhash
from pyhash.encoder import PRESETS, Encoder, encoder
from pyhash.errors import EncoderError, ImageError
from pyhash.images import decode as images
from pyhash.networks import Metadata, Model

METADATA = {
    "pyhash.schema": "1",
    "pyhash.levels": '{"coarse": 8, "fine": 16}',
    "pyhash.size": "8",
    "pyhash.resize": "bilinear",
    "pyhash.crop": "squash",
    "pyhash.name": "tiny",
    "pyhash.training": "none",
}
UINT8, FLOAT16, FLOAT, DOUBLE = TensorProto.UINT8, TensorProto.FLOAT16, TensorProto.FLOAT, TensorProto.DOUBLE


def build(
    shape=("n", 8, 8, 3),
    dtype=UINT8,
    metadata=METADATA,
    bits=24,
    declared=None,
    nan=False,
    nchw=None,
    outputs=("logits",),
    scale=1.0,
):
    """A network of one convolution; another output, ``means``, is the mean of each channel of its input."""
    rng = np.random.default_rng(0)
    if nchw is None:
        nchw = len(shape) == 4 and shape[1] == 3
    weights = {
        "w": scale * rng.normal(size=(6, 3, 3, 3)) / 100,
        "v": rng.normal(size=(6, bits)),
        "b": rng.normal(size=bits) / 4,
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["values"], to=FLOAT),
        helper.make_node(
            "Identity" if nchw else "Transpose", ["values"], ["x"], **({} if nchw else {"perm": [0, 3, 1, 2]})
        ),
        helper.make_node("GlobalAveragePool", ["x"], ["means"]),
        helper.make_node("Conv", ["x", "w"], ["map"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["map"], ["active"]),
        helper.make_node("GlobalAveragePool", ["active"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "v", "b"], ["sums"]),
        helper.make_node("Log" if nan else "Identity", ["sums"], ["logits"]),
        helper.make_node("ArgMax", ["sums"], ["class"], axis=1),
    ]
    declarations = {
        "logits": (FLOAT, declared or ("n", bits)),
        "means": (FLOAT, ("n", 3, 1, 1)),
        "map": (FLOAT, ("n", 6, "h", "w")),
        "class": (TensorProto.INT64, ("n", 1)),
    }
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", dtype, shape)],
        [helper.make_tensor_value_info(name, *declarations[name]) for name in outputs],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    for key, value in (metadata or {}).items():
        model.metadata_props.add(key=key, value=value)
    return model.SerializeToString()


def plain(shape=("n", 3, 8, 8), dtype=FLOAT, **options):
    """A model without metadata."""
    return build(shape, dtype, None, **options)


def pictures(n, side=20, seed=0):
    return list(np.random.default_rng(seed).integers(0, 256, (n, side, side, 3), np.uint8))


@pytest.fixture(scope="module")
def tiny():
    return Encoder(build(), threads=3)


@pytest.fixture(scope="module")
def default():
    return Encoder()


@pytest.fixture
def files(tmp_path):
    """Five picture files, of which the second and the fourth cannot be read."""
    paths = [tmp_path / f"{at}.png" for at in range(5)]
    for path, picture in zip(paths, pictures(5), strict=True):
        Image.fromarray(picture).save(path)
    paths[1].write_bytes(b"")
    paths[3].unlink()
    return paths


# The built-in model


def test_the_built_in_model(default):
    assert dict(default.levels) == {"coarse": 64, "fine": 192}
    assert (default.bits, default.size) == (256, 224)
    assert default.name == default.metadata.name
    assert default.metadata.training
    assert default.fingerprint in repr(default)
    codes = default.encode(pictures(3))
    assert (codes.shape, codes.dtype) == ((3, 32), np.uint8)
    assert default.encode(pictures(1)[0]).shape == (32,)


def assert_company_does_not_matter(subject, sources):
    alone = np.stack([subject.encode(source) for source in sources])
    assert len(np.unique(alone, axis=0)) > len(alone) // 2, "these pictures have too few codes to show a difference"
    for batch_size in (1, 3, 16, 40):
        together = [encoded.code for encoded in subject.stream(sources, batch_size=batch_size)]
        np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(subject.encode(sources), alone)


def test_random_pictures_have_the_same_code_alone_and_together(default):
    rng = np.random.default_rng(0)
    small = [Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8)) for _ in range(60)]
    assert_company_does_not_matter(default, [picture.resize((90, 70), Image.Resampling.BICUBIC) for picture in small])


def test_photographs_have_the_same_code_alone_and_together(default):
    folder = os.environ.get("PYHASH_DATA", "")
    paths = sorted(glob.glob(os.path.join(glob.escape(folder), "clothing", "validation", "*", "*.jpg")))
    if not folder or not paths:
        pytest.skip("PYHASH_DATA names no folder with the clothing pictures")
    assert_company_does_not_matter(default, paths[:: max(1, len(paths) // 80)])


# What goes in


MEANS = {
    "imagenet": [(10 / 255 - 0.485) / 0.229, (100 / 255 - 0.456) / 0.224, (200 / 255 - 0.406) / 0.225],
    "unit": [10 / 255, 100 / 255, 200 / 255],
    "keras-caffe": [200 - 103.939, 100 - 116.779, 10 - 123.68],
    "tf": [10 / 127.5 - 1, 100 / 127.5 - 1, 200 / 127.5 - 1],
    "raw": [10, 100, 200],
}
COLOUR = np.full((9, 7, 3), (10, 100, 200), np.uint8)


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


@pytest.mark.parametrize("n_fixed", [1, 4])
def test_a_fixed_batch(n_fixed):
    free = Encoder(plain(), preprocess="unit")
    fixed = Encoder(plain((n_fixed, 3, 8, 8), declared=(n_fixed, 24)), preprocess="unit")
    for n in (1, 3, 4, 9):
        np.testing.assert_array_equal(fixed.encode(pictures(n)), free.encode(pictures(n)))


def test_only_a_few_batch_sizes_are_run(monkeypatch):
    subject = Encoder(build(), threads=2)
    sizes = set()
    run_batch = Model._run_batch

    def spy(self, session, batch, names):
        sizes.add(len(batch))
        return run_batch(self, session, batch, names)

    monkeypatch.setattr(Model, "_run_batch", spy)
    for n in range(1, 70, 3):
        assert len(subject.encode(pictures(n))) == n
    assert sizes == {1, 4, 16}


# What comes out


def test_bits_are_the_signs_of_the_logits(tiny):
    logits = tiny.logits(pictures(50))
    assert (logits.shape, logits.dtype) == ((50, 24), np.float32)
    assert (logits > 0).any()
    assert (logits < 0).any()
    np.testing.assert_array_equal(tiny.encode(pictures(50)), np.packbits(logits > 0, axis=1))


def test_zero_is_no_bit():
    assert Encoder(plain(outputs=("means",)), preprocess="raw").encode(np.zeros((8, 8, 3), np.uint8)).tolist() == [0]


def test_shapes(tiny):
    many = np.stack(pictures(5))
    np.testing.assert_array_equal(tiny.encode(many), tiny.encode(pictures(5)))
    np.testing.assert_array_equal(tiny.encode(iter(pictures(5))), tiny.encode(tuple(pictures(5))))
    assert tiny.encode(many[0]).shape == (3,)
    assert tiny.encode([many[0]]).shape == (1, 3)
    assert tiny.logits(many[0]).shape == (24,)
    assert tiny.encode([]).shape == (0, 3)
    assert tiny.logits([]).shape == (0, 24)
    assert tiny.encode([]).dtype == np.uint8


@pytest.mark.parametrize("source", [3, None, 2.5])
def test_what_is_no_picture(tiny, source):
    with pytest.raises(TypeError, match="images must be an image or an iterable of images, got"):
        tiny.encode(source)
    with pytest.raises(TypeError, match="an image must be a path, bytes, a PIL image or a uint8 array, got"):
        tiny.encode([source])


def test_the_output_can_be_chosen():
    model = plain(outputs=("map", "means", "logits"))
    assert Encoder(model, preprocess="raw").bits == 24
    assert Encoder(model, preprocess="raw", output="means").bits == 3


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


def test_an_output_that_is_not_a_number_is_an_error():
    with pytest.raises(EncoderError, match="output must be numbers, got NaN"):
        Encoder(plain(nan=True), preprocess="unit").encode(COLOUR)


def test_levels_of_ones_own():
    assert dict(Encoder(plain(), preprocess="raw").levels) == {"code": 24}
    subject = Encoder(plain(), preprocess="raw", levels={"a": 8, "b": 16})
    assert dict(subject.levels) == {"a": 8, "b": 16}
    with pytest.raises(EncoderError, match="levels must have 24 bits together, as the output has, got 16"):
        Encoder(plain(), preprocess="raw", levels={"a": 16})
    with pytest.raises(EncoderError, match="multiple of 8"):
        Encoder(plain(), preprocess="raw", levels={"a": 12, "b": 12})


# Models that do not fit


def test_a_model_without_metadata_needs_preprocess():
    with pytest.raises(EncoderError, match="one of imagenet, unit, keras-caffe, tf, raw, or a dict of size, resize"):
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
        ({"crop": "middle"}, "crop must be one of squash, center, got 'middle'"),
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
        ({"pyhash.schema": "2"}, "has pyhash.schema 2, and this version of pyhash reads up to 1: upgrade pyhash"),
        ({"pyhash.schema": "2", "pyhash.levels": "?"}, "upgrade pyhash"),
        ({"pyhash.schema": "one"}, "expected metadata pyhash.schema to be a number from 1 to 1, found 'one'"),
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
    ("arguments", "error"),
    [({"threads": 0}, ValueError), ({"threads": "2"}, TypeError), ({"max_pixels": 0}, ValueError)],
    ids=str,
)
def test_wrong_arguments(arguments, error):
    with pytest.raises(error, match=next(iter(arguments))):
        Encoder(build(), **arguments)


@pytest.mark.parametrize("missing", ["onnxruntime", "PIL.Image"])
def test_a_missing_package_says_what_to_install(monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError, match=r"pip install 'pyhash-retrieval\[encoder\]'"):
        Encoder(build())


# Pictures that cannot be read


def test_the_first_bad_picture_is_raised(tiny, files):
    with pytest.raises(ImageError) as caught:
        tiny.encode(files)
    assert (caught.value.path, caught.value.index) == (str(files[1]), 1)


def test_bad_pictures_can_be_left_out(tiny, files):
    errors = []
    codes = tiny.encode(files, on_error=errors.append)
    assert [(error.index, error.path) for error in errors] == [(1, str(files[1])), (3, str(files[3]))]
    assert [error.reason for error in errors] == ["empty, 0 bytes long", "no such file"]
    np.testing.assert_array_equal(codes, [tiny.encode(files[at]) for at in (0, 2, 4)])
    assert tiny.logits(files, on_error=errors.append).shape == (3, 24)


def test_a_bad_picture_alone(tiny):
    errors = []
    assert tiny.encode(b"", on_error=errors.append).shape == (0, 3)
    assert [error.index for error in errors] == [None]
    assert tiny.encode([b"", b""], on_error=errors.append).shape == (0, 3)
    with pytest.raises(ValueError, match="on_error must be 'raise' or a function, got 'ignore'"):
        tiny.encode(b"", on_error="ignore")


def test_max_pixels(files):
    small = Encoder(build(), max_pixels=399)
    with pytest.raises(ImageError, match="20 x 20 pixels, over the limit of 399 pixels"):
        small.encode(files[0])


# Embeddings


@pytest.fixture(scope="module")
def embedding():
    """An encoder whose embedding is the mean of each channel."""
    model = onnx.load_model_from_string(plain(outputs=("logits", "means")))
    model.graph.node.append(helper.make_node("Identity", ["means"], ["embedding"]))
    del model.graph.output[1]
    model.graph.output.append(helper.make_tensor_value_info("embedding", FLOAT, ("n", 3, 1, 1)))
    return Encoder(model.SerializeToString(), preprocess="raw", threads=2)


def test_embeddings_have_length_1_unless_they_are_wanted_as_projected(embedding):
    expected = np.stack([images.load(picture, size=8).mean((0, 1)) for picture in pictures(9)])
    projected = embedding.embed(pictures(9), normalize=False)
    assert (projected.shape, projected.dtype) == ((9, 3), np.float32)
    np.testing.assert_allclose(projected, expected, rtol=1e-5)
    unit = embedding.embed(pictures(9))
    assert unit.dtype == np.float32
    np.testing.assert_allclose(unit, expected / np.linalg.norm(expected, axis=1, keepdims=True), rtol=1e-5)
    np.testing.assert_array_equal(embedding.embed(pictures(9)[0]), unit[0])
    assert embedding.embed([]).shape == (0, 3)
    assert np.array_equal(embedding.embed(np.zeros((5, 5, 3), np.uint8)), [0, 0, 0])


def test_streams_can_give_embeddings_too(embedding, files):
    streamed = list(embedding.stream(files, embeddings=True, batch_size=2))
    assert [encoded.error is None for encoded in streamed] == [encoded.code is not None for encoded in streamed]
    good = [encoded for encoded in streamed if encoded.error is None]
    assert len(good) == 3
    sources = [encoded.source for encoded in good]
    np.testing.assert_array_equal([encoded.code for encoded in good], embedding.encode(sources))
    np.testing.assert_array_equal([encoded.embedding for encoded in good], embedding.embed(sources, normalize=False))


def test_an_encoder_that_gives_codes_alone(tiny, files):
    message = "encoder 'tiny': gives codes alone, it has no output 'embedding'; its outputs are logits"
    with pytest.raises(EncoderError, match=message):
        tiny.embed(files[0])
    with pytest.raises(EncoderError, match=message):
        tiny.stream(files, embeddings=True)


def test_the_built_in_model_has_embeddings_that_its_code_is_made_of(default):
    vectors = default.embed(pictures(4))
    assert (vectors.shape, vectors.dtype) == ((4, 384), np.float32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    (encoded,) = default.stream(pictures(1), level="coarse", embeddings=True)
    np.testing.assert_allclose(encoded.embedding, default.embed(pictures(1)[0], normalize=False), atol=1e-5)
    np.testing.assert_array_equal(encoded.code, default.encode(pictures(1)[0], level="coarse"))
    assert not encoded.code[8:].any()


# Streams


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("batch_size", [None, 1, 2])
def test_stream_gives_codes_and_errors_in_order(files, threads, batch_size):
    subject = Encoder(build(), threads=threads)
    sources = files * 9
    results = list(subject.stream(iter(sources), batch_size=batch_size))
    assert [encoded.source for encoded in results] == sources
    good = {at: subject.encode(files[at]) for at in (0, 2, 4)}
    for at, encoded in enumerate(results):
        assert encoded.embedding is None
        if at % 5 in good:
            assert encoded.error is None
            np.testing.assert_array_equal(encoded.code, good[at % 5])
        else:
            assert encoded.code is None
            assert encoded.error.path == str(encoded.source)


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_stream_takes_sources_only_a_little_ahead(threads):
    subject = Encoder(build(), threads=threads)
    before = set(threading.enumerate())  # a stream that another test forgot may be there still
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield COLOUR

    stream = subject.stream(endless(), batch_size=3)
    for given in range(1, 50):
        next(stream)
        assert taken <= given + 3 * (2 * threads + 2)
    stream.close()
    assert not [t for t in set(threading.enumerate()) - before if t.name.startswith("pyhash-encode")]


def test_a_forgotten_stream_leaves_no_threads(tiny):
    stream = tiny.stream(COLOUR for _ in range(1000))
    next(stream)
    del stream
    gc.collect()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("pyhash-encode")]


def test_what_a_source_raises_comes_through(tiny):
    def broken():
        yield COLOUR
        raise KeyError("no more")

    with pytest.raises(KeyError, match="no more"):
        list(tiny.stream(broken()))


def test_wrong_batch_size(tiny):
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        tiny.stream([], batch_size=0)


# Threads, processes


def test_threads_do_not_change_codes():
    model = plain(("n", 3, 128, 128))  # so large that a picture alone is run on several threads
    sources = pictures(21, side=40)
    expected = Encoder(model, preprocess="unit", threads=1).encode(sources)
    for threads in (2, 5):
        subject = Encoder(model, preprocess="unit", threads=threads)
        np.testing.assert_array_equal(subject.encode(sources), expected)
        np.testing.assert_array_equal([subject.encode(source) for source in sources], expected)


def test_many_threads_can_encode_at_once(tiny):
    sources = pictures(40)
    expected = tiny.encode(sources)
    with ThreadPoolExecutor(8) as pool:
        alone = list(pool.map(tiny.encode, sources * 4))
        together = list(pool.map(lambda _: tiny.encode(sources), range(8)))
    np.testing.assert_array_equal(alone, np.tile(expected, (4, 1)))
    for codes in together:
        np.testing.assert_array_equal(codes, expected)


@pytest.mark.parametrize("kind", ["built-in", "path", "bytes"])
def test_pickle_and_copy(tmp_path, kind):
    path = tmp_path / "model.onnx"
    path.write_bytes(plain())
    subject = {
        "built-in": lambda: Encoder(threads=2),
        "path": lambda: Encoder(path, preprocess={"preset": "tf", "crop": "center"}, fast_jpeg=True),
        "bytes": lambda: Encoder(plain(), preprocess="unit", levels={"a": 8, "b": 16}),
    }[kind]()
    for other in (pickle.loads(pickle.dumps(subject)), copy.copy(subject), copy.deepcopy(subject)):
        assert (other.fingerprint, other.levels, other.threads) == (
            subject.fingerprint,
            subject.levels,
            subject.threads,
        )
        np.testing.assert_array_equal(other.encode(pictures(3)), subject.encode(pictures(3)))


FORK = """
import os, signal, sys
import numpy as np
from pyhash.encoder import Encoder

subject = Encoder(sys.argv[1], preprocess="unit", threads=2)
pictures = list(np.random.default_rng(0).integers(0, 256, (9, 30, 30, 3), np.uint8))
before = [subject.encode(pictures), subject.encode(pictures[0])]
for use in (True, False):
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        if use:
            after = [subject.encode(pictures), subject.encode(pictures[0])]
            if not all(np.array_equal(a, b) for a, b in zip(before, after)):
                os._exit(3)
        sys.exit(0)
    status = os.waitpid(child, 0)[1]
    print(use, status)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_encodes_alike_and_exits(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(plain(("n", 3, 128, 128)))
    command = [sys.executable, "-W", "ignore", "-c", FORK, os.fspath(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.split() == ["True", "0", "False", "0"], done.stderr


@pytest.mark.parametrize("setting", [None, "0"])
def test_telemetry_is_off_unless_the_user_decides(setting):
    code = "import os; from pyhash.encoder import Encoder; Encoder(); print(os.environ['ORT_DISABLE_TELEMETRY'])"
    environment = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    if setting is not None:
        environment["ORT_DISABLE_TELEMETRY"] = setting
        code = code.replace(
            "Encoder();",
            "from pyhash.networks import session; session.require = lambda *_: None; session.onnxruntime();",
        )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.strip() == (setting or "1")


# Fingerprint


def test_the_fingerprint_stands_for_everything_that_makes_a_code(tmp_path, monkeypatch):
    model = plain(outputs=("logits", "means"))
    variants = [
        Encoder(model, preprocess="unit"),
        Encoder(plain(outputs=("logits", "means"), scale=1.01), preprocess="unit"),
        Encoder(model, preprocess="unit", output="means"),
        Encoder(model, preprocess="tf"),
        Encoder(model, preprocess={"preset": "unit", "crop": "center"}),
        Encoder(model, preprocess={"preset": "unit", "resize": "lanczos"}),
        Encoder(model, preprocess={"preset": "unit", "channel_order": "bgr"}),
        Encoder(model, preprocess="unit", fast_jpeg=True),
    ]
    fingerprints = [variant.fingerprint for variant in variants]
    assert len(set(fingerprints)) == len(fingerprints)
    assert all(len(text) == 32 and set(text) <= set("0123456789abcdef") for text in fingerprints)
    monkeypatch.setattr(encoder, "decoder_identity", lambda: "another")
    assert Encoder(model, preprocess="unit").fingerprint != fingerprints[0]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"preprocess": "unit"}, "c8a01a2bfbb0587a023aa695312ecab8"),
        ({"preprocess": "tf"}, "bd49b365343c22cf1e34a913c6452971"),
        ({"preprocess": "imagenet", "output": "means"}, "c4963d7f22b6c2d2348d884824bf65de"),
        (
            {"preprocess": {"preset": "keras-caffe", "resize": "lanczos"}, "fast_jpeg": True},
            "5fe972f171d0edb5afb96a9bab1c8c1c",
        ),
        ({"preprocess": {"mean": (1, 2, 3), "std": 2}}, "2e8678f00ee3564adb71002903557847"),
    ],
    ids=str,
)
def test_fingerprints_are_those_of_galleries_there_are(monkeypatch, arguments, expected):
    """What version 0.1.0 wrote into galleries. The model's bytes depend on the package onnx, so they count as fixed."""
    monkeypatch.setattr(encoder, "decoder_identity", lambda: "fixed")
    subject = Encoder(plain(outputs=("logits", "means")), **arguments)
    subject._model.digest = "62539a39"
    assert subject.fingerprint == expected


def test_the_fingerprint_stands_for_nothing_else(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(plain())
    expected = Encoder(path, preprocess="unit", threads=1).fingerprint
    assert Encoder(path.read_bytes(), preprocess="unit", threads=2).fingerprint == expected
    assert Encoder(path, preprocess={"scale": 1 / 255, "size": 8, "layout": "nchw"}).fingerprint == expected
    assert Encoder(path, preprocess="unit", levels={"a": 8, "b": 16}).fingerprint == expected
    assert Encoder(path, preprocess="unit", output="logits").fingerprint == expected


def test_weights_outside_the_model_count(tmp_path):
    path = tmp_path / "model.onnx"
    model = onnx.load_model_from_string(plain())
    onnx.save_model(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    before = Encoder(path, preprocess="unit")
    np.testing.assert_array_equal(before.encode(pictures(3)), Encoder(plain(), preprocess="unit").encode(pictures(3)))
    weights = bytearray((tmp_path / "weights.bin").read_bytes())
    weights[3] ^= 1
    (tmp_path / "weights.bin").write_bytes(weights)
    assert Encoder(path, preprocess="unit").fingerprint != before.fingerprint


def test_fast_jpeg_reaches_the_decoder(tmp_path):
    y, x = np.mgrid[0:480, 0:640]
    picture = Image.fromarray(np.uint8(np.stack([np.sin(x / 9), np.cos(y / 7), np.sin((x + y) / 5)], -1) * 100 + 128))
    picture.save(tmp_path / "large.jpg")
    exact, fast = (
        Encoder(plain(outputs=("means",)), preprocess="raw", fast_jpeg=value).logits(tmp_path / "large.jpg")
        for value in (False, True)
    )
    assert 0 < np.abs(exact - fast).max() < 3


def test_names():
    assert Encoder(build()).name == "tiny"
    assert Encoder(build()).metadata.levels == Encoder(build()).levels
    assert Encoder(plain(), preprocess="raw").name == "model"
    assert Encoder(plain(), preprocess="raw").metadata == Metadata()
    assert pyhash.Encoder is Encoder

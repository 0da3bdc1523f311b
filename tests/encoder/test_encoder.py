"""The encoder: what goes in, what comes out, and which images cannot be read."""

import copy
import glob
import os
import pickle
import sys

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("PIL")
import onnx
from onnx import helper
from PIL import Image
from tiny_networks import COLOUR, FLOAT, build, pictures, plain

import pyhash
from pyhash.encoder import Encoder
from pyhash.errors import EncoderError, ImageError
from pyhash.images import decode as images
from pyhash.networks import Metadata, preparation


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
    for batch_size in (3, 16):
        together = [encoded.code for encoded in subject.stream(sources, batch_size=batch_size)]
        np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(subject.encode(sources), alone)


def test_random_pictures_have_the_same_code_alone_and_together(default):
    rng = np.random.default_rng(0)
    small = [Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8)) for _ in range(22)]
    assert_company_does_not_matter(default, [picture.resize((90, 70), Image.Resampling.BICUBIC) for picture in small])


def test_photographs_have_the_same_code_alone_and_together(default):
    folder = os.environ.get("PYHASH_DATA", "")
    paths = sorted(glob.glob(os.path.join(glob.escape(folder), "clothing", "validation", "*", "*.jpg")))
    if not folder or not paths:
        pytest.skip("PYHASH_DATA names no folder with the clothing pictures")
    assert_company_does_not_matter(default, paths[:: max(1, len(paths) // 80)])


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


def test_an_output_that_is_not_a_number_is_an_error():
    with pytest.raises(ImageError, match="<array>: the network gives NaN or infinity for this image"):
        Encoder(plain(nan=True), preprocess="unit").encode(COLOUR)


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


def test_streams_can_give_looks_and_thumbnails_of_the_same_decoding(tiny, files, monkeypatch):
    plainly = list(tiny.stream(files))
    assert {(encoded.look, encoded.thumbnail) for encoded in plainly} == {(None, None)}
    counted = []
    monkeypatch.setattr(
        preparation, "opened", lambda *args, **kwargs: counted.append(args) or images.opened(*args, **kwargs)
    )
    streamed = list(tiny.stream(files, looks=True))
    assert len(counted) == len(files)
    for encoded, before in zip(streamed, plainly, strict=True):
        assert (encoded.error is None) == (before.error is None)
        if encoded.error is not None:
            assert encoded.look is encoded.thumbnail is None
            continue
        np.testing.assert_array_equal(encoded.code, before.code)
        with images.opened(encoded.source) as image:
            np.testing.assert_array_equal(encoded.look.blocks, image.look().blocks)
            assert encoded.thumbnail == image.thumbnail()


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

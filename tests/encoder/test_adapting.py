"""Encoders with another head: fitted on a collection, saved, opened again, and what they are made of."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("PIL")
import onnx
from tiny_networks import build, pictures, plain

from pyhash import heads
from pyhash.encoder import Encoder
from pyhash.errors import EncoderError, ForeignFileError

DIM = 6


def ours(bits: int = 24, **changed: str) -> bytes:
    """An encoder of pyhash's making whose embedding is the mean of each channel and its square."""
    model = onnx.load_model_from_string(build(bits=bits))
    helper = onnx.helper
    del model.graph.node[3:]
    del model.graph.initializer[:]
    model.graph.node.extend(
        [
            helper.make_node("Flatten", ["means"], ["flat"]),
            helper.make_node("Mul", ["flat", "flat"], ["square"]),
            helper.make_node("Concat", ["flat", "square"], ["embedding"], axis=1),
            helper.make_node("Gemm", ["embedding", "head"], ["logits"]),
        ]
    )
    weight = np.random.default_rng(0).normal(size=(DIM, bits)).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "head"))
    del model.graph.output[:]
    for name, width in (("logits", bits), ("embedding", DIM)):
        model.graph.output.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ("n", width)))
    for key, value in changed.items():
        model.metadata_props.add(key=f"pyhash.{key}", value=value)
    return model.SerializeToString()


@pytest.fixture(scope="module")
def base() -> Encoder:
    return Encoder(ours(), threads=2, fast_jpeg=True)


@pytest.fixture(scope="module")
def images() -> np.ndarray[Any, Any]:
    return np.stack(pictures(60))


def test_an_adapted_encoder_gives_the_codes_of_its_head(base: Encoder, images: Any) -> None:
    rows = base.embed(images, normalize=False)
    adapted = base.adapt(images)
    assert adapted.levels == base.levels
    assert adapted.threads == 2
    np.testing.assert_array_equal(adapted.embed(images, normalize=False), rows)
    np.testing.assert_array_equal(adapted.encode(images), base.adapt(rows).encode(images))
    assert adapted.metadata.made_of == {"coarse": "neighbourhood", "fine": "own"}
    assert adapted.metadata.training == "head fitted on 60 images of a collection, without labels; before: none"
    head = heads.adapt(rows, base.levels)
    fine = base.levels.byte_range("fine")
    np.testing.assert_array_equal(adapted.encode(images)[:, fine], head.codes(rows)[:, fine])
    np.testing.assert_array_equal(base.with_head(head).encode(images), head.codes(rows))
    for level in base.levels:
        part = np.zeros_like(adapted.encode(images))
        part[:, base.levels.byte_range(level)] = adapted.encode(images)[:, base.levels.byte_range(level)]
        np.testing.assert_array_equal(adapted.encode(images, level=level), part)
    streamed = list(adapted.stream(list(images), embeddings=True))
    np.testing.assert_array_equal([encoded.code for encoded in streamed], adapted.encode(images))
    np.testing.assert_array_equal([encoded.embedding for encoded in streamed], rows)


def test_networks_are_shared_and_heads_are_not(base: Encoder, images: Any) -> None:
    adapted, again, other = (base.adapt(images, seed=seed) for seed in (0, 0, 1))
    assert adapted.fingerprints == again.fingerprints
    assert adapted.fingerprint == again.fingerprint
    assert adapted.fingerprints.network == base.fingerprints.network == other.fingerprints.network
    assert adapted.fingerprints.decoder == base.fingerprints.decoder
    assert len({base.fingerprints.head, adapted.fingerprints.head, other.fingerprints.head}) == 3
    twice = adapted.adapt(images)
    np.testing.assert_array_equal(twice.encode(images), adapted.encode(images))


def test_labels_and_other_levels(base: Encoder, images: Any) -> None:
    labels = np.arange(60) % 2
    shown = images.copy()
    shown[labels == 1, ..., 0] //= 3  # less red
    adapted = base.adapt(shown, labels, {"kind": 8, "look": 16}, seed=3)
    assert list(adapted.levels) == ["kind", "look"]
    assert adapted.metadata.made_of == {"kind": "labels", "look": "labels"}
    assert "with labels" in adapted.metadata.training
    codes = np.unpackbits(adapted.encode(shown, level="kind")[:, :1], axis=1)
    assert codes[labels == 1].mean(axis=0).round().tolist() != codes[labels == 0].mean(axis=0).round().tolist()
    mixed = base.adapt(shown, {"look": labels}, {"kind": 8, "look": 16})
    assert mixed.metadata.made_of == {"kind": "neighbourhood", "look": "labels"}
    single = base.adapt(shown, levels=40, head="lsh")
    assert (single.bits, single.metadata.made_of) == (40, {"code": "own"})
    few = base.adapt(shown[:5])
    assert few.metadata.made_of == {"coarse": "own", "fine": "own"}


def test_a_saved_encoder_is_the_same(base: Encoder, images: Any, tmp_path: Path) -> None:
    adapted = base.adapt(images)
    path = tmp_path / "mine.onnx"
    adapted.save(path)
    opened = Encoder(path, fast_jpeg=True)
    np.testing.assert_array_equal(opened.encode(images), adapted.encode(images))
    assert (opened.fingerprint, opened.fingerprints) == (adapted.fingerprint, adapted.fingerprints)
    assert (opened.levels, opened.name, opened.metadata) == (adapted.levels, adapted.name, adapted.metadata)
    opened.save(tmp_path / "copy.onnx")
    assert (tmp_path / "copy.onnx").read_bytes() == path.read_bytes()
    base.save(path)  # what pyhash wrote is replaced
    np.testing.assert_array_equal(Encoder(path).encode(images), base.encode(images))
    (tmp_path / "theirs.onnx").write_bytes(plain())
    with pytest.raises(ForeignFileError, match="a file that pyhash did not write is there"):
        adapted.save(tmp_path / "theirs.onnx")
    adapted.save(tmp_path / "theirs.onnx", overwrite=True)
    assert Encoder(tmp_path / "theirs.onnx").fingerprints.head == adapted.fingerprints.head
    again = pickle.loads(pickle.dumps(adapted))
    np.testing.assert_array_equal(again.encode(images), adapted.encode(images))


def test_any_network_can_be_adapted(images: Any, tmp_path: Path) -> None:
    """The preparation moves into the file: means and deviations, channel order and layout."""
    preprocess = {"preset": "keras-caffe", "size": 8, "crop": "center", "resize": "bicubic"}
    theirs = Encoder(plain(outputs=("logits", "means")), preprocess=preprocess)
    rows = theirs.embed(images, normalize=False)
    np.testing.assert_array_equal(rows, theirs.logits(images))
    (streamed,) = theirs.stream(images[:1], embeddings=True)
    np.testing.assert_array_equal(streamed.embedding, rows[0])
    with pytest.raises(EncoderError, match="was not made by pyhash, so there is nothing to save: adapt it"):
        theirs.save(tmp_path / "theirs.onnx")
    adapted = theirs.adapt(images)
    assert adapted.levels == {"coarse": 64, "fine": 192}
    np.testing.assert_allclose(adapted.embed(images, normalize=False), rows, rtol=1e-4, atol=1e-4)
    head = heads.adapt(rows)
    own = np.unpackbits(theirs.with_head(head).encode(images), axis=1) == np.unpackbits(head.codes(rows), axis=1)
    assert own.mean() > 0.999
    adapted.save(tmp_path / "mine.onnx")
    np.testing.assert_array_equal(Encoder(tmp_path / "mine.onnx").encode(images), adapted.encode(images))
    pooled = Encoder(plain(outputs=("means",)), preprocess="raw")  # its output is a map of one pixel
    again = pooled.adapt(images, levels=16)
    np.testing.assert_allclose(again.embed(images, normalize=False), pooled.logits(images), rtol=1e-4)


@pytest.mark.parametrize("with_cls", [True, False])
def test_of_tokens_the_embedding_is_the_vector_that_was_read(with_cls: bool, images: Any) -> None:
    theirs = Encoder(plain(outputs=("last_hidden_state",), with_cls=with_cls), preprocess="tf")
    adapted = theirs.adapt(images, levels=16)
    found, expected = (encoder.embed(images, normalize=False) for encoder in (adapted, theirs))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


def test_few_images_are_filled_up_with_what_the_file_says_of_images_in_general(images: Any) -> None:
    spread = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    known = Encoder(ours(spread=str(spread)))
    assert known.spread is not None
    np.testing.assert_array_equal(known.spread, spread)
    assert known.adapt(images).metadata.spread == tuple(spread)
    rows = known.embed(images[:3], normalize=False)
    head = heads.adapt(rows, known.levels, general=np.array(spread))
    np.testing.assert_array_equal(known.adapt(images[:3]).encode(images), known.with_head(head).encode(images))
    assert Encoder(ours()).spread is None


def test_what_does_not_fit(base: Encoder, images: Any, tmp_path: Path) -> None:
    codes_alone = Encoder(build())
    with pytest.raises(EncoderError, match="gives codes alone, it has no output 'embedding'"):
        codes_alone.adapt(images)
    with pytest.raises(ValueError, match=r"images must be several, or their embeddings \(n, 6\), got shape \(60, 5\)"):
        base.adapt(np.ones((60, 5)))
    with pytest.raises(ValueError, match=r"images must be several, or their embeddings \(n, 6\), got shape \(6,\)"):
        base.adapt(images[0])
    with pytest.raises(ValueError, match="head must be one of 6 numbers, got 5"):
        base.with_head(heads.adapt(np.random.default_rng(0).normal(size=(20, 5)), 8))
    model = onnx.load_model_from_string(ours())
    path = tmp_path / "outside.onnx"
    onnx.save_model(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    with pytest.raises(EncoderError, match="cannot load the network"):
        Encoder(path).save(tmp_path / "copy.onnx")
    assert not (tmp_path / "copy.onnx").exists()

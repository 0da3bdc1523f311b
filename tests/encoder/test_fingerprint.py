"""The fingerprint stands for everything that makes a code, and for nothing else."""

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("PIL")
import onnx
from tiny_networks import pictures, plain

from pyhash.encoder import Encoder, encoder


def test_the_fingerprint_stands_for_everything_that_makes_a_code(tmp_path, monkeypatch):
    model = plain(outputs=("logits", "means"))
    variants = [
        Encoder(model, preprocess="unit"),
        Encoder(plain(outputs=("logits", "means"), scale=1.01), preprocess="unit"),
        Encoder(model, preprocess="unit", output="means"),
        Encoder(model, preprocess="tf"),
        Encoder(model, preprocess={"preset": "unit", "crop": "center"}),
        Encoder(model, preprocess={"preset": "unit", "crop": "center", "crop_fraction": 1}),
        Encoder(model, preprocess={"preset": "unit", "crop": "center", "crop_fraction": 0.875}),
        Encoder(model, preprocess={"preset": "unit", "crop": "letterbox"}),
        Encoder(model, preprocess={"preset": "unit", "crop": "letterbox", "fill": 114}),
        Encoder(model, preprocess={"preset": "unit", "resize": "lanczos"}),
        Encoder(model, preprocess={"preset": "unit", "channel_order": "bgr"}),
        Encoder(model, preprocess="unit", fast_jpeg=False),
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
        (
            {"preprocess": {"preset": "imagenet", "crop_fraction": None}, "output": "means"},
            "c4963d7f22b6c2d2348d884824bf65de",
        ),
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
    subject = Encoder(plain(outputs=("logits", "means")), **{"fast_jpeg": False} | arguments)
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


def with_head(bits=24, seed=0, **network):
    """An encoder whose embedding is the mean of each channel, twice, and whose head is random."""
    model = onnx.load_model_from_string(plain(outputs=("means",), **network))
    del model.graph.node[3:]
    del model.graph.output[:]
    helper, rng = onnx.helper, np.random.default_rng(seed)
    model.graph.node.extend(
        [
            helper.make_node("Flatten", ["means"], ["flat"]),
            helper.make_node("Concat", ["flat", "flat"], ["embedding"], axis=1),
            helper.make_node("Gemm", ["embedding", "head"], ["logits"]),
        ]
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(rng.normal(size=(6, bits)).astype(np.float32), "head"))
    for name, width in (("logits", bits), ("embedding", 6)):
        model.graph.output.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ("n", width)))
    return model


def test_fingerprints_tell_network_head_and_decoder_apart(monkeypatch):
    model = with_head()
    subject = Encoder(model.SerializeToString(), preprocess="raw").fingerprints
    assert all(len(text) == 32 and set(text) <= set("0123456789abcdef") for text in subject)
    other_head = Encoder(with_head(seed=1).SerializeToString(), preprocess="raw").fingerprints
    assert (other_head.network, other_head.decoder) == (subject.network, subject.decoder)
    assert other_head.head != subject.head
    model.graph.node[2].op_type = "GlobalMaxPool"
    other_network = Encoder(model.SerializeToString(), preprocess="raw").fingerprints
    assert other_network.network != subject.network
    assert other_network.head == subject.head
    other_preparation = Encoder(with_head().SerializeToString(), preprocess="tf").fingerprints
    assert other_preparation.network != subject.network
    exact = Encoder(with_head().SerializeToString(), preprocess="raw", fast_jpeg=False).fingerprints
    monkeypatch.setattr(encoder, "decoder_identity", lambda: "another")
    elsewhere = Encoder(with_head().SerializeToString(), preprocess="raw").fingerprints
    assert len({subject.decoder, exact.decoder, elsewhere.decoder}) == 3
    assert subject[:2] == exact[:2] == elsewhere[:2]


def test_an_encoder_that_gives_codes_alone_is_all_network():
    subject = Encoder(plain(), preprocess="raw").fingerprints
    assert subject.head == ""
    assert Encoder(plain(scale=1.01), preprocess="raw").fingerprints.network != subject.network


def test_what_is_no_embedding_of_a_network_does_not_count():
    """Other outputs, notes, and the order of the nodes, which may be any."""
    model = with_head()
    subject = Encoder(model.SerializeToString(), preprocess="raw").fingerprints
    model.doc_string = model.graph.name = "another"
    model.graph.node[1].name, model.graph.node[1].doc_string = "named", "noted"
    model.graph.node.append(onnx.helper.make_node("Neg", ["means"], ["negative"]))
    assert Encoder(model.SerializeToString(), preprocess="raw").fingerprints == subject

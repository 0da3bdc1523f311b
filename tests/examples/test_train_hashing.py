"""The training example, on a network so small that it learns in seconds."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the example trains with PyTorch, which is not installed")
pytest.importorskip("onnxscript", reason="PyTorch exports with onnxscript, which is not installed")
pytest.importorskip("onnxruntime")
pytest.importorskip("PIL")
import torch
from labelled_pictures import draw

import pyhash

EXAMPLE = Path(__file__).parents[2] / "examples" / "train_hashing.py"
LEVELS = {"coarse": 8, "fine": 16}


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("train_hashing", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def tiny(side):
        def conv(before, after):
            return [torch.nn.Conv2d(before, after, 3, 2, 1, bias=False), torch.nn.BatchNorm2d(after), torch.nn.ReLU()]

        pool = [torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()]
        return torch.nn.Sequential(*conv(3, 16), *conv(16, 32), *pool), 32

    module.backbone = tiny
    return module


@pytest.fixture(scope="module")
def trained(example, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    images, out = draw(folder / "images"), folder / "tiny.onnx"
    options = ["--levels", "coarse=8,fine=16", "--plan", "8x24,4x32", "--batch", "16", "--rate", "3e-3"]
    example.main([str(images), "-o", str(out), *options])
    return images, out


def test_a_network_is_taught_each_level_and_the_library_takes_what_it_exports(trained):
    images, out = trained
    encoder = pyhash.Encoder(out)
    assert dict(encoder.levels) == LEVELS
    assert encoder.size == 32
    assert "84 images of images" in encoder.metadata.training
    files = sorted(map(str, images.rglob("*.png")))
    embeddings = encoder.embed(files, normalize=False)
    assert embeddings.shape == (84, 32)
    np.testing.assert_array_equal(encoder.encode(files), pyhash.pack(encoder.logits(files)))
    report = pyhash.evaluate_folder(images, encoder=encoder).report
    assert report.value("mAP", "coarse", "coarse") > 0.9  # two groups: chance is one half
    assert report.value("mAP", "fine", "fine") > 0.6  # six classes: chance is one sixth


def test_a_level_of_few_classes_repeats_its_bits_and_one_of_many_does_not(example):
    labels = {"coarse": ["a", "b", "b"] * 4, "fine": [f"class {number}" for number in range(12)]}
    bits, n_classes = example.bit_targets(labels, pyhash.Levels(LEVELS), seed=0)
    assert bits.shape == (12, 24)
    assert n_classes == 14
    coarse, fine = bits[:, :8], bits[:, 8:]
    assert (coarse == coarse[:, :1]).all()
    assert (coarse[0] != coarse[1]).all()
    assert (coarse[1] == coarse[2]).all()
    assert len(np.unique(fine, axis=0)) == 12


def test_each_level_counts_as_much_whatever_its_bits(example):
    weights = example.bit_weights(pyhash.Levels(LEVELS)).numpy()
    np.testing.assert_allclose([weights[:8].sum(), weights[8:].sum()], 0.5, rtol=1e-6)


def test_a_level_without_labels_is_refused_by_name(example):
    with pytest.raises(SystemExit, match="level 'coarse' must have labels"):
        example.bit_targets({"fine": ["a", "b"]}, pyhash.Levels(LEVELS), seed=0)


def test_images_keep_their_place_when_nothing_is_drawn_by_lot(example, monkeypatch):
    """Zoom 1, no shift, no flip: the images come back as they were, so the training sees what the encoder will."""
    monkeypatch.setattr(torch.Tensor, "uniform_", lambda self, low, high: self.fill_(1 if low > 0 else 0))
    monkeypatch.setattr(torch, "randint", lambda low, high, size: torch.zeros(size, dtype=torch.int64))
    pixels = torch.arange(2 * 8 * 8 * 3).reshape(2, 8, 8, 3) % 251
    images = example.prepared(pixels.to(torch.uint8))
    torch.testing.assert_close(example.augmented(images, 8), images)


def test_an_encoder_that_computes_something_else_is_noticed(example, trained):
    images, out = trained
    other = example.Hasher(*example.backbone(32), 24).eval()
    files = sorted(map(str, images.rglob("*.png")))[:8]
    pixels = example.load_all(files, example.Preparation.parse({"preset": "tf", "size": 32, "resize": "bicubic"}))
    assert example.compare(other, pixels, files, out) > 0

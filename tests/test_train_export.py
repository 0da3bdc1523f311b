"""The training and measuring examples, end to end on tiny sets; the exported file's contract; the model that ships."""

from __future__ import annotations

import importlib
import itertools
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from pyhash import Levels

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
SHIPPED = ROOT / "pyhash" / "models" / "default.onnx"
LEVELS = Levels({"coarse": 16, "fine": 48})
KEYS = {"schema", "name", "levels", "size", "resize", "crop", "taps", "training"}


def open_session(file: Path) -> Any:
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def check_contract(file: Path, levels: dict[str, int], max_bytes: int = 5_000_000) -> None:
    """Assert that ``file`` is an encoder as DESIGN.md describes it."""
    session = open_session(file)
    metadata = session.get_modelmeta().custom_metadata_map
    assert {f"pyhash.{key}" for key in KEYS} <= set(metadata)
    assert metadata["pyhash.schema"] == "1"
    assert list(json.loads(metadata["pyhash.levels"]).items()) == list(levels.items())
    assert metadata["pyhash.resize"] in {"nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"}
    assert metadata["pyhash.crop"] in {"squash", "center"}
    assert json.loads(metadata["pyhash.taps"])
    size = int(metadata["pyhash.size"])
    (images,), (logits,) = session.get_inputs(), session.get_outputs()
    assert (images.name, images.type, logits.name, logits.type) == (
        "images",
        "tensor(uint8)",
        "logits",
        "tensor(float)",
    )
    assert isinstance(images.shape[0], str)
    assert images.shape[1:] == [size, size, 3]
    rng = np.random.default_rng(0)
    for n in (1, 3, 8):
        batch = rng.integers(0, 256, (n, size, size, 3), np.uint8)
        (values,) = session.run(["logits"], {"images": batch})
        assert values.shape == (n, sum(levels.values()))
        assert values.dtype == np.float32
        assert np.isfinite(values).all()
        (alone,) = session.run(["logits"], {"images": batch[-1:]})
        np.testing.assert_allclose(alone[0], values[-1], atol=1e-3)
    assert file.stat().st_size <= max_bytes


def test_the_shipped_model_keeps_the_contract() -> None:
    check_contract(SHIPPED, {"coarse": 16, "fine": 48})


def test_the_shipped_model_spends_its_bits() -> None:
    """Plain colours, ramps and noise of many kinds must not all get one code."""
    rng = np.random.default_rng(1)
    ramp = np.linspace(0, 1, 64)[None, :, None, None]
    colours = rng.integers(0, 256, (2, 64, 1, 1, 3))
    pictures = (colours[0] * ramp + colours[1] * (1 - ramp)).astype(np.uint8).repeat(64, axis=2)
    (logits,) = open_session(SHIPPED).run(["logits"], {"images": pictures})
    assert len(np.unique(np.packbits(logits > 0, axis=1), axis=0)) >= 16


def test_the_shipped_model_has_a_card_with_its_figures() -> None:
    card = (SHIPPED.parent / "MODEL_CARD.md").read_text()
    table = card.split("<!-- table -->")[1].split("<!-- end of table -->")[0]
    assert f"| pyhash-default | | | | | file, MB | {SHIPPED.stat().st_size / 1e6:.2f} |" in table
    assert "tiny-imagenet val" in table
    assert "clothing validation" in table


def load_example(monkeypatch: pytest.MonkeyPatch, name: str, needs: tuple[str, ...]) -> ModuleType:
    for module in needs:
        pytest.importorskip(module)
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module(name)


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return load_example(monkeypatch, "train_hash_model", ("torch", "onnx", "onnxscript", "onnxruntime", "PIL"))


@pytest.fixture
def measuring(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return load_example(monkeypatch, "measure_hash_model", ("onnx", "onnxruntime", "PIL"))


def test_targets_are_far_apart_and_no_bit_is_constant(training: ModuleType) -> None:
    for classes, bits, least in ((16, 16, 8), (11, 16, 8), (60, 64, 32), (220, 48, 14)):
        words = training.hash_targets(classes, bits, seed=3).numpy()
        distances = (bits - words @ words.T) / 2
        assert distances[~np.eye(classes, dtype=bool)].min() >= least
        assert (np.abs(words) == 1).all()
        assert (np.abs(words.mean(0)) < 1).all()


def test_targets_of_one_group_are_nearer_than_those_of_others(training: ModuleType) -> None:
    groups = np.repeat(np.arange(40), 5)
    words = training.nested_targets(groups, 48, seed=3).numpy()
    distances = (48 - words @ words.T) / 2
    same = groups[:, None] == groups
    others = ~np.eye(len(groups), dtype=bool)
    assert distances[others].min() >= 10
    assert distances[same & others].max() <= 16
    assert distances[~same].mean() > 22
    assert (np.abs(words.mean(0)) < 1).all()


def test_steps_are_equally_long_in_every_direction(training: ModuleType) -> None:
    import torch

    generator = torch.Generator().manual_seed(0)
    for shape in ((16, 144), (144, 16), (32, 32)):
        matrix = torch.randn(shape, generator=generator) @ torch.diag(torch.logspace(0, -1, shape[1]))
        values = torch.linalg.svdvals(training.orthogonal(matrix, steps=5))
        assert 0.5 < values.min() < values.max() < 1.3
    weight = torch.nn.Parameter(torch.randn(8, 4, 3, 3, generator=generator))
    weight.grad = torch.randn(8, 4, 3, 3, generator=generator)
    before = weight.detach() * 8**0.5 / weight.detach().norm()
    training.Muon([weight], lr=0.1).step()
    moved = (weight.detach() - before).flatten(1)
    assert (moved * weight.grad.flatten(1)).sum() < 0  # downhill
    assert 0.05 < torch.linalg.svdvals(moved).max() < 0.13


def test_pictures_are_shifted_and_mirrored_in_every_other_epoch(training: ModuleType) -> None:
    import torch

    pictures = torch.arange(6 * 32 * 32 * 3).view(6, 32, 32, 3)
    rows = torch.tensor([4, 1])
    for epoch, mirrored in ((0, (True, False)), (1, (False, True))):
        found = training.augment(pictures, rows, epoch, torch.Generator().manual_seed(epoch))
        assert found.shape == (2, 32, 32, 3)
        for picture, row, flip in zip(found, rows, mirrored, strict=True):
            original = pictures[row].flip(1) if flip else pictures[row]
            padded = torch.nn.functional.pad(original.permute(2, 0, 1).float(), (2, 2, 2, 2), mode="reflect")
            windows = padded.unfold(1, 32, 1).unfold(2, 32, 1).permute(1, 2, 3, 4, 0)
            assert (windows == picture.float()).all((2, 3, 4)).any()


def test_a_sure_picture_gets_the_code_of_its_class_and_an_unsure_one_that_of_its_layout(
    training: ModuleType, tmp_path: Path
) -> None:
    import torch

    draw_sets(tmp_path / "data")
    plan = training.Plan.of(["tiny-imagenet"], 64)
    splits = plan.split(tmp_path / "data", 0, tmp_path / "cache")
    levels = {name: training.Level(plan, name, splits, 0) for name in plan.levels}
    net = training.HashNet(plan, 4).eval()
    images = torch.from_numpy(splits[0].images)
    training.set_layout(net, images)
    head = training.make_head(net, plan, levels, levels["fine"], images, 0)
    sure = np.zeros((4, head.dim), np.float32)
    sure[:, training.FUSED + training.LAYOUT :] = np.eye(4)
    groups = np.array([0, 0, 1, 1])  # mammal, vehicle, by the order of the classes n1 to n4
    expected = np.hstack([levels["coarse"].targets.numpy()[groups], levels["fine"].targets.numpy()])
    assert (np.sign(head.logits(sure)) == expected).all()
    with torch.no_grad():
        unsure = net(training.normalise(images)).numpy()
    unsure[:, training.FUSED + training.LAYOUT :] = 0
    assert len(np.unique(head.encode(unsure), axis=0)) > len(unsure) / 2


def test_smoothed_answers_favour_the_class_then_its_group(training: ModuleType) -> None:
    soft = training.soft_labels(np.array([0, 0, 1, 1, 1]), smoothing=0.1).numpy()
    np.testing.assert_allclose(soft.sum(1), 1, rtol=1e-6)
    np.testing.assert_allclose(soft[0], [0.935, 0.035, 0.01, 0.01, 0.01], rtol=1e-5)


def test_kernels_in_bytes_are_within_half_a_step(training: ModuleType) -> None:
    weights = np.random.default_rng(0).standard_normal((5, 3, 3, 3)).astype(np.float32)
    weights[2] = 0
    whole, step = training.to_bytes(weights)
    assert whole.dtype == np.int8
    assert (np.abs(weights - whole * step) <= step / 2 * 1.0001).all()
    again, _ = training.to_bytes(whole * step)
    assert (again == whole).all()


def draw_sets(data: Path) -> None:
    """Write tiny sets of the three layouts: a class is a colour."""
    from PIL import Image

    rng = np.random.default_rng(0)
    tree = {"n1": ("dog", "mammal"), "n2": ("cat", "mammal"), "n3": ("vessel", "vehicle"), "n4": ("car", "vehicle")}
    sets = {
        "tiny-imagenet": (("train", 9), ("val", 6), tree),
        "cifar10": (("train", 9), ("test", 6), ("cat", "dog", "ship", "truck")),
        "clothing": (("train", 4), ("validation", 2), ("dress", "hat", "pants", "shoes")),
    }
    for name, (*splits, classes) in sets.items():
        for (split, n), (number, kind) in itertools.product(splits, enumerate(classes)):
            folder = data / name / split / kind
            folder.mkdir(parents=True)
            for i in range(n):
                pixels = rng.integers(60 * number, 60 * number + 40, (40 + i, 50, 3), np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    rows = [f"{wnid},{wnid}-name,{mid},{coarse}" for wnid, (mid, coarse) in tree.items()]
    (data / "tiny-imagenet" / "classes.csv").write_text("\n".join(["wnid,fine,mid,coarse", *rows]))


def test_train_resume_export_and_measure(
    training: ModuleType, measuring: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_sets(tmp_path / "data")
    out = tmp_path / "tiny.onnx"
    where = ["--data", str(tmp_path / "data"), "--cache", str(tmp_path / "cache")]
    command = [*where, "--out", str(out), "--batch", "16", "--epochs"]
    training.main([*command, "2"])
    first = capsys.readouterr().out
    assert "coarse: 2 classes, 16 bits" in first
    assert "fine: 4 classes, 48 bits" in first
    assert "against PyTorch on 24 pictures" in first
    check_contract(out, {"coarse": 16, "fine": 48})

    training.main([*command, "3", "--resume", "--threads", "2"])
    assert "resumed at step 4" in capsys.readouterr().out

    mixed = ["--out", str(tmp_path / "mixed.onnx"), "--sets", "tiny-imagenet", "clothing"]
    training.main([*where, *mixed, "--batch", "16", "--epochs", "1"])
    printed = capsys.readouterr().out
    assert "coarse: 3 classes" in printed  # mammal, vehicle, clothing
    assert "fine: 8 classes" in printed
    said = open_session(tmp_path / "mixed.onnx").get_modelmeta().custom_metadata_map["pyhash.training"]
    assert said == "from scratch; 1.0 epochs, 0 minutes on tiny-imagenet, clothing"

    card = tmp_path / "card.md"
    card.write_text("before\n<!-- table -->\nold\n<!-- end of table -->\nafter\n")
    measuring.main([str(out), str(tmp_path / "mixed.onnx"), *where, "--card", str(card)])
    printed = capsys.readouterr().out
    assert (
        "| pyhash-tiny | tiny-imagenet val, 24 | tiny-imagenet train, 36 | yes | code, 64 bits | mAP@35 fine |"
        in printed
    )
    assert "| pyhash-tiny | cifar10 test, 24 | cifar10 train, 36 | no | code, 64 bits | mAP@all |" in printed
    assert "| pyhash-tiny | clothing validation, 8 | clothing train, 16 | no | code, 64 bits | P@5 |" in printed
    mixed_rows = [row.split("|")[2].split()[0] for row in printed.splitlines() if row.startswith("| pyhash-mixed |")]
    assert set(mixed_rows) == {"tiny-imagenet", "clothing"}  # what it was trained on
    assert not [row for row in printed.splitlines() if "mAP@all" in row and "≥" in row]  # neither learned CIFAR-10
    for ranked in ("colour histogram 8x8x8, L1", "raw pixels 32x32, L2", "pHash, 64 bits", "chance"):
        assert f"| {ranked} | P@5 |" in printed
    assert card.read_text() == f"before\n<!-- table -->\n{printed}<!-- end of table -->\nafter\n"

    other = training.fold(training.HashNet(training.Plan.of(["tiny-imagenet"], 64), 4))
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((training.FUSED + training.LAYOUT + 4, 64), np.float32)
    head = training.Head("lsh", weight, np.zeros(64, np.float32), LEVELS, np.zeros(64, np.float32), False)
    with pytest.raises(SystemExit, match="does not agree"):
        training.check_export(other, head, out, rng.integers(0, 256, (4, 64, 64, 3), np.uint8))


def test_one_training_serves_codes_of_any_length_in_int8_or_float(
    training: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_sets(tmp_path / "data")
    command = ["--data", str(tmp_path / "data"), "--cache", str(tmp_path / "cache"), "--batch", "16", "--epochs", "1"]
    training.main([*command, "--out", str(tmp_path / "long.onnx")])
    capsys.readouterr()
    monkeypatch.setattr(training, "TOLERANCE", -2.0)  # nothing retrieves so much better
    training.main([*command, "--out", str(tmp_path / "short.onnx"), "--bits", "32", "--resume"])
    printed = capsys.readouterr().out
    assert "resumed at step 2" in printed
    assert "retrieves worse, stays float" in printed
    check_contract(tmp_path / "short.onnx", {"coarse": 8, "fine": 24})
    long, short = (open_session(tmp_path / f"{name}.onnx").get_modelmeta() for name in ("long", "short"))
    assert short.custom_metadata_map["pyhash.training"] == long.custom_metadata_map["pyhash.training"]
    assert "pyhash.quantized" not in short.custom_metadata_map


def test_a_model_for_cifar10_has_one_level_of_any_length_and_goals(
    training: ModuleType, measuring: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_sets(tmp_path / "data")
    out = tmp_path / "cifar.onnx"
    command = ["--data", str(tmp_path / "data"), "--cache", str(tmp_path / "cache"), "--out", str(out)]
    training.main([*command, "--sets", "cifar10", "--bits", "24", "--batch", "16", "--epochs", "1"])
    assert "code: 4 classes, 24 bits" in capsys.readouterr().out
    check_contract(out, {"code": 24})
    measuring.main([str(out), *command[:4], "--sets", "cifar10"])
    trained, held_out = (row for row in capsys.readouterr().out.splitlines() if "mAP@all" in row)
    assert "| yes | code, 24 bits |" in trained
    assert trained.endswith("| ≥ 0.944 at 48 bits |")
    assert "| no | code, 24 bits |" in held_out
    assert held_out.endswith("| ≥ 0.88 at 48 bits |")


def test_the_same_seed_gives_the_same_network(training: ModuleType, tmp_path: Path) -> None:
    draw_sets(tmp_path / "data")
    files = [tmp_path / name / "same.onnx" for name in "ab"]
    for file in files:
        command = ["--data", str(tmp_path / "data"), "--cache", str(file.parent / "cache"), "--out", str(file)]
        training.main([*command, "--bits", "128", "--batch", "16", "--epochs", "1"])
        check_contract(file, {"coarse": 32, "fine": 96})
    graphs = [training.run_model(training.session(file), np.zeros((1, 64, 64, 3), np.uint8)) for file in files]
    assert (graphs[0] == graphs[1]).all()


def test_levels_are_whole_bytes(training: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        training.main(["--data", "x", "--out", "y", "--bits", "48"])
    assert "--bits must be a multiple of 32 for these --sets, got 48" in capsys.readouterr().err


def test_classic_baselines_by_hand(measuring: ModuleType) -> None:
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 200, (3, 32, 32, 3), np.uint8)
    counts = measuring.histogram(pictures)
    assert counts.shape == (3, 512)
    assert (counts.sum(1) == 32 * 32).all()
    red = np.zeros((1, 32, 32, 3), np.uint8)
    red[..., 0] = 255
    assert measuring.histogram(red)[0, 7 * 64] == 32 * 32
    hashes = measuring.p_hash(np.concatenate([pictures, pictures + np.uint8(40)]))
    assert hashes.shape == (6, 8)
    flipped = np.bitwise_count(hashes[:, None] ^ hashes).sum(-1)
    assert (flipped[np.arange(3), np.arange(3) + 3] <= 1).all()  # brightness hardly moves it
    assert flipped[0, 1] > 10
    points = np.array([[0.0], [1.0], [5.0]])
    same = np.array([[True, False, True]])
    assert measuring.precision(np.array([[0.4]]), points, same, 2, 2) == 0.5

"""Models of the hub: which file is taken, what lies beside it, where it comes from, and what does not do."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("huggingface_hub")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("PIL")
pytest.importorskip("scipy")
import labelled_pictures
import networks
import onnx
from hub import COMMIT, Hub, put_in_cache, served
from tiny_networks import build, pictures, plain

import pyhash
from pyhash.encoder import Encoder
from pyhash.errors import EncoderError
from pyhash.networks import hub as networks_hub
from pyhash.networks.hub import Reference

CLIP = {
    "crop_size": 8,
    "do_center_crop": True,
    "do_normalize": True,
    "do_resize": True,
    "feature_extractor_type": "CLIPFeatureExtractor",
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "resample": 3,
    "size": 10,
}
BY_HAND = {
    "size": 8,
    "crop": "center",
    "crop_fraction": 0.8,
    "resize": "bicubic",
    "mean": CLIP["image_mean"],
    "std": CLIP["image_std"],
}


def beside(config: Any = CLIP) -> dict[str, bytes]:
    return {"preprocessor_config.json": json.dumps(config).encode()}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that is all there is: every way to the hub is cut."""
    from huggingface_hub import constants

    folder = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", os.fspath(folder))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return folder


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("hf://owner/repo", ("owner/repo", None, None)),
        ("hf://owner/re-po.v2_1@v1.0/onnx/model.onnx", ("owner/re-po.v2_1", "v1.0", "onnx/model.onnx")),
        ("hf://owner/repo@refs%2Fpr%2F3", ("owner/repo", "refs/pr/3", None)),
        ("hf://owner/repo@refs/pr/3/model.onnx", ("owner/repo", "refs/pr/3", "model.onnx")),
        ("hf://owner/repo@main/", ("owner/repo", "main", None)),
    ],
)
def test_a_name_says_repository_revision_and_file(name: str, expected: tuple[Any, ...]) -> None:
    assert Reference.parse(name) == expected


@pytest.mark.parametrize(
    "name", ["hf://", "hf://resnet50", "hf://owner/", "hf:///repo", "hf://owner/repo@", "hf://a b/c"]
)
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(EncoderError, match=r"must be named hf://owner/repo\[@revision\]\[/file.onnx\], got"):
        Encoder(name)


@pytest.mark.parametrize(
    ("there", "taken"),
    [
        (["model.onnx", "onnx/model.onnx"], "onnx/model.onnx"),
        (["onnx/model.onnx", "onnx/model_quantized.onnx", "onnx/model_fp16.onnx"], "onnx/model.onnx"),
        (["onnx/model.onnx", "onnx/text_model.onnx", "onnx/vision_model.onnx"], "onnx/vision_model.onnx"),
        (["onnx/vision_model_fp16.onnx", "onnx/vision_model_int8.onnx"], "onnx/vision_model_fp16.onnx"),
        (["textual/model.onnx", "visual/model.onnx"], "visual/model.onnx"),
        (["onnx/model_q4.onnx", "README.md"], "onnx/model_q4.onnx"),
        (["model.onnx"], "model.onnx"),
    ],
    ids=str,
)
def test_which_file_is_taken(cache: Path, there: list[str], taken: str) -> None:
    put_in_cache(cache, "owner/repo", {name: plain() if name == taken else b"another" for name in there} | beside())
    assert Encoder("hf://owner/repo").opened["model"] == f"hf://owner/repo@{COMMIT}/{taken}"


@pytest.mark.parametrize(
    ("there", "message"),
    [
        (["model.safetensors", "config.json"], "it holds no ONNX model; export it"),
        (["onnx/model_q4.onnx", "onnx/model_int8.onnx"], "name one of its models, as hf://owner/repo/onnx/model_int8"),
        (["segmenter.onnx"], "name one of its models, as hf://owner/repo/segmenter.onnx"),
    ],
    ids=str,
)
def test_which_file_is_not_clear(cache: Path, there: list[str], message: str) -> None:
    put_in_cache(cache, "owner/repo", dict.fromkeys(there, b"{}"))
    with pytest.raises(EncoderError, match=message):
        Encoder("hf://owner/repo")


def test_codes_are_those_of_the_file_prepared_by_hand(cache: Path) -> None:
    put_in_cache(cache, "owner/repo", {"onnx/model.onnx": plain(), **beside()})
    subject = Encoder("hf://owner/repo")
    images = pictures(5)
    np.testing.assert_array_equal(subject.logits(images), Encoder(plain(), preprocess=BY_HAND).logits(images))
    assert subject.name == "repo"
    assert (
        Encoder("hf://owner/repo", preprocess={"crop": "squash", "crop_fraction": None}).logits(images).tolist()
        == Encoder(plain(), preprocess=BY_HAND | {"crop": "squash", "crop_fraction": None}).logits(images).tolist()
    )
    np.testing.assert_array_equal(
        Encoder("hf://owner/repo", preprocess="tf").logits(images), Encoder(plain(), preprocess="tf").logits(images)
    )


def test_weights_beside_the_model_are_found_through_the_links_of_the_cache(cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save_model(
        onnx.load_model_from_string(plain()),
        path,
        save_as_external_data=True,
        location="model.onnx_data",
        size_threshold=0,
    )
    files = {f"onnx/{name}": (tmp_path / name).read_bytes() for name in ("model.onnx", "model.onnx_data")}
    snapshot = put_in_cache(cache, "owner/repo", files | beside())
    assert (snapshot / "onnx" / "model.onnx_data").is_symlink()
    images = pictures(3)
    subject = Encoder("hf://owner/repo")
    np.testing.assert_array_equal(subject.encode(images), Encoder(plain(), preprocess=BY_HAND).encode(images))
    (snapshot / "onnx" / "model.onnx_data").unlink()
    with pytest.raises(EncoderError, match=r"onnx/model.onnx_data cannot be fetched"):
        Encoder("hf://owner/repo")


def test_the_nearest_file_says_how_images_are_prepared(cache: Path) -> None:
    cfg = {"size": [8, 8], "mean": 0.5, "std": 0.5, "interpolation": "bicubic", "resize_mode": "squash"}
    files = {"visual/model.onnx": plain(), "visual/preprocess_cfg.json": json.dumps(cfg).encode(), **beside()}
    put_in_cache(cache, "owner/repo", files)
    expected = Encoder(plain(), preprocess={"preset": "tf", "resize": "bicubic"})
    np.testing.assert_allclose(Encoder("hf://owner/repo").logits(pictures(2)), expected.logits(pictures(2)), atol=1e-5)


def test_a_repository_that_says_nothing_needs_preprocess(cache: Path) -> None:
    put_in_cache(cache, "owner/repo", {"model.onnx": plain(), "config.json": b'{"model_type": "resnet"}'})
    with pytest.raises(EncoderError, match="preprocess must be given"):
        Encoder("hf://owner/repo")
    with pytest.raises(EncoderError, match=r"must name what it is based on.*\(--preprocess\), got crop alone"):
        Encoder("hf://owner/repo", preprocess={"crop": "center"})
    assert Encoder("hf://owner/repo", preprocess="tf").bits == 24
    assert Encoder("hf://owner/repo", preprocess={"crop": "center", "mean": 0.5}).bits == 24


def test_an_encoder_of_our_own_says_all_itself(cache: Path) -> None:
    put_in_cache(cache, "owner/repo", {"model.onnx": build()})
    assert Encoder("hf://owner/repo").encode(pictures(2)).tolist() == Encoder(build()).encode(pictures(2)).tolist()


def test_the_revision_is_part_of_the_fingerprint_and_of_what_is_remembered(cache: Path) -> None:
    other = "f" * 40
    put_in_cache(cache, "owner/repo", {"model.onnx": plain(), **beside()}, other)
    put_in_cache(cache, "owner/repo", {"model.onnx": plain(), **beside()})
    first, second = (Encoder(f"hf://owner/repo@{commit}") for commit in (COMMIT, other))
    assert first.fingerprint != second.fingerprint
    assert first.fingerprints.network != second.fingerprints.network
    assert Encoder("hf://owner/repo").fingerprint == first.fingerprint
    for again in (Encoder(**second.opened), pickle.loads(pickle.dumps(second))):
        assert again.fingerprint == second.fingerprint
    (cache / "models--owner--repo" / "refs" / "main").write_text(other)  # the repository moves on
    assert Encoder(**first.opened).fingerprint == first.fingerprint


def test_a_gallery_remembers_it_whatever_folder_it_is_opened_from(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    put_in_cache(cache, "owner/repo", {"model.onnx": plain(), **beside()})
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, pixels in enumerate(pictures(3)):
        Image.fromarray(pixels).save(folder / f"{number}.png")
    monkeypatch.chdir(folder)
    with pyhash.Gallery(folder, Encoder("hf://owner/repo")) as gallery:
        gallery.update()
        expected = gallery.encoder.fingerprint
    monkeypatch.chdir(tmp_path)
    with pyhash.Gallery(folder) as gallery:
        assert gallery.encoder.fingerprint == expected
        assert len(gallery.search(folder / "1.png", k=2)) == 2


def test_offline_what_the_cache_lacks_is_said(cache: Path) -> None:
    with pytest.raises(
        EncoderError, match=r"out of reach \(.*\), and its cache does not hold this model; fetch it once"
    ):
        Encoder("hf://owner/repo")
    put_in_cache(cache, "owner/repo", {"model.onnx": plain(), **beside()})
    with pytest.raises(EncoderError, match="does not hold this revision"):
        Encoder("hf://owner/repo@v2")
    with pytest.raises(EncoderError, match=r"there is no file 'gone.onnx'; ONNX models there are model.onnx"):
        Encoder("hf://owner/repo/gone.onnx")


def test_weights_outside_the_repository_are_refused(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_in_cache(cache, "owner/repo", {"model.onnx": plain(), **beside()})
    monkeypatch.setattr(networks_hub, "external_files", lambda path: {"../../etc/passwd"})
    with pytest.raises(EncoderError, match="its weights lie outside the repository"):
        Encoder("hf://owner/repo")


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r"pip install 'pyhash-retrieval\[hub\]'"):
        Encoder("hf://owner/repo")


SCRIPT = """
import json, sys
from pyhash import Encoder
from pyhash.errors import EncoderError
try:
    encoder = Encoder(sys.argv[1])
    print(json.dumps([encoder.opened["model"], encoder.fingerprint]))
except EncoderError as error:
    print(json.dumps(str(error)))
"""


def opened_by_a_process(name: str, hub: Hub, home: Path, **environment: str) -> Any:
    """Open a model in a process of its own, which the switches of huggingface_hub reach."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))}
    env |= {"HF_ENDPOINT": hub.address, "HF_HOME": os.fspath(home), "HF_HUB_DISABLE_TELEMETRY": "1", **environment}
    env["no_proxy"] = env["NO_PROXY"] = "127.0.0.1"
    done = subprocess.run([sys.executable, "-c", SCRIPT, name], capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_model_is_fetched_once_and_then_found_offline(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save_model(
        onnx.load_model_from_string(plain()),
        path,
        save_as_external_data=True,
        location="model.onnx_data",
        size_threshold=0,
    )
    files = {f"onnx/{name}": (tmp_path / name).read_bytes() for name in ("model.onnx", "model.onnx_data")}
    home = tmp_path / "home"
    with served(Hub({"owner/repo": files | beside() | {"onnx/model_q4.onnx": b"not asked for"}})) as hub:
        model, fingerprint = opened_by_a_process("hf://owner/repo", hub, home)
        assert model == f"hf://owner/repo@{COMMIT}/onnx/model.onnx"
        given = [line for line in hub.asked if line.startswith("GET") and "/resolve/" in line]
        assert sorted(line.rsplit("/", 1)[1] for line in given) == sorted(
            ["model.onnx", "model.onnx_data", "preprocessor_config.json"]
        )
        hub.asked.clear()
        assert opened_by_a_process("hf://owner/repo", hub, home, HF_HUB_OFFLINE="1") == [model, fingerprint]
        assert opened_by_a_process(model, hub, home, TRANSFORMERS_OFFLINE="1") == [model, fingerprint]
        assert hub.asked == []
        assert opened_by_a_process("hf://owner/repo@refs/pr/3", hub, home) == [model, fingerprint]
    assert opened_by_a_process("hf://owner/repo", hub, home) == [model, fingerprint]  # the hub is out of reach


def test_what_the_hub_does_not_have_is_said(tmp_path: Path) -> None:
    with served(Hub({"owner/repo": {"model.onnx": plain(), **beside()}})) as hub:
        assert "the hub has no such model" in opened_by_a_process("hf://owner/gone", hub, tmp_path)
        assert "the hub has no revision 'v2' of it" in opened_by_a_process("hf://owner/repo@v2", hub, tmp_path)
        assert "there is no file 'x.onnx'" in opened_by_a_process("hf://owner/repo/x.onnx", hub, tmp_path)
    assert "out of reach" in opened_by_a_process("hf://owner/other", hub, tmp_path)


def test_a_network_of_the_hub_is_read_and_built_on(cache: Path, tmp_path: Path) -> None:
    """As its repository says: size, crop, means and deviations; unless the caller says otherwise."""
    files = {
        "model.onnx": networks.resnet(size="side").SerializeToString(),
        **beside({**CLIP, "size": 80, "crop_size": 64}),
    }
    put_in_cache(cache, "owner/repo", files)
    path = tmp_path / "resnet.onnx"
    path.write_bytes(files["model.onnx"])
    name, by_hand = "hf://owner/repo", BY_HAND | {"size": 64}
    assert pyhash.networks.taps(name) == pyhash.networks.taps(path, size=64)
    assert pyhash.networks.choose_taps(name) == pyhash.networks.choose_taps(path, size=64)
    images = labelled_pictures.draw(tmp_path / "pictures", per_class=3)
    for preprocess, expected in ((None, by_hand), ({"crop": "squash"}, by_hand | {"crop": "squash"}), ("tf", "tf")):
        size = 64 if preprocess == "tf" else None
        made = []
        for backbone, said in ((name, preprocess), (path, expected)):
            out = tmp_path / "encoder.onnx"
            pyhash.build(backbone, images, "folders", 16, out, preprocess=said, size=size, name="one", training="")
            made.append(out.read_bytes())
        assert made[0] == made[1]
    pyhash.build(name, images, "folders", 16, tmp_path / "encoder.onnx")
    assert Encoder(tmp_path / "encoder.onnx").name == "repo"
    with pytest.raises(EncoderError, match="does not hold this model"):
        pyhash.build("hf://owner/gone", images, "folders", 16, tmp_path / "encoder.onnx")

"""Parts of images on the command line: ``--turned``, ``--tiles``, ``--boxes``, ``--crop``, and how they are shown."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import run
from galleries import PartsEncoder
from PIL import Image

from pyhash import encoder


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder, "Encoder", lambda model=None, **_: PartsEncoder())


def fields(seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    return Image.fromarray(pixels).resize((64, 64), Image.Resampling.NEAREST)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A shelf of four products, two of them also beside it, and what looks like none."""
    root = tmp_path / "shop"
    root.mkdir()
    shelf = Image.new("RGB", (128, 128))
    for seed in range(4):
        shelf.paste(fields(seed), (64 * (seed % 2), 64 * (seed // 2)))
    shelf.save(root / "shelf.png")
    for seed in (7, 8):
        fields(seed).save(root / f"{seed}.png")
    fields(1).save(tmp_path / "product.png")
    (tmp_path / "boxes.csv").write_text("path,x0,y0,x1,y1,name\nshelf.png,64,0,128,64,cup\n")
    return root


def test_index_search_and_info(shop: Path) -> None:
    assert run("index", shop, "--tiles", "2x2").stdout == "3 images and 15 parts of them can be searched (3 added)\n"
    lines = run("search", shop, shop.parent / "product.png", "-k", "2").stdout.splitlines()
    assert lines[1].split() == ["similarity", "distance", "part", "image"]
    assert lines[2].split() == ["1.000", "0", "tile", "64,0,128,64", os.fspath(shop / "shelf.png")]
    lines = run("search", shop, shop / "7.png", "-k", "1").stdout.splitlines()
    assert lines[1].split() == ["similarity", "distance", "image"]
    said = run("index", shop, "--turned", "--no-tiles", "--boxes", shop.parent / "boxes.csv").stdout
    assert said.splitlines() == [
        "3 images and 22 parts of them can be searched (3 changed)",
        "3 images encoded again: parts were lacking",
    ]
    (line,) = [line for line in run("search", shop, shop.parent / "product.png").stdout.splitlines() if "cup" in line]
    assert line.split()[1:4] == ["0", "cup", "64,0,128,64"]
    facts = run("info", shop).stdout
    assert "gallery parts" in facts
    stats = json.loads(run("info", shop, "--json").stdout)["gallery"]
    assert (stats["images"], stats["parts"], stats["turned"], stats["tiles"]) == (3, 22, True, None)
    answer = json.loads(run("index", shop, "--no-turned", "--no-boxes", "--json").stdout)
    assert (answer["images"], answer["parts"], answer["unchanged"]) == (3, 0, 3)


def test_json_names_the_part(shop: Path) -> None:
    run("index", shop, "--boxes", shop.parent / "boxes.csv")
    answer = json.loads(run("search", shop, shop.parent / "product.png", "--json").stdout)
    first, *others = answer["results"][0]["matches"]
    assert first["part"] == {"kind": "box", "box": [64, 0, 128, 64], "name": "cup"}
    assert first["path"] == os.fspath(shop / "shelf.png")
    assert all("part" not in match for match in others)
    assert len(others) == 2


def test_a_query_may_be_a_crop(shop: Path, tmp_path: Path) -> None:
    run("index", shop, "--tiles", "2x2")
    lines = run("search", shop, shop / "shelf.png", "--crop", "64,0,128,64", "-k", "1").stdout.splitlines()
    assert lines[2].split()[1:4] == ["0", "tile", "64,0,128,64"]
    assert "64 x 64 pixels" in run("search", shop, shop / "7.png", "--crop", "0,0,65,9", code=2).stderr
    page = tmp_path / "s.html"
    run("search", shop, shop / "shelf.png", "--crop", "64,0,128,64", "--html", page)
    text = page.read_text()
    assert text.count('<svg viewBox="0 0 128 128"') == 2  # the query's crop, and the tile


@pytest.mark.parametrize(
    "crop", ["1,2,3", "1,2,3,4,5", "a,b,c,d", "5,5,5,9", "1,9,5,9", "-1,0,5,5", "1.5,0,5,5", "middle"]
)
def test_crops_that_are_none(shop: Path, crop: str) -> None:
    run("index", shop)
    assert "--crop" in run("search", shop, shop / "7.png", f"--crop={crop}", code=2).stderr


def test_crop_is_also_how_images_are_prepared(shop: Path) -> None:
    run("index", shop)
    run(
        "search", shop, shop / "7.png", "--encoder", os.fspath(shop / "7.png"), "--preprocess", "tf", "--crop", "center"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tiles", "2"], "must be ROWSxCOLUMNS such as 2x2"),
        (["--tiles", "1x1"], "must be ROWSxCOLUMNS such as 2x2"),
        (["--tiles", "0x4"], "must be ROWSxCOLUMNS such as 2x2"),
        (["--tiles", "2x2", "--no-tiles"], "--tiles and --no-tiles cannot be given together"),
        (["--boxes", "BOXES", "--no-boxes"], "--boxes and --no-boxes cannot be given together"),
        (["--boxes", "none.csv"], "does not exist"),
    ],
)
def test_wrong_calls(shop: Path, options: list[Any], message: str) -> None:
    given = [os.fspath(shop.parent / "boxes.csv") if option == "BOXES" else option for option in options]
    assert message in run("index", shop, *given, code=2).stderr


def test_a_wrong_box_is_told_by_its_line_and_nothing_is_indexed(shop: Path) -> None:
    wrong = shop.parent / "wrong.csv"
    wrong.write_text("path,x0,y0,x1,y1\nshelf.png,0,0,5,5\nshelf.png,0,0,5,129\n")
    error = run("index", shop, "--boxes", wrong, code=2).stderr
    assert error == (
        "pyhash: line 3 of wrong.csv, column y1: the box must lie in the upright image, shelf.png, whose height is 128 "
        "pixels, got 129\n"
    )
    assert json.loads(run("info", shop, "--json").stdout)["gallery"]["images"] == 0


def test_boxes_that_are_lost_are_told(shop: Path) -> None:
    run("index", shop, "--boxes", shop.parent / "boxes.csv")
    fields(5).save(shop / "shelf.png")
    result = run("index", shop)
    assert "1 box was dropped" in result.stderr

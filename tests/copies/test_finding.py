"""Copies are found among files, and nothing else is."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance
from scenes import COPIES, CROPPED, TURNED, Change, cropped, marked, on_a_screen, recompressed, scaled, scene

import pyhash
from pyhash.copies import Duplicates, Group

SCENES = 5


def write(folder: Path, images: dict[str, Image.Image]) -> Path:
    folder.mkdir(exist_ok=True)
    for number, (name, image) in enumerate(images.items()):
        image.save(folder / name)
        os.utime(folder / name, ns=(10**18 + number, 10**18 + number))
    return folder


def names(group: Group) -> list[str]:
    return [Path(copy.path).name for copy in group.images]


def groups(found: Duplicates, level: str = "duplicates") -> list[list[str]]:
    return [names(group) for group in found.groups if group.level == level]


def pairs(folder: Path, change: Change) -> list[list[str]]:
    """Five scenes and a copy of each; what has to be found."""
    images = {f"{n}.png": scene(n) for n in range(SCENES)}
    write(folder, images | {f"{n}-copy.png": change(scene(n)) for n in range(SCENES)})
    return [[f"{n}-copy.png", f"{n}.png"] for n in range(SCENES)]


def found_pairs(found: Duplicates) -> list[list[str]]:
    return sorted(sorted(group) for group in groups(found))


# Copies


@pytest.mark.parametrize("change", COPIES.values(), ids=COPIES)
def test_copies_are_found(tmp_path: Path, change: Change) -> None:
    expected = pairs(tmp_path / "images", change)
    found = pyhash.duplicates(tmp_path / "images")
    assert found_pairs(found) == expected
    assert (found.images, found.uncompared, found.away) == (2 * SCENES, (), 0)
    for group in found.groups:
        best, copy = group.images
        assert (best.relation, copy.relation) == ("best", "changed")
        assert copy.certainty > 0.7
        assert not group.chained


@pytest.mark.parametrize("change", CROPPED.values(), ids=CROPPED)
def test_parts_are_found_where_they_are_asked_for(tmp_path: Path, change: Change) -> None:
    expected = pairs(tmp_path / "images", change)
    assert pyhash.duplicates(tmp_path / "images", turned=True).groups == ()
    found = pyhash.duplicates(tmp_path / "images", cropped=True)
    assert found_pairs(found) == expected
    assert all("cropped to" in " ".join(group.images[1].differs) for group in found.groups)


@pytest.mark.parametrize("change", TURNED.values(), ids=TURNED)
def test_turned_ones_are_found_where_they_are_asked_for(tmp_path: Path, change: Change) -> None:
    expected = pairs(tmp_path / "images", lambda image: recompressed(change(image), 80))
    assert pyhash.duplicates(tmp_path / "images", cropped=True).groups == ()
    found = pyhash.duplicates(tmp_path / "images", turned=True)
    assert found_pairs(found) == expected


@pytest.mark.parametrize(
    ("way", "said"),
    [
        ("flip_left_right", "mirrored"),
        ("rotate_180", "turned by 180°"),
        ("rotate_270", "turned by 90°"),  # Pillow's are counter-clockwise
        ("rotate_90", "turned by 270°"),
        ("flip_top_bottom", "mirrored top to bottom"),
        ("transpose", "turned by 90° and mirrored"),
        ("transverse", "turned by 270° and mirrored"),
    ],
)
def test_what_was_turned_is_said(tmp_path: Path, way: str, said: str) -> None:
    write(tmp_path, {"a.png": scene(0, (300, 200)), "b.png": scaled(0.8)(TURNED[way](scene(0, (300, 200))))})
    (group,) = pyhash.duplicates(tmp_path, turned=True).groups
    assert names(group) == ["a.png", "b.png"]
    assert group.images[1].differs[0] == said


def test_what_differs_is_said(tmp_path: Path) -> None:
    original = scene(1, (400, 300))
    changes = {
        "dark": ImageEnhance.Brightness(original).enhance(0.6),
        "grey": original.convert("L").convert("RGB"),
        "half": scaled(0.5)(original),
        "marked": marked(original),
        "screen": on_a_screen(original),
        "border": COPIES["white border"](original),
    }
    write(tmp_path, {"a.png": original} | {f"{name}.png": image for name, image in changes.items()})
    recompressed(original, 95).save(tmp_path / "b.jpg", quality=40)
    (group,) = pyhash.duplicates(tmp_path).groups
    said = {Path(copy.path).stem: " ".join(copy.differs) for copy in group.images}
    assert group.images[0].path == os.fspath(tmp_path / "a.png")
    for name, words in {
        "dark": "darker",
        "grey": "without colour",
        "half": "200 x 150 pixels instead of 400 x 300",
        "marked": "a mark on it, over",
        "screen": "within a larger image",
        "border": "with a border",
        "b": "JPEG instead of PNG",
    }.items():
        assert words in said[name]
    assert said["a"] == ""


# What is no copy


def signs(white: bool) -> list[Image.Image]:
    """Shapes on a transparent ground, or in one frame."""
    images = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        image = Image.new("RGBA", (256, 256), (255, 255, 255, 0) if white else "white")
        draw = ImageDraw.Draw(image)
        if not white:
            draw.rounded_rectangle([10, 10, 246, 246], 30, outline=(200, 20, 20), width=16)
        points = [tuple(point) for point in rng.integers(60, 196, (3 + seed % 4, 2)).tolist()]
        draw.polygon(points, fill="white" if white else "black")
        images.append(image)
    return images


def scans() -> list[Image.Image]:
    """One frame, and another finding in it each time."""
    down, across = np.mgrid[:480, :640]
    fan = (np.hypot(across - 320, down + 50) < 500) & (abs(np.arctan2(across - 320, down + 50)) < 0.6)
    images = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        grey = np.where(fan, 40 + 30 * rng.random((480, 640)), 0)
        grey[np.hypot(across - rng.integers(240, 400), down - rng.integers(180, 330)) < 30] = 5
        images.append(Image.fromarray(grey.astype(np.uint8)))
    return images


WORDS = [
    "time",
    "year",
    "people",
    "way",
    "day",
    "man",
    "thing",
    "woman",
    "life",
    "child",
    "world",
    "school",
    "state",
    "family",
    "student",
    "group",
    "country",
]


def slides(background: Image.Image) -> list[Image.Image]:
    images = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        image = background.copy()
        draw = ImageDraw.Draw(image)
        draw.rectangle([0, 0, 480, 40], fill=(20, 40, 120))
        draw.text((12, 8), " ".join(rng.choice(WORDS, 3)), fill="white", font_size=22)
        for line in range(4):
            draw.text((30, 60 + 32 * line), "- " + " ".join(rng.choice(WORDS, 5)), fill="black", font_size=16)
        images.append(image)
    return images


def moved() -> list[Image.Image]:
    """One place, and something that moves in it."""
    images = []
    for step in range(6):
        image = scene(3, (320, 240))
        ImageDraw.Draw(image).ellipse([60 + 9 * step, 90, 110 + 9 * step, 170], fill=(230, 190, 150))
        images.append(image)
    return images


def captions() -> list[Image.Image]:
    images = []
    for seed in range(6):
        image = scene(8, (400, 300))
        words = " ".join(np.random.default_rng(seed).choice(WORDS, 3)).upper()
        ImageDraw.Draw(image).text((20, 240), words, fill="white", font_size=30, stroke_width=2, stroke_fill="black")
        images.append(image)
    return images


def hues() -> list[Image.Image]:
    """One thing in several colours."""
    shape = np.asarray(scene(4).convert("L"), float)[..., None] / 255
    white = np.full((180, 240, 1), 255.0)
    inside = np.hypot(*(np.mgrid[:180, :240] - np.array([90, 120])[:, None, None]))[..., None] < 70
    return [
        Image.fromarray(np.where(inside, shape * np.array(colour), white).astype(np.uint8))
        for colour in ([250, 80, 80], [80, 250, 80], [90, 90, 250])
    ]


def rings() -> list[Image.Image]:
    """One shape on a plain ground, in other places and sizes."""
    images = []
    for seed in range(6):
        x, y, side = np.random.default_rng(seed).integers((30, 30, 25), (60, 60, 60)).tolist()
        image = Image.new("RGB", (128, 128), (30, 90, 200))
        ImageDraw.Draw(image).ellipse([x, y, x + side, y + side], outline="white", width=8)
        images.append(image)
    return images


def boxes() -> list[Image.Image]:
    """One shape on a transparent ground, in other places."""
    images = []
    for place in range(4):
        image = Image.new("RGBA", (200, 200), (0, 0, 0, 0))
        ImageDraw.Draw(image).rectangle([20 * place + 10, 30, 20 * place + 60, 150], fill="black")
        images.append(image)
    return images


DIFFERENT = {
    "white signs": lambda: signs(white=True),
    "signs in a frame": lambda: signs(white=False),
    "scans in a frame": scans,
    "rings": rings,
    "boxes": boxes,
    "slides": lambda: slides(Image.new("RGB", (480, 270), "white")),
    "slides before a photograph": lambda: slides(ImageEnhance.Brightness(scene(6, (480, 270))).enhance(1.2)),
    "what moves": moved,
    "captions": captions,
    "hues": hues,
    "blank": lambda: [Image.new("L", (99, 90 + n), 30 + n) for n in range(6)],
    "noise": lambda: [
        Image.fromarray(np.random.default_rng(n).integers(0, 256, (90, 90, 3), np.uint8)) for n in range(6)
    ],
}


@pytest.mark.parametrize("images", DIFFERENT.values(), ids=DIFFERENT)
def test_different_images_are_told_apart(tmp_path: Path, images: object) -> None:
    write(tmp_path, {f"{n:02}.png": image for n, image in enumerate(images())})  # type: ignore[operator]
    found = pyhash.duplicates(tmp_path, turned=True, cropped=True)
    assert groups(found) == []
    assert found.uncompared == ()


def test_scenes_are_no_copies(tmp_path: Path) -> None:
    write(tmp_path, {f"{n}.png": scene(n) for n in range(24)})
    assert pyhash.duplicates(tmp_path, turned=True, cropped=True, similar=True).groups == ()


def test_similar_is_a_level_of_its_own(tmp_path: Path) -> None:
    write(tmp_path, {f"{n}.png": image for n, image in enumerate(moved())} | {"copy.png": scaled(0.7)(moved()[0])})
    found = pyhash.duplicates(tmp_path, similar=True)
    assert groups(found) == [["0.png", "copy.png"]]
    (similar,) = groups(found, "similar")
    assert len(similar) > 4
    assert {copy.relation for group in found.groups if group.level == "similar" for copy in group.images} == {
        "best",
        "similar",
    }
    assert [group.level for group in found.groups] == ["duplicates", "similar"]


def test_where_nothing_is_seen_nothing_is_similar(tmp_path: Path) -> None:
    slope = np.tile(np.linspace(0, 255, 160), (120, 1))
    images = [slope, slope[::-1, ::-1], np.full((120, 160), 9), np.full((90, 160), 250)]
    write(tmp_path, {f"{n}.png": Image.fromarray(values.astype(np.uint8)) for n, values in enumerate(images)})
    assert pyhash.duplicates(tmp_path, similar=True).groups == ()


# Groups


def test_equal_bytes_and_equal_pixels(tmp_path: Path) -> None:
    original = scene(2)
    write(tmp_path, {"a.png": original, "b.bmp": original, "d.png": recompressed(original, 60)})
    shutil.copy(tmp_path / "a.png", tmp_path / "c.png")
    (group,) = pyhash.duplicates(tmp_path).groups
    assert [(Path(copy.path).name, copy.relation, copy.certainty == 1) for copy in group.images] == [
        ("a.png", "best", True),
        ("b.bmp", "same pixels", True),
        ("c.png", "identical bytes", True),
        ("d.png", "changed", False),
    ]


def test_blank_images_are_copies_where_their_pixels_are_equal(tmp_path: Path) -> None:
    blank = Image.new("RGB", (50, 40), (9, 9, 9))
    write(tmp_path, {"a.png": blank, "b.bmp": blank, "c.png": Image.new("RGB", (50, 41), (9, 9, 9))})
    white = signs(white=True)
    white[0].save(tmp_path / "sign.png")
    white[0].save(tmp_path / "sign.webp", lossless=True, exact=True)
    assert found_pairs(pyhash.duplicates(tmp_path)) == [["a.png", "b.bmp"], ["sign.png", "sign.webp"]]


def test_the_best_and_why(tmp_path: Path) -> None:
    original = scene(5, (400, 300))
    write(tmp_path / "pixels", {"a.png": scaled(0.6)(original), "b.png": original})
    write(tmp_path / "mark", {"a.png": marked(original), "b.png": original})
    write(tmp_path / "border", {"a.png": COPIES["black border"](original), "b.png": original})
    write(tmp_path / "screen", {"a.png": on_a_screen(original), "b.png": original})
    for quality, name in ((95, "b.jpg"), (60, "a.jpg")):
        (tmp_path / "compressed").mkdir(exist_ok=True)
        original.save(tmp_path / "compressed" / name, quality=quality)
    write(tmp_path / "oldest", {"b.png": original, "a.bmp": original})
    expected = {
        "pixels": ("b.png", "most pixels"),
        "mark": ("b.png", "no mark on it"),
        "compressed": ("b.jpg", "least compressed"),
        "oldest": ("b.png", "oldest"),
    }
    for name, (best, reason) in expected.items():
        (group,) = pyhash.duplicates(tmp_path / name).groups
        assert (names(group)[0], group.reason) == (best, reason), name
    for name in ("border", "screen"):  # what is around it is no gain
        (group,) = pyhash.duplicates(tmp_path / name).groups
        assert names(group)[0] == "b.png", name


def test_what_a_chain_joins_is_said(tmp_path: Path) -> None:
    """Each is cropped from the one before; the last shows half of the first."""
    image = scene(7, (500, 400))
    chain = {}
    for number in range(5):
        chain[f"{number}.png"] = image
        image = cropped(0.1, 0, 0)(image)
    write(tmp_path, chain)
    (group,) = pyhash.duplicates(tmp_path).groups
    assert sorted(names(group)) == sorted(chain)
    assert group.chained
    joined = {Path(copy.path).name: copy.joined_by and Path(copy.joined_by).name for copy in group.images}
    assert (joined["0.png"], joined["1.png"]) == (None, None)
    assert joined["4.png"] == "3.png"


# Files


def test_one_file_with_two_names_is_no_duplicate(tmp_path: Path) -> None:
    write(tmp_path, {"a.png": scene(0), "b.png": scene(1)})
    os.link(tmp_path / "a.png", tmp_path / "hard.png")
    (tmp_path / "soft.png").symlink_to(tmp_path / "a.png")
    found = pyhash.duplicates([tmp_path / name for name in ("a.png", "hard.png", "soft.png", "b.png", "a.png")])
    assert (found.groups, found.images) == ((), 2)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    write(tmp_path, {"a.png": scene(0), "b.png": scene(0)})
    (tmp_path / "bad.png").write_bytes(b"no image")
    found = pyhash.duplicates([*sorted(tmp_path.iterdir()), tmp_path / "gone.png"])
    assert groups(found) == [["a.png", "b.png"]]
    assert [Path(path).name for path, _ in found.uncompared] == ["bad.png", "gone.png"]
    assert found.images == 2


def test_against_references(tmp_path: Path) -> None:
    write(tmp_path / "new", {"a.png": scaled(0.8)(scene(0)), "b.png": scene(1), "c.png": recompressed(scene(1), 70)})
    write(tmp_path / "archive", {"x.png": scene(0), "y.png": scene(2), "z.png": scaled(0.8)(scene(2))})
    found = pyhash.duplicates(tmp_path / "new", against=tmp_path / "archive")
    assert groups(found) == [["x.png", "a.png"]]  # neither b and c nor y and z
    assert 0 < found.candidates <= 9  # three by three: those of one side are not compared
    assert [copy.reference for copy in found.groups[0].images] == [True, False]
    shutil.copy(tmp_path / "new" / "b.png", tmp_path / "new" / "d.png")
    (tmp_path / "empty").mkdir()
    assert pyhash.duplicates(tmp_path / "new", against=tmp_path / "empty").groups == ()


def test_embeddings_bring_candidates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyhash.copies.finding.candidates._FEW", 0)  # so few images are all compared
    pairs(tmp_path, cropped(0.4, 1, 0))
    paths = sorted(tmp_path.iterdir())
    assert pyhash.duplicates(paths, cropped=True).groups == ()
    embeddings = np.eye(SCENES)[[int(path.name[0]) for path in paths]] + 0.01
    assert len(pyhash.duplicates(paths, cropped=True, embeddings=embeddings).groups) == SCENES
    with pytest.raises(ValueError, match=r"as many rows as there are files, 10, got an array of shape \(3, 5\)"):
        pyhash.duplicates(paths, embeddings=embeddings[:3])


@pytest.mark.parametrize("many", [0, 500], ids=["by pictures", "all pairs"])
def test_images_in_chats_of_one_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, many: int) -> None:
    """The screens are more like one another than like what lies in them: what lies in them brings candidates."""
    monkeypatch.setattr("pyhash.copies.finding.candidates._FEW", many)

    def chat(image: Image.Image) -> Image.Image:
        screen = Image.new("RGB", (270, 540), (229, 221, 213))
        draw = ImageDraw.Draw(screen)
        draw.rectangle([0, 0, 270, 45], fill=(7, 94, 84))
        draw.rounded_rectangle([10, 60, 150, 84], 6, fill="white")
        draw.text((20, 64), "hello, how are you", fill=0, font_size=12)
        small = image.resize((190, round(190 * image.height / image.width)), Image.Resampling.BICUBIC)
        draw.rounded_rectangle([10, 100, 18 + small.width, 124 + small.height], 6, fill="white")
        screen.paste(small, (14, 104))
        return screen

    expected = pairs(tmp_path, chat)
    assert found_pairs(pyhash.duplicates(tmp_path)) == expected


def test_nothing(tmp_path: Path) -> None:
    assert pyhash.duplicates(tmp_path) == Duplicates(())
    assert pyhash.duplicates([]) == Duplicates(())


def test_progress(tmp_path: Path) -> None:
    pairs(tmp_path, scaled(0.5))
    calls: list[tuple[int, int]] = []
    pyhash.duplicates(tmp_path, progress=lambda done, total: calls.append((done, total)))
    assert calls[:10] == [(n + 1, 10) for n in range(10)]
    assert all(0 <= done <= total for done, total in calls)
    assert calls[-1][0] == calls[-1][1]

"""Galleries that hold parts of images: turned, tiles and boxes; what is found by them, and what becomes of them."""

from __future__ import annotations

import itertools
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from galleries import FakeEncoder, PartsEncoder, execute, kinds
from PIL import Image
from tuning import tune

from pyhash.errors import BoxError, GalleryError
from pyhash.gallery import Changes, Gallery, Match, adapt
from pyhash.images import TURNS, Part
from pyhash.ranking import Help


def fields(seed: int, size: tuple[int, int] = (64, 64)) -> Image.Image:
    """A picture of 4 x 4 coloured fields."""
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST)


def shelf(*seeds: int) -> Image.Image:
    """Four pictures in one."""
    image = Image.new("RGB", (128, 128))
    for seed, corner in zip(seeds, [(0, 0), (64, 0), (0, 64), (64, 64)], strict=True):
        image.paste(fields(seed), corner)
    return image


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three shelves of four products each, and ten other pictures."""
    root = tmp_path / "shop"
    root.mkdir()
    for number in range(3):
        shelf(*range(4 * number, 4 * number + 4)).save(root / f"shelf{number}.png")
    for number in range(10):
        fields(100 + number, (48, 64)).save(root / f"other{number}.png")
    return root


@pytest.fixture
def product(tmp_path: Path) -> Path:
    """What stands at the top right of shelf 1."""
    fields(5).save(tmp_path / "product.png")
    return tmp_path / "product.png"


def boxes_file(path: Path, *lines: str, header: str = "path,x0,y0,x1,y1,name") -> Path:
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def rows(file: Path) -> list[tuple[Any, ...]]:
    """(id, image, path, kind of part, whether it has a code) of every row."""
    db = sqlite3.connect(file)
    try:
        return db.execute(
            "SELECT rows.id, image, path, part, code IS NOT NULL FROM rows JOIN images ON images.id = image "
            "LEFT JOIN codes ON row = rows.id ORDER BY rows.id"
        ).fetchall()
    finally:
        db.close()


def name(match: Match) -> str:
    return Path(match.path).name


def indexed(folder: Path, encoder: Any = None, **wishes: Any) -> tuple[Gallery, Changes]:
    boxes = wishes.pop("boxes", None)
    gallery = Gallery(folder, encoder or PartsEncoder(), **wishes)
    return gallery, gallery.update(boxes=boxes)


# What is found


def test_without_parts_a_product_on_a_shelf_is_not_found(folder: Path, product: Path) -> None:
    gallery, changes = indexed(folder)
    with gallery:
        (best, *_) = gallery.search(product)
        assert best.distance > 0
        assert best.part is None
        assert (changes.parts, gallery.stats().parts) == (0, 0)


@pytest.mark.parametrize("wishes", [{"tiles": (2, 2)}, {"boxes": {"shelf1.png": [(64, 0, 128, 64)]}}])
def test_a_product_on_a_shelf_is_found_by_a_part(folder: Path, product: Path, wishes: dict[str, Any]) -> None:
    gallery, changes = indexed(folder, **wishes)
    with gallery:
        (best, *_) = found = gallery.search(product, 13)
        assert name(best) == "shelf1.png"
        assert best.distance == 0
        assert best.similarity == pytest.approx(1)
        assert best.part == Part("tile" if "tiles" in wishes else "box", (64, 0, 128, 64))
        assert best.id == gallery.id_of(best.path)
        assert gallery.path(best.id) == best.path
        assert len({match.path for match in found}) == len(found) == len(gallery) == 13
        assert changes.parts == gallery.stats().parts == len(gallery.index) - 13 > 0
        assert changes.added == 13


def test_turned_and_mirrored_copies_are_found(folder: Path, tmp_path: Path) -> None:
    gallery, _ = indexed(folder, turned=True)
    with gallery:
        assert len(gallery.index) == 8 * 13
        for part, turn in TURNS.items():
            with Image.open(folder / "other3.png") as image:
                image.transpose(Image.Transpose[turn]).save(tmp_path / "copy.png")
            (best,) = gallery.search(tmp_path / "copy.png", 1)
            assert (name(best), best.distance, best.part) == ("other3.png", 0, Part("turned", None, part))


def test_an_image_finds_itself_by_its_whole(folder: Path) -> None:
    Image.new("RGB", (40, 40), "red").save(folder / "red.png")  # equal to all of its parts
    gallery, _ = indexed(folder, turned=True, tiles=(2, 3))
    with gallery:
        for path in gallery:
            (best, *_) = gallery.search(path, 3)
            assert (best.path, best.distance, best.part) == (path, 0, None)
            (alone,) = gallery.search(path, 1, rescore=False)
            assert (alone.path, alone.part) == (path, None)


@pytest.mark.parametrize("rescore", [True, False])
@pytest.mark.parametrize("k", [1, 3, 13, 50])
def test_answers_are_those_of_all_rows_with_each_image_once(folder: Path, rescore: bool, k: int) -> None:
    """Exactly: also where one image has more of the nearest rows than are looked at first."""
    many = [(x, y, x + 33, y + 33) for x in range(0, 90, 3) for y in range(0, 90, 9)]
    gallery, _ = indexed(folder, tiles=(2, 2), boxes={"shelf0.png": many})
    with gallery:
        assert len(gallery.index) == 13 + 13 * 5 + len(many)
        queries = [folder / "shelf0.png", folder / "other1.png", np.asarray(fields(2, (33, 33)))]
        for query in queries:
            found = gallery.search(query, k, rescore=rescore, level="fine")
            assert len(found) == min(k, 13)
            assert len({match.id for match in found}) == len(found)
            code = PartsEncoder().encode(query)
            distances, ids = gallery.index.search(code, len(gallery.index), level="fine")
            nearest: dict[str, int] = {}
            for distance, row in zip(distances.tolist(), ids.tolist(), strict=True):
                nearest.setdefault(gallery.path(row), distance)
            if not rescore:
                assert [(match.path, match.distance) for match in found] == [*nearest.items()][:k]
            else:
                order = [match.similarity for match in found]
                assert order == sorted(order, reverse=True)


def test_where_and_exclude_are_of_images(folder: Path, product: Path) -> None:
    gallery, _ = indexed(folder, tiles=(2, 2))
    with gallery:
        number = gallery.id_of("shelf1.png")
        found = gallery.search(product, 13, exclude="shelf1.png")
        assert number not in {match.id for match in found}
        assert len(found) == 12
        assert gallery.search(product, 13, exclude=number) == found
        for where in (["shelf1.png"], [number], np.array([number])):
            (only,) = gallery.search(product, 13, where=where)
            assert (only.id, only.part) == (number, Part("tile", (64, 0, 128, 64)))
        (only,) = gallery.search(product, 13, where=gallery.index.ids == number)
        assert only.part is None
        (codes,) = gallery.search_codes(PartsEncoder().encode(product)[None], 1)
        assert (codes[0].id, codes[0].distance) == (number, 0)


def test_a_crop_is_what_is_looked_for(folder: Path) -> None:
    gallery, _ = indexed(folder, tiles=(2, 2))
    with gallery:
        big = np.asarray(shelf(50, 51, 5, 52))
        (best, *_) = gallery.search(big, crop=(0, 64, 64, 128))
        assert (name(best), best.distance, best.part) == ("shelf1.png", 0, Part("tile", (64, 0, 128, 64)))
        (one, other) = gallery.search([big, folder / "shelf2.png"], 1, crop=(64, 64, 128, 128))
        assert (other[0].distance, other[0].part) == (0, Part("tile", (64, 64, 128, 128)))
        assert one[0].distance > 0
        failed: list[Any] = []
        ((kept,),) = gallery.search(["none.png", folder / "shelf2.png"], 1, crop=(0, 0, 64, 64), on_error=failed.append)
        assert ([error.index for error in failed], name(kept)) == ([0], "shelf2.png")
        with pytest.raises(ValueError, match=r"crop must have pixels and lie in the image, .*of 128 x 128 pixels"):
            gallery.search(big, crop=(0, 0, 129, 5))


def test_counts_and_paths_are_of_images(folder: Path) -> None:
    gallery, _ = indexed(folder, turned=True)
    with gallery:
        assert len(gallery) == gallery.stats().images == 13
        assert sorted(gallery) == sorted(os.fspath(path) for path in folder.glob("*.png"))
        assert {gallery.path(number) for number in gallery.index.ids.tolist()} == {*gallery}
        np.testing.assert_array_equal(gallery["other1.png"], PartsEncoder().encode(folder / "other1.png"))
        shutil.copy(folder / "other1.png", folder / "twin.png")
        gallery.update()
        found = gallery.duplicates().groups
        assert [[Path(copy.path).name for copy in group.images] for group in found] == [["other1.png", "twin.png"]]


# Wishes


def kept_state(gallery: Gallery) -> dict[tuple[str, Part | None], bytes]:
    """The code of every row, by its path and part."""
    now = gallery._snapshots.now()
    return {
        (gallery.path(row), now.parts.part_of(row)): now.index.codes(row).tobytes() for row in now.index.ids.tolist()
    }


def test_wishes_are_remembered_and_taken_back(folder: Path) -> None:
    encoder = PartsEncoder()
    gallery, _ = indexed(folder, encoder, turned=True, tiles=(1, 2))
    with gallery:
        assert gallery.stats().parts == 13 * (7 + 3)
    encoder.seen.clear()
    with Gallery(folder, encoder) as again:
        changes = again.update()
        assert (changes.unchanged, changes.parts, encoder.seen) == (13, 130, [])
        assert (again.stats().turned, again.stats().tiles) == (True, (1, 2))
    with Gallery(folder, encoder, turned=False) as again:
        changes = again.update()
        assert (changes.unchanged, changes.parts, encoder.seen) == (13, 39, [])
    with Gallery(folder, encoder, tiles=(2, 2)) as again:
        changes = again.update()
        assert (changes.changed, changes.again, changes.parts) == (13, {"parts": 13}, 65)
    with Gallery(folder, encoder, tiles=()) as again:
        changes = again.update(boxes={"other0.png": [(0, 0, 9, 9)]})
        assert (changes.changed, changes.unchanged, changes.parts) == (1, 12, 1)
        assert again.update().parts == 1
        assert again.update(boxes={}).parts == 0
        assert len(again.index) == 13


@pytest.mark.parametrize("step", range(1, 14))
def test_interrupted_and_run_again_the_outcome_is_the_same(folder: Path, tmp_path: Path, step: int) -> None:
    boxes = boxes_file(
        tmp_path / "boxes.csv", "shelf1.png,64,0,128,64,cup", "other1.png,0,0,9,9,", "other1.png,1,1,8,9,x"
    )
    straight = tmp_path / "straight"
    shutil.copytree(folder, straight)
    first, _ = indexed(straight, tiles=(2, 2), boxes=boxes)
    with first, pytest.MonkeyPatch.context() as patch:
        tune(patch, commit_images=1)
        whole, _ = indexed(folder)
        whole.close()

        def stop(done: int, total: int) -> None:
            if done == step:
                raise KeyboardInterrupt

        with Gallery(folder, PartsEncoder(), tiles=(2, 2)) as gallery:
            with pytest.raises(KeyboardInterrupt):
                gallery.update(boxes=boxes, progress=stop)
            assert len(gallery) == 13  # by what was there before
            assert gallery.stats().lacking == 13 - step
        with Gallery(folder, PartsEncoder()) as gallery:
            gallery.update()  # boxes were noted at once
            assert gallery.stats().lacking == 0
            expected = {(Path(path).name, part): code for (path, part), code in kept_state(first).items()}
            assert {(Path(path).name, part): code for (path, part), code in kept_state(gallery).items()} == expected


def test_moved_and_copied_images_take_their_parts_along(folder: Path, product: Path) -> None:
    encoder = PartsEncoder()
    gallery, _ = indexed(folder, encoder, tiles=(2, 2), boxes={"shelf1.png": [(60, 0, 128, 64)]})
    with gallery:
        encoder.seen.clear()
        (folder / "shelf1.png").rename(folder / "moved.png")
        shutil.copy(folder / "moved.png", folder / "copy.png")
        changes = gallery.update()
        assert (changes.moved, changes.added, encoder.seen) == (1, 1, [])
        found = gallery.search(product, 2)
        assert {name(match) for match in found} == {"moved.png", "copy.png"}
        assert {match.part for match in found} == {Part("tile", (64, 0, 128, 64))}
        parts = [part for (path, part) in kept_state(gallery) if Path(path).name == "copy.png"]
        assert Part("box", (60, 0, 128, 64)) in parts
        assert len(parts) == 7
        assert gallery.update().unchanged == 14


def test_a_copy_of_an_image_that_lacks_parts_is_encoded(folder: Path) -> None:
    gallery, _ = indexed(folder)
    with gallery:
        shutil.copy(folder / "shelf1.png", folder / "copy.png")
    with Gallery(folder, PartsEncoder(), tiles=(2, 2)) as gallery:
        changes = gallery.update()
        assert (changes.added, changes.changed, changes.parts) == (1, 13, 70)
        assert gallery.update() == Changes(0, 0, 0, 14, [], parts=70)


def test_an_image_that_changes_has_other_parts(folder: Path) -> None:
    boxes = {"shelf1.png": [(64, 0, 128, 64), (0, 0, 30, 30)]}
    gallery, _ = indexed(folder, tiles=(2, 2), boxes=boxes)
    with gallery:
        fields(5, (50, 40)).save(folder / "shelf1.png")
        changes = gallery.update()
        assert (changes.changed, changes.lost_boxes, changes.parts) == (1, 1, 13 * 5 + 1)
        (folder / "shelf1.png").write_bytes(b"no image")
        changes = gallery.update()
        assert (len(changes.failed), changes.parts, len(gallery)) == (1, 60, 12)
        fields(6, (60, 40)).save(folder / "shelf1.png")
        changes = gallery.update()
        assert (changes.changed, changes.lost_boxes, changes.parts) == (1, 0, 13 * 5 + 1)  # the box is still known
        (folder / "shelf1.png").unlink()
        assert gallery.update().parts == 60
        assert {row[2] for row in rows(gallery.file)} == {os.fsencode(path.name) for path in folder.glob("*.png")}


def test_an_encoder_without_parts_goes_on_without(folder: Path) -> None:
    with Gallery(folder, FakeEncoder()) as gallery:
        assert gallery.update().added == 13
    with (
        pytest.raises(GalleryError, match="'fake' does not encode parts"),
        Gallery(folder, FakeEncoder(), turned=True) as g,
    ):
        g.update()
    with Gallery(folder, FakeEncoder()) as gallery:
        assert not gallery.stats().turned


@pytest.mark.parametrize("tiles", [(1, 1), (0, 2), (2,), (2, 2, 2), 2, "2x2", (17, 1), (2.0, 2)])
def test_grids_that_are_none(folder: Path, tiles: Any) -> None:
    with pytest.raises(ValueError, match=r"tiles must be .rows, columns., each from 1 to 16"):
        Gallery(folder, PartsEncoder(), tiles=tiles)
    assert not (folder / ".pyhash").exists()


# Boxes


def written(folder: Path, text: str | bytes) -> Path:
    path = folder.parent / "boxes.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize(
    "text",
    [
        "path,x0,y0,x1,y1,name\nshelf1.png,64,0,128,64,cup\n",
        "\ufeffpath,x0,y0,x1,y1,name\nshelf1.png,64,0,128,64,cup\n",
        "name;score;X0;Y0;X1;Y1;Path\r\ncup;0.5;64;0;128;64;shelf1.png\r\n",
        'path,x0,y0,x1,y1,name\n"shelf1.png", 64, 0, 128, 64, "cup"\n\n',
        "path\tx0\ty0\tx1\ty1\tname\n./shelf1.png\t63.6\t-0.4\t128.2\t64\tcup\n",
        "path,x0,y0,x1,y1,name\nshelf1.png,64,0,128,64,cup\nshelf1.png,64,0,128,64,cup\n",
    ],
)
def test_files_of_boxes(folder: Path, product: Path, text: str) -> None:
    gallery, changes = indexed(folder, boxes=written(folder, text))
    with gallery:
        assert changes.parts == 1
        assert gallery.search(product, 1)[0].part == Part("box", (64, 0, 128, 64), "cup")


def test_a_path_may_be_one_in_the_file_system(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    (folder.parent / "link.png").symlink_to(folder / "shelf2.png")
    lines = [f"{folder}/shelf0.png,0,0,9,9", "shop/shelf1.png,0,0,9,9", "link.png,0,0,9,9", "shelf2.png,0,0,9,9"]
    gallery, changes = indexed(folder, boxes=boxes_file(folder.parent / "b.csv", *lines, header="path,x0,y0,x1,y1"))
    with gallery:
        assert changes.parts == 3


@pytest.mark.skipif(os.name == "nt", reason="file names there are Unicode")
def test_paths_that_are_no_text(folder: Path) -> None:
    odd = os.fsencode(folder) + b"/caf\xe9, 1.png"
    shutil.copy(folder / "shelf0.png", odd)
    fields(77).save(folder / "odd.tmp", "PNG")
    shutil.move(folder / "odd.tmp", odd)
    gallery, changes = indexed(
        folder, boxes=written(folder, b'path,x0,y0,x1,y1,name\n"caf\xe9, 1.png",1,2,30,40,\xe9\n')
    )
    with gallery:
        assert changes.parts == 1
        (match,) = gallery.search(os.fsdecode(odd), 1, crop=(1, 2, 30, 40))
        assert (os.fsencode(match.path), match.part) == (odd, Part("box", (1, 2, 30, 40), "\ufffd"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1 of boxes.csv must name the columns path, x0, y0, x1, y1"),
        ("shelf1.png,1,2,3,4\n", "line 1 of boxes.csv must name the columns .* it lacks path, x0, y0, x1, y1"),
        ("path,x0,y0,x1\nshelf1.png,1,2,3\n", "it lacks y1"),
        ("path,x0,y0,x1,y1\nshelf1.png,1,2,3\n", "line 2 of boxes.csv must have 5 columns, .* got 4"),
        (
            "path,x0,y0,x1,y1\n\nshelf1.png,1,2,c,4\n",
            "line 3 of boxes.csv, column x1: must be a number of pixels, got 'c'",
        ),
        ("path,x0,y0,x1,y1\nshelf1.png,1,2,inf,4\n", "line 2 of boxes.csv, column x1: must be a number"),
        ("path,x0,y0,x1,y1\nshelf1.png,1,,3,4\n", "column y0: must be a number of pixels, got ''"),
        ("path,x0,y0,x1,y1\nshelf1.png,5,2,5,4\n", "column x1: the box is empty, .* got x0=5, x1=5"),
        ("path,x0,y0,x1,y1\nshelf1.png,1,4,5,2\n", "column y1: the box is empty"),
        ("path,x0,y0,x1,y1\nshelf1.png,-1,2,3,4\n", "column x0: must be at least 0, got -1"),
        (
            "path,x0,y0,x1,y1\nshelf1.png,1,2,3,4\nshelf1.png,1,2,129,4\n",
            "line 3 .*column x1: .*whose width is 128 .*129",
        ),
        ("path,x0,y0,x1,y1\nshelf1.png,1,2,3,400\n", "column y1: .*shelf1.png, whose height is 128 pixels, got 400"),
        ("path,x0,y0,x1,y1\nnone.png,1,2,3,4\n", "line 2 of boxes.csv, column path: .*got 'none.png'"),
        ("path,x0,y0,x1,y1\n,1,2,3,4\n", "column path: must name an image, got nothing"),
        ('path,x0,y0,x1,y1\n"shelf1.png,1,2,3,4\n', "line 2 of boxes.csv is not CSV"),
    ],
)
def test_boxes_that_are_refused(folder: Path, text: str, message: str) -> None:
    gallery, _ = indexed(folder, boxes={"shelf0.png": [(0, 0, 5, 5)]})
    with gallery:
        before = rows(gallery.file)
        with pytest.raises(BoxError, match=message):
            gallery.update(boxes=written(folder, text))
        assert rows(gallery.file) == before


def test_other_images_keep_their_boxes(folder: Path) -> None:
    gallery, _ = indexed(folder, boxes={"shelf0.png": [(0, 0, 5, 5), (1, 1, 9, 9)], "shelf1.png": [(0, 0, 5, 5)]})
    with gallery:
        changes = gallery.update(boxes={"shelf0.png": [(2, 2, 9, 9)], "shelf1.png": [(0, 0, 5, 5)]})
        assert (changes.changed, changes.again, changes.parts) == (1, {"parts": 1}, 2)
        found = {(Path(path).name, part) for path, part in kept_state(gallery) if part is not None}
        assert found == {("shelf0.png", Part("box", (2, 2, 9, 9))), ("shelf1.png", Part("box", (0, 0, 5, 5)))}


def test_boxes_of_what_is_left_out_or_away(folder: Path, tmp_path: Path) -> None:
    (folder / "raw").mkdir()
    fields(70).save(folder / "raw" / "a.png")
    boxes = {"raw/a.png": [(0, 0, 5, 5)], "shelf0.png": [(0, 0, 5, 5)]}
    gallery, changes = indexed(folder, boxes=boxes, exclude=["raw/"])
    with gallery:
        assert changes.parts == 1
    with Gallery(folder, PartsEncoder(), exclude=[]) as gallery:
        assert gallery.update().parts == 1
        shutil.move(folder / "raw" / "a.png", tmp_path / "a.png")  # the folder is empty: a disk may be away
        changes = gallery.update(boxes=boxes)
        assert (changes.kept, changes.parts) == (1, 1)
        shutil.move(tmp_path / "a.png", folder / "raw" / "a.png")
        changes = gallery.update()
        assert (changes.again, changes.parts) == ({"parts": 1}, 2)


def test_boxes_are_of_the_upright_image(folder: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    tall = shelf(20, 21, 22, 23).resize((128, 256), Image.Resampling.NEAREST)
    tall.transpose(Image.Transpose.ROTATE_90).save(folder / "lies.png", exif=exif)
    gallery, _ = indexed(folder, boxes={"lies.png": [(64, 128, 128, 256)]})
    with gallery:
        (best,) = gallery.search(np.asarray(fields(23)), 1)
        assert (name(best), best.distance, best.part) == ("lies.png", 0, Part("box", (64, 128, 128, 256)))
        with pytest.raises(BoxError, match="width is 128"):
            gallery.update(boxes={"lies.png": [(0, 0, 256, 128)]})


def test_small_images_and_thousands_of_boxes(folder: Path) -> None:
    Image.new("RGB", (1, 1), "blue").save(folder / "dot.png")
    many = [(x, y, x + w, y + 1) for x in range(50) for y in range(40) for w in (1, 2)]
    gallery, changes = indexed(folder, turned=True, tiles=(3, 3), boxes={"shelf0.png": many, "dot.png": [(0, 0, 1, 1)]})
    with gallery:
        assert changes.parts == 14 * 7 + 13 * 9 + 1 + len(many) + 1
        assert gallery.update().unchanged == 14
        assert len(gallery.search(folder / "shelf0.png", 14)) == 14


class NoNumbersOfBlack(PartsEncoder):
    """A network that divides by the deviation of an image's values."""

    def _both(self, image: Any, embeddings: bool) -> tuple[Any, Any]:
        return super()._both(image, embeddings) if image.pixels().any() else (None, None)


def test_a_part_of_which_a_network_makes_no_numbers_is_not_tried_again(folder: Path) -> None:
    night = Image.new("RGB", (64, 64))
    night.paste(fields(60, (20, 20)), (40, 40))
    night.save(folder / "night.png")
    encoder = NoNumbersOfBlack()
    gallery, changes = indexed(folder, encoder, tiles=(2, 2), boxes={"night.png": [(0, 0, 9, 9), (40, 40, 60, 60)]})
    with gallery:
        assert changes.parts == 13 * 5 + 2 + 1
        assert gallery.update().unchanged == 14
        (best,) = gallery.search(np.asarray(fields(60, (20, 20))), 1)
        assert (name(best), best.part) == ("night.png", Part("box", (40, 40, 60, 60)))
        assert gallery.check().damaged == []


# Adapting


@pytest.fixture
def many(tmp_path: Path) -> Path:
    return kinds(tmp_path / "kinds", 6, 20)


@pytest.fixture
def neighbourhoods(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kinds here are told apart so well that nothing is left to gain."""
    monkeypatch.setattr(adapt, "neighbourhoods_help", lambda own: Help(True, 0.5, 0.6, 0.01))


def check_neighbours(gallery: Gallery) -> None:
    """Neighbours are wholes, and of other images."""
    now = gallery._snapshots.now()
    assert now.collection is not None
    ids = now.index.ids
    near = now.collection.lists(ids).ids
    assert (near >= 0).all()
    assert not now.parts.are_in(near).any()
    for image, found in zip(now.parts.images_of(ids), near, strict=True):
        assert image not in found


@pytest.mark.usefixtures("neighbourhoods")
def test_wholes_adapt_as_they_would_without_parts(many: Path, tmp_path: Path) -> None:
    shutil.copytree(many, tmp_path / "plain")
    plain, alone = indexed(tmp_path / "plain")
    boxes = {
        path.relative_to(many).as_posix(): [(0, 0, 8, 8), (4, 4, 16, 16)] for path in sorted(many.rglob("*.png"))[:40]
    }
    gallery, together = indexed(many, turned=True, tiles=(2, 2), boxes=boxes)
    with plain, gallery:
        assert alone.adapted == together.adapted
        assert together.adapted is not None
        assert gallery.stats().fitted_on == plain.stats().fitted_on == 120
        codes = {
            Path(path).relative_to(many): code for (path, part), code in kept_state(gallery).items() if part is None
        }
        assert codes == {
            Path(path).relative_to(tmp_path / "plain"): code for (path, _), code in kept_state(plain).items()
        }
        check_neighbours(gallery)
        assert gallery.update().adapted is None


@pytest.mark.usefixtures("neighbourhoods")
def test_parts_that_come_later_change_no_whole(many: Path) -> None:
    gallery, _ = indexed(many)
    with gallery:
        before = kept_state(gallery)
    with Gallery(many, PartsEncoder(), turned=True) as gallery:
        gallery.update()
        after = kept_state(gallery)
        assert {key: code for key, code in after.items() if key[1] is None} == before
        assert len(after) == 8 * len(before)
        assert (gallery.stats().made_of or {})["coarse"] == "neighbourhood"
        check_neighbours(gallery)
        with Gallery(many, PartsEncoder(), rebuild=True) as again:
            again.update()
            anew = kept_state(again)
            assert {key: code for key, code in anew.items() if key[1] is None} == before
            assert (
                anew.keys() == after.keys()
            )  # their neighbours are now chosen among all, not among the nearest by code
            # Of the parts neighbours are now chosen among all wholes, not among the nearest by code.
            assert sum(anew[key] == after[key] for key in anew) > 0.9 * len(anew)


# Whole


@pytest.fixture
def parted(folder: Path) -> Iterator[Gallery]:
    gallery, _ = indexed(folder, turned=True, tiles=(2, 2), boxes={"shelf1.png": [(64, 0, 128, 64), (1, 2, 3, 4)]})
    with gallery:
        yield gallery


PART = "(SELECT max(id) FROM rows WHERE part LIKE 'tile%')"
BOX = "(SELECT min(id) FROM rows WHERE part LIKE 'box%')"


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        (f"UPDATE rows SET image = 1 WHERE id = {PART}", "part"),
        (f"UPDATE rows SET box = '1 0 0 5 5' WHERE id = {PART}", "part"),
        (f"UPDATE rows SET box = NULL WHERE id = {PART}", "part"),
        (f"UPDATE rows SET part = 'tile 2x3 5' WHERE id = {PART}", "part"),
        (f"UPDATE rows SET part = 'whole' WHERE id = {PART}", "part"),
        (f"UPDATE rows SET name = 'other' WHERE id = {PART}", "part"),
        (f"DELETE FROM rows WHERE id = {PART}", "part"),
        (f"UPDATE codes SET code = x'0102030405060708' WHERE row = {PART}", "code"),
        (f"UPDATE embeddings SET norm = 2.5 WHERE row = {PART}", "embedding"),
        (f"DELETE FROM codes WHERE row = {BOX}", None),
    ],
)
def test_check_knows_parts_and_repairs_them(parted: Gallery, statement: str, what: str | None) -> None:
    assert parted.check().damaged == []
    before = kept_state(parted)
    execute(parted.file, statement)
    execute(parted.file, "DELETE FROM codes WHERE row NOT IN (SELECT id FROM rows)")
    execute(parted.file, "DELETE FROM embeddings WHERE row NOT IN (SELECT id FROM rows)")
    found = parted.check()
    assert {damage.what for damage in found.damaged} == ({what} if what else set())
    if what is None:
        return
    repaired = parted.check(repair=True)
    assert repaired.repaired
    assert parted.check().damaged == []
    assert kept_state(parted) == before


def test_a_box_that_is_lost_is_said(parted: Gallery) -> None:
    execute(parted.file, f"UPDATE rows SET box = 'nonsense' WHERE id = {BOX}")
    repaired = parted.check(repair=True)
    assert repaired.repaired
    assert any("box" in note for note in repaired.notes)
    assert parted.stats().parts == 13 * 12 + 1


def test_ids_of_parts_are_no_ids_of_images(parted: Gallery, folder: Path) -> None:
    """Images that come after parts have ids of their own, and so have their wholes."""
    fields(88).save(folder / "late.png")
    parted.update()
    found = rows(parted.file)
    assert all((part == "whole") == (number == image) for number, image, _, part, _ in found)
    numbers = [number for number, *_ in found]
    assert len(numbers) == len({*numbers})
    late = parted.id_of("late.png")
    assert late is not None
    assert late > max(number for number, image, *_ in found if image != late)
    parted.forget("late.png")
    parted.forget("shelf1.png", undo=False)
    assert parted.stats().parts == 12 * 12
    fields(89).save(folder / "later.png")
    parted.update()
    assert parted.id_of("later.png") not in numbers


def test_a_second_gallery_sees_parts_come_and_go(folder: Path, product: Path) -> None:
    gallery, _ = indexed(folder)
    with gallery, Gallery(folder, PartsEncoder()) as other:
        for wishes in itertools.chain([{"tiles": (2, 2)}, {"tiles": ()}, {"turned": True}, {"turned": False}] * 2):
            with Gallery(folder, PartsEncoder(), **wishes) as changing:
                changing.update()
                assert kept_state(other) == kept_state(changing)
                assert other.search(product) == changing.search(product)

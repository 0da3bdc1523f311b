"""Copies among the images of a gallery, against another, and those of one image."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from galleries import EmbeddingEncoder, PartsEncoder, execute
from PIL import Image
from scenes import cropped, on_a_screen, recompressed, scaled, scene

from pyhash import Gallery
from pyhash.copies import Duplicates
from pyhash.copies.finding.prover import Prover
from pyhash.encoder import Encoded
from pyhash.gallery import Match
from pyhash.gallery.stocking import compared_file
from pyhash.images import Views, opened


class SightedEncoder(PartsEncoder):
    """A `PartsEncoder` that gives looks and thumbnails, too."""

    def stream(
        self,
        sources: Iterable[Any],
        batch_size: int = 8,
        embeddings: bool = False,
        views: Iterable[Views] | None = None,
        looks: bool = False,
    ) -> Iterator[Encoded]:
        for encoded in super().stream(sources, batch_size, embeddings, views):
            if encoded.error is None and looks:
                with opened(encoded.source) as image:
                    encoded = dataclasses.replace(encoded, look=image.look(), thumbnail=image.thumbnail())
            yield encoded


def put(folder: Path, **images: Image.Image) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, image in images.items():
        image.save(folder / f"{name}.png")
    return folder


def filled(folder: Path, fingerprint: str = "s" * 16) -> Gallery:
    gallery = Gallery(folder, SightedEncoder(fingerprint))
    gallery.update()
    return gallery


def names(found: Duplicates) -> list[list[str]]:
    return sorted(sorted(Path(copy.path).stem for copy in group.images) for group in found.groups)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six scenes, and copies of two of them."""
    scenes = {f"s{n}": scene(n) for n in range(6)}
    return put(tmp_path / "images", **scenes, half=scaled(0.5)(scene(0)), jpeg=recompressed(scene(1), 50))


def test_groups_say_what_each_image_is(folder: Path) -> None:
    with filled(folder) as gallery:
        found = gallery.duplicates()
        assert names(found) == [["half", "s0"], ["jpeg", "s1"]]
        assert (found.images, found.uncompared, found.away) == (8, (), 0)
        best, copy = found.groups[0].images
        assert (best.path, best.relation, copy.relation) == (os.fspath(folder / "s0.png"), "best", "changed")
        assert [gallery.path(image.id or 0) for image in (best, copy)] == [best.path, copy.path]


def test_without_looks_files_are_looked_at(folder: Path) -> None:
    with Gallery(folder, EmbeddingEncoder()) as gallery:
        gallery.update()
        assert names(gallery.duplicates()) == [["half", "s0"], ["jpeg", "s1"]]
        (folder / "s3.png").unlink()
        found = gallery.duplicates()
        assert names(found) == [["half", "s0"], ["jpeg", "s1"]]
        assert [Path(one.path).name for one in found.uncompared] == ["s3.png"]


def test_what_is_away_is_compared_by_what_is_kept(folder: Path, tmp_path: Path) -> None:
    with filled(folder) as gallery:
        folder.rename(tmp_path / "away")
        (tmp_path / "images" / ".pyhash").mkdir(parents=True)
        found = gallery.duplicates()
        assert names(found) == [["half", "s0"], ["jpeg", "s1"]]
        assert found.away == 4
        assert all(copy.away and copy.width is None for group in found.groups for copy in group.images)


def test_a_thumbnail_that_is_none_is_made_again(folder: Path) -> None:
    with filled(folder) as gallery:
        execute(gallery.file, "DELETE FROM thumbnails")
        assert names(gallery.duplicates()) == [["half", "s0"], ["jpeg", "s1"]]


def test_what_changed_or_could_not_be_read_is_named(folder: Path) -> None:
    (folder / "bad.png").write_bytes(b"no image")
    with filled(folder) as gallery:
        scene(9).save(folder / "half.png")
        found = gallery.duplicates()
        assert names(found) == [["jpeg", "s1"]]
        assert [Path(one.path).name for one in found.uncompared] == ["bad.png", "half.png"]


def test_what_was_told_apart_is_in_no_group(folder: Path) -> None:
    with filled(folder) as gallery:
        gallery.not_duplicates("s0.png", "half.png")
        assert names(gallery.duplicates()) == [["jpeg", "s1"]]


def test_some_images_alone(folder: Path) -> None:
    put(folder / "sub", turned=scene(2).transpose(Image.Transpose.ROTATE_90), again=scaled(0.7)(scene(0)))
    with filled(folder) as gallery:
        assert names(gallery.duplicates(turned=True)) == [["again", "half", "s0"], ["jpeg", "s1"], ["s2", "turned"]]
        assert names(gallery.duplicates(where=[folder / "s0.png", folder / "sub"])) == [["again", "s0"]]


def test_against_a_folder_of_the_gallery(folder: Path) -> None:
    put(folder / "sub", again=scaled(0.7)(scene(0)), twice=scaled(0.7)(scene(0)), other=scene(7))
    with filled(folder) as gallery:
        found = gallery.duplicates(against=folder / "sub")
        assert names(found) == [["again", "half", "s0", "twice"]]  # not jpeg and s1
        references = {Path(copy.path).stem for group in found.groups for copy in group.images if copy.reference}
        assert references == {"again", "twice"}


@pytest.mark.parametrize("fingerprint", ["s" * 16, "t" * 16], ids=["same encoder", "another encoder"])
def test_against_another_gallery(folder: Path, tmp_path: Path, fingerprint: str) -> None:
    archive = put(tmp_path / "archive", a=scaled(0.8)(scene(0)), b=scaled(0.7)(scene(0)), c=scene(8))
    shutil.copy(folder / "s5.png", archive / "same.png")
    with filled(folder) as gallery, filled(archive, fingerprint) as other:
        found = gallery.duplicates(against=other)
        assert names(found) == [["a", "b", "half", "s0"], ["s5", "same"]]
        for copy in (copy for group in found.groups for copy in group.images):
            assert copy.reference == copy.path.startswith(os.fspath(archive))
            assert (copy.id is None) == copy.reference
        assert names(other.duplicates()) == [["a", "b"]]


def test_neighbours_in_another_gallery_bring_candidates(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look of a part is not near that of the image."""
    monkeypatch.setattr("pyhash.copies.finding.candidates._FEW", 0)  # so few images are all compared
    archive = put(tmp_path / "archive", part=cropped(0.4, 1, 0)(scene(0)), c=scene(8))
    with filled(folder) as gallery, filled(archive) as same:
        assert names(gallery.duplicates(against=same, cropped=True)) == [["half", "part", "s0"]]
    shutil.rmtree(archive / ".pyhash")
    with Gallery(folder) as gallery, filled(archive, "t" * 16) as other:
        assert names(gallery.duplicates(against=other, cropped=True)) == []


def test_copies_of_one_image(folder: Path, tmp_path: Path) -> None:
    put(folder, screen=on_a_screen(scene(2)))
    new = put(tmp_path / "new", a=scaled(0.6)(scene(0)), part=cropped(0.3)(scene(3)), none=scene(11))
    with filled(folder) as gallery:

        def stems(image: Any, **options: bool) -> list[str]:
            return [Path(copy.path).stem for copy in gallery.duplicates_of(image, **options)]

        assert sorted(stems(new / "a.png")) == ["half", "s0"]
        assert stems(new / "none.png") == []
        assert stems(folder / "s0.png") == ["half"]  # not itself
        assert stems((folder / "s0.png").read_bytes()) == ["s0", "half"]
        assert stems(new / "part.png") == []
        assert stems(new / "part.png", cropped=True) == ["s3"]
        assert stems(scene(4).transpose(Image.Transpose.ROTATE_90), turned=True) == ["s4"]
        assert stems(scene(2)) == ["s2", "screen"]
        (folder / "s5.png").unlink()  # of it a thumbnail is kept
        assert stems(scene(5)) == ["s5"]


# What came of comparisons


def prove_calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pairs each call really compares."""
    calls: list[int] = []
    real = Prover._compare

    def counting(self: Prover, one: int, others: Any, turns: Any) -> Any:
        calls.append(len(others))
        return real(self, one, others, turns)

    monkeypatch.setattr(Prover, "_compare", counting)
    return calls


def test_what_was_compared_is_not_compared_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(folder, crop=cropped(0.3)(scene(3)))
    calls = prove_calls(monkeypatch)
    with filled(folder) as gallery:
        before = gallery.duplicates(similar=True)
        assert sum(calls) > 20
        calls.clear()
        assert gallery.duplicates(similar=True) == before
        assert sum(calls) == 0
        assert names(gallery.duplicates(cropped=True)) == [["crop", "s3"], ["half", "s0"], ["jpeg", "s1"]]
        assert sum(calls) > 20  # another question
        calls.clear()
        put(folder, new=scaled(0.7)(scene(4)))
        gallery.update()
        assert names(gallery.duplicates()) == [["half", "s0"], ["jpeg", "s1"], ["new", "s4"]]
        assert 0 < sum(calls) <= 10  # the new one with the others


def test_a_search_that_was_stopped_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(done: int, total: int) -> None:
        if done >= total // 2 > 0:
            raise KeyboardInterrupt

    calls = prove_calls(monkeypatch)
    with filled(folder) as gallery:
        with pytest.raises(KeyboardInterrupt):
            gallery.duplicates(progress=stop)
        first = sum(calls)
        assert names(gallery.duplicates()) == [["half", "s0"], ["jpeg", "s1"]]
        again = sum(calls) - first
        calls.clear()
        with Gallery(folder) as whole:
            compared_file(whole.file).unlink()
            assert names(whole.duplicates()) == [["half", "s0"], ["jpeg", "s1"]]
        assert 0 < again < sum(calls)


def test_what_is_kept_is_not_believed_where_it_is_damaged(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with filled(folder) as gallery:
        before = gallery.duplicates()
        file = compared_file(gallery.file)
        calls = prove_calls(monkeypatch)
        for damage in (
            "UPDATE compared SET outcome = X'' WHERE outcome <> X''",
            "UPDATE compared SET checksum = checksum + 1",
            "UPDATE about SET engine = 'another'",
        ):
            execute(file, damage)
            calls.clear()
            assert gallery.duplicates() == before
            assert sum(calls) > 0, damage
        calls.clear()
        file.write_bytes(file.read_bytes()[:16] + b"x" * 5000)
        assert gallery.duplicates() == before
        assert sum(calls) > 20
        calls.clear()
        assert gallery.duplicates() == before
        assert sum(calls) == 0
        file.write_bytes(b"something else")
        assert gallery.duplicates() == before
        assert file.read_bytes() == b"something else"
        file.unlink()
        file.mkdir()
        assert gallery.duplicates() == before


def test_what_is_away_is_compared_again_when_it_is_back(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with filled(folder) as gallery:
        (folder / "half.png").rename(folder / "half.away")
        calls = prove_calls(monkeypatch)
        assert [copy.away for copy in gallery.duplicates().groups[0].images] == [False, True]
        (folder / "half.away").rename(folder / "half.png")
        calls.clear()
        assert [copy.away for copy in gallery.duplicates().groups[0].images] == [False, False]
        assert 0 < sum(calls) <= 2  # in one order, or in both


def test_what_was_forgotten_is_in_no_file(folder: Path) -> None:
    with filled(folder) as gallery:
        gallery.duplicates()
        assert compared_file(gallery.file).exists()
        assert os.fspath(compared_file(gallery.file)) in gallery.stats().files
        gallery.forget(folder / "half.png")
        assert not compared_file(gallery.file).exists()


# Distinct answers


def shown(matches: list[Match]) -> list[tuple[str, int | None]]:
    return [(Path(match.path).stem, match.copies) for match in matches]


def test_one_image_stands_for_its_copies(folder: Path) -> None:
    put(folder, **{f"copy{n}": scaled(0.6 + 0.05 * n)(scene(0)) for n in range(5)})
    with filled(folder) as gallery:
        plain = gallery.search(folder / "s0.png", 9)
        assert {stem for stem, _ in shown(plain)[:7]} == {"s0", "half", *(f"copy{n}" for n in range(5))}
        assert {copies for _, copies in shown(plain)} == {None}
        found = gallery.search(folder / "s0.png", 3, distinct=True)  # twice three are all copies but for one
        assert shown(found)[0] == ("s0", 6)
        assert [match._replace(copies=None) for match in found[1:]] == plain[7:]
        first = gallery.search([folder / "s0.png", folder / "s1.png"], 1, distinct=True)
        assert [*map(shown, first)] == [[("s0", 6)], [("s1", 1)]]
        whole = gallery.search(folder / "s5.png", 99, distinct=True)
        assert sorted(stem for stem, copies in shown(whole) if not copies) == ["s2", "s3", "s4", "s5"]
        assert len(whole) == 6
        assert shown(gallery.search([scene(0)], 2, distinct=True, exclude=["s0.png"])[0])[0][1] == 6
        assert shown(gallery.search([folder / "s0.png"], 1, together=True, distinct=True)) == [("s0", 6)]


def test_what_was_told_apart_stands_for_itself(folder: Path) -> None:
    with filled(folder) as gallery:
        assert shown(gallery.search(folder / "s0.png", 1, distinct=True)) == [("s0", 1)]
        gallery.not_duplicates("s0.png", "half.png")
        assert dict(shown(gallery.search(folder / "s0.png", 9, distinct=True)))["half"] == 0


def test_distinct_answers_need_a_number(folder: Path) -> None:
    with filled(folder) as gallery:
        for wrong in (0, "3", 2.5):
            with pytest.raises((TypeError, ValueError), match="k must be"):
                gallery.search(folder / "s0.png", wrong, distinct=True)  # type: ignore[call-overload]

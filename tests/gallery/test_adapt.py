"""Galleries that adapt to their images: what is found, and that the outcome is the same however often it was killed."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from galleries import EmbeddingEncoder, FakeEncoder, kinds, picture
from tuning import tune

from pyhash import Gallery
from pyhash.errors import GalleryError, LabelError
from pyhash.gallery import Match, adapt, store
from pyhash.heads import CollectionHead
from pyhash.ranking import Help


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return kinds(tmp_path / "photos", 6, 20)


@pytest.fixture(autouse=True)
def _neighbourhoods_help(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kinds here are told apart so well that nothing is left to gain."""
    monkeypatch.setattr(adapt, "neighbourhoods_help", lambda own: Help(True, 0.5, 0.6, 0.01))


def state(file: Path) -> dict[str, Any]:
    """What a gallery has come to, by paths: codes, neighbours and the head."""
    db = sqlite3.connect(file)
    try:
        paths = dict(db.execute("SELECT rows.id, path FROM rows JOIN images ON images.id = image"))
        lists = {
            paths[row]: ([paths.get(n) for n in np.frombuffer(ids, np.int64).tolist()], weights)
            for row, ids, weights in db.execute("SELECT row, ids, weights FROM neighbours")
        }
        codes = {paths[row]: code for row, code in db.execute("SELECT row, code FROM codes")}
        vectors = {paths[row]: rest for row, *rest in db.execute("SELECT row, vector, norm FROM embeddings")}
        heads = db.execute("SELECT levels, matrix, fitted_on FROM heads").fetchall()
    finally:
        db.close()
    return {"lists": lists, "codes": codes, "vectors": vectors, "heads": heads}


def kind(match: Match) -> str:
    return Path(match.path).parent.name


def test_an_index_of_a_hundred_adapts(folder: Path) -> None:
    with Gallery(folder, EmbeddingEncoder()) as gallery:
        changes = gallery.update()
        assert changes.adapted is not None
        assert (changes.adapted.images, changes.adapted.refitted) == (120, True)
        assert gallery.levels == {"coarse": 16, "fine": 48}
        now = state(gallery.file)
        assert len(now["codes"]) == len(now["lists"]) == len(now["vectors"]) == 120
        ((_, matrix, fitted_on),) = now["heads"]
        assert fitted_on == 120
        head = CollectionHead.from_bytes(matrix)
        assert head.made_of == {"coarse": "neighbourhood", "fine": "own"}
        assert gallery.update().adapted is None  # there is nothing to do
        assert state(gallery.file) == now
        for options in ({}, {"level": "coarse"}, {"level": "fine"}, {"rescore": False}):
            answers = gallery.search([*gallery], 6, **options)
            assert np.mean([kind(m) == kind(answer[0]) for answer in answers for m in answer]) > 0.9
    encoder = EmbeddingEncoder()
    with Gallery(folder, encoder) as gallery:  # from the file
        assert gallery.search([*gallery], 6, rescore=False) == answers
        assert gallery.update().unchanged == 120
        assert gallery.search_codes(gallery.index.codes(gallery.index.ids), 1)[0][0].distance == 0


def test_few_images_are_left_with_the_encoders_codes(tmp_path: Path) -> None:
    folder = kinds(tmp_path / "photos", 3, 10)
    encoder = EmbeddingEncoder()
    with Gallery(folder, encoder) as gallery:
        assert gallery.update().adapted is None
        for path in gallery:
            assert gallery[path].tolist() == encoder.encode(path).tolist()
            first = gallery.search(path, 3)[0]
            assert (first.path, first.distance) == (path, 0)
            assert first.similarity == pytest.approx(1, abs=1e-12)


def test_similarity_is_the_mix_of_cosines(folder: Path) -> None:
    with Gallery(folder, EmbeddingEncoder()) as gallery:
        gallery.update()
        query = folder / "kind1" / "003.png"
        now = gallery._snapshots.now()
        assert now.collection is not None
        ids, places = now.index.ids, np.arange(120)
        (here,) = np.flatnonzero(now.index.ids == gallery.id_of(query))
        parts = {}
        of_all = {"fine": now.collection.take("own", ids), "coarse": now.collection.neighbourhoods(ids)}
        for name, rows in of_all.items():
            values = rows.vectors.astype(np.float64)
            parts[name] = values @ values[here] / np.linalg.norm(values, axis=1) / np.linalg.norm(values[here])
        for shares in ({"coarse": 1, "fine": 1}, {"coarse": 2.5, "fine": 0.5}, {"coarse": 1}, {"fine": 7}):
            total = sum(shares.values())
            mix = sum(share * parts[name] for name, share in shares.items()) / total
            order = sorted(places, key=lambda p: (-round(mix[p], 12), -round(parts["fine"][p], 12), p))[:30]
            found = gallery.search(query, 30, weights=shares)
            assert [m.id for m in found] == now.index.ids[order].tolist()
            np.testing.assert_allclose([m.similarity for m in found], mix[order], atol=1e-12)
            if len(shares) == 1:
                alone = gallery.search(query, 30, level=next(iter(shares)))
                assert [m[:3] for m in found] == [m[:3] for m in alone]
        assert gallery.search(query, 30) == gallery.search(query, 30, weights={"coarse": 4, "fine": 4})


def test_weights_may_be_as_large_or_small_as_a_number_can_be(folder: Path) -> None:
    with Gallery(folder, EmbeddingEncoder()) as gallery:
        gallery.update()
        query = folder / "kind1" / "003.png"
        for one in (1e308, 1e-320, sys.float_info.max):
            found = gallery.search(query, 30, weights={"coarse": one, "fine": one})
            alike = gallery.search(query, 30)
            assert [m[:3] for m in found] == [m[:3] for m in alike]
            assert [m.similarity for m in found] == pytest.approx([m.similarity for m in alike], abs=1e-12)
        with pytest.raises(ValueError, match="at least 0 and finite"):
            gallery.search(query, weights={"coarse": 10**400, "fine": 1})


def test_what_each_query_leaves_out_is_said_for_each(folder: Path) -> None:
    with Gallery(folder, EmbeddingEncoder()) as gallery:
        gallery.update()
        a, b = folder / "kind1" / "003.png", folder / "kind1" / "004.png"
        with pytest.raises(ValueError, match="exclude must have one entry a query: 2, got 1"):
            gallery.search([a, b], exclude=[a])
        with pytest.raises(TypeError, match="exclude must be a sequence"):
            gallery.search([a, b], exclude="ab")
        with pytest.raises(ValueError, match="exclude must have one entry a query: 1, got 2"):
            gallery.search_codes(gallery[a][None], exclude=[a, b])
        with pytest.raises(ValueError, match="codes must have shape"):
            gallery.search_codes(gallery[a])


def test_more_bits_than_a_code_can_have_are_refused_before_they_are_remembered(folder: Path) -> None:
    with pytest.raises(ValueError, match="at most 65536 bits"):
        Gallery(folder, EmbeddingEncoder(), levels=1_000_000).update()
    with Gallery(folder, EmbeddingEncoder()) as gallery:
        gallery.update()
        with pytest.raises(ValueError, match="at most 65536 bits"):
            gallery.fit(levels=1_000_000)


def test_without_embeddings_a_copy_still_comes_first(folder: Path) -> None:
    with Gallery(folder, EmbeddingEncoder()) as gallery:
        gallery.update()
        assert "neighbourhood" in (gallery.stats().made_of or {}).values()
    with Gallery(folder, EmbeddingEncoder(), embeddings=False) as gallery:
        gallery.update()
        assert gallery.stats().embeddings == 0
        for path in [*gallery][::7]:
            for level in (None, "coarse", "fine"):
                first = gallery.search(path, 1, level=level)[0]
                assert (first.path, first.distance) == (path, 0)


def test_a_copy_comes_first_at_every_level_and_weight(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "kind2" / "007.png", tmp_path / "copy.png")
    with Gallery(folder, EmbeddingEncoder()) as gallery:
        gallery.update()
        options: list[dict[str, Any]] = [{"level": level, "rescore": r} for level in ("coarse", "fine") for r in (0, 1)]
        options += [{"weights": {"coarse": a, "fine": b}} for a, b in ((1, 1), (1, 9), (9, 1), (0.1, 3.7))]
        for chosen in options:
            first = gallery.search(tmp_path / "copy.png", 3, **chosen)[0]
            assert (first.path, first.distance) == (os.fspath(folder / "kind2" / "007.png"), 0), chosen
            assert first.similarity is None or first.similarity == pytest.approx(1, abs=1e-12)
        (folder / "kind2" / "007.png").write_bytes((folder / "kind3" / "001.png").read_bytes())
        assert Path(gallery.search(tmp_path / "copy.png", 1)[0].path).parent.name == "kind2"  # before it is noticed
        gallery.update()
        twins = gallery.search(folder / "kind3" / "001.png", 2, level="fine")
        assert {m.path for m in twins} == {
            os.fspath(folder / "kind2" / "007.png"),
            os.fspath(folder / "kind3" / "001.png"),
        }
        assert [m.distance for m in twins] == [0, 0]


def test_what_came_since_has_neighbours_at_once_and_a_refit_when_there_are_four_times_as_many(folder: Path) -> None:
    with Gallery(folder, EmbeddingEncoder()) as gallery:
        gallery.update()
        before = state(gallery.file)
        kinds(folder, 6, 2, start=20)
        changes = gallery.update()
        assert changes.adapted is not None
        assert (changes.adapted.images, changes.adapted.refitted) == (12, False)
        after = state(gallery.file)
        assert after["heads"] == before["heads"]
        assert {path: after["codes"][path] for path in before["codes"]} == before["codes"]
        assert len(after["lists"]) == 132
        for path, (near, _) in after["lists"].items():
            assert sum(n.split(b"/")[0] == path.split(b"/")[0] for n in near) >= 8
        kinds(folder, 6, 58, start=22)
        changes = gallery.update()
        assert changes.adapted is not None
        assert (changes.adapted.images, changes.adapted.refitted) == (480, True)
        assert state(gallery.file)["heads"][0][2] == 480


def test_neighbours_of_what_has_changed_or_gone_are_found_anew(folder: Path) -> None:
    with Gallery(folder, EmbeddingEncoder()) as gallery:
        gallery.update()
        (folder / "kind0" / "000.png").unlink()
        shutil.copy(folder / "kind5" / "000.png", folder / "kind0" / "001.png")
        gallery.update()
        after = state(gallery.file)
        for path, (near, _) in after["lists"].items():
            assert None not in near
            if path.startswith(b"kind0") and path != b"kind0/001.png":
                assert b"kind0/001.png" not in near
        assert all(n.startswith(b"kind5") for n in after["lists"][b"kind0/001.png"][0])
        with Gallery(folder, EmbeddingEncoder()) as other:  # what was changed step by step is what the file holds
            for level in ("coarse", "fine"):
                assert other.search([*other], 5, level=level) == gallery.search([*gallery], 5, level=level)


class Killed(BaseException):
    """As a process that is killed: nothing of the transaction it is in comes to pass."""


def runs(
    folder: Path, changes: list[Any], patch: pytest.MonkeyPatch, kill_at: int | None, after: bool
) -> dict[str, Any]:
    """Make the changes with an update after each; kill the one in which a transaction has this number."""
    writing, count = store.GalleryFile.writing, 0

    @contextmanager
    def counted(self: Any, *arguments: Any, **options: Any) -> Iterator[None]:
        nonlocal count
        count += 1
        dies = count == kill_at
        with writing(self, *arguments, **options):
            yield
            if dies and not after:
                raise Killed
        if dies:
            raise Killed

    patch.setattr(store.GalleryFile, "writing", counted)
    for change in changes:
        change(folder)
        for _ in range(2):
            try:
                with Gallery(folder, EmbeddingEncoder()) as gallery:
                    gallery.update()
                break
            except Killed:
                with Gallery(folder, EmbeddingEncoder()) as gallery:
                    if len(gallery):
                        gallery.search(next(iter(gallery)), 3)  # an answer in between
    outcome = state(folder / ".pyhash" / "gallery.sqlite")
    return outcome | {"n": count}


def replace_and_remove(folder: Path) -> None:
    (folder / "kind1" / "003.png").unlink()
    picture(folder / "kind2" / "002.png", 77, size=(40, 40))


CHANGES = [
    lambda folder: kinds(folder, 3, 10),
    lambda folder: kinds(folder, 3, 2, start=10),
    replace_and_remove,
    lambda folder: kinds(folder, 3, 29, start=12),
]


@pytest.mark.parametrize("after", [False, True])
def test_killed_at_any_transaction_the_outcome_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    tune(monkeypatch, few_images=24, commit_images=20)
    with monkeypatch.context() as patch:
        whole = runs(tmp_path / "whole", CHANGES, patch, None, after)
    n = whole.pop("n")
    assert n > 12
    for kill_at in range(1, n + 1):
        folder = tmp_path / f"killed-{kill_at}"
        with monkeypatch.context() as patch:
            outcome = runs(folder, CHANGES, patch, kill_at, after)
        assert outcome.pop("n") > n - 2
        assert outcome == whole, kill_at
        shutil.rmtree(folder)


def test_an_encoder_without_embeddings_makes_codes_only(folder: Path) -> None:
    with Gallery(folder, FakeEncoder()) as gallery:
        assert gallery.update().adapted is None
        assert state(gallery.file)["vectors"] == {}
        assert all(m.similarity is None for m in gallery.search(folder / "kind0" / "000.png"))


def test_a_gallery_without_embeddings_gets_them_at_the_next_update(folder: Path) -> None:
    with Gallery(folder, FakeEncoder("e" * 16, "embedding")) as gallery:
        gallery.update()
        before = gallery.search(folder / "kind0" / "000.png")
    encoder = EmbeddingEncoder()
    with Gallery(folder, encoder) as gallery:
        assert gallery.search(folder / "kind0" / "000.png") == before  # until then by codes
        encoder.seen.clear()
        changes = gallery.update()
        assert (changes.changed, changes.again, len(encoder.seen)) == (120, {"embeddings": 120}, 120)
        assert changes.adapted is not None
        assert gallery.search(folder / "kind0" / "000.png")[0].similarity == pytest.approx(1)


def test_several_examples_are_one_query(folder: Path) -> None:
    with Gallery(folder, EmbeddingEncoder()) as gallery:
        gallery.update()
        a, b, c = (folder / f"kind{number}" / "000.png" for number in (0, 1, 2))
        for options in ({}, {"level": "coarse"}, {"level": "fine"}, {"weights": {"coarse": 1, "fine": 3}}):
            both = gallery.search([a, b], 40, together=True, exclude=[a, b], **options)
            assert [kind(m) in ("kind0", "kind1") for m in both] == [True] * 38 + [False] * 2
            assert not {os.fspath(a), os.fspath(b)} & {m.path for m in both}
            less = gallery.search([a, b], 20, together=True, without=[b], **options)
            assert {kind(m) for m in less[:8]} == {"kind0"}
        with pytest.raises(ValueError, match="without needs together=True"):
            gallery.search([a], without=[c])
        assert [m.path for m in gallery.search([a], 5, together=True)] == [m.path for m in gallery.search(a, 5)]


def test_a_head_of_labels_tells_them_apart_and_stays(folder: Path) -> None:
    for path in sorted(folder.rglob("*.png")):  # two groups that cut through the kinds
        group = "even" if int(path.stem) % 2 else "odd"
        (folder / path.parent.name / group).mkdir(exist_ok=True)
        path.rename(folder / path.parent.name / group / path.name)
    with Gallery(folder, EmbeddingEncoder()) as gallery:
        gallery.update()
        seen = len(gallery.encoder.seen)
        adapted = gallery.fit("folders")
        assert (adapted.images, adapted.refitted) == (120, True)
        assert len(gallery.encoder.seen) == seen  # no image was opened
        assert gallery.stats().made_of == {"coarse": "labels", "fine": "labels"}
        kinds(folder, 6, 90, start=1000)
        for kind_folder in folder.iterdir():
            for path in kind_folder.glob("*.png"):
                path.rename(kind_folder / "odd" / path.name)
        assert gallery.update().adapted is not None
        assert gallery.stats().made_of == {"coarse": "labels", "fine": "labels"}  # though there are many more
        assert gallery.stats().fitted_on == 120
        first = gallery.search(folder / "kind0" / "odd" / "1001.png", 1, rescore=False)[0]
        assert first.distance == 0
        ids = gallery.index.ids
        names = np.array([Path(path).parent.name for path in gallery])
        gallery.fit({"coarse": names})
        assert gallery.stats().made_of == {"coarse": "labels", "fine": "own"}
        gallery.fit(levels=32)
        assert gallery.stats().made_of == {"coarse": "neighbourhood", "fine": "own"}
        assert gallery.levels == {"coarse": 8, "fine": 24}
        assert gallery.update().adapted is None  # the levels are remembered
        assert gallery.index.ids.tolist() == ids.tolist()
        with pytest.raises(ValueError, match="labels"):
            gallery.fit(["a", "b"])


def test_labels_of_a_file_may_be_of_some_images(folder: Path, tmp_path: Path) -> None:
    lines = [f"kind{number % 2}/{number:03}.png,{'ab'[number % 2]}" for number in range(20)]
    (tmp_path / "labels.csv").write_text("path,fine\n" + "\n".join(lines))
    (folder / "kind0" / "000.png").rename(tmp_path / "elsewhere.png")
    (folder / "kind0" / "000.png").symlink_to(tmp_path / "elsewhere.png")
    with Gallery(folder, EmbeddingEncoder()) as gallery:
        gallery.update()
        assert gallery.fit(tmp_path / "labels.csv").images == 120
        codes = gallery.index.codes(gallery.index.ids)
        (tmp_path / "labels.csv").write_text("path,label\n" + "\n".join(lines))  # whatever the only column is called
        gallery.fit(tmp_path / "labels.csv")
        np.testing.assert_array_equal(gallery.index.codes(gallery.index.ids), codes)
        assert gallery.stats().fitted_on == 20
        (tmp_path / "labels.csv").write_text("path,fine\n/elsewhere/a.png,a\n/elsewhere/b.png,b")
        with pytest.raises(LabelError, match="names none of them"):
            gallery.fit(tmp_path / "labels.csv")


def test_what_the_user_wants_is_remembered(folder: Path) -> None:
    with Gallery(folder, EmbeddingEncoder(), adapt=False) as gallery:
        assert gallery.update().adapted is None
        assert gallery.stats().embeddings == 120
    with Gallery(folder, EmbeddingEncoder()) as gallery:
        assert gallery.update().adapted is None
    with Gallery(folder, EmbeddingEncoder(), adapt=True, levels=128) as gallery:
        gallery.update()
        assert gallery.levels == {"coarse": 32, "fine": 96}
    with Gallery(folder, EmbeddingEncoder()) as gallery:
        assert gallery.update().adapted is None
    shown = state(folder / ".pyhash" / "gallery.sqlite")["codes"]
    with Gallery(folder, EmbeddingEncoder(), embeddings=False) as gallery:
        kinds(folder, 1, 1, start=20)
        gallery.update()
        assert gallery.stats().embeddings == 0
        now = state(gallery.file)
        assert now["lists"] == {}
        assert {path: now["codes"][path] for path in shown} == shown
        found = gallery.search(folder / "kind0" / "020.png", 5)
        assert {kind(m) for m in found} == {"kind0"}
        assert [m.similarity for m in found] == [None] * 5
        with pytest.raises(GalleryError, match="no embedding of every image"):
            gallery.fit()
    with (
        Gallery(kinds(folder.parent / "other", 1, 2), FakeEncoder(), levels=128) as gallery,
        pytest.raises(GalleryError, match=r"leave levels \(--bits\) out"),
    ):
        gallery.update()
    for bits in (8, 20):
        with pytest.raises(ValueError, match="levels must be"):
            Gallery(folder, EmbeddingEncoder(), levels=bits)


def test_images_that_are_all_alike_are_left_alone(tmp_path: Path) -> None:
    for number in range(110):
        picture(tmp_path / "photos" / f"{number}.png", 5)
    with Gallery(tmp_path / "photos", EmbeddingEncoder()) as gallery:
        assert gallery.update().adapted is None
        assert len(gallery.search(tmp_path / "photos" / "7.png", 5)) == 5


def test_neighbourhoods_that_do_not_help_are_not_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for answer, why in (
        (Help(False, 0.5, 0.4, 0.01), "precision of 0.500 by themselves, 0.400 by neighbourhoods"),
        (Help(False, np.nan, np.nan, np.nan), "too few to say"),
    ):
        monkeypatch.setattr(adapt, "neighbourhoods_help", lambda own, answer=answer: answer)
        with Gallery(folder, EmbeddingEncoder(), rebuild=True) as gallery:
            gallery.update()
            stats = gallery.stats()
            assert stats.made_of == {"coarse": "own", "fine": "own"}
            assert why in str(stats.why_own)
            assert len(state(gallery.file)["lists"]) == 120  # duplicates are looked for among them
            for level in ("coarse", "fine"):
                found = gallery.search(folder / "kind1" / "004.png", 9, level=level)
                assert [m.similarity for m in found] == [m.similarity for m in gallery.search(found[0].path, 9)]


def test_an_update_with_nothing_to_do_loads_no_row(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Gallery(folder, EmbeddingEncoder()) as gallery:
        gallery.update()
    monkeypatch.delattr(store.GalleryFile, "rows")
    with Gallery(folder, EmbeddingEncoder()) as gallery:
        assert gallery.update().unchanged == 120


def test_searched_by_threads_while_it_grows_and_is_fitted_again(folder: Path) -> None:
    errors: list[BaseException] = []
    done = threading.Event()
    with Gallery(folder, EmbeddingEncoder()) as gallery:
        gallery.update()
        query = folder / "kind1" / "004.png"

        def ask() -> None:
            try:
                while not done.is_set():
                    for level in (None, "coarse", "fine"):
                        found = gallery.search(query, 5, level=level)
                        assert found[0].path == os.fspath(query)
                        assert found[0].distance == 0
                        assert {kind(m) for m in found} == {"kind1"}
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            for start in range(20, 40, 5):
                kinds(folder, 6, 5, start=start)
                gallery.update()
                (folder / "kind2" / f"{start:03}.png").unlink()
                gallery.fit()
        finally:
            done.set()
            for thread in threads:
                thread.join()
    assert errors == []


@pytest.mark.parametrize(
    "statement",
    ['UPDATE heads SET levels = \'{"coarse": 24, "fine": 8}\'', "UPDATE heads SET fitted_on = 'a'"],
)
def test_what_is_noted_of_a_head_must_go_with_it(folder: Path, statement: str) -> None:
    with Gallery(folder, EmbeddingEncoder(), levels=32) as gallery:
        gallery.update()
        file = gallery.file
    database = sqlite3.connect(file)
    database.execute(statement)
    database.commit()
    database.close()
    with pytest.raises(GalleryError, match="damaged"), Gallery(folder, EmbeddingEncoder()) as gallery:
        gallery.search(folder / "kind0" / "000.png", 1)

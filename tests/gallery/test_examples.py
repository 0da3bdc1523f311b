"""Images that are encoded once, to be searched with several times."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from galleries import EmbeddingEncoder, FakeEncoder, kinds, picture

from pyhash import Gallery, GalleryMismatchError
from pyhash.gallery import Examples


@pytest.fixture(params=[FakeEncoder, EmbeddingEncoder], ids=["codes", "embeddings"])
def gallery(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Five kinds of images, eight each."""
    with Gallery(kinds(tmp_path / "images", 5, 8), request.param()) as filled:
        filled.update()
        yield filled


def test_they_find_what_their_images_find(gallery: Gallery, tmp_path: Path) -> None:
    new = tmp_path / "new.png"
    picture(new, 99)
    images = [new, *sorted(map(Path, gallery))[:5]]
    examples = gallery.examples(images)
    assert len(examples) == 6
    for options in ({}, {"level": "fine"}, {"weights": {"coarse": 3, "fine": 1}}, {"rescore": False}):
        assert gallery.search(examples, 7, **options) == gallery.search(images, 7, **options)
    assert gallery.search(examples[2:4], 3) == gallery.search(images[2:4], 3)
    assert gallery.search(Examples.joined([examples[:1], examples[1:]]), 3) == gallery.search(images, 3)
    assert gallery.search(examples, 3, exclude=[1] * 6) == gallery.search(images, 3, exclude=[1] * 6)
    assert gallery.search(examples[1:3], 3, together=True) == gallery.search(images[1:3], 3, together=True)
    assert gallery.search(examples[1:2], 3, together=True, without=examples[4:]) == gallery.search(
        images[1:2], 3, together=True, without=images[4:]
    )


def test_images_of_the_gallery_are_not_encoded_again(gallery: Gallery) -> None:
    paths = [*gallery][3:9]
    ids = [gallery.id_of(path) for path in paths]
    expected = gallery.search(paths, 9)
    seen = len(gallery._encoders._encoder.seen)  # type: ignore[union-attr]
    assert gallery.search(gallery.examples(ids=ids), 9) == expected
    assert len(gallery._encoders._encoder.seen) == seen  # type: ignore[union-attr]
    with pytest.raises(KeyError, match="no image 999"):
        gallery.examples(ids=[1, 999])


def test_embeddings(gallery: Gallery) -> None:
    paths = [*gallery][3:6]
    encoder: Any = gallery._encoders._encoder
    if not isinstance(encoder, EmbeddingEncoder):
        with pytest.raises(ValueError, match="a gallery that keeps them"):
            gallery.examples(embeddings=np.zeros((1, 48)))
        return
    with pytest.raises(ValueError, match="has a head fitted on them"):
        gallery.examples(embeddings=np.zeros((1, 48)))
    gallery.fit()
    found = gallery.search(gallery.examples(embeddings=encoder.embed(paths, normalize=False)), 5)
    assert [matches[0].path for matches in found] == paths
    with pytest.raises(ValueError, match="embeddings must have 48 numbers each"):
        gallery.examples(embeddings=np.zeros((2, 47)))
    with pytest.raises(ValueError, match="must be finite"):
        gallery.examples(embeddings=np.full((1, 48), np.nan))


def test_codes_of_another_head_are_not_compared(tmp_path: Path) -> None:
    with Gallery(kinds(tmp_path / "images", 5, 8), EmbeddingEncoder(), adapt=False) as gallery:
        gallery.update()
        before = gallery.fingerprint
        examples = gallery.examples([*gallery][:2])
        gallery.search(examples, 3)
        gallery.fit()
        assert gallery.fingerprint != before
        if examples.embeddings is None:
            with pytest.raises(GalleryMismatchError, match="coded anew"):
                gallery.search(examples, 3)
        stale = Examples(gallery.index.codes([1]), None, np.array([-1]), -1)
        with pytest.raises(GalleryMismatchError, match="coded anew"):
            gallery.search(stale, 3)

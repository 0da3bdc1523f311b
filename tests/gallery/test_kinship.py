"""What becomes of a gallery whose encoder's network, head or decoder is another one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from galleries import EmbeddingEncoder, FakeEncoder, kinds

from pyhash import Gallery
from pyhash.encoder import Fingerprints
from pyhash.errors import GalleryMismatchError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return kinds(tmp_path / "photos", 6, 20)


class PartedEncoder(EmbeddingEncoder):
    """One that tells its parts apart, and how it was opened."""

    def __init__(
        self, network: str = "n1", head: str = "h1", decoder: str = "d1", model: str | None = "m.onnx"
    ) -> None:
        super().__init__(f"{network} {head} {decoder}", f"network {network}")
        self.fingerprints = Fingerprints(network, head, decoder)
        self.opened = {"model": model}


def test_a_new_decoder_encodes_again_row_by_row(folder: Path) -> None:
    with Gallery(folder, PartedEncoder()) as gallery:
        gallery.update()
        before = gallery.search(folder / "kind0" / "000.png")
    encoder = PartedEncoder(decoder="d2")
    with Gallery(folder, encoder) as gallery:
        assert gallery.search(folder / "kind0" / "000.png") == before  # a few bits apart at most
        with pytest.raises(KeyboardInterrupt):
            gallery.update(progress=interrupted_at(70))
        changes = gallery.update()
        assert changes.again == {"decoder": 50}
        assert gallery.update().again == {}
        assert len(gallery) == 120


def interrupted_at(n: int) -> Callable[[int, int], None]:
    def progress(done: int, total: int) -> None:
        if done == n:
            raise KeyboardInterrupt

    return progress


def test_another_head_alone_encodes_nothing_again_where_the_gallery_has_its_own(folder: Path) -> None:
    with Gallery(folder, PartedEncoder()) as gallery:
        gallery.update()
    encoder = PartedEncoder(head="h2")
    with Gallery(folder, encoder) as gallery:
        assert gallery.update().unchanged == 120
        assert encoder.seen == []
        assert len(gallery.search(folder / "kind0" / "000.png")) == 10
    for model in ("m.onnx", None):  # codes of the encoder's own head are of another one now
        with Gallery(folder, PartedEncoder(model=model), adapt=False, rebuild=True) as gallery:
            gallery.update()
        with Gallery(folder, PartedEncoder(head="h2", model=model)) as gallery:
            with pytest.raises(
                GalleryMismatchError, match=r"another head of the encoder 'network n1'.*`pyhash index FOLDER`"
            ):
                gallery.search(folder / "kind0" / "000.png")
            assert gallery.update().again == {"network": 120}
            assert len(gallery.search(folder / "kind0" / "000.png")) == 10


def test_a_new_network_in_the_same_place_encodes_again(folder: Path) -> None:
    with Gallery(folder, PartedEncoder()) as gallery:
        gallery.update()
    with Gallery(folder, PartedEncoder("n2")) as gallery:
        with pytest.raises(GalleryMismatchError, match=r"'network n1' with fingerprint n1.*--rebuild"):
            gallery.search(folder / "kind0" / "000.png")
        changes = gallery.update()
        assert (changes.changed, changes.again) == (120, {"network": 120})
        assert gallery.stats().fingerprint == "n2"
    with pytest.raises(GalleryMismatchError, match="--rebuild"):
        Gallery(folder, PartedEncoder("n3", model="other.onnx"))


def test_an_earlier_built_in_network_is_refused_by_name(folder: Path) -> None:
    with Gallery(folder, PartedEncoder(model=None)) as gallery:
        gallery.update()
    message = r"made with 'network n1', the built-in encoder of an earlier pyhash.*`pyhash index FOLDER --rebuild`"
    with pytest.raises(GalleryMismatchError, match=message):
        Gallery(folder, PartedEncoder("n2", model=None))
    with Gallery(folder, PartedEncoder("n2", model=None), rebuild=True) as gallery:
        assert gallery.update().changed == 120


class UnpartedEncoder(FakeEncoder):
    """As a pyhash noted it that did not tell parts apart."""

    opened: ClassVar[dict[str, Any]] = {"model": "m.onnx"}


def test_a_gallery_of_before_goes_on_where_only_the_decoder_changed(folder: Path) -> None:
    with Gallery(folder, UnpartedEncoder("of everything then", "network n1")) as gallery:
        gallery.update()
        before = gallery.search(folder / "kind0" / "000.png")
    encoder = PartedEncoder()
    with Gallery(folder, encoder) as gallery:  # that its codes are the same is seen by one image
        assert len(encoder.seen) == 1
        assert gallery.search(folder / "kind0" / "000.png") == before
        assert gallery.update().again == {"decoder": 120}
        assert gallery.stats().fingerprint == "n1"
    with Gallery(folder, UnpartedEncoder("of everything then", "network n1"), rebuild=True) as gallery:
        gallery.update()
    monkey = PartedEncoder()
    monkey._code = lambda source: np.full(8, 255, np.uint8)  # type: ignore[method-assign]
    monkey.opened = {"model": "other.onnx"}
    with pytest.raises(GalleryMismatchError):
        Gallery(folder, monkey)

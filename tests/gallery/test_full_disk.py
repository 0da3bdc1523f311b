"""Disks that are full: what was stored stays, what to do is said, and with room again it goes on as if in one go."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from galleries import SeeingEncoder, picture, rows
from mounts import mounted

from pyhash import Gallery
from pyhash.errors import GalleryError


@pytest.mark.parametrize("kilobytes", [200, 260, 400])
def test_a_disk_that_is_full(tmp_path: Path, kilobytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "photos"
    for number in range(60):
        picture(folder / f"{number:02}.png", number)
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", f"size={kilobytes}k", "none") as disk:
        file = disk / "gallery.sqlite"
        with (
            pytest.raises(GalleryError, match=r"is full .*Make room"),
            Gallery(folder, SeeingEncoder(), file) as gallery,
        ):
            gallery.update()
        if file.exists():
            with Gallery(folder, SeeingEncoder(), file, create=False) as gallery:
                assert gallery.check().damaged == []
                assert len(gallery) < 60
        subprocess.run(["mount", "-o", "remount,size=10m", disk], check=True)
        with Gallery(folder, SeeingEncoder(), file) as gallery:
            gallery.update()
            assert gallery.check().damaged == []
            assert gallery.check().waiting == 0
        with Gallery(folder, SeeingEncoder(), tmp_path / "whole.sqlite") as gallery:
            gallery.update()
        assert rows(file) == rows(tmp_path / "whole.sqlite")
        assert [path.name for path in disk.iterdir() if path.name.endswith(".tmp")] == []

"""Fixtures of the tests of commands; what they need is imported when one is used."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from galleries import FakeEncoder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five images, two of them the same, and a bad one."""
    from galleries import picture

    root = tmp_path / "photos"
    for number, name in enumerate(["a.png", "b.png", "sub/c.png", "sub/d.png"]):
        picture(root / name, number)
    shutil.copy(root / "a.png", root / "copy.png")
    (root / "bad.jpg").write_text("not an image")
    return root


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeEncoder:
    """The built-in encoder is the fake one, which this returns; a model of any name is another fake one."""
    from galleries import FakeEncoder

    from pyhash import encoder

    built_in = FakeEncoder()

    def make(model: str | None = None, **options: Any) -> FakeEncoder:
        if model is None:
            return built_in
        if "broken" in model:
            raise ValueError("expected an image input, found none")
        return FakeEncoder("2222", os.path.basename(model))

    monkeypatch.setattr(encoder, "Encoder", make)
    monkeypatch.delenv("PYHASH_ENCODER", raising=False)
    return built_in

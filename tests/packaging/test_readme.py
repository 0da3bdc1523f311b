"""Every Python snippet of the README runs, word for word, in a folder with some pictures."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pyhash
from pyhash.cli.photographs import copy_photographs

README = Path(__file__).parents[2] / "README.md"
TEXT = README.read_text(encoding="utf-8") if README.exists() else ""
SNIPPETS = re.findall(r"^### (.+?)\n.*?```python\n(.*?)```", TEXT, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("readme")
    copy_photographs(folder / "photos", folder / "queries")
    return folder


@pytest.mark.parametrize("code", [code for _, code in SNIPPETS], ids=[title for title, _ in SNIPPETS])
def test_snippet_runs(code, folder, monkeypatch):
    monkeypatch.chdir(folder)
    exec(compile(code, "README.md", "exec"), {})


def test_snippets_pass_strict_typing(tmp_path):
    pytest.importorskip("mypy")
    package = Path(pyhash.__file__).parent  # of an editable installation mypy must be told
    files = [tmp_path / f"snippet_{number}.py" for number in range(len(SNIPPETS))]
    for file, (_, code) in zip(files, SNIPPETS, strict=True):
        file.write_text(code, encoding="utf-8")
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", tmp_path / "cache", *files],
        cwd=tmp_path,
        env=os.environ if "site-packages" in package.parts else {**os.environ, "MYPYPATH": os.fspath(package.parent)},
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_index_encoder_and_gallery_are_taught():
    assert len(SNIPPETS) == 4


def test_files_that_the_readme_links_to_are_there():
    links = [link for link in re.findall(r"\]\(([^)]+)\)", TEXT) if "://" not in link]
    assert links
    assert [link for link in links if not (README.parent / link).exists()] == []

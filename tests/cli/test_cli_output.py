"""Tables: for people on a terminal, a line each for scripts."""

from __future__ import annotations

import base64
import json
import os
import sys

import pytest

from pyhash.cli.output import print_facts, print_table, with_bytes

ROWS = [["7", "a [red]b[/red].jpg"], ["12", "x" * 300 + "\n.jpg"]]


def test_in_a_pipe_each_row_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(ROWS, ["distance", "image"], right=[0])
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["distance  image", "       7  a [red]b[/red].jpg", "      12  " + "x" * 300 + "\\n.jpg"]


def test_on_a_terminal_nothing_is_lost(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "dumb")
    print_table(ROWS, ["distance", "image"], right=[0])
    text = capsys.readouterr().out
    assert "a [red]b[/red].jpg" in text
    assert text.count("x") == 300
    assert max(map(len, text.splitlines())) <= 80


def test_beside_a_name_that_is_not_utf8_stand_its_bytes() -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    value = {"query": "caf\u00e9.jpg", "n": 1, "matches": [{"path": name}], "paths": ("a.jpg", name), "none": None}
    told = json.loads(json.dumps(with_bytes(value)))
    assert os.fsdecode(base64.b64decode(told["matches"][0].pop("path_bytes"))) == name
    assert [os.fsdecode(base64.b64decode(one)) for one in told.pop("paths_bytes")] == ["a.jpg", name]
    assert told == {**value, "paths": ["a.jpg", name]}


@pytest.mark.parametrize("terminal", [False, True])
def test_facts(terminal: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    monkeypatch.setenv("TERM", "dumb")
    print_facts({"levels": {"coarse": 16, "fine": 48}, "kernels": ["avx2", "scalar"], "encoder": None})
    lines = [line.rstrip().split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert lines == [["levels", "coarse 16, fine 48"], ["kernels", "avx2, scalar"], ["encoder", "-"]]

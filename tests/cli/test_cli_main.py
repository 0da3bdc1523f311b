"""The command as a whole: its help, what it loads, and how it ends."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from commands import ROOT, run, start
from galleries import picture

import pyhash
from pyhash import __main__
from pyhash import errors as pyhash_errors
from pyhash.cli import cli
from pyhash.cli.errors import CommandError, Exit, known_errors

DESCRIBED = Path(__file__).parent / "commands.txt"


def command_names() -> list[str]:
    return cli.list_commands(click.Context(cli))


def described() -> str:
    """Every command with its arguments and options; `python tests/cli/test_cli_main.py` writes the file anew."""
    lines = []
    for name in command_names():
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        lines.append(f"{name}: {command.get_short_help_str(100)}")
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                names = ", ".join([*parameter.opts, *parameter.secondary_opts])
                of_type = "|".join(getattr(parameter.type, "choices", [])) or parameter.type.name.upper()
                metavar = "" if parameter.is_flag else f" {parameter.metavar or of_type}"
                required = " (required)" if parameter.required else ""
                lines.append(f"  {names}{metavar}{required}: {parameter.help or ''}")
            else:
                lines.append(f"  {parameter.metavar or (parameter.name or '').upper()}")
    return "\n".join(lines) + "\n"


def test_commands_and_options_are_those_that_were_read() -> None:
    """An option that was renamed, added or dropped is seen here: look at the difference, then write the file anew."""
    assert described() == DESCRIBED.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", command_names())
def test_help_teaches(name: str) -> None:
    page = run(name, "--help").stdout
    assert f"pyhash {name}" in page
    assert "Examples:\n" in page or "One case:\n" in page
    assert "Exit codes" not in page
    assert max(map(len, page.splitlines())) <= 100


def test_help_of_the_whole() -> None:
    text = run("--help").stdout
    assert run("-h").stdout == text
    for code in Exit:
        assert f"\n    {code.value:<3}  " in text or code is Exit.BROKEN_PIPE
    assert run("--version").stdout == f"pyhash, version {pyhash.__version__}\n"
    run("nonsense", code=2)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (pyhash_errors.GalleryError("locked"), 3),
        (pyhash_errors.GalleryMismatchError("another"), 3),
        (pyhash_errors.ImageError("a.jpg", "not an image"), 1),
        (pyhash_errors.LabelError("no labels"), 2),
        (pyhash_errors.PatternError("names nothing"), 2),
        (pyhash_errors.PlanError("no plan"), 2),
        (pyhash_errors.QuantizationError("worse", None), 5),
        (pyhash_errors.EncoderError("no input"), 4),
        (pyhash_errors.GraphError("no tap"), 4),
        (ImportError("pip install this"), 4),
        (KeyboardInterrupt(), 130),
        (BrokenPipeError(), 141),
        (FileNotFoundError(2, "No such file", "x"), 2),
        (pyhash_errors.ForeignFileError(17, "a file is there", "x"), 2),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_every_error_has_its_exit_code(error: BaseException, code: int) -> None:
    with pytest.raises(CommandError) as info, known_errors():
        raise error
    assert info.value.exit_code == code
    assert info.value.__cause__ is error


@pytest.mark.parametrize("name", ["-rf.jpg", "--best.jpg"])
def test_a_file_whose_name_looks_like_an_option(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    said = run("search", ".", name, code=Exit.USAGE).stderr
    assert re.search(rf"[.?)] For the file of this name write ./{name}", said)
    assert "write ./" not in run("search", ".", "-zz", code=Exit.USAGE).stderr


@pytest.mark.parametrize("error", [ValueError("a bug"), KeyError("a bug"), click.UsageError("no")], ids=repr)
def test_other_errors_are_left_alone(error: Exception) -> None:
    with pytest.raises(type(error)) as info, known_errors():
        raise error
    assert info.value is error


@pytest.mark.usefixtures("fake")
def test_starts_without_what_it_does_not_need(folder: Path) -> None:
    """Each of these takes longer to import than a search takes."""
    code = (
        "import sys; from click.testing import CliRunner; from pyhash import cli; "
        f"cli.cli.main(['dedupe', {os.fspath(folder)!r}], standalone_mode=False); "
        "unwanted = {'rich', 'jinja2', 'onnxruntime', 'matplotlib', 'numba', 'pyhash.evaluation'}; "
        "print(sorted(unwanted & {*sys.modules}))"
    )
    run("index", folder)
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    needed = ["numba"] if pyhash.kernel() == "numba" else []  # what searches there
    assert child.stdout.endswith(f"{needed}\n")


def test_missing_click_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "click", None)
    with pytest.raises(SystemExit) as info:
        __main__.main()
    assert info.value.code == 4
    assert "pip install 'pyhash-retrieval[cli]'" in capsys.readouterr().err


def test_reader_that_goes_away(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    for number in range(9):
        picture(tmp_path / f"{number:0200}.png", number)  # names so long that the answer does not fit into a pipe
    run("index", tmp_path)
    child = start("search", tmp_path, *[tmp_path / f"{0:0200}.png"] * 50)
    assert child.stdout is not None
    assert child.stderr is not None
    child.stdout.readline()
    child.stdout.close()
    assert [line for line in child.stderr if "searches with Numba" not in line] == []
    child.stderr.close()
    assert child.wait() == 141


def test_command_is_installed_under_its_name() -> None:
    points = importlib.metadata.entry_points(group="console_scripts", name="pyhash")
    if not points:
        pytest.skip("pyhash runs from its source folder, it is not installed")
    (point,) = points
    assert point.load() is __main__.main


if __name__ == "__main__":
    DESCRIBED.write_text(described(), encoding="utf-8")

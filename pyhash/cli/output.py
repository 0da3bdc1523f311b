"""What the commands show: tables and JSON on stdout, a progress bar and what was skipped on stderr."""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from ..images import is_empty
from ..support import many, printable, require
from .errors import Unreadable

if TYPE_CHECKING:
    from ..gallery import Gallery


@contextmanager
def progress_bar(before: str, during: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar while stderr is a terminal; gives a function to be called with (done, total)."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    rich = require("rich.progress", "cli")  # slow to import
    columns = (rich.TextColumn("{task.description}"), rich.BarColumn(), rich.MofNCompleteColumn())
    console = require("rich.console", "cli").Console(stderr=True)
    with rich.Progress(*columns, rich.TimeRemainingColumn(), console=console, transient=True) as bar:
        task = bar.add_task(before, total=None)
        yield lambda done, total: bar.update(task, description=during, completed=done, total=total)


def print_table(rows: Sequence[Sequence[str]], header: Sequence[str] | None = None, right: Sequence[int] = ()) -> None:
    """Print rows of text: as a table on a terminal, else in columns, a line each whatever its length.

    Parameters
    ----------
    rows : sequence of sequence of str
    header : sequence of str, optional
    right : sequence of int
        Columns that are aligned at their right end.
    """
    shown = [[printable(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        table = require("rich.table", "cli").Table(box=None, pad_edge=False, show_header=header is not None)
        text = require("rich.text", "cli").Text  # no markup: a path may hold brackets
        for column in range(len(header or rows[0])):
            justify = "right" if column in right else "left"
            style = None if header else (None if column else "bold")
            table.add_column(header[column] if header else "", justify=justify, overflow="fold", style=style)
        for row in shown:
            table.add_row(*map(text, row))
        require("rich.console", "cli").Console().print(table)
        return
    lines = [list(header), *shown] if header else shown
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        click.echo("  ".join(cells).rstrip())


def print_facts(facts: Mapping[str, Any]) -> None:
    """Print names and what they are."""
    print_table([[name, in_words(value)] for name, value in facts.items()])


def in_words(value: Any) -> str:
    """Return a value as text: a mapping (but for None) and a list with commas, None and an empty list as a dash."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {part}" for key, part in value.items() if part is not None)
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "-"
    return "-" if value is None else str(value)


def print_json(value: Any) -> None:
    """Print JSON, in ASCII so that it survives any pipe; names that are not UTF-8 as `with_bytes` has them."""
    click.echo(json.dumps(with_bytes(value), indent=2))


def with_bytes(value: Any) -> Any:
    """Return a value in which beside each name that is not UTF-8 stands what it is, in base64: as `path_bytes`.

    Without that a script could not open such a file: few languages know Python's way to write it as text.
    """
    if isinstance(value, Mapping):
        shown: dict[Any, Any] = {}
        for key, part in value.items():
            shown[key] = with_bytes(part)
            if isinstance(part, str) and not _is_utf8(part):
                shown[f"{key}_bytes"] = _base64(part)
            elif isinstance(part, list | tuple) and any(isinstance(one, str) and not _is_utf8(one) for one in part):
                shown[f"{key}_bytes"] = [_base64(one) for one in part]
        return shown
    return [*map(with_bytes, value)] if isinstance(value, list | tuple) else value


def _is_utf8(name: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def _base64(name: str) -> str:
    return base64.b64encode(os.fsencode(name)).decode("ascii")


def print_skipped(failed: Iterable[Unreadable]) -> None:
    """Name the images that could not be read, on stderr."""
    for failure in failed:
        click.echo(f"pyhash: skipped {printable(failure.path)}: {printable(failure.reason)}", err=True)


def skipped_as_json(failed: Iterable[Unreadable]) -> list[dict[str, str]]:
    """Return the images that could not be read as JSON shows them."""
    return [{"path": failure.path, "reason": failure.reason} for failure in failed]


def warn(text: str) -> None:
    """Say on stderr what was not done."""
    click.echo(f"pyhash: {text}", err=True)


def name_of(gallery: Gallery) -> str:
    """Return what names a gallery on the command line: its folder; of several, its file."""
    return gallery.folder if len(gallery.folders) == 1 else os.fspath(gallery.file)


def warn_of_waiting(folder: str, waiting: int, lacking: int = 0) -> None:
    """Say on stderr that an answer is not of the whole gallery: of its images, or of their parts."""
    if lacking:
        verb = "is" if lacking == 1 else "are"
        warn(f"{many(lacking, 'image')} {verb} not yet found by all their parts: pyhash index {printable(folder)}")
    if waiting:
        verb = "waits" if waiting == 1 else "wait"
        warn(f"{many(waiting, 'image')} {verb} to be encoded and cannot be found yet: pyhash index {printable(folder)}")


def warn_of_away(gallery: Gallery) -> list[str]:
    """Say on stderr which folders of a gallery are away, whose images are found and cannot be opened; return them."""
    away = [folder for folder in gallery.folders if not os.path.isdir(folder) or is_empty(folder)]
    for folder in away:
        warn(f"{printable(folder)} is away or empty: its images are found, but cannot be opened now")
    return away


def print_wrote(path: str, *, quietly: bool = True) -> None:
    """Name a file that was written: on stderr, so that a script reads the answer alone."""
    click.echo(f"wrote {printable(path)}", err=quietly)

"""What the pyhash command shows: tables and JSON on stdout, a progress bar on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import click

from ..gallery import Match
from ..pages import printable
from ..support import require


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


def print_matches(results: Sequence[tuple[str, Sequence[Match]]]) -> None:
    """Print each query with a table of its matches."""
    for query, matches in results:
        click.secho(printable(query), bold=True)
        print_table(matches)


def print_table(matches: Sequence[Match]) -> None:
    """Print a table of distances and pictures."""
    click.secho("distance  picture" if matches else "no picture to find", dim=True)
    for match in matches:
        click.echo(f"{match.distance:8}  {printable(match.path)}")
    click.echo()


def print_facts(facts: Mapping[str, Any]) -> None:
    """Print names and what they are."""
    width = max(map(len, facts))
    for name, value in facts.items():
        if isinstance(value, Mapping):
            value = ", ".join(f"{key} {number}" for key, number in value.items())
        elif isinstance(value, list):
            value = ", ".join(map(str, value))
        click.echo(click.style(f"{name:{width}}  ", bold=True) + ("-" if value is None else printable(str(value))))


def print_json(value: Any) -> None:
    """Print JSON, in ASCII so that it survives any pipe."""
    click.echo(json.dumps(value, indent=2))


def many(count: int, thing: str) -> str:
    """Return a count with its noun."""
    return f"{count:,} {thing}" if count == 1 else f"{count:,} {thing}s"


def bits(count: int) -> str:
    """Return a number of bits in words."""
    return many(count, "bit")

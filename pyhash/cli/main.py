"""The pyhash command: its help, and where each command is found."""

# ruff: noqa: D301  (click wants a real \b before text that it must not wrap)

from __future__ import annotations

import importlib
import io
import sys
import warnings
from typing import Any

import click

from .. import __version__, backend
from ..support import printable
from .errors import EXIT_CODES, known_errors

_HOME = {
    "backup": "keeping",
    "bench": "bench",
    "build": "building",
    "check": "keeping",
    "dedupe": "deduping",
    "demo": "demo",
    "eval": "evaluating",
    "fit": "galleries",
    "forget": "keeping",
    "index": "galleries",
    "info": "info",
    "search": "searching",
    "serve": "serving",
    "taps": "building",
}
"""The module of each command, imported when it is asked for: a search need not wait for the others."""


class Commands(click.Group):
    """Finds commands in their modules; what one returns is the exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands."""
        return sorted(_HOME)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command by its name."""
        if cmd_name not in _HOME:
            return None
        module = importlib.import_module(f".{_HOME[cmd_name]}", __package__)
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that knows no Unicode is no reason to fail
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            with known_errors():
                code = super().invoke(ctx)
                sys.stdout.flush()
            ctx.exit(code)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """Show a warning as the commands show errors, without the line of code that it comes from."""
    click.echo(f"pyhash: {printable(str(message))}", err=True)


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=EXIT_CODES,
)
@click.version_option(__version__, prog_name="pyhash")
def cli() -> None:
    """Find similar images: a folder of photographs in, the most similar ones out.

    \b
    See it work, without any images of your own:
      pyhash demo
    Your own images:
      pyhash index ~/Pictures
      pyhash search ~/Pictures holiday.jpg --html similar.html
      pyhash dedupe ~/Pictures

    Every image becomes a short binary code; images are similar when few bits of their codes differ. That number of
    bits is the distance shown. Nothing leaves this machine, and no image is ever changed.
    """
    try:
        backend.threads()
        backend.kernel()
    except ImportError:
        pass  # said by the first command that needs it
    except ValueError as error:  # in PYHASH_THREADS or PYHASH_KERNEL
        raise click.UsageError(str(error)) from error

"""How a command ends: exit codes, and errors that know theirs and how to show themselves."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import IO, Any, Protocol

import click

from ..errors import (
    BoxError,
    CorruptIndexError,
    EncoderError,
    GalleryError,
    GraphError,
    ImageError,
    LabelError,
    PatternError,
    PlanError,
    QuantizationError,
)
from ..support import printable


class Exit(IntEnum):
    """Exit codes of every command."""

    DONE = 0
    UNREADABLE = 1
    USAGE = 2
    GALLERY = 3
    ENCODER = 4
    WORSE = 5
    KEPT = 6
    FOUND = 7
    INTERRUPTED = 130
    BROKEN_PIPE = 141


EXIT_CODES = """\b
Exit codes of all commands:
  0    done
  1    some images could not be read, were left as they are, or wait to be encoded; the rest was done
  2    the command was called wrongly, or a file cannot be read or written
  3    the gallery is missing, damaged, locked, or of another encoder
  4    the encoder or network cannot be used, or a package is missing
  5    quantization costs more than --tolerance allows; nothing was written
  6    images that are gone, or whose disk may be away, were kept (index --prune drops them)
  7    found what must not be there (dedupe --fail-if-found)
  130  interrupted; what was finished is kept
"""


class CommandError(click.ClickException):
    """An error in one line on stderr."""

    def show(self, file: IO[Any] | None = None) -> None:
        """Print it."""
        click.echo(f"pyhash: {printable(self.message)}", file=file, err=file is None)


class UnreadableImages(CommandError):
    """No image could be read."""

    exit_code = Exit.UNREADABLE


class WrongCall(CommandError):
    """Arguments, labels or files that do not do."""

    exit_code = Exit.USAGE


class GalleryFailed(CommandError):
    """The gallery cannot be used."""

    exit_code = Exit.GALLERY


class EncoderFailed(CommandError):
    """The encoder cannot be used, or a package is missing."""

    exit_code = Exit.ENCODER


class Worse(CommandError):
    """What was made is worse than tolerated."""

    exit_code = Exit.WORSE


class Interrupted(CommandError):
    """The user interrupted."""

    exit_code = Exit.INTERRUPTED


class ReaderGone(CommandError):
    """Whoever read the output has gone away."""

    exit_code = Exit.BROKEN_PIPE

    def show(self, file: IO[Any] | None = None) -> None:
        """Say nothing, and let the interpreter's last flush say nothing either."""
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


_COMMAND_ERRORS: dict[type[BaseException], type[CommandError]] = {
    GalleryError: GalleryFailed,
    ImageError: UnreadableImages,
    BoxError: WrongCall,
    LabelError: WrongCall,
    PatternError: WrongCall,
    PlanError: WrongCall,
    QuantizationError: Worse,
    EncoderError: EncoderFailed,
    GraphError: EncoderFailed,
    ImportError: EncoderFailed,
    CorruptIndexError: WrongCall,
    KeyboardInterrupt: Interrupted,
    BrokenPipeError: ReaderGone,
    OSError: WrongCall,
}
"""What each error of the library becomes; the first that fits."""


@contextmanager
def known_errors() -> Iterator[None]:
    """Turn the errors that a user can do something about into command errors."""
    try:
        yield
    except click.NoSuchOption as error:
        name = _file_named(error.option_name)
        if name is None:
            raise
        hint = f"For the file of this name write ./{printable(name)}"
        said = error.format_message()
        raise click.UsageError(f"{said if said.endswith(('.', '?', ')')) else said + '.'} {hint}", error.ctx) from error
    except click.ClickException:
        raise
    except tuple(_COMMAND_ERRORS) as error:
        kind = next(kind for known, kind in _COMMAND_ERRORS.items() if isinstance(error, known))
        raise kind(_message(error)) from error


def _file_named(option: str) -> str | None:
    """A file here that was perhaps meant by what looks like an option: of -rf.jpg click names the first letter only."""
    try:
        return min((name for name in os.listdir() if name.startswith(option)), default=None)
    except OSError:
        return None


def _message(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "interrupted; what was finished is kept"
    if isinstance(error, OSError):
        reason = error.strerror or str(error)
        return f"{os.fsdecode(error.filename)}: {reason}" if error.filename else reason
    return str(error)


class Unreadable(Protocol):
    """An image that could not be read: an ImageError, or a gallery's record of one."""

    @property
    def path(self) -> str:
        """The file."""

    @property
    def reason(self) -> str:
        """What is wrong with it."""

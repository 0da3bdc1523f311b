"""The pyhash command."""

# ruff: noqa: D301  (click wants a real \b before text that it must not wrap)

from __future__ import annotations

import dataclasses
import functools
import importlib
import io
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from .. import __version__, backend
from ..errors import GalleryError, ImageError
from ..gallery import Changes, Failure, Gallery, Match, default_radius
from ..pages import Row, check_target, printable, write_sheet
from ..support import machine
from .output import bits, many, print_facts, print_json, print_matches, print_table, progress_bar

if TYPE_CHECKING:
    from ..encoder import Encoder

EXIT_PARTIAL = 1
EXIT_USAGE = 2
EXIT_GALLERY = 3
EXIT_ENCODER = 4
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141

_EXIT_CODES = """\b
Exit codes:
  0    all went well
  1    some of the pictures asked about could not be read; the rest was done
  2    the command was called wrongly
  3    the gallery is missing, damaged, locked, or of another encoder
  4    the encoder cannot be loaded, or a package is missing
  130  interrupted; what was finished is kept
"""


class _EncoderError(Exception):
    """The encoder could not be loaded."""


def _folder(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.argument("folder", type=click.Path(exists=True, file_okay=False))(command)


def _overwrite_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option("--overwrite", is_flag=True, help="Replace a file that pyhash did not write, too.")(command)


def _gallery_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--gallery",
        "file",
        type=click.Path(dir_okay=False),
        metavar="FILE",
        help="Where the gallery is kept.  [default: FOLDER/.pyhash/gallery.sqlite]",
    )(command)


def _json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")(command)


class _Size(click.ParamType[Any]):
    name = "side or height x width"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | tuple[int, int]:
        sides = [part for part in str(value).lower().split("x") if part.isdecimal() and int(part) > 0]
        if len(sides) not in (1, 2) or "x".join(sides) != str(value).lower():
            self.fail(f"must be a side such as 224, or HEIGHTxWIDTH such as 192x256, got {value!r}", param, ctx)
        return int(sides[0]) if len(sides) == 1 else (int(sides[0]), int(sides[1]))


def _encoder_options(command: Callable[..., Any], *, remembered: bool = False) -> Callable[..., Any]:
    """Add the options that choose an encoder; the command gets `load_encoder`, which loads it.

    Where the command's gallery has `remembered` its encoder, that returns None unless an option chooses another.
    """

    @click.option(
        "--encoder",
        "model",
        type=click.Path(exists=True, dir_okay=False),
        metavar="MODEL",
        envvar="PYHASH_ENCODER",
        show_envvar=True,
        help="An ONNX model to use instead of the built-in one; a gallery remembers with which it was made.",
    )
    @click.option("--output", metavar="NAME", help="Which output of a plain ONNX model to read.")
    @click.option(
        "--preprocess",
        metavar="NAME",
        help="How a plain ONNX model wants its pictures: imagenet, unit, keras-caffe, tf or raw.",
    )
    @click.option(
        "--size", type=_Size(), metavar="SIDE", help="Of the pictures, where a plain ONNX model leaves it open."
    )
    @click.option(
        "--fast-jpeg",
        is_flag=True,
        help="Decode large JPEGs at a reduced scale: faster, other bits. A gallery remembers this, too.",
    )
    @functools.wraps(command)
    def wrapped(
        *args: Any,
        model: str | None,
        output: str | None,
        preprocess: str | None,
        size: int | tuple[int, int] | None,
        fast_jpeg: bool,
        **kwargs: Any,
    ) -> Any:
        if model is None and (output or preprocess or size):
            raise click.UsageError("--output, --preprocess and --size belong to an ONNX model: give it with --encoder")
        if size and not preprocess:
            raise click.UsageError("--size belongs to a plain ONNX model: say with --preprocess how it wants pictures")
        prepared = {"preset": preprocess, "size": size} if size else preprocess
        if remembered and model is None and not fast_jpeg:
            return command(*args, load_encoder=lambda: None, **kwargs)
        load = functools.partial(_load_encoder, model, output=output, preprocess=prepared, fast_jpeg=fast_jpeg)
        return command(*args, load_encoder=load, **kwargs)

    return wrapped


_gallery_encoder_options = functools.partial(_encoder_options, remembered=True)


def _load_encoder(model: str | None = None, **options: Any) -> Encoder:
    from ..encoder import Encoder

    try:
        return Encoder(model, **options)
    except (ValueError, OSError) as error:
        raise _EncoderError(f"the encoder {model or 'built in'} cannot be used: {error}") from error


_ELSEWHERE = {
    "bench": "bench",
    "build": "building",
    "demo": "demo",
    "eval": "evaluating",
    "taps": "building",
}
"""Commands in modules of their own, which are imported when asked for: a search need not wait for them."""


class _Commands(click.Group):
    """Says what went wrong in one line, with an exit code that scripts can tell apart."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands."""
        return sorted({*super().list_commands(ctx), *_ELSEWHERE})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command by its name."""
        if cmd_name in _ELSEWHERE:
            importlib.import_module(f".{_ELSEWHERE[cmd_name]}", __package__)
        return super().get_command(ctx, cmd_name)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; what it returns is the exit code."""
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that knows no Unicode is no reason to fail
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            ctx.exit(self._exit_code(ctx))

    def _exit_code(self, ctx: click.Context) -> int:
        try:
            code: int = super().invoke(ctx)
            sys.stdout.flush()
        except GalleryError as error:
            code = _complain(str(error), EXIT_GALLERY)
        except (_EncoderError, ImportError) as error:
            code = _complain(str(error), EXIT_ENCODER)
        except KeyboardInterrupt:
            code = _complain("interrupted; what was finished is kept", EXIT_INTERRUPTED)
        except BrokenPipeError:
            # Whoever read the output has gone; the interpreter's last flush must not complain about it.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = EXIT_BROKEN_PIPE
        except OSError as error:
            reason = error.strerror or str(error)
            code = _complain(f"{os.fsdecode(error.filename)}: {reason}" if error.filename else reason, EXIT_USAGE)
        return code


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """Show a warning as the commands show errors, without the line of code that it comes from."""
    click.echo(f"pyhash: {printable(str(message))}", err=True)


def _complain(message: str, code: int) -> int:
    click.echo(f"pyhash: {printable(message)}", err=True)
    return code


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=_EXIT_CODES,
)
@click.version_option(__version__, prog_name="pyhash")
def cli() -> None:
    """Find similar pictures: a folder of photographs in, the most similar ones out.

    \b
    See it work, without any pictures of your own:
      pyhash demo
    Your own pictures:
      pyhash index ~/Pictures
      pyhash search ~/Pictures holiday.jpg --html similar.html
      pyhash dedupe ~/Pictures

    Every picture becomes a short binary code; pictures are similar when few bits of their codes differ. That
    number of bits is the distance shown. Nothing leaves this machine, and no picture is ever changed.
    """
    try:
        backend.threads()
        backend.kernel()
    except ImportError:
        pass  # said by the first command that needs it
    except ValueError as error:  # in PYHASH_THREADS or PYHASH_KERNEL
        raise click.UsageError(str(error)) from error


@cli.command(epilog=_EXIT_CODES, short_help="Encode the pictures in FOLDER, or bring its gallery up to date.")
@_folder
@_gallery_option
@_gallery_encoder_options
@click.option("--rebuild", is_flag=True, help="Encode every picture again, also when another encoder made the gallery.")
@click.option("--strict", is_flag=True, help="Exit with 1 when any picture could not be read.")
@_json_option
def index(
    folder: str,
    file: str | None,
    load_encoder: Callable[[], Encoder | None],
    rebuild: bool,
    strict: bool,
    as_json: bool,
) -> int:
    """Encode the pictures in FOLDER and its subfolders, or bring its gallery up to date.

    Run it again whenever you like: only new and changed pictures are encoded, and those that have gone are
    dropped. It can be interrupted at any moment and goes on where it stopped. Pictures that cannot be read
    are listed and skipped, which is not an error unless you say --strict (or none at all can be read).

    \b
    Examples:
      pyhash index ~/Pictures
      pyhash index /mnt/read-only --gallery ~/photos.sqlite
      pyhash index ~/Pictures --encoder model.onnx --rebuild
    """
    with Gallery(folder, load_encoder(), file, rebuild=rebuild) as gallery:
        changes = _update(gallery)
        searchable = len(gallery)
        if as_json:
            print_json(
                {
                    "folder": folder,
                    "gallery": os.fspath(gallery.file),
                    "pictures": searchable,
                    "added": changes.added,
                    "changed": changes.changed,
                    "removed": changes.removed,
                    "unchanged": changes.unchanged,
                    "failed": [failure._asdict() for failure in changes.failed],
                }
            )
        else:
            click.echo(_summary(changes, searchable))
            if not searchable and not changes.failed:
                click.echo(f"no pictures found in {printable(folder)}", err=True)
    _report(changes.failed)
    return EXIT_PARTIAL if changes.failed and (strict or not searchable) else 0


@cli.command(epilog=_EXIT_CODES)
@_folder
@click.argument("queries", nargs=-1, required=True, metavar="PICTURE...", type=click.Path(readable=False))
@click.option("-k", type=click.IntRange(min=1), default=12, show_default=True, help="How many pictures to find.")
@click.option("--level", metavar="NAME", help="Compare one level of the codes only, such as coarse or fine.")
@click.option("--exclude-self", is_flag=True, help="Leave a picture out of its own answer.")
@click.option("--html", type=click.Path(dir_okay=False), metavar="FILE", help="Also write a sheet with thumbnails.")
@_overwrite_option
@_gallery_option
@_gallery_encoder_options
@_json_option
def search(
    folder: str,
    queries: tuple[str, ...],
    k: int,
    level: str | None,
    exclude_self: bool,
    html: str | None,
    overwrite: bool,
    file: str | None,
    load_encoder: Callable[[], Encoder | None],
    as_json: bool,
) -> int:
    """Find the pictures in FOLDER that are most like each PICTURE.

    FOLDER must have been indexed. A PICTURE may lie anywhere. The distance is the number of bits in which two
    codes differ: 0 means the same code.

    \b
    Examples:
      pyhash search ~/Pictures holiday.jpg
      pyhash search ~/Pictures a.jpg b.png -k 30 --html similar.html
      pyhash search ~/Pictures shoe.jpg --level coarse --json
    """
    if html is not None:
        check_target(html, overwrite=overwrite)
    with Gallery(folder, load_encoder(), file, create=False) as gallery:
        results, failed = _search(gallery, queries, k, level, exclude_self)
        if as_json:
            print_json(_as_json(results))
        else:
            print_matches(results)
        _report(failed)
        if html is not None:
            _write_search_sheet(html, gallery, results, k, level, overwrite=overwrite)
            click.echo(f"wrote {printable(html)}", err=True)
    return EXIT_PARTIAL if failed else 0


@cli.command(epilog=_EXIT_CODES)
@_folder
@click.option(
    "--radius",
    type=click.IntRange(min=0),
    help="Bits in which two codes may differ.  [default: a tenth of a code's bits]",
)
@click.option("--codes-only", is_flag=True, help="Do not compare the pictures themselves; lists more, faster.")
@click.option("--html", type=click.Path(dir_okay=False), metavar="FILE", help="Also write a sheet with thumbnails.")
@_overwrite_option
@_gallery_option
@_json_option
def dedupe(
    folder: str,
    radius: int | None,
    codes_only: bool,
    html: str | None,
    overwrite: bool,
    file: str | None,
    as_json: bool,
) -> int:
    """List groups of nearly identical pictures in FOLDER. Nothing is deleted.

    FOLDER must have been indexed. Pictures whose codes differ in at most --radius bits are compared at a small
    size, and those that look the same are grouped: copies that were recompressed or resized, not those that were
    turned, cropped much, or made smaller than what the encoder sees (224 pixels for the built-in one). With
    --codes-only alike codes are enough, which also groups different pictures of alike things.

    \b
    Examples:
      pyhash dedupe ~/Pictures
      pyhash dedupe ~/Pictures --radius 0 --json
      pyhash dedupe ~/Pictures --radius 32 --html duplicates.html
    """
    if html is not None:
        check_target(html, overwrite=overwrite)
    with Gallery.open(folder, file=file, create=False) as gallery:
        with progress_bar("comparing codes", "comparing pictures") as progress:
            groups = gallery.duplicates(radius, check=not codes_only, progress=progress)
        stats = gallery.stats()
    n_bits = sum((stats.levels or {}).values())
    if radius is None:
        radius = default_radius(n_bits)
    if as_json:
        print_json({"radius": radius, "groups": [[match._asdict() for match in group] for group in groups]})
    else:
        for group in groups:
            print_table(group)
        extra = sum(len(group) - 1 for group in groups)
        click.echo(
            f"{many(len(groups), 'group')}, {many(extra, 'picture')} beyond the first of each"
            if groups
            else f"no duplicates among {many(stats.images, 'picture')}"
        )
    if html is not None:
        write_sheet(
            html,
            [Row(group[0].path, [(match.path, match.distance) for match in group[1:]]) for group in groups],
            title="Nearly identical pictures",
            label="First",
            facts={
                "Gallery": folder,
                "Pictures": f"{stats.images:,}",
                "Groups": f"{len(groups):,}",
                "Radius": bits(radius),
            },
            folder=folder,
            far=n_bits / 2,  # random codes differ in half of their bits
            note="The number on a picture is its distance to the first of its group, in bits.",
            nothing="No two pictures are that similar.",
            overwrite=overwrite,
        )
        click.echo(f"wrote {printable(html)}", err=True)
    return 0


@cli.command(epilog=_EXIT_CODES, short_help="Show what pyhash runs on, and what the gallery of FOLDER holds.")
@click.argument("folder", required=False, type=click.Path(exists=True, file_okay=False))
@_gallery_option
@_encoder_options
@_json_option
def info(
    folder: str | None,
    file: str | None,
    load_encoder: Callable[[], Encoder],
    as_json: bool,
) -> int:
    """Show what pyhash runs on: version, search kernel, CPU, encoder, and the gallery of FOLDER.

    \b
    Examples:
      pyhash info
      pyhash info ~/Pictures --json
    """
    try:
        kernel = backend.kernel()
    except ImportError:  # neither compiled nor Numba: that is what this command is there to tell
        kernel = None
    facts: dict[str, Any] = {
        "version": __version__,
        "kernel": kernel,
        "kernels": backend.kernels(),
        "native": backend.why_no_native() is None,
        "why_no_native": backend.why_no_native(),
        "cpu_features": backend.cpu_features(),
        "threads": backend.threads() or machine.cpus(),
    }
    try:
        encoder = load_encoder()
    except (ImportError, _EncoderError) as error:
        facts["encoder"] = {"error": str(error)}
    else:
        facts["encoder"] = {
            "name": encoder.name,
            "fingerprint": encoder.fingerprint,
            "bits": encoder.bits,
            "levels": dict(encoder.levels),
        }
    if folder is not None or file is not None:
        with Gallery.open(folder or os.curdir, file=file, create=False) as gallery:
            facts["gallery"] = dataclasses.asdict(gallery.stats())
    if as_json:
        print_json(facts)
        return 0
    lines: dict[str, Any] = {
        "version": facts["version"],
        "native code": "yes" if facts["native"] else f"no: {facts['why_no_native']}",
    }
    for name in ("kernel", "kernels", "cpu_features", "threads"):
        lines[name.replace("_", " ")] = facts[name]
    for name in ("encoder", "gallery"):
        lines |= {f"{name} {key}": value for key, value in facts.get(name, {}).items()}
    print_facts(lines)
    return 0


# What the commands share


def _update(gallery: Gallery) -> Changes:
    """Update behind a progress bar."""
    with progress_bar("looking for pictures", "encoding") as progress:
        return gallery.update(progress=progress)


def _search(
    gallery: Gallery, queries: tuple[str, ...] | list[str], k: int, level: str | None, exclude_self: bool
) -> tuple[list[tuple[str, list[Match]]], list[Failure]]:
    """Search with every picture that can be read; also return those that cannot."""
    levels = gallery.encoder.levels
    if level is not None and level not in levels:
        raise click.UsageError(f"--level must be one of {', '.join(levels)}, got {level!r}")
    readable, codes, failed = [], [], []
    for query, result in gallery.encoder.stream(queries):  # all levels: to load a part of the network costs more
        if isinstance(result, ImageError):
            failed.append(Failure(query, result.reason))
        else:
            readable.append(query)
            codes.append(result)
    if not readable:
        return [], failed
    exclude = [gallery.id_of(query) for query in readable] if exclude_self else None
    matches = gallery.search_codes(np.stack(codes), k, level=level, exclude=exclude)
    return list(zip(readable, matches, strict=True)), failed


def _as_json(results: list[tuple[str, list[Match]]]) -> dict[str, Any]:
    return {"results": [{"query": query, "matches": [m._asdict() for m in matches]} for query, matches in results]}


def _write_search_sheet(
    path: str | Path,
    gallery: Gallery,
    results: list[tuple[str, list[Match]]],
    k: int,
    level: str | None,
    *,
    overwrite: bool = False,
) -> None:
    levels = dict(gallery.encoder.levels)
    write_sheet(
        path,
        [Row(query, [(match.path, match.distance) for match in matches]) for query, matches in results],
        title="Similar pictures",
        label="Query",
        facts={
            "Gallery": gallery.folder,
            "Pictures": f"{len(gallery):,}",
            "Level": f"{level} ({bits(levels[level])})" if level else f"all ({bits(gallery.encoder.bits)})",
            "Nearest": str(k),
            "Encoder": gallery.encoder.name,
        },
        folder=gallery.folder,
        far=(levels[level] if level else gallery.encoder.bits) / 2,  # random codes differ in half of their bits
        note="The number on a picture is its distance to the query: in how many bits their codes differ.",
        nothing="None of the pictures searched with could be read.",
        overwrite=overwrite,
    )


def _summary(changes: Changes, searchable: int) -> str:
    counts = {
        "added": changes.added,
        "changed": changes.changed,
        "removed": changes.removed,
        "unchanged": changes.unchanged,
        "failed": len(changes.failed),
    }
    parts = ", ".join(f"{count:,} {word}" for word, count in counts.items() if count)
    return f"{many(searchable, 'picture')} can be searched" + (f" ({parts})" if parts else "")


def _report(failed: list[Failure]) -> None:
    for failure in failed:
        click.echo(f"pyhash: skipped {printable(failure.path)}: {printable(failure.reason)}", err=True)

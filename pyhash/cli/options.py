"""Types of parameters and options that several commands take."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import click

from ..codes import MAX_BITS, Levels, as_levels
from ..errors import EncoderError
from ..images import check_grid
from ..networks import PROVIDERS, Layout, is_hub, is_named
from ..support import printable
from .errors import EncoderFailed
from .preparing import check_base, preparation_options

if TYPE_CHECKING:
    from ..encoder import Encoder

Command = TypeVar("Command", bound=Callable[..., Any])
T = TypeVar("T")


class SizeType(click.ParamType[Any]):
    """A side, or a height and a width."""

    name = "side or height x width"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | tuple[int, int]:
        """Return the side or (height, width)."""
        sides = [part for part in str(value).lower().split("x") if part.isdecimal() and int(part) > 0]
        if len(sides) not in (1, 2) or "x".join(sides) != str(value).lower():
            self.fail(f"must be a side such as 224, or HEIGHTxWIDTH such as 192x256, got {value!r}", param, ctx)
        return int(sides[0]) if len(sides) == 1 else (int(sides[0]), int(sides[1]))


class BytesType(click.ParamType[Any]):
    """A number of bytes such as ``500``, ``10k`` or ``2M``."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number of bytes."""
        found = re.fullmatch(r"(\d{1,15})([kmg]?)", str(value).lower(), re.ASCII)
        if found is None:
            self.fail(
                f"must be a number of bytes such as 500, 10k (10,000), 2M or 1G, got {value!r}",
                param,
                ctx,
            )
        return int(found[1]) * {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}[found[2]]


class GridType(click.ParamType[Any]):
    """Rows and columns of tiles."""

    name = "ROWSxCOLUMNS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Return (rows, columns)."""
        sides = str(value).lower().split("x")
        try:
            grid = check_grid([int(side) for side in sides if side.isdecimal()]) if len(sides) == 2 else None
        except ValueError:
            grid = None
        if grid is None:
            self.fail(f"must be ROWSxCOLUMNS such as 2x2, each from 1 to 16 and not 1x1, got {value!r}", param, ctx)
        return grid


class ModelType(click.Path):
    """The path of a model, or the name of one of the hub."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path or the name."""
        return value if is_named(value) else super().convert(value, param, ctx)


class NamesType(click.ParamType[Any]):
    """Names with commas between them."""

    name = "names"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[str]:
        """Return the names."""
        return [name.strip() for name in value.split(",")] if isinstance(value, str) else value


class LevelsType(click.ParamType[Any]):
    """Levels such as ``coarse=16,fine=48``, or a number of bits."""

    name = "levels"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Levels:
        """Return the levels."""
        if isinstance(value, Levels):
            return value
        try:
            if value.isdecimal():
                return as_levels(int(value))
            pairs = [part.split("=") for part in value.split(",")]
            return Levels(_once((name.strip(), int(bits)) for name, bits in pairs))
        except (TypeError, ValueError) as error:
            self.fail(f"must be like coarse=16,fine=48, or a number of bits, got {value!r}: {error}", param, ctx)


class BitsType(click.ParamType[Any]):
    """Bits of a code of two levels: whole bytes."""

    name = "bits"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the bits."""
        if str(value).isdecimal() and 16 <= int(value) <= MAX_BITS and int(value) % 8 == 0:
            return int(value)
        self.fail(f"must be a multiple of 8 from 16 to {MAX_BITS}, got {value!r}", param, ctx)


class NumbersType(click.ParamType[Any]):
    """Numbers of levels, such as ``coarse=3,fine=1``; whole ones alone where that is said."""

    name = "level=number"

    def __init__(self, *, whole: bool = False) -> None:
        self._whole = whole

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, float]:
        """Return the number of each level."""
        if isinstance(value, dict):
            return value
        try:
            pairs = [part.split("=") for part in value.split(",")]
            return _once((name.strip(), self._number(number.strip())) for name, number in pairs)
        except ValueError:
            self.fail(f"must be like coarse=3 or coarse=3,fine=1, each level once, got {value!r}", param, ctx)

    def _number(self, text: str) -> float:
        return int(text) if self._whole or text.lstrip("+-").isdecimal() else float(text)


def _once(pairs: Iterable[tuple[str, T]]) -> dict[str, T]:
    """Return the number of each level; ValueError where one is named twice."""
    numbers: dict[str, T] = {}
    for name, number in pairs:
        if name in numbers:
            raise ValueError(f"{name} is named twice")
        numbers[name] = number
    return numbers


def layout_option(command: Command) -> Command:
    """Take ``--layout``."""
    return click.option(
        "--layout",
        type=click.Choice(get_args(Layout)),
        help="Order of the input's axes, if the network does not tell.",
    )(command)


class FolderType(click.Path):
    """The path of a folder, or of a gallery's file, which stands for the folders that it remembers.

    A folder may be away where there is a gallery that may know it: that is asked.
    """

    def __init__(self, *, any_file: bool = False) -> None:
        super().__init__(exists=False)
        self._any_file = any_file

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path."""
        from ..gallery import default_file, is_gallery  # commands without a gallery do not wait for it

        path = os.fsdecode(super().convert(value, param, ctx))
        if os.path.isfile(path):
            if not (self._any_file or is_gallery(Path(path))):
                self.fail(f"must be a folder or a gallery's file, but {printable(path)} is neither.", param, ctx)
        elif not os.path.isdir(path):
            file = None if ctx is None else ctx.params.get("file")
            if not os.path.isfile(file if isinstance(file, str) else default_file(path)):
                self.fail(f"Directory {printable(path)!r} does not exist.", param, ctx)
        return path


def folder_argument(command: Command) -> Command:
    """Take FOLDER, or a gallery's file."""
    return click.argument("folder", type=FolderType())(command)


def overwrite_option(command: Command) -> Command:
    """Take ``--overwrite``."""
    return click.option("--overwrite", is_flag=True, help="Also replace a file that pyhash did not write.")(command)


def gallery_option(command: Command) -> Command:
    """Take ``--gallery``."""
    return click.option(
        "--gallery",
        "file",
        type=click.Path(dir_okay=False),
        metavar="FILE",
        is_eager=True,  # what FOLDER may be depends on it
        help="The gallery's file.  [default: FOLDER/.pyhash/gallery.sqlite; where FOLDER's disk may be taken away, "
        "is another machine's or cannot be written, in your data folder]",
    )(command)


def bits_option(command: Command) -> Command:
    """Take ``--bits``."""
    return click.option(
        "--bits",
        type=BitsType(),
        metavar="N",
        help="Bits of a code, a quarter of the bytes coarse; remembered.  [default: as the encoder has them]",
    )(command)


def parts_options(command: Command) -> Command:
    """Take ``--turned``, ``--tiles`` and ``--boxes``, and what takes them back."""
    options = [
        click.option(
            "--turned/--no-turned",
            default=None,
            help="Whether images are also found mirrored and turned (8 times the work and size); remembered.  "
            "[default: no-turned]",
        ),
        click.option(
            "--tiles",
            type=GridType(),
            help="Images are also found by their tiles, of a grid such as 2x2 and one in the middle; remembered.",
        ),
        click.option("--no-tiles", is_flag=True, help="Take back the tiles that were remembered."),
        click.option(
            "--boxes",
            type=click.Path(exists=True, dir_okay=False),
            metavar="FILE",
            help="Images are also found by these parts, such as what a detector found: CSV with the columns path, x0, "
            "y0, x1, y1, name (or no name), in pixels of the upright image; remembered.",
        ),
        click.option("--no-boxes", is_flag=True, help="Take back all boxes that were remembered."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def html_option(command: Command) -> Command:
    """Take ``--html``."""
    return click.option(
        "--html", type=click.Path(dir_okay=False), metavar="FILE", help="Also write a sheet with thumbnails."
    )(command)


def json_option(command: Command) -> Command:
    """Take ``--json``."""
    return click.option(
        "--json",
        "as_json",
        is_flag=True,
        help="Print JSON for scripts; beside a name that is not UTF-8, its bytes in base64, as path_bytes.",
    )(command)


def encoder_options(
    command: Callable[..., Any], *, remembered: bool = False, boxes: bool = False
) -> Callable[..., Any]:
    """Add the options that choose an encoder; the command gets `load_encoder`, which loads it.

    Where the command's gallery has `remembered` its encoder, that returns None unless an option chooses another.
    `boxes` is as for `preparation_options`.
    """

    @click.option(
        "--encoder",
        "model",
        type=ModelType(exists=True, dir_okay=False),
        metavar="MODEL",
        envvar="PYHASH_ENCODER",
        show_envvar=True,
        help="An ONNX model to use instead of the built-in one; 'small' for the built-in one for edge boxes; or "
        "hf://owner/repo for one of the Hugging Face hub; a gallery remembers with which it was made.",
    )
    @click.option("--output-name", metavar="NAME", help="Which output of a plain ONNX model to read.")
    @functools.partial(preparation_options, boxes=boxes)
    @click.option(
        "--size", type=SizeType(), metavar="SIDE", help="Input size in pixels, for ONNX models that accept any size."
    )
    @layout_option
    @click.option(
        "--exact-jpeg/--fast-jpeg",
        default=None,
        help="Decode large images whole before they are resized: slower, and some bits differ; a gallery remembers it.",
    )
    @click.option(
        "--providers",
        type=NamesType(),
        metavar="NAME,...",
        help="What ONNX Runtime computes with, best first, such as cuda,cpu.  [default: $PYHASH_PROVIDERS, or cpu]",
    )
    @functools.wraps(command)
    def wrapped(
        *args: Any,
        model: str | None,
        output_name: str | None,
        preprocess: dict[str, Any] | None,
        size: int | tuple[int, int] | None,
        layout: str | None,
        exact_jpeg: bool | None,
        providers: list[str] | None,
        **kwargs: Any,
    ) -> Any:
        told = {key: value for key, value in (("size", size), ("layout", layout)) if value is not None}
        if model is None and (output_name or preprocess or told):
            raise click.UsageError(
                "--output-name, --preprocess, --size and their like need an ONNX model: give it with --encoder"
            )
        if not is_hub(model):  # that says itself how it wants its images
            check_base(preprocess, next(iter(told), None))
        prepared = (preprocess or {}) | told or None
        if remembered and model is None and exact_jpeg is None:
            with _using(providers):
                return command(*args, load_encoder=lambda: None, **kwargs)
        load = functools.partial(load_encoder, model, output=output_name, preprocess=prepared, fast_jpeg=not exact_jpeg)
        with _using(providers):
            return command(*args, load_encoder=load, **kwargs)

    return wrapped


@contextmanager
def _using(providers: list[str] | None) -> Iterator[None]:
    """Compute with these: an encoder that a gallery remembers too, but no gallery remembers them."""
    before = os.environ.get(PROVIDERS)
    if providers is not None:
        os.environ[PROVIDERS] = ",".join(providers)
    try:
        yield
    finally:
        if providers is not None:
            os.environ.pop(PROVIDERS)
            os.environ |= {} if before is None else {PROVIDERS: before}


gallery_encoder_options = functools.partial(encoder_options, remembered=True)


def load_encoder(model: str | None = None, **options: Any) -> Encoder:
    """Load an encoder, or say which one cannot be used and why."""
    from ..encoder import Encoder

    try:
        return Encoder(model, **options)
    except (EncoderError, ValueError, OSError) as error:
        raise EncoderFailed(f"the encoder {model or 'built in'} cannot be used: {error}") from error

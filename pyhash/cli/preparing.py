"""Options that say how a network wants its images."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, get_args

import click

from ..images import CROPS, RESIZES, Box
from ..networks import PRESETS, ChannelOrder

__all__ = ["check_base", "preparation_options"]


class ThreeType(click.ParamType[Any]):
    """A number, or three with commas between them."""

    name = "number or three"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | tuple[float, ...]:
        """Return the number or the three."""
        try:
            numbers = tuple(float(part) for part in str(value).split(","))
        except ValueError:
            numbers = ()
        if len(numbers) not in (1, 3):
            self.fail(f"must be a number such as 0.5, or three such as 0.485,0.456,0.406, got {value!r}", param, ctx)
        return numbers[0] if len(numbers) == 1 else numbers


class ColourType(click.ParamType[Any]):
    """A grey value, or red, green and blue."""

    name = "value or r,g,b"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | tuple[int, ...]:
        """Return the value or the three."""
        parts = str(value).split(",")
        if len(parts) not in (1, 3) or not all(part.isdecimal() and int(part) < 256 for part in parts):
            self.fail(f"must be a whole number from 0 to 255, or three such as 114,114,114, got {value!r}", param, ctx)
        return int(value) if len(parts) == 1 else tuple(map(int, parts))


class CropType(click.ParamType[Any]):
    """A box in an image, or one of `CROPS`."""

    name = "x0,y0,x1,y1 or crop"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str | Box:
        """Return (left, top, right, bottom), or the name."""
        edges = [edge.strip() for edge in str(value).split(",")]
        if value in CROPS:
            return str(value)
        if len(edges) != 4 or not all(edge.isdecimal() for edge in edges):
            names = ", ".join(CROPS)
            self.fail(f"must be X0,Y0,X1,Y1 in pixels of the upright image, or {names}, got {value!r}", param, ctx)
        left, top, right, bottom = map(int, edges)
        if left >= right or top >= bottom:
            self.fail(f"must have X0 below X1 and Y0 below Y1, got {value!r}", param, ctx)
        return left, top, right, bottom


_OPTIONS: dict[str, Callable[[Any], Any]] = {
    "scale": click.option(
        "--scale", type=float, metavar="X", help="What a pixel's value, 0 to 255, is multiplied by.  [default: 1/255]"
    ),
    "mean": click.option(
        "--mean", type=ThreeType(), metavar="X|X,X,X", help="What is then subtracted, in the network's channel order."
    ),
    "std": click.option("--std", type=ThreeType(), metavar="X|X,X,X", help="What that is divided by."),
    "channel_order": click.option(
        "--channel-order", type=click.Choice(get_args(ChannelOrder)), help="Order of the colours the network takes."
    ),
    "resize": click.option("--resize", type=click.Choice(RESIZES), help="Filter that images are resized with."),
    "crop": click.option(
        "--crop",
        type=click.Choice(CROPS),
        help="What is resized: squash, the whole image; center, its middle; letterbox, the whole image in its own "
        "proportions.",
    ),
    "crop_fraction": click.option(
        "--crop-fraction",
        type=click.FloatRange(0, 1, min_open=True),
        metavar="X",
        help="Resize for a larger size and keep this much of it: 0.875 is 256, then 224.",
    ),
    "fill": click.option("--fill", type=ColourType(), metavar="V|R,G,B", help="What letterbox puts beside an image."),
}
"""One for each entry of the dict that ``preprocess=`` takes, but size and layout, which say more than that."""


_CROP_OR_BOX = click.option(
    "--crop",
    type=CropType(),
    metavar="X0,Y0,X1,Y1",
    help="Look for this part of each IMAGE alone, in pixels of the upright image. (Or squash, center or letterbox: "
    "what is resized for the network.)",
)


def check_base(preprocess: dict[str, Any] | None, option: str | None = None) -> None:
    """Refuse options that change a preparation which nothing names."""
    said = [option] if option else [key for key in preprocess or {} if key in _OPTIONS]
    if said and not {"preset", "scale", "mean", "std"} & (preprocess or {}).keys():
        name = said[0].replace("_", "-")
        raise click.UsageError(f"--{name} needs --preprocess, which says how the network wants its images")


def preparation_options(command: Callable[..., Any], *, boxes: bool = False) -> Callable[..., Any]:
    """Add ``--preprocess`` and the options that change what it names; the command gets `preprocess`, a dict or None.

    Where its images may be `boxes` in images, ``--crop`` takes one, too; the command then gets `crop`, a box or None.
    """

    @functools.wraps(command)
    def wrapped(*args: Any, preprocess: str | None, **kwargs: Any) -> Any:
        given = {"preset": preprocess} | {key: kwargs.pop(key) for key in _OPTIONS}
        if boxes:
            kwargs["crop"] = given.pop("crop") if isinstance(given["crop"], tuple) else None
        said = {key: value for key, value in given.items() if value is not None}
        return command(*args, preprocess=said or None, **kwargs)

    options = _OPTIONS | {"crop": _CROP_OR_BOX} if boxes else _OPTIONS
    for option in reversed(options.values()):
        wrapped = option(wrapped)
    return click.option(
        "--preprocess",
        metavar="NAME|FILE",
        help=f"How the network wants its images: {', '.join(PRESETS)}, or a preprocessor_config.json; the next options "
        "change what that says.",
    )(wrapped)

"""The commands ``pyhash build`` and ``pyhash taps``."""

# ruff: noqa: D301  (click wants a real \b before text that it must not wrap)

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import click

from .. import heads
from ..codes import Levels
from ..encoder import PRESETS, Built, Quantized, build
from ..errors import EncoderError, GraphError, ImageError, LabelError, QuantizationError
from ..gallery import Failure
from ..networks import POOLINGS, Layout, Tap, choose_taps, int8, taps
from ..pages import printable
from .main import EXIT_PARTIAL, _complain, _EncoderError, _json_option, _overwrite_option, _report, _Size, cli
from .output import many, print_facts, print_json, progress_bar

EXIT_WORSE = 5

_EXIT_CODES = """\b
Exit codes:
  0    all went well; pictures that cannot be read are listed and left out
  1    no picture can be read
  2    the command was called wrongly, or labels do not fit
  4    the network does not fit, or a package is missing
  5    the quantised network is worse than --tolerance allows; nothing was written
  130  interrupted; nothing was written
"""


_TAPS_EXIT_CODES = """\b
Exit codes:
  0    all went well
  2    the command was called wrongly
  4    the network does not fit, or a package is missing
"""


class _Names(click.ParamType[Any]):
    name = "names"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[str]:
        return [name.strip() for name in value.split(",")] if isinstance(value, str) else value


class _LevelsType(click.ParamType[Any]):
    name = "levels"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Levels:
        if isinstance(value, Levels):
            return value
        try:
            if value.isdecimal():
                return Levels.single(int(value))
            pairs = [part.split("=") for part in value.split(",")]
            return Levels({name.strip(): int(bits) for name, bits in pairs})
        except (TypeError, ValueError) as error:
            self.fail(f"must be like coarse=16,fine=48, or a number of bits, got {value!r}: {error}", param, ctx)


def _network_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say how a network takes its pictures."""

    @click.argument("backbone", metavar="MODEL", type=click.Path(exists=True, dir_okay=False))
    @click.option("--size", type=_Size(), metavar="SIDE", help="Of the pictures, where the network leaves it open.")
    @click.option(
        "--layout", type=click.Choice(["nchw", "nhwc"]), help="Where the channels are, when the network does not show."
    )
    @click.option("--input", metavar="NAME", help="Which input is the picture, where several could be it.")
    @click.option("--n-taps", type=click.IntRange(min=1), default=4, show_default=True, help="How many depths to read.")
    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except (GraphError, EncoderError) as error:
            raise _EncoderError(f"{kwargs['backbone']} cannot be used: {error}") from error

    return wrapped


@cli.command("build", epilog=_EXIT_CODES, short_help="Make an encoder of an ONNX network and a folder of pictures.")
@_network_options
@click.option(
    "--images", required=True, type=click.Path(exists=True, file_okay=False), metavar="DIR", help="Pictures to fit on."
)
@click.option(
    "--labels",
    metavar="SOURCE",
    help="'folders', or a file: a CSV with the columns path and one a level, or a tree of classes (CSV or JSON).  "
    "[default: folders, for the heads that use labels]",
)
@click.option(
    "--levels",
    type=_LevelsType(),
    default="coarse=16,fine=48",
    show_default=True,
    help="Names and bits, from coarse to fine; or a number of bits.",
)
@click.option(
    "-o", "--output", "out", required=True, type=click.Path(dir_okay=False), metavar="FILE", help="The encoder."
)
@click.option(
    "--head",
    type=click.Choice([*heads.SUPERVISED, *heads.UNSUPERVISED]),
    default="hadamard-ridge",
    show_default=True,
    help=f"What makes bits of features; {' and '.join(heads.SUPERVISED)} use labels.",
)
@click.option("--taps", "tap_names", type=_Names(), help="Tensors to read, from early to late (see: pyhash taps).")
@click.option("--pooling", type=_Names(), help=f"How a map becomes a vector, for each tap: {', '.join(POOLINGS)}.")
@click.option(
    "--weights",
    multiple=True,
    metavar="LEVEL=W,W,...",
    help="How much a level heeds each tap; what weighs 0 is not read. May be repeated.",
)
@click.option(
    "--preprocess",
    type=click.Choice(list(PRESETS)),
    default="imagenet",
    show_default=True,
    help="How the network wants its pictures.",
)
@click.option(
    "--quantize",
    type=click.Choice(int8.KINDS),
    help="weights: store them as int8, a quarter of the size. int8: compute so, too, which is faster on most CPUs.",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    default=0.01,
    show_default=True,
    help="How much mean average precision --quantize may cost; where it costs more, nothing is written.",
)
@click.option("--max-images", type=click.IntRange(min=2), metavar="N", help="Draw so many of the pictures at random.")
@click.option("--name", help="What to call the encoder.  [default: the network's file]")
@_overwrite_option
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@_json_option
def build_command(
    backbone: str,
    images: str,
    labels: str | None,
    levels: Levels,
    out: str,
    head: str,
    tap_names: list[str] | None,
    weights: tuple[str, ...],
    max_images: int | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Make an encoder of any ONNX image network: pictures in, codes out, in one file.

    The network is read at several depths, and a head is fitted that makes bits of what is read there, with the
    labels of the pictures in DIR. It is not trained: this takes about as long as indexing the pictures. With the
    folders as labels these are GROUP/CLASS/picture.jpg, or CLASS/picture.jpg; levels coarser than the folders then
    group classes that look alike.

    \b
    Examples:
      pyhash build resnet50.onnx --images train -o encoder.onnx
      pyhash build vgg16.onnx --preprocess keras-caffe --images train --levels 64 -o encoder.onnx
      pyhash build vit.onnx --images photos --head pca-itq --levels 128 -o encoder.onnx
      pyhash build net.onnx --images train --labels labels.csv --quantize weights -o encoder.onnx
    and then, where photos was indexed with another encoder before:
      pyhash index photos --encoder encoder.onnx --rebuild
      pyhash search photos query.jpg --encoder encoder.onnx
    """
    if labels is None and head in heads.SUPERVISED:
        labels = "folders"
    elif labels is not None and head not in heads.SUPERVISED:
        raise click.UsageError(f"--labels belong to a head that uses them ({', '.join(heads.SUPERVISED)}), got {head}")
    try:
        with progress_bar("reading the network", "reading pictures") as progress:
            built = build(
                backbone,
                images,
                labels,
                levels,
                out,
                head=head,
                taps=tap_names,
                weights=dict(map(_weights, weights)) or None,
                max_images=max_images,
                progress=lambda step, done, total: progress(done, total) if step == "features" else None,
                **options,
            )
    except QuantizationError as error:
        if as_json:
            print_json({"written": None, "quantized": _quantized_as_json(error.report)})
        return _complain(str(error), EXIT_WORSE)
    except (GraphError, EncoderError):
        raise
    except ImageError as error:
        return _complain(str(error), EXIT_PARTIAL)
    except (LabelError, ValueError) as error:  # what does not fit together
        raise click.UsageError(str(error)) from error
    if as_json:
        print_json(_as_json(built))
    else:
        _print(built, images)
    _report([Failure(error.path or "a picture", error.reason) for error in built.failed])
    return 0


@cli.command("taps", epilog=_TAPS_EXIT_CODES, short_help="List where an ONNX network can be read.")
@_network_options
@click.option("--all", "everything", is_flag=True, help="Also list what build would not choose.")
@_json_option
def taps_command(
    backbone: str,
    size: int | tuple[int, int] | None,
    layout: Layout | None,
    input: str | None,
    n_taps: int,
    everything: bool,
    as_json: bool,
) -> int:
    """List where an ONNX network can be read: the tensors that pyhash build --taps takes.

    Shown are those that build would choose, at the ends of the last stages; with --all every tensor that can be
    read, those chosen with a star.

    \b
    Examples:
      pyhash taps resnet50.onnx
      pyhash taps efficientnet.onnx --size 224 --all
    """
    chosen = choose_taps(backbone, n_taps, size=size, layout=layout, input=input)
    listed = taps(backbone, size=size, layout=layout, input=input) if everything else chosen
    if as_json:
        print_json({"taps": [asdict(tap) | {"chosen": tap in chosen} for tap in listed]})
        return 0
    width = max(len(printable(tap.name)) for tap in listed)
    for tap in listed:
        star = "*" if everything and tap in chosen else " " if everything else ""
        click.echo(f"{star}{printable(tap.name):{width}}  {_shape(tap):>16}  {tap.op}")
    return 0


def _shape(tap: Tap) -> str:
    return " x ".join(map(str, (*tap.positions, tap.channels)))


def _weights(text: str) -> tuple[str, list[float]]:
    level, _, numbers = text.partition("=")
    try:
        return level, [float(number) for number in numbers.split(",")]
    except ValueError as error:
        raise click.UsageError(f"--weights must be like coarse=1,1,0, got {text!r}") from error


def _as_json(built: Built) -> dict[str, Any]:
    return {
        "written": built.path,
        "levels": dict(built.levels),
        "taps": built.taps,
        "weights": {level: of.get("taps") for level, of in built.fitted.details.items()},
        "pictures": built.n_pictures,
        "classes": built.classes,
        "grouped": list(built.grouped),
        "batch": built.batch,
        "quantized": None if built.quantized is None else _quantized_as_json(built.quantized),
        "failed": [{"path": error.path, "reason": error.reason} for error in built.failed],
    }


def _quantized_as_json(report: Quantized) -> dict[str, Any]:
    return asdict(report) | {"loss": report.loss}


def _print(built: Built, images: str) -> None:
    facts: dict[str, Any] = {
        "encoder": built.path,
        "levels": dict(built.levels),
        "reads": built.taps,
        "pictures": f"{built.n_pictures:,}",
    }
    if built.classes:
        facts["classes"] = built.classes
    if built.grouped:
        facts["no labels for"] = f"{', '.join(built.grouped)}: classes that look alike were grouped"
    if built.batch:
        facts["batch"] = f"{many(built.batch, 'picture')} at a time: the network insists on it"
    if built.quantized is not None:
        report, kind = built.quantized, built.quantized.kind
        facts |= {
            f"{kind} size": "{:,.0f} kB, in float {:,.0f} kB".format(*(n / 1e3 for n in reversed(report.n_bytes))),
            f"{kind} time": "{:.2f} ms a picture, in float {:.2f} ms".format(*reversed(report.milliseconds)),
            f"{kind} bits": f"{report.flipped:.2%} flip under the float network's head",
        }
        for ranking, (before, after) in report.mean_average_precision.items():
            facts[f"{kind} mAP {ranking}"] = f"{after:.4f}, in float {before:.4f}, on held-out pictures"
    print_facts(facts)
    click.echo(f"Now: pyhash index {printable(images)} --encoder {printable(built.path)} --rebuild")

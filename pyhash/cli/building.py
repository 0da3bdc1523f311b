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
from ..encoder import Built, Quantized, build
from ..errors import EncoderError, GraphError, PyhashError, QuantizationError
from ..networks import POOLINGS, Layout, Tap, choose_taps, int8, is_hub, taps
from ..support import many, printable
from .errors import EncoderFailed, Exit
from .options import (
    LevelsType,
    ModelType,
    NamesType,
    SizeType,
    folder_argument,
    json_option,
    layout_option,
    overwrite_option,
)
from .output import print_facts, print_json, print_skipped, print_table, progress_bar, skipped_as_json
from .preparing import check_base, preparation_options


def _network_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say how a network takes its images."""

    @click.argument("backbone", metavar="MODEL", type=ModelType(exists=True, dir_okay=False))
    @click.option(
        "--size", type=SizeType(), metavar="SIDE", help="Input size in pixels, for networks that accept any size."
    )
    @layout_option
    @click.option("--input", metavar="NAME", help="Which input takes the image, where several could.")
    @click.option("--n-taps", type=click.IntRange(min=1), default=4, show_default=True, help="How many layers to read.")
    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except (GraphError, EncoderError) as error:
            raise EncoderFailed(f"{kwargs['backbone']} cannot be used: {error}") from error

    return wrapped


@click.command("build", short_help="Make an encoder of an ONNX network and a folder of images.")
@_network_options
@folder_argument
@click.option(
    "--labels",
    metavar="SOURCE",
    help="'folders', or a file: a CSV with the columns path and one a level, or a tree of classes (CSV or JSON).  "
    "[default: folders, for the heads that use labels]",
)
@click.option(
    "--levels",
    type=LevelsType(),
    default="coarse=16,fine=48",
    show_default=True,
    help="Names and bits, from coarse to fine; or a number of bits.",
)
@click.option(
    "-o", "--output", "out", required=True, type=click.Path(dir_okay=False), metavar="FILE", help="The file to write."
)
@click.option(
    "--head",
    type=click.Choice([*heads.SUPERVISED, *heads.UNSUPERVISED]),
    default="hadamard-ridge",
    show_default=True,
    help=f"How bits are made of features; {' and '.join(heads.SUPERVISED)} use labels.",
)
@click.option("--taps", "tap_names", type=NamesType(), help="Layers to read, from early to late (see: pyhash taps).")
@click.option("--pooling", type=NamesType(), help=f"How a layer becomes a vector, for each tap: {', '.join(POOLINGS)}.")
@click.option(
    "--weights",
    multiple=True,
    metavar="LEVEL=W,W,...",
    help="Weight of each tap, per level. Taps with weight 0 are skipped. May be repeated.",
)
@preparation_options
@click.option(
    "--quantize",
    type=click.Choice(int8.KINDS),
    help="Quantize to int8; fails if accuracy drops more than --tolerance. weights: store them so, a quarter of the "
    "size. int8: also compute so, which is faster on most CPUs.",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    default=0.01,
    show_default=True,
    help="Mean average precision that --quantize may cost; if it costs more, nothing is written.",
)
@click.option("--max-images", type=click.IntRange(min=2), metavar="N", help="Use only so many images, drawn at random.")
@click.option("--name", help="What to call the encoder.  [default: the network's file]")
@overwrite_option
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Decides what is drawn at random."
)
@json_option
def build_command(
    backbone: str,
    folder: str,
    labels: str | None,
    levels: Levels,
    out: str,
    head: heads.Kind,
    tap_names: list[str] | None,
    preprocess: dict[str, Any] | None,
    weights: tuple[str, ...],
    max_images: int | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Make an encoder of any ONNX image network: images in, codes out, in one file.

    The network is read at several layers, and a head is fitted that makes bits of what is read there, with the
    labels of the images in FOLDER. The network is not trained: this takes about as long as indexing the images.
    With the folders as labels these are GROUP/CLASS/image.jpg, or CLASS/image.jpg; levels coarser than the folders
    then group classes that look alike.

    \b
    Examples:
      pyhash build resnet50.onnx train -o encoder.onnx
      pyhash build vgg16.onnx train --preprocess keras-caffe --levels 64 -o encoder.onnx
      pyhash build net.onnx train --mean 0.5 --std 0.25 --crop letterbox -o encoder.onnx
      pyhash build vit.onnx photos --head pca-itq --levels 128 -o encoder.onnx
      pyhash build net.onnx train --labels labels.csv --quantize weights -o encoder.onnx
      pyhash build hf://owner/repo train -o encoder.onnx
    and then, where photos was indexed with another encoder before:
      pyhash index photos --encoder encoder.onnx --rebuild
      pyhash search photos query.jpg --encoder encoder.onnx
    """
    if not is_hub(backbone):  # that says itself how it wants its images
        check_base(preprocess)
    if labels is None and head in heads.SUPERVISED:
        labels = "folders"
    elif labels is not None and head not in heads.SUPERVISED:
        raise click.UsageError(f"--labels needs a head that uses labels ({', '.join(heads.SUPERVISED)}), got {head}")
    try:
        with progress_bar("reading the network", "reading images") as progress:
            built = build(
                backbone,
                folder,
                labels,
                levels,
                out,
                head=head,
                taps=tap_names,
                preprocess=preprocess,
                weights=dict(map(_weights, weights)) or None,
                max_images=max_images,
                progress=lambda step, done, total: progress(done, total) if step == "features" else None,
                **options,
            )
    except QuantizationError as error:
        if as_json:
            print_json({"written": None, "quantized": _quantized_as_json(error.report)})
        raise
    except PyhashError:
        raise
    except ValueError as error:  # what does not fit together
        raise click.UsageError(str(error)) from error
    if as_json:
        print_json(_as_json(built))
    else:
        _print(built, folder)
    print_skipped(built.failed)
    return Exit.DONE


@click.command("taps", short_help="List the layers of an ONNX network that can be used.")
@_network_options
@click.option("--all", "everything", is_flag=True, help="Also list what build would not choose.")
@json_option
def taps_command(
    backbone: str,
    size: int | tuple[int, int] | None,
    layout: Layout | None,
    input: str | None,
    n_taps: int,
    everything: bool,
    as_json: bool,
) -> int:
    """List the layers of an ONNX network that can be used: the tensors that pyhash build --taps takes.

    Shown are those that build would choose, at the ends of the last stages; with --all every tensor that can be
    read, those chosen with a star.

    \b
    Examples:
      pyhash taps resnet50.onnx
      pyhash taps efficientnet.onnx --size 224 --all
      pyhash taps hf://owner/repo
    """
    chosen = choose_taps(backbone, n_taps, size=size, layout=layout, input=input)
    listed = taps(backbone, size=size, layout=layout, input=input) if everything else chosen
    if as_json:
        print_json({"taps": [asdict(tap) | {"chosen": tap in chosen} for tap in listed]})
    else:
        stars = ["*" if everything and tap in chosen else "" for tap in listed]
        rows = [[star + tap.name, _shape(tap), tap.op] for star, tap in zip(stars, listed, strict=True)]
        print_table(rows, right=[1])
    return Exit.DONE


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
        "images": built.n_images,
        "classes": built.classes,
        "grouped": list(built.grouped),
        "batch": built.batch,
        "quantized": None if built.quantized is None else _quantized_as_json(built.quantized),
        "failed": skipped_as_json(built.failed),
    }


def _quantized_as_json(report: Quantized) -> dict[str, Any]:
    return asdict(report) | {"loss": report.loss}


def _print(built: Built, folder: str) -> None:
    facts: dict[str, Any] = {
        "encoder": built.path,
        "levels": dict(built.levels),
        "reads": built.taps,
        "images": f"{built.n_images:,}",
    }
    if built.classes:
        facts["classes"] = built.classes
    if built.grouped:
        facts["no labels for"] = f"{', '.join(built.grouped)}: classes that look alike were grouped"
    if built.batch:
        facts["batch"] = f"{many(built.batch, 'image')} at a time: the network has a fixed batch size"
    if built.quantized is not None:
        report, kind = built.quantized, built.quantized.kind
        facts |= {
            f"{kind} size": "{:,.0f} kB, in float {:,.0f} kB".format(*(n / 1e3 for n in reversed(report.n_bytes))),
            f"{kind} time": "{:.2f} ms an image, in float {:.2f} ms".format(*reversed(report.milliseconds)),
            f"{kind} bits": f"{report.flipped:.2%} flip under the float network's head",
        }
        for ranking, (before, after) in report.mean_average_precision.items():
            facts[f"{kind} mAP {ranking}"] = f"{after:.4f}, in float {before:.4f}, on held-out images"
    print_facts(facts)
    click.echo(f"Now: pyhash index {printable(folder)} --encoder {printable(built.path)} --rebuild")

"""The command ``pyhash eval``."""

# ruff: noqa: D301  (click wants a real \b before text that it must not wrap)

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..encoder import evaluate_folder
from ..errors import PyhashError
from ..evaluation import PLOT_SUFFIXES, Report, plot_pr
from ..support import require
from .errors import Exit
from .options import NamesType, encoder_options, json_option, overwrite_option
from .output import print_json, print_skipped, print_table, print_wrote, progress_bar

if TYPE_CHECKING:
    from ..encoder import Encoder


@click.command("eval", short_help="Measure how well codes retrieve labelled images.")
@click.argument("queries", type=click.Path(exists=True, file_okay=False))
@click.argument("database", required=False, type=click.Path(exists=True, file_okay=False))
@click.option(
    "--labels",
    default="folders",
    show_default=True,
    metavar="SOURCE",
    help="'folders', or a file: a CSV with the columns path and one a level, or a tree of classes (CSV or JSON).",
)
@click.option("--database-labels", metavar="SOURCE", help="Labels of DATABASE, if in another file.")
@click.option(
    "--levels",
    type=NamesType(),
    help="Levels of the labels, from coarse to fine.  [default: those of the encoder]",
)
@click.option(
    "-k",
    "ks",
    type=click.IntRange(min=1),
    multiple=True,
    metavar="K",
    help="A cut-off for the rows @k; may be repeated.  [default: 1, 10, 100 and 1000]",
)
@click.option(
    "--radius",
    type=click.IntRange(min=0),
    default=2,
    metavar="BITS",
    show_default=True,
    help="Hamming radius of the P@r rows.",
)
@click.option("--max-queries", type=click.IntRange(min=1), metavar="N", help="Use only so many queries, at random.")
@click.option("--training", metavar="TEXT", help="What the encoder was trained on.  [default: what its file says]")
@click.option(
    "--held-out/--trained-on",
    "held_out",
    default=None,
    help="Whether DATABASE was kept out of the training, which the table then states.",
)
@click.option(
    "--plot", type=click.Path(dir_okay=False), metavar="FILE", help="Also draw precision-recall: .png or .svg."
)
@click.option(
    "--format",
    "style",
    type=click.Choice(["table", "md"]),
    help="How to print it.  [default: a table on a terminal, Markdown elsewhere]",
)
@overwrite_option
@encoder_options
@json_option
def eval_command(
    queries: str,
    database: str | None,
    labels: str,
    database_labels: str | None,
    levels: list[str] | None,
    ks: tuple[int, ...],
    radius: int,
    max_queries: int | None,
    training: str | None,
    held_out: bool | None,
    plot: str | None,
    style: str | None,
    overwrite: bool,
    load_encoder: Callable[[], Encoder],
    as_json: bool,
) -> int:
    """Search in DATABASE with every image of QUERIES, and measure how often the labels agree.

    An image found is right at a level when it has the query's label there. With the folders as labels these are
    GROUP/CLASS/image.jpg, or CLASS/image.jpg for the finest level alone. Without DATABASE the images of QUERIES
    search each other. No image is ever an answer to itself.

    \b
    Examples:
      pyhash eval photos/test photos/train --held-out
      pyhash eval photos --max-queries 500 --plot pr.png
      pyhash eval val train --labels classes.csv --levels coarse,fine --encoder encoder.onnx --json

    \b
    What the rows of the table are:
      mAP         average precision over the whole ranking, mean over queries
      mAP@k       the same over the first k
      P@k         share of the first k that is right
      R@k         share of all that is right found in the first k
      P@r<=2      share that is right within 2 bits; none there counts 0
      empty@r<=2  share of the queries that have none there
      nDCG@k, mAHP@k
                  first k judged by how many levels agree

    Columns say what was ranked by (the whole code, or one level of it) and which labels judged. Distances tie
    often: every figure is the mean over all orders of the tied images, so the order of the files cannot move it.
    """
    if plot is not None:
        if Path(plot).suffix.lower() not in PLOT_SUFFIXES:
            raise click.UsageError(f"--plot must end in {' or '.join(PLOT_SUFFIXES)}, got {plot!r}")
        require("matplotlib", "plot")
    encoder = load_encoder()
    try:
        with progress_bar("encoding", "encoding") as progress:
            trial = evaluate_folder(
                queries,
                database,
                encoder,
                labels=labels,
                database_labels=database_labels,
                levels=levels,
                ks=ks or None,
                radius=radius,
                max_queries=max_queries,
                training=training,
                held_out=held_out,
                progress=progress,
            )
    except PyhashError:
        raise
    except ValueError as error:  # labels or cut-offs that do not fit together
        raise click.UsageError(str(error).replace("ks must", "-k must", 1)) from error
    report = trial.report
    if plot is not None:
        title = f"{encoder.name}: {report.protocol.queries} in {report.protocol.database}"
        plot_pr(report, plot, title, overwrite=overwrite)
    if as_json:
        print_json(report.to_dict())
    elif style == "md" or (style is None and not sys.stdout.isatty()):
        click.echo(report.markdown(), nl=False)
    else:
        _print(report)
    if plot is not None:
        print_wrote(plot)
    print_skipped(trial.failed)
    return Exit.UNREADABLE if trial.failed else Exit.DONE


def _print(report: Report) -> None:
    click.echo(report.statement())
    for header, *rows in report.tables():
        click.echo()
        print_table(rows, header, right=range(1, len(header)))

"""The command ``pyhash eval``."""

# ruff: noqa: D301  (click wants a real \b before text that it must not wrap)

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError, LabelError
from ..evaluation import PLOT_SUFFIXES, Protocol, evaluate, plot_pr
from ..gallery import Failure
from ..labels import Labelled, read_labels
from ..pages import printable
from ..support import require
from .main import _EXIT_CODES, EXIT_PARTIAL, _encoder_options, _json_option, _overwrite_option, _report, cli
from .output import print_json, progress_bar

if TYPE_CHECKING:
    from ..encoder import Encoder


@cli.command("eval", epilog=_EXIT_CODES, short_help="Measure how well codes retrieve labelled pictures.")
@click.argument("queries", type=click.Path(exists=True, file_okay=False))
@click.argument("database", required=False, type=click.Path(exists=True, file_okay=False))
@click.option(
    "--labels",
    default="folders",
    show_default=True,
    metavar="SOURCE",
    help="'folders', or a file: a CSV with the columns path and one a level, or a tree of classes (CSV or JSON).",
)
@click.option("--database-labels", metavar="SOURCE", help="Those of DATABASE, where they are in another file.")
@click.option(
    "--levels", metavar="NAMES", help="Levels of the labels, from coarse to fine.  [default: those of the encoder]"
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
    help="Of the ball in the rows @r.",
)
@click.option("--max-queries", type=click.IntRange(min=1), metavar="N", help="Draw so many of the queries at random.")
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
@_overwrite_option
@_encoder_options
@_json_option
def eval_command(
    queries: str,
    database: str | None,
    labels: str,
    database_labels: str | None,
    levels: str | None,
    ks: tuple[int, ...],
    radius: int,
    max_queries: int | None,
    training: str | None,
    held_out: bool | None,
    plot: str | None,
    overwrite: bool,
    load_encoder: Callable[[], Encoder],
    as_json: bool,
) -> int:
    """Search in DATABASE with every picture of QUERIES, and measure how often the labels agree.

    A picture found is right at a level when it has the query's label there. With the folders as labels these are
    GROUP/CLASS/picture.jpg, or CLASS/picture.jpg for the finest level alone. Without DATABASE the pictures of
    QUERIES search each other. No picture is ever an answer to itself.

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
    often: every figure is the mean over all orders of the tied pictures, so the order of the files cannot move it.
    """
    if plot is not None:
        if Path(plot).suffix.lower() not in PLOT_SUFFIXES:
            raise click.UsageError(f"--plot must end in {' or '.join(PLOT_SUFFIXES)}, got {plot!r}")
        require("matplotlib", "plot")
    encoder = load_encoder()
    names = [name.strip() for name in levels.split(",")] if levels else list(encoder.levels)
    asked = _read(queries, labels, names)
    stored = _read(database, database_labels or labels, names) if database is not None else asked
    if max_queries is not None and max_queries < len(asked.files):
        rows = np.sort(np.random.default_rng(0).choice(len(asked.files), max_queries, replace=False))
        asked = Labelled(
            [asked.files[row] for row in rows],
            {level: [values[row] for row in rows] for level, values in asked.labels.items()},
        )
    codes, failed = _encode(encoder, [*asked.files, *stored.files])
    query_codes, query_labels, query_files = _kept(asked, codes)
    database_codes, answer_labels, database_files = _kept(stored, codes)
    if not query_files or not database_files:
        _report(failed)
        raise click.UsageError(f"no picture of {queries if not query_files else database or queries} could be read")
    row_of = {file: row for row, file in enumerate(database_files)}
    own = np.array([row_of.get(file, -1) for file in query_files])
    protocol = Protocol(
        queries=_title(queries),
        database=_title(database or queries),
        training=training or encoder.metadata.training or "not stated",
        database_in_training=None if held_out is None else not held_out,
    )
    try:
        report = evaluate(
            query_codes,
            database_codes,
            query_labels,
            answer_labels,
            levels=encoder.levels,
            ks=ks or None,
            radius=radius,
            exclude_self=own if (own >= 0).any() else False,
            protocol=protocol,
        )
    except ValueError as error:  # labels or cut-offs that do not fit together
        raise click.UsageError(str(error).replace("ks must", "-k must", 1)) from error
    if plot is not None:
        plot_pr(report, plot, f"{encoder.name}: {protocol.queries} in {protocol.database}", overwrite=overwrite)
    if as_json:
        print_json(report.to_dict())
    else:
        click.echo(report.markdown(), nl=False)
    if plot is not None:
        click.echo(f"wrote {printable(plot)}", err=True)
    _report(failed)
    return EXIT_PARTIAL if failed else 0


def _read(folder: str, source: str, levels: Sequence[str]) -> Labelled:
    try:
        return read_labels(folder, source, levels)
    except LabelError as error:
        raise click.UsageError(str(error)) from error


def _encode(encoder: Encoder, files: Sequence[str]) -> tuple[dict[str, NDArray[np.uint8]], list[Failure]]:
    """Encode each file once, behind a progress bar; also return those that cannot be read."""
    distinct = list({os.path.realpath(file): file for file in files}.items())
    codes: dict[str, NDArray[np.uint8]] = {}
    failed = []
    with progress_bar("encoding", "encoding") as progress:
        for (real, _), (file, result) in zip(distinct, encoder.stream([file for _, file in distinct]), strict=True):
            if isinstance(result, ImageError):
                failed.append(Failure(file, result.reason))
            else:
                codes[real] = result
            progress(len(codes) + len(failed), len(distinct))
    return codes, failed


def _kept(
    labelled: Labelled, codes: dict[str, NDArray[np.uint8]]
) -> tuple[NDArray[np.uint8], dict[str, NDArray[Any]], list[str]]:
    """Codes, labels and real paths of the pictures that could be read."""
    real = [os.path.realpath(file) for file in labelled.files]
    rows = [row for row, file in enumerate(real) if file in codes]
    labels = {level: np.array(values)[rows] for level, values in labelled.labels.items()}
    files = [real[row] for row in rows]
    return np.array([codes[file] for file in files], np.uint8), labels, files


def _title(folder: str) -> str:
    path = Path(folder).resolve()
    return f"{path.parent.name}/{path.name}" if path.parent.name else path.name

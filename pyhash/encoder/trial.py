"""A trial: folders of labelled images encoded, searched and judged, in one call."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError
from ..evaluation import Protocol, Report, evaluate
from ..labels import read_labels
from .encoder import Encoder

__all__ = ["Trial", "evaluate_folder"]


@dataclass(frozen=True)
class Trial:
    """What `evaluate_folder` found.

    Attributes
    ----------
    report : Report
        The figures, and the protocol they were found under.
    failed : list of ImageError
        Images that could not be read, and subfolders that could not be listed; they were left out.
    """

    report: Report
    failed: list[ImageError]


def evaluate_folder(
    queries: str | os.PathLike[str],
    database: str | os.PathLike[str] | None = None,
    encoder: Encoder | str | os.PathLike[str] | None = None,
    *,
    labels: str | os.PathLike[str] = "folders",
    database_labels: str | os.PathLike[str] | None = None,
    levels: Sequence[str] | None = None,
    ks: Sequence[int] | None = None,
    radius: int = 2,
    max_queries: int | None = None,
    seed: int = 0,
    training: str | None = None,
    held_out: bool | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Trial:
    """Search in a folder with every image of another one, and measure how often the labels agree.

    An image found is right at a level when it has the query's label there. No image is ever an answer to itself: a
    file that is among the queries and in the database, under whatever path, is left out of its own answer.

    Parameters
    ----------
    queries : path
        A folder of labelled images.
    database : path, optional
        The folder to search in; the queries search each other unless given.
    encoder : Encoder, path or name, optional
        The built-in one unless given.
    labels, database_labels : "folders" or path
        Where the labels come from, as `pyhash.labels.read_labels` takes them; those of the database are found like
        those of the queries unless given.
    levels : sequence of str, optional
        Names of the labels' levels, from coarse to fine; those of the encoder unless given.
    ks, radius
        Cut-offs, as `pyhash.evaluate` takes them.
    max_queries : int, optional
        Use at most so many queries, drawn at random.
    seed : int
        Of that draw.
    training : str, optional
        What the encoder was trained on, for the protocol; what its file says unless given.
    held_out : bool, optional
        Whether the database was kept out of the training, for the protocol.
    progress : callable, optional
        Called with how many images are done and how many there are.

    Returns
    -------
    Trial

    Raises
    ------
    LabelError
        When labels do not fit the images or the levels.
    ImageError
        When no image of a folder can be read.
    EncoderError
        When the encoder cannot be used.
    ValueError
        When cut-offs or labels do not fit together.

    See Also
    --------
    pyhash.evaluate : The same for codes.

    Examples
    --------
    >>> trial = pyhash.evaluate_folder("photos/test", "photos/train", held_out=True)  # doctest: +SKIP
    >>> trial.report.value("mAP", "fine", "fine")  # doctest: +SKIP
    0.43
    """
    if encoder is None or isinstance(encoder, (str, os.PathLike)):
        encoder = Encoder(encoder)
    names = list(levels) if levels is not None else list(encoder.levels)
    if database is None:
        asked = stored = read_labels(queries, labels, names)
    else:
        stored = read_labels(database, database_labels or labels, names)
        asked = read_labels(queries, labels, names, classes=set(stored.labels[names[-1]]))
    unlisted = asked.failed if database is None else [*asked.failed, *stored.failed]
    if max_queries is not None and max_queries < len(asked.files):
        asked = asked.take(np.sort(np.random.default_rng(seed).choice(len(asked.files), max_queries, replace=False)))
    codes, unread = _encode(encoder, [*asked.files, *stored.files], progress)
    asked, stored = (
        part.take([row for row, file in enumerate(part.files) if file in codes]) for part in (asked, stored)
    )
    if not asked.files or not stored.files:
        raise unread[0]
    row_of = {os.path.realpath(file): row for row, file in enumerate(stored.files)}
    own = np.array([row_of.get(os.path.realpath(file), -1) for file in asked.files])
    report = evaluate(
        np.stack([codes[file] for file in asked.files]),
        np.stack([codes[file] for file in stored.files]),
        asked.labels,
        stored.labels,
        levels=encoder.levels,
        ks=ks,
        radius=radius,
        exclude_self=own if (own >= 0).any() else False,
        protocol=Protocol(
            queries=_title(queries),
            database=_title(queries if database is None else database),
            training=training or encoder.metadata.training or "not stated",
            database_in_training=None if held_out is None else not held_out,
        ),
    )
    return Trial(report, [*unlisted, *unread])


def _encode(
    encoder: Encoder, files: Sequence[str], progress: Callable[[int, int], object] | None
) -> tuple[dict[str, NDArray[np.uint8]], list[ImageError]]:
    """Encode files, each one once whatever its paths; return the code of each path, and what cannot be read."""
    paths: dict[str, list[str]] = {}
    for file in dict.fromkeys(files):
        paths.setdefault(os.path.realpath(file), []).append(file)
    codes: dict[str, NDArray[np.uint8]] = {}
    failed: list[ImageError] = []
    results = encoder.stream([same[0] for same in paths.values()])
    for done, (same, encoded) in enumerate(zip(paths.values(), results, strict=True), 1):
        if encoded.code is not None:
            codes |= dict.fromkeys(same, encoded.code)
        if encoded.error is not None:
            failed.append(encoded.error)
        if progress is not None:
            progress(done, len(paths))
    return codes, failed


def _title(folder: str | os.PathLike[str]) -> str:
    path = Path(folder).resolve()
    return f"{path.parent.name}/{path.name}" if path.parent.name else path.name

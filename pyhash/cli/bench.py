"""The command ``pyhash bench``."""

# ruff: noqa: D301  (click wants a real \b before text that it must not wrap)

from __future__ import annotations

from dataclasses import asdict

import click

from ..bench import CASES, Bench, Row, Sizes, environment, run, save
from .errors import Exit, WrongCall
from .options import json_option
from .output import print_json, print_wrote


@click.command("bench", short_help="Measure this machine: pyhash beside FAISS, USearch and NumPy.")
@click.option(
    "--out",
    type=click.Path(file_okay=False),
    metavar="FOLDER",
    help="Also write benchmarks.md, .json and, with matplotlib, plots as .svg and .png there.",
)
@click.option(
    "--real",
    type=click.Path(exists=True, dir_okay=False),
    metavar="FILE.npz",
    help="Codes of a real network: uint8 arrays b (database) and q (queries), 64 bits each.",
)
@click.option("--only", metavar="TEXT", help=f"Run the cases with this in their name: {', '.join(CASES)}.")
@click.option("--quick", is_flag=True, help="Small sizes: shows that all works, in seconds; the figures mean little.")
@json_option
def bench_command(out: str | None, real: str | None, only: str | None, quick: bool, as_json: bool) -> int:
    """Measure exact search on this machine, beside what others offer and what the machine can do.

    Every peer is timed in turns with pyhash, on one thread unless the case says otherwise, and every answer is checked.
    Peers that are not installed are left out and named. It takes about a quarter of an hour.

    \b
    Everything, with a table and a plot:
      pip install 'pyhash-retrieval[all]' && pyhash bench --out benchmarks
    One case:
      pyhash bench --only clustered
    """
    if only is not None and not any(only in name for name in CASES):
        raise click.BadParameter(f"must be part of one of {', '.join(CASES)}; got {only!r}", param_hint="--only")
    measured = Bench(Sizes.quick() if quick else Sizes(), real)
    rows: list[Row] = []
    try:
        for row in run(measured, only):
            rows.append(row)
            if not as_json:
                goal = "" if row.goal is None else f"  (goal {'<=' if row.at_most else '>='} {row.goal:g})"
                click.echo(f"{row.case:52} {row.bits or '':>4}  {row.figure:38} {row.value:10.4g}{goal}")
    except ValueError as error:
        raise WrongCall(str(error)) from error
    if as_json:
        print_json({"environment": environment(), "rows": [asdict(row) for row in rows], "not_run": measured.skipped})
    else:
        for reason in measured.skipped:
            click.echo(f"not run: {reason}")
    if out is not None:
        for path in save(rows, measured.skipped, out):
            print_wrote(str(path), quietly=as_json)
    return Exit.DONE

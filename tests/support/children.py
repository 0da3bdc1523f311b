"""Processes that a test starts, kills or waits for.

They are forked from a process that has imported pyhash already, and so are there in milliseconds.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from galleries import FakeEncoder, SeeingEncoder
from tuning import tune

from pyhash import Gallery

TUNED = {"few_images": 24, "commit_images": 5, "logged_revisions": 30, "mapped_from": 20, "small_difference": 4}
"""For `do_to_gallery`: much happens with few images."""

_SUPPORT = Path(__file__).parent
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["pytest", "children"])

Report = Callable[[int], object]


class Child:
    """A process that waits for `go`, and then calls a function with a way to report numbers, and with arguments."""

    def __init__(self, function: Callable[..., object], *arguments: Any) -> None:
        self._connection, theirs = _context.Pipe()
        with pytest.MonkeyPatch.context() as patch:  # the first child's parent starts with it
            patch.setenv("PYTHONPATH", os.pathsep.join([str(_SUPPORT), os.environ.get("PYTHONPATH", "")]))
            self._process = _context.Process(target=_run, args=(theirs, function, arguments))
            self._process.start()
        theirs.close()
        assert self._connection.recv() == "ready"

    def go(self) -> None:
        """Let it begin."""
        self._connection.send("go")

    def reports(self) -> Iterator[int]:
        """What it reports, until it ends."""
        while True:
            try:
                yield self._connection.recv()
            except (EOFError, ConnectionResetError):
                return

    def kill(self) -> None:
        """End it at once, as SIGKILL does."""
        self._process.kill()

    def wait(self) -> int:
        """Wait until it has ended; return its exit code."""
        self._process.join(60)
        code = self._process.exitcode
        assert code is not None, "it goes on"
        return code


def _run(connection: Connection, function: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    connection.send("ready")
    connection.recv()
    function(connection.send, *arguments)


def update_gallery(report: Report, folder: Path, delay: float) -> None:
    """Update a gallery, slowly; report how many images are done, and at last how many were added."""
    with Gallery(folder, FakeEncoder(delay=delay)) as gallery:
        report(gallery.update(progress=lambda done, total: report(done)).added)


def open_gallery(report: Report, folder: Path) -> None:
    """Open and close a gallery."""
    Gallery(folder).close()


def do_to_gallery(report: Report, folder: Path, what: str, path: str) -> None:
    """Do one thing to a gallery; report when it is done."""
    gallery = Gallery(folder, SeeingEncoder(), rebuild=what == "rebuild")
    with pytest.MonkeyPatch.context() as patch, gallery:
        tune(patch, **TUNED)
        if what == "fit" and len(gallery) >= TUNED["few_images"]:
            gallery.fit()
        elif what == "forget" and (folder / path).exists():
            gallery.forget(folder / path)
        elif what == "remember":
            for forgotten in gallery.stats().forgotten:
                gallery.forget(folder / forgotten, undo=True)
        elif what == "check":
            gallery.check(repair=True)
        elif what == "backup":
            gallery.backup(folder.parent / f"{folder.name}.backup")
        elif what in ("update", "rebuild"):
            gallery.update()
    report(1)

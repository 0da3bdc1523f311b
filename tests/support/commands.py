"""The pyhash command called from tests: in this process, and in one of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from pyhash.cli import cli

ROOT = Path(__file__).parents[2]


def run(*arguments: str | Path, code: int = 0, **options: Any) -> Result:
    """Run a command here, and check how it exits."""
    result = CliRunner().invoke(cli, [os.fspath(a) for a in arguments], prog_name="pyhash", **options)
    assert result.exit_code == code, (result.output, result.exception)
    return result


def start(*arguments: str | Path, **options: Any) -> subprocess.Popen[str]:
    """Start a command as a process, its output in pipes."""
    path = os.pathsep.join([os.fspath(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-m", "pyhash", *map(os.fspath, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        **options,
    )

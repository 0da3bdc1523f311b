"""The service as a process, or as several that share what they map."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from ..encoder import Encoder
from ..gallery import Gallery, is_gallery
from ..index import Index
from ..support import require
from .app import app
from .guard import LOCAL
from .limits import Limits

__all__ = ["Settings", "run"]

_SETTINGS = "PYHASH_SERVE"
_CONNECTIONS = 4096  # held open at the same time


@dataclass(frozen=True)
class Settings:
    """What is served, and how."""

    path: str
    """Of a folder, a gallery's file or an index."""
    file: str | None = None
    """Of the gallery, where it is not where it usually is."""
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    hosts: tuple[str, ...] = ()
    """Further names under which the service may be asked."""
    token: str | None = None
    writable: bool = False
    exif: bool = False
    root_path: str = ""
    """Prefix of the address, where something in front takes it off."""
    encoder: str | None = None
    """Of an index."""
    limits: Limits = dataclasses.field(default_factory=Limits)


def run(settings: Settings) -> None:
    """Serve until the process is told to end; then answer what is under way, and end."""
    uvicorn: Any = require("uvicorn", "serve")
    served = opened(settings)  # better said now than in answers
    if isinstance(served, Gallery):
        served.close()
    options: dict[str, Any] = {
        "host": settings.host,
        "port": settings.port,
        "workers": settings.workers,
        "root_path": settings.root_path,
        "log_level": "warning",
        "access_log": False,
        "limit_concurrency": _CONNECTIONS,
        "timeout_keep_alive": 15,
        "timeout_graceful_shutdown": 30,
        "server_header": False,
        "factory": True,
    }
    _allow_connections()
    before = dict(os.environ)
    os.environ[_SETTINGS] = json.dumps(dataclasses.asdict(settings))
    try:
        with tempfile.TemporaryDirectory(prefix="pyhash-metrics-") as folder:
            if settings.workers > 1:
                os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
            uvicorn.run("pyhash.serve.running:made", **options)
    finally:
        os.environ.clear()
        os.environ.update(before)


def _allow_connections() -> None:
    """Let the process hold as many connections as it takes on; each is a file to the system."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = 2 * _CONNECTIONS if hard == resource.RLIM_INFINITY else min(hard, 2 * _CONNECTIONS)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def opened(settings: Settings) -> Gallery | Index:
    """Return what is served."""
    if os.path.isfile(settings.path) and not is_gallery(Path(settings.path)):
        return Index.open(settings.path, mmap=True)
    return Gallery(settings.path, file=settings.file, create=False)


def made() -> FastAPI:
    """Return the application that the settings of this process describe: each worker makes its own."""
    told: dict[str, Any] = json.loads(os.environ[_SETTINGS])
    settings = Settings(**told | {"limits": Limits(**told["limits"]), "hosts": tuple(told["hosts"])})

    def served() -> Gallery | Index:
        return opened(settings)

    encoder = None if settings.encoder is None else Encoder(settings.encoder)
    hosts = {*LOCAL, *settings.hosts} | ({settings.host} if settings.host not in ("0.0.0.0", "::") else set())
    return app(
        served,
        encoder=encoder,
        limits=settings.limits,
        hosts=hosts,
        token=settings.token,
        writable=settings.writable,
        exif=settings.exif,
    )

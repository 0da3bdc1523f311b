"""A small hub on this machine, and its cache made up by hand."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def put_in_cache(folder: Path, repo: str, files: Mapping[str, bytes], commit: str = COMMIT) -> Path:
    """Write files as the cache keeps them: blobs by their digest, and links to them by their names."""
    place = folder / f"models--{repo.replace('/', '--')}"
    snapshot = place / "snapshots" / commit
    (place / "refs").mkdir(parents=True, exist_ok=True)
    (place / "refs" / "main").write_text(commit)
    (place / "blobs").mkdir(exist_ok=True)
    for name, data in files.items():
        blob = place / "blobs" / hashlib.sha256(data).hexdigest()
        blob.write_bytes(data)
        link = snapshot / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    return snapshot


@dataclass
class Hub:
    """What a small hub holds, and what it was asked for."""

    files: dict[str, dict[str, bytes]]
    """Of each repository."""
    commit: str = COMMIT
    address: str = ""
    asked: list[str] = field(default_factory=list)


@contextmanager
def served(hub: Hub) -> Iterator[Hub]:
    """Answer on 127.0.0.1, as far as a model is fetched."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            hub.asked.append(f"{self.command} {self.path}")
            parts = [unquote(part) for part in self.path.split("?")[0].strip("/").split("/")]
            if parts[:2] == ["api", "models"]:
                self.describe("/".join(parts[2:4]), parts[5] if len(parts) > 5 else "main")
            else:
                self.give("/".join(parts[:2]), parts[3], "/".join(parts[4:]))

        def describe(self, repo: str, revision: str) -> None:
            if self.found(repo, revision):
                listed = [{"rfilename": name} for name in hub.files[repo]]
                self.answer(json.dumps({"id": repo, "sha": hub.commit, "siblings": listed}).encode())

        def give(self, repo: str, revision: str, name: str) -> None:
            if self.found(repo, revision):
                data = hub.files[repo].get(name)
                if data is None:
                    self.refuse("EntryNotFound")
                else:
                    digest = hashlib.sha256(data).hexdigest()
                    self.answer(data, {"X-Repo-Commit": hub.commit, "ETag": f'"{digest}"'})

        def found(self, repo: str, revision: str) -> bool:
            if repo not in hub.files:
                self.refuse("RepoNotFound")
            elif revision not in ("main", hub.commit, "refs/pr/3"):
                self.refuse("RevisionNotFound")
            else:
                return True
            return False

        def refuse(self, code: str) -> None:
            self.answer(b"{}", {"X-Error-Code": code, "X-Error-Message": code}, 404)

        def answer(self, data: bytes, headers: Mapping[str, str] | None = None, status: int = 200) -> None:
            self.send_response(status)
            for key, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    hub.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

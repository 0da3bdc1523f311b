"""The service as a process: started, overloaded, told to end, killed."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the service needs the extra serve")
pytest.importorskip("uvicorn", reason="the service needs the extra serve")
pytest.importorskip("prometheus_client", reason="the service needs the extra serve")
pytest.importorskip("python_multipart", reason="the service needs the extra serve")

from commands import run, start

from pyhash import Index

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes are told to end by signals")


@pytest.fixture
def index(tmp_path: Path) -> Path:
    made = Index(bits=64)
    made.add(np.random.default_rng(0).integers(0, 256, (1000, 8), np.uint8))
    made.save(tmp_path / "codes.idx")
    return tmp_path / "codes.idx"


class Service:
    """A process that serves."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process = process
        self.port = port

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Return status and JSON of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            content = None if body is None else json.dumps(body)
            connection.request(method, path, content, {"Content-Type": "application/json", **headers})
            answer = connection.getresponse()
            read = answer.read()
            return answer.status, json.loads(read) if "json" in answer.headers["content-type"] else read
        finally:
            connection.close()


@contextlib.contextmanager
def serving(*arguments: str | Path) -> Iterator[Service]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = start("serve", *arguments, "--port", str(port))
    service = Service(process, port)
    try:
        for _ in range(600):
            with contextlib.suppress(OSError):
                if service.ask("GET", "/readyz")[0] == 200:
                    break
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        yield service
    finally:
        process.kill()
        process.communicate()


def code(number: int) -> str:
    return base64.b64encode(np.random.default_rng(number).integers(0, 256, 8, np.uint8).tobytes()).decode()


def test_it_answers_and_ends_when_it_is_told(index: Path) -> None:
    with serving(index) as service:
        status, answer = service.ask("POST", "/v1/search", {"id": 7, "k": 3})
        assert status == 200
        assert answer["results"][0]["matches"][0] == {"id": 7, "distance": 0}
        assert service.ask("GET", "/v1/info", Host="evil.example.org")[0] == 421
        service.process.send_signal(signal.SIGTERM)
        output, errors = service.process.communicate(timeout=30)
        assert service.process.returncode in (0, -signal.SIGTERM)
        assert output == ""
        assert "Traceback" not in errors


def test_what_is_under_way_is_answered_when_it_is_told_to_end(index: Path) -> None:
    with serving(index) as service:
        with socket.create_connection(("127.0.0.1", service.port), timeout=30) as slow:
            body = json.dumps({"id": 7}).encode()
            head = "POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            slow.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:3])
            time.sleep(0.3)
            service.process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            slow.sendall(body[3:])
            assert slow.recv(1000).startswith(b"HTTP/1.1 200")
        service.process.communicate(timeout=30)


def test_garbage_and_slow_bodies_do_not_stop_it(index: Path) -> None:
    with serving(index) as service:
        hanging = []
        for sent in (
            b"\x16\x03\x01garbage\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            b"POST /v1/search HTTP/1.1\r\nHost: local",
        ):
            one = socket.create_connection(("127.0.0.1", service.port), timeout=30)
            one.sendall(sent)
            hanging.append(one)
        for _ in range(200):  # connections that say nothing
            hanging.append(socket.create_connection(("127.0.0.1", service.port), timeout=30))
        assert service.ask("POST", "/v1/search", {"id": 7})[0] == 200
        for one in hanging:
            one.close()
        status, problem = service.ask("POST", "/v1/search", {"id": 7}, **{"Content-Length": "99999999999"})
        assert (status, problem["argument"]) == (413, "body")
        assert service.ask("POST", "/v1/search", {"id": 7})[0] == 200


def test_many_at_once(index: Path) -> None:
    alone = Index.open(index)
    with serving(index) as service:
        fingerprint = service.ask("GET", "/v1/info")[1]["fingerprint"]
        wrong: list[Any] = []

        def ask(number: int) -> None:
            for query in range(number, number + 20):
                body = {"code": code(query), "fingerprint": fingerprint, "k": 5}
                status, answer = service.ask("POST", "/v1/search", body)
                expected = alone.search(np.frombuffer(base64.b64decode(code(query)), np.uint8), 5).ids.tolist()
                if status != 200 or [match["id"] for match in answer["results"][0]["matches"]] != expected:
                    wrong.append((query, status, answer))

        threads = [threading.Thread(target=ask, args=(100 * number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []


def test_several_workers(index: Path) -> None:
    with serving(index, "--workers", "2") as service:
        for number in range(10):
            assert service.ask("POST", "/v1/search", {"id": number})[0] == 200
        told = service.ask("GET", "/metrics")[1].decode()
        (line,) = [
            line
            for line in told.splitlines()
            if line.startswith('pyhash_request_duration_seconds_count{route="/v1/search",status="200"}')
        ]
        assert float(line.split()[-1]) == 10  # of both
        service.process.send_signal(signal.SIGTERM)
        service.process.communicate(timeout=30)


def test_what_cannot_be_served_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no index")
    assert "not a pyhash index" in run("serve", tmp_path / "text", code=2).stderr
    (tmp_path / "folder").mkdir()
    assert "there is no gallery" in run("serve", tmp_path / "folder", code=3).stderr

"""Fixtures of the tests of the page; what they need is imported when one is used."""

from __future__ import annotations

import contextlib
import shutil
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

DESK = {"width": 1200, "height": 800}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes in two folders, and copies of three of them in another."""
    from scenes import recompressed, scene

    folder = tmp_path_factory.mktemp("page") / "images"
    for number in range(20):
        path = folder / ("a" if number < 12 else "b") / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        scene(number).save(path)
    (folder / "copies").mkdir()
    for number in range(3):
        smaller = recompressed(scene(number).resize((200, 150)), 80)
        smaller.save(folder / "copies" / f"{number:02}.jpg", quality=90)
    return folder


@pytest.fixture(scope="module")
def address(scenes: Path) -> Iterator[str]:
    """A server: a gallery at /, with a token at /token/, without embeddings at /codes/, and an index at /index/."""
    for name in ("fastapi", "prometheus_client", "uvicorn"):
        pytest.importorskip(name, reason="the service needs the extra serve")
    import uvicorn
    from galleries import PartsEncoder
    from starlette.applications import Starlette
    from starlette.routing import Mount

    from pyhash import Gallery
    from pyhash.serve import app

    with (
        Gallery(scenes, PartsEncoder(), tiles=(2, 2)) as gallery,
        contextlib.ExitStack() as lasting,
        socket.socket() as listening,
    ):
        gallery.update()
        alone = lasting.enter_context(Gallery(scenes, PartsEncoder(), file=scenes.parent / "codes", embeddings=False))
        alone.update()
        listening.bind(("127.0.0.1", 0))
        at = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        routes = [
            Mount("/token", app(gallery, token="secret")),
            Mount("/codes", app(alone)),
            Mount("/index", app(gallery.index)),
            Mount("/", app(gallery)),
        ]
        config = uvicorn.Config(Starlette(routes=routes), log_level="error", lifespan="off", ws="none")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            for one in ("", "token/", "codes/", "index/"):
                _wait_until_ready(at + one + "readyz")
            yield at
        finally:
            server.should_exit = True
            thread.join()


def _wait_until_ready(address: str) -> None:
    for _ in range(300):
        try:
            with urllib.request.urlopen(address):
                return
        except OSError:
            time.sleep(0.05)
    raise TimeoutError(address)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """What the page is looked at with."""
    pytest.importorskip("playwright", reason="browsers are driven with playwright")
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("there is no browser")
    with sync_playwright() as drivers:
        browser = drivers.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


Opens = Callable[..., Any]


@pytest.fixture
def opened(browser: Any, address: str) -> Iterator[Opens]:
    """Opens the page; in the end nothing may have been said on the console but what a test expects."""
    said: list[str] = []
    expected: list[str] = []
    contexts = []

    def open_page(where: str = "", *, expect: str = "", **options: Any) -> Any:
        context = browser.new_context(**{"viewport": DESK, "reduced_motion": "reduce", **options})
        context.set_default_timeout(10_000)
        contexts.append(context)
        if expect:
            expected.append(expect)
        page = context.new_page()
        page.on("console", lambda message: message.type in ("error", "warning") and said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.asked = []
        page.on("request", lambda request: "/v1/search" in request.url and page.asked.append(request.post_data_json))
        page.goto(address + where)
        page.wait_for_selector("main:not([hidden])")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert [text for text in said if not any(one in text for one in expected)] == []


def until(page: Any, true: str) -> None:
    """Wait until something is true; the browser's own way to wait needs eval, which the page does not allow."""
    for _ in range(500):
        if page.evaluate(true):
            return
        page.wait_for_timeout(20)
    raise TimeoutError(true)


def answered(page: Any) -> list[str]:
    """Wait until the answers are those of what was asked; their paths."""
    until(page, "document.querySelector('#answers:not(.stale) li')")
    return page.eval_on_selector_all("#answers .image", "all => all.map(one => one.title)")

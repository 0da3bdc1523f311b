"""What stands before every request: who may ask, from where, how much and how often."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .limits import Limits
from .metrics import Metrics
from .problems import Problem

__all__ = ["LOCAL", "Guard"]

LOCAL = ("localhost", "127.0.0.1", "::1")
"""Names of this machine: a browser that was led to another name does not get an answer."""

_OPEN = frozenset({"/livez", "/readyz", "/healthz"})
_BURST_SECONDS = 10
_ADDRESSES = 10_000
_ID = re.compile(r"[\w.:-]{1,64}", re.ASCII)
_SAFE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    ),
}


class Guard:
    """ASGI middleware: checks a request, measures it, and gives it an id.

    Parameters
    ----------
    hosts : iterable of str
        Names under which the service may be asked; ``"*"`` for any.
    token : str, optional
        What ``Authorization: Bearer`` must bring; the probes need none.
    open_paths : iterable of str
        Paths, and with a slash at the end all below them, that need no token: the page without what it shows.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        limits: Limits,
        metrics: Metrics,
        hosts: Iterable[str],
        token: str | None = None,
        open_paths: Iterable[str] = (),
    ) -> None:
        self._app = app
        self._limits = limits
        self._metrics = metrics
        self._hosts = {host.lower() for host in hosts}
        self._token = None if token is None else token.encode()
        self._open = tuple(open_paths)
        self._under_way = 0
        self._rates = _Rates(limits.rate)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if _ID.fullmatch(given) else secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                sent = MutableHeaders(scope=message)
                sent["X-Request-ID"] = request_id
                for name, value in _SAFE_HEADERS.items():
                    sent.setdefault(name, value)
            await send(message)

        self._under_way += 1
        try:
            self._check(scope, headers)
            await self._app(scope, _Limited(receive, headers, self._limits), answer)
        except Problem as problem:
            if status:  # it has begun to be answered
                raise
            await problem.response(request_id)(scope, receive, answer)
        finally:
            self._under_way -= 1
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.requests.labels(route, status).observe(time.perf_counter() - began)
            if status in (401, 403, 408, 413, 421, 429, 503):
                self._metrics.rejected.labels(status).inc()

    def _check(self, scope: Scope, headers: Headers) -> None:
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if path not in _OPEN:
            self._check_host(headers)
            self._check_origin(scope, headers)
            if not any(
                path == one or (one.endswith("/") and one != "/" and path.startswith(one)) for one in self._open
            ):
                self._check_token(headers)
            if self._under_way > self._limits.requests:
                raise Problem(429, f"{self._limits.requests:,} requests are under way already", retry_after=1)
            self._rates.check((scope.get("client") or ("", 0))[0])
        length = headers.get("content-length", "")
        if length.isascii() and length.isdigit() and int(length) > self._limits.body:
            raise too_large(self._limits)

    def _check_host(self, headers: Headers) -> None:
        host = name_of(headers.get("host", ""))
        if "*" not in self._hosts and host not in self._hosts:
            raise Problem(
                421,
                f"Host must be a name that this service was told of, and was {host!r}: name it when the service is "
                "started (--allow-host)",
                argument="Host",
            )

    def _check_origin(self, scope: Scope, headers: Headers) -> None:
        """A page of another site must not ask: loopback is no protection from what a browser runs."""
        origin = headers.get("origin")
        site = headers.get("sec-fetch-site", "same-origin")
        if origin is not None:
            if urlsplit(origin).netloc.lower() != headers.get("host", "").lower():
                raise Problem(403, f"Origin must be this service itself, got {origin!r}", argument="Origin")
        elif scope["method"] not in ("GET", "HEAD") and site not in ("same-origin", "none"):
            raise Problem(403, "a page of another site must not ask this service", argument="Sec-Fetch-Site")

    def _check_token(self, headers: Headers) -> None:
        if self._token is None:
            return
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not secrets.compare_digest(given.strip().encode("latin-1"), self._token):
            raise Problem(
                401,
                "Authorization must be 'Bearer' and the token that the service was started with",
                argument="Authorization",
                headers={"WWW-Authenticate": "Bearer"},
            )


def name_of(host: str) -> str:
    """Return a host without its port."""
    name = host.rpartition(":")[0] if re.search(r":\d+$", host) and not host.endswith("]") else host
    return name.strip("[]").lower()


def too_large(limits: Limits) -> Problem:
    """Return the problem of a body that is too large."""
    return Problem(413, f"the body must have at most {limits.body:,} bytes", argument="body")


class _Limited:
    """Receives a body, but no more of it than is allowed, and no longer."""

    def __init__(self, receive: Receive, headers: Headers, limits: Limits) -> None:
        self._receive = receive
        self._limits = limits
        self._left = limits.body
        self._ends = asyncio.get_running_loop().time() + limits.seconds
        self._whole = False

    async def __call__(self) -> Message:
        if self._whole:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._ends):
                message = await self._receive()
        except TimeoutError:
            raise Problem(
                408, f"the body must arrive within {self._limits.seconds:g} seconds", argument="body"
            ) from None
        if message["type"] == "http.request":
            self._left -= len(message.get("body", b""))
            self._whole = not message.get("more_body", False)
            if self._left < 0:
                raise too_large(self._limits)
        return message


class _Rates:
    """How many requests each address may still make: tokens that come back by and by."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def check(self, address: str) -> None:
        """Take one of an address; Problem 429 where it has none."""
        if not self._rate:
            return
        now, most = time.monotonic(), max(1.0, self._rate * _BURST_SECONDS)
        left, since = self._left.pop(address, (most, now))
        left = min(most, left + (now - since) * self._rate)
        enough = left >= 1
        self._left[address] = (left - enough, now)
        while len(self._left) > _ADDRESSES:
            self._left.popitem(last=False)
        if not enough:
            wait = max(1, round((1 - left) / self._rate + 0.5))
            raise Problem(429, f"an address may make {self._rate:g} requests a second", retry_after=wait)

"""The service: an application that answers searches of a gallery or an index over HTTP."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import logging
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from fastapi import FastAPI, Query, Request
from fastapi import Path as PathParameter
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRouter
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, Response

from ..errors import GalleryError, GalleryMismatchError, ImageError, PyhashError
from ..gallery import Gallery
from ..index import Index
from .batches import Batches
from .describing import OPENAPI
from .guard import LOCAL, Guard
from .limits import Limits
from .metrics import Metrics
from .pictures import served_image
from .problems import Problem, problem_response
from .questions import Asked, read_images, read_search
from .reviewing import Reviewing
from .searchers import Answer, Encoded, GallerySearcher, IndexSearcher, Searcher, Wanted
from .writing import Writing

__all__ = ["app"]

Id: TypeAlias = Annotated[int, PathParameter(ge=-(2**63), lt=2**63)]

_log = logging.getLogger(__name__)
_STATIC = Path(__file__).parent / "static"
_MOST_AT_ONCE = 64


def app(
    served: Gallery | Index | Callable[[], Gallery | Index],
    *,
    encoder: Any = None,
    limits: Limits | None = None,
    hosts: Iterable[str] = LOCAL,
    token: str | None = None,
    writable: bool = False,
    exif: bool = False,
    page: bool = True,
) -> FastAPI:
    """Return an application that answers searches, to be run by any ASGI server or mounted into another application.

    Parameters
    ----------
    served : Gallery, Index, or callable
        What is searched; a callable is called when the application starts, and what it gives is closed at the end.
    encoder : Encoder, optional
        Of an index: without, it is asked with codes and ids alone.
    limits : Limits, optional
        How much is taken on.
    hosts : iterable of str
        Names under which the service may be asked; ``"*"`` for any.
    token : str, optional
        What ``Authorization: Bearer`` must bring.
    writable : bool
        Whether images can be sent to a gallery, and taken out of it.
    exif : bool
        Serve image files as they are, with whatever they say of place and time; otherwise without.
    page : bool
        Whether there is a page to search with, at ``/``.

    Returns
    -------
    fastapi.FastAPI

    Examples
    --------
    >>> own.mount("/images", pyhash.serve.app(pyhash.Gallery("photos")))                       # doctest: +SKIP
    """
    service = _Service(served, encoder, limits or Limits(), writable=writable, exif=exif)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        try:
            yield
        finally:
            await service.stop()

    from .. import __version__

    made = FastAPI(
        title="pyhash",
        version=__version__,
        description="Images like others, by Hamming distance and embeddings.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    made.state.service = service
    made.include_router(service.router())
    if page:
        made.mount("/static", StaticFiles(directory=_STATIC), name="static")

        @made.get("/", include_in_schema=False)
        async def index() -> FileResponse:
            return FileResponse(_STATIC / "index.html")

    made.add_middleware(
        Guard, limits=service.limits, metrics=service.metrics, hosts=[*hosts], token=token, open_paths=("/", "/static/")
    )
    _handle_errors(made)
    return made


def _handle_errors(made: FastAPI) -> None:
    def request_id(request: Request) -> str:
        return str(getattr(request.state, "request_id", ""))

    @made.exception_handler(Problem)
    async def problem(request: Request, error: Problem) -> Response:
        return error.response(request_id(request))

    @made.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        return problem_response(
            error.status_code, str(error.detail), headers=error.headers, request_id=request_id(request)
        )

    @made.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = str(first["loc"][-1])
        return problem_response(
            422,
            f"{where}: {first['msg'].lower()}, got {first.get('input')!r:.80}",
            argument=where,
            request_id=request_id(request),
        )

    @made.exception_handler(ImageError)
    async def image(request: Request, error: ImageError) -> Response:
        return problem_response(422, f"image: {error.reason}", argument="image", request_id=request_id(request))

    @made.exception_handler(GalleryError)
    async def gallery(request: Request, error: GalleryError) -> Response:
        _log.error("%s", error)  # it names files, which no answer does
        detail = "the gallery cannot be searched now; the log of the service says why"
        return problem_response(503, detail, headers={"Retry-After": "5"}, request_id=request_id(request))

    @made.exception_handler(Exception)
    async def other(request: Request, error: Exception) -> Response:
        return problem_response(500, "the service failed; its log says why", request_id=request_id(request))


class _Service:
    """What is behind the routes of one application."""

    def __init__(
        self,
        served: Gallery | Index | Callable[[], Gallery | Index],
        encoder: Any,
        limits: Limits,
        *,
        writable: bool,
        exif: bool,
    ) -> None:
        self.limits = limits
        self.metrics = Metrics()
        self._served = served
        self._encoder = encoder
        self._writable = writable
        self._exif = exif
        self._searcher: Searcher | None = None
        self._gallery: Gallery | None = None
        self._closes: Gallery | None = None
        self._failed = False
        self._ready = threading.Event()
        self._encodes: Batches[Any, Encoded] | None = None
        self._searches: Batches[Wanted, Answer] | None = None
        self._reviewing: Reviewing | None = None
        self._writing: Writing | None = None
        self._starting = threading.Lock()
        self._started = False

    def start(self) -> None:
        """Load in the background, once: the service says meanwhile that it lives and is not ready.

        An application that is mounted into another is not told that it starts, so the first request does it.
        """
        with self._starting:
            if self._started:
                return
            self._started = True
        self._encodes = Batches(
            self._encode,
            "pyhash-encode",
            most=_MOST_AT_ONCE,
            waiting=self.limits.waiting,
            seen=self.metrics.batch.labels("encode").observe,
        )
        self._searches = Batches(
            self._search,
            "pyhash-search",
            most=_MOST_AT_ONCE,
            waiting=self.limits.waiting,
            seen=self.metrics.batch.labels("search").observe,
        )
        threading.Thread(target=self._load, name="pyhash-load", daemon=True).start()

    def _load(self) -> None:
        try:
            served = self._served
            if not isinstance(served, (Gallery, Index)):
                served = served()
                self._closes = served if isinstance(served, Gallery) else None
            if isinstance(served, Gallery):
                self._gallery = served
                self._searcher = GallerySearcher(served)
                self._reviewing = Reviewing(served, self._searcher.inside)
                self._writing = Writing(served) if self._writable else None
            else:
                self._searcher = IndexSearcher(served, self._encoder)
            self._searcher.warm()
            self._ready.set()
        except Exception:
            _log.exception("the service could not be started")
            self._failed = True

    async def stop(self) -> None:
        """Answer what waits, and close."""
        for batches in (self._encodes, self._searches):
            if batches is not None:
                await asyncio.to_thread(batches.close)
        for part in (self._reviewing, self._writing):
            if part is not None:
                await asyncio.to_thread(part.close)
        if self._closes is not None:
            self._closes.close()

    @property
    def searcher(self) -> Searcher:
        """What is searched; Problem 503 until it is loaded."""
        self.start()
        if not self._ready.is_set() or self._searcher is None:
            if self._failed:
                raise Problem(503, "the service could not be started; its log says why")
            raise Problem(503, "the service is loading", retry_after=1)
        return self._searcher

    @property
    def gallery(self) -> Gallery:
        """The gallery; Problem 404 where an index is served."""
        self.searcher  # noqa: B018  (it has to be ready)
        if self._gallery is None:
            raise Problem(404, "an index has no images: this needs a gallery")
        return self._gallery

    def _encode(self, images: list[Any]) -> Sequence[Encoded | BaseException]:
        with self.metrics.encode.time():
            return self.searcher.encode(images)

    def _search(self, wanted: list[Wanted]) -> Sequence[Answer | BaseException]:
        with self.metrics.search.time():
            return self.searcher.search(wanted)

    def count(self) -> None:
        """Bring what is told of the state up to date."""
        for stage, batches in (("encode", self._encodes), ("search", self._searches)):
            self.metrics.waiting.labels(stage).set(0 if batches is None else len(batches))
        with contextlib.suppress(Problem, PyhashError):
            facts = self.searcher.facts()
            self.metrics.codes.set(facts["codes"])
            self.metrics.n_bytes.set(facts["n_bytes"])
            self.metrics.encoder.clear()
            self.metrics.encoder.labels(str(facts["encoder"]), str(facts["fingerprint"])).set(1)

    async def encoded(self, asked: Sequence[Asked], crop: tuple[int, int, int, int] | None = None) -> list[Encoded]:
        """Make each ready to be searched for: images together with those of other requests."""
        searcher = self.searcher
        assert self._encodes is not None
        images = [(one.image, crop) for one in asked if one.image is not None]
        found = iter(await self._encodes.ask(*images) if images else [])
        made = []
        for one in asked:
            if one.image is not None:
                made.append(next(found))
            elif one.code is not None:  # takes no time
                made.append(searcher.prepare(one))
            else:
                made.append(await asyncio.to_thread(searcher.prepare, one))
        return made

    async def answers(self, wanted: Sequence[Wanted]) -> list[Answer]:
        """Search, together with other requests."""
        assert self._searches is not None
        return await self._searches.ask(*wanted)

    # Routes

    def router(self) -> APIRouter:
        """Return the routes."""
        router = APIRouter()
        for path, method, answer in (
            ("/livez", "GET", self.live),
            ("/readyz", "GET", self.ready),
            ("/healthz", "GET", self.ready),
            ("/metrics", "GET", self.told),
            ("/v1/info", "GET", self.info),
            ("/v1/search", "POST", self.search),
            ("/v1/embed", "POST", self.embed),
            ("/v1/sample", "GET", self.sample),
            ("/v1/images/{id}", "GET", self.image),
            ("/v1/thumbnails/{id}", "GET", self.thumbnail),
            ("/v1/duplicates", "GET", self.duplicates),
            ("/v1/images", "POST", self.add),
            ("/v1/images/{id}", "DELETE", self.remove),
        ):
            if (method == "DELETE" or (path, method) == ("/v1/images", "POST")) and not self._writable:
                continue
            router.add_api_route(path, answer, methods=[method], **OPENAPI[method, path])
        return router

    async def live(self) -> Response:
        """Say that the process is there."""
        return JSONResponse({"status": "live"})

    async def ready(self) -> Response:
        """Say whether searches are answered."""
        self.searcher  # noqa: B018
        return JSONResponse({"status": "ready"})

    async def told(self) -> Response:
        """Tell Prometheus."""
        await asyncio.to_thread(self.count)
        return Response(
            await asyncio.to_thread(self.metrics.text), media_type="text/plain; version=0.0.4; charset=utf-8"
        )

    async def info(self) -> Response:
        """Say what is served."""
        from .. import __version__

        facts = await asyncio.to_thread(self.searcher.facts)
        return JSONResponse(
            {key: value for key, value in facts.items() if key != "n_bytes"}
            | {"version": __version__, "writable": self._writable}
        )

    async def search(self, request: Request) -> Response:
        """Find images like others."""
        began = time.perf_counter()
        searcher = self.searcher
        asked = await read_search(request, self.limits, searcher.fingerprint)
        self.metrics.decode.observe(time.perf_counter() - began)
        for attempt in (1, 2):
            try:
                ready = await self.encoded([*asked.queries, *asked.without], asked.options.crop)
                examples, without = ready[: len(asked.queries)], ready[len(asked.queries) :]
                if asked.options.together:
                    wanted = [Wanted(examples, without, asked.options)]
                else:
                    wanted = [Wanted([one], [], asked.options) for one in examples]
                answers = await self.answers(wanted)
                break
            except GalleryMismatchError:  # coded anew between the two
                if attempt == 2:
                    raise
        names: list[Any] = [one.name for one in asked.queries]
        results = [
            {
                "query": name,
                "ranked_by": "similarity" if answer.by_similarity else "distance",
                "matches": answer.matches,
            }
            for name, answer in zip([names] if asked.options.together else names, answers, strict=True)
        ]
        from .. import __version__

        facts = searcher.facts()
        return JSONResponse(
            {
                "results": results,
                "took_ms": round(1000 * (time.perf_counter() - began), 3),
                "encoder": facts["encoder"],
                "fingerprint": facts["fingerprint"],
                "version": __version__,
            }
        )

    async def embed(self, request: Request) -> Response:
        """Give codes and embeddings of images."""
        began = time.perf_counter()
        searcher = self.searcher
        images = await read_images(request, self.limits)
        self.metrics.decode.observe(time.perf_counter() - began)
        encoded = await self.encoded(images)
        rows = await asyncio.to_thread(searcher.vectors, encoded)
        facts = searcher.facts()
        results = [
            {"query": one.name, **row, "code": base64.b64encode(row["code"]).decode()}
            for one, row in zip(images, rows, strict=True)
        ]
        return JSONResponse(
            {
                "results": results,
                "levels": facts["levels"],
                "fingerprint": facts["fingerprint"],
                "took_ms": round(1000 * (time.perf_counter() - began), 3),
            }
        )

    async def sample(self, k: Annotated[int, Query(ge=1, le=200, description="How many.")] = 12) -> Response:
        """Give some images of the gallery, other ones each time."""
        self.gallery  # noqa: B018
        assert isinstance(self._searcher, GallerySearcher)
        return JSONResponse({"images": await asyncio.to_thread(self._searcher.sample, k)})

    async def image(
        self,
        request: Request,
        id: Id,
        size: Annotated[int, Query(ge=16, le=8192, description="Of its longest side.")] = 1600,
    ) -> Response:
        """Give an image of the gallery, upright and without metadata."""
        gallery = self.gallery
        path = _path_of(gallery, id)
        try:
            status = os.stat(path)
        except OSError:
            raise Problem(
                404, f"the file of image {id} is not there now; its thumbnail may be", argument="id"
            ) from None
        tag = hashlib.blake2b(f"{id} {status.st_mtime_ns} {status.st_size} {size}".encode(), digest_size=12).hexdigest()
        if self._exif:
            return FileResponse(path)
        if (fresh := _unchanged(request, tag)) is not None:
            return fresh
        content = await asyncio.to_thread(served_image, path, size)
        return _cached(content, tag)

    async def thumbnail(self, request: Request, id: Id) -> Response:
        """Give the small JPEG of an image, also while its file is away."""
        gallery = self.gallery
        kept = await asyncio.to_thread(gallery.thumbnail, id)
        if kept is None:
            path = _path_of(gallery, id)
            kept = await asyncio.to_thread(served_image, path, 160)
        tag = hashlib.blake2b(kept, digest_size=12).hexdigest()
        return _unchanged(request, tag) or _cached(kept, tag)

    async def duplicates(
        self,
        page: Annotated[int, Query(ge=1, le=10**9)] = 1,
        size: Annotated[int, Query(ge=1, le=200, description="Groups of a page.")] = 20,
        level: Literal["duplicates", "similar"] = "duplicates",
        turned: bool = False,
        cropped: bool = False,
    ) -> Response:
        """Give groups of copies, a page at a time; 202 while they are sought."""
        self.gallery  # noqa: B018
        assert self._reviewing is not None
        status, content = await asyncio.to_thread(
            self._reviewing.page, page, size, level, turned=turned, cropped=cropped
        )
        return JSONResponse(content, status, headers={"Retry-After": "1"} if status == 202 else {})

    async def add(self, request: Request) -> Response:
        """Take images into the gallery."""
        self.gallery  # noqa: B018
        assert self._writing is not None
        images = await read_images(request, self.limits)
        added = await asyncio.to_thread(self._writing.add, [(one.name, one.image or b"") for one in images])
        return JSONResponse({"images": added}, 201)

    async def remove(self, id: Id) -> Response:
        """Forget an image; no file of a folder is touched."""
        gallery = self.gallery
        assert self._writing is not None
        _path_of(gallery, id)
        await asyncio.to_thread(self._writing.remove, id)
        return Response(status_code=204)


def _path_of(gallery: Gallery, number: int) -> str:
    try:
        return gallery.path(number)
    except (KeyError, OverflowError) as error:
        raise Problem(404, f"the gallery has no image {number}", argument="id") from error


def _unchanged(request: Request, tag: str) -> Response | None:
    given = [part.strip().removeprefix("W/") for part in request.headers.get("if-none-match", "").split(",")]
    return Response(status_code=304, headers=_headers(tag)) if f'"{tag}"' in given else None


def _cached(content: bytes, tag: str) -> Response:
    return Response(content, media_type="image/jpeg", headers=_headers(tag))


def _headers(tag: str) -> dict[str, str]:
    return {"ETag": f'"{tag}"', "Cache-Control": "private, max-age=0, must-revalidate"}

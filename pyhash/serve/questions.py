"""What a request asks, checked: bodies of all kinds become one kind of value."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException
from starlette.requests import Request

from .limits import Limits
from .problems import Problem

__all__ = ["Asked", "Query", "SearchOptions", "read_images", "read_search"]

Share = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_OPTIONS = ("k", "radius", "level", "weights", "rescore", "in", "crop", "together", "distinct")


class SearchOptions(BaseModel):
    """How to search; in the query of the address, as fields of a form, or in JSON."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True, frozen=True)

    k: int = Field(10, ge=1, description="Matches of a query.")
    radius: int | None = Field(None, ge=0, description="Matches whose codes differ in at most so many bits.")
    level: str | None = Field(
        None, description="Compare this level alone: coarse, the same kind; fine, the same picture."
    )
    weights: dict[str, Share] | None = Field(
        None, description="The share of each level.", examples=[{"coarse": 3, "fine": 1}]
    )
    rescore: bool = Field(True, description="Put the nearest codes in order by embeddings.")
    where: list[str] | None = Field(None, alias="in", description="Subfolders, of which all images match.")
    crop: tuple[int, int, int, int] | None = Field(
        None, description="Look for this part of the image: left, top, right and bottom edge in its pixels."
    )
    together: bool = Field(False, description="Search once, with all queries as examples of one thing.")
    distinct: bool = Field(False, description="Show one image of each group of copies.")

    @field_validator("weights", mode="before")
    @classmethod
    def _weights(cls, value: Any) -> Any:
        """Also as ``coarse=3,fine=1``."""
        if not isinstance(value, str):
            return value
        if value.lstrip().startswith("{"):
            return json.loads(value)
        return dict(part.split("=", 1) for part in value.split(",") if part)

    @field_validator("weights", mode="after")
    @classmethod
    def _whole(cls, value: dict[str, float] | None) -> dict[str, float] | None:
        """Whole numbers are integers: codes alone are weighted by these."""
        if value is None:
            return None
        return {name: int(share) if share.is_integer() and share < 2**31 else share for name, share in value.items()}

    @field_validator("where", mode="before")
    @classmethod
    def _where(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("crop", mode="before")
    @classmethod
    def _crop(cls, value: Any) -> Any:
        """Also as ``120,40,360,300``."""
        return value.split(",") if isinstance(value, str) else value


class Query(BaseModel):
    """One thing to search with."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image: str | None = Field(None, description="An image file, in base64.")
    id: int | None = Field(None, ge=-(2**63), lt=2**63, description="An image of the collection.")
    code: str | None = Field(None, description="A code, in base64, of the encoder whose fingerprint is given.")
    embedding: list[float] | None = Field(None, description="An embedding, as /v1/embed gives it.")
    fingerprint: str | None = Field(None, description="Of what made the code or the embedding, as /v1/info says it.")


class SearchBody(SearchOptions):
    """A search in JSON: one query, or several."""

    image: str | None = None
    id: int | None = Field(None, ge=-(2**63), lt=2**63)
    code: str | None = None
    embedding: list[float] | None = None
    fingerprint: str | None = None
    queries: list[Query] | None = None
    without: list[Query] | None = Field(None, description="With together: examples of what is not wanted.")


@dataclass(frozen=True)
class Asked:
    """One query, ready to be answered; one of these is there."""

    name: str
    """What it is called in the answer."""
    image: bytes | None = field(default=None, repr=False)
    id: int | None = None
    code: bytes | None = None
    embedding: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Searched:
    """A search as it was asked for."""

    queries: list[Asked]
    without: list[Asked]
    options: SearchOptions


async def read_search(request: Request, limits: Limits, fingerprint: str) -> Searched:
    """Read a search, whatever its body is; Problem where it is not to be understood."""
    kind = _kind(request)
    query = {name: _of_address(request, name) for name in _OPTIONS if name in request.query_params}
    unknown = [name for name in request.query_params if name not in _OPTIONS]
    if unknown:
        raise Problem(422, f"an address can bring {', '.join(_OPTIONS)}, got {unknown[0]!r}", argument=unknown[0])
    if kind == "application/json":
        body = _checked(SearchBody, await _json(request), limits)
        both = _checked(SearchOptions, {**query, **_given(body, SearchOptions)}, limits)
        listed = list(body.queries or [])
        alone = {name: getattr(body, name) for name in Query.model_fields if getattr(body, name) is not None}
        if alone and listed:
            raise Problem(422, "queries cannot be given with a query beside them", argument="queries")
        if alone:
            listed = [Query(**alone)]
        queries = [
            _asked(one, f"queries[{n}]" if body.queries else "query", fingerprint) for n, one in enumerate(listed)
        ]
        without = [_asked(one, f"without[{n}]", fingerprint) for n, one in enumerate(body.without or [])]
        return _searched(queries, without, both, limits)
    images, fields = await _uploaded(request, kind, limits)
    unknown = [name for name in fields if name not in _OPTIONS]
    if unknown:
        raise Problem(422, f"a form can bring image, {', '.join(_OPTIONS)}, got {unknown[0]!r}", argument=unknown[0])
    return _searched(images, [], _checked(SearchOptions, {**query, **fields}, limits), limits)


async def read_images(request: Request, limits: Limits) -> list[Asked]:
    """Read images alone; Problem where there are none."""
    kind = _kind(request)
    if kind == "application/json":
        body = await _json(request)
        listed = body.get("images") if isinstance(body, dict) and set(body) == {"images"} else None
        if not isinstance(listed, list):
            raise Problem(422, 'the body must be {"images": [...]}, each image file in base64', argument="images")
        images = [Asked(f"images[{n}]", _bytes(one, f"images[{n}]")) for n, one in enumerate(listed)]
    else:
        images, fields = await _uploaded(request, kind, limits)
        if fields:
            raise Problem(422, f"a form can bring image alone, got {next(iter(fields))!r}", argument=next(iter(fields)))
    return _searched(images, [], SearchOptions(), limits).queries


def _kind(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _of_address(request: Request, name: str) -> Any:
    values = request.query_params.getlist(name)
    return values if name == "in" else values[-1]


async def _json(request: Request) -> Any:
    try:
        return json.loads(await request.body())
    except (ValueError, RecursionError) as error:
        raise Problem(400, f"the body must be JSON, and {error}", argument="body") from error


async def _uploaded(request: Request, kind: str, limits: Limits) -> tuple[list[Asked], dict[str, Any]]:
    """Return the images of a body, and the other fields of a form."""
    if kind == "multipart/form-data":
        try:
            form = await request.form(max_files=limits.images + 1, max_fields=64, max_part_size=limits.body)
        except (MultiPartException, KeyError, ValueError) as error:
            raise Problem(400, f"the form cannot be read: {error}", argument="body") from error
        images: list[Asked] = []
        fields: dict[str, Any] = {}
        try:
            for name, value in form.multi_items():
                if isinstance(value, UploadFile):
                    if name != "image":
                        raise Problem(422, f"files must be in the field image, got {name!r}", argument=name)
                    images.append(Asked(value.filename or "image", await value.read()))
                elif name == "in":
                    fields.setdefault("in", []).append(value)
                else:
                    fields[name] = value
        finally:
            await form.close()
        return images, fields
    if kind == "application/x-www-form-urlencoded" or not (
        kind.startswith("image/") or kind in ("", "application/octet-stream")
    ):
        raise Problem(
            415,
            "Content-Type must be multipart/form-data with a file image, application/json, or image/* or "
            f"application/octet-stream with the file as it is, got {kind!r}",
            argument="Content-Type",
        )
    return [Asked("image", await request.body())], {}


def _checked(model: type[Any], values: Any, limits: Limits) -> Any:
    try:
        found = model.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "body"
        got = repr(first["input"])
        raise Problem(
            422, f"{where}: {first['msg'].lower()}, got {got if len(got) <= 80 else got[:77] + '...'}", argument=where
        ) from error
    except (ValueError, TypeError) as error:
        raise Problem(422, str(error)) from error
    if found.k > limits.k:
        raise Problem(422, f"k must be at most {limits.k:,}, got {found.k:,}", argument="k")
    return found


def _given(body: BaseModel, model: type[BaseModel]) -> dict[str, Any]:
    return {name: getattr(body, name) for name in body.model_fields_set if name in model.model_fields}


def _asked(query: Query, name: str, fingerprint: str) -> Asked:
    given = [kind for kind in ("image", "id", "code", "embedding") if getattr(query, kind) is not None]
    if len(given) != 1:
        raise Problem(
            422,
            f"{name} must have one of image, id, code and embedding, got {' and '.join(given) or 'none'}",
            argument=name,
        )
    if query.code is not None and query.fingerprint is None:
        raise Problem(
            422, f"{name} must have the fingerprint of what made its code, as /v1/info says it", argument="fingerprint"
        )
    if query.fingerprint not in (None, fingerprint):
        raise Problem(
            409,
            f"fingerprint must be {fingerprint!r}, as /v1/info says it now, got {query.fingerprint!r}: codes of two "
            "heads cannot be compared",
            argument="fingerprint",
        )
    if query.image is not None:
        return Asked(name, _bytes(query.image, name))
    if query.code is not None:
        return Asked(name, code=_bytes(query.code, name))
    if query.embedding is not None:
        return Asked(name, embedding=tuple(query.embedding))
    return Asked(name, id=query.id)


def _bytes(text: Any, name: str) -> bytes:
    try:
        if not isinstance(text, str):
            raise TypeError
        return base64.b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise Problem(422, f"{name} must be in base64", argument=name) from None


def _searched(queries: list[Asked], without: list[Asked], options: SearchOptions, limits: Limits) -> Searched:
    if not queries:
        raise Problem(422, "there must be something to search with: an image, or in JSON an id, a code or an embedding")
    if len(queries) + len(without) > limits.images:
        raise Problem(
            413, f"a request must bring at most {limits.images:,} queries, got {len(queries) + len(without):,}"
        )
    if without and not options.together:
        raise Problem(
            422, "without needs together: examples of one thing, and of what is not wanted", argument="without"
        )
    if options.level is not None and options.weights is not None:
        raise Problem(422, "level and weights must not both be given", argument="level")
    return Searched(queries, without, options)

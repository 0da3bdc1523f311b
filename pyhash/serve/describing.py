"""What OpenAPI says of the routes."""

from __future__ import annotations

from typing import Any

from .questions import SearchBody

__all__ = ["OPENAPI"]

_PROBLEM = {
    "application/problem+json": {
        "schema": {
            "type": "object",
            "properties": {
                "type": {"type": "string"},
                "title": {"type": "string"},
                "status": {"type": "integer"},
                "detail": {"type": "string"},
                "argument": {"type": "string"},
                "request_id": {"type": "string"},
            },
            "required": ["type", "title", "status", "detail"],
        }
    }
}
_SAID = {
    400: "The body cannot be read.",
    404: "There is no such image.",
    408: "The body came too slowly.",
    409: "The code is of another head.",
    413: "The request is too large.",
    415: "The body is of a kind that cannot be read.",
    422: "An argument is not what it must be.",
    429: "Too much is asked at once.",
    503: "The service is loading.",
}
_MATCHES: dict[str, Any] = {
    "type": "object",
    "properties": {
        "results": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "query": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
                    "ranked_by": {"enum": ["similarity", "distance"]},
                    "matches": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "properties": {
                                "id": {"type": "integer"},
                                "path": {"type": "string"},
                                "distance": {"type": "integer"},
                                "similarity": {"type": "number"},
                                "part": {"type": "object"},
                                "size": {"type": "array", "items": {"type": "integer"}},
                                "copies": {"type": "integer"},
                            },
                            "required": ["id", "distance"],
                        },
                    },
                },
                "required": ["query", "ranked_by", "matches"],
            },
        },
        "took_ms": {"type": "number"},
        "encoder": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "fingerprint": {"type": "string"},
        "version": {"type": "string"},
    },
    "required": ["results", "took_ms", "version"],
}
_EXAMPLE = {
    "results": [
        {
            "query": "photo.jpg",
            "ranked_by": "similarity",
            "matches": [{"id": 17, "path": "2024/beach.jpg", "distance": 41, "similarity": 0.871}],
        }
    ],
    "took_ms": 31.4,
    "encoder": "efficientnet-lite1-2",
    "fingerprint": "5f0c2a91b3d4e678",
    "version": "0.1.0",
}


def _problems(*codes: int) -> dict[int | str, dict[str, Any]]:
    return {code: {"description": _SAID[code], "content": _PROBLEM} for code in codes}


def _answer(schema: dict[str, Any], example: Any = None, code: int = 200) -> dict[int | str, dict[str, Any]]:
    content: dict[str, Any] = {"schema": schema}
    if example is not None:
        content["example"] = example
    return {code: {"description": "The answer.", "content": {"application/json": content}}}


_JPEG: dict[int | str, dict[str, Any]] = {
    200: {"description": "A JPEG file.", "content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}},
    304: {"description": "It is as it was."},
}
_FILE = {"type": "string", "format": "binary"}
_FILES = {"type": "object", "properties": {"image": {"type": "array", "items": _FILE}}, "required": ["image"]}
_OBJECT: dict[str, Any] = {"type": "object"}
_OPTIONS = [
    {"name": "k", "in": "query", "schema": {"type": "integer", "minimum": 1}, "example": 5},
    {"name": "radius", "in": "query", "schema": {"type": "integer", "minimum": 0}},
    {"name": "level", "in": "query", "schema": {"type": "string"}, "example": "fine"},
    {"name": "weights", "in": "query", "schema": {"type": "string"}, "example": "coarse=3,fine=1"},
    {"name": "rescore", "in": "query", "schema": {"type": "boolean"}},
    {"name": "in", "in": "query", "schema": {"type": "array", "items": {"type": "string"}}},
    {"name": "crop", "in": "query", "schema": {"type": "string"}, "example": "120,40,360,300"},
    {"name": "distinct", "in": "query", "schema": {"type": "boolean"}},
    {"name": "together", "in": "query", "schema": {"type": "boolean"}},
]


def _search_body() -> dict[str, Any]:
    schema = SearchBody.model_json_schema(ref_template="#/components/schemas/{model}")
    query = schema.pop("$defs", {}).get("Query", {})
    for name in ("queries", "without"):
        schema["properties"][name] = {"type": "array", "items": query}
    return {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": _FILES},
            "application/json": {"schema": schema, "example": {"id": 17, "k": 5}},
            "application/octet-stream": {"schema": _FILE},
        },
    }


_IMAGES = {
    "required": True,
    "content": {
        "multipart/form-data": {"schema": _FILES},
        "application/json": {
            "schema": {
                "type": "object",
                "properties": {"images": {"type": "array", "items": {"type": "string", "format": "byte"}}},
                "required": ["images"],
                "additionalProperties": False,
            }
        },
        "application/octet-stream": {"schema": _FILE},
    },
}

OPENAPI: dict[tuple[str, str], dict[str, Any]] = {
    ("GET", "/livez"): {"summary": "Is the process there?", "responses": _answer(_OBJECT)},
    ("GET", "/readyz"): {"summary": "Are searches answered?", "responses": _answer(_OBJECT) | _problems(503)},
    ("GET", "/healthz"): {"summary": "The same as /readyz.", "responses": _answer(_OBJECT) | _problems(503)},
    ("GET", "/metrics"): {
        "summary": "For Prometheus.",
        "responses": {200: {"description": "Metrics.", "content": {"text/plain": {"schema": {"type": "string"}}}}},
    },
    ("GET", "/v1/info"): {"summary": "What is served.", "responses": _answer(_OBJECT) | _problems(429, 503)},
    ("POST", "/v1/search"): {
        "summary": "Find images like others.",
        "responses": _answer(_MATCHES, _EXAMPLE) | _problems(400, 404, 408, 409, 413, 415, 422, 429, 503),
        "openapi_extra": {"parameters": _OPTIONS, "requestBody": _search_body()},
    },
    ("POST", "/v1/embed"): {
        "summary": "Codes and embeddings of images.",
        "responses": _answer(_OBJECT) | _problems(400, 408, 413, 415, 422, 429, 503),
        "openapi_extra": {"requestBody": _IMAGES},
    },
    ("GET", "/v1/sample"): {
        "summary": "Some images of the gallery, other ones each time.",
        "responses": _answer(_OBJECT, {"images": [{"id": 17, "path": "2024/beach.jpg"}]})
        | _problems(404, 422, 429, 503),
    },
    ("GET", "/v1/images/{id}"): {
        "summary": "An image, upright and without metadata.",
        "responses": _JPEG | _problems(404, 422, 429, 503),
    },
    ("GET", "/v1/thumbnails/{id}"): {
        "summary": "The small JPEG of an image, also while its file is away.",
        "responses": _JPEG | _problems(404, 422, 429, 503),
    },
    ("GET", "/v1/duplicates"): {
        "summary": "Groups of copies, a page at a time.",
        "responses": _answer(_OBJECT)
        | {
            202: {
                "description": "They are being sought: ask again.",
                "content": {"application/json": {"schema": _OBJECT}},
            }
        }
        | _problems(404, 422, 429, 503),
    },
    ("POST", "/v1/images"): {
        "summary": "Take images into the gallery.",
        "status_code": 201,
        "responses": _answer(_OBJECT, code=201) | _problems(400, 404, 408, 413, 415, 422, 429, 503),
        "openapi_extra": {"requestBody": _IMAGES},
    },
    ("DELETE", "/v1/images/{id}"): {
        "summary": "Forget an image; no file of a folder is touched.",
        "status_code": 204,
        "responses": {204: {"description": "It is forgotten."}} | _problems(404, 422, 429, 503),
    },
}

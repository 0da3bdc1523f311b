"""What is wrong with a request, as RFC 9457 has it: ``application/problem+json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.responses import Response

__all__ = ["Problem", "problem_response"]


class Problem(Exception):
    """A request that cannot be answered, and why."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        argument: str | None = None,
        retry_after: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.argument = argument
        self.headers = dict(headers or {}) | ({} if retry_after is None else {"Retry-After": str(retry_after)})

    def response(self, request_id: str = "") -> Response:
        """Return what is sent."""
        return problem_response(
            self.status, self.detail, argument=self.argument, headers=self.headers, request_id=request_id
        )


def problem_response(
    status: int,
    detail: str,
    *,
    argument: str | None = None,
    headers: Mapping[str, str] | None = None,
    request_id: str = "",
    **more: Any,
) -> Response:
    """Return a response that says what is wrong: `argument` is the part of the request that it is about."""
    content: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    if argument is not None:
        content["argument"] = argument
    if request_id:
        content["request_id"] = request_id
    return Response(
        json.dumps(content | more), status, headers=dict(headers or {}), media_type="application/problem+json"
    )

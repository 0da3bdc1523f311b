"""Requests that OpenAPI allows, and many that it does not: answered as it says, and nothing fails."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the service needs the extra serve")
pytest.importorskip("prometheus_client", reason="the service needs the extra serve")
pytest.importorskip("python_multipart", reason="the service needs the extra serve")
pytest.importorskip("schemathesis", reason="requests are made up with schemathesis")

import schemathesis
from galleries import PartsEncoder, picture
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from pyhash import Gallery
from pyhash.serve import app


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("images")
    for number in range(6):
        picture(folder / f"{number}.png", number, (64, 48))
    with Gallery(folder, PartsEncoder()) as gallery:
        gallery.update()
        application = app(gallery, writable=True, page=False, hosts=["*"])
        service = application.state.service
        service.start()
        service._ready.wait(30)
        yield schemathesis.openapi.from_asgi("/openapi.json", application)


def test_every_request_is_answered_as_described(described: Any, subtests: pytest.Subtests) -> None:
    for operation in described.get_all_operations():
        made = operation.ok()
        with subtests.test(made.label):
            _check_all(made.as_strategy())


def _check_all(cases: Any) -> None:
    @settings(max_examples=25, deadline=None, suppress_health_check=[*HealthCheck], derandomize=True)
    @given(cases)
    def check(case: Any) -> None:
        with contextlib.suppress(UnicodeError):  # what no client can send
            answer = case.call()
            assert answer.status_code < 500, answer.text
            # That an image is one, and an id one of the gallery, no schema says.
            case.validate_response(answer, excluded_checks=[positive_data_acceptance])

    check()

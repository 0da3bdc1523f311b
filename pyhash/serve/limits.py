"""What a service allows."""

from __future__ import annotations

from dataclasses import dataclass, fields

__all__ = ["Limits"]


@dataclass(frozen=True)
class Limits:
    """How much a service takes on; what is beyond is refused with a problem that says so."""

    body: int = 32_000_000
    """Bytes of a request's body (413)."""
    seconds: float = 30.0
    """In which a body has to arrive (408)."""
    images: int = 64
    """Images, or other queries, of one request (413)."""
    k: int = 1000
    """Matches of a query (422)."""
    waiting: int = 256
    """Queries that wait at the same time; beyond that requests are turned away (429, with Retry-After)."""
    requests: int = 512
    """Requests under way at the same time (429, with Retry-After)."""
    rate: float = 0.0
    """Requests a second of one address, ten seconds' worth at once (429, with Retry-After); 0 for any number."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if (
                isinstance(value, bool)
                or not isinstance(value, (int, float))
                or not value >= 0
                or value == float("inf")
            ):
                raise ValueError(f"{field.name} must be a number of at least 0, got {value!r}")
            if field.name != "rate" and not value > 0:
                raise ValueError(f"{field.name} must be above 0, got {value!r}")
